"""Stations as light as they can be: pre-written WebSocket frames over plain TCP, one CALL in progress each.

The mask is zero, which RFC 6455 allows, so a frame is bytes that were made before; the load costs little of the two
cores that it shares with whatever is measured. Prints the number of answers per second, and how many were no result.
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


def transaction_event(station: int, seq_no: int) -> bytes:
    """Return a TransactionEvent (Updated) as a masked text frame."""
    payload = {
        "eventType": "Updated",
        "timestamp": "2022-03-27T01:00:00Z",
        "triggerReason": "MeterValuePeriodic",
        "seqNo": seq_no,
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
    return masked(json.dumps([2, f"{station}-{seq_no}", "TransactionEvent", payload], separators=(",", ":")))


def masked(text: str) -> bytes:
    """Return a final text frame under the mask 0."""
    data = text.encode()
    length = bytes([0x80 | len(data)]) if len(data) < 126 else bytes([0xFE]) + len(data).to_bytes(2, "big")
    return b"\x81" + length + bytes(4) + data


@dataclass
class Tally:
    """What all stations saw."""

    answers: int = 0
    refusals: int = 0
    latencies_s: list[float] = field(default_factory=list)


class LoadingStation(asyncio.Protocol):
    """One connection; sends its next frame when the last was answered."""

    def __init__(self, number: int, request: bytes, tally: Tally) -> None:
        self._number = number
        self._request = request
        self._tally = tally
        self._seq_no = 0
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

    def begin(self) -> None:
        """Send the next frame."""
        frame = transaction_event(self._number, self._seq_no)
        self._seq_no += 1
        self._sent_at = perf_counter()
        self.write(frame)

    def write(self, frame: bytes) -> None:
        """Write a frame that `masked` made."""
        assert self._transport is not None
        self._transport.write(frame)

    def data_received(self, data: bytes) -> None:
        """Take what came; a text frame is an answer."""
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

    def _answered(self, body: bytes) -> None:
        self.answers += 1
        self._tally.answers += 1
        if not body.startswith((b"[3,", b"[3 ")):
            self._tally.refusals += 1
        self._tally.latencies_s.append(perf_counter() - self._sent_at)
        self.begin()


def upgrade_request(port: int, station: str, password: str) -> bytes:
    """Return the opening handshake of a station."""
    credentials = base64.b64encode(f"{station}:{password}".encode()).decode()
    return (
        f"GET /ocpp/NL-TNM/{station} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: ocpp2.0.1\r\n"
        f"Authorization: Basic {credentials}\r\n\r\n"
    ).encode()


async def load(port: int, stations: int, warm_up_s: float, measure_s: float, password: str) -> dict[str, float]:
    """Load a server and return its rate and latencies."""
    tally = Tally()
    loop = asyncio.get_running_loop()
    protocols: list[LoadingStation] = []
    for number in range(stations):
        request = upgrade_request(port, f"BENCH-{number}", password)
        protocol = LoadingStation(number, request, tally)
        await loop.create_connection(lambda protocol=protocol: protocol, "127.0.0.1", port)  # type: ignore[misc]  # bound now
        await protocol.opened
        protocols.append(protocol)
    for protocol in protocols:
        protocol.begin()
    await asyncio.sleep(warm_up_s)
    tally.latencies_s.clear()
    before, began = tally.answers, perf_counter()
    await asyncio.sleep(measure_s)
    answered, took_s = tally.answers - before, perf_counter() - began
    latencies = sorted(tally.latencies_s)
    return {
        "per_s": answered / took_s,
        "refusals": tally.refusals,
        "p50_ms": latencies[len(latencies) // 2] * 1000,
        "p99_ms": latencies[len(latencies) * 99 // 100] * 1000,
    }


if __name__ == "__main__":
    port, stations, warm_up_s, measure_s, password = sys.argv[1:]
    print(
        json.dumps(uvloop.run(load(int(port), int(stations), float(warm_up_s), float(measure_s), password))),
        flush=True,
    )
