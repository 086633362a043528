"""A tariff as a price sheet for people, and the plain form it is written from.

`normalised` drops and joins what makes no difference to any price; what it returns charges every session the same,
which is tested on generated ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import time
from decimal import Decimal
from typing import Final

from emobility.domain.money import Price, decimal_from_e4
from emobility.domain.tariff.conditions import conditions, duration, plain
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

_EVER: Final = TariffRestrictions()
_RESERVED: Final = (TariffDimension.FLAT, TariffDimension.TIME)
_SECTIONS: Final = (
    (TariffDimension.FLAT, None, "Per session"),
    (TariffDimension.ENERGY, None, "Energy"),
    (TariffDimension.TIME, None, "Charging time"),
    (TariffDimension.PARKING_TIME, None, "Parking time"),
    (TariffDimension.FLAT, Reservation.RESERVATION, "Per reservation"),
    (TariffDimension.TIME, Reservation.RESERVATION, "Reservation time"),
    (TariffDimension.FLAT, Reservation.RESERVATION_EXPIRES, "Per reservation that expires"),
    (TariffDimension.TIME, Reservation.RESERVATION_EXPIRES, "Time of a reservation that expires"),
)
_PER: Final = {
    TariffDimension.ENERGY: " per kWh",
    TariffDimension.TIME: " per hour",
    TariffDimension.PARKING_TIME: " per hour",
    TariffDimension.FLAT: "",
}
_TAX: Final = {
    TaxIncluded.YES: "tax included",
    TaxIncluded.NO: "before tax",
    TaxIncluded.NOT_APPLICABLE: "no tax applicable",
}


def price_sheet(tariff: Tariff) -> str:
    """Write out in English what a tariff charges, a price a line; of several the first that applies counts."""
    return "\n".join(_sheet(normalised(tariff)))


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


def _sheet(tariff: Tariff) -> Iterator[str]:
    yield f"Tariff {tariff.tariff_id} of {tariff.party_id}: prices in {tariff.currency}, {_TAX[tariff.tax_included]}"
    if not any(component.price for element in tariff.elements for component in element.components):
        yield "Free of charge"
    for dimension, kind, title in _SECTIONS:
        lines = [*_section(tariff, dimension, kind)]
        yield from (f"{title}: {line}" for line in lines)
    for limit, word in ((tariff.price_min, "At least"), (tariff.price_max, "At most")):
        if limit is not None:
            yield f"{word} {_limit(limit)} per session"
    for moment, word in ((tariff.valid_from, "Valid from"), (tariff.valid_until, "Valid until")):
        if moment is not None:
            yield f"{word} {moment:%Y-%m-%d %H:%M} UTC"
    if tariff.text_en:
        yield tariff.text_en


def _section(tariff: Tariff, dimension: TariffDimension, kind: Reservation | None) -> Iterator[str]:
    is_first = True
    for element in tariff.elements:
        if element.restrictions.reservation is not kind:
            continue
        for component in element.components:
            if component.dimension is dimension:
                when = conditions(replace(element.restrictions, reservation=None))
                yield _component(component) + (", ".join(["", *when]) if when else "" if is_first else ", otherwise")
                is_first = False


def _component(component: PriceComponent) -> str:
    dimension, step = component.dimension, component.step_size
    vat = "" if component.vat_percent is None else f" ({plain(component.vat_percent)} % VAT)"
    if step > 1 and dimension is not TariffDimension.FLAT:
        size = f"{plain(Decimal(step).scaleb(-3))} kWh" if dimension is TariffDimension.ENERGY else duration(step)
        return f"{plain(component.price)}{_PER[dimension]}{vat}, billed per {size}"
    return f"{plain(component.price)}{_PER[dimension]}{vat}"


def _limit(limit: Price) -> str:
    excl = f"{plain(decimal_from_e4(limit.excl_e4))} before tax"
    return excl if limit.incl_e4 is None else f"{excl}, {plain(decimal_from_e4(limit.incl_e4))} after tax"
