"""`python -m charge_point_gateway`: the OCPP gateway, with settings from WATTROAM_* variables."""

from __future__ import annotations

import uvloop

from charge_point_gateway.wiring import run
from emobility.runtime.settings import Settings
from emobility.runtime.telemetry import configure_logging


def main() -> None:
    """Entry point."""
    configure_logging(process="gateway")
    uvloop.run(run(Settings()))


if __name__ == "__main__":
    main()
