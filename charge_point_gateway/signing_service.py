"""Another's CA that signs stations' certificates: WATTROAM_GATEWAY_SIGNING_URL takes a CSR and returns a chain.

POST, the CSR in PEM as its body, our bearer token; 200 with the chain in PEM, the station's own certificate first. What
comes back is held to the same rules as a certificate of our own CA before any station sees it.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from charge_point_gateway.certificates import UNREADABLE, names_only
from charge_point_gateway.security import StationIdentity
from emobility.domain.errors import Unavailable
from emobility.ports.http import EgressRefused, HttpClient, ResponseTooLarge
from emobility.protocols.certificates.chains import ChainBroken, read_chain, verified_chain

SIGNING_TIMEOUT_S: Final = 15.0
"""A station gives its SignCertificate about 30 s."""


class SigningFailed(Unavailable):
    """The signing service did not answer, refused, or returned what may not be given to the station."""


class SigningService:
    """Signs by asking."""

    def __init__(self, http: HttpClient, *, url: str, token: str, client_ca_file: Path) -> None:
        """Make it; what it returns has to lead to a CA in `client_ca_file`, which opens the station's connections."""
        self._http = http
        self._url = url
        self._token = token
        self._client_ca_file = client_ca_file
        http.allow_origin(url)

    async def sign(
        self, identity: StationIdentity, request: x509.CertificateSigningRequest, csr_pem: str, *, at: datetime
    ) -> list[x509.Certificate]:
        """Have a CSR signed; return the chain, the station's certificate first. Raises `SigningFailed`."""
        try:
            response = await self._http.request(
                "POST",
                self._url,
                headers={"authorization": f"Bearer {self._token}", "content-type": "application/x-pem-file"},
                body=csr_pem.encode(),
                timeout_s=SIGNING_TIMEOUT_S,
            )
        except (Unavailable, EgressRefused, ResponseTooLarge) as error:
            raise SigningFailed(f"the signing service: {error}") from error
        if response.status not in {200, 201}:
            raise SigningFailed(f"the signing service answered {response.status}")
        try:
            chain = read_chain(response.body.decode("ascii"))
            verified_chain(chain, await asyncio.to_thread(self._anchors), at)
            is_fit = chain[0].public_key() == request.public_key() and _is_for_clients(chain[0])
        except (ChainBroken, OSError, *UNREADABLE) as error:
            raise SigningFailed(f"the signing service's certificate is not believed: {error}") from error
        if not is_fit or not names_only(chain[0], identity.party_id, identity.charging_station_id):
            raise SigningFailed("the signing service's certificate is not for this station's key, name and purpose")
        return chain

    def _anchors(self) -> list[x509.Certificate]:
        return x509.load_pem_x509_certificates(self._client_ca_file.read_bytes())


def _is_for_clients(certificate: x509.Certificate) -> bool:
    try:
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return ExtendedKeyUsageOID.CLIENT_AUTH in purposes
