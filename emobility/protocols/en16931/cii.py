"""Write an invoice as UN/CEFACT Cross Industry Invoice D22B, profile EN 16931 of Factur-X 1.0.

The XML alone, as XRechnung and most portals take it; `factur_x` says how a PDF carries it. Element names and their
order are those of the schema; which business term goes where stands in CEN/TS 16931-3-3.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Final

from emobility.domain.invoicing.invoice import (
    NOT_SUBJECT_TO_VAT,
    VAT_REVERSED,
    Annex,
    Invoice,
    InvoiceLine,
    TradeParty,
    VATBreakdown,
    VATCategory,
)
from emobility.protocols.xml import text, written

GUIDELINE: Final = "urn:cen.eu:en16931:2017"
NAMESPACES: Final = {
    "xmlns:rsm": "urn:un:unece:uncefact:data:standard:CrossIndustryInvoice:100",
    "xmlns:ram": "urn:un:unece:uncefact:data:standard:ReusableAggregateBusinessInformationEntity:100",
    "xmlns:udt": "urn:un:unece:uncefact:data:standard:UnqualifiedDataType:100",
}
CREDIT_TRANSFER: Final = "30"
"""UNTDID 4461."""
SUPPORTING_DOCUMENT: Final = "916"
"""UNTDID 1001: beside the invoice."""
WHY_NO_VAT: Final = {VATCategory.REVERSE_CHARGE: VAT_REVERSED, VATCategory.NOT_SUBJECT: NOT_SUBJECT_TO_VAT}


def cii_of(invoice: Invoice) -> bytes:
    """Return the document in UTF-8; of the same invoice the same bytes."""
    body = written(
        "rsm:CrossIndustryInvoice",
        written("rsm:ExchangedDocumentContext", _id("ram:GuidelineSpecifiedDocumentContextParameter", GUIDELINE)),
        written(
            "rsm:ExchangedDocument",
            text("ram:ID", invoice.number),
            text("ram:TypeCode", invoice.document_type.value),
            written("ram:IssueDateTime", _date(invoice.issued_on)),
            *(written("ram:IncludedNote", text("ram:Content", note)) for note in invoice.notes),
        ),
        written(
            "rsm:SupplyChainTradeTransaction",
            *map(_line, invoice.lines),
            written(
                "ram:ApplicableHeaderTradeAgreement",
                _party("ram:SellerTradeParty", invoice.seller),
                _party("ram:BuyerTradeParty", invoice.buyer),
                "" if invoice.annex is None else _annex(invoice.annex),
            ),
            written("ram:ApplicableHeaderTradeDelivery", _delivery(invoice)),
            _settlement(invoice),
        ),
        **NAMESPACES,
    )
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'.encode()


def _line(line: InvoiceLine) -> str:
    note = written("ram:IncludedNote", text("ram:Content", line.note))
    return written(
        "ram:IncludedSupplyChainTradeLineItem",
        written("ram:AssociatedDocumentLineDocument", text("ram:LineID", line.line_id), note),
        written("ram:SpecifiedTradeProduct", text("ram:Name", line.name)),
        written(
            "ram:SpecifiedLineTradeAgreement",
            written("ram:NetPriceProductTradePrice", text("ram:ChargeAmount", _amount(line.cents))),
        ),
        written("ram:SpecifiedLineTradeDelivery", text("ram:BilledQuantity", "1", unitCode="C62")),
        written(
            "ram:SpecifiedLineTradeSettlement",
            written(
                "ram:ApplicableTradeTax",
                text("ram:TypeCode", "VAT"),
                text("ram:CategoryCode", line.category.value),
                text("ram:RateApplicablePercent", _percent(line)),
            ),
            written(
                "ram:SpecifiedTradeSettlementLineMonetarySummation",
                text("ram:LineTotalAmount", _amount(line.cents)),
            ),
        ),
    )


def _party(name: str, party: TradeParty) -> str:
    return written(
        name,
        text("ram:Name", party.name),
        _id("ram:SpecifiedLegalOrganization", party.registration),
        written(
            "ram:PostalTradeAddress",
            text("ram:PostcodeCode", party.post_code),
            text("ram:LineOne", party.street),
            text("ram:CityName", party.city),
            text("ram:CountryID", party.country),
        ),
        written("ram:SpecifiedTaxRegistration", text("ram:ID", party.vat_id, schemeID="VA")),
    )


def _annex(annex: Annex) -> str:
    return written(
        "ram:AdditionalReferencedDocument",
        text("ram:IssuerAssignedID", annex.reference),
        text("ram:TypeCode", SUPPORTING_DOCUMENT),
        text("ram:Name", f"{annex.description}; SHA-256 {annex.sha256}"),
    )


def _delivery(invoice: Invoice) -> str:
    return written("ram:ActualDeliverySupplyChainEvent", written("ram:OccurrenceDateTime", _date(invoice.period_end)))


def _settlement(invoice: Invoice) -> str:
    means = written(
        "ram:SpecifiedTradeSettlementPaymentMeans",
        text("ram:TypeCode", CREDIT_TRANSFER),
        written("ram:PayeePartyCreditorFinancialAccount", text("ram:IBANID", invoice.iban)),
    )
    due = "" if invoice.due_on is None else written("ram:DueDateDateTime", _date(invoice.due_on))
    return written(
        "ram:ApplicableHeaderTradeSettlement",
        text("ram:PaymentReference", invoice.remittance),
        text("ram:InvoiceCurrencyCode", invoice.currency),
        means if invoice.iban is not None else "",
        *map(_tax, invoice.breakdown),
        written(
            "ram:BillingSpecifiedPeriod",
            written("ram:StartDateTime", _date(invoice.period_start)),
            written("ram:EndDateTime", _date(invoice.period_end)),
        ),
        written("ram:SpecifiedTradePaymentTerms", due),
        written(
            "ram:SpecifiedTradeSettlementHeaderMonetarySummation",
            text("ram:LineTotalAmount", _amount(invoice.net_cents)),
            text("ram:TaxBasisTotalAmount", _amount(invoice.net_cents)),
            text("ram:TaxTotalAmount", _amount(invoice.tax_cents), currencyID=invoice.currency),
            text("ram:GrandTotalAmount", _amount(invoice.gross_cents)),
            text("ram:TotalPrepaidAmount", _amount(invoice.paid_cents)),
            text("ram:DuePayableAmount", _amount(invoice.payable_cents)),
        ),
        written("ram:InvoiceReferencedDocument", text("ram:IssuerAssignedID", invoice.preceding)),
    )


def _tax(group: VATBreakdown) -> str:
    return written(
        "ram:ApplicableTradeTax",
        text("ram:CalculatedAmount", _amount(group.tax_cents)),
        text("ram:TypeCode", "VAT"),
        text("ram:ExemptionReason", group.reason),
        text("ram:BasisAmount", _amount(group.taxable_cents)),
        text("ram:CategoryCode", group.category.value),
        text("ram:ExemptionReasonCode", WHY_NO_VAT.get(group.category)),
        text("ram:RateApplicablePercent", _percent(group)),
    )


def _id(name: str, value: str | None) -> str:
    return written(name, text("ram:ID", value))


def _date(day: date) -> str:
    return text("udt:DateTimeString", f"{day:%Y%m%d}", format="102")


def _amount(cents: int) -> str:
    return f"{Decimal(cents).scaleb(-2):.2f}"


def _percent(taxed: InvoiceLine | VATBreakdown) -> str | None:
    """What is not subject to VAT has no rate, not even 0 (BR-O-05, BR-48)."""
    return None if taxed.category is VATCategory.NOT_SUBJECT else f"{taxed.percent:.2f}"
