"""`wattroam settlement taken-out`, from the command to the rows, over HTTP."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from services.embedded.taken_out_shown import show_taken_out
from tests.settlement.challenger import Challenger
from tests.settlement.served import served
from tests.settlement.settling import open_settling
from tests.settlement.world import CPO, a_cdr


async def test_the_command_shows_what_waits_for_whose_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    async with open_settling() as here:
        pair = await Challenger.of(here)
        await pair.state(a_cdr("c1"), a_cdr("c2", 20_000), unsigned=["c2"])
        await pair.prove("c2", await pair.challenge())
        await pair.follow()
        await pair.rule(await pair.challenge())
        await pair.follow()
        async with served(here, tmp_path):

            async def run(party: str, *, as_json: bool) -> tuple[int, str]:
                status = await asyncio.to_thread(show_taken_out, party=party, json=as_json, run_folder=tmp_path)
                return status, capsys.readouterr().out

            table, written, nobody = (
                await run(CPO.code, as_json=False),
                await run(CPO.code, as_json=True),
                await run("NL-NON", as_json=False),
            )

    assert table[0] == written[0] == nobody[0] == 0
    statement, cdr = [line for line in table[1].splitlines() if "statement 1" in line or "CDR c2" in line]
    assert "its CPO's word" in statement
    assert "METER_SIGNATURE" in cdr
    assert "2.0000 EUR" in cdr
    assert f"a credit, or the word of {CPO}" in cdr
    shown = json.loads(written[1])
    assert (len(shown["statements"]), [each["cdr"] for each in shown["cdrs"]]) == (1, ["c2"])
    assert "no verdict took anything out" in nobody[1]
