"""Confidential mode for a party that keeps its own key: it is shown the whole of what it signs, and hands its word in.

It signs twice: each statement, once, and its net over its statements of a batch. Each refusal is named after its rule;
what was signed already and comes again is acknowledged, without effect.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from emobility.domain.batch import contracts
from emobility.domain.batch.confidential import salts_of, statement_digest
from emobility.domain.batch.typed_data import digest_of
from emobility.domain.errors import RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from services.settlement.acceptances import AlreadyAccepted, SignatureNotOfParty, statement_of_party
from services.settlement.access import ChainAccess
from services.settlement.batching import key_of, refuse_difference
from services.settlement.confidential_batches import (
    book_of,
    digest_of_net,
    hashes_of,
    key_of_sealed,
    out_of_turn,
    sealed_in,
    sealed_statement,
)
from services.settlement.confidential_records import (
    CONFIDENTIAL_BATCH,
    CONFIDENTIAL_BOOK,
    PARTY_NET,
    SEALED_STATEMENT,
    ConfidentialBatchRecord,
    ConfidentialBatchState,
    ConfidentialBookRecord,
    PartyNetRecord,
    SealedStatementRecord,
)
from services.settlement.records import AGREEMENT, STATEMENT, StatementRecord

BATCHES_SHOWN_MAX: Final = 100


class NotSealed(RuleBroken):
    """The statement is not settled in confidential mode, or waits for what it says it waits for."""


class UnknownNet(RuleBroken):
    """The party has no net in such a batch, or the batch was left."""


class ConfidentialSigning:
    """Shows what is to be signed, and takes signatures in."""

    def __init__(self, ports: Ports, access: ChainAccess | None) -> None:
        self._ports = ports
        self._access = access

    # Showing

    async def shown_statement(self, party_id: PartyId, statement_hash: bytes) -> dict[str, Any]:
        """Return a sealed statement as one of its parties signs it, with all that it is made of.

        Raises:
            UnknownStatement: it is none of the party's.
            NotSealed: it is not settled in confidential mode, or not sealed yet.
        """
        async with self._ports.units.begin() as unit:
            record, sealed, book = await self._sealed(unit, party_id, statement_hash)
            pair = await unit.table(AGREEMENT).get(record.cpo_id, record.agreement_id)
        assert pair is not None
        secret = bytes.fromhex(await self._ports.vault.open(pair.pair_secret))
        salts = salts_of(pair_secret=secret, agreement=record.book_agreement, sequence=record.sequence)
        statement = sealed_statement(record, cpo=sealed.cpo_number, msp=sealed.msp_number, salts=salts)
        return {
            "chain_id": book.chain_id,
            "book": book.book.hex(),
            "agreement": statement.agreement.hex(),
            "cpo": statement.cpo,
            "msp": statement.msp,
            "count": statement.count,
            "sequence": statement.sequence,
            "period_end": statement.period_end,
            "evidence_root": statement.evidence_root.hex(),
            "amounts": statement.amounts.hex(),
            "sum_root": record.sum_root.hex(),
            "due_e4": record.due_e4,
            "credit_e4": record.credit_e4,
            "salt": salts.posted.hex(),
            "salt_of_amounts": salts.amounts.hex(),
            "posted": sealed.posted.hex(),
            "digest": statement_digest(book_of(book), statement).hex(),
            "by_cpo": None if sealed.by_cpo is None else sealed.by_cpo.hex(),
            "by_msp": None if sealed.by_msp is None else sealed.by_msp.hex(),
            "batch_id": None if sealed.batch_id is None else sealed.batch_id.hex(),
            "position": sealed.position,
        }

    async def shown_nets(self, party_id: PartyId) -> list[dict[str, Any]]:
        """Return the party's nets, the newest first, each with its batch's hashes and the party's place among them.

        Its own statements alone: what others owe is not told.
        """
        async with self._ports.units.begin() as unit:
            nets = await unit.table(PARTY_NET).select(
                {"party_id": party_id}, order_by=("-formed_at",), limit=BATCHES_SHOWN_MAX
            )
            return [await self._shown_net(unit, net) for net in nets]

    async def _shown_net(self, unit: UnitOfWork, net: PartyNetRecord) -> dict[str, Any]:
        batch = await unit.table(CONFIDENTIAL_BATCH).get(net.batch_id)
        assert batch is not None
        own = [each for each in await sealed_in(unit, net.batch_id) if net.party_id in {each.cpo_id, each.emsp_id}]
        statements = [await unit.table(STATEMENT).get(*key_of_sealed(each)) for each in own]
        return {
            "batch_id": batch.batch_id.hex(),
            "state": batch.state.value,
            "waits_for": batch.waiting,
            "chain_id": batch.chain_id,
            "book": batch.book.hex(),
            "hashes": [each.hex() for each in hashes_of(batch)],
            "party": net.number,
            "net_e4": net.net_e4,
            "nonce": net.nonce,
            "statements": [
                {
                    "statement": statement.statement_hash.hex(),
                    "position": sealed.position,
                    "net_e4": (statement.due_e4 - statement.credit_e4) * (1 if net.party_id == sealed.cpo_id else -1),
                }
                for sealed, statement in zip(own, statements, strict=True)
                if statement is not None
            ],
            "digest": digest_of_net(batch, net).hex(),
            "signed": net.signature is not None,
            "transaction": None if batch.settled_in is None else batch.settled_in.hex(),
        }

    # Taking

    async def take_statement(self, party_id: PartyId, statement_hash: bytes, signature: bytes) -> None:
        """Take a party's signature of a sealed statement.

        Raises:
            UnknownStatement, NotSealed: there is nothing of the party's to sign, or not yet.
            StatementDiffers: its CDRs were changed since it was closed.
            SignatureNotOfParty: it is not by the party's registered key over this statement.
            AlreadyAccepted: the party signed it with another signature.
            ChainUnavailable: the registry can't be asked.
        """
        async with self._ports.units.begin() as unit:
            record, sealed, book = await self._sealed(unit, party_id, statement_hash)
            if reason := await out_of_turn(unit, record):
                raise NotSealed(f"statement {statement_hash.hex()} waits: {reason}")
            await refuse_difference(unit, record)
        side, number = ("by_cpo", sealed.cpo_number) if party_id == sealed.cpo_id else ("by_msp", sealed.msp_number)
        await self._refuse_other_key(book, party_id, number, digest_of(book_of(book), sealed.struct_hash), signature)
        async with self._ports.units.begin() as unit:
            current = await unit.table(SEALED_STATEMENT).get_for_update(*key_of(record))
            assert current is not None
            if (known := getattr(current, side)) is not None:
                _refuse_another(party_id, known, signature)
                return
            given = replace(current, by_cpo=signature) if side == "by_cpo" else replace(current, by_msp=signature)
            await unit.table(SEALED_STATEMENT).put(given)
            await unit.commit()

    async def take_net(self, party_id: PartyId, batch_id: bytes, signature: bytes) -> None:
        """Take a party's signature of its net.

        Raises:
            UnknownNet: the party has none in such a batch, or the batch was left.
            SignatureNotOfParty: it is not by the party's registered key over this net.
            AlreadyAccepted: the party signed it with another signature, or the batch goes its way.
            ChainUnavailable: the registry can't be asked.
        """
        async with self._ports.units.begin() as unit:
            net, batch = await _open_net(unit, party_id, batch_id)
            if net.signature is not None:
                _refuse_another(party_id, net.signature, signature)
                return
            book = await unit.table(CONFIDENTIAL_BOOK).get(batch.chain_id, batch.currency)
            assert book is not None
        signer = await self._refuse_other_key(book, party_id, net.number, digest_of_net(batch, net), signature)
        async with self._ports.units.begin() as unit:
            net, batch = await _open_net(unit, party_id, batch_id)
            await unit.table(PARTY_NET).put(replace(net, signature=signature, signer=signer))
            await unit.table(CONFIDENTIAL_BATCH).put(replace(batch, waiting=None))
            await unit.commit()

    async def _refuse_other_key(
        self, book: ConfidentialBookRecord, party_id: PartyId, number: int, digest: bytes, signature: bytes
    ) -> bytes:
        """Return the party's registered signer, whose signature this is."""
        if self._access is None:
            raise NotSealed("no chain is configured here")
        answer = await self._access.chain.call(book.registry, contracts.SIGNER_OF.call(number))
        (signer,) = contracts.SIGNER_OF.answer(answer)
        if self._access.recovered_address(digest, signature) != signer:
            raise SignatureNotOfParty(f"the key registered for {party_id} signed something else, or did not sign")
        return bytes(signer)

    async def _sealed(
        self, unit: UnitOfWork, party_id: PartyId, statement_hash: bytes
    ) -> tuple[StatementRecord, SealedStatementRecord, ConfidentialBookRecord]:
        record = await statement_of_party(unit, party_id, statement_hash)
        sealed = await unit.table(SEALED_STATEMENT).get(*key_of(record))
        book = None if sealed is None else await unit.table(CONFIDENTIAL_BOOK).get(sealed.chain_id, sealed.currency)
        if sealed is None or book is None:
            raise NotSealed(f"statement {statement_hash.hex()} waits for: {record.waiting}")
        return record, sealed, book


async def _open_net(
    unit: UnitOfWork, party_id: PartyId, batch_id: bytes
) -> tuple[PartyNetRecord, ConfidentialBatchRecord]:
    batch = await unit.table(CONFIDENTIAL_BATCH).get_for_update(batch_id)  # first, as who abandons it does
    net = await unit.table(PARTY_NET).get_for_update(batch_id, party_id)
    if net is None or batch is None or batch.state is ConfidentialBatchState.ABANDONED:
        raise UnknownNet(f"{party_id} has no net in a batch {batch_id.hex()}")
    if batch.state is not ConfidentialBatchState.COLLECTING and net.signature is None:
        raise AlreadyAccepted(f"batch {batch_id.hex()} goes its way")
    return net, batch


def _refuse_another(party_id: PartyId, known: bytes, given: bytes) -> None:
    if known != given:
        raise AlreadyAccepted(f"{party_id} signed this with another signature")
