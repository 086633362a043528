"""`ConfidentialBook.sol` in Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final, TypeAlias

from emobility.adapters.chain_signing import recovered_address
from emobility.adapters.memory.contracts.contract import NOBODY, Pausable
from emobility.adapters.memory.contracts.money import VaultModel
from emobility.adapters.memory.contracts.registry import RegistryModel
from emobility.domain.batch import contracts
from emobility.domain.batch.confidential import (
    HASHES_MAX,
    HASHES_MIN,
    Amounts,
    ConfidentialBook,
    SealedWords,
    batch_record,
    hashes_hash,
    net_digest,
    posted_hash,
    signers_words,
    struct_hash_of,
)
from emobility.domain.batch.hashing import bound
from emobility.domain.batch.trees import MalformedProof, Proof, proven_root
from emobility.domain.batch.typed_data import digest_of

_NONE: Final = bytes(32)
_SIGNER_BITS: Final = 160
_I64_MAX: Final = (1 << 63) - 1
_Halves: TypeAlias = tuple[bytes, bytes]


class ConfidentialBookModel(Pausable):
    """The settlement of one currency without amounts of pairs."""

    takes = "(bytes3,address,address,address)"
    functions: ClassVar = {
        contracts.SETTLE: "settle",
        contracts.CORRECT_NET: "correct",
        contracts.IS_SEALED_STATEMENT_FINAL: "is_statement_final",
        contracts.ARE_AMOUNTS: "are_amounts",
        contracts.HIDDEN_BATCH: "batch",
        contracts.NONCE_OF: "nonce_of",
        contracts.CURRENCY: "currency",
        contracts.REGISTRY: "registry",
        contracts.VAULT: "vault",
    }

    def make(self, currency: bytes, registry: bytes, vault: bytes, admin: bytes) -> None:  # type: ignore[override]
        """Carry out the constructor."""
        self._write("currency", value=currency)
        self._write("registry", value=registry)
        self._write("vault", value=vault)
        super().make(admin)

    def settle(self, batch_id: bytes, hashes: Sequence[bytes], nets: Sequence[tuple[int, int, _Halves]]) -> None:
        """Make a batch final, or refuse all of it."""
        self._require_role(contracts.PROPOSER_ROLE)
        self._require_unpaused()
        if self.batch(batch_id) != _NONE:
            self._refuse(contracts.HIDDEN_BATCH_EXISTS, batch_id)
        count = len(hashes)
        if not HASHES_MIN <= count <= HASHES_MAX or count & (count - 1):
            self._refuse(contracts.HIDDEN_UNSUITABLE_COUNT, count)
        shown = hashes_hash(hashes)
        signers = signers_words(self._heard(batch_id, shown, nets))
        self._write("batch", batch_id, value=batch_record(shown, signers))
        self._tell(contracts.BATCH_SETTLED, batch_id, shown, count, indexed=1)
        self._vault.apply_nets([party for party, _, _ in nets], [net_e4 for _, net_e4, _ in nets])

    def correct(self, payer: int, payee: int, amount_e4: int) -> None:
        """Move what a verdict says."""
        self._require_role(contracts.RESOLVER_ROLE)
        if amount_e4 > _I64_MAX:
            self._refuse(contracts.TOO_WIDE, 64, amount_e4)
        self._tell(contracts.NET_CORRECTED, payer, payee, amount_e4, indexed=2)
        self._vault.apply_nets((payer, payee), (-amount_e4, amount_e4))

    # Queries

    def is_statement_final(
        self, words: SealedWords, opening: tuple[bytes, _Halves, _Halves], place: tuple[Any, ...]
    ) -> bool:
        """Whether this very statement is final at this place, and both its parties signed it."""
        salt, by_cpo, by_msp = opening
        batch_id, index, count, siblings, signers = place
        struct_hash = struct_hash_of(words)
        try:
            proof = Proof(index=index, count=count, siblings=tuple(siblings))
            root = proven_root(posted_hash(struct_hash, salt=salt), proof)
        except MalformedProof:
            return False
        if batch_record(bound(root, count), signers) != self.batch(batch_id):
            return False
        digest = digest_of(self._named, struct_hash)
        return all(
            number << _SIGNER_BITS | int.from_bytes(recovered_address(digest, b"".join(halves)) or NOBODY, "big")
            in signers
            for number, halves in ((words[1], by_cpo), (words[2], by_msp))
        )

    def are_amounts(self, words: SealedWords, salt: bytes, sum_root: bytes, due_e4: int, credit_e4: int) -> bool:
        """Whether these are a statement's amounts."""
        return words[-1] == Amounts(sum_root=sum_root, due_e4=due_e4, credit_e4=credit_e4).sealed(salt)

    def batch(self, batch_id: bytes) -> bytes:
        """Return what a batch's record binds."""
        return self._read("batch", batch_id) or _NONE

    def nonce_of(self, party: int) -> int:
        """Return how many batches a party signed."""
        return self._read("nonce", party) or 0

    def currency(self) -> bytes:
        """Return the currency."""
        return bytes(self._read("currency"))

    def registry(self) -> bytes:
        """Return where parties are registered."""
        return bytes(self._read("registry"))

    def vault(self) -> bytes:
        """Return where collateral lies."""
        return bytes(self._read("vault"))

    # Parts

    def _heard(self, batch_id: bytes, shown: bytes, nets: Sequence[tuple[int, int, _Halves]]) -> dict[int, bytes]:
        """Return who signed for each party."""
        if len(nets) < 2:
            self._refuse(contracts.PARTIES_NOT_ASCENDING, len(nets))
        registry = RegistryModel(self._at, address=self.registry(), sender=self._address)
        heard: dict[int, bytes] = {}
        for place, (party, net_e4, halves) in enumerate(nets):
            if party <= max(heard, default=0):
                self._refuse(contracts.PARTIES_NOT_ASCENDING, place)
            nonce = self.nonce_of(party)
            self._write("nonce", party, value=nonce + 1)
            digest = net_digest(
                self._named, batch_id=batch_id, hashes_hash=shown, party=party, net_e4=net_e4, nonce=nonce
            )
            signer = recovered_address(digest, b"".join(halves)) or NOBODY
            if signer != registry.signer_of(party):
                self._refuse(contracts.HIDDEN_WRONG_SIGNER, party, nonce)
            heard[party] = signer
        return heard

    @property
    def _named(self) -> ConfidentialBook:
        return ConfidentialBook(chain_id=self._at.call.chain_id, address=self._address)

    @property
    def _vault(self) -> VaultModel:
        return VaultModel(self._at, address=self.vault(), sender=self._address)
