"""One pair, two currencies: each is stated when its own period is over."""

from __future__ import annotations

from datetime import timedelta

from tests.settlement.world import T0, a_cdr, accepted, open_world, terms


async def test_a_currency_waits_for_no_other_of_its_pair() -> None:
    francs = terms(version=2, currency="CHF")
    async with open_world() as world:
        await world.sign(terms(), francs)
        await world.take(accepted(a_cdr("s1")), accepted(a_cdr("s2", currency="CHF"), agreement=francs))
        world.clock.step_to(T0 + timedelta(days=7))

        await world.closing.close_due()

        statements = {each.currency: each for each in await world.statements()}
    assert sorted(statements) == ["CHF", "EUR"]
    assert statements["CHF"].period_end == statements["EUR"].period_end
