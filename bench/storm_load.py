"""Stations that come back all at once, as light as they can be (see `station_load`).

As a program: `FIRST COUNT PORT tls|plain PASSWORD`. A line `dial` of standard input has all of them connect at once and
boot until they are accepted; a line `speak SECONDS` has each send one TransactionEvent at some moment of those. Each is
answered by one line of JSON. A connection that fails or is refused is tried again after a wait that doubles, with
jitter, as stations do.
"""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import sys
from collections import Counter
from time import perf_counter
from typing import Any, Final

import uvloop

from bench.station_load import FIRST_SEQ_NO, LoadingStation, Tally, masked, transaction_event, trusting, upgrade_request

DIAL_S_MAX: Final = 30.0
"""A station gives an attempt up then: where a backlog overflows, a connection may be open on one side alone."""
REDIAL_S_MIN: Final = 0.5
REDIAL_S_MAX: Final = 8.0
ACCEPTED_S_MAX: Final = 240.0
ANSWERED_S_MAX: Final = 60.0
BOOT: Final = masked(
    '[2,"boot","BootNotification",{"reason":"PowerUp","chargingStation":{"vendorName":"Bench","model":"Storm"}}]'
)


class ReturningStation:
    """One station through all its connections."""

    def __init__(self, number: int, *, port: int, tls: ssl.SSLContext | None, password: str) -> None:
        self._number = number
        self._port = port
        self._tls = tls
        self._request = upgrade_request(port, f"BENCH-{number}", password)
        self._connection: _Connection | None = None
        self.attempts = 0
        self.failures: Counter[str] = Counter()
        self.pending = 0

    async def come_back(self) -> float:
        """Connect and boot until accepted; return how many seconds that took."""
        began = perf_counter()
        wait_s = REDIAL_S_MIN
        while True:
            self.attempts += 1
            try:
                await self._booted()
                return perf_counter() - began
            except OSError as error:
                self.failures[type(error).__name__ + str(error)[:60]] += 1
            await asyncio.sleep(wait_s * random.uniform(0.5, 1.5))
            wait_s = min(2 * wait_s, REDIAL_S_MAX)

    async def _booted(self) -> None:
        connection = _Connection(self._number, self._request)
        loop = asyncio.get_running_loop()
        server_hostname = None if self._tls is None else "localhost"
        try:
            async with asyncio.timeout(DIAL_S_MAX):
                await loop.create_connection(
                    lambda: connection, "127.0.0.1", self._port, ssl=self._tls, server_hostname=server_hostname
                )
                await connection.opened
            while (interval_s := await connection.boot()) is not None:
                self.pending += 1
                await asyncio.sleep(interval_s)
        except OSError:
            connection.abort()  # or the server would have it as the station's
            raise
        self._connection = connection

    async def speak(self, after_s: float) -> float:
        """Report a meter value after some seconds; return the seconds until it was acknowledged."""
        await asyncio.sleep(after_s)
        assert self._connection is not None
        before, between, after = transaction_event(self._number)
        seq_no = str(FIRST_SEQ_NO).encode()
        began = perf_counter()
        answer = await self._connection.ask(b"".join((before, seq_no, between, seq_no, after)))
        assert answer[0] == 3, answer
        return perf_counter() - began


class _Connection(LoadingStation):
    """Asks one thing at a time."""

    def __init__(self, number: int, request: bytes) -> None:
        super().__init__(number, request, Tally())
        self._asked: asyncio.Future[Any] | None = None

    async def boot(self) -> float | None:
        """Boot; return after how many seconds to boot again, None when accepted."""
        answer = await self.ask(BOOT)
        if answer[0] != 3:
            return REDIAL_S_MIN
        interval_s: float = answer[2]["interval"]
        return None if answer[2]["status"] == "Accepted" else interval_s

    def abort(self) -> None:
        """Leave without a word."""
        if self._transport is not None:
            self._transport.abort()

    async def ask(self, frame: bytes) -> Any:
        """Send a frame and return its answer. Raises `ConnectionError` when the connection ends first."""
        self._asked = asyncio.get_running_loop().create_future()
        self.write(frame)
        return await self._asked

    def _answered(self, body: bytes) -> None:
        if self._asked is not None and not self._asked.done():
            self._asked.set_result(json.loads(body))

    def data_received(self, data: bytes) -> None:
        """A refusal of the handshake ends the attempt."""
        try:
            super().data_received(data)
        except AssertionError:
            self._end(ConnectionError(self._buffer[:12].decode(errors="replace")))

    def connection_lost(self, exc: Exception | None) -> None:
        """Whatever is waited for is over."""
        self._end(ConnectionError(str(exc)))

    def _end(self, error: ConnectionError) -> None:
        for waiting in (self.opened, self._asked):
            if waiting is not None and not waiting.done():
                waiting.set_exception(error)


async def _main(first: int, count: int, port: int, kind: str, password: str) -> None:
    tls = trusting() if kind == "tls" else None
    stations = [ReturningStation(first + n, port=port, tls=tls, password=password) for n in range(count)]
    while line := await asyncio.to_thread(sys.stdin.readline):
        command, *arguments = line.split()
        if command == "dial":
            async with asyncio.timeout(ACCEPTED_S_MAX):
                took_s = sorted(await asyncio.gather(*(station.come_back() for station in stations)))
            attempts = sum(station.attempts for station in stations)
            pending = sum(station.pending for station in stations)
            failures = sum((station.failures for station in stations), Counter[str]())
            told = {"last_s": took_s[-1], "attempts": attempts, "pending": pending, "failures": failures}
            print(json.dumps(told), flush=True)
        else:
            within_s = float(arguments[0])
            moments = [random.uniform(0, within_s) for _ in stations]
            async with asyncio.timeout(within_s + ANSWERED_S_MAX):
                waits_s = await asyncio.gather(
                    *(station.speak(at) for station, at in zip(stations, moments, strict=True))
                )
            print(json.dumps(sorted(waits_s)), flush=True)


if __name__ == "__main__":
    uvloop.run(_main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5]))
