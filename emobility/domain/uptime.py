"""How long a charging port was up, by the two rules that operators answer to.

United States, 23 CFR 680.116(b)(3), for 12 months of 525,600 minutes: uptime = (T - (T_outage - T_excluded)) / T, more
than 97 % for each port. A port serves one vehicle at a time (680.104): an EVSE. It is up when it is online and
available or in use; excluded is only outage of the causes in `ExclusionReason`, stated by the operator.

United Kingdom, Public Charge Point Regulations 2023 (SI 2023/1168), regulation 7: the EVSEs of 50 kW or more are
reliable for 99 % of a calendar year on average. Unreliable is INOPERATIVE and OUTOFORDER alone; UNKNOWN, as when a
station is offline, is not; hours in which nobody has access don't count at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Final

PPM: Final = 1_000_000
NEVI_UPTIME_PPM: Final = 970_000
"""A port has to exceed this."""
UK_RELIABILITY_PPM: Final = 990_000
"""A network has to reach this on average."""
RAPID_POWER_W: Final = 50_000
"""A rapid charge point has at least this (SI 2023/1168, regulation 2)."""


class ExclusionReason(StrEnum):
    """Causes of outage beyond the operator's control (23 CFR 680.116(b)(3)); the last is excluded by both rules."""

    UTILITY_INTERRUPTION = "UTILITY_INTERRUPTION"
    VEHICLE_FAULT = "VEHICLE_FAULT"
    SCHEDULED_MAINTENANCE = "SCHEDULED_MAINTENANCE"
    VANDALISM = "VANDALISM"
    NATURAL_DISASTER = "NATURAL_DISASTER"
    OUTSIDE_OPENING_HOURS = "OUTSIDE_OPENING_HOURS"


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """From a moment (included) to a later one (excluded)."""

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Uptime:
    """Time observed, of it out of order, and of that what the operator excluded."""

    observed: timedelta
    outage: timedelta
    excluded: timedelta = timedelta(0)

    @property
    def ppm(self) -> int | None:
        """Return millionths of the time observed that it was up, rounded down; None: nothing was observed."""
        if not self.observed:
            return None
        return (self.observed - (self.outage - self.excluded)) * PPM // self.observed


def uptime(observed: Sequence[Span], outage: Sequence[Span], excluded: Sequence[Span] = ()) -> Uptime:
    """Return the uptime by 680.116; excluded time that was no outage changes nothing."""
    seen_outage = common(observed, outage)
    return Uptime(
        observed=duration(observed),
        outage=duration(seen_outage),
        excluded=duration(common(seen_outage, excluded)),
    )


def reliability(observed: Sequence[Span], unreliable: Sequence[Span], closed: Sequence[Span]) -> Uptime:
    """Return the reliability by regulation 7; closed hours are not observed."""
    hours = without(observed, closed)
    return Uptime(observed=duration(hours), outage=duration(common(hours, unreliable)))


def spans_where(changes: Iterable[tuple[datetime, bool]], *, until: datetime) -> list[Span]:
    """Return when something was so: each change (in order of time) holds until the next, the last one to `until`."""
    moments = [*changes, (until, False)]
    return union(Span(at, end) for (at, holds), (end, _) in pairwise(moments) if holds)


def union(spans: Iterable[Span]) -> list[Span]:
    """Return the same time without overlaps, in order; empty spans vanish."""
    joined: list[Span] = []
    for span in sorted(span for span in spans if span.since < span.until):
        if joined and span.since <= joined[-1].until:
            joined[-1] = Span(joined[-1].since, max(joined[-1].until, span.until))
        else:
            joined.append(span)
    return joined


def common(one: Iterable[Span], other: Iterable[Span]) -> list[Span]:
    """Return the time that lies in both."""
    left, right, both = union(one), union(other), []
    at = other_at = 0
    while at < len(left) and other_at < len(right):
        first, second = left[at], right[other_at]
        both.append(Span(max(first.since, second.since), min(first.until, second.until)))
        if first.until <= second.until:
            at += 1
        else:
            other_at += 1
    return union(both)


def without(one: Iterable[Span], other: Iterable[Span]) -> list[Span]:
    """Return the time that lies in the first alone."""
    rest: list[Span] = []
    cuts = union(other)
    for span in union(one):
        since = span.since
        for cut in cuts:
            if cut.until > since and cut.since < span.until:
                rest.append(Span(since, cut.since))
                since = cut.until
        rest.append(Span(since, span.until))
    return union(rest)


def duration(spans: Iterable[Span]) -> timedelta:
    """Return how long spans last together."""
    return sum((span.until - span.since for span in union(spans)), timedelta(0))
