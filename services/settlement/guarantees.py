"""Call a guarantee: a CPO that is hosted here takes what its MSP did not pay in time out of the MSP's collateral.

What was taken is what final blocks say, whoever sent the call: so it counts once, whatever this process, its database
or the chain went through. A call of ours is a transaction of the CPO's own account like any other (`sending`), one at
a time for an agreement. How much is the lesser of what our books and the book by itself say; it refuses more, and then
there is nothing to take.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

import structlog

from emobility.domain.agreement import SettlementMode
from emobility.domain.banking.payout import CENT_E4
from emobility.domain.batch import contracts
from emobility.domain.batch.calls import AgreementState, agreement_query, guarantee_call, read_agreement
from emobility.domain.errors import RuleBroken
from emobility.domain.guarantee import Overdue, next_due, overdue
from emobility.domain.identifiers import PartyId
from emobility.events.banking import GuaranteeCalled
from emobility.ports.chain import STRETCH_BLOCKS, Block, CallReverted, ChainUnavailable, Log
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from services.settlement.access import ChainAccess, DeployedBook
from services.settlement.api import NotHere
from services.settlement.deployment import Deployer
from services.settlement.exposure import rows_of
from services.settlement.facts import fact
from services.settlement.guarantee_money import GuaranteeKey, is_hosted, locked, standing
from services.settlement.guarantee_records import (
    GUARANTEE,
    GUARANTEE_CALL,
    GUARANTEE_POLICY,
    CallPolicy,
    GuaranteeCall,
    GuaranteePolicy,
    GuaranteeRecord,
)
from services.settlement.metrics import SettlementMetrics
from services.settlement.payouts import Payouts
from services.settlement.records import (
    IN_FLIGHT,
    OPENING,
    PARTY,
    TRANSACTION,
    Opening,
    SigningPolicy,
    TransactionKind,
    TransactionRecord,
    TransactionState,
)
from services.settlement.sending import REFUSES, error_name

UNHEARD: Final = -1
"""Before the first block."""
AT_ONCE_D: Final = -1
"""The grace of a CPO that calls with its own tool: its book asks for none, and gives on the due date already."""
AMOUNT_E4_MAX: Final = (1 << 64) - 1
"""No guarantee holds it: the book refuses it and says how much is overdue."""
NO_COINS: Final = "insufficient funds"
"""What nodes say of an account that can't pay for its transaction."""
WARNED_BEFORE: Final = timedelta(days=7)
"""So long before a guarantee can be called an MSP here is warned in the log."""
LOOK_AGAIN: Final = timedelta(minutes=1)
"""Business time between two looks for what is overdue: it becomes so by the day."""
_PairKey = tuple[PartyId, str]

_log = structlog.get_logger(__name__)


class NoGuarantee(NotHere):
    """The party is the CPO of no such agreement that a guarantee covers."""


class NothingToTake(RuleBroken):
    """Nothing is overdue beyond the CPO's grace, or a call is on its way already."""


class KeyElsewhere(RuleBroken):
    """The CPO keeps its key itself, and only its own account can call a guarantee."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuaranteeStanding:
    """A guarantee as its two parties see it; amounts in ten-thousandths.

    Attributes:
        overdue: What was not paid within the CPO's grace.
        callable_from: The day from which the oldest debt may be taken; None: nothing is owed.
        on_its_way: A call that is not final yet.
    """

    row: GuaranteeRecord
    policy: GuaranteePolicy
    overdue: Overdue | None
    callable_from: date | None
    on_its_way: TransactionRecord | None
    calls: list[GuaranteeCall]


class Guarantees:
    """Hears what was taken of guarantees, and takes what is overdue."""

    def __init__(
        self,
        ports: Ports,
        access: ChainAccess,
        metrics: SettlementMetrics | None = None,
        *,
        deployer: Deployer | None = None,
        held: Callable[[], Collection[_PairKey]] = lambda: (),
    ) -> None:
        """Take what is needed.

        Args:
            ports: Ours.
            access: The chain, and who signs.
            metrics: Shown how long MSPs here have.
            deployer: Gives accounts what they pay with on a chain of our own.
            held: Pairs of which our rows may lack something: nothing is taken by itself of theirs.
        """
        self._ports = ports
        self._access = access
        self._chain = access.chain
        self._metrics = metrics
        self._deployer = deployer
        self._held = held
        self._payouts = Payouts(ports)
        self._heard_to: bytes | None = None
        """The final block of which this process has heard `_heard` all there is."""
        self._heard = set[GuaranteeKey]()
        self._looked_at: datetime | None = None
        self._warned = frozenset[GuaranteeKey]()

    async def advance(self) -> int:
        """Hear what was taken, then take what is overdue; return how much moved. Raises `ChainUnavailable`."""
        async with self._ports.units.begin() as unit:
            found = await rows_of(unit, OPENING, {"mode": SettlementMode.GUARANTEE})
        openings = [each for each in found if each.book_agreement is not None]
        if not openings:
            return 0
        finalized = await self._chain.finalized()
        if finalized.hash != self._heard_to:
            self._heard_to, self._heard = finalized.hash, set()
        moved = 0
        for each in openings:
            if _key(each) not in self._heard:
                heard, has_caught_up = await self._hear(each, finalized)
                moved += heard
                if has_caught_up:
                    self._heard.add(_key(each))
            moved += await self._follow(each)
        now = self._ports.clock.now()
        if self._looked_at is None or now - self._looked_at >= LOOK_AGAIN:
            self._looked_at = now
            moved += sum([await self._call_by_itself(each) for each in openings])
            await self._warn(openings)
        return moved

    # Hearing

    async def _hear(self, opening: Opening, finalized: Block) -> tuple[int, bool]:
        """Note what the next final blocks say was taken; return how much changed, and whether those were the last."""
        deployed = await self._access.books.book_of(opening.currency)
        state = None if deployed is None else await self._state(deployed, opening, finalized)
        if deployed is None or state is None:
            return 0, True
        async with self._ports.units.begin() as unit:
            known = await unit.table(GUARANTEE).get(*_key(opening))
        row = known or _new(opening)
        first = row.heard_number + 1
        if row.limit_e4 == state.credit_limit_e4:  # each call lowers it
            if known is not None and finalized.number - first < STRETCH_BLOCKS:
                return 0, True
            first = finalized.number
        elif known is not None:
            block = await self._chain.block(row.heard_number)
            if block is None or block.hash != row.heard_hash:
                first = 0
        first = min(first, finalized.number)
        end = await self._chain.block(min(first + STRETCH_BLOCKS - 1, finalized.number))
        if end is None:
            return 0, False
        assert opening.book_agreement is not None
        topics = [contracts.GUARANTEE_CALLED.topic, opening.book_agreement.rjust(32, b"\0")]
        logs = await self._chain.logs(deployed.book.address, topics, from_block=first, to_block=end.number)
        at = {number: await self._moment(number) for number in {each.block_number for each in logs}}
        calls = [_told(opening, log, place, at[log.block_number]) for log, place in _placed(logs)]
        gone = await self._gone(opening) if calls else []
        is_last = end.number == finalized.number
        await self._note(opening, deployed, state, calls, gone=gone, end=end, is_last=is_last)
        return 1, is_last

    async def _gone(self, opening: Opening) -> list[GuaranteeCall]:
        """Return the calls that were heard and whose transactions are in no block any more."""
        where = {"cpo_id": opening.cpo_id, "agreement_id": opening.agreement_id, "version": opening.version}
        async with self._ports.units.begin() as unit:
            known = await rows_of(unit, GUARANTEE_CALL, where)
        return [each for each in known if await self._chain.receipt(each.transaction) is None]

    async def _state(self, deployed: DeployedBook, opening: Opening, at: Block) -> AgreementState | None:
        """Return where an agreement stands; None: a chain that lost blocks may lack it."""
        assert opening.book_agreement is not None
        try:
            returned = await self._chain.call(
                deployed.book.address, agreement_query(opening.book_agreement), at_block=at.number
            )
        except CallReverted:
            return None
        return read_agreement(returned)

    async def _moment(self, number: int) -> datetime:
        block = await self._chain.block(number)
        if block is None:
            raise ChainUnavailable(f"an event was told in block {number}, which is not there")
        return datetime.fromtimestamp(block.timestamp_s, UTC)

    async def _note(
        self,
        opening: Opening,
        deployed: DeployedBook,
        state: AgreementState,
        calls: list[GuaranteeCall],
        *,
        gone: list[GuaranteeCall],
        end: Block,
        is_last: bool,
    ) -> None:
        """Store what was heard up to a block. What was gone with its block and signed anew counts, and is told, once.

        It is known by this: with it more would be taken than the book says is gone of the limit. That a node has no
        receipt alone says little, for some forget old ones.
        """
        now = self._ports.clock.now()
        async with self._ports.units.begin() as unit:
            row = await locked(unit, _key(opening)) or _new(opening)
            known = await unit.table(GUARANTEE_CALL).insert_all(calls)
            new = [each for each in calls if each.call_id not in {one.call_id for one in known}]
            taken_e4 = row.taken_e4 + sum(each.amount_e4 for each in new)
            by_book_e4 = opening.credit_limit_e4 - state.credit_limit_e4
            for each in gone:
                anew = next((one for one in new if one.amount_e4 == each.amount_e4), None)
                if anew is not None and taken_e4 - each.amount_e4 >= by_book_e4:
                    await unit.table(GUARANTEE_CALL).delete(each.cpo_id, each.call_id)
                    new.remove(anew)
                    taken_e4 -= each.amount_e4
            row = replace(
                row,
                limit_e4=state.credit_limit_e4 if is_last else row.limit_e4,
                taken_e4=taken_e4,
                heard_number=end.number,
                heard_hash=end.hash,
                waiting=None if new else row.waiting,
            )
            await unit.table(GUARANTEE).put(row)
            for each in new:
                event = GuaranteeCalled(
                    cpo_id=each.cpo_id,
                    emsp_id=each.emsp_id,
                    agreement_id=each.agreement_id,
                    version=each.version,
                    currency=each.currency,
                    amount_e4=each.amount_e4,
                    limit_e4=row.limit_e4,
                    chain_id=deployed.book.chain_id,
                    book=deployed.book.address,
                    transaction=each.transaction,
                    called_at=each.called_at,
                    seen_at=now,
                )
                unit.emit(fact(event, each.cpo_id.code, each.call_id, at=now))
                _log.info("settlement_guarantee_called", cpo=each.cpo_id.code, emsp=each.emsp_id.code)
            if new:
                await self._payouts.take_of_guarantee(unit, row)
            await unit.commit()

    # Calling

    async def _follow(self, opening: Opening) -> int:
        """Drop a call that waits where the book refuses it or less is overdue by now; give an account coins it lacks.

        Nothing is lost by that: what is still overdue is called anew.
        """
        async with self._ports.units.begin() as unit:
            row = await _on_its_way(unit, opening)
            if row is None:
                return 0
            is_moot = row.state is TransactionState.QUEUED and await self._is_moot(unit, opening, row)
            if is_moot:
                await unit.table(TRANSACTION).remove(row.transaction_id, where={"state": TransactionState.QUEUED})
                await unit.commit()
        waiting = row.waiting or ""
        if is_moot and waiting.startswith(REFUSES):
            await self._wait(opening, waiting)
        if not is_moot and self._deployer is not None and NO_COINS in waiting.lower():
            await self._deployer.provide(row.account)
            return 1
        return int(is_moot)

    async def _is_moot(self, unit: UnitOfWork, opening: Opening, queued: TransactionRecord) -> bool:
        """Tell whether the book refuses a call, or less than it takes is overdue by now."""
        if (queued.waiting or "").startswith(REFUSES):
            return True
        known = await unit.table(GUARANTEE).get(*_key(opening))
        if known is not None and known.taken_e4 > opening.credit_limit_e4 - known.limit_e4:
            return False  # it was lost with its block, and counts all the while
        due = await self._overdue(unit, opening, await policy_of(unit, opening.cpo_id))
        _, _, amount_e4 = contracts.CALL_GUARANTEE.arguments(queued.calldata)
        return due is None or due.amount_e4 < amount_e4

    async def _call_by_itself(self, opening: Opening) -> int:
        if (opening.cpo_id, opening.agreement_id) in self._held():
            return 0
        async with self._ports.units.begin() as unit:
            policy = await policy_of(unit, opening.cpo_id)
            found = await self._overdue(unit, opening, policy)
            signs = await _signs_here(unit, opening.cpo_id)
            on_its_way = await _on_its_way(unit, opening)
        if found is None or not signs or on_its_way is not None:
            return 0
        await self._wake(opening, _midnight(callable_from(found.until, policy)))
        if policy.calls is not CallPolicy.AUTOMATIC:
            return 0
        return int(await self._queue(opening, found) is not None)

    async def _wake(self, opening: Opening, callable_at: datetime) -> None:
        """Have a chain of our own, whose blocks come with transactions alone, make one of a time when it can be called.

        What makes it gives the CPO's account coins, which it needs for the call.
        """
        if self._deployer is not None and (await self._chain.head()).timestamp_s < callable_at.timestamp():
            await self._deployer.provide(self._access.signer_of(opening.cpo_id).address)

    async def call(self, party_id: PartyId, agreement_id: str) -> tuple[int, TransactionRecord]:
        """Take what is overdue, by the CPO's operator's word; return of which version's guarantee, and the call.

        Where several versions have one it is the oldest that gives something: asked again, the next.

        Raises:
            NoGuarantee: the party is the CPO of no such agreement.
            KeyElsewhere: its key is not here.
            NothingToTake: nothing is overdue, or a call is on its way.
            ChainUnavailable: the chain does not answer.
        """
        async with self._ports.units.begin() as unit:
            where = {"cpo_id": party_id, "agreement_id": agreement_id, "mode": SettlementMode.GUARANTEE}
            found = await unit.table(OPENING).select(where, order_by=("version",))
            openings = [each for each in found if each.book_agreement is not None]
            if not openings:
                raise NoGuarantee(f"{party_id} is the CPO of no agreement {agreement_id} under a guarantee")
            if not await _signs_here(unit, party_id):
                raise KeyElsewhere(f"{party_id} keeps its key: its own account calls the guarantee")
            policy = await policy_of(unit, party_id)
            due = [(each, await self._overdue(unit, each, policy)) for each in openings]
        for opening, found_overdue in due:
            if found_overdue is not None:
                queued = await self._queue(opening, found_overdue)
                if queued is not None:
                    return opening.version, queued
        raise NothingToTake(
            f"nothing of {agreement_id} is overdue by more than {policy.grace_d} days that the book would give,"
            " or something is on its way already"
        )

    async def _overdue(self, unit: UnitOfWork, opening: Opening, policy: GuaranteePolicy) -> Overdue | None:
        statements, paid_e4 = await standing(unit, _key(opening))
        return overdue(statements, paid_e4=paid_e4, today=self._ports.clock.now().date(), grace=policy.grace)

    async def _queue(self, opening: Opening, found: Overdue) -> TransactionRecord | None:
        """Queue a call for as much as our books and the book agree on; None: they agree on nothing."""
        deployed = await self._access.books.book_of(opening.currency)
        if deployed is None:
            return None
        assert opening.book_agreement is not None
        sender = self._access.signer_of(opening.cpo_id).address
        by_book_e4 = await self._by_book(deployed, opening, found.sequence, sender)
        if by_book_e4 <= 0 or await self._has_unknown_waiting(deployed, opening, sender):
            return None
        state = await self._state(deployed, opening, await self._chain.head())
        async with self._ports.units.begin() as unit:
            row = await locked(unit, _key(opening))
            if row is None or state is None or row.limit_e4 != state.credit_limit_e4:
                return None  # something was taken that is not heard yet
            again = await self._overdue(unit, opening, await policy_of(unit, opening.cpo_id))
            if again is None or again.sequence != found.sequence or await _on_its_way(unit, opening) is not None:
                return None
            amount_e4 = min(again.amount_e4, by_book_e4, state.credit_limit_e4) // CENT_E4 * CENT_E4
            if amount_e4 <= 0:
                return None
            name = f"{opening.cpo_id}/{opening.agreement_id}/{opening.version}"
            queued = TransactionRecord(
                transaction_id=f"guarantee/{name}/{self._ports.randomness.uuid()}",
                kind=TransactionKind.GUARANTEE,
                batch_id=opening.book_agreement,
                chain_id=deployed.book.chain_id,
                account=sender,
                receiver=deployed.book.address,
                calldata=guarantee_call(opening.book_agreement, found.sequence, amount_e4),
                queued_at=self._ports.clock.now(),
            )
            await unit.table(TRANSACTION).insert(queued)
            await unit.table(GUARANTEE).put(replace(row, waiting=None))
            await unit.commit()
        return queued

    async def _by_book(self, deployed: DeployedBook, opening: Opening, sequence: int, sender: bytes) -> int:
        """Return what the book would give, by asking for more than there is; what keeps it from that is noted.

        It answers for its youngest block, and so for calls that our books have not heard; of those `_queue` takes care.
        """
        assert opening.book_agreement is not None
        asked = guarantee_call(opening.book_agreement, sequence, AMOUNT_E4_MAX)
        try:
            await self._chain.estimate_gas(sender, deployed.book.address, asked)
        except CallReverted as refusal:
            if refusal.data.startswith(contracts.CALL_EXCEEDS_OVERDUE.selector):
                _, _, overdue_e4 = contracts.CALL_EXCEEDS_OVERDUE.arguments(refusal.data)
                return int(overdue_e4)
            await self._wait(opening, f"{REFUSES}{error_name(refusal.data)}")
            return 0
        await self._wait(opening, "the chain says that the book gives more than any guarantee holds")
        return 0

    async def _has_unknown_waiting(self, deployed: DeployedBook, opening: Opening, sender: bytes) -> bool:
        """Tell whether the account has something on its way that is in no row, perhaps a call that rows forgot."""
        mined = await self._chain.nonce(sender, with_waiting=False)
        waiting = range(mined, await self._chain.nonce(sender, with_waiting=True))
        of_account = {"chain_id": deployed.book.chain_id, "account": sender, "nonce": tuple(waiting)}
        async with self._ports.units.begin() as unit:
            is_known = not waiting or await unit.table(TRANSACTION).count(of_account) == len(waiting)
        if not is_known:
            await self._wait(opening, "a transaction of the CPO's account that did not go out from here")
        return not is_known

    async def _wait(self, opening: Opening, reason: str) -> None:
        async with self._ports.units.begin() as unit:
            row = await locked(unit, _key(opening))
            if row is not None and row.waiting != reason:
                await unit.table(GUARANTEE).put(replace(row, waiting=reason))
                await unit.commit()

    # Showing

    async def _warn(self, openings: list[Opening]) -> None:
        """Tell MSPs here how long they have until a guarantee of theirs can be called."""
        now, nearest = self._ports.clock.now(), None
        warned = set[GuaranteeKey]()
        async with self._ports.units.begin() as unit:
            for each in openings:
                if not await is_hosted(unit, each.emsp_id):
                    continue
                statements, paid_e4 = await standing(unit, _key(each))
                due_on = next_due(statements, paid_e4=paid_e4)
                if due_on is None:
                    continue
                on = callable_from(due_on, await _known_policy(unit, each.cpo_id))
                left = _midnight(on) - now
                nearest = left if nearest is None else min(nearest, left)
                if left > WARNED_BEFORE:
                    continue
                warned.add(_key(each))
                if _key(each) not in self._warned:
                    _log.warning(
                        "settlement_guarantee_is_due",
                        emsp=each.emsp_id.code,
                        cpo=each.cpo_id.code,
                        callable_from=str(on),
                    )
        self._warned = frozenset(warned)
        if self._metrics is not None:
            self._metrics.guarantee_due(nearest)

    async def of_party(self, party_id: PartyId) -> list[GuaranteeStanding]:
        """Return the guarantees of a party's agreements, on either side."""
        found = []
        async with self._ports.units.begin() as unit:
            for side in ("cpo_id", "emsp_id"):
                rows = await unit.table(GUARANTEE).select({side: party_id}, order_by=GUARANTEE.key)
                found += [await self._shown(unit, row) for row in rows]
        return found

    async def _shown(self, unit: UnitOfWork, row: GuaranteeRecord) -> GuaranteeStanding:
        key = row.cpo_id, row.agreement_id, row.version
        opening = await unit.table(OPENING).get(*key)
        assert opening is not None, f"a guarantee stands without the opening {key}"
        policy = await _known_policy(unit, row.cpo_id)
        statements, paid_e4 = await standing(unit, key)
        due_on = next_due(statements, paid_e4=paid_e4)
        where: dict[str, Any] = {"cpo_id": row.cpo_id, "agreement_id": row.agreement_id, "version": row.version}
        return GuaranteeStanding(
            row=row,
            policy=policy,
            overdue=await self._overdue(unit, opening, policy),
            callable_from=None if due_on is None else callable_from(due_on, policy),
            on_its_way=await _on_its_way(unit, opening),
            calls=await unit.table(GUARANTEE_CALL).select(where, order_by=("called_at",)),
        )

    async def policy(self, party_id: PartyId) -> GuaranteePolicy:
        """Return when a CPO wants what is overdue taken."""
        async with self._ports.units.begin() as unit:
            return await policy_of(unit, party_id)

    async def choose(self, policy: GuaranteePolicy) -> GuaranteePolicy:
        """Want it so from now on."""
        async with self._ports.units.begin() as unit:
            await unit.table(GUARANTEE_POLICY).put(policy)
            await unit.commit()
        return policy


def callable_from(due_on: date, policy: GuaranteePolicy) -> date:
    """Return the day from which what is due on a day may be taken."""
    return due_on + policy.grace + timedelta(days=1)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


async def policy_of(unit: UnitOfWork, party_id: PartyId) -> GuaranteePolicy:
    """Return when a CPO wants what is overdue taken."""
    return await unit.table(GUARANTEE_POLICY).get(party_id) or GuaranteePolicy(party_id=party_id)


async def _known_policy(unit: UnitOfWork, party_id: PartyId) -> GuaranteePolicy:
    """Return when a CPO may take what is overdue, for its partners: of one that signs elsewhere we know no grace."""
    if await _signs_here(unit, party_id):
        return await policy_of(unit, party_id)
    return GuaranteePolicy(party_id=party_id, grace_d=AT_ONCE_D)


async def _signs_here(unit: UnitOfWork, party_id: PartyId) -> bool:
    party = await unit.table(PARTY).get(party_id)
    return party is not None and party.is_hosted and party.signs is SigningPolicy.AUTOMATIC


async def _on_its_way(unit: UnitOfWork, opening: Opening) -> TransactionRecord | None:
    where = {"kind": TransactionKind.GUARANTEE, "batch_id": opening.book_agreement, "state": IN_FLIGHT}
    rows = await unit.table(TRANSACTION).select(where)
    return next(iter(rows), None)


def _key(opening: Opening) -> GuaranteeKey:
    return opening.cpo_id, opening.agreement_id, opening.version


def _new(opening: Opening) -> GuaranteeRecord:
    return GuaranteeRecord(
        cpo_id=opening.cpo_id,
        agreement_id=opening.agreement_id,
        version=opening.version,
        emsp_id=opening.emsp_id,
        currency=opening.currency,
        limit_e4=opening.credit_limit_e4,
        taken_e4=0,
        heard_number=UNHEARD,
        heard_hash=b"",
    )


def _placed(logs: Collection[Log]) -> list[tuple[Log, int]]:
    """Return events, each with how many of its transaction came before it: blocks may get others after a loss."""
    counts: dict[bytes, int] = {}
    placed = []
    for log in logs:
        placed.append((log, counts.get(log.transaction_hash, 0)))
        counts[log.transaction_hash] = placed[-1][1] + 1
    return placed


def _told(opening: Opening, log: Log, place: int, called_at: datetime) -> GuaranteeCall:
    _, amount_e4, _owed_e4 = contracts.GUARANTEE_CALLED.told(log.topics, log.data)
    return GuaranteeCall(
        cpo_id=opening.cpo_id,
        call_id=f"{log.transaction_hash.hex()}-{place}",
        agreement_id=opening.agreement_id,
        version=opening.version,
        emsp_id=opening.emsp_id,
        currency=opening.currency,
        amount_e4=amount_e4,
        transaction=log.transaction_hash,
        called_at=called_at,
    )
