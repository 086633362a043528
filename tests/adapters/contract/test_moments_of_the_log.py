"""What a moment says of the log beside its rows, and of bills: in PostgreSQL as in memory, whatever comes later."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import psycopg

from bench.settlement_books import Filling
from bench.settlement_pairs import agreements
from emobility.domain.identifiers import PartyId
from emobility.events.charging import CHARGING, TransactionEnded
from emobility.events.event import Envelope, LoggedEvent
from emobility.ports.unit_of_work import UnitOfWork
from services.audit.books import CPO_GROUP
from services.driver_mobility import records as emsp
from services.driver_mobility.billing import bill_id_of
from tests.settlement.settling import Settling, open_settling
from tests.settlement.world import T0

DEADLINE_S: Final = 20.0
CPO: Final = PartyId("NL-CAC")
MSP: Final = PartyId("NL-MAM")


async def test_a_moment_says_what_a_group_handled_and_set_aside(postgres_dsn: str) -> None:
    found = []
    for dsn in (None, postgres_dsn):
        async with open_settling(dsn) as here:
            await Filling(here, agreements()[:1]).fill(3)
            log, reconciliation = here.world.ports.event_log, here.world.ports.reconciliation
            assert reconciliation is not None
            await _consume_but(here, TransactionEnded)
            first, *_ = [each.logged for each in await log.parked(CPO_GROUP)]
            place: dict[str, Any] = {"topic": CHARGING, "partition": first.partition, "offset": first.offset}
            await log.discard_parked(CPO_GROUP, **place, who="ann", why="a test")
            async with reconciliation.moment() as moment:
                before = await moment.lag()
                if dsn is not None:  # memory looks at now
                    again = Envelope(event=first.envelope.event, event_id="again", correlation_id="c", recorded_at=T0)
                    await log.append([again])
                    assert await moment.lag() == before
                assert await moment.parked(CPO_GROUP) == await log.parked(CPO_GROUP)
                assert await moment.discarded(CPO_GROUP) == await log.discarded(CPO_GROUP)
                handled = dict(await moment.handled(CPO_GROUP))
                assert await moment.handled("nobody") == {}
                aside = [(each.logged.offset, each.reason) for each in await moment.parked(CPO_GROUP)]
                found.append((before[CPO_GROUP], handled, aside, await moment.has_log()))

    assert found[0] == found[1]
    assert found[0][0] == 0
    assert sum(found[0][1].values()) == 6
    assert len(found[0][2]) == 4  # of one station: the first that it refused is gone, the rest waits for it


async def test_bills_without_a_cdr_are_found_in_postgresql_as_in_memory(postgres_dsn: str) -> None:
    found = []
    for dsn in (None, postgres_dsn):
        async with open_settling(dsn) as here:
            await Filling(here, agreements()[:1]).fill(2)
            async with here.world.ports.units.begin() as unit:
                await unit.table(emsp.CDRS).delete(MSP, CPO, "s0000001")
                await unit.commit()
            reconciliation = here.world.ports.reconciliation
            assert reconciliation is not None
            async with reconciliation.moment() as moment:
                found.append([each async for bills in moment.bills_of_nothing() for each in bills])

    bill_id = bill_id_of(MSP, CPO, "s0000001")
    assert found == [[(MSP.code, bill_id, CPO.code, "s0000001", "EUR", 25_005)]] * 2


async def test_a_log_in_kafka_lies_elsewhere_whatever_its_outbox_holds(postgres_dsn: str) -> None:
    async with open_settling(postgres_dsn) as here:
        await Filling(here, agreements()[:1]).fill(1)
        reconciliation = here.world.ports.reconciliation
        assert reconciliation is not None
        async with reconciliation.moment() as moment:
            assert await moment.has_log()

        with psycopg.connect(postgres_dsn) as connection:
            connection.execute(
                "INSERT INTO kafka_cursor (group_name, topic, partition, topic_id, next_offset)"
                " VALUES ('g', 't', 0, 'i', 0)"
            )
        async with reconciliation.moment() as moment:
            assert not await moment.has_log()


async def _consume_but(here: Settling, refused: type[object]) -> None:
    """Let the CPO's group come to the end of the log; some events it can't handle."""
    log, stop = here.world.ports.event_log, asyncio.Event()

    async def handle(_unit: UnitOfWork, events: Sequence[LoggedEvent]) -> None:
        if any(isinstance(each.envelope.event, refused) for each in events):
            raise ValueError("no station can send this")

    consumer = asyncio.create_task(log.consume(CPO_GROUP, [CHARGING], handle, stop=stop))
    async with asyncio.timeout(DEADLINE_S):
        while (await log.lag()).get(CPO_GROUP) != 0:  # noqa: ASYNC110 - nobody sets an event for it
            await asyncio.sleep(0.01)
    stop.set()
    await consumer
