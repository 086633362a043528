"""Signatures that come from outside: a party that keeps its own key looks at a statement and hands its word in.

Each refusal is named after its rule. What was accepted already and comes again is acknowledged, without effect.
"""

from __future__ import annotations

from dataclasses import dataclass

from emobility.domain.batch import contracts
from emobility.domain.batch.calls import REGISTRY_QUERY, read_registry
from emobility.domain.batch.typed_data import acceptance_digest
from emobility.domain.errors import RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from services.settlement.access import ChainAccess
from services.settlement.batching import (
    PAIRS_BYTES,
    acceptances_of,
    book_of,
    pairs_of,
    refuse_difference,
    statements_of,
)
from services.settlement.records import (
    ACCEPTANCE,
    BATCH,
    PARTY,
    STATEMENT,
    AcceptanceRecord,
    BatchRecord,
    StatementRecord,
    StatementState,
)


class UnknownStatement(RuleBroken):
    """The party takes part in no such statement."""


class NotInABatch(RuleBroken):
    """The statement is in no batch yet, so there is nothing to sign: it waits for what it says it waits for."""


class OtherChain(RuleBroken):
    """The signature is for another chain than the one that the statement is settled on."""


class OtherBook(RuleBroken):
    """The signature is for another book."""


class OtherBatch(RuleBroken):
    """The signature was given for another batch; it can't be used again."""


class NotRegistered(RuleBroken):
    """The party is not in the registry, so nobody can sign for it."""


class SignatureNotOfParty(RuleBroken):
    """The signature is not by the party's registered key over this statement."""


class AlreadyAccepted(RuleBroken):
    """The party accepted the statement with another signature."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenAcceptance:
    """A party's signature, and what it believes that it signed."""

    chain_id: int
    book: bytes
    batch_id: bytes
    signature: bytes


class Acceptances:
    """Takes signatures in."""

    def __init__(self, ports: Ports, access: ChainAccess) -> None:
        self._ports = ports
        self._access = access

    async def take(self, party_id: PartyId, statement_hash: bytes, given: GivenAcceptance) -> None:
        """Take a party's acceptance of a statement.

        Raises:
            UnknownStatement: it is none of the party's.
            NotInABatch: it can't be signed yet.
            OtherChain, OtherBook, OtherBatch: the signature is for something else.
            StatementDiffers: its CDRs were changed since it was closed.
            NotRegistered, SignatureNotOfParty: nobody may sign, or somebody else did.
            AlreadyAccepted: another signature is there, or it counts as accepted without one.
            ChainUnavailable: the registry can't be asked.
        """
        async with self._ports.units.begin() as unit:
            record = await statement_of_party(unit, party_id, statement_hash)
            batch = None if record.batch_id is None else await unit.table(BATCH).get(record.batch_id)
            if batch is None:
                raise NotInABatch(f"statement {statement_hash.hex()} waits for: {record.waiting}")
            _refuse_foreign(batch, given)
            known = (await acceptances_of(unit, batch.batch_id)).get(party_id)
            if known is not None and known.signature == given.signature:
                return
            if known is not None or record.state in {StatementState.FINAL, StatementState.VOID}:
                raise AlreadyAccepted(f"batch {batch.batch_id.hex()} does not wait for {party_id} any more")
            await refuse_difference(unit, record)
            pairs = pairs_of(await statements_of(unit, batch))[party_id]
        number, signer = await self._registered(party_id, batch)
        digest = acceptance_digest(
            book_of(batch), batch_id=batch.batch_id, pairs_hash=batch.pairs_hash, party=number, pairs=pairs
        )
        if self._access.recovered_address(digest, given.signature) != signer:
            raise SignatureNotOfParty(f"the key registered for {party_id} signed something else, or did not sign")
        acceptance = AcceptanceRecord(
            batch_id=batch.batch_id,
            party_id=party_id,
            number=number,
            pairs=pairs.to_bytes(PAIRS_BYTES, "big"),
            signature=given.signature,
            signed_at=self._ports.clock.now(),
        )
        async with self._ports.units.begin() as unit:
            await unit.table(ACCEPTANCE).insert(acceptance)
            await unit.commit()

    async def _registered(self, party_id: PartyId, batch: BatchRecord) -> tuple[int, bytes]:
        """Return a party's number and who signs for it, as the registry of the batch's book has them."""
        async with self._ports.units.begin() as unit:
            party = await unit.table(PARTY).get(party_id)
        if party is None or party.number is None:
            raise NotRegistered(f"{party_id} is not in the registry")
        chain = self._access.chain
        registry = read_registry(await chain.call(batch.book, REGISTRY_QUERY))
        (signer,) = contracts.SIGNER_OF.answer(await chain.call(registry, contracts.SIGNER_OF.call(party.number)))
        return party.number, signer


async def statement_of_party(unit: UnitOfWork, party_id: PartyId, statement_hash: bytes) -> StatementRecord:
    """Return a statement that the party takes part in. Raises `UnknownStatement`."""
    found = await unit.table(STATEMENT).select({"statement_hash": statement_hash})
    if not found or party_id not in {found[0].cpo_id, found[0].emsp_id}:
        raise UnknownStatement(f"{party_id} has no statement {statement_hash.hex()}")
    return found[0]


def _refuse_foreign(batch: BatchRecord, given: GivenAcceptance) -> None:
    if given.chain_id != batch.chain_id:
        raise OtherChain(f"it is settled on chain {batch.chain_id}, the signature is for chain {given.chain_id}")
    if given.book != batch.book:
        raise OtherBook(f"it is settled in book {batch.book.hex()}, the signature is for {given.book.hex()}")
    if given.batch_id != batch.batch_id:
        raise OtherBatch(f"it is in batch {batch.batch_id.hex()}, the signature is for {given.batch_id.hex()}")
