"""What the settlement has stored, gathered once: leaves, statements, batches, signatures and transactions."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from emobility.domain.agreement import SettlementMode
from emobility.domain.identifiers import PartyId
from emobility.ports.unit_of_work import UnitOfWork
from services.audit.confidential_rows import ConfidentialRows, gather_confidential
from services.audit.rows import all_rows
from services.settlement.batching import key_of
from services.settlement.dispute_records import DISPUTE, RESOLVER, DisputeRecord, ResolverRecord
from services.settlement.guarantee_records import GUARANTEE, GuaranteeRecord
from services.settlement.meter_records import METER_RECORD, MeterRecordKept
from services.settlement.records import (
    ACCEPTANCE,
    ACCOUNT,
    AGREEMENT,
    BATCH,
    CHAIN,
    DEPLOYMENT,
    IN_FLIGHT,
    LEAF,
    OPENING,
    PARTY,
    STATEMENT,
    TRANSACTION,
    AcceptanceRecord,
    AccountRecord,
    BatchRecord,
    ChainRecord,
    DeploymentRecord,
    LeafRecord,
    Opening,
    PairAgreement,
    SettledParty,
    StatementRecord,
    TransactionRecord,
)
from services.settlement.restating_records import HELD, VOIDED, HeldCDR, VoidedStatement

READS_MAX: Final = 5
"""Rows are read this often at most, until no statement moved meanwhile; each query sees its own moment."""

StatementKey: TypeAlias = tuple[PartyId, str, int, int]
"""CPO, agreement, version, sequence."""
CDRName: TypeAlias = tuple[str, str]
"""CPO and CDR id."""


@dataclass(slots=True, kw_only=True)
class SettlementRows:
    """Rows as they are stored."""

    parties: list[SettledParty] = field(default_factory=list)
    agreements: list[PairAgreement] = field(default_factory=list)
    openings: list[Opening] = field(default_factory=list)
    leaves: list[LeafRecord] = field(default_factory=list)
    statements: list[StatementRecord] = field(default_factory=list)
    batches: list[BatchRecord] = field(default_factory=list)
    acceptances: list[AcceptanceRecord] = field(default_factory=list)
    transactions: list[TransactionRecord] = field(default_factory=list)
    accounts: list[AccountRecord] = field(default_factory=list)
    deployments: list[DeploymentRecord] = field(default_factory=list)
    chains: list[ChainRecord] = field(default_factory=list)
    confidential: ConfidentialRows = field(default_factory=ConfidentialRows)
    meter_records: list[MeterRecordKept] = field(default_factory=list)
    disputes: list[DisputeRecord] = field(default_factory=list)
    resolvers: list[ResolverRecord] = field(default_factory=list)
    guarantees: list[GuaranteeRecord] = field(default_factory=list)
    voided: list[VoidedStatement] = field(default_factory=list)
    held: list[HeldCDR] = field(default_factory=list)

    @property
    def since_block(self) -> int:
        """Return a block before all that our contracts ever told."""
        return min((each.deployment.since_block for each in self.deployments), default=0)

    def statements_by_key(self) -> dict[StatementKey, StatementRecord]:
        """Return the statements by their keys."""
        return {key_of(each): each for each in self.statements}

    def statements_by_batch(self) -> dict[bytes, list[StatementRecord]]:
        """Return each batch's statements by position, with those whose number another one has since a verdict."""
        found: dict[bytes, list[StatementRecord]] = defaultdict(list)
        every = [*self.statements, *(each.statement for each in self.voided)]
        for each in sorted(every, key=lambda each: -1 if each.position is None else each.position):
            if each.batch_id is not None:
                found[each.batch_id].append(each)
        return dict(found)

    def confidential_keys(self) -> frozenset[StatementKey]:
        """Return the keys of statements that are settled in confidential mode, so in no open batch."""
        of = {
            (each.cpo_id, each.agreement_id, each.version)
            for each in self.openings
            if each.mode is SettlementMode.CONFIDENTIAL
        }
        return frozenset(key_of(each) for each in self.statements if key_of(each)[:3] in of)

    def in_flight(self) -> frozenset[bytes]:
        """Return the batches with a transaction on its way, for the first time or again."""
        return frozenset(each.batch_id for each in self.transactions if each.state in IN_FLIGHT)


def statement_of(leaf: LeafRecord) -> StatementKey | None:
    """Return the key of the statement that a leaf stands in; None: in none yet."""
    if leaf.version is None or leaf.sequence is None:
        return None
    return leaf.cpo_id, leaf.agreement_id, leaf.version, leaf.sequence


async def gather_without_leaves(unit: UnitOfWork) -> SettlementRows:
    """Read everything but what there is of each CDR, at one moment (`ports/reconciliation.Moment`)."""
    return SettlementRows(
        statements=await all_rows(unit, STATEMENT),
        batches=await all_rows(unit, BATCH),
        transactions=await all_rows(unit, TRANSACTION),
        acceptances=await all_rows(unit, ACCEPTANCE),
        agreements=await all_rows(unit, AGREEMENT),
        openings=await all_rows(unit, OPENING),
        parties=await all_rows(unit, PARTY),
        accounts=await all_rows(unit, ACCOUNT),
        deployments=await all_rows(unit, DEPLOYMENT),
        chains=await all_rows(unit, CHAIN),
        confidential=await gather_confidential(unit),
        disputes=await all_rows(unit, DISPUTE),
        resolvers=await all_rows(unit, RESOLVER),
        guarantees=await all_rows(unit, GUARANTEE),
        voided=await all_rows(unit, VOIDED),
        held=await all_rows(unit, HELD),
    )


async def gather_settlement(unit: UnitOfWork) -> SettlementRows:
    """Read everything, once more where a statement or a transaction moved in between."""
    for _ in range(READS_MAX):
        rows = SettlementRows(
            statements=await all_rows(unit, STATEMENT),
            batches=await all_rows(unit, BATCH),
            transactions=await all_rows(unit, TRANSACTION),
            acceptances=await all_rows(unit, ACCEPTANCE),
            leaves=await all_rows(unit, LEAF),
            agreements=await all_rows(unit, AGREEMENT),
            openings=await all_rows(unit, OPENING),
            parties=await all_rows(unit, PARTY),
            accounts=await all_rows(unit, ACCOUNT),
            deployments=await all_rows(unit, DEPLOYMENT),
            chains=await all_rows(unit, CHAIN),
            confidential=await gather_confidential(unit),
            meter_records=await all_rows(unit, METER_RECORD),
            disputes=await all_rows(unit, DISPUTE),
            resolvers=await all_rows(unit, RESOLVER),
            guarantees=await all_rows(unit, GUARANTEE),
            voided=await all_rows(unit, VOIDED),
            held=await all_rows(unit, HELD),
        )
        moved = rows.transactions != await all_rows(unit, TRANSACTION) or rows.batches != await all_rows(unit, BATCH)
        if not moved and rows.statements == await all_rows(unit, STATEMENT):
            break
    return rows
