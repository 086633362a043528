"""State anew what a verdict took out of a batch: the statement's other CDRs under its number, which is free again.

A proof names the CDR that it is about: that one is held, and the rest is stated again by itself once the verdict is
final. A verdict that names none leaves the whole statement to its CPO's word. What is held waits for its parties: for a
credit, which ends it, or for the CPO's word, which puts it into the next statement. All of it happens in one unit, and
what the statement was is kept, so nothing is stated twice, whatever dies in between.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog

from emobility.domain.batch import contracts
from emobility.domain.batch.calls import agreement_query, batch_query, read_agreement, read_batch
from emobility.domain.batch.disputes import DisputeKind, case_id, read_voided
from emobility.domain.errors import EmobilityError, RuleBroken, Unavailable
from emobility.domain.identifiers import PartyId
from emobility.ports.chain import Block, CallReverted
from emobility.ports.ports import Ports
from emobility.ports.stores import SELECT_ROWS_MAX
from emobility.ports.unit_of_work import UnitOfWork
from services.settlement.acceptances import statement_of_party
from services.settlement.access import ChainAccess
from services.settlement.batching import key_of, proposal_id
from services.settlement.closing import Closing, Span, leaf_in_tree, leaves_of, name_of
from services.settlement.crash_points import CrashPoint, Reached
from services.settlement.dispute_records import HEARD
from services.settlement.metrics import SettlementMetrics
from services.settlement.records import (
    AGREEMENT,
    BATCH,
    LEAF,
    OPENING,
    STATEMENT,
    TRANSACTION,
    BatchRecord,
    LeafRecord,
    StatementRecord,
    StatementState,
)
from services.settlement.restating_records import ELSEWHERE, HELD, VOIDED, HeldCDR, VoidedStatement
from services.settlement.windows import stage_of

WAITS_FOR_WORD: Final = "its CPO's word: a verdict took it out and names no CDR"
NUMBER_TAKEN: Final = "an operator: another statement of its pair became final under its number"
CREDIT_STANDS: Final = "its CPO's word: a verdict took it out, and a credit that stays takes back "
"""Followed by the CDR that the verdict names."""
WORDS_AWAITED: Final = (WAITS_FOR_WORD, CREDIT_STANDS, NUMBER_TAKEN)
PAYABLE_ALREADY: Final = "an operator: it was final, and payable, before the chain lost blocks"
LEFT_OUT_MAX: Final = 1_000
"""Most CDRs that a word leaves out of a statement."""
HELD_MAX: Final = 5_000
"""Most CDRs of an agreement that are held when a word leaves out more: closing reads them each time."""

_log = structlog.get_logger(__name__)


class NothingToRestate(RuleBroken):
    """The statement waits for no word: no verdict took it out for good, or what it says is stated again already."""


class NotTheCPO(RuleBroken):
    """What a statement claims is its CPO's to say."""


class NotAmongItsCDRs(RuleBroken):
    """The statement has no such CDR."""


class TooManyLeftOut(RuleBroken):
    """More CDRs than a word may name, or than may be held of one agreement."""


class CreditStands(RuleBroken):
    """A CDR whose credit is in a statement that stays is left out only if a verdict names it and its CPO says so.

    Until it is let go into a statement again, of the two only the credit counts, which so must be the CPO's to pay.
    """

    def __init__(self, credit: LeafRecord) -> None:
        self.cdr_id: Final = credit.credit_reference_id
        super().__init__(f"{credit.cdr_id} takes {self.cdr_id} back, in a statement that stays")


class NotHeld(RuleBroken):
    """The CPO has no such CDR that a verdict took out of a statement."""


class CountsElsewhere(RuleBroken):
    """A copy of the CDR is final, or what it takes back was struck: stated again, it would count twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verdict:
    """What took a statement out; without a proof, nothing is known but that."""

    kind: DisputeKind | None = None
    case_id: bytes | None = None


@dataclass(slots=True, kw_only=True)
class _Numbered:
    """A statement in the line of those that are not final, and what it is made of if that changes."""

    was: StatementRecord
    rows: Sequence[LeafRecord]
    is_changed: bool


class Restating:
    """Follows statements that are VOID, and takes their CPOs' words."""

    def __init__(
        self,
        ports: Ports,
        access: ChainAccess | None,
        closing: Closing,
        metrics: SettlementMetrics,
        reached: Reached = lambda _: None,
    ) -> None:
        self._ports = ports
        self._access = access
        self._closing = closing
        self._metrics = metrics
        self._reached = reached
        self._verdicts: dict[bytes, _Verdict] = {}
        """What took statements out that wait for something else: whoever told it need not be looked for again."""
        self._void_at: dict[bytes, int] = {}
        """The final block in which a statement was first seen void, until it is known what took it out."""

    async def advance(self) -> int:
        """State again what can be by itself; return how much moved. Raises `ChainUnavailable`."""
        async with self._ports.units.begin() as unit:
            void = await unit.table(STATEMENT).select({"state": StatementState.VOID}, order_by=("closed_at",))
            held = await unit.table(HELD).count()
        self._metrics.taken_out(statements=len(void), cdrs=held)
        return sum(
            [
                await self._take_up_if_it_can(each)
                for each in void
                if not _waits_for(each, *WORDS_AWAITED, PAYABLE_ALREADY)
            ]
        )

    # Words

    async def restate(self, party_id: PartyId, statement_hash: bytes, without: Collection[str]) -> VoidedStatement:
        """State a statement again that a verdict took out without naming a CDR, by its CPO's word.

        Args:
            party_id: The CPO.
            statement_hash: What was taken out.
            without: CDRs that are held back; none: the book knows these very words as void, so all go into the pair's
                next statement.

        Raises:
            UnknownStatement: the party takes part in none of this hash.
            NotTheCPO, NothingToRestate, NotAmongItsCDRs, TooManyLeftOut, CreditStands: see there.
        """
        async with self._ports.units.begin() as unit:
            if already := await unit.table(VOIDED).get(party_id, statement_hash):
                raise NothingToRestate(f"{name_of(already.statement)} is stated again, or its CDRs go into the next")
            statement = await statement_of_party(unit, party_id, statement_hash)
            if party_id != statement.cpo_id:
                raise NotTheCPO(f"{statement.cpo_id} states what {name_of(statement)} claims")
            if statement.state is not StatementState.VOID or not _waits_for(statement, WAITS_FOR_WORD, CREDIT_STANDS):
                raise NothingToRestate(f"{name_of(statement)} is {statement.state}: {statement.waiting}")
            if len(without) > LEFT_OUT_MAX:
                raise TooManyLeftOut(f"a word leaves out at most {LEFT_OUT_MAX} CDRs")
            rows = await leaves_of(unit, statement)
            if missing := set(without) - {row.cdr_id for row in rows}:
                raise NotAmongItsCDRs(f"{name_of(statement)} has no CDR {min(missing)}")
            pair = {"cpo_id": statement.cpo_id, "agreement_id": statement.agreement_id}
            if without and await unit.table(HELD).count(pair) >= HELD_MAX:
                raise TooManyLeftOut(f"{HELD_MAX} CDRs of the agreement are held already: credit or restate some")
            voided = await self._restate(unit, statement, rows, without=set(without), verdict=_Verdict())
            await unit.commit()
        self._tell(voided, held=len(set(without)))
        self._reached(CrashPoint.STATEMENT_CLOSED)
        return voided

    async def release(self, party_id: PartyId, cdr_id: str) -> None:
        """Let a CDR that is held go into the pair's next statement, by its CPO's word.

        Raises:
            NotHeld: none of this id is the party's and held.
            CountsElsewhere: see there.
        """
        async with self._ports.units.begin() as unit:
            held = await unit.table(HELD).get_for_update(party_id, cdr_id)
            if held is None:
                raise NotHeld(f"{party_id} has no CDR {cdr_id} that a verdict took out")
            if held.kind in ELSEWHERE:
                raise CountsElsewhere(f"CDR {cdr_id} was taken out as {held.kind}")
            await unit.table(HELD).remove(party_id, cdr_id)
            await unit.commit()
        _log.info("settlement_cdr_let_go", cpo=party_id.code, cdr=cdr_id)

    async def make_way(self, unit: UnitOfWork, statement: StatementRecord) -> list[LeafRecord]:
        """Free the CDRs of a statement that waits for a word, because the chain has what it said; return them."""
        rows = await leaves_of(unit, statement)
        await self._restate(unit, statement, rows, without=set(), verdict=_Verdict())
        return rows

    async def hold(self, unit: UnitOfWork, statement: StatementRecord, rows: Iterable[LeafRecord]) -> None:
        """Hold what a statement that was taken out had, and no other takes."""
        for row in rows:
            await unit.table(HELD).put(self._held(statement, row.cdr_id, None))

    # Verdicts

    async def _take_up_if_it_can(self, statement: StatementRecord) -> int:
        """Take a statement up; what is wrong with it is logged and holds up no other."""
        try:
            return await self._take_up(statement)
        except Unavailable:
            raise
        except CreditStands as error:
            return await self._wait(statement, f"{CREDIT_STANDS}{error.cdr_id}")
        except EmobilityError as error:
            rule, name = type(error).__name__, str(name_of(statement))
            _log.error("settlement_not_restated", statement=name, rule=rule, reason=str(error))
            return await self._wait(statement, str(error))

    async def _take_up(self, statement: StatementRecord) -> int:
        assert self._access is not None, "who follows has a chain"
        assert statement.batch_id is not None
        assert statement.position is not None
        async with self._ports.units.begin() as unit:
            batch = await unit.table(BATCH).get(statement.batch_id)
        assert batch is not None
        chain, asked = self._access.chain, batch_query(batch.batch_id)
        final = await chain.finalized()
        booked = read_batch(await chain.call(batch.book, asked, at_block=final.number))
        if not booked.void_pairs >> statement.position & 1:
            # What was seen in a young block may have come undone with it.
            self._forget(statement)
            stage, waiting = stage_of(read_batch(await chain.call(batch.book, asked)), statement.position)
            return 0 if stage is StatementState.VOID else await self._take_back(statement, stage, waiting)
        if statement.final_at is not None:  # its number has a payable, which a new statement would not change
            return await self._wait(statement, PAYABLE_ALREADY)
        verdict = self._verdicts.get(statement.statement_hash) or await self._verdict(batch, statement, final)
        if verdict is None:
            return 0
        self._verdicts[statement.statement_hash] = verdict
        if verdict.case_id is None:
            is_taken = await self._is_number_taken(batch, statement, final)
            return await self._wait(statement, NUMBER_TAKEN if is_taken else WAITS_FOR_WORD)
        async with self._ports.units.begin() as unit:
            await unit.table(AGREEMENT).get_for_update(statement.cpo_id, statement.agreement_id)
            if await unit.table(STATEMENT).get_for_update(*key_of(statement)) != statement:
                return 0
            rows = await leaves_of(unit, statement)
            named = {
                row.cdr_id for row in rows if case_id(statement.statement_hash, leaf_in_tree(row)) == verdict.case_id
            }
            if not named:
                raise NotAmongItsCDRs(f"no CDR of {name_of(statement)} is in case {verdict.case_id.hex()}")
            voided = await self._restate(unit, statement, rows, without=named, verdict=verdict)
            await unit.commit()
        self._tell(voided, held=len(named))
        self._forget(statement)
        self._reached(CrashPoint.STATEMENT_CLOSED)
        return 1

    async def _verdict(self, batch: BatchRecord, statement: StatementRecord, final: Block) -> _Verdict | None:
        """Return what took a statement out since it was proposed: whoever ever resolved the book's cases may have told.

        None: who these are was not heard up to the block in which it was void (`listening`).
        """
        assert self._access is not None
        void_at = self._void_at.setdefault(statement.statement_hash, final.number)
        async with self._ports.units.begin() as unit:
            proposal = await unit.table(TRANSACTION).get(proposal_id(batch.batch_id))
            heard = await unit.table(HEARD).select({"chain_id": batch.chain_id, "book": batch.book})
        if not any(each.contract == batch.book and each.last_number >= void_at for each in heard):
            return None
        first = 0 if proposal is None else proposal.block_number or 0
        topics = [contracts.STATEMENT_VOIDED.topic, statement.statement_hash]
        for resolver in heard:
            if resolver.contract != batch.book and (
                logs := await self._access.logs(resolver.contract, topics, first=first, last=final.number)
            ):
                case, kind = read_voided(logs[-1].topics, logs[-1].data)
                return _Verdict(kind=kind, case_id=case)
        return _Verdict()

    def _forget(self, statement: StatementRecord) -> None:
        self._verdicts.pop(statement.statement_hash, None)
        self._void_at.pop(statement.statement_hash, None)

    async def _is_number_taken(self, batch: BatchRecord, statement: StatementRecord, final: Block) -> bool:
        """Tell whether no verdict took a statement out, but another one of its pair that overtook it."""
        assert self._access is not None
        query = agreement_query(statement.book_agreement)
        try:
            standing = read_agreement(await self._access.chain.call(batch.book, query, at_block=final.number))
        except CallReverted:
            return False
        return standing.last_sequence >= statement.sequence

    async def _take_back(self, statement: StatementRecord, stage: StatementState, waiting: str | None) -> int:
        """Note that a verdict is gone with its block; `funding` follows the statement again."""
        if stage is StatementState.FINAL:
            stage, waiting = StatementState.CHALLENGED, "the chain"
        return await self._put(statement, replace(statement, state=stage, waiting=waiting))

    async def _wait(self, statement: StatementRecord, waiting: str) -> int:
        if waiting == statement.waiting:
            return 0
        _log.warning("settlement_statement_taken_out", statement=str(name_of(statement)), waiting=waiting)
        return await self._put(statement, replace(statement, waiting=waiting))

    async def _put(self, statement: StatementRecord, changed: StatementRecord) -> int:
        async with self._ports.units.begin() as unit:
            if await unit.table(STATEMENT).get_for_update(*key_of(statement)) != statement:
                return 0
            await unit.table(STATEMENT).put(changed)
            await unit.commit()
        return 1

    # Stating again

    async def _restate(
        self,
        unit: UnitOfWork,
        statement: StatementRecord,
        rows: Sequence[LeafRecord],
        *,
        without: set[str],
        verdict: _Verdict,
    ) -> VoidedStatement:
        """Give a statement's number to the statement of its other CDRs, all in this unit.

        Where none are left the statements behind it move up: the book takes no number before the one that is free.
        Credits of what leaves a statement leave with it, and wait for their originals.
        """
        agreement = await unit.table(AGREEMENT).get_for_update(statement.cpo_id, statement.agreement_id)
        opening = await unit.table(OPENING).get_for_update(statement.cpo_id, statement.agreement_id, statement.version)
        assert agreement is not None
        assert opening is not None
        if await unit.table(STATEMENT).get_for_update(*key_of(statement)) != statement:
            raise NothingToRestate(f"{name_of(statement)} has just moved")
        leaving = {row.cdr_id: row for row in rows if row.cdr_id in without or not without}
        # What is stated already, as another copy, can be taken back; else both wait, or go into the next statement.
        is_stated = verdict.kind is DisputeKind.DUPLICATE
        taken_back = [] if is_stated else await self._credits_of(unit, statement, leaving, are_held=bool(without))
        leaving |= {row.cdr_id: row for row in taken_back if row.sequence is not None}
        line = [_Numbered(was=statement, rows=[row for row in rows if row.cdr_id not in leaving], is_changed=True)]
        changed = {row.sequence for row in taken_back}
        moves_up = not line[0].rows
        for behind in await _behind(unit, statement, opening.last_sequence):
            its_rows: Sequence[LeafRecord] = ()
            if is_changed := moves_up or behind.sequence in changed:
                its_rows = [row for row in await leaves_of(unit, behind) if row.cdr_id not in leaving]
                moves_up |= not its_rows
            line.append(_Numbered(was=behind, rows=its_rows, is_changed=is_changed))
        await _unbind(unit, leaving.values())
        for each in line:
            if each.is_changed:
                await _unbind(unit, each.rows)
                await unit.table(STATEMENT).remove(*key_of(each.was))
        last = statement.sequence - 1
        restated_as = None
        for each in line:
            if each.is_changed and not each.rows:
                continue
            if each.is_changed:
                span = Span(start=each.was.period_start, end=each.was.period_end)
                made = await self._closing.bind(unit, replace(opening, last_sequence=last), span, each.rows)
                restated_as = made.statement_hash if each.was is statement else restated_as
            last += 1
        await unit.table(OPENING).put(replace(opening, last_sequence=last))
        for cdr_id in sorted(without):
            await unit.table(HELD).put(self._held(statement, cdr_id, verdict.kind))
        voided = self._voided(statement, verdict, restated_as)
        await unit.table(VOIDED).put(voided)
        return voided

    def _tell(self, voided: VoidedStatement, *, held: int) -> None:
        self._metrics.restated()
        _log.warning(
            "settlement_statement_restated",
            statement=str(name_of(voided.statement)),
            kind=None if voided.kind is None else voided.kind.value,
            held=held,
            restated_as=None if voided.restated_as is None else voided.restated_as.hex(),
        )

    async def _credits_of(
        self, unit: UnitOfWork, statement: StatementRecord, leaving: Collection[str], *, are_held: bool
    ) -> list[LeafRecord]:
        """Return the credits that leave with their CDRs, those of statements that stay not. Raises `CreditStands`."""
        ids, found = sorted(leaving), list[LeafRecord]()
        for start in range(0, len(ids), SELECT_ROWS_MAX):
            some = tuple(ids[start : start + SELECT_ROWS_MAX])
            found += await unit.table(LEAF).select({"cpo_id": statement.cpo_id, "credit_reference_id": some})
        for row in found if are_held else ():
            is_said = statement.waiting == f"{CREDIT_STANDS}{row.credit_reference_id}" and row.due_e4 <= row.credit_e4
            if _stands(row, statement) and not is_said:
                raise CreditStands(row)
        return [row for row in found if not _stands(row, statement)]

    def _held(self, statement: StatementRecord, cdr_id: str, kind: DisputeKind | None) -> HeldCDR:
        return HeldCDR(
            cpo_id=statement.cpo_id,
            cdr_id=cdr_id,
            emsp_id=statement.emsp_id,
            agreement_id=statement.agreement_id,
            statement_hash=statement.statement_hash,
            kind=kind,
            held_at=self._ports.clock.now(),
        )

    def _voided(self, statement: StatementRecord, verdict: _Verdict, restated_as: bytes | None) -> VoidedStatement:
        assert statement.batch_id is not None
        return VoidedStatement(
            cpo_id=statement.cpo_id,
            statement_hash=statement.statement_hash,
            emsp_id=statement.emsp_id,
            batch_id=statement.batch_id,
            kind=verdict.kind,
            case_id=verdict.case_id,
            restated_as=restated_as,
            restated_at=self._ports.clock.now(),
            statement=replace(statement, waiting=None),
        )


def _waits_for(statement: StatementRecord, *what: str) -> bool:
    return statement.waiting is not None and statement.waiting.startswith(what)


def awaits_word(statement: StatementRecord) -> bool:
    """Tell whether a statement that was taken out waits for somebody's word."""
    return statement.state is StatementState.VOID and _waits_for(statement, *WORDS_AWAITED)


def _stands(credit: LeafRecord, statement: StatementRecord) -> bool:
    """Tell whether a credit is in a statement that is not stated anew with another one."""
    if credit.sequence is None:
        return False
    return credit.version != statement.version or credit.sequence < statement.sequence


async def _behind(unit: UnitOfWork, statement: StatementRecord, last_sequence: int) -> list[StatementRecord]:
    """Return the statements that wait behind one for its number, which are in no batch yet."""
    *pair, sequence = key_of(statement)
    behind = [
        await unit.table(STATEMENT).get_for_update(*pair, each) for each in range(sequence + 1, last_sequence + 1)
    ]
    for each in behind:
        if each is None or each.batch_id is not None or each.state is not StatementState.CLOSED:
            raise NothingToRestate(f"a statement behind {name_of(statement)} is in a batch already")
    return [each for each in behind if each is not None]


async def _unbind(unit: UnitOfWork, rows: Iterable[LeafRecord]) -> None:
    """Take CDRs out of their statement."""
    freed = [(row.cpo_id, row.cdr_id, None, None, None) for row in rows]
    for start in range(0, len(freed), SELECT_ROWS_MAX):
        await unit.table(LEAF).set_all(("version", "sequence", "place"), freed[start : start + SELECT_ROWS_MAX])
