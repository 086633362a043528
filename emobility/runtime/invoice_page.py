"""An invoice for people, beside its XML: one page, printed as it is seen."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Final

from starlette.responses import HTMLResponse

from emobility.domain.invoicing.invoice import DocumentType, Invoice
from emobility.runtime.html_pages import HEADERS, templates_in

_ENVIRONMENT: Final = templates_in(Path(__file__).parent / "templates")
TITLES: Final = {
    DocumentType.INVOICE: "Invoice",
    DocumentType.CREDIT_NOTE: "Credit note",
    DocumentType.SELF_BILLED_INVOICE: "Invoice (self-billing)",
    DocumentType.SELF_BILLED_CREDIT_NOTE: "Credit note (self-billing)",
}


def invoice_page(invoice: Invoice) -> HTMLResponse:
    """Return the page."""
    template = _ENVIRONMENT.get_template("invoice.html")
    title = TITLES[invoice.document_type]
    return HTMLResponse(template.render(invoice=invoice, title=title, amount=_amount), headers=HEADERS)


def _amount(cents: int) -> str:
    return f"{Decimal(cents).scaleb(-2):,.2f}"
