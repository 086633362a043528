"""A charge is priced, wholesale and retail, by what was frozen when it was authorised or began."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from emobility.domain.identifiers import PartyId
from emobility.domain.session import AuthMethod
from emobility.domain.tariff.version import tariff_hash
from services.driver_mobility.records import QUOTE, TARIFF
from tests.mobility.conftest import T0, agreement, energy_tariff, sign

MSP = PartyId("NL-EMA")
PLUS_E4 = 40_535
"""10 kWh at 0.30 and a fee of 0.35, with 21 % VAT."""


def faults_of(detail: str) -> list[str]:
    return [part.split(":")[0] for part in detail.split("; ")]


async def test_a_version_sent_after_the_quote_and_the_start_prices_nothing_though_it_is_dated_before(
    memory_world: Any,
) -> None:
    driver_id = await memory_world.enrol()
    info = await memory_world.cpo.authorize()
    memory_world.clock.step_by(timedelta(minutes=10))
    memory_world.cpo.tariff = energy_tariff("0.90", at=T0 - timedelta(minutes=1))
    await memory_world.cpo.push_tariff(memory_world.cpo.tariff)
    _, cdr = await memory_world.cpo.charge("S1", reference=info.authorization_reference, started_at=T0)

    await memory_world.cpo.post_cdr(cdr)
    await memory_world.quiet()

    assert [dispute.reason for dispute in memory_world.cpo.disputes] == ["TARIFF_NOT_FROZEN"]
    assert await memory_world.account(driver_id) == {}


async def test_a_version_announced_between_quote_and_start_is_owed_and_the_driver_pays_what_was_quoted(
    world: Any,
) -> None:
    driver_id = await world.enrol(plan_id="plus")
    quote = await world.quote(driver_id)
    world.clock.step_by(timedelta(minutes=2))
    world.cpo.tariff = energy_tariff("0.90", at=world.clock.now())
    await world.cpo.push_tariff(world.cpo.tariff)
    started_at = T0 + timedelta(minutes=10)
    session, cdr = await world.cpo.charge("S1", reference=quote["quote_id"], started_at=started_at)

    await world.cpo.begin(session)
    await world.cpo.push_session(session)
    await world.cpo.post_cdr(cdr)
    await world.quiet()

    assert await world.cdr_states() == {"S1": "ACCEPTED"}
    assert (await world.account(driver_id))["billed_e4"] == PLUS_E4


async def test_a_version_with_the_date_of_another_overwrites_none_and_what_was_frozen_is_owed(world: Any) -> None:
    await world.enrol()
    first = world.cpo.tariff
    world.clock.step_by(timedelta(hours=1))
    info = await world.cpo.authorize()
    session, cdr = await world.cpo.charge("S1", reference=info.authorization_reference, started_at=world.clock.now())
    await world.cpo.begin(session)
    world.clock.step_by(timedelta(minutes=30))
    dearer = energy_tariff("0.90", at=first.last_updated)

    for tariff in (dearer, first, dearer):
        await world.cpo.push_tariff(tariff)
    await world.cpo.push_session(session)
    await world.cpo.post_cdr(cdr)
    await world.quiet()

    assert await world.cdr_states() == {"S1": "ACCEPTED"}
    async with world.ports.units.begin() as unit:
        kept = await unit.table(TARIFF).select(order_by=("in_force_from",))
    assert [version.tariff_hash for version in kept] == [tariff_hash(first), tariff_hash(dearer)]


async def test_a_charge_by_whitelist_is_priced_by_a_tariff_that_its_connector_carries(memory_world: Any) -> None:
    await memory_world.enrol()
    await sign(memory_world, agreement(version=2, tariff_ids=("W1", "W2")))
    memory_world.cpo.tariff = energy_tariff("0.90", tariff_id="W2")
    await memory_world.cpo.push_tariff(memory_world.cpo.tariff)
    memory_world.clock.step_by(timedelta(hours=1))
    session, cdr = await memory_world.cpo.charge(
        "S1", reference=None, auth_method=AuthMethod.WHITELIST, started_at=memory_world.clock.now()
    )

    await memory_world.cpo.push_session(session)
    await memory_world.cpo.post_cdr(cdr)
    await memory_world.quiet()

    assert [dispute.reason for dispute in memory_world.cpo.disputes] == ["TARIFF_NOT_FROZEN"]


async def test_what_a_cpo_claims_to_have_frozen_makes_no_retail_price_unless_it_was_in_force(memory_world: Any) -> None:
    await memory_world.enrol(plan_id="plus")
    old = memory_world.cpo.tariff
    await memory_world.cpo.push_tariff(energy_tariff("0.20", at=memory_world.clock.now()))
    memory_world.clock.step_by(timedelta(hours=1))
    memory_world.cpo.tariff = old
    at = memory_world.clock.now()
    by_session, _ = await memory_world.cpo.charge("S1", reference=None, started_at=at)
    _, by_cdr = await memory_world.cpo.charge("S2", reference=None, started_at=at + timedelta(hours=2))

    await memory_world.cpo.push_session(by_session)
    await memory_world.cpo.post_cdr(by_cdr)
    await memory_world.quiet()

    async with memory_world.ports.units.begin() as unit:
        quotes = await unit.table(QUOTE).select({"party_id": MSP})
    prices = {quote.session_id: quote.quote.tariff.elements[0].components[0].price for quote in quotes}
    assert prices == {"S1": Decimal("0.20"), "S2": Decimal("0.20")}


async def test_a_tariff_that_differs_from_the_sessions_is_named_with_all_else_that_is_wrong(memory_world: Any) -> None:
    await memory_world.enrol()
    info = await memory_world.cpo.authorize()
    session, cdr = await memory_world.cpo.charge("S1", reference=info.authorization_reference)
    await memory_world.cpo.push_session(replace(session, tariff_hash="0" * 64))

    await memory_world.cpo.post_cdr(replace(cdr, total_parking_s=1))
    await memory_world.quiet()

    (dispute,) = memory_world.cpo.disputes
    assert faults_of(dispute.detail) == ["PERIODS_MISS_TIME", "SESSION_TARIFF_DIFFERS"]
