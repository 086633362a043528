"""What is planned when. Acts of one moment run by phase; those of one phase run side by side."""

from __future__ import annotations

import heapq
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from itertools import count

Act = Callable[[], Awaitable[None]]


class Phase(IntEnum):
    """The order of acts at one moment."""

    MARKET = 0
    RETURNS = 1
    METERS = 2
    STOPS = 3
    UNPLUGS = 4
    OUTAGES = 5
    PLUGS = 6
    STARTS = 7
    OUTCOMES = 8
    DRIVERS = 9
    OPERATORS = 10


@dataclass(slots=True)
class Agenda:
    """Acts by moment, phase and the order in which they were planned."""

    _heap: list[tuple[datetime, int, int, Act]] = field(default_factory=list)
    _order: count[int] = field(default_factory=count)

    def plan(self, at: datetime, phase: Phase, act: Act) -> None:
        """Enter an act."""
        heapq.heappush(self._heap, (at, phase, next(self._order), act))

    def next_at(self) -> datetime | None:
        """Return the earliest moment anything is planned for."""
        return self._heap[0][0] if self._heap else None

    def take(self, at: datetime) -> tuple[Phase, list[Act]] | None:
        """Remove and return the acts of the first phase planned for `at` or earlier; None when nothing is left."""
        if not self._heap or self._heap[0][0] > at:
            return None
        phase = self._heap[0][1]
        acts = []
        while self._heap and self._heap[0][0] <= at and self._heap[0][1] == phase:
            acts.append(heapq.heappop(self._heap)[3])
        return Phase(phase), acts
