"""A proof that shows nothing wrong is refused before it is sent; one that does becomes the call that says so."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobility.domain.batch import contracts
from emobility.domain.batch.abi import encode
from emobility.domain.batch.disputes import (
    Case,
    CaseStage,
    Contested,
    DisputeKind,
    MeteredEnergy,
    NothingWrong,
    NotOnChain,
    StruckFor,
    Word,
    case_id,
    credit_call,
    duplicate_call,
    energy_call,
    explained,
    leaf_words,
    place_leaf,
    quarrel_call,
    read_case,
    signature_call,
    taken_out_e4,
)
from emobility.domain.batch.hashing import keccak256
from emobility.domain.batch.leaf import Leaf, LeafKind
from emobility.domain.batch.meter import MeterCurve, MeterRecord, SignedPayload, meter_commitment
from emobility.domain.batch.trees import StatementTrees, proven_sum_root
from tests.domain.batch.builders import a_leaf
from tests.domain.batch.test_calls import T0
from tests.domain.batch.test_trees import numbered

SALT = bytes(range(32))
RECORD = MeterRecord(
    curve=MeterCurve.SECP256R1, public_key=b"key", signed=(SignedPayload(payload=b"{}", signature=b"signature"),)
)
METER = meter_commitment(RECORD, salt=SALT)
WORD = Word(party=2, deadline=T0 + timedelta(days=7), signature=bytes(range(64)))


def charge(net_e4: int = 120_000, *, meter: bytes = METER) -> Leaf:
    return a_leaf(b"k" * 32, kind=LeafKind.CHARGE, wh=(30_011, 0), commitment=bytes(32), net_e4=net_e4, meter=meter)


def contested(leaf: Leaf, *, sequence: int = 2) -> Contested:
    trees = StatementTrees([leaf, *numbered(6)])
    return Contested(
        statement=keccak256(bytes([sequence])),
        opening=b"opening",
        period_end=T0 + timedelta(days=sequence),
        sequence=sequence,
        placed=place_leaf(trees, trees.leaves.index(leaf)),
    )


def test_a_placed_leaf_proves_itself_in_the_sums() -> None:
    leaf = charge()
    trees = StatementTrees([leaf, *numbered(6)])
    placed = place_leaf(trees, trees.leaves.index(leaf))

    reached = proven_sum_root(leaf.evidence_hash, placed.proof, due_e4=leaf.due_e4, credit_e4=leaf.credit_e4)

    assert reached == trees.sum_root
    assert placed.words == (leaf_words(leaf), 120_000, 0, placed.proof.index, b"".join(placed.proof.siblings))
    assert placed.hidden.words == (leaf.evidence_hash, *placed.words[1:])


def test_the_later_of_two_statements_loses_the_cdr() -> None:
    later, earlier = contested(charge(), sequence=2), contested(charge(), sequence=1)
    proof = StatementTrees([charge(), *numbered(6)]).evidence_proof(earlier.placed.proof.index)

    arguments = contracts.CONTEST_DUPLICATE.arguments(duplicate_call(later, earlier, evidence_proof=proof))

    assert arguments == (b"opening", later.placed.words, b"opening", leaf_words(charge()), proof.index, proof.siblings)
    for one, other in ((earlier, later), (later, later)):
        with pytest.raises(NothingWrong):
            duplicate_call(one, other, evidence_proof=proof)
    with pytest.raises(NothingWrong):
        duplicate_call(later, contested(replace(charge(), cdr_key=b"x" * 32), sequence=1), evidence_proof=proof)


def test_a_meter_that_did_not_sign_is_shown_with_the_committed_record_alone() -> None:
    its = contested(charge())

    arguments = contracts.CONTEST_SIGNATURE.arguments(signature_call(its, RECORD, salt=SALT, is_signed=lambda _: False))

    assert arguments == (b"opening", its.placed.words, SALT, RECORD.packed)
    with pytest.raises(NothingWrong, match="signed"):
        signature_call(its, RECORD, salt=SALT, is_signed=lambda _: True)
    with pytest.raises(NothingWrong, match="another record"):
        signature_call(its, RECORD, salt=bytes(32), is_signed=lambda _: False)
    with pytest.raises(NothingWrong, match="no meter"):
        signature_call(contested(charge(meter=bytes(32))), RECORD, salt=SALT, is_signed=lambda _: False)
    other = replace(RECORD, curve=MeterCurve.OTHER)
    with pytest.raises(NotOnChain):
        signature_call(
            contested(charge(meter=meter_commitment(other, salt=SALT))), other, salt=SALT, is_signed=lambda _: False
        )


@pytest.mark.parametrize(
    ("energy", "is_wrong"),
    [
        (MeteredEnergy(import_wh=30_011, export_wh=None), False),
        (MeteredEnergy(import_wh=30_011, export_wh=0), False),
        (MeteredEnergy(import_wh=30_010, export_wh=None), True),
        (MeteredEnergy(import_wh=30_011, export_wh=1), True),
        (MeteredEnergy(import_wh=None, export_wh=0), False),
    ],
)
def test_energy_is_contested_where_a_register_says_otherwise(energy: MeteredEnergy, is_wrong: bool) -> None:  # noqa: FBT001
    its = contested(charge())

    if is_wrong:
        arguments = contracts.CONTEST_ENERGY.arguments(energy_call(its, RECORD, salt=SALT, energy=energy))
        assert arguments == (b"opening", its.placed.words, SALT, RECORD.packed)
    else:
        with pytest.raises(NothingWrong):
            energy_call(its, RECORD, salt=SALT, energy=energy)


def test_a_credit_is_struck_with_the_charge_that_it_names() -> None:
    credit = a_leaf(
        b"c" * 32, kind=LeafKind.CREDIT, wh=(30_011, 0), commitment=bytes(32), net_e4=-120_000, meter=charge().cdr_key
    )

    arguments = contracts.CONTEST_CREDIT.arguments(credit_call(contested(credit), statement=bytes(32), charge=charge()))

    assert arguments[2:] == (bytes(32), leaf_words(charge()))
    with pytest.raises(NothingWrong):
        credit_call(contested(credit), statement=bytes(32), charge=replace(charge(), cdr_key=b"x" * 32))
    with pytest.raises(NothingWrong):
        credit_call(contested(charge()), statement=bytes(32), charge=charge())


@given(claimed_e4=st.integers(-200_000, 200_000), net_e4=st.sampled_from([120_000, -120_000]))
def test_a_claim_lies_between_nothing_and_what_is_stated(claimed_e4: int, net_e4: int) -> None:
    its = contested(charge(net_e4))
    is_between = 0 <= claimed_e4 * (1 if net_e4 > 0 else -1) < 120_000

    if is_between:
        arguments = contracts.QUARREL.arguments(quarrel_call(its, claimed_e4=claimed_e4, word=WORD))
        assert arguments == (b"opening", its.placed.words, claimed_e4, WORD.words)
    else:
        with pytest.raises(NothingWrong):
            quarrel_call(its, claimed_e4=claimed_e4, word=WORD)


def test_a_case_is_one_leaf_of_one_statement() -> None:
    its = contested(charge())

    assert its.case_id == case_id(its.statement, charge()) == keccak256(its.statement + charge().evidence_hash)


def test_what_verdicts_took_out_is_the_whole_or_what_was_ruled() -> None:
    ruled = Case(
        stage=CaseStage.RULED,
        struck_for=StruckFor.DUPLICATE,
        deadline=T0,
        claimant=2,
        defendant=1,
        is_by_msp=True,
        pair=7,
        net_e4=120_000,
        claimed_e4=1,
        corrected_e4=-7,
    )

    assert taken_out_e4(ruled, stated_e4=120_000) == -7
    assert taken_out_e4(replace(ruled, stage=CaseStage.STRUCK), stated_e4=120_000) == -120_000


@pytest.mark.parametrize("stage", CaseStage)
@pytest.mark.parametrize("reason", StruckFor)
def test_of_a_charge_that_was_struck_nothing_is_left_unless_as_a_duplicate(stage: CaseStage, reason: StruckFor) -> None:
    words = (int(stage), int(reason), 1_800_000_000, 2, 1, True, 77, 120_000, 0, 0)

    case = read_case(encode("((uint8,uint8,uint40,uint32,uint32,bool,uint64,int64,int64,int64))", (words,)))

    assert (case.stage, case.struck_for, case.net_e4) == (stage, reason, 120_000)
    assert case.takes_charge_back == (stage is CaseStage.STRUCK and reason is not StruckFor.DUPLICATE)


@pytest.mark.parametrize("kind", DisputeKind)
def test_each_kind_says_what_follows(kind: DisputeKind) -> None:
    says = explained(kind, charge(), energy=MeteredEnergy(import_wh=30_010, export_wh=None), currency="EUR")

    assert "12.0000 EUR" in says or "12 EUR" in says, says
    assert says.endswith(".")


@pytest.mark.parametrize(
    ("energy", "says"),
    [
        (MeteredEnergy(import_wh=30_010, export_wh=None), "signed 30.010 kWh drawn, and the CDR says 30.011 kWh."),
        (MeteredEnergy(import_wh=30_011, export_wh=500), "signed 0.500 kWh fed in, and the CDR says 0.000 kWh."),
        (MeteredEnergy(import_wh=None, export_wh=500), "signed 0.500 kWh fed in, and the CDR says 0.000 kWh."),
        (
            MeteredEnergy(import_wh=30_010, export_wh=500),
            "signed 30.010 kWh drawn and 0.500 kWh fed in, and the CDR says 30.011 kWh and 0.000 kWh.",
        ),
    ],
)
def test_other_energy_is_told_of_the_register_that_differs(energy: MeteredEnergy, says: str) -> None:
    assert f"The meter {says} Its" in explained(DisputeKind.METER_ENERGY, charge(), energy=energy, currency="EUR")
