"""What was said with a station is kept while somebody wants it: both ways, redacted, in a ring, never in the way."""

from __future__ import annotations

import asyncio
import json
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest

from charge_point_gateway import message_log
from charge_point_gateway.message_log import STATION_MESSAGE, MessageLog
from charge_point_gateway.security import station_identity
from emobility.adapters.memory import LoopTimer, SeededRandomness, VirtualClock
from emobility.adapters.postgres import open_postgres
from emobility.domain.errors import Unavailable
from emobility.domain.identifiers import PartyId
from emobility.protocols.station_control.client import GatewayRefused, StationControlClient
from emobility.protocols.station_control.messages import MessageLogging, OCPPCall, StationCommand, StationMessage
from emobility.protocols.station_control.redaction import MASK, redacted
from tests.gateway.conftest import NOW, PARTY, STATION, TOKEN, Station, World, running_world, until

IDENTITY: Final = station_identity(PARTY, STATION)
HOUR: Final = MessageLogging(until=NOW + timedelta(hours=1))


def client(world: World) -> StationControlClient:
    world.http.allow_origin("http://gateway-a.test")
    return StationControlClient(world.http, gateway_url="http://gateway-a.test", internal_token=TOKEN)


async def messages(world: World, **page: int) -> list[StationMessage]:
    await world.gateway.message_log.store()
    return await client(world).messages(PartyId(PARTY), STATION, **({"offset": 0, "limit": 500} | page))


async def watched(world: World, logging: MessageLogging = HOUR) -> Station:
    await client(world).keep_messages(PartyId(PARTY), STATION, logging)
    return await world.dial()


async def test_nothing_is_kept_that_nobody_asked_for(world: World) -> None:
    station, other = await watched(world), await world.dial(station="CS-2")
    world.clock.step_by(timedelta(hours=1))
    await station.call("Authorize", {"idToken": {"idToken": "04A1", "type": "ISO14443"}})
    await other.call("Authorize", {"idToken": {"idToken": "04A1", "type": "ISO14443"}})

    assert await messages(world) == []


async def test_what_a_station_says_is_kept_with_its_answer_and_without_persons(world: World) -> None:
    station = await watched(world)

    await station.call("Authorize", {"idToken": {"idToken": "04A1B2C3", "type": "ISO14443"}})
    await station.call("Heartbeat", {})
    await station.call("Authorize", {"idToken": 4})

    refused, accepted = await messages(world)
    assert json.loads(accepted.payload or "") == {"idToken": {"idToken": MASK, "type": "ISO14443"}}
    assert json.loads(accepted.answer or "")["idTokenInfo"]["status"] == "Accepted"
    assert (accepted.action, accepted.message_id, accepted.is_from_station) == ("Authorize", "m1", True)
    assert (accepted.at, accepted.ocpp_version, accepted.error_code) == (NOW, "2.0.1", None)
    assert (refused.error_code, refused.answer) == ("TypeConstraintViolation", None)


async def test_what_nobody_watches_any_more_goes_after_its_retention() -> None:
    async with running_world(changed_settings={"station_retention_days": 30}) as world:
        station = await watched(world)
        await station.call("Authorize", {"idToken": {"idToken": "04A1", "type": "ISO14443"}})
        kept = []
        for waited in (timedelta(days=30), timedelta(hours=2)):
            world.clock.step_by(waited)
            await world.gateway.message_log.sweep()
            kept.append(len(await messages(world)))

    assert kept == [1, 0]


async def test_heartbeats_are_kept_only_if_asked_for(world: World) -> None:
    station = await watched(world, replace(HOUR, has_heartbeats=True))

    await station.call("Heartbeat", {})

    assert [each.action for each in await messages(world)] == ["Heartbeat"]


@pytest.mark.parametrize(
    ("frame", "error_code"), [([3, {}], None), ([4, "InternalError", "no", {}], "InternalError"), (None, "TimedOut")]
)
async def test_what_a_station_is_told_is_kept_with_what_became_of_it(
    world: World, frame: list[Any] | None, error_code: str | None
) -> None:
    station = await watched(world)
    call = OCPPCall(action="SetNetworkProfile", payload=PROFILE)
    wanted = StationCommand(correlation_id="c", timeout_s=1, ocpp_call=call)

    command = asyncio.create_task(world.gateway.command(IDENTITY, wanted))
    _, message_id, *_ = await station.receive()
    if frame is not None:
        answer = [frame[0], message_id, *frame[1:]]
        if frame[0] == 3:
            answer[2] = {"status": "Accepted"}
        await station.send(answer)
    await command

    (kept,) = await messages(world)
    assert (kept.action, kept.message_id, kept.is_from_station) == ("SetNetworkProfile", message_id, False)
    assert kept.error_code == error_code
    assert "hunter2" not in (kept.payload or "")
    assert (json.loads(kept.answer) if kept.answer else None) == (None if error_code else {"status": "Accepted"})
    assert (kept.latency_ms >= 1000) is (frame is None)


PROFILE: Final = {
    "configurationSlot": 1,
    "connectionData": {
        "ocppVersion": "OCPP20",
        "ocppTransport": "JSON",
        "ocppCsmsUrl": "wss://user:hunter2@example.com/ocpp",
        "messageTimeout": 30,
        "securityProfile": 2,
        "ocppInterface": "Wired0",
        "vpn": {"server": "v", "user": "hunter2", "password": "hunter2", "key": "hunter2", "type": "IKEv2"},
        "apn": {"apn": "a", "apnPassword": "hunter2", "apnAuthentication": "PAP"},
    },
}


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        ({"key": "AuthorizationKey", "value": "hunter2"}, {"key": "AuthorizationKey", "value": MASK}),
        ({"key": "HeartbeatInterval", "value": "30"}, {"key": "HeartbeatInterval", "value": "30"}),
        (
            {"component": {"name": "A"}, "variable": {"name": "BasicAuthPassword"}, "attributeValue": "hunter2"},
            {"component": {"name": "A"}, "variable": {"name": "BasicAuthPassword"}, "attributeValue": MASK},
        ),
        (
            {"variable": {"name": "VpnKey"}, "variableAttribute": [{"value": "hunter2"}]},
            {"variable": {"name": "VpnKey"}, "variableAttribute": [{"value": MASK}]},
        ),
        ({"mutability": "WriteOnly", "value": "hunter2"}, {"mutability": "WriteOnly", "value": MASK}),
        ({"location": "ftp://u:hunter2@host/x@y"}, {"location": f"ftp://{MASK}@host/x@y"}),
        ({"address": {"name": "Ann", "city": "Ede"}}, {"address": {"name": MASK, "city": MASK}}),
        ({"idTag": "", "meterStart": 5}, {"idTag": "", "meterStart": 5}),
        ({"customerIdentifier": "Ann", "requestId": 1}, {"customerIdentifier": MASK, "requestId": 1}),
        (
            {"sampledValue": [{"value": "OCMF|{}", "format": "SignedData"}, {"value": "7", "format": "Raw"}]},
            {"sampledValue": [{"value": MASK, "format": "SignedData"}, {"value": "7", "format": "Raw"}]},
        ),
        (
            {"signedMeterValue": {"signedMeterData": "T0NNRg==", "encodingMethod": "OCMF"}},
            {"signedMeterValue": {"signedMeterData": MASK, "encodingMethod": "OCMF"}},
        ),
        (
            {"eventData": [{"actualValue": "hunter2", "variable": {"name": "BasicAuthPassword"}}]},
            {"eventData": [{"actualValue": MASK, "variable": {"name": "BasicAuthPassword"}}]},
        ),
        (
            {"component": {"name": "TokenReader"}, "variable": {"name": "Token"}, "attributeValue": "04A1"},
            {"component": {"name": "TokenReader"}, "variable": {"name": "Token"}, "attributeValue": MASK},
        ),
        ({"pspRef": "p", "tariff": {"idTokens": ["04A", "04B"]}}, {"pspRef": MASK, "tariff": {"idTokens": [MASK] * 2}}),
    ],
)
def test_secrets_and_persons_are_masked_and_nothing_else(payload: dict[str, Any], shown: dict[str, Any]) -> None:
    assert redacted(payload) == shown
    assert redacted({"nested": [payload]}) == {"nested": [shown]}


async def test_the_oldest_makes_room(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_log, "MESSAGES_KEPT_MAX", 3)
    station = await watched(world, replace(HOUR, has_heartbeats=True))
    for number in range(8):
        await station.call("Heartbeat", {}, str(number))
        if number == 2:
            await world.gateway.message_log.store()

    assert [each.message_id for each in await messages(world)] == ["7", "6", "5"]
    assert [each.message_id for each in await messages(world, offset=1, limit=1)] == ["6"]


async def test_a_log_is_dropped_whole(world: World) -> None:
    station = await watched(world, replace(HOUR, has_heartbeats=True))
    await station.call("Heartbeat", {})
    assert len(await messages(world)) == 1

    await client(world).drop_messages(PartyId(PARTY), STATION)
    await station.call("Heartbeat", {})

    assert await messages(world) == []


@pytest.mark.parametrize("off", [timedelta(0), timedelta(days=7, seconds=1)])
async def test_messages_are_kept_for_a_bounded_time(world: World, off: timedelta) -> None:
    with pytest.raises(GatewayRefused) as refusal:
        await client(world).keep_messages(PartyId(PARTY), STATION, MessageLogging(until=NOW + off))

    assert refusal.value.status == 422


@pytest.mark.parametrize(("bound", "is_for_others"), [("LOGS_MAX", False), ("LOGS_OF_PARTY_MAX", True)])
async def test_a_bounded_number_of_stations_is_watched(
    world: World, monkeypatch: pytest.MonkeyPatch, bound: str, *, is_for_others: bool
) -> None:
    monkeypatch.setattr(message_log, bound, 1)
    await watched(world)

    with pytest.raises(GatewayRefused):
        await client(world).keep_messages(PartyId(PARTY), "CS-2", HOUR)
    await client(world).keep_messages(PartyId(PARTY), STATION, replace(HOUR, has_heartbeats=True))
    with nullcontext() if is_for_others else pytest.raises(GatewayRefused):
        await client(world).keep_messages(PartyId("NL-XYZ"), "CS-2", HOUR)


async def test_a_station_is_answered_though_its_message_can_not_be_stored(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    station = await watched(world, replace(HOUR, has_heartbeats=True))

    def broken(_: Any) -> str:
        raise ValueError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(message_log, "redacted", broken)
        assert (await station.call("Heartbeat", {}))[0] == 3

    async def away(*_: Any) -> None:
        raise Unavailable("away")

    await station.call("Heartbeat", {}, "kept")
    with monkeypatch.context() as patch:
        patch.setattr(MessageLog, "_store", away)
        with pytest.raises(Unavailable):
            await world.gateway.message_log.store()
    assert [each.message_id for each in await messages(world)] == ["kept"]


async def test_another_gateway_finds_out_and_goes_on_counting(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_log, "MESSAGES_KEPT_MAX", 4)
    clock = VirtualClock(NOW)
    async with open_postgres(
        postgres_dsn, master_key=bytes(32), clock=clock, randomness=SeededRandomness(1)
    ) as adapters:
        first, second = (MessageLog(adapters.units, clock, LoopTimer()) for _ in range(2))
        stop = asyncio.Event()
        await first.begin(IDENTITY, HOUR)
        running = asyncio.create_task(second.run(stop))
        await until(lambda: bool(second.watched))
        running.cancel()

        for log, message_ids in ((first, "a"), (second, "b"), (first, "cdefg")):
            for message_id in message_ids:
                log.note(
                    IDENTITY,
                    is_from_station=True,
                    ocpp_version="1.6",
                    action="A\0",
                    message_id=message_id,
                    payload={"text": "\0"},
                )
            await log.store()

        kept = await second.kept(IDENTITY, offset=0, limit=9)
        async with adapters.units.begin() as unit:
            numbers = sorted(row.number for row in await unit.table(STATION_MESSAGE).select())
        assert "".join(each.message_id for each in kept) == "gfed"
        assert numbers == [3, 4, 5, 6]
