"""A partner that does not sign, does not pay or objects: its own pair waits, all others become final on time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Final

import pytest

from emobility.adapters.chain_signing import LocalChainSigner
from emobility.domain.batch import contracts
from emobility.domain.batch.calls import Acceptance, accept_call
from emobility.domain.batch.statement import batch_tree
from emobility.domain.batch.typed_data import acceptance_digest
from emobility.domain.identifiers import PartyId
from services.settlement.acceptances import AlreadyAccepted, GivenAcceptance
from services.settlement.batching import book_of
from services.settlement.closing import pair_statement
from services.settlement.deployment import ACCEPTANCE_WINDOW_S, CHALLENGE_BOND_E4
from services.settlement.records import BatchRecord, StatementRecord, StatementState, TransactionKind
from services.settlement.windows import CLOCK_SKEW
from tests.settlement.settling import Settling, open_settling
from tests.settlement.world import CPO, a_cdr, accepted, terms

PARTNERS: Final = tuple(PartyId.of("NL", f"M{number:02}") for number in range(20))
SILENT, UNFUNDED, HOSTILE, OTHER = PARTNERS[:4]
KEYS: Final = {SILENT: LocalChainSigner(b"\x11" * 32), HOSTILE: LocalChainSigner(b"\x12" * 32)}
"""Of those that keep their own."""
TIME_TO_SIGN: Final = timedelta(hours=terms().dispute_period_h)
WINDOW: Final = timedelta(seconds=ACCEPTANCE_WINDOW_S)
COST_E4: Final = 15_000


@pytest.fixture
async def here() -> AsyncIterator[Settling]:
    async with open_settling() as opened:
        opened.chain.clock.step_by(opened.world.clock.now() - opened.chain.clock.now())
        yield opened


async def trade(here: Settling, *partners: PartyId) -> None:
    """Have each partner's driver charge once, and close."""
    agreements = {each: terms(CPO, each) for each in partners}
    for each, agreement in agreements.items():
        await here.sign(agreement, outside=each if each in KEYS else None)
    here.numbers = await here.market.prepare(here.world.ports.units, without_cover=[UNFUNDED], keys=dict(KEYS))
    await here.world.take(
        *(accepted(a_cdr(f"s-{each}", COST_E4), agreement=agreement) for each, agreement in agreements.items())
    )
    await here.world.closing.close_now()
    await here.follow()


async def wait(here: Settling, time: timedelta) -> None:
    """Let time pass, at the chain, too."""
    here.world.clock.step_by(time)
    here.chain.clock.step_by(time)
    await here.follow()


async def states(here: Settling) -> dict[PartyId, StatementState]:
    return {each.emsp_id: each.state for each in await here.world.statements()}


async def of(here: Settling, partner: PartyId) -> tuple[StatementRecord, BatchRecord]:
    (statement,) = [each for each in await here.world.statements() if each.emsp_id == partner]
    (batch,) = [each for each in await here.batches() if each.batch_id == statement.batch_id]
    return statement, batch


async def signature(here: Settling, partner: PartyId) -> bytes:
    _, batch = await of(here, partner)
    digest = acceptance_digest(
        book_of(batch),
        batch_id=batch.batch_id,
        pairs_hash=batch.pairs_hash,
        party=here.numbers[partner],
        pairs=1,
    )
    return await KEYS[partner].sign_digest(digest)


async def challenge(here: Settling, partner: PartyId) -> None:
    statement, batch = await of(here, partner)
    pair = pair_statement(statement)
    siblings = batch_tree([pair]).proof(0).siblings
    call = contracts.CHALLENGE.call((pair.figures, pair.roots), (batch.batch_id, 0, 1, siblings))
    sent = await here.chain.sent(batch.book, call, by=KEYS[partner])
    assert (await here.chain.final(sent)).has_succeeded


async def test_one_silent_one_unfunded_and_one_hostile_partner_of_twenty_hold_up_nobody(here: Settling) -> None:
    await trade(here, *PARTNERS)

    first = await states(here)
    others = set(PARTNERS) - {SILENT, UNFUNDED, HOSTILE}
    assert {first[each] for each in others} == {StatementState.FINAL}
    assert first[UNFUNDED] is StatementState.UNFUNDED
    assert {first[each] for each in KEYS} == {StatementState.CLOSED}

    await wait(here, TIME_TO_SIGN - timedelta(seconds=1))
    assert {(await states(here))[each] for each in KEYS} == {StatementState.CLOSED}
    await wait(here, timedelta(seconds=1))
    assert {(await states(here))[each] for each in KEYS} == {StatementState.RIPENING}
    await challenge(here, HOSTILE)
    await wait(here, WINDOW - timedelta(hours=1))
    assert (await states(here))[SILENT] is StatementState.RIPENING
    await wait(here, timedelta(hours=1) + 10 * CLOCK_SKEW)

    last = await states(here)
    assert last[SILENT] is StatementState.FINAL
    assert last[HOSTILE] is StatementState.CHALLENGED
    assert last[UNFUNDED] is StatementState.UNFUNDED
    assert await here.market.collateral_of(here.numbers[SILENT]) == 10**9 - COST_E4
    assert (await here.audit()).differences == ()


async def test_who_signs_late_need_not_wait_for_the_window(here: Settling) -> None:
    await trade(here, SILENT)
    await wait(here, TIME_TO_SIGN)
    statement, batch = await of(here, SILENT)
    given = GivenAcceptance(
        chain_id=batch.chain_id, book=batch.book, batch_id=batch.batch_id, signature=await signature(here, SILENT)
    )

    await here.acceptances.take(SILENT, statement.statement_hash, given)
    await here.follow()

    assert await states(here) == {SILENT: StatementState.FINAL}
    assert [each.kind for each in await here.transactions()] == [TransactionKind.PROPOSE, TransactionKind.ACCEPT]


async def test_a_signature_after_the_window_is_not_taken(here: Settling) -> None:
    await trade(here, SILENT)
    await wait(here, TIME_TO_SIGN)
    statement, batch = await of(here, SILENT)
    given = GivenAcceptance(
        chain_id=batch.chain_id, book=batch.book, batch_id=batch.batch_id, signature=await signature(here, SILENT)
    )
    await wait(here, WINDOW + CLOCK_SKEW)

    with pytest.raises(AlreadyAccepted):
        await here.acceptances.take(SILENT, statement.statement_hash, given)


async def test_a_challenge_that_is_taken_back_is_noted(here: Settling) -> None:
    await trade(here, HOSTILE)
    await wait(here, TIME_TO_SIGN)
    await challenge(here, HOSTILE)
    await here.follow()
    statement, batch = await of(here, HOSTILE)
    challenged = statement.state
    word = Acceptance(party=here.numbers[HOSTILE], pairs=1, signature=await signature(here, HOSTILE))
    call = accept_call(batch.batch_id, [pair_statement(statement)], [word])
    await here.chain.final(await here.chain.sent(batch.book, call))

    await here.follow()

    assert challenged is StatementState.CHALLENGED
    assert await states(here) == {HOSTILE: StatementState.FINAL}
    assert await here.market.collateral_of(here.numbers[HOSTILE]) == 10**9 - COST_E4


@pytest.mark.parametrize(
    ("is_upheld", "state", "cost_e4"),
    [(True, StatementState.VOID, 0), (False, StatementState.FINAL, COST_E4 + CHALLENGE_BOND_E4)],
)
async def test_a_verdict_voids_a_statement_or_makes_it_final(
    here: Settling, *, is_upheld: bool, state: StatementState, cost_e4: int
) -> None:
    await trade(here, HOSTILE)
    await wait(here, TIME_TO_SIGN)
    await challenge(here, HOSTILE)
    statement, batch = await of(here, HOSTILE)
    payer = here.chain.payer
    grant = contracts.GRANT_ROLE.call(contracts.RESOLVER_ROLE, payer.address)
    await here.chain.final(await here.chain.sent(batch.book, grant))
    pair = pair_statement(statement)
    verdict = contracts.DECIDE_CHALLENGE.call((pair.figures, pair.roots), (batch.batch_id, 0, 1, ()), is_upheld)
    await here.chain.final(await here.chain.sent(batch.book, verdict))

    await here.follow()

    assert await states(here) == {HOSTILE: state}
    assert await here.market.collateral_of(here.numbers[HOSTILE]) == 10**9 - cost_e4
