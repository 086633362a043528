"""What operators see of transactions: by every filter, whole, in order, and with nobody's token in it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from emobility.domain.meter import MeterReading, ReadingContext
from emobility.events.charging import EVSEMetered, StationBooted
from emobility.events.fold import apply
from emobility.protocols.station_control.messages import CommandOutcome, CommandResult
from services.charging_operations.station_boots import STATION_IDENTITY
from services.charging_operations.transactions import shown_reports
from tests.operations.world import CARD, CPO, EMSP, START, STATION, World, open_for_business, reading


async def three_transactions(here: World) -> None:
    """One billed, one that waits in quarantine because nobody was asked, one that runs and of which 2 and 3 miss."""
    await here.authorize(transaction_id="billed", ocpp_evse_id=1)
    await here.report(await here.started("billed"), here.updated("billed"), here.ended("billed"))
    stranger = await here.started("stranger", at=70, card="04FFFFFFFF")
    await here.report(stranger, here.ended("stranger", at=80, import_wh=2_000))
    await here.authorize(transaction_id="running", ocpp_evse_id=2)
    await here.report(
        await here.started("running", at=90, evse=2, seq_no=0),
        here.updated("running", at=95, import_wh=1_500, seq_no=1),
        here.updated("running", at=110, import_wh=3_000, seq_no=4, is_offline=True),
    )


async def shown(here: World, path: str) -> Any:
    answer = await here.api("GET", f"/{CPO}{path}")
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["running", "stranger", "billed"]),
        ("?state=QUARANTINED", ["stranger"]),
        ("?state=BILLED", ["billed"]),
        ("?has_ended=false", ["running"]),
        ("?ocpp_evse_id=1", ["stranger", "billed"]),
        ("?charging_station_id=OTHER", []),
        ("?from=2022-03-27T09:10:00Z&to=2022-03-27T09:30:00Z", ["stranger"]),
        ("?limit=1&offset=1", ["stranger"]),
    ],
)
async def test_transactions_are_listed_by_what_an_operator_asks_for(query: str, names: list[str]) -> None:
    async with open_for_business() as here:
        await three_transactions(here)

        rows = await shown(here, f"/transactions{query}")

        assert [row["transaction_id"] for row in rows] == names


async def test_a_transaction_is_shown_whole_and_without_its_driver() -> None:
    async with open_for_business() as here:
        await three_transactions(here)

        billed = await shown(here, f"/transactions/{STATION}/billed")
        stranger = await shown(here, f"/transactions/{STATION}/stranger")
        values = await shown(here, f"/transactions/{STATION}/billed/meter-values?offset=1&limit=1")

        assert [report["kind"] for report in billed["reports"]] == ["STARTED", "UPDATED", "ENDED"]
        assert billed["reports"][0]["has_id_token"] is True
        assert billed["session"]["status"] == "COMPLETED"
        assert [cdr["energy_import_wh"] for cdr in billed["cdrs"]] == [5_000]
        assert [row["reasons"] for row in stranger["quarantine"]] == [["NO_AUTHORIZATION"]]
        assert [value["import_wh"] for value in values] == [3_000]
        assert CARD not in str([billed, stranger, values])


async def test_the_gap_of_a_transaction_is_shown_until_it_is_filled() -> None:
    async with open_for_business() as here:
        await three_transactions(here)
        before = await shown(here, f"/transactions/{STATION}/running")

        await here.report(
            here.updated("running", at=100, import_wh=2_000, seq_no=2),
            here.updated("running", at=105, import_wh=2_500, seq_no=3),
        )

        after = await shown(here, f"/transactions/{STATION}/running")
        assert before["transaction"]["missing"] == [{"first_seq_no": 2, "last_seq_no": 3}]
        assert after["transaction"]["missing"] == []
        assert [report["seq_no"] for report in after["reports"]] == [0, 1, 2, 3, 4]


async def test_reports_that_contradict_each_other_are_marked_and_others_are_not() -> None:
    async with open_for_business() as here:
        transaction = apply(None, here.updated(seq_no=1, at=30))
        for event in (here.updated(seq_no=1, at=31), here.updated(seq_no=2), here.ended(seq_no=3)):
            transaction = apply(transaction, event)

        marks = [(report.seq_no, report.is_conflicting) for report in shown_reports(transaction)]

        assert marks == [(1, True), (1, True), (2, False), (3, False)]


async def test_what_is_not_there_is_not_found() -> None:
    async with open_for_business() as here:
        for path in (f"/transactions/{STATION}/none", f"/transactions/{STATION}/none/meter-values"):
            assert (await here.api("GET", f"/{CPO}{path}")).status_code == 404


@pytest.mark.parametrize(
    ("path", "count"),
    [
        ("/sessions?charging_station_id=CS1", 2),
        ("/sessions?transaction_id=running", 1),
        (f"/sessions?emsp_id={EMSP}", 2),
        ("/sessions?emsp_id=DE-EMX", 0),
        ("/sessions?from=2022-03-27T20:00:00Z", 0),
        ("/cdrs?is_credit=false", 1),
        ("/cdrs?is_credit=true", 0),
        ("/cdrs?to=2022-03-27T00:00:00Z", 0),
        ("/quarantine?state=OPEN", 1),
        ("/quarantine?state=BILLED", 0),
        ("/disputes?cdr_id=x", 0),
    ],
)
async def test_books_are_listed_by_what_an_operator_asks_for(path: str, count: int) -> None:
    async with open_for_business() as here:
        await three_transactions(here)

        assert len(await shown(here, path)) == count


async def test_what_a_meter_says_outside_of_transactions_is_kept_once_and_shown() -> None:
    async with open_for_business() as here:
        aligned = MeterReading(at=START, context=ReadingContext.SAMPLE_CLOCK, import_wh=7_000)
        signed = reading(START, 7_000, ReadingContext.SAMPLE_CLOCK)
        for evse_id, value in ((1, aligned), (2, signed), (1, aligned)):
            await here.report(
                EVSEMetered(
                    party_id=CPO,
                    charging_station_id=STATION,
                    ocpp_evse_id=evse_id,
                    occurred_at=START,
                    readings=(value,),
                )
            )

        both = await shown(here, f"/stations/{STATION}/meter-values")
        one = await shown(here, f"/stations/{STATION}/meter-values?ocpp_evse_id=1")

        assert len(both) == 2
        assert [row["readings"][0]["import_wh"] for row in one] == [7_000]


async def test_boots_are_kept_and_the_newest_says_what_a_station_is() -> None:
    async with open_for_business() as here:
        for minute, firmware in ((0, "1.0"), (5, "1.1")):
            await here.report(boot(minute, firmware), heard_at=START + timedelta(minutes=minute))
        await here.report(boot(5, "1.1"), heard_at=START + timedelta(minutes=5))

        boots = await shown(here, f"/stations/{STATION}/boots")

        assert [row["firmware_version"] for row in boots] == ["1.1", "1.0"]
        (identity,) = await here.rows(STATION_IDENTITY)
        assert (identity.vendor, identity.firmware_version) == ("Acme", "1.1")


def boot(minute: int, firmware: str) -> StationBooted:
    return StationBooted(
        party_id=CPO,
        charging_station_id=STATION,
        ocpp_version="2.0.1",
        vendor="Acme",
        model="Wall",
        booted_at=START + timedelta(minutes=minute),
        firmware_version=firmware,
        reason="PowerUp",
    )


async def test_each_call_is_remembered_with_its_result_and_without_its_payload() -> None:
    async with open_for_business() as here:
        here.gateway.outcome = CommandOutcome(result=CommandResult.REJECTED, station_status="Rejected")
        await here.api("POST", f"/{CPO}/stations/{STATION}/commands/ClearCache", {"idToken": CARD})

        (call,) = await shown(here, f"/stations/{STATION}/calls")

        assert (call["action"], call["result"], call["detail"]) == ("ClearCache", "REJECTED", "Rejected")
        assert CARD not in str(call)
