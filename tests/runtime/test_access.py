from __future__ import annotations

import hmac
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI, Request
from pydantic import SecretStr

from emobility.adapters.memory import SeededRandomness, VirtualClock, memory_adapters
from emobility.domain.identifiers import PartyId
from emobility.runtime.access import PARTY_API_TOKENS, Access, TokenRole, require_internal, require_party

INTERNAL = "i" * 64
OURS, THEIRS = PartyId("NL-TNM"), PartyId("BE-ABC")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Door:
    """An app with one route for us and one for each party, and the access that guards it."""

    def __init__(self) -> None:
        self.randomness = SeededRandomness(1)
        adapters = memory_adapters(master_key=bytes(32), clock=VirtualClock(NOW), randomness=self.randomness)
        self.units = adapters.units
        self.access = Access(SecretStr(INTERNAL), units=self.units, master_key=bytes(32))
        app = FastAPI()

        @app.get("/internal", dependencies=[Depends(require_internal(self.access))])
        async def internal() -> dict[str, bool]:
            return {"in": True}

        @app.get("/parties/{party_id}", dependencies=[Depends(require_party(self.access))])
        async def party(party_id: str) -> dict[str, str]:
            return {"party": party_id}

        @app.post("/parties/{party_id}", dependencies=[Depends(require_party(self.access))])
        async def change(party_id: str) -> dict[str, str]:
            return {"changed": party_id}

        @app.get("/whoami")
        async def whoami(request: Request) -> dict[str, str | None]:
            caller = await self.access.caller(request)
            return {"caller": str(caller) if caller else None}

        self._app = app

    async def knock(self, path: str, authorization: str | None, method: str = "GET") -> httpx.Response:
        headers: dict[str, Any] = {} if authorization is None else {"Authorization": authorization.encode()}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self._app), base_url="http://door") as client:
            return await client.request(method, path, headers=headers)

    async def issue(self, party_id: PartyId, role: TokenRole = TokenRole.OWNER) -> str:
        async with self.units.begin() as unit:
            token = await self.access.issue(
                unit, party_id, purpose="test", randomness=self.randomness, now=NOW, role=role
            )
            await unit.commit()
        return token


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {INTERNAL[:-1]}",
        f"Bearer {INTERNAL}i",
        f"Token {INTERNAL}",
        f"Basic {INTERNAL}",
        INTERNAL,
        "Bearer " + "x" * 10_000,
        "Bearer ünïcode",
    ],
)
@pytest.mark.parametrize("path", ["/internal", "/parties/NL-TNM", "/whoami"])
async def test_an_unknown_caller_is_not_let_in(path: str, authorization: str | None, door: Door) -> None:
    response = await door.knock(path, authorization)

    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["/internal", "/parties/NL-TNM", "/parties/BE-ABC", "/whoami"])
async def test_our_own_processes_are_let_in_everywhere(path: str, door: Door) -> None:
    assert (await door.knock(path, f"bearer {INTERNAL}")).status_code == 200


async def test_a_party_is_let_in_where_it_is_at_home_and_nowhere_else(door: Door) -> None:
    bearer = f"Bearer {await door.issue(OURS)}"

    assert (await door.knock("/parties/NL-TNM", bearer)).status_code == 200
    assert (await door.knock("/parties/nl-tnm", bearer)).status_code == 200
    assert (await door.knock("/parties/BE-ABC", bearer)).status_code == 403
    assert (await door.knock("/parties/nonsense", bearer)).status_code == 403
    assert (await door.knock("/internal", bearer)).status_code == 403
    assert (await door.knock("/whoami", bearer)).json() == {"caller": "NL-TNM"}


async def test_a_revoked_token_opens_nothing(door: Door) -> None:
    token, other = await door.issue(OURS), await door.issue(OURS)
    async with door.units.begin() as unit:
        assert not await door.access.revoke(unit, THEIRS, token=token, now=NOW)
        assert await door.access.revoke(unit, OURS, token=token, now=NOW)
        await unit.commit()

    assert (await door.knock("/parties/NL-TNM", f"Bearer {token}")).status_code == 401
    assert (await door.knock("/parties/NL-TNM", f"Bearer {other}")).status_code == 200


async def test_the_table_holds_nothing_that_opens_a_door(door: Door) -> None:
    token = await door.issue(OURS)

    async with door.units.begin() as unit:
        (row,) = await unit.table(PARTY_API_TOKENS).select()

    assert token not in repr(row)
    assert row.token_hash != hmac.new(bytes(32), token.encode(), "sha256").hexdigest()
    assert (await door.knock("/parties/NL-TNM", f"Bearer {row.token_hash}")).status_code == 401


def test_an_empty_internal_token_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="empty"):
        Access("")


@pytest.mark.parametrize(("role", "status"), [("READER", 403), ("OPERATOR", 403), ("OWNER", 200)])
async def test_only_an_owners_token_changes_what_names_no_lesser_role(door: Door, role: str, status: int) -> None:
    bearer = f"Bearer {await door.issue(OURS, TokenRole(role))}"

    assert (await door.knock(f"/parties/{OURS}", bearer)).status_code == 200
    assert (await door.knock(f"/parties/{OURS}", bearer, "POST")).status_code == status
