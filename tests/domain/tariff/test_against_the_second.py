"""The engine and a walk over every second of a session, written apart from it, come to the same cost."""

from __future__ import annotations

import os
from collections import Counter
from datetime import UTC, datetime, time
from fractions import Fraction
from typing import Final

import pytest

from emobility.domain.session import ChargingPeriod
from emobility.domain.tariff.tariff import Reservation, Tariff, TariffDimension
from tests.domain.tariff.builders import AMSTERDAM, charging, component, element, minutes, parking, reserved, tariff
from tests.domain.tariff.by_the_second import Part, bill_by_the_second, bill_of, walk
from tests.domain.tariff.cases_by_the_second import Case, case
from tests.domain.tariff.fuzz_by_the_second import difference, spans

SESSIONS: Final = 4 * int(os.environ.get("WATTROAM_FUZZ_EXAMPLES", "75"))
"""300; `make fuzz` with its 5,000 examples makes it 20,000."""
BLOCK: Final = 100
BLOCKS: Final = [range(start, start + BLOCK) for start in range(0, SESSIONS, BLOCK)]


@pytest.mark.parametrize("seeds", BLOCKS, ids=lambda seeds: str(seeds.start))
def test_the_engine_prices_as_the_walk_does(seeds: range) -> None:
    differences = [found for found in map(difference, seeds) if found is not None]

    assert differences == []


def test_the_generated_sessions_put_every_rule_into_play() -> None:
    seen: Counter[str] = Counter()
    for seed in range(BLOCK):
        seen.update(_rules_in_play(case(seed)))

    assert {name: seen[name] for name in RULES if seen[name] < 2} == {}


RULES: Final = {
    *("limited", "below zero", "reservation", "expired", "several tariffs", "price changes", "clock changes"),
    *("midnight", "stepped", "power decides", "tax in prices"),
}


def _rules_in_play(drawn: Case) -> set[str]:
    bill = bill_of(drawn.walked)
    seconds = [second for second, _ in drawn.walked]
    active = [(each, component, second) for second, known in drawn.walked for each, component in known.items()]
    used = {id(component): second for _, component, second in active}
    restricted = {
        id(component): element.restrictions
        for charged in drawn.tariffs
        for element in charged.elements
        for component in element.components
    }
    facts = {
        "limited": bill.total != bill.unlimited,
        "below zero": bill.total.excl < 0,
        "reservation": bill.parts[Part.RESERVATION].excl != 0,
        "expired": all(second.is_reserved for second in seconds) and bool(active),
        "several tariffs": len({id(second.tariff) for _, _, second in active}) > 1,
        "price changes": bool(
            spans(walk(drawn.tariffs, drawn.coarse, ended_at=drawn.ended_at, time_zone=drawn.time_zone))
        ),
        "parts of a Wh": any(second.energy_wh % 1 != 0 for second in seconds),
        "clock changes": len({second.local.utcoffset() for second in seconds}) > 1,
        "midnight": len({second.local.date() for second in seconds}) > 1,
        "stepped": any(component.step_size > 1 for each, component, _ in active if each is not TariffDimension.FLAT),
        "power decides": any(restricted[key].power_w_min is not None for key in used),
        "tax in prices": bill.total.incl != bill.total.excl,
    }
    return {name for name, is_so in facts.items() if is_so}


# Winter: Amsterdam is one hour ahead of UTC.
AT_1700 = datetime(2022, 1, 10, 16, tzinfo=UTC)
STEPS = tariff(  # mod_tariffs, "Example Tariff to explain the step_size"
    element(component("TIME", "1.20", step=1_800), end_time=time(17)),
    element(component("TIME", "2.40", step=900), start_time=time(17)),
    element(component("PARKING_TIME", "1.00", step=900), end_time=time(20)),
)
KWH = tariff(  # mod_cdrs, step_size: 4.3 and 1.1 kWh
    element(component("ENERGY", "0.20", step=500), end_time=time(17)), element(component("ENERGY", "0.27", step=500))
)
MINUTES = tariff(  # mod_cdrs, step_size: 6 and 22 minutes
    element(component("TIME", "5", step=600), end_time=time(17)), element(component("TIME", "7", step=600))
)
CHARGE_AND_PARK = tariff(element(component("TIME", "1", step=600), component("PARKING_TIME", "2", step=600)))
RESERVABLE = tariff(  # mod_tariffs, "reservation price and fee"
    element(
        component("FLAT", "2", vat="20"),
        component("TIME", "5", vat="20", step=300),
        reservation=Reservation.RESERVATION,
    ),
    element(component("FLAT", "0.50", vat="20"), component("ENERGY", "0.25", vat="10")),
)
EXPIRING = tariff(  # mod_tariffs, "reservation price and expire fee"
    element(component("FLAT", "4", vat="20"), reservation=Reservation.RESERVATION_EXPIRES),
    element(component("TIME", "2", vat="20", step=600), reservation=Reservation.RESERVATION),
)


def at(number: float) -> datetime:
    return AT_1700 + minutes(number)


@pytest.mark.parametrize(
    ("charge", "periods", "lasted", "total"),
    [
        pytest.param(STEPS, [charging(at(-5), 10), parking(at(5), 2)], 7, "0.55", id="parking takes the step"),
        pytest.param(STEPS, [charging(at(-25), 35)], 10, "1.30", id="the step of the last"),
        pytest.param(STEPS, [charging(at(160), 12), parking(at(172), 20)], 192, "0.73", id="free parking"),
        pytest.param(KWH, [charging(at(-60), 60, 4_300), charging(at(0), 20, 1_100)], 20, "1.184", id="energy"),
        pytest.param(MINUTES, [charging(at(-6), 28)], 22, "3.30", id="time"),
        pytest.param(CHARGE_AND_PARK, [charging(at(0), 21), parking(at(21), 16)], 37, "61/60", id="parking alone"),
        pytest.param(RESERVABLE, [reserved(at(0), 13), charging(at(13), 5, 20_000)], 18, "8.75", id="reservation"),
        pytest.param(EXPIRING, [reserved(at(0), 60)], 60, "6", id="expired"),
    ],
)
def test_the_walk_prices_the_worked_examples(
    charge: Tariff, periods: list[ChargingPeriod], lasted: float, total: str
) -> None:
    bill = bill_by_the_second([charge], periods, ended_at=at(lasted), time_zone=AMSTERDAM)

    assert bill.total.excl == Fraction(total)


@pytest.mark.parametrize(
    ("midnight_utc", "hours"),
    [(datetime(2024, 3, 31, tzinfo=UTC), Fraction(0)), (datetime(2024, 10, 27, tzinfo=UTC), Fraction(40, 60))],
)
def test_the_walk_reads_the_clock_of_the_location(midnight_utc: datetime, hours: Fraction) -> None:
    # Two o'clock is missing in one night of the year, and comes twice in another.
    charge = tariff(element(component("TIME", "1"), start_time=time(2), end_time=time(2, 20)))

    bill = bill_by_the_second(
        [charge], [charging(midnight_utc, 90)], ended_at=midnight_utc + minutes(90), time_zone=AMSTERDAM
    )

    assert bill.total.excl == hours
