"""Outgoing HTTP as the business sees it: one call, bounded, with a clear reason when it fails."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import urlsplit

from emobility.domain.errors import RuleBroken, Unavailable

TIMEOUT_S: Final = 5.0
RESPONSE_BYTES_MAX: Final = 1_048_576
HOST_CHARACTERS_MAX: Final = 260
"""Of a host and its port, where a URL is told of; a name has 253 at most."""
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+: [\t\x20-\x7e]*")


class PeerUnreachable(Unavailable):
    """No connection could be made."""


class PeerTimedOut(Unavailable):
    """The peer did not answer in time; whether it acted is unknown."""


class EgressRefused(RuleBroken):
    """The guard refused: scheme, host not registered, an address inside, or a header not plainly written."""

    def __init__(self, url: str, reason: str) -> None:
        self.origin = origin_text(url)
        self.reason = reason
        super().__init__(f"{self.origin} is not called: {reason}")


def origin_text(url: str) -> str:
    """Return all that errors, logs and rows may tell of a URL, as it was written: its path may name a token."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "a URL that is none"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2][:HOST_CHARACTERS_MAX]}"


def header_line(name: str, value: str) -> str | None:
    """Return a header as it is sent; None for one that could be read as another or as more than one."""
    line = f"{name}: {value}"
    return line if _HEADER.fullmatch(line) else None


class ResponseTooLarge(RuleBroken):
    """The peer's answer exceeds `RESPONSE_BYTES_MAX`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpResponse:
    """A peer's answer; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpClient(Protocol):
    """Calls counterparties. The real one guards: scheme, registered hosts, pinned address, no redirects, limits."""

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes = b"",
        timeout_s: float = TIMEOUT_S,
    ) -> HttpResponse:
        """Call a URL once.

        Raises:
            EgressRefused: the guard refused the URL, or a header (`header_line`).
            PeerUnreachable: no connection.
            PeerTimedOut: no answer in `timeout_s`.
            ResponseTooLarge: the body exceeds the limit.
        """

    def allow_origin(self, url: str) -> None:
        """Register the origin of a counterparty's URL (from its registration) as one that may be called."""
