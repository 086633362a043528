"""The time master: plays a scenario moment by moment and waits, after each, until nothing moves any more.

`Clock` is stepped only when every call of a station was answered, the consumers have no lag and the hub has nothing in
flight (`quiet`). So a run over real sockets gives, per session, the same parties, Wh, status and prices as any other
run of its seed; with memory adapters it gives the same bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import date, datetime, timedelta
from functools import partial
from typing import Final, Protocol, TypeVar

from emobility.domain.identifiers import PartyId
from emobility.ports.clock import Timer
from emobility.ports.frames import SocketClosed, StationDialer
from simulator.agenda import Act, Agenda, Phase
from simulator.market import published_at
from simulator.report import Outcome, SessionOutcome, SimulationReport
from simulator.scenario import GRID_S, Intrusion, Outage, Scenario, SessionFault, SessionPlan, StartedBy, StoppedBy
from simulator.stations.link import StationLink
from simulator.stations.ocpp16 import Station16
from simulator.stations.ocpp21 import Station21
from simulator.stations.ocpp201 import Station201
from simulator.stations.profile import OCPPVersion, StationProfile
from simulator.stations.station import Station
from simulator.truth import Truth

T = TypeVar("T")

QUARTER: Final = timedelta(minutes=15)
GRID: Final = timedelta(seconds=GRID_S)
WATCH_AFTER: Final = timedelta(minutes=15)
ANSWER_AFTER: Final = timedelta(minutes=30)
HEARTBEAT_EVERY: Final = timedelta(hours=6)
LOOK_AHEAD: Final = timedelta(days=1)
"""Prices are published for the days of the scenario and for the day after each, into which nights reach."""
WRONG_PASSWORD: Final = "0000000000000000000000000000wrong"  # noqa: S105 - the wrong one
STATIONS: Final[dict[OCPPVersion, type[Station]]] = {
    OCPPVersion.OCPP16: Station16,
    OCPPVersion.OCPP201: Station201,
    OCPPVersion.OCPP21: Station21,
}
_EPOCH: Final = datetime.fromisoformat("2020-01-01T00:00:00+00:00")


class SteppableClock(Protocol):
    """Business time under the hand of the time master."""

    def now(self) -> datetime:
        """Return the present moment."""

    def step_to(self, at: datetime) -> None:
        """Move it forward."""


class Backstage(Protocol):
    """What operators and drivers do by HTTP; `simulator.backstage` is the real one."""

    async def set_up(self) -> None:
        """Bring parties, stations, tariffs, contracts and agreements into the system."""

    async def publish_prices(self, day: date) -> None:
        """Tell the CPOs the day-ahead prices of a local day."""

    async def start(self, session: SessionPlan) -> str | None:
        """A driver asks for a quote, accepts it and starts. Return why not; None: the command is on its way."""

    async def watch(self, session: SessionPlan) -> None:
        """A driver looks at the running charge."""

    async def stop(self, session: SessionPlan) -> None:
        """A driver stops by app."""

    async def mistake_meter_key(self, session: SessionPlan, /) -> None:
        """The driver's MSP makes a mistake that lets it dispute the CDR of the session."""

    async def answer_dispute(self, session: SessionPlan, /) -> None:
        """The MSP corrects itself; the CPO credits the disputed CDR and replaces it."""


def make_station(profile: StationProfile, *, now: Callable[[], datetime], truth: Truth) -> Station:
    """Return a station of the profile's OCPP version."""
    kind = STATIONS[profile.version]
    return kind(profile, now=now, truth=truth)


class Simulation:
    """One run of a scenario.

    Args:
        scenario: What happens.
        clock: Business time; only this object steps it.
        timer: Transport time of the stations' links.
        dialer: How stations reach the gateway.
        gateway_url: ws://HOST:PORT, without a path.
        backstage: Operators and drivers.
        quiet: Returns when the system has nothing left to do.
        progress: Told a sentence, and how much is done (0 to 1000), now and then.
        observe: Called with station, direction and frame; for recordings and tests.
    """

    def __init__(
        self,
        scenario: Scenario,
        *,
        clock: SteppableClock,
        timer: Timer,
        dialer: StationDialer,
        gateway_url: str,
        backstage: Backstage,
        quiet: Callable[[], Awaitable[None]],
        progress: Callable[[str, int], None] = lambda _sentence, _permille: None,
        observe: Callable[[str, str, str], None] = lambda _station, _direction, _frame: None,
    ) -> None:
        self._scenario = scenario
        self._clock = clock
        self._dialer = dialer
        self._gateway_url = gateway_url
        self._backstage = backstage
        self._quiet = quiet
        self._progress = progress
        self._agenda = Agenda()
        self._truth = Truth()
        self._links: dict[tuple[PartyId, str], StationLink] = {}
        for plan in scenario.stations:
            profile = plan.profile
            self._links[plan.party_id, plan.charging_station_id] = StationLink(
                make_station(profile, now=clock.now, truth=self._truth),
                dialer=dialer,
                url=f"{gateway_url}/ocpp/{profile.party_id}/{profile.charging_station_id}",
                timer=timer,
                observe=partial(observe, profile.charging_station_id),
                beats=False,
            )
        self._outcomes = {each.number: _planned(each) for each in scenario.sessions}
        self._asked_by_http = False
        self._rested_at = -1
        self._report = SimulationReport(
            seed=scenario.seed,
            began_at=scenario.begins_at,
            ended_at=scenario.ends_at,
            sessions=list(self._outcomes.values()),
            truth=self._truth,
        )

    async def run(self) -> SimulationReport:
        """Set the system up, play every moment, return what happened."""
        self._clock.step_to(self._scenario.begins_at)
        self._progress("setting up parties, stations and contracts", 0)
        await self._backstage.set_up()
        await self._quiet()
        self._plan_everything()
        stop = asyncio.Event()
        running = [asyncio.create_task(link.run(stop)) for link in self._links.values()]
        try:
            for link in self._links.values():
                link.go_online()
            await self._rest(running)
            await self._play(running)
        finally:
            stop.set()
            await asyncio.gather(*running, return_exceptions=True)
        return self._finish()

    # The plan --------------------------------------------------------------------------------------------------

    def _plan_everything(self) -> None:
        plan = self._agenda.plan
        for day in self._scenario.days:
            for delivery in (day, day + LOOK_AHEAD):
                at = max(published_at(delivery), self._scenario.begins_at)
                plan(at, Phase.MARKET, partial(self._publish_prices, delivery))
        for session in self._scenario.sessions:
            self._plan_session(session)
        for outage in self._scenario.outages:
            plan(outage.begins_at, Phase.OUTAGES, partial(self._go_away, outage))
            plan(outage.ends_at, Phase.RETURNS, partial(self._come_back, outage))
        for intrusion in self._scenario.intrusions:
            plan(intrusion.at, Phase.DRIVERS, partial(self._intrude, intrusion))
        plan(self._scenario.ends_at, Phase.METERS, _nothing)

    def _plan_session(self, session: SessionPlan) -> None:
        plan = self._agenda.plan
        plan(session.arrives_at, Phase.PLUGS, partial(self._plug_in, session))
        plan(session.arrives_at, Phase.STARTS, partial(self._start, session))
        plan(session.arrives_at, Phase.OUTCOMES, partial(self._see_outcome, session))
        plan(session.leaves_at, Phase.STOPS, partial(self._stop, session))
        plan(session.leaves_at, Phase.UNPLUGS, partial(self._unplug, session))
        if session.started_by is StartedBy.APP:
            plan(session.arrives_at + WATCH_AFTER, Phase.DRIVERS, partial(self._watch, session))
        if session.fault is SessionFault.DISPUTED:
            plan(session.arrives_at, Phase.OPERATORS, partial(self._mistake_meter_key, session))
            plan(session.leaves_at + ANSWER_AFTER, Phase.OPERATORS, partial(self._answer_dispute, session))

    # The play --------------------------------------------------------------------------------------------------

    async def _play(self, running: Sequence[asyncio.Task[None]]) -> None:
        beat_at = self._scenario.begins_at + HEARTBEAT_EVERY
        while (at := self._next_moment()) is not None:
            self._clock.step_to(at)
            self._report.moments += 1
            for station in self._stations():
                station.tick()
                if (at - _EPOCH) % QUARTER == timedelta(0):
                    station.sample()
            if at >= beat_at:
                beat_at = at + HEARTBEAT_EVERY
                for station in self._stations():
                    station.heartbeat()
            await self._settle(running)
            while (taken := self._agenda.take(at)) is not None:
                await self._act(taken[1], running)
            await self._rest(running)
            self._tell(at)

    def _tell(self, at: datetime) -> None:
        """Report progress by arrivals and departures: between the two days lie two months of nothing."""
        sessions = self._scenario.sessions
        begun = sum(each.arrives_at <= at for each in sessions)
        passed = begun + sum(each.leaves_at <= at for each in sessions)
        self._progress(f"{at:%Y-%m-%d %H:%M} UTC, {begun} sessions begun", passed * 1000 // (2 * len(sessions)))

    def _next_moment(self) -> datetime | None:
        """The agenda's next, or a quarter hour while energy flows, or when a vehicle is full, on the grid."""
        planned = self._agenda.next_at()
        if planned is None:
            return None
        now = self._clock.now()
        moments = [planned]
        for station in self._stations():
            full_at = station.next_full_at()
            if full_at is not None:
                moments += [_ceil(max(full_at, now + GRID), GRID), _ceil(now + timedelta(seconds=1), QUARTER)]
        return min(moments)

    async def _act(self, acts: Sequence[Act], running: Sequence[asyncio.Task[None]]) -> None:
        await asyncio.gather(*(act() for act in acts))
        await self._settle(running)
        if self._asked_by_http:
            # What was asked for by HTTP reaches the stations through hub and gateway.
            await self._rest(running)

    async def _rest(self, running: Sequence[asyncio.Task[None]]) -> None:
        """Return when neither the stations nor the system behind the gateway has anything left to say."""
        await self._settle(running)
        while self._asked_by_http or self._heard() != self._rested_at:
            self._asked_by_http = False
            self._rested_at = self._heard()
            await self._quiet()
            await self._settle(running)

    def _heard(self) -> int:
        return len(self._truth.acknowledged) + sum(link.figures.received.total() for link in self._links.values())

    async def _settle(self, running: Sequence[asyncio.Task[None]]) -> None:
        """Wait for the stations; a link that died is an error at once, not a wait for ever."""
        settling = asyncio.create_task(self._all_settled())
        done, _ = await asyncio.wait({settling, *running}, return_when=asyncio.FIRST_COMPLETED)
        for task in done - {settling}:
            task.result()
            raise AssertionError("a station's link ended before the scenario")

    async def _all_settled(self) -> None:
        for link in self._links.values():
            await link.settled()

    def _stations(self) -> list[Station]:
        return [link.station for link in self._links.values()]

    def _link(self, session: SessionPlan | Outage | Intrusion) -> StationLink:
        return self._links[session.party_id, session.charging_station_id]

    # Acts ------------------------------------------------------------------------------------------------------

    async def _plug_in(self, session: SessionPlan) -> None:
        link = self._link(session)
        link.station.plug_in(session.ocpp_evse_id, power_w=session.power_w, wanted_wh=session.wanted_wh)
        evse = link.station.evses[session.ocpp_evse_id]
        evse.forges_next_end = session.fault is SessionFault.FORGED_METER_VALUE
        evse.repeats_next_end = session.fault is SessionFault.END_SENT_TWICE
        await link.settled()

    async def _start(self, session: SessionPlan) -> None:
        if session.started_by is StartedBy.APP:
            self._outcomes[session.number].refusal = await self._asking(self._backstage.start(session))
        else:
            self._link(session).station.present(session.ocpp_evse_id, session.driver.rfid_uid)

    async def _see_outcome(self, session: SessionPlan) -> None:
        outcome = self._outcomes[session.number]
        evse = self._link(session).station.evses[session.ocpp_evse_id]
        if evse.transaction is not None:
            outcome.outcome = Outcome.CHARGED
            outcome.local_id = evse.transaction.local_id
            return
        outcome.outcome = Outcome.REFUSED
        outcome.refusal = outcome.refusal or evse.last_refusal or "the station did not start"
        # Nobody waits at a station that refuses: the vehicle leaves.
        self._link(session).station.unplug(session.ocpp_evse_id)

    async def _asking(self, call: Awaitable[T]) -> T:
        """Await a call to an API, and remember that the system has something to do."""
        self._asked_by_http = True
        return await call

    async def _publish_prices(self, day: date) -> None:
        await self._asking(self._backstage.publish_prices(day))

    async def _mistake_meter_key(self, session: SessionPlan) -> None:
        await self._asking(self._backstage.mistake_meter_key(session))

    async def _answer_dispute(self, session: SessionPlan) -> None:
        await self._asking(self._backstage.answer_dispute(session))

    async def _watch(self, session: SessionPlan) -> None:
        outcome = self._outcomes[session.number]
        if outcome.outcome is Outcome.CHARGED:
            await self._backstage.watch(session)
            outcome.watched += 1

    async def _stop(self, session: SessionPlan) -> None:
        if not self._is_running(session):
            return
        if session.stopped_by is StoppedBy.CARD:
            self._link(session).station.present(session.ocpp_evse_id, session.driver.rfid_uid)
        elif session.stopped_by is StoppedBy.APP:
            await self._asking(self._backstage.stop(session))

    async def _unplug(self, session: SessionPlan) -> None:
        outcome = self._outcomes[session.number]
        if outcome.outcome is not Outcome.CHARGED:
            return
        if session.stopped_by is StoppedBy.APP and self._is_running(session):
            outcome.notes.append("the app did not stop it; the cable was pulled")
        self._link(session).station.unplug(session.ocpp_evse_id)

    def _is_running(self, session: SessionPlan) -> bool:
        transaction = self._link(session).station.evses[session.ocpp_evse_id].transaction
        return transaction is not None and transaction.local_id == self._outcomes[session.number].local_id

    async def _go_away(self, outage: Outage) -> None:
        link = self._link(outage)
        if outage.loses_power:
            link.station.lose_power()
        await link.go_offline()

    async def _come_back(self, outage: Outage) -> None:
        link = self._link(outage)
        if outage.loses_power:
            link.station.regain_power()
        link.go_online()
        await link.settled()

    async def _intrude(self, intrusion: Intrusion) -> None:
        station = self._link(intrusion).station
        if intrusion.id_token is not None:
            station.present(intrusion.ocpp_evse_id, intrusion.id_token)
            await self._link(intrusion).settled()
            refusal = station.evses[intrusion.ocpp_evse_id].last_refusal
            self._report.intrusions.append(f"unknown card at {intrusion.charging_station_id}: {refusal}")
            return
        answer = await self._knock(intrusion, station.profile)
        self._report.intrusions.append(f"wrong password at {intrusion.charging_station_id}: {answer}")

    async def _knock(self, intrusion: Intrusion, profile: StationProfile) -> str:
        try:
            socket = await self._dialer.dial(
                url=f"{self._gateway_url}/ocpp/{profile.party_id}/{profile.charging_station_id}",
                subprotocols=(profile.version.value,),
                username=intrusion.charging_station_id,
                password=WRONG_PASSWORD,
            )
        except SocketClosed as closed:
            return str(closed.code)
        await socket.close(1000, "let in")
        return "let in"

    def _finish(self) -> SimulationReport:
        for link in self._links.values():
            self._truth.transactions += link.station.transaction_truths()
            version = link.station.profile.version.value
            for action, number in link.figures.sent.items():
                self._report.messages[f"{version} {action}"] += number
            self._report.commands.update(link.figures.received)
            self._report.call_errors += link.figures.call_errors
            self._report.connections += link.figures.connections
        return self._report


def _planned(session: SessionPlan) -> SessionOutcome:
    return SessionOutcome(
        number=session.number,
        party_id=session.party_id.code,
        emsp_id=session.driver.emsp_id.code,
        charging_station_id=session.charging_station_id,
        ocpp_evse_id=session.ocpp_evse_id,
        started_by=session.started_by.value,
        is_roaming=session.is_roaming,
        fault=session.fault.value,
        arrives_at=session.arrives_at,
        leaves_at=session.leaves_at,
    )


def _ceil(at: datetime, step: timedelta) -> datetime:
    return _EPOCH + -((at - _EPOCH) // -step) * step


async def _nothing() -> None:
    return
