"""How a roaming agreement comes about, changes and ends: what is offered, countered, accepted, and given notice of.

What two parties sign travels as the exact bytes that are signed (`agreement.signing_bytes`). A version is offered, in
rounds, until one side accepts the other's last word; it must lie in the future, and no two versions may be valid at the
same time: within an agreement the next one takes over when it begins, between agreements of a pair nothing overlaps.
Notice ends an agreement for what begins later; what was begun under it goes on under it.
"""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from emobility.domain.agreement import SIGNED_FORM, RoamingAgreement, signing_bytes
from emobility.domain.errors import MalformedInput, RuleBroken
from emobility.domain.identifiers import PartyId

END_FORM: Final = "wattroam-agreement-end-1"
"""Signed along with a notice, so that its signature means nothing elsewhere."""
ARRIVAL_TOLERANCE: Final = timedelta(days=1)
"""How long an acceptance or a notice may be under way; what comes later comes too late."""
_ID: Final = re.compile(r"[A-Za-z0-9._@-]{1,36}")
_NUMBERS: Final = ("cdr_deadline_h", "dispute_period_h", "payment_terms_d", "credit_limit_e4", "roaming_fee_e4")


class NotAnAgreement(MalformedInput):
    """Bytes are not the signed form of an agreement or of a notice."""


class OfferRefusal(StrEnum):
    """Why an offer, an answer to one, or a notice does not count."""

    NOT_A_PARTY = "NOT_A_PARTY"
    TERMS_INCOMPLETE = "TERMS_INCOMPLETE"
    NOT_NEXT_VERSION = "NOT_NEXT_VERSION"
    NOT_IN_FUTURE = "NOT_IN_FUTURE"
    OVERLAPS = "OVERLAPS"
    NOTHING_OFFERED = "NOTHING_OFFERED"
    NOT_YOUR_TURN = "NOT_YOUR_TURN"
    OVERTAKEN = "OVERTAKEN"
    """Another word was given since."""
    AGREED_ALREADY = "AGREED_ALREADY"
    SIGNATURE_INVALID = "SIGNATURE_INVALID"
    KEY_DIFFERS = "KEY_DIFFERS"
    TOO_LATE = "TOO_LATE"
    NOTICE_TOO_SHORT = "NOTICE_TOO_SHORT"
    NOT_IN_FORCE = "NOT_IN_FORCE"


class OfferRefused(RuleBroken):
    """A word about an agreement does not count; `reason` says why."""

    def __init__(self, reason: OfferRefusal, detail: str) -> None:
        self.reason = reason
        super().__init__(f"{reason}: {detail}")


class OfferState(StrEnum):
    """How far the talk about one version is."""

    OPEN = "OPEN"
    AGREED = "AGREED"
    REJECTED = "REJECTED"
    """Refused by the one, or taken back by the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """The last word about one version.

    Attributes:
        agreement: Its terms, signed by who offers them, and by both once they agree.
        said_by: Whose word it is: who offered last or, of a rejected one, who ended it.
        round: Counts the words, from 1.
    """

    agreement: RoamingAgreement
    said_by: PartyId
    round: int
    state: OfferState


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """That one party ends an agreement: nothing begins under it from `ends_at` on."""

    agreement_id: str
    cpo_id: PartyId
    emsp_id: PartyId
    given_by: PartyId
    given_at: datetime
    ends_at: datetime


def counterparty_of(agreement: RoamingAgreement | Notice, party: PartyId) -> PartyId:
    """Return the other party. Raises `OfferRefused` where `party` is neither."""
    if party not in {agreement.cpo_id, agreement.emsp_id} or agreement.cpo_id == agreement.emsp_id:
        raise OfferRefused(OfferRefusal.NOT_A_PARTY, f"{party} is no party to it")
    return agreement.emsp_id if party == agreement.cpo_id else agreement.cpo_id


def refuse_terms(terms: RoamingAgreement, *, signed: Sequence[RoamingAgreement], now: datetime) -> None:
    """See that a version may come into force.

    Args:
        terms: The version.
        signed: All versions that the pair signed, as they ended (`as_ended`).
        now: The moment.

    Raises:
        OfferRefused: it is incomplete, not the next one, not in the future, or overlaps another.
    """
    is_whole = _ID.fullmatch(terms.agreement_id) and terms.tariff_ids and len(terms.currency) == 3
    numbers = [*(getattr(terms, name) for name in _NUMBERS), terms.notice_period_d or 0, terms.dispute_answer_h or 0]
    if not is_whole or min(numbers) < 0:
        raise OfferRefused(OfferRefusal.TERMS_INCOMPLETE, "an id, tariffs, a currency, and no number below zero")
    if terms.valid_until is not None and terms.valid_until <= terms.valid_from:
        raise OfferRefused(OfferRefusal.TERMS_INCOMPLETE, "it ends before it begins")
    earlier = [each for each in signed if each.agreement_id == terms.agreement_id]
    following = 1 + max((each.version for each in earlier), default=0)
    if terms.version != following:
        raise OfferRefused(OfferRefusal.NOT_NEXT_VERSION, f"the next version is {following}")
    if terms.valid_from <= now:
        raise OfferRefused(OfferRefusal.NOT_IN_FUTURE, f"valid from {terms.valid_from.isoformat()}")
    for each in signed:
        is_same = each.agreement_id == terms.agreement_id
        if terms.valid_from <= each.valid_from if is_same else _overlap(terms, each):
            name = f"{each.agreement_id} v{each.version}, valid from {each.valid_from.isoformat()}"
            raise OfferRefused(OfferRefusal.OVERLAPS, name)


def refuse_other_agreement(terms: RoamingAgreement, *, signed: Sequence[RoamingAgreement]) -> None:
    """See that no other agreement of the pair is in force at any moment at which these terms are.

    Raises:
        OfferRefused: one is.
    """
    for each in signed:
        if each.agreement_id != terms.agreement_id and _overlap(terms, each):
            raise OfferRefused(OfferRefusal.OVERLAPS, f"{each.agreement_id} v{each.version} is valid then")


def _overlap(one: RoamingAgreement, other: RoamingAgreement) -> bool:
    is_before = one.valid_until is not None and one.valid_until <= other.valid_from
    is_after = other.valid_until is not None and other.valid_until <= one.valid_from
    return not (is_before or is_after)


def offered(known: Offer | None, terms: RoamingAgreement, *, by: PartyId, round_: int | None = None) -> Offer:
    """Return what is on the table after `by` offered `terms`, which it signed: a first, another or a counter-offer.

    `round_`: as the offerer counts, when the word comes from afar; of two that cross in one round the CPO's stands.

    Raises:
        OfferRefused: the version is agreed, or the offer was overtaken.
    """
    if known is None:
        return Offer(agreement=terms, said_by=by, round=1 if round_ is None else round_, state=OfferState.OPEN)
    if known.state is OfferState.AGREED:
        raise OfferRefused(OfferRefusal.AGREED_ALREADY, "a change is a new version")
    number = known.round + 1 if round_ is None else round_
    crosses = number == known.round and known.said_by != by and by == terms.cpo_id
    if number <= known.round and not crosses:
        raise OfferRefused(OfferRefusal.OVERTAKEN, f"round {known.round} was heard")
    return Offer(agreement=terms, said_by=by, round=number, state=OfferState.OPEN)


def accepted(known: Offer | None, *, by: PartyId) -> Offer:
    """Return the agreed offer after `by` accepted the other's last word; signatures are the caller's to add.

    Raises:
        OfferRefused: nothing is offered to it, or it is agreed.
    """
    if known is None or known.state is OfferState.REJECTED:
        raise OfferRefused(OfferRefusal.NOTHING_OFFERED, "there is no offer to accept")
    if known.state is OfferState.AGREED:
        raise OfferRefused(OfferRefusal.AGREED_ALREADY, "it is agreed")
    if known.said_by == by:
        raise OfferRefused(OfferRefusal.NOT_YOUR_TURN, "the other side has to answer")
    return replace(known, state=OfferState.AGREED)


def rejected(known: Offer | None, *, by: PartyId) -> Offer:
    """Return the offer after `by` refused it, or took its own back. Raises `OfferRefused`."""
    if known is None or known.state is OfferState.REJECTED:
        raise OfferRefused(OfferRefusal.NOTHING_OFFERED, "there is no offer to reject")
    if known.state is OfferState.AGREED:
        raise OfferRefused(OfferRefusal.AGREED_ALREADY, "it is agreed: give notice, or offer a new version")
    return replace(known, said_by=by, state=OfferState.REJECTED)


def refuse_notice(notice: Notice, *, signed: Sequence[RoamingAgreement], now: datetime) -> None:
    """See that a notice counts: the agreement is signed, and the notice is as long as its newest version asks.

    Raises:
        OfferRefused: it is not.
    """
    if notice.given_by not in {notice.cpo_id, notice.emsp_id}:
        raise OfferRefused(OfferRefusal.NOT_A_PARTY, f"{notice.given_by} is no party to it")
    versions = [each for each in signed if each.agreement_id == notice.agreement_id]
    if not versions:
        raise OfferRefused(OfferRefusal.NOT_IN_FORCE, f"no agreement {notice.agreement_id} is signed")
    newest = max(versions, key=lambda each: each.version)
    earliest = now + timedelta(days=newest.notice_period_d or 0)
    if notice.ends_at < earliest:
        raise OfferRefused(OfferRefusal.NOTICE_TOO_SHORT, f"it may end from {earliest.isoformat()} on")


def as_ended(agreement: RoamingAgreement, ends_at: datetime | None) -> RoamingAgreement:
    """Return a version as it is valid after notices; its signatures stand for the terms as they were signed."""
    if ends_at is None or (agreement.valid_until is not None and agreement.valid_until <= ends_at):
        return agreement
    return replace(agreement, valid_until=max(ends_at, agreement.valid_from))


# What travels


def agreement_of(document: bytes) -> RoamingAgreement:
    """Read the exact bytes that are signed. Raises `NotAnAgreement` for anything else, and for another spelling."""
    said = _read(document, SIGNED_FORM)
    hints = typing.get_type_hints(RoamingAgreement)
    try:
        terms: dict[str, Any] = {name: _value(hints[name], said.get(name)) for name in hints}
        agreement = RoamingAgreement(**terms)
    except (KeyError, TypeError, ValueError, MalformedInput) as error:
        raise NotAnAgreement(f"a term is missing or is none: {error}") from error
    if (
        agreement.cpo_signature is not None
        or agreement.emsp_signature is not None
        or signing_bytes(agreement) != document
    ):
        raise NotAnAgreement("it is not written as it is signed: sorted keys, no spaces, UTC to the microsecond")
    return agreement


def notice_bytes(notice: Notice) -> bytes:
    """Return what the party that gives notice signs, as canonical JSON."""
    said = {
        "form": END_FORM,
        "agreement_id": notice.agreement_id,
        "cpo_id": notice.cpo_id.code,
        "emsp_id": notice.emsp_id.code,
        "given_by": notice.given_by.code,
        "given_at": _written(notice.given_at),
        "ends_at": _written(notice.ends_at),
    }
    return json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def notice_of(document: bytes) -> Notice:
    """Read the exact bytes of a notice. Raises `NotAnAgreement`."""
    said = _read(document, END_FORM)
    hints = typing.get_type_hints(Notice)
    try:
        terms: dict[str, Any] = {each.name: _value(hints[each.name], said.get(each.name)) for each in fields(Notice)}
        notice = Notice(**terms)
    except (KeyError, TypeError, ValueError, MalformedInput) as error:
        raise NotAnAgreement(f"a field is missing or is none: {error}") from error
    if notice_bytes(notice) != document:
        raise NotAnAgreement("it is not written as it is signed")
    return notice


def earliest_end(notices: Iterable[Notice]) -> dict[str, datetime]:
    """Return agreement id → when it ends; of two notices the earlier end counts."""
    ends: dict[str, datetime] = {}
    for each in notices:
        ends[each.agreement_id] = min(each.ends_at, ends.get(each.agreement_id, each.ends_at))
    return ends


def _read(document: bytes, form: str) -> dict[str, Any]:
    try:
        said = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise NotAnAgreement("it is no JSON") from error
    if not isinstance(said, dict) or said.get("form") != form:
        raise NotAnAgreement(f"its form is not {form}")
    return said


def _value(kind: Any, said: Any) -> Any:
    """Return a term of its type. Raises `TypeError` or `ValueError` for what is none."""
    if typing.get_origin(kind) in {typing.Union, types.UnionType}:
        if said is None:
            return None
        (kind,) = (each for each in typing.get_args(kind) if each is not type(None))
    if kind is int:
        if type(said) is not int:
            raise TypeError(f"{said!r} is no whole number")
        return said
    if typing.get_origin(kind) is tuple:
        if not isinstance(said, list) or not all(isinstance(each, str) for each in said):
            raise TypeError("a list of texts is expected")
        return tuple(said)
    if not isinstance(said, str):
        raise TypeError(f"{said!r} is no text")
    return datetime.fromisoformat(said) if kind is datetime else kind(said)


def _written(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")
