"""A settlement whose key lies in a keystore, as a process on a real chain: it settles, and its key is found nowhere."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psycopg
import pytest
from eth_account import Account

from emobility.adapters.chain_keys.keystore import new_key, open_key
from emobility.adapters.system import SystemRandomness
from emobility.runtime.child_process import ChildProcess
from services.settlement.records import STATEMENT, StatementState
from tests.chains import an_anvil
from tests.settlement.market import MASTER_KEY
from tests.settlement.settling import Settling, open_settling
from tests.settlement.world import a_cdr, accepted, terms

PASSPHRASE: Final = "canary-passphrase-7f3a"
CHEAP_N: Final = 2**10
WEI: Final = 10**20
DEADLINE_S: Final = 60.0
IGNORED: Final = Path(__file__).parents[2] / "docker" / "Dockerfile.dockerignore"


@pytest.mark.chain
@pytest.mark.fault
async def test_a_kept_key_settles_and_is_in_no_log_row_environment_or_file(
    postgres_dsn: str, tmp_path: Path, free_port: int
) -> None:
    folder, file = tmp_path / "keys", tmp_path / "passphrase"
    path = new_key(folder, PASSPHRASE.encode(), randomness=SystemRandomness(), scrypt_n=CHEAP_N)
    secret = bytes(Account.decrypt(path.read_text(), PASSPHRASE))
    file.write_text(PASSPHRASE)
    file.chmod(0o600)
    signer = open_key(path, PASSPHRASE.encode())
    async with an_anvil(tmp_path / "chain") as world:
        await world.server._call("anvil_setBalance", f"0x{signer.address.hex()}", hex(WEI))
        async with open_settling(postgres_dsn, world, signer) as here:
            await here.store_deployment()
            await here.sign(terms())
            await here.market.prepare(here.world.ports.units)
            await here.world.take(accepted(a_cdr("s1")))
            await here.world.closing.close_now()
            variables = {
                "ENVIRONMENT": "development",
                "DATABASE_URL": postgres_dsn,
                "INTERNAL_TOKEN": "i" * 40,
                "MASTER_KEY": MASTER_KEY.hex(),
                "CHAIN_RPC_URL": world.server.rpc_url,
                "CHAIN_KEYSTORE": str(folder),
                "CHAIN_PASSPHRASE_FILE": str(file),
                "SETTLEMENT_PORT": str(free_port),
            }
            environment = os.environ | {f"WATTROAM_{name}": value for name, value in variables.items()}
            argv = [sys.executable, "-m", "services.settlement"]
            process = ChildProcess.spawn("settlement", argv, log=tmp_path / "settlement.log", env=environment)
            try:
                await until_final(here, process)
                seen = started_with(process)
            finally:
                process.kill()
            (row,) = await here.transactions()

    seen += files_in(tmp_path, file)
    seen += everything_in(postgres_dsn)
    assert row.account == signer.address
    assert len(seen) > 10
    for canary in (secret, secret.hex().encode(), PASSPHRASE.encode()):
        assert not [each[:80] for each in seen if canary in each.lower() or canary in each]


async def until_final(here: Settling, process: ChildProcess) -> None:
    try:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                async with here.world.ports.units.begin() as unit:
                    statements = await unit.table(STATEMENT).select()
                if [each.state for each in statements] == [StatementState.FINAL]:
                    return
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(process.last_lines())


def started_with(process: ChildProcess) -> list[bytes]:
    return [Path(f"/proc/{process.pid}/{name}").read_bytes() for name in ("environ", "cmdline")]


def files_in(folder: Path, but_not: Path) -> list[bytes]:
    return [each.read_bytes() for each in folder.rglob("*") if each.is_file() and each != but_not]


def everything_in(dsn: str) -> Iterator[bytes]:
    """Each table as text, as a dump would have it."""
    with psycopg.connect(dsn) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        for (table,) in tables:
            dump = f'COPY (SELECT * FROM "{table}") TO STDOUT'  # noqa: S608 - names of our own tables
            with connection.cursor().copy(dump.encode()) as copy:
                yield b"".join(bytes(part) for part in copy)


def test_images_hold_nothing_that_is_not_named() -> None:
    lines = [line for line in IGNORED.read_text().splitlines() if line and not line.startswith("#")]

    assert lines[0] == "**"
    assert all(line.startswith("!") or line == "**/__pycache__" for line in lines[1:]), lines
    assert not [line for line in lines if "key" in line or line in {"!.", "!run", "!docker"}]
