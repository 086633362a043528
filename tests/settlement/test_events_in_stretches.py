"""Events are asked for in stretches that a node answers, however long its chain is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from emobility.domain.agreement import SettlementMode
from emobility.domain.batch import contracts
from emobility.ports.chain import STRETCH_BLOCKS, Chain, Log
from services.audit.audit import audited
from services.settlement.confidential_records import CONFIDENTIAL_BOOK, ConfidentialBookRecord
from services.settlement.dispute_records import RESOLVER, ResolverRecord
from services.settlement.money_records import DISCHARGE, DischargeState
from services.settlement.records import OPENING, TransactionKind, TransactionRecord, TransactionState
from tests.banking.bank_files import entry
from tests.settlement.bank_desk import TODAY, Desk
from tests.settlement.settling import Settling, open_settling
from tests.settlement.world import a_cdr, accepted, terms

BESU_MAX = 1_000
"""`--rpc-max-logs-range`, as Besu has it by itself."""


class BesuChain:
    """A chain that tells of no more blocks at once."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chain, name)

    async def logs(
        self, address: bytes, topics: Sequence[bytes | None], *, from_block: int, to_block: int
    ) -> Sequence[Log]:
        self.asked += 1
        assert to_block - from_block < BESU_MAX, "Requested range exceeds maximum RPC range limit"
        return await self._chain.logs(address, topics, from_block=from_block, to_block=to_block)


@pytest.fixture
async def here() -> AsyncIterator[Settling]:
    async with open_settling() as opened:
        yield opened


def grow(here: Settling) -> None:
    here.fake.fake.mine(2 * BESU_MAX)
    here.fake.chain = BesuChain(here.fake.fake)


async def forget(here: Settling, kind: TransactionKind) -> None:
    def earlier(row: TransactionRecord) -> TransactionRecord:
        if row.kind is not kind:
            return row
        queued = replace(row, state=TransactionState.QUEUED, nonce=None, raw=None, hash=None)
        return replace(queued, block_number=None, block_hash=None, gas_used=None)

    await here.restore(earlier)


async def test_all_events_are_found_in_order_and_the_newest_from_behind(here: Settling) -> None:
    await here.sign(terms())
    await here.market.prepare(here.world.ports.units)
    fake, book = here.fake.fake, here.market.contracts.book
    for number in range(3):
        await here.world.take(accepted(a_cdr(f"s{number}")))
        await here.world.closing.close_now()
        await here.follow()
        fake.mine(STRETCH_BLOCKS - 2)
    head, topics = (await fake.head()).number, [contracts.BATCH_PROPOSED.topic]
    every = list(await fake.logs(book, topics, from_block=0, to_block=head))
    here.fake.chain = BesuChain(fake)

    assert len(every) == 3
    assert await here.access.logs(book, topics, first=0, last=head) == every
    assert await here.access.newest_log(book, topics) == every[-1]
    assert await here.access.newest_log(book, [every[0].topics[0], every[0].topics[1]]) == every[0]
    assert await here.access.newest_log(book, [bytes(32)]) is None


async def test_a_proposal_and_an_agreement_that_the_rows_forgot_are_found(here: Settling) -> None:
    await here.sign(terms())
    await here.market.prepare(here.world.ports.units)
    await here.world.take(accepted(a_cdr("s1")))
    await here.world.closing.close_now()
    await here.follow()
    await forget(here, TransactionKind.PROPOSE)
    async with here.world.ports.units.begin() as unit:
        (opening,) = await unit.table(OPENING).select()
        await unit.table(OPENING).put(replace(opening, book_agreement=None))
        await unit.commit()
    grow(here)

    await here.follow()

    assert {each.state for each in await here.transactions()} == {TransactionState.FINAL}
    async with here.world.ports.units.begin() as unit:
        assert (await unit.table(OPENING).select())[0].book_agreement == opening.book_agreement


async def test_a_discharge_that_the_rows_forgot_is_found(here: Settling) -> None:
    desk = Desk(here)
    await desk.open()
    await desk.charge("s1", 1_000_000)
    await desk.settle()
    await desk.export()
    await desk.arrives(entry((await desk.payout()).end_to_end_id, "121.00", reference="B-1", on=TODAY))
    for _ in range(2):  # sent, and seen to be final
        await here.follow()
    await forget(here, TransactionKind.DISCHARGE)
    async with here.world.ports.units.begin() as unit:
        (known,) = await unit.table(DISCHARGE).select()
        await unit.table(DISCHARGE).put(replace(known, state=DischargeState.SENDING))
        await unit.commit()
    grow(here)

    for _ in range(2):  # refused, and looked for
        await here.follow()

    async with here.world.ports.units.begin() as unit:
        (found,) = await unit.table(DISCHARGE).select()
    assert (known.state, found.state) == (DischargeState.FINAL, DischargeState.FINAL)


@pytest.mark.parametrize("mode", [SettlementMode.OFF_CHAIN, SettlementMode.CONFIDENTIAL])
async def test_an_agreement_that_no_book_knows_is_not_looked_for(here: Settling, mode: SettlementMode) -> None:
    await here.sign(terms(settlement_mode=mode))
    grow(here)

    await here.follower()._adopting._adopt_openings()

    assert isinstance(here.chain.chain, BesuChain)
    assert here.chain.chain.asked == 0


async def test_an_audit_asks_each_contract_in_stretches(here: Settling) -> None:
    await here.sign(terms())
    await here.market.prepare(here.world.ports.units)
    await here.store_deployment()
    found = here.market.contracts
    nowhere = bytes(20)
    one: dict[str, Any] = {"chain_id": await here.chain.chain.chain_id(), "currency": "EUR"}
    async with here.world.ports.units.begin() as unit:
        resolver = ResolverRecord(**one, book=found.book, is_confidential=False, resolver=nowhere)
        await unit.table(RESOLVER).put(resolver)
        hidden = ConfidentialBookRecord(**one, book=nowhere, registry=nowhere, vault=found.vault)
        await unit.table(CONFIDENTIAL_BOOK).put(hidden)
        await unit.commit()
    grow(here)

    report, _ = await audited(here.world.ports, chain=here.chain.chain)

    assert report.differences == ()
    assert isinstance(here.chain.chain, BesuChain)
    assert here.chain.chain.asked > 3 * len((nowhere, found.book, found.vault))
