"""Compare the engine with the pricer that walks every second, on generated sessions.

`python -m tests.domain.tariff.fuzz_by_the_second [--cases 100000] [--first 0] [--processes 1]`
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from fractions import Fraction
from math import floor
from multiprocessing import get_context
from typing import Final

from emobility.domain.money import Price
from emobility.domain.session import ChargingPeriod
from emobility.domain.tariff.periods import split_at_price_changes
from emobility.domain.tariff.priced import PeriodSpansPriceChange
from emobility.domain.tariff.pricing import PricedSession, price_session, price_session_by_several
from emobility.domain.tariff.tariff import PriceComponent, Tariff, TariffDimension
from tests.domain.tariff.by_the_second import Bill, Charge, Cost, Part, Walk, bill_of, quantity_of, walk
from tests.domain.tariff.cases_by_the_second import Case, case

CASES: Final = 100_000
CHUNK: Final = 50
REPORT_EVERY: Final = 1_000
MOST_SHOWN: Final = 20
MOST_PERIODS: Final = 400
"""Above, the engine is not asked to price a period per second."""
METERED: Final = (TariffDimension.ENERGY, TariffDimension.TIME, TariffDimension.PARKING_TIME)


def difference(seed: int) -> str | None:
    """What the engine and the walk disagree on for the case of a seed, or None."""
    drawn = case(seed)
    by_the_second = bill_of(drawn.walked)
    tellings = [("cut", drawn.cut, by_the_second)]
    if len(drawn.seconds) <= MOST_PERIODS:
        tellings.append(("seconds", drawn.seconds, by_the_second))
    coarsely = walk(drawn.tariffs, drawn.coarse, ended_at=drawn.ended_at, time_zone=drawn.time_zone)
    tellings += [("coarse", periods, bill_of(coarsely)) for periods in _cut_by_the_engine(drawn)]
    for name, periods, expected in tellings:
        found = _difference(_price(drawn, periods), expected)
        if found is not None:
            return f"seed {seed}, told as {name}: {found}"
    missing = spans(coarsely) - _noted(drawn)
    return f"seed {seed}: no note says that a period spans a change of {missing}" if missing else None


def _cut_by_the_engine(drawn: Case) -> Iterator[tuple[ChargingPeriod, ...]]:
    """The coarse periods cut where the engine finds changes, if they are what it can cut to the second.

    Energy may reach a threshold within a second.
    """
    if len(drawn.tariffs) > 1:
        return
    tariff = drawn.tariffs[0]
    limits = [element.restrictions for element in tariff.elements]
    if all(limit.energy_wh_min is limit.energy_wh_max is None for limit in limits):
        yield split_at_price_changes(tariff, drawn.coarse, ended_at=drawn.ended_at, time_zone=drawn.time_zone)


Span = tuple[datetime, TariffDimension, bool]
"""Where a period starts, what changed inside it, and whether of a reservation."""


def spans(walked: Walk) -> set[Span]:
    """What else becomes active within a period: another price or step for something that it holds, or the fee."""
    prices: dict[Span, set[tuple[Fraction, Fraction, int] | None]] = {}
    found: set[Span] = set()
    has_fee: set[bool] = set()
    seen: set[datetime] = set()
    for second, active in walked:
        start, is_reserved = second.period.started_at, second.is_reserved
        for dimension in METERED:
            if quantity_of(dimension, second)[1] and (dimension is TariffDimension.TIME or not is_reserved):
                price = _price_of(active.get(dimension), second.tariff)
                prices.setdefault((start, dimension, is_reserved), set()).add(price)
        if TariffDimension.FLAT in active and is_reserved not in has_fee:
            has_fee.add(is_reserved)
            found |= {(start, TariffDimension.FLAT, is_reserved)} if start in seen else set()
        seen.add(start)
    return found | {span for span, known in prices.items() if len(known) > 1}


def _noted(drawn: Case) -> set[Span]:
    starts = sorted(period.started_at for period in drawn.coarse)
    notes = [note for note in _price(drawn, drawn.coarse).notes if isinstance(note, PeriodSpansPriceChange)]
    return {(starts[note.period_index], note.dimension, note.is_reservation) for note in notes}


def _price_of(component: PriceComponent | None, tariff: Tariff | None) -> tuple[Fraction, Fraction, int] | None:
    if component is None or tariff is None:
        return None
    unit = Charge(component=component, tariff=tariff, quantity=Fraction(1))
    return (unit.excl, unit.incl, max(1, component.step_size))


def _price(drawn: Case, periods: Sequence[ChargingPeriod]) -> PricedSession:
    if len(drawn.tariffs) == 1:
        return price_session(drawn.tariffs[0], periods, ended_at=drawn.ended_at, time_zone=drawn.time_zone)
    return price_session_by_several(drawn.tariffs, periods, ended_at=drawn.ended_at, time_zone=drawn.time_zone)


def _difference(priced: PricedSession, expected: Bill) -> str | None:
    """Compare exact sums of lines, and each total in ten-thousandths."""
    excl, incl = (sum((getattr(line, name) for line in priced.lines), start=Fraction(0)) for name in ("excl", "incl"))
    if (excl, incl) != (expected.unlimited.excl, expected.unlimited.incl):
        return f"lines add up to {excl} / {incl}, the walk to {expected.unlimited}"
    stated = {
        "total": (priced.total, expected.total),
        "unlimited": (priced.unlimited, expected.unlimited),
        **{part.value: (getattr(priced, part) or Price(excl_e4=0), expected.parts[part]) for part in Part},
    }
    for name, (price, cost) in stated.items():
        if not _is_same(price, cost):
            return f"{name} is {price}, the walk says {cost}"
    return None


def _is_same(price: Price, cost: Cost) -> bool:
    """Whether a price is an exact cost; one that says nothing of tax is held to the cost before it."""
    return price.excl_e4 == _e4(cost.excl) and price.incl_e4 in (None, _e4(cost.incl))


def _e4(amount: Fraction) -> int:
    """To ten-thousandths, half away from zero (decision 3)."""
    size = floor(abs(amount) * 10_000 + Fraction(1, 2))
    return size if amount >= 0 else -size


def main(arguments: Sequence[str]) -> int:
    """Compare the cases asked for; return 1 where any differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=CASES)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    asked = parser.parse_args(arguments)
    seeds = range(asked.first, asked.first + asked.cases)
    found = []
    with get_context("spawn").Pool(asked.processes) as pool:
        for number, each in enumerate(pool.imap(difference, seeds, CHUNK), start=1):
            if each is not None:
                found.append(each)
                if len(found) <= MOST_SHOWN:
                    sys.stdout.write(f"{each}\n")
            if number % REPORT_EVERY == 0:
                sys.stdout.write(f"{number:,} of {asked.cases:,} sessions, {len(found):,} differ\n")
                sys.stdout.flush()
    sys.stdout.write(f"{asked.cases:,} sessions from seed {asked.first}: {len(found):,} differ\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
