"""A process that erases a driver and is killed in the middle, as `kill -9` would, once one key is dealt with.

Started by a test: `python -m tests.privacy.dying_erasure DSN MASTER_KEY NOW PARTY DRIVER`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from emobility.adapters.memory import LoopTimer, MemoryHttp, SeededRandomness, VirtualClock
from emobility.adapters.payments.test_provider import SandboxPayments
from emobility.adapters.postgres import open_postgres
from emobility.adapters.signing import Ed25519Signer
from emobility.domain.identifiers import PartyId
from emobility.domain.retention import RetentionTerms
from emobility.ports.ports import Ports
from emobility.ports.vault import Vault
from emobility.runtime.settings import Settings
from services.driver_mobility import service
from services.driver_mobility.erasing import Erasing
from services.driver_mobility.quoting import Quoting
from services.driver_mobility.tokens import Tokens


class DyingVault:
    """The real vault, whose process is dead as soon as a key was destroyed or restricted."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def __getattr__(self, name: str) -> Any:
        return getattr(self._vault, name)

    async def erase(self, subject: str) -> None:
        await self._vault.erase(subject)
        os.kill(os.getpid(), signal.SIGKILL)

    async def restrict(self, subject: str, *, until: datetime) -> None:
        await self._vault.restrict(subject, until=until)
        os.kill(os.getpid(), signal.SIGKILL)


async def erase(dsn: str, master_key: bytes, now: datetime, party_id: PartyId, driver_id: str) -> None:
    """Erase a driver, until death."""
    clock, randomness = VirtualClock(now), SeededRandomness(6)
    async with open_postgres(dsn, master_key=master_key, clock=clock, randomness=randomness, durable=False) as adapters:
        ports = Ports(
            clock=clock,
            timer=LoopTimer(),
            randomness=randomness,
            event_log=adapters.event_log,
            units=adapters.units,
            vault=adapters.vault,
            http=MemoryHttp(),
            signer=Ed25519Signer(master_key),
            payments=SandboxPayments(adapters.units),
        )
        settings = Settings(
            environment="development",
            event_log="memory",
            internal_token=SecretStr("i" * 40),
            master_key=SecretStr(master_key.hex()),
            run_folder=Path("unused"),
        )
        deliveries = service.build(settings, ports).host.deliveries
        dying = replace(ports, vault=DyingVault(ports.vault))
        erasing = Erasing(dying, deliveries, Tokens(ports, Quoting(ports)), terms=RetentionTerms())
        await erasing.erase(party_id, driver_id)


if __name__ == "__main__":
    _, its_dsn, key, moment, party, driver = sys.argv
    asyncio.run(erase(its_dsn, bytes.fromhex(key), datetime.fromisoformat(moment), PartyId(party), driver))
