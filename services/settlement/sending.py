"""Carry transactions into the chain: QUEUED, SIGNED (bytes stored first), SENT, MINED, FINAL.

A process that dies in between loses nothing and sends nothing else: what is stored are the very bytes, and sending
them twice is as once. What the node says about bytes it knows is not believed; the chain is looked at instead, for the
transaction and, if that is not there, for the batch itself. Who signs, and for how much: `signing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import structlog

from emobility.domain.batch import contracts
from emobility.domain.batch.abi import Function
from emobility.domain.batch.calls import BatchState as BookedBatch
from emobility.domain.batch.calls import batch_query, read_batch
from emobility.ports.chain import Block, CallReverted, TransactionNotTaken, TransactionReceipt
from emobility.ports.ports import Ports
from services.settlement.access import ChainAccess
from services.settlement.crash_points import CrashPoint, Reached
from services.settlement.finality import Finality
from services.settlement.lease import Lease
from services.settlement.metrics import SettlementMetrics
from services.settlement.records import (
    IN_FLIGHT,
    STATEMENT,
    TRANSACTION,
    StatementState,
    TransactionKind,
    TransactionRecord,
    TransactionState,
)
from services.settlement.signing import Signing, Waits, nonce_of_filler, variants_of

FEE_WORDS: Final = ("underpriced", "fee", "known")
"""What a node says of an offer that is too low, or of bytes that wait with it already. Only then is more offered."""

REFUSES: Final = "the book refuses: "
"""Begins what a call waits for that a contract refuses; its error follows."""
_FOUND_BY_THEIR_DESK: Final = frozenset(
    (TransactionKind.OPEN, TransactionKind.DISCHARGE, TransactionKind.DISPUTE, TransactionKind.GUARANTEE)
)
"""What came of these is noted by whoever queued them."""
_DONE_BEFORE: Final = (contracts.BATCH_EXISTS, contracts.HIDDEN_BATCH_EXISTS, contracts.ANCHOR_EXISTS)
"""Refusals that say that a call was made before."""

_log = structlog.get_logger(__name__)


class Sending:
    """Moves transactions; a step at a time, each in a unit of its own."""

    def __init__(
        self,
        ports: Ports,
        access: ChainAccess,
        finality: Finality,
        reached: Reached,
        *,
        lease: Lease,
        metrics: SettlementMetrics,
    ) -> None:
        self._ports = ports
        self._access = access
        self._chain = access.chain
        self._finality = finality
        self._reached = reached
        self._metrics = metrics
        self._signing = Signing(ports=ports, access=access, lease=lease, metrics=metrics, reached=reached)
        self._waits_since_s: dict[bytes, float] = {}
        """Since when bytes wait in this process's sight, by their hash."""
        self._first: dict[bytes, int] = {}
        """The lowest nonce on its way, by account: none goes before it."""

    async def advance(self) -> int:
        """Move every transaction as far as it goes now; return how many steps were made.

        Raises:
            ChainUnavailable: the chain does not answer.
            SignerUnavailable: who keeps the key does not.
            Fenced: another process sends by now.
        """
        steps = 0
        for row in await self._in_flight():
            current: TransactionRecord | None = row
            while current is not None and (moved := await self._advance(current)) is not None:
                current, steps = moved, steps + 1
        return steps

    async def _in_flight(self) -> Sequence[TransactionRecord]:
        """Return what is under way, in the order of nonces: a gap would hold up all that follow."""
        async with self._ports.units.begin() as unit:
            rows = await unit.table(TRANSACTION).select({"state": IN_FLIGHT}, order_by=("queued_at",))
        sent = [row for row in rows if row.state is TransactionState.SENT and row.nonce is not None]
        self._first = {
            account: min(row.nonce or 0 for row in sent if row.account == account)
            for account in {row.account for row in sent}
        }
        hashes = {row.hash for row in sent}
        self._waits_since_s = {each: at_s for each, at_s in self._waits_since_s.items() if each in hashes}
        return sorted(rows, key=lambda row: (row.nonce is None, row.nonce or 0))

    async def _advance(self, row: TransactionRecord) -> TransactionRecord | None:
        """Return the row after one step; None: it can't go on now."""
        match row.state:
            case TransactionState.QUEUED:
                return await self._sign(row)
            case TransactionState.SIGNED:
                return await self._send(row)
            case TransactionState.SENT:
                return await self._look(row)
            case TransactionState.MINED:
                return await self._settle(row)
            case _:
                return None

    # Signing

    async def _sign(self, row: TransactionRecord) -> TransactionRecord | None:
        """Give it a nonce and store its signed bytes."""
        if row.kind is TransactionKind.FILL and await self._is_filled(row):
            await self._drop(row)
            return None
        signer = await self._signing.signer_of(row)
        if isinstance(signer, Waits):
            await self._wait(row, signer.reason)
            return None
        try:
            gas = await self._chain.estimate_gas(signer.address, row.receiver, row.calldata)
        except CallReverted as refusal:
            return await self._refused(row, refusal)
        signed = await self._signing.sign(row, signer, gas)
        if isinstance(signed, Waits):
            await self._wait(row, signed.reason)
            return None
        if (row.waiting or "").startswith(REFUSES):
            await self._tell_parties(row, "the chain")
        return signed

    async def _is_filled(self, row: TransactionRecord) -> bool:
        """Tell whether a gap is gone for which a filler waits."""
        nonce = nonce_of_filler(row)
        if await self._chain.nonce(row.account, with_waiting=True) > nonce:
            return True
        of_account = {"chain_id": row.chain_id, "account": row.account, "nonce": nonce}
        async with self._ports.units.begin() as unit:
            return await unit.table(TRANSACTION).count(of_account) > 0

    async def _drop(self, row: TransactionRecord) -> None:
        async with self._ports.units.begin() as unit:
            await unit.table(TRANSACTION).delete(row.transaction_id, where={"state": TransactionState.QUEUED})
            await unit.commit()

    async def _wait(self, row: TransactionRecord, reason: str | None) -> None:
        """Say what it waits for."""
        if reason != row.waiting:
            await self._put(row, replace(row, waiting=reason))

    async def _refused(self, row: TransactionRecord, refusal: CallReverted) -> TransactionRecord | None:
        """A call that can't succeed is not sent: what it should do is done already, or it waits with the reason."""
        if refusal.data[:4] in {each.selector for each in _DONE_BEFORE}:
            return await self._adopt(row)
        reason = f"{REFUSES}{error_name(refusal.data)}"
        if reason != row.waiting:
            _log.warning("settlement_call_refused", transaction=row.transaction_id, reason=reason)
            await self._put(row, replace(row, waiting=reason))
            await self._tell_parties(row, reason)
        return None

    async def _tell_parties(self, row: TransactionRecord, waiting: str) -> None:
        """Say of the statements of a proposal what they wait for: their parties see these, and no transactions."""
        if row.kind is not TransactionKind.PROPOSE:
            return
        proposed = {"batch_id": row.batch_id, "state": StatementState.PROPOSED}
        async with self._ports.units.begin() as unit:
            for each in await unit.table(STATEMENT).select(proposed):
                key = each.cpo_id, each.agreement_id, each.version, each.sequence
                current = await unit.table(STATEMENT).get_for_update(*key)
                if current == each:  # else it moved on meanwhile
                    await unit.table(STATEMENT).put(replace(each, waiting=waiting))
            await unit.commit()

    async def _adopt(self, row: TransactionRecord) -> TransactionRecord | None:
        """Take over the transaction that did the same before, which we forgot."""
        topics, data = _trace(row)
        log = await self._access.newest_log(row.receiver, topics)
        if log is None:
            return None
        if data is not None and log.data != data:
            return await self._put(row, replace(row, waiting="another root is anchored")) if not row.waiting else None
        self._metrics.befell("adopted")
        _log.info("settlement_batch_adopted", transaction=row.transaction_id)
        return await self._put(row, replace(row, state=TransactionState.SENT, hash=log.transaction_hash))

    # Sending

    async def _send(self, row: TransactionRecord) -> TransactionRecord | None:
        assert row.raw is not None
        await self._hand_over(row.raw)  # refused or not: `_look` finds out what became of it
        self._reached(CrashPoint.BYTES_SENT)
        sent = await self._put(row, replace(row, state=TransactionState.SENT))
        self._reached(CrashPoint.SENDING_NOTED)
        return sent

    async def _hand_over(self, raw: bytes) -> str | None:
        """Send bytes; return why the node does not take them, if so."""
        try:
            await self._chain.send_raw(raw)
        except TransactionNotTaken as refusal:
            return str(refusal)
        return None

    async def _look(self, row: TransactionRecord) -> TransactionRecord | None:
        """Note the block of what was sent; send the same bytes again where the chain does not know them.

        Of several variants whichever is mined counts. What waits too long is replaced (`_hurry`).
        """
        assert row.hash is not None
        if (mined := await self._mined(row)) is not None:
            return mined
        refusal = None
        if await self._chain.transaction(row.hash) is None:
            if row.raw is None:  # adopted from the chain, and gone with its blocks
                return await self._put(row, replace(row, state=TransactionState.QUEUED, hash=None))
            assert row.nonce is not None
            if await self._chain.nonce(row.account, with_waiting=False) > row.nonce:
                if (mined := await self._mined(row)) is not None:  # a node may tell nonces before receipts
                    return mined
                # Another transaction of the account took the nonce, so these bytes can never be mined.
                self._metrics.befell("nonce_lost")
                return await self._put(row, _from_the_start(row))
            refusal = await self._hand_over(row.raw)
            if refusal is None:
                self._metrics.befell("sent_again")
                _log.info("settlement_bytes_sent_again", transaction=row.transaction_id)
        since_s = self._waits_since_s.setdefault(row.hash, self._ports.timer.monotonic_s())
        is_first = row.nonce is not None and row.nonce == self._first.get(row.account)
        if is_first and self._ports.timer.monotonic_s() - since_s >= self._access.stuck_after_s:
            return await self._hurry(row, refusal)
        await self._wait(row, refusal)
        return None

    async def _mined(self, row: TransactionRecord) -> TransactionRecord | None:
        """Note the block of one of a transaction's variants; None: none is in any."""
        async with self._ports.units.begin() as unit:
            known = {each.hash: each for each in await variants_of(unit, row)}
        assert row.hash is not None
        for each in (row.hash, *(hash_ for hash_ in reversed(known) if hash_ != row.hash)):
            receipt = await self._chain.receipt(each)
            # One of another nonce that a contract refused was signed anew since, and is no longer what is waited for.
            if receipt is None or (each != row.hash and not receipt.has_succeeded):
                continue
            self._reached(CrashPoint.BLOCK_SEEN)
            variant = known.get(each)
            own = row if variant is None else replace(row, hash=each, raw=variant.raw, nonce=variant.nonce)
            mined = replace(
                own,
                account=row.account if variant is None else variant.account,
                state=TransactionState.MINED,
                block_number=receipt.block_number,
                block_hash=receipt.block_hash,
                gas_used=receipt.gas_used,
                waiting=None,
            )
            return await self._put(row, mined)
        return None

    async def _hurry(self, row: TransactionRecord, refusal: str | None) -> TransactionRecord | None:
        """Fill the gap before a transaction that waits too long, or let it offer more."""
        assert row.nonce is not None
        chain_next = await self._chain.nonce(row.account, with_waiting=True)
        if chain_next < row.nonce:
            await self._signing.fill(row, chain_next)
            return None
        if refusal is not None and not any(word in refusal.lower() for word in FEE_WORDS):
            await self._wait(row, refusal)
            return None
        async with self._ports.units.begin() as unit:
            variants = await variants_of(unit, row)
        newest = next((each for each in variants if each.hash == row.hash), None)
        if newest is None:
            await self._wait(row, "it is stuck, and was signed before offers were raised")
            return None
        replaced = await self._signing.replace(row, newest, len(variants))
        if isinstance(replaced, Waits):
            await self._wait(row, replaced.reason)
            return None
        return replaced

    # Finality

    async def _settle(self, row: TransactionRecord) -> TransactionRecord | None:
        """Note what came of a transaction once its block is final; if its block is gone, it is on its way again."""
        assert row.hash is not None
        receipt = await self._chain.receipt(row.hash)
        if receipt is None or receipt.block_hash != row.block_hash:
            self._metrics.befell("undone")
            _log.warning("settlement_block_undone", transaction=row.transaction_id, block=row.block_number)
            return await self._put(row, lost(row))
        finalized = await self._chain.finalized()
        if receipt.block_number > finalized.number or not await self._is_in_chain(receipt):
            return None
        if not await self._finality.is_as_known(row.chain_id):
            return None
        if row.kind is TransactionKind.FILL:
            return await self._put(row, replace(row, state=TransactionState.FINAL, waiting=None))
        if not receipt.has_succeeded:
            _log.warning("settlement_call_failed", transaction=row.transaction_id)
            return await self._put(row, _from_the_start(row))
        if row.kind is TransactionKind.ANCHOR:
            self._reached(CrashPoint.FINALITY_SEEN)
            final = await self._finality.note_anchor(row, receipt, finalized)
            self._reached(CrashPoint.FINALITY_NOTED)
            return final
        if row.kind in _FOUND_BY_THEIR_DESK:
            return await self._finality.note_discharge(row, finalized)
        if row.kind is TransactionKind.SETTLE:
            self._reached(CrashPoint.FINALITY_SEEN)
            final = await self._finality.note_settled(row, receipt, finalized)
            self._reached(CrashPoint.FINALITY_NOTED)
            return final
        booked = await self.booked(row, finalized)
        self._reached(CrashPoint.FINALITY_SEEN)
        final = await self._finality.note(row, receipt, booked, finalized)
        self._reached(CrashPoint.FINALITY_NOTED)
        return final

    async def booked(self, row: TransactionRecord, at: Block) -> BookedBatch:
        """Return where the book says a batch stands in a block."""
        return read_batch(await self._chain.call(row.receiver, batch_query(row.batch_id), at_block=at.number))

    async def _is_in_chain(self, receipt: TransactionReceipt) -> bool:
        block = await self._chain.block(receipt.block_number)
        return block is not None and block.hash == receipt.block_hash

    async def _put(self, before: TransactionRecord, after: TransactionRecord) -> TransactionRecord | None:
        """Store a step, unless somebody else made one."""
        async with self._ports.units.begin() as unit:
            if await unit.table(TRANSACTION).get_for_update(before.transaction_id) != before:
                return None
            await unit.table(TRANSACTION).put(after)
            await unit.commit()
        return after


def _trace(row: TransactionRecord) -> tuple[list[bytes | None], bytes | None]:
    """Return the topics of the event by which a contract tells what this call does, and its data; None: any."""
    if row.kind is TransactionKind.SETTLE:
        return [contracts.BATCH_SETTLED.topic, row.batch_id], None
    if row.kind is not TransactionKind.ANCHOR:
        return [contracts.BATCH_PROPOSED.topic, row.batch_id], None
    kind, party, period, root = contracts.ANCHOR.arguments(row.calldata)
    return [contracts.ROOT_ANCHORED.topic, kind, party.to_bytes(32, "big"), period.to_bytes(32, "big")], root


def lost(row: TransactionRecord) -> TransactionRecord:
    """Return a transaction whose block is gone."""
    return replace(row, state=TransactionState.SENT, block_number=None, block_hash=None, gas_used=None)


def _from_the_start(row: TransactionRecord) -> TransactionRecord:
    """Return a transaction that needs another nonce."""
    return replace(lost(row), state=TransactionState.QUEUED, nonce=None, raw=None, hash=None)


def error_name(data: bytes) -> str:
    """Return what the contracts call an error, or its bytes."""
    known = (each for each in vars(contracts).values() if isinstance(each, Function))
    names = [each.signature.partition("(")[0] for each in known if each.selector == data[: len(each.selector)]]
    return names[0] if names else f"0x{data.hex()}"
