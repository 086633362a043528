"""Record roots on the chain for others (`AnchorRequested`), once each, and tell when that is final (`Anchored`).

A root of a kind, party and period is recorded for ever, so the first one asked for stands: another for the same parks
its party's requests until somebody looks. What a root binds is not known here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from emobility.domain.batch import contracts
from emobility.domain.batch.hashing import keccak256
from emobility.domain.errors import RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.events.anchoring import ANCHORING, AnchorRequested
from emobility.events.event import LoggedEvent
from emobility.ports.ports import Ports
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from services.settlement.access import ChainAccess
from services.settlement.books import StoredBooks
from services.settlement.deployment import Deployer, Deployment
from services.settlement.records import TRANSACTION, TransactionKind, TransactionRecord

GROUP: Final = "settlement-anchoring"


class RootChanged(RuleBroken):
    """A root was asked for before with another value for the same kind, party and period."""

    def __init__(self, party_id: PartyId, period_start: datetime) -> None:
        self.party_id = party_id
        self.period_start = period_start
        super().__init__(f"{party_id} asked for another root of {period_start.isoformat()} before")


class AnchorState(StrEnum):
    """Life of an anchor."""

    REQUESTED = "REQUESTED"
    SENDING = "SENDING"
    FINAL = "FINAL"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorRecord:
    """A root to be recorded. `anchor_id` names it to its transaction; `waiting`: what it waits for, for people."""

    party_id: PartyId
    kind: bytes
    period_start: datetime
    root: bytes
    anchor_id: bytes
    state: AnchorState
    waiting: str | None
    requested_at: datetime


ANCHOR: Final = TableSpec(
    name="settlement_anchor",
    record=AnchorRecord,
    key=("party_id", "kind", "period_start"),
    unique=(("anchor_id",),),
)


class Anchoring:
    """Takes requests in and queues their transactions; `sending` and `finality` do the rest."""

    def __init__(self, ports: Ports, access: ChainAccess, books: StoredBooks, deployer: Deployer | None) -> None:
        self._ports = ports
        self._access = access
        self._books = books
        self._deployer = deployer
        self._may_anchor = False

    async def advance(self) -> int:
        """Queue what is asked for; return how many. Raises `ChainUnavailable`, `DeploymentGone`."""
        async with self._ports.units.begin() as unit:
            asked = await unit.table(ANCHOR).select(
                {"state": AnchorState.REQUESTED}, order_by=("requested_at", "period_start")
            )
        if not asked:
            return 0
        deployment = await self._books.deployment()
        if deployment is None:
            return await self._wait(asked, "no contracts are known on this chain")
        numbers = await self._numbers(deployment, {each.party_id for each in asked})
        unknown = [each for each in asked if not numbers[each.party_id]]
        for each in unknown:
            await self._wait([each], f"the registration of {each.party_id}")
        return sum(
            [await self._queue(deployment, each, numbers[each.party_id]) for each in asked if each not in unknown]
        )

    async def _numbers(self, deployment: Deployment, parties: set[PartyId]) -> dict[PartyId, int]:
        """Return the parties' numbers, 0 for whoever has none; on a chain of our own they are given one."""
        if self._deployer is not None:
            if not self._may_anchor:
                await self._deployer.let_anchor(deployment, self._access.proposer.address)
                self._may_anchor = True
            return await self._deployer.register_parties(
                deployment, {each: self._access.signer_of(each) for each in sorted(parties)}
            )
        return {each: await self._number_of(deployment, each) for each in sorted(parties)}

    async def _number_of(self, deployment: Deployment, party_id: PartyId) -> int:
        codes = party_id.country_code.encode(), party_id.party_id.encode()
        answer = await self._access.chain.call(deployment.registry, contracts.NUMBER_OF.call(*codes))
        return int(contracts.NUMBER_OF.answer(answer)[0])

    async def _queue(self, deployment: Deployment, anchor: AnchorRecord, number: int) -> int:
        period = int(anchor.period_start.timestamp())
        row = TransactionRecord(
            transaction_id=f"anchor/{anchor.anchor_id.hex()}",
            kind=TransactionKind.ANCHOR,
            batch_id=anchor.anchor_id,
            chain_id=deployment.chain_id,
            account=self._access.proposer.address,
            receiver=deployment.anchor,
            calldata=contracts.ANCHOR.call(anchor.kind, number, period, anchor.root),
            queued_at=self._ports.clock.now(),
        )
        async with self._ports.units.begin() as unit:
            if await _locked(unit, anchor) != anchor:
                return 0
            await unit.table(TRANSACTION).put(row)
            await unit.table(ANCHOR).put(replace(anchor, state=AnchorState.SENDING, waiting=None))
            await unit.commit()
        return 1

    async def _wait(self, anchors: Sequence[AnchorRecord], reason: str) -> int:
        """Say why nothing is sent."""
        async with self._ports.units.begin() as unit:
            for each in anchors:
                if each.waiting != reason and await _locked(unit, each) == each:
                    await unit.table(ANCHOR).put(replace(each, waiting=reason))
            await unit.commit()
        return 0


async def take_requests(ports: Ports, stop: asyncio.Event) -> None:
    """Consume requests until `stop` is set, with a chain or without."""
    await ports.event_log.consume(GROUP, [ANCHORING], handle_requests, stop=stop)


async def handle_requests(unit: UnitOfWork, batch: Sequence[LoggedEvent]) -> None:
    """Enter what is asked for; twice is as once. Raises `RootChanged`."""
    for logged in batch:
        event = logged.envelope.event
        if not isinstance(event, AnchorRequested):
            continue
        known = await unit.table(ANCHOR).get_for_update(event.party_id, event.kind, event.period_start)
        if known is None:
            await unit.table(ANCHOR).put(_record(event))
        elif known.root != event.root:
            raise RootChanged(event.party_id, event.period_start)


def _record(event: AnchorRequested) -> AnchorRecord:
    name = f"{event.party_id}/{int(event.period_start.timestamp())}"
    return AnchorRecord(
        party_id=event.party_id,
        kind=event.kind,
        period_start=event.period_start,
        root=event.root,
        anchor_id=keccak256(event.kind + name.encode()),
        state=AnchorState.REQUESTED,
        waiting=None,
        requested_at=event.requested_at,
    )


async def _locked(unit: UnitOfWork, anchor: AnchorRecord) -> AnchorRecord | None:
    return await unit.table(ANCHOR).get_for_update(anchor.party_id, anchor.kind, anchor.period_start)
