"""A second pricer, by brute force: every second of a session is looked at, and charged for by itself.

Written from the text alone (OCPI 2.2.1 and 2.3.0, mod_tariffs and mod_cdrs), without the engine's ideas: no compiled
tariffs, no stretches of time, no integers over a denominator. It is slow, and as plain as the rules. What a period
states is spread evenly over its seconds; a second is decided by what holds as it begins. So a period that spans a price
change, which the text forbids (mod_cdrs, "ChargingPeriod"), is charged by the second here, by its start in the engine.

Where the text is silent, `READING` in a comment says which way this went.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from math import ceil
from typing import Final
from zoneinfo import ZoneInfo

from emobility.domain.session import ChargingPeriod
from emobility.domain.tariff.tariff import (
    DayOfWeek,
    PriceComponent,
    Reservation,
    Tariff,
    TariffDimension,
    TariffElement,
    TariffRestrictions,
    TaxIncluded,
)

ONE_SECOND: Final = timedelta(seconds=1)
DAYS: Final = tuple(DayOfWeek)
WH_PER_KWH: Final = 1_000
SECONDS_PER_HOUR: Final = 3_600


class Part(StrEnum):
    """What a CDR has a total for (mod_cdrs, CDR object); named as the fields of `PricedSession`."""

    ENERGY = "energy"
    TIME = "time"
    PARKING = "parking"
    FIXED = "fixed"
    RESERVATION = "reservation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Second:
    """One second of a session (or the one moment of a period that lasts none).

    Attributes:
        local: When it begins, on the clock of the location.
        lasted_s: How long the session had lasted as it began, or in a reservation, that.
        used_wh: Net energy of the session as it began.
        count: How many seconds its period has, over which what it states is spread evenly.
    """

    tariff: Tariff | None
    period: ChargingPeriod
    local: datetime
    is_reserved: bool
    lasted_s: int
    used_wh: Fraction
    count: int

    @property
    def energy_wh(self) -> Fraction:
        """Net energy of this second; below zero where the vehicle fed in (mod_cdrs, CdrDimensionType, ENERGY)."""
        period = self.period
        return (period.energy_import_wh - period.energy_export_wh + Fraction(period.energy_rest_wh or 0)) / self.count


Active = Mapping[TariffDimension, PriceComponent]
Walk = Sequence[tuple[Second, Active]]
"""The seconds of a session, and the active component of each dimension in them."""


@dataclass(slots=True, kw_only=True)
class Charge:
    """What one component charges for, in Wh, in seconds, or once."""

    component: PriceComponent
    tariff: Tariff
    quantity: Fraction

    @property
    def stated(self) -> Fraction:
        """Quantity times price as the tariff states it (mod_tariffs, TariffDimensionType: per kWh, per hour, once)."""
        units = {TariffDimension.ENERGY: WH_PER_KWH, TariffDimension.FLAT: 1}
        return Fraction(self.component.price) * self.quantity / units.get(self.component.dimension, SECONDS_PER_HOUR)

    @property
    def tax(self) -> Fraction:
        """VAT as a share of the price before it. "If omitted, no VAT is applicable" (mod_tariffs, PriceComponent)."""
        is_due = self.tariff.tax_included is not TaxIncluded.NOT_APPLICABLE  # "No taxes are applicable to this Tariff."
        return Fraction(self.component.vat_percent or 0) / 100 if is_due else Fraction(0)

    @property
    def excl(self) -> Fraction:
        """Before tax (mod_tariffs 2.3.0, TaxIncluded)."""
        return self.stated / (1 + self.tax) if self.tariff.tax_included is TaxIncluded.YES else self.stated

    @property
    def incl(self) -> Fraction:
        """After tax."""
        return self.excl * (1 + self.tax)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Amounts before and after tax in units of the currency, exact."""

    excl: Fraction
    incl: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What a session costs.

    Attributes:
        parts: Of every part, 0 where nothing was charged.
        unlimited: Their sum.
        total: The same within the limits of the tariff.
    """

    parts: dict[Part, Cost]
    unlimited: Cost
    total: Cost


@dataclass(slots=True)
class _Charges:
    """Charges of one part, in order of time: a new one wherever another component becomes active."""

    charges: list[Charge] = field(default_factory=list)

    def add(self, second: Second, component: PriceComponent, quantity: Fraction) -> None:
        assert second.tariff is not None
        last = self.charges[-1] if self.charges else None
        if last is None or last.component is not component:
            last = Charge(component=component, tariff=second.tariff, quantity=Fraction(0))
            self.charges.append(last)
        last.quantity += quantity

    def round_up(self) -> None:
        """Apply `step_size` once, to the session's total, at the price of the last component (mod_cdrs, step_size).

        "The step_size uses the total amount of a certain unit used during a session"; "the step_size of the last
        relevant PriceComponent is used". What is free is not in the total ("The total of billable parking time",
        mod_tariffs, "switching to Free-of-Charge Tariff Element").
        """
        total = sum((charge.quantity for charge in self.charges), start=Fraction(0))
        if total <= 0:  # READING: nothing to be rounded up where more was fed in than drawn.
            return
        step = max(1, self.charges[-1].component.step_size)  # READING: a step of 0 is no step.
        self.charges[-1].quantity += ceil(total / step) * step - total


def bill_by_the_second(
    tariffs: Sequence[Tariff], periods: Sequence[ChargingPeriod], *, ended_at: datetime, time_zone: str
) -> Bill:
    """Price a session.

    Args:
        tariffs: One prices every period, whatever it names; of several, each period names its own or none.
        periods: In any order.
        ended_at: When the session ended.
        time_zone: IANA zone of the location.
    """
    return bill_of(walk(tariffs, periods, ended_at=ended_at, time_zone=time_zone))


def walk(tariffs: Sequence[Tariff], periods: Sequence[ChargingPeriod], *, ended_at: datetime, time_zone: str) -> Walk:
    """Walk a session second by second; the arguments are those of `bill_by_the_second`."""
    has_expired = all(_is_reserved(period) for period in periods)
    return [
        (second, active_components(second, has_expired=has_expired))
        for second in _seconds_of(tariffs, periods, ended_at=ended_at, time_zone=time_zone)
    ]


def bill_of(walked: Walk) -> Bill:
    """Charge for every second of a session."""
    fees: list[tuple[Part, Charge]] = []
    metered: dict[Part, _Charges] = {part: _Charges() for part in Part if part is not Part.FIXED}
    used: list[Tariff] = []
    for second, active in walked:
        if second.tariff is not None and all(second.tariff is not tariff for tariff in used):
            used.append(second.tariff)
        for dimension, component in active.items():
            part, quantity = quantity_of(dimension, second)
            if dimension is TariffDimension.FLAT:
                # READING: a fee "without unit" is due once: the first that becomes active, and for a reservation
                # another ("including fixed price components", mod_cdrs, total_reservation_cost).
                if all(part is not known for known, _ in fees):
                    assert second.tariff is not None
                    fees.append((part, Charge(component=component, tariff=second.tariff, quantity=Fraction(1))))
            elif quantity:
                # READING: a component that charges for nothing is not "used to calculate the cost" (mod_cdrs).
                metered[part].add(second, component, quantity)

    # "Once per session for ENERGY and once for PARKING_TIME and TIME combined"; where both are used, "step_size is only
    # taken into account for the total parking duration", wherever it came (mod_cdrs, step_size).
    metered[Part.ENERGY].round_up()
    metered[Part.PARKING if metered[Part.PARKING].charges else Part.TIME].round_up()
    # The reservation is rounded by itself (mod_tariffs, example "reservation price and fee": 13 minutes become 15).
    metered[Part.RESERVATION].round_up()

    charged = [*fees, *((part, charge) for part, charges in metered.items() for charge in charges.charges)]
    parts = {part: _sum([charge for known, charge in charged if known is part]) for part in Part}
    unlimited = _sum([charge for _, charge in charged])
    return Bill(parts=parts, unlimited=unlimited, total=_within_limits(unlimited, used))


def _seconds_of(
    tariffs: Sequence[Tariff], periods: Sequence[ChargingPeriod], *, ended_at: datetime, time_zone: str
) -> Iterator[Second]:
    """Walk a session: "A period ends when the next period starts. The last period ends when the session ends"."""
    zone = ZoneInfo(time_zone)
    ordered = sorted(periods, key=lambda period: period.started_at)
    ends = [*(period.started_at for period in ordered[1:]), ended_at]
    # READING: "Minimum duration in seconds the Charging Session MUST last" counts from the driver's arrival, and in a
    # reservation, which is none, from its own start.
    began_at: dict[bool, datetime] = {}
    for period in ordered:
        began_at.setdefault(_is_reserved(period), period.started_at)
    used_wh = Fraction(0)
    for period, end in zip(ordered, ends, strict=True):
        count = max(1, (end - period.started_at) // ONE_SECOND)
        is_reserved, tariff = _is_reserved(period), _tariff_of(period, tariffs)
        for number in range(count):
            at = period.started_at + number * ONE_SECOND
            second = Second(
                tariff=tariff,
                period=period,
                local=at.astimezone(zone),
                is_reserved=is_reserved,
                lasted_s=(at - began_at[is_reserved]) // ONE_SECOND,
                used_wh=used_wh,
                count=count,
            )
            yield second
            used_wh += second.energy_wh


def active_components(second: Second, *, has_expired: bool) -> dict[TariffDimension, PriceComponent]:
    """Return the active component of each dimension that this second can be charged for.

    "The first Tariff Element with a Price Component for that dimension in the list with matching Tariff Restrictions";
    none: "there will be no costs for that Tariff Dimension" (mod_tariffs, Tariff object). "If not provided, no Tariff
    is relevant during this period" (mod_cdrs, ChargingPeriod).
    """
    if second.tariff is None:
        return {}
    holding = [element for element in second.tariff.elements if holds(element.restrictions, second)]
    # "When this field is present, the TariffElement describes reservation costs", and such elements nothing else
    # (mod_tariffs, TariffRestrictions, `reservation`).
    if second.is_reserved:
        elements = _of(holding, Reservation.RESERVATION)
        if has_expired:
            # The expired reservation "will be calculated based on the RESERVATION_EXPIRES Tariff Element"
            # (mod_tariffs, ReservationRestrictionType). The note is about TIME; READING: FLAT goes the same way.
            elements = [*_of(holding, Reservation.RESERVATION_EXPIRES), *elements]
        # "A reservation can only have FLAT and TIME TariffDimensions."
        dimensions = [TariffDimension.FLAT, TariffDimension.TIME]
    else:
        elements = _of(holding, None)
        dimensions = list(TariffDimension)
    active: dict[TariffDimension, PriceComponent] = {}
    for element in elements:
        for component in element.components:
            if component.dimension in dimensions:
                active.setdefault(component.dimension, component)
    return active


def holds(restrictions: TariffRestrictions, second: Second) -> bool:
    """Whether all restrictions match as a second begins: a "logical AND" (mod_tariffs, TariffRestrictions)."""
    day, period = second.local.date(), second.period
    # "When the EV is charging with more than": READING: at an EVSE that is only held, no power and no current.
    power_w = (None, None) if second.is_reserved else (period.power_w_min, period.power_w_max)
    current_a = (None, None) if second.is_reserved else (period.current_a_min, period.current_a_max)
    return (
        _is_between_times(second.local.time(), restrictions.start_time, restrictions.end_time)
        and (restrictions.start_date is None or day >= restrictions.start_date)  # "inclusive"
        and (restrictions.end_date is None or day < restrictions.end_date)  # "exclusive"
        # READING: of a window over midnight, the day is that of the moment.
        and (not restrictions.days_of_week or DAYS[day.weekday()] in restrictions.days_of_week)
        # READING: "consumed energy" is what ENERGY counts, which is net of what was fed in.
        and (restrictions.energy_wh_min is None or second.used_wh >= restrictions.energy_wh_min)
        and (restrictions.energy_wh_max is None or second.used_wh < restrictions.energy_wh_max)
        and (restrictions.duration_s_min is None or second.lasted_s >= restrictions.duration_s_min)
        and (restrictions.duration_s_max is None or second.lasted_s < restrictions.duration_s_max)
        and _is_at_least(restrictions.power_w_min, *power_w)
        and _is_below(restrictions.power_w_max, *power_w)
        and _is_at_least(restrictions.current_a_min, *current_a)
        and _is_below(restrictions.current_a_max, *current_a)
    )


def _is_between_times(now: time, start: time | None, end: time | None) -> bool:
    if start is not None and end is not None and end <= start:
        # "If end_time < start_time then the period wraps around to the next day." READING: if equal, it is a whole day.
        return now >= start or now < end
    is_started = start is None or now >= start
    return is_started and (end is None or end == time(0) or now < end)  # "To stop at end of the day use: 00:00."


def _is_at_least(limit: Decimal | int | None, *reached: Decimal | int | None) -> bool:
    """`min_power` and `min_current`: "If the charging power is or becomes lower", no longer valid.

    So the lowest of the period decides. READING: a period that states one of lowest and highest has been at that all
    the time, and one that states neither does not let such elements apply.
    """
    known = [each for each in reached if each is not None]
    return limit is None or (bool(known) and min(known) >= limit)


def _is_below(limit: Decimal | int | None, *reached: Decimal | int | None) -> bool:
    """`max_power` and `max_current`: "charging with less than the defined amount"; the highest decides."""
    known = [each for each in reached if each is not None]
    return limit is None or (bool(known) and max(known) < limit)


def _of(elements: Sequence[TariffElement], reservation: Reservation | None) -> list[TariffElement]:
    return [element for element in elements if element.restrictions.reservation is reservation]


def _is_reserved(period: ChargingPeriod) -> bool:
    return period.reserved_s > 0


def _tariff_of(period: ChargingPeriod, tariffs: Sequence[Tariff]) -> Tariff | None:
    if len(tariffs) == 1:
        return tariffs[0]
    named = [tariff for tariff in tariffs if tariff.tariff_id.lower() == (period.tariff_id or "").lower()]  # CiString
    return named[0] if named else None


def quantity_of(dimension: TariffDimension, second: Second) -> tuple[Part, Fraction]:
    """Where a second belongs on the bill, and how much of the dimension it holds (mod_cdrs, CdrDimensionType)."""
    if second.is_reserved:
        return Part.RESERVATION, Fraction(second.period.reserved_s, second.count)
    if dimension is TariffDimension.ENERGY:
        return Part.ENERGY, second.energy_wh
    if dimension is TariffDimension.TIME:
        return Part.TIME, Fraction(second.period.charging_s, second.count)
    if dimension is TariffDimension.PARKING_TIME:
        return Part.PARKING, Fraction(second.period.parking_s, second.count)
    return Part.FIXED, Fraction(1)


def _sum(charges: Sequence[Charge]) -> Cost:
    nothing = Fraction(0)
    return Cost(
        excl=sum((charge.excl for charge in charges), start=nothing),
        incl=sum((charge.incl for charge in charges), start=nothing),
    )


def _within_limits(cost: Cost, tariffs: Sequence[Tariff]) -> Cost:
    """Before and after tax, "as a rule, they both apply" (mod_tariffs, notes on `min_price` and `max_price`).

    READING: of several tariffs, the limits of each hold for the whole session; a maximum below a minimum wins.
    """
    excl, incl = cost.excl, cost.incl
    for limit in [tariff.price_min for tariff in tariffs if tariff.price_min is not None]:
        excl = max(excl, Fraction(limit.excl_e4, 10_000))
        incl = incl if limit.incl_e4 is None else max(incl, Fraction(limit.incl_e4, 10_000))
    for limit in [tariff.price_max for tariff in tariffs if tariff.price_max is not None]:
        excl = min(excl, Fraction(limit.excl_e4, 10_000))
        incl = incl if limit.incl_e4 is None else min(incl, Fraction(limit.incl_e4, 10_000))
    return Cost(excl=excl, incl=incl)
