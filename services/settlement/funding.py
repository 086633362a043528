"""Make final what is in the book and lacked cover, a signature or the end of its window.

A look at the chain costs nothing, a call in vain costs gas: so a call is made when it will succeed.

Anyone may call `fund`. What somebody else made final that way is called for once more: the call changes nothing, and
once it is final itself, what the book says is noted as after any other.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from emobility.domain.agreement import SettlementMode
from emobility.domain.batch import contracts
from emobility.domain.batch.calls import (
    AgreementState,
    accept_call,
    agreement_query,
    batch_query,
    fund_call,
    read_agreement,
    read_batch,
)
from emobility.domain.identifiers import PartyId
from emobility.ports.chain import CallReverted
from emobility.ports.ports import Ports
from services.settlement.access import ChainAccess, DeployedBook
from services.settlement.batching import acceptances_of, queued, statements_of, words_of
from services.settlement.closing import pair_statement
from services.settlement.records import (
    BATCH,
    IN_FLIGHT,
    OPENING,
    PARTY,
    STATEMENT,
    TRANSACTION,
    Opening,
    StatementRecord,
    StatementState,
    TransactionKind,
)
from services.settlement.windows import TRY_AGAIN_AFTER, has_ripened, stage_of

WAITING: Final = (StatementState.UNFUNDED, StatementState.RIPENING, StatementState.CHALLENGED)
"""Of statements in the book, those that a call can make final."""


class Funding:
    """Queues `fund` or `accept` for batches in which a pair can become final by now."""

    def __init__(self, ports: Ports, access: ChainAccess) -> None:
        self._ports = ports
        self._access = access

    async def advance(self) -> int:
        """Queue what can succeed now; return how many calls. Raises `ChainUnavailable`."""
        async with self._ports.units.begin() as unit:
            waiting = await unit.table(STATEMENT).select({"state": WAITING})
        kinds: dict[bytes, TransactionKind] = {}
        for each in waiting:
            kind = await self._call_for(each)
            if (
                kind is not None
                and each.batch_id is not None
                and kinds.get(each.batch_id) is not TransactionKind.ACCEPT
            ):
                kinds[each.batch_id] = kind
        return sum([await self._queue(batch_id, kind) for batch_id, kind in sorted(kinds.items())])

    async def _call_for(self, statement: StatementRecord) -> TransactionKind | None:
        """Return the call after which a statement is final, or at least farther than it is here."""
        deployed = await self._access.books.book_of(statement.currency)
        async with self._ports.units.begin() as unit:
            opening = await unit.table(OPENING).get(statement.cpo_id, statement.agreement_id, statement.version)
            signed = set(await acceptances_of(unit, statement.batch_id or b""))
        if deployed is None or opening is None:
            return None
        chain, book = self._access.chain, deployed.book.address
        assert statement.batch_id is not None
        assert statement.position is not None
        booked, position = read_batch(await chain.call(book, batch_query(statement.batch_id))), statement.position
        stage, waiting = stage_of(booked, position)
        if stage is StatementState.FINAL:
            return TransactionKind.FUND
        if stage is not statement.state:
            await self._note(statement, stage, waiting)
        if stage is StatementState.VOID:
            return None
        if stage is not StatementState.UNFUNDED and {statement.cpo_id, statement.emsp_id} <= signed:
            return TransactionKind.ACCEPT
        now = self._ports.clock.now()
        if stage is not StatementState.UNFUNDED:
            if not has_ripened(booked, position, now):
                return None
            async with self._ports.units.begin() as unit:
                calls = await unit.table(TRANSACTION).select({"batch_id": statement.batch_id})
            if any(each.kind is TransactionKind.FUND and each.queued_at > now - TRY_AGAIN_AFTER for each in calls):
                return None
        try:
            standing = read_agreement(await chain.call(book, agreement_query(statement.book_agreement)))
        except CallReverted:
            return None  # a chain that lost blocks may lack the agreement
        # … or the statement before.
        is_next = statement.sequence == standing.last_sequence + 1
        return (
            TransactionKind.FUND if is_next and await self._is_covered(deployed, opening, statement, standing) else None
        )

    async def _note(self, statement: StatementRecord, stage: StatementState, waiting: str | None) -> None:
        """Store that somebody else moved a statement in the book."""
        async with self._ports.units.begin() as unit:
            key = (statement.cpo_id, statement.agreement_id, statement.version, statement.sequence)
            if await unit.table(STATEMENT).get_for_update(*key) == statement:
                await unit.table(STATEMENT).put(replace(statement, state=stage, waiting=waiting))
                await unit.commit()

    async def _is_covered(
        self, deployed: DeployedBook, opening: Opening, statement: StatementRecord, standing: AgreementState
    ) -> bool:
        net_e4 = statement.due_e4 - statement.credit_e4 + standing.corrected_e4
        if opening.mode is SettlementMode.PREFUNDED:
            payer = statement.emsp_id if net_e4 > 0 else statement.cpo_id
            return await self._collateral_e4(deployed, payer) >= abs(net_e4)
        return standing.owed_e4 + net_e4 <= standing.credit_limit_e4

    async def _collateral_e4(self, deployed: DeployedBook, party_id: PartyId) -> int:
        """Return a party's cover in whole ten-thousandths."""
        async with self._ports.units.begin() as unit:
            party = await unit.table(PARTY).get(party_id)
        if party is None or party.number is None:
            return 0
        chain = self._access.chain
        (units,) = contracts.FREE_OF.answer(await chain.call(deployed.vault, contracts.FREE_OF.call(party.number)))
        (per_e4,) = contracts.UNITS_PER_E4.answer(await chain.call(deployed.vault, contracts.UNITS_PER_E4.call()))
        return int(units) // int(per_e4)

    async def _queue(self, batch_id: bytes, kind: TransactionKind) -> int:
        async with self._ports.units.begin() as unit:
            batch = await unit.table(BATCH).get_for_update(batch_id)
            assert batch is not None
            calls = await unit.table(TRANSACTION).select({"batch_id": batch_id})
            if any(each.state in IN_FLIGHT for each in calls):
                return 0
            pairs = [pair_statement(each) for each in await statements_of(unit, batch)]
            calldata = fund_call(batch_id, pairs)
            if kind is TransactionKind.ACCEPT:
                calldata = accept_call(batch_id, pairs, words_of((await acceptances_of(unit, batch_id)).values()))
            row = queued(
                batch,
                kind,
                f"{kind.lower()}/{batch_id.hex()}/{len(calls)}",
                calldata,
                account=self._access.proposer.address,
                ports=self._ports,
            )
            await unit.table(TRANSACTION).put(row)
            await unit.commit()
        return 1
