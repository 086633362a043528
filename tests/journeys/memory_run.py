"""Plays a seed in memory and leaves the run pickled: `python -m tests.journeys.memory_run SEED ARRIVALS FILE`."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

from services.embedded.deterministic import run_in_memory
from simulator.planning import plan_scenario


def main(seed: int, arrivals_per_day: int, file: Path) -> None:
    run = run_in_memory(seed, scenario=plan_scenario(seed, arrivals_per_day=arrivals_per_day))
    file.write_bytes(pickle.dumps(run))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
