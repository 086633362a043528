"""What may be taken out of a guarantee: what is overdue, first in first out, as the settlement book counts it.

A payment counts towards the oldest statement, whatever it was meant for. So overdue through statement n is what is owed
less what was charged after n (decision 23, point 7)::

    overdue(n) = sum of all nets - all that was paid - sum of the charges after n
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from emobility.domain.banking.payout import CENT_E4


@dataclass(frozen=True, slots=True, kw_only=True)
class Charged:
    """What a final statement added to what the MSP owes, in ten-thousandths; below zero it took away."""

    sequence: int
    due_on: date
    net_e4: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Overdue:
    """What was not paid in time.

    Attributes:
        sequence: Through which statement; it was due on `until`.
        amount_e4: How much, in whole cents, for banks and guarantees pay in those.
        due_on: Of the oldest statement that is not paid.
    """

    sequence: int
    until: date
    amount_e4: int
    due_on: date


def overdue(statements: Sequence[Charged], *, paid_e4: int, today: date, grace: timedelta) -> Overdue | None:
    """Return what may be taken on a day; None: nothing.

    Args:
        statements: All final ones of an agreement, by sequence.
        paid_e4: All that was paid of them, by bank or out of the guarantee.
        today: What was due on this day is not late.
        grace: How long beyond the due date the CPO waits.
    """
    late = [each for each in statements if each.due_on + grace < today]
    amount_e4 = _through(statements, late[-1].sequence, paid_e4) // CENT_E4 * CENT_E4 if late else 0
    oldest = _oldest_unpaid(late, statements, paid_e4)
    if amount_e4 <= 0 or oldest is None:
        return None
    return Overdue(sequence=late[-1].sequence, until=late[-1].due_on, amount_e4=amount_e4, due_on=oldest.due_on)


def next_due(statements: Sequence[Charged], *, paid_e4: int) -> date | None:
    """Return when the oldest statement that is not paid is due, or was; None: all are paid, but for parts of a cent."""
    oldest = _oldest_unpaid(statements, statements, paid_e4)
    return None if oldest is None else oldest.due_on


def _oldest_unpaid(some: Sequence[Charged], statements: Sequence[Charged], paid_e4: int) -> Charged | None:
    return next((each for each in some if _through(statements, each.sequence, paid_e4) >= CENT_E4), None)


def _through(statements: Sequence[Charged], sequence: int, paid_e4: int) -> int:
    owed_e4 = sum(each.net_e4 for each in statements) - paid_e4
    return owed_e4 - sum(max(each.net_e4, 0) for each in statements if each.sequence > sequence)
