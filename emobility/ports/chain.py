"""What settlement asks of a chain. No library's types cross here: hashes and addresses are bytes, moments are blocks.

Reading never changes anything, so a verifier of receipts needs no more than `ChainReader`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from emobility.domain.errors import RuleBroken, Unavailable

STRETCH_BLOCKS: Final = 1_000
"""Of which events are asked for at once: Besu answers no more by itself, and many a public node does not either."""


class ChainUnavailable(Unavailable):
    """The endpoint did not answer; what was sent may have arrived."""


class CallReverted(RuleBroken):
    """A contract refused a call. `data` is its error, selector first."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        super().__init__(f"the contract refused: 0x{data.hex()}")


class TransactionNotTaken(RuleBroken):
    """The node did not take a transaction: it is known, its nonce used, or it is too cheap. It may be mined."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the node did not take the transaction: {reason}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block's place, name and time. `timestamp_s`: unix seconds."""

    number: int
    hash: bytes
    parent_hash: bytes
    timestamp_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fees:
    """What a transaction should offer now, in wei per gas."""

    max_fee_per_gas: int
    max_priority_fee_per_gas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainTransaction:
    """A transaction as the chain knows it; `block_hash` None: it waits."""

    sender: bytes
    to: bytes | None
    nonce: int
    calldata: bytes
    block_hash: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """An event of a contract. `index` counts within the block."""

    address: bytes
    topics: tuple[bytes, ...]
    data: bytes
    block_number: int
    block_hash: bytes
    transaction_hash: bytes
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionReceipt:
    """What became of a mined transaction."""

    transaction_hash: bytes
    block_number: int
    block_hash: bytes
    has_succeeded: bool
    gas_used: int
    contract_address: bytes | None
    logs: tuple[Log, ...]


class ChainReader(Protocol):
    """Reads a chain. Every method raises `ChainUnavailable` when the endpoint does not answer."""

    async def chain_id(self) -> int:
        """Return the chain's id."""

    async def genesis_hash(self) -> bytes:
        """Return the hash of block 0: another one means another chain, or one that lost its state."""

    async def head(self) -> Block:
        """Return the youngest block; it may still go."""

    async def finalized(self) -> Block:
        """Return the youngest block that the chain promises to keep."""

    async def block(self, number: int) -> Block | None:
        """Return the block of this number, None beyond the head."""

    async def code(self, address: bytes) -> bytes:
        """Return a contract's code; empty where there is none."""

    async def call(self, to: bytes, calldata: bytes, *, at_block: int | None = None) -> bytes:
        """Return what a contract answers, at a block or the head. Raises `CallReverted`."""

    async def transaction(self, transaction_hash: bytes) -> ChainTransaction | None:
        """Return a transaction, waiting or mined; None when the chain does not know it."""

    async def receipt(self, transaction_hash: bytes) -> TransactionReceipt | None:
        """Return what became of a transaction; None while it is in no block."""

    async def logs(
        self, address: bytes, topics: Sequence[bytes | None], *, from_block: int, to_block: int
    ) -> Sequence[Log]:
        """Return a contract's events in the blocks from `from_block` to `to_block`, both included, in order.

        Nodes refuse stretches that are long for them: `logs_between` asks for some blocks at a time.

        Args:
            address: The contract.
            topics: What the event's topics must be, in order; None takes any.
            from_block: First block.
            to_block: Last block.
        """


async def logs_between(
    chain: ChainReader, contract: bytes, topics: Sequence[bytes | None], *, first: int, last: int
) -> list[Log]:
    """Return a contract's events in the blocks from `first` to `last`, both included, in order, whatever their number.

    Raises `ChainUnavailable`.
    """
    found: list[Log] = []
    for start in range(first, last + 1, STRETCH_BLOCKS):
        end = min(start + STRETCH_BLOCKS - 1, last)
        found += await chain.logs(contract, topics, from_block=start, to_block=end)
    return found


class Chain(ChainReader, Protocol):
    """A chain that transactions are sent to. Keys stay with whoever signs."""

    async def nonce(self, account: bytes, *, with_waiting: bool) -> int:
        """Return how many transactions the account has on the chain, with those that wait if asked."""

    async def estimate_gas(self, sender: bytes, to: bytes | None, calldata: bytes) -> int:
        """Return what a call would take. Raises `CallReverted`."""

    async def fees(self) -> Fees:
        """Return what to offer now."""

    async def send_raw(self, raw_transaction: bytes) -> bytes:
        """Hand a signed transaction over and return its hash; handing it over twice is as once.

        Raises:
            TransactionNotTaken: the node said no; look for the transaction's effect before anything else.
        """
