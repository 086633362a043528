"""The gateway's question to the CPO's back office: may this driver charge here, now?"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from emobility.domain.errors import Unavailable
from emobility.domain.identifiers import PartyId
from emobility.events.charging import IdTokenKind


class AuthorizerUnavailable(Unavailable):
    """The back office did not answer in time."""


class AuthorizationStatus(StrEnum):
    """The union of OCPP 1.6 and 2.0.1 authorisation statuses that the back office uses."""

    ACCEPTED = "Accepted"
    BLOCKED = "Blocked"
    EXPIRED = "Expired"
    INVALID = "Invalid"
    UNKNOWN = "Unknown"
    CONCURRENT_TX = "ConcurrentTx"
    NO_CREDIT = "NoCredit"
    NOT_AT_THIS_LOCATION = "NotAtThisLocation"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationRequest:
    """A driver presented `id_token` at a station. `transaction_id` is given once one is open.

    `is_offline`: the station decided by itself while it was not connected and reports it now.
    `is_stop`: the token is to end the transaction. `began_at`: when a start happened, by the station's clock; it may be
    told days later. `ocpp_version`: of the station, where the answer depends on it.
    """

    party_id: PartyId
    charging_station_id: str
    id_token: str
    kind: IdTokenKind
    correlation_id: str
    ocpp_evse_id: int | None = None
    connector_id: int | None = None
    transaction_id: str | None = None
    remote_start_id: int | None = None
    is_offline: bool = False
    is_stop: bool = False
    began_at: datetime | None = None
    ocpp_version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationAnswer:
    """The decision. `may_cache`: whether the station may keep it (never for whitelist NEVER).

    `group_id`: what stations know the token's group by, 20 characters at most.
    """

    status: AuthorizationStatus
    reason: str
    may_cache: bool = False
    group_id: str | None = None


class Authorizer(Protocol):
    """Asks the back office."""

    async def authorize(self, request: AuthorizationRequest) -> AuthorizationAnswer:
        """Return the decision. Raises `AuthorizerUnavailable`."""
