"""The credit of a struck charge is contested by the name that the charge's statement has in its book."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from emobility.domain.agreement import SettlementMode
from emobility.domain.batch import contracts
from emobility.domain.batch.disputes import Case, CaseStage, DisputeKind, StruckFor, case_id
from services.settlement.case_leaves import struct_hash_of
from services.settlement.cases import Sight
from services.settlement.closing import leaf_in_tree
from services.settlement.dispute_openings import opened_statement
from services.settlement.dispute_records import DISPUTE, RESOLVER, DisputeRecord, DisputeState, ResolverRecord
from services.settlement.disputing import Contest, Disputing
from services.settlement.records import LEAF, StatementRecord, TransactionKind
from tests.settlement.hidden import Hidden
from tests.settlement.settling import Settling, open_settling
from tests.settlement.world import CPO, MSP, a_cdr, a_credit, accepted, terms

RESOLVES: Final = b"\x05" * 20
STRUCK: Final = Sight(
    case=Case(
        stage=CaseStage.STRUCK,
        struck_for=StruckFor.SIGNATURE,
        deadline=datetime(1970, 1, 1, tzinfo=UTC),
        claimant=0,
        defendant=0,
        is_by_msp=False,
        pair=0,
        net_e4=0,
        claimed_e4=0,
        corrected_e4=0,
    ),
    at_s=0,
    demand_bond_e4=0,
)


async def struck(here: Settling, statement: StatementRecord, cdr_id: str) -> bytes:
    """Have a charge struck by a resolver that nobody asks here; return what its book calls the statement."""
    async with here.world.ports.units.begin() as unit:
        opened = await opened_statement(unit, here.world.ports.vault, statement)
        leaf = await unit.table(LEAF).get(CPO, cdr_id)
        assert leaf is not None
        struct_hash = await struct_hash_of(unit, statement)
        resolver = ResolverRecord(
            chain_id=opened.chain_id,
            book=opened.book,
            currency="EUR",
            is_confidential=opened.is_confidential,
            resolver=RESOLVES,
        )
        await unit.table(RESOLVER).put(resolver)
        dispute = DisputeRecord(
            case_id=case_id(struct_hash, leaf_in_tree(leaf)),
            kind=DisputeKind.METER_SIGNATURE,
            chain_id=opened.chain_id,
            party_id=MSP,
            cpo_id=CPO,
            emsp_id=MSP,
            cdr_id=cdr_id,
            statement_hash=statement.statement_hash,
            currency="EUR",
            resolver=RESOLVES,
            claimed_e4=None,
            state=DisputeState.DECIDED,
            says="",
            deadline=None,
            corrected_e4=-leaf.due_e4,
            waiting=None,
            raised_at=here.world.clock.now(),
            decided_at=here.world.clock.now(),
        )
        await unit.table(DISPUTE).put(dispute)
        await unit.commit()
    return struct_hash


@pytest.mark.parametrize("mode", [SettlementMode.PREFUNDED, SettlementMode.CONFIDENTIAL])
async def test_a_credit_names_the_statement_of_its_charge_as_the_book_does(
    mode: SettlementMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_settling() as here:
        hidden, charge = Hidden(here, mode), a_cdr("struck", cpo_id=CPO)
        await hidden.open()
        await here.world.take(accepted(charge, agreement=terms(CPO, MSP)))
        await hidden.charge()
        await hidden.follow()
        first = (await hidden.statements())[CPO, MSP]
        its_name = await struck(here, first, "struck")
        await hidden.later(timedelta(hours=1))
        await here.world.take(accepted(a_credit(charge), agreement=terms(CPO, MSP), at=here.world.clock.now()))
        await hidden.charge("t")
        await hidden.follow()
        second = (await hidden.statements())[CPO, MSP]
        disputing = Disputing(here.world.ports, here.access)

        async def look(_resolver: bytes, _case: bytes) -> Sight:
            return STRUCK

        monkeypatch.setattr(disputing._cases, "look", look)
        await disputing.contest(
            MSP,
            Contest(statement_hash=second.statement_hash, cdr_id="struck-C1", kind=DisputeKind.CREDIT_OF_STRUCK),
        )

        (call,) = [each for each in await here.transactions() if each.kind is TransactionKind.DISPUTE]
        assert second.sequence > first.sequence
        assert contracts.CONTEST_CREDIT.arguments(call.calldata)[2] == its_name
        assert (its_name == first.statement_hash) is (mode is SettlementMode.PREFUNDED)
