"""Over HTTP: the history of a meter's keys, another key from a moment on, and many out of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from fastapi import Request

from emobility.domain.errors import MalformedInput, RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.domain.meter_key import PinnedKey, key_at
from emobility.ports.unit_of_work import UnitOfWork
from emobility.runtime.access import TokenRole
from services.charging_operations.import_api import ImportAPI
from services.charging_operations.importing import REFUSALS_SHOWN_MAX, ImportReport
from services.charging_operations.meter_keys import METER_KEYS, entries_of, one_form, put_entry
from services.charging_operations.office import NotFound, NotUnderstood, Office, require_hosted
from services.charging_operations.records import EVSES
from services.charging_operations.routes import Query, Route, RouteTable, asked, read_body
from services.charging_operations.station_import import Refusal, table_of
from services.charging_operations.stations import evse_at

COLUMNS: Final = ("evse_uid", "public_key")
_OPTIONAL: Final = ("valid_from", "why")
_DRY_RUN: Final = Query("dry_run", bool, "true: say what would be entered, and enter nothing")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMeterKey:
    """POST meters/{evse_uid}/keys: DER, PEM or a bare point, hex or base64; None: the new meter signs nothing."""

    public_key: str | None
    who: str
    why: str
    valid_from: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterKeyAPI:
    """Routes of the histories."""

    office: Office
    imports: ImportAPI

    def mount_on(self, routes: RouteTable) -> None:
        """Add the routes."""
        keys = "/meters/{evse_uid}/keys"
        table = "text/csv"
        routes.add(
            "Meter keys",
            [
                Route("GET", keys, self.list_keys, None, list[PinnedKey]),
                Route("POST", keys, self.add_key, NewMeterKey, list[PinnedKey]),
                Route("POST", "/imports/meter-keys", self.import_keys, str, ImportReport, (_DRY_RUN,), takes=table),
            ],
            writes=TokenRole.OWNER,
        )

    async def list_keys(self, request: Request, party_id: PartyId) -> Any:
        """Show the history of a meter's keys, in the order in which they were entered."""
        evse_uid = request.path_params["evse_uid"]
        async with self.office.ports.units.begin() as unit:
            entries = await self._entries(unit, party_id, evse_uid)
        if not entries:
            raise NotFound(f"no key is known of the meter of {evse_uid}")
        return list(entries)

    async def add_key(self, request: Request, party_id: PartyId) -> Any:
        """Pin another key, from a moment on; without one it takes back all that was entered before."""
        new, evse_uid = await read_body(request, NewMeterKey), request.path_params["evse_uid"]
        async with self.office.ports.units.begin() as unit:
            entries = await self._entries(unit, party_id, evse_uid)
            entries = await self._add(unit, party_id, evse_uid, entries, new)
            await unit.commit()
        return list(entries)

    async def import_keys(self, request: Request, party_id: PartyId) -> Any:
        """Pin keys out of a table, one line per meter; what is known already as the file has it is left alone.

        Columns: evse_uid, public_key and perhaps valid_from (RFC 3339) and why.
        """
        async with self.office.ports.units.begin() as unit:
            await require_hosted(unit, party_id)
        rows, columns = await self.imports.planned(request, lambda text: table_of(text, COLUMNS))
        is_dry_run = asked(request, "dry_run", False)
        taken, unchanged, refused = 0, 0, []
        for line, row in rows:
            try:
                new = NewMeterKey(
                    public_key=row.get("public_key", ""),
                    who="import",
                    why=row.get("why") or "out of a table",
                    valid_from=_moment(row.get("valid_from", "")),
                )
                async with self.office.ports.units.begin() as unit:
                    entries = await self._entries(unit, party_id, row["evse_uid"])
                    is_new = _is_new(entries, new)
                    if is_new:
                        await self._add(unit, party_id, row["evse_uid"], entries, new)
                    if not is_dry_run:
                        await unit.commit()
                taken, unchanged = taken + is_new, unchanged + (not is_new)
            except (RuleBroken, MalformedInput) as error:
                refused.append(Refusal(line=line, row=row.get("evse_uid", ""), why=str(error)))
        return ImportReport(
            is_dry_run=is_dry_run,
            taken=taken,
            unchanged=unchanged,
            refused=tuple(refused[:REFUSALS_SHOWN_MAX]),
            refused_count=len(refused),
            ignored_columns=tuple(name for name in columns if name not in (*COLUMNS, *_OPTIONAL)),
        )

    async def _add(
        self, unit: UnitOfWork, party_id: PartyId, evse_uid: str, entries: Sequence[PinnedKey], new: NewMeterKey
    ) -> tuple[PinnedKey, ...]:
        if not new.who.strip() or not new.why.strip():
            raise NotUnderstood("a key is entered by somebody, for a reason")
        entry = PinnedKey(
            public_key=None if new.public_key is None else one_form(new.public_key),
            valid_from=new.valid_from,
            entered_at=self.office.now(),
            entered_by=new.who[:100],
            why=new.why[:500],
        )
        return await put_entry(unit, party_id, evse_uid, entries, entry)

    async def _entries(self, unit: UnitOfWork, party_id: PartyId, evse_uid: str) -> tuple[PinnedKey, ...]:
        """Return the history as it is locked. Raises `NotFound`."""
        # Before the history, which may not be there yet, and what is not there can't be locked.
        evse = await unit.table(EVSES).get_for_update(party_id, evse_uid)
        if evse is None:
            raise NotFound(f"no EVSE {evse_uid}")
        known = await evse_at(unit, party_id, evse.charging_station_id, evse.ocpp_evse_id)
        row = await unit.table(METER_KEYS).get_for_update(party_id, evse_uid)
        return entries_of(row, None if known is None else known.evse.meter_public_key, now=self.office.now())


def _is_new(entries: Sequence[PinnedKey], new: NewMeterKey) -> bool:
    """Tell whether another key is in force at the row's moment; one that was taken back since may come again.

    A row without a moment is about the beginning: the key of a meter that was replaced since is no news.
    """
    at = new.valid_from or datetime.min.replace(tzinfo=UTC)
    return key_at(entries, at) != one_form(new.public_key or "")


def _moment(text: str) -> datetime | None:
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise NotUnderstood("valid_from is no date-time") from error
    if at.tzinfo is None:
        raise NotUnderstood("valid_from is an RFC 3339 date-time with its offset")
    return at
