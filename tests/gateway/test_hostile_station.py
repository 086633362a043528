"""A station can hurt only itself: whatever one does with its connection, the others' messages are all answered.

The gateway runs on memory adapters behind its real WebSocket server. While an attack lasts, well-behaved stations of
all versions send messages and each has to be answered; afterwards the attacker has got no more than its bounds allow.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import pytest
import websockets
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from charge_point_gateway import server
from charge_point_gateway.admission import AdmissionRates
from charge_point_gateway.connection import Limits
from charge_point_gateway.gateway import GatewayOptions
from charge_point_gateway.security import station_identity
from charge_point_gateway.server import StationConnection
from charge_point_gateway.station_session import OUTBOX_FRAMES_MAX, StationSession
from emobility.protocols.station_control.messages import CommandResult, OCPPCall, StationCommand
from tests.gateway.conftest import PARTY, PASSWORD, World, running_world
from tests.gateway.test_websocket import basic, listening

ATTACKER: Final = "CS-2"
GOOD: Final = {f"GOOD-{n}": f"ocpp{version}" for n, version in enumerate(("1.6", "2.0.1", "2.1") * 2)}
ROUNDS: Final = 30
ANSWERED_WITHIN_S: Final = 10.0
"""Generous: the machine may be busy with other things. Unanswered means never."""
LIMITS: Final = Limits(frames_per_s=20.0, frames_burst=40.0, bytes_per_s=20_000.0, bytes_burst=2_000_000.0)
RATES: Final = AdmissionRates(connections_burst_per_identity=8)
WRITE_BUFFER_BYTES_MAX: Final = 262_144
BEAT: Final = '[2,"a","Heartbeat",{}]'

Attack = Callable[[str], Coroutine[Any, Any, None]]


@asynccontextmanager
async def hostile_world() -> AsyncIterator[tuple[World, str]]:
    options = GatewayOptions(limits=LIMITS, admission=RATES, drain_spread_s=0, drain_timeout_s=2, probe_timeout_s=0.2)
    async with running_world(options) as world:
        for name in GOOD:
            await world.gateway.authenticator.set_password(station_identity(PARTY, name), PASSWORD, None)
        async with listening(world.gateway) as url:
            yield world, url.rpartition("/")[0]


def small_socket(url: str) -> socket.socket:
    """Connect by a socket that takes little before its other end has to wait."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    made.connect(("127.0.0.1", int(url.split(":")[2].partition("/")[0])))
    made.setblocking(False)
    return made


@asynccontextmanager
async def attacking(url: str, subprotocol: str = "ocpp2.1", **options: Any) -> AsyncIterator[ClientConnection]:
    connection = await websockets.connect(
        f"{url}/{ATTACKER}",
        additional_headers=basic(ATTACKER),
        subprotocols=[subprotocol],  # type: ignore[list-item]  # a NewType of str
        compression=None,
        ping_interval=None,
        sock=small_socket(url),
        **options,
    )
    try:
        yield connection
    finally:
        with suppress(AttributeError):  # asyncio's, where the connection has ended
            connection.transport.abort()  # in order, nobody would read the close behind what was written


async def good_station(url: str, name: str, subprotocol: str) -> int:
    """Send messages one after the other; return how many were answered."""
    answered = 0
    async with websockets.connect(
        f"{url}/{name}",
        additional_headers=basic(name),
        subprotocols=[subprotocol],  # type: ignore[list-item]  # as above
    ) as connection:
        for n in range(ROUNDS):
            await connection.send(f'[2,"{n}","Heartbeat",{{}}]')
            async with asyncio.timeout(ANSWERED_WITHIN_S):
                answered += json.loads(await connection.recv())[:2] == [3, str(n)]
            await asyncio.sleep(0.01)
    return answered


async def under(attack: Attack, url: str) -> tuple[list[int], float]:
    """Let the good stations talk under an attack; return what each got, and how long the attack went on, in seconds."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    task = asyncio.create_task(attack(url))
    await asyncio.sleep(0.05)
    answered = await asyncio.gather(*(good_station(url, name, version) for name, version in GOOD.items()))
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return answered, loop.time() - began_s


def handled(world: World) -> float:
    """Return how many frames of the attacker the gateway looked at: the good stations' apart."""
    metrics = world.gateway.metrics
    total = 0.0
    for family in metrics.registry.collect():
        total += sum(
            sample.value
            for sample in family.samples
            if sample.name in {"ocpp_frames_rejected_total", "ocpp_messages_total"}
        )
    return total - len(GOOD) * ROUNDS


def session_of_attacker(world: World) -> StationSession:
    return world.gateway._sessions[station_identity(PARTY, ATTACKER)]


# -- attacks ----------------------------------------------------------------------------------------------------------


def flood(frame: str | bytes, subprotocol: str = "ocpp2.1") -> Attack:
    async def attack(url: str) -> None:
        async with attacking(url, subprotocol) as connection:
            reading = asyncio.create_task(read_all(connection))
            try:
                while True:
                    await connection.send(frame)
                    await asyncio.sleep(0)
            finally:
                reading.cancel()

    return attack


async def read_all(connection: ClientConnection) -> None:
    with suppress(ConnectionClosed):
        async for _ in connection:
            pass


FLOODS: Final[dict[str, Attack]] = {
    "CALLs": flood(BEAT),
    "answers to nothing": flood('[3,"nobody asked",{}]'),
    "no JSON": flood("no JSON", "ocpp1.6"),
    "binary": flood(b"\x00" * 100),
    "deep": flood("[" * 10_000),
    "SENDs": flood(
        '[6,"s","NotifyPeriodicEventStream",{"id":1,"pending":0,"basetime":"2022-03-27T01:00:00Z","data":[]}]'
    ),
    "large": flood('[2,"l","DataTransfer",{"vendorId":"x","data":"' + "y" * 200_000 + '"}]'),
}


@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_is_held_to_the_station_s_own_rate(name: str) -> None:
    async with hostile_world() as (world, url):
        answered, took_s = await under(FLOODS[name], url)

        assert answered == [ROUNDS] * len(GOOD)
        assert 0 < handled(world) <= LIMITS.frames_burst + LIMITS.frames_per_s * took_s + 2


async def test_a_station_that_reads_nothing_of_what_it_provokes_costs_a_bounded_buffer() -> None:
    async with fast_world() as (world, url), reading_nothing(url, world) as (session, connection):

        async def go_on() -> None:
            while True:
                await connection.send(f'[2,"{"i" * 36}","Nothing",{{}}]')

        going_on = asyncio.create_task(go_on())
        sizes = []
        for _ in range(100):
            await asyncio.sleep(0.005)
            unsent = connection_of(session).transport.get_write_buffer_size()
            sizes.append(unsent + sum(map(len, session._outbox)))
        going_on.cancel()

        assert len(session._outbox) >= OUTBOX_FRAMES_MAX, "it was not put to the test"
        assert max(sizes) < WRITE_BUFFER_BYTES_MAX


@asynccontextmanager
async def reading_nothing(url: str, world: World) -> AsyncIterator[tuple[StationSession, ClientConnection]]:
    """A station for which more waits than its socket takes."""
    async with attacking(url, "ocpp1.6", max_queue=1) as connection:
        connection.transport.pause_reading()
        async with asyncio.timeout(ANSWERED_WITHIN_S):
            while (session := world.gateway._sessions.get(station_identity(PARTY, ATTACKER))) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            own = connection_of(session)
            own.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
            while not own.paused:
                await connection.send(f'[2,"{"i" * 36}","Nothing",{{}}]')
                await asyncio.sleep(0)
        yield session, connection


def connection_of(session: StationSession) -> StationConnection:
    frames: Any = session._socket
    found: StationConnection = frames._connection
    return found


@asynccontextmanager
async def fast_world() -> AsyncIterator[tuple[World, str]]:
    limits = Limits(frames_per_s=1e9, frames_burst=1e9, bytes_burst=1e9)
    options = GatewayOptions(limits=limits, drain_spread_s=0, drain_timeout_s=1)
    async with running_world(options) as world, listening(world.gateway) as url:
        yield world, url.rpartition("/")[0]


async def test_a_station_that_reads_nothing_for_too_long_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "READS_NOTHING_S_MAX", 0.3)
    async with fast_world() as (world, url), reading_nothing(url, world) as (session, _):
        async with asyncio.timeout(ANSWERED_WITHIN_S):
            while session in world.gateway._sessions.values():  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.01)


async def test_a_station_that_reads_nothing_is_closed_all_the_same() -> None:
    """As when its certificate was revoked."""
    async with fast_world() as (world, url), reading_nothing(url, world) as (session, _):
        async with asyncio.timeout(2 * server.CLOSE_TIMEOUT_S + 1):
            await session.close(1008, "the certificate was revoked")
            while session in world.gateway._sessions.values():  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.01)


OVERHEAD: Final = {
    "pings": b"\x89\x80mask",
    "pongs": b"\x8a\x80mask",
    "fragments": b"\x01\x80mask" + b"\x00\x80mask" * 50 + b"\x80\x80mask",
}


@pytest.mark.parametrize("name", OVERHEAD)
async def test_frames_that_carry_no_message_end_the_connection_when_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(server, "OVERHEAD_FRAMES_BURST", 400.0)
    closings: list[bool] = []

    async def attack(url: str) -> None:
        async with attacking(url) as connection:
            while not connection.transport.is_closing():
                connection.transport.write(OVERHEAD[name])
                await asyncio.sleep(0.001)
            closings.append(True)

    async with hostile_world() as (world, url):
        attacked = asyncio.create_task(attack(url))
        answered = await asyncio.gather(*(good_station(url, each, version) for each, version in GOOD.items()))
        async with asyncio.timeout(ANSWERED_WITHIN_S):
            await attacked
            while station_identity(PARTY, ATTACKER) in world.gateway._sessions:  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.01)

    assert answered == [ROUNDS] * len(GOOD)
    assert closings == [True], "it went on to the end"


async def test_a_station_that_connects_over_and_over_is_sent_away_and_the_others_connect() -> None:
    outcomes: list[int] = []

    async def flap(url: str) -> None:
        while True:
            try:
                async with attacking(url):
                    outcomes.append(101)
            except InvalidStatus as refused:
                outcomes.append(refused.response.status_code)

    async with hostile_world() as (_, url):
        answered, took_s = await under(flap, url)

    assert answered == [ROUNDS] * len(GOOD)
    assert set(outcomes) == {101, 429}
    assert outcomes.count(101) <= RATES.connections_burst_per_identity + took_s * RATES.connections_per_s_per_identity


async def test_a_station_that_answers_no_call_keeps_only_its_own_operator_waiting() -> None:
    async def never_answers(url: str) -> None:
        async with attacking(url) as connection:
            await read_all(connection)

    reset = OCPPCall(action="Reset", payload={"type": "OnIdle"})
    async with hostile_world() as (world, url):
        attack = asyncio.create_task(never_answers(url))
        async with asyncio.timeout(ANSWERED_WITHIN_S):
            while station_identity(PARTY, ATTACKER) not in world.gateway._sessions:  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.01)
        asked = [
            asyncio.create_task(
                world.gateway.command(
                    station_identity(PARTY, ATTACKER), StationCommand(correlation_id="c", timeout_s=1, ocpp_call=reset)
                )
            )
            for _ in range(100)
        ]
        answered = await asyncio.gather(*(good_station(url, name, version) for name, version in GOOD.items()))
        outcomes = [(await each).result for each in asked]
        attack.cancel()

    assert answered == [ROUNDS] * len(GOOD)
    assert outcomes.count(CommandResult.TIMED_OUT) == LIMITS.calls_out_queue_max + 1
    assert outcomes.count(CommandResult.REJECTED) == 100 - LIMITS.calls_out_queue_max - 1


async def test_one_byte_after_the_other_costs_one_slow_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "OPEN_TIMEOUT_S", 0.5)
    ended: list[bytes] = []

    async def trickle(url: str) -> None:
        port = int(url.split(":")[2].partition("/")[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with suppress(ConnectionError):
            for byte in b"GET /ocpp/NL-TNM/CS-2 HTTP/1.1\r\n" + b"X: " + b"y" * 4_000:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.05)
                if reader.at_eof():
                    break
        ended.append(await reader.read())
        writer.close()

    async def frame_by_bytes(url: str) -> None:
        async with attacking(url) as connection:
            connection.transport.write(b"\x81\xff" + (500_000).to_bytes(8) + b"mask")
            while True:
                connection.transport.write(b"x")
                await asyncio.sleep(0.02)

    async with hostile_world() as (world, url):
        slow = asyncio.create_task(trickle(url))
        answered, _ = await under(frame_by_bytes, url)
        async with asyncio.timeout(ANSWERED_WITHIN_S):
            await slow

        assert answered == [ROUNDS] * len(GOOD)
        assert len(ended) == 1
        assert handled(world) == 0


@pytest.mark.parametrize("size", [1_100_000, 5_000_000])
async def test_a_frame_that_would_fill_memory_ends_its_connection(size: int) -> None:
    codes: set[int | None] = set()

    async def huge(url: str) -> None:
        for _ in range(4):
            with suppress(ConnectionClosed, InvalidHandshake, OSError):
                async with attacking(url) as connection:
                    with suppress(ConnectionClosed):
                        await connection.send("x" * size)
                        await connection.recv()
                    codes.add(connection.close_code)

    async with hostile_world() as (_, url):
        answered, _ = await under(huge, url)

    assert answered == [ROUNDS] * len(GOOD)
    assert codes <= {1009, 1006}
    assert codes
