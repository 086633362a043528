"""`wattroam settlement netting`: what netting over all pairs would save, from the database itself."""

from __future__ import annotations

import asyncio
import json as json_module
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from emobility.wiring import open_ports
from services.embedded.opening import opened
from services.settlement.payment_netting import plans, shown_plan

UNIT_E4: Final = 10_000


def print_netting(*, json: bool, run_folder: Path) -> int:
    """Print one plan per currency. Raises `NothingHere`, `DatabaseUnavailable`."""
    found = asyncio.run(_plans(run_folder))
    if json:
        Console(soft_wrap=True).print_json(json_module.dumps(found))
    elif not found:
        Console().print("nothing is due by bank", markup=False)
    for plan in found if not json else ():
        table = Table(title=f"payments that settle what is due in {plan['currency']}")
        for name in ("payer", "payee", plan["currency"]):
            table.add_column(name, justify="right" if name == plan["currency"] else "left")
        for each in plan["payments"]:
            table.add_row(each["payer"], each["payee"], _amount(each["amount_e4"]))
        Console().print(table)
        Console().print(
            f"liquidity saved: {_amount(plan['saved_e4'])} of {_amount(plan['gross_e4'])} {plan['currency']} "
            f"({plan['saved_percent']} %); {len(plan['payments'])} payments in place of {plan['debts']}",
            markup=False,
            highlight=False,
        )
    return 0


async def _plans(run_folder: Path) -> list[dict[str, Any]]:
    async with opened(run_folder) as settings, open_ports(settings) as ports, ports.units.begin() as unit:
        return [shown_plan(each) for each in await plans(unit)]


def _amount(amount_e4: int) -> str:
    return f"{amount_e4 // UNIT_E4:,}.{amount_e4 % UNIT_E4 // 100:02}"
