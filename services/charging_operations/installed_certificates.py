"""Root certificates that stations hold (OCPP 2.0.1, M03-M05; 1.6 security white paper): installed, listed, deleted.

A station tells of a certificate only hashes. Of one that we installed we know the rest: it is found again by its
hashes, whichever algorithm the station counts with.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from emobility.domain.identifiers import PartyId
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.certificates.chains import UNREADABLE
from emobility.protocols.certificates.hash_data import CertificateHashData, NoHashData
from emobility.protocols.station_control.messages import CommandOutcome, CommandResult
from services.charging_operations.office import NotFound, NotUnderstood, Office, short_hash
from services.charging_operations.station_calls import OCPP_16, call_station, version_of

CERTIFICATES_MAX: Final = 200
"""Certificates kept of one station; no station has room for so many."""
CSMS_ROOT: Final = "CSMSRootCertificate"
TYPES_OF_16: Final = {CSMS_ROOT: "CentralSystemRootCertificate", "ManufacturerRootCertificate": ""}
"""What 1.6 has, by the word of 2.x; where it has another word, that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallRequest:
    """POST installed-certificates: `certificate_type` in the words of 2.x, `certificate` a root in PEM."""

    certificate_type: str
    certificate: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledCertificateRecord:
    """A certificate in a station; `hash_data` is CertificateHashDataType, `above_id` the one that a chain hangs from.

    `subject`, `not_after` and `certificate` (PEM) are known of what we installed.
    """

    party_id: PartyId
    charging_station_id: str
    certificate_id: str
    certificate_type: str
    hash_data: dict[str, str]
    above_id: str | None
    subject: str | None
    not_after: datetime | None
    certificate: str | None
    seen_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateAnswer:
    """What became of a CALL about certificates: `detail` is the station's own word, or why there is none."""

    result: CommandResult
    detail: str | None
    certificate_id: str | None = None


INSTALLED_CERTIFICATE: Final = TableSpec(
    name="cpo_installed_certificate",
    record=InstalledCertificateRecord,
    key=("party_id", "charging_station_id", "certificate_id"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledCertificateDesk:
    """Keeps what stations hold."""

    office: Office

    async def install(
        self, party_id: PartyId, station_id: str, request: InstallRequest, *, correlation_id: str
    ) -> CertificateAnswer:
        """Have a station hold a root. Raises `StationOffline`, `NotUnderstood`."""
        certificate = self._root(request.certificate)
        is_16 = await version_of(self.office, party_id, station_id) == OCPP_16
        kind = TYPES_OF_16.get(request.certificate_type) or request.certificate_type
        payload = {
            "certificateType": kind if is_16 else request.certificate_type,
            "certificate": request.certificate,
        }
        outcome = await self._call(party_id, station_id, "InstallCertificate", payload, correlation_id=correlation_id)
        if _word(outcome) != "Accepted":
            return CertificateAnswer(result=outcome.result, detail=outcome.station_status)
        hash_data = CertificateHashData.of(certificate.serial_number, certificate)
        row = self._record(party_id, station_id, request.certificate_type, hash_data.written(), known=None)
        row = replace(
            row,
            subject=certificate.subject.rfc4514_string(),
            not_after=certificate.not_valid_after_utc,
            certificate=request.certificate,
        )
        async with self.office.ports.units.begin() as unit:
            await unit.table(INSTALLED_CERTIFICATE).put(row)
            await unit.commit()
        return CertificateAnswer(
            result=outcome.result, detail=outcome.station_status, certificate_id=row.certificate_id
        )

    def _root(self, pem: str) -> x509.Certificate:
        try:
            (certificate,) = x509.load_pem_x509_certificates(pem.encode())
            certificate.verify_directly_issued_by(certificate)
            CertificateHashData.of(certificate.serial_number, certificate)
        except (InvalidSignature, NoHashData, *UNREADABLE) as error:
            raise NotUnderstood("one root certificate in PEM is needed, signed by its own RSA or EC key") from error
        if certificate.not_valid_after_utc <= self.office.now():
            raise NotUnderstood("the certificate has ended")
        return certificate

    async def delete(
        self, party_id: PartyId, station_id: str, certificate_id: str, *, correlation_id: str
    ) -> CertificateAnswer:
        """Have a station drop a certificate. Raises `NotFound`."""
        async with self.office.ports.units.begin() as unit:
            row = await unit.table(INSTALLED_CERTIFICATE).get(party_id, station_id, certificate_id)
        if row is None:
            raise NotFound(f"no certificate {certificate_id[:50]}")
        payload = {"certificateHashData": row.hash_data}
        outcome = await self._call(party_id, station_id, "DeleteCertificate", payload, correlation_id=correlation_id)
        if _word(outcome) in {"Accepted", "NotFound"}:
            async with self.office.ports.units.begin() as unit:
                await unit.table(INSTALLED_CERTIFICATE).remove(party_id, station_id, certificate_id)
                await unit.commit()
        return CertificateAnswer(result=outcome.result, detail=outcome.station_status, certificate_id=certificate_id)

    async def refresh(self, party_id: PartyId, station_id: str, *, correlation_id: str) -> CertificateAnswer:
        """Ask a station what it holds, and keep that. Raises `StationOffline`."""
        is_16 = await version_of(self.office, party_id, station_id) == OCPP_16
        questions = [{"certificateType": other or kind} for kind, other in TYPES_OF_16.items()] if is_16 else [{}]
        told: list[tuple[str, dict[str, str], str | None]] = []
        for question in questions:
            action = "GetInstalledCertificateIds"
            outcome = await self._call(party_id, station_id, action, question, correlation_id=correlation_id)
            if _word(outcome) not in {"Accepted", "NotFound"} or outcome.answer is None:
                return CertificateAnswer(result=outcome.result, detail=outcome.station_status)
            told += _told_16(question["certificateType"], outcome.answer) if is_16 else _told(outcome.answer)
        async with self.office.ports.units.begin() as unit:
            await self._replace(unit, party_id, station_id, told[:CERTIFICATES_MAX])
            await unit.commit()
        return CertificateAnswer(result=CommandResult.ACCEPTED, detail=f"{len(told)} certificates")

    async def _replace(
        self,
        unit: UnitOfWork,
        party_id: PartyId,
        station_id: str,
        told: Sequence[tuple[str, dict[str, str], str | None]],
    ) -> None:
        table = unit.table(INSTALLED_CERTIFICATE)
        known = await table.select({"party_id": party_id, "charging_station_id": station_id})
        rows = {}
        for kind, hash_data, above_id in told:
            row = self._record(party_id, station_id, kind, hash_data, known=_same(hash_data, known))
            rows[row.certificate_id] = replace(row, above_id=above_id)
        for old in known:
            if old.certificate_id not in rows:
                await table.remove(party_id, station_id, old.certificate_id)
        await table.put_all(list(rows.values()))

    def _record(
        self,
        party_id: PartyId,
        station_id: str,
        kind: str,
        hash_data: dict[str, str],
        *,
        known: InstalledCertificateRecord | None,
    ) -> InstalledCertificateRecord:
        return InstalledCertificateRecord(
            party_id=party_id,
            charging_station_id=station_id,
            certificate_id=_id_of(hash_data),
            certificate_type=kind,
            hash_data=hash_data,
            above_id=None,
            subject=known.subject if known else None,
            not_after=known.not_after if known else None,
            certificate=known.certificate if known else None,
            seen_at=self.office.now(),
        )

    async def _call(
        self, party_id: PartyId, station_id: str, action: str, payload: dict[str, Any], *, correlation_id: str
    ) -> CommandOutcome:
        return await call_station(self.office, party_id, station_id, action, payload, correlation_id=correlation_id)


def _word(outcome: CommandOutcome) -> str | None:
    return None if outcome.answer is None else outcome.answer.get("status")


def _told(answer: dict[str, Any]) -> Iterable[tuple[str, dict[str, str], str | None]]:
    for chain in answer.get("certificateHashDataChain", ()):
        kind, above = chain["certificateType"], _plain(chain["certificateHashData"])
        yield kind, above, None
        for child in chain.get("childCertificateHashData", ()):
            yield kind, _plain(child), _id_of(above)


def _told_16(kind: str, answer: dict[str, Any]) -> Iterable[tuple[str, dict[str, str], str | None]]:
    word = CSMS_ROOT if kind == TYPES_OF_16[CSMS_ROOT] else kind
    for hash_data in answer.get("certificateHashData", ()):
        yield word, _plain(hash_data), None


def _plain(hash_data: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in hash_data.items() if name != "customData"}


def _id_of(hash_data: dict[str, str]) -> str:
    return short_hash(*(hash_data[name].lower() for name in sorted(hash_data)))


def _same(hash_data: dict[str, str], known: Iterable[InstalledCertificateRecord]) -> InstalledCertificateRecord | None:
    """Return the row of a certificate that we have, though it was named by another algorithm."""
    try:
        told = CertificateHashData.read(hash_data)
    except NoHashData:
        return None
    for row in known:
        if row.certificate is not None:
            certificate = x509.load_pem_x509_certificate(row.certificate.encode())
            if told == CertificateHashData.of(certificate.serial_number, certificate, told.algorithm):
                return row
    return None
