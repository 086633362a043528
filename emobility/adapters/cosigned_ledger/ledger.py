"""The ledger over rows, in memory or in PostgreSQL (`CosignedLedger`), and over a file (`LedgerReader`).

A call that is handed over is carried out, signed and stored as the next entry in one unit; then it is final. Two
processes can't both write entry n: the second finds it there, reads it and tries again behind it. Nothing waits, so
there are no fees, no replacements and no gaps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from emobility.adapters.cosigned_ledger.records import COUNTERSIGNATURE, LEDGER_ENTRY
from emobility.adapters.cosigned_ledger.replica import LedgerBroken, Replica
from emobility.domain.batch.hashing import keccak256
from emobility.domain.cosigned_ledger import (
    Countersignature,
    LedgerEntry,
    beginning,
    entry_hash,
    head_digest,
    ledger_id,
)
from emobility.ports.chain import Block, ChainTransaction, ChainUnavailable, Fees, Log, TransactionReceipt
from emobility.ports.chain_signer import ChainSigner
from emobility.ports.clock import Clock, Randomness
from emobility.ports.cosigned_ledger import NotCountersigned
from emobility.ports.stores import SELECT_ROWS_MAX, RecordExists
from emobility.ports.unit_of_work import Units

TRIES_MAX: Final = 16
"""How often an entry is tried behind one that another process wrote first."""


class LedgerRewritten(ChainUnavailable):
    """Rows of the ledger are not what this process has read: somebody changed them, or an old copy was put in place.

    Nothing goes on in this process; one that starts anew reads them from the beginning.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(f"entry {number} of the ledger is gone or another one than this process has read")


class ReplicaReader:
    """Reads a replica (`LedgerReader`); whoever derives from it brings the replica up to date first."""

    def __init__(self, replica: Replica) -> None:
        self._known: Replica = replica

    @property
    def replica(self) -> Replica:
        """What was read so far."""
        return self._known

    async def _replica(self) -> Replica:
        return self._known

    async def chain_id(self) -> int:
        """Return the ledger's id."""
        return (await self._replica()).ledger_id

    async def genesis_hash(self) -> bytes:
        """Return the hash of entry 0."""
        return (await self._replica()).entries[0].entry.hash

    async def head(self) -> Block:
        """Return the newest entry."""
        replica = await self._replica()
        block = replica.block(replica.head.number)
        assert block is not None
        return block

    async def finalized(self) -> Block:
        """Return the newest entry: what is entered is final."""
        return await self.head()

    async def block(self, number: int) -> Block | None:
        """Return the entry of this number, None beyond the head."""
        return (await self._replica()).block(number)

    async def code(self, address: bytes) -> bytes:
        """Return a contract's code; empty where there is none."""
        return (await self._replica()).code(address)

    async def call(self, to: bytes, calldata: bytes, *, at_block: int | None = None) -> bytes:
        """Return what a contract answers, after an entry or the newest. Raises `CallReverted`."""
        return (await self._replica()).call(to, calldata, at=at_block)

    async def transaction(self, transaction_hash: bytes) -> ChainTransaction | None:
        """Return a call that was entered; None when the ledger does not have it."""
        return (await self._replica()).transaction(transaction_hash)

    async def receipt(self, transaction_hash: bytes) -> TransactionReceipt | None:
        """Return what came of a call; None when the ledger does not have it."""
        return (await self._replica()).receipt(transaction_hash)

    async def logs(
        self, address: bytes, topics: Sequence[bytes | None], *, from_block: int, to_block: int
    ) -> Sequence[Log]:
        """Return a contract's events in these entries, both included, in order."""
        return (await self._replica()).logs(address, topics, first=from_block, last=to_block)

    async def entries(self, *, first: int, limit: int) -> Sequence[LedgerEntry]:
        """Return entries from number `first` on, in order."""
        return [each.entry for each in (await self._replica()).entries[first : first + limit]]

    async def countersignatures(self) -> Sequence[Countersignature]:
        """Return each signer's newest."""
        return (await self._replica()).countersignatures


class StoredLedger(ReplicaReader):
    """The ledger over rows (`LedgerReader`); see `read_ledger`."""

    def __init__(self, replica: Replica, units: Units) -> None:
        """Take what was read so far, and where more may be."""
        super().__init__(replica)
        self._units = units
        self._turn = asyncio.Lock()

    async def _replica(self) -> Replica:
        async with self._turn:
            await self._catch_up()
        return self._known

    async def _catch_up(self) -> None:
        """Read what others entered. Raises `LedgerRewritten`, `LedgerBroken`."""
        head = self._known.head
        async with self._units.begin() as unit:
            stored = await unit.table(LEDGER_ENTRY).select(
                {"number": (head.number, head.number + 1)}, order_by=("number",)
            )
        if stored[:1] != [head]:
            raise LedgerRewritten(head.number)
        if len(stored) == 1:
            return
        for entry in await stored_entries(self._units, first=head.number + 1):
            self._known.enter(entry)

    async def countersignatures(self) -> Sequence[Countersignature]:
        """Return each signer's newest; what others took meanwhile is read."""
        # Before the entries, for of an entry that comes meanwhile a countersignature may come, too.
        stored = await stored_countersignatures(self._units)
        replica = await self._replica()
        for each in stored:
            replica.countersigned(each)
        return replica.countersignatures


class WrittenLedger(StoredLedger):
    """The ledger as its operator writes it (`CosignedLedger`); see `open_ledger`."""

    def __init__(self, replica: Replica, units: Units, *, operator: ChainSigner, clock: Clock) -> None:
        """Take the operator's key. Raises `LedgerBroken` where it is not the ledger's operator's."""
        super().__init__(replica, units)
        if replica.operator != operator.address:
            raise LedgerBroken(0, f"its operator is 0x{replica.operator.hex()}, not 0x{operator.address.hex()}")
        self._operator = operator
        self._clock = clock

    async def nonce(self, account: bytes, *, with_waiting: bool) -> int:
        """Return how many calls of the account are entered; none ever waits."""
        del with_waiting
        return (await self._replica()).nonce(account)

    async def estimate_gas(self, sender: bytes, to: bytes | None, calldata: bytes) -> int:
        """Try a call; it costs nothing. Raises `CallReverted`."""
        (await self._replica()).estimate(sender, to, calldata, timestamp_s=self._now_s())
        return 0

    async def fees(self) -> Fees:
        """Return that nothing need be offered."""
        return Fees(max_fee_per_gas=0, max_priority_fee_per_gas=0)

    async def send_raw(self, raw_transaction: bytes) -> bytes:
        """Enter a signed call and return its hash; a call that the contracts refuse is entered as refused.

        Raises:
            TransactionNotTaken: it is entered already, out of turn, or no call.
            ChainUnavailable: others were faster `TRIES_MAX` times.
        """
        async with self._turn:
            for _ in range(TRIES_MAX):
                await self._catch_up()
                draft = self._known.draft(raw_transaction, timestamp_s=self._now_s())
                digest = head_digest(self._known.ledger_id, draft.entry.number, draft.entry.hash)
                signature = await self._operator.sign_digest(digest)
                if await _inserted(self._units, replace(draft.entry, signature=signature)):
                    self._known.conclude(draft, signature)
                    return keccak256(raw_transaction)
        raise ChainUnavailable("others enter faster")

    async def countersign(self, countersignature: Countersignature) -> None:
        """Keep a party's signature of a head; twice is as once. Raises `NotCountersigned`."""
        replica = await self._replica()
        try:
            replica.refuse_foreign(countersignature)
        except LedgerBroken as refusal:
            raise NotCountersigned(refusal.reason) from refusal
        async with self._units.begin() as unit:
            known = await unit.table(COUNTERSIGNATURE).get_for_update(countersignature.signer)
            if known is None or known.number < countersignature.number:
                await unit.table(COUNTERSIGNATURE).put(countersignature)
                await unit.commit()
        replica.countersigned(countersignature)

    def _now_s(self) -> int:
        return int(self._clock.now().timestamp())


async def open_ledger(units: Units, *, operator: ChainSigner, clock: Clock, randomness: Randomness) -> WrittenLedger:
    """Open the ledger that rows hold, carrying out every entry; begin one where there is none.

    Raises:
        LedgerBroken: an entry does not follow from those before it, or another operator's key wrote it.
    """
    raw = beginning(operator.address, randomness.token_bytes(32))
    timestamp_s, nothing = int(clock.now().timestamp()), bytes(32)
    hash_ = entry_hash(number=0, parent_hash=nothing, timestamp_s=timestamp_s, raw=raw, outcome=nothing)
    first = LedgerEntry(
        number=0,
        hash=hash_,
        parent_hash=nothing,
        timestamp_s=timestamp_s,
        raw=raw,
        outcome=nothing,
        signature=await operator.sign_digest(head_digest(ledger_id(raw), 0, hash_)),
    )
    async with units.begin() as unit:
        is_there = await unit.table(LEDGER_ENTRY).get(0) is not None
    if not is_there:
        await _inserted(units, first)
    replica = await replayed(units)
    assert replica is not None, "entry 0 was written"
    return WrittenLedger(replica, units, operator=operator, clock=clock)


async def read_ledger(units: Units) -> StoredLedger | None:
    """Return the ledger that rows hold, for reading; None: there is none. Raises `LedgerBroken`."""
    replica = await replayed(units)
    return None if replica is None else StoredLedger(replica, units)


async def replayed(units: Units) -> Replica | None:
    """Carry out what rows hold; None: nothing. Raises `LedgerBroken`."""
    # First, so that none is of an entry that came after the entries were read.
    countersignatures = await stored_countersignatures(units)
    entries = await stored_entries(units, first=0)
    return replica_of(entries, countersignatures) if entries else None


def replica_of(entries: Sequence[LedgerEntry], countersignatures: Sequence[Countersignature]) -> Replica:
    """Carry out entries from the beginning. Raises `LedgerBroken`, `MalformedBeginning`."""
    replica = Replica(entries[0])
    for entry in entries[1:]:
        replica.enter(entry)
    for each in countersignatures:
        replica.countersigned(each)
    return replica


async def stored_entries(units: Units, *, first: int) -> list[LedgerEntry]:
    """Return the entries that rows hold, from number `first` on."""
    found: list[LedgerEntry] = []
    async with units.begin() as unit:
        while page := await unit.table(LEDGER_ENTRY).select(order_by=("number",), offset=first + len(found)):
            found += page
    return found


async def stored_countersignatures(units: Units) -> list[Countersignature]:
    """Return the countersignatures that rows hold, the oldest first."""
    found: list[Countersignature] = []
    async with units.begin() as unit:
        while page := await unit.table(COUNTERSIGNATURE).select(order_by=("number",), offset=len(found)):
            found += page
            if len(page) < SELECT_ROWS_MAX:
                break
    return found


async def _inserted(units: Units, entry: LedgerEntry) -> bool:
    """Store an entry durably; tell whether its place was free."""
    async with units.begin() as unit:
        try:
            await unit.table(LEDGER_ENTRY).insert(entry)
        except RecordExists:
            return False
        await unit.commit()
    return True
