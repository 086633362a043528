"""One line per session from stored books: parties, status, Wh, money, payments. Equal runs give equal lines."""

from __future__ import annotations

from typing import Any

from services.audit.books import Books


def session_lines(books: Books) -> dict[str, dict[str, Any]]:
    """Return, per session, what came of it, by where and when it began.

    Left out is what is drawn at random (ids of quotes and payments), and the number that the gateway gives a 1.6
    transaction: of two that begin at a station in one moment, the first to be heard gets the lower one.
    """
    lines: dict[str, dict[str, Any]] = {}
    for row in books.cpo_sessions:
        lines[f"{row.party_id}/{row.session_id}"] = {
            "place": f"{row.party_id} {row.session.evse_uid} {row.session.started_at}",
            "msp": row.emsp_id.code,
            "station": row.charging_station_id,
            "status": row.session.status.value,
            "started_at": row.session.started_at,
            "tariff": row.session.tariff_hash,
            "metered_wh": [],
            "cdrs": [],
            "quarantine": [],
            "bills": [],
            "payments": [],
        }
    for each in books.cpo_transactions:
        if each.session_id is not None:
            metered = (each.state.value, each.metered_import_wh, each.metered_export_wh)
            lines[f"{each.party_id}/{each.session_id}"]["metered_wh"].append(metered)
    verdicts = {(row.cpo_id, row.cdr_id): row for row in books.emsp_cdrs}
    for issued in books.cpo_cdrs:
        verdict, cdr = verdicts[issued.party_id, issued.cdr_id], issued.cdr
        findings = [finding.fault.value for finding in verdict.findings]
        energy = (cdr.signed_energy_import_wh, cdr.total_energy_export_wh, cdr.total_charging_s, cdr.total_parking_s)
        money = (cdr.total_cost.excl_e4, cdr.total_cost.incl_e4, cdr.currency)
        standing = (suffix_of(issued.cdr_id), issued.is_credit, issued.credited_by is None, verdict.state.value)
        lines[f"{issued.party_id}/{issued.session_id}"]["cdrs"].append((*standing, findings, energy, money))
    for held in books.quarantine:
        parts = (held.energy_import_wh, held.billed_import_wh, held.waived_import_wh, held.written_off_import_wh)
        lines[f"{held.party_id}/{held.session_id}"]["quarantine"].append((held.state.value, held.reasons, parts))
    sessions = {}
    for bill in books.bills:
        key = f"{bill.cpo_id}/{bill.session_id}"
        sessions[bill.party_id, bill.bill_id] = key
        amounts = (bill.total_excl_e4, bill.total_incl_e4, bill.credited_incl_e4, bill.currency)
        lines[key]["bills"].append((bill.party_id.code, bill.driver_id, suffix_of(bill.cdr_id), *amounts))
    for order in books.payment_orders:
        if order.bill_id is not None:
            paid = (order.kind.value, order.state.value, order.amount_e4, order.refunded_e4)
            lines[sessions[order.party_id, order.bill_id]]["payments"].append(paid)
    return {line["place"]: _in_order(line) for line in lines.values()}


def _in_order(line: dict[str, Any]) -> dict[str, Any]:
    return {name: sorted(value, key=repr) if isinstance(value, list) else value for name, value in line.items()}


def suffix_of(cdr_id: str) -> str:
    """Return what follows the session's id in a CDR's: nothing, or the number of a credit or replacement."""
    return cdr_id.partition("-")[2]


def account_lines(books: Books) -> list[tuple[object, ...]]:
    """Return every driver's account."""
    return [
        (row.party_id.code, row.driver_id, row.currency, row.billed_e4, row.credited_e4, row.paid_e4, row.due_e4)
        for row in sorted(books.accounts, key=lambda row: (row.party_id, row.driver_id, row.currency))
    ]
