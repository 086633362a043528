"""geth in developer mode: a second real node, with the pool's own rules (`make geth`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from eth_account import Account

from emobility.adapters.ethereum import open_ethereum
from emobility.adapters.memory import VirtualClock
from emobility.runtime.child_process import ChildProcess
from emobility.runtime.network import LOOPBACK, free_port
from tests.chains import MNEMONIC, T0, ChainWorld

PROGRAM: Final = Path(__file__).parents[2] / "build" / "geth" / "geth"
READY_S: Final = 60.0
FUNDED_WEI: Final = 10**20
FUNDED: Final = (0, 1)
"""Accounts of the mnemonic that are given money for fees."""


class GethWorld(ChainWorld):
    """A developer chain; each block is final at once."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.mnemonic = MNEMONIC
        self.clock = VirtualClock(T0)
        self._http = httpx.AsyncClient(trust_env=False, timeout=30)

    async def ask(self, method: str, *params: Any) -> Any:
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = (await self._http.post(self.url, json=request)).json()
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        return answer["result"]

    async def is_ready(self) -> bool:
        try:
            return bool(await self.ask("eth_chainId"))
        except httpx.HTTPError:
            return False

    async def fund(self, developer: Any) -> None:
        """Give our accounts of the developer's money."""
        chain_id = int(await self.ask("eth_chainId"), 16)
        for nonce, index in enumerate(FUNDED):
            transfer = {
                "type": 2,
                "chainId": chain_id,
                "nonce": nonce,
                "gas": 21_000,
                "maxFeePerGas": 10**11,
                "maxPriorityFeePerGas": 10**9,
                "to": self.account(index).address,
                "value": FUNDED_WEI,
            }
            raw = developer.sign_transaction(transfer).raw_transaction
            await self.final(await self.chain.send_raw(bytes(raw)))

    async def close(self) -> None:
        await self._http.aclose()


@asynccontextmanager
async def a_geth(folder: Path, *, block_s: int = 0) -> AsyncIterator[GethWorld]:
    """Run geth; `block_s`: seconds between blocks, 0: a block for each transaction."""
    if not PROGRAM.exists():
        pytest.fail("geth is not there: make geth")
    port = free_port()
    argv = [
        str(PROGRAM),
        *("--dev", "--dev.period", str(block_s), "--datadir", str(folder / "data"), "--ipcdisable"),
        *("--http", "--http.addr", LOOPBACK, "--http.port", str(port), "--http.api", "eth,net,web3,txpool,debug"),
        *("--authrpc.port", str(free_port()), "--nodiscover", "--maxpeers", "0", "--verbosity", "2"),
    ]
    process = ChildProcess.spawn("geth", argv, log=folder / "geth.log")
    world = GethWorld(f"http://{LOOPBACK}:{port}")
    try:
        async with asyncio.timeout(READY_S):
            while not await world.is_ready():
                if process.exit_code is not None:
                    pytest.fail(process.last_lines())
                await asyncio.sleep(0.05)
        (file,) = (folder / "data" / "keystore").iterdir()
        developer = Account.from_key(Account.decrypt(file.read_text(), ""))
        async with open_ethereum(world.url, final_blocks=0) as chain:
            world.chain = chain
            await world.fund(developer)
            yield world
    finally:
        process.kill()
        await world.close()
