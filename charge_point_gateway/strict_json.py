"""Read a station's JSON strictly: what two parsers could read in two ways is refused.

Python's own parser keeps the last of two equal keys, reads NaN and makes 1e400 infinite; each has cost somebody money.
Numbers with a fraction or an exponent become `Decimal`, so no digit of a meter value is lost.
"""

from __future__ import annotations

import re
from decimal import Decimal, DecimalException
from typing import Any, Final

import msgspec

from emobility.domain.errors import MalformedInput

DEPTH_MAX: Final = 16
"""Deepest nesting of a frame; the deepest message of OCPP 2.0.1 has 9 levels, the rest is room for customData."""
EXPONENT_MAX: Final = 308
"""Largest power of ten a number may have: what an IEEE double holds (RFC 8259, section 6)."""

PLAIN_CHARACTERS_MAX: Final = 300
"""A number of so few characters is below 10^EXPONENT_MAX if it has no exponent."""


class NotJSON(MalformedInput):
    """The text is no JSON value (RFC 8259); NaN and Infinity are none either."""


class NestedTooDeeply(MalformedInput):
    """The value nests deeper than `DEPTH_MAX`."""


class NumberTooLarge(MalformedInput):
    """A number exceeds what an IEEE double holds, such as 1e400."""


class DuplicateKey(MalformedInput):
    """An object has the same key twice."""


def _decimal(text: str) -> Decimal:
    if len(text) <= PLAIN_CHARACTERS_MAX and "e" not in text and "E" not in text:
        return Decimal(text)
    try:
        value = Decimal(text)
    except DecimalException as error:  # an exponent that no Decimal holds; it is no ValueError
        raise NumberTooLarge(f"{text[:40]} is out of range") from error
    if value and abs(value.adjusted()) > EXPONENT_MAX:
        raise NumberTooLarge(f"{text[:40]} is out of range")
    return value


_DECODER: Final = msgspec.json.Decoder(float_hook=_decimal)
_STRING_OR_BRACKET: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"|[\[\]{}]', re.DOTALL)
_ENCODER: Final = msgspec.json.Encoder(decimal_format="number")


def decode(text: str) -> tuple[Any, bytes]:
    """Return the value and the text written anew, by which two texts are compared whatever their white space.

    Raises:
        NotJSON: the text is no JSON value.
        NestedTooDeeply: it nests deeper than `DEPTH_MAX`.
        NumberTooLarge: a number is out of range.
        DuplicateKey: an object has one key twice.
    """
    # Before the text is parsed: the parser trusts Python's recursion limit, and where a library raised that for the
    # whole process, one frame could overflow the stack and kill it.
    if text.count("{") + text.count("[") > DEPTH_MAX and _opens_deeper_than(text, DEPTH_MAX):
        raise NestedTooDeeply(f"JSON nests deeper than {DEPTH_MAX} levels")
    try:
        value = _DECODER.decode(text)
        canonical = _ENCODER.encode(value)
    except (msgspec.MsgspecError, ValueError) as error:
        if isinstance(error.__cause__, NumberTooLarge):
            raise error.__cause__ from error
        raise NotJSON(str(error)) from error
    if canonical == text.encode():  # written as we write, as most are: nothing was dropped
        return value, canonical
    # Every member has one colon. Escapes may hide the colons of a text, so such a text is written out first.
    if "\\" in text and "\\u" in text:  # one character is found ten times as fast
        text = _without_escapes(text)
    if text.count(":") != canonical.count(b":"):
        raise DuplicateKey("an object has one key twice")
    return value, canonical


def _opens_deeper_than(text: str, limit: int) -> bool:
    depth = 0
    for token in _STRING_OR_BRACKET.finditer(text):
        first = text[token.start()]
        if first in "[{":
            depth += 1
            if depth > limit:
                return True
        elif first != '"':
            depth -= 1
    return False


def _without_escapes(text: str) -> str:
    r"""Write `\u003a` out as the colon it means; an escaped backslash before it is not an escape."""
    parts = text.split("\\\\")
    return "\\\\".join(part.replace("\\u003a", ":").replace("\\u003A", ":") for part in parts)
