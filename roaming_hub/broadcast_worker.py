"""Sends broadcasts: a lane per receiver, so that one that is slow or dead holds up nobody else.

Objects keep their order at each receiver; different objects go side by side. What fails is tried a few times with
growing pauses, not for ever: a receiver that was away pulls. A message the hub could not note as sent is sent again
after a restart, and receivers take the same state twice as once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

import structlog

from emobility.domain.errors import EmobilityError, Unavailable
from emobility.domain.identifiers import PartyId
from emobility.domain.personal import SubjectErased
from emobility.ports.http import HttpResponse
from emobility.ports.ports import Ports
from emobility.protocols.ocpi.peers import PEER, PEER_ROLE, PeerState
from emobility.protocols.ocpi.status import OCPIError, StatusCode
from roaming_hub.addressing import Addressee, Addressing
from roaming_hub.broadcasts import (
    BROADCAST_RECEIVER,
    BroadcastOutcome,
    BroadcastReceiver,
    Broadcasts,
    Due,
)
from roaming_hub.forwarding import Forwarding, status_code_of
from roaming_hub.messages import Message
from roaming_hub.metrics import HubMetrics
from roaming_hub.recording import Recording
from roaming_hub.waiting import first_of

SENDS_AT_ONCE_MAX: Final = 128
"""Messages of broadcasts under way together, to all receivers."""
LANE_SENDS_MAX: Final = 4
"""Of those, to one receiver."""
ATTEMPTS_MAX: Final = 4
PAUSE_S: Final = 1.0
"""Pause before the second attempt; it doubles with each."""
RESTART_S: Final = 2.0
"""Pause before what was left waiting is looked for again, when the database is away."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Lane:
    """What one receiver is still to get, by object."""

    objects: dict[str, deque[Due]] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)


class BroadcastWorker:
    """Sends what `Broadcasts` entered; one worker per hub."""

    def __init__(
        self, ports: Ports, broadcasts: Broadcasts, addressing: Addressing, forwarding: Forwarding, metrics: HubMetrics
    ) -> None:
        self._ports = ports
        self._broadcasts = broadcasts
        self._addressing = addressing
        self._forwarding = forwarding
        self._metrics = metrics
        self._outcomes = Recording(ports.units, is_repeatable=True)
        self._lanes: dict[PartyId, _Lane] = {}
        self._replaced: set[tuple[str, PartyId]] = set()
        self._woken: deque[PartyId] = deque()
        self._wake = asyncio.Event()
        self._places = asyncio.Semaphore(SENDS_AT_ONCE_MAX)
        self.waiting = 0
        """Messages that were not settled yet."""
        broadcasts.sent_by(self._take, self._leave_out, lambda: self.waiting)
        metrics.watch_broadcasts(lambda: float(self.waiting))

    def _take(self, due: Due, receivers: Sequence[PartyId]) -> None:
        for receiver in receivers:
            lane = self._lanes.setdefault(receiver, _Lane())
            lane.objects.setdefault(due.broadcast.object_hash, deque()).append(due)
            self._woken.append(receiver)
        self.waiting += len(receivers)
        self._wake.set()

    def _leave_out(self, replaced: AbstractSet[tuple[str, PartyId]]) -> None:
        self._replaced |= replaced

    async def run(self, stop: asyncio.Event) -> None:
        """Send until `stop` is set; what was left waiting by an earlier run first."""
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: self._wake.set())
        try:
            async with asyncio.TaskGroup() as sends:
                await self._begin(stop)
                while not stop.is_set():
                    await self._wake.wait()
                    self._wake.clear()
                    while self._woken and not stop.is_set():
                        await self._start(self._woken.popleft(), sends, stop)
        finally:
            stopping.cancel()

    async def _begin(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                async with self._ports.units.begin() as unit:
                    left = await self._broadcasts.left_waiting(unit)
                for broadcast, receivers in left:
                    try:
                        due = await self._broadcasts.due(broadcast)
                    except SubjectErased:
                        continue  # nobody can read it any more, so it is owed to nobody
                    if due is not None:
                        known = [each for each in receivers if not self._has(due, each)]
                        self._take(due, known)
            except Unavailable as error:
                _log.warning("broadcasts_not_read", reason=str(error))
                await self._ports.timer.sleep(RESTART_S)
            else:
                return

    def _has(self, due: Due, receiver: PartyId) -> bool:
        """Tell whether it was entered while what was left waiting was read."""
        lane = self._lanes.get(receiver, _Lane())
        waiting = lane.objects.get(due.broadcast.object_hash, ())
        return any(each.broadcast.broadcast_id == due.broadcast.broadcast_id for each in waiting)

    async def _start(self, receiver: PartyId, sends: asyncio.TaskGroup, stop: asyncio.Event) -> None:
        lane = self._lanes.get(receiver)
        if lane is None:
            return
        for object_hash in list(lane.objects):
            if len(lane.running) >= LANE_SENDS_MAX:
                return
            if object_hash not in lane.running:
                lane.running.add(object_hash)
                await self._places.acquire()
                sends.create_task(self._send_object(receiver, lane, object_hash, stop))

    async def _send_object(self, receiver: PartyId, lane: _Lane, object_hash: str, stop: asyncio.Event) -> None:
        """Send one object's states in order."""
        try:
            waiting = lane.objects[object_hash]
            while waiting and not stop.is_set():
                due = waiting[0]
                name = (due.broadcast.broadcast_id, receiver)
                if name not in self._replaced and not await self._settle(receiver, due, stop):
                    return
                self._replaced.discard(name)
                waiting.popleft()
                self.waiting -= 1
        finally:
            self._places.release()
            lane.running.discard(object_hash)
            if not lane.objects.get(object_hash):
                lane.objects.pop(object_hash, None)
            if lane.objects:
                self._woken.append(receiver)
                self._wake.set()
            elif not lane.running:
                self._lanes.pop(receiver, None)

    async def _settle(self, receiver: PartyId, due: Due, stop: asyncio.Event) -> bool:
        """Send one message until its outcome is known; False: we stop before that."""
        for attempt in range(1, ATTEMPTS_MAX + 1):
            outcome, code = await self._sent(receiver, due)
            if outcome is not None or attempt == ATTEMPTS_MAX:
                await self._note(receiver, due, outcome or BroadcastOutcome.FAILED, code, attempt)
                return True
            self._places.release()
            try:
                await first_of(self._ports.timer, stop, within_s=PAUSE_S * (1 << (attempt - 1)))
            finally:
                await self._places.acquire()
            if stop.is_set():
                return False
        raise AssertionError("the last attempt has an outcome")

    async def _sent(self, receiver: PartyId, due: Due) -> tuple[BroadcastOutcome | None, int]:
        """Send once; return the outcome, None where another try may do better, and the status code."""
        try:
            message = await self._message(receiver, due)
            if message is None:
                return BroadcastOutcome.OFFLINE, int(StatusCode.NOT_CONNECTED)
            answer = await self._forwarding.exchange(message)
            code = status_code_of(answer)
        except OCPIError as error:
            if error.status_code is StatusCode.NOT_CONNECTED:
                return BroadcastOutcome.OFFLINE, int(error.status_code)
            is_final = error.status_code < StatusCode.SERVER_ERROR
            return BroadcastOutcome.REFUSED if is_final else None, int(error.status_code)
        except Unavailable as error:
            _log.warning("broadcast_not_sent", reason=str(error))
            return None, int(StatusCode.HUB_ERROR)
        except EmobilityError as error:
            _log.warning("broadcast_refused", reason=str(error))
            return BroadcastOutcome.REFUSED, int(StatusCode.CLIENT_ERROR)
        except Exception as error:  # noqa: BLE001 - a fault of ours in one message must not end the others
            _log.error("broadcast_failed", broadcast_id=due.broadcast.broadcast_id, exc_info=error)
            return BroadcastOutcome.FAILED, int(StatusCode.HUB_ERROR)
        return _outcome(answer, code), code

    async def _message(self, receiver: PartyId, due: Due) -> Message | None:
        """Address it; None: the receiver is not connected any more. Raises `InvalidParameters`."""
        hub = self._addressing.hub
        async with self._ports.units.begin() as unit:
            roles = await unit.table(PEER_ROLE).select({"own_party": hub, "party_id": receiver}, limit=1)
            peer = await unit.table(PEER).get(hub, roles[0].peer_id) if roles else None
        if peer is None or peer.state is not PeerState.REGISTERED or peer.outgoing_token is None:
            return None
        return self._addressing.message(
            due.incoming, due.broadcast.sender_party, Addressee(party=receiver, peer=peer), from_party=hub
        )

    async def _note(self, receiver: PartyId, due: Due, outcome: BroadcastOutcome, code: int, attempts: int) -> None:
        self._metrics.broadcast(due.broadcast.module, outcome, 1)
        row = BroadcastReceiver(
            broadcast_id=due.broadcast.broadcast_id,
            receiver=receiver,
            outcome=outcome,
            status_code=code,
            attempts=attempts,
            last_at=self._ports.clock.now(),
        )
        try:
            await self._outcomes.put([(BROADCAST_RECEIVER, row)])
        except Unavailable as error:
            _log.warning("broadcast_not_noted", broadcast_id=due.broadcast.broadcast_id, reason=str(error))


def _outcome(answer: HttpResponse, code: int) -> BroadcastOutcome | None:
    if 200 <= answer.status < 300 and 1000 <= code < 2000:
        return BroadcastOutcome.DELIVERED
    if answer.status in {408, 425, 429} or answer.status >= 500 or code >= 3000:
        return None
    return BroadcastOutcome.REFUSED
