"""Runs the benches one after another and prints their figures."""

from __future__ import annotations

import importlib
import json as json_module
import os
import pkgutil
import platform
import sys
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Final

import uvloop
from rich.console import Console
from rich.table import Table

import bench
from bench.figure import Figure
from emobility.runtime.supervision import ComponentMissing

LINE_CHARACTERS: Final = 160
"""Where the table goes into a file or pipe, which has no width."""
COMPONENTS: Final = ("ocpp", "websockets", "uvloop", "msgspec", "jsonschema-rs", "psycopg")
"""Packages whose versions are said beside the figures."""
Run = Callable[..., Awaitable[list[Figure]]]
"""`run(short)` of a bench; may raise `ComponentMissing`."""


def known_benches() -> dict[str, Run]:
    """Return each figure's bench: every module here that has FIGURES, the names it measures."""
    found: dict[str, Run] = {}
    for module_info in sorted(pkgutil.iter_modules(bench.__path__), key=lambda info: info.name):
        module = importlib.import_module(f"bench.{module_info.name}")
        for name in getattr(module, "FIGURES", ()):
            found[name] = module.run
    return found


def run_bench(*, json: bool, short: bool, only: Sequence[str]) -> int:
    """Measure and print.

    Args:
        json: Print the figures for machines.
        short: Take seconds instead of minutes.
        only: Names of figures, or how they begin; all when empty.

    Returns:
        0; or 1 when a goal was missed or a figure left out, because a component is missing or its bench failed; or 2
        when nothing is called as `only` says.
    """
    benches = known_benches()
    unknown = [prefix for prefix in only if not any(name.startswith(prefix) for name in benches)]
    if unknown:
        print(f"no figure begins with {', '.join(unknown)}; known: {', '.join(sorted(benches))}", file=sys.stderr)
        return 2
    wanted = [name for name in benches if not only or name.startswith(tuple(only))]
    figures: list[Figure] = []
    for run in dict.fromkeys(benches[name] for name in wanted):
        names = [name for name in wanted if benches[name] is run]
        print(f"measuring {', '.join(names)} …", file=sys.stderr)
        try:
            measured = uvloop.run(_awaited(run, short=short))  # as all our processes do
        except ComponentMissing as missing:
            print(f"left out {', '.join(names)}: {missing}", file=sys.stderr)
            continue
        except Exception:  # noqa: BLE001 - it costs its own figures, not those of the benches before and after it
            print(f"failed: {', '.join(names)}\n{traceback.format_exc()}", file=sys.stderr)
            continue
        figures.extend(figure for figure in measured if figure.name in names)
    if json:
        print(json_module.dumps([asdict(figure) for figure in figures], indent=1))
        print(measured_on(), file=sys.stderr)
    else:
        console = Console() if sys.stdout.isatty() else Console(width=LINE_CHARACTERS)
        console.print(_table(figures))
        console.print(measured_on(), highlight=False)
        for figure in figures:
            if figure.rival_name is not None:
                console.print(f"{figure.name} beside: {figure.rival_name}", highlight=False)
    return 1 if len(figures) < len(wanted) or any(figure.holds is False for figure in figures) else 0


def measured_on() -> str:
    """Say on which machine, by which versions: a figure means nothing without."""
    cores = os.cpu_count()
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(f"{name} {version(name)}" for name in COMPONENTS)
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return f"On {cores} cores, {memory_gb:.0f} GiB, {system}; Python {platform.python_version()}, {versions}"


async def _awaited(run: Run, *, short: bool) -> list[Figure]:
    return await run(short=short)


def _table(figures: list[Figure]) -> Table:
    table = Table(title="Measured on this machine, in this run")
    for heading in ("figure", "value", "unit", "rival", "ratio", "goal", "holds"):
        table.add_column(heading, justify="left" if heading in {"figure", "unit", "goal"} else "right")
    for figure in figures:
        table.add_row(
            figure.name,
            f"{figure.value:,.6g}",
            figure.unit,
            "" if figure.rival is None else f"{figure.rival:,.6g}",
            "" if figure.ratio is None else f"{figure.ratio:.3g}x",
            figure.goal or "",
            {True: "yes", False: "NO", None: ""}[figure.holds],
        )
    return table
