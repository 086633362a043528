"""Rows that two units open at once: PostgreSQL locks no row that is not there, and yet neither loses what it wrote."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from emobility.adapters.memory import VirtualClock
from emobility.adapters.postgres import PostgresAdapters, open_postgres
from emobility.adapters.system import SystemRandomness
from emobility.domain.retail_account import add_bill
from services.driver_mobility.invoice_records import INVOICE_ACCOUNT
from services.driver_mobility.metering import pin_at_first_use
from services.driver_mobility.quoting import account_for_update
from services.driver_mobility.records import ACCOUNT, METER_KEY, MeterKey
from services.driver_mobility.retail_invoicing import invoice_account_for_update
from tests.adapters.postgres.waiting import until_waiting
from tests.domain.test_cdr import ORIGINAL
from tests.mobility.conftest import DEADLINE_S, MASTER_KEY, MSP, T0

pytestmark = pytest.mark.postgres


@pytest.fixture
async def postgres(postgres_dsn: str) -> AsyncIterator[PostgresAdapters]:
    opening = open_postgres(postgres_dsn, master_key=MASTER_KEY, clock=VirtualClock(T0), randomness=SystemRandomness())
    async with opening as postgres:
        yield postgres


async def test_a_drivers_first_two_bills_at_once_are_both_due(postgres: PostgresAdapters) -> None:
    async with postgres.units.begin() as first, postgres.units.begin() as second:
        account, _ = add_bill(await account_for_update(first, MSP, "D1", "EUR"), total_incl_e4=36_300, currency="EUR")
        await first.table(ACCOUNT).put(account)
        waiting = asyncio.create_task(account_for_update(second, MSP, "D1", "EUR"))
        async with asyncio.timeout(DEADLINE_S):
            await until_waiting(waiting, postgres.database)
            await first.commit()
            seen = await waiting

    assert seen == account
    assert seen.due_e4 == 36_300


async def test_of_a_drivers_first_two_invoices_at_once_the_second_carries_on_what_the_first_left(
    postgres: PostgresAdapters,
) -> None:
    async with postgres.units.begin() as first, postgres.units.begin() as second:
        account = replace(await invoice_account_for_update(first, MSP, "D1", "EUR"), residue_e4=37)
        await first.table(INVOICE_ACCOUNT).put(account)
        waiting = asyncio.create_task(invoice_account_for_update(second, MSP, "D1", "EUR"))
        async with asyncio.timeout(DEADLINE_S):
            await until_waiting(waiting, postgres.database)
            await first.commit()
            seen = await waiting

    assert seen == account


async def test_the_key_of_a_first_signature_takes_no_place_of_one_that_an_operator_enters_meanwhile(
    postgres: PostgresAdapters,
) -> None:
    cdr = ORIGINAL
    entered = MeterKey(
        party_id=MSP,
        cpo_id=cdr.party_id,
        evse_uid=cdr.location.evse_uid,
        public_key="aa",
        is_by_operator=True,
    )
    async with postgres.units.begin() as operator, postgres.units.begin() as consumer:
        await operator.table(METER_KEY).insert(entered)
        waiting = asyncio.create_task(pin_at_first_use(consumer, MSP, cdr, "bb"))
        async with asyncio.timeout(DEADLINE_S):
            await until_waiting(waiting, postgres.database)
            await operator.commit()
            await waiting
        await consumer.commit()

    async with postgres.units.begin() as unit:
        assert await unit.table(METER_KEY).get(MSP, cdr.party_id, cdr.location.evse_uid) == entered
