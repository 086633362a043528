"""Sends what `deliveries` holds: one channel per counterparty, so that one in trouble delays nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

import structlog

from emobility.domain.errors import EmobilityError, Unavailable
from emobility.domain.identifiers import PartyId
from emobility.ports.http import PeerTimedOut, PeerUnreachable, ResponseTooLarge
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi.client import (
    HubCouldNotDeliver,
    NotAuthenticatedAtPeer,
    OCPIClient,
    PeerFailed,
)
from emobility.protocols.ocpi.deliveries import (
    DELIVERY,
    REASON_CHARACTERS_MAX,
    Deliveries,
    Delivery,
    DeliveryState,
    parties_with_pending,
)
from emobility.protocols.ocpi.peers import NoRoute

OBJECTS_AT_ONCE: Final = 4
"""Messages to one counterparty under way together."""
ROWS_AT_ONCE: Final = 64
"""Rows a channel looks at in one round."""
ATTEMPTS_MAX: Final = 12
"""Tries of one object whose receiver fails on it (HTTP 5xx, S 3xxx) before it counts as FAILED."""
PAUSE_S_MIN: Final = 0.25
PAUSE_S_MAX: Final = 30.0
IDLE_POLL_S: Final = 2.0
"""How soon an idle channel looks again without being woken: a wake is lost when a commit's confirmation is."""
SCAN_S: Final = 5.0
"""How often rows that another process entered are looked for."""

Connect = Callable[[PartyId, PartyId], Awaitable[OCPIClient]]
OwnParties = Callable[[UnitOfWork], Awaitable[Sequence[PartyId]]]

_log = structlog.get_logger(__name__)


class DeliveryWorker:
    """Sends the messages of one service's hosted parties; one worker per party at a time."""

    def __init__(self, ports: Ports, deliveries: Deliveries, *, own_parties: OwnParties, connect: Connect) -> None:
        self._ports = ports
        self._deliveries = deliveries
        self._own_parties = own_parties
        self._connect = connect
        self._channels: dict[tuple[PartyId, PartyId], _Channel] = {}
        self._discovered = asyncio.Event()
        deliveries.on_entry(self._wake)

    def _wake(self, own_party: PartyId, to_party: PartyId) -> None:
        self._channel(own_party, to_party).wake()

    def _channel(self, own_party: PartyId, to_party: PartyId) -> _Channel:
        channel = self._channels.get((own_party, to_party))
        if channel is None:
            channel = self._channels[own_party, to_party] = _Channel(
                self._ports, self._deliveries, self._connect, own_party=own_party, to_party=to_party
            )
            self._discovered.set()
        return channel

    async def run(self, stop: asyncio.Event) -> None:
        """Send until `stop` is set; a message under way is finished or runs into its time-out."""
        running: dict[tuple[PartyId, PartyId], asyncio.Task[None]] = {}
        try:
            while not stop.is_set():
                await self._scan()
                self._discovered.clear()
                for pair, channel in list(self._channels.items()):
                    if pair not in running or running[pair].done():
                        running[pair] = asyncio.create_task(channel.run(stop))
                await _first_of(self._discovered, stop, within_s=SCAN_S)
        finally:
            await asyncio.gather(*running.values(), return_exceptions=True)

    async def _scan(self) -> None:
        try:
            async with self._ports.units.begin() as unit:
                for pair in await parties_with_pending(unit, await self._own_parties(unit)):
                    self._channel(*pair)
        except Unavailable as error:
            _log.warning("delivery_scan_failed", reason=str(error))


async def _first_of(event: asyncio.Event, stop: asyncio.Event, *, within_s: float) -> None:
    """Return when either is set or the time is over."""
    waiters = [asyncio.create_task(event.wait()), asyncio.create_task(stop.wait())]
    try:
        await asyncio.wait(waiters, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiter in waiters:
            waiter.cancel()
        await asyncio.gather(*waiters, return_exceptions=True)


class _CounterpartyDown(Exception):
    """The counterparty, not the message, is the trouble: the whole channel pauses."""


class _Channel:
    """Messages of one of our parties to one counterparty."""

    def __init__(
        self, ports: Ports, deliveries: Deliveries, connect: Connect, *, own_party: PartyId, to_party: PartyId
    ) -> None:
        self._ports = ports
        self._deliveries = deliveries
        self._connect = connect
        self._own_party = own_party
        self._to_party = to_party
        self._woken = asyncio.Event()
        self._failures = 0
        self._paused_until_s: dict[str, float] = {}

    def wake(self) -> None:
        self._woken.set()

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self._woken.clear()
            try:
                is_more_likely = await self._round()
                self._failures = 0
            except _CounterpartyDown:
                self._failures += 1
                # The breaker: while it is down, one round of tries per pause, whatever is entered meanwhile.
                await _first_of(asyncio.Event(), stop, within_s=self._pause_s(self._failures))
                continue
            except Unavailable as error:
                _log.warning("delivery_round_failed", own_party=str(self._own_party), reason=str(error))
                is_more_likely = False
            if not is_more_likely:
                await _first_of(self._woken, stop, within_s=self._idle_s())

    def _idle_s(self) -> float:
        """Return how long there is nothing to do unless woken: a message that failed is tried again after its pause."""
        now_s = self._ports.timer.monotonic_s()
        return min([IDLE_POLL_S, *(max(until_s - now_s, 0.0) for until_s in self._paused_until_s.values())])

    async def _round(self) -> bool:
        """Send the first message of each object that waits; tell whether another round can send more at once."""
        async with self._ports.units.begin() as unit:
            waiting = await unit.table(DELIVERY).select(
                {"own_party": self._own_party, "to_party": self._to_party, "state": DeliveryState.PENDING},
                order_by=("position",),
                limit=ROWS_AT_ONCE,
            )
            blocked = await _behind_failed(unit, waiting)
        for entry, reason in blocked.values():
            await self._note(entry, reason=reason, attempts=entry.attempts, state=DeliveryState.FAILED)
        now_s = self._ports.timer.monotonic_s()
        self._paused_until_s = {key: until_s for key, until_s in self._paused_until_s.items() if until_s > now_s}
        heads: dict[str, Delivery] = {}
        for entry in waiting:
            if entry.delivery_id in blocked:
                continue
            heads.setdefault(entry.object_key, entry)
        ready = [each for each in heads.values() if each.object_key not in self._paused_until_s]
        if not ready:
            return bool(blocked)
        client = await self._client(ready[0])
        outcomes: list[bool | BaseException] = []
        for first in range(0, len(ready), OBJECTS_AT_ONCE):
            together = ready[first : first + OBJECTS_AT_ONCE]
            outcomes += await asyncio.gather(*(self._send(client, each) for each in together), return_exceptions=True)
            for outcome in outcomes:
                if isinstance(outcome, BaseException):
                    raise outcome
        sent = sum(outcome is True for outcome in outcomes)
        return sent > 0 and (len(waiting) > sent or len(waiting) == ROWS_AT_ONCE)

    async def _client(self, head: Delivery) -> OCPIClient:
        try:
            return await self._connect(self._own_party, self._to_party)
        except NoRoute as error:
            await self._note(head, reason=str(error))
            raise _CounterpartyDown from error

    async def _send(self, client: OCPIClient, entry: Delivery) -> bool:
        """Send one message. Returns whether it left the queue. Raises `_CounterpartyDown`."""
        try:
            message = await self._deliveries.open(entry)
            url = message.url or client.url_of(entry.module, entry.interface_role, message.path, message.query)
            await client.send(
                entry.method,
                url,
                None if bytes(message.body) == b"null" else bytes(message.body),
                to_party=entry.to_party if entry.is_routed else None,
                correlation_id=entry.correlation_id,
            )
        except (PeerUnreachable, PeerTimedOut, HubCouldNotDeliver, NotAuthenticatedAtPeer) as error:
            await self._note(entry, reason=_reason(error))
            raise _CounterpartyDown from error
        except (PeerFailed, ResponseTooLarge) as error:
            return await self._failed_on(entry, _reason(error))
        except Unavailable as error:
            await self._note(entry, reason=_reason(error))
            raise _CounterpartyDown from error
        except EmobilityError as error:
            await self._give_up(entry, _reason(error))
            return True
        return await self._delivered(entry)

    async def _delivered(self, entry: Delivery) -> bool:
        self._paused_until_s.pop(entry.object_key, None)
        async with self._ports.units.begin() as unit:
            # If a newer state replaced it while it was under way, that one is still to be sent.
            if await unit.table(DELIVERY).delete(
                entry.own_party, entry.delivery_id, where={"revision": entry.revision}
            ):
                await unit.commit(is_repeatable=True)  # lost, it is sent once more, and has no effect there
        return True

    async def _failed_on(self, entry: Delivery, reason: str) -> bool:
        attempts = entry.attempts + 1
        if attempts >= ATTEMPTS_MAX:
            await self._give_up(entry, reason)
            return True
        self._paused_until_s[entry.object_key] = self._ports.timer.monotonic_s() + self._pause_s(attempts)
        await self._note(entry, reason=reason, attempts=attempts)
        return False

    async def _give_up(self, entry: Delivery, reason: str) -> None:
        _log.error(
            "delivery_refused",
            own_party=str(entry.own_party),
            to_party=str(entry.to_party),
            module=entry.module,
            object_key=entry.object_key,
            correlation_id=entry.correlation_id,
            reason=reason,
        )
        self._paused_until_s.pop(entry.object_key, None)
        await self._note(entry, reason=reason, attempts=entry.attempts + 1, state=DeliveryState.FAILED)

    async def _note(
        self,
        entry: Delivery,
        *,
        reason: str,
        attempts: int | None = None,
        state: DeliveryState = DeliveryState.PENDING,
    ) -> None:
        if entry.reason == reason and attempts is None:
            return
        async with self._ports.units.begin() as unit:
            current = await unit.table(DELIVERY).get_for_update(entry.own_party, entry.delivery_id)
            if current is not None and current.revision == entry.revision:
                tries = entry.attempts if attempts is None else attempts
                await unit.table(DELIVERY).put(replace(current, reason=reason, attempts=tries, state=state))
                await unit.commit()

    def _pause_s(self, failures: int) -> float:
        """Return a pause that doubles with each failure, less up to half of it by chance."""
        longest = min(PAUSE_S_MIN * (1 << min(failures - 1, 16)), PAUSE_S_MAX)
        chance = int.from_bytes(self._ports.randomness.token_bytes(2), "big") / 65536
        return longest * (1 - chance / 2)


async def _behind_failed(unit: UnitOfWork, waiting: Sequence[Delivery]) -> dict[str, tuple[Delivery, str]]:
    """Return, by id, what may not overtake a failed message of its object that must not be lost, and why.

    A credit means nothing to who never got the CDR. It fails with the message it waits for, so an operator sees both.
    """
    if not waiting:
        return {}
    failed = await unit.table(DELIVERY).select(
        {
            "own_party": waiting[0].own_party,
            "to_party": waiting[0].to_party,
            "object_key": tuple(dict.fromkeys(each.object_key for each in waiting)),
            "state": DeliveryState.FAILED,
            "is_replaceable": False,
        },
        order_by=("-position",),
    )
    first = {each.object_key: each for each in failed}
    return {
        each.delivery_id: (each, f"it waits for delivery {first[each.object_key].delivery_id}, which failed")
        for each in waiting
        if each.object_key in first and first[each.object_key].position < each.position
    }


def _reason(error: EmobilityError) -> str:
    kind = type(error).__name__
    return f"{kind}: {error}"[:REASON_CHARACTERS_MAX]
