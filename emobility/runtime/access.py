"""Who may call our own HTTP routes: processes of ours with the internal token, a party with one of its API tokens.

OCPI routes have their own credentials (`protocols/ocpi`); this is for operators, drivers' apps and our own processes.
A party's token is shown once, when it is issued; the table keeps a keyed hash, so that a stolen table opens nothing.
Its role says what it opens: a system that reads the books can't start a charge, and one that does can't change a price.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from fastapi import HTTPException, Request
from pydantic import SecretStr

from emobility.domain.identifiers import MalformedPartyId, PartyId
from emobility.ports.clock import Randomness
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork, Units

TOKEN_BYTES: Final = 32
TOKEN_CHARACTERS_MAX: Final = 256
"""A longer bearer token is refused before it is hashed."""


READING: Final = frozenset({"GET", "HEAD"})


class TokenRole(StrEnum):
    """What a party's token may be used for; each may do what those before it may."""

    READER = "READER"
    """To look."""
    OPERATOR = "OPERATOR"
    """To run stations from day to day, where a route says so."""
    OWNER = "OWNER"
    """For everything: prices, agreements, credentials, whose stations there are."""


_RANKS: Final = {role: rank for rank, role in enumerate(TokenRole)}


@dataclass(frozen=True, slots=True, kw_only=True)
class PartyApiToken:
    """A token that lets a party, or one of its systems, use our APIs in its own name, as far as its role goes."""

    party_id: PartyId
    token_hash: str
    purpose: str
    issued_at: datetime
    revoked_at: datetime | None = None
    role: TokenRole = TokenRole.OWNER


PARTY_API_TOKENS: Final = TableSpec(
    name="party_api_token", record=PartyApiToken, key=("party_id", "token_hash"), unique=(("token_hash",),)
)


class Access:
    """Checks bearer tokens; as FastAPI's errors: 401 for an unknown caller, 403 for a known one without the right."""

    def __init__(
        self, internal_token: SecretStr | str, *, units: Units | None = None, master_key: bytes | None = None
    ) -> None:
        """Without `units` and `master_key` no party has a token: only the internal one opens anything."""
        plain = internal_token.get_secret_value() if isinstance(internal_token, SecretStr) else internal_token
        if not plain:
            raise ValueError("the internal token is empty")
        self._internal = plain.encode()
        self._units = units
        self._key = None if master_key is None else _hash_key(master_key)

    async def internal(self, request: Request) -> None:
        """Let only our own processes pass."""
        if not self._is_internal(_bearer(request)):
            raise await self._refusal(request)

    async def party(self, request: Request, party_id: PartyId | str, *, needs: TokenRole | None = None) -> None:
        """Let the party itself pass, and our own processes.

        Args:
            request: The call.
            party_id: Whose the called route is.
            needs: The least role of a token; None: to read READER, for anything else OWNER.
        """
        bearer = _bearer(request)
        if self._is_internal(bearer):
            return
        token = await self._token_of(bearer)
        if token is None:
            raise _unknown()
        least = needs or (TokenRole.READER if request.method in READING else TokenRole.OWNER)
        if token.party_id != _party(party_id) or _RANKS[token.role] < _RANKS[least]:
            raise _forbidden()

    async def caller(self, request: Request) -> PartyId | None:
        """Return the party that calls, None for our own processes; 401 for anybody else."""
        bearer = _bearer(request)
        if self._is_internal(bearer):
            return None
        token = await self._token_of(bearer)
        if token is None:
            raise _unknown()
        return token.party_id

    async def opens(self, token: str, party_id: PartyId | None) -> bool:
        """Tell whether a token opens a party's own pages, on which everything may be done, or, without one, ours."""
        if not token or len(token) > TOKEN_CHARACTERS_MAX:
            return False
        if self._is_internal(token.encode()):
            return True
        found = await self._token_of(token.encode())
        return found is not None and found.party_id == party_id and found.role is TokenRole.OWNER

    async def issue(
        self,
        unit: UnitOfWork,
        party_id: PartyId,
        *,
        purpose: str,
        randomness: Randomness,
        now: datetime,
        role: TokenRole = TokenRole.OWNER,
    ) -> str:
        """Make a token for a party in this unit and return it; it can't be shown again."""
        token = randomness.token_bytes(TOKEN_BYTES).hex()
        await unit.table(PARTY_API_TOKENS).insert(
            PartyApiToken(
                party_id=party_id, token_hash=self._hash(token.encode()), purpose=purpose, issued_at=now, role=role
            )
        )
        return token

    async def revoke(self, unit: UnitOfWork, party_id: PartyId, *, token: str, now: datetime) -> bool:
        """Make a token of this party worthless in this unit; tell whether it was good."""
        table = unit.table(PARTY_API_TOKENS)
        record = await table.get_for_update(party_id, self._hash(token.encode()))
        if record is None or record.revoked_at is not None:
            return False
        await table.put(replace(record, revoked_at=now))
        return True

    def _is_internal(self, bearer: bytes) -> bool:
        return hmac.compare_digest(bearer, self._internal)

    async def _token_of(self, bearer: bytes) -> PartyApiToken | None:
        if self._units is None or self._key is None or not bearer:
            return None
        async with self._units.begin() as unit:
            found = await unit.table(PARTY_API_TOKENS).select({"token_hash": self._hash(bearer), "revoked_at": None})
        return found[0] if found else None

    async def _refusal(self, request: Request) -> HTTPException:
        return _forbidden() if await self._token_of(_bearer(request)) is not None else _unknown()

    def _hash(self, token: bytes) -> str:
        if self._key is None:
            raise AssertionError("party tokens need the master key")
        return hmac.new(self._key, token, hashlib.sha256).hexdigest()


def require_internal(access: Access) -> Callable[[Request], Awaitable[None]]:
    """Return a FastAPI dependency that lets only our own processes pass."""

    async def dependency(request: Request) -> None:
        await access.internal(request)

    return dependency


def require_party(access: Access, path_parameter: str = "party_id") -> Callable[[Request], Awaitable[None]]:
    """Return a FastAPI dependency that lets the party named in the path pass, and our own processes."""

    async def dependency(request: Request) -> None:
        await access.party(request, str(request.path_params.get(path_parameter, "")))

    return dependency


def _bearer(request: Request) -> bytes:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or len(token) > TOKEN_CHARACTERS_MAX:
        return b""
    return token.strip().encode()


def _party(party_id: PartyId | str) -> PartyId:
    try:
        return party_id if isinstance(party_id, PartyId) else PartyId(party_id)
    except MalformedPartyId:
        raise _forbidden() from None


def _unknown() -> HTTPException:
    return HTTPException(
        status_code=401, detail="a known bearer token is needed", headers={"WWW-Authenticate": "Bearer"}
    )


def _forbidden() -> HTTPException:
    return HTTPException(status_code=403, detail="this token does not open this")


def _hash_key(master_key: bytes) -> bytes:
    """Derive the key of the hashes, so that the master key itself serves one purpose only."""
    return hmac.new(master_key, b"wattroam party api token v1", hashlib.sha256).digest()
