"""Whose a location, a token or a session is, learnt from what passes the hub, for messages that name no receiver.

The hub keeps no object and no id: a keyed hash per id, with the party that pushed the object as its own or serves it,
for `OWNER_AGE` after it was last seen. An id that two parties use leads to neither.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import unquote

import msgspec

from emobility.domain.errors import EmobilityError
from emobility.domain.identifiers import PartyId
from emobility.ports.ports import Ports
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi.client import Envelope
from emobility.protocols.ocpi.v221 import InterfaceRole, ModuleID, NotAnOCPIObject, NotJSON, read
from roaming_hub.messages import Incoming, Message
from roaming_hub.recording import Row
from roaming_hub.steps import Outcome, Step

OWNER_AGE: Final = timedelta(days=90)
SEEN_AGAIN_AFTER: Final = timedelta(days=1)
"""How much later an object that is seen again is noted again."""
NOTED_MAX: Final = 20_000
"""Objects of which a process remembers that they are noted; others are noted again, in a commit there is anyway."""
NOTED_BYTES: Final = 16
"""Of an object's hash, for that memory: enough to tell all there will ever be apart."""
LEARNT_MAX: Final = 200
"""Objects learnt from one message."""
PURGE_ROWS: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectOwner:
    """That a party has an object of this id. `object_hash`: keyed, of kind and id, in any case."""

    object_hash: str
    owner: PartyId
    seen_at: datetime


OBJECT_OWNER: Final = TableSpec(name="hub_object_owner", record=ObjectOwner, key=("object_hash", "owner"))

LOCATION: Final = "location"
TOKEN: Final = "token"  # noqa: S105 - a kind of object
SESSION: Final = "session"
SESSION_TOKEN: Final = "session's eMSP"  # noqa: S105 - a kind of object
RESERVATION: Final = "reservation"


_PUSHED: Final = {
    ModuleID.LOCATIONS.value: LOCATION,
    ModuleID.SESSIONS.value: SESSION,
    ModuleID.TOKENS.value: TOKEN,
}


class CdrTokenParty(msgspec.Struct, frozen=True):
    """Whose token a session or CDR belongs to."""

    country_code: str = ""
    party_id: str = ""


class _Seen(msgspec.Struct, frozen=True):
    """What tells whose an object is."""

    id: str = ""
    uid: str = ""
    country_code: str = ""
    party_id: str = ""
    reservation_id: str = ""
    cdr_token: CdrTokenParty | None = None


class ObjectOwners(Step):
    """Learns from each message that a receiver took, and tells."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._noted: OrderedDict[bytes, datetime] = OrderedDict()

    async def owners(self, kind: str, object_id: str) -> list[PartyId]:
        """Return who has an object of this id."""
        async with self._ports.units.begin() as unit:
            found = await unit.table(OBJECT_OWNER).select({"object_hash": self._hash(kind, object_id)})
        return [each.owner for each in found]

    async def ended(self, message: Message, outcome: Outcome) -> Sequence[Row]:
        """Note whose the objects of a message are, once somebody took it."""
        if outcome.answer is None or not 1000 <= outcome.status_code < 2000:
            return ()
        incoming, receiver = message.incoming, message.receiver_party
        if incoming.method != "GET":
            return self._rows(_told(incoming, message.sender_party, receiver))
        return self._rows(_served(incoming, receiver, outcome.answer.body))

    def pushed(self, incoming: Incoming, sender: PartyId) -> Sequence[Row]:
        """Note whose the object of a broadcast is: its owner says it to all."""
        return self._rows(_told(incoming, sender, None))

    def _rows(self, learnt: Iterator[tuple[str, str, PartyId]]) -> Sequence[Row]:
        now, rows = self._ports.clock.now(), list[Row]()
        for kind, object_id, owner in itertools.islice(learnt, LEARNT_MAX):
            object_hash = self._hash(kind, object_id)
            # Not a tuple: the search for garbage would walk all of these.
            key = bytes.fromhex(object_hash)[:NOTED_BYTES] + owner.code.encode()
            noted_at = self._noted.get(key)
            if noted_at is None or now - noted_at > SEEN_AGAIN_AFTER:
                self._note(key, now)
                rows.append((OBJECT_OWNER, ObjectOwner(object_hash=object_hash, owner=owner, seen_at=now)))
        return rows

    def _note(self, key: bytes, now: datetime) -> None:
        self._noted[key] = now
        self._noted.move_to_end(key)
        if len(self._noted) > NOTED_MAX:
            self._noted.popitem(last=False)

    def _hash(self, kind: str, object_id: str) -> str:
        return self._ports.vault.subject_of(f"hub {kind} {object_id}")

    async def purge(self, unit: UnitOfWork) -> int:
        """Forget what was not seen for long, at most `PURGE_ROWS`; return how many."""
        old = await unit.table(OBJECT_OWNER).select(
            before=("seen_at", self._ports.clock.now() - OWNER_AGE), limit=PURGE_ROWS
        )
        for each in old:
            await unit.table(OBJECT_OWNER).remove(each.object_hash, each.owner)
        return len(old)


def _told(incoming: Incoming, sender: PartyId, receiver: PartyId | None) -> Iterator[tuple[str, str, PartyId]]:
    """Yield kind, id and owner of what a message says. Nobody is believed about another's objects."""
    if incoming.side is not InterfaceRole.RECEIVER:
        return
    module, method = incoming.module, incoming.method
    if module == ModuleID.COMMANDS and method == "POST" and receiver is not None:
        asked = _read(incoming.body)
        if asked and asked.reservation_id:
            yield RESERVATION, asked.reservation_id, receiver
    if method not in {"PUT", "PATCH"}:
        return
    path = [unquote(each) for each in incoming.rest.strip("/").split("/")]
    if len(path) < 3 or f"{path[0]}-{path[1]}".upper() != sender.code:
        return
    if module in _PUSHED:
        yield _PUSHED[module], path[2], sender
    if module == ModuleID.SESSIONS and method == "PUT":
        session = _read(incoming.body)
        token = session.cdr_token if session else None
        emsp = _party(token.country_code, token.party_id) if token else None
        if emsp is not None:
            yield SESSION_TOKEN, path[2], emsp


def _served(incoming: Incoming, owner: PartyId, body: bytes) -> Iterator[tuple[str, str, PartyId]]:
    """Yield kind, id and owner of what a party serves as its own."""
    if incoming.side is InterfaceRole.RECEIVER or incoming.module not in {ModuleID.LOCATIONS, ModuleID.TOKENS}:
        return
    for seen in _listed(body):
        if _party(seen.country_code, seen.party_id) == owner:
            yield from _named(incoming.module, seen, owner)


def _named(module: str, seen: _Seen, owner: PartyId) -> Iterator[tuple[str, str, PartyId]]:
    if module == ModuleID.LOCATIONS and seen.id:
        yield LOCATION, seen.id, owner
    if module == ModuleID.TOKENS and seen.uid:
        yield TOKEN, seen.uid, owner


def _listed(body: bytes) -> list[_Seen]:
    try:
        data = bytes(read(body, Envelope).data)
        return read(data, list[_Seen]) if data.lstrip().startswith(b"[") else [read(data, _Seen)]
    except (NotJSON, NotAnOCPIObject):
        return []


def _read(body: bytes) -> _Seen | None:
    try:
        return read(body, _Seen)
    except (NotJSON, NotAnOCPIObject):
        return None


def _party(country_code: str, party_id: str) -> PartyId | None:
    try:
        return PartyId.of(country_code, party_id)
    except EmobilityError:
        return None
