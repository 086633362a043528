"""What one core dispatches in process, without a wire: parse, validate, act, validate, answer.

A transport that carries nothing hands frames to sessions of the real gateway, whose log encodes events and keeps none;
the rival is the `ocpp` package's own `route_message` over as light a transport, in its best configuration
(ASYNC_VALIDATION=False). Both take turns on one core, and the median of the rounds counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any, Final

from pydantic import SecretStr

from bench.figure import Figure, against_rival
from bench.gateway_processes import PASSWORD, TOKEN, UNLIMITED, rival_class
from bench.station_load import FIRST_SEQ_NO, transaction_event_call
from charge_point_gateway.gateway import GatewayOptions, GatewayService, build
from charge_point_gateway.security import station_identity
from emobility.adapters.consuming import encoded
from emobility.adapters.memory import MemoryHttp, open_memory
from emobility.adapters.system import SystemClock, SystemRandomness, SystemTimer
from emobility.events.event import Envelope
from emobility.ports.frames import SocketClosed
from emobility.ports.ports import Ports
from emobility.runtime.garbage import collect_rarely
from emobility.runtime.settings import Settings

FIGURES: Final = ("gateway.dispatch.transaction_event", "gateway.dispatch.heartbeat")
RIVAL_NAME: Final = "ocpp package, route_message, ASYNC_VALIDATION=False, nothing stored"
STATIONS: Final = 100
CALLS: Final = 20_000
CALLS_SHORT: Final = 1_000
RIVAL_PART: Final = 10
"""The rival takes a tenth of the calls."""
ROUNDS: Final = 5
TRANSACTION_EVENT_RATIO: Final = 6.0
TRANSACTION_EVENTS_PER_S_MIN: Final = 10_000
HEARTBEATS_PER_S_MIN: Final = 30_000
SETTLED_S_MAX: Final = 60.0

Frame = Callable[[int, int], str]
"""The frame of a station (by number) with a sequence number."""


async def run(*, short: bool) -> list[Figure]:
    """Measure both messages."""
    return await measure(calls=CALLS_SHORT if short else CALLS)


async def measure(*, calls: int) -> list[Figure]:
    """Measure rounds of so many calls each."""
    async with _gateway() as gateway:
        ours = await _our_stations(gateway)
        rival = _rival_stations()
        collect_rarely()
        events = await _in_turns(ours, rival, transaction_event_frame, calls)
        heartbeats = await _in_turns(ours, rival, heartbeat_frame, calls)
    unit = "messages/s per core"
    return [
        against_rival(
            name=FIGURES[0],
            unit=unit,
            ours=events[0],
            rival=events[1],
            rival_name=RIVAL_NAME,
            ratio_min=TRANSACTION_EVENT_RATIO,
            value_min=TRANSACTION_EVENTS_PER_S_MIN,
        ),
        against_rival(
            name=FIGURES[1],
            unit=unit,
            ours=heartbeats[0],
            rival=heartbeats[1],
            rival_name=RIVAL_NAME,
            value_min=HEARTBEATS_PER_S_MIN,
        ),
    ]


def transaction_event_frame(station: int, number: int) -> str:
    """Return a TransactionEvent with four sampled values."""
    before, between, after = _EVENTS[station]
    seq_no = str(FIRST_SEQ_NO + number)
    return f"{before}{seq_no}{between}{seq_no}{after}"


def heartbeat_frame(station: int, number: int) -> str:
    """Return a Heartbeat."""
    return f'[2,"{station}-{number}","Heartbeat",{{}}]'


_EVENTS: Final = [transaction_event_call(station).split(str(FIRST_SEQ_NO)) for station in range(STATIONS)]
_STATION: Final = "BENCH-{}"


class _NullSocket:
    """Carries nothing: frames are handed over by the bench, answers are counted."""

    def __init__(self) -> None:
        self.handle: Callable[[str], bool] | None = None
        self.answers = 0
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def receive_while(self, handle: Callable[[str], bool]) -> None:
        """Keep the handler until the bench is over."""
        self.handle = handle
        await self._end
        raise SocketClosed(code=1000, reason="over")

    def send_now(self, frame: str) -> bool:
        """Count an answer."""
        assert frame.startswith("[3,"), frame
        self.answers += 1
        return True

    async def send(self, frame: str) -> None:
        """Never called: `send_now` takes everything."""
        raise AssertionError(frame)

    async def receive(self) -> str:
        """Never called: `receive_while` is there."""
        raise AssertionError

    async def ping(self) -> None:
        """Alive."""

    async def close(self, code: int, reason: str) -> None:
        """End."""
        del code, reason
        if not self._end.done():
            self._end.set_result(None)


class _ForgetfulLog:
    """Encodes events as a log does, and keeps none."""

    async def append(self, envelopes: Sequence[Envelope]) -> None:
        """Encode."""
        for envelope in envelopes:
            encoded(envelope)


@asynccontextmanager
async def _gateway() -> AsyncIterator[GatewayService]:
    settings = Settings(environment="development", internal_token=SecretStr(TOKEN), master_key=SecretStr("ab" * 32))
    clock, randomness = SystemClock(), SystemRandomness()
    async with open_memory(master_key=settings.master_key_bytes, clock=clock, randomness=randomness) as memory:
        ports = Ports(
            clock=clock,
            timer=SystemTimer(),
            randomness=randomness,
            event_log=_ForgetfulLog(),  # type: ignore[arg-type]  # the gateway only appends
            units=memory.units,
            vault=memory.vault,
            http=MemoryHttp(),
            signer=None,  # type: ignore[arg-type]  # the gateway signs nothing
            payments=None,  # type: ignore[arg-type]  # nor does it pay
        )
        gateway = build(settings, ports, GatewayOptions(limits=UNLIMITED))
        stop = asyncio.Event()
        running = asyncio.create_task(gateway.run(stop))
        yield gateway
        stop.set()
        await running


async def _our_stations(gateway: GatewayService) -> list[_NullSocket]:
    sockets = []
    for number in range(STATIONS):
        name = _STATION.format(number)
        await gateway.authenticator.set_password(station_identity("NL-TNM", name), PASSWORD, None)
        socket = _NullSocket()
        await gateway.accept(
            path=f"/ocpp/NL-TNM/{name}",
            username=name,
            password=PASSWORD,
            subprotocols=("ocpp2.0.1",),
            socket=socket,
        )
        sockets.append(socket)
    async with asyncio.timeout(SETTLED_S_MAX):
        while not all(socket.handle for socket in sockets):  # noqa: ASYNC110 - they tell nobody
            await asyncio.sleep(0.01)
    return sockets


class _RivalConnection:
    async def send(self, frame: str) -> None:
        assert frame.startswith("[3,"), frame


def _rival_stations() -> list[Any]:
    central_system = rival_class()
    return [central_system(_STATION.format(number), _RivalConnection()) for number in range(STATIONS)]


async def _in_turns(
    ours: Sequence[_NullSocket], rival: Sequence[Any], frame: Frame, calls: int
) -> tuple[list[float], list[float]]:
    """Return the calls per second of each round, ours and the rival's."""
    our_rates, rival_rates = [], []
    for number in range(ROUNDS):
        our_rates.append(await _our_rate(ours, frame, calls, number))
        rival_rates.append(await _rival_rate(rival, frame, calls // RIVAL_PART, number))
    return our_rates, rival_rates


async def _our_rate(stations: Sequence[_NullSocket], frame: Frame, calls: int, number: int) -> float:
    rounds = calls // STATIONS
    frames = [[frame(station, number * rounds + each) for station in range(STATIONS)] for each in range(rounds)]
    answered = sum(station.answers for station in stations)
    began = perf_counter()
    for row in frames:
        for station, text in zip(stations, row, strict=True):
            assert station.handle is not None
            station.handle(text)
        answered += STATIONS
        while sum(station.answers for station in stations) < answered:  # noqa: ASYNC110 - a turn of the loop is enough
            await asyncio.sleep(0)
    return rounds * STATIONS / (perf_counter() - began)


async def _rival_rate(stations: Sequence[Any], frame: Frame, calls: int, number: int) -> float:
    rounds = max(1, calls // STATIONS)
    frames = [[frame(station, number * rounds + each) for station in range(STATIONS)] for each in range(rounds)]
    began = perf_counter()
    for row in frames:
        for station, text in zip(stations, row, strict=True):
            await station.route_message(text)
    return rounds * STATIONS / (perf_counter() - began)
