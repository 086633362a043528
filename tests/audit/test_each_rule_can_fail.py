"""Sound books, one thing broken at a time: exactly the rules that should notice do, and say where and why."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO
from typing import Any, TypeVar

import pytest
from msgspec import structs
from rich.console import Console

from emobility.domain.identifiers import PartyId
from emobility.domain.money import Price
from emobility.domain.tariff.tariff import Tariff
from emobility.domain.transaction import ReportKind, Transaction, metered_wh, readings_in_order
from emobility.events.cdr import CDRReceived
from emobility.events.charging import CHARGING, station_key
from emobility.events.event import Envelope, LoggedEvent
from emobility.events.fold import TransactionKey
from emobility.ports.event_log import Bounds, DiscardedEvent, ParkedEvent, partition_of
from emobility.protocols.ocpi.deliveries import Delivery, DeliveryState
from emobility.protocols.ocpi.v221 import InterfaceRole, ModuleID
from roaming_hub.records import ForwardOutcome
from services.audit.audit import audit
from services.audit.books import CPO_GROUP, Books
from services.audit.command import print_report
from services.audit.figures import figures_of
from services.audit.report import Difference, Pruned
from services.charging_operations.cdrs import delivery_key
from services.charging_operations.records import QuarantineState, TransactionState
from services.driver_mobility.records import CDRState, PaymentKind, PaymentState, QuoteRecord, QuoteState
from tests.journeys.runs import SEED, SMALL, memory_runs

R = TypeVar("R")

pytestmark = pytest.mark.timeout(600)

CONSERVED = "energy is conserved"
PARTS = "the parts of a quarantine add up"
SAME = "CPO and MSP hold the same CDRs"
ONE_LIVE = "one live CDR per session"
REPRICED = "a CDR re-prices to what it states"
PAIRS = "wholesale is the same on both sides"
VERDICTS = "claimed = accepted + disputed + undecided"
DISPUTES = "a dispute is known on both sides"
HUB = "the hub carried what both sides hold"
REFUSED = "no CDR or dispute was refused for good"
TARIFFS = "a tariff is what its hash names"
QUOTED = "the bill is what was quoted"
STANDS = "a bill stands on an accepted CDR"
ITS_DRIVERS = "a bill is its own driver's"
BILLED_ONCE = "an accepted CDR is billed once"
LEDGER = "the ad hoc ledger has each payment once, for one charge"
INVOICED = "paid = billed = invoiced"
BALANCED = "billed = paid + outstanding"
PROVIDER = "the provider moved what the accounts say"
PAYMENTS = "each payment was entered once"
HOLDS = "a hold ends with its charge"
SALES = "an ad hoc sale is paid to the cent or given back"
SOLD_TWICE = "what is sold ad hoc is in no roaming statement"
BANK = "a payment is what the bank moved"
INVOICES = "an invoice is its statement, and no number is missing"
HANDLED = "every event was handled"
STORED = "acknowledged is stored"
METERED = "metered is what the meters moved"
LEAVES = "an accepted CDR is settled once"
CREDITS = "a credit takes back its original once"
NETS = "the nets of a batch add up to zero"


@pytest.fixture
def books() -> Books:
    """Sound books of the test's own, from a small run in memory; each row is immutable, each list is the test's."""
    (run,) = memory_runs(SEED, SMALL)
    return copy.deepcopy(run.books)


@pytest.fixture
def truth() -> dict[str, Any]:
    """What the stations know of the same run."""
    (run,) = memory_runs(SEED, SMALL)
    return run.report.truth.as_json()


def found_in(books: Books, truth: dict[str, Any] | None = None) -> dict[str, Difference]:
    """Return the differences of an audit by rule; the last of each rule where there are more."""
    return {each.rule: each for each in audit(books, truth).differences}


def place(rows: Sequence[R], fits: Callable[[R], bool]) -> int:
    """Return where the first row that fits stands."""
    return next(number for number, row in enumerate(rows) if fits(row))


def plain_cdr(books: Books) -> int:
    """Return where a CDR stands that nobody disputed or credited."""
    return place(books.cpo_cdrs, lambda row: not row.is_credit and row.credited_by is None and "-R" not in row.cdr_id)


def at_msp(books: Books, cdr_id: str) -> int:
    return place(books.emsp_cdrs, lambda row: row.cdr_id == cdr_id)


def dearer(price: Price, by_e4: int = 1) -> Price:
    return replace(price, excl_e4=price.excl_e4 + by_e4)


def delivery(books: Books, number: int, *, state: DeliveryState, reason: str | None = None) -> Delivery:
    """Return the delivery of a CDR as if it were still in the queue."""
    row = books.cpo_cdrs[number]
    return Delivery(
        own_party=row.party_id,
        delivery_id="d-1",
        to_party=row.emsp_id,
        object_key=delivery_key(row.session_id),
        position=1,
        revision=0,
        is_replaceable=False,
        is_routed=True,
        method="POST",
        module=ModuleID.CDRS,
        interface_role=InterfaceRole.RECEIVER,
        message=row.cdr.token.uid,
        correlation_id="c-1",
        state=state,
        attempts=3,
        reason=reason,
        entered_at=row.last_updated,
    )


def test_sound_books_show_no_difference_and_every_rule_looked_at_something(books: Books, truth: dict[str, Any]) -> None:
    (run,) = memory_runs(SEED, SMALL)

    report = audit(books, truth, sight=run.sight)

    assert report.is_clean
    assert report.is_complete
    assert {each.rule for each in report.checks if each.compared == 0} == {
        REFUSED,
        CREDITS,
        SALES,
        SOLD_TWICE,
        BANK,
        INVOICES,
        LEDGER,
    }
    assert len({each.rule for each in report.checks}) == len(report.checks) == 45


# Energy


def test_a_wh_more_in_a_cdr_breaks_conservation_there(books: Books) -> None:
    number = plain_cdr(books)
    row = books.cpo_cdrs[number]
    books.cpo_cdrs[number] = replace(row, energy_import_wh=row.energy_import_wh + 1)

    found = found_in(books)

    assert set(found) == {CONSERVED}
    assert found[CONSERVED].found - found[CONSERVED].expected == 1
    assert found[CONSERVED].unit == "Wh"
    (transaction,) = [each for each in books.cpo_transactions if each.session_id == row.session_id]
    scope = f"{row.party_id}/{transaction.charging_station_id}/{transaction.transaction_id}"
    assert found[CONSERVED].scope == scope
    assert "cdr_wh" in found[CONSERVED].cause


def test_a_wh_given_back_to_the_grid_is_conserved_too(books: Books) -> None:
    number = plain_cdr(books)
    books.cpo_cdrs[number] = replace(books.cpo_cdrs[number], energy_export_wh=7)

    found = found_in(books)

    assert set(found) == {CONSERVED}
    assert (found[CONSERVED].expected, found[CONSERVED].found) == (0, 7)
    assert found[CONSERVED].scope.endswith(" export")


def test_a_transaction_that_the_log_knows_and_the_rows_do_not_is_found(books: Books) -> None:
    gone = books.cpo_transactions.pop(0)

    found = found_in(books)

    assert set(found) == {CONSERVED}
    assert (found[CONSERVED].expected, found[CONSERVED].found) == (gone.metered_import_wh, 0)


def test_a_transaction_left_open_beside_its_cdr_is_told_by_the_wh_it_still_holds(books: Books) -> None:
    number = place(books.cpo_transactions, lambda row: row.state is TransactionState.BILLED)
    row = books.cpo_transactions[number]
    books.cpo_transactions[number] = replace(
        row, state=TransactionState.OPEN, metered_import_wh=row.metered_import_wh - 2
    )

    found = found_in(books)

    assert set(found) == {CONSERVED}
    assert found[CONSERVED].expected - found[CONSERVED].found == 2


def test_a_cdr_that_both_sides_hold_and_no_transaction_stands_behind_is_found(books: Books) -> None:
    row = books.cpo_cdrs[plain_cdr(books)]
    received = books.emsp_cdrs[at_msp(books, row.cdr_id)]
    forward = next(each for each in books.hub_forwards if each.cdr_id == row.cdr_id)
    ghost: dict[str, Any] = {"cdr_id": "GHOST", "session_id": "GHOST"}
    cdr = replace(row.cdr, **ghost)
    books.cpo_cdrs.append(replace(row, cdr=cdr, **ghost))
    books.emsp_cdrs.append(replace(received, cdr=cdr, state=CDRState.RECEIVED, **ghost))
    books.hub_forwards.append(replace(forward, cdr_id="GHOST"))

    found = found_in(books)

    assert set(found) == {CONSERVED}
    assert (found[CONSERVED].expected, found[CONSERVED].found) == (0, row.energy_import_wh)
    assert found[CONSERVED].scope == f"{row.party_id}/GHOST"
    assert found[CONSERVED].cause == "no transaction has session GHOST of this document"


def test_quarantined_energy_that_is_dropped_is_missed(books: Books) -> None:
    number = place(books.quarantine, lambda row: row.state is QuarantineState.OPEN)
    dropped = books.quarantine.pop(number)

    found = found_in(books)

    assert set(found) == {CONSERVED}
    assert found[CONSERVED].expected - found[CONSERVED].found == dropped.energy_import_wh


def test_a_decision_whose_parts_do_not_add_up_is_found(books: Books) -> None:
    number = place(books.quarantine, lambda row: row.state is QuarantineState.BILLED)
    row = books.quarantine[number]
    books.quarantine[number] = replace(row, billed_import_wh=row.billed_import_wh - 1)

    found = found_in(books)

    assert set(found) == {PARTS}
    assert (found[PARTS].expected, found[PARTS].found) == (row.energy_import_wh, row.energy_import_wh - 1)
    assert found[PARTS].scope == f"{row.party_id}/{row.quarantine_id}"


def test_a_decision_about_export_adds_up_on_its_own(books: Books) -> None:
    number = place(books.quarantine, lambda row: row.state is QuarantineState.BILLED)
    books.quarantine[number] = replace(books.quarantine[number], billed_export_wh=3)

    assert set(found_in(books)) == {PARTS}


# Documents and verdicts


def test_a_cdr_that_never_reached_the_msp_is_missed_on_every_side(books: Books) -> None:
    row = books.cpo_cdrs[plain_cdr(books)]
    del books.emsp_cdrs[at_msp(books, row.cdr_id)]

    found = found_in(books)

    assert {SAME, PAIRS, VERDICTS, HUB, LEAVES} <= set(found) <= {SAME, PAIRS, VERDICTS, HUB, LEAVES, QUOTED}
    assert found[SAME].scope == f"{row.party_id}/{row.cdr_id}"
    assert found[SAME].cause == "the MSP does not have it"
    assert found[HUB].cause == "the hub delivered it and the MSP does not have it"
    assert found[VERDICTS].expected == row.cdr.total_cost.excl_e4
    assert found[VERDICTS].found == 0


@pytest.mark.parametrize(
    ("state", "reason", "cause"),
    [
        (DeliveryState.PENDING, None, "the MSP does not have it; delivery d-1 waits to be sent after 3 attempts"),
        (
            DeliveryState.FAILED,
            "HTTP 500",
            "the MSP does not have it; delivery d-1 was refused after 3 attempts, last: HTTP 500",
        ),
    ],
)
def test_a_cdr_on_its_way_is_told_with_its_delivery(
    books: Books, state: DeliveryState, reason: str | None, cause: str
) -> None:
    number = plain_cdr(books)
    row = books.cpo_cdrs[number]
    del books.emsp_cdrs[at_msp(books, row.cdr_id)]
    books.hub_forwards = [each for each in books.hub_forwards if each.cdr_id != row.cdr_id]
    books.deliveries = [delivery(books, number, state=state, reason=reason)]

    found = found_in(books)

    assert found[SAME].cause == cause
    assert found[HUB].cause.startswith("it did not pass the hub; delivery d-1 ")
    assert "; delivery d-1 " in found[VERDICTS].cause
    assert (REFUSED in found) is (state is DeliveryState.FAILED)


def test_a_cdr_that_the_msp_refused_for_good_is_a_difference_of_its_own(books: Books) -> None:
    books.deliveries = [delivery(books, plain_cdr(books), state=DeliveryState.FAILED, reason="2001")]

    found = found_in(books)

    assert set(found) == {REFUSED}
    assert found[REFUSED].cause == "delivery d-1 failed after 3 attempts: 2001"


def test_a_cdr_that_only_the_msp_has_is_found(books: Books) -> None:
    number = plain_cdr(books)
    row = books.cpo_cdrs[number]
    forged = replace(books.emsp_cdrs[at_msp(books, row.cdr_id)], cdr_id="forged", state=CDRState.DISPUTED)
    books.emsp_cdrs.append(forged)

    found = found_in(books)

    assert set(found) == {SAME, PAIRS, VERDICTS, HUB, DISPUTES}
    assert found[SAME].cause == "the MSP has a document that the CPO never issued"
    assert found[HUB].cause == "it did not pass the hub"
    assert found[DISPUTES].cause == "a disputed CDR has no dispute with its reasons"


def test_one_ten_thousandth_more_at_the_msp_is_found(books: Books) -> None:
    row = books.cpo_cdrs[plain_cdr(books)]
    number = at_msp(books, row.cdr_id)
    received = books.emsp_cdrs[number]
    books.emsp_cdrs[number] = replace(received, cdr=replace(received.cdr, total_cost=dearer(received.cdr.total_cost)))

    found = found_in(books)

    assert set(found) == {SAME, PAIRS, VERDICTS, LEAVES, NETS}
    assert found[PAIRS].found - found[PAIRS].expected == 1
    assert found[PAIRS].scope == f"{row.party_id}/{row.emsp_id}/EUR"
    assert found[VERDICTS].found - found[VERDICTS].expected == 1
    assert found[VERDICTS].scope == f"{row.party_id}/{row.emsp_id}/{row.session_id}"


def test_a_second_live_cdr_of_a_session_is_found(books: Books) -> None:
    row = books.cpo_cdrs[plain_cdr(books)]
    second = replace(row, cdr_id=f"{row.cdr_id}-X", cdr=replace(row.cdr, cdr_id=f"{row.cdr_id}-X"))
    books.cpo_cdrs.append(second)

    found = found_in(books)

    assert set(found) == {CONSERVED, SAME, ONE_LIVE, PAIRS, VERDICTS, HUB}
    assert (found[ONE_LIVE].expected, found[ONE_LIVE].found) == (1, 2)
    assert found[ONE_LIVE].scope == f"{row.party_id}/{row.session_id}"


def test_a_credit_that_is_not_minus_its_original_is_found(books: Books) -> None:
    number = place(books.cpo_cdrs, lambda row: row.is_credit)
    row = books.cpo_cdrs[number]
    books.cpo_cdrs[number] = replace(row, cdr=replace(row.cdr, total_cost=dearer(row.cdr.total_cost)))

    found = found_in(books)

    assert set(found) == {SAME, ONE_LIVE, PAIRS, VERDICTS}
    assert found[ONE_LIVE].found - found[ONE_LIVE].expected == 1
    assert found[ONE_LIVE].cause == "a credit does not equal minus its original"


def test_a_credit_of_nothing_is_found(books: Books) -> None:
    number = place(books.cpo_cdrs, lambda row: row.is_credit)
    row = books.cpo_cdrs[number]
    books.cpo_cdrs[number] = replace(row, cdr=replace(row.cdr, credit_reference_id="nothing"))

    assert ONE_LIVE in found_in(books)


def test_a_tariff_that_changed_under_a_cdr_is_found_by_pricing_it_again(books: Books) -> None:
    number = plain_cdr(books)
    row = books.cpo_cdrs[number]
    elements = tuple(
        replace(
            element,
            components=tuple(replace(component, price=component.price * 2) for component in element.components),
        )
        for element in row.cdr.tariff.elements
    )
    books.cpo_cdrs[number] = replace(row, cdr=replace(row.cdr, tariff=replace(row.cdr.tariff, elements=elements)))

    found = found_in(books)

    assert set(found) == {REPRICED, TARIFFS}
    assert found[REPRICED].scope == found[TARIFFS].scope == f"{row.party_id}/{row.cdr_id}"
    assert found[REPRICED].found == row.cdr.total_cost.excl_e4
    assert row.cdr.tariff_hash[:12] in found[REPRICED].cause


def cheaper(tariff: Tariff) -> Tariff:
    """The same version of a tariff with a maximum price that nobody published."""
    return replace(tariff, price_max=Price(excl_e4=1, incl_e4=None))


def test_a_tariff_version_changed_under_its_hash_at_the_cpo_is_found(books: Books) -> None:
    row = books.cpo_tariffs[0]
    books.cpo_tariffs[0] = replace(row, tariff=cheaper(row.tariff))

    found = found_in(books)

    assert set(found) == {TARIFFS}
    assert found[TARIFFS].scope == f"{row.party_id}/{row.tariff_id}@{row.in_force_from.isoformat()}"
    assert found[TARIFFS].cause.endswith(f"not to {row.tariff_hash[:12]}")


def test_a_tariff_version_changed_under_its_hash_at_the_msp_is_found(books: Books) -> None:
    row = books.emsp_tariffs[0]
    books.emsp_tariffs[0] = replace(row, tariff=cheaper(row.tariff))

    found = found_in(books)

    assert set(found) == {TARIFFS}
    assert found[TARIFFS].scope == f"{row.party_id}/{row.cpo_id}/{row.tariff_id}@{row.in_force_from.isoformat()}"


def test_the_newest_version_and_the_one_frozen_into_a_session_are_hashed_too(books: Books) -> None:
    newest, session = books.cpo_newest_tariffs[0], books.cpo_sessions[0]
    books.cpo_newest_tariffs[0] = replace(newest, tariff=cheaper(newest.tariff))
    books.cpo_sessions[0] = replace(session, tariff=cheaper(session.tariff))

    scopes = {each.scope for each in audit(books).differences}

    assert scopes == {f"{newest.party_id}/{newest.tariff_id} newest", f"{session.party_id}/{session.session_id}"}


def test_an_accepted_cdr_whose_frozen_tariff_was_changed_at_the_msp_is_found(books: Books) -> None:
    number = place(books.emsp_cdrs, lambda row: row.state is CDRState.ACCEPTED)
    row = books.emsp_cdrs[number]
    books.emsp_cdrs[number] = replace(row, cdr=replace(row.cdr, tariff=cheaper(row.cdr.tariff)))

    found = found_in(books)

    assert set(found) == {TARIFFS}
    assert found[TARIFFS].scope == f"{row.party_id}/{row.cpo_id}/{row.cdr_id}"


def test_a_dispute_that_the_cpo_was_not_told_of_is_found(books: Books) -> None:
    told = books.cpo_disputes.pop()

    found = found_in(books)

    assert set(found) == {DISPUTES}
    assert (found[DISPUTES].expected, found[DISPUTES].found) == (1, 0)
    assert found[DISPUTES].scope == f"{told.party_id}/{told.emsp_id}/{told.cdr_id}"


def test_a_dispute_on_its_way_is_no_difference(books: Books) -> None:
    told = books.cpo_disputes.pop()
    waiting = delivery(books, 0, state=DeliveryState.PENDING)
    books.deliveries = [
        replace(
            waiting,
            own_party=told.emsp_id,
            to_party=told.party_id,
            object_key=f"dispute/{told.cdr_id}",
            module=ModuleID.DISPUTES,
        )
    ]

    assert found_in(books) == {}


def test_a_dispute_that_only_the_cpo_knows_is_found(books: Books) -> None:
    books.emsp_disputes.clear()

    found = found_in(books)

    assert set(found) == {DISPUTES}
    assert (found[DISPUTES].expected, found[DISPUTES].found) == (0, 1)


# The hub


def test_bytes_that_changed_between_hub_and_msp_are_found(books: Books) -> None:
    forward = books.hub_forwards[0]
    books.hub_forwards[0] = replace(forward, body_sha256="0" * 64)

    found = found_in(books)

    assert set(found) == {HUB}
    assert found[HUB].cause == "the MSP holds other bytes than the hub carried"
    assert found[HUB].scope == f"{forward.from_party}/{forward.to_party}/{forward.cdr_id}"


def test_two_contents_delivered_under_one_id_are_found(books: Books) -> None:
    books.hub_forwards.append(replace(books.hub_forwards[0], body_sha256="0" * 64))

    found = found_in(books)

    assert set(found) == {HUB}
    assert (found[HUB].found, found[HUB].cause) == (2, "different bytes were delivered under one id")


def test_what_the_hub_did_not_deliver_counts_as_not_carried(books: Books) -> None:
    books.hub_forwards[0] = replace(books.hub_forwards[0], outcome=ForwardOutcome.UNDELIVERED)

    found = found_in(books)

    assert set(found) == {HUB}
    assert found[HUB].cause == "it did not pass the hub"


def test_a_hub_elsewhere_is_audited_there(books: Books) -> None:
    books.has_hub, books.hub_forwards = False, []

    assert found_in(books) == {}


# Retail


def test_a_bill_changed_by_one_ten_thousandth_is_found(books: Books) -> None:
    bill = books.bills[0]
    books.bills[0] = replace(bill, total_incl_e4=bill.total_incl_e4 + 1)

    found = found_in(books)

    assert set(found) == {QUOTED, BALANCED, INVOICED}
    assert found[QUOTED].found - found[QUOTED].expected == 1
    assert found[QUOTED].scope == bill.bill_id
    assert found[BALANCED].scope == f"{bill.party_id}/{bill.driver_id}/EUR"


def test_a_bill_without_its_quote_is_found(books: Books) -> None:
    bill = books.bills[0]
    del books.quotes[bill.party_id.code, bill.quote_id]

    found = found_in(books)

    assert set(found) == {QUOTED}
    assert found[QUOTED].cause == "its quote or its CDR is missing"


def test_an_accepted_cdr_that_nobody_was_billed_for_is_found(books: Books) -> None:
    bill = books.bills.pop(0)

    found = found_in(books)

    assert set(found) == {BILLED_ONCE, BALANCED, INVOICED}
    assert (found[BILLED_ONCE].expected, found[BILLED_ONCE].found) == (1, 0)
    assert found[BILLED_ONCE].scope == f"{bill.party_id}/{bill.cpo_id}/{bill.cdr_id}"
    assert found[BILLED_ONCE].cause == f"driver {bill.driver_id} was never billed under quote {bill.quote_id}"


def unbilled(books: Books) -> int:
    """Take the bill of an accepted CDR away, and its quote from the CDR; return where the CDR stands."""
    number = place(books.emsp_cdrs, lambda row: row.state is CDRState.ACCEPTED and not row.cdr.is_credit)
    row = books.emsp_cdrs[number]
    books.bills = [bill for bill in books.bills if (bill.party_id, bill.cdr_id) != (row.party_id, row.cdr_id)]
    books.emsp_cdrs[number] = replace(row, quote_id=None)
    return number


def test_an_accepted_cdr_with_neither_quote_nor_bill_is_found(books: Books) -> None:
    row = books.emsp_cdrs[unbilled(books)]
    driver_id = books.tokens[row.party_id.code, row.token_subject].driver_id

    found = found_in(books)

    assert set(found) == {BILLED_ONCE, BALANCED, INVOICED}
    assert found[BILLED_ONCE].cause == f"it is tied to no quote, though driver {driver_id} has its token"


def test_a_cdr_that_was_accepted_for_nobody_is_found(books: Books) -> None:
    number = unbilled(books)
    books.emsp_cdrs[number] = replace(books.emsp_cdrs[number], token_subject="nobody's")

    found = found_in(books)

    assert set(found) == {BILLED_ONCE, BALANCED, INVOICED}
    assert found[BILLED_ONCE].cause == "its token is nobody's here: it was accepted without a driver to bill"


@pytest.mark.parametrize("state", [CDRState.RECEIVED, CDRState.DISPUTED])
def test_a_bill_for_a_cdr_that_is_not_accepted_is_found(books: Books, state: CDRState) -> None:
    bill = books.bills[0]
    number = at_msp(books, bill.cdr_id)
    books.emsp_cdrs[number] = replace(books.emsp_cdrs[number], state=state)

    found = found_in(books)

    assert STANDS in found
    assert (found[STANDS].scope, found[STANDS].expected) == (bill.bill_id, 0)
    assert found[STANDS].found == bill.total_incl_e4
    assert found[STANDS].cause == f"CDR {bill.cdr_id} is {state}, and only an accepted one is billed"


def test_a_bill_for_a_credit_is_found(books: Books) -> None:
    credit = next(row for row in books.emsp_cdrs if row.cdr.is_credit)
    books.bills.append(replace(books.bills[0], bill_id="B", party_id=credit.party_id, cdr_id=credit.cdr_id))

    found = found_in(books)

    assert found[STANDS].cause == f"CDR {credit.cdr_id} is a credit; nobody is billed for one"


def test_a_bill_that_was_not_taken_back_with_its_credited_cdr_is_found(books: Books) -> None:
    bill = books.bills[0]
    number = at_msp(books, bill.cdr_id)
    books.emsp_cdrs[number] = replace(books.emsp_cdrs[number], state=CDRState.CREDITED, credited_by="C")

    found = found_in(books)

    assert STANDS in found
    assert (found[STANDS].expected, found[STANDS].found) == (0, bill.total_incl_e4)
    assert found[STANDS].cause == f"CDR {bill.cdr_id} was credited by C, and its bill was not taken back"


def test_a_bill_that_was_taken_back_though_its_cdr_stands_is_found(books: Books) -> None:
    bill = books.bills[0]
    books.bills[0] = replace(bill, credited_incl_e4=bill.total_incl_e4)

    found = found_in(books)

    assert set(found) == {STANDS, BALANCED, INVOICED}
    assert (found[STANDS].expected, found[STANDS].found) == (bill.total_incl_e4, 0)


def test_a_bill_on_another_driver_than_its_quotes_is_found(books: Books) -> None:
    bill = books.bills[0]
    books.bills[0] = replace(bill, driver_id="another")

    found = found_in(books)
    causes = [each.cause for each in audit(books).differences if each.rule == ITS_DRIVERS]

    assert set(found) == {ITS_DRIVERS, BALANCED, INVOICED}
    assert found[ITS_DRIVERS].scope == bill.bill_id
    assert causes == [
        f"quote {bill.quote_id} was given to driver {bill.driver_id}",
        f"CDR {bill.cdr_id} names a token of driver {bill.driver_id}",
    ]


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"cpo_id": PartyId("XX-YYY")}, "was made for XX-YYY"),
        ({"session_id": "S"}, "belongs to session S"),
        ({"driver_id": "D"}, "was given to driver D"),
    ],
)
def test_a_quote_of_another_charge_under_a_bill_is_found(books: Books, change: dict[str, Any], cause: str) -> None:
    bill = books.bills[0]
    key = (bill.party_id.code, bill.quote_id)
    books.quotes[key] = replace(books.quotes[key], **change)

    causes = [each.cause for each in audit(books).differences if each.rule == ITS_DRIVERS]

    assert f"quote {bill.quote_id} {cause}" in causes


def test_a_bill_under_another_quote_than_its_cdrs_is_found(books: Books) -> None:
    bill = books.bills[0]
    number = at_msp(books, bill.cdr_id)
    books.emsp_cdrs[number] = replace(books.emsp_cdrs[number], quote_id="Q", session_id="S")

    causes = [each.cause for each in audit(books).differences if each.rule == ITS_DRIVERS]

    assert causes == [f"CDR {bill.cdr_id} is billed under quote Q", f"CDR {bill.cdr_id} is of session S"]


def test_a_bill_for_a_charge_on_another_contract_is_found(books: Books) -> None:
    bill = books.bills[0]
    row = books.emsp_cdrs[at_msp(books, bill.cdr_id)]
    key = (row.party_id.code, row.token_subject)
    books.tokens[key] = replace(books.tokens[key], driver_id="another")

    differences = audit(books).differences

    assert {each.rule for each in differences} == {ITS_DRIVERS}
    assert f"CDR {row.cdr_id} names a token of driver another" in {each.cause for each in differences}


def test_the_bill_of_an_erased_driver_is_no_difference_unless_its_quote_names_another(books: Books) -> None:
    bill, other = books.bills[0], next(each for each in books.bills if each.driver_id != books.bills[0].driver_id)
    books.erased_drivers = {(bill.party_id.code, bill.driver_id)}
    books.tokens = {
        key: token for key, token in books.tokens.items() if (key[0], token.driver_id) not in books.erased_drivers
    }

    assert ITS_DRIVERS not in found_in(books)
    number = books.bills.index(bill)
    books.bills[number] = replace(bill, quote_id=other.quote_id)
    assert ITS_DRIVERS in found_in(books)


def test_a_cdr_billed_twice_is_found(books: Books) -> None:
    books.bills.append(replace(books.bills[0], bill_id="again"))

    found = found_in(books)

    assert set(found) == {BILLED_ONCE, BALANCED, INVOICED}
    assert found[BILLED_ONCE].found == 2


def test_a_credit_that_is_on_no_bill_is_found(books: Books) -> None:
    account = books.accounts[0]
    books.accounts[0] = replace(account, credited_e4=account.credited_e4 + 5, carry_e4=account.carry_e4 - 5)

    found = found_in(books)

    assert set(found) == {BALANCED, INVOICED}
    assert found[BALANCED].cause == "the credits do not add up to the account"


def test_an_account_that_is_missing_is_found_by_its_bills(books: Books) -> None:
    number = place(books.accounts, lambda row: row.billed_e4 > row.credited_e4)
    gone = books.accounts.pop(number)

    found = found_in(books)

    assert found[BALANCED].scope == f"{gone.party_id}/{gone.driver_id}/{gone.currency}"
    assert (found[BALANCED].expected, found[BALANCED].found) == (gone.billed_e4 - gone.credited_e4, 0)
    assert found[BALANCED].cause == "the driver has bills and no account"


def test_what_is_outstanding_is_told_as_the_accounts_have_it_and_not_as_the_rest(books: Books) -> None:
    (before, *_) = figures_of(books).retail
    number = place(books.accounts, lambda row: (row.party_id.code, row.currency) == (before.emsp, before.currency))
    books.accounts[number] = replace(books.accounts[number], due_e4=books.accounts[number].due_e4 + 3)

    (after, *_) = figures_of(books).retail

    assert before.billed_e4 == before.paid_e4 + before.outstanding_e4
    assert after.paid_e4 + after.outstanding_e4 - after.billed_e4 == 3


def test_an_account_out_of_balance_is_found(books: Books) -> None:
    books.accounts[0] = replace(books.accounts[0], carry_e4=books.accounts[0].carry_e4 + 1)

    found = found_in(books)

    assert set(found) == {BALANCED}
    assert found[BALANCED].cause == "due and carried do not add up"


def test_a_payment_entered_twice_in_an_account_is_found(books: Books) -> None:
    number = place(books.accounts, lambda row: row.paid_e4 > 0)
    account = books.accounts[number]
    books.accounts[number] = replace(account, paid_e4=2 * account.paid_e4, carry_e4=account.carry_e4 - account.paid_e4)

    found = found_in(books)

    assert set(found) == {PROVIDER, PAYMENTS, INVOICED}
    assert found[PROVIDER].found - found[PROVIDER].expected == account.paid_e4
    assert found[PAYMENTS].scope == f"{account.party_id}/{account.driver_id}/EUR"


def test_money_taken_twice_by_the_provider_is_found(books: Books) -> None:
    number = place(books.provider_payments, lambda row: row.captured_e4 > 0)
    payment = books.provider_payments[number]
    books.provider_payments[number] = replace(payment, captured_e4=2 * payment.captured_e4)

    found = found_in(books)

    assert set(found) == {PROVIDER, PAYMENTS}
    assert found[PAYMENTS].scope == payment.payment_id


def test_two_errors_that_cancel_each_other_in_the_sum_are_still_found(books: Books) -> None:
    one, other = [number for number, row in enumerate(books.provider_payments) if row.captured_e4 > 100][:2]
    for number, by_e4 in ((one, 100), (other, -100)):
        payment = books.provider_payments[number]
        books.provider_payments[number] = replace(payment, captured_e4=payment.captured_e4 + by_e4)

    assert set(found_in(books)) == {PAYMENTS}


def test_a_refund_that_nobody_ordered_is_found(books: Books) -> None:
    number = place(books.provider_payments, lambda row: row.captured_e4 > 0)
    books.provider_payments[number] = replace(books.provider_payments[number], refunded_e4=100)

    assert set(found_in(books)) == {PROVIDER, PAYMENTS}


def test_an_order_entered_twice_is_found(books: Books) -> None:
    number = place(
        books.payment_orders,
        lambda row: row.state is PaymentState.DONE and row.kind in {PaymentKind.CHARGE, PaymentKind.CAPTURE},
    )
    books.payment_orders.append(replace(books.payment_orders[number], order_id="again"))

    assert set(found_in(books)) == {PAYMENTS, INVOICED}


def reopened(books: Books) -> QuoteRecord:
    """Open the hold of a billed charge again; return its quote."""
    captured = next(
        order
        for order in books.payment_orders
        if order.kind is PaymentKind.CAPTURE and order.state is PaymentState.DONE
    )
    number = place(books.provider_payments, lambda row: row.payment_id == captured.payment_id)
    books.provider_payments[number] = replace(books.provider_payments[number], is_open=True, held_e4=700)
    return books.quotes[captured.party_id.code, captured.quote_id]


def test_a_hold_left_open_after_its_charge_was_billed_is_found(books: Books) -> None:
    quote = reopened(books)

    found = found_in(books)

    assert set(found) == {HOLDS}
    assert (found[HOLDS].expected, found[HOLDS].found, found[HOLDS].unit) == (0, 700, "e4 EUR")
    assert f"quote {quote.quote_id} of driver {quote.driver_id} is BILLED, and order " in found[HOLDS].cause


@pytest.mark.parametrize("state", [QuoteState.REFUSED, QuoteState.EXPIRED])
def test_a_hold_left_open_for_a_charge_that_never_began_is_found(books: Books, state: QuoteState) -> None:
    quote = reopened(books)
    payment_id = next(row.payment_id for row in books.provider_payments if row.is_open)
    books.quotes[quote.party_id.code, quote.quote_id] = replace(quote, state=state, payment_id=payment_id)
    books.payment_orders = [order for order in books.payment_orders if order.quote_id != quote.quote_id]

    found = found_in(books)

    assert found[HOLDS].scope == payment_id
    assert found[HOLDS].cause.endswith(f"is {state}, and no order gives it up")


@pytest.mark.parametrize("state", [QuoteState.HOLDING, QuoteState.AUTHORIZED, QuoteState.RUNNING])
def test_the_hold_of_a_charge_that_runs_or_may_begin_is_no_difference(books: Books, state: QuoteState) -> None:
    quote = reopened(books)
    books.quotes[quote.party_id.code, quote.quote_id] = replace(quote, state=state)

    assert HOLDS not in found_in(books)


def test_a_hold_whose_order_is_on_its_way_is_no_difference_and_one_that_nobody_knows_is(books: Books) -> None:
    reopened(books)
    payment_id = next(row.payment_id for row in books.provider_payments if row.is_open)
    number = place(books.payment_orders, lambda order: order.payment_id == payment_id)
    books.payment_orders[number] = replace(books.payment_orders[number], state=PaymentState.PENDING)
    stray = replace(books.provider_payments[0], payment_id="stray", is_open=True, held_e4=1, captured_e4=0)
    books.provider_payments.append(stray)

    differences = [each for each in audit(books).differences if each.rule == HOLDS]

    assert [(each.scope, each.cause) for each in differences] == [("stray", "no quote and no order knows of it")]


# The log and the stations


def test_a_parked_event_is_a_difference_with_its_reason(books: Books) -> None:
    books.parked.append(_parked("MeterRanBackwards: 5 after 7"))

    found = found_in(books)

    assert set(found) == {HANDLED}
    assert found[HANDLED].scope == "charging_operations charging/3@17"
    assert found[HANDLED].cause == "MeterRanBackwards: 5 after 7"


def discard(books: Books, *, who: str = "ann", why: str = "a test", group: str = CPO_GROUP) -> None:
    parked = replace(_parked("no station can send this"), group=group)
    books.discarded.append(DiscardedEvent(parked=parked, who=who, why=why, discarded_at=parked.parked_at))


def test_an_event_that_was_discarded_with_a_reason_counts_as_handled_and_is_told(books: Books) -> None:
    discard(books)

    report = audit(books)

    assert report.is_clean
    assert report.as_json()["discarded"] == [
        {
            "group": "charging_operations",
            "topic": "charging",
            "partition": 3,
            "offset": 17,
            "event": CDRReceived.wire_name,
            "reason": "no station can send this",
            "who": "ann",
            "why": "a test",
            "discarded_at": "2022-03-27T00:00:00+00:00",
        }
    ]


@pytest.mark.parametrize(("who", "why"), [("", "a test"), ("ann", " ")])
def test_an_event_that_was_discarded_without_who_or_why_is_found(books: Books, who: str, why: str) -> None:
    discard(books, who=who, why=why)

    found = found_in(books)

    assert set(found) == {HANDLED}
    assert found[HANDLED].scope == "charging_operations charging/3@17"
    assert found[HANDLED].cause == "it was discarded, and nobody said who or why"


def test_energy_that_was_discarded_with_its_event_is_a_part_of_what_was_metered(books: Books) -> None:
    """The log holds a last reading of 40 Wh more; the CPO discarded the event that carried it."""
    key = next(key for key, each in books.logged_transactions.items() if metered_wh(each).import_wh)
    whole = books.logged_transactions[key]
    last = max(readings_in_order(whole), key=lambda each: each.import_wh or 0)
    assert last.import_wh is not None
    more = replace(
        whole.reports[-1], readings=(structs.replace(last, import_wh=last.import_wh + 40),), occurred_at=whole.last_at
    )
    books.logged_transactions[key] = replace(whole, reports=(*whole.reports, more))

    lost = found_in(books)
    books.without_discarded[key] = whole

    assert set(lost) == {CONSERVED}
    assert lost[CONSERVED].expected - lost[CONSERVED].found == 40
    assert found_in(books) == {}


# A log that forgets


def prune(books: Books, key: TransactionKey, kept: Callable[[Transaction], Transaction | None]) -> None:
    """Let a transaction's partition begin later, with what `kept` leaves of it."""
    place = (CHARGING, partition_of(station_key(key[0], key[1])))
    books.log_bounds = {**books.log_bounds, place: Bounds(first=5, end=1_000)}
    left = kept(books.logged_transactions.pop(key))
    if left is not None:
        books.logged_transactions[key] = left


def a_transaction(books: Books, truth: dict[str, Any]) -> TransactionKey:
    """One that ended, of which the stations know that it was acknowledged."""
    ended = {
        (each["party_id"], each["charging_station_id"], str(each["transaction_id"]))
        for each in truth["transactions"]
        if each["is_end_acknowledged"]
    }
    return next(key for key in books.logged_transactions if (key[0].code, key[1], key[2]) in ended)


@pytest.mark.parametrize(
    "kept",
    [
        pytest.param(lambda _whole: None, id="nothing"),
        pytest.param(lambda whole: replace(whole, reports=whole.reports[-1:]), id="only its end"),
    ],
)
def test_what_was_pruned_is_neither_a_difference_nor_passed_over_in_silence(
    books: Books, truth: dict[str, Any], kept: Callable[[Transaction], Transaction | None]
) -> None:
    key = a_transaction(books, truth)
    prune(books, key, kept)

    report = audit(books, truth)

    assert report.differences == ()
    assert not report.is_complete
    assert report.pruned == (Pruned(topic=CHARGING, partition=partition_of(station_key(key[0], key[1])), events=5),)
    unknown = {check.rule: check.unknown for check in report.checks if check.unknown}
    assert unknown[CONSERVED] == unknown[METERED] == 1
    assert unknown[STORED] >= 1
    assert set(unknown) == {CONSERVED, METERED, STORED}


def test_a_difference_in_what_a_pruned_log_still_holds_is_found(books: Books, truth: dict[str, Any]) -> None:
    key = a_transaction(books, truth)
    prune(books, key, lambda whole: whole)
    number = place(books.cpo_transactions, lambda row: (row.charging_station_id, row.transaction_id) == key[1:])
    session_id = books.cpo_transactions[number].session_id
    cdr = place(books.cpo_cdrs, lambda row: row.session_id == session_id)
    books.cpo_cdrs[cdr] = replace(books.cpo_cdrs[cdr], energy_import_wh=books.cpo_cdrs[cdr].energy_import_wh + 1)

    report = audit(books, truth)

    assert [each.rule for each in report.differences] == [CONSERVED]
    assert not report.is_complete


def test_the_report_of_a_pruned_log_names_the_offsets_and_the_rules_that_are_partial(
    books: Books, truth: dict[str, Any]
) -> None:
    key = a_transaction(books, truth)
    prune(books, key, lambda _whole: None)
    discard(books)
    console = Console(record=True, width=200, file=StringIO())

    print_report(audit(books, truth), console)

    told = console.export_text()
    number = partition_of(station_key(key[0], key[1]))
    assert f"pruned: charging/{number} offsets 0 to 4\n" in told
    assert f"partial: {CONSERVED}: 1 of {len(books.cpo_transactions)} can't be recomputed" in told
    assert "discarded: charging_operations charging/3@17 (no station can send this) by ann" in told


def test_a_consumer_that_lags_is_a_difference(books: Books) -> None:
    books.lag = {"charging_operations": 0, "driver_mobility": 4}

    found = found_in(books)

    assert set(found) == {HANDLED}
    assert (found[HANDLED].scope, found[HANDLED].found) == ("driver_mobility", 4)


@pytest.mark.parametrize(("kind", "action"), [(ReportKind.ENDED, "StopTransaction"), (ReportKind.UPDATED, "MeterVal")])
def test_a_message_that_was_acknowledged_and_lost_is_found(
    books: Books, truth: dict[str, Any], kind: ReportKind, action: str
) -> None:
    """A station of 1.6: start and stop by kind, meter values by their number."""
    acknowledged = [each for each in truth["acknowledged"] if each["action"].startswith(action)]
    numbers = {(each["party_id"], each["charging_station_id"], each["transaction_id"]) for each in acknowledged}
    key = next(key for key in books.logged_transactions if (key[0].code, key[1], key[2]) in numbers)
    transaction = books.logged_transactions[key]
    lost = next(each for each in transaction.reports if each.kind is kind)
    reports = tuple(each for each in transaction.reports if each is not lost)
    books.logged_transactions[key] = replace(transaction, reports=reports)

    found = found_in(books, truth)

    assert STORED in found
    assert found[STORED].scope == f"{key[0]}/{key[1]}/{key[2]}"
    assert "confirmed to the station" in found[STORED].cause


def test_a_2x_message_that_was_acknowledged_and_lost_is_found_by_its_number(
    books: Books, truth: dict[str, Any]
) -> None:
    key = next(
        key for key, each in books.logged_transactions.items() if any(r.seq_no is not None for r in each.reports)
    )
    transaction = books.logged_transactions[key]
    lost = next(each for each in transaction.reports if each.seq_no == 0)
    books.logged_transactions[key] = replace(
        transaction, reports=tuple(each for each in transaction.reports if each is not lost)
    )

    found = found_in(books, truth)

    assert found[STORED].cause == "TransactionEvent 0 was confirmed to the station and is not in the log"


def test_a_whole_transaction_that_the_log_forgot_is_found(books: Books, truth: dict[str, Any]) -> None:
    key = next(iter(books.logged_transactions))
    del books.logged_transactions[key]

    found = found_in(books, truth)

    assert set(found) == {CONSERVED, STORED, METERED}
    assert found[METERED].found == 0


def test_a_wh_that_the_meter_moved_and_the_log_does_not_meter_is_found(books: Books, truth: dict[str, Any]) -> None:
    truth["transactions"][0]["metered_wh"] += 1

    found = found_in(books, truth)

    assert set(found) == {METERED}
    assert found[METERED].expected - found[METERED].found == 1


def test_without_the_stations_word_only_what_is_stored_is_compared(books: Books) -> None:
    assert not {STORED, METERED} & {each.rule for each in audit(books).checks}


def _parked(reason: str) -> ParkedEvent:
    event = CDRReceived(
        agreement_id="A",
        cpo_id=PartyId("NL-TUL"),
        emsp_id=PartyId("NL-ZON"),
        cdr=None,  # type: ignore[arg-type]  # nobody looks into it
        received_at=datetime(2022, 3, 27, tzinfo=UTC),
    )
    envelope = Envelope(event=event, event_id="e", correlation_id="c", recorded_at=event.received_at)
    logged = LoggedEvent(topic="charging", partition=3, offset=17, envelope=envelope)
    return ParkedEvent(group="charging_operations", logged=logged, reason=reason, parked_at=event.received_at)
