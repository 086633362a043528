"""Receipts as documents, with all that proves them: for their sender and receiver by OCPI, for the operator by admin.

`GET {hub}/ocpi/2.2.1/wattroam-receipts/sender/{correlation_id}` answers to whom a message was sent, or by whom, and to
nobody else. What a document holds and how it is checked: docs/how-to/verify-a-message.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from fastapi import APIRouter, Depends
from starlette.responses import Response

from emobility.domain.batch.trees import HashTree, Proof
from emobility.domain.delivery_receipt import DeliveryReceipt, day_tree, receipts_tree, start_of
from emobility.domain.identifiers import PartyId
from emobility.ports.unit_of_work import UnitOfWork, Units
from emobility.protocols.ocpi.message_signatures import KeyName
from emobility.protocols.ocpi.party_keys import EVERYBODY, PARTY_KEY
from emobility.protocols.ocpi.server import PAGE_OBJECTS_MAX, Interface, OCPICall, Reply
from emobility.protocols.ocpi.v221 import InterfaceRole, write
from emobility.runtime.access import Access, require_internal
from roaming_hub.receipt_records import RECEIPT, RECEIPT_BATCH, RECEIPT_DAY, ReceiptBatchRow, ReceiptDay, ReceiptRow
from roaming_hub.receipts import batches_between

RECEIPTS_MODULE: Final = "wattroam-receipts"
ONE_DAY: Final = timedelta(days=1)
DAY_TREES_KEPT: Final = 4
"""Trees of closed days kept at hand; a busy day has tens of thousands of batches."""


class ReceiptDocuments:
    """Puts documents together."""

    def __init__(self, units: Units, hub: PartyId) -> None:
        self._units = units
        self._hub = hub
        self._day_trees: dict[bytes, HashTree] = {}

    def interface(self) -> Interface:
        """Return the module that senders and receivers ask."""
        module = Interface(RECEIPTS_MODULE, InterfaceRole.SENDER)

        @module.route("GET", "/{correlation_id}")
        async def receipts(call: OCPICall) -> Reply:
            page = call.page()
            found = await self.of_message(call.path["correlation_id"], concerning=call.caller)
            some = found[page.offset : page.offset + page.limit]
            return call.paged(await self.documents(some), page=page, total=len(found))

        return module

    async def of_message(self, correlation_id: str, *, concerning: PartyId | None) -> list[ReceiptRow]:
        """Return the receipts of a message, oldest first; None: whomever they concern."""
        sides = ({},) if concerning is None else ({"from_party": concerning}, {"to_party": concerning})
        found: dict[str, ReceiptRow] = {}
        async with self._units.begin() as unit:
            for side in sides:
                rows = await unit.table(RECEIPT).select({"correlation_id": correlation_id, **side})
                found |= {row.receipt_id: row for row in rows}
        return sorted(found.values(), key=lambda row: (row.at, row.receipt_id))

    async def documents(self, rows: Sequence[ReceiptRow]) -> list[dict[str, Any]]:
        """Return receipts with their proofs, as far as they are bound."""
        numbers = sorted({row.batch_number for row in rows if row.batch_number is not None})
        made = {}
        async with self._units.begin() as unit:
            for number in numbers:
                made[number] = await self._bound(unit, number)
        return [self._document(row, made) for row in rows]

    async def _bound(self, unit: UnitOfWork, number: int) -> tuple[HashTree, dict[str, Any]]:
        """Return a batch's tree, and what binds the batch."""
        batch = await unit.table(RECEIPT_BATCH).get(self._hub, number)
        assert batch is not None, f"batch {number} is gone and its receipts are not"
        rows = await unit.table(RECEIPT).select({"batch_number": number}, order_by=("place",))
        key = await unit.table(PARTY_KEY).get(EVERYBODY, self._hub, batch.key_id)
        assert key is not None, f"key {batch.key_id} of {self._hub} is gone"
        day = await unit.table(RECEIPT_DAY).get(self._hub, start_of(batch.closed_at.date()))
        binding = {
            "batch": {
                "number": batch.number,
                "previous": batch.previous.hex(),
                "root": batch.root.hex(),
                "receipts": batch.count,
                "closed_at": batch.closed_at,
                "key": str(KeyName(party_id=self._hub, key_id=batch.key_id)),
                "public_key": key.public_key.hex(),
                "signature": batch.signature.hex(),
            },
            "day": None if day is None else await self._day(unit, day, batch),
        }
        return receipts_tree([row.receipt() for row in rows]), binding

    async def _day(self, unit: UnitOfWork, day: ReceiptDay, batch: ReceiptBatchRow) -> dict[str, Any]:
        tree = self._day_trees.get(day.root)
        if tree is None:
            batches = await batches_between(unit, self._hub, day.starts_at, day.starts_at + ONE_DAY)
            tree = day_tree([each.batch() for each in batches])
            while len(self._day_trees) >= DAY_TREES_KEPT:
                self._day_trees.pop(next(iter(self._day_trees)))
            self._day_trees[day.root] = tree
        anchor = None
        if day.chain_id is not None and day.contract is not None and day.transaction is not None:
            anchor = {
                "chain_id": day.chain_id,
                "contract": day.contract.hex(),
                "transaction": day.transaction.hex(),
                "anchored_at": day.anchored_at,
            }
        return {
            "starts_at": day.starts_at,
            "root": day.root.hex(),
            "proof": _proof(tree.proof(batch.number - day.first_number)),
            "anchor": anchor,
        }

    @staticmethod
    def _document(row: ReceiptRow, made: dict[int, tuple[HashTree, dict[str, Any]]]) -> dict[str, Any]:
        receipt = row.receipt()
        document = {"receipt": _written(receipt), "claim": receipt.claim.value, "batch": None, "day": None}
        if row.batch_number is None or row.place is None:
            return document
        tree, binding = made[row.batch_number]
        return {**document, **binding, "proof": _proof(tree.proof(row.place))}


def receipts_router(documents: ReceiptDocuments, access: Access) -> APIRouter:
    """Return the operator's route: the receipts of a message, whomever they concern."""
    router = APIRouter(dependencies=[Depends(require_internal(access))])

    @router.get("/admin/receipts/{correlation_id}")
    async def receipts(correlation_id: str, offset: int = 0, limit: int = PAGE_OBJECTS_MAX) -> Response:
        found = await documents.of_message(correlation_id, concerning=None)
        first, last = max(offset, 0), max(offset, 0) + min(max(limit, 1), PAGE_OBJECTS_MAX)
        return Response(write(await documents.documents(found[first:last])), media_type="application/json")

    return router


def _written(receipt: DeliveryReceipt) -> dict[str, Any]:
    counter = receipt.countersignature
    return {
        "receipt_id": receipt.receipt_id,
        "hub": receipt.hub.code,
        "correlation_id": receipt.correlation_id,
        "from_party": receipt.from_party.code,
        "to_party": receipt.to_party.code,
        "module": receipt.module,
        "method": receipt.method,
        "sent_sha256": receipt.sent_sha256.hex(),
        "forwarded_sha256": receipt.forwarded_sha256.hex(),
        "request_signature": receipt.request_signature and receipt.request_signature.hex(),
        "http_status": receipt.http_status,
        "ocpi_status": receipt.ocpi_status,
        "response_sha256": receipt.response_sha256 and receipt.response_sha256.hex(),
        "at": receipt.at,
        "countersignature": counter
        and {"key": counter.key, "base": counter.base, "signature": counter.signature.hex()},
    }


def _proof(proof: Proof) -> dict[str, Any]:
    return {"index": proof.index, "count": proof.count, "siblings": [each.hex() for each in proof.siblings]}
