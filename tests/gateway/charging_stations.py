"""Small charging stations of every OCPP version that charge over and over and keep every promise a station has.

They share nothing with the gateway or the simulator. A message is sent until it is acknowledged, under a new message
id each time, before the next one is; the registers only grow; what was acknowledged is written down.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import websockets
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import WebSocketException

from tests.gateway.conftest import PASSWORD

ANSWER_WITHIN_S: Final = 15.0
UPDATES_PER_CHARGE: Final = 3
FIRST_CHARGE: Final = datetime(2022, 3, 27, 1, 0, tzinfo=UTC)
VERSIONS: Final = ("ocpp1.6", "ocpp2.0.1", "ocpp2.1")


@dataclass(frozen=True, slots=True)
class Reported:
    """What an acknowledged message said: of which charge of the station, which message of it, and the register."""

    charge: int
    number: int
    register_wh: int


@dataclass
class ChargingStation:
    """One station; `urls` are gateways it may come to, the next one when one does not serve it."""

    name: str
    subprotocol: str
    urls: Sequence[str]
    seed: int = 0
    answers_after_s: float = 0.0
    may_answer: bool = True
    acknowledged: list[Reported] = field(default_factory=list)
    refusals: list[Any] = field(default_factory=list)
    charged_wh: int = 0
    """Of charges that have ended, and were acknowledged to have."""
    charges: int = 0
    connected_at_s: list[float] = field(default_factory=list)
    close_codes: list[int] = field(default_factory=list)
    calls_at_once_max: int = 0
    calls_answered: int = 0

    def __post_init__(self) -> None:
        self._chance = random.Random(f"{self.seed} {self.name}")
        self._url_number = 0
        self._register_wh = self._chance.randrange(1_000_000)
        self._message_ids = (f"{self.name}-{n}" for n in itertools.count())
        self._transaction_id = ""
        self._awaited: tuple[str, asyncio.Future[Any]] | None = None
        self._calls: set[str] = set()
        self._answering: set[asyncio.Task[None]] = set()
        self.connection: ClientConnection | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Charge until `stop` is set; then end the charge under way."""
        steps = self._steps(stop)
        step = next(steps, None)
        while step is not None:
            try:
                async with self._connected() as connection:
                    await self._asked(connection, "BootNotification", self._boot())
                    while step is not None and await self._told(connection, *step):
                        step = next(steps, None)
            except (OSError, WebSocketException, TimeoutError, EOFError):
                self._url_number += 1
                await asyncio.sleep(0.05 + self._chance.random() * 0.2)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[ClientConnection]:
        authorization = base64.b64encode(f"{self.name}:{PASSWORD}".encode()).decode()
        async with websockets.connect(
            f"{self.urls[self._url_number % len(self.urls)]}/{self.name}",
            additional_headers={"Authorization": f"Basic {authorization}"},
            subprotocols=[self.subprotocol],  # type: ignore[list-item]  # a NewType of str
            compression=None,
            close_timeout=0.5,
        ) as connection:
            reading = asyncio.create_task(self._read(connection))
            self.connection = connection
            self.connected_at_s.append(asyncio.get_running_loop().time())
            try:
                yield connection
            finally:
                self.connection = None
                reading.cancel()
                if connection.close_code is not None:
                    self.close_codes.append(connection.close_code)

    async def _read(self, connection: ClientConnection) -> None:
        try:
            async for text in connection:
                message = json.loads(text)
                if message[0] == 2:
                    self._calls.add(message[1])
                    self.calls_at_once_max = max(self.calls_at_once_max, len(self._calls))
                    task = asyncio.create_task(self._answer(connection, message[1]))
                    self._answering.add(task)
                    task.add_done_callback(self._answering.discard)
                elif self._awaited is not None and self._awaited[0] == message[1]:
                    self._awaited[1].set_result(message)
        except WebSocketException:
            pass
        finally:
            self._calls.clear()
            if self._awaited is not None and not self._awaited[1].done():
                self._awaited[1].set_result(None)

    async def _answer(self, connection: ClientConnection, message_id: str) -> None:
        await asyncio.sleep(self.answers_after_s)
        if self.may_answer:
            self._calls.discard(message_id)
            self.calls_answered += 1
            await connection.send(json.dumps([3, message_id, {"status": "Accepted"}]))

    async def _asked(self, connection: ClientConnection, action: str, payload: dict[str, Any]) -> Any:
        message_id = next(self._message_ids)
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._awaited = (message_id, answered)
        await connection.send(json.dumps([2, message_id, action, payload]))
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                answer = await answered
        finally:
            self._awaited = None
        if answer is None:
            raise ConnectionError("the connection is gone")
        return answer

    async def _told(self, connection: ClientConnection, reported: Reported, kind: str) -> bool:
        """Send one message of a transaction; True when it is acknowledged."""
        answer = await self._asked(connection, *self._message(reported, kind))
        if answer[0] != 3:
            self.refusals.append(answer)
            return False
        if kind == "Started" and self.subprotocol == "ocpp1.6":
            self._transaction_id = str(answer[2]["transactionId"])
        self.acknowledged.append(reported)
        return True

    def _steps(self, stop: asyncio.Event) -> Any:
        while not stop.is_set():
            self._transaction_id = f"{self.name}-{self.charges}"
            began_wh = self._register_wh
            kinds = ("Started", *("Updated",) * UPDATES_PER_CHARGE, "Ended")
            for number, kind in enumerate(kinds):
                yield Reported(self.charges, number, self._register_wh), kind
                if kind != "Ended":
                    self._register_wh += self._chance.randrange(1, 5_000)
            self.charged_wh += self._register_wh - began_wh
            self.charges += 1

    def _boot(self) -> dict[str, Any]:
        if self.subprotocol == "ocpp1.6":
            return {"chargePointModel": "M", "chargePointVendor": "V"}
        return {"chargingStation": {"model": "M", "vendorName": "V"}, "reason": "PowerUp"}

    def _message(self, reported: Reported, kind: str) -> tuple[str, dict[str, Any]]:
        at = FIRST_CHARGE + timedelta(hours=reported.charge, minutes=reported.number)
        timestamp = at.isoformat().replace("+00:00", "Z")
        if self.subprotocol == "ocpp1.6":
            return self._message_16(reported, kind, timestamp)
        return "TransactionEvent", {
            "eventType": kind,
            "timestamp": timestamp,
            "triggerReason": "MeterValuePeriodic",
            "seqNo": reported.number,
            "transactionInfo": {"transactionId": self._transaction_id},
            "evse": {"id": 1, "connectorId": 1},
            "meterValue": [{"timestamp": timestamp, "sampledValue": [{"value": reported.register_wh}]}],
        }

    def _message_16(self, reported: Reported, kind: str, timestamp: str) -> tuple[str, dict[str, Any]]:
        wh = reported.register_wh
        match kind:
            case "Started":
                id_tag = f"T-{self.name}"[:20]
                return "StartTransaction", {
                    "connectorId": 1,
                    "idTag": id_tag,
                    "meterStart": wh,
                    "timestamp": timestamp,
                }
            case "Updated":
                return "MeterValues", {
                    "connectorId": 1,
                    "transactionId": int(self._transaction_id),
                    "meterValue": [{"timestamp": timestamp, "sampledValue": [{"value": str(wh)}]}],
                }
            case _:
                return "StopTransaction", {
                    "transactionId": int(self._transaction_id),
                    "meterStop": wh,
                    "timestamp": timestamp,
                }


def stations(number: int, urls: Sequence[str], *, seed: int = 0) -> list[ChargingStation]:
    """Return so many stations, of every version in turn, that begin at the gateways in turn."""
    return [
        ChargingStation(
            f"CS-{n}", VERSIONS[n % len(VERSIONS)], [*urls[n % len(urls) :], *urls[: n % len(urls)]], seed=seed
        )
        for n in range(number)
    ]
