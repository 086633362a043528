"""Contracts on a chain, parties in their registry, collateral and open agreements: where the settlement takes place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

import settlement_contracts
from emobility.adapters.chain_signing import party_signer
from emobility.domain.agreement import SettlementMode
from emobility.domain.batch import contracts
from emobility.domain.batch.abi import encode
from emobility.domain.batch.calls import open_agreement_call
from emobility.domain.batch.typed_data import (
    AgreementTerms,
    Book,
    BookMode,
    Registry,
    agreement_digest,
    agreement_id,
    registration_digest,
)
from emobility.domain.identifiers import PartyId
from emobility.ports.chain_signer import ChainSigner
from emobility.ports.unit_of_work import Units
from services.settlement.access import DeployedBook
from services.settlement.records import OPENING, PARTY, Opening, SettledParty
from tests.chains import T0, ChainWorld

MASTER_KEY: Final = bytes(range(32))
DEADLINE: Final = T0 + timedelta(days=3650)
DELAY_S: Final = 7 * 86_400


@dataclass(frozen=True)
class Market:
    """Contracts of one currency; also the settlement's `Books`."""

    world: ChainWorld
    deployed: DeployedBook
    token: bytes

    async def book_of(self, currency: str) -> DeployedBook | None:
        return self.deployed if currency == "EUR" else None

    async def register(self, party_id: PartyId, signer: ChainSigner | None = None) -> int:
        """Register a party under its key and return its number."""
        key = signer or party_signer(MASTER_KEY, party_id)
        registry = Registry(chain_id=self.deployed.book.chain_id, address=self.deployed.registry)
        digest = registration_digest(
            registry, party_id=party_id, signer=key.address, payout=key.address, deadline=DEADLINE
        )
        signature = await key.sign_digest(digest)
        country, party = party_id.country_code.encode(), party_id.party_id.encode()
        halves = (signature[:32], signature[32:])
        await self.do(
            self.deployed.registry,
            contracts.REGISTER.call(country, party, key.address, key.address, int(DEADLINE.timestamp()), halves),
        )
        answer = await self.world.chain.call(self.deployed.registry, contracts.NUMBER_OF.call(country, party))
        return int(contracts.NUMBER_OF.answer(answer)[0])

    async def deposit(self, number: int, amount_e4: int) -> None:
        """Mint and deposit cover for a party."""
        await self.do(self.token, contracts.MINT.call(self.world.payer.address, amount_e4))
        await self.do(self.token, contracts.APPROVE.call(self.deployed.vault, amount_e4))
        await self.do(self.deployed.vault, contracts.DEPOSIT.call(number, amount_e4))

    async def collateral_of(self, number: int) -> int:
        answer = await self.world.chain.call(self.deployed.vault, contracts.COLLATERAL_OF.call(number))
        return int(contracts.COLLATERAL_OF.answer(answer)[0])

    async def open(self, opening: Opening, numbers: dict[PartyId, int], keys: dict[PartyId, ChainSigner]) -> bytes:
        """Open an agreement with both signatures and return its id."""
        terms = AgreementTerms(
            document=opening.document,
            cpo=numbers[opening.cpo_id],
            msp=numbers[opening.emsp_id],
            currency=opening.currency,
            mode=BookMode.CREDIT_LINE if opening.mode is SettlementMode.CREDIT_LINE else BookMode.PREFUNDED,
            credit_limit_e4=opening.credit_limit_e4,
            deadline=DEADLINE,
        )
        digest = agreement_digest(self.deployed.book, terms)
        by_cpo, by_msp = [await keys[each].sign_digest(digest) for each in (opening.cpo_id, opening.emsp_id)]
        await self.do(self.deployed.book.address, open_agreement_call(terms, by_cpo=by_cpo, by_msp=by_msp))
        return agreement_id(terms)

    async def prepare(
        self,
        units: Units,
        *,
        cover_e4: int = 10**9,
        without_cover: Iterable[PartyId] = (),
        keys: dict[PartyId, ChainSigner] | None = None,
    ) -> dict[PartyId, int]:
        """Register whom the settlement knows and open what it wants opened, as a deployment would."""
        async with units.begin() as unit:
            parties = await unit.table(PARTY).select()
            openings = await unit.table(OPENING).select({"book_agreement": None})
        numbers = {each.party_id: each.number or 0 for each in parties}
        signers: dict[PartyId, ChainSigner] = {
            each.party_id: party_signer(MASTER_KEY, each.party_id) for each in parties
        }
        signers |= keys or {}
        for party in parties:
            if party.number is None:
                number = await self.register(party.party_id, signers[party.party_id])
                numbers[party.party_id] = number
                if party.party_id not in without_cover:
                    await self.deposit(number, cover_e4)
        opened = [replace(each, book_agreement=await self.open(each, numbers, signers)) for each in openings]
        async with units.begin() as unit:
            for party in parties:
                await unit.table(PARTY).put(_numbered(party, numbers[party.party_id]))
            for opening in opened:
                await unit.table(OPENING).put(opening)
            await unit.commit()
        return numbers

    async def do(self, to: bytes, calldata: bytes) -> None:
        receipt = await self.world.final(await self.world.sent(to, calldata))
        assert receipt.has_succeeded


async def a_market(world: ChainWorld, proposer: bytes) -> Market:
    """Deploy the contracts of a currency."""
    payer = world.payer.address

    async def made(name: str, types: str, *arguments: Any) -> bytes:
        code = bytes.fromhex(settlement_contracts.bytecode(name)[2:])
        receipt = await world.final(await world.sent(None, code + encode(types, arguments)))
        assert receipt.contract_address is not None
        return receipt.contract_address

    token = await made("EmbeddedCurrency", "(string,string,address)", b"Euro", b"EUR", payer)
    registry = await made("PartyRegistry", "(address)", payer)
    vault = await made("CollateralVault", "(address,address,uint64,address)", token, registry, DELAY_S, payer)
    book = await made("SettlementBook", "(bytes3,address,address,address)", b"EUR", registry, vault, payer)
    deployed = DeployedBook(
        book=Book(chain_id=await world.chain.chain_id(), address=book), registry=registry, vault=vault
    )
    market = Market(world=world, deployed=deployed, token=token)
    await market.do(registry, contracts.GRANT_ROLE.call(contracts.ISSUER_ROLE, payer))
    await market.do(vault, contracts.GRANT_ROLE.call(contracts.BOOK_ROLE, book))
    await market.do(book, contracts.GRANT_ROLE.call(contracts.PROPOSER_ROLE, proposer))
    return market


def _numbered(party: SettledParty, number: int) -> SettledParty:
    return replace(party, number=number)
