"""Bring parties and agreements into the contracts: numbers, cover in play money, agreements with both signatures.

On a chain of our own we deploy and administer; elsewhere others do: registrations wait for their country's issuer, and
both signatures are relayed. What waits says for what. Nothing here holds up taking CDRs in; they wait for their
agreement to be open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from emobility.domain.agreement import SettlementMode
from emobility.domain.batch import contracts
from emobility.domain.batch.typed_data import AgreementTerms, BookMode
from emobility.domain.identifiers import PartyId
from emobility.ports.chain import CallReverted
from emobility.ports.ports import Ports
from services.settlement.access import ChainAccess
from services.settlement.books import StoredBooks
from services.settlement.confidential_opening import ConfidentialOpenings
from services.settlement.deployment import CurrencyContracts, Deployer, Deployment
from services.settlement.given_deployment import GivenDeployment
from services.settlement.records import DEPLOYMENT, OPENING, PARTY, DeploymentRecord, Opening, SettledParty
from services.settlement.registering import Registering, number_at
from services.settlement.relaying import Relaying
from services.settlement.sending import error_name

VALID_FOR: Final = timedelta(days=90)
"""How long the signatures under an opening are good; after that it is signed anew."""
DAY_S: Final = 24 * 3600
PLAY_MONEY_E4: Final = 10**10
"""Cover of each party that needs some on a chain of our own, in ten-thousandths: a million."""
BOOK_MODES: Final = {
    SettlementMode.PREFUNDED: BookMode.PREFUNDED,
    SettlementMode.CREDIT_LINE: BookMode.CREDIT_LINE,
    SettlementMode.GUARANTEE: BookMode.GUARANTEE,
}


class Openings:
    """Opens what is not open yet; one `advance` after the other."""

    def __init__(
        self,
        ports: Ports,
        access: ChainAccess,
        books: StoredBooks,
        deployer: Deployer | None,
        given: GivenDeployment | None = None,
    ) -> None:
        """Take `deployer` on a chain of our own; `given`: contracts on another one, once they are recognised."""
        self._given = given
        self._ports = ports
        self._access = access
        self.books = books
        self.deployer = deployer
        self._relaying = Relaying(ports, access)
        self._registering = Registering(ports, access)
        self._confidential = ConfidentialOpenings(ports, access, deployer, cover_e4=PLAY_MONEY_E4)

    async def recognise(self) -> None:
        """Make sure that the chain holds the contracts that were given. Raises what `GivenDeployment.taken` does."""
        if self._given is not None:
            await self._given.taken()

    async def advance(self) -> int:
        """Register parties and open agreements; return how many. Raises `ChainUnavailable`, `DeploymentGone`."""
        moved = 0 if self.deployer is not None else await self._registering.advance()
        async with self._ports.units.begin() as unit:
            found = await unit.table(OPENING).select({"book_agreement": None}, order_by=("cpo_id", "agreement_id"))
        unopened = [each for each in found if each.mode is not SettlementMode.OFF_CHAIN]
        if not unopened:
            return moved
        deployment = await self._deployment({each.currency for each in unopened})
        if deployment is None:
            return await self._wait(unopened, "no contracts are known on this chain")
        parties = await self._parties(deployment, unopened)
        hidden = [each for each in unopened if each.mode is SettlementMode.CONFIDENTIAL]
        shown = [each for each in unopened if each not in hidden]
        opened = moved + sum([await self._open_in(deployment, each, shown, parties) for each in _currencies(shown)])
        return opened + await self._confidential.advance(deployment, hidden, parties)

    async def _deployment(self, currencies: set[str]) -> Deployment | None:
        known = await self.books.deployment()
        if known is not None or self.deployer is None:
            return known
        made = await self.deployer.deploy(sorted(currencies), proposer=self._access.proposer.address)
        async with self._ports.units.begin() as unit:
            await unit.table(DEPLOYMENT).put(DeploymentRecord(chain_id=made.chain_id, deployment=made))
            await unit.commit()
        return made

    # Parties

    async def _parties(self, deployment: Deployment, openings: Sequence[Opening]) -> dict[PartyId, SettledParty]:
        """Return whom agreements are about, registering those we sign for where we may."""
        concerned = tuple(sorted({party for each in openings for party in (each.cpo_id, each.emsp_id)}))
        async with self._ports.units.begin() as unit:
            parties = await unit.table(PARTY).select({"party_id": concerned})
        missing = [each for each in parties if each.number is None]
        found: dict[PartyId, int] = {}
        if self.deployer is not None:
            ours = {each.party_id: self._access.signer_of(each.party_id) for each in missing if each.is_hosted}
            found = await self.deployer.register_parties(deployment, ours) if ours else {}
        for each in missing:
            if each.party_id not in found and (number := await self._registered(deployment, each.party_id)):
                found[each.party_id] = number
        async with self._ports.units.begin() as unit:
            for party_id, number in found.items():
                known = await unit.table(PARTY).get_for_update(party_id)
                assert known is not None, f"{party_id} is gone"
                await unit.table(PARTY).put(replace(known, number=number))
            await unit.commit()
        return {each.party_id: replace(each, number=found.get(each.party_id, each.number)) for each in parties}

    @property
    def issuers(self) -> Mapping[str, Sequence[bytes]]:
        """Who vouches for parties on a chain that others administer, by country, as the deployment names them."""
        return {} if self._given is None else self._given.issuers

    async def _registered(self, deployment: Deployment, party_id: PartyId) -> int:
        if self.deployer is None:
            return await number_at(self._access, deployment, party_id, (await self._access.chain.finalized()).number)
        codes = party_id.country_code.encode(), party_id.party_id.encode()
        answer = await self._access.chain.call(deployment.registry, contracts.NUMBER_OF.call(*codes))
        return int(contracts.NUMBER_OF.answer(answer)[0])

    # Agreements

    async def _open_in(
        self, deployment: Deployment, currency: str, unopened: Sequence[Opening], parties: dict[PartyId, SettledParty]
    ) -> int:
        of_currency = [each for each in unopened if each.currency == currency]
        into = deployment.of(currency)
        if into is None:
            return await self._wait(of_currency, f"no book settles {currency}")
        ready = []
        for each in of_currency:
            reason = _refusal(each, parties, relays=self.deployer is None)
            if reason is None:
                ready.append(await self._with_deadline(each))
            else:
                await self._wait([each], reason)
        if self.deployer is None:
            return sum([await self._relay(deployment, into, each, parties) for each in ready])
        if not ready:
            return 0
        await self._cover(into, ready, parties)
        return sum([await self._open(self.deployer, deployment, each, parties) for each in ready])

    async def _relay(
        self,
        deployment: Deployment,
        into: CurrencyContracts,
        opening: Opening,
        parties: dict[PartyId, SettledParty],
    ) -> int:
        book = deployment.book(opening.currency)
        assert book is not None
        assert opening.deadline is not None
        terms = book_terms(opening, parties, deadline=opening.deadline)
        return await self._relaying.bring_on(into, book, opening, terms, parties)

    async def _with_deadline(self, opening: Opening) -> Opening:
        """Store until when it can be opened, and its number, before anybody signs: both are part of what is signed."""
        now = self._ports.clock.now().replace(microsecond=0)
        if opening.deadline is not None and opening.deadline > now:
            return opening
        async with self._ports.units.begin() as unit:
            pair = {"cpo_id": opening.cpo_id, "emsp_id": opening.emsp_id, "currency": opening.currency}
            taken = [each.number for each in await unit.table(OPENING).select(pair) if each.number is not None]
            number = max(taken, default=-1) + 1 if opening.number is None else opening.number
            dated = replace(opening, number=number, deadline=now + VALID_FOR)
            await unit.table(OPENING).put(dated)
            await unit.commit()
        return dated

    async def _cover(
        self, into: CurrencyContracts, openings: Sequence[Opening], parties: dict[PartyId, SettledParty]
    ) -> None:
        assert self.deployer is not None
        prefunded = {
            number_of(parties, party): PLAY_MONEY_E4
            for each in openings
            if each.mode is not SettlementMode.CREDIT_LINE
            for party in (each.cpo_id, each.emsp_id)
        }
        await self.deployer.deposit(into, prefunded)

    async def _open(
        self, deployer: Deployer, deployment: Deployment, opening: Opening, parties: dict[PartyId, SettledParty]
    ) -> int:
        assert opening.deadline is not None
        terms = book_terms(opening, parties, deadline=opening.deadline)
        signers = self._access.signer_of(opening.cpo_id), self._access.signer_of(opening.emsp_id)
        try:
            (agreement,) = await deployer.open_agreements(deployment, [(terms, *signers)])
        except CallReverted as refusal:
            if refusal.data.startswith(contracts.KNOWN_AGREEMENT.selector):
                # Rows that were restored from an old copy forgot an agreement: this one gets the next number.
                return await self._renumber(opening)
            return await self._wait([opening], f"the book refuses: {error_name(refusal.data)}")
        async with self._ports.units.begin() as unit:
            await unit.table(OPENING).put(replace(opening, book_agreement=agreement, waiting=None))
            await unit.commit()
        return 1

    async def _renumber(self, opening: Opening) -> int:
        async with self._ports.units.begin() as unit:
            await unit.table(OPENING).put(replace(opening, number=(opening.number or 0) + 1))
            await unit.commit()
        return 1

    async def _wait(self, openings: Sequence[Opening], reason: str) -> int:
        """Say why agreements are not open; nothing was done."""
        async with self._ports.units.begin() as unit:
            for each in openings:
                if each.waiting != reason:
                    await unit.table(OPENING).put(replace(each, waiting=reason))
            await unit.commit()
        return 0


def number_of(parties: dict[PartyId, SettledParty], party_id: PartyId) -> int:
    """Return the number of a party that is registered."""
    number = parties[party_id].number
    assert number is not None, f"{party_id} has no number"
    return number


def book_terms(opening: Opening, parties: dict[PartyId, SettledParty], *, deadline: datetime) -> AgreementTerms:
    """Return an agreement as its two parties sign it for the book."""
    return AgreementTerms(
        document=opening.document,
        cpo=number_of(parties, opening.cpo_id),
        msp=number_of(parties, opening.emsp_id),
        currency=opening.currency,
        number=opening.number or 0,
        mode=BOOK_MODES[opening.mode],
        credit_limit_e4=opening.credit_limit_e4,
        payment_term_s=opening.payment_terms_d * DAY_S,
        deadline=deadline,
    )


def _refusal(opening: Opening, parties: dict[PartyId, SettledParty], *, relays: bool) -> str | None:
    """Return why we can't open an agreement. `relays`: signatures of others can come in."""
    if opening.mode not in BOOK_MODES:
        return f"no book settles by {opening.mode}"
    both = [parties[each] for each in (opening.cpo_id, opening.emsp_id)]
    if absent := [str(each.party_id) for each in both if each.number is None]:
        return f"the registration of {' and '.join(absent)}"
    if outside := [str(each.party_id) for each in both if not each.is_hosted and not relays]:
        return f"the signature of {' and '.join(outside)} under the agreement"
    return None


def _currencies(openings: Sequence[Opening]) -> list[str]:
    return sorted({each.currency for each in openings})
