"""The commands of `docs/how-to/join-as-a-party.md`, run as they stand there, print what it says they print."""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path
from typing import Final

import pytest

from tests.hub.checked import serving_hub
from tests.hub.world import INTERNAL_TOKEN

ROOT: Final = Path(__file__).parents[2]
DOC: Final = (ROOT / "docs" / "how-to" / "join-as-a-party.md").read_text()
SHELL_S_MAX: Final = 90


def blocks(language: str, document: str) -> str:
    return "".join(re.findall(rf"^```{language}\n(.*?)^```$", document, re.DOTALL | re.MULTILINE))


async def test_the_commands_take_an_msp_from_a_token_to_its_first_roamed_session(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with serving_hub(monkeypatch) as hub:
        # `wattroam up`, the one command in a terminal of its own, serves this hub; here it is served by the test.
        document = DOC.replace("9101", str(hub.ports[0])).replace("9102", str(hub.ports[1]))
        stored = {"business_port": int(hub.origin.rsplit(":", 1)[1]), "internal_token": INTERNAL_TOKEN}
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "installation.json").write_text(json.dumps(stored))
        environment = {**os.environ, "PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}"}
        shell = await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", blocks("bash", document)),
            cwd=tmp_path,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        printed, complaints = await asyncio.wait_for(shell.communicate(), SHELL_S_MAX)

    assert printed.decode() == blocks("text", document)
    assert (shell.returncode, complaints.decode()) == (0, "")
