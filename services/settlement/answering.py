"""Answer what others raise, before silence loses the money: show the leaf that is demanded, defend what is quarrelled.

A leaf is shown by us, once, unless its party wants to say so itself. It is safe to show, also when the driver was
erased: kind, energy and three keyed or salted hashes name nobody, and after an erasure they open for nobody. To defend
an amount puts a bond at stake, so that is the party's own word unless it leaves it to us.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import structlog

from emobility.domain.batch.disputes import DisputeKind, case_id, reveal_call
from emobility.domain.errors import RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from services.settlement.access import ChainAccess
from services.settlement.case_leaves import struct_hash_of
from services.settlement.cases import ANSWERS, transaction_id
from services.settlement.closing import leaf_in_tree
from services.settlement.dispute_records import (
    DISPUTE,
    POLICY,
    AnswerPolicy,
    DisputePolicy,
    DisputeRecord,
    DisputeState,
)
from services.settlement.disputing import Disputing, NothingKept, UnknownDispute
from services.settlement.metrics import SettlementMetrics
from services.settlement.records import LEAF, PARTY, STATEMENT, TRANSACTION, SigningPolicy

ASKED: Final = (DisputeKind.WITHHELD, DisputeKind.PRICE)
"""What a party can lose by silence."""

_log = structlog.get_logger(__name__)


class Answering:
    """Gives the answers of parties that are hosted here."""

    def __init__(self, ports: Ports, access: ChainAccess, metrics: SettlementMetrics | None = None) -> None:
        self._ports = ports
        self._metrics = metrics
        self._disputing = Disputing(ports, access)
        self._warned: frozenset[tuple[bytes, DisputeKind]] = frozenset()
        """Of these disputes this process has warned."""

    async def advance(self) -> int:
        """Answer what is asked and warn of what is not ours to answer; return how many answers were queued."""
        due = await self._due()
        self._warn(due)
        return sum([await self._answer(row) for row, _ in due])

    async def _due(self) -> list[tuple[DisputeRecord, bool]]:
        """Return the disputes in which a party hosted here has its turn, and whether we answer."""
        async with self._ports.units.begin() as unit:
            where = {"state": DisputeState.OPEN, "kind": ASKED}
            rows = await unit.table(DISPUTE).select(where, order_by=("deadline",))
            return [
                (row, await _is_ours(unit, row, row.turn_of))
                for row in rows
                if row.turn_of is not None and await is_hosted(unit, row.turn_of)
            ]

    def _warn(self, due: list[tuple[DisputeRecord, bool]]) -> None:
        now = self._ports.clock.now()
        left: dict[DisputeKind, timedelta | None] = dict.fromkeys(ASKED)
        warned: set[tuple[bytes, DisputeKind]] = set()
        for row, is_ours in due:
            assert row.deadline is not None, "who has its turn has it until a deadline"
            if left[row.kind] is None:
                left[row.kind] = row.deadline - now
            named = (row.case_id, row.kind)
            if named in self._warned:
                warned.add(named)
            elif not is_ours or row.waiting is not None:
                warned.add(named)
                assert row.turn_of is not None
                _log.warning(
                    "settlement_answer_is_due",
                    party=row.turn_of.code,
                    kind=row.kind.value,
                    case=row.case_id.hex(),
                    deadline=row.deadline.isoformat(),
                    waiting=row.waiting,
                )
        self._warned = frozenset(warned)
        if self._metrics is not None:
            self._metrics.answers_due(left)

    async def _answer(self, row: DisputeRecord) -> int:
        if row.kind is DisputeKind.WITHHELD:
            async with self._ports.units.begin() as unit:
                is_queued = await self.reveal(unit, row)
                await unit.commit()
            return int(is_queued)
        return await self._defend(row)

    # Leaves

    async def reveal(self, unit: UnitOfWork, row: DisputeRecord) -> bool:
        """Queue the call that shows a demanded leaf, if its party leaves that to us; tell whether it was."""
        if row.kind is not DisputeKind.WITHHELD or row.turn_of is None or not await is_hosted(unit, row.turn_of):
            return False
        if (await policy_of(unit, row.turn_of)).reveals is not AnswerPolicy.AUTOMATIC:
            return False
        return await self._queue_leaf(unit, row)

    async def show(self, party_id: PartyId, named: bytes) -> None:
        """Show a demanded leaf, by its party's word.

        Raises:
            UnknownDispute: nobody waits for a leaf of the party under this name.
            NothingKept: no leaf here is the one.
        """
        async with self._ports.units.begin() as unit:
            row = await unit.table(DISPUTE).get(named, DisputeKind.WITHHELD)
            if row is None or row.turn_of != party_id:
                raise UnknownDispute(f"{party_id} has nothing to show as {named.hex()}")
            if row.cdr_id is None:
                raise NothingKept("no leaf of these books is the one that is demanded")
            await self._queue_leaf(unit, row)
            await unit.commit()

    async def _queue_leaf(self, unit: UnitOfWork, row: DisputeRecord) -> bool:
        what = ANSWERS[row.kind]
        leaf = None if row.cdr_id is None else await unit.table(LEAF).get(row.cpo_id, row.cdr_id)
        if leaf is None or await unit.table(TRANSACTION).get_for_update(transaction_id(row, what)) is not None:
            return False
        statement = await unit.table(STATEMENT).get(leaf.cpo_id, leaf.agreement_id, leaf.version, leaf.sequence)
        assert statement is not None, f"CDR {leaf.cdr_id} is contested, and stands in no statement"
        struct_hash, shown = await struct_hash_of(unit, statement), leaf_in_tree(leaf)
        assert case_id(struct_hash, shown) == row.case_id, f"CDR {leaf.cdr_id} is not what {row.case_id.hex()} is about"
        await unit.table(TRANSACTION).put(self._disputing.call(row, what, reveal_call(struct_hash, shown)))
        return True

    # Amounts

    async def _defend(self, row: DisputeRecord) -> int:
        """Defend an amount that our own books state, if its party leaves that to us and its key is here."""
        assert row.turn_of is not None
        async with self._ports.units.begin() as unit:
            is_ours = await _is_ours(unit, row, row.turn_of)
            is_answered = await unit.table(TRANSACTION).get(transaction_id(row, ANSWERS[row.kind])) is not None
        if is_answered or not is_ours:
            return 0
        if row.deadline is not None and row.deadline <= self._ports.clock.now():
            return 0
        try:
            await self._disputing.defend(row.turn_of, row.case_id)
        except RuleBroken as refusal:
            _log.warning("settlement_not_defended", case=row.case_id.hex(), reason=str(refusal))
            return 0
        return 1

    # Policies

    async def policy(self, party_id: PartyId) -> DisputePolicy:
        """Return how a party answers."""
        async with self._ports.units.begin() as unit:
            return await policy_of(unit, party_id)

    async def choose(self, policy: DisputePolicy) -> DisputePolicy:
        """Answer so for a party from now on."""
        async with self._ports.units.begin() as unit:
            await unit.table(POLICY).put(policy)
            await unit.commit()
        return policy


async def policy_of(unit: UnitOfWork, party_id: PartyId) -> DisputePolicy:
    """Return how a party answers."""
    return await unit.table(POLICY).get(party_id) or DisputePolicy(party_id=party_id)


async def is_hosted(unit: UnitOfWork, party_id: PartyId) -> bool:
    """Tell whether a party's answers are ours to give."""
    party = await unit.table(PARTY).get(party_id)
    return party is not None and party.is_hosted


async def _is_ours(unit: UnitOfWork, row: DisputeRecord, party_id: PartyId) -> bool:
    """Tell whether we answer for a party: it leaves that to us, the leaf is here, and so is the key where one signs."""
    policy, party = await policy_of(unit, party_id), await unit.table(PARTY).get(party_id)
    if row.cdr_id is None or party is None:
        return False
    if row.kind is DisputeKind.WITHHELD:
        return policy.reveals is AnswerPolicy.AUTOMATIC
    return policy.defends is AnswerPolicy.AUTOMATIC and party.signs is SigningPolicy.AUTOMATIC
