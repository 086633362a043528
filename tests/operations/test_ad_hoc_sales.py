"""A driver without a contract buys a charge at the QR page; whatever fails, the money held is taken or given back."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Final
from urllib.parse import urlencode

import httpx
import pytest

from emobility.adapters.payments.test_provider import PAYMENT, SandboxCard, SandboxPayment
from emobility.domain.tariff.tariff import PriceComponent, TariffDimension, TariffElement, TariffType
from emobility.protocols.station_control.messages import CommandOutcome, CommandResult
from services.audit.ad_hoc import check_nobody_else_is_billed, check_sales
from services.audit.books import gather_books
from services.audit.energy import check_energy
from services.audit.holds import check_holds
from services.charging_operations.ad_hoc_page import PAGES_MAX
from services.charging_operations.ad_hoc_records import AD_HOC_SALE, AdHocSaleRecord, SaleState
from services.charging_operations.ad_hoc_sales import HOLDS_E4, START_WAIT
from services.charging_operations.tariffs import TariffTerms
from tests.operations.world import CPO, ORIGIN, STATION, World, open_for_business

EVSE: Final = f"{STATION}-1"


def gross_terms(per_kwh: str = "0.4959", vat: str | None = "21") -> TariffTerms:
    """Prices of which each states its tax: per kWh, 1.50 per hour of standing there, 0.50 per session, net."""
    percent = None if vat is None else Decimal(vat)
    components = tuple(
        PriceComponent(dimension=dimension, price=Decimal(price), vat_percent=percent)
        for dimension, price in (
            (TariffDimension.ENERGY, per_kwh),
            (TariffDimension.PARKING_TIME, "1.50"),
            (TariffDimension.FLAT, "0.50"),
        )
    )
    elements = (TariffElement(components=components),)
    return TariffTerms(currency="EUR", elements=elements, tariff_type=TariffType.AD_HOC_PAYMENT)


@dataclass(slots=True)
class Shop:
    """A world that sells at its first EVSE, and a driver's browser in front of it."""

    here: World
    path: str

    async def get(self, path: str | None = None) -> httpx.Response:
        return await self._call("GET", path or self.path)

    async def post(self, path: str, body: dict[str, str] | None = None, **headers: str) -> httpx.Response:
        return await self._call("POST", path, urlencode(body or {}).encode(), headers)

    async def _call(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> httpx.Response:
        answer = await self.here.http.request(method, f"{ORIGIN}{path}", headers=headers or {}, body=body)
        return httpx.Response(answer.status, headers=dict(answer.headers), content=answer.body)

    async def form(self) -> dict[str, str]:
        """Return what the page's form holds, with a card entered."""
        page = await self.get()
        assert page.status_code == 200, page.text
        (sale_id,) = re.findall(r'name="sale_id" value="([0-9a-f]{32})"', page.text)
        return {"sale_id": sale_id, "held_e4": str(HOLDS_E4[0]), "card": SandboxCard.GOOD.value}

    async def buy(self, **changes: str) -> AdHocSaleRecord:
        """Buy, let everything happen, return the sale."""
        form = await self.form() | changes
        answer = await self.post(self.path, form)
        assert answer.status_code == 303, answer.text
        await self.here.settle()
        return await self.sale(form["sale_id"])

    async def sale(self, sale_id: str) -> AdHocSaleRecord:
        (row,) = await self.here.rows(AD_HOC_SALE, sale_id=sale_id)
        assert isinstance(row, AdHocSaleRecord)
        return row

    def url(self, sale: AdHocSaleRecord, rest: str = "") -> str:
        return f"/operations/{CPO}/pay/sale/{sale.sale_id}{rest}"

    async def token(self) -> str:
        """Return the token that the station was told to start."""
        (start,) = [each.start_transaction for each in self.here.gateway.commands if each.start_transaction]
        return start.id_token

    async def payment(self) -> SandboxPayment:
        (row,) = await self.here.rows(PAYMENT)
        assert isinstance(row, SandboxPayment)
        return row


@asynccontextmanager
async def open_shop(terms: TariffTerms | None = None, dsn: str | None = None) -> AsyncIterator[Shop]:
    async with open_for_business(dsn) as here:
        answer = await here.api("PUT", f"/{CPO}/tariffs/ADHOC", terms or gross_terms())
        assert answer.status_code == 200, answer.text
        here.clock.step_by(timedelta(seconds=2))  # versions of a tariff are told apart by their second
        answer = await here.api("POST", f"/{CPO}/ad-hoc/points", {"evse_uid": EVSE})
        assert answer.status_code == 200, answer.text
        yield Shop(here, answer.json()["url"].removeprefix(ORIGIN))


async def test_a_charge_is_bought_watched_stopped_and_paid_to_the_cent() -> None:
    async with open_shop() as shop:
        here = shop.here

        offer = await shop.get()
        sale = await shop.buy()
        card = await shop.token()
        await here.report(await here.started("7", card=card), here.updated("7", at=30, import_wh=3_000))
        watched = await shop.get(shop.url(sale))
        stopped = await shop.post(shop.url(sale, "/stop"))
        await here.until(lambda: _was_stopped(here))
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
        await _audited(here)


async def _audited(here: World) -> None:
    """Every sale is captured, given back or open, and in nobody's CDR; energy is conserved."""
    books = await gather_books(here.ports.units, here.ports.event_log)
    for check in (check_sales(books), check_nobody_else_is_billed(books), check_energy(books), check_holds(books)):
        assert check.differences == (), check
    assert len(books.ad_hoc_payments) + len(books.provider_payments) == len(await here.rows(PAYMENT))
    assert books.provider_payments == []


async def _was_stopped(here: World) -> bool:
    return any(each.stop_transaction for each in here.gateway.commands)


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
        await _audited(shop.here)


async def test_who_never_plugs_in_gets_the_hold_back() -> None:
    async with open_shop() as shop:
        sale = await shop.buy()

        shop.here.clock.step_by(START_WAIT + timedelta(seconds=1))
        await shop.here.operations.ad_hoc_worker.watch()
        await shop.here.settle()

        assert (await shop.sale(sale.sale_id)).state is SaleState.RELEASED
        assert not (await shop.payment()).is_open
        await _audited(shop.here)


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
        await _audited(here)


async def test_a_charge_is_ended_before_it_costs_more_than_is_held() -> None:
    async with open_shop(gross_terms("10")) as shop:
        here = shop.here
        sale = await shop.buy()
        token = await shop.token()

        # 1.5 kWh cost 18.76; three more minutes at 11.04 kW would cost 6.68 beside it, and 25 are held.
        await here.report(await here.started("7", card=token), here.updated("7", at=9, import_wh=2_500))
        await here.until(lambda: _was_stopped(here))
        await here.report(here.ended("7", at=10, import_wh=2_600))

        ended = await shop.sale(sale.sale_id)
        assert ended.state is SaleState.CAPTURED
        assert ended.capture_e4 <= ended.held_e4
        assert ended.beyond_hold_e4 == 0
        await _audited(here)


async def test_what_a_meter_says_wrongly_is_charged_to_nobody() -> None:
    async with open_shop() as shop:
        here = shop.here
        sale = await shop.buy()

        await here.report(await here.started("7", card=await shop.token()), here.ended("7", import_wh=900))

        assert (await shop.sale(sale.sale_id)).state is SaleState.RELEASED
        assert len(await here.quarantine()) == 1
        await _audited(here)


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
