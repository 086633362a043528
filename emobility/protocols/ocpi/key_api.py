"""For the operator: which keys our party and its partners sign with, and who must sign.

Below `/{party}`: `GET ocpi-keys/{partner}` (a partner's keys, or one's own, to be told), `PUT
ocpi-keys/{partner}/{key_id}` (a key that the partner told), `DELETE ocpi-keys/{partner}/{key_id}` (revoked: nothing
under it counts any more), `POST ocpi-keys/rotate` (our next key), `PUT ocpi-signature-rules/{partner}`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from emobility.domain.identifiers import PartyId
from emobility.ports.party_keys import KeyAlgorithm
from emobility.ports.ports import Ports
from emobility.protocols.ocpi.party_keys import (
    EVERYBODY,
    OVERLAP,
    PARTY_KEY,
    KeySource,
    MalformedKey,
    PartyKeyRow,
    enter_told_key,
    revoke_key,
    rotate_own_key,
)
from emobility.protocols.ocpi.signing import SIGNATURE_RULE, SignatureRule
from emobility.protocols.ocpi.v221 import read

HOURS_MAX: Final = 24 * 90
Handler = Callable[[Request, PartyId], Awaitable[Any]]
Guard = Callable[[Handler], Callable[[Request], Awaitable[Response]]]


class _TellKey(msgspec.Struct, frozen=True, kw_only=True):
    """`public_key`: hex."""

    algorithm: KeyAlgorithm = KeyAlgorithm.ED25519
    public_key: str
    valid_from: datetime | None = None
    valid_until: datetime | None = None


class _Rotate(msgspec.Struct, frozen=True, kw_only=True):
    """`lead_hours`: until we sign with the new key; `overlap_hours`: how long after that the old one still counts."""

    lead_hours: int = 0
    overlap_hours: int = OVERLAP // timedelta(hours=1)


class _Rule(msgspec.Struct, frozen=True, kw_only=True):
    is_required: bool


class KeyAPI:
    """The routes."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    def routes(self, below: str, guard: Guard) -> list[Route]:
        """Return them; `guard` lets operators of the party in and turns errors into answers."""
        keys = f"{below}/ocpi-keys"
        return [
            Route(f"{keys}/rotate", guard(self._rotate), methods=["POST"]),
            Route(f"{keys}/{{partner}}", guard(self._list), methods=["GET"]),
            Route(f"{keys}/{{partner}}/{{key_id}}", guard(self._tell), methods=["PUT"]),
            Route(f"{keys}/{{partner}}/{{key_id}}", guard(self._revoke), methods=["DELETE"]),
            Route(f"{below}/ocpi-signature-rules/{{partner}}", guard(self._rule), methods=["PUT"]),
        ]

    async def _list(self, request: Request, own_party: PartyId) -> Any:
        partner = PartyId(request.path_params["partner"])
        async with self._ports.units.begin() as unit:
            rows = await unit.table(PARTY_KEY).select(
                {"party_id": partner, "holder": (EVERYBODY, own_party.code)}, order_by=("valid_from",)
            )
        return [_written(row) for row in rows]

    async def _tell(self, request: Request, own_party: PartyId) -> Any:
        told = read(await request.body(), _TellKey)
        try:
            public_key = bytes.fromhex(told.public_key)
        except ValueError as error:
            raise MalformedKey("public_key is not hex") from error
        row = PartyKeyRow(
            holder=own_party.code,
            party_id=PartyId(request.path_params["partner"]),
            key_id=request.path_params["key_id"],
            algorithm=told.algorithm,
            public_key=public_key,
            source=KeySource.TOLD,
            generation=None,
            valid_from=told.valid_from or self._ports.clock.now().replace(microsecond=0),
            valid_until=told.valid_until,
        )
        async with self._ports.units.begin() as unit:
            await enter_told_key(unit, row)
            await unit.commit()
        return _written(row)

    async def _revoke(self, request: Request, own_party: PartyId) -> Any:
        """Revoke a key that was told to this party, or one of its own."""
        partner, now = PartyId(request.path_params["partner"]), self._ports.clock.now()
        holder = EVERYBODY if partner == own_party else own_party.code
        async with self._ports.units.begin() as unit:
            row = await revoke_key(unit, holder=holder, party_id=partner, key_id=request.path_params["key_id"], now=now)
            await unit.commit()
        return _written(row)

    async def _rotate(self, request: Request, own_party: PartyId) -> Any:
        asked = read(await request.body() or b"{}", _Rotate)
        if not (0 <= asked.overlap_hours <= HOURS_MAX and 0 <= asked.lead_hours <= HOURS_MAX):
            raise MalformedKey(f"lead and overlap have 0 to {HOURS_MAX} hours")
        starts_at = self._ports.clock.now() + timedelta(hours=asked.lead_hours)
        overlap = timedelta(hours=asked.overlap_hours)
        async with self._ports.units.begin() as unit:
            row = await rotate_own_key(unit, own_party, self._ports.signer, starts_at=starts_at, overlap=overlap)
            await unit.commit()
        return _written(row)

    async def _rule(self, request: Request, own_party: PartyId) -> Any:
        rule = SignatureRule(
            own_party=own_party,
            party_id=PartyId(request.path_params["partner"]),
            is_required=read(await request.body(), _Rule).is_required,
        )
        async with self._ports.units.begin() as unit:
            await unit.table(SIGNATURE_RULE).put(rule)
            await unit.commit()
        return {"partner": rule.party_id.code, "is_required": rule.is_required}


def _written(row: PartyKeyRow) -> dict[str, Any]:
    return {
        "party_id": row.party_id.code,
        "key_id": row.key_id,
        "algorithm": row.algorithm,
        "public_key": row.public_key.hex(),
        "source": row.source,
        "valid_from": row.valid_from,
        "valid_until": row.valid_until,
        "revoked_at": row.revoked_at,
    }
