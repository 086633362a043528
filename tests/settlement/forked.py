"""Settlement processes in no time: forked from a server that has imported everything, killed as any other."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Mapping
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Final

from emobility.runtime.child_process import last_lines
from services.settlement.__main__ import main

_CONTEXT: Final[ForkServerContext] = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["services.settlement.__main__"])


class ForkedSettlement:
    """`python -m services.settlement`, but for the time that importing takes."""

    def __init__(self, log: Path, environment: Mapping[str, str]) -> None:
        self._log = log
        self._process = _CONTEXT.Process(target=_settle, args=(str(log), dict(environment)), daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How it ended; below zero: by which signal. None: it lives."""
        return self._process.exitcode

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self._process.kill()
        self._process.join()

    def last_lines(self) -> str:
        """Return the end of its log."""
        return last_lines(self._log)


def _settle(log: str, environment: Mapping[str, str]) -> None:
    """Be the process."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (1, 2):
        os.dup2(file, stream)
    sys.stdout = sys.stderr = os.fdopen(os.dup(file), "w", buffering=1)
    os.environ.update(environment)
    main()
