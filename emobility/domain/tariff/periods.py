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
from emobility.domain.tariff.selection import ENERGY, FLAT, PARKING_TIME, TIME, compiled, require_likely, state, zone_of
from emobility.domain.tariff.tariff import Tariff

_SECOND: Final = timedelta(seconds=1)
_ALL_SLOTS: Final = (ENERGY, TIME, PARKING_TIME, FLAT)


def split_at_price_changes(
    tariff: Tariff, periods: Sequence[ChargingPeriod], *, ended_at: datetime, time_zone: str
) -> tuple[ChargingPeriod, ...]:
    """Return the periods in order of time, each cut where another component of `tariff` becomes active.

    Cuts lie on the clock, on a duration, or where the energy so far reaches a threshold. Power and current are not
    looked into: a period that crosses such a threshold must have been cut by the readings. Reservations stay whole.

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
    book = compiled(tariff).session
    if not (book.looks_at_clock or book.looks_at_state):
        return tuple(sorted(periods, key=lambda period: period.started_at))
    zone = zone_of(time_zone)
    require_likely(*(period.started_at for period in periods), ended_at)
    ordered = sorted(periods, key=lambda period: period.started_at)
    ends = [*(period.started_at for period in ordered[1:]), ended_at]
    energy_wh = 0
    started_at: datetime | None = None
    parts: list[ChargingPeriod] = []
    for period, period_ended_at in zip(ordered, ends, strict=True):
        if period.reserved_s:
            parts.append(period)
            continue
        started_at = started_at or period.started_at
        stretch = Stretch(
            started_at=period.started_at,
            ended_at=period_ended_at,
            moment=state(period, energy_wh=energy_wh, elapsed=period.started_at - started_at),
            energy_wh=period.energy_import_wh - period.energy_export_wh,
        )
        cuts = {change.at: change.energy_wh for change in changes(book, stretch, zone, _ALL_SLOTS)}
        parts.extend(_cut(period, stretch, sorted(cuts.items())))
        energy_wh += stretch.energy_wh
    return tuple(parts)


def _cut(period: ChargingPeriod, stretch: Stretch, cuts: list[tuple[datetime, int]]) -> Iterator[ChargingPeriod]:
    lasted_s = max(1, (stretch.ended_at - stretch.started_at) // _SECOND)
    done = replace(period, energy_import_wh=0, energy_export_wh=0, charging_s=0, parking_s=0)
    start = period.started_at
    for at, net_wh in cuts:
        part_s = (at - stretch.started_at) // _SECOND
        export_wh = period.energy_export_wh * part_s // lasted_s
        until = replace(
            period,
            energy_import_wh=min(net_wh + export_wh, period.energy_import_wh) if net_wh + export_wh > 0 else 0,
            energy_export_wh=export_wh,
            charging_s=min(period.charging_s * part_s // lasted_s, period.charging_s),
            parking_s=min(period.parking_s * part_s // lasted_s, period.parking_s),
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
    )
