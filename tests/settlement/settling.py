"""A settlement with a chain: in memory, or over a database and anvil."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from pydantic import SecretStr

from emobility.adapters.chain_signing import party_signer, proposer_signer, recovered_address
from emobility.domain.agreement import RoamingAgreement
from emobility.domain.batch import contracts
from emobility.domain.batch.calls import AgreementState, agreement_query, read_agreement
from emobility.domain.identifiers import PartyId
from emobility.events.settlement import SETTLEMENT
from emobility.ports.chain import Log
from emobility.ports.chain_signer import ChainSigner, TransactionSigner, UnsignedTransaction
from emobility.runtime.settings import Settings
from emobility.runtime.telemetry import Metrics
from services.audit.audit import audited
from services.audit.report import AuditReport
from services.settlement.acceptances import Acceptances
from services.settlement.access import STUCK_AFTER_S, ChainAccess
from services.settlement.books import StoredBooks
from services.settlement.closing import Closing
from services.settlement.crash_points import CrashPoint
from services.settlement.metrics import SettlementMetrics
from services.settlement.opening import Openings
from services.settlement.payables import take_final_statements
from services.settlement.records import (
    BATCH,
    DEPLOYMENT,
    TRANSACTION,
    BatchRecord,
    DeploymentRecord,
    Opening,
    TransactionRecord,
)
from services.settlement.service import Follower, Settlement, build
from services.settlement.spending import Caps
from tests.chains import ChainWorld, FakeWorld, LedgerWorld
from tests.settlement.market import MASTER_KEY, Market, a_market
from tests.settlement.world import World, open_world, signed

STEPS_MAX: Final = 200


class Crashed(BaseException):
    """The process died here; nothing may catch it."""


@dataclass
class Settling:
    """A settlement, its chain, and a process that follows it and can die."""

    world: World
    market: Market
    proposer: ChainSigner
    numbers: dict[PartyId, int] = field(default_factory=dict)
    stuck_after_s: float = STUCK_AFTER_S
    caps: Caps = field(default_factory=Caps)
    successors: Callable[[], Awaitable[Sequence[TransactionSigner]]] | None = None

    @property
    def chain(self) -> ChainWorld:
        return self.market.world

    @property
    def fake(self) -> FakeWorld:
        assert isinstance(self.market.world, FakeWorld)
        return self.market.world

    @property
    def access(self) -> ChainAccess:
        return ChainAccess(
            chain=self.chain.chain,
            proposer=self.proposer,
            signer_of=lambda party_id: party_signer(MASTER_KEY, party_id),
            recovered_address=recovered_address,
            books=self.market,
            lease_s=0,
            stuck_after_s=self.stuck_after_s,
            caps=self.caps,
            successors=self.successors,
            ledger=self.chain.ledger if isinstance(self.chain, LedgerWorld) else None,
        )

    @property
    def acceptances(self) -> Acceptances:
        return Acceptances(self.world.ports, self.access)

    def follower(
        self, *, dies_at: CrashPoint | None = None, opens: bool = False, closing: Closing | None = None
    ) -> Follower:
        """Start a process; one that died before leaves nothing but rows.

        Args:
            dies_at: Where it dies.
            opens: It administers the contracts.
            closing: What closes in it.
        """

        def reached(point: CrashPoint) -> None:
            if point is dies_at:
                raise Crashed(point)

        ports, openings, access = self.world.ports, None, self.access
        if opens:
            books = StoredBooks(ports.units)
            access = replace(access, books=books)
            openings = Openings(ports, access, books, self.market.deployer)
        return Follower(ports, access, SettlementMetrics(Metrics()), reached, openings, closing=closing)

    def service(self, *, lease_s: float = 0) -> Settlement:
        """Return the settlement as it is deployed, over the same rows and chain; nothing of it runs."""
        settings = Settings(
            environment="development",
            event_log="memory",
            internal_token=SecretStr("i" * 40),
            master_key=SecretStr(MASTER_KEY.hex()),
        )
        return build(settings, self.world.ports, replace(self.access, lease_s=lease_s))

    async def sign(self, *agreements: RoamingAgreement, outside: PartyId | None = None) -> None:
        """Sign agreements and open them; `outside` keeps its own key."""
        for each in agreements:
            holders = [party for party in (each.cpo_id, each.emsp_id) if party != outside]
            await self.world.take(*[signed(each, holder=party) for party in holders])

    async def follow(self, follower: Follower | None = None) -> None:
        """Step until nothing moves."""
        following = follower or self.follower()
        for _ in range(STEPS_MAX):
            if not await following.step():
                return
        raise AssertionError(f"it still moves after {STEPS_MAX} steps")

    async def in_the_book(self, opening: Opening) -> tuple[AgreementState, tuple[int, ...]]:
        """Return where an agreement that was opened by a follower stands, and what is reserved of its MSP's."""
        deployed = await StoredBooks(self.world.ports.units).book_of(opening.currency)
        assert deployed is not None
        assert opening.book_agreement is not None
        chain, book = self.chain.chain, deployed.book.address
        state = read_agreement(await chain.call(book, agreement_query(opening.book_agreement)))
        asked = contracts.RESERVED_BY.call(book, state.msp)
        return state, contracts.RESERVED_BY.answer(await chain.call(deployed.vault, asked))

    async def follow_steps(self, count: int) -> None:
        """Make so many steps with one process."""
        following = self.follower()
        for _ in range(count):
            await following.step()

    async def use_nonce(self, nonce: int) -> None:
        """Have the proposer's account send something else under a nonce."""
        chain = self.chain.chain
        transaction = UnsignedTransaction(
            chain_id=await chain.chain_id(),
            nonce=nonce,
            gas_limit=100_000,
            fees=await chain.fees(),
            to=self.market.contracts.token,
            calldata=contracts.APPROVE.call(self.market.contracts.token, 1),
        )
        await chain.send_raw(await self.proposer.sign_transaction(transaction))

    async def pause(self, *, is_paused: bool) -> None:
        """Stop the book's proposals, or allow them again, as its pauser does."""
        call = contracts.PAUSE.call() if is_paused else contracts.UNPAUSE.call()
        await self.chain.final(await self.chain.sent(self.market.contracts.book, call))

    async def store_deployment(self) -> None:
        """Keep where the contracts are, as whoever deploys them does."""
        deployment = self.market.deployment
        async with self.world.ports.units.begin() as unit:
            await unit.table(DEPLOYMENT).put(DeploymentRecord(chain_id=deployment.chain_id, deployment=deployment))
            await unit.commit()

    async def audit(self) -> AuditReport:
        """Audit rows and chain."""
        await self.store_deployment()
        told = [each async for each in self.world.ports.event_log.read([SETTLEMENT])]
        async with self.world.ports.units.begin() as unit:
            await take_final_statements(unit, told)
            await unit.commit()
        report, _ = await audited(self.world.ports, chain=self.chain.chain)
        return report

    async def restore(self, earlier: Callable[[TransactionRecord], TransactionRecord]) -> None:
        """Change the rows of transactions, as a database that was restored from a copy has older ones."""
        rows = await self.transactions()
        async with self.world.ports.units.begin() as unit:
            for row in rows:
                await unit.table(TRANSACTION).put(earlier(row))
            await unit.commit()

    async def transactions(self) -> list[TransactionRecord]:
        async with self.world.ports.units.begin() as unit:
            return await unit.table(TRANSACTION).select(order_by=("nonce",))

    async def batches(self) -> list[BatchRecord]:
        async with self.world.ports.units.begin() as unit:
            return await unit.table(BATCH).select(order_by=("formed_at",))

    async def proposed(self) -> list[Log]:
        """What the book itself says was proposed."""
        head = await self.chain.chain.head()
        book, topic = self.market.contracts.book, contracts.BATCH_PROPOSED.topic
        return list(await self.chain.chain.logs(book, [topic], from_block=0, to_block=head.number))


@asynccontextmanager
async def open_settling(
    dsn: str | None = None, chain: ChainWorld | None = None, proposer: ChainSigner | None = None
) -> AsyncIterator[Settling]:
    """Open a settlement over a store and a chain, with contracts, but no party."""
    proposer = proposer or (proposer_signer(MASTER_KEY) if chain is None else chain.account(1))
    async with open_world(dsn) as world:
        market = await a_market(chain or FakeWorld(), proposer.address)
        yield Settling(world=world, market=market, proposer=proposer)
