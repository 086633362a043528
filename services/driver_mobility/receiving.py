"""What CPOs send: locations, tariffs, sessions and CDRs, as the receiver interfaces of an eMSP."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import msgspec
import structlog

from emobility.domain.agreement import NoAgreementInForce, RoamingAgreement, disputable_until
from emobility.domain.cdr import CDR
from emobility.domain.errors import MalformedInput
from emobility.domain.identifiers import PartyId
from emobility.domain.quote import gross_e4
from emobility.domain.session import Session, SessionStatus
from emobility.domain.tariff.pricing import price_session
from emobility.domain.tariff.selection import UnlikelyMoment, require_likely
from emobility.events import codec
from emobility.events.cdr import CDRReceived
from emobility.ports.event_log import EVENT_BYTES_MAX
from emobility.ports.ports import Ports
from emobility.ports.stores import RecordExists
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi import v221
from emobility.protocols.ocpi.mapping import (
    cdr_from_ocpi,
    session_from_ocpi,
    session_to_ocpi,
    tariff_from_ocpi,
    tariff_to_ocpi,
)
from emobility.protocols.ocpi.server import Interface, OCPICall, Reply
from emobility.protocols.ocpi.status import InvalidParameters, NoSuchObject, OCPIError, StatusCode
from emobility.protocols.ocpi.v221 import InterfaceRole, ModuleID, NotAnOCPIObject, NotJSON
from services.driver_mobility.cdr_conflicts import CDRChanged, keep_conflict
from services.driver_mobility.facts import fact
from services.driver_mobility.quoting import Quoting, end_unbilled
from services.driver_mobility.records import (
    CDRS,
    LOCATION,
    QUOTE,
    SESSION,
    TARIFF,
    CDRRecord,
    CDRState,
    LocationRecord,
    QuoteRecord,
    QuoteState,
    SessionRecord,
)
from services.driver_mobility.session_quotes import SessionQuotes, token_of
from services.driver_mobility.terms import agreement_at, tariff_versions, version_of

NO_AGREEMENT: Final = "no-agreement"
"""Stands for the agreement of CDRs that come without one; they are disputed."""
DECISION_PERIOD_DEFAULT: Final = timedelta(days=30)
NEXT_VERSION: Final = timedelta(microseconds=1)
"""How much later the second of two tariff versions begins that its CPO dates the same: none is ever overwritten."""
CDR_BYTES_MAX: Final = EVENT_BYTES_MAX - 1_000
"""Largest CDR that is taken in, as the event of its receipt: that of its acceptance says all of it again, and more."""

_log = structlog.get_logger(__name__)


class Receiving:
    """Stores what CPOs push; every row is scoped by the MSP that was addressed and the CPO that sent."""

    def __init__(
        self, ports: Ports, quoting: Quoting, session_ended: Callable[[PartyId, PartyId, str], Awaitable[None]]
    ) -> None:
        self._ports = ports
        self._quotes = SessionQuotes(quoting)
        self._session_ended = session_ended

    def interfaces(self) -> tuple[Interface, ...]:
        """Return the OCPI receiver interfaces of an eMSP."""
        return (self._locations(), self._tariffs(), self._sessions(), self._cdrs())

    # Locations

    def _locations(self) -> Interface:
        module = Interface(ModuleID.LOCATIONS, InterfaceRole.RECEIVER)
        path = "/{country_code}/{party_id}/{location_id}"
        module.route("GET", path)(self._get_location)
        module.route("PUT", path)(self._put_location)
        for below in ("", "/{evse_uid}", "/{evse_uid}/{connector_id}"):
            module.route("PATCH", f"{path}{below}")(self._patch_location)
            if below:
                module.route("PUT", f"{path}{below}")(self._put_below_location)
        return module

    async def _location(self, unit: UnitOfWork, call: OCPICall) -> LocationRecord:
        row = await unit.table(LOCATION).get_for_update(call.own_party, call.owner(), call.path["location_id"])
        if row is None:
            raise NoSuchObject("location", status_code=StatusCode.UNKNOWN_LOCATION)
        return row

    async def _get_location(self, call: OCPICall) -> Reply:
        async with self._ports.units.begin() as unit:
            return Reply(data=(await self._location(unit, call)).location)

    async def _put_location(self, call: OCPICall) -> Reply:
        pushed = call.read_owned(v221.Location, object_id=call.path["location_id"])
        async with self._ports.units.begin() as unit:
            known = await unit.table(LOCATION).get_for_update(call.own_party, pushed.owner, pushed.id)
            if known is None or known.last_updated <= pushed.last_updated:
                await unit.table(LOCATION).put(_location_row(call.own_party, pushed))
            await unit.commit()
        return Reply(http_status=201 if known is None else 200)

    async def _put_below_location(self, call: OCPICall) -> Reply:
        """Replace an EVSE or a connector of a known location."""
        return await self._change_location(call, _fields(call.body), is_whole=True)

    async def _patch_location(self, call: OCPICall) -> Reply:
        body = _fields(call.body)
        if "last_updated" not in body:
            raise InvalidParameters("a PATCH needs last_updated")
        return await self._change_location(call, body, is_whole=False)

    async def _change_location(self, call: OCPICall, body: Mapping[str, Any], *, is_whole: bool) -> Reply:
        async with self._ports.units.begin() as unit:
            row = await self._location(unit, call)
            document = _fields(v221.write(row.location))
            _change(document, call.path, body, is_whole=is_whole)
            changed = v221.read(v221.write(document), v221.Location)
            if (changed.owner, changed.id) != (row.cpo_id, row.location_id):
                raise InvalidParameters("a location can't get another id or owner")
            await unit.table(LOCATION).put(_location_row(call.own_party, changed))
            await unit.commit()
        return Reply()

    # Tariffs

    def _tariffs(self) -> Interface:
        module = Interface(ModuleID.TARIFFS, InterfaceRole.RECEIVER)
        path = "/{country_code}/{party_id}/{tariff_id}"
        module.route("GET", path)(self._get_tariff)
        module.route("PUT", path)(self._put_tariff)
        module.route("DELETE", path)(self._delete_tariff)
        return module

    async def _get_tariff(self, call: OCPICall) -> Reply:
        async with self._ports.units.begin() as unit:
            versions = await tariff_versions(unit, call.own_party, call.owner(), call.path["tariff_id"])
        if not versions or versions[-1].ended_at is not None:
            raise NoSuchObject("tariff")
        return Reply(data=tariff_to_ocpi(versions[-1].tariff))

    async def _put_tariff(self, call: OCPICall) -> Reply:
        """Keep the version for ever: CDRs are checked by the one in force when the session started."""
        tariff = tariff_from_ocpi(call.read_owned(v221.Tariff, object_id=call.path["tariff_id"]))
        version = version_of(tariff, call.own_party, received_at=self._ports.clock.now())
        async with self._ports.units.begin() as unit:
            versions = await tariff_versions(unit, call.own_party, version.cpo_id, version.tariff_id)
            hashes = {known.in_force_from: known.tariff_hash for known in versions}
            while hashes.get(version.in_force_from, version.tariff_hash) != version.tariff_hash:
                version = replace(version, in_force_from=version.in_force_from + NEXT_VERSION)
                _log.warning("tariff_versions_dated_the_same", cpo=version.cpo_id.code, tariff_id=version.tariff_id)
            if version.in_force_from not in hashes:
                await unit.table(TARIFF).put(version)
            await unit.commit()
        return Reply(http_status=200 if versions else 201)

    async def _delete_tariff(self, call: OCPICall) -> Reply:
        async with self._ports.units.begin() as unit:
            versions = await tariff_versions(unit, call.own_party, call.owner(), call.path["tariff_id"])
            if not versions:
                raise NoSuchObject("tariff")
            if versions[-1].ended_at is None:
                await unit.table(TARIFF).put(replace(versions[-1], ended_at=self._ports.clock.now()))
            await unit.commit()
        return Reply()

    # Sessions

    def _sessions(self) -> Interface:
        module = Interface(ModuleID.SESSIONS, InterfaceRole.RECEIVER)
        path = "/{country_code}/{party_id}/{session_id}"
        module.route("GET", path)(self._get_session)
        module.route("PUT", path)(self._put_session)
        module.route("PATCH", path)(self._patch_session)
        return module

    async def _session(self, unit: UnitOfWork, call: OCPICall) -> SessionRecord:
        row = await unit.table(SESSION).get_for_update(call.own_party, call.owner(), call.path["session_id"])
        if row is None:
            raise NoSuchObject("session")
        return row

    async def _get_session(self, call: OCPICall) -> Reply:
        async with self._ports.units.begin() as unit:
            row = await self._session(unit, call)
        return Reply(data=await session_to_ocpi(row.session, self._ports.vault))

    async def _put_session(self, call: OCPICall) -> Reply:
        pushed = call.read_owned(v221.Session, object_id=call.path["session_id"])
        _refuse_foreign_token(pushed.cdr_token, call)
        _refuse_unlikely_session(pushed)
        session = await session_from_ocpi(pushed, self._ports.vault)
        async with self._ports.units.begin() as unit:
            known = await unit.table(SESSION).get_for_update(call.own_party, session.party_id, session.session_id)
            await self._store_session(unit, call.own_party, session, known)
            await unit.commit()
        await self._tell_of_end(call.own_party, session)
        return Reply(http_status=201 if known is None else 200)

    async def _tell_of_end(self, emsp_id: PartyId, session: Session) -> None:
        """A CDR may have overtaken the session as it ended."""
        if session.status is SessionStatus.COMPLETED:
            await self._session_ended(emsp_id, session.party_id, session.session_id)

    async def _patch_session(self, call: OCPICall) -> Reply:
        """Change fields; `charging_periods` are added to those that are known (OCPI 2.2.1, 9.2.2.3)."""
        changes = _fields(call.body)
        if "last_updated" not in changes:
            raise InvalidParameters("a PATCH needs last_updated")
        async with self._ports.units.begin() as unit:
            known = await self._session(unit, call)
            open_form = await session_to_ocpi(known.session, self._ports.vault)
            document = _fields(v221.write(open_form))
            added = changes.get("charging_periods", [])
            if not isinstance(added, list):
                raise InvalidParameters("charging_periods is no list")
            periods = [*document.get("charging_periods", []), *added]
            document |= {**changes, "charging_periods": periods}
            changed = v221.read(v221.write(document), v221.Session)
            _refuse_foreign_token(changed.cdr_token, call)
            _refuse_unlikely_session(changed)
            if changed.owner != known.cpo_id or changed.id != known.session_id:
                raise InvalidParameters("a PATCH can't give a session another id or owner")
            session = await session_from_ocpi(changed, self._ports.vault)
            await self._store_session(unit, call.own_party, session, known)
            await unit.commit()
        await self._tell_of_end(call.own_party, session)
        return Reply()

    async def _store_session(
        self, unit: UnitOfWork, emsp_id: PartyId, session: Session, known: SessionRecord | None
    ) -> None:
        if known is not None and known.last_updated > session.last_updated:
            return
        token = await token_of(unit, emsp_id, session.token.uid.subject)
        if token is None:
            raise OCPIError(StatusCode.UNKNOWN_TOKEN, "the token is no token of this MSP")
        quote = await self._quotes.for_session(unit, token, session, known, at=self._ports.clock.now())
        running_e4 = _running_cost_e4(quote, session)
        await unit.table(SESSION).put(
            SessionRecord(
                party_id=emsp_id,
                cpo_id=session.party_id,
                session_id=session.session_id,
                driver_id=token.driver_id,
                quote_id=quote.quote_id,
                status=session.status,
                started_at=session.started_at,
                last_updated=session.last_updated,
                heard_at=self._ports.clock.now(),
                session=session,
                running_cost_e4=running_e4,
            )
        )
        await self._follow(unit, quote, session, running_e4)

    async def _follow(self, unit: UnitOfWork, quote: QuoteRecord, session: Session, running_e4: int) -> None:
        """Let the quote's exposure keep up with the charge; one that never counted gives its hold up."""
        if quote.state is not QuoteState.RUNNING:
            return
        if session.status is SessionStatus.INVALID:
            await end_unbilled(unit, quote, reason="the session was invalid", at=self._ports.clock.now())
            return
        is_closed = session.status is SessionStatus.COMPLETED
        exposure_e4 = running_e4 if is_closed else max(quote.exposure_e4, running_e4)
        await unit.table(QUOTE).put(replace(quote, exposure_e4=exposure_e4))

    # CDRs

    def _cdrs(self) -> Interface:
        module = Interface(ModuleID.CDRS, InterfaceRole.RECEIVER)
        module.route("POST")(self._post_cdr)
        module.route("GET", "/{cdr_id}")(self._get_cdr)
        return module

    async def _get_cdr(self, call: OCPICall) -> Reply:
        """Show a CPO that we have its CDR, by id and state; the document itself it has."""
        async with self._ports.units.begin() as unit:
            row = await unit.table(CDRS).get(call.own_party, call.caller, call.path["cdr_id"])
        if row is None:
            raise NoSuchObject("CDR")
        return Reply(data={"id": row.cdr_id, "received_at": row.received_at})

    async def _post_cdr(self, call: OCPICall) -> Reply:
        """Take a document in; what it claims is judged later.

        Raises:
            NotAnOCPIObject, NotInOurWords: S 2001.
            InvalidParameters: it is not the caller's, not for this MSP, too large, or its id came before with other
                content.
            TermsNotKnownYet: HTTP 503; send it again later.
        """
        posted = call.read(v221.CDR)
        if posted.owner != call.caller:
            raise InvalidParameters(f"a CDR of {posted.owner} can't come from {call.caller}")
        _refuse_foreign_token(posted.cdr_token, call)
        starts = (period.start_date_time for period in posted.charging_periods)
        _refuse_unlikely(posted.start_date_time, posted.end_date_time, posted.last_updated, *starts)
        content_hash = hashlib.sha256(v221.write(posted)).hexdigest()
        try:
            is_new = await self._take_cdr(call, posted, content_hash)
        except CDRChanged as error:
            await keep_conflict(self._ports, call.own_party, posted, content_hash)
            raise InvalidParameters(str(error)) from error
        except RecordExists:
            # It was posted twice at once, and the other was first: by now its row is there to compare with.
            is_new = await self._take_cdr(call, posted, content_hash)
        location = {"Location": f"{call.url.rstrip('/')}/{posted.id}"}
        return Reply(http_status=201 if is_new else 200, headers=location)

    async def _take_cdr(self, call: OCPICall, posted: v221.CDR, content_hash: str) -> bool:
        """Enter a CDR and tell whether it is new. Raises as `_post_cdr` does, and `RecordExists`."""
        async with self._ports.units.begin() as unit:
            known = await unit.table(CDRS).get(call.own_party, posted.owner, posted.id)
            if known is not None and known.content_hash != content_hash:
                raise CDRChanged(cdr_id=posted.id)
            if known is not None:
                return False
            agreement = await self._agreement(unit, call.own_party, posted.owner, posted.start_date_time)
            time_zone = await self._time_zone(unit, call.own_party, posted, agreement)
            cdr = await cdr_from_ocpi(posted, self._ports.vault, time_zone=time_zone)
            await self._enter_cdr(unit, call, cdr, agreement, content_hash)
            await unit.commit()
        return True

    async def _enter_cdr(
        self, unit: UnitOfWork, call: OCPICall, cdr: CDR, agreement: RoamingAgreement | None, content_hash: str
    ) -> None:
        now = self._ports.clock.now()
        token = await token_of(unit, call.own_party, cdr.token.uid.subject)
        quote = None
        if token is not None and not cdr.is_credit:
            quote = await self._quotes.for_cdr(unit, token, cdr)
        agreement_id = agreement.agreement_id if agreement else f"{NO_AGREEMENT}/{cdr.party_id}/{call.own_party}"
        await unit.table(CDRS).insert(
            CDRRecord(
                party_id=call.own_party,
                cpo_id=cdr.party_id,
                cdr_id=cdr.cdr_id,
                session_id=cdr.session_id,
                token_subject=cdr.token.uid.subject,
                started_at=cdr.started_at,
                ended_at=cdr.ended_at,
                received_at=now,
                decide_by=disputable_until(agreement, now) if agreement else now + DECISION_PERIOD_DEFAULT,
                state=CDRState.RECEIVED,
                is_deemed=False,
                agreement_id=agreement_id,
                content_hash=content_hash,
                quote_id=None if quote is None else quote.quote_id,
                cdr=cdr,
                findings=(),
                credited_by=None,
                evse_uid=cdr.location.evse_uid,
            )
        )
        event = CDRReceived(
            agreement_id=agreement_id, cpo_id=cdr.party_id, emsp_id=call.own_party, cdr=cdr, received_at=now
        )
        parts = (call.own_party.code, cdr.party_id.code, cdr.cdr_id)
        received = fact(event, *parts, correlation_id=call.correlation_id, at=now)
        if len(codec.encode_envelope(received)) > CDR_BYTES_MAX:
            raise InvalidParameters(f"CDR {cdr.cdr_id} takes more than {CDR_BYTES_MAX} bytes here; send fewer periods")
        unit.emit(received)

    async def _agreement(
        self, unit: UnitOfWork, emsp_id: PartyId, cpo_id: PartyId, at: datetime
    ) -> RoamingAgreement | None:
        try:
            return await agreement_at(unit, emsp_id, cpo_id, at)
        except NoAgreementInForce:
            return None

    async def _time_zone(
        self, unit: UnitOfWork, emsp_id: PartyId, cdr: v221.CDR, agreement: RoamingAgreement | None
    ) -> str:
        """The location's zone as the CPO pushed it; for one never pushed, the agreement's."""
        known = await unit.table(LOCATION).get(emsp_id, cdr.owner, cdr.cdr_location.id)
        if known is not None:
            return known.location.time_zone
        return agreement.time_zone if agreement else "UTC"


_EXACT: Final = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)


def _fields(body: bytes) -> dict[str, Any]:
    """Read the fields of a partial object, numbers exact. Raises `NotJSON`, `NotAnOCPIObject`."""
    try:
        return _EXACT.decode(body)
    except msgspec.ValidationError as error:
        raise NotAnOCPIObject("object", str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotJSON(str(error)) from error


def _refuse_unlikely_session(session: v221.Session) -> None:
    starts = (period.start_date_time for period in session.charging_periods or ())
    _refuse_unlikely(session.start_date_time, session.end_date_time or session.last_updated, *starts)


def _refuse_unlikely(*moments: datetime) -> None:
    """Raise `InvalidParameters` for a moment no charge can have; near the calendar's ends even sums overflow."""
    try:
        require_likely(*moments)
    except UnlikelyMoment as error:
        raise InvalidParameters(str(error)) from error


def _location_row(emsp_id: PartyId, location: v221.Location) -> LocationRecord:
    return LocationRecord(
        party_id=emsp_id,
        cpo_id=location.owner,
        location_id=location.id,
        location=location,
        last_updated=location.last_updated,
    )


_BELOW: Final = (("evses", "uid", "evse_uid"), ("connectors", "id", "connector_id"))
"""Levels below a location: the field that lists them, their id, and what a path calls it."""


def _change(document: dict[str, Any], path: Mapping[str, str], body: Mapping[str, Any], *, is_whole: bool) -> None:
    """Change a location, one of its EVSEs or one of their connectors in place; parents take over `last_updated`."""
    below = [level for level in _BELOW if level[2] in path]
    chain = [document]
    for field, id_field, name in below:
        chain.append(_child(chain[-1], field, id_field, path[name], body, may_add=is_whole))
    target = chain[-1]
    if is_whole:
        target.clear()
    target |= body
    for _, id_field, name in below[-1:]:
        if str(target.get(id_field, "")).lower() != path[name].lower():
            raise InvalidParameters(f"{id_field} differs between URL and body")
    for parent in chain[:-1]:
        parent["last_updated"] = body.get("last_updated", parent["last_updated"])


def _child(
    parent: dict[str, Any], field: str, id_field: str, wanted: str, body: Mapping[str, Any], *, may_add: bool
) -> dict[str, Any]:
    children: list[dict[str, Any]] = parent.setdefault(field, [])
    for child in children:
        if str(child[id_field]).lower() == wanted.lower():
            return child
    is_new = may_add and str(body.get(id_field, "")).lower() == wanted.lower()
    if not is_new:
        raise NoSuchObject(field.removesuffix("s"))
    children.append({})
    return children[-1]


def _refuse_foreign_token(token: v221.CdrToken, call: OCPICall) -> None:
    if token.owner != call.own_party:
        raise InvalidParameters(f"a token of {token.owner} is not for {call.own_party}")


def _running_cost_e4(quote: QuoteRecord, session: Session) -> int:
    """What the driver owes so far, gross; a session whose periods can't be priced yet costs nothing yet."""
    if not session.periods:
        return 0
    last = max(period.started_at for period in session.periods)
    try:
        priced = price_session(
            quote.quote.tariff,
            session.periods,
            ended_at=max(session.ended_at or session.last_updated, last),
            time_zone=quote.quote.time_zone,
        )
    except MalformedInput:
        return 0
    return gross_e4(priced.total)
