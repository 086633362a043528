"""Pages of reports that have no number of their own: they come in order, for a station has one CALL under way."""

from __future__ import annotations

from dataclasses import replace

from emobility.events.event import Envelope
from emobility.events.station_told import StationTold
from emobility.ports.unit_of_work import UnitOfWork
from services.charging_operations.station_records import STATION_REPORT, ReportKind, ReportState


async def take_page(
    unit: UnitOfWork, envelope: Envelope, event: StationTold, request_id: int, kind: ReportKind, *, is_last: bool
) -> bool:
    """Count a page of a report of everything that we asked for; tell whether all of it is here now."""
    report = await unit.table(STATION_REPORT).get_for_update(event.party_id, event.charging_station_id, request_id)
    if report is None or report.kind is not kind or report.state is not ReportState.ASKED:
        return False
    report = replace(report, pages=report.pages + 1)
    if is_last:
        completed_at, last_seq_no = envelope.recorded_at, report.pages - 1
        report = replace(report, state=ReportState.COMPLETE, last_seq_no=last_seq_no, completed_at=completed_at)
    await unit.table(STATION_REPORT).put(report)
    return is_last
