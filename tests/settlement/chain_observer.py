"""Somebody who reads a chain and nothing else: every transaction, event and stored word of it."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any

from emobility.adapters.memory.chain import FakeChain

WORD = 32
SELECTOR = 4
ZEROS_OF_A_NUMBER = 8
"""A word with fewer zero bytes is a hash, a salted hash, a signature or code: nothing can be read in it."""


@dataclass
class ChainObserver:
    """Reads a chain; what is random to look at becomes the number of its first appearance, everything else stays."""

    chain: FakeChain

    def everything(self) -> list[Any]:
        """Return all that the chain holds, in order."""
        self._known: dict[bytes, int] = {}
        return [*self._transactions(), *self._storage()]

    def posted(self) -> set[bytes]:
        """Return every word of all calldata and events."""
        words: set[bytes] = set()
        for calldata in self.calldata():
            words.update(_words(calldata[SELECTOR:]))
        for block in self.chain._blocks:
            for receipt in block.receipts.values():
                for log in receipt.logs:
                    words.update([*log.topics, *_words(log.data)])
        return words

    def calldata(self) -> Iterator[bytes]:
        for block in self.chain._blocks:
            for sent in block.sent:
                yield sent.transaction.calldata

    def _transactions(self) -> Iterator[Any]:
        for block in self.chain._blocks:
            for sent in block.sent:
                to, calldata = sent.transaction.to, sent.transaction.calldata
                start = SELECTOR if to is not None else len(calldata) % WORD
                yield sent.sender, to, calldata[:start][:SELECTOR], self._read(calldata[start:])
                for log in block.receipts[sent.hash].logs:
                    yield log.address, [self._shown(topic) for topic in log.topics], self._read(log.data)

    def _storage(self) -> Iterator[Any]:
        for key, value in self.chain._state.items():
            yield self._shown_value(key), self._shown_value(value)

    def _read(self, data: bytes) -> list[int | bytes]:
        return [self._shown(word) for word in _words(data)]

    def _shown(self, word: bytes) -> int | bytes:
        is_number = word.count(0) >= ZEROS_OF_A_NUMBER or word.startswith(b"\xff" * 16)
        return word if is_number else self._known.setdefault(word, len(self._known))

    def _shown_value(self, value: Hashable) -> Any:
        if isinstance(value, tuple):
            return tuple(self._shown_value(each) for each in value)
        if isinstance(value, bytes) and len(value) >= WORD:
            return self._read(value)
        return value


def _words(data: bytes) -> list[bytes]:
    return [data[start : start + WORD] for start in range(0, len(data), WORD)]
