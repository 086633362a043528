"""Does a migrated table have the columns its `TableSpec` maps to?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import psycopg

from emobility.adapters.postgres.columns import RecordMapping
from emobility.ports.stores import TableSpec

_ACCEPTED: Final = {
    "TEXT": {"text", "character"},
    "BIGINT": {"bigint"},
    "BOOLEAN": {"boolean"},
    "BYTEA": {"bytea"},
    "NUMERIC": {"numeric"},
    "TIMESTAMPTZ": {"timestamp with time zone"},
    "JSONB": {"jsonb"},
}
"""CHAR(3) is what the style guide asks of currencies."""


async def differences(dsn: str, specs: Sequence[TableSpec[Any]]) -> list[str]:
    """Compare specs with a migrated database; each difference is one sentence, none means they agree."""
    found: list[str] = []
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        for spec in specs:
            found.extend(await _of_columns(connection, spec))
            found.extend(await _of_keys(connection, spec))
    return found


async def _of_columns(connection: psycopg.AsyncConnection[Any], spec: TableSpec[Any]) -> list[str]:
    cursor = await connection.execute(
        "SELECT column_name, data_type, is_nullable = 'YES', column_default IS NOT NULL"
        " FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = %(table)s",
        {"table": spec.name},
    )
    stored = {row[0]: row[1:] for row in await cursor.fetchall()}
    if not stored:
        return [f"{spec.name}: no migration made this table"]
    found = []
    for column in RecordMapping(spec).columns:
        if column.name not in stored:
            found.append(f"{spec.name}.{column.name} is missing; it should be {column.sql_type}")
            continue
        data_type, is_nullable, _ = stored.pop(column.name)
        if data_type not in _ACCEPTED[column.sql_type]:
            found.append(f"{spec.name}.{column.name} is {data_type}, it should be {column.sql_type}")
        if is_nullable != column.is_nullable:
            found.append(
                f"{spec.name}.{column.name}: NULL is {'' if is_nullable else 'not '}allowed, against the record"
            )
    for name, (_, is_nullable, has_default) in stored.items():
        if not is_nullable and not has_default:
            found.append(f"{spec.name}.{name} must be filled, but the record has no such field")
    return found


async def _of_keys(connection: psycopg.AsyncConnection[Any], spec: TableSpec[Any]) -> list[str]:
    cursor = await connection.execute(
        "SELECT indisprimary, ARRAY(SELECT attname::text FROM unnest(indkey) WITH ORDINALITY AS one (number, place)"
        " JOIN pg_attribute ON attrelid = indrelid AND attnum = one.number ORDER BY one.place)"
        " FROM pg_index WHERE indrelid = to_regclass(%(table)s) AND indisunique AND indpred IS NULL",
        {"table": spec.name},
    )
    rows = await cursor.fetchall()
    keys = [tuple(names) for is_primary, names in rows if is_primary]
    unique = {tuple(sorted(names)) for is_primary, names in rows if not is_primary}
    found = []
    if keys and keys[0] != spec.key:
        found.append(f"{spec.name}: the primary key is {keys[0]}, it should be {spec.key}")
    if rows and not keys:
        found.append(f"{spec.name} has no primary key, it should be {spec.key}")
    wanted = {tuple(sorted(group)) for group in spec.unique}
    if unique != wanted:
        found.append(f"{spec.name}: {sorted(unique)} are unique, it should be {sorted(wanted)}")
    return found
