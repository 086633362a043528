"""The same of a confidential book, whose resolver names a pair by its parties' numbers alone; on a real chain."""

from __future__ import annotations

from pathlib import Path

import pytest

from emobility.domain.batch.disputes import CaseStage, DisputeKind
from services.settlement.confidential_records import CONFIDENTIAL_BOOK
from services.settlement.dispute_records import DisputeState
from services.settlement.resolving import DEMAND_BOND_E4, QUARREL_BOND_E4
from tests.chains import an_anvil
from tests.settlement.accuser import Accuser
from tests.settlement.hidden import Hidden
from tests.settlement.settling import open_settling
from tests.settlement.world import CPO, MSP

pytestmark = [pytest.mark.chain, pytest.mark.long]


async def test_a_leaf_of_a_confidential_statement_is_shown_when_it_is_demanded(tmp_path: Path) -> None:
    async with an_anvil(tmp_path) as chain, open_settling(chain=chain) as here:
        hidden = Hidden(here)
        await hidden.open()
        await hidden.charge()
        await hidden.follow()
        async with here.world.ports.units.begin() as unit:
            (book,) = await unit.table(CONFIDENTIAL_BOOK).select()
        resolver = await here.market.deployer.deploy_resolver(
            "ConfidentialDisputes",
            book=book.book,
            vault=book.vault,
            demand_bond_e4=DEMAND_BOND_E4,
            quarrel_bond_e4=QUARREL_BOND_E4,
        )
        here.numbers = {each: await hidden.number(each) for each in (CPO, MSP)}
        await Accuser.let_go(here, MSP)
        accuser = Accuser(here, resolver)
        statement = (await hidden.statements())[CPO, MSP]
        case = await accuser.demand(f"s-{MSP.party_id}", statement=statement)

        await here.follow(here.follower(opens=True))

        (row,) = await accuser.rows()
        assert (row.kind, row.party_id, row.cdr_id) == (DisputeKind.WITHHELD, MSP, f"s-{MSP.party_id}")
        assert (row.state, row.bond_e4) == (DisputeState.ANSWERED, DEMAND_BOND_E4)
        assert (await accuser.case(case)).stage is CaseStage.REVEALED
