"""Roots of others on the chain: each once, told when final, whatever the chain does in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from emobility.domain.batch import contracts
from emobility.domain.identifiers import PartyId
from emobility.events.anchoring import ANCHORING, Anchored, AnchorRequested
from services.settlement.anchoring import ANCHOR, RootChanged, handle_requests
from services.settlement.crash_points import CrashPoint
from services.settlement.records import TRANSACTION, TransactionState
from tests.chains import DEADLINE_S, an_anvil
from tests.settlement.settling import Crashed, Settling, open_settling
from tests.settlement.world import T0, logged, terms

HUB = PartyId("NL-HUB")
KIND, ROOT = b"\x11" * 32, b"\x22" * 32
DAY = T0.replace(hour=0, minute=0, second=0, microsecond=0)
ASKED = AnchorRequested(kind=KIND, party_id=HUB, period_start=DAY, root=ROOT, requested_at=T0)


@pytest.fixture
async def here(dsn: str | None) -> AsyncIterator[Settling]:
    async with open_settling(dsn) as opened:
        await opened.sign(terms())  # so that there are contracts
        yield opened


async def ask(here: Settling, *events: AnchorRequested) -> None:
    async with here.world.ports.units.begin() as unit:
        await handle_requests(unit, logged(events))
        await unit.commit()


async def told(here: Settling) -> list[Anchored]:
    events = [each.envelope.event async for each in here.world.ports.event_log.read([ANCHORING])]
    return [event for event in events if isinstance(event, Anchored)]


async def root_on_chain(here: Settling, event: Anchored) -> bytes:
    number = contracts.NUMBER_OF.call(b"NL", b"HUB")
    deployment = await here.follower(opens=True)._openings.books.deployment()  # type: ignore[union-attr]
    assert deployment is not None
    (party,) = contracts.NUMBER_OF.answer(await here.chain.chain.call(deployment.registry, number))
    asked = contracts.ROOT_OF.call(KIND, party, int(event.period_start.timestamp()))
    (root,) = contracts.ROOT_OF.answer(await here.chain.chain.call(event.contract, asked))
    return bytes(root)


async def test_a_root_that_is_asked_for_is_recorded_once_and_told_when_it_is_final(here: Settling) -> None:
    await ask(here, ASKED, ASKED)

    await here.follow(here.follower(opens=True))
    await ask(here, ASKED)
    await here.follow(here.follower(opens=True))

    [event] = await told(here)
    assert (event.kind, event.party_id, event.period_start, event.root) == (KIND, HUB, DAY, ROOT)
    assert await root_on_chain(here, event) == ROOT
    rows = [row for row in await here.transactions() if row.kind == "ANCHOR"]
    assert [row.state for row in rows] == [TransactionState.FINAL]


@pytest.mark.chain
async def test_the_contract_itself_records_it(tmp_path: Path) -> None:
    async with an_anvil(tmp_path) as chain, open_settling(chain=chain) as here:
        await here.sign(terms())
        await ask(here, ASKED)

        async with asyncio.timeout(DEADLINE_S):
            while not await told(here):
                await here.follower(opens=True).step()

        [event] = await told(here)
        assert await root_on_chain(here, event) == ROOT


async def test_another_root_for_the_same_period_is_refused(here: Settling) -> None:
    await ask(here, ASKED)

    with pytest.raises(RootChanged):
        await ask(here, replace(ASKED, root=b"\x33" * 32))


@pytest.mark.parametrize("point", list(CrashPoint))
async def test_whatever_dies_in_between_a_root_is_recorded_once(here: Settling, point: CrashPoint) -> None:
    await ask(here, ASKED, replace(ASKED, period_start=DAY + timedelta(days=1), root=b"\x33" * 32))
    try:
        await here.follow(here.follower(opens=True, dies_at=point))
    except Crashed:
        await here.follow(here.follower(opens=True))

    assert sorted(event.root for event in await told(here)) == [ROOT, b"\x33" * 32]


async def test_a_forgotten_transaction_is_found_on_the_chain_again(here: Settling) -> None:
    await ask(here, ASKED)
    await here.follow(here.follower(opens=True))
    async with here.world.ports.units.begin() as unit:
        for row in await unit.table(TRANSACTION).select():
            await unit.table(TRANSACTION).delete(row.transaction_id)
        for anchor in await unit.table(ANCHOR).select():
            await unit.table(ANCHOR).delete(anchor.party_id, anchor.kind, anchor.period_start)
        await unit.commit()
    await ask(here, ASKED)

    await here.follow(here.follower(opens=True))

    first, second = await told(here)
    assert first.transaction == second.transaction
    assert first.root == await root_on_chain(here, second)


async def test_without_contracts_a_root_waits_and_says_so() -> None:
    async with open_settling() as here:
        await ask(here, ASKED)
        await here.follow(here.follower(opens=True))

        async with here.world.ports.units.begin() as unit:
            [row] = await unit.table(ANCHOR).select()
        assert row.waiting == "no contracts are known on this chain"
