"""What operators see of the rows: typed, so that the API's document is true, and with nothing personal in it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from emobility.domain.agreement import RoamingAgreement
from emobility.domain.charging_station import EVSE, EVSEStatus
from emobility.domain.identifiers import PartyId
from emobility.domain.money import Price
from emobility.domain.session import SessionStatus
from emobility.protocols.station_control.messages import CommandResult
from services.charging_operations.ledger import Ledger
from services.charging_operations.records import AgreementState, CDRRecord, SessionRecord, StationRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """The key that agreements are signed with, Ed25519 in hex."""

    party_id: PartyId
    public_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StationNamed:
    """The station it was done to."""

    charging_station_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PartyNamed:
    """The party it was done to."""

    party_id: PartyId


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandAnswer:
    """What became of a CALL: `answer` is the station's whole CALLRESULT, `detail` its own word or why there is none."""

    result: CommandResult
    detail: str | None
    answer: dict[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementShown:
    """An agreement with the signatures known so far."""

    state: AgreementState
    agreement: RoamingAgreement


@dataclass(frozen=True, slots=True, kw_only=True)
class EVSEShown:
    """An EVSE and what it was last reported to do."""

    evse: EVSE
    status: EVSEStatus | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StationShown:
    """A charging station; `tariff_ids` are sold there, none named: all of the CPO's."""

    charging_station_id: str
    location_id: str
    tariff_ids: tuple[str, ...]
    evses: tuple[EVSEShown, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeShown:
    """What a station told, without persons; `payload` is None where whom it names was erased."""

    notice_id: str
    occurred_at: datetime
    ocpp_version: str
    action: str
    payload: dict[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionShown:
    """A session; energy in Wh, the cost net of tax and so far."""

    session_id: str
    emsp_id: PartyId
    status: SessionStatus
    started_at: datetime
    ended_at: datetime | None
    evse_uid: str
    energy_import_wh: int
    energy_export_wh: int
    currency: str
    total_cost: Price | None
    tariff_hash: str
    charging_station_id: str
    transaction_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CDRShown:
    """A CDR or credit; energy in Wh, the cost net of tax. `credited_by` names the credit that took it back."""

    cdr_id: str
    session_id: str
    emsp_id: PartyId
    is_credit: bool
    credit_reference_id: str | None
    credited_by: str | None
    started_at: datetime
    ended_at: datetime
    energy_import_wh: int
    energy_export_wh: int
    currency: str
    total_cost: Price
    tariff_id: str
    tariff_hash: str
    is_signed: bool
    remark: str | None
    issued_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyShown:
    """The ledger of one direction; a difference other than 0 Wh is a defect of ours."""

    ledger: Ledger
    difference_wh: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditShown:
    """The credit that took a CDR back, and what replaces it."""

    credit_id: str
    replacement_id: str | None


def shown_station(row: StationRecord, status: dict[str, EVSEStatus]) -> StationShown:
    """Return a station with the status of each EVSE, by its uid."""
    return StationShown(
        charging_station_id=row.charging_station_id,
        location_id=row.location_id,
        tariff_ids=row.tariff_ids,
        evses=tuple(EVSEShown(evse=evse, status=status.get(evse.evse_uid)) for evse in row.station.evses),
    )


def shown_session(row: SessionRecord) -> SessionShown:
    """Return a session without its token."""
    session = row.session
    return SessionShown(
        session_id=row.session_id,
        emsp_id=row.emsp_id,
        status=session.status,
        started_at=session.started_at,
        ended_at=session.ended_at,
        evse_uid=session.evse_uid,
        energy_import_wh=session.energy_import_wh,
        energy_export_wh=session.energy_export_wh,
        currency=session.currency,
        total_cost=session.total_cost,
        tariff_hash=session.tariff_hash,
        charging_station_id=row.charging_station_id,
        transaction_id=row.transaction_id,
    )


def shown_cdr(row: CDRRecord) -> CDRShown:
    """Return a CDR without its token and signed records."""
    cdr = row.cdr
    return CDRShown(
        cdr_id=row.cdr_id,
        session_id=row.session_id,
        emsp_id=row.emsp_id,
        is_credit=row.is_credit,
        credit_reference_id=cdr.credit_reference_id,
        credited_by=row.credited_by,
        started_at=cdr.started_at,
        ended_at=cdr.ended_at,
        energy_import_wh=row.energy_import_wh,
        energy_export_wh=row.energy_export_wh,
        currency=cdr.currency,
        total_cost=cdr.total_cost,
        tariff_id=cdr.tariff.tariff_id,
        tariff_hash=cdr.tariff_hash,
        is_signed=cdr.signed_data is not None,
        remark=cdr.remark,
        issued_at=cdr.issued_at,
    )
