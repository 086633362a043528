"""Who is reached through the hub, told to platforms of 2.3.0: all others in `roles`, by credentials PUT at a change.

What a platform was told last is kept as a hash in `hub_announcement`; a worker compares it with who is registered and
sends the PUT, which also renews the tokens of both sides, until it is taken. Changes that come close together are told
together. Platforms of 2.2.1 know no such list; both learn who is connected from hubclientinfo (`presence`).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import structlog

from emobility.domain.errors import EmobilityError, Unavailable
from emobility.domain.identifiers import PartyId, Role
from emobility.ports.ports import Ports
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi import v230
from emobility.protocols.ocpi.host import OCPIHost
from emobility.protocols.ocpi.peers import PEER, PEER_ROLE, Peer, PeerState
from emobility.protocols.ocpi.v221 import BusinessDetails, CredentialsRole, write
from roaming_hub.waiting import first_of

GATHER_S: Final = 1.0
"""How long further changes are waited for before they are told."""
RENEWAL_S: Final = 2.0
"""How long a message waits for a renewal of its receiver's tokens that is under way."""
LOOK_S: Final = 60.0
"""How often it is looked without a change here: for what another process changed, and whoever did not take its PUT."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """What a platform was told last: the hash of its list of roles, hex."""

    peer_id: str
    roles_sha256: str


ANNOUNCEMENT: Final = TableSpec(name="hub_announcement", record=Announcement, key=("peer_id",))


class Announcing:
    """See the module's docstring."""

    def __init__(self, ports: Ports, hub: PartyId) -> None:
        self._ports = ports
        self._hub = hub
        self._host: OCPIHost | None = None
        self._changed = asyncio.Event()
        self._said: dict[str, str] = {}
        self._renewing: dict[str, asyncio.Event] = {}
        for spec in (PEER, PEER_ROLE):
            ports.units.on_change(spec, self._changed.set)

    def serve_by(self, host: OCPIHost) -> None:
        """Fill this host's credentials, and remember what each platform that registers was told."""
        self._host = host
        host.reaching(self._tellable)
        host.on_connected(self._registered)

    async def reachable(self, unit: UnitOfWork, peer_id: str) -> list[CredentialsRole]:
        """Return the roles of all other platforms that are registered."""
        peers = {
            each.peer_id
            for each in await unit.table(PEER).select({"own_party": self._hub, "state": PeerState.REGISTERED})
        }
        roles = await unit.table(PEER_ROLE).select({"own_party": self._hub}, order_by=("party_id", "role"))
        return [
            CredentialsRole(
                country_code=role.party_id.country_code,
                party_id=role.party_id.party_id,
                role=role.role.in_ocpi,
                business_details=BusinessDetails(name=role.business_name),
            )
            for role in roles
            if role.peer_id in peers and role.peer_id != peer_id and role.role is not Role.HUB
        ]

    async def renewed(self, peer: Peer) -> Peer | None:
        """Return a platform with its new token, if it refused the one that `peer` has because it was just renewed."""
        renewing = self._renewing.get(peer.peer_id)
        if renewing is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(renewing.wait(), timeout=RENEWAL_S)
        async with self._ports.units.begin() as unit:
            current = await unit.table(PEER).get_for_update(self._hub, peer.peer_id)
        if current is None or current.outgoing_token is None or current.outgoing_token == peer.outgoing_token:
            return None
        return current

    async def pending(self) -> int:
        """Count the platforms that still have to be told."""
        return len(await self._due())

    async def run(self, stop: asyncio.Event) -> None:
        """Tell them until `stop` is set."""
        while not stop.is_set():
            self._changed.clear()
            try:
                for peer in await self._due():
                    await self._tell(peer)
            except Unavailable as error:
                _log.warning("announcing_failed", reason=str(error))
            await first_of(self._ports.timer, stop, self._changed, within_s=LOOK_S)
            await first_of(self._ports.timer, stop, within_s=GATHER_S)

    async def _tellable(self, unit: UnitOfWork, peer: Peer) -> list[CredentialsRole]:
        roles = await self.reachable(unit, peer.peer_id)
        self._said[peer.peer_id] = _hash(roles)
        return roles

    async def _registered(self, _: PartyId, peer: Peer) -> None:
        await self._keep(peer.peer_id)

    async def _due(self) -> list[Peer]:
        due: list[Peer] = []
        where = {"own_party": self._hub, "state": PeerState.REGISTERED, "version": v230.VERSION}
        async with self._ports.units.begin() as unit:
            for peer in await unit.table(PEER).select(where, order_by=("peer_id",)):
                told = await unit.table(ANNOUNCEMENT).get(peer.peer_id)
                if told is None or told.roles_sha256 != _hash(await self.reachable(unit, peer.peer_id)):
                    due.append(peer)
        return due

    async def _tell(self, peer: Peer) -> None:
        assert self._host is not None, "announcing is used before it is served"
        renewed = self._renewing[peer.peer_id] = asyncio.Event()
        try:
            await self._host.rotate(peer)
        except EmobilityError as error:
            _log.warning("not_announced", peer=peer.peer_id, reason=f"{type(error).__name__}: {error}")
            return
        finally:
            del self._renewing[peer.peer_id]
            renewed.set()
        await self._keep(peer.peer_id)

    async def _keep(self, peer_id: str) -> None:
        """What went out last was taken."""
        async with self._ports.units.begin() as unit:
            said = self._said.pop(peer_id, "")
            await unit.table(ANNOUNCEMENT).put(Announcement(peer_id=peer_id, roles_sha256=said))
            await unit.commit()


def _hash(roles: Sequence[CredentialsRole]) -> str:
    return hashlib.sha256(write(list(roles))).hexdigest()
