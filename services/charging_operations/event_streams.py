"""Periodic event streams of each station (OCPP 2.1, N11-N15): which run, and the newest values of each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import structlog

from emobility.domain.identifiers import PartyId
from emobility.events.event import Envelope
from emobility.events.station_told import EventStreamClosed, EventStreamOpened, EventStreamReported
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.station_control.messages import CommandOutcome, CommandResult
from emobility.protocols.station_control.told import StreamTold, stream_of, stream_values_of, whole_of
from services.charging_operations.office import Office
from services.charging_operations.station_calls import call_station

STREAMS_MAX: Final = 1_000
"""Streams kept of one station, closed ones too."""
VALUES_KEPT_MAX: Final = 5_000
"""Values kept of one stream; the oldest make room."""
_log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventStreamRecord:
    """A stream as it was opened or adjusted last. `closed_at` None: it runs.

    `pending` is how many values waited at the station when it reported last; `values_heard` counts them all.
    """

    party_id: PartyId
    charging_station_id: str
    stream_id: int
    variable_monitoring_id: int | None
    interval_s: int | None
    values_at_once: int | None
    opened_at: datetime
    closed_at: datetime | None
    reported_at: datetime | None
    pending: int
    values_heard: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamValueRecord:
    """A value of a stream; `number` counts the stream's values as they were heard, `at` is the station's time."""

    party_id: PartyId
    charging_station_id: str
    stream_id: int
    number: int
    at: datetime
    value: str
    heard_at: datetime


EVENT_STREAM: Final = TableSpec(
    name="cpo_event_stream", record=EventStreamRecord, key=("party_id", "charging_station_id", "stream_id")
)
STREAM_VALUE: Final = TableSpec(
    name="cpo_event_stream_value",
    record=StreamValueRecord,
    key=("party_id", "charging_station_id", "stream_id", "number"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamAdjustment:
    """POST event-streams/{stream_id}/adjust: how often a stream reports, or with how many values at once."""

    interval_s: int | None = None
    values_at_once: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventStreamDesk:
    """Keeps streams."""

    office: Office

    # What stations tell

    async def take_opened(
        self, unit: UnitOfWork, envelope: Envelope, event: EventStreamOpened, payload: dict[str, Any]
    ) -> None:
        """Note that a stream began; one that is opened anew keeps the values it has."""
        told = stream_of(payload["constantStreamData"])
        row = await self._known(unit, event)
        if row is None and await self._is_full(unit, event):
            return
        await unit.table(EVENT_STREAM).put(self._opened(event, told, row, envelope.recorded_at))

    async def take_closed(self, unit: UnitOfWork, envelope: Envelope, event: EventStreamClosed) -> None:
        """Note that a stream ended."""
        row = await self._known(unit, event)
        if row is not None and row.closed_at is None:
            await unit.table(EVENT_STREAM).put(replace(row, closed_at=envelope.recorded_at))

    async def take_values(
        self, unit: UnitOfWork, envelope: Envelope, event: EventStreamReported, payload: dict[str, Any]
    ) -> None:
        """Keep values; those of a stream that we did not hear of being opened, too."""
        row = await self._known(unit, event)
        if row is None:
            if await self._is_full(unit, event):
                return
            row = self._opened(event, None, None, envelope.recorded_at)
        values = stream_values_of(payload)
        where = {
            "party_id": row.party_id,
            "charging_station_id": row.charging_station_id,
            "stream_id": row.stream_id,
        }
        kept = values[-VALUES_KEPT_MAX:]
        heard = row.values_heard + len(values)
        table = unit.table(STREAM_VALUE)
        await table.put_all(
            [
                StreamValueRecord(
                    party_id=row.party_id,
                    charging_station_id=row.charging_station_id,
                    stream_id=row.stream_id,
                    number=number,
                    at=at,
                    value=value,
                    heard_at=envelope.recorded_at,
                )
                for number, (at, value) in enumerate(kept, start=heard - len(kept))
            ]
        )
        for old in await table.select(where, order_by=("-number",), offset=VALUES_KEPT_MAX):
            await table.remove(*where.values(), old.number)
        await unit.table(EVENT_STREAM).put(
            replace(row, reported_at=envelope.recorded_at, pending=whole_of(payload["pending"]), values_heard=heard)
        )

    # What operators ask

    async def adjust(
        self, party_id: PartyId, station_id: str, stream_id: int, asked: StreamAdjustment, *, correlation_id: str
    ) -> CommandOutcome:
        """Have a stream report otherwise. Raises what `call_station` does."""
        wanted = {"interval": asked.interval_s, "values": asked.values_at_once}
        params = {name: value for name, value in wanted.items() if value is not None}
        payload = {"id": stream_id, "params": params}
        outcome = await call_station(
            self.office, party_id, station_id, "AdjustPeriodicEventStream", payload, correlation_id=correlation_id
        )
        if outcome.result is CommandResult.ACCEPTED:
            async with self.office.ports.units.begin() as unit:
                row = await unit.table(EVENT_STREAM).get_for_update(party_id, station_id, stream_id)
                if row is not None:
                    adjusted = replace(row, interval_s=asked.interval_s, values_at_once=asked.values_at_once)
                    await unit.table(EVENT_STREAM).put(adjusted)
                    await unit.commit()
        return outcome

    async def refresh(self, party_id: PartyId, station_id: str, *, correlation_id: str) -> CommandOutcome:
        """Ask which streams run (GetPeriodicEventStream); others are over. Raises what `call_station` does."""
        outcome = await call_station(
            self.office, party_id, station_id, "GetPeriodicEventStream", {}, correlation_id=correlation_id
        )
        if outcome.result is not CommandResult.ACCEPTED or outcome.answer is None:
            return outcome
        told = {each.stream_id: each for each in map(stream_of, outcome.answer.get("constantStreamData", ()))}
        where = {"party_id": party_id, "charging_station_id": station_id}
        async with self.office.ports.units.begin() as unit:
            table = unit.table(EVENT_STREAM)
            known = {row.stream_id: row for row in await table.select(where)}
            for stream_id, stream in list(told.items())[:STREAMS_MAX]:
                row = known.get(stream_id)
                if row is not None and row.closed_at is None:
                    row = replace(row, interval_s=stream.interval_s, values_at_once=stream.values)
                    await table.put(replace(row, variable_monitoring_id=stream.variable_monitoring_id))
                else:
                    at = self.office.now()
                    await table.put(self._running((party_id, station_id, stream_id), stream, row, at))
            for row in known.values():
                if row.stream_id not in told and row.closed_at is None:
                    await table.put(replace(row, closed_at=self.office.now()))
            await unit.commit()
        return outcome

    async def _known(self, unit: UnitOfWork, event: Any) -> EventStreamRecord | None:
        return await unit.table(EVENT_STREAM).get_for_update(event.party_id, event.charging_station_id, event.stream_id)

    async def _is_full(self, unit: UnitOfWork, event: Any) -> bool:
        where = {"party_id": event.party_id, "charging_station_id": event.charging_station_id}
        is_full = await unit.table(EVENT_STREAM).count(where) >= STREAMS_MAX
        if is_full:
            _log.warning("too_many_event_streams", station=event.key)
        return is_full

    def _opened(
        self, event: Any, told: StreamTold | None, row: EventStreamRecord | None, at: datetime
    ) -> EventStreamRecord:
        return self._running((event.party_id, event.charging_station_id, event.stream_id), told, row, at)

    def _running(
        self,
        key: tuple[PartyId, str, int],
        told: StreamTold | None,
        before: EventStreamRecord | None,
        at: datetime,
    ) -> EventStreamRecord:
        return EventStreamRecord(
            party_id=key[0],
            charging_station_id=key[1],
            stream_id=key[2],
            variable_monitoring_id=told.variable_monitoring_id if told else None,
            interval_s=told.interval_s if told else None,
            values_at_once=told.values if told else None,
            opened_at=at,
            closed_at=None,
            reported_at=before.reported_at if before else None,
            pending=before.pending if before else 0,
            values_heard=before.values_heard if before else 0,
        )
