"""Invoices against EN 16931: our own rules, and the standard's by an independent validator."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from emobility.domain.invoicing.invoice import DocumentType, Invoice
from emobility.domain.invoicing.numbering import Series, invoice_number
from emobility.domain.invoicing.rules import RULES, InvoiceUnfit, broken_rules, refuse_unfit
from emobility.protocols.en16931.cii import cii_of
from tests.invoicing.documents import DOMESTIC, FROM_ABROAD, NOT_SUBJECT, REVERSED, judged

CREDIT = replace(REVERSED, document_type=DocumentType.CREDIT_NOTE, preceding="NL-TNM-W2026-000001")
SELF_BILLED = replace(REVERSED, document_type=DocumentType.SELF_BILLED_INVOICE)


@pytest.mark.parametrize(
    "document", [REVERSED, DOMESTIC, CREDIT, SELF_BILLED, NOT_SUBJECT, FROM_ABROAD], ids=lambda each: each.number
)
def test_a_document_keeps_all_rules_of_the_standard(document: Invoice) -> None:
    assert broken_rules(document) == ()
    assert judged(cii_of(document)) == []


def test_the_validator_sees_what_is_wrong() -> None:
    wrong = cii_of(replace(REVERSED, gross_cents=2_779))

    assert any("BR-CO-15" in each for each in judged(wrong))


def changed(document: Invoice, part: str, **values: Any) -> Invoice:
    """Change the first of a document's lines or VAT groups."""
    first, *rest = getattr(document, part)
    whole: dict[str, Any] = {part: (replace(first, **values), *rest)}
    return replace(document, **whole)


@pytest.mark.parametrize(
    ("rule", "document"),
    [
        ("BR-02", replace(REVERSED, number="")),
        ("BR-06", replace(REVERSED, seller=replace(REVERSED.seller, name=""))),
        ("BR-07", replace(REVERSED, buyer=replace(REVERSED.buyer, name=""))),
        ("BR-09", replace(REVERSED, seller=replace(REVERSED.seller, country=""))),
        ("BR-11", replace(REVERSED, buyer=replace(REVERSED.buyer, country=""))),
        ("BR-16", replace(REVERSED, lines=())),
        ("BR-25", changed(REVERSED, "lines", name="")),
        ("BR-27", changed(REVERSED, "lines", cents=-1)),
        ("BR-29", replace(REVERSED, period_start=REVERSED.issued_on.replace(year=2027))),
        ("BR-CO-10", changed(REVERSED, "lines", cents=1)),
        ("BR-CO-13", changed(REVERSED, "breakdown", taxable_cents=1)),
        ("BR-CO-14", replace(DOMESTIC, tax_cents=1)),
        ("BR-CO-15", replace(REVERSED, gross_cents=1)),
        ("BR-CO-16", replace(REVERSED, payable_cents=1)),
        ("BR-CO-17", changed(DOMESTIC, "breakdown", tax_cents=212)),
        ("BR-CO-18", replace(REVERSED, breakdown=())),
        ("BR-CO-25", replace(REVERSED, due_on=None)),
        ("BR-CO-26", replace(REVERSED, seller=replace(REVERSED.seller, vat_id=None, registration=None))),
        ("BR-55", replace(REVERSED, document_type=DocumentType.CREDIT_NOTE)),
        ("BR-S-01", changed(DOMESTIC, "lines", percent=Decimal(20))),
        ("BR-S-02", replace(DOMESTIC, seller=replace(DOMESTIC.seller, vat_id=None))),
        ("BR-S-05", changed(DOMESTIC, "breakdown", percent=Decimal(0))),
        ("BR-S-08", changed(DOMESTIC, "breakdown", taxable_cents=999)),
        ("BR-S-10", changed(DOMESTIC, "breakdown", reason="none")),
        ("BR-AE-02", replace(REVERSED, buyer=replace(REVERSED.buyer, vat_id=None))),
        ("BR-AE-05", changed(REVERSED, "breakdown", percent=Decimal(21))),
        ("BR-AE-09", changed(REVERSED, "breakdown", tax_cents=1)),
        ("BR-AE-10", changed(REVERSED, "breakdown", reason=None)),
        ("BR-O-02", replace(NOT_SUBJECT, buyer=replace(NOT_SUBJECT.buyer, vat_id="CHE109322551MWST"))),
        ("BR-O-05", changed(NOT_SUBJECT, "breakdown", percent=Decimal(21))),
        ("BR-O-09", changed(NOT_SUBJECT, "breakdown", tax_cents=1)),
        ("BR-O-10", changed(NOT_SUBJECT, "breakdown", reason=None)),
        ("BR-O-11", replace(NOT_SUBJECT, breakdown=(*NOT_SUBJECT.breakdown, *REVERSED.breakdown))),
    ],
)
def test_a_broken_rule_keeps_a_document_from_leaving(rule: str, document: Invoice) -> None:
    assert rule in broken_rules(document)
    with pytest.raises(InvoiceUnfit) as refusal:
        refuse_unfit(document)
    assert rule in refusal.value.rules


def test_each_rule_is_broken_by_a_test() -> None:
    marks = test_a_broken_rule_keeps_a_document_from_leaving.pytestmark  # type: ignore[attr-defined]  # pytest's own
    tried = {case[0] for mark in marks for case in mark.args[1]}

    assert tried == {rule.name for rule in RULES}


def test_what_is_not_subject_to_vat_states_no_rate() -> None:
    assert b"RateApplicablePercent" not in cii_of(NOT_SUBJECT)
    assert b"VATEX-EU-O" in cii_of(NOT_SUBJECT)
    assert any("BR-O-02" in each for each in judged(cii_of(replace(NOT_SUBJECT, seller=REVERSED.seller))))


def test_texts_are_escaped() -> None:
    document = replace(REVERSED, notes=('a < b & "c"',))

    assert judged(cii_of(document)) == []
    assert b'a &lt; b &amp; "c"' in cii_of(document)


def test_a_number_names_issuer_series_and_year() -> None:
    assert invoice_number("NL-TNM", Series.WHOLESALE, 2026, 12) == "NL-TNM-W2026-000012"
