"""The driver's page: server-rendered, no script. Find a station, see the full price, start, watch, stop, receipt.

Forms that change something carry the login's CSRF token; the cookie is HttpOnly and SameSite=Strict; what belongs to
another driver answers 404.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import groupby
from typing import Any, Final
from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response

from emobility.domain.errors import EmobilityError, RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.domain.money import decimal_from_e4
from emobility.domain.quantities import kwh
from emobility.domain.tariff.price_sheet import price_sheet
from emobility.ports.ports import Ports
from emobility.runtime.html_pages import HEADERS
from services.driver_mobility.api import party_of, status_of
from services.driver_mobility.driving import Charge, Driving
from services.driver_mobility.ledger import statements_of
from services.driver_mobility.logins import LIFETIME, Logins, LoginsBusy, WrongLogin, is_csrf_token
from services.driver_mobility.page_rendering import TEMPLATES, file_answer, render
from services.driver_mobility.quoting import ASSUMED_ENERGY_WH, ENERGY_WH_MAX, UnknownQuote, Wish
from services.driver_mobility.receipt_layout import ReceiptLayout
from services.driver_mobility.receipts import CREDIT_SUFFIX, Receipts
from services.driver_mobility.records import MSP, HostedMSP, Login, QuoteRecord
from services.driver_mobility.showing import shown_charge, shown_receipt, shown_statement
from services.driver_mobility.station_search import StationSearch

COOKIE: Final = "wattroam_driver"
MOVING: Final = frozenset({"STARTING", "RUNNING", "ENDED"})
"""States in which a page that shows a charge fetches itself again."""
_PLACE: Final = ("cpo_id", "location_id", "evse_uid")


class NotAForm(RuleBroken):
    """A field is missing, the CSRF token is wrong, or the form comes from another site."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A request of a driver who is logged in."""

    request: Request
    msp: HostedMSP
    login: Login
    base: str

    def values(self, **more: Any) -> dict[str, Any]:
        """Return what every page needs, and more."""
        return {
            "seller": self.msp.name,
            "base": self.base,
            "style_url": f"{self.base}/me/style.css",
            "driver_id": self.login.driver_id,
            "csrf": self.login.csrf_token,
            **more,
        }


Shown = Callable[[Visit], Awaitable[Response]]


class Page:
    """Routes of the driver's page for all MSPs hosted here."""

    def __init__(
        self, ports: Ports, driving: Driving, search: StationSearch, receipts: Receipts, *, public_url: str
    ) -> None:
        self._ports = ports
        self._driving = driving
        self._search = search
        self._receipts = receipts
        self._layout = ReceiptLayout(ports, receipts, public_url=public_url)
        self._logins = Logins(ports)
        self._is_https = public_url.startswith("https://")

    def mount_on(self, app: FastAPI) -> None:
        """Add the routes."""
        app.add_api_route("/{party}/", self._home, methods=["GET"])
        app.add_api_route("/{party}/me/style.css", self._style, methods=["GET"])
        app.add_api_route("/{party}/me/login", self._log_in, methods=["POST"])
        for method, path, shown in (
            ("POST", "/logout", self._log_out),
            ("GET", "/stations", self._stations),
            ("GET", "/price", self._price),
            ("POST", "/start", self._start),
            ("POST", "/stop", self._stop),
            ("GET", "/charges", self._charges),
            ("GET", "/charges/{quote_id}", self._charge),
            ("GET", "/receipts/{name}.json", self._receipt_file),
            ("GET", "/receipts/{bill_id}", self._receipt),
            ("GET", "/account", self._account),
        ):
            app.add_api_route(f"/{{party}}/me{path}", self._for_driver(shown), methods=[method])

    # Who is there

    def _for_driver(self, shown: Shown) -> Callable[[Request], Awaitable[Response]]:
        """Serve a route to a driver who is logged in; others are led to the login; errors become pages."""

        async def serve(request: Request) -> Response:
            msp = await msp_of(request, self._ports)
            base = base_of(request, msp.party_id)
            login = await self._logins.find(msp.party_id, request.cookies.get(COOKIE))
            if login is None:
                return RedirectResponse(f"{base}/", status_code=303, headers=dict(HEADERS))
            visit = Visit(request=request, msp=msp, login=login, base=base)
            try:
                if request.method == "POST":
                    await _refuse_forged(visit)
                return await shown(visit)
            except EmobilityError as error:
                return _error_page(visit, error)

        return serve

    async def _home(self, request: Request) -> Response:
        msp = await msp_of(request, self._ports)
        base = base_of(request, msp.party_id)
        if await self._logins.find(msp.party_id, request.cookies.get(COOKIE)) is not None:
            return RedirectResponse(f"{base}/me/stations", status_code=303, headers=dict(HEADERS))
        return _login_page(msp, base)

    async def _style(self, _: Request) -> Response:
        css = (TEMPLATES / "style.css").read_bytes()
        return Response(css, media_type="text/css", headers={"Cache-Control": "max-age=3600"})

    async def _log_in(self, request: Request) -> Response:
        msp = await msp_of(request, self._ports)
        base = base_of(request, msp.party_id)
        form = await request.form()
        if not _is_same_origin(request):
            return _login_page(msp, base, problem="Please log in from this page.", status_code=403)
        driver_id, password = str(form.get("driver_id", "")), str(form.get("password", ""))
        address = "" if request.client is None else request.client.host
        try:
            cookie = await self._logins.open(msp.party_id, driver_id, password, address=address)
        except LoginsBusy:
            return _login_page(msp, base, problem="Too many log in just now. Please try again.", status_code=503)
        except WrongLogin:
            problem = "Driver number and password do not belong together, or there were too many tries."
            return _login_page(msp, base, problem=problem, status_code=401)
        answer = RedirectResponse(f"{base}/me/stations", status_code=303, headers=dict(HEADERS))
        answer.set_cookie(
            COOKIE,
            cookie,
            max_age=int(LIFETIME.total_seconds()),
            path=f"{base}/",
            httponly=True,
            samesite="strict",
            secure=self._is_https,
        )
        return answer

    async def _log_out(self, visit: Visit) -> Response:
        await self._logins.end(visit.login)
        answer = RedirectResponse(f"{visit.base}/", status_code=303, headers=dict(HEADERS))
        answer.delete_cookie(COOKIE, path=f"{visit.base}/", httponly=True, samesite="strict", secure=self._is_https)
        return answer

    # Find and price

    async def _stations(self, visit: Visit) -> Response:
        text = visit.request.query_params.get("search", "")
        nsp_id = visit.msp.nsp_id
        stations = [] if nsp_id is None else await self._search.find(nsp_id, text)
        return render("stations.html", visit.values(stations=stations, search=text))

    async def _price(self, visit: Visit) -> Response:
        asked = visit.request.query_params
        place = {name: asked.get(name, "") for name in _PLACE}
        energy_wh = _energy_wh(asked.get("energy_kwh"))
        record = await self._driving.quote(
            visit.msp.party_id,
            visit.login.driver_id,
            cpo_id=party_of(place["cpo_id"]),
            location_id=place["location_id"],
            evse_uid=place["evse_uid"] or None,
            connector_id=None,
            wish=Wish(energy_wh=energy_wh),
        )
        values = visit.values(
            quote=_priced(record), sheet=_sheet(record), place=place, energy_kwh=f"{kwh(energy_wh).normalize():f}"
        )
        return render("price.html", values)

    # Start, watch, stop

    async def _start(self, visit: Visit) -> Response:
        quote_id = str((await visit.request.form()).get("quote_id", ""))
        correlation_id = self._ports.randomness.uuid()
        await self._driving.start(visit.msp.party_id, visit.login.driver_id, quote_id, correlation_id=correlation_id)
        return _see(visit, f"/me/charges/{quote_id}")

    async def _stop(self, visit: Visit) -> Response:
        quote_id = str((await visit.request.form()).get("quote_id", ""))
        charge = await self._driving.charge(visit.msp.party_id, visit.login.driver_id, quote_id)
        if charge.session is None:
            raise UnknownQuote(quote_id)
        await self._driving.stop(
            visit.msp.party_id,
            visit.login.driver_id,
            charge.session.session_id,
            correlation_id=self._ports.randomness.uuid(),
        )
        return _see(visit, f"/me/charges/{quote_id}")

    async def _charges(self, visit: Visit) -> Response:
        charges = await self._driving.charges(visit.msp.party_id, visit.login.driver_id)
        return render("charges.html", visit.values(charges=[_charge_values(charge) for charge in charges]))

    async def _charge(self, visit: Visit) -> Response:
        quote_id = visit.request.path_params["quote_id"]
        charge = await self._driving.charge(visit.msp.party_id, visit.login.driver_id, quote_id)
        return render("charge.html", visit.values(charge=_charge_values(charge)))

    # Money

    async def _receipt(self, visit: Visit) -> Response:
        bill_id = visit.request.path_params["bill_id"]
        bill, quote = await self._driving.bill(visit.msp.party_id, visit.login.driver_id, bill_id)
        shown = shown_receipt(bill, quote, seller=visit.msp.name)
        return render("receipt.html", visit.values(receipt=shown, **await self._layout.of_bill(bill)))

    async def _receipt_file(self, visit: Visit) -> Response:
        name = visit.request.path_params["name"]
        bill_id = name.removesuffix(CREDIT_SUFFIX)
        bill, _ = await self._driving.bill(visit.msp.party_id, visit.login.driver_id, bill_id)
        return file_answer(await self._receipts.file(bill, is_credit=bill_id != name))

    async def _account(self, visit: Visit) -> Response:
        async with self._ports.units.begin() as unit:
            statements = await statements_of(unit, visit.msp.party_id, visit.login.driver_id)
        accounts = [
            {
                **shown_statement(statement),
                "billed": decimal_from_e4(statement.billed_e4),
                "paid": decimal_from_e4(statement.account.paid_e4),
                "outstanding": decimal_from_e4(statement.account.outstanding_e4),
                "lines": [
                    {
                        "at": line.at,
                        "kind": line.kind,
                        "reference": line.reference,
                        "amount": decimal_from_e4(line.amount_e4),
                    }
                    for line in statement.lines
                ],
            }
            for statement in statements
        ]
        return render("account.html", visit.values(accounts=accounts))


async def msp_of(request: Request, ports: Ports) -> HostedMSP:
    """Return the MSP that a path names. Raises `UnknownQuote` for one that is not hosted here."""
    emsp_id = party_of(request.path_params["party"])
    async with ports.units.begin() as unit:
        msp = await unit.table(MSP).get(emsp_id)
    if msp is None:
        raise UnknownQuote(f"{emsp_id} is not hosted here")
    return msp


def base_of(request: Request, emsp_id: PartyId) -> str:
    """Return the path below which this MSP's routes are reached."""
    return f"{request.scope.get('root_path', '')}/{emsp_id}"


def _see(visit: Visit, path: str) -> Response:
    return RedirectResponse(f"{visit.base}{path}", status_code=303, headers=dict(HEADERS))


def _login_page(msp: HostedMSP, base: str, *, problem: str | None = None, status_code: int = 200) -> Response:
    values = {"seller": msp.name, "base": base, "style_url": f"{base}/me/style.css", "problem": problem}
    return render("login.html", values, status_code=status_code)


async def _refuse_forged(visit: Visit) -> None:
    """Raise `NotAForm` unless the form was made by a page of this login."""
    form = await visit.request.form()
    if not _is_same_origin(visit.request) or not is_csrf_token(visit.login, str(form.get("csrf", ""))):
        raise NotAForm("the form was not made for you by this page")


def _is_same_origin(request: Request) -> bool:
    """A browser says where a form comes from; without a word the CSRF token alone decides."""
    origin = request.headers.get("origin")
    if origin is None or origin == "null":
        return origin is None
    return urlsplit(origin).netloc == request.headers.get("host")


def _error_page(visit: Visit, error: EmobilityError) -> Response:
    status_code = 403 if isinstance(error, NotAForm) else status_of(error)
    heading = "There is nothing here" if status_code == 404 else "That did not work"
    text = "We can't find what you asked for." if status_code == 404 else f"{_sentence(error)}."
    return render("message.html", visit.values(heading=heading, text=text), status_code=status_code)


def _sentence(error: EmobilityError) -> str:
    return str(error)[:1].upper() + str(error)[1:]


def _energy_wh(text: str | None) -> int:
    """Read kWh as a driver types them; what is no number is the usual assumption."""
    if not text:
        return ASSUMED_ENERGY_WH
    try:
        wanted = Decimal(text.strip().replace(",", ".")) * 1000
    except InvalidOperation:
        return ASSUMED_ENERGY_WH
    if not wanted.is_finite() or not 1 <= wanted <= ENERGY_WH_MAX:
        return ASSUMED_ENERGY_WH
    return int(wanted)


def _priced(record: QuoteRecord) -> dict[str, Any]:
    quote = record.quote
    estimate = quote.estimate
    return {
        "quote_id": quote.quote_id,
        "evse_uid": quote.evse_uid,
        "valid_until": quote.valid_until,
        "currency": quote.tariff.currency,
        "estimate": estimate
        and {
            "kwh": f"{kwh(estimate.energy_wh).normalize():f}",
            "minutes": -(-(estimate.charging_s + estimate.parking_s) // 60),
            "total": decimal_from_e4(estimate.gross_e4),
        },
    }


def _sheet(record: QuoteRecord) -> list[tuple[str, list[str]]]:
    lines = price_sheet(record.quote.tariff, time_zone=record.quote.time_zone)
    return [(section, [line.text for line in group]) for section, group in groupby(lines, lambda line: line.section)]


def _charge_values(charge: Charge) -> dict[str, Any]:
    shown = shown_charge(charge)
    cost_e4 = shown["running_cost_e4"] if charge.bill is None else charge.bill.total_incl_e4
    return {
        **shown,
        "kwh": kwh(shown["energy_wh"]),
        "cost": decimal_from_e4(cost_e4),
        "is_moving": shown["state"] in MOVING,
    }
