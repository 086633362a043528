from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobility.domain.identifiers import PartyId
from emobility.domain.netting import Debt, MalformedDebt, NettingPlan, PlanDiffers, check_share, netted

A, B, C, D = (PartyId(f"NL-AA{each}") for each in "ABCD")
PARTIES: Final = [PartyId(f"NL-P{place:02}") for place in range(12)]
DEBTS: Final = st.lists(
    st.tuples(st.sampled_from(PARTIES), st.sampled_from(PARTIES), st.integers(1, 10**12)).filter(
        lambda d: d[0] != d[1]
    ),
    max_size=60,
)


def a_debt(payer: PartyId, payee: PartyId, amount_e4: int) -> Debt:
    return Debt(payer=payer, payee=payee, currency="EUR", amount_e4=amount_e4)


def a_plan(debts: Sequence[tuple[PartyId, PartyId, int]]) -> NettingPlan:
    return netted([a_debt(*each) for each in debts], currency="EUR")


def test_a_ring_of_debts_needs_no_payment() -> None:
    plan = a_plan([(A, B, 100), (B, C, 100), (C, A, 100)])

    assert plan.payments == ()
    assert (plan.gross_e4, plan.saved_e4) == (300, 300)


def test_what_goes_through_a_party_goes_past_it() -> None:
    plan = a_plan([(A, B, 100), (B, C, 70)])

    assert set(plan.payments) == {a_debt(A, C, 70), a_debt(A, B, 30)}
    assert plan.saved_e4 == 70


@given(debts=DEBTS)
def test_each_party_has_in_the_end_what_its_debts_give_it(debts: list[tuple[PartyId, PartyId, int]]) -> None:
    plan = a_plan(debts)

    by_debts = dict.fromkeys(PARTIES, 0)
    for payer, payee, amount in debts:
        by_debts[payer] -= amount
        by_debts[payee] += amount
    by_plan = dict.fromkeys(PARTIES, 0)
    for each in plan.payments:
        by_plan[each.payer] -= each.amount_e4
        by_plan[each.payee] += each.amount_e4
    assert by_debts == by_plan
    assert sum(plan.nets_e4.values()) == 0


@given(debts=DEBTS)
def test_nobody_pays_more_than_its_own_debts_and_nobody_both_pays_and_is_paid(
    debts: list[tuple[PartyId, PartyId, int]],
) -> None:
    plan = a_plan(debts)

    for party in PARTIES:
        owes = sum(amount for payer, _, amount in debts if payer == party)
        pays = sum(each.amount_e4 for each in plan.payments if each.payer == party)
        gets = sum(each.amount_e4 for each in plan.payments if each.payee == party)
        assert pays <= owes
        assert not (pays and gets)
    assert all(each.amount_e4 > 0 for each in plan.payments)
    assert len(plan.payments) <= max(0, len([net for net in plan.nets_e4.values() if net]) - 1)
    assert plan.saved_e4 >= 0


@given(debts=DEBTS, shuffled=st.randoms())
def test_the_order_of_debts_changes_nothing(debts: list[tuple[PartyId, PartyId, int]], shuffled: Random) -> None:
    other = list(debts)
    shuffled.shuffle(other)

    assert a_plan(debts) == a_plan(other)


@given(debts=DEBTS)
def test_each_party_checks_its_share_by_its_own_debts_alone(debts: list[tuple[PartyId, PartyId, int]]) -> None:
    plan = a_plan(debts)

    for party in PARTIES:
        share = plan.share(party)
        check_share(share)
        assert all(party in {each.payer, each.payee} for each in (*share.owed, *share.payments))
        if share.payments:
            with pytest.raises(PlanDiffers):
                check_share(replace(share, payments=share.payments[1:]))
            with pytest.raises(PlanDiffers):
                check_share(replace(share, net_e4=share.net_e4 + 1))


@pytest.mark.parametrize(
    "debt",
    [
        a_debt(A, A, 5),
        a_debt(A, B, 0),
        a_debt(A, B, -5),
        Debt(payer=A, payee=B, currency="CHF", amount_e4=5),
    ],
)
def test_what_is_no_debt_of_the_plan_is_refused(debt: Debt) -> None:
    with pytest.raises(MalformedDebt):
        netted([debt], currency="EUR")
