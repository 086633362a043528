"""A session whose documents ended on both sides of a period's border is looked at whole from either side."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from bench.settlement_books import Filling
from emobility.domain.batch.leaf import leaf_of
from emobility.domain.cdr import credit_of
from emobility.ports.reconciliation import Period
from services.audit.periodically import audited_period
from services.audit.sharing import Alone
from services.audit.stages import Stage
from services.charging_operations import records as cpo
from services.driver_mobility import records as emsp
from services.driver_mobility.billing import bill_id_of
from services.settlement.records import AGREEMENT, LEAF
from tests.settlement.settling import Settling, open_settling
from tests.settlement.world import terms

CHARGES: Final = 3
LATER: Final = timedelta(minutes=20)


async def test_a_session_that_was_billed_anew_after_midnight_is_sound_on_both_days() -> None:
    async with open_settling() as here:
        await Filling(here, [terms()]).fill(CHARGES)
        midnight = await bill_anew(here)
        ports = here.world.ports
        found = [
            await audited_period(ports, period, sharing=Alone(vault=ports.vault))
            for period in (Period(before=midnight), Period(since=midnight))
        ]

    assert [each.report.differences for each in found] == [(), ()]
    documents = [sum(pair.stages[Stage.CDR].documents for pair in each.reconciled.pairs.values()) for each in found]
    assert documents == [CHARGES + 1, 1]  # the credit ended when its original did


async def bill_anew(here: Settling) -> datetime:
    """Take the last charge back by a credit, bill it again with a later end, and return a moment between the two."""
    ports = here.world.ports
    async with ports.units.begin() as unit:
        *_, issued = sorted(await unit.table(cpo.CDRS).select(), key=lambda row: row.cdr_id)
        (received,) = await unit.table(emsp.CDRS).select({"cdr_id": issued.cdr_id})
        (bill,) = await unit.table(emsp.BILL).select({"cdr_id": issued.cdr_id})
        (kept,) = await unit.table(emsp.EVIDENCE).select({"cdr_id": issued.cdr_id})
        leaf = await unit.table(LEAF).get(issued.party_id, issued.cdr_id)
        (agreement,) = await unit.table(AGREEMENT).select()
        assert leaf is not None
        secret = bytes.fromhex(await ports.vault.open(agreement.pair_secret))
        first = issued.cdr
        credit = credit_of(first, cdr_id="credit", issued_at=first.ended_at + LATER, remark="a late report")
        anew = replace(first, cdr_id="anew", ended_at=first.ended_at + LATER, issued_at=first.ended_at + LATER)

        await unit.table(cpo.CDRS).put(replace(issued, credited_by="credit"))
        await unit.table(emsp.CDRS).put(replace(received, credited_by="credit", state=emsp.CDRState.CREDITED))
        await unit.table(emsp.BILL).put(replace(bill, credited_incl_e4=bill.total_incl_e4))
        await unit.table(emsp.BILL).put(
            replace(bill, cdr_id="anew", bill_id=bill_id_of(bill.party_id, bill.cpo_id, "anew"))
        )
        await unit.table(emsp.EVIDENCE).put(
            replace(kept, cdr_id="anew", bill_id=bill_id_of(bill.party_id, bill.cpo_id, "anew"))
        )
        for cdr in (credit, anew):
            made = leaf_of(cdr, pair_secret=secret, commitment=leaf.commitment, meter=leaf.meter)
            await unit.table(cpo.CDRS).put(
                replace(issued, cdr_id=cdr.cdr_id, is_credit=cdr.is_credit, credited_by=None, cdr=cdr)
            )
            state = emsp.CDRState.CREDITED if cdr.is_credit else emsp.CDRState.ACCEPTED
            await unit.table(emsp.CDRS).put(
                replace(received, cdr_id=cdr.cdr_id, ended_at=cdr.ended_at, cdr=cdr, state=state)
            )
            await unit.table(LEAF).put(
                replace(
                    leaf,
                    cdr_id=cdr.cdr_id,
                    is_credit=cdr.is_credit,
                    credit_reference_id=cdr.credit_reference_id,
                    ended_at=cdr.ended_at,
                    cdr_key=made.cdr_key,
                    meter=made.meter,
                    due_e4=made.due_e4,
                    credit_e4=made.credit_e4,
                    version=None,
                    sequence=None,
                    place=None,
                )
            )
        await unit.commit()
    return first.ended_at + LATER / 2
