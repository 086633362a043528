"""Payment terminals for a CPO's operator: which there are, where they sell, and their activation at the provider."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fastapi import Request

from emobility.domain.identifiers import PartyId
from emobility.protocols.ocpi.v230 import InvoiceCreator
from emobility.runtime.access import TokenRole
from services.charging_operations.routes import Route, RouteTable, party_of, read_body
from services.charging_operations.terminals import Activation, Assignment, TerminalDesk, TerminalRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownTerminal:
    """A terminal and the places it serves. `reference`: its provider's, such as a serial number."""

    ptp_id: PartyId
    terminal_id: str
    is_active: bool
    reference: str | None
    location_ids: tuple[str, ...]
    evse_uids: tuple[str, ...]
    invoice_creator: InvoiceCreator | None
    last_updated: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalAPI:
    """Routes about terminals."""

    desk: TerminalDesk

    def mount_on(self, routes: RouteTable) -> None:
        """Add the routes."""
        one = "/terminals/{ptp}/{terminal_id}"
        routes.add(
            "Terminals",
            [
                Route("GET", "/terminals", self.list_terminals, None, list[ShownTerminal]),
                Route("PUT", f"{one}/assignment", self.assign_terminal, Assignment, ShownTerminal),
                Route("POST", f"{one}/deactivate", self.deactivate_terminal, None, ShownTerminal),
                Route("POST", "/terminals/{ptp}/activate", self.activate_terminal, Activation, None, status=202),
            ],
            writes=TokenRole.OPERATOR,
        )

    async def list_terminals(self, _: Request, party_id: PartyId) -> Any:
        """List the terminals of all providers."""
        return [_shown(each) for each in await self.desk.terminals(party_id)]

    async def assign_terminal(self, request: Request, party_id: PartyId) -> Any:
        """Sell at a terminal, at these locations and EVSEs; its provider is told. One given up sells again."""
        asked = await read_body(request, Assignment)
        return _shown(await self.desk.assign(party_id, *_named(request), asked))

    async def deactivate_terminal(self, request: Request, party_id: PartyId) -> Any:
        """Sell no more at a terminal, and have its provider give it up."""
        return _shown(await self.desk.deactivate(party_id, *_named(request)))

    async def activate_terminal(self, request: Request, party_id: PartyId) -> Any:
        """Ask a provider to set up a terminal that is built into a station; once it is in the list, assign it."""
        await self.desk.activate(party_id, party_of(request.path_params["ptp"]), await read_body(request, Activation))
        return {}


def _named(request: Request) -> tuple[PartyId, str]:
    return party_of(request.path_params["ptp"]), request.path_params["terminal_id"]


def _shown(row: TerminalRecord) -> ShownTerminal:
    return ShownTerminal(
        ptp_id=row.ptp_id,
        terminal_id=row.terminal_id,
        is_active=row.is_active,
        reference=row.terminal.reference,
        location_ids=tuple(row.terminal.location_ids),
        evse_uids=tuple(row.terminal.evse_uids),
        invoice_creator=row.terminal.invoice_creator,
        last_updated=row.last_updated,
    )
