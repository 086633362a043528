"""`wattroam prune`: drops what the log need not hold any more, and says beforehand what that is."""

from __future__ import annotations

import asyncio
import json as json_module
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from emobility.ports.event_log import Bounds
from emobility.wiring import open_ports
from services.embedded.opening import opened


def prune_log(*, json: bool, yes: bool, run_folder: Path) -> int:
    """Print what every group has passed and whose age is over; with `yes` drop it.

    Raises:
        NothingHere, DatabaseNotNamed, DatabaseUnavailable: there is no log to look at.
    """
    old, dropped = asyncio.run(_prune(run_folder, is_meant=yes))
    if json:
        Console(soft_wrap=True).print_json(json_module.dumps(_as_json(old, dropped)))
    else:
        _print(old, dropped)
    return 0


async def _prune(run_folder: Path, *, is_meant: bool) -> tuple[Mapping[tuple[str, int], Bounds], int | None]:
    """Return what is prunable and how many events went; None: nobody said yes."""
    async with opened(run_folder) as settings, open_ports(settings) as ports:
        old = await ports.event_log.prunable()
        return old, await ports.event_log.prune() if is_meant else None


def _as_json(old: Mapping[tuple[str, int], Bounds], dropped: int | None) -> dict[str, object]:
    return {
        "prunable": [
            {"topic": topic, "partition": partition, "first": bounds.first, "end": bounds.end, "events": bounds.events}
            for (topic, partition), bounds in old.items()
        ],
        "prunable_events": sum(bounds.events for bounds in old.values()),
        "dropped_events": dropped,
    }


def _print(old: Mapping[tuple[str, int], Bounds], dropped: int | None) -> None:
    console = Console(soft_wrap=True)
    for (topic, partition), bounds in old.items():
        console.print(f"{topic}/{partition}: offsets {bounds.first:,} to {bounds.end - 1:,}", markup=False)
    if dropped is not None:
        console.print(f"{dropped:,} events dropped; an audit can't recompute from them any more")
    elif old:
        events = sum(bounds.events for bounds in old.values())
        console.print(f"{events:,} events may go and nothing was dropped; `--yes` drops them, for good")
    else:
        console.print("nothing may go: events are young, or not every group has passed them")
