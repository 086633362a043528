"""Characters that a station may send in a JSON string but that no identifier has and no database holds."""

from __future__ import annotations

import re
from typing import Any, Final

from charge_point_gateway.rpc_errors import CallRefused, RPCError

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"


def has_control_character(text: str) -> bool:
    """Tell whether a text has a C0 control character or DEL."""
    return not text.isprintable() and _CONTROL.search(text) is not None


def refuse_control_characters(identifiers: tuple[str, ...]) -> None:
    """Check identifiers: printable ASCII in 1.6 (CiString), `identifierString` in 2.0.1. Raises `CallRefused`."""
    for text in identifiers:  # no generator: this is asked of every message
        if has_control_character(text):
            raise CallRefused(RPCError.PROPERTY, "an identifier has a control character")


def without_nul(value: Any) -> Any:
    """Return a JSON value with U+FFFD for each NUL: what is meant for people is kept rather than refused."""
    if type(value) is str:
        return value.replace("\0", _REPLACEMENT)
    if type(value) is list:
        return [without_nul(each) for each in value]
    if type(value) is dict:
        return {name.replace("\0", _REPLACEMENT): without_nul(each) for name, each in value.items()}
    return value
