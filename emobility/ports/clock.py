"""Two kinds of time, and chance. Each is injected, so that a seeded simulator can run the real code."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Business time: timestamps, tariffs, deadlines. May be stepped in a demo; never used for time-outs."""

    def now(self) -> datetime:
        """Return the present moment, aware, UTC."""

    async def sleep_until(self, at: datetime) -> None:
        """Return once `now()` has reached `at`."""


class Timer(Protocol):
    """Transport time: pings, time-outs, back-off. Monotonic and never accelerated."""

    def monotonic_s(self) -> float:
        """Return seconds since some fixed moment."""

    async def sleep(self, duration_s: float) -> None:
        """Return after `duration_s` seconds."""


class Randomness(Protocol):
    """Chance: keys, nonces, identifiers."""

    def token_bytes(self, count: int) -> bytes:
        """Return `count` bytes nobody can guess (in a simulation: that only the seed can)."""

    def uuid(self) -> str:
        """Return a random UUID (version 4) as text."""
