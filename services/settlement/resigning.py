"""Take back calls that the book refuses for good: else those who could go on would wait with them for ever.

The book takes the signer that the registry holds when the call runs. A proposal that it refuses for that goes back to
where signatures are collected, without those of outside parties that count no more. A call that brings a late
signature is given up: the window goes on, and whoever signed may sign again. A batch with a statement whose agreement
has ended is taken apart: that one waits, and the others go into another batch.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Final

import structlog

from emobility.domain.batch import contracts
from emobility.domain.batch.calls import REGISTRY_QUERY, agreement_query, read_agreement, read_registry
from emobility.domain.batch.typed_data import acceptance_digest
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from services.settlement.access import ChainAccess
from services.settlement.batching import ENDED, acceptances_of, book_of, key_of, proposal_id, statements_of
from services.settlement.records import (
    ACCEPTANCE,
    BATCH,
    PARTY,
    STATEMENT,
    TRANSACTION,
    AcceptanceRecord,
    BatchRecord,
    BatchState,
    SigningPolicy,
    StatementRecord,
    StatementState,
    TransactionKind,
    TransactionRecord,
    TransactionState,
)
from services.settlement.sending import REFUSES, error_name

OTHER_SIGNER: Final = f"{REFUSES}{error_name(contracts.BOOK_WRONG_SIGNER.selector)}"
"""What a call waits for that brings a signature of no registered key."""
AGREEMENT_ENDED: Final = f"{REFUSES}{error_name(contracts.HAS_ENDED.selector)}"
"""What a proposal waits for of which one statement is under an agreement that has ended."""

_log = structlog.get_logger(__name__)


class Resigning:
    """Takes back what is refused for a signature that counts no more."""

    def __init__(self, ports: Ports, access: ChainAccess) -> None:
        self._ports = ports
        self._access = access

    async def advance(self) -> int:
        """Take back each such call; return how many. Raises `ChainUnavailable`."""
        refused = {"state": TransactionState.QUEUED, "waiting": OTHER_SIGNER}
        async with self._ports.units.begin() as unit:
            rows = await unit.table(TRANSACTION).select(refused | {"kind": TransactionKind.PROPOSE})
            rows += await unit.table(TRANSACTION).select(refused | {"kind": TransactionKind.ACCEPT})
            ended = await unit.table(TRANSACTION).select(
                {"state": TransactionState.QUEUED, "kind": TransactionKind.PROPOSE, "waiting": AGREEMENT_ENDED}
            )
        return sum([await self._take_back(row) for row in rows]) + sum([await self._take_apart(row) for row in ended])

    async def _take_back(self, row: TransactionRecord) -> int:
        async with self._ports.units.begin() as unit:
            batch = await unit.table(BATCH).get(row.batch_id)
            given = list((await acceptances_of(unit, row.batch_id)).values())
            proposal = await unit.table(TRANSACTION).get(proposal_id(row.batch_id))
            hosted = await unit.table(PARTY).select({"signs": SigningPolicy.AUTOMATIC})
        assert batch is not None, f"transaction {row.transaction_id} has no batch"
        if row.kind is TransactionKind.PROPOSE and batch.state is not BatchState.SENDING:
            return 0  # the chain lost what was final before: its words are not asked for again
        if row.kind is TransactionKind.ACCEPT:  # what the proposal brought is in the book
            dropped = [each for each in given if proposal is not None and each.signature not in proposal.calldata]
        else:
            ours = {each.party_id for each in hosted}  # another key of ours there is not: an operator looks
            dropped = [each for each in given if each.party_id not in ours and not await self._counts(batch, each)]
        if not dropped:
            return 0
        return await self._drop(row, dropped)

    async def _take_apart(self, row: TransactionRecord) -> int:
        async with self._ports.units.begin() as unit:
            batch = await unit.table(BATCH).get(row.batch_id)
            statements = [] if batch is None else await statements_of(unit, batch)
        if batch is None or batch.state is not BatchState.SENDING:
            return 0  # the chain lost what was final before
        asked = {agreement_query(each.book_agreement) for each in statements}
        states = {each: read_agreement(await self._access.chain.call(batch.book, each)) for each in sorted(asked)}
        if not any(state.has_ended for state in states.values()):
            return 0
        async with self._ports.units.begin() as unit:
            queued = {"state": TransactionState.QUEUED}
            if not await unit.table(TRANSACTION).delete(row.transaction_id, where=queued):
                return 0
            for given in (await acceptances_of(unit, row.batch_id)).values():
                await unit.table(ACCEPTANCE).remove(given.batch_id, given.party_id)
            for each in await _in_batch(unit, row.batch_id):
                waiting = ENDED if states[agreement_query(each.book_agreement)].has_ended else None
                left = replace(each, state=StatementState.CLOSED, batch_id=None, position=None, waiting=waiting)
                await unit.table(STATEMENT).put(left)
            await unit.table(BATCH).remove(row.batch_id)
            await unit.commit()
        _log.error("settlement_agreement_has_ended", batch=row.batch_id.hex(), statements=len(statements))
        return 1

    async def _counts(self, batch: BatchRecord, given: AcceptanceRecord) -> bool:
        """Tell whether an acceptance is by the key that the registry has now."""
        chain = self._access.chain
        registry = read_registry(await chain.call(batch.book, REGISTRY_QUERY))
        (signer,) = contracts.SIGNER_OF.answer(await chain.call(registry, contracts.SIGNER_OF.call(given.number)))
        digest = acceptance_digest(
            book_of(batch),
            batch_id=batch.batch_id,
            pairs_hash=batch.pairs_hash,
            party=given.number,
            pairs=int.from_bytes(given.pairs, "big"),
        )
        return bool(self._access.recovered_address(digest, given.signature) == signer)

    async def _drop(self, row: TransactionRecord, dropped: Collection[AcceptanceRecord]) -> int:
        async with self._ports.units.begin() as unit:
            batch = await unit.table(BATCH).get_for_update(row.batch_id)
            queued = {"state": TransactionState.QUEUED}
            if batch is None or not await unit.table(TRANSACTION).delete(row.transaction_id, where=queued):
                return 0
            for each in dropped:
                await unit.table(ACCEPTANCE).remove(each.batch_id, each.party_id, where={"signature": each.signature})
            if row.kind is TransactionKind.PROPOSE:
                await unit.table(BATCH).put(replace(batch, state=BatchState.COLLECTING, waiting=None))
                for statement in await _in_batch(unit, batch.batch_id):
                    collecting = replace(statement, state=StatementState.CLOSED, waiting="signatures")
                    await unit.table(STATEMENT).put(collecting)
            await unit.commit()
        for each in dropped:
            _log.warning("settlement_signature_outdated", party=each.party_id.code, batch=each.batch_id.hex())
        return 1


async def _in_batch(unit: UnitOfWork, batch_id: bytes) -> list[StatementRecord]:
    """Return the living statements of a batch, locked."""
    found = await unit.table(STATEMENT).select({"batch_id": batch_id})
    locked = [await unit.table(STATEMENT).get_for_update(*key_of(each)) for each in found]
    return [each for each in locked if each is not None and each.batch_id == batch_id]
