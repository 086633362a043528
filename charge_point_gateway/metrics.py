"""What an operator sees. Labels are bounded: never a station, a driver or anything a peer chose."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class GatewayMetrics:
    """The gateway's metrics, in a registry of their own so that many gateways fit one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.connections_active = Gauge(
            "ocpp_connections_active", "Stations connected", ["version"], registry=self.registry
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
        self.commit_pending = Gauge("gateway_commit_pending", "Events that are not durable yet", registry=self.registry)
