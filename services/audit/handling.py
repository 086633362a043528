"""Events: each was handled, or discarded by somebody who said why. None waits, none is forgotten."""

from __future__ import annotations

from emobility.events.event import LoggedEvent
from services.audit.books import Books
from services.audit.report import Check, Difference


def check_every_event_was_handled(books: Books) -> Check:
    """No event waits in the dead letters or before a consumer; what was discarded is explained."""
    rule = "every event was handled"
    found = [(f"{parked.group} {place_of(parked.logged)}", 1, parked.reason) for parked in books.parked]
    found += [
        (f"{each.parked.group} {place_of(each.parked.logged)}", 1, "it was discarded, and nobody said who or why")
        for each in books.discarded
        if not each.who.strip() or not each.why.strip()
    ]
    found += [(group, lag, "the consumer lags behind") for group, lag in sorted(books.lag.items()) if lag]
    differences = tuple(
        Difference(rule=rule, scope=scope, expected=0, found=count, unit="events", cause=cause)
        for scope, count, cause in found
    )
    return Check(rule=rule, compared=books.logged_events, differences=differences)


def place_of(logged: LoggedEvent) -> str:
    """Return where an event lies, as operators name it."""
    return f"{logged.topic}/{logged.partition}@{logged.offset}"
