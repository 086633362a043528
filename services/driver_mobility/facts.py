"""How this service puts facts into the log: one idempotency key per fact, however often it is found out."""

from __future__ import annotations

from datetime import datetime

from emobility.events.event import EVENT_ID_CHARACTERS_MAX, Envelope, Event


def fact(event: Event, *parts: str, correlation_id: str, at: datetime) -> Envelope:
    """Wrap an event; its id is its name and `parts`, which name the object and its version."""
    event_id = "/".join((event.wire_name, *parts))
    if len(event_id) > EVENT_ID_CHARACTERS_MAX:
        raise AssertionError(f"{event_id} is longer than {EVENT_ID_CHARACTERS_MAX}")
    return Envelope(event=event, event_id=event_id, correlation_id=correlation_id, recorded_at=at)
