"""What was said with a station, both ways, redacted: while an operator wants it, a ring per station.

A log of everything would cost as much as the events do, so nothing is written but for stations that somebody watches.
Every gateway looks now and then which these are; the owner of the connection writes, in one commit for all of them.
What can't be stored is dropped: no message waits for its log.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any, Final

import structlog

from charge_point_gateway.message import canonical_text
from charge_point_gateway.security import StationIdentity
from charge_point_gateway.texts import without_nul
from emobility.domain.errors import RuleBroken, Unavailable
from emobility.domain.identifiers import PartyId
from emobility.ports.clock import Clock, Timer
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import Units
from emobility.protocols.station_control.messages import MessageLogging, StationMessage
from emobility.protocols.station_control.redaction import redacted

MESSAGES_KEPT_MAX: Final = 500
"""Messages kept of one station; the oldest makes room."""
LOGGING_MAX: Final = timedelta(days=7)
"""Longest time for which messages may be asked for at once."""
LOGS_MAX: Final = 1_000
"""Stations watched at once."""
LOGS_OF_PARTY_MAX: Final = 200
"""And of one party."""
UNSTORED_MAX: Final = 5_000
"""Messages that wait to be stored; beyond it the oldest is dropped."""
TEXT_CHARACTERS_MAX: Final = 20_000
"""A longer payload is not kept, only that there was one."""
LOOK_INTERVAL_S: Final = 2.0
LOOKS_PER_SWEEP: Final = 1_800
"""Once an hour it is looked for messages that are too old."""
SWEPT_AT_ONCE_MAX: Final = 100
"""Stations whose messages one sweep drops."""
_LOG: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageLogRow:
    """Until when a station's messages are kept."""

    party_id: PartyId
    charging_station_id: str
    until: datetime
    has_heartbeats: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StationMessageRow:
    """A CALL or SEND and what became of it. `number` counts a station's messages, `slot` is its place in the ring."""

    party_id: PartyId
    charging_station_id: str
    slot: int
    number: int
    at: datetime
    is_from_station: bool
    ocpp_version: str
    action: str
    message_id: str
    payload: str | None
    answer: str | None
    error_code: str | None
    latency_ms: int
    tolerated: str | None = None
    """One departure a line, each with its profile."""


MESSAGE_LOG: Final = TableSpec(
    name="station_message_log", record=MessageLogRow, key=("party_id", "charging_station_id")
)
STATION_MESSAGE: Final = TableSpec(
    name="station_message", record=StationMessageRow, key=("party_id", "charging_station_id", "slot")
)


class LoggingRefused(RuleBroken):
    """Messages can be kept for `LOGGING_MAX` from now at most, of `LOGS_OF_PARTY_MAX` stations, `LOGS_MAX` in all."""


class MessageLog:
    """Keeps messages of the stations that are watched."""

    def __init__(self, units: Units, clock: Clock, timer: Timer, *, retention: timedelta = LOGGING_MAX) -> None:
        """`retention`: how long messages are kept after their station is watched no more."""
        self._units = units
        self._clock = clock
        self._timer = timer
        self._retention = retention
        self.watched: dict[StationIdentity, MessageLogRow] = {}
        """Empty nearly always, and asked of every message: that is all a log costs that is off."""
        self._unstored: deque[StationMessageRow] = deque(maxlen=UNSTORED_MAX)

    def note(
        self,
        identity: StationIdentity,
        *,
        is_from_station: bool,
        ocpp_version: str,
        action: str,
        message_id: str,
        payload: Any,
        answer: Any = None,
        error_code: str | None = None,
        latency_s: float = 0.0,
        tolerated: tuple[str, ...] = (),
    ) -> None:
        """Keep a message, if its station is watched. Never raises: no message fails for its log."""
        log, now = self.watched.get(identity), self._clock.now()
        if log is None or now >= log.until or (action == "Heartbeat" and not log.has_heartbeats):
            return
        try:
            row = StationMessageRow(
                party_id=identity.party_id,
                charging_station_id=identity.charging_station_id,
                slot=0,
                number=0,
                at=now,
                is_from_station=is_from_station,
                ocpp_version=ocpp_version,
                action=without_nul(action[:50]),
                message_id=without_nul(message_id),
                payload=_text(payload),
                answer=_text(answer),
                error_code=error_code,
                latency_ms=round(latency_s * 1000),
                tolerated="\n".join(tolerated) or None,
            )
        except Exception as error:  # noqa: BLE001 - see above
            _LOG.warning("message_not_noted", station=identity.key, error=type(error).__name__)
            return
        self._unstored.append(row)

    async def run(self, stop: asyncio.Event) -> None:
        """Look who is watched and store what was noted, until `stop` is set."""
        for looks in count():
            if stop.is_set():
                return
            try:
                await self.look()
                await self.store()
                if looks % LOOKS_PER_SWEEP == 0:
                    await self.sweep()
            except Unavailable as error:
                _LOG.warning("messages_not_stored", unstored=len(self._unstored), reason=str(error))
            await self._timer.sleep(LOOK_INTERVAL_S)

    async def look(self) -> None:
        """Find out which stations are watched now."""
        async with self._units.begin() as unit:
            rows = await unit.table(MESSAGE_LOG).select(since=("until", self._clock.now()), limit=LOGS_MAX)
        self.watched = {StationIdentity(row.party_id, row.charging_station_id): row for row in rows}

    async def store(self) -> None:
        """Store what was noted, each station's as one sequence. Raises `Unavailable`; then it stays noted."""
        noted, self._unstored = self._unstored, deque(maxlen=UNSTORED_MAX)
        try:
            await self._store(list(noted))
        except BaseException:
            self._unstored.extendleft(reversed(noted))
            raise

    async def sweep(self) -> None:
        """Drop the messages of stations that nobody has watched for as long as the retention."""
        before = ("until", self._clock.now() - self._retention)
        async with self._units.begin() as unit:
            rows = await unit.table(MESSAGE_LOG).select(before=before, limit=SWEPT_AT_ONCE_MAX)
        for row in rows:
            await self.end(StationIdentity(row.party_id, row.charging_station_id))

    async def _store(self, noted: list[StationMessageRow]) -> None:
        if not noted:
            return
        stations = {(row.party_id, row.charging_station_id) for row in noted}
        async with self._units.begin() as unit:
            table = unit.table(STATION_MESSAGE)
            for party_id, station_id in sorted(stations, key=str):
                where = {"party_id": party_id, "charging_station_id": station_id}
                newest = await table.select(where, order_by=("-number",), limit=1)
                own = [row for row in noted if (row.party_id, row.charging_station_id) == (party_id, station_id)]
                await table.put_all(_numbered(own, newest[0].number + 1 if newest else 0))
            await unit.commit()

    # For operators

    async def begin(self, identity: StationIdentity, asked: MessageLogging) -> None:
        """Keep a station's messages until a moment. Raises `LoggingRefused`."""
        now = self._clock.now()
        if asked.until.tzinfo is None or not now < asked.until <= now + LOGGING_MAX:
            raise LoggingRefused(f"messages are kept until a moment (with its offset) within {LOGGING_MAX.days} days")
        async with self._units.begin() as unit:
            table = unit.table(MESSAGE_LOG)
            known = await table.get_for_update(identity.party_id, identity.charging_station_id)
            if known is None or known.until < now:
                own = await table.count({"party_id": identity.party_id}, since=("until", now))
                if own >= LOGS_OF_PARTY_MAX or await table.count(since=("until", now)) >= LOGS_MAX:
                    raise LoggingRefused(f"messages are kept of {LOGS_OF_PARTY_MAX} stations, {LOGS_MAX} over all")
            await table.put(
                MessageLogRow(
                    party_id=identity.party_id,
                    charging_station_id=identity.charging_station_id,
                    until=asked.until,
                    has_heartbeats=asked.has_heartbeats,
                )
            )
            await unit.commit()
        await self.look()

    async def end(self, identity: StationIdentity) -> None:
        """Keep no more messages of a station, and drop those kept."""
        async with self._units.begin() as unit:
            await unit.table(MESSAGE_LOG).remove(identity.party_id, identity.charging_station_id)
            where = {"party_id": identity.party_id, "charging_station_id": identity.charging_station_id}
            for row in await unit.table(STATION_MESSAGE).select(where):
                await unit.table(STATION_MESSAGE).remove(*where.values(), row.slot)
            await unit.commit()
        await self.look()

    async def kept(self, identity: StationIdentity, *, offset: int, limit: int) -> list[StationMessage]:
        """Return a station's messages, the newest first."""
        where = {"party_id": identity.party_id, "charging_station_id": identity.charging_station_id}
        async with self._units.begin() as unit:
            rows = await unit.table(STATION_MESSAGE).select(where, order_by=("-number",), offset=offset, limit=limit)
        return [
            StationMessage(
                at=row.at,
                is_from_station=row.is_from_station,
                ocpp_version=row.ocpp_version,
                action=row.action,
                message_id=row.message_id,
                payload=row.payload,
                answer=row.answer,
                error_code=row.error_code,
                latency_ms=row.latency_ms,
                tolerated=tuple(row.tolerated.splitlines()) if row.tolerated else (),
            )
            for row in rows
        ]


def _numbered(rows: Iterable[StationMessageRow], first: int) -> list[StationMessageRow]:
    numbered = [replace(row, number=number, slot=number % MESSAGES_KEPT_MAX) for number, row in zip(count(first), rows)]
    return numbered[-MESSAGES_KEPT_MAX:]


def _text(value: Any) -> str | None:
    if value is None:
        return None
    text = canonical_text(redacted(value))
    return text if len(text) <= TEXT_CHARACTERS_MAX else None
