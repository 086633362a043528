"""What it costs on chain to contest one session of 10,000, in gas: whole transactions, verdict and correction included.

As forge measures them (`settlement_contracts/test/disputes/DisputeGas.t.sol`): a statement of 10,000 CDRs in a batch of
100 pairs, on a chain with the P-256 precompile, into a pair that was never corrected before. `make contracts` holds the
snapshot against the contracts.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from bench.figure import Figure, against_goal

SNAPSHOT: Final = Path(__file__).parents[1] / "settlement_contracts" / "snapshots" / "Disputes.json"
GAS_MAX: Final = 120_000
KINDS: Final = {
    "settlement.dispute_gas": "contestSignature",
    "settlement.dispute_gas.duplicate": "contestDuplicate",
    "settlement.dispute_gas.energy": "contestEnergy",
    "settlement.dispute_gas.credit": "contestCredit",
}
FIGURES: Final = tuple(KINDS)


async def run(*, short: bool) -> list[Figure]:
    """Read what forge measured; a short run does the same."""
    del short
    gas = json.loads(SNAPSHOT.read_text())
    return [
        against_goal(name=name, value=float(gas[call]), unit="gas/dispute", at_most=GAS_MAX)
        for name, call in KINDS.items()
    ]
