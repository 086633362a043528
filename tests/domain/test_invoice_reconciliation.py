"""What the receiver of an invoice says of each CDR on it, and of those that are not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobility.domain.invoice_reconciliation import (
    BookedCDR,
    Invoice,
    InvoicedCDR,
    LineAnswer,
    LineVerdict,
    Standing,
    accepted_e4,
    agrees,
    reconcile,
)

UNTIL = datetime(2026, 3, 2, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def booked(cdr_id: str = "A", amount_e4: int = 10_000, **fields: Any) -> BookedCDR:
    made: dict[str, Any] = {"standing": Standing.ACCEPTED, "currency": "EUR"}
    return BookedCDR(cdr_id=cdr_id, amount_e4=amount_e4, **(made | fields))


def invoice(*lines: tuple[str, int | None], **fields: Any) -> Invoice:
    made: dict[str, Any] = {"currency": "EUR", "until": UNTIL}
    stated = tuple(InvoicedCDR(cdr_id=cdr_id, amount_e4=amount) for cdr_id, amount in lines)
    return Invoice(lines=stated, **(made | fields))


def answers(said: Invoice, *known: BookedCDR, **fields: Any) -> tuple[LineAnswer, ...]:
    terms: dict[str, Any] = {"invoiced_by": {}, "owed": ()}
    return reconcile(said, booked={each.cdr_id: each for each in known}, **(terms | fields))


@pytest.mark.parametrize(
    ("known", "verdict", "see"),
    [
        (booked(), LineVerdict.ACCEPTED, None),
        (booked(amount_e4=9_999), LineVerdict.OTHER_AMOUNT, None),
        (booked(currency="SEK"), LineVerdict.OTHER_AMOUNT, None),
        (booked(standing=Standing.DISPUTED), LineVerdict.DISPUTED, None),
        (booked(standing=Standing.UNDECIDED), LineVerdict.UNDECIDED, None),
        (booked(credited_by="A-C", credited_at=UNTIL - SECOND), LineVerdict.CREDITED, "A-C"),
        (booked(credited_by="A-C", credited_at=UNTIL), LineVerdict.ACCEPTED, None),
        (booked(cdr_id="B"), LineVerdict.UNKNOWN, None),
    ],
)
def test_a_cdr_is_owed_as_the_books_have_it(known: BookedCDR, verdict: LineVerdict, see: str | None) -> None:
    (answer,) = answers(invoice(("A", 10_000)), known)

    assert (answer.verdict, answer.see) == (verdict, see)
    assert answer.stated_e4 == 10_000


def test_a_credit_on_the_same_invoice_takes_its_original_back() -> None:
    original = booked(credited_by="A-C", credited_at=UNTIL - SECOND)

    found = answers(invoice(("A", 10_000), ("A-C", -10_000)), original, booked("A-C", -10_000))

    assert agrees(found)
    assert accepted_e4(found) == 0


def test_without_amounts_and_period_what_the_books_have_is_accepted() -> None:
    (answer,) = answers(invoice(("A", None), currency=None, until=None), booked())

    assert (answer.verdict, answer.booked_e4) == (LineVerdict.ACCEPTED, 10_000)


def test_what_another_invoice_has_is_not_owed_twice() -> None:
    found = answers(invoice(("A", 10_000)), booked(), invoiced_by={"A": "other"})

    assert [(each.verdict, each.see) for each in found] == [(LineVerdict.INVOICED_BEFORE, "other")]


def test_what_is_owed_and_on_no_invoice_is_missing() -> None:
    owed = [
        booked("A"),
        booked("B", 2_000),
        booked("C", 3_000),
        booked("D", credited_by="D-C"),
        booked("E", currency="SEK"),
        booked("F", standing=Standing.DISPUTED),
    ]

    found = answers(invoice(("A", 10_000)), booked(), owed=owed, invoiced_by={"C": "other"})

    assert [(each.cdr_id, each.verdict) for each in found] == [
        ("A", LineVerdict.ACCEPTED),
        ("B", LineVerdict.MISSING),
    ]
    assert accepted_e4(found) == 10_000
    assert not agrees(found)


def test_an_accepted_line_stays_accepted_whatever_becomes_of_its_cdr() -> None:
    before = answers(invoice(("A", 10_000)), booked())
    later = booked(credited_by="A-C", credited_at=UNTIL - SECOND)

    assert answers(invoice(("A", 10_000)), later, answered=before) == before
    assert answers(invoice(("A", 10_001)), later, answered=before)[0].verdict is LineVerdict.CREDITED


@given(amounts=st.lists(st.integers(-(10**9), 10**9), max_size=20), seed=st.randoms())
def test_an_invoice_of_the_books_is_accepted_to_the_ten_thousandth_in_any_order(amounts: list[int], seed: Any) -> None:
    known = [booked(str(number), amount) for number, amount in enumerate(amounts)]
    lines = [(each.cdr_id, each.amount_e4) for each in known]
    seed.shuffle(lines)

    found = answers(invoice(*lines), *known, owed=known)

    assert agrees(found)
    assert accepted_e4(found) == sum(amounts)
