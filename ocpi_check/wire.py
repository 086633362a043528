"""Exact JSON, and HTTP as a counterparty speaks it; keeps what was sent and what came for the report."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

TIMEOUT_S: Final = 30.0
"""How long a platform under test may take; a hub that waits for its receivers takes long itself."""
_NUMBER: Final = re.compile(r'"\\u0000([^"\\]*)\\u0000"')
_NEXT: Final = re.compile(r'<([^<>]*)>\s*;[^,]*\brel\s*=\s*"?next"?', re.IGNORECASE)


def read_json(text: bytes | str) -> Any:
    """Read JSON; numbers with a point are decimals, digit for digit. Raises `ValueError`."""
    try:
        return json.loads(text, parse_float=Decimal)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def write_json(value: Any) -> bytes:
    """Write JSON; a Decimal is a number as it stands."""
    text = json.dumps(value, default=lambda number: f"\x00{number}\x00", ensure_ascii=True)
    return _NUMBER.sub(r"\1", text).encode()


def token_header(token: str) -> str:
    """Return the value of Authorization (transport_and_format, authorization header)."""
    return f"Token {base64.b64encode(token.encode()).decode()}"


def next_page(link: str | None) -> str | None:
    """Return the URL of `Link: <...>; rel="next"`."""
    found = _NEXT.search(link or "")
    return found.group(1) if found else None


@dataclass(frozen=True, slots=True)
class Party:
    """A party: country code and party id, as they are spelled."""

    country_code: str
    party_id: str

    @classmethod
    def of(cls, text: str) -> Party:
        """Read `NL-TNM` or `NLTNM`. Raises `ValueError`."""
        plain = text.replace("-", "").replace("*", "")
        if len(plain) != 5 or not plain.isalnum():
            raise ValueError(f"{text!r} is no party: two letters of a country and three of the party, as in NL-TNM")
        return cls(plain[:2], plain[2:])

    def __str__(self) -> str:
        return f"{self.country_code}-{self.party_id}"

    @property
    def path(self) -> str:
        """As it stands in the URL of an object it owns."""
        return f"{self.country_code}/{self.party_id}"

    def headers(self, direction: str) -> dict[str, str]:
        """As `to` or `from` of a message."""
        return {f"OCPI-{direction}-country-code": self.country_code, f"OCPI-{direction}-party-id": self.party_id}


def party_in(headers: Mapping[str, str], direction: str) -> Party | None:
    """Return whom the routing headers name, None when one is missing. `headers` match in any case."""
    country, party = headers.get(f"ocpi-{direction}-country-code"), headers.get(f"ocpi-{direction}-party-id")
    return Party(country, party) if country and party else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a platform answered; `sent` says to what."""

    sent: str
    http: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def envelope(self) -> dict[str, Any]:
        """The JSON object, empty when the body is none."""
        try:
            value = read_json(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    @property
    def code(self) -> int | None:
        """OCPI's `status_code`."""
        code = self.envelope.get("status_code")
        return code if isinstance(code, int) else None

    @property
    def data(self) -> Any:
        """The envelope's `data`."""
        return self.envelope.get("data")

    @property
    def is_success(self) -> bool:
        """HTTP 2xx and S 1xxx."""
        return 200 <= self.http < 300 and self.code is not None and 1000 <= self.code < 2000

    def __str__(self) -> str:
        message = self.envelope.get("status_message")
        told = f" ({str(message)[:120]})" if message else ""
        return f"HTTP {self.http}, " + (f"S {self.code}{told}" if self.code is not None else "no OCPI envelope")


class Unreachable(Exception):
    """The platform under test did not answer at all."""


class Caller:
    """Sends requests as they are given."""

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self._client = httpx.AsyncClient(timeout=timeout_s, follow_redirects=False, trust_env=False)
        self._count = 0

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def message_id(self) -> str:
        """Return an id that this caller gave to no other message."""
        self._count += 1
        return f"check-{id(self):x}-{self._count}"

    async def call(self, method: str, url: str, *, headers: Mapping[str, str], body: Any = None) -> Answer:
        """Call once. `body`: bytes as they are, or a JSON value. Raises `Unreachable`."""
        content = body if isinstance(body, bytes) else b"" if body is None else write_json(body)
        sent = {"X-Request-ID": self.message_id(), "X-Correlation-ID": self.message_id(), **headers}
        if content:
            sent = {"Content-Type": "application/json", **sent}
        sent = {name: value for name, value in sent.items() if value != ""}
        try:
            got = await self._client.request(method, url, headers=sent, content=content)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unreachable(f"{method} {url}: {error or type(error).__name__}") from error
        lower = {name.lower(): value for name, value in got.headers.items()}
        return Answer(sent=_described(method, url, sent), http=got.status_code, headers=lower, body=got.content)


def _described(method: str, url: str, headers: Mapping[str, str]) -> str:
    parts = urlsplit(url)
    lower = {name.lower(): value for name, value in headers.items()}
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    routed = "".join(f" {side}={party_in(lower, side)}" for side in ("from", "to") if party_in(lower, side))
    return f"{method} {target}{routed}"
