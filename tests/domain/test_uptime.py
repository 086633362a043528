"""Uptime by the letter of the two rules; time is neither lost nor counted twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from emobility.domain.uptime import Span, Uptime, common, duration, reliability, spans_where, union, uptime, without

START: Final = datetime(2022, 1, 1, tzinfo=UTC)
MINUTES: Final = 60


def at(minute: int) -> datetime:
    return START + timedelta(minutes=minute)


def span(since: int, until: int) -> Span:
    return Span(at(since), at(until))


SPANS: Final = st.lists(
    st.tuples(st.integers(0, MINUTES), st.integers(0, MINUTES)).map(lambda pair: span(min(pair), max(pair))), max_size=8
)


def minutes(spans: list[Span]) -> set[int]:
    return {minute for minute in range(MINUTES) for each in spans if each.since <= at(minute) < each.until}


@given(SPANS, SPANS)
def test_what_spans_have_in_common_or_apart_is_what_their_minutes_have(one: list[Span], other: list[Span]) -> None:
    assert minutes(union([*one, *other])) == minutes(one) | minutes(other)
    assert minutes(common(one, other)) == minutes(one) & minutes(other)
    assert minutes(without(one, other)) == minutes(one) - minutes(other)
    assert duration(one) == timedelta(minutes=len(minutes(one)))


@given(SPANS, SPANS, SPANS)
def test_outage_is_within_what_was_observed_and_exclusion_within_outage(
    observed: list[Span], outage: list[Span], excluded: list[Span]
) -> None:
    up = uptime(observed, outage, excluded)

    assert timedelta(0) <= up.excluded <= up.outage <= up.observed
    assert up.ppm is None if not up.observed else 0 <= (up.ppm or 0) <= 1_000_000


def test_a_year_with_outage_of_which_some_is_excluded_follows_the_formula_of_680_116() -> None:
    year = timedelta(minutes=525_600)

    up = Uptime(observed=year, outage=timedelta(minutes=20_000), excluded=timedelta(minutes=5_000))

    assert up.ppm == 971_461  # (525,600 - (20,000 - 5,000)) / 525,600 = 0.9714611...


def test_hours_without_access_are_not_observed_by_the_uk_rule() -> None:
    reliable = reliability([span(0, 60)], [span(10, 30)], [span(20, 50)])

    assert (reliable.observed, reliable.outage) == (timedelta(minutes=30), timedelta(minutes=10))


def test_a_change_holds_until_the_next_and_the_last_to_the_end() -> None:
    changes = [(at(0), False), (at(5), True), (at(7), True), (at(10), False), (at(50), True)]

    assert spans_where(changes, until=at(60)) == [span(5, 10), span(50, 60)]


def test_nothing_observed_has_no_uptime() -> None:
    assert uptime([], [span(0, 60)]).ppm is None
