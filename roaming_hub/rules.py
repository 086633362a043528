"""Who may send what to whom, asked before anybody else sees a message.

Three things stand before it: a role that the registry no longer backs, a rule of the receiver or of the sender, and,
where one of the two is an app, the consent of the other. Of a party's rules the most particular one wins: counterparty
and module, counterparty, module, any; without a rule all is allowed. A rule takes nobody's consent for granted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

import structlog

from emobility.domain.identifiers import PartyId
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi.status import OCPIError, StatusCode
from roaming_hub.party_records import (
    ANY,
    APP,
    APP_CONSENT,
    PARTY_RULE,
    ROLE_CLAIM,
    ClaimState,
    Direction,
    PartyRule,
)

_log = structlog.get_logger(__name__)


class Refusal(StrEnum):
    """Why a message does not pass."""

    ROLE_NOT_BACKED = "ROLE_NOT_BACKED"
    RECEIVER_RULE = "RECEIVER_RULE"
    SENDER_RULE = "SENDER_RULE"
    NO_CONSENT = "NO_CONSENT"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleVerdict:
    """Whether a message may pass.

    Attributes:
        refusal: None: it may.
        told: What the sender is told.
        because: What decided, as the log names it; a receiver's own rules are told to nobody else.
    """

    refusal: Refusal | None = None
    told: str = ""
    because: str = ""

    @property
    def is_allowed(self) -> bool:
        """Whether it may pass."""
        return self.refusal is None

    @property
    def reference(self) -> str:
        """By which the answer is found in the log again."""
        return hashlib.sha256(self.because.encode()).hexdigest()[:8]

    def require(self) -> None:
        """Raise what the sender gets: `OCPIError` S 4003 where the receiver is not there for it, else S 2000."""
        if self.refusal is None:
            return
        _log.info("message_refused", reference=self.reference, refusal=self.refusal, because=self.because)
        is_far_side = self.refusal in {Refusal.ROLE_NOT_BACKED, Refusal.RECEIVER_RULE}
        code = StatusCode.NOT_CONNECTED if is_far_side else StatusCode.CLIENT_ERROR
        raise OCPIError(code, f"{self.told} ({self.refusal} {self.reference})")


ALLOWED: Final = RuleVerdict()


async def rule_verdict(
    unit: UnitOfWork, *, receiver: PartyId, sender: PartyId, module: str, at: datetime
) -> RuleVerdict:
    """Decide on a message of a module, whatever it asks or brings."""
    both = (receiver, sender)
    claims = await unit.table(ROLE_CLAIM).select({"party_id": both, "state": (ClaimState.LOST, ClaimState.BACKED)})
    backed = {claim.party_id for claim in claims if claim.state is ClaimState.BACKED}
    for claim in claims:
        if claim.state is ClaimState.LOST and claim.party_id not in backed:
            told = f"the registry does not back {claim.party_id} any more"
            because = f"{claim.party_id}/{claim.role}/{claim.reason}"
            return RuleVerdict(refusal=Refusal.ROLE_NOT_BACKED, told=told, because=because)
    rules = await unit.table(PARTY_RULE).select({"party_id": both})
    against = _deciding([rule for rule in rules if _is(rule, receiver, Direction.IN)], sender, module)
    if against is not None and not against.is_allowed:
        told = f"{receiver} takes no {module} from {sender}"
        return RuleVerdict(refusal=Refusal.RECEIVER_RULE, told=told, because=against.name)
    against = _deciding([rule for rule in rules if _is(rule, sender, Direction.OUT)], receiver, module)
    if against is not None and not against.is_allowed:
        told = f"{sender} sends no {module} to {receiver}, by its own rule {against.name}"
        return RuleVerdict(refusal=Refusal.SENDER_RULE, told=told, because=against.name)
    for app, party in (both, both[::-1]):
        if not await _may_have(unit, app, party, module, at):
            told = f"{party} has given {app} no consent to {module}"
            return RuleVerdict(refusal=Refusal.NO_CONSENT, told=told, because=f"{party}/{app}/{module}")
    return ALLOWED


async def is_allowed(unit: UnitOfWork, *, receiver: PartyId, sender: PartyId, module: str, at: datetime) -> bool:
    """Tell whether a message may pass; see `rule_verdict`."""
    return (await rule_verdict(unit, receiver=receiver, sender=sender, module=module, at=at)).is_allowed


def _is(rule: PartyRule, party: PartyId, direction: Direction) -> bool:
    return rule.party_id == party and rule.direction is direction


def _deciding(rules: Sequence[PartyRule], counterparty: PartyId, module: str) -> PartyRule | None:
    found = {(rule.counterparty, rule.module): rule for rule in rules}
    asked = ((counterparty.code, module), (counterparty.code, ANY), (ANY, module), (ANY, ANY))
    return next((found[each] for each in asked if each in found), None)


async def _may_have(unit: UnitOfWork, app: PartyId, party: PartyId, module: str, at: datetime) -> bool:
    if await unit.table(APP).get(app) is None:
        return True
    consents = await unit.table(APP_CONSENT).select({"party_id": party, "app_id": app})
    return any(each.covers(module, at) for each in consents)
