"""A period's documents are joined in PostgreSQL as they are in memory, and a moment stays what it was."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

from bench.settlement_books import Filling
from bench.settlement_pairs import agreements
from emobility.domain.cdr import credit_of
from emobility.ports.reconciliation import Document, MeteredSession, Period, Reconciliation
from services.charging_operations import records as cpo
from services.driver_mobility import records as emsp
from services.settlement.records import LEAF
from tests.settlement.settling import Settling, open_settling
from tests.settlement.world import T0, a_cdr, accepted, open_world

SESSIONS = 24
Found = tuple[list[MeteredSession], list[Document]]


@asynccontextmanager
async def filled(dsn: str | None) -> AsyncIterator[Settling]:
    """Sound sessions of two pairs, and of each kind of trouble one."""
    async with open_settling(dsn) as here:
        await Filling(here, agreements()[:2]).fill(SESSIONS)
        async with here.world.ports.units.begin() as unit:
            transactions, issued, received = (unit.table(spec) for spec in (cpo.TRANSACTION, cpo.CDRS, emsp.CDRS))
            leaves, rows = unit.table(LEAF), sorted(await issued.select(), key=lambda row: row.cdr_id)
            runs = {row.session_id: row for row in await transactions.select()}
            credit = credit_of(rows[0].cdr, cdr_id="credit", issued_at=T0, remark="wrong")
            await issued.put(replace(rows[0], credited_by="credit"))
            await issued.put(replace(rows[0], cdr_id="credit", is_credit=True, cdr=credit))
            at_msp = {row.cdr_id: row for row in await received.select()}
            taken = at_msp[rows[0].cdr_id]
            await received.put(replace(taken, state=emsp.CDRState.CREDITED, credited_by="credit"))
            await received.put(replace(taken, cdr_id="credit", cdr=credit))
            await received.delete(at_msp[rows[1].cdr_id].party_id, rows[1].party_id, rows[1].cdr_id)
            await issued.delete(rows[2].party_id, rows[2].cdr_id)
            await leaves.delete(rows[3].party_id, rows[3].cdr_id)
            run = runs[rows[4].session_id]
            await transactions.delete(run.party_id, run.charging_station_id, run.transaction_id)
            await transactions.put(
                replace(run, transaction_id="open", session_id=None, state=cpo.TransactionState.OPEN)
            )
            held = replace(run, transaction_id="held", session_id="held", state=cpo.TransactionState.QUARANTINED)
            await transactions.put(held)
            await unit.table(cpo.QUARANTINE).put(
                cpo.QuarantineRecord(
                    party_id=run.party_id,
                    quarantine_id="Q",
                    session_id="held",
                    charging_station_id=run.charging_station_id,
                    transaction_id="held",
                    state=cpo.QuarantineState.OPEN,
                    reasons=("R",),
                    details=("d",),
                    energy_import_wh=run.metered_import_wh,
                    energy_export_wh=0,
                    quarantined_at=T0,
                )
            )
            late = rows[5].cdr
            leaf = await leaves.get(rows[5].party_id, rows[5].cdr_id)
            assert leaf is not None
            await leaves.put(replace(leaf, cdr_id="alone", session_id="alone", version=None, sequence=None, place=None))
            await issued.put(replace(rows[5], cdr=replace(late, ended_at=late.ended_at - timedelta(days=365))))
            await unit.commit()
        yield here


async def read(reconciliation: Reconciliation | None, period: Period) -> Found:
    assert reconciliation is not None
    async with reconciliation.moment() as moment:
        sessions = [each async for batch in moment.sessions(period) for each in batch]
        documents = [each async for batch in moment.documents(period) for each in batch]
    places = [each[19:23] for each in documents if each.sequence is not None]
    assert places == sorted(places)
    assert all(each.cdr_key and each.commitment for each in documents if each.leaf_of)
    # Keys are secrets of each store, and places follow from them.
    alike = [each._replace(cdr_key=None, commitment=None, place=None) for each in documents]
    return sorted(sessions, key=repr), sorted(alike, key=repr)


async def test_postgresql_joins_as_memory_does(postgres_dsn: str) -> None:
    half = Period(since=T0 - timedelta(days=14), before=T0)
    found = []
    for dsn in (None, postgres_dsn):
        async with filled(dsn) as here:
            reconciliation = here.world.ports.reconciliation
            found.append([await read(reconciliation, period) for period in (Period(), half)])

    (in_memory, half_in_memory), (in_postgres, half_in_postgres) = found
    assert in_postgres == in_memory
    assert half_in_postgres == half_in_memory
    sessions, documents = in_memory
    # One document is another's credit, one ended in another year at its CPO and so is there twice, one is a leaf alone.
    assert len(documents) == SESSIONS + 3 - 1
    assert {each.state for each in sessions if each.name is not None} == {None, "BILLED", "OPEN", "QUARANTINED"}
    assert 0 < len(half_in_memory[1]) < len(documents)


async def test_a_moment_is_the_same_for_another_process_whatever_is_written_meanwhile(postgres_dsn: str) -> None:
    async with open_world(postgres_dsn) as world:
        reconciliation = world.ports.reconciliation
        assert reconciliation is not None
        await world.take(accepted(a_cdr("before")))
        async with reconciliation.moment() as first:
            assert await first.unit.table(LEAF).count() == 1
            await world.take(accepted(a_cdr("later")))

            async with reconciliation.moment(first.name) as second:
                seen = [await moment.unit.table(LEAF).count() for moment in (first, second)]
                documents = [each.cdr_id async for batch in second.documents(Period()) for each in batch]

        async with reconciliation.moment() as later:
            now = await later.unit.table(LEAF).count()

    assert (seen, documents, now) == ([1, 1], ["before"], 2)
