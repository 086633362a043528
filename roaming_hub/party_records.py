"""Rows about parties at the hub: their rules, the consents they gave to apps, and whether their roles are backed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from emobility.domain.identifiers import PartyId, Role
from emobility.domain.party_claims import ClaimRefusal
from emobility.ports.stores import TableSpec

ANY: Final = "*"
"""Any counterparty, or any module."""


class Direction(StrEnum):
    """Which messages a party's rule is about."""

    IN = "IN"
    """What the party is sent."""
    OUT = "OUT"
    """What the party sends, and what of a broadcast of its own reaches whom."""


class SetBy(StrEnum):
    """Whose word a row is."""

    PARTY = "PARTY"
    OPERATOR = "OPERATOR"


@dataclass(frozen=True, slots=True, kw_only=True)
class PartyRule:
    """Whether messages of a module pass between a party and a counterparty; `*` stands for any."""

    party_id: PartyId
    counterparty: str
    module: str
    direction: Direction
    is_allowed: bool
    set_by: SetBy
    set_at: datetime

    @property
    def name(self) -> str:
        """How logs name it."""
        return f"{self.party_id}/{self.direction}/{self.counterparty}/{self.module}"


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """A third party's app: it is sent a party's data, and may send to it, only with that party's consent."""

    party_id: PartyId
    named_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AppConsent:
    """That a party lets an app have what is of a module (`*`: of any), from `granted_at` until it ends.

    A consent that ended stays, as the proof of what was allowed when.
    """

    party_id: PartyId
    app_id: PartyId
    module: str
    granted_at: datetime
    expires_at: datetime
    withdrawn_at: datetime | None
    set_by: SetBy

    def covers(self, module: str, at: datetime) -> bool:
        """Whether it holds for a module at a moment."""
        ends_at = self.expires_at if self.withdrawn_at is None else min(self.expires_at, self.withdrawn_at)
        return self.module in {module, ANY} and self.granted_at <= at < ends_at


class ClaimState(StrEnum):
    """Whether the registry backs a role that a platform plays or wanted to play."""

    BACKED = "BACKED"
    REFUSED = "REFUSED"
    """It was never let in."""
    LOST = "LOST"
    """It was let in, and the registry no longer backs it: nothing passes for that party."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleClaim:
    """A role of a party as a platform claims it, and what the registry said last."""

    party_id: PartyId
    role: Role
    peer_id: str
    state: ClaimState
    reason: ClaimRefusal | None
    checked_at: datetime


PARTY_RULE: Final = TableSpec(
    name="hub_party_rule",
    record=PartyRule,
    key=("party_id", "direction", "counterparty", "module"),
    is_reference=True,
)
APP: Final = TableSpec(name="hub_app", record=App, key=("party_id",), is_reference=True)
APP_CONSENT: Final = TableSpec(
    name="hub_app_consent", record=AppConsent, key=("party_id", "app_id", "module"), is_reference=True
)
ROLE_CLAIM: Final = TableSpec(
    name="hub_role_claim", record=RoleClaim, key=("party_id", "role", "peer_id"), is_reference=True
)
