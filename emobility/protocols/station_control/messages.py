"""What gateway and back office say to each other, as JSON over HTTP with the internal bearer token.

Upwards: POST {operations}/station_control/authorize with an `AuthorizationRequest`, answered by an
`AuthorizationAnswer` (both in `ports/authorizer`), and .../charging-advice with a `ChargingQuestion`, answered by a
`ChargingAdvice` (`ports/station_questions`). Downwards: POST {gateway}/stations/{party}/{station}/commands with
a `StationCommand`, answered by a `CommandOutcome`; PUT {gateway}/stations/{party}/{station}/credential with a
`StationCredential`, GET there, POST .../credential/rotate; POST {gateway}/stations/{party}/{station}/certificates with
a `CertificateRequest`, GET there, POST
.../certificates/{serial_number}/revoke. The gateway that owns a station is found in the station's presence row.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class StartTransaction:
    """Start charging at an EVSE for a token (1.6 RemoteStartTransaction, 2.0.1 RequestStartTransaction)."""

    id_token: str
    ocpp_evse_id: int
    connector_id: int
    remote_start_id: int
    charging_profile: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StopTransaction:
    """Stop a running transaction (1.6 RemoteStopTransaction, 2.0.1 RequestStopTransaction)."""

    transaction_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetChargingProfile:
    """Install a charging profile; `profile` is in the words of the station's own OCPP version."""

    ocpp_evse_id: int
    profile: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerMessage:
    """Ask the station to send a message now."""

    requested_message: str
    ocpp_evse_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset:
    """Restart the station: at once, or when idle (1.6: Hard, Soft)."""

    is_immediate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SetVariable:
    """Change a setting: 1.6 ChangeConfiguration(variable, value), 2.0.1 SetVariables(component, variable, value)."""

    variable: str
    value: str
    component: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OCPPCall:
    """Any CALL of the station's own OCPP version, in its words; `payload` is checked against its schema."""

    action: str
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class StationCommand:
    """One command; exactly one of the fields after `timeout_s` is given."""

    correlation_id: str
    timeout_s: int = 30
    start_transaction: StartTransaction | None = None
    stop_transaction: StopTransaction | None = None
    set_charging_profile: SetChargingProfile | None = None
    trigger_message: TriggerMessage | None = None
    reset: Reset | None = None
    set_variable: SetVariable | None = None
    ocpp_call: OCPPCall | None = None


class CommandResult(StrEnum):
    """What became of a command."""

    ACCEPTED = "ACCEPTED"
    REJECTED = "REJECTED"
    NOT_SUPPORTED = "NOT_SUPPORTED"
    MALFORMED = "MALFORMED"
    """The payload breaks the schema of the station's version; nothing was sent."""
    TIMED_OUT = "TIMED_OUT"
    STATION_OFFLINE = "STATION_OFFLINE"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandOutcome:
    """The station's answer; `station_status` is its own word, `answer` its whole CALLRESULT to an `OCPPCall`."""

    result: CommandResult
    station_status: str | None = None
    transaction_id: str | None = None
    answer: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StationCredential:
    """How a station proves itself. Its password is machine-made, at least 128 bits; the gateway keeps a keyed hash."""

    password: str | None = None
    """None keeps the one it has; a station that comes by its certificate needs none."""
    ocpp_version: str | None = None
    """`1.6`, `2.0.1` or `2.1` when the station may speak only that one; without a password, None keeps what it is."""
    security_profile: int | None = None
    """The lowest OCPP security profile (1 to 3) it may come by; None keeps it. Coming by more raises it."""


class RotationState(StrEnum):
    """Where the change of a station's password stands."""

    CONFIRMED = "CONFIRMED"
    """The station took it; it counts alone once the station comes by it, or after `old_good_until`."""
    REFUSED = "REFUSED"
    UNCONFIRMED = "UNCONFIRMED"
    """Nobody knows whether the station took it: the old one and the new one are good until it comes by the new one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialRotation:
    """What became of a change of a station's password; `station_status` is the station's own word."""

    state: RotationState
    asked_at: datetime
    station_status: str | None = None
    old_good_until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StationCredentialState:
    """How a station proves itself, without any secret; `rotation` while a change of its password is under way."""

    has_password: bool
    ocpp_version: str | None
    security_profile: int
    rotation: CredentialRotation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateEnding:
    """A certificate that ends soon, or has ended: a station's, or one of the gateway's own files, by its `kind`."""

    kind: str
    not_after: datetime
    charging_station_id: str | None = None
    serial_number: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRequest:
    """A station's CSR (PEM), brought by its operator instead of SignCertificate."""

    csr: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StationCertificate:
    """A certificate that the gateway's own CA issued; `fingerprint` is SHA-256 of its DER, in hex."""

    serial_number: str
    fingerprint: str
    issued_at: datetime
    not_after: datetime
    revoked_at: datetime | None = None
    certificate_chain: str | None = None
    """PEM, when it is issued; it is not kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StationPresence:
    """Who owns a station's connection."""

    charging_station_id: str
    is_online: bool
    gateway_url: str
    ocpp_version: str
    connected_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageLogging:
    """Keep what is said with a station until a moment; heartbeats only if asked for."""

    until: datetime
    has_heartbeats: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StationMessage:
    """A CALL or SEND, redacted, and what became of it: an answer, an error code (`TimedOut` is ours), or neither.

    `payload` and `answer` are JSON texts; None where there was none or it was too long. `latency_ms`: until the answer.
    """

    at: datetime
    is_from_station: bool
    ocpp_version: str
    action: str
    message_id: str
    payload: str | None
    answer: str | None
    error_code: str | None
    latency_ms: int
    tolerated: tuple[str, ...] = ()
    """What of the station's message a quirk profile tolerated; `payload` is as it came."""
