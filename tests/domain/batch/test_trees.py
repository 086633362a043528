from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emobility.domain.batch.hashing import U64_MAX, commitment, keccak256
from emobility.domain.batch.leaf import DuplicateLeaf, EmptyStatement, Leaf, LeafKind, MalformedLeaf
from emobility.domain.batch.trees import (
    MalformedProof,
    Proof,
    StatementTrees,
    SumNode,
    SumOutOfRange,
    proven_root,
    proven_sum_root,
)
from tests.domain.batch import oracle
from tests.domain.batch.builders import LEAVES, a_leaf, statements


def hash_of(leaf: Leaf) -> bytes:
    return leaf.evidence_hash


def is_in_evidence(leaf_hash: bytes, proof: Proof, trees: StatementTrees) -> bool:
    try:
        return proven_root(leaf_hash, proof) == trees.evidence_root
    except MalformedProof:
        return False


def is_in_sums(leaf_hash: bytes, proof: Proof, trees: StatementTrees, *, due_e4: int, credit_e4: int) -> bool:
    try:
        return proven_sum_root(leaf_hash, proof, due_e4=due_e4, credit_e4=credit_e4) == trees.sum_root
    except (MalformedProof, SumOutOfRange):
        return False


def flipped(data: bytes, bit: int) -> bytes:
    return (int.from_bytes(data, "big") ^ 1 << bit).to_bytes(len(data), "big")


def numbered(count: int) -> list[Leaf]:
    return [
        a_leaf(keccak256(bytes([n])), kind=LeafKind.CHARGE, wh=(n, 0), commitment=bytes(32), net_e4=n)
        for n in range(count)
    ]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"", "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"),
        (b"abc", "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"),
    ],
)
def test_the_hash_is_ethereums(message: bytes, expected: str) -> None:
    assert keccak256(message).hex() == oracle.keccak(message).hex() == expected


@settings(max_examples=30)
@given(message=st.binary(max_size=300))
def test_the_hash_is_keccak_as_specified(message: bytes) -> None:
    assert keccak256(message) == oracle.keccak(message)


@settings(max_examples=20)
@given(leaves=statements(max_size=9))
def test_both_roots_are_those_of_a_second_implementation(leaves: list[Leaf]) -> None:
    trees = StatementTrees(leaves)

    assert trees.evidence_root == oracle.evidence_root(leaves)
    assert (trees.sum_root.hash, trees.sum_root.due_e4, trees.sum_root.credit_e4) == oracle.sum_root(leaves)


def test_every_leaf_of_every_shape_has_a_proof() -> None:
    for count in range(1, 70):
        trees = StatementTrees(numbered(count))
        for index, leaf in enumerate(trees.leaves):
            assert is_in_evidence(hash_of(leaf), trees.evidence_proof(index), trees)
            assert is_in_sums(
                hash_of(leaf), trees.sum_proof(index), trees, due_e4=leaf.due_e4, credit_e4=leaf.credit_e4
            )


@given(leaves=statements(), data=st.data())
def test_the_order_of_arrival_does_not_matter(leaves: list[Leaf], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(leaves))

    assert StatementTrees(shuffled).evidence_root == StatementTrees(leaves).evidence_root
    assert StatementTrees(shuffled).sum_root == StatementTrees(leaves).sum_root


@given(leaves=statements())
def test_what_is_due_and_credited_is_conserved(leaves: list[Leaf]) -> None:
    root = StatementTrees(leaves).sum_root

    assert root.due_e4 == sum(leaf.due_e4 for leaf in leaves)
    assert root.credit_e4 == sum(leaf.credit_e4 for leaf in leaves)
    assert root.due_e4 - root.credit_e4 == sum(leaf.net_e4 for leaf in leaves)


@given(leaves=statements(), data=st.data())
def test_a_leaf_with_any_bit_changed_is_refused(leaves: list[Leaf], data: st.DataObject) -> None:
    trees = StatementTrees(leaves)
    index = data.draw(st.integers(0, trees.count - 1))
    leaf = trees.leaves[index]
    bit, word_bit = data.draw(st.integers(0, 255)), data.draw(st.integers(0, 63))
    changed = [
        replace(leaf, kind=LeafKind(1 - leaf.kind)),
        replace(leaf, cdr_key=flipped(leaf.cdr_key, bit)),
        replace(leaf, commitment=flipped(leaf.commitment, bit)),
        replace(leaf, meter=flipped(leaf.meter, bit)),
        replace(leaf, import_wh=leaf.import_wh ^ 1 << word_bit),
        replace(leaf, export_wh=leaf.export_wh ^ 1 << word_bit),
    ]

    for other in changed:
        assert not is_in_evidence(hash_of(other), trees.evidence_proof(index), trees)
        assert not is_in_sums(
            hash_of(other), trees.sum_proof(index), trees, due_e4=leaf.due_e4, credit_e4=leaf.credit_e4
        )


@given(leaves=statements(), data=st.data())
def test_an_amount_with_any_bit_changed_is_refused(leaves: list[Leaf], data: st.DataObject) -> None:
    trees = StatementTrees(leaves)
    index, bit = data.draw(st.integers(0, trees.count - 1)), data.draw(st.integers(0, 63))
    leaf, proof = trees.leaves[index], trees.sum_proof(index)

    assert not is_in_sums(hash_of(leaf), proof, trees, due_e4=leaf.due_e4 ^ 1 << bit, credit_e4=leaf.credit_e4)
    assert not is_in_sums(hash_of(leaf), proof, trees, due_e4=leaf.due_e4, credit_e4=leaf.credit_e4 ^ 1 << bit)


@given(leaves=statements(), data=st.data())
def test_a_proof_with_any_bit_changed_is_refused(leaves: list[Leaf], data: st.DataObject) -> None:
    trees = StatementTrees(leaves)
    index = data.draw(st.integers(0, trees.count - 1))
    leaf = trees.leaves[index]
    evidence, sums = trees.evidence_proof(index), trees.sum_proof(index)

    for place in range(len(evidence.siblings)):
        other = _with_sibling(evidence, place, flipped(evidence.siblings[place], data.draw(st.integers(0, 255))))
        assert not is_in_evidence(hash_of(leaf), other, trees)
        other = _with_sibling(sums, place, flipped(sums.siblings[place], data.draw(st.integers(0, 383))))
        assert not is_in_sums(hash_of(leaf), other, trees, due_e4=leaf.due_e4, credit_e4=leaf.credit_e4)


def _with_sibling(proof: Proof, place: int, sibling: bytes) -> Proof:
    return replace(proof, siblings=(*proof.siblings[:place], sibling, *proof.siblings[place + 1 :]))


@given(leaves=statements(), data=st.data())
def test_a_leaf_proves_no_other_place(leaves: list[Leaf], data: st.DataObject) -> None:
    trees = StatementTrees(leaves)
    index, elsewhere = data.draw(st.integers(0, trees.count - 1)), data.draw(st.integers(-1, trees.count))
    proof = replace(trees.evidence_proof(index), index=elsewhere)

    assert is_in_evidence(hash_of(trees.leaves[index]), proof, trees) == (elsewhere == index)


@given(leaves=statements(), data=st.data())
def test_a_proof_has_exactly_the_siblings_it_needs(leaves: list[Leaf], data: st.DataObject) -> None:
    trees = StatementTrees(leaves)
    index = data.draw(st.integers(0, trees.count - 1))
    leaf, proof = hash_of(trees.leaves[index]), trees.evidence_proof(index)

    with pytest.raises(MalformedProof):
        proven_root(leaf, replace(proof, siblings=(*proof.siblings, bytes(32))))
    for place in range(len(proof.siblings)):
        with pytest.raises(MalformedProof):
            proven_root(leaf, replace(proof, siblings=proof.siblings[:place] + proof.siblings[place + 1 :]))


def test_a_node_does_not_pass_for_a_leaf() -> None:
    trees = StatementTrees(numbered(2))
    left, right = (hash_of(leaf) for leaf in trees.leaves)

    # The root's own pre-image, offered as a leaf of a statement of one.
    assert keccak256(b"\x01" + left + right) == trees.evidence_root
    assert keccak256(b"\x00" + left + right) != trees.evidence_root


def test_a_stranger_leaf_has_no_proof() -> None:
    trees = StatementTrees(numbered(9))
    stranger = replace(numbered(1)[0], cdr_key=b"\xff" * 32)

    assert not any(is_in_evidence(hash_of(stranger), trees.evidence_proof(i), trees) for i in range(9))


@given(leaf=LEAVES)
def test_a_statement_of_one_needs_no_sibling(leaf: Leaf) -> None:
    trees = StatementTrees([leaf])

    assert trees.evidence_root == hash_of(leaf)
    assert trees.evidence_proof(0).siblings == trees.sum_proof(0).siblings == ()


@given(leaves=statements(), data=st.data())
def test_a_cdr_that_is_there_twice_is_refused(leaves: list[Leaf], data: st.DataObject) -> None:
    again = replace(data.draw(st.sampled_from(leaves)), commitment=b"\x07" * 32)

    with pytest.raises(DuplicateLeaf) as refusal:
        StatementTrees([*leaves, again])

    assert refusal.value.cdr_key == again.cdr_key


def test_an_empty_statement_is_refused() -> None:
    with pytest.raises(EmptyStatement):
        StatementTrees([])


def test_a_sum_beyond_its_field_is_refused() -> None:
    largest = [replace(leaf, due_e4=U64_MAX) for leaf in numbered(2)]

    with pytest.raises(SumOutOfRange):
        StatementTrees(largest)
    assert StatementTrees(largest[:1]).sum_root.due_e4 == U64_MAX


def test_a_sibling_whose_sum_overflows_is_refused() -> None:
    trees = StatementTrees(numbered(2))
    sibling = SumNode(hash=bytes(32), due_e4=2**64 - 1, credit_e4=0).encoded
    proof = Proof(index=1, count=2, siblings=(sibling,))

    with pytest.raises(SumOutOfRange):
        proven_sum_root(hash_of(trees.leaves[1]), proof, due_e4=1, credit_e4=0)


@pytest.mark.parametrize(
    "change",
    [
        {"cdr_key": bytes(31)},
        {"commitment": bytes(33)},
        {"meter": b""},
        {"import_wh": -1},
        {"export_wh": 2**64},
        {"due_e4": -1},
        {"credit_e4": 2**64},
        {"due_e4": 1, "credit_e4": 1},
    ],
)
def test_a_leaf_that_has_no_encoding_is_refused(change: dict[str, bytes | int]) -> None:
    fields = {
        "kind": LeafKind.CHARGE,
        "cdr_key": bytes(32),
        "import_wh": 0,
        "export_wh": 0,
        "commitment": bytes(32),
        "meter": bytes(32),
        "due_e4": 0,
        "credit_e4": 0,
    }

    with pytest.raises(MalformedLeaf):
        Leaf(**{**fields, **change})  # type: ignore[arg-type]


@given(document=st.binary(max_size=200), salt=st.binary(min_size=32, max_size=32), data=st.data())
def test_a_commitment_stands_for_one_document_under_one_salt(document: bytes, salt: bytes, data: st.DataObject) -> None:
    bit = data.draw(st.integers(0, 255))

    assert commitment(document, salt=salt) == oracle.keccak(b"\x02" + salt + document)
    assert commitment(document, salt=flipped(salt, bit)) != commitment(document, salt=salt)
    assert commitment(document + b"\x00", salt=salt) != commitment(document, salt=salt)
