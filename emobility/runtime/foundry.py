"""Where Foundry's programs are (anvil, forge, cast). npm carries them as native binaries; nothing is run by Node."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from emobility.runtime.supervision import ComponentMissing

_CHECKOUT: Final = Path(__file__).parents[2]
_ARCHITECTURES: Final = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def find_foundry(program: str) -> Path:
    """Return a program of Foundry: that which `make foundry` installed, else on PATH. Raises `ComponentMissing`."""
    for found in _candidates(program):
        if found.is_file():
            return found
    raise ComponentMissing(f"{program} is missing: run `make foundry`, which installs npm's @foundry-rs/{program}")


def _candidates(program: str) -> Iterator[Path]:
    machine = platform.machine().lower()
    package = f"{program}-{platform.system().lower()}-{_ARCHITECTURES.get(machine, machine)}"
    for folder in (_CHECKOUT / "settlement_contracts", _CHECKOUT / "build" / "chain"):
        yield folder / "node_modules" / "@foundry-rs" / package / "bin" / program
    on_path = shutil.which(program)
    if on_path is not None:
        yield Path(on_path)
