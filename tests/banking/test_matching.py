"""Amounts in cents, and what becomes of a bank's entries: nothing is lost, and nothing counts twice."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobility.domain.banking.matching import Awaited, BankEntry, Direction, Outcome, match
from emobility.domain.banking.payout import CENT_E4, Payable, end_to_end_id, in_cents, payout_of
from emobility.domain.exposure import Age, Exposure, age_of, aged

DUE = date(2026, 12, 14)
AWAITED = Awaited(cents=2_778, moved_cents=0, currency="EUR", due_on=DUE, is_payee=True)
AMOUNT_E4 = st.integers(min_value=-(10**9), max_value=10**9)


def came(cents: int, **changed: object) -> BankEntry:
    plain = BankEntry(
        iban="NL91ABNA0417164300",
        reference="B",
        booked_on=DUE,
        cents=cents,
        currency="EUR",
        direction=Direction.IN,
        end_to_end_id="WR1",
    )
    return replace(plain, **changed)  # type: ignore[arg-type]  # fields by name


@given(amounts=st.lists(AMOUNT_E4, max_size=40))
def test_cents_and_the_residue_are_all_that_was_owed(amounts: list[int]) -> None:
    cents, residue_e4 = 0, 0
    for amount in amounts:
        step = in_cents(amount, carried_e4=residue_e4)
        cents, residue_e4 = cents + step.cents, step.residue_e4

    assert cents * CENT_E4 + residue_e4 == sum(amounts)
    assert abs(residue_e4) < CENT_E4


@pytest.mark.parametrize(
    ("exact_e4", "carried_e4", "cents", "residue_e4"),
    [(277_849, 0, 2_778, 49), (150_060, 49, 1_501, 9), (-150, 0, -1, -50), (-30, 20, 0, -10), (99, 1, 1, 0)],
)
def test_cents_are_whole_towards_zero(exact_e4: int, carried_e4: int, cents: int, residue_e4: int) -> None:
    found = in_cents(exact_e4, carried_e4=carried_e4)

    assert (found.cents, found.residue_e4) == (cents, residue_e4)


@given(st.lists(st.tuples(AMOUNT_E4, st.booleans()), max_size=40))
def test_payouts_and_what_waits_are_all_that_was_owed(statements: list[tuple[int, bool]]) -> None:
    residue_e4, paid, waiting = 0, 0, list[Payable]()
    for at, (amount, is_payday) in enumerate(statements):
        step = in_cents(amount, carried_e4=residue_e4)
        residue_e4 = step.residue_e4
        waiting.append(Payable(statement_hash=at.to_bytes(32, "big"), net_cents=step.cents, vat_cents=0))
        payout = payout_of(waiting) if is_payday else None
        if payout is not None:
            assert payout.cents > 0
            paid, waiting = paid + payout.cents, []

    waits = sum(each.cents for each in waiting)
    assert (paid + waits) * CENT_E4 + residue_e4 == sum(amount for amount, _ in statements)


def test_both_companies_name_a_payment_alike() -> None:
    name = end_to_end_id(bytes(range(32)))

    assert name == "WR000102030405060708090A0B0C0D0E0F"
    assert len(name) <= 35


@pytest.mark.parametrize(
    ("entry", "moved_cents", "outcome", "booked", "excess", "is_late"),
    [
        (came(2_778), 0, Outcome.MATCHED, 2_778, 0, False),
        (came(2_778, booked_on=DUE + timedelta(days=1)), 0, Outcome.MATCHED, 2_778, 0, True),
        (came(1_000), 0, Outcome.PARTIAL, 1_000, 0, False),
        (came(1_778), 1_000, Outcome.MATCHED, 1_778, 0, False),
        (came(3_000), 0, Outcome.OVERPAID, 2_778, 222, False),
        (came(3_000), 1_000, Outcome.OVERPAID, 1_778, 1_222, False),
        (came(2_778), 2_778, Outcome.DUPLICATE, 0, 2_778, False),
        (came(2_778, direction=Direction.OUT, is_return=True), 2_778, Outcome.RETURNED, -2_778, 0, False),
        (came(2_778, direction=Direction.OUT, is_return=True), 1_000, Outcome.RETURNED, -1_000, 1_778, False),
        (came(2_778, direction=Direction.OUT), 2_778, Outcome.UNKNOWN, 0, 2_778, False),
        (came(2_778, is_return=True), 0, Outcome.UNKNOWN, 0, 2_778, False),
        (came(2_778, currency="CHF"), 0, Outcome.OTHER_CURRENCY, 0, 2_778, False),
    ],
)
def test_an_entry_has_an_outcome(
    entry: BankEntry, moved_cents: int, outcome: Outcome, booked: int, excess: int, *, is_late: bool
) -> None:
    found = match(entry, replace(AWAITED, moved_cents=moved_cents))

    assert (found.outcome, found.booked_cents, found.excess_cents, found.is_late) == (outcome, booked, excess, is_late)
    assert found.needs_somebody == (outcome is not Outcome.MATCHED or is_late)


def test_a_payment_of_a_name_that_nobody_awaits_waits_for_somebody() -> None:
    found = match(came(2_778), None)

    assert (found.outcome, found.excess_cents, found.needs_somebody) == (Outcome.UNKNOWN, 2_778, True)


@given(
    st.lists(
        st.tuples(st.integers(min_value=1, max_value=5_000), st.sampled_from(Direction), st.booleans()), max_size=20
    )
)
def test_whatever_comes_a_payment_is_never_more_than_itself(entries: list[tuple[int, Direction, bool]]) -> None:
    moved, excess, held = 0, 0, 0
    for cents, direction, is_return in entries:
        awaited = replace(AWAITED, moved_cents=moved, excess_cents=excess)
        found = match(came(cents, direction=direction, is_return=is_return), awaited)
        assert abs(found.booked_cents) + found.excess_cents == cents
        moved += found.booked_cents
        if found.outcome is Outcome.RETURNED:
            held, excess = max(0, held - cents), max(0, excess - found.excess_cents)
        elif found.outcome is not Outcome.UNKNOWN:
            held, excess = held + cents, excess + found.excess_cents
        assert (moved, excess) == (min(held, AWAITED.cents), max(0, held - AWAITED.cents))


def test_a_payment_that_came_twice_and_once_back_is_paid() -> None:
    back = came(2_778, direction=Direction.OUT, is_return=True)

    found = match(back, replace(AWAITED, moved_cents=2_778, excess_cents=2_778))
    more = match(replace(back, cents=3_000), replace(AWAITED, moved_cents=2_778, excess_cents=2_778))

    assert (found.outcome, found.booked_cents, found.excess_cents) == (Outcome.RETURNED, 0, 2_778)
    assert (more.outcome, more.booked_cents, more.excess_cents) == (Outcome.RETURNED, -222, 2_778)


@pytest.mark.parametrize(
    ("days", "age"),
    [
        (-1, Age.NOT_DUE),
        (0, Age.NOT_DUE),
        (1, Age.TO_30),
        (30, Age.TO_30),
        (31, Age.TO_60),
        (61, Age.TO_90),
        (91, Age.OVER_90),
    ],
)
def test_what_is_owed_ages_from_the_day_it_was_due(days: int, age: Age) -> None:
    assert age_of(DUE, DUE + timedelta(days=days)) is age


@given(st.lists(st.tuples(st.dates(date(2025, 1, 1), date(2027, 1, 1)), AMOUNT_E4)))
def test_ages_add_up_to_what_is_owed(open_amounts: list[tuple[date, int]]) -> None:
    assert sum(aged(open_amounts, DUE).values()) == sum(amount for _, amount in open_amounts)


def test_a_charge_that_would_pass_the_limit_is_not_borne() -> None:
    exposure = Exposure(reserved_e4=150_000, billed_e4=500_000, paid_e4=150_000, charges=4)

    assert exposure.open_e4 == 500_000
    assert exposure.estimate_e4 == 150_000
    assert exposure.bears(100_000, limit_e4=600_000)
    assert not exposure.bears(100_001, limit_e4=600_000)
