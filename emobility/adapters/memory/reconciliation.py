"""`Reconciliation` in memory: the joins of the PostgreSQL adapter, in dicts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from emobility.adapters.memory.units import MemoryState, MemoryUnit, MemoryUnits
from emobility.events import codec
from emobility.events.charging import CHARGING
from emobility.events.event import LoggedEvent
from emobility.ports.reconciliation import (
    BATCH_DOCUMENTS,
    Charge,
    Document,
    Metered,
    MeteredSession,
    Period,
    StationName,
)

_Name = tuple[str, str]
_Route = tuple[str, str, str]
_NOWHERE: Final = "\U0010ffff"
"""Sorts what is in no statement last."""


class MemoryMoment:
    """A look at a state that nobody changes meanwhile; see `emobility.ports.reconciliation.Moment`."""

    name: Final = "now"

    def __init__(self, state: MemoryState, unit: MemoryUnit) -> None:
        self._state = state
        self.unit: Final = unit

    def _rows(self, table: str) -> list[Any]:
        rows = self._state.tables.get(table)
        return [] if rows is None else list(rows.by_key.values())

    async def sessions(self, period: Period) -> AsyncIterator[Sequence[MeteredSession]]:
        """Yield what was metered; see the port."""
        every = list(self._sessions(period))
        billed: dict[tuple[str, str | None, str | None], MeteredSession] = {}
        for each in every:
            if _is_billed(each):
                key = each[:3]
                before = billed.get(key, MeteredSession(*key, None, 0, None, *[0] * 11))
                sums = [one + other for one, other in zip(before[6:], each[6:], strict=True)]
                billed[key] = MeteredSession(*key, None, before.sessions + 1, None, *sums)
        found = [*billed.values(), *(each for each in every if not _is_billed(each))]
        for start in range(0, len(found), BATCH_DOCUMENTS):
            yield found[start : start + BATCH_DOCUMENTS]

    def _sessions(self, period: Period) -> Iterable[MeteredSession]:
        claimed: dict[_Name, list[Any]] = defaultdict(list)
        for row in self._rows("cpo_cdr"):
            claimed[row.party_id.code, row.session_id].append(row)
        held: dict[_Name, list[Any]] = defaultdict(list)
        for row in self._rows("cpo_quarantine"):
            held[row.party_id.code, row.session_id].append(row)
        sold: dict[_Name, list[Any]] = defaultdict(list)
        for row in self._rows("cpo_ad_hoc_sale"):
            if row.ended_at is not None and row.session_id is not None:
                sold[row.party_id.code, row.session_id].append(row)
        opened = {(row.party_id.code, row.session_id): row for row in self._rows("cpo_session")}
        transactions = self._rows("cpo_transaction")
        runs = [((row.party_id.code, row.session_id or ""), row) for row in transactions]
        known = {name for name, _ in runs}
        for name, run in (*runs, *((name, None) for name in claimed if name not in known)):
            cdrs, session = claimed.get(name, []), opened.get(name)
            ended_at = max((row.cdr.ended_at for row in cdrs), default=run.last_at if run else None)
            assert ended_at is not None, f"{name} is neither metered nor claimed"
            if not period.since <= ended_at < period.before:
                continue
            if cdrs:
                emsp, currency = min(row.emsp_id.code for row in cdrs), min(row.cdr.currency for row in cdrs)
            else:
                emsp, currency = (session.emsp_id.code, session.session.currency) if session else (None, None)
            quarantined, sales = held.get(name, []), sold.get(name, [])
            waiting = [row for row in quarantined if row.state == "OPEN"]
            yield MeteredSession(
                cpo_id=name[0],
                emsp_id=emsp,
                currency=currency,
                name=f"{run.charging_station_id}/{run.transaction_id}" if run else name[1],
                sessions=1,
                state=run.state.value if run else None,
                cdrs=len(cdrs),
                metered_import_wh=run.metered_import_wh if run else 0,
                metered_export_wh=run.metered_export_wh if run else 0,
                cdr_import_wh=sum(-row.energy_import_wh if row.is_credit else row.energy_import_wh for row in cdrs),
                cdr_export_wh=sum(-row.energy_export_wh if row.is_credit else row.energy_export_wh for row in cdrs),
                held_import_wh=sum(row.energy_import_wh for row in waiting),
                held_export_wh=sum(row.energy_export_wh for row in waiting),
                forgone_import_wh=sum(row.waived_import_wh + row.written_off_import_wh for row in quarantined),
                forgone_export_wh=sum(row.waived_export_wh + row.written_off_export_wh for row in quarantined),
                sold_import_wh=sum(row.energy_import_wh for row in sales),
                sold_export_wh=sum(row.energy_export_wh for row in sales),
            )

    async def documents(self, period: Period) -> AsyncIterator[Sequence[Document]]:
        """Yield every document of any side; see the port."""
        issued = {(row.party_id.code, row.cdr_id): row for row in self._rows("cpo_cdr") if _ended(row.cdr, period)}
        received = {(row.cpo_id.code, row.cdr_id): row for row in self._rows("emsp_cdr") if _ended(row, period)}
        booked = {(row.cpo_id.code, row.cdr_id): row for row in self._rows("settlement_leaf") if _ended(row, period)}
        bills = Counter((row.party_id.code, row.cpo_id.code, row.cdr_id) for row in self._rows("emsp_bill"))
        undelivered: dict[_Route, str] = {}
        for row in self._rows("ocpi_delivery"):
            if row.module == "cdrs":
                key = row.own_party.code, row.to_party.code, row.object_key
                undelivered[key] = min(row.state.value, undelivered.get(key, row.state.value))
        names = issued.keys() | received.keys() | booked.keys()
        found = sorted(
            (
                _document(name, (issued.get(name), received.get(name), booked.get(name)), bills, undelivered)
                for name in names
            ),
            key=_place,
        )
        for start in range(0, len(found), BATCH_DOCUMENTS):
            yield found[start : start + BATCH_DOCUMENTS]

    async def charges(self, period: Period) -> AsyncIterator[Sequence[Charge]]:
        """Yield the sessions of a period; see the port."""
        found: dict[_Route, set[str]] = defaultdict(set)
        for row in self._rows("cpo_cdr"):
            if _ended(row.cdr, period):
                found[row.party_id.code, row.emsp_id.code, row.session_id].add(row.cdr_id)
        for row in self._rows("emsp_cdr"):
            if _ended(row, period):
                found[row.cpo_id.code, row.party_id.code, row.session_id].add(row.cdr_id)
        for row in self._rows("settlement_leaf"):
            if _ended(row, period):
                found[row.cpo_id.code, row.emsp_id.code, row.session_id].add(row.cdr_id)
        every = [Charge(*name, sorted(found[name])) for name in sorted(found)]
        for start in range(0, len(every), BATCH_DOCUMENTS):
            yield every[start : start + BATCH_DOCUMENTS]

    async def has_log(self) -> bool:
        """Whether the event log lies beside these rows."""
        return True

    async def reports(self, partition: int) -> AsyncIterator[Sequence[LoggedEvent]]:
        """Yield a partition of the log, station by station; see the port."""
        held = self._state.partition(CHARGING, partition)
        every = [
            LoggedEvent(topic=CHARGING, partition=partition, offset=offset, envelope=codec.decode_envelope(event.data))
            for offset, event in enumerate(held.events, start=held.first)
        ]
        yield sorted(every, key=lambda each: (each.envelope.event.key, each.offset))

    async def metered(self, stations: Sequence[StationName]) -> Sequence[Metered]:
        """Return what the transactions of some stations metered."""
        wanted = set(stations)
        return [
            Metered(
                row.party_id.code,
                row.charging_station_id,
                row.transaction_id,
                row.metered_import_wh,
                row.metered_export_wh,
            )
            for row in self._rows("cpo_transaction")
            if (row.party_id.code, row.charging_station_id) in wanted
        ]

    async def stations(self) -> Sequence[StationName]:
        """Return every station that has transactions."""
        return sorted({(row.party_id.code, row.charging_station_id) for row in self._rows("cpo_transaction")})


def _ended(row: Any, period: Period) -> bool:
    return bool(period.since <= row.ended_at < period.before)


def _is_billed(each: MeteredSession) -> bool:
    is_metered = (each.metered_import_wh, each.metered_export_wh) == (each.cdr_import_wh, each.cdr_export_wh)
    return each.state is not None and is_metered and not any(each[11:])


def _place(each: Document) -> tuple[Any, ...]:
    if each.sequence is None:
        return _NOWHERE, each.cpo_id, each.cdr_id
    return each.cpo_id, each.agreement_id, each.version, each.sequence, each.place, each.cdr_id


def _document(
    name: _Name, sides: tuple[Any, Any, Any], bills: Counter[_Route], undelivered: dict[_Route, str]
) -> Document:
    issued, received, booked = sides
    session_id = (issued or received or booked).session_id
    is_waiting = issued and not received
    state = undelivered.get((name[0], issued.emsp_id.code, f"session/{session_id}")) if is_waiting else None
    original = (received.cdr.credit_reference_id or received.cdr_id) if received else ""
    return Document._make(
        (
            *name,
            session_id,
            *(_issued(issued) if issued else (None,) * 5),
            state,
            *(_received(received) if received else (None,) * 6),
            received.cdr.credit_reference_id is not None if received else None,
            bills[received.party_id.code, name[0], original] if received else 0,
            *(_leaf(booked) if booked else (None,) * 14),
        )
    )


def _issued(row: Any) -> tuple[Any, ...]:
    sign = -1 if row.is_credit else 1
    imported, exported = sign * row.energy_import_wh, sign * row.energy_export_wh
    return row.emsp_id.code, row.cdr.currency, imported, exported, row.cdr.total_cost.excl_e4


def _received(row: Any) -> tuple[Any, ...]:
    cdr = row.cdr
    sign = -1 if cdr.credit_reference_id is not None else 1
    imported, exported = sign * cdr.total_energy_import_wh, sign * cdr.total_energy_export_wh
    return row.party_id.code, cdr.currency, imported, exported, cdr.total_cost.excl_e4, row.state.value


def _leaf(row: Any) -> tuple[Any, ...]:
    return (
        row.emsp_id.code,
        row.currency,
        row.agreement_id,
        row.version,
        row.sequence,
        row.place,
        row.is_credit,
        row.cdr_key,
        row.import_wh,
        row.export_wh,
        row.commitment,
        row.meter,
        row.due_e4,
        row.credit_e4,
    )


class MemoryReconciliation:
    """Opens moments; see `emobility.ports.reconciliation.Reconciliation`."""

    def __init__(self, units: MemoryUnits) -> None:
        self._units = units

    @asynccontextmanager
    async def moment(self, name: str | None = None) -> AsyncIterator[MemoryMoment]:
        """Look at now."""
        del name
        async with self._units.begin() as unit:
            yield MemoryMoment(self._units.state, unit)
