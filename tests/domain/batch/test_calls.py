from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import settlement_contracts
from emobility.domain.batch import contracts
from emobility.domain.batch.abi import Function, MalformedCall
from emobility.domain.batch.calls import (
    Acceptance,
    AgreementState,
    BatchState,
    Proposal,
    agreement_query,
    batch_query,
    party_query,
    propose_call,
    read_agreement,
    read_batch,
    read_party,
    read_proposal,
    read_registry,
)
from emobility.domain.batch.statement import STATEMENTS_MAX, BookedStatement
from emobility.domain.batch.typed_data import BookMode
from emobility.domain.errors import MalformedInput
from emobility.domain.identifiers import MalformedPartyId, PartyId
from tests.domain.batch.builders import HASHES

T0 = datetime(2022, 3, 28, tzinfo=UTC)
CONTRACTS = tuple(sorted(path.stem for path in (Path(settlement_contracts.__file__).parent / "abi").glob("*.json")))
STATEMENTS = st.builds(
    BookedStatement,
    agreement=st.binary(min_size=8, max_size=8),
    roots=HASHES,
    due_e4=st.integers(0, 2**56 - 1),
    credit_e4=st.integers(0, 2**56 - 1),
    count=st.integers(1, 2**24 - 1),
    sequence=st.integers(1, 2**24 - 1),
    period_end=st.integers(0, 10**9).map(lambda seconds: T0 + timedelta(seconds=seconds)),
)
PROPOSALS = st.builds(Proposal, batch_id=HASHES, statements=st.lists(STATEMENTS, max_size=4).map(tuple))
ACCEPTANCES = st.lists(
    st.builds(
        Acceptance,
        party=st.integers(1, 2**32 - 1),
        pairs=st.integers(0, 2**256 - 1),
        signature=st.binary(min_size=64, max_size=64),
    ),
    max_size=3,
)


def in_types(parameters: list[dict[str, Any]]) -> str:
    return f"({','.join(in_type(parameter) for parameter in parameters)})"


def in_type(parameter: dict[str, Any]) -> str:
    if not parameter["type"].startswith("tuple"):
        return str(parameter["type"])
    return in_types(parameter["components"]) + str(parameter["type"]).removeprefix("tuple")


FUNCTIONS = {name: value for name, value in vars(contracts).items() if isinstance(value, Function)}
OF_LIBRARIES = {"InvalidShortString", "StringTooLong", "ReentrancyGuardReentrantCall"}
"""Errors of OpenZeppelin's that no call of a dispute meets."""
IN_THE_ABI = {
    (entry["name"] + in_types(entry["inputs"]), in_types(entry.get("outputs", [])))
    for contract in CONTRACTS
    for entry in settlement_contracts.abi(contract)
    if "name" in entry
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_python_calls_is_in_a_contract_s_abi_with_these_types(name: str) -> None:
    function = FUNCTIONS[name]

    assert (function.signature, function.returns) in IN_THE_ABI


@pytest.mark.parametrize("contract", ["SettlementDisputes", "ConfidentialDisputes", "MeterEvidence"])
def test_every_reason_for_which_a_dispute_is_refused_has_a_name(contract: str) -> None:
    refusals = {
        entry["name"] + in_types(entry["inputs"])
        for entry in settlement_contracts.abi(contract)
        if entry["type"] == "error" and entry["name"] not in OF_LIBRARIES
    }

    assert refusals - {function.signature for function in FUNCTIONS.values()} == set()


@given(proposal=PROPOSALS, acceptances=ACCEPTANCES)
def test_a_proposal_is_read_as_it_was_called(proposal: Proposal, acceptances: list[Acceptance]) -> None:
    calldata = propose_call(proposal.batch_id, proposal.statements, acceptances)

    assert read_proposal(calldata) == proposal


@given(tail=st.binary(max_size=300))
def test_any_bytes_are_a_proposal_or_refused(tail: bytes) -> None:
    try:
        read_proposal(contracts.PROPOSE.selector + tail)
    except MalformedInput:
        return


def test_a_proposal_of_more_statements_than_a_batch_holds_is_refused() -> None:
    words = (1 << 56 | 1 << 32, bytes(32))
    calldata = contracts.PROPOSE.call(bytes(32), (words,) * (STATEMENTS_MAX + 1), ())

    with pytest.raises(MalformedCall, match="257 statements"):
        read_proposal(calldata)


@pytest.mark.timeout(10)  # read by way of copies of what follows, each item took as long as all that follow it
def test_a_call_of_megabytes_is_refused_in_time() -> None:
    words = (1 << 56 | 1 << 32, bytes(32))
    calldata = contracts.PROPOSE.call(bytes(32), (words,) * 40_000, ())

    with pytest.raises(MalformedCall, match="40000 statements"):
        read_proposal(calldata)


def test_a_batch_says_what_is_final_and_who_accepted() -> None:
    answer = b"".join(number.to_bytes(32, "big") for number in (7, 0b011, 0b010, 0b001, 0b010, 0b001, 0b1000, 99))

    state = read_batch(answer)

    assert batch_query(bytes(32))[4:] == bytes(32)
    assert state == BatchState(
        pairs_hash=(7).to_bytes(32, "big"),
        open_pairs=0b011,
        accepted_by_cpo=0b010,
        accepted_by_msp=0b001,
        ripening=0b010,
        challenged=0b001,
        void_pairs=0b1000,
        due_at_s=99,
    )
    assert [state.is_final(position) for position in range(4)] == [False, False, True, False]
    assert [state.is_ripe(1, at_s) for at_s in (98, 99)] == [False, True]
    assert not state.is_ripe(0, 99)
    assert not read_batch(bytes(8 * 32)).is_final(0)


def test_an_agreement_says_where_it_stands() -> None:
    words = (9, 1, 2, 1, 1, 10_000, 3, 4, -5, -6, 7, 8)
    answer = b"".join(number.to_bytes(32, "big", signed=True) for number in words)

    state = read_agreement(answer)

    assert agreement_query(b"\1" * 8)[4:] == bytes(24) + b"\1" * 8
    assert state == AgreementState(
        agreement_id=(9).to_bytes(32, "big"),
        cpo=1,
        msp=2,
        mode=BookMode.CREDIT_LINE,
        has_ended=True,
        credit_limit_e4=10_000,
        last_sequence=3,
        discharges=4,
        owed_e4=-5,
        corrected_e4=-6,
        payment_term_s=7,
        ends_at_s=8,
    )


def test_a_party_is_read_with_its_country() -> None:
    words = [b"NL".ljust(32, b"\0"), b"TNM".ljust(32, b"\0"), bytes(32), bytes(32), bytes(32)]

    assert party_query(1)[4:] == bytes(31) + b"\1"
    assert read_party(b"".join(words)) == PartyId("NL-TNM")
    with pytest.raises(MalformedPartyId):
        read_party(b"".join([bytes(32), *words[1:]]))


@pytest.mark.parametrize("read", [read_batch, read_agreement, read_registry, read_party])
def test_an_answer_that_ends_too_early_is_refused(read: Any) -> None:
    with pytest.raises(MalformedCall):
        read(bytes(31))


def test_a_mode_that_no_book_has_is_refused() -> None:
    with pytest.raises(MalformedCall, match="3 is no mode"):
        read_agreement(bytes(96) + (3).to_bytes(32, "big") + bytes(256))
