"""The page behind an EVSE's QR code: price, payment, the running charge, the receipt. No account, no script, no cookie.

The code in the QR is drawn, so that none leads to another; the form bears an id that was drawn for it, so that sent
twice it buys once. Whoever has that id may watch and stop the charge; it stands in no list that others see.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from emobility.domain.errors import EmobilityError, Unavailable
from emobility.domain.identifiers import PartyId, Role
from emobility.domain.money import Price, decimal_from_e4
from emobility.domain.personal import SubjectErased, SubjectRestricted
from emobility.domain.quantities import kwh
from emobility.domain.tariff.price_sheet import price_sheet
from emobility.domain.tariff.selection import zone_of
from emobility.domain.tax import tax_to_driver
from emobility.ports.ports import Ports
from emobility.runtime.html_pages import HEADERS, templates_in
from emobility.runtime.tries_by_address import TriesByAddress
from services.charging_operations.ad_hoc_receipts import AdHocReceipts
from services.charging_operations.ad_hoc_records import AD_HOC_SALE, OPEN, AdHocSaleRecord, SaleState, invoice_number
from services.charging_operations.ad_hoc_sales import (
    HOLDS_E4,
    SALE_ID_BYTES,
    START_WAIT,
    AdHocDesk,
    NotSoldHere,
    OccupiedNow,
    Purchase,
    price_of,
)
from services.charging_operations.office import NotFound, NotUnderstood
from services.charging_operations.records import CPO
from services.charging_operations.routes import party_of, read_bytes
from services.charging_operations.terminal_advices import ADVICE, advice_of

TEMPLATES: Final = Path(__file__).parent / "templates"
FORM_BYTES_MAX: Final = 4_096
PAGES_MAX: Final = 120
"""Codes that one address may follow in a row before it rests."""
PURCHASES_MAX: Final = 10
"""Forms that one address may send in a row before it rests: nobody tries out cards here."""
CARD_CHARACTERS_MAX: Final = 32
_SALE_ID: Final = re.compile(rf"[0-9a-f]{{{SALE_ID_BYTES * 2}}}", re.ASCII)
_ENVIRONMENT: Final = templates_in(TEMPLATES)
_STATUS: Final = {NotFound: 404, NotSoldHere: 409, OccupiedNow: 409, Unavailable: 503}
_HEADERS: Final = {**HEADERS, "X-Robots-Tag": "noindex, nofollow, noarchive"}
_SAYS: Final = {
    SaleState.HOLDING: "Asking your bank to reserve the amount.",
    SaleState.HELD: "Starting.",
    SaleState.STARTING: "Please plug in now.",
    SaleState.RUNNING: "Charging.",
    SaleState.CAPTURING: "Ended. Taking the sum.",
    SaleState.RELEASING: "Ended. Giving the reserved amount back.",
    SaleState.CONFIRMING: "Ended. The terminal takes the sum.",
    SaleState.CAPTURED: "Ended and paid.",
    SaleState.REFUNDING: "Ended and paid. Giving back what was too much.",
    SaleState.RELEASED: "You pay nothing: the reserved amount was given back.",
    SaleState.DECLINED: "Your bank refused to reserve the amount; nothing was reserved or taken.",
    SaleState.UNCOLLECTED: "Your bank refused the payment; the reserved amount was given back.",
}


class TooMany(EmobilityError):
    """An address asks too often."""


@dataclass(slots=True, kw_only=True)
class AdHocPage:
    """Public routes of all CPOs hosted here."""

    ports: Ports
    desk: AdHocDesk
    _views: TriesByAddress = field(default_factory=lambda: TriesByAddress(PAGES_MAX))
    _purchases: TriesByAddress = field(default_factory=lambda: TriesByAddress(PURCHASES_MAX))

    def mount_on(self, app: FastAPI) -> None:
        """Add the routes."""
        for method, path, shown in (
            ("GET", "/sale/{sale_id}", self._watch),
            ("POST", "/sale/{sale_id}/stop", self._stop),
            ("GET", "/sale/{sale_id}/receipt", self._receipt),
            ("GET", "/sale/{sale_id}/receipt.json", self._receipt_file),
            ("GET", "/sale/{sale_id}/meter-values", self._meter_values),
            ("GET", "/invoice/{ptp}/{reference}", self._invoice),
            ("GET", "/{code}", self._offer),
            ("POST", "/{code}", self._buy),
        ):
            app.add_api_route(f"/{{party}}/pay{path}", self._served(shown), methods=[method], include_in_schema=False)

    def _served(self, shown: Callable[[Request, PartyId], Awaitable[Response]]) -> Callable[..., Awaitable[Response]]:
        """Serve a route; errors become pages that say what a driver can do with them."""

        async def serve(request: Request) -> Response:
            try:
                return await shown(request, party_of(request.path_params["party"]))
            except TooMany as error:
                return _message(str(error), 429)
            except EmobilityError as error:
                status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 422)
                return _message("There is nothing here" if status == 404 else str(error), status)

        return serve

    async def _offer(self, request: Request, party_id: PartyId) -> Response:
        self._count(self._views, request, party_id)
        async with self.ports.units.begin() as unit:
            offer = await self.desk.offer(unit, party_id, request.path_params["code"])
        tariff, location = offer.version.tariff, offer.known.location
        lines = price_sheet(tariff, time_zone=location.time_zone)
        values = {
            "seller": await self._seller(party_id),
            "action": f"{_base(request, party_id)}/{request.path_params['code']}",
            "sale_id": self.ports.randomness.token_bytes(SALE_ID_BYTES).hex(),
            "name": location.name,
            "address": f"{location.address}, {location.postal_code} {location.city}",
            "emi3_id": offer.known.evse.emi3_id,
            "sheet": [(section, [line.text for line in group]) for section, group in groupby(lines, _section)],
            "currency": tariff.currency,
            "holds": [(held_e4, _euros(held_e4)) for held_e4 in HOLDS_E4],
            "minutes": START_WAIT.seconds // 60,
        }
        return _page("ad_hoc_offer.html", values)

    async def _buy(self, request: Request, party_id: PartyId) -> Response:
        form = await _form_of(request)
        sale_id = form.get("sale_id", "")
        if not _SALE_ID.fullmatch(sale_id):
            raise NotUnderstood("this form is not one of ours")
        held, card = form.get("held_e4", ""), form.get("card", "").strip()
        if not card or len(card) > CARD_CHARACTERS_MAX or not (held.isascii() and held.isdigit() and len(held) < 10):
            raise NotUnderstood("please choose an amount and enter your card")
        self._count(self._purchases, request, party_id)
        purchase = Purchase(code=request.path_params["code"], sale_id=sale_id, held_e4=int(held), card=card)
        sale = await self.desk.buy(party_id, purchase, correlation_id=self.ports.randomness.uuid())
        return _see(request, sale)

    async def _watch(self, request: Request, party_id: PartyId) -> Response:
        sale = await self._sale(request, party_id)
        values = {
            "seller": await self._seller(party_id),
            "base": f"{_base(request, party_id)}/sale/{sale.sale_id}",
            "sale": sale,
            "says": _SAYS[sale.state],
            "is_moving": sale.state in OPEN,
            "may_stop": sale.state in (SaleState.STARTING, SaleState.RUNNING) and sale.stop_asked_at is None,
            "kwh": kwh(sale.energy_import_wh),
            "cost": decimal_from_e4(sale.total_incl_e4),
            "held": _euros(sale.held_e4),
        }
        return _page("ad_hoc_charge.html", values)

    async def _stop(self, request: Request, party_id: PartyId) -> Response:
        _refuse_foreign(request)
        sale = await self._sale(request, party_id)
        return _see(request, await self.desk.ask_stop(party_id, sale.sale_id))

    async def _invoice(self, request: Request, party_id: PartyId) -> Response:
        """What a terminal's provider leads its driver to: `invoice_base_url` and the authorization reference."""
        self._count(self._views, request, party_id)
        ptp_id, reference = party_of(request.path_params["ptp"]), request.path_params["reference"]
        where = {"party_id": party_id, "ptp_id": ptp_id, "authorization_reference": reference}
        async with self.ports.units.begin() as unit:
            found = await unit.table(AD_HOC_SALE).select(where, limit=1)
        if not found or not found[0].is_invoiced_here:
            raise NotFound("no such invoice")
        await self._refuse_erased(found[0])
        return await self._shown_receipt(request, found[0])

    async def _receipt(self, request: Request, party_id: PartyId) -> Response:
        return await self._shown_receipt(request, await self._sale(request, party_id))

    async def _receipt_file(self, request: Request, party_id: PartyId) -> Response:
        """The receipt for machines, signed: `wattroam verify` checks it."""
        sale = await self._sale(request, party_id)
        if sale.invoice_number is None:
            raise NotFound("no receipt yet")
        written = await AdHocReceipts(ports=self.ports).written(sale, seller_name=await self._seller(party_id))
        return Response(written, media_type="application/json", headers=dict(_HEADERS))

    async def _shown_receipt(self, request: Request, sale: AdHocSaleRecord) -> Response:
        party_id = sale.party_id
        if sale.invoice_number is None:
            raise NotFound("no receipt yet")
        assert sale.ended_at is not None
        priced = price_of(sale, sale.periods, sale.ended_at)
        parts = (
            ("Energy", priced.energy),
            ("Time while charging", priced.time),
            ("Time plugged in without charging", priced.parking),
            ("Starting fee", priced.fixed),
        )
        tax = tax_to_driver(
            seller_role=Role.CPO,
            seller_country=party_id.country_code,
            country=sale.location.country,
            on=sale.ended_at.astimezone(zone_of(sale.location.time_zone)).date(),
        )
        values = {
            "seller": await self._seller(party_id),
            "base": f"{_base(request, party_id)}/sale/{sale.sale_id}",
            "sale": sale,
            "number": invoice_number(sale),
            "parts": [(what, _gross(price)) for what, price in parts if price is not None],
            "kwh": kwh(sale.energy_import_wh),
            "exact": decimal_from_e4(sale.total_incl_e4),
            "residue": decimal_from_e4(-sale.residue_e4),
            "beyond": decimal_from_e4(-sale.beyond_hold_e4),
            "total": _euros(sale.capture_e4),
            "net": decimal_from_e4(sale.capture_e4 - sale.vat_e4),
            "vat": decimal_from_e4(sale.vat_e4),
            "percent": tax.percent,
            "law": tax.legal_reference,
            "given_back": _euros(sale.refund_e4)
            if sale.refund_e4 and sale.state is not SaleState.UNCOLLECTED
            else None,
            "first": _euros(sale.capture_e4 + sale.refund_e4),
            "eft": await self._eft_data(sale),
        }
        return _page("ad_hoc_receipt.html", values)

    async def _eft_data(self, sale: AdHocSaleRecord) -> list[str]:
        """What a receipt of a terminal must show of the card payment."""
        async with self.ports.units.begin() as unit:
            rows = await unit.table(ADVICE).select({"party_id": sale.party_id, "sale_id": sale.sale_id})
        return [line for row in rows for line in (await advice_of(self.desk.office, row)).eft_data]

    async def _meter_values(self, request: Request, party_id: PartyId) -> Response:
        """The signed records, byte for byte as the meter wrote them, one a line."""
        sale = await self._sale(request, party_id)
        if sale.signed_data is None:
            raise NotFound("no signed meter values")
        texts = [await self.ports.vault.open(record) for record in sale.signed_data.records]
        return PlainTextResponse("\n".join(texts), headers=dict(_HEADERS))

    async def _sale(self, request: Request, party_id: PartyId) -> AdHocSaleRecord:
        sale = await self.desk.sale(party_id, request.path_params["sale_id"])
        await self._refuse_erased(sale)
        return sale

    async def _refuse_erased(self, sale: AdHocSaleRecord) -> None:
        """Raises `NotFound`: its driver was erased, whatever the law makes the CPO keep."""
        try:
            await self.ports.vault.open(sale.uid)
        except (SubjectErased, SubjectRestricted) as error:
            raise NotFound("no such sale") from error

    async def _seller(self, party_id: PartyId) -> str:
        async with self.ports.units.begin() as unit:
            cpo = await unit.table(CPO).get(party_id)
        if cpo is None:
            raise NotFound("no such seller")
        return cpo.name

    def _count(self, tries: TriesByAddress, request: Request, party_id: PartyId) -> None:
        address = "" if request.client is None else request.client.host
        if not tries.may_try(party_id, "ad hoc", address, now=self.ports.clock.now()):
            raise TooMany("This was asked too often from where you are. Please try again in a few minutes.")


async def _form_of(request: Request) -> dict[str, str]:
    """Read a form of ours. Raises `NotUnderstood`, and as `read_bytes` does."""
    _refuse_foreign(request)
    written = await read_bytes(request, FORM_BYTES_MAX)
    try:
        fields = parse_qs(written.decode("ascii"), max_num_fields=10)
    except ValueError as error:
        raise NotUnderstood("this form is not one of ours") from error
    return {name: values[0] for name, values in fields.items()}


def _refuse_foreign(request: Request) -> None:
    """A browser says where a form comes from; what comes from another site buys and stops nothing."""
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise NotUnderstood("this form is not one of ours")


def _base(request: Request, party_id: PartyId) -> str:
    return f"{request.scope.get('root_path', '')}/{party_id}/pay"


def _see(request: Request, sale: AdHocSaleRecord) -> Response:
    url = f"{_base(request, sale.party_id)}/sale/{sale.sale_id}"
    return RedirectResponse(url, status_code=303, headers=dict(_HEADERS))


def _page(template: str, values: dict[str, Any], status: int = 200) -> HTMLResponse:
    html = _ENVIRONMENT.get_template(template).render({"is_moving": False, **values})
    return HTMLResponse(html, status_code=status, headers=dict(_HEADERS))


def _message(text: str, status: int) -> HTMLResponse:
    return _page("ad_hoc_message.html", {"seller": "Charging", "text": text[:1].upper() + text[1:]}, status)


def _section(line: Any) -> str:
    return str(line.section)


def _gross(price: Price) -> Any:
    return decimal_from_e4(price.excl_e4 if price.incl_e4 is None else price.incl_e4)


def _euros(amount_e4: int) -> str:
    """Write whole cents."""
    return f"{decimal_from_e4(amount_e4):.2f}"
