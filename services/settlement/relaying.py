"""Open agreements on a chain that others administer: both parties' signatures, relayed by whoever proposes.

Whoever sends the two is nothing to the book, so the process does. A party that we sign for signs by itself; another
hands its signature in (`agreement_words`). Cover is its owner's to give: what is missing is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from emobility.domain.agreement import SettlementMode
from emobility.domain.batch import contracts
from emobility.domain.batch.calls import (
    AgreementState,
    agreement_query,
    open_agreement_call,
    read_agreement,
    read_opening,
)
from emobility.domain.batch.typed_data import AgreementTerms, Book, agreement_digest, agreement_id, agreement_key
from emobility.domain.identifiers import PartyId
from emobility.ports.chain import CallReverted
from emobility.ports.ports import Ports
from emobility.ports.stores import TableSpec
from services.settlement.access import ChainAccess
from services.settlement.deployment import CurrencyContracts
from services.settlement.records import (
    OPENING,
    TRANSACTION,
    Opening,
    SettledParty,
    SigningPolicy,
    TransactionKind,
    TransactionRecord,
    TransactionState,
)

WORD_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementWord:
    """A party's own signature under an agreement as a book opens it. `digest`: what it signed."""

    digest: bytes
    party_id: PartyId
    signature: bytes
    given_at: datetime


AGREEMENT_WORD: Final = TableSpec(name="settlement_agreement_word", record=AgreementWord, key=("digest", "party_id"))


class Relaying:
    """Brings openings on whose two parties sign; a step at a time."""

    def __init__(self, ports: Ports, access: ChainAccess) -> None:
        self._ports = ports
        self._access = access

    async def bring_on(
        self,
        at: CurrencyContracts,
        book: Book,
        opening: Opening,
        terms: AgreementTerms,
        parties: Mapping[PartyId, SettledParty],
    ) -> int:
        """Sign, queue or note what became of it; return how much changed. Raises `ChainUnavailable`."""
        final = (await self._access.chain.finalized()).number
        if (known := await self._state(book, terms)) is not None:
            return await self._note(book, opening, terms, known, final)
        async with self._ports.units.begin() as unit:
            sent = await unit.table(TRANSACTION).get(opening_transaction_id(terms))
        if sent is not None:
            return await self._put(opening, replace(opening, waiting=sent.waiting))
        digest = agreement_digest(book, terms)
        signatures = {each: await self._signature(parties[each], digest) for each in (opening.cpo_id, opening.emsp_id)}
        by_cpo, by_msp = signatures[opening.cpo_id], signatures[opening.emsp_id]
        if by_cpo is None or by_msp is None:
            missing = [each.code for each, signature in signatures.items() if signature is None]
            reason = f"the signature of {' and '.join(missing)} under the agreement"
            return await self._put(opening, replace(opening, waiting=reason))
        if opening.mode is SettlementMode.GUARANTEE:
            free_e4 = await free_of(self._access, at, terms.msp)
            if free_e4 < terms.credit_limit_e4:
                reason = f"cover of {opening.emsp_id}: {terms.credit_limit_e4 - free_e4} e4 {opening.currency} more"
                return await self._put(opening, replace(opening, waiting=reason))
        queued = TransactionRecord(
            transaction_id=opening_transaction_id(terms),
            kind=TransactionKind.OPEN,
            batch_id=agreement_id(terms),
            chain_id=book.chain_id,
            account=self._access.proposer.address,
            receiver=book.address,
            calldata=open_agreement_call(terms, by_cpo=by_cpo, by_msp=by_msp),
            queued_at=self._ports.clock.now(),
        )
        return await self._put(opening, replace(opening, waiting=None), queued)

    async def _state(self, book: Book, terms: AgreementTerms, at_block: int | None = None) -> AgreementState | None:
        """Return the agreement that stands under this one's key; None: none does."""
        asked = agreement_query(agreement_key(terms))
        try:
            return read_agreement(await self._access.chain.call(book.address, asked, at_block=at_block))
        except CallReverted:
            return None

    async def _note(
        self, book: Book, opening: Opening, terms: AgreementTerms, known: AgreementState, final: int
    ) -> int:
        """Note that it is open, once that is final; where the key is another agreement's, take the next number."""
        key = agreement_key(terms)
        if known.agreement_id != agreement_id(terms):
            # The same document may stand there under a deadline that has passed since it was signed. What it was
            # opened with is compared: a limit gets smaller when a guarantee is called.
            topic = int.from_bytes(key, "big").to_bytes(WORD_BYTES, "big")
            log = await self._access.newest_log(book.address, [contracts.AGREEMENT_OPENED.topic, topic])
            wanted = terms.document, terms.mode, terms.credit_limit_e4, terms.payment_term_s
            if log is None or read_opening(log.topics, log.data).terms != wanted:
                renumbered = replace(opening, number=(opening.number or 0) + 1, waiting=None)
                return await self._put(opening, renumbered, done=terms)
        if await self._state(book, terms, final) is None:
            return await self._put(opening, replace(opening, waiting=None))
        return await self._put(opening, replace(opening, book_agreement=key, waiting=None), done=terms)

    async def _signature(self, party: SettledParty, digest: bytes) -> bytes | None:
        if party.is_hosted and party.signs is SigningPolicy.AUTOMATIC:
            return await self._access.signer_of(party.party_id).sign_digest(digest)
        async with self._ports.units.begin() as unit:
            word = await unit.table(AGREEMENT_WORD).get(digest, party.party_id)
        return None if word is None else word.signature

    async def _put(
        self,
        before: Opening,
        after: Opening,
        queued: TransactionRecord | None = None,
        *,
        done: AgreementTerms | None = None,
    ) -> int:
        """Store a step, unless somebody else made one; return how many.

        Args:
            before: As it was.
            after: As it is now.
            queued: What is to be sent for it.
            done: Terms whose call can do nothing any more: while it has no nonce it is dropped.
        """
        if after == before and queued is None:
            return 0
        async with self._ports.units.begin() as unit:
            key = (before.cpo_id, before.agreement_id, before.version)
            if await unit.table(OPENING).get_for_update(*key) != before:
                return 0
            await unit.table(OPENING).put(after)
            if queued is not None:
                await unit.table(TRANSACTION).put(queued)
            if done is not None:
                await unit.table(TRANSACTION).delete(
                    opening_transaction_id(done), where={"state": TransactionState.QUEUED}
                )
            await unit.commit()
        return 1


async def free_of(access: ChainAccess, at: CurrencyContracts, party: int) -> int:
    """Return what a party, by number, has in a vault and nobody reserved, in ten-thousandths."""
    (free,) = contracts.FREE_OF.answer(await access.chain.call(at.vault, contracts.FREE_OF.call(party)))
    (units,) = contracts.UNITS_PER_E4.answer(await access.chain.call(at.vault, contracts.UNITS_PER_E4.call()))
    return int(free) // int(units)


def opening_transaction_id(terms: AgreementTerms) -> str:
    """Name the transaction that opens an agreement."""
    return f"open/{agreement_id(terms).hex()}"
