"""`python -m services.navigation`: the navigation service alone, with settings from WATTROAM_* variables."""

from __future__ import annotations

import uvloop

from emobility.runtime.settings import Settings
from services.navigation.wiring import run


def main() -> None:
    """Entry point."""
    uvloop.run(run(Settings()))


if __name__ == "__main__":
    main()
