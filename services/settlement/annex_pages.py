"""The CDRs of an invoice as its PDF lists them: what a person compares, out of the CSV that the invoice names."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from typing import Final

from emobility.domain.money import decimal_from_e4
from emobility.runtime.invoice_file import AnnexTable, Column

_COLUMNS: Final = (
    Column(heading="Place", width=28),
    Column(heading="CDR", width=146),
    Column(heading="Ended, UTC", width=76),
    Column(heading="Import, kWh", width=54, is_right=True),
    Column(heading="Export, kWh", width=54, is_right=True),
    Column(heading="Due", width=62, is_right=True),
    Column(heading="Credit", width=63, is_right=True),
)
"""Place: in the statement."""
_MINUTES: Final = len("2026-11-30T12:00")


def annex_table(table: str) -> AnnexTable:
    """Return the pages' table of a statement's CSV (`documents.statement_csv`)."""
    return AnnexTable(csv=table.encode(), columns=_COLUMNS, lines=partial(_lines, table))


def _lines(table: str) -> Iterator[tuple[str, ...]]:
    for line in csv.DictReader(io.StringIO(table, newline="")):
        yield (
            line["place"],
            line["cdr"],
            line["ended_at"][:_MINUTES].replace("T", " "),
            _kwh(line["import_wh"]),
            _kwh(line["export_wh"]),
            _exact(line["due_e4"]),
            _exact(line["credit_e4"]),
        )


def _kwh(wh: str) -> str:
    return f"{Decimal(wh).scaleb(-3):,.3f}"


def _exact(e4: str) -> str:
    """Return an amount, empty where there is none: a line has one side."""
    return f"{decimal_from_e4(int(e4)):,.4f}" if int(e4) else ""
