"""How long what stations told is kept: notices, events and messages go, what money or batteries hang on stays."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from services.charging_operations.der_controls import DER_ALARM, DER_PERIOD
from services.charging_operations.event_streams import STREAM_VALUE
from services.charging_operations.office import Office
from services.charging_operations.records import STATION_NOTICE
from services.charging_operations.security_events import SECURITY_EVENT
from services.charging_operations.station_messages import CUSTOMER_INFORMATION, DATA_TRANSFER, MONITOR_EVENT
from services.charging_operations.terminal_payments import WEB_PAYMENT
from services.charging_operations.wanted_settings import WANTED_SETTING, WantedKind

DROPPED_AT_ONCE_MAX: Final = 1_000
"""Rows of one table that one look drops; the rest goes with the next."""
MONEY: Final = frozenset({"BatterySwap", "NotifySettlement", "VatNumberValidation"})
"""Notices of these actions are evidence of money or batteries."""
CUSTOMER_RETENTION: Final = timedelta(days=30)
"""Of customer information: who asks for their data is answered within a month (GDPR, art. 12)."""
FORGOTTEN: Final[tuple[tuple[TableSpec[Any], str], ...]] = (
    (STATION_NOTICE, "occurred_at"),
    (SECURITY_EVENT, "heard_at"),
    (DATA_TRANSFER, "occurred_at"),
    (MONITOR_EVENT, "heard_at"),
    (CUSTOMER_INFORMATION, "heard_at"),
    (STREAM_VALUE, "heard_at"),
    (DER_ALARM, "told_at"),
    (DER_PERIOD, "told_at"),
    (WEB_PAYMENT, "started_at"),
    (WANTED_SETTING, "ended_at"),
)
"""Tables with the time, by our clock, from which the retention counts. Battery swaps, payments, receipts, VAT checks
and costs are not among them."""


async def forget_old(office: Office) -> int:
    """Drop what is older than `Limits.told_retention`, at most `DROPPED_AT_ONCE_MAX` of each table; return how many."""
    dropped = 0
    for spec, time in FORGOTTEN:
        retention = office.limits.told_retention
        if spec is CUSTOMER_INFORMATION:
            retention = min(retention, CUSTOMER_RETENTION)
        async with office.ports.units.begin() as unit:
            table = unit.table(spec)
            before = (time, office.now() - retention)
            old = await table.select(await _droppable(unit, spec), before=before, limit=DROPPED_AT_ONCE_MAX)
            for row in old:
                await table.remove(*(getattr(row, name) for name in spec.key))
            if old:
                await unit.commit(is_repeatable=True)
                dropped += len(old)
    return dropped


async def _droppable(unit: UnitOfWork, spec: TableSpec[Any]) -> dict[str, Any]:
    if spec is STATION_NOTICE:
        actions = {action for (action,) in await unit.table(STATION_NOTICE).distinct(("action",))}
        return {"action": tuple(actions - MONEY)}
    if spec is WANTED_SETTING:
        return {"kind": (WantedKind.DER_CONTROL, WantedKind.DISPLAY_MESSAGE)}
    return {}
