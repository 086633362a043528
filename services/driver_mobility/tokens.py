"""Tokens: pushed to every CPO with a signed agreement, and authorised in real time when a CPO asks."""

from __future__ import annotations

from typing import Final

import structlog

from emobility.domain.agreement import NoAgreementInForce
from emobility.domain.errors import CurrencyMismatch, RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.domain.tariff.retail import RestrictedFlatFee
from emobility.domain.tax import NoTaxRule
from emobility.domain.token import Token, TokenType
from emobility.ports.payments import PaymentDeclined
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi import v221
from emobility.protocols.ocpi.deliveries import Deliveries
from emobility.protocols.ocpi.mapping import owner_path, token_to_ocpi
from emobility.protocols.ocpi.server import Interface, OCPICall, Reply
from emobility.protocols.ocpi.status import NoSuchObject, OCPIError, StatusCode
from emobility.protocols.ocpi.v221 import AllowedType, InterfaceRole, ModuleID
from services.driver_mobility.pages import every
from services.driver_mobility.quoting import (
    CreditExhausted,
    DriverBlocked,
    Quoting,
    UnknownPlan,
    driver_for_update,
)
from services.driver_mobility.records import TOKEN, DriverToken, QuoteOrigin, QuoteRecord
from services.driver_mobility.terms import NoTariffKnown, UnknownPlace, place_at, signed_cpos, wholesale_terms

_log = structlog.get_logger(__name__)

_ALLOWED_BY_REFUSAL: Final[tuple[tuple[type[RuleBroken], AllowedType], ...]] = (
    (CreditExhausted, AllowedType.NO_CREDIT),
    (PaymentDeclined, AllowedType.NO_CREDIT),
    (DriverBlocked, AllowedType.BLOCKED),
    (NoAgreementInForce, AllowedType.NOT_ALLOWED),
    (NoTariffKnown, AllowedType.NOT_ALLOWED),
    (UnknownPlan, AllowedType.NOT_ALLOWED),
    (CurrencyMismatch, AllowedType.NOT_ALLOWED),
    (RestrictedFlatFee, AllowedType.NOT_ALLOWED),
    (NoTaxRule, AllowedType.NOT_ALLOWED),
)
"""What a CPO is told when a driver may not charge; which of our reasons it was stays with us."""


class Tokens:
    """The tokens module of the MSPs hosted here."""

    def __init__(self, ports: Ports, quoting: Quoting) -> None:
        self._ports = ports
        self._quoting = quoting

    def interface(self) -> Interface:
        """Return the OCPI sender interface."""
        module = Interface(ModuleID.TOKENS, InterfaceRole.SENDER)
        module.route("GET")(self._list)
        module.route("POST", "/{token_uid}/authorize")(self._authorize)
        return module

    async def push(
        self,
        unit: UnitOfWork,
        deliveries: Deliveries,
        token: DriverToken,
        cpo_id: PartyId,
        *,
        correlation_id: str,
        is_last: bool = False,
    ) -> None:
        """Enter the token for a CPO; the newest state replaces one that still waits.

        `is_last`: it ends because its driver is erased. That must reach the CPO although the driver's keys go, so it
        is sealed under the MSP until then.
        """
        wire = await token_to_ocpi(as_domain(token), self._ports.vault)
        await deliveries.enqueue(
            unit,
            own_party=token.party_id,
            to_party=cpo_id,
            method="PUT",
            module=ModuleID.TOKENS,
            interface_role=InterfaceRole.RECEIVER,
            path=owner_path(token.party_id, wire.uid),
            query={"type": token.token_type.value},
            object_key=f"token/{token.token_type}/{token.token_subject}",
            body=wire,
            correlation_id=correlation_id,
            subject=None if is_last else token.token_subject,
        )

    async def push_to_all(
        self,
        unit: UnitOfWork,
        deliveries: Deliveries,
        token: DriverToken,
        *,
        correlation_id: str,
        is_last: bool = False,
    ) -> None:
        """Enter the token for every CPO with a signed agreement. `is_last`: see `push`."""
        for cpo_id in await signed_cpos(unit, token.party_id):
            await self.push(unit, deliveries, token, cpo_id, correlation_id=correlation_id, is_last=is_last)

    async def push_all_to(
        self, unit: UnitOfWork, deliveries: Deliveries, emsp_id: PartyId, cpo_id: PartyId, *, correlation_id: str
    ) -> None:
        """Enter every token for a CPO whose agreement was signed just now."""
        for token in await every(unit, TOKEN, {"party_id": emsp_id}):
            await self.push(unit, deliveries, token, cpo_id, correlation_id=correlation_id)

    async def _list(self, call: OCPICall) -> Reply:
        """List tokens for a CPO with a signed agreement; for others there are none."""
        page = call.page()
        async with self._ports.units.begin() as unit:
            if call.caller not in await signed_cpos(unit, call.own_party):
                return call.paged([], page=page, total=0)
            where = {"party_id": call.own_party}
            table = unit.table(TOKEN)
            found = await table.select(
                where,
                since=page.since,
                before=page.before,
                order_by=("last_updated",),
                offset=page.offset,
                limit=page.limit,
            )
            total = await table.count(where, since=page.since, before=page.before)
        wire = [await token_to_ocpi(as_domain(token), self._ports.vault) for token in found]
        return call.paged(wire, page=page, total=total)

    async def _authorize(self, call: OCPICall) -> Reply:
        """Decide whether a driver may charge now, at this place (OCPI 2.2.1, 12.3.2.2).

        Raises:
            NoSuchObject: unknown token; HTTP 404 with S 2004 and no data.
            OCPIError: S 2002 without a location, S 2003 for one we were never told of.
        """
        token = await self._known_token(call)
        where = await _place_asked_for(call)
        wire = await token_to_ocpi(as_domain(token), self._ports.vault)
        if not token.is_valid:
            return Reply(data=v221.AuthorizationInfo(allowed=AllowedType.BLOCKED, token=wire))
        try:
            quote = await self._quote(call, token, where)
        except RuleBroken as refusal:
            allowed = _allowed_after(refusal)
            _log.info("authorization_refused", correlation_id=call.correlation_id, reason=type(refusal).__name__)
            return Reply(data=v221.AuthorizationInfo(allowed=allowed, token=wire, location=where))
        at = v221.LocationReferences(location_id=where.location_id, evse_uids=[quote.quote.evse_uid])
        return Reply(
            data=v221.AuthorizationInfo(
                allowed=AllowedType.ALLOWED, token=wire, location=at, authorization_reference=quote.quote_id
            )
        )

    async def _known_token(self, call: OCPICall) -> DriverToken:
        subject = self._ports.vault.subject_of(call.path["token_uid"])
        asked_type = call.query.get("type", TokenType.RFID.value)
        async with self._ports.units.begin() as unit:
            token = await unit.table(TOKEN).get(call.own_party, subject)
        if token is None or token.token_type != asked_type:
            raise NoSuchObject("token", status_code=StatusCode.UNKNOWN_TOKEN)
        return token

    async def _quote(self, call: OCPICall, token: DriverToken, where: v221.LocationReferences) -> QuoteRecord:
        """Make the quote under which the charge would run, within the driver's credit, and hold the card for it."""
        now = self._ports.clock.now()
        async with self._ports.units.begin() as unit:
            driver = await driver_for_update(unit, call.own_party, token.driver_id)
            evse_uid = where.evse_uids[0] if where.evse_uids else None
            try:
                place = await place_at(
                    unit, call.own_party, call.caller, location_id=where.location_id, evse_uid=evse_uid
                )
            except UnknownPlace as unknown:
                raise OCPIError(StatusCode.UNKNOWN_LOCATION, "no such location or EVSE is known") from unknown
            terms = await wholesale_terms(unit, call.own_party, place, now)
            quote = await self._quoting.make(
                unit,
                driver=driver,
                place=place,
                wholesale=terms.tariff,
                roaming_fee_e4=terms.agreement.roaming_fee_e4,
                origin=QuoteOrigin.REAL_TIME,
                token_subject=token.token_subject,
            )
            await self._quoting.refuse_over_limit(unit, driver, wanted_e4=quote.exposure_e4, but_not=quote.quote_id)
            await unit.commit()
        return await self._quoting.hold(quote, driver)


async def _place_asked_for(call: OCPICall) -> v221.LocationReferences:
    if not call.body.strip():
        raise OCPIError(StatusCode.TOO_LITTLE_INFORMATION, "a location is needed: the price depends on it")
    return call.read(v221.LocationReferences)


def _allowed_after(refusal: RuleBroken) -> AllowedType:
    for kind, allowed in _ALLOWED_BY_REFUSAL:
        if isinstance(refusal, kind):
            return allowed
    raise refusal


def as_domain(token: DriverToken) -> Token:
    """Return a token as the domain knows it."""
    return Token(
        emsp_id=token.party_id,
        uid=token.uid,
        contract_id=token.contract_id,
        token_type=token.token_type,
        issuer=token.issuer,
        is_valid=token.is_valid,
        whitelist=token.whitelist,
        last_updated=token.last_updated,
    )
