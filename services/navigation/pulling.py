"""Fetch what CPOs publish: whole, page by page through the hub, when an NSP connects or a CPO appears."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from emobility.domain.errors import EmobilityError, RuleBroken
from emobility.domain.identifiers import PartyId, Role
from emobility.ports.ports import Ports
from emobility.protocols.ocpi.host import OCPIHost
from emobility.protocols.ocpi.peers import Peer
from emobility.protocols.ocpi.v221 import ClientInfo, ConnectionStatus, InterfaceRole, Location, ModuleID, Tariff
from services.navigation.receiving import store_location, store_tariff

ATTEMPTS_MAX: Final = 5
"""Tries of one pull; after that the CPO's next appearance or an operator starts another."""
PAUSE_S: Final = 1.0

_log = structlog.get_logger(__name__)


class Puller:
    """Pulls that are asked for, one after another."""

    def __init__(self, ports: Ports, host: Callable[[], OCPIHost]) -> None:
        self._ports = ports
        self._host = host
        self._asked: dict[tuple[PartyId, PartyId | None], None] = {}
        self._wake = asyncio.Event()
        self._is_pulling = False

    def pending(self) -> int:
        """Return how many pulls are asked for or under way."""
        return len(self._asked) + self._is_pulling

    def ask(self, nsp_id: PartyId, cpo_id: PartyId | None) -> None:
        """Pull from a CPO soon; None: from every CPO that the hub knows as connected."""
        self._asked[nsp_id, cpo_id] = None
        self._wake.set()

    async def connected(self, nsp_id: PartyId, _: Peer) -> None:
        """An NSP registered at a hub or a CPO."""
        self.ask(nsp_id, None)

    async def run(self, stop: asyncio.Event) -> None:
        """Pull what is asked for until `stop` is set."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                while self._asked and not stop.is_set():
                    await self._next()
                self._wake.clear()
                waking = asyncio.create_task(self._wake.wait())
                await asyncio.wait({stopping, waking}, return_when=asyncio.FIRST_COMPLETED)
                waking.cancel()
        finally:
            stopping.cancel()

    async def _next(self) -> None:
        nsp_id, cpo_id = next(iter(self._asked))
        self._is_pulling = True
        try:
            for attempt in range(1, ATTEMPTS_MAX + 1):
                try:
                    await self._pull(nsp_id, cpo_id)
                    break
                except EmobilityError as error:
                    _log.warning("pull_failed", nsp=str(nsp_id), cpo=str(cpo_id), reason=str(error), attempt=attempt)
                    if isinstance(error, RuleBroken):
                        break
                    await self._ports.timer.sleep(PAUSE_S * attempt)
                except Exception as error:  # noqa: BLE001 - what one CPO publishes must not end the pulls of others
                    _log.error("pull_broken", nsp=str(nsp_id), cpo=str(cpo_id), exc_info=error)
                    break
        finally:
            self._asked.pop((nsp_id, cpo_id), None)
            self._is_pulling = False

    async def _pull(self, nsp_id: PartyId, cpo_id: PartyId | None) -> None:
        correlation_id = self._ports.randomness.uuid()
        if cpo_id is not None:
            await self._fetch(nsp_id, cpo_id, correlation_id)
            return
        client = await self._host().connect(nsp_id, None)
        clients = client.list_all(
            ModuleID.HUBCLIENTINFO,
            InterfaceRole.SENDER,
            ClientInfo,
            to_party=None,
            correlation_id=correlation_id,
        )
        async for each in clients:
            if each.role is Role.CPO and each.status is ConnectionStatus.CONNECTED:
                self.ask(nsp_id, each.owner)

    async def _fetch(self, nsp_id: PartyId, cpo_id: PartyId, correlation_id: str) -> None:
        client = await self._host().connect(nsp_id, cpo_id)
        async for tariff in client.list_all(
            ModuleID.TARIFFS, InterfaceRole.SENDER, Tariff, to_party=cpo_id, correlation_id=correlation_id
        ):
            # 4.1.6.2: objects of another owner may be ignored.
            if tariff.owner == cpo_id:
                async with self._ports.units.begin() as unit:
                    await store_tariff(unit, nsp_id, tariff, now=self._ports.clock.now())
                    await unit.commit()
        async for location in client.list_all(
            ModuleID.LOCATIONS, InterfaceRole.SENDER, Location, to_party=cpo_id, correlation_id=correlation_id
        ):
            if location.owner == cpo_id:
                async with self._ports.units.begin() as unit:
                    await store_location(unit, nsp_id, location, now=self._ports.clock.now())
                    await unit.commit()
