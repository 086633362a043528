"""What a verdict took out of a batch is stated anew, once and without what was proven wrong; nothing is lost."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from emobility.adapters.memory import run_virtual
from emobility.domain.batch.disputes import DisputeKind, duplicate_call
from emobility.domain.batch.trees import HashTree
from emobility.domain.cdr import CDR
from emobility.domain.errors import EmobilityError
from emobility.domain.identifiers import PartyId
from emobility.events.settlement import StatementClosed, StatementFinal
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.cdr_standing import Stage
from emobility.runtime.telemetry import Metrics
from services.audit.whereabouts import TAKEN_OUT
from services.settlement.adopting import LOOK_EVERY_S
from services.settlement.crash_points import CrashPoint
from services.settlement.exposure import exposures_of
from services.settlement.metrics import SettlementMetrics
from services.settlement.proving import Proving
from services.settlement.records import LEAF, PARTY, STATEMENT, SigningPolicy, StatementState
from services.settlement.restating import (
    NUMBER_TAKEN,
    WAITS_FOR_WORD,
    CountsElsewhere,
    NotAmongItsCDRs,
    NotHeld,
    NothingToRestate,
    NotTheCPO,
    Restating,
)
from services.settlement.restating_records import HELD, VOIDED, HeldCDR, VoidedStatement
from services.settlement.service import Follower
from tests.chains import FakeWorld, a_ledger, an_anvil
from tests.settlement.challenger import HOSTILE, TIME_TO_SIGN, WINDOW, Challenger
from tests.settlement.settling import Crashed, Settling, open_settling
from tests.settlement.test_restored import backed_up
from tests.settlement.world import CPO, MSP, a_cdr, a_credit, accepted, terms

C1, C2, C3 = a_cdr("c1", 1_000), a_cdr("c2", 20_000), a_cdr("c3", 300_000)
HEADERS: Final = {"Authorization": f"Bearer {'i' * 40}"}
SEEDS: Final = 1_000 if "WATTROAM_SOAK" in os.environ else 15
MOVES: Final = 80
ROUNDS_MAX: Final = 60
LOOKS: Final = 4
IN_THE_BOOK: Final = (StatementState.RIPENING, StatementState.CHALLENGED)
FINALITY: Final = 8


@pytest.fixture
async def pair() -> AsyncIterator[Challenger]:
    async with open_settling() as here:
        yield await Challenger.of(here)


def restating(here: Settling) -> Restating:
    return Restating(here.world.ports, here.access, here.world.closing, SettlementMetrics(Metrics()))


async def held(here: Settling) -> list[HeldCDR]:
    async with here.world.ports.units.begin() as unit:
        return await unit.table(HELD).select()


async def voided(here: Settling) -> list[VoidedStatement]:
    async with here.world.ports.units.begin() as unit:
        return await unit.table(VOIDED).select(order_by=("restated_at",))


async def in_statements(here: Settling) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {each.sequence: set() for each in await here.world.statements()}
    for leaf in await here.world.leaves():
        if leaf.sequence is not None:
            found[leaf.sequence].add(leaf.cdr_id)
    return found


async def assert_audited(here: Settling, *, waiting: tuple[str, ...] = ()) -> None:
    report = await here.audit()
    assert (report.differences, report.why_quick) == ((), None)
    assert tuple(each.reason for each in report.waiting) == waiting


async def proven_wrong(pair: Challenger) -> bytes:
    """Have three CDRs stated, and the second one proven wrong; return the statement."""
    await pair.state(C1, C2, C3, unsigned=["c2"])
    statement = await pair.challenge()
    await pair.prove("c2", statement)
    return statement.statement_hash


async def test_the_rest_is_stated_again_under_the_number_that_is_free_and_settled(dsn: str | None) -> None:
    async with open_settling(dsn) as here:
        pair = await Challenger.of(here)
        taken_out = await proven_wrong(pair)

        await pair.follow()

        again, follower = await pair.statement(), here.follower()
        await here.follow(follower)
        assert follower._metrics._taken_out.labels("cdrs")._value.get() == 1
        assert (again.state, again.count, again.due_e4) == (StatementState.CLOSED, 2, 301_000)
        assert await in_statements(here) == {1: {"c1", "c3"}}
        (row,) = await voided(here)
        assert (row.statement_hash, row.kind, row.restated_as) == (
            taken_out,
            DisputeKind.METER_SIGNATURE,
            again.statement_hash,
        )
        await pair.until_final()
        assert await pair.paid_e4() == 301_000
        assert [each.statement_hash for each in await here.world.told(StatementFinal)] == [again.statement_hash]
        await assert_audited(here, waiting=(TAKEN_OUT,))
        proving = Proving(here.world.ports)
        receipt = await proving.standing(CPO, CPO, "c1")
        assert receipt.settled is not None
        batch_id = (await pair.statement()).batch_id
        assert batch_id is not None
        assert receipt.settled.chain.batch_id == batch_id.hex() != row.batch_id.hex()
        assert (await proving.standing(HOSTILE, CPO, "c2")).stage is Stage.VOID


@pytest.mark.chain
async def test_on_a_real_chain_it_is_stated_again_as_in_memory(tmp_path: Path) -> None:
    async with an_anvil(tmp_path) as chain, open_settling(chain=chain) as here:
        pair = await Challenger.of(here)
        await proven_wrong(pair)

        await pair.follow()

        assert await in_statements(here) == {1: {"c1", "c3"}}
        await pair.until_final()
        assert await pair.paid_e4() == 301_000
        await assert_audited(here, waiting=(TAKEN_OUT,))


async def test_statements_that_wait_behind_it_go_on_in_their_order(pair: Challenger) -> None:
    await pair.state(C1, C2, unsigned=["c2"])
    statement = await pair.challenge()
    await pair.state(C3)
    await pair.state(a_cdr("c4", 4_000_000))

    await pair.prove("c2", statement)
    await pair.follow()
    await pair.until_final()

    assert await in_statements(pair.here) == {1: {"c1"}, 2: {"c3"}, 3: {"c4"}}
    assert await pair.paid_e4() == 4_301_000
    assert {each.state for each in await pair.here.world.statements()} == {StatementState.FINAL}
    await assert_audited(pair.here, waiting=(TAKEN_OUT,))


async def test_where_nothing_is_left_the_statements_behind_it_move_up(pair: Challenger) -> None:
    await pair.state(C2, unsigned=["c2"])
    statement = await pair.challenge()
    await pair.state(C1)
    await pair.state(C3)

    await pair.prove("c2", statement)
    await pair.follow()

    assert await in_statements(pair.here) == {1: {"c1"}, 2: {"c3"}}
    assert [each.restated_as for each in await voided(pair.here)] == [None]
    await pair.state(a_cdr("c4", 4_000_000))
    await pair.until_final()
    assert (await in_statements(pair.here))[3] == {"c4"}
    assert await pair.paid_e4() == 4_301_000
    await assert_audited(pair.here, waiting=(TAKEN_OUT,))


async def test_a_credit_of_what_was_taken_out_is_in_no_statement_either_and_of_the_two_nothing_is_owed(
    pair: Challenger,
) -> None:
    await pair.state(C1, C2, unsigned=["c2"])
    statement = await pair.challenge()
    await pair.state(a_credit(C2), C3)
    await pair.state(a_cdr("c4", 4_000_000))

    await pair.prove("c2", statement)
    await pair.follow()

    assert await in_statements(pair.here) == {1: {"c1"}, 2: {"c3"}, 3: {"c4"}}
    await pair.take(a_cdr("c2-R1", 50_000_000))
    await pair.here.world.closing.close_now()
    await pair.until_final()
    assert await pair.paid_e4() == 54_301_000
    await assert_audited(pair.here)


async def test_a_credit_that_is_all_of_the_statement_behind_it_leaves_no_gap(pair: Challenger) -> None:
    await pair.state(C1, C2, unsigned=["c2"])
    statement = await pair.challenge()
    await pair.state(a_credit(C2))
    await pair.state(C3)

    await pair.prove("c2", statement)
    await pair.until_final()

    assert await in_statements(pair.here) == {1: {"c1"}, 2: {"c3"}}
    assert await pair.paid_e4() == 301_000
    await assert_audited(pair.here)


async def test_the_cpo_s_word_puts_what_was_taken_out_into_the_next_statement(pair: Challenger) -> None:
    await proven_wrong(pair)
    await pair.follow()

    await restating(pair.here).release(CPO, "c2")

    await pair.here.world.closing.close_now()
    await pair.until_final()
    assert await in_statements(pair.here) == {1: {"c1", "c3"}, 2: {"c2"}}
    assert await pair.paid_e4() == 321_000
    await assert_audited(pair.here)
    with pytest.raises(NotHeld):
        await restating(pair.here).release(CPO, "c2")


async def test_what_is_contested_again_is_taken_out_again(pair: Challenger) -> None:
    await pair.state(C1, C2, C3, unsigned=["c1", "c2"])
    await pair.prove("c2", await pair.challenge())
    await pair.follow()

    await pair.prove("c1", await pair.challenge())
    await pair.until_final()

    assert len(await voided(pair.here)) == 2
    assert await in_statements(pair.here) == {1: {"c3"}}
    assert await pair.paid_e4() == 300_000
    await assert_audited(pair.here, waiting=(TAKEN_OUT,))


async def test_another_pair_of_the_same_batch_goes_on_though_its_calls_name_what_was_taken_out() -> None:
    async with open_settling() as here:
        other = terms(CPO, MSP)
        pair = await Challenger.of(here, other, without_cover=[MSP])
        await hosted(here, HOSTILE, is_hosted=True)
        await here.world.take(accepted(a_cdr("m1", 7), agreement=other))
        await pair.state(C1, C2, unsigned=["c2"])
        with suppress(Crashed):
            await here.follow(here.follower(dies_at=CrashPoint.BATCH_FORMED))
        await hosted(here, HOSTILE, is_hosted=False)
        await pair.follow()
        await pair.wait(TIME_TO_SIGN)
        (statement,) = [each for each in await here.world.statements() if each.emsp_id == HOSTILE]
        await pair.object_to(statement)
        await pair.prove("c2", statement)
        await pair.follow()
        (batch,) = [each for each in await here.batches() if each.batch_id == statement.batch_id]
        assert len(batch.statements) == 2

        await here.market.deposit(here.numbers[MSP], 7)
        await pair.until_final()

        assert {each.state for each in await here.world.statements()} == {StatementState.FINAL}
        assert await pair.paid_e4() == 1_007
        await assert_audited(here, waiting=(TAKEN_OUT,))


async def hosted(here: Settling, party_id: PartyId, *, is_hosted: bool) -> None:
    async with here.world.ports.units.begin() as unit:
        party = await unit.table(PARTY).get(party_id)
        assert party is not None
        signs = SigningPolicy.AUTOMATIC if is_hosted else SigningPolicy.BY_API
        await unit.table(PARTY).put(replace(party, is_hosted=is_hosted, signs=signs))
        await unit.commit()


async def test_a_duplicate_is_taken_out_and_counts_where_it_stands_already(pair: Challenger) -> None:
    first = await pair.state(C1)
    await pair.until_final()
    await pair.take(a_cdr("again", 1_000))
    async with pair.here.world.ports.units.begin() as unit:
        leaf, again = await unit.table(LEAF).get(CPO, "c1"), await unit.table(LEAF).get(CPO, "again")
        assert leaf is not None
        assert again is not None
        await unit.table(LEAF).put(replace(again, cdr_key=leaf.cdr_key))
        await unit.commit()
    await pair.state(C3)
    statement = await pair.challenge(2)
    earlier = await pair.accuser.contested("c1", statement=await pair.statement(first.sequence))
    later = await pair.accuser.contested("again", statement=statement)
    proof = HashTree([earlier.placed.leaf.evidence_hash]).proof(0)

    await pair.send(pair.accuser.resolver, duplicate_call(later, earlier, evidence_proof=proof))
    await pair.until_final()

    assert await in_statements(pair.here) == {1: {"c1"}, 2: {"c3"}}
    assert [(each.cdr_id, each.kind) for each in await held(pair.here)] == [("again", DisputeKind.DUPLICATE)]
    assert await pair.paid_e4() == 301_000
    assert (await pair.here.audit()).waiting == ()


@pytest.mark.parametrize("kind", [DisputeKind.DUPLICATE, DisputeKind.CREDIT_OF_STRUCK])
async def test_what_counts_elsewhere_is_stated_again_by_nobody_s_word(pair: Challenger, kind: DisputeKind) -> None:
    await proven_wrong(pair)
    await pair.follow()
    async with pair.here.world.ports.units.begin() as unit:
        (row,) = await unit.table(HELD).select()
        await unit.table(HELD).put(replace(row, kind=kind))
        await unit.commit()

    with pytest.raises(CountsElsewhere):
        await restating(pair.here).release(CPO, "c2")

    await pair.until_final()
    await assert_audited(pair.here)


# Verdicts that name no CDR


async def test_a_verdict_that_names_no_cdr_waits_for_the_cpo_s_word(pair: Challenger) -> None:
    await pair.state(C1, C2, C3)
    statement = await pair.challenge()
    await pair.rule(statement)
    await pair.follow()
    assert (await pair.statement()).waiting == WAITS_FOR_WORD
    await assert_audited(pair.here, waiting=(WAITS_FOR_WORD,))
    (exposure,) = await exposures_of(pair.here.world.ports, CPO)
    assert exposure.unsettled_e4 == 321_000
    says, named = restating(pair.here), statement.statement_hash
    with pytest.raises(NotTheCPO):
        await says.restate(HOSTILE, named, ["c1"])
    with pytest.raises(NotAmongItsCDRs):
        await says.restate(CPO, named, ["c9"])

    await says.restate(CPO, named, ["c1"])

    with pytest.raises(NothingToRestate):
        await says.restate(CPO, named, ["c1"])
    await pair.until_final()
    assert await in_statements(pair.here) == {1: {"c2", "c3"}}
    assert await pair.paid_e4() == 320_000
    await assert_audited(pair.here, waiting=(TAKEN_OUT,))


async def test_as_it_was_it_goes_into_the_next_statement_for_the_book_knows_these_words_as_void(
    pair: Challenger,
) -> None:
    await pair.state(C1, C2)
    statement = await pair.challenge()
    await pair.state(C3, a_credit(C1))
    await pair.rule(statement)
    await pair.follow()

    await restating(pair.here).restate(CPO, statement.statement_hash, [])

    assert await in_statements(pair.here) == {1: {"c3"}}
    await pair.here.world.closing.close_now()
    await pair.until_final()
    assert await in_statements(pair.here) == {1: {"c3"}, 2: {"c1", "c2", "c1-C1"}}
    assert await pair.paid_e4() == 320_000
    await assert_audited(pair.here)


async def test_a_statement_that_no_verdict_took_out_is_not_restated(pair: Challenger) -> None:
    statement = await pair.state(C1, C2)

    with pytest.raises(NothingToRestate):
        await restating(pair.here).restate(CPO, statement.statement_hash, ["c1"])


async def test_on_a_ledger_a_verdict_waits_for_a_word_too() -> None:
    async with a_ledger(None) as world, open_settling(chain=world) as here:
        pair = await Challenger.of(here)
        statement = await pair.state(C1, C2, C3)
        statement = await pair.challenge()
        await pair.rule(statement)
        await pair.follow()

        await restating(here).restate(CPO, statement.statement_hash, ["c2"])

        await pair.until_final()
        assert await in_statements(here) == {1: {"c1", "c3"}}
        await assert_audited(here, waiting=(TAKEN_OUT,))


# What befalls chain and process


@asynccontextmanager
async def slow_chain() -> AsyncIterator[Challenger]:
    """A chain on which a block is final after some more."""
    async with open_settling(chain=FakeWorld(finality_blocks=FINALITY)) as here:
        pair = await Challenger.of(here)
        pair.is_hasty = here.fake.fake.is_held = True
        yield pair


async def test_nothing_is_stated_again_before_the_verdict_is_final_and_a_verdict_that_is_gone_counts_for_nothing() -> (
    None
):
    async with slow_chain() as pair:
        fake = pair.here.fake.fake
        await pair.state(C1, C2, C3, unsigned=["c2"])
        statement = await pair.challenge()
        await pair.follow()
        await pair.prove("c2", statement)
        for _ in range(3):
            await pair.here.follow_steps(3)
        assert (await pair.statement()).state is StatementState.VOID
        assert await voided(pair.here) == []

        fake.reorganise(1, keep_transactions=False)
        fake.mine(2 * FINALITY)
        await pair.here.follow_steps(3)

        assert (await pair.statement()).state is StatementState.CHALLENGED
        await pair.prove("c2", statement)
        fake.mine(2 * FINALITY)
        await pair.follow()
        assert len(await voided(pair.here)) == 1
        await pair.until_final()
        assert await pair.paid_e4() == 301_000
        await assert_audited(pair.here, waiting=(TAKEN_OUT,))


@pytest.mark.parametrize("is_proposal_lost", [False, True])
async def test_final_blocks_that_are_lost_with_the_verdict_restate_nothing_twice_and_the_audit_says_so(
    pair: Challenger, *, is_proposal_lost: bool
) -> None:
    await pair.state(C1, C2, C3, unsigned=["c2"])
    fake = pair.here.fake.fake
    before_proposal = await fake.head()
    statement = await pair.challenge()
    head = before_proposal if is_proposal_lost else await fake.head()
    await pair.prove("c2", statement)
    await pair.follow()
    before = await in_statements(pair.here)

    fake.reorganise((await fake.head()).number - head.number, keep_transactions=False)
    fake.mine(3)
    await pair.follow()

    assert await in_statements(pair.here) == before
    assert len(await voided(pair.here)) == len(await held(pair.here)) == 1
    causes = [each.cause for each in (await pair.here.audit()).differences]
    assert causes == ["its number is another one's, and no verdict took it out"]


async def test_a_statement_that_another_one_overtook_is_left_to_an_operator(pair: Challenger) -> None:
    await pair.state(C1, C2, C3)
    statement = await pair.challenge()
    await pair.rule(statement)
    await pair.follow()
    says = restating(pair.here)
    await says.restate(CPO, statement.statement_hash, ["c2"])
    await pair.until_final()
    again = await pair.statement()
    async with pair.here.world.ports.units.begin() as unit:  # as if these rows had never heard of what overtook it
        await unit.table(VOIDED).remove(CPO, statement.statement_hash)
        await unit.table(STATEMENT).put(
            replace(statement, state=StatementState.VOID, waiting="its parties", final_at=None)
        )
        await unit.commit()
    assert again.statement_hash != statement.statement_hash

    await says.advance()

    assert (await pair.statement()).waiting == NUMBER_TAKEN
    with pytest.raises(NothingToRestate):
        await says.restate(CPO, statement.statement_hash, ["c2"])


@pytest.mark.parametrize("by_word", [True, False])
async def test_a_database_that_was_restored_adopts_what_was_stated_anew(pair: Challenger, *, by_word: bool) -> None:
    await pair.state(C1, C2, C3, unsigned=["c2"])
    restore = backed_up(pair.here)
    statement = await pair.challenge()
    if by_word:
        await pair.rule(statement)
        await pair.follow()
        await restating(pair.here).restate(CPO, statement.statement_hash, ["c2"])
    else:
        await pair.prove("c2", statement)
    await pair.until_final()
    proposed = await pair.here.proposed()

    restore()
    follower = pair.here.follower(closing=pair.here.world.closing)
    for _ in range(LOOKS):
        await pair.here.follow(follower)
        follower._adopting._looks_at_s -= LOOK_EVERY_S
        follower._rested = None
    await pair.until_final()  # what is stated again by itself is found in the book when its time to be signed is over

    assert await pair.here.proposed() == proposed
    assert await in_statements(pair.here) == {1: {"c1", "c3"}}
    assert [each.cdr_id for each in await held(pair.here)] == ["c2"]
    assert await pair.paid_e4() == 301_000
    await assert_audited(pair.here, waiting=(TAKEN_OUT,))


class DyingUnits:
    """Units of a process that dies at one of its commits, before or after it is done."""

    def __init__(self, units: Any, commits: int, *, is_before: bool) -> None:
        self._units = units
        self._left = commits
        self._is_before = is_before

    def __getattr__(self, name: str) -> Any:
        return getattr(self._units, name)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[UnitOfWork]:
        async with self._units.begin() as unit:
            commit = unit.commit

            async def dying(**more: bool) -> None:
                self._left -= 1
                if self._left or not self._is_before:
                    await commit(**more)
                if not self._left:
                    raise Crashed(CrashPoint.STATEMENT_CLOSED)

            unit.commit = dying
            yield unit


class Fate:
    """What befalls a pair whose MSP is hostile, drawn from a seed."""

    def __init__(self, pair: Challenger, seed: int) -> None:
        self.pair = pair
        self._here = pair.here
        self._chance = random.Random(seed)
        self._follower = pair.here.follower()
        self._creditable: list[CDR] = []
        self.documents: list[CDR] = []

    async def strike(self) -> None:
        """Do one thing."""
        moves: dict[Callable[[], Awaitable[None]], int] = {
            self.take: 4,
            self.credit: 2,
            self.close: 6,
            self.step: 4,
            self.pass_time: 6,
            self.contest: 8,
            self.say: 2,
            self.release: 1,
            self.restart: 1,
            self.crash: 3,
            self.reorganise: 2,
        }
        (doing,) = self._chance.choices(list(moves), weights=list(moves.values()))
        with suppress(EmobilityError):
            await doing()

    async def take(self) -> None:
        for _ in range(self._chance.randint(1, 4)):
            cdr = a_cdr(f"s{len(self.documents)}", self._chance.randint(1, 20_000))
            self._creditable.append(cdr)
            await self._book(cdr)

    async def credit(self) -> None:
        if self._creditable:
            await self._book(a_credit(self._creditable.pop(self._chance.randrange(len(self._creditable)))))

    async def _book(self, cdr: CDR) -> None:
        self.documents.append(cdr)
        await self.pair.take(cdr, unsigned=[] if cdr.is_credit else [cdr.cdr_id])

    async def close(self) -> None:
        await self._here.world.closing.close_now()
        self._here.world.clock.step_by(timedelta(seconds=1))

    async def step(self) -> None:
        for _ in range(3):
            await self._follower.step()
        self._here.fake.fake.mine(self._chance.randint(0, 2))

    async def pass_time(self) -> None:
        await self.step()
        states = {each.state for each in await self._here.world.statements()}
        in_a_window = states & {StatementState.PROPOSED, *IN_THE_BOOK}
        self.pair.accuser.later(WINDOW / 6 if in_a_window else TIME_TO_SIGN)
        await self.step()

    async def contest(self) -> None:
        """Bring the next challenge a step on, as its party and the resolver do."""
        for each in await self._here.world.statements():
            if each.state is StatementState.RIPENING:
                await self.pair.object_to(each)
            if each.state not in IN_THE_BOOK:
                continue
            leaves = [leaf for leaf in await self._here.world.leaves() if leaf.sequence == each.sequence]
            charges = [leaf.cdr_id for leaf in leaves if not leaf.is_credit]
            if charges and self._chance.random() < 0.7:
                await self.pair.prove(self._chance.choice(charges), each)
            else:
                await self.pair.rule(each, is_upheld=self._chance.random() < 0.7)

    async def say(self) -> None:
        for each in await self._here.world.statements():
            if each.waiting == WAITS_FOR_WORD:
                ids = [leaf.cdr_id for leaf in await self._here.world.leaves() if leaf.sequence == each.sequence]
                without = self._chance.sample(ids, self._chance.randint(0, len(ids)))
                await restating(self._here).restate(CPO, each.statement_hash, without)

    async def release(self) -> None:
        for each in await held(self._here):
            await restating(self._here).release(CPO, each.cdr_id)

    async def restart(self) -> None:
        self._follower = self._here.follower()

    async def crash(self) -> None:
        units = DyingUnits(
            self._here.world.ports.units, self._chance.randint(1, 6), is_before=self._chance.random() < 0.5
        )
        ports = replace(self._here.world.ports, units=units)
        dying = Follower(ports, self._here.access, SettlementMetrics(Metrics()), lambda _: None)
        self._follower = self._here.follower()
        with suppress(Crashed):
            for _ in range(3):
                await dying.step()

    async def reorganise(self) -> None:
        fake, depth = self._here.fake.fake, self._chance.randint(1, FINALITY - 1)
        fake.reorganise(depth, keep_transactions=self._chance.random() < 0.8)
        fake.mine(depth + 1)

    async def end(self) -> None:
        """Let the MSP be silent, and the CPO say what is asked of it, until nothing moves."""
        self.pair.is_hasty = self._here.fake.fake.is_held = False
        self._here.fake.fake.mine(FINALITY)
        for _ in range(ROUNDS_MAX):
            await self.say()
            with suppress(EmobilityError):
                await self.close()
            self.pair.accuser.later(TIME_TO_SIGN)
            await self.pair.follow()
            for each in await self._here.world.statements():
                if each.state is StatementState.CHALLENGED:
                    await self.pair.rule(each, is_upheld=False)
            self.pair.accuser.later(WINDOW + timedelta(minutes=15))
            await self.pair.follow()
            if {each.state for each in await self._here.world.statements()} <= {StatementState.FINAL}:
                return
        raise AssertionError(
            [(each.sequence, each.state, each.waiting) for each in await self._here.world.statements()]
        )


@pytest.mark.deeper
@pytest.mark.parametrize("seed", range(SEEDS))
def test_each_cdr_is_final_once_or_waits_with_a_cause_whatever_verdicts_take_out(seed: int) -> None:
    async def settle() -> None:
        async with slow_chain() as pair:
            here = pair.here
            fate = Fate(pair, seed)
            for _ in range(MOVES):
                await fate.strike()

            await fate.end()

            costs = {each.cdr_id: each.total_cost.excl_e4 for each in fate.documents}
            settled = [leaf.cdr_id for leaf in await here.world.leaves() if leaf.sequence is not None]
            waiting = {each.cdr_id for each in await held(here)}
            credited = {each.cdr_id for each in fate.documents if each.credit_reference_id in waiting}
            assert sorted([*settled, *(waiting | credited)]) == sorted(costs)
            assert await pair.paid_e4() == sum(costs[each] for each in settled) + await pair.bonds_e4()
            final = [each.statement_hash for each in await here.world.told(StatementFinal)]
            assert sorted(final) == sorted(each.statement_hash for each in await here.world.statements())
            closed = [each.statement_hash for each in await here.world.told(StatementClosed)]
            assert len(closed) == len(set(closed))
            report = await here.audit()
            assert (report.differences, report.why_quick) == ((), None)

    run_virtual(settle())


# What parties see


async def asked(here: Settling, method: str, path: str, party: PartyId = CPO, body: Any = None) -> httpx.Response:
    transport = httpx.ASGITransport(app=here.service().app)
    async with httpx.AsyncClient(transport=transport, base_url="http://settlement", trust_env=False) as http:
        return await http.request(method, f"/{party.code}{path}", json=body, headers=HEADERS)


async def test_both_parties_see_what_was_taken_out_and_what_it_waits_for(pair: Challenger) -> None:
    taken_out = await proven_wrong(pair)
    await pair.follow()

    (statement,) = (await asked(pair.here, "GET", "/voided-statements", HOSTILE)).json()
    (cdr,) = (await asked(pair.here, "GET", "/held-cdrs", HOSTILE)).json()
    nothing = await asked(pair.here, "GET", "/held-cdrs", PartyId("NL-ZON"))

    assert (statement["statement"], statement["state"], statement["kind"]) == (
        taken_out.hex(),
        "VOID",
        "METER_SIGNATURE",
    )
    assert statement["restated_as"] == (await pair.statement()).statement_hash.hex()
    assert (cdr["cdr"], cdr["statement"], cdr["due_e4"]) == ("c2", taken_out.hex(), 20_000)
    assert cdr["waits_for"] == f"a credit, or the word of {CPO}"
    assert nothing.json() == []


async def test_the_cpo_says_over_http_what_is_stated_again(pair: Challenger) -> None:
    await pair.state(C1, C2, C3)
    statement = await pair.challenge()
    await pair.rule(statement)
    await pair.follow()
    path = f"/statements/{statement.statement_hash.hex()}/restatement"

    other = await asked(pair.here, "POST", path, HOSTILE, {"without": ["c1"]})
    said = await asked(pair.here, "POST", path, CPO, {"without": ["c1"]})
    released = await asked(pair.here, "POST", "/held-cdrs/c1/restatement", CPO)
    again = await asked(pair.here, "POST", "/held-cdrs/c1/restatement", CPO)

    assert (other.status_code, other.json()["error"]) == (409, "NotTheCPO")
    assert (said.status_code, said.json()["restated_as"]) == (200, (await pair.statement()).statement_hash.hex())
    assert (released.status_code, again.status_code, again.json()["error"]) == (204, 409, "NotHeld")
