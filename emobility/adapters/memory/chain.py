"""A chain in memory (`Chain`): deterministic, with the mishaps of a real one at the call of a test.

What contracts do is plugged in (`Execute`; see `memory.contracts`), so this module knows blocks, nonces, the pool and
the way back: each block keeps what its writes replaced, for reorganisations and for calls at an older block.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from emobility.adapters.memory.machine import Execute, Machine, Sent, code_of, read_call, topics_match
from emobility.domain.batch.hashing import keccak256
from emobility.ports.chain import (
    Block,
    CallReverted,
    ChainTransaction,
    ChainUnavailable,
    Fees,
    Log,
    TransactionNotTaken,
    TransactionReceipt,
)
from emobility.ports.clock import Clock, Randomness
from emobility.protocols.eip1559 import created_address

FINALITY_BLOCKS: Final = 2
"""A block is final when this many follow it, as on the embedded chain."""
GAS_BASE: Final = 21_000
GAS_PER_BYTE: Final = 16
BASE_FEE: Final = 1_000_000_000
TIP: Final = 1_000_000_000
REPLACEMENT_PERCENT: Final = 10
"""By how much a transaction must outbid the one it replaces: the rule of geth's pool."""
POOL_MAX: Final = 4_096
_CHAIN_ID_FIRST: Final = 1_000_000_000


@dataclass(slots=True, kw_only=True)
class _Mined:
    """A block, its transactions, and what its writes replaced."""

    block: Block
    sent: list[Sent] = field(default_factory=list)
    receipts: dict[bytes, TransactionReceipt] = field(default_factory=dict)
    replaced: dict[Hashable, Any] = field(default_factory=dict)


class FakeChain:
    """`Chain` in memory. It mines whatever it is handed at once, with `finality_blocks` after it, unless it is held.

    Attributes:
        is_held: Transactions wait for `mine`.
        is_down: Nobody answers.
        answers_lost: So many transactions to come are taken, but their sender hears nothing.
        base_fee: Wei per gas; what offers less waits.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        randomness: Randomness,
        execute: Execute,
        chain_id: int | None = None,
        finality_blocks: int = FINALITY_BLOCKS,
    ) -> None:
        """Begin a chain.

        Args:
            clock: Gives blocks their time.
            randomness: Draws the genesis, and the chain's id if none is given.
            execute: What contracts do.
            chain_id: Its id.
            finality_blocks: A block is final when so many follow it.
        """
        drawn = _CHAIN_ID_FIRST + int.from_bytes(randomness.token_bytes(8), "big") % _CHAIN_ID_FIRST
        self.is_held = False
        self.is_down = False
        self.answers_lost = 0
        self.base_fee = BASE_FEE
        self.finality_blocks: Final = finality_blocks
        self._clock = clock
        self._randomness = randomness
        self._machine = Machine(execute, drawn if chain_id is None else chain_id)
        self._begin()

    # Mishaps

    def mine(self, blocks: int = 1) -> None:
        """Mine blocks; the first takes all transactions that can be."""
        for _ in range(blocks):
            self._mine_one()

    def drop_waiting(self) -> None:
        """Forget the transactions that wait."""
        self._pool.clear()

    def reorganise(self, depth: int, *, keep_transactions: bool = True) -> list[bytes]:
        """Undo the youngest blocks, even final ones; what comes next has other hashes. Return their transactions'.

        Args:
            depth: How many blocks.
            keep_transactions: Theirs wait again; otherwise they are gone, as when a node falls back.
        """
        if not 0 < depth < len(self._blocks):
            raise ValueError(f"{len(self._blocks)} blocks, of which {depth} can't be undone")
        undone = self._blocks[-depth:]
        del self._blocks[-depth:]
        self._fork += 1
        for mined in reversed(undone):
            self._state.update(mined.replaced)
        for mined in undone if keep_transactions else ():
            for sent in mined.sent:
                self._pool.setdefault((sent.sender, sent.transaction.nonce), sent)
        return [sent.hash for mined in undone for sent in mined.sent]

    def forget(self) -> None:
        """Lose everything: another genesis under the same id."""
        self._begin()

    # Reading

    async def chain_id(self) -> int:
        """Return the chain's id."""
        self._require_up()
        return self._machine.chain_id

    async def genesis_hash(self) -> bytes:
        """Return the hash of block 0."""
        self._require_up()
        return self._blocks[0].block.hash

    async def head(self) -> Block:
        """Return the youngest block."""
        self._require_up()
        return self._head

    async def finalized(self) -> Block:
        """Return the block that `finality_blocks` follow, or block 0."""
        self._require_up()
        return self._blocks[max(0, self._head.number - self.finality_blocks)].block

    async def block(self, number: int) -> Block | None:
        """Return the block of this number, None beyond the head."""
        self._require_up()
        return self._blocks[number].block if number < len(self._blocks) else None

    async def code(self, address: bytes) -> bytes:
        """Return a contract's code; empty where there is none."""
        self._require_up()
        return code_of(address, self._state)

    async def call(self, to: bytes, calldata: bytes, *, at_block: int | None = None) -> bytes:
        """Return what a contract answers, at a block or the head. Raises `CallReverted`."""
        self._require_up()
        number = self._head.number if at_block is None else at_block
        if number > self._head.number:
            raise ChainUnavailable(f"there is no block {number} yet")
        # A later block's record of what it replaced is what stood before it.
        state = ChainMap[Hashable, Any]({}, *(mined.replaced for mined in self._blocks[number + 1 :]), self._state)
        return self._machine.answer(state, to, calldata, timestamp_s=self._blocks[number].block.timestamp_s)

    async def transaction(self, transaction_hash: bytes) -> ChainTransaction | None:
        """Return a transaction, waiting or mined; None when the chain does not know it."""
        self._require_up()
        for sent, block_hash in self._known():
            if sent.hash == transaction_hash:
                return ChainTransaction(
                    sender=sent.sender,
                    to=sent.transaction.to,
                    nonce=sent.transaction.nonce,
                    calldata=sent.transaction.calldata,
                    block_hash=block_hash,
                )
        return None

    async def receipt(self, transaction_hash: bytes) -> TransactionReceipt | None:
        """Return what became of a transaction; None while it is in no block."""
        self._require_up()
        found = (mined.receipts.get(transaction_hash) for mined in reversed(self._blocks))
        return next((receipt for receipt in found if receipt is not None), None)

    async def logs(
        self, address: bytes, topics: Sequence[bytes | None], *, from_block: int, to_block: int
    ) -> Sequence[Log]:
        """Return a contract's events in these blocks, both included, in order."""
        self._require_up()
        return [
            log
            for mined in self._blocks[from_block : to_block + 1]
            for receipt in mined.receipts.values()
            for log in receipt.logs
            if log.address == address and topics_match(log.topics, topics)
        ]

    # Writing

    async def nonce(self, account: bytes, *, with_waiting: bool) -> int:
        """Return how many transactions the account has on the chain, with those that wait if asked."""
        self._require_up()
        nonce = self._nonce(account)
        while with_waiting and (account, nonce) in self._pool:
            nonce += 1
        return nonce

    async def estimate_gas(self, sender: bytes, to: bytes | None, calldata: bytes) -> int:
        """Return what a call would take. Raises `CallReverted`."""
        self._require_up()
        made = created_address(sender, self._nonce(sender)) if to is None else None
        state = ChainMap({}, self._state)
        self._machine.carry_out(state, sender, to, calldata, made=made, timestamp_s=self._head.timestamp_s)
        return _gas_of(calldata)

    async def fees(self) -> Fees:
        """Return what to offer: it bears twice today's base fee."""
        self._require_up()
        return Fees(max_fee_per_gas=2 * self.base_fee + TIP, max_priority_fee_per_gas=TIP)

    async def send_raw(self, raw_transaction: bytes) -> bytes:
        """Hand a signed transaction over and return its hash. Raises `TransactionNotTaken`."""
        self._require_up()
        sent = self._taken(raw_transaction)
        self._pool[sent.sender, sent.transaction.nonce] = sent
        if not self.is_held:
            self.mine(1 + self.finality_blocks)
        if self.answers_lost:
            self.answers_lost -= 1
            raise ChainUnavailable("the answer was lost")
        return sent.hash

    # How it works

    def _begin(self) -> None:
        self._fork = 0
        self._state: dict[Hashable, Any] = {}
        self._pool: dict[tuple[bytes, int], Sent] = {}
        genesis = Block(
            number=0,
            hash=keccak256(self._randomness.token_bytes(32)),
            parent_hash=bytes(32),
            timestamp_s=int(self._clock.now().timestamp()),
        )
        self._blocks = [_Mined(block=genesis)]

    @property
    def _head(self) -> Block:
        return self._blocks[-1].block

    def _require_up(self) -> None:
        if self.is_down:
            raise ChainUnavailable("nobody answers")

    def _nonce(self, account: bytes) -> int:
        return self._state.get(("nonce", account)) or 0

    def _known(self) -> Iterator[tuple[Sent, bytes | None]]:
        yield from ((sent, None) for sent in self._pool.values())
        yield from ((sent, mined.block.hash) for mined in reversed(self._blocks) for sent in mined.sent)

    def _taken(self, raw: bytes) -> Sent:
        """Return a transaction that may wait. Raises `TransactionNotTaken` in the words of real nodes."""
        sent = read_call(raw, self._machine.chain_id)
        sender, transaction = sent.sender, sent.transaction
        if transaction.nonce < self._nonce(sender):
            raise TransactionNotTaken("nonce too low")
        if transaction.gas_limit < _gas_of(transaction.calldata):
            raise TransactionNotTaken("intrinsic gas too low")
        waiting = self._pool.get((sender, transaction.nonce))
        if waiting is not None and waiting.hash == sent.hash:
            raise TransactionNotTaken("already known")
        if waiting is not None and not _outbids(transaction.fees, waiting.transaction.fees):
            raise TransactionNotTaken("replacement transaction underpriced")
        if waiting is None and len(self._pool) >= POOL_MAX:
            raise TransactionNotTaken("txpool is full")
        return sent

    def _mine_one(self) -> None:
        parent = self._head
        timestamp_s = max(int(self._clock.now().timestamp()), parent.timestamp_s + 1)
        sent_now = list(self._take_executable())
        content = b"".join(
            (
                parent.hash,
                timestamp_s.to_bytes(8, "big"),
                self._fork.to_bytes(8, "big"),
                *(each.hash for each in sent_now),
            )
        )
        block = Block(
            number=parent.number + 1, hash=keccak256(content), parent_hash=parent.hash, timestamp_s=timestamp_s
        )
        mined = _Mined(block=block, sent=sent_now)
        self._blocks.append(mined)
        log_index = 0
        for sent in sent_now:
            receipt = self._carry_out(sent, mined, log_index)
            mined.receipts[sent.hash] = receipt
            log_index += len(receipt.logs)

    def _take_executable(self) -> Iterator[Sent]:
        """Take from the pool whatever has its sender's next nonce; what is behind a gap or offers too little waits."""
        for account in dict.fromkeys(account for account, _ in self._pool):
            nonce = self._nonce(account)
            while (sent := self._pool.get((account, nonce))) is not None:
                if sent.transaction.fees.max_fee_per_gas < self.base_fee:
                    break
                yield self._pool.pop((account, nonce))
                nonce += 1

    def _carry_out(self, sent: Sent, mined: _Mined, log_index: int) -> TransactionReceipt:
        transaction, block = sent.transaction, mined.block
        made = created_address(sent.sender, transaction.nonce) if transaction.to is None else None
        written: dict[Hashable, Any] = {}
        logs: tuple[tuple[bytes, tuple[bytes, ...], bytes], ...] = ()
        try:
            state, (to, calldata) = ChainMap(written, self._state), (transaction.to, transaction.calldata)
            logs = self._machine.carry_out(
                state, sent.sender, to, calldata, made=made, timestamp_s=block.timestamp_s
            ).logs
            has_succeeded = True
        except CallReverted:
            has_succeeded = False
            written.clear()
        written["nonce", sent.sender] = transaction.nonce + 1
        for key, value in written.items():
            mined.replaced.setdefault(key, self._state.get(key))
            self._state[key] = value
        return TransactionReceipt(
            transaction_hash=sent.hash,
            block_number=block.number,
            block_hash=block.hash,
            has_succeeded=has_succeeded,
            gas_used=_gas_of(transaction.calldata),
            contract_address=made,
            logs=tuple(
                Log(
                    address=address,
                    topics=topics,
                    data=data,
                    block_number=block.number,
                    block_hash=block.hash,
                    transaction_hash=sent.hash,
                    index=log_index + place,
                )
                for place, (address, topics, data) in enumerate(logs)
            ),
        )


def _gas_of(calldata: bytes) -> int:
    return GAS_BASE + GAS_PER_BYTE * len(calldata)


def _outbids(offer: Fees, other: Fees) -> bool:
    return all(
        new * 100 >= old * (100 + REPLACEMENT_PERCENT)
        for new, old in (
            (offer.max_fee_per_gas, other.max_fee_per_gas),
            (offer.max_priority_fee_per_gas, other.max_priority_fee_per_gas),
        )
    )
