"""What belongs to no document of a period is tried in every audit of one: quarantines, refusals, bills of nothing."""

from __future__ import annotations

from dataclasses import replace

from bench.settlement_books import Filling
from emobility.ports.reconciliation import Period
from emobility.protocols.ocpi.deliveries import DELIVERY, Delivery, DeliveryState
from emobility.protocols.ocpi.v221 import InterfaceRole, ModuleID
from services.audit.leftovers import BILLS_RULE
from services.audit.periodically import audited_period
from services.charging_operations import records as cpo
from services.driver_mobility import records as emsp
from tests.settlement.settling import Settling, open_settling
from tests.settlement.world import CPO, MSP, T0, terms

SOUND = Period(before=T0.replace(year=T0.year - 1))
"""A period in which nothing ended."""


async def test_what_belongs_to_no_document_of_the_period_is_found_all_the_same() -> None:
    async with open_settling() as here:
        await Filling(here, [terms()]).fill(2)
        assert (await audited_period(here.world.ports, SOUND)).report.differences == ()
        bill = await plant(here)
        found = await audited_period(here.world.ports, SOUND)

    assert [(each.rule, each.scope, each.expected, each.found) for each in found.report.differences] == [
        ("the parts of a quarantine add up", f"{CPO}/Q", 500, 499),
        ("no CDR or dispute was refused for good", f"{CPO}/{MSP}/dispute/d", 0, 1),
        (BILLS_RULE, f"{MSP}/{CPO}/gone", 0, bill.total_incl_e4),
    ]
    compared = {each.rule: each.compared for each in found.report.checks}
    assert [compared[each.rule] for each in found.report.differences] == [1, 2, 3]


async def plant(here: Settling) -> emsp.BillRecord:
    message = await here.world.ports.vault.seal("a message")
    async with here.world.ports.units.begin() as unit:
        (bill, *_) = await unit.table(emsp.BILL).select()
        await unit.table(emsp.BILL).put(replace(bill, bill_id="more", cdr_id="gone"))
        await unit.table(cpo.QUARANTINE).put(
            cpo.QuarantineRecord(
                party_id=CPO,
                quarantine_id="Q",
                session_id="held",
                charging_station_id="S0",
                transaction_id="held",
                state=cpo.QuarantineState.BILLED,
                reasons=("R",),
                details=("d",),
                energy_import_wh=500,
                energy_export_wh=0,
                quarantined_at=T0,
                billed_import_wh=499,
            )
        )
        for state in (DeliveryState.FAILED, DeliveryState.PENDING):
            await unit.table(DELIVERY).put(
                Delivery(
                    own_party=CPO,
                    delivery_id=state.value,
                    to_party=MSP,
                    object_key="dispute/d",
                    position=1,
                    revision=1,
                    is_replaceable=False,
                    is_routed=False,
                    method="POST",
                    module=ModuleID.DISPUTES,
                    interface_role=InterfaceRole.SENDER,
                    message=message,
                    correlation_id="c",
                    state=state,
                    attempts=3,
                    reason="refused",
                    entered_at=T0,
                )
            )
        await unit.commit()
    return bill
