"""What an operator sees. Labels are bounded: never a station, a driver or anything a peer chose."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class GatewayMetrics:
    """The gateway's metrics, in a registry of their own so that many gateways fit one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.connections_active = Gauge(
            "ocpp_connections_active", "Stations connected", ["version", "profile"], registry=self.registry
        )
        self.connections = Counter(
            "ocpp_connections", "Connections by what became of them", ["result"], registry=self.registry
        )
        self.auth_failures = Counter(
            "ocpp_auth_failures", "Refused connections by reason", ["reason"], registry=self.registry
        )
        self.duplicate_identity = Counter(
            "ocpp_duplicate_identity", "Second connections of one identity", ["outcome"], registry=self.registry
        )
        self.messages = Counter(
            "ocpp_messages", "CALLs by action and result", ["action", "direction", "result"], registry=self.registry
        )
        self.handle_seconds = Histogram(
            "ocpp_message_handle_seconds", "From CALL to answer", ["action"], registry=self.registry
        )
        self.call_timeouts = Counter(
            "ocpp_call_timeout", "CALLs of ours without an answer", ["action"], registry=self.registry
        )
        self.frames_rejected = Counter(
            "ocpp_frames_rejected", "Frames that were not what they should be", ["reason"], registry=self.registry
        )
        self.certificate_expires_at = Gauge(
            "gateway_certificate_expires_at_seconds",
            "When a certificate or a revocation list of the gateway ends, Unix time",
            ["kind"],
            registry=self.registry,
        )
        self.tls_reloads = Counter(
            "gateway_tls_reloads", "Certificates read anew, by what became of it", ["result"], registry=self.registry
        )
        self._answered: dict[str, tuple[Counter, Histogram]] = {}
        self.commit_pending = Gauge("gateway_commit_pending", "Events that are not durable yet", registry=self.registry)

    def answered(self, action: str, took_s: float) -> None:
        """Count a CALL of a station that got its CALLRESULT; `action` is one of the catalogue."""
        found = self._answered.get(action)
        if found is None:
            found = self.messages.labels(action, "in", "result"), self.handle_seconds.labels(action)
            self._answered[action] = found
        found[0].inc()
        found[1].observe(took_s)
