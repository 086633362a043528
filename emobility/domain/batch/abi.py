"""How Solidity's contracts are called and answer: the ABI's types as far as ours use them, written and read.

Reading takes nothing that a contract would not: a number with bits beyond its type is refused, not cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Final

from emobility.domain.batch.hashing import keccak256
from emobility.domain.errors import MalformedInput

WORD: Final = 32
ADDRESS_BYTES: Final = 20
SELECTOR_BYTES: Final = 4


class MalformedCall(MalformedInput):
    """Bytes that should be a call's arguments or an answer are not, or a value does not fit its type."""


@dataclass(frozen=True)
class Function:
    """A contract's function; an error or event of Solidity has a selector or topic in the same way.

    Attributes:
        signature: As the contract's ABI has it, such as `party(uint32)`.
        returns: Types of the answer, such as `(uint32,address)`; one answer is a tuple of one.
    """

    signature: str
    returns: str = "()"

    @cached_property
    def topic(self) -> bytes:
        """Hash of the signature: the first topic of an event."""
        return keccak256(self.signature.encode())

    @cached_property
    def selector(self) -> bytes:
        """The first bytes of a call or of an error."""
        return self.topic[:SELECTOR_BYTES]

    @property
    def takes(self) -> str:
        """Types of the arguments."""
        return self.signature[self.signature.index("(") :]

    def call(self, *arguments: Any) -> bytes:
        """Return the call with these arguments. Raises `MalformedCall`."""
        return self.selector + encode(self.takes, arguments)

    def arguments(self, calldata: bytes) -> tuple[Any, ...]:
        """Return the arguments of a call of this function. Raises `MalformedCall`."""
        if calldata[:SELECTOR_BYTES] != self.selector:
            raise MalformedCall(f"it does not call {self.signature.partition('(')[0]}")
        return decode(self.takes, calldata[SELECTOR_BYTES:])

    def answer(self, returned: bytes) -> tuple[Any, ...]:
        """Return the values of an answer. Raises `MalformedCall`."""
        return decode(self.returns, returned)

    def told(self, topics: Sequence[bytes], data: bytes) -> tuple[Any, ...]:
        """Return the values of an event whose indexed parameters come first, none of them longer than a word.

        Raises:
            MalformedCall: it is another event, or its values are not of these types.
        """
        if not topics or topics[0] != self.topic:
            raise MalformedCall(f"it is no {self.signature.partition('(')[0]}")
        return decode(self.takes, b"".join(topics[1:]) + data)


def encode(types: str, values: Sequence[Any]) -> bytes:
    """Return values in the form of a tuple type. Raises `MalformedCall`."""
    return _encode(_parsed(types), values)


def decode(types: str, encoded: bytes) -> tuple[Any, ...]:
    """Return the values of a tuple type. Raises `MalformedCall`."""
    values: tuple[Any, ...] = _decode(_parsed(types), encoded)
    return values


@dataclass(frozen=True)
class _Type:
    """`kind`: uint, int, bytes (fixed), address, string (dynamic), array or tuple; `size`: of numbers in bits."""

    kind: str
    size: int = 0
    parts: tuple[_Type, ...] = ()

    @cached_property
    def is_dynamic(self) -> bool:
        return self.kind in {"string", "array"} or any(part.is_dynamic for part in self.parts)

    @cached_property
    def head_bytes(self) -> int:
        """Bytes that it takes in the head of what holds it."""
        return sum(part.head_bytes for part in self.parts) if self.kind == "tuple" and not self.is_dynamic else WORD


@cache
def _parsed(text: str) -> _Type:
    if text.endswith("[]"):
        return _Type("array", parts=(_parsed(text[:-2]),))
    if text.startswith("("):
        return _Type("tuple", parts=tuple(map(_parsed, _split(text[1:-1]))))
    if text in {"string", "bytes"}:
        return _Type("string")
    if text in {"address", "bool"}:
        return _Type("address", ADDRESS_BYTES) if text == "address" else _Type("uint", 1)
    kind = text.rstrip("0123456789")
    return _Type(kind, int(text[len(kind) :]))


def _split(text: str) -> Iterator[str]:
    """Split at the commas outside brackets."""
    depth, start = 0, 0
    for place, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character == "," and not depth:
            yield text[start:place]
            start = place + 1
    if text:
        yield text[start:]


def _encode(kind: _Type, value: Any) -> bytes:
    match kind.kind:
        case "tuple":
            return _encode_all(kind.parts, value)
        case "array":
            return len(value).to_bytes(WORD, "big") + _encode_all(kind.parts * len(value), value)
        case "string":
            return len(value).to_bytes(WORD, "big") + bytes(value) + bytes(-len(value) % WORD)
        case "bytes" | "address":
            if len(value) != kind.size:
                raise MalformedCall(f"{len(value)} bytes where {kind.size} should be")
            return bytes(value).ljust(WORD, b"\0") if kind.kind == "bytes" else bytes(value).rjust(WORD, b"\0")
        case _:
            if not _is_within(kind, value):
                raise MalformedCall(f"{value} is no {kind.kind}{kind.size}")
            return int(value).to_bytes(WORD, "big", signed=kind.kind == "int")


def _encode_all(kinds: Sequence[_Type], values: Sequence[Any]) -> bytes:
    if len(kinds) != len(values):
        raise MalformedCall(f"{len(values)} values where {len(kinds)} should be")
    heads, tails, at = [], [], sum(kind.head_bytes for kind in kinds)
    for kind, value in zip(kinds, values, strict=True):
        encoded = _encode(kind, value)
        if kind.is_dynamic:
            heads.append(at.to_bytes(WORD, "big"))
            tails.append(encoded)
            at += len(encoded)
        else:
            heads.append(encoded)
    return b"".join(heads + tails)


def _decode(kind: _Type, encoded: bytes) -> Any:
    match kind.kind:
        case "tuple":
            return _decode_all(kind.parts, encoded)
        case "array":
            count, items = _length(encoded, kind.parts[0].head_bytes)
            return _decode_all(kind.parts * count, items)
        case "string":
            length, content = _length(encoded, 1)
            return content[:length]
        case "bytes" | "address":
            padding = WORD - kind.size
            word = _word(encoded)
            value, rest = (
                (word[: kind.size], word[kind.size :]) if kind.kind == "bytes" else (word[padding:], word[:padding])
            )
            if any(rest):
                raise MalformedCall("bits are set beyond the type")
            return value
        case _:
            number = int.from_bytes(_word(encoded), "big", signed=kind.kind == "int")
            if not _is_within(kind, number):
                raise MalformedCall(f"{number} is no {kind.kind}{kind.size}")
            return number


def _decode_all(kinds: Sequence[_Type], encoded: bytes) -> tuple[Any, ...]:
    values, at = [], 0
    for kind in kinds:
        head = encoded[at : at + kind.head_bytes]
        values.append(_decode(kind, encoded[int.from_bytes(_word(head), "big") :] if kind.is_dynamic else head))
        at += kind.head_bytes
    return tuple(values)


def _length(encoded: bytes, item_bytes: int) -> tuple[int, bytes]:
    """Return how many items follow, no more than there is room for, and the bytes that hold them."""
    count, rest = int.from_bytes(_word(encoded), "big"), encoded[WORD:]
    if count * item_bytes > len(rest):
        raise MalformedCall("it ends too early")
    return count, rest


def _word(encoded: bytes) -> bytes:
    if len(encoded) < WORD:
        raise MalformedCall("it ends too early")
    return encoded[:WORD]


def _is_within(kind: _Type, number: int) -> bool:
    if kind.kind == "int":
        return -(1 << kind.size - 1) <= number < 1 << kind.size - 1
    return 0 <= number < 1 << kind.size
