"""A station without manners: it sends what it is told to, byte for byte, and keeps what it hears.

To know that a frame was met with silence it sends a Heartbeat after it, and looks whether anything comes before the
answer to that.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from emobility.ports.frames import SocketClosed
from simulator.stations.calls import Payload
from simulator.stations.profile import OCPPVersion
from simulator.truth import timestamp

ANSWER_TIMEOUT_S: Final = 15.0
CALL_WAIT_S: Final = 2.0
"""How long a CALL of the CSMS is waited for."""
CALL, CALLRESULT, CALLERROR, CALLRESULTERROR, SEND = 2, 3, 4, 5, 6
BOOT_16: Final = {"chargePointVendor": "Adversary", "chargePointModel": "Simulated"}
BOOT_2: Final = {"chargingStation": {"vendorName": "Adversary", "model": "Simulated"}, "reason": "PowerUp"}


class HostileSocket(Protocol):
    """A socket that takes binary frames too."""

    async def send(self, frame: str | bytes) -> None:
        """Write a frame. Raises `SocketClosed`."""

    async def receive(self) -> str | bytes:
        """Return the next frame. Raises `SocketClosed`."""

    async def close(self, code: int, reason: str) -> None:
        """Close."""


class HostileDialer(Protocol):
    """How a gateway is reached."""

    async def dial(self, *, url: str, subprotocols: tuple[str, ...], username: str, password: str) -> HostileSocket:
        """Connect. Raises `SocketClosed`."""


class HostileStation:
    """One connection of an adversary. `heard` are the words for what came, one for each thing done.

    Args:
        dialer: How the CSMS is reached.
        url: Of the station at the CSMS.
        version: The OCPP it speaks.
        username: Of basic authentication: its name.
        password: Likewise.
        now: Its clock.
        token: A card that may charge.
    """

    def __init__(
        self,
        *,
        dialer: HostileDialer,
        url: str,
        version: OCPPVersion,
        username: str,
        password: str,
        now: Callable[[], datetime],
        token: str,
    ) -> None:
        self.version = version
        self.token = token
        self.heard: list[str] = []
        self._dialer = dialer
        self._url = url
        self._username = username
        self._password = password
        self._now = now
        self._socket: HostileSocket | None = None
        self._ids = 0
        self._calls: list[list[Any]] = []

    # Connection

    async def connect(self) -> None:
        """Open the connection and boot; that is not counted. Raises `SocketClosed`."""
        await self.open()
        await self._carry([CALL, self.new_id(), "BootNotification", self.boot_payload])

    async def open(self) -> None:
        """Open the connection. Raises `SocketClosed`."""
        self._socket = await self._dialer.dial(
            url=self._url, subprotocols=(self.version.value,), username=self._username, password=self._password
        )

    def twin(self) -> HostileStation:
        """Return a second station of the same identity, not yet connected."""
        return HostileStation(
            dialer=self._dialer,
            url=self._url,
            version=self.version,
            username=self._username,
            password=self._password,
            now=self._now,
            token=self.token,
        )

    async def is_connected(self) -> bool:
        """Tell whether a Heartbeat is answered."""
        if self._socket is None:
            return False
        try:
            return await self._probe() is not None
        except (SocketClosed, TimeoutError):
            return False

    async def close(self) -> None:
        """Go."""
        if self._socket is not None:
            await self._socket.close(1000, "done")

    async def ended(self) -> str:
        """Wait until the other end closes; return the word for it."""
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                while True:
                    await self._received()
        except SocketClosed as closed:
            return f"closed {closed.code}"
        except TimeoutError:
            return "open"

    # What it does

    @property
    def boot_payload(self) -> Payload:
        """BootNotification of the version."""
        return BOOT_16 if self.version is OCPPVersion.OCPP16 else BOOT_2

    def new_id(self) -> str:
        """Return an unused message id."""
        self._ids += 1
        return f"a{self._ids}"

    def at(self, minutes: float) -> str:
        """Return a moment as OCPP writes it: so many minutes from now, usually before."""
        return timestamp(self._now() + timedelta(minutes=minutes))

    async def call(self, action: str, payload: Payload, *, message_id: str | None = None) -> Payload:
        """Make a CALL, keep the word for its answer, and return its payload (empty unless it is a CALLRESULT)."""
        answers = await self._carry([CALL, message_id or self.new_id(), action, payload])
        self.heard.append(" ".join(map(_word, answers)) or "silence")
        results: list[Payload] = [each[2] for each in answers if each[0] == CALLRESULT]
        return results[0] if results else {}

    async def raw(self, frame: str | bytes) -> None:
        """Send a frame as it is, and keep the words for what came of it."""
        answers = await self._carry(frame)
        self.heard.append(" ".join(map(_word, answers)) or "silence")

    async def storm(self, action: str, payload: Payload, count: int) -> None:
        """Make a CALL again and again, each as soon as the one before is answered; keep how many of what came."""
        words = [await self._answered(1, [self.frame(action, payload)]) for _ in range(count)]
        self._keep([each for some in words for each in some])

    async def burst(self, frames: Sequence[str], *, tells_apart: bool = True) -> None:
        """Send CALLs without waiting for an answer to any; keep how many of what came, or only how many."""
        answers = await self._answered(len(frames), frames)
        if tells_apart:
            self._keep(answers)
        else:
            self.heard.append(f"{len(answers)} answered")

    async def flood(self, frames: Sequence[str]) -> None:
        """Send frames that should not be answered; keep how many of what came."""
        for frame in frames:
            await self._send(frame)
        self._keep(await self._until_probe())

    def frame(self, action: str, payload: Payload, *, message_id: str | None = None) -> str:
        """Return a CALL as text."""
        return json.dumps([CALL, message_id or self.new_id(), action, payload])

    async def next_call(self) -> list[Any] | None:
        """Return a CALL of the CSMS; None when none comes in time."""
        try:
            async with asyncio.timeout(CALL_WAIT_S):
                while not self._calls:
                    await self._received()
        except TimeoutError:
            return None
        return self._calls.pop(0)

    async def hear(self) -> None:
        """Keep the word for the next that comes and is no CALL, if it comes in time."""
        try:
            async with asyncio.timeout(CALL_WAIT_S):
                while (message := await self._received())[0] == CALL:
                    pass
        except TimeoutError:
            self.heard.append("silence")
            return
        self.heard.append(_word(message))

    async def answer(self, message_id: str, payload: Any) -> None:
        """Answer a CALL of the CSMS, rightly or not."""
        await self._send(json.dumps([CALLRESULT, message_id, payload]))

    # Inner workings

    def _keep(self, answers: list[list[Any]]) -> None:
        words = Counter(map(_word, answers))
        self.heard.append(", ".join(f"{count} {word}" for word, count in sorted(words.items())) or "silence")

    async def _answered(self, count: int, frames: Sequence[str]) -> list[list[Any]]:
        answers: list[list[Any]] = []
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                for frame in frames:
                    await self._send(frame)
                while len(answers) < count:
                    message = await self._received()
                    if message[0] != CALL:
                        answers.append(message)
        except SocketClosed as closed:
            answers.append(["closed", closed.code])
        except TimeoutError:
            answers.append(["nothing more"])
        return answers

    async def _carry(self, frame: list[Any] | str | bytes) -> list[list[Any]]:
        await self._send(json.dumps(frame) if isinstance(frame, list) else frame)
        return await self._until_probe()

    async def _until_probe(self) -> list[list[Any]]:
        """Return what comes before the answer to a Heartbeat; a connection that ends is the last of it."""
        answers: list[list[Any]] = []
        try:
            await self._probe(answers)
        except SocketClosed as closed:
            answers.append(["closed", closed.code])
        except TimeoutError:
            answers.append(["nothing more"])
        return answers

    async def _probe(self, answers: list[list[Any]] | None = None) -> list[Any] | None:
        probe = f"probe{self.new_id()}"
        await self._send(json.dumps([CALL, probe, "Heartbeat", {}]))
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            while True:
                message = await self._received()
                if message[1:2] == [probe]:
                    return message
                if message[0] != CALL and answers is not None:
                    answers.append(message)

    async def _received(self) -> list[Any]:
        assert self._socket is not None, "not connected"
        message: list[Any] = json.loads(await self._socket.receive())
        if message[0] == CALL:
            self._calls.append(message)
        return message

    async def _send(self, frame: str | bytes) -> None:
        assert self._socket is not None, "not connected"
        await self._socket.send(frame)


def _word(message: list[Any]) -> str:
    match message[0]:
        case 3:
            return "result"
        case 4:
            return str(message[2])
        case 5:
            return f"result error {message[2]}"
        case "closed":
            return f"closed {message[1]}"
        case other:
            return str(other)
