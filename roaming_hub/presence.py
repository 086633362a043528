"""Who is there: the state of each party, told to the others by hubclientinfo (OCPI 2.2.1, section 15)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import structlog

from emobility.domain.errors import EmobilityError, RuleBroken, Unavailable
from emobility.domain.identifiers import PartyId, Role
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi.client import NotAuthenticatedAtPeer
from emobility.protocols.ocpi.host import OCPIHost
from emobility.protocols.ocpi.peers import PEER, PEER_ROLE, Peer, PeerState, roles_of
from emobility.protocols.ocpi.server import Interface, OCPICall, Reply
from emobility.protocols.ocpi.v221 import ClientInfo, ConnectionStatus, InterfaceRole, ModuleID
from roaming_hub.records import HUB_CLIENT, HubClient

PROBE_S: Final = 300.0
"""A platform that was silent this long is asked for its versions (15.2.3)."""
PROBES_AT_ONCE: Final = 32
"""Platforms probed side by side: a dead one takes its whole time-out."""

_log = structlog.get_logger(__name__)


class Presence:
    """Keeps the states and pushes each change to whoever listens."""

    def __init__(self, ports: Ports, hub: PartyId) -> None:
        self._ports = ports
        self._hub = hub
        self._host: OCPIHost | None = None
        self._heard_s: dict[str, float] = {}

    def serve_by(self, host: OCPIHost) -> None:
        """Use this host's deliveries and clients."""
        self._host = host
        host.on_connected(self._registered)
        host.on_left(self._left)

    @property
    def _serving(self) -> OCPIHost:
        assert self._host is not None, "presence is used before it is served"
        return self._host

    def interface(self) -> Interface:
        """Return the module's sender interface."""
        module = Interface(ModuleID.HUBCLIENTINFO, InterfaceRole.SENDER)

        @module.route("GET")
        async def clients(call: OCPICall) -> Reply:
            page = call.page()
            async with self._ports.units.begin() as unit:
                table = unit.table(HUB_CLIENT)
                found = await table.select(
                    since=page.since,
                    before=page.before,
                    order_by=("last_updated",),
                    offset=page.offset,
                    limit=page.limit,
                )
                total = await table.count(since=page.since, before=page.before)
            return call.paged([_client_info(each) for each in found], page=page, total=total)

        return module

    async def heard(self, peer: Peer) -> None:
        """A platform called or answered: it is there."""
        if peer.peer_id not in self._heard_s:
            await self._set(peer, ConnectionStatus.CONNECTED)
        # Only now: were the change not kept, the next message must try again.
        self._heard_s[peer.peer_id] = self._ports.timer.monotonic_s()

    async def lost(self, peer: Peer) -> None:
        """A platform could not be reached."""
        self._heard_s.pop(peer.peer_id, None)
        await self._set(peer, ConnectionStatus.OFFLINE)

    def heard_at(self, peer_id: str) -> datetime | None:
        """Return when a platform was heard last; None: not since this process started, or it was lost since."""
        heard_s = self._heard_s.get(peer_id)
        if heard_s is None:
            return None
        return self._ports.clock.now() - timedelta(seconds=self._ports.timer.monotonic_s() - heard_s)

    async def plan(self, unit: UnitOfWork, party_id: PartyId, role: Role) -> None:
        """A party is expected to connect."""
        if await unit.table(HUB_CLIENT).get(party_id, role) is None:
            await self._enter(unit, party_id, role, ConnectionStatus.PLANNED)

    async def suspend(self, unit: UnitOfWork, party_id: PartyId) -> int:
        """A party will not connect any more; returns in how many roles."""
        roles = await unit.table(HUB_CLIENT).select({"party_id": party_id})
        for each in roles:
            await self._enter(unit, party_id, each.role, ConnectionStatus.SUSPENDED)
        return len(roles)

    async def resume(self, unit: UnitOfWork, party_id: PartyId) -> None:
        """A suspended party is expected to connect again."""
        for each in await unit.table(HUB_CLIENT).select({"party_id": party_id}):
            await self._enter(unit, party_id, each.role, ConnectionStatus.PLANNED)

    async def run(self, stop: asyncio.Event) -> None:
        """Probe silent platforms until `stop` is set."""
        while not stop.is_set():
            try:
                await asyncio.wait_for(stop.wait(), timeout=PROBE_S)
            except TimeoutError:
                try:
                    await self._probe()
                except Unavailable as error:
                    _log.warning("probe_failed", reason=str(error))

    async def _probe(self) -> None:
        since_s = self._ports.timer.monotonic_s() - PROBE_S
        async with self._ports.units.begin() as unit:
            peers = await unit.table(PEER).select({"own_party": self._hub, "state": PeerState.REGISTERED})
        silent = [peer for peer in peers if self._heard_s.get(peer.peer_id, since_s) <= since_s]
        places = asyncio.Semaphore(PROBES_AT_ONCE)

        async def probe(peer: Peer) -> None:
            async with places:
                await self._ask(peer)

        # All are asked before anything that came of it is raised: one that can't be noted hides no other.
        outcomes = await asyncio.gather(*map(probe, silent), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _ask(self, peer: Peer) -> None:
        try:
            client = await self._serving.client(peer)
            await client.send("GET", peer.versions_url, to_party=None, correlation_id=self._ports.randomness.uuid())
        except RuleBroken:
            await self.heard(peer)  # it answered, if only to refuse
        except EmobilityError as error:
            if isinstance(error, NotAuthenticatedAtPeer) and await self._is_renewed(peer):
                return
            _log.warning("peer_silent", peer=peer.peer_id, reason=str(error))
            await self.lost(peer)
        else:
            await self.heard(peer)

    async def _is_renewed(self, peer: Peer) -> bool:
        """Tell whether a platform got other tokens since: it refused the old ones, which is no silence."""
        async with self._ports.units.begin() as unit:
            current = await unit.table(PEER).get_for_update(self._hub, peer.peer_id)
        return current is None or current.outgoing_token != peer.outgoing_token

    async def _registered(self, _: PartyId, peer: Peer) -> None:
        await self._set(peer, ConnectionStatus.CONNECTED)
        self._heard_s[peer.peer_id] = self._ports.timer.monotonic_s()

    async def _left(self, _: PartyId, peer: Peer, parties: list[tuple[PartyId, Role]]) -> None:
        self._heard_s.pop(peer.peer_id, None)
        async with self._ports.units.begin() as unit:
            for party_id, role in parties:
                await self._enter(unit, party_id, role, ConnectionStatus.OFFLINE)
            await unit.commit()

    async def _set(self, peer: Peer, status: ConnectionStatus) -> None:
        async with self._ports.units.begin() as unit:
            for role in await roles_of(unit, peer):
                await self._enter(unit, role.party_id, role.role, status)
            await unit.commit()

    async def _enter(self, unit: UnitOfWork, party_id: PartyId, role: Role, status: ConnectionStatus) -> None:
        known = await unit.table(HUB_CLIENT).get_for_update(party_id, role)
        if known is not None and known.status is status:
            return
        now = self._ports.clock.now()
        if known is None:
            changed = HubClient(party_id=party_id, role=role, status=status, last_updated=now)
        else:
            changed = replace(known, status=status, last_updated=now)
        await unit.table(HUB_CLIENT).put(changed)
        await self._push(unit, changed)

    async def _push(self, unit: UnitOfWork, changed: HubClient) -> None:
        """Tell every connected party that serves the receiver interface, save the one it is about (15.2.1)."""
        parties: dict[str, list[PartyId]] = {}
        for role in await unit.table(PEER_ROLE).select({"own_party": self._hub}, order_by=("party_id", "role")):
            parties.setdefault(role.peer_id, []).append(role.party_id)
        for peer in await unit.table(PEER).select({"own_party": self._hub, "state": PeerState.REGISTERED}):
            if (ModuleID.HUBCLIENTINFO, InterfaceRole.RECEIVER) not in peer.endpoint_urls():
                continue
            own = parties.get(peer.peer_id, [])
            if not own or changed.party_id in own:
                continue
            await self._serving.deliveries.enqueue(
                unit,
                own_party=self._hub,
                to_party=own[0],
                method="PUT",
                module=ModuleID.HUBCLIENTINFO,
                interface_role=InterfaceRole.RECEIVER,
                path=f"/{changed.party_id.country_code}/{changed.party_id.party_id}",
                object_key=f"hubclientinfo/{changed.party_id}/{changed.role}",
                body=_client_info(changed),
                correlation_id=self._ports.randomness.uuid(),
                is_routed=False,
            )


def _client_info(client: HubClient) -> ClientInfo:
    return ClientInfo(
        country_code=client.party_id.country_code,
        party_id=client.party_id.party_id,
        role=client.role.in_ocpi,
        status=client.status,
        last_updated=client.last_updated,
    )
