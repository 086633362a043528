"""A tariff as a price sheet for people, and the plain form it is written from.

`normalised` drops and joins what makes no difference to any price; what it returns charges every session the same,
which is tested on generated ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import time
from decimal import Decimal
from typing import Final

from emobility.domain.money import decimal_from_e4
from emobility.domain.tariff.conditions import conditions, plain
from emobility.domain.tariff.selection import states_rate
from emobility.domain.tariff.tariff import (
    DayOfWeek,
    PriceComponent,
    Reservation,
    Tariff,
    TariffDimension,
    TariffElement,
    TariffRestrictions,
    TaxIncluded,
)

SECTIONS: Final = ("per kWh", "per minute", "per session", "other")
"""Regulation (EU) 2023/1804 (AFIR), art. 5(4): ad hoc price components in this order; we keep it for every tariff."""
_HUNDRED: Final = Decimal(100)
_MINUTES: Final = Decimal(60)
_EVER: Final = TariffRestrictions()
_RESERVED: Final = (TariffDimension.FLAT, TariffDimension.TIME)
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
_RESERVATIONS: Final = {
    Reservation.RESERVATION: "for a reservation",
    Reservation.RESERVATION_EXPIRES: "for a reservation that expires",
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
    tax: str = ""

    @property
    def text(self) -> str:
        """The line as one sentence without a full stop."""
        price = "" if self.price is None else f"{plain(self.price)} {self.currency} {self.unit} "
        vat = self.tax if self.vat_percent is None else f", incl. {plain(self.vat_percent)} % VAT"
        return f"{price}{self.what}{vat}{self.step}{f' ({self.condition})' if self.condition else ''}"


def price_sheet(tariff: Tariff, *, time_zone: str) -> tuple[PriceSheetLine, ...]:
    """Write every component of a tariff's plain form for people, per kWh first, then per minute, per session, other.

    Of several that fit a moment the first applies. Prices are gross and exact; one per minute that has no finite
    decimal (a third of a cent) is shown to eight places.
    """
    shown = normalised(tariff)
    lines = [
        _component_line(shown, component, element.restrictions)
        for element in shown.elements
        for component in element.components
    ]
    lines += _other_lines(shown, time_zone)
    return tuple(sorted(lines, key=lambda line: SECTIONS.index(line.section)))  # sorted() keeps the tariff's own order


def price_sheet_text(tariff: Tariff, *, time_zone: str) -> str:
    """Return the price sheet as one text, a line each, under the tariff's name and the moments it is valid."""
    lines = [f"Tariff {tariff.tariff_id} of {tariff.party_id}, in {tariff.currency}"]
    for moment, word in ((tariff.valid_from, "valid from"), (tariff.valid_until, "valid until")):
        if moment is not None:
            lines.append(f"{word} {moment:%Y-%m-%d %H:%M} UTC")
    lines += [line.text for line in price_sheet(tariff, time_zone=time_zone)]
    if tariff.text_en:
        lines.append(tariff.text_en)
    return "\n".join(lines)


def normalised(tariff: Tariff) -> Tariff:
    """Return the plainest tariff that charges every session the same: what can never apply is gone."""
    elements: list[TariffElement] = []
    always: set[tuple[Reservation | None, TariffDimension]] = set()
    for element in tariff.elements:
        restrictions = _plain_restrictions(element.restrictions)
        if _never_holds(restrictions):
            continue
        kind = restrictions.reservation
        components: dict[TariffDimension, PriceComponent] = {}
        for component in element.components:
            is_allowed = kind is None or component.dimension in _RESERVED
            if is_allowed and (kind, component.dimension) not in always:
                components.setdefault(component.dimension, _plain_component(component))
        if restrictions == replace(_EVER, reservation=kind):
            always.update((kind, dimension) for dimension in components)
        _append(elements, restrictions, components)
    return replace(tariff, elements=tuple(elements))


def _append(
    elements: list[TariffElement], restrictions: TariffRestrictions, components: dict[TariffDimension, PriceComponent]
) -> None:
    if not components:
        return
    if elements and elements[-1].restrictions == restrictions:
        there = {component.dimension for component in elements[-1].components}
        more = tuple(component for component in components.values() if component.dimension not in there)
        elements[-1] = replace(elements[-1], components=elements[-1].components + more)
    else:
        elements.append(TariffElement(components=tuple(components.values()), restrictions=restrictions))


def _plain_component(component: PriceComponent) -> PriceComponent:
    is_flat = component.dimension is TariffDimension.FLAT
    return replace(component, step_size=1 if is_flat else component.step_size or 1)


def _plain_restrictions(r: TariffRestrictions) -> TariffRestrictions:
    is_whole_day = (r.start_time or time.min) == (r.end_time or time.min)
    days = tuple(day for day in DayOfWeek if day in r.days_of_week)
    return replace(
        r,
        start_time=None if is_whole_day or r.start_time == time.min else r.start_time,
        end_time=None if is_whole_day or r.end_time == time.min else r.end_time,
        duration_s_min=r.duration_s_min or None,
        days_of_week=() if len(days) == len(DayOfWeek) else days,
    )


def _never_holds(r: TariffRestrictions) -> bool:
    """A minimum is included and a maximum is not, so where they meet nothing lies between."""
    if r.duration_s_max is not None and r.duration_s_max <= 0:
        return True
    pairs: tuple[tuple[Decimal | int | None, Decimal | int | None], ...] = (
        (r.energy_wh_min, r.energy_wh_max),
        (r.current_a_min, r.current_a_max),
        (r.power_w_min, r.power_w_max),
        (r.duration_s_min, r.duration_s_max),
    )
    is_empty = any(low is not None and high is not None and low >= high for low, high in pairs)
    return is_empty or (r.start_date is not None and r.end_date is not None and r.start_date >= r.end_date)


def _component_line(tariff: Tariff, component: PriceComponent, restrictions: TariffRestrictions) -> PriceSheetLine:
    dimension, reservation = component.dimension, restrictions.reservation
    per_hour = dimension in {TariffDimension.TIME, TariffDimension.PARKING_TIME}
    unit = "per minute" if per_hour else "per kWh" if dimension is TariffDimension.ENERGY else "per session"
    vat_percent = component.vat_percent if states_rate(tariff, component) else None
    gross = component.price
    if vat_percent is not None and tariff.tax_included is TaxIncluded.NO:
        gross = component.price * (_HUNDRED + vat_percent) / _HUNDRED
    return PriceSheetLine(
        section=SECTIONS[3 if reservation is not None else _SECTION_OF[dimension]],
        what=_WHAT[dimension] if reservation is None else _RESERVATIONS[reservation],
        price=(gross / _MINUTES).quantize(Decimal("1e-8")) if per_hour else gross,
        currency=tariff.currency,
        unit=unit,
        vat_percent=vat_percent,
        condition="; ".join(conditions(restrictions)),
        step=_step(component),
        tax=", incl. tax" if tariff.tax_included is TaxIncluded.YES else "",
    )


def _step(component: PriceComponent) -> str:
    if component.step_size <= 1 or component.dimension is TariffDimension.FLAT:
        return ""
    if component.dimension is TariffDimension.ENERGY:
        return f", billed in steps of {plain(Decimal(component.step_size).scaleb(-3))} kWh"
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
            gross_e4 = limit.excl_e4 if limit.incl_e4 is None else limit.incl_e4
            yield other(f"{word} {decimal_from_e4(gross_e4)} {tariff.currency} in total")
    if any(element.restrictions != _EVER for element in tariff.elements):
        yield other(f"times are local time at the station ({time_zone})")
