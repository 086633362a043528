"""The history of a meter's keys: which key holds when, and what never comes into it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from emobility.domain.errors import MalformedInput
from emobility.domain.meter_key import PinnedKey, key_at, with_entry

AT = datetime(2022, 3, 27, 8, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def entry(key: str | None, valid_from: datetime | None) -> PinnedKey:
    return PinnedKey(public_key=key, valid_from=valid_from, entered_at=AT, entered_by="Ann", why="replaced")


def test_the_key_that_began_last_holds_and_an_entry_without_a_moment_takes_back_what_was_before() -> None:
    entries = (entry("old", None), entry("newer", AT + HOUR), entry("new", AT))

    assert [key_at(entries, AT + step * HOUR) for step in (-1, 0, 1)] == ["old", "new", "newer"]
    assert key_at((*entries, entry("only", None)), AT + HOUR) == "only"


def test_a_moment_without_its_offset_is_refused_before_it_is_ever_compared() -> None:
    with pytest.raises(MalformedInput):
        with_entry((), entry("new", AT.replace(tzinfo=None)))
