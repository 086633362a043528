"""What stations do to transactions - gaps, power loss, clocks that jump, replays, strangers' numbers - at the books."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec import structs

from emobility.domain.meter import ReadingContext
from emobility.domain.token import Whitelist
from emobility.events.event import Event
from services.charging_operations.ledger import Ledger
from services.charging_operations.records import TRANSACTION
from tests.operations.world import CPO, START, STATION, World, open_for_business, reading

PATH = f"/{CPO}/transactions/{STATION}"


async def detail(here: World, transaction_id: str = "1") -> dict[str, Any]:
    shown: dict[str, Any] = (await here.api("GET", f"{PATH}/{transaction_id}")).json()
    return shown


async def charge(here: World, name: str = "1", at: int = 0, **fields: Any) -> list[Event]:
    """Return start, values and end of a 2.x charge, or without numbers those of a 1.6 charge."""
    numbers: list[dict[str, Any]] = [{"seq_no": place} for place in range(4)]
    if not fields.pop("is_numbered", True):
        numbers = [{}] * 4
    return [
        await here.started(name, at=at, **numbers[0], **fields),
        here.updated(name, at=at + 20, import_wh=2_000, **numbers[1], **fields),
        here.updated(name, at=at + 40, import_wh=4_000, **numbers[2], **fields),
        here.ended(name, at=at + 60, **numbers[3], **fields),
    ]


async def test_what_is_missing_is_told_while_it_is_and_no_more_once_it_came() -> None:
    async with open_for_business() as here:
        await here.authorize(transaction_id="1")
        started, first, second, ended = await charge(here)
        await here.report(started, ended)
        told = (await detail(here))["transaction"]
        assert (told["state"], told["missing"]) == ("OPEN", [{"first_seq_no": 1, "last_seq_no": 2}])

        await here.report(second)
        assert (await detail(here))["transaction"]["missing"] == [{"first_seq_no": 1, "last_seq_no": 1}]
        await here.report(first)

        told = (await detail(here))["transaction"]
        assert (told["state"], told["missing"]) == ("BILLED", [])
        assert await here.ledger() == Ledger(metered=5_000, cdr=5_000)


async def test_a_gap_that_was_given_up_is_repaired_when_it_comes_after_all() -> None:
    async with open_for_business() as here:
        await here.authorize(transaction_id="1")
        started, first, second, ended = await charge(here)
        await here.report(started, first, ended)
        here.clock.step_by(timedelta(hours=26))
        await here.until(lambda: is_state(here, "QUARANTINED"))

        await here.report(second)

        assert await here.state() == "BILLED"
        assert await here.ledger() == Ledger(metered=5_000, cdr=5_000)


async def is_state(here: World, state: str) -> bool:
    return await here.state() == state


async def test_a_1_6_stop_before_its_start_and_every_other_order_with_repeats_is_one_charge() -> None:
    async with open_for_business() as here:
        for number, order in enumerate(itertools.permutations(range(4))):
            name = str(number)
            await here.authorize(transaction_id=name, ocpp_evse_id=1)
            events = await charge(here, name, number * 100, is_numbered=False)
            for place in order:
                await here.report(events[place], events[place], settle=False)
            await here.report(*events)

        cdrs = await here.issued()
        assert {(cdr.total_energy_import_wh, cdr.total_cost.excl_e4) for cdr in cdrs} == {(5_000, 20_000)}
        assert await here.ledger() == Ledger(metered=24 * 5_000, cdr=24 * 5_000)


async def test_a_2_x_transaction_that_goes_on_after_a_power_loss_is_one_charge() -> None:
    async with open_for_business() as here:
        await here.authorize(transaction_id="1")
        started, first, second, ended = await charge(here)
        cut = replace(first, readings=(reading(first.occurred_at, 2_000, ReadingContext.INTERRUPTION_BEGIN),))  # type: ignore[type-var,attr-defined]  # it is an update
        back = replace(second, readings=(reading(second.occurred_at, 2_000, ReadingContext.INTERRUPTION_END),))  # type: ignore[type-var,attr-defined]  # likewise

        # What the station stored before the power went comes only after what it said when it was back.
        await here.report(started, back, ended, cut)

        (cdr,) = await here.issued()
        assert cdr.total_energy_import_wh == 5_000
        assert [period.energy_import_wh for period in cdr.periods] == [1_000, 0, 4_000]


async def test_a_1_6_transaction_that_ended_by_power_loss_and_its_successor_are_two_charges() -> None:
    async with open_for_business() as here:
        for name in ("1", "2"):
            await here.authorize(transaction_id=name)
        lost = here.ended(at=30, import_wh=3_000, stopped_reason="PowerLoss")
        successor = await here.started("2", 3_000, at=45)

        await here.report(await here.started(), successor, here.ended("2", at=60, import_wh=4_000), lost)

        assert sorted(cdr.total_energy_import_wh for cdr in await here.issued()) == [1_000, 2_000]
        assert await here.ledger() == Ledger(metered=3_000, cdr=3_000)


@pytest.mark.parametrize("year", [1, 1970, 2030])
@pytest.mark.parametrize("which", [0, 1, 3])
async def test_a_clock_that_jumps_bills_nobody_and_what_the_registers_moved_waits(year: int, which: int) -> None:
    async with open_for_business() as here:
        await here.authorize(transaction_id="1")
        events: list[Any] = await charge(here)
        jumped: datetime = events[which].occurred_at.replace(year=year)
        readings = tuple(structs.replace(each, at=jumped) for each in events[which].readings)
        events[which] = replace(events[which], occurred_at=jumped, readings=readings)

        await here.report(*events, heard_at=START + timedelta(hours=1))

        assert await here.issued() == []
        (row,) = await here.quarantine()
        assert "TIME_IMPLAUSIBLE" in row.reasons
        ledger = await here.ledger()
        assert ledger.metered == ledger.quarantined >= 3_000


async def test_a_charge_that_is_told_days_later_is_billed_for_when_it_was() -> None:
    async with open_for_business() as here:
        events = await charge(here, is_offline=True)
        here.clock.step_by(timedelta(days=5))

        await here.report(*reversed(events), *events)

        (cdr,) = await here.issued()
        assert (cdr.started_at, cdr.ended_at) == (START, START + timedelta(hours=1))
        assert cdr.total_cost.excl_e4 == 20_000


async def test_a_charge_told_days_later_of_a_token_that_is_decided_in_real_time_waits_for_somebody() -> None:
    async with open_for_business() as here:
        await here.put_token(whitelist=Whitelist.NEVER)
        here.clock.step_by(timedelta(days=5))

        await here.report(*await charge(here, is_offline=True))

        (row,) = await here.quarantine()
        assert row.reasons == ("NO_AUTHORIZATION",)
        assert await here.ledger() == Ledger(metered=5_000, quarantined=5_000)


async def test_the_end_of_what_nobody_knows_is_kept_apart_and_bills_nobody() -> None:
    async with open_for_business() as here:
        await here.authorize(transaction_id="1")
        strangers = [here.ended(name, import_wh=800_000) for name in ("unknown-1", "unnumbered-ab", "unnumbered-cd")]
        await here.report(*strangers, *await charge(here, is_numbered=False), *strangers)
        here.clock.step_by(timedelta(hours=26))
        await here.until(lambda: nothing_is_open(here))

        (cdr,) = await here.issued()
        assert cdr.total_energy_import_wh == 5_000
        assert [row.reasons for row in await here.quarantine()] == [("METER_VALUES_MISSING", "SEQUENCE_GAP")] * 3
        assert await here.ledger() == Ledger(metered=5_000, cdr=5_000)


async def nothing_is_open(here: World) -> bool:
    return await here.rows(TRANSACTION, state="OPEN") == []
