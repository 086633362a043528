"""The keys of the CPO's meters: entered with a station, by an operator or out of a table; never by a record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from emobility.domain.charging_station import EVSE
from emobility.domain.identifiers import PartyId
from emobility.domain.meter_key import PinnedKey, key_at, with_entry
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocmf import OCMFRefused, meter_key
from services.charging_operations.office import NotUnderstood
from services.charging_operations.records import EVSES

WITH_THE_STATION: Final = "entered with the station"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterKeysRecord:
    """The history of an EVSE's meter."""

    party_id: PartyId
    evse_uid: str
    entries: tuple[PinnedKey, ...]


METER_KEYS: Final = TableSpec(name="cpo_meter_key", record=MeterKeysRecord, key=("party_id", "evse_uid"))


def one_form(public_key: str) -> str:
    """Return a key as it is kept. Raises `NotUnderstood`: it is no key of a meter."""
    try:
        return meter_key(public_key)
    except OCMFRefused as refusal:
        raise NotUnderstood(f"the meter's public key is not understood: {refusal.seen}") from refusal


async def key_of(unit: UnitOfWork, party_id: PartyId, evse: EVSE, at: datetime) -> str | None:
    """Return the key by which what an EVSE's meter signed at a moment is checked."""
    known = await unit.table(METER_KEYS).get(party_id, evse.evse_uid)
    return evse.meter_public_key if known is None else key_at(known.entries, at)


async def note_station_keys(
    unit: UnitOfWork, party_id: PartyId, evses: Sequence[EVSE], before: Sequence[EVSE], *, now: datetime
) -> None:
    """Add to the histories what a station's terms say anew; entered again as they were they change nothing."""
    known_evses = {evse.evse_uid: evse for evse in before}
    for evse in sorted(evses, key=lambda each: each.evse_uid):
        known = known_evses.get(evse.evse_uid)
        known_key = None if known is None else known.meter_public_key
        if evse.meter_public_key is None or known_key == evse.meter_public_key:
            continue
        # Before the history, as `MeterKeyAPI` does: one that is not there yet can't be locked.
        await unit.table(EVSES).get_for_update(party_id, evse.evse_uid)
        row = await unit.table(METER_KEYS).get_for_update(party_id, evse.evse_uid)
        entries = entries_of(row, known_key, now=now)
        entry = _with_the_station(evse.meter_public_key, valid_from=now if entries else None, now=now)
        await put_entry(unit, party_id, evse.evse_uid, entries, entry)


def entries_of(row: MeterKeysRecord | None, station_key: str | None, *, now: datetime) -> tuple[PinnedKey, ...]:
    """Return the history of an EVSE's meter; where there is none yet it begins with the key that its station has."""
    if row is not None:
        return row.entries
    return () if station_key is None else (_with_the_station(station_key, valid_from=None, now=now),)


async def put_entry(
    unit: UnitOfWork, party_id: PartyId, evse_uid: str, entries: Sequence[PinnedKey], entry: PinnedKey
) -> tuple[PinnedKey, ...]:
    """Add an entry to a history, `entries` as they are locked. Raises `MeterKeysFull`, `MeterKeyWithoutOffset`."""
    more = with_entry(entries, entry)
    await unit.table(METER_KEYS).put(MeterKeysRecord(party_id=party_id, evse_uid=evse_uid, entries=more))
    return more


def _with_the_station(public_key: str, *, valid_from: datetime | None, now: datetime) -> PinnedKey:
    return PinnedKey(
        public_key=public_key, valid_from=valid_from, entered_at=now, entered_by="operator", why=WITH_THE_STATION
    )
