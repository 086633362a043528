"""Migrations are applied once and never changed, and every table has the columns its spec maps to."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from emobility.adapters.postgres.migrations import FOLDER, MigrationRefused, migrate, migrations_in
from emobility.adapters.postgres.schema import differences
from emobility.ports.stores import TableSpec

PACKAGES: Final = ("emobility", "charge_point_gateway", "roaming_hub", "services")


def registered_specs() -> list[TableSpec[Any]]:
    """Every TableSpec that stands in a module of ours."""
    specs = {id(spec): spec for name in module_names() for spec in specs_of(name)}
    return sorted(specs.values(), key=lambda spec: spec.name)


def module_names() -> Iterator[str]:
    for name in PACKAGES:
        package = importlib.import_module(name)
        yield name
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            if not module.name.endswith("__main__"):
                yield module.name


def specs_of(module: str) -> list[TableSpec[Any]]:
    return [value for value in vars(importlib.import_module(module)).values() if isinstance(value, TableSpec)]


async def test_every_table_spec_agrees_with_the_migrated_schema(postgres_dsn: str) -> None:
    specs = registered_specs()

    found = await differences(postgres_dsn, specs)

    assert len(specs) >= 10
    assert found == []


async def test_a_column_that_a_record_lacks_or_has_of_another_type_is_told(postgres_dsn: str) -> None:
    spec = next(spec for spec in registered_specs() if spec.name == "inbox")
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute("ALTER TABLE inbox DROP COLUMN seen_at, ALTER COLUMN content_hash TYPE TEXT USING ''")
        connection.execute("ALTER TABLE inbox ADD COLUMN surplus BIGINT NOT NULL")

    found = await differences(postgres_dsn, [spec])

    assert found == [
        "inbox.content_hash is text, it should be BYTEA",
        "inbox.seen_at is missing; it should be TIMESTAMPTZ",
        "inbox.surplus must be filled, but the record has no such field",
    ]


async def test_migrating_twice_changes_nothing_the_second_time(empty_postgres_dsn: str) -> None:
    first = await migrate(empty_postgres_dsn)
    second = await migrate(empty_postgres_dsn)

    assert [each.number for each in first] == [each.number for each in migrations_in()]
    assert list(second) == []


async def test_processes_that_start_together_migrate_once(empty_postgres_dsn: str) -> None:
    applied = await asyncio.gather(*(migrate(empty_postgres_dsn) for _ in range(3)))

    assert sorted(len(each) for each in applied) == [0, 0, len(migrations_in())]


async def test_a_changed_file_is_refused(empty_postgres_dsn: str, tmp_path: Path) -> None:
    file = tmp_path / "0001_thing.sql"
    file.write_text("-- Things need a table.\nCREATE TABLE thing (name TEXT);")
    await migrate(empty_postgres_dsn, folder=tmp_path)
    file.write_text("-- Things need a table.\nCREATE TABLE thing (name TEXT NOT NULL);")

    with pytest.raises(MigrationRefused, match="changed after it was applied"):
        await migrate(empty_postgres_dsn, folder=tmp_path)


async def test_an_older_version_refuses_a_newer_database(empty_postgres_dsn: str, tmp_path: Path) -> None:
    await migrate(empty_postgres_dsn, folder=FOLDER)

    with pytest.raises(MigrationRefused, match="it is older"):
        await migrate(empty_postgres_dsn, folder=tmp_path)


async def test_a_migration_that_fails_leaves_nothing_behind(empty_postgres_dsn: str, tmp_path: Path) -> None:
    (tmp_path / "0001_thing.sql").write_text("-- Things need a table.\nCREATE TABLE thing (name TEXT);\nSELECT 1/0;")

    with pytest.raises(psycopg.errors.DivisionByZero):
        await migrate(empty_postgres_dsn, folder=tmp_path)

    with psycopg.connect(empty_postgres_dsn) as connection:
        assert connection.execute("SELECT to_regclass('thing')").fetchone() == (None,)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["1_thing.sql"], "not called like"),
        (["0001_thing.sql", "0001_other.sql"], "taken twice"),
    ],
)
def test_files_that_are_named_wrongly_are_refused(names: list[str], reason: str, tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).write_text("-- Why.\nSELECT 1;")

    with pytest.raises(MigrationRefused, match=reason):
        migrations_in(tmp_path)


def test_a_file_without_its_sentence_of_why_is_refused(tmp_path: Path) -> None:
    (tmp_path / "0001_thing.sql").write_text("CREATE TABLE thing (name TEXT);")

    with pytest.raises(MigrationRefused, match="sentence of why"):
        migrations_in(tmp_path)
