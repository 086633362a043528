"""How stations prove themselves, over HTTP: passwords changed, profiles raised, certificates installed and watched."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from fastapi import Request
from fastapi.responses import Response

from emobility.domain.identifiers import PartyId
from emobility.protocols.station_control.messages import (
    CertificateEnding,
    CredentialRotation,
    StationCredentialState,
)
from emobility.runtime.access import TokenRole
from services.charging_operations.certificate_watch import ENDS_SOON, CertificateWatch
from services.charging_operations.installed_certificates import (
    INSTALLED_CERTIFICATE,
    CertificateAnswer,
    InstalledCertificateDesk,
    InstalledCertificateRecord,
    InstallRequest,
)
from services.charging_operations.office import NotFound, NotUnderstood, require_hosted
from services.charging_operations.operator_api import COMMAND_STATUS, COMMAND_STATUS_WORDS, OperatorAPI
from services.charging_operations.routes import PAGE, Query, Route, RouteTable, answer, asked, read_body
from services.charging_operations.security_profiles import (
    ProfileDesk,
    ProfileUpgrade,
    ProfileUpgradeRecord,
    SecurityProfileShown,
)

WITHIN_DAYS_MAX: Final = 3_650
ENDING: Final = (Query("within_days", int, f"ends within so many days; {ENDS_SOON.days} when not given"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityAPI:
    """Routes about credentials, profiles and certificates."""

    operator: OperatorAPI
    profiles: ProfileDesk
    installed: InstalledCertificateDesk
    watch: CertificateWatch

    def mount_on(self, routes: RouteTable) -> None:
        """Add the routes."""
        station, refused, said = "/stations/{station_id}", COMMAND_STATUS_WORDS, CertificateAnswer
        certificates, profile = f"{station}/installed-certificates", f"{station}/security-profile"
        rows, one = list[InstalledCertificateRecord], f"{certificates}/{{certificate_id}}"
        routes.add(
            "Security",
            [
                Route("GET", f"{station}/credential", self.show_credential, None, StationCredentialState),
                Route("POST", f"{station}/credential/rotate", self.rotate_credential, None, CredentialRotation),
                Route("GET", profile, self.show_security_profile, None, SecurityProfileShown),
                Route("POST", profile, self.raise_security_profile, ProfileUpgrade, ProfileUpgradeRecord),
                Route("GET", certificates, self.list_installed, None, rows, PAGE),
                Route("POST", certificates, self.install_certificate, InstallRequest, said, also=refused),
                Route("POST", f"{certificates}/refresh", self.refresh_installed, None, said, also=refused),
                Route("DELETE", one, self.delete_certificate, None, said, also=refused),
                Route("GET", "/certificates/ending", self.list_ending, None, list[CertificateEnding], ENDING),
            ],
            writes=TokenRole.OWNER,
        )

    async def show_credential(self, request: Request, party_id: PartyId) -> Any:
        """Show how a station proves itself, without any secret, and a change of its password under way."""
        station_id = await self.operator.station_of(request, party_id)
        credential = await self.operator.office.stations.credential(party_id, station_id)
        if credential is None:
            raise NotFound(f"station {station_id} has no credential")
        return credential

    async def rotate_credential(self, request: Request, party_id: PartyId) -> Any:
        """Give a connected station a new password that nobody else is shown; the old one is good until it has taken it.

        409 when it is not connected, or has too many passwords of which nobody knows whether it took them.
        """
        station_id = await self.operator.station_of(request, party_id)
        correlation_id = self.operator.correlation_of(request)
        return await self.operator.office.stations.rotate_credential(
            party_id, station_id, correlation_id=correlation_id
        )

    async def show_security_profile(self, request: Request, party_id: PartyId) -> Any:
        """Show the lowest security profile that a station may come by, and how far the last upgrade has come."""
        return await self.profiles.shown(party_id, await self.operator.station_of(request, party_id))

    async def raise_security_profile(self, request: Request, party_id: PartyId) -> Any:
        """Have a connected station come by a higher security profile; a lower one is refused."""
        wanted = await read_body(request, ProfileUpgrade)
        station_id = await self.operator.station_of(request, party_id)
        correlation_id = self.operator.correlation_of(request)
        return await self.profiles.upgrade(party_id, station_id, wanted, correlation_id=correlation_id)

    async def list_installed(self, request: Request, party_id: PartyId) -> Any:
        """List the certificates that a station is known to hold."""
        return await self.operator.rows_of_station(request, party_id, INSTALLED_CERTIFICATE)

    async def install_certificate(self, request: Request, party_id: PartyId) -> Response:
        """Have a station hold a root certificate."""
        wanted = await read_body(request, InstallRequest)
        station_id = await self.operator.station_of(request, party_id)
        correlation_id = self.operator.correlation_of(request)
        said = await self.installed.install(party_id, station_id, wanted, correlation_id=correlation_id)
        return answer(said, COMMAND_STATUS.get(said.result, 200))

    async def refresh_installed(self, request: Request, party_id: PartyId) -> Response:
        """Ask a station which certificates it holds."""
        station_id = await self.operator.station_of(request, party_id)
        correlation_id = self.operator.correlation_of(request)
        said = await self.installed.refresh(party_id, station_id, correlation_id=correlation_id)
        return answer(said, COMMAND_STATUS.get(said.result, 200))

    async def delete_certificate(self, request: Request, party_id: PartyId) -> Response:
        """Have a station drop a certificate."""
        station_id = await self.operator.station_of(request, party_id)
        certificate_id, correlation_id = request.path_params["certificate_id"], self.operator.correlation_of(request)
        said = await self.installed.delete(party_id, station_id, certificate_id, correlation_id=correlation_id)
        return answer(said, COMMAND_STATUS.get(said.result, 200))

    async def list_ending(self, request: Request, party_id: PartyId) -> Any:
        """List certificates that end soon or have ended: stations', installed ones, the gateway's; the first first."""
        days = asked(request, "within_days", ENDS_SOON.days)
        if days > WITHIN_DAYS_MAX:
            raise NotUnderstood(f"within_days is {WITHIN_DAYS_MAX} at most")
        async with self.operator.office.ports.units.begin() as unit:
            await require_hosted(unit, party_id)
        return await self.watch.ending(party_id, timedelta(days=days))
