"""Makes kafka-python's clients so that brokers that are away cost nothing.

kafka-python 3.0.12 leaves two things behind: the socket of a connection that was refused, until the garbage collector
finds it, and, when no broker answers in time, the whole unfinished client with its thread, for good. Whoever tries
again and again would run out of descriptors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from kafka.net.compat import KafkaNetClient
from kafka.net.inet import KafkaNetSocket

T = TypeVar("T")

REQUEST_TIMEOUT_MS: Final = 5_000
RECONNECT_BACKOFF_MAX_MS: Final = 1_000


class _ClosedWhenRefused(KafkaNetSocket):  # type: ignore[misc]  # kafka-python is untyped
    """A connection without a proxy; its socket is closed when nobody takes it."""

    SCHEMES = ("direct",)  # kafka-python finds the class by the scheme of `proxy_url`

    async def sock_connect(self, net: Any, sock: Any, sockaddr: Any, timeout_at: float | None = None) -> Any:
        """Return the connected socket. Raises what kafka-python raises."""
        try:
            return await super().sock_connect(net, sock, sockaddr, timeout_at)
        except BaseException:  # also when a client that closes drops the attempt
            sock.close()
            raise


def connected(kind: Callable[..., T], bootstrap: str, **settings: Any) -> T:
    """Return a client that a broker answered.

    Args:
        kind: `KafkaProducer`, `KafkaConsumer` or `KafkaAdminClient`.
        bootstrap: `host:port[,host:port]` of the brokers.
        settings: What else the client is told.

    Raises:
        KafkaError: no broker answers; everything that was begun is closed.
    """
    begun: list[Any] = []

    def begin(**given: Any) -> Any:
        begun.append(KafkaNetClient(**given))
        return begun[-1]

    try:
        return kind(
            bootstrap_servers=bootstrap,
            proxy_url="direct://",
            kafka_client=begin,
            reconnect_backoff_max_ms=RECONNECT_BACKOFF_MAX_MS,
            **settings,
        )
    except BaseException:
        for client in begun:
            client.close()
        raise
