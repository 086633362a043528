"""What is settled, what is on its way and what waits, per pair, party and currency; for the audit and the demo."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from emobility.domain.identifiers import PartyId
from emobility.ports.stores import SELECT_ROWS_MAX, TableSpec
from emobility.ports.unit_of_work import UnitOfWork, Units
from services.settlement.records import (
    BATCH,
    LEAF,
    STATEMENT,
    TRANSACTION,
    BatchRecord,
    LeafRecord,
    StatementRecord,
    StatementState,
    TransactionRecord,
)

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class PairLedger:
    """A pair in one currency: net of credits, in ten-thousandths; energy in Wh, what credits take back subtracted.

    `final` + `proposed` (closed, proposed or unfunded) + `unbatched` is all that its MSP accepted.
    """

    cpo_id: PartyId
    emsp_id: PartyId
    currency: str
    cdrs: int
    statements: int
    final_e4: int
    proposed_e4: int
    unbatched_e4: int
    final_wh: int
    final_cdrs: int

    @property
    def accepted_e4(self) -> int:
        """All that was accepted."""
        return self.final_e4 + self.proposed_e4 + self.unbatched_e4


@dataclass(frozen=True, slots=True, kw_only=True)
class PartyNet:
    """What a party gets on balance from final statements; negative: it pays. In ten-thousandths."""

    party_id: PartyId
    currency: str
    net_e4: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCost:
    """A batch, and the gas of all its transactions that are in the chain."""

    batch_id: bytes
    pairs: int
    sessions: int
    gas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementLedger:
    """All of it."""

    pairs: tuple[PairLedger, ...]
    parties: tuple[PartyNet, ...]
    batches: tuple[BatchCost, ...]

    @property
    def gas_per_session(self) -> int:
        """Gas of all transactions over final CDRs, rounded up; 0 when nothing is final."""
        sessions = sum(batch.sessions for batch in self.batches)
        return -(-sum(batch.gas for batch in self.batches) // sessions) if sessions else 0


async def settlement_ledger(units: Units) -> SettlementLedger:
    """Add everything up, from the leaves themselves."""
    async with units.begin() as unit:
        leaves, statements = await _all(unit, LEAF), await _all(unit, STATEMENT)
        batches, transactions = await _all(unit, BATCH), await _all(unit, TRANSACTION)
    pairs = _pairs(leaves, statements)
    return SettlementLedger(
        pairs=pairs, parties=_nets(pairs), batches=tuple(_cost(each, statements, transactions) for each in batches)
    )


def _pairs(leaves: Iterable[LeafRecord], statements: list[StatementRecord]) -> tuple[PairLedger, ...]:
    states = {(each.cpo_id, each.agreement_id, each.version, each.sequence): each.state for each in statements}
    grouped: dict[tuple[PartyId, PartyId, str], list[LeafRecord]] = defaultdict(list)
    for leaf in leaves:
        grouped[leaf.cpo_id, leaf.emsp_id, leaf.currency].append(leaf)
    counts: dict[tuple[PartyId, PartyId, str], int] = defaultdict(int)
    for each in statements:
        counts[each.cpo_id, each.emsp_id, each.currency] += 1

    def of(pair: tuple[PartyId, PartyId, str]) -> PairLedger:
        final: list[LeafRecord] = []
        proposed: list[LeafRecord] = []
        unbatched: list[LeafRecord] = []
        for leaf in grouped[pair]:
            if leaf.version is None or leaf.sequence is None:
                unbatched.append(leaf)
            elif states[leaf.cpo_id, leaf.agreement_id, leaf.version, leaf.sequence] is StatementState.FINAL:
                final.append(leaf)
            else:
                proposed.append(leaf)
        return PairLedger(
            cpo_id=pair[0],
            emsp_id=pair[1],
            currency=pair[2],
            cdrs=len(grouped[pair]),
            statements=counts[pair],
            final_e4=_net_e4(final),
            proposed_e4=_net_e4(proposed),
            unbatched_e4=_net_e4(unbatched),
            final_wh=sum(-leaf.import_wh if leaf.is_credit else leaf.import_wh for leaf in final),
            final_cdrs=len(final),
        )

    return tuple(of(pair) for pair in sorted(grouped))


def _nets(pairs: Iterable[PairLedger]) -> tuple[PartyNet, ...]:
    nets: dict[tuple[PartyId, str], int] = defaultdict(int)
    for pair in pairs:
        nets[pair.cpo_id, pair.currency] += pair.final_e4
        nets[pair.emsp_id, pair.currency] -= pair.final_e4
    return tuple(
        PartyNet(party_id=party, currency=currency, net_e4=nets[party, currency]) for party, currency in sorted(nets)
    )


def _cost(
    batch: BatchRecord, statements: Iterable[StatementRecord], transactions: Iterable[TransactionRecord]
) -> BatchCost:
    return BatchCost(
        batch_id=batch.batch_id,
        pairs=len(batch.statements),
        sessions=sum(each.count for each in statements if each.batch_id == batch.batch_id),
        gas=sum(each.gas_used or 0 for each in transactions if each.batch_id == batch.batch_id),
    )


def _net_e4(leaves: Iterable[LeafRecord]) -> int:
    return sum(leaf.due_e4 - leaf.credit_e4 for leaf in leaves)


async def _all(unit: UnitOfWork, spec: TableSpec[R]) -> list[R]:
    rows: list[R] = []
    while True:
        page = await unit.table(spec).select(offset=len(rows))
        rows += page
        if len(page) < SELECT_ROWS_MAX:
            return rows
