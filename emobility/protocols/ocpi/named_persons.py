"""Take out of a peer's words the persons we named to it.

A peer that refuses often repeats what it was sent ("unknown token 04AB..."). Its words go into logs and into rows that
outlive the person, and are sealed under nobody.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import unquote

import msgspec

MASK: Final = "[person]"
CHARACTERS_MIN: Final = 4
"""Shorter texts tell nobody apart, and would tear words to pieces."""
PERSONAL: Final = frozenset({"contract_id", "visual_number", "group_id", "auth_id"})
"""Members of OCPI's objects that name a person, and `uid` where one stands beside it: EVSEs have a `uid`, too."""
PLAIN: Final = frozenset({"authorize"})
"""Parts of a path of the module tokens that are no token's."""


def without_persons(said: str, *, path: str, body: bytes) -> str:
    """Return a peer's words without what our request named.

    Args:
        said: The peer's words.
        path: What followed the endpoint, where the module is tokens; else empty.
        body: Of our request: JSON, or empty.
    """
    named = {unquote(part) for part in path.split("/")} - PLAIN
    if body:
        named.update(_named_in(msgspec.json.decode(body)))
    longest_first = sorted((each for each in named if len(each) >= CHARACTERS_MIN), key=len, reverse=True)
    if not longest_first:
        return said
    return re.sub("|".join(map(re.escape, longest_first)), MASK, said, flags=re.IGNORECASE)


def _named_in(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for each in value:
            yield from _named_in(each)
    elif isinstance(value, dict):
        personal = PERSONAL | {"uid"} if PERSONAL & value.keys() else PERSONAL
        for name, each in value.items():
            if isinstance(each, str):
                yield from (each,) if name in personal else ()
            else:
                yield from _named_in(each)
