"""What a PDF that carries an invoice's XML says of it (Factur-X 1.0, which is ZUGFeRD 2.x; chapter 6)."""

from __future__ import annotations

from datetime import date
from typing import Final
from xml.sax.saxutils import escape

from emobility.protocols.en16931.cii import GUIDELINE

FILE_NAME: Final = "factur-x.xml"
CONFORMANCE_LEVELS: Final = {GUIDELINE: "EN 16931"}
"""By the guideline that the XML names (BT-24)."""
MEDIA_TYPE: Final = "text/xml"
RELATIONSHIP: Final = "Alternative"
"""Another form of what the pages say, as Germany asks of this profile."""
DESCRIPTION: Final = "The invoice as EN 16931 wants it (UN/CEFACT CII)"
_PROPERTY: Final = (
    '<rdf:li rdf:parseType="Resource"><pdfaProperty:name>{}</pdfaProperty:name>'
    "<pdfaProperty:valueType>Text</pdfaProperty:valueType><pdfaProperty:category>external</pdfaProperty:category>"
    "<pdfaProperty:description>{}</pdfaProperty:description></rdf:li>"
)
_PROPERTIES: Final = "".join(
    _PROPERTY.format(name, meaning)
    for name, meaning in {
        "DocumentFileName": "The name of the embedded XML document",
        "DocumentType": "The type of the hybrid document in capital letters, e.g. INVOICE or ORDER",
        "Version": "The version of the standard applying to the embedded XML document",
        "ConformanceLevel": "The conformance level of the embedded XML document",
    }.items()
)
# The packet's id is the standard's, of all packets (ISO 16684-1, 7.3.2).
_METADATA: Final = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:pdfaid="http://www.aiim.org/pdfa/ns/id/" xmlns:dc="http://purl.org/dc/elements/1.1/"
  xmlns:pdf="http://ns.adobe.com/pdf/1.3/" xmlns:xmp="http://ns.adobe.com/xap/1.0/">
<pdfaid:part>3</pdfaid:part><pdfaid:conformance>B</pdfaid:conformance>
<dc:title><rdf:Alt><rdf:li xml:lang="x-default">{title}</rdf:li></rdf:Alt></dc:title>
<dc:creator><rdf:Seq><rdf:li>{author}</rdf:li></rdf:Seq></dc:creator>
<pdf:Producer>{producer}</pdf:Producer>
<xmp:CreateDate>{day}T00:00:00Z</xmp:CreateDate><xmp:ModifyDate>{day}T00:00:00Z</xmp:ModifyDate>
</rdf:Description>
<rdf:Description rdf:about="" xmlns:fx="{schema}">
<fx:DocumentFileName>{file_name}</fx:DocumentFileName><fx:DocumentType>INVOICE</fx:DocumentType>
<fx:Version>1.0</fx:Version><fx:ConformanceLevel>{level}</fx:ConformanceLevel>
</rdf:Description>
<rdf:Description rdf:about="" xmlns:pdfaExtension="http://www.aiim.org/pdfa/ns/extension/"
  xmlns:pdfaSchema="http://www.aiim.org/pdfa/ns/schema#" xmlns:pdfaProperty="http://www.aiim.org/pdfa/ns/property#">
<pdfaExtension:schemas><rdf:Bag><rdf:li rdf:parseType="Resource">
<pdfaSchema:schema>Factur-X PDFA Extension Schema</pdfaSchema:schema>
<pdfaSchema:namespaceURI>{schema}</pdfaSchema:namespaceURI><pdfaSchema:prefix>fx</pdfaSchema:prefix>
<pdfaSchema:property><rdf:Seq>{properties}</rdf:Seq></pdfaSchema:property>
</rdf:li></rdf:Bag></pdfaExtension:schemas>
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""


def metadata(*, title: str, author: str, producer: str, day: date) -> bytes:
    """Return XMP: PDF/A-3, level B (ISO 19005-3, 6.6), and the properties of Factur-X with their schema (6.6.2.3)."""
    return _METADATA.format(
        title=escape(title),
        author=escape(author),
        producer=escape(producer),
        day=day.isoformat(),
        schema="urn:factur-x:pdfa:CrossIndustryDocument:invoice:1p0#",
        file_name=FILE_NAME,
        level=CONFORMANCE_LEVELS[GUIDELINE],
        properties=_PROPERTIES,
    ).encode()
