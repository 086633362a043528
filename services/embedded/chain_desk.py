"""Parties and agreements on a chain that others administer, from the command line, through the settlement's own API."""

from __future__ import annotations

import json as json_module
import os
import sys
from pathlib import Path
from typing import Any, Final

import httpx
from rich.console import Console
from rich.table import Table

from emobility.runtime.settings import Settings
from services.embedded.opening import DATABASE_VARIABLE
from services.embedded.operator import SETTLEMENT, call, call_at, in_path, print_answer

REGISTRATIONS: Final = f"{SETTLEMENT}internal/registrations"


def show_registrations(*, json: bool, run_folder: Path) -> int:
    """Print which parties wait for an issuer, or for the chain."""
    status, found = _call(run_folder, "GET", REGISTRATIONS)
    if not httpx.codes.is_success(status):
        return print_answer(status, found)
    if json:
        sys.stdout.write(json_module.dumps(found, indent=1) + "\n")
        return 0
    table = Table(title=f"registrations with {found['registry']} on chain {found['chain_id']}")
    for name in ("party", "signs by", "is paid out to", "consents until", "issuers", "stands"):
        table.add_column(name, overflow="fold")
    for each in found["registrations"]:
        stands = "on its way" if each["is_vouched_for"] else "waits for an issuer"
        issuers = ", ".join(issuer["account"] for issuer in each["issuers"]) or "ask the administrator"
        told = each["waiting"] or stands
        table.add_row(each["party_id"], each["signer"], each["payout"], each["deadline"], issuers, told)
    Console().print(table)
    return 0


def register(*, party: str, payout: str, run_folder: Path) -> int:
    """Have a hosted party consent to its registration."""
    status, told = _call(run_folder, "POST", f"{SETTLEMENT}{in_path(party)}/registration", {"payout": payout})
    if not httpx.codes.is_success(status):
        return print_answer(status, told)
    sys.stdout.write(f"{party} waits for an issuer of its country: `wattroam chain registrations`\n")
    return 0


def relay(*, vouched: Path, run_folder: Path) -> int:
    """Hand an issuer's transactions in. Raises `OSError`: the file can't be read."""
    return print_answer(*_call(run_folder, "POST", REGISTRATIONS, vouched.read_bytes()))


def show_agreements(*, party: str, run_folder: Path) -> int:
    """Print a party's agreements as books have them."""
    return print_answer(*_call(run_folder, "GET", f"{SETTLEMENT}{in_path(party)}/agreements"))


def _call(run_folder: Path, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Call the settlement: where settings name a database theirs, else the run folder's."""
    if DATABASE_VARIABLE not in os.environ:
        return call(run_folder, method, path, body)
    settings = Settings()
    token, elsewhere = settings.internal_token.get_secret_value(), "see WATTROAM_SETTLEMENT_URL"
    return call_at(settings.settlement_url, token, method, path, body, otherwise=elsewhere)
