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
from services.embedded.run_folder import Installation, discard
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
    installation = Installation.make(folder, event_log=event_log)
    clock_file = installation.folder / "clock"
    SteppedClock.create(clock_file, at=plan_scenario(seed).begins_at)
    stop = asyncio.Event()
    with Progress() as progress, stopping_on_signals(stop):
        async with running(installation, clock_file=clock_file, seed=seed, on_change=progress.say) as stack:
            conclusion = await _play(stack, seed, progress, stop)
            progress.close()
            code = conclusion.tell(json=json, duration_s=round(time.monotonic() - began, 1))
            if keep:
                base = stack.installation.business_url
                Console(stderr=True).print(f"still serving: {base}/ (Ctrl-C stops everything)")
                await stack.tree.run(stop)
    return code


async def _play(stack: Stack, seed: int, progress: Progress, stop: asyncio.Event) -> Conclusion:
    """Run the simulator as a process of its own, pass its progress on, then audit what was stored."""
    folder = stack.installation.folder / SIMULATION_FOLDER
    log = stack.installation.folder / "logs" / "simulator.log"
    child = ChildProcess.spawn(
        "simulator",
        [sys.executable, "-m", "simulator", "--seed", str(seed), "--folder", str(folder), "scenario"],
        log=log,
        env=os.environ | stack.installation.environment(clock_file=stack.clock_file, seed=seed),
    )
    timer = SystemTimer()
    try:
        await asyncio.to_thread(importlib.import_module, CONCLUDING)
        while child.exit_code is None:
            if stop.is_set():
                raise DemoStopped
            progress.follow(child.last_lines(1))
            await timer.sleep(POLL_S * 5)
    finally:
        child.kill()
    if child.exit_code:
        raise ServerFailed("simulator", f"ended with {child.exit_code}", log_tail=child.last_lines())
    truth, simulated = (_read(folder / name) for name in (TRUTH_FILE, REPORT_FILE))
    from services.embedded.concluding import conclude  # noqa: PLC0415 - see CONCLUDING

    return await conclude(
        settings_of(stack.installation, clock_file=stack.clock_file), truth=truth, simulated=simulated
    )


def _read(path: Path) -> Any:
    return json_module.loads(path.read_text())
