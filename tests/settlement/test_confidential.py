"""Confidential statements on their way to finality: what goes on chain, and whom a bad party holds up."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any, Final

import pytest

from emobility.adapters.chain_signing import LocalChainSigner
from emobility.domain.batch import contracts
from emobility.domain.batch.confidential import (
    Amounts,
    ConfidentialBook,
    SealedStatement,
    hashes_hash,
    net_digest,
    posted_hash,
    statement_digest,
)
from emobility.domain.identifiers import PartyId
from emobility.events.settlement import StatementFinal
from services.settlement.acceptances import SignatureNotOfParty
from services.settlement.confidential import COMPANY_FOR, REST, SIGN_WITHIN, Confidential
from services.settlement.confidential_records import PARTY_NET, SEALED_STATEMENT, ConfidentialBatchState
from services.settlement.confidential_signing import ConfidentialSigning, NotSealed
from services.settlement.opening import PLAY_MONEY_E4
from services.settlement.records import LEAF, STATEMENT, StatementState
from tests.settlement.hidden import CPO_2, MSP_2, NETS, OWN_KEY, PAIRS, Hidden
from tests.settlement.settling import open_settling
from tests.settlement.world import CPO, MSP

STEPS_BETWEEN: Final = 1 if "WATTROAM_SOAK" in os.environ else 7
"""Units between two at which a process dies."""


class RacingChain:
    """A chain on which an MSP's collateral goes just before a batch is asked about."""

    def __init__(self, hidden: Hidden) -> None:
        self._hidden = hidden
        self._chain = hidden.here.chain.chain

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chain, name)

    async def estimate_gas(self, account: bytes, to: bytes | None, calldata: bytes) -> int:
        await self._hidden.leave(MSP, 35_000)
        return await self._chain.estimate_gas(account, to, calldata)


class SlowChain:
    """A chain that takes so long to tell a nonce that something happens meanwhile."""

    def __init__(self, hidden: Hidden, *, meanwhile: Callable[[], Awaitable[None]]) -> None:
        self._meanwhile = meanwhile
        self._chain = hidden.here.chain.chain
        self._has_answered = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chain, name)

    async def call(self, to: bytes, calldata: bytes, *, at_block: int | None = None) -> bytes:
        if calldata.startswith(contracts.NONCE_OF.selector) and not self._has_answered:
            self._has_answered = True
            await self._meanwhile()
        return await self._chain.call(to, calldata, at_block=at_block)


@pytest.fixture
async def hidden() -> AsyncIterator[Hidden]:
    async with open_settling() as here:
        yield Hidden(here)


async def test_nets_of_parties_are_settled_and_nothing_of_a_pair_is_shown(hidden: Hidden) -> None:
    await hidden.open()
    await hidden.charge()

    await hidden.follow()

    assert await hidden.states() == {StatementState.FINAL}
    assert await hidden.balances() == NETS
    (batch,) = await hidden.batches()
    assert batch.state is ConfidentialBatchState.FINAL
    assert len(batch.hashes) == 8 * 32
    assert len(await hidden.here.world.told(StatementFinal)) == len(PAIRS)
    assert await hidden.here.batches() == []
    (transaction,) = await hidden.here.transactions()
    for statement in await hidden.here.world.statements():
        assert statement.statement_hash not in transaction.calldata
        assert statement.book_agreement not in transaction.calldata
        assert statement.evidence_root not in transaction.calldata


async def test_the_next_period_is_settled_under_the_next_nonce(hidden: Hidden) -> None:
    await hidden.open()
    for name in ("a", "b"):
        await hidden.charge(name)
        await hidden.follow()

    assert await hidden.states() == {StatementState.FINAL}
    assert await hidden.balances() == {party: 2 * net for party, net in NETS.items()}


async def test_whoever_is_short_holds_up_its_payees_alone(hidden: Hidden) -> None:
    await hidden.open()
    await hidden.leave(MSP_2, 20_000)
    await hidden.charge()

    await hidden.later(COMPANY_FOR)

    assert await hidden.waiting() == {(CPO_2, MSP_2): "cover: the payer's is short"}


async def test_what_was_short_is_settled_once_there_is_cover(hidden: Hidden) -> None:
    await hidden.open()
    await hidden.leave(MSP_2, 20_000)
    await hidden.charge()
    await hidden.later(COMPANY_FOR)

    await hidden.leave(MSP_2, 45_000)
    await hidden.later(COMPANY_FOR)

    assert await hidden.states() == {StatementState.FINAL}


async def test_a_pair_waits_for_company_and_not_for_ever(hidden: Hidden) -> None:
    alone = {(CPO, MSP): 70_000}
    await hidden.open(pairs=alone)
    await hidden.charge(pairs=alone)
    await hidden.follow()
    assert await hidden.waiting() == {(CPO, MSP): "others, among whom its net does not show"}

    await hidden.later(COMPANY_FOR)

    assert await hidden.states() == {StatementState.FINAL}


async def test_cover_that_goes_after_the_signatures_has_the_batch_made_again_without_the_payer(hidden: Hidden) -> None:
    await hidden.open()
    await hidden.charge()
    racing = Confidential(hidden.here.world.ports, replace(hidden.here.access, chain=RacingChain(hidden)))

    await racing.advance()
    await hidden.later(COMPANY_FOR)

    batches = await hidden.batches()
    assert [each.state for each in batches] == [ConfidentialBatchState.ABANDONED, ConfidentialBatchState.FINAL]
    assert await hidden.waiting() == {(CPO, MSP): "cover: the payer's is short"}


async def test_a_process_that_another_overtook_batches_nothing_twice(hidden: Hidden) -> None:
    await hidden.open()
    await hidden.charge()
    slow = SlowChain(hidden, meanwhile=hidden.follow)
    overtaken = Confidential(hidden.here.world.ports, replace(hidden.here.access, chain=slow))

    await overtaken.advance()
    await hidden.follow()

    assert await hidden.states() == {StatementState.FINAL}
    assert len(await hidden.batches()) == 1
    assert await hidden.balances() == NETS


class Outsider:
    """An MSP that keeps its own key."""

    def __init__(self, hidden: Hidden, key: LocalChainSigner = OWN_KEY) -> None:
        self.hidden = hidden
        self.key = key
        self.signing = ConfidentialSigning(hidden.here.world.ports, hidden.here.access)

    @classmethod
    async def of(cls, hidden: Hidden) -> Outsider:
        """Open the pairs, one of the MSPs with its own key, and charge."""
        await hidden.open(outside=MSP_2)
        into, number = await hidden.euro(), await hidden.number(MSP_2)
        await hidden.here.market.deployer.deposit(into, {number: PLAY_MONEY_E4})
        await hidden.charge()
        return cls(hidden)

    async def sign_statements(self) -> None:
        """Sign what it is shown, after computing it from its own numbers."""
        for (_, msp), record in (await self.hidden.statements()).items():
            if msp != MSP_2:
                continue
            shown = await self.signing.shown_statement(MSP_2, record.statement_hash)
            amounts = Amounts(
                sum_root=bytes.fromhex(shown["sum_root"]), due_e4=shown["due_e4"], credit_e4=shown["credit_e4"]
            )
            statement = SealedStatement(
                agreement=bytes.fromhex(shown["agreement"]),
                cpo=shown["cpo"],
                msp=shown["msp"],
                count=shown["count"],
                sequence=shown["sequence"],
                period_end=shown["period_end"],
                evidence_root=bytes.fromhex(shown["evidence_root"]),
                amounts=amounts.sealed(bytes.fromhex(shown["salt_of_amounts"])),
            )
            book = ConfidentialBook(chain_id=shown["chain_id"], address=bytes.fromhex(shown["book"]))
            digest = statement_digest(book, statement)
            assert shown["posted"] == posted_hash(statement.struct_hash, salt=bytes.fromhex(shown["salt"])).hex()
            await self.signing.take_statement(MSP_2, record.statement_hash, await self.key.sign_digest(digest))

    async def sign_net(self) -> dict[str, Any]:
        """Sign its net, after adding up its statements."""
        shown = (await self.signing.shown_nets(MSP_2))[0]
        assert shown["net_e4"] == sum(each["net_e4"] for each in shown["statements"])
        hashes = [bytes.fromhex(each) for each in shown["hashes"]]
        digest = net_digest(
            ConfidentialBook(chain_id=shown["chain_id"], address=bytes.fromhex(shown["book"])),
            batch_id=bytes.fromhex(shown["batch_id"]),
            hashes_hash=hashes_hash(hashes),
            party=shown["party"],
            net_e4=shown["net_e4"],
            nonce=shown["nonce"],
        )
        await self.signing.take_net(MSP_2, bytes.fromhex(shown["batch_id"]), await self.key.sign_digest(digest))
        return shown


@pytest.fixture
async def outsider(hidden: Hidden) -> Outsider:
    return await Outsider.of(hidden)


async def test_a_party_with_its_own_key_signs_what_it_computed_itself(hidden: Hidden, outsider: Outsider) -> None:
    await hidden.follow()
    await outsider.sign_statements()
    await hidden.follow()
    assert await hidden.states() == {StatementState.CLOSED}

    await outsider.sign_net()
    await hidden.follow()

    assert await hidden.states() == {StatementState.FINAL}
    assert await hidden.balances() == NETS


async def test_one_that_signs_no_statement_is_in_no_batch(hidden: Hidden, outsider: Outsider) -> None:
    await hidden.later(COMPANY_FOR)

    assert await hidden.waiting() == dict.fromkeys(
        [(CPO, MSP_2), (CPO_2, MSP_2)], "the signature of NL-WIN under the statement"
    )


async def test_one_that_falls_silent_holds_up_the_others_for_an_hour(hidden: Hidden, outsider: Outsider) -> None:
    await hidden.follow()
    await outsider.sign_statements()
    await hidden.follow()

    await hidden.later(SIGN_WITHIN)
    await hidden.later(COMPANY_FOR - SIGN_WITHIN)

    rests = "NL-WIN rests: it did not sign its net in time"
    assert await hidden.waiting() == dict.fromkeys([(CPO, MSP_2), (CPO_2, MSP_2)], rests)

    await hidden.later(REST)
    await outsider.sign_net()
    await hidden.follow()

    assert await hidden.states() == {StatementState.FINAL}


async def sealed_sequences(hidden: Hidden) -> set[int]:
    async with hidden.here.world.ports.units.begin() as unit:
        return {each.sequence for each in await unit.table(SEALED_STATEMENT).select()}


async def test_nobody_signs_a_statement_before_the_one_before_it_is_final(hidden: Hidden, outsider: Outsider) -> None:
    await hidden.follow()
    await outsider.sign_statements()
    await hidden.follow()
    await hidden.charge("next")
    await hidden.follow()
    assert await sealed_sequences(hidden) == {1}

    await outsider.sign_net()
    await hidden.follow()
    assert await sealed_sequences(hidden) == {1, 2}
    await outsider.sign_statements()
    await hidden.follow()
    await outsider.sign_net()
    await hidden.follow()

    assert await hidden.states() == {StatementState.FINAL}


async def test_a_signature_out_of_turn_is_refused(hidden: Hidden, outsider: Outsider) -> None:
    await hidden.follow()
    await outsider.sign_statements()
    await hidden.follow()
    await outsider.sign_net()
    await hidden.follow()
    await hidden.charge("next")
    await hidden.follow()
    async with hidden.here.world.ports.units.begin() as unit:  # the chain lost the blocks that held the first
        for each in await unit.table(STATEMENT).select({"sequence": 1}):
            await unit.table(STATEMENT).put(replace(each, state=StatementState.PROPOSED))
        await unit.commit()

    with pytest.raises(NotSealed, match="statement 1 is not final"):
        await outsider.sign_statements()


async def test_a_signature_by_another_key_is_refused(hidden: Hidden, outsider: Outsider) -> None:
    await hidden.follow()

    with pytest.raises(SignatureNotOfParty):
        await Outsider(hidden, LocalChainSigner(b"\x12" * 32)).sign_statements()

    await outsider.sign_statements()
    await hidden.follow()
    with pytest.raises(SignatureNotOfParty):
        await Outsider(hidden, LocalChainSigner(b"\x12" * 32)).sign_net()


async def test_a_hosted_party_whose_registered_key_is_another_rests(hidden: Hidden) -> None:
    await hidden.open()
    access = hidden.here.access
    strange = replace(access, signer_of=lambda party_id: OWN_KEY if party_id == MSP_2 else access.signer_of(party_id))
    await hidden.charge()
    confidential = Confidential(hidden.here.world.ports, strange)

    await confidential.advance()
    await hidden.later(COMPANY_FOR)

    (left, final) = await hidden.batches()
    assert (left.state, final.state) == (ConfidentialBatchState.ABANDONED, ConfidentialBatchState.FINAL)
    assert set(await hidden.waiting()) == {(CPO, MSP_2), (CPO_2, MSP_2)}


async def change(hidden: Hidden, pair: tuple[PartyId, PartyId]) -> None:
    """Change what a CDR of a pair's costs, behind our back."""
    async with hidden.here.world.ports.units.begin() as unit:
        for each in await unit.table(LEAF).select({"cpo_id": pair[0], "emsp_id": pair[1]}):
            await unit.table(LEAF).put(replace(each, due_e4=each.due_e4 + 1))
        await unit.commit()


async def test_a_statement_whose_rows_were_changed_is_signed_by_nobody_and_holds_up_no_other(hidden: Hidden) -> None:
    await hidden.open()
    await hidden.charge()
    slow = SlowChain(hidden, meanwhile=lambda: change(hidden, (CPO, MSP)))
    await Confidential(hidden.here.world.ports, replace(hidden.here.access, chain=slow)).advance()

    await hidden.later(COMPANY_FOR)

    ((pair, reason),) = (await hidden.waiting()).items()
    assert pair == (CPO, MSP)
    assert "not those that it binds" in str(reason)
    batches = await hidden.batches()
    assert [each.state for each in batches] == [ConfidentialBatchState.ABANDONED, ConfidentialBatchState.FINAL]


async def test_a_net_that_is_not_its_statements_is_signed_by_nobody(hidden: Hidden, outsider: Outsider) -> None:
    await hidden.follow()
    await outsider.sign_statements()
    await hidden.follow()
    async with hidden.here.world.ports.units.begin() as unit:
        for each in await unit.table(PARTY_NET).select({"party_id": CPO}):
            await unit.table(PARTY_NET).put(replace(each, net_e4=each.net_e4 + 1, signature=None))
        await unit.commit()

    await hidden.later(timedelta(seconds=1))
    await outsider.sign_net()
    await hidden.follow()

    batches = await hidden.batches()
    assert [each.state for each in batches] == [ConfidentialBatchState.ABANDONED, ConfidentialBatchState.FINAL]
    assert await hidden.balances() == NETS


class Crashed(BaseException):
    """The process died here."""


async def dies_at(hidden: Hidden, died_at: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Follow, and die where the so-manieth unit begins; tell whether there were so many."""
    units, begun = hidden.here.world.ports.units, 0
    begin = units.begin

    def begin_or_die() -> Any:
        nonlocal begun
        begun += 1
        if begun == died_at:
            raise Crashed
        return begin()

    with monkeypatch.context() as patched:
        patched.setattr(units, "begin", begin_or_die)
        try:
            await hidden.follow()
        except Crashed:
            return True
    return False


@pytest.mark.deeper
async def test_a_process_that_dies_between_any_two_steps_settles_each_statement_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    crashes = 0
    for died_at in count(1, STEPS_BETWEEN):
        async with open_settling() as here:
            hidden = Hidden(here)
            await hidden.open()
            await hidden.charge()
            has_died = await dies_at(hidden, died_at, monkeypatch)
            await hidden.later(timedelta(seconds=1))

            assert await hidden.states() == {StatementState.FINAL}, died_at
            assert await hidden.balances() == NETS, died_at
            assert len(await here.world.told(StatementFinal)) == len(PAIRS), died_at
        if not has_died:
            break
        crashes += 1

    assert crashes > 0
