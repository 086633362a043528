"""What consumers have not handled yet, parked or discarded is no difference of a document: it is told as what it is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from bench.settlement_books import Filling
from emobility.domain.meter import MeterReading
from emobility.events.cdr import CDRS
from emobility.events.charging import CHARGING, TransactionStarted, TransactionUpdated
from emobility.events.event import Envelope, Event, LoggedEvent
from emobility.ports.event_log import Handler
from emobility.ports.reconciliation import Period
from emobility.ports.unit_of_work import UnitOfWork
from services.audit.books import CPO_GROUP, SETTLEMENT_GROUP
from services.audit.period_report import PeriodReport
from services.audit.periodically import audited_period
from services.audit.sharing import Alone
from services.audit.slices import LOG_RULE
from services.audit.stages import Cause
from services.charging_operations import records as cpo
from services.settlement.records import LEAF
from tests.settlement.settling import Settling, open_settling
from tests.settlement.world import T0, accepted, terms

CHARGES: Final = 2
CHECKS_MAX: Final = 1_000
HANDLED: Final = "every event was handled"
LEAVES: Final = "an accepted CDR is settled once"


async def handle(_unit: UnitOfWork, events: Sequence[LoggedEvent]) -> None:
    """Whatever it is, it was handled."""


async def refuse(_unit: UnitOfWork, events: Sequence[LoggedEvent]) -> None:
    raise ValueError("no station can send this")


async def consumed(here: Settling, group: str, topic: str, handler: Handler) -> None:
    """Let a group come to the end of the log."""
    log, stop = here.world.ports.event_log, asyncio.Event()
    consumer = asyncio.create_task(log.consume(group, [topic], handler, stop=stop))
    for _ in range(CHECKS_MAX):
        if (await log.lag()).get(group) == 0:
            break
        await asyncio.sleep(0)
    else:
        raise AssertionError(f"{group} does not come to the end of the log")
    stop.set()
    await consumer


async def discard_all(here: Settling, group: str) -> None:
    log = here.world.ports.event_log
    for each in await log.parked(group):
        at = each.logged
        await log.discard_parked(
            group, topic=at.topic, partition=at.partition, offset=at.offset, who="ann", why="a test"
        )


async def append(here: Settling, *events: Event) -> None:
    await here.world.ports.event_log.append(
        [
            Envelope(event=event, event_id=f"later/{number}", correlation_id="c", recorded_at=T0)
            for number, event in enumerate(events)
        ]
    )


async def audited(here: Settling) -> PeriodReport:
    ports = here.world.ports
    return await audited_period(ports, Period(), sharing=Alone(vault=ports.vault))


def broken(found: PeriodReport) -> set[str]:
    return {each.rule for each in found.report.differences}


async def test_station_reports_that_the_cpo_did_not_handle_are_in_no_transaction() -> None:
    async with open_settling() as here:
        await Filling(here, [terms()]).fill(CHARGES)
        await consumed(here, CPO_GROUP, CHARGING, handle)
        (run, *_) = await rows_of(here)
        later = T0 + timedelta(minutes=1)
        name: dict[str, Any] = {"party_id": run.party_id, "charging_station_id": run.charging_station_id}
        name["transaction_id"] = "later"
        started = TransactionStarted(
            **name,
            seq_no=0,
            occurred_at=T0,
            readings=(MeterReading(at=T0, import_wh=1_000),),
            ocpp_evse_id=1,
            connector_id=1,
        )
        reading = MeterReading(at=later, import_wh=1_040)
        await append(here, started, TransactionUpdated(**name, seq_no=1, occurred_at=later, readings=(reading,)))
        unread = await audited(here)

        await consumed(here, CPO_GROUP, CHARGING, refuse)
        parked = await audited(here)

        await discard_all(here, CPO_GROUP)
        discarded = await audited(here)

    assert [broken(each) for each in (unread, parked, discarded)] == [{HANDLED}, {HANDLED}, set()]


async def test_a_station_report_that_was_handled_is_in_its_transaction() -> None:
    async with open_settling() as here:
        await Filling(here, [terms()]).fill(CHARGES)
        (run, *_) = await rows_of(here)
        ghost = TransactionStarted(
            party_id=run.party_id,
            charging_station_id=run.charging_station_id,
            transaction_id=run.transaction_id,
            seq_no=2,
            occurred_at=T0,
            readings=(MeterReading(at=T0, import_wh=900_000),),
            ocpp_evse_id=1,
            connector_id=1,
        )
        await append(here, ghost)
        await consumed(here, CPO_GROUP, CHARGING, handle)

        found = await audited(here)

    assert LOG_RULE in broken(found)


async def rows_of(here: Settling) -> list[cpo.TransactionRecord]:
    async with here.world.ports.units.begin() as unit:
        return await unit.table(cpo.TRANSACTION).select()


async def test_an_accepted_cdr_whose_event_was_not_handled_is_not_lost() -> None:
    async with open_settling() as here:
        await Filling(here, [terms()]).fill(CHARGES)
        await consumed(here, SETTLEMENT_GROUP, CDRS, handle)
        async with here.world.ports.units.begin() as unit:
            (issued, *_) = await unit.table(cpo.CDRS).select()
            await unit.table(LEAF).delete(issued.party_id, issued.cdr_id)
            await unit.commit()
        lost = await audited(here)

        await append(here, accepted(issued.cdr))
        unread = await audited(here)

        await consumed(here, SETTLEMENT_GROUP, CDRS, refuse)
        parked = await audited(here)

        await discard_all(here, SETTLEMENT_GROUP)
        discarded = await audited(here)

    assert [LEAVES in broken(each) for each in (lost, unread, parked, discarded)] == [True, False, False, False]
    for found, cause in (
        (lost, Cause.NO_LEAF),
        (unread, Cause.UNREAD),
        (parked, Cause.PARKED),
        (discarded, Cause.DISCARDED),
    ):
        (pair,) = found.reconciled.pairs.values()
        assert cause in {each for _, each in pair.gaps}
