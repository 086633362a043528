"""Who may send what to whom, asked before anybody else sees a message.

Three things stand before it: a role that the registry no longer backs, a rule of the receiver or of the sender, and,
where one of the two is an app, the consent of the other. Of a party's rules the most particular one wins: counterparty
and module, counterparty, module, any; without a rule all is allowed. A rule takes nobody's consent for granted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
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
    AppConsent,
    ClaimState,
    Direction,
    PartyRule,
    RoleClaim,
)

RULE_TABLES: Final = (ROLE_CLAIM, PARTY_RULE, APP, APP_CONSENT)
"""What `rule_book` reads."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleBook:
    """What decides between some parties, read once however many messages it is asked about."""

    lost: Mapping[PartyId, RoleClaim]
    rules: Mapping[tuple[PartyId, Direction], Mapping[tuple[str, str], PartyRule]]
    apps: frozenset[PartyId]
    consents: Collection[AppConsent]

    def verdict(self, *, receiver: PartyId, sender: PartyId, module: str, at: datetime) -> RuleVerdict:
        """Decide on a message of a module, whatever it asks or brings."""
        for party in (receiver, sender):
            if party in self.lost:
                claim = self.lost[party]
                told = f"the registry does not back {party} any more"
                because = f"{party}/{claim.role}/{claim.reason}"
                return RuleVerdict(refusal=Refusal.ROLE_NOT_BACKED, told=told, because=because)
        against = self._deciding(receiver, Direction.IN, sender, module)
        if against is not None and not against.is_allowed:
            told = f"{receiver} takes no {module} from {sender}"
            return RuleVerdict(refusal=Refusal.RECEIVER_RULE, told=told, because=against.name)
        against = self._deciding(sender, Direction.OUT, receiver, module)
        if against is not None and not against.is_allowed:
            told = f"{sender} sends no {module} to {receiver}, by its own rule {against.name}"
            return RuleVerdict(refusal=Refusal.SENDER_RULE, told=told, because=against.name)
        for app, party in ((receiver, sender), (sender, receiver)):
            if app in self.apps and not self._has_consent(app, party, module, at):
                told = f"{party} has given {app} no consent to {module}"
                return RuleVerdict(refusal=Refusal.NO_CONSENT, told=told, because=f"{party}/{app}/{module}")
        return ALLOWED

    def _deciding(self, party: PartyId, direction: Direction, counterparty: PartyId, module: str) -> PartyRule | None:
        found = self.rules.get((party, direction), {})
        asked = ((counterparty.code, module), (counterparty.code, ANY), (ANY, module), (ANY, ANY))
        return next((found[each] for each in asked if each in found), None)

    def _has_consent(self, app: PartyId, party: PartyId, module: str, at: datetime) -> bool:
        return any(each.party_id == party and each.app_id == app and each.covers(module, at) for each in self.consents)


async def rule_book(unit: UnitOfWork, parties: Collection[PartyId]) -> RuleBook:
    """Read what decides between parties: three reads, and a fourth where one of them is an app."""
    among = tuple(parties)
    claims = await unit.table(ROLE_CLAIM).select({"party_id": among, "state": (ClaimState.LOST, ClaimState.BACKED)})
    backed = {claim.party_id for claim in claims if claim.state is ClaimState.BACKED}
    rules: dict[tuple[PartyId, Direction], dict[tuple[str, str], PartyRule]] = {}
    for rule in await unit.table(PARTY_RULE).select({"party_id": among}):
        rules.setdefault((rule.party_id, rule.direction), {})[rule.counterparty, rule.module] = rule
    apps = frozenset(app.party_id for app in await unit.table(APP).select({"party_id": among}))
    return RuleBook(
        lost={claim.party_id: claim for claim in claims if claim.party_id not in backed},
        rules=rules,
        apps=apps,
        consents=await unit.table(APP_CONSENT).select({"app_id": tuple(apps)}) if apps else (),
    )
