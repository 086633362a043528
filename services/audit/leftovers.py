"""What an audit of a period tries on all rows, whenever they were made: it belongs to no document of the period."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from emobility.ports.reconciliation import Moment
from emobility.ports.stores import SELECT_ROWS_MAX
from emobility.protocols.ocpi.deliveries import DELIVERY, DeliveryState
from services.audit.books import Books
from services.audit.carried import MONEY_MODULES, check_nothing_was_refused
from services.audit.energy import check_quarantine
from services.audit.report import Check, amount_difference
from services.audit.rows import all_rows
from services.charging_operations.records import QUARANTINE
from services.driver_mobility.records import BILL

BILLS_RULE: Final = "a bill has its CDR"


async def check_quarantines(moment: Moment) -> Check:
    """Add up the parts of every quarantine, some rows at a time."""
    found = check_quarantine(Books())
    offset, is_over = 0, False
    while not is_over:
        rows = await moment.unit.table(QUARANTINE).select(order_by=QUARANTINE.key, offset=offset)
        found = found.plus(check_quarantine(Books(quarantine=rows)))
        offset, is_over = offset + len(rows), len(rows) < SELECT_ROWS_MAX
    return found


async def check_refused(moment: Moment) -> Check:
    """Tell of each CDR and each message of a dispute that its receiver refused, and that was left so."""
    of_money = {"module": MONEY_MODULES}
    refused = await all_rows(moment.unit, DELIVERY, {**of_money, "state": DeliveryState.FAILED})
    found = check_nothing_was_refused(Books(deliveries=refused))
    return replace(found, compared=await moment.unit.table(DELIVERY).count(of_money))


async def check_bills_of_nothing(moment: Moment) -> Check:
    """Tell of each bill whose CDR is not there."""
    found = Check(rule=BILLS_RULE, compared=await moment.unit.table(BILL).count())
    async for bills in moment.bills_of_nothing():
        differences = tuple(
            amount_difference(
                BILLS_RULE,
                f"{each.party_id}/{each.cpo_id}/{each.cdr_id}",
                (0, each.total_e4),
                each.currency,
                f"bill {each.bill_id} is of a CDR that is not there",
            )
            for each in bills
        )
        found = found.plus(Check(rule=BILLS_RULE, compared=0, differences=differences))
    return found
