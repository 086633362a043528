"""What every real audit of a period runs: processes that share its slices over PostgreSQL, and the command itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from bench.settlement_books import Filling
from bench.settlement_pairs import agreements
from emobility.events.cdr import CDRS
from emobility.ports.reconciliation import Period
from services.audit.books import SETTLEMENT_GROUP
from services.audit.periodically import audited_period
from services.audit.report import Check
from services.audit.sharing import Alone, Shared
from services.audit.slices import LOG_RULE
from services.charging_operations import records as cpo
from services.settlement.records import LEAF
from tests.audit.test_a_busy_installation import LEAVES, append, consumed, refuse
from tests.audit.test_a_period_is_reconciled import plant_what_documents_alone_show
from tests.cli.test_commands import SECRETS, wattroam
from tests.settlement.settling import Settling, open_settling
from tests.settlement.world import MASTER_KEY, accepted

pytestmark = pytest.mark.timeout(600)
"""Four processes, on a machine that others share."""

PAIRS: Final = 2
CHARGES: Final = 12
PROCESSES: Final = 2


async def test_processes_find_what_one_finds_alone_and_the_command_tells_it(postgres_dsn: str, tmp_path: Path) -> None:
    async with open_settling(postgres_dsn) as here:
        await Filling(here, agreements()[:PAIRS], dsn=postgres_dsn).fill(CHARGES)
        ports, chain = here.world.ports, here.chain.chain
        await plant_what_documents_alone_show(ports)
        await park_an_acceptance(here)

        sharing = Shared(dsn=postgres_dsn, master_key=MASTER_KEY, processes=PROCESSES)
        alone = await audited_period(ports, Period(), sharing=Alone(vault=ports.vault), chain=chain)
        shared = await audited_period(ports, Period(), sharing=sharing, chain=chain)

        page = tmp_path / "page.html"
        told = await asyncio.to_thread(
            wattroam,
            *("audit", "--from", "2022-02-01", "--to", "2022-04-01", "--page", str(page)),
            **SECRETS | {"WATTROAM_DATABASE_URL": postgres_dsn, "WATTROAM_MASTER_KEY": MASTER_KEY.hex()},
        )

    assert in_order(shared.report.checks) == in_order(alone.report.checks)
    broken = {each.rule for each in shared.report.differences}
    assert {LOG_RULE, "the bill is what was quoted", "a leaf names its CDR and commits to its evidence"} <= broken
    assert LEAVES not in broken  # each process knows of the dead letter
    assert (told.returncode, told.stderr) == (1, f"the auditor's page is in {page}\n")
    assert "charges that ended from 2022-02-01 00:00 to before 2022-04-01 00:00 UTC" in told.stdout
    assert "neither signatures nor the chain were looked at: no chain is named" in " ".join(told.stdout.split())
    assert "what is metered is in CDRs: NL-CAC/" in " ".join(told.stdout.split())
    assert LOG_RULE in " ".join(told.stdout.split())  # documents themselves are looked at without a chain, too
    assert "NL-CAC" in page.read_text()


async def park_an_acceptance(here: Settling) -> None:
    """Lose a leaf whose event lies in the dead letters of the settlement."""
    async with here.world.ports.units.begin() as unit:
        *_, issued = sorted(await unit.table(cpo.CDRS).select(), key=lambda row: row.cdr_id)
        await unit.table(LEAF).delete(issued.party_id, issued.cdr_id)
        await unit.commit()
    of_pair = next(each for each in agreements() if each.agreement_id == issued.agreement_id)
    await append(here, accepted(issued.cdr, agreement=of_pair))
    await consumed(here, SETTLEMENT_GROUP, CDRS, refuse)


def in_order(checks: Sequence[Check]) -> list[tuple[str, int, int, list[str]]]:
    """Return checks whatever the order in which slices came back."""
    return sorted((each.rule, each.compared, each.unknown, sorted(map(repr, each.differences))) for each in checks)
