"""How much an MSP has open with a CPO, against the limit that both signed, and how old what it owes is.

Exposure = reserved for charges that run or may begin + accepted and not settled + owed, all wholesale, net of tax. A
CPO that trusts up to a limit lets nobody in whose charge might pass it; who charges already goes on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Final

from emobility.domain.agreement import RoamingAgreement, SettlementMode

BOUNDED_MODES: Final = frozenset({SettlementMode.CREDIT_LINE, SettlementMode.GUARANTEE})
"""Modes in which the CPO bears what is open: up to the line, or up to what the vault reserves for it."""
PREPAID_MODES: Final = frozenset({SettlementMode.PREFUNDED, SettlementMode.CONFIDENTIAL})
"""Modes in which a statement is paid from collateral when it becomes final; a bank moves no more than its tax."""
ESTIMATE_E4: Final = 150_000
"""What a charge is taken to cost before it is priced, at least: 15.00, some 30 kWh."""


def limit_e4_of(agreement: RoamingAgreement) -> int | None:
    """Return the most that may be open, in ten-thousandths; None: these terms bound nothing."""
    return agreement.credit_limit_e4 if agreement.settlement_mode in BOUNDED_MODES else None


def opened_under(agreement: RoamingAgreement, versions: Iterable[RoamingAgreement]) -> int:
    """Return the version under which a book opened an agreement: the first since the book's part of the terms changed.

    What was taken of a guarantee was taken under that; terms with another limit are opened, and reserved, anew.
    """
    before = [
        each for each in versions if each.agreement_id == agreement.agreement_id and each.version < agreement.version
    ]
    opened = agreement.version
    for each in sorted(before, key=lambda one: one.version, reverse=True):
        if _book_terms(each) != _book_terms(agreement):
            break
        opened = each.version
    return opened


def _book_terms(agreement: RoamingAgreement) -> tuple[str, SettlementMode, int, int]:
    is_guaranteed = agreement.settlement_mode is SettlementMode.GUARANTEE
    term_d = agreement.payment_terms_d if is_guaranteed else 0
    return agreement.currency, agreement.settlement_mode, limit_e4_of(agreement) or 0, term_d


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """What is open between a pair in one currency, in ten-thousandths. `billed_e4` less `paid_e4` is both what is
    accepted and not settled yet and what is owed; who keeps statements tells the two apart.
    """

    reserved_e4: int = 0
    billed_e4: int = 0
    paid_e4: int = 0
    charges: int = 0

    def __add__(self, other: Exposure) -> Exposure:
        return Exposure(
            reserved_e4=self.reserved_e4 + other.reserved_e4,
            billed_e4=self.billed_e4 + other.billed_e4,
            paid_e4=self.paid_e4 + other.paid_e4,
            charges=self.charges + other.charges,
        )

    @property
    def open_e4(self) -> int:
        """All of it."""
        return self.reserved_e4 + self.billed_e4 - self.paid_e4

    @property
    def estimate_e4(self) -> int:
        """Return what the next charge is taken to cost: the mean so far, or `ESTIMATE_E4` if that is more."""
        return max(ESTIMATE_E4, self.billed_e4 // self.charges if self.charges else 0)

    def bears(self, wanted_e4: int, limit_e4: int) -> bool:
        """Whether another charge stays within the limit."""
        return self.open_e4 + wanted_e4 <= limit_e4


class Age(StrEnum):
    """How long ago a payment was due."""

    NOT_DUE = "not due"
    TO_30 = "0-30"
    TO_60 = "31-60"
    TO_90 = "61-90"
    OVER_90 = "90+"


_DAYS: Final = ((30, Age.TO_30), (60, Age.TO_60), (90, Age.TO_90))


def age_of(due_on: date, today: date) -> Age:
    """Return the age of what was due on a day; due today is not late."""
    days = (today - due_on).days
    if days <= 0:
        return Age.NOT_DUE
    return next((age for bound, age in _DAYS if days <= bound), Age.OVER_90)


def aged(open_amounts: Iterable[tuple[date, int]], today: date) -> dict[Age, int]:
    """Add up what is owed (due date, amount) by age; all ages are there, so they add up to what is owed."""
    sums = dict.fromkeys(Age, 0)
    for due_on, amount in open_amounts:
        sums[age_of(due_on, today)] += amount
    return sums
