"""The migrations make the tables that the records ask for."""

from __future__ import annotations

from emobility.adapters.payments import test_provider
from emobility.adapters.postgres.schema import differences
from emobility.ports.stores import TableSpec
from services.driver_mobility import records


async def test_every_record_fits_its_migrated_table(postgres_dsn: str) -> None:
    specs = [
        spec for module in (records, test_provider) for spec in vars(module).values() if isinstance(spec, TableSpec)
    ]

    assert await differences(postgres_dsn, specs) == []
    assert len(specs) == 22
