"""Cut charging periods where the price changes, as OCPI 2.2.1 (10.4) asks of whoever makes a session's periods.

Energy between two readings is taken to flow evenly; nothing is lost or added by a cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from emobility.domain.session import ChargingPeriod
from emobility.domain.tariff.changes import Stretch, changes
from emobility.domain.tariff.selection import (
    ENERGY,
    FLAT,
    PARKING_TIME,
    TIME,
    Moment,
    PriceBook,
    compiled,
    only_reserves,
    require_likely,
    state,
    zone_of,
)
from emobility.domain.tariff.tariff import Tariff

_SECOND: Final = timedelta(seconds=1)
_ALL_SLOTS: Final = (ENERGY, TIME, PARKING_TIME, FLAT)


def split_at_price_changes(
    tariff: Tariff, periods: Sequence[ChargingPeriod], *, ended_at: datetime, time_zone: str
) -> tuple[ChargingPeriod, ...]:
    """Return the periods in order of time, each cut where another component of `tariff` becomes active.

    Cuts lie on the clock, on a duration, or where the energy so far reaches a threshold. Power and current are not
    looked into: a period that crosses such a threshold must have been cut by the readings. Time for which the EVSE was
    held is cut where its own price changes; whether the reservation has expired, the periods tell.

    Args:
        tariff: The tariff that will price them.
        periods: The session's periods so far.
        ended_at: End of the last one.
        time_zone: IANA zone of the location.

    Raises:
        UnlikelyMoment: a session of another century.
        UnknownTimeZone: `time_zone` is no IANA zone.
        PriceOutOfRange: the tariff has a price nobody can mean.
    """
    ordered = tuple(sorted(periods, key=lambda period: period.started_at))
    tariff_books = compiled(tariff)
    if any(period.reserved_s for period in ordered):
        has_charge = not all(only_reserves(period) for period in ordered)
        reserved = tariff_books.reserved if has_charge else tariff_books.expired
        ordered = _cut_reserved(reserved, ordered, ended_at, time_zone)
    return _cut_used(tariff_books.session, ordered, ended_at, time_zone)


def _cut_reserved(
    book: PriceBook, ordered: tuple[ChargingPeriod, ...], ended_at: datetime, time_zone: str
) -> tuple[ChargingPeriod, ...]:
    if not (book.looks_at_clock or book.looks_at_state):
        return ordered
    zone = zone_of(time_zone)
    require_likely(*(period.started_at for period in ordered), ended_at)
    reserved_from = next(period.started_at for period in ordered if period.reserved_s)
    parts: list[ChargingPeriod] = []
    for period, period_ended_at in _with_ends(ordered, ended_at):
        if not period.reserved_s:
            parts.append(period)
            continue
        # A reservation knows of no energy, so what else the period holds is cut as time goes.
        stretch = Stretch(
            started_at=period.started_at,
            ended_at=period_ended_at,
            moment=Moment(0, period.started_at - reserved_from, None, None, None, None),
            energy_wh=0,
        )
        lasted_s = max(1, (period_ended_at - period.started_at) // _SECOND)
        whole_wh = period.energy_import_wh - period.energy_export_wh
        cuts = {
            change.at: whole_wh * ((change.at - period.started_at) // _SECOND) // lasted_s
            for change in changes(book, stretch, zone, (TIME, FLAT))
        }
        parts.extend(_cut(period, period_ended_at, sorted(cuts.items())))
    return tuple(parts)


def _cut_used(
    book: PriceBook, ordered: tuple[ChargingPeriod, ...], ended_at: datetime, time_zone: str
) -> tuple[ChargingPeriod, ...]:
    if not (book.looks_at_clock or book.looks_at_state):
        return ordered
    zone = zone_of(time_zone)
    require_likely(*(period.started_at for period in ordered), ended_at)
    energy_wh = 0
    started_at: datetime | None = None
    parts: list[ChargingPeriod] = []
    for period, period_ended_at in _with_ends(ordered, ended_at):
        if only_reserves(period):
            parts.append(period)
            continue
        started_at = started_at or period.started_at
        # Whole Wh are cut; what a document states beyond them stays with the last part.
        whole_wh = period.energy_import_wh - period.energy_export_wh
        stretch = Stretch(
            started_at=period.started_at,
            ended_at=period_ended_at,
            moment=state(period, energy_wh=energy_wh, elapsed=period.started_at - started_at),
            energy_wh=whole_wh,
        )
        cuts = {change.at: int(change.energy_wh) for change in changes(book, stretch, zone, _ALL_SLOTS)}
        parts.extend(_cut(period, period_ended_at, sorted(cuts.items())))
        energy_wh += whole_wh
    return tuple(parts)


def _with_ends(ordered: tuple[ChargingPeriod, ...], ended_at: datetime) -> Iterator[tuple[ChargingPeriod, datetime]]:
    ends = [*(period.started_at for period in ordered[1:]), ended_at]
    return zip(ordered, ends, strict=True)


def _cut(period: ChargingPeriod, ended_at: datetime, cuts: list[tuple[datetime, int]]) -> Iterator[ChargingPeriod]:
    lasted_s = max(1, (ended_at - period.started_at) // _SECOND)
    done = replace(
        period, energy_import_wh=0, energy_export_wh=0, charging_s=0, parking_s=0, reserved_s=0, energy_rest_wh=None
    )
    start = period.started_at
    for at, net_wh in cuts:
        part_s = (at - period.started_at) // _SECOND
        export_wh = period.energy_export_wh * part_s // lasted_s
        until = replace(
            period,
            energy_import_wh=min(net_wh + export_wh, period.energy_import_wh) if net_wh + export_wh > 0 else 0,
            energy_export_wh=export_wh,
            charging_s=min(period.charging_s * part_s // lasted_s, period.charging_s),
            parking_s=min(period.parking_s * part_s // lasted_s, period.parking_s),
            reserved_s=min(period.reserved_s * part_s // lasted_s, period.reserved_s),
            energy_rest_wh=None,
        )
        yield _between(done, until, start)
        done, start = until, at
    yield _between(done, period, start)


def _between(done: ChargingPeriod, until: ChargingPeriod, started_at: datetime) -> ChargingPeriod:
    return replace(
        until,
        started_at=started_at,
        energy_import_wh=until.energy_import_wh - done.energy_import_wh,
        energy_export_wh=until.energy_export_wh - done.energy_export_wh,
        charging_s=until.charging_s - done.charging_s,
        parking_s=until.parking_s - done.parking_s,
        reserved_s=until.reserved_s - done.reserved_s,
    )
