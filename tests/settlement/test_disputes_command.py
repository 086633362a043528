"""`wattroam settlement disputes`, from the command to the rows, over HTTP."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from services.embedded.disputes_shown import show_disputes
from tests.settlement.accuser import Accuser
from tests.settlement.served import served
from tests.settlement.settling import open_settling
from tests.settlement.world import CPO


async def test_the_command_shows_what_waits_for_the_party_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    async with open_settling() as here:
        accuser = await Accuser.over(here)
        await accuser.quarrel("c2", claimed_e4=10_000)
        await accuser.demand("c1")
        await here.follow()
        async with served(here, tmp_path):

            async def run(party: str, *, as_json: bool) -> tuple[int, str]:
                status = await asyncio.to_thread(show_disputes, party=party, json=as_json, run_folder=tmp_path)
                return status, capsys.readouterr().out

            table, written, nobody = (
                await run(CPO.code, as_json=False),
                await run(CPO.code, as_json=True),
                await run("NL-NON", as_json=False),
            )

    assert table[0] == written[0] == nobody[0] == 0
    assert f"Disputes of {CPO}: 1 wait for its answer" in table[1]
    quarrelled, demanded = [line for line in table[1].splitlines() if " c1 " in line or " c2 " in line]
    assert "1.0000 EUR" in quarrelled
    assert "UTC" in quarrelled
    assert "ANSWERED" in demanded
    assert {each["kind"] for each in json.loads(written[1])} == {"PRICE", "WITHHELD"}
    assert "has no disputes" in nobody[1]
