"""Every accepted CDR is one leaf, however its events are repeated, ordered and cut into batches."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobility.adapters.memory import run_virtual
from emobility.domain.agreement import SettlementMode
from emobility.domain.identifiers import PartyId
from emobility.domain.money import Price
from emobility.events.event import Event
from services.settlement.intake import LeafChanged
from services.settlement.records import AGREEMENT, OPENING, PARTY, LeafRecord, SigningPolicy
from tests.settlement.world import CPO, MSP, T0, World, a_cdr, a_credit, accepted, open_world, signed, terms

COSTS_E4 = st.integers(min_value=-(10**9), max_value=10**9)
OTHER_MSP = PartyId("NL-WIN")


async def test_an_accepted_cdr_is_a_leaf_with_its_amount_on_one_side(world: World) -> None:
    charge, feed_in = a_cdr("s1", 15_000), a_cdr("s2", -2_000, wh=0, total_energy_export_wh=4_000)

    await world.take(accepted(charge), accepted(feed_in), accepted(a_credit(charge)))

    by_id = {leaf.cdr_id: leaf for leaf in await world.leaves()}
    assert {cdr_id: (leaf.due_e4, leaf.credit_e4) for cdr_id, leaf in by_id.items()} == {
        "s1": (15_000, 0),
        "s1-C1": (0, 15_000),
        "s2": (0, 2_000),
    }
    assert by_id["s2"].export_wh == 4_000
    assert by_id["s1-C1"].credit_reference_id == "s1"
    assert all(leaf.sequence is None for leaf in by_id.values())


async def test_an_event_that_comes_again_in_another_batch_changes_nothing(world: World) -> None:
    event = accepted(a_cdr("s1"), commitment=None)
    await world.take(event)
    before = await world.leaves()

    await world.take(event, replace(event, accepted_at=T0 + timedelta(days=1)))

    assert await world.leaves() == before


async def test_another_amount_under_a_booked_cdr_is_refused(world: World) -> None:
    await world.take(accepted(a_cdr("s1")))

    with pytest.raises(LeafChanged) as refusal:
        await world.take(accepted(a_cdr("s2")), accepted(a_cdr("s1", 14_999)))

    assert refusal.value.cdr_id == "s1"
    assert [(leaf.cdr_id, leaf.due_e4) for leaf in await world.leaves()] == [("s1", 15_000)]


async def test_each_agreement_has_a_secret_of_its_own_and_keeps_it(world: World) -> None:
    others = terms(CPO, OTHER_MSP)

    await world.take(accepted(a_cdr("s1")), accepted(a_cdr("s2"), agreement=others))
    await world.take(signed(terms()))

    async with world.ports.units.begin() as unit:
        pairs = await unit.table(AGREEMENT).select()
    secrets = [await world.ports.vault.open(pair.pair_secret) for pair in pairs]
    assert [len(bytes.fromhex(secret)) for secret in secrets] == [32, 32]
    assert len(set(secrets)) == 2
    assert {pair.emsp_id: pair.terms is not None for pair in pairs} == {MSP: True, OTHER_MSP: False}
    assert len({leaf.cdr_key for leaf in await world.leaves()}) == 2


async def test_no_msp_pays_for_another_whose_agreement_has_the_same_id(world: World) -> None:
    ours, theirs = terms(agreement_id="A-1"), terms(CPO, OTHER_MSP, agreement_id="A-1", version=2)
    await world.sign(ours, theirs)
    await world.take(accepted(a_cdr("s1", 7), agreement=theirs), accepted(a_cdr("s2", 5), agreement=ours))
    await world.take(accepted(a_cdr("s1", 7), agreement=theirs))

    await world.closing.close_now()

    assert {each.emsp_id: each.due_e4 for each in await world.statements()} == {ours.emsp_id: 5, OTHER_MSP: 7}
    assert {each.emsp_id for each in await world.leaves()} == {ours.emsp_id, OTHER_MSP}


async def test_who_is_hosted_here_signs_by_itself_and_others_by_api(world: World) -> None:
    await world.take(signed(terms()))
    async with world.ports.units.begin() as unit:
        parties = {party.party_id: party.signs for party in await unit.table(PARTY).select()}
    assert parties == {MSP: SigningPolicy.AUTOMATIC, CPO: SigningPolicy.BY_API}

    await world.take(signed(terms(), holder=CPO))

    async with world.ports.units.begin() as unit:
        parties = {party.party_id: party.signs for party in await unit.table(PARTY).select()}
    assert parties == {MSP: SigningPolicy.AUTOMATIC, CPO: SigningPolicy.AUTOMATIC}


async def test_only_terms_that_the_book_knows_open_an_agreement_anew(world: World) -> None:
    first = terms()
    await world.take(signed(first))
    await world.take(signed(replace(first, version=2, dispute_period_h=1)))
    limited = replace(first, version=3, settlement_mode=SettlementMode.CREDIT_LINE, credit_limit_e4=5)
    await world.take(signed(limited), signed(replace(first, version=2, currency="CHF")))

    async with world.ports.units.begin() as unit:
        openings = await unit.table(OPENING).select()
        pair = await unit.table(AGREEMENT).get(CPO, first.agreement_id)
    assert [(each.version, each.mode, each.credit_limit_e4) for each in openings] == [
        (1, SettlementMode.PREFUNDED, 0),
        (3, SettlementMode.CREDIT_LINE, 5),
    ]
    assert pair is not None
    assert pair.terms is not None
    assert pair.terms.version == 3


@given(
    costs_e4=st.lists(COSTS_E4, min_size=1, max_size=8),
    data=st.data(),
)
def test_any_order_any_repetition_and_any_batches_give_the_same_leaves(
    costs_e4: list[int], data: st.DataObject
) -> None:
    charges = [a_cdr(f"s{n}", cost_e4) for n, cost_e4 in enumerate(costs_e4)]
    events: list[Event] = [accepted(cdr) for charge in charges for cdr in (charge, a_credit(charge))]
    events.append(signed(terms()))
    history = data.draw(st.permutations(events + data.draw(st.lists(st.sampled_from(events), max_size=6))))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(history)), max_size=4)))

    async def leaves_of(batches: list[list[Event]]) -> list[LeafRecord]:
        async with open_world() as world:
            for batch in batches:
                await world.take(*batch)
            return await world.leaves()

    straight = run_virtual(leaves_of([events]))
    shuffled = run_virtual(
        leaves_of([history[start:end] for start, end in zip([0, *cuts], [*cuts, len(history)], strict=True)])
    )

    assert shuffled == straight
    assert len(straight) == 2 * len(charges)
    assert sum(leaf.due_e4 - leaf.credit_e4 for leaf in straight) == 0


def test_a_cost_of_nothing_is_a_leaf_too() -> None:
    async def run() -> list[LeafRecord]:
        async with open_world() as world:
            await world.take(accepted(a_cdr("s1", total_cost=Price(excl_e4=0))))
            return await world.leaves()

    (leaf,) = run_virtual(run())
    assert (leaf.due_e4, leaf.credit_e4) == (0, 0)
