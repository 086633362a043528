"""`wattroam ledger export`: an installation's ledger as a file."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from emobility.adapters.cosigned_ledger.exported import exported
from emobility.adapters.cosigned_ledger.ledger import read_ledger
from emobility.domain.errors import Unavailable
from emobility.wiring import open_ports
from services.embedded.opening import opened


class NoLedgerHere(Unavailable):
    """The installation settles on a chain, or has not begun to settle."""

    def __init__(self) -> None:
        super().__init__("there is no ledger here; WATTROAM_SETTLEMENT_ON=ledger keeps one")


def export_ledger(file: Path, *, run_folder: Path) -> int:
    """Write an installation's ledger into a file; return 0.

    Raises:
        NoLedgerHere: there is none.
        LedgerBroken: its rows are not what was written.
        NothingHere, DatabaseUnavailable: the data can't be read.
    """
    entries = asyncio.run(_export(file, run_folder))
    sys.stdout.write(f"{entries} lines in {file}\n")
    return 0


async def _export(file: Path, run_folder: Path) -> int:
    async with opened(run_folder) as settings, open_ports(settings) as ports:
        ledger = await read_ledger(ports.units)
        if ledger is None:
            raise NoLedgerHere
        lines = [line async for line in exported(ledger)]
    await asyncio.to_thread(file.write_text, "".join(f"{line}\n" for line in lines))
    return len(lines)
