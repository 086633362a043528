"""Find out from a request for whom it is, when it does not say so (OCPI 2.3.0, 4.3.3.3).

By what the body or the path names: a location, token, session or reservation whose owner the hub has learnt
(`object_owners`), or a `cdr_token`, which states its party. No unique destination is S 4001: nothing is guessed, and a
push is not turned into a broadcast, for what concerns all must be meant so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote

import msgspec

from emobility.domain.errors import EmobilityError
from emobility.domain.identifiers import PartyId
from emobility.protocols.ocpi.status import InvalidParameters, OCPIError, StatusCode
from emobility.protocols.ocpi.v221 import InterfaceRole, ModuleID, NotAnOCPIObject, NotJSON, read
from roaming_hub.messages import Incoming
from roaming_hub.object_owners import (
    LOCATION,
    RESERVATION,
    SESSION,
    SESSION_TOKEN,
    TOKEN,
    CdrTokenParty,
    ObjectOwners,
)

_CONTRACT: Final = re.compile(r"([A-Za-z]{2})-?([A-Za-z0-9]{3})-?[A-Za-z0-9]{9}", re.ASCII)
_BY_OBJECT: Final = {
    ModuleID.LOCATIONS.value: LOCATION,
    ModuleID.SESSIONS.value: SESSION,
    ModuleID.TOKENS.value: TOKEN,
}
"""Of a sender interface: what the first part of the path names, when it names one object."""


class _Asked(msgspec.Struct, frozen=True):
    """What a body may name."""

    location_id: str = ""
    session_id: str = ""
    reservation_id: str = ""
    cdr_token: CdrTokenParty | None = None
    auth_id: str = ""
    """2.1.1: the contract, which begins with its eMSP's country and id (ISO 15118-1, annex H)."""


class OpenRouting:
    """Finds destinations."""

    def __init__(self, owners: ObjectOwners) -> None:
        self._owners = owners

    async def destination(self, incoming: Incoming, sender: PartyId) -> PartyId:
        """Return for whom a request is. Raises `OCPIError` S 4001, and S 2001 for a list."""
        path = [unquote(each) for each in incoming.rest.strip("/").split("/") if each]
        if incoming.method == "GET" and incoming.side is InterfaceRole.SENDER and not path:
            raise InvalidParameters("a list is asked of one party, or of the hub for all: OCPI-to must name it")
        found = {each for each in await self._found(incoming, path) if each != sender}
        if len(found) != 1:
            what = "nobody" if not found else "more than one party"
            raise OCPIError(StatusCode.UNKNOWN_RECEIVER, f"{what} is known for whom this could be; name OCPI-to")
        return found.pop()

    async def _found(self, incoming: Incoming, path: Sequence[str]) -> Sequence[PartyId]:
        module, owners = incoming.module, self._owners.owners
        if incoming.side is InterfaceRole.SENDER:
            kind = _BY_OBJECT.get(module)
            return await owners(kind, path[0]) if kind and path else []
        if module == ModuleID.CHARGINGPROFILES:
            return await owners(SESSION, path[0]) if path else []
        asked = _asked(incoming.body)
        if module in {ModuleID.SESSIONS, ModuleID.CDRS}:
            if asked.cdr_token is not None:
                return _party(asked.cdr_token)
            if (contract := _CONTRACT.match(asked.auth_id)) is not None:
                return [PartyId.of(*contract.groups())]
            # What a PATCH or GET of a Session says of its eMSP is what its PUT said.
            return await owners(SESSION_TOKEN, path[2]) if module == ModuleID.SESSIONS and len(path) > 2 else []
        if module == ModuleID.COMMANDS:
            for kind, object_id in (
                (LOCATION, asked.location_id),
                (SESSION, asked.session_id),
                (RESERVATION, asked.reservation_id),
            ):
                if object_id:
                    return await owners(kind, object_id)
        return []


def _asked(body: bytes) -> _Asked:
    try:
        return read(body, _Asked)
    except (NotJSON, NotAnOCPIObject):
        return _Asked()


def _party(token: CdrTokenParty) -> Sequence[PartyId]:
    try:
        return [PartyId.of(token.country_code, token.party_id)]
    except EmobilityError:
        return []
