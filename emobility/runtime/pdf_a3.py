"""Make a PDF/A-3 (ISO 19005-3, level B) of pages: what the standard asks for beyond them is added by pypdf.

Pages bring their typefaces embedded. Nothing here asks a clock or for chance: of the same content the same bytes.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any, Final

from pypdf import PdfWriter
from pypdf.generic import ArrayObject, DecodedStreamObject, DictionaryObject, NameObject, NumberObject, TextStringObject

PRODUCER: Final = "Wattroam"
SRGB: Final = "sRGB IEC61966-2.1"


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
        metadata: XMP that says the same.
    """

    title: str
    author: str
    day: date
    metadata: bytes


def pdf_a3_of(pages: bytes, *, about: About, files: Sequence[AttachedFile], color_profile: bytes) -> bytes:
    """Return the document in bytes; `pages`: a PDF; `color_profile`: ICC, of sRGB."""
    writer = PdfWriter(clone_from=io.BytesIO(pages))
    writer.pdf_header = "%PDF-1.7"
    day = f"D:{about.day:%Y%m%d}000000Z"
    said = {"/Title": about.title, "/Author": about.author, "/Producer": PRODUCER}
    writer.metadata = {**said, "/CreationDate": day, "/ModDate": day}
    writer.xmp_metadata = about.metadata
    root: Any = writer.root_object
    root["/Metadata"].update(_names(Type="Metadata", Subtype="XML"))
    root[NameObject("/OutputIntents")] = ArrayObject([_output_intent(writer, color_profile)])
    root[NameObject("/AF")] = ArrayObject([_attached(writer, file, about.day) for file in files])
    document = io.BytesIO()
    writer.write(document)
    return document.getvalue()


def _output_intent(writer: PdfWriter, color_profile: bytes) -> DictionaryObject:
    profile = DecodedStreamObject()
    profile.set_data(color_profile)
    profile[NameObject("/N")] = NumberObject(3)
    intent = DictionaryObject(_names(Type="OutputIntent", S="GTS_PDFA1"))
    intent[NameObject("/OutputConditionIdentifier")] = intent[NameObject("/Info")] = TextStringObject(SRGB)
    intent[NameObject("/DestOutputProfile")] = writer._add_object(profile)  # noqa: SLF001 - pypdf has no other way
    return intent


def _attached(writer: PdfWriter, file: AttachedFile, day: date) -> Any:
    """Attach a file and return the reference to what is said of it."""
    attached = writer.add_attachment(file.name, zlib.compress(file.content, 9))
    described: Any = attached.pdf_object
    described["/EF"]["/F"].update(_names(Filter="FlateDecode"))  # pypdf packs no attachments
    attached.alternative_name = TextStringObject(file.name)
    attached.description = TextStringObject(file.description)
    attached.subtype = NameObject(f"/{file.media_type}")
    attached.associated_file_relationship = NameObject(f"/{file.relationship}")
    attached.size = NumberObject(len(file.content))
    attached.modification_date = datetime.combine(day, time(), UTC)
    return described.indirect_reference


def _names(**entries: str) -> dict[NameObject, NameObject]:
    return {NameObject(f"/{key}"): NameObject(f"/{name}") for key, name in entries.items()}
