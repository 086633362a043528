"""Statements: each CDR in one, nothing left out, no credit before its original, and the sums come to the same."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobility.adapters.memory import run_virtual
from emobility.domain.agreement import SettlementMode, StatementPeriod
from emobility.domain.batch.leaf import Leaf, LeafKind
from emobility.domain.batch.statement import statement_of
from emobility.domain.batch.trees import StatementTrees
from emobility.domain.identifiers import PartyId
from emobility.events.cdr import CDRAccepted
from emobility.events.settlement import StatementClosed
from emobility.ports.stores import SELECT_ROWS_MAX
from services.settlement import closing
from services.settlement.closing import pair_statement
from services.settlement.records import AGREEMENT, LeafRecord, StatementRecord
from tests.settlement.world import CPO, T0, World, a_cdr, a_credit, accepted, open_world, signed, terms

WEEK_END = datetime(2022, 4, 3, 22, tzinfo=UTC)
"""Monday, 00:00 in Amsterdam."""
SECOND = timedelta(seconds=1)


async def test_a_week_is_closed_when_it_is_over_in_the_agreements_time_zone(world: World) -> None:
    await world.sign(terms())
    await world.take(accepted(a_cdr("s1")), accepted(a_cdr("s2", -4_000)))

    world.clock.step_to(WEEK_END - SECOND)
    early = await world.closing.close_due()
    world.clock.step_to(WEEK_END)
    closed = await world.closing.close_due()

    (statement,) = await world.statements()
    assert (early, closed) == (0, 1)
    assert (statement.sequence, statement.due_e4, statement.credit_e4, statement.count) == (1, 15_000, 4_000, 2)
    assert (statement.period_start, statement.period_end) == (datetime(2022, 3, 27, 22, tzinfo=UTC), WEEK_END)
    (event,) = await world.told(StatementClosed)
    assert (event.statement_hash, event.evidence_root) == (statement.statement_hash, statement.evidence_root)


async def test_a_statement_binds_its_leaves(world: World) -> None:
    await world.sign(terms())
    await world.take(*[accepted(a_cdr(f"s{n}", 1_000 * n)) for n in range(5)])
    await world.closing.close_now()

    (statement,), leaves = await world.statements(), await world.leaves()
    trees = StatementTrees([in_tree(leaf) for leaf in leaves])
    assert (statement.evidence_root, statement.sum_root) == (trees.evidence_root, trees.sum_root.hash)
    assert [leaf.cdr_key for leaf in sorted(leaves, key=lambda leaf: leaf.place or 0)] == [
        leaf.cdr_key for leaf in trees.leaves
    ]
    expected = statement_of(trees, agreement=statement.book_agreement, sequence=1, period_end=statement.period_end)
    assert pair_statement(statement) == expected
    assert statement.statement_hash == expected.struct_hash


async def test_what_is_late_goes_into_the_next_statement(world: World) -> None:
    await world.sign(terms())
    await world.take(accepted(a_cdr("s1")))
    world.clock.step_to(WEEK_END)
    await world.closing.close_due()

    await world.take(accepted(a_cdr("late"), at=T0 + SECOND))
    at_once = await world.closing.close_due()
    world.clock.step_to(WEEK_END + timedelta(days=7))
    closed = await world.closing.close_due()

    late = next(leaf for leaf in await world.leaves() if leaf.cdr_id == "late")
    assert (at_once, closed) == (0, 1)
    assert (late.sequence, late.ended_at) == (2, T0)


async def test_weeks_that_nobody_closed_are_closed_one_by_one(world: World) -> None:
    await world.sign(terms())
    for week in (0, 2):
        await world.take(accepted(a_cdr(f"s{week}"), at=T0 + timedelta(weeks=week)))
    world.clock.step_to(WEEK_END + timedelta(weeks=5))

    closed = await world.closing.close_due()

    assert closed == 2
    assert [each.period_end for each in await world.statements()] == [WEEK_END, WEEK_END + timedelta(weeks=2)]


async def test_an_operator_closes_at_once_and_the_period_goes_on_after_it(world: World) -> None:
    await world.sign(terms())
    await world.take(accepted(a_cdr("s1"), at=world.clock.now()))

    assert await world.closing.close_now() == 1
    assert await world.closing.close_now() == 0
    await world.take(accepted(a_cdr("s2"), at=world.clock.now()))
    world.clock.step_to(WEEK_END)
    assert await world.closing.close_due() == 1

    first, second = await world.statements()
    assert first.period_end == T0 + SECOND == second.period_start
    assert second.period_end == WEEK_END


async def test_a_credit_waits_for_its_original(world: World) -> None:
    await world.sign(terms())
    original = a_cdr("s1")
    await world.take(accepted(a_credit(original)), accepted(a_cdr("s2")))
    await world.closing.close_now()
    waiting = {leaf.cdr_id: leaf.sequence for leaf in await world.leaves()}

    await world.take(accepted(original))
    await world.closing.close_now()

    settled = {leaf.cdr_id: leaf.sequence for leaf in await world.leaves()}
    assert waiting == {"s1-C1": None, "s2": 1}
    assert settled == {"s1": 2, "s1-C1": 2, "s2": 1}


async def test_a_credit_after_its_original_was_stated_nets_out_in_the_next(world: World) -> None:
    await world.sign(terms())
    original = a_cdr("s1")
    await world.take(accepted(original))
    await world.closing.close_now()

    await world.take(accepted(a_credit(original)))
    await world.closing.close_now()

    assert [(each.due_e4, each.credit_e4) for each in await world.statements()] == [(15_000, 0), (0, 15_000)]


async def test_what_does_not_fit_one_statement_is_closed_at_once_in_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "LEAVES_MAX", 2)
    await world.sign(terms())
    await world.take(*[accepted(a_cdr(f"s{n}"), at=T0 + n * SECOND) for n in range(5)])
    world.clock.step_to(WEEK_END)

    closed = await world.closing.close_due()
    await world.take(accepted(a_cdr("late"), at=T0))
    late = await world.closing.close_due()

    statements = await world.statements()
    assert (closed, late) == (3, 0)
    assert [each.count for each in statements] == [2, 2, 1]
    assert {each.period_end for each in statements} == {WEEK_END}


async def test_a_credit_whose_original_does_not_fit_any_more_waits_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closing, "LEAVES_MAX", SELECT_ROWS_MAX)
    original = a_cdr("original")
    async with open_world() as world:
        await world.sign(terms())
        await world.take(
            accepted(a_credit(original)),
            *[accepted(a_cdr(f"s{n}"), at=T0 + SECOND) for n in range(SELECT_ROWS_MAX - 1)],
            accepted(original, at=T0 + 2 * SECOND),
        )
        world.clock.step_to(WEEK_END)

        await world.closing.close_now()

        by_id = {leaf.cdr_id: leaf.sequence or 0 for leaf in await world.leaves()}
        assert 0 < by_id["original"] <= by_id["original-C1"]


async def test_of_very_many_pairs_the_last_is_closed_too() -> None:
    last = terms(PartyId("ZZ-ZZZ"))
    async with open_world() as world:
        await world.sign(last)
        async with world.ports.units.begin() as unit:
            table = unit.table(AGREEMENT)
            (signed_pair,) = await table.select()
            await table.put_all(
                [replace(signed_pair, cpo_id=CPO, agreement_id=f"A-{n}", terms=None) for n in range(SELECT_ROWS_MAX)]
            )
            await unit.commit()
        await world.take(accepted(a_cdr("s1", cpo_id=last.cpo_id), agreement=last))

        assert await world.closing.close_now() == 1


async def test_a_pair_that_can_not_be_closed_holds_up_no_other(world: World) -> None:
    others = terms(CPO, PartyId("NL-WIN"))
    await world.sign(terms(), others)
    await world.take(*[accepted(a_cdr(f"s{n}", 2**62)) for n in range(3)], accepted(a_cdr("s9"), agreement=others))
    world.clock.step_to(WEEK_END)

    assert await world.closing.close_due() == 1

    (statement,) = await world.statements()
    assert statement.emsp_id == others.emsp_id


async def test_an_agreement_that_is_not_open_in_its_book_waits(world: World) -> None:
    await world.take(signed(terms()), accepted(a_cdr("s1")))

    assert await world.closing.close_now() == 0
    await world.sign(terms())
    assert await world.closing.close_now() == 1


async def test_currencies_are_never_added(world: World) -> None:
    francs = terms(version=2, currency="CHF")
    await world.sign(terms(), francs)
    await world.take(accepted(a_cdr("s1")), accepted(a_cdr("s2", currency="CHF"), agreement=francs))

    await world.closing.close_now()

    statements = {each.currency: each for each in await world.statements()}
    assert {currency: (each.version, each.due_e4) for currency, each in statements.items()} == {
        "EUR": (1, 15_000),
        "CHF": (2, 15_000),
    }


async def test_terms_that_are_opened_anew_take_what_comes_after(world: World) -> None:
    await world.sign(terms())
    await world.take(accepted(a_cdr("s1")))
    await world.closing.close_now()
    await world.sign(replace(terms(), version=2, settlement_mode=SettlementMode.CREDIT_LINE, credit_limit_e4=10))

    await world.take(accepted(a_cdr("s2")))
    await world.closing.close_now()

    assert [(each.version, each.sequence) for each in await world.statements()] == [(1, 1), (2, 1)]


@given(
    costs_e4=st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=6),
    data=st.data(),
)
def test_whatever_comes_whenever_each_cdr_is_in_one_statement_and_the_sums_agree(
    costs_e4: list[int], data: st.DataObject
) -> None:
    charges = [a_cdr(f"s{n}", cost_e4) for n, cost_e4 in enumerate(costs_e4)]
    documents = [*charges, *[a_credit(each) for each in charges if data.draw(st.booleans())]]
    days = st.integers(0, 20)
    events = [accepted(cdr, at=T0 + timedelta(days=data.draw(days))) for cdr in data.draw(st.permutations(documents))]
    steps = data.draw(st.lists(days, min_size=len(events), max_size=len(events)))

    leaves, statements = run_virtual(settled(events, steps))

    assert {(leaf.cpo_id, leaf.cdr_id) for leaf in leaves} == {(CPO, cdr.cdr_id) for cdr in documents}
    assert all(leaf.sequence is not None for leaf in leaves)
    assert sum(each.count for each in statements) == len(documents)
    net_e4 = sum(cdr.total_cost.excl_e4 for cdr in documents)
    assert sum(each.due_e4 - each.credit_e4 for each in statements) == net_e4
    by_id = {leaf.cdr_id: leaf.sequence or 0 for leaf in leaves}
    assert all(
        by_id[leaf.credit_reference_id] <= by_id[leaf.cdr_id] for leaf in leaves if leaf.credit_reference_id is not None
    )
    assert [each.sequence for each in statements] == list(range(1, len(statements) + 1))
    ends = [each.period_end for each in statements]
    assert ends == sorted(ends)


async def settled(events: list[CDRAccepted], steps: list[int]) -> tuple[list[LeafRecord], list[StatementRecord]]:
    """Take events in, days apart, with sweeps and an operator's word in between."""
    async with open_world() as world:
        await world.sign(replace(terms(), statement_period=StatementPeriod.WEEKLY))
        for event, step in zip(events, steps, strict=True):
            await world.take(event)
            world.clock.step_by(timedelta(days=step))
            await (world.closing.close_now() if step % 3 == 0 else world.closing.close_due())
        world.clock.step_by(timedelta(days=60))
        await world.closing.close_due()
        return await world.leaves(), await world.statements()


def in_tree(leaf: LeafRecord) -> Leaf:
    return Leaf(
        kind=LeafKind.CREDIT if leaf.is_credit else LeafKind.CHARGE,
        cdr_key=leaf.cdr_key,
        import_wh=leaf.import_wh,
        export_wh=leaf.export_wh,
        commitment=leaf.commitment,
        meter=leaf.meter,
        due_e4=leaf.due_e4,
        credit_e4=leaf.credit_e4,
    )
