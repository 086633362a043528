"""Numbers of invoices: one after the other per issuer, series and year (Directive 2006/112/EC art. 226 (2))."""

from __future__ import annotations

from enum import StrEnum


class Series(StrEnum):
    """Documents that are counted together; a party may have all of them."""

    WHOLESALE = "W"
    """To MSPs, by the CPO."""
    SELF_BILLED = "S"
    """From CPOs, made by the MSP that buys; counted per MSP."""
    RETAIL = "R"
    """To drivers."""


def invoice_number(issuer: str, series: Series, year: int, count: int) -> str:
    """Return a document's number; `count` starts at 1 each year."""
    return f"{issuer}-{series.value}{year}-{count:06d}"
