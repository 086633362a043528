"""What the settlement shows of its work. Labels are bounded: kinds, states and reasons, never a party or a CDR.

Counted when it happens inside a unit of work: a unit that is rolled back and tried again counts twice. Books are the
audit's business, not these figures'.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from datetime import timedelta

from emobility.domain.batch.disputes import DisputeKind
from emobility.runtime.telemetry import Metrics
from services.settlement.dispute_records import DisputeRecord
from services.settlement.records import LeafRecord, StatementRecord, StatementState


class SettlementMetrics:
    """Counters of leaves and statements."""

    def __init__(self, metrics: Metrics) -> None:
        self._leaves = metrics.counter("settlement_leaves_total", "Accepted CDRs taken in", ("kind",))
        self._statements = metrics.counter(
            "settlement_statements_total", "Statements, by what became of them", ("what",)
        )

        self._lost = metrics.counter("settlement_final_blocks_lost_total", "Times that the chain lost final blocks")
        self._waiting = metrics.gauge("settlement_chain_unavailable", "1 while the chain does not answer")
        self._alarm = metrics.gauge("settlement_chain_alarm", "1 while the chain is another one than before")
        self._sent = metrics.counter("settlement_transactions_total", "What befell transactions", ("what",))
        self._held = metrics.gauge("settlement_sending_held", "1 while nothing is signed for this reason", ("reason",))
        self._sender = metrics.gauge("settlement_lease_held", "1 while this process sends")
        self._dissent = metrics.counter(
            "settlement_chain_dissent_total", "Endpoints that said otherwise than the quorum", ("endpoint", "question")
        )

        self._heard = metrics.counter(
            "settlement_disputes_heard_total",
            "Cases that others raised, by kind and whether we hold the leaf",
            ("kind", "leaf"),
        )
        self._due = metrics.gauge(
            "settlement_disputes_due_seconds",
            "Until silence loses what is asked of a party here; infinite: nothing",
            ("kind",),
        )

        self._guarantee_due = metrics.gauge(
            "settlement_guarantee_due_seconds",
            "Until the first guarantee of an MSP here may be called; infinite: nothing is owed",
        )
        self._guarantee_due.set(math.inf)
        self._taken_out = metrics.gauge(
            "settlement_taken_out", "What a verdict took out, and waits for its parties' word", ("what",)
        )

    def guarantee_due(self, left: timedelta | None) -> None:
        """What MSPs here owe under a guarantee was looked at."""
        self._guarantee_due.set(math.inf if left is None else left.total_seconds())

    def taken_out(self, *, statements: int, cdrs: int) -> None:
        """What verdicts took out was looked at."""
        self._taken_out.labels("statements").set(statements)
        self._taken_out.labels("cdrs").set(cdrs)

    def restated(self) -> None:
        """A statement that a verdict took out was stated again."""
        self._statements.labels("restated").inc()

    def heard_of(self, row: DisputeRecord) -> None:
        """Somebody raised a case."""
        self._heard.labels(row.kind.value, "unknown" if row.cdr_id is None else "known").inc()

    def answers_due(self, left: Mapping[DisputeKind, timedelta | None]) -> None:
        """The nearest deadline of each kind was looked at."""
        for kind, until in left.items():
            self._due.labels(kind.value).set(math.inf if until is None else until.total_seconds())

    def befell(self, what: str) -> None:
        """Something befell a transaction: a word of `sending`."""
        self._sent.labels(what).inc()

    def held(self, reason: str, *, is_held: bool) -> None:
        """Nothing is signed for a reason, a `spending.Hold` or `adopting.BEHIND`; or it is no longer."""
        self._held.labels(reason).set(int(is_held))

    def sends(self, *, is_sender: bool) -> None:
        """This process holds the lease, or another does."""
        self._sender.set(int(is_sender))

    def dissented(self, endpoint: str, question: str) -> None:
        """An endpoint contradicted the others."""
        self._dissent.labels(endpoint, question).inc()

    def waits(self, *, is_waiting: bool) -> None:
        """The chain answered, or it did not."""
        self._waiting.set(int(is_waiting))

    def became(self, state: StatementState) -> None:
        """A statement became final or unfunded."""
        self._statements.labels(state.value.lower()).inc()

    def lost_blocks(self) -> None:
        """Final blocks were gone."""
        self._lost.inc()

    def alarmed(self, *, is_alarmed: bool) -> None:
        """The chain was looked at."""
        self._alarm.set(int(is_alarmed))

    def closed(self, record: StatementRecord) -> None:
        """A statement was closed."""
        del record
        self._statements.labels("closed").inc()

    def taken(self, leaves: Collection[LeafRecord], *, but_not: Collection[LeafRecord]) -> None:
        """CDRs were booked, but for some that were before."""
        for kind, is_credit in (("credit", True), ("charge", False)):
            taken, known = (sum(leaf.is_credit is is_credit for leaf in some) for some in (leaves, but_not))
            self._leaves.labels(kind).inc(taken - known)
