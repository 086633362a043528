"""What the hub shows of its work. Labels are bounded: module, platform, status code."""

from __future__ import annotations

from collections.abc import Callable

from emobility.runtime.telemetry import Metrics
from roaming_hub.bulkhead import Bulkhead, Circuits


class HubMetrics:
    """`ocpi_requests_total{module,peer,status}`, `ocpi_request_seconds{module}`, `ocpi_requests_in_flight`."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self._requests = metrics.counter(
            "ocpi_requests_total", "Requests through the hub by receiver and status", ("module", "peer", "status")
        )
        self._broadcasts = metrics.counter(
            "ocpi_broadcast_receivers_total", "Receivers of broadcasts by outcome", ("module", "outcome")
        )
        self._seconds = metrics.histogram("ocpi_request_seconds", "From request to answer at the hub", ("module",))

    def watch(self, bulkhead: Bulkhead, circuits: Circuits) -> None:
        """Show how many calls are under way, and how many platforms are not called since they did not answer."""
        self.metrics.gauge("ocpi_circuits_open", "Platforms not called since they did not answer").set_function(
            lambda: float(circuits.open)
        )
        self.metrics.gauge("ocpi_requests_in_flight", "Calls to receivers under way").set_function(
            lambda: float(bulkhead.in_flight)
        )

    def watch_broadcasts(self, waiting: Callable[[], float]) -> None:
        """Show how many messages of broadcasts wait for their receivers."""
        self.metrics.gauge("ocpi_broadcast_waiting", "Messages of broadcasts not settled yet").set_function(waiting)

    def broadcast(self, module: str, outcome: str, receivers: int) -> None:
        """A broadcast has an outcome at some receivers."""
        if receivers:
            self._broadcasts.labels(module, outcome).inc(receivers)

    def forwarded(self, module: str, peer_id: str, status_code: int) -> None:
        """A receiver answered."""
        self._requests.labels(module, peer_id, str(status_code)).inc()

    def refused(self, module: str, status_code: int) -> None:
        """The hub answered in its own name."""
        self._requests.labels(module, "hub", str(status_code)).inc()

    def took(self, module: str, duration_s: float) -> None:
        """A request was answered."""
        self._seconds.labels(module).observe(duration_s)
