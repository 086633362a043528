"""What an MSP charges its driver: a retail tariff of its own, made from a plan and, perhaps, the wholesale tariff.

The retail bill is `price_session(retail, periods)` including VAT, and so is the quote; the wholesale tariff stays
between the MSP and the CPO. Plans state net prices: the VAT is that of the place of consumption (`domain/tax.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum
from typing import Final

from emobility.domain.errors import CurrencyMismatch, MalformedInput, RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.domain.money import Price, decimal_from_e4, e4_from_decimal
from emobility.domain.session import ChargingPeriod
from emobility.domain.tariff.market import PRICE_STEP
from emobility.domain.tariff.periods import split_at_price_changes
from emobility.domain.tariff.priced import PricedSession
from emobility.domain.tariff.pricing import price_session
from emobility.domain.tariff.tariff import (
    PriceComponent,
    Tariff,
    TariffDimension,
    TariffElement,
    TariffRestrictions,
    TariffType,
    TaxIncluded,
)

_HUNDRED: Final = Decimal(100)
_UNRESTRICTED: Final = TariffRestrictions()


class NotAPlan(MalformedInput):
    """A plan states the prices of its kind and no others."""

    def __init__(self, *, plan_id: str, detail: str) -> None:
        self.plan_id = plan_id
        super().__init__(f"plan {plan_id}: {detail}")


class RestrictedFlatFee(RuleBroken):
    """A fee per session can't join a wholesale FLAT that applies only at times: OCPI charges one of the two."""

    def __init__(self, *, tariff_id: str, element_index: int) -> None:
        self.tariff_id = tariff_id
        self.element_index = element_index
        super().__init__(f"element {element_index} of tariff {tariff_id} has a FLAT with restrictions")


class NetPriceUnknown(RuleBroken):
    """A retail price is made from a net one, and a wholesale price includes tax of a rate it does not state."""

    def __init__(self, *, tariff_id: str, element_index: int) -> None:
        self.tariff_id = tariff_id
        self.element_index = element_index
        super().__init__(f"element {element_index} of tariff {tariff_id} includes tax of an unknown rate")


class NotAnEstimate(MalformedInput):
    """An estimate needs power and a connection time above zero, and no negative energy."""

    def __init__(self, *, energy_wh: int, power_w: int, connection_s: int) -> None:
        self.energy_wh = energy_wh
        self.power_w = power_w
        self.connection_s = connection_s
        super().__init__(f"{energy_wh} Wh at {power_w} W in {connection_s} s is no charge to estimate")


class PlanKind(StrEnum):
    """How a plan makes a retail price."""

    WHOLESALE_PLUS = "WHOLESALE_PLUS"
    """The wholesale prices plus a percentage (to four decimals)."""
    FLAT_PER_KWH = "FLAT_PER_KWH"
    """One price per kWh wherever the driver charges."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetailPlan:
    """What a driver signed up for; every price is net and in `currency`.

    One class for all kinds, so that it can be stored and sent as it is; `wholesale_plus_plan` and `flat_per_kwh_plan`
    write the two down.

    Attributes:
        plan_id: Names the plan at its MSP.
        currency: ISO 4217.
        kind: Which of the prices below count.
        session_fee: Once per session.
        markup_percent: WHOLESALE_PLUS only; of the price's size, so it never makes a negative price more generous.
        price_per_kwh: FLAT_PER_KWH only, and needed there.
    """

    plan_id: str
    currency: str
    kind: PlanKind
    session_fee: Decimal = Decimal(0)
    markup_percent: Decimal = Decimal(0)
    price_per_kwh: Decimal | None = None

    def __post_init__(self) -> None:
        if (self.kind is PlanKind.FLAT_PER_KWH) != (self.price_per_kwh is not None):
            raise NotAPlan(plan_id=self.plan_id, detail="a price per kWh belongs to FLAT_PER_KWH, and only there")
        if self.kind is PlanKind.FLAT_PER_KWH and self.markup_percent:
            raise NotAPlan(plan_id=self.plan_id, detail="a mark-up belongs to WHOLESALE_PLUS")


def wholesale_plus_plan(
    *, plan_id: str, currency: str, session_fee: Decimal, markup_percent: Decimal = Decimal(0)
) -> RetailPlan:
    """Return a plan of wholesale prices plus a percentage, and a fee per session."""
    return RetailPlan(
        plan_id=plan_id,
        currency=currency,
        kind=PlanKind.WHOLESALE_PLUS,
        session_fee=session_fee,
        markup_percent=markup_percent,
    )


def flat_per_kwh_plan(
    *, plan_id: str, currency: str, price_per_kwh: Decimal, session_fee: Decimal = Decimal(0)
) -> RetailPlan:
    """Return a plan of one price per kWh, and perhaps a fee per session."""
    return RetailPlan(
        plan_id=plan_id,
        currency=currency,
        kind=PlanKind.FLAT_PER_KWH,
        session_fee=session_fee,
        price_per_kwh=price_per_kwh,
    )


def retail_tariff(
    plan: RetailPlan,
    wholesale: Tariff,
    *,
    emsp_id: PartyId,
    tariff_id: str,
    vat_percent: Decimal,
    issued_at: datetime,
    roaming_fee_e4: int = 0,
) -> Tariff:
    """Return the tariff a driver pays under `plan` where the CPO asks for `wholesale`.

    Args:
        plan: The driver's plan.
        wholesale: What the agreement assigns; taken net, whatever tax it states.
        emsp_id: The MSP, who owns the retail tariff.
        tariff_id: Its id, at most 36 characters.
        vat_percent: VAT of the place of consumption.
        issued_at: Its `last_updated`.
        roaming_fee_e4: The agreement's fee per session, added to the plan's own.

    Raises:
        CurrencyMismatch: the plan is in another currency than the wholesale tariff.
        RestrictedFlatFee: the plan's fee would hide a wholesale FLAT, or the other way round.
        NetPriceUnknown: the wholesale price includes a tax of unstated rate.
    """
    if plan.currency != wholesale.currency:
        raise CurrencyMismatch(expected=plan.currency, found=wholesale.currency)
    fee = plan.session_fee + decimal_from_e4(roaming_fee_e4)
    if plan.price_per_kwh is not None:
        elements = _flat_elements(plan.price_per_kwh, fee, vat_percent)
        price_min, price_max = None, None
    else:
        terms = _Terms(markup_percent=plan.markup_percent, fee=fee, vat_percent=vat_percent)
        elements = terms.elements(wholesale)
        price_min, price_max = terms.limit(wholesale.price_min), terms.limit(wholesale.price_max)
    return Tariff(
        party_id=emsp_id,
        tariff_id=tariff_id,
        currency=wholesale.currency,
        elements=elements,
        last_updated=issued_at,
        tariff_type=TariffType.REGULAR,
        price_min=price_min,
        price_max=price_max,
    )


def quote_estimate(
    tariff: Tariff, *, started_at: datetime, energy_wh: int, power_w: int, connection_s: int, time_zone: str
) -> PricedSession:
    """Price a charge that has not happened: even power from the start until the energy is in, then parking.

    Args:
        tariff: The tariff the quote freezes.
        started_at: When it would start.
        energy_wh: What the driver wants; less is delivered when the connection is too short for it.
        power_w: Power the vehicle would take.
        connection_s: How long it would stay connected.
        time_zone: IANA zone of the location.

    Raises:
        NotAnEstimate: a number makes no sense.
    """
    if energy_wh < 0 or power_w <= 0 or connection_s <= 0:
        raise NotAnEstimate(energy_wh=energy_wh, power_w=power_w, connection_s=connection_s)
    charging_s = min(-(-energy_wh * 3_600 // power_w), connection_s)
    delivered_wh = min(energy_wh, power_w * charging_s // 3_600)
    ended_at = started_at + timedelta(seconds=connection_s)
    periods = [
        ChargingPeriod(
            started_at=started_at,
            energy_import_wh=delivered_wh,
            charging_s=charging_s,
            parking_s=0,
            power_w_min=power_w,
            power_w_max=power_w,
        )
    ]
    if charging_s < connection_s:
        parked = ChargingPeriod(
            started_at=started_at + timedelta(seconds=charging_s),
            energy_import_wh=0,
            charging_s=0,
            parking_s=connection_s - charging_s,
        )
        periods = [*periods, parked] if charging_s else [parked]
    cut = split_at_price_changes(tariff, periods, ended_at=ended_at, time_zone=time_zone)
    return price_session(tariff, cut, ended_at=ended_at, time_zone=time_zone)


def _flat_elements(price_per_kwh: Decimal, fee: Decimal, vat_percent: Decimal) -> tuple[TariffElement, ...]:
    components = [
        PriceComponent(dimension=TariffDimension.ENERGY, price=price_per_kwh, vat_percent=vat_percent),
        PriceComponent(dimension=TariffDimension.FLAT, price=fee, vat_percent=vat_percent),
    ]
    return (TariffElement(components=tuple(components if fee else components[:1])),)


def _net_price(wholesale: Tariff, element_index: int, component: PriceComponent) -> Decimal:
    """The price before tax, to four decimals where tax had to be taken out of it."""
    if wholesale.tax_included is not TaxIncluded.YES or not component.price:
        return component.price
    if component.vat_percent is None:
        raise NetPriceUnknown(tariff_id=wholesale.tariff_id, element_index=element_index)
    net = component.price * _HUNDRED / (_HUNDRED + component.vat_percent)
    return net.quantize(PRICE_STEP, rounding=ROUND_HALF_UP)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Terms:
    """How a plan of wholesale plus turns a wholesale price into a retail one."""

    markup_percent: Decimal
    fee: Decimal
    vat_percent: Decimal

    def elements(self, wholesale: Tariff) -> tuple[TariffElement, ...]:
        """The wholesale elements at retail prices, with the fee in whatever FLAT a session meets."""
        elements = [self._element(wholesale, index) for index in range(len(wholesale.elements))]
        if self.fee:
            fee = PriceComponent(dimension=TariffDimension.FLAT, price=self.fee, vat_percent=self.vat_percent)
            elements.append(TariffElement(components=(fee,)))
        return tuple(elements)

    def _element(self, wholesale: Tariff, index: int) -> TariffElement:
        element = wholesale.elements[index]
        components = []
        for component in element.components:
            price = self._marked_up(_net_price(wholesale, index, component))
            if component.dimension is TariffDimension.FLAT and element.restrictions.reservation is None and self.fee:
                if element.restrictions != _UNRESTRICTED:
                    raise RestrictedFlatFee(tariff_id=wholesale.tariff_id, element_index=index)
                price += self.fee
            components.append(replace(component, price=price, vat_percent=self.vat_percent))
        return replace(element, components=tuple(components))

    def limit(self, limit: Price | None) -> Price | None:
        """A limit of the wholesale total, marked up like everything it limits."""
        if limit is None:
            return None
        excl = self._marked_up(decimal_from_e4(limit.excl_e4)) + self.fee
        incl = excl * (_HUNDRED + self.vat_percent) / _HUNDRED
        return Price(excl_e4=e4_from_decimal(excl), incl_e4=e4_from_decimal(incl))

    def _marked_up(self, price: Decimal) -> Decimal:
        marked_up = price + abs(price) * self.markup_percent / _HUNDRED
        return marked_up if not self.markup_percent else marked_up.quantize(PRICE_STEP, rounding=ROUND_HALF_UP)
