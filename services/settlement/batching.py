"""Put closed statements into batches, have hosted parties sign them, and queue what is signed.

Statements whose parties are both hosted here are proposed together. One that somebody outside must sign is proposed
alone: it costs more gas, and nobody waits for a stranger's signature but the stranger's own partner. A statement is
proposed when the one before it is final, so a pair that lacks cover has one statement in flight, not a queue. Whoever
does not sign in the time that the agreement gives has the book's window left to object (`windows`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from emobility.domain.batch.calls import Acceptance, propose_call
from emobility.domain.batch.statement import STATEMENTS_MAX, pairs_hash
from emobility.domain.batch.trees import StatementTrees
from emobility.domain.batch.typed_data import Book, acceptance_digest, batch_id_of
from emobility.domain.errors import MalformedInput, RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from services.settlement.access import ChainAccess, DeployedBook
from services.settlement.closing import StatementDiffers, leaf_in_tree, leaves_of, name_of, pair_statement
from services.settlement.confidential_records import is_confidential
from services.settlement.crash_points import CrashPoint, Reached
from services.settlement.intake import PairKey
from services.settlement.records import (
    ACCEPTANCE,
    BATCH,
    PARTY,
    STATEMENT,
    TRANSACTION,
    AcceptanceRecord,
    BatchRecord,
    BatchState,
    SettledParty,
    SigningPolicy,
    StatementRecord,
    StatementState,
    TransactionKind,
    TransactionRecord,
)
from services.settlement.restating_records import VOIDED
from services.settlement.windows import may_go_with_one_signature

PAIRS_BYTES: Final = 32
ENDED: Final = "its parties: the agreement has ended in its book, which takes no statement of it any more"
HELD: Final = "CDRs that are not here: the chain has a statement of the pair which these rows lack"


class Batching:
    """Moves statements from CLOSED to PROPOSED."""

    def __init__(
        self,
        ports: Ports,
        access: ChainAccess,
        reached: Reached,
        held: Callable[[], Collection[PairKey]] = frozenset,
    ) -> None:
        """`held`: pairs of which the chain has statements that are not here (`adopting`)."""
        self._ports = ports
        self._access = access
        self._reached = reached
        self._held = held

    async def advance(self) -> int:
        """Form batches, sign and queue them; return how many steps were made."""
        steps = await self._form()
        async with self._ports.units.begin() as unit:
            collecting = await unit.table(BATCH).select({"state": BatchState.COLLECTING}, order_by=("formed_at",))
        for batch in collecting:
            signed = await self._sign(batch)
            if signed is not None:
                steps += signed + await self._queue(batch.batch_id)
        return steps

    async def ready(self) -> int:
        """Count what `advance` would move now, whatever it waited for when it was looked at last."""
        async with self._ports.units.begin() as unit:
            closed = await unit.table(STATEMENT).select({"state": StatementState.CLOSED, "batch_id": None})
            closed = [each for each in closed if not self._is_held(each) and not await is_confidential(unit, each)]
            collecting = await unit.table(BATCH).select({"state": BatchState.COLLECTING})
            books = {each.currency: await self._access.books.book_of(each.currency) for each in closed}
            now = self._ports.clock.now()
            moving = [each.waiting is None or await _is_signed(unit, each, now) for each in collecting]
            moving += [
                each.waiting is None or await _held_up(unit, each, books[each.currency]) is None for each in closed
            ]
        return sum(moving)

    def _is_held(self, record: StatementRecord) -> bool:
        return (record.cpo_id, record.agreement_id) in self._held()

    # Forming

    async def _form(self) -> int:
        async with self._ports.units.begin() as unit:
            waiting = await unit.table(STATEMENT).select(
                {"state": StatementState.CLOSED, "batch_id": None}, order_by=("closed_at",)
            )
            waiting = [each for each in waiting if not await is_confidential(unit, each)]
        formed = 0
        for currency in sorted({each.currency for each in waiting}):
            deployed = await self._access.books.book_of(currency)
            of_currency = [each for each in waiting if each.currency == currency]
            formed += await self._form_in(deployed, of_currency)
        return formed

    async def _form_in(self, deployed: DeployedBook | None, waiting: Sequence[StatementRecord]) -> int:
        async with self._ports.units.begin() as unit:
            ready: list[StatementRecord] = []
            for each in [await unit.table(STATEMENT).get_for_update(*key_of(each)) for each in waiting]:
                if each is None or each.batch_id is not None:
                    continue
                held_up = HELD if self._is_held(each) else await _held_up(unit, each, deployed)
                if held_up is None:
                    ready.append(each)
                elif held_up != each.waiting:
                    await unit.table(STATEMENT).put(replace(each, waiting=held_up))
            together = [each for each in ready if await _is_ours_to_sign(unit, each)]
            together.sort(key=lambda each: each.book_agreement)
            alone = [[each] for each in ready if each not in together]
            starts = range(0, len(together), STATEMENTS_MAX)
            batches = [*(together[start : start + STATEMENTS_MAX] for start in starts), *alone]
            for batch in batches:
                assert deployed is not None
                await self._enter(unit, deployed.book, batch)
            await unit.commit()
        if batches:
            self._reached(CrashPoint.BATCH_FORMED)
        return len(batches)

    async def _enter(self, unit: UnitOfWork, book: Book, statements: Sequence[StatementRecord]) -> None:
        bound = pairs_hash([pair_statement(each) for each in statements])
        batch = BatchRecord(
            batch_id=batch_id_of(book, bound),
            currency=statements[0].currency,
            chain_id=book.chain_id,
            book=book.address,
            pairs_hash=bound,
            statements=tuple(map(name_of, statements)),
            state=BatchState.COLLECTING,
            waiting=None,
            proposed_in=None,
            formed_at=self._ports.clock.now(),
        )
        await unit.table(BATCH).put(batch)
        for position, each in enumerate(statements):
            in_it = replace(each, batch_id=batch.batch_id, position=position, waiting="signatures")
            await unit.table(STATEMENT).put(in_it)

    # Signing

    async def _sign(self, batch: BatchRecord) -> int | None:
        """Sign for those that sign by themselves and have not yet; return how many did, None when one can't."""
        async with self._ports.units.begin() as unit:
            statements = await statements_of(unit, batch)
            parties = await unit.table(PARTY).select({"party_id": tuple(pairs_of(statements))})
            given = await acceptances_of(unit, batch.batch_id)
            absent = [each for each in parties if each.signs is SigningPolicy.AUTOMATIC and each.party_id not in given]
            try:
                for statement in statements if absent else ():
                    await refuse_difference(unit, statement)
            except StatementDiffers as difference:
                await self._wait(unit, batch.batch_id, str(difference))
                await unit.commit()
                return None
        for party in absent:
            if not await self._accept(batch, statements, party):
                return None
            self._reached(CrashPoint.ACCEPTANCE_STORED)
        return len(absent)

    async def _accept(self, batch: BatchRecord, statements: Sequence[StatementRecord], party: SettledParty) -> bool:
        if party.number is None:
            async with self._ports.units.begin() as unit:
                await self._wait(unit, batch.batch_id, f"{party.party_id} is not registered")
                await unit.commit()
            return False
        pairs = pairs_of(statements)[party.party_id]
        digest = acceptance_digest(
            book_of(batch), batch_id=batch.batch_id, pairs_hash=batch.pairs_hash, party=party.number, pairs=pairs
        )
        signature = await self._access.signer_of(party.party_id).sign_digest(digest)
        acceptance = AcceptanceRecord(
            batch_id=batch.batch_id,
            party_id=party.party_id,
            number=party.number,
            pairs=pairs.to_bytes(PAIRS_BYTES, "big"),
            signature=signature,
            signed_at=self._ports.clock.now(),
        )
        async with self._ports.units.begin() as unit:
            await unit.table(ACCEPTANCE).put(acceptance)
            await unit.commit()
        return True

    # Queueing

    async def _queue(self, batch_id: bytes) -> int:
        """Queue the proposal of a batch that is signed as far as it must be; else say whose signature it waits for."""
        async with self._ports.units.begin() as unit:
            batch = await unit.table(BATCH).get_for_update(batch_id)
            if batch is None or batch.state is not BatchState.COLLECTING:
                return 0
            statements = await statements_of(unit, batch)
            given = await acceptances_of(unit, batch_id)
            absent = sorted(set(pairs_of(statements)) - set(given))
            now = self._ports.clock.now()
            if absent and not await may_go_with_one_signature(unit, batch, statements, given, now):
                await self._wait(unit, batch_id, f"the signature of {', '.join(map(str, absent))}")
                await unit.commit()
                return 0
            await unit.table(TRANSACTION).put(self._proposal(batch, statements, given.values()))
            await unit.table(BATCH).put(replace(batch, state=BatchState.SENDING, waiting=None))
            for each in statements:
                await unit.table(STATEMENT).put(replace(each, state=StatementState.PROPOSED, waiting="the chain"))
            await unit.commit()
        self._reached(CrashPoint.TRANSACTION_QUEUED)
        return 1

    def _proposal(
        self, batch: BatchRecord, statements: Sequence[StatementRecord], given: Iterable[AcceptanceRecord]
    ) -> TransactionRecord:
        calldata = propose_call(batch.batch_id, [pair_statement(each) for each in statements], words_of(given))
        return queued(
            batch,
            TransactionKind.PROPOSE,
            proposal_id(batch.batch_id),
            calldata,
            account=self._access.proposer.address,
            ports=self._ports,
        )

    async def _wait(self, unit: UnitOfWork, batch_id: bytes, reason: str) -> None:
        """Say what a batch that collects signatures waits for."""
        batch = await unit.table(BATCH).get_for_update(batch_id)
        if batch is None or batch.state is not BatchState.COLLECTING or batch.waiting == reason:
            return
        await unit.table(BATCH).put(replace(batch, waiting=reason))
        for each in await statements_of(unit, batch):
            await unit.table(STATEMENT).put(replace(each, waiting=reason))


def queued(
    batch: BatchRecord, kind: TransactionKind, transaction_id: str, calldata: bytes, *, account: bytes, ports: Ports
) -> TransactionRecord:
    """Return a call of the batch's book, to be sent."""
    return TransactionRecord(
        transaction_id=transaction_id,
        kind=kind,
        batch_id=batch.batch_id,
        chain_id=batch.chain_id,
        account=account,
        receiver=batch.book,
        calldata=calldata,
        queued_at=ports.clock.now(),
    )


def words_of(given: Iterable[AcceptanceRecord]) -> list[Acceptance]:
    """Return acceptances as they stand in a call, by party number."""
    return [
        Acceptance(party=each.number, pairs=int.from_bytes(each.pairs, "big"), signature=each.signature)
        for each in sorted(given, key=lambda each: each.number)
    ]


def proposal_id(batch_id: bytes) -> str:
    """Return the id of the transaction that proposes a batch."""
    return f"propose/{batch_id.hex()}"


def book_of(batch: BatchRecord) -> Book:
    """Return the book that a batch is proposed in."""
    return Book(chain_id=batch.chain_id, address=batch.book)


def pairs_of(statements: Sequence[StatementRecord]) -> dict[PartyId, int]:
    """Return each party of a batch and the positions of its statements, as bits."""
    pairs: dict[PartyId, int] = defaultdict(int)
    for position, each in enumerate(statements):
        pairs[each.cpo_id] |= 1 << position
        pairs[each.emsp_id] |= 1 << position
    return dict(pairs)


async def statements_of(unit: UnitOfWork, batch: BatchRecord) -> list[StatementRecord]:
    """Return a batch's statements by position, with those that a verdict took out, which its calls go on naming."""
    rows = await unit.table(STATEMENT).select({"batch_id": batch.batch_id})
    rows += [each.statement for each in await unit.table(VOIDED).select({"batch_id": batch.batch_id})]
    return sorted(rows, key=lambda each: each.position or 0)


def key_of(record: StatementRecord) -> tuple[PartyId, str, int, int]:
    """Return a statement's key."""
    return record.cpo_id, record.agreement_id, record.version, record.sequence


async def acceptances_of(unit: UnitOfWork, batch_id: bytes) -> dict[PartyId, AcceptanceRecord]:
    """Return who accepted a batch's statements."""
    return {each.party_id: each for each in await unit.table(ACCEPTANCE).select({"batch_id": batch_id})}


async def refuse_difference(unit: UnitOfWork, record: StatementRecord) -> None:
    """Let a statement pass whose CDRs are still those that it binds. Raises `StatementDiffers`."""
    try:
        trees = StatementTrees([leaf_in_tree(row) for row in await leaves_of(unit, record)])
    except (MalformedInput, RuleBroken) as error:  # they make no tree at all
        raise StatementDiffers(name_of(record)) from error
    found = (trees.evidence_root, trees.sum_root.hash, trees.sum_root.due_e4, trees.sum_root.credit_e4, trees.count)
    if found != (record.evidence_root, record.sum_root, record.due_e4, record.credit_e4, record.count):
        raise StatementDiffers(name_of(record))


async def _is_signed(unit: UnitOfWork, batch: BatchRecord, now: datetime) -> bool:
    """Tell whether all parties of a batch accepted it, or enough of them after the time that they had."""
    statements, given = await statements_of(unit, batch), await acceptances_of(unit, batch.batch_id)
    return set(pairs_of(statements)) <= set(given) or await may_go_with_one_signature(
        unit, batch, statements, given, now
    )


async def _held_up(unit: UnitOfWork, record: StatementRecord, deployed: DeployedBook | None) -> str | None:
    """Return why a statement can't be proposed yet."""
    if record.waiting == ENDED:
        return ENDED
    if deployed is None:
        return "no book settles this currency"
    if record.sequence == 1:
        return None
    key = (record.cpo_id, record.agreement_id, record.version, record.sequence - 1)
    previous = await unit.table(STATEMENT).get(*key)
    if previous is not None and previous.state is StatementState.FINAL:
        return None
    return f"statement {record.sequence - 1} is not final"


async def _is_ours_to_sign(unit: UnitOfWork, record: StatementRecord) -> bool:
    """Tell whether both parties sign by themselves."""
    parties = await unit.table(PARTY).select({"party_id": (record.cpo_id, record.emsp_id)})
    return len(parties) == 2 and all(each.signs is SigningPolicy.AUTOMATIC for each in parties)
