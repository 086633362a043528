"""The payment provider as an MSP sees it: hold money, take some of it, give it back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from emobility.domain.errors import MalformedInput, RuleBroken, Unavailable
from emobility.domain.money import Money


class PaymentProviderUnavailable(Unavailable):
    """The provider did not answer; the same call with the same idempotency key may be repeated."""


class PaymentDeclined(RuleBroken):
    """The card's issuer refused."""

    def __init__(self, *, code: str) -> None:
        self.code = code
        super().__init__(f"the payment was declined: {code}")


class CaptureExceedsHold(RuleBroken):
    """More was to be captured than is held."""


class RefundExceedsCapture(RuleBroken):
    """More was to be given back than was taken."""


class UnknownPayment(RuleBroken):
    """The provider knows no such payment."""


class IdempotencyKeyReused(RuleBroken):
    """The key came before with other parameters; nothing was done."""


class NotACardAmount(MalformedInput):
    """Cards are charged in whole cents, more than none."""

    def __init__(self, *, amount_e4: int) -> None:
        self.amount_e4 = amount_e4
        super().__init__(f"{amount_e4} ten-thousandths are no positive amount in whole cents")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Money reserved on a card."""

    payment_id: str
    held: Money
    captured: Money
    refunded: Money
    is_open: bool


class Payments(Protocol):
    """Each call carries an idempotency key: repeating it gives the first answer and moves no money again.

    Cards are charged in whole cents: every amount here is a positive multiple of 100 ten-thousandths (`NotACardAmount`
    otherwise). Every call may raise `PaymentProviderUnavailable`, and `IdempotencyKeyReused` when its key came before
    with other parameters.
    """

    async def authorize(self, card: str, amount: Money, *, idempotency_key: str) -> Hold:
        """Reserve `amount`. Raises `PaymentDeclined`, `PaymentProviderUnavailable`."""

    async def capture(self, payment_id: str, amount: Money, *, idempotency_key: str) -> Hold:
        """Take `amount` of what is held and release the rest. Raises `CaptureExceedsHold`."""

    async def release(self, payment_id: str, *, idempotency_key: str) -> Hold:
        """Give the hold up without taking anything."""

    async def refund(self, payment_id: str, amount: Money, *, idempotency_key: str) -> Hold:
        """Give captured money back. Raises `RefundExceedsCapture`."""

    async def find(self, payment_id: str) -> Hold:
        """Return the state of a payment. Raises `UnknownPayment`."""
