"""Confidential statements on their way to finality: what goes on chain, and whom a bad party holds up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest

from emobility.adapters.chain_signing import LocalChainSigner
from emobility.domain.agreement import SettlementMode
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
from services.settlement.confidential_records import (
    CONFIDENTIAL_BATCH,
    ConfidentialBatchRecord,
    ConfidentialBatchState,
)
from services.settlement.confidential_signing import ConfidentialSigning
from services.settlement.deployment import CurrencyContracts, Deployment
from services.settlement.opening import PLAY_MONEY_E4
from services.settlement.records import DEPLOYMENT, PARTY, StatementRecord, StatementState
from tests.settlement.settling import Settling, open_settling
from tests.settlement.world import CPO, MSP, a_cdr, accepted, terms

CPO_2: Final = PartyId("NL-TNM")
MSP_2: Final = PartyId("NL-WIN")
PAIRS: Final = {(CPO, MSP): 70_000, (CPO, MSP_2): 20_000, (CPO_2, MSP): 30_000, (CPO_2, MSP_2): 45_000}
"""What each MSP owes each CPO."""
NETS: Final = {CPO: 90_000, CPO_2: 75_000, MSP: -100_000, MSP_2: -65_000}


OWN_KEY: Final = LocalChainSigner(b"\x11" * 32)
SINK: Final = 99
"""A party number that nobody has."""


class Hidden:
    """Four pairs, so that every pair is on a cycle."""

    def __init__(self, here: Settling) -> None:
        self.here = here
        self.follower = here.follower(opens=True)

    async def open(self, *, outside: PartyId | None = None, pairs: Iterable[tuple[PartyId, PartyId]] = PAIRS) -> None:
        agreements = [terms(*pair, settlement_mode=SettlementMode.CONFIDENTIAL) for pair in pairs]
        await self.here.sign(*agreements, outside=outside)
        await self.follow()
        if outside is not None:
            await self.here.market.deployer.register_parties(await self.deployment(), {outside: OWN_KEY})
            await self.later(timedelta(seconds=1))
        vault = (await self.euro()).vault
        granted = contracts.GRANT_ROLE.call(contracts.BOOK_ROLE, self.here.chain.payer.address)
        await self.here.chain.final(await self.here.chain.sent(vault, granted))

    async def deployment(self) -> Deployment:
        async with self.here.world.ports.units.begin() as unit:
            (row,) = await unit.table(DEPLOYMENT).select()
        return row.deployment

    async def euro(self) -> CurrencyContracts:
        found = (await self.deployment()).of("EUR")
        assert found is not None
        return found

    async def charge(self, name: str = "s", *, pairs: Mapping[tuple[PartyId, PartyId], int] = PAIRS) -> None:
        for (cpo, msp), cost_e4 in pairs.items():
            cdr = a_cdr(f"{name}-{msp.party_id}", cost_e4, cpo_id=cpo)
            await self.here.world.take(accepted(cdr, agreement=terms(cpo, msp)))
        await self.here.world.closing.close_now()

    async def follow(self) -> None:
        await self.here.follow(self.follower)

    async def later(self, by: timedelta) -> None:
        self.here.world.clock.step_by(by)
        self.follower = self.here.follower(opens=True)  # one that looks at once
        await self.follow()

    async def leave(self, party_id: PartyId, amount_e4: int) -> None:
        """Have a party's collateral be this and no more, as after deposits and withdrawals."""
        euro, number = await self.euro(), await self.number(party_id)
        too_much = await self.here.market.deployer.collateral_of(euro, number) - amount_e4
        if too_much < 0:
            await self.here.market.deployer.deposit(euro, {number: amount_e4})
        else:
            moved = contracts.APPLY_NETS.call([number, SINK], [-too_much, too_much])
            await self.here.chain.final(await self.here.chain.sent(euro.vault, moved))

    async def number(self, party_id: PartyId) -> int:
        async with self.here.world.ports.units.begin() as unit:
            party = await unit.table(PARTY).get(party_id)
        assert party is not None
        assert party.number is not None
        return party.number

    async def balances(self) -> dict[PartyId, int]:
        """What each party got, beside what it began with."""
        deployer, euro = self.here.market.deployer, await self.euro()
        numbers = {party_id: await self.number(party_id) for party_id in NETS}
        return {each: await deployer.collateral_of(euro, number) - PLAY_MONEY_E4 for each, number in numbers.items()}

    async def statements(self) -> dict[tuple[PartyId, PartyId], StatementRecord]:
        return {(each.cpo_id, each.emsp_id): each for each in await self.here.world.statements()}

    async def states(self) -> set[StatementState]:
        return {each.state for each in await self.here.world.statements()}

    async def waiting(self) -> dict[tuple[PartyId, PartyId], str | None]:
        """What those wait for that are not final."""
        found = await self.statements()
        return {pair: each.waiting for pair, each in found.items() if each.state is not StatementState.FINAL}

    async def batches(self) -> list[ConfidentialBatchRecord]:
        async with self.here.world.ports.units.begin() as unit:
            return await unit.table(CONFIDENTIAL_BATCH).select(order_by=("formed_at",))


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


class Outsider:
    """An MSP that keeps its own key."""

    def __init__(self, hidden: Hidden, key: LocalChainSigner = OWN_KEY) -> None:
        self.hidden = hidden
        self.key = key
        self.signing = ConfidentialSigning(hidden.here.world.ports, hidden.here.access)

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
    await hidden.open(outside=MSP_2)
    into, number = await hidden.euro(), await hidden.number(MSP_2)
    await hidden.here.market.deployer.deposit(into, {number: PLAY_MONEY_E4})
    await hidden.charge()
    return Outsider(hidden)


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
