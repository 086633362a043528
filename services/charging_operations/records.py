"""Rows of the CPOs hosted here; every key begins with the CPO, so no row of one is ever found for another.

Personal fields (token uids, contract ids, signed records) are sealed wherever they stand, also inside nested records.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from emobility.domain.agreement import RoamingAgreement
from emobility.domain.cdr import CDR, CDRLocation
from emobility.domain.charging_station import ChargingStation, EVSEStatus, Location
from emobility.domain.identifiers import PartyId, Role
from emobility.domain.personal import Sealed
from emobility.domain.proposed_correction import ProposedCosts
from emobility.domain.session import AuthMethod, Session
from emobility.domain.tariff.market import MarketPrice, MarketTerms
from emobility.domain.tariff.tariff import Tariff
from emobility.domain.token import TokenType, Whitelist
from emobility.domain.transaction import Transaction, session_id_of
from emobility.ports.stores import TableSpec
from emobility.protocols.ocpi.v221 import CommandType


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedCPO:
    """A CPO whose back office this is."""

    party_id: PartyId
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LocationRecord:
    """A location of the CPO."""

    party_id: PartyId
    location_id: str
    location: Location
    last_updated: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StationRecord:
    """A charging station; `tariff_ids` are sold at its connectors, none named: all of the CPO's."""

    party_id: PartyId
    charging_station_id: str
    location_id: str
    station: ChargingStation
    tariff_ids: tuple[str, ...]
    last_updated: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class EVSERecord:
    """An EVSE, found by its number at the station or by its OCPI uid, and what it was last reported to do."""

    party_id: PartyId
    evse_uid: str
    charging_station_id: str
    location_id: str
    ocpp_evse_id: int
    status: EVSEStatus
    changed_at: datetime | None
    last_updated: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TariffVersion:
    """A version of a tariff; all are kept. It is in force until the next one is, or until its own end."""

    party_id: PartyId
    tariff_id: str
    in_force_from: datetime
    tariff_hash: str
    tariff: Tariff
    last_updated: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketRecord:
    """A tariff that follows a market: its terms and the prices known so far."""

    party_id: PartyId
    tariff_id: str
    terms: MarketTerms
    prices: tuple[MarketPrice, ...]


class AgreementState(StrEnum):
    """Life of an agreement version at the CPO."""

    PROPOSED = "PROPOSED"
    SIGNED = "SIGNED"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementRecord:
    """A version of an agreement with an eMSP; `emsp_public_key` (Ed25519, hex) is pinned when it is proposed."""

    party_id: PartyId
    agreement_id: str
    version: int
    emsp_id: PartyId
    state: AgreementState
    emsp_public_key: str
    agreement: RoamingAgreement


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriberRecord:
    """A navigation provider that is told of locations and ad hoc tariffs."""

    party_id: PartyId
    subscriber_id: PartyId
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRecord:
    """A token as its eMSP last pushed it; `token_subject` is `uid.subject`.

    `group_key`: keyed hash of eMSP and group, by which the tokens of one group are found; no other eMSP has the same.
    """

    party_id: PartyId
    emsp_id: PartyId
    token_subject: str
    token_type: TokenType
    uid: Sealed
    contract_id: Sealed
    issuer: str
    is_valid: bool
    whitelist: Whitelist
    last_updated: datetime
    group_id: Sealed | None = None
    group_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationRecord:
    """A decision about a token at a station, and the transaction it let begin.

    `emsp_id`, `uid` and `contract_id` are None where the token is unknown. `command_id`: the START_SESSION it is of.
    `group_key`: of the token.
    """

    party_id: PartyId
    authorization_id: str
    charging_station_id: str
    token_subject: str
    is_accepted: bool
    status: str
    reason: str
    may_cache: bool
    auth_method: AuthMethod
    decided_at: datetime
    ocpp_evse_id: int | None
    transaction_id: str | None
    remote_start_id: int | None
    authorization_reference: str | None
    emsp_id: PartyId | None
    token_type: TokenType | None
    uid: Sealed | None
    contract_id: Sealed | None
    command_id: str | None
    group_key: str | None = None


class TransactionState(StrEnum):
    """Where a transaction stands; energy of OPEN ones is open, of all others accounted for."""

    OPEN = "OPEN"
    BILLED = "BILLED"
    QUARANTINED = "QUARANTINED"
    RESOLVED = "RESOLVED"
    """Its quarantine was resolved without a CDR that stands."""
    DISMISSED = "DISMISSED"
    """Nobody was let in and nothing flowed: there is nothing to bill and nothing to explain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionRecord:
    """A transaction with all its reports. `session_id` is fixed by the first report that shows the start.

    `end_arrived_at`: when an end was first heard of, by our clock; what a station's clock says can't be later.
    """

    party_id: PartyId
    charging_station_id: str
    transaction_id: str
    state: TransactionState
    session_id: str | None
    ocpp_evse_id: int | None
    token_subject: str | None
    metered_import_wh: int
    metered_export_wh: int
    first_at: datetime
    last_at: datetime
    has_ended: bool
    end_arrived_at: datetime | None
    correlation_id: str
    updated_at: datetime
    transaction: Transaction

    @property
    def occupied_until(self) -> datetime:
        """Until when it held its EVSE: to its end, but no longer than until we heard of it."""
        return self.last_at if self.end_arrived_at is None else min(self.last_at, self.end_arrived_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecord:
    """A session as its eMSP may know it, with what was frozen when it started."""

    party_id: PartyId
    session_id: str
    emsp_id: PartyId
    charging_station_id: str
    transaction_id: str
    authorization_id: str
    agreement_id: str
    agreement_version: int
    tariff: Tariff
    location: CDRLocation
    session: Session
    revision: int
    last_updated: datetime
    pushed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CDRRecord:
    """A CDR or credit as issued; `credited_by` names the credit that took it back."""

    party_id: PartyId
    cdr_id: str
    session_id: str
    emsp_id: PartyId
    agreement_id: str
    is_credit: bool
    credited_by: str | None
    energy_import_wh: int
    energy_export_wh: int
    cdr: CDR
    last_updated: datetime


class QuarantineState(StrEnum):
    """Life of a quarantined amount of energy."""

    OPEN = "OPEN"
    BILLED = "BILLED"
    WAIVED = "WAIVED"
    WRITTEN_OFF = "WRITTEN_OFF"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineRecord:
    """Energy of a session that can't be trusted, with its reasons, until someone decides. The parts add up.

    `details` has one sentence per reason; the evidence is the transaction's reports, named by station and id.
    """

    party_id: PartyId
    quarantine_id: str
    session_id: str
    charging_station_id: str
    transaction_id: str
    state: QuarantineState
    reasons: tuple[str, ...]
    details: tuple[str, ...]
    energy_import_wh: int
    energy_export_wh: int
    quarantined_at: datetime
    billed_import_wh: int = 0
    waived_import_wh: int = 0
    written_off_import_wh: int = 0
    billed_export_wh: int = 0
    waived_export_wh: int = 0
    written_off_export_wh: int = 0
    resolved_at: datetime | None = None
    resolved_by: str | None = None
    resolved_why: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedSignedRecord:
    """A signed record, by the hash of what was signed, and the one session it proves."""

    party_id: PartyId
    payload_sha256: str
    session_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DisputedAmount:
    """An amount that an eMSP computes otherwise, in its words (`domain/cdr_difference.py`); indices count from 0."""

    part: str
    is_after_tax: bool
    cause: str
    expected_e4: int
    stated_e4: int
    period_index: int | None
    dimension: str | None
    element_index: int | None
    other_element_index: int | None
    rounding_policy: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DisputeRecord:
    """An eMSP's quarrel with a CDR; `answer` is the credit that settled it, if any. Amounts in ten-thousandths.

    `clause`: what it rests on, as the eMSP cites it. `differences`: where amounts come apart. `proposal`: the amounts
    of the replacement that would end it; None: the eMSP proposes none. `answer_by`: what is disputed is not owed
    where no credit answers by then; None: no time is agreed.
    """

    party_id: PartyId
    emsp_id: PartyId
    cdr_id: str
    reason: str
    detail: str
    expected_e4: int | None
    stated_e4: int | None
    received_at: datetime
    answer: str | None
    clause: str | None = None
    differences: tuple[DisputedAmount, ...] = ()
    proposal: ProposedCosts | None = None
    answer_by: datetime | None = None


class CommandState(StrEnum):
    """Life of an eMSP's command."""

    ACCEPTED = "ACCEPTED"
    SENT = "SENT"
    DONE = "DONE"
    REFUSED = "REFUSED"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRecord:
    """A command of an eMSP. `response_url` and the token are sealed; the token only until it was sent."""

    party_id: PartyId
    command_id: str
    emsp_id: PartyId
    kind: CommandType
    state: CommandState
    response: str
    result: str | None
    charging_station_id: str | None
    ocpp_evse_id: int | None
    connector_id: int | None
    transaction_id: str | None
    remote_start_id: int | None
    id_token: Sealed | None
    response_url: Sealed
    correlation_id: str
    received_at: datetime
    reservation_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StationNoticeRecord:
    """What a station told (`charging.station_notified`); the payload is sealed JSON in the words of its version."""

    party_id: PartyId
    charging_station_id: str
    notice_id: str
    ocpp_version: str
    action: str
    payload: Sealed
    occurred_at: datetime


STATION_NOTICE: Final = TableSpec(
    name="cpo_station_notice", record=StationNoticeRecord, key=("party_id", "charging_station_id", "notice_id")
)
CPO: Final = TableSpec(name="cpo_party", record=HostedCPO, key=("party_id",), is_reference=True)
LOCATION: Final = TableSpec(
    name="cpo_location", record=LocationRecord, key=("party_id", "location_id"), is_reference=True
)
STATION: Final = TableSpec(
    name="cpo_station", record=StationRecord, key=("party_id", "charging_station_id"), is_reference=True
)
EVSES: Final = TableSpec(
    name="cpo_evse",
    record=EVSERecord,
    key=("party_id", "evse_uid"),
    unique=(("party_id", "charging_station_id", "ocpp_evse_id"),),
)
TARIFF: Final = TableSpec(
    name="cpo_tariff_version", record=TariffVersion, key=("party_id", "tariff_id", "in_force_from")
)
NEWEST_TARIFF: Final = TableSpec(
    name="cpo_tariff", record=TariffVersion, key=("party_id", "tariff_id"), is_reference=True
)
"""The version of each tariff that came last in force, or will."""
MARKET: Final = TableSpec(name="cpo_market", record=MarketRecord, key=("party_id", "tariff_id"))
AGREEMENT: Final = TableSpec(
    name="cpo_agreement", record=AgreementRecord, key=("party_id", "agreement_id", "version"), is_reference=True
)
SUBSCRIBER: Final = TableSpec(
    name="cpo_subscriber", record=SubscriberRecord, key=("party_id", "subscriber_id"), is_reference=True
)
TOKEN: Final = TableSpec(
    name="cpo_token", record=TokenRecord, key=("party_id", "emsp_id", "token_subject", "token_type")
)
AUTHORIZATION: Final = TableSpec(
    name="cpo_authorization", record=AuthorizationRecord, key=("party_id", "authorization_id")
)
TRANSACTION: Final = TableSpec(
    name="cpo_transaction",
    record=TransactionRecord,
    key=("party_id", "charging_station_id", "transaction_id"),
)
SESSION: Final = TableSpec(name="cpo_session", record=SessionRecord, key=("party_id", "session_id"))
CDRS: Final = TableSpec(name="cpo_cdr", record=CDRRecord, key=("party_id", "cdr_id"))
QUARANTINE: Final = TableSpec(name="cpo_quarantine", record=QuarantineRecord, key=("party_id", "quarantine_id"))
USED_RECORD: Final = TableSpec(
    name="cpo_used_signed_record", record=UsedSignedRecord, key=("party_id", "payload_sha256")
)
DISPUTE: Final = TableSpec(name="cpo_dispute", record=DisputeRecord, key=("party_id", "emsp_id", "cdr_id"))
COMMAND: Final = TableSpec(name="cpo_command", record=CommandRecord, key=("party_id", "command_id"))


def session_id_for(record: TransactionRecord) -> str:
    """Return the session's id, also for a transaction whose start never came."""
    return record.session_id or session_id_of(
        record.party_id, record.charging_station_id, record.transaction_id, record.transaction.first_at
    )
