"""The HTTP API of the ledger: parties read all of it, and hand in their signatures of heads.

What it shows is what a chain would show to everybody; here it is shown to parties that settle.
"""

from __future__ import annotations

from typing import Final

import msgspec
from fastapi import FastAPI, Request
from fastapi.responses import Response

from emobility.domain.cosigned_ledger import words_of
from emobility.domain.identifiers import PartyId
from emobility.runtime.access import Access
from services.settlement.api import NotUnderstood, answer, hex_bytes, of_party, read_body
from services.settlement.countersigning import Countersigning

ENTRIES_MAX: Final = 32
"""Entries of one answer, each of up to 128 kB; ask again from the last one's number on."""


class CountersignatureRequest(msgspec.Struct, frozen=True, kw_only=True):
    """POST /{party}/ledger/countersignature; bytes as hex."""

    number: int
    hash: str
    signature: str


class LedgerAPI:
    """Routes of a settlement that keeps a ledger."""

    def __init__(self, access: Access, countersigning: Countersigning) -> None:
        self._access = access
        self._countersigning = countersigning

    def mount_on(self, app: FastAPI) -> None:
        """Add the routes."""
        for method, path, handler in (
            ("GET", "/{party}/ledger/entries", self.list_entries),
            ("GET", "/{party}/ledger/countersignatures", self.list_countersignatures),
            ("POST", "/{party}/ledger/countersignature", self.countersign),
        ):
            app.add_api_route(path, of_party(self._access, handler), methods=[method])

    async def list_entries(self, request: Request, _: PartyId) -> Response:
        """Return entries from number `first` on, as they stand in an exported file."""
        try:
            first = int(request.query_params.get("first", "0"))
        except ValueError:
            first = -1
        if first < 0:
            raise NotUnderstood("first is the number of an entry")
        found = await self._countersigning.ledger.entries(first=first, limit=ENTRIES_MAX)
        return answer([words_of(each) for each in found])

    async def list_countersignatures(self, _request: Request, _: PartyId) -> Response:
        """Return each signer's newest."""
        return answer([words_of(each) for each in await self._countersigning.ledger.countersignatures()])

    async def countersign(self, request: Request, party_id: PartyId) -> Response:
        """Take a party's signature of a head."""
        asked = await read_body(request, CountersignatureRequest)
        await self._countersigning.take(
            party_id, number=asked.number, hash_=hex_bytes(asked.hash), signature=hex_bytes(asked.signature)
        )
        return Response(status_code=204)
