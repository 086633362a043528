"""The one exact engine: a session's periods under a tariff become money, with every step on record.

Written from OCPI 2.2.1 (mod_tariffs, section 11, and "step_size" in mod_cdrs, section 10.4):

- Per dimension the first element whose restrictions hold when a period starts is active; none: free.
- `step_size` rounds up once per session: the total of ENERGY by the step of the last ENERGY component that charged
  for something, the rest added at that component's price; likewise time, where the total of PARKING_TIME is rounded
  when anything was charged for it, and the total of TIME only otherwise. A total below zero is not rounded.
- FLAT is charged once, by the first FLAT component that becomes active in the session.
- A reservation takes only TIME and FLAT of elements made for it, with a step and a FLAT of its own; without a charge
  after it, it has expired.
- `min_price` and `max_price` hold before and after tax independently; the maximum wins where they cross.
- Energy is net: what was fed in counts negative (OCPI's ENERGY dimension), and a price may be negative.

All sums are integers over one denominator. Each total is rounded once, half away from zero, to ten-thousandths.
A period's `tariff_id` is not looked at: the caller says which tariff prices the session.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo

from emobility.domain.errors import MalformedInput
from emobility.domain.money import Price
from emobility.domain.session import ChargingPeriod
from emobility.domain.tariff.explanation import explain
from emobility.domain.tariff.priced import Limit, PricedLine, PricedSession, PricingNote
from emobility.domain.tariff.selection import (
    ENERGY,
    FLAT,
    PARKING_TIME,
    TIME,
    Candidate,
    CompiledTariff,
    Moment,
    PriceBook,
    compiled,
    first_match,
    only_reserves,
    require_likely,
    state,
    zone_of,
)
from emobility.domain.tariff.span_check import Span, check_span
from emobility.domain.tariff.tariff import Tariff

__all__ = [
    "NoChargingPeriods",
    "PricedLine",
    "PricedSession",
    "SessionEndsTooEarly",
    "explain",
    "price_session",
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


def price_session(
    tariff: Tariff, periods: Sequence[ChargingPeriod], *, ended_at: datetime, time_zone: str
) -> PricedSession:
    """Price a session, or what there is of it so far.

    Args:
        tariff: The tariff frozen at its start.
        periods: Its charging periods; they are put in order of time first.
        ended_at: When the session ended, or now.
        time_zone: IANA zone of the location.

    Raises:
        NoChargingPeriods: `periods` is empty.
        SessionEndsTooEarly: a period starts after `ended_at`.
        UnlikelyMoment: a session of another century.
        UnknownTimeZone: `time_zone` is no IANA zone.
        PriceOutOfRange: the tariff has a price nobody can mean.
        NegativeStepSize: the tariff has a step below zero.
    """
    if not periods:
        raise NoChargingPeriods
    run = _Run(compiled(tariff), zone_of(time_zone))
    ordered = _in_order(periods)
    require_likely(ordered[0].started_at, ended_at)
    if ordered[-1].started_at > ended_at:
        raise SessionEndsTooEarly(ended_at=ended_at, period_started_at=ordered[-1].started_at)
    run.charge(ordered, ended_at)
    run.round_up_by_step()
    return run.result()


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
        self.quantity = 0
        self.billed = 0
        self.step_size: int | None = None
        self.indices: list[int] = []

    def add(self, quantity: int, index: int) -> None:
        self.quantity += quantity
        self.billed += quantity
        self.indices.append(index)


class _Run:
    """One pricing: tallies by component, then steps, then sums."""

    def __init__(self, tariff: CompiledTariff, zone: ZoneInfo) -> None:
        self._tariff = tariff
        self._zone = zone
        self._tallies: dict[Candidate, _Tally] = {}
        self._last: dict[tuple[bool, int], _Tally] = {}
        self._notes: list[PricingNote] = []

    def charge(self, periods: Sequence[ChargingPeriod], ended_at: datetime) -> None:
        """Tally every period under the components active at its start."""
        reservations = [index for index, period in enumerate(periods) if period.reserved_s]
        has_charge = not reservations or not all(only_reserves(period) for period in periods)
        if reservations:
            book = self._tariff.reserved if has_charge else self._tariff.expired
            self._charge_reservation(book, periods, reservations)
        if has_charge:
            self._charge_session(periods, ended_at)

    def _charge_session(self, periods: Sequence[ChargingPeriod], ended_at: datetime) -> None:
        book = self._tariff.session
        zone = self._zone if book.looks_at_clock else None
        energy_wh = 0
        started_at: datetime | None = None
        flat_is_open = True
        moment: Moment | None = None
        local = None if zone is None else book.local(periods[0].started_at, zone)
        for index, period in enumerate(periods):
            period_ended_at = periods[index + 1].started_at if index + 1 < len(periods) else ended_at
            local_end = None if zone is None else book.local(period_ended_at, zone)
            if not period.reserved_s or not only_reserves(period):
                started_at = started_at or period.started_at
                if book.looks_at_state:
                    moment = state(period, energy_wh=energy_wh, elapsed=period.started_at - started_at)
                choices = book.choices(local)
                if flat_is_open:
                    flat_is_open = not self._charge_slot(choices[FLAT], moment, 1, index)
                period_wh = period.energy_import_wh - period.energy_export_wh
                if period_wh:
                    self._charge_slot(choices[ENERGY], moment, period_wh, index)
                if period.charging_s:
                    self._charge_slot(choices[TIME], moment, period.charging_s, index)
                if period.parking_s:
                    self._charge_slot(choices[PARKING_TIME], moment, period.parking_s, index)
                span = Span(index, period, period_ended_at, local, local_end, moment)
                self._notes.extend(check_span(book, span, self._zone))
                energy_wh += period_wh
            local = local_end

    def _charge_slot(self, candidates: tuple[Candidate, ...], moment: Moment | None, quantity: int, index: int) -> bool:
        active = first_match(candidates, moment)
        if active is None:
            return False
        self._add(active, quantity, index)
        return True

    def _charge_reservation(self, book: PriceBook, periods: Sequence[ChargingPeriod], indices: list[int]) -> None:
        # OCPI 2.2.1, 11.4.7: a reservation can only have FLAT and TIME.
        started_at = periods[indices[0]].started_at
        flat_is_open = True
        for index in indices:
            period = periods[index]
            local = book.local(period.started_at, self._zone) if book.looks_at_clock else None
            moment = Moment(0, period.started_at - started_at, None, None, None, None)
            choices = book.choices(local)
            flat = first_match(choices[FLAT], moment) if flat_is_open else None
            if flat is not None:
                self._add(flat, 1, index, is_reservation=True)
                flat_is_open = False
            active = first_match(choices[TIME], moment)
            if active is not None:
                self._add(active, period.reserved_s, index, is_reservation=True)

    def _add(self, candidate: Candidate, quantity: int, index: int, *, is_reservation: bool = False) -> None:
        tally = self._tallies.get(candidate)
        if tally is None:
            tally = self._tallies[candidate] = _Tally(candidate, is_reservation=is_reservation)
        tally.add(quantity, index)
        self._last[is_reservation, candidate.slot] = tally

    def round_up_by_step(self) -> None:
        """Apply `step_size`: once to energy, once to the time of the session, once to that of a reservation."""
        # OCPI 2.2.1, 10.4: with both in use, only the total of parking is rounded.
        session_time = PARKING_TIME if (False, PARKING_TIME) in self._last else TIME
        for key in ((False, ENERGY), (False, session_time), (True, TIME)):
            tally = self._last.get(key)
            if tally is not None and tally.candidate.component.step_size > 1:
                self._round_up(key, tally)

    def _round_up(self, key: tuple[bool, int], last: _Tally) -> None:
        is_reservation, slot = key
        total = sum(
            tally.quantity
            for tally in self._tallies.values()
            if tally.is_reservation is is_reservation and tally.candidate.slot == slot
        )
        step = last.candidate.component.step_size
        last.step_size = step
        if total > 0:
            last.billed += -total % step

    def result(self) -> PricedSession:
        """Round each sum once, apply the limits and write the lines."""
        tariff = self._tariff
        excl, incl = [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]
        used = [False, False, False, False, False]
        for tally in self._tallies.values():
            candidate = tally.candidate
            part = _RESERVATION if tally.is_reservation else candidate.slot
            amount = tally.billed * _WEIGHTS[candidate.slot] * candidate.price_scaled
            excl[part] += amount
            incl[part] += amount * candidate.tax_factor_scaled
            used[part] = True
        excl_unit = _DENOMINATOR * 10**tariff.price_decimals
        incl_unit = excl_unit * 10 ** (tariff.vat_decimals + 2)

        def rounded(excl_sum: int, incl_sum: int) -> Price:
            return Price(
                excl_e4=_round(excl_sum * 10_000, excl_unit),
                incl_e4=_round(incl_sum * 10_000, incl_unit) if tariff.states_tax else None,
            )

        parts = [rounded(excl[part], incl[part]) if used[part] else None for part in range(5)]
        unlimited = rounded(sum(excl), sum(incl))
        total, limit_excl, limit_incl = _limited(unlimited, tariff.tariff)
        return PricedSession(
            currency=tariff.tariff.currency,
            total=total,
            unlimited=unlimited,
            energy=parts[ENERGY],
            time=parts[TIME],
            parking=parts[PARKING_TIME],
            fixed=parts[FLAT],
            reservation=parts[_RESERVATION],
            lines=tuple(_line(tally) for tally in self._tallies.values()),
            notes=tuple(self._notes),
            limit_excl=limit_excl,
            limit_incl=limit_incl,
        )


_RESERVATION: Final = 4


def _line(tally: _Tally) -> PricedLine:
    candidate = tally.candidate
    component = candidate.component
    return PricedLine(
        dimension=component.dimension,
        element_index=candidate.element_index,
        price=component.price,
        vat_percent=component.vat_percent,
        quantity=tally.quantity,
        billed_quantity=tally.billed,
        step_size=tally.step_size,
        restrictions=candidate.restrictions,
        period_indices=tuple(tally.indices),
        is_reservation=tally.is_reservation,
    )


def _round(numerator: int, denominator: int) -> int:
    """Divide and round half away from zero."""
    magnitude = (2 * abs(numerator) + denominator) // (2 * denominator)
    return magnitude if numerator >= 0 else -magnitude


def _limited(price: Price, tariff: Tariff) -> tuple[Price, Limit | None, Limit | None]:
    # Limits are whole ten-thousandths, so limiting after rounding equals rounding after limiting.
    low, high = tariff.price_min, tariff.price_max
    if low is None and high is None:
        return price, None, None
    low_excl, low_incl = (None, None) if low is None else (low.excl_e4, low.incl_e4)
    high_excl, high_incl = (None, None) if high is None else (high.excl_e4, high.incl_e4)
    excl, limit_excl = _clamp(price.excl_e4, low_excl, high_excl)
    if price.incl_e4 is None:
        return Price(excl_e4=excl), limit_excl, None
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
