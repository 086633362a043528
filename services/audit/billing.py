"""Bills: each accepted CDR has one, each stands on an accepted CDR, is its own driver's, and is what was quoted."""

from __future__ import annotations

from collections import defaultdict

from emobility.domain.quote import gross_e4
from emobility.domain.tariff.pricing import price_session
from services.audit.books import Books
from services.audit.report import Check, Difference, amount_difference
from services.audit.tariff_pool import TariffPool
from services.driver_mobility.records import BillRecord, CDRRecord, CDRState, QuoteRecord


def check_bills(books: Books) -> Check:
    """Price every bill again under the tariff that was quoted before the charge began."""
    rule = "the bill is what was quoted"
    cdrs, pool = _cdrs(books), TariffPool()
    differences = []
    for bill in books.bills:
        quote, row = _quote_of(books, bill), cdrs.get(_cdr_key(bill))
        if quote is None or row is None:
            amounts_e4, cause = (0, bill.total_incl_e4), "its quote or its CDR is missing"
            differences.append(amount_difference(rule, bill.bill_id, amounts_e4, bill.currency, cause))
            continue
        tariff, zone = pool.one(quote.quote.tariff), quote.quote.time_zone
        expected = gross_e4(price_session(tariff, row.cdr.periods, ended_at=row.cdr.ended_at, time_zone=zone).total)
        if expected != bill.total_incl_e4:
            amounts_e4, cause = (expected, bill.total_incl_e4), f"quote {quote.quote_id} prices the CDR otherwise"
            differences.append(amount_difference(rule, bill.bill_id, amounts_e4, bill.currency, cause))
    return Check(rule=rule, compared=len(books.bills), differences=tuple(differences))


def check_every_bill_stands_on_its_cdr(books: Books) -> Check:
    """An accepted CDR is owed whole, a credited one not at all, and nobody is billed for any other."""
    rule = "a bill stands on an accepted CDR"
    cdrs = _cdrs(books)
    differences = []
    for bill in books.bills:
        row = cdrs.get(_cdr_key(bill))
        if row is None:
            continue  # "the bill is what was quoted" tells of it
        cause = _not_owed(row, bill)
        if cause is not None:
            expected_e4 = bill.total_incl_e4 if row.state is CDRState.ACCEPTED and not row.cdr.is_credit else 0
            amounts_e4 = (expected_e4, bill.total_incl_e4 - bill.credited_incl_e4)
            differences.append(amount_difference(rule, bill.bill_id, amounts_e4, bill.currency, cause))
    return Check(rule=rule, compared=len(books.bills), differences=tuple(differences))


def _not_owed(row: CDRRecord, bill: BillRecord) -> str | None:
    """Say why a bill is not as its CDR is, None where it is."""
    name = f"CDR {row.cdr_id}"
    if row.cdr.is_credit:
        return f"{name} is a credit; nobody is billed for one"
    if row.state is CDRState.ACCEPTED:
        return f"{name} stands, and its bill was taken back" if bill.credited_incl_e4 else None
    if row.state is CDRState.CREDITED:
        is_taken_back = bill.credited_incl_e4 == bill.total_incl_e4
        return None if is_taken_back else f"{name} was credited by {row.credited_by}, and its bill was not taken back"
    return f"{name} is {row.state}, and only an accepted one is billed"


def check_every_bill_is_its_drivers(books: Books) -> Check:
    """A bill goes to the driver and the CPO its quote names, for the session and the token its CDR names."""
    rule = "a bill is its own driver's"
    cdrs = _cdrs(books)
    differences = []
    for bill in books.bills:
        quote, row = _quote_of(books, bill), cdrs.get(_cdr_key(bill))
        if quote is None or row is None:
            continue  # "the bill is what was quoted" tells of it
        differences += [
            Difference(rule=rule, scope=bill.bill_id, expected=0, found=1, unit="bills", cause=cause)
            for cause in _of_another(books, bill, quote, row)
        ]
    return Check(rule=rule, compared=len(books.bills), differences=tuple(differences))


def _of_another(books: Books, bill: BillRecord, quote: QuoteRecord, row: CDRRecord) -> list[str]:
    """Say which of a bill's parts belong to somebody else."""
    token = books.tokens.get((row.party_id.code, row.token_subject))
    holder = "nobody" if token is None else f"driver {token.driver_id}"
    held_by = None if token is None else token.driver_id
    if (bill.party_id.code, bill.driver_id) in books.erased_drivers:
        held_by = quote.driver_id  # whose token it was went with their data; the quote was signed for them
    sides = (
        (quote.driver_id, bill.driver_id, f"quote {quote.quote_id} was given to driver {quote.driver_id}"),
        (quote.quote.driver_id, quote.driver_id, f"quote {quote.quote_id} was signed for {quote.quote.driver_id}"),
        (quote.cpo_id, bill.cpo_id, f"quote {quote.quote_id} was made for {quote.cpo_id}"),
        (quote.session_id, bill.session_id, f"quote {quote.quote_id} belongs to session {quote.session_id}"),
        (row.quote_id, bill.quote_id, f"CDR {row.cdr_id} is billed under quote {row.quote_id}"),
        (row.session_id, bill.session_id, f"CDR {row.cdr_id} is of session {row.session_id}"),
        (held_by, bill.driver_id, f"CDR {row.cdr_id} names a token of {holder}"),
    )
    return [cause for expected, found, cause in sides if expected != found]


def check_every_accepted_cdr_is_billed(books: Books) -> Check:
    """Each accepted CDR has exactly one bill; where it has none, say what is between it and its driver."""
    rule = "an accepted CDR is billed once"
    bills: dict[tuple[str, str, str], int] = defaultdict(int)
    for bill in books.bills:
        bills[_cdr_key(bill)] += 1
    accepted = [row for row in books.emsp_cdrs if row.state is CDRState.ACCEPTED and not row.cdr.is_credit]
    differences = tuple(
        Difference(
            rule=rule,
            scope="/".join(_cdr_key(row)),
            expected=1,
            found=bills[_cdr_key(row)],
            unit="bills",
            cause="the driver was billed more than once" if bills[_cdr_key(row)] else _unbilled(books, row),
        )
        for row in accepted
        if bills[_cdr_key(row)] != 1
    )
    return Check(rule=rule, compared=len(accepted), differences=differences)


def _unbilled(books: Books, row: CDRRecord) -> str:
    """Say why an accepted CDR has no bill, as far as the rows know."""
    token = books.tokens.get((row.party_id.code, row.token_subject))
    if token is None:
        return "its token is nobody's here: it was accepted without a driver to bill"
    if row.quote_id is None:
        return f"it is tied to no quote, though driver {token.driver_id} has its token"
    if (row.party_id.code, row.quote_id) not in books.quotes:
        return f"its quote {row.quote_id} is gone"
    return f"driver {token.driver_id} was never billed under quote {row.quote_id}"


def _cdrs(books: Books) -> dict[tuple[str, str, str], CDRRecord]:
    return {_cdr_key(row): row for row in books.emsp_cdrs}


def _cdr_key(row: CDRRecord | BillRecord) -> tuple[str, str, str]:
    """MSP, CPO and CDR id."""
    return row.party_id.code, row.cpo_id.code, row.cdr_id


def _quote_of(books: Books, bill: BillRecord) -> QuoteRecord | None:
    return books.quotes.get((bill.party_id.code, bill.quote_id))
