"""Sends what `deliveries` holds: one channel per counterparty, so that one in trouble delays nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog

from emobility.domain.errors import EmobilityError, RuleBroken, Unavailable
from emobility.domain.identifiers import PartyId
from emobility.domain.personal import SubjectErased
from emobility.ports.http import ResponseTooLarge
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi.client import MissingAtPeer, OCPIClient, PeerInterface
from emobility.protocols.ocpi.deliveries import (
    DELIVERY,
    REASON_CHARACTERS_MAX,
    Deliveries,
    Delivery,
    DeliveryState,
    parties_with_pending,
)

OBJECTS_AT_ONCE: Final = 4
"""Messages to one counterparty under way together; also how many probe one that is down."""
OBJECTS_UNTIL_DOWN: Final = 4
"""Objects that fail one after the other, nothing delivered in between, until their counterparty counts as down."""
ROWS_AT_ONCE: Final = 64
"""Rows a channel reads at once, and messages it starts in one round."""
ATTEMPTS_MAX: Final = 12
"""Tries of one object that others got past before it counts as FAILED; what must not be lost is tried on."""
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
        self._departures = _Departures(ports)
        self._channels: dict[tuple[PartyId, PartyId], _Channel] = {}
        self._discovered = asyncio.Event()
        deliveries.on_entry(self._wake)

    def _wake(self, own_party: PartyId, to_party: PartyId) -> None:
        self._channel(own_party, to_party).wake()

    def _channel(self, own_party: PartyId, to_party: PartyId) -> _Channel:
        channel = self._channels.get((own_party, to_party))
        if channel is None:
            channel = self._channels[own_party, to_party] = _Channel(
                self._ports,
                self._deliveries,
                self._departures,
                self._connect,
                own_party=own_party,
                to_party=to_party,
            )
            self._discovered.set()
        return channel

    async def run(self, stop: asyncio.Event) -> None:
        """Send until `stop` is set; a message under way is finished or runs into its time-out.

        What fails for another reason than a message or its counterparty fails this: whoever runs us must hear of it.
        """
        running: set[tuple[PartyId, PartyId]] = set()
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: self._wake_all())
        try:
            async with asyncio.TaskGroup() as channels:
                while not stop.is_set():
                    await self._scan()
                    self._discovered.clear()
                    for pair in self._channels.keys() - running:
                        channels.create_task(self._channels[pair].run(stop))
                        running.add(pair)
                    await _wait(self._discovered, within_s=SCAN_S)
        finally:
            stopping.cancel()

    def _wake_all(self) -> None:
        self._discovered.set()
        for channel in self._channels.values():
            channel.wake()

    async def _scan(self) -> None:
        try:
            async with self._ports.units.begin() as unit:
                for pair in await parties_with_pending(unit, await self._own_parties(unit)):
                    self._channel(*pair)
        except Unavailable as error:
            _log.warning("delivery_scan_failed", reason=str(error))


async def _wait(event: asyncio.Event, *, within_s: float) -> None:
    """Return when it is set or the time is over."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await event.wait()


class _Departures:
    """Takes what was delivered out of the queue: one unit for all that was delivered while the last was under way."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._entries: list[Delivery] = []
        self._next: asyncio.Task[None] | None = None
        self._one_at_a_time = asyncio.Lock()

    async def enter(self, entry: Delivery) -> None:
        """Return once the message left the queue. Raises `Unavailable`: it may have."""
        self._entries.append(entry)
        if self._next is None:
            self._next = asyncio.create_task(self._remove())
        await asyncio.shield(self._next)

    async def _remove(self) -> None:
        async with self._one_at_a_time:
            entries, self._entries, self._next = self._entries, [], None
            async with self._ports.units.begin() as unit:
                for entry in entries:
                    # If a newer state replaced it while it was under way, that one is still to be sent.
                    await unit.table(DELIVERY).remove(
                        entry.own_party, entry.delivery_id, where={"revision": entry.revision}
                    )
                await unit.commit(is_repeatable=True)  # lost, they are sent once more, and have no effect there


@dataclass(slots=True, kw_only=True)
class _Trouble:
    """An object that did not get through. `delivered`: what its channel had delivered when it failed last."""

    failures: int = 0
    paused_until_s: float = 0.0
    delivered: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What a look at the queue found: what to send, what must not be sent, and whether more than that waits."""

    due: list[Delivery]
    blocked: list[tuple[Delivery, str]]
    leaves_some: bool


class _Channel:
    """Messages of one of our parties to one counterparty.

    Most failures don't tell whether the counterparty or one message is the trouble: a hub says 4000 and a call times
    out for either. So an object that fails pauses by itself, and only when `OBJECTS_UNTIL_DOWN` of them failed with
    nothing delivered in between does the channel pause as a whole. It is then probed with a few objects per pause,
    those first that were tried least, so that no number of bad ones stands before a good one for good.
    """

    def __init__(
        self,
        ports: Ports,
        deliveries: Deliveries,
        departures: _Departures,
        connect: Connect,
        *,
        own_party: PartyId,
        to_party: PartyId,
    ) -> None:
        self._ports = ports
        self._deliveries = deliveries
        self._departures = departures
        self._connect = connect
        self._own_party = own_party
        self._to_party = to_party
        self._woken = asyncio.Event()
        self._places = asyncio.Semaphore(OBJECTS_AT_ONCE)
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._troubled: dict[str, _Trouble] = {}
        self._delivered = 0
        self._failing: set[str] = set()
        """Objects that failed since anything was delivered."""
        self._pauses = 0
        """Pauses of the whole channel since anything was delivered; 0: the counterparty is up, as far as we know."""
        self._down_until_s = 0.0
        self._leaves_some = True
        """Whether the round under way may leave, or the last one left, more than it began to send."""
        self._has_failed = True
        """Whether messages that must not be lost may have failed for good; only then others wait behind them."""

    def wake(self) -> None:
        self._woken.set()

    async def run(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as attempts:
            while not stop.is_set():
                self._woken.clear()
                self._leaves_some = True
                try:
                    idle_s = await self._round(attempts, stop)
                except Unavailable as error:
                    _log.warning("delivery_round_failed", own_party=str(self._own_party), reason=str(error))
                    idle_s = IDLE_POLL_S
                await _wait(self._woken, within_s=idle_s)

    async def _round(self, attempts: asyncio.TaskGroup, stop: asyncio.Event) -> float:
        """Start what is due; return for how long there is nothing to do unless woken, in s."""
        self._under_way = {key: task for key, task in self._under_way.items() if not task.done()}
        if self._is_down:
            # While it is down, one round of tries per pause, whatever is entered meanwhile.
            await _wait(stop, within_s=self._down_until_s - self._now_s)
        async with self._ports.units.begin() as unit:
            look = await self._look(unit)
        for entry, reason in look.blocked:
            await self._note(entry, reason=reason, attempts=entry.attempts, state=DeliveryState.FAILED)
        due = look.due[: OBJECTS_AT_ONCE - len(self._under_way)] if self._pauses else look.due
        if not due:
            return IDLE_POLL_S if self._places.locked() else self._idle_s()
        try:
            client = await self._connect(self._own_party, self._to_party)
        except RuleBroken as error:  # there is no route, or what leads there can't be read
            await self._note(due[0], reason=_reason(error))
            self._pause_all()
            return 0.0
        for entry in due:
            await self._places.acquire()
            if stop.is_set() or self._is_down:
                self._places.release()
                break
            self._under_way[entry.object_key] = attempts.create_task(self._attempt(client, entry))
        else:
            self._leaves_some = look.leaves_some or len(due) < len(look.due)
        return self._idle_s()

    async def _look(self, unit: UnitOfWork) -> _Look:
        """Find the first message of each object that may be sent now, and what may not be sent, with the reason.

        Looks past whatever pauses or is under way, to the end of the queue if need be. What failed before comes last.
        """
        seen: set[str] = set()
        untried: list[Delivery] = []
        tried: list[Delivery] = []
        blocked: list[tuple[Delivery, str]] = []
        # Messages under way may leave the queue meanwhile. Pages overlap by as many, so that none is jumped over, which
        # would let a later message of its object go first.
        for offset in itertools.count(0, ROWS_AT_ONCE - OBJECTS_AT_ONCE):
            waiting = await unit.table(DELIVERY).select(
                {"own_party": self._own_party, "to_party": self._to_party, "state": DeliveryState.PENDING},
                order_by=("position",),
                offset=offset,
                limit=ROWS_AT_ONCE,
            )
            behind = await self._behind_failed(unit, waiting)
            blocked += behind.values()
            for entry in waiting:
                key = entry.object_key
                if entry.delivery_id in behind or key in seen:
                    continue
                seen.add(key)
                trouble = self._troubled.get(key)
                if key in self._under_way or (trouble and trouble.paused_until_s > self._now_s):
                    continue
                (tried if trouble else untried).append(entry)
            if len(untried) >= ROWS_AT_ONCE:
                break
            if len(waiting) < ROWS_AT_ONCE:
                # Whoever is not in the queue any more needs no pause.
                self._troubled = {key: each for key, each in self._troubled.items() if key in seen}
                break
        tried.sort(key=lambda entry: self._troubled[entry.object_key].failures)
        due = (untried + tried)[:ROWS_AT_ONCE]
        return _Look(due=due, blocked=blocked, leaves_some=bool(offset) or len(due) < len(waiting))

    async def _attempt(self, client: OCPIClient, entry: Delivery) -> None:
        is_through = False
        try:
            is_through = await self._send(client, entry)
        except Unavailable as error:  # our own database, most likely: the row is as it was
            self._doubt(entry)
            _log.warning("delivery_not_noted", own_party=str(self._own_party), reason=str(error))
        finally:
            self._places.release()
            if is_through:
                self._troubled.pop(entry.object_key, None)
            if self._leaves_some or not is_through:
                self._woken.set()

    async def _send(self, client: OCPIClient, entry: Delivery) -> bool:
        """Send one message; tell whether it left the queue."""
        try:
            message = await self._deliveries.open(entry)
            url = message.url or client.url_of(entry.module, entry.interface_role, message.path, message.query)
            await client.send(
                entry.method,
                url,
                None if bytes(message.body) == b"null" else bytes(message.body),
                to_party=entry.to_party if entry.is_routed else None,
                correlation_id=entry.correlation_id,
                at=PeerInterface(entry.module, entry.interface_role, message.path),
            )
        except ResponseTooLarge as error:
            return await self._failed_on(entry, _reason(error))
        except Unavailable as error:
            return await self._not_through(entry, _reason(error))
        except SubjectErased:
            # Nobody can read it any more, so it is owed to nobody.
            await self._departures.enter(entry)
            return True
        except EmobilityError as error:
            # Taken away twice is as once: the answer to an earlier DELETE was lost. A 404 that is no OCPI says nothing.
            is_gone = isinstance(error, MissingAtPeer) and error.status_code is not None
            if entry.method != "DELETE" or not is_gone:
                await self._give_up(entry, _reason(error))
                return True
        except Exception as error:  # noqa: BLE001 - a fault of ours in one message must not end the others
            _log.error("delivery_failed", delivery_id=entry.delivery_id, exc_info=error)
            await self._give_up(entry, f"it can't be sent: {type(error).__name__}")
            return True
        self._is_up()
        await self._departures.enter(entry)
        return True

    def _is_up(self) -> None:
        """Something was delivered: the counterparty is up, and what an outage put off is due."""
        if self._pauses:
            for trouble in self._troubled.values():
                trouble.paused_until_s = 0.0
        self._delivered += 1
        self._failing.clear()
        self._pauses = 0
        self._down_until_s = 0.0

    async def _failed_on(self, entry: Delivery, reason: str) -> bool:
        """The receiver fails on this object, not on all: it is given up in the end, if a newer state may replace it."""
        attempts = entry.attempts + 1
        if attempts >= ATTEMPTS_MAX and entry.is_replaceable:
            await self._give_up(entry, reason)
            return True
        if attempts == ATTEMPTS_MAX:
            self._log_trouble("delivery_stuck", entry, reason)
        self._pause(entry)
        await self._note(entry, reason=reason, attempts=attempts)
        return False

    async def _not_through(self, entry: Delivery, reason: str) -> bool:
        """The message or the counterparty is the trouble. Only what others got past counts against the message.

        An HTTP 503 says no more than silence does: an overloaded or restarting platform gives it to everything.
        """
        trouble = self._troubled.get(entry.object_key)
        if trouble is not None and self._delivered > trouble.delivered:
            self._failing.add(entry.object_key)
            return await self._failed_on(entry, reason)
        self._doubt(entry)
        await self._note(entry, reason=reason)
        return False

    def _doubt(self, entry: Delivery) -> None:
        self._pause(entry)
        self._failing.add(entry.object_key)
        if len(self._failing) >= OBJECTS_UNTIL_DOWN and not self._is_down:
            self._pause_all()

    def _pause(self, entry: Delivery) -> None:
        trouble = self._troubled.setdefault(entry.object_key, _Trouble())
        trouble.failures += 1
        trouble.delivered = self._delivered
        trouble.paused_until_s = self._now_s + self._pause_s(trouble.failures)

    def _pause_all(self) -> None:
        self._pauses += 1
        self._down_until_s = self._now_s + self._pause_s(self._pauses)

    @property
    def _now_s(self) -> float:
        return self._ports.timer.monotonic_s()

    @property
    def _is_down(self) -> bool:
        return self._down_until_s > self._now_s

    def _idle_s(self) -> float:
        """Return how long nothing is due unless woken: a message that failed is tried again after its pause."""
        paused = [
            max(each.paused_until_s - self._now_s, 0.0)
            for key, each in self._troubled.items()
            if key not in self._under_way
        ]
        return min([IDLE_POLL_S, *paused])

    async def _behind_failed(self, unit: UnitOfWork, waiting: Sequence[Delivery]) -> dict[str, tuple[Delivery, str]]:
        """Return, by id, what may not overtake a failed message of its object that must not be lost, and why.

        A credit means nothing to who never got the CDR. It fails with the message it waits for, so an operator sees
        both.
        """
        if not self._has_failed or not waiting:
            return {}
        of_channel = {
            "own_party": self._own_party,
            "to_party": self._to_party,
            "state": DeliveryState.FAILED,
            "is_replaceable": False,
        }
        self._has_failed = False  # before the question, so that what fails meanwhile is not forgotten
        if not await unit.table(DELIVERY).count(of_channel):
            return {}
        self._has_failed = True
        keys = tuple(dict.fromkeys(each.object_key for each in waiting))
        failed = await unit.table(DELIVERY).select(of_channel | {"object_key": keys}, order_by=("-position",))
        first = {each.object_key: each for each in failed}
        return {
            each.delivery_id: (each, f"it waits for delivery {first[each.object_key].delivery_id}, which failed")
            for each in waiting
            if not each.is_replaceable and each.object_key in first and first[each.object_key].position < each.position
        }

    async def _give_up(self, entry: Delivery, reason: str) -> None:
        self._log_trouble("delivery_refused", entry, reason)
        await self._note(entry, reason=reason, attempts=entry.attempts + 1, state=DeliveryState.FAILED)

    def _log_trouble(self, what: str, entry: Delivery, reason: str) -> None:
        _log.error(
            what,
            own_party=str(entry.own_party),
            to_party=str(entry.to_party),
            module=entry.module,
            object_key=entry.object_key,
            correlation_id=entry.correlation_id,
            reason=reason,
        )

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
        self._has_failed = self._has_failed or state is DeliveryState.FAILED
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


def _reason(error: EmobilityError) -> str:
    kind = type(error).__name__
    return f"{kind}: {error}"[:REASON_CHARACTERS_MAX]
