"""Both directions of station_control as callers see them: the gateway asks, the back office commands."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from urllib.parse import quote

import msgspec

from emobility.domain.errors import RuleBroken, Unavailable
from emobility.domain.identifiers import PartyId
from emobility.events import codec
from emobility.ports.authorizer import AuthorizationAnswer, AuthorizationRequest, AuthorizerUnavailable
from emobility.ports.http import EgressRefused, HttpClient, HttpResponse, PeerUnreachable, ResponseTooLarge
from emobility.protocols.station_control.messages import (
    CertificateEnding,
    CertificateRequest,
    CommandOutcome,
    CredentialRotation,
    MessageLogging,
    StationCertificate,
    StationCommand,
    StationCredential,
    StationCredentialState,
    StationMessage,
    StationPresence,
)
from emobility.protocols.station_control.quirks import NamedQuirkProfile, QuirkProfile

AUTHORIZE_TIMEOUT_S: Final = 15.0
"""The back office may have to ask the eMSP through the hub; a station gives its CALL about 30 s."""
CALL_TIMEOUT_S: Final = 5.0
ROTATION_TIMEOUT_S: Final = 40.0
"""A command's time-out and its slack, and the rows before and after it."""
COMMAND_SLACK_S: Final = 5.0
"""How much longer than the station's own time-out the gateway's answer may take."""


REFUSAL_BYTES_SHOWN_MAX: Final = 200


class _Refusal(msgspec.Struct, frozen=True):
    """What the gateway's API says when it refuses."""

    detail: str


class GatewayUnavailable(Unavailable):
    """The gateway did not answer; whether it acted is unknown."""


class GatewayUnreachable(GatewayUnavailable):
    """There was no connection to the gateway: it did not act."""


class GatewayRefused(RuleBroken):
    """The gateway answered with an error of ours or of its own."""

    def __init__(self, *, status: int, detail: str) -> None:
        self.status = status
        self.detail = detail
        super().__init__(f"the gateway answered {status}: {detail}")


def _said(body: bytes) -> str:
    """Return the sentence of an error's body, or its beginning where it has none."""
    try:
        return msgspec.json.decode(body, type=_Refusal).detail
    except msgspec.MsgspecError:
        return body[:REFUSAL_BYTES_SHOWN_MAX].decode(errors="replace")


def _headers(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}", "content-type": "application/json"}


class HttpAuthorizer:
    """The `Authorizer` port over HTTP; `operations_url` is where charging operations is mounted."""

    def __init__(self, http: HttpClient, *, operations_url: str, internal_token: str) -> None:
        self._http = http
        self._url = f"{operations_url.rstrip('/')}/station_control/authorize"
        self._token = internal_token

    async def authorize(self, request: AuthorizationRequest) -> AuthorizationAnswer:
        """Return the decision. Raises `AuthorizerUnavailable` for whatever is not one."""
        try:
            response = await self._http.request(
                "POST",
                self._url,
                headers=_headers(self._token),
                body=codec.encode(request),
                timeout_s=AUTHORIZE_TIMEOUT_S,
            )
        except (Unavailable, RuleBroken) as error:
            raise AuthorizerUnavailable(str(error)) from error
        if response.status != 200:
            raise AuthorizerUnavailable(f"the back office answered {response.status}")
        try:
            return codec.decode(response.body, AuthorizationAnswer)
        except msgspec.MsgspecError as error:
            raise AuthorizerUnavailable("the back office's answer can't be read") from error


class StationControlClient:
    """What the back office asks of the gateway; any gateway will do, it forwards to the owner."""

    def __init__(self, http: HttpClient, *, gateway_url: str, internal_token: str) -> None:
        self._http = http
        self._url = gateway_url.rstrip("/")
        self._token = internal_token

    async def command(
        self, party_id: PartyId, charging_station_id: str, command: StationCommand, *, is_forwarded: bool = False
    ) -> CommandOutcome:
        """Send a command and return what the station said; `is_forwarded`: from one gateway to the owning one.

        Raises:
            GatewayUnavailable: no answer; whether the station got the command is unknown.
            GatewayRefused: the command or the station's name is malformed.
        """
        query = "?forwarded=1" if is_forwarded else ""
        response = await self._request(
            "POST",
            f"{_station(party_id, charging_station_id)}/commands{query}",
            body=codec.encode_with_payload(command),
            timeout_s=command.timeout_s + COMMAND_SLACK_S,
        )
        return codec.decode_with_payload(response.body, CommandOutcome)

    async def put_credential(self, party_id: PartyId, charging_station_id: str, credential: StationCredential) -> None:
        """Set how a station proves itself. Raises `GatewayUnavailable`, `GatewayRefused`."""
        path = f"{_station(party_id, charging_station_id)}/credential"
        await self._request("PUT", path, body=codec.encode(credential))

    async def credential(self, party_id: PartyId, charging_station_id: str) -> StationCredentialState | None:
        """Return how a station proves itself; None where it can't. Raises `GatewayUnavailable`, `GatewayRefused`."""
        try:
            response = await self._request("GET", f"{_station(party_id, charging_station_id)}/credential")
        except GatewayRefused as error:
            if error.status == 404:
                return None
            raise
        return codec.decode(response.body, StationCredentialState)

    async def rotate_credential(
        self, party_id: PartyId, charging_station_id: str, *, correlation_id: str
    ) -> CredentialRotation:
        """Give a connected station a new password that nobody sees. Raises `GatewayUnavailable`, `GatewayRefused`."""
        response = await self._request(
            "POST",
            f"{_station(party_id, charging_station_id)}/credential/rotate",
            body=codec.encode({"correlation_id": correlation_id}),
            timeout_s=ROTATION_TIMEOUT_S,
        )
        return codec.decode(response.body, CredentialRotation)

    async def ending_certificates(self, party_id: PartyId, *, before: datetime) -> list[CertificateEnding]:
        """Return the certificates of a party's stations, and of the gateway, that end before a moment.

        Raises `GatewayUnavailable`, `GatewayRefused`.
        """
        at = quote(before.isoformat(), safe="")
        response = await self._request("GET", f"/certificates/ending?party={party_id.code}&before={at}")
        return codec.decode(response.body, list[CertificateEnding])

    async def issue_certificate(
        self, party_id: PartyId, charging_station_id: str, request: CertificateRequest
    ) -> StationCertificate:
        """Have the gateway's own CA sign a station's CSR. Raises `GatewayUnavailable`, `GatewayRefused`."""
        path = f"{_station(party_id, charging_station_id)}/certificates"
        response = await self._request("POST", path, body=codec.encode(request))
        return codec.decode(response.body, StationCertificate)

    async def certificates(self, party_id: PartyId, charging_station_id: str) -> list[StationCertificate]:
        """Return what was issued to a station. Raises `GatewayUnavailable`, `GatewayRefused`."""
        response = await self._request("GET", f"{_station(party_id, charging_station_id)}/certificates")
        return codec.decode(response.body, list[StationCertificate])

    async def revoke_certificate(
        self, party_id: PartyId, charging_station_id: str, serial_number: str
    ) -> StationCertificate:
        """Revoke a certificate for good. Raises `GatewayUnavailable`, `GatewayRefused`."""
        station = _station(party_id, charging_station_id)
        response = await self._request("POST", f"{station}/certificates/{quote(serial_number, safe='')}/revoke")
        return codec.decode(response.body, StationCertificate)

    async def presence(self, party_id: PartyId, charging_station_id: str) -> StationPresence | None:
        """Return who owns a station; None if it was never connected. Raises `GatewayUnavailable`, `GatewayRefused`."""
        try:
            response = await self._request("GET", _station(party_id, charging_station_id))
        except GatewayRefused as error:
            if error.status == 404:
                return None
            raise
        return codec.decode(response.body, StationPresence)

    async def stations(self, party_id: PartyId) -> list[StationPresence]:
        """Return the stations of a party that ever connected. Raises `GatewayUnavailable`, `GatewayRefused`."""
        response = await self._request("GET", f"/stations/{party_id.code}")
        return codec.decode(response.body, list[StationPresence])

    async def keep_messages(self, party_id: PartyId, charging_station_id: str, logging: MessageLogging) -> None:
        """Keep what is said with a station. Raises `GatewayUnavailable`, `GatewayRefused`."""
        path = f"{_station(party_id, charging_station_id)}/messages"
        await self._request("PUT", path, body=codec.encode(logging))

    async def drop_messages(self, party_id: PartyId, charging_station_id: str) -> None:
        """Keep no more messages, and drop those kept. Raises `GatewayUnavailable`, `GatewayRefused`."""
        await self._request("DELETE", f"{_station(party_id, charging_station_id)}/messages")

    async def messages(
        self, party_id: PartyId, charging_station_id: str, *, offset: int, limit: int
    ) -> list[StationMessage]:
        """Return kept messages, the newest first. Raises `GatewayUnavailable`, `GatewayRefused`."""
        path = f"{_station(party_id, charging_station_id)}/messages?offset={offset}&limit={limit}"
        return codec.decode((await self._request("GET", path)).body, list[StationMessage])

    async def put_quirk(self, party_id: PartyId, name: str, profile: QuirkProfile) -> None:
        """Enter or change a quirk profile of a party. Raises `GatewayUnavailable`, `GatewayRefused`."""
        await self._request("PUT", f"/quirks/{party_id.code}/{quote(name, safe='')}", body=codec.encode(profile))

    async def drop_quirk(self, party_id: PartyId, name: str) -> None:
        """Take one away. Raises `GatewayUnavailable`, `GatewayRefused`."""
        await self._request("DELETE", f"/quirks/{party_id.code}/{quote(name, safe='')}")

    async def quirks(self, party_id: PartyId) -> list[NamedQuirkProfile]:
        """Return what is in force at a party. Raises `GatewayUnavailable`, `GatewayRefused`."""
        return codec.decode((await self._request("GET", f"/quirks/{party_id.code}")).body, list[NamedQuirkProfile])

    async def is_alive(self, party_id: PartyId, charging_station_id: str, *, fence: int) -> bool:
        """Ask the owning gateway to ping a station. Raises `GatewayUnavailable`, `GatewayRefused`."""
        path = f"{_station(party_id, charging_station_id)}/probe"
        response = await self._request("POST", path, body=codec.encode({"fence": fence}))
        return codec.decode(response.body, dict[str, bool])["is_alive"]

    async def _request(
        self, method: str, path: str, *, body: bytes = b"", timeout_s: float = CALL_TIMEOUT_S
    ) -> HttpResponse:
        try:
            response = await self._http.request(
                method, self._url + path, headers=_headers(self._token), body=body, timeout_s=timeout_s
            )
        except (PeerUnreachable, EgressRefused) as error:
            raise GatewayUnreachable(str(error)) from error
        except (Unavailable, ResponseTooLarge) as error:
            raise GatewayUnavailable(str(error)) from error
        if response.status >= 500:
            raise GatewayUnavailable(f"the gateway answered {response.status}")
        if response.status >= 400:
            raise GatewayRefused(status=response.status, detail=_said(response.body))
        return response


def _station(party_id: PartyId, charging_station_id: str) -> str:
    return f"/stations/{party_id.code}/{quote(charging_station_id, safe='')}"
