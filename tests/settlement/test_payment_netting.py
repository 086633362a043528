"""Netting of what is due by bank: a plan for who runs the installation, and a share for each party to check."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest

from emobility.domain.banking.payout import end_to_end_id
from emobility.domain.batch.hashing import keccak256
from emobility.domain.identifiers import PartyId
from emobility.domain.netting import check_share
from services.embedded import netting
from services.settlement.money_records import PAYABLE, PayableRecord
from services.settlement.payment_netting import plans, shown_plan, shown_share
from tests.settlement.hidden import CPO_2, MSP_2
from tests.settlement.world import CPO, MSP, T0, World, open_world

BOTH: Final = PartyId("BE-ROL")
"""A CPO and an MSP at once."""


def a_payable(cpo: PartyId, msp: PartyId, cents: int, **changes: Any) -> PayableRecord:
    name = keccak256(f"{cpo}{msp}{cents}{changes}".encode())
    values: dict[str, Any] = {
        "cpo_id": cpo,
        "agreement_id": f"{cpo.party_id}-{msp.party_id}",
        "version": 1,
        "sequence": 1,
        "emsp_id": msp,
        "currency": "EUR",
        "statement_hash": name,
        "exact_e4": cents * 100,
        "carried_e4": 0,
        "net_cents": cents,
        "residue_e4": 0,
        "is_prepaid": False,
        "vat_cents": 0,
        "regime": None,
        "vat_percent": Decimal(0),
        "legal_reference": None,
        "tax_waits": None,
        "final_at": T0,
        "due_on": (T0 + timedelta(days=14)).date(),
        "end_to_end_id": end_to_end_id(name),
    }
    return PayableRecord(**(values | changes))


async def enter(world: World, *payables: PayableRecord) -> None:
    async with world.ports.units.begin() as unit:
        await unit.table(PAYABLE).put_all(payables)
        await unit.commit()


async def test_what_is_due_by_bank_is_netted_and_the_saving_told() -> None:
    async with open_world() as world:
        await enter(
            world,
            a_payable(CPO, MSP, 70_00),
            a_payable(CPO, BOTH, 20_00, vat_cents=2_00),
            a_payable(BOTH, MSP_2, 30_00),
            a_payable(CPO_2, MSP, -5_00),
            a_payable(CPO_2, MSP_2, 90_00, is_prepaid=True),
            a_payable(CPO_2, BOTH, 40_00, paid_by="P1"),
            a_payable(CPO, MSP_2, 11_00, currency="CHF"),
        )

        async with world.ports.units.begin() as unit:
            chf, eur = await plans(unit)

        assert (chf.currency, chf.gross_e4, chf.saved_e4) == ("CHF", 110_000, 0)
        shown = shown_plan(eur)
        assert (shown["debts"], shown["gross_e4"], shown["saved_e4"], shown["saved_percent"]) == (
            4,
            1_270_000,
            270_000,
            21,
        )
        for party in (CPO, MSP, BOTH, MSP_2, CPO_2):
            share = eur.share(party)
            check_share(share)
            named = {each[side] for each in shown_share(share)["owed"] for side in ("payer", "payee")}
            assert party.code in named


@pytest.mark.parametrize("json_wanted", [True, False])
def test_the_command_prints_what_is_saved(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, json_wanted: bool
) -> None:
    async def found(_: Path) -> list[dict[str, Any]]:
        async with open_world() as world:
            await enter(world, a_payable(CPO, BOTH, 50_00), a_payable(BOTH, MSP, 30_00))
            async with world.ports.units.begin() as unit:
                return [shown_plan(each) for each in await plans(unit)]

    monkeypatch.setattr(netting, "_plans", found)

    assert netting.print_netting(json=json_wanted, run_folder=Path("nowhere")) == 0

    printed = capsys.readouterr().out
    if json_wanted:
        assert json.loads(printed)[0]["saved_e4"] == 300_000
    else:
        assert "liquidity saved: 30.00 of 80.00 EUR (37 %); 2 payments in place of 2" in printed
