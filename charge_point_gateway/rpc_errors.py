"""The error codes of a CALLERROR, in the spelling of each version.

OCPP-J 1.6, table 7 (the errata keep `FormationViolation` and `OccurenceConstraintViolation` for ever);
OCPP 2.0.1 part 4, table 8, keeps the second and adds RpcFrameworkError, MessageTypeNotSupported and FormatViolation;
OCPP 2.1 part 4 spells the second right.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from emobility.domain.errors import MalformedInput


class OCPPVersion(StrEnum):
    """The versions this gateway speaks; the value is the one of presence rows and events."""

    V16 = "1.6"
    V201 = "2.0.1"
    V21 = "2.1"

    @property
    def subprotocol(self) -> str:
        """The WebSocket subprotocol (OCPP-J 3.1.2; IANA registry)."""
        return f"ocpp{self.value}"


SUBPROTOCOLS: Final = {version.subprotocol: version for version in OCPPVersion}


class RPCError(StrEnum):
    """What may be wrong with a CALL, whatever a version calls it."""

    NOT_A_CALL = "RpcFrameworkError"
    MESSAGE_TYPE_NOT_SUPPORTED = "MessageTypeNotSupported"
    FORMAT = "FormatViolation"
    OCCURRENCE = "OccurenceConstraintViolation"
    PROPERTY = "PropertyConstraintViolation"
    TYPE = "TypeConstraintViolation"
    UNKNOWN_ACTION = "NotImplemented"
    UNSUPPORTED_ACTION = "NotSupported"
    INTERNAL = "InternalError"
    GENERIC = "GenericError"
    SECURITY = "SecurityError"


_SPELLINGS: Final[dict[OCPPVersion, dict[RPCError, str]]] = {
    OCPPVersion.V16: {RPCError.NOT_A_CALL: "FormationViolation", RPCError.FORMAT: "FormationViolation"},
    OCPPVersion.V201: {},
    OCPPVersion.V21: {RPCError.OCCURRENCE: "OccurrenceConstraintViolation"},
}


def wire_code(error: RPCError, version: OCPPVersion) -> str:
    """Return the code as `version` spells it."""
    return _SPELLINGS[version].get(error, error.value)


@dataclass(frozen=True, slots=True)
class CallRefused(MalformedInput):
    """A CALL breaks a rule of its version; answered by a CALLERROR, the connection lives."""

    error: RPCError
    description: str
    """For people; never repeats what the station sent, for that may name a person."""

    def __str__(self) -> str:
        return f"{self.error.value}: {self.description}"
