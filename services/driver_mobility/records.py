"""Rows of the MSPs hosted here; every key begins with the MSP, so no row of one is ever found for another.

Personal fields (names, contract ids, token uids, cards) are sealed under the contract's subject; `driver_id` is an
opaque number of ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from emobility.domain.agreement import RoamingAgreement
from emobility.domain.cdr import CDR
from emobility.domain.cdr_check import CDRFinding
from emobility.domain.identifiers import PartyId
from emobility.domain.meter_key import PinnedKey
from emobility.domain.personal import Sealed
from emobility.domain.proposed_correction import ProposedCosts
from emobility.domain.quote import RetailQuote
from emobility.domain.receipt.lines import ReceiptLine
from emobility.domain.retail_account import RetailAccount
from emobility.domain.retention import DocumentKind
from emobility.domain.session import Session, SessionStatus
from emobility.domain.tariff.retail import RetailPlan
from emobility.domain.tariff.tariff import Tariff
from emobility.domain.token import TokenType, Whitelist
from emobility.ports.stores import TableSpec
from emobility.protocols.ocpi import v221


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedMSP:
    """An MSP whose back office this is. `nsp_id`: whose station search its drivers use."""

    party_id: PartyId
    name: str
    nsp_id: PartyId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRecord:
    """A retail plan an MSP sells. `holds_card`: the estimate is held on the driver's card before a charge."""

    party_id: PartyId
    plan_id: str
    plan: RetailPlan
    holds_card: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """A contract with a driver. `credit_limit_e4` bounds what may be open, in ten-thousandths of `currency`."""

    party_id: PartyId
    driver_id: str
    name: Sealed
    contract_id: Sealed
    plan_id: str
    currency: str
    credit_limit_e4: int
    is_blocked: bool
    card: Sealed | None
    card_last4: str | None
    password_hash: str | None
    failed_logins: int
    locked_until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverToken:
    """A card or app token of a driver; `token_subject` is `uid.subject`."""

    party_id: PartyId
    token_subject: str
    driver_id: str
    uid: Sealed
    contract_id: Sealed
    token_type: TokenType
    issuer: str
    is_valid: bool
    whitelist: Whitelist
    last_updated: datetime


class AgreementState(StrEnum):
    """Life of an agreement version at the MSP."""

    PROPOSED = "PROPOSED"
    SIGNED = "SIGNED"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementRecord:
    """A version of an agreement with a CPO, as both signed it; `cpo_public_key` is pinned when it is proposed."""

    party_id: PartyId
    agreement_id: str
    version: int
    cpo_id: PartyId
    state: AgreementState
    cpo_public_key: str
    agreement: RoamingAgreement


@dataclass(frozen=True, slots=True, kw_only=True)
class LocationRecord:
    """A CPO's location as last pushed."""

    party_id: PartyId
    cpo_id: PartyId
    location_id: str
    location: v221.Location
    last_updated: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TariffVersion:
    """A version of a CPO's tariff; all that were ever pushed are kept. `ended_at`: when it was withdrawn.

    `in_force_from` is the CPO's word, a microsecond later for each other version that it dates the same; `received_at`
    is our clock's: nobody backdates a price that we were not sent yet.
    """

    party_id: PartyId
    cpo_id: PartyId
    tariff_id: str
    in_force_from: datetime
    tariff_hash: str
    tariff: Tariff
    received_at: datetime
    ended_at: datetime | None


class QuoteState(StrEnum):
    """Life of a quote."""

    OFFERED = "OFFERED"
    HOLDING = "HOLDING"
    """The card is being asked; nobody may charge yet."""
    AUTHORIZED = "AUTHORIZED"
    """A charge may begin under it, or its start was commanded."""
    RUNNING = "RUNNING"
    BILLED = "BILLED"
    REFUSED = "REFUSED"
    EXPIRED = "EXPIRED"


OPEN_QUOTE_STATES: Final = (QuoteState.HOLDING, QuoteState.AUTHORIZED, QuoteState.RUNNING)
"""States in which a quote counts against the driver's credit."""


class QuoteOrigin(StrEnum):
    """Why a quote was made."""

    ASKED = "ASKED"
    """The driver asked for it in the app."""
    REAL_TIME = "REAL_TIME"
    """A CPO asked whether the driver may charge."""
    UNSEEN_START = "UNSEEN_START"
    """The CPO let the driver charge by its whitelist; the plan's terms apply as if quoted at the start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteRecord:
    """A quote, what became of it and what it may cost; amounts in ten-thousandths of the tariff's currency.

    `wholesale_hash` names what the MSP expects to be charged and is never shown to the driver. `hold_card` is the card
    that was asked for the hold, also when the driver has another one by now.
    """

    party_id: PartyId
    quote_id: str
    driver_id: str
    state: QuoteState
    origin: QuoteOrigin
    quote: RetailQuote
    token_subject: str
    wholesale_hash: str
    exposure_e4: int
    valid_until: datetime
    hold_card: Sealed | None
    payment_id: str | None
    held_e4: int
    cpo_id: PartyId
    session_id: str | None
    refusal: str | None


class CommandState(StrEnum):
    """Life of a command sent to a CPO."""

    SENT = "SENT"
    ACCEPTED = "ACCEPTED"
    REFUSED = "REFUSED"
    TIMED_OUT = "TIMED_OUT"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRecord:
    """A START_SESSION or STOP_SESSION on its way; `result` is the CPO's or the station's own word."""

    party_id: PartyId
    command_id: str
    kind: v221.CommandType
    cpo_id: PartyId
    driver_id: str
    quote_id: str | None
    session_id: str | None
    state: CommandState
    result: str | None
    timeout_s: int
    sent_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecord:
    """A CPO's session of one of our drivers as last pushed, with what it costs the driver so far (gross).

    `last_updated` is the CPO's word, `heard_at` our clock's.
    """

    party_id: PartyId
    cpo_id: PartyId
    session_id: str
    driver_id: str
    quote_id: str
    status: SessionStatus
    started_at: datetime
    last_updated: datetime
    heard_at: datetime
    session: Session
    running_cost_e4: int


class CDRState(StrEnum):
    """Life of a CDR at the MSP."""

    RECEIVED = "RECEIVED"
    WAITING = "WAITING"
    """Looked at, and not decided: it overtook the original, the credit or the session that it needs."""
    ACCEPTED = "ACCEPTED"
    DISPUTED = "DISPUTED"
    CREDITED = "CREDITED"


@dataclass(frozen=True, slots=True, kw_only=True)
class CDRRecord:
    """A CDR as it arrived. `content_hash` of the document decides whether another with its id is the same.

    `quote_id`: what the driver is billed under; None: the token is nobody's here. `decide_by`: end of the dispute
    period; what nobody looked at counts as accepted then, what waits is disputed before. `findings`: why it is
    disputed, or what it waits for. `clause`: what the decision rests on (`domain/clause.py`).
    """

    party_id: PartyId
    cpo_id: PartyId
    cdr_id: str
    session_id: str
    token_subject: str
    started_at: datetime
    ended_at: datetime
    received_at: datetime
    decide_by: datetime
    state: CDRState
    is_deemed: bool
    agreement_id: str
    content_hash: str
    quote_id: str | None
    cdr: CDR
    findings: tuple[CDRFinding, ...]
    credited_by: str | None
    clause: str | None = None
    evse_uid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DisputeRecord:
    """A quarrel over a CDR; `resolution` says how it ended; `proposal`: the amounts that would end it, as sent.

    `answer_by`: when it stands if the CPO did not answer; None: no such time is agreed.
    """

    party_id: PartyId
    cpo_id: PartyId
    cdr_id: str
    findings: tuple[CDRFinding, ...]
    disputed_at: datetime
    resolution: str | None
    proposal: ProposedCosts | None = None
    answer_by: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BillRecord:
    """What a driver was billed for one charge; gross total = what is owed. Amounts in ten-thousandths."""

    party_id: PartyId
    bill_id: str
    driver_id: str
    quote_id: str
    cpo_id: PartyId
    cdr_id: str
    session_id: str
    total_excl_e4: int
    total_incl_e4: int
    credited_incl_e4: int
    currency: str
    billed_at: datetime
    lines: tuple[ReceiptLine, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceKept:
    """What a receipt of an accepted CDR shows, with its salts; of a credit `bill_id` is that of the bill taken back."""

    party_id: PartyId
    cpo_id: PartyId
    cdr_id: str
    bill_id: str
    evidence: Sealed


class PaymentKind(StrEnum):
    """What is asked of the payment provider."""

    CAPTURE = "CAPTURE"
    """Take money from the hold that was made before the charge."""
    CHARGE = "CHARGE"
    """Hold and take at once."""
    RELEASE = "RELEASE"
    """Give a hold up."""
    REFUND = "REFUND"


class PaymentState(StrEnum):
    """Life of a payment order."""

    PENDING = "PENDING"
    DONE = "DONE"
    FAILED = "FAILED"
    WITHDRAWN = "WITHDRAWN"


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentOrder:
    """One thing to ask of the payment provider, in whole cents; asked until it answers.

    `attempt` enters the idempotency key: a retry after a refusal is a new call, a retry after silence is not. `card` is
    the one this attempt of a CHARGE asks, whatever the driver does meanwhile; None: it was not asked yet, and a
    `payment_id` is an earlier attempt's. `kept_card` is the one to ask where the driver was erased before that.
    """

    party_id: PartyId
    order_id: str
    driver_id: str
    quote_id: str
    bill_id: str | None
    kind: PaymentKind
    payment_id: str | None
    card: Sealed | None = None
    kept_card: Sealed | None = None
    amount_e4: int
    refunded_e4: int = 0
    currency: str
    state: PaymentState = PaymentState.PENDING
    attempt: int = 1
    failure: str | None = None
    ordered_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterKey:
    """The public key of an EVSE's meter as the MSP pinned it: by an operator, or at the first valid signature.

    `entries`: what operators entered, with the moments from which each holds; `public_key` is the last of them.
    """

    party_id: PartyId
    cpo_id: PartyId
    evse_uid: str
    public_key: str
    is_by_operator: bool
    entries: tuple[PinnedKey, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedSignedRecord:
    """A signed meter record that an accepted CDR was proven by: it proves that session and no other, for ever.

    `payload_sha256` names what the meter signed, however the signature is written, by the vault's keyed hash.
    """

    party_id: PartyId
    payload_sha256: str
    cpo_id: PartyId
    session_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A driver who is logged in at the page; found by the hash of the cookie."""

    party_id: PartyId
    cookie_hash: str
    driver_id: str
    csrf_token: str
    expires_at: datetime


class RetentionDuty(StrEnum):
    """Why something of an erased driver must be kept for a while."""

    FISCAL = "FISCAL"
    """Bills and the CDRs under them are books of account."""
    UNPAID = "UNPAID"
    DISPUTED = "DISPUTED"


class ErasureState(StrEnum):
    """Life of an erasure."""

    PENDING = "PENDING"
    """Entered; the keys are dealt with next, by a sweep if need be."""
    RESTRICTED = "RESTRICTED"
    ERASED = "ERASED"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptDocuments:
    """Documents of one kind that one law asks for until a moment; None: nothing asks for them."""

    kind: DocumentKind
    count: int
    until: datetime | None
    law: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureRecord:
    """That a driver was erased, and what is kept under which duties until when.

    `restricted_subjects` name the keys of evidence, destroyed at `restricted_until`; `destroyed_subjects` those that
    went at once. `shared`: keys left alone because another contract, perhaps of another MSP, is sealed under them.
    `kept`: what is kept, as it stood when the erasure was asked for or, the date having come, was counted anew.
    """

    party_id: PartyId
    driver_id: str
    state: ErasureState
    duties: tuple[RetentionDuty, ...]
    restricted_subjects: tuple[str, ...]
    destroyed_subjects: tuple[str, ...]
    shared: int
    asked_at: datetime
    restricted_until: datetime | None
    kept: tuple[KeptDocuments, ...] = ()


MSP: Final = TableSpec(name="emsp_party", record=HostedMSP, key=("party_id",), is_reference=True)
PLAN: Final = TableSpec(name="emsp_plan", record=PlanRecord, key=("party_id", "plan_id"), is_reference=True)
DRIVER: Final = TableSpec(name="emsp_driver", record=Driver, key=("party_id", "driver_id"))
TOKEN: Final = TableSpec(name="emsp_token", record=DriverToken, key=("party_id", "token_subject"), is_reference=True)
AGREEMENT: Final = TableSpec(
    name="emsp_agreement", record=AgreementRecord, key=("party_id", "agreement_id", "version"), is_reference=True
)
LOCATION: Final = TableSpec(name="emsp_location", record=LocationRecord, key=("party_id", "cpo_id", "location_id"))
TARIFF: Final = TableSpec(
    name="emsp_tariff_version", record=TariffVersion, key=("party_id", "cpo_id", "tariff_id", "in_force_from")
)
QUOTE: Final = TableSpec(name="emsp_quote", record=QuoteRecord, key=("party_id", "quote_id"))
COMMAND: Final = TableSpec(name="emsp_command", record=CommandRecord, key=("party_id", "command_id"))
SESSION: Final = TableSpec(name="emsp_session", record=SessionRecord, key=("party_id", "cpo_id", "session_id"))
CDRS: Final = TableSpec(name="emsp_cdr", record=CDRRecord, key=("party_id", "cpo_id", "cdr_id"))
DISPUTE: Final = TableSpec(name="emsp_dispute", record=DisputeRecord, key=("party_id", "cpo_id", "cdr_id"))
BILL: Final = TableSpec(name="emsp_bill", record=BillRecord, key=("party_id", "bill_id"))
EVIDENCE: Final = TableSpec(name="emsp_evidence", record=EvidenceKept, key=("party_id", "cpo_id", "cdr_id"))
ACCOUNT: Final = TableSpec(name="emsp_account", record=RetailAccount, key=("party_id", "driver_id", "currency"))
PAYMENT_ORDER: Final = TableSpec(name="emsp_payment_order", record=PaymentOrder, key=("party_id", "order_id"))
METER_KEY: Final = TableSpec(name="emsp_meter_key", record=MeterKey, key=("party_id", "cpo_id", "evse_uid"))
USED_RECORD: Final = TableSpec(
    name="emsp_used_signed_record", record=UsedSignedRecord, key=("party_id", "payload_sha256")
)
ERASURE: Final = TableSpec(name="emsp_erasure", record=ErasureRecord, key=("party_id", "driver_id"))
LOGIN: Final = TableSpec(name="emsp_login", record=Login, key=("party_id", "cookie_hash"))
