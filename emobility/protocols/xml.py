"""XML as banks and tax offices take it, and a reader that no file makes work hard.

The reader takes no DTD, so no entity and nothing from outside, at most `DOCUMENT_BYTES_MAX` and `DEPTH_MAX`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final
from xml.parsers import expat
from xml.sax.saxutils import escape

from emobility.domain.errors import MalformedInput

DOCUMENT_BYTES_MAX: Final = 16 * 2**20
"""Some 10,000 entries with their details."""
DEPTH_MAX: Final = 40
ELEMENTS_MAX: Final = 1_000_000
_NO_CHARACTER: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
"""XML 1.0, 2.2: not even as a reference."""


class UnreadableXML(MalformedInput):
    """The document is no well-formed XML of the kind that is read here."""


@dataclass(slots=True)
class Element:
    """An element as it was read; `name` without its namespace, which is that of the document."""

    name: str
    namespace: str
    attributes: dict[str, str]
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def every(self, *path: str) -> Iterator[Element]:
        """Yield all elements at a path below this one."""
        if not path:
            yield self
            return
        for child in self.children:
            if child.name == path[0]:
                yield from child.every(*path[1:])

    def one(self, *path: str) -> Element | None:
        """Return the first of them."""
        return next(self.every(*path), None)

    def said(self, *path: str) -> str | None:
        """Return its text without spaces around; None where there is none."""
        found = self.one(*path)
        return None if found is None else found.text.strip() or None


def read(document: bytes) -> Element:
    """Read a document. Raises `UnreadableXML`."""
    if len(document) > DOCUMENT_BYTES_MAX:
        raise UnreadableXML(f"a file has at most {DOCUMENT_BYTES_MAX} bytes")
    reader = _Reader()
    parser = expat.ParserCreate(namespace_separator="\n")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse_dtd
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.characters
    try:
        parser.Parse(document, True)
    except (expat.ExpatError, LookupError, ValueError) as error:  # the latter two of an encoding that expat lacks
        raise UnreadableXML(str(error)) from error
    assert reader.root is not None, "expat refuses a document without an element"
    return reader.root


def _refuse_dtd(*_: object) -> None:
    raise UnreadableXML("a file has no DTD")


class _Reader:
    def __init__(self) -> None:
        self.root: Element | None = None
        self._open: list[Element] = []
        self._elements = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._elements += 1
        if len(self._open) >= DEPTH_MAX or self._elements > ELEMENTS_MAX:
            raise UnreadableXML(f"a file is at most {DEPTH_MAX} elements deep and has {ELEMENTS_MAX}")
        namespace, _, local = name.rpartition("\n")
        element = Element(name=local, namespace=namespace, attributes=attributes)
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)

    def end(self, _: str) -> None:
        self._open.pop()

    def characters(self, text: str) -> None:
        self._open[-1].text += text


def written(name: str, *content: str, **attributes: str) -> str:
    """Return an element around texts that are XML already; without content there is no element.

    Optional parts so leave themselves out, and what is there stays in the order of the call.
    """
    inner = "".join(content)
    if not inner:
        return ""
    pairs = "".join(f' {key}="{escape(value, {chr(34): "&quot;"})}"' for key, value in attributes.items())
    return f"<{name}{pairs}>{inner}</{name}>"


def text(name: str, value: str | None, **attributes: str) -> str:
    """Return an element with a text, less what no document may hold; None: no element."""
    return "" if value is None else written(name, escape(_NO_CHARACTER.sub("", value)), **attributes)


def document(namespace: str, *content: str) -> bytes:
    """Return a whole document in UTF-8."""
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{written("Document", *content, xmlns=namespace)}\n'.encode()
