"""Keep the newest of what comes by pull and by push, in any order, on three levels: location, EVSE, connector.

A location that was sent before an EVSE's change but arrives after it must not bring the old status back, so each EVSE
is kept by its own `last_updated`. A change below raises `last_updated` above (OCPI 2.2.1, 8.3.1).
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from emobility.protocols.ocpi.status import InvalidParameters, NoSuchObject
from emobility.protocols.ocpi.v221 import EVSE, Connector, Location, OCPIObject, read, write

T = TypeVar("T", bound=OCPIObject)


def merged(stored: Location | None, pushed: Location) -> Location:
    """Return the newer location, with each EVSE in its newest state; EVSEs the newer one lacks are gone."""
    if stored is None:
        return pushed
    newer, older = (stored, pushed) if pushed.last_updated < stored.last_updated else (pushed, stored)
    known = {evse.uid.lower(): evse for evse in older.evses}
    evses = []
    for evse in newer.evses:
        other = known.get(evse.uid.lower())
        evses.append(other if other is not None and other.last_updated > evse.last_updated else evse)
    return raised(msgspec.structs.replace(newer, evses=evses))


def raised(location: Location) -> Location:
    """Return the location with `last_updated` at least that of its EVSEs and connectors."""
    moments = [location.last_updated]
    for evse in location.evses:
        moments += [evse.last_updated, *(connector.last_updated for connector in evse.connectors)]
    return msgspec.structs.replace(location, last_updated=max(moments))


def with_evse(location: Location, pushed: EVSE) -> Location:
    """Return the location with an EVSE added or replaced, unless a newer state of it is known."""
    kept = [evse for evse in location.evses if evse.uid.lower() != pushed.uid.lower()]
    known = [evse for evse in location.evses if evse.uid.lower() == pushed.uid.lower()]
    if known and known[0].last_updated > pushed.last_updated:
        return location
    evses = sorted([*kept, pushed], key=lambda evse: evse.uid)
    return raised(msgspec.structs.replace(location, evses=evses))


def with_connector(location: Location, evse_uid: str, pushed: Connector) -> Location:
    """Return the location with a connector added or replaced. Raises `NoSuchObject` without the EVSE."""
    evse = evse_of(location, evse_uid)
    kept = [each for each in evse.connectors if each.id.lower() != pushed.id.lower()]
    connectors = sorted([*kept, pushed], key=lambda connector: connector.id)
    changed = max(evse.last_updated, pushed.last_updated)
    return with_evse(location, msgspec.structs.replace(evse, connectors=connectors, last_updated=changed))


def evse_of(location: Location, evse_uid: str) -> EVSE:
    """Return an EVSE by its uid, in any case. Raises `NoSuchObject`."""
    for evse in location.evses:
        if evse.uid.lower() == evse_uid.lower():
            return evse
    raise NoSuchObject("EVSE")


def connector_of(evse: EVSE, connector_id: str) -> Connector:
    """Return a connector by its id, in any case. Raises `NoSuchObject`."""
    for connector in evse.connectors:
        if connector.id.lower() == connector_id.lower():
            return connector
    raise NoSuchObject("connector")


def patched(known: T, body: bytes, *, fixed: tuple[str, ...]) -> T:
    """Return an object with the fields of a PATCH changed; null removes one.

    Raises:
        InvalidParameters: there is no `last_updated` (8.2.2.3), or an id would change.
        NotAnOCPIObject, NotJSON: the result is no such object, the body no JSON.
    """
    changes = read(body, dict[str, msgspec.Raw])
    if "last_updated" not in changes:
        raise InvalidParameters("a PATCH needs last_updated")
    document = read(write(known), dict[str, msgspec.Raw])
    for name in fixed:
        if name in changes and bytes(changes[name]).lower() != bytes(document[name]).lower():
            raise InvalidParameters(f"{name} can't be changed")
    for name, value in changes.items():
        if bytes(value) == b"null":
            document.pop(name, None)
        else:
            document[name] = value
    return read(write(document), type(known))
