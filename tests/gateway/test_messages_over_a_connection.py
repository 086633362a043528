"""Each message over a whole connection: response, event, and what was asked of the back office."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from emobility.domain.meter import MeterReading, ReadingContext
from emobility.events.charging import (
    ConnectorStatusChanged,
    DataTransferred,
    EVSEMetered,
    IdTokenKind,
    SecurityEventReported,
    StationBooted,
    TransactionEnded,
    TransactionStarted,
    TransactionUpdated,
)
from emobility.events.event import EVENT_ID_CHARACTERS_MAX
from emobility.ports.authorizer import AuthorizationStatus
from emobility.ports.http import header_line
from tests.gateway.conftest import until

AT = "2022-03-27T01:00:00Z"
AT_MOMENT = datetime(2022, 3, 27, 1, tzinfo=UTC)


def start_16(**changes: Any) -> dict[str, Any]:
    return {"connectorId": 1, "idTag": "04A1B2C3", "meterStart": 1_000, "timestamp": AT, **changes}


def event_201(kind: str, seq_no: int, **changes: Any) -> dict[str, Any]:
    return {
        "eventType": kind,
        "timestamp": AT,
        "triggerReason": "MeterValuePeriodic",
        "seqNo": seq_no,
        "transactionInfo": {"transactionId": "tx-1"},
        **changes,
    }


@pytest.mark.parametrize(
    ("message_id", "written"),
    [("a1-{7}/%", "a1-{7}/%"), ("\u00e9 1", "%C3%A9%201"), ("\U0001f50c" * 36, "%F0%9F%94%8C" * 36)],
)
async def test_any_message_id_becomes_a_correlation_id_that_can_leave_as_a_header(
    world: Any, message_id: str, written: str
) -> None:
    station = await world.dial("ocpp1.6")

    answer = await station.call("StartTransaction", start_16(), message_id=message_id)

    assert answer[:2] == [3, message_id]
    correlation_ids = {each.envelope.correlation_id async for each in world.adapters.event_log.read(("charging",))}
    assert correlation_ids == {f"NL-TNM/CS-1/{written}"}
    assert header_line("X-Correlation-ID", *correlation_ids) is not None


async def test_a_1_6_boot_is_accepted_and_becomes_an_event(world: Any) -> None:
    station = await world.dial("ocpp1.6")

    answer = await station.call("BootNotification", {"chargePointVendor": "V", "chargePointModel": "M"})

    assert answer == [
        3,
        "m1",
        {"status": "Accepted", "currentTime": "2022-03-27T00:30:00.000Z", "interval": 300},
    ]
    [event] = await world.events()
    assert isinstance(event, StationBooted)
    assert (event.vendor, event.model, event.ocpp_version) == ("V", "M", "1.6")


async def test_a_2_0_1_boot_is_accepted_and_becomes_an_event(world: Any) -> None:
    station = await world.dial()

    answer = await station.call(
        "BootNotification", {"reason": "PowerUp", "chargingStation": {"vendorName": "V", "model": "M"}}
    )

    assert answer[2]["status"] == "Accepted"
    [event] = await world.events()
    assert isinstance(event, StationBooted)
    assert event.reason == "PowerUp"


@pytest.mark.parametrize("subprotocol", ["ocpp1.6", "ocpp2.0.1"])
async def test_a_heartbeat_tells_the_time_and_is_no_event(world: Any, subprotocol: str) -> None:
    station = await world.dial(subprotocol)

    answer = await station.call("Heartbeat", {})

    assert answer == [3, "m1", {"currentTime": "2022-03-27T00:30:00.000Z"}]
    assert await world.events() == []


async def test_a_1_6_status_without_a_timestamp_happened_now(world: Any) -> None:
    station = await world.dial("ocpp1.6")

    answer = await station.call(
        "StatusNotification", {"connectorId": 2, "errorCode": "GroundFailure", "status": "Faulted"}
    )

    assert answer == [3, "m1", {}]
    [event] = await world.events()
    assert isinstance(event, ConnectorStatusChanged)
    assert (event.ocpp_evse_id, event.connector_id, event.status) == (2, 1, "Faulted")
    assert (event.error_code, event.changed_at) == ("GroundFailure", world.clock.now())


async def test_a_1_6_status_keeps_what_its_vendor_adds_and_another_error_is_another_fact(world: Any) -> None:
    station = await world.dial("ocpp1.6")
    told = {"connectorId": 1, "errorCode": "OtherError", "status": "Faulted", "timestamp": AT}
    vendor = {"vendorId": "acme", "vendorErrorCode": "E42", "info": "fan"}

    for payload in (told | vendor, told | vendor, told | vendor | {"vendorErrorCode": "E43"}, told):
        await station.call("StatusNotification", payload)

    first, *_ = await world.events()
    assert (first.vendor_id, first.vendor_error_code, first.info) == ("acme", "E42", "fan")
    ids = await world.event_ids()
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


async def test_a_2_0_1_status_keeps_evse_and_connector(world: Any) -> None:
    station = await world.dial()

    await station.call(
        "StatusNotification", {"timestamp": AT, "connectorStatus": "Occupied", "evseId": 2, "connectorId": 3}
    )

    [event] = await world.events()
    assert isinstance(event, ConnectorStatusChanged)
    assert (event.ocpp_evse_id, event.connector_id, event.status, event.changed_at) == (2, 3, "Occupied", AT_MOMENT)


async def test_a_1_6_authorize_asks_the_back_office(world: Any) -> None:
    world.back_office.status = AuthorizationStatus.BLOCKED
    station = await world.dial("ocpp1.6")

    answer = await station.call("Authorize", {"idTag": "04A1B2C3"})

    assert answer == [3, "m1", {"idTagInfo": {"status": "Blocked"}}]
    [asked] = world.back_office.asked
    assert (asked.id_token, asked.kind, asked.charging_station_id) == ("04A1B2C3", IdTokenKind.RFID, "CS-1")
    assert await world.events() == []


async def test_a_2_0_1_authorize_answers_in_the_words_of_2_0_1(world: Any) -> None:
    world.back_office.status = AuthorizationStatus.NO_CREDIT
    station = await world.dial()

    answer = await station.call("Authorize", {"idToken": {"idToken": "NL-X", "type": "eMAID"}})

    assert answer == [3, "m1", {"idTokenInfo": {"status": "NoCredit"}}]
    assert world.back_office.asked[0].kind is IdTokenKind.PLUG_AND_CHARGE


async def test_an_answer_that_may_not_be_cached_expires_at_once(world: Any) -> None:
    world.back_office.may_cache = False
    station = await world.dial("ocpp1.6")

    answer = await station.call("Authorize", {"idTag": "A"})

    assert answer[2] == {"idTagInfo": {"status": "Accepted", "expiryDate": "2022-03-27T00:30:00.000Z"}}


async def test_a_1_6_start_is_numbered_authorised_and_stored_with_a_sealed_card(world: Any) -> None:
    station = await world.dial("ocpp1.6")

    answer = await station.call("StartTransaction", start_16())

    assert answer == [3, "m1", {"transactionId": 1, "idTagInfo": {"status": "Accepted"}}]
    [event] = await world.events()
    assert isinstance(event, TransactionStarted)
    assert (event.transaction_id, event.ocpp_evse_id, event.connector_id) == ("1", 1, 1)
    assert event.readings == (MeterReading(at=AT_MOMENT, context=ReadingContext.TRANSACTION_BEGIN, import_wh=1_000),)
    assert event.id_token is not None
    assert await world.adapters.vault.open(event.id_token) == "04A1B2C3"
    assert world.back_office.asked[0].transaction_id == "1"


async def test_a_1_6_start_repeated_under_another_message_id_gets_the_same_number(world: Any) -> None:
    station = await world.dial("ocpp1.6")

    answers = [await station.call("StartTransaction", start_16()) for _ in range(3)]
    other = await station.call("StartTransaction", start_16(meterStart=1_001))

    assert [answer[2]["transactionId"] for answer in answers] == [1, 1, 1]
    assert other[2]["transactionId"] == 2
    assert len(set(await world.event_ids())) == 2


async def test_two_stations_number_their_transactions_apart(world: Any) -> None:
    first, second = await world.dial("ocpp1.6"), await world.dial("ocpp1.6", station="CS-2")

    answers = [await station.call("StartTransaction", start_16()) for station in (first, second)]

    assert [answer[2]["transactionId"] for answer in answers] == [1, 1]
    assert {event.key for event in await world.events()} == {"NL-TNM/CS-1", "NL-TNM/CS-2"}


@pytest.mark.parametrize(
    ("transaction_id", "kept_as"), [(-1, "unnumbered-"), (0, "unnumbered-"), (4711, "unknown-4711")]
)
async def test_a_stop_of_an_unknown_transaction_is_acknowledged_and_kept(
    world: Any, transaction_id: int, kept_as: str
) -> None:
    station = await world.dial("ocpp1.6")

    answer = await station.call(
        "StopTransaction", {"transactionId": transaction_id, "meterStop": 5, "timestamp": AT, "reason": "PowerLoss"}
    )

    assert answer == [3, "m1", {}]
    [event] = await world.events()
    assert isinstance(event, TransactionEnded)
    assert event.transaction_id.startswith(kept_as)
    assert event.stopped_reason == "PowerLoss"
    assert event.readings[-1].import_wh == 5


async def test_a_stop_sent_twice_is_one_fact(world: Any) -> None:
    station = await world.dial("ocpp1.6")
    payload = {"transactionId": 1, "meterStop": 5, "timestamp": AT}

    await station.call("StopTransaction", payload)
    await station.call("StopTransaction", payload)

    first, second = await world.events()
    assert first == second
    assert len(set(await world.event_ids())) == 1


async def test_1_6_meter_values_in_a_transaction_update_it(world: Any) -> None:
    station = await world.dial("ocpp1.6")
    sampled = [{"value": "1.5", "unit": "kWh"}, {"value": "11", "measurand": "Power.Active.Import", "unit": "kW"}]

    answer = await station.call(
        "MeterValues",
        {"connectorId": 1, "transactionId": 9, "meterValue": [{"timestamp": AT, "sampledValue": sampled}]},
    )

    assert answer == [3, "m1", {}]
    [event] = await world.events()
    assert isinstance(event, TransactionUpdated)
    assert event.readings == (MeterReading(at=AT_MOMENT, import_wh=1_500, power_w=11_000),)


async def test_meter_values_outside_a_transaction_belong_to_the_evse(world: Any) -> None:
    station = await world.dial("ocpp1.6")

    await station.call(
        "MeterValues", {"connectorId": 2, "meterValue": [{"timestamp": AT, "sampledValue": [{"value": "7"}]}]}
    )

    [event] = await world.events()
    assert isinstance(event, EVSEMetered)
    assert (event.ocpp_evse_id, event.readings[0].import_wh) == (2, 7)


async def test_a_value_that_is_no_number_is_acknowledged_and_kept_with_its_fault(world: Any) -> None:
    station = await world.dial("ocpp1.6")

    answer = await station.call(
        "MeterValues",
        {
            "connectorId": 1,
            "transactionId": 9,
            "meterValue": [{"timestamp": AT, "sampledValue": [{"value": "NaN"}]}],
        },
    )

    assert answer == [3, "m1", {}]
    [event] = await world.events()
    assert isinstance(event, TransactionUpdated)
    assert event.readings[0].import_wh is None
    assert "not a number" in (event.readings[0].fault or "")


async def test_a_2_0_1_transaction_from_start_to_end(world: Any) -> None:
    station = await world.dial()
    started = event_201(
        "Started",
        0,
        idToken={"idToken": "04A1B2C3", "type": "ISO14443"},
        evse={"id": 2, "connectorId": 1},
        transactionInfo={"transactionId": "tx-1", "remoteStartId": 12, "chargingState": "Charging"},
        meterValue=[{"timestamp": AT, "sampledValue": [{"value": 10.5, "context": "Transaction.Begin"}]}],
    )
    ended = event_201("Ended", 2, transactionInfo={"transactionId": "tx-1", "stoppedReason": "EVDisconnected"})

    answers = [
        await station.call("TransactionEvent", started),
        await station.call("TransactionEvent", event_201("Updated", 1, offline=True)),
        await station.call("TransactionEvent", ended),
    ]

    assert answers == [[3, "m1", {"idTokenInfo": {"status": "Accepted"}}], [3, "m2", {}], [3, "m3", {}]]
    first, second, third = await world.events()
    assert isinstance(first, TransactionStarted)
    assert (first.ocpp_evse_id, first.remote_start_id, first.charging_state) == (2, 12, "Charging")
    assert first.readings[0].import_wh == 10  # half to even
    assert isinstance(second, TransactionUpdated)
    assert second.is_offline
    assert isinstance(third, TransactionEnded)
    assert third.stopped_reason == "EVDisconnected"
    assert await world.event_ids() == [f"NL-TNM/CS-1/tx-1/{seq_no}" for seq_no in range(3)]


async def test_the_end_of_a_transaction_is_never_put_to_the_back_office(world: Any) -> None:
    world.back_office.status = AuthorizationStatus.BLOCKED
    station = await world.dial()

    answer = await station.call("TransactionEvent", event_201("Ended", 3, idToken={"idToken": "A", "type": "ISO14443"}))

    assert answer == [3, "m1", {"idTokenInfo": {"status": "Accepted"}}] or "idTokenInfo" in answer[2]
    assert world.back_office.asked == []
    assert len(await world.events()) == 1


async def test_a_transaction_is_stored_although_its_driver_is_refused(world: Any) -> None:
    world.back_office.status = AuthorizationStatus.INVALID
    station = await world.dial("ocpp1.6")

    answer = await station.call("StartTransaction", start_16())

    assert answer[2]["idTagInfo"] == {"status": "Invalid"}
    assert len(await world.events()) == 1


@pytest.mark.parametrize("subprotocol", ["ocpp1.6", "ocpp2.0.1"])
async def test_when_the_back_office_is_away_nobody_is_accepted_by_default(world: Any, subprotocol: str) -> None:
    world.back_office.is_down = True
    station = await world.dial(subprotocol)

    if subprotocol == "ocpp1.6":
        answer = await station.call("StartTransaction", start_16())
        status = answer[2]["idTagInfo"]["status"]
    else:
        started = event_201("Started", 0, idToken={"idToken": "A", "type": "ISO14443"})
        answer = await station.call("TransactionEvent", started)
        status = answer[2]["idTokenInfo"]["status"]

    assert status == "Invalid"
    assert len(await world.events()) == 1


async def test_the_event_becomes_durable_while_the_back_office_still_thinks(world: Any) -> None:
    world.back_office.may_answer.clear()
    station = await world.dial("ocpp1.6")

    await station.send([2, "m", "StartTransaction", start_16()])
    await until(lambda: world.gateway.pending == 1 and world.back_office.asked != [])
    assert len(await world.events()) == 1
    world.back_office.may_answer.set()

    assert (await station.receive())[:2] == [3, "m"]


@pytest.mark.parametrize("subprotocol", ["ocpp1.6", "ocpp2.0.1"])
async def test_vendor_data_are_kept_sealed_and_answered_unknown_vendor(world: Any, subprotocol: str) -> None:
    station = await world.dial(subprotocol)

    answer = await station.call("DataTransfer", {"vendorId": "acme", "messageId": "x", "data": "secret"})

    assert answer == [3, "m1", {"status": "UnknownVendorId"}]
    [event] = await world.events()
    assert isinstance(event, DataTransferred)
    assert event.payload is not None
    assert await world.adapters.vault.open(event.payload) == "secret"


async def test_2_0_1_vendor_data_may_be_any_json_and_keep_their_names(world: Any) -> None:
    station = await world.dial()

    await station.send('[2,"m","DataTransfer",{"vendorId":"acme","data":{"socket_id":1,"MyKey":[1.50]}}]')
    await station.receive()

    [event] = await world.events()
    assert await world.adapters.vault.open(event.payload) == '{"MyKey":[1.50],"socket_id":1}'


@pytest.mark.parametrize("subprotocol", ["ocpp1.6", "ocpp2.0.1"])
async def test_a_security_event_is_stored(world: Any, subprotocol: str) -> None:
    station = await world.dial(subprotocol)

    answer = await station.call("SecurityEventNotification", {"type": "TamperDetection", "timestamp": AT})

    assert answer == [3, "m1", {}]
    [event] = await world.events()
    assert isinstance(event, SecurityEventReported)
    assert event.security_event == "TamperDetection"


@pytest.mark.parametrize(
    ("subprotocol", "action", "code"),
    [
        ("ocpp1.6", "Nonsense", "NotImplemented"),
        ("ocpp2.0.1", "Nonsense", "NotImplemented"),
        ("ocpp1.6", "ClearCache", "NotSupported"),
        ("ocpp2.0.1", "ClearCache", "NotSupported"),
        ("ocpp2.0.1", "StartTransaction", "NotImplemented"),
    ],
)
async def test_unknown_and_unserved_actions_have_codes_of_their_own(
    world: Any, subprotocol: str, action: str, code: str
) -> None:
    station = await world.dial(subprotocol)

    answer = await station.call(action, {})

    assert answer[:3] == [4, "m1", code]
    assert (await station.call("Heartbeat", {}))[0] == 3


@pytest.mark.parametrize("character", ["\0", "\n", "\x7f"])
@pytest.mark.parametrize(
    ("subprotocol", "action", "payload"),
    [
        ("ocpp1.6", "Authorize", {"idTag": "04?"}),
        ("ocpp1.6", "StartTransaction", start_16(idTag="04?")),
        ("ocpp2.0.1", "Authorize", {"idToken": {"idToken": "04?", "type": "ISO14443"}}),
        ("ocpp2.0.1", "TransactionEvent", event_201("Updated", 1, transactionInfo={"transactionId": "tx?"})),
        ("ocpp2.0.1", "TransactionEvent", event_201("Ended", 1, idToken={"idToken": "04?", "type": "ISO14443"})),
    ],
)
async def test_a_control_character_in_an_identifier_is_refused_and_the_next_message_counts(
    world: Any, subprotocol: str, action: str, payload: dict[str, Any], character: str
) -> None:
    station = await world.dial(subprotocol)

    bad = json.loads(json.dumps(payload).replace("?", json.dumps(character)[1:-1]))
    answer = await station.call(action, bad)

    assert answer[:3] == [4, "m1", "PropertyConstraintViolation"]
    assert await world.events() == []
    assert world.back_office.asked == []
    assert (await station.call(action, payload))[0] == 3


async def test_a_nul_in_what_is_meant_for_people_is_replaced_and_the_message_counts(world: Any) -> None:
    station = await world.dial("ocpp1.6")

    boot = await station.call("BootNotification", {"chargePointVendor": "A\0B", "chargePointModel": "M"})
    stop = await station.call(
        "StopTransaction", {"transactionId": 1, "meterStop": 5, "timestamp": AT, "idTag": "04\0", "reason": "Local"}
    )

    assert (boot[0], stop[0]) == (3, 3)
    [booted, _] = await world.events()
    assert booted.vendor == "A\N{REPLACEMENT CHARACTER}B"


@pytest.mark.parametrize("number", [10**25, -(10**300)])
async def test_a_stop_with_a_number_that_nobody_gave_is_acknowledged_and_kept_once(world: Any, number: int) -> None:
    station = await world.dial("ocpp1.6")
    stop = {"transactionId": number, "meterStop": 5, "timestamp": AT}

    answers = [await station.call("StopTransaction", stop) for _ in range(2)]

    assert [answer[0] for answer in answers] == [3, 3]
    ids = await world.event_ids()
    assert len(set(ids)) == 1
    assert len(ids[0]) <= EVENT_ID_CHARACTERS_MAX
