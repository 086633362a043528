"""What an operator sees. Labels are bounded: never a station, a driver or anything a peer chose."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

BUCKETS_S: Final = Histogram.DEFAULT_BUCKETS
"""Upper bounds, the last of them infinite."""


@dataclass(slots=True)
class _Answers:
    """What one action's answers took."""

    counts: list[int] = field(default_factory=lambda: [0] * len(BUCKETS_S))
    sum_s: float = 0.0
    told: int = 0
    """How many of them `messages` knows."""


class GatewayMetrics(Collector):
    """The gateway's metrics, in a registry of their own so that many gateways fit one process.

    Answers are counted here and handed over when somebody looks: the library takes a lock for each number, which would
    be a twentieth of what a message costs.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._answers: dict[str, _Answers] = {}
        self.registry.register(self)  # before `messages`, so that `collect` comes before it is read
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
        self.call_timeouts = Counter(
            "ocpp_call_timeout", "CALLs of ours without an answer", ["action"], registry=self.registry
        )
        self.frames_rejected = Counter(
            "ocpp_frames_rejected", "Frames that were not what they should be", ["reason"], registry=self.registry
        )
        self.tolerated = Counter(
            "ocpp_quirks_tolerated",
            "Messages read as a quirk profile says, by what it tolerated",
            ["action", "tolerance"],
            registry=self.registry,
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
        self.commit_pending = Gauge("gateway_commit_pending", "Events that are not durable yet", registry=self.registry)

    def answered(self, action: str, took_s: float) -> None:
        """Count a CALL of a station that got its CALLRESULT; `action` is one of the catalogue."""
        answers = self._answers.get(action)
        if answers is None:
            answers = self._answers[action] = _Answers()
        answers.counts[bisect_left(BUCKETS_S, took_s)] += 1
        answers.sum_s += took_s

    def collect(self) -> Iterator[Metric]:
        """Hand over what was counted since the last look."""
        times = HistogramMetricFamily("ocpp_message_handle_seconds", "From CALL to answer", labels=["action"])
        bounds = [*map(str, BUCKETS_S[:-1]), "+Inf"]
        for action, answers in self._answers.items():
            *_, count = cumulative = list(accumulate(answers.counts))
            times.add_metric([action], list(zip(bounds, cumulative, strict=True)), answers.sum_s)
            self.messages.labels(action, "in", "result").inc(count - answers.told)
            answers.told = count
        yield times
