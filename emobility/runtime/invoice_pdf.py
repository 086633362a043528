"""An invoice as one file that a person reads and a machine books: a Factur-X document (ZUGFeRD 2.x).

Its pages say what the XML says that it carries, and list the CDRs of its annex as far as `ANNEX_PAGES_MAX` pages hold
them; the annex is attached whole. Of the same invoice the same bytes.
"""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from threading import Lock
from typing import Final

from reportlab import rl_config
from reportlab.lib.pagesizes import A4
from reportlab.pdfbase.pdfmetrics import registerFont
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

from emobility.domain.invoicing.invoice import Annex, Invoice, TradeParty
from emobility.domain.money import decimal_from_e4
from emobility.protocols.en16931 import factur_x
from emobility.protocols.en16931.cii import cii_of
from emobility.runtime.invoice_file import AnnexTable, Column
from emobility.runtime.invoice_page import TITLES
from emobility.runtime.pdf_a3 import PRODUCER, About, AttachedFile, pdf_a3_of

ANNEX_PAGES_MAX: Final = 20
"""Some 1,200 CDRs; nobody reads more on paper."""
NAME_LINES_MAX: Final = 6
ADDRESS_LINES_MAX: Final = 2
"""Of each part of an address. A name that is longer is whole in the XML, and both parties still fit on the page."""
_HERE: Final = Path(__file__).parent / "typefaces"
A4_WIDTH: Final[float] = A4[0]
A4_HEIGHT: Final[float] = A4[1]
"""In points, as all lengths here; `y` grows upwards from the lower edge."""
REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
"""Stands for what the typeface lacks: PDF/A knows no missing glyph (ISO 19005-3, 6.2.11.8)."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 56.0, A4_WIDTH - 56.0, A4_HEIGHT - 64.0, 64.0
_MIDDLE: Final = 310.0
_AMOUNTS: Final = _RIGHT - 90
"""Where labels of amounts end."""
_GRAY, _PALE = 0.4, 0.75
_TEXT, _SMALL, _CELL = 9.5, 8.0, 7.0
_LEADING: Final = 1.4
_DOTS: Final = "…"
_REGULAR, _BOLD = "Roboto-Regular", "Roboto-Bold"
_FACES: Final = {name: TTFont(name, str(_HERE / f"{name}.ttf"), asciiReadable=False) for name in (_REGULAR, _BOLD)}
_ONE_AT_A_TIME: Final = Lock()
"""A typeface of reportlab serves one document at a time."""
for _face in _FACES.values():
    registerFont(_face)
rl_config.useA85 = 0  # or each stream is a quarter longer, as text


def invoice_pdf(invoice: Invoice, annex: AnnexTable | None = None) -> bytes:
    """Return the document in bytes; `annex`: what `invoice.annex` is about."""
    sheet = _Sheet()
    _write_invoice(sheet, invoice)
    files = [_carried(cii_of(invoice))]
    if annex is not None and invoice.annex is not None:
        _write_annex(sheet, invoice, invoice.annex, annex)
        files.append(_annexed(invoice.annex, annex.csv))
    title = f"{TITLES[invoice.document_type]} {invoice.number}"
    author = _drawable(invoice.seller.name, _REGULAR)
    sheet.number_pages(f"{title}, {invoice.seller.name}")
    metadata = factur_x.metadata(title=title, author=author, producer=PRODUCER, day=invoice.issued_on)
    about = About(title=title, author=author, day=invoice.issued_on, metadata=metadata)
    return pdf_a3_of(sheet.pdf(), about=about, files=files, color_profile=(_HERE / "sRGB.icc").read_bytes())


class _Sheet:
    """Writes from the top down and goes to a new page when this one is full."""

    def __init__(self) -> None:
        self._pages: list[list[Callable[[Canvas], None]]] = []
        self.turn()

    def turn(self) -> None:
        self._pages.append([])
        self._page = self._pages[-1]
        self.y = _TOP

    def pdf(self) -> bytes:
        file = io.BytesIO()
        canvas = Canvas(
            file, pagesize=A4, pageCompression=1, invariant=1, pdfVersion=(1, 7), initialFontName=_REGULAR, lang="en"
        )
        canvas.setViewerPreference("DisplayDocTitle", "true")
        with _ONE_AT_A_TIME:
            for page in self._pages:
                for draw in page:
                    draw(canvas)
                canvas.showPage()
            canvas.save()
        return file.getvalue()

    def room_for(self, height: float) -> None:
        if self.y - height < _BOTTOM:
            self.turn()

    def down(self, height: float) -> None:
        self.y -= height

    def write(
        self,
        text: str,
        *,
        x: float = _LEFT,
        size: float = _TEXT,
        is_bold: bool = False,
        is_right: bool = False,
        gray: float = 0,
    ) -> None:
        face = _BOLD if is_bold else _REGULAR
        shown, y = _drawable(text, face), self.y

        def draw(canvas: Canvas) -> None:
            canvas.setFont(face, size)
            canvas.setFillGray(gray)
            (canvas.drawRightString if is_right else canvas.drawString)(x, y, shown)

        self._page.append(draw)

    def rule(self, *, width: float = 0.5, left: float = _LEFT, gray: float = _PALE) -> None:
        y = self.y

        def draw(canvas: Canvas) -> None:
            canvas.setLineWidth(width)
            canvas.setStrokeGray(gray)
            canvas.line(left, y, _RIGHT, y)

        self._page.append(draw)

    def paragraph(self, text: str, *, width: float = _RIGHT - _LEFT, size: float = _TEXT, gray: float = 0) -> None:
        """Write a text in as many lines as it takes."""
        for line in _wrapped(text, _REGULAR, width=width, size=size):
            self.room_for(0)
            self.write(line, size=size, gray=gray)
            self.down(size * _LEADING)

    def number_pages(self, said: str) -> None:
        """Write below each page whose it is, and how many there are."""
        shown = _cut(said, _REGULAR, width=_RIGHT - _LEFT - 80, size=_SMALL)
        for number, page in enumerate(self._pages, start=1):
            self._page, self.y = page, _BOTTOM - 24
            self.write(shown, size=_SMALL, gray=_GRAY)
            self.write(f"Page {number} of {len(self._pages)}", x=_RIGHT, is_right=True, size=_SMALL, gray=_GRAY)


def _write_invoice(sheet: _Sheet, invoice: Invoice) -> None:
    sheet.write(TITLES[invoice.document_type], size=20, is_bold=True)
    sheet.write(invoice.number, x=_RIGHT, is_right=True, size=12, is_bold=True)
    sheet.down(14)
    sheet.rule(width=1.2, gray=0)
    sheet.down(24)
    _write_parties(sheet, invoice)
    for label, value in _facts(invoice):
        sheet.write(label, gray=_GRAY)
        sheet.write(value, x=_LEFT + 110)
        sheet.down(_TEXT * _LEADING)
    sheet.down(18)
    _write_lines(sheet, invoice)
    _write_totals(sheet, invoice)
    sheet.down(20)
    for paragraph in _closing(invoice):
        sheet.paragraph(paragraph)
        sheet.down(4)


def _write_parties(sheet: _Sheet, invoice: Invoice) -> None:
    top, lowest = sheet.y, sheet.y
    width = _RIGHT - _MIDDLE
    for x, role, party in ((_LEFT, "From", invoice.seller), (_MIDDLE, "To", invoice.buyer)):
        sheet.y = top
        sheet.write(role, x=x, size=_SMALL, gray=_GRAY)
        sheet.down(14)
        for line in _wrapped(party.name, _BOLD, width=width, size=11)[:NAME_LINES_MAX]:
            sheet.write(line, x=x, size=11, is_bold=True)
            sheet.down(11 * _LEADING)
        for said in _address(party):
            for line in _wrapped(said, _REGULAR, width=width, size=_TEXT)[:ADDRESS_LINES_MAX]:
                sheet.write(line, x=x)
                sheet.down(_TEXT * _LEADING)
        lowest = min(lowest, sheet.y)
    sheet.y = lowest - 16


def _address(party: TradeParty) -> Iterator[str]:
    if party.street:
        yield party.street
    if party.city or party.post_code:
        yield " ".join(part for part in (party.post_code, party.city) if part)
    yield party.country
    if party.vat_id:
        yield f"VAT number {party.vat_id}"
    if party.registration:
        yield f"Registered as {party.registration}"


def _facts(invoice: Invoice) -> Iterator[tuple[str, str]]:
    yield "Number", invoice.number
    yield "Issued on", invoice.issued_on.isoformat()
    yield "Period", f"{invoice.period_start} to {invoice.period_end}"
    if invoice.due_on is not None:
        yield "Due on", invoice.due_on.isoformat()
    if invoice.preceding is not None:
        yield "Takes back from", invoice.preceding


def _write_lines(sheet: _Sheet, invoice: Invoice) -> None:
    _write_head(sheet, (_LEFT, "For", False), (_AMOUNTS, "VAT", True), (_RIGHT, f"Net, {invoice.currency}", True))
    for line in invoice.lines:
        sheet.room_for(3 * _TEXT * _LEADING)
        sheet.write(_percent(line.percent), x=_AMOUNTS, is_right=True)
        sheet.write(_amount(line.cents), x=_RIGHT, is_right=True)
        width = _AMOUNTS - _LEFT - 50
        sheet.paragraph(line.name, width=width)
        if line.note:
            sheet.paragraph(line.note, width=width, size=_SMALL, gray=_GRAY)
        sheet.down(6)
    sheet.y += 10
    sheet.rule()
    sheet.down(16)


def _write_totals(sheet: _Sheet, invoice: Invoice) -> None:
    groups = [
        (f"VAT {_percent(group.percent)} on {_amount(group.taxable_cents)}", group.tax_cents)
        for group in invoice.breakdown
    ]
    paid = [("Paid", invoice.paid_cents)] if invoice.paid_cents else []
    last = "To be credited" if invoice.document_type.is_credit else "To pay"
    rows = [("Net", invoice.net_cents), *groups, ("Total", invoice.gross_cents), *paid]
    sheet.room_for((len(rows) + 3) * _TEXT * _LEADING)
    for label, cents in rows:
        sheet.write(label, x=_AMOUNTS, is_right=True)
        sheet.write(_amount(cents), x=_RIGHT, is_right=True)
        sheet.down(_TEXT * _LEADING + 1)
    sheet.y += 6
    sheet.rule(left=_MIDDLE, gray=0)
    sheet.down(16)
    sheet.write(f"{last}, {invoice.currency}", x=_AMOUNTS, is_right=True, size=11, is_bold=True)
    sheet.write(_amount(invoice.payable_cents), x=_RIGHT, is_right=True, size=11, is_bold=True)
    sheet.down(16)


def _closing(invoice: Invoice) -> Iterator[str]:
    """Say what isn't a figure: why there is no tax, how to pay, what else the document says, and what it carries."""
    for group in invoice.breakdown:
        if group.reason:
            yield f"{group.reason}."
    if invoice.iban is not None and invoice.payable_cents:
        account = " ".join(invoice.iban[at : at + 4] for at in range(0, len(invoice.iban), 4))
        due = "" if invoice.due_on is None else f" by {invoice.due_on}"
        reference = "" if invoice.remittance is None else f" with the reference {invoice.remittance}"
        yield f"Please pay{due} to the account {account}{reference}."
    yield from invoice.notes
    if invoice.annex is not None:
        annex = invoice.annex
        yield f"Annex {annex.reference}: {annex.description}. Its SHA-256 is {annex.sha256}."
    yield "This file carries the invoice for machines, too: factur-x.xml, as EN 16931 wants it."


def _write_annex(sheet: _Sheet, invoice: Invoice, annex: Annex, table: AnnexTable) -> None:
    """List the annex from a new page on, until it ends or has its pages."""
    lines = table.lines()
    line = next(lines, None)
    for _ in range(ANNEX_PAGES_MAX):
        if line is None:
            break
        sheet.turn()
        sheet.write(f"Annex to {invoice.number}", size=12, is_bold=True)
        sheet.down(22)
        _write_columns(sheet, table.columns)
        while line is not None and sheet.y > _BOTTOM + 3 * _TEXT * _LEADING:
            _write_cells(sheet, table.columns, line)
            line = next(lines, None)
    sheet.down(4)
    if line is not None:
        left_off = 1 + sum(1 for _ in lines)
        sheet.paragraph(f"… and {left_off:,} more: all are in {annex.reference}, which this file carries.")
        sheet.down(4)
    sheet.write(f"Sum, {invoice.currency}", x=_AMOUNTS, is_right=True, is_bold=True)
    sheet.write(f"{decimal_from_e4(annex.total_e4):,.4f}", x=_RIGHT, is_right=True, is_bold=True)


def _write_columns(sheet: _Sheet, columns: Sequence[Column]) -> None:
    edges = _edges(columns)
    places = [(x, each.heading, each.is_right) for x, each in zip(edges, columns, strict=True)]
    _write_head(sheet, *places, size=_CELL)


def _write_cells(sheet: _Sheet, columns: Sequence[Column], cells: Sequence[str]) -> None:
    for x, column, cell in zip(_edges(columns), columns, cells, strict=True):
        shown = _cut(cell, _REGULAR, width=column.width - 4, size=_CELL)
        sheet.write(shown, x=x, size=_CELL, is_right=column.is_right)
    sheet.down(_CELL * _LEADING + 1)


def _edges(columns: Sequence[Column]) -> list[float]:
    """Return where the text of each column begins, or ends where it stands at the right."""
    edges, left = [], _LEFT
    for column in columns:
        edges.append(left + (column.width if column.is_right else 0))
        left += column.width
    return edges


def _write_head(sheet: _Sheet, *places: tuple[float, str, bool], size: float = _SMALL) -> None:
    for x, heading, is_right in places:
        sheet.write(heading, x=x, size=size, is_right=is_right, gray=_GRAY)
    sheet.down(5)
    sheet.rule()
    sheet.down(size + 5)


def _carried(xml: bytes) -> AttachedFile:
    return AttachedFile(
        name=factur_x.FILE_NAME,
        content=xml,
        media_type=factur_x.MEDIA_TYPE,
        relationship=factur_x.RELATIONSHIP,
        description=factur_x.DESCRIPTION,
    )


def _annexed(annex: Annex, csv: bytes) -> AttachedFile:
    return AttachedFile(
        name=annex.reference,
        content=csv,
        media_type="text/csv",
        relationship="Supplement",
        description=annex.description,
    )


def _drawable(text: str, face: str) -> str:
    """Return a text as one line, with `REPLACEMENT` for each character that the typeface lacks."""
    glyphs = _FACES[face].face.charToGlyph
    composed = " ".join(unicodedata.normalize("NFC", text).split())
    return "".join(each if ord(each) in glyphs else REPLACEMENT for each in composed)


def _wrapped(text: str, face: str, *, width: float, size: float) -> list[str]:
    """Break a text into drawable lines; a word that is longer than a line is broken, too."""
    measured = _FACES[face].stringWidth
    lines = [""]
    for word in _drawable(text, face).split():
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if measured(longer, size) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for character in word:
            if lines[-1] and measured(lines[-1] + character, size) > width:
                lines.append("")
            lines[-1] += character
    return lines


def _cut(text: str, face: str, *, width: float, size: float) -> str:
    measured, shown = _FACES[face].stringWidth, _drawable(text, face)
    if measured(shown, size) <= width:
        return shown
    while shown and measured(shown + _DOTS, size) > width:
        shown = shown[:-1]
    return shown + _DOTS


def _amount(cents: int) -> str:
    return f"{Decimal(cents).scaleb(-2):,.2f}"


def _percent(percent: Decimal) -> str:
    return f"{percent.normalize():f} %"
