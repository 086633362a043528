"""Stations' certificates: whose one is (security profile 3), and those that our own CA or another's issues for us.

OpenSSL has verified a peer's chain, time and revocation lists before anything here is asked. What is left is whose it
is, and what only our rows know: one of our own CA opens a connection only while its row is there and not revoked, on
every gateway, from the moment of the revocation. One that a signing service issued opens it unless its row says that
it was revoked: others may issue certificates of that CA, too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from charge_point_gateway.certificates import (
    Authority,
    CertificateRequestRefused,
    names_only,
    read_certificate,
    read_request,
    revocation_list,
    signed_certificate,
)
from charge_point_gateway.security import RefusalReason, StationIdentity, StationRefused
from charge_point_gateway.signing_service import SigningService
from emobility.domain.errors import RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.ports.clock import Clock, Randomness
from emobility.ports.stores import SELECT_ROWS_MAX, RecordExists, TableSpec
from emobility.ports.unit_of_work import UnitOfWork, Units

CERTIFICATES_PER_DAY_MAX: Final = 10
"""Certificates one station gets within 24 h; a station that asks for more is broken."""
VALID_DAYS_MAX: Final = 825
BACKDATED: Final = timedelta(hours=1)
"""Certificates and lists begin so much before they are made: others' clocks are not ours."""
ENDED_SHOWN: Final = timedelta(days=90)
REVOCATION_LIST_LASTS: Final = timedelta(days=8)
CHAIN_CHARACTERS_MAX: Final = 10_000
"""Of CertificateSigned's certificateChain, in every version."""
_LOG: Final = structlog.get_logger(__name__)


class NoAuthority(RuleBroken):
    """Nothing can be signed: there is no CA of our own, or its own certificate is not valid now."""

    def __init__(
        self,
        what: str = "no CA is configured: set WATTROAM_GATEWAY_CA_FILE and WATTROAM_GATEWAY_CA_KEY_FILE, "
        "or WATTROAM_GATEWAY_SIGNING_URL",
    ) -> None:
        super().__init__(what)


class NoSuchCertificate(RuleBroken):
    """No certificate with this serial number was issued to this station."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StationCertificateRow:
    """A certificate that was issued here; `serial_number` in lower-case hex, `fingerprint` SHA-256 of its DER."""

    party_id: PartyId
    charging_station_id: str
    serial_number: str
    fingerprint: bytes
    issued_at: datetime
    not_after: datetime
    revoked_at: datetime | None = None


STATION_CERTIFICATE: Final = TableSpec(
    name="station_certificate", record=StationCertificateRow, key=("party_id", "serial_number")
)


class StationCertificates:
    """Checks, issues and revokes; without an `authority` and a `signing_service` it only checks."""

    def __init__(
        self,
        units: Units,
        clock: Clock,
        randomness: Randomness,
        *,
        authority: Authority | None,
        valid_days: int,
        signing_service: SigningService | None = None,
    ) -> None:
        self._units = units
        self._clock = clock
        self._randomness = randomness
        self._valid = timedelta(days=valid_days)
        self.authority = authority
        self.signing_service = signing_service

    @property
    def may_issue(self) -> bool:
        """Whether certificates are issued here at all."""
        return self.authority is not None or self.signing_service is not None

    async def check(self, identity: StationIdentity, der: bytes) -> str:
        """Return the serial number of a verified certificate that is this station's. Raises `StationRefused`."""
        certificate = read_certificate(der)
        if certificate is None or not names_only(certificate, identity.party_id, identity.charging_station_id):
            raise StationRefused(RefusalReason.FOREIGN_CERTIFICATE, http_status=401)
        # OpenSSL looks at the time in a handshake only, and a resumed session has none.
        if certificate.not_valid_after_utc <= self._clock.now():
            raise StationRefused(RefusalReason.INVALID_CERTIFICATE, http_status=401)
        serial_number = f"{certificate.serial_number:x}"
        is_own = self.authority is not None and certificate.issuer == self.authority.certificate.subject
        if is_own or self.signing_service is not None:
            async with self._units.begin() as unit:
                row = await unit.table(STATION_CERTIFICATE).get(identity.party_id, serial_number)
            is_known = row is not None and row.fingerprint == certificate.fingerprint(SHA256())
            if (is_own and not is_known) or (row is not None and is_known and row.revoked_at is not None):
                raise StationRefused(RefusalReason.INVALID_CERTIFICATE, http_status=401)
        return serial_number

    async def issue(self, identity: StationIdentity, csr_pem: str) -> tuple[StationCertificateRow, str]:
        """Sign a CSR; return the row and the chain in PEM, the station's own certificate first.

        Raises:
            NoAuthority: there is no CA, or our own has ended.
            CertificateRequestRefused: a rule of `read_request`, or too many within a day.
            SigningFailed: the signing service gave none that can be used.
        """
        if not self.may_issue:
            raise NoAuthority
        request = read_request(csr_pem, identity.party_id, identity.charging_station_id)
        now = self._clock.now()
        if self.signing_service is not None:
            async with self._units.begin() as unit:
                await self._refuse_too_many(unit, identity, now)
            signed = await self.signing_service.sign(identity, request, csr_pem, at=now)
            certificate, chain = signed[0], "".join(each.public_bytes(Encoding.PEM).decode() for each in signed)
        else:
            certificate, chain = self._signed(identity, request, now)
        if len(chain) > CHAIN_CHARACTERS_MAX:
            raise CertificateRequestRefused(f"certificate and chain have more than {CHAIN_CHARACTERS_MAX} characters")
        row = StationCertificateRow(
            party_id=identity.party_id,
            charging_station_id=identity.charging_station_id,
            serial_number=f"{certificate.serial_number:x}",
            fingerprint=certificate.fingerprint(SHA256()),
            issued_at=now,
            not_after=certificate.not_valid_after_utc,
        )
        async with self._units.begin() as unit:
            await self._refuse_too_many(unit, identity, now)
            try:
                await unit.table(STATION_CERTIFICATE).insert(row)
            except RecordExists as error:
                raise CertificateRequestRefused("the CA has given this serial number before") from error
            await unit.commit()
        _LOG.info(
            "certificate_issued",
            station=identity.key,
            serial_number=row.serial_number,
            not_after=row.not_after.isoformat(),
        )
        return row, chain

    async def _refuse_too_many(self, unit: UnitOfWork, identity: StationIdentity, now: datetime) -> None:
        since = ("issued_at", now - timedelta(days=1))
        if await unit.table(STATION_CERTIFICATE).count(_of(identity), since=since) >= CERTIFICATES_PER_DAY_MAX:
            raise CertificateRequestRefused(f"a station gets {CERTIFICATES_PER_DAY_MAX} certificates a day")

    def _signed(
        self, identity: StationIdentity, request: x509.CertificateSigningRequest, now: datetime
    ) -> tuple[x509.Certificate, str]:
        """Sign by our own CA. Raises `NoAuthority`."""
        if self.authority is None:
            raise NoAuthority
        own = self.authority.certificate
        if not own.not_valid_before_utc <= now < own.not_valid_after_utc:
            raise NoAuthority("the CA's own certificate is not valid now")
        certificate = signed_certificate(
            self.authority,
            request,
            party_id=identity.party_id,
            charging_station_id=identity.charging_station_id,
            # 126 random bits below a 1: positive, and always 16 bytes (RFC 5280, 4.1.2.2).
            serial_number=int.from_bytes(self._randomness.token_bytes(16)) >> 2 | 1 << 126,
            not_before=now - BACKDATED,
            not_after=now + self._valid,
        )
        return certificate, certificate.public_bytes(Encoding.PEM).decode() + self.authority.intermediates_pem

    async def issued(self, identity: StationIdentity) -> list[StationCertificateRow]:
        """Return what was issued to a station, the newest first."""
        async with self._units.begin() as unit:
            return await unit.table(STATION_CERTIFICATE).select(_of(identity), order_by=("-issued_at",))

    async def ending(self, party_id: PartyId, *, before: datetime) -> list[StationCertificateRow]:
        """Return the newest certificate of each of a party's stations, where it ends before a moment.

        One that was revoked, or ended more than `ENDED_SHOWN` ago, is nobody's any more.
        """
        good = {"party_id": party_id, "revoked_at": None}
        since = ("not_after", self._clock.now() - ENDED_SHOWN)
        async with self._units.begin() as unit:
            table = unit.table(STATION_CERTIFICATE)
            rows = await table.select(good, since=since, before=("not_after", before), order_by=("not_after",))
            newest = {row.charging_station_id: row for row in rows}
            renewed = {
                row.charging_station_id
                for row in await table.select(
                    good | {"charging_station_id": tuple(newest)}, since=("not_after", before)
                )
            }
        return [row for station, row in newest.items() if station not in renewed]

    async def revoke(self, identity: StationIdentity, serial_number: str) -> StationCertificateRow:
        """Revoke a certificate, once and for good. Raises `NoSuchCertificate`."""
        async with self._units.begin() as unit:
            table = unit.table(STATION_CERTIFICATE)
            row = await table.get_for_update(identity.party_id, serial_number)
            if row is None or row.charging_station_id != identity.charging_station_id:
                raise NoSuchCertificate(f"no certificate {serial_number[:50]} was issued to {identity.key}")
            if row.revoked_at is None:
                row = replace(row, revoked_at=self._clock.now())
                await table.put(row)
                await unit.commit()
                _LOG.warning("certificate_revoked", station=identity.key, serial_number=serial_number)
        return row

    async def revoked_since(self, since: datetime) -> list[StationCertificateRow]:
        """Return the certificates of all parties that were revoked at or after a moment."""
        found: list[StationCertificateRow] = []
        async with self._units.begin() as unit:
            table = unit.table(STATION_CERTIFICATE)
            while page := await table.select(
                since=("revoked_at", since), order_by=("revoked_at",), offset=len(found), limit=SELECT_ROWS_MAX
            ):
                found += page
        return found

    async def revocation_list(self) -> x509.CertificateRevocationList:
        """Return our CA's list as of now, of what has not ended by itself. Raises `NoAuthority`."""
        if self.authority is None:
            raise NoAuthority
        now = self._clock.now()
        revoked = await self.revoked_since(now - timedelta(days=VALID_DAYS_MAX))
        return revocation_list(
            self.authority,
            [(int(row.serial_number, 16), row.revoked_at or now) for row in revoked if row.not_after > now],
            issued_at=now - BACKDATED,
            next_update=now + REVOCATION_LIST_LASTS,
        )


def _of(identity: StationIdentity) -> dict[str, PartyId | str]:
    return {"party_id": identity.party_id, "charging_station_id": identity.charging_station_id}
