"""What the hub carries: the modules between parties, who owns their objects, and who pushes what to whom.

Credentials, versions and hubclientinfo are between platforms and are not routed (OCPI 2.3.0, 4.3.3).
"""

from __future__ import annotations

from typing import Final

from emobility.domain.identifiers import Role
from emobility.protocols.ocpi.v221 import ModuleID

ROUTED_MODULES: Final[tuple[str, ...]] = (
    ModuleID.AGREEMENTS.value,
    ModuleID.BOOKINGS.value,
    ModuleID.CDRS.value,
    ModuleID.CHARGINGPROFILES.value,
    ModuleID.COMMANDS.value,
    ModuleID.DISPUTES.value,
    ModuleID.INVOICERECONCILIATION.value,
    ModuleID.LOCATIONS.value,
    ModuleID.PAYMENTS.value,
    ModuleID.RECONCILIATION.value,
    ModuleID.SESSIONS.value,
    ModuleID.TARIFFS.value,
    ModuleID.TOKENS.value,
)
"""Charging preferences are a path of the sessions module."""

_TO_DRIVERS: Final = frozenset({Role.EMSP, Role.NSP, Role.OTHER, Role.NAP})
PUSHED_TO_ALL: Final[dict[Role, dict[str, frozenset[Role]]]] = {
    Role.CPO: {ModuleID.LOCATIONS.value: _TO_DRIVERS, ModuleID.TARIFFS.value: _TO_DRIVERS},
    Role.EMSP: {ModuleID.TOKENS.value: frozenset({Role.CPO})},
    Role.OTHER: {
        module.value: frozenset({Role.CPO}) for module in (ModuleID.LOCATIONS, ModuleID.TARIFFS, ModuleID.TOKENS)
    },
}
"""Role of the sender → module → roles that a broadcast of it reaches (4.3.3.2); what is not here is for one party."""

OWNERS: Final[dict[str, frozenset[Role]]] = {
    ModuleID.CDRS.value: frozenset({Role.CPO}),
    ModuleID.LOCATIONS.value: frozenset({Role.CPO}),
    ModuleID.SESSIONS.value: frozenset({Role.CPO}),
    ModuleID.TARIFFS.value: frozenset({Role.CPO}),
    ModuleID.TOKENS.value: frozenset({Role.EMSP}),
}
"""Whom GET ALL asks for the objects of a module."""
BETWEEN_TWO: Final = frozenset({ModuleID.CDRS.value, ModuleID.SESSIONS.value})
"""Modules whose objects concern their owner and the party of their `cdr_token`, and nobody else."""
