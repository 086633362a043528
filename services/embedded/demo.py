"""`wattroam demo`: two days of charging through every component, then one screen, or JSON, of what came of it."""

from __future__ import annotations

import asyncio
import importlib
import json as json_module
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console

from emobility.adapters.system import SteppedClock, SystemTimer
from emobility.runtime.child_process import POLL_S, ChildProcess
from emobility.runtime.process_tree import stopping_on_signals
from emobility.runtime.supervision import ServerFailed
from services.embedded.opening import settings_of
from services.embedded.progress import Progress
from services.embedded.run_folder import SETTLEMENT_VARIABLE, Installation, discard
from services.embedded.stack import Stack, running
from simulator.planning import plan_scenario
from simulator.report import REPORT_FILE, TRUTH_FILE

if TYPE_CHECKING:
    from services.embedded.concluding import Conclusion

RUN_FOLDER: Final = Path("run/demo")
SIMULATION_FOLDER: Final = "simulation"
CONCLUDING: Final = "services.embedded.concluding"
"""Imports half of the system, so it is loaded while the simulator plays, when nobody waits for it."""
INTERRUPTED: Final = 130
"""As shells say it: 128 and the number of SIGINT."""


class DemoStopped(Exception):
    """The demo was interrupted."""


def run_demo(*, json: bool, keep: bool, event_log: str, seed: int, run_folder: Path | None) -> int:
    """Run it; return 0 when every equation holds, 1 when one does not, 130 when it was interrupted.

    Raises:
        EmobilityError: it can't run: something is missing, in use, or a server does not come up.
    """
    try:
        if event_log == "memory":
            return _in_memory(json=json, seed=seed)
        return asyncio.run(_on_servers(json=json, keep=keep, event_log=event_log, seed=seed, run_folder=run_folder))
    except (DemoStopped, KeyboardInterrupt):
        return INTERRUPTED


def _in_memory(*, json: bool, seed: int) -> int:
    from services.embedded.concluding import conclude_in_memory  # noqa: PLC0415 - see CONCLUDING

    began = time.monotonic()
    with Progress() as progress:
        conclusion = conclude_in_memory(seed, progress)
    return conclusion.tell(json=json, duration_s=round(time.monotonic() - began, 1))


async def _on_servers(*, json: bool, keep: bool, event_log: str, seed: int, run_folder: Path | None) -> int:
    began = time.monotonic()
    folder = run_folder or RUN_FOLDER
    if run_folder is None:
        # A demo begins with an empty system; whoever wants to keep one names its folder.
        discard(folder)
    installation = Installation.make(folder, event_log=event_log, settlement_on=os.environ.get(SETTLEMENT_VARIABLE))
    clock_file = installation.folder / "clock"
    SteppedClock.create(clock_file, at=plan_scenario(seed).begins_at)
    stop = asyncio.Event()
    with Progress() as progress, stopping_on_signals(stop):
        player = _Player(seed, clock_file)
        try:
            async with running(
                installation, clock_file=clock_file, seed=seed, on_change=progress.say, beside=player.start
            ) as stack:
                conclusion = await player.played(stack, progress, stop)
                progress.close()
                code = conclusion.tell(json=json, duration_s=round(time.monotonic() - began, 1))
                if keep:
                    base = stack.installation.business_url
                    Console(stderr=True).print(f"still serving: {base}/ (Ctrl-C stops everything)")
                    await stack.tree.run(stop)
        finally:
            player.end()  # also where the system it waits for did not come up
    return code


class _Player:
    """Runs the simulator as a process of its own, which waits for the system it plays on."""

    def __init__(self, seed: int, clock_file: Path) -> None:
        self._seed = seed
        self._clock_file = clock_file
        self._folder = Path()
        self._child: ChildProcess | None = None

    def start(self, installation: Installation) -> None:
        """Start it. Raises `OSError`."""
        self._folder = installation.folder / SIMULATION_FOLDER
        self._child = ChildProcess.spawn(
            "simulator",
            [sys.executable, "-m", "simulator", "--seed", str(self._seed), "--folder", str(self._folder), "scenario"],
            log=installation.folder / "logs" / "simulator.log",
            env=os.environ | installation.environment(clock_file=self._clock_file, seed=self._seed),
        )

    def end(self) -> None:
        """End it at once if it runs."""
        if self._child is not None:
            self._child.kill()

    async def played(self, stack: Stack, progress: Progress, stop: asyncio.Event) -> Conclusion:
        """Pass its progress on until it ends, then audit what was stored.

        Raises:
            DemoStopped: `stop` was set.
            ServerFailed: the simulator or the settlement does not work.
        """
        child, timer = self._child, SystemTimer()
        assert child is not None
        try:
            await asyncio.to_thread(importlib.import_module, CONCLUDING)
            while child.exit_code is None:
                if stop.is_set():
                    raise DemoStopped
                if stack.settling.done():
                    stack.settling.result()
                progress.follow(child.last_lines(1))
                await timer.sleep(POLL_S * 5)
        finally:
            self.end()
        if child.exit_code:
            raise ServerFailed("simulator", f"ended with {child.exit_code}", log_tail=child.last_lines())
        truth, simulated = (_read(self._folder / name) for name in (TRUTH_FILE, REPORT_FILE))
        from services.embedded.concluding import conclude  # noqa: PLC0415 - see CONCLUDING

        settings = settings_of(await stack.settling, clock_file=self._clock_file)
        return await conclude(settings, truth=truth, simulated=simulated)


def _read(path: Path) -> Any:
    return json_module.loads(path.read_text())
