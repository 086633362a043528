"""What a session costs on chain until it is final, in gas: 10,000 sessions of 100 pairs between 20 parties.

The settlement itself does it, on a real chain (anvil): it takes the CDRs in, closes, signs for both sides, proposes and
follows to finality; all its transactions count, acceptances included. Agreements are open and cover is there, as in any
month but the first. The rival stores each session in two packed slots with a transaction of its own, as a contract
that keeps charge records does, but without any check or event, which is less than any real one takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench.figure import Figure, against_rival
from bench.settlement_pairs import agreements as hundred_pairs
from emobility.domain.agreement import RoamingAgreement
from emobility.domain.batch.hashing import keccak256
from emobility.events.cdr import CDRAccepted
from emobility.events.settlement import StatementFinal
from tests.chains import ChainWorld, an_anvil
from tests.settlement.settling import Settling, open_settling
from tests.settlement.world import a_cdr, accepted

FIGURES: Final = ("settlement.gas_per_session",)
GAS_MAX: Final = 100
SESSIONS: Final = 10_000
RIVAL_SESSIONS: Final = 20
TAKEN_AT_ONCE: Final = 500
COST_E4: Final = 15_000
FINAL_S_MAX: Final = 120.0
LOOK_S: Final = 0.1
STORES_TWO_SLOTS: Final = bytes.fromhex("6020355f35556040355f356001015500")
"""The rival's code, for calldata of a slot and two words: SSTORE(slot, first), SSTORE(slot + 1, second)."""
RETURNS_IT: Final = bytes.fromhex("6f") + STORES_TWO_SLOTS + bytes.fromhex("5f5260106010f3")
"""PUSH16 the code, MSTORE, RETURN its 16 bytes."""


async def run(*, short: bool) -> list[Figure]:
    """Settle all sessions; a short run does the same, since it takes seconds and gas depends on the shape."""
    del short
    return [await gas_per_session(FIGURES[0], _gas_until_final, gas_max=GAS_MAX)]


async def gas_per_session(name: str, until_final: Callable[[Settling], Awaitable[int]], *, gas_max: int) -> Figure:
    """Measure what all sessions take until they are final, beside the rival on the same chain."""
    with TemporaryDirectory(prefix="wattroam-bench-") as folder:
        async with an_anvil(Path(folder)) as chain, open_settling(chain=chain) as settling:
            ours = await until_final(settling)
            rival = await _gas_of_rival(chain)
    return against_rival(
        name=name,
        unit="gas/session",
        ours=[ours / SESSIONS],
        rival=[rival],
        rival_name="two packed slots and one transaction per session, nothing checked",
        value_max=gas_max,
    )


async def _gas_until_final(settling: Settling) -> int:
    agreements = hundred_pairs()
    await settling.sign(*agreements)
    await settling.market.prepare(settling.world.ports.units)
    for start in range(0, SESSIONS, TAKEN_AT_ONCE):
        numbers = range(start, start + TAKEN_AT_ONCE)
        await settling.world.take(*(_session(number, agreements[number % len(agreements)]) for number in numbers))
    await settling.world.closing.close_now()
    follower, final = settling.follower(), list[StatementFinal]()
    async with asyncio.timeout(FINAL_S_MAX):
        while len(final) < len(agreements):
            await follower.step()
            await asyncio.sleep(LOOK_S)
            final = await settling.world.told(StatementFinal)
    assert sum(each.count for each in final) == SESSIONS
    return sum(transaction.gas_used or 0 for transaction in await settling.transactions())


def _session(number: int, agreement: RoamingAgreement) -> CDRAccepted:
    return accepted(a_cdr(f"s{number}", COST_E4, cpo_id=agreement.cpo_id), agreement=agreement)


async def _gas_of_rival(chain: ChainWorld) -> float:
    """Return the mean of a few sessions' transactions; each takes the same, but for the zeros in its numbers."""
    receipt = await chain.final(await chain.sent(None, RETURNS_IT))
    assert receipt.contract_address is not None
    gas = 0
    for number in range(RIVAL_SESSIONS):
        calldata = b"".join(keccak256(bytes([number, word])) for word in range(3))
        stored = await chain.final(await chain.sent(receipt.contract_address, calldata))
        assert stored.has_succeeded
        gas += stored.gas_used
    return gas / RIVAL_SESSIONS
