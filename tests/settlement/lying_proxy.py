"""A proxy before a real chain's endpoint that answers what its test has it answer."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, TypeAlias

import httpx

from emobility.domain.batch import contracts
from emobility.runtime.network import LOOPBACK

Lie: TypeAlias = Callable[[str, list[Any], Any], Any]
"""Takes method, parameters and the true result; returns what is told."""
_LENGTH: Final = re.compile(rb"(?i)content-length: *(\d+)")


def truth(_method: str, _params: list[Any], result: Any) -> Any:
    """Tell what is."""
    return result


class LyingProxy:
    """One endpoint. `lie` may change at any time; `is_down`: it hangs up; `swallows`: sends nothing on."""

    def __init__(self, target: str) -> None:
        self.lie: Lie = truth
        self.is_down = False
        self.swallows = False
        self.url = ""
        self.asked = 0
        self._target = target
        self._http = httpx.AsyncClient(trust_env=False, timeout=30)

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Ask the real endpoint, and answer."""
        self.asked += 1
        method, params = request["method"], request["params"]
        if method == "eth_sendRawTransaction" and self.swallows:
            return {"jsonrpc": "2.0", "id": request["id"], "result": "0x" + "00" * 32}
        told: dict[str, Any] = (await self._http.post(self._target, json=request)).json()
        if "result" in told:
            told["result"] = self.lie(method, params, told["result"])
        return told

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            while not self.is_down:
                head = await reader.readuntil(b"\r\n\r\n")
                found = _LENGTH.search(head)
                body = await reader.readexactly(int(found[1]) if found else 0)
                told = json.dumps(await self.answer(json.loads(body))).encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(told), told))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, httpx.HTTPError):
            pass  # whoever asked, or the chain, went away
        finally:
            writer.close()

    async def close(self) -> None:
        await self._http.aclose()


@asynccontextmanager
async def proxies(target: str, count: int) -> AsyncIterator[list[LyingProxy]]:
    """Serve so many endpoints of one chain."""
    async with AsyncExitStack() as stack:
        made = []
        for _ in range(count):
            proxy = LyingProxy(target)
            stack.push_async_callback(proxy.close)
            server = await asyncio.start_server(proxy.serve, LOOPBACK, 0)
            stack.push_async_callback(_closed, server)
            proxy.url = f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
            made.append(proxy)
        yield made


async def _closed(server: asyncio.Server) -> None:
    server.close()


def another_chain(method: str, _params: list[Any], result: Any) -> Any:
    """Say that it is another chain."""
    return "0x1" if method == "eth_chainId" else result


def stale_at(number: int) -> Lie:
    """Know nothing after a block."""

    def lie(method: str, params: list[Any], result: Any) -> Any:
        if method == "eth_getBlockByNumber" and result is not None:
            if params[0] in {"latest", "finalized"}:
                return result | {"number": hex(min(number, int(result["number"], 16)))}
            return None if int(result["number"], 16) > number else result
        if method == "eth_getTransactionReceipt" and result is not None:
            return None if int(result["blockNumber"], 16) > number else result
        return result

    return lie


def forged_receipts(method: str, params: list[Any], result: Any) -> Any:
    """Say of each transaction that it is in block 1, and of those that are mined that they failed."""
    if method != "eth_getTransactionReceipt":
        return result
    if result is None:
        return {
            "transactionHash": params[0],
            "blockNumber": "0x1",
            "blockHash": "0x" + "11" * 32,
            "status": "0x1",
            "gasUsed": "0x5208",
            "contractAddress": None,
            "logs": [],
        }
    return result | {"status": "0x0"}


def forged_calls(method: str, params: list[Any], result: Any) -> Any:
    """Say of each batch that all of it is final, and of everybody that they have a million."""
    if method != "eth_call":
        return result
    data = bytes.fromhex(params[0]["data"][2:])
    if data[:4] == contracts.BATCH.selector:
        words = (len(result) - 2) // 64
        return "0x" + "ff" * 32 + ("ff" if words == _WORDS_OF_BITS else "00") * 32 * (words - 1)
    if data[:4] == contracts.COLLATERAL_OF.selector:
        return "0x" + (10**12).to_bytes(32, "big").hex()
    return result


_WORDS_OF_BITS: Final = 4


def dear(method: str, _params: list[Any], result: Any) -> Any:
    """Ask for a fortune, and count nonces that nobody has."""
    if method in {"eth_maxPriorityFeePerGas", "eth_getTransactionCount"}:
        return hex(10**15)
    return result


def thorough(block_of: Callable[[], dict[str, Any]]) -> Lie:
    """Say of whatever was sent that it is final; `block_of` gives a final block to put it into."""

    def lie(method: str, params: list[Any], result: Any) -> Any:
        if method == "eth_getTransactionReceipt" and result is None:
            block = block_of()
            told: dict[str, Any] = forged_receipts(method, params, None)
            return told | {"blockNumber": block["number"], "blockHash": block["hash"]}
        return forged_calls(method, params, result)

    return lie
