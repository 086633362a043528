"""Signatures of parties over documents; keys stay with whoever implements this."""

from __future__ import annotations

from typing import Protocol

from emobility.domain.identifiers import PartyId


class Signer(Protocol):
    """Signs in the name of the parties hosted here and checks anyone's signature against a pinned public key."""

    async def sign(self, party_id: PartyId, message: bytes, *, generation: int = 0) -> str:
        """Return the party's Ed25519 signature, hex. `generation`: which of its keys; they are counted as they come."""

    async def public_key(self, party_id: PartyId, *, generation: int = 0) -> str:
        """Return one of the hosted party's public keys, hex."""

    def is_valid(self, *, public_key: str, message: bytes, signature: str) -> bool:
        """Tell whether `signature` is the holder of `public_key`'s word on `message`."""
