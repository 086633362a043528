"""`wattroam settlement statements`, from the command to the rows, over HTTP."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from services.embedded.bank_desk import list_entries, list_invoices
from services.embedded.statements_shown import show_statements
from tests.settlement.challenger import Challenger
from tests.settlement.served import served
from tests.settlement.settling import open_settling
from tests.settlement.world import CPO, a_cdr


async def test_the_command_shows_what_a_statement_comes_to_and_how_far_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    async with open_settling() as here:
        pair = await Challenger.of(here)
        await pair.state(a_cdr("c1"), a_cdr("c2", 20_000), unsigned=["c2"])
        async with served(here, tmp_path):

            async def run(party: str, *, as_json: bool) -> tuple[int, str]:
                status = await asyncio.to_thread(show_statements, party=party, json=as_json, run_folder=tmp_path)
                return status, capsys.readouterr().out

            table, written, nobody = (
                await run(CPO.code, as_json=False),
                await run(CPO.code, as_json=True),
                await run("NL-NON", as_json=False),
            )

    assert table[0] == written[0] == nobody[0] == 0
    (stated,) = json.loads(written[1])
    assert [each for each in (stated["statement"], stated["state"], "3.5000 EUR") if each not in table[1]] == []
    assert nobody[1] == "NL-NON has no statement here\n"


async def test_empty_lists_say_that_there_is_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with open_settling() as here, served(here, tmp_path):
        await asyncio.to_thread(list_entries, party=CPO.code, everything=False, json=False, run_folder=tmp_path)
        await asyncio.to_thread(list_invoices, party=CPO.code, drivers=False, json=False, run_folder=tmp_path)

    assert capsys.readouterr().out.splitlines() == [
        f"{CPO} has no entries that wait for somebody",
        f"{CPO} has no documents between companies",
    ]
