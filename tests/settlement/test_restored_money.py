"""A copy from before a bank file was made: what the bank says, read first, keeps it from going out twice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.settlement.money_records import BANK_EXPORT, PAYABLE, PAYOUT
from services.settlement.payouts import NothingToPay
from tests.banking.bank_files import ZON, camt, entry
from tests.settlement.bank_desk import TODAY, Desk
from tests.settlement.settling import open_settling
from tests.settlement.world import CPO, MSP


async def test_what_the_bank_moved_since_the_copy_is_not_ordered_again() -> None:
    async with open_settling() as here:
        desk = Desk(here)
        await desk.open()
        await desk.charge("s1", 1_000_000)
        await desk.settle()
        (payable,) = await desk.rows(PAYABLE)
        export = await desk.export()
        name = (await desk.payout()).end_to_end_id
        async with here.world.ports.units.begin() as unit:
            await unit.table(PAYOUT).remove(CPO, name)
            await unit.table(BANK_EXPORT).remove(MSP, export.message_id)
            await unit.table(PAYABLE).put(replace(payable, paid_by=None))
            await unit.commit()

        left = entry(name, "121.00", reference="B-1", on=TODAY, way="DBIT")
        taken = await desk.payouts.take_file(MSP, camt([left], iban=ZON.iban))

        assert taken.outcomes == {"MATCHED": 1}
        with pytest.raises(NothingToPay):
            await desk.export()
        assert (await desk.payout()).sent_cents == 12_100
