"""Statements that are closed before their period is over: by count, value or age; late CDRs keep their date."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import pytest

from emobility.runtime.telemetry import Metrics
from services.settlement.closing import Closing, Thresholds
from services.settlement.metrics import SettlementMetrics
from tests.settlement.world import T0, World, a_cdr, a_credit, accepted, open_world, terms

HOUR: Final = timedelta(hours=1)


def closing(world: World, **thresholds: object) -> Closing:
    return Closing(world.ports, SettlementMetrics(Metrics()), thresholds=Thresholds(**thresholds))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("thresholds", "taken", "is_closed"),
    [
        ({}, 9, False),
        ({"cdrs": 3}, 2, False),
        ({"cdrs": 3}, 3, True),
        ({"value_e4": 20_000}, 1, False),
        ({"value_e4": 20_000}, 2, True),
        ({"age": HOUR}, 1, False),
    ],
)
async def test_what_crosses_a_threshold_is_closed_and_nothing_else(
    thresholds: dict[str, object], taken: int, *, is_closed: bool
) -> None:
    async with open_world() as world:
        await world.sign(terms())
        await world.take(*[accepted(a_cdr(f"s{number}", 10_000)) for number in range(taken)])

        closed = await closing(world, **thresholds).close_due()

    assert closed == int(is_closed)


async def test_the_oldest_cdr_closes_its_statement_when_it_has_waited_long_enough() -> None:
    async with open_world() as world:
        await world.sign(terms())
        await world.take(accepted(a_cdr("s1")))
        by_age = closing(world, age=HOUR)
        before = await by_age.close_due()

        world.clock.step_by(HOUR)

        assert (before, await by_age.close_due()) == (0, 1)


async def test_credits_count_against_the_value() -> None:
    async with open_world() as world:
        await world.sign(terms())
        await world.take(accepted(a_cdr("s1", 20_000)), accepted(a_credit(a_cdr("s1", 20_000))))

        assert await closing(world, value_e4=20_000).close_due() == 0
        await world.take(accepted(a_cdr("s2", -20_000)))
        assert await closing(world, value_e4=20_000).close_due() == 1


async def test_a_late_cdr_goes_into_the_next_statement_with_its_own_date() -> None:
    async with open_world() as world:
        await world.sign(terms())
        await world.take(accepted(a_cdr("s1")))
        by_count = closing(world, cdrs=1)
        await by_count.close_due()

        await world.take(accepted(a_cdr("late", ended_at=T0 - 30 * HOUR), at=T0 - HOUR))
        await by_count.close_due()

        first, second = sorted(await world.statements(), key=lambda each: each.sequence)
        leaves = {leaf.cdr_id: leaf for leaf in await world.leaves()}
    assert (leaves["s1"].sequence, leaves["late"].sequence) == (first.sequence, second.sequence) == (1, 2)
    assert leaves["late"].ended_at == T0 - 30 * HOUR
    assert second.period_start >= first.period_end - timedelta(seconds=1)
