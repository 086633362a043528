"""When a station may connect, and when a booting one is accepted: after an outage all of them come at once.

A peer that is not authenticated yet spends only what its own address has; what all stations share is spent by stations
alone. So nobody without a password can keep the others out. Whoever is sent away is told when to come back, and no two
are told the same moment.

A boot that finds no room is told Pending, with the interval after which its turn comes (OCPP 1.6, 4.2; 2.0.1, B02):
the turn is kept for it, so nobody waits twice. When more wait than `boot_wait_s_max` allows, it is told Rejected
(B03). Nothing but the boot's own answer hangs on this: whatever a station sends meanwhile is stored as ever.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from charge_point_gateway.security import RefusalReason, StationIdentity, StationRefused
from charge_point_gateway.token_buckets import KeyedBuckets, TokenBucket
from emobility.ports.clock import Randomness, Timer

STATIONS_REMEMBERED_MAX: Final = 20_000
"""Stations whose turn or whose acceptance is remembered; the earliest is forgotten."""
ACCEPTED_REMEMBERED_S: Final = 3_600.0
"""A station accepted within this time that boots again is accepted at once: it most likely only reconnects."""
JITTER_S_MIN: Final = 2.0
JITTER_SHARE: Final = 0.1
"""What is told to wait is longer by up to this share of it, and at least by up to `JITTER_S_MIN`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionRates:
    """How much may come at once."""

    connections_per_s: float = 500.0
    """Authenticated connections of this gateway. Each costs two commits; one core takes about twice as many."""
    connections_burst: float = 2_000.0
    connections_per_s_per_address: float = 500.0
    """Attempts, good or bad, of one address: a private network may show all its stations as one."""
    connections_burst_per_address: float = 4_000.0
    connections_per_s_per_identity: float = 1.0
    connections_burst_per_identity: float = 60.0
    """A station that flaps; nobody else can spend it, for it counts what has authenticated."""
    boots_per_s: float = 300.0
    boots_burst: float = 1_000.0
    boot_wait_s_max: float = 300.0


LOOKED_UP_AT_ONCE_MAX: Final = 4
"""Peers that are looked up side by side. A process has twice as many connections to the database: stations that are in
already do not wait for those that want to be."""
WAITING_MAX: Final = 2_000
"""Peers that wait for their turn to be looked up; as many as are served before a station gives up."""
WAITING_PER_ADDRESS_MAX: Final = 1_000
BUSY_RETRY_S: Final = 5.0


class BootStatus(StrEnum):
    """RegistrationStatus, in every version."""

    ACCEPTED = "Accepted"
    PENDING = "Pending"
    REJECTED = "Rejected"


@dataclass(frozen=True, slots=True)
class BootDecision:
    """What a BootNotification is told; `interval_s`: when to send the next one, None for an accepted one."""

    status: BootStatus
    interval_s: int | None = None


BOOT_ACCEPTED: Final = BootDecision(BootStatus.ACCEPTED)


def jittered_s(wait_s: float, randomness: Randomness) -> int:
    """Return whole seconds, not less than `wait_s` and at least 1, of which no two callers get the same."""
    share = int.from_bytes(randomness.token_bytes(4)) / 2**32
    return max(1, math.ceil(wait_s + share * max(JITTER_S_MIN, wait_s * JITTER_SHARE)))


class ConnectionAdmission:
    """Lets connections in, by address before and by identity after a peer has authenticated."""

    def __init__(self, timer: Timer, randomness: Randomness, rates: AdmissionRates) -> None:
        self._timer = timer
        self._randomness = randomness
        self._of_address = KeyedBuckets(
            per_s=rates.connections_per_s_per_address, burst=rates.connections_burst_per_address
        )
        self._of_identity = KeyedBuckets(
            per_s=rates.connections_per_s_per_identity, burst=rates.connections_burst_per_identity
        )
        self._all = TokenBucket(per_s=rates.connections_per_s, burst=rates.connections_burst, now_s=timer.monotonic_s())
        self._looking_up = asyncio.Semaphore(LOOKED_UP_AT_ONCE_MAX)
        self._waiting: Counter[str] = Counter()

    def refuse_address(self, address: str) -> None:
        """Count an attempt, before anything is looked up. Raises `StationRefused`."""
        now_s = self._timer.monotonic_s()
        if not self._of_address.take(address, now_s):
            wait_s = self._of_address.wait_s(address, now_s)
            raise self.refused(RefusalReason.TOO_MANY_CONNECTIONS, 429, wait_s)

    @property
    def waiting(self) -> int:
        """How many peers wait for their turn."""
        return self._waiting.total()

    @asynccontextmanager
    async def turn(self, address: str) -> AsyncIterator[None]:
        """Wait until a peer may be looked up. Raises `StationRefused` where too many wait.

        Without it all would be begun and none finished: each would wait for the database longer than it may.
        """
        if self.waiting >= WAITING_MAX or self._waiting[address] >= WAITING_PER_ADDRESS_MAX:
            raise self.refused(RefusalReason.BUSY, 503, BUSY_RETRY_S)
        self._waiting[address] += 1
        try:
            await self._looking_up.acquire()
        finally:
            self._waiting[address] -= 1
            if not self._waiting[address]:
                del self._waiting[address]
        try:
            yield
        finally:
            self._looking_up.release()

    def refuse_station(self, identity: StationIdentity) -> None:
        """Count a connection of a station that has authenticated. Raises `StationRefused`."""
        now_s = self._timer.monotonic_s()
        if self._all.level(now_s) < 1:
            raise self.refused(RefusalReason.BUSY, 503, self._all.wait_s(1, now_s))
        if not self._of_identity.take(identity.key, now_s):
            wait_s = self._of_identity.wait_s(identity.key, now_s)
            raise self.refused(RefusalReason.TOO_MANY_CONNECTIONS, 429, wait_s)
        self._all.spend(1, now_s)

    def refused(self, reason: RefusalReason, http_status: int, wait_s: float) -> StationRefused:
        """Return the refusal that tells a peer to come back, jittered."""
        return StationRefused(reason, http_status=http_status, retry_after_s=jittered_s(wait_s, self._randomness))


class BootAdmission:
    """Accepts booting stations, as many a second as there is room for."""

    def __init__(self, timer: Timer, randomness: Randomness, rates: AdmissionRates) -> None:
        self._timer = timer
        self._randomness = randomness
        self._rates = rates
        self._room = TokenBucket(per_s=rates.boots_per_s, burst=rates.boots_burst, now_s=timer.monotonic_s())
        self._accepted_at_s: OrderedDict[StationIdentity, float] = OrderedDict()
        self._turn_at_s: OrderedDict[StationIdentity, float] = OrderedDict()

    def decide(self, identity: StationIdentity) -> BootDecision:
        """Decide about a boot that came now."""
        now_s = self._timer.monotonic_s()
        if now_s - self._accepted_at_s.get(identity, -math.inf) <= ACCEPTED_REMEMBERED_S:
            return self._accept(identity, now_s)
        turn_at_s = self._turn_at_s.get(identity)
        if turn_at_s is None:
            wait_s = self._room.wait_s(1, now_s)
            if wait_s > self._rates.boot_wait_s_max:
                return BootDecision(BootStatus.REJECTED, jittered_s(wait_s, self._randomness))
            self._room.spend(1, now_s)
            turn_at_s = now_s + wait_s
        if turn_at_s <= now_s:
            return self._accept(identity, now_s)
        _remember(self._turn_at_s, identity, turn_at_s)
        return BootDecision(BootStatus.PENDING, jittered_s(turn_at_s - now_s, self._randomness))

    def _accept(self, identity: StationIdentity, now_s: float) -> BootDecision:
        self._turn_at_s.pop(identity, None)
        _remember(self._accepted_at_s, identity, now_s)
        return BOOT_ACCEPTED


def _remember(moments: OrderedDict[StationIdentity, float], identity: StationIdentity, at_s: float) -> None:
    moments[identity] = at_s
    moments.move_to_end(identity)
    if len(moments) > STATIONS_REMEMBERED_MAX:
        moments.popitem(last=False)
