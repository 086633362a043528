"""What a hosted party says to the registry: signed here, sent by a stranger, and of use to nobody else."""

from __future__ import annotations

import pytest

from emobility.adapters.chain_registry import ChainPartyRegistry
from emobility.domain.identifiers import PartyId, Role
from emobility.domain.party_claims import claim_refusal
from services.settlement.api import NoChain, NotUnderstood
from services.settlement.books import StoredBooks
from services.settlement.registry_words import ClaimsRequest, NotRegistered, RegistryWords
from tests.settlement.settling import Settling, open_settling
from tests.settlement.world import CPO, terms

ORIGIN = "https://ocpi.tulip.example"
CLAIMS = ClaimsRequest(roles=[Role.CPO], modules=["cdrs", "locations"], platform=ORIGIN, message_key="ab" * 32)


async def opened(here: Settling) -> tuple[RegistryWords, ChainPartyRegistry]:
    await here.sign(terms())
    await here.follow(here.follower(opens=True))
    deployment = await StoredBooks(here.world.ports.units).deployment()
    assert deployment is not None
    registry = ChainPartyRegistry(here.chain.chain, deployment.registry)
    return RegistryWords(here.world.ports, here.access), registry


async def test_what_a_party_says_counts_once_whoever_submits_it() -> None:
    async with open_settling() as here:
        words, registry = await opened(here)

        said = await words.say(CPO, CLAIMS)
        for call in said.calls:
            sent = here.chain.sent(bytes.fromhex(said.registry[2:]), bytes.fromhex(call[2:]), by=here.chain.account(4))
            assert (await here.chain.final(await sent)).has_succeeded
        entry = await registry.entry(CPO)
        again = here.chain.sent(
            bytes.fromhex(said.registry[2:]), bytes.fromhex(said.calls[0][2:]), by=here.chain.account(4)
        )

        assert entry is not None
        now = here.world.clock.now()
        assert claim_refusal(entry, role=Role.CPO, origin=ORIGIN, at=now) is None
        assert claim_refusal(entry, role=Role.EMSP, origin=ORIGIN, at=now) is not None
        assert entry.message_key == "ab" * 32
        assert not (await here.chain.final(await again)).has_succeeded


async def test_nobody_is_spoken_for_who_is_not_hosted_and_registered() -> None:
    async with open_settling() as here:
        words, _ = await opened(here)

        with pytest.raises(NotRegistered):
            await words.say(PartyId("NL-XXX"), CLAIMS)
        with pytest.raises(NotUnderstood):
            await words.say(CPO, ClaimsRequest(roles=[], modules=["nonsense"], platform=ORIGIN))
        with pytest.raises(NoChain):
            await RegistryWords(here.world.ports, None).say(CPO, CLAIMS)
