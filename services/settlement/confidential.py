"""Confidential mode: seal closed statements, have both parties sign each, and settle parties' nets in batches.

A batch takes the statements that both signed, whose parties are covered, and no other: who is silent, short or hostile
is left out. A batch is final whole or not at all, so the chain is asked before it is sent; where a race makes it fail
all the same, its statements go into another. Whoever was the cause rests meanwhile, and holds up nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

import structlog

from emobility.domain.batch import contracts
from emobility.domain.batch.abi import Function, MalformedCall
from emobility.domain.batch.confidential import (
    STATEMENTS_MAX,
    PairNet,
    Salts,
    SealedStatement,
    batch_id_of,
    covered,
    exposed,
    filled_up,
    hashes_hash,
    party_nets,
    posted_hash,
    salts_of,
    statement_digest,
)
from emobility.domain.batch.hashing import HASH_BYTES
from emobility.domain.batch.typed_data import digest_of
from emobility.domain.identifiers import PartyId
from emobility.ports.chain import CallReverted
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from services.settlement.access import ChainAccess
from services.settlement.batching import key_of, refuse_difference
from services.settlement.closing import StatementDiffers
from services.settlement.confidential_batches import (
    book_of,
    digest_of_net,
    key_of_sealed,
    net_of_statements,
    nets_of,
    note_waiting,
    out_of_turn,
    sealed_in,
    sealed_statement,
    settle_call,
    settling_id,
    wait,
)
from services.settlement.confidential_records import (
    CONFIDENTIAL_BATCH,
    CONFIDENTIAL_BOOK,
    PARTY_NET,
    SEALED_STATEMENT,
    ConfidentialBatchRecord,
    ConfidentialBatchState,
    ConfidentialBookRecord,
    PartyNetRecord,
    SealedStatementRecord,
    is_confidential,
)
from services.settlement.intake import PairKey
from services.settlement.records import (
    AGREEMENT,
    PARTY,
    STATEMENT,
    TRANSACTION,
    PairAgreement,
    SettledParty,
    SigningPolicy,
    StatementRecord,
    StatementState,
    TransactionKind,
    TransactionRecord,
    TransactionState,
)

SIGN_WITHIN: Final = timedelta(hours=1)
"""Business time that a party has to sign its net; then the batch is made again without it."""
REST: Final = timedelta(days=1)
"""Business time for which a party on whose account a batch failed is left out of others."""
COMPANY_FOR: Final = timedelta(days=1)
"""Business time that a statement waits for others among whom its net does not show; then it is settled all the same."""
HELD: Final = "an operator: the chain has a batch which is not here, and it may be in that"
OPEN: Final = (ConfidentialBatchState.COLLECTING, ConfidentialBatchState.SENDING)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A statement that both parties signed."""

    sealed: SealedStatementRecord
    statement: StatementRecord

    @property
    def pair(self) -> PairNet:
        """Its parties and its net."""
        net_e4 = self.statement.due_e4 - self.statement.credit_e4
        return PairNet(cpo=self.sealed.cpo_number, msp=self.sealed.msp_number, net_e4=net_e4)

    @property
    def parties(self) -> frozenset[PartyId]:
        """Its two parties."""
        return frozenset({self.sealed.cpo_id, self.sealed.emsp_id})


class Confidential:
    """Moves confidential statements from CLOSED to PROPOSED; `confidential_finality` does the rest."""

    def __init__(self, ports: Ports, access: ChainAccess, held: Callable[[], Collection[PairKey]] = frozenset) -> None:
        """`held`: pairs that may be in batches which stand on the chain and not here (`adopting`)."""
        self._ports = ports
        self._access = access
        self._held = held

    async def advance(self) -> int:
        """Seal, sign, batch and queue what can be; return how many steps were made. Raises `ChainUnavailable`."""
        async with self._ports.units.begin() as unit:
            books = await unit.table(CONFIDENTIAL_BOOK).select(order_by=("currency",))
        steps = 0
        for book in books:
            steps += await self._seal_all(book)
            async with self._ports.units.begin() as unit:
                where = {"currency": book.currency, "state": OPEN}
                batches = await unit.table(CONFIDENTIAL_BATCH).select(where, order_by=("formed_at",))
            for batch in batches:
                steps += await self._carry_on(book, batch)
            steps += await self._form(book)
        return steps

    async def ready(self) -> int:
        """Count what moves by itself: statements and batches that wait for nothing."""
        async with self._ports.units.begin() as unit:
            closed = await unit.table(STATEMENT).select(
                {"state": StatementState.CLOSED, "batch_id": None, "waiting": None}
            )
            collecting = {"state": ConfidentialBatchState.COLLECTING, "waiting": None}
            moving = await unit.table(CONFIDENTIAL_BATCH).count(collecting)
            return moving + sum([await is_confidential(unit, each) for each in closed])

    def _is_held(self, record: StatementRecord | SealedStatementRecord) -> bool:
        return (record.cpo_id, record.agreement_id) in self._held()

    # Sealing

    async def _seal_all(self, book: ConfidentialBookRecord) -> int:
        async with self._ports.units.begin() as unit:
            where = {"state": StatementState.CLOSED, "batch_id": None, "currency": book.currency}
            closed = await unit.table(STATEMENT).select(where, order_by=("closed_at",))
        return sum([await self._seal(book, each) for each in closed])

    async def _seal(self, book: ConfidentialBookRecord, record: StatementRecord) -> int:
        """Seal a statement and sign it for those hosted here, once, when the one before it is final."""
        async with self._ports.units.begin() as unit:
            if not await is_confidential(unit, record) or await unit.table(SEALED_STATEMENT).get(*key_of(record)):
                return 0
            if self._is_held(record):
                return await wait(unit, record, HELD)
            if reason := await out_of_turn(unit, record):
                return await wait(unit, record, reason)
            try:
                await refuse_difference(unit, record)
            except StatementDiffers as difference:
                return await wait(unit, record, str(difference))
            pair = await unit.table(AGREEMENT).get(record.cpo_id, record.agreement_id)
            cpo = await unit.table(PARTY).get(record.cpo_id)
            msp = await unit.table(PARTY).get(record.emsp_id)
            assert pair is not None
            assert cpo is not None
            assert msp is not None
            if cpo.number is None or msp.number is None:
                return await wait(unit, record, "the registration of its parties")
        salts = await self.salts(pair, record)
        statement = sealed_statement(record, cpo=cpo.number, msp=msp.number, salts=salts)
        row = SealedStatementRecord(
            cpo_id=record.cpo_id,
            agreement_id=record.agreement_id,
            version=record.version,
            sequence=record.sequence,
            emsp_id=record.emsp_id,
            currency=record.currency,
            chain_id=book.chain_id,
            cpo_number=cpo.number,
            msp_number=msp.number,
            struct_hash=statement.struct_hash,
            posted=posted_hash(statement.struct_hash, salt=salts.posted),
            by_cpo=await self._signed(book, statement, cpo),
            by_msp=await self._signed(book, statement, msp),
            batch_id=None,
            position=None,
        )
        async with self._ports.units.begin() as unit:
            await unit.table(SEALED_STATEMENT).insert(row)
            await unit.commit()
        return 1

    async def salts(self, pair: PairAgreement, record: StatementRecord) -> Salts:
        """Return a statement's salts."""
        secret = bytes.fromhex(await self._ports.vault.open(pair.pair_secret))
        return salts_of(pair_secret=secret, agreement=record.book_agreement, sequence=record.sequence)

    async def _signed(
        self, book: ConfidentialBookRecord, statement: SealedStatement, party: SettledParty
    ) -> bytes | None:
        if party.signs is not SigningPolicy.AUTOMATIC:
            return None
        return await self._access.signer_of(party.party_id).sign_digest(statement_digest(book_of(book), statement))

    # Forming

    async def _form(self, book: ConfidentialBookRecord) -> int:
        """Make a batch of what is signed and covered, if there is any."""
        candidates = await self._candidates(book)
        cover = {number: await self._cover_e4(book, number) for number in _numbers(candidates)}
        chosen = await self._chosen(candidates, cover)
        while differing := await self._differing(chosen):
            candidates = [each for each in candidates if key_of_sealed(each.sealed) not in differing]
            chosen = await self._chosen(candidates, cover)
        if not chosen:
            return 0
        noise = iter(lambda: self._ports.randomness.token_bytes(HASH_BYTES), b"")
        hashes = filled_up([each.sealed.posted for each in chosen], noise)
        named = book_of(book)
        now = self._ports.clock.now()
        batch = ConfidentialBatchRecord(
            batch_id=batch_id_of(named, hashes_hash(hashes)),
            currency=book.currency,
            chain_id=book.chain_id,
            book=book.book,
            hashes=b"".join(hashes),
            state=ConfidentialBatchState.COLLECTING,
            waiting=None,
            settled_in=None,
            formed_at=now,
        )
        parties = _parties(chosen)
        nets = [
            PartyNetRecord(
                batch_id=batch.batch_id,
                party_id=parties[number],
                number=number,
                net_e4=net_e4,
                nonce=await self._nonce(book, number),
                signature=None,
                signer=None,
                failed=None,
                formed_at=now,
            )
            for number, net_e4 in party_nets(each.pair for each in chosen).items()
        ]
        async with self._ports.units.begin() as unit:
            for each in chosen:
                sealed = await unit.table(SEALED_STATEMENT).get_for_update(*key_of_sealed(each.sealed))
                statement = await unit.table(STATEMENT).get_for_update(*key_of_sealed(each.sealed))
                if (sealed, statement) != (each.sealed, each.statement):
                    return 0  # while the chain was asked, another process batched it
            await unit.table(CONFIDENTIAL_BATCH).insert(batch)
            await unit.table(PARTY_NET).put_all(nets)
            for each in chosen:
                place = hashes.index(each.sealed.posted)
                in_it = replace(each.sealed, batch_id=batch.batch_id, position=place)
                await unit.table(SEALED_STATEMENT).put(in_it)
                await unit.table(STATEMENT).put(replace(each.statement, waiting="signatures"))
            await unit.commit()
        return 1 + await self._carry_on(book, batch)

    async def _candidates(self, book: ConfidentialBookRecord) -> list[Candidate]:
        """Return the statements that could be batched, the oldest first; the others say what they wait for."""
        found: list[Candidate] = []
        async with self._ports.units.begin() as unit:
            where = {"currency": book.currency, "chain_id": book.chain_id, "batch_id": None}
            for sealed in await unit.table(SEALED_STATEMENT).select(where):
                statement = await unit.table(STATEMENT).get_for_update(*key_of_sealed(sealed))
                if statement is None or statement.state is not StatementState.CLOSED:
                    continue
                held_up = await self._held_up(unit, sealed)
                if held_up is None:
                    found.append(Candidate(sealed=sealed, statement=statement))
                else:
                    await note_waiting(unit, statement, held_up)
            await unit.commit()
        return sorted(found, key=lambda each: each.statement.closed_at)[:STATEMENTS_MAX]

    async def _held_up(self, unit: UnitOfWork, sealed: SealedStatementRecord) -> str | None:
        """Return why a statement can't be batched now."""
        if self._is_held(sealed):
            return HELD
        both = ((sealed.cpo_id, sealed.by_cpo), (sealed.emsp_id, sealed.by_msp))
        if absent := [str(party) for party, signature in both if signature is None]:
            return f"the signature of {' and '.join(absent)} under the statement"
        if reason := await out_of_turn(unit, sealed):
            return reason
        for party, _ in both:
            if reason := await self._busy(unit, party, sealed.currency):
                return reason
        return None

    async def _busy(self, unit: UnitOfWork, party_id: PartyId, currency: str) -> str | None:
        """Return why a party takes part in no other batch now: it signs one after the other, or rests."""
        since = self._ports.clock.now() - REST - SIGN_WITHIN
        for net in await unit.table(PARTY_NET).select({"party_id": party_id}, since=("formed_at", since)):
            batch = await unit.table(CONFIDENTIAL_BATCH).get(net.batch_id)
            if batch is None or batch.currency != currency:
                continue
            if net.failed is not None:
                return f"{party_id} rests: {net.failed}"
            if batch.state in OPEN:
                return f"{party_id} is in another batch"
        return None

    async def _chosen(self, candidates: Sequence[Candidate], cover_e4: Mapping[int, int]) -> list[Candidate]:
        """Return those that are settled together, and note what the others wait for."""
        alone_until = self._ports.clock.now() - COMPANY_FOR
        left, reasons = list(candidates), dict[int, str]()
        while True:
            pairs = [each.pair for each in left]
            paid = [left[place] for place in covered(pairs, cover_e4)]
            reasons |= {id(each): "cover: the payer's is short" for each in left if each not in paid}
            lonely = exposed([each.pair for each in paid])
            kept = [each for each in paid if _link(each.pair) not in lonely or each.statement.closed_at <= alone_until]
            reasons |= {id(each): "others, among whom its net does not show" for each in paid if each not in kept}
            if kept == left:
                break
            left = kept
        async with self._ports.units.begin() as unit:
            for each in candidates:
                if id(each) in reasons:
                    await note_waiting(unit, each.statement, reasons[id(each)])
            await unit.commit()
        return left

    async def _differing(self, chosen: Sequence[Candidate]) -> set[tuple[PartyId, str, int, int]]:
        """Return those whose rows were changed since they were closed, and note it: they wait until somebody looks."""
        found: set[tuple[PartyId, str, int, int]] = set()
        async with self._ports.units.begin() as unit:
            for each in chosen:
                try:
                    await refuse_difference(unit, each.statement)
                except StatementDiffers as difference:
                    await note_waiting(unit, each.statement, str(difference))
                    found.add(key_of_sealed(each.sealed))
            await unit.commit()
        return found

    async def _cover_e4(self, book: ConfidentialBookRecord, number: int) -> int:
        """Return a party's collateral, in whole ten-thousandths."""
        chain = self._access.chain
        (balance,) = contracts.FREE_OF.answer(await chain.call(book.vault, contracts.FREE_OF.call(number)))
        (units,) = contracts.UNITS_PER_E4.answer(await chain.call(book.vault, contracts.UNITS_PER_E4.call()))
        return int(balance) // int(units)

    async def _nonce(self, book: ConfidentialBookRecord, number: int) -> int:
        answer = await self._access.chain.call(book.book, contracts.NONCE_OF.call(number))
        return int(contracts.NONCE_OF.answer(answer)[0])

    # Signing and queueing

    async def _carry_on(self, book: ConfidentialBookRecord, batch: ConfidentialBatchRecord) -> int:
        """Bring an open batch as far as it goes now; return how many steps were made."""
        if batch.state is ConfidentialBatchState.SENDING:
            return await self._look_after(batch)
        async with self._ports.units.begin() as unit:
            is_held = any(self._is_held(each) for each in await sealed_in(unit, batch.batch_id))
        if is_held:
            return await self._wait(batch, HELD)
        steps = await self._sign(batch)
        async with self._ports.units.begin() as unit:
            nets = await nets_of(unit, batch.batch_id)
        absent = [each for each in nets if each.signature is None]
        if not absent:
            return steps + await self._queue(book, batch, nets)
        if self._ports.clock.now() >= batch.formed_at + SIGN_WITHIN:
            failed = {each.party_id: "it did not sign its net in time" for each in absent}
            return steps + await self._abandon(batch, failed, "not all signed in time")
        waiting = f"the signature of {', '.join(str(each.party_id) for each in absent)} under its net"
        return steps + await self._wait(batch, waiting)

    async def _wait(self, batch: ConfidentialBatchRecord, reason: str) -> int:
        """Say what a batch waits for; no step was made."""
        if batch.waiting != reason:
            async with self._ports.units.begin() as unit:
                if await unit.table(CONFIDENTIAL_BATCH).get_for_update(batch.batch_id) == batch:
                    await unit.table(CONFIDENTIAL_BATCH).put(replace(batch, waiting=reason))
                    await unit.commit()
        return 0

    async def _sign(self, batch: ConfidentialBatchRecord) -> int:
        """Sign the nets of those that sign by themselves, as their own statements give them."""
        async with self._ports.units.begin() as unit:
            nets = [each for each in await nets_of(unit, batch.batch_id) if each.signature is None]
            parties = await unit.table(PARTY).select({"party_id": tuple(each.party_id for each in nets)})
        hosted = {each.party_id for each in parties if each.signs is SigningPolicy.AUTOMATIC}
        if hosted and (reason := await self._changed(batch, nets)):
            return await self._abandon(batch, {}, reason)
        signed = 0
        for net in nets:
            if net.party_id not in hosted:
                continue
            signer = self._access.signer_of(net.party_id)
            signature = await signer.sign_digest(digest_of_net(batch, net))
            async with self._ports.units.begin() as unit:
                if await unit.table(PARTY_NET).get_for_update(net.batch_id, net.party_id) != net:
                    continue  # another process signed it, or left the batch
                await unit.table(PARTY_NET).put(replace(net, signature=signature, signer=signer.address))
                await unit.commit()
            signed += 1
        return signed

    async def _changed(self, batch: ConfidentialBatchRecord, nets: Sequence[PartyNetRecord]) -> str | None:
        """Return why nobody may sign a batch: its rows are not those that it was made of."""
        async with self._ports.units.begin() as unit:
            for sealed in await sealed_in(unit, batch.batch_id):
                statement = await unit.table(STATEMENT).get(*key_of_sealed(sealed))
                assert statement is not None
                try:
                    await refuse_difference(unit, statement)
                except StatementDiffers as difference:
                    return str(difference)
            for net in nets:
                stated_e4 = await net_of_statements(unit, batch, net.party_id)
                if stated_e4 != net.net_e4:
                    return f"{net.party_id} nets {stated_e4} e4 by its statements and {net.net_e4} e4 by its batch"
        return None

    async def _queue(
        self, book: ConfidentialBookRecord, batch: ConfidentialBatchRecord, nets: Sequence[PartyNetRecord]
    ) -> int:
        """Ask the chain whether it would take the batch; queue it then, or leave it."""
        calldata = settle_call(batch, nets)
        is_settled = False
        try:
            await self._access.chain.estimate_gas(self._access.proposer.address, book.book, calldata)
        except CallReverted as refusal:
            is_settled = refusal.data[:4] == contracts.HIDDEN_BATCH_EXISTS.selector
            if not is_settled:
                return await self._refused(batch, nets, refusal.data)
        if not is_settled and await self._forget_outdated(book, batch, nets):  # else `sending` finds what settled it
            return await self._abandon(batch, {}, "a statement of it was signed by a key that was replaced since")
        async with self._ports.units.begin() as unit:
            current = await unit.table(CONFIDENTIAL_BATCH).get_for_update(batch.batch_id)
            if current is None or current.state is not ConfidentialBatchState.COLLECTING:
                return 0
            transaction = TransactionRecord(
                transaction_id=settling_id(batch.batch_id),
                kind=TransactionKind.SETTLE,
                batch_id=batch.batch_id,
                chain_id=batch.chain_id,
                account=self._access.proposer.address,
                receiver=batch.book,
                calldata=calldata,
                queued_at=self._ports.clock.now(),
            )
            await unit.table(TRANSACTION).put(transaction)
            sending = replace(current, state=ConfidentialBatchState.SENDING, waiting=None)
            await unit.table(CONFIDENTIAL_BATCH).put(sending)
            for sealed in await sealed_in(unit, batch.batch_id):
                statement = await unit.table(STATEMENT).get_for_update(*key_of_sealed(sealed))
                assert statement is not None
                moved = replace(statement, state=StatementState.PROPOSED, waiting="the chain")
                await unit.table(STATEMENT).put(moved)
            await unit.commit()
        return 1

    async def _forget_outdated(
        self, book: ConfidentialBookRecord, batch: ConfidentialBatchRecord, nets: Sequence[PartyNetRecord]
    ) -> int:
        """Forget signatures of statements by other keys than the nets' are: whoever gave them signs again.

        The book knows who signed the nets, and opens a statement in a dispute only if the same keys signed it.
        """
        signers, forgotten = {each.party_id: each.signer for each in nets}, 0
        async with self._ports.units.begin() as unit:
            hosted = await unit.table(PARTY).select({"party_id": tuple(signers), "signs": SigningPolicy.AUTOMATIC})
            outside = set(signers) - {each.party_id for each in hosted}
            for sealed in await sealed_in(unit, batch.batch_id):
                kept, digest = sealed, digest_of(book_of(book), sealed.struct_hash)
                for party, side in ((sealed.cpo_id, "by_cpo"), (sealed.emsp_id, "by_msp")):
                    given = getattr(sealed, side)
                    if party in outside and (
                        given is None or self._access.recovered_address(digest, given) != signers[party]
                    ):
                        kept = replace(kept, by_cpo=None) if side == "by_cpo" else replace(kept, by_msp=None)
                        _log.warning("settlement_signature_outdated", party=party.code, batch=batch.batch_id.hex())
                        forgotten += 1
                if kept != sealed:
                    await unit.table(SEALED_STATEMENT).put(kept)
            await unit.commit()
        return forgotten

    # Leaving a batch

    async def _look_after(self, batch: ConfidentialBatchRecord) -> int:
        """Leave a batch that lost a race: the chain would not take it any more, and no bytes of it are on their way."""
        async with self._ports.units.begin() as unit:
            row = await unit.table(TRANSACTION).get(settling_id(batch.batch_id))
            nets = await nets_of(unit, batch.batch_id)
        if row is None or row.state is not TransactionState.QUEUED or row.waiting is None:
            return 0
        try:
            await self._access.chain.estimate_gas(row.account, row.receiver, row.calldata)
        except CallReverted as refusal:
            return await self._refused(batch, nets, refusal.data)
        return 0

    async def _refused(self, batch: ConfidentialBatchRecord, nets: Sequence[PartyNetRecord], refusal: bytes) -> int:
        """Leave a batch for which a party is the cause; one that the book itself refuses waits."""
        selector = refusal[:4]
        if selector == contracts.VAULT_SHORT.selector:
            return await self._abandon(batch, {}, "a payer's cover is gone")  # the next one is made by what there is
        if selector == contracts.HIDDEN_WRONG_SIGNER.selector:
            number, nonce = _arguments(contracts.HIDDEN_WRONG_SIGNER, refusal)
            # Another nonce means that its turn has passed; if the nonce is right, the key is not the registered one.
            failed = {
                each.party_id: "its registered key is not the one that signs"
                for each in nets
                if each.number == number and each.nonce == nonce
            }
            return await self._abandon(batch, failed, "a signature does not count")
        async with self._ports.units.begin() as unit:
            current = await unit.table(CONFIDENTIAL_BATCH).get_for_update(batch.batch_id)
            reason = f"the book refuses: 0x{selector.hex()}"
            if current is not None and current.waiting != reason:
                await unit.table(CONFIDENTIAL_BATCH).put(replace(current, waiting=reason))
                await unit.commit()
        return 0

    async def _abandon(self, batch: ConfidentialBatchRecord, failed: Mapping[PartyId, str], reason: str) -> int:
        """Give a batch up: its statements go into another, without whom it failed for."""
        async with self._ports.units.begin() as unit:
            current = await unit.table(CONFIDENTIAL_BATCH).get_for_update(batch.batch_id)
            if current is None or current.state not in OPEN:
                return 0
            row = await unit.table(TRANSACTION).get_for_update(settling_id(batch.batch_id))
            if row is not None and row.state is not TransactionState.QUEUED:
                return 0  # its bytes are on their way: only the chain says what becomes of them
            if row is not None:
                await unit.table(TRANSACTION).remove(row.transaction_id)
            left = replace(current, state=ConfidentialBatchState.ABANDONED, waiting=reason)
            await unit.table(CONFIDENTIAL_BATCH).put(left)
            for net in await nets_of(unit, batch.batch_id):
                if net.party_id in failed:
                    await unit.table(PARTY_NET).put(replace(net, failed=failed[net.party_id]))
            for sealed in await sealed_in(unit, batch.batch_id):
                await unit.table(SEALED_STATEMENT).put(replace(sealed, batch_id=None, position=None))
                statement = await unit.table(STATEMENT).get_for_update(*key_of_sealed(sealed))
                assert statement is not None
                back = replace(statement, state=StatementState.CLOSED, waiting=None)
                await unit.table(STATEMENT).put(back)
            await unit.commit()
        _log.warning("settlement_confidential_batch_left", batch=batch.batch_id.hex(), reason=reason)
        return 1


def _link(pair: PairNet) -> tuple[int, int]:
    return min(pair.cpo, pair.msp), max(pair.cpo, pair.msp)


def _parties(candidates: Sequence[Candidate]) -> dict[int, PartyId]:
    found: dict[int, PartyId] = {}
    for each in candidates:
        found |= {each.sealed.cpo_number: each.sealed.cpo_id, each.sealed.msp_number: each.sealed.emsp_id}
    return found


def _numbers(candidates: Sequence[Candidate]) -> Iterator[int]:
    return iter(sorted(_parties(candidates)))


def _arguments(error: Function, data: bytes) -> tuple[int, int]:
    try:
        number, nonce = error.arguments(data)
    except MalformedCall:
        return 0, 0
    return int(number), int(nonce)
