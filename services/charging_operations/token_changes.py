"""What follows from a token that changed: lists that must be brought into line, and caches that must forget it.

A change is counted in the unit that makes it, per party. Who keeps lists compares the count with the one it saw; so no
push of a token writes to thousands of stations' rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from emobility.domain.identifiers import PartyId
from emobility.domain.token import TokenType, Whitelist
from emobility.ports.stores import RecordExists, TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from services.charging_operations.records import AUTHORIZATION, TokenRecord

LISTED_TYPES: Final = (TokenType.RFID, TokenType.OTHER)
"""Tokens that a station can recognise by itself; an app's are given to it with each start."""
LISTED_WHITELISTS: Final = (Whitelist.ALWAYS, Whitelist.ALLOWED, Whitelist.ALLOWED_OFFLINE)
"""OCPI 2.2.1, 12.4.6: NEVER stays out of lists and caches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRevisionRecord:
    """How many changes a party's tokens had that lists follow, and how many of them took something away."""

    party_id: PartyId
    revision: int
    withdrawals: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUseRecord:
    """When a token last began a charge, by our clock."""

    party_id: PartyId
    token_subject: str
    last_used_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheClearingRecord:
    """A station whose cache may hold a token that was withdrawn, with the count of the last withdrawal."""

    party_id: PartyId
    charging_station_id: str
    withdrawals: int


TOKEN_REVISION: Final = TableSpec(name="cpo_token_revision", record=TokenRevisionRecord, key=("party_id",))
TOKEN_USE: Final = TableSpec(name="cpo_token_use", record=TokenUseRecord, key=("party_id", "token_subject"))
CACHE_CLEARING: Final = TableSpec(
    name="cpo_cache_clearing", record=CacheClearingRecord, key=("party_id", "charging_station_id")
)


async def note_change(unit: UnitOfWork, known: TokenRecord | None, token: TokenRecord | None) -> None:
    """Count a change from `known` to `token`, if a list or cache could tell; None: there is none."""
    before, after = _at_stations(known), _at_stations(token)
    either = known or token
    if before == after or either is None:
        return
    is_withdrawn = before is not None
    count = await count_change(unit, either.party_id, is_withdrawn=is_withdrawn)
    if not is_withdrawn:
        return
    cached = await unit.table(AUTHORIZATION).distinct(
        ("charging_station_id",),
        {
            "party_id": either.party_id,
            "token_subject": either.token_subject,
            "is_accepted": True,
            "may_cache": True,
        },
    )
    await unit.table(CACHE_CLEARING).put_all(
        [
            CacheClearingRecord(party_id=either.party_id, charging_station_id=station_id, withdrawals=count.withdrawals)
            for (station_id,) in cached
        ]
    )


def _at_stations(token: TokenRecord | None) -> tuple[str | None] | None:
    """Return what a list or cache would say of a token; None: nothing."""
    if token is None or not token.is_valid:
        return None
    is_listed = token.token_type in LISTED_TYPES and token.whitelist in LISTED_WHITELISTS
    return (token.group_key,) if is_listed else None


async def count_change(unit: UnitOfWork, party_id: PartyId, *, is_withdrawn: bool) -> TokenRevisionRecord:
    """Have all lists of a party looked through; what is withdrawn goes at once."""
    table = unit.table(TOKEN_REVISION)
    known = await table.get_for_update(party_id)
    if known is None:
        first = TokenRevisionRecord(party_id=party_id, revision=1, withdrawals=int(is_withdrawn))
        try:
            await table.insert(first)
        except RecordExists:
            known = await table.get_for_update(party_id)
        else:
            return first
    assert known is not None
    counted = replace(known, revision=known.revision + 1, withdrawals=known.withdrawals + is_withdrawn)
    await table.put(counted)
    return counted
