"""Invoices as PDF/A-3 with their XML inside, read and judged by programs of others: veraPDF, pypdf and factur-x."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import facturx
import pytest
from lxml import etree
from pypdf import PdfReader
from pypdf.generic import ContentStream
from reportlab.pdfbase.ttfonts import TTFontFace

from emobility.domain.invoicing.invoice import Annex, DocumentType, Invoice, TradeParty
from emobility.protocols.en16931.cii import cii_of
from emobility.runtime.invoice_file import AnnexTable
from emobility.runtime.invoice_pdf import A4_HEIGHT, A4_WIDTH, ANNEX_PAGES_MAX, REPLACEMENT, invoice_pdf
from services.settlement.annex_pages import annex_table
from services.settlement.documents import CSV_COLUMNS
from tests.invoicing.documents import DOMESTIC, REVERSED
from tests.invoicing.verapdf import judged

FX: Final = "{urn:factur-x:pdfa:CrossIndustryDocument:invoice:1p0#}"
HARD: Final = TradeParty(
    name="Zażółć gęślą jaźń Ładowanie Sp. z o.o.",
    street="Åsögatan Ölandsgränd 5 šžčřů ășț őű Ωμέγα Зарядка",
    city="Ångström",
    country="PL",
    vat_id="PL5260250995",
)
LETTERS: Final = " ".join(chr(code) for code in (*range(0x21, 0x7F), *range(0xA1, 0x250), *range(0x400, 0x460)))
"""More than one font of 256 codes holds."""
LONG_WORD: Final = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft" * 3


def annexed(document: Invoice, count: int) -> tuple[Invoice, AnnexTable]:
    """Give an invoice an annex of so many CDRs, and return both."""
    lines = [",".join(CSV_COLUMNS)]
    lines += [
        f"NL-TNM,DE-AUS,A-1,1,{at},CDR-{at:08},S-{at},CHARGE,,2026-11-{at % 30 + 1:02}T08:15:59+00:00,"
        f"2026-11-30T00:00:00+00:00,{at + 12_345},0,{at + 30_000},0,EUR"
        for at in range(count)
    ]
    csv = "\r\n".join([*lines, ""])
    digest, total_e4 = hashlib.sha256(csv.encode()).hexdigest(), sum(at + 30_000 for at in range(count))
    annex = Annex(reference="statement-0a.csv", description=f"{count} CDRs", sha256=digest, total_e4=total_e4)
    return replace(document, annex=annex), annex_table(csv)


CREDIT = replace(REVERSED, document_type=DocumentType.CREDIT_NOTE, preceding="NL-TNM-W2026-000001", iban=None)
SELF_BILLED = replace(REVERSED, document_type=DocumentType.SELF_BILLED_INVOICE, notes=("Self-billing",))
HARD_TEXTS = replace(
    DOMESTIC,
    seller=HARD,
    buyer=replace(HARD, name=f"充電 🔌 e\u0301 {LONG_WORD * 30}", street=LONG_WORD, city=LONG_WORD * 9),
    lines=tuple(replace(line, note="bill-0123456789, " * 400) for line in DOMESTIC.lines),
    notes=(LETTERS, LONG_WORD, "a\tb\nc\x07\ud800", "Paid by card."),
)
DOCUMENTS: Final[dict[str, tuple[Invoice, AnnexTable | None]]] = {
    "reversed": annexed(REVERSED, 5),
    "domestic": (DOMESTIC, None),
    "credit": annexed(CREDIT, 1),
    "self-billed": annexed(SELF_BILLED, 200),
    "hard-texts": (HARD_TEXTS, None),
}


def read(document: bytes) -> PdfReader:
    return PdfReader(io.BytesIO(document), strict=True)


def root_of(document: bytes) -> Any:
    return read(document).trailer["/Root"]


def texts(document: bytes) -> list[str]:
    return [page.extract_text() for page in read(document).pages]


def of_type(document: bytes, name: str) -> Any:
    """Return the one value of a Factur-X property in the metadata."""
    (found,) = etree.fromstring(root_of(document)["/Metadata"].get_data()).iter(f"{FX}{name}")
    return found.text


@pytest.mark.verapdf
def test_vera_pdf_finds_no_rule_of_pdf_a_3b_broken_and_sees_one_that_is(tmp_path: Path) -> None:
    for name, (invoice, annex) in DOCUMENTS.items():
        (tmp_path / f"{name}.pdf").write_bytes(invoice_pdf(invoice, annex))
    sound = invoice_pdf(*DOCUMENTS["reversed"])
    broken = {
        "unrelated.pdf": sound.replace(b"/AFRelationship /Supplement", b"/AFRelationshop /Supplement"),
        "unnamed.pdf": sound.replace(b"pdfaid:conformance>B<", b"pdfaid:conformance>X<"),
    }
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)

    verdicts = judged(sorted(tmp_path.glob("*.pdf")))

    assert {name: verdicts.pop(f"{name}.pdf") for name in DOCUMENTS} == {name: [] for name in DOCUMENTS}
    assert sorted(verdicts) == sorted(broken)
    assert all(verdicts.values())


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_xml_in_it_is_the_xml_beside_it_and_of_the_level_that_the_metadata_say(name: str) -> None:
    invoice, annex = DOCUMENTS[name]
    document = invoice_pdf(invoice, annex)

    file_name, xml = facturx.get_xml_from_pdf(document, check_xsd=False)

    assert (file_name, xml) == ("factur-x.xml", cii_of(invoice))
    assert of_type(document, "DocumentFileName") == file_name
    assert of_type(document, "ConformanceLevel").replace(" ", "").lower() == facturx.get_level(etree.fromstring(xml))


def test_what_it_carries_says_what_it_is() -> None:
    invoice, annex = annexed(REVERSED, 5)
    document = invoice_pdf(invoice, annex)

    files = [each.get_object() for each in root_of(document)["/AF"]]

    said = [(each["/UF"], each["/AFRelationship"], each["/EF"]["/F"]["/Subtype"]) for each in files]
    assert said == [
        ("factur-x.xml", "/Alternative", "/text/xml"),
        ("statement-0a.csv", "/Supplement", "/text/csv"),
    ]
    assert invoice.annex is not None
    assert hashlib.sha256(files[1]["/EF"]["/F"].get_data()).hexdigest() == invoice.annex.sha256
    assert sorted(read(document).attachments) == ["factur-x.xml", "statement-0a.csv"]


def test_a_person_reads_what_the_machine_does() -> None:
    first, annex = texts(invoice_pdf(*annexed(REVERSED, 5)))
    (domestic,) = texts(invoice_pdf(DOMESTIC))

    for said in (
        "NL-TNM-W2026-000001", "Röwe & Söhne GmbH", "NL004495445B01", "Reverse charge", "27.78", "2026-12-14",
        "NL91 ABNA 0417 1643 00", "WR0001", "3511 AA Utrecht",
    ):  # fmt: skip
        assert said in first, said
    assert "CDR-00000004" in annex
    assert "15.0010" in annex
    for said in ("VAT 21 % on 10.00", "2.10", "VAT 19 % on 5.00", "0.95", "18.05", "To pay, EUR"):
        assert said in domestic, said


@pytest.mark.parametrize(
    ("document_type", "title"),
    [
        (DocumentType.INVOICE, "Invoice"),
        (DocumentType.CREDIT_NOTE, "Credit note"),
        (DocumentType.SELF_BILLED_INVOICE, "Invoice (self-billing)"),
        (DocumentType.SELF_BILLED_CREDIT_NOTE, "Credit note (self-billing)"),
    ],
)
def test_each_kind_of_document_says_what_it_is(document_type: DocumentType, title: str) -> None:
    (page,) = texts(invoice_pdf(replace(CREDIT, document_type=document_type, annex=None)))

    assert page.splitlines()[:2] == [title, CREDIT.number]


def test_letters_of_europe_are_there_and_what_the_typeface_lacks_is_shown_as_lacking() -> None:
    first = texts(invoice_pdf(HARD_TEXTS))[0].replace("\n", " ")

    assert HARD.street is not None
    assert HARD.name in first
    assert HARD.street in first
    assert f"{REPLACEMENT}{REPLACEMENT} {REPLACEMENT} é" in first
    assert {*LETTERS} <= {*"".join(texts(invoice_pdf(HARD_TEXTS)))}


def test_no_page_names_a_typeface_that_is_not_in_the_file() -> None:
    for page in read(invoice_pdf(*DOCUMENTS["reversed"])).pages:
        fonts: Any = page["/Resources"]
        assert all("/FontFile2" in font["/FontDescriptor"] for font in fonts["/Font"].values())


@pytest.mark.parametrize("name", DOCUMENTS)
def test_nothing_is_written_beyond_the_page_nor_over_something_else(name: str) -> None:
    document = invoice_pdf(*DOCUMENTS[name])

    for page in read(document).pages:
        boxes = list(written_on(page))
        assert all(left >= 40 and right <= A4_WIDTH - 40 and 30 <= y <= A4_HEIGHT - 40 for left, right, y, _ in boxes)
        for at, (left, right, y, size) in enumerate(boxes):
            for other_left, other_right, other_y, _ in boxes[:at]:
                is_beside = right <= other_left or other_right <= left
                assert is_beside or abs(y - other_y) >= 0.9 * size


def written_on(page: Any) -> Iterator[tuple[float, float, float, float]]:
    """Yield of each text where it begins and ends, its base line and its size, by the widths that the file names."""
    x = y = size = 0.0
    font: Any = None
    for operands, operator in ContentStream(page["/Contents"].get_object(), page.pdf).operations:
        if operator == b"Tm":
            x, y = (float(each) for each in operands[4:])
        elif operator == b"Tf":
            font, size = page["/Resources"]["/Font"][operands[0]], float(operands[1])
        elif operator == b"Tj":
            codes = operands[0].original_bytes
            begin, x = x, x + sum(font["/Widths"][code - font["/FirstChar"]] for code in codes) * size / 1000
            yield begin, x, y, size


def test_a_large_annex_has_a_bounded_number_of_pages_and_is_attached_whole() -> None:
    invoice, annex = annexed(REVERSED, 2_500)

    document = invoice_pdf(invoice, annex)

    pages = texts(document)
    listed = sum(page.count("CDR-0000") for page in pages)
    assert len(pages) == 1 + ANNEX_PAGES_MAX
    assert f"… and {2_500 - listed:,} more: all are in statement-0a.csv" in pages[-1]
    assert f"{sum(at + 30_000 for at in range(2_500)) / 10_000:,.4f}" in pages[-1]
    assert read(document).attachments["statement-0a.csv"] == [annex.csv]


def test_documents_made_at_the_same_time_are_what_they_are_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [DOCUMENTS[name] for name in ("domestic", "reversed", "hard-texts", "credit")]
    alone = [invoice_pdf(*each) for each in wanted]
    seek = TTFontFace.seek

    def seek_and_let_others_run(face: Any, at: int) -> None:
        seek(face, at)
        time.sleep(0)

    monkeypatch.setattr(TTFontFace, "seek", seek_and_let_others_run)
    with ThreadPoolExecutor(len(wanted)) as pool:
        together = list(pool.map(lambda each: invoice_pdf(*each), wanted))

    assert together == alone


def test_a_process_loads_what_makes_a_pdf_only_to_make_one() -> None:
    script = (
        "import sys, services.settlement.invoice_api, services.driver_mobility.invoice_api\n"
        "print([name for name in ('reportlab', 'pypdf', 'PIL', 'emobility.runtime.pdf_a3') if name in sys.modules])"
    )

    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert ended.stdout == "[]\n"


MAKE_AGAIN: Final = """
import pickle, sys
from emobility.runtime.invoice_pdf import invoice_pdf
sys.stdout.buffer.write(b"".join(invoice_pdf(*each) for each in pickle.load(sys.stdin.buffer)))
"""


def test_the_same_invoice_is_the_same_bytes_in_another_process() -> None:
    documents = list(DOCUMENTS.values())

    other = subprocess.run(
        [sys.executable, "-c", MAKE_AGAIN],
        input=pickle.dumps(documents), capture_output=True, check=True,
        env=os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"},
    )  # fmt: skip

    assert other.stdout == b"".join(invoice_pdf(*each) for each in documents)
