"""A tariff as OCPI 2.2.1 and 2.3.0 state it (mod_tariffs, section 11), in exact numbers.

A price that follows a market is written out as one element per interval of the price (`start_date`, `start_time`),
so a partner that holds nothing but the OCPI document prices the same session to the same ten-thousandth.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import StrEnum

from emobility.domain.identifiers import PartyId
from emobility.domain.money import Price


class TariffDimension(StrEnum):
    """What a component charges for (OCPI 2.2.1, 11.4.6)."""

    ENERGY = "ENERGY"
    FLAT = "FLAT"
    PARKING_TIME = "PARKING_TIME"
    TIME = "TIME"


class TariffType(StrEnum):
    """For whom a tariff is meant (OCPI 2.2.1, 11.4.8)."""

    AD_HOC_PAYMENT = "AD_HOC_PAYMENT"
    PROFILE_CHEAP = "PROFILE_CHEAP"
    PROFILE_FAST = "PROFILE_FAST"
    PROFILE_GREEN = "PROFILE_GREEN"
    REGULAR = "REGULAR"


class DayOfWeek(StrEnum):
    """Days, Monday first, so that `list(DayOfWeek)[d.weekday()]` is the day of `d`."""

    MONDAY = "MONDAY"
    TUESDAY = "TUESDAY"
    WEDNESDAY = "WEDNESDAY"
    THURSDAY = "THURSDAY"
    FRIDAY = "FRIDAY"
    SATURDAY = "SATURDAY"
    SUNDAY = "SUNDAY"


class Reservation(StrEnum):
    """Restricts an element to reservations (OCPI 2.2.1, 11.4.3)."""

    RESERVATION = "RESERVATION"
    RESERVATION_EXPIRES = "RESERVATION_EXPIRES"


class TaxIncluded(StrEnum):
    """Whether the prices of a tariff hold the tax (OCPI 2.3.0, 11.4.9)."""

    YES = "YES"
    NO = "NO"
    """Tax comes on top, and so it is throughout OCPI 2.2.1."""
    NOT_APPLICABLE = "N/A"
    """No tax is due at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceComponent:
    """Price of one dimension: per kWh (ENERGY), per hour (TIME, PARKING_TIME) or once (FLAT).

    The price is net of tax unless the tariff says otherwise (`tax_included`).

    `step_size` is in Wh or seconds; 1 bills to the unit. `vat_percent` None: no tax applies or none is known.
    """

    dimension: TariffDimension
    price: Decimal
    step_size: int = 1
    vat_percent: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TariffRestrictions:
    """When an element applies; all that are given must hold (OCPI 2.2.1, 11.4.7).

    Times and dates are local to the location. `end_*` and `*_max` are exclusive, `start_*` and `*_min` inclusive.
    """

    start_time: time | None = None
    end_time: time | None = None
    start_date: date | None = None
    end_date: date | None = None
    energy_wh_min: int | None = None
    energy_wh_max: int | None = None
    current_a_min: Decimal | None = None
    current_a_max: Decimal | None = None
    power_w_min: int | None = None
    power_w_max: int | None = None
    duration_s_min: int | None = None
    duration_s_max: int | None = None
    days_of_week: tuple[DayOfWeek, ...] = ()
    reservation: Reservation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TariffElement:
    """Components that apply together while the restrictions hold."""

    components: tuple[PriceComponent, ...]
    restrictions: TariffRestrictions = TariffRestrictions()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """An immutable version of a tariff; a change is another object with a later `last_updated`.

    `party_id` owns it: a CPO for wholesale and ad hoc tariffs, an eMSP for retail ones. Limits are before and after
    tax each (2.3.0: `PriceLimit`), whatever `tax_included` says of the prices.
    """

    party_id: PartyId
    tariff_id: str
    currency: str
    elements: tuple[TariffElement, ...]
    last_updated: datetime
    tariff_type: TariffType | None = None
    price_min: Price | None = None
    price_max: Price | None = None
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    text_en: str | None = None
    tax_included: TaxIncluded = TaxIncluded.NO
