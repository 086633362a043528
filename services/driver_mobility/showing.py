"""What a driver is shown, as plain values for JSON and pages: quotes, charges, receipts; never a wholesale term."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emobility.domain.money import decimal_from_e4
from emobility.domain.quote import RetailQuote
from emobility.domain.session import SessionStatus
from emobility.domain.tariff.price_sheet import price_sheet
from emobility.domain.tariff.version import tariff_hash
from services.driver_mobility.driving import Charge
from services.driver_mobility.ledger import AccountStatement, RetailTotals
from services.driver_mobility.records import (
    BillRecord,
    CommandRecord,
    QuoteRecord,
    QuoteState,
)


def shown_quote(record: QuoteRecord) -> dict[str, Any]:
    """Return a quote with its price sheet and signature; all that is signed can be recomputed from it."""
    quote = record.quote
    return {
        "quote_id": quote.quote_id,
        "state": record.state,
        "driver_id": quote.driver_id,
        "plan_id": quote.plan_id,
        "cpo_id": quote.cpo_id,
        "location_id": quote.location_id,
        "evse_uid": quote.evse_uid,
        "connector_id": quote.connector_id,
        "time_zone": quote.time_zone,
        "issued_at": quote.issued_at,
        "valid_until": quote.valid_until,
        "currency": quote.tariff.currency,
        "tariff": quote.tariff,
        "tariff_hash": quote.tariff_hash,
        "estimate": _estimate(quote),
        "price_sheet": [{"section": line.section, "text": line.text} for line in _sheet(quote)],
        "signature": quote.signature,
    }


def _estimate(quote: RetailQuote) -> dict[str, Any] | None:
    estimate = quote.estimate
    if estimate is None:
        return None
    return {
        "energy_wh": estimate.energy_wh,
        "charging_s": estimate.charging_s,
        "parking_s": estimate.parking_s,
        "total_excl_e4": estimate.total.excl_e4,
        "total_incl_e4": estimate.gross_e4,
        "total_incl": str(decimal_from_e4(estimate.gross_e4)),
    }


def _sheet(quote: RetailQuote) -> Any:
    return price_sheet(quote.tariff, time_zone=quote.time_zone)


def shown_charge(charge: Charge) -> dict[str, Any]:
    """Return a charge as it stands: what was commanded, what ran, what it costs so far, the bill."""
    quote, session, command, bill = charge.quote, charge.session, charge.command, charge.bill
    return {
        "quote_id": quote.quote_id,
        "state": charge_state(charge),
        "refusal": quote.refusal,
        "cpo_id": quote.cpo_id,
        "location_id": quote.quote.location_id,
        "evse_uid": quote.quote.evse_uid,
        "currency": quote.quote.tariff.currency,
        "session_id": None if session is None else session.session_id,
        "status": None if session is None else session.status,
        "started_at": None if session is None else session.started_at,
        "ended_at": None if session is None else session.session.ended_at,
        "energy_wh": 0 if session is None else session.session.energy_import_wh,
        "running_cost_e4": 0 if session is None else session.running_cost_e4,
        "command": None if command is None else shown_command(command),
        "bill_id": None if bill is None else bill.bill_id,
    }


def charge_state(charge: Charge) -> str:
    """Return one word for where a charge stands."""
    session = charge.session
    if charge.bill is not None:
        return "CREDITED" if charge.bill.credited_incl_e4 else "BILLED"
    if session is not None and session.status is SessionStatus.COMPLETED:
        return "ENDED"
    if session is not None and session.status is not SessionStatus.INVALID:
        return "RUNNING"
    if charge.quote.state in {QuoteState.AUTHORIZED, QuoteState.HOLDING}:
        return "STARTING"
    return charge.quote.state.value


def shown_command(command: CommandRecord) -> dict[str, Any]:
    """Return how a command stands."""
    return {
        "command_id": command.command_id,
        "kind": command.kind,
        "state": command.state,
        "result": command.result,
        "quote_id": command.quote_id,
        "session_id": command.session_id,
        "sent_at": command.sent_at,
    }


def shown_bill(bill: BillRecord) -> dict[str, Any]:
    """Return a bill in one line."""
    return {
        "bill_id": bill.bill_id,
        "session_id": bill.session_id,
        "billed_at": bill.billed_at,
        "currency": bill.currency,
        "total_excl_e4": bill.total_excl_e4,
        "total_incl_e4": bill.total_incl_e4,
        "credited_incl_e4": bill.credited_incl_e4,
    }


def shown_receipt(bill: BillRecord, quote: QuoteRecord, *, seller: str) -> dict[str, Any]:
    """Return the retail arithmetic of a bill, line by line, with the quote it rests on."""
    return {
        **shown_bill(bill),
        "seller": seller,
        "seller_id": bill.party_id,
        "driver_id": bill.driver_id,
        "charge_point_operator": bill.cpo_id,
        "location_id": quote.quote.location_id,
        "evse_uid": quote.quote.evse_uid,
        "quote_id": quote.quote_id,
        "tariff_hash": tariff_hash(quote.quote.tariff),
        "total_incl": str(decimal_from_e4(bill.total_incl_e4)),
        "total_excl": str(decimal_from_e4(bill.total_excl_e4)),
        "vat": str(decimal_from_e4(bill.total_incl_e4 - bill.total_excl_e4)),
        "lines": bill.lines,
        "notes": bill.notes,
    }


def shown_statement(statement: AccountStatement) -> dict[str, Any]:
    """Return an account: billed (net of credits) = paid + outstanding."""
    account = statement.account
    return {
        "currency": account.currency,
        "billed_e4": statement.billed_e4,
        "credited_e4": account.credited_e4,
        "paid_e4": account.paid_e4,
        "outstanding_e4": account.outstanding_e4,
        "due_e4": account.due_e4,
        "carried_e4": account.carry_e4,
        "lines": statement.lines,
    }


def shown_ledger(totals: Mapping[str, RetailTotals]) -> list[RetailTotals]:
    """Return an MSP's totals, by currency."""
    return list(totals.values())
