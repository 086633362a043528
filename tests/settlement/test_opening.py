"""Parties and agreements enter the contracts by themselves on a chain of our own, and say what they wait for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from emobility.domain.agreement import SettlementMode
from emobility.domain.batch.typed_data import BookMode
from emobility.domain.identifiers import PartyId
from services.settlement.opening import PLAY_MONEY_E4, VALID_FOR
from services.settlement.records import DEPLOYMENT, OPENING, PARTY, Opening, StatementState
from tests.settlement.settling import Settling, open_settling
from tests.settlement.world import CPO, MSP, T0, a_cdr, accepted, terms

OTHER_MSP = PartyId("NL-WIN")


@pytest.fixture
async def here() -> AsyncIterator[Settling]:
    async with open_settling() as opened:
        yield opened


async def openings(here: Settling) -> dict[PartyId, Opening]:
    async with here.world.ports.units.begin() as unit:
        return {each.emsp_id: each for each in await unit.table(OPENING).select()}


async def test_from_nothing_to_a_final_statement(here: Settling) -> None:
    await here.sign(terms())
    await here.follow(here.follower(opens=True))
    await here.world.take(accepted(a_cdr("s1")))
    await here.world.closing.close_now()

    await here.follow(here.follower(opens=True))

    assert [each.state for each in await here.world.statements()] == [StatementState.FINAL]
    async with here.world.ports.units.begin() as unit:
        (deployed,) = await unit.table(DEPLOYMENT).select()
        numbers = {each.party_id: each.number or 0 for each in await unit.table(PARTY).select()}
    contracts = deployed.deployment.of("EUR")
    assert contracts is not None
    deployer = here.market.deployer
    assert await deployer.collateral_of(contracts, numbers[MSP]) == PLAY_MONEY_E4 - 15_000
    assert await deployer.collateral_of(contracts, numbers[CPO]) == PLAY_MONEY_E4 + 15_000


async def test_an_agreement_that_comes_later_is_opened_in_the_same_contracts(here: Settling) -> None:
    await here.sign(terms())
    await here.follow(here.follower(opens=True))
    await here.sign(terms(CPO, OTHER_MSP))

    await here.follow(here.follower(opens=True))

    async with here.world.ports.units.begin() as unit:
        assert await unit.table(DEPLOYMENT).count() == 1
    ids = {each.book_agreement for each in (await openings(here)).values()}
    assert len(ids) == 2
    assert None not in ids


async def test_what_can_not_be_opened_says_why_and_holds_up_no_other(here: Settling) -> None:
    stranger = terms(CPO, PartyId("FR-EXT"))
    unlimited = terms(CPO, PartyId("NL-NUL"), settlement_mode=SettlementMode.CREDIT_LINE, credit_limit_e4=0)
    await here.sign(terms(), unlimited)
    await here.sign(stranger, outside=stranger.emsp_id)

    await here.follow(here.follower(opens=True))

    found = await openings(here)
    assert found[MSP].book_agreement is not None
    assert {each: found[each].waiting for each in (stranger.emsp_id, unlimited.emsp_id)} == {
        stranger.emsp_id: "the registration of FR-EXT",
        unlimited.emsp_id: "the book refuses: SettlementBookUnsuitableTerms",
    }


async def test_a_guarantee_is_reserved_as_it_is_opened(here: Settling) -> None:
    guaranteed = terms(CPO, OTHER_MSP, settlement_mode=SettlementMode.GUARANTEE, credit_limit_e4=70_000)
    await here.sign(guaranteed)

    await here.follow(here.follower(opens=True))

    opened = (await openings(here))[OTHER_MSP]
    assert opened.payment_terms_d == guaranteed.payment_terms_d
    state, (reserved,) = await here.in_the_book(opened)
    assert (state.mode, state.credit_limit_e4, reserved) == (BookMode.GUARANTEE, 70_000, 70_000)
    assert state.payment_term_s == guaranteed.payment_terms_d * 24 * 3600


async def test_an_agreement_whose_number_the_book_knows_gets_the_next(here: Settling) -> None:
    await here.sign(terms())
    await here.follow(here.follower(opens=True))
    (opened,) = (await openings(here)).values()
    forgotten = replace(opened, number=None, deadline=None, book_agreement=None, document=b"\1" * 32)
    async with here.world.ports.units.begin() as unit:
        await unit.table(OPENING).put(forgotten)  # other terms under the number of an agreement that nobody remembers
        await unit.commit()
    here.world.clock.step_by(timedelta(days=1))

    await here.follow(here.follower(opens=True))

    (anew,) = (await openings(here)).values()
    assert (anew.number, anew.waiting) == (1, None)
    assert anew.book_agreement not in {None, opened.book_agreement}


async def test_a_currency_without_a_book_waits(here: Settling) -> None:
    await here.sign(terms())
    await here.follow(here.follower(opens=True))
    await here.sign(terms(CPO, OTHER_MSP, currency="CHF"))

    await here.follow(here.follower(opens=True))

    assert (await openings(here))[OTHER_MSP].waiting == "no book settles CHF"


async def test_an_opening_that_was_cut_short_goes_on_under_the_same_id(here: Settling) -> None:
    await here.sign(terms())
    follower = here.follower(opens=True)
    await here.follow(follower)
    (opened,) = (await openings(here)).values()
    async with here.world.ports.units.begin() as unit:
        await unit.table(OPENING).put(replace(opened, book_agreement=None))
        await unit.commit()
    here.world.clock.step_by(timedelta(days=1))

    await here.follow(here.follower(opens=True))

    assert await openings(here) == {MSP: opened}


async def test_signatures_that_ran_out_before_it_was_open_are_given_anew(here: Settling) -> None:
    await here.sign(terms())
    await here.follow(here.follower(opens=True))
    (opened,) = (await openings(here)).values()
    assert opened.deadline is not None
    late = terms(CPO, OTHER_MSP)
    await here.sign(late)
    async with here.world.ports.units.begin() as unit:
        (fresh,) = [each for each in await unit.table(OPENING).select() if each.book_agreement is None]
        await unit.table(OPENING).put(replace(fresh, deadline=T0))
        await unit.commit()
    here.world.clock.step_by(timedelta(days=1))

    await here.follow(here.follower(opens=True))

    found = (await openings(here))[OTHER_MSP]
    assert found.book_agreement is not None
    assert found.deadline == here.world.clock.now() + VALID_FOR
