"""`wattroam afir`, from the command to a CPO's report, over HTTP."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from fastapi import FastAPI

from emobility.runtime.http_server import serve_app
from services.embedded.public_completeness import show_completeness
from tests.operations.world import CPO, INTERNAL_TOKEN, MASTER_KEY, open_for_business


async def test_the_command_shows_what_of_afirs_fields_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    async with open_for_business() as here:
        outer, stop, port = FastAPI(), asyncio.Event(), asyncio.get_running_loop().create_future()
        outer.mount("/operations", here.operations.app)
        serving = asyncio.create_task(
            serve_app(outer, host="127.0.0.1", port=0, stop=stop, on_listening=port.set_result)
        )
        installation = {
            "event_log": "postgres",
            "internal_token": INTERNAL_TOKEN,
            "master_key": MASTER_KEY.hex(),
            "business_port": await port,
            "gateway_ocpp_port": 2,
            "gateway_api_port": 3,
            "database_url": None,
            "kafka_bootstrap": None,
        }
        (tmp_path / "installation.json").write_text(json.dumps(installation))

        async def run(party: str, *, as_json: bool) -> tuple[int, str]:
            status = await asyncio.to_thread(show_completeness, party=party, json=as_json, run_folder=tmp_path)
            return status, capsys.readouterr().out

        shown, written, nobody = (
            await run(CPO.code, as_json=False),
            await run(CPO.code, as_json=True),
            await run("NL-NON", as_json=True),
        )
        stop.set()
        await serving

    assert shown[0] == written[0] == 0
    assert f"AFIR, {CPO}: 1 locations, 2 EVSEs, 2 connectors" in shown[1]
    row = next(line for line in shown[1].splitlines() if "opening hours" in line)
    assert "0/1" in row
    assert "LOC1" in row
    report = json.loads(written[1])
    assert {each["field"]["name"] for each in report["fields"]} >= {"opening hours", "ad hoc price"}
    assert nobody[0] != 0
