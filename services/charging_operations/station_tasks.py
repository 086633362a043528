"""Firmware and logs of one station: what it was asked for, and how it goes on in its own words, joined by request id.

A task is stored before the station is asked, because its first report may overtake its answer. 1.6 reports on firmware
and diagnostics without a number: such a report is about the newest task of its kind that is open. One that is about
nothing we asked for is kept as a task of somebody else's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from emobility.domain.identifiers import PartyId
from emobility.domain.station_task import OPEN, TaskKind, TaskState, state_after
from emobility.events.event import Envelope
from emobility.events.station_tasks import FirmwarePublicationReported, FirmwareStatusReported, TaskReported
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import Novelty, UnitOfWork
from emobility.protocols.station_control.messages import CommandOutcome, CommandResult
from services.charging_operations.office import GROUP, NotAllowedNow, NotFound, NotUnderstood, Office
from services.charging_operations.records import CPO
from services.charging_operations.station_calls import OCPP_16, call_station, version_of

LOCATION_CHARACTERS_MAX: Final = 512
RETRIES_MAX: Final = 100
REPORTS_KEPT_MAX: Final = 50
"""Reports kept of one task: the newest."""
TASKS_KEPT_MAX: Final = 200
"""Tasks of one kind kept of one station; the oldest makes room."""
REMOVED_AT_ONCE: Final = 100
_STARTED: Final = frozenset({"Accepted", "AcceptedCanceled"})
_SUPERSEDES: Final = "AcceptedCanceled"


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReport:
    """What a station said of a task; `at` is our time."""

    at: datetime
    status: str
    reason_code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StationTaskRecord:
    """A task.

    `subject` is the firmware's version, the publication's checksum, or the kind of log. `answer` is the station's word
    to the CALL, or ours where it said none. `location` is what may be shown of it: no user and no query, which may hold
    secrets. `offered_at`: where a local controller offers firmware.
    """

    party_id: PartyId
    charging_station_id: str
    kind: TaskKind
    request_id: int
    action: str
    state: TaskState
    subject: str
    location: str
    asked_at: datetime
    answer: str | None = None
    file_name: str | None = None
    status: str | None = None
    status_at: datetime | None = None
    ended_at: datetime | None = None
    reports: tuple[StatusReport, ...] = ()
    offered_at: tuple[str, ...] = ()
    campaign_id: str | None = None


STATION_TASK: Final = TableSpec(
    name="cpo_station_task",
    record=StationTaskRecord,
    key=("party_id", "charging_station_id", "kind", "request_id"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareRequest:
    """POST firmware-updates. Signed where certificate (PEM) and signature (base64) are given; both or neither.

    `retrieve_at` None: now. `firmware_version` is what the station will say it has afterwards: a boot with it ends the
    task, for some stations restart without having said Installed.
    """

    location: str
    firmware_version: str = ""
    retrieve_at: datetime | None = None
    install_at: datetime | None = None
    signing_certificate: str | None = None
    signature: str | None = None
    retries: int | None = None
    retry_interval_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicationRequest:
    """POST firmware-publications: have a local controller offer firmware; `checksum` is its MD5 in hex (2.x, L03)."""

    location: str
    checksum: str
    retries: int | None = None
    retry_interval_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRequest:
    """POST logs: `log_type` is DiagnosticsLog or SecurityLog; a 1.6 station without GetLog is asked GetDiagnostics.

    `has_get_log`: whether a 1.6 station has the security extension; 2.x always has GetLog.
    """

    location: str
    log_type: str = "DiagnosticsLog"
    oldest_at: datetime | None = None
    latest_at: datetime | None = None
    retries: int | None = None
    retry_interval_s: int | None = None
    has_get_log: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """A CALL and the task that it begins."""

    kind: TaskKind
    action: str
    payload: dict[str, Any]
    subject: str
    location: str


def firmware_wanted(request: FirmwareRequest, version: str, *, now: datetime) -> Wanted:
    """Write a firmware update in the words of a version. Raises `NotUnderstood`, `NotAllowedNow`."""
    shown = _shown(request.location, request.retries)
    is_signed = request.signing_certificate is not None
    if is_signed != (request.signature is not None):
        raise NotUnderstood("a signing certificate and a signature belong together")
    retrieve_at = _written(request.retrieve_at or now)
    tries = _tries(request.retries, request.retry_interval_s)
    if version == OCPP_16 and not is_signed:
        if request.install_at is not None:
            raise NotAllowedNow("OCPP 1.6 installs unsigned firmware when it has it")
        payload = {"location": request.location, "retrieveDate": retrieve_at, **tries}
        return Wanted(TaskKind.FIRMWARE_UPDATE, "UpdateFirmware", payload, request.firmware_version, shown)
    firmware = {"location": request.location, "retrieveDateTime": retrieve_at}
    if request.install_at is not None:
        firmware["installDateTime"] = _written(request.install_at)
    if request.signing_certificate is not None and request.signature is not None:
        firmware |= {"signingCertificate": request.signing_certificate, "signature": request.signature}
    action = "SignedUpdateFirmware" if version == OCPP_16 else "UpdateFirmware"
    return Wanted(TaskKind.FIRMWARE_UPDATE, action, {"firmware": firmware, **tries}, request.firmware_version, shown)


def publication_wanted(request: PublicationRequest, version: str) -> Wanted:
    """Write a firmware publication. Raises `NotUnderstood`, `NotAllowedNow`."""
    shown = _shown(request.location, request.retries)
    if version == OCPP_16:
        raise NotAllowedNow("OCPP 1.6 publishes no firmware")
    tries = _tries(request.retries, request.retry_interval_s)
    payload = {"location": request.location, "checksum": request.checksum, **tries}
    return Wanted(TaskKind.FIRMWARE_PUBLICATION, "PublishFirmware", payload, request.checksum, shown)


def log_wanted(request: LogRequest, version: str) -> Wanted:
    """Write a log upload in the words of a version. Raises `NotUnderstood`, `NotAllowedNow`."""
    shown = _shown(request.location, request.retries)
    tries = _tries(request.retries, request.retry_interval_s)
    if version == OCPP_16 and not request.has_get_log:
        if request.log_type != "DiagnosticsLog":
            raise NotAllowedNow("a 1.6 station without GetLog has a DiagnosticsLog only")
        period = {"startTime": request.oldest_at, "stopTime": request.latest_at}
        payload = {"location": request.location, **_given(period), **tries}
        return Wanted(TaskKind.LOG_UPLOAD, "GetDiagnostics", payload, request.log_type, shown)
    period = {"oldestTimestamp": request.oldest_at, "latestTimestamp": request.latest_at}
    log = {"remoteLocation": request.location, **_given(period)}
    return Wanted(
        TaskKind.LOG_UPLOAD, "GetLog", {"logType": request.log_type, "log": log, **tries}, request.log_type, shown
    )


def _shown(location: str, retries: int | None) -> str:
    """Return what may be shown of a location. Raises `NotUnderstood` for one that is none, or too many retries."""
    try:
        parts = urlsplit(location)
    except ValueError as error:
        raise NotUnderstood("a location is a URL") from error
    if not (parts.scheme and parts.netloc) or len(location) > LOCATION_CHARACTERS_MAX:
        raise NotUnderstood(f"a location is a URL of {LOCATION_CHARACTERS_MAX} characters at most")
    if not 0 <= (retries or 0) <= RETRIES_MAX:
        raise NotUnderstood(f"retries are {RETRIES_MAX} at most")
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _tries(retries: int | None, interval_s: int | None) -> dict[str, int]:
    told = {"retries": retries, "retryInterval": interval_s}
    return {name: value for name, value in told.items() if value is not None}


def _given(period: dict[str, datetime | None]) -> dict[str, str]:
    return {name: _written(at) for name, at in period.items() if at is not None}


def _written(at: datetime) -> str:
    if at.tzinfo is None:
        raise NotUnderstood("a date-time has an offset")
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDesk:
    """Asks stations for what takes long, and follows it."""

    office: Office

    async def begin(
        self, party_id: PartyId, station_id: str, wanted: Wanted, *, correlation_id: str
    ) -> StationTaskRecord:
        """Ask a connected station; return the task as it stands once the station has answered.

        Raises what `StationControlClient.command` does; the task then stays ASKED: it may have got there.
        """
        task = self.drafted(party_id, station_id, wanted)
        async with self.office.ports.units.begin() as unit:
            await self.keep(unit, task)
            await unit.commit()
        return await self.ask(task, wanted, correlation_id=correlation_id)

    def drafted(
        self, party_id: PartyId, station_id: str, wanted: Wanted, campaign_id: str | None = None
    ) -> StationTaskRecord:
        """Return a new task under a request id of its own; nothing is stored or sent yet."""
        return StationTaskRecord(
            party_id=party_id,
            charging_station_id=station_id,
            kind=wanted.kind,
            request_id=1 + int.from_bytes(self.office.ports.randomness.token_bytes(4)) % (2**31 - 1),
            action=wanted.action,
            state=TaskState.ASKED,
            subject=wanted.subject,
            location=wanted.location,
            asked_at=self.office.now(),
            campaign_id=campaign_id,
        )

    async def keep(self, unit: UnitOfWork, task: StationTaskRecord) -> None:
        """Store a new task, in place of the oldest of its kind where there are too many."""
        table = unit.table(STATION_TASK)
        await table.insert(task)
        for old in await table.select(
            _alike(task), order_by=("-asked_at",), offset=TASKS_KEPT_MAX, limit=REMOVED_AT_ONCE
        ):
            await table.remove(old.party_id, old.charging_station_id, old.kind, old.request_id)

    async def ask(self, task: StationTaskRecord, wanted: Wanted, *, correlation_id: str) -> StationTaskRecord:
        """Send the CALL of a stored task and note the answer."""
        payload = wanted.payload
        # These two of 1.6 know no number; their reports are told apart by time.
        if (wanted.action, "firmware" in payload) != ("UpdateFirmware", False) and wanted.action != "GetDiagnostics":
            payload = payload | {"requestId": task.request_id}
        outcome = await call_station(
            self.office,
            task.party_id,
            task.charging_station_id,
            wanted.action,
            payload,
            correlation_id=correlation_id,
        )
        async with self.office.ports.units.begin() as unit:
            table = unit.table(STATION_TASK)
            known = await table.get_for_update(*_key(task))
            if known is None:
                return task
            answered = self._answered(known, outcome)
            await table.put(answered)
            if answered.answer == _SUPERSEDES:
                await self._supersede(unit, answered)
            await unit.commit()
        return answered

    def _answered(self, task: StationTaskRecord, outcome: CommandOutcome) -> StationTaskRecord:
        answer = outcome.answer or {}
        word = answer.get("status") or outcome.station_status or outcome.result.value
        task = replace(task, answer=word, file_name=answer.get("filename") or answer.get("fileName"))
        if task.state is not TaskState.ASKED or outcome.result is CommandResult.TIMED_OUT:
            return task  # it has reported already; or nobody knows, and it may report yet
        if word in _STARTED or (outcome.result is CommandResult.ACCEPTED and "status" not in answer):
            return replace(task, state=TaskState.ACCEPTED)
        return replace(task, state=TaskState.REFUSED, ended_at=self.office.now())

    async def _supersede(self, unit: UnitOfWork, task: StationTaskRecord) -> None:
        """The station has dropped what it did before for this one."""
        for other in await unit.table(STATION_TASK).select(_alike(task) | {"state": OPEN}):
            if other.request_id != task.request_id and other.asked_at <= task.asked_at:
                ended = replace(other, state=TaskState.SUPERSEDED, ended_at=self.office.now())
                await unit.table(STATION_TASK).put(ended)

    # What stations report

    async def take(
        self, unit: UnitOfWork, envelope: Envelope, event: TaskReported
    ) -> tuple[StationTaskRecord, StationTaskRecord] | None:
        """Take a report in, once; return the task before and after. None where there is nothing to note."""
        if await unit.table(CPO).get(event.party_id) is None:
            return None
        if await unit.novelty(GROUP, envelope) is not Novelty.NEW:
            return None
        before = await self._reported(unit, event, envelope.recorded_at)
        if before is None:
            return None
        state = state_after(before.state, event.status)
        is_ended = state is not before.state and state not in OPEN
        report = StatusReport(at=envelope.recorded_at, status=event.status, reason_code=event.reason_code)
        after = replace(
            before,
            state=state,
            status=event.status,
            status_at=envelope.recorded_at,
            ended_at=envelope.recorded_at if is_ended else before.ended_at,
            reports=(*before.reports, report)[-REPORTS_KEPT_MAX:],
        )
        if isinstance(event, FirmwarePublicationReported) and event.locations:
            after = replace(after, offered_at=event.locations)
        await unit.table(STATION_TASK).put(after)
        return before, after

    async def _reported(self, unit: UnitOfWork, event: TaskReported, heard_at: datetime) -> StationTaskRecord | None:
        """Return the task that a report is about, a new one for one that we know nothing of."""
        kind = _kind_of(event)
        table = unit.table(STATION_TASK)
        if event.request_id is not None:
            known = await table.get_for_update(event.party_id, event.charging_station_id, kind, event.request_id)
        else:
            of_kind = {"party_id": event.party_id, "charging_station_id": event.charging_station_id, "kind": kind}
            rows = await table.select(of_kind | {"state": OPEN}, order_by=("-asked_at",), limit=1)
            known = await table.get_for_update(*_key(rows[0])) if rows else None
        if known is not None or event.status == "Idle":
            return known
        foreign = StationTaskRecord(
            party_id=event.party_id,
            charging_station_id=event.charging_station_id,
            kind=kind,
            request_id=event.request_id or 0,
            action="",
            state=TaskState.ACCEPTED,
            subject="",
            location="",
            asked_at=heard_at,
        )
        if await table.get_for_update(*_key(foreign)) is None:
            await self.keep(unit, foreign)
        return foreign

    async def booted(
        self, unit: UnitOfWork, party_id: PartyId, station_id: str, firmware_version: str | None
    ) -> list[StationTaskRecord]:
        """A station says which firmware it runs: end what was to bring it; return what ended so."""
        if not firmware_version:
            return []
        where = {"party_id": party_id, "charging_station_id": station_id, "kind": TaskKind.FIRMWARE_UPDATE}
        rows = await unit.table(STATION_TASK).select(where | {"state": OPEN, "subject": firmware_version})
        ended = [replace(row, state=TaskState.DONE, ended_at=self.office.now()) for row in rows]
        await unit.table(STATION_TASK).put_all(ended)
        return ended

    # Firmware that a local controller offers

    async def unpublish(self, party_id: PartyId, station_id: str, checksum: str, *, correlation_id: str) -> str:
        """Have a local controller offer firmware no more; return its word. Raises `NotFound`, `NotAllowedNow`."""
        if await version_of(self.office, party_id, station_id) == OCPP_16:
            raise NotAllowedNow("OCPP 1.6 publishes no firmware")
        where = {"party_id": party_id, "charging_station_id": station_id, "subject": checksum}
        where |= {"kind": TaskKind.FIRMWARE_PUBLICATION}
        async with self.office.ports.units.begin() as unit:
            if not await unit.table(STATION_TASK).count(where):
                raise NotFound(f"no publication of {checksum[:32]}")
        payload = {"checksum": checksum}
        outcome = await call_station(
            self.office, party_id, station_id, "UnpublishFirmware", payload, correlation_id=correlation_id
        )
        word = outcome.station_status or outcome.result.value
        if word in {"Unpublished", "NoFirmware"}:
            async with self.office.ports.units.begin() as unit:
                for row in await unit.table(STATION_TASK).select(where):
                    await unit.table(STATION_TASK).put(replace(row, offered_at=(), status=word))
                await unit.commit()
        return word


def _kind_of(event: TaskReported) -> TaskKind:
    if isinstance(event, FirmwareStatusReported):
        return TaskKind.FIRMWARE_UPDATE
    if isinstance(event, FirmwarePublicationReported):
        return TaskKind.FIRMWARE_PUBLICATION
    return TaskKind.LOG_UPLOAD


def _key(task: StationTaskRecord) -> tuple[PartyId, str, TaskKind, int]:
    return task.party_id, task.charging_station_id, task.kind, task.request_id


def _alike(task: StationTaskRecord) -> dict[str, Any]:
    """Return a `where` of the station's tasks of the same kind."""
    return {"party_id": task.party_id, "charging_station_id": task.charging_station_id, "kind": task.kind}
