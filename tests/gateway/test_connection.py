"""The Sans-I/O core: every frame a station may send has its answer, and none ends the connection."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charge_point_gateway.connection import (
    CallQueueFull,
    CallSettled,
    Connection,
    FrameRejected,
    FrameToSend,
    IncomingCall,
    IncomingSend,
    Limits,
)
from charge_point_gateway.rpc_errors import OCPPVersion, RPCError

V16, V201, V21 = OCPPVersion.V16, OCPPVersion.V201, OCPPVersion.V21
HEARTBEAT = '[2,"a","Heartbeat",{}]'


def connection(version: OCPPVersion = V201, **limits: Any) -> Connection:
    ids = count(1)
    return Connection(version, now_s=0.0, new_id=lambda: f"our-{next(ids)}", limits=Limits(**limits))


def sent(outputs: tuple[Any, ...]) -> list[Any]:
    return [json.loads(output.frame) for output in outputs if isinstance(output, FrameToSend)]


def calls(outputs: tuple[Any, ...]) -> list[IncomingCall]:
    return [output for output in outputs if isinstance(output, IncomingCall)]


def rejections(outputs: tuple[Any, ...]) -> list[str]:
    return [output.reason for output in outputs if isinstance(output, FrameRejected)]


MALFORMED = [
    ("not JSON at all", "-1", "FormationViolation", "FormatViolation"),
    ("", "-1", "FormationViolation", "FormatViolation"),
    ('[2,"a","Heartbeat",{}', "a", "FormationViolation", "FormatViolation"),
    ('[2,"a","Heartbeat",{"x":NaN}]', "a", "FormationViolation", "FormatViolation"),
    ('[2,"a","Heartbeat",{"x":Infinity}]', "a", "FormationViolation", "FormatViolation"),
    ('[2,"a","Heartbeat",{"x":-Infinity}]', "a", "FormationViolation", "FormatViolation"),
    ('[2,"a","Heartbeat",{"x":1e400}]', "a", "PropertyConstraintViolation", "PropertyConstraintViolation"),
    ('[2,"a","Heartbeat",{"x":1e-400}]', "a", "PropertyConstraintViolation", "PropertyConstraintViolation"),
    *(
        ('[2,"a","Heartbeat",{"x":' + number + "}]", "a", "PropertyConstraintViolation", "PropertyConstraintViolation")
        for number in ("1e" + "9" * 20, "-1.5e" + "9" * 20, "1e-" + "9" * 20, "0e" + "9" * 20, "0e-" + "9" * 20)
    ),
    ('[2,"a","Heartbeat",{"x":1,"x":2}]', "a", "FormationViolation", "FormatViolation"),
    ('[2,"a","Heartbeat",{"x":":","x":"\\u003a"}]', "a", "FormationViolation", "FormatViolation"),
    ('[2,"a","Heartbeat",{"x":"\\ud800"}]', "a", "FormationViolation", "FormatViolation"),
    ("[" * 5_000, "-1", "FormationViolation", "FormatViolation"),
    ("[" * 5_000 + "]" * 5_000, "-1", "FormationViolation", "FormatViolation"),
    ("[" * 100_000 + "]" * 100_000, "-1", "FormationViolation", "FormatViolation"),
    ('[2,"a","DataTransfer",' + '{"d":' * 30 + "1" + "}" * 30 + "]", "a", "FormationViolation", "FormatViolation"),
    ("{}", "-1", "FormationViolation", "RpcFrameworkError"),
    ("[]", "-1", "FormationViolation", "RpcFrameworkError"),
    ("2", "-1", "FormationViolation", "RpcFrameworkError"),
    ("null", "-1", "FormationViolation", "RpcFrameworkError"),
    ("[2]", "-1", "FormationViolation", "RpcFrameworkError"),
    ('[2,"a","Heartbeat"]', "a", "FormationViolation", "RpcFrameworkError"),
    ('[2,"a","Heartbeat",{},1]', "a", "FormationViolation", "RpcFrameworkError"),
    ('[2,null,"Heartbeat",{}]', "-1", "FormationViolation", "RpcFrameworkError"),
    ('[2,7,"Heartbeat",{}]', "-1", "FormationViolation", "RpcFrameworkError"),
    ('[2,["a"],"Heartbeat",{}]', "-1", "FormationViolation", "RpcFrameworkError"),
    ('[2,"","Heartbeat",{}]', "-1", "FormationViolation", "RpcFrameworkError"),
    ('[2,"' + "x" * 37 + '","Heartbeat",{}]', "-1", "FormationViolation", "RpcFrameworkError"),
    ('[2,"' + "x" * 400_000 + '","Heartbeat",{}]', "-1", "FormationViolation", "RpcFrameworkError"),
    ('[2,"\\u0000","Heartbeat",{}]', "-1", "FormationViolation", "RpcFrameworkError"),
    ('[2,"a\\n","Heartbeat",{}]', "-1", "FormationViolation", "RpcFrameworkError"),
    ('[2,"a",["x"],{}]', "a", "FormationViolation", "RpcFrameworkError"),
    ('[2,"a",null,{}]', "a", "FormationViolation", "RpcFrameworkError"),
    ('[2,"a",false,{}]', "a", "FormationViolation", "RpcFrameworkError"),
    ('[2,"a",{"k":1},{}]', "a", "FormationViolation", "RpcFrameworkError"),
    ('[2,"a","Heartbeat",[]]', "a", "FormationViolation", "FormatViolation"),
    ('[2,"a","Heartbeat",null]', "a", "FormationViolation", "FormatViolation"),
    ('[2,"a","Heartbeat","{}"]', "a", "FormationViolation", "FormatViolation"),
    ('[2,"a","X",{"x":"' + "y" * 600_000 + '"}]', "a", "FormationViolation", "RpcFrameworkError"),
]


@pytest.mark.parametrize("version", [V16, V201, V21])
@pytest.mark.parametrize(("frame", "message_id", "code_16", "code_201"), MALFORMED)
def test_a_malformed_call_gets_the_error_of_its_version_and_the_connection_lives(
    frame: str, message_id: str, code_16: str, code_201: str, version: OCPPVersion
) -> None:
    station = connection(version)

    [error] = sent(station.receive(frame, 0.0))

    assert error[:3] == [4, message_id, code_16 if version is V16 else code_201]
    assert len(error) == 5
    assert error[4] == {}
    assert calls(station.receive(HEARTBEAT, 0.0)) == [IncomingCall("a", "Heartbeat", {})]


@pytest.mark.parametrize("frame", [b"\x00\xff", b'[2,"a","Heartbeat",{}]'])
def test_a_binary_frame_is_answered_by_an_error(frame: bytes) -> None:
    [error] = sent(connection().receive(frame, 0.0))

    assert error[:3] == [4, "-1", "RpcFrameworkError"]


def test_a_send_of_2_1_is_handed_out_and_never_answered() -> None:
    outputs = connection(V21).receive('[6,"a","NotifyPeriodicEventStream",{"id":1}]', 0.0)

    assert outputs == (IncomingSend("a", "NotifyPeriodicEventStream", {"id": 1}),)


@pytest.mark.parametrize(
    "frame",
    ["[6]", '[6,"a","X"]', '[6,"a","X",[]]', '[6,"a",1,{}]', '[6,1,"X",{}]', '[6,"","X",{}]', '[6,"a\\u0007","X",{}]'],
)
def test_a_broken_send_is_counted_and_never_answered(frame: str) -> None:
    station = connection(V21)

    assert station.receive(frame, 0.0) == (FrameRejected("send"),)
    assert calls(station.receive(HEARTBEAT, 0.0)) != []


def test_a_station_s_word_that_our_answer_was_none_is_counted_and_never_answered() -> None:
    outputs = connection(V21).receive('[5,"a","FormatViolation","no",{}]', 0.0)

    assert outputs == (FrameRejected("result_refused"),)


@pytest.mark.parametrize(
    ("version", "expected"), [(V16, []), (V201, []), (V21, [[5, "TypeConstraintViolation", "no", {}]])]
)
def test_only_2_1_can_tell_a_station_that_its_answer_was_none(version: OCPPVersion, expected: list[Any]) -> None:
    station = connection(version)
    call, _ = station.call("Reset", {"type": "Immediate"}, now_s=0.0, timeout_s=10.0)

    told = sent(station.refuse_result(call, RPCError.TYPE, "no"))

    assert [[kind, *rest] for kind, message_id, *rest in told if message_id == call.message_id] == expected


@pytest.mark.parametrize("kind", [5, 6])
def test_what_2_1_adds_is_an_unknown_type_before(kind: int) -> None:
    frame = f'[{kind},"a","x",{{}}]'

    assert sent(connection(V16).receive(frame, 0.0)) == []
    assert sent(connection(V201).receive(frame, 0.0))[0][:3] == [4, "a", "MessageTypeNotSupported"]


def test_an_unknown_message_type_is_ignored_by_1_6_and_named_by_2_0_1() -> None:
    frame = '[9,"a","x",{}]'

    assert sent(connection(V16).receive(frame, 0.0)) == []
    assert sent(connection(V201).receive(frame, 0.0))[0][:3] == [4, "a", "MessageTypeNotSupported"]
    assert sent(connection(V201).receive('[true,"a","x",{}]', 0.0))[0][2] == "MessageTypeNotSupported"


@pytest.mark.parametrize("version", [V16, V201, V21])
def test_a_long_frame_with_a_lone_surrogate_is_an_error_too(version: OCPPVersion) -> None:
    station = connection(version)

    [error] = sent(station.receive('[2,"a","Heartbeat",{"x":"\ud800' + "y" * 200_000 + '"}]', 0.0))

    assert error[1] == "a"
    assert calls(station.receive(HEARTBEAT, 0.0)) != []


@pytest.mark.parametrize("version", [V16, V201, V21])
def test_a_message_id_that_is_no_text_is_not_repeated(version: OCPPVersion) -> None:
    [error] = sent(connection(version).receive('[2,"\ud800","Heartbeat",{}]', 0.0))

    assert error[1] == "-1"


def test_an_error_never_repeats_what_the_station_sent() -> None:
    [error] = sent(connection().receive('[2,"a","Heartbeat",{"idTag":"04SECRET","idTag":"04SECRET"}]', 0.0))

    assert "SECRET" not in json.dumps(error)


def test_numbers_keep_every_digit_and_are_never_floats() -> None:
    [call] = calls(connection().receive('[2,"a","X",{"v":12345.678901234567890123}]', 0.0))

    assert str(call.payload["v"]) == "12345.678901234567890123"


def test_a_repeated_call_is_answered_again_without_being_handed_out_again() -> None:
    station = connection()
    [call] = calls(station.receive(HEARTBEAT, 0.0))
    [first] = sent(station.answer(call, {"currentTime": "x"}))

    outputs = station.receive('[2, "a", "Heartbeat", {}]', 1.0)

    assert calls(outputs) == []
    assert sent(outputs) == [first]


def test_a_repeated_call_that_is_still_in_progress_is_answered_once() -> None:
    station = connection()
    [call] = calls(station.receive(HEARTBEAT, 0.0))

    assert sent(station.receive(HEARTBEAT, 0.0)) == []
    assert len(sent(station.answer(call, {}))) == 1


@pytest.mark.parametrize("is_answered", [True, False])
def test_a_message_id_used_for_another_call_is_an_error(is_answered: bool) -> None:  # noqa: FBT001 - a parameter of the case
    station = connection()
    [call] = calls(station.receive(HEARTBEAT, 0.0))
    if is_answered:
        station.answer(call, {})

    [error] = sent(station.receive('[2,"a","Heartbeat",{"x":1}]', 0.0))

    assert error[:3] == [4, "a", "RpcFrameworkError"]


def test_a_call_answered_by_an_error_is_tried_again_when_it_is_repeated() -> None:
    station = connection()
    [call] = calls(station.receive(HEARTBEAT, 0.0))
    station.refuse(call, RPCError.INTERNAL, "not stored")

    assert calls(station.receive(HEARTBEAT, 0.0)) == [call]


def test_answers_are_remembered_up_to_the_limit() -> None:
    station = connection(duplicate_ids_max=2)
    for name in "abc":
        [call] = calls(station.receive(f'[2,"{name}","Heartbeat",{{}}]', 0.0))
        station.answer(call, {})

    assert calls(station.receive('[2,"a","Heartbeat",{}]', 0.0)) != []


def test_calls_are_handed_out_one_at_a_time_in_order() -> None:
    station = connection(calls_in_queue_max=2)
    [first] = calls(station.receive('[2,"1","Heartbeat",{}]', 0.0))

    assert [calls(station.receive(f'[2,"{n}","Heartbeat",{{}}]', 0.0)) for n in (2, 3)] == [[], []]
    assert sent(station.receive('[2,"4","Heartbeat",{}]', 0.0))[0][:3] == [4, "4", "GenericError"]
    [second] = calls(station.answer(first, {}))
    [third] = calls(station.refuse(second, RPCError.INTERNAL, ""))
    assert (second.message_id, third.message_id) == ("2", "3")
    assert calls(station.answer(third, {})) == []
    assert station.is_idle


def test_our_calls_go_out_one_at_a_time_and_are_settled_by_their_answers() -> None:
    station = connection()
    first, outputs = station.call("Reset", {"type": "Immediate"}, now_s=0.0, timeout_s=30)
    _, nothing = station.call("ClearCache", {}, now_s=0.0, timeout_s=30)

    assert sent(outputs) == [[2, "our-1", "Reset", {"type": "Immediate"}]]
    assert sent(nothing) == []
    settled, *following = station.receive('[3,"our-1",{"status":"Accepted"}]', 1.0)
    assert settled == CallSettled(first, payload={"status": "Accepted"})
    assert sent(tuple(following)) == [[2, "our-2", "ClearCache", {}]]


@pytest.mark.parametrize(
    ("frame", "code", "description"),
    [
        ('[4,"our-1","NotImplemented","no",{}]', "NotImplemented", "no"),
        ('[4,"our-1","NotImplemented","no"]', "NotImplemented", "no"),
        ('[4,"our-1","NotImplemented"]', "NotImplemented", ""),
        ('[4,"our-1",7,null,{}]', "GenericError", ""),
    ],
)
def test_a_call_error_settles_our_call_however_sloppy_it_is(frame: str, code: str, description: str) -> None:
    station = connection()
    call, _ = station.call("Reset", {"type": "Immediate"}, now_s=0.0, timeout_s=30)

    [settled] = station.receive(frame, 1.0)

    assert settled == CallSettled(call, error_code=code, error_description=description)


@pytest.mark.parametrize(
    "frame",
    ['[3,"nobody-asked",{}]', "[3]", '[3,"our-1"]', '[3,["x"],{}]', '[4,"x","y","z",{}]', "[4]", "[3,null,null]"],
)
def test_an_answer_to_nothing_is_dropped_and_counted_and_never_answered(frame: str) -> None:
    station = connection()

    outputs = station.receive(frame, 0.0)

    assert sent(outputs) == []
    assert len(rejections(outputs)) == 1


def test_twenty_thousand_unsolicited_results_leave_nothing_behind_and_calls_still_work() -> None:
    station = connection(frames_per_s=1e9, frames_burst=1e9)
    for n in range(20_000):
        assert rejections(station.receive(f'[3,"{n}",{{"x":"{"y" * 50}"}}]', 0.0)) == ["answer_unknown"]

    call, _ = station.call("Reset", {"type": "Immediate"}, now_s=0.0, timeout_s=30)

    assert station.receive('[3,"our-1",{"status":"Accepted"}]', 1.0)[0] == CallSettled(
        call, payload={"status": "Accepted"}
    )


def test_a_call_without_an_answer_times_out_and_a_late_answer_is_dropped() -> None:
    station = connection()
    first, _ = station.call("Reset", {"type": "Immediate"}, now_s=0.0, timeout_s=10)
    station.call("ClearCache", {}, now_s=5.0, timeout_s=10)

    assert station.next_deadline_s() == 10.0
    assert station.expire(9.9) == ()
    settled, *following = station.expire(10.0)
    assert settled == CallSettled(first, has_timed_out=True)
    assert sent(tuple(following)) == [[2, "our-2", "ClearCache", {}]]
    assert rejections(station.receive('[3,"our-1",{"status":"Accepted"}]', 10.5)) == ["answer_unknown"]
    assert isinstance(station.receive('[3,"our-2",{"status":"Accepted"}]', 11.0)[0], CallSettled)


def test_an_answer_after_its_deadline_does_not_count_even_before_the_time_out_was_noticed() -> None:
    station = connection()
    call, _ = station.call("Reset", {"type": "Immediate"}, now_s=0.0, timeout_s=10)

    outputs = station.receive('[3,"our-1",{"status":"Accepted"}]', 10.0)

    assert outputs == (FrameRejected("answer_late"), CallSettled(call, has_timed_out=True))


def test_a_result_is_delivered_while_a_call_of_the_station_is_in_progress() -> None:
    station = connection()
    station.receive(HEARTBEAT, 0.0)
    call, _ = station.call("Reset", {"type": "Immediate"}, now_s=0.0, timeout_s=10)

    assert station.receive('[3,"our-1",{}]', 0.1) == (CallSettled(call, payload={}),)


def test_a_caller_who_left_frees_its_place_in_the_queue() -> None:
    station = connection()
    station.call("Reset", {"type": "Immediate"}, now_s=0.0, timeout_s=10)
    waiting, _ = station.call("ClearCache", {}, now_s=0.0, timeout_s=10)

    station.give_up(waiting)

    assert sent(station.receive('[3,"our-1",{}]', 1.0)) == []


def test_our_queue_has_a_limit() -> None:
    station = connection(calls_out_queue_max=1)
    station.call("Reset", {"type": "Immediate"}, now_s=0.0, timeout_s=10)
    station.call("ClearCache", {}, now_s=0.0, timeout_s=10)

    with pytest.raises(CallQueueFull):
        station.call("ClearCache", {}, now_s=0.0, timeout_s=10)


def test_a_closed_connection_settles_all_our_calls() -> None:
    station = connection()
    first, _ = station.call("Reset", {"type": "Immediate"}, now_s=0.0, timeout_s=10)
    second, _ = station.call("ClearCache", {}, now_s=0.0, timeout_s=10)

    assert station.abandon() == (CallSettled(first, has_timed_out=True), CallSettled(second, has_timed_out=True))


def test_a_station_that_outruns_its_rate_has_to_wait_and_loses_nothing() -> None:
    station = connection(frames_per_s=10.0, frames_burst=3.0)
    delays = []
    for n in range(5):
        assert station.receive(f'[3,"{n}",{{}}]', 0.0)
        delays.append(station.read_delay_s(0.0))

    assert delays == [0.0, 0.0, pytest.approx(0.1), pytest.approx(0.2), pytest.approx(0.3)]
    assert station.read_delay_s(1.0) == 0.0


def test_bytes_count_towards_the_rate() -> None:
    station = connection(frames_per_s=10.0, frames_burst=3.0, bytes_per_frame_credit=100)

    station.receive("x" * 1_000, 0.0)

    assert station.read_delay_s(0.0) == pytest.approx(0.9)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
ALMOST_CALLS = st.tuples(
    st.sampled_from([2, 3, 4, 5, 6, 2.0, "2", None, True]),
    st.text(max_size=40) | JSON_VALUES,
    st.sampled_from(["Heartbeat", "TransactionEvent", "StartTransaction", ""]) | JSON_VALUES,
    JSON_VALUES,
)
FRAMES = st.one_of(
    st.text(max_size=200),
    st.binary(max_size=50),
    st.text(alphabet='[]{}",:\\u0123456789eE+-.truefalsnN ', max_size=120),
    JSON_VALUES.map(json.dumps),
    ALMOST_CALLS.map(json.dumps),
    ALMOST_CALLS.map(lambda call: json.dumps(call)[:-1]),
)


@given(frames=st.lists(FRAMES, max_size=12), version=st.sampled_from([V16, V201, V21]))
def test_no_frame_escapes_and_each_call_is_handed_out_or_answered(
    frames: list[str | bytes], version: OCPPVersion
) -> None:
    station = connection(version)
    station.call("Reset", {"type": "Immediate"}, now_s=0.0, timeout_s=1e9)

    for frame in frames:
        for call in calls(station.receive(frame, 0.0)):
            for output in sent(station.answer(call, {})):
                assert output[0] == 3

    last = station.receive('[2,"the-last","Heartbeat",{}]', 0.0)
    assert len(calls(last)) == 1 or sent(last)


@given(
    key=st.text(min_size=1, max_size=4),
    values=st.lists(st.text(alphabet=':\\"\x00aé', max_size=6), min_size=2, max_size=3),
)
def test_two_equal_keys_are_found_whatever_the_values_look_like(key: str, values: list[str]) -> None:
    members = ",".join(f"{json.dumps(key)}:{json.dumps(value)}" for value in values)
    once = json.dumps({key: values[0]})

    assert rejections(connection().receive(f'[2,"a","X",{{{members}}}]', 0.0)) == ["DuplicateKey"]
    assert len(calls(connection().receive(f'[2,"a","X",{once}]', 0.0))) == 1
