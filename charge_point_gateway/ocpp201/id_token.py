"""OCPP 2.0.1 IdTokenType: what a driver identified with."""

from __future__ import annotations

from typing import Any, Final

from emobility.events.charging import IdTokenKind

NO_AUTHORIZATION: Final = "NoAuthorization"
_KINDS: Final = {
    "Central": IdTokenKind.APP,
    "eMAID": IdTokenKind.PLUG_AND_CHARGE,
    NO_AUTHORIZATION: IdTokenKind.NONE,
}
"""Every other IdTokenEnumType is presented at the station itself, as a card is."""


def presented(payload: dict[str, Any]) -> dict[str, Any] | None:
    """Return what a driver identified with; None where nobody has to (C02: a start button, a key)."""
    id_token: dict[str, Any] | None = payload.get("idToken")
    return None if id_token is None or id_token["type"] == NO_AUTHORIZATION else id_token


def kind_of(id_token: dict[str, Any]) -> IdTokenKind:
    """Return how the driver identified. Central: a token the CSMS itself gave in RequestStartTransaction."""
    return _KINDS.get(id_token["type"], IdTokenKind.RFID)
