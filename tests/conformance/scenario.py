"""What scenarios are written in: a station that sends and is called, an operator who commands, what the CSMS answers.

A real WebSocket leads to a real gateway and back office (`tests.csms`). Every frame that the CSMS sends is checked
against the schemas of PyPI `ocpp` by another validator than the gateway's own.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

import pytest
import websockets
from ocpp.messages import MessageType, get_validator
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from emobility.protocols.station_control.messages import CommandResult
from services.charging_operations.records import TransactionState
from tests.csms import CSMS, PASSWORD

ANSWER_S_MAX: Final = 10.0
"""How long anybody may take to answer."""
ANYTHING: Final = object()
"""A value that has to be there, whatever it is."""
BETWEEN_REPORTS: Final = timedelta(minutes=5)
WH_BETWEEN_REPORTS: Final = 500
STARTED_BEFORE: Final = timedelta(hours=2)
"""How long ago transactions of scenarios started; the clock of the CSMS stands still."""

Test = TypeVar("Test", bound=Callable[..., Any])


# -- numbers and titles -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scenario:
    """A test case of the Open Charge Alliance by its public number."""

    number: str
    title: str
    test: str


DRIVEN: Final[dict[str, Scenario]] = {}
"""All scenarios of the modules that were imported."""


def scenario(number: str, title: str) -> Callable[[Test], Test]:
    """Say which test case a test drives."""

    def keep(test: Test) -> Test:
        _keep(number, title, test)
        return test

    return keep


def scenarios(names: str | tuple[str, ...], *cases: tuple[Any, ...]) -> Callable[[Test], Test]:
    """Drive several test cases alike: each is its number, its title and the values of `names`."""

    def keep(test: Test) -> Test:
        for number, title, *_ in cases:
            _keep(number, title, test)
        values = [pytest.param(*values, id=number) for number, _, *values in cases]
        marked: Test = pytest.mark.parametrize(names, values)(test)
        return marked

    return keep


def _keep(number: str, title: str, test: Callable[..., Any]) -> None:
    driven = Scenario(number, title, f"{test.__module__.rpartition('.')[2]}::{test.__name__}")
    assert DRIVEN.setdefault(number, driven) == driven, f"{number} is driven twice"


# -- what the CSMS answers --------------------------------------------------------------------------------------------


def csms_answers(answer: Any, **expected: Any) -> None:
    """Assert that an answer holds these values, and maybe more."""
    for name, value in expected.items():
        assert name in answer, f"{name} is missing in {answer}"
        if isinstance(value, dict):
            csms_answers(answer[name], **value)
        else:
            assert value is ANYTHING or answer[name] == value, f"{name}: {answer[name]!r} and not {value!r}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A CALLERROR that a station answers."""

    code: str


class Refused(AssertionError):
    """The CSMS answered a CALL by a CALLERROR."""

    def __init__(self, action: str, code: str, description: str) -> None:
        super().__init__(f"{action}: {code}: {description}")
        self.code = code


# -- stations ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Station:
    """A station that the test plays. What it has no answer to, nobody may ask."""

    csms: CSMS
    version: str
    identity: str
    card: str
    """A card that its eMSP accepts, of this station's scenario alone."""
    answers: dict[str, Any] = field(default_factory=dict)
    """What it says to CALLs from now on, by action."""
    calls: asyncio.Queue[tuple[str, Any]] = field(default_factory=asyncio.Queue)
    """CALLs that came and were answered."""
    _socket: ClientConnection | None = None
    _reader: asyncio.Task[None] | None = None
    _waiting: dict[str, tuple[str, asyncio.Future[Any]]] = field(default_factory=dict)
    _faults: list[str] = field(default_factory=list)
    _sent: int = 0

    # Connections

    async def connects(
        self,
        *,
        password: str | None = PASSWORD,
        username: str | None = None,
        tls: ssl.SSLContext | None = None,
        subprotocols: tuple[str, ...] | None = None,
    ) -> str | None:
        """Open a connection; return the subprotocol. Raises `InvalidStatus`, `ssl.SSLError` when it is refused."""
        await self.disconnects()
        headers = {}
        if password is not None:
            pair = f"{username or self.identity}:{password}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        self._socket = await websockets.connect(
            f"{self.csms.wss_url if tls else self.csms.url}/{self.identity}",
            ssl=tls,
            additional_headers=headers,
            subprotocols=subprotocols or (f"ocpp{self.version}",),  # type: ignore[arg-type]  # a NewType of str
            open_timeout=ANSWER_S_MAX,
        )
        self._reader = asyncio.create_task(self._read(self._socket))
        return self._socket.subprotocol

    @property
    def tls_version(self) -> str | None:
        """The version of TLS that the connection speaks."""
        assert self._socket is not None
        spoken: str | None = self._socket.transport.get_extra_info("ssl_object").version()
        return spoken

    async def disconnects(self) -> None:
        """Close the connection; whatever broke the protocol comes out here at the latest."""
        if self._socket is not None:
            await self._socket.close()
        if self._reader is not None:
            await self._reader
        self._socket = self._reader = None
        assert self._faults == []

    async def _read(self, socket: ClientConnection) -> None:
        try:
            async for frame in socket:
                await self._take(socket, json.loads(frame))
        except ConnectionClosed:
            pass

    async def _take(self, socket: ClientConnection, message: list[Any]) -> None:
        kind, message_id, *rest = message
        if kind == MessageType.Call:
            action, payload = rest
            self._check(MessageType.Call, action, payload)
            if action not in self.answers:
                self._faults.append(f"nobody expected {action}")
            answer = self.answers.get(action, Refusal("NotImplemented"))
            is_refused = isinstance(answer, Refusal)
            frame = [4, message_id, answer.code, "", {}] if is_refused else [3, message_id, answer]
            await socket.send(json.dumps(frame))
            self.calls.put_nowait((action, payload))
            return
        action, waiting = self._waiting.pop(message_id)
        if kind == MessageType.CallResult:
            self._check(MessageType.CallResult, action, rest[0])
            waiting.set_result(rest[0])
        else:
            waiting.set_exception(Refused(action, rest[0], rest[1]))

    def _check(self, kind: MessageType, action: str, payload: Any) -> None:
        errors = get_validator(kind, action, self.version).iter_errors(payload)
        self._faults += [f"{action}: {error.message}" for error in errors]

    # CALLs

    async def sends(self, action: str, /, **payload: Any) -> Any:
        """Send a CALL and return the CSMS's answer. Raises `Refused` at a CALLERROR."""
        assert self._socket is not None
        self._sent += 1
        message_id = f"{self.identity}-{self._sent}"
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[message_id] = action, future
        await self._socket.send(json.dumps([2, message_id, action, payload]))
        async with asyncio.timeout(ANSWER_S_MAX):
            return await future

    async def is_called(self, action: str) -> Any:
        """Wait for a CALL of the CSMS, which must be the next; return its payload."""
        async with asyncio.timeout(ANSWER_S_MAX):
            called, payload = await self.calls.get()
        assert called == action, f"{called} {payload}"
        return payload

    # Time and meter

    def moment(self, minutes: float = 0) -> str:
        """Return the time at the CSMS, or minutes from then."""
        return _text(self.csms.now + timedelta(minutes=minutes))

    async def boots(self, reason: str = "PowerUp") -> None:
        """Boot and say that all connectors are available (reusable state Booted)."""
        if self.version == "1.6":
            boot = await self.sends("BootNotification", chargePointVendor="Scenario", chargePointModel="Station")
            connector: dict[str, Any] = {"errorCode": "NoError", "status": "Available"}
            reports = [connector | {"connectorId": number} for number in (0, 1, 2)]
        else:
            station = {"vendorName": "Scenario", "model": "Station"}
            boot = await self.sends("BootNotification", reason=reason, chargingStation=station)
            connector = {"connectorStatus": "Available", "connectorId": 1, "timestamp": self.moment()}
            reports = [connector | {"evseId": number} for number in (1, 2)]
        csms_answers(boot, status="Accepted", currentTime=ANYTHING, interval=ANYTHING)
        for report in reports:
            csms_answers(await self.sends("StatusNotification", **report))


@dataclass(slots=True)
class Operator:
    """Whoever commands the station through the operator's API."""

    csms: CSMS
    station: Station

    async def commands(
        self, action: str, payload: dict[str, Any] | None = None, *, station_answers: dict[str, Any]
    ) -> None:
        """Call the station: it has to get the payload as it is, and the operator the station's answer as it is."""
        self.station.answers[action] = station_answers
        payload = payload or {}
        shown = await self.csms.command(self.station.identity, action, payload)
        assert shown.get("answer") == station_answers, shown
        assert await self.station.is_called(action) == payload
        status = station_answers.get("status")
        assert status != "Accepted" or shown["result"] == CommandResult.ACCEPTED, shown

    async def is_refused(self, action: str, payload: dict[str, Any], *, station_refuses: str) -> None:
        """Call the station, which answers by a CALLERROR: the operator gets its code."""
        self.station.answers[action] = Refusal(station_refuses)
        shown = await self.csms.command(self.station.identity, action, payload)
        assert await self.station.is_called(action) == payload
        assert shown["detail"] == station_refuses, shown

    async def sees_billed(self, transaction_id: str, *, metered_wh: int) -> None:
        """Assert that the back office made a CDR of a transaction, to the Wh."""
        record = await self.csms.transaction(self.station.identity, transaction_id)
        assert (record.state, record.metered_import_wh) == (TransactionState.BILLED, metered_wh)

    async def sees_nothing_to_bill(self, transaction_id: str) -> None:
        """Assert that nobody pays for a transaction in which nothing flowed."""
        record = await self.csms.transaction(self.station.identity, transaction_id)
        assert record.state in {TransactionState.DISMISSED, TransactionState.QUARANTINED}, record.state
        assert record.metered_import_wh == 0


def _text(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
