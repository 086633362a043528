"""Agreements offered, accepted and ended by a CPO's operator: over HTTP and on a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fastapi import Request

from emobility.domain.agreement import RoamingAgreement
from emobility.domain.identifiers import PartyId
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi.agreement_exchange import AgreementExchange, NoticeRecord, OfferRecord
from emobility.runtime.access import TokenRole
from services.charging_operations.agreements import AgreementDesk, AgreementProposal
from services.charging_operations.office import NotUnderstood
from services.charging_operations.records import AGREEMENT, AgreementState
from services.charging_operations.routes import Route, RouteTable, read_body


@dataclass(frozen=True, slots=True, kw_only=True)
class CPORegister:
    """The agreements in force, for the exchange (`Register`)."""

    desk: AgreementDesk

    async def signed(self, unit: UnitOfWork, own: PartyId, counterparty: PartyId) -> Sequence[RoamingAgreement]:
        """See `Register`."""
        of_pair = {"party_id": own, "emsp_id": counterparty, "state": AgreementState.SIGNED}
        return [row.agreement for row in await unit.table(AGREEMENT).select(of_pair)]

    async def key_of(self, unit: UnitOfWork, own: PartyId, counterparty: PartyId) -> str | None:
        """See `Register`."""
        of_pair = {"party_id": own, "emsp_id": counterparty, "state": AgreementState.SIGNED}
        rows = await unit.table(AGREEMENT).select(of_pair, order_by=("-version",), limit=1)
        return rows[0].emsp_public_key if rows else None

    async def enter(
        self, unit: UnitOfWork, own: PartyId, agreement: RoamingAgreement, *, key: str, correlation_id: str
    ) -> None:
        """See `Register`."""
        proposal = AgreementProposal(agreement=agreement, emsp_public_key=key)
        await self.desk.put(unit, own, proposal, correlation_id=correlation_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A word about an offer: `accepts` the round that the operator saw, or rejects it."""

    accepts: bool
    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """A notice: nothing begins under the agreement from `ends_at` on."""

    ends_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementAPI:
    """Routes of offers and notices."""

    exchange: AgreementExchange

    def mount_on(self, routes: RouteTable) -> None:
        """Add the routes."""
        talk = "/agreement-offers/{counterparty}/{agreement_id}"
        routes.add(
            "Agreements",
            [
                Route("GET", "/agreement-offers", self.list_offers, None, list[OfferRecord]),
                Route("POST", "/agreement-offers", self.offer_agreement, RoamingAgreement, OfferRecord, status=201),
                Route("POST", f"{talk}/notice", self.give_agreement_notice, Ending, NoticeRecord, status=201),
                Route("POST", f"{talk}/{{version}}", self.answer_offer, Answer, OfferRecord),
                Route("GET", "/agreement-notices", self.list_agreement_notices, None, list[NoticeRecord]),
            ],
            writes=TokenRole.OWNER,
        )

    async def list_offers(self, _: Request, party_id: PartyId) -> Any:
        """List the talk about agreements, by counterparty, agreement and version."""
        return await self.exchange.offers(party_id)

    async def offer_agreement(self, request: Request, party_id: PartyId) -> Any:
        """Sign terms and offer them: first, again, or against the other's."""
        return await self.exchange.offer(party_id, await read_body(request, RoamingAgreement))

    async def answer_offer(self, request: Request, party_id: PartyId) -> Any:
        """Accept the other's last word, or end the talk."""
        said, other, agreement_id = await read_body(request, Answer), *_named(request)
        if not request.path_params["version"].isdigit():
            raise NotUnderstood("a version is a number")
        version = int(request.path_params["version"])
        if said.accepts:
            return await self.exchange.accept(party_id, other, agreement_id, version, round_=said.round)
        return await self.exchange.reject(party_id, other, agreement_id, version)

    async def give_agreement_notice(self, request: Request, party_id: PartyId) -> Any:
        """End an agreement for what begins later; what was begun under it goes on."""
        said, other, agreement_id = await read_body(request, Ending), *_named(request)
        return await self.exchange.give_notice(party_id, other, agreement_id, ends_at=said.ends_at)

    async def list_agreement_notices(self, _: Request, party_id: PartyId) -> Any:
        """List the notices that were given."""
        return await self.exchange.notices(party_id)


def _named(request: Request) -> tuple[PartyId, str]:
    return PartyId(request.path_params["counterparty"]), request.path_params["agreement_id"]
