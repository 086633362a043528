"""What is kept for whom, why and until when; and what a person's erasure drops from the run folder."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import httpx
import msgspec
from rich.console import Console
from rich.table import Table

from emobility.domain.receipt.document import Receipt, ReceiptMalformed, read
from services.embedded.operator import call, in_path, print_answer

RECEIPTS_FOLDER: Final = "receipts"
"""Where a demo writes what it hands to drivers."""
ROWS_AT_ONCE: Final = 100
"""Of drivers or sales, in one call; no more than either answers."""


def show_retention(*, party: str, driver_id: str | None, json: bool, run_folder: Path) -> int:
    """Print what an MSP keeps of its drivers and a CPO of its ad hoc sales."""
    path = f"/mobility/{in_path(party)}/retention"
    if driver_id is None:
        status, drivers = _all_pages(run_folder, path)
        sales_status, sales = _all_pages(run_folder, f"/operations/{in_path(party)}/ad-hoc/retention")
        for told, rows in ((status, drivers), (sales_status, sales)):
            if told not in {httpx.codes.OK, httpx.codes.NOT_FOUND}:
                return print_answer(told, rows)
        if httpx.codes.OK not in {status, sales_status}:
            return print_answer(status, drivers)
    else:
        status, drivers = call(run_folder, "GET", f"{path}?{urlencode({'driver': driver_id})}")
        sales_status, sales = httpx.codes.OK, []
        if status != httpx.codes.OK:
            return print_answer(status, drivers)
    found = {
        "drivers": drivers if status == httpx.codes.OK else [],
        "ad_hoc_sales": sales if sales_status == httpx.codes.OK else [],
    }
    if json:
        return print_answer(httpx.codes.OK, found)
    Console().print(_table(party, found))
    return 0


def erase_person(*, party: str, name: str, is_sale: bool, run_folder: Path) -> int:
    """Erase a driver or an ad hoc sale; print what must be kept, why and until when."""
    if is_sale:
        path = f"/operations/{in_path(party)}/ad-hoc/sales/{in_path(name)}/erase"
        return print_answer(*call(run_folder, "POST", path))
    status, told = call(run_folder, "POST", f"/mobility/{in_path(party)}/drivers/{in_path(name)}/erase")
    if status == httpx.codes.OK:
        told["receipt_files_dropped"] = drop_receipts(run_folder / RECEIPTS_FOLDER, party=party, driver_id=name)
    return print_answer(status, told)


def drop_receipts(folder: Path, *, party: str, driver_id: str) -> int:
    """Remove the receipts of a driver that lie in a folder; return how many. What is no receipt is left alone."""
    dropped = 0
    for path in sorted(folder.glob("*.json")):
        try:
            record = read(path.read_bytes(), Receipt).record
        except (ReceiptMalformed, msgspec.MsgspecError, OSError):
            continue
        if (record.seller, record.quote.driver_id) == (party, driver_id):
            path.unlink()
            dropped += 1
    return dropped


def _all_pages(run_folder: Path, path: str) -> tuple[int, Any]:
    """Read a list to its end; return what is told instead, if a page is refused."""
    rows: list[Any] = []
    for offset in itertools.count(0, ROWS_AT_ONCE):
        status, page = call(run_folder, "GET", f"{path}?{urlencode({'offset': offset, 'limit': ROWS_AT_ONCE})}")
        if status != httpx.codes.OK:
            return status, page
        rows += page
        if len(page) < ROWS_AT_ONCE:
            break
    return httpx.codes.OK, rows


def _table(party: str, found: dict[str, Any]) -> Table:
    table = Table(title=f"kept by {party}")
    for name in ("whose", "what", "until", "why"):
        table.add_column(name, overflow="fold")
    for row in found["drivers"]:
        whose = f"{row['driver_id']} ({row['state'].lower()})"
        others = [duty for duty in row["duties"] if duty != "FISCAL"]
        lines = [(f"{each['count']} {each['kind']}", _day(each["until"]), each["law"]) for each in row["kept"]]
        lines += [(duty, _day(row["until"]), "until it is settled (GDPR art. 17(3)(e))") for duty in others]
        for what, until, why in lines or [("nothing", "", "")]:
            table.add_row(whose, what, until, why)
            whose = ""
    for row in found["ad_hoc_sales"]:
        until = "erased" if row["erased_at"] else _day(row["until"])
        table.add_row(f"sale {row['sale']}", "AD_HOC_RECEIPT", until, row["law"])
    return table


def _day(moment: str | None) -> str:
    return "with the driver" if moment is None else moment[:10]
