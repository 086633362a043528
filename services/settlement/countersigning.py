"""Parties countersign the ledger's newest head: those hosted here when all is at rest, others by what they hand in."""

from __future__ import annotations

from emobility.domain.batch import contracts
from emobility.domain.cosigned_ledger import Countersignature, head_digest
from emobility.domain.identifiers import PartyId
from emobility.ports.cosigned_ledger import CosignedLedger, NotCountersigned
from emobility.ports.ports import Ports
from services.settlement.access import ChainAccess
from services.settlement.records import DEPLOYMENT, PARTY


class Countersigning:
    """Keeps each party's newest signature of a head."""

    def __init__(self, ports: Ports, access: ChainAccess, ledger: CosignedLedger) -> None:
        self._ports = ports
        self._access = access
        self.ledger = ledger

    async def advance(self) -> int:
        """Have the parties whose keys are here sign the newest head; return how many did."""
        head, ledger_id = await self.ledger.head(), await self.ledger.chain_id()
        newest = {each.signer: each.number for each in await self.ledger.countersignatures()}
        async with self._ports.units.begin() as unit:
            hosted = await unit.table(PARTY).select({"is_hosted": True})
        signed = 0
        for party in hosted:
            if party.number is None:
                continue
            signer = self._access.signer_of(party.party_id)
            if newest.get(signer.address, -1) >= head.number:
                continue
            signature = await signer.sign_digest(head_digest(ledger_id, head.number, head.hash))
            await self.ledger.countersign(
                Countersignature(number=head.number, signer=signer.address, hash=head.hash, signature=signature)
            )
            signed += 1
        return signed

    async def take(self, party_id: PartyId, *, number: int, hash_: bytes, signature: bytes) -> None:
        """Keep the signature of a party that has its key elsewhere.

        Raises:
            NotCountersigned: the party is not registered, it is another head than this ledger's, or another key signed.
        """
        ledger_id = await self.ledger.chain_id()
        async with self._ports.units.begin() as unit:
            party = await unit.table(PARTY).get(party_id)
            deployed = await unit.table(DEPLOYMENT).get(ledger_id)
        if party is None or party.number is None or deployed is None:
            raise NotCountersigned(f"{party_id} is not registered in this ledger")
        asked = contracts.SIGNER_OF.call(party.number)
        (signer,) = contracts.SIGNER_OF.answer(await self.ledger.call(deployed.deployment.registry, asked))
        await self.ledger.countersign(Countersignature(number=number, signer=signer, hash=hash_, signature=signature))
