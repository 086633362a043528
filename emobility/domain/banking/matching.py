"""What an entry of a bank statement means for the payment whose EndToEndId it carries.

Only the EndToEndId decides; amounts and names are never guessed from. Nothing is ever dropped: an entry has an outcome,
and all but a payment that was awaited, whole and in time waits in a work list for somebody to look.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date
from enum import StrEnum


class Direction(StrEnum):
    """CreditDebitIndicator: which way money moved, as the account's holder sees it."""

    IN = "CRDT"
    OUT = "DBIT"


@dataclass(frozen=True, slots=True, kw_only=True)
class BankEntry:
    """One booked movement on an account.

    Attributes:
        iban: The account.
        reference: The bank's own name of the movement.
        cents: Above zero.
        is_return: It undoes an earlier one (an R-transaction, or a reversal).
        reason: Why, as a code of the bank (ISO 20022 ExternalReturnReason1Code).
    """

    iban: str
    reference: str
    booked_on: date
    cents: int
    currency: str
    direction: Direction
    end_to_end_id: str | None
    is_return: bool = False
    reason: str | None = None

    @property
    def entry_id(self) -> str:
        """Name the movement: the same however often a file is read, in whatever file it stands.

        The bank's name alone would not do: some count entries anew in each statement.
        """
        said = (self.iban, self.reference, self.booked_on, self.cents, self.currency, self.direction)
        return hashlib.sha256(repr((*map(str, said), self.end_to_end_id, self.is_return)).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Awaited:
    """A payment as its payee awaits it, or its payer sent it: `moved_cents` of `cents` were seen already.

    `excess_cents` moved beyond it and did not come back yet.
    """

    cents: int
    moved_cents: int
    excess_cents: int = 0
    currency: str
    due_on: date
    is_payee: bool


class Outcome(StrEnum):
    """What became of an entry."""

    MATCHED = "MATCHED"
    """It is the payment, or its rest."""
    PARTIAL = "PARTIAL"
    """Less than what is open; the rest stays open."""
    OVERPAID = "OVERPAID"
    """More than what is open; the excess is the payer's."""
    DUPLICATE = "DUPLICATE"
    """Nothing was open any more."""
    RETURNED = "RETURNED"
    """An earlier movement is undone; what it paid is open again, but for what moved beyond the payment."""
    UNKNOWN = "UNKNOWN"
    """Nobody awaits a payment of this name, or in this direction."""
    OTHER_CURRENCY = "OTHER_CURRENCY"
    """It is named as an awaited payment and is in another currency; none is converted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """What an entry is: `booked_cents` count towards the payment (below zero: are open again), `excess_cents` don't."""

    outcome: Outcome
    booked_cents: int
    excess_cents: int
    is_late: bool = False

    @property
    def needs_somebody(self) -> bool:
        """Whether it belongs in the work list."""
        return self.outcome is not Outcome.MATCHED or self.is_late


def match(entry: BankEntry, awaited: Awaited | None) -> Match:
    """Decide what an entry is; `awaited` is the payment of its EndToEndId, None where there is none."""
    if awaited is None:
        return Match(outcome=Outcome.UNKNOWN, booked_cents=0, excess_cents=entry.cents)
    if entry.currency != awaited.currency:
        return Match(outcome=Outcome.OTHER_CURRENCY, booked_cents=0, excess_cents=entry.cents)
    forth = Direction.IN if awaited.is_payee else Direction.OUT
    if entry.is_return and entry.direction is not forth:
        # What moved beyond the payment goes back first: a payment that came twice and once back is paid.
        undone = min(max(0, entry.cents - awaited.excess_cents), awaited.moved_cents)
        return Match(outcome=Outcome.RETURNED, booked_cents=-undone, excess_cents=entry.cents - undone)
    if entry.direction is not forth or entry.is_return:
        return Match(outcome=Outcome.UNKNOWN, booked_cents=0, excess_cents=entry.cents)
    is_late = entry.booked_on > awaited.due_on
    open_cents = awaited.cents - awaited.moved_cents
    booked = min(entry.cents, open_cents)
    if open_cents <= 0:
        return Match(outcome=Outcome.DUPLICATE, booked_cents=0, excess_cents=entry.cents, is_late=is_late)
    outcome = Outcome.MATCHED
    if entry.cents != open_cents:
        outcome = Outcome.PARTIAL if entry.cents < open_cents else Outcome.OVERPAID
    return Match(outcome=outcome, booked_cents=booked, excess_cents=entry.cents - booked, is_late=is_late)
