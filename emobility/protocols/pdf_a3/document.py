"""Write a PDF/A-3 of level B (ISO 19005-3 on ISO 32000-1) whose pages hold text and rules, and which carries files.

What the standard asks for and this does: typefaces embedded with the glyphs that are used, an output intent, metadata
as XMP that say the same as the information dictionary, a MIME type and a relationship of each attached file, a file
identifier. Nothing here asks a clock or for chance: of the same content the same bytes, of one version of zlib.

Lengths are points (1/72 inch); `y` grows upwards from the lower edge.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from emobility.protocols.pdf_a3.typeface import Typeface
from emobility.protocols.xml import text as xml_text
from emobility.protocols.xml import written as xml_element

A4_WIDTH: Final = 595.28
A4_HEIGHT: Final = 841.89
PRODUCER: Final = "Wattroam"
PDF_A_NAMESPACES: Final = {
    "xmlns:pdfaExtension": "http://www.aiim.org/pdfa/ns/extension/",
    "xmlns:pdfaSchema": "http://www.aiim.org/pdfa/ns/schema#",
    "xmlns:pdfaProperty": "http://www.aiim.org/pdfa/ns/property#",
}
_XMP_NAMESPACES: Final = {
    "xmlns:pdfaid": "http://www.aiim.org/pdfa/ns/id/",
    "xmlns:dc": "http://purl.org/dc/elements/1.1/",
    "xmlns:pdf": "http://ns.adobe.com/pdf/1.3/",
    "xmlns:xmp": "http://ns.adobe.com/xap/1.0/",
}
_TO_UNICODE_ENTRIES_MAX: Final = 100
"""Of one block (Adobe Technical Note 5411)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachedFile:
    """A file that a document carries.

    Attributes:
        media_type: Such as text/xml.
        relationship: To the document: Alternative, Data, Source, Supplement or Unspecified (ISO 19005-3, annex E).
    """

    name: str
    content: bytes
    media_type: str
    relationship: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a document says of itself.

    Attributes:
        day: On which it was made, and its attached files with it.
        language: As in RFC 3066.
        extension: More properties in RDF, with the description of their schema (ISO 19005-3, 6.6.2.3).
    """

    title: str
    author: str
    day: date
    language: str
    extension: str = ""


class Pages:
    """Pages in their order; `used`: the glyphs of each typeface on them, and the characters that they stand for."""

    def __init__(self) -> None:
        self.drawn: list[list[str]] = []
        self.used: dict[Typeface, dict[int, str]] = {}

    def begun(self) -> Page:
        """Return a new page behind the others."""
        self.drawn.append([])
        return Page(self, self.drawn[-1])


class Page:
    """Draws on one page."""

    def __init__(self, pages: Pages, drawn: list[str]) -> None:
        self._used = pages.used
        self._drawn = drawn

    def write(
        self, text: str, *, x: float, y: float, face: Typeface, size: float, is_right: bool = False, gray: float = 0
    ) -> None:
        """Write one line of drawable text from `x` on, or up to it where it `is_right`; `gray`: 0 black, 1 white."""
        glyphs = face.glyphs_of(text)
        self._used.setdefault(face, {}).update(zip(glyphs, text, strict=True))
        x -= face.width_of(text) * size / face.units if is_right else 0
        shown = "".join(f"{glyph:04X}" for glyph in glyphs)
        self._drawn.append(f"BT {gray:g} g /{face.name} {size:g} Tf {x:.2f} {y:.2f} Td <{shown}> Tj ET")

    def rule(self, *, left: float, right: float, y: float, width: float, gray: float = 0) -> None:
        """Draw a horizontal rule."""
        self._drawn.append(f"q {width:g} w {gray:g} G {left:.2f} {y:.2f} m {right:.2f} {y:.2f} l S Q")


def pdf_of(pages: Pages, *, about: About, files: Sequence[AttachedFile], color_profile: bytes) -> bytes:
    """Return the document in bytes; `color_profile`: ICC, of RGB."""
    objects = _Objects()
    tree = objects.reserve()
    fonts = objects.add(_dictionary({face.name: _font(objects, face, used) for face, used in _in_order(pages.used)}))
    leaves = [
        objects.add(
            _dictionary(
                {
                    "Type": "/Page",
                    "Parent": tree,
                    "MediaBox": f"[0 0 {A4_WIDTH} {A4_HEIGHT}]",
                    "Resources": f"<< /Font {fonts} >>",
                    "Contents": objects.stream("\n".join(drawn).encode()),
                }
            )
        )
        for drawn in pages.drawn
    ]
    objects.put(tree, _dictionary({"Type": "/Pages", "Kids": _array(leaves), "Count": str(len(leaves))}))
    carried = {file.name: _file(objects, file, about.day) for file in sorted(files, key=lambda file: file.name)}
    intent = {
        "Type": "/OutputIntent",
        "S": "/GTS_PDFA1",
        "OutputConditionIdentifier": _string("sRGB IEC61966-2.1"),
        "Info": _string("sRGB IEC61966-2.1"),
        "DestOutputProfile": objects.stream(color_profile, N="3"),
    }
    catalog = objects.add(
        _dictionary(
            {
                "Type": "/Catalog",
                "Pages": tree,
                "Lang": _string(about.language),
                "ViewerPreferences": "<< /DisplayDocTitle true >>",
                "Metadata": objects.stream(_xmp(about), is_packed=False, Type="/Metadata", Subtype="/XML"),
                "OutputIntents": _array([_dictionary(intent)]),
                "AF": _array([carried[file.name] for file in files]),
                "Names": _dictionary({"EmbeddedFiles": _name_tree(carried)}),
            }
        )
    )
    said = {"Title": _string(about.title), "Author": _string(about.author), "Producer": _string(PRODUCER)}
    return objects.file(root=catalog, info=objects.add(_dictionary(said)))


class _Objects:
    """The objects of a file by number; a reference is `12 0 R`."""

    def __init__(self) -> None:
        self._bodies: list[bytes] = []

    def reserve(self) -> str:
        return self.add("null")

    def add(self, body: str | bytes) -> str:
        self._bodies.append(body.encode() if isinstance(body, str) else body)
        return f"{len(self._bodies)} 0 R"

    def put(self, reference: str, body: str) -> None:
        self._bodies[int(reference.split(maxsplit=1)[0]) - 1] = body.encode()

    def stream(self, content: bytes, *, is_packed: bool = True, **entries: str) -> str:
        if is_packed:
            content, entries = zlib.compress(content, 9), entries | {"Filter": "/FlateDecode"}
        head = _dictionary(entries | {"Length": str(len(content))}).encode()
        return self.add(head + b"\nstream\n" + content + b"\nendstream")

    def file(self, *, root: str, info: str) -> bytes:
        # Four bytes above 127 say that the file is binary (ISO 19005-3, 6.1.2).
        file, starts = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"), []
        for number, body in enumerate(self._bodies, start=1):
            starts.append(len(file))
            file += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
        identifier = f"<{hashlib.sha256(file).hexdigest()[:32]}>"
        trailer = {"Size": str(len(starts) + 1), "Root": root, "Info": info, "ID": _array([identifier, identifier])}
        table = "".join(f"{start:010} 00000 n \n" for start in starts)
        at = len(file)
        file += f"xref\n0 {len(starts) + 1}\n0000000000 65535 f \n{table}trailer\n{_dictionary(trailer)}\n".encode()
        return bytes(file + f"startxref\n{at}\n%%EOF\n".encode())


def _font(objects: _Objects, face: Typeface, used: Mapping[int, str]) -> str:
    """Return a composite font whose codes are glyph numbers, embedded with the glyphs used (ISO 32000-1, 9.7.4.2)."""
    program = face.reduced_to(used)
    # Six letters before the name say that it is a part of the typeface, and which (ISO 32000-1, 9.6.4).
    letters = "".join(chr(ord("A") + byte % 26) for byte in hashlib.sha256(program).digest()[:6])
    name = f"/{letters}+{face.name}"
    descriptor = {
        "Type": "/FontDescriptor",
        "FontName": name,
        "Flags": "4",
        "FontBBox": _array(_thousandths(face, each) for each in face.box),
        "ItalicAngle": "0",
        "Ascent": _thousandths(face, face.ascent),
        "Descent": _thousandths(face, face.descent),
        "CapHeight": _thousandths(face, face.cap_height),
        "StemV": "80",
        "FontFile2": objects.stream(program, Length1=str(len(program))),
    }
    drawn_by = {
        "Type": "/Font",
        "Subtype": "/CIDFontType2",
        "BaseFont": name,
        "CIDSystemInfo": "<< /Registry (Adobe) /Ordering (Identity) /Supplement 0 >>",
        "CIDToGIDMap": "/Identity",
        "FontDescriptor": objects.add(_dictionary(descriptor)),
        "W": _array(f"{glyph} [{_thousandths(face, face.widths[glyph])}]" for glyph in sorted(used)),
    }
    font = {
        "Type": "/Font",
        "Subtype": "/Type0",
        "BaseFont": name,
        "Encoding": "/Identity-H",
        "DescendantFonts": _array([objects.add(_dictionary(drawn_by))]),
        "ToUnicode": objects.stream(_to_unicode(used)),
    }
    return objects.add(_dictionary(font))


def _to_unicode(used: Mapping[int, str]) -> bytes:
    """Return the character of each glyph, so that text can be searched and copied (ISO 32000-1, 9.10.3)."""
    lines = [f"<{glyph:04X}> <{_utf16(character)}>" for glyph, character in sorted(used.items())]
    blocks = [lines[at : at + _TO_UNICODE_ENTRIES_MAX] for at in range(0, len(lines), _TO_UNICODE_ENTRIES_MAX)]
    mapped = "\n".join(f"{len(block)} beginbfchar\n" + "\n".join(block) + "\nendbfchar" for block in blocks)
    return (
        "/CIDInit /ProcSet findresource begin\n12 dict begin\nbegincmap\n"
        "/CIDSystemInfo << /Registry (Adobe) /Ordering (UCS) /Supplement 0 >> def\n"
        "/CMapName /Adobe-Identity-UCS def\n/CMapType 2 def\n"
        f"1 begincodespacerange\n<0000> <FFFF>\nendcodespacerange\n{mapped}\n"
        "endcmap\nCMapName currentdict /CMap defineresource pop\nend\nend\n"
    ).encode()


def _file(objects: _Objects, file: AttachedFile, day: date) -> str:
    changed = f"<< /Size {len(file.content)} /ModDate (D:{day:%Y%m%d}) >>"
    subtype = "/" + file.media_type.replace("/", "#2F")
    content = objects.stream(file.content, Type="/EmbeddedFile", Subtype=subtype, Params=changed)
    specification = {
        "Type": "/Filespec",
        "F": _string(file.name),
        "UF": _string(file.name),
        "Desc": _string(file.description),
        "AFRelationship": f"/{file.relationship}",
        "EF": f"<< /F {content} /UF {content} >>",
    }
    return objects.add(_dictionary(specification))


def _name_tree(files: Mapping[str, str]) -> str:
    return _dictionary({"Names": _array(f"{_string(name)} {reference}" for name, reference in files.items())})


def _xmp(about: About) -> bytes:
    """Return the metadata (ISO 16684-1); the packet's id is the standard's, of all packets."""
    day = about.day.isoformat()
    described = xml_element(
        "rdf:Description",
        xml_text("pdfaid:part", "3"),
        xml_text("pdfaid:conformance", "B"),
        xml_element("dc:title", xml_element("rdf:Alt", xml_text("rdf:li", about.title, **{"xml:lang": "x-default"}))),
        xml_element("dc:creator", xml_element("rdf:Seq", xml_text("rdf:li", about.author))),
        xml_text("pdf:Producer", PRODUCER),
        xml_text("xmp:CreateDate", day),
        xml_text("xmp:ModifyDate", day),
        **{"rdf:about": ""},
        **_XMP_NAMESPACES,
    )
    packet = xml_element(
        "x:xmpmeta",
        xml_element(
            "rdf:RDF", described, about.extension, **{"xmlns:rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#"}
        ),
        **{"xmlns:x": "adobe:ns:meta/"},
    )
    return f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n{packet}\n<?xpacket end="w"?>'.encode()


def extension_schema(*, name: str, uri: str, prefix: str, properties: Mapping[str, tuple[str, str]]) -> str:
    """Return properties of a schema that XMP does not know, and its description (ISO 19005-3, 6.6.2.3.3).

    `properties`: of each name its value and what it means.
    """
    described = "".join(
        xml_element(
            "rdf:li",
            xml_text("pdfaProperty:name", each),
            xml_text("pdfaProperty:valueType", "Text"),
            xml_text("pdfaProperty:category", "external"),
            xml_text("pdfaProperty:description", meaning),
            **{"rdf:parseType": "Resource"},
        )
        for each, (_, meaning) in properties.items()
    )
    schema = xml_element(
        "rdf:li",
        xml_text("pdfaSchema:schema", name),
        xml_text("pdfaSchema:namespaceURI", uri),
        xml_text("pdfaSchema:prefix", prefix),
        xml_element("pdfaSchema:property", xml_element("rdf:Seq", described)),
        **{"rdf:parseType": "Resource"},
    )
    schemas = xml_element("pdfaExtension:schemas", xml_element("rdf:Bag", schema))
    values = "".join(xml_text(f"{prefix}:{each}", value) for each, (value, _) in properties.items())
    return xml_element("rdf:Description", schemas, **{"rdf:about": ""}, **PDF_A_NAMESPACES) + xml_element(
        "rdf:Description", values, **{"rdf:about": "", f"xmlns:{prefix}": uri}
    )


def _in_order(used: Mapping[Typeface, Mapping[int, str]]) -> Iterable[tuple[Typeface, Mapping[int, str]]]:
    return sorted(used.items(), key=lambda each: each[0].name)


def _dictionary(entries: Mapping[str, str]) -> str:
    return f"<< {' '.join(f'/{name} {value}' for name, value in entries.items())} >>"


def _array(items: Iterable[str]) -> str:
    return f"[{' '.join(items)}]"


def _string(text: str) -> str:
    """Return a text string, in UTF-16 with its mark (ISO 32000-1, 7.9.2.2)."""
    return f"<FEFF{_utf16(text)}>"


def _utf16(text: str) -> str:
    return text.encode("utf-16-be").hex().upper()


def _thousandths(face: Typeface, length: int) -> str:
    return f"{length * 1000 / face.units:.0f}"
