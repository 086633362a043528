"""What the hub's operator, and a party for itself, may do about parties: one place behind API, page and OCPI module."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from emobility.domain.errors import MalformedInput, RuleBroken
from emobility.domain.identifiers import PartyId, Role
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi.host import OCPIHost
from emobility.protocols.ocpi.peers import PEER, PEER_ROLE, STRICT, Peer, PeerState, PeerTolerances
from emobility.protocols.ocpi.v221 import ConnectionStatus
from roaming_hub.party_records import (
    ANY,
    APP,
    APP_CONSENT,
    PARTY_RULE,
    ROLE_CLAIM,
    App,
    AppConsent,
    Direction,
    PartyRule,
    RoleClaim,
    SetBy,
)
from roaming_hub.presence import Presence
from roaming_hub.records import HUB_CLIENT

RULES_PER_PARTY_MAX: Final = 1_000
CONSENT_FOR_MAX: Final = timedelta(days=731)
"""A consent is given anew at least every two years."""
_MODULE: Final = re.compile(r"[a-z0-9-]{1,64}")


class UnknownParty(RuleBroken):
    """The hub knows no such party, or not in this state."""


class NotARule(MalformedInput):
    """A rule or consent names no counterparty, no module, or a time that can't be."""


class TooManyRules(RuleBroken):
    """A party has as many rules or consents as it may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartyOverview:
    """A party in one role, as the hub's operator sees it."""

    party_id: PartyId
    role: Role
    status: ConnectionStatus
    business_name: str | None
    versions_url: str | None
    modules: tuple[str, ...]
    is_app: bool
    last_heard_at: datetime | None
    last_updated: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PartyDesk:
    """Does it."""

    host: OCPIHost
    presence: Presence
    hub: PartyId

    # Looking

    async def overview(self) -> list[PartyOverview]:
        """Return every party the hub knows, by party and role."""
        async with self.host.ports.units.begin() as unit:
            clients = await unit.table(HUB_CLIENT).select(order_by=("party_id", "role"))
            peers = {peer.peer_id: peer for peer in await unit.table(PEER).select({"own_party": self.hub})}
            played = await unit.table(PEER_ROLE).select({"own_party": self.hub})
            apps = {app.party_id for app in await unit.table(APP).select()}
        roles = {(role.party_id, role.role): role for role in played}
        found = []
        for client in clients:
            role = roles.get((client.party_id, client.role))
            peer = peers.get(role.peer_id if role else client.party_id.code)
            found.append(
                PartyOverview(
                    party_id=client.party_id,
                    role=client.role,
                    status=client.status,
                    business_name=role.business_name if role else None,
                    versions_url=peer.versions_url if peer else None,
                    modules=tuple(sorted({each.module for each in peer.endpoints})) if peer else (),
                    is_app=client.party_id in apps,
                    last_heard_at=self.presence.heard_at(peer.peer_id) if peer else None,
                    last_updated=client.last_updated,
                )
            )
        return found

    async def claims(self) -> list[RoleClaim]:
        """Return what was claimed at this hub and what the registry said."""
        async with self.host.ports.units.begin() as unit:
            return await unit.table(ROLE_CLAIM).select(order_by=("party_id", "role", "peer_id"))

    async def rules(self, party: PartyId) -> list[PartyRule]:
        """Return a party's rules."""
        async with self.host.ports.units.begin() as unit:
            return await unit.table(PARTY_RULE).select({"party_id": party})

    async def consents(self, party: PartyId) -> list[AppConsent]:
        """Return what a party consented to, ended consents too."""
        async with self.host.ports.units.begin() as unit:
            return await unit.table(APP_CONSENT).select({"party_id": party})

    # Registrations

    async def invite(
        self, party: PartyId, role: Role, versions_url: str, *, tolerances: PeerTolerances = STRICT
    ) -> str:
        """Return TOKEN_A for a party's platform. Raises `OCPIError` when it is registered, `NotAnOrigin`."""
        async with self.host.ports.units.begin() as unit:
            token_a = await self.host.registrar.invite(
                unit,
                own_party=self.hub,
                peer_id=party.code,
                versions_url=versions_url,
                expected_party=party,
                expected_role=role,
                tolerances=tolerances,
            )
            await self.presence.plan(unit, party, role)
            await unit.commit()
        return token_a

    async def suspend(self, party: PartyId) -> None:
        """End a party's registration from our side; its token is void at once. Raises `UnknownParty`."""
        async with self.host.ports.units.begin() as unit:
            for peer in await self._peers(unit, party):
                await self.host.registrar.forget(unit, peer, state=PeerState.SUSPENDED)
            if not await self.presence.suspend(unit, party):
                raise UnknownParty(f"no party {party} at this hub")
            await unit.commit()

    async def resume(self, party: PartyId) -> str:
        """Return a new TOKEN_A with which a suspended party registers again, as who and from where it was.

        Raises:
            UnknownParty: it is not suspended.
        """
        async with self.host.ports.units.begin() as unit:
            suspended = [each for each in await self._peers(unit, party) if each.state is PeerState.SUSPENDED]
            if not suspended:
                raise UnknownParty(f"no party {party} is suspended at this hub")
            peer = suspended[0]
            token_a = await self.host.registrar.invite(
                unit,
                own_party=self.hub,
                peer_id=peer.peer_id,
                versions_url=peer.versions_url,
                expected_party=peer.expected_party,
                expected_role=peer.expected_role,
                tolerances=peer.tolerances,
            )
            await self.presence.resume(unit, party)
            await unit.commit()
        return token_a

    async def rotate(self, party: PartyId) -> None:
        """Renew the tokens in both directions. Raises `UnknownParty`, and as `OCPIHost.rotate` does."""
        async with self.host.ports.units.begin() as unit:
            connected = [each for each in await self._peers(unit, party) if each.state is PeerState.REGISTERED]
        if not connected:
            raise UnknownParty(f"no party {party} is connected to this hub")
        await self.host.rotate(connected[0])

    # Rules and consents

    async def set_rule(
        self, party: PartyId, *, counterparty: str, module: str, direction: Direction, is_allowed: bool, by: SetBy
    ) -> PartyRule:
        """Set a rule of a party. Raises `NotARule`, `TooManyRules`."""
        rule = PartyRule(
            party_id=party,
            counterparty=ANY if counterparty == ANY else _party(counterparty).code,
            module=_module(module),
            direction=direction,
            is_allowed=is_allowed,
            set_by=by,
            set_at=self._now(),
        )
        async with self.host.ports.units.begin() as unit:
            table = unit.table(PARTY_RULE)
            if await table.count({"party_id": party}) >= RULES_PER_PARTY_MAX:
                raise TooManyRules(f"{party} has {RULES_PER_PARTY_MAX} rules")
            await table.put(rule)
            await unit.commit()
        return rule

    async def drop_rule(self, party: PartyId, *, counterparty: str, module: str, direction: Direction) -> bool:
        """Forget a rule; tell whether there was one."""
        async with self.host.ports.units.begin() as unit:
            was_there = await unit.table(PARTY_RULE).delete(party, direction, counterparty.upper(), module)
            await unit.commit()
        return was_there

    async def name_app(self, party: PartyId, *, is_app: bool) -> None:
        """Say that a party is a third party's app, or that it is none."""
        async with self.host.ports.units.begin() as unit:
            table = unit.table(APP)
            if not is_app:
                await table.delete(party)
            elif await table.get(party) is None:
                await table.put(App(party_id=party, named_at=self._now()))
            await unit.commit()

    async def consent(self, party: PartyId, *, app: str, module: str, expires_at: datetime, by: SetBy) -> AppConsent:
        """Let an app have what is of a module until a moment. Raises `NotARule`, `TooManyRules`."""
        now = self._now()
        if expires_at.tzinfo is None or not now < expires_at <= now + CONSENT_FOR_MAX:
            raise NotARule(f"a consent ends within {CONSENT_FOR_MAX.days} days from now")
        given = AppConsent(
            party_id=party,
            app_id=_party(app),
            module=_module(module),
            granted_at=now,
            expires_at=expires_at,
            withdrawn_at=None,
            set_by=by,
        )
        async with self.host.ports.units.begin() as unit:
            table = unit.table(APP_CONSENT)
            if await table.count({"party_id": party}) >= RULES_PER_PARTY_MAX:
                raise TooManyRules(f"{party} has {RULES_PER_PARTY_MAX} consents")
            await table.put(given)
            await unit.commit()
        return given

    async def withdraw(self, party: PartyId, *, app: str, module: str) -> AppConsent:
        """End a consent now. Raises `UnknownParty` when there is none that runs."""
        async with self.host.ports.units.begin() as unit:
            known = await unit.table(APP_CONSENT).get_for_update(party, _party(app), module)
            if known is None or known.withdrawn_at is not None:
                raise UnknownParty(f"{party} gave {app} no consent to {module}")
            ended = replace(known, withdrawn_at=self._now())
            await unit.table(APP_CONSENT).put(ended)
            await unit.commit()
        return ended

    def _now(self) -> datetime:
        return self.host.ports.clock.now()

    async def _peers(self, unit: UnitOfWork, party: PartyId) -> list[Peer]:
        """Return the platforms of a party, locked."""
        found = await unit.table(PEER_ROLE).select({"own_party": self.hub, "party_id": party})
        ids = dict.fromkeys([*(role.peer_id for role in found), party.code])
        peers = [await unit.table(PEER).get_for_update(self.hub, each) for each in ids]
        return [peer for peer in peers if peer is not None]


def _party(text: str) -> PartyId:
    try:
        return PartyId(text)
    except MalformedInput as error:
        raise NotARule(str(error)) from error


def _module(text: str) -> str:
    if text != ANY and not _MODULE.fullmatch(text):
        raise NotARule(f"{text[:64]!r} is no module")
    return text
