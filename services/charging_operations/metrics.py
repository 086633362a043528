"""What the CPO back office shows of its work. Labels are bounded: reasons and stages, never a station or a driver.

Counted when it happens inside a unit of work: a unit that is rolled back and tried again counts twice. Books are the
audit's business, not these figures'.
"""

from __future__ import annotations

from collections.abc import Mapping

from emobility.runtime.telemetry import Metrics


class OperationsMetrics:
    """Counters of decisions, signed records, quarantine and energy."""

    def __init__(self, metrics: Metrics) -> None:
        self._authorizations = metrics.counter(
            "authorizations_total", "Decisions about tokens", ("is_accepted", "reason")
        )
        self._records = metrics.counter("ocmf_verifications_total", "Signed charges verified", ("result",))
        self._quarantined = metrics.counter("sessions_quarantined_total", "Entries into quarantine", ("reason",))
        self._ending = metrics.gauge(
            "certificates_ending_soon", "Certificates that end within 30 days or have ended, by kind", ("kind",)
        )
        self._security = metrics.counter(
            "station_security_events_total", "Security events that stations reported", ("event", "is_critical")
        )
        self._energy = metrics.counter("session_energy_wh_total", "Energy of closed sessions in Wh", ("stage",))

    def security_event(self, event: str, *, is_critical: bool) -> None:
        """A station reported a security event; `event` is a name of the standard, or one for all others."""
        self._security.labels(event, str(is_critical).lower()).inc()

    def authorized(self, *, is_accepted: bool, reason: str) -> None:
        """A decision was made."""
        self._authorizations.labels(str(is_accepted).lower(), reason).inc()

    def certificates_end(self, count_by_kind: Mapping[str, int]) -> None:
        """So many certificates of each kind end soon; kinds are those of OCPP and of the gateway's files."""
        self._ending.clear()
        for kind, count in count_by_kind.items():
            self._ending.labels(kind).set(count)

    def verified(self, result: str) -> None:
        """The signed records of a charge were judged."""
        self._records.labels(result).inc()

    def quarantined(self, reason: str, energy_wh: int) -> None:
        """Energy entered quarantine."""
        self._quarantined.labels(reason).inc()
        self._energy.labels("quarantined").inc(energy_wh)

    def billed(self, energy_wh: int) -> None:
        """A CDR was issued."""
        self._energy.labels("cdr").inc(energy_wh)
