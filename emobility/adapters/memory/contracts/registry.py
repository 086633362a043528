"""`PartyRegistry.sol` in Python."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, ClassVar, Final

from emobility.adapters.chain_signing import recovered_address
from emobility.adapters.memory.contracts.contract import NOBODY, Contract
from emobility.domain.batch import contracts
from emobility.domain.batch.typed_data import (
    Registry,
    claims_digest,
    message_key_digest,
    registration_digest,
    rotation_cancellation_digest,
    signer_acceptance_digest,
    signer_rotation_digest,
)
from emobility.domain.identifiers import PartyId

ROTATION_DELAY_S: Final = 2 * 24 * 3600
_ALPHANUMERIC: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_Words = tuple[bytes, bytes]
"""A signature's r and vs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    country: bytes = b"\0\0"
    party: bytes = b"\0\0\0"
    nonce: int = 0
    signer: bytes = NOBODY
    payout: bytes = NOBODY
    attested_until: int = 0
    roles: int = 0
    modules: int = 0
    platform: bytes = bytes(32)
    message_key: bytes = bytes(32)
    successor: bytes = NOBODY
    successor_from: int = 0

    @property
    def shown(self) -> tuple[bytes, bytes, int, bytes, bytes]:
        return (self.country, self.party, self.nonce, self.signer, self.payout)


class RegistryModel(Contract):
    """Who settles, under which number and key, and what it claims to be."""

    functions: ClassVar = {
        contracts.REGISTER: "register",
        contracts.ATTEST: "attest",
        contracts.REVOKE_ATTESTATION: "revoke_attestation",
        contracts.SET_CLAIMS: "set_claims",
        contracts.SET_MESSAGE_KEY: "set_message_key",
        contracts.ROTATE_SIGNER: "rotate_signer",
        contracts.CANCEL_ROTATION: "cancel_rotation",
        contracts.COMPLETE_ROTATION: "complete_rotation",
        contracts.PARTY: "party",
        contracts.ENTRY: "entry",
        contracts.NUMBER_OF: "number_of",
        contracts.SIGNER_OF: "signer_of",
    }

    def register(  # noqa: PLR0917 - the contract's arguments
        self,
        country: bytes,
        party: bytes,
        signer: bytes,
        payout: bytes,
        attested_until: int,
        deadline: int,
        consent: _Words,
    ) -> int:
        """Register a party, once, with its consent, and vouch for it."""
        if not (country.isalpha() and country.isupper() and _ALPHANUMERIC.issuperset(party)):
            self._refuse(contracts.MALFORMED_ID, country, party)
        self._require_role(contracts.issuer_role(country.decode()))
        if NOBODY in {signer, payout}:
            self._refuse(contracts.ZERO_ADDRESS)
        if known := self.number_of(country, party):
            self._refuse(contracts.KNOWN_PARTY, known)
        at = self._require_in_time(deadline, contracts.REGISTRY_EXPIRED)
        party_id = PartyId.of(country.decode(), party.decode())
        digest = registration_digest(self._named, party_id=party_id, signer=signer, payout=payout, deadline=at)
        self._require_signature(signer, digest, consent)
        number = (self._read("count") or 0) + 1
        self._write("count", value=number)
        self._write("number", country, party, value=number)
        self._store(number, _Stored(country=country, party=party, signer=signer, payout=payout))
        self._tell(contracts.PARTY_REGISTERED, number, country, party, signer, payout, indexed=3)
        self._attest(number, attested_until)
        return number

    def attest(self, number: int, until: int) -> None:
        """Vouch for a party's id until another moment."""
        self._require_issuer_of(number)
        self._attest(number, until)

    def revoke_attestation(self, number: int) -> None:
        """Take an attestation back."""
        self._require_issuer_of(number)
        self._store(number, replace(self._known(number), attested_until=0))
        self._tell(contracts.PARTY_ATTESTED, number, self._sender, 0, indexed=2)

    def set_claims(  # noqa: PLR0917 - the contract's arguments
        self, number: int, roles: int, modules: int, platform: bytes, deadline: int, consent: _Words
    ) -> None:
        """Replace what a party claims."""
        stored = self._known(number)
        at = self._require_in_time(deadline, contracts.REGISTRY_EXPIRED)
        digest = claims_digest(
            self._named,
            number=number,
            roles=roles,
            modules=modules,
            platform=platform,
            nonce=stored.nonce,
            deadline=at,
        )
        self._require_signature(stored.signer, digest, consent)
        self._said(number, stored, roles=roles, modules=modules, platform=platform)
        self._tell(contracts.CLAIMS_SET, number, roles, modules, platform, indexed=1)

    def set_message_key(self, number: int, key: bytes, deadline: int, consent: _Words) -> None:
        """Replace the key that a party signs messages with."""
        stored = self._known(number)
        at = self._require_in_time(deadline, contracts.REGISTRY_EXPIRED)
        digest = message_key_digest(self._named, number=number, key=key, nonce=stored.nonce, deadline=at)
        self._require_signature(stored.signer, digest, consent)
        self._said(number, stored, message_key=key)
        self._tell(contracts.MESSAGE_KEY_SET, number, key, indexed=1)

    def rotate_signer(self, number: int, signer: bytes, deadline: int, consent: _Words) -> None:
        """Name a party's next signer with the present one's word."""
        if signer == NOBODY:
            self._refuse(contracts.ZERO_ADDRESS)
        stored = self._known(number)
        at = self._require_in_time(deadline, contracts.REGISTRY_EXPIRED)
        digest = signer_rotation_digest(self._named, number=number, signer=signer, nonce=stored.nonce, deadline=at)
        self._require_signature(stored.signer, digest, consent)
        takes_over_at = self._at.call.timestamp_s + ROTATION_DELAY_S
        self._said(number, stored, successor=signer, successor_from=takes_over_at)
        self._tell(contracts.SIGNER_NAMED, number, signer, takes_over_at, indexed=2)

    def cancel_rotation(self, number: int, deadline: int, consent: _Words) -> None:
        """Take the successor back with the present signer's word."""
        stored, at = self._succession(number, deadline)
        digest = rotation_cancellation_digest(
            self._named, number=number, signer=stored.successor, nonce=stored.nonce, deadline=at
        )
        self._require_signature(stored.signer, digest, consent)
        self._said(number, stored, successor=NOBODY, successor_from=0)
        self._tell(contracts.ROTATION_CANCELED, number, stored.successor, indexed=2)

    def complete_rotation(self, number: int, deadline: int, consent: _Words) -> None:
        """Make the successor the signer, with its own word, once the delay is over."""
        stored, at = self._succession(number, deadline, must_be_due=True)
        digest = signer_acceptance_digest(
            self._named, number=number, signer=stored.successor, nonce=stored.nonce, deadline=at
        )
        self._require_signature(stored.successor, digest, consent)
        self._said(number, stored, signer=stored.successor, successor=NOBODY, successor_from=0)
        self._tell(contracts.SIGNER_ROTATED, number, stored.signer, stored.successor, indexed=3)

    def party(self, number: int) -> tuple[bytes, bytes, int, bytes, bytes]:
        """Return a party's country, id, nonce, signer and payout."""
        return self._known(number).shown

    def entry(self, country: bytes, party: bytes) -> tuple[Any, ...]:
        """Return all that is recorded of a party."""
        number = self.number_of(country, party)
        stored = self._known(number) if number else _Stored()
        return (
            number,
            stored.shown,
            stored.attested_until,
            stored.roles,
            stored.modules,
            stored.platform,
            stored.message_key,
            stored.successor,
            stored.successor_from,
        )

    def number_of(self, country: bytes, party: bytes) -> int:
        """Return a party's number, 0 if it has none."""
        return self._read("number", country, party) or 0

    def signer_of(self, number: int) -> bytes:
        """Return who signs for a party."""
        return self._known(number).signer

    @property
    def _named(self) -> Registry:
        return Registry(chain_id=self._at.call.chain_id, address=self._address)

    def _known(self, number: int) -> _Stored:
        stored: _Stored | None = self._read("party", number)
        if stored is None:
            self._refuse(contracts.UNKNOWN_PARTY, number)
        return stored

    def _store(self, number: int, stored: _Stored) -> None:
        self._write("party", number, value=stored)

    def _said(self, number: int, stored: _Stored, **changed: Any) -> None:
        """A word of the party's counted: its nonce is used up."""
        self._store(number, replace(stored, nonce=stored.nonce + 1, **changed))

    def _require_issuer_of(self, number: int) -> None:
        self._require_role(contracts.issuer_role(self._known(number).country.decode()))

    def _attest(self, number: int, until: int) -> None:
        if until <= self._at.call.timestamp_s:
            self._refuse(contracts.REGISTRY_EXPIRED, until)
        self._store(number, replace(self._known(number), attested_until=until))
        self._tell(contracts.PARTY_ATTESTED, number, self._sender, until, indexed=2)

    def _succession(self, number: int, deadline: int, *, must_be_due: bool = False) -> tuple[_Stored, datetime]:
        stored = self._known(number)
        if stored.successor == NOBODY:
            self._refuse(contracts.NO_SUCCESSOR, number)
        if must_be_due and self._at.call.timestamp_s < stored.successor_from:
            self._refuse(contracts.TOO_EARLY, stored.successor_from)
        return stored, self._require_in_time(deadline, contracts.REGISTRY_EXPIRED)

    def _require_signature(self, expected: bytes, digest: bytes, signature: _Words) -> None:
        if recovered_address(digest, b"".join(signature)) != expected:
            self._refuse(contracts.REGISTRY_WRONG_SIGNER, expected)
