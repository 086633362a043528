"""The MSP under test beside a settlement of its own process: they share the log, and speak HTTP to each other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from starlette.applications import Starlette
from starlette.routing import Mount

import services.settlement.service
from emobility.adapters.chain_signing import mnemonic_signer, party_signer, proposer_signer, recovered_address
from emobility.adapters.memory import LoopTimer, SeededRandomness
from emobility.adapters.memory.chain import FakeChain
from emobility.adapters.memory.contracts import settlement_contracts_in_python
from emobility.domain.cdr import CDR
from emobility.events.cdr import CDRS, AgreementSigned
from emobility.events.event import Envelope
from services.settlement.access import ChainAccess
from services.settlement.books import StoredBooks
from services.settlement.deployment import Deployer
from services.settlement.opening import Openings
from services.settlement.service import Settlement
from tests.chains import MNEMONIC
from tests.mobility.conftest import CPO, MASTER_KEY, World, agreement

STEPS_MAX: Final = 200


@dataclass
class BesideSettlement:
    """An MSP and its settlement, on a chain in memory. Nothing of the settlement moves but when it is told to."""

    world: World
    service: Settlement
    chain: FakeChain
    taken: int = 0

    @property
    def url(self) -> str:
        return self.world.settings.settlement_url

    async def take(self) -> None:
        """Have the settlement take in what the MSP accepted."""
        events = [each async for each in self.world.ports.event_log.read([CDRS])]
        async with self.world.ports.units.begin() as unit:
            await self.service.intake.handle(unit, events[self.taken :])
            await unit.commit()
        self.taken = len(events)
        await self.follow()

    async def close(self) -> None:
        await self.service.closing.close_now()

    async def follow(self) -> None:
        """Bring what is closed to finality."""
        follower = self.service.follower
        assert follower is not None
        for _ in range(STEPS_MAX):
            if not await follower.step():
                return
        raise AssertionError(f"it still moves after {STEPS_MAX} steps")

    async def settle(self) -> None:
        """Settle all that was accepted."""
        await self.take()
        await self.close()
        await self.follow()


async def beside_settlement(world: World) -> BesideSettlement:
    """Start a settlement for the MSP and its CPO, whose key it keeps, too."""
    ports, books = world.ports, StoredBooks(world.ports.units)
    chain = FakeChain(clock=world.clock, randomness=SeededRandomness("chain"), execute=settlement_contracts_in_python())
    access = ChainAccess(
        chain=chain,
        proposer=proposer_signer(MASTER_KEY),
        signer_of=partial(party_signer, MASTER_KEY),
        recovered_address=recovered_address,
        books=books,
    )
    openings = Openings(ports, access, books, Deployer(chain, mnemonic_signer(MNEMONIC, 0), LoopTimer()))
    service = services.settlement.service.build(world.settings, ports, access, openings)
    world.http.mount(world.settings.settlement_url, Starlette(routes=[Mount("/settlement", app=service.app)]))
    terms = agreement()
    signed = AgreementSigned(
        agreement_id=terms.agreement_id,
        cpo_id=terms.cpo_id,
        emsp_id=terms.emsp_id,
        holder=CPO,
        agreement=terms,
        signed_at=world.clock.now(),
    )
    envelope = Envelope(event=signed, event_id="cpo-signed", correlation_id="c", recorded_at=world.clock.now())
    await ports.event_log.append([envelope])
    return BesideSettlement(world=world, service=service, chain=chain)


async def charged(world: World, session_id: str = "S1", **changes: Any) -> CDR:
    """Have the enrolled driver's card charge once and be billed; returns the CDR."""
    info = await world.cpo.authorize()
    session, cdr = await world.cpo.charge(session_id, reference=info.authorization_reference, **changes)
    await world.cpo.begin(session)
    await world.cpo.push_session(session)
    await world.cpo.post_cdr(cdr)
    await world.quiet()
    return cdr
