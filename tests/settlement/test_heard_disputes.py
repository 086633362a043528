"""What others raise on the chain is heard, kept, and answered in time; the same on a chain in memory and a real one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from emobility.domain.batch.disputes import ANSWER_WINDOW, CaseStage, DisputeKind
from services.settlement.answering import Answering
from services.settlement.dispute_records import AnswerPolicy, DisputePolicy, DisputeState
from services.settlement.resolving import DEMAND_BOND_E4, QUARREL_BOND_E4
from tests.chains import KINDS, a_chain_world
from tests.settlement.accuser import Accuser
from tests.settlement.settling import open_settling
from tests.settlement.world import CPO, MSP

OVER: Final = ANSWER_WINDOW + timedelta(seconds=1)


@pytest.fixture(params=KINDS)
async def accuser(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Accuser]:
    async with a_chain_world(request.param, tmp_path) as chain, open_settling(chain=chain) as here:
        yield await Accuser.over(here)


async def test_a_leaf_that_is_demanded_is_shown_once_and_the_bond_is_seen(accuser: Accuser) -> None:
    before = await accuser.here.market.collateral_of(accuser.here.numbers[CPO])
    case = await accuser.demand()

    await accuser.here.follow()

    (row,) = await accuser.rows()
    assert (row.kind, row.party_id, row.cdr_id, row.state) == (DisputeKind.WITHHELD, MSP, "c1", DisputeState.ANSWERED)
    assert (row.bond_e4, row.turn_of, row.corrected_e4) == (DEMAND_BOND_E4, None, None)
    assert (await accuser.case(case)).stage is CaseStage.REVEALED
    assert await accuser.here.market.collateral_of(accuser.here.numbers[CPO]) == before + DEMAND_BOND_E4
    assert len(await accuser.calls()) == 1
    assert (await accuser.here.audit()).differences == ()
