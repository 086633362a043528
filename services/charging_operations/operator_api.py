"""The operator's HTTP API, JSON by the codec of events and records; every route needs a token of the party, or ours.

    PUT  /{party}                                {name}: host a CPO (internal token only)
    GET  /{party}/public-key                     the key agreements are signed with
    PUT  /{party}/locations/{location_id}        LocationTerms
    PUT  /{party}/stations/{station_id}          StationTerms
    PUT  /{party}/stations/{station_id}/credential   StationCredential, handed to the gateway
    POST /{party}/stations/{station_id}/certificates CertificateRequest: the gateway's own CA signs; GET lists
    POST /{party}/stations/{station_id}/certificates/{serial_number}/revoke
    POST /{party}/stations/{station_id}/commands/{action}   the payload of any CALL of the station's OCPP version
    GET  /{party}/stations/{station_id}/notices  what the station told; `action` names one kind
    PUT  /{party}/tariffs/{tariff_id}            TariffTerms: a version in force from now on
    PUT  /{party}/tariffs/{tariff_id}/market     MarketFollowing: the tariff follows market prices
    POST /{party}/tariffs/{tariff_id}/market     MarketPrices: further prices make a new version
    PUT  /{party}/agreements                     AgreementProposal: signed in the CPO's name
    PUT  /{party}/subscribers/{party_id}         a navigation provider is told of locations
    GET  /{party}/locations, stations, tariffs, agreements, sessions, cdrs, quarantine, disputes
    GET  /{party}/energy                         the energy ledger of both directions
    POST /{party}/quarantine/{quarantine_id}/resolve   Resolution
    POST /{party}/cdrs/{cdr_id}/credit           CreditRequest

What stations are made of is `station_api`'s. Lists take `offset` and `limit` (at most 1,000).
Nothing personal is shown.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

import msgspec
from fastapi import FastAPI, Request
from fastapi.responses import Response

from emobility.domain.errors import EmobilityError, MalformedInput, Unavailable
from emobility.domain.identifiers import MalformedPartyId, PartyId, Role
from emobility.domain.tariff.market import MarketPrice, MarketTerms
from emobility.events import codec
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi.headers import CORRELATION_ID, message_id
from emobility.protocols.station_control.messages import (
    CertificateRequest,
    CommandResult,
    OCPPCall,
    StationCommand,
    StationCredential,
)
from emobility.runtime.access import Access
from services.charging_operations.agreements import AgreementDesk, AgreementProposal
from services.charging_operations.credits import CreditDesk, CreditRequest
from services.charging_operations.ledger import EnergyDirection, energy_ledger
from services.charging_operations.ocpi_modules import OCPIModules
from services.charging_operations.office import NotFound, NotUnderstood, Office, require_hosted
from services.charging_operations.publishing import newest_tariffs
from services.charging_operations.quarantine import QuarantineDesk, Resolution
from services.charging_operations.records import (
    AGREEMENT,
    CDRS,
    CPO,
    DISPUTE,
    EVSES,
    LOCATION,
    QUARANTINE,
    SESSION,
    STATION,
    STATION_NOTICE,
    CDRRecord,
    HostedCPO,
    SessionRecord,
)
from services.charging_operations.station_notices import shown_notice
from services.charging_operations.stations import LocationTerms, StationDesk, StationTerms
from services.charging_operations.tariffs import TariffDesk, TariffTerms

T = TypeVar("T")

BODY_BYTES_MAX: Final = 1_000_000
"""A tariff that follows a market for a year has some 10,000 prices."""
ROWS_MAX: Final = 1_000
COMMAND_TIMEOUT_S: Final = 30
COMMAND_TIMEOUT_S_MAX: Final = 120
COMMAND_STATUS: Final = {
    CommandResult.STATION_OFFLINE: 409,
    CommandResult.MALFORMED: 422,
    CommandResult.NOT_SUPPORTED: 501,
    CommandResult.TIMED_OUT: 504,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRequest:
    """PUT /{party}."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketFollowing:
    """PUT market: terms and the prices known so far."""

    terms: MarketTerms
    prices: tuple[MarketPrice, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketPrices:
    """POST market: prices as they become known; intervals that ended by `keep_from` leave the new version."""

    prices: tuple[MarketPrice, ...]
    keep_from: datetime | None = None


Handler = Callable[[Request, PartyId], Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorAPI:
    """Routes for all CPOs hosted here."""

    office: Office
    access: Access
    stations: StationDesk
    tariffs: TariffDesk
    agreements: AgreementDesk
    quarantine: QuarantineDesk
    credits: CreditDesk
    modules: OCPIModules

    def mount_on(self, app: FastAPI) -> None:
        """Add the routes and the mapping of errors to HTTP."""
        app.add_exception_handler(EmobilityError, error_answer)
        app.add_api_route("/{party}", self.host_cpo, methods=["PUT"])
        for method, path, handler in self._routes():
            app.add_api_route(f"/{{party}}{path}", self.guarded(handler), methods=[method])

    def _routes(self) -> list[tuple[str, str, Handler]]:
        return [
            ("GET", "/public-key", self.public_key),
            ("PUT", "/locations/{location_id}", self.put_location),
            ("PUT", "/stations/{station_id}", self.put_station),
            ("PUT", "/stations/{station_id}/credential", self.put_credential),
            ("POST", "/stations/{station_id}/certificates", self.issue_certificate),
            ("GET", "/stations/{station_id}/certificates", self.list_certificates),
            ("POST", "/stations/{station_id}/certificates/{serial_number}/revoke", self.revoke_certificate),
            ("POST", "/stations/{station_id}/commands/{action}", self.command),
            ("GET", "/stations/{station_id}/notices", self.list_notices),
            ("PUT", "/tariffs/{tariff_id}", self.put_tariff),
            ("PUT", "/tariffs/{tariff_id}/market", self.follow_market),
            ("POST", "/tariffs/{tariff_id}/market", self.add_market_prices),
            ("PUT", "/agreements", self.put_agreement),
            ("PUT", "/subscribers/{subscriber_id}", self.subscribe),
            ("GET", "/locations", self.list_locations),
            ("GET", "/stations", self.list_stations),
            ("GET", "/tariffs", self.list_tariffs),
            ("GET", "/agreements", self.list_agreements),
            ("GET", "/sessions", self.list_sessions),
            ("GET", "/cdrs", self.list_cdrs),
            ("GET", "/quarantine", self.list_quarantine),
            ("GET", "/disputes", self.list_disputes),
            ("GET", "/energy", self.show_energy),
            ("POST", "/quarantine/{quarantine_id}/resolve", self.resolve),
            ("POST", "/cdrs/{cdr_id}/credit", self.credit),
        ]

    def guarded(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """Return a handler that answers the party itself, or us, and nobody else."""

        async def guarded(request: Request) -> Response:
            party_id = party_of(request.path_params["party"])
            await self.access.party(request, party_id)
            handled = await handler(request, party_id)
            return handled if isinstance(handled, Response) else answer(handled)

        return guarded

    # Set-up

    async def host_cpo(self, request: Request) -> Response:
        """Act for a CPO from now on; only our own processes may ask for it."""
        await self.access.internal(request)
        party_id = party_of(request.path_params["party"])
        asked = await read_body(request, HostRequest)
        async with self.office.ports.units.begin() as unit:
            await unit.table(CPO).put(HostedCPO(party_id=party_id, name=asked.name))
            await self.office.host.add_party(unit, party_id, role=Role.CPO, business_name=asked.name)
            await unit.commit()
        return answer(await self.public_key(request, party_id), 201)

    async def public_key(self, _: Request, party_id: PartyId) -> Any:
        """Show the key that agreements are signed with."""
        async with self.office.ports.units.begin() as unit:
            await require_hosted(unit, party_id)
        return {"party_id": party_id, "public_key": await self.office.ports.signer.public_key(party_id)}

    async def put_location(self, request: Request, party_id: PartyId) -> Any:
        """Enter or change a location."""
        terms = await read_body(request, LocationTerms)
        location_id = request.path_params["location_id"]
        async with self.office.ports.units.begin() as unit:
            location = await self.stations.put_location(
                unit, party_id, location_id, terms, correlation_id=self.correlation_of(request)
            )
            await unit.commit()
        return location

    async def put_station(self, request: Request, party_id: PartyId) -> Any:
        """Enter or change a station."""
        terms = await read_body(request, StationTerms)
        station_id = request.path_params["station_id"]
        async with self.office.ports.units.begin() as unit:
            station = await self.stations.put_station(
                unit, party_id, station_id, terms, correlation_id=self.correlation_of(request)
            )
            await unit.commit()
        return station

    async def put_credential(self, request: Request, party_id: PartyId) -> Any:
        """Hand to the gateway how a station proves itself; its password is not kept here."""
        credential = await read_body(request, StationCredential)
        station_id = await self.station_of(request, party_id)
        await self.office.stations.put_credential(party_id, station_id, credential)
        return {"charging_station_id": station_id}

    async def issue_certificate(self, request: Request, party_id: PartyId) -> Any:
        """Have the gateway's own CA sign a station's CSR; the chain is shown once and not kept."""
        wanted = await read_body(request, CertificateRequest)
        station_id = await self.station_of(request, party_id)
        return await self.office.stations.issue_certificate(party_id, station_id, wanted)

    async def list_certificates(self, request: Request, party_id: PartyId) -> Any:
        """List what the gateway's own CA issued to a station, the newest first."""
        station_id = await self.station_of(request, party_id)
        return await self.office.stations.certificates(party_id, station_id)

    async def revoke_certificate(self, request: Request, party_id: PartyId) -> Any:
        """Revoke one of them for good; a connection that it has opened is closed."""
        station_id = await self.station_of(request, party_id)
        return await self.office.stations.revoke_certificate(party_id, station_id, request.path_params["serial_number"])

    async def command(self, request: Request, party_id: PartyId) -> Response:
        """Have a station called in the words of its own version; its answer comes back whole.

        200 with what the station said, whatever that is; 409 when it is offline, 504 when it did not answer within
        `timeout_s`, 422 when the payload breaks its version's schema, 501 when it, or its version, has no such action.
        """
        payload = await read_body(request, dict[str, Any])
        timeout_s = number_in(request, "timeout_s", COMMAND_TIMEOUT_S)
        if not 1 <= timeout_s <= COMMAND_TIMEOUT_S_MAX:
            raise NotUnderstood(f"timeout_s is 1 to {COMMAND_TIMEOUT_S_MAX}")
        station_id = await self.station_of(request, party_id)
        wanted = StationCommand(
            correlation_id=self.correlation_of(request),
            timeout_s=timeout_s,
            ocpp_call=OCPPCall(action=request.path_params["action"], payload=payload),
        )
        outcome = await self.office.stations.command(party_id, station_id, wanted)
        shown = {"result": outcome.result, "detail": outcome.station_status, "answer": outcome.answer}
        return answer(shown, COMMAND_STATUS.get(outcome.result, 200))

    async def list_notices(self, request: Request, party_id: PartyId) -> Any:
        """List what a station told, the newest first."""
        rows = await self.rows_of_station(request, party_id, STATION_NOTICE, "action", order_by=("-occurred_at",))
        return [await shown_notice(self.office.ports.vault, row) for row in rows]

    async def rows_of_station(
        self,
        request: Request,
        party_id: PartyId,
        spec: TableSpec[T],
        *texts: str,
        numbers: tuple[str, ...] = (),
        order_by: tuple[str, ...] = (),
    ) -> list[T]:
        """Return a page of a station's rows; `texts` and `numbers` are the fields that a query may narrow.

        Raises `NotFound`, `NotUnderstood`.
        """
        station_id = await self.station_of(request, party_id)
        where: dict[str, Any] = {"party_id": party_id, "charging_station_id": station_id}
        where |= {name: request.query_params[name] for name in texts if name in request.query_params}
        where |= {name: number_in(request, name, 0) for name in numbers if name in request.query_params}
        return await self._rows(request, party_id, spec, where=where, order_by=order_by)

    async def station_of(self, request: Request, party_id: PartyId) -> str:
        """Return the station a path names. Raises `NotFound`."""
        station_id: str = request.path_params["station_id"]
        async with self.office.ports.units.begin() as unit:
            if await unit.table(STATION).get(party_id, station_id) is None:
                raise NotFound(f"no station {station_id}")
        return station_id

    async def put_tariff(self, request: Request, party_id: PartyId) -> Any:
        """Publish a version of a tariff."""
        terms = await read_body(request, TariffTerms)
        async with self.office.ports.units.begin() as unit:
            version = await self.tariffs.publish(
                unit, party_id, request.path_params["tariff_id"], terms, correlation_id=self.correlation_of(request)
            )
            await unit.commit()
        return version

    async def follow_market(self, request: Request, party_id: PartyId) -> Any:
        """Let a tariff follow market prices."""
        asked = await read_body(request, MarketFollowing)
        terms = asked.terms
        if terms.party_id != party_id or terms.tariff_id != request.path_params["tariff_id"]:
            raise NotUnderstood("party or tariff differ between URL and body")
        async with self.office.ports.units.begin() as unit:
            version = await self.tariffs.follow_market(
                unit, terms, asked.prices, correlation_id=self.correlation_of(request)
            )
            await unit.commit()
        return version

    async def add_market_prices(self, request: Request, party_id: PartyId) -> Any:
        """Take further prices in."""
        asked = await read_body(request, MarketPrices)
        async with self.office.ports.units.begin() as unit:
            version = await self.tariffs.add_market_prices(
                unit,
                party_id,
                request.path_params["tariff_id"],
                asked.prices,
                keep_from=asked.keep_from,
                correlation_id=self.correlation_of(request),
            )
            await unit.commit()
        return version

    async def put_agreement(self, request: Request, party_id: PartyId) -> Any:
        """Sign an agreement; the answer carries both signatures as far as they are known."""
        proposal = await read_body(request, AgreementProposal)
        async with self.office.ports.units.begin() as unit:
            record = await self.agreements.put(unit, party_id, proposal, correlation_id=self.correlation_of(request))
            await unit.commit()
        return {"state": record.state, "agreement": record.agreement}

    async def subscribe(self, request: Request, party_id: PartyId) -> Any:
        """Tell a navigation provider of locations."""
        subscriber_id = party_of(request.path_params["subscriber_id"])
        async with self.office.ports.units.begin() as unit:
            await require_hosted(unit, party_id)
            await self.modules.subscribe(unit, party_id, subscriber_id, correlation_id=self.correlation_of(request))
            await unit.commit()
        return {"party_id": subscriber_id}

    # Looking

    async def list_locations(self, request: Request, party_id: PartyId) -> Any:
        """List locations."""
        return [row.location for row in await self._rows(request, party_id, LOCATION)]

    async def list_stations(self, request: Request, party_id: PartyId) -> Any:
        """List stations with the state of their EVSEs."""
        rows = await self._rows(request, party_id, STATION)
        async with self.office.ports.units.begin() as unit:
            evses = await unit.table(EVSES).select({"party_id": party_id})
        status = {row.evse_uid: row.status for row in evses}
        return [
            {
                "charging_station_id": row.charging_station_id,
                "location_id": row.location_id,
                "tariff_ids": row.tariff_ids,
                "evses": [{"evse": evse, "status": status.get(evse.evse_uid)} for evse in row.station.evses],
            }
            for row in rows
        ]

    async def list_tariffs(self, _: Request, party_id: PartyId) -> Any:
        """List the newest version of each tariff."""
        async with self.office.ports.units.begin() as unit:
            return await newest_tariffs(unit, party_id)

    async def list_agreements(self, request: Request, party_id: PartyId) -> Any:
        """List agreements, all versions."""
        return await self._rows(request, party_id, AGREEMENT)

    async def list_sessions(self, request: Request, party_id: PartyId) -> Any:
        """List sessions."""
        return [_shown_session(row) for row in await self._rows(request, party_id, SESSION)]

    async def list_cdrs(self, request: Request, party_id: PartyId) -> Any:
        """List CDRs and credits."""
        return [_shown_cdr(row) for row in await self._rows(request, party_id, CDRS)]

    async def list_quarantine(self, request: Request, party_id: PartyId) -> Any:
        """List what waits in quarantine and what was decided."""
        return await self._rows(request, party_id, QUARANTINE)

    async def list_disputes(self, request: Request, party_id: PartyId) -> Any:
        """List disputes received."""
        return await self._rows(request, party_id, DISPUTE)

    async def show_energy(self, _: Request, party_id: PartyId) -> Any:
        """Show where each metered Wh is."""
        ledgers = {each: await energy_ledger(self.office.ports.units, party_id, each) for each in EnergyDirection}
        return {
            each.value.lower(): {"ledger": ledger, "difference_wh": ledger.difference_wh}
            for each, ledger in ledgers.items()
        }

    async def _rows(
        self,
        request: Request,
        party_id: PartyId,
        spec: TableSpec[T],
        *,
        where: dict[str, Any] | None = None,
        order_by: tuple[str, ...] = (),
    ) -> list[T]:
        async with self.office.ports.units.begin() as unit:
            return await unit.table(spec).select(
                where or {"party_id": party_id},
                order_by=order_by,
                offset=number_in(request, "offset", 0),
                limit=min(number_in(request, "limit", ROWS_MAX), ROWS_MAX),
            )

    # Deciding

    async def resolve(self, request: Request, party_id: PartyId) -> Any:
        """Bill, waive or write off what waits in quarantine."""
        resolution = await read_body(request, Resolution)

        async def decide(unit: UnitOfWork) -> Any:
            return await self.quarantine.resolve(
                unit,
                party_id,
                request.path_params["quarantine_id"],
                resolution,
                correlation_id=self.correlation_of(request),
            )

        return await self._committed(decide)

    async def credit(self, request: Request, party_id: PartyId) -> Any:
        """Take a CDR back and perhaps replace it."""
        asked = await read_body(request, CreditRequest)

        async def decide(unit: UnitOfWork) -> Any:
            credit, replacement = await self.credits.credit(
                unit, party_id, request.path_params["cdr_id"], asked, correlation_id=self.correlation_of(request)
            )
            return {"credit_id": credit.cdr_id, "replacement_id": replacement.cdr_id if replacement else None}

        return await self._committed(decide)

    async def _committed(self, decide: Callable[[UnitOfWork], Awaitable[Any]]) -> Any:
        async with self.office.ports.units.begin() as unit:
            decided = await decide(unit)
            await unit.commit()
        return decided

    def correlation_of(self, request: Request) -> str:
        """Return the caller's correlation id, or a new one."""
        return message_id(request.headers.get(CORRELATION_ID)) or self.office.ports.randomness.uuid()


def _shown_session(row: SessionRecord) -> dict[str, Any]:
    session = row.session
    return {
        "session_id": row.session_id,
        "emsp_id": row.emsp_id,
        "status": session.status,
        "started_at": session.started_at,
        "ended_at": session.ended_at,
        "evse_uid": session.evse_uid,
        "energy_import_wh": session.energy_import_wh,
        "energy_export_wh": session.energy_export_wh,
        "currency": session.currency,
        "total_cost": session.total_cost,
        "tariff_hash": session.tariff_hash,
        "charging_station_id": row.charging_station_id,
        "transaction_id": row.transaction_id,
    }


def _shown_cdr(row: CDRRecord) -> dict[str, Any]:
    cdr = row.cdr
    return {
        "cdr_id": row.cdr_id,
        "session_id": row.session_id,
        "emsp_id": row.emsp_id,
        "is_credit": row.is_credit,
        "credit_reference_id": cdr.credit_reference_id,
        "credited_by": row.credited_by,
        "started_at": cdr.started_at,
        "ended_at": cdr.ended_at,
        "energy_import_wh": row.energy_import_wh,
        "energy_export_wh": row.energy_export_wh,
        "currency": cdr.currency,
        "total_cost": cdr.total_cost,
        "tariff_id": cdr.tariff.tariff_id,
        "tariff_hash": cdr.tariff_hash,
        "is_signed": cdr.signed_data is not None,
        "remark": cdr.remark,
        "issued_at": cdr.issued_at,
    }


async def read_body(request: Request, kind: type[T]) -> T:
    """Read a JSON body. Raises `NotUnderstood`."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > BODY_BYTES_MAX:
            raise NotUnderstood(f"more than {BODY_BYTES_MAX} bytes")
    try:
        return codec.decode(bytes(body), kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise NotUnderstood(str(error)) from error


def answer(value: Any, status_code: int = 200) -> Response:
    """Write a value as JSON."""
    return Response(codec.encode(value), status_code=status_code, media_type="application/json")


async def error_answer(_: Request, error: Exception) -> Response:
    """Map an error to HTTP: a name for machines, a sentence for people."""
    status = 409
    if isinstance(error, NotFound):
        status = 404
    elif isinstance(error, MalformedInput):
        status = 422
    elif isinstance(error, Unavailable):
        status = 503
    return answer({"error": type(error).__name__, "detail": str(error)}, status)


def party_of(text: str) -> PartyId:
    """Return the party a path names. Raises `NotFound`: what is no party id names nobody."""
    try:
        return PartyId(text)
    except MalformedPartyId as error:
        raise NotFound("no such party") from error


def number_in(request: Request, name: str, default: int) -> int:
    """Return a whole number of the query. Raises `NotUnderstood`."""
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise NotUnderstood(f"{name} is no whole number")
    return int(text)
