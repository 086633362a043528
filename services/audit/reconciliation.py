"""The audit of a period: metered, in CDRs, accepted, settled, invoiced, paid, by pair, and what makes each differ.

Documents come in a stream (`ports/reconciliation.py`), by statement, so memory is bounded by a batch and by one
statement (`closing.LEAVES_MAX`), whatever the period. Of the settlement everything but leaves is read whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, TypeAlias

from emobility.domain.agreement import SettlementMode
from emobility.domain.batch.leaf import Leaf, LeafKind
from emobility.domain.batch.trees import StatementTrees
from emobility.domain.errors import EmobilityError
from emobility.ports.reconciliation import Document, MeteredSession, Moment, Period
from emobility.ports.stores import TableSpec
from services.audit.books import MONEY_GROUP, SETTLEMENT_GROUP, Books
from services.audit.report import DIFFERENCES_MAX, Check, Difference
from services.audit.rows import all_rows
from services.audit.settlement_rows import SettlementRows
from services.audit.stages import (
    FAULTS,
    NOT_SETTLED,
    NOTHING,
    STAGES,
    Amounts,
    Cause,
    Reached,
    Stage,
    accepted,
    claim_of,
    invoiced,
    issued,
    paid,
    settled,
)
from services.audit.statements import RULE as STATEMENT_RULE
from services.audit.statements import unlike
from services.audit.whereabouts import accepted_in
from services.charging_operations import records as cpo
from services.driver_mobility import records as emsp
from services.settlement.closing import pair_statement
from services.settlement.money_records import PayableRecord, PayoutRecord
from services.settlement.records import LEAF, LeafRecord, Opening, StatementRecord, StatementState

OBJECTS_MAX: Final = 20
"""Most documents that are named where many have one cause, unless it is a fault: of these each is a difference."""

StatementName: TypeAlias = tuple[str, str, int, int]
"""CPO, agreement, version, sequence."""
PairName: TypeAlias = tuple[str, str, str]
"""CPO, MSP, currency; empty where nobody knows."""
_RULES: Final = {
    Stage.CDR: "what is metered is in CDRs",
    Stage.ACCEPTED: "what is claimed is accepted",
    Stage.SETTLED: "what is accepted is settled",
    Stage.INVOICED: "what is settled is invoiced",
    Stage.PAID: "what is invoiced is paid",
}
_BILLED: Final = "an accepted CDR of the period is billed once"
_NOT_FINAL: Final = {
    StatementState.CLOSED: Cause.CLOSED,
    StatementState.PROPOSED: Cause.PROPOSED,
    StatementState.RIPENING: Cause.RIPENING,
    StatementState.CHALLENGED: Cause.CHALLENGED,
    StatementState.VOID: Cause.VOID,
    StatementState.UNFUNDED: Cause.UNFUNDED,
}


@dataclass(slots=True)
class Gap:
    """What a stage lacks of the one before it for one cause, and the first documents that do; below zero: has more."""

    amounts: Amounts = NOTHING
    objects: list[str] = field(default_factory=list)
    count: int = 0


@dataclass(slots=True)
class PairFigures:
    """A pair's figures by stage, and its gaps by stage and cause."""

    stages: dict[Stage, Amounts] = field(default_factory=lambda: dict.fromkeys(STAGES, NOTHING))
    gaps: dict[tuple[Stage, Cause], Gap] = field(default_factory=dict)

    def add(self, stage: Stage, amounts: Amounts) -> None:
        """Count at a stage."""
        self.stages[stage] = self.stages[stage].plus(amounts)

    def miss(self, stage: Stage, cause: Cause, amounts: Amounts, name: str) -> None:
        """Count what a stage lacks."""
        gap = self.gaps.setdefault((stage, cause), Gap())
        gap.amounts = gap.amounts.plus(amounts)
        gap.count += 1
        if len(gap.objects) < OBJECTS_MAX:
            gap.objects.append(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What is known beside the documents: whose books are here, what the consumers did not read, what was set aside."""

    cpos: frozenset[str]
    msps: frozenset[str]
    has_settlement: bool
    settlement_lags: bool
    money_lags: bool
    parked: frozenset[tuple[str, str]]
    discarded: frozenset[tuple[str, str]]

    def why_no_leaf(self, name: tuple[str, str]) -> Cause:
        """Say why an accepted CDR has no leaf."""
        if name in self.discarded:
            return Cause.DISCARDED
        if name in self.parked:
            return Cause.PARKED
        if not self.has_settlement:
            return Cause.NO_SETTLEMENT
        return Cause.UNREAD if self.settlement_lags else Cause.NO_LEAF


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """What an audit of a period found."""

    period: Period
    pairs: Mapping[PairName, PairFigures]
    checks: tuple[Check, ...]


async def circumstances(moment: Moment, books: Books) -> Circumstances:
    """Ask what must be known beside the documents."""
    lag = books.lag
    hosted = {each.party_id.code for each in books.settlement.parties if each.is_hosted}
    return Circumstances(
        cpos=frozenset(hosted | await _parties_in(moment, cpo.CPO, cpo.TRANSACTION, cpo.CDRS)),
        msps=frozenset(hosted | await _parties_in(moment, emsp.MSP, emsp.TOKEN, emsp.CDRS)),
        has_settlement=SETTLEMENT_GROUP in lag or bool(books.settlement.parties),
        settlement_lags=bool(lag.get(SETTLEMENT_GROUP)),
        money_lags=bool(lag.get(MONEY_GROUP)),
        parked=accepted_in(books.parked),
        discarded=accepted_in(each.parked for each in books.discarded),
    )


async def _parties_in(moment: Moment, *tables: TableSpec[Any]) -> set[str]:
    """Return whose rows there are: who has not one CDR may have lost them, and its books are here all the same."""
    return {row[0].code for spec in tables for row in await moment.unit.table(spec).distinct(("party_id",))}


async def reconcile(moment: Moment, beside: Moment, period: Period, books: Books, known: Circumstances) -> Reconciled:
    """Stream a period's documents and add them up.

    Args:
        moment: Where they are.
        beside: The same moment over another connection: what was metered is read while documents are joined.
        period: Of charges that ended in it.
        books: All that the settlement has, without leaves, and what companies pay and invoice.
        known: What must be known beside.
    """
    rows = books.settlement
    reconciling = _Reconciling(rows, known, _reached(books, known))
    metering = asyncio.create_task(_take_sessions(reconciling, beside, period))
    statements = _Statements(moment, rows, period)
    try:
        async for documents in moment.documents(period):
            reconciling.take_documents(documents)
            await statements.take(documents)
        await metering
    finally:
        metering.cancel()
        await asyncio.wait([metering])
    reconciling.close()
    checks = (*reconciling.checks(), await statements.close())
    return Reconciled(period=period, pairs=dict(sorted(reconciling.pairs.items())), checks=checks)


async def _take_sessions(reconciling: _Reconciling, moment: Moment, period: Period) -> None:
    async for sessions in moment.sessions(period):
        reconciling.take_sessions(sessions)


def _reached(books: Books, known: Circumstances) -> dict[StatementName, Reached]:
    """Say of each statement how far it came."""
    payables = {_name(row): row for row in books.money.payables}
    payouts = {(row.cpo_id.code, row.end_to_end_id): row for row in books.money.payouts}
    documents = {(row.cpo_id.code, row.number) for row in books.money.invoices}
    found = {}
    for statement in books.settlement.statements:
        name = _name(statement)
        payable = payables.get(name)
        waits = _NOT_FINAL.get(statement.state)
        if waits is not None:
            found[name] = Reached(waits, None, None)
        elif payable is None:
            cause = Cause.MONEY_BEHIND if known.money_lags else Cause.NOT_ASKED_FOR
            found[name] = Reached(None, cause, cause)
        else:
            found[name] = Reached(None, _uninvoiced(payable, documents), _unpaid(payable, payouts))
    return found


def _name(row: StatementRecord | PayableRecord) -> StatementName:
    return row.cpo_id.code, row.agreement_id, row.version, row.sequence


def _uninvoiced(row: PayableRecord, documents: set[tuple[str, str]]) -> Cause | None:
    if row.invoice_number is None:
        return Cause.NOT_INVOICED if row.tax_waits is None else Cause.TAX_UNKNOWN
    return None if (row.cpo_id.code, row.invoice_number) in documents else Cause.INVOICE_GONE


def _unpaid(row: PayableRecord, payouts: Mapping[tuple[str, str], PayoutRecord]) -> Cause | None:
    if row.is_prepaid:
        return None  # the net moved in the vault as it became final; what a bank still moves is the tax
    if row.paid_by is None:
        return Cause.IN_NO_PAYMENT
    payout = payouts.get((row.cpo_id.code, row.paid_by))
    if payout is None:
        return Cause.PAYMENT_GONE
    if payout.arrived_cents >= payout.bank_cents:
        return None  # the rest came out of the guarantee
    if payout.arrived_cents or payout.taken_cents:
        return Cause.PARTLY_PAID
    if payout.sent_cents:
        return Cause.SENT
    return Cause.DUE if payout.exported_in is None else Cause.ORDERED


class _Reconciling:
    """Adds sessions and documents up."""

    def __init__(self, rows: SettlementRows, known: Circumstances, reached: Mapping[StatementName, Reached]) -> None:
        self.pairs: dict[PairName, PairFigures] = {}
        self._known = known
        self._reached = reached
        self._held = {(each.cpo_id.code, each.cdr_id) for each in rows.held}
        self._off_chain = {
            (each.cpo_id.code, each.agreement_id, each.currency)
            for each in rows.openings
            if each.mode is SettlementMode.OFF_CHAIN
        }
        self._compared = dict.fromkeys([*_RULES.values(), _BILLED], 0)
        self._faults: dict[str, list[Difference]] = {rule: [] for rule in self._compared}
        self._untold = dict.fromkeys(self._compared, 0)
        self._claimed: dict[PairName, Amounts] = {}

    def _pair(self, cpo: str, emsp: str | None, currency: str | None) -> tuple[PairName, PairFigures]:
        key = cpo, emsp or "", currency or ""
        figures = self.pairs.get(key)
        if figures is None:
            figures = self.pairs[key] = PairFigures()
        return key, figures

    def take_sessions(self, sessions: Sequence[MeteredSession]) -> None:
        """Add what was metered, and compare it with what CDRs state."""
        for each in sessions:
            key, figures = self._pair(each.cpo_id, each.emsp_id, each.currency)
            metered = Amounts(
                each.sessions if each.state or each.name is None else 0, each.metered_import_wh, each.metered_export_wh
            )
            claimed = Amounts(each.cdrs, each.cdr_import_wh, each.cdr_export_wh)
            figures.add(Stage.METERED, metered)
            self._claimed[key] = self._claimed.get(key, NOTHING).plus(claimed)
            self._compared[_RULES[Stage.CDR]] += each.sessions
            cause = claim_of(each)
            if cause is not None:
                self._miss(Stage.CDR, cause, (key, figures), (metered, claimed), each.name or "")

    def take_documents(self, documents: Sequence[Document]) -> None:
        """Add documents at each stage, and compare it with the one before."""
        known, reached_by = self._known, self._reached
        for each in documents:
            emsp = each.issued_to or each.received_by or each.leaf_of
            currency = each.issued_currency or each.received_currency or each.leaf_currency
            pair = self._pair(each.cpo_id, emsp, currency)
            reached, unbound = NOT_SETTLED, Cause.UNBOUND
            if each.sequence is not None:
                statement = (each.cpo_id, each.agreement_id or "", each.version or 0, each.sequence)
                reached = reached_by.get(statement) or Reached(Cause.STATEMENT_GONE, None, None)
            elif (each.cpo_id, each.agreement_id, each.leaf_currency) in self._off_chain:
                unbound = Cause.OFF_CHAIN
            elif (each.cpo_id, each.cdr_id) in self._held:
                unbound = Cause.TAKEN_OUT
            no_leaf = Cause.NO_LEAF if each.leaf_of else known.why_no_leaf((each.cpo_id, each.cdr_id))
            at = issued(each)
            taken = accepted(each, has_cpo=each.cpo_id in known.cpos, has_msp=emsp in known.msps)
            bound = settled(each, taken.amounts, reached, no_leaf=no_leaf, unbound=unbound)
            told = invoiced(bound.amounts, reached)
            moved = paid(bound.amounts, told.amounts, reached)
            pair[1].add(Stage.CDR, at)
            before = at
            for stage, step in (
                (Stage.ACCEPTED, taken),
                (Stage.SETTLED, bound),
                (Stage.INVOICED, told),
                (Stage.PAID, moved),
            ):
                pair[1].add(stage, step.amounts)
                if step.cause is not None:
                    self._miss(stage, step.cause, pair, (before, step.amounts), each.cdr_id)
                elif step.amounts != before:
                    raise AssertionError(f"{each}: {stage} is {step.amounts} after {before}, and nobody says why")
                before = step.amounts
            if taken.amounts.documents and not each.is_credit and each.received_by and each.bills != 1:
                self._unbilled(each)
        for stage in STAGES[2:]:
            self._compared[_RULES[stage]] += len(documents)
        self._compared[_BILLED] += sum(each.received_by is not None and not each.is_credit for each in documents)

    def _miss(
        self,
        stage: Stage,
        cause: Cause,
        pair: tuple[PairName, PairFigures],
        amounts: tuple[Amounts, Amounts],
        name: str,
    ) -> None:
        """Count what a stage has otherwise than the one before it; what is a fault is told as a difference, too."""
        (key, figures), (before, after) = pair, amounts
        figures.miss(stage, cause, before.less(after), name)
        if cause not in FAULTS:
            return
        units = ("documents", "Wh", "Wh export", f"e4 {key[2]}")
        parts = [part for part in zip(before, after, units, strict=True) if part[0] != part[1]]
        for expected, found, unit in parts or [(before.documents, after.documents, units[0])]:
            scope = "/".join((*key, name))
            self._tell(
                Difference(
                    rule=_RULES[stage], scope=scope, expected=expected, found=found, unit=unit, cause=cause.value
                )
            )

    def _unbilled(self, each: Document) -> None:
        cause = "the driver was billed more than once" if each.bills else "its driver was never billed"
        scope = f"{each.received_by}/{each.cpo_id}/{each.cdr_id}"
        self._tell(Difference(rule=_BILLED, scope=scope, expected=1, found=each.bills, unit="bills", cause=cause))

    def _tell(self, difference: Difference) -> None:
        told = self._faults[difference.rule]
        if len(told) < DIFFERENCES_MAX:
            told.append(difference)
        else:
            self._untold[difference.rule] += 1

    def close(self) -> None:
        """Name what a session's documents have in another period, and see that every gap is explained."""
        for key, figures in self.pairs.items():
            elsewhere = self._claimed.get(key, NOTHING).less(figures.stages[Stage.CDR])._replace(documents=0, net_e4=0)
            if elsewhere != NOTHING:
                figures.miss(Stage.CDR, Cause.OTHER_PERIOD, elsewhere, "")
            for before, stage in pairwise(STAGES):
                lacks = figures.stages[before].less(figures.stages[stage])
                explained = NOTHING
                for (at, _), gap in figures.gaps.items():
                    explained = explained.plus(gap.amounts if at is stage else NOTHING)
                if (
                    stage is Stage.CDR
                ):  # a session is metered once and may have several documents; a meter knows no money
                    lacks, explained = (each._replace(documents=0, net_e4=0) for each in (lacks, explained))
                if lacks != explained:
                    raise AssertionError(f"{key}: {stage} lacks {lacks}, and {explained} is explained")

    def checks(self) -> Iterator[Check]:
        """Yield what was compared, rule by rule."""
        for rule, compared in self._compared.items():
            differences, untold = tuple(self._faults[rule]), self._untold[rule]
            yield Check(rule=rule, compared=compared, differences=differences, untold=untold)


@dataclass(slots=True)
class _Bound:
    """The leaves of one statement that came by, and to which MSP and currency they belong."""

    name: StatementName
    leaves: list[Leaf] = field(default_factory=list)
    sides: set[tuple[str | None, str | None]] = field(default_factory=set)


class _Statements:
    """Builds the trees of each statement again as its documents come by, one statement at a time."""

    def __init__(self, moment: Moment, rows: SettlementRows, period: Period) -> None:
        self._moment = moment
        self._period = period
        self._unseen = {_name(each): each for each in rows.statements}
        self._openings = {(each.cpo_id.code, each.agreement_id, each.version): each for each in rows.openings}
        self._bound: _Bound | None = None
        self._found: list[Difference] = []
        self._compared = 0

    async def take(self, documents: Sequence[Document]) -> None:
        """Take leaves, and compare the statements that end with them."""
        for each in documents:
            if each.sequence is None:
                continue
            name = (each.cpo_id, each.agreement_id or "", each.version or 0, each.sequence)
            if self._bound is None or name != self._bound.name:
                await self._compare()
                self._bound = _Bound(name)
            self._bound.leaves.append(_leaf(each))
            self._bound.sides.add((each.leaf_of, each.leaf_currency))

    async def _compare(self) -> None:
        """Compare sums and roots with what a statement says; where they differ, look at all of its rows."""
        bound, self._bound = self._bound, None
        statement = None if bound is None else self._unseen.pop(bound.name, None)
        if bound is None or statement is None:
            return  # `Cause.STATEMENT_GONE` tells of one that is not there
        self._compared += 1
        opening = self._openings.get(bound.name[:3])
        if not (_says(statement, bound.leaves) and bound.sides == _sides(statement, opening)):
            # Perhaps some of its charges ended outside the period.
            await self._look_at(statement)

    async def _look_at(self, statement: StatementRecord) -> None:
        opening = self._openings.get(_name(statement)[:3])
        self._found += unlike(statement, await _leaves_of(self._moment, statement), opening)

    async def close(self) -> Check:
        """Compare the last one, and those of the period of which nothing came by; return what was compared."""
        await self._compare()
        for statement in self._unseen.values():
            if self._period.since <= statement.period_start and statement.period_end <= self._period.before:
                self._compared += 1
                await self._look_at(statement)
        return Check(rule=STATEMENT_RULE, compared=self._compared, differences=tuple(self._found))


async def _leaves_of(moment: Moment, statement: StatementRecord) -> list[LeafRecord]:
    where = {name: getattr(statement, name) for name in ("cpo_id", "agreement_id", "version", "sequence")}
    return sorted(await all_rows(moment.unit, LEAF, where), key=lambda leaf: leaf.place or 0)


def _sides(statement: StatementRecord, opening: Opening | None) -> set[tuple[str | None, str | None]] | None:
    """Return the MSP and currency of all its leaves; None where it is not what its terms say, or what was signed."""
    terms = (statement.emsp_id, statement.currency, statement.book_agreement)
    if opening is None or (opening.emsp_id, opening.currency, opening.book_agreement) != terms:
        return None
    is_signed = pair_statement(statement).struct_hash == statement.statement_hash
    return {(statement.emsp_id.code, statement.currency)} if is_signed else None


def _leaf(each: Document) -> Leaf:
    return Leaf(
        kind=LeafKind.CREDIT if each.leaf_is_credit else LeafKind.CHARGE,
        cdr_key=each.cdr_key or b"",
        import_wh=each.import_wh or 0,
        export_wh=each.export_wh or 0,
        commitment=each.commitment or b"",
        meter=each.meter or b"",
        due_e4=each.due_e4 or 0,
        credit_e4=each.credit_e4 or 0,
    )


def _says(statement: StatementRecord, leaves: Sequence[Leaf]) -> bool:
    """Whether a statement is just what these leaves, in this order, make it."""
    if len(leaves) != statement.count:
        return False
    try:
        trees = StatementTrees(leaves)
    except EmobilityError:
        return False
    root = trees.sum_root
    return (trees.evidence_root, root.hash, root.due_e4, root.credit_e4) == (
        statement.evidence_root,
        statement.sum_root,
        statement.due_e4,
        statement.credit_e4,
    ) and list(leaves) == list(trees.leaves)
