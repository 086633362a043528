"""What several parts of an audit found of one rule is added up, and nothing of it is dropped in silence."""

from __future__ import annotations

from services.audit.report import DIFFERENCES_MAX, Check, Difference
from services.audit.slices import added_up

ONE = Difference(rule="r", scope="s", expected=1, found=0, unit="documents", cause="c")


def test_differences_beyond_the_most_are_counted_and_told_last() -> None:
    parts = [Check(rule="r", compared=10, unknown=1, differences=(ONE,) * 4_000, untold=untold) for untold in (0, 0, 5)]

    (found,) = added_up(parts)
    closed = found.closed()

    assert (found.compared, found.unknown, len(found.differences), found.untold) == (30, 3, DIFFERENCES_MAX, 2_005)
    assert closed.differences[:-1] == found.differences
    assert (closed.differences[-1].found, closed.differences[-1].unit) == (2_005, "differences")
    assert Check(rule="r", compared=1, differences=(ONE,)).closed().differences == (ONE,)
