"""The live page of an installation on one machine: what charges now, what was billed and paid, where to look further.

It is for whoever runs a demo or one machine, needs no token and therefore shows nothing about a person and no wholesale
terms. In production it is not served at all (`services.embedded.business.build`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, Response

from emobility.domain.charging_station import EVSEStatus
from emobility.domain.identifiers import PartyId
from emobility.domain.money import decimal_from_e4
from emobility.domain.quantities import kwh
from emobility.domain.retail_account import RetailAccount
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from emobility.runtime.html_pages import templates_in
from services.audit.rows import all_rows
from services.charging_operations import records as cpo
from services.driver_mobility import records as emsp
from services.navigation.records import LOCATION

REFRESH_S: Final = 5
"""How often a browser asks again; no figure is read more often, however many ask."""
RUNNING_MAX: Final = 25
"""Most charges the page lists."""
TEMPLATES: Final = Path(__file__).parent / "templates"
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

_ENVIRONMENT: Final = templates_in(TEMPLATES)


class LivePage:
    """Serves the page at `/`, from rows of all services of the process."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._html = ""
        self._read_at_s: float | None = None

    def mount_on(self, app: FastAPI) -> None:
        """Add the routes."""
        app.add_api_route("/", self._show, methods=["GET"])
        app.add_api_route("/live.css", self._style, methods=["GET"])

    async def _show(self) -> Response:
        now_s = self._ports.timer.monotonic_s()
        if self._read_at_s is None or now_s - self._read_at_s >= REFRESH_S:
            self._read_at_s = now_s
            async with self._ports.units.begin() as unit:
                values = await self._values(unit)
            self._html = _ENVIRONMENT.get_template("live.html").render(values)
        return HTMLResponse(self._html, headers=dict(HEADERS))

    async def _style(self) -> Response:
        return Response((TEMPLATES / "live.css").read_bytes(), media_type="text/css", headers=dict(HEADERS))

    async def _values(self, unit: UnitOfWork) -> dict[str, Any]:
        is_running = {"state": cpo.TransactionState.OPEN}
        running = await unit.table(cpo.TRANSACTION).select(is_running, order_by=("first_at",), limit=RUNNING_MAX)
        running_count = await unit.table(cpo.TRANSACTION).count(is_running)
        evses = unit.table(cpo.EVSES)
        return {
            "refresh_s": REFRESH_S,
            "now": f"{self._ports.clock.now():%Y-%m-%d %H:%M:%S}",
            "running_count": running_count,
            "running": [_running(each) for each in running],
            "figures": [
                ("charging now", running_count),
                ("sessions", await unit.table(cpo.SESSION).count()),
                ("CDRs and credits", await unit.table(cpo.CDRS).count()),
                ("quarantined", await unit.table(cpo.QUARANTINE).count({"state": cpo.QuarantineState.OPEN})),
                ("open disputes", await unit.table(emsp.DISPUTE).count({"resolution": None})),
                ("EVSEs free", await evses.count({"status": EVSEStatus.AVAILABLE})),
                ("EVSEs in all", await evses.count()),
            ],
            "msps": _msps(await all_rows(unit, emsp.MSP), await all_rows(unit, emsp.ACCOUNT)),
            "nsps": await _nsps(unit),
        }


def _running(transaction: cpo.TransactionRecord) -> dict[str, str]:
    return {
        "cpo": transaction.party_id.code,
        "station": transaction.charging_station_id,
        "evse": "?" if transaction.ocpp_evse_id is None else str(transaction.ocpp_evse_id),
        "since": f"{transaction.first_at:%m-%d %H:%M}",
        "kwh": f"{kwh(transaction.metered_import_wh):.3f}",
    }


def _msps(hosted: Iterable[emsp.HostedMSP], accounts: Iterable[RetailAccount]) -> list[dict[str, str]]:
    """Add accounts up per MSP and currency; an MSP without any still has its page."""
    sums: dict[PartyId, dict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0, 0]))
    for account in accounts:
        amounts = (account.billed_e4 - account.credited_e4, account.paid_e4, account.outstanding_e4)
        known = sums[account.party_id][account.currency]
        known[:] = [total + amount for total, amount in zip(known, amounts, strict=True)]

    def told(party_id: PartyId, which: int) -> str:
        by_currency = sorted(sums[party_id].items())
        return ", ".join(f"{decimal_from_e4(totals[which]):,.4f} {currency}" for currency, totals in by_currency) or "-"

    return [
        {
            "party": each.party_id.code,
            "name": each.name,
            "billed": told(each.party_id, 0),
            "paid": told(each.party_id, 1),
            "outstanding": told(each.party_id, 2),
        }
        for each in hosted
    ]


async def _nsps(unit: UnitOfWork) -> list[str]:
    """Return who publishes locations here."""
    return sorted({row.nsp_id.code for row in await unit.table(LOCATION).select()})
