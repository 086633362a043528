"""Why did this session fail: the verdict for each way it can go, and all that led to it, in order."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

import pytest

from emobility.domain.authorization import DecisionReason
from emobility.domain.token import Whitelist
from emobility.events.charging import ConnectorStatusChanged, StationBooted
from services.charging_operations.office import Limits
from services.charging_operations.records import DISPUTE, DisputeRecord
from services.charging_operations.station_records import STATION_CONNECTION, StationConnectionRecord
from services.charging_operations.timeline import reason_in_words
from tests.operations.world import CARD, CPO, EMSP, START, STATION, World, open_for_business

SOON: Final = "?to=2022-03-27T12:00:00Z"


async def timeline(here: World, transaction_id: str | None = "1", query: str = "") -> Any:
    path = f"stations/{STATION}" if transaction_id is None else f"transactions/{STATION}/{transaction_id}"
    answer = await here.api("GET", f"/{CPO}/{path}/timeline{query}")
    assert answer.status_code == 200, answer.text
    assert CARD not in answer.text
    return answer.json()


async def connection(here: World, *, minute: int, is_online: bool) -> None:
    async with here.ports.units.begin() as unit:
        await unit.table(STATION_CONNECTION).put(
            StationConnectionRecord(
                party_id=CPO,
                charging_station_id=STATION,
                began_at=START + timedelta(minutes=minute),
                is_online=is_online,
            )
        )
        await unit.commit()


async def faulted(here: World, minute: int) -> None:
    await here.report(
        ConnectorStatusChanged(
            party_id=CPO,
            charging_station_id=STATION,
            ocpp_evse_id=1,
            connector_id=1,
            status="Faulted",
            changed_at=START + timedelta(minutes=minute),
            error_code="GroundFailure",
        ),
        heard_at=START + timedelta(minutes=minute),
    )


def kinds(told: Any) -> list[str]:
    return [entry["kind"] for entry in told["entries"]]


async def test_a_charge_that_went_well_is_told_from_tap_to_cdr() -> None:
    async with open_for_business() as here:
        await here.authorize(transaction_id="1", ocpp_evse_id=1)
        await here.report(
            await here.started(),
            *(here.updated(at=at, import_wh=1_000 + 50 * at) for at in (10, 20, 30)),
            here.ended(),
        )

        told = await timeline(here)

        assert told["outcome"] == "BILLED"
        assert told["verdict"].startswith("it did not fail: billed 5,000 Wh to NL-EMP in ")
        reports = [entry["why"] for entry in told["entries"] if entry["kind"] == "REPORT"]
        assert reports == [
            "transaction 1 began, a driver identified by RFID, register 1,000 Wh",
            "3 reports until 2022-03-27 08:30:00Z, register 1,500 Wh to 2,500 Wh",
            "transaction 1 ended, register 6,000 Wh",
        ]
        assert {"AUTHORIZATION", "SESSION", "CDR"} <= set(kinds(told))
        assert [entry["at"] for entry in told["entries"]] == sorted(entry["at"] for entry in told["entries"])


async def test_an_msp_that_refuses_the_token_is_named_with_its_word() -> None:
    async with open_for_business() as here:
        await here.put_token(whitelist=Whitelist.NEVER)
        here.emsp.allowed = "BLOCKED"
        await here.authorize(ocpp_evse_id=1)

        told = await timeline(here, None, SOON)

        assert (told["outcome"], told["verdict"]) == ("REFUSED", "the MSP NL-EMP refused the token: BLOCKED")


async def test_energy_that_flowed_to_a_refused_driver_waits_for_that_reason() -> None:
    async with open_for_business() as here:
        await here.put_token(whitelist=Whitelist.NEVER)
        here.emsp.allowed = "NO_CREDIT"
        await here.authorize(transaction_id="1", ocpp_evse_id=1)
        await here.report(await here.started(), here.ended())

        told = await timeline(here)

        assert told["outcome"] == "QUARANTINED"
        assert told["verdict"] == "the MSP NL-EMP refused the token: NO_CREDIT: 5,000 Wh wait in quarantine"


async def test_a_refused_driver_who_took_nothing_is_told_as_refused() -> None:
    async with open_for_business() as here:
        await here.authorize("04FFFFFFFF", transaction_id="1", ocpp_evse_id=1)
        await here.report(await here.started(card="04FFFFFFFF"), here.ended(import_wh=1_000))

        told = await timeline(here)

        assert (told["outcome"], told["verdict"]) == ("REFUSED", "no MSP told us of the token; nothing flowed")


async def test_a_station_that_went_away_with_reports_is_told_with_their_number() -> None:
    async with open_for_business() as here:
        await connection(here, minute=-60, is_online=True)
        await connection(here, minute=40, is_online=False)
        await here.authorize(transaction_id="1", ocpp_evse_id=1)
        await here.report(await here.started(seq_no=0), here.updated(seq_no=1), here.ended(seq_no=5))

        told = await timeline(here)

        assert told["outcome"] == "WAITING"
        assert "3 reports missing (seq_no 2 to 4); the station went offline at 2022-03-27 08:40:00Z" in told["verdict"]
        assert told["verdict"].endswith("and has not come back")
        assert [entry["why"] for entry in told["entries"] if entry["kind"] == "GAP"] == ["seq_no 2 to 4 never came"]
        assert kinds(told)[0] == "CONNECTION"  # it held before


async def test_a_gap_that_nobody_fills_is_the_reason_of_the_quarantine() -> None:
    async with open_for_business(limits=Limits(missing_reports_wait=timedelta(hours=1))) as here:
        await here.authorize(transaction_id="1", ocpp_evse_id=1)
        await here.report(await here.started(seq_no=0), here.ended(seq_no=2))
        here.clock.step_by(timedelta(hours=3))
        await here.until(here.quarantine)

        told = await timeline(here)

        assert told["verdict"] == "1 report missing (seq_no 1): 5,000 Wh wait in quarantine"


async def test_a_driver_who_was_let_in_and_could_not_start_is_told_what_was_broken() -> None:
    async with open_for_business() as here:
        await faulted(here, minute=-120)
        await here.authorize(ocpp_evse_id=1)

        told = await timeline(here, None, "?from=2022-03-27T07:30:00Z&to=2022-03-27T12:00:00Z")

        assert told["outcome"] == "NOT_STARTED"
        assert told["verdict"] == (
            "a driver was let in at 2022-03-27 08:00:00Z, and no transaction began;"
            " EVSE 1 is Faulted since 2022-03-27 06:00:00Z"
        )
        assert "EVSE 1, connector 1 is Faulted (error GroundFailure)" in [entry["why"] for entry in told["entries"]]


async def test_what_runs_is_not_called_a_failure() -> None:
    async with open_for_business() as here:
        await here.authorize(transaction_id="1", ocpp_evse_id=1)
        await here.report(await here.started(), here.updated())

        told = await timeline(here)

        assert told["outcome"] == "RUNNING"
        assert told["verdict"] == "it runs since 2022-03-27 08:00:00Z, 2,000 Wh until 2022-03-27 08:30:00Z"


async def test_where_nobody_tried_anything_that_is_said() -> None:
    async with open_for_business() as here:
        told = await timeline(here, None, SOON)

        assert (told["outcome"], set(kinds(told)) <= {"CONNECTION"}) == ("NOTHING_TRIED", True)


async def test_a_dispute_and_a_credit_are_told_with_their_reason() -> None:
    async with open_for_business() as here:
        await here.authorize(transaction_id="1", ocpp_evse_id=1)
        await here.report(await here.started(), here.ended())
        (cdr,) = await here.cdrs()
        async with here.ports.units.begin() as unit:
            await unit.table(DISPUTE).put(dispute(cdr.cdr_id, here))
            await unit.commit()
        disputed = await timeline(here)
        await here.api("POST", f"/{CPO}/cdrs/{cdr.cdr_id}/credit", {"reason": "the meter was wrong"})

        credited = await timeline(here)

        assert disputed["outcome"] == "DISPUTED"
        assert disputed["verdict"].endswith("TOTAL_DIFFERS, 2.00 stated, 1.00 expected")
        assert (credited["outcome"], credited["verdict"]) == ("CREDITED", "its CDR was taken back: the meter was wrong")
        assert kinds(credited).count("CDR") == 2


def dispute(cdr_id: str, here: World) -> DisputeRecord:
    return DisputeRecord(
        party_id=CPO,
        emsp_id=EMSP,
        cdr_id=cdr_id,
        reason="TOTAL_DIFFERS",
        detail="2.00 stated, 1.00 expected",
        expected_e4=10_000,
        stated_e4=20_000,
        received_at=here.clock.now(),
        answer=None,
    )


async def test_what_was_decided_about_a_quarantine_is_told_with_who_and_why() -> None:
    async with open_for_business() as here:
        await here.report(await here.started(card="04FFFFFFFF"), here.ended())
        (waiting,) = await here.quarantine()
        decision = {"outcome": "WAIVE", "who": "Ann", "why": "a test drive"}
        await here.api("POST", f"/{CPO}/quarantine/{waiting.quarantine_id}/resolve", decision)

        told = await timeline(here)

        assert told["outcome"] == "RESOLVED"
        assert told["verdict"].endswith("Ann made it WAIVED: a test drive")


async def test_boots_calls_and_what_was_told_later_have_their_place() -> None:
    async with open_for_business() as here:
        await here.authorize(transaction_id="1", ocpp_evse_id=1)
        await here.report(
            StationBooted(
                party_id=CPO,
                charging_station_id=STATION,
                ocpp_version="1.6",
                vendor="Acme",
                model="Wall",
                booted_at=START,
                reason="Watchdog",
            )
        )
        await here.report(await here.started(), here.updated(is_offline=True), here.ended())
        await here.api("POST", f"/{CPO}/stations/{STATION}/commands/Reset", {"type": "Soft"})

        why = [entry["why"] for entry in (await timeline(here))["entries"]]

        assert "the station started up (Watchdog): Acme Wall, firmware unknown, OCPP 1.6" in why
        assert "we called Reset: ACCEPTED" in why
        assert "transaction 1 goes on, register 3,000 Wh; told later, for the station was offline" in why


@pytest.mark.parametrize(
    ("query", "status_code"),
    [
        ("?from=2022-03-27T08:00:00Z&to=2022-03-27T07:00:00Z", 422),
        ("?from=2021-03-27T08:00:00Z&to=2022-03-27T07:00:00Z", 422),
        ("?to=0001-01-01T00:00:00Z", 422),
        ("?from=2022-03-20T08:00:00Z", 200),
    ],
)
async def test_a_time_is_not_endless(query: str, status_code: int) -> None:
    async with open_for_business() as here:
        assert (await here.api("GET", f"/{CPO}/stations/{STATION}/timeline{query}")).status_code == status_code


@pytest.mark.parametrize("reason", DecisionReason)
def test_every_reason_for_a_decision_has_words(reason: DecisionReason) -> None:
    assert reason_in_words(reason) != reason_in_words(reason.lower())


def test_a_reason_without_words_is_shown_as_it_is() -> None:
    assert reason_in_words("A_NEWER_WRITER_S") == "a newer writer s"
