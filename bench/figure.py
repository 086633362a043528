"""A measured figure beside its rival and its goal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import ge, le
from statistics import median


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One row of `wattroam bench`.

    Attributes:
        name: Dotted, as in `gateway.wire.durable`.
        value: What was measured for us, in `unit`.
        rival: The same for the rival, in the same run; None where there is none.
        ratio: `value / rival`, so that above 1 is better for rates and below 1 for times and sizes; where both were
            measured in rounds, the median of the rounds' ratios.
        goal: The goal in words, as in `>= 8x rival`.
        holds: Whether the goal was met.
    """

    name: str
    value: float
    unit: str
    rival: float | None = None
    rival_name: str | None = None
    ratio: float | None = None
    goal: str | None = None
    holds: bool | None = None


def against_rival(
    *,
    name: str,
    unit: str,
    ours: Sequence[float],
    rival: Sequence[float],
    rival_name: str,
    ratio_min: float | None = None,
    value_min: float | None = None,
    value_max: float | None = None,
) -> Figure:
    """Return the medians of rounds that were measured in turns; the goal is what bounds are given, all of them."""
    value, ratio = median(ours), median(one / other for one, other in zip(ours, rival, strict=True))
    goals = []
    if ratio_min is not None:
        goals.append((f">= {ratio_min:g}x rival", ratio >= ratio_min))
    if value_min is not None:
        goals.append((f">= {value_min:,g} {unit}", value >= value_min))
    if value_max is not None:
        goals.append((f"<= {value_max:,g} {unit}", value <= value_max))
    return Figure(
        name=name,
        value=value,
        unit=unit,
        rival=median(rival),
        rival_name=rival_name,
        ratio=ratio,
        goal=" and ".join(goal for goal, _ in goals) or None,
        holds=all(holds for _, holds in goals) if goals else None,
    )


def against_goal(
    *, name: str, value: float, unit: str, at_least: float | None = None, at_most: float | None = None
) -> Figure:
    """Return a figure with an absolute goal; give one bound or none."""
    bounds: tuple[tuple[str, float | None, Callable[[float, float], bool]], ...] = (
        (">=", at_least, ge),
        ("<=", at_most, le),
    )
    for sign, bound, holds in bounds:
        if bound is not None:
            return Figure(name=name, value=value, unit=unit, goal=f"{sign} {bound:g} {unit}", holds=holds(value, bound))
    return Figure(name=name, value=value, unit=unit)
