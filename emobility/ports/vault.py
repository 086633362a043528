"""Personal data: sealed, opened, found and erased."""

from __future__ import annotations

from typing import Protocol

from emobility.domain.personal import Sealed


class Vault(Protocol):
    """Holds one key per subject, outside the event log, each wrapped under a master key."""

    def subject_of(self, identifier: str) -> str:
        """Return the keyed hash of an identifier, case folded: how it is looked up without being stored."""

    async def seal(self, text: str, *, identifier: str | None = None) -> Sealed:
        """Seal `text` under the key of the person named by `identifier` (by default `text` itself names them).

        Raises:
            SubjectErased: the person's data were erased; nothing new is written under a destroyed key.
        """

    async def seal_under(self, text: str, *, subject: str) -> Sealed:
        """Seal `text` under a subject that is known already."""

    async def open(self, sealed: Sealed) -> str:
        """Return the text. Raises `SubjectErased`."""

    async def erase(self, subject: str) -> None:
        """Destroy the subject's key; twice is as once."""
