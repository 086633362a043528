"""What an operator decides while a report of the same transaction is handled: they lock rows in one order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from emobility.ports.unit_of_work import UnitOfWork
from services.charging_operations.credits import CreditRequest
from services.charging_operations.quarantine import Outcome, Resolution
from services.charging_operations.records import CDRS, QUARANTINE, SESSION, TRANSACTION
from tests.operations.world import CPO, STATION, World, open_for_business

DEADLINE_S = 5.0
TURNS = 20
"""Of the event loop: enough for a decision to lock all that it can get."""


async def while_a_report_is_handled(
    here: World, decide: Callable[[UnitOfWork], Awaitable[Any]], *rows: tuple[Any, str]
) -> None:
    """Hold the transaction, have the decision begin, lock what the handler locks next, and let both end."""

    async def decided() -> None:
        async with here.ports.units.begin() as unit:
            await decide(unit)
            await unit.commit()

    async with here.ports.units.begin() as handler, asyncio.timeout(DEADLINE_S):
        await handler.table(TRANSACTION).get_for_update(CPO, STATION, "1")
        deciding = asyncio.create_task(decided())
        for _ in range(TURNS):
            await asyncio.sleep(0)
        for spec, name in rows:
            assert await handler.table(spec).get_for_update(CPO, name) is not None
        await handler.commit()
    await deciding


async def test_a_quarantine_is_resolved_after_a_report_that_has_the_transaction() -> None:
    async with open_for_business() as here:
        await here.report(await here.started(card="NOBODYS"), here.ended())
        (row,) = await here.quarantine()
        waiver = Resolution(outcome=Outcome.WAIVE, who="Ann", why="nobody to bill")

        await while_a_report_is_handled(
            here,
            lambda unit: here.operations.quarantine.resolve(unit, CPO, row.quarantine_id, waiver, correlation_id="c"),
            (QUARANTINE, row.quarantine_id),
        )

        (after,) = await here.quarantine()
        assert after.resolved_by == "Ann"


async def test_a_cdr_is_credited_after_a_report_that_has_the_transaction() -> None:
    async with open_for_business() as here:
        await here.report(await here.started(), here.ended())
        (cdr,) = await here.issued()

        await while_a_report_is_handled(
            here,
            lambda unit: here.operations.credits.credit(
                unit, CPO, cdr.cdr_id, CreditRequest(reason="wrong"), correlation_id="c"
            ),
            (SESSION, cdr.session_id),
            (CDRS, cdr.cdr_id),
        )

        assert [each.is_credit for each in await here.issued()] == [False, True]
