from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobility.domain.batch.hashing import keccak256
from emobility.domain.batch.leaf import Leaf
from emobility.domain.batch.statement import (
    STATED_E4_MAX,
    STATEMENTS_MAX,
    BookedStatement,
    MalformedStatement,
    PairStatement,
    StatementFigures,
    UnsuitableBatch,
    batch_tree,
    pairs_hash,
    statement_of,
)
from emobility.domain.batch.trees import StatementTrees, proven_root
from emobility.domain.batch.typed_data import (
    AgreementTerms,
    Book,
    BookKind,
    BookMode,
    MalformedTypedData,
    acceptance_digest,
    agreement_digest,
    agreement_id,
    agreement_key,
    batch_id_of,
    discharge_digest,
    ending_digest,
)
from tests.domain.batch.builders import HASHES, statements

END = datetime(2022, 5, 1, tzinfo=UTC)
BOOK = Book(chain_id=31_337, address=b"\x11" * 20)
STATEMENT = PairStatement(
    agreement=bytes.fromhex("aabbccddeeff0011"),
    evidence_root=b"\xbb" * 32,
    sum_root=b"\xcc" * 32,
    due_e4=12_345,
    credit_e4=67,
    count=3,
    sequence=9,
    period_end=END,
)
TERMS = AgreementTerms(
    document=b"\xdd" * 32,
    cpo=1,
    msp=2,
    currency="EUR",
    kind=BookKind.SWAP,
    number=3,
    mode=BookMode.GUARANTEE,
    credit_limit_e4=500_000,
    payment_term_s=86_400,
    deadline=END,
)
AGREEMENTS = st.binary(min_size=8, max_size=8)
PAIR_STATEMENTS = st.builds(
    PairStatement,
    agreement=AGREEMENTS,
    evidence_root=HASHES,
    sum_root=HASHES,
    due_e4=st.integers(0, STATED_E4_MAX),
    credit_e4=st.integers(0, STATED_E4_MAX),
    count=st.integers(1, 2**24 - 1),
    sequence=st.integers(1, 2**24 - 1),
    period_end=st.integers(0, 2**32 - 1).map(lambda s: datetime.fromtimestamp(s, UTC)),
)


# The hex figures below were computed once with eth-account's encode_typed_data, which shares no code with ours.


def test_a_statements_hash_is_that_of_eip_712() -> None:
    assert STATEMENT.struct_hash.hex() == "ecfab82b51716fceef5dc36de2e17e455a5bc9f9d24bce64de57c3cce163e04a"


def test_the_books_domain_is_that_of_eip_712() -> None:
    assert BOOK.domain_separator.hex() == "7dbc7f850576f1a06ecbf344bdf8ba873262165c6a393962fb03a80f9d4be762"


def test_an_acceptance_is_signed_as_eip_712_has_it() -> None:
    digest = acceptance_digest(BOOK, batch_id=b"\x01" * 32, pairs_hash=b"\x02" * 32, party=7, pairs=5)

    assert digest.hex() == "ec75af1e49784636216cd55ba0bea47b7aea067438c6eee0e80f0a8a7ec2c8dd"


def test_an_agreement_is_signed_as_eip_712_has_it() -> None:
    assert agreement_id(TERMS).hex() == "bd9eec3ea1098bd96d7d5048eea44360c3b56ddbc7be97917af7b11b84724fd9"
    assert agreement_digest(BOOK, TERMS).hex() == "65b33eabc0afe2edb7b3c6a72645e2a77b1a2ba1f867a866cc284bb417d78a8a"


def test_a_discharge_is_signed_as_eip_712_has_it() -> None:
    digest = discharge_digest(BOOK, agreement=STATEMENT.agreement, number=4, amount_e4=-250)

    assert digest.hex() == "b9acc7d9474879434bfb629db4017bd4453e8d49580d1113ae732a901b886379"


def test_an_ending_is_signed_as_eip_712_has_it() -> None:
    digest = ending_digest(BOOK, STATEMENT.agreement)

    assert digest.hex() == "cfb0a82ad23bc247a296a1de9fd48bb5b5e0fe3ca379e4501086cb22809cd7e8"


def test_a_key_names_both_parties_the_kind_and_the_number() -> None:
    assert agreement_key(TERMS).hex() == "000001" + "2" + "003" + "000002"


@pytest.mark.parametrize("other", [Book(chain_id=1, address=BOOK.address), Book(chain_id=31_337, address=bytes(20))])
def test_a_signature_for_one_book_means_nothing_in_another(other: Book) -> None:
    def accepted(book: Book) -> bytes:
        return acceptance_digest(book, batch_id=bytes(32), pairs_hash=bytes(32), party=1, pairs=1)

    assert accepted(BOOK) != accepted(other)
    assert agreement_digest(BOOK, TERMS) != agreement_digest(other, TERMS)
    assert batch_id_of(BOOK, bytes(32)) != batch_id_of(other, bytes(32))


@given(statement=PAIR_STATEMENTS)
def test_a_statement_is_read_back_from_the_contracts_words(statement: PairStatement) -> None:
    read = BookedStatement.of_words(statement.figures, statement.roots)

    assert (read.figures, read.struct_hash) == (statement.figures, statement.struct_hash)
    for field in fields(StatementFigures):
        assert getattr(read, field.name) == getattr(statement, field.name)


@given(
    statement=PAIR_STATEMENTS,
    other=PAIR_STATEMENTS,
    name=st.sampled_from(sorted(field.name for field in fields(PairStatement))),
)
def test_every_field_of_a_statement_is_hashed(statement: PairStatement, other: PairStatement, name: str) -> None:
    changed = replace(statement, **{name: getattr(other, name)})

    assert (changed.struct_hash == statement.struct_hash) == (changed == statement)


@given(leaves=statements())
def test_a_statement_says_what_its_trees_add_up_to(leaves: list[Leaf]) -> None:
    statement = statement_of(StatementTrees(leaves), agreement=bytes(8), sequence=1, period_end=END)

    assert (statement.count, statement.net_e4) == (len(leaves), sum(leaf.net_e4 for leaf in leaves))


def test_a_batch_is_bound_with_its_count() -> None:
    batch = [replace(STATEMENT, agreement=bytes([n]) * 8) for n in range(5)]
    tree = batch_tree(batch)

    assert pairs_hash(batch) == keccak256(tree.root + (5).to_bytes(32, "big"))
    for index, statement in enumerate(batch):
        assert proven_root(statement.struct_hash, tree.proof(index)) == tree.root


@pytest.mark.parametrize("agreements", [[], [1, 1], [2, 1], list(range(STATEMENTS_MAX + 1))])
def test_a_batch_that_the_book_would_refuse_is_not_made(agreements: list[int]) -> None:
    with pytest.raises(UnsuitableBatch):
        pairs_hash([replace(STATEMENT, agreement=n.to_bytes(8, "big")) for n in agreements])


def test_the_same_statements_have_the_same_batch_id_and_others_another() -> None:
    first, second = pairs_hash([STATEMENT]), pairs_hash([replace(STATEMENT, sequence=10)])

    assert batch_id_of(BOOK, first) == batch_id_of(BOOK, pairs_hash([STATEMENT]))
    assert batch_id_of(BOOK, first) != batch_id_of(BOOK, second)


@pytest.mark.parametrize(
    "change",
    [
        {"agreement": bytes(7)},
        {"evidence_root": bytes(31)},
        {"due_e4": -1},
        {"credit_e4": 2**56},
        {"count": 0},
        {"sequence": 0},
        {"sequence": 2**24},
        {"count": 2**24},
        {"period_end": datetime(1969, 12, 31, tzinfo=UTC)},
        {"period_end": END.replace(microsecond=1)},
    ],
)
def test_a_statement_that_has_no_form_on_chain_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(MalformedStatement):
        replace(STATEMENT, **change)


@pytest.mark.parametrize("figures", [0, 1 << 32, 1 << 56])
def test_words_that_are_no_statement_are_refused(figures: int) -> None:
    with pytest.raises(MalformedStatement):
        BookedStatement.of_words(figures, bytes(32))


@pytest.mark.parametrize(
    "change",
    [
        {"document": bytes(31)},
        {"cpo": 2**32},
        {"msp": -1},
        {"currency": "EURO"},
        {"credit_limit_e4": 2**64},
        {"payment_term_s": 2**32},
    ],
)
def test_terms_that_do_not_fit_their_types_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(MalformedTypedData):
        agreement_id(replace(TERMS, **change))


@pytest.mark.parametrize("change", [{"cpo": 2**24}, {"msp": 2**24}, {"number": 2**12}])
def test_terms_that_do_not_fit_a_key_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(MalformedTypedData):
        agreement_key(replace(TERMS, **change))
