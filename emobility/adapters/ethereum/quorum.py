"""One chain behind several endpoints, of which none is believed alone: so many must say the same.

Blocks, receipts, calls, code and events count when `quorum` endpoints, more than half of all, give the same answer. Of
numbers that grow (heads, nonces) the highest counts that so many have reached; of prices the middle one. What is sent
goes to all. An endpoint that contradicts the others is named, once in the log and each time in the metric.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

import structlog

from emobility.domain.batch.hashing import keccak256
from emobility.ports.chain import (
    Block,
    CallReverted,
    Chain,
    ChainTransaction,
    ChainUnavailable,
    Fees,
    Log,
    TransactionNotTaken,
    TransactionReceipt,
)

T = TypeVar("T")
STRAGGLER_S: Final = 1.0
"""How long an answer is waited for when enough others are there."""
REST_S: Final = 30.0
"""How long nobody waits for an endpoint that was late or silent; its answers count if they come."""
ENDPOINTS_MAX: Final = 9

_log = structlog.get_logger(__name__)


class QuorumChain:
    """`Chain` over endpoints that are named for people."""

    def __init__(self, endpoints: Mapping[str, Chain], *, quorum: int) -> None:
        """Take the endpoints.

        Args:
            endpoints: By name, at most `ENDPOINTS_MAX`.
            quorum: How many must agree; more than half, or two answers could both count.
        """
        if not len(endpoints) // 2 < quorum <= len(endpoints) <= ENDPOINTS_MAX:
            raise ValueError(f"{quorum} of {len(endpoints)} endpoints is no quorum")
        self._endpoints = dict(endpoints)
        self._quorum = quorum
        self._resting_until_s: dict[str, float] = {}
        self._named: set[tuple[str, str]] = set()
        self.on_dissent: Callable[[str, str], None] = lambda _endpoint, _question: None
        """Told the name of an endpoint that contradicts the others, and about what."""

    # Reading

    async def chain_id(self) -> int:
        """Return the chain's id."""
        return await self._agreed("chain_id", lambda chain: chain.chain_id())

    async def genesis_hash(self) -> bytes:
        """Return the hash of block 0."""
        return await self._agreed("genesis", lambda chain: chain.genesis_hash())

    async def head(self) -> Block:
        """Return the youngest block that enough endpoints have; it may still go."""
        return await self._reached_block("head", lambda chain: chain.head())

    async def finalized(self) -> Block:
        """Return the youngest block that enough endpoints call final."""
        return await self._reached_block("finalized", lambda chain: chain.finalized())

    async def block(self, number: int) -> Block | None:
        """Return the block of this number, None beyond the head."""
        return await self._agreed("block", lambda chain: chain.block(number))

    async def code(self, address: bytes) -> bytes:
        """Return a contract's code; empty where there is none."""
        return await self._agreed("code", lambda chain: chain.code(address))

    async def call(self, to: bytes, calldata: bytes, *, at_block: int | None = None) -> bytes:
        """Return what a contract answers, at a block or at `head`. Raises `CallReverted`."""
        number = (await self.head()).number if at_block is None else at_block
        return await self._agreed("call", lambda chain: chain.call(to, calldata, at_block=number))

    async def transaction(self, transaction_hash: bytes) -> ChainTransaction | None:
        """Return a transaction, waiting or mined; None when the chain does not know it.

        Pools differ, and blocks come while endpoints are asked: one that enough know, and not enough have in a block,
        waits.
        """
        found = await self._asked("transaction", lambda chain: chain.transaction(transaction_hash))
        some = {name: each for name, each in found.items() if each is not None}
        if sum(each.block_hash is not None for each in some.values()) >= self._quorum:
            return self._vote("transaction", found)
        waiting = {name: replace(each, block_hash=None) for name, each in some.items()}
        return self._vote("transaction", waiting) if len(waiting) >= self._quorum else None

    async def receipt(self, transaction_hash: bytes) -> TransactionReceipt | None:
        """Return what became of a transaction; None while it is in no block."""
        return await self._agreed("receipt", lambda chain: chain.receipt(transaction_hash))

    async def logs(
        self, address: bytes, topics: Sequence[bytes | None], *, from_block: int, to_block: int
    ) -> Sequence[Log]:
        """Return a contract's events in these blocks, both included, in order."""

        async def events(chain: Chain) -> tuple[Log, ...]:
            return tuple(await chain.logs(address, topics, from_block=from_block, to_block=to_block))

        return await self._agreed("logs", events)

    # Writing

    async def nonce(self, account: bytes, *, with_waiting: bool) -> int:
        """Return how many transactions of the account enough endpoints have."""
        found = await self._asked("nonce", lambda chain: chain.nonce(account, with_waiting=with_waiting))
        return self._ranked(list(found.values()))

    async def estimate_gas(self, sender: bytes, to: bytes | None, calldata: bytes) -> int:
        """Return what a call would take. Raises `CallReverted` where enough endpoints say so."""
        found = await self._asked("estimate", lambda chain: chain.estimate_gas(sender, to, calldata))
        numbers = [each for each in found.values() if isinstance(each, int)]
        if len(numbers) >= self._quorum:
            return self._ranked(numbers)
        return self._vote("estimate", found)

    async def fees(self) -> Fees:
        """Return what to offer now: no endpoint alone makes it dear."""
        found = list((await self._asked("fees", lambda chain: chain.fees())).values())
        return Fees(
            max_fee_per_gas=self._ranked([each.max_fee_per_gas for each in found]),
            max_priority_fee_per_gas=self._ranked([each.max_priority_fee_per_gas for each in found]),
        )

    async def send_raw(self, raw_transaction: bytes) -> bytes:
        """Hand a signed transaction to all. Raises `TransactionNotTaken` when none takes it."""
        answers: dict[str, Any] = await self._asked("send", lambda chain: chain.send_raw(raw_transaction), at_least=1)
        refusals = [each for each in answers.values() if isinstance(each, TransactionNotTaken)]
        if len(refusals) == len(answers):
            raise refusals[0]
        return keccak256(raw_transaction)

    # Asking

    async def _agreed(self, question: str, ask: Callable[[Chain], Awaitable[T]]) -> T:
        return self._vote(question, await self._asked(question, ask))

    async def _reached_block(self, question: str, ask: Callable[[Chain], Awaitable[Block]]) -> Block:
        """Return the youngest block whose height enough endpoints have reached, and whose hash enough agree on."""
        heights = [each.number for each in (await self._asked(question, ask)).values()]
        number = self._ranked(heights)
        block = await self._agreed(question, lambda chain: chain.block(number))
        if block is None:
            raise ChainUnavailable(f"{question}: the endpoints lost block {number}")
        return block

    def _ranked(self, numbers: Sequence[int]) -> int:
        """Return the highest number that `quorum` of these are not below."""
        return sorted(numbers, reverse=True)[self._quorum - 1]

    async def _asked(
        self, question: str, ask: Callable[[Chain], Awaitable[T]], *, at_least: int | None = None
    ) -> dict[str, T]:
        """Return what endpoints answer, a contract's refusal included. Raises `ChainUnavailable` for too few."""
        loop, enough = asyncio.get_running_loop(), self._quorum if at_least is None else at_least
        tasks = {asyncio.ensure_future(_outcome(ask(chain))): name for name, chain in self._endpoints.items()}
        found: dict[str, T] = {}
        waiting = set(tasks)
        try:
            while waiting:
                awake = {task for task in waiting if self._resting_until_s.get(tasks[task], 0.0) <= loop.time()}
                has_enough = len(found) >= enough
                if has_enough and not awake:
                    break
                done, waiting = await asyncio.wait(
                    waiting, timeout=STRAGGLER_S if has_enough else None, return_when=asyncio.FIRST_COMPLETED
                )
                if not done:
                    break
                for task in done:
                    answer = task.result()
                    if isinstance(answer, ChainUnavailable):
                        self._rest(tasks[task], question)
                    else:
                        found[tasks[task]] = answer
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        for task in waiting:
            self._rest(tasks[task], question)
        if len(found) < enough:
            raise ChainUnavailable(f"{question}: {len(found)} of {len(self._endpoints)} endpoints answer")
        return found

    def _rest(self, name: str, question: str) -> None:
        self._resting_until_s[name] = asyncio.get_running_loop().time() + REST_S
        self._dissents(name, "silence", f"to {question}")

    def _vote(self, question: str, found: Mapping[str, T]) -> T:
        """Return the answer that enough endpoints gave, or raise it. Raises `ChainUnavailable` where none is."""
        voices: defaultdict[Any, list[str]] = defaultdict(list)
        for name, answer in found.items():
            voices[_comparable(answer)].append(name)
        best = max(voices.values(), key=len, default=[])
        if len(best) < self._quorum:
            raise ChainUnavailable(f"{question}: no {self._quorum} of {len(self._endpoints)} endpoints agree")
        for name, other in found.items():
            if name in best:
                self._named.discard((name, question))
            elif other is None or question == "transaction":  # it is behind, or its pool is another one
                self.on_dissent(name, "behind")
            else:
                self._dissents(name, question)
        answer = found[best[0]]
        if isinstance(answer, CallReverted):
            raise answer
        return answer

    def _dissents(self, name: str, question: str, what: str = "") -> None:
        self.on_dissent(name, question)
        if (name, question) not in self._named:
            self._named.add((name, question))
            _log.error("settlement_endpoint_dissents", endpoint=name, question=question, what=what)


async def _outcome(asked: Awaitable[Any]) -> Any:
    try:
        return await asked
    except (ChainUnavailable, CallReverted, TransactionNotTaken) as error:
        return error


def _comparable(answer: Any) -> Any:
    return ("refused", answer.data) if isinstance(answer, CallReverted) else ("said", answer)
