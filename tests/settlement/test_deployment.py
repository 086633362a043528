from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from emobility.adapters.chain_signing import party_signer, proposer_signer
from emobility.adapters.system import SystemTimer
from emobility.domain.batch import contracts
from emobility.domain.batch.calls import (
    REGISTRY_QUERY,
    agreement_query,
    party_query,
    read_agreement,
    read_party,
    read_registry,
)
from emobility.domain.batch.typed_data import AgreementTerms, BookMode, agreement_key
from emobility.domain.identifiers import PartyId
from emobility.ports.chain import CallReverted, Chain, ChainUnavailable
from services.settlement.deployment import Deployer, Deployment, DeploymentGone, StepRefused, recognise
from tests.chains import KINDS, T0, ChainWorld, FakeWorld, a_chain_world

MASTER_KEY: Final = bytes(range(32))
CPO: Final = PartyId("NL-TUL")
MSP: Final = PartyId("NL-ZON")
PROPOSER: Final = proposer_signer(MASTER_KEY)
SIGNERS: Final = {party_id: party_signer(MASTER_KEY, party_id) for party_id in (CPO, MSP)}


class Deployed:
    def __init__(self, world: ChainWorld) -> None:
        self.world = world
        self.chain: Chain = world.chain
        self.deployer = Deployer(world.chain, world.payer, SystemTimer())
        self.deployment: Deployment

    async def ask(self, where: bytes, calldata: bytes) -> bytes:
        return await self.chain.call(where, calldata)

    async def has_role(self, where: bytes, role: bytes, account: bytes) -> bool:
        answer = await self.ask(where, contracts.HAS_ROLE.call(role, account))
        return bool(contracts.HAS_ROLE.answer(answer)[0])

    async def nonce(self) -> int:
        return await self.chain.nonce(self.world.payer.address, with_waiting=True)


@pytest.fixture(params=KINDS)
async def deployed(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Deployed]:
    async with a_chain_world(request.param, tmp_path / "chain") as world:
        made = Deployed(world)
        made.deployment = await made.deployer.deploy(["EUR", "CHF"], proposer=PROPOSER.address)
        yield made


def terms(credit_limit_e4: int = 10_000, number: int = 0) -> AgreementTerms:
    return AgreementTerms(
        document=bytes(32),
        cpo=1,
        msp=2,
        currency="EUR",
        number=number,
        mode=BookMode.CREDIT_LINE,
        credit_limit_e4=credit_limit_e4,
        deadline=T0 + timedelta(days=30),
    )


async def test_every_currency_has_a_book_a_vault_and_play_money_that_know_each_other(deployed: Deployed) -> None:
    found = deployed.deployment

    assert [each.currency for each in found.currencies] == ["CHF", "EUR"]
    for each in found.currencies:
        assert read_registry(await deployed.ask(each.book, REGISTRY_QUERY)) == found.registry
        assert read_registry(await deployed.ask(each.vault, REGISTRY_QUERY)) == found.registry
        assert contracts.VAULT.answer(await deployed.ask(each.book, contracts.VAULT.call())) == (each.vault,)
        assert contracts.TOKEN.answer(await deployed.ask(each.vault, contracts.TOKEN.call())) == (each.token,)
        assert contracts.UNITS_PER_E4.answer(await deployed.ask(each.vault, contracts.UNITS_PER_E4.call())) == (1,)
        currency = contracts.CURRENCY.answer(await deployed.ask(each.book, contracts.CURRENCY.call()))
        assert currency == (each.currency.encode(),)


async def test_the_proposer_may_propose_and_only_the_book_may_move_money(deployed: Deployed) -> None:
    found, admin = deployed.deployment.of("EUR"), deployed.world.payer.address

    assert found is not None
    assert await deployed.has_role(found.book, contracts.PROPOSER_ROLE, PROPOSER.address)
    assert not await deployed.has_role(found.book, contracts.PROPOSER_ROLE, admin)
    assert await deployed.has_role(found.vault, contracts.BOOK_ROLE, found.book)
    assert not await deployed.has_role(found.vault, contracts.BOOK_ROLE, admin)
    assert deployed.deployment.of("USD") is None
    assert deployed.deployment.book("USD") is None


async def test_a_known_deployment_is_recognised_and_nothing_is_sent(deployed: Deployed) -> None:
    before = await deployed.nonce()

    again = await deployed.deployer.deploy(["EUR", "CHF"], proposer=PROPOSER.address, known=deployed.deployment)

    assert again == deployed.deployment
    assert await deployed.nonce() == before


async def test_a_chain_that_lost_its_state_holds_no_deployment(deployed: Deployed) -> None:
    await deployed.world.restart_without_state()

    with pytest.raises(DeploymentGone, match=r"another chain|lost its state"):
        await recognise(deployed.world.chain, deployed.deployment)


async def test_another_contract_at_an_address_is_noticed(deployed: Deployed) -> None:
    changed = replace(deployed.deployment, anchor=deployed.deployment.passport)
    empty = replace(deployed.deployment, anchor=bytes(20))

    for each in (changed, empty):
        with pytest.raises(DeploymentGone, match="another one"):
            await recognise(deployed.world.chain, each)


async def test_parties_are_registered_once_under_their_own_keys(deployed: Deployed) -> None:
    numbers = await deployed.deployer.register_parties(deployed.deployment, SIGNERS)
    before = await deployed.nonce()

    again = await deployed.deployer.register_parties(deployed.deployment, SIGNERS)

    assert again == numbers == {CPO: 1, MSP: 2}
    assert await deployed.nonce() == before
    for party_id, number in numbers.items():
        assert read_party(await deployed.ask(deployed.deployment.registry, party_query(number))) == party_id
        signer = await deployed.ask(deployed.deployment.registry, contracts.SIGNER_OF.call(number))
        assert contracts.SIGNER_OF.answer(signer) == (SIGNERS[party_id].address,)


async def test_collateral_is_filled_up_and_not_beyond(deployed: Deployed) -> None:
    await deployed.deployer.register_parties(deployed.deployment, SIGNERS)
    euro = deployed.deployment.of("EUR")
    assert euro is not None

    await deployed.deployer.deposit(euro, {1: 500, 2: 100})
    await deployed.deployer.deposit(euro, {1: 400, 2: 150})

    assert [await deployed.deployer.collateral_of(euro, party) for party in (1, 2)] == [500, 150]
    held = contracts.TOKENS_OF.answer(await deployed.ask(euro.token, contracts.TOKENS_OF.call(euro.vault)))
    total = contracts.TOTAL_COLLATERAL.answer(await deployed.ask(euro.vault, contracts.TOTAL_COLLATERAL.call()))
    assert held == total == (650,)


async def test_agreements_are_opened_once_with_both_signatures(deployed: Deployed) -> None:
    await deployed.deployer.register_parties(deployed.deployment, SIGNERS)
    both = [(terms(), SIGNERS[CPO], SIGNERS[MSP]), (terms(credit_limit_e4=5, number=1), SIGNERS[CPO], SIGNERS[MSP])]

    ids = await deployed.deployer.open_agreements(deployed.deployment, both)
    before = await deployed.nonce()
    again = await deployed.deployer.open_agreements(deployed.deployment, both)

    assert ids == again == [agreement_key(each) for each, _, _ in both]
    assert await deployed.nonce() == before
    book = deployed.deployment.book("EUR")
    assert book is not None
    state = read_agreement(await deployed.ask(book.address, agreement_query(ids[1])))
    assert (state.cpo, state.msp, state.mode, state.credit_limit_e4) == (1, 2, BookMode.CREDIT_LINE, 5)


async def test_an_agreement_that_one_side_did_not_sign_is_not_opened(deployed: Deployed) -> None:
    await deployed.deployer.register_parties(deployed.deployment, SIGNERS)

    with pytest.raises(CallReverted) as refusal:
        await deployed.deployer.open_agreements(deployed.deployment, [(terms(), SIGNERS[CPO], SIGNERS[CPO])])

    assert refusal.value.data == contracts.BOOK_WRONG_SIGNER.call(2)


async def test_an_agreement_in_a_currency_without_a_book_is_refused(deployed: Deployed) -> None:
    dollars = replace(terms(), currency="USD")

    with pytest.raises(DeploymentGone, match="no book settles USD"):
        await deployed.deployer.open_agreements(deployed.deployment, [(dollars, SIGNERS[CPO], SIGNERS[MSP])])


async def test_a_step_that_is_refused_only_when_it_is_mined_is_told(deployed: Deployed) -> None:
    await deployed.deployer.register_parties(deployed.deployment, SIGNERS)
    twice = [(terms(), SIGNERS[CPO], SIGNERS[MSP])] * 2

    with pytest.raises(StepRefused):
        await deployed.deployer.open_agreements(deployed.deployment, twice)


async def test_lost_answers_hold_up_no_deployment() -> None:
    world = FakeWorld()
    world.fake.answers_lost = 2
    deployer = Deployer(world.chain, world.payer, SystemTimer())

    deployment = await deployer.deploy(["EUR"], proposer=PROPOSER.address)

    await recognise(world.chain, deployment)
    assert world.fake.answers_lost == 0


async def test_an_endpoint_that_is_down_is_told() -> None:
    world = FakeWorld()
    world.fake.is_down = True

    with pytest.raises(ChainUnavailable):
        await Deployer(world.chain, world.payer, SystemTimer()).deploy(["EUR"], proposer=PROPOSER.address)
