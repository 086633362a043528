"""Adversaries that break OCPP-J itself: frames, ids, order, size and number (OCPP-J 1.6 and 2.x part 4)."""

from __future__ import annotations

import json
from typing import Final

from simulator.adversaries.adversary import Adversary, Play
from simulator.adversaries.hostile_station import CALLRESULT, HostileStation
from simulator.stations.profile import OCPPVersion

V16, V201, V21 = OCPPVersion.OCPP16, OCPPVersion.OCPP201, OCPPVersion.OCPP21
OCPP_PACKAGE: Final = "mobilityhouse/ocpp 2.1.0, measured"
PART_4: Final = "OCPP 2.0.1 part 4, 4.2"
NESTED: Final = 100_000
HUGE_BYTES: Final = 600_000
ENORMOUS_BYTES: Final = 1_100_000
STORM: Final = 150
UNASKED: Final = 150
UNASKED_BYTES: Final = 2_000
PENDING: Final = 20


def _sends(*frames: str | bytes) -> Play:
    async def play(station: HostileStation) -> None:
        for frame in frames:
            await station.raw(frame)

    return play


def _calls(action: str, payload: str, count: int = STORM) -> Play:
    async def play(station: HostileStation) -> None:
        await station.storm(action, json.loads(payload.replace("NOW", station.at(0))), count)

    return play


async def _enormous(station: HostileStation) -> None:
    await station.raw(station.frame("DataTransfer", {"vendorId": "x", "data": "x" * ENORMOUS_BYTES}))


async def _unasked(station: HostileStation) -> None:
    await station.flood([json.dumps([CALLRESULT, f"u{n}", {"x": "x" * UNASKED_BYTES}]) for n in range(UNASKED)])


async def _while_outstanding(station: HostileStation) -> None:
    await station.burst([station.frame("Authorize", {"idTag": station.token}) for _ in range(5)])


async def _many_outstanding(station: HostileStation) -> None:
    # Each is answered, by a result or because too many wait: which of both hangs on the CSMS's pace.
    calls = [station.frame("Authorize", {"idTag": station.token}) for _ in range(PENDING)]
    await station.burst(calls, tells_apart=False)


async def _id_again(station: HostileStation) -> None:
    same = station.frame("Authorize", {"idTag": station.token}, message_id="same")
    await station.raw(same)
    await station.raw(same)
    await station.raw(station.frame("Authorize", {"idTag": "OTHER"}, message_id="same"))


async def _off_by_one(station: HostileStation) -> None:
    call = await station.next_call()
    if call is None:
        station.heard.append("no CALL came")
        return
    await station.answer("not-that-one", {"status": "Accepted"})
    await station.answer(call[1], {"status": "Accepted"})
    await station.answer(call[1], {"status": "Rejected"})
    await station.raw('[2,"after","Heartbeat",{}]')


async def _late(station: HostileStation) -> None:
    first, second = await station.next_call(), await station.next_call()
    if first is None or second is None:
        station.heard.append("no CALL came")
        return
    await station.answer(first[1], {"status": "Rejected"})
    await station.answer(second[1], {"status": "Accepted"})
    await station.raw('[2,"after","Heartbeat",{}]')


async def _malformed_answer(station: HostileStation) -> None:
    call = await station.next_call()
    if call is None:
        station.heard.append("no CALL came")
        return
    await station.answer(call[1], {"status": ["Accepted"]})
    await station.hear()


async def _two_connections(station: HostileStation) -> None:
    twin = station.twin()
    await twin.open()
    station.heard.append(await twin.ended())
    await station.raw('[2,"after","Heartbeat",{}]')


FRAMING: Final = (
    Adversary(
        name="not_json",
        what="sends a CALL that breaks off",
        source=OCPP_PACKAGE,
        version=V201,
        play=_sends('[2,"x","Heartbeat",'),
        answers=("FormatViolation",),
    ),
    Adversary(
        name="not_a_call",
        what="sends a CALL of three elements, an empty array, an object and a text",
        source="mobilityhouse/ocpp#334",
        version=V201,
        play=_sends('[2,"x","Heartbeat"]', "[]", "{}", '"x"'),
        answers=("RpcFrameworkError",) * 4,
    ),
    Adversary(
        name="action_is_no_text",
        what="names an array, null and false as its action",
        source=OCPP_PACKAGE + ": the connection dies",
        version=V201,
        play=_sends('[2,"x",["x"],{}]', '[2,"x",null,{}]', '[2,"x",false,{}]'),
        answers=("RpcFrameworkError",) * 3,
    ),
    Adversary(
        name="payload_is_no_object",
        what="sends an array and null as payload",
        source=PART_4,
        version=V16,
        play=_sends('[2,"x","Heartbeat",[]]', '[2,"x","Heartbeat",null]'),
        answers=("FormationViolation",) * 2,
    ),
    Adversary(
        name="id_is_no_id",
        what="sends message ids that are null, a number, a list, empty, 5,000 characters long, or hold a NUL",
        source=OCPP_PACKAGE,
        version=V201,
        play=_sends(
            '[2,null,"Heartbeat",{}]',
            '[2,7,"Heartbeat",{}]',
            '[2,["x"],"Heartbeat",{}]',
            '[2,"","Heartbeat",{}]',
            f'[2,"{"x" * 5_000}","Heartbeat",{{}}]',
            '[2,"\\u0000","Heartbeat",{}]',
        ),
        answers=("RpcFrameworkError",) * 6,
    ),
    Adversary(
        name="unknown_type",
        what="sends a frame of type 9, and one whose type is a text",
        source="OCPP 2.0.1 part 4, 4.3",
        version=V201,
        play=_sends('[9,"x",{}]', '["2","x","Heartbeat",{}]'),
        answers=("MessageTypeNotSupported",) * 2,
    ),
    Adversary(
        name="unknown_type_16",
        what="does the same in 1.6, which ignores it",
        source="OCPP-J 1.6, 4.1.3",
        version=V16,
        play=_sends('[9,"x",{}]'),
        answers=("silence",),
    ),
    Adversary(
        name="send_without_21",
        what="sends a SEND, which only 2.1 has, in 2.0.1",
        source="OCPP 2.1 part 4",
        version=V201,
        play=_sends('[6,"x","NotifyPeriodicEventStream",{}]'),
        answers=("MessageTypeNotSupported",),
    ),
    Adversary(
        name="broken_send",
        what="sends SENDs that are none: unknown, too short, of a CALL's action, against their schema",
        source="OCPP 2.1 part 4: a SEND is never answered",
        version=V21,
        play=_sends(
            '[6,"x","MakeCoffee",{}]',
            '[6,"x"]',
            '[6,"x","BootNotification",{}]',
            '[6,"x","NotifyPeriodicEventStream",{"id":"one"}]',
        ),
        answers=("silence",) * 4,
    ),
    Adversary(
        name="result_error",
        what="refuses results that nobody sent, by CALLRESULTERROR",
        source="OCPP 2.1 part 4",
        version=V21,
        play=_sends('[5,"x","GenericError","",{}]', "[5]"),
        answers=("silence",) * 2,
    ),
    Adversary(
        name="binary",
        what="sends its CALL as a binary message, and garbage",
        source=OCPP_PACKAGE,
        version=V201,
        play=_sends(b'[2,"x","Heartbeat",{}]', bytes(range(256))),
        answers=("RpcFrameworkError",) * 2,
    ),
    Adversary(
        name="deep",
        what=f"nests {NESTED:,} arrays",
        source=OCPP_PACKAGE + ": RecursionError, the connection dies",
        version=V201,
        play=_sends("[" * NESTED),
        answers=("FormatViolation",),
    ),
    Adversary(
        name="huge",
        what=f"sends a text of {HUGE_BYTES:,} bytes",
        source="reliability notes, row 37",
        version=V201,
        play=_sends(f'[2,"x","DataTransfer",{{"vendorId":"x","data":"{"x" * HUGE_BYTES}"}}]'),
        answers=("RpcFrameworkError",),
    ),
    Adversary(
        name="enormous",
        what=f"sends a text of {ENORMOUS_BYTES:,} bytes, more than a gateway reads",
        source="RFC 6455, 7.4.1: 1009",
        version=V201,
        play=_enormous,
        answers=("closed 1009",),
        keeps_connection=False,
    ),
    Adversary(
        name="key_twice",
        what="sends an object with one key twice",
        source="dallmann-consulting/OCPP.Core#36",
        version=V201,
        play=_sends('[2,"x","Authorize",{"idToken":{"idToken":"A","idToken":"B","type":"Central"}}]'),
        answers=("FormatViolation",),
    ),
    Adversary(
        name="no_number",
        what="sends NaN and 1e400 as numbers",
        source=OCPP_PACKAGE + ": handlers get nan and inf",
        version=V201,
        play=_sends(
            '[2,"x","MeterValues",{"evseId":1,"meterValue":[{"timestamp":"2022-03-27T00:00:00Z",'
            '"sampledValue":[{"value":NaN}]}]}]',
            '[2,"x","MeterValues",{"evseId":1,"meterValue":[{"timestamp":"2022-03-27T00:00:00Z",'
            '"sampledValue":[{"value":1e400}]}]}]',
        ),
        answers=("FormatViolation", "PropertyConstraintViolation"),
    ),
    Adversary(
        name="unknown_action",
        what="calls what no version knows, and what only a CSMS may call",
        source="citrineos-core#784; " + OCPP_PACKAGE + ": no reply in 2.1",
        version=V21,
        play=_sends('[2,"x","MakeCoffee",{}]', '[2,"x","Reset",{"type":"Immediate"}]'),
        answers=("NotImplemented", "NotSupported"),
    ),
    Adversary(
        name="unasked_results",
        what=f"answers {UNASKED} times what nobody asked",
        source=OCPP_PACKAGE + ": all queued, then RecursionError",
        version=V201,
        play=_unasked,
        answers=("silence",),
    ),
    Adversary(
        name="off_by_one",
        what="answers a CALL of the CSMS under a wrong id, then rightly, then again otherwise",
        source="bmw-wallbox-ha#17; mobilityhouse/ocpp#297",
        version=V201,
        play=_off_by_one,
        answers=("result",),
        needs_a_call=True,
    ),
    Adversary(
        name="late_answer",
        what="answers a CALL of the CSMS when that has given it up and made the next",
        source="mobilityhouse/ocpp#297, #130",
        version=V201,
        play=_late,
        answers=("result",),
        needs_a_call=True,
    ),
    Adversary(
        name="malformed_answer",
        what="answers a CALL of the CSMS against its schema",
        source="OCPP 2.1 part 4: CALLRESULTERROR",
        version=V21,
        play=_malformed_answer,
        answers=("result error TypeConstraintViolation",),
        needs_a_call=True,
    ),
    Adversary(
        name="calls_while_outstanding",
        what="makes five CALLs without waiting for an answer",
        source="OCPP-J 1.6, 4.1.1",
        version=V16,
        play=_while_outstanding,
        answers=("5 result",),
    ),
    Adversary(
        name="many_outstanding",
        what=f"makes {PENDING} CALLs without waiting, more than a gateway keeps",
        source="OCPP-J 1.6, 4.1.1",
        version=V16,
        play=_many_outstanding,
        answers=(f"{PENDING} answered",),
    ),
    Adversary(
        name="id_again",
        what="repeats a CALL under its id, then makes another under it",
        source=OCPP_PACKAGE + ": the same id twice runs the handler twice",
        version=V16,
        play=_id_again,
        answers=("result", "result", "FormationViolation"),
    ),
    Adversary(
        name="two_connections",
        what="opens a second connection while the first lives",
        source="CVE-2026-24912; steve#357",
        version=V16,
        play=_two_connections,
        answers=("closed 1008", "result"),
    ),
    Adversary(
        name="boot_loop",
        what=f"boots {STORM} times in a row",
        source="field",
        version=V16,
        play=_calls("BootNotification", '{"chargePointVendor":"Adversary","chargePointModel":"Simulated"}'),
        answers=(f"{STORM} result",),
    ),
    Adversary(
        name="status_storm",
        what=f"reports its status {STORM} times in a row",
        source="field",
        version=V16,
        play=_calls(
            "StatusNotification",
            '{"connectorId":1,"errorCode":"NoError","status":"Available","timestamp":"NOW"}',
        ),
        answers=(f"{STORM} result",),
    ),
    Adversary(
        name="heartbeat_storm",
        what=f"sends {STORM} heartbeats in a row",
        source="field",
        version=V201,
        play=_calls("Heartbeat", "{}"),
        answers=(f"{STORM} result",),
    ),
    Adversary(
        name="data_transfer_flood",
        what=f"sends vendor data {STORM} times in a row",
        source="reliability notes, row 37",
        version=V201,
        play=_calls("DataTransfer", json.dumps({"vendorId": "x", "data": "x" * 1_000})),
        answers=(f"{STORM} result",),
    ),
)
