"""Runs the benches one after another and prints their figures."""

from __future__ import annotations

import asyncio
import importlib
import json as json_module
import pkgutil
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Final

from rich.console import Console
from rich.table import Table

import bench
from bench.figure import Figure

NOT_BENCHES: Final = frozenset({"command", "figure"})


def _benches() -> dict[str, Callable[..., Awaitable[list[Figure]]]]:
    """Every module here that has FIGURES (the names it measures) and `run(short)`."""
    found: dict[str, Callable[..., Awaitable[list[Figure]]]] = {}
    for module_info in sorted(pkgutil.iter_modules(bench.__path__), key=lambda info: info.name):
        if module_info.name in NOT_BENCHES:
            continue
        module = importlib.import_module(f"bench.{module_info.name}")
        if hasattr(module, "FIGURES"):
            for name in module.FIGURES:
                found[name] = module.run
    return found


def run_bench(*, json: bool, short: bool, only: list[str]) -> int:
    """Measure and print; return 1 when a goal was missed, 2 when a name is unknown."""
    benches = _benches()
    unknown = [name for name in only if name not in benches]
    if unknown:
        print(f"no figure is called {', '.join(unknown)}; known: {', '.join(sorted(benches))}", file=sys.stderr)
        return 2
    wanted = only or list(benches)
    figures: list[Figure] = []
    for run in dict.fromkeys(benches[name] for name in wanted):
        print(f"measuring {run.__module__} …", file=sys.stderr)
        figures.extend(asyncio.run(_awaited(run, short=short)))
    if json:
        print(json_module.dumps([asdict(figure) for figure in figures], indent=1))
    else:
        Console().print(_table(figures))
    return 1 if any(figure.holds is False for figure in figures) else 0


async def _awaited(run: Callable[..., Awaitable[list[Figure]]], *, short: bool) -> list[Figure]:
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
