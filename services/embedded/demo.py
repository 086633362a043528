"""`wattroam demo`: two days of charging through every component, then one screen, or JSON, of what came of it."""

from __future__ import annotations

import asyncio
import json as json_module
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from emobility.adapters.system import SteppedClock, SystemTimer
from emobility.runtime.child_process import POLL_S, ChildProcess
from emobility.runtime.process_tree import stopping_on_signals
from emobility.runtime.supervision import ServerFailed
from emobility.runtime.telemetry import configure_logging
from emobility.wiring import open_ports
from services.audit.audit import audit
from services.audit.books import Books, gather_books
from services.audit.figures import figures_of
from services.audit.report import AuditReport
from services.embedded.deterministic import run_in_memory
from services.embedded.opening import settings_of
from services.embedded.progress import Progress
from services.embedded.run_folder import Installation, discard
from services.embedded.screen import show
from services.embedded.stack import Stack, running
from simulator.planning import plan_scenario
from simulator.wiring import REPORT_FILE, TRUTH_FILE

RUN_FOLDER: Final = Path("run/demo")
SIMULATION_FOLDER: Final = "simulation"
AUDIT_DIFFERS: Final = 1
INTERRUPTED: Final = 130
"""As shells say it: 128 and the number of SIGINT."""


class DemoStopped(Exception):
    """The demo was interrupted."""


def run_demo(*, json: bool, keep: bool, event_log: str, seed: int, run_folder: Path | None) -> int:
    """Run it; return 0 when every equation holds, 1 when one does not, 130 when it was interrupted.

    Raises:
        EmobilityError: it can't run: something is missing, in use, or a server does not come up.
    """
    console = Console(stderr=json)
    try:
        if event_log == "memory":
            return _in_memory(json=json, seed=seed, console=console)
        return asyncio.run(_on_servers(json=json, keep=keep, event_log=event_log, seed=seed, run_folder=run_folder))
    except (DemoStopped, KeyboardInterrupt):
        return INTERRUPTED


def _in_memory(*, json: bool, seed: int, console: Console) -> int:
    began = time.monotonic()
    configure_logging(process="demo", level=logging.ERROR)
    with Progress() as progress:
        run = run_in_memory(seed, progress=progress.tell)
    report = audit(run.books, run.report.truth.as_json())
    return _conclude(run.books, report, run.report.figures(), began, json=json, console=console, event_log="memory")


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
            await _simulate(stack, seed, progress, stop)
            books, report, simulated = await _audit(stack)
            progress.close()
            console = Console()
            code = _conclude(books, report, simulated, began, json=json, console=console, event_log=event_log)
            if keep:
                base = stack.installation.business_url
                Console(stderr=True).print(f"still serving: {base}/ (Ctrl-C stops everything)")
                await stack.tree.run(stop)
    return code


async def _simulate(stack: Stack, seed: int, progress: Progress, stop: asyncio.Event) -> None:
    """Run the simulator as a process of its own and pass its progress on."""
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
        while child.exit_code is None:
            if stop.is_set():
                raise DemoStopped
            progress.follow(child.last_lines(1))
            await timer.sleep(POLL_S * 5)
    finally:
        child.kill()
    if child.exit_code:
        raise ServerFailed("simulator", f"ended with {child.exit_code}", log_tail=child.last_lines())


async def _audit(stack: Stack) -> tuple[Books, AuditReport, dict[str, Any]]:
    folder = stack.installation.folder / SIMULATION_FOLDER
    truth, simulated = (json_module.loads((folder / name).read_text()) for name in (TRUTH_FILE, REPORT_FILE))
    async with open_ports(settings_of(stack.installation, clock_file=stack.clock_file)) as ports:
        books = await gather_books(ports.units, ports.event_log)
    return books, audit(books, truth), simulated


def _conclude(
    books: Books,
    report: AuditReport,
    simulated: dict[str, Any],
    began: float,
    *,
    json: bool,
    console: Console,
    event_log: str,
) -> int:
    figures, duration_s = figures_of(books), round(time.monotonic() - began, 1)
    if json:
        document = figures.as_json() | {
            "event_log": event_log,
            "audit": report.as_json(),
            "simulation": simulated,
            "duration_s": duration_s,
        }
        sys.stdout.write(json_module.dumps(document, indent=1) + "\n")
    else:
        show(console, figures, report, simulated, duration_s)
    return 0 if report.is_clean else AUDIT_DIFFERS
