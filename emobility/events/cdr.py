"""Facts about sessions and CDRs. Key: the agreement, so that a pair's documents keep their order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final

from emobility.domain.agreement import RoamingAgreement
from emobility.domain.batch.meter import MeterCommitted
from emobility.domain.cdr import CDR, CDRFigures
from emobility.domain.identifiers import PartyId
from emobility.domain.session import Session
from emobility.events.event import Event, catalogued

CDRS: Final = "cdrs"
SESSIONS: Final = "sessions"


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class SessionChanged(Event):
    """A CPO's session opened, moved on or closed; the whole session as it stands now, its periods once it is closed."""

    wire_name: ClassVar[str] = "sessions.session_changed.v1"
    topic: ClassVar[str] = SESSIONS
    session: Session

    @property
    def key(self) -> str:
        """Party and session."""
        return f"{self.session.party_id}/{self.session.session_id}"


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class SessionQuarantined(Event):
    """A CPO can't trust a session: it is neither billed nor dropped, but waits with its reasons.

    `energy_wh` (import) and `energy_export_wh` are what this adds to the session's quarantine; each `quarantine_id`
    is resolved by itself.
    """

    wire_name: ClassVar[str] = "sessions.session_quarantined.v1"
    topic: ClassVar[str] = SESSIONS
    party_id: PartyId
    session_id: str
    reasons: tuple[str, ...]
    energy_wh: int
    quarantined_at: datetime
    energy_export_wh: int = 0
    quarantine_id: str | None = None

    @property
    def key(self) -> str:
        """Party and session."""
        return f"{self.party_id}/{self.session_id}"


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineResolved(Event):
    """Someone decided on a quarantined session: `outcome` is BILLED, WAIVED or WRITTEN_OFF; the parts add up."""

    wire_name: ClassVar[str] = "sessions.quarantine_resolved.v1"
    topic: ClassVar[str] = SESSIONS
    party_id: PartyId
    session_id: str
    outcome: str
    billed_wh: int
    waived_wh: int
    written_off_wh: int
    resolved_at: datetime
    resolved_by: str
    billed_export_wh: int = 0
    waived_export_wh: int = 0
    written_off_export_wh: int = 0
    quarantine_id: str | None = None
    why: str | None = None

    @property
    def key(self) -> str:
        """Party and session."""
        return f"{self.party_id}/{self.session_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementEvent(Event):
    """Base of facts under one agreement."""

    topic: ClassVar[str] = CDRS
    agreement_id: str
    cpo_id: PartyId
    emsp_id: PartyId

    @property
    def key(self) -> str:
        """The agreement with its parties, for its id is what they alone call it: another pair's may be the same."""
        return f"{self.cpo_id.code}/{self.emsp_id.code}/{self.agreement_id}"


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementSigned(AgreementEvent):
    """A party that is hosted here (`holder`) has a version of the agreement with both signatures."""

    wire_name: ClassVar[str] = "cdrs.agreement_signed.v1"
    holder: PartyId
    agreement: RoamingAgreement
    signed_at: datetime


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class CDRIssued(AgreementEvent):
    """A CPO closed and priced a session, or credited an earlier CDR (`cdr.is_credit`)."""

    wire_name: ClassVar[str] = "cdrs.cdr_issued.v1"
    cdr: CDR


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class CDRReceived(AgreementEvent):
    """An MSP has the document; receipt of a document is not acceptance of a debt."""

    wire_name: ClassVar[str] = "cdrs.cdr_received.v1"
    cdr: CDR
    received_at: datetime


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class CDRAccepted(AgreementEvent):
    """An MSP owes what the CDR says: it re-priced it, or the dispute period ran out (`is_deemed`).

    `commitment` stands for the evidence record of the driver's receipt, which only the MSP has; `meter` for the meter's
    signed records, if there are any.
    """

    wire_name: ClassVar[str] = "cdrs.cdr_accepted.v1"
    cdr: CDR
    accepted_at: datetime
    is_deemed: bool = False
    commitment: bytes | None = None
    meter: MeterCommitted | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CDRAcceptedFigures(AgreementEvent):
    """A view of `CDRAccepted`: what settles of it."""

    wire_name: ClassVar[str] = CDRAccepted.wire_name
    cdr: CDRFigures
    accepted_at: datetime
    commitment: bytes | None = None
    meter: MeterCommitted | None = None


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class CDRWithdrawn(AgreementEvent):
    """A CPO credited a CDR that its MSP had not accepted: of the two nothing is owed, either way.

    The credit of an accepted CDR is `CDRAccepted` itself, so the accepted ones of an agreement add up to what is owed.
    """

    wire_name: ClassVar[str] = "cdrs.cdr_withdrawn.v1"
    cdr_id: str
    credit_id: str
    withdrawn_at: datetime


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class CDRDisputed(AgreementEvent):
    """An MSP quarrels with a CDR, for a machine-readable reason."""

    wire_name: ClassVar[str] = "cdrs.cdr_disputed.v1"
    cdr_id: str
    reason: str
    detail: str
    disputed_at: datetime
    expected_e4: int | None = None
    stated_e4: int | None = None
    clause: str | None = None
