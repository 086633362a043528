"""What the settlement shows of its work. Labels are bounded: kinds, states and reasons, never a party or a CDR.

Counted when it happens inside a unit of work: a unit that is rolled back and tried again counts twice. Books are the
audit's business, not these figures'.
"""

from __future__ import annotations

from emobility.runtime.telemetry import Metrics
from services.settlement.records import LeafRecord, StatementRecord


class SettlementMetrics:
    """Counters of leaves and statements."""

    def __init__(self, metrics: Metrics) -> None:
        self._leaves = metrics.counter("settlement_leaves_total", "Accepted CDRs taken in", ("kind",))
        self._statements = metrics.counter(
            "settlement_statements_total", "Statements, by what became of them", ("what",)
        )

    def closed(self, record: StatementRecord) -> None:
        """A statement was closed."""
        del record
        self._statements.labels("closed").inc()

    def taken(self, leaf: LeafRecord) -> None:
        """A CDR was booked."""
        self._leaves.labels("credit" if leaf.is_credit else "charge").inc()
