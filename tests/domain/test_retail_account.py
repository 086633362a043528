"""A driver's account: conserved at every step, in any order, to the last ten-thousandth."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobility.domain.errors import CurrencyMismatch
from emobility.domain.identifiers import PartyId
from emobility.domain.retail_account import (
    RetailAccount,
    add_bill,
    add_credit,
    ask_carried,
    plan_refund,
    settle,
    withdraw_demand,
)

BILL_E4 = st.integers(min_value=-50_000, max_value=2_000_000)


def account() -> RetailAccount:
    return RetailAccount(party_id=PartyId("NL-TNM"), driver_id="d1", currency="EUR")


def test_a_bill_is_asked_in_whole_cents_and_the_residue_is_carried() -> None:
    billed, asked_e4 = add_bill(account(), total_incl_e4=123_456, currency="EUR")

    assert asked_e4 == 123_400
    assert (billed.due_e4, billed.carry_e4, billed.outstanding_e4) == (123_400, 56, 123_456)


def test_residues_add_up_to_a_cent_that_is_asked_with_a_later_bill() -> None:
    billed, _ = add_bill(account(), total_incl_e4=160, currency="EUR")

    billed, asked_e4 = add_bill(billed, total_incl_e4=140, currency="EUR")

    assert asked_e4 == 200
    assert billed.carry_e4 == 0


def test_a_bill_below_zero_asks_nothing_and_lowers_the_next_payment() -> None:
    billed, asked_e4 = add_bill(account(), total_incl_e4=-1_000, currency="EUR")

    billed, later_e4 = add_bill(billed, total_incl_e4=5_050, currency="EUR")

    assert (asked_e4, later_e4, billed.carry_e4) == (0, 4_000, 50)


def test_a_credited_bill_that_was_paid_goes_back_to_the_card() -> None:
    billed, asked_e4 = add_bill(account(), total_incl_e4=123_456, currency="EUR")
    paid = settle(billed, amount_e4=asked_e4, currency="EUR")

    credited = add_credit(paid, credit_incl_e4=123_456, currency="EUR")
    planned, refund_e4 = plan_refund(credited, refundable_e4=asked_e4)
    refunded = settle(planned, amount_e4=-refund_e4, currency="EUR")

    assert refund_e4 == 123_400
    assert (refunded.outstanding_e4, refunded.due_e4, refunded.carry_e4, refunded.paid_e4) == (0, 0, 0, 0)


def test_a_credited_bill_that_was_never_paid_refunds_nothing() -> None:
    billed, asked_e4 = add_bill(account(), total_incl_e4=123_456, currency="EUR")

    withdrawn = withdraw_demand(billed, amount_e4=asked_e4, currency="EUR")
    credited = add_credit(withdrawn, credit_incl_e4=123_456, currency="EUR")
    planned, refund_e4 = plan_refund(credited, refundable_e4=0)

    assert refund_e4 == 0
    assert (planned.outstanding_e4, planned.due_e4, planned.carry_e4) == (0, 0, 0)


def test_another_currency_never_enters_an_account() -> None:
    with pytest.raises(CurrencyMismatch):
        add_bill(account(), total_incl_e4=100, currency="SEK")
    with pytest.raises(CurrencyMismatch):
        add_credit(account(), credit_incl_e4=100, currency="SEK")
    with pytest.raises(CurrencyMismatch):
        settle(account(), amount_e4=100, currency="SEK")


def test_an_account_out_of_balance_is_never_written() -> None:
    broken = RetailAccount(party_id=PartyId("NL-TNM"), driver_id="d1", currency="EUR", carry_e4=1)

    with pytest.raises(AssertionError):
        add_bill(broken, total_incl_e4=100, currency="EUR")


def test_what_was_set_off_against_a_payment_that_never_came_is_asked_for() -> None:
    """A bill is credited while its payment is under way, the next one is set off, then the payment is declined."""
    now, first_e4 = add_bill(account(), total_incl_e4=100_000, currency="EUR")
    now = add_credit(now, credit_incl_e4=100_000, currency="EUR")
    now, second_e4 = add_bill(now, total_incl_e4=80_000, currency="EUR")

    now, asked_e4 = ask_carried(withdraw_demand(now, amount_e4=first_e4, currency="EUR"))

    assert (second_e4, asked_e4) == (0, 80_000)
    assert (now.outstanding_e4, now.due_e4, now.carry_e4) == (80_000, 80_000, 0)


@given(steps=st.lists(st.tuples(BILL_E4, st.booleans(), st.booleans()), max_size=30))
def test_billed_is_paid_plus_outstanding_whatever_cards_do_and_bills_are_credited(
    steps: list[tuple[int, bool, bool]],
) -> None:
    """Each step: a bill, whether the card pays, whether the bill is credited afterwards."""
    now = account()
    billed_e4 = credited_e4 = paid_e4 = 0
    for bill_e4, is_paid, is_credited in steps:
        now, asked_e4 = add_bill(now, total_incl_e4=bill_e4, currency="EUR")
        billed_e4 += bill_e4
        if is_paid and asked_e4:
            now = settle(now, amount_e4=asked_e4, currency="EUR")
            paid_e4 += asked_e4
        if is_credited:
            if not is_paid:
                now = withdraw_demand(now, amount_e4=asked_e4, currency="EUR")
            now = add_credit(now, credit_incl_e4=bill_e4, currency="EUR")
            credited_e4 += bill_e4
            now, refund_e4 = plan_refund(now, refundable_e4=asked_e4 if is_paid else 0)
            if refund_e4:
                now = settle(now, amount_e4=-refund_e4, currency="EUR")
                paid_e4 -= refund_e4

        assert (now.billed_e4, now.credited_e4, now.paid_e4) == (billed_e4, credited_e4, paid_e4)
        assert now.billed_e4 - now.credited_e4 == now.paid_e4 + now.outstanding_e4
        assert now.outstanding_e4 == now.due_e4 + now.carry_e4


@given(bills_e4=st.lists(st.integers(min_value=0, max_value=2_000_000), max_size=20), data=st.data())
def test_the_order_of_bills_changes_neither_what_is_asked_nor_what_is_carried(
    bills_e4: list[int], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(bills_e4))

    sums = []
    for order in (bills_e4, shuffled):
        now, asked = account(), 0
        for bill_e4 in order:
            now, asked_e4 = add_bill(now, total_incl_e4=bill_e4, currency="EUR")
            asked += asked_e4
        sums.append((asked, now))

    assert sums[0] == sums[1]
    assert 0 <= sums[0][1].carry_e4 < 100
