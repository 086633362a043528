"""What every OCPP message is to this gateway: a pure step from a validated payload to events and a response.

A message does no I/O. What it needs of the world is asked for first - which texts to seal, which question to put to the
back office, whether a transaction number is due - and handed to it with the payload.
"""

# ruff: noqa: ARG002 - every message is asked with the same arguments

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import MINYEAR, UTC, datetime
from hashlib import sha256
from typing import Any, ClassVar, Final

import msgspec

from charge_point_gateway.admission import BOOT_ACCEPTED, BootDecision
from charge_point_gateway.inquiries import Finding, Inquiry
from charge_point_gateway.rpc_errors import CallRefused, RPCError
from emobility.domain.identifiers import PartyId
from emobility.domain.personal import Sealed
from emobility.events.charging import IdTokenKind
from emobility.events.event import Event
from emobility.ports.authorizer import AuthorizationAnswer, AuthorizationStatus
from emobility.ports.station_questions import StationAnswer, StationQuestion

WHOLE_NUMBER_MAX: Final = 2**53 - 1
"""Largest whole number every JSON reader agrees on (RFC 8259, section 6)."""
_WHOLE_NUMBER_MIN: Final = -WHOLE_NUMBER_MAX
_CANONICAL: Final = msgspec.json.Encoder(order="sorted", decimal_format="number")


@dataclass(frozen=True, slots=True)
class PersonalText:
    """A text to seal; `identifier` names the person, or the transaction, under whose key it goes."""

    text: str
    identifier: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What to ask the back office before the response."""

    id_token: str
    kind: IdTokenKind
    ocpp_evse_id: int | None = None
    connector_id: int | None = None
    transaction_id: str | None = None
    remote_start_id: int | None = None
    is_stop: bool = False
    began_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberWanted:
    """A 1.6 StartTransaction asks for a transaction id: the same for the same content, however often it comes."""

    content_key: str
    id_token: str
    ocpp_evse_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionNumber:
    """The id given, and the remote start the transaction answers, if it answers one."""

    number: int
    remote_start_id: int | None = None


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What a message is told beside its payload (a struct: one is made for every message)."""

    party_id: PartyId
    charging_station_id: str
    now: datetime
    message_id: str
    ocpp_version: str
    station_key: str
    """Party and station: the first part of every event id."""
    heartbeat_interval_s: int = 300
    sealed: Mapping[PersonalText, Sealed] = msgspec.field(default_factory=dict)
    number: TransactionNumber | None = None
    is_number_given: bool = True
    """Whether the number that the message names was given to this station."""
    answer: AuthorizationAnswer | None = None
    certificate_chain: str | None = None
    """What a CA of ours made of the CSR, in PEM."""
    told: StationAnswer | None = None
    """The answer to the message's `station_question`; None: the back office was not asked, or did not answer."""
    correction: str | None = None
    """What a quirk profile changed in the meaning of the readings."""
    finding: Finding | None = None
    """What was found out about certificates."""
    boot: BootDecision = BOOT_ACCEPTED
    """Whether there is room for a station that boots."""


class Fact(msgspec.Struct, frozen=True):
    """An event and the idempotency key under which it is one fact however often it is reported."""

    event_id: str
    event: Event


class Message:
    """One action a station may call. Subclasses say only what differs from an empty acknowledgement."""

    action: ClassVar[str]

    def identifiers(self, payload: dict[str, Any]) -> tuple[str, ...]:
        """Return the texts that become keys of ours; one with a control character refuses the message."""
        return ()

    def subject_text(self, payload: dict[str, Any]) -> str | None:
        """Return the driver's identifier in the payload, if it is part of the content key."""
        return None

    def personal(self, payload: dict[str, Any], context: Context) -> tuple[PersonalText, ...]:
        """Return the texts that must be sealed before events are made."""
        return ()

    def question(self, payload: dict[str, Any], context: Context) -> Question | None:
        """Return what the back office has to decide before the response."""
        return None

    def station_question(self, payload: dict[str, Any], context: Context) -> StationQuestion | None:
        """Return what else the back office is asked before the response; a message with one has personal texts."""
        return None

    def inquiry(self, payload: dict[str, Any]) -> Inquiry | None:
        """Return what has to be found out about certificates before question and response."""
        return None

    def request_to_sign(self, payload: dict[str, Any]) -> str | None:
        """Return the CSR, in PEM, that a CA of ours is asked to sign before the response."""
        return None

    def number_wanted(self, payload: dict[str, Any], subject: str, context: Context) -> NumberWanted | None:
        """Return the request for a transaction number; `subject` is the keyed hash of `subject_text`."""
        return None

    def number_named(self, payload: dict[str, Any]) -> int | None:
        """Return the transaction number that a message says it belongs to, if it can be one of ours."""
        return None

    def facts(self, payload: dict[str, Any], context: Context) -> tuple[Fact, ...]:
        """Return the events of the message. Raises `CallRefused` when a value can't be read as its type says."""
        return ()

    def response(self, payload: dict[str, Any], context: Context) -> dict[str, Any]:
        """Return the payload of the CALLRESULT."""
        return {}

    def call_back(self, payload: dict[str, Any], context: Context) -> tuple[str, dict[str, Any]] | None:
        """Return action and payload of a CALL of ours that the station expects once it has the response."""
        return None


def moment(text: str) -> datetime:
    """Read an RFC 3339 date-time (its form is checked already) as UTC.

    A leap second counts as the second before it. One that only its offset puts outside the calendar is the calendar's
    edge: a station without a clock says 0001-01-01 in its own time. Raises `CallRefused` for a year or offset no
    calendar has.
    """
    try:
        local = datetime.fromisoformat(text)
    except ValueError:
        try:
            local = datetime.fromisoformat(text.upper().replace(":60", ":59"))
        except ValueError as error:
            raise CallRefused(RPCError.PROPERTY, "a timestamp is outside the calendar") from error
    try:
        return local.astimezone(UTC)
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC) if local.year == MINYEAR else datetime.max.replace(tzinfo=UTC)


def whole(value: Any) -> int:
    """Return a JSON integer as int: schemas also let 3.0 and 10^30 pass. Raises `CallRefused`."""
    if type(value) is not int:
        value = int(value) if abs(value) <= WHOLE_NUMBER_MAX else WHOLE_NUMBER_MAX + 1
    if not _WHOLE_NUMBER_MIN <= value <= WHOLE_NUMBER_MAX:
        raise CallRefused(RPCError.PROPERTY, "a whole number is out of range")
    number: int = value
    return number


def optional_whole(value: Any) -> int | None:
    """Return `whole(value)`, or None for an absent one."""
    return None if value is None else whole(value)


def content_key(*parts: Any) -> str:
    """Return a hash of what a message says, whatever its UniqueId: the idempotency key of OCPP 1.6."""
    return sha256(_CANONICAL.encode(parts)).hexdigest()[:40]


def canonical_text(value: Any) -> str:
    """Return a JSON value as text, keys sorted, every name and number as it came."""
    return _CANONICAL.encode(value).decode()


def rfc3339(at: datetime) -> str:
    """Write a moment in UTC with milliseconds, as OCPP 2.0.1 part 2, 2.1.4 wants at most."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def boot_answer(context: Context) -> dict[str, Any]:
    """Write the answer to a BootNotification, the same in every version.

    `interval`: between heartbeats; of a boot that is not accepted, until the next one.
    """
    interval_s = context.heartbeat_interval_s if context.boot.interval_s is None else context.boot.interval_s
    return {"status": context.boot.status.value, "currentTime": rfc3339(context.now), "interval": interval_s}


_V16_STATUS: Final = {
    AuthorizationStatus.ACCEPTED: "Accepted",
    AuthorizationStatus.BLOCKED: "Blocked",
    AuthorizationStatus.EXPIRED: "Expired",
    AuthorizationStatus.CONCURRENT_TX: "ConcurrentTx",
}
_TRUE_NOW: Final = frozenset({AuthorizationStatus.ACCEPTED, AuthorizationStatus.CONCURRENT_TX})
"""Statuses that may be others a moment later."""


def id_tag_info(answer: AuthorizationAnswer, *, now: datetime) -> dict[str, Any]:
    """Write a decision as OCPP 1.6 IdTagInfo; what 1.6 has no word for is Invalid.

    An answer that may not be kept expires at once: 1.6 stations cache every IdTagInfo (1.6, 4.1 and 7.x), and the
    expiry date is the only way to keep them from deciding by it later.
    """
    info: dict[str, Any] = {"status": _V16_STATUS.get(answer.status, "Invalid")}
    if answer.group_id is not None:
        info["parentIdTag"] = answer.group_id[:20]
    if answer.status in _TRUE_NOW and not answer.may_cache:
        info["expiryDate"] = rfc3339(now)
    return info


def id_token_info(answer: AuthorizationAnswer, *, now: datetime) -> dict[str, Any]:
    """Write a decision as OCPP 2.0.1 IdTokenInfoType, with the same rule for answers that may not be kept."""
    info: dict[str, Any] = {"status": answer.status.value}
    if answer.group_id is not None:
        info["groupIdToken"] = {"idToken": answer.group_id[:36], "type": "Central"}
    if answer.status in _TRUE_NOW and not answer.may_cache:
        info["cacheExpiryDateTime"] = rfc3339(now)
    return info
