"""The page of VAT is the one that the table gives, whole."""

from __future__ import annotations

from pathlib import Path

from emobility.runtime.vat_page import page

PAGE = Path(__file__).parents[2] / "docs" / "vat.md"


def test_the_page_of_vat_is_what_the_table_says() -> None:
    assert PAGE.read_text() == page()
