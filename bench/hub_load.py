"""Requests by the thousand over kept connections: as many as are answered, or so many a second."""

from __future__ import annotations

import asyncio
import base64
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bench.hub_processes import Joined
from emobility.domain.identifiers import PartyId

BODY: Final = (
    b'{"country_code":"NL","party_id":"CPO","id":"%d","start_date_time":"2026-03-01T12:00:00Z","kwh":12.3450,'
    b'"cdr_token":{"country_code":"DE","party_id":"MSP","uid":"0102030405","type":"RFID","contract_id":"DE-MSP-C1"},'
    b'"auth_method":"WHITELIST","location_id":"LOC1","evse_uid":"3256","connector_id":"1","currency":"EUR",'
    b'"charging_periods":[%s],"status":"ACTIVE","last_updated":"2026-03-01T12:15:00Z"}'
)
PERIOD: Final = b'{"start_date_time":"2026-03-01T12:00:00Z","dimensions":[{"type":"ENERGY","volume":1.2345}]}'
"""Of a Session, ten of them: about 1,400 bytes with the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where the load goes: `path` stands before the module's own."""

    port: int
    path: str


def put_session(target: Target, sender: Joined, receiver: PartyId | None, number: int) -> bytes:
    """Return a PUT of a Session, as it goes over the wire."""
    return put_object(target, sender, receiver, "sessions", BODY % (number, b",".join([PERIOD] * 10)), number=number)


def put_object(
    target: Target, sender: Joined, receiver: PartyId | None, module: str, body: bytes, *, number: int = 1
) -> bytes:
    """Return a PUT of an object of the sender's, as it goes over the wire."""
    routing = "".join(
        f"OCPI-{way}-country-code: {party.country_code}\r\nOCPI-{way}-party-id: {party.party_id}\r\n"
        for way, party in (("from", sender.party), ("to", receiver))
        if party is not None
    )
    path = f"{module}/receiver/{sender.party.country_code}/{sender.party.party_id}/{number}"
    head = (
        f"PUT {target.path}/{path} HTTP/1.1\r\n{_common(target, sender)}{routing}"
        f"X-Request-ID: r-{number}\r\nX-Correlation-ID: c-{number}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def get(target: Target, sender: Joined, path: str) -> bytes:
    """Return a GET, as it goes over the wire."""
    return f"GET {target.path}/{path} HTTP/1.1\r\n{_common(target, sender)}\r\n".encode()


def _common(target: Target, sender: Joined) -> str:
    token = base64.b64encode(sender.token.encode()).decode()
    return f"Host: 127.0.0.1:{target.port}\r\nAuthorization: Token {token}\r\n"


@dataclass(slots=True)
class Connection(asyncio.Protocol):
    """One connection that asks one thing at a time."""

    transport: Any = None
    waiting: bytes = b""
    answered: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Take an answer's bytes."""
        self.waiting += data
        head, separator, rest = self.waiting.partition(b"\r\n\r\n")
        if not separator:
            return
        at = head.lower().find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0])
        if len(rest) >= length and self.answered is not None and not self.answered.done():
            self.waiting = b""
            self.answered.set_result(head + b"\r\n\r\n" + rest)

    def connection_lost(self, error: Exception | None) -> None:
        """Fail what waits."""
        if self.answered is not None and not self.answered.done():
            self.answered.set_exception(error or ConnectionError("the server closed the connection"))

    async def ask(self, request: bytes) -> bytes:
        """Send a request; return the answer."""
        self.answered = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self.answered


async def connected(port: int, count: int) -> list[Connection]:
    """Open connections."""
    loop = asyncio.get_running_loop()
    return [(await loop.create_connection(Connection, "127.0.0.1", port))[1] for _ in range(count)]


@dataclass(slots=True)
class Measured:
    """What came of a load; `latencies_s` sorted."""

    answers: int = 0
    refused: int = 0
    took_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    last_refusal: bytes = b""

    def note(self, answer: bytes, latency_s: float) -> None:
        """Count an answer."""
        self.latencies_s.append(latency_s)
        self.answers += 1
        if b'"status_code":1000' not in answer:
            self.refused += 1
            self.last_refusal = answer

    def percentile_ms(self, part: float) -> float:
        """Return the latency below which `part` of all answers came."""
        ordered = sorted(self.latencies_s)
        return 1_000 * ordered[min(len(ordered) - 1, int(part * len(ordered)))]

    @property
    def per_s(self) -> float:
        """Answers per second."""
        return self.answers / self.took_s


Make = Callable[[int], bytes]
"""The request with a number."""


async def as_many_as_go(port: int, make: Make, *, connections: int, for_s: float) -> Measured:
    """Keep every connection busy for a while."""
    loop, found, numbers = asyncio.get_running_loop(), Measured(), itertools.count()
    began_s = loop.time()

    async def keep_busy(connection: Connection) -> None:
        while loop.time() - began_s < for_s:
            asked_s = loop.time()
            answer = await connection.ask(make(next(numbers)))
            found.note(answer, loop.time() - asked_s)

    opened = await connected(port, connections)
    await asyncio.gather(*(keep_busy(each) for each in opened))
    found.took_s = loop.time() - began_s
    _close(opened)
    return found


async def so_many(port: int, make: Make, *, count: int, connections: int) -> Measured:
    """Have so many requests answered; of their latencies none is kept."""
    loop, found, numbers = asyncio.get_running_loop(), Measured(), iter(range(count))
    began_s = loop.time()

    async def keep_busy(connection: Connection) -> None:
        for number in numbers:
            found.note(await connection.ask(make(number)), 0.0)

    opened = await connected(port, connections)
    await asyncio.gather(*(keep_busy(each) for each in opened))
    found.took_s = loop.time() - began_s
    _close(opened)
    return found


async def paced(port: int, make: Make, *, per_s: float, for_s: float, connections: int) -> Measured:
    """Send so many a second, whether or not earlier ones are answered; waiting for a free connection counts."""
    loop, found = asyncio.get_running_loop(), Measured()
    opened = await connected(port, connections)
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for each in opened:
        free.put_nowait(each)
    began_s = loop.time()

    async def one(number: int) -> None:
        due_s = began_s + number / per_s
        await asyncio.sleep(due_s - loop.time())
        connection = await free.get()
        answer = await connection.ask(make(number))
        found.note(answer, loop.time() - due_s)
        free.put_nowait(connection)

    await asyncio.gather(*(one(number) for number in range(int(per_s * for_s))))
    found.took_s = loop.time() - began_s
    _close(opened)
    return found


def _close(opened: Sequence[Connection]) -> None:
    for each in opened:
        each.transport.close()
