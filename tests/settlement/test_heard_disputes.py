"""What others raise on the chain is heard, kept with its deadline, and answered before silence loses the money."""

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest
from structlog.testing import capture_logs

from emobility.domain.batch import contracts
from emobility.domain.batch.disputes import (
    ANSWER_WINDOW,
    RULING_WINDOW,
    CaseStage,
    DisputeKind,
    Resolver,
    defence_digest,
    duplicate_call,
    leaf_words,
)
from emobility.domain.batch.hashing import keccak256
from emobility.domain.batch.meter import MeterCommitted
from emobility.domain.batch.trees import StatementTrees
from services.audit.cases import RULE
from services.settlement import listening
from services.settlement.answering import Answering
from services.settlement.closing import leaf_in_tree, leaves_of
from services.settlement.crash_points import CrashPoint
from services.settlement.dispute_records import AnswerPolicy, DisputePolicy, DisputeRecord, DisputeState
from services.settlement.disputing import Contest, Disputing, GivenWord, UnknownDispute
from services.settlement.records import LEAF, PARTY, SigningPolicy, TransactionState
from services.settlement.resolving import DEMAND_BOND_E4, QUARREL_BOND_E4
from tests.chains import an_anvil
from tests.settlement.accuser import Accuser
from tests.settlement.settling import Crashed, Settling, open_settling
from tests.settlement.world import CPO, MSP, a_cdr, accepted

OVER: Final = ANSWER_WINDOW + timedelta(hours=1)
CLAIMED_E4: Final = 10_000
REFUSALS: Final = 6
"""Different ones that are compared."""
UNITS_MAX: Final = 1_000
EVERY: Final = 6
"""Of the units at whose beginning a process dies, unless time is plenty."""


@pytest.fixture
async def accuser() -> AsyncIterator[Accuser]:
    async with open_settling() as here:
        yield await Accuser.over(here)


async def choose(here: Settling, **policy: AnswerPolicy) -> None:
    await Answering(here.world.ports, here.access).choose(DisputePolicy(party_id=CPO, **policy))


async def only(accuser: Accuser) -> DisputeRecord:
    (row,) = await accuser.rows()
    return row


def due_s(follower: Any, kind: DisputeKind) -> float:
    return float(follower._metrics._due.labels(kind.value)._value.get())


@pytest.mark.chain
async def test_on_a_real_chain_a_leaf_is_shown_and_an_amount_defended(tmp_path: Path) -> None:
    async with an_anvil(tmp_path) as chain, open_settling(chain=chain) as here:
        accuser = await Accuser.over(here)
        refused = await accuser.refusals()
        assert len(set(refused)) >= REFUSALS
        async with open_settling() as in_memory:
            assert await (await Accuser.over(in_memory)).refusals() == refused
        await choose(here, defends=AnswerPolicy.AUTOMATIC)
        shown, defended = await accuser.demand("c1"), await accuser.quarrel("c2", claimed_e4=CLAIMED_E4)

        await here.follow()

        demanded, quarrelled = sorted(await accuser.rows(), key=lambda row: row.kind, reverse=True)
        assert (demanded.kind, demanded.state, demanded.bond_e4) == ("WITHHELD", DisputeState.ANSWERED, DEMAND_BOND_E4)
        assert (quarrelled.kind, quarrelled.turn_of, quarrelled.claimed_e4) == ("PRICE", None, CLAIMED_E4)
        assert (await accuser.case(shown)).stage is CaseStage.REVEALED
        assert (await accuser.case(defended)).stage is CaseStage.DEFENDED
        accuser.later(RULING_WINDOW + timedelta(hours=1))
        await accuser.lapse(defended)  # gives the chain a block of that time
        await here.follow()
        assert {row.state for row in await accuser.rows()} == {DisputeState.ANSWERED, DisputeState.DECIDED}
        assert (await here.audit()).differences == ()


async def test_a_leaf_that_is_demanded_is_shown_once_and_the_bond_is_seen(dsn: str | None) -> None:
    async with open_settling(dsn) as here:
        accuser = await Accuser.over(here)
        before = await here.market.collateral_of(here.numbers[CPO])
        case = await accuser.demand()

        await here.follow()
        await here.follow()

        row = await only(accuser)
        assert (row.kind, row.party_id, row.cdr_id) == (DisputeKind.WITHHELD, MSP, "c1")
        assert (row.state, row.bond_e4, row.turn_of) == (DisputeState.ANSWERED, DEMAND_BOND_E4, None)
        assert (await accuser.case(case)).stage is CaseStage.REVEALED
        assert await here.market.collateral_of(here.numbers[CPO]) == before + DEMAND_BOND_E4
        assert [each.state for each in await accuser.calls()] == [TransactionState.FINAL]
        assert (await here.audit()).differences == ()


async def test_a_leaf_of_an_erased_driver_is_shown_for_it_names_nobody() -> None:
    async with open_settling() as here:
        salt = await here.world.ports.vault.seal("salt", identifier="driver")
        meter = MeterCommitted(commitment=keccak256(b"record"), public_key="04", salt=salt)
        accuser = await Accuser.over(here, replace(accepted(a_cdr("c1")), meter=meter))
        await here.world.ports.vault.erase(salt.subject)
        its = await accuser.contested("c1")
        await accuser.demand()

        await here.follow()

        (call,) = await accuser.calls()
        assert (await only(accuser)).state is DisputeState.ANSWERED
        assert contracts.REVEAL.arguments(call.calldata) == (its.statement, leaf_words(its.placed.leaf))


async def test_what_is_shown_by_somebody_else_is_not_sent_again(accuser: Accuser) -> None:
    await accuser.demand()
    dying = accuser.here.follower(dies_at=CrashPoint.BYTES_SIGNED)
    with pytest.raises(Crashed):
        await accuser.here.follow(dying)
    (queued,) = await accuser.calls()
    await accuser.reveal()

    await accuser.here.follow()

    assert queued.state is TransactionState.QUEUED
    assert (await only(accuser)).state is DisputeState.ANSWERED
    assert await accuser.calls() == []


async def test_a_party_that_shows_leaves_by_its_own_word_is_warned_and_never_ended_by_us(accuser: Accuser) -> None:
    await choose(accuser.here, reveals=AnswerPolicy.MANUAL)
    case = await accuser.demand()
    follower = accuser.here.follower()

    with capture_logs() as logs:
        await accuser.here.follow(follower)

    row = await only(accuser)
    assert (row.state, row.turn_of, await accuser.calls()) == (DisputeState.OPEN, CPO, [])
    assert [each["party"] for each in logs if each["event"] == "settlement_answer_is_due"] == [CPO.code]
    assert row.deadline is not None
    left = (row.deadline - accuser.here.world.clock.now()).total_seconds()
    assert due_s(follower, DisputeKind.WITHHELD) == left
    accuser.later(OVER)
    await accuser.here.follow()
    assert (await accuser.case(case)).stage is CaseStage.DEMANDED
    answering = Answering(accuser.here.world.ports, accuser.here.access)
    with pytest.raises(UnknownDispute):
        await answering.show(MSP, case)
    await answering.show(CPO, case)  # late, but nobody ended it
    await accuser.here.follow(follower := accuser.here.follower())
    assert (await only(accuser)).state is DisputeState.ANSWERED
    assert due_s(follower, DisputeKind.WITHHELD) == math.inf


async def test_a_quarrel_is_seen_with_its_deadline_and_left_to_the_party(accuser: Accuser) -> None:
    await accuser.quarrel(claimed_e4=CLAIMED_E4)
    follower = accuser.here.follower()

    with capture_logs() as logs:
        await accuser.here.follow(follower)

    row = await only(accuser)
    assert (row.kind, row.party_id, row.turn_of, row.claimed_e4) == (DisputeKind.PRICE, MSP, CPO, CLAIMED_E4)
    assert 0 < due_s(follower, DisputeKind.PRICE) <= ANSWER_WINDOW.total_seconds() + 86_400
    assert [each["party"] for each in logs if each["event"] == "settlement_answer_is_due"] == [CPO.code]
    accuser.later(OVER)
    await accuser.lapse(row.case_id)
    await accuser.here.follow()
    decided = await only(accuser)
    assert (decided.state, decided.corrected_e4) == (DisputeState.DECIDED, CLAIMED_E4 - 15_000)
    assert await accuser.corrected_e4() == CLAIMED_E4 - 15_000


async def test_a_party_that_leaves_it_to_us_has_its_amounts_defended_once(accuser: Accuser) -> None:
    await choose(accuser.here, defends=AnswerPolicy.AUTOMATIC)
    case = await accuser.quarrel(claimed_e4=CLAIMED_E4)

    await accuser.here.follow()
    await accuser.here.follow()

    row = await only(accuser)
    assert (row.state, row.turn_of, len(await accuser.calls())) == (DisputeState.OPEN, None, 1)
    assert (await accuser.case(case)).stage is CaseStage.DEFENDED


@pytest.mark.parametrize("why", ["its key is elsewhere", "its leaf is not here", "its collateral is too little"])
async def test_a_party_that_leaves_it_to_us_is_warned_where_we_can_t_defend_it(accuser: Accuser, why: str) -> None:
    here = accuser.here
    await choose(here, defends=AnswerPolicy.AUTOMATIC)
    case = await accuser.quarrel(claimed_e4=CLAIMED_E4)
    async with here.world.ports.units.begin() as unit:
        party, leaf = await unit.table(PARTY).get(CPO), await unit.table(LEAF).get(CPO, "c1")
        assert party is not None
        assert leaf is not None
        if why == "its key is elsewhere":
            await unit.table(PARTY).put(replace(party, signs=SigningPolicy.BY_API))
        if why == "its leaf is not here":
            await unit.table(LEAF).put(replace(leaf, import_wh=leaf.import_wh + 1))
        await unit.commit()
    if why == "its collateral is too little":
        await accuser.drain(CPO)
    follower = here.follower()

    with capture_logs() as logs:
        await here.follow(follower)
        here.fake.fake.mine(1)
        await here.follow(follower)

    assert (await accuser.case(case)).stage is CaseStage.QUARRELLED
    assert [each["case"] for each in logs if each["event"] == "settlement_answer_is_due"] == [case.hex()]


async def test_a_party_that_we_answer_for_is_not_warned(accuser: Accuser) -> None:
    await choose(accuser.here, defends=AnswerPolicy.AUTOMATIC)
    await accuser.demand("c1")
    await accuser.quarrel("c2", claimed_e4=CLAIMED_E4)

    with capture_logs() as logs:
        await accuser.here.follow()

    assert "settlement_answer_is_due" not in {each["event"] for each in logs}


@pytest.mark.parametrize("ours_e4", [CLAIMED_E4, CLAIMED_E4 - 1])
async def test_a_quarrel_that_its_party_raised_with_another_tool_is_followed_as_it_is_there(
    accuser: Accuser, ours_e4: int
) -> None:
    here = accuser.here
    await here.follow()
    async with here.world.ports.units.begin() as unit:
        party = await unit.table(PARTY).get(MSP)
        assert party is not None
        await unit.table(PARTY).put(replace(party, is_hosted=True, signs=SigningPolicy.AUTOMATIC))
        await unit.commit()
    (statement,) = await here.world.statements()
    contest = Contest(statement_hash=statement.statement_hash, cdr_id="c1", kind=DisputeKind.PRICE, claimed_e4=ours_e4)
    await Disputing(here.world.ports, here.access).contest(MSP, contest)
    await accuser.quarrel(claimed_e4=CLAIMED_E4)

    for _ in range(2):  # refused, and looked at
        await here.follow()

    row = await only(accuser)
    assert (row.party_id, row.state, row.turn_of) == (MSP, DisputeState.OPEN, CPO)
    assert (row.claimed_e4, row.waiting) == (CLAIMED_E4, None)


async def test_silence_of_the_other_side_is_told_to_the_resolver_and_the_arbiter_s_too(accuser: Accuser) -> None:
    withheld = await accuser.demand("c1", by=CPO)  # by a party of ours, with another tool
    await choose(accuser.here, defends=AnswerPolicy.AUTOMATIC)
    undecided = await accuser.quarrel("c2", claimed_e4=CLAIMED_E4)
    await accuser.here.follow()
    accuser.later(RULING_WINDOW + timedelta(hours=1))

    await accuser.here.follow()

    rows = {row.kind: row for row in await accuser.rows()}
    assert (rows[DisputeKind.WITHHELD].party_id, rows[DisputeKind.WITHHELD].corrected_e4) == (CPO, -15_000)
    assert (rows[DisputeKind.PRICE].state, rows[DisputeKind.PRICE].corrected_e4) == (DisputeState.DECIDED, 0)
    assert (await accuser.case(withheld)).stage is CaseStage.STRUCK
    assert (await accuser.case(undecided)).stage is CaseStage.RULED
    assert (await accuser.here.audit()).differences == ()


async def test_a_case_of_strangers_is_nothing_to_us(accuser: Accuser) -> None:
    await accuser.let_go(accuser.here, CPO)
    await accuser.demand()

    await accuser.here.follow()

    assert (await accuser.rows(), await accuser.calls()) == ([], [])


async def test_a_verdict_that_no_row_knows_is_a_difference_unless_it_is_between_strangers(accuser: Accuser) -> None:
    await stated_twice(accuser)
    await accuser.here.follow()
    await accuser.send(await duplicate(accuser))
    case = await accuser.quarrel("c2", claimed_e4=CLAIMED_E4)
    accuser.later(OVER)
    await accuser.lapse(case)
    accuser.later(timedelta(0))

    of_ours = await accuser.here.audit()
    await accuser.let_go(accuser.here, CPO)
    of_strangers = await accuser.here.audit()

    unknown = [each for each in of_ours.differences if each.rule == RULE]
    assert [each.cause for each in unknown] == ["nobody here knows the case"] * 2
    assert [each for each in of_strangers.differences if each.rule == RULE] == []


async def test_a_party_defends_itself_in_the_second_resolver_of_a_book_too(accuser: Accuser) -> None:
    here, deployed = accuser.here, accuser.here.market.contracts
    await here.follow()
    second = await here.market.deployer.deploy_resolver(
        "SettlementDisputes",
        book=deployed.book,
        vault=deployed.vault,
        demand_bond_e4=DEMAND_BOND_E4,
        quarrel_bond_e4=QUARREL_BOND_E4,
    )
    accuser = Accuser(here, second)
    case = await accuser.quarrel(claimed_e4=CLAIMED_E4)
    await here.follow()

    until = (here.world.clock.now() + timedelta(days=1)).replace(microsecond=0)
    named = Resolver(chain_id=here.market.deployment.chain_id, address=second)
    word = await accuser.word(CPO, defence_digest(named, case=case, party=here.numbers[CPO], deadline=until), until)
    given = GivenWord(deadline=until, signature=word.signature)
    await Disputing(here.world.ports, here.access).defend(CPO, case, given)
    await here.follow()

    assert (await accuser.case(case)).stage is CaseStage.DEFENDED


async def test_a_case_without_a_leaf_is_shown_with_a_warning_and_answered_when_the_leaf_is_back(
    accuser: Accuser,
) -> None:
    units = accuser.here.world.ports.units
    case = await accuser.demand()
    async with units.begin() as unit:
        leaf = await unit.table(LEAF).get(CPO, "c1")
        assert leaf is not None
        await unit.table(LEAF).put(replace(leaf, import_wh=leaf.import_wh + 1))
        await unit.commit()
    follower = accuser.here.follower()

    with capture_logs() as logs:
        await accuser.here.follow(follower)

    row = await only(accuser)
    assert (row.cdr_id, row.statement_hash, row.turn_of) == (None, None, CPO)
    assert "settlement_case_without_leaf" in {each["event"] for each in logs}
    assert follower._metrics._heard.labels("WITHHELD", "unknown")._value.get() == 1
    async with units.begin() as unit:
        await unit.table(LEAF).put(leaf)
        await unit.commit()
    accuser.here.fake.fake.mine(1)
    await accuser.here.follow()
    assert ((await only(accuser)).cdr_id, (await only(accuser)).state) == ("c1", DisputeState.ANSWERED)
    assert (await accuser.case(case)).stage is CaseStage.REVEALED


async def test_a_leaf_that_is_asked_of_us_is_searched_before_those_that_we_ask_for(
    accuser: Accuser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "SEARCHED_AGAIN_MAX", 1)
    units = accuser.here.world.ports.units
    first, second = sorted([await accuser.contested(each) for each in ("c1", "c2")], key=lambda its: its.case_id)
    async with units.begin() as unit:
        leaves = await unit.table(LEAF).select()
        for leaf in leaves:
            await unit.table(LEAF).put(replace(leaf, import_wh=leaf.import_wh + 1))
        await unit.commit()
    await accuser.demand(by=CPO, its=first)
    await accuser.demand(its=second)
    await accuser.here.follow()
    async with units.begin() as unit:
        for leaf in leaves:
            await unit.table(LEAF).put(leaf)
        await unit.commit()
    accuser.here.fake.fake.mine(1)

    await accuser.here.follow()

    rows = {row.case_id: row for row in await accuser.rows()}
    assert (rows[first.case_id].cdr_id, rows[first.case_id].turn_of) == (None, MSP)
    assert rows[second.case_id].state is DisputeState.ANSWERED


async def stated_twice(accuser: Accuser) -> None:
    """Have a CDR stand in a second statement, too, under another id here."""
    here = accuser.here
    async with here.world.ports.units.begin() as unit:
        known = await unit.table(LEAF).get(CPO, "c1")
        party = await unit.table(PARTY).get(MSP)
    assert known is not None
    assert party is not None
    here.world.clock.step_by(timedelta(hours=1))
    await here.world.take(accepted(a_cdr("again"), at=here.world.clock.now()))
    async with here.world.ports.units.begin() as unit:
        again = await unit.table(LEAF).get(CPO, "again")
        assert again is not None
        await unit.table(LEAF).put(replace(again, cdr_key=known.cdr_key))
        await unit.table(PARTY).put(replace(party, is_hosted=True, signs=(await unit.table(PARTY).get(CPO)).signs))  # type: ignore[union-attr]
        await unit.commit()
    await here.world.closing.close_now()
    await here.follow()
    await accuser.let_go(here, MSP)


async def duplicate(accuser: Accuser) -> bytes:
    """Return the call that strikes what is `stated_twice`."""
    first, second = sorted(await accuser.here.world.statements(), key=lambda each: each.sequence)
    async with accuser.here.world.ports.units.begin() as unit:
        trees = StatementTrees([leaf_in_tree(each) for each in await leaves_of(unit, first)])
    earlier = await accuser.contested("c1", statement=first)
    later = await accuser.contested("again", statement=second)
    return duplicate_call(later, earlier, evidence_proof=trees.evidence_proof(earlier.placed.proof.index))


async def test_what_a_proof_from_elsewhere_struck_is_known_here_with_its_amount(accuser: Accuser) -> None:
    await stated_twice(accuser)
    await accuser.send(await duplicate(accuser))

    await accuser.here.follow()

    row = await only(accuser)
    assert (row.kind, row.party_id, row.cdr_id) == (DisputeKind.DUPLICATE, None, "again")
    assert (row.state, row.corrected_e4) == (DisputeState.DECIDED, -15_000)
    assert await accuser.corrected_e4() == -15_000


def dying(begin: Callable[[], Any], died_at: int) -> Callable[[], Any]:
    """Return what begins units, and dies where the so-manieth does."""
    begun = count(1)

    def begin_or_die() -> Any:
        if next(begun) == died_at:
            raise Crashed
        return begin()

    return begin_or_die


@pytest.mark.deeper
async def test_a_process_that_dies_between_any_two_steps_shows_a_leaf_once(monkeypatch: pytest.MonkeyPatch) -> None:
    crashes = 0
    for died_at in range(1, UNITS_MAX, 1 if "WATTROAM_SOAK" in os.environ else EVERY):
        async with open_settling() as here:
            accuser, has_died = await Accuser.over(here), False
            case = await accuser.demand()
            units = here.world.ports.units
            with monkeypatch.context() as patched:
                patched.setattr(units, "begin", dying(units.begin, died_at))
                try:
                    await here.follow()
                except Crashed:
                    has_died = True

            await here.follow()

            assert (await only(accuser)).state is DisputeState.ANSWERED, died_at
            assert (await accuser.case(case)).stage is CaseStage.REVEALED, died_at
            assert [each.state for each in await accuser.calls()] == [TransactionState.FINAL], died_at
        if not has_died:
            break
        crashes += 1

    assert crashes > 0
    assert not has_died
