"""Why a CDR states another amount than its own periods and tariff give, in a form that machines can act on.

OCPI has no amounts per period, so the difference of a part (energy, time, ...) is explained by trying the mistakes
that are made in the field, one at a time: whichever gives the stated amount to the ten-thousandth is named, with the
period and the element it was made in where it was made in one. What no mistake gives stays unexplained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from itertools import islice
from typing import Final

from emobility.domain.cdr import CDR
from emobility.domain.errors import EmobilityError
from emobility.domain.money import Price
from emobility.domain.session import ChargingPeriod
from emobility.domain.tariff.priced import PricedLine, PricedSession
from emobility.domain.tariff.pricing import price_session_by_several
from emobility.domain.tariff.rounding import (
    EXACT,
    POLICIES,
    RoundingMode,
    RoundingPolicy,
    RoundingPolicyName,
    rounded_e4,
)
from emobility.domain.tariff.tariff import PriceComponent, Tariff, TariffDimension, TaxIncluded

SUBSTITUTIONS_MAX: Final = 2_000
"""Prices of other elements that are tried in single periods of a part."""


class CostPart(StrEnum):
    """An amount that a CDR states: `total_cost`, `total_energy_cost` and so on."""

    TOTAL = "TOTAL"
    ENERGY = "ENERGY"
    TIME = "TIME"
    PARKING_TIME = "PARKING_TIME"
    FLAT = "FLAT"
    RESERVATION = "RESERVATION"


class DifferenceCause(StrEnum):
    """The mistake that gives exactly the stated amount."""

    NOTHING_CHARGED = "NOTHING_CHARGED"
    SIGN_TURNED = "SIGN_TURNED"
    TAX_MISTAKEN = "TAX_MISTAKEN"
    """The price before tax stands for the one after it, or the other way round."""
    LIMIT_IGNORED = "LIMIT_IGNORED"
    STEP_IGNORED = "STEP_IGNORED"
    STEP_PER_PERIOD = "STEP_PER_PERIOD"
    STEP_ON_CHARGING_TIME = "STEP_ON_CHARGING_TIME"
    """The time of charging was rounded up though parking was charged after it."""
    FLAT_PER_PERIOD = "FLAT_PER_PERIOD"
    FEED_IN_IGNORED = "FEED_IN_IGNORED"
    CLOCK_NOT_LOCAL = "CLOCK_NOT_LOCAL"
    """Restrictions were read in UTC, not in the time zone of the location."""
    ROUNDED_OTHERWISE = "ROUNDED_OTHERWISE"
    OTHER_ELEMENT = "OTHER_ELEMENT"
    """The element charged by another's price, in one period or in all it was active in."""
    PERIOD_LEFT_OUT = "PERIOD_LEFT_OUT"
    PERIOD_CHARGED_TWICE = "PERIOD_CHARGED_TWICE"
    PARTS_DIFFER = "PARTS_DIFFER"
    """The total is off by as much as its parts together."""
    UNEXPLAINED = "UNEXPLAINED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """An amount of a CDR that is not what pricing gives, in ten-thousandths of its currency.

    Attributes:
        part: Which of the CDR's amounts.
        is_after_tax: Whether it is the amount after tax.
        cause: The mistake that gives `stated_e4`.
        period_index: The one period it was made in, from 0; None: several, or unknown.
        dimension: What was charged for; None: the total.
        element_index: The element of the tariff that prices the period or the part; None: several.
        other_element_index: OTHER_ELEMENT: whose price was taken instead.
        rounding_policy: ROUNDED_OTHERWISE: the policy that gives `stated_e4`.
    """

    part: CostPart
    is_after_tax: bool
    cause: DifferenceCause
    expected_e4: int
    stated_e4: int
    period_index: int | None = None
    dimension: TariffDimension | None = None
    element_index: int | None = None
    other_element_index: int | None = None
    rounding_policy: RoundingPolicyName | None = None

    @property
    def difference_e4(self) -> int:
        """What the CDR states too much; negative: too little."""
        return self.stated_e4 - self.expected_e4


def explain_difference(
    cdr: CDR, priced: PricedSession, *, tariffs: Sequence[Tariff] = (), rounding: RoundingPolicy = EXACT
) -> tuple[Difference, ...]:
    """Return each amount of a CDR that differs from its re-pricing, parts first, with the mistake that explains it.

    An amount that the CDR does not state is not compared, nor one that pricing can't know: after tax where the tariff
    leaves the rate open and the document names its taxes, before tax where prices include a tax of unstated rate.

    Args:
        cdr: The document; no credit.
        priced: Its periods priced again.
        tariffs: Those that priced them, if not the CDR's own.
        rounding: What the parties agreed on.
    """
    search = _Search(cdr, priced, tuple(tariffs) or cdr.tariffs, rounding)
    return tuple(search.differences())


def _amounts(cdr: CDR, priced: PricedSession) -> Iterator[tuple[CostPart, bool, int, int]]:
    """Yield each comparable amount, parts first: its name, whether it is after tax, expected, stated."""
    for part, ours, theirs in _parts(cdr, priced):
        if theirs is None:
            continue
        expected = ours or Price(excl_e4=0)
        if priced.is_net_known:
            yield part, False, expected.excl_e4, theirs.excl_e4
        is_left_open = expected.incl_e4 is None and cdr.taxes and cdr.tariff.tax_included is TaxIncluded.NO
        if theirs.incl_e4 is not None and not is_left_open:
            # A tariff that speaks of no tax bears none: its price after tax is its price.
            incl_e4 = expected.excl_e4 if expected.incl_e4 is None else expected.incl_e4
            yield part, True, incl_e4, theirs.incl_e4


def _parts(cdr: CDR, priced: PricedSession) -> tuple[tuple[CostPart, Price | None, Price | None], ...]:
    return (
        (CostPart.ENERGY, priced.energy, cdr.total_energy_cost),
        (CostPart.TIME, priced.time, cdr.total_time_cost),
        (CostPart.PARKING_TIME, priced.parking, cdr.total_parking_cost),
        (CostPart.FLAT, priced.fixed, cdr.total_fixed_cost),
        (CostPart.RESERVATION, priced.reservation, cdr.total_reservation_cost),
        (CostPart.TOTAL, priced.total, cdr.total_cost),
    )


_Found = tuple[DifferenceCause, dict[str, object]]


class _Search:
    """The mistakes, tried on one CDR; what does not depend on the amount is computed once."""

    def __init__(self, cdr: CDR, priced: PricedSession, tariffs: tuple[Tariff, ...], rounding: RoundingPolicy) -> None:
        self._cdr = cdr
        self._priced = priced
        self._tariffs = tariffs
        self._rounding = rounding
        self._periods = sorted(cdr.periods, key=lambda period: period.started_at)
        self._repriced: dict[DifferenceCause, PricedSession | None] = {}

    def differences(self) -> Iterator[Difference]:
        found: list[Difference] = []
        for part, is_after_tax, expected_e4, stated_e4 in _amounts(self._cdr, self._priced):
            if expected_e4 == stated_e4:
                continue
            of_parts = [each for each in found if each.is_after_tax is is_after_tax]
            off_e4 = sum(each.difference_e4 for each in of_parts)
            if part is CostPart.TOTAL and of_parts and off_e4 == stated_e4 - expected_e4:
                cause, where = self._of_parts(of_parts)
            else:
                cause, where = self._explain(part, is_after_tax=is_after_tax, stated_e4=stated_e4)
            terms: dict[str, object] = self._place(part) | where
            difference = Difference(
                part=part,
                is_after_tax=is_after_tax,
                cause=cause,
                expected_e4=expected_e4,
                stated_e4=stated_e4,
                **terms,  # type: ignore[arg-type]  # the names of its fields, each with its own type
            )
            found.append(difference)
            yield difference

    def _of_parts(self, of_parts: list[Difference]) -> _Found:
        if len(of_parts) == 1:
            only = of_parts[0]
            names = ("period_index", "dimension", "element_index", "other_element_index", "rounding_policy")
            return only.cause, {name: getattr(only, name) for name in names}
        return DifferenceCause.PARTS_DIFFER, {}

    def _place(self, part: CostPart) -> dict[str, object]:
        """The dimension, and the one element or period where the part has but one."""
        lines = self._lines(part)
        dimensions = {line.dimension for line in lines}
        elements = {line.element_index for line in lines}
        indices = {index for line in lines for index in line.period_indices}
        is_whole = part is CostPart.TOTAL
        return {
            "dimension": None if is_whole or len(dimensions) != 1 else next(iter(dimensions)),
            "element_index": next(iter(elements)) if len(elements) == 1 else None,
            "period_index": next(iter(indices)) if len(indices) == 1 else None,
        }

    def _lines(self, part: CostPart) -> list[PricedLine]:
        if part is CostPart.TOTAL:
            return list(self._priced.lines)
        if part is CostPart.RESERVATION:
            return [line for line in self._priced.lines if line.is_reservation]
        return [line for line in self._priced.lines if not line.is_reservation and line.dimension == part.value]

    def _explain(self, part: CostPart, *, is_after_tax: bool, stated_e4: int) -> _Found:
        own = _of_part(self._priced, part)
        for cause, amount in (
            (DifferenceCause.NOTHING_CHARGED, 0),
            (DifferenceCause.SIGN_TURNED, -_side(own, is_after_tax=is_after_tax)),
            (DifferenceCause.TAX_MISTAKEN, _side(own, is_after_tax=not is_after_tax)),
        ):
            if amount == stated_e4:
                return cause, {}
        for cause in _WHOLE_SESSION:
            again = self._again(cause)
            if again is not None and _side(_of_part(again, part), is_after_tax=is_after_tax) == stated_e4:
                return cause, {}
        for name, policy in POLICIES.items():
            again = self._price(self._tariffs, self._periods, rounding=policy)
            if again is not None and _side(_of_part(again, part), is_after_tax=is_after_tax) == stated_e4:
                return DifferenceCause.ROUNDED_OTHERWISE, {"rounding_policy": name}
        substitutions = islice(self._substitutions(part, is_after_tax=is_after_tax), SUBSTITUTIONS_MAX)
        exact = sum((_exact(line, is_after_tax=is_after_tax) for line in self._lines(part)), start=Fraction(0))
        for cause, where, change in substitutions:
            if rounded_e4(exact + change, 1, RoundingMode.HALF_UP) == stated_e4:
                return cause, where
        return DifferenceCause.UNEXPLAINED, {}

    def _again(self, cause: DifferenceCause) -> PricedSession | None:
        """The session priced with the mistake, once."""
        if cause not in self._repriced:
            self._repriced[cause] = self._mistaken(cause)
        return self._repriced[cause]

    def _mistaken(self, cause: DifferenceCause) -> PricedSession | None:
        tariffs, periods = self._tariffs, self._periods
        stepless = tuple(_with_components(tariff, _without_step) for tariff in tariffs)
        if cause is DifferenceCause.LIMIT_IGNORED:
            return self._price([replace(tariff, price_min=None, price_max=None) for tariff in tariffs], periods)
        if cause is DifferenceCause.STEP_IGNORED:
            return self._price(stepless, periods)
        if cause is DifferenceCause.STEP_PER_PERIOD:
            return self._price(stepless, self._stepped())
        if cause is DifferenceCause.STEP_ON_CHARGING_TIME:
            only_time = tuple(
                _with_components(tariff, _without_step, of=TariffDimension.PARKING_TIME) for tariff in tariffs
            )
            return self._price(only_time, self._charging_time_rounded())
        if cause is DifferenceCause.FEED_IN_IGNORED:
            return self._price(tariffs, [replace(period, energy_export_wh=0) for period in periods])
        if cause is DifferenceCause.CLOCK_NOT_LOCAL:
            return self._price(tariffs, periods, time_zone="UTC")
        priced = self._price(tariffs, periods)
        if priced is None or priced.fixed is None:
            return None
        # FLAT_PER_PERIOD
        times = sum(1 for period in periods if not period.reserved_s)
        fee = replace(priced.fixed, excl_e4=priced.fixed.excl_e4 * times, incl_e4=_times(priced.fixed.incl_e4, times))
        more = Price(
            excl_e4=priced.total.excl_e4 + fee.excl_e4 - priced.fixed.excl_e4,
            incl_e4=None
            if priced.total.incl_e4 is None
            else priced.total.incl_e4 + (fee.incl_e4 or 0) - (priced.fixed.incl_e4 or 0),
        )
        return replace(priced, fixed=fee, total=more)

    def _price(
        self,
        tariffs: Sequence[Tariff],
        periods: Sequence[ChargingPeriod],
        *,
        time_zone: str | None = None,
        rounding: RoundingPolicy | None = None,
    ) -> PricedSession | None:
        try:
            return price_session_by_several(
                tariffs,
                periods,
                ended_at=self._cdr.ended_at,
                time_zone=time_zone or self._cdr.location.time_zone,
                rounding=rounding or self._rounding,
            )
        except EmobilityError:
            return None

    def _stepped(self) -> list[ChargingPeriod]:
        """The periods with each quantity rounded up by the step of the element that prices it."""
        periods = list(self._periods)
        for line in self._priced.lines:
            step = self._component(line).step_size
            for index in line.period_indices if step > 1 else ():
                periods[index] = _rounded_up(periods[index], line, step)
        return periods

    def _charging_time_rounded(self) -> list[ChargingPeriod]:
        lines = [line for line in self._lines(CostPart.TIME) if self._component(line).step_size > 1]
        if not lines:
            return list(self._periods)
        last = max(lines, key=lambda line: line.period_indices[-1])
        total_s = sum(int(line.quantity) for line in self._lines(CostPart.TIME))
        periods, index = list(self._periods), last.period_indices[-1]
        more_s = -total_s % self._component(last).step_size
        periods[index] = replace(periods[index], charging_s=periods[index].charging_s + more_s)
        return periods

    def _component(self, line: PricedLine) -> PriceComponent:
        tariff = next(each for each in self._tariffs if each.tariff_id == line.tariff_id)
        components = tariff.elements[line.element_index].components
        return next(each for each in components if each.dimension is line.dimension)

    def _substitutions(
        self, part: CostPart, *, is_after_tax: bool
    ) -> Iterator[tuple[DifferenceCause, dict[str, object], Fraction]]:
        """Yield single changes of the part's exact amount, from the whole lines down to single periods."""
        for line in self._lines(part):
            others = [*self._other_components(line)]
            for index, component in others:
                change = _unit_change(line, component, is_after_tax=is_after_tax) * line.billed_quantity
                yield DifferenceCause.OTHER_ELEMENT, _where(line, None, index), change
            unit = _unit_price(line, is_after_tax=is_after_tax)
            for at in line.period_indices:
                quantity = _quantity(self._periods[at], line)
                yield DifferenceCause.PERIOD_LEFT_OUT, _where(line, at, None), -unit * quantity
                yield DifferenceCause.PERIOD_CHARGED_TWICE, _where(line, at, None), unit * quantity
                for index, component in others:
                    change = _unit_change(line, component, is_after_tax=is_after_tax) * quantity
                    yield DifferenceCause.OTHER_ELEMENT, _where(line, at, index), change

    def _other_components(self, line: PricedLine) -> Iterable[tuple[int, PriceComponent]]:
        tariff = next(each for each in self._tariffs if each.tariff_id == line.tariff_id)
        for index, element in enumerate(tariff.elements):
            for component in element.components:
                if component.dimension is line.dimension and index != line.element_index:
                    yield index, component


_WHOLE_SESSION: Final = (
    DifferenceCause.LIMIT_IGNORED,
    DifferenceCause.STEP_IGNORED,
    DifferenceCause.STEP_PER_PERIOD,
    DifferenceCause.STEP_ON_CHARGING_TIME,
    DifferenceCause.FLAT_PER_PERIOD,
    DifferenceCause.FEED_IN_IGNORED,
    DifferenceCause.CLOCK_NOT_LOCAL,
)


def _of_part(priced: PricedSession, part: CostPart) -> Price:
    prices = {
        CostPart.TOTAL: priced.total,
        CostPart.ENERGY: priced.energy,
        CostPart.TIME: priced.time,
        CostPart.PARKING_TIME: priced.parking,
        CostPart.FLAT: priced.fixed,
        CostPart.RESERVATION: priced.reservation,
    }
    return prices[part] or Price(excl_e4=0)


def _side(price: Price, *, is_after_tax: bool) -> int:
    return price.incl_e4 if is_after_tax and price.incl_e4 is not None else price.excl_e4


def _exact(line: PricedLine, *, is_after_tax: bool) -> Fraction:
    return line.incl if is_after_tax else line.excl


def _unit_price(line: PricedLine, *, is_after_tax: bool) -> Fraction:
    """The exact price of a Wh, a second or one fee of the line."""
    return _exact(replace(line, billed_quantity=1), is_after_tax=is_after_tax)


def _unit_change(line: PricedLine, component: PriceComponent, *, is_after_tax: bool) -> Fraction:
    other = replace(line, price=component.price, vat_percent=component.vat_percent)
    return _unit_price(other, is_after_tax=is_after_tax) - _unit_price(line, is_after_tax=is_after_tax)


def _where(line: PricedLine, period_index: int | None, other_element_index: int | None) -> dict[str, object]:
    return {
        "dimension": line.dimension,
        "element_index": line.element_index,
        "period_index": period_index,
        "other_element_index": other_element_index,
    }


def _quantity(period: ChargingPeriod, line: PricedLine) -> int | Fraction:
    if line.dimension is TariffDimension.ENERGY:
        return period.net_wh
    if line.dimension is TariffDimension.TIME:
        return period.reserved_s if line.is_reservation else period.charging_s
    return period.parking_s if line.dimension is TariffDimension.PARKING_TIME else 1


def _rounded_up(period: ChargingPeriod, line: PricedLine, step: int) -> ChargingPeriod:
    if line.dimension is TariffDimension.ENERGY:
        stepped_wh = int(period.net_wh + -period.net_wh % step)
        return replace(period, energy_import_wh=period.energy_export_wh + stepped_wh, energy_rest_wh=None)
    more = int(-_quantity(period, line) % step)
    if line.dimension is TariffDimension.PARKING_TIME:
        return replace(period, parking_s=period.parking_s + more)
    if line.dimension is TariffDimension.TIME and line.is_reservation:
        return replace(period, reserved_s=period.reserved_s + more)
    return replace(period, charging_s=period.charging_s + more) if line.dimension is TariffDimension.TIME else period


def _with_components(
    tariff: Tariff, change: Callable[[PriceComponent], PriceComponent], *, of: TariffDimension | None = None
) -> Tariff:
    elements = tuple(
        replace(
            element,
            components=tuple(change(each) if of in (None, each.dimension) else each for each in element.components),
        )
        for element in tariff.elements
    )
    return replace(tariff, elements=elements)


def _without_step(component: PriceComponent) -> PriceComponent:
    return replace(component, step_size=1)


def _times(amount_e4: int | None, times: int) -> int | None:
    return None if amount_e4 is None else amount_e4 * times
