"""Whether parties are who they say: roles claimed in a handshake, held against the registry where one is in use.

A new claim counts only with the registry's word, not older than `WORD_AGE_S`; when it does not answer, nobody new is
let in, and whoever was let in goes on. Claims that were let in are looked at again; one that the registry no longer
backs is LOST, and nothing passes for that party until it is backed again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog

from emobility.domain.errors import Unavailable
from emobility.domain.identifiers import PartyId, Role
from emobility.domain.party_claims import ClaimRefusal, PartyEntry, claim_refusal
from emobility.ports.party_registry import PartyRegistry
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi.peers import PEER, PEER_ROLE, Peer
from emobility.protocols.ocpi.status import OCPIError, StatusCode
from emobility.protocols.ocpi.v221 import CredentialsRole
from roaming_hub.party_records import ROLE_CLAIM, ClaimState, RoleClaim

WORD_AGE_S: Final = 60.0
"""How old the registry's word may be when a claim is decided on."""
WORDS_KEPT_MAX: Final = 10_000
"""Parties whose entries are kept; the oldest goes first."""
LOOK_AGAIN_S: Final = 300.0

_log = structlog.get_logger(__name__)


class ClaimNotBacked(OCPIError):
    """The registry does not back a role that a platform claims (S 2000)."""

    def __init__(self, party: PartyId, role: Role, reason: ClaimRefusal) -> None:
        self.reason = reason
        super().__init__(StatusCode.CLIENT_ERROR, f"the party registry does not back {role} {party}: {reason}")


class RoleClaims:
    """Decides on claims; without a registry whoever the operator invited is let in."""

    def __init__(self, ports: Ports, hub: PartyId) -> None:
        self._ports = ports
        self._hub = hub
        self._registry: PartyRegistry | None = ports.party_registry
        self._words: dict[PartyId, tuple[float, PartyEntry | None]] = {}

    @property
    def is_in_use(self) -> bool:
        """Whether a registry backs claims."""
        return self._registry is not None

    async def admit(self, peer: Peer, roles: Sequence[CredentialsRole]) -> None:
        """Let a platform play these roles.

        Raises:
            ClaimNotBacked: the registry says no to one of them.
            Unavailable: it does not answer, and one of them is new.
        """
        if self._registry is None:
            return
        refused: ClaimNotBacked | None = None
        for claimed in roles:
            try:
                reason = await self._refusal(claimed.owner, claimed.role, peer)
            except Unavailable:
                if await self._was_admitted(claimed, peer):
                    _log.warning("registry_silent", party=str(claimed.owner), role=claimed.role)
                    continue
                raise
            async with self._ports.units.begin() as unit:
                await self._note(unit, claimed.owner, claimed.role, peer.peer_id, reason, of_new=ClaimState.REFUSED)
                await unit.commit()
            if reason is not None and refused is None:
                refused = ClaimNotBacked(claimed.owner, claimed.role, reason)
        if refused is not None:
            raise refused

    async def look_again(self) -> None:
        """Hold every role that is played against the registry once more. Raises `Unavailable`."""
        if self._registry is None:
            return
        async with self._ports.units.begin() as unit:
            roles = await unit.table(PEER_ROLE).select({"own_party": self._hub})
            peers = {each.peer_id: each for each in await unit.table(PEER).select({"own_party": self._hub})}
        for role in roles:
            if role.role is Role.HUB or role.peer_id not in peers:
                continue
            reason = await self._refusal(role.party_id, role.role, peers[role.peer_id])
            async with self._ports.units.begin() as unit:
                await self._note(unit, role.party_id, role.role, role.peer_id, reason, of_new=ClaimState.LOST)
                await unit.commit()

    async def run(self, stop: asyncio.Event) -> None:
        """Look again, now and then, until `stop` is set."""
        while not stop.is_set():
            try:
                await self.look_again()
            except Unavailable as error:
                _log.warning("registry_silent", reason=str(error))
            try:
                await asyncio.wait_for(stop.wait(), timeout=LOOK_AGAIN_S)
            except TimeoutError:
                continue

    async def _refusal(self, party: PartyId, role: Role, peer: Peer) -> ClaimRefusal | None:
        entry = await self._entry(party)
        return claim_refusal(entry, role=role, origin=peer.origin, at=self._ports.clock.now())

    async def _entry(self, party: PartyId) -> PartyEntry | None:
        assert self._registry is not None, "there is a registry"
        now_s = self._ports.timer.monotonic_s()
        said_s, entry = self._words.get(party, (None, None))
        if said_s is not None and now_s - said_s < WORD_AGE_S:
            return entry
        entry = await self._registry.entry(party)
        self._words.pop(party, None)
        if len(self._words) >= WORDS_KEPT_MAX:
            del self._words[next(iter(self._words))]
        self._words[party] = now_s, entry
        return entry

    async def _was_admitted(self, claimed: CredentialsRole, peer: Peer) -> bool:
        async with self._ports.units.begin() as unit:
            held = await unit.table(PEER_ROLE).get(self._hub, claimed.owner, claimed.role)
            claim = await unit.table(ROLE_CLAIM).get(claimed.owner, claimed.role, peer.peer_id)
        is_held = held is not None and held.peer_id == peer.peer_id
        return is_held and (claim is None or claim.state is ClaimState.BACKED)

    async def _note(
        self,
        unit: UnitOfWork,
        party: PartyId,
        role: Role,
        peer_id: str,
        reason: ClaimRefusal | None,
        *,
        of_new: ClaimState,
    ) -> None:
        """Keep what the registry said. What was let in once is not merely refused afterwards: it is LOST."""
        known = await unit.table(ROLE_CLAIM).get_for_update(party, role, peer_id)
        state = ClaimState.BACKED
        if reason is not None:
            was_in = known is not None and known.state is not ClaimState.REFUSED
            state = ClaimState.LOST if was_in else of_new
        if known is not None and known.state is state and known.reason is reason:
            return
        now = self._ports.clock.now()
        claim = RoleClaim(party_id=party, role=role, peer_id=peer_id, state=state, reason=reason, checked_at=now)
        await unit.table(ROLE_CLAIM).put(claim)
        _log.info("role_claim", party=str(party), role=role, peer=peer_id, state=state, reason=reason)
