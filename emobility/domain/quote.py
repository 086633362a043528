"""What an MSP offers its driver before a charge: a signed price, frozen, with an estimate and a sheet people can read.

A quote binds one driver, one connector and one retail tariff version for a short time. The bill is that tariff applied
to what was metered, so the price per kWh of the quote is the price per kWh of the bill; the estimate is only an
estimate, and says on what it rests. No wholesale term is in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from emobility.domain.errors import RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.domain.money import Price, decimal_from_e4
from emobility.domain.tariff.tariff import (
    PriceComponent,
    Tariff,
    TariffDimension,
    TariffRestrictions,
)
from emobility.domain.tariff.version import tariff_hash

CANONICAL_FORM: Final = "wattroam-quote-1"
_HUNDRED: Final = Decimal(100)
_MINUTES: Final = Decimal(60)


class QuoteExpired(RuleBroken):
    """The quote's validity is over; ask for a new one."""

    def __init__(self, *, quote_id: str, valid_until: datetime) -> None:
        self.quote_id = quote_id
        self.valid_until = valid_until
        super().__init__(f"quote {quote_id} was valid until {valid_until.isoformat()}")


class QuoteTampered(RuleBroken):
    """The quote is not what its MSP signed."""

    def __init__(self, *, quote_id: str) -> None:
        self.quote_id = quote_id
        super().__init__(f"quote {quote_id} does not carry its MSP's signature")


class QuoteOfAnother(RuleBroken):
    """The quote was given to another driver or by another MSP."""

    def __init__(self, *, quote_id: str) -> None:
        self.quote_id = quote_id
        super().__init__(f"quote {quote_id} was not given to this driver")


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a charge would cost under assumptions the driver can read; `total` is gross where the tariff knows VAT."""

    energy_wh: int
    charging_s: int
    parking_s: int
    total: Price

    @property
    def gross_e4(self) -> int:
        """What the driver would pay, in ten-thousandths."""
        return gross_e4(self.total)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetailQuote:
    """An offer of `emsp_id` to one driver, for one connector, under one frozen retail tariff.

    Attributes:
        quote_id: Also the `authorization_reference` of the session, so at most 36 characters.
        time_zone: Of the location; decides local times in the tariff.
        tariff: Retail, in force for this charge whatever changes afterwards.
        estimate: None where nothing is known about the charge (a card held to a station).
        signature: The MSP's Ed25519 signature over `signing_bytes`, hex.
    """

    quote_id: str
    emsp_id: PartyId
    driver_id: str
    plan_id: str
    cpo_id: PartyId
    location_id: str
    evse_uid: str
    connector_id: str
    time_zone: str
    issued_at: datetime
    valid_until: datetime
    tariff: Tariff
    estimate: Estimate | None
    signature: str | None = None

    @property
    def tariff_hash(self) -> str:
        """Names the frozen tariff version."""
        return tariff_hash(self.tariff)


def gross_e4(price: Price) -> int:
    """Return what a driver pays: after tax where tax is stated, else the price itself."""
    return price.excl_e4 if price.incl_e4 is None else price.incl_e4


def signing_bytes(quote: RetailQuote) -> bytes:
    """Return what the MSP signs: compact JSON with sorted keys; the tariff goes in by its hash."""
    estimate = quote.estimate
    document = {
        "form": CANONICAL_FORM,
        "quote_id": quote.quote_id,
        "emsp_id": quote.emsp_id.code,
        "driver_id": quote.driver_id,
        "plan_id": quote.plan_id,
        "cpo_id": quote.cpo_id.code,
        "location_id": quote.location_id,
        "evse_uid": quote.evse_uid,
        "connector_id": quote.connector_id,
        "time_zone": quote.time_zone,
        "issued_at": quote.issued_at.isoformat(),
        "valid_until": quote.valid_until.isoformat(),
        "tariff_hash": quote.tariff_hash,
        "currency": quote.tariff.currency,
        "estimate": None
        if estimate is None
        else {
            "energy_wh": estimate.energy_wh,
            "charging_s": estimate.charging_s,
            "parking_s": estimate.parking_s,
            "excl_e4": estimate.total.excl_e4,
            "incl_e4": estimate.total.incl_e4,
        },
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def refuse_unusable(quote: RetailQuote, *, driver_id: str, emsp_id: PartyId, is_signed: bool, now: datetime) -> None:
    """Let a quote pass that may start a charge now.

    Args:
        quote: As presented or stored.
        driver_id: Who wants to use it.
        emsp_id: At which MSP.
        is_signed: Whether its signature is the MSP's over `signing_bytes`.
        now: Business time.

    Raises:
        QuoteOfAnother: it was given to another driver, or by another MSP.
        QuoteTampered: it is not what was signed.
        QuoteExpired: its validity is over.
    """
    if (quote.driver_id, quote.emsp_id) != (driver_id, emsp_id):
        raise QuoteOfAnother(quote_id=quote.quote_id)
    if not is_signed:
        raise QuoteTampered(quote_id=quote.quote_id)
    if now >= quote.valid_until:
        raise QuoteExpired(quote_id=quote.quote_id, valid_until=quote.valid_until)


# The price sheet

SECTIONS: Final = ("per kWh", "per minute", "per session", "other")
"""Regulation (EU) 2023/1804 (AFIR), art. 5(4): ad hoc price components in this order; we keep it for every quote."""
_SECTION_OF: Final = {
    TariffDimension.ENERGY: 0,
    TariffDimension.TIME: 1,
    TariffDimension.PARKING_TIME: 1,
    TariffDimension.FLAT: 2,
}
_WHAT: Final = {
    TariffDimension.ENERGY: "energy",
    TariffDimension.TIME: "while charging",
    TariffDimension.PARKING_TIME: "while plugged in without charging",
    TariffDimension.FLAT: "starting fee",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceSheetLine:
    """One price component in words. `price` is gross, exact, per `unit`; None for a line that is no price."""

    section: str
    what: str
    price: Decimal | None
    currency: str
    unit: str
    vat_percent: Decimal | None
    condition: str
    step: str = ""

    @property
    def text(self) -> str:
        """The line as one sentence without a full stop."""
        price = "" if self.price is None else f"{_plain(self.price)} {self.currency} {self.unit} "
        vat = "" if self.vat_percent is None else f", incl. {_plain(self.vat_percent)} % VAT"
        return f"{price}{self.what}{vat}{self.step}{f' ({self.condition})' if self.condition else ''}"


def price_sheet(tariff: Tariff, *, time_zone: str) -> tuple[PriceSheetLine, ...]:
    """Write every component of a tariff for people, per kWh first, then per minute, per session, other.

    Prices are gross and exact; one per minute that has no finite decimal (a third of a cent) is shown to eight places.
    """
    lines = [
        _component_line(tariff, component, element.restrictions)
        for element in tariff.elements
        for component in element.components
    ]
    lines += _other_lines(tariff, time_zone)
    return tuple(sorted(lines, key=lambda line: SECTIONS.index(line.section)))  # sorted() keeps the tariff's own order


def _component_line(tariff: Tariff, component: PriceComponent, restrictions: TariffRestrictions) -> PriceSheetLine:
    section = 3 if restrictions.reservation is not None else _SECTION_OF[component.dimension]
    gross = component.price * (_HUNDRED + (component.vat_percent or Decimal(0))) / _HUNDRED
    per_hour = component.dimension in {TariffDimension.TIME, TariffDimension.PARKING_TIME}
    unit = "per minute" if per_hour else "per kWh" if component.dimension is TariffDimension.ENERGY else "per session"
    price = (gross / _MINUTES).quantize(Decimal("1e-8")) if per_hour else gross
    return PriceSheetLine(
        section=SECTIONS[section],
        what=_WHAT[component.dimension] if section != 3 else "for a reservation",
        price=price,
        currency=tariff.currency,
        unit=unit,
        vat_percent=component.vat_percent,
        condition="; ".join(_conditions(restrictions)),
        step=_step(component),
    )


def _step(component: PriceComponent) -> str:
    if component.step_size <= 1 or component.dimension is TariffDimension.FLAT:
        return ""
    if component.dimension is TariffDimension.ENERGY:
        return f", billed in steps of {_plain(Decimal(component.step_size).scaleb(-3))} kWh"
    return f", billed in steps of {component.step_size} s"


def _other_lines(tariff: Tariff, time_zone: str) -> Iterator[PriceSheetLine]:
    def other(what: str) -> PriceSheetLine:
        return PriceSheetLine(
            section=SECTIONS[3],
            what=what,
            price=None,
            currency=tariff.currency,
            unit="",
            vat_percent=None,
            condition="",
        )

    for word, limit in (("at least", tariff.price_min), ("at most", tariff.price_max)):
        if limit is not None:
            yield other(f"{word} {decimal_from_e4(gross_e4(limit))} {tariff.currency} in total")
    if any(element.restrictions != TariffRestrictions() for element in tariff.elements):
        yield other(f"times are local time at the station ({time_zone})")


def _conditions(r: TariffRestrictions) -> Sequence[str]:
    found: list[str] = []
    if r.start_date is not None and r.start_time is not None and _is_within_a_day(r):
        found.append(f"{r.start_date:%Y-%m-%d} {r.start_time:%H:%M}-{r.end_time:%H:%M}")
    else:
        found += _range("", r.start_date, r.end_date)
        found += _range("", r.start_time and f"{r.start_time:%H:%M}", r.end_time and f"{r.end_time:%H:%M}")
    if r.days_of_week:
        found.append(", ".join(day.value.title() for day in r.days_of_week))
    found += _range(" kWh", _kilo(r.energy_wh_min), _kilo(r.energy_wh_max))
    found += _range(" kW", _kilo(r.power_w_min), _kilo(r.power_w_max))
    found += _range(" A", r.current_a_min, r.current_a_max)
    found += _range(" min", _minutes(r.duration_s_min), _minutes(r.duration_s_max))
    return found


def _is_within_a_day(r: TariffRestrictions) -> bool:
    if r.start_date is None or r.end_date is None or r.end_time is None:
        return False
    return (r.end_date - r.start_date).days == 1


def _kilo(value: int | None) -> str | None:
    return None if value is None else _plain(Decimal(value).scaleb(-3))


def _minutes(value_s: int | None) -> str | None:
    return None if value_s is None else _plain((Decimal(value_s) / _MINUTES).quantize(Decimal("0.01")))


def _range(unit: str, low: object, high: object) -> list[str]:
    if low is None and high is None:
        return []
    if low is None:
        return [f"before {high}{unit}"]
    return [f"from {low}{unit}" if high is None else f"from {low} to {high}{unit}"]


def _plain(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
