"""The hub operator's side: invite, list, suspend parties, read the CDR log; more: `party_admin`. Internal token."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from fastapi import APIRouter, Depends, HTTPException
from pydantic import BaseModel, Field

from emobility.domain.errors import EmobilityError, MalformedInput
from emobility.domain.identifiers import PartyId, Role
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi.host import OCPIHost
from emobility.protocols.ocpi.peers import PEER, PEER_ROLE, STRICT, Peer, PeerTolerances, tolerate
from emobility.protocols.ocpi.status import OCPIError
from emobility.runtime.access import Access, require_internal
from roaming_hub.broadcasts import Broadcasts
from roaming_hub.party_desk import PartyDesk, UnknownParty
from roaming_hub.records import BRIDGE_LOSS, CDR_FORWARD, ForwardOutcome

FORWARDS_PAGE: Final = 1_000


class Invitation(BaseModel):
    """A party may register: who it is, in which role, and from where it will call and be called."""

    party_id: str
    role: Role
    versions_url: str = Field(max_length=255)
    tolerances: PeerTolerances = STRICT


class Invited(BaseModel):
    """What the hub's operator hands to the party's."""

    token_a: str
    versions_url: str


class PartyState(BaseModel):
    """A party at the hub."""

    party_id: str
    role: Role
    status: str
    last_updated: datetime
    business_name: str | None
    versions_url: str | None


class Forward(BaseModel):
    """A CDR that passed the hub."""

    from_party: str
    to_party: str
    cdr_id: str
    body_sha256: str
    outcome: ForwardOutcome
    status_code: int | None
    attempts: int
    correlation_id: str
    first_at: datetime
    last_at: datetime


class LostField(BaseModel):
    """One thing that did not arrive as it was sent; the value by its hash alone."""

    pointer: str
    version: str
    reason: str
    value_sha256: str
    instead: str | None
    concerns_money: bool


class PeerSettings(BaseModel):
    """The version that is spoken with a party's platform, and what it may do otherwise than the text."""

    version: str
    accepts_plain_token: bool
    sends_plain_token: bool
    lacks_routing_headers: bool
    posts_again: bool
    speaks_2_1_1: bool
    appends_to_endpoints: bool
    lists_single_objects: bool


class BridgeReport(BaseModel):
    """What one body lost between parties of different versions."""

    correlation_id: str
    from_party: str
    to_party: str
    module: str
    method: str
    is_answer: bool
    from_version: str
    to_version: str
    body_sha256: str
    concerns_money: bool
    losses: list[LostField]
    at: datetime


class Backlog(BaseModel):
    """How much the hub still has to do."""

    pending: int


def _party(text: str) -> PartyId:
    try:
        return PartyId(text)
    except MalformedInput as error:
        raise HTTPException(status_code=422, detail=str(error)) from error


def admin_router(
    desk: PartyDesk, access: Access, broadcasts: Broadcasts, *, backlog: Callable[[], Awaitable[int]]
) -> APIRouter:
    """Return all routes."""
    router = APIRouter(dependencies=[Depends(require_internal(access))])
    router.include_router(_parties_router(desk))
    router.include_router(_tolerances_router(desk.host, desk.hub))
    router.include_router(_traffic_router(desk.host, broadcasts, backlog))
    return router


def _parties_router(desk: PartyDesk) -> APIRouter:
    router = APIRouter()

    @router.post("/admin/registrations", status_code=201)
    async def invite(asked: Invitation) -> Invited:
        """Issue TOKEN_A for one party on one platform; the platform registers once with it."""
        party = _party(asked.party_id)
        try:
            token_a = await desk.invite(party, asked.role, asked.versions_url, tolerances=asked.tolerances)
        except OCPIError as error:
            raise HTTPException(status_code=409, detail=error.message) from error
        except EmobilityError as error:
            raise HTTPException(status_code=422, detail=str(error)) from error
        return Invited(token_a=token_a, versions_url=f"{desk.host.ocpi_url(desk.hub)}/versions")

    @router.get("/admin/parties")
    async def parties() -> list[PartyState]:
        """List every party the hub knows and whether it is connected."""
        return [
            PartyState(
                party_id=each.party_id.code,
                role=each.role,
                status=each.status,
                last_updated=each.last_updated,
                business_name=each.business_name,
                versions_url=each.versions_url,
            )
            for each in await desk.overview()
        ]

    @router.post("/admin/parties/{party_id}/suspend")
    async def suspend(party_id: str) -> PartyState:
        """End a party's registration from our side: its token is void at once and others see SUSPENDED."""
        party = _party(party_id)
        try:
            await desk.suspend(party)
        except UnknownParty as error:
            raise HTTPException(status_code=404, detail=str(error)) from error
        return next(state for state in await parties() if state.party_id == party.code)

    return router


def _tolerances_router(host: OCPIHost, hub: PartyId) -> APIRouter:
    router = APIRouter()
    units = host.ports.units

    @router.get("/admin/parties/{party_id}/tolerances")
    async def shown(party_id: str) -> PeerSettings:
        """Tell which version a party's platform speaks, and what it may do otherwise than the text."""
        async with units.begin() as unit:
            peer = await unit.table(PEER).get(hub, await _peer_id(unit, party_id))
        return _settings(peer)

    @router.put("/admin/parties/{party_id}/tolerances")
    async def set_tolerances(party_id: str, tolerances: PeerTolerances) -> PeerSettings:
        """Let a party's platform do otherwise than the text, or no more; what is not named is not tolerated."""
        async with units.begin() as unit:
            peer = await tolerate(unit, hub, await _peer_id(unit, party_id), tolerances)
            await unit.commit()
        return _settings(peer)

    async def _peer_id(unit: UnitOfWork, party_id: str) -> str:
        """Return the platform of a party: the one that plays its roles, else the one invited for it."""
        party = _party(party_id)
        roles = await unit.table(PEER_ROLE).select({"own_party": hub, "party_id": party}, limit=1)
        return roles[0].peer_id if roles else party.code

    def _settings(peer: Peer | None) -> PeerSettings:
        if peer is None:
            raise HTTPException(status_code=404, detail="no platform of this party is known here")
        return PeerSettings(version=peer.version, **asdict(peer.tolerances))

    return router


def _traffic_router(host: OCPIHost, broadcasts: Broadcasts, backlog: Callable[[], Awaitable[int]]) -> APIRouter:
    router = APIRouter()
    units = host.ports.units

    @router.get("/admin/forwards")
    async def forwards(offset: int = 0, limit: int = FORWARDS_PAGE) -> list[Forward]:
        """List CDRs that passed the hub, oldest first."""
        async with units.begin() as unit:
            found = await unit.table(CDR_FORWARD).select(
                order_by=("first_at",), offset=max(offset, 0), limit=min(max(limit, 1), FORWARDS_PAGE)
            )
        return [
            Forward(
                from_party=each.from_party.code,
                to_party=each.to_party.code,
                cdr_id=each.cdr_id,
                body_sha256=each.body_sha256,
                outcome=each.outcome,
                status_code=each.status_code,
                attempts=each.attempts,
                correlation_id=each.correlation_id,
                first_at=each.first_at,
                last_at=each.last_at,
            )
            for each in found
        ]

    @router.get("/admin/bridge-losses")
    async def bridge_losses(
        party_id: str | None = None, correlation_id: str | None = None, offset: int = 0, limit: int = FORWARDS_PAGE
    ) -> list[BridgeReport]:
        """List what messages lost on their way to a party (or all) of another version, newest first."""
        where: dict[str, object] = {} if party_id is None else {"to_party": _party(party_id)}
        where |= {} if correlation_id is None else {"correlation_id": correlation_id}
        async with units.begin() as unit:
            found = await unit.table(BRIDGE_LOSS).select(
                where, order_by=("-at",), offset=max(offset, 0), limit=min(max(limit, 1), FORWARDS_PAGE)
            )
        return [
            BridgeReport(
                correlation_id=each.correlation_id,
                from_party=each.from_party.code,
                to_party=each.to_party.code,
                module=each.module,
                method=each.method,
                is_answer=each.is_answer,
                from_version=each.from_version,
                to_version=each.to_version,
                body_sha256=each.body_sha256,
                concerns_money=each.concerns_money,
                losses=[
                    LostField(
                        pointer=loss.pointer,
                        version=loss.version,
                        reason=loss.reason,
                        value_sha256=loss.value_sha256,
                        instead=loss.instead,
                        concerns_money=loss.concerns_money,
                    )
                    for loss in each.losses
                ],
                at=each.at,
            )
            for each in found
        ]

    @router.get("/admin/broadcasts/{correlation_id}")
    async def broadcast(correlation_id: str) -> dict[str, Any]:
        """Tell what became of a broadcast, receiver by receiver; its sender asks by OCPI."""
        found = await broadcasts.of_correlation(correlation_id)
        if found is None:
            raise HTTPException(status_code=404, detail="no broadcast has this correlation id")
        return found

    @router.get("/internal/backlog")
    async def pending() -> Backlog:
        """Tell how much is still to be done."""
        return Backlog(pending=await backlog())

    return router
