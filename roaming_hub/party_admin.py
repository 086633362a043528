"""The hub operator's API about parties: their state, rules and consents, and who was refused. Internal token."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Depends, HTTPException
from pydantic import AliasChoices, AwareDatetime, BaseModel, Field

from emobility.domain.errors import EmobilityError, MalformedInput
from emobility.domain.identifiers import PartyId, Role
from emobility.protocols.ocpi.status import OCPIError
from emobility.runtime.access import Access, require_internal
from roaming_hub.party_desk import PartyDesk, UnknownParty
from roaming_hub.party_records import ANY, AppConsent, Direction, PartyRule, SetBy


class Overview(BaseModel):
    """A party in one role."""

    party_id: str
    role: Role
    status: str
    business_name: str | None
    versions_url: str | None
    modules: tuple[str, ...]
    is_app: bool
    last_heard_at: datetime | None
    last_updated: datetime


class Claim(BaseModel):
    """A role that a platform claimed, and whether the registry backs it."""

    party_id: str
    role: Role
    platform: str
    state: str
    reason: str | None
    checked_at: datetime


class Rule(BaseModel):
    """Whether messages of a module pass between a party and a counterparty; `*` stands for any."""

    counterparty: str = Field(default=ANY, max_length=6, validation_alias=AliasChoices("counterparty", "sender"))
    module: str = Field(default=ANY, max_length=64)
    direction: Direction = Direction.IN
    is_allowed: bool


class Consent(BaseModel):
    """What an app may have of a party's, until when."""

    app: str
    module: str = ANY
    expires_at: AwareDatetime
    granted_at: datetime | None = None
    withdrawn_at: datetime | None = None


class Resumed(BaseModel):
    """What a suspended party registers with again."""

    token_a: str
    versions_url: str


def party_admin_router(desk: PartyDesk, access: Access) -> APIRouter:
    """Return the routes."""
    router = APIRouter(dependencies=[Depends(require_internal(access))])
    _registrations(router, desk)
    _rules(router, desk)
    return router


def _registrations(router: APIRouter, desk: PartyDesk) -> None:
    @router.get("/admin/party-overview")
    async def overview() -> list[Overview]:
        """List parties with state, roles, modules and when they were heard last."""
        return [
            Overview(
                party_id=each.party_id.code,
                role=each.role,
                status=each.status,
                business_name=each.business_name,
                versions_url=each.versions_url,
                modules=each.modules,
                is_app=each.is_app,
                last_heard_at=each.last_heard_at,
                last_updated=each.last_updated,
            )
            for each in await desk.overview()
        ]

    @router.get("/admin/claims")
    async def claims() -> list[Claim]:
        """List claimed roles with what the registry said."""
        return [
            Claim(
                party_id=each.party_id.code,
                role=each.role,
                platform=each.peer_id,
                state=each.state,
                reason=each.reason,
                checked_at=each.checked_at,
            )
            for each in await desk.claims()
        ]

    @router.post("/admin/parties/{party_id}/resume", status_code=201)
    async def resume(party_id: str) -> Resumed:
        """Issue TOKEN_A with which a suspended party registers again."""
        with_token = await _done(desk.resume(_party(party_id)))
        return Resumed(token_a=with_token, versions_url=f"{desk.host.ocpi_url(desk.hub)}/versions")

    @router.post("/admin/parties/{party_id}/rotate", status_code=204)
    async def rotate(party_id: str) -> None:
        """Renew the tokens in both directions."""
        await _done(desk.rotate(_party(party_id)))

    @router.put("/admin/parties/{party_id}/app", status_code=204)
    async def name_app(party_id: str) -> None:
        """Say that a party is a third party's app."""
        await desk.name_app(_party(party_id), is_app=True)

    @router.delete("/admin/parties/{party_id}/app", status_code=204)
    async def no_app(party_id: str) -> None:
        """Say that a party is none."""
        await desk.name_app(_party(party_id), is_app=False)


def _rules(router: APIRouter, desk: PartyDesk) -> None:
    @router.get("/admin/parties/{party_id}/rules")
    async def rules(party_id: str) -> list[Rule]:
        """List a party's rules."""
        return [_rule(each) for each in await desk.rules(_party(party_id))]

    @router.put("/admin/parties/{party_id}/rules")
    async def set_rule(party_id: str, rule: Rule) -> Rule:
        """Allow or refuse what a party is sent, or sends."""
        kept = desk.set_rule(
            _party(party_id),
            counterparty=rule.counterparty,
            module=rule.module,
            direction=rule.direction,
            is_allowed=rule.is_allowed,
            by=SetBy.OPERATOR,
        )
        return _rule(await _done(kept))

    @router.delete("/admin/parties/{party_id}/rules", status_code=204)
    async def drop_rule(
        party_id: str, counterparty: str = ANY, module: str = ANY, direction: Direction = Direction.IN
    ) -> None:
        """Forget a rule."""
        if not await desk.drop_rule(_party(party_id), counterparty=counterparty, module=module, direction=direction):
            raise HTTPException(status_code=404, detail="no such rule")

    @router.get("/admin/parties/{party_id}/consents")
    async def consents(party_id: str) -> list[Consent]:
        """List what a party consented to."""
        return [_consent(each) for each in await desk.consents(_party(party_id))]

    @router.put("/admin/parties/{party_id}/consents")
    async def consent(party_id: str, given: Consent) -> Consent:
        """Record a party's consent, given to the operator out of band."""
        kept = desk.consent(
            _party(party_id), app=given.app, module=given.module, expires_at=given.expires_at, by=SetBy.OPERATOR
        )
        return _consent(await _done(kept))

    @router.delete("/admin/parties/{party_id}/consents/{app}")
    async def withdraw(party_id: str, app: str, module: str = ANY) -> Consent:
        """End a consent now."""
        return _consent(await _done(desk.withdraw(_party(party_id), app=app, module=module)))


async def _done(doing: Any) -> Any:
    """Await it; errors become HTTP's."""
    try:
        return await doing
    except UnknownParty as error:
        raise HTTPException(status_code=404, detail=str(error)) from error
    except MalformedInput as error:
        raise HTTPException(status_code=422, detail=str(error)) from error
    except OCPIError as error:
        raise HTTPException(status_code=409, detail=error.message) from error
    except EmobilityError as error:
        raise HTTPException(status_code=409, detail=str(error)) from error


def _party(text: str) -> PartyId:
    try:
        return PartyId(text)
    except MalformedInput as error:
        raise HTTPException(status_code=422, detail=str(error)) from error


def _rule(rule: PartyRule) -> Rule:
    return Rule.model_validate(
        {
            "counterparty": rule.counterparty,
            "module": rule.module,
            "direction": rule.direction,
            "is_allowed": rule.is_allowed,
        }
    )


def _consent(given: AppConsent) -> Consent:
    return Consent(
        app=given.app_id.code,
        module=given.module,
        expires_at=given.expires_at,
        granted_at=given.granted_at,
        withdrawn_at=given.withdrawn_at,
    )
