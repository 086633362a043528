"""OCPI's HTTP headers (section 4): authorisation, message ids, routing, paging. Names are matched in any case."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from emobility.domain.errors import MalformedInput
from emobility.domain.identifiers import MalformedPartyId, PartyId

AUTHORIZATION: Final = "Authorization"
REQUEST_ID: Final = "X-Request-ID"
CORRELATION_ID: Final = "X-Correlation-ID"
TOTAL_COUNT: Final = "X-Total-Count"
LIMIT: Final = "X-Limit"
LINK: Final = "Link"
MESSAGE_ID_CHARACTERS_MAX: Final = 64
"""An id longer than this, or with other characters than printable ASCII, is replaced by one of ours."""

_MESSAGE_ID: Final = re.compile(r"^[\x21-\x7e]{1,64}$")
_NEXT: Final = re.compile(r"<([^<>]*)>\s*;[^,]*\brel\s*=\s*\"?next\"?", re.IGNORECASE)
_TOKEN: Final = re.compile(r"^[\x21-\x7e]{1,64}$")


class MalformedAuthorization(MalformedInput):
    """The header is not `Token ` and base64 of a token."""


class MalformedRouting(MalformedInput):
    """One half of a party is missing or is no party id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """To whom a message goes and from whom it comes, as parties, not platforms."""

    to_party: PartyId | None = None
    from_party: PartyId | None = None


def authorization(token: str, *, is_plain: bool = False) -> str:
    """Return the value of `Authorization` for a credentials token; `is_plain`: without base64, as 2.1.1 has it."""
    return f"Token {token}" if is_plain else f"Token {base64.b64encode(token.encode()).decode('ascii')}"


def token_of(value: str, *, accepts_plain: bool = False) -> str:
    """Return the credentials token from `Authorization`.

    Args:
        value: The header's value.
        accepts_plain: Take the value itself where it is no base64: a setting for peers that never encode.

    Raises:
        MalformedAuthorization: not `Token `, or not base64 and plain is not accepted.
    """
    scheme, _, encoded = value.partition(" ")
    encoded = encoded.strip()
    if scheme.lower() != "token" or not encoded:
        raise MalformedAuthorization("the header is not 'Token <base64>'")
    try:
        # The text's own examples encode a trailing line feed, so peers that copied them send one.
        token = base64.b64decode(encoded, validate=True).decode("utf-8").rstrip("\r\n")
    except (binascii.Error, UnicodeDecodeError) as error:
        token = ""
        cause: Exception | None = error
    else:
        cause = None
    if _TOKEN.match(token):
        return token
    if accepts_plain and _TOKEN.match(encoded):
        return encoded
    raise MalformedAuthorization("the token is not base64 of printable ASCII") from cause


def message_id(value: str | None) -> str | None:
    """Return an id from a header if it is one that may be logged and echoed, else None."""
    return value if value is not None and _MESSAGE_ID.match(value) else None


def routing_of(headers: Mapping[str, str]) -> Routing:
    """Read the routing headers; a direction that is absent is None. Raises `MalformedRouting`."""
    lower = {name.lower(): value for name, value in headers.items()}
    return Routing(to_party=_party(lower, "to"), from_party=_party(lower, "from"))


def _party(lower: Mapping[str, str], direction: str) -> PartyId | None:
    country, party = lower.get(f"ocpi-{direction}-country-code"), lower.get(f"ocpi-{direction}-party-id")
    if country is None and party is None:
        return None
    try:
        return PartyId.of(country or "", party or "")
    except MalformedPartyId as error:
        raise MalformedRouting(f"OCPI-{direction}-*: {error}") from error


def routing_headers(routing: Routing) -> dict[str, str]:
    """Return the headers that say so."""
    written: dict[str, str] = {}
    for direction, party in (("to", routing.to_party), ("from", routing.from_party)):
        if party is not None:
            written[f"OCPI-{direction}-party-id"] = party.party_id
            written[f"OCPI-{direction}-country-code"] = party.country_code
    return written


def next_link(value: str | None) -> str | None:
    """Return the URL of `Link: <...>; rel="next"`; an absent or empty header is the last page."""
    found = _NEXT.search(value or "")
    return found.group(1).strip() or None if found else None


def link_to(url: str) -> str:
    """Return the value of `Link` for the next page."""
    return f'<{url}>; rel="next"'
