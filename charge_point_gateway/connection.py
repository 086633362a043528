"""The OCPP-J connection without I/O: frames in, what to do out. No socket, no task, no clock: time is an argument.

OCPP-J 1.6 section 4 and OCPP 2.0.1 part 4 section 4. Each frame a station may send, however broken, has exactly one
of the outcomes below, and none of them ends the connection. Both directions have one CALL in progress at a time; what
comes meanwhile waits in a queue with a named limit.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import msgspec

from charge_point_gateway import strict_json
from charge_point_gateway.rpc_errors import CallRefused, OCPPVersion, RPCError, wire_code
from charge_point_gateway.texts import has_control_character
from charge_point_gateway.token_buckets import TokenBucket
from emobility.domain.errors import MalformedInput, Unavailable

UNREADABLE_ID: Final = "-1"
"""The message id of an answer to a CALL whose own id could not be read (OCPP 2.0.1 part 4, 4.2.3)."""
ERROR_DESCRIPTION_CHARACTERS_MAX: Final = 255
_ENCODER: Final = msgspec.json.Encoder(decimal_format="number")
_ID_OF_BROKEN_CALL: Final = re.compile(r'\s*\[\s*2\s*,\s*"([^"\\\x00-\x1f\ud800-\udfff]{1,36})"')


class MessageType(IntEnum):
    """The first element of a frame."""

    CALL = 2
    CALLRESULT = 3
    CALLERROR = 4
    CALLRESULTERROR = 5
    SEND = 6


_CALLRESULT: Final = MessageType.CALLRESULT.value  # asked for in each answer, `value` is a call of Python's


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one connection."""

    frame_bytes_max: int = 524_288
    """A 1.6 StopTransaction with a night of signed values is about 250 kB."""
    unique_id_characters_max: int = 36
    calls_in_queue_max: int = 8
    """CALLs of the station that wait for an earlier one; it should not send any (part 4, 4.1.1)."""
    calls_out_queue_max: int = 16
    duplicate_ids_max: int = 8
    """Answers kept for a station that repeats a CALL under its id."""
    frames_per_s: float = 100.0
    frames_burst: float = 200.0
    bytes_per_frame_credit: int = 16_384
    """A frame costs one credit for each started 16 KiB."""
    bytes_per_s: float = 32_768.0
    """In the long run: what one station says is kept for years. A busy site with 100 EVSEs says about 20 kB/s."""
    bytes_burst: float = 67_108_864.0
    """A week offline of such a station's transactions comes at once."""


class Budget:
    """What one station may send, in frames and in bytes. A gateway keeps it when the connection is lost: a station that
    has spent it gains nothing by connecting anew.
    """

    __slots__ = ("_bytes", "_frames", "_limits")

    def __init__(self, limits: Limits, *, now_s: float) -> None:
        self._limits = limits
        self._frames = TokenBucket(per_s=limits.frames_per_s, burst=limits.frames_burst, now_s=now_s)
        self._bytes = TokenBucket(per_s=limits.bytes_per_s, burst=limits.bytes_burst, now_s=now_s)

    def spend(self, length: int, now_s: float) -> None:
        """Pay for a frame of so many characters or bytes."""
        self._frames.spend(1 + length // self._limits.bytes_per_frame_credit, now_s)
        self._bytes.spend(length, now_s)

    @property
    def is_left(self) -> bool:
        """Whether anything was left after the last frame."""
        return self._frames.left > 0 and self._bytes.left >= 0

    def wait_s(self, now_s: float) -> float:
        """Return for how long nothing more should be read."""
        frames, left = self._frames.level(now_s), self._bytes.level(now_s)
        if frames > 0 and left >= 0:
            return 0.0
        of_frames = 0.0 if frames > 0 else (1.0 - frames) / self._limits.frames_per_s
        return max(of_frames, -left / self._limits.bytes_per_s)


class CallQueueFull(Unavailable):
    """Too many CALLs wait for this station already."""


class IncomingCall(msgspec.Struct, frozen=True):
    """The station calls: answer it by `Connection.answer` or `Connection.refuse`."""

    message_id: str
    action: str
    payload: Any
    has_nul: bool = False
    """A text of the payload may have the character NUL."""
    tolerated: tuple[str, ...] = ()
    """What was tolerated in it, each with its profile; then `came` is the payload as it came."""
    came: Any = None
    correction: str | None = None
    """What of that changes the meaning of its readings."""


class IncomingSend(msgspec.Struct, frozen=True):
    """The station tells something that is never answered (OCPP 2.1 part 4, SEND)."""

    message_id: str
    action: str
    payload: Any
    has_nul: bool = False
    tolerated: tuple[str, ...] = ()
    came: Any = None
    correction: str | None = None
    """These four as of an `IncomingCall`."""


class FrameToSend(msgspec.Struct, frozen=True, gc=False):
    """Hand this text to the socket."""

    frame: str


class CallSettled(msgspec.Struct, frozen=True):
    """A CALL of ours has an answer: `payload` of a CALLRESULT, or `error_code` of a CALLERROR, or neither: time-out."""

    call: OutgoingCall
    payload: Any = None
    error_code: str | None = None
    error_description: str = ""
    has_timed_out: bool = False


class FrameRejected(msgspec.Struct, frozen=True, gc=False):
    """A frame was not what it should be; `reason` is a bounded label. A `FrameToSend` may answer it."""

    reason: str


Output = IncomingCall | IncomingSend | FrameToSend | CallSettled | FrameRejected
"""Structs rather than dataclasses: a busy gateway makes tens of thousands a second."""


@dataclass(slots=True, eq=False)
class OutgoingCall:
    """A CALL of ours: waiting, then in progress until `deadline_s`."""

    message_id: str
    action: str
    payload: Any
    timeout_s: float
    deadline_s: float


class Connection:
    """One station's connection, whatever carries it."""

    __slots__ = (
        "_answers",
        "_budget",
        "_current",
        "_limits",
        "_new_id",
        "_outgoing",
        "_outgoing_queue",
        "_waiting",
        "version",
    )

    def __init__(
        self,
        version: OCPPVersion,
        *,
        now_s: float,
        new_id: Callable[[], str],
        limits: Limits | None = None,
        budget: Budget | None = None,
    ) -> None:
        """Begin at `now_s` (monotonic); `new_id` makes the ids of our CALLs; without a `budget` it has a full one."""
        self.version = version
        self._limits = limits or Limits()
        self._budget = budget or Budget(self._limits, now_s=now_s)
        self._new_id = new_id
        self._current: tuple[str, int] | None = None
        self._waiting: list[tuple[IncomingCall, int]] = []  # lists: an empty deque takes 0.6 kB per station
        self._answers: dict[str, tuple[int, str]] = {}
        """By message id, the digest of the CALL and the frame that answered it."""
        self._outgoing: OutgoingCall | None = None
        self._outgoing_queue: list[OutgoingCall] = []

    # -- the station's frames -----------------------------------------------------------------------------------------

    @property
    def has_credit(self) -> bool:
        """Whether the station kept to its rate when it sent its last frame."""
        return self._budget.is_left

    def read_delay_s(self, now_s: float) -> float:
        """Return for how long the socket should not be read: the station outran its rate and has to wait its turn."""
        return self._budget.wait_s(now_s)

    def receive(self, frame: str | bytes, now_s: float) -> tuple[Output, ...]:
        """Take one frame; never raises."""
        self._budget.spend(len(frame), now_s)
        if not isinstance(frame, str):
            return self._malformed("binary", UNREADABLE_ID, RPCError.NOT_A_CALL, "frames are text")
        if len(frame) > self._limits.frame_bytes_max or (
            len(frame) * 4 > self._limits.frame_bytes_max
            and len(frame.encode(errors="surrogatepass")) > self._limits.frame_bytes_max
        ):
            limit = self._limits.frame_bytes_max
            return self._malformed("too_large", _id_of_broken(frame), RPCError.NOT_A_CALL, f"over {limit} bytes")
        try:
            message, canonical = strict_json.decode(frame)
        except strict_json.NumberTooLarge as error:
            return self._malformed("number", _id_of_broken(frame), RPCError.PROPERTY, str(error))
        except (MalformedInput, UnicodeEncodeError) as error:
            reason = type(error).__name__
            return self._malformed(reason, _id_of_broken(frame), RPCError.FORMAT, "not a strict JSON text: " + reason)
        if type(message) is not list or not message:
            return self._malformed("not_an_array", UNREADABLE_ID, RPCError.NOT_A_CALL, "a frame is a JSON array")
        kind = message[0]
        if type(kind) is not int:
            return self._unknown_type(message)
        if kind == MessageType.CALL:
            return self._receive_call(message, canonical)
        if kind in (MessageType.CALLRESULT, MessageType.CALLERROR):
            return self._receive_answer(message, now_s)
        if self.version is OCPPVersion.V21 and kind in (MessageType.CALLRESULTERROR, MessageType.SEND):
            return self._receive_unanswered(message, canonical)
        return self._unknown_type(message)

    def answer(self, call: IncomingCall, payload: Any) -> tuple[Output, ...]:
        """Answer the CALL in progress with a CALLRESULT; the next one that waited follows."""
        frame = _ENCODER.encode((_CALLRESULT, call.message_id, payload)).decode()
        assert self._current is not None, call.message_id
        assert self._current[0] == call.message_id, (self._current[0], call.message_id)
        self._answers[call.message_id] = (self._current[1], frame)
        if len(self._answers) > self._limits.duplicate_ids_max:
            del self._answers[next(iter(self._answers))]
        return (FrameToSend(frame), *self._next_call())

    def refuse(self, call: IncomingCall, error: RPCError, description: str) -> tuple[Output, ...]:
        """Answer the CALL in progress with a CALLERROR; it is not remembered, so a repeated CALL is tried again."""
        assert self._current is not None, call.message_id
        assert self._current[0] == call.message_id, (self._current[0], call.message_id)
        return (self._error(call.message_id, error, description), *self._next_call())

    def refuse_result(self, call: OutgoingCall, error: RPCError, description: str) -> tuple[Output, ...]:
        """Tell the station that its CALLRESULT was none; only OCPP 2.1 can say so (part 4, CALLRESULTERROR)."""
        if self.version is not OCPPVersion.V21:
            return ()
        return (self._error(call.message_id, error, description, kind=MessageType.CALLRESULTERROR),)

    # -- our own CALLs ------------------------------------------------------------------------------------------------

    def call(
        self, action: str, payload: Any, *, now_s: float, timeout_s: float
    ) -> tuple[OutgoingCall, tuple[Output, ...]]:
        """Send a CALL, or queue it behind the one in progress; `timeout_s` counts from now in either case.

        Raises:
            CallQueueFull: `calls_out_queue_max` wait already.
        """
        if len(self._outgoing_queue) >= self._limits.calls_out_queue_max:
            raise CallQueueFull(f"{len(self._outgoing_queue)} calls wait for the station already")
        call = OutgoingCall(self._new_id(), action, payload, timeout_s, now_s + timeout_s)
        self._outgoing_queue.append(call)
        return call, self._send_next()

    def next_deadline_s(self) -> float | None:
        """Return when `expire` should be called next."""
        waiting = [call.deadline_s for call in self._outgoing_queue]
        if self._outgoing is not None:
            waiting.append(self._outgoing.deadline_s)
        return min(waiting, default=None)

    def expire(self, now_s: float) -> tuple[Output, ...]:
        """Give up the CALLs of ours whose time is over; a later answer to them is dropped."""
        late = [call for call in self._outgoing_queue if call.deadline_s <= now_s]
        for call in late:
            self._outgoing_queue.remove(call)
        if self._outgoing is not None and self._outgoing.deadline_s <= now_s:
            late.insert(0, self._outgoing)
            self._outgoing = None
        settled = tuple(CallSettled(call, has_timed_out=True) for call in late)
        return (*settled, *self._send_next())

    def give_up(self, call: OutgoingCall) -> None:
        """Forget a CALL of ours that nobody waits for any more; one that is sent keeps its turn until its deadline."""
        if call in self._outgoing_queue:
            self._outgoing_queue.remove(call)

    def abandon(self) -> tuple[Output, ...]:
        """The connection is gone: every CALL of ours is settled as timed out."""
        calls = [*([self._outgoing] if self._outgoing else []), *self._outgoing_queue]
        self._outgoing = None
        self._outgoing_queue.clear()
        return tuple(CallSettled(call, has_timed_out=True) for call in calls)

    @property
    def is_idle(self) -> bool:
        """Whether no CALL is in progress in either direction."""
        return self._current is None and not self.is_calling

    @property
    def is_calling(self) -> bool:
        """Whether a CALL of ours is in progress or waits."""
        return self._outgoing is not None or bool(self._outgoing_queue)

    # -- parts --------------------------------------------------------------------------------------------------------

    def _receive_call(self, message: list[Any], canonical: bytes) -> tuple[Output, ...]:
        message_id = message[1] if len(message) > 1 else None
        if type(message_id) is not str or not 0 < len(message_id) <= self._limits.unique_id_characters_max:
            limit = self._limits.unique_id_characters_max
            return self._malformed("message_id", UNREADABLE_ID, RPCError.NOT_A_CALL, f"message id: 1 to {limit} chars")
        if has_control_character(message_id):
            return self._malformed("message_id", UNREADABLE_ID, RPCError.NOT_A_CALL, "message id: a control character")
        if len(message) != 4:
            return self._malformed("call_length", message_id, RPCError.NOT_A_CALL, "a CALL has four elements")
        action, payload = message[2], message[3]
        if type(action) is not str:
            return self._malformed("action", message_id, RPCError.NOT_A_CALL, "the action is a string")
        if type(payload) is not dict:
            return self._malformed("payload", message_id, RPCError.FORMAT, "the payload is an object")
        digest = hash(canonical)  # keyed anew in each process (PEP 456), so that nobody can make two alike
        known = self._digest_of(message_id)
        if known is not None:
            return self._repeated(message_id, is_same=known == digest)
        call = IncomingCall(message_id, action, payload, has_nul=b"\\u0000" in canonical)
        if self._current is None:
            self._current = (message_id, digest)
            return (call,)
        if len(self._waiting) >= self._limits.calls_in_queue_max:
            return self._malformed("call_queue", message_id, RPCError.GENERIC, "an earlier CALL is not answered yet")
        self._waiting.append((call, digest))
        return ()

    def _digest_of(self, message_id: str) -> int | None:
        answered = self._answers.get(message_id)
        if answered is not None:
            return answered[0]
        if self._current is not None and self._current[0] == message_id:
            return self._current[1]
        for call, digest in self._waiting:
            if call.message_id == message_id:
                return digest
        return None

    def _repeated(self, message_id: str, *, is_same: bool) -> tuple[Output, ...]:
        if not is_same:
            return self._malformed("id_reused", message_id, RPCError.NOT_A_CALL, "the message id named another CALL")
        answered = self._answers.get(message_id)
        if answered is None:
            return (FrameRejected("repeated_in_progress"),)
        return (FrameRejected("repeated"), FrameToSend(answered[1]))

    def _next_call(self) -> tuple[Output, ...]:
        if not self._waiting:
            self._current = None
            return ()
        call, digest = self._waiting.pop(0)
        self._current = (call.message_id, digest)
        return (call,)

    def _receive_unanswered(self, message: list[Any], canonical: bytes) -> tuple[Output, ...]:
        # Neither is ever answered: a broken SEND is dropped and counted, as is a station's word that an answer of ours
        # was none.
        if message[0] == MessageType.CALLRESULTERROR:
            return (FrameRejected("result_refused"),)
        if len(message) != 4 or not all(type(part) is str for part in message[1:3]) or type(message[3]) is not dict:
            return (FrameRejected("send"),)
        message_id, action, payload = message[1:]
        is_id = 0 < len(message_id) <= self._limits.unique_id_characters_max and not has_control_character(message_id)
        if not is_id:
            return (FrameRejected("send"),)
        return (IncomingSend(message_id, action, payload, has_nul=b"\\u0000" in canonical),)

    def _receive_answer(self, message: list[Any], now_s: float) -> tuple[Output, ...]:
        # An answer is never answered: a broken or late one is dropped and counted, nothing is kept of it.
        call = self._outgoing
        is_result = message[0] == MessageType.CALLRESULT
        # Stations send CALLERRORs without details, or without a description; both are read.
        if (len(message) != 3) if is_result else not 3 <= len(message) <= 5:
            return (FrameRejected("answer_length"),)
        if call is None or message[1] != call.message_id:
            return (FrameRejected("answer_unknown"),)
        if call.deadline_s <= now_s:
            return (FrameRejected("answer_late"), *self.expire(now_s))
        self._outgoing = None
        if is_result:
            settled = CallSettled(call, payload=message[2])
        else:
            code, description = message[2], message[3] if len(message) > 3 else ""
            settled = CallSettled(
                call,
                error_code=code[:64] if type(code) is str and code else RPCError.GENERIC.value,
                error_description=description[:ERROR_DESCRIPTION_CHARACTERS_MAX] if type(description) is str else "",
            )
        return (settled, *self._send_next())

    def _unknown_type(self, message: list[Any]) -> tuple[Output, ...]:
        # Both versions: the payload of an unknown type is ignored. 2.0.1 (part 4, 4.3) has a code to say so.
        if self.version is OCPPVersion.V16:
            return (FrameRejected("message_type"),)
        message_id = message[1] if len(message) > 1 and type(message[1]) is str else UNREADABLE_ID
        if not 0 < len(message_id) <= self._limits.unique_id_characters_max:
            message_id = UNREADABLE_ID
        return self._malformed("message_type", message_id, RPCError.MESSAGE_TYPE_NOT_SUPPORTED, "unknown message type")

    def _send_next(self) -> tuple[Output, ...]:
        if self._outgoing is not None or not self._outgoing_queue:
            return ()
        self._outgoing = call = self._outgoing_queue.pop(0)
        frame = _ENCODER.encode((MessageType.CALL.value, call.message_id, call.action, call.payload))
        return (FrameToSend(frame.decode()),)

    def _malformed(self, reason: str, message_id: str, error: RPCError, description: str) -> tuple[Output, ...]:
        return (FrameRejected(reason), self._error(message_id, error, description))

    def _error(
        self, message_id: str, error: RPCError, description: str, *, kind: MessageType = MessageType.CALLERROR
    ) -> FrameToSend:
        text = description[:ERROR_DESCRIPTION_CHARACTERS_MAX]
        code = wire_code(error, self.version)
        return FrameToSend(_ENCODER.encode((kind.value, message_id, code, text, {})).decode())


def _id_of_broken(frame: str) -> str:
    """Return the id of a CALL that is no JSON, where it can still be read."""
    found = _ID_OF_BROKEN_CALL.match(frame[:256])
    return found.group(1) if found else UNREADABLE_ID


__all__ = [
    "UNREADABLE_ID",
    "Budget",
    "CallQueueFull",
    "CallRefused",
    "CallSettled",
    "Connection",
    "FrameRejected",
    "FrameToSend",
    "IncomingCall",
    "IncomingSend",
    "Limits",
    "MessageType",
    "OutgoingCall",
    "Output",
]
