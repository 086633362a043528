"""OCPP 2.0.1 IdTokenType: what a driver identified with."""

from __future__ import annotations

from typing import Any, Final

from emobility.events.charging import IdTokenKind

_KINDS: Final = {
    "Central": IdTokenKind.APP,
    "eMAID": IdTokenKind.PLUG_AND_CHARGE,
    "NoAuthorization": IdTokenKind.NONE,
}
"""Every other IdTokenEnumType is presented at the station itself, as a card is."""


def kind_of(id_token: dict[str, Any]) -> IdTokenKind:
    """Return how the driver identified. Central: a token the CSMS itself gave in RequestStartTransaction."""
    return _KINDS.get(id_token["type"], IdTokenKind.RFID)
