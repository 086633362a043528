"""Without anvil everything but settling goes on."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from emobility.runtime.supervision import ComponentMissing
from services.embedded import stack
from services.embedded.run_folder import Installation

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(300)]


async def test_a_system_without_anvil_serves_and_says_that_nothing_is_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(program: str) -> Path:
        raise ComponentMissing(f"{program} is missing")

    monkeypatch.setattr(stack, "find_foundry", missing)
    told: list[str] = []

    async with stack.running(
        Installation.make(tmp_path / "run", event_log="postgres"), on_change=told.append
    ) as running:
        installation = await running.settling
        async with httpx.AsyncClient(trust_env=False) as http:
            urls = (installation.gateway_api_url, installation.business_url, installation.settlement_url)
            answers = [(await http.get(f"{url}/livez")).status_code for url in urls]

    assert answers == [200, 200, 200]
    assert "nothing will be settled: anvil is missing" in told
    assert installation.chain_rpc_url is None
