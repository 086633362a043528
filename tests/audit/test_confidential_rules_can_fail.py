"""Confidential batches under audit: sound, then with one row or the chain changed, and the rule that says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest

from emobility.domain.batch import contracts
from emobility.ports.stores import TableSpec
from services.audit.audit import audited
from services.settlement.confidential import Confidential
from services.settlement.confidential_records import (
    CONFIDENTIAL_BATCH,
    CONFIDENTIAL_BOOK,
    PARTY_NET,
    SEALED_STATEMENT,
    ConfidentialBatchState,
)
from services.settlement.records import STATEMENT, TRANSACTION
from tests.settlement.hidden import Hidden
from tests.settlement.settling import open_settling

NETS: Final = "a party's net is the sum of its statements' nets"
ON_CHAIN: Final = "a confidential batch is on the chain as it is here"
VAULT: Final = "the vault holds what was paid in, settled and paid out"


@pytest.fixture
async def hidden() -> AsyncIterator[Hidden]:
    async with open_settling() as here:
        opened = Hidden(here)
        await opened.open()
        await opened.charge()
        await opened.follow()
        yield opened


async def broken(hidden: Hidden) -> set[str]:
    report, _ = await audited(hidden.here.world.ports, chain=hidden.here.chain.chain)
    return {each.rule for each in report.differences}


async def change(hidden: Hidden, spec: TableSpec[Any], **changes: Any) -> Any:
    """Change one row; return it as it was."""
    async with hidden.here.world.ports.units.begin() as unit:
        row = (await unit.table(spec).select(order_by=spec.key))[0]
        await unit.table(spec).put(replace(row, **changes))
        await unit.commit()
        return row


async def test_a_sound_settlement_breaks_no_rule_while_it_runs_and_after(hidden: Hidden) -> None:
    assert await broken(hidden) == set()

    await hidden.charge("again")
    confidential = Confidential(hidden.here.world.ports, hidden.here.access)
    await confidential.advance()

    states = {each.state for each in await hidden.batches()}
    assert states == {ConfidentialBatchState.SENDING, ConfidentialBatchState.FINAL}
    assert await broken(hidden) == set()


CHANGES: Final[list[tuple[TableSpec[Any], dict[str, Any], set[str]]]] = [
    (PARTY_NET, {"net_e4": 1}, {NETS, ON_CHAIN}),
    (PARTY_NET, {"signature": None, "signer": None}, {NETS, ON_CHAIN}),
    (PARTY_NET, {"signer": b"\1" * 20}, {ON_CHAIN}),
    (PARTY_NET, {"nonce": 9}, {ON_CHAIN}),
    (SEALED_STATEMENT, {"posted": b"\1" * 32}, {NETS}),
    (SEALED_STATEMENT, {"position": 900}, {NETS}),
    (SEALED_STATEMENT, {"by_msp": bytes(64)}, {ON_CHAIN}),
    (SEALED_STATEMENT, {"by_cpo": None}, {NETS, ON_CHAIN}),
    (SEALED_STATEMENT, {"struct_hash": b"\1" * 32}, {ON_CHAIN}),
    (SEALED_STATEMENT, {"batch_id": None, "position": None}, {NETS}),
    (CONFIDENTIAL_BATCH, {"state": ConfidentialBatchState.SENDING}, {NETS}),
    (CONFIDENTIAL_BATCH, {"settled_in": b"\1" * 32}, {ON_CHAIN}),
    (CONFIDENTIAL_BATCH, {"hashes": b"\1" * 256}, {NETS, ON_CHAIN}),
]


async def test_each_changed_row_is_found_by_its_rules(hidden: Hidden) -> None:
    for spec, changes, rules in CHANGES:
        row = await change(hidden, spec, **changes)

        assert await broken(hidden) == rules, (spec.name, changes)

        async with hidden.here.world.ports.units.begin() as unit:
            await unit.table(spec).put(row)
            await unit.commit()
    assert await broken(hidden) == set()


async def test_a_statement_that_says_more_is_found(hidden: Hidden) -> None:
    await change(hidden, STATEMENT, due_e4=99_999)

    assert NETS in await broken(hidden)


async def test_a_call_that_says_something_else_is_found(hidden: Hidden) -> None:
    await change(hidden, TRANSACTION, calldata=b"")

    assert await broken(hidden) == {NETS}


async def test_money_that_moved_by_nobody_s_statement_is_found(hidden: Hidden) -> None:
    await hidden.here.chain.final(
        await hidden.here.chain.sent((await hidden.euro()).vault, contracts.APPLY_NETS.call([1, 2], [-5, 5]))
    )

    assert await broken(hidden) == {VAULT}


async def test_a_batch_that_the_chain_does_not_have_is_found(hidden: Hidden) -> None:
    async with hidden.here.world.ports.units.begin() as unit:
        (book,) = await unit.table(CONFIDENTIAL_BOOK).select()
        await unit.table(CONFIDENTIAL_BOOK).put(replace(book, book=b"\1" * 20))
        await unit.commit()

    assert await broken(hidden) == {ON_CHAIN, VAULT}


async def test_a_batch_that_is_not_known_here_is_found(hidden: Hidden) -> None:
    (batch,) = await hidden.batches()
    async with hidden.here.world.ports.units.begin() as unit:
        await unit.table(CONFIDENTIAL_BATCH).delete(batch.batch_id)
        await unit.commit()
    await hidden.later(timedelta(0))

    assert ON_CHAIN in await broken(hidden)
