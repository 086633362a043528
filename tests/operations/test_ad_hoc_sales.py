"""A driver without a contract buys a charge at the QR page; whatever fails, the money held is taken or given back."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from emobility.adapters.payments.test_provider import PAYMENT, SandboxCard
from emobility.protocols.station_control.messages import CommandOutcome, CommandResult
from services.audit.ad_hoc import check_nobody_else_is_billed, check_sales
from services.audit.books import gather_books
from services.charging_operations.ad_hoc_page import PAGES_MAX
from services.charging_operations.ad_hoc_records import AD_HOC_SALE, SaleState
from services.charging_operations.ad_hoc_sales import START_WAIT
from services.charging_operations.ad_hoc_work import AdHocWorker
from tests.operations.ad_hoc_shop import audited, gross_terms, open_shop, was_stopped
from tests.operations.world import CPO


class Died(Exception):
    """The process was killed here: nothing after this line ever ran."""


async def test_a_charge_is_bought_watched_stopped_and_paid_to_the_cent() -> None:
    async with open_shop() as shop:
        here = shop.here

        offer = await shop.get()
        sale = await shop.buy()
        card = await shop.token()
        await here.report(await here.started("7", card=card), here.updated("7", at=30, import_wh=3_000))
        watched = await shop.get(shop.url(sale))
        stopped = await shop.post(shop.url(sale, "/stop"))
        await here.until(lambda: was_stopped(here))
        await here.report(here.ended("7", at=60, import_wh=6_001))
        paid = await shop.sale(sale.sale_id)
        receipt = await shop.get(shop.url(sale, "/receipt"))

        assert "0.600039 EUR per kWh" in offer.text
        assert "incl. 21 % VAT" in offer.text
        assert sale.state is SaleState.STARTING
        assert "2.000 kWh" in watched.text
        assert "1.8051 EUR" in watched.text
        assert stopped.status_code == 303
        # 5.001 kWh at 0.4959 and 0.50, with 21 %: 3.60579...
        assert (paid.total_incl_e4, paid.capture_e4, paid.residue_e4, paid.vat_e4) == (36_058, 36_000, 58, 6_248)
        assert paid.state is SaleState.CAPTURED
        assert f"{CPO}-AH-00000001" in receipt.text
        assert "<strong>3.60</strong>" in receipt.text
        payment = await shop.payment()
        assert (payment.captured_e4, payment.held_e4, payment.is_open) == (36_000, 0, False)
        ledger = await here.ledger()
        assert (ledger.sold, ledger.waived, ledger.cdr) == (5_001, 0, 0)
        assert await here.cdrs() == []
        assert await here.quarantine() == []
        assert here.emsp.got("sessions") == []
        await audited(here)


async def test_a_form_sent_twice_buys_once_and_one_that_is_foreign_nothing() -> None:
    async with open_shop() as shop:
        form = await shop.form()

        first, second = await shop.post(shop.path, form), await shop.post(shop.path, form)
        foreign = await shop.post(shop.path, await shop.form(), origin="https://elsewhere.test")
        other = await shop.post(shop.path, await shop.form())
        await shop.here.settle()

        assert (first.status_code, second.status_code) == (303, 303)
        assert first.headers["location"] == second.headers["location"]
        assert foreign.status_code == 422
        assert other.status_code == 409
        assert len(await shop.here.rows(AD_HOC_SALE)) == len(await shop.here.rows(PAYMENT)) == 1
        assert len([each for each in shop.here.gateway.commands if each.start_transaction]) == 1


@pytest.mark.parametrize("result", [CommandResult.REJECTED, CommandResult.STATION_OFFLINE])
async def test_a_start_that_fails_gives_the_hold_back_and_sells_nothing(result: CommandResult) -> None:
    async with open_shop() as shop:
        shop.here.gateway.outcome = CommandOutcome(result=result)

        sale = await shop.buy()
        page = await shop.get(shop.url(sale))

        assert sale.state is SaleState.RELEASED
        assert "You pay nothing" in page.text
        assert not (await shop.payment()).is_open
        assert (await shop.here.authorize(await shop.token())).status != "Accepted"
        await audited(shop.here)


async def test_who_never_plugs_in_gets_the_hold_back() -> None:
    async with open_shop() as shop:
        sale = await shop.buy()

        shop.here.clock.step_by(START_WAIT + timedelta(seconds=1))
        await shop.here.operations.ad_hoc_worker.watch()
        await shop.here.settle()

        assert (await shop.sale(sale.sale_id)).state is SaleState.RELEASED
        assert not (await shop.payment()).is_open
        await audited(shop.here)


@pytest.mark.parametrize(
    ("card", "state"),
    [
        (SandboxCard.DECLINED, SaleState.DECLINED),
        (SandboxCard.SILENT_BEFORE, SaleState.CAPTURED),
        (SandboxCard.SILENT_AFTER, SaleState.CAPTURED),
        (SandboxCard.DECLINED_AT_CAPTURE, SaleState.UNCOLLECTED),
    ],
)
async def test_a_card_that_fails_leaves_no_hold_behind(card: SandboxCard, state: SaleState) -> None:
    async with open_shop() as shop:
        here = shop.here

        sale = await shop.buy(card=card.value)
        if state is not SaleState.DECLINED:
            token = await shop.token()
            await here.report(await here.started("7", card=token), here.ended("7", at=60, import_wh=6_001))

        assert (await shop.sale(sale.sale_id)).state is state
        assert all(not payment.is_open for payment in await here.rows(PAYMENT))
        await audited(here)


async def test_a_charge_is_ended_before_it_costs_more_than_is_held() -> None:
    async with open_shop(gross_terms("10")) as shop:
        here = shop.here
        sale = await shop.buy()
        token = await shop.token()

        # 1.5 kWh cost 18.76; three more minutes at 11.04 kW would cost 6.68 beside it, and 25 are held.
        await here.report(await here.started("7", card=token), here.updated("7", at=9, import_wh=2_500))
        await here.until(lambda: was_stopped(here))
        await here.report(here.ended("7", at=10, import_wh=2_600))

        ended = await shop.sale(sale.sale_id)
        assert ended.state is SaleState.CAPTURED
        assert ended.capture_e4 <= ended.held_e4
        assert ended.beyond_hold_e4 == 0
        await audited(here)


async def test_what_a_meter_says_wrongly_is_charged_to_nobody() -> None:
    async with open_shop() as shop:
        here = shop.here
        sale = await shop.buy()

        await here.report(await here.started("7", card=await shop.token()), here.ended("7", import_wh=900))

        assert (await shop.sale(sale.sale_id)).state is SaleState.RELEASED
        assert len(await here.quarantine()) == 1
        await audited(here)


async def test_nothing_is_sold_without_the_tax_of_the_country_and_no_code_leads_to_another() -> None:
    async with open_shop(gross_terms(vat="9")) as shop:
        wrong_tax = await shop.get()
        guesses = [(await shop.get(f"{shop.path[:-20]}{number:020x}")).status_code for number in range(PAGES_MAX)]

        assert wrong_tax.status_code == 409
        assert set(guesses) == {404, 429}
        assert guesses.count(404) == PAGES_MAX - 1


async def test_what_is_named_in_markup_is_shown_as_text() -> None:
    async with open_shop() as shop:
        await shop.here.api("PUT", f"/{CPO}", {"name": "<script>alert(1)</script>"})

        page = await shop.get()

        assert "<script" not in page.text
        assert "&lt;script&gt;" in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]


@pytest.mark.parametrize("moment", ["before it asked", "after it asked"])
@pytest.mark.parametrize("step", ["authorize", "capture", "release"])
async def test_a_worker_that_dies_at_any_step_leaves_no_hold_and_takes_nothing_twice(
    step: str, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_shop() as shop:
        here = shop.here
        real = getattr(here.ports.payments, step)
        died: list[str] = []

        async def dying(*arguments: Any, **named: Any) -> Any:
            if died:
                return await real(*arguments, **named)
            died.append(step)
            if moment == "after it asked":
                await real(*arguments, **named)
            raise Died

        monkeypatch.setattr(here.ports.payments, step, dying)
        sale = await shop.buy()
        if step == "release":
            await shop.post(shop.url(sale, "/stop"))
        else:
            token = await shop.token()
            await here.report(await here.started("7", card=token), here.ended("7", at=60, import_wh=6_001))
        await AdHocWorker(office=here.operations.office, desk=here.operations.ad_hoc).work_once()
        await here.settle()

        assert died == [step]
        expected = (SaleState.RELEASED, 0) if step == "release" else (SaleState.CAPTURED, 36_000)
        payment = await shop.payment()
        assert ((await shop.sale(sale.sale_id)).state, payment.captured_e4) == expected
        assert not payment.is_open
        assert len([each for each in here.gateway.commands if each.start_transaction]) == 1
        await audited(here)


async def test_a_start_that_nobody_answers_gives_the_hold_back_when_its_time_is_over() -> None:
    async with open_shop() as shop:
        here = shop.here
        here.gateway.may_answer.clear()
        form = await shop.form()
        await shop.post(shop.path, form)
        await here.until(lambda: here.rows(AD_HOC_SALE, state=SaleState.STARTING))

        here.clock.step_by(START_WAIT + timedelta(seconds=1))
        await AdHocWorker(office=here.operations.office, desk=here.operations.ad_hoc).watch()
        here.gateway.may_answer.set()
        await here.settle()

        assert (await shop.sale(form["sale_id"])).state is SaleState.RELEASED
        assert not (await shop.payment()).is_open
        await audited(here)


async def test_the_audit_sees_money_that_no_receipt_explains_and_a_cdr_of_what_was_sold() -> None:
    async with open_shop() as shop:
        here = shop.here
        await shop.buy()
        await here.report(await here.started("7", card=await shop.token()), here.ended("7", at=60, import_wh=6_001))
        await here.authorize()
        await here.report(await here.started("8", at=90), here.ended("8", at=120, import_wh=7_000))
        books = await gather_books(here.ports.units, here.ports.event_log)
        sale, payment, cdr = books.ad_hoc_sales[0], books.ad_hoc_payments[0], books.cpo_cdrs[0]

        books.ad_hoc_payments = [replace(payment, captured_e4=payment.captured_e4 + 100, is_open=True, held_e4=7)]
        books.ad_hoc_sales = [replace(sale, vat_e4=sale.vat_e4 - 1)]
        books.cpo_cdrs = [replace(cdr, session_id=str(sale.session_id))]

        found = check_sales(books).differences
        assert [difference.found - difference.expected for difference in found] == [100, 7, -1]
        assert len(check_nobody_else_is_billed(books).differences) == 1
