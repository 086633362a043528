"""Adversaries whose messages are well framed and say what no schema allows, or what no clock shows.

These are the quirks that a profile may tolerate (docs/how-to/tolerate-a-quirk.md); without one they are refused.
"""

from __future__ import annotations

from typing import Any, Final

from simulator.adversaries.adversary import Adversary, Play
from simulator.adversaries.hostile_station import HostileStation
from simulator.stations.calls import Payload
from simulator.stations.profile import OCPPVersion

V16, V201 = OCPPVersion.OCPP16, OCPPVersion.OCPP201


def _status(**changes: Any) -> Play:
    """Play a 1.6 StatusNotification with properties changed."""

    async def play(station: HostileStation) -> None:
        status: Payload = {"connectorId": 1, "errorCode": "NoError", "status": "Available", "timestamp": station.at(0)}
        await station.call("StatusNotification", status | changes)

    return play


def _temperature(*units: str) -> Play:
    async def play(station: HostileStation) -> None:
        for unit in units:
            value = {"value": "21", "measurand": "Temperature", "unit": unit}
            values = [{"timestamp": station.at(0), "sampledValue": [value]}]
            await station.call("MeterValues", {"connectorId": 1, "meterValue": values})

    return play


async def _without_timestamp(station: HostileStation) -> None:
    await station.call("StatusNotification", {"connectorStatus": "Available", "evseId": 1, "connectorId": 1})


async def _oversized_tag(station: HostileStation) -> None:
    await station.call("Authorize", {"idTag": "X16WG99J2QIEGCC0MCJ5-"})


VALUES: Final = (
    Adversary(
        name="time_without_zone",
        what="writes a time without its zone",
        source="evcc-io/evcc#10399 (Growatt)",
        version=V16,
        play=_status(timestamp="2022-03-27T08:00:00"),
        answers=("PropertyConstraintViolation",),
    ),
    Adversary(
        name="yesterday",
        what='says "yesterday" for a time',
        source="mobilityhouse/ocpp 2.1.0: accepted",
        version=V16,
        play=_status(timestamp="yesterday"),
        answers=("PropertyConstraintViolation",),
    ),
    Adversary(
        name="leap_second",
        what="reports something at a leap second",
        source="RFC 3339, 5.7",
        version=V16,
        play=_status(timestamp="2016-12-31T23:59:60Z"),
        answers=("result",),
    ),
    Adversary(
        name="first_of_1970",
        what="reports its status with a clock that was never set",
        source="matth-x/MicroOcpp#311",
        version=V16,
        play=_status(timestamp="1970-01-01T00:00:00.740Z"),
        answers=("result",),
    ),
    Adversary(
        name="numbers_in_quotes",
        what="puts a number in quotes",
        source="evcc#32184",
        version=V16,
        play=_status(connectorId="1"),
        answers=("TypeConstraintViolation",),
    ),
    Adversary(
        name="lower_case",
        what="writes an enumeration value in lower case",
        source="lbbrhzn/ocpp#2150",
        version=V16,
        play=_status(status="available"),
        answers=("PropertyConstraintViolation",),
    ),
    Adversary(
        name="extra_property",
        what="adds a property of its own",
        source="dallmann-consulting/OCPP.Core#36",
        version=V16,
        play=_status(colour="red"),
        answers=("FormationViolation",),
    ),
    Adversary(
        name="null_property",
        what="writes null for what it does not have",
        source="mobilityhouse/ocpp#54",
        version=V16,
        play=_status(vendorId=None),
        answers=("TypeConstraintViolation",),
    ),
    Adversary(
        name="without_timestamp",
        what="leaves the time of a status out",
        source="lbbrhzn/ocpp#1499",
        version=V201,
        play=_without_timestamp,
        answers=("OccurenceConstraintViolation",),
    ),
    Adversary(
        name="oversized_tag",
        what="has an idTag of 21 characters",
        source="lbbrhzn/ocpp#1803 (Sigen)",
        version=V16,
        play=_oversized_tag,
        answers=("PropertyConstraintViolation",),
    ),
    Adversary(
        name="celcius",
        what='spells the unit "Celcius" as 1.6 did first, "Celsius" as its errata do, and "C"',
        source="citrineos-core#971; OpenEVSE/openevse_esp32_firmware#726",
        version=V16,
        play=_temperature("Celcius", "Celsius", "C"),
        answers=("result", "result", "PropertyConstraintViolation"),
    ),
)
