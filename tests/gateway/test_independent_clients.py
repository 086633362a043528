"""Other people's OCPP clients live through a day with our gateway and back office; their own validation finds nothing.

npm `ocpp-rpc` and `ocpp-ws-io` in strict mode and PyPI `ocpp` speak the words of `clients/words.json` and check every
frame in both directions against schemas of their own. PyPI `test-ocpp` knocks: with a password, with a certificate,
with one that is not the gateway's to believe.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from charge_point_gateway import ocpp16, ocpp201
from charge_point_gateway.schemas import Schemas
from services.charging_operations.records import TransactionState
from tests.csms import CSMS, PASSWORD, running_csms

ROOT: Final = Path(__file__).parents[2]
CLIENTS: Final = Path(__file__).parent / "clients"
NODE: Final = ROOT / "build" / "foundry" / "node"
WORDS: Final = json.loads((CLIENTS / "words.json").read_text())
DAY_S_MAX: Final = 20
METERED_WH: Final = 6_500

ocpp_rpc = (str(NODE), str(CLIENTS / "ocpp_rpc.mjs"))
ocpp_ws_io = (str(NODE), str(CLIENTS / "ocpp_ws_io.mjs"))
ocpp_package = (sys.executable, str(CLIENTS / "ocpp_package.py"))


@pytest.fixture
async def csms() -> AsyncIterator[CSMS]:
    async with running_csms() as running:
        yield running


class Client:
    """A client in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def hear(self, key: str) -> Any:
        """Return what its next line says under `key`."""
        assert self._process.stdout is not None
        async with asyncio.timeout(DAY_S_MAX):
            line = await self._process.stdout.readline()
        told = json.loads(line or "{}")
        assert key in told, f"{told} {await self._complaint()}"
        return told[key]

    async def transaction_after(self, action: str) -> Any:
        """Return the transaction it is in, once it has done what follows from a command."""
        assert self._process.stdout is not None
        async with asyncio.timeout(DAY_S_MAX):
            told = json.loads(await self._process.stdout.readline())
        assert told["followed"] == action, told
        return told.get("transaction")

    async def _complaint(self) -> str:
        assert self._process.stderr is not None
        return (await self._process.stderr.read()).decode()[-2_000:]


@asynccontextmanager
async def client_of(
    program: tuple[str, str], csms: CSMS, station_id: str, version: str, *, card: str = "", tls: bool = False
) -> AsyncIterator[Client]:
    root_file = str(csms.keys.root_file)
    words = (csms.wss_url if tls else csms.url, station_id, PASSWORD, version, card, root_file)
    process = await asyncio.create_subprocess_exec(
        *program,
        *words,
        env=os.environ | {"NODE_EXTRA_CA_CERTS": root_file, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Client(process)
        async with asyncio.timeout(DAY_S_MAX):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def filled(payload: Any, **known: Any) -> Any:
    """Put what is known into a payload of the words."""
    values = {f"${key}": value for key, value in known.items()}
    return json.loads(json.dumps(payload), object_hook=lambda each: _filled(each, values))


def _filled(each: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    return {key: values.get(value, value) if isinstance(value, str) else value for key, value in each.items()}


@pytest.mark.parametrize(
    ("program", "version", "tls"),
    [
        pytest.param(ocpp_rpc, "1.6", False, id="ocpp-rpc-1.6"),
        pytest.param(ocpp_rpc, "2.0.1", True, id="ocpp-rpc-2.0.1-tls"),
        pytest.param(ocpp_ws_io, "1.6", True, id="ocpp-ws-io-1.6-tls"),
        pytest.param(ocpp_ws_io, "2.0.1", False, id="ocpp-ws-io-2.0.1"),
        pytest.param(ocpp_ws_io, "2.1", False, id="ocpp-ws-io-2.1"),
        pytest.param(ocpp_package, "1.6", False, id="ocpp-1.6"),
        pytest.param(ocpp_package, "2.0.1", True, id="ocpp-2.0.1-tls"),
        pytest.param(ocpp_package, "2.1", False, id="ocpp-2.1"),
    ],
)
async def test_a_day_with_an_independent_client_has_no_schema_error(
    csms: CSMS, program: tuple[str, str], version: str, *, tls: bool
) -> None:
    assert NODE.exists(), "`make clients` installs what this needs"
    words = WORDS["2.0.1" if version == "2.1" else version]
    station_id, card = await csms.enter_station(), await csms.new_card()

    async def operate(action: str, payload: dict[str, Any]) -> None:
        shown = await csms.command(station_id, action, payload)
        assert shown["answer"] == words["answers"][action], shown

    async with client_of(program, csms, station_id, version, card=card, tls=tls) as client:
        assert await client.hear("ready") == f"ocpp{version}"
        for action, payload in words["commands"]:
            await operate(action, payload)
        await client.transaction_after("TriggerMessage")
        await operate(words["start"][0], filled(words["start"][1], card=card))
        transaction_id = await client.transaction_after(words["start"][0])
        await operate(words["stop"][0], filled(words["stop"][1], transaction=transaction_id))
        await client.transaction_after(words["stop"][0])
        await operate(*words["end"])
        report = await client.hear("report")

    phrases = [*words["opening"], *(phrase for after in words["after"].values() for phrase in after)]
    commands = [*words["commands"], words["start"], words["stop"], words["end"]]
    assert report["schema_errors"] == []
    assert report["refusals"] == []
    assert report["sent"] == Counter(action for action, _ in phrases)
    assert report["answered"] == Counter(action for action, _ in commands)
    record = await csms.transaction(station_id, str(transaction_id))
    assert (record.state, record.metered_import_wh) == (TransactionState.BILLED, METERED_WH)


@pytest.mark.parametrize(
    ("program", "version"), [(ocpp_rpc, "1.6"), (ocpp_rpc, "2.0.1"), (ocpp_ws_io, "2.1"), (ocpp_package, "2.0.1")]
)
async def test_an_answer_that_breaks_its_schema_is_found_by_each_client(
    csms: CSMS, monkeypatch: pytest.MonkeyPatch, program: tuple[str, str], version: str
) -> None:
    """The test above can fail: our own check is taken out and an answer spoiled."""
    monkeypatch.setattr(Schemas, "check_response", lambda *_: None)
    for heartbeat in (ocpp16.MESSAGES["Heartbeat"], ocpp201.MESSAGES["Heartbeat"]):
        monkeypatch.setattr(type(heartbeat), "response", lambda *_: {"currentTime": 7})
    station_id = await csms.enter_station()

    async with client_of(program, csms, station_id, version) as client:
        report = await client.hear("report")

    assert len(report["schema_errors"]) == 1
    assert report["sent"] == {"BootNotification": 1}


# -- test-ocpp --------------------------------------------------------------------------------------------------------


async def knocked(csms: CSMS, station_id: str, *options: str) -> tuple[int | None, str]:
    """Run `test-ocpp` against the TLS port; return its exit status and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "test_ocpp", csms.wss_url, station_id, "--ca", str(csms.keys.root_file), *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(DAY_S_MAX):
        printed, _ = await process.communicate()
    return process.returncode, printed.decode()


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
async def test_test_ocpp_is_served_with_the_password_of_its_station_alone(csms: CSMS, version: str) -> None:
    station_id, other = await csms.enter_station(), await csms.enter_station(password=PASSWORD[::-1])

    good = await knocked(csms, station_id, "--ocpp", version, "--password", PASSWORD)
    wrong = await knocked(csms, station_id, "--ocpp", version, "--password", PASSWORD[::-1])
    another = await knocked(csms, other, "--ocpp", version, "--username", station_id, "--password", PASSWORD)
    none = await knocked(csms, station_id, "--ocpp", version)

    assert good[0] == 0, good[1]
    assert "BootNotification status: Accepted" in good[1]
    assert "TLS: TLSv1." in good[1]
    for refused in (wrong, another, none):
        assert refused == (1, refused[1])
        assert "rejected handshake with HTTP 401" in refused[1]


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
async def test_test_ocpp_is_served_with_the_certificate_of_its_station_alone(csms: CSMS, version: str) -> None:
    station_id = await csms.enter_station(security_profile=3)
    other = await csms.enter_station(security_profile=3)
    certificate, foreign = await csms.certificate_of(station_id), csms.keys.foreign_station(station_id)

    async def shows(identity: str, files: tuple[Path, Path]) -> tuple[int | None, str]:
        return await knocked(csms, identity, "--ocpp", version, "--cert", str(files[0]), "--key", str(files[1]))

    good, another = await shows(station_id, certificate), await shows(other, certificate)
    unbelieved = await shows(station_id, foreign)

    assert good[0] == 0, good[1]
    assert "Heartbeat server time" in good[1]
    assert another[0] == 1
    assert "rejected handshake with HTTP 401" in another[1]
    assert unbelieved[0] == 1
    assert "Connected" not in unbelieved[1], unbelieved[1]
