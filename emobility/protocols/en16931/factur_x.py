"""What a PDF that carries an invoice's XML says of it (Factur-X 1.0, which is ZUGFeRD 2.x; chapter 6)."""

from __future__ import annotations

from typing import Final

from emobility.protocols.en16931.cii import GUIDELINE
from emobility.protocols.pdf_a3.document import AttachedFile, extension_schema

FILE_NAME: Final = "factur-x.xml"
CONFORMANCE_LEVELS: Final = {GUIDELINE: "EN 16931"}
"""By the guideline that the XML names (BT-24)."""
MEDIA_TYPE: Final = "text/xml"


def carried(document: bytes) -> AttachedFile:
    """Return the XML as a PDF carries it: another form of what its pages say, as Germany asks of this profile."""
    return AttachedFile(
        name=FILE_NAME,
        content=document,
        media_type=MEDIA_TYPE,
        relationship="Alternative",
        description="The invoice as EN 16931 wants it (UN/CEFACT CII)",
    )


def extension() -> str:
    """Return the metadata that say of a PDF what it carries."""
    return extension_schema(
        name="Factur-X PDFA Extension Schema",
        uri="urn:factur-x:pdfa:CrossIndustryDocument:invoice:1p0#",
        prefix="fx",
        properties={
            "DocumentFileName": (FILE_NAME, "The name of the embedded XML document"),
            "DocumentType": ("INVOICE", "The type of the hybrid document in capital letters, e.g. INVOICE or ORDER"),
            "Version": ("1.0", "The version of the standard applying to the embedded XML document"),
            "ConformanceLevel": (CONFORMANCE_LEVELS[GUIDELINE], "The conformance level of the embedded XML document"),
        },
    )
