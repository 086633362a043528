"""A driver's account with an MSP in one currency: what was billed, what was paid, what is outstanding, to the last e4.

Bills are exact to the ten-thousandth; cards move whole cents. So each bill (or credit) is turned into a payment once,
rounded towards the driver, and what is left is carried on the account: into the next payment, never away. At every
moment, in whatever order bills, credits and payments came::

    billed_e4 - credited_e4 = paid_e4 + outstanding_e4
    outstanding_e4 = due_e4 + carry_e4

`due_e4` is asked of the card and not paid yet (or failed); `carry_e4` is asked of nobody: a residue below a cent, or,
when negative, what the MSP owes the driver beyond what could go back to a card.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from emobility.domain.errors import CurrencyMismatch, RuleBroken
from emobility.domain.identifiers import PartyId

CENT_E4: Final = 100


class PaymentNotDue(RuleBroken):
    """More was settled, given up or given back than the account has due or paid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetailAccount:
    """Sums of one driver at one MSP in one currency, all in ten-thousandths."""

    party_id: PartyId
    driver_id: str
    currency: str
    billed_e4: int = 0
    credited_e4: int = 0
    paid_e4: int = 0
    due_e4: int = 0
    carry_e4: int = 0

    @property
    def outstanding_e4(self) -> int:
        """What the driver still owes; negative when the MSP owes the driver."""
        return self.billed_e4 - self.credited_e4 - self.paid_e4

    def assert_balanced(self) -> None:
        """Stop before wrong money is written."""
        if self.outstanding_e4 != self.due_e4 + self.carry_e4:
            raise AssertionError(f"{self} is out of balance by {self.outstanding_e4 - self.due_e4 - self.carry_e4} e4")


def add_bill(account: RetailAccount, *, total_incl_e4: int, currency: str) -> tuple[RetailAccount, int]:
    """Enter a bill; return the account and the whole cents to ask of the card now, in e4 (0: nothing).

    A negative bill (a charge at negative prices) is owed to the driver and lowers the next payment.

    Raises:
        CurrencyMismatch: the bill is in another currency.
    """
    _refuse_other_currency(account, currency)
    return ask_carried(
        replace(account, billed_e4=account.billed_e4 + total_incl_e4, carry_e4=account.carry_e4 + total_incl_e4)
    )


def ask_carried(account: RetailAccount) -> tuple[RetailAccount, int]:
    """Return the account and the whole cents of what it carries to ask of the card now, in e4 (0: nothing).

    After a bill, and after every credit and withdrawn demand: a bill may have asked less for what it was set off
    against, and nobody would ask for the difference.
    """
    asked_e4 = _whole_cents(max(0, account.carry_e4))
    return _balanced(replace(account, due_e4=account.due_e4 + asked_e4, carry_e4=account.carry_e4 - asked_e4)), asked_e4


def add_credit(account: RetailAccount, *, credit_incl_e4: int, currency: str) -> RetailAccount:
    """Take a bill back, in whole or in part; negative when the bill was.

    What is owed to the driver afterwards goes back to a card by `plan_refund`.

    Raises:
        CurrencyMismatch: the credit is in another currency.
    """
    _refuse_other_currency(account, currency)
    return _balanced(
        replace(
            account,
            credited_e4=account.credited_e4 + credit_incl_e4,
            carry_e4=account.carry_e4 - credit_incl_e4,
        )
    )


def plan_refund(account: RetailAccount, *, refundable_e4: int) -> tuple[RetailAccount, int]:
    """Return the account and the whole cents to give back to a card now, in e4 (0: nothing).

    Args:
        account: As it stands.
        refundable_e4: What the payments of credited bills took and did not give back yet.
    """
    owed_e4 = max(0, -account.carry_e4)
    refund_e4 = _whole_cents(min(owed_e4, max(0, refundable_e4)))
    # Money on its way to the driver is due with a minus sign until the provider confirms it.
    return _balanced(
        replace(account, due_e4=account.due_e4 - refund_e4, carry_e4=account.carry_e4 + refund_e4)
    ), refund_e4


def settle(account: RetailAccount, *, amount_e4: int, currency: str) -> RetailAccount:
    """Enter what the provider captured (positive) or refunded (negative). Raises `CurrencyMismatch`."""
    _refuse_other_currency(account, currency)
    return _balanced(replace(account, paid_e4=account.paid_e4 + amount_e4, due_e4=account.due_e4 - amount_e4))


def withdraw_demand(account: RetailAccount, *, amount_e4: int, currency: str) -> RetailAccount:
    """Stop asking a card for `amount_e4` (its bill is credited before it was paid); it is carried instead.

    Raises:
        CurrencyMismatch: the amount is in another currency.
        PaymentNotDue: less than that was asked.
    """
    _refuse_other_currency(account, currency)
    if amount_e4 < 0:
        raise PaymentNotDue(f"a demand of {amount_e4} e4 can't be withdrawn")
    return _balanced(replace(account, due_e4=account.due_e4 - amount_e4, carry_e4=account.carry_e4 + amount_e4))


def _balanced(account: RetailAccount) -> RetailAccount:
    account.assert_balanced()
    return account


def _whole_cents(amount_e4: int) -> int:
    """Return the whole cents in a non-negative amount."""
    return amount_e4 - amount_e4 % CENT_E4


def _refuse_other_currency(account: RetailAccount, currency: str) -> None:
    if account.currency != currency:
        raise CurrencyMismatch(expected=account.currency, found=currency)
