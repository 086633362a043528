"""Tax in prices or on top of them, several taxes, none at all (OCPI 2.3.0, `tax_included` and `TaxAmount`)."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobility.domain.money import Price
from emobility.domain.tariff.priced import Limit
from emobility.domain.tariff.pricing import PricedSession, price_session
from emobility.domain.tariff.retail import NetPriceUnknown, retail_tariff, wholesale_plus_plan
from emobility.domain.tariff.selection import TAX_RATES_MAX, PriceOutOfRange, TooManyTaxRates
from emobility.domain.tariff.tariff import Tariff, TaxIncluded
from emobility.domain.tariff.taxes import Tax, TaxAmount, contained, levied, taxes_of, wrong_taxes
from emobility.domain.tariff.version import tariff_hash
from tests.domain.tariff.builders import AMSTERDAM, CPO, MONDAY, charging, component, element, minutes, tariff
from tests.domain.tariff.cases import case

QUEBEC = (Tax(name="GST", percent=Decimal(5), account_number="GST-1"), Tax(name="QST", percent=Decimal("9.975")))


def bill(charge: Tariff, wh: int = 20_000) -> PricedSession:
    return price_session(charge, [charging(MONDAY, 60, wh)], ended_at=MONDAY + minutes(60), time_zone=AMSTERDAM)


def including(*components: object, **fields: object) -> Tariff:
    return tariff(element(*components), tax_included=TaxIncluded.YES, **fields)  # type: ignore[arg-type]


def test_a_price_that_includes_tax_is_what_is_paid() -> None:
    priced = bill(including(component("ENERGY", "0.275", vat="10"), component("FLAT", "0.60", vat="20")))

    # The same as 0.25 and 0.50 before tax.
    assert (priced.total, priced.energy) == (
        Price(excl_e4=55_000, incl_e4=61_000),
        Price(excl_e4=50_000, incl_e4=55_000),
    )
    assert priced.is_net_known


def test_thirds_of_a_rate_are_exact_and_rounded_once() -> None:
    priced = bill(including(component("ENERGY", "0.10", vat="20"), component("FLAT", "0.10", vat="20")), wh=1_000)

    # 0.0833.. twice is 0.1666.., which is 0.1667 and not twice 0.0833.
    assert (priced.energy, priced.total.excl_e4) == (Price(excl_e4=833, incl_e4=1_000), 1_667)


def test_without_a_rate_the_price_before_tax_is_not_known() -> None:
    priced = bill(including(component("ENERGY", "0.30")))

    assert (priced.total.incl_e4, priced.is_net_known) == (60_000, False)


def test_where_no_tax_is_applicable_a_rate_means_nothing() -> None:
    stated, unstated = (
        tariff(element(component("ENERGY", "0.25", vat=vat)), tax_included=TaxIncluded.NOT_APPLICABLE)
        for vat in ("10", None)
    )

    assert bill(stated).total == bill(unstated).total == Price(excl_e4=50_000)
    assert taxes_of(bill(stated)) == ()
    limited = replace(stated, price_max=Price(excl_e4=90_000, incl_e4=90_000))
    assert bill(limited).total == Price(excl_e4=50_000, incl_e4=50_000)
    # Over OCPI 2.2.1, which has no such word, it stays the same version.
    assert tariff_hash(stated) == tariff_hash(unstated) == tariff_hash(replace(unstated, tax_included=TaxIncluded.NO))


def test_limits_are_before_and_after_tax_also_where_prices_include_it() -> None:
    least = Price(excl_e4=60_000, incl_e4=54_000)

    priced = bill(including(component("ENERGY", "0.275", vat="10"), price_min=least))

    assert priced.total == Price(excl_e4=60_000, incl_e4=55_000)
    assert (priced.limit_excl, priced.limit_incl) == (Limit.MINIMUM, None)


@pytest.mark.parametrize("included", [TaxIncluded.YES, TaxIncluded.NO])
def test_a_tax_that_eats_the_whole_price_is_refused(included: TaxIncluded) -> None:
    with pytest.raises(PriceOutOfRange):
        bill(tariff(element(component("ENERGY", "1", vat="-100")), tax_included=included))


def test_prices_that_include_more_rates_than_any_country_has_are_refused() -> None:
    rates = [component("FLAT", "1", vat=str(Decimal(number) / 1_000)) for number in range(TAX_RATES_MAX + 1)]

    with pytest.raises(TooManyTaxRates):
        bill(including(*rates))
    assert bill(including(*rates[1:])).total.incl_e4 == 10_000


def test_a_total_names_the_tax_of_each_rate() -> None:
    priced = bill(tariff(element(component("ENERGY", "0.25", vat="10"), component("FLAT", "0.50", vat="20.0"))))

    assert taxes_of(priced) == (
        TaxAmount(name="VAT", amount_e4=1_000, percent=Decimal(20)),
        TaxAmount(name="VAT", amount_e4=5_000, percent=Decimal(10)),
    )


@given(seed=st.integers(0, 2**40), included=st.sampled_from(TaxIncluded))
def test_taxes_add_up_to_what_lies_between_before_and_after_tax(seed: int, included: TaxIncluded) -> None:
    drawn = case(seed)
    priced = price_session(
        replace(drawn.tariff, tax_included=included),
        drawn.periods,
        ended_at=drawn.ended_at,
        time_zone=drawn.time_zone,
    )

    total = priced.total
    incl_e4 = total.excl_e4 if total.incl_e4 is None else total.incl_e4
    assert sum(tax.amount_e4 for tax in taxes_of(priced)) == incl_e4 - total.excl_e4


@given(seed=st.integers(0, 2**40))
def test_including_and_adding_tax_are_the_same_charge(seed: int) -> None:
    drawn = case(seed)
    net = replace(drawn.tariff, price_min=None, price_max=None)
    gross = replace(
        net,
        tax_included=TaxIncluded.YES,
        elements=tuple(
            replace(
                part,
                components=tuple(
                    replace(each, price=each.price * (100 + (each.vat_percent or 0)) / 100) for each in part.components
                ),
            )
            for part in net.elements
        ),
    )
    bills = [
        price_session(charge, drawn.periods, ended_at=drawn.ended_at, time_zone=drawn.time_zone)
        for charge in (net, gross)
    ]

    assert bills[0].total.excl_e4 == bills[1].total.excl_e4
    assert bills[0].total.incl_e4 in (None, bills[1].total.incl_e4)


def test_several_taxes_come_on_top_of_a_price_that_leaves_the_rate_open() -> None:
    taxes = levied(50_000, QUEBEC)

    assert [(tax.name, tax.amount_e4, tax.account_number) for tax in taxes] == [
        ("GST", 2_500, "GST-1"),
        ("QST", 4_988, None),  # 0.49875
    ]
    assert wrong_taxes(50_000, taxes) == ()
    assert wrong_taxes(50_000, (replace(taxes[0], amount_e4=2_600),)) == (replace(taxes[0], amount_e4=2_600),)


@given(incl_e4=st.integers(-(10**9), 10**9))
def test_several_taxes_are_taken_out_of_a_price_that_includes_them(incl_e4: int) -> None:
    excl_e4, taxes = contained(incl_e4, QUEBEC)

    assert excl_e4 + sum(tax.amount_e4 for tax in taxes) == incl_e4
    assert abs(Fraction(excl_e4) * Fraction("1.14975") - incl_e4) <= Fraction("0.575")
    assert wrong_taxes(excl_e4, taxes) == ()


def test_retail_is_made_from_the_price_before_tax() -> None:
    plan = wholesale_plus_plan(plan_id="P", currency="EUR", session_fee=Decimal(0))
    terms = {"emsp_id": CPO, "tariff_id": "R", "vat_percent": Decimal(21), "issued_at": MONDAY}
    gross = including(component("ENERGY", "0.275", vat="10"))

    made = retail_tariff(plan, gross, **terms)  # type: ignore[arg-type]

    assert made.elements[0].components[0].price == Decimal("0.25")
    with pytest.raises(NetPriceUnknown):
        retail_tariff(plan, including(component("ENERGY", "0.275")), **terms)  # type: ignore[arg-type]


def test_as_many_rates_as_the_bound_says_are_priced() -> None:
    def with_rates(number: int) -> Tariff:
        components = [component("FLAT", "1", vat=str(rate)) for rate in range(number)]
        return tariff(*map(element, components), tax_included=TaxIncluded.YES)

    most = price_session(with_rates(TAX_RATES_MAX), [charging(MONDAY)], ended_at=MONDAY, time_zone=AMSTERDAM)

    assert most.total.incl_e4 == 10_000
    with pytest.raises(TooManyTaxRates):
        price_session(with_rates(TAX_RATES_MAX + 1), [charging(MONDAY)], ended_at=MONDAY, time_zone=AMSTERDAM)
