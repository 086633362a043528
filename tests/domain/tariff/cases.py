"""Sessions and tariffs drawn from a seed, with every rule of pricing in play more often than in life."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from random import Random
from typing import Any

from emobility.domain.identifiers import PartyId
from emobility.domain.money import Price
from emobility.domain.session import ChargingPeriod
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

ZONES = ("Europe/Amsterdam", "Europe/Berlin", "Europe/Lisbon", "Europe/Helsinki")
STARTS = (
    datetime(2022, 3, 26, 22, tzinfo=UTC),  # the night of 23 hours
    datetime(2022, 10, 29, 22, tzinfo=UTC),  # the night of 25 hours
    datetime(2022, 12, 31, 20, tzinfo=UTC),
    datetime(2024, 2, 28, 12, tzinfo=UTC),
    datetime(2022, 6, 15, 6, tzinfo=UTC),
)
PRICES = ("0", "0.25", "1.2", "-0.05", "0.333", "7", "0.10", "2.3456", "0.0001")
VATS = (None, "0", "10", "20", "21", "5.2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A session to price. `further_tariffs`: each period then names its tariff, or none."""

    tariff: Tariff
    periods: tuple[ChargingPeriod, ...]
    ended_at: datetime
    time_zone: str
    further_tariffs: tuple[Tariff, ...] = ()


def case(seed: int) -> Case:
    """The case of a seed, always the same."""
    draw = Random(seed)
    start = draw.choice(STARTS) + timedelta(minutes=draw.randrange(0, 1_440, 5), seconds=draw.choice((0, 0, 0, 17)))
    tariff = _tariff(draw, start.date(), VATS if draw.random() < 0.85 else (None,))
    periods, ended_at = _periods(draw, start)
    return Case(tariff=tariff, periods=periods, ended_at=ended_at, time_zone=draw.choice(ZONES))


def case_of_2_3_0(seed: int) -> Case:
    """The case of a seed with tax on top, in the prices or not at all, and one in five under two or three tariffs."""
    drawn = case(seed)
    draw = Random(seed ^ 0x5EED)
    kinds = (*[TaxIncluded.NO] * 6, *[TaxIncluded.YES] * 3, TaxIncluded.NOT_APPLICABLE)
    drawn = replace(drawn, tariff=replace(drawn.tariff, tax_included=draw.choice(kinds)))
    if draw.random() < 0.3:
        drawn = replace(drawn, periods=tuple(_finer(draw, period) for period in drawn.periods))
    return _under_several(draw, drawn) if draw.random() < 0.2 else drawn


def _finer(draw: Random, period: ChargingPeriod) -> ChargingPeriod:
    """The same with less than a Wh more or less, as a partner's document may state it."""
    return period if period.reserved_s else replace(period, energy_rest_wh=Decimal(draw.randint(-5, 5)) / 10)


def _under_several(draw: Random, drawn: Case) -> Case:
    day = drawn.periods[0].started_at.date()
    further = tuple(
        replace(_tariff(draw, day, VATS), tax_included=draw.choice(list(TaxIncluded)))
        for _ in range(draw.randint(1, 2))
    )
    names = [drawn.tariff.tariff_id, *(tariff.tariff_id for tariff in further), None]
    periods = tuple(replace(period, tariff_id=draw.choice(names)) for period in drawn.periods)
    return replace(drawn, periods=periods, further_tariffs=further)


def _tariff(draw: Random, day: date, vats: tuple[str | None, ...]) -> Tariff:
    elements = [_element(draw, day, vats) for _ in range(draw.randint(1, 5))]
    if draw.random() < 0.6:
        elements.append(TariffElement(components=_components(draw, vats)))
    limits: dict[str, Any] = {}
    if draw.random() < 0.25:
        limits["price_min"] = Price(excl_e4=draw.randrange(50_000), incl_e4=draw.choice((None, draw.randrange(60_000))))
    if draw.random() < 0.25:
        limits["price_max"] = Price(excl_e4=draw.randrange(90_000), incl_e4=draw.choice((None, draw.randrange(90_000))))
    return Tariff(
        party_id=PartyId("NL-TNM"),
        tariff_id=f"T{draw.randrange(10**9)}",
        currency="EUR",
        elements=tuple(elements),
        last_updated=datetime(2022, 1, 1, tzinfo=UTC),
        **limits,
    )


def _components(draw: Random, vats: tuple[str | None, ...]) -> tuple[PriceComponent, ...]:
    kinds = draw.sample(list(TariffDimension), draw.randint(1, 4))
    if draw.random() < 0.1:
        kinds.append(kinds[0])
    components = []
    for kind in kinds:
        vat = draw.choice(vats)
        components.append(
            PriceComponent(
                dimension=kind,
                price=Decimal(draw.choice(PRICES)),
                step_size=draw.choice((0, 1, 1, 7, 60, 100, 300, 500, 900)),
                vat_percent=None if vat is None else Decimal(vat),
            )
        )
    return tuple(components)


def _element(draw: Random, day: date, vats: tuple[str | None, ...]) -> TariffElement:
    chosen: dict[str, Any] = {}
    for name, value in (
        ("start_time", time(draw.randrange(24), draw.choice((0, 15, 30)))),
        ("end_time", time(draw.randrange(24), draw.choice((0, 15, 30)))),
        ("start_date", day + timedelta(days=draw.randint(-1, 1))),
        ("end_date", day + timedelta(days=draw.randint(0, 2))),
        ("energy_wh_min", draw.choice((0, 1_000, 5_000, 20_000))),
        ("energy_wh_max", draw.choice((500, 5_000, 20_000))),
        ("duration_s_min", draw.choice((0, 600, 1_800, 3_600))),
        ("duration_s_max", draw.choice((600, 1_800, 7_200))),
        ("power_w_min", draw.choice((4_000, 11_000))),
        ("power_w_max", draw.choice((4_000, 11_000, 22_000))),
        ("current_a_min", Decimal(draw.choice(("6", "16.5")))),
        ("current_a_max", Decimal(draw.choice(("16", "32")))),
        ("days_of_week", tuple(draw.sample(list(DayOfWeek), draw.randint(1, 6)))),
    ):
        if draw.random() < 0.14:
            chosen[name] = value  # noqa: PERF403 - a draw per field keeps the stream of draws plain
    if draw.random() < 0.2:
        chosen["reservation"] = draw.choice(list(Reservation))
    return TariffElement(components=_components(draw, vats), restrictions=TariffRestrictions(**chosen))


def _periods(draw: Random, start: datetime) -> tuple[tuple[ChargingPeriod, ...], datetime]:
    at = start
    periods = []
    if draw.random() < 0.25:
        lasted_s = draw.randrange(0, 5_400)
        periods.append(_period(at, reserved_s=lasted_s))
        at += timedelta(seconds=max(1, lasted_s))
    only_reserved = periods and draw.random() < 0.3
    for _ in range(0 if only_reserved else draw.randint(1, 6)):
        lasted_s = draw.choice((1, 59, 60, 600, 900, 3_600, draw.randrange(1, 20_000)))
        if draw.random() < 0.3:
            periods.append(_period(at, parking_s=lasted_s))
        else:
            periods.append(_charging(draw, at, lasted_s))
        at += timedelta(seconds=lasted_s)
    shuffled = list(periods)
    if draw.random() < 0.2:
        draw.shuffle(shuffled)
    return tuple(shuffled), at


def _period(at: datetime, **fields: Any) -> ChargingPeriod:
    return ChargingPeriod(started_at=at, **{"energy_import_wh": 0, "charging_s": 0, "parking_s": 0, **fields})


def _charging(draw: Random, at: datetime, lasted_s: int) -> ChargingPeriod:
    fields: dict[str, Any] = {}
    low, high = sorted((draw.randrange(0, 25_000, 500), draw.randrange(0, 25_000, 500)))
    amperes = sorted((Decimal(draw.randrange(0, 400)) / 10, Decimal(draw.randrange(0, 400)) / 10))
    for name, value in zip(
        ("power_w_min", "power_w_max", "current_a_min", "current_a_max"), (low, high, *amperes), strict=True
    ):
        if draw.random() < 0.6:
            fields[name] = value  # noqa: PERF403 - as above
    return _period(
        at,
        energy_import_wh=draw.choice((0, 1, 250, 499, draw.randrange(30_000))),
        energy_export_wh=draw.choice((0, 0, 0, 0, 300, draw.randrange(10_000))),
        charging_s=draw.choice((lasted_s, lasted_s, 0)),
        **fields,
    )
