"""Quarters of an hour: what the registers showed at their ends, nothing made up, and no Wh lost between them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobility.domain.meter import MeterReading, ReadingContext
from emobility.domain.metered_intervals import BOUNDARY_SLACK, INTERVAL, MeteredInterval, metered_intervals
from emobility.domain.personal import Sealed

START = datetime(2022, 3, 27, 8, 0, tzinfo=UTC)
RECORD = Sealed(subject="ab" * 32, box=b"record")


def read(quarter: float, import_wh: int | None, export_wh: int | None = None, **fields: object) -> MeterReading:
    given_fields = {"context": ReadingContext.SAMPLE_CLOCK, **fields}
    return MeterReading(at=START + quarter * INTERVAL, import_wh=import_wh, export_wh=export_wh, **given_fields)  # type: ignore[arg-type]  # as given


def intervals(*readings: MeterReading, quarters: int = 1) -> tuple[MeteredInterval, ...]:
    return metered_intervals(readings, START, START + quarters * INTERVAL)


@given(
    steps=st.lists(st.tuples(st.integers(0, 6_000), st.integers(0, 6_000)), min_size=1, max_size=12),
    chance=st.randoms(use_true_random=False),
)
def test_intervals_add_up_to_what_the_registers_moved_in_any_order_and_repeated(
    steps: list[tuple[int, int]], chance: object
) -> None:
    registers = [(1_000, 500)]
    for drawn, fed in steps:
        registers.append((registers[-1][0] + drawn, registers[-1][1] + fed))
    readings = [read(place, *both) for place, both in enumerate(registers)]
    shuffled = [*readings, *readings]
    chance.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis's Random

    found = intervals(*shuffled, quarters=len(steps))

    assert [(each.import_wh, each.export_wh) for each in found] == steps
    assert found == intervals(*readings, quarters=len(steps))


@given(missing=st.sets(st.integers(0, 8)))
def test_a_boundary_that_was_not_read_leaves_both_its_intervals_empty(missing: set[int]) -> None:
    readings = [read(place, place * 100) for place in range(9) if place not in missing]

    found = intervals(*readings, quarters=8)

    assert [each.import_wh for each in found] == [None if {place, place + 1} & missing else 100 for place in range(8)]


def test_the_evidence_of_both_ends_comes_with_an_interval() -> None:
    other = Sealed(subject="cd" * 32, box=b"other")
    beside = MeterReading(at=START, context=ReadingContext.SAMPLE_CLOCK, signed_record=other)

    (found,) = intervals(read(0, 100, signed_record=RECORD), beside, read(1, 200, signed_record=RECORD))

    assert set(found.begin.signed_records) == {RECORD, other}
    assert found.end.signed_records == (RECORD,)


def test_a_reading_by_the_clock_goes_before_a_nearer_one() -> None:
    near = read(0, 101, context=ReadingContext.SAMPLE_PERIODIC)
    by_clock = MeterReading(at=START + timedelta(seconds=2), context=ReadingContext.SAMPLE_CLOCK, import_wh=103)

    (found,) = intervals(near, by_clock, read(1, 203))

    assert found.import_wh == 100


def test_a_reading_too_far_from_a_boundary_says_nothing_of_it() -> None:
    inside = MeterReading(at=START - BOUNDARY_SLACK, import_wh=100)
    outside = MeterReading(at=START + INTERVAL + BOUNDARY_SLACK + timedelta(milliseconds=1), import_wh=200)

    (found,) = intervals(inside, outside)

    assert (found.begin.import_wh, found.end.import_wh, found.import_wh) == (100, None, None)


@pytest.mark.parametrize(
    "readings",
    [
        (read(0, 300), read(1, 200)),
        (read(0, 100), read(1, 200), read(1, 201)),
        (read(0, 100), read(1, None, fault="it is 'NaN', not a number")),
    ],
)
def test_what_can_not_be_is_no_energy_and_says_why(readings: tuple[MeterReading, ...]) -> None:
    (found,) = intervals(*readings)

    assert found.import_wh is None
    assert found.faults


@pytest.mark.parametrize("at", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)])
def test_a_station_without_a_clock_says_nothing_of_any_interval(at: datetime) -> None:
    (found,) = intervals(MeterReading(at=at, import_wh=5))

    assert (found.begin.import_wh, found.end.import_wh) == (None, None)


def test_only_whole_intervals_are_told() -> None:
    found = metered_intervals([], START + timedelta(seconds=1), START + 3 * INTERVAL - timedelta(seconds=1))

    assert [each.started_at for each in found] == [START + INTERVAL]
