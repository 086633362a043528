"""The HTTP API as other processes of ours use it, and what it says to anybody else."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from charge_point_gateway import gateway as gateway_module
from charge_point_gateway.rpc_errors import OCPPVersion
from charge_point_gateway.schemas import schemas_of
from charge_point_gateway.security import StationRefused
from emobility.domain.identifiers import PartyId
from emobility.events.charging import IdTokenKind
from emobility.ports.authorizer import AuthorizationRequest, AuthorizationStatus, AuthorizerUnavailable
from emobility.protocols.station_control.client import (
    GatewayRefused,
    GatewayUnavailable,
    HttpAuthorizer,
    StationControlClient,
)
from emobility.protocols.station_control.messages import (
    CommandResult,
    Reset,
    SetChargingProfile,
    SetVariable,
    StartTransaction,
    StationCommand,
    StationCredential,
    StopTransaction,
    TriggerMessage,
)
from tests.gateway.conftest import PARTY, STATION, TOKEN, World

CPO = PartyId(PARTY)
PROFILE_16 = {
    "chargingProfileId": 1,
    "stackLevel": 0,
    "chargingProfilePurpose": "TxDefaultProfile",
    "chargingProfileKind": "Absolute",
    "chargingSchedule": {"chargingRateUnit": "W", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 11000}]},
}
PROFILE_201 = {
    "id": 1,
    "stackLevel": 0,
    "chargingProfilePurpose": "TxDefaultProfile",
    "chargingProfileKind": "Absolute",
    "chargingSchedule": [
        {"id": 1, "chargingRateUnit": "W", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 11000}]}
    ],
}


def command(**part: Any) -> StationCommand:
    return StationCommand(correlation_id="c", timeout_s=1, **part)


START = StartTransaction(id_token="APP-1", ocpp_evse_id=2, connector_id=1, remote_start_id=77)
CASES = [
    ("ocpp1.6", {"start_transaction": START}, "RemoteStartTransaction", {"connectorId": 2, "idTag": "APP-1"}),
    (
        "ocpp1.6",
        {"stop_transaction": StopTransaction(transaction_id="5")},
        "RemoteStopTransaction",
        {"transactionId": 5},
    ),
    (
        "ocpp1.6",
        {"set_charging_profile": SetChargingProfile(ocpp_evse_id=1, profile=PROFILE_16)},
        "SetChargingProfile",
        {"connectorId": 1, "csChargingProfiles": PROFILE_16},
    ),
    (
        "ocpp1.6",
        {"trigger_message": TriggerMessage(requested_message="MeterValues", ocpp_evse_id=1)},
        "TriggerMessage",
        {"requestedMessage": "MeterValues", "connectorId": 1},
    ),
    ("ocpp1.6", {"reset": Reset(is_immediate=True)}, "Reset", {"type": "Hard"}),
    (
        "ocpp1.6",
        {"set_variable": SetVariable(variable="HeartbeatInterval", value="60")},
        "ChangeConfiguration",
        {"key": "HeartbeatInterval", "value": "60"},
    ),
    (
        "ocpp2.0.1",
        {"start_transaction": START},
        "RequestStartTransaction",
        {"remoteStartId": 77, "idToken": {"idToken": "APP-1", "type": "Central"}, "evseId": 2},
    ),
    (
        "ocpp2.0.1",
        {"stop_transaction": StopTransaction(transaction_id="tx")},
        "RequestStopTransaction",
        {"transactionId": "tx"},
    ),
    (
        "ocpp2.0.1",
        {"set_charging_profile": SetChargingProfile(ocpp_evse_id=1, profile=PROFILE_201)},
        "SetChargingProfile",
        {"evseId": 1, "chargingProfile": PROFILE_201},
    ),
    (
        "ocpp2.0.1",
        {"trigger_message": TriggerMessage(requested_message="MeterValues", ocpp_evse_id=1)},
        "TriggerMessage",
        {"requestedMessage": "MeterValues", "evse": {"id": 1}},
    ),
    ("ocpp2.0.1", {"reset": Reset(is_immediate=True)}, "Reset", {"type": "Immediate"}),
    (
        "ocpp2.0.1",
        {"set_variable": SetVariable(variable="HeartbeatInterval", value="60")},
        "SetVariables",
        {
            "setVariableData": [
                {
                    "attributeValue": "60",
                    "component": {"name": "OCPPCommCtrlr"},
                    "variable": {"name": "HeartbeatInterval"},
                }
            ]
        },
    ),
]


@pytest.fixture
def client(world: World) -> StationControlClient:
    return StationControlClient(world.http, gateway_url="http://gateway-a.test", internal_token=TOKEN)


@pytest.mark.parametrize("case", CASES)
async def test_each_command_is_said_in_the_words_of_the_stations_version(
    world: World, client: StationControlClient, case: tuple[str, Any, str, Any]
) -> None:
    subprotocol, part, action, payload = case
    station = await world.dial(subprotocol)
    await station.call("Heartbeat", {})

    outcome = asyncio.create_task(client.command(CPO, STATION, command(**part)))
    kind, message_id, *call = await station.receive()
    answer: dict[str, Any] = {"status": "Accepted"}
    if action == "SetVariables":
        result = {"attributeStatus": "Accepted", "component": {"name": "x"}, "variable": {"name": "y"}}
        answer = {"setVariableResult": [result]}
    await station.send([3, message_id, answer])

    assert (kind, call) == (2, [action, payload])
    assert (await outcome).result is CommandResult.ACCEPTED
    schemas_of(OCPPVersion(subprotocol.removeprefix("ocpp"))).check_request(action, payload)


@pytest.mark.parametrize(
    ("answer", "result", "status"),
    [
        ([3, {"status": "Rejected"}], CommandResult.REJECTED, "Rejected"),
        ([4, "NotImplemented", "", {}], CommandResult.NOT_SUPPORTED, "NotImplemented"),
        ([4, "InternalError", "", {}], CommandResult.REJECTED, "InternalError"),
        ([3, {"status": "Perhaps"}], CommandResult.REJECTED, "PropertyConstraintViolation"),
        ([3, {}], CommandResult.REJECTED, "OccurenceConstraintViolation"),
        (None, CommandResult.TIMED_OUT, None),
    ],
)
async def test_each_answer_of_a_station_has_its_outcome(
    world: World, client: StationControlClient, answer: Any, result: CommandResult, status: str | None
) -> None:
    station = await world.dial()
    await station.call("Heartbeat", {})

    outcome = asyncio.create_task(client.command(CPO, STATION, command(reset=Reset())))
    message = await station.receive()
    if answer is not None:
        await station.send([answer[0], message[1], *answer[1:]])

    assert (await outcome).result is result
    assert (await outcome).station_status == status
    assert (await station.call("Heartbeat", {}))[0] == 3


async def test_what_a_version_cannot_say_is_not_sent(world: World, client: StationControlClient) -> None:
    station = await world.dial("ocpp1.6")
    await station.call("Heartbeat", {})
    long_token = StartTransaction(id_token="x" * 21, ocpp_evse_id=1, connector_id=1, remote_start_id=1)

    outcomes = [
        await client.command(CPO, STATION, command(start_transaction=long_token)),
        await client.command(CPO, STATION, command(stop_transaction=StopTransaction(transaction_id="tx-1"))),
    ]

    assert {outcome.result for outcome in outcomes} == {CommandResult.NOT_SUPPORTED}
    assert (await station.call("Heartbeat", {}))[0] == 3


async def test_a_station_that_is_not_connected_is_offline(client: StationControlClient) -> None:
    assert (await client.command(CPO, "CS-2", command(reset=Reset()))).result is CommandResult.STATION_OFFLINE


@pytest.mark.parametrize(
    "wanted",
    [
        StationCommand(correlation_id="c"),
        StationCommand(correlation_id="c", reset=Reset(), start_transaction=START),
        StationCommand(correlation_id="c", reset=Reset(), timeout_s=0),
        StationCommand(correlation_id="c", reset=Reset(), timeout_s=10_000),
    ],
)
async def test_what_is_not_one_command_is_refused(client: StationControlClient, wanted: StationCommand) -> None:
    with pytest.raises(GatewayRefused) as refused:
        await client.command(CPO, STATION, wanted)

    assert refused.value.status == 422


async def test_credentials_presence_and_backlog_are_served(world: World, client: StationControlClient) -> None:
    await client.put_credential(CPO, "CS-3", StationCredential(password="fedcba9876543210fedcba9876543210"))
    station = await world.dial(station="CS-3", password="fedcba9876543210fedcba9876543210")
    await station.call("Heartbeat", {})

    found = await client.presence(CPO, "CS-3")

    assert found is not None
    assert (found.is_online, found.gateway_url, found.ocpp_version) == (True, "http://gateway-a.test", "2.0.1")
    assert await client.presence(CPO, "CS-4") is None
    assert [each.charging_station_id for each in await client.stations(CPO)] == ["CS-3"]
    assert await client.stations(PartyId("NL-XXX")) == []
    with pytest.raises(GatewayRefused):
        await client.put_credential(CPO, "CS-3", StationCredential(password="1234"))


@pytest.mark.parametrize(
    "credential",
    [
        StationCredential(),
        StationCredential(ocpp_version="1.6"),
        StationCredential(security_profile=0),
        StationCredential(security_profile=4),
    ],
)
async def test_a_credential_says_a_password_or_a_profile_of_ocpp(
    client: StationControlClient, credential: StationCredential
) -> None:
    with pytest.raises(GatewayRefused) as refused:
        await client.put_credential(CPO, "CS-3", credential)

    assert refused.value.status == 422


async def test_a_lowest_profile_leaves_password_and_version_as_they_are(
    world: World, client: StationControlClient
) -> None:
    password = "fedcba9876543210fedcba9876543210"
    await client.put_credential(CPO, "CS-3", StationCredential(password=password, ocpp_version="1.6"))
    await client.put_credential(CPO, "CS-3", StationCredential(security_profile=2))

    with pytest.raises(StationRefused) as refused:
        await world.dial("ocpp1.6", station="CS-3", password=password)
    await client.put_credential(CPO, "CS-3", StationCredential(security_profile=1))

    assert refused.value.http_status == 403
    with pytest.raises(StationRefused):
        await world.dial("ocpp2.0.1", station="CS-3", password=password)
    await world.dial("ocpp1.6", station="CS-3", password=password)


ROUTES = [
    ("POST", f"/stations/{PARTY}/{STATION}/commands"),
    ("PUT", f"/stations/{PARTY}/{STATION}/credential"),
    ("GET", f"/stations/{PARTY}/{STATION}/credential"),
    ("POST", f"/stations/{PARTY}/{STATION}/credential/rotate"),
    ("PUT", f"/stations/{PARTY}/{STATION}/messages"),
    ("GET", f"/stations/{PARTY}/{STATION}/messages"),
    ("DELETE", f"/stations/{PARTY}/{STATION}/messages"),
    ("GET", f"/stations/{PARTY}/{STATION}"),
    ("GET", f"/stations/{PARTY}"),
    ("POST", f"/stations/{PARTY}/{STATION}/probe"),
    ("POST", f"/stations/{PARTY}/{STATION}/certificates"),
    ("GET", f"/stations/{PARTY}/{STATION}/certificates"),
    ("POST", f"/stations/{PARTY}/{STATION}/certificates/{{serial_number}}/revoke"),
    ("GET", "/certificates/ending"),
    ("GET", f"/quirks/{PARTY}"),
    ("PUT", f"/quirks/{PARTY}/{{name}}"),
    ("DELETE", f"/quirks/{PARTY}/{{name}}"),
    ("GET", "/internal/backlog"),
]


async def ask(world: World, method: str, path: str, **options: Any) -> httpx.Response:
    transport = httpx.ASGITransport(world.gateway.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway-a.test") as http:
        return await http.request(method, path, **options)


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN[:-1], TOKEN.upper()])
async def test_every_route_but_health_needs_the_internal_token(
    world: World, method: str, path: str, token: str | None
) -> None:
    headers = {} if token is None else {"authorization": f"Bearer {token}"}

    assert (await ask(world, method, path, headers=headers, content=b"{}")).status_code == 401


async def test_every_route_is_in_the_list_above(world: World) -> None:
    paths = {getattr(route, "path", "") for route in world.gateway.app.routes}
    named = {path.replace(PARTY, "{party}").replace(STATION, "{station}") for _, path in ROUTES}

    assert paths - named == {"/livez", "/readyz", "/metrics", "/openapi.json", "/certificates/revoked.pem"}


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
async def test_health_is_open(world: World, path: str) -> None:
    assert (await ask(world, "GET", path)).status_code == 200


async def test_metrics_name_no_station_and_no_driver(world: World) -> None:
    station = await world.dial("ocpp1.6", station="CS-2")
    await station.call("Authorize", {"idTag": "04SECRET"})
    await station.call("MadeUpAction", {})

    text = (await ask(world, "GET", "/metrics")).text

    assert 'ocpp_messages_total{action="Authorize",direction="in",result="result"} 1.0' in text
    assert 'ocpp_message_handle_seconds_count{action="Authorize"} 1.0' in text
    assert 'ocpp_message_handle_seconds_bucket{action="Authorize",le="+Inf"} 1.0' in text
    assert not any(name in text for name in ("SECRET", "CS-2", "MadeUpAction", PARTY))


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"not json", b'{"password": 7}', b"{" * 5_000, b'"' + b"x" * 70_000 + b'"']
)
async def test_a_body_that_is_not_what_was_agreed_is_refused(world: World, body: bytes) -> None:
    headers = {"authorization": f"Bearer {TOKEN}"}

    for method, path in ROUTES[:2]:
        answer = await ask(world, method, path, headers=headers, content=body)
        assert answer.status_code in {413, 422}


async def test_the_authorizer_client_turns_every_failure_into_one_error(world: World) -> None:
    authorizer = HttpAuthorizer(world.http, operations_url="http://business.test/operations", internal_token=TOKEN)
    request = AuthorizationRequest(
        party_id=CPO, charging_station_id=STATION, id_token="A", kind=IdTokenKind.RFID, correlation_id="c"
    )
    assert (await authorizer.authorize(request)).status is AuthorizationStatus.ACCEPTED

    world.back_office.is_down = True
    with pytest.raises(AuthorizerUnavailable):
        await authorizer.authorize(request)
    world.http.cut("http://business.test")
    with pytest.raises(AuthorizerUnavailable):
        await authorizer.authorize(request)


async def test_a_gateway_whose_database_hangs_is_alive_and_not_ready(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(_identity: object) -> None:
        await asyncio.sleep(3_600)

    monkeypatch.setattr(gateway_module, "READY_TIMEOUT_S", 0.05)
    monkeypatch.setattr(world.gateway.presence, "find", hang)

    assert (await ask(world, "GET", "/readyz")).status_code == 503
    assert (await ask(world, "GET", "/livez")).status_code == 200


async def test_an_address_the_guard_refuses_is_a_gateway_that_does_not_answer(world: World) -> None:
    elsewhere = StationControlClient(world.http, gateway_url="http://never-registered.test", internal_token=TOKEN)

    with pytest.raises(GatewayUnavailable):
        await elsewhere.stations(CPO)
