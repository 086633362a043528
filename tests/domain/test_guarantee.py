"""What may be taken out of a guarantee, by the term and first in first out."""

from __future__ import annotations

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from emobility.domain.guarantee import Charged, next_due, overdue

DAY = date(2022, 4, 11)
GRACE = timedelta(days=7)


def statements(*nets_e4: int) -> list[Charged]:
    """A statement every week; the first is due on `DAY`."""
    return [Charged(sequence=at + 1, due_on=DAY + timedelta(weeks=at), net_e4=net) for at, net in enumerate(nets_e4)]


def test_nothing_may_be_taken_within_term_and_grace() -> None:
    last_day = overdue(statements(10_000), paid_e4=0, today=DAY + GRACE, grace=GRACE)
    day_after = overdue(statements(10_000), paid_e4=0, today=DAY + GRACE + timedelta(days=1), grace=GRACE)

    assert last_day is None
    assert day_after is not None
    assert (day_after.sequence, day_after.amount_e4, day_after.due_on) == (1, 10_000, DAY)


def test_a_payment_counts_towards_the_oldest_statement() -> None:
    found = overdue(statements(10_000, 7_050), paid_e4=10_020, today=DAY + timedelta(days=22), grace=GRACE)

    assert found is not None
    assert (found.sequence, found.amount_e4, found.due_on) == (2, 7_000, DAY + timedelta(weeks=1))
    assert overdue(statements(10_000, 7_050), paid_e4=10_000, today=DAY + GRACE * 2, grace=GRACE) is None


def test_what_was_credited_lowers_what_is_overdue() -> None:
    assert overdue(statements(10_000, -10_000), paid_e4=0, today=DAY + timedelta(days=8), grace=GRACE) is None


def test_a_part_of_a_cent_is_never_overdue() -> None:
    assert overdue(statements(10_099), paid_e4=10_000, today=DAY + timedelta(days=80), grace=GRACE) is None
    assert next_due(statements(10_099), paid_e4=10_000) is None
    assert next_due(statements(10_099, 500), paid_e4=10_000) == DAY + timedelta(weeks=1)


@given(
    nets=st.lists(st.integers(min_value=-50_000, max_value=50_000), min_size=1, max_size=8),
    paid=st.integers(min_value=0, max_value=200_000),
    days=st.integers(min_value=0, max_value=90),
)
def test_what_may_be_taken_is_owed_and_grows_with_time_alone(nets: list[int], paid: int, days: int) -> None:
    today = DAY + timedelta(days=days)

    found = overdue(statements(*nets), paid_e4=paid, today=today, grace=GRACE)
    later = overdue(statements(*nets), paid_e4=paid, today=today + timedelta(days=7), grace=GRACE)

    if found is not None:
        assert 0 < found.amount_e4 <= sum(nets) - paid
        assert found.amount_e4 % 100 == 0
        assert found.due_on + GRACE < today
        assert later is not None
        assert later.amount_e4 >= found.amount_e4
