"""The load manager: looks at each party's load groups again and again, and tells stations what their EVSEs may draw.

What was sent is a row before it is sent, so a limit counts from then on, answered or not, and after a crash as well.
Nobody's limit is raised before the decreases that make room for it are confirmed. A look begins when something happens
that it hears of (`told`), and at least each `LOOK_INTERVAL_S`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

import structlog

from emobility.domain.charging_profile import (
    ChargingProfile,
    ChargingSchedule,
    InstalledProfile,
    Kind,
    PhaseValues,
    Purpose,
    RateUnit,
    SchedulePeriod,
)
from emobility.domain.errors import EmobilityError, RuleBroken, Unavailable
from emobility.domain.identifiers import PartyId
from emobility.events.charging import (
    ConnectorStatusChanged,
    TransactionEnded,
    TransactionStarted,
    TransactionUpdated,
)
from emobility.ports.stores import RecordExists
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.station_control.charging_profiles import set_charging_profile
from emobility.protocols.station_control.client import GatewayUnavailable
from emobility.protocols.station_control.messages import (
    CommandOutcome,
    CommandResult,
    StationPresence,
)
from services.charging_operations.charging_commands import ChargingCommandBook
from services.charging_operations.charging_state import AT_THE_STATION, external_profiles
from services.charging_operations.load_planning import Order, Plan, SiteState, plan
from services.charging_operations.load_records import (
    EVSE_USE,
    LOAD_EVSE,
    LOAD_GROUP,
    LOAD_LIMIT,
    LOAD_TURN,
    EVSEUseRecord,
    LoadEVSERecord,
    LoadLimitRecord,
    LoadTurnRecord,
)
from services.charging_operations.office import Office
from services.charging_operations.records import TransactionRecord
from services.charging_operations.smart_charging_records import CHARGING_NEEDS, CHARGING_PROFILE, EXTERNAL_LIMIT
from services.charging_operations.station_calls import OCPP_16, call_station

LOOK_INTERVAL_S: Final = 10.0
HEARD_PAUSE_S: Final = 0.5
"""What happens together is looked at together."""
LIMIT_TIMEOUT_S: Final = 10
"""How long a station may take to confirm a limit."""
CALLS_AT_ONCE: Final = 50
ROUNDS_MAX: Final = 4
"""Decreases, the increases they make room for, and once more for who did not answer; then others have their turn."""
TURN: Final = timedelta(minutes=2)
"""How long a process looks after a party's groups before another may."""
CHARGING_WORDS_16: Final = frozenset({"Charging", "SuspendedEV", "SuspendedEVSE", "Finishing"})
"""ChargePointStatus of 1.6 that tells what the EV does; 2.x has other words, and tells it in TransactionEvent."""
FALLBACK_ID: Final = 1_000_000
LIMIT_ID: Final = 2_000_000
"""Ids of our profiles: these and the number of the EVSE."""
FALLBACK_LEVEL: Final = 0
LIMIT_LEVEL_16: Final = 1
"""In 1.6 both are TxDefaultProfiles, so the limit has the higher level."""
_log: Final = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class LoadDesk:
    """Hears what happens at steered EVSEs, and steers them."""

    office: Office
    book: ChargingCommandBook
    _heard: asyncio.Event = field(default_factory=asyncio.Event)
    _looks: dict[PartyId, asyncio.Task[None]] = field(default_factory=dict)
    """Of each party, the look that is under way, or whose end nobody has seen yet."""
    _holder: str = ""

    # What stations tell

    async def told(
        self,
        unit: UnitOfWork,
        record: TransactionRecord,
        event: TransactionStarted | TransactionUpdated | TransactionEnded,
    ) -> None:
        """Note who charges at a steered EVSE and what is drawn; `record` is the transaction with this report."""
        if record.ocpp_evse_id is None:
            return
        key = (record.party_id, record.charging_station_id, record.ocpp_evse_id)
        if await unit.table(LOAD_EVSE).get(*key) is None:
            return
        table = unit.table(EVSE_USE)
        known = await table.get_for_update(*key)
        is_same = known is not None and known.transaction_id == record.transaction_id
        if known is not None and not is_same:
            is_earlier = not known.has_ended and known.started_at > record.first_at
            if record.has_ended or is_earlier:
                return  # a late report of an earlier transaction
        # A station's clock may run ahead, by years: what it tells did not happen later than we hear of it.
        now = self.office.now()
        if known is not None and is_same and record.has_ended and not known.has_ended:
            await unit.table(CHARGING_NEEDS).remove(*key)  # they are not the next car's
        row = EVSEUseRecord(
            party_id=key[0],
            charging_station_id=key[1],
            ocpp_evse_id=key[2],
            transaction_id=record.transaction_id,
            started_at=min(record.first_at, known.started_at if known is not None and is_same else now),
            has_ended=record.has_ended,
            charging_state=known.charging_state if known and is_same else None,
            power_w=known.power_w if known and is_same else None,
            metered_at=known.metered_at if known and is_same else None,
        )
        if isinstance(event, TransactionStarted | TransactionUpdated) and event.charging_state is not None:
            row = replace(row, charging_state=event.charging_state)
        for reading in event.readings:
            at = min(reading.at, now)
            if reading.power_w is not None and (row.metered_at is None or at >= row.metered_at):
                row = replace(row, power_w=reading.power_w, metered_at=at)
        if row != known:
            await table.put(row)
            self.hear()

    async def status_told(self, unit: UnitOfWork, event: ConnectorStatusChanged) -> None:
        """Note whether an EV wants to charge, where a 1.6 station tells by its connector's status."""
        key = (event.party_id, event.charging_station_id, event.ocpp_evse_id)
        if event.status not in CHARGING_WORDS_16 or await unit.table(LOAD_EVSE).get(*key) is None:
            return
        known = await unit.table(EVSE_USE).get_for_update(*key)
        if known is not None and not known.has_ended and known.charging_state != event.status:
            await unit.table(EVSE_USE).put(replace(known, charging_state=event.status))
            self.hear()

    def hear(self) -> None:
        """Look soon."""
        self._heard.set()

    # Looking

    async def rest(self) -> None:
        """Return when it is time to look again."""
        timer = self.office.ports.timer
        waits = [asyncio.ensure_future(self._heard.wait()), asyncio.ensure_future(timer.sleep(LOOK_INTERVAL_S))]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
        if self._heard.is_set():
            await timer.sleep(HEARD_PAUSE_S)
        self._heard.clear()

    async def balance(self) -> None:
        """Look at every party's groups once, side by side: one whose stations don't answer holds up no other.

        Such a look goes on while this returns; its party is looked at anew once it has ended. Raises `Unavailable`.
        """
        async with self.office.ports.units.begin() as unit:
            parties = [party_id for (party_id,) in await unit.table(LOAD_GROUP).distinct(["party_id"])]
        for party_id in parties:
            if party_id not in self._looks:
                self._looks[party_id] = asyncio.create_task(self._balance(party_id))
        try:
            if self._looks:
                await asyncio.wait(self._looks.values(), timeout=LOOK_INTERVAL_S)
        except asyncio.CancelledError:
            for each in self._looks.values():
                each.cancel()
            raise
        ended = [self._looks.pop(party_id) for party_id, look in list(self._looks.items()) if look.done()]
        for each in ended:
            each.result()

    async def look(self, party_id: PartyId) -> tuple[SiteState, Plan]:
        """Return how a party's groups are, and what would be done. Raises `Unavailable`, `GatewayRefused`."""
        presences = {each.charging_station_id: each for each in await self.office.stations.stations(party_id)}
        async with self.office.ports.units.begin() as unit:
            state = await self._state(unit, party_id, presences)
        return state, plan(state)

    async def _has_turn(self, party_id: PartyId) -> bool:
        """Take or keep the turn, so that no two processes steer one site."""
        self._holder = self._holder or self.office.ports.randomness.uuid()
        now = self.office.now()
        async with self.office.ports.units.begin() as unit:
            table = unit.table(LOAD_TURN)
            known = await table.get_for_update(party_id)
            if known is not None and known.holder != self._holder and known.held_until > now:
                return False
            row = LoadTurnRecord(party_id=party_id, holder=self._holder, held_until=now + TURN)
            try:
                await (table.insert(row) if known is None else table.put(row))
            except RecordExists:
                return False
            await unit.commit()
        return True

    async def _balance(self, party_id: PartyId) -> None:
        for _ in range(ROUNDS_MAX):
            if not await self._has_turn(party_id):
                return
            try:
                state, decided = await self.look(party_id)
            except EmobilityError as error:
                _log.warning("load_groups_not_looked_at", party_id=party_id.code, reason=str(error))
                return
            if decided.rows:
                async with self.office.ports.units.begin() as unit:
                    await unit.table(LOAD_LIMIT).put_all(decided.rows)
                    await unit.commit()
            if not decided.orders:
                return
            evses = {(each.charging_station_id, each.ocpp_evse_id): each for each in state.evses}
            voltages = {each.load_group_id: each.voltage_v for each in state.groups}
            room = asyncio.Semaphore(CALLS_AT_ONCE)

            async def send(order: Order, version: str, evse: LoadEVSERecord, voltage_v: int) -> None:
                async with room:  # noqa: B023 - awaited in this round
                    try:
                        await self._send(evse, order, version, voltage_v)
                    except Unavailable as error:  # what was sent counts, so the next look begins from there
                        _log.warning("limit_not_noted", station=evse.charging_station_id, reason=str(error))

            # One station after the other for each of its EVSEs would be slower; the gateway queues them.
            await asyncio.gather(
                *(
                    send(
                        order,
                        state.presences[order.key[0]].ocpp_version,
                        evses[order.key],
                        voltages[evses[order.key].load_group_id],
                    )
                    for order in decided.orders
                )
            )

    async def _state(self, unit: UnitOfWork, party_id: PartyId, presences: dict[str, StationPresence]) -> SiteState:
        where = {"party_id": party_id}
        evses = await unit.table(LOAD_EVSE).select(where)
        stations = {each.charging_station_id for each in evses}
        rows = await unit.table(CHARGING_PROFILE).select(
            where | {"purpose": (Purpose.STATION_MAX, Purpose.EXTERNAL_CONSTRAINTS)}
        )
        profiles = [row for row in rows if row.state in AT_THE_STATION and row.charging_station_id in stations]
        limits = await unit.table(EXTERNAL_LIMIT).select(where | {"cleared_at": None})
        caps: dict[str, list[InstalledProfile]] = {}
        for station in stations:
            own = [row for row in profiles if row.charging_station_id == station]
            outside = [row for row in limits if row.charging_station_id == station]
            caps[station] = [*(row.installed for row in own), *external_profiles(own, outside)]
        return SiteState(
            groups=await unit.table(LOAD_GROUP).select(where),
            evses=evses,
            uses=_by_evse(await unit.table(EVSE_USE).select(where)),
            limits=_by_evse(await unit.table(LOAD_LIMIT).select(where)),
            needs=_by_evse(await unit.table(CHARGING_NEEDS).select(where)),
            caps=caps,
            presences=presences,
            now=self.office.now(),
        )

    # Telling

    async def _send(self, evse: LoadEVSERecord, order: Order, version: str, voltage_v: int) -> None:
        """Tell a station one limit, and keep what it said."""
        party_id, station_id = evse.party_id, evse.charging_station_id
        action, payload = call_of(evse, order, version, voltage_v)
        before = await self._note_asked(evse, order)
        if before is not None:
            await self._note_answer(evse, order, await self.call(party_id, station_id, action, payload), before)

    async def call(self, party_id: PartyId, station_id: str, action: str, payload: dict[str, Any]) -> CommandOutcome:
        """Have a station called, and keep its answer; one that is not known to have come counts as timed out."""
        correlation_id = self.office.ports.randomness.uuid()
        try:
            outcome = await call_station(
                self.office,
                party_id,
                station_id,
                action,
                payload,
                correlation_id=correlation_id,
                timeout_s=LIMIT_TIMEOUT_S,
            )
        except GatewayUnavailable as error:
            outcome = CommandOutcome(result=CommandResult.TIMED_OUT, station_status=str(error)[:200])
        except RuleBroken as error:
            outcome = CommandOutcome(result=CommandResult.MALFORMED, station_status=str(error)[:200])
        await self.book.note(party_id, station_id, action, payload, outcome, correlation_id=correlation_id)
        return outcome

    async def _note_asked(self, evse: LoadEVSERecord, order: Order) -> LoadLimitRecord | None:
        """Count with a limit from before it is sent; return the row before. None: the EVSE left its group meanwhile."""
        async with self.office.ports.units.begin() as unit:
            if await unit.table(LOAD_EVSE).get(*_key(evse)) is None:
                return None
            before = await unit.table(LOAD_LIMIT).get_for_update(*_key(evse)) or _untold(evse)
            row = before
            if order.is_fallback:
                row = replace(row, fallback_asked_da=max(order.limit_da or 0, row.fallback_asked_da or 0))
            elif order.limit_da is not None:
                row = replace(row, limit_asked_da=max(order.limit_da, row.limit_asked_da or 0))
            await unit.table(LOAD_LIMIT).put(row)
            await unit.commit()
        return before

    async def _note_answer(
        self, evse: LoadEVSERecord, order: Order, outcome: CommandOutcome, before: LoadLimitRecord
    ) -> None:
        now = self.office.now()
        async with self.office.ports.units.begin() as unit:
            row = await unit.table(LOAD_LIMIT).get_for_update(*_key(evse))
            if row is None or (not order.is_fallback and row.transaction_id != order.transaction_id):
                return  # it is of another transaction by now
            is_cleared = order.limit_da is None and outcome.station_status == "Unknown"
            if outcome.result is CommandResult.ACCEPTED or is_cleared:
                row = replace(row, refusals=0, refused_at=None)
                if order.is_fallback:
                    row = replace(row, fallback_da=order.limit_da, fallback_asked_da=None)
                else:
                    row = replace(row, limit_da=order.limit_da, limit_asked_da=None, changed_at=now)
            elif outcome.result is not CommandResult.TIMED_OUT:
                # It was not taken, so what counted before still does - an earlier limit without an answer as well.
                if order.is_fallback:
                    row = replace(row, fallback_asked_da=before.fallback_asked_da)
                else:
                    row = replace(row, limit_asked_da=before.limit_asked_da)
                if outcome.result is not CommandResult.STATION_OFFLINE:
                    row = replace(row, refusals=row.refusals + 1, refused_at=now)
            await unit.table(LOAD_LIMIT).put(row)
            await unit.commit()

    async def release(self, evses: Sequence[LoadEVSERecord]) -> list[str]:
        """Take our profiles away from EVSEs that are steered no more; return the stations that did not answer."""
        room = asyncio.Semaphore(CALLS_AT_ONCE)

        async def answered(evse: LoadEVSERecord) -> bool:
            async with room:
                return await self._release(evse)

        told = await asyncio.gather(*(answered(evse) for evse in evses))
        return sorted({evse.charging_station_id for evse, is_told in zip(evses, told, strict=True) if not is_told})

    async def _release(self, evse: LoadEVSERecord) -> bool:
        try:
            presence = await self.office.stations.presence(evse.party_id, evse.charging_station_id)
        except (Unavailable, RuleBroken):
            return False
        if presence is None or not presence.is_online:
            return False
        name = "id" if presence.ocpp_version == OCPP_16 else "chargingProfileId"
        for profile_id in (LIMIT_ID, FALLBACK_ID):
            payload = {name: profile_id + evse.ocpp_evse_id}
            outcome = await self.call(evse.party_id, evse.charging_station_id, "ClearChargingProfile", payload)
            if outcome.result not in (CommandResult.ACCEPTED, CommandResult.REJECTED):
                return False
        return True


def call_of(evse: LoadEVSERecord, order: Order, version: str, voltage_v: int) -> tuple[str, dict[str, Any]]:
    """Return action and payload that tell a station an order.

    A transaction of 2.x gets a TxProfile, which ends with it; in 1.6, and as fallback, it is a TxDefaultProfile.
    """
    is_16 = version == OCPP_16
    profile_id = (FALLBACK_ID if order.is_fallback else LIMIT_ID) + evse.ocpp_evse_id
    if order.limit_da is None:
        return "ClearChargingProfile", {"id": profile_id}
    phases = len(evse.phases) if order.phases is None else order.phases
    limit, unit = Decimal(order.limit_da) / 10, RateUnit.A
    if evse.is_in_watts:  # whole watts, cut off
        limit, unit = Decimal(order.limit_da * voltage_v * phases // 10), RateUnit.W
    profile = ChargingProfile(
        profile_id=profile_id,
        stack_level=LIMIT_LEVEL_16 if is_16 and not order.is_fallback else FALLBACK_LEVEL,
        purpose=Purpose.TX_DEFAULT if is_16 or order.is_fallback else Purpose.TX,
        kind=Kind.RELATIVE,
        transaction_id=None if is_16 or order.is_fallback else order.transaction_id,
        schedules=(
            ChargingSchedule(
                schedule_id=profile_id,
                unit=unit,
                periods=(SchedulePeriod(start_s=0, limit=PhaseValues(l1=limit), number_phases=phases),),
            ),
        ),
    )
    installed = InstalledProfile(evse_id=evse.ocpp_evse_id, profile=profile)
    return "SetChargingProfile", set_charging_profile(installed, version)


def is_own(profile_id: int, ocpp_evse_id: int) -> bool:
    """Tell whether a profile is one of ours."""
    return profile_id in (FALLBACK_ID + ocpp_evse_id, LIMIT_ID + ocpp_evse_id)


def _key(evse: LoadEVSERecord) -> tuple[PartyId, str, int]:
    return (evse.party_id, evse.charging_station_id, evse.ocpp_evse_id)


def _untold(evse: LoadEVSERecord) -> LoadLimitRecord:
    return LoadLimitRecord(
        party_id=evse.party_id, charging_station_id=evse.charging_station_id, ocpp_evse_id=evse.ocpp_evse_id
    )


def _by_evse(rows: Sequence[Any]) -> dict[tuple[str, int], Any]:
    return {(row.charging_station_id, row.ocpp_evse_id): row for row in rows}
