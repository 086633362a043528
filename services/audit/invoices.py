"""Invoices and payments by bank: what is owed, invoiced and paid is the same, to the last ten-thousandth."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from emobility.domain.banking.payout import CENT_E4
from services.audit.books import MONEY_GROUP, Books
from services.audit.report import Check, Difference, amount_difference
from services.audit.settlement_rows import StatementKey
from services.driver_mobility.records import PaymentKind, PaymentState
from services.settlement.money_records import BankEntryRecord, PayableRecord, PayoutRecord
from services.settlement.records import StatementState

_NUMBER: Final = re.compile(r"(?P<issuer>[A-Z]{2}-[A-Z0-9]{3})-(?P<series>[A-Z])(?P<year>\d{4})-(?P<count>\d{6,})")
_SIGN: Final = {PaymentKind.CAPTURE: 1, PaymentKind.CHARGE: 1, PaymentKind.REFUND: -1}


def check_payables(books: Books) -> Check:
    """Each final statement is to be paid once, in cents that with the residue carried are all of it."""
    rule = "a final statement is paid to the cent"
    rows = {(row.cpo_id, row.agreement_id, row.version, row.sequence): row for row in books.money.payables}
    payouts = {(row.cpo_id.code, row.end_to_end_id): row for row in books.money.payouts}
    statements = {(row.cpo_id, row.agreement_id, row.version, row.sequence): row for row in books.settlement.statements}
    found: list[Difference] = []
    cents = defaultdict[tuple[str, str], int](int)
    currencies = {key: payout.currency for key, payout in payouts.items()}
    for key, statement in sorted(statements.items(), key=lambda each: str(each[0])):
        scope = "/".join(map(str, key))
        row = rows.get(key)
        if row is None:
            # Read after the statements, and its consumer may lag: the lag is told by a rule of its own.
            if statement.state is StatementState.FINAL and not books.lag.get(MONEY_GROUP):
                exact_e4 = statement.due_e4 - statement.credit_e4
                cause = "it is final, and nobody is asked for it"
                found.append(amount_difference(rule, scope, (exact_e4, 0), statement.currency, cause))
            continue
        before = rows.get((*key[:3], key[3] - 1))
        carried_e4 = 0 if before is None else before.residue_e4
        for expected, actual, cause in (
            (statement.due_e4 - statement.credit_e4, row.exact_e4, "the statement says otherwise"),
            (carried_e4, row.carried_e4, "the residue of the statement before it was not carried"),
            (row.exact_e4 + row.carried_e4, row.net_cents * CENT_E4 + row.residue_e4, "cents and residue differ"),
        ):
            if expected != actual:
                found.append(amount_difference(rule, scope, (expected, actual), row.currency, cause))
        if row.paid_by is not None:
            of_payout = row.cpo_id.code, row.paid_by
            cents[of_payout] += row.payable.cents
            currencies[of_payout] = row.currency
    found += _without_statement(rule, rows, statements)
    for of_payout in sorted(payouts.keys() | cents.keys()):
        payout = payouts.get(of_payout)
        amounts_e4 = cents[of_payout] * CENT_E4, 0 if payout is None else payout.cents * CENT_E4
        if amounts_e4[0] != amounts_e4[1]:
            cause = "the payment is not what its statements come to"
            found.append(amount_difference(rule, of_payout[1], amounts_e4, currencies[of_payout], cause))
    return Check(rule=rule, compared=len(rows), differences=tuple(found))


def _without_statement(
    rule: str, rows: Mapping[StatementKey, PayableRecord], statements: Container[StatementKey]
) -> list[Difference]:
    return [
        amount_difference(
            rule, "/".join(map(str, key)), (0, row.exact_e4), row.currency, "it is to be paid, and no statement says so"
        )
        for key, row in rows.items()
        if key not in statements
    ]


def check_bank(books: Books) -> Check:
    """Add up what banks said moved, payment by payment; each entry counts once, and no discharge does twice."""
    rule = "a payment is what the bank moved"
    moved = defaultdict[tuple[str, str], _Moved](_Moved)
    for entry in books.money.entries:
        if entry.cpo_id is not None and entry.end_to_end_id is not None and entry.booked_cents:
            of_payout = moved[entry.cpo_id.code, entry.end_to_end_id]
            if entry.party_id == entry.cpo_id:
                of_payout.arrived_cents += entry.booked_cents
            else:
                of_payout.sent_cents += entry.booked_cents
            of_payout.currency = entry.currency
    for discharge in books.money.discharges:
        of_payout = moved[discharge.cpo_id.code, discharge.end_to_end_id]
        of_payout.discharged_e4 += discharge.amount_e4
        of_payout.currency = discharge.currency
    found = [_entry_difference(rule, entry) for entry in books.money.entries if not _is_whole(entry)]
    payouts = {(row.cpo_id.code, row.end_to_end_id): row for row in books.money.payouts}
    for key in sorted(payouts.keys() | moved.keys()):
        payout, of_payout = payouts.get(key), moved[key]
        stored = _Moved() if payout is None else _Moved.of(payout)
        found += [
            amount_difference(rule, key[1], amounts, stored.currency or of_payout.currency, cause)
            for amounts, cause in _sides(of_payout, stored)
            if amounts[0] != amounts[1]
        ]
    found += _taken_without_call(rule, books)
    compared = len(books.money.entries) + len(books.money.payouts)
    return Check(rule=rule, compared=compared, differences=tuple(found))


def _taken_without_call(rule: str, books: Books) -> Iterator[Difference]:
    """Find payments that were lowered by more than guarantees of their agreement gave; what no payment has waits."""
    given_e4, taken_e4 = defaultdict[tuple[str, str, str], int](int), defaultdict[tuple[str, str, str], int](int)
    for call in books.money.guarantee_calls:
        given_e4[call.cpo_id.code, call.agreement_id, call.currency] += call.amount_e4
    for payout in books.money.payouts:
        taken_e4[payout.cpo_id.code, payout.agreement_id, payout.currency] += payout.taken_cents * CENT_E4
    for key in sorted(taken_e4):
        if taken_e4[key] > given_e4[key]:
            cause = "payments were lowered by more than was taken of the guarantee"
            amounts = given_e4[key], taken_e4[key]
            yield amount_difference(rule, "/".join(key[:2]), amounts, key[2], cause)


@dataclass(slots=True, kw_only=True)
class _Moved:
    """What moved of a payment; nothing of one that is gone."""

    arrived_cents: int = 0
    sent_cents: int = 0
    discharged_e4: int = 0
    currency: str = ""

    @classmethod
    def of(cls, payout: PayoutRecord) -> _Moved:
        return cls(
            arrived_cents=payout.arrived_cents,
            sent_cents=payout.sent_cents,
            discharged_e4=payout.discharged_e4,
            currency=payout.currency,
        )


def _sides(moved: _Moved, stored: _Moved) -> Iterator[tuple[tuple[int, int], str]]:
    arrived_e4 = moved.arrived_cents * CENT_E4, stored.arrived_cents * CENT_E4
    yield arrived_e4, "entries of the CPO's bank do not add up to it"
    sent_e4 = moved.sent_cents * CENT_E4, stored.sent_cents * CENT_E4
    yield sent_e4, "entries of the MSP's bank do not add up to it"
    yield (moved.discharged_e4, stored.discharged_e4), "its discharges do not add up to it"


def _is_whole(row: BankEntryRecord) -> bool:
    return row.entry.cents == abs(row.booked_cents) + row.excess_cents


def _entry_difference(rule: str, row: BankEntryRecord) -> Difference:
    amounts_e4 = row.entry.cents * CENT_E4, (abs(row.booked_cents) + row.excess_cents) * CENT_E4
    cause = "the entry is not all booked, and not all left over"
    return amount_difference(rule, f"{row.party_id}/{row.entry.reference}", amounts_e4, row.currency, cause)


def check_invoices(books: Books) -> Check:
    """Each document between companies is its statement's, and no number of any series is missing or there twice."""
    rule = "an invoice is its statement, and no number is missing"
    payables = {row.invoice_number: row for row in books.money.payables if row.invoice_number is not None}
    found = []
    for invoice in books.money.invoices:
        row = payables.pop(invoice.number, None)
        expected = 0 if row is None else abs(row.net_cents + row.vat_cents)
        annex_e4 = 0 if invoice.invoice.annex is None else invoice.invoice.annex.total_e4
        for wanted, actual, cause in (
            (expected * CENT_E4, invoice.gross_cents * CENT_E4, "it is not what its statement comes to"),
            (0 if row is None else row.exact_e4, annex_e4, "its annex does not add up to its statement"),
        ):
            if wanted != actual:
                found.append(amount_difference(rule, invoice.number, (wanted, actual), invoice.currency, cause))
    for number, row in sorted(payables.items()):
        amounts_e4 = (row.net_cents + row.vat_cents) * CENT_E4, 0
        found.append(amount_difference(rule, number, amounts_e4, row.currency, "the document is gone"))
    numbers = [each.number for each in books.money.invoices] + [each.number for each in books.money.retail_invoices]
    found += _gaps(rule, books, numbers)
    return Check(rule=rule, compared=len(numbers), differences=tuple(found))


def _gaps(rule: str, books: Books, numbers: list[str]) -> list[Difference]:
    given = defaultdict[tuple[str, str, int], list[int]](list)
    for number in numbers:
        parts = _NUMBER.fullmatch(number)
        assert parts is not None, f"{number} is no number of ours"
        given[parts["issuer"], parts["series"], int(parts["year"])].append(int(parts["count"]))
    last = {(row.party_id.code, row.series.value, row.year): row.last for row in books.money.counters}
    return [
        Difference(
            rule=rule,
            scope=f"{issuer}-{series}{year}",
            expected=last.get((issuer, series, year), 0),
            found=len(given[issuer, series, year]),
            unit="documents",
            cause="a number is missing, or was given twice",
        )
        for issuer, series, year in sorted(given.keys() | last.keys())
        if sorted(given[issuer, series, year]) != list(range(1, last.get((issuer, series, year), 0) + 1))
    ]


def check_paid_billed_invoiced(books: Books) -> Check:
    """Payments less refunds = bills less credits = invoices, per driver and currency; what is not there yet is named.

    What is unpaid stands on the account, what is not invoiced yet are bills on no document and credits on no note, and
    below a cent is what documents carry: with these the three are equal to the last ten-thousandth.
    """
    rule = "paid = billed = invoiced"
    paid, billed, invoiced = (defaultdict[tuple[str, str, str], int](int) for _ in range(3))
    for order in books.payment_orders:
        if order.state is PaymentState.DONE:
            key = order.party_id.code, order.driver_id, order.currency
            paid[key] += _SIGN.get(order.kind, 0) * order.amount_e4
    for account in books.accounts:
        paid[account.party_id.code, account.driver_id, account.currency] += account.outstanding_e4
    documents = {(row.party_id.code, row.bill_id): row for row in books.money.invoiced_bills}
    for bill in books.bills:
        key = bill.party_id.code, bill.driver_id, bill.currency
        stands_e4 = bill.total_incl_e4 - bill.credited_incl_e4
        billed[key] += stands_e4
        on = documents.get((bill.party_id.code, bill.bill_id))
        if on is None:
            invoiced[key] += stands_e4
        elif on.credit_number is None:
            invoiced[key] -= bill.credited_incl_e4
    for row in books.money.retail_invoices:
        invoiced[row.party_id.code, row.driver_id, row.currency] += row.gross_cents * CENT_E4
    for carried in books.money.invoice_accounts:
        invoiced[carried.party_id.code, carried.driver_id, carried.currency] += carried.residue_e4
    found = [
        amount_difference(rule, "/".join(key), (billed[key], amounts[key]), key[2], cause)
        for key in sorted(billed.keys() | paid.keys() | invoiced.keys())
        for amounts, cause in (
            (paid, "payments less refunds are not bills less credits"),
            (invoiced, "invoices less credit notes are not bills less credits"),
        )
        if billed[key] != amounts[key]
    ]
    return Check(rule=rule, compared=len(billed.keys() | invoiced.keys()), differences=tuple(found))
