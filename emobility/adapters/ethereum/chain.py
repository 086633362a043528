"""A chain behind JSON-RPC: our values in, our values and errors out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from emobility.adapters.ethereum.rpc import JSONRPC, RPCRefused
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

BASE_FEE_HEADROOM: Final = 2
"""The offer bears a base fee this many times today's; six full blocks in a row double it."""
NUMBER_MAX: Final = 2**63 - 1
"""Of blocks, gas, nonces, chain ids and wei per gas: what rows hold, and far more than any chain has."""


class EthereumChain:
    """`Chain` over one endpoint; see `open_ethereum`."""

    def __init__(self, rpc: JSONRPC, *, final_blocks: int | None = None) -> None:
        """Take the endpoint. `final_blocks`: a block is final when so many follow it; None: as the chain says."""
        self._rpc = rpc
        self._final_blocks = final_blocks

    async def chain_id(self) -> int:
        """Return the chain's id."""
        return _number(await self._ask("eth_chainId"))

    async def genesis_hash(self) -> bytes:
        """Return the hash of block 0."""
        return (await self._named_block("earliest")).hash

    async def head(self) -> Block:
        """Return the youngest block; it may still go."""
        return await self._named_block("latest")

    async def finalized(self) -> Block:
        """Return the youngest block that the chain promises to keep; block 0 is always one."""
        if self._final_blocks is not None:
            head = await self.head()
            return head if not self._final_blocks else await self._block_before(head)
        found = await self._ask("eth_getBlockByNumber", "finalized", False)
        return await self._named_block("earliest") if found is None else _block(found)

    async def _block_before(self, head: Block) -> Block:
        assert self._final_blocks is not None
        found = await self.block(max(0, head.number - self._final_blocks))
        if found is None:
            raise ChainUnavailable("the chain went back while it was asked for its final block")
        return found

    async def block(self, number: int) -> Block | None:
        """Return the block of this number, None beyond the head."""
        found = await self._ask("eth_getBlockByNumber", hex(number), False)
        return None if found is None else _block(found)

    async def code(self, address: bytes) -> bytes:
        """Return a contract's code; empty where there is none."""
        return _bytes(await self._ask("eth_getCode", _hex(address), "latest"))

    async def call(self, to: bytes, calldata: bytes, *, at_block: int | None = None) -> bytes:
        """Return what a contract answers, at a block or the head. Raises `CallReverted`."""
        call = {"to": _hex(to), "data": _hex(calldata)}
        return _bytes(await self._ask_contract("eth_call", call, "latest" if at_block is None else hex(at_block)))

    async def transaction(self, transaction_hash: bytes) -> ChainTransaction | None:
        """Return a transaction, waiting or mined; None when the chain does not know it."""
        found = await self._ask("eth_getTransactionByHash", _hex(transaction_hash))
        if found is None:
            return None
        return ChainTransaction(
            sender=_bytes(_field(found, "from")),
            to=_optional_bytes(found.get("to")),
            nonce=_number(_field(found, "nonce")),
            calldata=_bytes(_field(found, "input")),
            block_hash=_optional_bytes(found.get("blockHash")),
        )

    async def receipt(self, transaction_hash: bytes) -> TransactionReceipt | None:
        """Return what became of a transaction; None while it is in no block."""
        found = await self._ask("eth_getTransactionReceipt", _hex(transaction_hash))
        if found is None:
            return None
        return TransactionReceipt(
            transaction_hash=_bytes(_field(found, "transactionHash")),
            block_number=_number(_field(found, "blockNumber")),
            block_hash=_bytes(_field(found, "blockHash")),
            has_succeeded=_number(_field(found, "status")) == 1,
            gas_used=_number(_field(found, "gasUsed")),
            contract_address=_optional_bytes(found.get("contractAddress")),
            logs=tuple(_log(log) for log in _list(_field(found, "logs"))),
        )

    async def logs(
        self, address: bytes, topics: Sequence[bytes | None], *, from_block: int, to_block: int
    ) -> Sequence[Log]:
        """Return a contract's events in these blocks, both included, in order."""
        asked = {
            "address": _hex(address),
            "topics": [None if topic is None else _hex(topic) for topic in topics],
            "fromBlock": hex(from_block),
            "toBlock": hex(to_block),
        }
        found = [_log(log) for log in _list(await self._ask("eth_getLogs", asked))]
        return sorted(found, key=lambda log: (log.block_number, log.index))

    async def nonce(self, account: bytes, *, with_waiting: bool) -> int:
        """Return how many transactions the account has on the chain, with those that wait if asked."""
        return _number(
            await self._ask("eth_getTransactionCount", _hex(account), "pending" if with_waiting else "latest")
        )

    async def estimate_gas(self, sender: bytes, to: bytes | None, calldata: bytes) -> int:
        """Return what a call would take. Raises `CallReverted`."""
        call = {"from": _hex(sender), "data": _hex(calldata)} | ({} if to is None else {"to": _hex(to)})
        return _number(await self._ask_contract("eth_estimateGas", call))

    async def fees(self) -> Fees:
        """Return what to offer now."""
        head, tip_answer = await asyncio.gather(
            self._ask("eth_getBlockByNumber", "latest", False), self._ask("eth_maxPriorityFeePerGas")
        )
        tip, base = _number(tip_answer), _number(_field(head, "baseFeePerGas"))
        return Fees(max_fee_per_gas=BASE_FEE_HEADROOM * base + tip, max_priority_fee_per_gas=tip)

    async def send_raw(self, raw_transaction: bytes) -> bytes:
        """Hand a signed transaction over and return its hash. Raises `TransactionNotTaken`."""
        try:
            await self._rpc.ask("eth_sendRawTransaction", _hex(raw_transaction))
        except RPCRefused as refusal:
            raise TransactionNotTaken(refusal.message) from None
        return keccak256(raw_transaction)

    async def _named_block(self, name: str) -> Block:
        return _block(await self._ask("eth_getBlockByNumber", name, False))

    async def _ask_contract(self, method: str, *params: Any) -> Any:
        try:
            return await self._rpc.ask(method, *params)
        except RPCRefused as refusal:
            if refusal.revert_data is not None:
                raise CallReverted(refusal.revert_data) from None
            raise ChainUnavailable(f"{method}: {refusal.message}") from None

    async def _ask(self, method: str, *params: Any) -> Any:
        """Ask what no contract can refuse, so that a node which does can't answer just now."""
        try:
            return await self._rpc.ask(method, *params)
        except RPCRefused as refusal:
            raise ChainUnavailable(f"{method}: {refusal.message}") from None


def _block(found: Any) -> Block:
    return Block(
        number=_number(_field(found, "number")),
        hash=_bytes(_field(found, "hash")),
        parent_hash=_bytes(_field(found, "parentHash")),
        timestamp_s=_number(_field(found, "timestamp")),
    )


def _log(found: Any) -> Log:
    return Log(
        address=_bytes(_field(found, "address")),
        topics=tuple(_bytes(topic) for topic in _list(_field(found, "topics"))),
        data=_bytes(_field(found, "data")),
        block_number=_number(_field(found, "blockNumber")),
        block_hash=_bytes(_field(found, "blockHash")),
        transaction_hash=_bytes(_field(found, "transactionHash")),
        index=_number(_field(found, "logIndex")),
    )


def _field(found: Any, name: str) -> Any:
    if not isinstance(found, dict) or name not in found:
        raise ChainUnavailable(f"an answer has no {name}")
    return found[name]


def _list(found: Any) -> list[Any]:
    if not isinstance(found, list):
        raise ChainUnavailable("an answer is no list")
    return found


def _hex(value: bytes) -> str:
    return "0x" + value.hex()


def _bytes(found: Any) -> bytes:
    try:
        return bytes.fromhex(found.removeprefix("0x"))
    except (AttributeError, ValueError):
        raise ChainUnavailable("an answer holds no bytes where it should") from None


def _optional_bytes(found: Any) -> bytes | None:
    return None if found is None else _bytes(found)


def _number(found: Any) -> int:
    try:
        number = int(found, 16)
    except (TypeError, ValueError):
        raise ChainUnavailable("an answer holds no number where it should") from None
    if not 0 <= number <= NUMBER_MAX:
        raise ChainUnavailable("an answer holds a number that nothing has")
    return number
