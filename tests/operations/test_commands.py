"""Commands of eMSPs: taken, sent, answered once; the session they start needs no second authorisation."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from emobility.domain.errors import Unavailable
from emobility.domain.session import AuthMethod
from emobility.domain.token import TokenType, Whitelist
from emobility.protocols.ocpi import v221
from emobility.protocols.ocpi.client import PeerRefused
from emobility.protocols.ocpi.v221 import ModuleID
from emobility.protocols.station_control.messages import CommandOutcome, CommandResult
from services.charging_operations.commands import CommandDesk
from services.charging_operations.office import Limits
from services.charging_operations.records import AUTHORIZATION, COMMAND, SESSION, CommandRecord, CommandState
from tests.operations.world import GATEWAY, RESULTS, START, World, open_for_business

APP_TOKEN = "APP-0001"
DEADLINE_S = 10.0


def start_session(**changes: Any) -> v221.StartSession:
    token = v221.Token(
        country_code="NL",
        party_id="EMP",
        uid=APP_TOKEN,
        type=TokenType.APP_USER,
        contract_id="NL-EMP-C12345678-X",
        issuer="EMP",
        valid=True,
        whitelist=Whitelist.NEVER,
        last_updated=START,
    )
    fields: dict[str, Any] = {
        "response_url": f"{RESULTS}/c1",
        "token": token,
        "location_id": "LOC1",
        "evse_uid": "CS1-2",
        "authorization_reference": "quote-9",
    }
    return v221.StartSession(**(fields | changes))


async def send(here: World, command: v221.Command, kind: str = "START_SESSION") -> str:
    answer = await here.ocpi("POST", ModuleID.COMMANDS, f"/{kind}", command)
    await here.settle()
    return str(answer["result"])


async def test_a_remote_start_reaches_the_station_and_its_session_carries_the_reference() -> None:
    async with open_for_business() as here:
        assert await send(here, start_session()) == "ACCEPTED"

        (command,) = here.gateway.commands
        assert command.start_transaction is not None
        assert (command.start_transaction.id_token, command.start_transaction.ocpp_evse_id) == (APP_TOKEN, 2)
        number = command.start_transaction.remote_start_id
        await here.authorize(APP_TOKEN, transaction_id="1", ocpp_evse_id=2)
        await here.report(await here.started(card=APP_TOKEN, evse=2, remote_start_id=number), here.ended())

        (cdr,) = await here.issued()
        assert (cdr.auth_method, cdr.authorization_reference) == (AuthMethod.COMMAND, "quote-9")
        assert here.emsp.asked == 0
        assert here.emsp.got("result") == [{"result": "ACCEPTED"}]


async def test_a_station_that_starts_without_asking_still_charges_under_the_command() -> None:
    async with open_for_business() as here:
        await send(here, start_session())
        await here.report(await here.started(card=APP_TOKEN, evse=2), here.ended())

        (cdr,) = await here.issued()
        assert cdr.auth_method is AuthMethod.COMMAND


async def test_a_repeated_command_starts_nothing_twice() -> None:
    async with open_for_business() as here:
        assert await send(here, start_session()) == "ACCEPTED"
        assert await send(here, start_session()) == "ACCEPTED"

        assert len(here.gateway.commands) == 1
        assert len(await here.rows(COMMAND)) == 1


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (CommandResult.REJECTED, "REJECTED"),
        (CommandResult.NOT_SUPPORTED, "NOT_SUPPORTED"),
        (CommandResult.TIMED_OUT, "TIMEOUT"),
        (CommandResult.STATION_OFFLINE, "EVSE_INOPERATIVE"),
    ],
)
async def test_the_stations_word_is_told(result: CommandResult, told: str) -> None:
    async with open_for_business() as here:
        here.gateway.outcome = CommandOutcome(result=result)
        await send(here, start_session())

        assert [body["result"] for body in here.emsp.got("result")] == [told]
        (decision,) = await here.rows(AUTHORIZATION)
        assert decision.is_accepted == (result is CommandResult.TIMED_OUT)


async def test_a_gateway_that_is_away_is_a_timeout_for_the_emsp() -> None:
    async with open_for_business() as here:
        here.http.cut(GATEWAY)
        await send(here, start_session())

        assert [body["result"] for body in here.emsp.got("result")] == ["TIMEOUT"]


@pytest.mark.parametrize("changes", [{"location_id": "NOWHERE"}, {"evse_uid": "NOWHERE"}, {"connector_id": "9"}])
async def test_a_place_that_is_none_is_rejected(changes: dict[str, str]) -> None:
    async with open_for_business() as here:
        assert await send(here, start_session(**changes)) == "REJECTED"
        assert here.gateway.commands == []


async def test_another_emsps_token_starts_nothing() -> None:
    async with open_for_business() as here:
        foreign = v221.read(v221.write(start_session().token).replace(b'"EMP"', b'"EMX"'), v221.Token)

        with pytest.raises(PeerRefused):
            await send(here, start_session(token=foreign))


async def test_a_running_session_is_stopped() -> None:
    async with open_for_business() as here:
        await here.authorize(transaction_id="1")
        await here.report(await here.started())
        (session,) = await here.rows(SESSION)
        url = f"{RESULTS}/c2"

        stop = v221.StopSession(response_url=url, session_id=session.session_id)
        assert await send(here, stop, "STOP_SESSION") == "ACCEPTED"

        (command,) = here.gateway.commands
        assert command.stop_transaction is not None
        assert command.stop_transaction.transaction_id == "1"


async def test_a_session_nobody_knows_can_not_be_stopped() -> None:
    async with open_for_business() as here:
        stop = v221.StopSession(response_url=f"{RESULTS}/c2", session_id="nothing")

        assert await send(here, stop, "STOP_SESSION") == "UNKNOWN_SESSION"


async def test_what_we_do_not_do_is_said() -> None:
    async with open_for_business() as here:
        url = f"{RESULTS}/c3"
        unlock = v221.UnlockConnector(response_url=url, location_id="LOC1", evse_uid="CS1-1", connector_id="1")

        assert await send(here, unlock, "UNLOCK_CONNECTOR") == "NOT_SUPPORTED"


async def test_no_such_command() -> None:
    async with open_for_business() as here:
        with pytest.raises(PeerRefused):
            await send(here, start_session(), "EXPLODE")


async def test_a_command_that_a_crash_left_half_sent_is_a_timeout_and_is_not_sent_again() -> None:
    async with open_for_business() as here:
        await send(here, start_session())
        (record,) = await here.rows(COMMAND)
        async with here.ports.units.begin() as unit:
            await unit.table(COMMAND).put(replace(record, state=CommandState.SENT, result=None))
            await unit.commit()

        await here.operations.commands._give_up_unknown()
        await here.settle()

        assert [body["result"] for body in here.emsp.got("result")] == ["ACCEPTED", "TIMEOUT"]
        assert len(here.gateway.commands) == 1


async def test_commands_beyond_those_at_once_follow_without_another_command() -> None:
    async with open_for_business(limits=Limits(commands_at_once=3)) as here:
        here.gateway.may_answer.clear()
        for n in range(8):
            command = start_session(response_url=f"{RESULTS}/c{n}", authorization_reference=f"q{n}")
            await here.ocpi("POST", ModuleID.COMMANDS, "/START_SESSION", command)
        async with asyncio.timeout(DEADLINE_S):
            while len(here.gateway.commands) < 3:  # noqa: ASYNC110 - the gateway has no event for so many
                await asyncio.sleep(0.002)
        at_once = len(here.gateway.commands)
        here.gateway.may_answer.set()
        await here.settle()

        assert at_once == 3
        assert len(here.gateway.commands) == 8
        assert [body["result"] for body in here.emsp.got("result")] == ["ACCEPTED"] * 8


async def test_a_command_that_can_not_be_finished_holds_up_no_other_after_a_crash() -> None:
    async with open_for_business() as here:
        for n in range(2):
            await send(here, start_session(response_url=f"{RESULTS}/c{n}"))
        finish, failures = CommandDesk._finish, iter([True])

        async def failing(desk: CommandDesk, record: CommandRecord, outcome: CommandOutcome) -> None:
            if next(failures, False):
                raise LookupError("our own fault")
            await finish(desk, record, outcome)

        async with here.ports.units.begin() as unit:
            for record in await unit.table(COMMAND).select():
                await unit.table(COMMAND).put(replace(record, state=CommandState.SENT, result=None))
            await unit.commit()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(CommandDesk, "_finish", failing)
            await here.operations.commands._give_up_unknown()

        assert sorted(row.state for row in await here.rows(COMMAND)) == [CommandState.DONE, CommandState.SENT]


async def test_a_database_that_is_away_for_a_moment_loses_no_command() -> None:
    async with open_for_business() as here:
        claim, failures = CommandDesk._claim, iter([True])

        async def failing(desk: CommandDesk) -> list[Any]:
            if next(failures, False):
                raise Unavailable("the database is away")
            return await claim(desk)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(CommandDesk, "_claim", failing)
            patch.setattr("services.charging_operations.commands.RETRY_S", 0.001)
            await send(here, start_session())

        assert len(here.gateway.commands) == 1


async def test_what_happened_is_counted_without_naming_anybody() -> None:
    async with open_for_business() as here:
        await here.authorize(transaction_id="1")
        await here.report(await here.started(), here.ended())

        shown = (await here.api("GET", "/metrics")).text
        assert 'session_energy_wh_total{stage="cdr"} 5000.0' in shown
        assert 'authorizations_total{is_accepted="true",reason="WHITELISTED"} 1.0' in shown
        assert "CS1" not in shown
