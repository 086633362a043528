"""A station's password is changed, and at no step, whatever dies then, is the station shut out or the secret told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from charge_point_gateway.gateway import build
from charge_point_gateway.message_log import STATION_MESSAGE
from charge_point_gateway.security import (
    NEXT_PASSWORDS_MAX,
    STATION_CREDENTIAL,
    RotationRefused,
    StationAuthenticator,
    StationRefused,
    station_identity,
)
from emobility.adapters.memory import SeededRandomness, VirtualClock
from emobility.adapters.postgres import open_postgres
from emobility.adapters.system import SystemTimer
from emobility.protocols.station_control.client import GatewayRefused, StationControlClient
from emobility.protocols.station_control.messages import (
    CredentialRotation,
    MessageLogging,
    RotationState,
    StationCredentialState,
)
from tests.gateway.conftest import NOW, PARTY, PASSWORD, STATION, TOKEN, Station, World

IDENTITY = station_identity(PARTY, STATION)
DAY = timedelta(days=1)
TAKEN = {"SetVariables": "Accepted", "ChangeConfiguration": "Accepted"}


def client_of(world: World) -> StationControlClient:
    return StationControlClient(world.http, gateway_url="http://gateway-a.test", internal_token=TOKEN)


async def told(station: Station) -> tuple[str, str, str]:
    """Return message id, action and the new password of the CALL."""
    _, message_id, action, payload = await station.receive()
    if action == "ChangeConfiguration":
        assert payload["key"] == "AuthorizationKey"
        return message_id, action, payload["value"]
    (setting,) = payload["setVariableData"]
    assert (setting["component"]["name"], setting["variable"]["name"]) == ("SecurityCtrlr", "BasicAuthPassword")
    return message_id, action, setting["attributeValue"]


async def says(station: Station, message_id: str, action: str, status: str) -> None:
    answer: dict[str, Any] = {"status": status}
    if action == "SetVariables":
        named = {"component": {"name": "SecurityCtrlr"}, "variable": {"name": "BasicAuthPassword"}}
        answer = {"setVariableResult": [{"attributeStatus": status, **named}]}
    await station.send([3, message_id, answer])


@asynccontextmanager
async def rotating(world: World) -> AsyncIterator[asyncio.Task[CredentialRotation]]:
    client = client_of(world)
    task = asyncio.create_task(client.rotate_credential(IDENTITY.party_id, STATION, correlation_id="c"))
    try:
        yield task
    finally:
        task.cancel()


async def rotated(world: World, station: Station, status: str = "Accepted") -> tuple[str, CredentialRotation]:
    async with rotating(world) as task:
        message_id, action, password = await told(station)
        await says(station, message_id, action, status)
        return password, await task


async def may_come(world: World, password: str) -> bool:
    """Whether a password opens a connection, as another process of ours sees it."""
    gateway = build(world.settings, world.ports)
    try:
        await gateway.admit(
            path=f"/ocpp/{PARTY}/{STATION}",
            username=STATION,
            password=password,
            subprotocols=("ocpp2.0.1",),
            address="::2",
        )
    except StationRefused:
        return False
    return True


async def state(world: World) -> StationCredentialState | None:
    return await client_of(world).credential(IDENTITY.party_id, STATION)


@pytest.mark.parametrize("subprotocol", ["ocpp1.6", "ocpp2.0.1", "ocpp2.1"])
async def test_a_station_that_took_its_new_password_ends_the_old_one_by_coming(world: World, subprotocol: str) -> None:
    station = await world.dial(subprotocol)

    password, rotation = await rotated(world, station)

    assert (rotation.state, rotation.old_good_until) == (RotationState.CONFIRMED, NOW + DAY)
    assert len(bytes.fromhex(password)) == 20
    assert await may_come(world, PASSWORD)  # a station that has not connected anew yet still has it
    assert await may_come(world, password)
    assert not await may_come(world, PASSWORD)
    assert await may_come(world, password)
    credential = await state(world)
    assert credential is not None
    assert (credential.has_password, credential.rotation) == (True, None)


async def test_the_old_password_ends_at_its_time_though_the_station_never_comes(world: World) -> None:
    station = await world.dial()
    password, _ = await rotated(world, station, "RebootRequired")

    world.clock.step_by(DAY)

    assert not await may_come(world, PASSWORD)
    assert await may_come(world, password)


@pytest.mark.parametrize("status", ["Rejected", "UnknownVariable"])
async def test_what_a_station_refuses_opens_nothing(world: World, status: str) -> None:
    station = await world.dial()

    password, rotation = await rotated(world, station, status)

    assert (rotation.state, rotation.station_status) == (RotationState.REFUSED, status)
    assert not await may_come(world, password)
    assert await may_come(world, PASSWORD)
    credential = await state(world)
    assert credential is not None
    assert credential.rotation is None


async def test_a_connection_that_is_lost_before_the_answer_leaves_both_good_for_as_long_as_it_takes(
    world: World,
) -> None:
    station = await world.dial()
    async with rotating(world) as task:
        _, _, password = await told(station)
        await station.socket.close(1001, "gone")
        rotation = await task

    world.clock.step_by(30 * DAY)

    assert rotation.state is RotationState.UNCONFIRMED
    assert await may_come(world, PASSWORD)
    credential = await state(world)
    assert credential is not None
    assert credential.rotation == CredentialRotation(state=RotationState.UNCONFIRMED, asked_at=NOW)
    assert await may_come(world, password)
    assert not await may_come(world, PASSWORD)


@pytest.mark.parametrize("dies_at", ["stage_password", "confirm_password", "withdraw_password"])
async def test_a_gateway_that_dies_at_any_step_shuts_no_station_out(
    world: World, monkeypatch: pytest.MonkeyPatch, dies_at: str
) -> None:
    station = await world.dial()
    whole = getattr(StationAuthenticator, dies_at)

    async def dies(*given: Any, **named: Any) -> None:
        if dies_at == "stage_password":
            await whole(*given, **named)
        raise asyncio.CancelledError

    monkeypatch.setattr(StationAuthenticator, dies_at, dies)
    rotation = asyncio.create_task(world.gateway.rotate_password(IDENTITY, "c"))
    password = None
    if dies_at != "stage_password":
        message_id, action, password = await told(station)
        await says(station, message_id, action, "Accepted" if dies_at == "confirm_password" else "Rejected")
    with pytest.raises(asyncio.CancelledError):
        await rotation
    monkeypatch.undo()

    world.clock.step_by(30 * DAY)
    assert await may_come(world, PASSWORD)
    if dies_at == "confirm_password":
        assert password is not None
        assert await may_come(world, password)


async def test_of_several_in_the_dark_whichever_the_station_has_opens_and_then_it_alone(world: World) -> None:
    passwords = []
    for _ in range(NEXT_PASSWORDS_MAX):
        station = await world.dial()
        async with rotating(world) as task:
            _, _, password = await told(station)
            await station.socket.close(1001, "gone")
            await task
        passwords.append(password)
    await world.dial()
    with pytest.raises(GatewayRefused, match="by hand"):
        await client_of(world).rotate_credential(IDENTITY.party_id, STATION, correlation_id="c")

    assert await may_come(world, passwords[1])
    assert [await may_come(world, each) for each in [PASSWORD, *passwords]] == [False, False, True, False, False]


async def test_a_password_set_by_hand_ends_a_rotation(world: World) -> None:
    station = await world.dial()
    password, _ = await rotated(world, station)

    await world.gateway.authenticator.set_password(IDENTITY, PASSWORD[::-1], None)

    assert [await may_come(world, each) for each in (PASSWORD, password, PASSWORD[::-1])] == [False, False, True]


@pytest.mark.parametrize("subprotocol", ["ocpp1.6", "ocpp2.0.1"])
async def test_the_new_password_is_told_to_nobody_else(
    world: World, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, subprotocol: str
) -> None:
    await world.gateway.message_log.begin(IDENTITY, MessageLogging(until=NOW + timedelta(hours=1)))
    station = await world.dial(subprotocol)

    password, rotation = await rotated(world, station)
    await world.gateway.message_log.store()

    async with world.adapters.units.begin() as unit:
        messages = await unit.table(STATION_MESSAGE).select()
        credentials = await unit.table(STATION_CREDENTIAL).select()
    output = capsys.readouterr()
    everything = (messages, credentials, rotation, await state(world), await world.events(), output, caplog.text)
    assert [row.action for row in messages] == [next(a for a in TAKEN if (a[0] == "C") == (subprotocol == "ocpp1.6"))]
    assert password not in repr(everything)
    assert "station_password_rotated" in output.out


async def test_a_station_that_is_away_or_unknown_can_not_be_given_one(world: World) -> None:
    with pytest.raises(GatewayRefused, match="409"):
        await client_of(world).rotate_credential(IDENTITY.party_id, STATION, correlation_id="c")
    with pytest.raises(RotationRefused):
        await world.gateway.authenticator.stage_password(station_identity(PARTY, "GHOST"), PASSWORD, at=NOW)
    assert await client_of(world).credential(IDENTITY.party_id, "GHOST") is None


async def test_rotations_are_kept_by_postgresql(postgres_dsn: str) -> None:
    clock, randomness = VirtualClock(datetime(2022, 1, 1, tzinfo=UTC)), SeededRandomness(1)
    async with open_postgres(postgres_dsn, master_key=bytes(32), clock=clock, randomness=randomness) as postgres:
        authenticator = StationAuthenticator(postgres.units, SystemTimer(), clock, master_key=bytes(32))
        await authenticator.set_password(IDENTITY, PASSWORD, None)

        await authenticator.stage_password(IDENTITY, PASSWORD[::-1], at=clock.now())
        await authenticator.confirm_password(IDENTITY, PASSWORD[::-1], old_until=clock.now() + DAY)

        row = await authenticator.credential(IDENTITY)
        assert row is not None
        assert (len(row.next_password_hashes), row.old_password_until) == (1, clock.now() + DAY)
