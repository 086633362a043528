"""What an operator does about money from the command line, through the running installation's own API."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import httpx
from rich.console import Console
from rich.table import Table

from services.embedded.operator import IMPORT_TIMEOUT_S, REFUSED, call, in_path, print_answer

PIPED_COLUMNS: Final = 160
"""Width of a table that no terminal shows: no amount is broken in two."""
KINDS: Final = {"pay": "pain.001.001.09", "collect": "pain.008.001.08"}


def enter_account(*, party: str, currency: str, iban: str, name: str, bic: str | None, run_folder: Path) -> int:
    """Enter a bank account."""
    body = {"name": name, "iban": iban, "bic": bic}
    path = f"{_settlement(party)}/bank/accounts/{in_path(currency)}"
    return _done(*call(run_folder, "PUT", path, body), said=f"{party} is paid in {currency} onto {iban}")


def export(
    *, party: str, currency: str, what: str, on: str | None, out: Path | None, json: bool, run_folder: Path
) -> int:
    """Make a bank file and write it."""
    asked = {"currency": currency, "kind": KINDS[what], "on": on}
    status, made = call(run_folder, "POST", f"{_settlement(party)}/bank/files", asked)
    if not httpx.codes.is_success(status):
        return print_answer(status, made)
    status, document = call(run_folder, "GET", f"{_settlement(party)}/bank/files/{in_path(made['message_id'])}.xml")
    if not httpx.codes.is_success(status):
        return print_answer(status, document)
    if out is None and not json:
        sys.stdout.write(document)
        return 0
    if out is not None:
        out.write_text(document)
    if json:
        return print_answer(httpx.codes.OK, made)
    _say(f"{made['message_id']}: {made['orders']} orders, {_amount(made['cents'])} {currency}, in {out}")
    return 0


def take_statement(*, party: str, file: Path, json: bool, run_folder: Path) -> int:
    """Hand a camt file in and say what came of it."""
    try:
        document = file.read_bytes()
    except OSError as error:
        return print_answer(0, {"error": f"can't read {file}: {error.strerror}"})
    path = f"{_settlement(party)}/bank/statements"
    status, brought = call(run_folder, "POST", path, document, timeout_s=IMPORT_TIMEOUT_S)
    if not httpx.codes.is_success(status) or json:
        return print_answer(status, brought)
    for outcome, count in sorted(brought["outcomes"].items()):
        _say(f"{outcome:<15} {count}")
    _say(f"{brought['known']} were booked before, {brought['skipped']} are not booked or in a currency not paid in")
    return 0


def list_entries(*, party: str, everything: bool, json: bool, run_folder: Path) -> int:
    """Print the work list."""
    status, rows = call(run_folder, "GET", f"{_settlement(party)}/bank/entries{'' if everything else '?open'}")
    if status != httpx.codes.OK or json:
        return print_answer(status, rows)
    if not rows:
        _say(f"{party} has no entries{'' if everything else ' that wait for somebody'}")
        return 0
    columns = ("booked", "amount", "outcome", "left over", "EndToEndId", "entry")
    lines = [
        (
            row["booked_on"],
            f"{'-' if row['direction'] == 'DBIT' else ''}{_amount(row['cents'])} {row['currency']}",
            row["outcome"] + (", late" if row["is_late"] else ""),
            _amount(row["excess_cents"]),
            row["end_to_end_id"] or "",
            row["entry"],
        )
        for row in rows
    ]
    return _table(f"entries of {party}", columns, lines)


def list_payments(*, party: str, json: bool, run_folder: Path) -> int:
    """Print the payments of a party, each with the statements and invoices that it pays."""
    status, rows = call(run_folder, "GET", f"{_settlement(party)}/payouts")
    if status != httpx.codes.OK or json:
        return print_answer(status, rows)
    if not rows:
        _say(f"{party} has no payments; `wattroam bank export` makes them of final statements")
        return 0
    columns = ("EndToEndId", "from", "to", "due on", "to pay", "arrived", "of it", "for")
    lines = [
        (
            row["end_to_end_id"],
            row["emsp"],
            row["cpo"],
            row["due_on"],
            f"{_amount(row['cents'])} {row['currency']}",
            _amount(row["arrived_cents"]),
            "\n".join(_amount(each["net_cents"] + each["vat_cents"]) for each in row["statements"]),
            "\n".join(_paid_for(row["agreement"], each) for each in row["statements"]),
        )
        for row in rows
    ]
    return _table(f"payments of {party}", columns, lines)


def _paid_for(agreement: str, statement: dict[str, Any]) -> str:
    return statement["invoice"] or f"statement {statement['sequence']} of {agreement} v{statement['version']}"


def resolve(*, party: str, entry: str, why: str, run_folder: Path) -> int:
    """Take an entry off the work list."""
    path = f"{_settlement(party)}/bank/entries/{in_path(entry)}/resolve"
    return print_answer(*call(run_folder, "POST", path, {"resolution": why}))


def show_owed(*, party: str, json: bool, run_folder: Path) -> int:
    """Print what is open, agreement by agreement."""
    status, rows = call(run_folder, "GET", f"{_settlement(party)}/exposure")
    if status != httpx.codes.OK or json:
        return print_answer(status, rows)
    if not rows:
        _say(f"{party} has no agreement here")
        return 0
    # Only the ages in which something stands: all of them are too wide for a terminal.
    ages = [age for age in rows[0]["owed_by_age_e4"] if any(row["owed_by_age_e4"][age] for row in rows)]
    columns = ("CPO", "MSP", "agreement", "not settled", "owed", *ages, "limit")
    lines = [
        (
            row["cpo"],
            row["emsp"],
            row["agreement"],
            _exact(row["unsettled_e4"]),
            f"{_exact(row['owed_e4'])} {row['currency']}",
            *(_exact(row["owed_by_age_e4"][age]) for age in ages),
            "none" if row["limit_e4"] is None else _exact(row["limit_e4"]),
        )
        for row in rows
    ]
    return _table(f"open between {party} and its partners", columns, lines)


def show_guarantees(*, party: str, json: bool, run_folder: Path) -> int:
    """Print what may be taken out of guarantees and since when, and what was."""
    status, rows = call(run_folder, "GET", f"{_settlement(party)}/guarantees")
    if status != httpx.codes.OK or json:
        return print_answer(status, rows)
    if not rows:
        _say(f"{party} has no agreement under a guarantee here")
        return 0
    columns = ("CPO", "MSP", "agreement", "left", "taken", "may be taken", "due since", "from", "by", "under way")
    lines = [
        (
            row["cpo"],
            row["emsp"],
            f"{row['agreement']} v{row['version']}",
            f"{_exact(row['limit_e4'])} {row['currency']}",
            _exact(row["taken_e4"]),
            _exact(row["overdue_e4"]),
            row["overdue_since"] or "",
            row["callable_from"] or "",
            "itself" if row["calls"] == "AUTOMATIC" else "operator",
            _under_way(row),
        )
        for row in rows
    ]
    return _table(f"guarantees between {party} and its partners", columns, lines)


def _under_way(row: dict[str, Any]) -> str:
    on_its_way = row["on_its_way"]
    if on_its_way is None:
        return row["waits_for"] or ""
    waits = f", waits: {on_its_way['waits_for']}" if on_its_way["waits_for"] else ""
    return f"{_exact(on_its_way['amount_e4'])} {on_its_way['state']}{waits}"


def call_guarantee(*, party: str, agreement: str, json: bool, run_folder: Path) -> int:
    """Take what is overdue out of a guarantee."""
    path = f"{_settlement(party)}/guarantees/{in_path(agreement)}/call"
    status, queued = call(run_folder, "POST", path)
    if not httpx.codes.is_success(status) or json:
        return print_answer(status, queued)
    taken = f"{_exact(queued['amount_e4'])} of {agreement} v{queued['version']}"
    _say(f"{taken} is being taken, what is overdue through statement {queued['through']}")
    return 0


def choose_guarantee_policy(*, party: str, is_automatic: bool | None, grace_d: int | None, run_folder: Path) -> int:
    """Say who calls guarantees and when; what is not named stays."""
    path = f"{_settlement(party)}/guarantee-policy"
    status, policy = call(run_folder, "GET", path)
    if not httpx.codes.is_success(status):
        return print_answer(status, policy)
    if is_automatic is not None:
        policy["calls"] = "AUTOMATIC" if is_automatic else "BY_OPERATOR"
    if grace_d is not None:
        policy["grace_d"] = grace_d
    if is_automatic is not None or grace_d is not None:
        status, policy = call(run_folder, "PUT", path, policy)
        if not httpx.codes.is_success(status):
            return print_answer(status, policy)
    who = "by itself" if policy["calls"] == "AUTOMATIC" else "by its operator's word"
    _say(f"{party} takes what is more than {policy['grace_d']} days late {who}")
    return 0


def issue_invoices(*, party: str, month: str | None, run_folder: Path) -> int:
    """Issue documents; exit 1 when something waits."""
    if month is None:
        status, outcome = call(run_folder, "POST", f"{_settlement(party)}/invoices")
    else:
        status, outcome = call(run_folder, "POST", f"/mobility/{in_path(party)}/invoices", {"month": month})
    return print_answer(status, outcome) or (REFUSED if outcome["waiting"] else 0)


def list_invoices(*, party: str, drivers: bool, json: bool, run_folder: Path) -> int:
    """Print documents."""
    status, rows = call(run_folder, "GET", f"{_books(party, drivers=drivers)}/invoices")
    if status != httpx.codes.OK or json:
        return print_answer(status, rows)
    if not rows:
        _say(f"{party} has no documents {'to drivers' if drivers else 'between companies'}")
        return 0
    columns = ("number", "type", "to", "gross")
    lines = [
        (
            row["number"],
            row["type"],
            row["driver_id"] if drivers else row["emsp"],
            f"{_amount(row['gross_cents'])} {row['currency']}",
        )
        for row in rows
    ]
    return _table(f"documents of {party}", columns, lines)


def show_invoice(*, party: str, number: str, form: str, drivers: bool, out: Path | None, run_folder: Path) -> int:
    """Print a document as it is handed out, or write it to a file."""
    if form == "pdf" and out is None and sys.stdout.isatty():
        return print_answer(0, {"error": "a PDF is nothing for a terminal: say where to write it, as in --out it.pdf"})
    ending = "/annex.csv" if form == "annex" else f".{form}"
    path = f"{_books(party, drivers=drivers)}/invoices/{in_path(number)}{ending}"
    status, document = call(run_folder, "GET", path, timeout_s=IMPORT_TIMEOUT_S)
    if not httpx.codes.is_success(status):
        return print_answer(status, document)
    content = document if isinstance(document, bytes) else document.encode()
    if out is None:
        sys.stdout.buffer.write(content)
        return 0
    try:
        out.write_bytes(content)
    except OSError as error:
        return print_answer(0, {"error": f"can't write {out}: {error.strerror}"})
    _say(f"{number} is in {out}")
    return 0


def _settlement(party: str) -> str:
    return f"/settlement/{in_path(party)}"


def _books(party: str, *, drivers: bool) -> str:
    return f"/mobility/{in_path(party)}" if drivers else _settlement(party)


def _table(title: str, columns: Sequence[str], lines: Sequence[Sequence[str]]) -> int:
    table = Table(title=title)
    for column in columns:
        table.add_column(column, overflow="fold")
    for line in lines:
        table.add_row(*line)
    Console(soft_wrap=True, width=None if sys.stdout.isatty() else PIPED_COLUMNS).print(table)
    return 0


def _done(status: int, refusal: Any, *, said: str) -> int:
    if not httpx.codes.is_success(status):
        return print_answer(status, refusal)
    _say(said)
    return 0


def _say(text: str) -> None:
    Console(soft_wrap=True, highlight=False).print(text, markup=False)


def _amount(cents: int) -> str:
    return f"{Decimal(cents).scaleb(-2):,.2f}"


def _exact(amount_e4: int) -> str:
    return f"{Decimal(amount_e4).scaleb(-4):,.4f}"
