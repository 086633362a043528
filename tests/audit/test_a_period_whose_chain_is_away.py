"""What was found without the chain is told where it falls silent, unless nothing less than a full audit will do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.settlement_books import Filling
from emobility.ports.chain import ChainUnavailable
from emobility.ports.reconciliation import Period
from services.audit.periodically import audited_period
from services.audit.sharing import Alone
from services.charging_operations import records as cpo
from tests.audit.test_a_busy_installation import broken
from tests.settlement.settling import open_settling
from tests.settlement.world import terms


async def test_differences_are_kept_when_the_chain_falls_silent_at_the_end() -> None:
    async with open_settling() as here:
        await Filling(here, [terms()]).fill(2)
        ports, chain = here.world.ports, here.chain.chain
        async with ports.units.begin() as unit:
            (run, *_) = await unit.table(cpo.TRANSACTION).select()
            await unit.table(cpo.TRANSACTION).put(replace(run, metered_import_wh=run.metered_import_wh + 1))
            await unit.commit()
        await here.chain.stop()

        sharing = Alone(vault=ports.vault)
        found = await audited_period(ports, Period(), sharing=sharing, chain=chain)
        with pytest.raises(ChainUnavailable) as silence:
            await audited_period(ports, Period(), sharing=sharing, chain=chain, needs_chain=True)

    assert broken(found) == {"what is metered is in CDRs", "a transaction is what the log makes it"}
    assert found.report.why_quick == str(silence.value)
    assert not found.report.is_clean
