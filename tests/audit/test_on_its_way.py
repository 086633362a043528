"""What the product left behind, as it left it: a CDR on its way."""

from __future__ import annotations

from services.audit.books import gather_books
from services.audit.carried import waiting_for
from tests.operations.world import CPO, EMSP, open_for_business


async def test_a_cdr_that_its_msp_refuses_is_told_with_its_delivery() -> None:
    async with open_for_business() as here:
        here.emsp.refuses = {"cdrs"}
        await here.authorize(transaction_id="1", ocpp_evse_id=1)
        await here.report(await here.started(), here.ended())

        books = await gather_books(here.ports.units, here.ports.event_log)
        (cdr,) = books.cpo_cdrs

        assert here.emsp.got("cdrs") == []
        assert " was refused after 1 attempts" in waiting_for(books, (CPO.code, EMSP.code, cdr.cdr_id))
