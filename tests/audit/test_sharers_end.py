"""A process that shares an audit does not outlive the audit, even one that was killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

DEADLINE_S: Final = 60.0
AUDIT: Final = """
import multiprocessing, os, sys, time
from concurrent.futures import ProcessPoolExecutor
from services.audit.sharing import end_with_parent
if __name__ == "__main__":
    pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), initializer=end_with_parent)
    print(pool.submit(os.getpid).result(), flush=True)
    sys.stdin.read()
"""


def test_who_shares_a_killed_audit_ends(tmp_path: Path) -> None:
    script = tmp_path / "audit.py"
    script.write_text(AUDIT)
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"PYTHONPATH": str(root)}
    ) as audit:
        assert audit.stdout is not None
        sharer = Path("/proc") / audit.stdout.readline().decode().strip()
        assert sharer.exists()

        audit.send_signal(signal.SIGKILL)
        audit.wait()

    began = time.monotonic()
    while sharer.exists():
        assert time.monotonic() - began < DEADLINE_S, "it waits for ever"
        time.sleep(0.05)
