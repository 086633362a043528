"""Several endpoints of one chain, of which one lies, is behind, is silent or serves another chain."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import pytest

from emobility.adapters.ethereum import EthereumChain, QuorumChain, open_ethereum
from emobility.adapters.memory import run_virtual
from emobility.domain.batch import contracts
from emobility.ports.chain import CallReverted, Chain, ChainUnavailable, TransactionNotTaken
from tests.chains import FakeWorld

HOLDER: Final = b"\3" * 20


class Liar:
    """A chain's endpoint, one of whose answers is made up."""

    def __init__(self, chain: Chain, question: str, lie: Callable[[Any], Any]) -> None:
        self._chain = chain
        self._question = question
        self._lie = lie

    def __getattr__(self, name: str) -> Any:
        honest = getattr(self._chain, name)
        if name != self._question:
            return honest

        async def lying(*args: Any, **kwargs: Any) -> Any:
            return self._lie(None if self._lie in DEAF else await honest(*args, **kwargs))

        return lying


def down(_answer: Any) -> Any:
    raise ChainUnavailable("nobody answers")


def refuse(_answer: Any) -> Any:
    raise TransactionNotTaken("I do not like it")


DEAF: Final = (down, refuse)
"""Lies that are told without asking."""


class Endpoints:
    """Two honest endpoints and one that is none."""

    def __init__(self, question: str, lie: Callable[[Any], Any], *, liars: int = 1) -> None:
        self.world = FakeWorld()
        honest: Sequence[Any] = [self.world.chain] * (3 - liars)
        all_: list[Any] = [*(Liar(self.world.chain, question, lie) for _ in range(liars)), *honest]
        self.chain = QuorumChain({f"{place} host": each for place, each in enumerate(all_, start=1)}, quorum=2)
        self.dissents: list[tuple[str, str]] = []
        self.chain.on_dissent = lambda endpoint, question: self.dissents.append((endpoint, question))


LIES: Final[dict[str, tuple[Callable[[Any], Any], Callable[[Chain, bytes], Awaitable[Any]]]]] = {
    "chain_id": (lambda answer: answer + 1, lambda chain, _: chain.chain_id()),
    "genesis_hash": (lambda _: bytes(32), lambda chain, _: chain.genesis_hash()),
    "block": (lambda answer: replace(answer, hash=b"\1" * 32), lambda chain, _: chain.block(1)),
    "receipt": (lambda answer: replace(answer, has_succeeded=False), lambda chain, sent: chain.receipt(sent)),
    "call": (
        lambda _: (10**9).to_bytes(32, "big"),
        lambda chain, _: chain.call(HOLDER, contracts.TOKENS_OF.call(HOLDER)),
    ),
    "code": (lambda _: b"\1", lambda chain, _: chain.code(HOLDER)),
    "logs": (lambda _: [], lambda chain, _: chain.logs(HOLDER, (), from_block=0, to_block=9)),
    "nonce": (lambda answer: answer + 9, lambda chain, _: chain.nonce(HOLDER, with_waiting=False)),
    "fees": (
        lambda answer: replace(answer, max_fee_per_gas=10**18, max_priority_fee_per_gas=10**18),
        lambda chain, _: chain.fees(),
    ),
    "estimate_gas": (lambda _: 10**9, lambda chain, _: chain.estimate_gas(HOLDER, HOLDER, b"")),
    "head": (lambda answer: replace(answer, number=answer.number + 99), lambda chain, _: chain.head()),
    "finalized": (lambda answer: replace(answer, number=answer.number + 1), lambda chain, _: chain.finalized()),
}


async def a_transaction(world: FakeWorld) -> bytes:
    currency = await world.currency()
    return await world.sent(currency, contracts.MINT.call(HOLDER, 5))


@pytest.mark.parametrize("question", LIES)
async def test_one_endpoint_that_lies_is_not_believed(question: str) -> None:
    lie, ask = LIES[question]
    endpoints = Endpoints(question, lie)
    sent = await a_transaction(endpoints.world)

    said, true = await ask(endpoints.chain, sent), await ask(endpoints.world.chain, sent)

    assert (tuple(said) if question == "logs" else said) == (tuple(true) if question == "logs" else true)
    if question not in {"nonce", "fees", "estimate_gas", "head", "finalized", "logs", "code", "call"}:
        assert {endpoint for endpoint, _ in endpoints.dissents} == {"1 host"}


@pytest.mark.parametrize("question", ["chain_id", "genesis_hash", "block", "receipt"])
async def test_where_no_two_agree_nothing_is_believed(question: str) -> None:
    _, ask = LIES[question]
    numbers = iter(range(1, 100))
    lies: dict[str, Callable[[Any], Any]] = {
        "chain_id": lambda answer: answer + next(numbers),
        "genesis_hash": lambda _: bytes([next(numbers)] * 32),
        "block": lambda answer: replace(answer, hash=bytes([next(numbers)] * 32)),
        "receipt": lambda answer: replace(answer, gas_used=next(numbers)),
    }
    endpoints = Endpoints(question, lies[question], liars=2)
    sent = await a_transaction(endpoints.world)

    with pytest.raises(ChainUnavailable, match=f"{question.partition('_')[0]}.*no 2 of 3 endpoints agree"):
        await ask(endpoints.chain, sent)


async def test_a_dissenter_is_named_each_time_it_contradicts() -> None:
    endpoints = Endpoints("chain_id", lambda answer: answer + 1)

    for _ in range(3):
        await endpoints.chain.chain_id()

    assert endpoints.dissents == [("1 host", "chain_id")] * 3


async def test_a_stale_endpoint_is_behind_and_moves_nobody() -> None:
    endpoints = Endpoints("block", lambda _: None)
    await a_transaction(endpoints.world)

    assert await endpoints.chain.finalized() == await endpoints.world.chain.finalized()
    assert ("1 host", "behind") in endpoints.dissents


async def test_with_one_endpoint_down_the_others_serve_and_with_two_nobody_does() -> None:
    assert await Endpoints("chain_id", down).chain.chain_id()

    with pytest.raises(ChainUnavailable, match="1 of 3 endpoints answer"):
        await Endpoints("chain_id", down, liars=2).chain.chain_id()


def test_an_endpoint_that_hangs_is_waited_for_once() -> None:
    async def ask_twice() -> tuple[float, float]:
        endpoints = Endpoints("chain_id", lambda answer: answer)

        async def hang() -> int:
            await asyncio.sleep(10)
            return 0

        endpoints.chain._endpoints["1 host"].chain_id = hang  # type: ignore[method-assign]
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        await endpoints.chain.chain_id()
        first_s = loop.time() - began_s
        await endpoints.chain.chain_id()
        return first_s, loop.time() - began_s - first_s

    first_s, second_s = run_virtual(ask_twice())

    assert first_s == pytest.approx(1.0)
    assert second_s == 0


async def test_a_contract_s_refusal_counts_when_enough_tell_it() -> None:
    endpoints = Endpoints("call", lambda _: b"")
    currency = await endpoints.world.currency()

    with pytest.raises(CallReverted) as refusal:
        await endpoints.chain.call(currency, contracts.MINT.call(HOLDER, 5))

    assert refusal.value.data == contracts.NOT_IN_ROLE.call(bytes(20), contracts.MINTER_ROLE)


async def test_what_is_sent_goes_to_all_and_one_that_takes_it_is_enough() -> None:
    endpoints = Endpoints("send_raw", refuse, liars=2)
    raw = await endpoints.world.signed(HOLDER, b"")

    sent = await endpoints.chain.send_raw(raw)
    with pytest.raises(TransactionNotTaken):
        await Endpoints("send_raw", refuse, liars=3).chain.send_raw(raw)

    assert (await endpoints.world.final(sent)).has_succeeded


async def test_a_transaction_that_one_pool_has_lost_is_unknown_to_nobody_who_matters() -> None:
    endpoints = Endpoints("transaction", lambda _: None)
    endpoints.world.fake.is_held = True
    sent = await endpoints.world.sent(HOLDER, b"")

    known = await endpoints.chain.transaction(sent)
    lost = await Endpoints("transaction", lambda _: None, liars=2).chain.transaction(sent)

    assert known is not None
    assert lost is None


async def test_a_transaction_whose_block_comes_while_two_are_asked_still_waits() -> None:
    endpoints = Endpoints("transaction", lambda answer: replace(answer, block_hash=None), liars=1)
    sent = await a_transaction(endpoints.world)
    two = QuorumChain(dict(list(endpoints.chain._endpoints.items())[:2]), quorum=2)

    known, mined = await two.transaction(sent), await endpoints.world.chain.transaction(sent)

    assert mined is not None
    assert mined.block_hash is not None
    assert known == replace(mined, block_hash=None)


@pytest.mark.parametrize(("count", "quorum"), [(2, 1), (4, 2), (3, 4), (10, 6)])
def test_half_of_the_endpoints_are_no_quorum(count: int, quorum: int) -> None:
    chain: Any = FakeWorld().chain

    with pytest.raises(ValueError, match="is no quorum"):
        QuorumChain({str(place): chain for place in range(count)}, quorum=quorum)


async def test_one_url_is_one_endpoint_and_several_are_a_majority() -> None:
    async with open_ethereum("http://127.0.0.1:1/key") as one:
        assert isinstance(one, EthereumChain)
    async with open_ethereum("http://127.0.0.1:1/key, http://u:p@127.0.0.1:2/key,http://127.0.0.1:3") as several:
        assert isinstance(several, QuorumChain)
        assert list(several._endpoints) == ["1 127.0.0.1:1", "2 127.0.0.1:2", "3 127.0.0.1:3"]
        assert several._quorum == 2
