"""A hosted party's words to the party registry: signed here, to be submitted by anyone.

POST /{party}/registry-calls with what the party claims to be answers with calls of the registry: claims and, if it is
given, the message key. Nothing is sent from here: whoever has an account on the chain submits them, in order
(`cast send {registry} {call}`), before they expire. Sent twice they count once; said anew, the older count no more.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import msgspec
from fastapi import FastAPI, Request
from fastapi.responses import Response

from emobility.domain.batch import contracts
from emobility.domain.batch.typed_data import Registry, claims_digest, message_key_digest
from emobility.domain.errors import RuleBroken
from emobility.domain.identifiers import PartyId, Role
from emobility.domain.party_claims import MODULE_BITS, module_bits, platform_hash, role_bits
from emobility.ports.ports import Ports
from emobility.runtime.access import Access
from services.settlement.access import ChainAccess
from services.settlement.api import NoChain, NotUnderstood, answer, of_party, read_body
from services.settlement.books import StoredBooks
from services.settlement.records import PARTY

VALID_FOR: Final = timedelta(days=1)


class NotRegistered(RuleBroken):
    """The party is not hosted here, or not registered on this chain yet."""


class ClaimsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a party claims to be. `platform`: scheme://host[:port] it is served from; `message_key`: Ed25519, hex."""

    roles: list[Role]
    modules: list[str]
    platform: str
    message_key: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")] | None = None


class RegistryCalls(msgspec.Struct, frozen=True, kw_only=True):
    """Calls to submit, in order; bytes as hex with 0x."""

    chain_id: int
    registry: str
    calls: list[str]
    valid_until: datetime


class RegistryWords:
    """Signs for hosted parties."""

    def __init__(self, ports: Ports, access: ChainAccess | None) -> None:
        self._ports = ports
        self._access = access
        self._books = StoredBooks(ports.units)

    def mount_on(self, app: FastAPI, guard: Access) -> None:
        """Add the route."""

        async def calls(request: Request, party_id: PartyId) -> Response:
            return answer(await self.say(party_id, await read_body(request, ClaimsRequest)))

        app.add_api_route("/{party}/registry-calls", of_party(guard, calls), methods=["POST"])

    async def say(self, party_id: PartyId, claims: ClaimsRequest) -> RegistryCalls:
        """Sign a party's claims.

        Raises:
            NoChain: none is configured.
            NotRegistered: it is not hosted here, or has no number in the registry yet.
            NotUnderstood: a module has no place in the registry.
            ChainUnavailable: nobody knows the party's nonce now.
        """
        deployment = await self._books.deployment()
        if self._access is None or deployment is None:
            raise NoChain
        if unknown := set(claims.modules) - set(MODULE_BITS):
            raise NotUnderstood(f"the registry has no place for {', '.join(sorted(unknown))[:200]}")
        async with self._ports.units.begin() as unit:
            party = await unit.table(PARTY).get(party_id)
        if party is None or not party.is_hosted or party.number is None:
            raise NotRegistered(f"{party_id} is not registered from here")
        chain, signer, number = self._access.chain, self._access.signer_of(party_id), party.number
        asked = contracts.PARTY.call(number)
        ((_, _, nonce, *_),) = contracts.PARTY.answer(await chain.call(deployment.registry, asked))
        until = datetime.fromtimestamp((await chain.head()).timestamp_s, UTC) + VALID_FOR
        registry, seconds = Registry(chain_id=deployment.chain_id, address=deployment.registry), int(until.timestamp())
        roles, modules, platform = (
            role_bits(claims.roles),
            module_bits(claims.modules),
            platform_hash(claims.platform),
        )
        word = await signer.sign_digest(
            claims_digest(
                registry,
                number=number,
                roles=roles,
                modules=modules,
                platform=platform,
                nonce=nonce,
                deadline=until,
            )
        )
        calls = [contracts.SET_CLAIMS.call(number, roles, modules, platform, seconds, contracts.signature_words(word))]
        if claims.message_key is not None:
            key = bytes.fromhex(claims.message_key)
            digest = message_key_digest(registry, number=number, key=key, nonce=nonce + 1, deadline=until)
            word = await signer.sign_digest(digest)
            calls.append(contracts.SET_MESSAGE_KEY.call(number, key, seconds, contracts.signature_words(word)))
        return RegistryCalls(
            chain_id=deployment.chain_id,
            registry=f"0x{deployment.registry.hex()}",
            calls=[f"0x{call.hex()}" for call in calls],
            valid_until=until,
        )
