from __future__ import annotations

from typing import Any

import pytest
from eth_abi.abi import encode as encode_elsewhere
from hypothesis import given
from hypothesis import strategies as st

from emobility.domain.batch.abi import Function, MalformedCall, decode, encode

FUNCTION = Function(
    "mixed(uint32,int64,bytes3,address,bool,string,(uint256,bytes32)[],(uint8,string)[],(uint64,bytes2))"
)
VALUES = st.tuples(
    st.integers(0, 2**32 - 1),
    st.integers(-(2**63), 2**63 - 1),
    st.binary(min_size=3, max_size=3),
    st.binary(min_size=20, max_size=20),
    st.booleans(),
    st.text(max_size=40).map(str.encode),
    st.lists(st.tuples(st.integers(0, 2**256 - 1), st.binary(min_size=32, max_size=32)), max_size=4).map(tuple),
    st.lists(st.tuples(st.integers(0, 255), st.text(max_size=40).map(str.encode)), max_size=4).map(tuple),
    st.tuples(st.integers(0, 2**64 - 1), st.binary(min_size=2, max_size=2)),
)


@given(values=VALUES)
def test_arguments_are_written_as_another_library_writes_them_and_read_back(values: tuple[Any, ...]) -> None:
    calldata = FUNCTION.call(*values)

    # A tuple of its own has a word before it that says where it starts; strings it takes as text alone.
    theirs = encode_elsewhere(
        [FUNCTION.takes.replace("string", "bytes")], [(*values[:3], "0x" + values[3].hex(), *values[4:])]
    )
    assert calldata == FUNCTION.selector + theirs[32:]
    assert FUNCTION.arguments(calldata) == values


@given(encoded=st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(encoded: bytes) -> None:
    try:
        decode(FUNCTION.takes, encoded)
    except MalformedCall:
        return


@pytest.mark.parametrize(
    ("types", "value"),
    [
        ("(uint8)", 256), ("(uint8)", -1), ("(int8)", 128), ("(int8)", -129), ("(bytes3)", b"EU"),
        ("(address)", bytes(19)), ("(bool)", 2), ("(uint8,uint8)", 1),
    ],
)  # fmt: skip
def test_a_value_that_does_not_fit_its_type_is_refused(types: str, value: Any) -> None:
    with pytest.raises(MalformedCall):
        encode(types, (value,))


@pytest.mark.parametrize(
    ("types", "word"),
    [
        ("(uint8)", b"\1" + bytes(31)), ("(bytes3)", bytes(31) + b"\1"), ("(address)", b"\1" + bytes(31)),
        ("(int8)", bytes(30) + b"\0\x80"), ("(bool)", bytes(31) + b"\2"), ("(uint8)", bytes(31)),
        ("(bytes32[])", bytes(31) + b"\x20" + b"\xff" * 32), ("(string)", b"\xff" * 64),
    ],
)  # fmt: skip
def test_bits_beyond_a_type_and_lengths_beyond_the_end_are_refused(types: str, word: bytes) -> None:
    with pytest.raises(MalformedCall):
        decode(types, word)


def test_a_call_of_another_function_is_refused() -> None:
    other = Function("party(uint32)")

    with pytest.raises(MalformedCall, match="does not call signerOf"):
        Function("signerOf(uint32)").arguments(other.call(1))
