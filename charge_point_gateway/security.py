"""Who a station is: basic authentication (security profiles 1 and 2), the lowest profile each station may come by, and
how often anyone may guess. Whose a certificate is (profile 3), `station_certificates` knows.

The user name is the station's identity. Passwords are made by machines, with at least 128 bits, so a keyed fast hash
is enough and a herd of reconnecting stations costs no minutes of CPU time; a password a person could have chosen is
refused when it is set. An unknown station and a wrong password look alike, in answer and in work.

Guessing is limited by address and by identity. The true station is not locked out by it: the password is compared
first, which takes one keyed hash, and a right one is always let in. At 128 bits, no number of guesses finds one.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, replace
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Final
from urllib.parse import unquote

import structlog

from charge_point_gateway.rpc_errors import SUBPROTOCOLS, OCPPVersion
from charge_point_gateway.token_buckets import KeyedBuckets
from emobility.domain.errors import MalformedInput, RuleBroken
from emobility.domain.identifiers import MalformedPartyId, PartyId
from emobility.ports.clock import Clock, Randomness, Timer
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import Units

PASSWORD_CHARACTERS_MIN: Final = 20
PASSWORD_CHARACTERS_MAX: Final = 40
"""OCPP 1.6: AuthorizationKey is up to 40 characters of hex; 2.0.1: BasicAuthPassword 16 to 40."""
PASSWORD_KINDS_OF_CHARACTERS_MIN: Final = 8
FAILURES_PER_MINUTE_PER_IDENTITY: Final = 10
FAILURES_PER_MINUTE_PER_ADDRESS: Final = 30
"""Stations of one site share an address."""
NEXT_PASSWORDS_MAX: Final = 4
"""New passwords of one station of which it is not known whether it took them."""
NO_PASSWORD: Final = b""
"""Stored for a station that has none: no keyed hash equals it."""
_IDENTITY: Final = re.compile(r"[A-Za-z0-9*\-_=:+|@.]{1,48}", re.ASCII)
_LOG: Final = structlog.get_logger(__name__)
_PATH: Final = re.compile(r"/ocpp/([^/?#]+)/([^/?#]+)")


class RefusalReason(StrEnum):
    """Bounded labels for metrics and logs."""

    TLS_HANDSHAKE = "tls_handshake"
    BAD_PATH = "bad_path"
    NO_CREDENTIALS = "no_credentials"
    WRONG_CREDENTIALS = "wrong_credentials"
    FOREIGN_CERTIFICATE = "foreign_certificate"
    INVALID_CERTIFICATE = "invalid_certificate"
    PROFILE_TOO_LOW = "profile_too_low"
    TOO_MANY_ATTEMPTS = "too_many_attempts"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    BUSY = "busy"
    NO_SUBPROTOCOL = "no_subprotocol"
    DRAINING = "draining"


class SecurityProfile(IntEnum):
    """How a station proves itself, and over what (OCPP 2.0.1 part 2, A00; 1.6: security white paper, 3)."""

    BASIC = 1
    TLS_BASIC = 2
    TLS_CERTIFICATE = 3


class StationRefused(RuleBroken):
    """No connection for this peer; `http_status` and `retry_after_s` go back, `reason` stays here."""

    def __init__(self, reason: RefusalReason, *, http_status: int, retry_after_s: int | None = None) -> None:
        self.reason = reason
        self.http_status = http_status
        self.retry_after_s = retry_after_s
        super().__init__(f"refused with {http_status}: {reason.value}")


class WeakStationPassword(MalformedInput):
    """A station's password is 20 to 40 printable ASCII characters that a machine has drawn."""


class RotationRefused(RuleBroken):
    """A station's password can't be changed now; the sentence says why."""


@dataclass(frozen=True, slots=True)
class StationIdentity:
    """A party's station: the scope of every look-up."""

    party_id: PartyId
    charging_station_id: str

    @property
    def key(self) -> str:
        """As in event keys."""
        return f"{self.party_id.code}/{self.charging_station_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StationCredentialRow:
    """A station's keyed password hash, and the keyed hash of the address it last came from.

    `security_profile` is the lowest `SecurityProfile` it may come by: at least the highest it has come by.
    `next_password_hashes`: of passwords that it was told to use; coming by one of them makes it the only one. Once it
    has said that it took the last, the present one ends at `old_password_until`.
    """

    party_id: PartyId
    charging_station_id: str
    password_hash: bytes
    ocpp_version: str | None
    known_address_hash: bytes | None
    security_profile: int = SecurityProfile.BASIC.value
    next_password_hashes: tuple[bytes, ...] = ()
    rotation_asked_at: datetime | None = None
    old_password_until: datetime | None = None


STATION_CREDENTIAL: Final = TableSpec(
    name="station_credential", record=StationCredentialRow, key=("party_id", "charging_station_id")
)


def identity_from_path(path: str) -> StationIdentity:
    """Read /ocpp/{party}/{station}, percent-encoded (OCPP-J 1.6, 3.1.1). Raises `StationRefused`."""
    found = _PATH.fullmatch(path.partition("?")[0])
    if found is None:
        raise StationRefused(RefusalReason.BAD_PATH, http_status=404)
    return station_identity(unquote(found.group(1)), unquote(found.group(2)))


def station_identity(party: str, station: str) -> StationIdentity:
    """Check an identity: a party id, and an OCPP identifier of at most 48 characters. Raises `StationRefused`."""
    try:
        party_id = PartyId(party)
    except MalformedPartyId as error:
        raise StationRefused(RefusalReason.BAD_PATH, http_status=404) from error
    if not _IDENTITY.fullmatch(station):
        raise StationRefused(RefusalReason.BAD_PATH, http_status=404)
    return StationIdentity(party_id, station)


def drawn_password(randomness: Randomness) -> str:
    """Return a new password of 160 bits: 40 digits of hex, as 1.6 wants its AuthorizationKey."""
    while True:
        password = randomness.token_bytes(PASSWORD_CHARACTERS_MAX // 2).hex()
        if _is_strong(password):
            return password


def _is_strong(password: str) -> bool:
    is_sized = PASSWORD_CHARACTERS_MIN <= len(password) <= PASSWORD_CHARACTERS_MAX
    is_drawn = len(set(password)) >= PASSWORD_KINDS_OF_CHARACTERS_MIN
    return is_sized and is_drawn and password.isascii() and password.isprintable()


def _failures(per_minute: int) -> KeyedBuckets:
    return KeyedBuckets(per_s=per_minute / 60, burst=per_minute)


class StationAuthenticator:
    """Decides who may open a connection."""

    def __init__(self, units: Units, timer: Timer, clock: Clock, *, master_key: bytes) -> None:
        self._units = units
        self._clock = clock
        self._timer = timer
        self._pepper = hmac.digest(master_key, b"station password", hashlib.sha256)
        self._by_identity = _failures(FAILURES_PER_MINUTE_PER_IDENTITY)
        self._by_address = _failures(FAILURES_PER_MINUTE_PER_ADDRESS)
        self._by_known_address = _failures(FAILURES_PER_MINUTE_PER_IDENTITY)

    async def authenticate(
        self,
        *,
        path: str,
        username: str | None,
        password: str | None,
        subprotocols: tuple[str, ...],
        address: str,
        profile: SecurityProfile = SecurityProfile.BASIC,
    ) -> tuple[StationIdentity, OCPPVersion]:
        """Return whose connection this is and what it speaks. Raises `StationRefused`.

        Under `TLS_CERTIFICATE`, the caller has found a valid certificate of this very station, and a password is not
        looked at (A00.FR.401).
        """
        identity = identity_from_path(path)
        if profile is SecurityProfile.TLS_CERTIFICATE:
            row = await self._registered(identity)
        elif username is None or password is None:
            raise StationRefused(RefusalReason.NO_CREDENTIALS, http_status=401)
        else:
            row = await self._checked(identity, username, password, address)
        if profile < row.security_profile:
            raise StationRefused(RefusalReason.PROFILE_TOO_LOW, http_status=403)
        offered = [SUBPROTOCOLS[name] for name in subprotocols if name in SUBPROTOCOLS]
        allowed = [version for version in offered if row.ocpp_version in {None, version.value}]
        if not allowed:
            raise StationRefused(RefusalReason.NO_SUBPROTOCOL, http_status=400)
        if profile > row.security_profile:
            await self._raise_profile(row, profile)
        # The client's order is its preference (RFC 6455, 4.1), and OCPP 2.0.1 part 4, 3.2 asks to follow it.
        return identity, allowed[0]

    async def set_password(
        self,
        identity: StationIdentity,
        password: str | None,
        ocpp_version: str | None,
        security_profile: SecurityProfile | None = None,
    ) -> None:
        """Store how a station proves itself; of a password, a keyed hash. Raises `WeakStationPassword`.

        Args:
            identity: The station.
            password: Of 20 to 40 characters; None keeps the one it has, if any: by its certificate it needs none.
            ocpp_version: The only one it may speak; None: any, and where no password is given, as it was.
            security_profile: The lowest it may come by from now on; None keeps what it is.
        """
        if password is not None and not _is_strong(password):
            raise WeakStationPassword("a station's password is 20 to 40 characters that a machine has drawn")
        async with self._units.begin() as unit:
            table = unit.table(STATION_CREDENTIAL)
            stored = await table.get_for_update(identity.party_id, identity.charging_station_id)
            lowest = SecurityProfile.BASIC.value if stored is None else stored.security_profile
            if security_profile is not None and security_profile < lowest:
                # Only an operator may do so, for a station that was reset or replaced (A05 lets no station).
                _LOG.warning("security_profile_lowered", station=identity.key, was=lowest, now=security_profile.value)
            row = StationCredentialRow(
                party_id=identity.party_id,
                charging_station_id=identity.charging_station_id,
                password_hash=NO_PASSWORD if password is None else self._password_hash(identity, password),
                ocpp_version=ocpp_version,
                known_address_hash=None,
                security_profile=lowest if security_profile is None else security_profile.value,
            )
            if password is None and stored is not None:
                version = stored.ocpp_version if ocpp_version is None else ocpp_version
                row = replace(stored, ocpp_version=version, security_profile=row.security_profile)
            await table.put(row)
            await unit.commit()

    async def stage_password(self, identity: StationIdentity, password: str, *, at: datetime) -> None:
        """Let a new password open connections beside the one in use. Raises `RotationRefused`."""
        async with self._units.begin() as unit:
            table = unit.table(STATION_CREDENTIAL)
            row = await table.get_for_update(identity.party_id, identity.charging_station_id)
            if row is None:
                raise RotationRefused("this station has no credential here")
            if len(row.next_password_hashes) >= NEXT_PASSWORDS_MAX:
                raise RotationRefused(
                    f"the station may have any of {NEXT_PASSWORDS_MAX} passwords: set one by hand, there and here"
                )
            hashes = (*row.next_password_hashes, self._password_hash(identity, password))
            await table.put(replace(row, next_password_hashes=hashes, rotation_asked_at=at))
            await unit.commit()

    async def confirm_password(self, identity: StationIdentity, password: str, *, old_until: datetime) -> None:
        """Note that the station took a staged password: those before it end at `old_until`, or when it comes by it."""
        hashed = self._password_hash(identity, password)
        async with self._units.begin() as unit:
            table = unit.table(STATION_CREDENTIAL)
            row = await table.get_for_update(identity.party_id, identity.charging_station_id)
            if row is not None and hashed in row.next_password_hashes:  # else it has come by it already
                await table.put(replace(row, next_password_hashes=(hashed,), old_password_until=old_until))
                await unit.commit()

    async def withdraw_password(self, identity: StationIdentity, password: str) -> None:
        """Drop a staged password that the station refused."""
        hashed = self._password_hash(identity, password)
        async with self._units.begin() as unit:
            table = unit.table(STATION_CREDENTIAL)
            row = await table.get_for_update(identity.party_id, identity.charging_station_id)
            if row is not None and hashed in row.next_password_hashes:
                left = tuple(each for each in row.next_password_hashes if each != hashed)
                asked_at = row.rotation_asked_at if left else None
                await table.put(replace(row, next_password_hashes=left, rotation_asked_at=asked_at))
                await unit.commit()

    async def credential(self, identity: StationIdentity) -> StationCredentialRow | None:
        """Return how a station proves itself."""
        async with self._units.begin() as unit:
            return await unit.table(STATION_CREDENTIAL).get(identity.party_id, identity.charging_station_id)

    async def _taken(self, row: StationCredentialRow, hashed: bytes) -> StationCredentialRow:
        """The station comes by a new password: it is the only one from now on."""
        async with self._units.begin() as unit:
            table = unit.table(STATION_CREDENTIAL)
            current = await table.get_for_update(row.party_id, row.charging_station_id)
            if current is None or hashed not in current.next_password_hashes:
                return row
            current = replace(
                current,
                password_hash=hashed,
                next_password_hashes=(),
                rotation_asked_at=None,
                old_password_until=None,
            )
            await table.put(current)
            await unit.commit()
        return current

    async def _registered(self, identity: StationIdentity) -> StationCredentialRow:
        async with self._units.begin() as unit:
            row = await unit.table(STATION_CREDENTIAL).get(identity.party_id, identity.charging_station_id)
        if row is None:
            raise StationRefused(RefusalReason.WRONG_CREDENTIALS, http_status=401)
        return row

    async def _raise_profile(self, row: StationCredentialRow, profile: SecurityProfile) -> None:
        async with self._units.begin() as unit:
            table = unit.table(STATION_CREDENTIAL)
            current = await table.get_for_update(row.party_id, row.charging_station_id)
            if current is not None and current.security_profile < profile:
                await table.put(replace(current, security_profile=profile.value))
                await unit.commit()

    async def _checked(
        self, identity: StationIdentity, username: str, password: str, address: str
    ) -> StationCredentialRow:
        now_s = self._timer.monotonic_s()
        async with self._units.begin() as unit:
            row = await unit.table(STATION_CREDENTIAL).get(identity.party_id, identity.charging_station_id)
        address_hash = self._address_hash(identity, address)
        is_known_address = row is not None and row.known_address_hash == address_hash
        known_key = f"{identity.key} {address}"
        stated = self._password_hash(identity, password)
        expected = bytes(len(stated)) if row is None or self._has_ended(row) else row.password_hash
        is_next = row is not None and any(hmac.compare_digest(stated, each) for each in row.next_password_hashes)
        is_right = (hmac.compare_digest(stated, expected) | is_next) & hmac.compare_digest(
            username.encode(), identity.charging_station_id.encode()
        )
        if row is None or not is_right:
            if is_known_address:
                is_spent = self._by_known_address.is_spent(known_key, now_s)
            else:
                is_spent = self._by_address.is_spent(address, now_s) or self._by_identity.is_spent(identity.key, now_s)
            if is_spent:
                raise StationRefused(RefusalReason.TOO_MANY_ATTEMPTS, http_status=429)
            self._by_address.spend(address, now_s)
            if is_known_address:
                self._by_known_address.spend(known_key, now_s)
            else:
                self._by_identity.spend(identity.key, now_s)
            raise StationRefused(RefusalReason.WRONG_CREDENTIALS, http_status=401)
        if is_next:
            row = await self._taken(row, stated)
        if not is_known_address:
            await self._remember_address(row, address_hash)
        return row

    def _has_ended(self, row: StationCredentialRow) -> bool:
        """Whether the password in use is over: the station took another one, and has had its time to come by it."""
        return row.old_password_until is not None and self._clock.now() >= row.old_password_until

    async def _remember_address(self, row: StationCredentialRow, address_hash: bytes) -> None:
        async with self._units.begin() as unit:
            table = unit.table(STATION_CREDENTIAL)
            current = await table.get_for_update(row.party_id, row.charging_station_id)
            if current is not None and current.password_hash == row.password_hash:
                await table.put(replace(current, known_address_hash=address_hash))
                await unit.commit()

    def _password_hash(self, identity: StationIdentity, password: str) -> bytes:
        return hmac.digest(self._pepper, f"{identity.key}\0{password}".encode(), hashlib.sha256)

    def _address_hash(self, identity: StationIdentity, address: str) -> bytes:
        return hmac.digest(self._pepper, f"address {identity.key}\0{address}".encode(), hashlib.sha256)
