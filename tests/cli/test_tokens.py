"""API tokens from the command line, on real PostgreSQL; what the token opens is asked of `Access` itself."""

from __future__ import annotations

import asyncio
import json

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request

from emobility.adapters.postgres import open_postgres
from emobility.adapters.system import SystemClock, SystemRandomness
from emobility.runtime.access import Access
from tests.cli.test_commands import SECRETS, assert_one_clear_line, wattroam

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(300)]


async def opens(dsn: str, token: str, party: str, method: str = "GET") -> bool:
    """Tell whether a token lets a party pass."""
    headers = [(b"authorization", f"Bearer {token}".encode())]
    master_key = bytes.fromhex(SECRETS["WATTROAM_MASTER_KEY"])
    async with open_postgres(
        dsn, master_key=master_key, clock=SystemClock(), randomness=SystemRandomness()
    ) as adapters:
        access = Access(SECRETS["WATTROAM_INTERNAL_TOKEN"], units=adapters.units, master_key=master_key)
        try:
            await access.party(Request({"type": "http", "method": method, "headers": headers}), party)
        except HTTPException:
            return False
        return True


async def test_a_token_opens_its_party_until_it_is_revoked(postgres_dsn: str) -> None:
    async def run(*arguments: str) -> str:
        ended = await asyncio.to_thread(wattroam, "token", *arguments, WATTROAM_DATABASE_URL=postgres_dsn, **SECRETS)
        assert (ended.returncode, ended.stderr) == (0, "")
        return ended.stdout

    token = (await run("issue", "NL-ZON", "--purpose", "books")).strip()
    (listed,) = json.loads(await run("list", "NL-ZON", "--json"))

    assert await opens(postgres_dsn, token, "NL-ZON")
    assert not await opens(postgres_dsn, token, "NL-ZON", "PUT"), "unless it is said, a token is a reader's"
    assert listed["role"] == "READER"
    assert not await opens(postgres_dsn, token, "NL-TUL")
    assert token not in json.dumps(listed)

    await run("revoke", "NL-ZON", listed["token_id"])

    assert not await opens(postgres_dsn, token, "NL-ZON")
    again = await asyncio.to_thread(
        wattroam, "token", "revoke", "NL-ZON", listed["token_id"], WATTROAM_DATABASE_URL=postgres_dsn, **SECRETS
    )
    assert_one_clear_line(again, "has no token")
