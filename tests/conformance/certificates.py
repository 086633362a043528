"""How a station gets a certificate from the CSMS (CertificateSigned), and comes by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.conformance.scenario import Operator, Station, csms_answers
from tests.gateway.certificate_makers import csr, kept, key_pem, name, new_key
from tests.operations.world import CPO

ACCEPTED = {"status": "Accepted"}


async def renews(
    operator: Operator, trigger: str, requested: str, *, station_answers: dict[str, Any] = ACCEPTED, **kind: str
) -> tuple[ec.EllipticCurvePrivateKey, Any]:
    """Have the station ask for a certificate; return its key and the payload of CertificateSigned."""
    station, key = operator.station, new_key()
    station.answers["CertificateSigned"] = station_answers
    await operator.commands(trigger, {"requestedMessage": requested}, station_answers=ACCEPTED)

    asked = await station.sends("SignCertificate", csr=csr(key, name(station.identity, CPO.code)), **kind)
    csms_answers(asked, status="Accepted")
    return key, await station.is_called("CertificateSigned")


def assert_names(certificate_chain: str, station: Station, key: ec.EllipticCurvePrivateKey) -> None:
    """Assert that a chain begins with a certificate of the station and of its key."""
    certificate = x509.load_pem_x509_certificate(certificate_chain.encode())
    (common_name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert common_name.value == station.identity
    assert certificate.public_key() == key.public_key()
    assert certificate.serial_number > 0


def kept_as_files(station: Station, certificate_chain: str, key: ec.EllipticCurvePrivateKey) -> tuple[Path, Path]:
    """Keep a chain and its key as the station does; return the files."""
    folder = station.csms.keys.folder
    return (
        kept(folder, f"{station.identity}.pem", certificate_chain.encode()),
        kept(folder, f"{station.identity}.key", key_pem(key)),
    )
