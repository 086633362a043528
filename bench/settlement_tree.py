"""How long both trees over a million CDRs take on one core: the evidence tree for drivers, the sum tree for the pair.

Four million Keccak hashes are most of it. The leaves come by ascending key, as the worker's table gives them. There is
no rival: OpenZeppelin's JavaScript tree takes 6 s for 10,000 leaves and knows no sums. Processor time is measured, as
other work on the machine must not decide whether the goal is met; the best of the rounds counts.
"""

from __future__ import annotations

from random import Random
from time import process_time
from typing import Final

from bench.figure import Figure, against_goal
from emobility.domain.batch.leaf import Leaf, LeafKind
from emobility.domain.batch.trees import StatementTrees

FIGURES: Final = ("settlement.tree",)
LEAVES: Final = 1_000_000
LEAVES_SHORT: Final = 100_000
ROUNDS: Final = 3
GOAL_S: Final = 4.0


async def run(*, short: bool) -> list[Figure]:
    """Build both trees a few times; a short run builds a tenth and states ten times its best."""
    count = LEAVES_SHORT if short else LEAVES
    leaves = load(count)
    seconds = min(_seconds(leaves) for _ in range(ROUNDS))
    return [
        against_goal(
            name=FIGURES[0], value=seconds * LEAVES / count, unit="s for 1,000,000 leaves, both trees", at_most=GOAL_S
        )
    ]


def load(count: int) -> list[Leaf]:
    """Charges of up to 50 kWh and 100.00, one in a hundred credited, by ascending key."""
    draw = Random(2026)
    return [_leaf(draw, key) for key in sorted(draw.randbytes(32) for _ in range(count))]


def _leaf(draw: Random, key: bytes) -> Leaf:
    amount_e4 = draw.randrange(1_000_000)
    is_credit = draw.randrange(100) == 0
    return Leaf(
        kind=LeafKind.CREDIT if is_credit else LeafKind.CHARGE,
        cdr_key=key,
        import_wh=draw.randrange(50_000),
        export_wh=0,
        commitment=draw.randbytes(32),
        meter=draw.randbytes(32),
        due_e4=0 if is_credit else amount_e4,
        credit_e4=amount_e4 if is_credit else 0,
    )


def _seconds(leaves: list[Leaf]) -> float:
    started = process_time()
    StatementTrees(leaves)
    return process_time() - started
