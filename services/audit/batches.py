"""Batches: each binds its statements, both parties of each accepted them, and its transaction says just that.

States only go forward: what is proposed was signed by all, and what is final has its transaction and its block.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from emobility.domain.batch.calls import accept_call, fund_call, propose_call
from emobility.domain.batch.hashing import keccak256
from emobility.domain.batch.statement import pairs_hash
from emobility.domain.batch.typed_data import batch_id_of
from emobility.domain.errors import EmobilityError
from emobility.domain.identifiers import PartyId
from services.audit.books import Books
from services.audit.report import Check, Difference
from services.audit.settlement_rows import SettlementRows
from services.settlement.batching import book_of, key_of, pairs_of, words_of
from services.settlement.closing import name_of, pair_statement
from services.settlement.records import (
    IN_FLIGHT,
    AcceptanceRecord,
    BatchRecord,
    BatchState,
    StatementRecord,
    StatementState,
    TransactionKind,
    TransactionRecord,
    TransactionState,
)

STATES_IN: Final = {
    BatchState.COLLECTING: {StatementState.CLOSED},
    BatchState.SENDING: {StatementState.PROPOSED},
    BatchState.FINAL: set(StatementState) - {StatementState.CLOSED, StatementState.PROPOSED},
}
"""Of statements, while their batch is in this state."""
SIGNATURE_BYTES: Final = 64


def check_batches(books: Books) -> Check:
    """Bind each batch's statements again and compare; none is in a batch that does not name it."""
    rule = "a batch binds its statements"
    rows = books.settlement
    statements = rows.statements_by_batch()
    found = [
        _difference(rule, batch.batch_id.hex(), cause)
        for batch in rows.batches
        for cause in _unbound(rows, batch, statements.get(batch.batch_id, []))
    ]
    known = {batch.batch_id for batch in rows.batches}
    confidential = rows.confidential_keys()
    for each in rows.statements:
        if key_of(each) in confidential:
            continue  # "a party's net is the sum of its statements' nets" looks at it
        if each.batch_id is None and each.state is not StatementState.CLOSED:
            found.append(_difference(rule, str(name_of(each)), f"it is {each.state} and in no batch"))
        elif each.batch_id is not None and each.batch_id not in known:
            found.append(_difference(rule, str(name_of(each)), "its batch is not there"))
        if (each.state is StatementState.FINAL) != (each.final_at is not None):
            cause = f"it is {each.state}, and " + ("nothing says since when" if each.final_at is None else "was final")
            found.append(_difference(rule, str(name_of(each)), cause))
    return Check(rule=rule, compared=len(rows.batches), differences=tuple(found))


def _unbound(rows: SettlementRows, batch: BatchRecord, statements: list[StatementRecord]) -> Iterator[str]:
    if tuple(map(name_of, statements)) != batch.statements or [each.position for each in statements] != list(
        range(len(statements))
    ):
        yield "the statements that name it are not those that it names, in this order"
    wrong = [each for each in statements if each.state not in STATES_IN[batch.state]]
    if wrong:
        yield f"it is {batch.state}, and statement {name_of(wrong[0])} is {wrong[0].state}"
    if any(each.currency != batch.currency for each in statements):
        yield "its statements are in more than one currency"
    try:
        bound = pairs_hash([pair_statement(each) for each in statements])
    except EmobilityError as refusal:
        yield f"no batch can be made of its statements: {refusal}"
        return
    if bound != batch.pairs_hash:
        yield "its statements have another pairs hash"
    if batch_id_of(book_of(batch), bound) != batch.batch_id:
        yield "its statements have another batch id in this book"
    deployed = [each.deployment.book(batch.currency) for each in rows.deployments if each.chain_id == batch.chain_id]
    if rows.deployments and book_of(batch) not in deployed:
        yield "it is for another book than the one where the contracts are"


def _difference(rule: str, scope: str, cause: str, unit: str = "batches") -> Difference:
    return Difference(rule=rule, scope=scope, expected=1, found=0, unit=unit, cause=cause)


def check_acceptances(books: Books) -> Check:
    """Look for both parties' word on each statement that is proposed; whose signatures they are a full audit says."""
    rule = "what is proposed was accepted by both parties"
    rows = books.settlement
    given, statements = _given(rows), rows.statements_by_batch()
    numbers = {each.party_id: each.number for each in rows.parties}
    found, known = [], set()
    for batch in rows.batches:
        pairs = pairs_of(statements.get(batch.batch_id, []))
        for party_id, each in given[batch.batch_id].items():
            known.add((batch.batch_id, party_id))
            scope = f"{batch.batch_id.hex()}/{party_id}"
            if int.from_bytes(each.pairs, "big") != pairs.get(party_id, 0):
                found.append(_difference(rule, scope, "it accepts others than the party's statements", "signatures"))
            if each.number != numbers.get(party_id):
                found.append(_difference(rule, scope, "it was given under another number", "signatures"))
            if len(each.signature) != SIGNATURE_BYTES:
                found.append(_difference(rule, scope, "it is no compact signature", "signatures"))
        if batch.state is not BatchState.COLLECTING:
            # With one signature it goes into the book once the other side's time is up, and waits there for its window.
            signed = given[batch.batch_id].keys()
            unsigned = [each for each in statements.get(batch.batch_id, []) if not signed & {each.cpo_id, each.emsp_id}]
            cause = f"it is {batch.state} without a signature"
            found += [_difference(rule, str(name_of(each)), cause, "signatures") for each in unsigned]
    for stray in rows.acceptances:
        if (stray.batch_id, stray.party_id) not in known:
            scope = f"{stray.batch_id.hex()}/{stray.party_id}"
            found.append(_difference(rule, scope, "it accepts a batch that is not there", "signatures"))
    return Check(rule=rule, compared=len(rows.acceptances), differences=tuple(found))


def _given(rows: SettlementRows) -> defaultdict[bytes, dict[PartyId, AcceptanceRecord]]:
    given: defaultdict[bytes, dict[PartyId, AcceptanceRecord]] = defaultdict(dict)
    for each in rows.acceptances:
        given[each.batch_id][each.party_id] = each
    return given


def check_transactions(books: Books) -> Check:
    """Make each batch's calls again from its rows, and see that each transaction holds what its state promises."""
    rule = "a batch's transactions carry it as far as it is"
    rows = books.settlement
    of_batch: dict[bytes, list[TransactionRecord]] = defaultdict(list)
    for each in rows.transactions:
        of_batch[each.batch_id].append(each)
    found = []
    given, statements = _given(rows), rows.statements_by_batch()
    for batch in rows.batches:
        proposals = [each for each in of_batch[batch.batch_id] if each.kind is TransactionKind.PROPOSE]
        found += [
            _difference(rule, batch.batch_id.hex(), cause, "transactions") for cause in _out_of_step(batch, proposals)
        ]
        for each in of_batch[batch.batch_id]:
            # A signature that came after the proposal is in a call of its own.
            words = [word for word in given[batch.batch_id].values() if word.signed_at <= each.queued_at]
            calls = _calls(statements.get(batch.batch_id, []), batch, words)
            causes = [*_incomplete(each), *_other_call(each, batch, calls)]
            found += [_difference(rule, each.transaction_id, cause, "transactions") for cause in causes]
    known = {batch.batch_id for batch in rows.batches}
    found += [
        _difference(rule, each.transaction_id, "its batch is not there", "transactions")
        for each in rows.transactions
        if each.batch_id not in known and each.kind in {TransactionKind.PROPOSE, TransactionKind.FUND}
    ]
    next_nonces = {(each.chain_id, each.account): each.next_nonce for each in rows.accounts}
    found += [
        _difference(rule, each.transaction_id, f"nonce {each.nonce} would be given again", "transactions")
        for each in rows.transactions
        if each.nonce is not None and each.nonce >= next_nonces.get((each.chain_id, each.account), 0)
    ]
    return Check(rule=rule, compared=len(rows.transactions), differences=tuple(found))


def _out_of_step(batch: BatchRecord, proposals: list[TransactionRecord]) -> Iterator[str]:
    """Say where a batch and its proposal are not equally far."""
    if batch.state is BatchState.COLLECTING:
        if proposals:
            yield "it is proposed before all signed"
        return
    if len(proposals) != 1:
        yield f"it is {batch.state} and has {len(proposals)} proposals"
        return
    (proposal,) = proposals
    # A proposal whose blocks are gone is on its way again, and its batch stays final.
    is_on_its_way = proposal.state in IN_FLIGHT
    if batch.state is BatchState.SENDING and not is_on_its_way:
        yield "its proposal is final, and it is not"
    if batch.state is BatchState.FINAL and batch.proposed_in is None:
        yield "it is final, and nothing says in which transaction"
    if batch.state is BatchState.FINAL and not is_on_its_way and batch.proposed_in != proposal.hash:
        yield "it names another transaction than the one that proposed it"


def _incomplete(each: TransactionRecord) -> Iterator[str]:
    """Say what a transaction in this state should hold and does not."""
    if each.state is not TransactionState.QUEUED and each.hash is None:
        yield f"it is {each.state} and has no hash"
    if each.raw is not None and (each.nonce is None or keccak256(each.raw) != each.hash):
        yield "its bytes have no nonce, or another hash"
    if each.state is TransactionState.SIGNED and each.raw is None:
        yield "it is SIGNED and has no bytes"
    if each.state in {TransactionState.MINED, TransactionState.FINAL} and (
        each.block_number is None or each.block_hash is None or each.gas_used is None
    ):
        yield f"it is {each.state} and in no block"


def _calls(
    statements: list[StatementRecord], batch: BatchRecord, given: list[AcceptanceRecord]
) -> dict[TransactionKind, bytes]:
    """Return the calls that follow from a batch's rows; none where no call can be made of them."""
    acceptances = words_of(given)
    try:
        pairs = [pair_statement(each) for each in statements]
        return {
            TransactionKind.PROPOSE: propose_call(batch.batch_id, pairs, acceptances),
            TransactionKind.ACCEPT: accept_call(batch.batch_id, pairs, acceptances),
            TransactionKind.FUND: fund_call(batch.batch_id, pairs),
        }
    except EmobilityError:
        return {}


def _other_call(each: TransactionRecord, batch: BatchRecord, calls: dict[TransactionKind, bytes]) -> Iterator[str]:
    if (each.chain_id, each.receiver) != (batch.chain_id, batch.book):
        yield "it is sent to another contract than the batch's book"
    if each.calldata != calls.get(each.kind):
        yield "its call is not what the batch's statements and signatures make"
