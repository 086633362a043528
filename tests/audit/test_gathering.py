"""Books are gathered from a log that forgets and from which operators discarded events."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from emobility.adapters.memory import MemoryAdapters, SeededRandomness, VirtualClock, memory_adapters
from emobility.domain.identifiers import PartyId
from emobility.domain.meter import MeterReading
from emobility.domain.transaction import metered_wh
from emobility.events.charging import CHARGING, TransactionStarted, TransactionUpdated
from emobility.events.event import Envelope, LoggedEvent
from emobility.ports.event_log import Bounds, Handler, partition_of
from emobility.ports.unit_of_work import UnitOfWork
from services.audit.books import CPO_GROUP, gather_books

T0: Final = datetime(2022, 3, 27, tzinfo=UTC)
PARTY: Final = PartyId("NL-TUL")
KEY: Final = (PARTY, "S1", "7")
PARTITION: Final = partition_of("NL-TUL/S1")
DEADLINE_S: Final = 10.0


def started_and_updated() -> list[Envelope]:
    """A transaction that begins at 1,000 Wh and is at 1,040 Wh a minute later."""
    started = TransactionStarted(
        party_id=PARTY,
        charging_station_id="S1",
        transaction_id="7",
        seq_no=0,
        occurred_at=T0,
        is_offline=False,
        readings=(MeterReading(at=T0, import_wh=1_000),),
        ocpp_evse_id=1,
        connector_id=1,
    )
    later = T0 + timedelta(minutes=1)
    updated = TransactionUpdated(
        party_id=PARTY,
        charging_station_id="S1",
        transaction_id="7",
        seq_no=1,
        occurred_at=later,
        is_offline=False,
        readings=(MeterReading(at=later, import_wh=1_040),),
    )
    return [
        Envelope(event=event, event_id=str(event.seq_no), correlation_id="c", recorded_at=T0)
        for event in (started, updated)
    ]


async def consumed(memory: MemoryAdapters, handler: Handler) -> None:
    """Let the CPO's group come to the end of the log."""
    stop = asyncio.Event()
    consumer = asyncio.create_task(memory.event_log.consume(CPO_GROUP, [CHARGING], handler, stop=stop))
    async with asyncio.timeout(DEADLINE_S):
        while (await memory.event_log.lag()).get(CPO_GROUP) != 0:  # noqa: ASYNC110 - nobody sets an event for it
            await asyncio.sleep(0)
    stop.set()
    await consumer


async def test_a_discarded_event_stays_metered_in_the_log_and_is_told_apart() -> None:
    clock = VirtualClock(T0)
    memory = memory_adapters(master_key=b"k" * 32, clock=clock, randomness=SeededRandomness(1))

    async def refuse_updates(_unit: UnitOfWork, events: Sequence[LoggedEvent]) -> None:
        if any(isinstance(logged.envelope.event, TransactionUpdated) for logged in events):
            raise ValueError("no station can send this")

    await memory.event_log.append(started_and_updated())
    await consumed(memory, refuse_updates)
    await memory.event_log.discard_parked(
        CPO_GROUP, topic=CHARGING, partition=PARTITION, offset=1, who="ann", why="a test"
    )

    books = await gather_books(memory.units, memory.event_log)

    assert [each.who for each in books.discarded] == ["ann"]
    assert books.parked == []
    assert metered_wh(books.logged_transactions[KEY]).import_wh == 40
    assert metered_wh(books.without_discarded[KEY]).import_wh == 0
    assert [report.seq_no for report in books.without_discarded[KEY].reports] == [0]


async def test_a_pruned_log_is_known_by_its_bounds() -> None:
    clock = VirtualClock(T0)
    memory = memory_adapters(master_key=b"k" * 32, clock=clock, randomness=SeededRandomness(1))

    async def handle(_unit: UnitOfWork, _events: Sequence[LoggedEvent]) -> None:
        return

    await memory.event_log.append(started_and_updated())
    await consumed(memory, handle)
    clock.step_by(timedelta(days=91))
    await memory.event_log.prune()

    books = await gather_books(memory.units, memory.event_log)

    assert books.log_bounds == {(CHARGING, PARTITION): Bounds(first=2, end=2)}
    assert books.logged_transactions == {}
