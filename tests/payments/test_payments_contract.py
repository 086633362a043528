"""The contract of the payments port, run against every adapter that fulfils it."""

from __future__ import annotations

import asyncio

import pytest

from emobility.adapters.payments.test_provider import ANSWER, PAYMENT, SandboxCard, SandboxPayments
from emobility.domain.errors import CurrencyMismatch
from emobility.domain.money import Money
from emobility.ports.payments import (
    CaptureExceedsHold,
    IdempotencyKeyReused,
    NotACardAmount,
    PaymentDeclined,
    PaymentProviderUnavailable,
    Payments,
    RefundExceedsCapture,
    UnknownPayment,
)
from emobility.ports.unit_of_work import Units


def eur(amount_e4: int) -> Money:
    return Money(amount_e4=amount_e4, currency="EUR")


TEN = eur(100_000)


async def test_a_hold_is_captured_in_part_and_the_rest_is_released(payments: Payments) -> None:
    hold = await payments.authorize(SandboxCard.GOOD, TEN, idempotency_key="hold")

    taken = await payments.capture(hold.payment_id, eur(64_500), idempotency_key="take")

    assert (hold.held, hold.is_open) == (TEN, True)
    assert (taken.held, taken.captured, taken.is_open) == (eur(0), eur(64_500), False)
    assert await payments.find(hold.payment_id) == taken


async def test_a_released_hold_takes_nothing(payments: Payments) -> None:
    hold = await payments.authorize(SandboxCard.GOOD, TEN, idempotency_key="hold")

    released = await payments.release(hold.payment_id, idempotency_key="release")

    assert (released.held, released.captured, released.is_open) == (eur(0), eur(0), False)
    with pytest.raises(CaptureExceedsHold):
        await payments.capture(hold.payment_id, eur(100), idempotency_key="take")


async def test_more_than_is_held_is_not_captured(payments: Payments) -> None:
    hold = await payments.authorize(SandboxCard.GOOD, TEN, idempotency_key="hold")

    with pytest.raises(CaptureExceedsHold):
        await payments.capture(hold.payment_id, eur(100_100), idempotency_key="take")

    assert (await payments.find(hold.payment_id)).is_open


async def test_a_second_capture_under_another_key_is_refused(payments: Payments) -> None:
    hold = await payments.authorize(SandboxCard.GOOD, TEN, idempotency_key="hold")
    await payments.capture(hold.payment_id, eur(100), idempotency_key="take")

    with pytest.raises(CaptureExceedsHold):
        await payments.capture(hold.payment_id, eur(100), idempotency_key="again")


async def test_refunds_add_up_to_what_was_captured_and_no_further(payments: Payments) -> None:
    hold = await payments.authorize(SandboxCard.GOOD, TEN, idempotency_key="hold")
    await payments.capture(hold.payment_id, eur(50_000), idempotency_key="take")

    await payments.refund(hold.payment_id, eur(20_000), idempotency_key="back-1")
    refunded = await payments.refund(hold.payment_id, eur(30_000), idempotency_key="back-2")

    assert refunded.refunded == eur(50_000)
    with pytest.raises(RefundExceedsCapture):
        await payments.refund(hold.payment_id, eur(100), idempotency_key="back-3")


@pytest.mark.parametrize(
    ("card", "code"),
    [
        (SandboxCard.DECLINED, "card_declined"),
        (SandboxCard.INSUFFICIENT_FUNDS, "insufficient_funds"),
        (SandboxCard.EXPIRED, "expired_card"),
        ("4242424242424241", "incorrect_number"),
        ("not a card", "incorrect_number"),
    ],
)
async def test_a_bad_card_is_declined_with_its_code_and_stays_declined(
    payments: Payments, card: str, code: str
) -> None:
    for _ in range(2):
        with pytest.raises(PaymentDeclined) as refusal:
            await payments.authorize(card, TEN, idempotency_key="hold")

        assert refusal.value.code == code


async def test_a_card_can_be_declined_when_the_money_is_taken(payments: Payments) -> None:
    hold = await payments.authorize(SandboxCard.DECLINED_AT_CAPTURE, TEN, idempotency_key="hold")

    with pytest.raises(PaymentDeclined):
        await payments.capture(hold.payment_id, eur(100), idempotency_key="take")

    assert (await payments.find(hold.payment_id)).captured == eur(0)


@pytest.mark.parametrize("card", [SandboxCard.SILENT_BEFORE, SandboxCard.SILENT_AFTER])
async def test_a_silent_provider_answers_the_second_try_and_moves_the_money_once(
    payments: Payments, card: SandboxCard
) -> None:
    with pytest.raises(PaymentProviderUnavailable):
        await payments.authorize(card, TEN, idempotency_key="hold")
    hold = await payments.authorize(card, TEN, idempotency_key="hold")
    with pytest.raises(PaymentProviderUnavailable):
        await payments.capture(hold.payment_id, eur(40_000), idempotency_key="take")

    taken = await payments.capture(hold.payment_id, eur(40_000), idempotency_key="take")

    assert taken.captured == eur(40_000)
    assert await payments.find(hold.payment_id) == taken


async def test_a_repeated_key_gives_the_first_answer_though_the_payment_moved_on(payments: Payments) -> None:
    hold = await payments.authorize(SandboxCard.GOOD, TEN, idempotency_key="hold")
    taken = await payments.capture(hold.payment_id, eur(50_000), idempotency_key="take")
    await payments.refund(hold.payment_id, eur(50_000), idempotency_key="back")

    assert await payments.authorize(SandboxCard.GOOD, TEN, idempotency_key="hold") == hold
    assert await payments.capture(hold.payment_id, eur(50_000), idempotency_key="take") == taken
    assert (await payments.find(hold.payment_id)).refunded == eur(50_000)


async def test_a_key_that_came_with_other_parameters_is_refused(payments: Payments) -> None:
    hold = await payments.authorize(SandboxCard.GOOD, TEN, idempotency_key="hold")

    for again in (
        payments.authorize(SandboxCard.GOOD, eur(100), idempotency_key="hold"),
        payments.authorize(SandboxCard.EXPIRED, TEN, idempotency_key="hold"),
        payments.capture(hold.payment_id, TEN, idempotency_key="hold"),
    ):
        with pytest.raises(IdempotencyKeyReused):
            await again
    assert (await payments.find(hold.payment_id)).held == TEN


@pytest.mark.parametrize("amount_e4", [0, -100, 99, 12_345])
async def test_an_amount_that_is_not_in_positive_whole_cents_is_refused(payments: Payments, amount_e4: int) -> None:
    with pytest.raises(NotACardAmount):
        await payments.authorize(SandboxCard.GOOD, eur(amount_e4), idempotency_key="hold")


async def test_another_currency_than_the_holds_is_refused(payments: Payments) -> None:
    hold = await payments.authorize(SandboxCard.GOOD, TEN, idempotency_key="hold")

    with pytest.raises(CurrencyMismatch):
        await payments.capture(hold.payment_id, Money(amount_e4=100, currency="SEK"), idempotency_key="take")


async def test_an_unknown_payment_is_refused(payments: Payments) -> None:
    with pytest.raises(UnknownPayment):
        await payments.find("pay_nothing")
    with pytest.raises(UnknownPayment):
        await payments.capture("pay_nothing", eur(100), idempotency_key="take")


async def test_two_calls_with_one_key_at_the_same_time_move_the_money_once(payments: Payments) -> None:
    hold = await payments.authorize(SandboxCard.GOOD, TEN, idempotency_key="hold")
    await payments.capture(hold.payment_id, eur(50_000), idempotency_key="take")

    answers = await asyncio.gather(
        *(payments.refund(hold.payment_id, eur(50_000), idempotency_key="back") for _ in range(5))
    )

    assert {answer.refunded for answer in answers} == {eur(50_000)}


async def test_a_provider_that_restarts_knows_its_payments_and_answers(payments: Payments, units: Units) -> None:
    hold = await payments.authorize(SandboxCard.GOOD, TEN, idempotency_key="hold")

    restarted = SandboxPayments(units)

    assert await restarted.find(hold.payment_id) == hold
    assert await restarted.authorize(SandboxCard.GOOD, TEN, idempotency_key="hold") == hold


async def test_no_card_number_is_stored(payments: Payments, units: Units) -> None:
    await payments.authorize(SandboxCard.GOOD, TEN, idempotency_key="hold")

    async with units.begin() as unit:
        rows = [*await unit.table(PAYMENT).select(), *await unit.table(ANSWER).select()]
    assert rows
    assert SandboxCard.GOOD not in repr(rows)
