"""Free-running load: many stations that charge over and over in real time, for benches and fault tests.

Bounded in stations, time and messages. What was acknowledged is known at the end, and on disk as it happens when a
journal is given; stations that lose their gateway keep their messages and send them when it is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from emobility.ports.clock import Timer
from emobility.ports.frames import StationDialer
from simulator.journal import AcknowledgementJournal
from simulator.simulation import make_station
from simulator.stations.link import StationLink
from simulator.stations.profile import StationProfile
from simulator.truth import AcknowledgedMessage, Truth

WANTED_WH: Final = 1_000_000
"""More than any charge of a load run takes: it ends when its time is over, not when the vehicle is full."""
POWER_W: Final = 22_000
DRAIN_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """How much and how long.

    Attributes:
        profiles: The stations.
        tokens: Card of each station's driver, by station; the same card for all its EVSEs in turn.
        duration_s: Seconds after which no new charge begins.
        sample_every_s: Seconds between meter values of a charge; 0 sends as fast as they are acknowledged.
        samples_per_charge: Meter values between start and end of a charge.
        messages_max: Acknowledged messages after which no new charge begins; None: no bound but time.
    """

    profiles: Sequence[StationProfile]
    tokens: Sequence[str]
    duration_s: float
    sample_every_s: float = 0.2
    samples_per_charge: int = 5
    messages_max: int | None = None


@dataclass(slots=True, kw_only=True)
class LoadReport:
    """What a load run did. `unsent`: messages of transactions that no gateway acknowledged before the run gave up."""

    truth: Truth
    acknowledged: int
    duration_s: float
    call_errors: list[str]
    timed_out: int
    connections: int
    unsent: int

    @property
    def messages_per_s(self) -> float:
        """Acknowledged messages per second, for people to read."""
        return self.acknowledged / self.duration_s if self.duration_s else 0.0


class _JournalledTruth(list[AcknowledgedMessage]):
    """Acknowledged messages that are journalled as they are appended."""

    def __init__(self, journal: AcknowledgementJournal | None) -> None:
        super().__init__()
        self._journal = journal

    def append(self, message: AcknowledgedMessage) -> None:
        super().append(message)
        if self._journal is not None:
            self._journal.write(message)


class LoadRun:
    """One run; `run` may be called once."""

    def __init__(
        self,
        plan: LoadPlan,
        *,
        now: Callable[[], datetime],
        timer: Timer,
        dialer: StationDialer,
        gateway_url: str,
        journal: AcknowledgementJournal | None = None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        assert len(plan.tokens) == len(plan.profiles), "one card per station"
        self._plan = plan
        self._timer = timer
        self._journal = journal
        self._progress = progress
        self._truth = Truth(acknowledged=_JournalledTruth(journal))
        self._links = [
            StationLink(
                make_station(profile, now=now, truth=self._truth),
                dialer=dialer,
                url=f"{gateway_url}/ocpp/{profile.party_id}/{profile.charging_station_id}",
                timer=timer,
            )
            for profile in plan.profiles
        ]
        self._ends_at_s = 0.0

    async def run(self) -> LoadReport:
        """Charge until time or messages are used up, then wait until everything that happened was acknowledged."""
        stop = asyncio.Event()
        running = [asyncio.create_task(link.run(stop)) for link in self._links]
        started_s = self._timer.monotonic_s()
        self._ends_at_s = started_s + self._plan.duration_s
        for link in self._links:
            link.go_online()
        try:
            await asyncio.gather(
                *(self._drive(link, token) for link, token in zip(self._links, self._plan.tokens, strict=True))
            )
            await self._drain()
        finally:
            stop.set()
            await asyncio.gather(*running, return_exceptions=True)
            if self._journal is not None:
                self._journal.flush()
        for link in self._links:
            self._truth.transactions += link.station.transaction_truths()
        return LoadReport(
            truth=Truth(transactions=self._truth.transactions, acknowledged=list(self._truth.acknowledged)),
            acknowledged=len(self._truth.acknowledged),
            duration_s=self._timer.monotonic_s() - started_s,
            call_errors=[error for link in self._links for error in link.figures.call_errors],
            timed_out=sum(link.figures.timed_out for link in self._links),
            connections=sum(link.figures.connections for link in self._links),
            unsent=sum(link.station.queued for link in self._links),
        )

    @property
    def acknowledged(self) -> Sequence[AcknowledgedMessage]:
        """What was acknowledged so far."""
        return self._truth.acknowledged

    def finish(self) -> None:
        """Begin no new charge, as if the time were over."""
        self._ends_at_s = self._timer.monotonic_s()

    async def _drive(self, link: StationLink, token: str) -> None:
        station = link.station
        evse_ids = list(station.evses)
        charges = 0
        while not self._is_over():
            evse_id = evse_ids[charges % len(evse_ids)]
            charges += 1
            station.plug_in(evse_id, power_w=POWER_W, wanted_wh=WANTED_WH)
            station.present(evse_id, token)
            for _ in range(self._plan.samples_per_charge):
                await self._pause(link)
                station.report_now(evse_id)
            await self._pause(link)
            station.unplug(evse_id)
            await self._pause(link)

    async def _pause(self, link: StationLink) -> None:
        # With a pace, the next value comes when it is due, acknowledged or not: an outage fills the queue.
        if self._plan.sample_every_s:
            await self._timer.sleep(self._plan.sample_every_s)
        else:
            await link.settled()

    def _is_over(self) -> bool:
        bound = self._plan.messages_max
        return self._timer.monotonic_s() >= self._ends_at_s or (
            bound is not None and len(self._truth.acknowledged) >= bound
        )

    async def _drain(self) -> None:
        self._progress("waiting until every message is acknowledged")
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                for link in self._links:
                    await link.settled()
        except TimeoutError:
            self._progress(f"not acknowledged after {DRAIN_TIMEOUT_S:.0f} s")
