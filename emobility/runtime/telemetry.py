"""What operators see: logs as JSON lines without secrets or personal data, metrics, liveness and readiness.

Redaction is by name and by shape: a field whose name says that it is a secret or a person loses its value, and so does
whatever looks like a credential inside a text. It runs last, over our own lines, those of libraries and tracebacks.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from types import TracebackType
from typing import Any, Final, TextIO

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

REDACTED: Final = "[redacted]"
SECRET_WORDS: Final = ("token", "password", "passwd", "secret", "authorization", "credential", "master_key", "cookie")
PERSONAL_WORDS: Final = (
    *("idtag", "id_tag", "contract_id", "contractid", "emaid", "email", "card_number", "visual_number"),
    *("raw_frame", "ocmf", "signed_data"),
)
PLAIN_NAMES: Final = frozenset({"token_kind", "token_type", "token_hash", "has_token"})
"""Names that contain such a word and carry no secret."""
TEXT_CHARACTERS_MAX: Final = 8_192
"""A longer text in a log line is cut."""
DEPTH_MAX: Final = 8
_CREDENTIAL_IN_TEXT: Final = (
    (re.compile(r"\b(Bearer|Token|Basic)\s+[A-Za-z0-9+/=_.~-]{6,}", re.IGNORECASE), rf"\1 {REDACTED}"),
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:/@]*):[^\s@/]+@", re.IGNORECASE), rf"\1:{REDACTED}@"),
    (
        re.compile(
            r"""((?:"|')?\b\w*(?:token|password|secret|idtag|contract_?id|emaid)\w*(?:"|')?\s*[:=]\s*)"""
            r"""("[^"]*"|'[^']*'|[^\s,;&)}\]\[{"']+)""",
            re.IGNORECASE,
        ),
        rf"\1{REDACTED}",
    ),
)
SECONDS_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

Check = Callable[[], Awaitable[bool]]


def configure_logging(*, process: str, level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Let this process log JSON lines, its libraries included, each with the name of the process."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )

    def name_the_process(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["process"] = process
        return event

    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                name_the_process,
                redact,
                structlog.processors.JSONRenderer(default=str),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for noisy in ("httpx", "httpcore", "kafka", "websockets"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    sys.excepthook = log_death


def log_death(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Log what ends this process, each cause of a task group by itself (a `sys.excepthook`)."""
    if isinstance(error, BaseExceptionGroup):
        for cause in error.exceptions:
            log_death(type(cause), cause, cause.__traceback__)
    elif isinstance(error, Exception):
        structlog.get_logger(__name__).critical("process_failed", reason=str(error), exc_info=error)
    else:
        sys.__excepthook__(kind, error, trace)  # Ctrl-C


def redact(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Take secrets and personal data out of a log line; the last processor before it is rendered."""
    return {str(name): _redacted(str(name), value, DEPTH_MAX) for name, value in event.items()}


def redact_text(text: str) -> str:
    """Take what looks like a credential out of a text, and cut it to `TEXT_CHARACTERS_MAX`."""
    for pattern, instead in _CREDENTIAL_IN_TEXT:
        text = pattern.sub(instead, text)
    return text if len(text) <= TEXT_CHARACTERS_MAX else text[:TEXT_CHARACTERS_MAX] + "…"


def _redacted(name: str, value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value if not _is_secret(name) or value is None or isinstance(value, bool) else REDACTED
    if _is_secret(name):
        return REDACTED
    if depth == 0:
        return "…"
    if isinstance(value, Mapping):
        return {str(key): _redacted(str(key), item, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted("", item, depth - 1) for item in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(value)} bytes]"
    return redact_text(str(value))


def _is_secret(name: str) -> bool:
    folded = name.lower().replace("-", "_")
    return folded not in PLAIN_NAMES and any(word in folded for word in (*SECRET_WORDS, *PERSONAL_WORDS))


class Metrics:
    """The metrics of one process. Labels are bounded: never a station's, a driver's or a session's id."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._known: dict[str, Counter | Gauge | Histogram] = {}

    def counter(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Counter:
        """Return the counter of this name, made at the first call."""
        made = self._known.get(name) or Counter(name, help_text, labels, registry=self._registry)
        assert isinstance(made, Counter), f"{name} is not a counter"
        self._known[name] = made
        return made

    def gauge(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Gauge:
        """Return the gauge of this name, made at the first call."""
        made = self._known.get(name) or Gauge(name, help_text, labels, registry=self._registry)
        assert isinstance(made, Gauge), f"{name} is not a gauge"
        self._known[name] = made
        return made

    def histogram(
        self, name: str, help_text: str, labels: Sequence[str] = (), buckets: Sequence[float] = SECONDS_BUCKETS
    ) -> Histogram:
        """Return the histogram of this name, made at the first call."""
        made = self._known.get(name) or Histogram(name, help_text, labels, registry=self._registry, buckets=buckets)
        assert isinstance(made, Histogram), f"{name} is not a histogram"
        self._known[name] = made
        return made

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)


def health_routes(metrics: Metrics, *, ready: Mapping[str, Check] | None = None) -> list[BaseRoute]:
    """Return the routes every process serves.

    Args:
        metrics: What `/metrics` shows.
        ready: What `/readyz` asks, by name; a check that says no, or fails, makes it 503. `/livez` asks nothing: it
            shows that the loop turns.
    """
    checks = dict(ready or {})

    async def livez(_: Request) -> Response:
        return JSONResponse({"status": "live"})

    async def readyz(_: Request) -> Response:
        answers = {name: await _passes(check) for name, check in sorted(checks.items())}
        return JSONResponse({"checks": answers}, status_code=200 if all(answers.values()) else 503)

    async def exposition(_: Request) -> Response:
        return Response(metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    return [Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", exposition)]


async def _passes(check: Check) -> bool:
    try:
        return await check()
    except Exception as error:  # noqa: BLE001  # whatever a check fails with, the answer is "not ready"
        structlog.get_logger(__name__).warning("readiness check failed", error=repr(error))
        return False
