"""What the product left behind, as it left it: a CDR on its way, and the bill of a driver who was erased."""

from __future__ import annotations

from services.audit.audit import audit
from services.audit.books import gather_books
from services.audit.carried import waiting_for
from tests.mobility.conftest import MSP, open_world
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


async def test_the_bill_of_a_driver_who_was_erased_is_no_difference() -> None:
    async with open_world("memory", None) as world:
        driver_id = await world.enrol()
        reference = (await world.cpo.authorize()).authorization_reference
        session, cdr = await world.cpo.charge("S1", reference=reference)
        await world.cpo.push_session(session)
        await world.cpo.post_cdr(cdr)
        await world.quiet()
        answer = await world.call("POST", f"/{MSP}/drivers/{driver_id}/erase")
        await world.quiet()

        books = await gather_books(world.ports.units, world.ports.event_log)

        assert (answer["state"], len(books.bills), books.tokens) == ("RESTRICTED", 1, {})
        assert [each for each in audit(books).differences if each.rule == "a bill is its own driver's"] == []
