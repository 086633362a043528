"""A world that sells ad hoc at one EVSE, and a driver's browser in front of it."""

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

from emobility.adapters.payments.test_provider import PAYMENT, SandboxCard, SandboxPayment
from emobility.domain.tariff.tariff import PriceComponent, TariffDimension, TariffElement, TariffType
from services.audit.ad_hoc import check_ledger, check_nobody_else_is_billed, check_sales
from services.audit.books import gather_books
from services.audit.energy import check_energy
from services.audit.holds import check_holds
from services.charging_operations.ad_hoc_records import AD_HOC_SALE, AdHocSaleRecord
from services.charging_operations.ad_hoc_sales import HOLDS_E4
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


async def audited(here: World) -> None:
    """Every sale is captured, given back or open, and in nobody's CDR; energy is conserved."""
    books = await gather_books(here.ports.units, here.ports.event_log)
    checks = (check_sales, check_ledger, check_nobody_else_is_billed, check_energy, check_holds)
    for check in (each(books) for each in checks):
        assert check.differences == (), check
    assert len(books.ad_hoc_payments) + len(books.provider_payments) == len(await here.rows(PAYMENT))
    assert books.provider_payments == []


async def was_stopped(here: World) -> bool:
    return any(each.stop_transaction for each in here.gateway.commands)
