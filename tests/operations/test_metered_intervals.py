"""Quarters of an hour at the API: from transactions, from between them, signed or not, and of nobody else's EVSE."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

import pytest

from emobility.domain.meter import MeterReading, ReadingContext
from emobility.events.charging import EVSEMetered, TransactionUpdated
from services.charging_operations.metered_intervals import intervals_of
from tests.operations.world import CPO, OTHER_CPO, START, STATION, World, open_for_business, reading

PATH: Final = f"/{CPO}/stations/{STATION}/intervals"


def quarter(number: int) -> datetime:
    return START + number * timedelta(minutes=15)


async def by_the_clock(here: World, number: int, import_wh: int) -> MeterReading:
    record = await here.ports.vault.seal(f"OCMF|{import_wh}", identifier="evse")
    return reading(quarter(number), import_wh, ReadingContext.SAMPLE_CLOCK, signed_record=record)


def metered(*readings: MeterReading, evse: int = 1) -> EVSEMetered:
    return EVSEMetered(
        party_id=CPO,
        charging_station_id=STATION,
        ocpp_evse_id=evse,
        occurred_at=max(each.at for each in readings),
        readings=readings,
    )


async def shown(here: World, until: int, evse: int = 1) -> list[dict[str, Any]]:
    begin, end = START.isoformat().replace("+", "%2B"), quarter(until).isoformat().replace("+", "%2B")
    answer = await here.api("GET", f"{PATH}?ocpp_evse_id={evse}&from={begin}&to={end}")
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()
    return rows


@pytest.mark.parametrize("is_reversed", [False, True])
async def test_intervals_come_from_transactions_and_from_what_was_read_outside_of_them(*, is_reversed: bool) -> None:
    async with open_for_business() as here:
        update = TransactionUpdated(
            party_id=CPO,
            charging_station_id=STATION,
            transaction_id="1",
            occurred_at=quarter(2),
            readings=(await by_the_clock(here, 1, 1_500), await by_the_clock(here, 2, 2_500)),
        )
        events = [
            metered(await by_the_clock(here, 0, 1_000)),
            await here.started(import_wh=1_000),
            update,
            here.ended(at=40, import_wh=3_000),
            metered(await by_the_clock(here, 3, 3_000), await by_the_clock(here, 4, 3_000)),
            metered(await by_the_clock(here, 1, 77), evse=2),
        ]

        await here.report(*(reversed(events) if is_reversed else events), events[0])

        assert [(each["import_wh"], each["is_signed"], each["faults"]) for each in await shown(here, 5)] == [
            *((wh, True, []) for wh in (500, 1_000, 500, 0)),
            (None, False, []),
        ]
        async with here.ports.units.begin() as unit:
            first, *_ = await intervals_of(unit, CPO, STATION, 1, since=START, until=quarter(1))
        records = [await here.ports.vault.open(each) for each in first.end.signed_records]
        assert records == ["OCMF|1500"]


@pytest.mark.parametrize(
    "query",
    [
        "",
        "ocpp_evse_id=1&from=2022-03-27T08:00:00Z&to=2022-03-27T07:00:00Z",
        "ocpp_evse_id=1&from=2022-03-27T08:00:00Z&to=2022-04-27T08:00:00Z",
        "ocpp_evse_id=1&from=0001-01-01T00:00:00Z&to=0001-01-02T00:00:00Z",
        "ocpp_evse_id=1&from=9999-12-31T00:00:00Z&to=9999-12-31T23:59:59Z",
    ],
)
async def test_a_period_that_is_none_is_refused(query: str) -> None:
    async with open_for_business() as here:
        assert (await here.api("GET", f"{PATH}?{query}")).status_code == 422


async def test_another_party_sees_nothing_of_it() -> None:
    async with open_for_business() as here:
        path = PATH.replace(CPO.code, OTHER_CPO.code)
        query = "ocpp_evse_id=1&from=2022-03-27T08:00:00Z&to=2022-03-27T09:00:00Z"

        assert (await here.api("GET", f"{path}?{query}")).status_code == 404


@pytest.mark.postgres
async def test_the_same_over_postgresql(postgres_dsn: str) -> None:
    async with open_for_business(postgres_dsn) as here:
        await here.report(*[metered(await by_the_clock(here, number, number * 100)) for number in range(3)])

        assert [each["import_wh"] for each in await shown(here, 2)] == [100, 100]
