"""The uptime of each port of a CPO over a period, from the history of its statuses and connections."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce
from typing import Any, Final

from emobility.domain.charging_station import EVSE, EVSEStatus
from emobility.domain.identifiers import PartyId
from emobility.domain.uptime import (
    NEVI_UPTIME_PPM,
    RAPID_POWER_W,
    UK_RELIABILITY_PPM,
    ExclusionReason,
    Span,
    Uptime,
    common,
    reliability,
    spans_where,
    union,
    uptime,
)
from emobility.ports.stores import SELECT_ROWS_MAX, TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from services.charging_operations.office import NotAllowedNow, NotUnderstood, Office
from services.charging_operations.records import STATION, StationRecord
from services.charging_operations.station_history import HISTORY_RETENTION
from services.charging_operations.station_records import (
    OUTAGE_EXCLUSION,
    STATION_CONNECTION,
    STATION_STATUS,
    OutageExclusionRecord,
)
from services.charging_operations.stations import STATUS_OF

EXCLUSIONS_MAX: Final = 2_000
"""Exclusions of one station; one a night for five years."""
EXCLUSION_ID_CHARACTERS_MAX: Final = 100
NOTE_CHARACTERS_MAX: Final = 1_000
_DOWN: Final = frozenset({EVSEStatus.INOPERATIVE, EVSEStatus.OUTOFORDER})

_Changes = list[tuple[datetime, bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutageExclusion:
    """PUT exclusion: when what was down, and why that is not the operator's; no EVSE named: all of the station's."""

    reason: ExclusionReason
    since: datetime
    until: datetime
    note: str
    ocpp_evse_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectorUptime:
    """One connector; times in whole seconds, uptime in millionths, None where nothing was observed."""

    connector_id: int
    observed_s: int
    outage_s: int
    excluded_s: int
    uptime_ppm: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PortUptime:
    """One EVSE. It is down while offline, or while the station, the EVSE or all its connectors are out of order.

    `observed_s` begins with the first status ever heard; `outage_s` holds `offline_s`; `unreliable_s` does not, for the
    UK rule, and is counted within `open_s`. That rule binds the mean of all rapid ports (`RapidNetwork`); of one port,
    `reaches_99_percent` says whether it draws the mean below.
    """

    charging_station_id: str
    evse_uid: str
    ocpp_evse_id: int
    power_w_max: int
    observed_s: int
    outage_s: int
    offline_s: int
    excluded_s: int
    uptime_ppm: int | None
    exceeds_97_percent: bool | None
    open_s: int
    unreliable_s: int
    reliability_ppm: int | None
    reaches_99_percent: bool | None
    connectors: tuple[ConnectorUptime, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RapidNetwork:
    """All EVSEs of 50 kW or more together, by the UK rule."""

    ports: int
    open_s: int
    unreliable_s: int
    reliability_ppm: int | None
    reaches_99_percent: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UptimeReport:
    """The period is cut off at the present; the rules ask about 12 months (US) and a calendar year (UK)."""

    since: datetime
    until: datetime
    ports: tuple[PortUptime, ...]
    rapid_network: RapidNetwork


@dataclass(frozen=True, slots=True, kw_only=True)
class _Port:
    """An EVSE and when it was what, over the period."""

    observed: list[Span]
    offline: list[Span]
    down: list[Span]
    connectors: dict[int, list[Span]]
    excluded: list[Span]
    closed: list[Span]


@dataclass(frozen=True, slots=True, kw_only=True)
class UptimeDesk:
    """Counts uptime and keeps what operators exclude."""

    office: Office

    async def exclude(
        self, unit: UnitOfWork, party_id: PartyId, station_id: str, exclusion_id: str, asked: OutageExclusion
    ) -> OutageExclusionRecord:
        """Enter or change an exclusion.

        Raises:
            NotUnderstood: it ends before it begins, has no offset or no note, or is too long.
            NotAllowedNow: the station has `EXCLUSIONS_MAX` already.
        """
        if len(exclusion_id) > EXCLUSION_ID_CHARACTERS_MAX:
            raise NotUnderstood(f"an exclusion's id has at most {EXCLUSION_ID_CHARACTERS_MAX} characters")
        if asked.since.tzinfo is None or asked.until.tzinfo is None or asked.until <= asked.since:
            raise NotUnderstood("an exclusion ends after it begins, both with their offset")
        if not 1 <= len(asked.note) <= NOTE_CHARACTERS_MAX:
            raise NotUnderstood(f"a note has 1 to {NOTE_CHARACTERS_MAX} characters")
        table = unit.table(OUTAGE_EXCLUSION)
        where = {"party_id": party_id, "charging_station_id": station_id}
        is_new = await table.get_for_update(party_id, station_id, exclusion_id) is None
        if is_new and await table.count(where) >= EXCLUSIONS_MAX:
            raise NotAllowedNow(f"a station has at most {EXCLUSIONS_MAX} exclusions")
        row = OutageExclusionRecord(
            party_id=party_id,
            charging_station_id=station_id,
            exclusion_id=exclusion_id,
            ocpp_evse_id=asked.ocpp_evse_id,
            reason=asked.reason,
            since=asked.since,
            until=asked.until,
            note=asked.note,
            entered_at=self.office.now(),
        )
        await table.put(row)
        return row

    async def report(self, party_id: PartyId, since: datetime, until: datetime) -> UptimeReport:
        """Count the uptime of all ports of a CPO. Raises `NotUnderstood`: no period, or longer than what is kept."""
        until = min(until, self.office.now())
        if not timedelta(0) < until - since <= HISTORY_RETENTION:
            raise NotUnderstood(f"a period lies in the past and has at most {HISTORY_RETENTION.days} days")
        async with self.office.ports.units.begin() as unit:
            stations = await unit.table(STATION).select({"party_id": party_id})
        ports: list[PortUptime] = []
        rapid: list[Uptime] = []
        for station in stations:
            async with self.office.ports.units.begin() as unit:
                found = await self._ports(unit, station, Span(since, until))
            for evse, port in found:
                reliable = reliability(port.observed, port.down, port.closed)
                ports.append(_shown(station.charging_station_id, evse, port, reliable))
                if ports[-1].power_w_max >= RAPID_POWER_W and reliable.observed:
                    rapid.append(reliable)
        return UptimeReport(since=since, until=until, ports=tuple(ports), rapid_network=_network(rapid))

    async def _ports(self, unit: UnitOfWork, station: StationRecord, period: Span) -> list[tuple[EVSE, _Port]]:
        where = {"party_id": station.party_id, "charging_station_id": station.charging_station_id}
        statuses = unit.table(STATION_STATUS)
        down: dict[tuple[int, int], list[Span]] = {}
        first: dict[int, datetime] = {}
        for evse_id, connector_id in await statuses.distinct(("ocpp_evse_id", "connector_id"), where):
            connector = where | {"ocpp_evse_id": evse_id, "connector_id": connector_id}
            rows = await _in_force(unit, STATION_STATUS, connector, period)
            known = [(row.began_at, STATUS_OF[row.status] in _DOWN) for row in rows if row.status in STATUS_OF]
            down[evse_id, connector_id] = spans_where(known, until=period.until)
            if known and connector_id:
                first[evse_id] = min(first.get(evse_id, known[0][0]), known[0][0])
        connection = await _in_force(unit, STATION_CONNECTION, where, period)
        offline = spans_where([(row.began_at, not row.is_online) for row in connection], until=period.until)
        exclusions = await unit.table(OUTAGE_EXCLUSION).select(where)
        return [
            (
                evse,
                _port(
                    evse.ocpp_evse_id,
                    down=down,
                    first=first.get(evse.ocpp_evse_id),
                    offline=offline,
                    exclusions=exclusions,
                    period=period,
                ),
            )
            for evse in station.station.evses
        ]


async def _in_force(unit: UnitOfWork, spec: TableSpec[Any], where: dict[str, Any], period: Span) -> list[Any]:
    """Return what was in force in a period: what began in it, and the last that began before."""
    table = unit.table(spec)
    begin = ("began_at", period.since)
    earlier = await table.select(where, before=begin, order_by=("-began_at",), limit=1)
    rows: list[Any] = []
    while len(rows) % SELECT_ROWS_MAX == 0:
        part = await table.select(
            where, since=begin, before=("began_at", period.until), order_by=("began_at",), offset=len(rows)
        )
        if not part:
            break
        rows += part
    return earlier + rows


def _port(
    evse_id: int,
    *,
    down: dict[tuple[int, int], list[Span]],
    first: datetime | None,
    offline: list[Span],
    exclusions: Iterable[OutageExclusionRecord],
    period: Span,
) -> _Port:
    connectors = {each: spans for (of_evse, each), spans in down.items() if of_evse == evse_id and each}
    whole = union([*down.get((0, 0), []), *down.get((evse_id, 0), [])])
    all_connectors = reduce(common, connectors.values()) if connectors else []
    own = [each for each in exclusions if each.ocpp_evse_id in (None, evse_id)]
    closed = [each for each in own if each.reason is ExclusionReason.OUTSIDE_OPENING_HOURS]
    observed = [] if first is None else union([Span(max(first, period.since), period.until)])
    return _Port(
        observed=observed,
        offline=offline,
        down=union([*whole, *all_connectors]),
        connectors={each: union([*whole, *spans]) for each, spans in connectors.items()},
        excluded=[Span(each.since, each.until) for each in own],
        closed=[Span(each.since, each.until) for each in closed],
    )


def _shown(station_id: str, evse: EVSE, port: _Port, reliable: Uptime) -> PortUptime:
    up = uptime(port.observed, [*port.down, *port.offline], port.excluded)
    return PortUptime(
        charging_station_id=station_id,
        evse_uid=evse.evse_uid,
        ocpp_evse_id=evse.ocpp_evse_id,
        power_w_max=max((each.power_w_max for each in evse.connectors), default=0),
        observed_s=_seconds(up.observed),
        outage_s=_seconds(up.outage),
        offline_s=_seconds(uptime(port.observed, port.offline).outage),
        excluded_s=_seconds(up.excluded),
        uptime_ppm=up.ppm,
        exceeds_97_percent=None if up.ppm is None else up.ppm > NEVI_UPTIME_PPM,
        open_s=_seconds(reliable.observed),
        unreliable_s=_seconds(reliable.outage),
        reliability_ppm=reliable.ppm,
        reaches_99_percent=_reaches_99_percent(reliable),
        connectors=tuple(_connector(each, port) for each in sorted(port.connectors)),
    )


def _connector(connector_id: int, port: _Port) -> ConnectorUptime:
    up = uptime(port.observed, [*port.connectors[connector_id], *port.offline], port.excluded)
    return ConnectorUptime(
        connector_id=connector_id,
        observed_s=_seconds(up.observed),
        outage_s=_seconds(up.outage),
        excluded_s=_seconds(up.excluded),
        uptime_ppm=up.ppm,
    )


def _network(rapid: list[Uptime]) -> RapidNetwork:
    total = Uptime(
        observed=sum((each.observed for each in rapid), timedelta(0)),
        outage=sum((each.outage for each in rapid), timedelta(0)),
    )
    return RapidNetwork(
        ports=len(rapid),
        open_s=_seconds(total.observed),
        unreliable_s=_seconds(total.outage),
        reliability_ppm=total.ppm,
        reaches_99_percent=_reaches_99_percent(total),
    )


def _reaches_99_percent(reliable: Uptime) -> bool | None:
    return None if reliable.ppm is None else reliable.ppm >= UK_RELIABILITY_PPM


def _seconds(length: timedelta) -> int:
    return length // timedelta(seconds=1)
