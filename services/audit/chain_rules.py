"""Rows against chain: what is final here is final there, money moved by that and nothing else, and both hold the keys.

A transaction that is on its way, for the first time or again after blocks were lost, may be in the chain or not: what
it is about is compared when it is final.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from emobility.adapters.chain_signing import recovered_address
from emobility.domain.agreement import SettlementMode
from emobility.domain.batch.statement import Statement
from emobility.domain.batch.typed_data import BookMode, acceptance_digest
from services.audit.books import Books
from services.audit.chain_sight import BookSight, ChainSight, ProposedBatch
from services.audit.report import Check, Difference, amount_difference
from services.audit.settlement_rows import SettlementRows
from services.settlement.batching import book_of
from services.settlement.closing import name_of, pair_statement
from services.settlement.opening import BOOK_MODES
from services.settlement.records import (
    BatchRecord,
    BatchState,
    Opening,
    StatementRecord,
    StatementState,
    TransactionKind,
    TransactionRecord,
)
from services.settlement.restating_records import VoidedStatement


def check_chain(books: Books, sight: ChainSight) -> Check:
    """See that it is the chain that settlement began on, with its contracts in place and all that was final."""
    rule = "the chain is the one that was recorded"
    rows = books.settlement
    causes = [] if sight.strangeness is None else [sight.strangeness]
    for seen in rows.chains:
        if seen.chain_id != sight.chain_id:
            causes.append(f"settlement began on chain {seen.chain_id}, this is {sight.chain_id}")
        elif seen.genesis_hash != sight.genesis_hash:
            causes.append("it has another genesis")
        elif sight.last_final != seen.final_hash and not rows.in_flight():
            causes.append(f"block {seen.final_number} is not the one that was final")
    for deployment in (each.deployment for each in rows.deployments):
        for contracts in deployment.currencies:
            book = sight.books.get(contracts.currency)
            if book is not None and book.wiring != (deployment.registry, contracts.vault, contracts.token):
                causes.append(f"the {contracts.currency} contracts name others beside them than were recorded")
    found = tuple(
        Difference(rule=rule, scope=f"chain {sight.chain_id}", expected=1, found=0, unit="chains", cause=cause)
        for cause in causes
    )
    return Check(rule=rule, compared=len(rows.chains) + len(rows.deployments), differences=found)


def check_finality(books: Books, sight: ChainSight) -> Check:
    """Compare each statement with its bit in the book, each proposal with its block; and look for unknown proposals."""
    rule = "final here is final on the chain, and the other way round"
    rows = books.settlement
    in_flight, statements = rows.in_flight(), rows.statements_by_batch()
    proposals = {each.batch_id: each for each in rows.transactions if each.kind is TransactionKind.PROPOSE}
    voided: defaultdict[bytes, list[VoidedStatement]] = defaultdict(list)
    for taken_out in rows.voided:
        voided[taken_out.batch_id].append(taken_out)
    found: list[Difference] = []
    compared = unknown = 0
    for batch in rows.batches:
        proposed = _proposed(sight, batch)
        if batch.batch_id in in_flight or batch.state is BatchState.COLLECTING:
            unknown += len(batch.statements)
            continue
        compared += len(batch.statements)
        if proposed is None:
            found.append(_difference(rule, batch.batch_id.hex(), "it is final here, and the book does not have it"))
            continue
        of_batch = statements.get(batch.batch_id, [])
        causes = _otherwise(batch, of_batch, proposals.get(batch.batch_id), proposed)
        found += [_difference(rule, batch.batch_id.hex(), cause) for cause in causes]
        for each in of_batch:
            is_final = proposed.state.is_final(each.position or 0)
            if is_final != (each.state is StatementState.FINAL):
                cause = f"it is {each.state} here, and {'final' if is_final else 'not final'} in the book"
                found.append(_difference(rule, str(name_of(each)), cause))
        found += [
            _difference(rule, str(name_of(each.statement)), "its number is another one's, and no verdict took it out")
            for each in voided[batch.batch_id]
            if not proposed.state.void_pairs >> (each.statement.position or 0) & 1
        ]
    known = {batch.batch_id for batch in rows.batches}
    for currency, book in sorted(sight.books.items()):
        ours = {each.book_agreement for each in rows.openings if each.currency == currency}
        for batch_id, proposed in sorted(book.proposed.items()):
            if batch_id not in known and any(each.agreement in ours for each in proposed.statements or ()):
                cause = "the book took it for one of our agreements, and it is not known here"
                found.append(_difference(rule, batch_id.hex(), cause))
    return Check(rule=rule, compared=compared, unknown=unknown, differences=tuple(found))


def _otherwise(
    batch: BatchRecord, statements: list[StatementRecord], sent: TransactionRecord | None, proposed: ProposedBatch
) -> Iterator[str]:
    """Say what the book has otherwise of a batch whose proposal is final here."""
    if proposed.state.pairs_hash != batch.pairs_hash:
        yield "the book has another pairs hash of it"
    if proposed.statements is not None:
        hashes = [each.statement_hash for each in statements]
        if [each.struct_hash for each in proposed.statements] != hashes:
            yield "other statements stand in its call on the chain"
    if sent is None or (sent.hash, sent.block_hash) != (proposed.transaction, proposed.block_hash):
        yield "it was proposed in another transaction or block than is recorded"


def _difference(rule: str, scope: str, cause: str, unit: str = "statements") -> Difference:
    return Difference(rule=rule, scope=scope, expected=1, found=0, unit=unit, cause=cause)


def _proposed(sight: ChainSight, batch: BatchRecord) -> ProposedBatch | None:
    book = sight.books.get(batch.currency)
    return None if book is None else book.proposed.get(batch.batch_id)


def final_statements(rows: SettlementRows, book: BookSight) -> Iterator[Statement]:
    """Yield what must have moved money in a book: what is final here and, of others' batches, what is final there.

    Of a batch with a transaction on its way the book alone knows.
    """
    in_flight, known = rows.in_flight(), {batch.batch_id for batch in rows.batches}
    for each in rows.statements:
        if each.currency == book.currency and each.batch_id is not None and _has_moved(each, book, in_flight):
            yield pair_statement(each)
    for batch_id, proposed in book.proposed.items():
        if batch_id not in known:
            yield from (each for at, each in enumerate(proposed.statements or ()) if proposed.state.is_final(at))


def _has_moved(each: StatementRecord, book: BookSight, in_flight: frozenset[bytes]) -> bool:
    if each.batch_id not in in_flight:
        return each.state is StatementState.FINAL
    proposed = book.proposed.get(each.batch_id)
    return proposed is not None and proposed.state.is_final(each.position or 0)


def check_collateral(books: Books, sight: ChainSight) -> Check:
    """Hold each balance against deposits, withdrawals and final statements, and the vault's total against its money."""
    rule = "the vault holds what was paid in, settled and paid out"
    found: list[Difference] = []
    compared = unknown = 0
    for currency, book in sorted(sight.books.items()):
        if any(each.statements is None for each in book.proposed.values()):
            unknown += len(book.collateral)  # somebody else proposes by a contract of his own; its sums are not shown
            continue
        moved_e4 = _moved_e4(books, sight, book)
        compared += len(book.collateral) + 1  # the balances, and their total
        for number, balance in sorted(book.collateral.items()):
            paid_in = book.deposited.get(number, 0) - book.withdrawn.get(number, 0)
            expected = paid_in + moved_e4[number] * book.units_per_e4 + book.taken.get(number, 0)
            if balance != expected:
                scope = f"{currency}/{sight.numbers.get(number, number)}"
                cause = f"paid in less paid out is {paid_in}, statements moved {moved_e4[number]} e4"
                found.append(_units(rule, scope, currency, (expected, balance), cause))
        of_parties = sum(book.collateral.values())
        if of_parties != book.total_collateral:
            cause = "the balances do not add up to the vault's total"
            found.append(_units(rule, currency, currency, (of_parties, book.total_collateral), cause))
        if book.tokens_held < book.total_collateral:
            cause = "the vault has less money than it owes"
            found.append(_units(rule, currency, currency, (book.total_collateral, book.tokens_held), cause))
    return Check(rule=rule, compared=compared, unknown=unknown, differences=tuple(found))


def _moved_e4(books: Books, sight: ChainSight, book: BookSight) -> dict[int, int]:
    """Return what a currency's books moved to each party, by number; below zero from it."""
    moved_e4: dict[int, int] = defaultdict(int)
    nets = [(each.agreement, each.net_e4) for each in final_statements(books.settlement, book)]
    for agreement, net_e4 in (*nets, *book.corrected_e4.items()):
        state = book.agreements.get(agreement)
        if state is not None and state.mode is BookMode.PREFUNDED:
            moved_e4[state.cpo] += net_e4
            moved_e4[state.msp] -= net_e4
    if book.currency in sight.confidential:
        for number, net_e4 in sight.confidential[book.currency].moved_e4.items():
            moved_e4[number] += net_e4
    return moved_e4


def _units(rule: str, scope: str, currency: str, amounts: tuple[int, int], cause: str) -> Difference:
    expected, found = amounts
    unit = f"units of the {currency} token"
    return Difference(rule=rule, scope=scope, expected=expected, found=found, unit=unit, cause=cause)


def check_agreements(books: Books, sight: ChainSight) -> Check:
    """Compare each open agreement with the book: its parties and terms, its last statement, and what is owed."""
    rule = "an agreement stands in its book as it does here"
    rows = books.settlement
    numbers = {each.party_id: each.number for each in rows.parties}
    found: list[Difference] = []
    opened = [
        each
        for each in rows.openings
        if each.book_agreement is not None
        and each.currency in sight.books
        and each.mode is not SettlementMode.CONFIDENTIAL
    ]
    final: dict[tuple[str, bytes], list[Statement]] = defaultdict(list)
    for book in sight.books.values():
        for each in final_statements(rows, book):
            final[book.currency, each.agreement].append(each)
    taken = {(each.cpo_id, each.agreement_id, each.version): each.taken_e4 for each in rows.guarantees}
    for opening in opened:
        book, agreement = sight.books[opening.currency], opening.book_agreement or b""
        scope = f"{opening.cpo_id}/{opening.agreement_id}/{opening.version}"
        state = book.agreements.get(agreement)
        if state is None:
            found.append(_difference(rule, scope, "it is not open in the book", "agreements"))
            continue
        called_e4 = book.called_e4.get(agreement, 0)
        terms = (numbers.get(opening.cpo_id), numbers.get(opening.emsp_id), *_book_terms(opening))
        # What ended releases what is not owed.
        limit_e4 = opening.credit_limit_e4 if state.has_ended else state.credit_limit_e4 + called_e4
        if terms != (state.cpo, state.msp, state.mode, limit_e4):
            found.append(_difference(rule, scope, "parties, mode or limit are others in the book", "agreements"))
        statements = final[book.currency, agreement]
        last = max((each.sequence for each in statements), default=0)
        if last != state.last_sequence:
            cause = "another statement is the last final one in the book"
            found.append(
                Difference(
                    rule=rule, scope=scope, expected=last, found=state.last_sequence, unit="statements", cause=cause
                )
            )
        owed_e4 = sum(each.net_e4 for each in statements) + book.corrected_e4.get(agreement, 0)
        owed_e4 -= book.discharged_e4.get(agreement, 0)
        taken_e4 = taken.get((opening.cpo_id, opening.agreement_id, opening.version), 0)
        if taken_e4 != called_e4:
            cause = "another amount was taken of the guarantee in the book"
            found.append(amount_difference(rule, scope, (taken_e4, called_e4), opening.currency, cause))
        expected_e4 = 0 if state.mode is BookMode.PREFUNDED else owed_e4
        if expected_e4 != state.owed_e4:
            cause = "final statements less what was paid by bank is not what the book says is owed"
            found.append(amount_difference(rule, scope, (expected_e4, state.owed_e4), opening.currency, cause))
    return Check(rule=rule, compared=len(opened), differences=tuple(found))


def _book_terms(opening: Opening) -> tuple[BookMode | None, int]:
    return BOOK_MODES.get(opening.mode), opening.credit_limit_e4


def check_signatures(books: Books, sight: ChainSight) -> Check:
    """Recover who signed each acceptance: somebody whom the registry had as that party's signer, then or later."""
    rule = "an acceptance is signed by its party's key"
    rows = books.settlement
    batches = {batch.batch_id: batch for batch in rows.batches}
    found = []
    for given in rows.acceptances:
        batch = batches.get(given.batch_id)
        if batch is None:
            continue  # "what is proposed was accepted by both parties" tells of it
        digest = acceptance_digest(
            book_of(batch),
            batch_id=batch.batch_id,
            pairs_hash=batch.pairs_hash,
            party=given.number,
            pairs=int.from_bytes(given.pairs, "big"),
        )
        scope = f"{batch.batch_id.hex()}/{given.party_id}"
        if sight.numbers.get(given.number) != given.party_id:
            cause = f"number {given.number} is not its own in the registry"
            found.append(_difference(rule, scope, cause, "signatures"))
        elif recovered_address(digest, given.signature) not in sight.signers.get(given.number, frozenset()):
            found.append(_difference(rule, scope, "another key signed it, or something else", "signatures"))
    return Check(rule=rule, compared=len(rows.acceptances), differences=tuple(found))
