"""A party that only informs the public (NSP, NAP) asks for locations and tariffs, and for nothing of a driver."""

from __future__ import annotations

from typing import Final

from emobility.domain.identifiers import PartyId, Role
from emobility.protocols.ocpi.status import OCPIError, StatusCode
from emobility.protocols.ocpi.v221 import ModuleID
from roaming_hub.messages import Incoming
from roaming_hub.steps import Step

INFORMING: Final = frozenset({Role.NSP, Role.NAP})
PUBLIC: Final = frozenset({ModuleID.LOCATIONS.value, ModuleID.TARIFFS.value})


class PublicOnly(Step):
    """Refuses what such a party has no business with, before anybody is asked; the receiver sees nothing."""

    def __init__(self, hub: PartyId) -> None:
        self._hub = hub

    async def entered(self, incoming: Incoming) -> None:
        """Raise `OCPIError` S 2000 for another module."""
        if incoming.side is None:
            # A page that follows, or an answer: the hub gave its address in a message that passed.
            return
        if incoming.method == "GET" and incoming.routing.to_party == self._hub:
            # GET ALL asks nobody else for more than the caller may see, and of drivers that is nothing.
            return
        named = incoming.routing.from_party
        roles = {each.role for each in incoming.roles if named is None or each.party_id == named}
        if roles and roles <= INFORMING and incoming.module not in PUBLIC:
            raise OCPIError(
                StatusCode.CLIENT_ERROR,
                f"a party that is {' and '.join(sorted(roles))} has no part in {incoming.module}",
            )
