"""Every shipped schema, both ways: what it allows is served without escaping, what it forbids has the right code."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from charge_point_gateway import ocpp16, ocpp21, ocpp201
from charge_point_gateway.message import Context, PersonalText, TransactionNumber
from charge_point_gateway.rpc_errors import CallRefused, OCPPVersion, RPCError
from charge_point_gateway.schemas import schemas_of
from emobility.adapters.memory import run_virtual
from emobility.domain.identifiers import PartyId
from emobility.domain.personal import Sealed
from emobility.events import codec
from emobility.events.event import Envelope
from emobility.ports.authorizer import AuthorizationAnswer, AuthorizationStatus
from tests.gateway.conftest import NOW, running_world
from tests.gateway.schema_cases import schema_of, values_of

V16, V201, V21 = OCPPVersion.V16, OCPPVersion.V201, OCPPVersion.V21
MESSAGES = {V16: ocpp16.MESSAGES, V201: ocpp201.MESSAGES, V21: ocpp21.MESSAGES | ocpp21.SENT_MESSAGES}
HANDLED = [(version, action) for version, messages in MESSAGES.items() for action in messages]


def start(**changes: Any) -> dict[str, Any]:
    payload = {"connectorId": 1, "idTag": "A", "meterStart": 1, "timestamp": "2022-01-01T00:00:00Z", **changes}
    return {name: value for name, value in payload.items() if value is not ...}


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        (start(meterStart="1"), RPCError.TYPE),
        (start(meterStart=1.5), RPCError.TYPE),
        (start(idTag=None), RPCError.TYPE),
        (start(meterStart=...), RPCError.OCCURRENCE),
        ({}, RPCError.OCCURRENCE),
        (start(unknown=1), RPCError.FORMAT),
        (start(idTag="x" * 21), RPCError.PROPERTY),
        (start(timestamp="yesterday"), RPCError.PROPERTY),
        (start(timestamp="2022-02-30T00:00:00Z"), RPCError.PROPERTY),
        (start(timestamp="2022-01-01 00:00"), RPCError.PROPERTY),
        (start(timestamp="2022-01-01T00:00:00"), RPCError.PROPERTY),
        (start(timestamp=1), RPCError.TYPE),
    ],
)
def test_each_violation_has_its_code(payload: dict[str, Any], error: RPCError) -> None:
    with pytest.raises(CallRefused) as refused:
        schemas_of(V16).check_request("StartTransaction", payload)

    assert refused.value.error is error


def test_too_few_meter_values_break_an_occurrence_constraint() -> None:
    with pytest.raises(CallRefused) as refused:
        schemas_of(V16).check_request("MeterValues", {"connectorId": 1, "meterValue": []})

    assert refused.value.error is RPCError.OCCURRENCE


def test_a_violation_is_described_without_its_value() -> None:
    with pytest.raises(CallRefused) as refused:
        schemas_of(V16).check_request("StartTransaction", start(idTag="04SECRET" * 5))

    assert "SECRET" not in str(refused.value)
    assert "idTag" in str(refused.value)


@pytest.mark.parametrize(
    ("action", "payload", "words"),
    [
        ("Reset", {"type": "Immediate"}, "type breaks Enum (Hard, Soft)"),
        ("Reset", {}, "the payload breaks Required (type)"),
        ("StartTransaction", start(idTag="x" * 21), "idTag breaks MaxLength (20)"),
        ("Reset", {"type": "Hard", "SECRET": 1}, "the payload breaks AdditionalProperties"),
    ],
)
def test_a_violation_says_what_the_schema_asks_for(action: str, payload: dict[str, Any], words: str) -> None:
    with pytest.raises(CallRefused) as refused:
        schemas_of(V16).check_request(action, payload)

    assert str(refused.value).endswith(words)


@pytest.mark.parametrize(("version", "count"), [(V16, 39), (V201, 64), (V21, 91)])
def test_every_shipped_schema_is_compiled(version: OCPPVersion, count: int) -> None:
    schemas = schemas_of(version)

    assert len(schemas.actions) == count
    for action in {*schemas.actions} - {*ocpp21.SENT_MESSAGES}:
        with pytest.raises(CallRefused):
            schemas.check_response(action, "no object")


@pytest.mark.parametrize(("version", "action"), HANDLED)
@settings(max_examples=25, suppress_health_check=list(HealthCheck), deadline=None)
@given(data=st.data())
def test_whatever_a_schema_allows_becomes_events_that_can_be_stored_and_a_valid_response(
    version: OCPPVersion, action: str, data: st.DataObject
) -> None:
    payload = data.draw(values_of(schema_of(version, action)))
    try:
        schemas_of(version).check_request(action, payload)
    except CallRefused:
        return  # the generator knows fewer date-times than the validator refuses
    message = MESSAGES[version][action]
    context = Context(
        party_id=PartyId("NL-TNM"),
        charging_station_id="CS-1",
        now=NOW,
        message_id="m",
        ocpp_version=version.value,
        station_key="NL-TNM/CS-1",
        number=TransactionNumber(number=1),
        answer=AuthorizationAnswer(status=AuthorizationStatus.ACCEPTED, reason=""),
    )

    try:
        personal: dict[PersonalText, Sealed] = {
            each: Sealed(subject="s", box=b"b") for each in message.personal(payload, context)
        }
        context = Context(
            party_id=context.party_id,
            charging_station_id="CS-1",
            now=NOW,
            message_id="m",
            ocpp_version=version.value,
            station_key="NL-TNM/CS-1",
            number=context.number,
            answer=context.answer,
            sealed=personal,
        )
        facts = message.facts(payload, context)
        message.question(payload, context)
        message.station_question(payload, context)
    except CallRefused as refused:
        if refused.error is not RPCError.PROPERTY:  # a moment or number outside every calendar or range
            raise
        return

    for fact in facts:
        envelope = Envelope(event=fact.event, event_id=fact.event_id, correlation_id="c", recorded_at=NOW)
        assert codec.decode_envelope(codec.encode_envelope(envelope)) == envelope
        assert len(fact.event_id) <= 200
    if action not in ocpp21.SENT_MESSAGES:
        schemas_of(version).check_response(action, message.response(payload, context))


@pytest.mark.parametrize("version", [V16, V201, V21])
@settings(max_examples=40, suppress_health_check=list(HealthCheck), deadline=None)
@given(data=st.data())
def test_no_message_of_any_schema_ends_a_connection(version: OCPPVersion, data: st.DataObject) -> None:
    actions = data.draw(st.lists(st.sampled_from(schemas_of(version).actions), min_size=1, max_size=4))
    payloads = [data.draw(values_of(schema_of(version, action))) for action in actions]

    async def talk() -> None:
        async with running_world() as world:
            station = await world.dial(version.subprotocol)
            for action, payload in zip(actions, payloads, strict=True):
                answer = await station.call(action, payload)
                assert answer[0] in {3, 4}
                assert answer[0] == 3 or answer[2] != "InternalError", (answer, action, payload)
            assert (await station.call("Heartbeat", {}))[0] == 3

    run_virtual(talk())
