"""Registrations on a chain that others administer: shown to a country's issuer, who alone may send them, and relayed.

The registry takes a registration from the account of an issuer, with the party's consent. So an issuer signs the whole
transaction, wherever its key is (`vouching`), and hands the bytes in; anybody may carry them to the chain. They are
kept before they are sent, and followed until the registry of a final block has the party; who has a number is read
there by `opening`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated, Final

import msgspec
from fastapi import FastAPI, Request
from fastapi.responses import Response

from emobility.domain.batch import contracts
from emobility.domain.batch.abi import MalformedCall
from emobility.domain.batch.hashing import keccak256
from emobility.domain.batch.typed_data import Registry, registration_digest
from emobility.domain.errors import RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.ports.chain import TransactionNotTaken
from emobility.ports.ports import Ports
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.eip1559 import read_raw_transaction, signing_hash
from emobility.runtime.access import Access
from services.settlement.acceptances import SignatureNotOfParty
from services.settlement.access import ChainAccess
from services.settlement.api import NoChain, NotUnderstood, answer, hex_bytes, of_party, read_body
from services.settlement.books import StoredBooks
from services.settlement.deployment import Deployment
from services.settlement.manifest import account_of
from services.settlement.records import PARTY, SettledParty, SigningPolicy

VALID_FOR: Final = timedelta(days=90)
"""How long a party's consent is good; after that it is given anew."""
REGISTRATION_GAS: Final = 400_000
"""More than a registration takes; what is not used is not paid."""
FEE_HEADROOM: Final = 4
"""An issuer may sign days later, when gas costs more: so many times what it costs now may be offered."""
REQUESTS_MAX: Final = 1_000
VOUCHED_BYTES_MAX: Final = REQUESTS_MAX * 1_000
"""Of a body with so many transactions: each has some 800 hex digits."""
Account = Annotated[str, msgspec.Meta(pattern=r"^0x[0-9a-fA-F]{40}$")]
Signature = Annotated[str, msgspec.Meta(pattern=r"^0x[0-9a-fA-F]{128}$")]
Wei = Annotated[int, msgspec.Meta(ge=0)]


class NotToBeRegistered(RuleBroken):
    """The party has a number already, takes part in no agreement here, or its registration is on its way."""


class NotVouchedFor(RuleBroken):
    """The bytes are no registration that was asked for, sent by an issuer of its country."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationRecord:
    """A registration that a party consents to.

    Attributes:
        signer: Signs for the party from then on.
        payout: Where collateral goes that is withdrawn.
        deadline: Until when the consent is good.
        consent: The signer's compact signature.
        raw: The issuer's signed transaction; None: no issuer has vouched yet.
        waiting: Why the last one did not do.
    """

    party_id: PartyId
    signer: bytes
    payout: bytes
    deadline: datetime
    consent: bytes
    raw: bytes | None = None
    waiting: str | None = None


REGISTRATION: Final = TableSpec(name="settlement_registration", record=RegistrationRecord, key=("party_id",))


class ConsentRequest(msgspec.Struct, frozen=True, kw_only=True):
    """POST /{party}/registration. A party that keeps its own key gives all; for one that we sign for, `payout` does."""

    payout: Account
    signer: Account | None = None
    deadline: datetime | None = None
    consent: str | None = None


class VouchedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """POST /internal/registrations: what `wattroam chain vouch` printed."""

    transactions: Annotated[tuple[str, ...], msgspec.Meta(max_length=REQUESTS_MAX)]


class IssuerAt(msgspec.Struct, frozen=True, kw_only=True):
    """Who may vouch, and the nonce of its next transaction."""

    account: Account
    nonce: int


class RegistrationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A registration that an issuer of the party's country is asked for; bytes as hex with 0x."""

    party_id: str
    signer: Account
    payout: Account
    deadline: datetime
    consent: Signature
    is_vouched_for: bool
    waiting: str | None
    issuers: tuple[IssuerAt, ...]


class RegistrationRequests(msgspec.Struct, frozen=True, kw_only=True):
    """GET /internal/registrations: all that an issuer needs to sign, without a chain at hand. Fees in wei per gas."""

    chain_id: int
    registry: Account
    gas: int
    max_fee_per_gas: Wei
    max_priority_fee_per_gas: Wei
    registrations: tuple[RegistrationRequest, ...]


class Registering:
    """Takes consents and issuers' transactions in, and brings them to the chain."""

    def __init__(
        self, ports: Ports, access: ChainAccess | None, issuers: Mapping[str, Sequence[bytes]] | None = None
    ) -> None:
        """`issuers`: whom the deployment names, by country; others vouch all the same, and know their nonce."""
        self._ports = ports
        self._access = access
        self._issuers = issuers or {}
        self._books = StoredBooks(ports.units)

    def mount_on(self, app: FastAPI, guard: Access) -> None:
        """Add the routes."""

        async def ask(request: Request, party_id: PartyId) -> Response:
            await self.ask(party_id, await read_body(request, ConsentRequest))
            return Response(status_code=204)

        async def show(request: Request) -> Response:
            await guard.internal(request)
            return answer(await self.requests())

        async def take(request: Request) -> Response:
            await guard.internal(request)
            asked = await read_body(request, VouchedRequest, bytes_max=VOUCHED_BYTES_MAX)
            return answer({"relayed": await self.take([hex_bytes(each) for each in asked.transactions])})

        app.add_api_route("/{party}/registration", of_party(guard, ask), methods=["POST"])
        app.add_api_route("/internal/registrations", show, methods=["GET"])
        app.add_api_route("/internal/registrations", take, methods=["POST"])

    async def ask(self, party_id: PartyId, asked: ConsentRequest) -> None:
        """Keep a party's consent to be registered.

        Raises:
            NoChain: there is none, or no contracts are known on it.
            NotToBeRegistered: see there.
            NotUnderstood: something is missing, or too much.
            ManifestRefused: an account has a digit wrong, or is nobody's.
            SignatureNotOfParty: the consent is not by the signer that it names.
        """
        access, deployment = await self._here()
        async with self._ports.units.begin() as unit:
            party = await unit.table(PARTY).get(party_id)
        if party is None or party.number is not None:
            raise NotToBeRegistered(f"{party_id} takes part in no agreement here, or is registered")
        payout = account_of(asked.payout)
        if _signs_here(party):
            if (asked.signer, asked.deadline, asked.consent) != (None, None, None):
                raise NotUnderstood(f"{party_id} is signed for here: name its payout account alone")
            signer, deadline = access.signer_of(party_id).address, self._now() + VALID_FOR
            digest = _digest(deployment, party_id, signer=signer, payout=payout, deadline=deadline)
            consent = await access.signer_of(party_id).sign_digest(digest)
        else:
            if asked.signer is None or asked.deadline is None or asked.consent is None:
                raise NotUnderstood(f"{party_id} keeps its own key: give signer, deadline and consent, too")
            signer, deadline, consent = account_of(asked.signer), asked.deadline, hex_bytes(asked.consent)
            digest = _digest(deployment, party_id, signer=signer, payout=payout, deadline=deadline)
            if access.recovered_address(digest, consent) != signer:
                raise SignatureNotOfParty(f"{asked.signer} did not consent to this")
        record = RegistrationRecord(party_id=party_id, signer=signer, payout=payout, deadline=deadline, consent=consent)
        async with self._ports.units.begin() as unit:
            known = await unit.table(REGISTRATION).get_for_update(party_id)
            if known is not None and known.raw is not None:
                nonce = read_raw_transaction(known.raw).transaction.nonce
                raise NotToBeRegistered(
                    f"the registration of {party_id} is on its way. If it gets nowhere, its issuer vouches anew: "
                    f"`wattroam chain vouch --party {party_id}`, with `--nonce {nonce}` where its fee is too low"
                )
            await unit.table(REGISTRATION).put(record)
            await unit.commit()

    async def requests(self) -> RegistrationRequests:
        """Return what waits for an issuer, or for the chain. Raises `NoChain`, `ChainUnavailable`."""
        access, deployment = await self._here()
        async with self._ports.units.begin() as unit:
            asked = await unit.table(REGISTRATION).select(order_by=("party_id",), limit=REQUESTS_MAX)
            parties = await unit.table(PARTY).select({"party_id": tuple(each.party_id for each in asked)})
        registered = {each.party_id for each in parties if each.number is not None}
        rows = [each for each in asked if each.party_id not in registered]
        fees = await access.chain.fees()
        issuers = {
            country: tuple(
                [
                    IssuerAt(account=f"0x{each.hex()}", nonce=await access.chain.nonce(each, with_waiting=True))
                    for each in self._issuers.get(country, ())
                ]
            )
            for country in sorted({row.party_id.country_code for row in rows})
        }
        return RegistrationRequests(
            chain_id=deployment.chain_id,
            registry=f"0x{deployment.registry.hex()}",
            gas=REGISTRATION_GAS,
            max_fee_per_gas=fees.max_fee_per_gas * FEE_HEADROOM,
            max_priority_fee_per_gas=fees.max_priority_fee_per_gas,
            registrations=tuple(
                RegistrationRequest(
                    party_id=row.party_id.code,
                    signer=f"0x{row.signer.hex()}",
                    payout=f"0x{row.payout.hex()}",
                    deadline=row.deadline,
                    consent=f"0x{row.consent.hex()}",
                    is_vouched_for=row.raw is not None,
                    waiting=row.waiting,
                    issuers=issuers[row.party_id.country_code],
                )
                for row in rows
            ),
        )

    async def take(self, raws: Sequence[bytes]) -> list[str]:
        """Keep issuers' transactions, all or none; return whose registrations they are.

        Raises:
            NoChain: there is none, or no contracts are known on it.
            MalformedTransaction: bytes are no transaction.
            NotVouchedFor: one registers nobody who waits for it, or whoever signed it is no issuer.
            ChainUnavailable: nobody knows who is an issuer now.
        """
        access, deployment = await self._here()
        vouched = [await self._vouched(access, deployment, raw) for raw in raws]
        async with self._ports.units.begin() as unit:
            for row in vouched:
                await unit.table(REGISTRATION).put(row)
            await unit.commit()
        return [row.party_id.code for row in vouched]

    async def _vouched(self, access: ChainAccess, deployment: Deployment, raw: bytes) -> RegistrationRecord:
        signed = read_raw_transaction(raw)
        transaction = signed.transaction
        if transaction.chain_id != deployment.chain_id or transaction.to != deployment.registry:
            raise NotVouchedFor(f"it is not for the registry 0x{deployment.registry.hex()}")
        try:
            country, code, signer, payout, _until, deadline_s, consent = contracts.REGISTER.arguments(
                transaction.calldata
            )
            party_id = PartyId.of(country.decode(), code.decode())
        except (MalformedCall, ValueError):
            raise NotVouchedFor("it registers nobody") from None
        async with self._ports.units.begin() as unit:
            row = await unit.table(REGISTRATION).get(party_id)
        said = (signer, payout, deadline_s, b"".join(consent))
        if row is None or said != (row.signer, row.payout, int(row.deadline.timestamp()), row.consent):
            raise NotVouchedFor(f"{party_id} does not wait for this registration")
        sender = access.recovered_address(signing_hash(transaction), signed.signature)
        asked = contracts.HAS_ROLE.call(contracts.issuer_role(party_id.country_code), sender or bytes(20))
        if not contracts.HAS_ROLE.answer(await access.chain.call(deployment.registry, asked))[0]:
            raise NotVouchedFor(f"0x{(sender or b'').hex()} is no issuer of {party_id.country_code}")
        return replace(row, raw=raw, waiting=None)

    async def advance(self) -> int:
        """Bring issuers' transactions on; return how many changed. Raises `ChainUnavailable`."""
        async with self._ports.units.begin() as unit:
            rows = [each for each in await unit.table(REGISTRATION).select() if each.raw is not None]
        if not rows or self._access is None:
            return 0
        _, deployment = await self._here()
        return sum([await self._bring_on(self._access, deployment, row) for row in rows])

    async def _bring_on(self, access: ChainAccess, deployment: Deployment, row: RegistrationRecord) -> int:
        assert row.raw is not None
        chain, final = access.chain, await access.chain.finalized()
        if await number_at(access, deployment, row.party_id, final.number):
            async with self._ports.units.begin() as unit:
                await unit.table(REGISTRATION).delete(row.party_id, where={"raw": row.raw})
                await unit.commit()
            return 1
        transaction_hash, signed = keccak256(row.raw), read_raw_transaction(row.raw)
        receipt = await chain.receipt(transaction_hash)
        if receipt is not None:
            if receipt.has_succeeded or receipt.block_number > final.number:
                return 0
            return await self._put(row, replace(row, raw=None, waiting="the registry refused it: vouch again"))
        sender = access.recovered_address(signing_hash(signed.transaction), signed.signature)
        assert sender is not None, "it was recovered when the bytes came in"
        if await chain.nonce(sender, with_waiting=False) > signed.transaction.nonce:
            if await chain.receipt(transaction_hash) is not None:  # a node may tell nonces before receipts
                return 0
            lost = "another transaction of the issuer took its nonce: vouch again"
            return await self._put(row, replace(row, raw=None, waiting=lost))
        if await chain.transaction(transaction_hash) is None:
            try:
                await chain.send_raw(row.raw)
            except TransactionNotTaken as refusal:
                return await self._put(row, replace(row, waiting=str(refusal)))
        return await self._put(row, replace(row, waiting=None))

    async def _put(self, before: RegistrationRecord, after: RegistrationRecord) -> int:
        if after == before:
            return 0
        async with self._ports.units.begin() as unit:
            if await unit.table(REGISTRATION).get_for_update(before.party_id) != before:
                return 0
            await unit.table(REGISTRATION).put(after)
            await unit.commit()
        return 1

    async def _here(self) -> tuple[ChainAccess, Deployment]:
        deployment = await self._books.deployment()
        if self._access is None or deployment is None:
            raise NoChain
        return self._access, deployment

    def _now(self) -> datetime:
        return self._ports.clock.now().replace(microsecond=0)


async def registrations_under_way(unit: UnitOfWork) -> int:
    """Count the registrations that are on their way to the chain."""
    rows = await unit.table(REGISTRATION).select({"waiting": None})
    return sum(each.raw is not None for each in rows)


async def number_at(access: ChainAccess, deployment: Deployment, party_id: PartyId, block: int) -> int:
    """Return a party's number in the registry of a block; 0: it has none. Raises `ChainUnavailable`."""
    asked = contracts.NUMBER_OF.call(party_id.country_code.encode(), party_id.party_id.encode())
    returned = await access.chain.call(deployment.registry, asked, at_block=block)
    return int(contracts.NUMBER_OF.answer(returned)[0])


def _digest(deployment: Deployment, party_id: PartyId, *, signer: bytes, payout: bytes, deadline: datetime) -> bytes:
    registry = Registry(chain_id=deployment.chain_id, address=deployment.registry)
    return registration_digest(registry, party_id=party_id, signer=signer, payout=payout, deadline=deadline)


def _signs_here(party: SettledParty) -> bool:
    return party.is_hosted and party.signs is SigningPolicy.AUTOMATIC
