"""`wattroam token`: lets a party, or one of its systems, use our APIs in its own name, and takes that back."""

from __future__ import annotations

import asyncio
import json as json_module
import sys
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from emobility.domain.errors import RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi.peers import PEER_ROLE
from emobility.runtime.access import PARTY_API_TOKENS, Access, PartyApiToken, TokenRole
from emobility.wiring import open_ports
from services.charging_operations.records import CPO
from services.driver_mobility.records import MSP
from services.embedded.opening import opened
from services.settlement.records import PARTY

ID_CHARACTERS: Final = 12
"""Of a token's hash: its name for people, which opens nothing."""


class UnknownParty(RuleBroken):
    """A token is for a party that is hosted or dealt with here: of a code that was mistyped nobody would hear."""

    def __init__(self, *, party_id: PartyId, known: Collection[PartyId]) -> None:
        names = ", ".join(sorted(each.code for each in known)) or "none yet"
        super().__init__(f"{party_id} is no party here; there is {names}")


class UnknownToken(RuleBroken):
    """The party has no such token that is good."""

    def __init__(self, *, party_id: PartyId, token_id: str) -> None:
        super().__init__(
            f"{party_id} has no token {token_id} that is good; `wattroam token list {party_id}` names them"
        )


def issue_token(*, party: str, purpose: str, role: TokenRole, json: bool, run_folder: Path) -> int:
    """Make a token and print it; it can't be shown again. Raises `UnknownParty`, what `prune_log` raises."""
    token = asyncio.run(_issue(PartyId(party), purpose, role, run_folder))
    document = {"party_id": PartyId(party).code, "purpose": purpose, "role": role.value, "token": token}
    _tell(json_module.dumps(document) if json else token)
    return 0


def list_tokens(*, party: str, json: bool, run_folder: Path) -> int:
    """Print a party's tokens by their ids. Raises what `prune_log` raises."""
    rows = [_shown(each) for each in asyncio.run(_tokens(PartyId(party), run_folder))]
    if json:
        _tell(json_module.dumps(rows, indent=1))
        return 0
    for row in rows:
        state = "good" if row["revoked_at"] is None else f"revoked {row['revoked_at']}"
        _tell(f"{row['token_id']}  issued {row['issued_at']}  {state}  {row['role']}  {row['purpose']}")
    if not rows:
        _tell(f"{PartyId(party)} has no token")
    return 0


def revoke_token(*, party: str, token_id: str, run_folder: Path) -> int:
    """Make a token worthless. Raises `UnknownToken`, what `prune_log` raises."""
    asyncio.run(_revoke(PartyId(party), token_id, run_folder))
    _tell(f"{token_id} opens nothing any more")
    return 0


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")


async def _issue(party_id: PartyId, purpose: str, role: TokenRole, run_folder: Path) -> str:
    async with opened(run_folder) as settings, open_ports(settings) as ports:
        access = Access(settings.internal_token, units=ports.units, master_key=settings.master_key_bytes)
        async with ports.units.begin() as unit:
            known = await _parties(unit)
            if party_id not in known:
                raise UnknownParty(party_id=party_id, known=known)
            token = await access.issue(
                unit, party_id, purpose=purpose, role=role, randomness=ports.randomness, now=ports.clock.now()
            )
            await unit.commit()
        return token


async def _parties(unit: UnitOfWork) -> set[PartyId]:
    """Return whoever is hosted here, is a partner over OCPI, or has an agreement that is settled here."""
    tables: tuple[TableSpec[Any], ...] = (CPO, MSP, PARTY, PEER_ROLE)
    return {row.party_id for table in tables for row in await unit.table(table).select()}


async def _tokens(party_id: PartyId, run_folder: Path) -> list[PartyApiToken]:
    async with (
        opened(run_folder) as settings,
        open_ports(settings) as ports,
        ports.units.begin() as unit,
    ):
        return await unit.table(PARTY_API_TOKENS).select({"party_id": party_id}, order_by=("issued_at",))


async def _revoke(party_id: PartyId, token_id: str, run_folder: Path) -> None:
    async with opened(run_folder) as settings, open_ports(settings) as ports, ports.units.begin() as unit:
        tokens = unit.table(PARTY_API_TOKENS)
        for row in await tokens.select({"party_id": party_id, "revoked_at": None}):
            if row.token_hash[:ID_CHARACTERS] == token_id:
                await tokens.put(replace(row, revoked_at=ports.clock.now()))
                await unit.commit()
                return
    raise UnknownToken(party_id=party_id, token_id=token_id)


def _shown(row: PartyApiToken) -> dict[str, Any]:
    return {
        "token_id": row.token_hash[:ID_CHARACTERS],
        "purpose": row.purpose,
        "role": row.role.value,
        "issued_at": row.issued_at.isoformat(),
        "revoked_at": None if row.revoked_at is None else row.revoked_at.isoformat(),
    }
