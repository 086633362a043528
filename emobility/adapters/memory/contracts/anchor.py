"""`RootAnchor.sol` in Python."""

from __future__ import annotations

from typing import ClassVar

from emobility.adapters.memory.contracts.contract import Contract
from emobility.adapters.memory.contracts.registry import RegistryModel
from emobility.domain.batch import contracts
from emobility.domain.batch.hashing import HASH_BYTES


class AnchorModel(Contract):
    """Roots recorded without money, each once."""

    takes: ClassVar = "(address,address)"
    functions: ClassVar = {contracts.ANCHOR: "anchor", contracts.ROOT_OF: "root_of"}

    def make(self, registry: bytes, admin: bytes) -> None:  # type: ignore[override]  # each its own
        """Carry out the constructor."""
        self._write("registry", value=registry)
        super().make(admin)

    def anchor(self, kind: bytes, party: int, period: int, root: bytes) -> None:
        """Record a root, by the party's signer or whoever may for others."""
        registry = RegistryModel(self._at, address=self._read("registry"), sender=self._address)
        if registry.signer_of(party) != self._sender and not self.has_role(contracts.ANCHOR_ROLE, self._sender):
            self._refuse(contracts.ANCHOR_NOT_ALLOWED, party, self._sender)
        if root == bytes(HASH_BYTES):
            self._refuse(contracts.ANCHOR_ZERO_ROOT)
        if self._read("root", kind, party, period) is not None:
            self._refuse(contracts.ANCHOR_EXISTS, kind, party, period)
        self._write("root", kind, party, period, value=root)
        self._tell(contracts.ROOT_ANCHORED, kind, party, period, root, indexed=3)

    def root_of(self, kind: bytes, party: int, period: int) -> bytes:
        """Return a recorded root, zero if there is none."""
        return self._read("root", kind, party, period) or bytes(HASH_BYTES)
