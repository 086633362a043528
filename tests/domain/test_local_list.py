"""A list's changes make it what is wanted, and messages hold them all, in order, within their bounds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from emobility.domain.local_list import in_messages, list_changes

LISTS = st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from("12"))


@given(known=LISTS, wanted=LISTS)
def test_the_changes_make_a_list_what_is_wanted_and_no_more(known: dict[str, str], wanted: dict[str, str]) -> None:
    gone, put = list_changes(known, wanted)

    kept = {token: said for token, said in known.items() if token not in gone}
    assert kept | {token: wanted[token] for token in put} == wanted
    assert all(known.get(token) != wanted[token] for token in put)


@given(
    items=st.lists(st.tuples(st.integers(), st.integers(1, 50)), max_size=40),
    items_max=st.integers(1, 10),
    bytes_max=st.integers(10, 100),
)
def test_messages_hold_every_item_in_order_within_their_bounds(
    items: list[tuple[int, int]], items_max: int, bytes_max: int
) -> None:
    pairs = [((place, length), length) for place, (_, length) in enumerate(items)]

    messages = list(in_messages(pairs, items_max=items_max, bytes_max=bytes_max))

    assert [item for message in messages for item in message] == [item for item, _ in pairs]
    assert all(1 <= len(message) <= items_max for message in messages)
    assert all(sum(length for _, length in message) <= bytes_max or len(message) == 1 for message in messages)
