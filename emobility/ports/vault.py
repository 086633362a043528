"""Personal data: sealed, opened, found, restricted and erased."""

from __future__ import annotations

from datetime import datetime
from typing import Final, Protocol

from emobility.domain.personal import Sealed

ERASURE_SEEN_WITHIN_S: Final = 1.0
"""How long after `erase` or `restrict` returned another process may still use a key that it remembers."""


class Vault(Protocol):
    """Holds one key per subject, outside the event log, each wrapped under a master key."""

    @property
    def evidence(self) -> Vault:
        """The same vault for what the law makes us keep and deliver: it opens what is restricted, too."""

    def subject_of(self, identifier: str) -> str:
        """Return the keyed hash of an identifier, case folded: how it is looked up without being stored."""

    async def seal(self, text: str, *, identifier: str | None = None) -> Sealed:
        """Seal `text` under the key of the person named by `identifier` (by default `text` itself names them).

        Under a restricted key too: evidence may still come in.

        Raises:
            SubjectErased: the person's data were erased; nothing new is written under a destroyed key.
        """

    async def seal_under(self, text: str, *, subject: str) -> Sealed:
        """Seal `text` under a subject that is known already."""

    async def open(self, sealed: Sealed) -> str:
        """Return the text. Raises `SubjectErased`; `SubjectRestricted` but through `evidence`."""

    async def bind(self, dependent: str, *, to: str) -> None:
        """Let the data of one subject share the fate of another's: restricted, kept until, erased with it, from now on.

        For what is sealed before anybody knows whose it is, such as the signed records of a transaction. Once is as
        twice; a subject that is erased or restricted already takes the dependent with it at once.
        """

    async def restrict(self, subject: str, *, until: datetime) -> None:
        """Close the subject's data to all but `evidence` until a moment, when `erase_due` destroys the key.

        A later moment that was set before stays; an erased subject stays erased.
        """

    async def erase(self, subject: str) -> None:
        """Destroy the subject's key; twice is as once. Every process sees it within `ERASURE_SEEN_WITHIN_S`."""

    async def erase_due(self) -> int:
        """Destroy the keys whose restriction is over; return how many."""
