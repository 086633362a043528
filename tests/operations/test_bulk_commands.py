"""One command for many stations: each is called at most once, whatever dies, and each has its result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final

import pytest

from emobility.events.charging import StationBooted
from emobility.protocols.station_control.messages import CommandOutcome, CommandResult
from services.charging_operations import bulk_commands
from services.charging_operations.bulk_commands import BULK_CALL, BULK_JOB, Again, BulkCommand, BulkDesk
from services.charging_operations.records import STATION as STATIONS
from services.charging_operations.station_selection import StationSelection
from services.charging_operations.stations import StationTerms
from tests.operations.world import CARD, CPO, LOCATION_TERMS, OTHER_CPO, START, STATION, World, evse, open_for_business

MANY: Final = 12
PATH: Final = f"/{CPO}/bulk-commands"
RESET_ALL: Final = BulkCommand(selection=StationSelection(is_all=True), payload={"type": "Soft"}, at_once=4)


@asynccontextmanager
async def many_stations(postgres_dsn: str | None = None) -> AsyncIterator[World]:
    async with open_for_business(postgres_dsn) as here:
        for number in range(2, MANY + 1):
            name = f"CS{number}"
            terms = StationTerms(location_id="LOC1", evses=(evse(1, station=name),))
            assert (await here.api("PUT", f"/{CPO}/stations/{name}", terms)).status_code == 200
        await here.settle()
        yield here


async def begin(here: World, action: str = "Reset", **wanted: Any) -> Any:
    body = {"selection": {"is_all": True}, "payload": {"type": "Soft"}} | wanted
    answer = await here.api("POST", f"/{CPO}/commands/{action}", body)
    assert answer.status_code == 202, answer.text
    return answer.json()


async def shown(here: World, job: Any, rest: str = "") -> Any:
    answer = await here.api("GET", f"{PATH}/{job['job_id']}{rest}")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def calls_under_way(here: World) -> int:
    return len(await here.rows(BULK_CALL, state="CALLING"))


async def test_every_station_is_called_once_and_has_its_result() -> None:
    async with many_stations() as here:
        refused = CommandOutcome(
            result=CommandResult.REJECTED, station_status="Rejected", answer={"status": "Rejected"}
        )
        here.gateway.answers = [refused]

        job = await begin(here)
        await here.settle()

        told = await shown(here, job)
        assert (told["state"], told["stations"]) == ("DONE", MANY)
        assert told["by_state"] == {"ANSWERED": MANY}
        assert told["by_result"] == {"ACCEPTED": MANY - 1, "REJECTED": 1}
        assert len(here.gateway.commands) == MANY
        (row,) = await shown(here, job, "/stations?result=REJECTED")
        assert (row["detail"], row["answer"], row["tries"]) == ("Rejected", {"status": "Rejected"}, 1)


async def test_no_more_stations_are_called_at_once_than_was_asked_for() -> None:
    async with many_stations() as here:
        here.gateway.may_answer.clear()

        job = await begin(here, at_once=3)
        await waited_for(lambda: len(here.gateway.commands) == 3)
        for _ in range(50):
            await asyncio.sleep(0)

        assert await calls_under_way(here) == len(here.gateway.commands) == 3
        here.gateway.may_answer.set()
        await here.settle()
        assert (await shown(here, job))["by_state"] == {"ANSWERED": MANY}


async def waited_for(happened: Any) -> None:
    for _ in range(5_000):
        if happened():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never happened")


async def test_a_station_that_may_have_been_called_is_called_again_only_when_asked(postgres_dsn: str) -> None:
    async with many_stations(postgres_dsn) as here:
        first, second, third = (
            BulkDesk(office=here.operations.office, charging=here.operations.charging) for _ in range(3)
        )
        here.gateway.may_answer.clear()
        job = await first.start(CPO, "Reset", RESET_ALL, correlation_id="night")
        dying = asyncio.create_task(first.run(asyncio.Event()))
        await waited_for(lambda: len(here.gateway.commands) == 4)
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)
        here.clock.step_by(timedelta(minutes=5))
        here.gateway.may_answer.set()

        stop = asyncio.Event()
        working = [asyncio.create_task(each.run(stop)) for each in (second, third)]
        await here.settle()

        told = await shown(here, {"job_id": job.job_id})
        assert (told["state"], told["by_state"]) == ("DONE", {"ANSWERED": MANY - 4, "UNKNOWN": 4})
        assert {row.tries for row in await here.rows(BULK_CALL)} == {1}
        assert len(here.gateway.commands) == MANY
        await second.again(CPO, job.job_id, Again())
        await here.settle()
        assert (await shown(here, {"job_id": job.job_id}))["by_state"] == {"ANSWERED": MANY}
        assert len(here.gateway.commands) == MANY + 4
        stop.set()
        await asyncio.gather(*working)


async def test_what_nobody_knows_of_is_called_once_more_on_demand() -> None:
    async with many_stations() as here:
        here.gateway.outcome = CommandOutcome(result=CommandResult.TIMED_OUT)
        job = await begin(here, selection={"charging_station_ids": ["CS2", "CS3"]})
        await here.settle()
        here.gateway.outcome = CommandOutcome(result=CommandResult.ACCEPTED)

        await here.api("POST", f"{PATH}/{job['job_id']}/again", {"states": ["ANSWERED"], "results": ["TIMED_OUT"]})
        await here.settle()

        told = await shown(here, job)
        assert (told["state"], told["by_result"]) == ("DONE", {"ACCEPTED": 2})
        assert len(here.gateway.commands) == 4


async def test_a_process_that_died_leaves_calls_that_nobody_knows_of() -> None:
    async with many_stations() as here:
        here.gateway.may_answer.clear()
        job = await begin(here, selection={"charging_station_ids": ["CS2"]})
        await waited_for(lambda: len(here.gateway.commands) == 1)
        here.clock.step_by(timedelta(minutes=5))

        await BulkDesk(office=here.operations.office, charging=here.operations.charging)._give_up_unknown()

        told = await shown(here, job)
        assert (told["state"], told["by_state"]) == ("DONE", {"UNKNOWN": 1})
        here.gateway.may_answer.set()
        # It had not died after all: the answer is worth more than not to know.
        await here.until(lambda: here.rows(BULK_CALL, state="ANSWERED"))


async def test_a_cancelled_job_calls_nobody_more_and_can_be_forgotten() -> None:
    async with many_stations() as here:
        here.gateway.may_answer.clear()
        job = await begin(here, at_once=2)
        await waited_for(lambda: len(here.gateway.commands) == 2)
        path = f"{PATH}/{job['job_id']}"

        early = await here.api("DELETE", path)
        cancelled = await here.api("POST", f"{path}/cancel")
        here.gateway.may_answer.set()
        await here.settle()
        told = await shown(here, job)
        deleted = await here.api("DELETE", path)

        assert (early.status_code, cancelled.status_code, deleted.status_code) == (409, 200, 200)
        assert told["by_state"] == {"ANSWERED": 2, "CANCELLED": MANY - 2}
        assert len(here.gateway.commands) == 2
        assert (await here.rows(BULK_JOB), await here.rows(BULK_CALL)) == ([], [])


async def test_the_same_request_under_one_id_is_one_job_and_another_is_refused() -> None:
    async with many_stations() as here:
        first = await begin(here, job_id="night")
        again = await begin(here, job_id="night")
        await here.settle()
        other = await here.api(
            "POST",
            f"/{CPO}/commands/Reset",
            {"selection": {"is_all": True}, "payload": {"type": "Hard"}, "job_id": "night"},
        )

        assert first["job_id"] == again["job_id"] == "night"
        assert other.status_code == 409
        assert len(here.gateway.commands) == MANY


async def test_stations_are_selected_by_all_that_is_said() -> None:
    async with many_stations() as here:
        for name, firmware in ((STATION, "1"), ("CS2", "2")):
            await here.report(
                StationBooted(
                    party_id=CPO,
                    charging_station_id=name,
                    ocpp_version="2.0.1",
                    vendor="Acme",
                    model="Wall",
                    firmware_version=firmware,
                    booted_at=START,
                )
            )

        selections: list[tuple[dict[str, Any], list[str]]] = [
            ({"charging_station_ids": ["CS3", "CS2"]}, ["CS2", "CS3"]),
            ({"vendor": "Acme"}, [STATION, "CS2"]),
            ({"vendor": "Acme", "firmware_version": "2"}, ["CS2"]),
            ({"model": "Wall", "charging_station_ids": [STATION, "CS5"]}, [STATION]),
            ({"ocpp_version": "2.0.1"}, [STATION]),
            ({"is_online_only": True}, [STATION]),
            ({"location_id": "LOC1", "charging_station_ids": ["CS4"]}, ["CS4"]),
        ]
        for selection, names in selections:
            job = await begin(here, selection=selection)
            assert [row["charging_station_id"] for row in await shown(here, job, "/stations")] == names, selection


async def test_what_makes_no_sense_calls_nobody() -> None:
    async with many_stations() as here:
        everyone: dict[str, Any] = {"selection": {"is_all": True}}
        bodies: list[dict[str, Any]] = [
            {"selection": {}, "payload": {}},
            {"selection": {"charging_station_ids": ["NONE"]}, "payload": {}},
            {"selection": {"vendor": "Nobody"}, "payload": {}},
            everyone,
            everyone | {"payload": {}, "payloads": {"1.6": {}}},
            everyone | {"payloads": {"3.0": {}}},
            everyone | {"payload": {}, "at_once": 0},
            everyone | {"payload": {}, "timeout_s": 121},
        ]
        for body in bodies:
            answer = await here.api("POST", f"/{CPO}/commands/Reset", body)
            assert answer.status_code == 422, body

        assert (here.gateway.commands, await here.rows(BULK_JOB)) == ([], [])


async def test_each_station_gets_the_payload_of_its_version() -> None:
    async with many_stations() as here:
        payloads = {"1.6": {"type": "Soft"}, "2.0.1": {"type": "OnIdle"}}
        job = await begin(here, selection={"charging_station_ids": [STATION]}, payload=None, payloads=payloads)
        await here.settle()
        here.gateway.ocpp_version = "2.1"
        other = await begin(here, selection={"charging_station_ids": [STATION]}, payload=None, payloads=payloads)
        await here.settle()
        here.gateway.is_online = False
        gone = await begin(here, selection={"charging_station_ids": [STATION]}, payload=None, payloads=payloads)
        await here.settle()

        assert [command.ocpp_call.payload for command in here.gateway.commands if command.ocpp_call] == [
            {"type": "OnIdle"}
        ]
        results = [(await shown(here, each))["by_result"] for each in (job, other, gone)]
        assert results == [{"ACCEPTED": 1}, {"NOT_SUPPORTED": 1}, {"STATION_OFFLINE": 1}]


async def test_what_is_sent_and_said_is_sealed_in_rows_and_masked_in_answers() -> None:
    async with many_stations() as here:
        here.gateway.outcome = CommandOutcome(
            result=CommandResult.ACCEPTED, answer={"idTag": CARD, "status": "Accepted"}
        )
        job = await begin(here, "SendLocalList", payload={"idTag": CARD}, selection={"charging_station_ids": [STATION]})
        await here.settle()

        rows = [*await here.rows(BULK_JOB), *await here.rows(BULK_CALL)]
        assert CARD not in repr(rows)
        (row,) = await shown(here, job, "/stations")
        assert row["answer"] == {"idTag": "***", "status": "Accepted"}


async def test_another_party_has_no_such_job() -> None:
    async with many_stations() as here:
        job = await begin(here)

        assert (await here.api("GET", f"/{OTHER_CPO}/bulk-commands/{job['job_id']}")).status_code == 404
        assert {row.party_id for row in await here.rows(STATIONS)} == {CPO}


async def test_one_party_s_jobs_do_not_keep_another_waiting_until_they_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_commands, "CALLS_MAX", 2)
    async with many_stations() as here:
        theirs = StationTerms(location_id="LOC1", evses=(evse(1, station="OTHER1"),))
        await here.api("PUT", f"/{OTHER_CPO}/locations/LOC1", LOCATION_TERMS)
        assert (await here.api("PUT", f"/{OTHER_CPO}/stations/OTHER1", theirs)).status_code == 200
        here.gateway.may_answer.clear()
        await begin(here)
        await waited_for(lambda: len(here.gateway.commands) == 2)

        here.clock.step_by(timedelta(seconds=1))
        wanted = {"selection": {"is_all": True}, "payload": {"type": "Hard"}}
        assert (await here.api("POST", f"/{OTHER_CPO}/commands/Reset", wanted)).status_code == 202
        here.gateway.may_answer.set()
        await here.settle()

        told = [call.ocpp_call.payload["type"] for call in here.gateway.commands if call.ocpp_call is not None]
        assert told.index("Hard") < 6, "with the first places that became free"


async def test_an_answer_to_a_job_that_is_no_more_is_nobody_s_and_stops_nothing() -> None:
    async with many_stations() as here:
        desk = here.operations.bulk
        job = await begin(here)
        await here.settle()
        (row, *_) = await here.rows(BULK_CALL)
        (record,) = await here.rows(BULK_JOB)
        assert (await here.api("DELETE", f"{PATH}/{job['job_id']}")).status_code == 200

        await desk._keep(record, row)

        assert await here.rows(BULK_CALL) == []
