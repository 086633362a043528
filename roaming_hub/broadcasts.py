"""One push to the hub that reaches all whom it concerns (OCPI 2.3.0, 4.3.3.2): rows first, then the answer.

The sender is answered once a row per receiver is durable; `broadcast_worker` sends. What became of it is asked for by
the broadcast's id, which the answer carries in `Wattroam-Broadcast-ID`, at the custom module `wattroam-broadcasts`.

Nothing is queued for a party that is OFFLINE: on its return it pulls (15.1.2), and the outcome says so. The newest
state of an object replaces one that still waits. A push that repeats the newest state has no effect but on those who
never got it.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from urllib.parse import unquote

import msgspec
from starlette.responses import Response

from emobility.domain.identifiers import PartyId, Role
from emobility.domain.personal import Sealed
from emobility.ports.ports import Ports
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi.headers import Routing, routing_headers
from emobility.protocols.ocpi.message_signatures import Message as SignedMessage
from emobility.protocols.ocpi.message_signatures import presented_request
from emobility.protocols.ocpi.peers import PEER
from emobility.protocols.ocpi.server import Interface, MessageIds, OCPICall, Reply, envelope
from emobility.protocols.ocpi.signing import SignedCall
from emobility.protocols.ocpi.status import InvalidParameters, NoSuchObject, OCPIError, StatusCode
from emobility.protocols.ocpi.v221 import ConnectionStatus, InterfaceRole, ModuleID, read, write
from roaming_hub.addressing import Addressing
from roaming_hub.messages import Incoming
from roaming_hub.metrics import HubMetrics
from roaming_hub.object_owners import ObjectOwners
from roaming_hub.records import HUB_CLIENT
from roaming_hub.routed_modules import PUSHED_TO_ALL

BROADCAST_ID: Final = "Wattroam-Broadcast-ID"
MODULE: Final = "wattroam-broadcasts"
BROADCAST_AGE: Final = timedelta(days=7)
"""How long outcomes can be asked for, and a repetition is known as one."""
PURGE_BROADCASTS: Final = 5
WAITING_MAX: Final = 200_000
"""Messages that may wait for their receivers together; a broadcast beyond that is refused, to be tried later."""
EARLIER_STATES_MAX: Final = 50
"""Broadcasts of one object that a newer one is compared with; what waits is never older."""
_METHODS: Final = frozenset({"PUT", "PATCH", "DELETE"})
_AWAY: Final = (ConnectionStatus.OFFLINE, ConnectionStatus.SUSPENDED)


class BroadcastOutcome(StrEnum):
    """What became of a broadcast at one receiver."""

    WAITING = "WAITING"
    DELIVERED = "DELIVERED"
    REFUSED = "REFUSED"
    """The receiver said no; the same message will not succeed later."""
    FAILED = "FAILED"
    """It did not take it in as many tries as the hub makes."""
    OFFLINE = "OFFLINE"
    """It was not connected; it pulls when it is back."""
    REPLACED = "REPLACED"
    """A newer state of the object took its place before it was sent."""


SETTLED: Final = (BroadcastOutcome.DELIVERED, BroadcastOutcome.REFUSED, BroadcastOutcome.WAITING)
"""What a repetition of the same push leaves alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broadcast:
    """A push to all.

    Attributes:
        position: Order in which broadcasts were entered; decides the order per object.
        object_hash: Keyed hash of module and object, a Location with its EVSEs; a token's uid is personal.
        state_hash: Of the part of it that the message states as a whole.
        content_hash: Of method, path and bytes; by it a repetition is known.
        message: `Pushed`, sealed.
    """

    broadcast_id: str
    position: int
    sender_party: PartyId
    sender_peer_id: str
    module: str
    method: str
    object_hash: str
    state_hash: str
    content_hash: str
    correlation_id: str
    message: Sealed
    entered_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class BroadcastReceiver:
    """One receiver of a broadcast. `status_code`: its own, or the hub's 4xxx; None before the first try."""

    broadcast_id: str
    receiver: PartyId
    outcome: BroadcastOutcome
    status_code: int | None
    attempts: int
    last_at: datetime


BROADCAST: Final = TableSpec(name="hub_broadcast", record=Broadcast, key=("broadcast_id",))
BROADCAST_RECEIVER: Final = TableSpec(
    name="hub_broadcast_receiver", record=BroadcastReceiver, key=("broadcast_id", "receiver")
)


class Pushed(msgspec.Struct, frozen=True, kw_only=True):
    """What `Broadcast.message` seals. `signed`: the headers the sender signed, None if it did not."""

    version: str
    url: str
    rest: str
    query: str
    request_id: str
    headers: dict[str, str]
    body: bytes
    signed: dict[str, str] | None
    is_proven: bool


class _Stated(msgspec.Struct, frozen=True):
    """What a pushed object says of itself, if it does."""

    country_code: str | None = None
    party_id: str | None = None
    last_updated: Any = None


@dataclass(slots=True, kw_only=True)
class Due:
    """A broadcast that is on its way, as the worker holds it."""

    broadcast: Broadcast
    incoming: Incoming


class HubBusy(OCPIError):
    """The hub has as much to send as it takes on; S 4000."""

    def __init__(self) -> None:
        super().__init__(StatusCode.HUB_ERROR, "the hub has too much to send; try again later")


class Broadcasts:
    """Takes broadcasts and tells their outcomes."""

    def __init__(
        self, ports: Ports, hub: PartyId, addressing: Addressing, owners: ObjectOwners, metrics: HubMetrics
    ) -> None:
        self._ports = ports
        self._hub = hub
        self._addressing = addressing
        self._owners = owners
        self._metrics = metrics
        self._positions: Iterator[int] | None = None
        self._told: Callable[[Due, Sequence[PartyId]], None] = lambda _, __: None
        self._replaced: Callable[[AbstractSet[tuple[str, PartyId]]], None] = lambda _: None
        self.waiting: Callable[[], int] = lambda: 0

    def sent_by(
        self,
        told: Callable[[Due, Sequence[PartyId]], None],
        replaced: Callable[[AbstractSet[tuple[str, PartyId]]], None],
        waiting: Callable[[], int],
    ) -> None:
        """Have the worker told of each broadcast after its commit, and of what need not be sent any more."""
        self._told, self._replaced, self.waiting = told, replaced, waiting

    # A push

    async def push(self, incoming: Incoming, sender: PartyId) -> Response:
        """Enter a broadcast and answer. Raises `OCPIError` S 2001, 4000, HTTP 404."""
        roles = _concerned(incoming, sender)
        _refuse_foreign(incoming, sender)
        broadcast = await self._entered(incoming, sender)
        now = self._ports.clock.now()
        async with self._ports.units.begin() as unit:
            addressees = await self._addressing.connected(
                unit, roles=roles, module=incoming.module, side=InterfaceRole.RECEIVER, sender=sender
            )
            if self.waiting() + len(addressees) > WAITING_MAX:
                raise HubBusy
            away = {each.party_id for each in await unit.table(HUB_CLIENT).select({"status": _AWAY})}
            before = await unit.table(BROADCAST).select(
                {"sender_party": sender, "object_hash": broadcast.object_hash},
                order_by=("-position",),
                limit=EARLIER_STATES_MAX,
            )
            settled: set[PartyId] = set()
            if before and before[0].content_hash == broadcast.content_hash:
                broadcast = before[0]
                settled = {
                    each.receiver
                    for each in await unit.table(BROADCAST_RECEIVER).select(
                        {"broadcast_id": broadcast.broadcast_id, "outcome": SETTLED}
                    )
                }
            else:
                await unit.table(BROADCAST).insert(broadcast)
            rows = [
                BroadcastReceiver(
                    broadcast_id=broadcast.broadcast_id,
                    receiver=each.party,
                    outcome=BroadcastOutcome.OFFLINE if each.party in away else BroadcastOutcome.WAITING,
                    status_code=int(StatusCode.NOT_CONNECTED) if each.party in away else None,
                    attempts=0,
                    last_at=now,
                )
                for each in addressees
                if each.party not in settled
            ]
            await unit.table(BROADCAST_RECEIVER).put_all(rows)
            for spec, record in self._owners.pushed(incoming, sender):
                await unit.table(spec).put(record)
            replaced = await self._replace(unit, broadcast, before, now=now)
            await unit.commit()
        waiting = [each.receiver for each in rows if each.outcome is BroadcastOutcome.WAITING]
        self._metrics.broadcast(incoming.module, BroadcastOutcome.OFFLINE, len(rows) - len(waiting))
        self._metrics.broadcast(incoming.module, BroadcastOutcome.REPLACED, len(replaced))
        self._replaced(replaced)
        self._told(Due(broadcast=broadcast, incoming=incoming), waiting)
        headers = {
            **routing_headers(Routing(to_party=sender, from_party=self._hub)),
            BROADCAST_ID: broadcast.broadcast_id,
        }
        return envelope(Reply(headers=headers), clock=self._ports.clock, ids=incoming.ids)

    async def _entered(self, incoming: Incoming, sender: PartyId) -> Broadcast:
        path = unquote(incoming.rest).strip("/")
        state = f"{incoming.module} {path}?{incoming.query}"
        whole = f"{incoming.module} {'/'.join(path.split('/')[:3])}?{incoming.query}"
        content = hashlib.sha256(b"\0".join((incoming.method.encode(), state.encode(), incoming.body))).digest()
        hashed = self._ports.vault.subject_of
        signed = incoming.signed
        pushed = Pushed(
            version=incoming.version,
            url=incoming.url,
            rest=incoming.rest,
            query=incoming.query,
            request_id=incoming.ids.request_id,
            headers=dict(incoming.headers),
            body=incoming.body,
            signed=None if signed is None else _without_token(signed.message.headers),
            is_proven=signed is not None and signed.is_proven,
        )
        # A token names a person, whose erasure must reach what was not sent yet.
        named = path.split("/")[2] if incoming.module == ModuleID.TOKENS else f"hub broadcasts of {sender}"
        return Broadcast(
            broadcast_id=self._ports.randomness.uuid(),
            position=await self._next_position(),
            sender_party=sender,
            sender_peer_id=incoming.sender.peer_id,
            module=incoming.module,
            method=incoming.method,
            object_hash=hashed(whole),
            state_hash=hashed(state),
            # Keyed, as all that could tell whether a person is in it.
            content_hash=hashed(f"broadcast {content.hex()}"),
            correlation_id=incoming.ids.correlation_id,
            message=await self._ports.vault.seal(write(pushed).decode(), identifier=named),
            entered_at=self._ports.clock.now(),
        )

    async def _replace(
        self, unit: UnitOfWork, newer: Broadcast, before: Sequence[Broadcast], *, now: datetime
    ) -> set[tuple[str, PartyId]]:
        """Take what waits of older states out, where the newer one states all of it; return what was."""
        if newer.method == "PATCH":
            return set()
        is_whole = newer.object_hash == newer.state_hash
        older = tuple(
            each.broadcast_id
            for each in before
            if each.position < newer.position and (is_whole or each.state_hash == newer.state_hash)
        )
        if not older or not self.waiting():
            return set()
        waiting = await unit.table(BROADCAST_RECEIVER).select(
            {"broadcast_id": older, "outcome": BroadcastOutcome.WAITING}
        )
        await unit.table(BROADCAST_RECEIVER).put_all(
            [replace(each, outcome=BroadcastOutcome.REPLACED, last_at=now) for each in waiting]
        )
        return {(each.broadcast_id, each.receiver) for each in waiting}

    async def _next_position(self) -> int:
        if self._positions is None:
            async with self._ports.units.begin() as unit:
                last = await unit.table(BROADCAST).select(order_by=("-position",), limit=1)
            if self._positions is None:
                self._positions = itertools.count(last[0].position + 1 if last else 0)
        return next(self._positions)

    # After a restart

    async def left_waiting(self, unit: UnitOfWork) -> list[tuple[Broadcast, list[PartyId]]]:
        """Return what is still to be sent, in order."""
        receivers: dict[str, list[PartyId]] = {}
        for offset in itertools.count(0, _ROWS_AT_ONCE):
            rows = await unit.table(BROADCAST_RECEIVER).select(
                {"outcome": BroadcastOutcome.WAITING}, offset=offset, limit=_ROWS_AT_ONCE
            )
            for row in rows:
                receivers.setdefault(row.broadcast_id, []).append(row.receiver)
            if len(rows) < _ROWS_AT_ONCE:
                break
        found = [await unit.table(BROADCAST).get(each) for each in receivers]
        ordered = sorted((each for each in found if each is not None), key=lambda each: each.position)
        return [(each, receivers[each.broadcast_id]) for each in ordered]

    async def due(self, broadcast: Broadcast) -> Due | None:
        """Open a broadcast again; None when its sender is gone. Raises `SubjectErased`."""
        async with self._ports.units.begin() as unit:
            sender = await unit.table(PEER).get(self._hub, broadcast.sender_peer_id)
        if sender is None:
            return None
        pushed = read((await self._ports.vault.open(broadcast.message)).encode(), Pushed)
        incoming = Incoming(
            ids=MessageIds(request_id=pushed.request_id, correlation_id=broadcast.correlation_id),
            sender=sender,
            roles=(),
            routing=Routing(to_party=self._hub, from_party=broadcast.sender_party),
            version=pushed.version,
            method=broadcast.method,
            url=pushed.url,
            module=broadcast.module,
            side=InterfaceRole.RECEIVER,
            rest=pushed.rest,
            query=pushed.query,
            headers=pushed.headers,
            body=pushed.body,
            signed=_signed_again(pushed, broadcast.method, self._hub),
        )
        return Due(broadcast=broadcast, incoming=incoming)

    # Outcomes

    def interface(self) -> Interface:
        """Return the custom module: a party asks what became of its own broadcasts."""
        module = Interface(MODULE, InterfaceRole.SENDER)

        @module.route("GET", "/{broadcast_id}")
        async def outcome(call: OCPICall) -> Reply:
            async with self._ports.units.begin() as unit:
                found = await unit.table(BROADCAST).get(call.path["broadcast_id"])
                if found is None or found.sender_party != call.caller:
                    raise NoSuchObject("broadcast")
                return Reply(data=await outcome_of(unit, found))

        return module

    async def of_correlation(self, correlation_id: str) -> dict[str, Any] | None:
        """Return what became of the newest broadcast with a correlation id, for the hub's operator."""
        async with self._ports.units.begin() as unit:
            found = await unit.table(BROADCAST).select(
                {"correlation_id": correlation_id}, order_by=("-position",), limit=1
            )
            return await outcome_of(unit, found[0]) if found else None

    async def purge(self, unit: UnitOfWork) -> int:
        """Drop old broadcasts, at most `PURGE_BROADCASTS`; return how many."""
        old = await unit.table(BROADCAST).select(
            before=("entered_at", self._ports.clock.now() - BROADCAST_AGE), limit=PURGE_BROADCASTS
        )
        for each in old:
            for row in await unit.table(BROADCAST_RECEIVER).select({"broadcast_id": each.broadcast_id}):
                await unit.table(BROADCAST_RECEIVER).remove(row.broadcast_id, row.receiver)
            await unit.table(BROADCAST).remove(each.broadcast_id)
        return len(old)


_ROWS_AT_ONCE: Final = 10_000


async def outcome_of(unit: UnitOfWork, broadcast: Broadcast) -> dict[str, Any]:
    """Return what became of a broadcast, receiver by receiver."""
    rows = await unit.table(BROADCAST_RECEIVER).select({"broadcast_id": broadcast.broadcast_id}, order_by=("receiver",))
    return {
        "broadcast_id": broadcast.broadcast_id,
        "module": broadcast.module,
        "method": broadcast.method,
        "correlation_id": broadcast.correlation_id,
        "entered_at": broadcast.entered_at,
        "receivers": [
            {
                "to_party": row.receiver.code,
                "outcome": row.outcome,
                "status_code": row.status_code,
                "attempts": row.attempts,
                "last_at": row.last_at,
            }
            for row in rows
        ],
    }


def _concerned(incoming: Incoming, sender: PartyId) -> frozenset[Role]:
    """Return the roles that a push concerns. Raises `InvalidParameters`."""
    if incoming.side is not InterfaceRole.RECEIVER or incoming.method not in _METHODS:
        raise InvalidParameters("a broadcast is a PUT, PATCH or DELETE on a receiver interface; to ask, omit OCPI-to")
    own = [role.role for role in incoming.roles if role.party_id == sender]
    concerned = frozenset[Role]().union(*(PUSHED_TO_ALL.get(role, {}).get(incoming.module, ()) for role in own))
    if not concerned:
        raise InvalidParameters(f"{incoming.module} from {'/'.join(own)} are for one party: OCPI-to must name it")
    return concerned


def _refuse_foreign(incoming: Incoming, sender: PartyId) -> None:
    """Receivers see the hub as the sender, so the hub looks whose object it is. Raises `OCPIError` S 2001, HTTP 404."""
    path = unquote(incoming.rest).strip("/").split("/")
    if len(path) < 3 or f"{path[0]}-{path[1]}".upper() != sender.code:
        raise NoSuchObject(f"object of {sender}")
    if incoming.method == "DELETE":
        return
    stated = read(incoming.body, _Stated)
    if (stated.country_code or sender.country_code).upper() != sender.country_code or (
        stated.party_id or sender.party_id
    ).upper() != sender.party_id:
        raise InvalidParameters("country_code and party_id differ between URL and body")
    if incoming.method == "PATCH" and stated.last_updated is None:
        raise InvalidParameters("a PATCH states last_updated")


def _without_token(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() != "authorization"}


def _signed_again(pushed: Pushed, method: str, hub: PartyId) -> SignedCall | None:
    if pushed.signed is None:
        return None
    message = SignedMessage(method=method, headers=pushed.signed, body=pushed.body)
    return SignedCall(own_party=hub, message=message, presented=presented_request(message), is_proven=pushed.is_proven)
