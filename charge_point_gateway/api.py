"""The gateway's HTTP API: commands, credentials, presence, health. For our own processes, by the internal token."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from cryptography.hazmat.primitives.serialization import Encoding
from fastapi import FastAPI, HTTPException, Query, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from charge_point_gateway.certificates import CertificateRequestRefused
from charge_point_gateway.commands import NotOneCommand
from charge_point_gateway.message_log import MESSAGES_KEPT_MAX, LoggingRefused
from charge_point_gateway.presence import StationPresenceRow
from charge_point_gateway.quirks import TooManyProfiles
from charge_point_gateway.rpc_errors import OCPPVersion
from charge_point_gateway.security import (
    NO_PASSWORD,
    RotationRefused,
    SecurityProfile,
    StationCredentialRow,
    StationIdentity,
    StationRefused,
    WeakStationPassword,
    station_identity,
)
from charge_point_gateway.station_certificates import NoAuthority, NoSuchCertificate, StationCertificateRow
from emobility.domain.errors import Unavailable
from emobility.domain.identifiers import MalformedPartyId, PartyId
from emobility.protocols.station_control.messages import (
    CertificateEnding,
    CertificateRequest,
    CredentialRotation,
    MessageLogging,
    RotationState,
    StationCertificate,
    StationCommand,
    StationCredential,
    StationCredentialState,
    StationPresence,
)
from emobility.protocols.station_control.quirks import QuirkProfile, QuirkProfileRefused
from emobility.protocols.station_control.server import Guard, json_response, payload_response, read_body

if TYPE_CHECKING:
    from charge_point_gateway.gateway import GatewayService


def build_app(gateway: GatewayService, guard: Guard) -> FastAPI:
    """Return the API of a gateway; `guard` lets only our own processes pass."""
    app = FastAPI(title="Wattroam charge point gateway", docs_url=None, redoc_url=None)

    _add_stations(app, gateway, guard)
    _add_credentials(app, gateway, guard)
    _add_certificates(app, gateway, guard)
    _add_endings(app, gateway, guard)
    _add_messages(app, gateway, guard)
    _add_quirks(app, gateway, guard)
    _add_presence(app, gateway, guard)
    _add_health(app, gateway, guard)

    @app.exception_handler(Unavailable)
    async def unavailable(_request: Request, _error: Exception) -> Response:
        return json_response({"detail": "try again later"}, 503)

    return app


def _add_stations(app: FastAPI, gateway: GatewayService, guard: Guard) -> None:
    @app.post("/stations/{party}/{station}/commands")
    async def command(party: str, station: str, request: Request) -> Response:
        """Send a command; the owner of the station may be another gateway."""
        await guard(request)
        wanted = await read_body(request, StationCommand)
        try:
            outcome = await gateway.command(
                _identity(party, station), wanted, is_forwarded=request.query_params.get("forwarded") == "1"
            )
        except NotOneCommand as error:
            raise HTTPException(422, str(error)) from error
        return payload_response(outcome)


def _add_credentials(app: FastAPI, gateway: GatewayService, guard: Guard) -> None:
    @app.put("/stations/{party}/{station}/credential")
    async def credential(party: str, station: str, request: Request) -> Response:
        """Set how a station proves itself; it counts from its next connection on."""
        await guard(request)
        given = await read_body(request, StationCredential)
        if given.ocpp_version not in {None, *OCPPVersion}:
            raise HTTPException(422, f"ocpp_version is one of {', '.join(OCPPVersion)}")
        if given.security_profile not in {None, *SecurityProfile}:
            raise HTTPException(422, "security_profile is 1, 2 or 3")
        if given.password is None and given.security_profile is None:
            raise HTTPException(422, "password or security_profile is needed")
        lowest = None if given.security_profile is None else SecurityProfile(given.security_profile)
        try:
            await gateway.authenticator.set_password(
                _identity(party, station), given.password, given.ocpp_version, lowest
            )
        except WeakStationPassword as error:
            raise HTTPException(422, str(error)) from error
        return Response(status_code=204)

    @app.get("/stations/{party}/{station}/credential")
    async def credential_state(party: str, station: str, request: Request) -> Response:
        """Tell how a station proves itself, without any secret."""
        await guard(request)
        row = await gateway.authenticator.credential(_identity(party, station))
        if row is None:
            raise HTTPException(404, "this station has no credential")
        return json_response(_credential(row))

    @app.post("/stations/{party}/{station}/credential/rotate")
    async def rotate(party: str, station: str, request: Request) -> Response:
        """Give a connected station a new password; nobody is shown it."""
        await guard(request)
        asked = await read_body(request, dict[str, str])
        try:
            rotation = await gateway.rotate_password(_identity(party, station), asked.get("correlation_id", ""))
        except RotationRefused as error:
            raise HTTPException(409, str(error)) from error
        return json_response(rotation)


def _add_certificates(app: FastAPI, gateway: GatewayService, guard: Guard) -> None:
    @app.post("/stations/{party}/{station}/certificates")
    async def issue(party: str, station: str, request: Request) -> Response:
        """Sign a station's CSR that its operator brings."""
        await guard(request)
        given = await read_body(request, CertificateRequest)
        try:
            row, chain = await gateway.certificates.issue(_identity(party, station), given.csr)
        except NoAuthority as error:
            raise HTTPException(409, str(error)) from error
        except CertificateRequestRefused as error:
            raise HTTPException(422, str(error)) from error
        return json_response(_certificate(row, chain), 201)

    @app.get("/stations/{party}/{station}/certificates")
    async def issued(party: str, station: str, request: Request) -> Response:
        """List what was issued to a station, the newest first."""
        await guard(request)
        return json_response(
            [_certificate(row) for row in await gateway.certificates.issued(_identity(party, station))]
        )

    @app.post("/stations/{party}/{station}/certificates/{serial_number}/revoke")
    async def revoke(party: str, station: str, serial_number: str, request: Request) -> Response:
        """Revoke a certificate for good; a connection that it has opened is closed."""
        await guard(request)
        try:
            row = await gateway.revoke(_identity(party, station), serial_number)
        except NoSuchCertificate as error:
            raise HTTPException(404, str(error)) from error
        return json_response(_certificate(row))


def _add_endings(app: FastAPI, gateway: GatewayService, guard: Guard) -> None:
    @app.get("/certificates/ending")
    async def ending(request: Request) -> Response:
        """List a party's stations whose newest certificate ends before a moment, and our own files that do."""
        await guard(request)
        try:
            query = request.query_params
            party_id, moment = PartyId(query["party"]), datetime.fromisoformat(query["before"]).astimezone(UTC)
        except (KeyError, MalformedPartyId, ValueError, OverflowError) as error:
            raise HTTPException(422, "a party id and an RFC 3339 date-time are needed") from error
        rows = await gateway.certificates.ending(party_id, before=moment)
        stations = [
            CertificateEnding(
                kind="station",
                not_after=row.not_after,
                charging_station_id=row.charging_station_id,
                serial_number=row.serial_number,
            )
            for row in rows
        ]
        own = sorted(gateway.own_certificates.items())
        return json_response(stations + [CertificateEnding(kind=kind, not_after=at) for kind, at in own if at < moment])

    @app.get("/certificates/revoked.pem")
    async def revoked() -> Response:
        """Our CA's revocation list, for whoever else verifies stations; it names serial numbers only."""
        try:
            revocations = await gateway.certificates.revocation_list()
        except NoAuthority as error:
            raise HTTPException(404, str(error)) from error
        return Response(revocations.public_bytes(Encoding.PEM), media_type="application/x-pem-file")


def _add_messages(app: FastAPI, gateway: GatewayService, guard: Guard) -> None:
    @app.put("/stations/{party}/{station}/messages")
    async def keep(party: str, station: str, request: Request) -> Response:
        """Keep what is said with a station, for a time."""
        await guard(request)
        asked = await read_body(request, MessageLogging)
        try:
            await gateway.message_log.begin(_identity(party, station), asked)
        except LoggingRefused as error:
            raise HTTPException(422, str(error)) from error
        return Response(status_code=204)

    @app.delete("/stations/{party}/{station}/messages")
    async def drop(party: str, station: str, request: Request) -> Response:
        """Keep no more, and drop what was kept."""
        await guard(request)
        await gateway.message_log.end(_identity(party, station))
        return Response(status_code=204)

    @app.get("/stations/{party}/{station}/messages")
    async def messages(
        party: str,
        station: str,
        request: Request,
        offset: Annotated[int, Query(ge=0, le=MESSAGES_KEPT_MAX)] = 0,
        limit: Annotated[int, Query(ge=0, le=MESSAGES_KEPT_MAX)] = MESSAGES_KEPT_MAX,
    ) -> Response:
        """List what was kept, the newest first."""
        await guard(request)
        return json_response(await gateway.message_log.kept(_identity(party, station), offset=offset, limit=limit))


def _add_quirks(app: FastAPI, gateway: GatewayService, guard: Guard) -> None:
    @app.put("/quirks/{party}/{name}")
    async def put(party: str, name: str, request: Request) -> Response:
        """Enter or change a party's quirk profile; it counts within seconds at every gateway."""
        await guard(request)
        profile = await read_body(request, QuirkProfile)
        try:
            await gateway.quirks.put(_party(party), name, profile)
        except (QuirkProfileRefused, TooManyProfiles) as error:
            raise HTTPException(422, str(error)) from error
        return Response(status_code=204)

    @app.delete("/quirks/{party}/{name}")
    async def drop(party: str, name: str, request: Request) -> Response:
        """Take one away."""
        await guard(request)
        if not await gateway.quirks.remove(_party(party), name):
            raise HTTPException(404, "no such quirk profile of this party's own")
        return Response(status_code=204)

    @app.get("/quirks/{party}")
    async def in_force(party: str, request: Request) -> Response:
        """List what is in force at a party."""
        await guard(request)
        return json_response(gateway.quirks.of_party(_party(party)))


def _add_presence(app: FastAPI, gateway: GatewayService, guard: Guard) -> None:
    @app.get("/stations/{party}/{station}")
    async def presence(party: str, station: str, request: Request) -> Response:
        """Tell who owns a station."""
        await guard(request)
        row = await gateway.presence.find(_identity(party, station))
        if row is None:
            raise HTTPException(404, "this station was never connected")
        return json_response(_presence(row))

    @app.get("/stations/{party}")
    async def stations(party: str, request: Request) -> Response:
        """List a party's stations that ever connected."""
        await guard(request)
        return json_response([_presence(row) for row in await gateway.presence.of_party(_party(party))])

    @app.post("/stations/{party}/{station}/probe")
    async def probe(party: str, station: str, request: Request) -> Response:
        """Ping a station that this gateway owns under a fence, for another gateway."""
        await guard(request)
        asked = await read_body(request, dict[str, int])
        return json_response({"is_alive": await gateway.probe(_identity(party, station), asked.get("fence", 0))})


def _add_health(app: FastAPI, gateway: GatewayService, guard: Guard) -> None:
    @app.get("/livez")
    async def livez() -> Response:
        """The event loop turns."""
        return json_response({"is_alive": True})

    @app.get("/readyz")
    async def readyz() -> Response:
        """Stations may be sent here."""
        is_ready = await gateway.is_ready()
        return json_response({"is_ready": is_ready}, 200 if is_ready else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        """Prometheus text; labels are bounded and name nobody."""
        return Response(generate_latest(gateway.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/internal/backlog")
    async def backlog(request: Request) -> Response:
        """How much is under way; 0 when a stepped clock may move on."""
        await guard(request)
        return json_response({"pending": gateway.pending})


def _party(party: str) -> PartyId:
    try:
        return PartyId(party)
    except MalformedPartyId as error:
        raise HTTPException(404, "no such party") from error


def _identity(party: str, station: str) -> StationIdentity:
    try:
        return station_identity(party, station)
    except StationRefused as error:
        raise HTTPException(404, "no such station") from error


def _credential(row: StationCredentialRow) -> StationCredentialState:
    rotation = None
    if row.rotation_asked_at is not None:
        is_confirmed = row.old_password_until is not None and len(row.next_password_hashes) == 1
        rotation = CredentialRotation(
            state=RotationState.CONFIRMED if is_confirmed else RotationState.UNCONFIRMED,
            asked_at=row.rotation_asked_at,
            old_good_until=row.old_password_until,
        )
    return StationCredentialState(
        has_password=row.password_hash != NO_PASSWORD or bool(row.next_password_hashes),
        ocpp_version=row.ocpp_version,
        security_profile=row.security_profile,
        rotation=rotation,
    )


def _certificate(row: StationCertificateRow, chain: str | None = None) -> StationCertificate:
    return StationCertificate(
        serial_number=row.serial_number,
        fingerprint=row.fingerprint.hex(),
        issued_at=row.issued_at,
        not_after=row.not_after,
        revoked_at=row.revoked_at,
        certificate_chain=chain,
    )


def _presence(row: StationPresenceRow) -> StationPresence:
    return StationPresence(
        charging_station_id=row.charging_station_id,
        is_online=row.is_online,
        gateway_url=row.gateway_url,
        ocpp_version=row.ocpp_version,
        connected_at=row.connected_at,
    )
