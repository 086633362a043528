"""Stations and cards out of files over HTTP, and the CPO's own cards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, TypeVar

from fastapi import Request

from emobility.domain.identifiers import PartyId
from emobility.domain.token import TokenType
from emobility.runtime.access import TokenRole
from services.charging_operations.importing import ImportDesk, ImportReport
from services.charging_operations.office import NotUnderstood
from services.charging_operations.operator_api import OperatorAPI
from services.charging_operations.own_tokens import OWN_TOKEN, OwnTokenDesk, OwnTokenRecord
from services.charging_operations.routes import PAGE, Query, Route, RouteTable, asked, read_body, read_bytes
from services.charging_operations.station_import import (
    CONNECTOR_COLUMNS,
    SteVeTerms,
    connector_of_text,
    stations_of_csv,
    stations_of_steve,
)
from services.charging_operations.token_import import tokens_of_csv, tokens_of_steve

P = TypeVar("P")

FILE_BYTES_MAX: Final = 8_000_000
"""20,000 rows; of a SteVe database only four tables are of use, without its meter values."""


class FileFormat(StrEnum):
    """What a file is."""

    CSV = "csv"
    STEVE = "steve"


_FORMAT: Final = Query("format", FileFormat, "what the file is, csv when not given")
_DRY_RUN: Final = Query("dry_run", bool, "true: say what would be entered, and enter nothing")
TOKEN_QUERY: Final = (_FORMAT, _DRY_RUN)
STATION_QUERY: Final = (
    *(_FORMAT, _DRY_RUN),
    Query("connector", str, f"steve: what all connectors can do, {','.join(CONNECTOR_COLUMNS)}"),
    Query("location_id", str, "steve: the location of stations without a whole address and coordinates"),
    Query("time_zone", str, "steve: the time zone of all addresses, such as Europe/Amsterdam"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTokenShown:
    """A card of the CPO's own; its `token_subject` names it without saying its number."""

    token_subject: str
    token_type: TokenType
    is_valid: bool
    is_blocked: bool
    expires_at: datetime | None
    entered_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTokenChange:
    """PUT own token."""

    is_blocked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportAPI:
    """Routes of imports and of own cards."""

    operator: OperatorAPI
    desk: ImportDesk
    own_tokens: OwnTokenDesk
    _planning: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a file is read: one costs up to 200 MB, and all parties share this process."""

    def mount_on(self, routes: RouteTable) -> None:
        """Add the routes."""
        table, own = "text/csv", "/own-tokens/{token_subject}"
        stations, tokens = "/imports/stations", "/imports/tokens"
        routes.add(
            "Imports",
            [
                Route("POST", stations, self.import_stations, str, ImportReport, STATION_QUERY, takes=table),
                Route("POST", tokens, self.import_tokens, str, ImportReport, TOKEN_QUERY, takes=table),
                Route("GET", "/own-tokens", self.list_own_tokens, None, list[OwnTokenShown], PAGE),
                Route("PUT", own, self.block_own_token, OwnTokenChange, list[OwnTokenShown]),
            ],
            writes=TokenRole.OWNER,
        )

    async def import_stations(self, request: Request, party_id: PartyId) -> Any:
        """Enter stations with EVSEs, connectors and passwords out of a table, or out of a SteVe database dump.

        The same file twice changes nothing. A station that is known keeps its password. Each row that is refused is
        named with its line; all others are entered.
        """
        if asked(request, "format", FileFormat.CSV) is FileFormat.STEVE:
            connector = asked(request, "connector", "")
            terms = SteVeTerms(
                connector=connector_of_text(connector) if connector else None,
                location_id=request.state.query.get("location_id"),
                time_zone=request.state.query.get("time_zone"),
            )
            plan = await self.planned(request, lambda text: stations_of_steve(text, party_id, terms))
        else:
            plan = await self.planned(request, lambda text: stations_of_csv(text, party_id))
        return await self.desk.enter_stations(
            party_id,
            plan,
            is_dry_run=asked(request, "dry_run", False),
            correlation_id=self.operator.correlation_of(request),
        )

    async def import_tokens(self, request: Request, party_id: PartyId) -> Any:
        """Enter the CPO's own cards: they may charge at its stations, and nobody is billed."""
        is_steve = asked(request, "format", FileFormat.CSV) is FileFormat.STEVE
        plan = await self.planned(request, tokens_of_steve if is_steve else tokens_of_csv)
        return await self.desk.enter_tokens(party_id, plan, is_dry_run=asked(request, "dry_run", False))

    async def planned(self, request: Request, plan: Callable[[str], P]) -> P:
        """Read what is sent and plan it, one file at a time. Raises `NotUnderstood`: it is no UTF-8."""
        text = await _text(request)
        async with self._planning:
            return await asyncio.to_thread(plan, text)

    async def list_own_tokens(self, request: Request, party_id: PartyId) -> Any:
        """List the CPO's own cards, by what names them without saying their numbers."""
        return [_shown(row) for row in await self.operator.rows(request, party_id, OWN_TOKEN)]

    async def block_own_token(self, request: Request, party_id: PartyId) -> Any:
        """Block a card, or let it charge again."""
        change = await read_body(request, OwnTokenChange)
        subject: str = request.path_params["token_subject"]
        async with self.operator.office.ports.units.begin() as unit:
            rows = await self.own_tokens.block(unit, party_id, subject, is_blocked=change.is_blocked)
            await unit.commit()
        return [_shown(row) for row in rows]


def _shown(row: OwnTokenRecord) -> OwnTokenShown:
    return OwnTokenShown(
        token_subject=row.token_subject,
        token_type=row.token_type,
        is_valid=row.is_valid,
        is_blocked=row.is_blocked,
        expires_at=row.expires_at,
        entered_at=row.entered_at,
    )


async def _text(request: Request) -> str:
    try:
        return (await read_bytes(request, FILE_BYTES_MAX)).decode()
    except UnicodeDecodeError as error:
        raise NotUnderstood(f"the file is no UTF-8: byte {error.start} begins no character") from error
