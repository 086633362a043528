"""Write `docs/vat.md` out of the tax table: `python -m emobility.runtime.vat_page > docs/vat.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import Final

from emobility.domain.agreement import TaxRegime
from emobility.domain.countries import ALPHA_3
from emobility.domain.identifiers import Role
from emobility.domain.tax import NoTaxRule, Supply, TaxDecision, is_outside_scope, tax_of, tax_to_driver
from emobility.domain.tax_rules import (
    AREAS,
    BORDER_RESALE_RULES,
    CONSUMPTION_RULES,
    CONSUMPTION_UNKNOWN,
    HOME_RESALE_RULES,
    HOME_RESALE_UNKNOWN,
    BuyerStatus,
    ConsumptionRule,
)
from emobility.domain.vat_rates import UNKNOWN_RATES, VAT_RATES

_EXAMPLE_DAY: Final = date(2026, 3, 1)
_EXAMPLE_NET: Final = Decimal("1234.00")
_HEAD: Final = """# VAT of charging

What `emobility/domain/vat_rates.py` and `tax_rules.py` say, and hence what bills, quotes, statements and invoices
bear. It is no tax advice: each row names its law, so that somebody can check it. **What the table lacks is refused**,
with a sentence that says what is missing: a driver gets no quote there, a statement is paid net and gets no invoice
(`tax_waits_for`). Whoever knows more adds a row with its source. The page is written by
`python -m emobility.runtime.vat_page`.

Charging is a supply of electricity, that is of goods, from CPO to MSP and from MSP to driver (CJEU C-282/22,
C-60/23). The local date that counts is that of the start of a charge, as quoted, for drivers with a contract, that of
its end for an ad hoc sale, and the one a statement became final on between companies.

"""
_RATES: Final = """## Rates at public charge points

Where a law tells homes from public places, the row is for public places. Standard rates since 2021 are those of the
Commission's Taxes in Europe Database.

"""
_UNKNOWN: Final = """
## Days without a rate

"""
_HOME: Final = """
## CPO to MSP at home

Some members have the reseller account for electricity at home, too. Art. 199a of the Directive lets them until the
end of 2026; a law that states no end of its own stands here until it is changed: look at it again for 2027.

"""
_BORDER: Final = """
## CPO to MSP across a border

The MSP accounts for its own country's tax. On an invoice that is category `AE` of EN 16931 where that tax is an EU
member's, and `O` (not subject to VAT) where it is not: such a document names no VAT numbers, so the seller's company
needs a `registration`. To and from Norway it is refused: no source says whether Norway taxes what crosses its border.

"""
_DRIVER: Final = """
## To a driver

The tax is that of the charge point's country.

"""
_EXAMPLE: Final = f"""
## Examples

{_EXAMPLE_NET} net, on {_EXAMPLE_DAY}:

"""
_TAIL: Final = """
## Known limits

- A country's code does not tell regions with rates of their own (Azores, Madeira, Corsica, Greek islands,
  Jungholz), nor those outside the tax's territory (Canary Islands, Ceuta, Melilla, Livigno, Büsingen, Heligoland,
  Åland, Svalbard). Northern Ireland's charge points (`GBR`) are taken for Great Britain's; a party of `XI` is
  refused.
- An open row holds until somebody closes it: nothing here learns of new laws.
- Amounts of VAT are in the document's currency; what a law asks for in the country's own (Directive, art. 230) is
  left to the bookkeeping.
- A seller from abroad that charges a driver must be registered there; the document says so and cannot know it.
"""


def page() -> str:
    """Return the page."""
    return "".join(
        (
            _HEAD,
            _RATES,
            _table(
                ("country", "%", "from", "until", "law"),
                (
                    (each.country, str(each.percent), *_span(each.since, each.until), _cell(each.legal_reference))
                    for each in VAT_RATES
                ),
            ),
            _UNKNOWN,
            _table(
                ("country", "from", "until", "why"),
                ((each.country, *_span(each.since, each.until), each.why) for each in UNKNOWN_RATES),
            ),
            _HOME,
            _table(("country", "who owes", "from", "until", "law, or what is missing"), _home()),
            _BORDER,
            _table(
                ("CPO", "MSP", "law"),
                ((each.seller, each.buyer, each.legal_reference) for each in BORDER_RESALE_RULES),
            ),
            _DRIVER,
            _table(("charge point", "seller", "driver", "who owes", "law"), map(_consumption, CONSUMPTION_RULES)),
            "\nRefused: ",
            "; ".join(f"{area}: {why}" for area, why in CONSUMPTION_UNKNOWN.items()),
            ".\n",
            _EXAMPLE,
            _table(("supply", "VAT", "category", "law"), _examples()),
            _TAIL,
        )
    )


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, ("---",) * len(head), *rows))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _span(since: date, until: date | None) -> tuple[str, str]:
    """Days in words; `until` is not included."""
    return str(since), "" if until is None else f"before {until}"


def _owes(regime: TaxRegime) -> str:
    return "buyer" if regime is TaxRegime.REVERSE_CHARGE else "seller"


def _home() -> list[tuple[str, ...]]:
    known = {each.country: each for each in HOME_RESALE_RULES}
    rows: list[tuple[str, ...]] = []
    for country in sorted(AREAS):
        rule = known.get(country)
        if rule is None:
            why = HOME_RESALE_UNKNOWN.get(country, "no source says whether the reseller accounts for electricity")
            rows.append((country, "refused", "", "", why))
        else:
            rows.append((country, _owes(rule.regime), *_span(rule.since, rule.until), rule.legal_reference))
    return rows


def _consumption(rule: ConsumptionRule) -> tuple[str, ...]:
    seller = {True: "from there", False: "from abroad", None: "any"}[rule.seller_is_local]
    buyer = {BuyerStatus.BUSINESS: "business", BuyerStatus.CONSUMER: "private", None: "any"}[rule.buyer_status]
    local = {True: " of that country", False: " from abroad", None: ""}[rule.buyer_is_local]
    return rule.area, seller, buyer + local, _owes(rule.regime), rule.legal_reference


def _examples() -> list[tuple[str, ...]]:
    pairs = (
        ("SE", "SE"),
        ("PL", "PL"),
        ("CH", "CH"),
        ("DE", "DE"),
        ("NL", "SE"),
        ("CH", "DE"),
        ("SE", "CH"),
        ("PL", "GB"),
        ("GB", "GB"),
    )
    rows: list[tuple[str, ...]] = []
    for seller, buyer in pairs:
        supply = Supply(
            seller_role=Role.CPO,
            seller_country=seller,
            buyer_role=Role.EMSP,
            buyer_status=BuyerStatus.BUSINESS,
            buyer_country=buyer,
            evse_country=seller,
            on=_EXAMPLE_DAY,
        )
        try:
            decision = tax_of(supply)
        except NoTaxRule as refusal:
            rows.append((f"CPO {seller} to MSP {buyer}", "refused", "", refusal.detail))
            continue
        outside = is_outside_scope(seller_country=seller, buyer_country=buyer)
        category = "S" if decision.percent else "O" if outside else "AE"
        rows.append((f"CPO {seller} to MSP {buyer}", _tax(decision), category, decision.legal_reference))
    for seller, evse in (("NL", "FI"), ("DE", "CH"), ("IE", "IE"), ("SE", "GB")):
        decision = tax_to_driver(seller_role=Role.EMSP, seller_country=seller, country=ALPHA_3[evse], on=_EXAMPLE_DAY)
        rows.append((f"MSP {seller} to a driver in {evse}", _tax(decision), "S", decision.legal_reference))
    return rows


def _tax(decision: TaxDecision) -> str:
    return f"{(_EXAMPLE_NET * decision.percent / 100).quantize(Decimal('0.01'))}"


if __name__ == "__main__":
    sys.stdout.write(page())
