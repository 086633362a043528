"""Hear on the chain what is raised against parties that settle here, or by them from elsewhere; keep a row of each.

Only final blocks are listened to. How far is stored with that block's hash: where the chain has another one there, all
is heard again, and a row says what its case says then, so hearing twice is as once. Who resolves the cases of a book
the book itself tells, as it grants the role.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

import structlog

from emobility.domain.batch import contracts
from emobility.domain.batch.disputes import Case, CaseStage, CaseTold, DisputeKind, explained, read_told
from emobility.domain.errors import EmobilityError, MalformedInput, Unavailable
from emobility.domain.identifiers import PartyId
from emobility.domain.money import decimal_from_e4
from emobility.ports.chain import STRETCH_BLOCKS, Block, Log
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from services.settlement.access import ChainAccess
from services.settlement.answering import Answering, is_hosted
from services.settlement.case_leaves import FoundLeaf, Pair, find_leaf, pair_of, sides_of
from services.settlement.cases import Cases, Sight, as_it_stands, drop_moot, put_if_same, transaction_id
from services.settlement.closing import leaf_in_tree
from services.settlement.confidential_records import CONFIDENTIAL_BOOK
from services.settlement.dispute_records import (
    DISPUTE,
    HEARD,
    RESOLVER,
    DisputeRecord,
    DisputeState,
    HeardRecord,
    ResolverRecord,
)
from services.settlement.metrics import SettlementMetrics
from services.settlement.records import OPENING, TRANSACTION, TransactionState

ADDRESS_BYTES: Final = 20
UNHEARD: Final = -1
"""Before the first block."""
SEARCHED_AGAIN_MAX: Final = 100
"""Cases without a leaf that are looked at again after a block: rows that were restored may bring it late."""
_Told: TypeAlias = Mapping[DisputeKind, tuple[CaseTold, Log]]

_log = structlog.get_logger(__name__)


class Listening:
    """Follows books and their resolvers."""

    def __init__(self, ports: Ports, access: ChainAccess, metrics: SettlementMetrics, answering: Answering) -> None:
        self._ports = ports
        self._access = access
        self._chain = access.chain
        self._metrics = metrics
        self._answering = answering
        self._cases = Cases(access)
        self._heard_to: bytes | None = None
        """Final block up to which this process has heard all there is."""

    async def advance(self) -> int:
        """Hear the next blocks of each contract; return how much changed. Raises `ChainUnavailable`."""
        finalized = await self._chain.finalized()
        if finalized.hash == self._heard_to:
            return 0
        changed, is_all = 0, True
        for contract in await self._contracts():
            heard, has_caught_up = await self._hear_next(contract, finalized)
            changed, is_all = changed + heard, is_all and has_caught_up
        changed += await self._search_again()
        if is_all and not changed:  # a resolver that was just met is heard, too
            self._heard_to = finalized.hash
        return changed + (not is_all)

    async def _contracts(self) -> list[HeardRecord]:
        """Return the books of our pairs and their resolvers, as far as they were heard."""
        async with self._ports.units.begin() as unit:
            currencies = [row[0] for row in await unit.table(OPENING).distinct(("currency",))]
            hidden = await unit.table(CONFIDENTIAL_BOOK).select()
            resolvers = await unit.table(RESOLVER).select()
            known = {(each.chain_id, each.contract): each for each in await unit.table(HEARD).select()}
        found = [await self._access.books.book_of(each) for each in currencies]
        named = [
            *[
                (each.book.chain_id, each.book.address, each.book.address, currency, False)
                for currency, each in zip(currencies, found, strict=True)
                if each is not None
            ],
            *[(each.chain_id, each.book, each.book, each.currency, True) for each in hidden],
            *[
                (each.chain_id, each.resolver, each.book, each.currency, each.is_confidential)
                for each in resolvers
                if each.resolver is not None
            ],
        ]
        for chain_id, contract, book, currency, is_confidential in named:
            if (chain_id, contract) not in known:
                known[chain_id, contract] = HeardRecord(
                    chain_id=chain_id,
                    contract=contract,
                    book=book,
                    currency=currency,
                    is_confidential=is_confidential,
                    last_number=UNHEARD,
                    last_hash=b"",
                )
        return list(known.values())

    async def _hear_next(self, contract: HeardRecord, finalized: Block) -> tuple[int, bool]:
        """Hear a contract's next stretch of blocks; return how much changed, and whether that was the last."""
        first = contract.last_number + 1
        if first:
            last_heard = await self._chain.block(contract.last_number)
            if last_heard is None or last_heard.hash != contract.last_hash:
                first = 0
        last = min(first + STRETCH_BLOCKS - 1, finalized.number)
        if last < first:
            return 0, True
        end = await self._chain.block(last)
        if end is None:
            return 0, False
        topics = [contracts.ROLE_GRANTED.topic, contracts.RESOLVER_ROLE] if contract.contract == contract.book else []
        logs = await self._chain.logs(contract.contract, topics, from_block=first, to_block=last)
        if contract.contract == contract.book:
            changed = sum([await self._meet(contract, log.topics[2][-ADDRESS_BYTES:]) for log in logs])
        else:
            told = _by_case(logs)
            changed = sum([await self._hear_if_it_can(contract, case_id, told[case_id]) for case_id in told])
        async with self._ports.units.begin() as unit:
            await unit.table(HEARD).put(replace(contract, last_number=last, last_hash=end.hash))
            await unit.commit()
        return changed, last == finalized.number

    async def _meet(self, book: HeardRecord, resolver: bytes) -> int:
        """Remember who resolves a book's cases; the first one is also asked by our own parties."""
        key = (book.chain_id, book.book)
        async with self._ports.units.begin() as unit:
            known = await unit.table(RESOLVER).get_for_update(*key)
            is_met = await unit.table(HEARD).get(book.chain_id, resolver) is not None
            if is_met and known is not None and known.resolver is not None:
                return 0
            if known is None or known.resolver is None:
                met = ResolverRecord(
                    chain_id=book.chain_id,
                    book=book.book,
                    currency=book.currency,
                    is_confidential=book.is_confidential,
                    resolver=resolver,
                )
                await unit.table(RESOLVER).put(met)
            if not is_met:
                await unit.table(HEARD).put(replace(book, contract=resolver, last_number=UNHEARD, last_hash=b""))
            await unit.commit()
        return 1

    # Cases

    async def _hear_if_it_can(self, resolver: HeardRecord, case_id: bytes, told: _Told) -> int:
        """Hear of a case; one that can't be understood holds up no other."""
        try:
            return await self._hear(resolver, case_id, told)
        except Unavailable:
            raise
        except EmobilityError as error:
            rule = type(error).__name__
            _log.error("settlement_case_not_understood", case=case_id.hex(), rule=rule, reason=str(error))
            return 0

    async def _hear(self, resolver: HeardRecord, case_id: bytes, told: _Told) -> int:
        """Bring the rows of a case up to date, and make those that are missing if it is of a pair here."""
        sight = await self._cases.look(resolver.contract, case_id)
        if sight.case.stage is CaseStage.NONE:
            return 0
        async with self._ports.units.begin() as unit:
            known = {row.kind: row for row in await unit.table(DISPUTE).select({"case_id": case_id})}
        # What is being sent from here may turn out to have been raised by the other side before.
        unsure = [kind for kind in told if kind not in known or known[kind].state is DisputeState.SENDING]
        made = await self._rows(resolver, case_id, told, sight.case) if unsure else {}
        changed = 0
        async with self._ports.units.begin() as unit:
            for kind in unsure:
                row, there = made.get(kind), await unit.table(DISPUTE).get_for_update(case_id, kind)
                if row is not None and (there is None or _is_of_another(there, row)):
                    changed += await self._note(unit, row, sight, is_new=True)
            for row in await unit.table(DISPUTE).select({"case_id": case_id}):
                if row.state is not DisputeState.SENDING:  # else `disputing` looks at what it sent
                    changed += await self._note(unit, row, sight, is_new=False)
            await unit.commit()
        return changed

    async def _rows(
        self, resolver: HeardRecord, case_id: bytes, told: _Told, case: Case
    ) -> dict[DisputeKind, DisputeRecord]:
        """Return a row for each thing that was told of a case; none of a case that is nothing to us."""
        struck = next((each for each in told.values() if each[0].added_e4 is not None), None)
        sides = await sides_of(self._chain, resolver, case, struck)
        async with self._ports.units.begin() as unit:
            pair = None if sides is None else await pair_of(unit, resolver, sides)
            if pair is None:
                return {}
            net_e4 = case.net_e4 if case.claimant or struck is None else -(struck[0].added_e4 or 0)
            found = await find_leaf(unit, pair, case_id, net_e4=net_e4)
        return {
            kind: self._row(resolver, pair, case, event, found, stated_e4=net_e4) for kind, (event, _) in told.items()
        }

    async def _note(self, unit: UnitOfWork, row: DisputeRecord, sight: Sight, *, is_new: bool) -> int:
        """Store how a dispute stands, with the call that answers it; tell whether anything changed."""
        stands = await as_it_stands(unit, row, sight, now=self._ports.clock.now())
        if is_new:
            await unit.table(TRANSACTION).remove(
                transaction_id(row, row.kind.value), where={"state": TransactionState.QUEUED}
            )
            await unit.table(DISPUTE).put(stands)
            await drop_moot(unit, stands)
            self._tell(stands)
        elif stands != row:
            await put_if_same(unit, row, stands)
        return int(await self._answering.reveal(unit, stands) or is_new or stands != row)

    def _tell(self, row: DisputeRecord) -> None:
        self._metrics.heard_of(row)
        facts = {"case": row.case_id.hex(), "kind": row.kind.value, "cpo": row.cpo_id.code, "emsp": row.emsp_id.code}
        if row.cdr_id is None:
            _log.warning("settlement_case_without_leaf", **facts)
        else:
            _log.info("settlement_case_heard", **facts)

    def _row(
        self,
        resolver: HeardRecord,
        pair: Pair,
        case: Case,
        told: CaseTold,
        found: FoundLeaf | None,
        *,
        stated_e4: int,
    ) -> DisputeRecord:
        is_by_word = told.kind in {DisputeKind.WITHHELD, DisputeKind.PRICE} and case.claimant != 0
        claimant: PartyId | None = None
        if is_by_word:
            claimant = pair.emsp_id if case.is_by_msp else pair.cpo_id
        return DisputeRecord(
            case_id=told.case_id,
            kind=told.kind,
            chain_id=resolver.chain_id,
            party_id=claimant,
            cpo_id=pair.cpo_id,
            emsp_id=pair.emsp_id,
            cdr_id=None if found is None else found.leaf.cdr_id,
            statement_hash=None if found is None else found.statement.statement_hash,
            currency=resolver.currency,
            resolver=resolver.contract,
            claimed_e4=case.claimed_e4 if told.kind is DisputeKind.PRICE else None,
            state=DisputeState.OPEN,
            says=_says(told.kind, stated_e4, found, resolver.currency),
            stated_e4=stated_e4,
            deadline=None,
            corrected_e4=None,
            waiting=None,
            raised_at=self._ports.clock.now(),
            decided_at=None,
        )

    async def _search_again(self) -> int:
        """Look once more for leaves that are asked of a party here and were not found, the most urgent first."""
        async with self._ports.units.begin() as unit:
            where = {"cdr_id": None, "state": DisputeState.OPEN}
            asked = [row[0] for row in await unit.table(DISPUTE).distinct(("turn_of",), where)]
            hosted = tuple([each for each in asked if each is not None and await is_hosted(unit, each)])
            rows = await unit.table(DISPUTE).select(
                where | {"turn_of": hosted}, order_by=("deadline",), limit=SEARCHED_AGAIN_MAX
            )
        return sum([await self._search_leaf(row) for row in rows])

    async def _search_leaf(self, row: DisputeRecord) -> int:
        async with self._ports.units.begin() as unit:
            resolver = await unit.table(HEARD).get(row.chain_id, row.resolver)
        assert resolver is not None, f"case {row.case_id.hex()} was heard from nobody"
        sight = await self._cases.look(row.resolver, row.case_id)
        sides = await sides_of(self._chain, resolver, sight.case, None)
        async with self._ports.units.begin() as unit:
            pair = None if sides is None else await pair_of(unit, resolver, sides)
            found = None if pair is None else await find_leaf(unit, pair, row.case_id, net_e4=sight.case.net_e4)
            if found is None:
                return 0
            says = _says(row.kind, sight.case.net_e4, found, row.currency)
            named = replace(row, cdr_id=found.leaf.cdr_id, statement_hash=found.statement.statement_hash, says=says)
            if not await put_if_same(unit, row, named):
                return 0
            await self._answering.reveal(unit, named)
            await unit.commit()
        return 1


def _by_case(logs: Sequence[Log]) -> dict[bytes, dict[DisputeKind, tuple[CaseTold, Log]]]:
    """Return what was told of each case, the newest of a kind."""
    told: dict[bytes, dict[DisputeKind, tuple[CaseTold, Log]]] = {}
    for log in logs:
        try:
            event = read_told(log.topics, log.data)
        except (MalformedInput, ValueError):
            _log.error("settlement_event_unreadable", transaction=log.transaction_hash.hex(), index=log.index)
            continue
        if event is not None:
            told.setdefault(event.case_id, {})[event.kind] = (event, log)
    return told


def _is_of_another(known: DisputeRecord, row: DisputeRecord) -> bool:
    """Tell whether what we are about to raise was raised before by the other side, or over another amount."""
    is_same = (known.party_id, known.claimed_e4) == (row.party_id, row.claimed_e4)
    return known.state is DisputeState.SENDING and row.party_id is not None and not is_same


def _says(kind: DisputeKind, stated_e4: int, found: FoundLeaf | None, currency: str) -> str:
    if found is not None:
        return explained(kind, leaf_in_tree(found.leaf), currency=currency)
    amount = f"{abs(decimal_from_e4(stated_e4))} {currency}"
    return f"No CDR of these books is in this case, though its pair is. At stake are {amount}."
