"""The operator's HTTP API, JSON by the codec of events and records; every route needs a token of the party, or ours.

Set-up, commands and books; the routes and what they take and answer are declared in `OperatorAPI.mount_on`, and told by
`/operations/openapi.json` and `wattroam openapi`. What stations are made of is `station_api`'s.
Nothing personal is shown.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

from fastapi import Request
from fastapi.responses import Response

from emobility.domain.charging_station import ChargingStation, Location
from emobility.domain.identifiers import PartyId, Role
from emobility.domain.tariff.market import MarketPrice, MarketTerms
from emobility.events import codec
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi.headers import CORRELATION_ID, message_id
from emobility.protocols.station_control.messages import (
    CertificateRequest,
    CommandOutcome,
    CommandResult,
    StationCertificate,
    StationCredential,
)
from emobility.runtime.access import TokenRole
from services.charging_operations.agreements import AgreementDesk, AgreementProposal
from services.charging_operations.charging_profiles import ChargingProfileDesk
from services.charging_operations.credits import CreditDesk, CreditRequest
from services.charging_operations.ledger import EnergyDirection, energy_ledger
from services.charging_operations.ocpi_modules import OCPIModules
from services.charging_operations.office import NotFound, NotUnderstood, Office, require_hosted
from services.charging_operations.proposals import Acceptance, ProposalDesk
from services.charging_operations.quarantine import QuarantineDesk, Resolution
from services.charging_operations.records import (
    AGREEMENT,
    CDRS,
    CPO,
    DISPUTE,
    EVSES,
    LOCATION,
    NEWEST_TARIFF,
    QUARANTINE,
    SESSION,
    STATION,
    STATION_NOTICE,
    AgreementRecord,
    DisputeRecord,
    HostedCPO,
    QuarantineRecord,
    QuarantineState,
    TariffVersion,
)
from services.charging_operations.routes import (
    FROM_TO,
    PAGE,
    ROWS_MAX,
    Query,
    Route,
    RouteTable,
    asked,
    narrowed,
    page_of,
    party_of,
    period_of,
    read_body,
)
from services.charging_operations.shown import (
    AgreementShown,
    CDRShown,
    CommandAnswer,
    CreditShown,
    EnergyShown,
    NoticeShown,
    PartyNamed,
    PublicKey,
    SessionShown,
    StationNamed,
    StationShown,
    shown_cdr,
    shown_session,
    shown_station,
)
from services.charging_operations.station_calls import COMMAND_TIMEOUT_S
from services.charging_operations.station_notices import shown_notice
from services.charging_operations.stations import LocationTerms, StationDesk, StationTerms
from services.charging_operations.tariffs import TariffDesk, TariffTerms

T = TypeVar("T")

_OF_EMSP: Final = Query("emsp_id", PartyId, "only of this eMSP")
_OF_STATION: Final = Query("charging_station_id", str, "only of this station")
_OF_TRANSACTION: Final = Query("transaction_id", str, "only of this transaction")
SESSION_QUERY: Final = (*PAGE, *FROM_TO, _OF_EMSP, _OF_STATION, _OF_TRANSACTION)
CDR_QUERY: Final = (
    *(*PAGE, *FROM_TO, _OF_EMSP),
    Query("session_id", str, "only of this session"),
    Query("is_credit", bool, "true: only credits; false: only CDRs"),
)
WAITING_QUERY: Final = (
    *(*PAGE, *FROM_TO, _OF_STATION, _OF_TRANSACTION),
    Query("state", QuarantineState, "only in this state"),
)
DISPUTE_QUERY: Final = (*PAGE, *FROM_TO, _OF_EMSP, Query("cdr_id", str, "only about this CDR"))
NOTICE_QUERY: Final = (*PAGE, *FROM_TO, Query("action", str, "only notices of this OCPP action"))
COMMAND_TIMEOUT_S_MAX: Final = 120
COMMAND_STATUS_WORDS: Final = {
    409: "the station is offline",
    422: "the payload breaks the schema of the station's version; nothing was sent",
    501: "the station, or its version, has no such action",
    504: "the station did not answer in time",
}
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


def answered(outcome: CommandOutcome) -> Response:
    """Show what became of a CALL; the station's answer comes whole, its numbers as numbers."""
    shown = CommandAnswer(result=outcome.result, detail=outcome.station_status, answer=outcome.answer)
    status_code = COMMAND_STATUS.get(outcome.result, 200)
    return Response(codec.encode_with_payload(shown), status_code=status_code, media_type="application/json")


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorAPI:
    """Routes for all CPOs hosted here."""

    office: Office
    stations: StationDesk
    tariffs: TariffDesk
    agreements: AgreementDesk
    quarantine: QuarantineDesk
    credits: CreditDesk
    charging: ChargingProfileDesk
    modules: OCPIModules

    def mount_on(self, routes: RouteTable) -> None:
        """Add the routes."""
        station, tariff = "/stations/{station_id}", "/tariffs/{tariff_id}"
        certificates = f"{station}/certificates"
        routes.add(
            "Set-up",
            [
                Route("PUT", "", self.host_cpo, HostRequest, PublicKey, status=201, is_internal=True),
                Route("GET", "/public-key", self.public_key, answers=PublicKey),
                Route("PUT", "/locations/{location_id}", self.put_location, LocationTerms, Location),
                Route("PUT", station, self.put_station, StationTerms, ChargingStation),
                Route("PUT", f"{station}/credential", self.put_credential, StationCredential, StationNamed),
                Route("POST", certificates, self.issue_certificate, CertificateRequest, StationCertificate),
                Route("GET", certificates, self.list_certificates, answers=list[StationCertificate]),
                Route(
                    "POST",
                    f"{certificates}/{{serial_number}}/revoke",
                    self.revoke_certificate,
                    None,
                    StationCertificate,
                ),
                Route("PUT", tariff, self.put_tariff, TariffTerms, TariffVersion),
                Route("PUT", f"{tariff}/market", self.follow_market, MarketFollowing, TariffVersion),
                Route("POST", f"{tariff}/market", self.add_market_prices, MarketPrices, TariffVersion),
                Route("PUT", "/agreements", self.put_agreement, AgreementProposal, AgreementShown),
                Route("PUT", "/subscribers/{subscriber_id}", self.subscribe, None, PartyNamed),
            ],
            writes=TokenRole.OWNER,
        )
        routes.add(
            "Commands",
            [
                Route(
                    "POST",
                    f"{station}/commands/{{action}}",
                    self.command,
                    dict[str, Any],
                    CommandAnswer,
                    (Query("timeout_s", int, f"how long it may take, 1 to {COMMAND_TIMEOUT_S_MAX}"),),
                    also=COMMAND_STATUS_WORDS,
                )
            ],
            writes=TokenRole.OPERATOR,
        )
        routes.add(
            "Books",
            [
                Route("GET", "/locations", self.list_locations, None, list[Location], PAGE),
                Route("GET", "/stations", self.list_stations, None, list[StationShown], PAGE),
                Route("GET", "/tariffs", self.list_tariffs, None, list[TariffVersion], PAGE),
                Route("GET", "/agreements", self.list_agreements, None, list[AgreementRecord], PAGE),
                Route("GET", "/sessions", self.list_sessions, None, list[SessionShown], SESSION_QUERY),
                Route("GET", "/cdrs", self.list_cdrs, None, list[CDRShown], CDR_QUERY),
                Route("GET", "/quarantine", self.list_quarantine, None, list[QuarantineRecord], WAITING_QUERY),
                Route("GET", "/disputes", self.list_disputes, None, list[DisputeRecord], DISPUTE_QUERY),
                Route("GET", "/energy", self.show_energy, None, dict[str, EnergyShown]),
                Route("POST", "/quarantine/{quarantine_id}/resolve", self.resolve, Resolution, QuarantineRecord),
                Route("POST", "/cdrs/{cdr_id}/credit", self.credit, CreditRequest, CreditShown),
                Route("POST", "/disputes/{cdr_id}/accept", self.accept_proposal, Acceptance, CreditShown),
                Route("GET", f"{station}/notices", self.list_notices, None, list[NoticeShown], NOTICE_QUERY),
            ],
            writes=TokenRole.OWNER,
        )

    # Set-up

    async def host_cpo(self, request: Request, party_id: PartyId) -> Any:
        """Act for a CPO from now on; only our own processes may ask for it."""
        wanted = await read_body(request, HostRequest)
        async with self.office.ports.units.begin() as unit:
            await unit.table(CPO).put(HostedCPO(party_id=party_id, name=wanted.name))
            await self.office.host.add_party(unit, party_id, role=Role.CPO, business_name=wanted.name)
            await unit.commit()
        return await self.public_key(request, party_id)

    async def public_key(self, _: Request, party_id: PartyId) -> Any:
        """Show the key that agreements are signed with."""
        async with self.office.ports.units.begin() as unit:
            await require_hosted(unit, party_id)
        return PublicKey(party_id=party_id, public_key=await self.office.ports.signer.public_key(party_id))

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
        return StationNamed(charging_station_id=station_id)

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
        timeout_s = asked(request, "timeout_s", COMMAND_TIMEOUT_S)
        if not 1 <= timeout_s <= COMMAND_TIMEOUT_S_MAX:
            raise NotUnderstood(f"timeout_s is 1 to {COMMAND_TIMEOUT_S_MAX}")
        station_id = await self.station_of(request, party_id)
        action = request.path_params["action"]
        told: dict[str, Any] = {"correlation_id": self.correlation_of(request), "timeout_s": timeout_s}
        return answered(await self.charging.command(party_id, station_id, action, payload, **told))

    async def list_notices(self, request: Request, party_id: PartyId) -> Any:
        """List what a station told, the newest first."""
        rows = await self.rows_of_station(
            request, party_id, STATION_NOTICE, "action", at="occurred_at", order_by=("-occurred_at",)
        )
        return [await shown_notice(self.office.ports.vault, row) for row in rows]

    async def rows_of_station(
        self,
        request: Request,
        party_id: PartyId,
        spec: TableSpec[T],
        *narrowing: str,
        at: str = "",
        order_by: tuple[str, ...] = (),
    ) -> list[T]:
        """Return a page of a station's rows, as `rows` does. Raises `NotFound`."""
        of_station = {"charging_station_id": await self.station_of(request, party_id)}
        return await self.rows(request, party_id, spec, *narrowing, where=of_station, at=at, order_by=order_by)

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
        wanted = await read_body(request, MarketFollowing)
        terms = wanted.terms
        if terms.party_id != party_id or terms.tariff_id != request.path_params["tariff_id"]:
            raise NotUnderstood("party or tariff differ between URL and body")
        async with self.office.ports.units.begin() as unit:
            version = await self.tariffs.follow_market(
                unit, terms, wanted.prices, correlation_id=self.correlation_of(request)
            )
            await unit.commit()
        return version

    async def add_market_prices(self, request: Request, party_id: PartyId) -> Any:
        """Take further prices in."""
        wanted = await read_body(request, MarketPrices)
        async with self.office.ports.units.begin() as unit:
            version = await self.tariffs.add_market_prices(
                unit,
                party_id,
                request.path_params["tariff_id"],
                wanted.prices,
                keep_from=wanted.keep_from,
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
        return AgreementShown(state=record.state, agreement=record.agreement)

    async def subscribe(self, request: Request, party_id: PartyId) -> Any:
        """Tell a navigation provider of locations."""
        subscriber_id = party_of(request.path_params["subscriber_id"])
        async with self.office.ports.units.begin() as unit:
            await require_hosted(unit, party_id)
            await self.modules.subscribe(unit, party_id, subscriber_id, correlation_id=self.correlation_of(request))
            await unit.commit()
        return PartyNamed(party_id=subscriber_id)

    # Looking

    async def list_locations(self, request: Request, party_id: PartyId) -> Any:
        """List locations."""
        return [row.location for row in await self.rows(request, party_id, LOCATION)]

    async def list_stations(self, request: Request, party_id: PartyId) -> Any:
        """List stations with the state of their EVSEs."""
        rows = await self.rows(request, party_id, STATION)
        async with self.office.ports.units.begin() as unit:
            evses = await unit.table(EVSES).select({"party_id": party_id})
        status = {row.evse_uid: row.status for row in evses}
        return [shown_station(row, status) for row in rows]

    async def list_tariffs(self, request: Request, party_id: PartyId) -> Any:
        """List the newest version of each tariff."""
        return await self.rows(request, party_id, NEWEST_TARIFF, order_by=("tariff_id",))

    async def list_agreements(self, request: Request, party_id: PartyId) -> Any:
        """List agreements, all versions."""
        return await self.rows(request, party_id, AGREEMENT)

    async def list_sessions(self, request: Request, party_id: PartyId) -> Any:
        """List sessions, the oldest change first; `from` and `to` are about when they changed."""
        narrowing = ("emsp_id", "charging_station_id", "transaction_id")
        by_change = ("last_updated",)
        rows = await self.rows(request, party_id, SESSION, *narrowing, at="last_updated", order_by=by_change)
        return [shown_session(row) for row in rows]

    async def list_cdrs(self, request: Request, party_id: PartyId) -> Any:
        """List CDRs and credits, the oldest first; `from` and `to` are about when they were issued or credited."""
        narrowing = ("emsp_id", "session_id", "is_credit")
        by_change = ("last_updated",)
        rows = await self.rows(request, party_id, CDRS, *narrowing, at="last_updated", order_by=by_change)
        return [shown_cdr(row) for row in rows]

    async def list_quarantine(self, request: Request, party_id: PartyId) -> Any:
        """List what waits in quarantine and what was decided."""
        return await self.rows(
            *(request, party_id, QUARANTINE, "state", "charging_station_id", "transaction_id"), at="quarantined_at"
        )

    async def list_disputes(self, request: Request, party_id: PartyId) -> Any:
        """List disputes received."""
        return await self.rows(request, party_id, DISPUTE, "emsp_id", "cdr_id", at="received_at")

    async def show_energy(self, _: Request, party_id: PartyId) -> Any:
        """Show where each metered Wh is."""
        ledgers = {each: await energy_ledger(self.office.ports.units, party_id, each) for each in EnergyDirection}
        return {
            each.value.lower(): EnergyShown(ledger=ledger, difference_wh=ledger.difference_wh)
            for each, ledger in ledgers.items()
        }

    async def rows(
        self,
        request: Request,
        party_id: PartyId,
        spec: TableSpec[T],
        *narrowing: str,
        where: dict[str, Any] | None = None,
        at: str = "",
        order_by: tuple[str, ...] = (),
        rows_max: int = ROWS_MAX,
    ) -> list[T]:
        """Return a page of a party's rows.

        Args:
            request: Its query says what to show.
            party_id: Whose.
            spec: Of which table.
            narrowing: The fields that the query may give.
            where: What is asked of them besides.
            at: The field that the query's `from` and `to` are about.
            order_by: As `select` takes it.
            rows_max: The longest page.
        """
        offset, limit = page_of(request, rows_max)
        async with self.office.ports.units.begin() as unit:
            return await unit.table(spec).select(
                {"party_id": party_id} | (where or {}) | narrowed(request, *narrowing),
                **period_of(request, at),
                order_by=order_by,
                offset=offset,
                limit=limit,
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
        wanted = await read_body(request, CreditRequest)

        async def decide(unit: UnitOfWork) -> Any:
            credit, replacement = await self.credits.credit(
                unit, party_id, request.path_params["cdr_id"], wanted, correlation_id=self.correlation_of(request)
            )
            return CreditShown(credit_id=credit.cdr_id, replacement_id=replacement.cdr_id if replacement else None)

        return await self._committed(decide)

    async def accept_proposal(self, request: Request, party_id: PartyId) -> Any:
        """End a dispute as its eMSP proposes, if our own pricing gives the same amounts."""
        wanted = await read_body(request, Acceptance)

        async def decide(unit: UnitOfWork) -> Any:
            desk = ProposalDesk(credits=self.credits)
            credit, replacement = await desk.accept(
                unit, party_id, request.path_params["cdr_id"], wanted, correlation_id=self.correlation_of(request)
            )
            return CreditShown(credit_id=credit.cdr_id, replacement_id=replacement.cdr_id)

        return await self._committed(decide)

    async def _committed(self, decide: Callable[[UnitOfWork], Awaitable[Any]]) -> Any:
        async with self.office.ports.units.begin() as unit:
            decided = await decide(unit)
            await unit.commit()
        return decided

    def correlation_of(self, request: Request) -> str:
        """Return the caller's correlation id, or a new one."""
        return message_id(request.headers.get(CORRELATION_ID)) or self.office.ports.randomness.uuid()
