"""`python -m charge_point_gateway`: the OCPP gateway, with settings from WATTROAM_* variables."""

from __future__ import annotations

import sys
from typing import Final

import uvloop

from charge_point_gateway.tls import TLSUnusable
from charge_point_gateway.wiring import NoStationPort, run
from emobility.runtime.settings import Settings
from emobility.runtime.telemetry import configure_logging

CANNOT_RUN: Final = 2


def main() -> None:
    """Entry point."""
    configure_logging(process="gateway")
    try:
        uvloop.run(run(Settings()))
    except (NoStationPort, TLSUnusable) as error:
        sys.stderr.write(f"wattroam: {error}\n")  # whoever started it can put it right, and needs no traceback
        sys.exit(CANNOT_RUN)


if __name__ == "__main__":
    main()
