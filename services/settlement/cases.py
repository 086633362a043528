"""What a resolver says of a case, and what that makes of a dispute's row."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from emobility.domain.batch import contracts
from emobility.domain.batch.disputes import Case, CaseStage, DisputeKind, case_query, read_case, taken_out_e4
from emobility.domain.identifiers import PartyId
from emobility.ports.unit_of_work import UnitOfWork
from services.settlement.access import ChainAccess
from services.settlement.closing import leaf_in_tree
from services.settlement.dispute_records import DISPUTE, HEARD, RESOLVER, DisputeRecord, DisputeState
from services.settlement.records import LEAF, TRANSACTION, TransactionState

DECIDED: Final = frozenset({CaseStage.RULED, CaseStage.STRUCK})
ANSWERS: Final = {DisputeKind.WITHHELD: "reveal", DisputeKind.PRICE: "defence"}
"""How the transaction is called by which the side that was asked answers."""
_ASKED: Final = {DisputeKind.WITHHELD: CaseStage.DEMANDED, DisputeKind.PRICE: CaseStage.QUARRELLED}
"""At which stage the other side has its turn."""
_MOOT: Final = {
    DisputeKind.WITHHELD: ("reveal", f"lapse-{int(CaseStage.DEMANDED)}"),
    DisputeKind.PRICE: ("defence", f"lapse-{int(CaseStage.QUARRELLED)}", f"lapse-{int(CaseStage.DEFENDED)}"),
}
"""Transactions that nobody needs once the dispute is over, beside the one that raises it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """A case as it stands for good. `at_s`: the time there (unix seconds); `demand_bond_e4`: what a demand costs."""

    case: Case
    at_s: int
    demand_bond_e4: int


class Cases:
    """Looks at cases in final blocks."""

    def __init__(self, access: ChainAccess) -> None:
        self._chain = access.chain
        self._bonds: dict[bytes, int] = {}
        """Of resolvers, which never change it."""

    async def look(self, resolver: bytes, case_id: bytes) -> Sight:
        """Return how a case stands. Raises `ChainUnavailable`."""
        finalized = await self._chain.finalized()
        returned = await self._chain.call(resolver, case_query(case_id), at_block=finalized.number)
        case = read_case(returned)
        bond_e4 = self._bonds.get(resolver)
        if bond_e4 is None:
            (bond_e4,) = contracts.DEMAND_BOND_E4.answer(
                await self._chain.call(resolver, contracts.DEMAND_BOND_E4.call())
            )
            self._bonds[resolver] = bond_e4
        return Sight(case=case, at_s=finalized.timestamp_s, demand_bond_e4=bond_e4)


async def as_it_stands(unit: UnitOfWork, row: DisputeRecord, sight: Sight, *, now: datetime) -> DisputeRecord:
    """Return a dispute's row after a look at its case."""
    if row.stated_e4 is None:
        leaf = None if row.cdr_id is None else await unit.table(LEAF).get(row.cpo_id, row.cdr_id)
        row = replace(row, stated_e4=sight.case.net_e4 if leaf is None else leaf_in_tree(leaf).net_e4)
    if (ended := _ended(row, sight, now=now)) is not None:
        return ended
    is_asked = sight.case.stage is _ASKED.get(row.kind)
    waiting = None
    if is_asked:
        answer = await unit.table(TRANSACTION).get(transaction_id(row, ANSWERS[row.kind]))
        waiting = None if answer is None or answer.state is TransactionState.FINAL else answer.waiting
    return replace(
        row,
        state=DisputeState.OPEN,
        deadline=None if sight.case.stage is CaseStage.NONE else sight.case.deadline,
        turn_of=other_side(row) if is_asked else None,
        corrected_e4=None,
        bond_e4=None,
        waiting=waiting,
        decided_at=None,
    )


def _ended(row: DisputeRecord, sight: Sight, *, now: datetime) -> DisputeRecord | None:
    """Return what became of a dispute that is over; None: it is not."""
    over = replace(row, deadline=None, turn_of=None, waiting=None, decided_at=row.decided_at or now)
    if row.kind is DisputeKind.WITHHELD and CaseStage.REVEALED <= sight.case.stage < CaseStage.STRUCK:
        return replace(over, state=DisputeState.ANSWERED, corrected_e4=None, bond_e4=sight.demand_bond_e4)
    if sight.case.stage not in DECIDED:
        return None
    assert row.stated_e4 is not None
    corrected_e4 = taken_out_e4(sight.case, stated_e4=row.stated_e4)
    return replace(over, state=DisputeState.DECIDED, corrected_e4=corrected_e4)


def other_side(row: DisputeRecord) -> PartyId | None:
    """Return the party that a dispute is raised against; None: nobody's word raised it."""
    if row.party_id is None:
        return None
    return row.emsp_id if row.party_id == row.cpo_id else row.cpo_id


async def put_if_same(unit: UnitOfWork, row: DisputeRecord, changed: DisputeRecord) -> bool:
    """Replace a dispute's row unless somebody else did; what is queued for one that is over goes with that."""
    if await unit.table(DISPUTE).get_for_update(row.case_id, row.kind) != row:
        return False
    await unit.table(DISPUTE).put(changed)
    await drop_moot(unit, changed)
    return True


async def drop_moot(unit: UnitOfWork, row: DisputeRecord) -> None:
    """Take back calls of which no bytes exist, once their dispute is over."""
    if row.state in {DisputeState.DECIDED, DisputeState.ANSWERED}:
        for what in (row.kind.value, *_MOOT.get(row.kind, ())):
            await unit.table(TRANSACTION).remove(transaction_id(row, what), where={"state": TransactionState.QUEUED})


async def book_resolved_by(unit: UnitOfWork, resolver: bytes) -> bytes | None:
    """Return the book whose cases a contract resolves: one that we ask, or another of the book's that was heard of."""
    if asked := await unit.table(RESOLVER).select({"resolver": resolver}):
        return asked[0].book
    heard = await unit.table(HEARD).select({"contract": resolver})
    return heard[0].book if heard else None


def transaction_id(row: DisputeRecord, what: str) -> str:
    """Return what a transaction of a dispute is called."""
    return f"dispute/{row.case_id.hex()}/{what}"
