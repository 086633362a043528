"""`wattroam-agreements`: agreements offered, accepted and ended between parties, as an OCPI custom module.

Receiver interface, at each party: PUT `/{agreement_id}/{version}` takes a word about a version (`Word`), GET shows how
far the talk is, POST `/notices` takes a notice. The signed bytes travel as they are, in Base64; nothing is in force
before both signatures are there. The other's key is pinned by the operator who accepts, and by the first agreement of
the pair; a word under another key is refused. What is sent is a delivery, so it arrives though the other was away.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, Protocol

import msgspec
import structlog

from emobility.domain.agreement import RoamingAgreement, signing_bytes
from emobility.domain.agreement_offer import (
    ARRIVAL_TOLERANCE,
    NotAnAgreement,
    Notice,
    Offer,
    OfferRefusal,
    OfferRefused,
    OfferState,
    accepted,
    agreement_of,
    as_ended,
    counterparty_of,
    earliest_end,
    notice_bytes,
    notice_of,
    offered,
    refuse_notice,
    refuse_terms,
    rejected,
)
from emobility.domain.errors import MalformedInput
from emobility.domain.identifiers import PartyId
from emobility.ports.ports import Ports
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi.deliveries import DELIVERY, Deliveries
from emobility.protocols.ocpi.server import Interface, OCPICall, Reply
from emobility.protocols.ocpi.status import NoSuchObject
from emobility.protocols.ocpi.v221 import InterfaceRole, ModuleID

DOCUMENT_CHARACTERS_MAX: Final = 20_000
OFFERS_MAX: Final = 200
"""Versions that one counterparty may have talked about with one of our parties."""
Document = Annotated[str, msgspec.Meta(max_length=DOCUMENT_CHARACTERS_MAX)]
Hex64 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
Hex128 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{128}$")]

_log = structlog.get_logger(__name__)


class WordKind(StrEnum):
    """What is said about a version."""

    OFFER = "OFFER"
    ACCEPT = "ACCEPT"
    REJECT = "REJECT"


class Word(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A word about a version: the terms as signed bytes (Base64), and who signed them.

    `signature` is by the speaker, with OFFER and ACCEPT; `offer_signature`, with ACCEPT, the one it answers.
    """

    kind: WordKind
    round: int
    terms: Document
    public_key: Hex64 | None = None
    signature: Hex128 | None = None
    offer_signature: Hex128 | None = None


class SignedNotice(msgspec.Struct, frozen=True, kw_only=True):
    """A notice as signed bytes (Base64)."""

    notice: Document
    public_key: Hex64
    signature: Hex128


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferRecord:
    """The talk about one version, as one of our parties has it. `counterparty_key`: what the other signs with."""

    party_id: PartyId
    counterparty: PartyId
    agreement_id: str
    version: int
    state: OfferState
    said_by: PartyId
    round: int
    agreement: RoamingAgreement
    counterparty_key: str | None
    updated_at: datetime

    @property
    def offer(self) -> Offer:
        """The offer as the rules take it."""
        return Offer(agreement=self.agreement, said_by=self.said_by, round=self.round, state=self.state)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeRecord:
    """A notice that one of our parties gave or was given, signed by who gave it."""

    party_id: PartyId
    counterparty: PartyId
    agreement_id: str
    given_by: PartyId
    cpo_id: PartyId
    emsp_id: PartyId
    given_at: datetime
    ends_at: datetime
    signature: str

    @property
    def notice(self) -> Notice:
        """The notice as the rules take it."""
        return Notice(
            agreement_id=self.agreement_id,
            cpo_id=self.cpo_id,
            emsp_id=self.emsp_id,
            given_by=self.given_by,
            given_at=self.given_at,
            ends_at=self.ends_at,
        )


OFFER: Final = TableSpec(
    name="agreement_offer", record=OfferRecord, key=("party_id", "counterparty", "agreement_id", "version")
)
NOTICE: Final = TableSpec(
    name="agreement_notice",
    record=NoticeRecord,
    key=("party_id", "counterparty", "agreement_id", "given_by"),
    is_reference=True,
)


class Register(Protocol):
    """What a back office keeps of agreements that are in force."""

    async def signed(self, unit: UnitOfWork, own: PartyId, counterparty: PartyId) -> Sequence[RoamingAgreement]:
        """Return the versions that both signed, as they were signed."""

    async def key_of(self, unit: UnitOfWork, own: PartyId, counterparty: PartyId) -> str | None:
        """Return the key that an earlier agreement of the pair pinned."""

    async def enter(
        self, unit: UnitOfWork, own: PartyId, agreement: RoamingAgreement, *, key: str, correlation_id: str
    ) -> None:
        """Put a version that both signed into force, the other's key pinned."""


async def ended(
    unit: UnitOfWork, own: PartyId, counterparty: PartyId, agreements: Sequence[RoamingAgreement]
) -> list[RoamingAgreement]:
    """Return versions as they are valid after the notices that were given."""
    if not agreements:
        return []
    found = await unit.table(NOTICE).select({"party_id": own, "counterparty": counterparty})
    ends = earliest_end(each.notice for each in found)
    return [as_ended(each, ends.get(each.agreement_id)) for each in agreements]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementExchange:
    """Speaks and listens about agreements for the parties that one service hosts."""

    ports: Ports
    deliveries: Deliveries
    register: Register

    # Our operators' words

    async def offer(self, own: PartyId, terms: RoamingAgreement) -> OfferRecord:
        """Offer terms, first, again or against the other's. Raises `OfferRefused`."""
        other, terms = counterparty_of(terms, own), replace(terms, cpo_signature=None, emsp_signature=None)
        async with self.ports.units.begin() as unit:
            known = await self._known(unit, own, other, terms.agreement_id, terms.version)
            refuse_terms(terms, signed=await self._signed(unit, own, other), now=self._now())
            said = offered(known.offer if known else None, await self._signed_by(own, terms), by=own)
            record = await self._keep(unit, own, other, said, key=known.counterparty_key if known else None)
            await self._say(unit, record, WordKind.OFFER)
            await unit.commit()
        return record

    async def accept(
        self, own: PartyId, other: PartyId, agreement_id: str, version: int, *, round_: int
    ) -> OfferRecord:
        """Accept the other's last word, whose `round_` the operator saw; it is in force from its `valid_from`.

        Raises:
            OfferRefused: there is nothing to accept, another round was said since, or its time has come.
        """
        async with self.ports.units.begin() as unit:
            known = await self._known(unit, own, other, agreement_id, version)
            said = accepted(known.offer if known else None, by=own)
            assert known is not None, "there is an offer to accept"
            if known.round != round_:
                raise OfferRefused(OfferRefusal.OVERTAKEN, f"the last word is round {known.round}")
            refuse_terms(known.agreement, signed=await self._signed(unit, own, other), now=self._now())
            agreed = replace(said, agreement=await self._signed_by(own, known.agreement))
            record = await self._keep(unit, own, other, agreed, key=known.counterparty_key)
            await self._enter(unit, record)
            await self._say(unit, record, WordKind.ACCEPT)
            await unit.commit()
        return record

    async def reject(self, own: PartyId, other: PartyId, agreement_id: str, version: int) -> OfferRecord:
        """Refuse the other's offer, or take our own back. Raises `OfferRefused`."""
        async with self.ports.units.begin() as unit:
            known = await self._known(unit, own, other, agreement_id, version)
            said = rejected(known.offer if known else None, by=own)
            assert known is not None, "there is an offer to reject"
            record = await self._keep(unit, own, other, said, key=known.counterparty_key)
            await self._say(unit, record, WordKind.REJECT)
            await unit.commit()
        return record

    async def give_notice(self, own: PartyId, other: PartyId, agreement_id: str, *, ends_at: datetime) -> NoticeRecord:
        """End an agreement for what begins from `ends_at` on. Raises `OfferRefused`."""
        now = self._now()
        async with self.ports.units.begin() as unit:
            signed = await self._signed(unit, own, other)
            found = next((each for each in signed if each.agreement_id == agreement_id), None)
            if found is None:
                raise OfferRefused(OfferRefusal.NOT_IN_FORCE, f"no agreement {agreement_id} with {other} is signed")
            notice = Notice(
                agreement_id=agreement_id,
                cpo_id=found.cpo_id,
                emsp_id=found.emsp_id,
                given_by=own,
                given_at=now,
                ends_at=ends_at,
            )
            refuse_notice(notice, signed=signed, now=now)
            document = notice_bytes(notice)
            record = await self._note(unit, own, notice, await self.ports.signer.sign(own, document))
            said = SignedNotice(
                notice=base64.b64encode(document).decode(),
                public_key=await self.ports.signer.public_key(own),
                signature=record.signature,
            )
            await self._send(unit, own, other, method="POST", path="/notices", about=agreement_id, body=said)
            await unit.commit()
        return record

    async def offers(self, own: PartyId) -> list[OfferRecord]:
        """Return what was talked about, by counterparty, agreement and version."""
        async with self.ports.units.begin() as unit:
            return await unit.table(OFFER).select({"party_id": own})

    async def notices(self, own: PartyId) -> list[NoticeRecord]:
        """Return the notices that were given."""
        async with self.ports.units.begin() as unit:
            return await unit.table(NOTICE).select({"party_id": own})

    # What others say

    def interface(self) -> Interface:
        """Return the module's receiver interface."""
        module = Interface(ModuleID.AGREEMENTS.value, InterfaceRole.RECEIVER)

        @module.route("PUT", "/{agreement_id}/{version}")
        async def word(call: OCPICall) -> Reply:
            is_new = await self._hear(call, call.read(Word))
            return Reply(http_status=201 if is_new else 200)

        @module.route("GET", "/{agreement_id}/{version}")
        async def talk(call: OCPICall) -> Reply:
            async with self.ports.units.begin() as unit:
                known = await self._known(
                    unit, call.own_party, call.caller, call.path["agreement_id"], _version(call.path["version"])
                )
            if known is None:
                raise NoSuchObject("offer")
            return Reply(data={"state": known.state, "round": known.round, "said_by": known.said_by.code})

        @module.route("POST", "/notices")
        async def notice(call: OCPICall) -> Reply:
            await self._hear_notice(call, call.read(SignedNotice))
            return Reply(http_status=201)

        return module

    async def _hear(self, call: OCPICall, said: Word) -> bool:
        """Take a word in; tell whether it is about a version that was not talked about before."""
        document = _document(said.terms)
        terms = agreement_of(document)
        own, other = call.own_party, call.caller
        is_theirs = counterparty_of(terms, own) == other
        if not is_theirs or (terms.agreement_id, str(terms.version)) != (
            call.path["agreement_id"],
            call.path["version"],
        ):
            raise OfferRefused(OfferRefusal.NOT_A_PARTY, "the terms are not the URL's, or not the caller's")
        async with self.ports.units.begin() as unit:
            known = await self._known(unit, own, other, terms.agreement_id, terms.version)
            if known is not None and self._was_heard(known, said, document):
                return False
            if known is None and await unit.table(OFFER).count({"party_id": own, "counterparty": other}) >= OFFERS_MAX:
                raise OfferRefused(OfferRefusal.TERMS_INCOMPLETE, f"{OFFERS_MAX} versions were talked about")
            record = await self._heard(unit, own, other, known, said, terms)
            if record.state is OfferState.AGREED:
                await self._enter(unit, record, correlation_id=call.correlation_id)
            await unit.commit()
        _log.info("agreement_word", own=str(own), by=str(other), agreement=terms.agreement_id, kind=said.kind)
        return known is None

    def _was_heard(self, known: OfferRecord, said: Word, document: bytes) -> bool:
        """Tell whether a word is a repetition: it says what is known already."""
        is_same = signing_bytes(known.agreement) == document and known.round == said.round
        states = {
            WordKind.OFFER: OfferState.OPEN,
            WordKind.ACCEPT: OfferState.AGREED,
            WordKind.REJECT: OfferState.REJECTED,
        }
        is_theirs = said.kind is not WordKind.OFFER or known.said_by == known.counterparty
        return is_same and is_theirs and known.state is states[said.kind]

    async def _heard(  # noqa: PLR0917 - who, to whom, what was known, what is said
        self,
        unit: UnitOfWork,
        own: PartyId,
        other: PartyId,
        known: OfferRecord | None,
        said: Word,
        terms: RoamingAgreement,
    ) -> OfferRecord:
        offer = known.offer if known else None
        if said.kind is WordKind.REJECT:
            key = known.counterparty_key if known else None
            return await self._keep(unit, own, other, rejected(offer, by=other), key=key)
        key = await self._key(unit, own, other, said)
        theirs = _with_signature(terms, other, said.signature)
        if said.kind is WordKind.OFFER:
            refuse_terms(terms, signed=await self._signed(unit, own, other), now=self._now())
            return await self._keep(unit, own, other, offered(offer, theirs, by=other, round_=said.round), key=key)
        if offer is None or said.offer_signature is None:
            raise OfferRefused(OfferRefusal.NOTHING_OFFERED, "there is no offer of ours to accept")
        if offer.state is OfferState.AGREED:
            raise OfferRefused(OfferRefusal.AGREED_ALREADY, "other terms were agreed")
        is_last = offer.state is OfferState.OPEN and signing_bytes(offer.agreement) == signing_bytes(terms)
        if offer.said_by != own or not (is_last or await self._crosses(unit, own, other, terms.agreement_id)):
            raise OfferRefused(OfferRefusal.OVERTAKEN, "another word was said since")
        own_key = await self.ports.signer.public_key(own)
        self._refuse_signature(terms, said.offer_signature, own_key)
        if self._now() > terms.valid_from + ARRIVAL_TOLERANCE:
            raise OfferRefused(OfferRefusal.TOO_LATE, f"valid from {terms.valid_from.isoformat()}")
        both = _with_signature(theirs, own, said.offer_signature)
        agreed = Offer(agreement=both, said_by=own, round=said.round, state=OfferState.AGREED)
        return await self._keep(unit, own, other, agreed, key=key)

    async def _crosses(self, unit: UnitOfWork, own: PartyId, other: PartyId, agreement_id: str) -> bool:
        """Tell whether our last word has not been heard: then an acceptance of what we offered before it counts."""
        owed = {"own_party": own, "to_party": other, "object_key": f"agreement/{agreement_id}"}
        return await unit.table(DELIVERY).count(owed) > 0

    async def _hear_notice(self, call: OCPICall, said: SignedNotice) -> None:
        document = _document(said.notice)
        notice = notice_of(document)
        own, other = call.own_party, call.caller
        if notice.given_by != other or counterparty_of(notice, own) != other:
            raise OfferRefused(OfferRefusal.NOT_A_PARTY, "the notice is not the caller's")
        async with self.ports.units.begin() as unit:
            pinned = await self.register.key_of(unit, own, other)
            is_signed = self.ports.signer.is_valid(
                public_key=said.public_key, message=document, signature=said.signature
            )
            if pinned != said.public_key:
                raise OfferRefused(OfferRefusal.KEY_DIFFERS, "the pair's agreement pinned another key")
            if not is_signed:
                raise OfferRefused(OfferRefusal.SIGNATURE_INVALID, "the signature does not fit the notice")
            signed = await self._signed(unit, own, other)
            refuse_notice(notice, signed=signed, now=self._now() - ARRIVAL_TOLERANCE)
            await self._note(unit, own, notice, said.signature)
            await unit.commit()

    # Parts of both

    def _now(self) -> datetime:
        return self.ports.clock.now()

    async def _known(
        self, unit: UnitOfWork, own: PartyId, other: PartyId, agreement_id: str, version: int
    ) -> OfferRecord | None:
        return await unit.table(OFFER).get_for_update(own, other, agreement_id, version)

    async def _signed(self, unit: UnitOfWork, own: PartyId, other: PartyId) -> list[RoamingAgreement]:
        return await ended(unit, own, other, await self.register.signed(unit, own, other))

    async def _signed_by(self, own: PartyId, terms: RoamingAgreement) -> RoamingAgreement:
        return _with_signature(terms, own, await self.ports.signer.sign(own, signing_bytes(terms)))

    async def _key(self, unit: UnitOfWork, own: PartyId, other: PartyId, said: Word) -> str:
        """Return the key that a word is signed with. Raises `OfferRefused`."""
        if said.public_key is None or said.signature is None:
            raise OfferRefused(OfferRefusal.SIGNATURE_INVALID, "it is not signed")
        pinned = await self.register.key_of(unit, own, other)
        if pinned is not None and pinned != said.public_key:
            raise OfferRefused(OfferRefusal.KEY_DIFFERS, "an agreement of the pair pinned another key")
        self._refuse_signature(agreement_of(_document(said.terms)), said.signature, said.public_key)
        return said.public_key

    def _refuse_signature(self, terms: RoamingAgreement, signature: str, key: str) -> None:
        if not self.ports.signer.is_valid(public_key=key, message=signing_bytes(terms), signature=signature):
            raise OfferRefused(OfferRefusal.SIGNATURE_INVALID, "a signature does not fit the terms")

    async def _keep(
        self, unit: UnitOfWork, own: PartyId, other: PartyId, said: Offer, *, key: str | None
    ) -> OfferRecord:
        record = OfferRecord(
            party_id=own,
            counterparty=other,
            agreement_id=said.agreement.agreement_id,
            version=said.agreement.version,
            state=said.state,
            said_by=said.said_by,
            round=said.round,
            agreement=said.agreement,
            counterparty_key=key,
            updated_at=self._now(),
        )
        await unit.table(OFFER).put(record)
        return record

    async def _note(self, unit: UnitOfWork, own: PartyId, notice: Notice, signature: str) -> NoticeRecord:
        record = NoticeRecord(
            party_id=own,
            counterparty=counterparty_of(notice, own),
            agreement_id=notice.agreement_id,
            given_by=notice.given_by,
            cpo_id=notice.cpo_id,
            emsp_id=notice.emsp_id,
            given_at=notice.given_at,
            ends_at=notice.ends_at,
            signature=signature,
        )
        known = await unit.table(NOTICE).get_for_update(own, record.counterparty, notice.agreement_id, notice.given_by)
        if known is not None and known.notice == notice:
            return known
        if known is not None and known.ends_at <= notice.ends_at:
            raise OfferRefused(OfferRefusal.OVERTAKEN, f"notice was given to {known.ends_at.isoformat()}")
        await unit.table(NOTICE).put(record)
        return record

    async def _enter(self, unit: UnitOfWork, record: OfferRecord, *, correlation_id: str | None = None) -> None:
        assert record.counterparty_key is not None, "what is agreed was signed with a key"
        await self.register.enter(
            unit,
            record.party_id,
            record.agreement,
            key=record.counterparty_key,
            correlation_id=correlation_id or self.ports.randomness.uuid(),
        )

    async def _say(self, unit: UnitOfWork, record: OfferRecord, kind: WordKind) -> None:
        own, agreement = record.party_id, record.agreement
        is_signed = kind is not WordKind.REJECT
        said = Word(
            kind=kind,
            round=record.round,
            terms=base64.b64encode(signing_bytes(agreement)).decode(),
            public_key=await self.ports.signer.public_key(own) if is_signed else None,
            signature=_signature_of(agreement, own) if is_signed else None,
            offer_signature=_signature_of(agreement, record.counterparty) if kind is WordKind.ACCEPT else None,
        )
        name = f"{agreement.agreement_id}/{agreement.version}"
        await self._send(
            unit, own, record.counterparty, method="PUT", path=f"/{name}", about=agreement.agreement_id, body=said
        )

    async def _send(
        self, unit: UnitOfWork, own: PartyId, other: PartyId, *, method: str, path: str, about: str, body: object
    ) -> None:
        await self.deliveries.enqueue(
            unit,
            own_party=own,
            to_party=other,
            method=method,
            module=ModuleID.AGREEMENTS,
            interface_role=InterfaceRole.RECEIVER,
            path=path,
            object_key=f"agreement/{about}",
            body=body,
            correlation_id=self.ports.randomness.uuid(),
            is_replaceable=False,
        )


def _with_signature(terms: RoamingAgreement, party: PartyId, signature: str | None) -> RoamingAgreement:
    if party == terms.cpo_id:
        return replace(terms, cpo_signature=signature)
    return replace(terms, emsp_signature=signature)


def _signature_of(agreement: RoamingAgreement, party: PartyId) -> str | None:
    return agreement.cpo_signature if party == agreement.cpo_id else agreement.emsp_signature


def _document(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise NotAnAgreement("it is no Base64") from error


def _version(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise MalformedInput(f"{text[:20]!r} is no version")
    return int(text)
