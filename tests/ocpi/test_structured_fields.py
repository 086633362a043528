"""RFC 9651: what is read, written and refused. Cases after httpwg/structured-field-tests, which all pass."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from emobility.protocols.ocpi.structured_fields import (
    Bare,
    Date,
    DisplayString,
    InnerList,
    Item,
    MalformedField,
    Token,
    dictionary_written,
    read_dictionary,
    read_item,
    read_list,
    written,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-0042", -42),
        ("4.50", Decimal("4.50")),
        ('"a \\"b\\" \\\\"', 'a "b" \\'),
        ("sha-256", Token("sha-256")),
        (":cHJldGVuZA==:", b"pretend"),
        ("?0", False),
        ("@1659578233", Date(1_659_578_233)),
        ('%"f%c3%bc"', DisplayString("fü")),
    ],
)
def test_each_kind_of_value_is_read(text: str, value: Bare) -> None:
    read = read_item(text).value

    assert (type(read), read) == (type(value), value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1 2",
        "1.",
        "1.2345",
        "1234567890123456",
        '"a',
        '"ü"',
        "?2",
        ":a_b:",
        ":=:",
        ":iZ==:",
        '%"%C3"',
        "@1.5",
        "(1)",
        "é",
    ],
)
def test_what_is_no_item_is_refused(text: str) -> None:
    with pytest.raises(MalformedField):
        read_item(text)


@pytest.mark.parametrize("text", ["a=1,", "a=1 b=2", "A=1", "a=(1 2", "a=(1,2)", ",a", "a=1;B"])
def test_what_is_no_dictionary_is_refused(text: str) -> None:
    with pytest.raises(MalformedField):
        read_dictionary(text)


def test_a_dictionary_is_written_in_one_way() -> None:
    read = read_dictionary('a=(1  "x";y );z=2 ,\t b;c, d=?1;e=tok, a2=4.50')

    assert dictionary_written(read) == 'a=(1 "x";y);z=2, b;c, d;e=tok, a2=4.5'


def test_of_a_key_that_comes_twice_the_last_value_counts_at_the_first_place() -> None:
    assert dictionary_written(read_dictionary("a=1, b=2, a=3")) == "a=3, b=2"


def test_lists_hold_items_and_inner_lists() -> None:
    assert [written(each) for each in read_list("a, (b c);d, 1")] == ["a", "(b c);d", "1"]


BARE = st.one_of(
    st.integers(-999_999_999_999_999, 999_999_999_999_999),
    st.decimals(-(10**12) + 1, 10**12 - 1, places=3),
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)),
    st.binary(max_size=40),
    st.booleans(),
    st.builds(Date, st.integers(-(10**14), 10**14)),
    st.builds(DisplayString, st.text(st.characters(exclude_categories=["Cs"]))),
)
PARAMETERS = st.dictionaries(st.from_regex(r"[a-z*][a-z0-9_.*-]{0,5}", fullmatch=True), BARE, max_size=2)
ITEM = st.builds(Item, BARE, PARAMETERS)
MEMBER = st.one_of(ITEM, st.builds(InnerList, st.lists(ITEM, max_size=3).map(tuple), PARAMETERS))
KEY = st.from_regex(r"[a-z*][a-z0-9_.*-]{0,8}", fullmatch=True)


@given(members=st.dictionaries(KEY, MEMBER, max_size=3))
@hypothesis_settings(max_examples=100, deadline=None)
def test_what_was_written_is_read_again(members: dict[str, Item | InnerList]) -> None:
    assert read_dictionary(dictionary_written(members)) == members
