"""Rows of stations' local authorisation lists, and what operators say and see of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from emobility.domain.identifiers import PartyId
from emobility.domain.personal import Sealed
from emobility.ports.stores import SELECT_ROWS_MAX, TableSpec
from emobility.ports.unit_of_work import UnitOfWork

ROWS_MAX: Final = 50_000
"""Tokens of a party, or entries of a list, that are looked at."""


class LocalListMode(StrEnum):
    """Which tokens a station gets."""

    NONE = "NONE"
    CACHED = "CACHED"
    """All that the token cache lets it have."""
    CHOSEN = "CHOSEN"
    """Those of them that the operator named."""


class LocalListState(StrEnum):
    """Whether the station has what it should."""

    DUE = "DUE"
    IN_SYNC = "IN_SYNC"
    FAILED = "FAILED"
    NOT_SUPPORTED = "NOT_SUPPORTED"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenToken:
    """A token by eMSP and subject."""

    emsp_id: PartyId
    token_subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalListRecord:
    """A station's list. `version` is what it has, as far as we know, and `needs_full` that we do not.

    `change_no` counts what made it due; `token_revision` is of the tokens it was made from, `wanted` how many of them
    there were. `version_checked_at` None: the station is asked first.
    """

    party_id: PartyId
    charging_station_id: str
    mode: LocalListMode
    chosen: tuple[ChosenToken, ...] = ()
    state: LocalListState = LocalListState.DUE
    version: int = 0
    needs_full: bool = True
    change_no: int = 0
    token_revision: int = 0
    wanted: int = 0
    answer: str | None = None
    tried_at: datetime | None = None
    version_checked_at: datetime | None = None
    synced_at: datetime | None = None
    leased_until: datetime | None = None

    @property
    def key(self) -> tuple[PartyId, str]:
        """Its key."""
        return (self.party_id, self.charging_station_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalListEntryRecord:
    """A token that a station has in its list; `fingerprint` of all that was said of it."""

    party_id: PartyId
    charging_station_id: str
    token_subject: str
    uid: Sealed
    id_token_type: str
    fingerprint: str


LOCAL_LIST: Final = TableSpec(name="cpo_local_list", record=LocalListRecord, key=("party_id", "charging_station_id"))
LOCAL_LIST_ENTRY: Final = TableSpec(
    name="cpo_local_list_entry",
    record=LocalListEntryRecord,
    key=("party_id", "charging_station_id", "token_subject"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedToken:
    """A token as its eMSP calls it."""

    emsp_id: PartyId
    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalListRequest:
    """PUT local-list; `tokens` are read in mode CHOSEN only."""

    mode: LocalListMode
    tokens: tuple[ListedToken, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownLocalList:
    """A list as operators see it: how many tokens, and none of them."""

    mode: LocalListMode
    state: LocalListState
    version: int
    entries: int
    wanted: int
    chosen: int
    answer: str | None
    tried_at: datetime | None
    version_checked_at: datetime | None
    synced_at: datetime | None


def due(row: LocalListRecord) -> LocalListRecord:
    """Return a list that has to be looked through."""
    return replace(row, state=LocalListState.DUE, change_no=row.change_no + 1)


def has_a_list(row: LocalListRecord) -> bool:
    """Tell whether the station has, or should have, a list that we know of."""
    return row.mode is not LocalListMode.NONE or row.version > 0


async def all_rows(unit: UnitOfWork, spec: TableSpec[Any], where: dict[str, Any], *, most: int = ROWS_MAX) -> list[Any]:
    """Return all rows, page by page, at most so many."""
    rows: list[Any] = []
    while len(rows) < most:
        page = await unit.table(spec).select(where, offset=len(rows), limit=min(SELECT_ROWS_MAX, most - len(rows)))
        rows += page
        if len(page) < SELECT_ROWS_MAX:
            break
    return rows
