"""A price curve written out as a tariff: every moment of every local day costs what the market said."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobility.domain.session import ChargingPeriod
from emobility.domain.tariff.market import (
    MarketPrice,
    MarketTerms,
    NotAnInterval,
    OverlappingMarketPrices,
    tariff_from_market,
)
from emobility.domain.tariff.pricing import price_session
from emobility.domain.tariff.selection import UnknownTimeZone
from emobility.domain.tariff.tariff import Tariff
from tests.domain.tariff.builders import AMSTERDAM, CPO, UPDATED

HOUR = 3_600
SPRING_DAY = datetime(2022, 3, 26, 23, tzinfo=UTC)
AUTUMN_DAY = datetime(2022, 10, 29, 22, tzinfo=UTC)
SUMMER_DAY = datetime(2022, 6, 12, 22, tzinfo=UTC)


def terms(**changed: Any) -> MarketTerms:
    return MarketTerms(
        **{
            "party_id": CPO,
            "tariff_id": "MARKET",
            "currency": "EUR",
            "time_zone": AMSTERDAM,
            "last_updated": UPDATED,
            "markup_per_kwh": Decimal("0.10"),
            "fallback_per_kwh": Decimal("0.50"),
            **changed,
        }
    )


def curve(start: datetime, *per_mwh: int | str, duration_s: int = HOUR) -> list[MarketPrice]:
    return [
        MarketPrice(
            start=start + timedelta(seconds=number * duration_s), duration_s=duration_s, price_per_mwh=Decimal(price)
        )
        for number, price in enumerate(per_mwh)
    ]


def per_kwh(charge: Tariff, at: datetime, time_zone: str = AMSTERDAM) -> Decimal:
    period = ChargingPeriod(started_at=at, energy_import_wh=1_000, charging_s=1, parking_s=0)
    priced = price_session(charge, [period], ended_at=at + timedelta(seconds=1), time_zone=time_zone)
    assert priced.energy is not None
    return Decimal(priced.energy.excl_e4) / 10_000


def windows(charge: Tariff) -> list[tuple[date | None, time | None, time | None, Decimal]]:
    return [
        (one.restrictions.start_date, one.restrictions.start_time, one.restrictions.end_time, one.components[0].price)
        for one in charge.elements[:-1]
    ]


def test_a_day_of_hours_costs_by_the_hour() -> None:
    charge = tariff_from_market(terms(), curve(SUMMER_DAY, *range(0, 240, 10)))

    assert [per_kwh(charge, SUMMER_DAY + timedelta(hours=hour, minutes=59)) for hour in range(24)] == [
        Decimal(10 * hour) / 1_000 + Decimal("0.1") for hour in range(24)
    ]


def test_outside_the_curve_the_fallback_applies_whole() -> None:
    charge = tariff_from_market(terms(), curve(SUMMER_DAY, 10))

    assert per_kwh(charge, SUMMER_DAY - timedelta(seconds=1)) == Decimal("0.50")
    assert per_kwh(charge, SUMMER_DAY + timedelta(hours=1)) == Decimal("0.50")


def test_the_price_is_the_market_times_a_factor_plus_the_markup_to_four_decimals() -> None:
    charge = tariff_from_market(terms(factor=Decimal("1.05"), vat_percent=Decimal(21)), curve(SUMMER_DAY, "224.93"))

    component = charge.elements[0].components[0]

    # 0.22493 * 1.05 + 0.10 = 0.3361765
    assert (component.price, component.vat_percent) == (Decimal("0.3362"), Decimal(21))


def test_prices_may_be_negative_unless_a_floor_is_stated() -> None:
    prices = curve(SUMMER_DAY, "-222.36")

    assert per_kwh(tariff_from_market(terms(), prices), SUMMER_DAY) == Decimal("-0.1224")
    assert per_kwh(tariff_from_market(terms(price_floor_per_kwh=Decimal(0)), prices), SUMMER_DAY) == 0


def test_neighbours_of_one_price_are_joined_within_a_day() -> None:
    charge = tariff_from_market(terms(), curve(SUMMER_DAY, *[50] * 6, *[60] * 20))

    day, price, later = date(2022, 6, 13), Decimal("0.1500"), Decimal("0.1600")
    assert windows(charge) == [
        (day, time(0), time(6), price),
        (day, time(6), time(0), later),
        (date(2022, 6, 14), time(0), time(2), later),
    ]


def test_a_day_of_one_price_needs_no_time() -> None:
    charge = tariff_from_market(terms(), curve(SUMMER_DAY, *[50] * 24))

    assert windows(charge) == [(date(2022, 6, 13), None, None, Decimal("0.1500"))]


def test_the_spring_night_has_neither_gap_nor_overlap() -> None:
    charge = tariff_from_market(terms(), curve(SPRING_DAY, *range(10, 240, 10)))

    assert [per_kwh(charge, SPRING_DAY + timedelta(minutes=minute)) for minute in range(23 * 60)] == [
        Decimal(10 + minute // 60 * 10) / 1_000 + Decimal("0.1") for minute in range(23 * 60)
    ]
    starts_and_ends = [(start, end) for _, start, end, _ in windows(charge)]
    assert starts_and_ends[:3] == [(time(0), time(1)), (time(1), time(3)), (time(3), time(4))]
    assert all(end == start for (_, end), (start, _) in pairwise(starts_and_ends))


def test_a_day_that_begins_with_a_skipped_hour_is_priced_from_its_first_moment() -> None:
    # Beirut, 2022-03-27: the clock goes from 23:59 to 01:00.
    start = datetime(2022, 3, 26, 20, tzinfo=UTC)
    block = curve(start, 40, duration_s=5 * HOUR)
    charge = tariff_from_market(terms(time_zone="Asia/Beirut"), block)

    prices = {per_kwh(charge, start + timedelta(minutes=30 * half), "Asia/Beirut") for half in range(10)}

    assert prices == {Decimal("0.14")}


def test_both_passes_of_the_repeated_hour_cost_the_mean_of_the_two() -> None:
    charge = tariff_from_market(terms(), curve(AUTUMN_DAY, *range(10, 260, 10)))

    at_two = [per_kwh(charge, AUTUMN_DAY + timedelta(hours=2, minutes=minute)) for minute in (0, 59, 60, 119)]
    assert at_two == [Decimal("0.135")] * 4
    assert per_kwh(charge, AUTUMN_DAY + timedelta(hours=1)) == Decimal("0.12")
    assert per_kwh(charge, AUTUMN_DAY + timedelta(hours=4)) == Decimal("0.15")


def test_quarters_of_the_repeated_hour_are_averaged_quarter_by_quarter() -> None:
    start = datetime(2022, 10, 30, tzinfo=UTC)
    charge = tariff_from_market(terms(), curve(start, 10, 20, 30, 40, 50, 60, 70, 80, duration_s=900))

    assert [per_kwh(charge, start + timedelta(minutes=15 * quarter)) for quarter in range(8)] == [
        Decimal("0.13"),
        Decimal("0.14"),
        Decimal("0.15"),
        Decimal("0.16"),
    ] * 2


def test_a_long_interval_that_reaches_into_the_repeated_hour_is_averaged_only_there() -> None:
    start = AUTUMN_DAY
    long_then_short = [
        MarketPrice(start=start, duration_s=9_000, price_per_mwh=Decimal(10)),
        MarketPrice(start=start + timedelta(seconds=9_000), duration_s=9_000, price_per_mwh=Decimal(30)),
    ]
    charge = tariff_from_market(terms(), long_then_short)

    # 02:00-02:30 comes at 10 and again at 30; 02:30-03:00 at 30 both times.
    prices = [per_kwh(charge, start + timedelta(minutes=minute)) for minute in (119, 120, 149, 150, 180, 210, 299)]
    assert prices == [Decimal(price) for price in ("0.11", "0.12", "0.12", "0.13", "0.12", "0.13", "0.13")]


@given(
    start=st.sampled_from([SPRING_DAY, AUTUMN_DAY, SUMMER_DAY]),
    prices=st.lists(st.integers(-300, 900), min_size=1, max_size=40),
    duration_s=st.sampled_from([900, 1_800, 3_600]),
    at_s=st.integers(0, 40 * 3_600),
)
def test_every_moment_that_comes_once_costs_what_the_curve_says(
    *, start: datetime, prices: list[int], duration_s: int, at_s: int
) -> None:
    charge = tariff_from_market(terms(), curve(start, *prices, duration_s=duration_s))
    at = start + timedelta(seconds=at_s)
    repeated = datetime(2022, 10, 30, tzinfo=UTC)
    if repeated <= at < repeated + timedelta(hours=2):
        return

    index = at_s // duration_s
    expected = Decimal(prices[index]) / 1_000 + Decimal("0.1") if index < len(prices) else Decimal("0.5")

    assert per_kwh(charge, at) == expected


def test_fees_apply_with_or_without_the_curve() -> None:
    charge = tariff_from_market(
        terms(session_fee=Decimal("0.35"), parking_per_hour=Decimal(2), parking_step_s=900, time_per_hour=Decimal(1)),
        curve(SUMMER_DAY, 100),
    )
    periods = [
        ChargingPeriod(started_at=SUMMER_DAY, energy_import_wh=5_000, charging_s=1_800, parking_s=0),
        ChargingPeriod(
            started_at=SUMMER_DAY + timedelta(minutes=30), energy_import_wh=0, charging_s=0, parking_s=1_000
        ),
    ]

    priced = price_session(charge, periods, ended_at=SUMMER_DAY + timedelta(hours=1), time_zone=AMSTERDAM)

    # 0.35 + 5 kWh at 0.20 + half an hour at 1 + half an hour (two steps) at 2
    assert priced.total.excl_e4 == 3_500 + 10_000 + 5_000 + 10_000


def test_without_prices_there_is_the_fallback_alone() -> None:
    charge = tariff_from_market(terms(), [])

    assert len(charge.elements) == 1
    assert per_kwh(charge, SUMMER_DAY) == Decimal("0.50")


def test_overlapping_prices_are_refused() -> None:
    with pytest.raises(OverlappingMarketPrices) as refusal:
        tariff_from_market(terms(), [*curve(SUMMER_DAY, 1, 2), *curve(SUMMER_DAY + timedelta(minutes=90), 3)])

    assert refusal.value.at == SUMMER_DAY + timedelta(minutes=90)


@pytest.mark.parametrize(("offset_s", "duration_s"), [(0, 0), (0, 59), (0, 90), (0, -60), (1, 3_600)])
def test_an_interval_that_ocpi_cannot_write_is_refused(offset_s: int, duration_s: int) -> None:
    with pytest.raises(NotAnInterval):
        tariff_from_market(terms(), curve(SUMMER_DAY + timedelta(seconds=offset_s), 1, duration_s=duration_s))


def test_an_unknown_time_zone_is_refused() -> None:
    with pytest.raises(UnknownTimeZone):
        tariff_from_market(terms(time_zone="Europe/Atlantis"), [])
