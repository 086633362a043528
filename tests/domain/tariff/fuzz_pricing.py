"""Compare the engine with the oracle on generated sessions.

`python -m tests.domain.tariff.fuzz_pricing [COUNT] [FIRST_SEED]`
"""

from __future__ import annotations

import sys
from typing import Final

from emobility.domain.tariff.pricing import price_session_by_several
from tests.domain.tariff.cases import case_of_2_3_0
from tests.domain.tariff.oracle import bill, bill_by_several

COUNT: Final = 100_000
PARTS: Final = ("total", "energy", "time", "parking", "fixed", "reservation")


def difference(seed: int) -> str | None:
    """What the two pricers disagree on for the case of a seed, or None."""
    drawn = case_of_2_3_0(seed)
    tariffs = (drawn.tariff, *drawn.further_tariffs)
    priced = price_session_by_several(tariffs, drawn.periods, ended_at=drawn.ended_at, time_zone=drawn.time_zone)
    if drawn.further_tariffs:
        by_id = {tariff.tariff_id: tariff for tariff in tariffs}
        named = [(period, by_id.get(period.tariff_id or "")) for period in drawn.periods]
        expected = bill_by_several(named, drawn.time_zone)
    else:
        expected = bill(drawn.tariff, drawn.periods, drawn.time_zone)
    for part in PARTS:
        if getattr(priced, part) != expected[part]:
            return f"seed {seed}: {part} is {getattr(priced, part)}, the oracle says {expected[part]}"
    return None


def main(arguments: list[str]) -> int:
    """Compare COUNT cases from SEED on; return 1 at the first difference."""
    count, first = (int(argument) for argument in (*arguments, *(str(COUNT), "0")[len(arguments) :]))
    for number, seed in enumerate(range(first, first + count), start=1):
        found = difference(seed)
        if found is not None:
            sys.stdout.write(f"{found}\n")
            return 1
        if number % 10_000 == 0:
            sys.stdout.write(f"{number:,} of {count:,} sessions equal\n")
    sys.stdout.write(f"{count:,} sessions priced equally by both, from seed {first}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
