"""Who sends: one process at a time, by a lease whose fence number grows with each change of hands.

No clock is shared. The holder raises a beat; whoever has seen the same beat for `LEASE_S` of its own time takes over
with the next fence number. A holder that was asleep meanwhile finds another fence in the row, under the row's lock, and
signs nothing any more. What it signed before is stored, so the new holder sends and follows those very bytes; sent
twice they are as once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import structlog

from emobility.domain.errors import Unavailable
from emobility.ports.ports import Ports
from emobility.ports.stores import RecordExists, TableSpec
from emobility.ports.unit_of_work import UnitOfWork

LEASE_S: Final = 6.0
"""How long a beat may be overdue; a process that was killed is followed by another after that."""
BEATS_PER_LEASE: Final = 3
NAME: Final = "worker"

_log = structlog.get_logger(__name__)


class Fenced(Unavailable):
    """Another process sends by now; this one waits for its turn."""

    def __init__(self, fence: int) -> None:
        self.fence = fence
        super().__init__(f"another process sends for this settlement: our fence {fence} is an old one")


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRecord:
    """The lease. `holder`: who has it, for people; None: given up. `beat`: grows while the holder lives."""

    name: str
    fence: int
    holder: str | None
    beat: int


LEASE: Final = TableSpec(name="settlement_lease", record=LeaseRecord, key=("name",))


class Lease:
    """This process's place among those that would send."""

    def __init__(self, ports: Ports, *, lease_s: float = LEASE_S) -> None:
        self._ports = ports
        self._lease_s = lease_s
        self._holder = ports.randomness.uuid()
        self._seen: LeaseRecord | None = None
        self._seen_at_s = 0.0
        self._beaten_at_s = 0.0
        self.fence: int | None = None
        """Our number while we send; None: another does, or nobody."""
        self.commits = 0
        """Units that keeping the lease took."""

    async def is_held(self) -> bool:
        """Keep the lease, or take it if it is free or its holder has fallen silent; tell whether it is ours."""
        now_s = self._ports.timer.monotonic_s()
        if self.fence is not None:
            return now_s - self._beaten_at_s < self._lease_s / BEATS_PER_LEASE or await self._beat(now_s)
        async with self._ports.units.begin() as unit:
            found = await unit.table(LEASE).get_for_update(NAME)
            if found is not None and found.holder is not None and not self._is_silent(found, now_s):
                return False
            fence = 1 if found is None else found.fence + 1
            taken = LeaseRecord(name=NAME, fence=fence, holder=self._holder, beat=0)
            try:
                await (unit.table(LEASE).insert(taken) if found is None else unit.table(LEASE).put(taken))
            except RecordExists:  # somebody was first
                return False
            await unit.commit()
        self.fence, self._beaten_at_s = fence, now_s
        self.commits += 1
        _log.info("settlement_lease_taken", fence=fence, holder=self._holder)
        return True

    def _is_silent(self, found: LeaseRecord, now_s: float) -> bool:
        if self._seen != found:
            self._seen, self._seen_at_s = found, now_s
        return now_s - self._seen_at_s >= self._lease_s

    async def _beat(self, now_s: float) -> bool:
        async with self._ports.units.begin() as unit:
            try:
                held = await self.require(unit)
            except Fenced:
                self.lose()
                return False
            await unit.table(LEASE).put(replace(held, beat=held.beat + 1))
            await unit.commit()
        self._beaten_at_s = now_s
        self.commits += 1
        return True

    async def require(self, unit: UnitOfWork) -> LeaseRecord:
        """Hold the lease's row until the unit ends, so that no other takes over meanwhile. Raises `Fenced`."""
        found = await unit.table(LEASE).get_for_update(NAME)
        if found is None or found.fence != self.fence:
            raise Fenced(self.fence or 0)
        return found

    def lose(self) -> None:
        """Another process has it."""
        if self.fence is not None:
            _log.error("settlement_lease_lost", fence=self.fence, holder=self._holder)
        self.fence = None

    async def give_up(self) -> None:
        """Let the next one begin at once."""
        if self.fence is None:
            return
        async with self._ports.units.begin() as unit:
            try:
                held = await self.require(unit)
            except Fenced:
                self.lose()
                return
            await unit.table(LEASE).put(replace(held, holder=None))
            await unit.commit()
        self.fence = None
