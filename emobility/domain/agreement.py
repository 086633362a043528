"""The roaming agreement of one CPO and one MSP: everything that is "per pair" reads from here.

Whether a signature is right is for the `Signer` port to say; this module says what is signed, and that an agreement
which lacks one of the two signatures is not in force.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from emobility.domain.errors import RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.domain.tariff.rounding import RoundingPolicyName

SIGNED_FORM: Final = "wattroam-roaming-agreement-1"
"""Signed along, so that a signature given here means nothing elsewhere."""


class NotInForce(StrEnum):
    """Why a pair has no agreement in force; the most telling reason of all its agreements."""

    NONE = "NONE"
    NOT_SIGNED = "NOT_SIGNED"
    NOT_YET_VALID = "NOT_YET_VALID"
    EXPIRED = "EXPIRED"


class NoAgreementInForce(RuleBroken):
    """A CPO and an MSP need an agreement, signed by both and valid at the moment, before a driver may charge."""

    def __init__(self, *, cpo_id: PartyId, emsp_id: PartyId, at: datetime, reason: NotInForce) -> None:
        self.cpo_id = cpo_id
        self.emsp_id = emsp_id
        self.at = at
        self.reason = reason
        super().__init__(f"{cpo_id} and {emsp_id} have no agreement in force at {at.isoformat()}: {reason}")


class SettlementMode(StrEnum):
    """How an obligation is covered before it is paid."""

    PREFUNDED = "PREFUNDED"
    CREDIT_LINE = "CREDIT_LINE"
    GUARANTEE = "GUARANTEE"
    CONFIDENTIAL = "CONFIDENTIAL"
    """Prefunded, and no amount of the pair is shown: parties' nets over all their statements are settled."""
    OFF_CHAIN = "OFF_CHAIN"
    """The two settle elsewhere: their CDRs are checked, booked and audited, and go into no batch."""


class TaxRegime(StrEnum):
    """How the CPO's supply to the MSP is taxed (`domain/tax.py` decides)."""

    DOMESTIC = "DOMESTIC"
    REVERSE_CHARGE = "REVERSE_CHARGE"


class StatementPeriod(StrEnum):
    """How often a pair's CDRs are put into a statement."""

    WEEKLY = "WEEKLY"
    MONTHLY = "MONTHLY"


class SignedMeterPolicy(StrEnum):
    """What the MSP asks of metering: nothing, that what is signed verifies, or that everything is signed."""

    NOT_REQUIRED = "NOT_REQUIRED"
    VERIFIED_IF_PRESENT = "VERIFIED_IF_PRESENT"
    REQUIRED = "REQUIRED"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoamingAgreement:
    """One version of the terms between a CPO and an MSP; a change is a new version, signed again.

    Attributes:
        agreement_id: Names the pair's agreement through all versions.
        tariff_ids: Tariffs of the CPO that price this MSP's sessions; the first that fits a connector applies.
        cdr_deadline_h: Hours after a session's end by which its CDR must arrive.
        dispute_period_h: Hours after receipt after which an undisputed CDR counts as accepted.
        credit_limit_e4: Most that may be open under `CREDIT_LINE`, or that the vault reserves under `GUARANTEE`, in
            ten-thousandths of `currency`.
        dispute_answer_h: Hours after which a dispute that the CPO did not answer by a credit stands: what is disputed
            is not owed. None: no time is set.
        notice_period_d: Days between a notice that ends the agreement and its end; None: it may end at once.
        roaming_fee_e4: Fee per session the MSP pays to nobody but states to its driver, in ten-thousandths.
        rounding_policy: How CDRs are rounded; None: `EXACT`.
        cpo_signature: Ed25519 over `signing_bytes`, hex; the CPO's word.
        emsp_signature: The MSP's, likewise.
    """

    agreement_id: str
    version: int
    cpo_id: PartyId
    emsp_id: PartyId
    valid_from: datetime
    valid_until: datetime | None
    currency: str
    tariff_ids: tuple[str, ...]
    tax_regime: TaxRegime
    cdr_deadline_h: int
    dispute_period_h: int
    statement_period: StatementPeriod
    time_zone: str
    payment_terms_d: int
    settlement_mode: SettlementMode
    credit_limit_e4: int
    signed_meter_policy: SignedMeterPolicy
    roaming_fee_e4: int = 0
    rounding_policy: RoundingPolicyName | None = None
    notice_period_d: int | None = None
    dispute_answer_h: int | None = None
    cpo_signature: str | None = None
    emsp_signature: str | None = None


def is_signed(agreement: RoamingAgreement) -> bool:
    """Whether both parties put a signature to this version."""
    return agreement.cpo_signature is not None and agreement.emsp_signature is not None


def in_force(agreement: RoamingAgreement, at: datetime) -> bool:
    """Whether the agreement is signed by both and valid at `at`; its start is included, its end is not."""
    return is_signed(agreement) and _reason(agreement, at) is None


def agreement_in_force(
    agreements: Iterable[RoamingAgreement], cpo_id: PartyId, emsp_id: PartyId, at: datetime
) -> RoamingAgreement:
    """Return the pair's agreement in force at `at`; of several the one valid since latest, then the highest version.

    Raises:
        NoAgreementInForce: there is none; `reason` says what came closest.
    """
    of_pair = [one for one in agreements if one.cpo_id == cpo_id and one.emsp_id == emsp_id]
    valid = [one for one in of_pair if in_force(one, at)]
    if not valid:
        reasons = {_reason(one, at) for one in of_pair}
        reason = next((known for known in _MOST_TELLING_FIRST if known in reasons), NotInForce.NONE)
        raise NoAgreementInForce(cpo_id=cpo_id, emsp_id=emsp_id, at=at, reason=reason)
    return max(valid, key=lambda one: (one.valid_from, one.version, one.agreement_id))


def cdr_due_at(agreement: RoamingAgreement, session_ended_at: datetime) -> datetime:
    """Return the moment by which the session's CDR must have arrived."""
    return session_ended_at + timedelta(hours=agreement.cdr_deadline_h)


def disputable_until(agreement: RoamingAgreement, received_at: datetime) -> datetime:
    """Return the moment from which an undisputed CDR counts as accepted."""
    return received_at + timedelta(hours=agreement.dispute_period_h)


def answer_due_at(agreement: RoamingAgreement, disputed_at: datetime) -> datetime | None:
    """Return the moment from which a dispute that was not answered stands; None: none is agreed."""
    hours = agreement.dispute_answer_h
    return None if hours is None else disputed_at + timedelta(hours=hours)


def signing_bytes(agreement: RoamingAgreement) -> bytes:
    """Return what both parties sign: every term of this version, without the signatures, as canonical JSON.

    Keys are sorted, instants are in UTC, and a field that is None is left out, so a field added later with None as
    its default leaves old signatures valid.
    """
    terms = {
        field.name: _term(getattr(agreement, field.name))
        for field in fields(agreement)
        if field.name not in _SIGNATURES and getattr(agreement, field.name) is not None
    }
    document = {"form": SIGNED_FORM, **terms}
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def document_hash(agreement: RoamingAgreement) -> str:
    """Return the SHA-256 of `signing_bytes`, hex: the name of exactly these terms, signed or not."""
    return hashlib.sha256(signing_bytes(agreement)).hexdigest()


_SIGNATURES: Final = frozenset({"cpo_signature", "emsp_signature"})
_MOST_TELLING_FIRST: Final = (NotInForce.NOT_SIGNED, NotInForce.NOT_YET_VALID, NotInForce.EXPIRED)


def _reason(agreement: RoamingAgreement, at: datetime) -> NotInForce | None:
    if at < agreement.valid_from:
        return NotInForce.NOT_YET_VALID
    if agreement.valid_until is not None and at >= agreement.valid_until:
        return NotInForce.EXPIRED
    return None if is_signed(agreement) else NotInForce.NOT_SIGNED


def _term(value: object) -> str | int | list[str]:
    if isinstance(value, PartyId):
        return value.code
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if isinstance(value, tuple):
        return [str(item) for item in value]
    if isinstance(value, (str, int)):
        return value
    raise AssertionError(f"an agreement holds a {type(value).__name__}, which has no signed form")
