"""Somebody else's chain: an anvil that we neither start nor pay from, on which a consortium has accounts of its own."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from typer.testing import CliRunner

from emobility.adapters.chain_keys.keystore import new_key, open_key
from emobility.adapters.chain_signing import LocalChainSigner
from emobility.adapters.ethereum import open_ethereum
from emobility.adapters.system import SystemClock, SystemRandomness, SystemTimer
from emobility.domain.batch import contracts
from emobility.ports.chain_signer import ChainSigner
from emobility.runtime.embedded_chain import EmbeddedChain
from services.cli.__main__ import app
from services.settlement.manifest import Manifest, read_manifest
from tests.chains import AnvilWorld

PASSPHRASE: Final = "canary-passphrase-91c4"
CHEAP_N: Final = 2**10
WEI: Final = 10**20
ADMIN: Final = 3
"""Which of the chain's own accounts administers the contracts once they are made."""
STRANGER: Final = 4


@dataclass(frozen=True)
class Consortium:
    """A chain and what its members have."""

    world: AnvilWorld
    folder: Path
    token: bytes
    keys: dict[str, LocalChainSigner]

    @property
    def rpc_url(self) -> str:
        return self.world.server.rpc_url

    @property
    def passphrase_file(self) -> Path:
        return self.folder / "passphrase"

    @property
    def file(self) -> Path:
        return self.folder / "deployment.json"

    @property
    def manifest(self) -> Manifest:
        return read_manifest(self.file)

    @property
    def admin(self) -> ChainSigner:
        return self.world.account(ADMIN)

    def keystore(self, name: str) -> list[str]:
        return ["--keystore", str(self.folder / name), "--passphrase-file", str(self.passphrase_file)]

    def options(self) -> list[str]:
        """Say what this consortium wants."""
        return [
            *("--rpc", self.rpc_url, *self.keystore("deployer"), "--out", str(self.file)),
            *("--token", f"EUR=0x{self.token.hex()}", "--admin", f"0x{self.admin.address.hex()}"),
            *("--proposer", f"0x{self.keys['proposer'].address.hex()}"),
            *("--issuer", f"NL=0x{self.keys['issuer'].address.hex()}"),
        ]

    def deploy(self) -> dict[str, Any]:
        ended = command("chain", "deploy", *self.options(), "--json")
        return dict(json.loads(ended))

    async def grant(self, where: bytes, role: bytes, account: bytes) -> None:
        """Have the administrator grant a role."""
        await self.send(self.admin, where, contracts.GRANT_ROLE.call(role, account))

    async def send(self, by: ChainSigner, to: bytes, calldata: bytes) -> None:
        receipt = await self.world.final(await self.world.sent(to, calldata, by=by))
        assert receipt.has_succeeded


def command(*arguments: str, exits: int = 0) -> str:
    """Run a command of ours in this process and return what it printed."""
    ended = CliRunner().invoke(app, list(arguments))
    assert ended.exit_code == exits, f"{ended.output}{ended.exception!r}"
    return ended.stdout


@asynccontextmanager
async def a_consortium(folder: Path) -> AsyncIterator[Consortium]:
    """Start the chain, with a currency that its first account mints, and give our keys money for gas."""
    clock = SystemClock()
    server = EmbeddedChain(folder / "chain", clock=clock, timer=SystemTimer(), randomness=SystemRandomness())
    await server.start()
    try:
        async with open_ethereum(server.rpc_url) as chain:
            world = AnvilWorld(server, clock, chain, folder / "chain")  # type: ignore[arg-type]  # it only reads it
            (folder / "passphrase").write_text(PASSPHRASE)
            (folder / "passphrase").chmod(0o600)
            keys = {}
            for name in ("deployer", "proposer", "issuer", "holder"):
                path = new_key(folder / name, PASSPHRASE.encode(), randomness=SystemRandomness(), scrypt_n=CHEAP_N)
                keys[name] = open_key(path, PASSPHRASE.encode())
                await server._call("anvil_setBalance", f"0x{keys[name].address.hex()}", hex(WEI))
            yield Consortium(world, folder, await world.currency(), keys)
    finally:
        await server.stop()
