"""`PartyRegistry.sol` in Python."""

from __future__ import annotations

from typing import ClassVar, Final

from emobility.adapters.chain_signing import recovered_address
from emobility.adapters.memory.contracts.contract import NOBODY, Contract
from emobility.domain.batch import contracts
from emobility.domain.batch.typed_data import Registry, registration_digest, signer_rotation_digest
from emobility.domain.identifiers import PartyId

_ALPHANUMERIC: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")


class RegistryModel(Contract):
    """Who settles, under which number and key."""

    functions: ClassVar = {
        contracts.REGISTER: "register",
        contracts.ROTATE_SIGNER: "rotate_signer",
        contracts.PARTY: "party",
        contracts.NUMBER_OF: "number_of",
        contracts.SIGNER_OF: "signer_of",
    }

    def register(  # noqa: PLR0917 - the contract's arguments
        self, country: bytes, party: bytes, signer: bytes, payout: bytes, deadline: int, consent: tuple[bytes, bytes]
    ) -> int:
        """Register a party, once, with its consent."""
        self._require_role(contracts.ISSUER_ROLE)
        if not (country.isalpha() and country.isupper() and _ALPHANUMERIC.issuperset(party)):
            self._refuse(contracts.MALFORMED_ID, country, party)
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
        self._write("party", number, value=(country, party, 0, signer, payout))
        self._tell(contracts.PARTY_REGISTERED, number, country, party, signer, payout, indexed=3)
        return number

    def rotate_signer(self, number: int, signer: bytes, deadline: int, consent: tuple[bytes, bytes]) -> None:
        """Replace a party's signer with the present one's word."""
        if signer == NOBODY:
            self._refuse(contracts.ZERO_ADDRESS)
        country, party, nonce, present, payout = self.party(number)
        at = self._require_in_time(deadline, contracts.REGISTRY_EXPIRED)
        digest = signer_rotation_digest(self._named, number=number, signer=signer, nonce=nonce, deadline=at)
        self._require_signature(present, digest, consent)
        self._write("party", number, value=(country, party, nonce + 1, signer, payout))
        self._tell(contracts.SIGNER_ROTATED, number, present, signer, indexed=3)

    def party(self, number: int) -> tuple[bytes, bytes, int, bytes, bytes]:
        """Return a party's country, id, nonce, signer and payout."""
        entry: tuple[bytes, bytes, int, bytes, bytes] | None = self._read("party", number)
        if entry is None:
            self._refuse(contracts.UNKNOWN_PARTY, number)
        return entry

    def number_of(self, country: bytes, party: bytes) -> int:
        """Return a party's number, 0 if it has none."""
        return self._read("number", country, party) or 0

    def signer_of(self, number: int) -> bytes:
        """Return who signs for a party."""
        return self.party(number)[3]

    @property
    def _named(self) -> Registry:
        return Registry(chain_id=self._at.call.chain_id, address=self._address)

    def _require_signature(self, expected: bytes, digest: bytes, signature: tuple[bytes, bytes]) -> None:
        if recovered_address(digest, b"".join(signature)) != expected:
            self._refuse(contracts.REGISTRY_WRONG_SIGNER, expected)
