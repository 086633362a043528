"""Which CDRs of an invoice its receiver owes, line by line.

OCPI 2.3.0 (mod_invoice_reconciliation) has the list of CDRs that an invoice is made of, and leaves the comparing to
whoever receives it. Each CDR is looked up in the receiver's own books; what it owes and does not find on the invoice is
told as well, so that both sides end with one list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Standing(StrEnum):
    """Where a CDR stands in the books of who is to pay for it."""

    ACCEPTED = "ACCEPTED"
    UNDECIDED = "UNDECIDED"
    DISPUTED = "DISPUTED"


class LineVerdict(StrEnum):
    """What the receiver of an invoice says of a CDR on it, or missing from it."""

    ACCEPTED = "ACCEPTED"
    OTHER_AMOUNT = "OTHER_AMOUNT"
    """It was accepted at another amount, or in another currency."""
    UNKNOWN = "UNKNOWN"
    """It never arrived."""
    UNDECIDED = "UNDECIDED"
    """It arrived and was not decided on yet."""
    DISPUTED = "DISPUTED"
    CREDITED = "CREDITED"
    """It was taken back by a credit that is not on the invoice though it was there in time."""
    INVOICED_BEFORE = "INVOICED_BEFORE"
    """Another invoice has it."""
    MISSING = "MISSING"
    """It was accepted and is of the invoice's period, and no invoice has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoicedCDR:
    """A line of an invoice. `amount_e4`: before tax, in ten-thousandths; None: the invoice's issuer does not say."""

    cdr_id: str
    amount_e4: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BookedCDR:
    """A CDR in one's own books; a credit's amount is negative. `credited_at`: when its credit was issued."""

    cdr_id: str
    standing: Standing
    amount_e4: int
    currency: str
    credited_by: str | None = None
    credited_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LineAnswer:
    """A verdict, what the invoice states and what the books have, in ten-thousandths.

    `see`: the credit that took the CDR back, or the record of the other invoice.
    """

    cdr_id: str
    verdict: LineVerdict
    stated_e4: int | None = None
    booked_e4: int | None = None
    see: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoice:
    """What an invoice says. `until`: end of its period, excluded; None: it names none."""

    lines: tuple[InvoicedCDR, ...]
    currency: str | None
    until: datetime | None


def reconcile(
    invoice: Invoice,
    *,
    booked: Mapping[str, BookedCDR],
    invoiced_by: Mapping[str, str],
    owed: Sequence[BookedCDR],
    answered: Sequence[LineAnswer] = (),
) -> tuple[LineAnswer, ...]:
    """Return an answer per line, then one per CDR that is missing.

    Args:
        invoice: What is to be compared.
        booked: The CDRs of its lines that the books have, by id.
        invoiced_by: CDRs of its lines, or owed, that another invoice has, with the record of that one.
        owed: All accepted CDRs of its period; none where it names none.
        answered: What was answered before. An accepted line stays accepted, whatever becomes of its CDR later: a credit
            belongs on a later invoice.
    """
    kept = {each.cdr_id: each for each in answered if each.verdict is LineVerdict.ACCEPTED}
    names = {line.cdr_id for line in invoice.lines}
    found: list[LineAnswer] = []
    for line in invoice.lines:
        earlier = kept.get(line.cdr_id)
        if earlier is not None and earlier.stated_e4 == line.amount_e4:
            found.append(earlier)
            continue
        found.append(_answer(line, booked.get(line.cdr_id), invoiced_by.get(line.cdr_id), invoice, names))
    found += [
        LineAnswer(cdr_id=each.cdr_id, verdict=LineVerdict.MISSING, booked_e4=each.amount_e4)
        for each in owed
        if each.cdr_id not in names | invoiced_by.keys()
        and each.standing is Standing.ACCEPTED
        and each.credited_by is None
        and each.currency == (invoice.currency or each.currency)
    ]
    return tuple(found)


def _answer(
    line: InvoicedCDR, known: BookedCDR | None, other: str | None, invoice: Invoice, names: set[str]
) -> LineAnswer:
    booked_e4 = None if known is None else known.amount_e4
    verdict, see = _verdict(line, known, other, invoice, names)
    return LineAnswer(cdr_id=line.cdr_id, verdict=verdict, stated_e4=line.amount_e4, booked_e4=booked_e4, see=see)


def _verdict(
    line: InvoicedCDR, known: BookedCDR | None, other: str | None, invoice: Invoice, names: set[str]
) -> tuple[LineVerdict, str | None]:
    if known is None:
        return LineVerdict.UNKNOWN, None
    if other is not None:
        return LineVerdict.INVOICED_BEFORE, other
    if known.credited_by is not None:
        is_later = invoice.until is not None and known.credited_at is not None and known.credited_at >= invoice.until
        if known.credited_by not in names and not is_later:
            return LineVerdict.CREDITED, known.credited_by
    elif known.standing is not Standing.ACCEPTED:
        return LineVerdict(known.standing.value), None
    is_same = line.amount_e4 in {None, known.amount_e4} and invoice.currency in {None, known.currency}
    return LineVerdict.ACCEPTED if is_same else LineVerdict.OTHER_AMOUNT, None


def agrees(answers: Sequence[LineAnswer]) -> bool:
    """Whether the receiver owes the invoice as it is."""
    return all(each.verdict is LineVerdict.ACCEPTED for each in answers)


def accepted_e4(answers: Sequence[LineAnswer]) -> int:
    """Return what the receiver owes of the invoice, before tax."""
    return sum(each.booked_e4 or 0 for each in answers if each.verdict is LineVerdict.ACCEPTED)
