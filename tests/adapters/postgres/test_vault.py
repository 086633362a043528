"""What only PostgreSQL's vault can get wrong: two transactions over one subject."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import pytest

from emobility.adapters.memory import VirtualClock
from emobility.adapters.postgres import open_postgres
from emobility.adapters.postgres.connections import Database
from emobility.adapters.postgres.vault import PostgresVault
from emobility.adapters.system import SystemRandomness
from emobility.domain.personal import SubjectErased, SubjectRestricted
from tests.adapters.contract.conftest import DEADLINE_S, MASTER_KEY, T0
from tests.adapters.postgres.waiting import until_waiting


@dataclass
class HeldDatabase:
    """A database whose one transaction stands still after it wrote to `table`, until it is let go."""

    database: Database
    table: str
    has_written: asyncio.Event = field(default_factory=asyncio.Event)
    may_go_on: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def short_connection(self) -> AsyncIterator[Any]:
        async with self.database.short_connection() as connection:
            yield HeldConnection(connection, self)


@dataclass
class HeldConnection:
    """A connection of a `HeldDatabase`."""

    connection: Any
    held: HeldDatabase

    def transaction(self) -> Any:
        return self.connection.transaction()

    async def execute(self, statement: str, values: dict[str, object] | None = None) -> Any:
        cursor = await self.connection.execute(statement, values)
        if statement.startswith((f"INSERT INTO {self.held.table} ", f"UPDATE {self.held.table} ")):
            self.held.has_written.set()
            await self.held.may_go_on.wait()
        return cursor


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("first", "how", "has_key"),
    [("bind", "erase", True), ("bind", "restrict", True), ("bind", "erase", False), ("erase", "erase", False)],
)
async def test_a_bond_and_the_end_of_its_subject_never_miss_each_other(
    postgres_dsn: str, *, first: str, how: str, has_key: object
) -> None:
    clock = VirtualClock(T0)
    async with open_postgres(
        postgres_dsn, master_key=MASTER_KEY, clock=clock, randomness=SystemRandomness()
    ) as postgres:
        vault = postgres.vault
        driver, record = vault.subject_of("04AA"), await vault.seal("OCMF", identifier="CS1/7")
        if has_key:
            await vault.seal("04AA")
        held = HeldDatabase(postgres.database, "subject_bond" if first == "bind" else "subject_key")
        slow: Any = PostgresVault(
            cast("Database", held), master_key=MASTER_KEY, clock=clock, randomness=SystemRandomness()
        )

        async def bind(by: PostgresVault) -> None:
            await by.bind(record.subject, to=driver)

        async def end(by: PostgresVault) -> None:
            await (by.erase(driver) if how == "erase" else by.restrict(driver, until=T0 + timedelta(days=1)))

        begun, other = (bind, end) if first == "bind" else (end, bind)
        async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as tasks:
            tasks.create_task(begun(slow))
            await held.has_written.wait()
            second = tasks.create_task(other(vault))
            await until_waiting(second, postgres.database)
            held.may_go_on.set()

        with pytest.raises(SubjectErased if how == "erase" else SubjectRestricted):
            await vault.open(record)
