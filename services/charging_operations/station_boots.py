"""Each time a station said what it is (BootNotification): kept for as long as its history, the newest at hand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from emobility.domain.identifiers import PartyId
from emobility.events.charging import StationBooted
from emobility.events.event import Envelope
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from services.charging_operations.records import CPO
from services.charging_operations.station_history import HISTORY_RETENTION

REMOVED_AT_ONCE: Final = 100
"""Boots that are too old, removed with each new one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StationBootRecord:
    """A BootNotification; `booted_at` is the station's time, `heard_at` ours."""

    party_id: PartyId
    charging_station_id: str
    boot_id: str
    booted_at: datetime
    heard_at: datetime
    ocpp_version: str
    vendor: str
    model: str
    serial_number: str | None
    firmware_version: str | None
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StationIdentityRecord:
    """What a station said it is when it last booted."""

    party_id: PartyId
    charging_station_id: str
    ocpp_version: str
    vendor: str
    model: str
    serial_number: str | None
    firmware_version: str | None
    heard_at: datetime


STATION_BOOT: Final = TableSpec(
    name="cpo_station_boot", record=StationBootRecord, key=("party_id", "charging_station_id", "boot_id")
)
STATION_IDENTITY: Final = TableSpec(
    name="cpo_station_identity", record=StationIdentityRecord, key=("party_id", "charging_station_id")
)


async def keep_boot(unit: UnitOfWork, envelope: Envelope, event: StationBooted) -> None:
    """Keep a boot, once; of a party that is not hosted here, nothing."""
    if await unit.table(CPO).get(event.party_id) is None:
        return
    told = StationBootRecord(
        party_id=event.party_id,
        charging_station_id=event.charging_station_id,
        boot_id=envelope.event_id,
        booted_at=event.booted_at,
        heard_at=envelope.recorded_at,
        ocpp_version=event.ocpp_version,
        vendor=event.vendor,
        model=event.model,
        serial_number=event.serial_number,
        firmware_version=event.firmware_version,
        reason=event.reason,
    )
    boots, identities = unit.table(STATION_BOOT), unit.table(STATION_IDENTITY)
    await boots.insert_all([told])
    newest = await identities.get_for_update(told.party_id, told.charging_station_id)
    if newest is None or newest.heard_at <= told.heard_at:
        await identities.put(
            StationIdentityRecord(
                party_id=told.party_id,
                charging_station_id=told.charging_station_id,
                ocpp_version=told.ocpp_version,
                vendor=told.vendor,
                model=told.model,
                serial_number=told.serial_number,
                firmware_version=told.firmware_version,
                heard_at=told.heard_at,
            )
        )
    where = {"party_id": told.party_id, "charging_station_id": told.charging_station_id}
    too_old = ("heard_at", told.heard_at - HISTORY_RETENTION)
    for old in await boots.select(where, before=too_old, order_by=("heard_at",), limit=REMOVED_AT_ONCE):
        await boots.remove(old.party_id, old.charging_station_id, old.boot_id)
