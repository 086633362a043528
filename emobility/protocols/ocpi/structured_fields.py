"""HTTP structured fields (RFC 9651): items, inner lists and dictionaries, read strictly and written in the one way.

A field that is not exactly of this form is refused as a whole; nothing is repaired, because what is signed must read
the same to everybody. Numbers are `int` and `Decimal`, never float.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import Final, TypeAlias

from emobility.domain.errors import MalformedInput

INTEGER_MAX: Final = 999_999_999_999_999
"""15 digits (RFC 9651, 3.3.1)."""
FIELDS_KEPT: Final = 256
"""Dictionaries kept as they were read: a message's are asked for several times."""
FIELD_CHARACTERS_MAX: Final = 16_384
"""A longer field is refused unread."""
_KEY: Final = re.compile(r"[a-z*][a-z0-9_.*-]*")
_NUMBER: Final = re.compile(r"-?(?:([0-9]{1,12}\.[0-9]{1,3})|[0-9]{1,15})(?![0-9.])")
_STRING: Final = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_PLAIN_ITEM: Final = re.compile(r' *"([\x20\x21\x23-\x5b\x5d-\x7e]*)"(?=[ )])')
"""A string without escapes and parameters within an inner list, as most components of a signature are written."""
_TOKEN: Final = re.compile(r"[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*")
_BYTES: Final = re.compile(r":([A-Za-z0-9+/]*={0,2}):")
_BOOLEAN: Final = re.compile(r"\?([01])")
_DATE: Final = re.compile(r"@(-?[0-9]{1,15})(?![0-9.])")
_DISPLAY: Final = re.compile(r'%"((?:[\x20\x21\x23\x24\x26-\x7e]|%[0-9a-f]{2})*)"')
_PLAIN: Final = re.compile(r"[\x20-\x7e]*")
_COMMA: Final = re.compile(r"[ \t]*,[ \t]*")


class MalformedField(MalformedInput):
    """The text is no structured field of the kind asked for, or the value can't be written as one."""


class Token(str):
    """A token, as `sha-256` is one; `"sha-256"` is another thing."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Date:
    """Seconds since 1970."""

    seconds: int


@dataclass(frozen=True, slots=True)
class DisplayString:
    """A text beyond ASCII."""

    text: str


Bare: TypeAlias = "int | Decimal | str | Token | bytes | bool | Date | DisplayString"
Parameters: TypeAlias = "Mapping[str, Bare]"


@dataclass(frozen=True, slots=True)
class Item:
    """A value with parameters."""

    value: Bare
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InnerList:
    """Items in brackets, with parameters."""

    items: tuple[Item, ...]
    parameters: Parameters = field(default_factory=dict)


Member: TypeAlias = "Item | InnerList"


# Reading


def read_item(text: str) -> Item:
    """Read an item. Raises `MalformedField`."""
    reader = _Reader(text)
    item = reader.item()
    reader.end()
    return item


def read_list(text: str) -> list[Member]:
    """Read a list. Raises `MalformedField`."""
    reader = _Reader(text)
    members: list[Member] = []
    while not reader.is_done or members:
        members.append(reader.member())
        if not reader.comma():
            break
    return members


@lru_cache(maxsize=FIELDS_KEPT)
def read_dictionary(text: str) -> Mapping[str, Member]:
    """Read a dictionary; of a key that comes twice the last value counts (4.2.2). Raises `MalformedField`."""
    reader = _Reader(text)
    members: dict[str, Member] = {}
    while not reader.is_done or members:
        key = reader.key()
        members[key] = reader.member() if reader.skip("=") else Item(True, reader.parameters())
        if not reader.comma():
            break
    return MappingProxyType(members)


class _Reader:
    def __init__(self, text: str) -> None:
        if len(text) > FIELD_CHARACTERS_MAX:
            raise MalformedField(f"a field of more than {FIELD_CHARACTERS_MAX} characters")
        self._text = text.strip(" ")
        self._at = 0

    @property
    def is_done(self) -> bool:
        return self._at == len(self._text)

    def end(self) -> None:
        if not self.is_done:
            raise self._malformed("an end")

    def comma(self) -> bool:
        """Skip to the next member; False at the end."""
        if self.is_done:
            return False
        found = _COMMA.match(self._text, self._at)
        if found is None or found.end() == len(self._text):
            raise self._malformed("a comma with something after it")
        self._at = found.end()
        return True

    def skip(self, mark: str) -> bool:
        if self._text.startswith(mark, self._at):
            self._at += len(mark)
            return True
        return False

    def key(self) -> str:
        return self._take(_KEY, "a key")[0]

    def member(self) -> Member:
        return self._inner_list() if self._text.startswith("(", self._at) else self.item()

    def item(self) -> Item:
        return Item(self._bare(), self.parameters())

    def parameters(self) -> dict[str, Bare]:
        found: dict[str, Bare] = {}
        while self._text.startswith(";", self._at):
            self._at += 1
            self._spaces()
            key = self.key()
            found[key] = self._bare() if self.skip("=") else True
        return found

    def _inner_list(self) -> InnerList:
        self.skip("(")
        items: list[Item] = []
        while True:
            while plain := _PLAIN_ITEM.match(self._text, self._at):
                items.append(Item(plain[1]))
                self._at = plain.end()
            self._spaces()
            if self.skip(")"):
                return InnerList(tuple(items), self.parameters())
            items.append(self.item())
            if self._text[self._at : self._at + 1] not in {" ", ")"}:
                raise self._malformed("a space or a closing bracket")

    def _bare(self) -> Bare:
        mark = self._text[self._at : self._at + 1]
        if mark == '"':
            text = self._take(_STRING, "a string")[1]
            return re.sub(r"\\(.)", r"\1", text) if "\\" in text else text
        if mark == ":":
            return self._bytes()
        if mark == "?":
            return self._take(_BOOLEAN, "a boolean")[1] == "1"
        if mark == "@":
            return Date(int(self._take(_DATE, "a date")[1]))
        if mark == "%":
            return self._display()
        if mark == "-" or mark.isdecimal():
            number = self._take(_NUMBER, "a number")
            return int(number[0]) if number[1] is None else Decimal(number[0])
        return Token(self._take(_TOKEN, "a value")[0])

    def _bytes(self) -> bytes:
        written = self._take(_BYTES, "bytes")[1]
        try:
            octets = base64.b64decode(written + "=" * (-len(written) % 4), validate=True)
        except binascii.Error as error:
            raise self._malformed("base64") from error
        if base64.b64encode(octets).decode().rstrip("=") != written.rstrip("="):
            raise self._malformed("base64 whose last bits are 0")  # or one signature could be spelled in many ways
        return octets

    def _display(self) -> DisplayString:
        written = self._take(_DISPLAY, "a display string")[1]
        octets = re.sub(rb"%([0-9a-f]{2})", lambda found: bytes.fromhex(found[1].decode()), written.encode())
        try:
            return DisplayString(octets.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise self._malformed("UTF-8") from error

    def _spaces(self) -> None:
        while self._text.startswith(" ", self._at):
            self._at += 1

    def _take(self, pattern: re.Pattern[str], what: str) -> re.Match[str]:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise self._malformed(what)
        self._at = found.end()
        return found

    def _malformed(self, expected: str) -> MalformedField:
        return MalformedField(f"at character {self._at} of a structured field {expected} was expected")


# Writing


def written(member: Member) -> str:
    """Write an item or an inner list. Raises `MalformedField` for what can't be written."""
    if isinstance(member, Item):
        return _bare_written(member.value) + parameters_written(member.parameters)
    inner = " ".join(map(written, member.items))
    return f"({inner}){parameters_written(member.parameters)}"


def dictionary_written(members: Mapping[str, Member]) -> str:
    """Write a dictionary. Raises `MalformedField`."""
    parts = []
    for key, member in members.items():
        if isinstance(member, Item) and member.value is True:
            parts.append(_key_written(key) + parameters_written(member.parameters))
        else:
            parts.append(f"{_key_written(key)}={written(member)}")
    return ", ".join(parts)


def parameters_written(parameters: Parameters) -> str:
    """Write what follows a value or an inner list. Raises `MalformedField`."""
    return "".join(
        f";{_key_written(key)}" + ("" if value is True else f"={_bare_written(value)}")
        for key, value in parameters.items()
    )


def _key_written(key: str) -> str:
    if _KEY.fullmatch(key) is None:
        raise MalformedField(f"{key!r} is no key")
    return key


def _bare_written(value: Bare) -> str:
    if isinstance(value, bool):
        return "?1" if value else "?0"
    if isinstance(value, int):
        return _integer_written(value)
    if isinstance(value, Decimal):
        return _decimal_written(value)
    if isinstance(value, Token):
        if _TOKEN.fullmatch(value) is None:
            raise MalformedField(f"{value!r} is no token")
        return value
    if isinstance(value, str):
        if _PLAIN.fullmatch(value) is None:
            raise MalformedField("a string holds printable ASCII alone")
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, bytes):
        return f":{base64.b64encode(value).decode()}:"
    if isinstance(value, Date):
        return f"@{_integer_written(value.seconds)}"
    octets = value.text.encode()
    return '%"' + "".join(chr(each) if _is_shown(each) else f"%{each:02x}" for each in octets) + '"'


def _is_shown(octet: int) -> bool:
    return 0x20 <= octet <= 0x7E and octet not in b'%"'


def _integer_written(value: int) -> str:
    if abs(value) > INTEGER_MAX:
        raise MalformedField(f"{value} has more than 15 digits")
    return str(value)


def _decimal_written(value: Decimal) -> str:
    rounded = value.quantize(Decimal("0.001"), rounding=ROUND_HALF_EVEN)
    if abs(rounded) >= 10**12:
        raise MalformedField(f"{value} has more than 12 digits before the point")
    whole, _, fraction = f"{rounded:f}".partition(".")
    return f"{whole}.{fraction.rstrip('0') or '0'}"
