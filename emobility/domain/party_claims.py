"""What a party claims to be, and whether a registry backs it.

An issuer of the party's country vouches for its id until a date; the party's own key says which roles and modules it
plays, and from which platform. A claim made elsewhere - in the handshake with a hub - holds only if all of that fits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from emobility.domain.batch.hashing import keccak256
from emobility.domain.identifiers import PartyId, Role

ROLE_BITS: Final = (Role.CPO, Role.EMSP, Role.HUB, Role.NAP, Role.NSP, Role.OTHER, Role.SCSP)
"""Bit i of a registry's `roles`; later ones are added at the end."""
MODULE_BITS: Final = (
    "cdrs",
    "commands",
    "locations",
    "sessions",
    "tariffs",
    "tokens",
    "hubclientinfo",
    "chargingprofiles",
    "payments",
    "bookings",
    "invoice-reconciliation",
    "wattroam-disputes",
    "wattroam-agreements",
    "wattroam-reconciliation",
)
"""Bit i of a registry's `modules`; later ones are added at the end."""


class ClaimRefusal(StrEnum):
    """Why a role that a platform claims is not backed."""

    NOT_REGISTERED = "NOT_REGISTERED"
    NOT_ATTESTED = "NOT_ATTESTED"
    """Nobody vouches for the id (any more): it was revoked, or its time is over."""
    ROLE_NOT_CLAIMED = "ROLE_NOT_CLAIMED"
    PLATFORM_DIFFERS = "PLATFORM_DIFFERS"
    """The party named another platform, or none; whoever claims the role here is not known to speak for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartyEntry:
    """A party as a registry has it.

    Attributes:
        number: In the registry, from 1.
        signer: Address of its key, 20 bytes.
        nonce: How many words of it the registry took.
        attested_until: Until when an issuer vouches for the id, excluded; None: nobody does.
        platform: Hash of the origin it is served from; see `platform_hash`.
        message_key: Ed25519 key of its messages, hex; None: it signs none.
    """

    party_id: PartyId
    number: int
    signer: bytes
    nonce: int
    attested_until: datetime | None
    roles: frozenset[Role]
    modules: frozenset[str]
    platform: bytes
    message_key: str | None


def claim_refusal(entry: PartyEntry | None, *, role: Role, origin: str, at: datetime) -> ClaimRefusal | None:
    """Return why a platform at `origin` may not play `role` for the party of `entry`; None: it may.

    Args:
        entry: What the registry has of the party; None: nothing.
        role: What is claimed.
        origin: scheme://host[:port] of the platform.
        at: Now.
    """
    if entry is None:
        return ClaimRefusal.NOT_REGISTERED
    if entry.attested_until is None or at >= entry.attested_until:
        return ClaimRefusal.NOT_ATTESTED
    if role not in entry.roles:
        return ClaimRefusal.ROLE_NOT_CLAIMED
    if entry.platform != platform_hash(origin):
        return ClaimRefusal.PLATFORM_DIFFERS
    return None


def platform_hash(origin: str) -> bytes:
    """Return what names a platform in the registry: the Keccak-256 of its origin, in lower case."""
    return keccak256(origin.lower().encode())


def role_bits(roles: Iterable[Role]) -> int:
    """Return roles as the registry has them."""
    return sum(1 << ROLE_BITS.index(role) for role in set(roles))


def module_bits(modules: Iterable[str]) -> int:
    """Return modules as the registry has them."""
    return sum(1 << MODULE_BITS.index(module) for module in set(modules))


def roles_of_bits(bits: int) -> frozenset[Role]:
    """Return the roles that a registry's word names; bits nobody knows name none."""
    return frozenset(role for place, role in enumerate(ROLE_BITS) if bits >> place & 1)


def modules_of_bits(bits: int) -> frozenset[str]:
    """Return the modules that a registry's word names."""
    return frozenset(module for place, module in enumerate(MODULE_BITS) if bits >> place & 1)
