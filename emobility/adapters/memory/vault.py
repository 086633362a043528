"""The vault in memory."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

from emobility.adapters.sealing import KEY_BYTES, MasterKey, SubjectKey
from emobility.domain.personal import Sealed, SubjectErased, SubjectRestricted
from emobility.ports.clock import Clock, Randomness


@dataclass(frozen=True, slots=True)
class _Keys:
    """What all views of a vault share. An erased subject's key is None for ever."""

    keys: dict[str, SubjectKey | None] = field(default_factory=dict)
    restricted_until: dict[str, datetime] = field(default_factory=dict)
    bound_to: dict[str, set[str]] = field(default_factory=dict)


class MemoryVault:
    """Subjects' keys in a dict; see `emobility.ports.vault.Vault`."""

    def __init__(self, *, master_key: bytes, clock: Clock, randomness: Randomness) -> None:
        self._master = MasterKey(master_key)
        self._clock = clock
        self._randomness = randomness
        self._held = _Keys()
        self._is_evidence = False

    @property
    def evidence(self) -> Self:
        """The same vault, for evidence."""
        view = copy.copy(self)
        view._is_evidence = True  # noqa: SLF001  # a copy of our own
        return view

    def subject_of(self, identifier: str) -> str:
        """Return the keyed hash of an identifier, case folded."""
        return self._master.subject_of(identifier)

    async def seal(self, text: str, *, identifier: str | None = None) -> Sealed:
        """Seal `text` under the key of `identifier`, by default of `text` itself. Raises `SubjectErased`."""
        return await self.seal_under(text, subject=self.subject_of(text if identifier is None else identifier))

    async def seal_under(self, text: str, *, subject: str) -> Sealed:
        """Seal `text` under a known subject. Raises `SubjectErased`."""
        if subject not in self._held.keys:
            self._held.keys[subject] = SubjectKey(self._randomness.token_bytes(KEY_BYTES))
        return self._key(subject).seal(text, subject=subject)

    async def open(self, sealed: Sealed) -> str:
        """Return the text. Raises `SubjectErased`, `SubjectRestricted`."""
        key = self._key(sealed.subject)
        until = self._held.restricted_until.get(sealed.subject)
        if until is not None and not self._is_evidence:
            raise SubjectRestricted(subject=sealed.subject, until=until)
        return key.open(sealed)

    def _key(self, subject: str) -> SubjectKey:
        key = self._held.keys.get(subject)
        if key is None:
            raise SubjectErased(subject=subject)
        return key

    async def bind(self, dependent: str, *, to: str) -> None:
        """Let the data of one subject share the fate of another's."""
        self._held.bound_to.setdefault(to, set()).add(dependent)
        if to in self._held.keys and self._held.keys[to] is None:
            await self.erase(dependent)
        elif to in self._held.restricted_until:
            await self.restrict(dependent, until=self._held.restricted_until[to])

    async def restrict(self, subject: str, *, until: datetime) -> None:
        """Close the subject's data, and what is bound to it, to all but evidence until a moment."""
        for each in (subject, *self._held.bound_to.get(subject, ())):
            if self._held.keys.get(each) is not None:
                known = self._held.restricted_until.get(each, until)
                self._held.restricted_until[each] = max(known, until)

    async def erase(self, subject: str) -> None:
        """Destroy the subject's key and those bound to it; twice is as once."""
        for each in (subject, *self._held.bound_to.get(subject, ())):
            self._held.keys[each] = None
            self._held.restricted_until.pop(each, None)

    async def erase_due(self) -> int:
        """Destroy the keys whose restriction is over; return how many."""
        now = self._clock.now()
        due = [subject for subject, until in self._held.restricted_until.items() if until <= now]
        for subject in due:
            await self.erase(subject)
        return len(due)
