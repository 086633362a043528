"""The vault in memory."""

from __future__ import annotations

from emobility.adapters.sealing import KEY_BYTES, MasterKey, opened_with, sealed_under
from emobility.domain.personal import Sealed, SubjectErased
from emobility.ports.clock import Randomness


class MemoryVault:
    """Subjects' keys in a dict; see `emobility.ports.vault.Vault`. An erased subject's key is None for ever."""

    def __init__(self, *, master_key: bytes, randomness: Randomness) -> None:
        self._master = MasterKey(master_key)
        self._randomness = randomness
        self._keys: dict[str, bytes | None] = {}

    def subject_of(self, identifier: str) -> str:
        """Return the keyed hash of an identifier, case folded."""
        return self._master.subject_of(identifier)

    async def seal(self, text: str, *, identifier: str | None = None) -> Sealed:
        """Seal `text` under the key of `identifier`, by default of `text` itself. Raises `SubjectErased`."""
        return await self.seal_under(text, subject=self.subject_of(text if identifier is None else identifier))

    async def seal_under(self, text: str, *, subject: str) -> Sealed:
        """Seal `text` under a known subject. Raises `SubjectErased`."""
        if subject not in self._keys:
            self._keys[subject] = self._randomness.token_bytes(KEY_BYTES)
        return sealed_under(self._key(subject), subject=subject, text=text)

    async def open(self, sealed: Sealed) -> str:
        """Return the text. Raises `SubjectErased`."""
        return opened_with(self._key(sealed.subject), sealed)

    def _key(self, subject: str) -> bytes:
        key = self._keys.get(subject)
        if key is None:
            raise SubjectErased(subject=subject)
        return key

    async def erase(self, subject: str) -> None:
        """Destroy the subject's key; twice is as once."""
        self._keys[subject] = None
