"""The settlement as a process on a real database and a real chain, killed where it hurts."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import httpx
import pytest

from emobility.adapters.ethereum import open_ethereum
from emobility.adapters.system import SystemClock, SystemRandomness, SystemTimer
from emobility.domain.batch import contracts
from emobility.events.event import Envelope, Event
from emobility.events.settlement import StatementFinal
from emobility.runtime.embedded_chain import EmbeddedChain
from services.audit.audit import audited
from services.audit.report import AuditReport
from services.settlement.crash_points import CrashPoint
from services.settlement.opening import PLAY_MONEY_E4
from services.settlement.records import (
    DEPLOYMENT,
    OPENING,
    PARTY,
    STATEMENT,
    TRANSACTION,
    StatementRecord,
    StatementState,
    TransactionRecord,
    TransactionState,
)
from tests.settlement.forked import ForkedSettlement
from tests.settlement.world import CPO, MASTER_KEY, MSP, T0, World, a_cdr, a_credit, accepted, open_world, signed, terms

DEADLINE_S: Final = 120.0
ROUNDS: Final = 100 if "WATTROAM_SOAK" in os.environ else 3
"""How often a process is killed at each point."""
LEASE_S: Final = 0.1
"""How long the next process waits for the one that was killed."""
POLL_S: Final = 0.05
INTERNAL: Final = "i" * 40
NOW: Final = SystemClock().now


@dataclass
class Installed:
    """A database, an anvil, and the settlement as a process beside them."""

    world: World
    chain: EmbeddedChain
    dsn: str
    folder: Path
    port: int
    children: list[ForkedSettlement]

    def start(self, *, dies_at: CrashPoint | None = None, **more: str) -> ForkedSettlement:
        variables = {
            "ENVIRONMENT": "development",
            "DATABASE_URL": self.dsn,
            "INTERNAL_TOKEN": INTERNAL,
            "MASTER_KEY": MASTER_KEY.hex(),
            "CHAIN_RPC_URL": self.chain.rpc_url,
            "CHAIN_MNEMONIC": self.chain.mnemonic,
            "SETTLEMENT_PORT": str(self.port),
            "SETTLEMENT_LEASE_S": str(LEASE_S),
        } | ({} if dies_at is None else {"SETTLEMENT_CRASH_POINT": dies_at.value})
        child = ForkedSettlement(
            self.folder / f"settlement-{len(self.children)}.log",
            {f"WATTROAM_{name}": value for name, value in (variables | more).items()},
        )
        self.children.append(child)
        return child

    async def tell(self, *events: Event) -> None:
        """Append facts, as back offices do."""
        envelopes = [
            Envelope(
                event=event,
                event_id=f"{event.wire_name}/{SystemRandomness().uuid()}",
                correlation_id="test",
                recorded_at=T0,
            )
            for event in events
        ]
        await self.world.ports.event_log.append(envelopes)

    async def close(self, process: ForkedSettlement) -> None:
        """Have an operator close what was accepted, once it answers, unless that kills it."""

        async def is_closed_or_dead() -> bool:
            return process.exit_code is not None or await self.close_once() > 0

        await self.until(is_closed_or_dead)

    async def die_at(self, points: Sequence[CrashPoint]) -> None:
        """Have each process find what the one before left, and die at the next point with it or a CDR of its own."""
        for number, point in enumerate(points):
            await self.tell(accepted(a_cdr(f"s{number}", 1_000 + number), at=NOW()))
            dying = self.start(dies_at=point)
            await self.close(dying)
            await self.until(partial(has_ended, dying))

    async def close_once(self) -> int:
        """Return how many statements an operator's word closed; none when nobody answers."""
        url = f"http://127.0.0.1:{self.port}/settlement/internal/close"
        async with httpx.AsyncClient(trust_env=False) as http:
            try:
                answer = await http.post(url, headers={"Authorization": f"Bearer {INTERNAL}"})
            except httpx.TransportError:
                return 0
        return int(answer.json()["closed"])

    async def until(self, condition: Callable[[], Awaitable[bool]], *, within_s: float = DEADLINE_S) -> None:
        """Wait for a condition; the last lines of the process tell why it does not come."""
        try:
            async with asyncio.timeout(within_s):
                while not await condition():  # noqa: ASYNC110 - rows of another process tell nobody
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            pytest.fail(self.children[-1].last_lines())

    @property
    def state(self) -> Path:
        """Where anvil's state lies."""
        return self.folder / "chain" / "state.json"

    async def is_open(self) -> bool:
        async with self.world.ports.units.begin() as unit:
            rows = await unit.table(OPENING).select()
        return bool(rows) and all(each.book_agreement for each in rows)

    async def statements(self) -> list[StatementRecord]:
        async with self.world.ports.units.begin() as unit:
            return await unit.table(STATEMENT).select()

    async def transactions(self) -> list[TransactionRecord]:
        async with self.world.ports.units.begin() as unit:
            return await unit.table(TRANSACTION).select(order_by=("nonce",))

    async def is_final(self) -> bool:
        rows = await self.statements()
        return bool(rows) and all(each.state is StatementState.FINAL for each in rows)

    async def has_settled_everything(self) -> bool:
        """Close what is not in a statement yet; tell whether all that was told is final."""
        lag = (await self.world.ports.event_log.lag()).get("settlement", 0)
        await self.close_once()
        waiting = [leaf for leaf in await self.world.leaves() if leaf.sequence is None]
        return not lag and not waiting and await self.is_final()

    async def are_sent(self) -> bool:
        return all(each.state is TransactionState.FINAL for each in await self.transactions())

    async def paid_e4(self) -> int:
        """What the CPO got, as the vault has it."""
        async with self.world.ports.units.begin() as unit:
            (row,) = await unit.table(DEPLOYMENT).select()
            party = await unit.table(PARTY).get(CPO)
        assert party is not None
        found = row.deployment.of("EUR")
        assert found is not None
        async with open_ethereum(self.chain.rpc_url) as chain:
            answer = await chain.call(found.vault, contracts.COLLATERAL_OF.call(party.number))
        return int(contracts.COLLATERAL_OF.answer(answer)[0]) - PLAY_MONEY_E4

    async def proposed(self) -> int:
        """How many batches the book has."""
        async with self.world.ports.units.begin() as unit:
            (row,) = await unit.table(DEPLOYMENT).select()
        found = row.deployment.of("EUR")
        assert found is not None
        async with open_ethereum(self.chain.rpc_url) as chain:
            head = await chain.head()
            topic = contracts.BATCH_PROPOSED.topic
            return len(await chain.logs(found.book, [topic], from_block=0, to_block=head.number))

    async def audit(self) -> AuditReport:
        """Audit rows and chain."""
        async with open_ethereum(self.chain.rpc_url) as chain:
            report, _ = await audited(self.world.ports, chain=chain)
        return report


@asynccontextmanager
async def installed(dsn: str, folder: Path, port: int) -> AsyncIterator[Installed]:
    chain = EmbeddedChain(folder / "chain", clock=SystemClock(), timer=SystemTimer(), randomness=SystemRandomness())
    await chain.start()
    try:
        async with open_world(dsn) as world:
            opened = Installed(world, chain, dsn, folder, port, [])
            await opened.tell(signed(terms(), holder=CPO), signed(terms(), holder=MSP))
            yield opened
            for child in opened.children:
                child.kill()
    finally:
        await chain.stop()


@pytest.fixture
async def here(postgres_dsn: str, tmp_path: Path, free_port: int) -> AsyncIterator[Installed]:
    async with installed(postgres_dsn, tmp_path, free_port) as opened:
        yield opened


@pytest.mark.deeper
@pytest.mark.chain
@pytest.mark.fault
@pytest.mark.timeout(900 * ROUNDS)
async def test_killed_at_every_point_it_settles_each_cdr_once(here: Installed) -> None:
    points = [point for _ in range(ROUNDS) for point in CrashPoint]
    await here.die_at(points)

    here.start()
    await here.until(here.has_settled_everything, within_s=DEADLINE_S * ROUNDS)  # one statement after another
    await here.tell(accepted(a_credit(a_cdr("s0", 1_000)), at=NOW()))
    await here.until(here.has_settled_everything)

    statements = await here.statements()
    assert await here.paid_e4() == sum(1_000 + number for number in range(1, len(points)))
    assert await here.proposed() == len(statements) == len(await here.world.told(StatementFinal))
    assert sum(each.count for each in statements) == len(points) + 1
    report = await here.audit()
    assert (report.differences, report.waiting, report.why_quick) == ((), (), None)


async def has_ended(process: ForkedSettlement) -> bool:
    return process.exit_code is not None


@pytest.mark.chain
@pytest.mark.fault
async def test_final_blocks_that_anvil_lost_are_sent_again_as_they_were(here: Installed) -> None:
    await here.tell(accepted(a_cdr("s1"), at=NOW()))
    process = here.start()
    await here.until(here.is_open)
    await here.chain.stop()
    before = here.state.read_bytes()
    await here.chain.start()
    await here.close(process)
    await here.until(here.is_final)
    (sent,) = await here.transactions()
    process.kill()
    await here.chain.stop()
    here.state.write_bytes(before)
    await here.chain.start()
    assert await here.proposed() == 0

    here.start()

    async def is_there_again() -> bool:
        return await here.proposed() == 1 and await here.are_sent()

    await here.until(is_there_again)
    (again,) = await here.transactions()
    assert again.hash == sent.hash
    assert await here.paid_e4() == 15_000
    assert (await here.audit()).differences == ()
    assert len(await here.world.told(StatementFinal)) == 1
