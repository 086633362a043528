"""What we owe a counterparty, in rows: entered in the unit of the state change, sent by a worker until it arrives.

Objects keep their order; the newest state of an object replaces one that still waits, unless the body must not be lost
(CDRs, command results, disputes: `is_replaceable=False`). Counterparties are served side by side. An object that does
not get through is tried again with growing, jittered pauses and holds up no other; a counterparty that takes none is
probed with a few (`delivery_worker`). What it refuses (HTTP 4xx, S 2xxx), and what it fails on while others get past
unless that must not be lost, is kept as FAILED with its reason until an operator retries it.

OCPI says messages SHOULD NOT be queued (4.5). This is the sender's own memory of a newest state, and a CDR that is
forgotten is money lost; pull still works, as every sender interface serves the same state. A time-out is tried again
too, so a receiver may see an object twice: it tells by owner, id and content.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import msgspec

from emobility.domain.errors import RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.domain.personal import Sealed
from emobility.ports.ports import Ports
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi.v221 import InterfaceRole, read, write

REASON_CHARACTERS_MAX: Final = 500


class NoSuchDelivery(RuleBroken):
    """No failed delivery has this id."""


class DeliveryState(StrEnum):
    """A row is deleted once the counterparty has it."""

    PENDING = "PENDING"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message to a counterparty.

    Attributes:
        position: Order in which messages were entered; decides the order per object.
        object_key: Names the object; holds nothing personal (a subject hash instead of a token uid).
        revision: Grows with each replacement, so a worker notices that a newer state came while it was sending.
        message: Path, query and body, sealed: under the person they name, else under the party that speaks.
    """

    own_party: PartyId
    delivery_id: str
    to_party: PartyId
    object_key: str
    position: int
    revision: int
    is_replaceable: bool
    is_routed: bool
    method: str
    module: str
    interface_role: InterfaceRole
    message: Sealed
    correlation_id: str
    state: DeliveryState
    attempts: int
    reason: str | None
    entered_at: datetime


PAIR: Final = ("own_party", "to_party")
DELIVERY: Final = TableSpec(name="ocpi_delivery", record=Delivery, key=("own_party", "delivery_id"))


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What `Delivery.message` seals. `url`, if given, is called instead of the module's endpoint; `body` null: none."""

    path: str
    query: dict[str, str]
    url: str | None
    body: msgspec.Raw


class Deliveries:
    """The queue of one service's hosted parties."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._positions: Iterator[int] | None = None
        self._wakers: list[Callable[[PartyId, PartyId], None]] = []
        self._may_wait = True

    def on_entry(self, wake: Callable[[PartyId, PartyId], None]) -> None:
        """Have `wake(own_party, to_party)` called for each entry, once its unit is committed."""
        self._wakers.append(wake)

    async def enqueue(
        self,
        unit: UnitOfWork,
        *,
        own_party: PartyId,
        to_party: PartyId,
        method: str,
        module: str,
        interface_role: InterfaceRole,
        path: str,
        object_key: str,
        body: Any,
        correlation_id: str,
        is_replaceable: bool = True,
        is_routed: bool = True,
        query: dict[str, str] | None = None,
        url: str | None = None,
        subject: str | None = None,
    ) -> str:
        """Enter a message into the unit; it is sent once the unit is committed. Returns the delivery's id.

        Args:
            unit: The unit of the state change.
            own_party: Who speaks.
            to_party: Who is to hear it; the route is found when it is sent.
            method: PUT, PATCH, POST or DELETE. A replaceable message states the whole object: PUT or DELETE.
            module: Module of the receiver's endpoint.
            interface_role: Side of the module at the receiver: RECEIVER for pushes of our own objects.
            path: Below the endpoint, as `mapping.owner_path` gives it.
            object_key: Names the object within (own_party, to_party), such as `tariff/T1`; nothing personal in it.
            body: An OCPI object or None; bytes are JSON already.
            correlation_id: Joins it to its cause.
            is_replaceable: Whether a newer state makes this one worthless.
            is_routed: Whether routing headers are sent (not for hubclientinfo).
            query: Query parameters, such as a token's type.
            url: Absolute URL to call instead of the module's endpoint: a command's `response_url`.
            subject: The person whom the message names, so that erasure reaches it; None: it names nobody.

        Raises:
            SubjectErased: the person's data were erased.
        """
        table = unit.table(DELIVERY)
        payload = body if isinstance(body, bytes) else write(body)
        message = Message(path=path, query=query or {}, url=url, body=msgspec.Raw(payload))
        sealed = await self._ports.vault.seal_under(
            write(message).decode(), subject=subject or self.subject_of_party(own_party)
        )
        waiting = await self._waiting(unit, own_party, to_party, object_key) if is_replaceable else None
        entry = Delivery(
            own_party=own_party,
            delivery_id=waiting.delivery_id if waiting else self._ports.randomness.uuid(),
            to_party=to_party,
            object_key=object_key,
            position=waiting.position if waiting else await self._next_position(unit),
            revision=waiting.revision + 1 if waiting else 0,
            is_replaceable=is_replaceable,
            is_routed=is_routed,
            method=method,
            module=module,
            interface_role=interface_role,
            message=sealed,
            correlation_id=correlation_id,
            state=DeliveryState.PENDING,
            attempts=0,
            reason=None,
            entered_at=self._ports.clock.now(),
        )
        await table.put(entry)
        unit.on_commit(lambda: self._wake(own_party, to_party))
        return entry.delivery_id

    def subject_of_party(self, own_party: PartyId) -> str:
        """Under whom messages of a party are sealed that name nobody, or somebody who is erased."""
        return self._ports.vault.subject_of(f"ocpi deliveries of {own_party}")

    async def pending(self, unit: UnitOfWork, own_parties: Sequence[PartyId]) -> int:
        """Count messages that still have to be sent; none, without asking, if none was entered here since none was."""
        if not own_parties or not self._may_wait:
            return 0
        self._may_wait = False  # before the question, so that what is entered meanwhile counts
        waiting = await unit.table(DELIVERY).count({"own_party": tuple(own_parties), "state": DeliveryState.PENDING})
        self._may_wait = self._may_wait or waiting > 0
        return waiting

    async def failed(self, unit: UnitOfWork, own_party: PartyId) -> list[Delivery]:
        """Return what counterparties refused, in order."""
        return await unit.table(DELIVERY).select(
            {"own_party": own_party, "state": DeliveryState.FAILED}, order_by=("position",)
        )

    async def retry(self, unit: UnitOfWork, own_party: PartyId, delivery_id: str) -> None:
        """Send a failed message again, with all that failed of its object, in order. Raises `NoSuchDelivery`."""
        entry = await unit.table(DELIVERY).get_for_update(own_party, delivery_id)
        if entry is None or entry.state is not DeliveryState.FAILED:
            raise NoSuchDelivery(f"{own_party} has no failed delivery {delivery_id}")
        of_object = {"own_party": own_party, "to_party": entry.to_party, "object_key": entry.object_key}
        for each in await unit.table(DELIVERY).select(of_object | {"state": DeliveryState.FAILED}):
            await unit.table(DELIVERY).put(replace(each, state=DeliveryState.PENDING, attempts=0, reason=None))
        unit.on_commit(lambda: self._wake(own_party, entry.to_party))

    def _wake(self, own_party: PartyId, to_party: PartyId) -> None:
        self._may_wait = True
        for wake in self._wakers:
            wake(own_party, to_party)

    async def open(self, entry: Delivery) -> Message:
        """Return what is to be sent: what was owed before a restriction is owed still. Raises `SubjectErased`."""
        return read((await self._ports.vault.evidence.open(entry.message)).encode(), Message)

    async def _waiting(
        self, unit: UnitOfWork, own_party: PartyId, to_party: PartyId, object_key: str
    ) -> Delivery | None:
        found = await unit.table(DELIVERY).select(
            {"own_party": own_party, "to_party": to_party, "object_key": object_key, "is_replaceable": True},
            order_by=("-position",),
            limit=1,
        )
        # Read again under a lock: it may have been delivered and deleted since.
        return await unit.table(DELIVERY).get_for_update(own_party, found[0].delivery_id) if found else None

    async def _next_position(self, unit: UnitOfWork) -> int:
        if self._positions is None:
            last = await unit.table(DELIVERY).select(order_by=("-position",), limit=1)
            if self._positions is None:
                self._positions = itertools.count(last[0].position + 1 if last else 0)
        return next(self._positions)


async def parties_with_pending(unit: UnitOfWork, own_parties: Sequence[PartyId]) -> list[tuple[PartyId, PartyId]]:
    """Return the (own party, counterparty) pairs with messages to send; asked often, so no message is read."""
    if not own_parties:
        return []
    where = {"own_party": tuple(own_parties), "state": DeliveryState.PENDING}
    return [(own_party, to_party) for own_party, to_party in await unit.table(DELIVERY).distinct(PAIR, where)]
