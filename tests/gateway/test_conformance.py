"""Every action of every version, each direction: what its schema allows passes whole, each single fault has its code.

Generated from the schemas of the Open Charge Alliance: the smallest payload, the fullest, and the fullest with one rule
broken at one place.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest

from charge_point_gateway import message_log
from charge_point_gateway.commands import actions_of_csms
from charge_point_gateway.rpc_errors import OCPPVersion, wire_code
from charge_point_gateway.security import station_identity
from charge_point_gateway.station_session import MESSAGES, SENT_MESSAGES
from emobility.adapters.memory import run_virtual
from emobility.events.charging import StationNotified
from emobility.events.station_told import StationTold
from emobility.protocols.station_control.client import StationControlClient
from emobility.protocols.station_control.messages import (
    CommandOutcome,
    CommandResult,
    MessageLogging,
    OCPPCall,
    StationCommand,
)
from tests.gateway.conftest import PARTY, STATION, TOKEN, Station, World, running_world
from tests.gateway.schema_cases import fullest, schema_of, smallest, violations

FROM_STATIONS: Final = [(version, action) for version, messages in MESSAGES.items() for action in messages]
FROM_CSMS: Final = [(version, action) for version in OCPPVersion for action in sorted(actions_of_csms(version))]
SENT: Final = [(version, action) for version, messages in SENT_MESSAGES.items() for action in messages]
GATEWAY: Final = "http://gateway-a.test"
IDENTITY: Final = station_identity(PARTY, STATION)
WITHOUT_EVENT: Final = {"Authorize", "Heartbeat"}


@pytest.fixture(autouse=True)
def _the_fullest_are_kept_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_log, "TEXT_CHARACTERS_MAX", 10_000_000)


def test_every_action_of_every_version_has_a_direction() -> None:
    counts = {
        version: len({action for known, action in FROM_STATIONS + FROM_CSMS + SENT if known is version})
        for version in OCPPVersion
    }

    assert counts == {OCPPVersion.V16: 39, OCPPVersion.V201: 64, OCPPVersion.V21: 91}


@pytest.mark.parametrize(("version", "action"), FROM_STATIONS)
@pytest.mark.parametrize("example", [smallest, fullest])
def test_what_a_station_may_call_is_acknowledged_and_stored(version: OCPPVersion, action: str, example: Any) -> None:
    payload = example(schema_of(version, action))

    async def talk() -> None:
        async with running_world() as world:
            await _keep_messages(world)
            station = await world.dial(version.subprotocol)
            answer = await station.call(action, payload)
            assert answer[0] == 3, answer
            (kept,) = await _kept(world)
            assert _names(kept.payload) == _names(payload)
            events = await world.events()
            assert len(events) == (0 if action in WITHOUT_EVENT else 1 + ("costDetails" in payload))
            for event in events:
                if isinstance(event, StationNotified):
                    assert (event.action, event.ocpp_version) == (action, version.value)
                if isinstance(event, StationNotified | StationTold):
                    assert event.payload is not None
                    stored = json.loads(await world.adapters.vault.open(event.payload))
                    assert stored == (payload["costDetails"] if action == "TransactionEvent" else payload)

    run_virtual(talk())


@pytest.mark.parametrize(("version", "action"), FROM_STATIONS)
def test_each_fault_of_a_station_s_call_has_its_code(version: OCPPVersion, action: str) -> None:
    async def talk() -> None:
        async with running_world() as world:
            station = await world.dial(version.subprotocol)
            for place, payload, error in violations(schema_of(version, action)):
                answer = await station.call(action, payload)
                assert (place, answer[0], answer[2]) == (place, 4, wire_code(error, version))
            assert await world.events() == []

    run_virtual(talk())


@pytest.mark.parametrize(("version", "action"), SENT)
def test_what_a_station_sends_without_being_answered_is_stored(version: OCPPVersion, action: str) -> None:
    schema = schema_of(version, action)
    payloads = [smallest(schema), fullest(schema)]

    async def talk() -> None:
        async with running_world() as world:
            station = await world.dial(version.subprotocol)
            for _, payload, _ in violations(schema):
                await station.send([6, "s", action, payload])
            for payload in payloads:
                await station.send([6, "s", action, payload])
            assert (await station.call("Heartbeat", {}))[:2] == [3, "m1"]
            while len(await world.events()) < len(payloads):  # noqa: ASYNC110 - nothing answers a SEND
                await asyncio.sleep(0.01)
            stored = [event.payload for event in await world.events() if isinstance(event, StationTold)]
            assert [json.loads(await world.adapters.vault.open(each)) for each in stored if each] == payloads

    run_virtual(talk())


@pytest.mark.parametrize(("version", "action"), FROM_CSMS)
def test_what_a_csms_may_call_reaches_the_station_whole_and_so_does_its_answer(
    version: OCPPVersion, action: str
) -> None:
    request, response = schema_of(version, action), schema_of(version, action, response=True)

    async def talk() -> None:
        async with running_world() as world:
            await _keep_messages(world)
            station = await world.dial(version.subprotocol)
            for example in (smallest, fullest):
                payload, answer = example(request), example(response)
                outcome, heard = await _commanded(world, station, OCPPCall(action=action, payload=payload), answer)
                assert heard == [action, payload]
                assert outcome.answer == answer
                kept = (await _kept(world))[0]
                assert (_names(kept.payload), _names(kept.answer)) == (_names(payload), _names(answer))
                assert outcome.result in {CommandResult.ACCEPTED, CommandResult.REJECTED, CommandResult.NOT_SUPPORTED}
            for place, payload, _ in violations(request):
                refused = await _command(world, OCPPCall(action=action, payload=payload))
                assert (place, refused.result) == (place, CommandResult.MALFORMED)

    run_virtual(talk())


async def _keep_messages(world: World) -> None:
    asked = MessageLogging(until=world.clock.now() + timedelta(hours=1), has_heartbeats=True)
    await world.gateway.message_log.begin(IDENTITY, asked)


async def _kept(world: World) -> list[Any]:
    """Return the messages of the station that the gateway keeps, the newest first, as JSON values."""
    await world.gateway.message_log.store()
    kept = await world.gateway.message_log.kept(IDENTITY, offset=0, limit=10)
    return [replace(each, payload=_read(each.payload), answer=_read(each.answer)) for each in kept]


def _read(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _names(value: Any) -> Any:
    """Return the names of a payload's properties, at any depth, without what they say."""
    if isinstance(value, dict):
        return {name: _names(each) for name, each in value.items()}
    return [_names(each) for each in value] if isinstance(value, list) else None


async def _commanded(world: World, station: Station, call: OCPPCall, answer: Any) -> tuple[CommandOutcome, list[Any]]:
    """Send a command and have the station answer it; return the outcome and what the station heard."""
    command = asyncio.create_task(_command(world, call))
    kind, message_id, *heard = await station.receive()
    assert kind == 2
    await station.send([3, message_id, answer])
    return await command, heard


async def _command(world: World, call: OCPPCall) -> CommandOutcome:
    """Send a command as the back office does: over HTTP, payload and answer as JSON."""
    world.http.allow_origin(GATEWAY)
    client = StationControlClient(world.http, gateway_url=GATEWAY, internal_token=TOKEN)
    return await client.command(
        IDENTITY.party_id, IDENTITY.charging_station_id, StationCommand(correlation_id="c", ocpp_call=call)
    )
