"""One gateway owns a station, and everybody can tell which.

A station's row counts a fence: each new owner takes the next number. The fence guards who may send CALLs and who may
write the row; it never decides whether an acknowledged event counts. An old connection that closes late finds another
fence in the row and leaves it alone. What a gateway held when it died is released by the others, or by its own next
run (`gateway_leases`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from charge_point_gateway.rpc_errors import OCPPVersion
from charge_point_gateway.security import StationIdentity
from emobility.domain.errors import RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.ports.clock import Clock
from emobility.ports.stores import RecordExists, TableSpec
from emobility.ports.unit_of_work import Units
from emobility.protocols.station_control.quirks import StationMake


@dataclass(frozen=True, slots=True, kw_only=True)
class StationPresenceRow:
    """Who owns, or last owned, a station's connection."""

    party_id: PartyId
    charging_station_id: str
    fence: int
    is_online: bool
    gateway_url: str
    ocpp_version: str
    connected_at: datetime
    vendor: str | None = None
    model: str | None = None
    firmware_version: str | None = None
    gateway_run: str = ""
    """Of the gateway: the run that claimed the station."""

    @property
    def make(self) -> StationMake:
        """What the station last said it is."""
        return StationMake(self.vendor, self.model, self.firmware_version)


STATION_PRESENCE: Final = TableSpec(
    name="station_presence", record=StationPresenceRow, key=("party_id", "charging_station_id")
)


class StationOwnedElsewhere(RuleBroken):
    """Another connection of this identity took the station first."""


class PresenceBook:
    """Reads and writes presence rows for one gateway."""

    def __init__(self, units: Units, clock: Clock, *, gateway_url: str, gateway_run: str) -> None:
        """`gateway_run` names this run of the gateway, unlike any other."""
        self._units = units
        self._clock = clock
        self.gateway_url = gateway_url
        self.gateway_run = gateway_run

    async def find(self, identity: StationIdentity) -> StationPresenceRow | None:
        """Return a station's row, if it was ever connected."""
        async with self._units.begin() as unit:
            return await unit.table(STATION_PRESENCE).get(identity.party_id, identity.charging_station_id)

    async def of_party(self, party_id: PartyId) -> list[StationPresenceRow]:
        """Return the rows of a party's stations."""
        async with self._units.begin() as unit:
            return await unit.table(STATION_PRESENCE).select({"party_id": party_id}, order_by=("charging_station_id",))

    async def claim(self, identity: StationIdentity, version: OCPPVersion, *, seen_fence: int) -> int:
        """Take a station over from the owner whose fence was `seen_fence` (0: none); return the new fence.

        Raises:
            StationOwnedElsewhere: the fence moved since it was seen.
        """
        async with self._units.begin() as unit:
            table = unit.table(STATION_PRESENCE)
            row = await table.get_for_update(identity.party_id, identity.charging_station_id)
            fence = row.fence if row is not None else 0
            if fence != seen_fence:
                raise StationOwnedElsewhere(f"the fence of {identity.key} moved from {seen_fence} to {fence}")
            claimed = StationPresenceRow(
                party_id=identity.party_id,
                charging_station_id=identity.charging_station_id,
                fence=fence + 1,
                is_online=True,
                gateway_url=self.gateway_url,
                ocpp_version=version.value,
                connected_at=self._clock.now(),
                vendor=None if row is None else row.vendor,
                model=None if row is None else row.model,
                firmware_version=None if row is None else row.firmware_version,
                gateway_run=self.gateway_run,
            )
            if row is None:
                try:
                    await table.insert(claimed)
                except RecordExists as error:  # there was no row to lock: another gateway claims just now
                    raise StationOwnedElsewhere(f"another gateway took {identity.key} first") from error
            else:
                await table.put(claimed)
            await unit.commit()
            return claimed.fence

    async def describe(self, identity: StationIdentity, fence: int, make: StationMake) -> None:
        """Remember what a station said it is, while it is still the owner's. Raises `Unavailable`."""
        async with self._units.begin() as unit:
            table = unit.table(STATION_PRESENCE)
            row = await table.get_for_update(identity.party_id, identity.charging_station_id)
            if row is None or row.fence != fence:
                return
            await table.put(replace(row, vendor=make.vendor, model=make.model, firmware_version=make.firmware_version))
            await unit.commit()

    async def release(self, identity: StationIdentity, fence: int) -> bool:
        """Note that a connection ended; tell whether the row was still its own."""
        async with self._units.begin() as unit:
            table = unit.table(STATION_PRESENCE)
            row = await table.get_for_update(identity.party_id, identity.charging_station_id)
            if row is None or row.fence != fence or not row.is_online:
                return False
            await table.put(replace(row, is_online=False))
            await unit.commit()
            return True

    async def reclaim(self, identity: StationIdentity, fence: int) -> int | None:
        """Take back a station that others released; return the new fence, None if it is somebody else's now.

        The fence moves, so that a release that is still under way comes too late.
        """
        async with self._units.begin() as unit:
            table = unit.table(STATION_PRESENCE)
            row = await table.get_for_update(identity.party_id, identity.charging_station_id)
            if row is None or row.fence != fence:
                return None
            await table.put(replace(row, fence=fence + 1, is_online=True))
            await unit.commit()
            return fence + 1

    async def release_run(self, gateway_url: str, gateway_run: str) -> int:
        """Note that a dead gateway holds nothing any more; return how many stations were released."""
        return await self._release_all({"gateway_url": gateway_url, "gateway_run": gateway_run})

    async def release_earlier_runs(self) -> int:
        """Release what was held at this gateway's address before this run."""
        return await self._release_all({"gateway_url": self.gateway_url})

    async def _release_all(self, where: Mapping[str, str]) -> int:
        released = 0
        while True:
            async with self._units.begin() as unit:
                rows = await unit.table(STATION_PRESENCE).select({**where, "is_online": True})
            before = released
            for row in rows:
                if row.gateway_run != self.gateway_run:
                    identity = StationIdentity(row.party_id, row.charging_station_id)
                    released += await self.release(identity, row.fence)
            if released == before:
                return released
