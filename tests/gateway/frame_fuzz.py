"""Hostile frames through the real session on memory adapters: `python -m tests.gateway.frame_fuzz --frames 10000000`.

Each frame's outcome is compared with what an independent reading of it allows (OCPP-J 1.6, 4; 2.0.1 part 4, 4): nothing
escapes, no connection is lost, whoever is owed an answer gets one, with an id and a code of the version, and nobody
else does. A conversation that breaks a rule is made smaller and written out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal, DecimalException
from functools import cache
from pathlib import Path
from typing import Any, Final

import structlog
import uvloop

from charge_point_gateway.admission import AdmissionRates, BootAdmission
from charge_point_gateway.connection import Limits
from charge_point_gateway.group_commit import GroupCommit
from charge_point_gateway.message_log import MessageLog
from charge_point_gateway.metrics import GatewayMetrics
from charge_point_gateway.presence import PresenceBook
from charge_point_gateway.quirks import QuirkBook
from charge_point_gateway.rpc_errors import OCPPVersion, RPCError, wire_code
from charge_point_gateway.security import station_identity
from charge_point_gateway.station_certificates import StationCertificates
from charge_point_gateway.station_session import (
    OUTBOX_FRAMES_MAX,
    SENDS_AT_ONCE_MAX,
    SessionServices,
    StationSession,
)
from charge_point_gateway.strict_json import DEPTH_MAX, EXPONENT_MAX
from charge_point_gateway.transaction_numbers import TransactionNumbers
from charge_point_gateway.vehicle_certificates import VehicleCertificates, VehicleTrust
from emobility.adapters.memory import LoopTimer, MemoryHttp, SeededRandomness, VirtualClock, memory_adapters
from emobility.ports.authorizer import AuthorizationAnswer, AuthorizationRequest, AuthorizationStatus
from emobility.ports.frames import SocketClosed
from emobility.ports.station_questions import (
    ChargingAdvice,
    ChargingQuestion,
    ReceiptAnswer,
    ReceiptQuestion,
    VATNumberAnswer,
    VATNumberQuestion,
)
from tests.gateway.frame_grammar import RESULT, Frame, FrameGrammar, OwnAnswer, OwnCall, Reconnect, Step

FRAMES_PER_CONVERSATION: Final = 500
CONVERSATIONS_PER_TASK: Final = 40
TURNS_MAX: Final = 400
"""Turns of the loop within which an answer is there."""
GROWTH_BYTES_MAX: Final = 64 * 2**20
"""By how much a process may grow once it has warmed up, whatever it was sent."""
LIMITS: Final = Limits(frames_per_s=1e12, frames_burst=1e12, bytes_per_s=1e15, bytes_burst=1e15)
"""Rates are tested elsewhere; here they would only cost time."""
FAILING_FOLDER: Final = Path("build/fuzz")
NOW: Final = datetime(2022, 3, 27, 0, 30, tzinfo=UTC)
IDENTITY: Final = station_identity("NL-TNM", "CS-1")
MINUS_ONE: Final = "-1"


class RuleOfOCPPJBroken(AssertionError):
    """The gateway did what no reading of the frame allows."""


# -- what a frame is owed ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Owed:
    """How many answers, of which kinds, under which ids, with which codes."""

    answers: int
    kinds: tuple[int, ...] = (4,)
    ids: tuple[str, ...] | None = None
    """None: any that stands in the frame, or -1."""
    codes: tuple[RPCError, ...] | None = None


NOTHING: Final = Owed(0)


class _NoStrictJSON(Exception):
    """A way out of the parser."""


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _NoStrictJSON
    return made


def _number(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except DecimalException as error:
        raise _NoStrictJSON from error
    if value and abs(value.adjusted()) > EXPONENT_MAX:
        raise _NoStrictJSON
    return value


def _constant(_text: str) -> None:
    raise _NoStrictJSON


_READER: Final = json.JSONDecoder(object_pairs_hook=_members, parse_float=_number, parse_constant=_constant)


def _depth(value: Any) -> int:
    if type(value) is list:
        return 1 + max(map(_depth, value), default=0)
    if type(value) is dict:
        return 1 + max(map(_depth, value.values()), default=0)
    return 0


def owed_for(frame: str | bytes, version: OCPPVersion) -> Owed:
    """Read a frame once more, with Python's own parser, and say what it is owed."""
    if isinstance(frame, bytes):
        return Owed(1, ids=(MINUS_ONE,), codes=(RPCError.NOT_A_CALL,))
    if len(frame.encode(errors="surrogatepass")) > LIMITS.frame_bytes_max:
        return Owed(1, codes=(RPCError.NOT_A_CALL,))
    unreadable = Owed(1, codes=(RPCError.FORMAT, RPCError.PROPERTY))
    try:
        message = _READER.decode(frame)
        if "\\u" in frame:
            json.dumps(message, ensure_ascii=False, default=str).encode()  # a lone surrogate is no text
    except (_NoStrictJSON, ValueError, RecursionError):
        return unreadable
    if _depth(message) > DEPTH_MAX:
        return unreadable
    if type(message) is not list or not message:
        return Owed(1, ids=(MINUS_ONE,), codes=(RPCError.NOT_A_CALL,))
    return _owed_for_message(message, version)


def _owed_for_message(message: list[Any], version: OCPPVersion) -> Owed:
    kind, first = message[0], message[1] if len(message) > 1 else None
    message_id = first if isinstance(first, str) else ""
    is_id = 0 < len(message_id) <= LIMITS.unique_id_characters_max
    if type(kind) is int and kind == 2:
        if not is_id or any(ord(each) < 32 or ord(each) == 127 for each in message_id):
            return Owed(1, ids=(MINUS_ONE,), codes=(RPCError.NOT_A_CALL,))
        if len(message) != 4 or type(message[2]) is not str:
            return Owed(1, ids=(message_id,), codes=(RPCError.NOT_A_CALL,))
        if type(message[3]) is not dict:
            return Owed(1, ids=(message_id,), codes=(RPCError.FORMAT,))
        return Owed(1, kinds=(3, 4), ids=(message_id,))
    if type(kind) is int and kind in (3, 4):
        return NOTHING
    if version is OCPPVersion.V16 or (version is OCPPVersion.V21 and type(kind) is int and kind in (5, 6)):
        return NOTHING
    ids = (message_id,) if is_id else (MINUS_ONE,)
    return Owed(1, ids=ids, codes=(RPCError.MESSAGE_TYPE_NOT_SUPPORTED,))


def check_answer(text: str, frame: str | bytes, owed: Owed, version: OCPPVersion) -> list[Any]:
    """Compare an answer with what was owed. Raises `RuleOfOCPPJBroken`."""
    answer: list[Any] = json.loads(text)
    if owed.ids is None:
        is_under_its_id = answer[1] == MINUS_ONE or (isinstance(frame, str) and f'"{answer[1]}"' in frame[:256])
    else:
        is_under_its_id = answer[1] in owed.ids
    if answer[0] == 3:
        is_formed = len(answer) == 3 and type(answer[2]) is dict
    else:
        is_formed = len(answer) == 5 and len(answer[3]) <= 255 and answer[4] == {}
        is_formed = is_formed and answer[2] in _codes(owed.codes, version)
    if not (answer[0] in owed.kinds and is_under_its_id and is_formed):
        raise RuleOfOCPPJBroken(f"answered by {text[:200]}, owed {owed}")
    return answer


@cache
def _codes(codes: tuple[RPCError, ...] | None, version: OCPPVersion) -> frozenset[str]:
    return frozenset(wire_code(code, version) for code in codes or RPCError)


def _hold(holds: bool, what: str) -> None:  # noqa: FBT001 - the condition of a rule
    if not holds:
        raise RuleOfOCPPJBroken(what)


# -- playing ----------------------------------------------------------------------------------------------------------


class Wire:
    """The gateway's end of a station's socket, as the real server's: frames are handed over without a task's turn."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self._handle: Callable[[str | bytes], bool] | None = None
        self._reader: asyncio.Future[None] | None = None
        self._is_closed = False

    async def receive_while(self, handle: Callable[[str | bytes], bool]) -> None:
        if self._is_closed:
            raise SocketClosed(code=1006, reason="")
        self._handle, self._reader = handle, asyncio.get_running_loop().create_future()
        await self._reader
        if self._is_closed:
            raise SocketClosed(code=1006, reason="")

    async def deliver(self, frame: str | bytes) -> None:
        for _ in range(TURNS_MAX):
            if self._handle is not None:
                break
            await asyncio.sleep(0)
        _hold(self._handle is not None, "nobody reads any more")
        assert self._handle is not None
        if not self._handle(frame):
            self._wake()

    def close_now(self) -> None:
        self._is_closed = True
        self._wake()

    def _wake(self) -> None:
        self._handle = None
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def send_now(self, frame: str) -> bool:
        self.sent.append(frame)
        return True

    async def receive(self) -> str | bytes:
        raise NotImplementedError

    async def send(self, frame: str) -> None:
        self.sent.append(frame)

    async def ping(self) -> None:
        pass

    async def close(self, code: int, reason: str) -> None:
        raise RuleOfOCPPJBroken(f"the gateway closed with {code} {reason}")


class Accepting:
    """A back office that accepts everybody."""

    async def authorize(self, _request: AuthorizationRequest) -> AuthorizationAnswer:
        return AuthorizationAnswer(status=AuthorizationStatus.ACCEPTED, reason="")

    async def check_vat_number(self, _question: VATNumberQuestion) -> VATNumberAnswer:
        return VATNumberAnswer(is_valid=True, reason_code="FormOnly")

    async def receipt_of(self, _question: ReceiptQuestion) -> ReceiptAnswer:
        return ReceiptAnswer()

    async def advise(self, _question: ChargingQuestion) -> ChargingAdvice:
        return ChargingAdvice(is_accepted=True)


def services_on_memory() -> SessionServices:
    """Return what a session needs, over empty memory adapters."""
    clock, timer, randomness = VirtualClock(NOW), LoopTimer(), SeededRandomness(1)
    adapters = memory_adapters(master_key=bytes(32), clock=clock, randomness=randomness)
    return SessionServices(
        clock=clock,
        timer=timer,
        randomness=randomness,
        vault=adapters.vault,
        authorizer=Accepting(),
        questions=Accepting(),
        group_commit=GroupCommit(adapters.event_log),
        numbers=TransactionNumbers(adapters.units, timer),
        certificates=StationCertificates(adapters.units, clock, randomness, authority=None, valid_days=1),
        vehicle_certificates=VehicleCertificates(MemoryHttp(), clock, randomness, trust=VehicleTrust()),
        metrics=GatewayMetrics(),
        message_log=MessageLog(adapters.units, clock, timer),
        quirks=QuirkBook(adapters.units, clock, timer),
        presence=PresenceBook(adapters.units, clock, gateway_url="http://127.0.0.1:9", gateway_run="fuzz"),
        boots=BootAdmission(timer, randomness, AdmissionRates()),
        limits=LIMITS,
        heartbeat_interval_s=300,
        answer_when_unavailable=AuthorizationStatus.INVALID,
    )


class Conversation:
    """Plays the steps of one station."""

    def __init__(self, version: OCPPVersion, services: SessionServices) -> None:
        self._version = version
        self._services = services
        self._seen: set[str] = set()
        self._own_id: str | None = None
        self._calling: list[asyncio.Task[Any]] = []
        self._connect()

    def _connect(self) -> None:
        self._wire = Wire()
        self._session = StationSession(IDENTITY, self._version, self._wire, self._services)
        self._serving = asyncio.create_task(self._session.run())
        self._seen.clear()
        self._own_id = None

    async def play(self, steps: list[Step]) -> None:
        """Raises `RuleOfOCPPJBroken`, or whatever escapes."""
        for step in steps:
            match step:
                case Frame():
                    await self._send(step)
                case Reconnect():
                    await self._reconnect()
                case OwnCall():
                    self._calling.append(asyncio.create_task(self._call(step)))
                    await asyncio.sleep(0)
                case OwnAnswer() if self._own_id is not None:
                    answer = step.template.replace("{id}", self._own_id)
                    await self._deliver(answer, owed_for(answer, self._version))
                case _:
                    pass
        await self._reconnect()
        await self.end()

    async def end(self) -> None:
        """Leave, and see that nothing is left behind."""
        self._wire.close_now()
        await self._serving
        await asyncio.gather(*self._calling, return_exceptions=True)

    async def _call(self, step: OwnCall) -> None:
        await self._session.call(step.action, step.payload, timeout_s=60.0)

    async def _reconnect(self) -> None:
        await self._deliver('[2,"still alive","Heartbeat",{}]', Owed(1, kinds=(3,), ids=("still alive",)))
        session, connection = self._session, self._session._connection
        _hold(len(session._outbox) <= OUTBOX_FRAMES_MAX, "the outbox grew")
        _hold(len(session._tasks) <= SENDS_AT_ONCE_MAX + 1, "too many SENDs at once")
        _hold(len(connection._answers) <= LIMITS.duplicate_ids_max, "too many answers are kept")
        _hold(len(connection._waiting) <= LIMITS.calls_in_queue_max, "too many CALLs wait")
        self._wire.close_now()
        await self._serving
        self._connect()
        await asyncio.sleep(0)

    async def _send(self, frame: Frame) -> None:
        owed = owed_for(frame.data, self._version)
        answer = await self._deliver(frame.data, owed)
        is_new = owed.ids is None or owed.ids[0] not in self._seen
        self._seen.update(owed.ids or ())
        if frame.wants is None or answer is None or not is_new:
            return
        got = RESULT if answer[0] == 3 else answer[2]
        wants = frame.wants if frame.wants == RESULT else wire_code(RPCError(frame.wants), self._version)
        if got != wants:
            raise RuleOfOCPPJBroken(f"answered by {got}, wanted {wants}")

    async def _deliver(self, frame: str | bytes, owed: Owed) -> list[Any] | None:
        sent = self._wire.sent
        await self._wire.deliver(frame)
        answers = list(self._taken(sent))
        for _ in range(TURNS_MAX):
            if len(answers) >= owed.answers:
                break
            await asyncio.sleep(0)
            answers += self._taken(sent)
        if self._serving.done():
            self._serving.result()
            raise RuleOfOCPPJBroken("the connection was lost")
        if len(answers) != owed.answers:
            raise RuleOfOCPPJBroken(f"{len(answers)} answers {answers[:3]}, owed {owed}")
        return check_answer(answers[0], frame, owed, self._version) if answers else None

    def _taken(self, sent: list[str]) -> Iterator[str]:
        """Take what was sent; keep the gateway's own CALLs, and what 2.1 says of answers to them, apart."""
        taken, sent[:] = list(sent), []
        for text in taken:
            if text.startswith("[2,"):
                self._own_id = json.loads(text)[1]
            elif text.startswith("[5,"):
                _hold(self._version is OCPPVersion.V21, f"{self._version} knows no CALLRESULTERROR")
            else:
                yield text


async def play(version: OCPPVersion, steps: list[Step]) -> None:
    """Play one conversation in a world of its own. Raises `RuleOfOCPPJBroken`, or whatever escapes."""
    services, stop = services_on_memory(), asyncio.Event()
    committing = asyncio.create_task(services.group_commit.run(stop))
    conversation = Conversation(version, services)
    try:
        await asyncio.sleep(0)
        await conversation.play(steps)
    finally:
        conversation._serving.cancel()
        stop.set()
        await asyncio.gather(committing, conversation._serving, return_exceptions=True)


def outcome(version: OCPPVersion, steps: list[Step]) -> str | None:
    """Play a conversation; return what went wrong."""
    try:
        uvloop.run(play(version, steps))
    except Exception as error:  # noqa: BLE001 - whatever escapes is what is looked for
        return f"{type(error).__name__}: {error}"
    return None


# -- making it smaller ------------------------------------------------------------------------------------------------


def smaller(version: OCPPVersion, steps: list[Step]) -> list[Step]:
    """Return as few steps, and as short frames, as still break a rule."""
    steps = _without_parts(steps, lambda fewer: outcome(version, fewer) is not None)
    for at, step in enumerate(steps):
        if isinstance(step, Frame):

            def still_fails(data: Any, at: int = at, step: Frame = step) -> bool:
                return (
                    outcome(version, [*steps[:at], replace(step, data=data, wants=None), *steps[at + 1 :]]) is not None
                )

            if still_fails(step.data):
                steps[at] = replace(step, data=_without_parts(step.data, still_fails), wants=None)
    return steps


def _without_parts(whole: Any, still_fails: Callable[[Any], bool]) -> Any:
    size = max(1, len(whole) // 2)
    while True:
        at = 0
        while at < len(whole):
            fewer = whole[:at] + whole[at + size :]
            if still_fails(fewer):
                whole = fewer
            else:
                at += size
        if size == 1:
            return whole
        size = max(1, size // 2)


# -- many -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Played:
    """What one task of a process did."""

    frames: int
    failing: str | None
    resident_bytes: int
    process: int


def conversation_of(seed: str) -> tuple[OCPPVersion, list[Step]]:
    """Return the conversation of a seed."""
    version = list(OCPPVersion)[int(seed.rpartition("/")[2]) % len(OCPPVersion)]
    return version, FrameGrammar(seed, version).conversation(FRAMES_PER_CONVERSATION)


def play_many(seed: str, first: int, conversations: int) -> Played:
    """Play conversations; a failing one is written out, as small as it gets."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    for number in range(first, first + conversations):
        version, steps = conversation_of(f"{seed}/{number}")
        if (what := outcome(version, steps)) is not None:
            return Played(0, _written_out(f"{seed}/{number}", version, steps, what), resident_bytes(), os.getpid())
    return Played(conversations * FRAMES_PER_CONVERSATION, None, resident_bytes(), os.getpid())


def _written_out(seed: str, version: OCPPVersion, steps: list[Step], what: str) -> str:
    least = smaller(version, steps)
    FAILING_FOLDER.mkdir(parents=True, exist_ok=True)
    path = FAILING_FOLDER / f"failing-{seed.replace('/', '-')}.txt"
    lines = [f"seed {seed}, OCPP {version}", what, outcome(version, least) or "", *map(repr, least)]
    path.write_text("\n".join(lines) + "\n")
    return f"{path}: {what[:300]}"


def resident_bytes() -> int:
    """Return how much memory this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    """Fuzz; return 1 as soon as something is found."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--frames", type=int, default=10_000_000)
    arguments.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    arguments.add_argument("--seed", default=str(time.time_ns() // 10**9))
    asked = arguments.parse_args()
    per_task = FRAMES_PER_CONVERSATION * CONVERSATIONS_PER_TASK
    tasks = -(-asked.frames // per_task)
    tell(f"seed {asked.seed}: {tasks * per_task:,} frames in {asked.processes} processes")
    began_s, frames = time.monotonic(), 0
    warm: dict[int, int] = {}
    with ProcessPoolExecutor(asked.processes) as pool:
        futures = [
            pool.submit(play_many, asked.seed, number * CONVERSATIONS_PER_TASK, CONVERSATIONS_PER_TASK)
            for number in range(tasks)
        ]
        for number, future in enumerate(as_completed(futures), 1):
            played = future.result()
            frames += played.frames
            growth = played.resident_bytes - warm.setdefault(played.process, played.resident_bytes)
            failing = played.failing
            if failing is None and growth > GROWTH_BYTES_MAX:
                failing = f"a process grew by {growth:,} bytes"
            if failing is not None:
                tell(f"FOUND {failing}")
                pool.shutdown(cancel_futures=True)
                return 1
            if number % 10 == 0 or number == tasks:
                took_s = time.monotonic() - began_s
                tell(f"{frames:>12,} frames, {frames / took_s:,.0f}/s, {played.resident_bytes / 2**20:,.0f} MiB")
    tell(f"{frames:,} frames: nothing escaped, no connection was lost, no process grew by {GROWTH_BYTES_MAX:,} bytes")
    return 0


def tell(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
