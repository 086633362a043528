"""Meters that sign: what they signed is billed and travels with the CDR; what was forged or lent is quarantined."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from emobility.domain.agreement import SignedMeterPolicy
from emobility.domain.cdr import CDR, ENERGY_ALONE
from emobility.domain.meter import ReadingContext
from services.charging_operations.ledger import Ledger
from services.charging_operations.meter_keys import METER_KEYS, note_station_keys
from services.charging_operations.office import Limits
from services.charging_operations.records import USED_RECORD
from services.charging_operations.stations import StationTerms
from tests.adapters.postgres.waiting import until_waiting
from tests.ocmf.meter import Meter, value
from tests.operations.world import CPO, START, STATION, World, agreement, evse, open_for_business, reading

METER = Meter()


@asynccontextmanager
async def signing_station() -> AsyncIterator[World]:
    async with open_for_business() as here:
        terms = StationTerms(location_id="LOC1", evses=(evse(1, key=METER.public_key), evse(2)))
        assert (await here.api("PUT", f"/{CPO}/stations/{STATION}", terms)).status_code == 200
        await here.settle()
        yield here


async def charge(
    here: World, name: str, begin: str | None, end: str | None, *, at: int = 0, end_wh: int = 6_000
) -> None:
    await here.authorize(transaction_id=name, ocpp_evse_id=1)
    readings = []
    for minute, import_wh, record, context in (
        (at, 1_000, begin, ReadingContext.TRANSACTION_BEGIN),
        (at + 60, end_wh, end, ReadingContext.TRANSACTION_END),
    ):
        moment = START + timedelta(minutes=minute)
        sealed = None if record is None else await here.seal(record)
        readings.append(reading(moment, import_wh, context, signed_record=sealed))
    await here.report(await here.started(name, at=at, begin=readings[0]), here.ended(name, at=at + 60, end=readings[1]))


def records(page: int = 1) -> tuple[str, str]:
    return METER.record(page, value("B", "1.000", 0)), METER.record(page + 1, value("E", "6.000", 59))


async def reasons(here: World) -> list[tuple[str, ...]]:
    return [row.reasons for row in await here.quarantine()]


async def test_signed_values_travel_with_the_cdr() -> None:
    async with signing_station() as here:
        begin, end = records()
        await charge(here, "1", begin, end)

        (cdr,) = here.emsp.got("cdrs")
        assert [each["plain_data"] for each in cdr["signed_data"]["signed_values"]] == [begin, end]
        assert [each["nature"] for each in cdr["signed_data"]["signed_values"]] == ["Start", "End"]
        assert await here.ledger() == Ledger(metered=5_000, cdr=5_000)


async def test_a_forged_value_is_quarantined() -> None:
    async with signing_station() as here:
        begin, end = records()
        await charge(here, "1", begin, end.replace("6.000", "9.000"), end_wh=9_000)

        assert await reasons(here) == [("SIGNATURE_INVALID",)]
        assert await here.ledger() == Ledger(metered=8_000, quarantined=8_000)


async def test_a_register_that_the_meter_did_not_sign_is_quarantined() -> None:
    async with signing_station() as here:
        begin, end = records()
        await charge(here, "1", begin, end, end_wh=6_001)

        assert await reasons(here) == [("SIGNATURE_INVALID",)]


async def test_another_meters_signature_is_quarantined() -> None:
    async with signing_station() as here:
        other = Meter()
        begin, end = other.record(1, value("B", "1.000", 0)), other.record(2, value("E", "6.000", 59))
        await charge(here, "1", begin, end)

        assert await reasons(here) == [("SIGNATURE_INVALID",)]


@pytest.mark.parametrize("which", ["begin", "end", "both"])
async def test_a_meter_that_signs_and_did_not_is_quarantined(which: str) -> None:
    async with signing_station() as here:
        begin, end = records()
        await charge(here, "1", None if which != "end" else begin, None if which != "begin" else end)

        expected = "SIGNATURE_MISSING" if which == "both" else "SIGNATURE_INVALID"
        assert await reasons(here) == [(expected,)]


async def test_one_record_proves_one_session() -> None:
    async with signing_station() as here:
        begin, end = records()
        await charge(here, "1", begin, end)
        await charge(here, "2", begin, end, at=100)

        assert await reasons(here) == [("SIGNATURE_INVALID",)]
        (row,) = await here.quarantine()
        assert "RECORD_REUSED" in row.details[0]
        assert row.transaction_id == "2"


async def test_records_that_were_looked_at_before_the_start_came_prove_the_charge_once_it_came() -> None:
    async with signing_station() as here:
        await here.authorize(transaction_id="1", ocpp_evse_id=1)
        both = await here.seal(METER.record(1, value("B", "1.000", 0), value("E", "6.000", 59)))
        begin = replace(here.updated(seq_no=1, at=0, import_wh=1_000), ocpp_evse_id=1, connector_id=1)
        end = reading(START + timedelta(minutes=60), 6_000, ReadingContext.TRANSACTION_END, signed_record=both)
        await here.report(begin, here.ended(seq_no=2, end=end))
        here.clock.step_by(Limits().missing_reports_wait + timedelta(minutes=1))
        await here.until(here.quarantine)
        used_before = await here.rows(USED_RECORD)
        await here.report(await here.started(seq_no=0))

        assert used_before == []
        assert await here.ledger() == Ledger(metered=5_000, cdr=5_000)
        assert [row.session_id for row in await here.rows(USED_RECORD)] == [(await here.issued())[0].session_id]


async def test_an_agreement_that_asks_for_signatures_is_not_billed_without() -> None:
    async with open_for_business() as here:
        required = agreement(version=2, signed_meter_policy=SignedMeterPolicy.REQUIRED)
        assert (await here.sign(required)).status_code == 200
        await here.authorize(transaction_id="1", ocpp_evse_id=2)
        await here.report(await here.started(evse=2), here.ended())

        assert await reasons(here) == [("SIGNATURE_MISSING",)]


async def test_the_drivers_identification_in_a_record_lies_sealed() -> None:
    async with signing_station() as here:
        await charge(here, "1", *records())

        assert "04A1B2C3" not in repr(await here.events())


def record_of(page: int, context: str, kwh: str, minute: int, clock: str) -> str:
    at = (START + timedelta(minutes=minute)).strftime("%Y-%m-%dT%H:%M:%S,000+0000")
    return METER.record(page, value(context, kwh, 0, TM=f"{at} {clock}"))


async def parked(here: World, clock: str, *, kwh: int = 6) -> None:
    """An hour of charging and one of parking, the meter's clock standing as `clock` says at the begin and later."""
    await here.authorize(transaction_id="1", ocpp_evse_id=1)
    texts = (
        record_of(1, "B", "1.000", 0, clock[0]),
        record_of(2, "C", f"{kwh}.000", 60, clock[1]),
        record_of(3, "E", f"{kwh}.000", 120, clock[1]),
    )
    begin, full, left = [
        reading(START + timedelta(minutes=minute), import_wh, context, signed_record=await here.seal(text))
        for minute, import_wh, context, text in (
            (0, 1_000, ReadingContext.TRANSACTION_BEGIN, texts[0]),
            (60, kwh * 1_000, ReadingContext.SAMPLE_PERIODIC, texts[1]),
            (120, kwh * 1_000, ReadingContext.TRANSACTION_END, texts[2]),
        )
    ]
    updated = replace(here.updated(seq_no=1, at=60, import_wh=kwh * 1_000), readings=(full,))
    await here.report(await here.started(begin=begin, seq_no=0), updated, here.ended(seq_no=2, at=120, end=left))


def bills_energy_alone(cdr: CDR) -> bool:
    return (cdr.total_charging_s, cdr.total_parking_s) == (0, 0) and cdr.is_energy_alone


@pytest.mark.parametrize(("clock", "parking_s"), [("SS", 3_600), ("IR", 3_600), ("II", 0), ("US", 0), ("SU", 0)])
async def test_a_clock_that_is_not_synchronised_bills_energy_alone(clock: str, parking_s: int) -> None:
    async with signing_station() as here:
        await parked(here, clock)

        (cdr,) = await here.issued()
        assert (cdr.total_energy_import_wh, cdr.total_parking_s) == (5_000, parking_s)
        assert cdr.total_cost.excl_e4 == 20_000 + 15_000 * parking_s // 3_600
        assert (cdr.remark == ENERGY_ALONE) is (parking_s == 0)
        (sent,) = here.emsp.got("cdrs")
        kinds = {part["type"] for period in sent["charging_periods"] for part in period["dimensions"]}
        assert ("PARKING_TIME" in kinds) is (parking_s > 0)
        assert await here.ledger() == Ledger(metered=5_000, cdr=5_000)


@pytest.mark.parametrize(
    "replacement",
    [
        {},
        {"energy_import_wh": 4_000},
        {"periods": [{"started_at": START, "energy_import_wh": 5_000, "charging_s": 3_600, "parking_s": 3_600}]},
    ],
    ids=["the reports", "less energy", "given periods"],
)
async def test_a_replacement_bills_no_time_that_the_meter_did_not_vouch_for(replacement: dict[str, Any]) -> None:
    async with signing_station() as here:
        await parked(here, "II")
        (first,) = await here.issued()

        body = {"reason": "wrong tariff", "replacement": replacement}
        answer = await here.api("POST", f"/{CPO}/cdrs/{first.cdr_id}/credit", body)
        await here.settle()

        assert answer.status_code == 200, answer.text
        assert bills_energy_alone((await here.issued())[-1])


@pytest.mark.parametrize(("proven_wh", "shown"), [(None, 3), (5_000, 0)], ids=["all", "a part"])
async def test_what_an_operator_bills_out_of_quarantine_is_what_the_meter_proves(
    proven_wh: int | None, shown: int
) -> None:
    async with signing_station() as here:
        await parked(here, "II", kwh=26)
        (row,) = await here.quarantine()

        answer = await bill(here, row.quarantine_id, proven_wh)

        (cdr,) = await here.issued()
        assert (answer.status_code, row.reasons) == (200, ("ENERGY_IMPLAUSIBLE",))
        assert bills_energy_alone(cdr)
        assert (len(cdr.signed_data.records) if cdr.signed_data else 0) == shown
        assert {each.session_id for each in await here.rows(USED_RECORD)} == {cdr.session_id}


async def test_time_that_was_not_billed_is_not_billed_later_because_the_records_are_no_longer_believed() -> None:
    async with signing_station() as here:
        await parked(here, "II")
        other = {"public_key": Meter().public_key, "who": "Ann", "why": "misread", "valid_from": START}
        assert (await here.api("POST", f"/{CPO}/meters/{STATION}-1/keys", other)).status_code == 200
        await here.report(here.updated(seq_no=3, at=30, import_wh=3_000))
        (row,) = await here.quarantine()

        await bill(here, row.quarantine_id)

        last = (await here.issued())[-1]
        assert row.reasons[0] == "LATE_EVENT_AFTER_CDR"
        assert bills_energy_alone(last)
        assert last.signed_data is None


async def bill(here: World, quarantine_id: str, proven_wh: int | None = None) -> httpx.Response:
    body = {"outcome": "BILL", "who": "anna", "why": "looked at the meter", "proven_import_wh": proven_wh}
    answer = await here.api("POST", f"/{CPO}/quarantine/{quarantine_id}/resolve", body)
    await here.settle()
    return answer


async def test_a_charge_that_healed_shows_what_the_meter_signed() -> None:
    async with signing_station() as here:
        await here.authorize(transaction_id="1", ocpp_evse_id=1)
        both = await here.seal(METER.record(1, value("B", "1.000", 0), value("E", "6.000", 59)))
        begin = replace(here.updated(seq_no=1, at=0, import_wh=1_000), ocpp_evse_id=1, connector_id=1)
        end = reading(START + timedelta(minutes=60), 6_000, ReadingContext.TRANSACTION_END, signed_record=both)
        await here.report(begin, here.ended(seq_no=2, end=end))
        here.clock.step_by(Limits().missing_reports_wait + timedelta(minutes=1))
        await here.until(here.quarantine)
        await here.report(await here.started(seq_no=0))

        (cdr,) = await here.issued()
        assert cdr.signed_data is not None
        assert [record.box for record in cdr.signed_data.records] == [both.box]


# Keys of meters


async def replaced_meter(here: World, *, minute: int, key: str) -> None:
    body = {"public_key": key, "who": "Ann", "why": "meter EM1 broke", "valid_from": START + timedelta(minutes=minute)}
    answer = await here.api("POST", f"/{CPO}/meters/{STATION}-1/keys", body)
    assert answer.status_code == 200, answer.text


async def test_a_new_meter_signs_from_its_moment_on_and_the_old_one_proves_what_was_before() -> None:
    async with signing_station() as here:
        new = Meter(ec.BrainpoolP384R1(), "EM2")
        await replaced_meter(here, minute=80, key=new.public_key)
        old_begin, old_end = records()
        new_begin, new_end = new.record(1, value("B", "1.000", 0)), new.record(2, value("E", "6.000", 59))

        # The one from after the replacement arrives first: a station was offline.
        await charge(here, "2", new_begin, new_end, at=100)
        await charge(here, "1", old_begin, old_end)
        await charge(
            here, "3", METER.record(7, value("B", "1.000", 0)), METER.record(8, value("E", "6.000", 59)), at=200
        )

        assert {cdr.signed_data.public_key for cdr in await here.issued() if cdr.signed_data} == {
            METER.public_key,
            new.public_key,
        }
        (row,) = await here.quarantine()
        assert (row.transaction_id, row.reasons) == ("3", ("SIGNATURE_INVALID",))
        history = (await here.api("GET", f"/{CPO}/meters/{STATION}-1/keys")).json()
        assert [(each["public_key"], each["entered_by"]) for each in history] == [
            (METER.public_key, "operator"),
            (new.public_key, "Ann"),
        ]


async def forget_history(here: World) -> None:
    """The key stands with its station alone, as it did before histories were kept."""
    async with here.ports.units.begin() as unit:
        assert await unit.table(METER_KEYS).delete(CPO, f"{STATION}-1")
        await unit.commit()


@pytest.mark.parametrize("is_with_the_station", [False, True])
async def test_the_key_known_before_a_history_was_kept_proves_what_was_charged_before_the_first_entry(
    is_with_the_station: object,
) -> None:
    async with signing_station() as here:
        await forget_history(here)
        new = Meter(serial="EM2")
        if is_with_the_station:
            terms = StationTerms(location_id="LOC1", evses=(evse(1, key=new.public_key), evse(2)))
            here.clock.step_by(timedelta(minutes=80))
            assert (await here.api("PUT", f"/{CPO}/stations/{STATION}", terms)).status_code == 200
            await here.settle()
        else:
            await replaced_meter(here, minute=80, key=new.public_key)

        await charge(here, "1", *records())
        await charge(here, "2", new.record(1, value("B", "1.000", 0)), new.record(2, value("E", "6.000", 59)), at=100)

        keys = [cdr.signed_data.public_key for cdr in await here.issued() if cdr.signed_data]
        assert keys == [METER.public_key, new.public_key]


async def test_a_station_entered_again_does_not_bring_the_old_meters_key_back() -> None:
    async with signing_station() as here:
        new = Meter()
        await replaced_meter(here, minute=-1, key=new.public_key)
        terms = StationTerms(location_id="LOC1", evses=(evse(1, key=METER.public_key), evse(2)))
        assert (await here.api("PUT", f"/{CPO}/stations/{STATION}", terms)).status_code == 200
        await here.settle()

        await charge(here, "1", new.record(1, value("B", "1.000", 0)), new.record(2, value("E", "6.000", 59)))

        assert await here.quarantine() == []
        assert await here.ledger() == Ledger(metered=5_000, cdr=5_000)


async def test_keys_come_out_of_a_table_each_row_by_itself_and_twice_as_once() -> None:
    async with signing_station() as here:
        der = bytes.fromhex(Meter(ec.SECP384R1()).public_key)
        table = (
            "evse_uid;public_key;valid_from;why\n"
            f"{STATION}-1;{base64.b64encode(der).decode()};2022-03-28T00:00:00+02:00;new meter\n"
            f"{STATION}-2;no key;;\n"
            f"ELSEWHERE;{der.hex()};;\n"
        )

        first = (await here.api("POST", f"/{CPO}/imports/meter-keys", table.encode())).json()
        second = (await here.api("POST", f"/{CPO}/imports/meter-keys", table.encode())).json()

        assert [(each["taken"], each["unchanged"], each["refused_count"]) for each in (first, second)] == [
            (1, 0, 2),
            (0, 1, 2),
        ]
        assert [each["line"] for each in first["refused"]] == [3, 4]
        history = (await here.api("GET", f"/{CPO}/meters/{STATION}-1/keys")).json()
        assert [each["public_key"] for each in history] == [METER.public_key, der.hex()]


async def test_a_key_that_was_taken_back_comes_out_of_a_table_again() -> None:
    async with signing_station() as here:
        table = f"evse_uid,public_key\n{STATION}-1,{METER.public_key}\n"
        wrong = {"public_key": Meter().public_key, "who": "Ann", "why": "misread"}
        assert (await here.api("POST", f"/{CPO}/meters/{STATION}-1/keys", wrong)).status_code == 200

        reports = [(await here.api("POST", f"/{CPO}/imports/meter-keys", table.encode())).json() for _ in range(2)]
        await charge(here, "1", *records())

        assert [(each["taken"], each["unchanged"]) for each in reports] == [(1, 0), (0, 1)]
        assert await here.ledger() == Ledger(metered=5_000, cdr=5_000)


async def test_the_same_table_again_takes_no_newer_meters_key_out_of_force() -> None:
    async with signing_station() as here:
        table = f"evse_uid,public_key\n{STATION}-1,{METER.public_key}\n"
        new = Meter(serial="EM2")
        await replaced_meter(here, minute=-1, key=new.public_key)

        report = (await here.api("POST", f"/{CPO}/imports/meter-keys", table.encode())).json()
        await charge(here, "1", new.record(1, value("B", "1.000", 0)), new.record(2, value("E", "6.000", 59)))

        assert (report["taken"], report["unchanged"]) == (0, 1)
        assert await here.ledger() == Ledger(metered=5_000, cdr=5_000)


async def test_a_key_from_a_moment_without_its_offset_is_refused_and_the_evse_goes_on() -> None:
    async with signing_station() as here:
        body = {"public_key": METER.public_key, "who": "Ann", "why": "replaced", "valid_from": "2022-03-27T10:00:00"}

        answer = await here.api("POST", f"/{CPO}/meters/{STATION}-1/keys", body)
        await charge(here, "1", *records())

        assert answer.status_code == 422
        assert await here.ledger() == Ledger(metered=5_000, cdr=5_000)


async def test_what_is_no_key_is_refused_when_the_station_is_entered() -> None:
    async with signing_station() as here:
        terms = StationTerms(location_id="LOC1", evses=(evse(1, key="30" * 40),))

        answer = await here.api("PUT", f"/{CPO}/stations/{STATION}", terms)

        assert answer.status_code == 422


@pytest.mark.postgres
async def test_a_meters_first_key_entered_while_its_station_brings_one_loses_neither(postgres_dsn: str) -> None:
    async with open_for_business(postgres_dsn) as here:
        old, new = Meter(), Meter(serial="EM2")
        body = {"public_key": new.public_key, "who": "Ann", "why": "replaced", "valid_from": START}
        units: Any = here.ports.units
        async with units.begin() as station, asyncio.timeout(20):
            brought = [evse(1, key=old.public_key)]
            await note_station_keys(station, CPO, brought, [evse(1)], now=here.clock.now())
            waiting = asyncio.create_task(here.api("POST", f"/{CPO}/meters/{STATION}-1/keys", body))
            await until_waiting(waiting, units._database)
            await station.commit()
            answer = await waiting

        assert answer.status_code == 200, answer.text
        assert [each["public_key"] for each in answer.json()] == [old.public_key, new.public_key]


async def test_a_key_that_is_in_force_from_its_station_is_shown_before_a_history_is_kept() -> None:
    async with signing_station() as here:
        await forget_history(here)

        shown = await here.api("GET", f"/{CPO}/meters/{STATION}-1/keys")
        without = await here.api("GET", f"/{CPO}/meters/{STATION}-2/keys")

        assert [each["public_key"] for each in shown.json()] == [METER.public_key]
        assert without.status_code == 404
