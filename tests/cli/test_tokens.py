"""API tokens from the command line, on real PostgreSQL; what the token opens is asked of `Access` itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request

from emobility.adapters.postgres import PostgresAdapters, open_postgres
from emobility.adapters.system import SystemClock, SystemRandomness
from emobility.domain.identifiers import PartyId
from emobility.runtime.access import Access
from services.driver_mobility.records import MSP, HostedMSP
from tests.cli.test_commands import SECRETS, assert_one_clear_line, wattroam

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(300)]


async def opens(dsn: str, token: str, party: str, method: str = "GET") -> bool:
    """Tell whether a token lets a party pass."""
    headers = [(b"authorization", f"Bearer {token}".encode())]
    master_key = bytes.fromhex(SECRETS["WATTROAM_MASTER_KEY"])
    async with opened(dsn) as adapters:
        access = Access(SECRETS["WATTROAM_INTERNAL_TOKEN"], units=adapters.units, master_key=master_key)
        try:
            await access.party(Request({"type": "http", "method": method, "headers": headers}), party)
        except HTTPException:
            return False
        return True


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[PostgresAdapters]:
    master_key = bytes.fromhex(SECRETS["WATTROAM_MASTER_KEY"])
    async with open_postgres(
        dsn, master_key=master_key, clock=SystemClock(), randomness=SystemRandomness()
    ) as adapters:
        yield adapters


async def hosts(dsn: str, code: str) -> None:
    """Have an MSP hosted here."""
    async with opened(dsn) as adapters, adapters.units.begin() as unit:
        await unit.table(MSP).insert(HostedMSP(party_id=PartyId(code), name=code, nsp_id=None))
        await unit.commit()


async def test_a_token_for_nobody_is_refused_with_the_parties_there_are(postgres_dsn: str) -> None:
    await hosts(postgres_dsn, "NL-ZON")

    ended = await asyncio.to_thread(
        wattroam, "token", "issue", "NL-ZNO", "--purpose", "books", WATTROAM_DATABASE_URL=postgres_dsn, **SECRETS
    )

    assert_one_clear_line(ended, "NL-ZNO is no party here; there is NL-ZON")


async def test_a_token_opens_its_party_until_it_is_revoked(postgres_dsn: str) -> None:
    await hosts(postgres_dsn, "NL-ZON")

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
