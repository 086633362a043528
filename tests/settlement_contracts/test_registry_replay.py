"""The replay that the Open Charging Network's registry falls to, played against ours.

There `setPartyRaw`, `setNodeRaw` and their like sign a hash of the arguments alone: no nonce, no deadline, no chain, no
contract. Whoever saw one sends it again: to undo a later change, to another chain, to another registry. Played against
the bytecode and against the registry in Python.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from emobility.adapters.system import SystemTimer
from emobility.domain.batch import contracts
from emobility.domain.batch.typed_data import Registry, claims_digest, registration_digest
from emobility.domain.identifiers import PartyId
from emobility.ports.chain import CallReverted
from services.settlement.deployment import Deployer
from tests.chains import KINDS, ChainWorld, a_chain_world
from tests.settling import SIGNERS

TULIP: Final = PartyId("NL-TUL")
SIGNER: Final = SIGNERS[next(iter(SIGNERS))]
PLATFORM: Final = bytes(31) + b"\1"


@dataclass(frozen=True)
class Registered:
    """A registry with one party in it."""

    world: ChainWorld
    registry: Registry
    number: int
    now: datetime

    async def claims(
        self, roles: int, *, nonce: int, at: Registry | None = None, deadline: datetime | None = None
    ) -> bytes:
        """Return a relayed call, signed by the party, to claim these roles."""
        until = deadline or self.now + timedelta(hours=1)
        digest = claims_digest(
            at or self.registry,
            number=self.number,
            roles=roles,
            modules=1,
            platform=PLATFORM,
            nonce=nonce,
            deadline=until,
        )
        word = await SIGNER.sign_digest(digest)
        return contracts.SET_CLAIMS.call(
            self.number, roles, 1, PLATFORM, int(until.timestamp()), (word[:32], word[32:])
        )

    async def refusal_of(self, call: bytes, *, at: bytes | None = None) -> bytes | None:
        """Send a call from an account that is nobody's; return how it is refused."""
        try:
            await self.world.chain.estimate_gas(self.world.account(3).address, at or self.registry.address, call)
        except CallReverted as refusal:
            return refusal.data
        return None

    async def roles(self) -> int:
        answer = await self.world.chain.call(self.registry.address, contracts.ENTRY.call(b"NL", b"TUL"))
        return int(contracts.ENTRY.answer(answer)[0][3])


async def registered(world: ChainWorld) -> Registered:
    deployer = Deployer(world.chain, world.payer, SystemTimer())
    deployment = await deployer.deploy([], proposer=world.payer.address)
    numbers = await deployer.register_parties(deployment, {TULIP: SIGNER})
    head = await world.chain.head()
    registry = Registry(chain_id=deployment.chain_id, address=deployment.registry)
    return Registered(world, registry, numbers[TULIP], datetime.fromtimestamp(head.timestamp_s, UTC))


@pytest.mark.parametrize("kind", KINDS)
async def test_no_relayed_call_of_a_party_is_replayed(kind: str, tmp_path: Path) -> None:
    async with a_chain_world(kind, tmp_path) as world:
        party = await registered(world)
        wrong = contracts.REGISTRY_WRONG_SIGNER.call(SIGNER.address)
        stranger = world.account(3)

        as_cpo, as_both = await party.claims(1, nonce=0), await party.claims(3, nonce=1)
        for call in (as_cpo, as_both):
            await world.final(await world.sent(party.registry.address, call, by=stranger))

        assert await party.roles() == 3
        assert await party.refusal_of(as_both) == wrong, "the same call twice"
        assert await party.refusal_of(as_cpo) == wrong, "to undo the later one"
        other_chain = replace(party.registry, chain_id=party.registry.chain_id + 1)
        assert await party.refusal_of(await party.claims(1, nonce=2, at=other_chain)) == wrong
        other_registry = replace(party.registry, address=stranger.address)
        assert await party.refusal_of(await party.claims(1, nonce=2, at=other_registry)) == wrong
        past = party.now - timedelta(days=1)
        late = contracts.REGISTRY_EXPIRED.call(int(past.timestamp()))
        assert await party.refusal_of(await party.claims(1, nonce=2, deadline=past)) == late
        assert await party.refusal_of(await party.claims(1, nonce=2)) is None, "the party itself may go on"
        assert await party.roles() == 3


@pytest.mark.parametrize("kind", KINDS)
async def test_an_issuer_of_one_country_vouches_for_no_other(kind: str, tmp_path: Path) -> None:
    async with a_chain_world(kind, tmp_path) as world:
        party = await registered(world)
        bonn = PartyId("DE-BNN")
        until = party.now + timedelta(hours=1)
        digest = registration_digest(
            party.registry, party_id=bonn, signer=SIGNER.address, payout=SIGNER.address, deadline=until
        )
        word = await SIGNER.sign_digest(digest)
        call = contracts.REGISTER.call(
            b"DE", b"BNN", SIGNER.address, SIGNER.address, 2**48 - 1, int(until.timestamp()), (word[:32], word[32:])
        )

        issuer = world.payer.address  # of NL
        with pytest.raises(CallReverted) as refusal:
            await world.chain.estimate_gas(issuer, party.registry.address, call)

        assert refusal.value.data == contracts.NOT_IN_ROLE.call(issuer, contracts.issuer_role("DE"))
