"""A party's own word under agreements on a chain: the terms as the book reads them, its signature, and its cover.

A party that keeps its key is shown what it signs, with the digest, and hands its signature in; `relaying` sends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
from fastapi import FastAPI, Request
from fastapi.responses import Response

from emobility.domain.agreement import SettlementMode
from emobility.domain.batch import contracts
from emobility.domain.batch.typed_data import AgreementTerms, Book, agreement_digest
from emobility.domain.identifiers import PartyId
from emobility.ports.ports import Ports
from emobility.runtime.access import Access
from services.settlement.acceptances import AlreadyAccepted, SignatureNotOfParty
from services.settlement.access import ChainAccess
from services.settlement.api import NoChain, NotHere, answer, hash_of, hex_bytes, of_party, read_body
from services.settlement.books import StoredBooks
from services.settlement.deployment import CurrencyContracts
from services.settlement.opening import BOOK_MODES, book_terms
from services.settlement.records import (
    OPENING,
    PARTY,
    STATEMENT,
    TRANSACTION,
    Opening,
    StatementState,
    TransactionState,
)
from services.settlement.relaying import AGREEMENT_WORD, AgreementWord, free_of, opening_transaction_id

SIGNATURE_DIGITS: Final = 128
_WAITING: Final = (StatementState.CLOSED, StatementState.PROPOSED, StatementState.RIPENING, StatementState.UNFUNDED)


class SignatureRequest(msgspec.Struct, frozen=True, kw_only=True):
    """POST /{party}/agreements/{digest}/signature: compact (r, then s with y's parity on top; EIP-2098), hex."""

    signature: Annotated[str, msgspec.Meta(pattern=rf"^(0x)?[0-9a-fA-F]{{{SIGNATURE_DIGITS}}}$")]


class AgreementWords:
    """Shows parties what they sign for a book and what cover they lack, and takes their signatures."""

    def __init__(self, ports: Ports, access: ChainAccess | None) -> None:
        self._ports = ports
        self._access = access
        self._books = StoredBooks(ports.units)

    def mount_on(self, app: FastAPI, guard: Access) -> None:
        """Add the routes."""

        async def show(_: Request, party_id: PartyId) -> Response:
            return answer(await self.shown(party_id))

        async def sign(request: Request, party_id: PartyId) -> Response:
            asked = await read_body(request, SignatureRequest)
            await self.take(party_id, hash_of(request, "digest"), hex_bytes(asked.signature))
            return Response(status_code=204)

        app.add_api_route("/{party}/agreements", of_party(guard, show), methods=["GET"])
        app.add_api_route("/{party}/agreements/{digest}/signature", of_party(guard, sign), methods=["POST"])

    async def shown(self, party_id: PartyId) -> list[dict[str, Any]]:
        """Return a party's agreements as books have or would have them. Raises `NoChain`, `ChainUnavailable`."""
        access = self._chain()
        found = []
        for opening in await self._openings(party_id):
            terms = await self._terms(opening)
            at, book = await self._contracts(opening.currency)
            found.append(
                {
                    "cpo": opening.cpo_id.code,
                    "emsp": opening.emsp_id.code,
                    "agreement": opening.agreement_id,
                    "version": opening.version,
                    "currency": opening.currency,
                    "mode": opening.mode.value,
                    "is_open": opening.book_agreement is not None,
                    "waits_for": opening.waiting,
                    "terms": None if terms is None else _shown_terms(terms),
                    "sign": None
                    if terms is None or book is None or opening.book_agreement is not None
                    else {
                        "chain_id": book.chain_id,
                        "book": f"0x{book.address.hex()}",
                        "digest": agreement_digest(book, terms).hex(),
                    },
                    "cover": None
                    if terms is None or at is None
                    else await self._cover(access, at, opening, terms, party_id),
                }
            )
        return found

    async def _cover(
        self, access: ChainAccess, at: CurrencyContracts, opening: Opening, terms: AgreementTerms, party_id: PartyId
    ) -> dict[str, Any]:
        """Return what a party's own account should deposit so that nothing of this agreement waits for it."""
        number = terms.cpo if party_id == opening.cpo_id else terms.msp
        free_e4, needed_e4 = await free_of(access, at, number), 0
        if opening.mode is SettlementMode.GUARANTEE and party_id == opening.emsp_id and opening.book_agreement is None:
            needed_e4 = opening.credit_limit_e4
        if opening.mode is SettlementMode.PREFUNDED:
            where = {"cpo_id": opening.cpo_id, "agreement_id": opening.agreement_id, "state": _WAITING}
            async with self._ports.units.begin() as unit:
                rows = await unit.table(STATEMENT).select(where | {"version": opening.version})
            owed_e4 = sum(each.due_e4 - each.credit_e4 for each in rows)
            needed_e4 = max(owed_e4 if party_id == opening.emsp_id else -owed_e4, 0)
        units = contracts.UNITS_PER_E4.answer(await access.chain.call(at.vault, contracts.UNITS_PER_E4.call()))[0]
        missing_e4 = max(needed_e4 - free_e4, 0)
        return {
            "token": f"0x{at.token.hex()}",
            "vault": f"0x{at.vault.hex()}",
            "party_number": number,
            "free_e4": free_e4,
            "needed_e4": needed_e4,
            "missing_e4": missing_e4,
            "missing_in_token_units": str(missing_e4 * int(units)),
        }

    async def take(self, party_id: PartyId, digest: bytes, signature: bytes) -> None:
        """Take a party's own signature under an agreement.

        Raises:
            NoChain: there is none.
            NotHere: it has nothing of this digest to sign: other terms, or they are open already.
            SignatureNotOfParty: its registered key signed something else.
            AlreadyAccepted: the same key gave another signature before.
        """
        access = self._chain()
        for opening in await self._openings(party_id):
            terms = await self._terms(opening)
            _, book = await self._contracts(opening.currency)
            if terms is None or book is None or opening.book_agreement is not None:
                continue
            if agreement_digest(book, terms) == digest:
                break
        else:
            raise NotHere(f"{party_id} has no agreement to sign as {digest.hex()}; GET its agreements again")
        number = terms.cpo if party_id == opening.cpo_id else terms.msp
        deployed = await self._books.book_of(opening.currency)
        assert deployed is not None
        asked = contracts.SIGNER_OF.call(number)
        (signer,) = contracts.SIGNER_OF.answer(await access.chain.call(deployed.registry, asked))
        if access.recovered_address(digest, signature) != signer:
            raise SignatureNotOfParty(f"the key registered for {party_id} signed something else, or did not sign")
        word = AgreementWord(digest=digest, party_id=party_id, signature=signature, given_at=self._ports.clock.now())
        async with self._ports.units.begin() as unit:
            known = await unit.table(AGREEMENT_WORD).get_for_update(digest, party_id)
            if known is None:
                await unit.table(AGREEMENT_WORD).insert(word)
            elif known.signature != signature:
                if access.recovered_address(digest, known.signature) == signer:
                    raise AlreadyAccepted(f"{party_id} signed this agreement")
                # It has another key since, and the book asks for that one's word. A call with the old is made anew.
                await unit.table(AGREEMENT_WORD).put(word)
            queued = {"state": TransactionState.QUEUED}
            await unit.table(TRANSACTION).delete(opening_transaction_id(terms), where=queued)
            await unit.commit()

    def _chain(self) -> ChainAccess:
        if self._access is None:
            raise NoChain
        return self._access

    async def _openings(self, party_id: PartyId) -> Sequence[Opening]:
        async with self._ports.units.begin() as unit:
            return [
                row
                for side in ("cpo_id", "emsp_id")
                for row in await unit.table(OPENING).select(
                    {side: party_id, "mode": tuple(BOOK_MODES)}, order_by=("agreement_id", "version")
                )
            ]

    async def _terms(self, opening: Opening) -> AgreementTerms | None:
        """Return an opening as its parties sign it; None: it has no number or deadline yet, or a party has none."""
        if opening.deadline is None or opening.number is None:
            return None
        async with self._ports.units.begin() as unit:
            both = await unit.table(PARTY).select({"party_id": (opening.cpo_id, opening.emsp_id)})
        parties = {each.party_id: each for each in both}
        if any(each.number is None for each in both) or len(parties) != 2:
            return None
        return book_terms(opening, parties, deadline=opening.deadline)

    async def _contracts(self, currency: str) -> tuple[CurrencyContracts | None, Book | None]:
        deployment = await self._books.deployment()
        return (None, None) if deployment is None else (deployment.of(currency), deployment.book(currency))


def _shown_terms(terms: AgreementTerms) -> dict[str, Any]:
    """Return the fields of the EIP-712 type `Agreement`, by their names there."""
    return {
        "document": f"0x{terms.document.hex()}",
        "cpo": terms.cpo,
        "msp": terms.msp,
        "currency": terms.currency,
        "kind": int(terms.kind),
        "number": terms.number,
        "mode": int(terms.mode),
        "creditLimitE4": terms.credit_limit_e4,
        "paymentTermS": terms.payment_term_s,
        "deadline": int(terms.deadline.timestamp()),
    }
