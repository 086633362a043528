from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from emobility.adapters.system import SystemRandomness, SystemTimer
from emobility.runtime import foundry
from emobility.runtime.embedded_chain import FINALITY_BLOCKS, EmbeddedChain
from emobility.runtime.folder_lock import FolderInUse
from emobility.runtime.foundry import find_foundry
from emobility.runtime.supervision import ComponentMissing, ServerFailed, keep_running

pytestmark = [pytest.mark.chain, pytest.mark.fault]

DEADLINE_S = 30.0
SENDER = "0x00000000000000000000000000000000000000aa"
KILLS = 6


class FixedClock:
    """Business time that a test sets."""

    def __init__(self) -> None:
        self.at = datetime(2022, 3, 26, 12, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at

    async def sleep_until(self, at: datetime) -> None:
        raise AssertionError(f"the chain never sleeps by business time, not until {at}")


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
async def chain(tmp_path: Path, clock: FixedClock) -> AsyncIterator[EmbeddedChain]:
    server = a_chain(tmp_path, clock)
    yield server
    await server.stop()


def a_chain(folder: Path, clock: FixedClock) -> EmbeddedChain:
    return EmbeddedChain(folder / "chain", clock=clock, timer=SystemTimer(), randomness=SystemRandomness())


async def call(chain: EmbeddedChain, method: str, *params: Any) -> Any:
    async with httpx.AsyncClient(trust_env=False) as client:
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = (await client.post(chain.rpc_url, json=request)).json()
    assert "error" not in answer, answer
    return answer["result"]


async def send(chain: EmbeddedChain, value: int = 1) -> str:
    """Send a transaction from a stranger whom anvil is told to believe."""
    await call(chain, "anvil_setBalance", SENDER, hex(10**18))
    await call(chain, "anvil_impersonateAccount", SENDER)
    sent: str = await call(chain, "eth_sendTransaction", {"from": SENDER, "to": SENDER, "value": hex(value)})
    return sent


async def block(chain: EmbeddedChain, which: str) -> dict[str, Any]:
    found: dict[str, Any] = await call(chain, "eth_getBlockByNumber", which, False)
    return found


async def mined(chain: EmbeddedChain, transaction: str) -> dict[str, Any]:
    """Wait until a transaction is in a block that is final; return its receipt."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            receipt: dict[str, Any] | None = await call(chain, "eth_getTransactionReceipt", transaction)
            final = await block(chain, "finalized")
            if receipt is not None and int(receipt["blockNumber"], 16) <= int(final["number"], 16):
                return receipt
            await asyncio.sleep(0.02)


def of_the_kernel(name: str) -> str:
    return (Path("/proc") / name).read_text()


async def killed(chain: EmbeddedChain) -> str:
    assert chain.pid is not None
    os.kill(chain.pid, signal.SIGKILL)
    return await chain.down()


async def test_a_transaction_is_mined_on_demand_and_becomes_final(chain: EmbeddedChain) -> None:
    await chain.start()

    receipt = await mined(chain, await send(chain))

    head = await block(chain, "latest")
    assert int(receipt["status"], 16) == 1
    assert int(head["number"], 16) == int(receipt["blockNumber"], 16) + FINALITY_BLOCKS


async def test_blocks_carry_the_time_of_the_business_clock(chain: EmbeddedChain, clock: FixedClock) -> None:
    await chain.start()
    genesis = await block(chain, "0x0")
    clock.at += timedelta(days=2)

    receipt = await mined(chain, await send(chain))

    at_s = int((await block(chain, receipt["blockNumber"]))["timestamp"], 16)
    assert int(genesis["timestamp"], 16) == int((clock.at - timedelta(days=2)).timestamp())
    assert at_s == int(clock.at.timestamp())


async def test_time_never_stands_still_from_block_to_block(chain: EmbeddedChain) -> None:
    await chain.start()

    receipt = await mined(chain, await send(chain))

    number = int(receipt["blockNumber"], 16)
    times = [int((await block(chain, hex(place)))["timestamp"], 16) for place in range(number + FINALITY_BLOCKS + 1)]
    assert all(earlier < later for earlier, later in pairwise(times))


async def test_no_final_block_is_lost_by_kill_9(chain: EmbeddedChain) -> None:
    await chain.start()
    address, genesis = chain.rpc_url, (await block(chain, "0x0"))["hash"]
    final: dict[str, str] = {}

    for round_number in range(KILLS):
        await mined(chain, await send(chain, value=round_number))
        await send(chain, value=100 + round_number)
        # Somewhere between its mining and its finality.
        await asyncio.sleep(0.02 * round_number)
        seen = await block(chain, "finalized")
        final[seen["number"]] = seen["hash"]
        reason = await killed(chain)
        await chain.start()

        assert reason == "exit code -9"
        assert chain.rpc_url == address
        assert (await block(chain, "0x0"))["hash"] == genesis
        assert {number: (await block(chain, number))["hash"] for number in final} == final


async def test_receipts_and_transactions_are_there_after_kill_9(chain: EmbeddedChain) -> None:
    await chain.start()
    transaction = await send(chain, value=7)
    before = await mined(chain, transaction)
    chain_id, mnemonic = chain.chain_id, chain.mnemonic

    await killed(chain)
    await chain.start()

    after = await call(chain, "eth_getTransactionReceipt", transaction)
    assert (after["blockHash"], after["status"]) == (before["blockHash"], before["status"])
    assert int((await call(chain, "eth_getTransactionByHash", transaction))["value"], 16) == 7
    assert (chain.chain_id, chain.mnemonic) == (chain_id, mnemonic)


async def test_supervision_brings_a_killed_chain_back_and_it_mines(chain: EmbeddedChain) -> None:
    await chain.start()
    stop, back = asyncio.Event(), asyncio.Event()

    def changed(sentence: str) -> None:
        if sentence.endswith("is back"):
            back.set()

    supervision = asyncio.create_task(keep_running(chain, stop, SystemTimer(), on_change=changed))
    assert chain.pid is not None
    os.kill(chain.pid, signal.SIGKILL)
    async with asyncio.timeout(DEADLINE_S):
        await back.wait()

    await mined(chain, await send(chain))
    stop.set()
    await supervision


async def test_a_chain_that_can_not_mine_counts_as_down(chain: EmbeddedChain) -> None:
    await chain.start()
    assert chain._miner is not None

    chain._miner.cancel()

    assert await chain.down() == "mining failed: cancelled"
    assert chain.pid is None


async def test_the_next_owner_finds_the_same_chain(chain: EmbeddedChain, tmp_path: Path, clock: FixedClock) -> None:
    await chain.start()
    transaction = await send(chain)
    await mined(chain, transaction)
    await chain.stop()

    next_owner = a_chain(tmp_path, clock)
    await next_owner.start()

    assert (await call(next_owner, "eth_getTransactionReceipt", transaction)) is not None
    await next_owner.stop()


async def test_a_second_owner_of_the_folder_is_refused(chain: EmbeddedChain, tmp_path: Path, clock: FixedClock) -> None:
    await chain.start()

    with pytest.raises(FolderInUse) as refusal:
        await a_chain(tmp_path, clock).start()

    assert refusal.value.owner_pid == str(os.getpid())


async def test_the_mnemonic_is_random_and_its_owners_secret(
    chain: EmbeddedChain, tmp_path: Path, clock: FixedClock
) -> None:
    await chain.start()
    (tmp_path / "other").mkdir()
    other = a_chain(tmp_path / "other", clock)
    await other.start()
    words = chain.mnemonic

    assert len(words.split()) == 12
    assert words != other.mnemonic
    assert chain.chain_id != other.chain_id
    assert (tmp_path / "chain" / "mnemonic").stat().st_mode & 0o777 == 0o600
    assert words not in of_the_kernel(f"{chain.pid}/cmdline")
    told = [path for path in (tmp_path / "chain").rglob("*") if path.is_file() and words.encode() in path.read_bytes()]
    assert told == [tmp_path / "chain" / "mnemonic"]
    await other.stop()


async def test_the_chain_holds_no_key_and_listens_on_loopback_only(chain: EmbeddedChain) -> None:
    await chain.start()

    assert await call(chain, "eth_accounts") == []
    port = int(chain.rpc_url.rsplit(":", 1)[1])
    sockets = (of_the_kernel("net/tcp") + of_the_kernel("net/tcp6")).splitlines()
    listening = {line.split()[1] for line in sockets if " 0A " in line}
    assert {address for address in listening if address.endswith(f":{port:04X}")} == {f"0100007F:{port:04X}"}


async def test_a_killed_first_start_leaves_nothing_that_looks_like_a_chain(
    chain: EmbeddedChain, tmp_path: Path
) -> None:
    folder = tmp_path / "chain"
    folder.mkdir()
    for name in ("accounts.json", "mnemonic", "genesis.json", "state.unfinished"):
        (folder / name).write_text("half")

    await chain.start()

    await mined(chain, await send(chain))
    assert len(chain.mnemonic.split()) == 12


async def test_a_damaged_state_is_no_new_chain(chain: EmbeddedChain, tmp_path: Path) -> None:
    await chain.start()
    await chain.stop()
    (tmp_path / "chain" / "state.json").write_text("{")

    with pytest.raises(ServerFailed):
        await chain.start()


def test_what_is_missing_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foundry, "_CHECKOUT", Path("/nowhere"))
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(ComponentMissing, match="make foundry") as missing:
        find_foundry("anvil")

    assert "\n" not in str(missing.value)


async def test_a_transaction_that_comes_into_a_block_after_the_last_one_becomes_final_too(
    chain: EmbeddedChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    await chain.start()
    asked, blocks, late = chain._call, 0, ""

    async def call_with_a_late_transaction(method: str, *params: Any) -> Any:
        nonlocal blocks, late
        blocks += method == "evm_mine"
        if blocks == 1 + FINALITY_BLOCKS and not late:
            late = await send(chain, value=2)
        return await asked(method, *params)

    monkeypatch.setattr(chain, "_call", call_with_a_late_transaction)

    first = await mined(chain, await send(chain))

    second = await mined(chain, late)
    assert int(second["blockNumber"], 16) == int(first["blockNumber"], 16) + FINALITY_BLOCKS


async def test_chains_that_begin_in_the_same_second_have_different_first_blocks(
    chain: EmbeddedChain, clock: FixedClock, tmp_path: Path
) -> None:
    await chain.start()
    other = a_chain(tmp_path / "other", clock)
    await other.start()

    genesis = [(await block(each, "0x0"))["hash"] for each in (chain, other)]

    await other.stop()
    assert genesis[0] != genesis[1]
