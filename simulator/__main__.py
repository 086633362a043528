"""`wattroam simulate`: play a scenario on a running system, or put load on it. WATTROAM_* variables say where it is.

With --adversary, a station that does wrong on purpose plays against the CSMS at --url, whoever made it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from emobility.adapters.system import SystemClock
from emobility.domain.errors import EmobilityError
from emobility.runtime.settings import Settings
from simulator.adversaries.running import as_json, as_table, play_all
from simulator.adversaries.running import chosen as chosen_adversaries
from simulator.dialing import WebSocketDialer
from simulator.wiring import load_figures, run_load, run_scenario


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    if (chosen.kind is None) is (chosen.adversary is None):
        parser.error("name a kind of simulation, or an --adversary")
    try:
        if chosen.adversary is not None:
            return _play_adversaries(chosen)
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
    hostile = parser.add_argument_group("adversaries")
    hostile.add_argument("--adversary", metavar="NAME|all", help="play this defect of a station, or all")
    hostile.add_argument("--url", default="ws://127.0.0.1:9220/ocpp/NL-TUL/TUL-001", help="of the station at the CSMS")
    hostile.add_argument("--station", default="", help="user name of basic authentication; default: end of --url")
    hostile.add_argument("--password", default="", help="of basic authentication")
    hostile.add_argument("--token", default="04A1B2C3D4E5F6", help="a card that may charge")
    hostile.add_argument("--json", action="store_true", help="print JSON instead of a table")
    kinds = parser.add_subparsers(dest="kind", required=False)
    kinds.add_parser("scenario", help="two days of charging on a stepped clock (WATTROAM_CLOCK_FILE)")
    load = kinds.add_parser("load", help="stations that charge over and over in real time")
    load.add_argument("--stations", type=int, default=20)
    load.add_argument("--duration", type=float, default=30.0, help="seconds")
    load.add_argument("--sample-every", type=float, default=0.2, help="seconds between meter values; 0: no pause")
    load.add_argument("--samples", type=int, default=5, help="meter values per charge")
    load.add_argument("--messages-max", type=int, default=None, help="stop after so many acknowledged messages")
    load.add_argument("--no-setup", action="store_true", help="the stations are entered already")
    return parser


def _play_adversaries(chosen: argparse.Namespace) -> int:
    """Play, print, and return 1 where a CSMS did otherwise than expected."""
    outcomes = asyncio.run(
        play_all(
            chosen_adversaries(chosen.adversary),
            dialer=WebSocketDialer(),
            url=chosen.url,
            username=chosen.station or chosen.url.rpartition("/")[2],
            password=chosen.password,
            token=chosen.token,
            now=SystemClock().now,
        )
    )
    sys.stdout.write(json.dumps(as_json(outcomes), indent=1) + "\n" if chosen.json else as_table(outcomes))
    return 0 if all(each.was_expected for each in outcomes) else 1


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
