"""A message at the hub: as it came in, and as it goes on to one receiver."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from emobility.domain.identifiers import PartyId
from emobility.protocols.ocpi.bridging import Loss
from emobility.protocols.ocpi.headers import Routing, routing_headers
from emobility.protocols.ocpi.peers import Peer, PeerRole
from emobility.protocols.ocpi.server import MessageIds
from emobility.protocols.ocpi.signing import SignedCall
from emobility.protocols.ocpi.v221 import InterfaceRole


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """An authenticated request at one of the hub's module endpoints or stand-in URLs.

    Attributes:
        sender: The platform that calls, by its token.
        roles: The roles it plays.
        version: The OCPI version in the path.
        url: As it was called: path and query below the hub's origin, in the spelling of the caller.
        module: Of a stand-in URL: the module of the message in which the hub put it.
        side: The interface that is called; None for a stand-in URL.
        rest: The path below the endpoint, as it was written.
        query: Without the question mark, as it was written.
        headers: By lower-case name; without the credentials token.
        body: The exact bytes.
        signed: The sender's signature, if there is one.
    """

    ids: MessageIds
    sender: Peer
    roles: tuple[PeerRole, ...]
    routing: Routing
    version: str
    method: str
    url: str
    module: str
    side: InterfaceRole | None
    rest: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    signed: SignedCall | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What goes on to one receiver; steps on its way may replace `url`, `body` and `headers`.

    Attributes:
        message_id: The X-Request-ID that the receiver sees; new for each receiver.
        sender_party: In whose name the sender called.
        from_party: Whom the receiver sees as the sender: the hub where it asks or pushes in its own name.
        headers: Sent along with what the hub itself sends.
        stand_in_callback: URL of the hub in the place of a `response_url`.
        losses: What the body lost where the receiver speaks another version.
    """

    message_id: str
    incoming: Incoming
    sender_party: PartyId
    from_party: PartyId
    receiver: Peer
    receiver_party: PartyId
    url: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    stand_in_callback: str | None = None
    losses: tuple[Loss, ...] = ()

    @property
    def ids(self) -> MessageIds:
        """The ids of the request that came in."""
        return self.incoming.ids

    @property
    def method(self) -> str:
        """The HTTP method."""
        return self.incoming.method

    @property
    def module(self) -> str:
        """The module's identifier."""
        return self.incoming.module

    def answer_headers(self) -> dict[str, str]:
        """4.3.1: an answer goes to the requester, from the receiver."""
        return routing_headers(Routing(to_party=self.sender_party, from_party=self.receiver_party))
