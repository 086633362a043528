"""Adversaries that lie about charges: ids, order, registers and clocks. What is true of a charge is told in the past,
as a station does that was offline, so that nobody has to wait for it.

Each charge is of `WH` Wh in `MINUTES` minutes at EVSE 1, unless the adversary says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from simulator.adversaries.adversary import Adversary, Energy, Play
from simulator.adversaries.hostile_station import HostileStation
from simulator.stations.calls import Payload
from simulator.stations.profile import OCPPVersion

V16, V201 = OCPPVersion.OCPP16, OCPPVersion.OCPP201
WH: Final = 5_000
MINUTES: Final = 60
REGISTER_WH: Final = 1_000_000
_BEGIN: Final = -MINUTES - 1
_END: Final = -1

# 1.6 ------------------------------------------------------------------------------------------------------------------


def _start(station: HostileStation, **changes: Any) -> Payload:
    begin: Payload = {
        "connectorId": 1,
        "idTag": station.token,
        "meterStart": REGISTER_WH,
        "timestamp": station.at(changes.pop("minute", _BEGIN)),
    }
    return begin | changes


def _stop(station: HostileStation, transaction_id: int, **changes: Any) -> Payload:
    end: Payload = {
        "transactionId": transaction_id,
        "meterStop": REGISTER_WH + WH,
        "timestamp": station.at(changes.pop("minute", _END)),
    }
    return end | changes


def _ends_as(*transaction_ids: int) -> Play:
    """Start a charge and end it under these numbers; 0 stands for the right one."""

    async def play(station: HostileStation) -> None:
        number = (await station.call("StartTransaction", _start(station))).get("transactionId", 0)
        for each in transaction_ids:
            await station.call("StopTransaction", _stop(station, each or number))

    return play


def _charge(start: Payload | None = None, stop: Payload | None = None) -> Play:
    """Play a charge with properties of its start and stop changed."""

    async def play(station: HostileStation) -> None:
        answer = await station.call("StartTransaction", _start(station, **(start or {})))
        await station.call("StopTransaction", _stop(station, answer.get("transactionId", 0), **(stop or {})))

    return play


def _register(value: str, unit: str = "Wh") -> Play:
    """Play a charge with a sampled register in between."""

    async def play(station: HostileStation) -> None:
        number = (await station.call("StartTransaction", _start(station))).get("transactionId", 0)
        sampled = [{"value": value, "unit": unit, "context": "Sample.Periodic"}]
        meter_value = [{"timestamp": station.at(-MINUTES / 2), "sampledValue": sampled}]
        await station.call("MeterValues", {"connectorId": 1, "transactionId": number, "meterValue": meter_value})
        await station.call("StopTransaction", _stop(station, number))

    return play


async def _always_one(station: HostileStation) -> None:
    await station.call("StartTransaction", _start(station, minute=-120))
    await station.call("StopTransaction", _stop(station, 1, minute=-90))
    again = {"meterStart": REGISTER_WH + WH, "minute": -60}
    await station.call("StartTransaction", _start(station, **again))
    await station.call("StopTransaction", _stop(station, 1, meterStop=REGISTER_WH + 2 * WH, minute=-30))


async def _without_meter_stop(station: HostileStation) -> None:
    number = (await station.call("StartTransaction", _start(station))).get("transactionId", 0)
    stop = _stop(station, number)
    del stop["meterStop"]
    await station.call("StopTransaction", stop)


async def _each_twice(station: HostileStation) -> None:
    first = await station.call("StartTransaction", _start(station))
    second = await station.call("StartTransaction", _start(station))
    for answer in (first, second):
        await station.call("StopTransaction", _stop(station, answer.get("transactionId", 0)))


async def _stop_first(station: HostileStation) -> None:
    # The number a CSMS will give can't be known, so the start is told to learn it, and told again after its end.
    number = (await station.call("StartTransaction", _start(station))).get("transactionId", 0)
    await station.call("StopTransaction", _stop(station, number))
    await station.call("StartTransaction", _start(station))


async def _overlap(station: HostileStation) -> None:
    for minute in (-90, -80):
        answer = await station.call("StartTransaction", _start(station, minute=minute))
        await station.call("StopTransaction", _stop(station, answer.get("transactionId", 0), minute=-30))


async def _refused_beside(station: HostileStation) -> None:
    number = (await station.call("StartTransaction", _start(station))).get("transactionId", 0)
    await station.call("StartTransaction", _start(station, idTag="DEADBEEF", minute=-30))
    await station.call("StopTransaction", _stop(station, number))


# 2.0.1 ----------------------------------------------------------------------------------------------------------------


def _event(
    station: HostileStation, kind: str, seq_no: int, minute: float, register_wh: float | None, **changes: Any
) -> Payload:
    triggers = {"Started": "Authorized", "Updated": "MeterValuePeriodic", "Ended": "EVDeparted"}
    event: Payload = {
        "eventType": kind,
        "timestamp": station.at(minute),
        "triggerReason": triggers[kind],
        "seqNo": seq_no,
        "offline": True,
        "transactionInfo": {"transactionId": "adversary-charge"},
        "evse": {"id": 1, "connectorId": 1},
    }
    if kind == "Started":
        event["idToken"] = {"idToken": station.token, "type": "ISO14443"}
    if register_wh is not None:
        event["meterValue"] = [{"timestamp": station.at(minute), "sampledValue": [{"value": register_wh}]}]
    return event | changes


_Step = tuple[str, int, float, float | None]
"""Kind, seqNo, minute and register of an event."""
_STARTED: Final[_Step] = ("Started", 0, _BEGIN, REGISTER_WH)
_HALFWAY: Final[_Step] = ("Updated", 1, -MINUTES / 2, REGISTER_WH + WH / 2)
_ENDED: Final[_Step] = ("Ended", 2, _END, REGISTER_WH + WH)


def _tells(*steps: _Step, **changes: Any) -> Play:
    async def play(station: HostileStation) -> None:
        for step in steps:
            await station.call("TransactionEvent", _event(station, *step, **changes))

    return play


def _results(count: int) -> tuple[str, ...]:
    return ("result",) * count


def _sixteen(
    name: str, what: str, source: str, play: Play, *, energy: Energy, answers: Sequence[str] = ("result",) * 2
) -> Adversary:
    return Adversary(name=name, what=what, source=source, version=V16, play=play, answers=tuple(answers), energy=energy)


def _two(name: str, what: str, source: str, play: Play, *, energy: Energy, count: int = 3) -> Adversary:
    return Adversary(
        name=name, what=what, source=source, version=V201, play=play, answers=_results(count), energy=energy
    )


ROW_22: Final = "reliability notes, row 22"
ROW_23: Final = "reliability notes, row 23"
ROW_24: Final = "reliability notes, row 24"
CHARGES: Final = (
    _sixteen(
        "honest",
        "charges by the book, told afterwards: the measure of all others",
        "control",
        _charge(),
        energy=Energy(billed_wh=WH),
    ),
    _sixteen(
        "minus_one",
        "ends its charge as transaction -1, as after an offline start",
        "libocpp#495; open-ocpp#24; " + ROW_22,
        _ends_as(-1),
        energy=Energy(quarantined="METER_VALUES_MISSING"),
    ),
    _sixteen(
        "unknown_transaction",
        "ends a transaction that never was",
        "steve#156, #292; connectorio-addons#199",
        _ends_as(987_654, 0),
        energy=Energy(billed_wh=WH, quarantined="METER_VALUES_MISSING"),
        answers=_results(3),
    ),
    _sixteen(
        "beyond_all_numbers",
        "ends transaction 10^30",
        ROW_22,
        _ends_as(10**30, 0),
        energy=Energy(billed_wh=WH, quarantined="METER_VALUES_MISSING"),
        answers=_results(3),
    ),
    _sixteen(
        "always_one",
        "ends every charge as transaction 1",
        "citrineos#172",
        _always_one,
        energy=Energy(billed_wh=WH, quarantined="LATE_EVENT_AFTER_CDR"),
        answers=_results(4),
    ),
    _sixteen(
        "each_twice",
        "sends each message twice, under new ids",
        "libocpp#907; reliability notes, row 20",
        _each_twice,
        energy=Energy(billed_wh=WH),
        answers=_results(4),
    ),
    _sixteen(
        "start_after_stop",
        "sends its start again after its end",
        "lbbrhzn/ocpp#2141: no resurrection",
        _stop_first,
        energy=Energy(billed_wh=WH),
        answers=_results(3),
    ),
    _sixteen(
        "without_meter_stop",
        "leaves meterStop out",
        "field",
        _without_meter_stop,
        energy=Energy(),
        answers=("result", "OccurenceConstraintViolation"),
    ),
    _sixteen(
        "register_runs_back",
        "ends with a lower register than it began with",
        ROW_23,
        _charge(stop={"meterStop": REGISTER_WH - 1}),
        energy=Energy(quarantined="METER_RAN_BACKWARDS"),
    ),
    _sixteen(
        "register_jumps",
        "delivers a megawatt hour in an hour",
        ROW_23,
        _charge(stop={"meterStop": REGISTER_WH + 1_000_000}),
        energy=Energy(quarantined="ENERGY_IMPLAUSIBLE"),
    ),
    _sixteen(
        "negative_register",
        "begins with a register below zero",
        ROW_23,
        _charge(start={"meterStart": -5}),
        energy=Energy(quarantined="NOT_A_NUMBER"),
    ),
    _sixteen(
        "kwh_said_to_be_wh",
        "samples its register in kWh and says it is Wh",
        "OpenEVSE/openevse_esp32_firmware#703",
        _register(str(REGISTER_WH // 1_000 + 2)),
        energy=Energy(quarantined="METER_RAN_BACKWARDS"),
        answers=_results(3),
    ),
    _sixteen(
        "not_a_number",
        'samples its register as "NaN"',
        ROW_23,
        _register("NaN"),
        energy=Energy(quarantined="NOT_A_NUMBER"),
        answers=_results(3),
    ),
    _sixteen(
        "infinite",
        'samples its register as "1e400"',
        ROW_23,
        _register("1e400"),
        energy=Energy(quarantined="NOT_A_NUMBER"),
        answers=_results(3),
    ),
    _sixteen(
        "clock_of_1970",
        "charges in January 1970",
        ROW_24,
        _charge(start={"timestamp": "1970-01-01T00:00:00Z"}, stop={"timestamp": "1970-01-01T01:00:00Z"}),
        energy=Energy(quarantined="TIME_IMPLAUSIBLE"),
    ),
    _sixteen(
        "clock_ahead",
        "charges in a fortnight",
        ROW_24,
        _charge(start={"minute": 15 * 1_440 - MINUTES}, stop={"minute": 15 * 1_440}),
        energy=Energy(quarantined="TIME_IMPLAUSIBLE"),
    ),
    _sixteen(
        "ends_before_it_starts",
        "has its clock set back while it charges",
        ROW_24,
        _charge(start={"minute": -1}, stop={"minute": -90}),
        energy=Energy(quarantined="TIME_IMPLAUSIBLE"),
    ),
    _sixteen(
        "two_at_once",
        "charges two vehicles at one EVSE",
        "OCPP.Core#35",
        _overlap,
        energy=Energy(billed_wh=WH, quarantined="OVERLAPPING_TRANSACTION"),
        answers=_results(4),
    ),
    _sixteen(
        "refused_beside",
        "starts with a card that nobody knows while another charges",
        "citrineos-core#972: the refused one closes the running one",
        _refused_beside,
        energy=Energy(billed_wh=WH),
        answers=_results(3),
    ),
    _sixteen(
        "no_such_connector",
        "charges at a connector it does not have",
        "field",
        _charge(start={"connectorId": 99}),
        energy=Energy(quarantined="UNKNOWN_EVSE"),
    ),
    _two(
        "honest_2",
        "charges by the book of 2.0.1",
        "control",
        _tells(_STARTED, _HALFWAY, _ENDED),
        energy=Energy(billed_wh=WH),
    ),
    _two(
        "any_order",
        "tells the end first, and the start last",
        "lbbrhzn/ocpp#2141; reliability notes, row 20",
        _tells(_ENDED, _HALFWAY, _STARTED),
        energy=Energy(billed_wh=WH),
    ),
    _two(
        "each_event_twice",
        "sends each event twice, under new ids",
        "libocpp#907",
        _tells(_STARTED, _STARTED, _HALFWAY, _HALFWAY, _ENDED, _ENDED),
        energy=Energy(billed_wh=WH),
        count=6,
    ),
    _two(
        "gap",
        "never sends one of its events",
        "reliability notes, row 20",
        _tells(_STARTED, _ENDED),
        energy=Energy(quarantined="SEQUENCE_GAP"),
        count=2,
    ),
    _two(
        "counts_from_0_again",
        "counts its events from 0 again after a reboot",
        "field",
        _tells(_STARTED, ("Updated", 0, -MINUTES / 2, REGISTER_WH + WH / 2), ("Ended", 1, _END, REGISTER_WH + WH)),
        energy=Energy(quarantined="CONFLICTING_CONTENT"),
    ),
    _two(
        "end_without_values",
        "ends without meter values",
        "field",
        _tells(_STARTED, ("Ended", 1, _END, None)),
        energy=Energy(quarantined="METER_VALUES_MISSING"),
        count=2,
    ),
    _two(
        "resurrected",
        "goes on after its end",
        "lbbrhzn/ocpp#2141; reliability notes, row 21",
        _tells(_STARTED, _HALFWAY, _ENDED, ("Updated", 3, 0, REGISTER_WH + 2 * WH)),
        energy=Energy(billed_wh=WH, quarantined="LATE_EVENT_AFTER_CDR"),
        count=4,
    ),
    _two(
        "stranger",
        "charges with a card that nobody knows",
        "reliability notes, I7",
        _tells(_STARTED, _HALFWAY, _ENDED, idToken={"idToken": "DEADBEEF", "type": "ISO14443"}),
        energy=Energy(quarantined="NO_AUTHORIZATION"),
    ),
)
