"""The collector looks rarely, and still looks."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from emobility.runtime.garbage import NEW_OBJECTS_MAX, collect_rarely


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    threshold = gc.get_threshold()
    yield
    gc.set_threshold(*threshold)
    gc.unfreeze()


class Cycle:
    def __init__(self) -> None:
        self.itself = self


def test_a_cycle_is_gone_after_the_named_number_of_new_objects() -> None:
    collect_rarely()
    cycle = weakref.ref(Cycle())

    kept: list[list[object]] = [[] for _ in range(2 * NEW_OBJECTS_MAX)]

    assert cycle() is None
    assert kept


def test_what_was_built_before_is_walked_no_more() -> None:
    built = Cycle()

    collect_rarely()

    assert not any(each is built for each in gc.get_objects())
    assert gc.get_freeze_count() > 0
