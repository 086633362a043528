"""The receipt part of a bill's page: how far the charge is and, once it is settled, every check and the QR code."""

from __future__ import annotations

from typing import Any, Final

import structlog

from emobility.domain.identifiers import PartyId
from emobility.ports.ports import Ports
from emobility.protocols.cdr_standing import SettlementUnavailable, Stage
from emobility.runtime.qr_code import qr_svg
from services.driver_mobility.receipt_checking import ReceiptChecking, shown_checks
from services.driver_mobility.receipts import BillDocument, NothingToShow, Receipts
from services.driver_mobility.records import BillRecord

STAGES: Final = {
    Stage.UNKNOWN: "it was billed just now and is on its way to the settlement",
    Stage.COLLECTED: "it waits for the end of the period over which the two companies settle",
    Stage.CLOSED: "it is counted in the companies' statement, which waits for their signatures",
    Stage.PROPOSED: "their statement is signed and on its way into the chain",
    Stage.RIPENING: "one company signed their statement, and the other may object for a day or more",
    Stage.CHALLENGED: "one company objects to their statement, and somebody else decides",
    Stage.VOID: "their statement was taken back and is made anew",
    Stage.UNFUNDED: "both companies signed their statement, which is not paid for yet; you owe nothing for that",
}
"""Where a charge is that is not final, for its driver."""

_log = structlog.get_logger(__name__)


class ReceiptLayout:
    """Lays receipts out; `public_url` is where this service is reached from outside, as QR codes say it."""

    def __init__(self, ports: Ports, receipts: Receipts, *, public_url: str) -> None:
        self._receipts = receipts
        self._checking = ReceiptChecking(ports)
        self._public_url = public_url

    async def of_bill(self, bill: BillRecord) -> dict[str, Any]:
        """Return what the page needs to show a bill's documents. No unit may be open. Raises `ChecksBusy`."""
        documents: list[BillDocument] = []
        is_silent = False
        try:
            documents = await self._receipts.documents(bill)
        except SettlementUnavailable as error:
            _log.warning("settlement_not_asked", emsp=bill.party_id.code, reason=str(error))
            is_silent = True
        except NothingToShow:
            pass
        return {
            "documents": [await self._shown(bill.party_id, each) for each in documents],
            "stages": STAGES,
            "is_settlement_silent": is_silent,
        }

    async def _shown(self, emsp_id: PartyId, document: BillDocument) -> dict[str, Any]:
        """Check a document as anybody could."""
        standing, receipt = document.standing, document.receipt
        shown: dict[str, Any] = {
            "name": document.name,
            "is_credit": document.is_credit,
            "stage": standing.stage,
            "checks": [],
        }
        if receipt is None:
            return shown
        link = f"{self._public_url}/{emsp_id}/check/{receipt.fingerprint}"
        return shown | {
            "checks": shown_checks(await self._checking.check(emsp_id, receipt.written)),
            "final_at": standing.final_at,
            "block_number": standing.block_number,
            "fingerprint": receipt.fingerprint,
            "link": link,
            "qr": qr_svg(link),
        }
