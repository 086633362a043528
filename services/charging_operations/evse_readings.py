"""What an EVSE's meter said outside of any transaction, clock-aligned values above all; kept as long as its history."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from emobility.domain.identifiers import PartyId
from emobility.domain.meter import MeterReading
from emobility.events.charging import EVSEMetered
from emobility.events.event import Envelope
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from services.charging_operations.records import CPO
from services.charging_operations.station_history import HISTORY_RETENTION

REMOVED_AT_ONCE: Final = 100
"""Messages that are too old, removed with each new one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EVSEReadingRecord:
    """One message's readings; EVSE 0 is the station's own meter. `occurred_at` is the station's time."""

    party_id: PartyId
    charging_station_id: str
    reading_id: str
    ocpp_evse_id: int
    occurred_at: datetime
    heard_at: datetime
    readings: tuple[MeterReading, ...]


EVSE_READING: Final = TableSpec(
    name="cpo_evse_reading", record=EVSEReadingRecord, key=("party_id", "charging_station_id", "reading_id")
)


async def keep_evse_reading(unit: UnitOfWork, envelope: Envelope, event: EVSEMetered) -> None:
    """Keep what a meter said, once; of a party that is not hosted here, nothing."""
    if await unit.table(CPO).get(event.party_id) is None:
        return
    told = EVSEReadingRecord(
        party_id=event.party_id,
        charging_station_id=event.charging_station_id,
        reading_id=envelope.event_id,
        ocpp_evse_id=event.ocpp_evse_id,
        occurred_at=event.occurred_at,
        heard_at=envelope.recorded_at,
        readings=event.readings,
    )
    table = unit.table(EVSE_READING)
    await table.insert_all([told])
    where = {"party_id": told.party_id, "charging_station_id": told.charging_station_id}
    too_old = ("heard_at", told.heard_at - HISTORY_RETENTION)
    for old in await table.select(where, before=too_old, limit=REMOVED_AT_ONCE):
        await table.remove(old.party_id, old.charging_station_id, old.reading_id)
