"""A departure is tolerated of the stations that a profile names, and of no other; what it changes is told."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest

from charge_point_gateway.quirks import BUILT_IN, PROFILES_MAX, QuirkBook, TooManyProfiles
from charge_point_gateway.security import station_identity
from emobility.adapters.memory import LoopTimer
from emobility.domain.identifiers import PartyId
from emobility.domain.meter import MeterReading
from emobility.protocols.station_control.client import GatewayRefused, StationControlClient
from emobility.protocols.station_control.messages import MessageLogging, OCPPCall, StationCommand
from emobility.protocols.station_control.quirks import (
    QuirkProfile,
    QuirkProfileRefused,
    StationMake,
    Tolerance,
    check_profile,
)
from tests.gateway.conftest import NOW, PARTY, STATION, TOKEN, Station, World, running_world

T = "2022-03-27T00:10:00Z"
ACME: Final = {"chargePointVendor": "ACME", "chargePointModel": "One", "firmwareVersion": "1.2.3"}
ACME_2: Final = {"chargingStation": {"vendorName": "ACME", "model": "One"}, "reason": "PowerUp"}
IDENTITY: Final = station_identity(PARTY, STATION)
PARTY_ID: Final = PartyId(PARTY)
BOOT: Final[dict[str, dict[str, Any]]] = {"1.6": ACME, "2.0.1": ACME_2, "2.1": ACME_2}
STATUS: Final = {"connectorId": 1, "errorCode": "NoError", "status": "Available", "timestamp": T}
STATUS_2: Final = {"timestamp": T, "connectorStatus": "Available", "evseId": 1, "connectorId": 1}
START: Final = {"connectorId": 1, "idTag": "04A1", "meterStart": 5, "timestamp": T}


def acme(*tolerances: Tolerance, **more: Any) -> QuirkProfile:
    return QuirkProfile(tolerances=tolerances, who="operator", why="seen in the field", vendor="acme", **more)


def values(value: Any, **more: Any) -> dict[str, Any]:
    return {"connectorId": 1, "meterValue": [{"timestamp": T, "sampledValue": [{"value": value, **more}]}]}


def without(payload: dict[str, Any], name: str) -> dict[str, Any]:
    return {each: value for each, value in payload.items() if each != name}


async def entered(world: World, profile: QuirkProfile, name: str = "acme") -> None:
    await world.gateway.quirks.put(PARTY_ID, name, profile)


async def booted(world: World, version: str = "1.6", boot: dict[str, Any] | None = None) -> Station:
    station = await world.dial(f"ocpp{version}")
    answer = await station.call("BootNotification", boot or BOOT[version])
    assert answer[0] == 3, answer
    return station


async def readings(world: World) -> list[MeterReading]:
    return [each for event in await world.events() for each in getattr(event, "readings", ())]


REPAIRED: Final[dict[str, tuple[str, str, dict[str, Any], dict[str, Any], str]]] = {
    "unknown_properties": ("1.6", "StatusNotification", STATUS | {"colour": "red"}, {}, "FormationViolation"),
    "null_properties": ("1.6", "StatusNotification", STATUS | {"vendorId": None}, {}, "TypeConstraintViolation"),
    "missing_properties": (
        "2.0.1",
        "StatusNotification",
        without(STATUS_2, "timestamp"),
        {"missing": {"StatusNotification": {"timestamp": "now"}}},
        "OccurenceConstraintViolation",
    ),
    "empty_lists": (
        "2.1",
        "TransactionEvent",
        {
            "eventType": "Updated",
            "timestamp": T,
            "triggerReason": "MeterValuePeriodic",
            "seqNo": 1,
            "transactionInfo": {"transactionId": "t"},
            "meterValue": [],
        },
        {},
        "OccurrenceConstraintViolation",
    ),
    "loose_times": (
        "1.6",
        "StatusNotification",
        STATUS | {"timestamp": "2022-03-27 02:10:00+02"},
        {},
        "PropertyConstraintViolation",
    ),
    "numbers_as_text": ("2.0.1", "StatusNotification", STATUS_2 | {"evseId": "1"}, {}, "TypeConstraintViolation"),
    "texts_as_numbers": ("1.6", "MeterValues", values(12.5), {}, "TypeConstraintViolation"),
    "other_case": ("1.6", "StatusNotification", STATUS | {"status": "AVAILABLE"}, {}, "PropertyConstraintViolation"),
    "other_spellings": (
        "1.6",
        "MeterValues",
        values("20", unit="C", measurand="Temperature"),
        {"spellings": {"C": "Celsius"}},
        "PropertyConstraintViolation",
    ),
    "long_texts": ("1.6", "StatusNotification", STATUS | {"info": "i" * 51}, {}, "PropertyConstraintViolation"),
    "long_id_tags": ("1.6", "Authorize", {"idTag": "X16WG99J2QIEGCC0MCJ5-"}, {}, "PropertyConstraintViolation"),
}


@pytest.mark.parametrize("name", list(REPAIRED))
async def test_a_departure_is_tolerated_of_stations_that_match_and_refused_of_all_others(
    world: World, name: str
) -> None:
    version, action, payload, more, code = REPAIRED[name]
    station = await booted(world, version)

    strict = await station.call(action, payload)
    await entered(world, acme(Tolerance(name), **more))
    lenient = await station.call(action, payload)
    await entered(world, replace(acme(Tolerance(name), **more), model="Two"))
    of_another_model = await station.call(action, payload)

    assert (strict[0], strict[2]) == (4, code)
    assert lenient[0] == 3
    assert of_another_model[2] == code
    counted = world.gateway.metrics.registry.get_sample_value
    assert counted("ocpp_quirks_tolerated_total", {"action": action, "tolerance": name}) == 1


async def test_every_tolerance_is_tried_here() -> None:
    corrections = {"sampled_kwh_as_wh", "registers_kwh_as_wh", "transaction_id_zero"}

    assert corrections | set(REPAIRED) == {each.value for each in Tolerance}


async def test_one_departure_more_than_is_tolerated_refuses_the_message_as_it_came(world: World) -> None:
    station = await booted(world)
    await entered(world, acme(Tolerance.OTHER_CASE))

    answer = await station.call("StatusNotification", STATUS | {"status": "available", "colour": "red"})

    assert answer[0] == 4
    assert len(await world.events()) == 1  # the boot


async def test_several_departures_of_one_message_and_of_one_value_are_tolerated_together(world: World) -> None:
    station = await booted(world)
    tolerances = (Tolerance.OTHER_CASE, Tolerance.NULL_PROPERTIES, Tolerance.UNKNOWN_PROPERTIES)
    await entered(world, acme(*tolerances, Tolerance.NUMBERS_AS_TEXT))
    sampled = {"value": "5", "unit": None, "context": "sample.periodic", "x": 1}

    answer = await station.call(
        "MeterValues", {"connectorId": "1", "meterValue": [{"timestamp": T, "sampledValue": [sampled, sampled]}]}
    )

    assert answer[0] == 3
    assert [each.import_wh for each in await readings(world)] == [5]


@pytest.mark.parametrize("text", ["NaN", "1e400", "0x10", "", "5 Wh", "true"])
async def test_what_is_no_number_is_none_in_quotes_either(world: World, text: str) -> None:
    station = await booted(world)
    await entered(world, acme(Tolerance.NUMBERS_AS_TEXT))

    answer = await station.call("StartTransaction", START | {"meterStart": text})

    assert answer[0] == 4


@pytest.mark.parametrize(
    ("text", "is_read"),
    [("2022-03-27T01:10:00", True), ("2022-03-27", False), ("yesterday", False), ("2022-13-01T00:00:00", False)],
)
async def test_a_time_without_zone_is_in_the_zone_of_its_profile_and_its_readings_say_so(
    world: World, text: str, *, is_read: bool
) -> None:
    station = await booted(world)
    await entered(world, acme(Tolerance.LOOSE_TIMES, time_zone="Europe/Amsterdam"))

    answer = await station.call("StartTransaction", START | {"timestamp": text})

    assert (answer[0] == 3) is is_read
    told = [(each.at.isoformat(), each.note) for each in await readings(world)]
    assert told == ([("2022-03-27T00:10:00+00:00", "acme: loose_times")] if is_read else [])


async def test_a_long_id_tag_is_kept_whole_for_half_of_it_is_somebody_else(world: World) -> None:
    station = await booted(world)
    await entered(world, acme(Tolerance.LONG_ID_TAGS, Tolerance.LONG_TEXTS))
    tag = "X16WG99J2QIEGCC0MCJ5-"

    await station.call("Authorize", {"idTag": tag})
    too_long = await station.call("Authorize", {"idTag": "X" * 37})

    assert [each.id_token for each in world.back_office.asked] == [tag]
    assert too_long[0] == 4


async def test_what_identifies_or_measures_is_never_cut(world: World) -> None:
    station = await booted(world, "2.0.1")
    await entered(world, acme(Tolerance.LONG_TEXTS))

    answer = await station.call("Authorize", {"idToken": {"idToken": "X" * 37, "type": "Central"}})

    assert answer[0] == 4


# -- energy ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sampled", "import_wh", "note"),
    [
        ({"value": "361.5"}, 361_500, "acme: sampled_kwh_as_wh"),
        ({"value": "361", "unit": "Wh"}, 361_000, "acme: sampled_kwh_as_wh"),
        ({"value": "361", "unit": "kWh"}, 361_000, None),
        ({"value": "9451", "measurand": "Power.Active.Import", "unit": "W"}, None, None),
    ],
)
async def test_kwh_said_to_be_wh_are_corrected_and_the_reading_says_so(
    world: World, sampled: dict[str, Any], import_wh: int | None, note: str | None
) -> None:
    station = await booted(world)
    await entered(world, acme(Tolerance.SAMPLED_KWH_AS_WH))

    answer = await station.call("MeterValues", values(**sampled))

    assert answer[0] == 3
    (reading,) = await readings(world)
    assert (reading.import_wh, reading.note) == (import_wh, note)


async def test_kwh_in_2_0_1_are_corrected_with_every_digit(world: World) -> None:
    station = await booted(world, "2.0.1")
    await entered(world, acme(Tolerance.SAMPLED_KWH_AS_WH))
    frame = json.dumps([2, "m", "MeterValues", {"evseId": 1, "meterValue": values(0)["meterValue"]}])

    await station.send(frame.replace('"value": 0', '"value": 361.123'))
    answer = await station.receive()

    assert answer[0] == 3
    assert [each.import_wh for each in await readings(world)] == [361_123]


async def test_registers_in_kwh_are_corrected_and_without_a_profile_stay_what_they_are(world: World) -> None:
    station = await booted(world)
    await station.call("StartTransaction", START)
    await entered(world, acme(Tolerance.REGISTERS_KWH_AS_WH))
    await station.call("StopTransaction", {"transactionId": 1, "meterStop": 6, "timestamp": T})

    told = [(each.import_wh, each.note) for each in await readings(world)]

    assert told == [(5, None), (6_000, "acme: registers_kwh_as_wh")]


async def test_transaction_0_is_the_one_at_its_connector_and_its_end_the_only_running_ones(world: World) -> None:
    station = await booted(world)
    await entered(world, acme(Tolerance.TRANSACTION_ID_ZERO))
    stop = {"transactionId": 0, "meterStop": 9, "timestamp": T}
    await station.call("StartTransaction", START)
    await station.call("StartTransaction", START | {"connectorId": 2})
    await station.call("MeterValues", {"transactionId": 0, **values("6"), "connectorId": 2})
    await station.call("StopTransaction", stop)  # of which of the two, nobody knows
    await station.call("StopTransaction", {"transactionId": 1, "meterStop": 9, "timestamp": T})
    await station.call("StopTransaction", stop | {"meterStop": 8})
    await station.call("StopTransaction", stop | {"meterStop": 8})

    told = ["/".join(event_id.split("/")[2:4]) for event_id in await world.event_ids() if "boot" not in event_id]
    assert told == ["1/start", "2/start", "2/meter", "0/stop", "1/stop", "2/stop", "2/stop"]
    *_, once, again = await world.event_ids()
    assert once == again


# -- which stations, and how one knows -------------------------------------------------------------------------------


async def test_what_a_station_is_is_remembered_for_a_connection_without_a_boot(world: World) -> None:
    await entered(world, acme(Tolerance.OTHER_CASE))
    first = await booted(world)
    await first.socket.close(1000, "")
    row = await world.gateway.presence.find(IDENTITY)

    again = await world.dial("ocpp1.6")
    answer = await again.call("StatusNotification", STATUS | {"status": "available"})

    assert row is not None
    assert row.make == StationMake("ACME", "One", "1.2.3")
    assert answer[0] == 3


async def test_a_profile_counts_for_the_boot_that_names_its_station(world: World) -> None:
    await entered(world, acme(Tolerance.UNKNOWN_PROPERTIES, heartbeat_interval_s=3_600))
    station, other = await world.dial("ocpp1.6"), await world.dial("ocpp1.6", station="CS-2")

    answer = await station.call("BootNotification", ACME | {"colour": "red"})
    refused = await other.call("BootNotification", ACME | {"chargePointVendor": "Other", "colour": "red"})

    assert (answer[0], answer[2]["interval"]) == (3, 3_600)
    assert refused[0] == 4


async def test_what_a_station_answers_is_read_as_leniently(world: World) -> None:
    await entered(world, acme(Tolerance.OTHER_CASE))
    station = await booted(world)
    call = StationCommand(correlation_id="c", timeout_s=5, ocpp_call=OCPPCall(action="ClearCache", payload={}))

    command = asyncio.create_task(world.gateway.command(IDENTITY, call))
    _, message_id, *_ = await station.receive()
    await station.send([3, message_id, {"status": "ACCEPTED"}])

    assert (await command).answer == {"status": "Accepted"}


async def test_the_message_log_shows_what_came_and_what_was_tolerated(world: World) -> None:
    until = MessageLogging(until=NOW + timedelta(hours=1))
    await world.gateway.message_log.begin(IDENTITY, until)
    await entered(world, acme(Tolerance.OTHER_CASE))
    station = await booted(world)

    await station.call("StatusNotification", STATUS | {"status": "available"})

    await world.gateway.message_log.store()
    status, boot = await world.gateway.message_log.kept(IDENTITY, offset=0, limit=5)
    assert json.loads(status.payload or "")["status"] == "available"
    assert (status.tolerated, boot.tolerated) == (("acme: other_case",), ())


async def test_another_party_is_not_meant(world: World) -> None:
    await world.gateway.quirks.put(PartyId("NL-OTH"), "acme", acme(Tolerance.OTHER_CASE))
    station = await booted(world)

    assert (await station.call("StatusNotification", STATUS | {"status": "available"}))[0] == 4


async def test_another_gateway_learns_of_a_profile_by_looking(world: World) -> None:
    await entered(world, acme(Tolerance.OTHER_CASE))
    other = QuirkBook(world.ports.units, world.clock, LoopTimer())

    before = other.generation
    await other.look()
    await other.look()

    assert other.generation == before + 1
    assert {each.name for each in other.of_party(PARTY_ID)} == {"acme", *BUILT_IN}


# -- profiles --------------------------------------------------------------------------------------------------------


def test_built_in_profiles_name_their_source_and_change_no_energy() -> None:
    for profile in BUILT_IN.values():
        assert "#" in profile.why
        assert not {Tolerance.SAMPLED_KWH_AS_WH, Tolerance.REGISTERS_KWH_AS_WH} & set(profile.tolerances)


@pytest.mark.parametrize(
    "changes",
    [
        {"vendor": "*"},
        {"who": " "},
        {"why": "w" * 501},
        {"time_zone": "Mars/Olympus"},
        {"heartbeat_interval_s": 0},
        {"spellings": {"a": "b"}},
        {"missing": {"StatusNotification": {"connectorId": 1}}},
        {
            "tolerances": (Tolerance.MISSING_PROPERTIES,),
            "missing": {"StopTransaction": {"meterStop": 0}},
        },
    ],
)
def test_a_profile_for_all_stations_or_that_makes_up_a_measurement_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(QuirkProfileRefused):
        check_profile("acme", replace(acme(Tolerance.OTHER_CASE), **changes))


async def test_a_party_replaces_a_built_in_profile_and_has_it_back(world: World) -> None:
    world.http.allow_origin("http://gateway-a.test")
    client = StationControlClient(world.http, gateway_url="http://gateway-a.test", internal_token=TOKEN)
    name = "growatt_times"
    own = QuirkProfile(tolerances=(), who="operator", why="fixed by firmware 2", vendor="*growatt*")

    await client.put_quirk(PARTY_ID, name, own)
    (replaced,) = [each for each in await client.quirks(PARTY_ID) if each.name == name]
    await client.drop_quirk(PARTY_ID, name)
    (back,) = [each for each in await client.quirks(PARTY_ID) if each.name == name]

    assert (replaced.profile, replaced.is_built_in, replaced.changed_at) == (own, False, NOW)
    assert (back.profile, back.is_built_in) == (BUILT_IN[name], True)
    with pytest.raises(GatewayRefused):
        await client.drop_quirk(PARTY_ID, name)
    with pytest.raises(GatewayRefused):
        await client.put_quirk(PARTY_ID, "Bad Name", own)


async def test_a_party_has_so_many_profiles_at_most() -> None:
    async with running_world() as world:
        for number in range(PROFILES_MAX):
            await entered(world, acme(Tolerance.OTHER_CASE), f"acme{number}")

        with pytest.raises(TooManyProfiles):
            await entered(world, acme(Tolerance.OTHER_CASE), "one-more")
