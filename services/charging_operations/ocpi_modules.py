"""The CPO's OCPI interfaces: what partners may fetch, and what they may send."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

import msgspec
from msgspec import structs

from emobility.domain.agreement import NoAgreementInForce, answer_due_at
from emobility.domain.identifiers import PartyId, Role
from emobility.domain.personal import SubjectErased, SubjectRestricted
from emobility.domain.token import Token, TokenType
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi import v221
from emobility.protocols.ocpi.mapping import cdr_to_ocpi, session_to_ocpi, tariff_to_ocpi, token_to_ocpi
from emobility.protocols.ocpi.server import Interface, OCPICall, Page, Reply
from emobility.protocols.ocpi.status import InvalidParameters, NoSuchObject, StatusCode
from emobility.protocols.ocpi.v221 import ConnectionStatus, InterfaceRole, ModuleID
from services.charging_operations.commands import CommandDesk
from services.charging_operations.office import agreement_at
from services.charging_operations.proposals import proposal_in
from services.charging_operations.publishing import Publisher, newest_tariffs, partner
from services.charging_operations.records import (
    CDRS,
    DISPUTE,
    LOCATION,
    SESSION,
    SUBSCRIBER,
    TOKEN,
    CDRRecord,
    DisputedAmount,
    DisputeRecord,
    SubscriberRecord,
    TokenRecord,
)
from services.charging_operations.token_changes import note_change
from services.charging_operations.tokens import keep, record_of, token_of

T = TypeVar("T")
TOLD: Final = (Role.NSP, Role.NAP)
"""Who is told of locations and ad hoc tariffs without asking: public data is for them."""


@dataclass(slots=True, kw_only=True)
class OCPIModules:
    """Builds the interfaces; `publisher` and `commands` are set once the OCPI host exists."""

    ports: Ports
    publisher: Publisher | None = None
    commands: CommandDesk | None = None

    def interfaces(self) -> tuple[Interface, ...]:
        """Return all of them."""
        return (
            self._locations(),
            self._tariffs(),
            self._sessions(),
            self._cdrs(),
            self._tokens(),
            self._commands(),
            self._disputes(),
            self._client_info(),
        )

    def _published(self) -> Publisher:
        assert self.publisher is not None
        return self.publisher

    # Sender interfaces

    def _locations(self) -> Interface:
        module = Interface(ModuleID.LOCATIONS.value, InterfaceRole.SENDER)

        @module.route("GET")
        async def locations(call: OCPICall) -> Reply:
            page = call.page()
            async with self.ports.units.begin() as unit:
                rows = await unit.table(LOCATION).select({"party_id": call.own_party}, order_by=("location_id",))
                to = await partner(unit, call.own_party, call.caller, self.ports.clock.now())
                shown = [await self._published().location_for(unit, row.location, to) for row in rows]
            # An EVSE's change raises its location's `last_updated`, so what is shown decides, not the row.
            return _paged(call, shown, page)

        @module.route("GET", "/{location_id}")
        async def location(call: OCPICall) -> Reply:
            return Reply(data=await self._location(call))

        @module.route("GET", "/{location_id}/{evse_uid}")
        async def evse(call: OCPICall) -> Reply:
            return Reply(data=_evse(await self._location(call), call.path["evse_uid"]))

        @module.route("GET", "/{location_id}/{evse_uid}/{connector_id}")
        async def connector(call: OCPICall) -> Reply:
            found = _evse(await self._location(call), call.path["evse_uid"])
            for each in found.connectors:
                if each.id == call.path["connector_id"]:
                    return Reply(data=each)
            raise NoSuchObject("connector")

        return module

    async def _location(self, call: OCPICall) -> v221.Location:
        async with self.ports.units.begin() as unit:
            row = await unit.table(LOCATION).get(call.own_party, call.path["location_id"])
            if row is None:
                raise NoSuchObject("location", status_code=StatusCode.UNKNOWN_LOCATION)
            to = await partner(unit, call.own_party, call.caller, self.ports.clock.now())
            return await self._published().location_for(unit, row.location, to)

    def _tariffs(self) -> Interface:
        module = Interface(ModuleID.TARIFFS.value, InterfaceRole.SENDER)

        @module.route("GET")
        async def tariffs(call: OCPICall) -> Reply:
            page = call.page()
            async with self.ports.units.begin() as unit:
                to = await partner(unit, call.own_party, call.caller, self.ports.clock.now())
                rows = [row.tariff for row in await newest_tariffs(unit, call.own_party) if to.may_see(row.tariff)]
            return _paged(call, [tariff_to_ocpi(tariff) for tariff in rows], page)

        return module

    def _sessions(self) -> Interface:
        module = Interface(ModuleID.SESSIONS.value, InterfaceRole.SENDER)

        @module.route("GET")
        async def sessions(call: OCPICall) -> Reply:
            page = call.page(needs_date_from=True)
            where = {"party_id": call.own_party, "emsp_id": call.caller}
            async with self.ports.units.begin() as unit:
                rows = await unit.table(SESSION).select(
                    where, **_window(page), order_by=("last_updated",), offset=page.offset, limit=page.limit
                )
                total = await unit.table(SESSION).count(where, **_window(page))
            shown = await _readable(session_to_ocpi(row.session, self.ports.vault) for row in rows)
            return call.paged(shown, page=page, total=total)

        return module

    def _cdrs(self) -> Interface:
        module = Interface(ModuleID.CDRS.value, InterfaceRole.SENDER)

        @module.route("GET")
        async def cdrs(call: OCPICall) -> Reply:
            page = call.page()
            where = {"party_id": call.own_party, "emsp_id": call.caller}
            async with self.ports.units.begin() as unit:
                rows = await unit.table(CDRS).select(
                    where, **_window(page), order_by=("last_updated",), offset=page.offset, limit=page.limit
                )
                total = await unit.table(CDRS).count(where, **_window(page))
            shown = await _readable(cdr_to_ocpi(row.cdr, self.ports.vault.evidence) for row in rows)
            return call.paged(shown, page=page, total=total)

        return module

    # Receiver interfaces

    def _tokens(self) -> Interface:
        module = Interface(ModuleID.TOKENS.value, InterfaceRole.RECEIVER)
        path = "/{country_code}/{party_id}/{token_uid}"

        @module.route("PUT", path)
        async def put(call: OCPICall) -> Reply:
            token = call.read_owned(v221.Token, object_id=call.path["token_uid"], id_field="uid")
            if _token_type(call) is not token.type:
                raise InvalidParameters("the token's type differs between URL and body")
            return await self._keep_token(call.own_party, token)

        @module.route("PATCH", path)
        async def patch(call: OCPICall) -> Reply:
            owner = call.owner()
            changes = call.read(dict[str, Any])
            if "last_updated" not in changes:
                raise InvalidParameters("a PATCH states last_updated")
            known = await self._known_token(call, owner)
            whole = msgspec.to_builtins(await token_to_ocpi(_token(known), self.ports.vault)) | changes
            token = v221.read(v221.write(whole), v221.Token)
            if token.owner != owner or token.uid.casefold() != call.path["token_uid"].casefold():
                raise InvalidParameters("a PATCH does not rename a token")
            return await self._keep_token(call.own_party, token)

        @module.route("GET", path)
        async def get(call: OCPICall) -> Reply:
            known = await self._known_token(call, call.owner())
            return Reply(data=await token_to_ocpi(_token(known), self.ports.vault))

        return module

    async def _keep_token(self, party_id: PartyId, token: v221.Token) -> Reply:
        try:
            record = await record_of(party_id, token, self.ports.vault)
        except SubjectErased:
            if token.valid:
                raise
            return await self._forget_token(party_id, token)
        async with self.ports.units.begin() as unit:
            is_new = await keep(unit, record)
            await unit.commit()
        return Reply(http_status=201 if is_new else 200)

    async def _forget_token(self, party_id: PartyId, token: v221.Token) -> Reply:
        """The token of an erased person ended: what we cached of it goes, since nobody could write it any more."""
        subject = self.ports.vault.subject_of(token.uid)
        async with self.ports.units.begin() as unit:
            known = await unit.table(TOKEN).get_for_update(party_id, token.owner, subject, token.type)
            await unit.table(TOKEN).delete(party_id, token.owner, subject, token.type)
            await note_change(unit, known, None)
            await unit.commit()
        return Reply()

    async def _known_token(self, call: OCPICall, owner: PartyId) -> TokenRecord:
        subject = self.ports.vault.subject_of(call.path["token_uid"])
        async with self.ports.units.begin() as unit:
            known = await token_of(unit, call.own_party, owner, subject, _token_type(call))
        if known is None:
            raise NoSuchObject("token", status_code=StatusCode.UNKNOWN_TOKEN)
        return known

    def _commands(self) -> Interface:
        module = Interface(ModuleID.COMMANDS.value, InterfaceRole.RECEIVER)

        @module.route("POST", "/{command}")
        async def command(call: OCPICall) -> Reply:
            assert self.commands is not None
            return Reply(data=await self.commands.receive(call))

        return module

    def _disputes(self) -> Interface:
        module = Interface(ModuleID.DISPUTES.value, InterfaceRole.RECEIVER)

        @module.route("POST")
        async def dispute(call: OCPICall) -> Reply:
            posted = call.read(v221.Dispute)
            async with self.ports.units.begin() as unit:
                is_new = await self._keep_dispute(unit, call, posted)
                await unit.commit()
            return Reply(http_status=201 if is_new else 200)

        return module

    async def _keep_dispute(self, unit: UnitOfWork, call: OCPICall, posted: v221.Dispute) -> bool:
        cdr = await unit.table(CDRS).get(call.own_party, posted.cdr_id)
        if cdr is None or cdr.emsp_id != call.caller:
            raise NoSuchObject("CDR")
        known = await unit.table(DISPUTE).get_for_update(call.own_party, call.caller, posted.cdr_id)
        await unit.table(DISPUTE).put(
            DisputeRecord(
                party_id=call.own_party,
                emsp_id=call.caller,
                cdr_id=posted.cdr_id,
                reason=posted.reason,
                detail=posted.detail,
                expected_e4=posted.expected_e4,
                stated_e4=posted.stated_e4,
                received_at=known.received_at if known else self.ports.clock.now(),
                answer=known.answer if known else cdr.credited_by,
                clause=posted.clause,
                differences=tuple(DisputedAmount(**structs.asdict(each)) for each in posted.differences),
                proposal=await proposal_in(posted, cdr.cdr, self.ports.vault.evidence),
                answer_by=known.answer_by if known else await self._answer_by(unit, cdr),
            )
        )
        return known is None

    async def _answer_by(self, unit: UnitOfWork, cdr: CDRRecord) -> datetime | None:
        try:
            agreement = await agreement_at(unit, cdr.party_id, cdr.emsp_id, cdr.cdr.charging_started_at)
        except NoAgreementInForce:
            return None
        return answer_due_at(agreement, self.ports.clock.now())

    def _client_info(self) -> Interface:
        module = Interface(ModuleID.HUBCLIENTINFO.value, InterfaceRole.RECEIVER)

        @module.route("PUT", "/{country_code}/{party_id}")
        async def put(call: OCPICall) -> Reply:
            info = call.read(v221.ClientInfo)
            if info.role in TOLD and info.status is ConnectionStatus.CONNECTED:
                async with self.ports.units.begin() as unit:
                    await self.subscribe(unit, call.own_party, info.owner, correlation_id=call.correlation_id)
                    await unit.commit()
            return Reply()

        return module

    async def subscribe(
        self, unit: UnitOfWork, party_id: PartyId, subscriber_id: PartyId, *, correlation_id: str
    ) -> None:
        """Tell a navigation provider of locations from now on, and of all there are; twice is as once."""
        if await unit.table(SUBSCRIBER).get(party_id, subscriber_id) is not None:
            return
        await unit.table(SUBSCRIBER).put(
            SubscriberRecord(party_id=party_id, subscriber_id=subscriber_id, role=Role.NSP)
        )
        await self._published().publish_everything(unit, party_id, subscriber_id, correlation_id=correlation_id)


def _window(page: Page) -> Mapping[str, Any]:
    return {"since": page.since, "before": page.before}


def _paged(call: OCPICall, objects: Sequence[Any], page: Page) -> Reply:
    """Page over objects whose `last_updated` is known only now."""
    wanted = [
        each
        for each in objects
        if (page.date_from is None or each.last_updated >= page.date_from)
        and (page.date_to is None or each.last_updated < page.date_to)
    ]
    wanted.sort(key=lambda each: each.last_updated)
    return call.paged(wanted[page.offset : page.offset + page.limit], page=page, total=len(wanted))


def _evse(location: v221.Location, evse_uid: str) -> v221.EVSE:
    for each in location.evses:
        if each.uid.casefold() == evse_uid.casefold():
            return each
    raise NoSuchObject("EVSE")


def _token_type(call: OCPICall) -> TokenType:
    try:
        return TokenType(call.query.get("type", TokenType.RFID.value))
    except ValueError as error:
        raise InvalidParameters("no such type of token") from error


def _token(record: TokenRecord) -> Token:
    return Token(
        emsp_id=record.emsp_id,
        uid=record.uid,
        contract_id=record.contract_id,
        token_type=record.token_type,
        issuer=record.issuer,
        is_valid=record.is_valid,
        whitelist=record.whitelist,
        last_updated=record.last_updated,
        group_id=record.group_id,
    )


async def _readable(shown: Iterable[Awaitable[T]]) -> list[T]:
    """Return what can be read: an erased driver's objects are left out, and everybody else's stay."""
    found: list[T] = []
    for each in shown:
        with suppress(SubjectErased, SubjectRestricted):
            found.append(await each)
    return found
