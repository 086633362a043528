"""A statement as its two parties get it, CDR by CDR, as JSON and as CSV. Nobody else sees wholesale amounts.

It holds all that is needed to compute both roots again: the pair's secret, and each leaf with its commitment.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from typing import Any, Final

from services.settlement.closing import name_of
from services.settlement.records import BatchRecord, LeafRecord, StatementRecord

CSV_COLUMNS: Final = (
    "cpo",
    "emsp",
    "agreement",
    "sequence",
    "place",
    "cdr",
    "session",
    "kind",
    "credits",
    "ended_at",
    "accepted_at",
    "import_wh",
    "export_wh",
    "due_e4",
    "credit_e4",
    "currency",
)
_CELL_OF_A_FORMULA: Final = re.compile(r"(^|[;\t\r\n])(?=[=+\-@\t\r])")
"""Where a cell may begin with what makes it a formula: much of Europe's spreadsheets take `;` for the end of a cell."""


def shown_statement(record: StatementRecord, batch: BatchRecord | None) -> dict[str, Any]:
    """Return a statement's figures and where it stands; amounts in ten-thousandths."""
    return {
        "statement": record.statement_hash.hex(),
        "name": str(name_of(record)),
        "cpo": record.cpo_id.code,
        "emsp": record.emsp_id.code,
        "agreement": record.agreement_id,
        "version": record.version,
        "sequence": record.sequence,
        "state": record.state.value,
        "waits_for": record.waiting,
        "currency": record.currency,
        "due_e4": record.due_e4,
        "credit_e4": record.credit_e4,
        "net_e4": record.due_e4 - record.credit_e4,
        "count": record.count,
        "period_start": record.period_start,
        "period_end": record.period_end,
        "closed_at": record.closed_at,
        "final_at": record.final_at,
        "evidence_root": record.evidence_root.hex(),
        "sum_root": record.sum_root.hex(),
        "book_agreement": record.book_agreement.hex(),
        "batch": None if batch is None else shown_batch(batch, record),
    }


def shown_batch(batch: BatchRecord, record: StatementRecord) -> dict[str, Any]:
    """Return what a party needs to sign its statement, or to find it on chain."""
    return {
        "batch_id": batch.batch_id.hex(),
        "pairs_hash": batch.pairs_hash.hex(),
        "position": record.position,
        "pairs": len(batch.statements),
        "chain_id": batch.chain_id,
        "book": batch.book.hex(),
        "transaction": None if batch.proposed_in is None else batch.proposed_in.hex(),
    }


def shown_leaf(leaf: LeafRecord) -> dict[str, Any]:
    """Return one CDR's line."""
    return {
        "place": leaf.place,
        "cdr": leaf.cdr_id,
        "session": leaf.session_id,
        "kind": "CREDIT" if leaf.is_credit else "CHARGE",
        "credits": leaf.credit_reference_id,
        "ended_at": leaf.ended_at,
        "accepted_at": leaf.accepted_at,
        "import_wh": leaf.import_wh,
        "export_wh": leaf.export_wh,
        "due_e4": leaf.due_e4,
        "credit_e4": leaf.credit_e4,
        "cdr_key": leaf.cdr_key.hex(),
        "commitment": leaf.commitment.hex(),
        "meter": leaf.meter.hex(),
    }


def statement_document(
    record: StatementRecord, batch: BatchRecord | None, leaves: Sequence[LeafRecord], *, pair_secret: str
) -> dict[str, Any]:
    """Return the whole statement as JSON values."""
    shown = shown_statement(record, batch)
    return shown | {"pair_secret": pair_secret, "cdrs": [shown_leaf(leaf) for leaf in leaves]}


def statement_csv(record: StatementRecord, leaves: Sequence[LeafRecord]) -> str:
    """Return the statement's CDRs as CSV (RFC 4180), one a line under a head.

    A text that a spreadsheet would take for a formula gets an apostrophe before it.
    """
    written = io.StringIO()
    lines = csv.DictWriter(written, CSV_COLUMNS, extrasaction="ignore")
    lines.writeheader()
    of_all = {
        "cpo": record.cpo_id.code,
        "emsp": record.emsp_id.code,
        "agreement": record.agreement_id,
        "sequence": record.sequence,
        "currency": record.currency,
    }
    for leaf in leaves:
        moments = {"ended_at": leaf.ended_at.isoformat(), "accepted_at": leaf.accepted_at.isoformat()}
        line = of_all | shown_leaf(leaf) | moments
        lines.writerow({name: _harmless(value) for name, value in line.items()})
    return written.getvalue()


def _harmless(value: Any) -> Any:
    return _CELL_OF_A_FORMULA.sub(r"\1'", value) if isinstance(value, str) else value
