"""The commands of `docs/how-to/import-from-steve.md`, run as they stand there, print what it says they print."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from services.embedded.operator import import_file, show_timeline
from tests.operations.world import CPO, INTERNAL_TOKEN, MASTER_KEY, World, open_for_business

ROOT: Final = Path(__file__).parents[2]
DOC: Final = (ROOT / "docs" / "how-to" / "import-from-steve.md").read_text()


def blocks(language: str) -> str:
    return "".join(re.findall(rf"^```{language}\n(.*?)^```$", DOC, re.DOTALL | re.MULTILINE))


@asynccontextmanager
async def served(here: World, folder: Path) -> AsyncIterator[None]:
    """Serve the back office by HTTP, and describe it as an installation that runs."""
    app = Starlette(routes=[Mount("/operations", app=here.operations.app)])
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, lifespan="off"))
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn tells it no other way
        await asyncio.sleep(0.01)
    described = {
        "event_log": "memory",
        "internal_token": INTERNAL_TOKEN,
        "master_key": MASTER_KEY.hex(),
        "business_port": server.servers[0].sockets[0].getsockname()[1],
        "gateway_ocpp_port": 0,
        "gateway_api_port": 0,
        "settlement_port": 0,
    }
    (folder / "run").mkdir()
    (folder / "run" / "installation.json").write_text(json.dumps(described))
    try:
        yield
    finally:
        server.should_exit = True
        await serving


async def run(folder: Path, script: str) -> tuple[int, str, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WATTROAM_")}
    environment["PATH"] = f"{ROOT / '.venv' / 'bin'}:{environment['PATH']}"
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail", "-c", script),
        cwd=folder,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), timeout=60)
    return process.returncode or 0, out.decode(), err.decode()


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what a command printed, without what the services in this process logged."""
    lines = capsys.readouterr().out.splitlines()
    return "\n".join(line for line in lines if "certificates_not_watched" not in line)


async def test_the_commands_bring_stations_and_cards_out_of_steve(tmp_path: Path) -> None:
    (tmp_path / "steve.sql").write_text(blocks("sql"))
    (tmp_path / "stations.csv").write_text(blocks("csv").replace("L1", "LOC1"))
    script = blocks("bash").replace("NL-TUL", str(CPO)).replace("L1", "LOC1")
    async with open_for_business() as here, served(here, tmp_path):
        ended = await run(tmp_path, script)

        assert ended == (0, blocks("text"), "")
        assert here.gateway.credentials == [f"{CPO}/CS-10"]


async def test_the_command_ends_with_one_as_long_as_a_row_is_refused_and_says_what_it_can_not_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cards = tmp_path / "cards.csv"
    cards.write_text("uid\nGOOD\n\u00fc\n")
    wanted: dict[str, Any] = {"party": str(CPO), "what": "tokens", "query": {}, "run_folder": tmp_path / "run"}
    async with open_for_business() as here, served(here, tmp_path):
        refused = await asyncio.to_thread(import_file, file=cards, json=True, **wanted)
        told = json.loads(printed(capsys))
        missing = await asyncio.to_thread(import_file, file=tmp_path / "none.csv", json=False, **wanted)
        cards.write_text("a\n")
        no_table = await asyncio.to_thread(import_file, file=cards, json=False, **wanted)

        assert (refused, told["taken"], told["refused_count"]) == (1, 1, 1)
        assert (missing, no_table) == (2, 1)
        first, second = capsys.readouterr().err.splitlines()
        assert first.endswith("none.csv: No such file or directory")
        assert second.startswith("NotUnderstood: the first line names columns")


async def test_the_command_tells_why_a_charge_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted: dict[str, Any] = {"party": str(CPO), "station": "CS1", "since": None, "run_folder": tmp_path / "run"}
    async with open_for_business() as here, served(here, tmp_path):
        await here.authorize("04FFFFFFFF", ocpp_evse_id=1)
        await here.report(await here.started(card="04FFFFFFFF"), here.ended())

        code = await asyncio.to_thread(show_timeline, transaction="1", until=None, json=False, **wanted)
        first, *entries = printed(capsys).splitlines()
        until = "2022-03-27T12:00:00Z"
        at_station = await asyncio.to_thread(show_timeline, transaction=None, until=until, json=True, **wanted)
        told = json.loads(printed(capsys))
        unknown = await asyncio.to_thread(show_timeline, transaction="none", until=None, json=False, **wanted)

        assert (code, at_station, unknown) == (0, 0, 1)
        assert first == "QUARANTINED: no MSP told us of the token: 5,000 Wh wait in quarantine"
        assert any("AUTHORIZATION" in entry and "a driver is refused (Unknown)" in entry for entry in entries)
        assert told["outcome"] == "QUARANTINED"
        assert capsys.readouterr().err == "NotFound: station CS1 has no transaction none\n"
