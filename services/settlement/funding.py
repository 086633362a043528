"""Try again what lacks cover, once there is cover: a look at the chain costs nothing, a call in vain costs gas.

Anyone may call `fund`. What somebody else made final that way is called for once more: the call changes nothing, and
once it is final itself, what the book says is noted as after any other.
"""

from __future__ import annotations

from emobility.domain.agreement import SettlementMode
from emobility.domain.batch import contracts
from emobility.domain.batch.calls import (
    AgreementState,
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
from services.settlement.batching import queued, statements_of
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


class Funding:
    """Queues `fund` for batches in which a pair can be paid by now."""

    def __init__(self, ports: Ports, access: ChainAccess) -> None:
        self._ports = ports
        self._access = access

    async def advance(self) -> int:
        """Queue what can succeed now; return how many calls. Raises `ChainUnavailable`."""
        async with self._ports.units.begin() as unit:
            short = await unit.table(STATEMENT).select({"state": StatementState.UNFUNDED})
        covered = {each.batch_id for each in short if await self._can_be_noted(each)}
        return sum([await self._queue(batch_id) for batch_id in sorted(filter(None, covered))])

    async def _can_be_noted(self, statement: StatementRecord) -> bool:
        """Tell whether a statement is final after a call."""
        deployed = await self._access.books.book_of(statement.currency)
        async with self._ports.units.begin() as unit:
            opening = await unit.table(OPENING).get(statement.cpo_id, statement.agreement_id, statement.version)
        if deployed is None or opening is None:
            return False
        chain, book = self._access.chain, deployed.book.address
        assert statement.batch_id is not None
        assert statement.position is not None
        if read_batch(await chain.call(book, batch_query(statement.batch_id))).is_final(statement.position):
            return True
        try:
            standing = read_agreement(await chain.call(book, agreement_query(statement.book_agreement)))
        except CallReverted:
            return False  # a chain that lost blocks may lack the agreement
        # … or the statement before.
        is_next = statement.sequence == standing.last_sequence + 1
        return is_next and await self._is_covered(deployed, opening, statement, standing)

    async def _is_covered(
        self, deployed: DeployedBook, opening: Opening, statement: StatementRecord, standing: AgreementState
    ) -> bool:
        net_e4 = statement.due_e4 - statement.credit_e4
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
        (units,) = contracts.COLLATERAL_OF.answer(
            await chain.call(deployed.vault, contracts.COLLATERAL_OF.call(party.number))
        )
        (per_e4,) = contracts.UNITS_PER_E4.answer(await chain.call(deployed.vault, contracts.UNITS_PER_E4.call()))
        return int(units) // int(per_e4)

    async def _queue(self, batch_id: bytes) -> int:
        async with self._ports.units.begin() as unit:
            batch = await unit.table(BATCH).get_for_update(batch_id)
            assert batch is not None
            calls = await unit.table(TRANSACTION).select({"batch_id": batch_id})
            if any(each.state in IN_FLIGHT for each in calls):
                return 0
            calldata = fund_call(batch_id, [pair_statement(each) for each in await statements_of(unit, batch)])
            row = queued(
                batch,
                TransactionKind.FUND,
                f"fund/{batch_id.hex()}/{len(calls)}",
                calldata,
                account=self._access.proposer.address,
                ports=self._ports,
            )
            await unit.table(TRANSACTION).put(row)
            await unit.commit()
        return 1
