"""What a station's local authorisation list lacks and has too much, and how that goes into messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


def list_changes(known: Mapping[str, str], wanted: Mapping[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what has to go and what has to be put, in order; both maps give a token's fingerprint."""
    gone = tuple(token for token in known if token not in wanted)
    put = tuple(token for token, fingerprint in wanted.items() if known.get(token) != fingerprint)
    return gone, put


def in_messages(items: Sequence[tuple[T, int]], *, items_max: int, bytes_max: int) -> Iterator[list[T]]:
    """Split items into messages in order, none with more than either bound; one that is too long goes alone.

    Args:
        items: Each with its length in bytes.
        items_max: Items in one message, at least 1.
        bytes_max: Bytes of the items of one message.
    """
    message: list[T] = []
    length = 0
    for item, item_bytes in items:
        if message and (len(message) >= items_max or length + item_bytes > bytes_max):
            yield message
            message, length = [], 0
        message.append(item)
        length += item_bytes
    if message:
        yield message
