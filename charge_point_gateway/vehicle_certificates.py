"""Certificates of vehicles and their contracts (OCPP 2.0.1, C07 and block M): verified, looked up, provided.

A contract certificate is accepted when its chain leads to a mobility operator's root that we were given, all of it is
valid now, its common name is the eMAID that the station states, and no CA in it has revoked the certificate below. The
back office then decides on the eMAID as on any token.

Its leaf's revocation always has to be told; that of a CA between where an OCSP responder is named for it. When nobody
can tell, `contract_ocsp_unreachable` decides: `refuse` answers NoCertificateAvailable, `accept` takes what else holds.
An answer that is old or somebody else's tells nothing. Hashes alone, without the certificate, say nothing of the eMAID:
that the station has compared.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog
from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from charge_point_gateway.certificates import UNREADABLE
from charge_point_gateway.inquiries import (
    ChainStatusAsked,
    ChainStatusFound,
    ContractProvided,
    ContractShown,
    ContractVerdict,
    ContractWanted,
    Finding,
    Inquiry,
    StatusAsked,
    StatusFound,
)
from charge_point_gateway.revocation_checks import RevocationChecks, RevocationNotTold
from emobility.domain.errors import MalformedInput, RuleBroken, Unavailable
from emobility.ports.clock import Clock, Randomness
from emobility.ports.http import HttpClient
from emobility.protocols.certificates.chains import ChainBroken, ChainFault, read_chain, verified_chain
from emobility.protocols.certificates.hash_data import CertificateHashData, NoHashData
from emobility.protocols.certificates.revocation import RevocationStatus
from emobility.runtime.settings import Settings

PROVISIONING_TIMEOUT_S: Final = 20.0
"""A vehicle gives its CertificateInstallationReq 40 s in all (ISO 15118-2, table 109)."""
EXI_RESPONSE_CHARACTERS_MAX: Final = {"2.0.1": 7_500, "2.1": 17_000}
"""Of Get15118EVCertificateResponse, by version."""
ACCEPTED: Final = "Accepted"
NOT_TOLD: Final = "NoCertificateAvailable"
_OF_FAULT: Final = {
    ChainFault.UNREADABLE: "CertChainError",
    ChainFault.UNTRUSTED: "CertChainError",
    ChainFault.SIGNATURE: "SignatureError",
    ChainFault.EXPIRED: "CertificateExpired",
}
_SHOWN: Final = {
    RevocationStatus.GOOD: "Good",
    RevocationStatus.REVOKED: "Revoked",
    RevocationStatus.UNKNOWN: "Unknown",
}
_LOG: Final = structlog.get_logger(__name__)


class UnusableRoots(MalformedInput):
    """A file of roots that can't be used; the sentence names its setting and the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VehicleTrust:
    """Whom we believe about vehicles: roots, and CAs below them, of contracts and of V2G."""

    contract_roots: tuple[x509.Certificate, ...] = ()
    v2g_roots: tuple[x509.Certificate, ...] = ()


def read_vehicle_trust(settings: Settings) -> VehicleTrust:
    """Read the roots that the settings name. Raises `UnusableRoots`."""
    return VehicleTrust(
        contract_roots=_roots("contract_root_file", settings.contract_root_file),
        v2g_roots=_roots("v2g_root_file", settings.v2g_root_file),
    )


def _roots(setting: str, path: Path | None) -> tuple[x509.Certificate, ...]:
    if path is None:
        return ()
    try:
        return tuple(x509.load_pem_x509_certificates(path.read_bytes()))
    except (OSError, *UNREADABLE) as error:
        raise UnusableRoots(f"WATTROAM_{setting.upper()}: {path}: no certificates in PEM") from error


@dataclass(frozen=True, slots=True)
class _Asking:
    """A certificate whose revocation has to be told, and by whom."""

    hash_data: CertificateHashData
    urls: tuple[str, ...]


class VehicleCertificates:
    """Answers the inquiries of messages; it raises nothing that a station could bring about."""

    def __init__(
        self,
        http: HttpClient,
        clock: Clock,
        randomness: Randomness,
        *,
        trust: VehicleTrust,
        is_untold_accepted: bool = False,
        provisioning_url: str | None = None,
    ) -> None:
        self._http = http
        self._clock = clock
        self._trust = trust
        self._is_untold_accepted = is_untold_accepted
        self._provisioning_url = provisioning_url
        self._contracts = RevocationChecks(http, clock, randomness, anchors=trust.contract_roots)
        self._all = RevocationChecks(http, clock, randomness, anchors=(*trust.v2g_roots, *trust.contract_roots))
        if self._provisioning_url is not None:
            http.allow_origin(self._provisioning_url)

    async def look_into(self, inquiry: Inquiry, ocpp_version: str) -> Finding:
        """Find out what a message needs."""
        match inquiry:
            case ContractShown():
                return ContractVerdict(status=await self._judged(inquiry))
            case ChainStatusAsked(requests):
                return ChainStatusFound(tuple(await asyncio.gather(*(self._status(each) for each in requests))))
            case ContractWanted(payload):
                return ContractProvided(await self._provided(payload, ocpp_version))

    # Contract certificates

    async def _judged(self, shown: ContractShown) -> str:
        try:
            asking, issuers = self._asking(shown)
        except ChainBroken as broken:
            _LOG.warning("contract_certificate_refused", fault=broken.fault.value, reason=str(broken))
            return _OF_FAULT[broken.fault]
        except NoHashData:
            return _OF_FAULT[ChainFault.UNREADABLE]
        statuses = await asyncio.gather(*(self._told(each, issuers) for each in asking))
        if RevocationStatus.REVOKED in statuses:
            return "CertificateRevoked"
        if RevocationStatus.UNKNOWN in statuses:  # its CA has never issued it
            return _OF_FAULT[ChainFault.UNTRUSTED]
        may_be_untold = self._is_untold_accepted and bool(self._trust.contract_roots)
        return ACCEPTED if None not in statuses or may_be_untold else NOT_TOLD

    def _asking(self, shown: ContractShown) -> tuple[list[_Asking], list[x509.Certificate]]:
        """Verify what can be verified here; return whose revocation is to be asked for, and who may answer."""
        named = {CertificateHashData.read(each): str(each["responderURL"]) for each in shown.hash_data}
        if shown.certificate is None:
            return [_Asking(hash_data, (url,)) for hash_data, url in named.items()], []
        path = verified_chain(read_chain(shown.certificate), self._trust.contract_roots, self._clock.now())
        if not _is_of(path[0], shown.emaid):
            raise ChainBroken(ChainFault.UNTRUSTED, "the certificate is another contract's")
        asking: list[_Asking] = []
        for number, (certificate, issuer) in enumerate(pairwise(path)):
            told = _url_named(named, certificate, issuer)
            urls = tuple(dict.fromkeys([*told, *_responders(certificate)]))
            if urls or number == 0:
                asking.append(_Asking(CertificateHashData.of(certificate.serial_number, issuer), urls))
        return asking, path[1:]

    async def _told(self, asking: _Asking, issuers: Sequence[x509.Certificate]) -> RevocationStatus | None:
        try:
            return (await self._contracts.ask(asking.hash_data, urls=asking.urls, issuers=issuers)).status
        except RevocationNotTold:
            return None

    # Revocation that a station asks for

    async def _status(self, asked: StatusAsked) -> StatusFound:
        now = self._clock.now()
        try:
            answer = await self._all.status(asked)
        except (RevocationNotTold, NoHashData):
            return StatusFound(status="Failed", next_update=now)
        return StatusFound(status=_SHOWN[answer.status], next_update=answer.next_update or now, der=answer.der)

    # Contracts for vehicles

    async def _provided(self, payload: dict[str, Any], ocpp_version: str) -> dict[str, Any] | None:
        """POST the request to the contract provisioning service, in OCPP's words both ways."""
        if self._provisioning_url is None:
            return None
        try:
            response = await self._http.request(
                "POST",
                self._provisioning_url,
                headers={"content-type": "application/json"},
                body=msgspec.json.encode(payload),
                timeout_s=PROVISIONING_TIMEOUT_S,
            )
            answer = msgspec.json.decode(response.body, type=dict[str, Any])
        except (Unavailable, RuleBroken, msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            _LOG.warning("contract_not_provided", error=type(error).__name__)
            return None
        exi, status = answer.get("exiResponse"), answer.get("status")
        is_whole = isinstance(exi, str) and len(exi) <= EXI_RESPONSE_CHARACTERS_MAX.get(ocpp_version, 0)
        if response.status != 200 or not is_whole or status not in (ACCEPTED, "Failed"):
            _LOG.warning("contract_not_provided", http_status=response.status)
            return None
        provided = {"status": status, "exiResponse": exi}
        remaining = answer.get("remainingContracts")
        if ocpp_version == "2.1" and type(remaining) is int and remaining >= 0:
            provided["remainingContracts"] = remaining
        return provided


def _is_of(leaf: x509.Certificate, emaid: str) -> bool:
    """Tell whether a certificate is a contract's; hyphens and case do not count (ISO 15118-2, annex H)."""
    names = [str(each.value) for each in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return [_plain(each) for each in names] == [_plain(emaid)]


def _plain(emaid: str) -> str:
    return emaid.replace("-", "").upper()


def _responders(certificate: x509.Certificate) -> list[str]:
    """Return the OCSP responders that a certificate names."""
    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except x509.ExtensionNotFound:
        return []
    return [
        each.access_location.value
        for each in access
        if each.access_method == AuthorityInformationAccessOID.OCSP
        and isinstance(each.access_location, x509.UniformResourceIdentifier)
    ]


def _url_named(
    named: Mapping[CertificateHashData, str], certificate: x509.Certificate, issuer: x509.Certificate
) -> list[str]:
    """Return the responder that the station names for a certificate."""
    return [
        url
        for hash_data, url in named.items()
        if hash_data == CertificateHashData.of(certificate.serial_number, issuer, hash_data.algorithm)
    ]
