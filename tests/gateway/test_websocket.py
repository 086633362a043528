"""Real WebSockets: the `ocpp` package as an independent client over PostgreSQL, and attackers with raw frames."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast

import pytest
import websockets
from ocpp.routing import on
from ocpp.v16 import ChargePoint as ChargePoint16
from ocpp.v16 import call as call16
from ocpp.v16 import call_result as result16
from ocpp.v21 import ChargePoint as ChargePoint21
from ocpp.v21 import call as call21
from ocpp.v21 import call_result as result21
from ocpp.v201 import ChargePoint as ChargePoint201
from ocpp.v201 import call as call201
from ocpp.v201 import call_result as result201
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from charge_point_gateway.connection import Limits
from charge_point_gateway.gateway import Admission, GatewayOptions, GatewayService, build
from charge_point_gateway.rpc_errors import OCPPVersion
from charge_point_gateway.security import station_identity
from charge_point_gateway.server import FRAGMENTS_MAX, MESSAGES_BUFFERED_MAX, StationServer, WebSocketFrames
from emobility.adapters.memory import MemoryHttp
from emobility.adapters.postgres import PostgresAdapters, open_postgres
from emobility.adapters.system import SystemClock, SystemRandomness, SystemTimer
from emobility.events.charging import TransactionEnded, TransactionStarted
from emobility.ports.frames import FrameSocket, SocketClosed
from emobility.ports.ports import Ports
from emobility.protocols.station_control.messages import (
    CommandResult,
    OCPPCall,
    Reset,
    StartTransaction,
    StationCommand,
)
from tests.gateway.conftest import (
    PARTY,
    PASSWORD,
    STATION,
    FakeBackOffice,
    World,
    running_world,
    settings_for_tests,
    until,
)

AT = "2022-03-27T01:00:00Z"


@asynccontextmanager
async def listening(gateway: GatewayService) -> AsyncIterator[str]:
    server = StationServer(gateway, host="127.0.0.1", port=0)
    await server.start()
    yield f"ws://127.0.0.1:{server.port}/ocpp/{PARTY}/{STATION}"
    await server.wait_closed()


@pytest.fixture
async def url(world: World) -> AsyncIterator[str]:
    async with listening(world.gateway) as address:
        yield address


def basic(username: str = STATION, password: str = PASSWORD) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()}


@asynccontextmanager
async def dialled(url: str, subprotocol: str = "ocpp2.0.1", **options: Any) -> AsyncIterator[ClientConnection]:
    given: dict[str, Any] = {"additional_headers": basic(), "subprotocols": [subprotocol], **options}
    async with websockets.connect(url, **given) as connection:
        yield connection


async def asked(connection: ClientConnection, frame: str | bytes) -> Any:
    await connection.send(frame)
    async with asyncio.timeout(10):
        return json.loads(await connection.recv())


# -- independent clients over PostgreSQL ------------------------------------------------------------------------------


@asynccontextmanager
async def durable_gateway(postgres_dsn: str) -> AsyncIterator[tuple[GatewayService, PostgresAdapters, str]]:
    settings, http = settings_for_tests(), MemoryHttp()
    http.mount(settings.business_url, FakeBackOffice().app)
    clock, randomness = SystemClock(), SystemRandomness()
    async with open_postgres(
        postgres_dsn, master_key=settings.master_key_bytes, clock=clock, randomness=randomness
    ) as postgres:
        ports = Ports(
            clock=clock,
            timer=SystemTimer(),
            randomness=randomness,
            event_log=postgres.event_log,
            units=postgres.units,
            vault=postgres.vault,
            http=http,
            signer=None,  # type: ignore[arg-type]  # the gateway signs nothing
            payments=None,  # type: ignore[arg-type]  # nor does it pay
        )
        gateway = build(settings, ports)
        await gateway.authenticator.set_password(station_identity(PARTY, STATION), PASSWORD, None)
        stop = asyncio.Event()
        running = asyncio.create_task(gateway.run(stop))
        async with listening(gateway) as url:
            yield gateway, postgres, url
            stop.set()
            await running


async def stored(postgres: PostgresAdapters) -> list[Any]:
    return [logged.envelope.event async for logged in postgres.event_log.read(("charging",))]


class Station16(ChargePoint16):  # type: ignore[misc]  # the package is untyped
    @on("RemoteStartTransaction")  # type: ignore[untyped-decorator]  # as above
    def remote_start(self, **_payload: Any) -> Any:
        return result16.RemoteStartTransaction(status="Accepted")

    @on("Reset")  # type: ignore[untyped-decorator]  # as above
    def reset(self, **_payload: Any) -> Any:
        return result16.Reset(status="Rejected")


class Station201(ChargePoint201):  # type: ignore[misc]  # the package is untyped
    @on("RequestStartTransaction")  # type: ignore[untyped-decorator]  # as above
    def remote_start(self, **_payload: Any) -> Any:
        return result201.RequestStartTransaction(status="Accepted", transaction_id="tx-7")


async def test_the_ocpp_package_charges_over_1_6(postgres_dsn: str) -> None:
    async with durable_gateway(postgres_dsn) as (gateway, postgres, url), dialled(url, "ocpp1.6") as connection:
        station = Station16(STATION, connection)
        listening_task = asyncio.create_task(station.start())
        boot = await station.call(call16.BootNotification(charge_point_model="M", charge_point_vendor="V"))
        await station.call(call16.Authorize(id_tag="04A1"))
        begun = await station.call(
            call16.StartTransaction(connector_id=1, id_tag="04A1", meter_start=100, timestamp=AT)
        )
        await station.call(
            call16.MeterValues(
                connector_id=1,
                transaction_id=begun.transaction_id,
                meter_value=[{"timestamp": AT, "sampledValue": [{"value": "150"}]}],
            )
        )
        await station.call(call16.StopTransaction(meter_stop=200, timestamp=AT, transaction_id=begun.transaction_id))
        identity = station_identity(PARTY, STATION)
        start = StartTransaction(id_token="APP-1", ocpp_evse_id=1, connector_id=1, remote_start_id=77)
        accepted = await gateway.command(identity, StationCommand(correlation_id="c", start_transaction=start))
        rejected = await gateway.command(identity, StationCommand(correlation_id="c", reset=Reset()))
        answered = await station.call(
            call16.StartTransaction(connector_id=1, id_tag="app-1", meter_start=200, timestamp=AT)
        )
        events = await stored(postgres)
        listening_task.cancel()

    assert (boot.status, begun.transaction_id, begun.id_tag_info["status"]) == ("Accepted", 1, "Accepted")
    assert (accepted.result, rejected.result) == (CommandResult.ACCEPTED, CommandResult.REJECTED)
    assert answered.transaction_id == 2
    assert [type(event).__name__ for event in events] == [
        "StationBooted",
        "TransactionStarted",
        "TransactionUpdated",
        "TransactionEnded",
        "TransactionStarted",
    ]
    assert [event.remote_start_id for event in events if isinstance(event, TransactionStarted)] == [None, 77]


class Station21(ChargePoint21):  # type: ignore[misc]  # as above
    @on("RequestBatterySwap")  # type: ignore[untyped-decorator]  # as above
    def request_battery_swap(self, **_payload: Any) -> Any:
        return result21.RequestBatterySwap(status="Accepted")


async def test_the_ocpp_package_swaps_a_battery_over_2_1(postgres_dsn: str) -> None:
    async with durable_gateway(postgres_dsn) as (gateway, postgres, url), dialled(url, "ocpp2.1") as connection:
        station = Station21(STATION, connection)
        listening_task = asyncio.create_task(station.start())
        token = {"idToken": "04A1", "type": "ISO14443"}
        await station.call(
            call21.BatterySwap(
                event_type="BatteryIn",
                request_id=7,
                id_token={"id_token": "04A1", "type": "ISO14443"},
                battery_data=[{"evse_id": 1, "serial_number": "B-1", "so_c": 20, "so_h": 98}],
            )
        )
        wanted = OCPPCall(action="RequestBatterySwap", payload={"requestId": 8, "idToken": token})
        outcome = await gateway.command(
            station_identity(PARTY, STATION), StationCommand(correlation_id="c", ocpp_call=wanted)
        )
        (event,) = await stored(postgres)
        payload = json.loads(await postgres.vault.open(event.payload))
        listening_task.cancel()

    assert (outcome.result, outcome.answer) == (CommandResult.ACCEPTED, {"status": "Accepted"})
    assert payload["batteryData"] == [{"evseId": 1, "serialNumber": "B-1", "soC": 20, "soH": 98}]
    assert payload["idToken"] == token


async def test_the_ocpp_package_charges_over_2_0_1(postgres_dsn: str) -> None:
    async with durable_gateway(postgres_dsn) as (gateway, postgres, url), dialled(url) as connection:
        station = Station201(STATION, connection)
        listening_task = asyncio.create_task(station.start())
        boot = await station.call(
            call201.BootNotification(charging_station={"model": "M", "vendor_name": "V"}, reason="PowerUp")
        )
        for seq_no, kind in enumerate(("Started", "Updated", "Ended")):
            answer = await station.call(
                call201.TransactionEvent(
                    event_type=kind,
                    timestamp=AT,
                    trigger_reason="Authorized",
                    seq_no=seq_no,
                    transaction_info={"transaction_id": "tx-1"},
                    id_token={"id_token": "04A1", "type": "ISO14443"},
                    evse={"id": 1, "connector_id": 1},
                    meter_value=[{"timestamp": AT, "sampled_value": [{"value": 1.25}]}],
                )
            )
            assert answer.id_token_info["status"] == "Accepted"
        start = StartTransaction(id_token="APP-1", ocpp_evse_id=1, connector_id=1, remote_start_id=77)
        outcome = await gateway.command(
            station_identity(PARTY, STATION), StationCommand(correlation_id="c", start_transaction=start)
        )
        events = await stored(postgres)
        listening_task.cancel()

    assert boot.status == "Accepted"
    assert (outcome.result, outcome.transaction_id) == (CommandResult.ACCEPTED, "tx-7")
    assert len(events) == 4
    assert isinstance(events[-1], TransactionEnded)
    assert events[-1].id_token == events[1].id_token


# -- attackers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {},
        basic(password="wrong"),
        basic(username="CS-2"),
        basic(username="nobody", password=""),
        {"Authorization": "Bearer " + PASSWORD},
        {"Authorization": "Basic not-base64"},
        {"Authorization": "Basic " + base64.b64encode(b"\xff\xfe:\xff").decode()},
        {"Authorization": "Basic " + "A" * 5_000},
    ],
)
async def test_a_peer_without_the_right_password_never_gets_a_websocket(
    url: str, world: World, headers: dict[str, str]
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with dialled(url, additional_headers=headers):
            pass

    assert refused.value.response.status_code == 401
    assert await world.events() == []


async def test_an_unknown_station_looks_like_a_wrong_password(url: str) -> None:
    answers = []
    for target, username in ((url, STATION), (url.replace(STATION, "CS-UNKNOWN"), "CS-UNKNOWN")):
        with pytest.raises(InvalidStatus) as refused:
            async with dialled(target, additional_headers=basic(username, "x" * 32)):
                pass
        response = refused.value.response
        headers = {name: value for name, value in response.headers.raw_items() if name != "Date"}
        answers.append((response.status_code, headers, response.body))

    assert answers[0] == answers[1]


async def test_a_station_name_is_percent_decoded(world: World, url: str) -> None:
    await world.gateway.authenticator.set_password(station_identity(PARTY, "CS@1:a"), PASSWORD, None)

    async with dialled(url.replace(STATION, "CS%401%3Aa"), additional_headers=basic("CS@1:a")) as connection:
        assert (await asked(connection, '[2,"a","Heartbeat",{}]'))[0] == 3


@pytest.mark.parametrize("path", ["/ocpp/NL-TNM/a%2Fb", "/ocpp/NL-TNM", "/ocpp/XX/CS-1", "/", "/ocpp/NL-TNM/%00"])
async def test_a_path_that_names_no_station_is_not_found(url: str, path: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with dialled(url.partition("/ocpp/")[0] + path):
            pass

    assert refused.value.response.status_code == 404


@pytest.mark.parametrize("offered", ["ocpp1.5", "soap"])
async def test_a_version_nobody_speaks_is_refused(url: str, offered: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with dialled(url, offered):
            pass

    assert refused.value.response.status_code == 400


async def test_the_first_version_of_the_station_that_we_speak_is_chosen(url: str) -> None:
    async with dialled(url, subprotocols=["ocpp2.2", "ocpp2.1", "ocpp1.6"]) as connection:
        assert connection.subprotocol == "ocpp2.1"


HOSTILE: list[tuple[str | bytes, int | None]] = [
    ('[2,"1",["x"],{}]', 4),
    ('[2,"1",null,{}]', 4),
    ('[2,"1",false,{}]', 4),
    ("[" * 5_000, 4),
    ("[" * 100_000, 4),
    ("no JSON", 4),
    (b"\x00\x01garbage", 4),
    ('[2,["list"],"Heartbeat",{}]', 4),
    ('[2,7,"Heartbeat",{}]', 4),
    ('[2,"' + "x" * 900_000 + '","Heartbeat",{}]', 4),
    ('[9,"1","Heartbeat",{}]', 4),
    ("[3]", None),
    ('[3,"never asked",{}]', None),
]


@pytest.mark.parametrize("subprotocol", ["ocpp1.6", "ocpp2.0.1"])
async def test_hostile_frames_are_answered_and_the_connection_lives(url: str, subprotocol: str) -> None:
    async with dialled(url, subprotocol) as connection:
        for frame, answer in HOSTILE:
            is_ignored = answer is None or (subprotocol == "ocpp1.6" and str(frame).startswith("[9"))
            if is_ignored:
                await connection.send(frame)
            else:
                assert (await asked(connection, frame))[0] == answer
            assert (await asked(connection, '[2,"alive","Heartbeat",{}]'))[:2] == [3, "alive"]


async def test_a_message_in_fragments_is_one_message(url: str) -> None:
    async with dialled(url) as connection:
        await connection.send(['[2,"frag', 'ments","Heart', 'beat",{}]'])

        assert json.loads(await connection.recv())[:2] == [3, "fragments"]


async def test_a_message_that_would_fill_memory_closes_the_connection_with_1009(url: str) -> None:
    async with dialled(url) as connection:
        await connection.send("x" * 1_100_000)

        with pytest.raises(ConnectionClosed) as closed:
            await connection.recv()

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


async def test_text_that_is_not_utf_8_closes_the_connection_with_1007(url: str) -> None:
    async with dialled(url) as connection:
        await connection.send(b'[2,"\xff","Heartbeat",{}]', text=True)

        with pytest.raises(ConnectionClosed) as closed:
            await connection.recv()

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1007


async def test_a_flood_of_unasked_results_is_held_back_and_the_station_still_served(url: str, world: World) -> None:
    async with dialled(url) as connection:
        for n in range(400):
            await connection.send(f'[3,"{n}",{{"x":"{"y" * 2_000}"}}]')

        assert (await asked(connection, '[2,"alive","Heartbeat",{}]'))[0] == 3


async def test_a_slow_handler_holds_back_no_answer_of_the_station(url: str, world: World) -> None:
    world.back_office.may_answer.clear()
    async with dialled(url) as connection:
        await connection.send('[2,"slow","Authorize",{"idToken":{"idToken":"A","type":"Central"}}]')
        command = asyncio.create_task(
            world.gateway.command(station_identity(PARTY, STATION), StationCommand(correlation_id="c", reset=Reset()))
        )
        reset = json.loads(await connection.recv())
        await connection.send(json.dumps([3, reset[1], {"status": "Accepted"}]))

        assert (await command).result is CommandResult.ACCEPTED
        world.back_office.may_answer.set()
        assert json.loads(await connection.recv())[:2] == [3, "slow"]


async def test_draining_answers_what_is_in_progress_and_closes_with_1001(world: World) -> None:
    stop = asyncio.Event()
    gateway = build(world.settings, replace(world.ports), world.gateway.options)
    running = asyncio.create_task(gateway.run(stop))
    world.back_office.may_answer.clear()
    async with listening(gateway) as address, dialled(address) as connection:
        await connection.send('[2,"slow","Authorize",{"idToken":{"idToken":"A","type":"Central"}}]')
        await until(lambda: bool(world.back_office.asked))
        stop.set()
        world.back_office.may_answer.set()

        assert json.loads(await connection.recv())[:2] == [3, "slow"]
        with pytest.raises(ConnectionClosed) as closed:
            await connection.recv()
        await running

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001


@pytest.mark.parametrize(("fragments", "is_kept"), [(FRAGMENTS_MAX, True), (FRAGMENTS_MAX + 200, False)])
async def test_a_message_of_countless_empty_fragments_ends_the_connection(
    url: str,
    fragments: int,
    is_kept: bool,  # noqa: FBT001 - a parameter of the case
) -> None:
    async with dialled(url, "ocpp1.6") as connection:
        text = '[2,"a","Heartbeat",{}]'
        # The library ends a message of fragments by one more, which is empty and final.
        pieces = [text, *([""] * (fragments - 2))]
        if is_kept:
            await connection.send(pieces)
            assert json.loads(await connection.recv())[0] == 3
            return
        with pytest.raises(ConnectionClosed) as closed:  # noqa: PT012 - either call may meet the close
            await connection.send(pieces)
            await connection.recv()

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


# -- how messages are handed over -------------------------------------------------------------------------------------


class ReaderInPlaceOfTheGateway:
    """Lets everybody in, and reads as the test says."""

    def __init__(self, read: Callable[[WebSocketFrames], Awaitable[None]]) -> None:
        self._read = read
        self.outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def admit(self, **_handshake: Any) -> Admission:
        return Admission(station_identity(PARTY, STATION), OCPPVersion.V201)

    async def has_room(self) -> None:
        """Always."""

    def track(self, task: asyncio.Task[None]) -> None:
        pass

    async def serve(self, _admission: Admission, socket: WebSocketFrames) -> None:
        try:
            await self._read(socket)
        except Exception as error:  # noqa: BLE001 - for the test to look at
            self.outcome.set_exception(error)
        else:
            self.outcome.set_result(None)


async def test_a_reader_that_rests_gets_every_message_later_in_order() -> None:
    received: list[str | bytes] = []
    had_while_resting: list[int] = []
    sent = [str(n) for n in range(3 * MESSAGES_BUFFERED_MAX)]

    def handle(message: str | bytes) -> bool:
        received.append(message)
        return len(received) % 5 != 0

    async def read(socket: WebSocketFrames) -> None:
        while True:
            await socket.receive_while(handle)
            before = len(received)
            for _ in range(5):
                await asyncio.sleep(0)  # a turn of the loop, in which the transport reads
            had_while_resting.append(len(received) - before)

    reader = ReaderInPlaceOfTheGateway(read)
    async with listening(cast("GatewayService", reader)) as url:
        async with dialled(url) as connection:
            for message in sent:
                await connection.send(message)
        with pytest.raises(SocketClosed):
            await reader.outcome

    assert received == sent
    assert had_while_resting == [0] * (len(sent) // 5)


async def test_what_goes_wrong_with_a_message_is_the_readers_and_the_next_can_be_read() -> None:
    received: list[str | bytes] = []

    def handle(message: str | bytes) -> bool:
        raise AssertionError(message)

    async def read(socket: WebSocketFrames) -> None:
        with pytest.raises(AssertionError, match="first"):
            await socket.receive_while(handle)
        received.append(await socket.receive())

    reader = ReaderInPlaceOfTheGateway(read)
    async with listening(cast("GatewayService", reader)) as url, dialled(url) as connection:
        for message in ("first", "second"):
            await connection.send(message)
        await reader.outcome

    assert received == ["second"]


class StandingTimer:
    def monotonic_s(self) -> float:
        return 0.0

    async def sleep(self, _duration_s: float) -> None:
        await asyncio.sleep(0)


async def test_a_session_takes_no_frame_at_once_after_the_station_spent_its_credit() -> None:
    taken: list[bool] = []

    class HandingOver:
        async def receive_while(self, handle: Callable[[str | bytes], bool]) -> None:
            if taken:
                raise SocketClosed(code=1000, reason="")
            taken.extend(handle('[3,"never asked",{}]') for _ in range(2))

    limits = Limits(frames_burst=2, frames_per_s=1)
    async with running_world(GatewayOptions(limits=limits, drain_spread_s=0.01), timer=StandingTimer()) as world:
        admission = Admission(station_identity(PARTY, STATION), OCPPVersion.V201)
        await world.gateway.serve(admission, cast("FrameSocket", HandingOver()))

    assert taken == [True, False]
