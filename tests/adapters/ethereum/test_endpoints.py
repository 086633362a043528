"""What endpoints answer that anvil does not: silence, nonsense, other ways to say that a contract refused."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from emobility.adapters.ethereum import EthereumChain, QuorumChain, open_ethereum, rpc
from emobility.ports.chain import CallReverted, ChainUnavailable, TransactionNotTaken
from emobility.runtime.network import LOOPBACK

CONTRACT = b"\1" * 20
SECRET = "a-key-in-the-url"
SELECTOR = "0x9f7e9150"


@asynccontextmanager
async def an_endpoint(
    body: bytes, *, status: str = "200 OK", is_silent: bool = False
) -> AsyncIterator[EthereumChain | QuorumChain]:
    """An HTTP server that gives one answer to everything."""
    never = asyncio.Event()  # a client that gives up is not waited for

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if is_silent:
            await never.wait()
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, LOOPBACK, 0)
    port = server.sockets[0].getsockname()[1]
    async with server, open_ethereum(f"http://{LOOPBACK}:{port}/{SECRET}", timeout_s=0.3) as chain:
        yield chain
        never.set()


def a_result(result: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 0, "result": result}).encode()


def an_error(**error: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 0, "error": error}).encode()


async def test_an_endpoint_that_nobody_serves_is_unavailable(free_port: int) -> None:
    async with open_ethereum(f"http://{LOOPBACK}:{free_port}/{SECRET}") as chain:
        with pytest.raises(ChainUnavailable) as refusal:
            await chain.chain_id()

    assert SECRET not in str(refusal.value)


async def test_an_endpoint_that_says_nothing_is_unavailable_in_time() -> None:
    async with an_endpoint(b"", is_silent=True) as chain:
        with pytest.raises(ChainUnavailable, match="does not answer eth_sendRawTransaction: not in time"):
            await chain.send_raw(b"\2")


async def test_an_error_of_http_is_unavailable_and_does_not_tell_the_url() -> None:
    async with an_endpoint(b"slow down", status="429 Too Many Requests") as chain:
        with pytest.raises(ChainUnavailable) as refusal:
            await chain.head()

    assert SECRET not in str(refusal.value)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"result": 1, "error": {}}',
        a_result(None),
        a_result("zz"),
        a_result([]),
        a_result({}),
    ],
)
async def test_an_answer_that_is_none_is_unavailable(body: bytes) -> None:
    async with an_endpoint(body) as chain:
        for asked in (chain.chain_id(), chain.head(), chain.fees()):
            with pytest.raises(ChainUnavailable):
                await asked


async def test_events_that_are_none_are_unavailable() -> None:
    async with an_endpoint(a_result([{"address": "0x"}])) as chain:
        with pytest.raises(ChainUnavailable, match="no topics"):
            await chain.logs(CONTRACT, [], from_block=0, to_block=1)


@pytest.mark.parametrize(
    ("error", "data"),
    [
        ({"code": 3, "message": "execution reverted", "data": SELECTOR}, bytes.fromhex(SELECTOR[2:])),
        ({"code": -32000, "message": "Execution reverted", "data": SELECTOR}, bytes.fromhex(SELECTOR[2:])),
        ({"code": -32603, "message": "VM Exception", "data": {"data": SELECTOR}}, bytes.fromhex(SELECTOR[2:])),
        ({"code": 3, "message": "execution reverted"}, b""),
        ({"code": -32015, "message": "VM execution error: revert", "data": "Reverted 0x"}, b""),
        ({"code": -32000, "message": "execution reverted", "data": "0xzz"}, b""),
    ],
)
async def test_a_contract_s_refusal_is_known_in_each_node_s_words(error: dict[str, Any], data: bytes) -> None:
    async with an_endpoint(an_error(**error)) as chain:
        for asked in (chain.call(CONTRACT, b""), chain.estimate_gas(CONTRACT, None, b"")):
            with pytest.raises(CallReverted) as refusal:
                await asked

    assert refusal.value.data == data


async def test_a_node_that_can_not_look_is_unavailable_and_no_contract_refused() -> None:
    async with an_endpoint(an_error(code=-32000, message="missing trie node")) as chain:
        for asked in (chain.call(CONTRACT, b""), chain.receipt(bytes(32)), chain.nonce(CONTRACT, with_waiting=True)):
            with pytest.raises(ChainUnavailable, match="missing trie node"):
                await asked


@pytest.mark.parametrize("words", ["already known", "nonce too low", "replacement transaction underpriced"])
async def test_a_transaction_that_a_node_does_not_take_says_why(words: str) -> None:
    async with an_endpoint(an_error(code=-32000, message=words)) as chain:
        with pytest.raises(TransactionNotTaken) as refusal:
            await chain.send_raw(b"\2")

    assert refusal.value.reason == words


async def test_a_chain_without_a_final_block_promises_its_first() -> None:
    class NoneFinal:
        async def ask(self, _method: str, *params: Any) -> Any:
            block = {"number": "0x0", "hash": "0x01", "parentHash": "0x00", "timestamp": "0x5"}
            return None if params[0] == "finalized" else block

    chain = EthereumChain(NoneFinal())  # type: ignore[arg-type]  # asks like one

    assert (await chain.finalized()).number == 0


async def test_a_call_that_is_cancelled_holds_up_no_other() -> None:
    async with an_endpoint(a_result("0x7")) as chain:
        for _ in range(20):
            cancelled = asyncio.ensure_future(chain.chain_id())
            await asyncio.sleep(0)
            cancelled.cancel()

        async with asyncio.timeout(5):
            assert await chain.chain_id() == 7


@pytest.mark.parametrize(
    "result",
    [
        "0x" + "f" * 40,
        "-0x5",
        {"number": "-0x1", "hash": "0x01", "parentHash": "0x00", "timestamp": "0x5"},
        {"number": hex(2**63), "hash": "0x01", "parentHash": "0x00", "timestamp": "0x5"},
    ],
)
async def test_a_number_that_nothing_has_is_no_answer(result: Any) -> None:
    async with an_endpoint(a_result(result)) as chain:
        for asked in (chain.chain_id(), chain.head(), chain.nonce(CONTRACT, with_waiting=False)):
            with pytest.raises(ChainUnavailable):
                await asked


async def test_an_answer_as_deep_as_a_stack_is_none() -> None:
    async with an_endpoint(b'{"result":' + b"[" * 200_000) as chain:
        with pytest.raises(ChainUnavailable):
            await chain.chain_id()


async def test_no_more_is_read_than_an_answer_can_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc, "ANSWER_BYTES_MAX", 100)
    async with an_endpoint(a_result("0x" + "0" * 100)) as chain:
        with pytest.raises(ChainUnavailable):
            await chain.chain_id()


async def test_a_packed_answer_is_not_unpacked() -> None:
    packed = gzip.compress(a_result("0x1"))
    async with an_endpoint(packed, status="200 OK\r\nContent-Encoding: gzip") as chain:
        with pytest.raises(ChainUnavailable):
            await chain.chain_id()


async def test_a_node_s_words_fit_a_row_and_a_line() -> None:
    async with an_endpoint(an_error(code=-32000, message="\ud800\0 no\n\x1b[2J" + "x" * 5_000)) as chain:
        with pytest.raises(TransactionNotTaken) as refusal:
            await chain.send_raw(b"\2")

    assert refusal.value.reason.isprintable()
    assert len(refusal.value.reason) <= rpc.MESSAGE_CHARACTERS_MAX
