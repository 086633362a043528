"""One pair, two currencies: each is stated when its own period is over, and shown for itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from services.settlement.exposure import exposures_of
from tests.settlement.bank_desk import Desk
from tests.settlement.settling import open_settling
from tests.settlement.world import MSP, T0, a_cdr, accepted, open_world, terms


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


async def test_what_is_open_in_two_currencies_of_a_pair_is_never_added() -> None:
    async with open_settling() as here:
        desk = Desk(here)
        await desk.open()
        await desk.charge("s1", 1_000_000)
        await desk.settle()
        desk.agreement = replace(desk.agreement, version=2, currency="CHF", credit_limit_e4=5_000_000)
        await here.sign(desk.agreement)
        await here.world.take(accepted(a_cdr("s2", 300_000, currency="CHF"), agreement=desk.agreement))

        found = await exposures_of(here.world.ports, MSP)

    assert [(each.currency, each.owed_e4, each.unsettled_e4, each.limit_e4) for each in found] == [
        ("CHF", 0, 300_000, 5_000_000),
        ("EUR", 1_000_000, 0, None),
    ]
