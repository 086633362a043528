"""Note what is final, and see whether it stays so.

A chain may break its promise (anvil killed, a copy restored): the hash of its genesis and of the last final block that
we saw are stored. Where that block is gone, what was final goes back on its way with the bytes that are stored;
statements stay what they are, and nobody is told twice. A batch whose statements were all stated anew is not proposed
again. Another genesis is another chain: nothing is sent any more.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import structlog

from emobility.domain.batch.calls import BatchState as BookedBatch
from emobility.domain.errors import Unavailable
from emobility.events.anchoring import Anchored
from emobility.events.event import Envelope
from emobility.events.settlement import BatchProposed, StatementUnfunded
from emobility.ports.chain import Block, TransactionReceipt
from emobility.ports.ports import Ports
from emobility.ports.stores import SELECT_ROWS_MAX
from emobility.ports.unit_of_work import UnitOfWork
from services.settlement import confidential_finality
from services.settlement.access import ChainAccess
from services.settlement.anchoring import ANCHOR, AnchorRecord, AnchorState
from services.settlement.closing import name_of
from services.settlement.facts import fact
from services.settlement.final_fact import statement_final
from services.settlement.metrics import SettlementMetrics
from services.settlement.records import (
    BATCH,
    CHAIN,
    STATEMENT,
    TRANSACTION,
    BatchRecord,
    BatchState,
    ChainRecord,
    StatementRecord,
    StatementState,
    TransactionKind,
    TransactionRecord,
    TransactionState,
)
from services.settlement.restating_records import VOIDED
from services.settlement.windows import stage_of

_log = structlog.get_logger(__name__)


class OtherGenesis(Unavailable):
    """The endpoint is another chain than the one that settlement began on, or one that lost all of its state."""

    def __init__(self, chain_id: int) -> None:
        self.chain_id = chain_id
        super().__init__(f"chain {chain_id} has another genesis than before: nothing is sent to it")


class Finality:
    """Keeps what is final."""

    def __init__(self, ports: Ports, access: ChainAccess, metrics: SettlementMetrics) -> None:
        self._ports = ports
        self._chain = access.chain
        self._metrics = metrics

    # Noting

    async def note(
        self, row: TransactionRecord, receipt: TransactionReceipt, booked: BookedBatch, finalized: Block
    ) -> TransactionRecord | None:
        """Store that a transaction is final, and what the book says of its batch's statements, with the facts."""
        final = replace(row, state=TransactionState.FINAL, waiting=None)
        async with self._ports.units.begin() as unit:
            locked = await unit.table(TRANSACTION).get_for_update(row.transaction_id)
            batch = await unit.table(BATCH).get_for_update(row.batch_id)
            if locked != row or batch is None:
                return None
            await unit.table(TRANSACTION).put(final)
            if row.kind is TransactionKind.PROPOSE:
                was_final = batch.state is BatchState.FINAL
                # A proposal whose nonce something else took after blocks were lost was signed anew: another hash.
                batch = replace(batch, state=BatchState.FINAL, proposed_in=receipt.transaction_hash, waiting=None)
                await unit.table(BATCH).put(batch)
                if not was_final:
                    unit.emit(self._proposed(batch, receipt))
            for statement in await unit.table(STATEMENT).select({"batch_id": batch.batch_id}, order_by=("position",)):
                await self._note_statement(unit, batch, statement, booked, receipt)
            await self._see(unit, row.chain_id, finalized)
            await unit.commit()
        return final

    async def note_settled(
        self, row: TransactionRecord, receipt: TransactionReceipt, finalized: Block
    ) -> TransactionRecord | None:
        """Store that a confidential batch is final, with the facts, if the book holds it."""
        final = replace(row, state=TransactionState.FINAL, waiting=None)
        is_held = await confidential_finality.is_held(self._ports.units, self._chain, row, finalized)
        async with self._ports.units.begin() as unit:
            if await unit.table(TRANSACTION).get_for_update(row.transaction_id) != row:
                return None
            if not is_held:
                await unit.table(TRANSACTION).put(replace(row, waiting="the book holds another batch"))
                await unit.commit()
                return None
            await unit.table(TRANSACTION).put(final)
            became = await confidential_finality.note_final(unit, row, receipt, self._ports.clock.now())
            await self._see(unit, row.chain_id, finalized)
            await unit.commit()
        for _ in range(became):
            self._metrics.became(StatementState.FINAL)
        return final

    async def note_anchor(
        self, row: TransactionRecord, receipt: TransactionReceipt, finalized: Block
    ) -> TransactionRecord | None:
        """Store that a root is recorded for good, and tell it once."""
        final = replace(row, state=TransactionState.FINAL, waiting=None)
        async with self._ports.units.begin() as unit:
            locked = await unit.table(TRANSACTION).get_for_update(row.transaction_id)
            (anchor,) = await unit.table(ANCHOR).select({"anchor_id": row.batch_id}) or (None,)
            if locked != row or anchor is None:
                return None
            await unit.table(TRANSACTION).put(final)
            if anchor.state is not AnchorState.FINAL:
                await unit.table(ANCHOR).put(replace(anchor, state=AnchorState.FINAL, waiting=None))
                unit.emit(self._anchored(anchor, row, receipt))
            await self._see(unit, row.chain_id, finalized)
            await unit.commit()
        return final

    async def note_discharge(self, row: TransactionRecord, finalized: Block) -> TransactionRecord | None:
        """Store that a book counted a discharge for good; `discharging` finds it so."""
        final = replace(row, state=TransactionState.FINAL, waiting=None)
        async with self._ports.units.begin() as unit:
            if await unit.table(TRANSACTION).get_for_update(row.transaction_id) != row:
                return None
            await unit.table(TRANSACTION).put(final)
            await self._see(unit, row.chain_id, finalized)
            await unit.commit()
        return final

    def _anchored(self, anchor: AnchorRecord, row: TransactionRecord, receipt: TransactionReceipt) -> Envelope:
        now = self._ports.clock.now()
        event = Anchored(
            kind=anchor.kind,
            party_id=anchor.party_id,
            period_start=anchor.period_start,
            root=anchor.root,
            chain_id=row.chain_id,
            contract=row.receiver,
            transaction=receipt.transaction_hash,
            block_number=receipt.block_number,
            block_hash=receipt.block_hash,
            anchored_at=now,
        )
        return fact(event, anchor.anchor_id.hex(), at=now)

    async def _note_statement(
        self,
        unit: UnitOfWork,
        batch: BatchRecord,
        statement: StatementRecord,
        booked: BookedBatch,
        receipt: TransactionReceipt,
    ) -> None:
        now = self._ports.clock.now()
        assert statement.position is not None
        state, waiting = stage_of(booked, statement.position)
        if state is StatementState.FINAL:
            final = replace(statement, state=StatementState.FINAL, waiting=None, final_at=statement.final_at or now)
            if final != statement:
                await unit.table(STATEMENT).put(final)
            if statement.final_at is None:
                unit.emit(self._final(batch, final, receipt))
                self._metrics.became(StatementState.FINAL)
        elif statement.state is not state:
            short = replace(statement, state=state, waiting=waiting)
            await unit.table(STATEMENT).put(short)
            if (
                state is StatementState.UNFUNDED and statement.final_at is None
            ):  # else the chain lost the payment, and partners were told long ago
                unit.emit(self._unfunded(batch, short, now))
                self._metrics.became(StatementState.UNFUNDED)

    def _proposed(self, batch: BatchRecord, receipt: TransactionReceipt) -> Envelope:
        now = self._ports.clock.now()
        event = BatchProposed(
            batch_id=batch.batch_id,
            chain_id=batch.chain_id,
            book=batch.book,
            currency=batch.currency,
            pairs_hash=batch.pairs_hash,
            statements=batch.statements,
            transaction=receipt.transaction_hash,
            gas_used=receipt.gas_used,
            proposed_at=now,
        )
        return fact(event, batch.batch_id.hex(), at=now)

    @staticmethod
    def _final(batch: BatchRecord, statement: StatementRecord, receipt: TransactionReceipt) -> Envelope:
        assert batch.proposed_in is not None
        assert statement.position is not None
        assert statement.final_at is not None
        return statement_final(
            statement,
            batch,
            position=statement.position,
            transaction=batch.proposed_in,
            receipt=receipt,
            final_at=statement.final_at,
        )

    @staticmethod
    def _unfunded(batch: BatchRecord, statement: StatementRecord, now: datetime) -> Envelope:
        event = StatementUnfunded(
            statement=name_of(statement),
            emsp_id=statement.emsp_id,
            currency=statement.currency,
            statement_hash=statement.statement_hash,
            net_e4=statement.due_e4 - statement.credit_e4,
            batch_id=batch.batch_id,
            seen_at=now,
        )
        return fact(event, statement.statement_hash.hex(), at=now)

    # Watching

    async def watch(self) -> None:
        """See whether the chain is the one that it was, and still has what was final.

        Raises:
            OtherGenesis: it is another one; the alarm stays until it is the old one again.
            ChainUnavailable: it does not answer.
        """
        chain_id, genesis = await self._chain.chain_id(), await self._chain.genesis_hash()
        finalized = await self._chain.finalized()
        async with self._ports.units.begin() as unit:
            known = await unit.table(CHAIN).get_for_update(chain_id)
            if known is None:
                await self._refuse_successor(unit, chain_id)
                known = ChainRecord(
                    chain_id=chain_id,
                    genesis_hash=genesis,
                    final_number=finalized.number,
                    final_hash=finalized.hash,
                    alarm=None,
                )
                await unit.table(CHAIN).put(known)
            alarm = None if known.genesis_hash == genesis else str(OtherGenesis(chain_id))
            if alarm != known.alarm:
                await unit.table(CHAIN).put(replace(known, alarm=alarm))
            await unit.commit()
        self._metrics.alarmed(is_alarmed=alarm is not None)
        if alarm is not None:
            raise OtherGenesis(chain_id)
        if not await self._is_there(known):
            await self._take_back(chain_id, finalized)

    async def is_as_known(self, chain_id: int) -> bool:
        """Tell whether the chain still has what was seen final last; ask before a younger final block is noted.

        Noting it would hide for ever that older ones are gone: `watch` looks for the youngest alone.
        """
        async with self._ports.units.begin() as unit:
            known = await unit.table(CHAIN).get(chain_id)
        return known is None or await self._is_there(known)

    async def _is_there(self, known: ChainRecord) -> bool:
        last = await self._chain.block(known.final_number)
        return last is not None and last.hash == known.final_hash

    async def _refuse_successor(self, unit: UnitOfWork, chain_id: int) -> None:
        """Raise `OtherGenesis` where settlement began on a chain with another id."""
        if await unit.table(CHAIN).count():
            self._metrics.alarmed(is_alarmed=True)
            raise OtherGenesis(chain_id)

    async def _take_back(self, chain_id: int, finalized: Block) -> None:
        """Put every final transaction that the chain no longer has on its way again."""
        _log.error("settlement_final_blocks_gone", chain_id=chain_id)
        self._metrics.lost_blocks()
        where = {"chain_id": chain_id, "state": TransactionState.FINAL}
        seen = 0
        while True:
            async with self._ports.units.begin() as unit:
                rows = await unit.table(TRANSACTION).select(where, order_by=("transaction_id",), offset=seen)
            gone = [row for row in rows if not await self._has(row)]
            for row in gone:
                await self._send_again(row)
            seen += len(rows) - len(gone)  # those that went back are not found any more
            if len(rows) < SELECT_ROWS_MAX:
                break
        async with self._ports.units.begin() as unit:
            await self._see(unit, chain_id, finalized, is_new=True)
            await unit.commit()

    async def _has(self, row: TransactionRecord) -> bool:
        assert row.hash is not None
        receipt = await self._chain.receipt(row.hash)
        return receipt is not None and receipt.block_hash == row.block_hash

    async def _send_again(self, row: TransactionRecord) -> None:
        sent = replace(row, state=TransactionState.SENT, block_number=None, block_hash=None, gas_used=None)
        async with self._ports.units.begin() as unit:
            if await unit.table(TRANSACTION).get_for_update(row.transaction_id) != row:
                return
            if await _is_stated_anew(unit, row.batch_id):
                await unit.table(TRANSACTION).remove(row.transaction_id)
            else:
                await unit.table(TRANSACTION).put(sent)
            await unit.commit()

    async def _see(self, unit: UnitOfWork, chain_id: int, finalized: Block, *, is_new: bool = False) -> None:
        """Remember the youngest final block."""
        known = await unit.table(CHAIN).get_for_update(chain_id)
        if known is not None and (is_new or finalized.number > known.final_number):
            await unit.table(CHAIN).put(replace(known, final_number=finalized.number, final_hash=finalized.hash))


async def _is_stated_anew(unit: UnitOfWork, batch_id: bytes) -> bool:
    """Tell whether verdicts took all statements out of a batch: without them it could become final as it was."""
    of_batch = {"batch_id": batch_id}
    return await unit.table(VOIDED).count(of_batch) > 0 and await unit.table(STATEMENT).count(of_batch) == 0
