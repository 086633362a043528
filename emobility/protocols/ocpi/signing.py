"""Sign what our parties send and answer, and judge what is sent and answered to them: message signatures with keys.

One object stands behind the client, the host and the hub. What is refused is answered HTTP 200 with S 2901 and the
reason; a sender of ours takes that, like an answer that is not authentic, for a failure on the way and tries again.

Who must sign: a party whose keys are ours always, another where a rule says so. A signature that is there is judged
in any case; only that of a party of which no key is known here counts as none, because nothing could be said of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import partial
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from emobility.domain.identifiers import PartyId, Role
from emobility.ports.http import HttpResponse
from emobility.ports.party_keys import ANY_NAME, PartyKeys
from emobility.ports.ports import Ports
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi.client import AnswerNotAuthentic, Envelope
from emobility.protocols.ocpi.headers import MalformedRouting, routing_of
from emobility.protocols.ocpi.message_signatures import (
    NONCE_BYTES,
    SIGNATURE,
    TARGET,
    KeyName,
    Message,
    NotAuthentic,
    Presented,
    PresentedAnswer,
    PresentedRequest,
    Unsigned,
    carried,
    carried_as_it_is,
    is_signed,
    is_word_of,
    plain_target,
    presented_answer,
    presented_request,
    target_of,
    unsigned_answer,
    unsigned_request,
)
from emobility.protocols.ocpi.party_keys import (
    PARTY_KEY,
    PartyKeyRow,
    ensure_own_key,
    newest_valid,
    own_keys,
    party_keys,
    stored_keys,
)
from emobility.protocols.ocpi.peers import Peer, PeerRole
from emobility.protocols.ocpi.status import OCPIError, StatusCode
from emobility.protocols.ocpi.v221 import InterfaceRole, NotAnOCPIObject, NotJSON, read

MESSAGE_AGE_MAX: Final = timedelta(seconds=60)
"""How long a signed message may be on its way; a retry is signed anew."""
PASSED_ON_AGE_MAX: Final = timedelta(hours=1)
"""How old what a hub broadcasts may be; a receiver that is away longer pulls (4.5). The hub's own word is fresh."""
CLOCK_SKEW_MAX: Final = timedelta(seconds=60)
"""How far the clocks of two parties may differ."""
SEEN_FOR: Final = MESSAGE_AGE_MAX + 2 * CLOCK_SKEW_MAX
"""How long a signature is remembered: until it would be too old, if its maker's clock was ahead."""
PURGE_EVERY_S: Final = 10.0
"""By the transport's clock: business time may be stepped by hours with each message."""
PURGE_ROWS: Final = 5_000


class SignatureRefused(OCPIError):
    """A request is not signed though it must be, or its signature does not hold. HTTP 200 with S 2901."""

    def __init__(self, reason: str) -> None:
        super().__init__(StatusCode.SIGNATURE_REFUSED, f"signature: {reason}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureRule:
    """Whether a party must sign what it sends and answers to `own_party`. Without a rule see the module's docstring."""

    own_party: PartyId
    party_id: PartyId
    is_required: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenSignature:
    """A request that was taken, so that it is not taken again. `signer`: party and key."""

    own_party: PartyId
    signer: str
    nonce: str
    expires_at: datetime


SIGNATURE_RULE: Final = TableSpec(
    name="ocpi_signature_rule", record=SignatureRule, key=("own_party", "party_id"), is_reference=True
)
_OF_RULES: Final = (SIGNATURE_RULE, PARTY_KEY)
SEEN_SIGNATURE: Final = TableSpec(
    name="ocpi_seen_signature", record=SeenSignature, key=("own_party", "signer", "nonce")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCall:
    """A signed request to `own_party`. `is_proven`: False where no key of the sender is known here."""

    own_party: PartyId
    message: Message
    presented: PresentedRequest
    is_proven: bool


class MessageSigning:
    """See the module's docstring."""

    def __init__(self, ports: Ports, keys: PartyKeys | None = None) -> None:
        self._ports = ports
        self._keys = keys or party_keys(ports)
        self._seen = _Seen(ports)

    async def is_required(self, own_party: PartyId, party_id: PartyId) -> bool:
        """Tell whether a party must sign what it sends and answers to `own_party`."""
        question = ("must sign", own_party, party_id)
        return await self._ports.units.concluded(question, _OF_RULES, partial(self._must_sign, own_party, party_id))

    async def _must_sign(self, own_party: PartyId, party_id: PartyId, unit: UnitOfWork) -> bool:
        rule = await unit.table(SIGNATURE_RULE).get(own_party, party_id)
        if rule is not None:
            return rule.is_required
        # Whose key is ours stands in our rows: while a registry is away, who signs nothing goes on.
        return any(key.is_ours for key in await stored_keys(unit, party_id, for_party=own_party))

    # Requests

    async def signed_request(
        self, own_party: PartyId, *, method: str, headers: Mapping[str, str], body: bytes, target: str
    ) -> dict[str, str]:
        """Return the headers by which a party of ours signs a request; none when it has no key."""
        key = await self._own(own_party)
        if key is None:
            return {}
        message = Message(method=method, headers=headers, body=body)
        name = KeyName(party_id=own_party, key_id=key.key_id)
        return await self._made(
            key, unsigned_request(message, target=target, key=name, created=self._now_s(), nonce=self._nonce())
        )

    async def incoming(
        self,
        request: Request,
        body: bytes,
        *,
        own_party: PartyId,
        caller: PartyId,
        roles: Sequence[PeerRole],
        targets: Collection[str],
    ) -> SignedCall | None:
        """Judge a request to `own_party`; None: it is not signed and need not be.

        Args:
            request: As it came.
            body: Its exact bytes.
            own_party: Who is called.
            caller: In whose name, by OCPI-from.
            roles: Of the platform that calls; one that is a hub may have rewritten the message.
            targets: The names of what is called (`targets_of`).

        Raises:
            SignatureRefused: whatever does not hold.
        """
        message = Message(method=request.method, headers=joined(request.headers.items()), body=body)
        if not is_signed(message):
            if await self.is_required(own_party, caller):
                raise SignatureRefused(f"{caller} signs its messages, and this one is not signed")
            return None
        try:
            presented = presented_request(message)
            sender = self._sender(presented, caller, roles)
            _require_target(presented, targets)
            fresh = _fresh_of(presented, sender=sender, caller=caller)
            is_proven = await self._is_proven(
                presented.by_party, presented.by_hub, for_party=own_party, is_passed_on=fresh is presented.by_hub
            )
        except (NotAuthentic, MalformedRouting) as error:
            raise SignatureRefused(str(error)) from error
        if is_proven:
            await self._seen.enter(own_party, fresh)
        elif await self.is_required(own_party, sender):
            raise SignatureRefused(f"no key of {sender} or of the hub is known here")
        signed = SignedCall(own_party=own_party, message=message, presented=presented, is_proven=is_proven)
        request.state.signed = signed  # whatever becomes of the request, its answer is bound to it
        return signed

    @staticmethod
    def _sender(presented: PresentedRequest, caller: PartyId, roles: Sequence[PeerRole]) -> PartyId:
        """Return who says it, as the party said it. Raises `NotAuthentic`, `MalformedRouting`."""
        sender = routing_of(presented.said).from_party or caller
        if presented.by_party.key.party_id != sender:
            raise NotAuthentic(f"the key is not one of {sender}")
        if presented.by_hub is None:
            return sender
        hub = presented.by_hub.key.party_id
        if hub not in hubs_of(roles):
            raise NotAuthentic(f"{hub} is no hub of the platform that calls")
        if caller not in {sender, hub}:
            raise NotAuthentic("a hub puts nobody but itself in a sender's place")
        said = presented.said[TARGET]
        if not said.startswith("/") and said.partition("/")[2] != presented.target.partition("/")[2]:
            raise NotAuthentic("a hub changes the version of a target and nothing else")
        return sender

    # Answers

    async def sign_answer(self, request: Request, answer: Response) -> None:
        """Have whoever was called sign the answer to a request that `incoming` found signed.

        An answer that is signed already, because a hub carries it, stays as it is.
        """
        signed: SignedCall | None = getattr(request.state, "signed", None)
        if signed is None or not signed.is_proven or SIGNATURE in answer.headers:
            return
        key = await self._own(signed.own_party)
        if key is None:
            return
        message = Message(status=answer.status_code, headers=joined(answer.headers.items()), body=bytes(answer.body))
        name = KeyName(party_id=signed.own_party, key_id=key.key_id)
        unsigned = unsigned_answer(message, request=signed.message, key=name, created=self._now_s())
        answer.headers.update(await self._made(key, unsigned))

    async def judge_answer(
        self,
        own_party: PartyId,
        answer: HttpResponse,
        *,
        request: Message,
        asked: Collection[PartyId],
        hubs: Collection[PartyId] = (),
    ) -> PresentedAnswer | None:
        """Judge an answer to a signed `request`; None: it is not signed and need not be, or nothing is known of it.

        An unsigned answer may tell of a failure, which is tried again, but neither of success nor of a refusal. A hub
        may refuse in a receiver's place, but never accept.

        Raises:
            NotAuthentic: its signature does not hold, is nobody's who was asked, or is missing.
        """
        outcome = _outcome(answer)
        may_answer = {*asked} if outcome is _Outcome.SUCCESS else {*asked, *hubs}
        message = Message(status=answer.status, headers=answer.headers, body=answer.body)
        if is_signed(message):
            presented = presented_answer(message, request=request)
            if presented.by_party.key.party_id not in may_answer:
                raise NotAuthentic(f"{presented.by_party.key.party_id} answers, who was not asked")
            if await self._is_proven(presented.by_party, presented.by_hub, for_party=own_party):
                return presented
        if outcome is not _Outcome.FAILURE:
            for party in sorted(asked):
                if await self.is_required(own_party, party):
                    raise NotAuthentic(f"{party} signs its answers, and this one is not signed")
        return None

    # The hub

    async def forwarded_request(
        self,
        hub: PartyId,
        signed: SignedCall | None,
        *,
        method: str,
        headers: Mapping[str, str],
        body: bytes,
        target: str,
    ) -> dict[str, str]:
        """Return what a message gets on its way: the sender's signature, and the hub's where it was rewritten.

        A message without a signature gets the hub's own where it is sent in the hub's name.
        """
        if signed is None:
            if routing_of(headers).from_party != hub:
                return {}
            return await self.signed_request(hub, method=method, headers=headers, body=body, target=target)
        after = Message(method=method, headers=headers, body=body)
        return await self._carried(hub, signed.message, after, target)

    async def forwarded_answer(
        self, hub: PartyId, answer: HttpResponse, *, headers: Mapping[str, str]
    ) -> dict[str, str]:
        """Return what an answer gets on its way back; nothing if it is not signed.

        Args:
            hub: Who carries it.
            answer: With the headers that the receiver signed; the hub may have rewritten the body.
            headers: As the hub sends them on.
        """
        before = Message(status=answer.status, headers=answer.headers, body=answer.body)
        if not is_signed(before):
            return {}
        after = Message(status=answer.status, headers=headers, body=answer.body)
        return await self._carried(hub, before, after, None)

    async def _carried(self, hub: PartyId, before: Message, after: Message, target: str | None) -> dict[str, str]:
        key = await self._own(hub)
        if key is None:
            async with self._ports.units.begin() as unit:
                await ensure_own_key(unit, hub, self._ports.signer, now=self._ports.clock.now())
                await unit.commit()
            key = await self._own(hub)
        assert key is not None, f"{hub} has no key that is valid"
        name = KeyName(party_id=hub, key_id=key.key_id)
        try:
            unsigned = carried(before, after, target=target, key=name, created=self._now_s(), nonce=self._nonce())
        except NotAuthentic as error:
            raise SignatureRefused(str(error)) from error
        return carried_as_it_is(before) if unsigned is None else await self._made(key, unsigned)

    # Keys

    async def _own(self, party_id: PartyId) -> PartyKeyRow | None:
        question = ("own keys", party_id)
        rows = await self._ports.units.concluded(question, (PARTY_KEY,), partial(own_keys, party_id))
        return newest_valid(rows, now=self._ports.clock.now())

    async def _made(self, key: PartyKeyRow, unsigned: Unsigned) -> dict[str, str]:
        signature = await self._ports.signer.sign(key.party_id, unsigned.base, generation=key.generation or 0)
        return unsigned.signed(bytes.fromhex(signature))

    async def _is_proven(
        self, by_party: Presented, by_hub: Presented | None, *, for_party: PartyId, is_passed_on: bool = False
    ) -> bool:
        """Tell whether both are the words of their signers; False: of one no key is known.

        Args:
            by_party: The sender's.
            by_hub: The hub's, if it rewrote the message.
            for_party: Who judges.
            is_passed_on: The hub passes it on in its own name, so the sender's may be up to `PASSED_ON_AGE_MAX` old.

        Raises:
            NotAuthentic: one is not its signer's word, too old, or under a key that does not count (any more).
        """
        age_max = PASSED_ON_AGE_MAX if is_passed_on else MESSAGE_AGE_MAX
        is_known = await self._is_word(by_party, for_party=for_party, age_max=age_max)
        return (by_hub is None or await self._is_word(by_hub, for_party=for_party)) and is_known

    async def _is_word(self, presented: Presented, *, for_party: PartyId, age_max: timedelta = MESSAGE_AGE_MAX) -> bool:
        now = self._ports.clock.now()
        if not -CLOCK_SKEW_MAX <= now - _moment(presented) <= age_max + CLOCK_SKEW_MAX:
            raise NotAuthentic("it was signed too long ago, or by a clock that is ahead of ours")
        keys = await self._keys.keys_of(presented.key.party_id, for_party=for_party)
        if not keys:
            return False
        by_name = {each.key_id: each for each in keys}
        key = by_name.get(presented.key.key_id) or by_name.get(ANY_NAME)
        if key is None:
            raise NotAuthentic(f"{presented.key.party_id} has told no key {presented.key.key_id}")
        if not key.is_good(created=_moment(presented), now=now):
            raise NotAuthentic(f"key {presented.key} is not valid any more, or not yet")
        if not is_word_of(presented, algorithm=key.algorithm, public_key=key.public_key):
            raise NotAuthentic(f"it is not what the holder of {presented.key} signed")
        return True

    def _nonce(self) -> str:
        return self._ports.randomness.token_bytes(NONCE_BYTES).hex()

    def _now_s(self) -> int:
        return int(self._ports.clock.now().timestamp())


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSigning:
    """What `OCPIClient` signs by when it speaks to one peer, and judges the answers by. See `client.RequestSigning`."""

    signing: MessageSigning
    own_party: PartyId
    peer: Peer
    roles: Sequence[PeerRole]
    endpoints: Mapping[tuple[str, InterfaceRole], str]
    version: str

    async def sign(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        """Return the headers that sign a request; versions are between platforms and not signed."""
        if url == self.peer.versions_url:
            return {}
        target = target_of(url, self.endpoints, version=self.version)
        return await self.signing.signed_request(
            self.own_party, method=method, headers=headers, body=body, target=target
        )

    async def judge(
        self, method: str, headers: Mapping[str, str], body: bytes, answer: HttpResponse, *, to_party: PartyId | None
    ) -> None:
        """Refuse an answer that is not authentic. One that is unsigned may still tell of a failure, which is retried.

        Raises:
            AnswerNotAuthentic: its signature does not hold, or it has none and should.
        """
        if SIGNATURE not in headers:
            return
        asked = {to_party} if to_party else {role.party_id for role in self.roles} | _answering(answer)
        request = Message(method=method, headers=headers, body=body)
        try:
            await self.signing.judge_answer(
                self.own_party, answer, request=request, asked=asked, hubs=hubs_of(self.roles)
            )
        except NotAuthentic as error:
            raise AnswerNotAuthentic(http_status=answer.status, status_code=None, message=str(error)) from error


class _Outcome(Enum):
    """What an answer is to whoever sent the request."""

    SUCCESS = "success"
    REFUSAL = "refusal"
    FAILURE = "failure"
    """It is tried again."""


def _outcome(answer: HttpResponse) -> _Outcome:
    try:
        code = read(answer.body, Envelope).status_code
    except (NotJSON, NotAnOCPIObject):
        return _Outcome.REFUSAL if answer.status == 404 else _Outcome.FAILURE
    if answer.status < 300 and 1000 <= code < 2000:
        return _Outcome.SUCCESS
    is_retried = answer.status in {401, 403, 408, 425, 429} or answer.status >= 500 or code >= 3000
    return _Outcome.FAILURE if is_retried or code == StatusCode.SIGNATURE_REFUSED else _Outcome.REFUSAL


def _answering(answer: HttpResponse) -> set[PartyId]:
    """Return in whose name an answer comes to a request that named no receiver."""
    try:
        party = routing_of(answer.headers).from_party
    except MalformedRouting:
        return set()
    return set() if party is None else {party}


def _fresh_of(presented: PresentedRequest, *, sender: PartyId, caller: PartyId) -> Presented:
    """Return the signature whose nonce is used up: the sender's, whoever carries it, so that no hub can repeat it.

    What a hub broadcasts in its own name it may send again to one who did not answer, so there it is the hub's.

    Raises:
        NotAuthentic: a hub's has no nonce.
    """
    if presented.by_hub is None or caller == sender:
        return presented.by_party
    if presented.by_hub.nonce is None:
        raise NotAuthentic("the hub's signature has no nonce")
    return presented.by_hub


def _require_target(presented: PresentedRequest, targets: Collection[str]) -> None:
    if presented.target not in targets:
        raise NotAuthentic("it was signed for another target")


class _Seen:
    """Takes each request once: one unit for all that came while the last was under way."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._waiting: dict[tuple[PartyId, str, str], SeenSignature] = {}
        self._next: asyncio.Task[set[tuple[PartyId, str, str]]] | None = None
        self._one_at_a_time = asyncio.Lock()
        self._purged_at_s = float("-inf")

    async def enter(self, own_party: PartyId, presented: Presented) -> None:
        """Remember a request. Raises `SignatureRefused` for one that came before."""
        assert presented.nonce is not None
        key = own_party, str(presented.key), presented.nonce
        if key in self._waiting:
            raise SignatureRefused("this very message came before")
        self._waiting[key] = SeenSignature(
            own_party=own_party,
            signer=key[1],
            nonce=presented.nonce,
            expires_at=_moment(presented) + SEEN_FOR,
        )
        if self._next is None:
            self._next = asyncio.create_task(self._store())
        if key in await asyncio.shield(self._next):
            raise SignatureRefused("this very message came before")

    async def _store(self) -> set[tuple[PartyId, str, str]]:
        """Store what waits; return which of it was there."""
        async with self._one_at_a_time:
            entries, self._waiting, self._next = list(self._waiting.values()), {}, None
            await self._purge()
            # What a crash of the database forgets could be repeated for `SEEN_FOR` at most.
            repeated = await self._ports.units.insert_all(SEEN_SIGNATURE, entries, is_repeatable=True)
        return {(each.own_party, each.signer, each.nonce) for each in repeated}

    async def _purge(self) -> None:
        now_s = self._ports.timer.monotonic_s()
        if now_s - self._purged_at_s < PURGE_EVERY_S:
            return
        async with self._ports.units.begin() as unit:
            table = unit.table(SEEN_SIGNATURE)
            old = await table.select(before=("expires_at", self._ports.clock.now()), limit=PURGE_ROWS)
            for each in old:
                await table.remove(each.own_party, each.signer, each.nonce)
            if old:
                await unit.commit(is_repeatable=True)
        if len(old) < PURGE_ROWS:
            self._purged_at_s = now_s


def hubs_of(roles: Iterable[PeerRole]) -> set[PartyId]:
    """Return the parties as which a platform carries messages of others."""
    return {role.party_id for role in roles if role.role is Role.HUB}


def targets_of(request: Request, *, public_url: str) -> set[str]:
    """Return the names by which a request's target may be signed.

    Args:
        request: To an app whose endpoints lie at `/{version}/{module}/{interface}`.
        public_url: Where that app is reached from outside.
    """
    raw: str = request.scope.get("raw_path", request.scope["path"].encode()).decode("latin-1").partition("?")[0]
    inner = raw.removeprefix(request.scope.get("root_path", ""))
    query = request.scope["query_string"].decode("latin-1")
    outer = public_url.partition("://")[2].partition("/")[2].rstrip("/")
    below = f"{inner}?{query}"
    return {plain_target(below.lstrip("/")), plain_target(f"/{outer}{inner}?{query}")}


def joined(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return headers by lower-case name, those that came more than once joined as they are signed."""
    found: dict[str, str] = {}
    for name, value in headers:
        lower = name.lower()
        found[lower] = f"{found[lower]}, {value.strip()}" if lower in found else value.strip()
    return found


def _moment(presented: Presented) -> datetime:
    """Return when a signature says it was made. Raises `NotAuthentic` for what is no moment."""
    try:
        return datetime.fromtimestamp(presented.created, UTC)
    except (OverflowError, ValueError, OSError) as error:
        raise NotAuthentic("created is no moment") from error
