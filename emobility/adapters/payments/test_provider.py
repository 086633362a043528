"""A payment provider for tests and demos that behaves as a real one does, its refusals and lost answers included.

What happens is decided by the card number (`SandboxCard`), as at real providers' sandboxes. Payments and first answers
live in tables through `Units`, so a kill -9 between a capture and its answer loses nothing: the same idempotency key
gets the stored answer. No card number is stored, only what the card does and its last four digits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from emobility.domain.errors import CurrencyMismatch
from emobility.domain.money import Money
from emobility.ports.payments import (
    CaptureExceedsHold,
    Hold,
    IdempotencyKeyReused,
    NotACardAmount,
    PaymentDeclined,
    PaymentProviderUnavailable,
    RefundExceedsCapture,
    UnknownPayment,
)
from emobility.ports.stores import RecordExists, TableSpec
from emobility.ports.unit_of_work import UnitOfWork, Units

CENT_E4: Final = 100
IDEMPOTENCY_KEY_CHARACTERS_MAX: Final = 255


class SandboxCard(StrEnum):
    """Card numbers of the sandbox and what each does; any other number that passes the Luhn check is good."""

    GOOD = "4242424242424242"
    DECLINED = "4000000000000002"
    INSUFFICIENT_FUNDS = "4000000000009995"
    EXPIRED = "4000000000000069"
    DECLINED_AT_CAPTURE = "4000000000000341"
    """The hold succeeds; taking the money is declined."""
    SILENT_BEFORE = "4000000000000119"
    """The provider does not answer the first try of any call and has done nothing."""
    SILENT_AFTER = "4000000000000259"
    """The provider acts on the first try of any call, and its answer is lost."""


_REFUSED_AT_HOLD: Final = {
    SandboxCard.DECLINED: "card_declined",
    SandboxCard.INSUFFICIENT_FUNDS: "insufficient_funds",
    SandboxCard.EXPIRED: "expired_card",
}
_REFUSED_AT_CAPTURE: Final = {SandboxCard.DECLINED_AT_CAPTURE: "card_declined"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxPayment:
    """A payment as the provider keeps it; amounts in ten-thousandths of `currency`."""

    payment_id: str
    card_behaviour: str
    card_last4: str
    currency: str
    held_e4: int
    captured_e4: int
    refunded_e4: int
    is_open: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxAnswer:
    """The first answer to an idempotency key; neither `hold` nor `declined_code`: the call has not been done yet."""

    idempotency_key: str
    fingerprint: str
    hold: Hold | None
    declined_code: str | None


PAYMENT: Final = TableSpec(name="sandbox_payment", record=SandboxPayment, key=("payment_id",))
ANSWER: Final = TableSpec(name="sandbox_payment_answer", record=SandboxAnswer, key=("idempotency_key",))

_Act = Callable[[SandboxPayment], SandboxPayment]


class SandboxPayments:
    """`emobility.ports.payments.Payments` over tables."""

    def __init__(self, units: Units) -> None:
        self._units = units

    async def authorize(self, card: str, amount: Money, *, idempotency_key: str) -> Hold:
        """Reserve `amount` on a card; see the port."""
        _refuse_bad_amount(amount)
        digits = card.replace(" ", "")
        fingerprint = _fingerprint("authorize", hashlib.sha256(digits.encode()).hexdigest(), amount)
        payment_id = payment_id_of(idempotency_key)
        behaviour = SandboxCard(digits) if digits in set(SandboxCard) else SandboxCard.GOOD
        declined = _REFUSED_AT_HOLD.get(behaviour) if _passes_luhn(digits) else "incorrect_number"
        opened = SandboxPayment(
            payment_id=payment_id,
            card_behaviour=behaviour.name,
            card_last4=digits[-4:],
            currency=amount.currency,
            held_e4=amount.amount_e4,
            captured_e4=0,
            refunded_e4=0,
            is_open=True,
        )
        call = _Call(idempotency_key=idempotency_key, fingerprint=fingerprint, declined=declined, opened=opened)
        return await self._do(call, payment_id, lambda payment: payment)

    async def capture(self, payment_id: str, amount: Money, *, idempotency_key: str) -> Hold:
        """Take `amount` of what is held and release the rest; see the port."""
        _refuse_bad_amount(amount)

        def act(payment: SandboxPayment) -> SandboxPayment:
            _refuse_other_currency(payment, amount)
            if not payment.is_open or amount.amount_e4 > payment.held_e4:
                raise CaptureExceedsHold(f"{payment_id} holds less than {amount.amount_e4} or is closed")
            return replace(payment, captured_e4=amount.amount_e4, held_e4=0, is_open=False)

        fingerprint = _fingerprint("capture", payment_id, amount)
        return await self._do(_Call(idempotency_key=idempotency_key, fingerprint=fingerprint), payment_id, act)

    async def release(self, payment_id: str, *, idempotency_key: str) -> Hold:
        """Give the hold up without taking anything; a closed payment stays as it is."""

        def act(payment: SandboxPayment) -> SandboxPayment:
            return replace(payment, held_e4=0, is_open=False) if payment.is_open else payment

        fingerprint = _fingerprint("release", payment_id, None)
        return await self._do(_Call(idempotency_key=idempotency_key, fingerprint=fingerprint), payment_id, act)

    async def refund(self, payment_id: str, amount: Money, *, idempotency_key: str) -> Hold:
        """Give captured money back; see the port."""
        _refuse_bad_amount(amount)

        def act(payment: SandboxPayment) -> SandboxPayment:
            _refuse_other_currency(payment, amount)
            if payment.refunded_e4 + amount.amount_e4 > payment.captured_e4:
                raise RefundExceedsCapture(f"{payment_id} took {payment.captured_e4}, gave back {payment.refunded_e4}")
            return replace(payment, refunded_e4=payment.refunded_e4 + amount.amount_e4)

        fingerprint = _fingerprint("refund", payment_id, amount)
        return await self._do(_Call(idempotency_key=idempotency_key, fingerprint=fingerprint), payment_id, act)

    async def find(self, payment_id: str) -> Hold:
        """Return the state of a payment. Raises `UnknownPayment`."""
        async with self._units.begin() as unit:
            payment = await unit.table(PAYMENT).get(payment_id)
        if payment is None:
            raise UnknownPayment(payment_id)
        return _hold_of(payment)

    async def _do(self, call: _Call, payment_id: str, act: _Act) -> Hold:
        """Do a call once, however often it comes, and lose its first answer where the card says so."""
        async with self._units.begin() as unit:
            earlier = await _earlier_answer(unit, call)
            if earlier is not None and (earlier.hold is not None or earlier.declined_code is not None):
                return _given(earlier)
            payment = await _payment_for(unit, call, payment_id)
            is_first_try = earlier is None
            if is_first_try and payment.card_behaviour == SandboxCard.SILENT_BEFORE.name:
                await unit.commit()
                raise PaymentProviderUnavailable("the provider did not answer")
            answer = await _carry_out(unit, call, payment, act)
            await unit.commit()
        if is_first_try and payment.card_behaviour == SandboxCard.SILENT_AFTER.name:
            raise PaymentProviderUnavailable("the provider's answer was lost")
        return _given(answer)


def payment_id_of(idempotency_key: str) -> str:
    """Return the payment that an authorisation under this key opens."""
    return "pay_" + hashlib.sha256(idempotency_key.encode()).hexdigest()[:24]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """What identifies a call; `opened` is the payment that an authorisation creates."""

    idempotency_key: str
    fingerprint: str
    declined: str | None = None
    opened: SandboxPayment | None = None


async def _earlier_answer(unit: UnitOfWork, call: _Call) -> SandboxAnswer | None:
    """Enter the key; return what is known of it when it came before. Raises `IdempotencyKeyReused`."""
    if len(call.idempotency_key) > IDEMPOTENCY_KEY_CHARACTERS_MAX:
        raise IdempotencyKeyReused("the idempotency key is too long")
    answers = unit.table(ANSWER)
    entry = SandboxAnswer(
        idempotency_key=call.idempotency_key, fingerprint=call.fingerprint, hold=None, declined_code=None
    )
    try:
        await answers.insert(entry)
    except RecordExists:
        earlier = await answers.get_for_update(call.idempotency_key)
        assert earlier is not None
        if earlier.fingerprint != call.fingerprint:
            raise IdempotencyKeyReused(f"{call.idempotency_key} came before with other parameters") from None
        return earlier
    return None


async def _payment_for(unit: UnitOfWork, call: _Call, payment_id: str) -> SandboxPayment:
    if call.opened is not None:
        return call.opened
    payment = await unit.table(PAYMENT).get_for_update(payment_id)
    if payment is None:
        raise UnknownPayment(payment_id)
    return payment


async def _carry_out(unit: UnitOfWork, call: _Call, payment: SandboxPayment, act: _Act) -> SandboxAnswer:
    """Move the money, or decline, and store the answer; a broken rule raises and leaves nothing behind."""
    declined = call.declined
    changed = payment
    if declined is None:
        changed = act(payment)
        if changed.captured_e4 > payment.captured_e4:
            declined = _REFUSED_AT_CAPTURE.get(SandboxCard[payment.card_behaviour])
    answer = SandboxAnswer(
        idempotency_key=call.idempotency_key,
        fingerprint=call.fingerprint,
        hold=None if declined is not None else _hold_of(changed),
        declined_code=declined,
    )
    await unit.table(ANSWER).put(answer)
    if declined is None:
        await unit.table(PAYMENT).put(changed)
    return answer


def _given(answer: SandboxAnswer) -> Hold:
    if answer.declined_code is not None:
        raise PaymentDeclined(code=answer.declined_code)
    assert answer.hold is not None
    return answer.hold


def _hold_of(payment: SandboxPayment) -> Hold:
    def money(amount_e4: int) -> Money:
        return Money(amount_e4=amount_e4, currency=payment.currency)

    return Hold(
        payment_id=payment.payment_id,
        held=money(payment.held_e4),
        captured=money(payment.captured_e4),
        refunded=money(payment.refunded_e4),
        is_open=payment.is_open,
    )


def _refuse_bad_amount(amount: Money) -> None:
    if amount.amount_e4 <= 0 or amount.amount_e4 % CENT_E4:
        raise NotACardAmount(amount_e4=amount.amount_e4)


def _refuse_other_currency(payment: SandboxPayment, amount: Money) -> None:
    if payment.currency != amount.currency:
        raise CurrencyMismatch(expected=payment.currency, found=amount.currency)


def _fingerprint(action: str, subject: str, amount: Money | None) -> str:
    parts = [action, subject, None if amount is None else [amount.amount_e4, amount.currency]]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _passes_luhn(digits: str) -> bool:
    if not (digits.isascii() and digits.isdigit() and 12 <= len(digits) <= 19):
        return False
    doubled = [int(digit) * (2 if place % 2 else 1) for place, digit in enumerate(reversed(digits))]
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0
