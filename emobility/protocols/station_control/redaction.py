"""OCPP payloads without persons and secrets, for people to look at: names and numbers stay, such texts are masked."""

from __future__ import annotations

import re
from typing import Any, Final

from emobility.domain.device_model import Mutability, is_secret

PERSONAL: Final = frozenset(
    {
        *("idTag", "parentIdTag", "idToken", "additionalIdToken", "idTokens", "pspRef"),
        *("data", "exiRequest", "exiResponse", "certificate", "csr", "signedMeterData"),
        *("vatNumber", "name", "address1", "address2", "city", "postalCode", "receiptUrl"),
        *("customerIdentifier", "evInverterSerialNumber", "apnUserName"),
    }
)
"""Properties whose texts may name a person, or are of no use to people."""
MASK: Final = "***"
_USER_OF_URL: Final = re.compile(r"(?<=://)[^/?#\s]*@")
_VALUES: Final = frozenset({"value", "attributeValue", "actualValue"})
_SIGNED_DATA: Final = "SignedData"
"""The format of a sampled value of 1.6 that is a meter's signed record: it may name the driver."""
_VPN: Final = frozenset({"key", "user"})
_NOTHING: Final[frozenset[str]] = frozenset()


def redacted(value: Any) -> Any:
    """Return a JSON value with every text under a `PERSONAL` name masked, at any depth, and every secret.

    Secrets are passwords, values of secret variables, and users in URLs.
    """
    return _redacted(value, "", _NOTHING)


def _redacted(value: Any, name: str, hidden: frozenset[str]) -> Any:
    if isinstance(value, dict):
        hidden = _VPN if name == "vpn" else hidden | _hidden_in(value)
        # The names of components and variables are no persons'.
        kept = {"name"} if name in {"component", "variable"} else _NOTHING
        return {key: each if key in kept else _redacted(each, key, hidden) for key, each in value.items()}
    if isinstance(value, list):
        return [_redacted(each, name, hidden) for each in value]
    if not isinstance(value, str) or not value:
        return value
    if name in PERSONAL or name in hidden or is_secret(name):
        return MASK
    return _USER_OF_URL.sub(f"{MASK}@", value)


def _hidden_in(value: dict[str, Any]) -> frozenset[str]:
    """Return under which names a variable's value is secret here: 2.x names it in `variable`, 1.6 in `key`."""
    variable = value.get("variable")
    named = variable.get("name") if isinstance(variable, dict) else value.get("key")
    is_secretly_named = isinstance(named, str) and is_secret(named)
    is_signed = value.get("format") == _SIGNED_DATA
    is_hidden = is_secretly_named or is_signed or value.get("mutability") == Mutability.WRITE_ONLY
    return _VALUES if is_hidden else _NOTHING
