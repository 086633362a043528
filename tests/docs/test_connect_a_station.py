"""The commands of `docs/how-to/connect-a-station.md`, run as they stand there, print what it says they print."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Final

from charge_point_gateway.security import RefusalReason

ROOT: Final = Path(__file__).parents[2]
DOC: Final = (ROOT / "docs" / "how-to" / "connect-a-station.md").read_text()
SHELL_S_MAX: Final = 60
START_S_MAX: Final = 60


def blocks(language: str, document: str = DOC) -> str:
    return "".join(re.findall(rf"^```{language}\n(.*?)^```$", document, re.DOTALL | re.MULTILINE))


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def wait_until_served(folder: Path, wss_port: int, up: subprocess.Popen[bytes]) -> None:
    deadline, installation = time.monotonic() + START_S_MAX, folder / "run" / "installation.json"
    while time.monotonic() < deadline:
        assert up.poll() is None, (folder / "up.log").read_text()
        if (
            installation.exists()
            and answers(wss_port)
            and answers(json.loads(installation.read_text())["business_port"])
        ):
            return
        time.sleep(0.1)
    raise AssertionError((folder / "up.log").read_text())


def test_the_commands_take_a_cpo_from_nothing_to_a_connected_station(tmp_path: Path) -> None:
    port = free_port()
    document = DOC.replace("8886", str(port)).replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - it is taken out
    before, _, after = document.partition("## 2. Start")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WATTROAM_")}
    environment["PATH"] = f"{ROOT / '.venv' / 'bin'}:{environment['PATH']}"

    def run(script: str) -> str:
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=SHELL_S_MAX,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    assert run(blocks("bash", before)) == ""
    with (tmp_path / "up.log").open("wb") as log:
        start = blocks("sh", document).replace("wattroam up", "exec wattroam up")
        up = subprocess.Popen(["bash", "-euc", start], cwd=tmp_path, env=environment, stdout=log, stderr=log)
        try:
            wait_until_served(tmp_path, port, up)
            printed = run(blocks("bash", after))
        finally:
            up.send_signal(signal.SIGINT)
            up.wait(timeout=SHELL_S_MAX)

    assert printed == blocks("text")
    assert f"wss://127.0.0.1:{port}/ocpp/PARTY/STATION" in (tmp_path / "up.log").read_text()


def test_the_reasons_that_the_document_names_are_the_gateways() -> None:
    named = set(re.findall(r"^\| (?:\d+|no TLS) \| `(\w+)` \|", DOC, re.MULTILINE))

    assert named <= set(RefusalReason)
    assert set(RefusalReason) - named == {"no_credentials", "too_many_attempts", "draining"}
