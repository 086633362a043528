"""What a session costs on chain in confidential mode, in gas: 10,000 sessions of 100 pairs between 20 parties.

As `settlement_gas` has it, and against the same rival: the settlement itself does it on a real chain; all its
transactions count, with every party's signature. It is nobody's first batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from bench.figure import Figure
from bench.settlement_gas import COST_E4, FINAL_S_MAX, SESSIONS, TAKEN_AT_ONCE, gas_per_session
from bench.settlement_pairs import agreements as hundred_pairs
from emobility.domain.agreement import RoamingAgreement, SettlementMode
from emobility.events.settlement import StatementFinal
from services.settlement.service import Follower
from tests.settlement.settling import Settling
from tests.settlement.world import a_cdr, accepted

FIGURES: Final = ("settlement.gas_per_session.confidential",)
GAS_MAX: Final = 60


async def run(*, short: bool) -> list[Figure]:
    """Settle all sessions; a short run does the same, since it takes seconds and gas depends on the shape."""
    del short
    return [await gas_per_session(FIGURES[0], _gas_until_final, gas_max=GAS_MAX)]


async def _gas_until_final(settling: Settling) -> int:
    agreements = [replace(each, settlement_mode=SettlementMode.CONFIDENTIAL) for each in hundred_pairs()]
    await settling.sign(*agreements)
    follower = settling.follower(opens=True)
    await _settle(settling, follower, agreements, first=0, sessions=len(agreements))
    before = sum(transaction.gas_used or 0 for transaction in await settling.transactions())
    await _settle(settling, follower, agreements, first=len(agreements), sessions=SESSIONS)
    return sum(transaction.gas_used or 0 for transaction in await settling.transactions()) - before


async def _settle(
    settling: Settling, follower: Follower, agreements: Sequence[RoamingAgreement], *, first: int, sessions: int
) -> None:
    """Take CDRs in, close and follow until every pair's statement is final."""
    await _follow(settling, follower, until=len(await settling.world.told(StatementFinal)))
    for start in range(first, first + sessions, TAKEN_AT_ONCE):
        pairs = [(number, agreements[number % len(agreements)]) for number in range(start, start + TAKEN_AT_ONCE)]
        taken = [
            accepted(a_cdr(f"s{number}", COST_E4, cpo_id=under.cpo_id), agreement=under)
            for number, under in pairs[: first + sessions - start]
        ]
        await settling.world.take(*taken)
    await settling.world.closing.close_now()
    until = len(await settling.world.told(StatementFinal)) + len(agreements)
    await _follow(settling, follower, until=until)


async def _follow(settling: Settling, follower: Follower, *, until: int) -> None:
    async with asyncio.timeout(FINAL_S_MAX):
        while await follower.step() or len(await settling.world.told(StatementFinal)) < until:  # noqa: ASYNC110
            await asyncio.sleep(0)
