"""Why did this session fail: all around a transaction, or at a station for a time, as one list with a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from fastapi import Request

from emobility.domain.identifiers import PartyId
from emobility.domain.transaction_faults import MOMENT_MAX, MOMENT_MIN
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from emobility.runtime.access import TokenRole
from services.charging_operations.office import NotUnderstood
from services.charging_operations.operator_api import OperatorAPI
from services.charging_operations.records import AUTHORIZATION, COMMAND, TRANSACTION, TransactionRecord
from services.charging_operations.routes import Query, Route, RouteTable, asked
from services.charging_operations.station_boots import STATION_BOOT
from services.charging_operations.station_calls import STATION_CALL
from services.charging_operations.station_records import STATION_CONNECTION, STATION_STATUS
from services.charging_operations.timeline import Entry, History, entries_of
from services.charging_operations.timeline_verdict import Outcome, verdict_of
from services.charging_operations.transactions import TransactionFile, transaction_file

MARGIN: Final = timedelta(minutes=15)
"""How much before and after a transaction is shown: a tap, a status, a restart that belong to it."""
PERIOD: Final = timedelta(hours=24)
PERIOD_MAX: Final = timedelta(days=31)
ROWS_OF_EACH_KIND_MAX: Final = 1_000
TRANSACTIONS_MAX: Final = 50
TIMES: Final = (
    Query("from", datetime, f"begin, {PERIOD // timedelta(hours=1)} h before the end when not given"),
    Query("to", datetime, f"end, now when not given; the time is {PERIOD_MAX.days} days at most"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """What happened, in order; `verdict` says why it failed, or that it did not. `is_cut`: there is more than this."""

    charging_station_id: str
    transaction_id: str | None
    since: datetime
    until: datetime
    outcome: Outcome
    verdict: str
    is_cut: bool
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    """A station's time; `evse_ids`: None for all."""

    party_id: PartyId
    charging_station_id: str
    since: datetime
    until: datetime
    evse_ids: tuple[int, ...] | None = None

    async def rows(self, unit: UnitOfWork, spec: TableSpec[Any], field: str, **narrowing: Any) -> tuple[Any, ...]:
        """Return the window's first rows of a table."""
        where = {"party_id": self.party_id, "charging_station_id": self.charging_station_id} | narrowing
        return tuple(
            await unit.table(spec).select(
                where,
                since=(field, self.since),
                before=(field, self.until),
                order_by=(field,),
                limit=ROWS_OF_EACH_KIND_MAX,
            )
        )

    async def around(self, unit: UnitOfWork) -> History:
        """Return what happened at the station and what held when it began, but for decisions and transactions."""
        evse = {} if self.evse_ids is None else {"ocpp_evse_id": self.evse_ids}
        commands = await self.rows(unit, COMMAND, "received_at")
        return History(
            connections=(
                *await self._before(unit, STATION_CONNECTION, {}),
                *await self.rows(unit, STATION_CONNECTION, "began_at"),
            ),
            boots=await self.rows(unit, STATION_BOOT, "heard_at"),
            statuses=(
                *await self._statuses_before(unit, evse),
                *await self.rows(unit, STATION_STATUS, "began_at", **evse),
            ),
            commands=tuple(
                row for row in commands if self.evse_ids is None or row.ocpp_evse_id in (None, *self.evse_ids)
            ),
            calls=await self.rows(unit, STATION_CALL, "asked_at"),
        )

    async def _statuses_before(self, unit: UnitOfWork, evse: dict[str, Any]) -> list[Any]:
        """Return what each connector was when the window began."""
        where = {"party_id": self.party_id, "charging_station_id": self.charging_station_id} | evse
        connectors = await unit.table(STATION_STATUS).distinct(("ocpp_evse_id", "connector_id"), where)
        return [
            row
            for evse_id, connector_id in connectors
            for row in await self._before(unit, STATION_STATUS, {"ocpp_evse_id": evse_id, "connector_id": connector_id})
        ]

    async def _before(self, unit: UnitOfWork, spec: TableSpec[Any], narrowing: dict[str, Any]) -> list[Any]:
        where = {"party_id": self.party_id, "charging_station_id": self.charging_station_id} | narrowing
        newest = ("-began_at",)
        return await unit.table(spec).select(where, before=("began_at", self.since), order_by=newest, limit=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineAPI:
    """Timelines of transactions and of stations."""

    operator: OperatorAPI

    def mount_on(self, routes: RouteTable) -> None:
        """Add the routes."""
        of_transaction = "/transactions/{station_id}/{transaction_id}/timeline"
        routes.add(
            "Timelines",
            [
                Route("GET", of_transaction, self.show_transaction_timeline, None, Timeline),
                Route("GET", "/stations/{station_id}/timeline", self.show_station_timeline, None, Timeline, TIMES),
            ],
            writes=TokenRole.OWNER,
        )

    async def show_transaction_timeline(self, request: Request, party_id: PartyId) -> Any:
        """Tell why a transaction failed, or that it did not: the verdict, and all that led to it."""
        station_id, transaction_id = request.path_params["station_id"], request.path_params["transaction_id"]
        office = self.operator.office
        async with office.ports.units.begin() as unit:
            file = await transaction_file(unit, party_id, station_id, transaction_id)
            window = _window_of(file.record, office.now())
            history = await _of_transaction(unit, window, file)
        return _timeline(window, history, transaction_id)

    async def show_station_timeline(self, request: Request, party_id: PartyId) -> Any:
        """Tell what happened at a station in a time, and what became of the last thing that was tried there."""
        station_id = await self.operator.station_of(request, party_id)
        until: datetime = asked(request, "to", self.operator.office.now())
        # At the calendar's edge there is no day before.
        since: datetime = asked(request, "from", max(until, MOMENT_MIN) - PERIOD)
        if not timedelta(0) < until - since <= PERIOD_MAX:
            raise NotUnderstood(f"the time ends after it begins and is {PERIOD_MAX.days} days at most")
        window = _Window(party_id=party_id, charging_station_id=station_id, since=since, until=until)
        async with self.operator.office.ports.units.begin() as unit:
            history = await _of_station(unit, window)
        return _timeline(window, history, None)


def _window_of(record: TransactionRecord, now: datetime) -> _Window:
    """Return the time around a transaction; of a station without a clock, all the time a clock can show."""
    first, last = (min(max(at, MOMENT_MIN), MOMENT_MAX) for at in (record.first_at, record.last_at))
    evse_ids = None if record.ocpp_evse_id is None else (0, record.ocpp_evse_id)
    return _Window(
        party_id=record.party_id,
        charging_station_id=record.charging_station_id,
        since=first - MARGIN,
        until=(last if record.has_ended else max(last, now)) + MARGIN,
        evse_ids=evse_ids,
    )


async def _of_transaction(unit: UnitOfWork, window: _Window, file: TransactionFile) -> History:
    record = file.record
    around = await window.around(unit)
    where = {"party_id": record.party_id, "charging_station_id": record.charging_station_id}
    bound = await unit.table(AUTHORIZATION).select(where | {"transaction_id": record.transaction_id})
    near = []
    if record.token_subject is not None:
        narrowing = {"transaction_id": None, "token_subject": record.token_subject}
        near = [*await window.rows(unit, AUTHORIZATION, "decided_at", **narrowing)]
    return History(
        connections=around.connections,
        boots=around.boots,
        statuses=around.statuses,
        authorizations=(*bound, *near),
        commands=around.commands,
        calls=around.calls,
        files=(file,),
    )


async def _of_station(unit: UnitOfWork, window: _Window) -> History:
    around = await window.around(unit)
    records: tuple[TransactionRecord, ...] = await window.rows(unit, TRANSACTION, "first_at")
    files = [
        await transaction_file(unit, row.party_id, row.charging_station_id, row.transaction_id)
        for row in records[-TRANSACTIONS_MAX:]
    ]
    return History(
        connections=around.connections,
        boots=around.boots,
        statuses=around.statuses,
        authorizations=await window.rows(unit, AUTHORIZATION, "decided_at"),
        commands=around.commands,
        calls=around.calls,
        files=tuple(files),
    )


def _timeline(window: _Window, history: History, transaction_id: str | None) -> Timeline:
    verdict = verdict_of(history)
    kinds = (history.connections, history.boots, history.statuses, history.authorizations, history.commands)
    is_cut = any(len(rows) >= ROWS_OF_EACH_KIND_MAX for rows in (*kinds, history.calls))
    return Timeline(
        charging_station_id=window.charging_station_id,
        transaction_id=transaction_id,
        since=window.since,
        until=window.until,
        outcome=verdict.outcome,
        verdict=verdict.why,
        is_cut=is_cut or (transaction_id is None and len(history.files) >= TRANSACTIONS_MAX),
        entries=entries_of(history),
    )
