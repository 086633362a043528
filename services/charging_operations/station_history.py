"""What each connector and connection of a station was like, and when: kept for as long as uptime is counted from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from emobility.domain.errors import RuleBroken, Unavailable
from emobility.domain.identifiers import PartyId
from emobility.events.charging import ConnectorStatusChanged
from emobility.events.event import Envelope
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.station_control.messages import StationPresence
from services.charging_operations.office import Office
from services.charging_operations.records import CPO
from services.charging_operations.station_records import (
    STATION_CONNECTION,
    STATION_STATUS,
    StationConnectionRecord,
    StationStatusRecord,
)

HISTORY_RETENTION: Final = timedelta(days=400)
"""The year that both rules ask about, and a month to report it. The newest older state stays: it may still hold."""
QUEUED_MAX: Final = timedelta(days=7)
"""How late a status may arrive; a station that gives an older time, or a future one, has no clock."""
WATCH_INTERVAL: Final = timedelta(minutes=1)
"""Uptime is counted in minutes."""
_log: Final = structlog.get_logger(__name__)


def began_at(changed_at: datetime, heard_at: datetime) -> datetime:
    """Return since when a status holds: the station's time where that can be, else when we heard of it."""
    return changed_at if timedelta(0) <= heard_at - changed_at <= QUEUED_MAX else heard_at


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryDesk:
    """Keeps statuses as they come, and watches who is connected."""

    office: Office
    seen: dict[tuple[PartyId, str], bool] = field(default_factory=dict)
    """Whether each station was online when this process last looked."""

    async def take(self, unit: UnitOfWork, envelope: Envelope, event: ConnectorStatusChanged) -> None:
        """Keep a status, once; of a party that is not hosted here, nothing."""
        if await unit.table(CPO).get(event.party_id) is None:
            return
        row = StationStatusRecord(
            party_id=event.party_id,
            charging_station_id=event.charging_station_id,
            status_id=envelope.event_id,
            ocpp_evse_id=event.ocpp_evse_id,
            connector_id=event.connector_id,
            status=event.status,
            error_code=event.error_code,
            vendor_id=event.vendor_id,
            vendor_error_code=event.vendor_error_code,
            info=event.info,
            changed_at=event.changed_at,
            heard_at=envelope.recorded_at,
            began_at=began_at(event.changed_at, envelope.recorded_at),
        )
        await unit.table(STATION_STATUS).put(row)
        where = {"party_id": row.party_id, "charging_station_id": row.charging_station_id}
        connector = where | {"ocpp_evse_id": row.ocpp_evse_id, "connector_id": row.connector_id}
        for old in await self._outlived(unit, STATION_STATUS, connector):
            await unit.table(STATION_STATUS).remove(*where.values(), old.status_id)

    async def watch(self) -> None:
        """Note whose connection began or ended since the last look; a gateway that does not answer tells nothing."""
        async with self.office.ports.units.begin() as unit:
            parties = [row.party_id for row in await unit.table(CPO).select()]
        for party_id in parties:
            try:
                presences = await self.office.stations.stations(party_id)
            except (Unavailable, RuleBroken) as error:
                _log.info("presence_unknown", party_id=party_id.code, reason=str(error))
                continue
            changed = [
                each for each in presences if self.seen.get((party_id, each.charging_station_id)) != each.is_online
            ]
            if changed:
                async with self.office.ports.units.begin() as unit:
                    for presence in changed:
                        await self._note(unit, party_id, presence)
                    await unit.commit()
                self.seen.update({(party_id, each.charging_station_id): each.is_online for each in changed})

    async def _note(self, unit: UnitOfWork, party_id: PartyId, presence: StationPresence) -> None:
        where: dict[str, Any] = {"party_id": party_id, "charging_station_id": presence.charging_station_id}
        table = unit.table(STATION_CONNECTION)
        newest = await table.select(where, order_by=("-began_at",), limit=1)
        if newest and newest[0].is_online == presence.is_online:
            return
        now = self.office.now()
        at = min(presence.connected_at, now) if presence.is_online else now
        if newest:
            at = max(at, newest[0].began_at)
        await table.put(StationConnectionRecord(**where, began_at=at, is_online=presence.is_online))
        for old in await self._outlived(unit, STATION_CONNECTION, where):
            await table.remove(*where.values(), old.began_at)

    async def _outlived(self, unit: UnitOfWork, spec: TableSpec[Any], where: dict[str, Any]) -> list[Any]:
        """Return what is older than the retention, but for the newest of it."""
        before = ("began_at", self.office.now() - HISTORY_RETENTION)
        return await unit.table(spec).select(where, before=before, order_by=("-began_at",), offset=1)
