"""What stations know against what is stored: every acknowledged message is in the log, every true Wh was metered."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from emobility.domain.transaction import ReportKind, Transaction, metered_wh
from services.audit.books import Books
from services.audit.forgotten import is_recomputable
from services.audit.report import Check, Difference

_KIND_OF_ACTION = {"StartTransaction": ReportKind.STARTED, "StopTransaction": ReportKind.ENDED}


def check_acknowledged(books: Books, truth: dict[str, Any]) -> Check:
    """Every transaction message a station got a CALLRESULT for is in the log.

    OCPP 2.x messages are found by sequence number, 1.6 start and stop by their kind, 1.6 meter values by how many
    different ones the transaction has.
    """
    rule = "acknowledged is stored"
    known = _by_text(books)
    meter_values: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    differences = []
    compared = unknown = 0
    for message in truth["acknowledged"]:
        if message.get("transaction_id") is None:
            continue
        key = (message["party_id"], message["charging_station_id"], str(message["transaction_id"]))
        if not is_recomputable(books, key):
            unknown += 1
            continue
        compared += 1
        if message["action"] == "MeterValues":
            meter_values[key].add(message["content_hash"])
        elif not _is_stored(known.get(key), message):
            cause = f"{message['action']} {message.get('seq_no')} was confirmed to the station and is not in the log"
            differences.append(
                Difference(rule=rule, scope="/".join(key), expected=1, found=0, unit="events", cause=cause)
            )
    for key, hashes in sorted(meter_values.items()):
        transaction = known.get(key)
        found = 0 if transaction is None else sum(r.kind is ReportKind.UPDATED for r in transaction.reports)
        if found < len(hashes):
            cause = "MeterValues were confirmed to the station and are not in the log"
            differences.append(
                Difference(
                    rule=rule, scope="/".join(key), expected=len(hashes), found=found, unit="events", cause=cause
                )
            )
    return Check(rule=rule, compared=compared, unknown=unknown, differences=tuple(differences))


def check_true_energy(books: Books, truth: dict[str, Any]) -> Check:
    """What each meter really moved is what the log says it metered, once the transaction's end is confirmed."""
    rule = "metered is what the meters moved"
    known = _by_text(books)
    differences = []
    ended = [each for each in truth["transactions"] if each["is_end_acknowledged"]]
    unknown = 0
    for each in ended:
        key = (each["party_id"], each["charging_station_id"], str(each["transaction_id"]))
        if not is_recomputable(books, key):
            unknown += 1
            continue
        found = metered_wh(known[key]).import_wh if key in known else 0
        if found != each["metered_wh"]:
            differences.append(
                Difference(
                    rule=rule,
                    scope="/".join(key),
                    expected=each["metered_wh"],
                    found=found,
                    unit="Wh",
                    cause="readings were lost, changed or made up on the way",
                )
            )
    return Check(rule=rule, compared=len(ended) - unknown, unknown=unknown, differences=tuple(differences))


def _by_text(books: Books) -> dict[tuple[str, str, str], Transaction]:
    return {(key[0].code, key[1], key[2]): each for key, each in books.logged_transactions.items()}


def _is_stored(transaction: Transaction | None, message: dict[str, Any]) -> bool:
    if transaction is None:
        return False
    if message.get("seq_no") is not None:
        return any(report.seq_no == message["seq_no"] for report in transaction.reports)
    kind = _KIND_OF_ACTION.get(message["action"])
    return kind is None or any(report.kind is kind for report in transaction.reports)
