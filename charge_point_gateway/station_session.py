"""One station's connection while it lasts: reads frames, runs messages, writes answers.

One task reads; frames are written at once where the socket allows, else by a task that waits for it. A message that
needs nothing of the world but the event log is handled by the reader itself, and answered by the group commit; only
what has to be sealed, numbered or authorised gets a task of its own, so no answer of the station ever waits behind it.
"""

from __future__ import annotations

import asyncio
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import quote

import structlog
from msgspec.structs import replace

from charge_point_gateway import ocpp16, ocpp21, ocpp201
from charge_point_gateway.admission import BootAdmission
from charge_point_gateway.certificates import CertificateRequestRefused
from charge_point_gateway.connection import (
    Budget,
    CallQueueFull,
    CallSettled,
    Connection,
    FrameRejected,
    FrameToSend,
    IncomingCall,
    IncomingSend,
    Limits,
    OutgoingCall,
    Output,
)
from charge_point_gateway.group_commit import GroupCommit
from charge_point_gateway.message import Context, Fact, Message, PersonalText, Question
from charge_point_gateway.message_log import MessageLog
from charge_point_gateway.metrics import GatewayMetrics
from charge_point_gateway.portions import in_portions
from charge_point_gateway.presence import PresenceBook
from charge_point_gateway.quirk_repairs import noted
from charge_point_gateway.quirks import QuirkBook
from charge_point_gateway.rpc_errors import CallRefused, OCPPVersion, RPCError, wire_code
from charge_point_gateway.schemas import Schemas, schemas_of
from charge_point_gateway.security import StationIdentity
from charge_point_gateway.signing_service import SigningFailed
from charge_point_gateway.station_certificates import NoAuthority, StationCertificates
from charge_point_gateway.texts import refuse_control_characters, without_nul
from charge_point_gateway.tolerating import Tolerating
from charge_point_gateway.transaction_numbers import TransactionNumbers
from charge_point_gateway.vehicle_certificates import VehicleCertificates
from emobility.domain.errors import Unavailable
from emobility.domain.personal import Sealed, SubjectErased
from emobility.events.event import Envelope
from emobility.ports.authorizer import AuthorizationAnswer, AuthorizationRequest, AuthorizationStatus, Authorizer
from emobility.ports.clock import Clock, Randomness, Timer
from emobility.ports.frames import FrameSocket, SocketClosed
from emobility.ports.station_questions import (
    ChargingQuestion,
    StationAnswer,
    StationQuestion,
    StationQuestions,
    VATNumberQuestion,
)
from emobility.ports.vault import Vault
from emobility.protocols.station_control.quirks import StationMake

OUTBOX_FRAMES_MAX: Final = 64
"""When so many frames wait to be written, the station's socket is not read: a slow reader slows only itself."""
CALL_BACK_TIMEOUT_S: Final = 30.0
AUTHORIZE_TIMEOUT_S: Final = 20.0
"""Longest wait for the back office; stations give a CALL about 30 s."""
MESSAGES: Final[Mapping[OCPPVersion, Mapping[str, Message]]] = {
    OCPPVersion.V16: ocpp16.MESSAGES,
    OCPPVersion.V201: ocpp201.MESSAGES,
    OCPPVersion.V21: ocpp21.MESSAGES,
}
SENT_MESSAGES: Final[Mapping[OCPPVersion, Mapping[str, Message]]] = {
    OCPPVersion.V16: {},
    OCPPVersion.V201: {},
    OCPPVersion.V21: ocpp21.SENT_MESSAGES,
}
"""What a station tells by SEND and nobody answers."""
NUMBERS_REMEMBERED_MAX: Final = 64
"""Transaction numbers that a session remembers; a station has a few EVSEs."""
SENDS_AT_ONCE_MAX: Final = 8
"""SENDs of one station on their way into the log before its socket rests: nothing else holds it back."""
GOING_AWAY: Final = 1001
ABNORMAL_CLOSURE: Final = 1006
REST_LOOK_S: Final = 1.0
"""How often a session that rests looks whether its station is still there."""
LEAVE_LOOK_S: Final = 0.02
BOOT: Final = "BootNotification"
TIMED_OUT: Final = "TimedOut"
"""In the message log, a CALL of ours that the station did not answer in time."""
_LOG: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionServices:
    """What all sessions of a gateway share."""

    clock: Clock
    timer: Timer
    randomness: Randomness
    vault: Vault
    authorizer: Authorizer
    questions: StationQuestions
    group_commit: GroupCommit
    numbers: TransactionNumbers
    certificates: StationCertificates
    vehicle_certificates: VehicleCertificates
    metrics: GatewayMetrics
    message_log: MessageLog
    quirks: QuirkBook
    presence: PresenceBook
    boots: BootAdmission
    limits: Limits
    heartbeat_interval_s: int
    answer_when_unavailable: AuthorizationStatus
    """What a driver is told when the back office does not answer (see `gateway.UnavailablePolicy`)."""


class StationSession:
    """A station that has authenticated, on one socket."""

    def __init__(
        self,
        identity: StationIdentity,
        version: OCPPVersion,
        socket: FrameSocket,
        services: SessionServices,
        budget: Budget | None = None,
    ) -> None:
        """`budget`: what the station has left to send; None: a full one."""
        self.identity = identity
        self.version = version
        self._version_text, self._station_key = version.value, identity.key  # read for every message
        self.fence = 0
        """The presence row's fence while this session owns the station."""
        self.certificate_serial_number: str | None = None
        """Of the certificate that opened the connection, in hex; None: a password did."""
        self._socket = socket
        # A real socket can often write at once; only where it can't does the writer task wait for it.
        self._send_now: Callable[[str], bool] | None = getattr(socket, "send_now", None)
        self._services = services
        self._schemas: Schemas = schemas_of(version)
        self._numbers_given: frozenset[int] = frozenset()
        """Transaction numbers of OCPP 1.6 that are known to be this station's, so none is looked up twice."""
        self._messages = MESSAGES[version]
        self.tolerating = Tolerating(
            identity, self._schemas, book=services.quirks, metrics=services.metrics, clock=services.clock
        )
        self._connection = Connection(
            version,
            now_s=services.timer.monotonic_s(),
            new_id=services.randomness.uuid,
            limits=services.limits,
            budget=budget,
        )
        self._began_s = 0.0  # of the CALL in progress; there is one at a time
        self._outbox: list[str] = []
        self._writer: asyncio.Task[None] | None = None
        self._waiting: dict[str, asyncio.Future[CallSettled]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._call_backs: set[asyncio.Task[None]] = set()
        self._left: asyncio.Event | None = None
        """There as soon as the session is to end, set when its socket is closed."""

    # -- for the gateway ----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until the socket closes."""
        # As with `send_now`: a real socket can hand over a frame without waking this task.
        receive_while = getattr(self._socket, "receive_while", None)
        try:
            while True:
                if receive_while is not None:
                    await receive_while(self._take)
                else:
                    self._take(await self._socket.receive())
                await self._rest()
        except SocketClosed:
            pass
        finally:
            if self._writer is not None:
                self._writer.cancel()
            self._act(self._connection.abandon())

    def _take(self, frame: str | bytes) -> bool:
        """Act on a frame; tell whether the next may come at once."""
        now_s = self._services.timer.monotonic_s()
        self._act(self._connection.receive(frame, now_s))
        has_room = len(self._outbox) < OUTBOX_FRAMES_MAX and len(self._tasks) <= SENDS_AT_ONCE_MAX
        return has_room and self._left is None and self._connection.has_credit

    async def _rest(self) -> None:
        """Wait until the station may send again, and reads what is written to it."""
        if self._left is not None and not self._connection.is_calling:
            await self._left.wait()
            raise SocketClosed(code=GOING_AWAY, reason="")
        timer = self._services.timer
        delay_s = self._connection.read_delay_s(timer.monotonic_s())
        while delay_s > 0:
            # What a flood left behind would keep its dead connection for minutes. Nobody waits for the answers.
            if getattr(self._socket, "has_ended", False):
                raise SocketClosed(code=ABNORMAL_CLOSURE, reason="")
            await timer.sleep(min(delay_s, REST_LOOK_S))
            delay_s -= REST_LOOK_S
        if len(self._outbox) >= OUTBOX_FRAMES_MAX and self._writer is not None:
            await asyncio.wait({self._writer})
        while len(self._tasks) > SENDS_AT_ONCE_MAX:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)

    async def call(self, action: str, payload: dict[str, Any], *, timeout_s: float) -> CallSettled:
        """Send a CALL and return what became of it.

        Raises:
            CallQueueFull: too many CALLs wait for this station.
            CallRefused: the payload is not what the schema of `action` asks for; nothing was sent.
        """
        self._schemas.check_request(action, payload)
        timer = self._services.timer
        began_s = timer.monotonic_s()
        call, outputs = self._connection.call(action, payload, now_s=began_s, timeout_s=timeout_s)
        future: asyncio.Future[CallSettled] = asyncio.get_running_loop().create_future()
        self._waiting[call.message_id] = future
        self._act(outputs)
        try:
            async with asyncio.timeout(timeout_s):
                settled = await future
        except TimeoutError:
            self._act(self._connection.expire(max(timer.monotonic_s(), call.deadline_s)))
            settled = CallSettled(call, has_timed_out=True)
        finally:
            self._waiting.pop(call.message_id, None)
            self._connection.give_up(call)
        settled = self._checked(call, settled)
        if self._services.message_log.watched:
            error_code = TIMED_OUT if settled.has_timed_out else settled.error_code
            latency_s = timer.monotonic_s() - began_s
            self._note(call, answer=settled.payload, error_code=error_code, latency_s=latency_s)
        return settled

    async def is_alive(self, *, timeout_s: float) -> bool:
        """Ping; tell whether the station answered in time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._socket.ping()
        except (TimeoutError, SocketClosed):
            return False
        return True

    async def close(self, code: int, reason: str) -> None:
        """Close the socket; `run` returns."""
        await self._socket.close(code, reason)

    async def leave(self) -> None:
        """Answer what is in progress, begin nothing new, and close: a busy station would never come to an end."""
        self._left = self._left or asyncio.Event()
        try:
            while not self.is_idle:
                await self._services.timer.sleep(LEAVE_LOOK_S)
            await self.close(GOING_AWAY, "the gateway goes away")
        finally:
            self._left.set()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is in progress and nothing waits to be written."""
        return self._connection.is_idle and not self._outbox and not self._tasks

    # -- outputs of the connection ------------------------------------------------------------------------------------

    def _act(self, outputs: tuple[Output, ...]) -> None:
        for output in outputs:
            match output:
                case FrameToSend():
                    if self._outbox or self._send_now is None or not self._send_now(output.frame):
                        self._outbox.append(output.frame)
                        if self._writer is None:
                            self._writer = asyncio.create_task(self._write())
                case IncomingCall():
                    self._handle(output)
                case IncomingSend():
                    self._start(self._keep(output))
                case CallSettled():
                    self._settle(output)
                case FrameRejected():
                    self._services.metrics.frames_rejected.labels(output.reason).inc()

    async def _write(self) -> None:
        """Write what could not be written at once; ends when nothing waits any more."""
        try:
            while self._outbox:
                await self._socket.send(self._outbox[0])
                del self._outbox[0]
        except SocketClosed:
            self._outbox.clear()
        finally:
            self._writer = None

    def _settle(self, settled: CallSettled) -> None:
        future = self._waiting.get(settled.call.message_id)
        if future is not None and not future.done():
            future.set_result(settled)

    def _checked(self, call: OutgoingCall, settled: CallSettled) -> CallSettled:
        metrics = self._services.metrics
        if settled.has_timed_out:
            metrics.call_timeouts.labels(call.action).inc()
            return settled
        result = "error" if settled.error_code is not None else "result"
        if settled.error_code is None:
            try:
                settled = replace(settled, payload=self.tolerating.response(call.action, settled.payload))
            except CallRefused as error:
                result = "malformed"
                self._act(self._connection.refuse_result(call, error.error, error.description))
                settled = replace(settled, payload=None, error_code=error.error.value, error_description=str(error))
        metrics.messages.labels(call.action, "out", result).inc()
        return settled

    # -- the station's CALLs ------------------------------------------------------------------------------------------

    def _handle(self, call: IncomingCall) -> None:
        self._began_s = self._services.timer.monotonic_s()
        try:
            make = self.tolerating.new_make(call)
            if make is not None:
                self._start(self._remember(make))
            call = self.tolerating.request(call)
            message = self._messages.get(call.action)
            if message is None:
                raise CallRefused(RPCError.UNSUPPORTED_ACTION, "a station does not send this here")  # noqa: TRY301 - one answer for every refusal
            refuse_control_characters(message.identifiers(call.payload))
            if call.has_nul:
                call = replace(call, payload=without_nul(call.payload))
            context = self._context(call)
            if call.action == BOOT:
                context = replace(context, boot=self._services.boots.decide(self.identity))
            personal = message.personal(call.payload, context)
            number = message.number_named(call.payload)
            is_unsure = number is not None and number not in self._numbers_given
            if personal or is_unsure or message.subject_text(call.payload) is not None:
                self._start(self._handle_with_care(call, message, personal, context))
                return
            if message.question(call.payload, context) is not None:
                self._start(self._handle_with_care(call, message, personal, context))
                return
            facts = message.facts(call.payload, context)
            response = self._response(call, message, context)
            if not facts:
                self._answer(call, response)
                return
            if not self._services.message_log.watched:
                # Nobody reads it any more: hundreds wait for one commit, and together they would leave no cache warm.
                call = IncomingCall(call.message_id, call.action, payload=None)
            self._services.group_commit.submit(
                self._envelopes(facts, context), partial(self._committed, call, response)
            )
        except Exception as error:  # noqa: BLE001 - no message of a station ends its connection
            self._refuse(call, error)

    def _committed(self, call: IncomingCall, response: dict[str, Any], failure: Exception | None) -> None:
        if failure is not None:
            self._refuse(call, failure)
            return
        try:
            self._answer(call, response)
        except Exception as error:  # noqa: BLE001 - as in `_handle`
            self._refuse(call, error)

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle_with_care(
        self, call: IncomingCall, message: Message, personal: tuple[PersonalText, ...], context: Context
    ) -> None:
        """Seal, number and authorise; the back office decides while the event becomes durable."""
        try:
            context = replace(context, sealed=await self._seal(personal))
            context = await self._numbered(call, message, context)
            context = await self._looked_up(call, message, context)
            context = await self._signed(call, message, context)
            inquiry = message.inquiry(call.payload)
            if inquiry is not None:
                finding = await self._services.vehicle_certificates.look_into(inquiry, self.version.value)
                context = replace(context, finding=finding)
            question = message.question(call.payload, context)
            asked = message.station_question(call.payload, context)
            facts = message.facts(call.payload, context)
            durable = self._services.group_commit.append(self._envelopes(facts, context)) if facts else None
            try:
                if question is not None:
                    context = replace(context, answer=await self._ask(question, context))
                if asked is not None:
                    context = replace(context, told=await self._told(asked))
            finally:
                if durable is not None:
                    await durable
            self._answer(call, self._response(call, message, context))
            expected = message.call_back(call.payload, context)
            if expected is not None:
                task = asyncio.create_task(self._call_back(*expected))
                self._call_backs.add(task)
                task.add_done_callback(self._call_backs.discard)
        except Exception as error:  # noqa: BLE001 - as in `_handle`
            self._refuse(call, error)

    async def _keep(self, sent: IncomingSend) -> None:
        """Store what a SEND says. It is not answered, so what is refused or fails is counted, and lost."""
        metrics, result = self._services.metrics, "stored"
        try:
            message = SENT_MESSAGES[self.version].get(sent.action)
            if message is None:
                raise CallRefused(RPCError.UNSUPPORTED_ACTION, "a station does not send this")  # noqa: TRY301 - as in `_handle`
            sent = self.tolerating.request(sent)
            payload = without_nul(sent.payload) if sent.has_nul else sent.payload
            context = self._context(sent)
            context = replace(context, sealed=await self._seal(message.personal(payload, context)))
            await self._services.group_commit.append(self._envelopes(message.facts(payload, context), context))
        except CallRefused:
            result = "refused"
        except Exception as error:  # noqa: BLE001 - as in `_handle`
            result = "lost"
            _LOG.warning("send_lost", station=self.identity.key, action=sent.action[:50], error=type(error).__name__)
        action = sent.action if sent.action in SENT_MESSAGES[self.version] else "other"
        metrics.messages.labels(action, "in", result).inc()
        if self._services.message_log.watched:
            self._note(sent, error_code=None if result == "stored" else result)

    async def _seal(self, personal: tuple[PersonalText, ...]) -> dict[PersonalText, Sealed]:
        sealed: dict[PersonalText, Sealed] = {}
        for each in personal:
            try:
                sealed[each] = await self._services.vault.seal(each.text, identifier=each.identifier)
            except SubjectErased:
                continue  # nothing new is written under a destroyed key; the charge itself is kept
        return sealed

    async def _numbered(self, call: IncomingCall, message: Message, context: Context) -> Context:
        text = message.subject_text(call.payload)
        if text is None:
            return context
        wanted = message.number_wanted(call.payload, self._services.vault.subject_of(text), context)
        if wanted is None:
            return context
        number = await self._services.numbers.number_for(context.party_id, context.charging_station_id, wanted)
        self.tolerating.transaction_began(wanted.ocpp_evse_id, number.number)
        return replace(context, number=number)

    async def _looked_up(self, call: IncomingCall, message: Message, context: Context) -> Context:
        """Tell whether the number that a message names was ever given to this station."""
        number = message.number_named(call.payload)
        if number is None or number in self._numbers_given:
            return context
        is_given = await self._services.numbers.is_given(context.party_id, context.charging_station_id, number)
        if is_given:
            known = self._numbers_given if len(self._numbers_given) < NUMBERS_REMEMBERED_MAX else frozenset()
            self._numbers_given = known | {number}
        return replace(context, is_number_given=is_given)

    async def _signed(self, call: IncomingCall, message: Message, context: Context) -> Context:
        csr = message.request_to_sign(call.payload)
        if csr is None:
            return context
        try:
            _, chain = await self._services.certificates.issue(self.identity, csr)
        except (NoAuthority, CertificateRequestRefused, SigningFailed) as error:
            _LOG.warning("certificate_request_refused", station=self.identity.key, reason=str(error))
            return context
        return replace(context, certificate_chain=chain)

    async def _remember(self, make: StationMake) -> None:
        """Keep what the station is for its next connection; where that fails, its next boot says it again."""
        try:
            await self._services.presence.describe(self.identity, self.fence, make)
        except Unavailable as error:
            _LOG.warning("make_not_remembered", station=self.identity.key, error=type(error).__name__)

    async def _call_back(self, action: str, payload: dict[str, Any]) -> None:
        """Call the station as its message made it expect. What is lost with the connection it asks for again."""
        try:
            settled = await self.call(action, payload, timeout_s=CALL_BACK_TIMEOUT_S)
        except (CallQueueFull, CallRefused) as error:
            _LOG.warning("call_back_not_sent", station=self.identity.key, action=action, reason=str(error))
            return
        status = "none" if settled.payload is None else str(settled.payload.get("status"))
        _LOG.info("called_back", station=self.identity.key, action=action, status=status)

    async def _ask(self, question: Question, context: Context) -> AuthorizationAnswer:
        request = AuthorizationRequest(
            party_id=context.party_id,
            charging_station_id=context.charging_station_id,
            id_token=question.id_token,
            kind=question.kind,
            correlation_id=_correlation_id(context.station_key, context.message_id),
            ocpp_evse_id=question.ocpp_evse_id,
            connector_id=question.connector_id,
            transaction_id=question.transaction_id,
            remote_start_id=question.remote_start_id,
            is_stop=question.is_stop,
            began_at=question.began_at,
            ocpp_version=context.ocpp_version,
        )
        try:
            async with asyncio.timeout(AUTHORIZE_TIMEOUT_S):
                return await self._services.authorizer.authorize(request)
        except (Unavailable, TimeoutError) as error:
            _LOG.warning("authorizer_unavailable", station=self.identity.key, error=type(error).__name__)
            return AuthorizationAnswer(
                status=self._services.answer_when_unavailable, reason="the back office did not answer"
            )

    async def _told(self, asked: StationQuestion) -> StationAnswer | None:
        try:
            if isinstance(asked, ChargingQuestion):
                return await self._services.questions.advise(asked)
            if isinstance(asked, VATNumberQuestion):
                return await self._services.questions.check_vat_number(asked)
            return await self._services.questions.receipt_of(asked)
        except Unavailable as error:
            kind = type(asked).__name__
            _LOG.warning("back_office_unavailable", station=self.identity.key, asked=kind, error=type(error).__name__)
            return None

    def _response(self, call: IncomingCall, message: Message, context: Context) -> dict[str, Any]:
        response = message.response(call.payload, context)
        self._schemas.check_response(call.action, response)
        return response

    def _answer(self, call: IncomingCall, response: dict[str, Any]) -> None:
        latency_s = self._services.timer.monotonic_s() - self._began_s
        self._services.metrics.answered(call.action, latency_s)
        if self._services.message_log.watched:
            self._note(call, answer=response, latency_s=latency_s)
        self._act(self._connection.answer(call, response))

    def _note(self, call: IncomingCall | IncomingSend | OutgoingCall, **outcome: Any) -> None:
        self._services.message_log.note(
            self.identity,
            is_from_station=not isinstance(call, OutgoingCall),
            ocpp_version=self.version.value,
            action=call.action,
            message_id=call.message_id,
            payload=call.payload if isinstance(call, OutgoingCall) or not call.tolerated else call.came,
            tolerated=() if isinstance(call, OutgoingCall) else call.tolerated,
            **outcome,
        )

    def _refuse(self, call: IncomingCall, error: Exception) -> None:
        code = error.error if isinstance(error, CallRefused) else RPCError.INTERNAL
        if self._services.message_log.watched:
            latency_s = self._services.timer.monotonic_s() - self._began_s
            self._note(call, error_code=wire_code(code, self.version), latency_s=latency_s)
        metrics = self._services.metrics
        action = call.action if call.action in self._messages else "other"
        if isinstance(error, CallRefused):
            metrics.messages.labels(action, "in", error.error.name.lower()).inc()
            self._act(self._connection.refuse(call, error.error, error.description))
            return
        # What failed is ours, so nothing is said of it but that trying again may help.
        metrics.messages.labels(action, "in", "unavailable" if isinstance(error, Unavailable) else "internal").inc()
        _LOG.error(
            "message_not_handled",
            station=self.identity.key,
            action=action,
            correlation_id=_correlation_id(self.identity.key, call.message_id),
            error=type(error).__name__,
            exc_info=None if isinstance(error, Unavailable) else error,
        )
        self._act(self._connection.refuse(call, RPCError.INTERNAL, "the message was not stored; send it again"))

    def _context(self, call: IncomingCall | IncomingSend) -> Context:
        leniency = self.tolerating.leniency
        beats = None if leniency is None else leniency.heartbeat_interval_s
        return Context(
            party_id=self.identity.party_id,
            charging_station_id=self.identity.charging_station_id,
            now=self._services.clock.now(),
            message_id=call.message_id,
            ocpp_version=self._version_text,
            station_key=self._station_key,
            heartbeat_interval_s=beats or self._services.heartbeat_interval_s,
            correction=call.correction,
        )

    def _envelopes(self, facts: tuple[Fact, ...], context: Context) -> list[Envelope]:
        correlation_id = _correlation_id(context.station_key, context.message_id)
        if context.correction is not None:
            facts = tuple(noted(fact, context.correction) for fact in facts)
        return [
            Envelope(event=fact.event, event_id=fact.event_id, correlation_id=correlation_id, recorded_at=context.now)
            for fact in in_portions(facts)
        ]


def _correlation_id(station_key: str, message_id: str) -> str:
    """Return what joins all that one CALL brings about: its message id is unique per station.

    It leaves as a header (OCPI 2.2.1, 4.1.5), so it is printable ASCII whatever characters a station's ids have.
    """
    if not (message_id.isascii() and message_id.replace("-", "").isalnum()):  # most are UUIDs
        message_id = quote(message_id, safe=string.punctuation, errors="replace")
    return f"{station_key}/{message_id}"
