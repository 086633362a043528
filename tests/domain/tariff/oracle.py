"""A second pricer, written from the texts of OCPI to disagree with the engine where one of the two is wrong.

It shares nothing with `emobility.domain.tariff.pricing` but the shapes of the data. It is slow on purpose: it looks
at the whole tariff for every question, compares times as the strings OCPI writes, knows the European clock change as a
rule instead of a database, adds missing step units one at a time, and computes in fractions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import NamedTuple

from emobility.domain.money import Price
from emobility.domain.session import ChargingPeriod
from emobility.domain.tariff.tariff import PriceComponent, Tariff, TariffElement, TaxIncluded

STANDARD_OFFSET_H = {
    "Europe/Amsterdam": 1,
    "Europe/Berlin": 1,
    "Europe/Lisbon": 0,
    "Europe/Helsinki": 2,
}

Bill = dict[str, Price | None]
Consumed = tuple[Tariff, PriceComponent, int | Fraction]
"""How much of a component was used, and whose it is."""
Entry = tuple[str, Tariff, PriceComponent, Fraction]


class Situation(NamedTuple):
    """What a restriction can look at."""

    period: ChargingPeriod
    at: datetime
    first: datetime
    drawn_wh: Fraction
    time_zone: str


def wall_clock(at: datetime, time_zone: str) -> datetime:
    """European local time: summer from the last Sunday of March to the last of October, each at 01:00 UTC."""
    utc = at.astimezone(UTC).replace(tzinfo=None)

    def last_sunday(month: int) -> datetime:
        day = datetime(utc.year, month, 31, 1)  # noqa: DTZ001 - the walk is on bare UTC
        while day.strftime("%A") != "Sunday":
            day -= timedelta(days=1)
        return day

    is_summer = last_sunday(3) <= utc < last_sunday(10)
    return utc + timedelta(hours=STANDARD_OFFSET_H[time_zone] + (1 if is_summer else 0))


def bill(tariff: Tariff, periods: Sequence[ChargingPeriod], time_zone: str) -> Bill:
    """Price a session; the keys are the fields of `PricedSession`."""
    return bill_by_several([(period, tariff) for period in periods], time_zone)


def bill_by_several(periods: Sequence[tuple[ChargingPeriod, Tariff | None]], time_zone: str) -> Bill:
    """Price a session of which each period comes with its tariff, or with none."""
    by_time = sorted(periods, key=lambda each: each[0].started_at)
    ledger: list[Entry] = []
    holding = [each for each in by_time if each[0].reserved_s > 0]
    using = [each for each in by_time if each[0].reserved_s == 0 or _is_used(each[0])]
    if holding:
        ledger += _reservation(holding, time_zone, expired=not using)
    if using:
        ledger += _use(using, time_zone)
    in_use: list[Tariff] = []
    for _, tariff in by_time:
        if tariff is not None and tariff not in in_use:
            in_use.append(tariff)
    return _totals(in_use, ledger)


def _is_used(period: ChargingPeriod) -> bool:
    has_energy = period.energy_import_wh != 0 or period.energy_export_wh != 0 or _net_wh(period) != 0
    return period.charging_s > 0 or period.parking_s > 0 or has_energy


def _net_wh(period: ChargingPeriod) -> Fraction:
    return period.energy_import_wh - period.energy_export_wh + Fraction(period.energy_rest_wh or 0)


def active_components(tariff: Tariff, situation: Situation) -> dict[str, PriceComponent | None]:
    """For each dimension the component of a session that is active at a moment."""
    open_elements = [e for e in tariff.elements if e.restrictions.reservation is None]
    return {kind: _first(open_elements, kind, situation) for kind in ("ENERGY", "TIME", "PARKING_TIME", "FLAT")}


def active_in_reservation(
    tariff: Tariff, at: datetime, *, since: datetime, time_zone: str, expired: bool
) -> dict[str, PriceComponent | None]:
    """For each dimension of a reservation the component that is active at a moment."""
    ranked = [e for e in tariff.elements if e.restrictions.reservation == "RESERVATION_EXPIRES" and expired]
    ranked += [e for e in tariff.elements if e.restrictions.reservation == "RESERVATION"]
    no_use = ChargingPeriod(started_at=at, energy_import_wh=0, charging_s=0, parking_s=0)
    situation = Situation(no_use, at, since, Fraction(0), time_zone)
    return {kind: _first(ranked, kind, situation) for kind in ("FLAT", "TIME")}


def _first(elements: Sequence[TariffElement], kind: str, situation: Situation) -> PriceComponent | None:
    for element in elements:
        of_kind = [component for component in element.components if component.dimension.value == kind]
        if of_kind and all([*_on_the_clock(element, situation), *_in_the_session(element, situation)]):
            return of_kind[0]
    return None


def _on_the_clock(element: TariffElement, situation: Situation) -> Iterator[bool]:
    r = element.restrictions
    local = wall_clock(situation.at, situation.time_zone)
    clock, day = local.strftime("%H:%M:%S"), local.strftime("%Y-%m-%d")
    if r.start_time is not None or r.end_time is not None:
        opens = "00:00:00" if r.start_time is None else r.start_time.strftime("%H:%M:%S")
        closes = "24:00:00" if r.end_time is None else r.end_time.strftime("%H:%M:%S")
        closes = "24:00:00" if closes == "00:00:00" else closes
        if opens == closes:
            yield True
        elif opens < closes:
            yield opens <= clock < closes
        else:
            yield not closes <= clock < opens
    if r.start_date is not None:
        yield day >= r.start_date.isoformat()
    if r.end_date is not None:
        yield day < r.end_date.isoformat()
    if r.days_of_week:
        yield local.strftime("%A").upper() in [name.value for name in r.days_of_week]


def _in_the_session(element: TariffElement, situation: Situation) -> Iterator[bool]:
    r = element.restrictions
    period = situation.period
    lasted_s = (situation.at - situation.first).total_seconds()
    powers = [value for value in (period.power_w_min, period.power_w_max) if value is not None]
    currents = [value for value in (period.current_a_min, period.current_a_max) if value is not None]
    yield r.energy_wh_min is None or situation.drawn_wh / 1000 >= Fraction(r.energy_wh_min, 1000)
    yield r.energy_wh_max is None or situation.drawn_wh / 1000 < Fraction(r.energy_wh_max, 1000)
    yield r.duration_s_min is None or lasted_s >= r.duration_s_min
    yield r.duration_s_max is None or lasted_s < r.duration_s_max
    yield r.power_w_min is None or (bool(powers) and powers[0] >= r.power_w_min)
    yield r.power_w_max is None or (bool(powers) and powers[-1] < r.power_w_max)
    yield r.current_a_min is None or (bool(currents) and currents[0] >= r.current_a_min)
    yield r.current_a_max is None or (bool(currents) and currents[-1] < r.current_a_max)


def _use(periods: Sequence[tuple[ChargingPeriod, Tariff | None]], time_zone: str) -> list[Entry]:
    used: dict[str, list[Consumed]] = {"ENERGY": [], "TIME": [], "PARKING_TIME": [], "FLAT": []}
    drawn_wh = Fraction(0)
    for period, tariff in periods:
        net_wh = _net_wh(period)
        volumes: dict[str, int | Fraction] = {
            "ENERGY": net_wh,
            "TIME": period.charging_s,
            "PARKING_TIME": period.parking_s,
            "FLAT": 0 if used["FLAT"] else 1,
        }
        if tariff is not None:
            situation = Situation(period, period.started_at, periods[0][0].started_at, drawn_wh, time_zone)
            active = active_components(tariff, situation)
            for kind, volume in volumes.items():
                component = active[kind]
                if component is not None and volume != 0:
                    used[kind].append((tariff, component, volume))
        drawn_wh += net_wh
    _fill_step(used["ENERGY"])
    _fill_step(used["PARKING_TIME"] or used["TIME"])
    return [
        (kind, tariff, component, Fraction(volume) / {"ENERGY": 1000, "FLAT": 1}.get(kind, 3600))
        for kind, consumed in used.items()
        for tariff, component, volume in consumed
    ]


def _reservation(
    periods: Sequence[tuple[ChargingPeriod, Tariff | None]], time_zone: str, *, expired: bool
) -> list[Entry]:
    fees: list[Consumed] = []
    held: list[Consumed] = []
    for period, tariff in periods:
        if tariff is None:
            continue
        active = active_in_reservation(
            tariff, period.started_at, since=periods[0][0].started_at, time_zone=time_zone, expired=expired
        )
        for kind, volume, target in (("FLAT", 0 if fees else 1, fees), ("TIME", period.reserved_s, held)):
            component = active[kind]
            if component is not None and volume:
                target.append((tariff, component, volume))
    _fill_step(held)
    return [("RESERVATION", tariff, component, Fraction(volume)) for tariff, component, volume in fees] + [
        ("RESERVATION", tariff, component, Fraction(volume) / 3600) for tariff, component, volume in held
    ]


def _fill_step(consumed: list[Consumed]) -> None:
    """Add one unit after the other at the last price until the session's total is a multiple of the last step."""
    total = sum((Fraction(volume) for _, _, volume in consumed), start=Fraction(0))
    while total > 0 and total % max(1, consumed[-1][1].step_size) != 0:
        tariff, component, volume = consumed[-1]
        missing = 1 - total % 1  # less than a whole unit first, if part of one was stated
        consumed[-1] = (tariff, component, volume + missing)
        total += missing


def _net_and_gross(tariff: Tariff, component: PriceComponent, amount: Fraction) -> tuple[Fraction, Fraction]:
    stated = amount * Fraction(component.price)
    rate = Fraction(0) if component.vat_percent is None else Fraction(component.vat_percent) / 100
    if tariff.tax_included == TaxIncluded.NOT_APPLICABLE:
        return stated, stated
    return (stated / (1 + rate), stated) if tariff.tax_included == TaxIncluded.YES else (stated, stated + stated * rate)


def _speaks_of_tax(tariff: Tariff) -> bool:
    limits = [limit for limit in (tariff.price_min, tariff.price_max) if limit is not None]
    rates = [component.vat_percent for element in tariff.elements for component in element.components]
    return (
        tariff.tax_included == TaxIncluded.YES
        or (tariff.tax_included == TaxIncluded.NO and any(rate is not None for rate in rates))
        or any(limit.incl_e4 is not None for limit in limits)
    )


def _totals(tariffs: Sequence[Tariff], ledger: list[Entry]) -> Bill:
    speaks_of_tax = any(_speaks_of_tax(tariff) for tariff in tariffs)

    def summed(kinds: set[str]) -> tuple[Fraction, Fraction]:
        net = gross = Fraction(0)
        for kind, tariff, component, amount in ledger:
            if kind in kinds:
                before, after = _net_and_gross(tariff, component, amount)
                net += before
                gross += after
        return net, gross

    def priced(kinds: set[str]) -> Price:
        net, gross = summed(kinds)
        return Price(excl_e4=_nearest(net * 10_000), incl_e4=_nearest(gross * 10_000) if speaks_of_tax else None)

    everything = {"ENERGY", "TIME", "PARKING_TIME", "FLAT", "RESERVATION"}
    net, gross = summed(everything)
    for limit in [tariff.price_min for tariff in tariffs if tariff.price_min]:
        net = max(net, Fraction(limit.excl_e4, 10_000))
        gross = gross if limit.incl_e4 is None else max(gross, Fraction(limit.incl_e4, 10_000))
    for limit in [tariff.price_max for tariff in tariffs if tariff.price_max]:
        net = min(net, Fraction(limit.excl_e4, 10_000))
        gross = gross if limit.incl_e4 is None else min(gross, Fraction(limit.incl_e4, 10_000))
    result: Bill = {
        "total": Price(excl_e4=_nearest(net * 10_000), incl_e4=_nearest(gross * 10_000) if speaks_of_tax else None)
    }
    names = {
        "energy": "ENERGY",
        "time": "TIME",
        "parking": "PARKING_TIME",
        "fixed": "FLAT",
        "reservation": "RESERVATION",
    }
    for name, kind in names.items():
        result[name] = priced({kind}) if any(entry[0] == kind for entry in ledger) else None
    return result


def _nearest(exact: Fraction) -> int:
    """The nearest whole number, a half away from zero."""
    below = exact.numerator // exact.denominator
    distance = exact - below
    if distance == Fraction(1, 2):
        return below + 1 if exact > 0 else below
    return below if distance < Fraction(1, 2) else below + 1
