"""The charge detail record: closed, priced, immutable; corrected only by a credit CDR and perhaps a replacement."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Final

from emobility.domain.charging_station import PowerType
from emobility.domain.errors import RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.domain.money import Price
from emobility.domain.personal import Sealed
from emobility.domain.session import AuthMethod, ChargingPeriod, SessionToken
from emobility.domain.tariff.rounding import RoundingPolicyName
from emobility.domain.tariff.selection import only_reserves
from emobility.domain.tariff.tariff import Tariff
from emobility.domain.tariff.taxes import TaxAmount

ENERGY_ALONE: Final = "the meter's clock was not synchronised: energy alone is billed, no time"
"""Remark of a CDR whose periods state no time: the meter proves how much, not how long."""


class CreditOfACredit(RuleBroken):
    """A credit CDR can't be credited; issue a new CDR instead."""

    def __init__(self, *, cdr_id: str) -> None:
        self.cdr_id = cdr_id
        super().__init__(f"CDR {cdr_id} is a credit itself")


@dataclass(frozen=True, slots=True, kw_only=True)
class CDRLocation:
    """Where the charge took place, frozen into the document (OCPI 2.2.1, 10.4.3)."""

    location_id: str
    name: str
    address: str
    city: str
    postal_code: str
    country: str
    latitude: Decimal
    longitude: Decimal
    time_zone: str
    evse_uid: str
    emi3_id: str
    connector_id: int
    connector_standard: str
    power_type: PowerType


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedMeterData:
    """Signed records of the charge, sealed because they may name the driver (OCPI 2.2.1, 10.4.6).

    `records` holds the original bytes as text, never reformatted, in the order the meter wrote them.
    """

    encoding_method: str
    public_key: str
    records: tuple[Sealed, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CDRFigures:
    """What settles of a CDR; each field as it is called there."""

    party_id: PartyId
    cdr_id: str
    session_id: str
    ended_at: datetime
    currency: str
    total_cost: Price
    total_energy_import_wh: int
    total_energy_export_wh: int
    signed_data: SignedMeterData | None = None
    is_credit: bool = False
    credit_reference_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CDR:
    """A CDR of `party_id` (the CPO) for an eMSP, priced wholesale and net of tax.

    Energy is in Wh and positive also in a credit, whose Wh count with a minus sign (`signed_energy_import_wh`).

    Attributes:
        session_id: Of a reservation that expired and never became a session, `#NA/` and the CDR's id.
        started_at: Start of the session, or of the reservation before it (OCPI 2.2.1, 10.3.1).
        tariff: The tariff, or the first of them.
        further_tariffs: Where several price the session, the others; each period then names its own.
        total_reservation_cost: FLAT and TIME of the reservation.
        taxes: The taxes in `total_cost` by name, where the document names them (OCPI 2.3.0).
        rounding_policy: What its CPO rounded by, which the agreement states and OCPI does not; None: `EXACT`.
    """

    party_id: PartyId
    cdr_id: str
    session_id: str
    started_at: datetime
    ended_at: datetime
    token: SessionToken
    auth_method: AuthMethod
    authorization_reference: str | None
    location: CDRLocation
    currency: str
    tariff: Tariff
    tariff_hash: str
    periods: tuple[ChargingPeriod, ...]
    total_cost: Price
    total_fixed_cost: Price | None
    total_energy_cost: Price | None
    total_time_cost: Price | None
    total_parking_cost: Price | None
    total_energy_import_wh: int
    total_energy_export_wh: int
    total_charging_s: int
    total_parking_s: int
    signed_data: SignedMeterData | None
    issued_at: datetime
    is_credit: bool = False
    credit_reference_id: str | None = None
    remark: str | None = None
    total_reservation_cost: Price | None = None
    further_tariffs: tuple[Tariff, ...] = ()
    taxes: tuple[TaxAmount, ...] = ()
    rounding_policy: RoundingPolicyName | None = None

    @property
    def charging_started_at(self) -> datetime:
        """When the driver came, and prices and terms were frozen: after a reservation, if there was one."""
        first = min(self.periods, key=lambda period: period.started_at, default=None)
        if first is None or not only_reserves(first):
            return self.started_at
        used = (period.started_at for period in self.periods if not only_reserves(period))
        return min(used, default=self.started_at)

    @property
    def is_energy_alone(self) -> bool:
        """Whether its remark says that no time is billed, as no meter vouches for it."""
        return self.remark is not None and ENERGY_ALONE in self.remark

    @property
    def tariffs(self) -> tuple[Tariff, ...]:
        """All tariffs that price it."""
        return (self.tariff, *self.further_tariffs)

    @property
    def signed_energy_import_wh(self) -> int:
        """Wh as they count in totals: negative for a credit."""
        return -self.total_energy_import_wh if self.is_credit else self.total_energy_import_wh


def credit_of(original: CDR, *, cdr_id: str, issued_at: datetime, remark: str) -> CDR:
    """Return the credit that takes `original` back whole: own id, its data, its total cost negated.

    OCPI (mod_cdrs, "Credit CDRs") negates `total_cost` alone; the costs of the parts stay as they were.

    Raises:
        CreditOfACredit: `original` is a credit.
    """
    if original.is_credit:
        raise CreditOfACredit(cdr_id=original.cdr_id)
    return replace(
        original,
        cdr_id=cdr_id,
        issued_at=issued_at,
        remark=remark,
        is_credit=True,
        credit_reference_id=original.cdr_id,
        total_cost=-original.total_cost,
        taxes=tuple(-tax for tax in original.taxes),
    )
