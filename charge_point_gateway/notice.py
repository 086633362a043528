"""What a station tells that no part of ours has modelled: kept whole, sealed, in the words of the standard.

A notification must not be answered by a CALLERROR: the station could only repeat it. So each is stored, and its event
carries the payload with every name and number as it came.
"""

# ruff: noqa: ARG002 - every message is asked with the same arguments

from __future__ import annotations

from typing import Any, ClassVar

from charge_point_gateway.message import (
    Context,
    Fact,
    Message,
    PersonalText,
    canonical_text,
    content_key,
    rfc3339,
)
from charge_point_gateway.rpc_errors import CallRefused, RPCError
from emobility.domain.errors import MalformedInput
from emobility.events.charging import StationNotified
from emobility.events.station_told import StationTold


class Notice(Message):
    """A message that becomes a `StationNotified`. Subclasses name the action, and say what differs."""

    is_told_once: ClassVar[bool] = False
    """Its content (a sequence number, a moment) tells it from every other one, so a repetition is known as such."""
    answer: ClassVar[dict[str, Any]] = {}
    """The CALLRESULT, where it does not depend on the payload."""

    def identifier(self, payload: dict[str, Any], context: Context) -> str:
        """Return under what the payload is sealed: a person where it names one, else the station."""
        return context.station_key

    def personal(self, payload: dict[str, Any], context: Context) -> tuple[PersonalText, ...]:
        """Seal it whole: what a vendor or a driver wrote into it, nobody knows."""
        return (self._whole(payload, context),)

    def facts(self, payload: dict[str, Any], context: Context) -> tuple[Fact, ...]:
        """The notice as it came. None where whom it names was erased."""
        sealed = context.sealed.get(self._whole(payload, context))
        if sealed is None:
            return ()
        event = StationNotified(
            party_id=context.party_id,
            charging_station_id=context.charging_station_id,
            ocpp_version=context.ocpp_version,
            action=self.action,
            payload=sealed,
            occurred_at=context.now,
        )
        return (Fact(f"{context.station_key}/notice/{self.action}/{self._told(payload, context)}", event),)

    def response(self, payload: dict[str, Any], context: Context) -> dict[str, Any]:
        """Acknowledge."""
        return self.answer

    def _told(self, payload: dict[str, Any], context: Context) -> str:
        return content_key(payload) if self.is_told_once else f"{rfc3339(context.now)}/{context.message_id}"

    def _whole(self, payload: dict[str, Any], context: Context) -> PersonalText:
        return PersonalText(canonical_text(payload), self.identifier(payload, context))


class Told(Notice):
    """A notice with an event of its own: subclasses name it and say what it holds beside the payload."""

    event: ClassVar[type[StationTold]]
    is_told_once: ClassVar[bool] = True

    def said(self, payload: dict[str, Any], context: Context) -> dict[str, Any]:
        """Return the event's own fields; whatever the back office will read is read here. Raises `MalformedInput`."""
        return {}

    def facts(self, payload: dict[str, Any], context: Context) -> tuple[Fact, ...]:
        """The event. What it says outlives whom it names; the payload does not."""
        try:
            said = self.said(payload, context)
        except MalformedInput as error:
            raise CallRefused(RPCError.PROPERTY, str(error)) from error
        event = self.event(
            party_id=context.party_id,
            charging_station_id=context.charging_station_id,
            ocpp_version=context.ocpp_version,
            payload=context.sealed.get(self._whole(payload, context)),
            **said,
        )
        return (Fact(f"{context.station_key}/told/{self.action}/{self._told(payload, context)}", event),)
