"""A party's word in a dispute that is wrong or too late is refused, and the right one takes the place of an old one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import pytest

from emobility.adapters.chain_signing import party_signer
from emobility.domain.batch.disputes import DisputeKind, Resolver, defence_digest, quarrel_digest
from emobility.domain.identifiers import PartyId
from services.settlement.acceptances import SignatureNotOfParty
from services.settlement.dispute_records import DISPUTE, RESOLVER, DisputeRecord, DisputeState, ResolverRecord
from services.settlement.disputing import Contest, Disputing, GivenWord, WordMissing
from services.settlement.records import TRANSACTION, TransactionKind, TransactionRecord, TransactionState
from tests.settlement.market import MASTER_KEY
from tests.settlement.settling import Settling, open_settling
from tests.settlement.world import CPO, MSP, a_cdr, accepted, terms

RESOLVES: Final = b"\x05" * 20
CLAIMED_E4: Final = 10_000
DAY: Final = timedelta(days=1)


@pytest.fixture
async def here() -> AsyncIterator[Settling]:
    """A final statement, and a resolver that nobody asks here."""
    async with open_settling() as opened:
        await opened.sign(terms())
        opened.numbers = await opened.market.prepare(opened.world.ports.units)
        await opened.world.take(accepted(a_cdr("dear", 15_000)))
        await opened.world.closing.close_now()
        await opened.follow()
        resolver = ResolverRecord(
            chain_id=opened.market.deployment.chain_id,
            book=opened.market.contracts.book,
            currency="EUR",
            is_confidential=False,
            resolver=RESOLVES,
        )
        async with opened.world.ports.units.begin() as unit:
            await unit.table(RESOLVER).put(resolver)
            await unit.commit()
        yield opened


async def contest(here: Settling, word: GivenWord | None = None) -> DisputeRecord:
    (statement,) = await here.world.statements()
    asked = Contest(
        statement_hash=statement.statement_hash,
        cdr_id="dear",
        kind=DisputeKind.PRICE,
        claimed_e4=CLAIMED_E4,
        word=word,
    )
    return await Disputing(here.world.ports, here.access).contest(MSP, asked)


async def a_word(here: Settling, row: DisputeRecord, *, by: PartyId = MSP, until: timedelta = DAY) -> GivenWord:
    deadline = (here.world.clock.now() + until).replace(microsecond=0)
    resolver = Resolver(chain_id=row.chain_id, address=RESOLVES)
    digest = quarrel_digest(
        resolver, case=row.case_id, party=here.numbers[MSP], claimed_e4=CLAIMED_E4, deadline=deadline
    )
    return GivenWord(deadline=deadline, signature=await party_signer(MASTER_KEY, by).sign_digest(digest))


async def queued(here: Settling) -> TransactionRecord:
    (row,) = [each for each in await here.transactions() if each.kind is TransactionKind.DISPUTE]
    return row


async def put(here: Settling, row: TransactionRecord) -> None:
    async with here.world.ports.units.begin() as unit:
        await unit.table(TRANSACTION).put(row)
        await unit.commit()


async def test_a_word_by_another_key_or_over_something_else_is_refused(here: Settling) -> None:
    raised = await contest(here)
    before = await queued(here)
    right = await a_word(here, raised)

    for wrong in (await a_word(here, raised, by=CPO), replace(right, deadline=right.deadline + DAY)):
        with pytest.raises(SignatureNotOfParty):
            await contest(here, wrong)
    with pytest.raises(WordMissing, match="is over"):
        await contest(here, await a_word(here, raised, until=-DAY))

    assert await queued(here) == before


async def test_a_new_word_takes_the_place_of_one_that_was_queued_and_not_of_one_that_was_signed(here: Settling) -> None:
    raised = await contest(here)
    old = replace(await queued(here), waiting="the book refuses: WordExpired")
    await put(here, old)
    word = await a_word(here, raised)

    await contest(here, word)
    renewed = await queued(here)
    sent = replace(renewed, state=TransactionState.SENT)
    await put(here, sent)
    await contest(here, await a_word(here, raised, until=2 * DAY))

    assert word.signature[:32] in renewed.calldata
    assert (renewed.state, renewed.waiting) == (TransactionState.QUEUED, None)
    assert await queued(here) == sent


async def test_a_defence_needs_the_other_side_s_word(here: Settling) -> None:
    raised = await contest(here)
    await put(here, replace(await queued(here), state=TransactionState.FINAL))
    async with here.world.ports.units.begin() as unit:
        await unit.table(DISPUTE).put(replace(raised, state=DisputeState.OPEN))
        await unit.commit()
    disputing = Disputing(here.world.ports, here.access)

    async def word(by: PartyId, deadline: datetime) -> GivenWord:
        resolver = Resolver(chain_id=raised.chain_id, address=RESOLVES)
        digest = defence_digest(resolver, case=raised.case_id, party=here.numbers[CPO], deadline=deadline)
        return GivenWord(deadline=deadline, signature=await party_signer(MASTER_KEY, by).sign_digest(digest))

    soon, later = (here.world.clock.now() + each for each in (DAY, 2 * DAY))
    with pytest.raises(SignatureNotOfParty):
        await disputing.defend(CPO, raised.case_id, await word(MSP, soon))
    await disputing.defend(CPO, raised.case_id, await word(CPO, soon))
    await disputing.defend(CPO, raised.case_id, last := await word(CPO, later))

    (defence,) = [each for each in await here.transactions() if each.transaction_id.endswith("/defence")]
    assert last.signature[:32] in defence.calldata
