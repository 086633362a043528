"""`wattroam simulate`: play a scenario on a running system, or put load on it. WATTROAM_* variables say where it is."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from emobility.domain.errors import EmobilityError
from emobility.runtime.settings import Settings
from simulator.wiring import load_figures, run_load, run_scenario


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    chosen = _parser().parse_args(arguments)
    try:
        figures = asyncio.run(_run(chosen))
    except EmobilityError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="wattroam simulate", description=__doc__)
    parser.add_argument("--seed", type=int, default=7, help="decides everything that is drawn")
    parser.add_argument("--folder", type=Path, default=None, help="where truth and acknowledged messages are written")
    kinds = parser.add_subparsers(dest="kind", required=True)
    kinds.add_parser("scenario", help="two days of charging on a stepped clock (WATTROAM_CLOCK_FILE)")
    load = kinds.add_parser("load", help="stations that charge over and over in real time")
    load.add_argument("--stations", type=int, default=20)
    load.add_argument("--duration", type=float, default=30.0, help="seconds")
    load.add_argument("--sample-every", type=float, default=0.2, help="seconds between meter values; 0: no pause")
    load.add_argument("--samples", type=int, default=5, help="meter values per charge")
    load.add_argument("--messages-max", type=int, default=None, help="stop after so many acknowledged messages")
    load.add_argument("--no-setup", action="store_true", help="the stations are entered already")
    return parser


async def _run(chosen: argparse.Namespace) -> dict[str, object]:
    settings = Settings()
    if chosen.folder is not None:
        chosen.folder.mkdir(parents=True, exist_ok=True)
    if chosen.kind == "scenario":
        report = await run_scenario(settings, seed=chosen.seed, folder=chosen.folder, progress=_tell)
        return report.figures()
    load = await run_load(
        settings,
        seed=chosen.seed,
        stations=chosen.stations,
        duration_s=chosen.duration,
        sample_every_s=chosen.sample_every,
        samples_per_charge=chosen.samples,
        messages_max=chosen.messages_max,
        sets_up=not chosen.no_setup,
        folder=chosen.folder,
        progress=lambda sentence: _tell(sentence, 0),
    )
    return load_figures(load)


def _tell(sentence: str, permille: int) -> None:
    sys.stderr.write(f"{permille / 10:5.1f} %  {sentence}\n")


if __name__ == "__main__":
    sys.exit(main())
