"""`wattroam-rules`: the OCPI custom module by which a party, with its credentials token, edits its own rules here.

Receiver interface, below the endpoint: GET, PUT and DELETE of rules, `/consents` for what apps may have. It acts for
the party that calls and no other.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from emobility.domain.errors import RuleBroken
from emobility.protocols.ocpi.server import Interface, OCPICall, Reply
from emobility.protocols.ocpi.status import InvalidParameters, NoSuchObject
from emobility.protocols.ocpi.v221 import InterfaceRole, ModuleID
from roaming_hub.party_desk import PartyDesk
from roaming_hub.party_records import ANY, AppConsent, Direction, PartyRule, SetBy


class RuleObject(msgspec.Struct, frozen=True, kw_only=True):
    """A rule as it travels; `*` stands for any counterparty or module."""

    is_allowed: bool
    counterparty: str = ANY
    module: str = ANY
    direction: Direction = Direction.IN


class ConsentObject(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A consent as it travels; `granted_at` and `withdrawn_at` are ours to say."""

    app: str
    expires_at: datetime
    module: str = ANY
    granted_at: datetime | None = None
    withdrawn_at: datetime | None = None


def rules_interface(desk: PartyDesk) -> Interface:
    """Return the module's receiver interface."""
    module = Interface(ModuleID.RULES, InterfaceRole.RECEIVER)

    @module.route("GET")
    async def rules(call: OCPICall) -> Reply:
        return Reply(data=[_rule(each) for each in await desk.rules(call.caller)])

    @module.route("PUT")
    async def set_rule(call: OCPICall) -> Reply:
        asked = call.read(RuleObject)
        rule = await desk.set_rule(
            call.caller,
            counterparty=asked.counterparty,
            module=asked.module,
            direction=asked.direction,
            is_allowed=asked.is_allowed,
            by=SetBy.PARTY,
        )
        return Reply(data=_rule(rule))

    @module.route("DELETE")
    async def drop_rule(call: OCPICall) -> Reply:
        try:
            direction = Direction(call.query.get("direction", Direction.IN))
        except ValueError as error:
            raise InvalidParameters("direction is IN or OUT") from error
        counterparty, of_module = call.query.get("counterparty", ANY), call.query.get("module", ANY)
        if not await desk.drop_rule(call.caller, counterparty=counterparty, module=of_module, direction=direction):
            raise NoSuchObject("rule")
        return Reply()

    @module.route("GET", "/consents")
    async def consents(call: OCPICall) -> Reply:
        return Reply(data=[_consent(each) for each in await desk.consents(call.caller)])

    @module.route("PUT", "/consents")
    async def consent(call: OCPICall) -> Reply:
        asked = call.read(ConsentObject)
        expires_at = asked.expires_at
        given = await desk.consent(
            call.caller,
            app=asked.app,
            module=asked.module,
            expires_at=expires_at.replace(tzinfo=UTC) if expires_at.tzinfo is None else expires_at,
            by=SetBy.PARTY,
        )
        return Reply(data=_consent(given))

    @module.route("DELETE", "/consents/{app}")
    async def withdraw(call: OCPICall) -> Reply:
        try:
            ended = await desk.withdraw(call.caller, app=call.path["app"], module=call.query.get("module", ANY))
        except RuleBroken as error:
            raise NoSuchObject("consent") from error
        return Reply(data=_consent(ended))

    return module


def _rule(rule: PartyRule) -> RuleObject:
    return RuleObject(
        counterparty=rule.counterparty, module=rule.module, direction=rule.direction, is_allowed=rule.is_allowed
    )


def _consent(given: AppConsent) -> ConsentObject:
    return ConsentObject(
        app=given.app_id.code,
        module=given.module,
        granted_at=given.granted_at,
        expires_at=given.expires_at,
        withdrawn_at=given.withdrawn_at,
    )
