"""Who we are registered with: platforms, their roles and endpoints, and the credentials tokens in both directions.

Everything is scoped by our own party. Tokens that peers present are stored as a hash only; tokens that we present are
sealed by the vault. `ocpi_peer_role` holds each (own party, party, role) once, so two platforms can't claim the same.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from emobility.domain.errors import RuleBroken
from emobility.domain.identifiers import PartyId, Role
from emobility.domain.personal import Sealed
from emobility.ports.clock import Randomness
from emobility.ports.http import HttpClient
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from emobility.ports.vault import Vault
from emobility.protocols.ocpi import v211
from emobility.protocols.ocpi.client import OCPIClient
from emobility.protocols.ocpi.v221 import InterfaceRole
from emobility.protocols.ocpi.versions import NATIVE, OFFERED, SPOKEN

TOKEN_BYTES: Final = 32
_HASH_DOMAIN: Final = b"wattroam ocpi credentials token\0"


class NoRoute(RuleBroken):
    """No registered platform plays a role for this party, and no hub is registered either."""

    def __init__(self, *, own_party: PartyId, to_party: PartyId | None) -> None:
        self.own_party = own_party
        self.to_party = to_party
        super().__init__(f"{own_party} has no connection to {to_party or 'its hub'}")


class PeerState(StrEnum):
    """Life of a registration."""

    INVITED = "INVITED"
    """We issued TOKEN_A and wait for the peer's POST."""
    REGISTERING = "REGISTERING"
    """We are posting our credentials; the peer may fetch our versions with TOKEN_B."""
    REGISTERED = "REGISTERED"
    UNREGISTERED = "UNREGISTERED"
    SUSPENDED = "SUSPENDED"


class TokenUse(StrEnum):
    """What a token that a peer presents is good for."""

    REGISTRATION = "REGISTRATION"
    """TOKEN_A: versions and credentials only, once."""
    REQUESTS = "REQUESTS"


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerEndpoint:
    """Where the peer serves one side of a module."""

    module: str
    role: InterfaceRole
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerTolerances:
    """What a platform does otherwise than the text, or may do beyond it; each is refused unless its operator asked.

    Attributes:
        accepts_plain_token: It presents its token without base64.
        sends_plain_token: It takes ours only without base64; 2.1.1 never encodes.
        lacks_routing_headers: It sends no OCPI-from; a platform with one party speaks for that one.
        posts_again: Its POST of credentials, registered already, is taken as the PUT it should be (else HTTP 405).
        speaks_2_1_1: It is offered OCPI 2.1.1 beside the newer versions.
        appends_to_endpoints: It puts a path right behind our endpoints, which are listed with a last slash for it.
        lists_single_objects: It answers a list of one where the text wants the object.
    """

    accepts_plain_token: bool = False
    sends_plain_token: bool = False
    lacks_routing_headers: bool = False
    posts_again: bool = False
    speaks_2_1_1: bool = False
    appends_to_endpoints: bool = False
    lists_single_objects: bool = False


STRICT: Final = PeerTolerances()


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A platform as one of our parties knows it.

    Attributes:
        peer_id: Our name for the platform.
        origin: Scheme, host and port that the operator registered; nothing else of the peer's is called.
        expected_party: If given, the only party the platform may register as.
        expected_role: If given, the only role it may register in.
        outgoing_token: The token we present, sealed.
        version: The version of OCPI that is spoken with it.
    """

    own_party: PartyId
    peer_id: str
    state: PeerState
    origin: str
    versions_url: str
    endpoints: tuple[PeerEndpoint, ...]
    outgoing_token: Sealed | None
    last_updated: datetime
    expected_party: PartyId | None = None
    expected_role: Role | None = None
    version: str = NATIVE
    tolerances: PeerTolerances = STRICT

    @property
    def versions(self) -> tuple[str, ...]:
        """The versions that may be spoken with it, oldest first."""
        return SPOKEN if self.tolerances.speaks_2_1_1 else OFFERED

    @property
    def takes_plain_token(self) -> bool:
        """Whether our token goes to it without base64."""
        return self.tolerances.sends_plain_token or self.version == v211.VERSION

    def endpoint_urls(self) -> Mapping[tuple[str, InterfaceRole], str]:
        """Return (module, role) → URL."""
        return {(each.module, each.role): each.url for each in self.endpoints}


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerRole:
    """A role that a platform plays for a party."""

    own_party: PartyId
    party_id: PartyId
    role: Role
    peer_id: str
    business_name: str
    last_updated: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingToken:
    """A token that a peer presents to us, by its hash."""

    token_hash: str
    own_party: PartyId
    peer_id: str
    token_use: TokenUse


PEER: Final = TableSpec(name="ocpi_peer", record=Peer, key=("own_party", "peer_id"), is_reference=True)
PEER_ROLE: Final = TableSpec(
    name="ocpi_peer_role", record=PeerRole, key=("own_party", "party_id", "role"), is_reference=True
)
INCOMING_TOKEN: Final = TableSpec(
    name="ocpi_incoming_token", record=IncomingToken, key=("token_hash",), is_reference=True
)


def new_token(randomness: Randomness) -> str:
    """Return a credentials token of 256 bits, 64 hex digits (the text allows 64 characters)."""
    return randomness.token_bytes(TOKEN_BYTES).hex()


def token_hash(token: str) -> str:
    """Return what a token is stored and found by. It is random and long, so a plain hash can't be reversed."""
    return hashlib.sha256(_HASH_DOMAIN + token.encode()).hexdigest()


async def peer_of_token(unit: UnitOfWork, own_party: PartyId, token: str) -> tuple[Peer, TokenUse] | None:
    """Return the peer that presents `token` to `own_party`. Looked up by hash and compared in constant time."""
    wanted = token_hash(token)
    found = await unit.table(INCOMING_TOKEN).get(wanted)
    if found is None or found.own_party != own_party or not hmac.compare_digest(found.token_hash, wanted):
        return None
    peer = await unit.table(PEER).get(own_party, found.peer_id)
    return None if peer is None else (peer, found.token_use)


async def replace_incoming_tokens(unit: UnitOfWork, peer: Peer, token: str | None, use: TokenUse) -> None:
    """Make `token` the only one that the peer may present; None: it may present none any more."""
    table = unit.table(INCOMING_TOKEN)
    for old in await table.select({"own_party": peer.own_party, "peer_id": peer.peer_id}):
        await table.delete(old.token_hash)
    if token is not None:
        await add_incoming_token(unit, peer, token, use)


async def add_incoming_token(unit: UnitOfWork, peer: Peer, token: str, use: TokenUse) -> None:
    """Let the peer present `token` too."""
    await unit.table(INCOMING_TOKEN).insert(
        IncomingToken(token_hash=token_hash(token), own_party=peer.own_party, peer_id=peer.peer_id, token_use=use)
    )


async def tolerate(unit: UnitOfWork, own_party: PartyId, peer_id: str, tolerances: PeerTolerances) -> Peer | None:
    """Set what a platform may do otherwise than the text; None: no such platform."""
    peer = await unit.table(PEER).get_for_update(own_party, peer_id)
    if peer is None:
        return None
    changed = replace(peer, tolerances=tolerances)
    await unit.table(PEER).put(changed)
    return changed


async def roles_of(unit: UnitOfWork, peer: Peer) -> list[PeerRole]:
    """Return the roles a platform plays, by party and role."""
    return await unit.table(PEER_ROLE).select(
        {"own_party": peer.own_party, "peer_id": peer.peer_id}, order_by=("party_id", "role")
    )


async def route(unit: UnitOfWork, own_party: PartyId, to_party: PartyId | None) -> Peer:
    """Return the platform through which `own_party` reaches `to_party`: its own, else the hub; None: the hub.

    Raises:
        NoRoute: neither is registered.
    """
    roles = unit.table(PEER_ROLE)
    found = await roles.select({"own_party": own_party, "party_id": to_party}, limit=1) if to_party else []
    found = found or await roles.select({"own_party": own_party, "role": Role.HUB}, limit=1)
    peer = await unit.table(PEER).get(own_party, found[0].peer_id) if found else None
    if peer is None or peer.state is not PeerState.REGISTERED or peer.outgoing_token is None:
        raise NoRoute(own_party=own_party, to_party=to_party)
    return peer


async def client_of(
    peer: Peer, *, vault: Vault, http: HttpClient, randomness: Randomness, timeout_s: float
) -> OCPIClient:
    """Return a client that speaks to a registered peer."""
    if peer.outgoing_token is None:
        raise NoRoute(own_party=peer.own_party, to_party=None)
    return OCPIClient(
        http=http,
        randomness=randomness,
        own_party=peer.own_party,
        token=await vault.open(peer.outgoing_token),
        endpoints=peer.endpoint_urls(),
        timeout_s=timeout_s,
        sends_plain_token=peer.takes_plain_token,
        version=peer.version,
    )
