"""Rates: a bucket earns tokens as time goes by, up to a burst, and whoever wants something spends them.

No clock: time is an argument, monotonic, in seconds.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

KEYS_MAX: Final = 20_000
"""Keys whose buckets are remembered; the longest untouched is forgotten, and begins anew with a full one."""


class TokenBucket:
    """Begins full. It may be overdrawn: then it tells how long to wait."""

    __slots__ = ("_at_s", "_burst", "_level", "_per_s")

    def __init__(self, *, per_s: float, burst: float, now_s: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._level = burst
        self._at_s = now_s

    @property
    def left(self) -> float:
        """The level at the last look."""
        return self._level

    def level(self, now_s: float) -> float:
        """Return how many tokens there are; negative: overdrawn."""
        self._level = min(self._burst, self._level + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        return self._level

    def spend(self, tokens: float, now_s: float) -> None:
        """Take tokens, also those that are not there yet."""
        level = self._level + (now_s - self._at_s) * self._per_s
        self._level = (min(level, self._burst)) - tokens  # no call of min(): each frame spends twice
        self._at_s = now_s

    def take(self, now_s: float) -> bool:
        """Take one token if it is there; tell whether it was."""
        if self.level(now_s) < 1:
            return False
        self._level -= 1
        return True

    def wait_s(self, tokens: float, now_s: float) -> float:
        """Return after how many seconds so many tokens are there."""
        return max(0.0, (tokens - self.level(now_s)) / self._per_s)


class KeyedBuckets:
    """Buckets of one kind, one for each key; `KEYS_MAX` of them."""

    def __init__(self, *, per_s: float, burst: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def is_spent(self, key: str, now_s: float) -> bool:
        """Tell whether the key has no whole token left."""
        bucket = self._buckets.get(key)
        return bucket is not None and bucket.level(now_s) < 1

    def take(self, key: str, now_s: float) -> bool:
        """Take one of the key's tokens if it is there; tell whether it was."""
        return self._of(key, now_s).take(now_s)

    def spend(self, key: str, now_s: float) -> None:
        """Take one of the key's tokens, also if it is not there yet."""
        self._of(key, now_s).spend(1, now_s)

    def wait_s(self, key: str, now_s: float) -> float:
        """Return after how many seconds the key has a token."""
        return self._of(key, now_s).wait_s(1, now_s)

    def _of(self, key: str, now_s: float) -> TokenBucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = TokenBucket(per_s=self._per_s, burst=self._burst, now_s=now_s)
            if len(self._buckets) > KEYS_MAX:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        return bucket
