"""What a terminal's provider says that it captured, and what its word makes of a sale.

It may come before the charge is over, or never: a sale is settled by the last word that is there when it is priced,
and one that nobody confirmed has an end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from emobility.domain.identifiers import PartyId
from emobility.domain.personal import Sealed
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi import v221
from emobility.protocols.ocpi.v230 import CaptureStatusCode, FinancialAdviceConfirmation
from services.charging_operations.ad_hoc_records import (
    AD_HOC_SALE,
    AdHocSaleRecord,
    SaleState,
    next_invoice_number,
)
from services.charging_operations.office import Office

CONFIRMED_WITHIN: Final = timedelta(days=30)
"""A sale that its terminal's provider has not confirmed by then is not collected; a later word still counts."""

ADVICES_OF_SALE_MAX: Final = 20
"""Words of a provider about one charge: some tries to take the money, not a flood."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdviceRecord:
    """What a provider captured for a sale, with tax; `document` is the whole, for it may name a card."""

    party_id: PartyId
    ptp_id: PartyId
    advice_id: str
    sale_id: str
    status: CaptureStatusCode
    amount_e4: int
    currency: str
    document: Sealed
    content_hash: str
    last_updated: datetime


ADVICE: Final = TableSpec(name="cpo_financial_advice", record=AdviceRecord, key=("party_id", "ptp_id", "advice_id"))


async def advice_of(office: Office, row: AdviceRecord) -> FinancialAdviceConfirmation:
    """Return what a provider said. Raises `SubjectErased`."""
    text = await office.ports.vault.evidence.open(row.document)
    return v221.read(text.encode(), FinancialAdviceConfirmation)


def is_captured(said: FinancialAdviceConfirmation) -> bool:
    """Tell whether any money was taken."""
    return said.capture_status_code is not CaptureStatusCode.FAILED


async def settle_by_last_word(office: Office, unit: UnitOfWork, sale: AdHocSaleRecord) -> AdHocSaleRecord:
    """Enter and return a sale as its provider's words leave it; without a word it goes on waiting.

    Words come in any order, and each try to take the money has its own: what one took, the failure of another does not
    undo. So the newest counts that took something, else the newest.
    """
    of_sale = {"party_id": sale.party_id, "sale_id": sale.sale_id}
    rows = await unit.table(ADVICE).select(of_sale, order_by=("-last_updated",), limit=ADVICES_OF_SALE_MAX)
    if not rows:
        return sale
    last = next((row for row in rows if row.status is not CaptureStatusCode.FAILED), rows[0])
    return await _settle(office, unit, sale, await advice_of(office, last))


async def _settle(
    office: Office, unit: UnitOfWork, sale: AdHocSaleRecord, said: FinancialAdviceConfirmation
) -> AdHocSaleRecord:
    why = None if said.capture_status_code is CaptureStatusCode.SUCCESS else said.capture_status_message or ""
    number = sale.invoice_number
    if is_captured(said) and number is None:
        number = await next_invoice_number(unit, sale.party_id)
    settled = replace(
        sale,
        state=SaleState.CAPTURED if is_captured(said) else SaleState.UNCOLLECTED,
        invoice_number=number,
        failure=None if why is None else f"{said.capture_status_code}: {why}"[:200],
        finished_at=office.now(),
    )
    await unit.table(AD_HOC_SALE).put(settled)
    return settled


async def end_unconfirmed(office: Office, unit: UnitOfWork, seen: AdHocSaleRecord) -> None:
    """End a sale that waited for `CONFIRMED_WITHIN`."""
    sale = await unit.table(AD_HOC_SALE).get_for_update(seen.party_id, seen.sale_id)
    if sale is None or sale.state is not SaleState.CONFIRMING:
        return
    if (await settle_by_last_word(office, unit, sale)).state is SaleState.CONFIRMING:
        failure = "the terminal's provider did not say what it took"
        ended = replace(sale, state=SaleState.UNCOLLECTED, failure=failure, finished_at=office.now())
        await unit.table(AD_HOC_SALE).put(ended)
