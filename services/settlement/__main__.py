"""`python -m services.settlement`: the settlement alone, with settings from WATTROAM_* variables."""

from __future__ import annotations

import sys

import uvloop

from emobility.domain.errors import EmobilityError
from emobility.runtime.settings import Settings
from emobility.runtime.telemetry import configure_logging
from services.settlement.wiring import run


def main() -> None:
    """Entry point."""
    configure_logging(process="settlement")
    uvloop.run(run(Settings()))


if __name__ == "__main__":
    try:
        main()
    except EmobilityError as error:  # `wattroam settlement` has words of its own
        sys.exit(f"settlement: {error}")
