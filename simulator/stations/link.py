"""Carries a station's messages over a socket: one CALL at a time, answers to the CSMS's own, reconnection.

Transport time (time-outs, back-off, heartbeats) is the `Timer`'s; business time is the station's own.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from emobility.ports.clock import Timer
from emobility.ports.frames import FrameSocket, SocketClosed, StationDialer
from simulator.stations.calls import Call, CallRefused, Payload
from simulator.stations.station import Station

CALL: Final = 2
CALLRESULT: Final = 3
CALLERROR: Final = 4
SEND: Final = 6
REFUSALS: Final = (401, 403, 404)
"""HTTP status codes of a handshake that a station should not expect to change."""
RECONNECT_FIRST_S: Final = 0.5
RECONNECT_MAX_S: Final = 5.0
RECONNECT_STEPS_MAX: Final = 8
NORMAL_CLOSURE: Final = 1000


@dataclass(slots=True, kw_only=True)
class LinkFigures:
    """What one link carried, by direction and action."""

    sent: Counter[str] = field(default_factory=Counter)
    received: Counter[str] = field(default_factory=Counter)
    call_errors: list[str] = field(default_factory=list)
    timed_out: int = 0
    connections: int = 0
    refused: int = 0


class StationLink:
    """Keeps one station connected while it wants to be.

    Args:
        station: Whose messages are carried.
        dialer: How the gateway is reached.
        url: ws://HOST:PORT/ocpp/{PARTY}/{STATION}.
        timer: Transport time.
        observe: Called with direction ("sent", "received") and each frame; for tests and recordings.
        beats: Whether heartbeats are sent by transport time (a time master sends them itself).
    """

    def __init__(
        self,
        station: Station,
        *,
        dialer: StationDialer,
        url: str,
        timer: Timer,
        observe: Callable[[str, str], None] = lambda _direction, _frame: None,
        beats: bool = True,
    ) -> None:
        self.station = station
        self.figures = LinkFigures()
        self._dialer = dialer
        self._url = url
        self._timer = timer
        self._observe = observe
        self._beats = beats
        self._is_wanted = asyncio.Event()
        self._work = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self._is_down = asyncio.Event()
        self._is_down.set()
        self._socket: FrameSocket | None = None
        self._awaited: tuple[str, asyncio.Future[list[Any]]] | None = None
        self.password = station.profile.password
        self.gives_up_when_refused = False
        self._was_accepted = False
        station.on_change = self._changed

    # What the outside asks -------------------------------------------------------------------------------------

    def go_online(self) -> None:
        """Connect, and stay connected."""
        if self._socket is None:
            self._settled.clear()
        self._is_wanted.set()

    async def go_offline(self) -> None:
        """Close the connection and stay away."""
        self._is_wanted.clear()
        await self.drop()
        self._settled.set()

    async def drop(self) -> None:
        """Close the connection; a station that wants to be online comes back."""
        if self._socket is not None:
            self._settled.clear()
            # Already now, so that what happens next happened while the station was not connected.
            self.station.disconnected()
            await self._socket.close(NORMAL_CLOSURE, "going away")
            await self._is_down.wait()

    async def settled(self) -> None:
        """Return when the station has nothing to send and nothing to wait for (or is offline by its own will)."""
        while not self._settled.is_set():
            await self._settled.wait()

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set."""
        serving = asyncio.create_task(self._serve())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                serving.result()
        finally:
            for task in (serving, stopping):
                task.cancel()
            await asyncio.gather(serving, stopping, return_exceptions=True)
            if self._socket is not None:
                await self._socket.close(NORMAL_CLOSURE, "going away")

    # Inner workings --------------------------------------------------------------------------------------------

    def _changed(self) -> None:
        if self._is_wanted.is_set():
            self._settled.clear()
        self._work.set()

    async def _serve(self) -> None:
        failures = 0
        while True:
            await self._is_wanted.wait()
            self._was_accepted = False
            try:
                await self._connect_once()
            except SocketClosed as closed:
                if closed.code in REFUSALS:
                    self._refused()
            # A connection that never came to an accepted boot is a failure: the next attempt waits.
            failures = 0 if self._was_accepted else failures + 1
            if failures and self._is_wanted.is_set():
                step = min(failures - 1, RECONNECT_STEPS_MAX)
                await self._timer.sleep(min(RECONNECT_FIRST_S * 2**step, RECONNECT_MAX_S))

    def _refused(self) -> None:
        self.figures.refused += 1
        if self.gives_up_when_refused:
            self._is_wanted.clear()
            self._settled.set()

    async def _connect_once(self) -> None:
        profile = self.station.profile
        socket = await self._dialer.dial(
            url=self._url,
            subprotocols=(profile.version.value,),
            username=profile.charging_station_id,
            password=self.password,
        )
        if not self._is_wanted.is_set():
            await socket.close(NORMAL_CLOSURE, "going away")
            return
        self._socket = socket
        self._is_down.clear()
        self.figures.connections += 1
        self.station.connected()
        tasks = [asyncio.create_task(self._receive(socket)), asyncio.create_task(self._send(socket))]
        if self._beats:
            tasks.append(asyncio.create_task(self._beat()))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._socket = None
            self._awaited = None
            self._is_down.set()
            self.station.disconnected()
            await socket.close(NORMAL_CLOSURE, "going away")
            if not self._is_wanted.is_set():
                self._settled.set()

    async def _receive(self, socket: FrameSocket) -> None:
        while True:
            frame = await socket.receive()
            text = frame if isinstance(frame, str) else frame.decode()
            self._observe("received", text)
            message = json.loads(text)
            if message[0] == CALL:
                await self._answer(socket, message)
            elif self._awaited is not None and self._awaited[0] == message[1] and not self._awaited[1].done():
                self._awaited[1].set_result(message)

    async def _answer(self, socket: FrameSocket, message: list[Any]) -> None:
        _, unique_id, action, payload = message
        self.figures.received[action] += 1
        try:
            if not isinstance(payload, dict):
                raise CallRefused("FormationViolation", "the payload is not an object")  # noqa: TRY301 - one way out
            reply = self.station.asked(action, payload)
        except CallRefused as refusal:
            await self._emit(socket, [CALLERROR, unique_id, refusal.code, refusal.description, {}])
            return
        except (KeyError, TypeError, ValueError) as error:
            await self._emit(socket, [CALLERROR, unique_id, "FormationViolation", str(error)[:255], {}])
            return
        await self._emit(socket, [CALLRESULT, unique_id, reply.payload])
        # Only now: what the station does may queue messages, and the answer goes first.
        reply.then()

    async def _send(self, socket: FrameSocket) -> None:
        while True:
            call = self.station.next_call()
            if call is not None:
                await self._carry(socket, call)
            elif self.station.restart_wanted:
                await self._restart(socket)
            elif self.station.boot_retry_s is not None:
                self._settled.set()
                await self._timer.sleep(self.station.boot_retry_s)
                self.station.retry_boot()
            else:
                self._work.clear()
                if self.station.is_accepted:
                    self._settled.set()
                await self._work.wait()

    async def _restart(self, socket: FrameSocket) -> None:
        self.station.restart_wanted = False
        self.station.disconnected()
        await socket.close(NORMAL_CLOSURE, "restarting")

    async def _carry(self, socket: FrameSocket, call: Call) -> None:
        self._settled.clear()
        unique_id, payload = self.station.prepare(call)
        if call.is_send:
            await self._emit(socket, [SEND, unique_id, call.action, payload])
            self.figures.sent[call.action] += 1
            self.station.sent(call)
            return
        answered: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._awaited = (unique_id, answered)
        await self._emit(socket, [CALL, unique_id, call.action, payload])
        self.figures.sent[call.action] += 1
        try:
            async with asyncio.timeout(self.station.profile.call_timeout_s):
                message = await answered
        except TimeoutError:
            self.figures.timed_out += 1
            await self._after_failure(call)
            return
        finally:
            self._awaited = None
        if message[0] == CALLRESULT:
            self.station.answered(call, _payload_of(message))
            self._was_accepted = self._was_accepted or self.station.is_accepted
        else:
            self.figures.call_errors.append(f"{call.action}: {message[2]} {message[3]}")
            await self._after_failure(call)

    async def _after_failure(self, call: Call) -> None:
        wait_s = self.station.failed(call)
        if wait_s is not None:
            await self._timer.sleep(wait_s)

    async def _emit(self, socket: FrameSocket, message: list[Any]) -> None:
        frame = json.dumps(message, separators=(",", ":"))
        self._observe("sent", frame)
        await socket.send(frame)

    async def _beat(self) -> None:
        while True:
            await self._timer.sleep(self.station.heartbeat_interval_s)
            self.station.heartbeat()


def _payload_of(message: list[Any]) -> Payload:
    payload: Payload = message[2]
    return payload
