"""Messages on stations' displays (OCPP 2.0.1 and 2.1, O01-O06): what we set, and what stations say they show."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import structlog

from emobility.domain.identifiers import PartyId
from emobility.events.event import Envelope
from emobility.events.station_told import DisplayMessagesReported
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.station_control.messages import CommandOutcome, CommandResult
from emobility.protocols.station_control.told import display_messages_of
from services.charging_operations.office import Office
from services.charging_operations.report_pages import take_page
from services.charging_operations.station_calls import call_station
from services.charging_operations.station_records import ReportKind
from services.charging_operations.wanted_settings import WantedDesk, WantedKind, WantedState, as_json

MESSAGES_MAX: Final = 1_000
"""Messages kept of one station."""
_UNKNOWN: Final = "Unknown"
_log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class DisplayMessageRecord:
    """A message as its station last told it; `message` is its MessageInfoType as JSON."""

    party_id: PartyId
    charging_station_id: str
    message_id: int
    priority: str
    display_state: str | None
    message: str
    request_id: int
    seen_at: datetime


DISPLAY_MESSAGE: Final = TableSpec(
    name="cpo_display_message", record=DisplayMessageRecord, key=("party_id", "charging_station_id", "message_id")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DisplayMessageShown:
    """A message for the operator, as its station told it."""

    message_id: int
    priority: str
    display_state: str | None
    seen_at: datetime
    message: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class DisplayDesk:
    """Sets messages and keeps what stations tell of them."""

    office: Office
    wanted: WantedDesk

    async def set_message(
        self, party_id: PartyId, station_id: str, message_id: int, message: dict[str, Any], *, correlation_id: str
    ) -> CommandOutcome:
        """Set a message; `message` is MessageInfoType but for its id. Raises what `call_station` does."""
        payload = {"message": message | {"id": message_id}}
        kind = WantedKind.DISPLAY_MESSAGE
        return await self.wanted.set(
            party_id, station_id, kind, str(message_id), payload, correlation_id=correlation_id
        )

    async def clear_message(
        self, party_id: PartyId, station_id: str, message_id: int, *, correlation_id: str
    ) -> CommandOutcome:
        """Take a message off. Raises what `call_station` does."""
        outcome = await call_station(
            self.office,
            party_id,
            station_id,
            "ClearDisplayMessage",
            {"id": message_id},
            correlation_id=correlation_id,
        )
        # What the station does not have is not shown either.
        if outcome.result is CommandResult.ACCEPTED or outcome.station_status == _UNKNOWN:
            kind = WantedKind.DISPLAY_MESSAGE
            async with self.office.ports.units.begin() as unit:
                await self.wanted.end(
                    unit, party_id, station_id, kind, WantedState.CLEARED, object_ids=(str(message_id),)
                )
                await unit.table(DISPLAY_MESSAGE).remove(party_id, station_id, message_id)
                await unit.commit()
        return outcome

    async def take(
        self, unit: UnitOfWork, envelope: Envelope, event: DisplayMessagesReported, payload: dict[str, Any]
    ) -> None:
        """Take a page in; after the last page of all that was asked for, other messages are gone."""
        table = unit.table(DISPLAY_MESSAGE)
        where = {"party_id": event.party_id, "charging_station_id": event.charging_station_id}
        known = {row.message_id for row in await table.select(where)}
        for told in display_messages_of(payload):
            if told.message_id not in known and len(known) >= MESSAGES_MAX:
                _log.warning("too_many_display_messages", station=event.key)
                break
            known.add(told.message_id)
            await table.put(
                DisplayMessageRecord(
                    party_id=event.party_id,
                    charging_station_id=event.charging_station_id,
                    message_id=told.message_id,
                    priority=told.priority,
                    display_state=told.display_state,
                    message=told.message,
                    request_id=event.request_id,
                    seen_at=envelope.recorded_at,
                )
            )
        is_last = not payload.get("tbc", False)
        if await take_page(unit, envelope, event, event.request_id, ReportKind.DISPLAY_MESSAGES, is_last=is_last):
            for row in await table.select(where):
                if row.request_id != event.request_id:
                    await table.remove(*where.values(), row.message_id)


def shown_message(row: DisplayMessageRecord) -> DisplayMessageShown:
    """Return a message for the operator."""
    return DisplayMessageShown(
        message_id=row.message_id,
        priority=row.priority,
        display_state=row.display_state,
        seen_at=row.seen_at,
        message=as_json(row.message),
    )
