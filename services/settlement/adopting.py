"""Adopt what the chain has and the rows do not: a database that was restored is older than the chain it settled on.

Before anything is closed, opened or proposed, a process that begins to send looks at the chain. An agreement that is
open there is taken over under its name in the book; one opened anew would count from 1 again, and its CDRs would be
settled twice. A batch that stands there and not here is rebuilt: its statements are made again of the CDRs that wait,
and adopted when they give the very hash that was signed. While CDRs of it are missing its pairs are held, with an
alarm, until they have come in again. What is in a confidential batch its call hides: of one that is not here, all pairs
are held that may be in it, until an operator has looked (`missing_batches`). Registrations are looked up by `opening`,
nonces by `signing`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from emobility.domain.agreement import SettlementMode
from emobility.domain.batch import contracts
from emobility.domain.batch.calls import OpenedAgreement, agreement_query, read_agreement, read_opening, read_proposal
from emobility.domain.batch.statement import BookedStatement, pairs_hash
from emobility.domain.batch.typed_data import number_in
from emobility.domain.errors import MalformedInput
from emobility.domain.identifiers import PartyId
from emobility.ports.chain import CallReverted, ChainTransaction, Log
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from services.settlement.access import ChainAccess, DeployedBook
from services.settlement.batching import PAIRS_BYTES, proposal_id
from services.settlement.closing import Closing, leaves_of, name_of
from services.settlement.confidential_batches import digest_of_net, nets_of
from services.settlement.confidential_records import (
    CONFIDENTIAL_BATCH,
    CONFIDENTIAL_BOOK,
    PARTY_NET,
    ConfidentialBatchState,
)
from services.settlement.intake import PairKey
from services.settlement.metrics import SettlementMetrics
from services.settlement.missing_batches import MissingBatch, MissingBatches, Pair
from services.settlement.opening import BOOK_MODES, DAY_S
from services.settlement.records import (
    ACCEPTANCE,
    AGREEMENT,
    BATCH,
    CHAIN,
    OPENING,
    PARTY,
    STATEMENT,
    TRANSACTION,
    AcceptanceRecord,
    BatchRecord,
    BatchState,
    LeafRecord,
    Opening,
    StatementRecord,
    StatementState,
    TransactionKind,
    TransactionRecord,
    TransactionState,
)
from services.settlement.restating import Restating, awaits_word

LOOK_EVERY_S: Final = 2.0
"""Between two looks at the chain while something is missing."""
LOGS_PER_BLOCK_MAX: Final = 10_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
BEHIND: Final = "behind_chain"
"""Reason of `settlement_sending_held` while statements on the chain can't be made of our CDRs."""

_log = structlog.get_logger(__name__)


class Missing(Exception):
    """A batch on the chain can't be made of our rows yet."""

    def __init__(self, pairs: set[PairKey], reason: str) -> None:
        self.pairs = pairs
        super().__init__(reason)


@dataclass
class Adopting:
    """Looks at the chain for what these rows lack."""

    ports: Ports
    access: ChainAccess
    closing: Closing
    metrics: SettlementMetrics
    restating: Restating
    missing: MissingBatches = field(init=False)
    _looked_for: set[tuple[PartyId, str, int]] = field(default_factory=set)
    _final_openings: dict[bytes, tuple[int, tuple[OpenedAgreement, ...]]] = field(default_factory=dict)
    _has_caught_up: bool = False
    _looks_at_s: float = 0.0

    def __post_init__(self) -> None:
        self.missing = MissingBatches(self.ports)

    async def advance(self) -> int:
        """Adopt what is there; return how much. Pairs of which something is missing are held meanwhile.

        Raises:
            ChainUnavailable: the chain does not answer; nothing may be closed yet.
        """
        adopted = await self._adopt_openings()
        now_s = self.ports.timer.monotonic_s()
        if self._has_caught_up or now_s < self._looks_at_s:
            return adopted
        self._looks_at_s = now_s + LOOK_EVERY_S
        held: set[PairKey] = set()
        for currency, deployed in await self._books():
            adopted += await self._adopt_batches(currency, deployed, held)
        held |= await self._overtaken() | await self._in_unknown_batches()
        if held != self.closing.held:
            self.metrics.held(BEHIND, is_held=bool(held))
            for cpo_id, agreement_id in sorted(held):
                _log.error("settlement_behind_its_chain", cpo=cpo_id.code, agreement=agreement_id)
        self.closing.held = held
        self.closing.chain_seen.set()
        self._has_caught_up = not held
        if self._has_caught_up:
            await self._remember()
        return adopted

    async def _remember(self) -> None:
        """Store how far the chain was looked through, for the next process."""
        finalized, chain_id = await self.access.chain.finalized(), await self.access.chain.chain_id()
        async with self.ports.units.begin() as unit:
            seen = await unit.table(CHAIN).get_for_update(chain_id)
            if seen is not None:
                await unit.table(CHAIN).put(replace(seen, looked_to=finalized.number))
                await unit.commit()

    async def _books(self) -> Sequence[tuple[str, DeployedBook]]:
        async with self.ports.units.begin() as unit:
            currencies = {row[0] for row in await unit.table(OPENING).distinct(("currency",))}
        found = [(each, await self.access.books.book_of(each)) for each in sorted(currencies)]
        return [(currency, book) for currency, book in found if book is not None]

    # Agreements

    async def _adopt_openings(self) -> int:
        """Take over agreements that are open in a book already, each looked for once."""
        async with self.ports.units.begin() as unit:
            unopened = await unit.table(OPENING).select({"book_agreement": None, "mode": tuple(BOOK_MODES)})
        adopted = 0
        opened: dict[str, list[OpenedAgreement]] = {}
        for each in unopened:
            name = (each.cpo_id, each.agreement_id, each.version)
            deployed = None if name in self._looked_for else await self.access.books.book_of(each.currency)
            if deployed is None:
                continue
            if each.currency not in opened:
                opened[each.currency] = await self._opened(deployed)
            adopted += await self._adopt_opening(opened[each.currency], each)
            self._looked_for.add(name)
        return adopted

    async def _opened(self, deployed: DeployedBook) -> list[OpenedAgreement]:
        """Return what was opened in a book, the newest first; blocks that are final are asked for once."""
        address, chain = deployed.book.address, self.access.chain
        final, head = (await chain.finalized()).number, (await chain.head()).number
        first, known = self._final_openings.get(address, (deployed.since_block, ()))
        if final >= first:
            known = (*known, *await self._openings_in(address, first, final))
            self._final_openings[address] = final + 1, known
        newer = await self._openings_in(address, max(first, final + 1), head)
        return [*reversed(newer), *reversed(known)]

    async def _openings_in(self, book: bytes, first: int, last: int) -> list[OpenedAgreement]:
        logs = await self.access.logs(book, [contracts.AGREEMENT_OPENED.topic], first=first, last=last)
        return [read_opening(log.topics, log.data) for log in logs]

    async def _adopt_opening(self, opened: Sequence[OpenedAgreement], opening: Opening) -> int:
        term_s = opening.payment_terms_d * DAY_S
        wanted = opening.document, BOOK_MODES[opening.mode], opening.credit_limit_e4, term_s
        agreement = next((each.agreement for each in opened if each.terms == wanted), None)
        if agreement is None:
            return 0
        async with self.ports.units.begin() as unit:
            key = (opening.cpo_id, opening.agreement_id, opening.version)
            if await unit.table(OPENING).get_for_update(*key) != opening:
                return 0
            taken_over = replace(opening, book_agreement=agreement, number=number_in(agreement), waiting=None)
            await unit.table(OPENING).put(taken_over)
            await unit.commit()
        _log.warning("settlement_agreement_adopted", cpo=opening.cpo_id.code, agreement=opening.agreement_id)
        self.metrics.befell("agreement_adopted")
        return 1

    # Batches

    async def _unseen_blocks(self, chain_id: int) -> tuple[int, int]:
        """Return the first block of which our rows may lack something, and the youngest."""
        async with self.ports.units.begin() as unit:
            seen = await unit.table(CHAIN).get(chain_id)
        head = (await self.access.chain.head()).number
        return 0 if seen is None else min(seen.looked_to, head), head

    async def _adopt_batches(self, currency: str, deployed: DeployedBook, held: set[PairKey]) -> int:
        """Adopt the batches of a book that were proposed since our rows saw its chain last."""
        book = deployed.book
        since, head = await self._unseen_blocks(book.chain_id)
        adopted = 0
        for log in await self.access.logs(book.address, [contracts.BATCH_PROPOSED.topic], first=since, last=head):
            sent = await self.access.chain.transaction(log.transaction_hash)
            try:
                adopted += 0 if sent is None else await self._adopt(currency, deployed, log, sent, held)
            except Missing as missing:
                held |= missing.pairs
                _log.error("settlement_batch_not_adopted", batch=log.topics[1].hex(), reason=str(missing))
        return adopted

    async def _adopt(
        self, currency: str, deployed: DeployedBook, log: Log, sent: ChainTransaction, held: set[PairKey]
    ) -> int:
        """Make a batch's rows of the call that proposed it; one that collects signatures here goes on there.

        Raises:
            Missing: it can't be made of our rows, or something before it of one of its pairs can't.
        """
        try:
            proposal = read_proposal(sent.calldata)
            _, _, given = contracts.PROPOSE.arguments(sent.calldata)
        except MalformedInput:
            return 0  # another contract called the book, which we never do
        async with self.ports.units.begin() as unit:
            known = await unit.table(BATCH).get_for_update(proposal.batch_id)
            if known is not None and known.state is not BatchState.COLLECTING:
                return 0
            openings = {
                each.book_agreement: each
                for statement in proposal.statements
                # Each currency's book counts agreements from 0.
                for each in await unit.table(OPENING).select(
                    {"currency": currency, "book_agreement": statement.agreement}
                )
            }
            if not openings:
                return 0  # somebody else's
            pairs = {(each.cpo_id, each.agreement_id) for each in openings.values()}
            if pairs & held:
                raise Missing(pairs, "what was proposed before it is not here")
            if len(openings) < len(proposal.statements):
                raise Missing(pairs, "it has agreements that are not here")
            statements = [
                await self._statement(unit, openings[each.agreement], each, pairs, known)
                for each in proposal.statements
            ]
            batch = self._batch(deployed, proposal.batch_id, statements, pairs_hash(proposal.statements))
            await unit.table(BATCH).put(batch)
            for position, record in enumerate(statements):
                proposed = replace(
                    record,
                    state=StatementState.PROPOSED,
                    batch_id=batch.batch_id,
                    position=position,
                    waiting="the chain",
                )
                await unit.table(STATEMENT).put(proposed)
            await self._accept(unit, batch, given)
            after = timedelta(microseconds=log.block_number * LOGS_PER_BLOCK_MAX + log.index)
            await unit.table(TRANSACTION).put(self._transaction(batch, log, sent, after=after))
            await unit.commit()
        _log.warning("settlement_batch_adopted", batch=batch.batch_id.hex(), statements=len(statements))
        self.metrics.befell("batch_adopted")
        return 1

    async def _statement(
        self,
        unit: UnitOfWork,
        opening: Opening,
        booked: BookedStatement,
        pairs: set[PairKey],
        batch: BatchRecord | None,
    ) -> StatementRecord:
        """Return our row of a statement on the chain, made of the CDRs that wait. Raises `Missing`."""
        key = (opening.cpo_id, opening.agreement_id)
        known = await unit.table(STATEMENT).get_for_update(*key, opening.version, booked.sequence)
        its_batches = (None, None if batch is None else batch.batch_id)
        if known is not None and known.statement_hash == booked.struct_hash and known.batch_id in its_batches:
            return known
        agreement = await unit.table(AGREEMENT).get_for_update(*key)
        freed: list[LeafRecord] = []
        taken_out = known
        if known is not None and awaits_word(known):
            freed = await self.restating.make_way(unit, known)  # its parties said by another statement what they hold
            known = await unit.table(STATEMENT).get_for_update(*key, opening.version, booked.sequence)
        newest = await unit.table(OPENING).get_for_update(*key, opening.version)
        name = f"statement {booked.sequence} of {key[0]}/{key[1]}"
        if known is not None or agreement is None or newest is None or newest.last_sequence != booked.sequence - 1:
            raise Missing(pairs, f"{name} is another one here, or out of turn")
        made = await self.closing.adopt(unit, agreement, newest, booked)
        if made is None:
            raise Missing(pairs, f"{name} has CDRs that are not here")
        if taken_out is not None:
            stated = {row.cdr_id for row in await leaves_of(unit, made)}
            await self.restating.hold(unit, taken_out, [row for row in freed if row.cdr_id not in stated])
        return made

    def _batch(
        self, deployed: DeployedBook, batch_id: bytes, statements: Sequence[StatementRecord], bound: bytes
    ) -> BatchRecord:
        return BatchRecord(
            batch_id=batch_id,
            currency=statements[0].currency,
            chain_id=deployed.book.chain_id,
            book=deployed.book.address,
            pairs_hash=bound,
            statements=tuple(map(name_of, statements)),
            state=BatchState.SENDING,
            waiting=None,
            proposed_in=None,
            formed_at=self.ports.clock.now(),
        )

    async def _accept(
        self, unit: UnitOfWork, batch: BatchRecord, given: Sequence[tuple[int, int, tuple[bytes, bytes]]]
    ) -> None:
        """Keep the signatures that the call brought."""
        parties = {each.number: each.party_id for each in await unit.table(PARTY).select()}
        for number, pairs, halves in given:
            if number in parties:
                acceptance = AcceptanceRecord(
                    batch_id=batch.batch_id,
                    party_id=parties[number],
                    number=number,
                    pairs=pairs.to_bytes(PAIRS_BYTES, "big"),
                    signature=b"".join(halves),
                    signed_at=_EPOCH,  # before the proposal that brought it; when exactly is lost
                )
                await unit.table(ACCEPTANCE).put(acceptance)

    def _transaction(
        self, batch: BatchRecord, log: Log, sent: ChainTransaction, *, after: timedelta
    ) -> TransactionRecord:
        """Return the proposal on its way: `sending` follows it to its block, and has it noted as final.

        `after` keeps the chain's order, in which a pair's statements became final.
        """
        return TransactionRecord(
            transaction_id=proposal_id(batch.batch_id),
            kind=TransactionKind.PROPOSE,
            batch_id=batch.batch_id,
            chain_id=batch.chain_id,
            account=sent.sender,
            receiver=batch.book,
            calldata=sent.calldata,
            state=TransactionState.SENT,
            hash=log.transaction_hash,
            queued_at=_EPOCH + after,
        )

    async def _overtaken(self) -> set[PairKey]:
        """Return the pairs whose book has final statements that we do not know at all."""
        async with self.ports.units.begin() as unit:
            openings = [
                each
                for each in await unit.table(OPENING).select()
                if each.book_agreement is not None and each.mode is not SettlementMode.CONFIDENTIAL
            ]
        overtaken: set[PairKey] = set()
        for each in openings:
            deployed = await self.access.books.book_of(each.currency)
            if deployed is None or each.book_agreement is None:
                continue
            try:
                answer = await self.access.chain.call(deployed.book.address, agreement_query(each.book_agreement))
            except CallReverted:
                continue  # a chain that lost blocks may lack the agreement
            if read_agreement(answer).last_sequence > each.last_sequence:
                overtaken.add((each.cpo_id, each.agreement_id))
        return overtaken

    # Confidential batches

    async def _in_unknown_batches(self) -> set[PairKey]:
        """Return the pairs that may be in a confidential batch which stands on the chain and not here."""
        chain_id = await self.access.chain.chain_id()
        since, head = await self._unseen_blocks(chain_id)
        async with self.ports.units.begin() as unit:
            books = await unit.table(CONFIDENTIAL_BOOK).select({"chain_id": chain_id}, order_by=("currency",))
        found: dict[bytes, MissingBatch] = {}
        for book in books:
            for log in await self.access.logs(book.book, [contracts.BATCH_SETTLED.topic], first=since, last=head):
                call = _settling(await self.access.chain.transaction(log.transaction_hash))
                if await self._is_known(log.topics[1], call):
                    continue
                pairs = await self._confidential_pairs(book.currency, None if call is None else set(call.nets))
                found[log.topics[1]] = MissingBatch(
                    chain_id=chain_id,
                    batch_id=log.topics[1],
                    currency=book.currency,
                    transaction=log.transaction_hash,
                    hashes=b"" if call is None else b"".join(call.hashes),
                    pairs=tuple(Pair(cpo_id=cpo_id, agreement_id=agreement_id) for cpo_id, agreement_id in pairs),
                    found_at=self.ports.clock.now(),
                    word=None,
                )
        held = [each for each in await self.missing.note(chain_id, found) if each.word is None]
        for each in held:
            _log.error("settlement_batch_not_adopted", batch=each.batch_id.hex(), reason="its pairs are hidden")
        return {(pair.cpo_id, pair.agreement_id) for each in held for pair in each.pairs}

    async def _is_known(self, batch_id: bytes, call: _Settling | None) -> bool:
        """Tell whether a batch that stands on the chain becomes final here, too: once all signed, it is adopted.

        Signatures that came after the copy are those of its call.
        """
        async with self.ports.units.begin() as unit:
            batch = await unit.table(CONFIDENTIAL_BATCH).get_for_update(batch_id)
            if batch is None or batch.state is ConfidentialBatchState.ABANDONED:
                return False
            if batch.state is not ConfidentialBatchState.COLLECTING:
                return True
            nets = await nets_of(unit, batch_id)
            unsigned = [each for each in nets if each.signature is None]
            if not unsigned:
                return True
            if call is None or {each.number: each.net_e4 for each in nets} != call.amounts_e4:
                return False
            for each in unsigned:
                signature = call.nets[each.number][1]
                signer = self.access.recovered_address(digest_of_net(batch, each), signature)
                await unit.table(PARTY_NET).put(replace(each, signature=signature, signer=signer))
            await unit.table(CONFIDENTIAL_BATCH).put(replace(batch, waiting=None))
            await unit.commit()
        return True

    async def _confidential_pairs(self, currency: str, numbers: Collection[int] | None) -> set[PairKey]:
        """Return the pairs both of whose parties are among these, or not known to be others; None: all pairs."""
        async with self.ports.units.begin() as unit:
            where = {"currency": currency, "mode": SettlementMode.CONFIDENTIAL}
            openings = await unit.table(OPENING).select(where)
            known = {each.party_id: each.number for each in await unit.table(PARTY).select()}

        def may_be_in(party_id: PartyId) -> bool:
            number = known.get(party_id)
            return numbers is None or number is None or number in numbers

        return {
            (each.cpo_id, each.agreement_id) for each in openings if may_be_in(each.cpo_id) and may_be_in(each.emsp_id)
        }


@dataclass(frozen=True, slots=True)
class _Settling:
    """What a call that settles a confidential batch says.

    Attributes:
        hashes: What it posts.
        nets: Net in ten-thousandths and signature of each party, by its number.
    """

    hashes: tuple[bytes, ...]
    nets: dict[int, tuple[int, bytes]]

    @property
    def amounts_e4(self) -> dict[int, int]:
        """What each party gets, by its number."""
        return {number: net_e4 for number, (net_e4, _) in self.nets.items()}


def _settling(sent: ChainTransaction | None) -> _Settling | None:
    """Read a call that settles a batch; None: it can't be read."""
    if sent is None:
        return None
    try:
        _, hashes, nets = contracts.SETTLE.arguments(sent.calldata)
    except MalformedInput:
        return None  # another contract called the book
    return _Settling(tuple(hashes), {number: (net_e4, b"".join(halves)) for number, net_e4, halves in nets})
