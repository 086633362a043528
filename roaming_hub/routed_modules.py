"""What the hub carries: the modules between parties, and who pushes what to whom (OCPI 2.3.0, 4.3.3.2).

Credentials, versions and hubclientinfo are between platforms and are not routed.
"""

from __future__ import annotations

from typing import Final

from emobility.domain.identifiers import Role
from emobility.protocols.ocpi.v221 import ModuleID

CHARGING_PROFILES: Final = "chargingprofiles"
BOOKINGS: Final = "bookings"
PAYMENTS: Final = "payments"
INVOICE_RECONCILIATION: Final = "invoicereconciliation"

ROUTED_MODULES: Final[tuple[str, ...]] = (
    BOOKINGS,
    ModuleID.CDRS.value,
    CHARGING_PROFILES,
    ModuleID.COMMANDS.value,
    ModuleID.DISPUTES.value,
    INVOICE_RECONCILIATION,
    ModuleID.LOCATIONS.value,
    PAYMENTS,
    ModuleID.SESSIONS.value,
    ModuleID.TARIFFS.value,
    ModuleID.TOKENS.value,
)
"""Charging preferences are a path of the sessions module."""

PUSHED_TO_ALL: Final[dict[Role, dict[str, frozenset[Role]]]] = {
    Role.CPO: {
        ModuleID.LOCATIONS.value: frozenset({Role.EMSP, Role.NSP, Role.OTHER, Role.NAP}),
        ModuleID.TARIFFS.value: frozenset({Role.EMSP, Role.NSP, Role.OTHER, Role.NAP}),
    },
    Role.EMSP: {ModuleID.TOKENS.value: frozenset({Role.CPO})},
    Role.OTHER: {
        ModuleID.LOCATIONS.value: frozenset({Role.CPO}),
        ModuleID.TARIFFS.value: frozenset({Role.CPO}),
        ModuleID.TOKENS.value: frozenset({Role.CPO}),
    },
}
"""Role of the sender → module → roles that a broadcast of it reaches; what is not here concerns one party alone."""
