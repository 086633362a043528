"""A settlement over PostgreSQL and a chain, in memory and real: sound, then with a row or the chain changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from emobility.adapters.chain_signing import party_signer
from emobility.domain.agreement import SettlementMode
from emobility.domain.batch.abi import Function
from emobility.domain.batch.calls import discharge_call
from emobility.domain.batch.typed_data import discharge_digest
from emobility.domain.identifiers import PartyId
from emobility.events.settlement import SETTLEMENT
from emobility.ports.chain import ChainUnavailable
from services.audit.audit import audited
from services.audit.books import gather_books
from services.audit.chain_sight import BookSight, look_at_chain
from services.audit.report import AuditReport
from services.settlement.deployment import CurrencyContracts
from services.settlement.opening import PLAY_MONEY_E4
from services.settlement.payables import take_final_statements
from services.settlement.records import (
    ACCEPTANCE,
    BATCH,
    LEAF,
    OPENING,
    STATEMENT,
    TRANSACTION,
    StatementState,
)
from tests.audit.test_settlement_rules_can_fail import (
    ACCEPTED,
    AGREEMENTS,
    BATCHES,
    CHAIN,
    COMMITMENTS,
    CREDITS,
    FINAL,
    SIGNED,
    STATEMENTS,
    TRANSACTIONS,
    VAULT,
)
from tests.chains import DEADLINE_S, ChainWorld, FakeWorld, an_anvil
from tests.settlement.settling import Settling, open_settling
from tests.settlement.world import CPO, MASTER_KEY, MSP, a_cdr, a_credit, accepted, terms

OTHER_MSP: Final = PartyId("NL-WIN")
ON_CREDIT: Final = terms(CPO, OTHER_MSP, settlement_mode=SettlementMode.CREDIT_LINE, credit_limit_e4=100_000)
REQUEST_WITHDRAWAL: Final = Function("requestWithdrawal(uint32,uint128)")
WITHDRAW: Final = Function("withdraw(uint32)")
ETHER: Final = 10**18
OWED_E4: Final = 60_000


@asynccontextmanager
async def settled(dsn: str, chain: ChainWorld) -> AsyncIterator[Settling]:
    """Two pairs, one prefunded and one on credit, with a final statement each."""
    async with open_settling(dsn, chain) as here:
        await here.sign(terms(), ON_CREDIT)
        await settle(here)
        await here.world.take(accepted(a_cdr("s1")), accepted(a_cdr("s2")), accepted(a_credit(a_cdr("s2"))))
        await here.world.take(accepted(a_cdr("s3", OWED_E4), agreement=ON_CREDIT))
        await here.world.closing.close_now()
        await settle(here)
        yield here


@pytest.fixture
async def here(postgres_dsn: str) -> AsyncIterator[Settling]:
    async with settled(postgres_dsn, FakeWorld()) as opened:
        yield opened


async def settle(here: Settling) -> None:
    """Follow until nothing moves, all is final, and asked for."""
    follower = here.follower(opens=True)
    async with asyncio.timeout(DEADLINE_S):
        while await follower.step() or await unsettled(here):  # noqa: ASYNC110 - rows tell nobody
            await asyncio.sleep(0)
    async with here.world.ports.units.begin() as unit:
        await take_final_statements(unit, [logged async for logged in here.world.ports.event_log.read([SETTLEMENT])])
        await unit.commit()


async def unsettled(here: Settling) -> bool:
    return any(each.state is not StatementState.FINAL for each in await here.world.statements())


async def report_of(here: Settling) -> AuditReport:
    report, _ = await audited(here.world.ports, chain=here.chain.chain)
    return report


async def broken(here: Settling) -> set[str]:
    """Return the rules that an audit finds broken."""
    return {each.rule for each in (await report_of(here)).differences}


async def contracts_of(here: Settling) -> CurrencyContracts:
    books = await gather_books(here.world.ports.units, here.world.ports.event_log)
    (deployed,) = books.settlement.deployments
    (euro,) = deployed.deployment.currencies
    return euro


async def seen(here: Settling) -> BookSight:
    books = await gather_books(here.world.ports.units, here.world.ports.event_log)
    return (await look_at_chain(here.chain.chain, books)).books["EUR"]


async def number_of(here: Settling, party_id: PartyId) -> int:
    books = await gather_books(here.world.ports.units, here.world.ports.event_log)
    (party,) = [each for each in books.settlement.parties if each.party_id == party_id]
    return party.number or 0


async def pay_by_bank(here: Settling, amount_e4: int) -> bytes:
    """Have the pair on credit sign a discharge; return its agreement."""
    books = await gather_books(here.world.ports.units, here.world.ports.event_log)
    (opening,) = [each for each in books.settlement.openings if each.emsp_id == OTHER_MSP]
    agreement, (deployed,) = opening.book_agreement or b"", books.settlement.deployments
    book = deployed.deployment.book("EUR")
    assert book is not None
    digest = discharge_digest(book, agreement=agreement, number=0, amount_e4=amount_e4)
    signatures = [await party_signer(MASTER_KEY, each).sign_digest(digest) for each in (CPO, OTHER_MSP)]
    by_cpo, by_msp = signatures
    call = discharge_call(agreement, amount_e4, by_cpo=by_cpo, by_msp=by_msp)
    await here.chain.final(await here.chain.sent(book.address, call))
    return agreement


async def test_rows_and_chain_agree_also_when_money_came_in_and_was_paid_by_bank(here: Settling) -> None:
    cpo, msp = await number_of(here, CPO), await number_of(here, MSP)
    await here.market.deployer.deposit(await contracts_of(here), {msp: PLAY_MONEY_E4})
    agreement = await pay_by_bank(here, 20_000)

    report, sight = await report_of(here), await seen(here)

    assert report.differences == ()
    assert report.is_full
    compared = {each.rule: each.compared for each in report.checks}
    assert all(compared[rule] for rule in (CREDITS, CHAIN, SIGNED, FINAL, VAULT, AGREEMENTS, COMMITMENTS))
    assert sight.agreements[agreement].owed_e4 == OWED_E4 - 20_000
    assert sight.deposited == {cpo: PLAY_MONEY_E4, msp: PLAY_MONEY_E4 + 15_000}
    assert sight.collateral == {cpo: PLAY_MONEY_E4 + 15_000, msp: PLAY_MONEY_E4}


@pytest.mark.chain
async def test_a_real_chain_is_read_as_one_in_memory_with_what_a_party_took_out(
    postgres_dsn: str, tmp_path: Path
) -> None:
    async with an_anvil(tmp_path / "chain") as chain, settled(postgres_dsn, chain) as here:
        vault, number, signer = (
            (await contracts_of(here)).vault,
            await number_of(here, MSP),
            party_signer(MASTER_KEY, MSP),
        )
        await pay_by_bank(here, 20_000)
        await chain.server._call("anvil_setBalance", f"0x{signer.address.hex()}", hex(ETHER))
        await chain.final(await chain.sent(vault, REQUEST_WITHDRAWAL.call(number, 700), by=signer))
        chain.clock.step_by(timedelta(days=3))
        await chain.final(await chain.sent(vault, WITHDRAW.call(number), by=signer))

        report, sight = await report_of(here), await seen(here)
        async with here.world.ports.units.begin() as unit:
            first = (await unit.table(STATEMENT).select(order_by=STATEMENT.key))[0]
            await unit.table(STATEMENT).put(replace(first, state=StatementState.UNFUNDED, final_at=None))
            await unit.commit()
        changed = await broken(here)
        await chain.restart_without_state()
        strange = await broken(here)

    assert report.differences == ()
    assert sight.withdrawn == {number: 700}
    assert sight.collateral[number] == PLAY_MONEY_E4 - 15_000 - 700
    assert {FINAL, AGREEMENTS} <= changed
    assert (CHAIN in changed, CHAIN in strange, FINAL in strange) == (False, True, False)


async def test_what_was_changed_in_the_database_is_found(here: Settling) -> None:
    """Each row is changed by itself and put back."""
    other = {"evidence_root": b"\1" * 32}
    cases: list[tuple[Any, dict[str, Any], set[str]]] = [
        (LEAF, {"due_e4": 1, "credit_e4": 0}, {STATEMENTS}),
        (LEAF, {"commitment": b"\1" * 32}, {STATEMENTS}),
        (LEAF, {"cdr_key": b"\1" * 32}, {STATEMENTS, COMMITMENTS}),
        (STATEMENT, {"due_e4": 1}, {STATEMENTS, BATCHES, TRANSACTIONS}),
        (STATEMENT, other, {STATEMENTS, BATCHES, TRANSACTIONS}),
        (STATEMENT, {"state": StatementState.UNFUNDED}, {BATCHES, FINAL, AGREEMENTS}),
        (BATCH, {"pairs_hash": b"\1" * 32}, {BATCHES, SIGNED, FINAL}),
        (BATCH, {"proposed_in": b"\1" * 32}, {TRANSACTIONS}),
        (ACCEPTANCE, {"signature": bytes(64)}, {SIGNED, TRANSACTIONS}),
        (ACCEPTANCE, {"pairs": bytes(32)}, {ACCEPTED, SIGNED, TRANSACTIONS}),
        (TRANSACTION, {"block_hash": b"\1" * 32}, {FINAL}),
        (OPENING, {"credit_limit_e4": 7}, {AGREEMENTS}),
    ]
    units = here.world.ports.units
    for spec, changes, expected in cases:
        async with units.begin() as unit:
            row = (await unit.table(spec).select(order_by=spec.key))[0]
            await unit.table(spec).put(replace(row, **changes))
            await unit.commit()

        found = await broken(here)

        async with units.begin() as unit:
            await unit.table(spec).put(row)
            await unit.commit()
        assert expected <= found, (spec.name, changes, found)
    assert await broken(here) == set()


async def test_a_chain_that_fell_back_is_not_the_one_that_was_recorded(here: Settling) -> None:
    await here.chain.restart_without_state()

    found = await report_of(here)

    assert {each.rule for each in found.differences} == {CHAIN}


async def test_a_chain_that_does_not_answer_ends_a_full_audit(here: Settling) -> None:
    await here.chain.stop()

    with pytest.raises(ChainUnavailable):
        await audited(here.world.ports, chain=here.chain.chain)
