"""The installation of `docs/how-to/audit-a-period.md`: six sound charges, one that is disputed, and one fault."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from typing import Any

from rich.console import Console

from bench.settlement_books import Filling
from emobility.domain.money import Price
from emobility.ports.reconciliation import Period
from services.audit.period_report import PeriodReport, print_period
from services.audit.periodically import audited_period
from services.charging_operations import records as cpo
from services.driver_mobility import records as emsp
from tests.settlement.settling import Settling, open_settling
from tests.settlement.world import T0, terms

CHARGES = 6
WIDTH = 100
MONTH = Period(since=T0.replace(day=1, hour=0), before=T0.replace(month=4, day=1, hour=0))


async def example() -> PeriodReport:
    """Audit March 2022 quickly."""
    async with open_settling() as here:
        await Filling(here, [terms()]).fill(CHARGES)
        await _dispute_one_and_change_one(here)
        return await audited_period(here.world.ports, MONTH, why_quick="a quick one was asked for")


async def _dispute_one_and_change_one(here: Settling) -> None:
    async with here.world.ports.units.begin() as unit:
        issued, received = await unit.table(cpo.CDRS).select(), await unit.table(emsp.CDRS).select()
        by_name = {row.session_id: row for row in await unit.table(cpo.TRANSACTION).select()}
        seventh: dict[str, Any] = {"cdr_id": "s0000006", "session_id": "s0000006"}
        run = replace(by_name["s0000005"], transaction_id="s0000006", session_id="s0000006")
        await unit.table(cpo.TRANSACTION).put(run)
        cdr = replace(issued[5].cdr, **seventh)
        await unit.table(cpo.CDRS).put(replace(issued[5], cdr=cdr, **seventh))
        disputed = emsp.CDRState.DISPUTED
        await unit.table(emsp.CDRS).put(replace(received[5], cdr=cdr, state=disputed, quote_id=None, **seventh))
        dearer = Price(excl_e4=received[2].cdr.total_cost.excl_e4 + 1)
        await unit.table(emsp.CDRS).put(replace(received[2], cdr=replace(received[2].cdr, total_cost=dearer)))
        await unit.commit()


def printed(found: PeriodReport) -> str:
    """Return what the command prints."""
    console = Console(file=StringIO(), width=WIDTH)
    print_period(found, console)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()
