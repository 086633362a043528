"""What one document has at each stage, and why not what it has at the stage before."""

from __future__ import annotations

from typing import Any

import pytest

from bench.settlement_books import Filling
from emobility.ports.reconciliation import Document, MeteredSession, Period
from emobility.ports.stores import TableSpec
from services.audit.periodically import audited_period
from services.audit.stages import NOTHING, Amounts, Cause, accepted, claim_of
from services.charging_operations import records as cpo
from services.driver_mobility import records as emsp
from tests.settlement.settling import open_settling
from tests.settlement.world import terms

ISSUED = {
    "issued_to": "NL-MSP",
    "issued_currency": "EUR",
    "issued_import_wh": 10_000,
    "issued_export_wh": 0,
    "issued_e4": 3_000,
}
LEAF = {
    "leaf_of": "NL-MSP",
    "leaf_currency": "EUR",
    "leaf_is_credit": False,
    "import_wh": 10_000,
    "export_wh": 0,
    "due_e4": 3_000,
    "credit_e4": 0,
}
UNISSUED = dict.fromkeys(ISSUED)
UNTOLD = dict.fromkeys(LEAF)


def document(*sides: dict[str, Any]) -> Document:
    known: dict[str, Any] = dict.fromkeys(Document._fields) | {
        "cpo_id": "NL-CPO",
        "cdr_id": "C",
        "session_id": "S",
        "bills": 0,
    }
    for side in sides:
        known |= side
    return Document(**known)


@pytest.mark.parametrize(
    ("sides", "has_cpo", "amounts", "cause"),
    [
        ((ISSUED, LEAF), True, Amounts(1, 10_000, 0, 3_000), None),
        ((ISSUED, LEAF | {"due_e4": 2_999}), True, Amounts(1, 10_000, 0, 2_999), Cause.LEAF_DIFFERS),
        ((ISSUED, LEAF | {"leaf_of": "NL-ZON"}), True, Amounts(1, 10_000, 0, 3_000), Cause.LEAF_DIFFERS),
        ((ISSUED, LEAF | {"leaf_currency": "SEK"}), True, Amounts(1, 10_000, 0, 3_000), Cause.LEAF_DIFFERS),
        ((UNISSUED, LEAF), True, Amounts(1, 10_000, 0, 3_000), Cause.NEVER_ISSUED),
        ((UNISSUED, LEAF), False, Amounts(1, 10_000, 0, 3_000), Cause.CPO_ELSEWHERE),
        ((ISSUED, UNTOLD), True, NOTHING, Cause.MSP_ELSEWHERE),
    ],
)
def test_what_an_msp_elsewhere_accepted_is_its_leaf_compared_with_what_was_issued(
    sides: tuple[dict[str, Any], ...], *, has_cpo: bool, amounts: Amounts, cause: Cause | None
) -> None:
    step = accepted(document(*sides), has_cpo=has_cpo, has_msp=False)

    assert step == (amounts, cause)


@pytest.mark.parametrize(
    ("spec", "cause"), [(emsp.CDRS, Cause.NOT_ARRIVED), (cpo.CDRS, Cause.NEVER_ISSUED)], ids=["MSP", "CPO"]
)
async def test_a_party_that_lost_all_its_cdrs_keeps_its_books_here(spec: TableSpec[Any], cause: Cause) -> None:
    async with open_settling() as here:
        await Filling(here, [terms()]).fill(1)
        async with here.world.ports.units.begin() as unit:
            (row,) = await unit.table(spec).select()
            await unit.table(spec).delete(*(getattr(row, name) for name in spec.key))
            await unit.commit()

        found = await audited_period(here.world.ports, Period())

    assert cause.value in {each.cause for each in found.report.differences}


@pytest.mark.parametrize(
    ("name", "claimed_wh", "cause"),
    [("#NA/R1", 0, Cause.RESERVED), ("#NA/R1", 50_000, Cause.CDR_OF_NOTHING), ("S", 0, Cause.CDR_OF_NOTHING)],
)
def test_only_what_claims_no_energy_is_a_reservation(name: str, claimed_wh: int, cause: Cause) -> None:
    metered = MeteredSession("NL-CPO", "NL-MSP", "EUR", name, 1, None, 1, 0, 0, claimed_wh, *[0] * 7)

    assert claim_of(metered) is cause
