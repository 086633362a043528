"""Each known defect of a station, played against the real gateway and back office: who keeps what, and who pays."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

import pytest
from structlog.testing import capture_logs

from charge_point_gateway.gateway import GatewayService
from charge_point_gateway.security import station_identity
from emobility.protocols.station_control.messages import OCPPCall, StationCommand
from emobility.protocols.station_control.quirks import QuirkProfile, Tolerance
from services.charging_operations.records import TRANSACTION
from services.charging_operations.stations import StationTerms
from simulator.__main__ import main
from simulator.adversaries.adversary import Adversary, Outcome
from simulator.adversaries.charges import REGISTER_WH, WH
from simulator.adversaries.hostile_station import HostileStation
from simulator.adversaries.running import ADVERSARIES, NoSuchAdversary, as_table, chosen, play
from simulator.dialing import WebSocketDialer
from simulator.stations.profile import OCPPVersion
from tests.operations.world import CARD, CPO, STATION, World, evse
from tests.simulator.csms import IDENTITY, PASSWORD, csms

GIVEN_UP_AFTER: Final = timedelta(days=8)
"""By then what never came is quarantined."""
ESCAPED: Final = {"message_not_handled", "send_lost"}


async def played(adversary: Adversary, here: World, url: str) -> Outcome:
    return await play(
        adversary,
        dialer=WebSocketDialer(),
        url=url,
        username=STATION,
        password=PASSWORD,
        token=CARD,
        now=here.clock.now,
    )


async def calls(gateway: GatewayService, said: list[str | None]) -> None:
    """Call the station as soon as it is there, and again; keep what it is taken to have said."""
    call = StationCommand(correlation_id="c", timeout_s=1, ocpp_call=OCPPCall(action="ClearCache", payload={}))
    while True:
        said.append((await gateway.command(IDENTITY, call)).station_status)
        await asyncio.sleep(0.01)


async def energy_of(here: World) -> tuple[int, str | None]:
    """Return Wh billed and the first reason of what waits, once nothing more is expected to come."""
    await here.settle()
    here.clock.step_by(GIVEN_UP_AFTER)
    rows = await here.rows(TRANSACTION)

    async def is_given_up() -> bool:
        rows = await here.rows(TRANSACTION, has_ended=True)
        return all(row.state != "OPEN" for row in rows)

    if rows:
        await here.until(is_given_up)
    billed = sum(row.cdr.total_energy_import_wh for row in await here.cdrs())
    reasons = [row.reasons[0] for row in await here.quarantine()]
    return billed, reasons[0] if reasons else None


@pytest.mark.parametrize("name", list(ADVERSARIES))
async def test_an_adversary_hurts_nobody_but_itself(name: str) -> None:
    adversary, said = ADVERSARIES[name], list[str | None]()
    async with csms() as (here, gateway, url):
        calling = asyncio.create_task(calls(gateway, said)) if adversary.needs_a_call else None
        with capture_logs() as logs:
            outcome = await played(adversary, here, url)
            energy = await energy_of(here)
            await here.ledger()
        if calling is not None:
            calling.cancel()
            with suppress(asyncio.CancelledError):
                await calling

    assert outcome.answers == adversary.answers
    assert outcome.is_connected is adversary.keeps_connection
    assert energy == (adversary.energy.billed_wh, adversary.energy.quarantined)
    assert not [each for each in logs if each["event"] in ESCAPED]
    assert "Rejected" not in said  # that was the answer to another CALL
    assert ("Accepted" in said) is (name in {"off_by_one", "late_answer"})


async def test_a_transaction_of_another_station_is_not_ended() -> None:
    async with csms() as (here, gateway, url):
        await here.api("PUT", f"/{CPO}/stations/CS2", StationTerms(location_id="LOC1", evses=(evse(station="CS2"),)))
        await gateway.authenticator.set_password(station_identity(CPO.code, "CS2"), PASSWORD, None)
        victim = hostile(here, url.replace(STATION, "CS2"), "CS2")
        await victim.connect()
        charge = {"connectorId": 1, "idTag": CARD, "meterStart": 0, "timestamp": victim.at(-60)}
        number = (await victim.call("StartTransaction", charge))["transactionId"]

        attacker = hostile(here, url, STATION)
        await attacker.connect()
        for each in range(number + 5):
            await attacker.call("StopTransaction", {"transactionId": each, "meterStop": 1, "timestamp": victim.at(-30)})
        await here.settle()
        (open_one,) = await here.rows(TRANSACTION, charging_station_id="CS2")
        await victim.call("StopTransaction", {"transactionId": number, "meterStop": WH, "timestamp": victim.at(-1)})
        billed, _ = await energy_of(here)

    assert not open_one.has_ended
    assert set(attacker.heard) == {"result"}
    assert billed == WH


def hostile(here: World, url: str, name: str) -> HostileStation:
    return HostileStation(
        dialer=WebSocketDialer(),
        url=url,
        version=OCPPVersion.OCPP16,
        username=name,
        password=PASSWORD,
        token=CARD,
        now=here.clock.now,
    )


# -- with a profile --------------------------------------------------------------------------------------------------


def tolerating(*tolerances: Tolerance, **more: Any) -> QuirkProfile:
    return QuirkProfile(tolerances=tolerances, who="Ada", why="as its vendor says", vendor="adversary", **more)


@pytest.mark.parametrize(
    ("name", "profile", "answers", "energy"),
    [
        ("kwh_said_to_be_wh", tolerating(Tolerance.SAMPLED_KWH_AS_WH), ("result",) * 3, (WH, None)),
        ("lower_case", tolerating(Tolerance.OTHER_CASE), ("result",), (0, None)),
        ("numbers_in_quotes", tolerating(Tolerance.NUMBERS_AS_TEXT), ("result",), (0, None)),
        ("time_without_zone", tolerating(Tolerance.LOOSE_TIMES), ("result",), (0, None)),
        # Firmware that counts right under a profile that says it does not: nothing is billed a thousandfold.
        ("honest", tolerating(Tolerance.REGISTERS_KWH_AS_WH), ("result",) * 2, (0, "ENERGY_IMPLAUSIBLE")),
    ],
)
async def test_a_profile_makes_sense_of_a_defect_and_never_money_of_nothing(
    name: str, profile: QuirkProfile, answers: tuple[str, ...], energy: tuple[int, str | None]
) -> None:
    async with csms() as (here, _, url):
        entered = await here.api("PUT", f"/{CPO}/quirks/adversary", profile)
        outcome = await played(ADVERSARIES[name], here, url)
        became = await energy_of(here)
        notes = {
            reading.note
            for row in await here.rows(TRANSACTION)
            for report in row.transaction.reports
            for reading in report.readings
        }

    assert entered.status_code == 200, entered.text
    assert (outcome.answers, became) == (answers, energy)
    corrections = {f"adversary: {each.value}" for each in profile.tolerances if "kwh" in each.value}
    assert corrections <= notes
    assert len(notes - {None}) == len(corrections)


# -- the command -----------------------------------------------------------------------------------------------------


async def test_the_command_prints_what_happened_and_tells_what_was_not_expected() -> None:
    async with csms() as (_, _, url):
        arguments = ["--url", url, "--station", STATION, "--password", PASSWORD, "--token", CARD, "--json"]
        out = await captured("--adversary", "lower_case", *arguments)
        wrong = await captured("--adversary", "lower_case", *arguments, password="f" * 16 + PASSWORD[:16])

    (row,) = json.loads(out)
    assert (row["name"], row["answers"], row["was_expected"]) == ("lower_case", ["PropertyConstraintViolation"], True)
    assert json.loads(wrong)[0]["answers"] == ["closed 401"]


async def captured(*arguments: str, password: str | None = None) -> str:
    given = [password if password and each == PASSWORD else each for each in arguments]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "simulator", *given, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), timeout=60)
    return out.decode()


def test_a_table_says_what_was_expected_where_something_else_happened() -> None:
    outcome = Outcome(name="lower_case", answers=("result",), is_connected=True, was_expected=False)

    table = as_table([outcome])

    assert "!!  lower_case" in table
    assert "result (expected: PropertyConstraintViolation)" in table


def test_nobody_is_called_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NoSuchAdversary):
        chosen("nobody")

    assert main(["--adversary", "nobody", "--url", "ws://127.0.0.1:1/x"]) == 1
    assert "NoSuchAdversary" in capsys.readouterr().err


def test_each_adversary_says_where_it_was_seen() -> None:
    assert all(each.source and each.what for each in chosen("all"))
    assert len(ADVERSARIES) > 50
    assert REGISTER_WH % 1_000 == 0
