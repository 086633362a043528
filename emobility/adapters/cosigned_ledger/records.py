"""Rows of a ledger: entries are added and never changed; of each signer the newest countersignature is kept."""

from __future__ import annotations

from typing import Final

from emobility.domain.cosigned_ledger import Countersignature, LedgerEntry
from emobility.ports.stores import TableSpec

LEDGER_ENTRY: Final = TableSpec(name="ledger_entry", record=LedgerEntry, key=("number",), unique=(("hash",),))
COUNTERSIGNATURE: Final = TableSpec(name="ledger_countersignature", record=Countersignature, key=("signer",))
