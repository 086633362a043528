"""Firmware campaigns: which stations get it, batch after batch, and how it went with each.

The rules are `emobility/domain/firmware_campaign`. Who is asked is decided in a unit of its own before the CALL leaves:
a process that dies in between leaves a station UNDER_WAY, which `time_limit_s` ends. Any process may go on.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

import structlog

from emobility.domain.errors import RuleBroken, Unavailable
from emobility.domain.firmware_campaign import (
    PENDING,
    CampaignRules,
    CampaignState,
    Target,
    TargetState,
    after_failure,
    next_batch,
    too_many_failed,
)
from emobility.domain.identifiers import PartyId
from emobility.domain.personal import Sealed
from emobility.domain.station_task import SIGNATURE_REFUSED, TaskState
from emobility.events import codec
from emobility.events.event import Envelope
from emobility.events.station_tasks import TaskReported
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.station_control.messages import CommandResult
from services.charging_operations.office import NotAllowedNow, NotFound, NotUnderstood, Office, require_hosted
from services.charging_operations.records import STATION
from services.charging_operations.station_boots import STATION_IDENTITY
from services.charging_operations.station_tasks import (
    FirmwareRequest,
    StationTaskRecord,
    TaskDesk,
    Wanted,
    firmware_wanted,
)

TARGETS_MAX: Final = 5_000
BATCH_SIZE_MAX: Final = 500
ATTEMPTS_MAX: Final = 10
TIME_LIMIT_S_MAX: Final = 7 * 86_400
CALLS_AT_ONCE: Final = 20
ADVANCE_INTERVAL: Final = timedelta(seconds=10)
TIMED_OUT: Final = "TimedOut"
HAS_IT: Final = "HasItAlready"
_TOO_MANY: Final = "TooManyFailures"
_log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareSelection:
    """Which stations: all of these hold that are given. Vendor, model and version are what stations said at boot."""

    vendor: str | None = None
    model: str | None = None
    firmware_version: str | None = None
    charging_station_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignTerms:
    """POST firmware-campaigns. `time_limit_s`: how long one station may take; then it counts as failed."""

    name: str
    firmware: FirmwareRequest
    selection: FirmwareSelection
    rules: CampaignRules
    time_limit_s: int = 6 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareCampaignRecord:
    """A campaign; `firmware` is its sealed `FirmwareRequest`, for its location may hold a password."""

    party_id: PartyId
    campaign_id: str
    name: str
    state: CampaignState
    reason: str | None
    firmware: Sealed
    firmware_version: str
    selection: FirmwareSelection
    rules: CampaignRules
    time_limit_s: int
    failures_forgiven: int
    batch: int
    created_at: datetime
    changed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareTargetRecord:
    """One station of a campaign; `detail` is its last word, or why there is none. `batch` 0: not yet asked."""

    party_id: PartyId
    campaign_id: str
    charging_station_id: str
    state: TargetState
    attempts: int = 0
    batch: int = 0
    request_id: int | None = None
    detail: str | None = None
    asked_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignShown:
    """A campaign without its firmware's location; `stations` counts them by state."""

    campaign_id: str
    name: str
    state: CampaignState
    reason: str | None
    firmware_version: str
    selection: FirmwareSelection
    rules: CampaignRules
    time_limit_s: int
    batch: int
    created_at: datetime
    changed_at: datetime
    stations: dict[str, int] = field(default_factory=dict)


FIRMWARE_CAMPAIGN: Final = TableSpec(
    name="cpo_firmware_campaign", record=FirmwareCampaignRecord, key=("party_id", "campaign_id")
)
FIRMWARE_TARGET: Final = TableSpec(
    name="cpo_firmware_target",
    record=FirmwareTargetRecord,
    key=("party_id", "campaign_id", "charging_station_id"),
)


@dataclass(frozen=True, slots=True)
class _Asking:
    """A station of the batch that begins now."""

    task: StationTaskRecord
    wanted: Wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignDesk:
    """Runs campaigns."""

    office: Office
    tasks: TaskDesk

    # What operators decide

    async def create(self, party_id: PartyId, terms: CampaignTerms) -> CampaignShown:
        """Begin a campaign; its first batch is asked at the next `advance`. Raises `NotUnderstood`."""
        _check(terms)
        now = self.office.now()
        firmware_wanted(terms.firmware, "2.0.1", now=now)
        campaign_id = self.office.ports.randomness.uuid()
        firmware = await self.office.ports.vault.seal(
            codec.encode(terms.firmware).decode(), identifier=f"{party_id}/firmware/{campaign_id}"
        )
        campaign = FirmwareCampaignRecord(
            party_id=party_id,
            campaign_id=campaign_id,
            name=terms.name,
            state=CampaignState.RUNNING,
            reason=None,
            firmware=firmware,
            firmware_version=terms.firmware.firmware_version,
            selection=terms.selection,
            rules=terms.rules,
            time_limit_s=terms.time_limit_s,
            failures_forgiven=0,
            batch=0,
            created_at=now,
            changed_at=now,
        )
        async with self.office.ports.units.begin() as unit:
            await require_hosted(unit, party_id)
            targets = await self._selected(unit, campaign)
            await unit.table(FIRMWARE_CAMPAIGN).insert(campaign)
            await unit.table(FIRMWARE_TARGET).put_all(targets)
            await unit.commit()
        return campaign_shown(campaign, targets)

    async def _selected(self, unit: UnitOfWork, campaign: FirmwareCampaignRecord) -> list[FirmwareTargetRecord]:
        selection = campaign.selection
        where = {"party_id": campaign.party_id} | {
            name: value
            for name, value in (
                ("vendor", selection.vendor),
                ("model", selection.model),
                ("firmware_version", selection.firmware_version),
            )
            if value is not None
        }
        versions = {
            row.charging_station_id: row.firmware_version for row in await unit.table(STATION_IDENTITY).select(where)
        }
        of_station: dict[str, object] = {"party_id": campaign.party_id}
        if selection.charging_station_ids:
            of_station["charging_station_id"] = selection.charging_station_ids
        stations = [row.charging_station_id for row in await unit.table(STATION).select(of_station)]
        if len(where) > 1:
            stations = [each for each in stations if each in versions]
        if not 1 <= len(stations) <= TARGETS_MAX:
            raise NotUnderstood(f"the selection holds {len(stations)} stations; a campaign has 1 to {TARGETS_MAX}")
        return [self._target(campaign, each, versions.get(each)) for each in sorted(stations)]

    def _target(self, campaign: FirmwareCampaignRecord, station_id: str, version: str | None) -> FirmwareTargetRecord:
        has_it = bool(campaign.firmware_version) and version == campaign.firmware_version
        return FirmwareTargetRecord(
            party_id=campaign.party_id,
            campaign_id=campaign.campaign_id,
            charging_station_id=station_id,
            state=TargetState.INSTALLED if has_it else TargetState.WAITING,
            detail=HAS_IT if has_it else None,
            ended_at=campaign.created_at if has_it else None,
        )

    async def pause(self, party_id: PartyId, campaign_id: str) -> CampaignShown:
        """Ask no further station until `resume`; what is under way goes on. Raises `NotFound`, `NotAllowedNow`."""
        return await self._decide(party_id, campaign_id, (CampaignState.RUNNING,), CampaignState.PAUSED)

    async def resume(self, party_id: PartyId, campaign_id: str) -> CampaignShown:
        """Go on; after a stop, in the knowledge of what failed so far. Raises `NotFound`, `NotAllowedNow`."""
        allowed = (CampaignState.PAUSED, CampaignState.STOPPED)
        return await self._decide(party_id, campaign_id, allowed, CampaignState.RUNNING)

    async def cancel(self, party_id: PartyId, campaign_id: str) -> CampaignShown:
        """Ask no further station for good; what is under way goes on. Raises `NotFound`, `NotAllowedNow`."""
        allowed = (CampaignState.RUNNING, CampaignState.PAUSED, CampaignState.STOPPED)
        return await self._decide(party_id, campaign_id, allowed, CampaignState.CANCELLED)

    async def retry(self, party_id: PartyId, campaign_id: str) -> CampaignShown:
        """Ask the stations that failed again, as if for the first time. Raises `NotFound`, `NotAllowedNow`."""
        allowed = (CampaignState.STOPPED, CampaignState.COMPLETE)
        return await self._decide(party_id, campaign_id, allowed, CampaignState.RUNNING, is_retry=True)

    async def _decide(
        self,
        party_id: PartyId,
        campaign_id: str,
        allowed: Sequence[CampaignState],
        state: CampaignState,
        *,
        is_retry: bool = False,
    ) -> CampaignShown:
        async with self.office.ports.units.begin() as unit:
            campaign = await unit.table(FIRMWARE_CAMPAIGN).get_for_update(party_id, campaign_id)
            if campaign is None:
                raise NotFound(f"no campaign {campaign_id[:50]}")
            if campaign.state not in allowed:
                raise NotAllowedNow(f"the campaign is {campaign.state}")
            if state is CampaignState.RUNNING and campaign.reason in SIGNATURE_REFUSED:
                raise NotAllowedNow(f"{campaign.reason}: no station can believe this firmware; begin another campaign")
            targets = await _targets(unit, campaign)
            if is_retry:
                targets = [_afresh(each) if each.state is TargetState.FAILED else each for each in targets]
            if state is CampaignState.CANCELLED:
                targets = [self._dropped(each) if each.state is TargetState.WAITING else each for each in targets]
            await unit.table(FIRMWARE_TARGET).put_all(targets)
            failed = sum(each.state is TargetState.FAILED for each in targets)
            forgiven = failed if state is CampaignState.RUNNING else campaign.failures_forgiven
            campaign = replace(
                campaign, state=state, reason=None, failures_forgiven=forgiven, changed_at=self.office.now()
            )
            await unit.table(FIRMWARE_CAMPAIGN).put(campaign)
            await unit.commit()
        return campaign_shown(campaign, targets)

    def _dropped(self, target: FirmwareTargetRecord) -> FirmwareTargetRecord:
        return replace(target, state=TargetState.CANCELLED, ended_at=self.office.now())

    # What operators see

    async def shown(self, party_id: PartyId, campaign_id: str) -> CampaignShown:
        """Return a campaign. Raises `NotFound`."""
        async with self.office.ports.units.begin() as unit:
            campaign = await unit.table(FIRMWARE_CAMPAIGN).get(party_id, campaign_id)
            if campaign is None:
                raise NotFound(f"no campaign {campaign_id[:50]}")
            return campaign_shown(campaign, await _targets(unit, campaign))

    # Going on

    async def advance(self) -> None:
        """Go on with every campaign that runs: see who is overdue, stop, or begin the next batch."""
        async with self.office.ports.units.begin() as unit:
            running = await unit.table(FIRMWARE_CAMPAIGN).select({"state": CampaignState.RUNNING})
        for campaign in running:
            try:
                await self._advance(campaign)
            except Unavailable:
                raise
            except RuleBroken as error:
                _log.error("firmware_campaign_failed", campaign_id=campaign.campaign_id, reason=str(error))

    async def _advance(self, campaign: FirmwareCampaignRecord) -> None:
        stations = await self.office.stations.stations(campaign.party_id)
        versions = {each.charging_station_id: each.ocpp_version for each in stations if each.is_online}
        request = codec.decode(await self.office.ports.vault.open(campaign.firmware), FirmwareRequest)
        async with self.office.ports.units.begin() as unit:
            asking = await self._begun(unit, campaign, request, versions)
            await unit.commit()
        room = asyncio.Semaphore(CALLS_AT_ONCE)

        async def ask(each: _Asking) -> None:
            async with room:
                await self._ask(each, correlation_id=campaign.campaign_id)

        async with asyncio.TaskGroup() as calls:
            for each in asking:
                calls.create_task(ask(each))

    async def _begun(
        self, unit: UnitOfWork, known: FirmwareCampaignRecord, request: FirmwareRequest, versions: dict[str, str]
    ) -> list[_Asking]:
        """Decide what happens now, and who is asked: rows first."""
        campaign = await unit.table(FIRMWARE_CAMPAIGN).get_for_update(known.party_id, known.campaign_id)
        if campaign is None or campaign.state is not CampaignState.RUNNING:
            return []
        targets = {each.charging_station_id: each for each in await _targets(unit, campaign)}
        now = self.office.now()
        for target in targets.values():
            limit = timedelta(seconds=campaign.time_limit_s)
            if target.state is TargetState.UNDER_WAY and target.asked_at is not None and now >= target.asked_at + limit:
                targets[target.charging_station_id] = self._failed(campaign, target, TIMED_OUT)
                await unit.table(FIRMWARE_TARGET).put(targets[target.charging_station_id])
        campaign = await self._settled(unit, campaign, list(targets.values()))
        if campaign.state is not CampaignState.RUNNING:
            return []
        asking: list[_Asking] = []
        for station_id in next_batch(campaign.rules, _plain(targets.values()), online=versions):
            target = targets[station_id]
            try:
                wanted = firmware_wanted(request, versions[station_id], now=now)
            except NotAllowedNow as error:
                unfit = replace(target, state=TargetState.FAILED, detail=str(error), ended_at=now)
                await unit.table(FIRMWARE_TARGET).put(unfit)
                continue
            task = self.tasks.drafted(campaign.party_id, station_id, wanted, campaign.campaign_id)
            await self.tasks.keep(unit, task)
            begun = replace(
                target,
                state=TargetState.UNDER_WAY,
                attempts=target.attempts + 1,
                batch=campaign.batch + 1,
                request_id=task.request_id,
                asked_at=now,
                detail=None,
            )
            await unit.table(FIRMWARE_TARGET).put(begun)
            asking.append(_Asking(task, wanted))
        if asking:
            await unit.table(FIRMWARE_CAMPAIGN).put(replace(campaign, batch=campaign.batch + 1, changed_at=now))
        return asking

    async def _ask(self, asking: _Asking, *, correlation_id: str) -> None:
        try:
            task = await self.tasks.ask(asking.task, asking.wanted, correlation_id=correlation_id)
        except (Unavailable, RuleBroken) as error:  # it may have got there: its reports or the time limit tell
            _log.warning("firmware_call_failed", station=asking.task.charging_station_id, reason=str(error))
            return
        if task.state not in (TaskState.ASKED, TaskState.ACCEPTED):
            async with self.office.ports.units.begin() as unit:
                await self.ended(unit, task, task.answer)
                await unit.commit()

    # What became of it

    async def take(self, unit: UnitOfWork, envelope: Envelope, event: TaskReported) -> None:
        """Take a station's report in; an end of a campaign's task is that of its station's part in it."""
        taken = await self.tasks.take(unit, envelope, event)
        if taken is not None and taken[0].state is not taken[1].state:
            await self.ended(unit, taken[1], event.status)

    async def booted(self, unit: UnitOfWork, party_id: PartyId, station_id: str, firmware_version: str | None) -> None:
        """A station says which firmware it runs."""
        for task in await self.tasks.booted(unit, party_id, station_id, firmware_version):
            await self.ended(unit, task, "Installed")

    async def ended(self, unit: UnitOfWork, task: StationTaskRecord, word: str | None) -> None:
        """Note in its campaign that a task has ended; a task of no campaign, or a late one, changes nothing."""
        if task.campaign_id is None or task.state in (TaskState.ASKED, TaskState.ACCEPTED):
            return
        campaign = await unit.table(FIRMWARE_CAMPAIGN).get_for_update(task.party_id, task.campaign_id)
        key = (task.party_id, task.campaign_id, task.charging_station_id)
        target = await unit.table(FIRMWARE_TARGET).get_for_update(*key)
        if campaign is None or target is None or target.request_id != task.request_id:
            return
        is_late = task.state is TaskState.DONE and target.detail == TIMED_OUT
        if target.state is not TargetState.UNDER_WAY and not is_late:
            return
        if task.state is TaskState.DONE:
            target = replace(target, state=TargetState.INSTALLED, detail=word, ended_at=self.office.now())
        else:
            target = self._failed(campaign, target, word)
        await unit.table(FIRMWARE_TARGET).put(target)
        reason = word if word in SIGNATURE_REFUSED and campaign.state in _MAY_STOP else None
        await self._settled(unit, campaign, await _targets(unit, campaign), reason=reason)

    def _failed(
        self, campaign: FirmwareCampaignRecord, target: FirmwareTargetRecord, word: str | None
    ) -> FirmwareTargetRecord:
        if word == CommandResult.STATION_OFFLINE:  # it was never asked
            return replace(target, state=TargetState.WAITING, attempts=target.attempts - 1, detail=word)
        state = after_failure(campaign.rules, target.attempts)
        if word in SIGNATURE_REFUSED:
            state = TargetState.FAILED
        ended_at = self.office.now() if state is TargetState.FAILED else None
        return replace(target, state=state, detail=word, ended_at=ended_at)

    async def _settled(
        self,
        unit: UnitOfWork,
        campaign: FirmwareCampaignRecord,
        targets: Sequence[FirmwareTargetRecord],
        *,
        reason: str | None = None,
    ) -> FirmwareCampaignRecord:
        """Stop a campaign, or end it, where its stations' states ask for it."""
        if reason is None and campaign.state is CampaignState.RUNNING:
            too_many = too_many_failed(campaign.rules, _plain(targets), forgiven=campaign.failures_forgiven)
            reason = _TOO_MANY if too_many else None
        state = campaign.state
        if reason is not None:
            state = CampaignState.STOPPED
        elif state is CampaignState.RUNNING and all(each.state not in PENDING for each in targets):
            state = CampaignState.COMPLETE
        if state is campaign.state:
            return campaign
        campaign = replace(campaign, state=state, reason=reason, changed_at=self.office.now())
        await unit.table(FIRMWARE_CAMPAIGN).put(campaign)
        _log.info("firmware_campaign_changed", campaign_id=campaign.campaign_id, state=state, reason=reason)
        return campaign


_MAY_STOP: Final = (CampaignState.RUNNING, CampaignState.PAUSED)


async def _targets(unit: UnitOfWork, campaign: FirmwareCampaignRecord) -> list[FirmwareTargetRecord]:
    where = {"party_id": campaign.party_id, "campaign_id": campaign.campaign_id}
    return await unit.table(FIRMWARE_TARGET).select(where, order_by=("charging_station_id",))


def _plain(targets: Iterable[FirmwareTargetRecord]) -> list[Target]:
    return [
        Target(charging_station_id=each.charging_station_id, state=each.state, attempts=each.attempts)
        for each in targets
    ]


def _afresh(target: FirmwareTargetRecord) -> FirmwareTargetRecord:
    return replace(target, state=TargetState.WAITING, attempts=0, ended_at=None)


def _check(terms: CampaignTerms) -> None:
    rules = terms.rules
    is_fit = 1 <= rules.batch_size <= BATCH_SIZE_MAX and 1 <= rules.attempts_max <= ATTEMPTS_MAX
    is_fit = is_fit and 1 <= terms.time_limit_s <= TIME_LIMIT_S_MAX and (rules.failures_max or 0) >= 0
    is_fit = is_fit and 0 <= (rules.failure_percent_max or 0) <= 100
    if not is_fit:
        raise NotUnderstood(
            f"batch_size is 1 to {BATCH_SIZE_MAX}, attempts_max 1 to {ATTEMPTS_MAX}, time_limit_s 1 to "
            f"{TIME_LIMIT_S_MAX}, failures_max 0 or more, failure_percent_max 0 to 100"
        )


def campaign_shown(campaign: FirmwareCampaignRecord, targets: Sequence[FirmwareTargetRecord] = ()) -> CampaignShown:
    """Return what operators see of a campaign."""
    return CampaignShown(
        campaign_id=campaign.campaign_id,
        name=campaign.name,
        state=campaign.state,
        reason=campaign.reason,
        firmware_version=campaign.firmware_version,
        selection=campaign.selection,
        rules=campaign.rules,
        time_limit_s=campaign.time_limit_s,
        batch=campaign.batch,
        created_at=campaign.created_at,
        changed_at=campaign.changed_at,
        stations=dict(sorted(Counter(each.state.value for each in targets).items())),
    )
