"""What a running transaction costs: told to its station (CostUpdated, I02), and what the station itself calculates.

The cost is our engine's, by the tariff that was frozen when the session opened: with tax where the tariff states any,
as CostUpdated has it. A station's own calculation (costDetails, I12) is kept and compared; it changes no price.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import structlog

from emobility.domain.charging_periods import whole_second
from emobility.domain.errors import EmobilityError, RuleBroken, Unavailable
from emobility.domain.identifiers import PartyId
from emobility.domain.money import Money, decimal_from_e4
from emobility.domain.personal import Sealed, SubjectErased
from emobility.events.event import Envelope
from emobility.events.station_told import StationCostCalculated
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.station_control.messages import CommandOutcome, CommandResult
from services.charging_operations.cdrs import billable_periods, priced
from services.charging_operations.office import NotAllowedNow, NotFound, Office
from services.charging_operations.records import SESSION, TRANSACTION, TransactionRecord, TransactionState
from services.charging_operations.station_calls import OCPP_16, call_station, version_of
from services.charging_operations.wanted_settings import as_json

COST_INTERVAL: Final = timedelta(minutes=1)
"""How often costs are told where an operator has asked for it."""
STATIONS_AT_ONCE_MAX: Final = 50
"""Stations that are told at the same time: one that does not answer holds up few others."""
TOLD_AT_ONCE_MAX: Final = 1_000
"""Running transactions of one station that are looked at."""
AMOUNT_E4_MAX: Final = 10**14
"""Ten billion: up to here a number of 15 digits, which every JSON reader keeps, holds each ten-thousandth."""
_log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CostTellingRecord:
    """A station's displays show running costs: it is told them while this row is there."""

    party_id: PartyId
    charging_station_id: str
    asked_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldCostRecord:
    """The cost that a station was told last of a transaction, and what became of it."""

    party_id: PartyId
    charging_station_id: str
    transaction_id: str
    amount_e4: int
    currency: str
    result: CommandResult
    told_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StationCostRecord:
    """A station's own calculation, its newest; totals in units of `currency` as they came, `details` whole."""

    party_id: PartyId
    charging_station_id: str
    transaction_id: str
    seq_no: int
    occurred_at: datetime
    currency: str
    total_excl: Decimal | None
    total_incl: Decimal | None
    has_failed: bool
    details: Sealed | None


COST_TELLING: Final = TableSpec(
    name="cpo_cost_telling", record=CostTellingRecord, key=("party_id", "charging_station_id")
)
TOLD_COST: Final = TableSpec(
    name="cpo_told_cost", record=ToldCostRecord, key=("party_id", "charging_station_id", "transaction_id")
)
STATION_COST: Final = TableSpec(
    name="cpo_station_cost", record=StationCostRecord, key=("party_id", "charging_station_id", "transaction_id")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CostCompared:
    """A station's own calculation beside ours, in units of each currency.

    A difference is the station's less ours; None: the one or the other, or a currency in common, is missing.
    """

    transaction_id: str
    seq_no: int
    occurred_at: datetime
    has_failed: bool
    currency: str
    station_excl: Decimal | None
    station_incl: Decimal | None
    our_currency: str | None
    our_excl: Decimal | None
    our_incl: Decimal | None
    difference_excl: Decimal | None
    difference_incl: Decimal | None
    details: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningCostDesk:
    """Tells costs and compares them."""

    office: Office

    async def tell(
        self, party_id: PartyId, station_id: str, transaction_id: str, *, correlation_id: str
    ) -> tuple[Money, CommandOutcome]:
        """Tell a station what a running transaction costs now.

        Raises:
            NotFound: there is no such transaction.
            NotAllowedNow: it has ended, has no price, or runs at a 1.6 station, which has no such message.
            StationOffline: the station is not connected.
        """
        async with self.office.ports.units.begin() as unit:
            record = await unit.table(TRANSACTION).get(party_id, station_id, transaction_id)
            if record is None:
                raise NotFound(f"no transaction {transaction_id}")
            cost = await self._cost(unit, record)
        if cost is None or record.has_ended:
            raise NotAllowedNow(f"transaction {transaction_id} has no running cost")
        if await version_of(self.office, party_id, station_id) == OCPP_16:
            raise NotAllowedNow("OCPP 1.6 has no CostUpdated")
        return cost, await self._told(record, cost, correlation_id=correlation_id)

    async def tell_all(self) -> None:
        """Tell every station that shows costs what has changed; one that does not answer is told again next time."""
        async with self.office.ports.units.begin() as unit:
            stations = await unit.table(COST_TELLING).select()
        room = asyncio.Semaphore(STATIONS_AT_ONCE_MAX)

        async def tell(station: CostTellingRecord) -> None:
            async with room:
                try:
                    await self._tell_station(station)
                except (Unavailable, RuleBroken) as error:
                    _log.info("costs_not_told", station=station.charging_station_id, reason=str(error))

        async with asyncio.TaskGroup() as tasks:
            for station in stations:
                tasks.create_task(tell(station))

    async def take(self, unit: UnitOfWork, _: Envelope, event: StationCostCalculated) -> None:
        """Keep a station's own calculation; a later number outweighs an earlier one, whenever it comes."""
        key = (event.party_id, event.charging_station_id, event.transaction_id)
        known = await unit.table(STATION_COST).get_for_update(*key)
        if known is not None and known.seq_no >= event.seq_no:
            return
        await unit.table(STATION_COST).put(
            StationCostRecord(
                party_id=event.party_id,
                charging_station_id=event.charging_station_id,
                transaction_id=event.transaction_id,
                seq_no=event.seq_no,
                occurred_at=event.occurred_at,
                currency=event.currency,
                total_excl=event.total_excl,
                total_incl=event.total_incl,
                has_failed=event.has_failed,
                details=event.payload,
            )
        )

    async def compared(self, unit: UnitOfWork, row: StationCostRecord) -> CostCompared:
        """Return a station's calculation beside ours."""
        record = await unit.table(TRANSACTION).get(row.party_id, row.charging_station_id, row.transaction_id)
        session = None
        if record is not None and record.session_id is not None:
            session = await unit.table(SESSION).get(row.party_id, record.session_id)
        details = None
        if row.details is not None:
            with contextlib.suppress(SubjectErased):
                details = as_json(await self.office.ports.vault.open(row.details))
        ours = None if session is None else session.session.total_cost
        is_same_currency = session is not None and session.session.currency == row.currency
        ours_excl = None if ours is None else decimal_from_e4(ours.excl_e4)
        ours_incl = None if ours is None or ours.incl_e4 is None else decimal_from_e4(ours.incl_e4)
        return CostCompared(
            transaction_id=row.transaction_id,
            seq_no=row.seq_no,
            occurred_at=row.occurred_at,
            has_failed=row.has_failed,
            currency=row.currency,
            station_excl=row.total_excl,
            station_incl=row.total_incl,
            our_currency=None if session is None else session.session.currency,
            our_excl=ours_excl,
            our_incl=ours_incl,
            difference_excl=_difference(row.total_excl, ours_excl) if is_same_currency else None,
            difference_incl=_difference(row.total_incl, ours_incl) if is_same_currency else None,
            details=details,
        )

    async def _tell_station(self, station: CostTellingRecord) -> None:
        where = {"party_id": station.party_id, "charging_station_id": station.charging_station_id}
        running = where | {"state": TransactionState.OPEN, "has_ended": False}
        due: list[tuple[TransactionRecord, Money]] = []
        async with self.office.ports.units.begin() as unit:
            for record in await unit.table(TRANSACTION).select(running, limit=TOLD_AT_ONCE_MAX):
                cost = await self._cost(unit, record)
                told = await unit.table(TOLD_COST).get(*where.values(), record.transaction_id)
                is_known = told is not None and told.result is CommandResult.ACCEPTED
                if cost is not None and not (is_known and told and told.amount_e4 == cost.amount_e4):
                    due.append((record, cost))
        if due and await version_of(self.office, station.party_id, station.charging_station_id) == OCPP_16:
            return
        for record, cost in due:
            outcome = await self._told(record, cost, correlation_id=record.correlation_id)
            if outcome.result in (CommandResult.TIMED_OUT, CommandResult.STATION_OFFLINE):
                return

    async def _told(self, record: TransactionRecord, cost: Money, *, correlation_id: str) -> CommandOutcome:
        key = (record.party_id, record.charging_station_id)
        payload = {"totalCost": _number(cost), "transactionId": record.transaction_id}
        outcome = await call_station(self.office, *key, "CostUpdated", payload, correlation_id=correlation_id)
        async with self.office.ports.units.begin() as unit:
            await unit.table(TOLD_COST).put(
                ToldCostRecord(
                    party_id=record.party_id,
                    charging_station_id=record.charging_station_id,
                    transaction_id=record.transaction_id,
                    amount_e4=cost.amount_e4,
                    currency=cost.currency,
                    result=outcome.result,
                    told_at=self.office.now(),
                )
            )
            await unit.commit()
        return outcome

    async def _cost(self, unit: UnitOfWork, record: TransactionRecord) -> Money | None:
        """Price a transaction so far; None where it has no session or can't be priced."""
        session = None
        if record.session_id is not None:
            session = await unit.table(SESSION).get(record.party_id, record.session_id)
        if session is None:
            return None
        try:
            periods = billable_periods(session, record.transaction)
            total = priced(session, periods, whole_second(record.last_at)).total
        except EmobilityError:
            return None
        amount_e4 = total.excl_e4 if total.incl_e4 is None else total.incl_e4
        return Money(amount_e4=amount_e4, currency=session.session.currency)


def _number(cost: Money) -> Decimal:
    """Return the amount as a number that every JSON reader takes exactly. Raises `NotAllowedNow`."""
    if abs(cost.amount_e4) > AMOUNT_E4_MAX:
        raise NotAllowedNow("the cost has more digits than a JSON number keeps")
    return decimal_from_e4(cost.amount_e4)


def _difference(theirs: Decimal | None, ours: Decimal | None) -> Decimal | None:
    return None if theirs is None or ours is None else theirs - ours
