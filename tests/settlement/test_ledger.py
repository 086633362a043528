"""What is final, proposed and unbatched adds up to what was accepted, and nets sum to zero."""

from __future__ import annotations

from emobility.domain.identifiers import PartyId
from services.settlement.ledger import settlement_ledger
from tests.settlement.settling import open_settling
from tests.settlement.world import CPO, MSP, a_cdr, a_credit, accepted, terms

OTHER_MSP = PartyId("NL-WIN")


async def test_money_is_where_its_statement_stands() -> None:
    async with open_settling() as here:
        others = terms(CPO, OTHER_MSP)
        await here.sign(terms(), others)
        await here.market.prepare(here.world.ports.units, without_cover=[OTHER_MSP])
        await here.world.take(
            accepted(a_cdr("s1")), accepted(a_credit(a_cdr("s1"))), accepted(a_cdr("s2", 7_000, wh=2_000))
        )
        await here.world.take(accepted(a_cdr("s3", 1_000), agreement=others))
        await here.world.closing.close_now()
        await here.follow()
        await here.world.take(accepted(a_cdr("s4", 500)))

        ledger = await settlement_ledger(here.world.ports.units)

    theirs, ours = ledger.pairs
    assert (ours.final_e4, ours.proposed_e4, ours.unbatched_e4, ours.accepted_e4) == (7_000, 0, 500, 7_500)
    assert (ours.final_wh, ours.final_cdrs, ours.cdrs, ours.statements) == (2_000, 3, 4, 1)
    assert (theirs.final_e4, theirs.proposed_e4) == (0, 1_000)
    assert {each.party_id: each.net_e4 for each in ledger.parties} == {CPO: 7_000, MSP: -7_000, OTHER_MSP: 0}
    (batch,) = ledger.batches
    assert (batch.pairs, batch.sessions) == (2, 4)
    assert ledger.gas_per_session == -(-batch.gas // 4)


async def test_where_nothing_was_accepted_nothing_is_settled() -> None:
    async with open_settling() as here:
        ledger = await settlement_ledger(here.world.ports.units)

    assert (ledger.pairs, ledger.parties, ledger.batches, ledger.gas_per_session) == ((), (), (), 0)
