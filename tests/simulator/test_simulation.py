"""The time master, on a toy CSMS: everything is played, in order, the same way each time."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import pytest

from emobility.adapters.memory.frames import MemoryFrameSocket, memory_frame_pair
from emobility.adapters.memory.time import LoopTimer, VirtualClock, run_virtual
from emobility.ports.frames import SocketClosed
from simulator.planning import plan_scenario
from simulator.report import Outcome, SimulationReport
from simulator.scenario import UNKNOWN_CARD, Scenario, SessionFault, SessionPlan
from simulator.simulation import Simulation

APP_TOKEN = "0123456789ABCDEF0123"
ACCEPTED = {"status": "Accepted"}


@dataclass
class ToyCSMS:
    """Accepts every station and every driver but the unknown card; remembers what it heard."""

    clock: VirtualClock
    passwords: dict[str, str]
    sockets: dict[str, MemoryFrameSocket] = field(default_factory=dict)
    frames: list[tuple[str, str, str]] = field(default_factory=list)
    numbers: int = 0
    commands: int = 0
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    speaks_201: frozenset[str] = frozenset()

    async def dial(self, *, url: str, subprotocols: tuple[str, ...], username: str, password: str) -> MemoryFrameSocket:
        assert url.endswith(f"/{username}")
        assert subprotocols
        if self.passwords[username] != password:
            raise SocketClosed(code=401, reason="")
        here, there = memory_frame_pair()
        self.sockets[username] = there
        self.tasks.append(asyncio.create_task(self._serve(there)))
        return here

    async def _serve(self, socket: MemoryFrameSocket) -> None:
        try:
            while True:
                message = json.loads(await socket.receive())
                if message[0] == 2:
                    await socket.send(json.dumps([3, message[1], self._answer(message[2], message[3])]))
        except SocketClosed:
            return

    def _answer(self, action: str, payload: dict[str, Any]) -> dict[str, Any]:
        status = {"status": "Invalid" if UNKNOWN_CARD in json.dumps(payload) else "Accepted"}
        if action == "BootNotification":
            return {"currentTime": self.clock.now().isoformat(), "interval": 300, **ACCEPTED}
        if action == "StartTransaction":
            self.numbers += 1
            return {"transactionId": self.numbers, "idTagInfo": status}
        if action == "Authorize":
            return {"idTagInfo": status, "idTokenInfo": status}
        return {}

    async def start(self, session: SessionPlan) -> None:
        self.commands += 1
        name = "RemoteStartTransaction"
        payload: dict[str, Any] = {"connectorId": session.ocpp_evse_id, "idTag": APP_TOKEN}
        if session.charging_station_id in self.speaks_201:
            name = "RequestStartTransaction"
            payload = {
                "evseId": session.ocpp_evse_id,
                "idToken": {"idToken": APP_TOKEN, "type": "Central"},
                "remoteStartId": self.commands,
            }
        socket = self.sockets[session.charging_station_id]
        await socket.send(json.dumps([2, f"c{self.commands}", name, payload]))


@dataclass
class ToyBackstage:
    """Operators and drivers that only count."""

    csms: ToyCSMS
    prices: list[date] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)

    async def set_up(self) -> None:
        self.calls.append("set_up")

    async def publish_prices(self, day: date) -> None:
        self.prices.append(day)

    async def start(self, session: SessionPlan) -> str | None:
        if session.driver.card_is_declined:
            return "card declined"
        await self.csms.start(session)
        return None

    async def watch(self, session: SessionPlan) -> None:
        self.calls.append(f"watch {session.number}")

    async def stop(self, session: SessionPlan) -> None:
        self.calls.append(f"stop {session.number}")

    async def mistake_meter_key(self, _: SessionPlan) -> None:
        self.calls.append("mistake")

    async def answer_dispute(self, _: SessionPlan) -> None:
        self.calls.append("answer_dispute")


@dataclass
class Run:
    scenario: Scenario
    report: SimulationReport
    backstage: ToyBackstage
    frames: list[tuple[str, str, str]]
    steps: list[datetime]


def play(seed: int, arrivals_per_day: int = 72) -> Run:
    scenario = plan_scenario(seed, arrivals_per_day=arrivals_per_day)
    clock = VirtualClock(scenario.begins_at)
    csms = ToyCSMS(clock, {each.charging_station_id: each.profile.password for each in scenario.stations})
    csms.speaks_201 = frozenset(
        each.charging_station_id for each in scenario.stations if each.profile.version.value != "ocpp1.6"
    )
    backstage = ToyBackstage(csms)
    frames: list[tuple[str, str, str]] = []
    steps: list[datetime] = []

    async def quiet() -> None:
        steps.append(clock.now())
        # Commands travel for a while.
        await asyncio.sleep(1)

    async def scene() -> SimulationReport:
        simulation = Simulation(
            scenario,
            clock=clock,
            timer=LoopTimer(),
            dialer=csms,
            gateway_url="ws://gateway",
            backstage=backstage,
            quiet=quiet,
            observe=lambda station, direction, frame: frames.append((station, direction, frame)),
        )
        report = await simulation.run()
        for task in csms.tasks:
            task.cancel()
        await asyncio.gather(*csms.tasks, return_exceptions=True)
        return report

    return Run(scenario, run_virtual(scene()), backstage, frames, steps)


@pytest.fixture(scope="module")
def run() -> Run:
    return play(7)


def test_every_planned_session_charges_but_the_one_whose_card_is_declined(run: Run) -> None:
    refused = [each for each in run.report.sessions if each.outcome is not Outcome.CHARGED]

    assert [(each.fault, each.refusal) for each in refused] == [(SessionFault.CARD_DECLINED.value, "card declined")]
    assert len(run.report.sessions) >= 120


def test_every_transaction_is_acknowledged_from_start_to_end(run: Run) -> None:
    assert len(run.report.truth.transactions) == len(run.report.sessions) - 1
    assert all(each.is_start_acknowledged and each.is_end_acknowledged for each in run.report.truth.transactions)
    assert not run.report.call_errors


def test_what_was_metered_is_what_each_vehicle_could_take(run: Run) -> None:
    plans = {each.number: each for each in run.scenario.sessions}
    truths = {each.local_id: each for each in run.report.truth.transactions}
    for session in run.report.sessions:
        if session.outcome is not Outcome.CHARGED:
            continue
        plan, truth = plans[session.number], truths[session.local_id or ""]
        seconds = int((plan.leaves_at - plan.arrives_at).total_seconds())
        possible_wh = min(plan.wanted_wh, plan.power_w * seconds // 3_600)
        if plan.fault is SessionFault.STATION_REBOOTS:
            possible_wh = plan.power_w * 1_800 // 3_600
        # The register shows whole Wh, so what a short charge leaves may be one less.
        assert truth.metered_wh in (possible_wh, possible_wh - 1, possible_wh + 1), session


def test_each_fault_shows_in_what_the_stations_sent(run: Run) -> None:
    by_fault = {each.fault: each.local_id for each in run.report.sessions if each.fault != SessionFault.NONE.value}
    truths = {each.local_id: each for each in run.report.truth.transactions}

    assert truths[by_fault["STATION_OFFLINE"] or ""].was_offline
    assert truths[by_fault["STATION_REBOOTS"] or ""].stopped_reason == "PowerLoss"
    assert [each.local_id for each in run.report.truth.transactions if each.is_forged] == [
        by_fault["FORGED_METER_VALUE"]
    ]
    twice = truths[by_fault["END_SENT_TWICE"] or ""]
    ends = [
        each
        for each in run.report.truth.acknowledged
        if each.transaction_id == twice.transaction_id
        and each.charging_station_id == twice.charging_station_id
        and (each.action == "StopTransaction" or each.seq_no is not None)
    ]
    assert len(ends) != len({(each.content_hash) for each in ends})
    assert run.backstage.calls.count("mistake") == run.backstage.calls.count("answer_dispute") == 1


def test_strangers_and_wrong_passwords_are_refused(run: Run) -> None:
    assert sorted(each.split(":")[1] for each in run.report.intrusions) == [" 401", " 401", " Invalid", " Invalid"]


def test_prices_are_published_once_per_day_before_it_begins(run: Run) -> None:
    assert [str(each) for each in run.backstage.prices] == ["2022-03-27", "2022-03-28", "2022-05-27", "2022-05-28"]


def test_a_two_day_run_has_a_bounded_number_of_messages(run: Run) -> None:
    assert 1_500 <= run.report.figures()["messages"] <= 2_700


def test_time_only_moves_forward_and_rests_after_each_moment(run: Run) -> None:
    assert run.steps == sorted(run.steps)
    assert run.report.moments < 1_000


def test_two_runs_of_one_seed_send_the_same_frames() -> None:
    first, second = play(3, 30), play(3, 30)

    assert first.frames == second.frames
    assert first.report.truth.as_json() == second.report.truth.as_json()


def test_another_seed_is_another_day() -> None:
    assert play(3, 30).frames != play(4, 30).frames
