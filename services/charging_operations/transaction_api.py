"""Transactions and meter values for operators; nothing personal is shown."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from fastapi import Request

from emobility.domain.identifiers import PartyId
from emobility.domain.transaction import readings_in_order
from emobility.runtime.access import TokenRole
from services.charging_operations.evse_readings import EVSE_READING
from services.charging_operations.operator_api import OperatorAPI
from services.charging_operations.records import TRANSACTION, TransactionState
from services.charging_operations.routes import FROM_TO, PAGE, Query, Route, RouteTable, page_of
from services.charging_operations.station_boots import STATION_BOOT, StationBootRecord
from services.charging_operations.station_calls import STATION_CALL, StationCallRecord
from services.charging_operations.transactions import (
    ReadingShown,
    TransactionDetail,
    TransactionShown,
    shown_detail,
    shown_reading,
    shown_transaction,
    transaction_file,
)

TRANSACTIONS_SHOWN_MAX: Final = 200
"""Each is read with all its reports."""
EVSE: Final = Query("ocpp_evse_id", int, "only of the EVSE that the station calls by this number")
TRANSACTION_QUERY: Final = (
    Query("offset", int, "how many to skip, 0 when not given"),
    Query("limit", int, f"how many to list, {TRANSACTIONS_SHOWN_MAX} at most and when not given"),
    Query("state", TransactionState, "only in this state"),
    Query("has_ended", bool, "false: only those whose end is not known yet"),
    Query("charging_station_id", str, "only of this station"),
    EVSE,
    Query("from", datetime, "only those that began then or later"),
    Query("to", datetime, "only those that began earlier"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EVSEReadingShown:
    """What a meter said in one message outside of any transaction; EVSE 0 is the station's own meter."""

    ocpp_evse_id: int
    occurred_at: datetime
    heard_at: datetime
    readings: tuple[ReadingShown, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionAPI:
    """Routes about what was charged, as stations tell it."""

    operator: OperatorAPI

    def mount_on(self, routes: RouteTable) -> None:
        """Add the routes."""
        one, station = "/transactions/{station_id}/{transaction_id}", "/stations/{station_id}"
        routes.add(
            "Transactions",
            [
                Route("GET", "/transactions", self.list_transactions, None, list[TransactionShown], TRANSACTION_QUERY),
                Route("GET", one, self.show_transaction, None, TransactionDetail),
                Route("GET", f"{one}/meter-values", self.list_meter_values, None, list[ReadingShown], PAGE),
                Route(
                    "GET",
                    f"{station}/meter-values",
                    self.list_evse_readings,
                    None,
                    list[EVSEReadingShown],
                    (*PAGE, EVSE, *FROM_TO),
                ),
                Route("GET", f"{station}/boots", self.list_boots, None, list[StationBootRecord], (*PAGE, *FROM_TO)),
                Route("GET", f"{station}/calls", self.list_calls, None, list[StationCallRecord], (*PAGE, *FROM_TO)),
            ],
            writes=TokenRole.OWNER,
        )

    async def list_transactions(self, request: Request, party_id: PartyId) -> Any:
        """List transactions, the newest first, each with what of it never came."""
        rows = await self.operator.rows(
            request,
            party_id,
            TRANSACTION,
            *("state", "has_ended", "charging_station_id", "ocpp_evse_id"),
            at="first_at",
            order_by=("-first_at",),
            rows_max=TRANSACTIONS_SHOWN_MAX,
        )
        return [shown_transaction(row) for row in rows]

    async def show_transaction(self, request: Request, party_id: PartyId) -> Any:
        """Show a transaction whole: reports in order with their meter values, session, CDRs, quarantine, disputes."""
        station_id, transaction_id = request.path_params["station_id"], request.path_params["transaction_id"]
        async with self.operator.office.ports.units.begin() as unit:
            file = await transaction_file(unit, party_id, station_id, transaction_id)
        return shown_detail(file)

    async def list_meter_values(self, request: Request, party_id: PartyId) -> Any:
        """List a transaction's meter values by their own time."""
        station_id, transaction_id = request.path_params["station_id"], request.path_params["transaction_id"]
        offset, limit = page_of(request)
        async with self.operator.office.ports.units.begin() as unit:
            file = await transaction_file(unit, party_id, station_id, transaction_id)
        readings = readings_in_order(file.record.transaction)
        return [shown_reading(reading) for reading in readings[offset : offset + limit]]

    async def list_evse_readings(self, request: Request, party_id: PartyId) -> Any:
        """List what a station's meters said outside of transactions, the newest first."""
        rows = await self.operator.rows_of_station(
            request, party_id, EVSE_READING, "ocpp_evse_id", at="occurred_at", order_by=("-occurred_at",)
        )
        return [
            EVSEReadingShown(
                ocpp_evse_id=row.ocpp_evse_id,
                occurred_at=row.occurred_at,
                heard_at=row.heard_at,
                readings=tuple(shown_reading(reading) for reading in row.readings),
            )
            for row in rows
        ]

    async def list_boots(self, request: Request, party_id: PartyId) -> Any:
        """List when a station said what it is, the newest first."""
        return await self.operator.rows_of_station(
            request, party_id, STATION_BOOT, at="heard_at", order_by=("-heard_at",)
        )

    async def list_calls(self, request: Request, party_id: PartyId) -> Any:
        """List what a station was asked, the newest first; what was said is not kept."""
        return await self.operator.rows_of_station(
            request, party_id, STATION_CALL, at="asked_at", order_by=("-asked_at",)
        )
