"""An invoice or credit note in the terms of EN 16931-1; BT and BG numbers are the standard's.

Amounts are whole cents of the invoice's currency and never below zero: what is taken back is a credit note. A document
that breaks a rule (`rules`) is not issued.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Final

VAT_REVERSED: Final = "VATEX-EU-AE"
"""BT-121, code list VATEX of the CEF: reverse charge."""
NOT_SUBJECT_TO_VAT: Final = "VATEX-EU-O"
"""BT-121: not subject to VAT."""


class DocumentType(StrEnum):
    """BT-3, of UNTDID 1001."""

    INVOICE = "380"
    CREDIT_NOTE = "381"
    SELF_BILLED_INVOICE = "389"
    """Made by the buyer in the seller's name (Directive 2006/112/EC art. 224)."""
    SELF_BILLED_CREDIT_NOTE = "261"

    @property
    def is_credit(self) -> bool:
        """Whether it takes back."""
        return self in {DocumentType.CREDIT_NOTE, DocumentType.SELF_BILLED_CREDIT_NOTE}


class VATCategory(StrEnum):
    """BT-118 and BT-151, of UNTDID 5305, as far as charging needs them."""

    STANDARD = "S"
    REVERSE_CHARGE = "AE"
    NOT_SUBJECT = "O"
    """Supplied where no VAT of the EU is: the buyer accounts for its own country's tax, if any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeParty:
    """Seller (BG-4) or buyer (BG-7). A consumer has a name alone, and perhaps a country.

    Attributes:
        name: BT-27, BT-44.
        country: BT-40, BT-55, ISO 3166 alpha-2.
        vat_id: BT-31, BT-48, with its prefix.
        registration: BT-30, BT-47: number in a trade register.
    """

    name: str
    country: str
    street: str | None = None
    city: str | None = None
    post_code: str | None = None
    vat_id: str | None = None
    registration: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceLine:
    """BG-25. `cents`: BT-131, without VAT; the price of the one unit billed."""

    line_id: str
    name: str
    cents: int
    category: VATCategory
    percent: Decimal
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VATBreakdown:
    """BG-23, one per category and rate. `reason`: BT-120, why no VAT is charged."""

    category: VATCategory
    percent: Decimal
    taxable_cents: int
    tax_cents: int
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Annex:
    """BG-24: a document beside the invoice, named by what it holds.

    `total_e4`: what its lines add up to, exactly, in ten-thousandths.
    """

    reference: str
    description: str
    sha256: str
    total_e4: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoice:
    """A document.

    Attributes:
        number: BT-1; without a gap per issuer, series and year.
        period_start: BT-73; `period_end` (BT-74) is included.
        preceding: BT-25 of the invoice that a credit note takes back.
        net_cents: BT-109; `tax_cents` BT-110, `gross_cents` BT-112, `paid_cents` BT-113, `payable_cents` BT-115.
        remittance: BT-83, what a payment must carry.
        iban: BT-84.
    """

    number: str
    document_type: DocumentType
    issued_on: date
    due_on: date | None
    currency: str
    seller: TradeParty
    buyer: TradeParty
    period_start: date
    period_end: date
    lines: tuple[InvoiceLine, ...]
    breakdown: tuple[VATBreakdown, ...]
    net_cents: int
    tax_cents: int
    gross_cents: int
    paid_cents: int
    payable_cents: int
    notes: tuple[str, ...] = ()
    preceding: str | None = None
    annex: Annex | None = None
    remittance: str | None = None
    iban: str | None = None


def totals_of(breakdown: Sequence[VATBreakdown]) -> tuple[int, int, int]:
    """Return net, tax and gross of a document, in cents: each the sum of parts that are cents already."""
    net, tax = sum(each.taxable_cents for each in breakdown), sum(each.tax_cents for each in breakdown)
    return net, tax, net + tax
