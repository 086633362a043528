"""Between the domain's tariffs and CDRs and those of OCPI 2.3.0: `mapping` for what 2.3.0 says otherwise.

2.3.0 states a price before taxes and each tax on it, none after them. Going out, the tax of a total is named rate by
rate as its tariffs have it, or as the CDR names it; that of a part is one tax. Coming in, the price after tax is the
price before it and all its taxes; the names are kept for the total alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from emobility.domain.cdr import CDR
from emobility.domain.errors import EmobilityError
from emobility.domain.money import Price, decimal_from_e4, e4_from_decimal
from emobility.domain.session import SessionToken
from emobility.domain.tariff.pricing import price_session_by_several
from emobility.domain.tariff.rounding import rounding_policy
from emobility.domain.tariff.tariff import Tariff, TaxIncluded
from emobility.domain.tariff.taxes import VAT, TaxAmount, taxes_within
from emobility.domain.token import TokenType
from emobility.ports.vault import Vault
from emobility.protocols.ocpi import v221, v230
from emobility.protocols.ocpi.mapping import (
    COSTS,
    NotInOurWords,
    cdr_fields,
    cdr_from_fields,
    element_from_ocpi,
    element_to_ocpi,
    session_token_from_ocpi,
    session_token_to_ocpi,
)


def price_to_ocpi(price: Price, taxes: Sequence[TaxAmount] = ()) -> v230.Price:
    """Return an amount with its taxes; without any named, what lies between before and after tax is one VAT."""
    tax_e4 = 0 if price.incl_e4 is None else price.incl_e4 - price.excl_e4
    named = list(taxes)
    if sum(tax.amount_e4 for tax in named) != tax_e4 and price.incl_e4 is not None:
        named = [TaxAmount(name=VAT, amount_e4=tax_e4)]
    elif not named and price.incl_e4 is not None:
        named = [TaxAmount(name=VAT, amount_e4=0)]
    return v230.Price(
        before_taxes=decimal_from_e4(price.excl_e4),
        taxes=[
            v230.TaxAmount(
                name=tax.name,
                account_number=tax.account_number,
                percentage=tax.percent,
                amount=decimal_from_e4(tax.amount_e4),
            )
            for tax in named
        ],
    )


def price_from_ocpi(price: v230.Price) -> Price:
    """Return an amount in ten-thousandths; without a tax named, none is stated."""
    excl_e4 = e4_from_decimal(price.before_taxes)
    if not price.taxes:
        return Price(excl_e4=excl_e4)
    return Price(excl_e4=excl_e4, incl_e4=excl_e4 + sum(tax.amount_e4 for tax in taxes_from_ocpi(price)))


def taxes_from_ocpi(price: v230.Price) -> tuple[TaxAmount, ...]:
    """Return the taxes of an amount by name."""
    return tuple(
        TaxAmount(
            name=tax.name,
            amount_e4=e4_from_decimal(tax.amount),
            percent=tax.percentage,
            account_number=tax.account_number,
        )
        for tax in price.taxes
    )


def tariff_to_ocpi(tariff: Tariff) -> v230.Tariff:
    """Return a tariff; its hash survives."""
    return v230.Tariff(
        country_code=tariff.party_id.country_code,
        party_id=tariff.party_id.party_id,
        id=tariff.tariff_id,
        currency=tariff.currency,
        type=tariff.tariff_type,
        tariff_alt_text=[v221.DisplayText(language="en", text=tariff.text_en)] if tariff.text_en else [],
        min_price=_limit_to_ocpi(tariff.price_min),
        max_price=_limit_to_ocpi(tariff.price_max),
        elements=[element_to_ocpi(tariff, element) for element in tariff.elements],
        tax_included=v230.TaxIncluded(tariff.tax_included.value),
        start_date_time=tariff.valid_from,
        end_date_time=tariff.valid_until,
        last_updated=tariff.last_updated,
    )


def tariff_from_ocpi(tariff: v230.Tariff) -> Tariff:
    """Return a tariff; its hash survives. Raises `NotInOurWords`."""
    english = next((text.text for text in tariff.tariff_alt_text if text.language.lower() == "en"), None)
    return Tariff(
        party_id=tariff.owner,
        tariff_id=tariff.id,
        currency=tariff.currency,
        elements=tuple(element_from_ocpi(element) for element in tariff.elements),
        last_updated=tariff.last_updated,
        tariff_type=tariff.type,
        price_min=_limit_from_ocpi(tariff.min_price),
        price_max=_limit_from_ocpi(tariff.max_price),
        valid_from=tariff.start_date_time,
        valid_until=tariff.end_date_time,
        text_en=english,
        tax_included=TaxIncluded(tariff.tax_included.value),
    )


def _limit_to_ocpi(limit: Price | None) -> v230.PriceLimit | None:
    if limit is None:
        return None
    after = None if limit.incl_e4 is None else decimal_from_e4(limit.incl_e4)
    return v230.PriceLimit(before_taxes=decimal_from_e4(limit.excl_e4), after_taxes=after)


def _limit_from_ocpi(limit: v230.PriceLimit | None) -> Price | None:
    if limit is None:
        return None
    after = None if limit.after_taxes is None else e4_from_decimal(limit.after_taxes)
    return Price(excl_e4=e4_from_decimal(limit.before_taxes), incl_e4=after)


async def cdr_to_ocpi(cdr: CDR, vault: Vault) -> v230.CDR:
    """Return a CDR with its token and signed records open. Raises `SubjectErased`."""
    costs: dict[str, Any] = {name: _maybe_price_to_ocpi(getattr(cdr, name)) for name in COSTS}
    costs["total_cost"] = price_to_ocpi(cdr.total_cost, cdr.taxes or _taxes_by_rate(cdr))
    token = await session_token_to_ocpi(cdr.token, vault)
    return v230.CDR(
        **msgspec.structs.asdict(await cdr_fields(cdr, vault)),
        cdr_token=v230.CdrToken(**(msgspec.structs.asdict(token) | {"type": token.type.value})),
        tariffs=[tariff_to_ocpi(tariff) for tariff in cdr.tariffs],
        **costs,
    )


async def cdr_from_ocpi(cdr: v230.CDR, vault: Vault, *, time_zone: str) -> CDR:
    """Return a CDR, sealed, with the taxes of its total by name. Arguments and errors as `mapping.cdr_from_ocpi`."""
    return await cdr_from_fields(
        cdr,
        vault,
        time_zone=time_zone,
        token=await _token_from_ocpi(cdr.cdr_token, vault),
        tariffs=[tariff_from_ocpi(tariff) for tariff in cdr.tariffs],
        costs={name: _maybe_price_from_ocpi(getattr(cdr, name)) for name in COSTS},
        taxes=taxes_from_ocpi(cdr.total_cost),
    )


def _taxes_by_rate(cdr: CDR) -> tuple[TaxAmount, ...]:
    """The taxes in the total as the tariffs' own rates make them up; none where it can't be priced again."""
    try:
        priced = price_session_by_several(
            cdr.tariffs,
            cdr.periods,
            ended_at=cdr.ended_at,
            time_zone=cdr.location.time_zone,
            rounding=rounding_policy(cdr.rounding_policy),
        )
    except EmobilityError:
        return ()
    return taxes_within(cdr.total_cost, priced.lines)


async def _token_from_ocpi(token: v230.CdrToken, vault: Vault) -> SessionToken:
    try:
        # An EMAID is what a vehicle presents; 2.2.1, whose kinds ours are, calls it OTHER.
        token_type = TokenType.OTHER if token.type == "EMAID" else TokenType(token.type)
    except ValueError as error:
        raise NotInOurWords(f"a token of type {token.type}") from error
    fields = msgspec.structs.asdict(token) | {"type": token_type}
    return await session_token_from_ocpi(v221.CdrToken(**fields), vault)


def _maybe_price_to_ocpi(price: Price | None) -> v230.Price | None:
    return None if price is None else price_to_ocpi(price)


def _maybe_price_from_ocpi(price: v230.Price | None) -> Price | None:
    return None if price is None else price_from_ocpi(price)
