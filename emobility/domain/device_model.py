"""What a station is made of, as it describes itself: components with variables, and monitors that watch these.

The model is OCPP 2.0.1's (part 1, 4); 1.6 has configuration keys, which are variables too. A variable that may hold a
secret keeps everything but its value.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

SECRET_MARKS: Final = (
    *("password", "passwd", "passphrase", "secret", "credential"),
    *("authorizationkey", "privatekey", "presharedkey", "masterkey", "vpnkey", "wifikey", "apikey", "simpin"),
)
"""A variable whose name holds one of these, whatever its case, is taken to be a secret.

Of the standard: AuthorizationKey (1.6), BasicAuthPassword (2.0.1), ApnPassword, VpnKey, SharedSecret (2.1).
"""


PERSONAL_VARIABLES: Final = frozenset({"token", "vehicleid", "vehiclecertificates", "vehiclecertificate"})
"""Token of a TokenReader (2.0.1, appendix 3): what a driver showed it last; of a ConnectedEV: whose vehicle it is."""


class AttributeType(StrEnum):
    """What a value of a variable is (2.0.1, AttributeEnumType)."""

    ACTUAL = "Actual"
    TARGET = "Target"
    MIN_SET = "MinSet"
    MAX_SET = "MaxSet"


class Mutability(StrEnum):
    """What may be done with a value (2.0.1, MutabilityEnumType)."""

    READ_ONLY = "ReadOnly"
    WRITE_ONLY = "WriteOnly"
    READ_WRITE = "ReadWrite"


@dataclass(frozen=True, slots=True, kw_only=True)
class VariableAddress:
    """Where a variable is: at the station (EVSE 0), an EVSE (connector 0) or a connector. No instance: empty."""

    component: str
    variable: str
    component_instance: str = ""
    variable_instance: str = ""
    evse_id: int = 0
    connector_id: int = 0


class Addressed:
    """What has the fields of an address among its own."""

    __slots__ = ()
    component: str
    variable: str
    component_instance: str
    variable_instance: str
    evse_id: int
    connector_id: int

    @property
    def address(self) -> VariableAddress:
        """Where the variable is."""
        return VariableAddress(
            component=self.component,
            variable=self.variable,
            component_instance=self.component_instance,
            variable_instance=self.variable_instance,
            evse_id=self.evse_id,
            connector_id=self.connector_id,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class VariableAttribute:
    """A value of a variable. None: the station told none, or it is secret (`is_secret`) and is not kept."""

    type: AttributeType = AttributeType.ACTUAL
    value: str | None = None
    mutability: Mutability = Mutability.READ_WRITE
    is_persistent: bool = False
    is_constant: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VariableCharacteristics:
    """What values a variable may take, in the words of the standard (VariableCharacteristicsType)."""

    data_type: str
    supports_monitoring: bool
    unit: str | None = None
    min_limit: Decimal | None = None
    max_limit: Decimal | None = None
    max_elements: int | None = None
    values_list: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StationVariable:
    """A variable with its values. `configuration_key`: what OCPP 1.6 calls it, where a 1.6 station told it."""

    address: VariableAddress
    attributes: tuple[VariableAttribute, ...]
    characteristics: VariableCharacteristics | None = None
    configuration_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VariableMonitor:
    """A monitor of a variable (2.0.1, VariableMonitoringType); `severity` 0 (danger) to 9 (debug)."""

    monitor_id: int
    address: VariableAddress
    type: str
    value: Decimal
    severity: int
    is_in_transactions_only: bool
    notification_type: str | None = None


def is_secret(variable: str, mutability: Mutability | None = None) -> bool:
    """Tell whether a value must be kept nowhere; names of variables have no case in OCPP 2.0.1."""
    name = variable.casefold().replace("_", "").replace("-", "")
    is_named = name in PERSONAL_VARIABLES or any(mark in name for mark in SECRET_MARKS)
    return is_named or mutability is Mutability.WRITE_ONLY


def merged(known: tuple[VariableAttribute, ...], told: tuple[VariableAttribute, ...]) -> tuple[VariableAttribute, ...]:
    """Return the attributes known with those told in their place: one of each type, in the standard's order."""
    by_type = {each.type: each for each in (*known, *told)}
    return tuple(by_type[each] for each in AttributeType if each in by_type)
