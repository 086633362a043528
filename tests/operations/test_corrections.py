"""What was wrong gets right: quarantine has an exit, CDRs are credited and replaced, disputes are answered."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from emobility.events.cdr import QuarantineResolved
from emobility.protocols.ocpi import v221
from emobility.protocols.ocpi.client import MissingAtPeer
from emobility.protocols.ocpi.v221 import ModuleID
from services.charging_operations.ledger import Ledger
from services.charging_operations.records import CDRS, DISPUTE
from tests.operations.world import CPO, World, open_for_business

WHO: dict[str, Any] = {"who": "anna", "why": "looked at the meter"}


async def quarantined(here: World) -> str:
    """A register that fell: 5,500 Wh that nobody trusts."""
    await here.authorize(transaction_id="1", ocpp_evse_id=1)
    await here.report(await here.started(), here.updated(import_wh=500), here.ended())
    (row,) = await here.quarantine()
    return row.quarantine_id


async def resolve(here: World, quarantine_id: str, **fields: Any) -> httpx.Response:
    answer = await here.api("POST", f"/{CPO}/quarantine/{quarantine_id}/resolve", WHO | fields)
    await here.settle()
    return answer


async def billed(here: World) -> str:
    await here.authorize(transaction_id="1", ocpp_evse_id=1)
    await here.report(await here.started(), here.updated(), here.ended())
    (cdr,) = await here.issued()
    return cdr.cdr_id


async def credit(here: World, cdr_id: str, **fields: Any) -> httpx.Response:
    answer = await here.api("POST", f"/{CPO}/cdrs/{cdr_id}/credit", {"reason": "wrong meter"} | fields)
    await here.settle()
    return answer


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"outcome": "BILL"}, Ledger(metered=5_500, cdr=5_500)),
        ({"outcome": "BILL", "proven_import_wh": 4_000}, Ledger(metered=5_500, cdr=4_000, waived=1_500)),
        (
            {"outcome": "BILL", "proven_import_wh": 4_000, "rest": "WRITE_OFF"},
            Ledger(metered=5_500, cdr=4_000, written_off=1_500),
        ),
        ({"outcome": "WAIVE"}, Ledger(metered=5_500, waived=5_500)),
        ({"outcome": "WRITE_OFF"}, Ledger(metered=5_500, written_off=5_500)),
    ],
)
async def test_quarantine_has_an_exit_and_every_wh_is_somewhere(fields: dict[str, Any], expected: Ledger) -> None:
    async with open_for_business() as here:
        quarantine_id = await quarantined(here)

        answer = await resolve(here, quarantine_id, **fields)

        assert answer.status_code == 200, answer.text
        (fact,) = await here.events(QuarantineResolved)
        assert fact.resolved_by == "anna"
        assert await here.ledger() == expected
        assert [cdr.total_energy_import_wh for cdr in await here.issued()] == ([expected.cdr] if expected.cdr else [])


async def test_a_decision_is_made_once() -> None:
    async with open_for_business() as here:
        quarantine_id = await quarantined(here)
        await resolve(here, quarantine_id, outcome="WAIVE")

        again = await resolve(here, quarantine_id, outcome="BILL")

        assert again.status_code == 409
        assert await here.ledger() == Ledger(metered=5_500, waived=5_500)


@pytest.mark.parametrize(
    "fields",
    [
        {"outcome": "BILL", "proven_import_wh": 5_501},
        {"outcome": "BILL", "proven_import_wh": -1},
        {"outcome": "WAIVE", "who": " "},
        {"outcome": "WAIVE", "why": ""},
        {"outcome": "BILL", "rest": "BILL"},
        {"outcome": "FORGET"},
    ],
)
async def test_a_decision_that_does_not_add_up_is_refused_and_changes_nothing(fields: dict[str, Any]) -> None:
    async with open_for_business() as here:
        quarantine_id = await quarantined(here)

        assert (await resolve(here, quarantine_id, **fields)).status_code == 422
        assert await here.ledger() == Ledger(metered=5_500, quarantined=5_500)


async def test_nobody_is_billed_for_energy_of_nobody() -> None:
    async with open_for_business() as here:
        await here.authorize("DEADBEEF", transaction_id="1")
        await here.report(await here.started(card="DEADBEEF"), here.ended())
        (row,) = await here.quarantine()

        assert (await resolve(here, row.quarantine_id, outcome="BILL")).status_code == 409
        assert (await resolve(here, row.quarantine_id, outcome="WRITE_OFF")).status_code == 200


async def test_a_credit_takes_a_cdr_back_whole() -> None:
    async with open_for_business() as here:
        cdr_id = await billed(here)

        answer = await credit(here, cdr_id)

        assert answer.json() == {"credit_id": f"{cdr_id}-C1", "replacement_id": None}
        original, taken_back = await here.cdrs_in_order()
        assert taken_back.total_cost.excl_e4 == -original.total_cost.excl_e4
        assert (taken_back.periods, taken_back.total_energy_import_wh) == (original.periods, 5_000)
        assert await here.ledger() == Ledger(metered=5_000, waived=5_000)
        assert [body.get("credit_reference_id") for body in here.emsp.got("cdrs")] == [None, cdr_id]


async def test_a_replacement_follows_its_credit_with_less_energy() -> None:
    async with open_for_business() as here:
        cdr_id = await billed(here)

        answer = await credit(here, cdr_id, replacement={"energy_import_wh": 3_000})

        assert answer.json()["replacement_id"] == f"{cdr_id}-R1"
        assert [body["id"] for body in here.emsp.got("cdrs")] == [cdr_id, f"{cdr_id}-C1", f"{cdr_id}-R1"]
        assert (await here.cdrs_in_order())[2].total_cost.excl_e4 == 14_000
        assert await here.ledger() == Ledger(metered=5_000, cdr=3_000, waived=2_000)


async def test_a_replacement_may_state_corrected_periods() -> None:
    async with open_for_business() as here:
        cdr_id = await billed(here)
        (row,) = await here.rows(CDRS)
        shorter = row.cdr.periods[:1]

        answer = await credit(here, cdr_id, replacement={"periods": shorter})

        assert answer.status_code == 200, answer.text
        assert await here.ledger() == Ledger(metered=5_000, cdr=2_000, waived=3_000)


async def test_a_replacement_can_be_credited_in_its_turn() -> None:
    async with open_for_business() as here:
        cdr_id = await billed(here)
        await credit(here, cdr_id, replacement={})
        answer = await credit(here, f"{cdr_id}-R1", replacement={"energy_import_wh": 1_000})

        assert answer.json() == {"credit_id": f"{cdr_id}-C2", "replacement_id": f"{cdr_id}-R2"}
        assert await here.ledger() == Ledger(metered=5_000, cdr=1_000, waived=4_000)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"replacement": {"energy_import_wh": 5_001}}, 422),
        ({"replacement": {"energy_import_wh": -1}}, 422),
        ({"replacement": {"periods": []}}, 422),
        ({"reason": ""}, 422),
    ],
)
async def test_a_replacement_never_bills_more_and_a_credit_says_why(fields: dict[str, Any], status: int) -> None:
    async with open_for_business() as here:
        cdr_id = await billed(here)

        assert (await credit(here, cdr_id, **fields)).status_code == status
        assert await here.ledger() == Ledger(metered=5_000, cdr=5_000)


async def test_a_cdr_is_credited_once_and_a_credit_never() -> None:
    async with open_for_business() as here:
        cdr_id = await billed(here)
        await credit(here, cdr_id)

        assert (await credit(here, cdr_id)).status_code == 409
        assert (await credit(here, f"{cdr_id}-C1")).status_code == 409
        assert (await credit(here, "nothing")).status_code == 404


async def test_a_dispute_is_kept_and_its_answer_is_the_credit() -> None:
    async with open_for_business() as here:
        cdr_id = await billed(here)
        dispute = v221.Dispute(
            cdr_id=cdr_id,
            reason="TOTAL_COST_DIFFERS",
            detail="dear",
            expected_e4=15_000,
            stated_e4=20_000,
            clause="agreement NL-TUL/DE-MSP/1 v2 §tariff_ids",
        )
        await here.ocpi("POST", ModuleID.DISPUTES, "", dispute)
        await here.ocpi("POST", ModuleID.DISPUTES, "", dispute)

        await credit(here, cdr_id)

        (row,) = await here.rows(DISPUTE)
        assert (row.reason, row.expected_e4, row.answer) == ("TOTAL_COST_DIFFERS", 15_000, f"{cdr_id}-C1")
        assert row.clause == dispute.clause


async def test_a_dispute_about_a_cdr_that_never_was_is_refused() -> None:
    async with open_for_business() as here:
        with pytest.raises(MissingAtPeer):
            await here.ocpi("POST", ModuleID.DISPUTES, "", v221.Dispute(cdr_id="x", reason="y", detail="z"))
