"""Send a message to its one receiver and take back the answer: bytes untouched, failures told apart.

The receiver sees a new X-Request-ID, the same X-Correlation-ID and its own token; the sender gets the answer as it is,
or S 4000 to 4003 in the hub's name. URLs of the receiver in the answer (`Link`, `Location`) become the hub's own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import urljoin

import structlog
from starlette.responses import Response

from emobility.domain.errors import EmobilityError
from emobility.domain.identifiers import PartyId
from emobility.ports.http import EgressRefused, HttpResponse, PeerTimedOut, PeerUnreachable, ResponseTooLarge
from emobility.ports.ports import Ports
from emobility.protocols.ocpi import headers as names
from emobility.protocols.ocpi.bridging import ANSWER_LOSSES_HEADER, LOSSES_HEADER
from emobility.protocols.ocpi.client import Envelope
from emobility.protocols.ocpi.headers import Routing, authorization, link_to, next_link, routing_headers
from emobility.protocols.ocpi.message_signatures import SIGNATURE, NotAuthentic, Presented, target_of
from emobility.protocols.ocpi.message_signatures import Message as SignedMessage
from emobility.protocols.ocpi.peers import Peer
from emobility.protocols.ocpi.signing import MessageSigning
from emobility.protocols.ocpi.status import InvalidParameters, OCPIError, StatusCode
from emobility.protocols.ocpi.v221 import ModuleID, NotAnOCPIObject, NotJSON, read
from roaming_hub.bulkhead import Bulkhead, CircuitOpen, Circuits, ReceiverBusy
from roaming_hub.forwards import Forwards, body_sha256
from roaming_hub.messages import Message
from roaming_hub.metrics import HubMetrics
from roaming_hub.presence import Presence
from roaming_hub.proxies import Proxies
from roaming_hub.recording import Recording, Row
from roaming_hub.records import HUB_MESSAGE, MessageRecord, ResourceKind
from roaming_hub.steps import Outcome, Step

RECEIVER_TIMEOUT_S: Final = 4.0
"""How long a receiver may take; below the five seconds that a sender of ours waits for the hub."""
_PASSED_ON: Final = (
    "x-total-count",
    "x-limit",
    "content-type",
    LOSSES_HEADER.lower(),
    ANSWER_LOSSES_HEADER.lower(),
)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarding:
    """Calls receivers; `steps` see each message on its way."""

    ports: Ports
    presence: Presence
    proxies: Proxies
    forwards: Forwards
    metrics: HubMetrics
    recording: Recording
    circuits: Circuits
    hub: PartyId
    signing: MessageSigning
    renewed: Callable[[Peer], Awaitable[Peer | None]]
    """Return a receiver as it is now, if its token is another than the one that was refused."""
    steps: Sequence[Step] = ()
    bulkhead: Bulkhead = field(default_factory=Bulkhead)
    timeout_s: float = RECEIVER_TIMEOUT_S

    async def exchange(self, message: Message) -> HttpResponse:
        """Send a message through all steps; return the answer for its sender. Raises `OCPIError` S 4000 to 4003."""
        is_cdr = message.module == ModuleID.CDRS and message.method == "POST"
        if is_cdr:
            await self.forwards.begin(message.sender_party, message.receiver_party, message)
        sent, answer, code = message, None, None
        try:
            for step in self.steps:
                sent = await step.outgoing(sent)
            answer, word = await self._call(sent)
            code = status_code_of(answer)
            returned = answer
            for step in reversed(self.steps):
                returned = await step.returning(sent, returned)
        except EmobilityError as error:
            failed = error.status_code if isinstance(error, OCPIError) else StatusCode.HUB_ERROR
            self.metrics.forwarded(message.module, message.receiver.peer_id, int(failed))
            await self._ended(sent, Outcome(status_code=int(failed), answer=answer))
            if is_cdr:
                await self.forwards.end(message.sender_party, message.receiver_party, message, status_code=None)
            raise
        await self._ended(sent, Outcome(status_code=code, answer=answer, word=word))
        if is_cdr:
            await self.forwards.end(message.sender_party, message.receiver_party, message, status_code=code)
        self.metrics.forwarded(message.module, message.receiver.peer_id, code)
        return returned

    async def answer(self, message: Message, answer: HttpResponse) -> Response:
        """Return what the sender gets. Raises `OCPIError` S 4000 where the next page lies elsewhere."""
        headers = {**message.ids.headers(), **message.answer_headers()}
        headers |= {name: answer.headers[name] for name in _PASSED_ON if name in answer.headers}
        following = next_link(answer.headers.get("link"))
        if following:
            page = await self._of_receiver(message, ResourceKind.PAGE, following)
            if page is None:
                # Without its next page the list would look complete.
                raise OCPIError(StatusCode.HUB_ERROR, "the receiver's next page lies elsewhere")
            headers[names.LINK] = link_to(page)
        if answer.headers.get("location"):
            created = await self._of_receiver(message, ResourceKind.OBJECT, answer.headers["location"])
            headers |= {"Location": created} if created else {}
        if message.incoming.signed is not None:
            headers |= await self.signing.forwarded_answer(self.hub, answer, headers=headers)
        return Response(answer.body, status_code=answer.status, headers=headers)

    async def _call(self, message: Message) -> tuple[HttpResponse, Presented | None]:
        """Call the receiver, once more if its token was renewed meanwhile; return its answer and its word on that.

        Raises `OCPIError` S 4000, 4002, 4003.
        """
        sent, answer = await self._called(message)
        if answer.status in {401, 403} and (renewed := await self.renewed(message.receiver)) is not None:
            # It did not look at the message, so this is the first time for it.
            sent, answer = await self._called(replace(message, receiver=renewed))
        if answer.status in {401, 403}:
            # Between hub and receiver the registration is broken; the sender's own token is fine.
            raise OCPIError(StatusCode.NOT_CONNECTED, f"{message.receiver_party} refuses the hub")
        await self.presence.heard(message.receiver)
        return answer, await self._judge(message, sent, answer)

    async def _called(self, message: Message) -> tuple[Mapping[str, str], HttpResponse]:
        """Call the receiver once; return the headers that were sent, and its answer."""
        token = message.receiver.outgoing_token
        assert token is not None, "a registered receiver has a token"
        sent = {
            **message.headers,
            names.AUTHORIZATION: authorization(
                await self.ports.vault.open(token), is_plain=message.receiver.takes_plain_token
            ),
            names.REQUEST_ID: message.message_id,
            names.CORRELATION_ID: message.ids.correlation_id,
            **routing_headers(Routing(to_party=message.receiver_party, from_party=message.from_party)),
        }
        if message.body:
            sent["Content-Type"] = message.incoming.headers.get("content-type", "application/json")
        if message.incoming.signed is not None or message.from_party == self.hub:
            endpoints, version = message.receiver.endpoint_urls(), message.receiver.version
            sent |= await self.signing.forwarded_request(
                self.hub,
                message.incoming.signed,
                method=message.method,
                headers=sent,
                body=message.body,
                target=target_of(message.url, endpoints, version=version),
            )
        return sent, await self._asked(message, sent)

    async def _asked(self, message: Message, headers: Mapping[str, str]) -> HttpResponse:
        party, peer_id = message.receiver_party, message.receiver.peer_id
        try:
            self.circuits.admit(peer_id)
            async with self.bulkhead.place(peer_id):
                answer = await self.ports.http.request(
                    message.method, message.url, headers=headers, body=message.body, timeout_s=self.timeout_s
                )
        except PeerTimedOut as error:
            if self.circuits.failed(peer_id):
                await self.presence.lost(message.receiver)
            raise OCPIError(StatusCode.HUB_TIMED_OUT, f"{party} did not answer in time") from error
        except PeerUnreachable as error:
            self.circuits.failed(peer_id)
            await self.presence.lost(message.receiver)
            raise OCPIError(StatusCode.NOT_CONNECTED, f"{party} can't be reached") from error
        except CircuitOpen as error:
            raise OCPIError(StatusCode.NOT_CONNECTED, f"{party} did not answer lately") from error
        except EgressRefused as error:
            self.circuits.given_up(peer_id)
            raise OCPIError(StatusCode.NOT_CONNECTED, f"{party} can't be called") from error
        except ResponseTooLarge as error:
            self.circuits.answered(peer_id)
            raise OCPIError(StatusCode.HUB_ERROR, f"{party} answered too much") from error
        except ReceiverBusy as error:
            self.circuits.given_up(peer_id)
            raise OCPIError(StatusCode.HUB_ERROR, f"{party} is busy") from error
        self.circuits.answered(peer_id)
        return answer

    async def _judge(self, message: Message, sent: Mapping[str, str], answer: HttpResponse) -> Presented | None:
        """Return the receiver's signature of its answer to a signed request, if there is one that we can judge.

        Raises `OCPIError` S 4000 for an answer that is not the receiver's to this request.
        """
        if SIGNATURE not in sent:
            return None
        request = SignedMessage(method=message.method, headers=sent, body=message.body)
        try:
            proven = await self.signing.judge_answer(self.hub, answer, request=request, asked={message.receiver_party})
        except NotAuthentic as error:
            raise OCPIError(StatusCode.HUB_ERROR, f"the answer is not authentic: {error}") from error
        return None if proven is None else proven.by_party

    async def _ended(self, message: Message, outcome: Outcome) -> None:
        """Make the message's rows durable. Raises `Unavailable`."""
        rows: list[Row] = [
            (
                HUB_MESSAGE,
                MessageRecord(
                    message_id=message.message_id,
                    correlation_id=message.ids.correlation_id,
                    from_party=message.sender_party,
                    to_party=message.receiver_party,
                    module=message.module,
                    method=message.method,
                    body_sha256=body_sha256(message.body) if message.body else "",
                    status_code=outcome.status_code,
                    at=self.ports.clock.now(),
                ),
            )
        ]
        for step in self.steps:
            rows += await step.ended(message, outcome)
        await self.recording.put(rows)

    async def _of_receiver(self, message: Message, kind: ResourceKind, url: str) -> str | None:
        """Return a URL of the hub for one the receiver named, None when that is not the receiver's own."""
        try:
            return await self.proxies.stand_in(
                kind,
                urljoin(message.url, url),
                owner=message.receiver,
                owner_party=message.receiver_party,
                user=message.incoming.sender,
                user_party=message.sender_party,
                module=message.module,
                version=message.incoming.version,
            )
        except (InvalidParameters, ValueError):
            _log.warning("url_elsewhere", peer=message.receiver.peer_id, kind=kind)
            return None


def status_code_of(answer: HttpResponse) -> int:
    """Return the receiver's status code. Raises `OCPIError` S 4000 for what is no OCPI answer."""
    try:
        return read(answer.body, Envelope).status_code
    except (NotJSON, NotAnOCPIObject) as error:
        if answer.status == 404:  # some answer so without an envelope; what they mean is plain
            raise OCPIError(StatusCode.CLIENT_ERROR, "the receiver has no such object", http_status=404) from error
        raise OCPIError(StatusCode.HUB_ERROR, f"the receiver answered HTTP {answer.status} without OCPI") from error
