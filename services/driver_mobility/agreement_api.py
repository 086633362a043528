"""Agreements offered, accepted and ended by an MSP's operator: over HTTP and on a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from fastapi import FastAPI, Request
from fastapi.responses import Response

from emobility.domain.agreement import RoamingAgreement
from emobility.domain.identifiers import PartyId
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi.agreement_exchange import AgreementExchange
from emobility.runtime.access import Access
from services.driver_mobility.api import NotUnderstood, answer, party_of, read_body
from services.driver_mobility.enrolment import Enrolment
from services.driver_mobility.records import AGREEMENT, AgreementState


@dataclass(frozen=True, slots=True, kw_only=True)
class MSPRegister:
    """The agreements in force, for the exchange (`Register`)."""

    enrolment: Enrolment

    async def signed(self, unit: UnitOfWork, own: PartyId, counterparty: PartyId) -> Sequence[RoamingAgreement]:
        """See `Register`."""
        of_pair = {"party_id": own, "cpo_id": counterparty, "state": AgreementState.SIGNED}
        return [row.agreement for row in await unit.table(AGREEMENT).select(of_pair)]

    async def key_of(self, unit: UnitOfWork, own: PartyId, counterparty: PartyId) -> str | None:
        """See `Register`."""
        of_pair = {"party_id": own, "cpo_id": counterparty, "state": AgreementState.SIGNED}
        rows = await unit.table(AGREEMENT).select(of_pair, order_by=("-version",), limit=1)
        return rows[0].cpo_public_key if rows else None

    async def enter(
        self, unit: UnitOfWork, own: PartyId, agreement: RoamingAgreement, *, key: str, correlation_id: str
    ) -> None:
        """See `Register`."""
        await self.enrolment.enter_agreement(unit, own, agreement, cpo_public_key=key, correlation_id=correlation_id)


class AnswerRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A word about an offer: `accepts` the round that the operator saw, or rejects it."""

    accepts: bool
    round: int


class NoticeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A notice: nothing begins under the agreement from `ends_at` on."""

    ends_at: datetime


class AgreementAPI:
    """Routes of offers and notices, as the CPO's back office has them."""

    def __init__(self, access: Access, exchange: AgreementExchange) -> None:
        self._access = access
        self._exchange = exchange

    def mount_on(self, app: FastAPI) -> None:
        """Add the routes."""
        talk = "/agreement-offers/{counterparty}/{agreement_id}"
        for method, path, handler, status in (
            ("GET", "/agreement-offers", self._offers, 200),
            ("POST", "/agreement-offers", self._offer, 201),
            ("POST", f"{talk}/notice", self._notice, 201),
            ("POST", f"{talk}/{{version}}", self._answer, 200),
            ("GET", "/agreement-notices", self._notices, 200),
        ):
            app.add_api_route(f"/{{party}}{path}", self._guarded(handler, status), methods=[method])

    def _guarded(self, handler: Any, status: int) -> Any:
        async def guarded(request: Request) -> Response:
            emsp_id = party_of(request.path_params["party"])
            await self._access.party(request, emsp_id)
            return answer(await handler(request, emsp_id), status)

        return guarded

    async def _offers(self, _: Request, emsp_id: PartyId) -> Any:
        return await self._exchange.offers(emsp_id)

    async def _offer(self, request: Request, emsp_id: PartyId) -> Any:
        return await self._exchange.offer(emsp_id, await read_body(request, RoamingAgreement))

    async def _answer(self, request: Request, emsp_id: PartyId) -> Any:
        said, other, agreement_id = await read_body(request, AnswerRequest), *_named(request)
        if not request.path_params["version"].isdigit():
            raise NotUnderstood("a version is a number")
        version = int(request.path_params["version"])
        if said.accepts:
            return await self._exchange.accept(emsp_id, other, agreement_id, version, round_=said.round)
        return await self._exchange.reject(emsp_id, other, agreement_id, version)

    async def _notice(self, request: Request, emsp_id: PartyId) -> Any:
        said, other, agreement_id = await read_body(request, NoticeRequest), *_named(request)
        return await self._exchange.give_notice(emsp_id, other, agreement_id, ends_at=said.ends_at)

    async def _notices(self, _: Request, emsp_id: PartyId) -> Any:
        return await self._exchange.notices(emsp_id)


def _named(request: Request) -> tuple[PartyId, str]:
    return party_of(request.path_params["counterparty"]), request.path_params["agreement_id"]
