"""Rows of the hub: the state of each party, resources it stands in front of, and its log of CDRs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from emobility.domain.identifiers import PartyId, Role
from emobility.ports.stores import TableSpec
from emobility.protocols.ocpi.bridging import Loss
from emobility.protocols.ocpi.v221 import ConnectionStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class HubClient:
    """A party as the others see it through hubclientinfo."""

    party_id: PartyId
    role: Role
    status: ConnectionStatus
    last_updated: datetime


class ResourceKind(StrEnum):
    """What stands behind a URL of the hub."""

    PAGE = "PAGE"
    """The next page of a list."""
    OBJECT = "OBJECT"
    """An object a receiver created (`Location` of POST cdrs)."""
    LISTING = "LISTING"
    """The next page of all parties' objects; `url` holds how far the list was read."""
    CALLBACK = "CALLBACK"
    """A requester's `response_url`; delivered once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxiedResource:
    """A URL of one platform that another may use through the hub.

    Attributes:
        resource_id: Nobody can guess it.
        user_peer_id: The only platform that may use it.
        user_party: In whose name.
        owner_peer_id: The platform behind it.
        owner_party: The party there.
        module: Of the message in which the URL came; empty where that was not kept.
        used_at: When a CALLBACK was delivered.
    """

    resource_id: str
    kind: ResourceKind
    user_peer_id: str
    user_party: PartyId
    owner_peer_id: str
    owner_party: PartyId
    url: str
    made_at: datetime
    module: str = ""
    used_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeLoss:
    """What one body lost between two versions of OCPI.

    Attributes:
        from_party: Who said it, so that its owner can be asked for what `body_sha256` names.
        body_sha256: Of the body as it came in.
        losses: Where and why; hashes of what was lost, never the values.
    """

    loss_id: str
    correlation_id: str
    from_party: PartyId
    to_party: PartyId
    module: str
    method: str
    is_answer: bool
    from_version: str
    to_version: str
    body_sha256: str
    concerns_money: bool
    losses: tuple[Loss, ...]
    at: datetime


class ForwardOutcome(StrEnum):
    """What became of a CDR at the hub."""

    FORWARDING = "FORWARDING"
    DELIVERED = "DELIVERED"
    REFUSED = "REFUSED"
    UNDELIVERED = "UNDELIVERED"


@dataclass(frozen=True, slots=True, kw_only=True)
class CDRForward:
    """That a CDR with these exact bytes passed the hub; the document itself is not kept.

    `body_sha256` is over the body as it was forwarded. A repetition of the same bytes raises `attempts`.
    """

    from_party: PartyId
    to_party: PartyId
    cdr_id: str
    body_sha256: str
    outcome: ForwardOutcome
    status_code: int | None
    attempts: int
    correlation_id: str
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRecord:
    """That a message went from one party to another through the hub; durable before its sender is answered.

    Attributes:
        message_id: The X-Request-ID that the receiver saw.
        body_sha256: Over the body as it was sent, hex; empty without one.
        status_code: The receiver's OCPI status code, or the hub's 4xxx where it got none.
    """

    message_id: str
    correlation_id: str
    from_party: PartyId
    to_party: PartyId
    module: str
    method: str
    body_sha256: str
    status_code: int
    at: datetime


HUB_CLIENT: Final = TableSpec(name="hub_client", record=HubClient, key=("party_id", "role"))
PROXIED_RESOURCE: Final = TableSpec(name="hub_proxied_resource", record=ProxiedResource, key=("resource_id",))
CDR_FORWARD: Final = TableSpec(
    name="hub_forward", record=CDRForward, key=("from_party", "to_party", "cdr_id", "body_sha256")
)
BRIDGE_LOSS: Final = TableSpec(name="hub_bridge_loss", record=BridgeLoss, key=("loss_id",))
HUB_MESSAGE: Final = TableSpec(name="hub_message", record=MessageRecord, key=("message_id",))
