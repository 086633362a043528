"""`Reconciliation` over PostgreSQL: joins by hash and sorts on disk there, rows through server-side cursors here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from psycopg import sql

from emobility.adapters.postgres.connections import translated
from emobility.adapters.postgres.discarding import DISCARDED, discarded_of
from emobility.adapters.postgres.reading import LAGS, PARKED, logged, parked_of
from emobility.adapters.postgres.units import PostgresUnit, PostgresUnits
from emobility.events.charging import CHARGING
from emobility.events.event import LoggedEvent
from emobility.ports.event_log import DiscardedEvent, ParkedEvent
from emobility.ports.reconciliation import (
    BATCH_DOCUMENTS,
    BillOfNothing,
    Charge,
    Document,
    Metered,
    MeteredSession,
    Period,
    StationName,
)

_SETTINGS: Final = (
    b"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY",
    # A join or sort of a period takes so much memory there, and goes on on disk.
    b"SET LOCAL work_mem TO '64MB'",
    # All rows are wanted, so nothing is gained by a plan that brings the first ones soon.
    b"SET LOCAL cursor_tuple_fraction TO 1",
)

_DOCUMENTS: Final = """
WITH issued AS (
    SELECT
        party_id AS cpo_id, cdr_id, session_id, emsp_id, currency, total_e4,
        CASE WHEN is_credit THEN -energy_import_wh ELSE energy_import_wh END AS import_wh,
        CASE WHEN is_credit THEN -energy_export_wh ELSE energy_export_wh END AS export_wh
    FROM cpo_cdr
    WHERE ended_at >= %(since)s AND ended_at < %(before)s
), received AS (
    SELECT
        cpo_id, cdr_id, session_id, party_id AS emsp_id, currency, total_e4, state,
        credited_cdr_id IS NOT NULL AS is_credit,
        coalesce(credited_cdr_id, cdr_id) AS billed_cdr_id,
        CASE WHEN credited_cdr_id IS NOT NULL THEN -energy_import_wh ELSE energy_import_wh END AS import_wh,
        CASE WHEN credited_cdr_id IS NOT NULL THEN -energy_export_wh ELSE energy_export_wh END AS export_wh
    FROM emsp_cdr
    WHERE ended_at >= %(since)s AND ended_at < %(before)s
), numbered AS (
    -- To sort by one number is several times as fast as by what names a statement.
    SELECT
        cpo_id, agreement_id, version, sequence,
        row_number() OVER (ORDER BY cpo_id, agreement_id, version, sequence) AS number
    FROM settlement_statement
), booked AS (
    SELECT leaf.*, numbered.number FROM settlement_leaf AS leaf
    LEFT JOIN numbered USING (cpo_id, agreement_id, version, sequence)
    WHERE ended_at >= %(since)s AND ended_at < %(before)s
), billed AS (
    SELECT party_id, cpo_id, cdr_id, count(*) AS bills FROM emsp_bill GROUP BY party_id, cpo_id, cdr_id
), undelivered AS (
    SELECT own_party, to_party, object_key, min(state) AS state
    FROM ocpi_delivery WHERE module = 'cdrs' GROUP BY own_party, to_party, object_key
)
SELECT
    coalesce(issued.cpo_id, received.cpo_id, booked.cpo_id),
    coalesce(issued.cdr_id, received.cdr_id, booked.cdr_id),
    coalesce(issued.session_id, received.session_id, booked.session_id),
    issued.emsp_id, issued.currency, issued.import_wh, issued.export_wh, issued.total_e4, undelivered.state,
    received.emsp_id, received.currency, received.import_wh, received.export_wh, received.total_e4, received.state,
    received.is_credit, coalesce(billed.bills, 0),
    booked.emsp_id, booked.currency::text, booked.agreement_id, booked.version, booked.sequence, booked.place,
    booked.is_credit, booked.cdr_key, booked.import_wh, booked.export_wh, booked.commitment, booked.meter,
    booked.due_e4, booked.credit_e4
FROM issued
FULL JOIN received ON received.cpo_id = issued.cpo_id AND received.cdr_id = issued.cdr_id
FULL JOIN booked ON booked.cpo_id = coalesce(issued.cpo_id, received.cpo_id)
    AND booked.cdr_id = coalesce(issued.cdr_id, received.cdr_id)
LEFT JOIN billed ON billed.party_id = received.emsp_id AND billed.cpo_id = received.cpo_id
    AND billed.cdr_id = received.billed_cdr_id
LEFT JOIN undelivered ON received.cdr_id IS NULL AND undelivered.own_party = issued.cpo_id
    AND undelivered.to_party = issued.emsp_id AND undelivered.object_key = 'session/' || issued.session_id
ORDER BY booked.number, booked.place, 1, 2
"""

_SESSIONS: Final = """
WITH claimed AS (
    SELECT
        party_id, session_id, min(emsp_id) AS emsp_id, min(currency) AS currency, count(*) AS cdrs,
        max(ended_at) AS ended_at,
        sum(CASE WHEN is_credit THEN -energy_import_wh ELSE energy_import_wh END)::bigint AS import_wh,
        sum(CASE WHEN is_credit THEN -energy_export_wh ELSE energy_export_wh END)::bigint AS export_wh
    FROM cpo_cdr GROUP BY party_id, session_id
), held AS (
    SELECT
        party_id, session_id,
        sum(CASE WHEN state = 'OPEN' THEN energy_import_wh ELSE 0 END)::bigint AS import_wh,
        sum(CASE WHEN state = 'OPEN' THEN energy_export_wh ELSE 0 END)::bigint AS export_wh,
        sum(waived_import_wh + written_off_import_wh)::bigint AS forgone_import_wh,
        sum(waived_export_wh + written_off_export_wh)::bigint AS forgone_export_wh
    FROM cpo_quarantine GROUP BY party_id, session_id
), sold AS (
    SELECT
        party_id, session_id, sum(energy_import_wh)::bigint AS import_wh, sum(energy_export_wh)::bigint AS export_wh
    FROM cpo_ad_hoc_sale WHERE ended_at IS NOT NULL GROUP BY party_id, session_id
), one AS (
    SELECT
        coalesce(run.party_id, claimed.party_id) AS cpo_id,
        CASE WHEN claimed.party_id IS NOT NULL THEN claimed.emsp_id ELSE (
            SELECT emsp_id FROM cpo_session AS open
            WHERE open.party_id = run.party_id AND open.session_id = run.session_id
        ) END AS emsp_id,
        CASE WHEN claimed.party_id IS NOT NULL THEN claimed.currency ELSE (
            SELECT session ->> 'currency' FROM cpo_session AS open
            WHERE open.party_id = run.party_id AND open.session_id = run.session_id
        ) END AS currency,
        coalesce(run.charging_station_id || '/' || run.transaction_id, claimed.session_id) AS name,
        run.state, coalesce(claimed.cdrs, 0) AS cdrs,
        coalesce(run.metered_import_wh, 0) AS metered_import_wh,
        coalesce(run.metered_export_wh, 0) AS metered_export_wh,
        coalesce(claimed.import_wh, 0) AS cdr_import_wh, coalesce(claimed.export_wh, 0) AS cdr_export_wh,
        coalesce(held.import_wh, 0) AS held_import_wh, coalesce(held.export_wh, 0) AS held_export_wh,
        coalesce(held.forgone_import_wh, 0) AS forgone_import_wh,
        coalesce(held.forgone_export_wh, 0) AS forgone_export_wh,
        coalesce(sold.import_wh, 0) AS sold_import_wh, coalesce(sold.export_wh, 0) AS sold_export_wh
    FROM cpo_transaction AS run
    FULL JOIN claimed ON claimed.party_id = run.party_id AND claimed.session_id = run.session_id
    LEFT JOIN held ON held.party_id = run.party_id AND held.session_id = run.session_id
    LEFT JOIN sold ON sold.party_id = run.party_id AND sold.session_id = run.session_id
    WHERE coalesce(claimed.ended_at, run.last_at) >= %(since)s AND coalesce(claimed.ended_at, run.last_at) < %(before)s
), judged AS (
    SELECT *, state IS NOT NULL AND metered_import_wh = cdr_import_wh AND metered_export_wh = cdr_export_wh
        AND held_import_wh = 0 AND held_export_wh = 0 AND forgone_import_wh = 0 AND forgone_export_wh = 0
        AND sold_import_wh = 0 AND sold_export_wh = 0 AS is_billed
    FROM one
)
SELECT
    cpo_id, emsp_id, currency, NULL AS name, count(*) AS sessions, NULL, sum(cdrs)::bigint,
    sum(metered_import_wh)::bigint, sum(metered_export_wh)::bigint,
    sum(cdr_import_wh)::bigint, sum(cdr_export_wh)::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint,
    0::bigint
FROM judged WHERE is_billed GROUP BY cpo_id, emsp_id, currency
UNION ALL
SELECT
    cpo_id, emsp_id, currency, name, 1, state, cdrs, metered_import_wh, metered_export_wh, cdr_import_wh, cdr_export_wh,
    held_import_wh, held_export_wh, forgone_import_wh, forgone_export_wh, sold_import_wh, sold_export_wh
FROM judged WHERE NOT is_billed
"""


_CHARGES: Final = """
SELECT cpo_id, emsp_id, session_id, array_agg(DISTINCT cdr_id)
FROM (
    SELECT party_id AS cpo_id, emsp_id, session_id, cdr_id FROM cpo_cdr
    WHERE ended_at >= %(since)s AND ended_at < %(before)s
    UNION ALL
    SELECT cpo_id, party_id, session_id, cdr_id FROM emsp_cdr WHERE ended_at >= %(since)s AND ended_at < %(before)s
    UNION ALL
    SELECT cpo_id, emsp_id, session_id, cdr_id FROM settlement_leaf
    WHERE ended_at >= %(since)s AND ended_at < %(before)s
) AS document
GROUP BY cpo_id, emsp_id, session_id ORDER BY cpo_id, emsp_id, session_id
"""

_BILLS_OF_NOTHING: Final = """
SELECT party_id, bill_id, cpo_id, cdr_id, currency::text, total_incl_e4 FROM emsp_bill AS bill
WHERE NOT EXISTS (
    SELECT FROM emsp_cdr AS received
    WHERE received.party_id = bill.party_id AND received.cpo_id = bill.cpo_id AND received.cdr_id = bill.cdr_id
)
"""

_REPORTS: Final = """
SELECT log_offset, envelope FROM event WHERE topic = %(topic)s AND partition = %(partition)s ORDER BY key, log_offset
"""

_METERED: Final = b"""
SELECT party_id, charging_station_id, transaction_id, metered_import_wh, metered_export_wh FROM cpo_transaction
JOIN unnest(%(parties)s::text[], %(stations)s::text[]) AS wanted (party_id, charging_station_id)
    USING (party_id, charging_station_id)
"""


class PostgresMoment(PostgresUnit):
    """A unit that sees one moment; see `emobility.ports.reconciliation.Moment`."""

    name: str
    _reads_newest = False
    _streams = 0

    @property
    def unit(self) -> PostgresMoment:
        """Itself."""
        return self

    async def look(self, name: str | None) -> None:
        """Fix the moment: now, or one that another process looks at."""
        for setting in _SETTINGS:
            await self.execute(setting, {})
        if name is not None:
            text = sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(name)).as_bytes(None)
            await self.execute(text, {})
            self.name = name
            return
        row = await (await self.execute(b"SELECT pg_export_snapshot()", {})).fetchone()
        assert row is not None
        self.name = row[0]

    async def sessions(self, period: Period) -> AsyncIterator[Sequence[MeteredSession]]:
        """Yield what was metered; see the port."""
        async for rows in self._stream(_SESSIONS, _within(period)):
            yield [MeteredSession._make(row) for row in rows]

    async def documents(self, period: Period) -> AsyncIterator[Sequence[Document]]:
        """Yield every document of any side; see the port."""
        async for rows in self._stream(_DOCUMENTS, _within(period)):
            yield [Document._make(row) for row in rows]

    async def charges(self, period: Period) -> AsyncIterator[Sequence[Charge]]:
        """Yield the sessions of a period; see the port."""
        async for rows in self._stream(_CHARGES, _within(period)):
            yield [Charge._make(row) for row in rows]

    async def bills_of_nothing(self) -> AsyncIterator[Sequence[BillOfNothing]]:
        """Yield every bill without a CDR; see the port."""
        async for rows in self._stream(_BILLS_OF_NOTHING, {}):
            yield [BillOfNothing._make(row) for row in rows]

    async def has_log(self) -> bool:
        """Whether the event log lies beside these rows."""
        # With Kafka the tables of the log are the outbox, and groups have their places in Kafka's partitions.
        asked = b"SELECT EXISTS (SELECT FROM event_partition WHERE head > 0) AND NOT EXISTS (SELECT FROM kafka_cursor)"
        row = await (await self.execute(asked, {})).fetchone()
        return row is not None and bool(row[0])

    async def lag(self) -> Mapping[str, int]:
        """Return for each group how many events it had not handled."""
        return dict(await (await self.execute(LAGS, {})).fetchall())

    async def handled(self, group: str) -> Mapping[int, int]:
        """Return where a group stands in the topic `charging`; see the port."""
        asked = b"SELECT partition, next_offset FROM group_cursor WHERE group_name = %(group)s AND topic = %(topic)s"
        return dict(await (await self.execute(asked, {"group": group, "topic": CHARGING})).fetchall())

    async def parked(self, group: str) -> Sequence[ParkedEvent]:
        """Return a group's dead letters."""
        return parked_of(group, await (await self.execute(PARKED, {"group": group})).fetchall())

    async def discarded(self, group: str) -> Sequence[DiscardedEvent]:
        """Return what was discarded of a group's dead letters."""
        return discarded_of(group, await (await self.execute(DISCARDED, {"group": group})).fetchall())

    async def reports(self, partition: int) -> AsyncIterator[Sequence[LoggedEvent]]:
        """Yield a partition of the log, station by station; see the port."""
        async for rows in self._stream(_REPORTS, {"topic": CHARGING, "partition": partition}):
            yield [logged(CHARGING, partition, offset, envelope) for offset, envelope in rows]

    async def metered(self, stations: Sequence[StationName]) -> Sequence[Metered]:
        """Return what the transactions of some stations metered."""
        values = {"parties": [each[0] for each in stations], "stations": [each[1] for each in stations]}
        rows = await (await self.execute(_METERED.strip(), values)).fetchall()
        return [Metered._make(row) for row in rows]

    async def stations(self) -> Sequence[StationName]:
        """Return every station that has transactions."""
        asked = b"SELECT DISTINCT party_id, charging_station_id FROM cpo_transaction ORDER BY 1, 2"
        return [(row[0], row[1]) for row in await (await self.execute(asked, {})).fetchall()]

    async def _stream(self, query: str, values: Mapping[str, Any]) -> AsyncIterator[Sequence[Sequence[Any]]]:
        with translated():
            connection = await self._connected()
            self._streams += 1  # several may be open at once
            async with connection.cursor(name=f"stream_{self._streams}", binary=True) as cursor:
                await cursor.execute(query.encode(), values)
                while rows := await cursor.fetchmany(BATCH_DOCUMENTS):
                    yield rows


def _within(period: Period) -> Mapping[str, Any]:
    return {"since": period.since, "before": period.before}


class PostgresReconciliation:
    """Opens moments; see `emobility.ports.reconciliation.Reconciliation`."""

    def __init__(self, units: PostgresUnits) -> None:
        self._units = units

    @asynccontextmanager
    async def moment(self, name: str | None = None) -> AsyncIterator[PostgresMoment]:
        """Look at now, or at another process's moment. Raises `DatabaseUnavailable`."""
        async with self._units.begin_as(PostgresMoment) as moment:
            await moment.look(name)
            yield moment
