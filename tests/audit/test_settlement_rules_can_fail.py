"""Sound books of a settled run, one thing broken at a time: exactly the rules that should notice do, and say why."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any, TypeVar

import pytest

from emobility.domain.agreement import SettlementMode
from emobility.domain.batch.typed_data import BookMode
from emobility.domain.identifiers import PartyId
from emobility.events.cdr import CDRAccepted
from emobility.events.event import Envelope, LoggedEvent
from emobility.ports.event_log import ParkedEvent
from services.audit.audit import audit
from services.audit.books import SETTLEMENT_GROUP, Books
from services.audit.chain_sight import BookSight, ChainSight
from services.audit.money_rows import MoneyRows
from services.audit.report import AuditReport, Difference
from services.audit.unsealing import UNREADABLE
from services.audit.whereabouts import Standing, whereabouts
from services.driver_mobility.records import CDRState
from services.settlement.records import (
    BatchState,
    LeafRecord,
    StatementState,
    TransactionKind,
    TransactionState,
)
from tests.journeys.runs import SEED, SMALL, memory_runs

R = TypeVar("R")

pytestmark = pytest.mark.timeout(600)

LEAVES = "an accepted CDR is settled once"
CREDITS = "a credit takes back its original once"
STATEMENTS = "a statement is what its CDRs make it"
SEQUENCES = "statements follow each other"
BATCHES = "a batch binds its statements"
ACCEPTED = "what is proposed was accepted by both parties"
TRANSACTIONS = "a batch's transactions carry it as far as it is"
NETS = "the nets of a batch add up to zero"
ENERGY = "energy in CDRs = settled + waiting + never settled + settled off-chain"
EVIDENCE = "a final CDR has what its receipt shows"
COMMITMENTS = "a leaf names its CDR and commits to its evidence"
CHAIN = "the chain is the one that was recorded"
SIGNED = "an acceptance is signed by its party's key"
FINAL = "final here is final on the chain, and the other way round"
VAULT = "the vault holds what was paid in, settled and paid out"
AGREEMENTS = "an agreement stands in its book as it does here"


@pytest.fixture
def books() -> Books:
    """Sound books of the test's own; each row is immutable, each list is the test's."""
    (run,) = memory_runs(SEED, SMALL)
    unsealed = run.books.unsealed
    assert unsealed is not None
    return own(run.books, settlement=own(run.books.settlement), unsealed=own(unsealed))


@pytest.fixture
def sight() -> ChainSight:
    """What the chain of the same run says."""
    (run,) = memory_runs(SEED, SMALL)
    return run.sight


def own(rows: R, **parts: Any) -> R:
    """Return the same rows in lists of their own; `parts` are copied already."""
    copied = {each.name: copy.copy(getattr(rows, each.name)) for each in fields(rows)}  # type: ignore[arg-type]
    return replace(rows, **copied | parts)  # type: ignore[type-var]


def found_in(books: Books, sight: ChainSight) -> dict[str, Difference]:
    """Return the differences of an audit by rule; the last of each rule where there are more."""
    return {each.rule: each for each in audit(books, sight=sight).differences}


def causes_of(report: AuditReport, rule: str) -> list[str]:
    return [each.cause for each in report.differences if each.rule == rule]


def change(rows: list[R], fits: Callable[[R], bool] = lambda _: True, /, **changes: Any) -> R:
    """Change the first row that fits; return it as it was."""
    number = next(number for number, row in enumerate(rows) if fits(row))
    row = rows[number]
    rows[number] = replace(row, **changes)  # type: ignore[type-var]  # all of them are dataclasses
    return row


def plain(leaf: Any) -> bool:
    return not leaf.is_credit


def charged(books: Books) -> Callable[[Any], bool]:
    """Fit a leaf of a charge that nobody credited."""
    credited = {leaf.credit_reference_id for leaf in books.settlement.leaves}
    return lambda leaf: not leaf.is_credit and leaf.cdr_id not in credited


def test_a_full_audit_of_a_sound_run_tries_every_rule_on_something(books: Books, sight: ChainSight) -> None:
    report = audit(books, sight=sight)

    assert report.differences == ()
    assert report.is_full
    assert report.waiting == ()
    compared = {each.rule: each.compared for each in report.checks}
    ours = (LEAVES, STATEMENTS, SEQUENCES, BATCHES, ACCEPTED, TRANSACTIONS, NETS, ENERGY, EVIDENCE)
    on_chain = (COMMITMENTS, CHAIN, SIGNED, FINAL, VAULT, AGREEMENTS)
    assert [rule for rule in (*ours, *on_chain) if not compared[rule]] == []


def test_a_quick_audit_says_why_it_is_one(books: Books) -> None:
    report = audit(books, why_quick="no chain")

    assert (report.is_full, report.as_json()["full"], report.as_json()["why_quick"]) == (False, False, "no chain")
    assert CHAIN not in {each.rule for each in report.checks}


# Leaves


def test_an_accepted_cdr_without_a_leaf_is_found(books: Books, sight: ChainSight) -> None:
    leaf = next(leaf for leaf in books.settlement.leaves if charged(books)(leaf))
    books.settlement.leaves.remove(leaf)

    found = found_in(books, sight)

    assert set(found) == {LEAVES, STATEMENTS, NETS, ENERGY}
    assert found[LEAVES].scope == f"{leaf.cpo_id}/{leaf.cdr_id}"
    assert found[LEAVES].cause == "the settlement passed its event and has no leaf of it"
    assert found[ENERGY].expected - found[ENERGY].found == leaf.import_wh


def test_a_leaf_of_a_cdr_that_was_not_accepted_is_found(books: Books, sight: ChainSight) -> None:
    leaf = next(leaf for leaf in books.settlement.leaves if charged(books)(leaf))
    change(books.emsp_cdrs, lambda row: row.cdr_id == leaf.cdr_id, state=CDRState.DISPUTED)

    found = found_in(books, sight)

    assert found[LEAVES].cause == "its MSP did not accept this CDR"
    assert {LEAVES} == set(found) & {LEAVES, STATEMENTS, NETS, ENERGY}


@pytest.mark.parametrize(
    ("field", "rules"),
    [
        ("due_e4", {LEAVES, STATEMENTS, NETS}),
        ("credit_e4", {LEAVES, STATEMENTS}),
        ("import_wh", {LEAVES, STATEMENTS, ENERGY}),
        ("export_wh", {LEAVES, STATEMENTS, ENERGY}),
    ],
)
def test_a_number_of_a_leaf_that_was_changed_is_found(
    books: Books, sight: ChainSight, field: str, rules: set[str]
) -> None:
    leaf = next(leaf for leaf in books.settlement.leaves if charged(books)(leaf))
    change(books.settlement.leaves, lambda row: row is leaf, **{field: getattr(leaf, field) + 1})

    found = found_in(books, sight)

    assert set(found) - {NETS} == rules - {NETS}
    assert abs(found[LEAVES].found - found[LEAVES].expected) == 1


@pytest.mark.parametrize("field", ["session_id", "agreement_id"])
def test_a_leaf_of_another_session_or_agreement_is_found(books: Books, sight: ChainSight, field: str) -> None:
    change(books.settlement.leaves, charged(books), **{field: "OTHER"})

    assert LEAVES in found_in(books, sight)


def credit_of(leaf: LeafRecord, **changes: Any) -> LeafRecord:
    """Return the leaf of a credit that takes a charge back, in the same statement."""
    mirror: dict[str, Any] = {"due_e4": leaf.credit_e4, "credit_e4": leaf.due_e4, "is_credit": True}
    named = {"cdr_id": f"{leaf.cdr_id}-C", "credit_reference_id": leaf.cdr_id}
    return replace(leaf, **mirror | named | changes)


def credit_causes(books: Books) -> list[str]:
    return causes_of(audit(books), CREDITS)


def test_a_credit_is_its_original_s_mirror(books: Books) -> None:
    original = next(leaf for leaf in books.settlement.leaves if charged(books)(leaf))
    sound, other = credit_of(original), credit_of(original, import_wh=original.import_wh + 1)
    books.settlement.leaves.append(sound)
    assert credit_causes(books) == []

    books.settlement.leaves[-1] = other

    assert credit_causes(books) == [f"it does not say what {original.cdr_id} says, the other way round"]


def test_a_cdr_is_credited_once(books: Books) -> None:
    original = next(leaf for leaf in books.settlement.leaves if charged(books)(leaf))

    books.settlement.leaves += [credit_of(original), credit_of(original, cdr_id="AGAIN")]

    assert credit_causes(books) == [f"{original.cdr_id} is credited more than once"] * 2


def test_a_credit_of_nothing_stands_in_no_statement(books: Books) -> None:
    original = next(leaf for leaf in books.settlement.leaves if charged(books)(leaf))
    of_nothing = credit_of(original, credit_reference_id="NOTHING")

    books.settlement.leaves.append(of_nothing)
    bound = credit_causes(books)
    books.settlement.leaves[-1] = replace(of_nothing, version=None, sequence=None, place=None)

    assert bound == ["it stands in a statement, and its original is not here"]
    assert credit_causes(books) == []
    assert "what it credits is not accepted" in {each.reason for each in audit(books).waiting}


@pytest.mark.parametrize(
    "changes", [{"sequence": None, "version": None, "place": None}, {"sequence": 2}, {"version": 2}]
)
def test_a_credit_stands_in_no_statement_before_its_original(books: Books, changes: dict[str, Any]) -> None:
    original = next(leaf for leaf in books.settlement.leaves if charged(books)(leaf) and leaf.sequence == 1)
    statement = books.settlement.statements_by_key()[original.cpo_id, original.agreement_id, original.version or 0, 1]
    later = replace(statement, version=2, closed_at=statement.closed_at + timedelta(days=7))
    books.settlement.statements.append(later)
    books.settlement.leaves.append(credit_of(original))

    change(books.settlement.leaves, lambda row: row is original, **changes)

    assert credit_causes(books) == [f"it stands in a statement before that of {original.cdr_id}"]


# Statements


@pytest.mark.parametrize("field", ["due_e4", "credit_e4", "count"])
def test_a_figure_of_a_statement_that_was_changed_is_found(books: Books, sight: ChainSight, field: str) -> None:
    statement = books.settlement.statements[0]
    change(books.settlement.statements, **{field: getattr(statement, field) + 1})

    found = found_in(books, sight)

    assert {STATEMENTS, BATCHES, TRANSACTIONS} <= set(found)
    assert (AGREEMENTS in found) is (field != "count")
    first = next(each for each in audit(books).differences if each.rule == STATEMENTS)
    assert first.found - first.expected == 1


@pytest.mark.parametrize("field", ["evidence_root", "sum_root", "statement_hash", "book_agreement"])
def test_a_hash_of_a_statement_that_was_changed_is_found(books: Books, sight: ChainSight, field: str) -> None:
    change(books.settlement.statements, **{field: b"\1" * 32})

    assert STATEMENTS in found_in(books, sight)


@pytest.mark.parametrize("field", ["commitment", "cdr_key", "meter"])
def test_a_hash_of_a_leaf_that_was_changed_breaks_the_roots(books: Books, sight: ChainSight, field: str) -> None:
    change(books.settlement.leaves, charged(books), **{field: b"\1" * 32})

    assert set(found_in(books, sight)) == {STATEMENTS, COMMITMENTS}


def test_leaves_at_each_other_s_places_are_found(books: Books, sight: ChainSight) -> None:
    leaves = books.settlement.leaves
    first = next(leaf for leaf in leaves if leaf.place == 0)
    change(leaves, lambda row: row is first, place=1)

    assert set(found_in(books, sight)) == {STATEMENTS}


def test_a_leaf_that_was_moved_into_another_statement_is_found_in_both(books: Books, sight: ChainSight) -> None:
    change(books.settlement.leaves, charged(books), sequence=99)

    causes = causes_of(audit(books, sight=sight), STATEMENTS)

    assert "they stand in a statement that is not there" in causes
    assert "its CDRs have another evidence root" in causes


def test_a_statement_that_is_missing_in_the_row_of_them_is_found(books: Books, sight: ChainSight) -> None:
    opening = change(books.settlement.openings, last_sequence=7)

    found = found_in(books, sight)

    assert set(found) == {SEQUENCES}
    assert (found[SEQUENCES].expected, found[SEQUENCES].found) == (7, opening.last_sequence)


def test_a_statement_in_a_batch_before_its_turn_is_found(books: Books, sight: ChainSight) -> None:
    first = books.settlement.statements[0]
    books.settlement.statements.append(replace(first, sequence=first.sequence + 1))
    change(books.settlement.statements, lambda row: row is first, state=StatementState.UNFUNDED, final_at=None)

    causes = causes_of(audit(books, sight=sight), SEQUENCES)

    assert f"it is in a batch, and statement {first.sequence} is not final" in causes


def test_documents_of_the_two_sides_that_differ_leave_a_net(books: Books, sight: ChainSight) -> None:
    leaf = next(leaf for leaf in books.settlement.leaves if charged(books)(leaf))
    row = next(row for row in books.cpo_cdrs if row.cdr_id == leaf.cdr_id)
    cost = replace(row.cdr.total_cost, excl_e4=row.cdr.total_cost.excl_e4 + 1)
    change(books.cpo_cdrs, lambda each: each is row, cdr=replace(row.cdr, total_cost=cost))

    found = [each.found for each in audit(books, sight=sight).differences if each.rule == NETS]

    assert found == [1, -1]


# Batches, signatures, transactions


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"pairs_hash": b"\1" * 32}, "its statements have another pairs hash"),
        ({"batch_id": b"\1" * 32}, "the statements that name it are not those that it names, in this order"),
        ({"currency": "CHF"}, "its statements are in more than one currency"),
        ({"book": b"\1" * 20}, "it is for another book than the one where the contracts are"),
        ({"state": BatchState.SENDING}, "it is SENDING, and statement "),
        ({"statements": ()}, "the statements that name it are not those that it names, in this order"),
    ],
)
def test_a_batch_that_was_changed_is_found(
    books: Books, sight: ChainSight, changes: dict[str, Any], cause: str
) -> None:
    change(books.settlement.batches, **changes)

    assert any(each.startswith(cause) for each in causes_of(audit(books, sight=sight), BATCHES))


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"batch_id": None, "position": None}, "it is FINAL and in no batch"),
        ({"batch_id": b"\1" * 32}, "its batch is not there"),
        ({"final_at": None}, "it is FINAL, and nothing says since when"),
        ({"state": StatementState.UNFUNDED}, "it is UNFUNDED, and was final"),
    ],
)
def test_a_statement_beside_its_batch_is_found(
    books: Books, sight: ChainSight, changes: dict[str, Any], cause: str
) -> None:
    change(books.settlement.statements, **changes)

    assert cause in causes_of(audit(books, sight=sight), BATCHES)


def test_a_signature_that_is_gone_is_found_by_the_call_that_had_it(books: Books, sight: ChainSight) -> None:
    gone = books.settlement.acceptances.pop(0)

    found = found_in(books, sight)

    assert set(found) == {TRANSACTIONS}
    assert gone.batch_id.hex() in found[TRANSACTIONS].scope


def test_a_statement_proposed_without_a_signature_is_found(books: Books, sight: ChainSight) -> None:
    books.settlement.acceptances = []

    found = found_in(books, sight)

    assert set(found) == {ACCEPTED, TRANSACTIONS}
    assert found[ACCEPTED].cause == "it is FINAL without a signature"


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"pairs": bytes(32)}, "it accepts others than the party's statements"),
        ({"number": 99}, "it was given under another number"),
        ({"signature": b""}, "it is no compact signature"),
        ({"batch_id": b"\1" * 32}, "it accepts a batch that is not there"),
    ],
)
def test_an_acceptance_that_was_changed_is_found(
    books: Books, sight: ChainSight, changes: dict[str, Any], cause: str
) -> None:
    change(books.settlement.acceptances, **changes)

    report = audit(books, sight=sight)

    assert cause in causes_of(report, ACCEPTED)
    assert causes_of(report, SIGNED) or "batch_id" in changes


def test_a_signature_by_another_key_is_found_by_a_full_audit_alone(books: Books, sight: ChainSight) -> None:
    first, second = books.settlement.acceptances[:2]
    change(books.settlement.acceptances, signature=second.signature)

    found = found_in(books, sight)

    assert first.signature != second.signature
    assert set(found) == {SIGNED, TRANSACTIONS}
    assert found[SIGNED].cause == "another key signed it, or something else"
    assert SIGNED not in {each.rule for each in audit(books).differences}


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"hash": None}, "it is FINAL and has no hash"),
        ({"raw": b"\1"}, "its bytes have no nonce, or another hash"),
        ({"block_hash": None}, "it is FINAL and in no block"),
        ({"calldata": b"\1"}, "its call is not what the batch's statements and signatures make"),
        ({"receiver": b"\1" * 20}, "it is sent to another contract than the batch's book"),
        ({"nonce": 1_000}, "nonce 1000 would be given again"),
        ({"batch_id": b"\1" * 32}, "its batch is not there"),
        ({"kind": TransactionKind.FUND}, "it is FINAL and has 0 proposals"),
    ],
)
def test_a_transaction_that_was_changed_is_found(
    books: Books, sight: ChainSight, changes: dict[str, Any], cause: str
) -> None:
    change(books.settlement.transactions, **changes)

    assert cause in causes_of(audit(books, sight=sight), TRANSACTIONS)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"proposed_in": None}, "it is final, and nothing says in which transaction"),
        ({"proposed_in": b"\1" * 32}, "it names another transaction than the one that proposed it"),
        ({"state": BatchState.SENDING}, "its proposal is final, and it is not"),
        ({"state": BatchState.COLLECTING}, "it is proposed before all signed"),
    ],
)
def test_a_batch_out_of_step_with_its_proposal_is_found(
    books: Books, sight: ChainSight, changes: dict[str, Any], cause: str
) -> None:
    change(books.settlement.batches, **changes)

    assert cause in causes_of(audit(books, sight=sight), TRANSACTIONS)


def test_a_proposal_that_is_sent_again_is_no_difference(books: Books, sight: ChainSight) -> None:
    again = {"block_hash": None, "block_number": None, "gas_used": None}
    change(books.settlement.transactions, state=TransactionState.SENT, **again)

    report = audit(books, sight=sight)

    assert report.differences == ()
    assert next(each for each in report.checks if each.rule == FINAL).unknown > 0


# Evidence


def test_a_final_cdr_without_evidence_is_found_unless_its_driver_was_erased(books: Books, sight: ChainSight) -> None:
    gone = books.evidence.pop(0)
    row = next(row for row in books.emsp_cdrs if (row.cpo_id, row.cdr_id) == (gone.cpo_id, gone.cdr_id))
    original = next(each for each in books.emsp_cdrs if each.cdr_id == (row.cdr.credit_reference_id or row.cdr_id))
    quote = books.quotes[row.party_id.code, original.quote_id or ""]

    found = found_in(books, sight)
    books.erased_drivers.add((row.party_id.code, quote.driver_id))
    erased = found_in(books, sight)

    assert set(found) == {EVIDENCE}
    assert found[EVIDENCE].scope == f"{gone.cpo_id}/{gone.cdr_id}"
    assert EVIDENCE not in erased


def test_evidence_of_another_bill_is_found(books: Books, sight: ChainSight) -> None:
    change(books.evidence, bill_id="another")

    assert set(found_in(books, sight)) == {EVIDENCE}


@pytest.mark.parametrize(("commitment", "is_difference"), [(b"\1" * 32, True), (UNREADABLE, True), (None, False)])
def test_evidence_is_what_its_leaf_commits_to_or_closed(
    books: Books, sight: ChainSight, *, commitment: bytes | None, is_difference: bool
) -> None:
    assert books.unsealed is not None
    name = next(iter(books.unsealed.commitments))
    books.unsealed.commitments[name] = commitment

    report = audit(books, sight=sight)

    assert {each.rule for each in report.differences} == ({COMMITMENTS} if is_difference else set())
    assert [each.unknown for each in report.checks if each.rule == COMMITMENTS] == [0 if is_difference else 1]


# The chain


def with_book(sight: ChainSight, **changes: Any) -> ChainSight:
    """Return a chain whose contracts of the one currency say something else."""
    ((currency, book),) = sight.books.items()
    return replace(sight, books={currency: replace(book, **changes)})


def book_of(sight: ChainSight) -> BookSight:
    (book,) = sight.books.values()
    return book


def test_another_chain_is_told_and_nothing_else_compared_with_it(books: Books, sight: ChainSight) -> None:
    strange = replace(sight, strangeness="the chain has lost its state", genesis_hash=b"\1" * 32)

    report = audit(books, sight=strange)

    assert causes_of(report, CHAIN) == ["the chain has lost its state", "it has another genesis"]
    assert {FINAL, VAULT, AGREEMENTS, SIGNED}.isdisjoint({each.rule for each in report.checks})


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"chain_id": 1}, "this is 1"),
        ({"last_final": None}, "is not the one that was final"),
    ],
)
def test_a_chain_that_is_not_as_it_was_is_told(
    books: Books, sight: ChainSight, changes: dict[str, Any], cause: str
) -> None:
    found = found_in(books, replace(sight, **changes))

    assert set(found) == {CHAIN}
    assert cause in found[CHAIN].cause


def test_contracts_that_name_others_than_were_recorded_are_told(books: Books, sight: ChainSight) -> None:
    found = found_in(books, with_book(sight, wiring=(bytes(20),) * 3))

    assert set(found) == {CHAIN}


def test_a_statement_that_is_final_here_alone_is_found(books: Books, sight: ChainSight) -> None:
    batch_id, proposed = next(iter(book_of(sight).proposed.items()))
    undone = replace(proposed, state=replace(proposed.state, open_pairs=1))

    found = found_in(books, with_book(sight, proposed=book_of(sight).proposed | {batch_id: undone}))

    assert set(found) == {FINAL}
    assert found[FINAL].cause == "it is FINAL here, and not final in the book"


def test_a_statement_that_is_final_on_the_chain_alone_is_found(books: Books, sight: ChainSight) -> None:
    last = max(books.settlement.statements, key=lambda each: each.sequence)
    change(books.settlement.statements, lambda row: row is last, state=StatementState.UNFUNDED, final_at=None)

    found = found_in(books, sight)

    assert found[FINAL].cause == "it is UNFUNDED here, and final in the book"
    assert set(found) == {FINAL, AGREEMENTS}


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"transaction": b"\1" * 32}, "it was proposed in another transaction or block than is recorded"),
        ({"block_hash": b"\1" * 32}, "it was proposed in another transaction or block than is recorded"),
        ({"statements": ()}, "other statements stand in its call on the chain"),
    ],
)
def test_a_proposal_that_the_chain_has_otherwise_is_found(
    books: Books, sight: ChainSight, changes: dict[str, Any], cause: str
) -> None:
    batch_id, proposed = next(iter(book_of(sight).proposed.items()))
    otherwise = book_of(sight).proposed | {batch_id: replace(proposed, **changes)}

    found = found_in(books, with_book(sight, proposed=otherwise))

    assert set(found) == {FINAL}
    assert found[FINAL].cause == cause


def test_another_pairs_hash_in_the_book_is_found(books: Books, sight: ChainSight) -> None:
    batch_id, proposed = next(iter(book_of(sight).proposed.items()))
    other = replace(proposed, state=replace(proposed.state, pairs_hash=b"\1" * 32))

    found = found_in(books, with_book(sight, proposed=book_of(sight).proposed | {batch_id: other}))

    assert set(found) == {FINAL}
    assert found[FINAL].cause == "the book has another pairs hash of it"


def test_a_batch_that_the_book_never_took_is_found(books: Books, sight: ChainSight) -> None:
    found = found_in(books, with_book(sight, proposed={}))

    assert set(found) == {FINAL}
    assert found[FINAL].cause == "it is final here, and the book does not have it"


def test_a_batch_that_only_the_book_knows_is_found(books: Books, sight: ChainSight) -> None:
    batch_id, proposed = next(iter(book_of(sight).proposed.items()))
    more = replace(proposed, batch_id=b"\1" * 32, state=replace(proposed.state, open_pairs=1))

    found = found_in(books, with_book(sight, proposed=book_of(sight).proposed | {more.batch_id: more}))

    assert batch_id != more.batch_id
    assert set(found) == {FINAL, AGREEMENTS}
    assert found[FINAL].scope == more.batch_id.hex()


def test_of_a_stranger_s_batch_nothing_is_asked_but_its_money_counts(books: Books, sight: ChainSight) -> None:
    book = book_of(sight)
    proposed = next(iter(book.proposed.values()))
    assert proposed.statements is not None
    stranger = replace(proposed.statements[0], agreement=b"\1" * 8, due_e4=70, credit_e4=0)
    theirs = replace(proposed, batch_id=b"\2" * 32, statements=(stranger,), state=replace(proposed.state, open_pairs=0))
    state = book.agreements[proposed.statements[0].agreement]
    agreements = book.agreements | {b"\1" * 8: replace(state, cpo=901, msp=902, mode=BookMode.PREFUNDED)}
    paid = {901: 70, 902: 30}

    sound = with_book(
        sight,
        proposed=book.proposed | {theirs.batch_id: theirs},
        agreements=agreements,
        deposited=book.deposited | {902: 100},
        collateral=book.collateral | paid,
        total_collateral=book.total_collateral + 100,
        tokens_held=book.tokens_held + 100,
    )

    assert found_in(books, sound) == {}
    short = with_book(sound, collateral=book_of(sound).collateral | {901: 69, 902: 31})
    assert set(found_in(books, short)) == {VAULT}


def test_sums_of_a_batch_that_a_stranger_s_contract_proposed_are_not_guessed(books: Books, sight: ChainSight) -> None:
    book = book_of(sight)
    proposed = replace(next(iter(book.proposed.values())), batch_id=b"\2" * 32, statements=None)

    report = audit(books, sight=with_book(sight, proposed=book.proposed | {proposed.batch_id: proposed}))

    assert report.differences == ()
    assert next(each for each in report.checks if each.rule == VAULT).unknown == len(book.collateral)


@pytest.mark.parametrize("changed", ["deposited", "withdrawn", "collateral"])
def test_a_balance_that_deposits_withdrawals_and_statements_do_not_explain_is_found(
    books: Books, sight: ChainSight, changed: str
) -> None:
    number = min(sight.numbers)
    sight = with_book(
        sight,
        deposited={number: 100},
        withdrawn={number: 30},
        collateral={number: 70},
        total_collateral=70,
        tokens_held=70,
    )
    assert found_in(books, sight) == {}
    book = book_of(sight)
    amounts = {"deposited": book.deposited, "withdrawn": book.withdrawn, "collateral": book.collateral}[changed]
    total = book.total_collateral + (changed == "collateral")

    found = found_in(
        books,
        with_book(
            sight,
            total_collateral=total,
            tokens_held=total,
            **{changed: amounts | {number: amounts.get(number, 0) + 1}},
        ),
    )

    assert set(found) == {VAULT}
    assert abs(found[VAULT].found - found[VAULT].expected) == 1
    assert str(sight.numbers[number]) in found[VAULT].scope


def test_a_vault_that_owes_more_than_it_holds_is_found(books: Books, sight: ChainSight) -> None:
    found = found_in(books, with_book(sight, tokens_held=book_of(sight).total_collateral - 1))

    assert set(found) == {VAULT}
    assert found[VAULT].cause == "the vault has less money than it owes"


def test_balances_that_are_not_the_vault_s_total_are_found(books: Books, sight: ChainSight) -> None:
    total = book_of(sight).total_collateral
    found = found_in(books, with_book(sight, total_collateral=total + 1, tokens_held=total + 1))

    assert set(found) == {VAULT}


@pytest.mark.parametrize("changes", [{"last_sequence": 99}, {"owed_e4": 1}, {"credit_limit_e4": 1}, {"cpo": 99}])
def test_an_agreement_that_the_book_has_otherwise_is_found(
    books: Books, sight: ChainSight, changes: dict[str, Any]
) -> None:
    opening = books.settlement.openings[0]
    assert opening.book_agreement is not None
    state = book_of(sight).agreements[opening.book_agreement]
    other = book_of(sight).agreements | {opening.book_agreement: replace(state, **changes)}

    found = found_in(books, with_book(sight, agreements=other))

    assert AGREEMENTS in found
    assert set(found) <= ({AGREEMENTS, VAULT} if "cpo" in changes else {AGREEMENTS})


def test_a_guarantee_that_was_called_and_not_heard_of_is_found(books: Books, sight: ChainSight) -> None:
    opening = books.settlement.openings[0]
    assert opening.book_agreement is not None
    state = book_of(sight).agreements[opening.book_agreement]
    lower = replace(state, credit_limit_e4=state.credit_limit_e4 - 1, owed_e4=state.owed_e4 - 1)
    changed = {
        "agreements": book_of(sight).agreements | {opening.book_agreement: lower},
        "called_e4": {opening.book_agreement: 1},
        "discharged_e4": {opening.book_agreement: 1},
    }

    found = found_in(books, with_book(sight, **changed))

    assert found[AGREEMENTS].cause.startswith("another amount was taken of the guarantee")
    assert found[AGREEMENTS].found == 1


def test_an_agreement_that_is_not_open_is_found(books: Books, sight: ChainSight) -> None:
    found = found_in(books, with_book(sight, agreements={}))

    assert found[AGREEMENTS].cause == "it is not open in the book"


def test_a_number_that_is_another_s_in_the_registry_is_found(books: Books, sight: ChainSight) -> None:
    found = found_in(books, replace(sight, numbers=dict.fromkeys(sight.numbers, PartyId("XX-NOP"))))

    assert set(found) == {SIGNED}


def test_a_signer_who_was_replaced_since_may_have_signed(books: Books, sight: ChainSight) -> None:
    signers = {number: each | {bytes(20)} for number, each in sight.signers.items()}

    assert found_in(books, replace(sight, signers=signers)) == {}
    assert set(found_in(books, replace(sight, signers=dict.fromkeys(signers, frozenset({bytes(20)}))))) == {SIGNED}


# What waits


def accepted_event(books: Books, cdr_id: str) -> LoggedEvent:
    row = next(row for row in books.emsp_cdrs if row.cdr_id == cdr_id)
    event = CDRAccepted(
        agreement_id=row.agreement_id,
        cpo_id=row.cpo_id,
        emsp_id=row.party_id,
        cdr=row.cdr,
        accepted_at=row.received_at,
    )
    envelope = Envelope(event=event, event_id="e", correlation_id="c", recorded_at=row.received_at)
    return LoggedEvent(topic="cdrs", partition=0, offset=0, envelope=envelope)


def unbatched(books: Books, **changes: Any) -> str:
    """Take the statement of a CDR apart, as if it had not been closed yet; return the reason why its CDRs wait."""
    rows = books.settlement
    rows.statements, rows.batches, rows.acceptances, rows.transactions = [], [], [], []
    books.money = MoneyRows()
    rows.openings = [replace(each, last_sequence=0, **changes) for each in rows.openings]
    rows.leaves = [replace(leaf, version=None, sequence=None, place=None) for leaf in rows.leaves]
    report = audit(books)

    assert report.differences == ()
    assert sum(each.cdrs for each in report.waiting) == len(rows.leaves)
    assert sum(each.net_e4 for each in report.waiting) == sum(leaf.due_e4 - leaf.credit_e4 for leaf in rows.leaves)
    (reason,) = {each.reason for each in report.waiting}
    return reason


def test_what_is_not_closed_waits_for_its_period(books: Books) -> None:
    assert unbatched(books) == "its period runs"


def test_what_has_no_open_agreement_waits_for_what_that_waits_for(books: Books) -> None:
    assert unbatched(books, book_agreement=None, waiting="an operator opens it") == "an operator opens it"


def test_what_has_no_signed_terms_waits_for_them(books: Books) -> None:
    books.settlement.agreements = [replace(each, terms=None) for each in books.settlement.agreements]

    assert unbatched(books) == "no terms that both signed are known to the settlement"


def test_what_has_no_terms_in_its_currency_waits_for_them(books: Books) -> None:
    books.settlement.leaves = [replace(leaf, currency="CHF") for leaf in books.settlement.leaves]
    rows = books.settlement
    rows.statements, rows.batches, rows.acceptances, rows.transactions = [], [], [], []
    books.money = MoneyRows()
    rows.openings = [replace(each, last_sequence=0) for each in rows.openings]
    rows.leaves = [replace(leaf, version=None, sequence=None, place=None) for leaf in rows.leaves]

    assert {each.reason for each in audit(books).waiting} == {"no terms in CHF are known to the settlement"}


@pytest.mark.parametrize(
    ("state", "batch", "waits", "reason"),
    [
        (StatementState.CLOSED, None, None, "it is closed and goes into the next batch"),
        (StatementState.UNFUNDED, b"\1", "cover: the payer's is short", "cover: the payer's is short"),
        (StatementState.PROPOSED, b"\1", None, "its batch is on its way into the chain"),
    ],
)
def test_a_statement_that_is_not_final_keeps_its_cdrs_waiting(
    books: Books, state: StatementState, batch: bytes | None, waits: str | None, reason: str
) -> None:
    statement = change(books.settlement.statements, state=state, batch_id=batch, waiting=waits, final_at=None)

    (waiting,) = audit(books).waiting

    assert (waiting.reason, waiting.cdrs) == (reason, statement.count)
    assert waiting.net_e4 == statement.due_e4 - statement.credit_e4


@pytest.mark.parametrize(
    ("lag", "is_parked", "reason"),
    [
        (3, False, "the settlement has not read it yet"),
        (0, True, "its event is in the dead letters of the settlement"),
    ],
)
def test_a_cdr_without_a_leaf_waits_while_its_event_does(
    books: Books, *, lag: int, is_parked: bool, reason: str
) -> None:
    leaf = next(leaf for leaf in books.settlement.leaves if charged(books)(leaf))
    books.settlement.leaves.remove(leaf)
    books.lag = {**books.lag, SETTLEMENT_GROUP: lag}
    if is_parked:
        logged = accepted_event(books, leaf.cdr_id)
        parked = ParkedEvent(
            group=SETTLEMENT_GROUP, logged=logged, reason="no", parked_at=leaf.accepted_at + timedelta(1)
        )
        books.parked = [parked]

    report = audit(books)

    assert [(each.reason, each.cdrs) for each in report.waiting] == [(reason, 1)]
    assert {LEAVES, ENERGY}.isdisjoint({each.rule for each in report.differences})


def test_where_no_settlement_is_at_work_everything_accepted_waits(books: Books) -> None:
    books.settlement, books.money = type(books.settlement)(), MoneyRows()
    books.lag = {group: lag for group, lag in books.lag.items() if group != SETTLEMENT_GROUP}

    report = audit(books)

    assert report.differences == ()
    assert {each.reason for each in report.waiting} == {"no settlement is at work here"}


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (CDRState.RECEIVED, "the MSP has not looked at it yet"),
        (CDRState.WAITING, "the MSP waits for what it overtook"),
        (CDRState.DISPUTED, "the MSP disputes it"),
    ],
)
def test_a_cdr_that_is_not_accepted_waits_for_its_msp(books: Books, state: CDRState, reason: str) -> None:
    leaf = next(leaf for leaf in books.settlement.leaves if charged(books)(leaf))
    books.settlement.leaves.remove(leaf)
    change(books.emsp_cdrs, lambda row: row.cdr_id == leaf.cdr_id, state=state)

    assert [(each.reason, each.cdrs) for each in audit(books).waiting] == [(reason, 1)]


def test_a_cdr_that_has_not_reached_its_msp_waits_on_its_way(books: Books) -> None:
    leaf = next(leaf for leaf in books.settlement.leaves if charged(books)(leaf))
    books.settlement.leaves.remove(leaf)
    books.emsp_cdrs = [row for row in books.emsp_cdrs if row.cdr_id != leaf.cdr_id]

    assert [each.reason for each in audit(books).waiting] == ["it is on its way to its MSP"]


def test_what_was_credited_before_it_was_accepted_is_never_settled(books: Books) -> None:
    """The demo credits one disputed CDR: neither it nor its credit is a leaf, and nothing waits."""
    (withdrawn,) = [
        row
        for row in books.emsp_cdrs
        if row.state is CDRState.CREDITED and row.cdr_id not in {bill.cdr_id for bill in books.bills}
    ]

    named: Sequence[str] = [leaf.cdr_id for leaf in books.settlement.leaves]

    assert withdrawn.cdr_id not in named
    assert withdrawn.credited_by not in named
    assert audit(books).waiting == ()


def test_what_is_settled_off_chain_stays_in_the_books_and_waits_for_nothing(books: Books) -> None:
    leaf = next(leaf for leaf in books.settlement.leaves if charged(books)(leaf))
    change(books.settlement.leaves, lambda row: row == leaf, version=None, sequence=None, place=None)
    change(
        books.settlement.openings,
        lambda row: (row.cpo_id, row.agreement_id) == (leaf.cpo_id, leaf.agreement_id),
        mode=SettlementMode.OFF_CHAIN,
    )

    report = audit(books)

    assert whereabouts(books)[leaf.cpo_id.code, leaf.cdr_id].standing is Standing.OFF_CHAIN
    assert report.waiting == ()
    assert causes_of(report, ENERGY) == []
