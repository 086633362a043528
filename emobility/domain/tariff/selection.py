"""Which price component is active at a moment: restrictions, local time, and first match per dimension.

OCPI 2.2.1, 11.4.x: for each dimension on its own, the first element that has a component of that dimension and whose
restrictions all hold is active; where none is found the dimension is free. A tariff is compiled once into a
`PriceBook`, which remembers per stretch of local time the components that can apply at all.

How the open questions of the text are answered here:

- `start_date`, `end_date` and `day_of_week` look at the local date of the moment itself, also in a window over
  midnight: 22:00-06:00 on FRIDAY is Friday 00:00-06:00 and Friday 22:00-24:00.
- `start_time` equal to `end_time` is the whole day. An hour that a clock change repeats counts both times; one that it
  skips never comes.
- Duration counts from the first period that is no reservation; a reservation counts its own.
- Power and current: `min_*` asks for the lowest value of the period, `max_*` for its highest. A period must be cut
  where a threshold is crossed (10.4, step_size), so where it states only one of the two that one stands for both.
  With neither stated such a restriction does not hold.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from math import lcm
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from emobility.domain.errors import MalformedInput
from emobility.domain.session import ChargingPeriod
from emobility.domain.tariff.tariff import (
    DayOfWeek,
    PriceComponent,
    Reservation,
    Tariff,
    TariffDimension,
    TaxIncluded,
)

PRICE_DECIMALS_MAX: Final = 12
PRICE_MAX: Final = Decimal(10**9)
TAX_RATES_MAX: Final = 64
"""Rates that prices may include; each makes the exact numbers longer."""
MOMENT_MIN: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""OCPI 2.2.1, 10.3.1: 1970-01-01 stands for a moment that is not known."""
MOMENT_MAX: Final = datetime(2200, 1, 1, tzinfo=UTC)
DURATION_S_MAX: Final = 10**12
"""A limit beyond this is as this: no session between `MOMENT_MIN` and `MOMENT_MAX` comes near it."""
STRETCHES_MAX: Final = 4_096
"""Stretches of local time a book remembers before it starts afresh."""

_HUNDRED: Final = Decimal(100)
_DAYS: Final = {day: 1 << number for number, day in enumerate(DayOfWeek)}
_EVERY_DAY: Final = 0b1111111
_DAY_S: Final = 86_400
_ORDINAL_MAX: Final = 4_000_000
ENERGY, TIME, PARKING_TIME, FLAT = range(4)
DIMENSIONS: Final = (
    TariffDimension.ENERGY,
    TariffDimension.TIME,
    TariffDimension.PARKING_TIME,
    TariffDimension.FLAT,
)
_SLOT: Final = {dimension: slot for slot, dimension in enumerate(DIMENSIONS)}


class PriceOutOfRange(MalformedInput):
    """A price or VAT rate is a finite number of at most 12 decimals below a thousand million."""

    def __init__(self, value: Decimal) -> None:
        self.value = value
        super().__init__(f"{value} is not a price or VAT rate anyone can mean")


class NegativeStepSize(MalformedInput):
    """A step size is a number of Wh or seconds; 0, as one of the standard's examples has it, means 1."""

    def __init__(self, step_size: int) -> None:
        self.step_size = step_size
        super().__init__(f"a step size of {step_size} was stated")


class TooManyTaxRates(MalformedInput):
    """Tariffs whose prices include tax have at most `TAX_RATES_MAX` rates between them."""

    def __init__(self, rates: int) -> None:
        self.rates = rates
        super().__init__(f"no country has {rates} rates of tax")


class UnknownTimeZone(MalformedInput):
    """A time zone is a name of the IANA database."""

    def __init__(self, name: str) -> None:
        self.name = name[:80]
        super().__init__(f"{self.name!r} is no IANA time zone")


class UnlikelyMoment(MalformedInput):
    """A session lies between `MOMENT_MIN` and `MOMENT_MAX`; beyond them clocks and calendars break down."""

    def __init__(self, at: datetime) -> None:
        self.at = at
        super().__init__(f"no car charges at {at.isoformat()}")


def require_likely(*moments: datetime) -> None:
    """Raise `UnlikelyMoment` for a moment that no session can have."""
    for at in moments:
        if not MOMENT_MIN <= at < MOMENT_MAX:
            raise UnlikelyMoment(at)


def zone_of(name: str) -> ZoneInfo:
    """Return the IANA zone. Raises `UnknownTimeZone`."""
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError) as error:
        raise UnknownTimeZone(name) from error


class Moment(NamedTuple):
    """What restrictions that do not look at the clock are checked against: the state as a period starts."""

    energy_wh: int | Fraction
    elapsed: timedelta
    power_w_low: int | None
    power_w_high: int | None
    current_a_low: Decimal | None
    current_a_high: Decimal | None


class LocalMoment(NamedTuple):
    """A moment on the wall clock: day number, second of that day, and the stretch of the day it falls into."""

    ordinal: int
    second: int
    stretch: int


class Scale:
    """Factors that make all prices and tax rates of some tariffs whole numbers, so that sums are exact.

    An amount is a whole number of `quantity units x 10^-price_decimals`. Times a component's `net_weight` it is what
    is due before tax in `1 / net_unit`, times its `gross_weight` what is due after tax in `1 / gross_unit`.
    """

    __slots__ = ("gross_unit", "net_unit", "price_decimals", "vat_decimals")

    def __init__(self, tariffs: tuple[Tariff, ...]) -> None:
        components = [component for tariff in tariffs for component in _components(tariff)]
        for component in components:
            if component.step_size < 0:
                raise NegativeStepSize(component.step_size)
        self.price_decimals = max((_decimals(c.price) for c in components), default=0)
        self.vat_decimals = max((_decimals(c.vat_percent) for c in components if c.vat_percent is not None), default=0)
        self.gross_unit: int = 10 ** (self.vat_decimals + 2)
        # A price with tax in it is divided by 1 + rate, each rate another divisor: their common multiple suits all.
        including = [tariff for tariff in tariffs if tariff.tax_included is TaxIncluded.YES]
        divisors = {self._tax_factor(component) for tariff in including for component in _components(tariff)}
        if len(divisors) > TAX_RATES_MAX:
            raise TooManyTaxRates(len(divisors))
        self.net_unit: int = lcm(*divisors)

    def tax_weights(self, tariff: Tariff, component: PriceComponent) -> tuple[int, int]:
        """Return a component's `net_weight` and `gross_weight`."""
        if tariff.tax_included is TaxIncluded.YES:
            return self.gross_unit * self.net_unit // self._tax_factor(component), self.gross_unit
        if tariff.tax_included is TaxIncluded.NOT_APPLICABLE:
            return self.net_unit, self.gross_unit
        return self.net_unit, self._tax_factor(component)

    def _tax_factor(self, component: PriceComponent) -> int:
        """1 + rate, in `1 / gross_unit`."""
        percent = component.vat_percent or Decimal(0)
        if percent <= -_HUNDRED:
            raise PriceOutOfRange(percent)
        return self.gross_unit + int(percent.scaleb(self.vat_decimals))


class Candidate:
    """A component with its restrictions in the form they are checked in, and its price as an integer."""

    __slots__ = (
        "component",
        "currents",
        "dates",
        "days",
        "durations",
        "element_index",
        "energies",
        "gross_weight",
        "looks_at_state",
        "net_weight",
        "powers",
        "price_scaled",
        "restrictions",
        "slot",
        "tariff",
        "window",
    )

    def __init__(
        self,
        *,
        tariff: Tariff,
        element_index: int,
        component: PriceComponent,
        scale: Scale,
    ) -> None:
        r = tariff.elements[element_index].restrictions
        self.tariff = tariff
        self.element_index = element_index
        self.component = component
        self.restrictions = r
        self.slot = _SLOT[component.dimension]
        self.price_scaled = int(component.price.scaleb(scale.price_decimals))
        self.net_weight, self.gross_weight = scale.tax_weights(tariff, component)
        self.window = _window(r.start_time, r.end_time)
        self.dates = (
            0 if r.start_date is None else r.start_date.toordinal(),
            _ORDINAL_MAX if r.end_date is None else r.end_date.toordinal(),
        )
        self.days = sum(_DAYS[day] for day in set(r.days_of_week)) or _EVERY_DAY
        self.energies = _bounds(r.energy_wh_min, r.energy_wh_max)
        self.powers = _bounds(r.power_w_min, r.power_w_max)
        self.currents = _bounds(r.current_a_min, r.current_a_max)
        self.durations = _bounds(_seconds(r.duration_s_min), _seconds(r.duration_s_max))
        self.looks_at_state = bool(self.energies or self.powers or self.currents or self.durations)

    def holds_on_clock(self, ordinal: int, second: int) -> bool:
        """Whether date, weekday and time of day hold."""
        start_s, end_s = self.window
        in_window = start_s <= second < end_s if start_s < end_s else second >= start_s or second < end_s
        return in_window and self.dates[0] <= ordinal < self.dates[1] and bool(self.days >> (ordinal + 6) % 7 & 1)

    def holds_in_state(self, moment: Moment) -> bool:
        """Whether energy, duration, power and current hold."""
        energy_wh, elapsed, power_low, power_high, current_low, current_high = moment
        if self.energies is not None and not _within(self.energies, energy_wh, energy_wh):
            return False
        if self.durations is not None and not _within(self.durations, elapsed, elapsed):
            return False
        if self.powers is not None and not _within(self.powers, power_low, power_high):
            return False
        return self.currents is None or _within(self.currents, current_low, current_high)


def is_priced_alike(one: Candidate | None, other: Candidate | None) -> bool:
    """Whether a unit costs the same under both, tax included, and counts towards the same step."""
    if one is None or other is None:
        return one is other
    return (
        one.price_scaled * one.net_weight,
        one.price_scaled * one.gross_weight,
        max(1, one.component.step_size),
    ) == (
        other.price_scaled * other.net_weight,
        other.price_scaled * other.gross_weight,
        max(1, other.component.step_size),
    )


Choices = tuple[tuple[Candidate, ...], tuple[Candidate, ...], tuple[Candidate, ...], tuple[Candidate, ...]]
"""Per dimension, in the order of `DIMENSIONS`, what can be active, first match first."""


class PriceBook:
    """The elements of a tariff for one kind of use (a session, a reservation, an expired one), ready to be asked."""

    def __init__(self, tariff: Tariff, indices: list[int], scale: Scale) -> None:
        candidates = [
            Candidate(tariff=tariff, element_index=index, component=component, scale=scale)
            for index in indices
            for component in tariff.elements[index].components
        ]
        self._candidates: Choices = (
            tuple(c for c in candidates if c.slot == ENERGY),
            tuple(c for c in candidates if c.slot == TIME),
            tuple(c for c in candidates if c.slot == PARKING_TIME),
            tuple(c for c in candidates if c.slot == FLAT),
        )
        all_restrictions = [tariff.elements[index].restrictions for index in indices]
        times = [t for r in all_restrictions for t in (r.start_time, r.end_time) if t is not None]
        self.looks_at_clock = bool(times) or any(r.start_date or r.end_date or r.days_of_week for r in all_restrictions)
        self.breaks: tuple[int, ...] = tuple(sorted({_second(t) for t in times} - {0}))
        """Seconds of the local day at which a component may start or stop, midnight aside."""
        self.energy_thresholds_wh: tuple[int, ...] = _thresholds(c.energies for c in candidates)
        self.duration_thresholds: tuple[timedelta, ...] = _thresholds(c.durations for c in candidates)
        self.power_thresholds_w: tuple[int, ...] = _thresholds(c.powers for c in candidates)
        self.current_thresholds_a: tuple[Decimal, ...] = _thresholds(c.currents for c in candidates)
        self.looks_at_power = bool(self.power_thresholds_w or self.current_thresholds_a)
        self.looks_at_state = bool(self.energy_thresholds_wh or self.duration_thresholds or self.looks_at_power)
        self._by_stretch: dict[tuple[int, int], Choices] = {}
        self._always = self._on_clock(1, 0) if not self.looks_at_clock else None

    def local(self, at: datetime, zone: ZoneInfo) -> LocalMoment:
        """Read the wall clock of `zone` at an instant."""
        wall = at.astimezone(zone)
        second = wall.hour * 3_600 + wall.minute * 60 + wall.second
        return LocalMoment(wall.toordinal(), second, bisect_right(self.breaks, second))

    def choices(self, local: LocalMoment | None) -> Choices:
        """What can be active on the clock; `local` may be None for a book that does not look at it."""
        if self._always is not None:
            return self._always
        assert local is not None
        key = (local.ordinal, local.stretch)
        known = self._by_stretch.get(key)
        if known is None:
            if len(self._by_stretch) >= STRETCHES_MAX:
                self._by_stretch.clear()
            known = self._by_stretch[key] = self._on_clock(local.ordinal, local.second)
        return known

    def _on_clock(self, ordinal: int, second: int) -> Choices:
        energy, duration, parking, flat = self._candidates
        return (
            _up_to_certain(energy, ordinal, second),
            _up_to_certain(duration, ordinal, second),
            _up_to_certain(parking, ordinal, second),
            _up_to_certain(flat, ordinal, second),
        )


class CompiledTariff:
    """A tariff ready for pricing: three books in one scale, and whether it says what is paid after tax."""

    __slots__ = ("expired", "reserved", "scale", "session", "states_tax", "tariff")

    def __init__(self, tariff: Tariff, scale: Scale) -> None:
        self.tariff = tariff
        self.scale = scale
        limits = [limit for limit in (tariff.price_min, tariff.price_max) if limit is not None]
        self.states_tax = (
            tariff.tax_included is TaxIncluded.YES
            or any(states_rate(tariff, component) for component in _components(tariff))
            or any(limit.incl_e4 is not None for limit in limits)
        )

        def made_for(reservation: Reservation | None) -> list[int]:
            elements = enumerate(tariff.elements)
            return [index for index, element in elements if element.restrictions.reservation is reservation]

        reserved = made_for(Reservation.RESERVATION)
        self.session = PriceBook(tariff, made_for(None), scale)
        self.reserved = PriceBook(tariff, reserved, scale)
        # OCPI 2.2.1, 11.4.3: an expired reservation is priced by RESERVATION_EXPIRES where it has the component.
        self.expired = PriceBook(tariff, made_for(Reservation.RESERVATION_EXPIRES) + reserved, scale)


COMPILED_MAX: Final = 64
"""Tariffs, and sets of tariffs that price one session, kept compiled; the one compiled first goes first."""
_compiled: Final[dict[tuple[int, ...], tuple[CompiledTariff, ...]]] = {}


def compiled(tariff: Tariff) -> CompiledTariff:
    """Return the tariff's compiled form, made once per object. Raises as `compiled_together`."""
    return compiled_together((tariff,))[0]


def compiled_together(tariffs: tuple[Tariff, ...]) -> tuple[CompiledTariff, ...]:
    """Return the compiled forms of tariffs that price one session, all in one scale, made once per set of objects.

    Raises:
        PriceOutOfRange: a price or VAT rate nobody can mean.
        NegativeStepSize: a step below zero.
        TooManyTaxRates: no country has so many.
    """
    # The entry holds the tariffs, so their ids can't be given to others while the entry lives.
    key = tuple(map(id, tariffs))
    known = _compiled.get(key)
    if known is None:
        scale = Scale(tariffs)
        known = tuple(CompiledTariff(tariff, scale) for tariff in tariffs)
        if len(_compiled) >= COMPILED_MAX:
            del _compiled[next(iter(_compiled))]
        _compiled[key] = known
    return known


def state(period: ChargingPeriod, *, energy_wh: int | Fraction, elapsed: timedelta) -> Moment:
    """The state as `period` starts; where it states one extreme of power or current, that stands for both."""
    power_low, power_high = period.power_w_min, period.power_w_max
    current_low, current_high = period.current_a_min, period.current_a_max
    return Moment(
        energy_wh,
        elapsed,
        power_high if power_low is None else power_low,
        power_low if power_high is None else power_high,
        current_high if current_low is None else current_low,
        current_low if current_high is None else current_high,
    )


def only_reserves(period: ChargingPeriod) -> bool:
    """Whether the EVSE was only held in a period: the session has not begun, or was never to."""
    return bool(period.reserved_s) and not (
        period.energy_import_wh
        or period.energy_export_wh
        or period.charging_s
        or period.parking_s
        or period.energy_rest_wh
    )


def first_match(candidates: tuple[Candidate, ...], moment: Moment | None) -> Candidate | None:
    """The active component of one dimension, or None where the dimension is free."""
    for candidate in candidates:
        if not candidate.looks_at_state or (moment is not None and candidate.holds_in_state(moment)):
            return candidate
    return None


def _up_to_certain(candidates: tuple[Candidate, ...], ordinal: int, second: int) -> tuple[Candidate, ...]:
    possible = []
    for candidate in candidates:
        if candidate.holds_on_clock(ordinal, second):
            possible.append(candidate)
            if not candidate.looks_at_state:
                break
    return tuple(possible)


def _window(start: time | None, end: time | None) -> tuple[int, int]:
    start_s = 0 if start is None else _second(start)
    end_s = _DAY_S if end is None else _second(end) or _DAY_S
    return start_s, end_s


def _second(of_day: time) -> int:
    return of_day.hour * 3_600 + of_day.minute * 60 + of_day.second


def _seconds(number: int | None) -> timedelta | None:
    return None if number is None else timedelta(seconds=max(-DURATION_S_MAX, min(number, DURATION_S_MAX)))


def _bounds(low: object, high: object) -> tuple[Any, Any] | None:
    return None if low is None and high is None else (low, high)


def _within(bounds: tuple[Any, Any], lowest: Any, highest: Any) -> bool:
    low, high = bounds
    if low is not None and (lowest is None or lowest < low):
        return False
    return high is None or (highest is not None and highest < high)


def _thresholds(bounds: Iterable[tuple[Any, Any] | None]) -> tuple[Any, ...]:
    return tuple(sorted({limit for pair in bounds if pair is not None for limit in pair if limit is not None}))


def states_rate(tariff: Tariff, component: PriceComponent) -> bool:
    """Whether a component bears a tax of known rate, 0 % being one; where no tax is applicable, a stated one is not."""
    return component.vat_percent is not None and tariff.tax_included is not TaxIncluded.NOT_APPLICABLE


def _components(tariff: Tariff) -> Iterator[PriceComponent]:
    for element in tariff.elements:
        yield from element.components


def _decimals(number: Decimal) -> int:
    """Decimals that carry a digit; counted on the digits, as arithmetic would round a long number first."""
    if not number.is_finite() or number.copy_abs() >= PRICE_MAX:
        raise PriceOutOfRange(number)
    if not number:
        return 0
    _, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    trailing_zeros = len(digits) - len("".join(map(str, digits)).rstrip("0"))
    decimals = max(0, -exponent - trailing_zeros)
    if decimals > PRICE_DECIMALS_MAX:
        raise PriceOutOfRange(number)
    return decimals
