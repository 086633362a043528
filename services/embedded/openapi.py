"""The operations API's document without anything that runs: the routes are declared where they are built."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Final

from pydantic import SecretStr

from emobility.adapters.memory import LoopTimer, MemoryHttp, SeededRandomness, VirtualClock, memory_adapters
from emobility.adapters.payments.test_provider import SandboxPayments
from emobility.adapters.signing import Ed25519Signer
from emobility.ports.ports import Ports
from emobility.runtime.settings import Settings
from services.charging_operations.service import build

NOWHERE: Final = "http://operations.invalid"
UNUSED_KEY: Final = bytes(32)


def operations_document() -> str:
    """Return the OpenAPI document as JSON, indented for people."""
    clock, randomness = VirtualClock(datetime(2022, 1, 1, tzinfo=UTC)), SeededRandomness(0)
    memory = memory_adapters(master_key=UNUSED_KEY, clock=clock, randomness=randomness)
    ports = Ports(
        clock=clock,
        timer=LoopTimer(),
        randomness=randomness,
        event_log=memory.event_log,
        units=memory.units,
        vault=memory.vault,
        http=MemoryHttp(),
        signer=Ed25519Signer(UNUSED_KEY),
        payments=SandboxPayments(memory.units),
    )
    settings = Settings(
        environment="development",
        event_log="memory",
        public_url=NOWHERE,
        business_url=NOWHERE,
        gateway_api_url=NOWHERE,
        internal_token=SecretStr(UNUSED_KEY.hex()),
        master_key=SecretStr(UNUSED_KEY.hex()),
    )
    return json.dumps(build(settings, ports).routes.document(), indent=2, sort_keys=True)
