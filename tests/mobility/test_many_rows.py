"""What takes more than one page to read is read whole, also while it changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from emobility.adapters.memory.tables import MemoryTable
from emobility.domain.identifiers import PartyId
from emobility.domain.retail_account import RetailAccount
from emobility.ports.stores import TableSpec
from services.driver_mobility import ledger, pages
from services.driver_mobility.ledger import AccountsDiffer, retail_ledger
from services.driver_mobility.records import ACCOUNT, AGREEMENT, TOKEN
from tests.mobility.conftest import agreement, sign

MSP = PartyId("NL-EMA")
CPO = PartyId("NL-TNM")


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one select return a row at most."""
    real = MemoryTable.select

    async def select(self: Any, where: Mapping[str, Any] | None = None, **asked: Any) -> list[Any]:
        return await real(self, where, **asked | {"limit": 1})

    monkeypatch.setattr(pages, "SELECT_ROWS_MAX", 1)
    monkeypatch.setattr(MemoryTable, "select", select)


async def charged(world: Any, number: int) -> None:
    uid = f"04AABBCCDD0{number}"
    await world.enrol(uid=uid, contract_id=f"NL-EMA-C0000{number}")
    reference = (await world.cpo.authorize(uid)).authorization_reference
    token = await world.cpo.token(uid)
    session, cdr = await world.cpo.charge(f"S{number}", reference=reference, token=token, started_at=world.clock.now())
    await world.cpo.push_session(session)
    await world.cpo.post_cdr(cdr)
    await world.quiet()


@pytest.mark.usefixtures("small_pages")
async def test_a_ledger_of_more_accounts_than_a_page_holds_adds_up(memory_world: Any) -> None:
    await charged(memory_world, 1)
    await charged(memory_world, 2)

    totals = (await retail_ledger(memory_world.ports.units, MSP))["EUR"]

    assert (totals.bills, totals.billed_e4) == (2, 2 * 54_450)


@pytest.mark.parametrize("reads_too_early", [1, ledger.READS_MAX])
async def test_a_ledger_that_changed_while_it_was_read_is_read_again_and_a_lasting_difference_is_told(
    memory_world: Any, monkeypatch: pytest.MonkeyPatch, reads_too_early: int
) -> None:
    await charged(memory_world, 1)
    reads = 0

    async def every(unit: Any, spec: TableSpec[Any], where: Mapping[str, Any]) -> list[Any]:
        nonlocal reads
        found = await pages.every(unit, spec, where)
        reads += spec is ACCOUNT
        is_early = spec is ACCOUNT and reads <= reads_too_early
        return [_before_its_bill(account) for account in found] if is_early else found

    monkeypatch.setattr(ledger, "every", every)

    if reads_too_early < ledger.READS_MAX:
        assert (await retail_ledger(memory_world.ports.units, MSP))["EUR"].bills == 1
    else:
        with pytest.raises(AccountsDiffer):
            await retail_ledger(memory_world.ports.units, MSP)


def _before_its_bill(account: RetailAccount) -> RetailAccount:
    return replace(account, billed_e4=0, paid_e4=0, due_e4=0, carry_e4=0)


@pytest.mark.usefixtures("small_pages")
async def test_a_cpo_that_signs_gets_every_token_however_many_there_are(memory_world: Any) -> None:
    async with memory_world.ports.units.begin() as unit:
        await unit.table(AGREEMENT).delete(MSP, "TNM-EMA", 1)
        await unit.commit()
    for number in (1, 2, 3):
        await memory_world.enrol(uid=f"04AABBCCDD0{number}", contract_id=f"NL-EMA-C0000{number}")
    before = len(memory_world.cpo.tokens)

    await sign(memory_world, agreement())
    await memory_world.quiet()

    async with memory_world.ports.units.begin() as unit:
        assert (before, len(memory_world.cpo.tokens)) == (0, await unit.table(TOKEN).count())
