"""Close statements: a period of a pair is over, or an operator says so, and what was accepted by then is bound.

What is late goes into the next statement with its own date; nothing is left out for ever. A CDR stands in one statement
only, and a credit in none before its original's. Closing asks no chain: an agreement is opened in its book beforehand,
and until it is, its CDRs wait with the reason.
"""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import combinations, islice
from typing import Final

import structlog

from emobility.domain.agreement import RoamingAgreement
from emobility.domain.batch.disputes import DisputeKind
from emobility.domain.batch.leaf import Leaf, LeafKind
from emobility.domain.batch.period import period_at
from emobility.domain.batch.statement import (
    AGREEMENT_BYTES,
    STATED_E4_MAX,
    BookedStatement,
    PairStatement,
    statement_of,
)
from emobility.domain.batch.trees import StatementTrees, SumOutOfRange
from emobility.domain.errors import EmobilityError, RuleBroken, Unavailable
from emobility.events.event import Envelope
from emobility.events.settlement import StatementClosed, StatementName
from emobility.ports.ports import Ports
from emobility.ports.stores import SELECT_ROWS_MAX
from emobility.ports.unit_of_work import UnitOfWork
from services.settlement.crash_points import CrashPoint, Reached
from services.settlement.exposure import rows_of
from services.settlement.facts import fact
from services.settlement.intake import PairKey, openings_of
from services.settlement.metrics import SettlementMetrics
from services.settlement.records import (
    AGREEMENT,
    LEAF,
    OPENING,
    STATEMENT,
    LeafRecord,
    Opening,
    PairAgreement,
    StatementRecord,
    StatementState,
)
from services.settlement.restating_records import HELD

LEAVES_MAX: Final = 100_000
"""Most CDRs in one statement; what is more goes into the next, closed at once."""
PAIRS_AT_ONCE: Final = 3
SEEN_WITHIN_S: Final = 10.0
"""How long an operator's word to close waits for the first look at the chain."""
SUMMED_MAX: Final = 1_000_000
"""CDRs added up, over all ways to leave late ones out, when a statement is made again as it stands on the chain."""
HASHED_MAX: Final = 100_000
"""CDRs hashed for that, where sums alone don't tell. Both take the worker a second or so, within its lease."""
SECOND: Final = timedelta(seconds=1)

_log = structlog.get_logger(__name__)


class ChainNotSeen(Unavailable):
    """Nothing is closed before it is known that the chain has no statement which these rows lack."""

    def __init__(self) -> None:
        super().__init__("the chain does not answer, and whether it is ahead of these rows is not known yet")


class StandsBy(Unavailable):
    """A process that has never sent looks at no chain, and closes nothing: another one does both."""

    def __init__(self) -> None:
        super().__init__("another process sends for this settlement: ask that one to close")


class StatementDiffers(RuleBroken):
    """A statement is signed, shown and proven only while its CDRs are those that it was closed over."""

    def __init__(self, statement: StatementName) -> None:
        self.statement = statement
        super().__init__(f"the CDRs of statement {statement} are not those that it binds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """What closes a statement before its period is over; None: does not.

    Attributes:
        cdrs: So many wait.
        value_e4: So much is owed by what waits, either way, in ten-thousandths of its currency.
        age: The oldest waits so long.
    """

    cdrs: int | None = None
    value_e4: int | None = None
    age: timedelta | None = None

    def are_crossed_by(self, waiting: Sequence[LeafRecord], now: datetime) -> bool:
        """Tell whether what waits is to be closed now."""
        net_e4 = sum(row.due_e4 - row.credit_e4 for row in waiting)
        return bool(waiting) and (
            (self.cdrs is not None and len(waiting) >= self.cdrs)
            or (self.value_e4 is not None and abs(net_e4) >= self.value_e4)
            or (self.age is not None and min(row.accepted_at for row in waiting) + self.age <= now)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The stretch of time that a statement covers; its end is excluded."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A CDR in no statement yet, and from when it counts."""

    row: LeafRecord
    counts_from: datetime


class Closing:
    """Closes statements, one unit each."""

    def __init__(
        self,
        ports: Ports,
        metrics: SettlementMetrics,
        reached: Reached = lambda _: None,
        thresholds: Thresholds | None = None,
    ) -> None:
        self._ports = ports
        self._thresholds = thresholds
        self._metrics = metrics
        self._reached = reached
        self.under_way: Final = asyncio.Lock()
        """Held while pairs are closed one after the other: what is closed together is proposed together."""
        self.held: set[PairKey] = set()
        """Pairs of which the chain has statements that are not here (`adopting`)."""
        self.stands_by = False
        """Another process holds the lease."""
        self.chain_seen: Final = asyncio.Event()
        """Cleared by whoever must look at the chain first: rows that were restored would close what stands there."""
        self.chain_seen.set()

    async def close_due(self) -> int:
        """Close every period that is over, and what has crossed a threshold; return how many statements came of it."""
        if not self.chain_seen.is_set():
            return 0
        async with self.under_way:
            closed = await self._close_all(at_once=False)
            if self._thresholds is None:
                return closed
            crossed = [pair for pair in await self._pairs() if await self._has_crossed(pair, self._thresholds)]
            return closed + sum([await self._close_if_it_can(pair, at_once=True) for pair in crossed])

    async def close_now(self, pair: PairKey | None = None) -> int:
        """Close what was accepted so far, of one pair or of all; return how many statements came of it.

        Raises:
            ChainNotSeen: a process that has just begun could not look at the chain yet.
            StandsBy: it does not look, for another one sends.
        """
        try:
            async with asyncio.timeout(SEEN_WITHIN_S):
                await self.chain_seen.wait()
        except TimeoutError:
            raise (StandsBy if self.stands_by else ChainNotSeen) from None
        async with self.under_way:
            if pair is not None:
                return await self._close_pair(pair, at_once=True)
            return await self._close_all(at_once=True)

    async def _close_all(self, *, at_once: bool) -> int:
        """Close all pairs that can be, some side by side: while the database works for one, trees of another grow."""
        pairs = iter(await self._pairs())

        async def closed() -> int:
            return sum([await self._close_if_it_can(pair, at_once=at_once) for pair in pairs])

        working = [asyncio.ensure_future(closed()) for _ in range(PAIRS_AT_ONCE)]
        try:
            return sum(await asyncio.gather(*working))
        finally:
            for task in working:
                task.cancel()

    async def _has_crossed(self, pair: PairKey, thresholds: Thresholds) -> bool:
        """Tell whether what waits of a pair, in one of its currencies, has crossed a threshold."""
        now = self._ports.clock.now()
        async with self._ports.units.begin() as unit:
            agreement = await unit.table(AGREEMENT).get(*pair)
            if agreement is None:
                return False
            for currency in {each.currency for each in await openings_of(unit, *pair)}:
                waiting = await _closable(unit, agreement, currency, before=_next_second(now))
                if thresholds.are_crossed_by([each.row for each in waiting], now):
                    return True
        return False

    async def _pairs(self) -> list[PairKey]:
        pairs: list[PairKey] = []
        while True:
            async with self._ports.units.begin() as unit:
                rows = await unit.table(AGREEMENT).select(order_by=("cpo_id", "agreement_id"), offset=len(pairs))
            pairs += [(row.cpo_id, row.agreement_id) for row in rows]
            if len(rows) < SELECT_ROWS_MAX:
                return pairs

    async def _close_if_it_can(self, pair: PairKey, *, at_once: bool) -> int:
        """Close a pair; what is wrong with it is logged and holds up no other."""
        try:
            return await self._close_pair(pair, at_once=at_once)
        except Unavailable:
            raise
        except EmobilityError as error:
            rule, (cpo_id, agreement_id) = type(error).__name__, pair
            _log.error("settlement_not_closed", cpo=cpo_id.code, agreement=agreement_id, rule=rule, reason=str(error))
            return 0

    async def _close_pair(self, pair: PairKey, *, at_once: bool) -> int:
        closed = 0
        until = _next_second(self._ports.clock.now())
        while await self._close_one(pair, at_once=until if at_once else None):
            self._reached(CrashPoint.STATEMENT_CLOSED)
            closed += 1
        return closed

    async def _close_one(self, pair: PairKey, *, at_once: datetime | None) -> bool:
        """Close the pair's next statement, if there is one to close."""
        if pair in self.held:
            return False
        async with self._ports.units.begin() as unit:
            agreement = await unit.table(AGREEMENT).get_for_update(*pair)
            if agreement is None or agreement.terms is None:
                return False
            # Of the openings in one currency only the newest takes CDRs.
            newest = {each.currency: each for each in reversed(await openings_of(unit, *pair))}
            for opening in newest.values():
                if opening.book_agreement is None:
                    continue
                due = await self._due(unit, agreement, agreement.terms, opening, at_once=at_once)
                if due is not None:
                    await self.bind(unit, opening, *due)
                    await unit.commit()
                    return True
        return False

    async def adopt(
        self, unit: UnitOfWork, agreement: PairAgreement, opening: Opening, booked: BookedStatement
    ) -> StatementRecord | None:
        """Close the pair's next statement as one that stands on the chain; None: the CDRs that wait don't make it.

        More may wait than it was made of, such as what came late: then those are left out without which it is it.
        """
        end = booked.period_end
        waiting, with_held = [
            [each.row for each in await _closable(unit, agreement, opening.currency, before=end, with_held=with_held)]
            for with_held in (False, True)
        ]
        rows = _as_booked(waiting, booked)
        if rows is None and len(with_held) > len(waiting):  # some of it its CPO had let go
            rows = _as_booked(with_held, booked)
        if rows is None:
            return None
        start = min(rows[0].accepted_at, end - SECOND).replace(microsecond=0)
        if opening.closed_until is not None:
            start = min(max(start, opening.closed_until), end - SECOND)
        made = await self.bind(unit, opening, Span(start=start, end=end), rows)
        for row in set(rows) - set(waiting):
            await unit.table(HELD).remove(row.cpo_id, row.cdr_id)
        return made

    async def _due(
        self,
        unit: UnitOfWork,
        agreement: PairAgreement,
        terms: RoamingAgreement,
        opening: Opening,
        *,
        at_once: datetime | None,
    ) -> tuple[Span, Sequence[LeafRecord]] | None:
        """Return the span of the next statement and all its CDRs, perhaps more than one statement holds.

        None: nothing waits, or its period still runs.
        """
        running, _ = period_at(terms.statement_period, terms.time_zone, self._ports.clock.now())
        until = at_once or running
        waiting = await _closable(unit, agreement, opening.currency, before=until)
        if not waiting:
            return None
        # What was accepted before the last close and came late belongs to the period that runs since.
        closed_until = opening.closed_until or waiting[0].counts_from
        counts_from = max(waiting[0].counts_from, closed_until)
        if counts_from >= until and at_once is None:
            return None
        start, end = period_at(terms.statement_period, terms.time_zone, counts_from)
        end = min(end, until)
        if opening.closed_until is not None:
            start = max(start, opening.closed_until)
        rows = [each.row for each in waiting if each.counts_from < end]
        return Span(start=min(start, end - SECOND), end=end), rows

    async def bind(self, unit: UnitOfWork, opening: Opening, span: Span, due: Sequence[LeafRecord]) -> StatementRecord:
        """Make the statement of these CDRs, or of the first `LEAVES_MAX`, all in this unit."""
        assert opening.book_agreement is not None
        rows = due[:LEAVES_MAX]
        trees = StatementTrees([leaf_in_tree(row) for row in rows])
        due_e4, credit_e4 = trees.sum_root.due_e4, trees.sum_root.credit_e4
        if max(due_e4, credit_e4) > STATED_E4_MAX:
            raise SumOutOfRange(due_e4=due_e4, credit_e4=credit_e4)
        statement = statement_of(
            trees,
            agreement=opening.book_agreement[:AGREEMENT_BYTES],
            sequence=opening.last_sequence + 1,
            period_end=span.end,
        )
        record = self._record(opening, statement, span)
        await unit.table(STATEMENT).put(record)
        places = {leaf.cdr_key: place for place, leaf in enumerate(trees.leaves)}
        version, sequence = record.version, record.sequence
        in_it = [(row.cpo_id, row.cdr_id, version, sequence, places[row.cdr_key]) for row in rows]
        for start in range(0, len(in_it), SELECT_ROWS_MAX):
            some = in_it[start : start + SELECT_ROWS_MAX]
            await unit.table(LEAF).set_all(("version", "sequence", "place"), some)
        closed_until = opening.closed_until
        if len(rows) == len(due):  # else its span is not closed yet: the rest is no late comer
            closed_until = span.end if closed_until is None else max(span.end, closed_until)
        await unit.table(OPENING).put(replace(opening, last_sequence=record.sequence, closed_until=closed_until))
        unit.emit(self._closed(record))
        self._metrics.closed(record)
        return record

    def _record(self, opening: Opening, statement: PairStatement, span: Span) -> StatementRecord:
        return StatementRecord(
            cpo_id=opening.cpo_id,
            agreement_id=opening.agreement_id,
            version=opening.version,
            sequence=statement.sequence,
            emsp_id=opening.emsp_id,
            currency=opening.currency,
            state=StatementState.CLOSED,
            statement_hash=statement.struct_hash,
            book_agreement=opening.book_agreement or b"",
            evidence_root=statement.evidence_root,
            sum_root=statement.sum_root,
            due_e4=statement.due_e4,
            credit_e4=statement.credit_e4,
            count=statement.count,
            period_start=span.start,
            period_end=span.end,
            closed_at=self._ports.clock.now(),
            batch_id=None,
            position=None,
            waiting=None,
            final_at=None,
        )

    def _closed(self, record: StatementRecord) -> Envelope:
        event = StatementClosed(
            statement=name_of(record),
            emsp_id=record.emsp_id,
            currency=record.currency,
            statement_hash=record.statement_hash,
            period_start=record.period_start,
            period_end=record.period_end,
            due_e4=record.due_e4,
            credit_e4=record.credit_e4,
            count=record.count,
            evidence_root=record.evidence_root,
            sum_root=record.sum_root,
            closed_at=record.closed_at,
        )
        return fact(event, record.statement_hash.hex(), at=record.closed_at)


def _as_booked(waiting: Sequence[LeafRecord], booked: BookedStatement) -> list[LeafRecord] | None:
    """Return those of the CDRs that wait which make a statement that stands on the chain; None: none do."""
    surplus = len(waiting) - booked.count
    if surplus < 0:
        return None
    over = tuple(map(operator.sub, _sums_of(waiting), (booked.due_e4, booked.credit_e4)))
    ways = combinations(range(len(waiting) - 1, -1, -1), surplus)
    choices = islice(ways, max(1, SUMMED_MAX // max(1, surplus)))
    fitting = (choice for choice in choices if _sums_of([waiting[place] for place in choice]) == over)
    for left_out in map(set, islice(fitting, max(1, HASHED_MAX // booked.count))):
        rows = [row for place, row in enumerate(waiting) if place not in left_out]
        made = statement_of(
            StatementTrees([leaf_in_tree(row) for row in rows]),
            agreement=booked.agreement,
            sequence=booked.sequence,
            period_end=booked.period_end,
        )
        if made.struct_hash == booked.struct_hash:
            return rows
    return None


def name_of(record: StatementRecord) -> StatementName:
    """Return what events call a statement."""
    return StatementName(
        cpo_id=record.cpo_id, agreement_id=record.agreement_id, version=record.version, sequence=record.sequence
    )


def leaf_in_tree(row: LeafRecord) -> Leaf:
    """Return a row's leaf."""
    return Leaf(
        kind=LeafKind.CREDIT if row.is_credit else LeafKind.CHARGE,
        cdr_key=row.cdr_key,
        import_wh=row.import_wh,
        export_wh=row.export_wh,
        commitment=row.commitment,
        meter=row.meter,
        due_e4=row.due_e4,
        credit_e4=row.credit_e4,
    )


def pair_statement(record: StatementRecord) -> PairStatement:
    """Return what the parties sign.

    Of a confidential statement it is what names it to them, under its agreement's first bytes; they sign another form.
    """
    return PairStatement(
        agreement=record.book_agreement[:AGREEMENT_BYTES],
        evidence_root=record.evidence_root,
        sum_root=record.sum_root,
        due_e4=record.due_e4,
        credit_e4=record.credit_e4,
        count=record.count,
        sequence=record.sequence,
        period_end=record.period_end,
    )


def _sums_of(rows: Sequence[LeafRecord]) -> tuple[int, int]:
    """Return what is due and what is credited, in ten-thousandths."""
    return sum(row.due_e4 for row in rows), sum(row.credit_e4 for row in rows)


async def leaves_of(unit: UnitOfWork, record: StatementRecord) -> list[LeafRecord]:
    """Return a statement's CDRs in the order of their places. Raises `StatementDiffers` when some are gone."""
    where = {
        "cpo_id": record.cpo_id,
        "agreement_id": record.agreement_id,
        "version": record.version,
        "sequence": record.sequence,
    }
    rows: list[LeafRecord] = []
    while len(rows) < record.count:
        page = await unit.table(LEAF).select(where, order_by=("place",), offset=len(rows))
        if not page:
            raise StatementDiffers(name_of(record))
        rows += page
    return rows


async def _closable(
    unit: UnitOfWork, agreement: PairAgreement, currency: str, *, before: datetime, with_held: bool = False
) -> list[Waiting]:
    """Return unbatched CDRs that count before a moment, in that order: a credit never before its original.

    Of more than a statement holds, at least one more than that. Without those that are held, unless told otherwise.
    """
    rows: list[LeafRecord] = []
    while len(rows) <= LEAVES_MAX:
        page = await unit.table(LEAF).select(
            _unbatched(agreement, currency),
            before=("accepted_at", before),
            order_by=("accepted_at",),
            offset=len(rows),
        )
        rows += page
        if len(page) < SELECT_ROWS_MAX:
            break
    of_pair = {"cpo_id": agreement.cpo_id, "agreement_id": agreement.agreement_id}
    held = {} if with_held else {each.cdr_id: each.kind for each in await rows_of(unit, HELD, of_pair)}
    rows = [row for row in rows if row.cdr_id not in held]
    originals: dict[str | None, LeafRecord] = {row.cdr_id: row for row in rows if not row.is_credit}
    missing = tuple(
        {row.credit_reference_id: None for row in rows if row.is_credit and row.credit_reference_id not in originals}
    )
    for start in range(0, len(missing), SELECT_ROWS_MAX):
        ids = missing[start : start + SELECT_ROWS_MAX]
        for row in await unit.table(LEAF).select({"cpo_id": agreement.cpo_id, "cdr_id": ids}):
            is_stated_as_copy = held.get(row.cdr_id) is DisputeKind.DUPLICATE
            if row.sequence is not None or is_stated_as_copy:  # else it waits, and its credit with it
                originals[row.cdr_id] = row
    waiting = [
        Waiting(row=row, counts_from=counts_from) for row in rows if (counts_from := _counts_from(row, originals))
    ]
    waiting.sort(key=lambda each: (each.counts_from, each.row.is_credit, each.row.cdr_id))
    return [each for each in waiting if each.counts_from < before]


def _counts_from(row: LeafRecord, originals: Mapping[str | None, LeafRecord]) -> datetime | None:
    """Return from when a CDR may stand in a statement; None: a credit whose original is not here yet."""
    if not row.is_credit:
        return row.accepted_at
    original = originals.get(row.credit_reference_id)
    return None if original is None else max(row.accepted_at, original.accepted_at)


def _unbatched(agreement: PairAgreement, currency: str) -> dict[str, object]:
    return {
        "cpo_id": agreement.cpo_id,
        "agreement_id": agreement.agreement_id,
        "currency": currency,
        "sequence": None,
    }


def _next_second(at: datetime) -> datetime:
    """A period ends at a whole second, excluded, so this one still takes what was accepted just now."""
    return at.replace(microsecond=0) + SECOND
