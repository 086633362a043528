"""Ad hoc sales: each is captured, given back or open; what was taken is what its receipt says; no CDR bills it too."""

from __future__ import annotations

from collections import defaultdict

from emobility.adapters.payments.test_provider import SandboxPayment
from emobility.domain.ad_hoc import CENT_E4, takings
from services.audit.books import Books, payment_of
from services.audit.report import Check, Difference, amount_difference
from services.charging_operations.ad_hoc_ledger import AdHocEntryRecord
from services.charging_operations.ad_hoc_records import OPEN, AdHocSaleRecord, SaleChannel, SaleState
from services.charging_operations.ad_hoc_sales import price_of


def check_sales(books: Books) -> Check:
    """Compare each sale with what the provider took, and with its price worked out again."""
    rule = "an ad hoc sale is paid to the cent or given back"
    payments = {payment.payment_id: payment for payment in books.ad_hoc_payments}
    differences = []
    for sale in books.ad_hoc_sales:
        payment = payments.get(payment_of(sale))
        scope = f"{sale.party_id}/{sale.session_id or sale.token_subject[:12]}"
        money = [] if sale.channel is SaleChannel.TERMINAL else _money(sale, payment)
        for expected_e4, found_e4, cause in (*money, *_price(sale)):
            if expected_e4 != found_e4:
                differences.append(amount_difference(rule, scope, (expected_e4, found_e4), sale.currency, cause))
    return Check(rule=rule, compared=len(books.ad_hoc_sales), differences=tuple(differences))


def _money(sale: AdHocSaleRecord, payment: SandboxPayment | None) -> list[tuple[int, int, str]]:
    taken_e4 = payment.captured_e4 - payment.refunded_e4 if payment else 0
    held_e4 = payment.held_e4 if payment and payment.is_open else 0
    if sale.state is SaleState.REFUNDING:
        # The answer to a refund may not have been entered yet.
        before_e4 = sale.capture_e4 + sale.refund_e4 - sale.refunded_e4
        after_e4 = before_e4 - sale.refunding_e4
        expected_e4 = taken_e4 if taken_e4 == before_e4 else after_e4
        return [(expected_e4, taken_e4, "the provider took something else than the receipt says, refund included")]
    if sale.state in OPEN:
        # The answer to a capture may not have been entered yet.
        asked_e4 = sale.capture_e4 + sale.refund_e4
        expected_e4 = taken_e4 if sale.state is SaleState.CAPTURING and taken_e4 == asked_e4 else 0
        return [(expected_e4, taken_e4, f"money was taken, and the sale is {sale.state}")]
    expected_e4 = sale.capture_e4 if sale.state is SaleState.CAPTURED else 0
    return [
        (expected_e4, taken_e4, f"the provider took something else than the receipt of a {sale.state} sale says"),
        (0, held_e4, f"the sale is {sale.state}, and the card is still held"),
    ]


def _price(sale: AdHocSaleRecord) -> list[tuple[int, int, str]]:
    if sale.ended_at is None:
        return []
    again = takings(price_of(sale, sale.periods, sale.ended_at).total, held_e4=sale.held_e4)
    return [
        (again.total_incl_e4, sale.total_incl_e4, "the charge re-prices to something else"),
        (again.capture_e4, sale.capture_e4, "something else is due for this price"),
        (again.vat_e4, sale.vat_e4, "something else is the tax in it"),
    ]


def check_ledger(books: Books) -> Check:
    """Every charge without a contract is paid once, one way, and the list of such money says what was paid for it."""
    rule = "the ad hoc ledger has each payment once, for one charge"
    entries: dict[tuple[str, str], list[AdHocEntryRecord]] = defaultdict(list)
    for entry in books.ad_hoc_entries:
        entries[entry.party_id.code, entry.sale_id or ""].append(entry)
    differences = []
    for sale in books.ad_hoc_sales:
        found = entries.pop((sale.party_id.code, sale.sale_id), [])
        scope = f"{sale.party_id}/{sale.session_id or sale.token_subject[:12]}"
        for expected_e4, found_e4, why in _entered(sale, found):
            if expected_e4 != found_e4:
                differences.append(amount_difference(rule, scope, (expected_e4, found_e4), sale.currency, why))
    sold = {(sale.party_id.code, sale.charging_station_id, sale.transaction_id) for sale in books.ad_hoc_sales}
    by_token: dict[tuple[str, str | None, str | None], str] = {
        (row.party_id.code, row.charging_station_id, row.token_subject): row.transaction_id
        for row in books.cpo_transactions
    }
    for (party, sale_id), rest in entries.items():
        for entry in rest:
            named = entry.transaction_id or by_token.get((party, entry.charging_station_id, entry.reference_subject))
            cause: str | None = None
            if sale_id:
                cause = "it is for a sale that is not there"
            elif (party, entry.charging_station_id, named) in sold:
                cause = "the station took money for a charge that was sold another way"
            if cause is not None:
                scope = f"{party}/{entry.session_id or named or entry.entry_id[:40]}"
                differences.append(amount_difference(rule, scope, (0, entry.amount_e4), entry.currency or "???", cause))
    return Check(rule=rule, compared=len(books.ad_hoc_entries), differences=tuple(differences))


def _entered(sale: AdHocSaleRecord, entries: list[AdHocEntryRecord]) -> list[tuple[int, int, str]]:
    net_e4 = sum(entry.signed_e4 for entry in entries)
    if sale.channel is SaleChannel.TERMINAL:
        # Its provider rounds to cents as it likes, and may have taken a part only, which it then says.
        due_e4, is_whole = sale.capture_e4, sale.failure is None
        if sale.state is not SaleState.CAPTURED:
            return [(0, net_e4, f"a {sale.state} sale was paid for at its terminal")]
        paid_e4 = net_e4 - sale.refund_e4 + sale.refunded_e4
        is_right = 0 <= paid_e4 - due_e4 <= CENT_E4 if is_whole else 0 < paid_e4 <= due_e4 + CENT_E4
        return [] if is_right else [(due_e4, paid_e4, "the terminal took something else than the price")]
    expected_e4 = 0
    if sale.state in (SaleState.CAPTURED, SaleState.REFUNDING):
        expected_e4 = sale.capture_e4 + sale.refund_e4 - sale.refunded_e4
    return [(expected_e4, net_e4, f"the ledger says something else than the {sale.state} sale")]


def check_nobody_else_is_billed(books: Books) -> Check:
    """No CDR, at either side, and no leaf of a statement is of a session that was sold ad hoc."""
    rule = "what is sold ad hoc is in no roaming statement"
    sold = {(sale.party_id.code, sale.session_id) for sale in books.ad_hoc_sales if sale.session_id is not None}
    found = [(row.party_id.code, row.session_id, f"CDR {row.cdr_id}") for row in books.cpo_cdrs]
    found += [(row.cpo_id.code, row.cdr.session_id, f"CDR {row.cdr_id} at its eMSP") for row in books.emsp_cdrs]
    found += [(row.cpo_id.code, row.session_id, "a leaf") for row in books.settlement.leaves]
    differences = tuple(
        Difference(
            rule=rule,
            scope=f"{party}/{session_id}",
            expected=0,
            found=1,
            unit="documents",
            cause=f"{what} bills it too",
        )
        for party, session_id, what in found
        if (party, session_id) in sold
    )
    return Check(rule=rule, compared=len(sold), differences=differences)
