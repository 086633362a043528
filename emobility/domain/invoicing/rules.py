"""Rules of EN 16931-1 that a document of ours can break, by the standard's names; none leaves with one broken.

The whole rule book is run over our documents by an independent validator in the tests; these are checked always.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

from emobility.domain.errors import RuleBroken
from emobility.domain.invoicing.invoice import Invoice, VATBreakdown, VATCategory


class InvoiceUnfit(RuleBroken):
    """A document breaks rules of EN 16931-1 and is not issued; `rules` names them."""

    def __init__(self, number: str, rules: Sequence[str]) -> None:
        self.rules = tuple(rules)
        super().__init__(f"{number} breaks {', '.join(rules)}")


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule by its name: `holds` for a document or not."""

    name: str
    holds: Callable[[Invoice], bool]


def broken_rules(invoice: Invoice) -> tuple[str, ...]:
    """Return the names of the rules that a document breaks, in the order of `RULES`."""
    return tuple(rule.name for rule in RULES if not rule.holds(invoice))


def refuse_unfit(invoice: Invoice) -> None:
    """Raise `InvoiceUnfit` for a document that breaks a rule."""
    if broken := broken_rules(invoice):
        raise InvoiceUnfit(invoice.number, broken)


def _of(invoice: Invoice, category: VATCategory) -> list[VATBreakdown]:
    return [each for each in invoice.breakdown if each.category is category]


def _line_sum(invoice: Invoice, group: VATBreakdown) -> int:
    return sum(line.cents for line in invoice.lines if (line.category, line.percent) == (group.category, group.percent))


def _tax(group: VATBreakdown) -> int:
    exact = group.taxable_cents * group.percent / 100
    return int(exact.quantize(Decimal(1), rounding=ROUND_HALF_UP))


RULES: Final = (
    Rule("BR-02", lambda doc: bool(doc.number)),
    Rule("BR-06", lambda doc: bool(doc.seller.name)),
    Rule("BR-07", lambda doc: bool(doc.buyer.name)),
    Rule("BR-09", lambda doc: len(doc.seller.country) == 2),
    Rule("BR-11", lambda doc: len(doc.buyer.country) == 2),
    Rule("BR-16", lambda doc: bool(doc.lines)),
    Rule("BR-25", lambda doc: all(line.name for line in doc.lines)),
    Rule("BR-27", lambda doc: all(line.cents >= 0 for line in doc.lines)),
    Rule("BR-29", lambda doc: doc.period_start <= doc.period_end),
    Rule("BR-CO-10", lambda doc: doc.net_cents == sum(line.cents for line in doc.lines)),
    Rule("BR-CO-13", lambda doc: doc.net_cents == sum(group.taxable_cents for group in doc.breakdown)),
    Rule("BR-CO-14", lambda doc: doc.tax_cents == sum(group.tax_cents for group in doc.breakdown)),
    Rule("BR-CO-15", lambda doc: doc.gross_cents == doc.net_cents + doc.tax_cents),
    Rule("BR-CO-16", lambda doc: doc.payable_cents == doc.gross_cents - doc.paid_cents),
    # Gross prices are turned into net ones, so a cent either way is in their nature; the validator allows it, too.
    Rule("BR-CO-17", lambda doc: all(abs(group.tax_cents - _tax(group)) <= 1 for group in doc.breakdown)),
    Rule("BR-CO-18", lambda doc: bool(doc.breakdown)),
    Rule("BR-CO-25", lambda doc: doc.payable_cents <= 0 or doc.due_on is not None),
    Rule("BR-CO-26", lambda doc: bool(doc.seller.vat_id or doc.seller.registration)),
    Rule("BR-55", lambda doc: not doc.document_type.is_credit or doc.preceding is not None),
    Rule(
        "BR-S-01",
        lambda doc: (
            len({(group.category, group.percent) for group in doc.breakdown}) == len(doc.breakdown)
            and {(line.category, line.percent) for line in doc.lines}
            == {(group.category, group.percent) for group in doc.breakdown}
        ),
    ),
    Rule("BR-S-02", lambda doc: not _of(doc, VATCategory.STANDARD) or doc.seller.vat_id is not None),
    Rule("BR-S-05", lambda doc: all(group.percent > 0 for group in _of(doc, VATCategory.STANDARD))),
    Rule("BR-S-08", lambda doc: all(group.taxable_cents == _line_sum(doc, group) for group in doc.breakdown)),
    Rule("BR-S-10", lambda doc: all(group.reason is None for group in _of(doc, VATCategory.STANDARD))),
    Rule(
        "BR-AE-02",
        lambda doc: (
            not _of(doc, VATCategory.REVERSE_CHARGE)
            or (doc.seller.vat_id is not None and bool(doc.buyer.vat_id or doc.buyer.registration))
        ),
    ),
    Rule("BR-AE-05", lambda doc: all(group.percent == 0 for group in _of(doc, VATCategory.REVERSE_CHARGE))),
    Rule("BR-AE-09", lambda doc: all(group.tax_cents == 0 for group in _of(doc, VATCategory.REVERSE_CHARGE))),
    Rule("BR-AE-10", lambda doc: all(bool(group.reason) for group in _of(doc, VATCategory.REVERSE_CHARGE))),
    Rule(
        "BR-O-02",
        lambda doc: not _of(doc, VATCategory.NOT_SUBJECT) or (doc.seller.vat_id is None and doc.buyer.vat_id is None),
    ),
    Rule("BR-O-05", lambda doc: all(group.percent == 0 for group in _of(doc, VATCategory.NOT_SUBJECT))),
    Rule("BR-O-09", lambda doc: all(group.tax_cents == 0 for group in _of(doc, VATCategory.NOT_SUBJECT))),
    Rule("BR-O-10", lambda doc: all(bool(group.reason) for group in _of(doc, VATCategory.NOT_SUBJECT))),
    Rule("BR-O-11", lambda doc: not _of(doc, VATCategory.NOT_SUBJECT) or len(doc.breakdown) == 1),
)
"""Of the invoices that we make; the standard has some hundred more, about parts that ours don't have."""
