"""Whole runs that tests share, each played once per test session: in memory, on PostgreSQL, on Kafka."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from emobility.wiring import open_ports
from services.audit.books import Books, gather_books
from services.embedded.deterministic import MemoryRun
from services.embedded.opening import opened

ROOT: Final = Path(__file__).parents[2]
SEED: Final = 7
"""The demo's own default."""
FULL: Final = 72
SMALL: Final = 10
"""Arrivals a day that still carry every fault of the demo."""
NEVER_NEEDED: Final = {
    "no CDR or dispute was refused for good",
    "a credit takes back its original once",
    "an ad hoc sale is paid to the cent or given back",
    "what is sold ad hoc is in no roaming statement",
    "the ad hoc ledger has each payment once, for one charge",
    "an invoice is its statement, and no number is missing",
    "a payment is what the bank moved",
}
"""Rules of the audit that find nothing to compare in a demo: no CDR is refused, none is credited once accepted, nobody
charges without a contract, and no month ends."""
ENOUGH_S: Final = 600.0
"""A run takes a minute on two idle cores; others may be at work on the machine."""


@functools.cache
def memory_runs(seed: int = SEED, arrivals_per_day: int = FULL, hash_seeds: tuple[int, ...] = (1,)) -> list[MemoryRun]:
    """Play a seed in one process per hash seed, side by side."""
    with tempfile.TemporaryDirectory(prefix="wattroam-test-") as folder:
        files = [Path(folder) / f"{hash_seed}.pickle" for hash_seed in hash_seeds]
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.journeys.memory_run", str(seed), str(arrivals_per_day), str(file)],
                cwd=ROOT,
                env=os.environ | {"PYTHONHASHSEED": str(hash_seed)},
                stdout=subprocess.DEVNULL,
            )
            for hash_seed, file in zip(hash_seeds, files, strict=True)
        ]
        codes = [process.wait(ENOUGH_S) for process in processes]
        assert codes == [0] * len(hash_seeds)
        return [pickle.loads(file.read_bytes()) for file in files]  # noqa: S301 - our own child's


def twin_runs() -> list[MemoryRun]:
    """A demo in memory in two processes that hash strings differently: a small one, in `make soak` the whole."""
    arrivals_per_day = FULL if "WATTROAM_SOAK" in os.environ else SMALL
    return [*memory_runs(SEED, arrivals_per_day), *memory_runs(SEED, arrivals_per_day, (2,))]


def full_memory_run() -> MemoryRun:
    """The demo in memory."""
    return memory_runs(SEED, FULL)[0]


@dataclass(slots=True)
class Demo:
    """`wattroam demo` as a process, its run folder and what it printed."""

    folder: Path
    process: subprocess.Popen[bytes]
    document: dict[str, Any] = field(default_factory=dict)
    books: Books = field(default_factory=Books)

    @classmethod
    def start(cls, folder: Path, *options: str) -> Self:
        """Start it; standard output and error go to files beside the run folder."""
        folder.mkdir(exist_ok=True)
        argv = [sys.executable, "-m", "services.cli", "demo", "--json", "--run-folder", str(folder), *options]
        with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
            process = subprocess.Popen(argv, cwd=ROOT, stdout=out, stderr=err, start_new_session=True)
        return cls(folder=folder, process=process)

    @property
    def stderr(self) -> str:
        """What it told people."""
        return (self.folder / "stderr").read_text(errors="replace")

    @property
    def installation(self) -> dict[str, Any]:
        """What its processes share."""
        stored: dict[str, Any] = json.loads((self.folder / "installation.json").read_text())
        return stored

    @property
    def business_url(self) -> str:
        """Where hub and back offices answer."""
        return f"http://127.0.0.1:{self.installation['business_port']}"

    @property
    def truth_file(self) -> Path:
        """What the stations know."""
        return self.folder / "simulation" / "truth.json"

    def wait_for_document(self) -> None:
        """Return once it has printed its figures, whether or not it goes on serving."""
        deadline_s = time.monotonic() + ENOUGH_S
        while not self._has_printed():
            code = self.process.poll()
            assert code is None or self._has_printed(), f"ended with {code}: {self.stderr[-2000:]}"
            assert time.monotonic() < deadline_s, self.stderr[-2000:]
            time.sleep(0.2)

    def read_books(self) -> None:
        """Gather what it stored, from its servers where they run, else from servers started on its folder."""

        async def gather() -> Books:
            async with opened(self.folder) as settings, open_ports(settings) as ports:
                return await gather_books(ports.units, ports.event_log)

        self.books = asyncio.run(gather())

    def _has_printed(self) -> bool:
        try:
            self.document = json.loads((self.folder / "stdout").read_text())
        except ValueError:
            return False
        return True


def played(folder: Path, *options: str) -> Iterator[Demo]:
    """Yield a demo that has printed its figures; end it afterwards, where it goes on serving, as Ctrl-C does."""
    demo = Demo.start(folder, *options)
    try:
        demo.wait_for_document()
        if "--keep" not in options:
            demo.process.wait(ENOUGH_S)
        demo.read_books()
        yield demo
    finally:
        if demo.process.poll() is None:
            demo.process.send_signal(signal.SIGINT)
            demo.process.wait(ENOUGH_S)


def processes_of(folder: Path) -> list[str]:
    """Return the processes that have to do with a run folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            environment = (process / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if int(process.name) != os.getpid() and (str(folder) in command or f"RUN_FOLDER={folder}" in environment):
            found.append(f"{process.name} {command}")
    return found
