"""Cut a transaction into charging periods: stretches between register readings, charging or only parking.

No energy is made or lost: the periods' Wh add up to what `metered_wh` says, and their seconds to the transaction's.
Moments are cut to whole seconds here, once: partners exchange seconds, and both must price the same periods.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from emobility.domain.session import ChargingPeriod
from emobility.domain.transaction import Transaction, readings_in_order

_SECOND: Final = timedelta(seconds=1)
CHARGING_STATE: Final = "Charging"
"""OCPP 2.0.1 `ChargingStateEnumType`: the one state in which energy moves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stretch:
    """Between two register readings at different moments."""

    start: datetime
    end: datetime
    import_wh: int
    export_wh: int
    powers_w: tuple[int, ...]


def whole_second(at: datetime) -> datetime:
    """Cut a moment to the second it lies in."""
    return at.replace(microsecond=0)


def charging_periods(transaction: Transaction) -> tuple[ChargingPeriod, ...]:
    """Return the periods from start to end (or to the last moment known while it runs).

    Energy decides what a stretch between two readings is: some moved, it charged; none moved, it parked. Where the
    station reported its charging state (2.x), a stretch with energy is cut at the changes and its energy lies on the
    parts in state Charging, shared by their length; a station that says it did not charge and moved energy charged.
    """
    stretches = _stretches(transaction)
    changes = sorted(
        (whole_second(report.occurred_at), report.charging_state)
        for report in transaction.reports
        if report.charging_state is not None
    )
    periods = [period for stretch in stretches for period in _periods_of(stretch, changes)]
    return tuple(period for period in periods if _holds_anything(period)) or tuple(periods[:1])


def without_time(periods: Sequence[ChargingPeriod]) -> tuple[ChargingPeriod, ...]:
    """Return the periods with their energy and no seconds of charging or parking, which nobody measured."""
    return tuple(replace(period, charging_s=0, parking_s=0) for period in periods)


def _holds_anything(period: ChargingPeriod) -> bool:
    return bool(period.charging_s or period.parking_s or period.energy_import_wh or period.energy_export_wh)


def _stretches(transaction: Transaction) -> list[_Stretch]:
    first_at, last_at = whole_second(transaction.first_at), whole_second(transaction.last_at)
    moments: list[datetime] = [first_at]
    energies: list[list[int]] = [[0, 0]]
    powers: list[list[int]] = [[]]
    registers: list[int | None] = [None, None]
    for reading in readings_in_order(transaction):
        # A reading outside the transaction's time keeps its energy; only its moment is moved inside.
        at = min(max(whole_second(reading.at), first_at), last_at)
        if at > moments[-1]:
            moments.append(at)
            energies.append([0, 0])
            powers.append([])
        if reading.power_w is not None:
            powers[-1].append(reading.power_w)
        for direction, value in enumerate((reading.import_wh, reading.export_wh)):
            if value is None:
                continue
            before = registers[direction]
            if before is not None:
                energies[-1][direction] += max(0, value - before)
            registers[direction] = value
    if last_at > moments[-1]:
        moments.append(last_at)
        energies.append([0, 0])
        powers.append([])
    if len(moments) == 1:
        return [_Stretch(start=first_at, end=first_at, import_wh=energies[0][0], export_wh=energies[0][1], powers_w=())]
    # Energy that rose at the very first moment belongs to the first stretch; there is none before it.
    energies[1][0] += energies[0][0]
    energies[1][1] += energies[0][1]
    return [
        _Stretch(
            start=moments[place - 1],
            end=moments[place],
            import_wh=energies[place][0],
            export_wh=energies[place][1],
            powers_w=tuple(powers[place]),
        )
        for place in range(1, len(moments))
    ]


def _periods_of(stretch: _Stretch, changes: Sequence[tuple[datetime, str]]) -> list[ChargingPeriod]:
    has_energy = stretch.import_wh > 0 or stretch.export_wh > 0
    parts = _parts(stretch, changes) if has_energy else [(stretch.start, stretch.end, False)]
    if has_energy and not any(is_charging for _, _, is_charging in parts):
        parts = [(stretch.start, stretch.end, True)]
    weights = [_seconds(start, end) if is_charging else 0 for start, end, is_charging in parts]
    if has_energy and not any(weights):
        weights = [int(is_charging) for _, _, is_charging in parts]
    imports = _shared(stretch.import_wh, weights)
    exports = _shared(stretch.export_wh, weights)
    powers = [
        _powers_of(stretch, imports[place], _seconds(start, end)) if is_charging else (None, None)
        for place, (start, end, is_charging) in enumerate(parts)
    ]
    return [
        ChargingPeriod(
            started_at=start,
            energy_import_wh=imports[place],
            energy_export_wh=exports[place],
            charging_s=_seconds(start, end) if is_charging else 0,
            parking_s=0 if is_charging else _seconds(start, end),
            power_w_min=powers[place][0],
            power_w_max=powers[place][1],
        )
        for place, (start, end, is_charging) in enumerate(parts)
    ]


def _powers_of(stretch: _Stretch, import_wh: int, charging_s: int) -> tuple[int | None, int | None]:
    """Return the least and the most power: samples are moments, and the mean of what was taken lies between the two."""
    if not stretch.powers_w:
        return None, None
    powers_w = list(stretch.powers_w)
    if charging_s:
        mean_w, rest = divmod(import_wh * 3_600, charging_s)
        powers_w += (mean_w, mean_w + (rest > 0))
    return min(powers_w), max(powers_w)


def _parts(stretch: _Stretch, changes: Sequence[tuple[datetime, str]]) -> list[tuple[datetime, datetime, bool]]:
    """Cut a stretch where the charging state changed; without any state it charged throughout."""
    before = [state for at, state in changes if at <= stretch.start]
    is_charging = before[-1] == CHARGING_STATE if before else True
    cuts = [(at, state == CHARGING_STATE) for at, state in changes if stretch.start < at < stretch.end]
    parts: list[tuple[datetime, datetime, bool]] = []
    start = stretch.start
    for at, charges_next in cuts:
        if charges_next == is_charging:
            continue
        parts.append((start, at, is_charging))
        start, is_charging = at, charges_next
    parts.append((start, stretch.end, is_charging))
    return parts


def _shared(amount_wh: int, weights: Sequence[int]) -> list[int]:
    """Share whole Wh by weight; the running total is rounded down, so the shares add up exactly."""
    total = sum(weights)
    if total == 0:
        return [0] * len(weights)
    shares: list[int] = []
    seen, given = 0, 0
    for weight in weights:
        seen += weight
        up_to_here = amount_wh * seen // total
        shares.append(up_to_here - given)
        given = up_to_here
    return shares


def _seconds(start: datetime, end: datetime) -> int:
    return (end - start) // _SECOND
