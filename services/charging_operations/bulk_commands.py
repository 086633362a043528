"""One command for many stations: a job with a result per station, bounded, and at most one call of each.

That a station is about to be called is stored before it is called. A process that dies leaves it CALLING, which becomes
UNKNOWN when an answer can't come any more: it may have been called, so it is called again only when someone asks for
it. Whoever changes a job's rows holds the job's row.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, TypeVar

import structlog

from emobility.domain.errors import RuleBroken, Unavailable
from emobility.domain.identifiers import PartyId
from emobility.domain.personal import Sealed
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.station_control.client import GatewayRefused, GatewayUnavailable
from emobility.protocols.station_control.messages import CommandOutcome, CommandResult
from emobility.protocols.station_control.told import payload_of, payload_text
from emobility.runtime.backlog import Backlog
from services.charging_operations.charging_profiles import ChargingProfileDesk
from services.charging_operations.office import NotAllowedNow, NotFound, NotUnderstood, Office, require_hosted
from services.charging_operations.station_calls import COMMAND_TIMEOUT_S, StationOffline, version_of
from services.charging_operations.station_selection import StationSelection, selected_stations

ANY_VERSION: Final = "any"
OCPP_VERSIONS: Final = frozenset({"1.6", "2.0.1", "2.1"})
TIMEOUT_S_MAX: Final = 120
AT_ONCE: Final = 10
AT_ONCE_MAX: Final = 50
CALLS_MAX: Final = 100
"""Stations that wait for an answer at the same time, over all jobs of this process."""
STATIONS_MAX: Final = 10_000
JOBS_KEPT_MAX: Final = 500
"""Jobs of one party; the oldest that ended are to be deleted before there are more."""
JOB_ID_CHARACTERS_MAX: Final = 100
ANSWER_SLACK: Final = timedelta(seconds=60)
"""How much longer than its time-out a call is waited for before nobody knows what became of it."""
LOOK_INTERVAL_S: Final = 30.0
RETRY_S: Final = 1.0
_log: Final = structlog.get_logger(__name__)
T = TypeVar("T")
_Job = tuple[PartyId, str]


class JobState(StrEnum):
    """Life of a job."""

    RUNNING = "RUNNING"
    DONE = "DONE"
    CANCELLED = "CANCELLED"


class CallState(StrEnum):
    """Life of one station's call."""

    WAITING = "WAITING"
    CALLING = "CALLING"
    ANSWERED = "ANSWERED"
    """There is a result, whatever it is."""
    UNKNOWN = "UNKNOWN"
    """It may have been called; what became of it is not known."""
    CANCELLED = "CANCELLED"


AGAIN: Final = (CallState.UNKNOWN, CallState.ANSWERED, CallState.CANCELLED)
_UNDER_WAY: Final = (CallState.WAITING, CallState.CALLING)


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkCommand:
    """POST /commands/{action}: one payload for all, or one per OCPP version; the same `job_id` twice is one job."""

    selection: StationSelection
    payload: dict[str, Any] | None = None
    payloads: dict[str, dict[str, Any]] | None = None
    timeout_s: int = COMMAND_TIMEOUT_S
    at_once: int = AT_ONCE
    job_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """POST again: which stations are called once more, by what became of them."""

    states: tuple[CallState, ...] = (CallState.UNKNOWN,)
    results: tuple[CommandResult, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkJobRecord:
    """A job; `payloads` is JSON, by OCPP version. `request_hash` (keyed) tells a repeated request from another."""

    party_id: PartyId
    job_id: str
    action: str
    payloads: Sealed
    request_hash: str
    state: JobState
    stations: int
    timeout_s: int
    at_once: int
    correlation_id: str
    created_at: datetime
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkCallRecord:
    """One station of a job. `answer` is its CALLRESULT, sealed JSON; `tries` counts how often it was called."""

    party_id: PartyId
    job_id: str
    charging_station_id: str
    state: CallState = CallState.WAITING
    tries: int = 0
    called_at: datetime | None = None
    answered_at: datetime | None = None
    result: CommandResult | None = None
    detail: str | None = None
    answer: Sealed | None = None


BULK_JOB: Final = TableSpec(name="cpo_bulk_job", record=BulkJobRecord, key=("party_id", "job_id"))
BULK_CALL: Final = TableSpec(
    name="cpo_bulk_call", record=BulkCallRecord, key=("party_id", "job_id", "charging_station_id")
)


@dataclass(slots=True, kw_only=True)
class BulkDesk:
    """Takes jobs and works them off."""

    office: Office
    charging: ChargingProfileDesk
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _under_way: dict[tuple[PartyId, str], int] = field(default_factory=dict)
    _backlog: Backlog = field(init=False)

    def __post_init__(self) -> None:
        self._backlog = Backlog(self.office.ports.units, BULK_CALL, {"state": _UNDER_WAY})

    # Asking

    async def start(self, party_id: PartyId, action: str, wanted: BulkCommand, *, correlation_id: str) -> BulkJobRecord:
        """Make a job of a command, or return the one that the same request made before.

        Raises:
            NotUnderstood: the payloads, a bound or the selection make no sense, or no station is meant.
            NotAllowedNow: another job has this id, or there are too many.
        """
        payloads = _payloads_of(wanted)
        job_id = wanted.job_id or self.office.ports.randomness.uuid()
        digest = self.office.ports.vault.subject_of(repr((action, wanted)))
        async with self.office.ports.units.begin() as unit:
            await require_hosted(unit, party_id)
            known = await unit.table(BULK_JOB).get(party_id, job_id)
        if known is not None:
            return _the_same(known, digest)
        stations = await selected_stations(self.office, party_id, wanted.selection)
        if not 1 <= len(stations) <= STATIONS_MAX:
            raise NotUnderstood(f"{len(stations)} stations are meant; a job has 1 to {STATIONS_MAX}")
        job = BulkJobRecord(
            party_id=party_id,
            job_id=job_id,
            action=action,
            payloads=await self.office.ports.vault.seal(payload_text(payloads), identifier=f"bulk job {job_id}"),
            request_hash=digest,
            state=JobState.RUNNING,
            stations=len(stations),
            timeout_s=wanted.timeout_s,
            at_once=wanted.at_once,
            correlation_id=correlation_id,
            created_at=self.office.now(),
        )
        calls = [BulkCallRecord(party_id=party_id, job_id=job_id, charging_station_id=each) for each in stations]
        async with self.office.ports.units.begin() as unit:
            if await unit.table(BULK_JOB).count({"party_id": party_id}) >= JOBS_KEPT_MAX:
                raise NotAllowedNow(f"there are {JOBS_KEPT_MAX} jobs; delete some that ended")
            if await unit.table(BULK_JOB).insert_all([job]):
                raise NotAllowedNow(f"job {job_id} was begun at the same moment; ask for it")
            await unit.table(BULK_CALL).insert_all(calls)
            await unit.commit()
        self._wake.set()
        return job

    async def cancel(self, party_id: PartyId, job_id: str) -> BulkJobRecord:
        """Call no more stations; what is under way ends. Raises `NotFound`, `NotAllowedNow`: it has ended."""
        async with self.office.ports.units.begin() as unit:
            job = await _job_for_update(unit, party_id, job_id)
            if job.state is not JobState.RUNNING:
                raise NotAllowedNow(f"job {job_id} is {job.state}")
            cancelled = replace(job, state=JobState.CANCELLED, ended_at=self.office.now())
            await unit.table(BULK_JOB).put(cancelled)
            waiting = await _calls(unit, job, (CallState.WAITING,))
            await unit.table(BULK_CALL).put_all([replace(row, state=CallState.CANCELLED) for row in waiting])
            await unit.commit()
        return cancelled

    async def again(self, party_id: PartyId, job_id: str, wanted: Again) -> BulkJobRecord:
        """Call those stations once more of which it is asked. Raises `NotFound`, `NotUnderstood`."""
        if not set(wanted.states) <= set(AGAIN):
            raise NotUnderstood(f"states are of {', '.join(AGAIN)}")
        async with self.office.ports.units.begin() as unit:
            job = await _job_for_update(unit, party_id, job_id)
            rows = [
                row
                for row in await _calls(unit, job, wanted.states)
                if not wanted.results or row.result in wanted.results
            ]
            if rows:
                job = replace(job, state=JobState.RUNNING, ended_at=None)
                await unit.table(BULK_JOB).put(job)
                await unit.table(BULK_CALL).put_all(
                    [replace(row, state=CallState.WAITING, result=None, detail=None, answer=None) for row in rows]
                )
            await unit.commit()
        self._wake.set()
        return job

    async def delete(self, party_id: PartyId, job_id: str) -> None:
        """Forget a job that ended. Raises `NotFound`, `NotAllowedNow`."""
        async with self.office.ports.units.begin() as unit:
            job = await _job_for_update(unit, party_id, job_id)
            rows = await unit.table(BULK_CALL).select({"party_id": party_id, "job_id": job_id})
            if job.state is JobState.RUNNING or any(row.state is CallState.CALLING for row in rows):
                raise NotAllowedNow(f"job {job_id} has not ended")
            for row in rows:
                await unit.table(BULK_CALL).remove(party_id, job_id, row.charging_station_id)
            await unit.table(BULK_JOB).remove(party_id, job_id)
            await unit.commit()

    # Calling

    async def pending(self) -> int:
        """Count stations that are yet to be called or to answer."""
        return await self._backlog.count()

    async def run(self, stop: asyncio.Event) -> None:
        """Call what waits until `stop` is set; what is under way then is waited for."""
        async with asyncio.TaskGroup() as tasks:
            stopping = tasks.create_task(stop.wait())
            while not stop.is_set():
                self._wake.clear()
                await self._persist(self._give_up_unknown, stop)
                for job, call in await self._persist(self._claim, stop) or []:
                    key = (job.party_id, job.job_id)
                    self._under_way[key] = self._under_way.get(key, 0) + 1
                    tasks.create_task(self._execute(job, call, stop))
                woken = tasks.create_task(self._wake.wait())
                rest = tasks.create_task(self.office.ports.timer.sleep(LOOK_INTERVAL_S))
                await asyncio.wait({woken, stopping, rest}, return_when=asyncio.FIRST_COMPLETED)
                woken.cancel()
                rest.cancel()

    async def _give_up_unknown(self) -> None:
        """What a process called that is no more may have worked; nobody will tell."""
        now = self.office.now()
        async with self.office.ports.units.begin() as unit:
            calling = await unit.table(BULK_CALL).select(
                {"state": CallState.CALLING}, before=("called_at", now - ANSWER_SLACK)
            )
        for row in calling:
            async with self.office.ports.units.begin() as unit:
                job = await unit.table(BULK_JOB).get_for_update(row.party_id, row.job_id)
                current = await unit.table(BULK_CALL).get(row.party_id, row.job_id, row.charging_station_id)
                if job is None:
                    continue
                late = timedelta(seconds=job.timeout_s) + ANSWER_SLACK
                is_lost = current is not None and current.state is CallState.CALLING
                if current is None or not is_lost or (current.called_at or now) + late > now:
                    continue
                await unit.table(BULK_CALL).put(replace(current, state=CallState.UNKNOWN))
                await self._end_if_done(unit, job)
                await unit.commit()

    async def _claim(self) -> list[tuple[BulkJobRecord, BulkCallRecord]]:
        """Note for as many stations as there are places that they are called now."""
        claimed: list[tuple[BulkJobRecord, BulkCallRecord]] = []
        async with self.office.ports.units.begin() as unit:
            for key, places in (await self._places(unit)).items():
                job = await unit.table(BULK_JOB).get_for_update(*key)
                if job is None or job.state is not JobState.RUNNING:
                    continue
                calling = [
                    replace(row, state=CallState.CALLING, tries=row.tries + 1, called_at=self.office.now())
                    for row in await _calls(unit, job, (CallState.WAITING,), limit=places)
                ]
                await unit.table(BULK_CALL).put_all(calling)
                claimed += [(job, row) for row in calling]
            await unit.commit()
        return claimed

    async def _places(self, unit: UnitOfWork) -> dict[_Job, int]:
        """Share the free places out, each to the party that has fewest: nobody's jobs keep them all from another."""
        room: dict[_Job, int] = {}
        for job in await unit.table(BULK_JOB).select({"state": JobState.RUNNING}, order_by=("created_at",)):
            key = (job.party_id, job.job_id)
            waiting = len(await _calls(unit, job, (CallState.WAITING,), limit=job.at_once))
            room[key] = min(job.at_once - self._under_way.get(key, 0), waiting)
        busy = Counter({party_id: 0 for party_id, _ in room})
        for (party_id, _), calls in self._under_way.items():
            busy[party_id] += calls
        places: dict[_Job, int] = {}
        for _ in range(CALLS_MAX - sum(self._under_way.values())):
            open_jobs = [key for key, free in room.items() if free > 0]
            if not open_jobs:
                break
            key = min(open_jobs, key=lambda job: busy[job[0]])
            room[key] -= 1
            busy[key[0]] += 1
            places[key] = places.get(key, 0) + 1
        return places

    async def _execute(self, job: BulkJobRecord, call: BulkCallRecord, stop: asyncio.Event) -> None:
        key = (job.party_id, job.job_id)
        try:
            told = await self._told(job, call)
            await self._persist(lambda: self._keep(job, told), stop)
        finally:
            self._under_way[key] -= 1
            if not self._under_way[key]:
                del self._under_way[key]
            self._wake.set()

    async def _told(self, job: BulkJobRecord, call: BulkCallRecord) -> BulkCallRecord:
        """Call the station and return its row with what became of it."""
        try:
            outcome = await self._call(job, call)
        except StationOffline as error:
            outcome = CommandOutcome(result=CommandResult.STATION_OFFLINE, station_status=str(error))
        except GatewayRefused as error:
            outcome = CommandOutcome(result=CommandResult.MALFORMED, station_status=error.detail)
        except (GatewayUnavailable, Unavailable) as error:
            return replace(call, state=CallState.UNKNOWN, detail=str(error))
        except RuleBroken as error:
            outcome = CommandOutcome(result=CommandResult.REJECTED, station_status=str(error))
        answer = None
        if outcome.answer is not None:
            text = payload_text(outcome.answer)
            answer = await self.office.ports.vault.seal(text, identifier=f"bulk job {job.job_id}")
        return replace(
            call,
            state=CallState.ANSWERED,
            result=outcome.result,
            detail=outcome.station_status,
            answer=answer,
            answered_at=self.office.now(),
        )

    async def _call(self, job: BulkJobRecord, call: BulkCallRecord) -> CommandOutcome:
        payloads = payload_of(await self.office.ports.vault.open(job.payloads))
        payload = payloads.get(ANY_VERSION)
        if payload is None:
            version = await version_of(self.office, job.party_id, call.charging_station_id)
            if version not in payloads:
                return CommandOutcome(result=CommandResult.NOT_SUPPORTED, station_status=f"no payload for {version}")
            payload = payloads[version]
        return await self.charging.command(
            job.party_id,
            call.charging_station_id,
            job.action,
            payload,
            correlation_id=job.correlation_id,
            timeout_s=job.timeout_s,
        )

    async def _keep(self, job: BulkJobRecord, told: BulkCallRecord) -> None:
        async with self.office.ports.units.begin() as unit:
            current = await unit.table(BULK_JOB).get_for_update(job.party_id, job.job_id)
            if current is None:  # deleted: it had ended, and this answer had been given up
                return
            row = await unit.table(BULK_CALL).get(told.party_id, told.job_id, told.charging_station_id)
            # An answer that was given up may still come, but not after the station was called once more.
            if row is not None and row.tries == told.tries and row.state in (CallState.CALLING, CallState.UNKNOWN):
                await unit.table(BULK_CALL).put(told)
            await self._end_if_done(unit, current)
            await unit.commit()

    async def _end_if_done(self, unit: UnitOfWork, job: BulkJobRecord) -> None:
        where = {"party_id": job.party_id, "job_id": job.job_id, "state": _UNDER_WAY}
        if job.state is JobState.RUNNING and not await unit.table(BULK_CALL).count(where):
            await unit.table(BULK_JOB).put(replace(job, state=JobState.DONE, ended_at=self.office.now()))

    async def _persist(self, work: Callable[[], Awaitable[T]], stop: asyncio.Event) -> T | None:
        """Do work on the rows until it succeeds: while the database is away nothing is forgotten, only late."""
        while not stop.is_set():
            try:
                return await work()
            except Unavailable as error:
                _log.warning("bulk_commands_wait", reason=str(error))
                await self.office.ports.timer.sleep(RETRY_S)
        return None


async def _job_for_update(unit: UnitOfWork, party_id: PartyId, job_id: str) -> BulkJobRecord:
    job = await unit.table(BULK_JOB).get_for_update(party_id, job_id)
    if job is None:
        raise NotFound(f"no job {job_id}")
    return job


async def _calls(
    unit: UnitOfWork, job: BulkJobRecord, states: tuple[CallState, ...], limit: int = STATIONS_MAX
) -> list[BulkCallRecord]:
    where = {"party_id": job.party_id, "job_id": job.job_id, "state": states}
    return await unit.table(BULK_CALL).select(where, limit=limit)


def _the_same(known: BulkJobRecord, digest: str) -> BulkJobRecord:
    if known.request_hash != digest:
        raise NotAllowedNow(f"job {known.job_id} is another one")
    return known


def _payloads_of(wanted: BulkCommand) -> dict[str, dict[str, Any]]:
    if (wanted.payload is None) == (wanted.payloads is None):
        raise NotUnderstood("give payload, or payloads by OCPP version")
    if not set(wanted.payloads or {}) <= OCPP_VERSIONS:
        raise NotUnderstood(f"payloads are by {', '.join(sorted(OCPP_VERSIONS))}")
    if not 1 <= wanted.timeout_s <= TIMEOUT_S_MAX or not 1 <= wanted.at_once <= AT_ONCE_MAX:
        raise NotUnderstood(f"timeout_s is 1 to {TIMEOUT_S_MAX}, at_once 1 to {AT_ONCE_MAX}")
    if wanted.job_id is not None and not 1 <= len(wanted.job_id) <= JOB_ID_CHARACTERS_MAX:
        raise NotUnderstood(f"a job_id has 1 to {JOB_ID_CHARACTERS_MAX} characters")
    return {ANY_VERSION: wanted.payload} if wanted.payload is not None else dict(wanted.payloads or {})
