"""Pairs that settle elsewhere: their CDRs are booked, and go into no statement and no batch."""

from __future__ import annotations

from emobility.domain.agreement import SettlementMode
from services.settlement.records import OPENING, PARTY
from tests.settlement.settling import open_settling
from tests.settlement.world import World, a_cdr, accepted, signed, terms


async def test_cdrs_of_a_pair_that_settles_elsewhere_are_booked_and_closed_into_nothing(world: World) -> None:
    await world.take(signed(terms(settlement_mode=SettlementMode.OFF_CHAIN)))
    await world.take(accepted(a_cdr("s1")), accepted(a_cdr("s2", -4_000)))

    closed = await world.closing.close_now()

    assert (closed, await world.statements()) == (0, [])
    assert sorted(leaf.due_e4 - leaf.credit_e4 for leaf in await world.leaves()) == [-4_000, 15_000]
    async with world.ports.units.begin() as unit:
        (opening,) = await unit.table(OPENING).select()
    assert (opening.mode, opening.book_agreement) == (SettlementMode.OFF_CHAIN, None)


async def test_nobody_is_registered_on_a_chain_for_an_agreement_that_settles_elsewhere() -> None:
    async with open_settling() as here:
        await here.sign(terms(settlement_mode=SettlementMode.OFF_CHAIN))

        await here.follow(here.follower(opens=True))

        async with here.world.ports.units.begin() as unit:
            (opening,) = await unit.table(OPENING).select()
            parties = await unit.table(PARTY).select()
        assert (opening.book_agreement, opening.waiting) == (None, None)
        assert [party.number for party in parties] == [None, None]
