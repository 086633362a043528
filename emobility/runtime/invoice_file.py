"""Hand out an invoice as a PDF. What it takes to make one is loaded when the first is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from starlette.responses import Response

from emobility.domain.invoicing.invoice import Invoice


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """Of an annex's table; `width` in points."""

    heading: str
    width: float
    is_right: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnexTable:
    """What an annex lists.

    Attributes:
        csv: The bytes whose hash the invoice names.
        lines: Returns the cells under the columns, line by line, from the first on.
    """

    csv: bytes
    columns: Sequence[Column]
    lines: Callable[[], Iterator[Sequence[str]]]


async def invoice_file(invoice: Invoice, annex: AnnexTable | None = None) -> Response:
    """Return the document; of 100,000 CDRs it takes seconds, beside the loop."""
    document = await asyncio.to_thread(_made, invoice, annex)
    headers = {"Cache-Control": "no-store", "Content-Disposition": f'inline; filename="{invoice.number}.pdf"'}
    return Response(document, media_type="application/pdf", headers=headers)


def _made(invoice: Invoice, annex: AnnexTable | None) -> bytes:
    from emobility.runtime.invoice_pdf import invoice_pdf  # noqa: PLC0415 - heavy, and most processes make none

    return invoice_pdf(invoice, annex)
