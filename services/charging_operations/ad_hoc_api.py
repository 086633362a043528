"""What an operator sees of ad hoc sales: which EVSEs are sold, with the QR code to put there, and each sale."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from fastapi import Request

from emobility.domain.identifiers import PartyId
from emobility.runtime.access import TokenRole
from emobility.runtime.qr_code import qr_svg
from services.charging_operations.ad_hoc_ledger import AD_HOC_ENTRY, EntryKind
from services.charging_operations.ad_hoc_records import (
    AD_HOC_POINT,
    AD_HOC_SALE,
    AdHocPointRecord,
    AdHocSaleRecord,
    SaleChannel,
    SaleState,
)
from services.charging_operations.ad_hoc_retention import AdHocRetention, KeptSale
from services.charging_operations.ad_hoc_sales import AdHocDesk, AdHocPoint
from services.charging_operations.office import short_hash
from services.charging_operations.operator_api import OperatorAPI
from services.charging_operations.routes import FROM_TO, PAGE, Query, Route, RouteTable, page_of, read_body

STATE: Final = Query("state", SaleState, "only in this state")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownPoint:
    """An EVSE that is sold ad hoc: `url` is what its QR code, `qr_svg`, leads to."""

    evse_uid: str
    code: str
    url: str
    qr_svg: str
    opened_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownSale:
    """A sale for the operator, money in ten-thousandths of `currency`. Its id is the driver's: `sale` is its hash."""

    sale: str
    channel: SaleChannel
    state: SaleState
    evse_uid: str
    made_at: datetime
    transaction_id: str | None
    session_id: str | None
    energy_import_wh: int
    currency: str
    held_e4: int
    total_incl_e4: int
    capture_e4: int
    residue_e4: int
    beyond_hold_e4: int
    vat_e4: int
    invoice_number: int | None
    failure: str | None
    refund_e4: int
    refunded_e4: int
    ptp_id: PartyId | None
    terminal_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownEntry:
    """Money that moved, in ten-thousandths of `currency`. `sale`: as in the list of sales."""

    entry: str
    channel: SaleChannel
    kind: EntryKind
    amount_e4: int
    currency: str | None
    sale: str | None
    charging_station_id: str | None
    transaction_id: str | None
    session_id: str | None
    entered_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AdHocAPI:
    """Routes about ad hoc sales; `public_url` is where drivers reach this service."""

    operator: OperatorAPI
    desk: AdHocDesk
    retention: AdHocRetention
    public_url: str

    def mount_on(self, routes: RouteTable) -> None:
        """Add the routes."""
        routes.add(
            "Ad hoc sales",
            [
                Route("POST", "/ad-hoc/points", self.open_point, AdHocPoint, ShownPoint),
                Route("GET", "/ad-hoc/points", self.list_points, None, list[ShownPoint], PAGE),
                Route("GET", "/ad-hoc/sales", self.list_sales, None, list[ShownSale], (*PAGE, STATE)),
                Route("GET", "/ad-hoc/ledger", self.list_entries, None, list[ShownEntry], (*PAGE, *FROM_TO)),
                Route("GET", "/ad-hoc/retention", self.list_kept, None, list[KeptSale], PAGE),
            ],
            writes=TokenRole.OPERATOR,
        )
        routes.add(
            "Ad hoc sales",
            [Route("POST", "/ad-hoc/sales/{sale_id}/erase", self.erase_sale, None, KeptSale)],
            writes=TokenRole.OWNER,
        )

    async def open_point(self, request: Request, party_id: PartyId) -> Any:
        """Sell at an EVSE to drivers without a contract; asked again, it keeps its QR code."""
        asked = await read_body(request, AdHocPoint)
        async with self.desk.office.ports.units.begin() as unit:
            point = await self.desk.open_point(unit, party_id, asked.evse_uid)
            await unit.commit()
        return self._shown(point)

    async def list_points(self, request: Request, party_id: PartyId) -> Any:
        """List the EVSEs that are sold ad hoc."""
        return [self._shown(row) for row in await self.operator.rows(request, party_id, AD_HOC_POINT)]

    async def list_sales(self, request: Request, party_id: PartyId) -> Any:
        """List the sales, the newest first."""
        rows = await self.operator.rows(request, party_id, AD_HOC_SALE, "state", order_by=("-made_at",))
        return [_shown_sale(row) for row in rows]

    async def list_entries(self, request: Request, party_id: PartyId) -> Any:
        """List all money of drivers without a contract, taken and given back, whichever way they paid; newest first."""
        rows = await self.operator.rows(request, party_id, AD_HOC_ENTRY, order_by=("-entered_at",), at="entered_at")
        return [
            ShownEntry(
                entry=short_hash(row.entry_id),
                channel=row.channel,
                kind=row.kind,
                amount_e4=row.amount_e4,
                currency=row.currency,
                sale=None if row.sale_id is None else short_hash(row.sale_id),
                charging_station_id=row.charging_station_id,
                transaction_id=row.transaction_id,
                session_id=row.session_id,
                entered_at=row.entered_at,
            )
            for row in rows
        ]

    async def list_kept(self, request: Request, party_id: PartyId) -> Any:
        """Say of each sale until when its driver's data are kept, and by which law, the oldest first."""
        offset, limit = page_of(request)
        return await self.retention.kept(party_id, offset=offset, limit=limit)

    async def erase_sale(self, request: Request, party_id: PartyId) -> Any:
        """Erase a sale's personal data for whoever bought it; its id stands in the link that the driver got."""
        return await self.retention.erase(party_id, request.path_params["sale_id"])

    def _shown(self, point: AdHocPointRecord) -> ShownPoint:
        url = f"{self.public_url}/{point.party_id}/pay/{point.code}"
        return ShownPoint(
            evse_uid=point.evse_uid, code=point.code, url=url, qr_svg=str(qr_svg(url)), opened_at=point.opened_at
        )


def _shown_sale(sale: AdHocSaleRecord) -> ShownSale:
    return ShownSale(
        sale=short_hash(sale.sale_id),
        channel=sale.channel,
        state=sale.state,
        evse_uid=sale.evse_uid,
        made_at=sale.made_at,
        transaction_id=sale.transaction_id,
        session_id=sale.session_id,
        energy_import_wh=sale.energy_import_wh,
        currency=sale.currency,
        held_e4=sale.held_e4,
        total_incl_e4=sale.total_incl_e4,
        capture_e4=sale.capture_e4,
        residue_e4=sale.residue_e4,
        beyond_hold_e4=sale.beyond_hold_e4,
        vat_e4=sale.vat_e4,
        invoice_number=sale.invoice_number,
        failure=sale.failure,
        refund_e4=sale.refund_e4,
        refunded_e4=sale.refunded_e4,
        ptp_id=sale.ptp_id,
        terminal_id=sale.terminal_id,
    )
