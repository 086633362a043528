"""The HTTP API of confidential mode, for parties that keep their own key."""

from __future__ import annotations

import msgspec
from fastapi import FastAPI, Request
from fastapi.responses import Response

from emobility.domain.identifiers import PartyId
from emobility.runtime.access import Access
from services.settlement.api import answer, hash_of, hex_bytes, of_party, read_body
from services.settlement.confidential_signing import ConfidentialSigning


class SignatureGiven(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a signature; hex."""

    signature: str


class ConfidentialAPI:
    """Routes for all parties that settle here."""

    def __init__(self, access: Access, signing: ConfidentialSigning) -> None:
        self._access = access
        self._signing = signing

    def mount_on(self, app: FastAPI) -> None:
        """Add the routes."""
        sealed = "/{party}/confidential/statements/{statement}"
        for method, path, handler in (
            ("GET", sealed, self.show_statement),
            ("POST", f"{sealed}/signature", self.sign_statement),
            ("GET", "/{party}/confidential/nets", self.list_nets),
            ("POST", "/{party}/confidential/nets/{batch}/signature", self.sign_net),
        ):
            app.add_api_route(path, of_party(self._access, handler), methods=[method])

    async def show_statement(self, request: Request, party_id: PartyId) -> Response:
        """Show a sealed statement with all that it is made of."""
        return answer(await self._signing.shown_statement(party_id, hash_of(request)))

    async def sign_statement(self, request: Request, party_id: PartyId) -> Response:
        """Take a party's signature of a sealed statement."""
        given = await read_body(request, SignatureGiven)
        await self._signing.take_statement(party_id, hash_of(request), hex_bytes(given.signature))
        return Response(status_code=204)

    async def list_nets(self, _: Request, party_id: PartyId) -> Response:
        """List a party's nets, the newest first."""
        return answer(await self._signing.shown_nets(party_id))

    async def sign_net(self, request: Request, party_id: PartyId) -> Response:
        """Take a party's signature of its net."""
        given = await read_body(request, SignatureGiven)
        await self._signing.take_net(party_id, hash_of(request, "batch"), hex_bytes(given.signature))
        return Response(status_code=204)
