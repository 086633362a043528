"""A chain of our own on loopback: anvil, made, started, watched and stopped by us.

It mines on demand: what waits is put into a block, then `FINALITY_BLOCKS` empty ones follow, so that it becomes final
at once and an idle chain does not grow. Blocks carry the time of the business clock.

Anvil by itself keeps nothing through `kill -9`, and its own saving in intervals loses blocks it has called final. So
we save, and **no block becomes final before it is on disk**: what a reader has seen as final is there after any kill of
anvil. Younger blocks and waiting transactions may be gone; who sent them sends the same bytes again.

This chain protects against mistakes, not against its operator, who can write anything into it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any, Final

import httpx

from emobility.ports.clock import Clock, Randomness, Timer
from emobility.runtime.child_process import POLL_S, ChildProcess, last_lines
from emobility.runtime.folder_lock import FolderLock
from emobility.runtime.foundry import find_foundry
from emobility.runtime.network import LOOPBACK, free_port
from emobility.runtime.supervision import ServerFailed

READY_TIMEOUT_S: Final = 30.0
STOP_GRACE_S: Final = 10.0
LAST_BREATH_S: Final = 1.0
"""A dying anvil breaks our connection before its end is seen; only one that lives on longer than this can't mine."""
CALL_TIMEOUT_S: Final = 30.0
STARTS_MAX: Final = 3
"""Starts tried before giving up; a port may be taken between choosing and binding it."""
FINALITY_BLOCKS: Final = 2
"""A block is final when this many follow it: anvil's `finalized` is two slots' epochs below its head."""
MINING_POLL_S: Final = 0.05
"""How often the chain looks whether a transaction waits."""
HARDFORK: Final = "prague"
FUNDED_ACCOUNTS: Final = 10
"""Accounts of the mnemonic (m/44'/60'/0'/0/i) that have money for fees from the beginning."""
GAS_LIMIT: Final = 30_000_000
"""Gas of a block at least; each chain of ours adds a little of its own."""
_GAS_LIMIT_SPREAD: Final = 2**20
_CHAIN_ID_FIRST: Final = 1_000_000_000
"""Ids below belong to known chains; each chain of ours draws its own, so no signature fits two."""


class EmbeddedChain:
    """An Ethereum chain of our own (`Server`); start it, then read `rpc_url`, `chain_id` and `mnemonic`."""

    def __init__(
        self,
        folder: Path,
        *,
        clock: Clock,
        timer: Timer,
        randomness: Randomness,
        anvil: Path | None = None,
        finality_blocks: int = FINALITY_BLOCKS,
    ) -> None:
        """Describe the chain; nothing happens before `start`.

        Args:
            folder: Its own folder; made when missing.
            clock: Gives blocks their time.
            timer: Measures waiting.
            randomness: Draws the chain's id.
            anvil: The program; looked for when not given.
            finality_blocks: A block is final when so many follow it; an even number.
        """
        self._finality_blocks = finality_blocks
        self._folder = folder.resolve()
        self._clock = clock
        self._timer = timer
        self._randomness = randomness
        self._anvil = anvil
        self._lock = FolderLock(self._folder)
        self._port: int | None = None
        self._child: ChildProcess | None = None
        self._http: httpx.AsyncClient | None = None
        self._miner: asyncio.Task[None] | None = None
        self._saved_block = 0

    @property
    def name(self) -> str:
        """What people call it."""
        return "chain"

    @property
    def pid(self) -> int | None:
        """Process id of anvil while it runs."""
        return self._child.pid if self._child is not None and self._child.exit_code is None else None

    @property
    def rpc_url(self) -> str:
        """Where it answers JSON-RPC; the same after every restart by supervision."""
        return f"http://{LOOPBACK}:{self._port}"

    @property
    def chain_id(self) -> int:
        """Its own random id."""
        return int(self._genesis()["chain_id"])

    @property
    def mnemonic(self) -> str:
        """Random BIP-39 words; the first `FUNDED_ACCOUNTS` accounts can pay fees. Anvil itself does not know them."""
        return (self._folder / "mnemonic").read_text()

    @property
    def has_begun(self) -> bool:
        """Whether there is a chain in the folder; if not, `start` makes one."""
        return self._state.exists()

    async def start(self) -> None:
        """Start the chain, making its genesis first if there is none, and return once it answers and mines.

        Raises:
            FolderInUse: another process owns the folder.
            ComponentMissing: there is no anvil.
            ServerFailed: it does not come up; the end of its log tells why.
        """
        anvil = self._anvil or find_foundry("anvil")
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock.take()
        await self._stop_mining()
        self._http = httpx.AsyncClient(trust_env=False, timeout=CALL_TIMEOUT_S)
        if not self._state.exists():
            await self._make_genesis(anvil)
        await self._start_until_ready(anvil, "--accounts", "0", "--load-state", str(self._state))
        head = await self._call("eth_getBlockByNumber", "latest", False)
        self._saved_block = int(head["number"], 16)
        await self._call("evm_setTime", int(head["timestamp"], 16))  # for calls about the next block
        await self._mine(self._finality_blocks)  # what was saved as the youngest becomes final now
        self._miner = asyncio.create_task(self._mine_on_demand(), name="mine")

    async def down(self) -> str:
        """Return, with the reason, when anvil has ended by itself or can't mine any more."""
        if self._child is None or self._miner is None:
            return "not started"
        child, miner = self._child, self._miner
        ended = asyncio.ensure_future(child.ended(self._timer))
        try:
            await asyncio.wait({ended, miner}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({ended}, timeout=LAST_BREATH_S)
        finally:
            ended.cancel()
        if child.exit_code is None:
            child.kill()
            return f"mining failed: {miner.exception() if not miner.cancelled() else 'cancelled'}"
        return f"exit code {child.exit_code}"

    async def stop(self, *, saves: bool = True) -> None:
        """Save what is unsaved, stop it and give up the folder.

        Args:
            saves: False: whoever only looked leaves the chain as it was found.
        """
        if self._miner is not None:
            self._miner.cancel()
            await asyncio.gather(self._miner, return_exceptions=True)
            with contextlib.suppress(ServerFailed, httpx.HTTPError):  # it may have gone down by itself
                if saves:
                    await self._save()
        await self._stop_mining()
        if self._child is not None:
            await self._child.stop(self._timer, grace_s=STOP_GRACE_S, first=signal.SIGTERM)
            self._child = None
        self._lock.release()

    def kill(self) -> None:
        """End it at once and give up the folder; what was final stays."""
        if self._miner is not None:
            with contextlib.suppress(RuntimeError):  # its loop is closed, and the task with it
                self._miner.cancel()
            self._miner = None
        if self._child is not None:
            self._child.kill()
            self._child = None
        self._lock.release()

    def discard(self) -> None:
        """Remove all its files. Only when stopped."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def log_tail(self) -> str:
        """Return the last lines of its log."""
        return last_lines(self._log)

    @property
    def _log(self) -> Path:
        return self._folder / "chain.log"

    @property
    def _state(self) -> Path:
        return self._folder / "state.json"

    def _genesis(self) -> dict[str, int]:
        genesis: dict[str, int] = json.loads((self._folder / "genesis.json").read_text())
        return genesis

    # Starting

    async def _make_genesis(self, anvil: Path) -> None:
        """Let anvil draw the mnemonic and fund its accounts; its state is written last, and makes the genesis count."""
        chain_id = _CHAIN_ID_FIRST + int.from_bytes(self._randomness.token_bytes(8), "big") % _CHAIN_ID_FIRST
        genesis = {"chain_id": chain_id, "timestamp": int(self._clock.now().timestamp())}
        _write_own(self._folder / "genesis.json", json.dumps(genesis).encode())
        accounts = self._folder / "accounts.json"
        accounts.unlink(missing_ok=True)  # a killed attempt may have left one
        _write_own(accounts, b"")
        # A mnemonic given as an argument could be read by every user of the machine, so anvil draws it itself.
        await self._start_until_ready(
            anvil, "--accounts", str(FUNDED_ACCOUNTS), "--mnemonic-random", "12", "--config-out", str(accounts)
        )
        _write_own(self._folder / "mnemonic", json.loads(accounts.read_bytes())["wallet"]["mnemonic"].encode())
        await self._save()
        accounts.unlink()
        assert self._child is not None
        self._child.kill()

    async def _start_until_ready(self, anvil: Path, *arguments: str) -> None:
        is_port_known = self._port is not None
        for attempt in range(1, STARTS_MAX + 1):
            if not is_port_known:
                self._port = free_port()
            child = self._child = self._spawn(anvil, *arguments)
            if await self._became_ready(child):
                return
            if attempt == STARTS_MAX:
                raise ServerFailed(self.name, "does not start", log_tail=child.last_lines())

    def _spawn(self, anvil: Path, *arguments: str) -> ChildProcess:
        argv = [
            str(anvil),
            *("--host", LOOPBACK, "--port", str(self._port), "--no-cors"),
            # Anvil makes a genesis at every start; were it another one, either might be taken for block 0 later.
            *("--chain-id", str(self.chain_id), "--timestamp", str(self._genesis()["timestamp"])),
            # Without something of its own in block 0, chains that begin in the same second have the same one, and one
            # that lost its state could not be told from itself.
            *("--gas-limit", str(GAS_LIMIT + self.chain_id % _GAS_LIMIT_SPREAD)),
            *("--hardfork", HARDFORK),
            *("--no-mining", "--slots-in-an-epoch", str(self._finality_blocks // 2)),
            *("--cache-path", str(self._folder / "cache"), "--quiet"),  # not quiet, it logs the private keys
            *arguments,
        ]
        env = {"PATH": os.defpath, "HOME": str(self._folder), "LC_ALL": "C", "TZ": "UTC"}
        return ChildProcess.spawn(self.name, argv, log=self._log, env=env, cwd=self._folder)

    async def _became_ready(self, child: ChildProcess) -> bool:
        deadline_s = self._timer.monotonic_s() + READY_TIMEOUT_S
        while child.exit_code is None:
            with contextlib.suppress(httpx.HTTPError):
                return int(await self._call("eth_chainId"), 16) == self.chain_id
            if self._timer.monotonic_s() > deadline_s:
                child.kill()
                raise ServerFailed(self.name, f"not ready after {READY_TIMEOUT_S:.0f} s", log_tail=child.last_lines())
            await self._timer.sleep(POLL_S)
        return False

    # Mining and saving

    async def _mine_on_demand(self) -> None:
        while True:
            if await self._is_work_waiting():
                empty_blocks = 0
                # A transaction may come into a block that was to be empty; then two must follow that one.
                while empty_blocks < self._finality_blocks:
                    await self._mine(1)
                    empty_blocks = 0 if await self._has_head_transactions() else empty_blocks + 1
            await self._timer.sleep(MINING_POLL_S)

    async def _is_work_waiting(self) -> bool:
        return int((await self._call("txpool_status"))["pending"], 16) > 0

    async def _has_head_transactions(self) -> bool:
        return bool((await self._call("eth_getBlockByNumber", "latest", False))["transactions"])

    async def _stop_mining(self) -> None:
        if self._miner is not None:
            self._miner.cancel()
            await asyncio.gather(self._miner, return_exceptions=True)
            self._miner = None
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def _mine(self, count: int) -> None:
        for _ in range(count):
            head = await self._call("eth_getBlockByNumber", "latest", False)
            if int(head["number"], 16) - self._saved_block >= self._finality_blocks:
                await self._save()
            at_s = max(int(self._clock.now().timestamp()), int(head["timestamp"], 16) + 1)
            await self._call("evm_mine", {"timestamp": at_s})

    async def _save(self) -> None:
        """Write the state beside the old one, then in its place, so that a kill leaves one of the two whole."""
        head = await self._head()
        packed = bytes.fromhex((await self._call("anvil_dumpState"))[2:])
        unfinished = self._state.with_suffix(".unfinished")
        _write_own(unfinished, gzip.decompress(packed))
        unfinished.replace(self._state)
        self._saved_block = head

    async def _head(self) -> int:
        return int(await self._call("eth_blockNumber"), 16)

    async def _call(self, method: str, *params: Any) -> Any:
        """Call JSON-RPC. Raises `ServerFailed` for an error in the answer, `httpx.HTTPError` for none."""
        assert self._http is not None
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = (await self._http.post(self.rpc_url, json=request)).json()
        if "error" in answer:
            raise ServerFailed(self.name, f"{method}: {answer['error'].get('message')}")
        return answer["result"]


def _write_own(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, and have it on disk before returning."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
