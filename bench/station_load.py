"""Stations as light as they can be: pre-written WebSocket frames over plain TCP, one CALL in progress each.

The mask is zero, which RFC 6455 allows, so a frame is bytes that were made before, all but its number; the load costs
little of the two cores that it shares with whatever is measured.

As a program it connects the stations to each server named, then loads the one that a line of standard input names
(`INDEX SECONDS`) while the others idle, and answers with what it measured as one line of JSON.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final, cast

import uvloop

SAMPLES: Final = (
    ("Energy.Active.Import.Register", "Wh", 15_234.5),
    ("Power.Active.Import", "W", 11_040.2),
    ("SoC", "Percent", 54),
    ("Current.Import", "A", 16.1),
)
"""Four sampled values, as in the measurements of the standards note."""
DRAIN_S_MAX: Final = 60.0
"""How long the last answers of a round may take."""


FIRST_SEQ_NO: Final = 10_000_000
"""Every number has as many digits, so every frame of a station has the same length."""


def transaction_event(station: int) -> tuple[bytes, bytes, bytes]:
    """Return a TransactionEvent as a masked frame, cut at its seqNo: in the id, in the payload."""
    before, between, after = masked(transaction_event_call(station)).split(str(FIRST_SEQ_NO).encode())
    return before, between, after


def transaction_event_call(station: int) -> str:
    """Return the CALL of a TransactionEvent (Updated)."""
    payload = {
        "eventType": "Updated",
        "timestamp": "2022-03-27T01:00:00Z",
        "triggerReason": "MeterValuePeriodic",
        "seqNo": FIRST_SEQ_NO,
        "transactionInfo": {"transactionId": f"tx-{station}", "chargingState": "Charging"},
        "evse": {"id": 1, "connectorId": 1},
        "meterValue": [
            {
                "timestamp": "2022-03-27T01:00:00Z",
                "sampledValue": [
                    {
                        "value": value,
                        "measurand": measurand,
                        "context": "Sample.Periodic",
                        "unitOfMeasure": {"unit": unit},
                    }
                    for measurand, unit, value in SAMPLES
                ],
            }
        ],
    }
    call = [2, f"{station}-{FIRST_SEQ_NO}", "TransactionEvent", payload]
    return json.dumps(call, separators=(",", ":"))


def masked(text: str) -> bytes:
    """Return a final text frame under the mask 0."""
    data = text.encode()
    length = bytes([0x80 | len(data)]) if len(data) < 126 else bytes([0xFE]) + len(data).to_bytes(2, "big")
    return b"\x81" + length + bytes(4) + data


@dataclass
class Tally:
    """What all stations saw; while `is_over`, an answered station sends nothing more."""

    answers: int = 0
    refusals: int = 0
    latencies_s: list[float] = field(default_factory=list)
    is_over: bool = False
    in_progress: int = 0
    drained: asyncio.Event = field(default_factory=asyncio.Event)


class LoadingStation(asyncio.Protocol):
    """One connection; sends its next frame when the last was answered."""

    def __init__(self, number: int, request: bytes, tally: Tally) -> None:
        self._request = request
        self._tally = tally
        self._frame = transaction_event(number)
        self._seq_no = FIRST_SEQ_NO
        self._buffer = b""
        self._is_open = False
        self._sent_at = 0.0
        self._transport: asyncio.Transport | None = None
        self.answers = 0
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for a WebSocket."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's do not inherit
        self._transport.write(self._request)

    def take_part(self, tally: Tally) -> None:
        """Begin, and count into `tally` from now on."""
        self._tally = tally
        self.begin()

    def begin(self) -> None:
        """Send the next frame."""
        before, between, after = self._frame
        seq_no = b"%d" % self._seq_no
        self._seq_no += 1
        self._sent_at = perf_counter()
        self.write(b"".join((before, seq_no, between, seq_no, after)))

    def write(self, frame: bytes) -> None:
        """Write a frame that `masked` made."""
        assert self._transport is not None
        self._transport.write(frame)

    def data_received(self, data: bytes) -> None:
        """Take what came; a text frame is an answer, a ping gets its pong."""
        self._buffer += data
        if not self._is_open:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            assert head.startswith(b"HTTP/1.1 101"), head[:200]
            self._is_open, self._buffer = True, rest
            self.opened.set_result(None)
        while len(self._buffer) >= 2:
            size = self._buffer[1] & 0x7F
            start = 2
            if size == 126:
                size, start = int.from_bytes(self._buffer[2:4], "big"), 4
            if len(self._buffer) < start + size:
                return
            opcode, body = self._buffer[0] & 0x0F, self._buffer[start : start + size]
            self._buffer = self._buffer[start + size :]
            if opcode == 1:
                self._answered(body)
            elif opcode == 9:
                self.write(b"\x8a" + bytes([0x80 | size, 0, 0, 0, 0]) + body)

    def _answered(self, body: bytes) -> None:
        tally = self._tally
        self.answers += 1
        tally.answers += 1
        if body.startswith(b"[4,"):  # an echo answers with the frame itself
            tally.refusals += 1
        tally.latencies_s.append(perf_counter() - self._sent_at)
        if not tally.is_over:
            self.begin()
            return
        tally.in_progress -= 1
        if tally.in_progress == 0:
            tally.drained.set()


def upgrade_request(port: int, station: str, password: str) -> bytes:
    """Return the opening handshake of a station."""
    credentials = base64.b64encode(f"{station}:{password}".encode()).decode()
    return (
        f"GET /ocpp/NL-TNM/{station} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: ocpp2.0.1\r\n"
        f"Authorization: Basic {credentials}\r\n\r\n"
    ).encode()


async def connected(port: int, stations: int, password: str) -> list[LoadingStation]:
    """Connect stations that say nothing yet."""
    loop = asyncio.get_running_loop()
    found: list[LoadingStation] = []
    for number in range(stations):
        station = LoadingStation(number, upgrade_request(port, f"BENCH-{number}", password), Tally(is_over=True))
        await loop.create_connection(lambda station=station: station, "127.0.0.1", port)  # type: ignore[misc]  # bound now
        await station.opened
        found.append(station)
    return found


async def load(stations: list[LoadingStation], measure_s: float) -> dict[str, float]:
    """Keep one CALL of every station in progress for some seconds, and return the rate until the last answer.

    The server has work until then. Counting only to the end of the seconds would cut a wave of answers in two, which
    on a slow machine is most of a round.
    """
    tally = Tally(in_progress=len(stations))
    began = perf_counter()
    for station in stations:
        station.take_part(tally)
    await asyncio.sleep(measure_s)
    tally.is_over = True
    async with asyncio.timeout(DRAIN_S_MAX):
        await tally.drained.wait()
    took_s = perf_counter() - began
    latencies_s = sorted(tally.latencies_s)
    return {
        "per_s": tally.answers / took_s,
        "answers": tally.answers,
        "refusals": tally.refusals,
        "p50_ms": latencies_s[len(latencies_s) // 2] * 1000,
        "p99_ms": latencies_s[len(latencies_s) * 99 // 100] * 1000,
    }


async def _main(stations: int, password: str, ports: list[int]) -> None:
    connections = [await connected(port, stations, password) for port in ports]
    print("connected", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        index, measure_s = line.split()
        print(json.dumps(await load(connections[int(index)], float(measure_s))), flush=True)


if __name__ == "__main__":
    uvloop.run(_main(int(sys.argv[1]), sys.argv[2], [int(port) for port in sys.argv[3:]]))
