"""The settlement as a process on a ledger, as settings choose it: no chain anywhere, killed at every point."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from emobility.adapters.cosigned_ledger.ledger import StoredLedger, read_ledger
from emobility.domain.batch import contracts
from emobility.events.settlement import StatementFinal
from services.audit.audit import audited
from services.settlement.crash_points import CrashPoint
from services.settlement.opening import PLAY_MONEY_E4
from services.settlement.records import DEPLOYMENT, PARTY
from tests.settlement.forked import ForkedSettlement
from tests.settlement.test_the_process import INTERNAL, LEASE_S, NOW, Installed
from tests.settlement.world import CPO, MASTER_KEY, MSP, a_cdr, a_credit, accepted, open_world, signed, terms

POINTS: Final = (
    list(CrashPoint)
    if "WATTROAM_SOAK" in os.environ
    else [CrashPoint.BYTES_STORED, CrashPoint.BYTES_SENT, CrashPoint.FINALITY_SEEN]
)
"""Those between a row and the ledger's; on a chain all are tried in each run."""


@dataclass
class OnLedger(Installed):
    """A database, and the settlement as a process beside it."""

    def start(self, *, dies_at: CrashPoint | None = None, **more: str) -> ForkedSettlement:
        variables = {
            "ENVIRONMENT": "development",
            "DATABASE_URL": self.dsn,
            "INTERNAL_TOKEN": INTERNAL,
            "MASTER_KEY": MASTER_KEY.hex(),
            "SETTLEMENT_ON": "ledger",
            "SETTLEMENT_PORT": str(self.port),
            "SETTLEMENT_LEASE_S": str(LEASE_S),
        } | ({} if dies_at is None else {"SETTLEMENT_CRASH_POINT": dies_at.value})
        child = ForkedSettlement(
            self.folder / f"settlement-{len(self.children)}.log",
            {f"WATTROAM_{name}": value for name, value in (variables | more).items()},
        )
        self.children.append(child)
        return child

    async def ledger(self) -> StoredLedger:
        found = await read_ledger(self.world.ports.units)
        assert found is not None
        return found

    async def is_countersigned(self) -> bool:
        ledger = await self.ledger()
        newest = (await ledger.head()).number
        found = [each.number for each in await ledger.countersignatures()]
        return found == [newest, newest]

    async def collateral_e4(self) -> int:
        async with self.world.ports.units.begin() as unit:
            (row,) = await unit.table(DEPLOYMENT).select()
            party = await unit.table(PARTY).get(CPO)
        assert party is not None
        found = row.deployment.of("EUR")
        assert found is not None
        answer = await (await self.ledger()).call(found.vault, contracts.COLLATERAL_OF.call(party.number))
        return int(contracts.COLLATERAL_OF.answer(answer)[0])


@pytest.fixture
async def here(postgres_dsn: str, tmp_path: Path, free_port: int) -> AsyncIterator[OnLedger]:
    async with open_world(postgres_dsn) as world:
        nowhere: object = None
        opened = OnLedger(world, nowhere, postgres_dsn, tmp_path, free_port, [])  # type: ignore[arg-type]  # no chain
        await opened.tell(signed(terms(), holder=CPO), signed(terms(), holder=MSP))
        yield opened
        for child in opened.children:
            child.kill()


@pytest.mark.postgres
@pytest.mark.fault
@pytest.mark.timeout(900)
async def test_killed_between_its_rows_and_the_ledger_it_settles_each_cdr_once(here: OnLedger) -> None:
    await here.die_at(POINTS)

    here.start()
    await here.until(here.has_settled_everything)
    await here.tell(accepted(a_credit(a_cdr("s0", 1_000)), at=NOW()))
    await here.until(here.has_settled_everything)
    await here.until(here.is_countersigned)

    statements = await here.statements()
    assert await here.collateral_e4() - PLAY_MONEY_E4 == sum(1_000 + number for number in range(1, len(POINTS)))
    assert len(statements) == len(await here.world.told(StatementFinal))
    report, _ = await audited(here.world.ports, chain=await here.ledger())
    assert (report.differences, report.waiting, report.why_quick) == ((), (), None)
