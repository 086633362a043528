"""Which gateways run: so that what a dead one held is offline soon, and not for ever.

Each run of a gateway keeps a row whose beat it raises. Whoever sees a beat stand still for `LOOKS_WITHOUT_BEAT_MAX` of
its own looks releases the stations of that run, and removes its row. Looks are counted and not time: the clocks of two
machines need not agree, and after an outage of the database nobody is taken for dead who could not beat.

A gateway that was only slow finds its row gone with its next beat and takes its stations back, but for those that
connected elsewhere meanwhile: of these it closes what it still holds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

import structlog

from charge_point_gateway.presence import PresenceBook
from emobility.domain.errors import Unavailable
from emobility.ports.clock import Timer
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import Units

BEAT_INTERVAL_S: Final = 2.0
LOOKS_WITHOUT_BEAT_MAX: Final = 5
"""A gateway that misses so many beats is gone: 10 to 12 s after its death at the latest."""
_LOG: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayLeaseRow:
    """One run of a gateway. `beat` grows while it runs; `is_gone`: its stations are being released."""

    gateway_run: str
    gateway_url: str
    beat: int
    is_gone: bool = False


GATEWAY_LEASE: Final = TableSpec(name="gateway_lease", record=GatewayLeaseRow, key=("gateway_run",))


class GatewayLeases:
    """Keeps this gateway's lease and ends those of dead ones."""

    def __init__(
        self, units: Units, timer: Timer, presence: PresenceBook, *, on_lost: Callable[[], Awaitable[None]]
    ) -> None:
        """`on_lost` is awaited when others took this gateway for dead though it runs."""
        self._units = units
        self._timer = timer
        self._presence = presence
        self._on_lost = on_lost
        self._beat = 0
        self._seen: dict[str, tuple[int, int]] = {}
        """Of each other run: its beat, and how many looks have seen just that one."""

    async def run(self) -> None:
        """Beat and look until cancelled."""
        has_begun = False
        while True:
            try:
                if not has_begun:
                    await self.begin()
                    has_begun = True
                elif not await self.beat():
                    _LOG.error("gateway_lease_lost", gateway=self._presence.gateway_url)
                    await self._on_lost()
                await self.look()
            except Unavailable as error:
                _LOG.warning("gateway_lease_not_kept", reason=str(error))
            await self._timer.sleep(BEAT_INTERVAL_S)

    async def begin(self) -> None:
        """Take the lease, and release what earlier runs at this gateway's own address left behind."""
        await self.beat()
        await self._presence.release_earlier_runs()
        async with self._units.begin() as unit:
            for row in await unit.table(GATEWAY_LEASE).select({"gateway_url": self._presence.gateway_url}):
                if row.gateway_run != self._presence.gateway_run:
                    await unit.table(GATEWAY_LEASE).remove(row.gateway_run)
            await unit.commit()

    async def beat(self) -> bool:
        """Raise the beat; tell whether the lease was still there."""
        async with self._units.begin() as unit:
            table = unit.table(GATEWAY_LEASE)
            known = await table.get_for_update(self._presence.gateway_run)
            self._beat += 1
            await table.put(
                GatewayLeaseRow(
                    gateway_run=self._presence.gateway_run, gateway_url=self._presence.gateway_url, beat=self._beat
                )
            )
            await unit.commit(is_repeatable=True)
        return known is not None and not known.is_gone

    async def look(self) -> None:
        """Look at the others once; release the stations of those that are gone."""
        async with self._units.begin() as unit:
            rows = await unit.table(GATEWAY_LEASE).select()
        others = [row for row in rows if row.gateway_run != self._presence.gateway_run]
        seen = {row.gateway_run: self._seen.get(row.gateway_run, (0, 0)) for row in others}
        self._seen = {
            row.gateway_run: (row.beat, seen[row.gateway_run][1] + 1 if seen[row.gateway_run][0] == row.beat else 0)
            for row in others
        }
        for row in others:
            if row.is_gone or (
                self._seen[row.gateway_run][1] >= LOOKS_WITHOUT_BEAT_MAX and await self._is_marked_gone(row)
            ):
                await self._release(row)

    async def end(self) -> None:
        """Give the lease back: this gateway has released its stations."""
        async with self._units.begin() as unit:
            await unit.table(GATEWAY_LEASE).remove(self._presence.gateway_run)
            await unit.commit()

    async def _is_marked_gone(self, row: GatewayLeaseRow) -> bool:
        """Mark a run before its stations are released: should it beat meanwhile, it learns that it has to look."""
        async with self._units.begin() as unit:
            table = unit.table(GATEWAY_LEASE)
            if await table.get_for_update(row.gateway_run) != row:
                return False
            await table.put(replace(row, is_gone=True))
            await unit.commit()
        return True

    async def _release(self, row: GatewayLeaseRow) -> None:
        released = await self._presence.release_run(row.gateway_url, row.gateway_run)
        async with self._units.begin() as unit:
            await unit.table(GATEWAY_LEASE).remove(row.gateway_run, where={"is_gone": True})
            await unit.commit()
        _LOG.error("gateway_gone", gateway=row.gateway_url, stations_released=released)
