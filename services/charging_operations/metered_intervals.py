"""Register values by the quarter of an hour, put together from transactions and from what was read outside of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from fastapi import Request

from emobility.domain.identifiers import PartyId
from emobility.domain.meter import MeterReading
from emobility.domain.metered_intervals import BOUNDARY_SLACK, MeteredInterval, metered_intervals
from emobility.domain.transaction_faults import MOMENT_MAX, MOMENT_MIN
from emobility.ports.stores import SELECT_ROWS_MAX
from emobility.ports.unit_of_work import UnitOfWork
from emobility.runtime.access import TokenRole
from services.charging_operations.evse_readings import EVSE_READING, EVSEReadingRecord
from services.charging_operations.office import NotUnderstood
from services.charging_operations.operator_api import OperatorAPI
from services.charging_operations.records import TRANSACTION
from services.charging_operations.routes import Query, Route, RouteTable, asked

PERIOD_MAX: Final = timedelta(days=7)
"""Of one question."""
TOLD_LATE_MAX: Final = timedelta(days=7)
"""A message may hold readings from so long before its last one."""
READING_MESSAGES_MAX: Final = 50_000
PERIOD: Final = (
    Query("ocpp_evse_id", int, "the EVSE by the station's number, 1 when not given; 0 is the station's own meter"),
    Query("from", datetime, "begin of the period", is_required=True),
    Query("to", datetime, f"end of the period, at most {PERIOD_MAX.days} days later", is_required=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalShown:
    """A quarter of an hour; registers and energy in Wh. `is_signed`: both ends have signed records."""

    started_at: datetime
    import_begin_wh: int | None
    import_end_wh: int | None
    export_begin_wh: int | None
    export_end_wh: int | None
    import_wh: int | None
    export_wh: int | None
    is_signed: bool
    faults: tuple[str, ...]


async def intervals_of(
    unit: UnitOfWork, party_id: PartyId, station_id: str, ocpp_evse_id: int, *, since: datetime, until: datetime
) -> tuple[MeteredInterval, ...]:
    """Return an EVSE's intervals with their evidence.

    Raises:
        NotUnderstood: the period is longer than `PERIOD_MAX`, ends before it begins, or no clock shows it.
    """
    if not timedelta(0) <= until - since <= PERIOD_MAX or not MOMENT_MIN <= since < MOMENT_MAX:
        raise NotUnderstood(f"a period has at most {PERIOD_MAX.days} days")
    where = {"party_id": party_id, "charging_station_id": station_id, "ocpp_evse_id": ocpp_evse_id}
    earliest, latest = since - BOUNDARY_SLACK, until + BOUNDARY_SLACK
    readings: list[MeterReading] = []
    for row in await _reading_messages(unit, where, earliest, latest + TOLD_LATE_MAX):
        readings += row.readings
    for transaction in await unit.table(TRANSACTION).select(
        where, since=("last_at", earliest), before=("first_at", latest)
    ):
        for report in transaction.transaction.reports:
            readings += report.readings
    return metered_intervals(readings, since, until)


async def _reading_messages(
    unit: UnitOfWork, where: dict[str, Any], since: datetime, before: datetime
) -> list[EVSEReadingRecord]:
    rows: list[EVSEReadingRecord] = []
    while len(rows) < READING_MESSAGES_MAX:
        page = await unit.table(EVSE_READING).select(
            where, since=("occurred_at", since), before=("occurred_at", before), offset=len(rows)
        )
        rows += page
        if len(page) < SELECT_ROWS_MAX:
            break
    return rows


def shown_interval(interval: MeteredInterval) -> IntervalShown:
    """Return an interval without its signed records, which may name drivers."""
    begin, end = interval.begin, interval.end
    return IntervalShown(
        started_at=interval.started_at,
        import_begin_wh=begin.import_wh,
        import_end_wh=end.import_wh,
        export_begin_wh=begin.export_wh,
        export_end_wh=end.export_wh,
        import_wh=interval.import_wh,
        export_wh=interval.export_wh,
        is_signed=bool(begin.signed_records and end.signed_records),
        faults=interval.faults,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalAPI:
    """The route about intervals."""

    operator: OperatorAPI

    def mount_on(self, routes: RouteTable) -> None:
        """Add it."""
        path = "/stations/{station_id}/intervals"
        listing = Route("GET", path, self.list_intervals, None, list[IntervalShown], PERIOD)
        routes.add("Transactions", [listing], writes=TokenRole.OWNER)

    async def list_intervals(self, request: Request, party_id: PartyId) -> Any:
        """List what an EVSE's registers showed at each quarter of an hour, in and outside of transactions."""
        station_id = await self.operator.station_of(request, party_id)
        query = request.state.query
        async with self.operator.office.ports.units.begin() as unit:
            intervals = await intervals_of(
                unit, party_id, station_id, asked(request, "ocpp_evse_id", 1), since=query["from"], until=query["to"]
            )
        return [shown_interval(each) for each in intervals]
