"""How many sessions the pricing engine prices per second, on the tariffs and sessions of the demo.

The rival is our own oracle (tests/domain/tariff/oracle.py), in the same run: PyPI `ocpi-tariffs` is an empty wheel,
and no other Python package prices OCPI sessions. The goal is absolute: 20,000 sessions/s of ten periods each on two
cores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from random import Random
from time import perf_counter
from typing import Final

from bench.figure import Figure
from emobility.domain.identifiers import PartyId
from emobility.domain.session import ChargingPeriod
from emobility.domain.tariff.market import MarketPrice, MarketTerms, tariff_from_market
from emobility.domain.tariff.periods import split_at_price_changes
from emobility.domain.tariff.pricing import price_session
from emobility.domain.tariff.tariff import (
    PriceComponent,
    Tariff,
    TariffDimension,
    TariffElement,
    TariffRestrictions,
)
from tests.domain.tariff.oracle import bill

FIGURES: Final = ("pricing.sessions_per_s",)
GOAL_PER_S: Final = 20_000
CORES: Final = 2
SESSIONS: Final = 400
RIVAL_SESSIONS: Final = 60
PERIODS: Final = 10
AMSTERDAM: Final = "Europe/Amsterdam"
DAY: Final = datetime(2022, 3, 26, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Charge:
    """A session of the load."""

    tariff: Tariff
    periods: tuple[ChargingPeriod, ...]
    ended_at: datetime


async def run(*, short: bool) -> list[Figure]:
    """Price the load on two processes for a few seconds, and part of it with the oracle."""
    return measure(seconds=1.0 if short else 4.0)


def measure(*, seconds: float) -> list[Figure]:
    """Measure for so many seconds, and the oracle for half as many."""
    with ProcessPoolExecutor(max_workers=CORES) as pool:
        # One round first, so that every process has imported and compiled before it is measured.
        list(pool.map(_engine_rate, [0.05] * CORES))
        ours = sum(pool.map(_engine_rate, [seconds] * CORES))
        rival = sum(pool.map(_oracle_rate, [seconds / 2] * CORES))
    return [
        Figure(
            name=FIGURES[0],
            value=ours,
            unit="sessions/s",
            rival=rival,
            rival_name="our own oracle, the second implementation (ocpi-tariffs on PyPI is empty)",
            ratio=ours / rival,
            goal=f">= {GOAL_PER_S:,} sessions/s on {CORES} cores",
            holds=ours >= GOAL_PER_S,
        )
    ]


def _engine_rate(seconds: float) -> float:
    def price(charge: Charge) -> None:
        price_session(charge.tariff, charge.periods, ended_at=charge.ended_at, time_zone=AMSTERDAM)

    return _rate(price, load(SESSIONS), seconds)


def _oracle_rate(seconds: float) -> float:
    def price(charge: Charge) -> None:
        bill(charge.tariff, charge.periods, AMSTERDAM)

    return _rate(price, load(RIVAL_SESSIONS), seconds)


def _rate(price: Callable[[Charge], None], charges: list[Charge], seconds: float) -> float:
    started = perf_counter()
    priced = 0
    while perf_counter() - started < seconds:
        for charge in charges:
            price(charge)
        priced += len(charges)
    return priced / (perf_counter() - started)


def load(sessions: int) -> list[Charge]:
    """A third each under a market curve of two days, a day-and-night tariff with steps, and a plain price per kWh.

    Each session is cut where its price changes, and on until it has `PERIODS`.
    """
    draw = Random(2022)
    tariffs = (_market(draw), _day_and_night(), _plain())
    return [_charge(draw, tariffs[number % len(tariffs)]) for number in range(sessions)]


def _charge(draw: Random, tariff: Tariff) -> Charge:
    started_at = DAY + timedelta(minutes=draw.randrange(40 * 60))
    charging_s, parking_s = draw.randrange(1_800, 14_400), draw.randrange(0, 14_400)
    charging_ended_at = started_at + timedelta(seconds=charging_s)
    periods = [
        ChargingPeriod(
            started_at=started_at, energy_import_wh=draw.randrange(40_000), charging_s=charging_s, parking_s=0
        ),
        ChargingPeriod(started_at=charging_ended_at, energy_import_wh=0, charging_s=0, parking_s=parking_s),
    ]
    ended_at = charging_ended_at + timedelta(seconds=parking_s)
    cut = split_at_price_changes(tariff, periods, ended_at=ended_at, time_zone=AMSTERDAM)
    return Charge(tariff=tariff, periods=_in_ten(cut, ended_at), ended_at=ended_at)


def _in_ten(periods: Sequence[ChargingPeriod], ended_at: datetime) -> tuple[ChargingPeriod, ...]:
    """Halve the longest period until there are `PERIODS`."""
    cut = list(periods)
    while len(cut) < PERIODS:
        ends = [*(period.started_at for period in cut[1:]), ended_at]
        at = max(range(len(cut)), key=lambda index: ends[index] - cut[index].started_at)
        whole, half_s = cut[at], (ends[at] - cut[at].started_at) // timedelta(seconds=2)
        first = replace(
            whole,
            energy_import_wh=whole.energy_import_wh // 2,
            charging_s=min(whole.charging_s, half_s),
            parking_s=min(whole.parking_s, half_s),
        )
        rest = replace(
            whole,
            started_at=whole.started_at + timedelta(seconds=half_s),
            energy_import_wh=whole.energy_import_wh - first.energy_import_wh,
            charging_s=whole.charging_s - first.charging_s,
            parking_s=whole.parking_s - first.parking_s,
        )
        cut[at : at + 1] = [first, rest]
    return tuple(cut)


def _component(dimension: TariffDimension, price: str, step_size: int = 1) -> PriceComponent:
    return PriceComponent(dimension=dimension, price=Decimal(price), step_size=step_size, vat_percent=Decimal(21))


def _tariff(name: str, *elements: TariffElement) -> Tariff:
    return Tariff(party_id=PartyId("NL-TNM"), tariff_id=name, currency="EUR", elements=elements, last_updated=DAY)


def _plain() -> Tariff:
    components = (_component(TariffDimension.ENERGY, "0.32"), _component(TariffDimension.FLAT, "0.35"))
    return _tariff("PLAIN", TariffElement(components=components))


def _day_and_night() -> Tariff:
    night = TariffRestrictions(start_time=time(23), end_time=time(7))
    return _tariff(
        "DAY-NIGHT",
        TariffElement(components=(_component(TariffDimension.ENERGY, "0.21", 100),), restrictions=night),
        TariffElement(
            components=(
                _component(TariffDimension.ENERGY, "0.39", 100),
                _component(TariffDimension.PARKING_TIME, "1.50", 900),
            )
        ),
    )


def _market(draw: Random) -> Tariff:
    prices = [
        MarketPrice(
            start=DAY + timedelta(hours=hour),
            duration_s=3_600,
            price_per_mwh=Decimal(draw.randrange(-2_000, 40_000)) / 100,
        )
        for hour in range(48)
    ]
    terms = MarketTerms(
        party_id=PartyId("NL-TNM"),
        tariff_id="MARKET",
        currency="EUR",
        time_zone=AMSTERDAM,
        last_updated=DAY,
        markup_per_kwh=Decimal("0.12"),
        fallback_per_kwh=Decimal("0.45"),
        vat_percent=Decimal(21),
        session_fee=Decimal("0.35"),
        parking_per_hour=Decimal("0.60"),
    )
    return tariff_from_market(terms, prices)
