"""Payments when answers are lost and cards change meanwhile: no driver pays twice."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest

from emobility.adapters.payments.test_provider import PAYMENT, SandboxCard, SandboxPayments
from emobility.domain.cdr import CDR, credit_of
from emobility.domain.money import Money
from emobility.ports.payments import Hold, IdempotencyKeyReused, PaymentProviderUnavailable
from emobility.ports.unit_of_work import UnitOfWork
from services.driver_mobility import paying
from services.driver_mobility.paying import try_failed_again
from services.driver_mobility.records import BILL, PAYMENT_ORDER, PaymentState

MSP = "NL-EMA"
ANOTHER_CARD = "5555555555554444"
BILL_OF_8_KWH_E4 = 43_560


async def charged(world: Any, session_id: str = "S1", **changes: Any) -> CDR:
    """A charge that was reported and billed; its payment may be under way."""
    info = await world.cpo.authorize()
    started_at = world.clock.now()
    session, cdr = await world.cpo.charge(
        session_id, reference=info.authorization_reference, started_at=started_at, **changes
    )
    await world.cpo.push_session(session)
    await world.cpo.post_cdr(cdr)
    await world.caught_up()
    return cast("CDR", cdr)


async def taken_e4(world: Any) -> list[int]:
    """What the provider took and did not give back, by payment that took something."""
    async with world.ports.units.begin() as unit:
        payments = await unit.table(PAYMENT).select()
    return [payment.captured_e4 - payment.refunded_e4 for payment in payments if payment.captured_e4]


async def orders(world: Any) -> list[Any]:
    async with world.ports.units.begin() as unit:
        found: list[Any] = await unit.table(PAYMENT_ORDER).select()
    return found


async def test_a_lost_answer_and_a_new_card_meanwhile_charge_once(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    driver_id = await world.enrol()
    real, lost, released = SandboxPayments.capture, asyncio.Event(), asyncio.Event()

    async def capture(self: SandboxPayments, payment_id: str, amount: Money, *, idempotency_key: str) -> Hold:
        hold = await real(self, payment_id, amount, idempotency_key=idempotency_key)
        if not released.is_set():
            lost.set()
            raise PaymentProviderUnavailable("the answer was lost")
        return hold

    monkeypatch.setattr(SandboxPayments, "capture", capture)
    await charged(world)
    await lost.wait()
    await world.call("PUT", f"/{MSP}/drivers/{driver_id}/card", {"number": ANOTHER_CARD})
    released.set()
    await world.quiet()
    await world.call("PUT", f"/{MSP}/drivers/{driver_id}/card", {"number": ANOTHER_CARD})
    await world.quiet()

    assert len(await taken_e4(world)) == 1
    assert [order.state for order in await orders(world)] == [PaymentState.DONE]


async def test_a_key_that_came_before_with_other_parameters_is_no_failure(
    memory_world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await memory_world.enrol()
    asked, asked_again = [], asyncio.Event()

    async def authorize(self: SandboxPayments, card: str, amount: Money, *, idempotency_key: str) -> Hold:
        asked.append(idempotency_key)
        if len(asked) > 1:
            asked_again.set()
        raise IdempotencyKeyReused(idempotency_key)

    monkeypatch.setattr(SandboxPayments, "authorize", authorize)
    await charged(memory_world)
    await asked_again.wait()

    assert [order.state for order in await orders(memory_world)] == [PaymentState.PENDING]


@pytest.mark.parametrize("failure", [PaymentProviderUnavailable("no answer"), AssertionError("an order is broken")])
async def test_orders_that_get_no_answer_or_break_hold_up_no_other(
    memory_world: Any, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    await memory_world.enrol()
    monkeypatch.setattr(paying, "ROWS_AT_ONCE", 2)
    monkeypatch.setattr(paying, "PAUSE_S_MIN", paying.PAUSE_S_MAX)
    await charged(memory_world)
    await memory_world.quiet()
    (done,) = await orders(memory_world)
    silent = [
        replace(
            done, order_id=f"silent-{n}", state=PaymentState.PENDING, ordered_at=done.ordered_at - timedelta(days=1)
        )
        for n in range(5)
    ]
    real = SandboxPayments.capture

    async def capture(self: SandboxPayments, payment_id: str, amount: Money, *, idempotency_key: str) -> Hold:
        if "silent" in idempotency_key:
            raise failure
        return await real(self, payment_id, amount, idempotency_key=idempotency_key)

    monkeypatch.setattr(SandboxPayments, "capture", capture)
    async with memory_world.ports.units.begin() as unit:
        for order in silent:
            await unit.table(PAYMENT_ORDER).put(order)
        await unit.table(PAYMENT_ORDER).put(replace(done, state=PaymentState.PENDING, attempt=2))
        await unit.commit()
    async with asyncio.timeout(paying.PAUSE_S_MAX / 2):
        while [each.state for each in await orders(memory_world)].count(PaymentState.PENDING) > len(silent):  # noqa: ASYNC110 - nobody sets an event for it
            await asyncio.sleep(0)


async def test_an_earlier_attempt_that_took_the_money_after_all_is_not_made_again(
    memory_world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver_id = await memory_world.enrol(card=SandboxCard.DECLINED_AT_CAPTURE.value)
    await charged(memory_world)
    await memory_world.quiet()
    (failed,) = await orders(memory_world)
    assert failed.state is PaymentState.FAILED
    async with memory_world.ports.units.begin() as unit:
        payment = await unit.table(PAYMENT).get(failed.payment_id)

    async def find(self: SandboxPayments, payment_id: str) -> Hold:
        none = Money(amount_e4=0, currency=payment.currency)
        taken = Money(amount_e4=failed.amount_e4, currency=payment.currency)
        return Hold(payment_id=payment_id, held=none, captured=taken, refunded=none, is_open=False)

    monkeypatch.setattr(SandboxPayments, "find", find)
    await memory_world.call("PUT", f"/{MSP}/drivers/{driver_id}/card", {"number": ANOTHER_CARD})
    await memory_world.quiet()

    assert await taken_e4(memory_world) == []
    assert [order.payment_id for order in await orders(memory_world)] == [failed.payment_id]


async def test_a_credit_that_withdraws_an_order_just_before_a_new_card_wins(memory_world: Any) -> None:
    driver_id = await memory_world.enrol(card=SandboxCard.DECLINED.value)
    await charged(memory_world)
    await memory_world.quiet()
    async with memory_world.ports.units.begin() as unit:
        (order,) = await unit.table(PAYMENT_ORDER).select()
        assert order.state is PaymentState.FAILED

        class SeenBeforeTheCredit:
            """What a statement sees that began before the credit was committed."""

            async def select(self, *_: Any, **__: Any) -> list[Any]:
                await unit.table(PAYMENT_ORDER).put(replace(order, state=PaymentState.WITHDRAWN))
                return [order]

            def __getattr__(self, name: str) -> Any:
                return getattr(unit.table(PAYMENT_ORDER), name)

        class Unit:
            def table(self, spec: Any) -> Any:
                return SeenBeforeTheCredit() if spec is PAYMENT_ORDER else unit.table(spec)

        again = await try_failed_again(cast("UnitOfWork", Unit()), order.party_id, driver_id)
        (after,) = await unit.table(PAYMENT_ORDER).select()

    assert (again, after.state) == (0, PaymentState.WITHDRAWN)


async def test_a_credited_bill_is_not_asked_for_again(memory_world: Any) -> None:
    driver_id = await memory_world.enrol(card=SandboxCard.DECLINED.value)
    await charged(memory_world)
    await memory_world.quiet()
    async with memory_world.ports.units.begin() as unit:
        (bill,) = await unit.table(BILL).select()
        await unit.table(BILL).put(replace(bill, credited_incl_e4=bill.total_incl_e4))

        assert await try_failed_again(unit, bill.party_id, driver_id) == 0


async def test_a_bill_that_was_set_off_against_a_payment_that_failed_is_asked_for(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver_id = await world.enrol(card=SandboxCard.DECLINED.value)
    real, answers = SandboxPayments.authorize, asyncio.Event()

    async def authorize(self: SandboxPayments, card: str, amount: Money, *, idempotency_key: str) -> Hold:
        if not answers.is_set():
            raise PaymentProviderUnavailable("no answer yet")
        return await real(self, card, amount, idempotency_key=idempotency_key)

    monkeypatch.setattr(SandboxPayments, "authorize", authorize)
    first = await charged(world)
    await world.cpo.post_cdr(credit_of(first, cdr_id="S1-C", issued_at=first.issued_at, remark="taken back"))
    await charged(world, "S2", energy_wh=8_000)
    set_off = await world.account(driver_id)
    answers.set()
    await world.quiet()
    failed = await world.account(driver_id)
    await world.call("PUT", f"/{MSP}/drivers/{driver_id}/card", {"number": ANOTHER_CARD})
    await world.quiet()

    assert set_off["outstanding_e4"] == failed["outstanding_e4"] == BILL_OF_8_KWH_E4
    assert await taken_e4(world) == [BILL_OF_8_KWH_E4 - BILL_OF_8_KWH_E4 % 100]
