"""The one exact engine: a session's periods under a tariff become money, with every step on record.

Written from OCPI 2.2.1 and 2.3.0 (mod_tariffs, section 11, and "step_size" in mod_cdrs, section 10.4):

- Per dimension the first element whose restrictions hold when a period starts is active; none: free.
- `step_size` rounds up once per session: the total of ENERGY by the step of the last ENERGY component that charged
  for something, the rest added at that component's price; likewise time, where the total of PARKING_TIME is rounded
  when anything was charged for it, and the total of TIME only otherwise. A total below zero is not rounded.
- FLAT is charged once, by the first FLAT component that becomes active in the session.
- A reservation takes only TIME and FLAT of elements made for it, with a step and a FLAT of its own; without a charge
  after it, it has expired.
- `min_price` and `max_price` hold before and after tax independently; the maximum wins where they cross.
- Prices are before tax, with the tax in them, or bear none (2.3.0: `tax_included`).
- Energy is net: what was fed in counts negative (OCPI's ENERGY dimension), and a price may be negative.

All sums are integers over one denominator; only energy of less than a Wh, which a partner's document may state, makes
them fractions. Each total is rounded once, half away from zero, to ten-thousandths, unless
a `RoundingPolicy` asks otherwise. A single tariff prices every period, whatever `tariff_id` it bears, so that retail
can price the same periods; of several, each period names its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from fractions import Fraction
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo

from emobility.domain.errors import MalformedInput
from emobility.domain.money import Price
from emobility.domain.session import ChargingPeriod
from emobility.domain.tariff.explanation import explain
from emobility.domain.tariff.priced import Limit, PeriodWithoutTariff, PricedLine, PricedSession, PricingNote
from emobility.domain.tariff.rounding import EXACT, RoundingPolicy, rounded_price
from emobility.domain.tariff.selection import (
    DIMENSIONS,
    ENERGY,
    FLAT,
    PARKING_TIME,
    TIME,
    Candidate,
    Choices,
    CompiledTariff,
    LocalMoment,
    Moment,
    PriceBook,
    compiled_together,
    first_match,
    only_reserves,
    require_likely,
    state,
    states_rate,
    zone_of,
)
from emobility.domain.tariff.span_check import Held, Span, check_held, check_span, may_be_odd
from emobility.domain.tariff.tariff import Tariff, TaxIncluded

__all__ = [
    "NoChargingPeriods",
    "NoSuchTariff",
    "PricedLine",
    "PricedSession",
    "SessionEndsTooEarly",
    "TariffsDisagree",
    "explain",
    "price_session",
    "price_session_by_several",
]

_WEIGHTS: Final = (18, 5, 5, 18_000)
"""A unit of each dimension in 18,000ths of what its price is per: Wh, seconds, seconds, once."""
_DENOMINATOR: Final = 18_000


class NoChargingPeriods(MalformedInput):
    """A session has at least one charging period."""

    def __init__(self) -> None:
        super().__init__("a session without charging periods can't be priced")


class SessionEndsTooEarly(MalformedInput):
    """A session ends at or after the start of its last period."""

    def __init__(self, *, ended_at: datetime, period_started_at: datetime) -> None:
        self.ended_at = ended_at
        self.period_started_at = period_started_at
        super().__init__(f"the session ends at {ended_at}, a period starts at {period_started_at}")


class NoSuchTariff(MalformedInput):
    """A period names a tariff that is not among those of its session."""

    def __init__(self, *, tariff_id: str, period_index: int) -> None:
        self.tariff_id = tariff_id
        self.period_index = period_index
        super().__init__(f"period {period_index} is priced by {tariff_id!r}, which is not there")


class TariffsDisagree(MalformedInput):
    """The tariffs of one session are of one currency, and each has an id of its own."""

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(f"these tariffs can't price one session: {detail}")


def price_session(
    tariff: Tariff,
    periods: Sequence[ChargingPeriod],
    *,
    ended_at: datetime,
    time_zone: str,
    rounding: RoundingPolicy = EXACT,
) -> PricedSession:
    """Price a session, or what there is of it so far.

    Args:
        tariff: The tariff frozen at its start.
        periods: Its charging periods; they are put in order of time first.
        ended_at: When the session ended, or now.
        time_zone: IANA zone of the location.
        rounding: What the parties agreed on.

    Raises:
        NoChargingPeriods: `periods` is empty.
        SessionEndsTooEarly: a period starts after `ended_at`.
        UnlikelyMoment: a session of another century.
        UnknownTimeZone: `time_zone` is no IANA zone.
        PriceOutOfRange: the tariff has a price nobody can mean.
        NegativeStepSize: the tariff has a step below zero.
        TooManyTaxRates: its prices include tax of more rates than any country has.
    """
    return _price((tariff,), periods, ended_at, time_zone, rounding)


def price_session_by_several(
    tariffs: Sequence[Tariff],
    periods: Sequence[ChargingPeriod],
    *,
    ended_at: datetime,
    time_zone: str,
    rounding: RoundingPolicy = EXACT,
) -> PricedSession:
    """Price a session whose periods name their tariffs; one tariff prices all of them, whatever they name.

    Steps, FLAT and limits look at the session as a whole: `step_size` is not taken into account when switching between
    two tariffs (10.4), the last one rounds the total up; the limits of every tariff that is named hold.

    Raises:
        NoSuchTariff: a period names another tariff.
        TariffsDisagree: two currencies, or two tariffs of one id.
        MalformedInput: as `price_session`.
    """
    if len({tariff.currency for tariff in tariffs}) != 1:
        raise TariffsDisagree("they have no one currency")
    if len({tariff.tariff_id.upper() for tariff in tariffs}) != len(tariffs):
        raise TariffsDisagree("two have one id")
    return _price(tuple(tariffs), periods, ended_at, time_zone, rounding)


def _price(
    tariffs: tuple[Tariff, ...],
    periods: Sequence[ChargingPeriod],
    ended_at: datetime,
    time_zone: str,
    rounding: RoundingPolicy,
) -> PricedSession:
    if not periods:
        raise NoChargingPeriods
    run = _Run(compiled_together(tariffs), zone_of(time_zone))
    ordered = _in_order(periods)
    require_likely(ordered[0].started_at, ended_at)
    if ordered[-1].started_at > ended_at:
        raise SessionEndsTooEarly(ended_at=ended_at, period_started_at=ordered[-1].started_at)
    run.charge(ordered, ended_at)
    run.round_up_by_step()
    return run.result(rounding)


def _in_order(periods: Sequence[ChargingPeriod]) -> Sequence[ChargingPeriod]:
    for earlier, later in pairwise(periods):
        if later.started_at < earlier.started_at:
            return sorted(periods, key=lambda period: period.started_at)
    return periods


class _Tally:
    """A line in the making."""

    __slots__ = ("billed", "candidate", "indices", "is_reservation", "quantity", "step_size")

    def __init__(self, candidate: Candidate, *, is_reservation: bool) -> None:
        self.candidate = candidate
        self.is_reservation = is_reservation
        self.quantity: int | Fraction = 0
        self.billed: int | Fraction = 0
        self.step_size: int | None = None
        self.indices: list[int] = []


class _Run:
    """One pricing: tallies by component, then steps, then sums."""

    def __init__(self, tariffs: tuple[CompiledTariff, ...], zone: ZoneInfo) -> None:
        self._tariffs = tariffs
        self._used: Sequence[CompiledTariff] = tariffs
        self._zone = zone
        self._tallies: dict[Candidate, _Tally] = {}
        self._last: dict[int, _Tally] = {}
        self._notes: list[PricingNote] = []
        self._energy_wh: int | Fraction = 0
        self._started_at: datetime | None = None
        self._flat_is_open = True

    def charge(self, periods: Sequence[ChargingPeriod], ended_at: datetime) -> None:
        """Tally every period under the components active at its start."""
        reservations = [index for index, period in enumerate(periods) if period.reserved_s]
        has_charge = not reservations or not all(only_reserves(period) for period in periods)
        if len(self._tariffs) == 1:
            of_period: Sequence[CompiledTariff | None] = (self._tariffs[0],) * len(periods)
        else:
            of_period = self._tariffs_of(periods)
        if reservations:
            self._charge_reservation(of_period, periods, reservations, ended_at, has_charge=has_charge)
        if not has_charge:
            return
        for tariff, first, last in _runs(of_period):
            until = periods[last].started_at if last < len(periods) else ended_at
            if tariff is None:
                self._pass_free(periods, first, last)
            else:
                self._charge_session(tariff.session, periods, first, last, until)

    def _tariffs_of(self, periods: Sequence[ChargingPeriod]) -> list[CompiledTariff | None]:
        """2.3.0, 10.4.6: a period without a `tariff_id` has no relevant tariff."""
        by_id: dict[str | None, CompiledTariff] = {each.tariff.tariff_id.upper(): each for each in self._tariffs}
        found: list[CompiledTariff | None] = []
        for index, period in enumerate(periods):
            tariff_id = period.tariff_id
            tariff = by_id.get(tariff_id and tariff_id.upper())
            if tariff is None:
                if tariff_id is not None:
                    raise NoSuchTariff(tariff_id=tariff_id, period_index=index)
                self._notes.append(PeriodWithoutTariff(period_index=index))
            found.append(tariff)
        self._used = [tariff for tariff in self._tariffs if tariff in found]
        return found

    def _pass_free(self, periods: Sequence[ChargingPeriod], first: int, last: int) -> None:
        for period in periods[first:last]:
            if not only_reserves(period):
                self._started_at = self._started_at or period.started_at
                self._energy_wh += period.net_wh

    def _charge_session(
        self, book: PriceBook, periods: Sequence[ChargingPeriod], first: int, last: int, ended_at: datetime
    ) -> None:
        zone, looks_at_clock = self._zone, book.looks_at_clock
        choices = _NO_CHOICES if looks_at_clock else book.choices(None)
        looks_at_state, energy_wh, started_at = book.looks_at_state, self._energy_wh, self._started_at
        moment: Moment | None = None
        local = book.local(periods[first].started_at, zone) if looks_at_clock else None
        local_end: LocalMoment | None = None
        for index in range(first, last):
            period = periods[index]
            period_ended_at = periods[index + 1].started_at if index + 1 < last else ended_at
            if local is not None:
                local_end = book.local(period_ended_at, zone)
                choices = book.choices(local)
            if not period.reserved_s or not only_reserves(period):
                started_at = started_at or period.started_at
                if looks_at_state:
                    moment = state(period, energy_wh=energy_wh, elapsed=period.started_at - started_at)
                if self._flat_is_open:
                    self._flat_is_open = not self._charge_slot(choices[FLAT], moment, 1, index)
                period_wh = period.net_wh
                if period_wh:
                    self._charge_slot(choices[ENERGY], moment, period_wh, index)
                if period.charging_s:
                    self._charge_slot(choices[TIME], moment, period.charging_s, index)
                if period.parking_s:
                    self._charge_slot(choices[PARKING_TIME], moment, period.parking_s, index)
                if looks_at_state or may_be_odd(book, period, period_ended_at, local, local_end):
                    span = Span(index, period, period_ended_at, local, local_end, moment, self._flat_is_open)
                    self._notes.extend(check_span(book, span, zone))
                energy_wh += period_wh
            local = local_end
        self._energy_wh, self._started_at = energy_wh, started_at

    def _charge_slot(
        self, candidates: tuple[Candidate, ...], moment: Moment | None, quantity: int | Fraction, index: int
    ) -> bool:
        # The first candidate mostly holds whatever the state; asking it here saves a call per dimension and period.
        is_certain = bool(candidates) and not candidates[0].looks_at_state
        active = candidates[0] if is_certain else first_match(candidates, moment)
        if active is None:
            return False
        tally = self._tallies.get(active)
        if tally is None:
            tally = self._tallies[active] = _Tally(active, is_reservation=False)
        tally.quantity += quantity
        tally.indices.append(index)
        self._last[active.slot] = tally
        return True

    def _charge_reservation(
        self,
        of_period: Sequence[CompiledTariff | None],
        periods: Sequence[ChargingPeriod],
        indices: list[int],
        ended_at: datetime,
        *,
        has_charge: bool,
    ) -> None:
        # OCPI 2.2.1, 11.4.7: a reservation can only have FLAT and TIME.
        started_at = periods[indices[0]].started_at
        flat_is_open = True
        for index in indices:
            period, tariff = periods[index], of_period[index]
            if tariff is None:
                continue
            book = tariff.reserved if has_charge else tariff.expired
            local = book.local(period.started_at, self._zone) if book.looks_at_clock else None
            moment = Moment(0, period.started_at - started_at, None, None, None, None)
            choices = book.choices(local)
            flat = first_match(choices[FLAT], moment) if flat_is_open else None
            if flat is not None:
                self._reserve(flat, 1, index)
                flat_is_open = False
            active = first_match(choices[TIME], moment)
            if active is not None:
                self._reserve(active, period.reserved_s, index)
            period_ended_at = periods[index + 1].started_at if index + 1 < len(periods) else ended_at
            held = Held(index, period.started_at, period_ended_at, moment, flat_is_open)
            self._notes.extend(check_held(book, held, self._zone))

    def _reserve(self, active: Candidate, quantity: int, index: int) -> None:
        tally = self._tallies.setdefault(active, _Tally(active, is_reservation=True))
        tally.quantity += quantity
        tally.indices.append(index)
        self._last[active.slot + _RESERVED] = tally

    def round_up_by_step(self) -> None:
        """Apply `step_size`: once to energy, once to the time of the session, once to that of a reservation."""
        for tally in self._tallies.values():
            tally.billed = tally.quantity
        # OCPI 2.2.1, 10.4: with both in use, only the total of parking is rounded.
        session_time = PARKING_TIME if PARKING_TIME in self._last else TIME
        for kind in (ENERGY, session_time, TIME + _RESERVED):
            last = self._last.get(kind)
            if last is not None and (last.candidate.component.step_size > 1 or kind == ENERGY):
                self._round_up(last)

    def _round_up(self, last: _Tally) -> None:
        total = sum(
            tally.quantity
            for tally in self._tallies.values()
            if tally.is_reservation is last.is_reservation and tally.candidate.slot == last.candidate.slot
        )
        # 11.4.2: consumed amounts are rounded up to a multiple of the step, and the least step is 1 Wh.
        step = max(1, last.candidate.component.step_size)
        missing = -total % step
        if step > 1 or missing:
            last.step_size = step
        if total > 0:
            last.billed += missing

    def result(self, rounding: RoundingPolicy) -> PricedSession:
        """Round each sum once, apply the limits and write the lines."""
        lines = tuple([_line(tally) for tally in self._tallies.values()])
        states_tax = any(tariff.states_tax for tariff in self._used)
        if rounding is EXACT:
            unlimited, parts = self._exact(states_tax=states_tax)
        else:
            unlimited, parts = _by_policy(lines, rounding, self._tariffs[0].tariff.currency, states_tax=states_tax)
        total, limit_excl, limit_incl = _limited(unlimited, [tariff.tariff for tariff in self._used])
        return PricedSession(
            currency=self._tariffs[0].tariff.currency,
            total=total,
            unlimited=unlimited,
            energy=parts[ENERGY],
            time=parts[TIME],
            parking=parts[PARKING_TIME],
            fixed=parts[FLAT],
            reservation=parts[_RESERVATION],
            lines=lines,
            notes=tuple(self._notes),
            limit_excl=limit_excl,
            limit_incl=limit_incl,
            is_net_known=not any(map(_hides_tax, lines)),
        )

    def _exact(self, *, states_tax: bool) -> tuple[Price, list[Price | None]]:
        """The total and the parts by `EXACT`, in integers throughout."""
        scale = self._tariffs[0].scale
        excl: list[int | Fraction] = [0, 0, 0, 0, 0]
        incl: list[int | Fraction] = [0, 0, 0, 0, 0]
        used = [False, False, False, False, False]
        for tally in self._tallies.values():
            candidate = tally.candidate
            part = _RESERVATION if tally.is_reservation else candidate.slot
            amount = tally.billed * _WEIGHTS[candidate.slot] * candidate.price_scaled
            excl[part] += amount * candidate.net_weight
            incl[part] += amount * candidate.gross_weight
            used[part] = True
        unit = _DENOMINATOR * 10**scale.price_decimals
        excl_unit, incl_unit = unit * scale.net_unit, unit * scale.gross_unit

        def rounded(excl_sum: int | Fraction, incl_sum: int | Fraction) -> Price:
            return Price(
                excl_e4=_round(excl_sum * 10_000, excl_unit),
                incl_e4=_round(incl_sum * 10_000, incl_unit) if states_tax else None,
            )

        parts = [rounded(excl[part], incl[part]) if used[part] else None for part in range(5)]
        return rounded(sum(excl), sum(incl)), parts


_NO_CHOICES: Final[Choices] = ((), (), (), ())
_RESERVATION: Final = 4
_RESERVED: Final = 4
"""Added to a slot: the same dimension of a reservation."""


def _runs(of_period: Sequence[CompiledTariff | None]) -> Iterator[tuple[CompiledTariff | None, int, int]]:
    """Yield stretches of periods under one tariff: from the first until before the last."""
    first = 0
    for index in range(1, len(of_period) + 1):
        if index == len(of_period) or of_period[index] is not of_period[first]:
            yield of_period[first], first, index
            first = index


def _line(tally: _Tally) -> PricedLine:
    candidate = tally.candidate
    component = candidate.component
    return PricedLine(
        dimension=component.dimension,
        element_index=candidate.element_index,
        price=component.price,
        vat_percent=component.vat_percent if states_rate(candidate.tariff, component) else None,
        quantity=tally.quantity,
        billed_quantity=tally.billed,
        step_size=tally.step_size,
        restrictions=candidate.restrictions,
        period_indices=tuple(tally.indices),
        is_reservation=tally.is_reservation,
        tariff_id=candidate.tariff.tariff_id,
        tax_included=candidate.tariff.tax_included,
    )


def _hides_tax(line: PricedLine) -> bool:
    return line.tax_included is TaxIncluded.YES and line.vat_percent is None and bool(line.price)


def _by_policy(
    lines: Sequence[PricedLine], rounding: RoundingPolicy, currency: str, *, states_tax: bool
) -> tuple[Price, list[Price | None]]:
    def rounded(some: Sequence[PricedLine]) -> Price:
        return rounded_price(some, rounding, currency=currency, states_tax=states_tax)

    of_part: list[list[PricedLine]] = [[] for _ in range(5)]
    for line in lines:
        of_part[_RESERVATION if line.is_reservation else DIMENSIONS.index(line.dimension)].append(line)
    return rounded(lines), [rounded(some) if some else None for some in of_part]


def _round(numerator: int | Fraction, denominator: int) -> int:
    """Divide and round half away from zero."""
    if numerator < 0:
        return -_round(-numerator, denominator)
    return (2 * numerator + denominator) // (2 * denominator)


def _limited(price: Price, tariffs: Sequence[Tariff]) -> tuple[Price, Limit | None, Limit | None]:
    # A limit is an amount that was agreed on, so it is not rounded; to ten-thousandths the order makes no difference.
    lows = [tariff.price_min for tariff in tariffs if tariff.price_min is not None]
    highs = [tariff.price_max for tariff in tariffs if tariff.price_max is not None]
    if not lows and not highs:
        return price, None, None
    low_excl = max((low.excl_e4 for low in lows), default=None)
    high_excl = min((high.excl_e4 for high in highs), default=None)
    excl, limit_excl = _clamp(price.excl_e4, low_excl, high_excl)
    if price.incl_e4 is None:
        return Price(excl_e4=excl), limit_excl, None
    low_incl = max((low.incl_e4 for low in lows if low.incl_e4 is not None), default=None)
    high_incl = min((high.incl_e4 for high in highs if high.incl_e4 is not None), default=None)
    incl, limit_incl = _clamp(price.incl_e4, low_incl, high_incl)
    return Price(excl_e4=excl, incl_e4=incl), limit_excl, limit_incl


def _clamp(amount: int, low: int | None, high: int | None) -> tuple[int, Limit | None]:
    if high is not None and amount > high:
        return high, Limit.MAXIMUM
    if low is not None and amount < low:
        if high is not None and low > high:
            return high, Limit.MAXIMUM
        return low, Limit.MINIMUM
    return amount, None
