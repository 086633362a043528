"""What an operator sends, or a file holds, is refused in a sentence; it costs the others nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.charging_operations import mysql_dump
from services.charging_operations.mysql_dump import NoDump, rows_of
from services.charging_operations.stations import StationTerms
from tests.operations.world import CPO, evse, open_for_business

DUMP = """
CREATE TABLE `charge_box` (`charge_box_id` x, `address_pk` x, `location_latitude` x, `location_longitude` x);
CREATE TABLE `connector` (`charge_box_id` x, `connector_id` x);
CREATE TABLE `address` (`address_pk` x, `street` x, `zip_code` x, `city` x, `country` x);
INSERT INTO `charge_box` VALUES ('CS9', '1', '%s', '4.9');
INSERT INTO `connector` VALUES ('CS9', '%s');
INSERT INTO `address` VALUES ('1', 'Street', '1234', 'Town', 'NL');
"""
QUERY = "?format=steve&connector=IEC_62196_T2,AC_3_PHASE,230,32,22080&time_zone=Europe/Amsterdam&location_id=LOC1"


async def test_comments_that_never_end_are_looked_for_once() -> None:
    """A second look for each would take minutes for these 300 kB, and days for 8 MB."""
    async with asyncio.timeout(5):
        with pytest.raises(NoDump, match="comment has no end"):
            await asyncio.to_thread(lambda: list(rows_of("/* " * 100_000, ["t"])))


def test_a_statement_takes_no_more_memory_than_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mysql_dump, "TOKENS_MAX", 100)

    with pytest.raises(NoDump, match="more than 100 parts"):
        list(rows_of("INSERT INTO `t` VALUES " + "(" * 200, ["t"]))
    assert not list(rows_of("UNLOCK TABLES " + "(" * 200 + ";", ["t"])), "what is not understood is not kept"


@pytest.mark.parametrize(
    ("latitude", "number", "why"),
    [
        ("NaN", "1", "location_latitude is beyond"),
        ("sNaN", "1", "location_latitude is beyond"),
        ("52", "²", "no row of connector"),
        ("52", "9" * 5_000, "no row of connector"),
    ],
)
async def test_numbers_that_are_none_refuse_their_row(latitude: str, number: str, why: str) -> None:
    async with open_for_business() as here:
        answer = await here.api("POST", f"/{CPO}/imports/stations{QUERY}", (DUMP % (latitude, number)).encode())

        assert answer.status_code == 200, answer.text
        assert [each["why"].startswith(why) for each in answer.json()["refused"]] == [True]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"latitude": "NaN"}, "NaN and Infinity are no numbers"),
        ({"longitude": "Infinity"}, "NaN and Infinity are no numbers"),
        ({"latitude": "1e400"}, "latitude is -90 to 90"),
        ({"time_zone": "Mars/Olympus"}, "no time zone"),
    ],
)
async def test_a_location_is_somewhere_and_has_a_time(wrong: dict[str, Any], words: str) -> None:
    place = {"name": "n", "address": "a", "city": "c", "postal_code": "1", "country": "NLD", "latitude": "52"}
    async with open_for_business() as here:
        answer = await here.api(
            "PUT", f"/{CPO}/locations/L9", place | {"longitude": "4.9", "time_zone": "Europe/Amsterdam"} | wrong
        )

        assert (answer.status_code, words in answer.json()["detail"]) == (422, True), answer.text


@pytest.mark.parametrize("station_id", ["CS%201", "%C3%BC", "C" * 49])
async def test_a_station_that_no_gateway_would_let_in_is_not_entered(station_id: str) -> None:
    async with open_for_business() as here:
        terms = StationTerms(location_id="LOC1", evses=(evse(1, station="CS9"),))

        answer = await here.api("PUT", f"/{CPO}/stations/{station_id}", terms)

        assert (answer.status_code, "a station's id has" in answer.json()["detail"]) == (422, True)
