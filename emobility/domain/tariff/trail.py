"""The audit trail of a priced session: for each period and dimension which element was chosen, and why no other was.

It is worked out after the fact, restriction by restriction, apart from the engine's own selection (`selection.py`);
that both choose the same is tested on generated sessions. What a step and a limit did stands there too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction

from emobility.domain.money import decimal_from_e4
from emobility.domain.session import ChargingPeriod
from emobility.domain.tariff.conditions import duration, plain
from emobility.domain.tariff.priced import Limit, PricedLine, PricedSession, decimal_of
from emobility.domain.tariff.pricing import price_session_by_several
from emobility.domain.tariff.rounding import EXACT, RoundingPolicy
from emobility.domain.tariff.selection import Moment, only_reserves, state, zone_of
from emobility.domain.tariff.tariff import DayOfWeek, Reservation, Tariff, TariffDimension, TariffRestrictions


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedRestriction:
    """A restriction that did not hold: its OCPI name, what it asks for, and what was found."""

    name: str
    asked: str
    found: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PassedOver:
    """An element that comes first in the tariff and did not apply."""

    element_index: int
    failed: tuple[FailedRestriction, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The element that priced a dimension in a period. `element_index` None: none applied, so it was free."""

    period_index: int
    dimension: TariffDimension
    is_reservation: bool
    quantity: int | Fraction
    tariff_id: str | None
    element_index: int | None
    passed_over: tuple[PassedOver, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTaken:
    """What `step_size` added to the total of a dimension: Wh or seconds, at the price of `element_index`."""

    dimension: TariffDimension
    is_reservation: bool
    element_index: int
    step_size: int
    used: int | Fraction
    added: int | Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitTaken:
    """What a limit of the tariff did to the total, in ten-thousandths."""

    limit: Limit
    is_after_tax: bool
    from_e4: int
    to_e4: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditTrail:
    """All that led to a total."""

    priced: PricedSession
    choices: tuple[Choice, ...]
    steps: tuple[StepTaken, ...]
    limits: tuple[LimitTaken, ...]


def audit_trail(
    tariffs: Sequence[Tariff],
    periods: Sequence[ChargingPeriod],
    *,
    ended_at: datetime,
    time_zone: str,
    rounding: RoundingPolicy = EXACT,
) -> AuditTrail:
    """Price a session and say how. Raises as `price_session_by_several`."""
    priced = price_session_by_several(tariffs, periods, ended_at=ended_at, time_zone=time_zone, rounding=rounding)
    ordered = sorted(periods, key=lambda period: period.started_at)
    return AuditTrail(
        priced=priced,
        choices=tuple(_choices(tariffs, ordered, time_zone)),
        steps=tuple(_steps(priced)),
        limits=tuple(_limits(priced)),
    )


def tell(trail: AuditTrail) -> str:
    """Write the choices, steps and limits out, a line each."""
    return "\n".join(
        [*map(_told_choice, trail.choices), *map(_told_step, trail.steps), *map(_told_limit, trail.limits)]
    )


def failed_restrictions(r: TariffRestrictions, wall: datetime, moment: Moment) -> tuple[FailedRestriction, ...]:
    """Return the restrictions that do not hold at a local time in a state; `reservation` is not looked at."""
    return (*_failed_on_clock(r, wall), *_failed_in_state(r, moment))


def _failed_on_clock(r: TariffRestrictions, wall: datetime) -> Iterator[FailedRestriction]:
    clock = wall.time().replace(microsecond=0)
    start, end = r.start_time or time.min, r.end_time or time.min
    # An end at midnight is the end of the day; a window that ends as it starts is the whole day.
    closes = time.max if end == time.min else end
    is_within = start <= clock < closes if start < closes else not closes <= clock < start
    if start != end and not is_within:
        asked = f"{start:%H:%M}-{end:%H:%M}"
        yield FailedRestriction(name="start_time, end_time", asked=asked, found=f"{clock:%H:%M:%S}")
    day = wall.date()
    if r.start_date is not None and day < r.start_date:
        yield FailedRestriction(name="start_date", asked=f"from {r.start_date}", found=str(day))
    if r.end_date is not None and day >= r.end_date:
        yield FailedRestriction(name="end_date", asked=f"before {r.end_date}", found=str(day))
    weekday = list(DayOfWeek)[day.weekday()]
    if r.days_of_week and weekday not in r.days_of_week:
        yield FailedRestriction(name="day_of_week", asked=", ".join(r.days_of_week), found=weekday.value)


def _failed_in_state(r: TariffRestrictions, moment: Moment) -> Iterator[FailedRestriction]:
    energy_wh, elapsed_s = moment.energy_wh, moment.elapsed // timedelta(seconds=1)
    for name, low, high, lowest, highest, show in (
        ("kwh", r.energy_wh_min, r.energy_wh_max, energy_wh, energy_wh, _kilo),
        ("current", r.current_a_min, r.current_a_max, moment.current_a_low, moment.current_a_high, _amperes),
        ("power", r.power_w_min, r.power_w_max, moment.power_w_low, moment.power_w_high, _kilo),
        ("duration", r.duration_s_min, r.duration_s_max, elapsed_s, elapsed_s, _lasted),
    ):
        if low is not None and (lowest is None or lowest < low):
            yield FailedRestriction(name=f"min_{name}", asked=f"from {show(low)}", found=show(lowest))
        if high is not None and (highest is None or highest >= high):
            yield FailedRestriction(name=f"max_{name}", asked=f"below {show(high)}", found=show(highest))


def _kilo(value: int | Fraction | Decimal | None) -> str:
    return "not stated" if value is None else plain(_decimal(value).scaleb(-3))


def _amperes(value: int | Fraction | Decimal | None) -> str:
    return "not stated" if value is None else plain(_decimal(value))


def _decimal(value: int | Fraction | Decimal) -> Decimal:
    return value if isinstance(value, Decimal) else decimal_of(value)


def _lasted(value: int | Fraction | Decimal | None) -> str:
    return "not stated" if value is None else duration(int(value))


def _choices(tariffs: Sequence[Tariff], periods: Sequence[ChargingPeriod], time_zone: str) -> Iterator[Choice]:
    zone = zone_of(time_zone)
    is_expired = all(only_reserves(period) for period in periods)
    kinds = [Reservation.RESERVATION_EXPIRES, Reservation.RESERVATION] if is_expired else [Reservation.RESERVATION]
    energy_wh: int | Fraction = 0
    started_at: datetime | None = None
    held_at = next((period.started_at for period in periods if period.reserved_s), None)
    flats = {False: False, True: False}
    for index, period in enumerate(periods):
        tariff = _tariff_of(period, tariffs)
        wall = period.started_at.astimezone(zone)
        uses: list[tuple[TariffDimension, bool, int | Fraction, Moment]] = []
        if period.reserved_s and held_at is not None:
            moment = Moment(0, period.started_at - held_at, None, None, None, None)
            uses += [(TariffDimension.FLAT, True, 1, moment), (TariffDimension.TIME, True, period.reserved_s, moment)]
        if not only_reserves(period):
            started_at = started_at or period.started_at
            moment = state(period, energy_wh=energy_wh, elapsed=period.started_at - started_at)
            net_wh = period.net_wh
            uses += [
                (TariffDimension.FLAT, False, 1, moment),
                (TariffDimension.ENERGY, False, net_wh, moment),
                (TariffDimension.TIME, False, period.charging_s, moment),
                (TariffDimension.PARKING_TIME, False, period.parking_s, moment),
            ]
            energy_wh += net_wh
        for dimension, is_reservation, quantity, moment in uses:
            is_flat = dimension is TariffDimension.FLAT
            if not quantity or (is_flat and flats[is_reservation]):
                continue
            ranked = [] if tariff is None else _ranked(tariff, dimension, kinds if is_reservation else [None])
            element_index, passed_over = _first_that_holds(ranked, wall, moment)
            flats[is_reservation] |= is_flat and element_index is not None
            yield Choice(
                period_index=index,
                dimension=dimension,
                is_reservation=is_reservation,
                quantity=quantity,
                tariff_id=None if tariff is None else tariff.tariff_id,
                element_index=element_index,
                passed_over=passed_over,
            )


def _tariff_of(period: ChargingPeriod, tariffs: Sequence[Tariff]) -> Tariff | None:
    if len(tariffs) == 1:
        return tariffs[0]
    named = (period.tariff_id or "").upper()
    return next((tariff for tariff in tariffs if tariff.tariff_id.upper() == named), None)


def _ranked(
    tariff: Tariff, dimension: TariffDimension, kinds: Sequence[Reservation | None]
) -> list[tuple[int, TariffRestrictions]]:
    """The elements that have the dimension, in the order in which they are asked."""
    return [
        (index, element.restrictions)
        for kind in kinds
        for index, element in enumerate(tariff.elements)
        if element.restrictions.reservation is kind and any(c.dimension is dimension for c in element.components)
    ]


def _first_that_holds(
    ranked: Sequence[tuple[int, TariffRestrictions]], wall: datetime, moment: Moment
) -> tuple[int | None, tuple[PassedOver, ...]]:
    passed_over: list[PassedOver] = []
    for index, restrictions in ranked:
        failed = failed_restrictions(restrictions, wall, moment)
        if not failed:
            return index, tuple(passed_over)
        passed_over.append(PassedOver(element_index=index, failed=failed))
    return None, tuple(passed_over)


def _steps(priced: PricedSession) -> Iterator[StepTaken]:
    for line in priced.lines:
        if line.step_size is not None:
            yield StepTaken(
                dimension=line.dimension,
                is_reservation=line.is_reservation,
                element_index=line.element_index,
                step_size=line.step_size,
                used=sum(other.quantity for other in priced.lines if _is_same_use(line, other)),
                added=line.billed_quantity - line.quantity,
            )


def _is_same_use(line: PricedLine, other: PricedLine) -> bool:
    return (line.dimension, line.is_reservation) == (other.dimension, other.is_reservation)


def _limits(priced: PricedSession) -> Iterator[LimitTaken]:
    before, after = priced.unlimited, priced.total
    if priced.limit_excl is not None:
        yield LimitTaken(limit=priced.limit_excl, is_after_tax=False, from_e4=before.excl_e4, to_e4=after.excl_e4)
    if priced.limit_incl is not None:
        assert before.incl_e4 is not None
        assert after.incl_e4 is not None
        yield LimitTaken(limit=priced.limit_incl, is_after_tax=True, from_e4=before.incl_e4, to_e4=after.incl_e4)


def _told_choice(choice: Choice) -> str:
    what = f"{'reservation ' if choice.is_reservation else ''}{choice.dimension}"
    chosen = "free, no element applies" if choice.element_index is None else f"element {choice.element_index + 1}"
    why = "".join(f"; not {_told_passed(each)}" for each in choice.passed_over)
    return f"Period {choice.period_index + 1}, {what}: {chosen}{why}."


def _told_passed(passed: PassedOver) -> str:
    failed = " and ".join(f"{each.name} asks {each.asked}, found {each.found}" for each in passed.failed)
    return f"element {passed.element_index + 1}: {failed}"


def _told_step(step: StepTaken) -> str:
    what = f"{'reservation ' if step.is_reservation else ''}{step.dimension}"
    return (
        f"Step of {step.step_size} on {plain(decimal_of(step.used))} of {what}: {plain(decimal_of(step.added))} more,"
        f" at the price of element {step.element_index + 1}."
    )


def _told_limit(taken: LimitTaken) -> str:
    side = "after" if taken.is_after_tax else "before"
    before, after = (plain(decimal_from_e4(amount)) for amount in (taken.from_e4, taken.to_e4))
    return f"{taken.limit.value.title()} {side} tax: from {before} to {after}."
