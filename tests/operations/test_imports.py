"""Stations and cards out of files: taken once, each refusal with its line, and nothing of a dump is ever executed."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st

from emobility.domain.token import TokenType, Whitelist
from emobility.ports.authorizer import AuthorizationStatus
from services.charging_operations.ledger import Ledger
from services.charging_operations.mysql_dump import NoDump, rows_of
from services.charging_operations.own_tokens import OWN_TOKEN
from services.charging_operations.records import LOCATION, STATION, TOKEN
from tests.operations.world import CARD, CPO, EMSP, OTHER_CPO, World, open_for_business
from tests.operations.world import STATION as STATION_ID

STEVE: Final = (Path(__file__).parent / "imports" / "steve.sql").read_text()
HEADER: Final = (
    "charging_station_id,location_id,ocpp_evse_id,connector_id,standard,power_type,voltage_v_max,current_a_max,"
    "power_w_max,password,security_profile\n"
)
PASSWORD: Final = "a1b2c3d4e5f6a7b8c9d0"
AC: Final = "IEC_62196_T2,AC_3_PHASE,230,32,22080"
STEVE_QUERY: Final = f"?format=steve&connector={AC}&location_id=LOC1&time_zone=Europe/Amsterdam"


async def imported(here: World, what: str, text: str, query: str = "") -> Any:
    answer = await here.api("POST", f"/{CPO}/imports/{what}{query}", text.encode())
    assert answer.status_code == 200, answer.text
    return answer.json()


def line(station: str, evse: int = 1, connector: int = 1, tail: str = ",") -> str:
    return f"{station},LOC1,{evse},{connector},{AC},{tail}\n"


def why(report: Any) -> dict[int, str]:
    return {row["line"]: row["why"] for row in report["refused"]}


# Tables


async def test_a_table_of_stations_is_taken_once_with_evses_connectors_and_passwords() -> None:
    async with open_for_business() as here:
        table = HEADER + line("A", 1, 1, f"{PASSWORD},2") + line("A", 1, 2) + line("A", 2) + line("B")
        first = await imported(here, "stations", table)
        again = await imported(here, "stations", table)
        changed = await imported(here, "stations", table.replace("22080", "11040"))

        assert (first["taken"], first["unchanged"], first["refused_count"]) == (2, 0, 0)
        assert (again["taken"], again["unchanged"]) == (0, 2)
        assert (changed["taken"], changed["unchanged"]) == (2, 0)
        assert first["without_credential"] == ["B"]
        assert here.gateway.credentials == [f"{CPO}/A"]  # once: it may have a newer one by now
        (row,) = await here.rows(STATION, charging_station_id="A")
        assert [[each.connector_id for each in evse.connectors] for evse in row.station.evses] == [[1, 2], [1]]
        assert [evse.evse_uid for evse in row.station.evses] == ["A-1", "A-2"]


async def test_a_dry_run_says_the_same_and_enters_nothing() -> None:
    async with open_for_business() as here:
        table = HEADER + line("A", tail=f"{PASSWORD},2") + line("B").replace("LOC1", "NOWHERE")

        told = await imported(here, "stations", table, "?dry_run=true")
        real = await imported(here, "stations", table)

        assert told | {"is_dry_run": False} == real
        assert why(told) == {3: "no location NOWHERE"}
        assert len(here.gateway.credentials) == 1


async def test_each_row_that_is_refused_is_named_with_its_line_and_the_others_are_taken() -> None:
    async with open_for_business() as here:
        table = (
            HEADER
            + line("GOOD")
            + line("no good id")
            + line("P", tail="short,")
            + line("P", 2)
            + line("TWICE")
            + line("TWICE")
            + line("NUMBER").replace("22080", "lots")
            + line("POWER").replace("AC_3_PHASE", "STEAM")
            + line("X" * 40)
            + '"TWO\nLINES",LOC1\n'
            + line("MOVED")
            + line("MOVED", 2).replace("LOC1", "LOC2")
        )

        told = await imported(here, "stations", table)

        assert told["taken"] == 1
        assert {number: text.split(":")[0] for number, text in why(told).items()} == {
            3: "a station's id has 1 to 48 letters, digits or *-_=",
            4: "password has 20 to 40 characters, machine-drawn",
            5: "see line 4",
            6: "see line 7",
            7: "connector 1 of EVSE 1 stands twice",
            8: "power_w_max is a whole number, 1 at least",
            9: "power_type is one of AC_1_PHASE, AC_3_PHASE, DC",
            10: f"evse_uid {'X' * 40}-1 has more than 36 characters",
            11: "a station's id has 1 to 48 letters, digits or *-_=",
            13: "see line 14",
            14: "location_id differs from the one above",
        }


async def test_an_evse_of_another_station_is_not_taken_away_from_it() -> None:
    async with open_for_business() as here:
        table = HEADER.replace("password", "evse_uid") + line("A", tail="CS1-1,")

        told = await imported(here, "stations", table)

        assert why(told) == {2: "evse_uid CS1-1 is of station CS1"}
        assert await here.rows(STATION, charging_station_id="A") == []


async def test_a_table_with_semicolons_and_columns_of_others_is_read() -> None:
    async with open_for_business() as here:
        table = "\ufeff" + (HEADER + line("A")).replace(",", ";").replace("standard", "Colour;Standard", 1)
        table = table.replace("IEC_62196_T2", "red;IEC_62196_T2")

        told = await imported(here, "stations", table)

        assert (told["taken"], told["ignored_columns"]) == (1, ["colour"])


async def test_what_is_no_table_is_refused_whole() -> None:
    async with open_for_business() as here:
        for text, words in (
            (b"", "the first line names columns"),
            (b"charging_station_id,location_id\n", "among them ocpp_evse_id"),
            (HEADER.replace("password", "standard").encode(), "each once"),
            ((HEADER + '"A').encode(), "line 2"),
            (b"\xff\xfe", "no UTF-8"),
            (b"x" * 8_000_001, "more than 8000000 bytes"),
            ((HEADER + line("A") * 20_001).encode(), "more than 20000 rows"),
        ):
            answer = await here.api("POST", f"/{CPO}/imports/stations", text)
            assert (answer.status_code, words in answer.json()["detail"]) == (422, True), words


async def test_a_table_of_meter_keys_that_is_no_utf_8_is_refused_whole() -> None:
    async with open_for_business() as here:
        answer = await here.api("POST", f"/{CPO}/imports/meter-keys", b"evse_uid;public_key\n\xff")

        assert (answer.status_code, "byte 20" in answer.json()["detail"]) == (422, True)


async def test_nothing_is_entered_for_a_party_that_is_not_here() -> None:
    async with open_for_business() as here:
        answer = await here.api("POST", f"/{EMSP}/imports/stations", (HEADER + line("A")).encode())

        assert answer.status_code == 404


# SteVe


async def test_a_steve_database_brings_its_stations_and_names_what_it_can_not() -> None:
    async with open_for_business() as here:
        first = await imported(here, "stations", STEVE, STEVE_QUERY)
        again = await imported(here, "stations", STEVE, STEVE_QUERY)

        assert (first["taken"], again["taken"], again["unchanged"]) == (2, 0, 2)
        assert {row["row"]: row["why"].split(";")[0].split(":")[0] for row in first["refused"]} == {
            "BOX-3": "it speaks ocpp1.5S",
            "BOX 4": "a station's id has 1 to 48 letters, digits or *-_=",
            "BOX-5": "no row of connector names it",
            "BOX-6": "SteVe has it as Rejected",
        }
        assert [row["line"] for row in first["refused"]] == [45, 46, 47, 48]
        assert first["without_credential"] == ["BOX-1", "BOX-2"]
        stations = {row.charging_station_id: row for row in await here.rows(STATION)}
        assert stations["BOX-2"].location_id == "LOC1"  # it has no coordinates
        (place,) = await here.rows(LOCATION, location_id=stations["BOX-1"].location_id)
        assert (place.location.address, place.location.country) == ("Van 't Hoffstraat 12a", "NLD")
        assert [each.ocpp_evse_id for each in stations["BOX-1"].station.evses] == [1, 2]


async def test_without_a_place_for_them_stations_are_refused_by_name() -> None:
    async with open_for_business() as here:
        told = await imported(here, "stations", STEVE, f"?format=steve&connector={AC}")

        assert told["taken"] == 0
        assert "a time zone missing" in next(row["why"] for row in told["refused"] if row["row"] == "BOX-1")


async def test_what_a_dump_does_not_say_must_be_said() -> None:
    async with open_for_business() as here:
        for query, words in (
            ("?format=steve", "say it (connector)"),
            ("?format=steve&connector=TYPE2", "connector is standard,power_type"),
            (f"?format=steve&connector={AC}&time_zone=Mars/Olympus", "no time zone"),
            ("?format=xml", "format is no word of csv, steve"),
        ):
            answer = await here.api("POST", f"/{CPO}/imports/stations{query}", STEVE.encode())
            assert (answer.status_code, words in answer.json()["detail"]) == (422, True), words


async def test_a_dump_that_is_none_is_refused_with_its_line() -> None:
    async with open_for_business() as here:
        made = "CREATE TABLE `charge_box` (`a` int); INSERT INTO `charge_box` "
        for dump, words in (
            ("INSERT INTO `charge_box` VALUES (1);", "columns of charge_box are told nowhere"),
            (f"{made}VALUES (1,2);", "2 values for 1 columns"),
            (f"{made}VALUES (SLEEP(9));", "no plain value"),
            (f"{made}VALUES (1", "a statement has no end"),
            (f"{made}VALUES ('1", "a text or comment has no end"),
            (f"{made}SELECT 1;", "without VALUES"),
            ("", "no row of charge_box"),
        ):
            answer = await here.api("POST", f"/{CPO}/imports/stations{STEVE_QUERY}", dump.encode())
            assert (answer.status_code, words in answer.json()["detail"]) == (422, True), words


@given(text=st.text(max_size=40))
def test_any_text_comes_out_of_a_dump_as_it_was(text: str) -> None:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\0", "\\0").replace("\n", "\\n")
    for quoted in (f"'{escaped}'", "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"):
        dump = f"/* a */ INSERT INTO `db`.`t` (`x`, y) VALUES ({quoted}, NULL), ('', -1.5);"  # noqa: S608 - nobody executes it

        first, second = rows_of(dump, ["t"])

        assert (first.values, second.values) == ({"x": text, "y": None}, {"x": "", "y": "-1.5"})


@given(dump=st.text(alphabet="INSERT O`t`VALUE(),;'\"\\-#/*! \n1", max_size=200))
def test_no_text_at_all_breaks_the_reader(dump: str) -> None:
    with contextlib.suppress(NoDump):
        assert all(list(row.values) for row in rows_of("CREATE TABLE `t` (`a` int);" + dump, ["t"]))


# Cards


async def test_own_cards_are_taken_once_and_what_can_not_be_is_named_without_its_number() -> None:
    async with open_for_business() as here:
        first = await imported(here, "tokens", STEVE, "?format=steve")
        again = await imported(here, "tokens", STEVE, "?format=steve")

        assert (first["taken"], again["taken"], again["unchanged"]) == (3, 0, 3)
        assert [(row["row"], row["line"]) for row in first["refused"]] == [("staf...", 77), ("THIS...", 78)]
        rows = await here.rows(TOKEN, emsp_id=CPO)
        assert {row.whitelist for row in rows} == {Whitelist.ALWAYS}
        assert sorted(row.is_valid for row in rows) == [False, True, True]
        assert "STAFF" not in repr(rows)


async def test_a_driver_with_an_own_card_charges_and_nobody_is_billed() -> None:
    async with open_for_business() as here:
        await imported(here, "tokens", "uid\nSTAFF01\n")

        answer = await here.authorize("STAFF01", transaction_id="1", ocpp_evse_id=1)
        await here.report(await here.started(card="STAFF01"), here.updated(), here.ended())

        assert (answer.status, answer.may_cache) == (AuthorizationStatus.ACCEPTED, True)
        assert (await here.issued(), here.emsp.got("sessions")) == ([], [])
        assert await here.state() == "RESOLVED"
        told = (await here.api("GET", f"/{CPO}/transactions/{STATION_ID}/1/timeline")).json()
        assert told["verdict"] == "it did not fail: a card of the CPO's own took 5,000 Wh, unbilled"
        assert "a driver may charge: it is a card of the CPO's own" in [entry["why"] for entry in told["entries"]]
        (row,) = await here.quarantine()
        assert (row.state, row.reasons, row.waived_import_wh) == ("WAIVED", ("OWN_TOKEN",), 5_000)
        assert await here.ledger() == Ledger(metered=5_000, waived=5_000)


async def test_an_own_card_charges_at_a_station_that_was_offline_and_has_faults_found_as_any_other() -> None:
    async with open_for_business() as here:
        await imported(here, "tokens", "uid\nSTAFF01\n")
        await here.report(await here.started(card="STAFF01", is_offline=True), here.ended(is_offline=True))
        await here.report(
            await here.started("2", card="STAFF01", at=90, is_offline=True),
            here.ended("2", at=100, import_wh=900, is_offline=True),
        )

        assert await here.state("1") == "RESOLVED"
        assert await here.state("2") == "QUARANTINED"
        assert {row.reasons for row in await here.quarantine()} == {
            ("OWN_TOKEN",),
            ("METER_RAN_BACKWARDS", "OWN_TOKEN"),
        }


async def test_a_card_that_an_msp_has_as_well_is_the_msps() -> None:
    async with open_for_business() as here:
        await imported(here, "tokens", f"uid\n{CARD}\n")

        await here.authorize(transaction_id="1", ocpp_evse_id=1)
        await here.report(await here.started(), here.ended())

        (cdr,) = await here.issued()
        assert cdr.token.emsp_id == EMSP


async def test_own_cards_end_at_their_date_and_when_they_are_blocked() -> None:
    async with open_for_business() as here:
        await imported(here, "tokens", "uid,expires_at\nGUEST01,2022-03-27T09:00:00Z\nSTAFF01,\n")
        rows = (await here.api("GET", f"/{CPO}/own-tokens")).json()
        staff = next(row for row in rows if row["expires_at"] is None)
        before = [(await here.authorize(card)).status for card in ("GUEST01", "STAFF01")]

        here.clock.step_by(timedelta(hours=3))
        await here.operations.own_tokens.expire()
        await here.api("PUT", f"/{CPO}/own-tokens/{staff['token_subject']}", {"is_blocked": True})

        after = [(await here.authorize(card)).status for card in ("GUEST01", "STAFF01")]
        assert before == [AuthorizationStatus.ACCEPTED] * 2
        assert after == [AuthorizationStatus.BLOCKED] * 2
        assert "GUEST" not in str(rows)
        assert (await here.authorize("STAFF01", charging_station_id="OTHER")).status is AuthorizationStatus.INVALID


async def test_cards_of_one_cpo_open_nothing_at_another() -> None:
    async with open_for_business() as here:
        await imported(here, "tokens", "uid\nSTAFF01\n")

        rows = await here.rows(OWN_TOKEN)
        other = await here.api("PUT", f"/{OTHER_CPO}/own-tokens/{rows[0].token_subject}", {"is_blocked": True})

        assert other.status_code == 404
        assert await here.rows(TOKEN, party_id=OTHER_CPO) == []
        assert rows[0].token_type is TokenType.RFID


async def test_a_card_that_makes_no_sense_is_named_with_its_line() -> None:
    async with open_for_business() as here:
        rows = {
            ",RFID": "a uid has 1 to 36",
            "\u00fc,RFID": "a uid has 1 to 36",
            "A,STAMP": "type is one of",
            "A,RFID,maybe": "is_blocked is true or false",
            "A,RFID,,2022-01-01T00:00:00": "with its offset",
            "A,RFID,,tomorrow": "no date-time",
            "A,RFID,,0001-01-01T00:00:00+14:00": "no date-time",
        }
        told = await imported(here, "tokens", "\n".join(["uid,type,is_blocked,expires_at", *rows, "GOOD,,,"]))

        assert told["taken"] == 1
        for number, words in enumerate(rows.values(), start=2):
            assert words in why(told)[number]
