"""What the hub relies on in a registry of parties, asked of the one in memory and of the contract."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from emobility.adapters.chain_registry import ChainPartyRegistry
from emobility.adapters.memory.party_registry import MemoryPartyRegistry
from emobility.adapters.system import SystemTimer
from emobility.domain.batch import contracts
from emobility.domain.batch.typed_data import Registry, claims_digest, message_key_digest
from emobility.domain.errors import Unavailable
from emobility.domain.identifiers import PartyId, Role
from emobility.domain.party_claims import PartyEntry, module_bits, platform_hash, role_bits
from emobility.ports.party_registry import PartyRegistry
from services.settlement.deployment import ATTESTED_FOR, Deployer
from tests.chains import T0, FakeWorld
from tests.settling import SIGNERS

PARTY = PartyId("NL-TUL")
SIGNER = next(iter(SIGNERS.values()))
PLATFORM = platform_hash("https://OCPI.tulip.example")
MESSAGE_KEY = bytes(range(32))
ENTRY = PartyEntry(
    party_id=PARTY,
    number=1,
    signer=SIGNER.address,
    nonce=2,
    attested_until=T0 + ATTESTED_FOR,
    roles=frozenset({Role.CPO, Role.SCSP}),
    modules=frozenset({"cdrs", "wattroam-agreements"}),
    platform=platform_hash("https://ocpi.tulip.example"),
    message_key=MESSAGE_KEY.hex(),
)


@dataclass(frozen=True)
class Kept:
    """A registry with one party in it, and how to make it silent."""

    registry: PartyRegistry
    silence: Callable[[], Awaitable[None]]


async def in_memory() -> Kept:
    registry = MemoryPartyRegistry()
    registry.entries[PARTY] = ENTRY

    async def silence() -> None:
        registry.is_down = True

    return Kept(registry, silence)


async def on_chain() -> Kept:
    world = FakeWorld()
    deployer = Deployer(world.chain, world.payer, SystemTimer())
    deployment = await deployer.deploy([], proposer=world.payer.address)
    number = (await deployer.register_parties(deployment, {PARTY: SIGNER}))[PARTY]
    named = Registry(chain_id=deployment.chain_id, address=deployment.registry)
    until = datetime.fromtimestamp((await world.chain.head()).timestamp_s, UTC) + timedelta(hours=1)
    roles, modules = role_bits(ENTRY.roles), module_bits(ENTRY.modules)
    digests = (
        claims_digest(named, number=number, roles=roles, modules=modules, platform=PLATFORM, nonce=0, deadline=until),
        message_key_digest(named, number=number, key=MESSAGE_KEY, nonce=1, deadline=until),
    )
    words = [(word[:32], word[32:]) for word in [await SIGNER.sign_digest(each) for each in digests]]
    seconds = int(until.timestamp())
    for call in (
        contracts.SET_CLAIMS.call(number, roles, modules, PLATFORM, seconds, words[0]),
        contracts.SET_MESSAGE_KEY.call(number, MESSAGE_KEY, seconds, words[1]),
    ):
        receipt = await world.final(await world.sent(deployment.registry, call))
        assert receipt.has_succeeded
    return Kept(ChainPartyRegistry(world.chain, deployment.registry), world.stop)


@pytest.fixture(params=[in_memory, on_chain])
async def kept(request: pytest.FixtureRequest) -> Kept:
    made: Kept = await request.param()
    return made


async def test_a_party_is_found_with_all_it_said(kept: Kept) -> None:
    found = await kept.registry.entry(PARTY)

    assert found is not None
    assert found.attested_until is not None
    assert abs(found.attested_until - T0 - ATTESTED_FOR) < timedelta(hours=1)
    assert {**_fields(found), "attested_until": None} == {**_fields(ENTRY), "attested_until": None}


async def test_who_is_not_there_is_nobody(kept: Kept) -> None:
    assert await kept.registry.entry(PartyId("DE-TUL")) is None


async def test_a_silent_registry_is_unavailable(kept: Kept) -> None:
    await kept.silence()

    with pytest.raises(Unavailable):
        await kept.registry.entry(PARTY)


async def test_where_no_registry_is_nobody_is_found_missing() -> None:
    world = FakeWorld()
    currency = await world.currency()

    with pytest.raises(Unavailable):
        await ChainPartyRegistry(world.chain, currency).entry(PARTY)


def _fields(entry: PartyEntry) -> dict[str, object]:
    return {name: getattr(entry, name) for name in entry.__slots__}
