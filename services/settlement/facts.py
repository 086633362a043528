"""How this service puts facts into the log: one idempotency key per fact, however often it is found out."""

from __future__ import annotations

from datetime import datetime

from emobility.events.event import Envelope, Event


def fact(event: Event, *parts: str, at: datetime) -> Envelope:
    """Wrap an event; its id is its name and `parts`. What it is about joins what one cause brought about."""
    about = "/".join(parts)
    return Envelope(event=event, event_id=f"{event.wire_name}/{about}", correlation_id=about, recorded_at=at)
