"""How long what stations told is kept: notices, events and messages go, what money or batteries hang on stays."""

from __future__ import annotations

from typing import Any, Final

from emobility.ports.stores import TableSpec
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
"""Tables with the time from which the retention counts. Not here, and kept: battery swaps, payments, VAT checks and
receipts, costs, and what has not ended: a running alarm, a setting in force."""
MONEY: Final = frozenset({"BatterySwap", "NotifySettlement", "NotifyWebPaymentStarted", "VatNumberValidation"})
"""Notices of these actions are kept: they are evidence of money or batteries, from before they had rows of their own."""
_TARIFFS: Final = (WantedKind.DEFAULT_TARIFF, WantedKind.TRANSACTION_TARIFF)


async def forget_old(office: Office) -> int:
    """Drop what is older than `Limits.told_retention`, at most `DROPPED_AT_ONCE_MAX` of each table; return how many."""
    dropped = 0
    for spec, time in FORGOTTEN:
        async with office.ports.units.begin() as unit:
            table = unit.table(spec)
            before = (time, office.now() - office.limits.told_retention)
            for row in await table.select(before=before, order_by=(time,), limit=DROPPED_AT_ONCE_MAX):
                if not _is_kept(row):
                    await table.remove(*(getattr(row, name) for name in spec.key))
                    dropped += 1
            await unit.commit(is_repeatable=True)
    return dropped


def _is_kept(row: Any) -> bool:
    if getattr(row, "kind", None) in _TARIFFS or getattr(row, "action", None) in MONEY:
        return True
    return hasattr(row, "ended_at") and row.ended_at is None
