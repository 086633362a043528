"""A station that nobody knows comes in once, by a password drawn for it, and only as what was claimed."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

import pytest

from emobility.events.charging import StationBooted
from emobility.ports.authorizer import AuthorizationStatus
from services.charging_operations.claims import CLAIM, StationClaim
from services.charging_operations.records import STATION as STATIONS
from services.charging_operations.stations import StationTerms
from tests.operations.world import CPO, OTHER_CPO, STATION, World, evse, open_for_business

NEW: Final = "NEW-1"


def claim(**changes: Any) -> StationClaim:
    terms = StationTerms(location_id="LOC1", evses=(evse(1, station=NEW),))
    return replace(StationClaim(charging_station_id=NEW, terms=terms), **changes)


async def claimed(here: World, **changes: Any) -> Any:
    answer = await here.api("POST", f"/{CPO}/claims", claim(**changes))
    assert answer.status_code == 201, answer.text
    return answer.json()


async def booted(here: World, serial_number: str | None = None, heard_at: datetime | None = None) -> None:
    await here.report(
        StationBooted(
            party_id=CPO,
            charging_station_id=NEW,
            ocpp_version="2.0.1",
            vendor="Acme",
            model="Wall",
            booted_at=here.clock.now(),
            serial_number=serial_number,
        ),
        heard_at=heard_at,
    )


async def state_of(here: World, made: Any) -> tuple[str, bool]:
    (row,) = await here.rows(CLAIM, claim_id=made["claim"]["claim_id"])
    return row.state, row.is_settled


async def test_the_first_boot_enters_the_station_that_was_claimed() -> None:
    async with open_for_business() as here:
        made = await claimed(here, serial_number="SN-7")
        before = await here.authorize(charging_station_id=NEW)

        await booted(here, "sn-7")

        after = await here.authorize(charging_station_id=NEW)
        assert (before.status, after.status) == (AuthorizationStatus.INVALID, AuthorizationStatus.ACCEPTED)
        assert await state_of(here, made) == ("USED", True)
        assert (len(made["password"]), made["path"]) == (40, f"/ocpp/{CPO}/{NEW}")
        await here.operations.claims.watch()
        assert here.gateway.credentials == [f"{CPO}/{NEW}"]  # its password stays


async def test_another_serial_number_enters_nothing_and_loses_the_password() -> None:
    async with open_for_business() as here:
        made = await claimed(here, serial_number="SN-7")

        await booted(here, "SN-8")
        await here.operations.claims.watch()
        await booted(here, "SN-7")

        assert await state_of(here, made) == ("REFUSED", True)
        assert await here.rows(STATIONS, charging_station_id=NEW) == []
        assert here.gateway.credentials == [f"{CPO}/{NEW}"] * 2


async def test_a_claim_that_nobody_uses_ends_with_its_password() -> None:
    async with open_for_business() as here:
        made = await claimed(here, valid_h=1)
        await here.operations.claims.watch()
        early = await state_of(here, made)
        here.clock.step_by(timedelta(hours=2))

        await here.operations.claims.watch()
        await booted(here)

        assert (early, await state_of(here, made)) == (("OPEN", False), ("EXPIRED", True))
        assert await here.rows(STATIONS, charging_station_id=NEW) == []
        assert len(here.gateway.credentials) == 2


async def test_a_station_that_comes_too_late_is_not_entered_before_the_watch_has_looked() -> None:
    async with open_for_business() as here:
        made = await claimed(here, valid_h=1)

        await booted(here, heard_at=here.clock.now() + timedelta(hours=1))

        assert await state_of(here, made) == ("EXPIRED", False)
        assert await here.rows(STATIONS, charging_station_id=NEW) == []


async def test_a_later_claim_of_a_station_takes_the_place_of_an_earlier_one_and_keeps_its_password() -> None:
    async with open_for_business() as here:
        first = await claimed(here)
        second = await claimed(here)

        await here.operations.claims.watch()
        await booted(here)

        assert (await state_of(here, first), await state_of(here, second)) == (("WITHDRAWN", True), ("USED", True))
        assert first["password"] != second["password"]
        assert len(here.gateway.credentials) == 2  # none was taken


async def test_a_boot_that_was_heard_before_does_not_use_a_claim_up() -> None:
    async with open_for_business() as here:
        here.clock.step_by(timedelta(hours=1))
        made = await claimed(here)

        await booted(here, heard_at=here.clock.now() - timedelta(minutes=1))

        assert await state_of(here, made) == ("OPEN", False)


async def test_an_operator_withdraws_a_claim_once() -> None:
    async with open_for_business() as here:
        made = await claimed(here)
        path = f"/{CPO}/claims/{made['claim']['claim_id']}"

        answers = [(await here.api("DELETE", path)).status_code for _ in range(2)]
        foreign = await here.api("DELETE", path.replace(str(CPO), str(OTHER_CPO)))
        listed = await here.api("GET", f"/{CPO}/claims?state=WITHDRAWN")

        assert (answers, foreign.status_code) == ([200, 409], 404)
        assert [row["why"] for row in listed.json()] == ["its operator withdrew it"]
        assert made["password"] not in listed.text


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"charging_station_id": STATION}, 409),
        ({"charging_station_id": "a b"}, 422),
        ({"valid_h": 0}, 422),
        ({"serial_number": ""}, 422),
        ({"terms": StationTerms(location_id="NOWHERE", evses=())}, 404),
    ],
)
async def test_what_can_not_be_claimed_gets_no_password(changes: Any, status: int) -> None:
    async with open_for_business() as here:
        answer = await here.api("POST", f"/{CPO}/claims", claim(**changes))

        assert (answer.status_code, here.gateway.credentials) == (status, [])
