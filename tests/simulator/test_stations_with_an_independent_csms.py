# mypy: disable-error-code="misc, untyped-decorator"
# (the `ocpp` package has no types)
"""Simulated stations against central systems made with the `ocpp` package, which checks every frame by the schemas."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import ocpp.messages
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ocpp.messages import Call as OCPPCall
from ocpp.messages import _validate_payload
from ocpp.routing import on
from ocpp.v16 import ChargePoint as Central16Base
from ocpp.v16 import call as call16
from ocpp.v16 import call_result as result16
from ocpp.v16.enums import Action as Action16
from ocpp.v21 import ChargePoint as Central21Base
from ocpp.v21 import call_result as result21
from ocpp.v21.enums import Action as Action21
from ocpp.v201 import ChargePoint as Central201Base
from ocpp.v201 import call as call201
from ocpp.v201 import call_result as result201
from ocpp.v201.enums import Action as Action201
from pyocmf import OCMF

from emobility.adapters.memory.frames import MemoryFrameSocket, memory_frame_pair
from emobility.adapters.memory.time import LoopTimer, VirtualClock, run_virtual
from emobility.domain.identifiers import PartyId
from emobility.ports.frames import SocketClosed
from simulator.stations.link import StationLink
from simulator.stations.ocpp16 import Station16
from simulator.stations.ocpp21 import Station21
from simulator.stations.ocpp201 import Station201
from simulator.stations.profile import EVSEProfile, OCPPVersion, Quirks, StationProfile
from simulator.stations.station import EVSEState, Station

# Threads would break virtual time.
ocpp.messages.ASYNC_VALIDATION = False

NOW = datetime(2022, 3, 27, 8, 0, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
CARD = "04A1B2C3D4E5F6"
STRANGER = "DEADBEEF"
BY_THE_BOOK = Quirks()


class Wire:
    """A memory socket in the shape that the `ocpp` package expects of a WebSocket."""

    def __init__(self, socket: MemoryFrameSocket) -> None:
        self._socket = socket

    async def recv(self) -> str:
        frame = await self._socket.receive()
        assert isinstance(frame, str)
        return frame

    async def send(self, frame: str) -> None:
        await self._socket.send(frame)


@dataclass
class Book:
    """What a central system heard, and how it answers."""

    heard: list[tuple[str, dict[str, Any]]]
    boot_status: str = "Accepted"
    boot_interval: int = 300

    def of(self, action: str) -> list[dict[str, Any]]:
        return [payload for name, payload in self.heard if name == action]


def status_of(token: str | None) -> str:
    return "Invalid" if token == STRANGER else "Accepted"


class Central16(Central16Base):
    def __init__(self, wire: Wire, book: Book) -> None:
        super().__init__("station", wire, response_timeout=5)
        self.book = book

    @on(Action16.boot_notification)
    async def on_boot(self, **payload: Any) -> Any:
        self.book.heard.append(("BootNotification", payload))
        return result16.BootNotification(
            current_time=NOW.isoformat(), interval=self.book.boot_interval, status=self.book.boot_status
        )

    @on(Action16.status_notification)
    async def on_status(self, **payload: Any) -> Any:
        self.book.heard.append(("StatusNotification", payload))
        return result16.StatusNotification()

    @on(Action16.heartbeat)
    async def on_heartbeat(self, **payload: Any) -> Any:
        self.book.heard.append(("Heartbeat", payload))
        return result16.Heartbeat(current_time=NOW.isoformat())

    @on(Action16.authorize)
    async def on_authorize(self, **payload: Any) -> Any:
        self.book.heard.append(("Authorize", payload))
        return result16.Authorize(id_tag_info={"status": status_of(payload["id_tag"])})

    @on(Action16.start_transaction)
    async def on_start(self, **payload: Any) -> Any:
        self.book.heard.append(("StartTransaction", payload))
        number = 40 + len(self.book.of("StartTransaction"))
        return result16.StartTransaction(transaction_id=number, id_tag_info={"status": status_of(payload["id_tag"])})

    @on(Action16.meter_values)
    async def on_meter_values(self, **payload: Any) -> Any:
        self.book.heard.append(("MeterValues", payload))
        return result16.MeterValues()

    @on(Action16.stop_transaction)
    async def on_stop(self, **payload: Any) -> Any:
        self.book.heard.append(("StopTransaction", payload))
        return result16.StopTransaction()


def central_of_2(base: Any, action: Any, result: Any) -> Any:
    """Return a central system of 2.0.1 or 2.1, whose words are the same as far as these tests go."""

    class Central(base):
        def __init__(self, wire: Wire, book: Book) -> None:
            super().__init__("station", wire, response_timeout=5)
            self.book = book

        @on(action.boot_notification)
        async def on_boot(self, **payload: Any) -> Any:
            self.book.heard.append(("BootNotification", payload))
            return result.BootNotification(
                current_time=NOW.isoformat(), interval=self.book.boot_interval, status=self.book.boot_status
            )

        @on(action.status_notification)
        async def on_status(self, **payload: Any) -> Any:
            self.book.heard.append(("StatusNotification", payload))
            return result.StatusNotification()

        @on(action.heartbeat)
        async def on_heartbeat(self, **payload: Any) -> Any:
            self.book.heard.append(("Heartbeat", payload))
            return result.Heartbeat(current_time=NOW.isoformat())

        @on(action.authorize)
        async def on_authorize(self, **payload: Any) -> Any:
            self.book.heard.append(("Authorize", payload))
            return result.Authorize(id_token_info={"status": status_of(payload["id_token"]["id_token"])})

        @on(action.meter_values)
        async def on_meter_values(self, **payload: Any) -> Any:
            self.book.heard.append(("MeterValues", payload))
            return result.MeterValues()

        @on(action.transaction_event)
        async def on_event(self, **payload: Any) -> Any:
            self.book.heard.append(("TransactionEvent", payload))
            if "id_token" not in payload:
                return result.TransactionEvent()
            return result.TransactionEvent(id_token_info={"status": status_of(payload["id_token"]["id_token"])})

    return Central


Central201 = central_of_2(Central201Base, Action201, result201)
Central21 = central_of_2(Central21Base, Action21, result21)
CENTRALS: dict[OCPPVersion, Any] = {
    OCPPVersion.OCPP16: Central16,
    OCPPVersion.OCPP201: Central201,
    OCPPVersion.OCPP21: Central21,
}
STATIONS: dict[OCPPVersion, type[Station]] = {
    OCPPVersion.OCPP16: Station16,
    OCPPVersion.OCPP201: Station201,
    OCPPVersion.OCPP21: Station21,
}
SCHEMAS = {OCPPVersion.OCPP16: "1.6", OCPPVersion.OCPP201: "2.0.1", OCPPVersion.OCPP21: "2.1"}
every_version = pytest.mark.parametrize("version", list(OCPPVersion))


class Bench:
    """A station, its link, and the central system at the other end of whatever connection it makes."""

    def __init__(self, version: OCPPVersion, *, quirks: Quirks = BY_THE_BOOK, starts_offline: bool = False) -> None:
        self.version = version
        self.clock = VirtualClock(NOW)
        self.book = Book(heard=[])
        self.frames: list[tuple[str, list[Any]]] = []
        self.central: Any = None
        self.deaf = False
        self.profile = StationProfile(
            party_id=PartyId("NL-TUL"),
            charging_station_id="TUL-001",
            version=version,
            password="0123456789abcdef",
            time_zone="Europe/Amsterdam",
            seed="bench",
            quirks=quirks,
            starts_offline=starts_offline,
            evses=tuple(
                EVSEProfile(
                    ocpp_evse_id=number,
                    evse_name=f"NL*TUL*E{number}",
                    power_w_max=11_000,
                    is_dc=False,
                    meter_serial=f"M{number}",
                    meter_seed=f"bench {number}",
                    register_wh=1_000_000 * number,
                )
                for number in (1, 2)
            ),
        )
        self.station = STATIONS[version](self.profile, now=self.clock.now)
        self._tasks: list[asyncio.Task[Any]] = []
        self.link = StationLink(
            self.station, dialer=self, url="ws://gateway", timer=LoopTimer(), observe=self._observe, beats=False
        )

    async def dial(self, *, url: str, subprotocols: tuple[str, ...], username: str, password: str) -> MemoryFrameSocket:
        assert (url, username, password) == ("ws://gateway", "TUL-001", "0123456789abcdef")
        assert subprotocols == (self.version.value,)
        here, there = memory_frame_pair()
        self.central = CENTRALS[self.version](Wire(there), self.book)
        self._tasks.append(asyncio.create_task(self._serve(self.central)))
        return here

    async def _serve(self, central: Any) -> None:
        if self.deaf:
            return
        try:
            await central.start()
        except SocketClosed:
            return

    def _observe(self, direction: str, frame: str) -> None:
        self.frames.append((direction, json.loads(frame)))

    async def step(self, duration: timedelta) -> None:
        self.clock.step_by(duration)
        self.station.tick()
        await self.link.settled()

    @property
    def evse(self) -> Any:
        return self.station.evses[1]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def check_every_sent_frame(self) -> None:
        """The oracle: each CALL that was sent is valid by the schema the `ocpp` package ships."""
        calls = [message for direction, message in self.frames if direction == "sent" and message[0] == 2]
        assert calls
        for _, unique_id, action, payload in calls:
            assert len(unique_id) <= 36
            _validate_payload(OCPPCall(unique_id, action, payload), SCHEMAS[self.version])


@asynccontextmanager
async def online(bench: Bench) -> AsyncIterator[Bench]:
    stop = asyncio.Event()
    running = asyncio.create_task(bench.link.run(stop))
    bench.link.go_online()
    await bench.link.settled()
    yield bench
    stop.set()
    await running
    await bench.close()
    bench.check_every_sent_frame()


def end_register_wh(bench: Bench) -> int:
    if bench.version is OCPPVersion.OCPP16:
        return int(bench.book.of("StopTransaction")[-1]["meter_stop"])
    return int(bench.book.of("TransactionEvent")[-1]["meter_value"][0]["sampled_value"][0]["value"])


@every_version
async def test_a_station_announces_itself_and_its_connectors(version: OCPPVersion) -> None:
    async with online(Bench(version)) as bench:
        actions = [name for name, _ in bench.book.heard]

    assert actions[0] == "BootNotification"
    assert set(actions[1:]) == {"StatusNotification"}


@every_version
async def test_a_charge_reports_what_its_meter_counted(version: OCPPVersion) -> None:
    async with online(Bench(version)) as bench:
        bench.station.plug_in(1, power_w=7_400, wanted_wh=5_000)
        bench.station.present(1, CARD)
        await bench.link.settled()
        for _ in range(4):
            await bench.step(QUARTER)
            bench.station.sample()
        bench.station.unplug(1)
        await bench.link.settled()
        [truth] = bench.station.transaction_truths()

    assert truth.metered_wh == 5_000
    assert truth.is_end_acknowledged
    assert end_register_wh(bench) == truth.meter_end_wh == 1_005_000


@every_version
async def test_a_stranger_is_refused_and_nothing_flows(version: OCPPVersion) -> None:
    async with online(Bench(version)) as bench:
        bench.station.plug_in(1, power_w=7_400, wanted_wh=5_000)
        bench.station.present(1, STRANGER)
        await bench.link.settled()
        await bench.step(QUARTER)

    assert bench.evse.last_refusal == "Invalid"
    assert not bench.station.transactions
    assert bench.evse.meter.register_wh == 1_000_000


@every_version
async def test_events_of_an_offline_charge_are_replayed_in_order_with_their_own_times(version: OCPPVersion) -> None:
    async with online(Bench(version)) as bench:
        bench.station.plug_in(1, power_w=11_000, wanted_wh=20_000)
        bench.station.present(1, CARD)
        await bench.link.settled()
        await bench.link.go_offline()
        heard_before = len(bench.book.heard)
        for _ in range(3):
            await bench.step(QUARTER)
            bench.station.sample()
        bench.station.unplug(1)
        await bench.link.settled()
        assert len(bench.book.heard) == heard_before
        await bench.step(timedelta(hours=1))
        bench.link.go_online()
        await bench.link.settled()
        [truth] = bench.station.transaction_truths()

    assert truth.metered_wh == 8_250
    assert truth.was_offline
    if version is OCPPVersion.OCPP16:
        times = [each["meter_value"][0]["timestamp"] for each in bench.book.of("MeterValues")]
        assert bench.book.of("StopTransaction")[0]["timestamp"] == "2022-03-27T08:45:00.000Z"
    else:
        events = bench.book.of("TransactionEvent")
        assert [each["seq_no"] for each in events] == list(range(5))
        assert [each.get("offline", False) for each in events] == [False, True, True, True, True]
        times = [each["timestamp"] for each in events[1:4]]
    assert times == ["2022-03-27T08:15:00.000Z", "2022-03-27T08:30:00.000Z", "2022-03-27T08:45:00.000Z"]


@every_version
async def test_a_charge_started_offline_is_reported_later_under_one_number(version: OCPPVersion) -> None:
    async with online(Bench(version, starts_offline=True)) as bench:
        await bench.link.go_offline()
        bench.station.plug_in(1, power_w=11_000, wanted_wh=20_000)
        bench.station.present(1, CARD)
        await bench.step(QUARTER)
        bench.station.sample()
        bench.station.unplug(1)
        bench.link.go_online()
        await bench.link.settled()

    if version is OCPPVersion.OCPP16:
        assert [each["transaction_id"] for each in bench.book.of("MeterValues")] == [41]
        assert [each["transaction_id"] for each in bench.book.of("StopTransaction")] == [41]
    else:
        numbers = {each["transaction_info"]["transaction_id"] for each in bench.book.of("TransactionEvent")}
        assert len(numbers) == 1


@every_version
async def test_a_charge_started_offline_by_a_stranger_is_stopped_once_the_csms_refuses(version: OCPPVersion) -> None:
    async with online(Bench(version, starts_offline=True)) as bench:
        await bench.link.go_offline()
        bench.station.plug_in(1, power_w=11_000, wanted_wh=20_000)
        bench.station.present(1, STRANGER)
        await bench.step(QUARTER)
        bench.link.go_online()
        await bench.link.settled()
        [truth] = bench.station.transaction_truths()

    assert truth.stopped_reason == "DeAuthorized"
    assert truth.metered_wh == 2_750


@every_version
async def test_a_reboot_ends_the_charge_with_power_loss_at_the_time_of_the_loss(version: OCPPVersion) -> None:
    async with online(Bench(version)) as bench:
        bench.station.plug_in(1, power_w=11_000, wanted_wh=20_000)
        bench.station.present(1, CARD)
        await bench.link.settled()
        await bench.step(QUARTER)
        bench.station.lose_power()
        await bench.link.go_offline()
        await bench.step(QUARTER)
        bench.station.regain_power()
        bench.link.go_online()
        await bench.link.settled()
        [truth] = bench.station.transaction_truths()

    assert truth.stopped_reason == "PowerLoss"
    assert truth.metered_wh == 2_750
    assert truth.ended_at == NOW + QUARTER
    assert len(bench.book.of("BootNotification")) == 2


async def test_a_201_station_may_resume_its_charge_after_a_reboot() -> None:
    async with online(Bench(OCPPVersion.OCPP201, quirks=Quirks(resumes_after_reboot=True))) as bench:
        bench.station.plug_in(1, power_w=11_000, wanted_wh=20_000)
        bench.station.present(1, CARD)
        await bench.link.settled()
        await bench.step(QUARTER)
        bench.station.lose_power()
        await bench.link.go_offline()
        await bench.step(QUARTER)
        bench.station.regain_power()
        bench.link.go_online()
        await bench.step(QUARTER)
        bench.station.unplug(1)
        await bench.link.settled()
        [truth] = bench.station.transaction_truths()

    assert truth.metered_wh == 5_500
    assert [each["seq_no"] for each in bench.book.of("TransactionEvent")] == [0, 1, 2]


async def test_remote_start_and_stop_of_a_16_station() -> None:
    async with online(Bench(OCPPVersion.OCPP16)) as bench:
        bench.station.plug_in(1, power_w=11_000, wanted_wh=20_000)
        started = await bench.central.call(call16.RemoteStartTransaction(id_tag=CARD, connector_id=1))
        await bench.link.settled()
        await bench.step(QUARTER)
        stopped = await bench.central.call(call16.RemoteStopTransaction(transaction_id=41))
        unknown = await bench.central.call(call16.RemoteStopTransaction(transaction_id=99))
        await bench.link.settled()

    assert (started.status, stopped.status, unknown.status) == ("Accepted", "Accepted", "Rejected")
    assert bench.book.of("StopTransaction")[0]["reason"] == "Remote"
    assert bench.evse.state is EVSEState.FINISHING


async def test_remote_start_of_a_201_station_repeats_the_remote_start_id() -> None:
    async with online(Bench(OCPPVersion.OCPP201)) as bench:
        token = {"id_token": CARD, "type": "Central"}
        started = await bench.central.call(
            call201.RequestStartTransaction(id_token=token, remote_start_id=7, evse_id=2)
        )
        bench.station.plug_in(2, power_w=11_000, wanted_wh=20_000)
        await bench.link.settled()
        [first] = bench.book.of("TransactionEvent")
        number = first["transaction_info"]["transaction_id"]
        stopped = await bench.central.call(call201.RequestStopTransaction(transaction_id=number))
        await bench.link.settled()

    assert (started.status, stopped.status) == ("Accepted", "Accepted")
    assert first["transaction_info"]["remote_start_id"] == 7
    assert first["trigger_reason"] == "RemoteStart"
    assert bench.book.of("TransactionEvent")[-1]["transaction_info"]["stopped_reason"] == "Remote"


async def test_other_commands_of_16_are_answered_by_the_book() -> None:
    profile = {
        "chargingProfileId": 1,
        "stackLevel": 0,
        "chargingProfilePurpose": "TxDefaultProfile",
        "chargingProfileKind": "Absolute",
        "chargingSchedule": {"chargingRateUnit": "W", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 3000}]},
    }
    async with online(Bench(OCPPVersion.OCPP16)) as bench:
        limited = await bench.central.call(
            call16.SetChargingProfile(connector_id=1, cs_charging_profiles=_snake(profile))
        )
        triggered = await bench.central.call(call16.TriggerMessage(requested_message="Heartbeat"))
        changed = await bench.central.call(call16.ChangeConfiguration(key="HeartbeatInterval", value="60"))
        unknown = await bench.central.call(call16.ChangeConfiguration(key="Colour", value="red"))
        known = await bench.central.call(call16.GetConfiguration(key=["HeartbeatInterval", "Colour"]))
        bench.station.plug_in(1, power_w=11_000, wanted_wh=20_000)
        bench.station.present(1, CARD)
        await bench.link.settled()
        await bench.step(timedelta(hours=1))
        reset = await bench.central.call(call16.Reset(type="Soft"))
        await bench.link.settled()
        await asyncio.sleep(0)
        await bench.link.settled()
        [truth] = bench.station.transaction_truths()

    assert [each.status for each in (limited, triggered, changed, unknown, reset)] == [
        "Accepted",
        "Accepted",
        "Accepted",
        "NotSupported",
        "Accepted",
    ]
    assert known.unknown_key == ["Colour"]
    assert len(bench.book.of("Heartbeat")) == 1
    assert truth.metered_wh == 3_000
    assert bench.book.of("StopTransaction")[0]["reason"] == "SoftReset"
    assert len(bench.book.of("BootNotification")) == 2


async def test_other_commands_of_201_are_answered_by_the_book() -> None:
    component, variable = {"name": "OCPPCommCtrlr"}, {"name": "HeartbeatInterval"}
    async with online(Bench(OCPPVersion.OCPP201)) as bench:
        wanted = [{"attribute_value": "60", "component": component, "variable": variable}]
        changed = await bench.central.call(call201.SetVariables(set_variable_data=wanted))
        asked = [{"component": component, "variable": variable}, {"component": component, "variable": {"name": "X"}}]
        known = await bench.central.call(call201.GetVariables(get_variable_data=asked))
        triggered = await bench.central.call(call201.TriggerMessage(requested_message="MeterValues"))
        bench.station.plug_in(1, power_w=11_000, wanted_wh=20_000)
        bench.station.present(1, CARD)
        await bench.link.settled()
        scheduled = await bench.central.call(call201.Reset(type="OnIdle"))
        bench.station.unplug(1)
        await bench.link.settled()
        await asyncio.sleep(0)
        await bench.link.settled()
        bench.central.book.heard.append(("MeterValues", {}))

    assert changed.set_variable_result[0]["attribute_status"] == "Accepted"
    assert [each["attribute_status"] for each in known.get_variable_result] == ["Accepted", "UnknownVariable"]
    assert triggered.status == "Accepted"
    assert scheduled.status == "Scheduled"
    assert len(bench.book.of("BootNotification")) == 2


@every_version
async def test_an_unknown_command_gets_a_call_error(version: OCPPVersion) -> None:
    async with online(Bench(version)) as bench:
        await bench.central._connection.send('[2,"x1","MakeCoffee",{}]')
        await bench.central._connection.send('[2,"x2","Reset",[]]')
        for _ in range(20):
            await asyncio.sleep(0)

    errors = [message for direction, message in bench.frames if direction == "sent" and message[0] == 4]
    assert [(each[1], each[2]) for each in errors] == [("x1", "NotImplemented"), ("x2", "FormationViolation")]


@every_version
async def test_the_end_of_a_transaction_may_come_twice_with_the_same_content(version: OCPPVersion) -> None:
    async with online(Bench(version, quirks=Quirks(repeats_transaction_end=True))) as bench:
        bench.station.plug_in(1, power_w=11_000, wanted_wh=1_000)
        bench.station.present(1, CARD)
        await bench.link.settled()
        await bench.step(QUARTER)
        bench.station.present(1, CARD)
        await bench.link.settled()

    action = "StopTransaction" if version is OCPPVersion.OCPP16 else "TransactionEvent"
    first, second = [
        message for direction, message in bench.frames if direction == "sent" and message[2:3] == [action]
    ][-2:]
    assert first[3] == second[3]
    assert first[1] != second[1]


@every_version
def test_an_unanswered_transaction_message_is_sent_again_with_the_same_content(version: OCPPVersion) -> None:
    async def scene() -> list[list[Any]]:
        bench = Bench(version)
        async with online(bench):
            bench.station.plug_in(1, power_w=11_000, wanted_wh=1_000)
            bench.station.present(1, CARD)
            await bench.link.settled()
            central = bench.central
            lost: list[str] = []
            real_send = central._connection.send

            async def lossy(frame: str) -> None:
                asked = next(each for _, each in bench.frames if each[:2] == [2, json.loads(frame)[1]])
                if not lost and asked[2] in ("MeterValues", "TransactionEvent"):
                    lost.append(frame)
                    return
                await real_send(frame)

            central._connection.send = lossy
            await bench.step(QUARTER)
            bench.station.unplug(1)
            await bench.link.settled()
            assert lost
        return [message for direction, message in bench.frames if direction == "sent" and message[0] == 2]

    sent = run_virtual(scene())

    contents = [json.dumps(message[2:]) for message in sent]
    [repeated] = {content for content in contents if contents.count(content) > 1}
    first, second = [message for message in sent if json.dumps(message[2:]) == repeated]
    assert (first[1] == second[1]) is (version is not OCPPVersion.OCPP16)


@every_version
def test_a_pending_boot_is_tried_again_after_the_interval_and_nothing_is_sent_before(version: OCPPVersion) -> None:
    async def scene() -> list[str]:
        bench = Bench(version)
        bench.book.boot_status, bench.book.boot_interval = "Pending", 60
        async with online(bench):
            started_at = asyncio.get_running_loop().time()
            bench.book.boot_status = "Accepted"
            await asyncio.sleep(59)
            assert [name for name, _ in bench.book.heard] == ["BootNotification"]
            await asyncio.sleep(1)
            await bench.link.settled()
            assert asyncio.get_running_loop().time() - started_at >= 60
        return [name for name, _ in bench.book.heard]

    heard = run_virtual(scene())

    assert heard[:3] == ["BootNotification", "BootNotification", "StatusNotification"]


@every_version
async def test_signed_values_verify_with_the_pinned_key_and_a_forged_one_does_not(version: OCPPVersion) -> None:
    for forges in (False, True):
        async with online(Bench(version, quirks=Quirks(forges_end_record=forges))) as bench:
            bench.station.plug_in(1, power_w=11_000, wanted_wh=1_000)
            bench.station.present(1, CARD)
            await bench.link.settled()
            await bench.step(QUARTER)
            bench.station.unplug(1)
            await bench.link.settled()

        records = [OCMF.from_string(text) for text in _records(bench)]
        key = bench.evse.signer.public_hex
        assert [each.payload.PG for each in records] == ["T1", "T2"]
        assert [each.payload.RD[0].TX for each in records] == ["B", "E"]
        assert [each.verify_signature(key) for each in records] == [True, not forges]
        assert records[0].payload.RD[0].RV == 1000


def _records(bench: Bench) -> list[str]:
    import base64  # noqa: PLC0415 - only here

    if bench.version is OCPPVersion.OCPP16:
        values = [each["sampled_value"][1]["value"] for each in bench.book.of("StopTransaction")[0]["transaction_data"]]
        return [str(each) for each in values]
    signed = [
        value["signed_meter_value"]["signed_meter_data"]
        for event in bench.book.of("TransactionEvent")
        for meter_value in event.get("meter_value", [])
        for value in meter_value["sampled_value"]
        if "signed_meter_value" in value
    ]
    return [base64.b64decode(each).decode() for each in signed]


ACTS = st.lists(
    st.sampled_from(["quarter", "minute", "offline", "online", "power_cut", "card", "unplug", "sample"]), max_size=25
)


@every_version
@given(acts=ACTS, resumes=st.booleans())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_happens_the_registers_add_up_and_every_transaction_is_reported_once(
    version: OCPPVersion, acts: list[str], *, resumes: bool
) -> None:
    async def scene() -> Bench:
        bench = Bench(version, starts_offline=True, quirks=Quirks(resumes_after_reboot=resumes))
        async with online(bench):
            for act in acts:
                await _play(bench, act)
            bench.link.go_online()
            await bench.link.settled()
            if not bench.evse.is_free:
                bench.station.unplug(1)
            await bench.link.settled()
        return bench

    bench = run_virtual(scene())

    truths = bench.station.transaction_truths()
    assert sum(each.metered_wh or 0 for each in truths) <= bench.evse.meter.register_wh - 1_000_000
    # A metered part of a Wh belongs to the next charge, so each transaction may hide at most one.
    assert bench.evse.meter.register_wh - 1_000_000 <= sum(each.metered_wh or 0 for each in truths) + len(truths)
    assert all(each.is_start_acknowledged and each.is_end_acknowledged for each in truths)
    assert bench.station.queued == 0
    ends = (
        bench.book.of("StopTransaction")
        if version is OCPPVersion.OCPP16
        else [each for each in bench.book.of("TransactionEvent") if each["event_type"] == "Ended"]
    )
    assert len(ends) == len(truths)


async def _play(bench: Bench, act: str) -> None:
    station, link = bench.station, bench.link
    if act in ("quarter", "minute"):
        await bench.step(QUARTER if act == "quarter" else timedelta(seconds=61))
    elif act == "offline":
        await link.go_offline()
    elif act == "online":
        link.go_online()
        await link.settled()
    elif act == "power_cut":
        station.lose_power()
        await link.go_offline()
        station.regain_power()
        link.go_online()
        await link.settled()
    elif act == "card":
        if bench.evse.is_free:
            station.plug_in(1, power_w=7_357, wanted_wh=9_999)
        station.present(1, CARD)
        await link.settled()
    elif act == "sample":
        station.sample()
    elif act == "unplug" and not bench.evse.is_free:
        station.unplug(1)
        await link.settled()


def test_two_stations_of_one_seed_send_the_same_frames() -> None:
    async def scene() -> list[Any]:
        bench = Bench(OCPPVersion.OCPP201)
        async with online(bench):
            bench.station.plug_in(1, power_w=11_000, wanted_wh=1_000)
            bench.station.present(1, CARD)
            await bench.step(QUARTER)
            bench.station.unplug(1)
            await bench.link.settled()
        return [message for direction, message in bench.frames if direction == "sent"]

    assert run_virtual(scene()) == run_virtual(scene())


def _snake(profile: dict[str, Any]) -> dict[str, Any]:
    from ocpp.charge_point import camel_to_snake_case  # noqa: PLC0415 - the package's own naming

    plain: dict[str, Any] = camel_to_snake_case(profile)
    return plain


def test_profiles_are_frozen() -> None:
    profile = Bench(OCPPVersion.OCPP16).profile

    assert replace(profile, seed="other") != profile
