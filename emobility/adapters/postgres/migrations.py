"""Forward-only migrations: numbered SQL files, each applied once, in one transaction, under one lock."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg

from emobility.domain.errors import RuleBroken

FOLDER: Final = Path(__file__).parent / "migrations"
LOCK: Final = 0x776174740001
"""Advisory lock: two processes that start together migrate one after the other."""
_FILE: Final = re.compile(r"^(\d{4})_([a-z0-9_]+)\.sql$")


class MigrationRefused(RuleBroken):
    """The database's history and the files disagree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One file."""

    number: int
    name: str
    statements: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.statements.encode()).hexdigest()


def migrations_in(folder: Path = FOLDER) -> list[Migration]:
    """Read the files in order. Raises `MigrationRefused`: a strange name, a number twice, no sentence of why."""
    found: dict[int, Migration] = {}
    for path in sorted(folder.glob("*.sql")):
        match = _FILE.match(path.name)
        if match is None:
            raise MigrationRefused(f"{path.name} is not called like 0001_what_it_brings.sql")
        migration = Migration(number=int(match[1]), name=match[2], statements=path.read_text(encoding="utf-8"))
        if migration.number in found:
            raise MigrationRefused(f"number {match[1]} is taken twice")
        if not migration.statements.startswith("-- "):
            raise MigrationRefused(f"{path.name} does not start with one sentence of why")
        found[migration.number] = migration
    return [found[number] for number in sorted(found)]


async def migrate(dsn: str, *, folder: Path = FOLDER) -> Sequence[Migration]:
    """Apply what is missing and return it; a database that is up to date is left alone.

    Raises:
        MigrationRefused: an applied file was changed, or the database knows a migration that the files lack.
    """
    wanted = migrations_in(folder)
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute("SELECT pg_advisory_lock(%(lock)s)", {"lock": LOCK})
        try:
            missing = _missing(wanted, await _applied(connection))
            for migration in missing:
                await _apply(connection, migration)
        finally:
            await connection.execute("SELECT pg_advisory_unlock(%(lock)s)", {"lock": LOCK})
    return missing


async def _applied(connection: psycopg.AsyncConnection[tuple[object, ...]]) -> dict[int, str]:
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migration ("
        " number BIGINT PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL,"
        " applied_at TIMESTAMPTZ NOT NULL DEFAULT now())"
    )
    rows = await (await connection.execute("SELECT number, checksum FROM schema_migration")).fetchall()
    return {int(str(number)): str(checksum) for number, checksum in rows}


def _missing(wanted: Sequence[Migration], applied: dict[int, str]) -> list[Migration]:
    by_number = {migration.number: migration for migration in wanted}
    for number, checksum in sorted(applied.items()):
        migration = by_number.get(number)
        if migration is None:
            raise MigrationRefused(f"the database has migration {number:04}, this version has not: it is older")
        if migration.checksum != checksum:
            raise MigrationRefused(f"{number:04}_{migration.name}.sql was changed after it was applied")
    return [migration for migration in wanted if migration.number not in applied]


async def _apply(connection: psycopg.AsyncConnection[tuple[object, ...]], migration: Migration) -> None:
    async with connection.transaction():
        await connection.execute(migration.statements.encode())
        await connection.execute(
            "INSERT INTO schema_migration (number, name, checksum) VALUES (%(number)s, %(name)s, %(checksum)s)",
            {"number": migration.number, "name": migration.name, "checksum": migration.checksum},
        )
