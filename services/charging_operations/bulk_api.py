"""One command for many stations over HTTP: begin, watch, cancel, call once more."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from fastapi import Request

from emobility.domain.identifiers import PartyId
from emobility.domain.personal import SubjectErased
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.station_control.messages import CommandResult
from emobility.protocols.station_control.redaction import redacted
from emobility.runtime.access import TokenRole
from services.charging_operations.bulk_commands import (
    BULK_CALL,
    BULK_JOB,
    Again,
    BulkCallRecord,
    BulkCommand,
    BulkDesk,
    BulkJobRecord,
    CallState,
    JobState,
)
from services.charging_operations.office import NotFound
from services.charging_operations.operator_api import OperatorAPI
from services.charging_operations.routes import PAGE, Query, Route, RouteTable, read_body

CALL_QUERY: Final = (
    *PAGE,
    Query("state", CallState, "only stations in this state"),
    Query("result", CommandResult, "only stations with this result"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkJobShown:
    """A job and how far it is: stations by the state of their call, and those that answered by their result."""

    job_id: str
    action: str
    state: JobState
    stations: int
    by_state: dict[CallState, int]
    by_result: dict[CommandResult, int]
    created_at: datetime
    ended_at: datetime | None
    correlation_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkCallShown:
    """One station of a job; `answer` is what it said, without persons and secrets."""

    charging_station_id: str
    state: CallState
    result: CommandResult | None
    detail: str | None
    answer: Any
    tries: int
    called_at: datetime | None
    answered_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobNamed:
    """The job that was deleted."""

    job_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkAPI:
    """Routes of bulk commands."""

    operator: OperatorAPI
    desk: BulkDesk

    def mount_on(self, routes: RouteTable) -> None:
        """Add the routes."""
        job = "/bulk-commands/{job_id}"
        routes.add(
            "Bulk commands",
            [
                Route("POST", "/commands/{action}", self.start_bulk_command, BulkCommand, BulkJobShown, status=202),
                Route("GET", "/bulk-commands", self.list_bulk_commands, None, list[BulkJobShown], PAGE),
                Route("GET", job, self.show_bulk_command, None, BulkJobShown),
                Route("DELETE", job, self.delete_bulk_command, None, JobNamed),
                Route("GET", f"{job}/stations", self.list_bulk_calls, None, list[BulkCallShown], CALL_QUERY),
                Route("POST", f"{job}/cancel", self.cancel_bulk_command, None, BulkJobShown),
                Route("POST", f"{job}/again", self.repeat_bulk_command, Again, BulkJobShown),
            ],
            writes=TokenRole.OPERATOR,
        )

    async def start_bulk_command(self, request: Request, party_id: PartyId) -> Any:
        """Have many stations called; the job is shown at once and works on. The same `job_id` again is the same job."""
        wanted = await read_body(request, BulkCommand)
        correlation_id = self.operator.correlation_of(request)
        job = await self.desk.start(party_id, request.path_params["action"], wanted, correlation_id=correlation_id)
        return await self._shown(job)

    async def list_bulk_commands(self, request: Request, party_id: PartyId) -> Any:
        """List jobs, the newest first."""
        rows = await self.operator.rows(request, party_id, BULK_JOB, order_by=("-created_at",))
        return [await self._shown(row) for row in rows]

    async def show_bulk_command(self, request: Request, party_id: PartyId) -> Any:
        """Show how far a job is."""
        async with self.operator.office.ports.units.begin() as unit:
            job = await _job(unit, party_id, request)
        return await self._shown(job)

    async def list_bulk_calls(self, request: Request, party_id: PartyId) -> Any:
        """List a job's stations with what became of each."""
        async with self.operator.office.ports.units.begin() as unit:
            job = await _job(unit, party_id, request)
        rows = await self.operator.rows(request, party_id, BULK_CALL, "state", "result", where={"job_id": job.job_id})
        return [await self._shown_call(row) for row in rows]

    async def cancel_bulk_command(self, request: Request, party_id: PartyId) -> Any:
        """Call no more stations; calls that are under way end."""
        return await self._shown(await self.desk.cancel(party_id, request.path_params["job_id"]))

    async def repeat_bulk_command(self, request: Request, party_id: PartyId) -> Any:
        """Call stations once more, by default those of which nobody knows whether they were called."""
        wanted = await read_body(request, Again)
        return await self._shown(await self.desk.again(party_id, request.path_params["job_id"], wanted))

    async def delete_bulk_command(self, request: Request, party_id: PartyId) -> Any:
        """Forget a job that ended."""
        job_id: str = request.path_params["job_id"]
        await self.desk.delete(party_id, job_id)
        return JobNamed(job_id=job_id)

    async def _shown(self, job: BulkJobRecord) -> BulkJobShown:
        where = {"party_id": job.party_id, "job_id": job.job_id}
        async with self.operator.office.ports.units.begin() as unit:
            calls = unit.table(BULK_CALL)
            by_state = {state: await calls.count(where | {"state": state}) for state in CallState}
            by_result = {result: await calls.count(where | {"result": result}) for result in CommandResult}
        return BulkJobShown(
            job_id=job.job_id,
            action=job.action,
            state=job.state,
            stations=job.stations,
            by_state={state: count for state, count in by_state.items() if count},
            by_result={result: count for result, count in by_result.items() if count},
            created_at=job.created_at,
            ended_at=job.ended_at,
            correlation_id=job.correlation_id,
        )

    async def _shown_call(self, row: BulkCallRecord) -> BulkCallShown:
        answer = None
        if row.answer is not None:
            try:
                answer = redacted(json.loads(await self.operator.office.ports.vault.open(row.answer)))
            except SubjectErased:
                answer = None
        return BulkCallShown(
            charging_station_id=row.charging_station_id,
            state=row.state,
            result=row.result,
            detail=row.detail,
            answer=answer,
            tries=row.tries,
            called_at=row.called_at,
            answered_at=row.answered_at,
        )


async def _job(unit: UnitOfWork, party_id: PartyId, request: Request) -> BulkJobRecord:
    job_id = request.path_params["job_id"]
    job = await unit.table(BULK_JOB).get(party_id, job_id)
    if job is None:
        raise NotFound(f"no job {job_id}")
    return job
