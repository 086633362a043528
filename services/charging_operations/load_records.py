"""Rows of the load manager: groups as operators entered them, their EVSEs, who charges there, what each may draw."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from emobility.domain.identifiers import PartyId
from emobility.ports.stores import TableSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadGroupRecord:
    """A load group. Limits are per phase in tenths of an ampere, and in W of all phases together."""

    party_id: PartyId
    load_group_id: str
    parent_id: str | None
    limit_l1_da: int | None
    limit_l2_da: int | None
    limit_l3_da: int | None
    limit_w: int | None
    voltage_v: int
    changed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadEVSERecord:
    """An EVSE that a load group steers; see `ManagedEVSE`. `is_in_watts`: it takes limits in W alone."""

    party_id: PartyId
    charging_station_id: str
    ocpp_evse_id: int
    load_group_id: str
    phases: tuple[int, ...]
    min_da: int
    max_da: int
    fallback_da: int
    weight: int
    is_in_watts: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EVSEUseRecord:
    """Who charges at a steered EVSE, as stations told last. `power_w`: of all phases, at `metered_at`."""

    party_id: PartyId
    charging_station_id: str
    ocpp_evse_id: int
    transaction_id: str
    started_at: datetime
    has_ended: bool
    charging_state: str | None
    power_w: int | None
    metered_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadLimitRecord:
    """What a steered EVSE may draw, as far as its station has confirmed; per phase, in tenths of an ampere.

    Attributes:
        fallback_da: What whoever plugs in may draw. None: the station has confirmed none, so it may be anything.
        fallback_asked_da: A fallback that was sent and of which nothing is known; None: none is.
        limit_da: Of transaction `transaction_id`, or in OCPP 1.6 of whoever charges. None: there is none.
        limit_asked_da: A limit that was sent and of which nothing is known; None: none is.
        changed_at: When the limit was confirmed last.
        is_active: Who charges there has his turn; since when, or since when he waits, is `since`.
        charged_s: Seconds he has charged in turns that are over.
        ceiling_da: The most he is given, by what he uses. None: no reason for one.
        refusals: How often the station refused in a row; `refused_at` when last.
    """

    party_id: PartyId
    charging_station_id: str
    ocpp_evse_id: int
    fallback_da: int | None = None
    fallback_asked_da: int | None = None
    transaction_id: str | None = None
    limit_da: int | None = None
    limit_asked_da: int | None = None
    changed_at: datetime | None = None
    is_active: bool = False
    since: datetime | None = None
    charged_s: int = 0
    ceiling_da: int | None = None
    refusals: int = 0
    refused_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadTurnRecord:
    """Which process looks after a party's load groups, and until when; another takes over after that."""

    party_id: PartyId
    holder: str
    held_until: datetime


LOAD_GROUP: Final = TableSpec(name="cpo_load_group", record=LoadGroupRecord, key=("party_id", "load_group_id"))
LOAD_EVSE: Final = TableSpec(
    name="cpo_load_evse",
    record=LoadEVSERecord,
    key=("party_id", "charging_station_id", "ocpp_evse_id"),
    is_reference=True,
)
EVSE_USE: Final = TableSpec(
    name="cpo_evse_use", record=EVSEUseRecord, key=("party_id", "charging_station_id", "ocpp_evse_id")
)
LOAD_LIMIT: Final = TableSpec(
    name="cpo_load_limit", record=LoadLimitRecord, key=("party_id", "charging_station_id", "ocpp_evse_id")
)
LOAD_TURN: Final = TableSpec(name="cpo_load_turn", record=LoadTurnRecord, key=("party_id",))
