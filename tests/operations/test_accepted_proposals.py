"""A CPO's operator ends a dispute with one call, when the CPO's own pricing gives what the eMSP proposes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from emobility.domain.cdr import CDR
from emobility.domain.money import Price
from emobility.domain.proposed_correction import propose_correction
from emobility.domain.tariff.pricing import price_session
from emobility.protocols.ocpi import v221
from emobility.protocols.ocpi.mapping import cdr_to_ocpi
from emobility.protocols.ocpi.v221 import ModuleID
from services.charging_operations.ledger import Ledger
from services.charging_operations.records import CDRS, DISPUTE
from tests.operations.test_corrections import billed
from tests.operations.world import CPO, World, open_for_business

TOO_MUCH_E4 = 1_000


async def wrongly_billed(here: World) -> CDR:
    """A CDR that says more than its periods give, as a version with a mistake might have issued it."""
    await billed(here)
    (row,) = await here.rows(CDRS)
    cost = row.cdr.total_cost
    wrong: CDR = replace(row.cdr, total_cost=Price(excl_e4=cost.excl_e4 + TOO_MUCH_E4, incl_e4=cost.incl_e4))
    async with here.ports.units.begin() as unit:
        await unit.table(CDRS).put(replace(row, cdr=wrong))
        await unit.commit()
    return wrong


async def proposed(here: World, cdr: CDR, **changes: Any) -> v221.Dispute:
    """What an eMSP that prices as we do would send."""
    priced = price_session(cdr.tariff, cdr.periods, ended_at=cdr.ended_at, time_zone=cdr.location.time_zone)
    proposal = propose_correction(cdr, priced, proposed_at=here.clock.now())
    assert proposal is not None
    return v221.Dispute(
        cdr_id=cdr.cdr_id,
        reason="TOTAL_COST_DIFFERS",
        detail="dear",
        differences=[
            v221.DisputedAmount(part="TOTAL", is_after_tax=False, cause="UNEXPLAINED", expected_e4=1, stated_e4=2)
        ],
        proposed_credit=await cdr_to_ocpi(proposal.credit, here.ports.vault),
        proposed_replacement=await cdr_to_ocpi(replace(proposal.replacement, **changes), here.ports.vault),
    )


async def accept(here: World, cdr_id: str) -> Any:
    answer = await here.api("POST", f"/{CPO}/disputes/{cdr_id}/accept", {"who": "anna"})
    await here.settle()
    return answer


async def test_one_call_issues_the_credit_and_the_replacement() -> None:
    async with open_for_business() as here:
        cdr = await wrongly_billed(here)
        await here.ocpi("POST", ModuleID.DISPUTES, "", await proposed(here, cdr))

        answer = await accept(here, cdr.cdr_id)

        assert answer.json() == {"credit_id": f"{cdr.cdr_id}-C1", "replacement_id": f"{cdr.cdr_id}-R1"}
        _, credit, replacement = await here.cdrs_in_order()
        assert credit.total_cost == -cdr.total_cost
        assert replacement.total_cost.excl_e4 == cdr.total_cost.excl_e4 - TOO_MUCH_E4
        assert replacement.periods == cdr.periods
        assert await here.ledger() == Ledger(metered=5_000, cdr=5_000)
        (row,) = await here.rows(DISPUTE)
        assert row.answer == credit.cdr_id
        assert [(each.part, each.stated_e4) for each in row.differences] == [("TOTAL", 2)]
        assert (await accept(here, cdr.cdr_id)).status_code == 409


async def test_a_proposal_that_our_pricing_does_not_give_is_refused_and_changes_nothing() -> None:
    async with open_for_business() as here:
        cdr = await wrongly_billed(here)
        dispute = await proposed(here, cdr, total_cost=Price(excl_e4=1))
        await here.ocpi("POST", ModuleID.DISPUTES, "", dispute)

        answer = await accept(here, cdr.cdr_id)

        assert answer.status_code == 409, answer.text
        assert len(await here.rows(CDRS)) == 1


@pytest.mark.parametrize("change", [{"ended_at": None}, {"total_energy_import_wh": 1}, {"session_id": "other"}])
async def test_a_proposal_of_another_document_is_no_proposal(change: dict[str, Any]) -> None:
    async with open_for_business() as here:
        cdr = await wrongly_billed(here)
        changes = {name: cdr.started_at if value is None else value for name, value in change.items()}
        await here.ocpi("POST", ModuleID.DISPUTES, "", await proposed(here, cdr, **changes))

        assert (await accept(here, cdr.cdr_id)).status_code == 409
        (row,) = await here.rows(DISPUTE)
        assert (row.reason, row.proposal) == ("TOTAL_COST_DIFFERS", None)


async def test_without_a_dispute_there_is_nothing_to_accept() -> None:
    async with open_for_business() as here:
        cdr_id = await billed(here)

        assert (await accept(here, cdr_id)).status_code == 404
