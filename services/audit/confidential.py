"""Confidential mode: a party's net is the sum of its statements' nets, here and on the chain, and all was signed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from emobility.adapters.chain_signing import recovered_address
from emobility.domain.batch import contracts
from emobility.domain.batch.abi import Function, MalformedCall
from emobility.domain.batch.confidential import batch_record, hashes_hash
from emobility.domain.batch.typed_data import digest_of
from emobility.domain.identifiers import PartyId
from emobility.ports.chain import Block, ChainReader, Log, logs_between
from services.audit.books import Books
from services.audit.report import Check, Difference, amount_difference
from services.audit.settlement_rows import SettlementRows
from services.settlement.confidential_batches import (
    book_of,
    digest_of_net,
    hashes_of,
    key_of_sealed,
    settle_call,
    settling_id,
)
from services.settlement.confidential_finality import signers_of
from services.settlement.confidential_records import (
    ConfidentialBatchRecord,
    ConfidentialBatchState,
    PartyNetRecord,
    SealedStatementRecord,
)
from services.settlement.records import StatementRecord, StatementState

STATES_IN: Final = {
    ConfidentialBatchState.COLLECTING: StatementState.CLOSED,
    ConfidentialBatchState.SENDING: StatementState.PROPOSED,
    ConfidentialBatchState.FINAL: StatementState.FINAL,
}
"""Of statements, while their batch is in this state."""
Signers: TypeAlias = dict[int, frozenset[bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledOnChain:
    """A batch that a confidential book took.

    Attributes:
        record: What the book holds of it.
        nets_e4: Each party's net, as its call has it; None: another contract called.
    """

    record: bytes
    transaction: bytes
    block_hash: bytes
    nets_e4: dict[int, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidentialSight:
    """What a currency's confidential book says. `corrected_e4`: by verdicts, what each party got."""

    settled: dict[bytes, SettledOnChain]
    corrected_e4: dict[int, int]

    @property
    def moved_e4(self) -> dict[int, int]:
        """What the book moved to each party by number; below zero from it."""
        moved: dict[int, int] = defaultdict(int, self.corrected_e4)
        for each in self.settled.values():
            for party, net_e4 in (each.nets_e4 or {}).items():
                moved[party] += net_e4
        return dict(moved)


async def look_at_confidential(chain: ChainReader, at: Block, rows: SettlementRows) -> dict[str, ConfidentialSight]:
    """Read what the confidential books say, by currency. Raises `ChainUnavailable`."""
    return {
        each.currency: await _sight(chain, at, each.book, since=rows.since_block) for each in rows.confidential.books
    }


async def _sight(chain: ChainReader, at: Block, book: bytes, *, since: int) -> ConfidentialSight:
    settled = {}
    for log in await _logs(chain, at, book, contracts.BATCH_SETTLED, since=since):
        batch_id, _, _ = contracts.BATCH_SETTLED.told(log.topics, log.data)
        answer = await chain.call(book, contracts.HIDDEN_BATCH.call(batch_id), at_block=at.number)
        (record,) = contracts.HIDDEN_BATCH.answer(answer)
        settled[batch_id] = SettledOnChain(
            record=record,
            transaction=log.transaction_hash,
            block_hash=log.block_hash,
            nets_e4=await _nets(chain, book, log.transaction_hash),
        )
    corrected: dict[int, int] = defaultdict(int)
    for log in await _logs(chain, at, book, contracts.NET_CORRECTED, since=since):
        payer, payee, amount_e4 = contracts.NET_CORRECTED.told(log.topics, log.data)
        corrected[payer] -= amount_e4
        corrected[payee] += amount_e4
    return ConfidentialSight(settled=settled, corrected_e4=dict(corrected))


async def _nets(chain: ChainReader, book: bytes, transaction_hash: bytes) -> dict[int, int] | None:
    sent = await chain.transaction(transaction_hash)
    if sent is None or sent.to != book:
        return None
    try:
        _, _, nets = contracts.SETTLE.arguments(sent.calldata)
    except MalformedCall:
        return None
    return {party: net_e4 for party, net_e4, _ in nets}


async def _logs(chain: ChainReader, at: Block, book: bytes, event: Function, *, since: int) -> list[Log]:
    return await logs_between(chain, book, [event.topic], first=since, last=at.number)


# In rows


def check_party_nets(books: Books) -> Check:
    """Add each party's net up from its statements, which both signed and which stand at their places in the batch."""
    rule = "a party's net is the sum of its statements' nets"
    rows = books.settlement
    statements, sealed, nets = rows.statements_by_key(), _sealed_by_batch(rows), _nets_by_batch(rows)
    found: list[Difference] = []
    for batch in rows.confidential.batches:
        if batch.state is ConfidentialBatchState.ABANDONED:
            continue
        stated: dict[PartyId, int] = defaultdict(int)
        for each in sealed[batch.batch_id]:
            statement = statements.get(key_of_sealed(each))
            found += [_difference(rule, _name(each), cause) for cause in _misplaced(each, statement, batch)]
            if statement is not None:
                stated[each.cpo_id] += statement.due_e4 - statement.credit_e4
                stated[each.emsp_id] -= statement.due_e4 - statement.credit_e4
        given = {each.party_id: each.net_e4 for each in nets[batch.batch_id]}
        for party in sorted(stated.keys() | given.keys()):
            if stated.get(party, 0) != given.get(party, 0) or party not in given:
                scope = f"{batch.batch_id.hex()}/{party}"
                cause = "its net is not what its statements come to"
                amounts = (stated.get(party, 0), given.get(party, 0))
                found.append(amount_difference(rule, scope, amounts, batch.currency, cause))
        if sum(given.values()):
            scope, cause = batch.batch_id.hex(), "the nets of a batch do not add up to zero"
            found.append(amount_difference(rule, scope, (0, sum(given.values())), batch.currency, cause))
        found += [
            _difference(rule, batch.batch_id.hex(), cause) for cause in _unsent(rows, batch, nets[batch.batch_id])
        ]
    return Check(rule=rule, compared=len(rows.confidential.nets), differences=tuple(found))


def _misplaced(
    each: SealedStatementRecord, statement: StatementRecord | None, batch: ConfidentialBatchRecord
) -> Iterator[str]:
    hashes = hashes_of(batch)
    if statement is None:
        yield "it is sealed, and the statement is not there"
    elif statement.state is not STATES_IN[batch.state]:
        yield f"its batch is {batch.state}, and it is {statement.state}"
    if each.by_cpo is None or each.by_msp is None:
        yield "it is in a batch without both signatures"
    if each.position is None or each.position >= len(hashes) or hashes[each.position] != each.posted:
        yield "another hash stands at its place in the batch"


def _unsent(rows: SettlementRows, batch: ConfidentialBatchRecord, nets: list[PartyNetRecord]) -> Iterator[str]:
    """Say where a batch and its transaction are not equally far, or do not say the same."""
    sent = [each for each in rows.transactions if each.transaction_id == settling_id(batch.batch_id)]
    if batch.state is ConfidentialBatchState.COLLECTING:
        if sent:
            yield "it is sent before all signed"
        return
    if any(each.signature is None for each in nets):
        yield f"it is {batch.state} without a party's signature"
    elif len(sent) != 1 or sent[0].calldata != settle_call(batch, nets):
        yield f"it is {batch.state}, and its transaction is not there or says something else"


# On the chain


def check_confidential_finality(books: Books, sights: dict[str, ConfidentialSight], signers: Signers) -> Check:
    """Compare each batch with what the book holds, each net with the chain's, and who signed with the registry."""
    rule = "a confidential batch is on the chain as it is here"
    rows = books.settlement
    in_flight, nets, sealed = rows.in_flight(), _nets_by_batch(rows), _sealed_by_batch(rows)
    found: list[Difference] = []
    compared = unknown = 0
    for batch in rows.confidential.batches:
        scope = batch.batch_id.hex()
        if batch.state is not ConfidentialBatchState.FINAL or batch.batch_id in in_flight:
            unknown += batch.batch_id in in_flight
            continue
        compared += 1
        held = sights[batch.currency].settled.get(batch.batch_id) if batch.currency in sights else None
        if held is None:
            found.append(_difference(rule, scope, "it is final here, and the book does not have it"))
            continue
        if held.record != batch_record(hashes_hash(hashes_of(batch)), signers_of(nets[batch.batch_id])):
            found.append(_difference(rule, scope, "the book has other hashes or signers of it"))
        here = {each.number: each.net_e4 for each in nets[batch.batch_id]}
        if held.nets_e4 != here:
            found.append(_difference(rule, scope, "other nets stand in its call on the chain"))
        if held.transaction != batch.settled_in:
            found.append(_difference(rule, scope, "it was settled in another transaction than is recorded"))
        found += [
            _difference(rule, scope, cause)
            for cause in _not_signed(batch, nets[batch.batch_id], sealed[batch.batch_id], signers)
        ]
    known = {each.batch_id for each in rows.confidential.batches}
    ours = {each.number for each in rows.parties if each.number is not None}
    for sight in sights.values():
        for batch_id, held in sorted(sight.settled.items()):
            if batch_id not in known and ours & set(held.nets_e4 or ()):
                cause = "the book took it with a net of one of our parties, and it is not known here"
                found.append(_difference(rule, batch_id.hex(), cause))
    return Check(rule=rule, compared=compared, unknown=unknown, differences=tuple(found))


def _not_signed(
    batch: ConfidentialBatchRecord,
    nets: Iterable[PartyNetRecord],
    sealed: Iterable[SealedStatementRecord],
    signers: Signers,
) -> Iterator[str]:
    """Say which signature is by nobody whom the registry ever had for the party."""
    for net in nets:
        signer = None if net.signature is None else recovered_address(digest_of_net(batch, net), net.signature)
        if signer is None or signer != net.signer or signer not in signers.get(net.number, ()):
            yield f"the net of {net.party_id} is not signed by its key"
    for each in sealed:
        digest = digest_of(book_of(batch), each.struct_hash)
        for party, number, signature in (
            (each.cpo_id, each.cpo_number, each.by_cpo),
            (each.emsp_id, each.msp_number, each.by_msp),
        ):
            signer = None if signature is None else recovered_address(digest, signature)
            if signer is None or signer not in signers.get(number, ()):
                yield f"statement {_name(each)} is not signed by the key of {party}"


def _sealed_by_batch(rows: SettlementRows) -> dict[bytes | None, list[SealedStatementRecord]]:
    found: dict[bytes | None, list[SealedStatementRecord]] = defaultdict(list)
    for each in rows.confidential.sealed:
        found[each.batch_id].append(each)
    return found


def _nets_by_batch(rows: SettlementRows) -> dict[bytes, list[PartyNetRecord]]:
    found: dict[bytes, list[PartyNetRecord]] = defaultdict(list)
    for each in sorted(rows.confidential.nets, key=lambda net: net.number):
        found[each.batch_id].append(each)
    return found


def _name(each: SealedStatementRecord) -> str:
    return f"{each.cpo_id}/{each.agreement_id}/{each.version}/{each.sequence}"


def _difference(rule: str, scope: str, cause: str) -> Difference:
    return Difference(rule=rule, scope=scope, expected=1, found=0, unit="batches", cause=cause)
