"""Which public keys are whose: by what a party's signed messages are verified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol

from emobility.domain.identifiers import PartyId

ANY_NAME: Final = "*"
"""`key_id` of a key that its source does not name: the party calls it what it likes."""


class KeyAlgorithm(StrEnum):
    """What a key signs by, as RFC 9421, 3.3 names it."""

    ED25519 = "ed25519"
    ECDSA_P256 = "ecdsa-p256-sha256"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyKey:
    """A public key of a party.

    Attributes:
        key_id: The party's own name for it, unique among its keys, or `ANY_NAME`.
        public_key: 32 bytes of Ed25519, or a point of P-256 as X9.62 writes it.
        is_ours: The private key is in this installation, so the party's messages are always signed.
        valid_from: Signatures are made with it from then on,
        valid_until: and before then; None: until further notice.
        revoked_at: From when on nothing under it counts, whenever it says that it was made.
    """

    party_id: PartyId
    key_id: str
    algorithm: KeyAlgorithm
    public_key: bytes
    is_ours: bool
    valid_from: datetime
    valid_until: datetime | None
    revoked_at: datetime | None

    def is_good(self, *, created: datetime, now: datetime) -> bool:
        """Tell whether a signature made at `created` counts `now`."""
        is_in_time = self.valid_from <= created and (self.valid_until is None or created < self.valid_until)
        return is_in_time and (self.revoked_at is None or now < self.revoked_at)


class PartyKeys(Protocol):
    """Finds the keys of parties: in rows, or in a registry on a chain."""

    async def keys_of(self, party_id: PartyId, *, for_party: PartyId) -> Sequence[VerifyKey]:
        """Return all keys of a party that `for_party` goes by, past and revoked ones too. Raises `Unavailable`."""
