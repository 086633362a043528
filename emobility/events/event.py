"""What every event has in common, and the catalogue that knows them all by their wire names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import ClassVar, Final, TypeVar

import msgspec


class Event:
    """Base of all events: frozen dataclasses in the past tense, facts that nobody can refuse.

    Fields are added with a default, never renamed or reused; a golden file pins each version.
    """

    __slots__ = ()
    wire_name: ClassVar[str]
    """For example `charging.transaction_ended.v1`."""
    topic: ClassVar[str]

    @property
    def key(self) -> str:
        """Events of one key keep their order."""
        raise NotImplementedError


EventT = TypeVar("EventT", bound=type[Event])

Views = Mapping[type[Event], type[Event]]
"""For an event a class with fewer of its fields, for whoever needs no others: most of an event is never read then."""
NO_VIEWS: Final[Views] = MappingProxyType({})

CATALOGUE: Final[dict[str, type[Event]]] = {}
"""Every event by its wire name."""


def catalogued(event: EventT) -> EventT:
    """Enter an event class into the catalogue; a wire name is used once."""
    if event.wire_name in CATALOGUE:
        raise AssertionError(f"{event.wire_name} names {CATALOGUE[event.wire_name]} already")
    CATALOGUE[event.wire_name] = event
    return event


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """An event on its way into the log (a struct, as `MeterReading`).

    Attributes:
        event: The fact.
        event_id: Idempotency key of the fact, at most `EVENT_ID_CHARACTERS_MAX`: the same however often it is
            reported. OCPP 2.x: party, station, transaction, seq; OCPP 1.6: hash of the content; our own facts:
            the object and its version.
        correlation_id: Joins what one cause brought about, from frame to receipt.
        recorded_at: When this process learnt the fact, business time, UTC.
    """

    event: Event
    event_id: str
    correlation_id: str
    recorded_at: datetime


EVENT_ID_CHARACTERS_MAX: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedEvent:
    """An event with its place in the log. Offsets are dense per topic and partition and start at 0."""

    topic: str
    partition: int
    offset: int
    envelope: Envelope
    data: bytes | None = None
    """Its bytes in the log, where the envelope holds no more than a view of the event."""
