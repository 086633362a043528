"""The settlement contracts as data: ABI and bytecode as they were built from `src/`.

Nothing here speaks to a chain; `services/settlement` does.
"""

import json
from importlib.resources import files
from typing import Any


def abi(contract: str) -> list[dict[str, Any]]:
    """Return the ABI of a contract, by its name in Solidity."""
    return list(_artefact(contract)["abi"])


def bytecode(contract: str) -> str:
    """Return a contract's creation code, `0x` and hex digits, without constructor arguments."""
    return str(_artefact(contract)["bytecode"])


def _artefact(contract: str) -> dict[str, Any]:
    artefact: dict[str, Any] = json.loads((files(__name__) / "abi" / f"{contract}.json").read_text("utf-8"))
    return artefact
