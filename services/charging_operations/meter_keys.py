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
    known_keys = {evse.evse_uid: evse.meter_public_key for evse in before}
    for evse in evses:
        if evse.meter_public_key is None or known_keys.get(evse.evse_uid) == evse.meter_public_key:
            continue
        row = await unit.table(METER_KEYS).get_for_update(party_id, evse.evse_uid)
        entry = PinnedKey(
            public_key=evse.meter_public_key,
            valid_from=None if row is None else now,
            entered_at=now,
            entered_by="operator",
            why=WITH_THE_STATION,
        )
        await put_entry(unit, party_id, evse.evse_uid, row, entry)


async def put_entry(
    unit: UnitOfWork, party_id: PartyId, evse_uid: str, row: MeterKeysRecord | None, entry: PinnedKey
) -> tuple[PinnedKey, ...]:
    """Add an entry to a history, `row` as it is locked. Raises `MeterKeysFull`."""
    entries = with_entry(() if row is None else row.entries, entry)
    await unit.table(METER_KEYS).put(MeterKeysRecord(party_id=party_id, evse_uid=evse_uid, entries=entries))
    return entries
