"""`wattroam settlement missing-batches` and `not-in-batch`, from the command to the rows, over HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.embedded.missing_batches_shown import give_word, show_missing_batches
from tests.settlement.hidden import PAIRS, Hidden
from tests.settlement.served import served
from tests.settlement.settling import open_settling
from tests.settlement.test_restored import backed_up
from tests.settlement.test_restored_confidential import start_again


async def test_the_command_shows_what_is_missing_and_takes_a_word_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    async with open_settling() as here:
        hidden = Hidden(here)
        await hidden.open()
        restore = backed_up(here)
        await hidden.charge()
        await hidden.follow()
        async with served(here, tmp_path):

            async def run(command: Callable[..., int], **options: Any) -> tuple[int, str]:
                capsys.readouterr()  # what was logged before
                status = await asyncio.to_thread(command, run_folder=tmp_path, **options)
                return status, capsys.readouterr().out

            nothing = await run(show_missing_batches, json=False)
            restore()
            await start_again(hidden)
            table, written = await run(show_missing_batches, json=False), await run(show_missing_batches, json=True)
            (shown,) = json.loads(written[1])
            empty = await run(give_word, batch=shown["batch"], why=" ")
            unknown = await run(give_word, batch="00" * 32, why="looked")
            given = await run(give_word, batch=shown["batch"], why="looked")
            again = await run(give_word, batch=shown["batch"], why="looked once more")
            after = await run(show_missing_batches, json=False)
            kept = await run(show_missing_batches, json=True)

    assert nothing == (0, "every confidential batch of the chain is here\n")
    assert (table[0], len(shown["pairs"]), shown["word"]) == (0, len(PAIRS), None)
    assert all(each in table[1] for each in (shown["batch"], "wait for a word", *shown["pairs"]))
    assert empty[0] == unknown[0] == 1
    assert given[0] == again[0] == 0
    assert json.loads(kept[1])[0]["word"]["why"] == "looked"
    assert ": looked" in after[1]
    assert "wait for a word" not in after[1]
