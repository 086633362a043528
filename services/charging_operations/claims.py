"""Claims: a station that nobody knows comes in once, by a password that was drawn for it and shown once.

The gateway lets no unknown identity in. An operator claims one: what it will be, and if wanted the serial number that
it has to name. Its first boot uses the claim up and enters the station. A claim that ends otherwise takes its password
with it, by one that nobody knows; until that is done, whoever came by it is connected to nothing: decisions, sessions
and commands need a station that was entered.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import structlog

from emobility.domain.errors import RuleBroken, Unavailable
from emobility.domain.identifiers import PartyId
from emobility.events.charging import StationBooted
from emobility.events.event import Envelope
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.station_control.messages import StationCredential
from services.charging_operations.office import NotAllowedNow, NotFound, NotUnderstood, Office, require_hosted
from services.charging_operations.records import LOCATION, STATION
from services.charging_operations.stations import STATION_ID, STATION_ID_RULE, StationDesk, StationTerms

PASSWORD_BYTES: Final = 20
"""40 hex digits: what OCPP 1.6's AuthorizationKey and 2.x's BasicAuthPassword both take."""
VALID_H: Final = 7 * 24
VALID_H_MAX: Final = 90 * 24
SERIAL_NUMBER_CHARACTERS_MAX: Final = 50
SETTLED_AT_ONCE: Final = 100
_log: Final = structlog.get_logger(__name__)


class ClaimState(StrEnum):
    """Life of a claim."""

    OPEN = "OPEN"
    USED = "USED"
    EXPIRED = "EXPIRED"
    WITHDRAWN = "WITHDRAWN"
    """By its operator, or by a later claim of the same station."""
    REFUSED = "REFUSED"
    """The station that came is another one, or can't be entered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StationClaim:
    """POST /claims. `serial_number`: the one its BootNotification has to name; None: any."""

    charging_station_id: str
    terms: StationTerms
    serial_number: str | None = None
    ocpp_version: str | None = None
    security_profile: int | None = None
    valid_h: int = VALID_H


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRecord:
    """A claim; `why` says how it ended. `is_settled`: its password is the station's, or opens nothing any more."""

    party_id: PartyId
    claim_id: str
    charging_station_id: str
    serial_number: str | None
    terms: StationTerms
    state: ClaimState
    why: str | None
    is_settled: bool
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None = None


CLAIM: Final = TableSpec(name="cpo_station_claim", record=ClaimRecord, key=("party_id", "claim_id"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimDesk:
    """Keeps claims."""

    office: Office
    stations: StationDesk
    _password: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a station's password changes, so that an old claim never takes a new one's."""

    async def make(self, party_id: PartyId, wanted: StationClaim) -> tuple[ClaimRecord, str]:
        """Claim a station and return the password drawn for it, which is shown once; an earlier claim of it ends.

        Raises:
            NotFound: the party or the location is not known.
            NotUnderstood: the station's id, its serial number or the validity break a bound.
            NotAllowedNow: the station is known already.
            GatewayUnavailable, GatewayRefused: the gateway has not taken the password; claim again.
        """
        _check(wanted)
        password, now = self.office.ports.randomness.token_bytes(PASSWORD_BYTES).hex(), self.office.now()
        claim = ClaimRecord(
            party_id=party_id,
            claim_id=self.office.ports.randomness.uuid(),
            charging_station_id=wanted.charging_station_id,
            serial_number=wanted.serial_number,
            terms=wanted.terms,
            state=ClaimState.OPEN,
            why=None,
            is_settled=False,
            created_at=now,
            expires_at=now + timedelta(hours=wanted.valid_h),
        )
        async with self._password:
            async with self.office.ports.units.begin() as unit:
                await require_hosted(unit, party_id)
                if await unit.table(STATION).get(party_id, wanted.charging_station_id) is not None:
                    raise NotAllowedNow(f"station {wanted.charging_station_id} is known: change its credential")
                if await unit.table(LOCATION).get(party_id, wanted.terms.location_id) is None:
                    raise NotFound(f"no location {wanted.terms.location_id}")
                await self._supersede(unit, claim)
                await unit.table(CLAIM).insert(claim)
                await unit.commit()
            credential = StationCredential(
                password=password, ocpp_version=wanted.ocpp_version, security_profile=wanted.security_profile
            )
            await self.office.stations.put_credential(party_id, wanted.charging_station_id, credential)
        return claim, password

    async def withdraw(self, party_id: PartyId, claim_id: str) -> ClaimRecord:
        """End a claim; its password opens nothing within a minute. Raises `NotFound`, `NotAllowedNow`: it has ended."""
        async with self.office.ports.units.begin() as unit:
            claim = await unit.table(CLAIM).get_for_update(party_id, claim_id)
            if claim is None:
                raise NotFound(f"no claim {claim_id}")
            if claim.state is not ClaimState.OPEN:
                raise NotAllowedNow(f"claim {claim_id} is {claim.state}")
            ended = self._ended(claim, ClaimState.WITHDRAWN, "its operator withdrew it")
            await unit.table(CLAIM).put(ended)
            await unit.commit()
        return ended

    async def take(self, unit: UnitOfWork, envelope: Envelope, event: StationBooted) -> None:
        """Let the first boot of a claimed station use its claim up."""
        claims = await unit.table(CLAIM).select(
            {
                "party_id": event.party_id,
                "charging_station_id": event.charging_station_id,
                "state": ClaimState.OPEN,
            }
        )
        for each in claims:
            claim = await unit.table(CLAIM).get_for_update(each.party_id, each.claim_id)
            # A boot that was heard before the claim was made is of whoever had the station before.
            if claim is not None and claim.state is ClaimState.OPEN and claim.created_at <= envelope.recorded_at:
                await unit.table(CLAIM).put(await self._met(unit, claim, envelope, event))

    async def _met(self, unit: UnitOfWork, claim: ClaimRecord, envelope: Envelope, event: StationBooted) -> ClaimRecord:
        if envelope.recorded_at >= claim.expires_at:
            return self._ended(claim, ClaimState.EXPIRED, "the station came too late")
        wanted, named = claim.serial_number, event.serial_number
        if wanted is not None and (named or "").casefold() != wanted.casefold():
            return self._ended(claim, ClaimState.REFUSED, f"the station names serial number {named}, not {wanted}")
        try:
            await self.stations.put_station(
                unit,
                claim.party_id,
                claim.charging_station_id,
                claim.terms,
                correlation_id=envelope.correlation_id,
            )
        except RuleBroken as error:
            return self._ended(claim, ClaimState.REFUSED, f"it can't be entered: {error}")
        return replace(self._ended(claim, ClaimState.USED, None), is_settled=True)

    async def watch(self) -> None:
        """End what is too old, and take the passwords of claims that ended without their station."""
        now = self.office.now()
        async with self.office.ports.units.begin() as unit:
            unsettled = await unit.table(CLAIM).select(
                {"is_settled": False}, order_by=("expires_at",), limit=SETTLED_AT_ONCE
            )
        for claim in unsettled:
            if claim.state is ClaimState.OPEN and now < claim.expires_at:
                continue
            try:
                await self._settle(claim.party_id, claim.claim_id)
            except (Unavailable, RuleBroken) as error:
                _log.warning("claim_not_settled", claim_id=claim.claim_id, reason=str(error))

    async def _settle(self, party_id: PartyId, claim_id: str) -> None:
        async with self._password:
            async with self.office.ports.units.begin() as unit:
                claim = await unit.table(CLAIM).get_for_update(party_id, claim_id)
                if claim is None or claim.is_settled:
                    return
                if claim.state is ClaimState.OPEN:
                    claim = self._ended(claim, ClaimState.EXPIRED, "no station came")
                    await unit.table(CLAIM).put(claim)
                    await unit.commit()
            nobodys = StationCredential(password=self.office.ports.randomness.token_bytes(PASSWORD_BYTES).hex())
            await self.office.stations.put_credential(party_id, claim.charging_station_id, nobodys)
            async with self.office.ports.units.begin() as unit:
                await unit.table(CLAIM).put(replace(claim, is_settled=True))
                await unit.commit()

    async def _supersede(self, unit: UnitOfWork, claim: ClaimRecord) -> None:
        """End earlier claims of the station; the new password takes the place of theirs."""
        for each in await unit.table(CLAIM).select(
            {"party_id": claim.party_id, "charging_station_id": claim.charging_station_id, "is_settled": False}
        ):
            old = await unit.table(CLAIM).get_for_update(each.party_id, each.claim_id)
            if old is not None and old.state is ClaimState.OPEN:
                old = self._ended(old, ClaimState.WITHDRAWN, f"claim {claim.claim_id} took its place")
            if old is not None:
                await unit.table(CLAIM).put(replace(old, is_settled=True))

    def _ended(self, claim: ClaimRecord, state: ClaimState, why: str | None) -> ClaimRecord:
        return replace(claim, state=state, why=why, ended_at=self.office.now())


def _check(wanted: StationClaim) -> None:
    if not STATION_ID.fullmatch(wanted.charging_station_id):
        raise NotUnderstood(STATION_ID_RULE)
    if wanted.serial_number is not None and not 1 <= len(wanted.serial_number) <= SERIAL_NUMBER_CHARACTERS_MAX:
        raise NotUnderstood(f"a serial number has 1 to {SERIAL_NUMBER_CHARACTERS_MAX} characters")
    if not 1 <= wanted.valid_h <= VALID_H_MAX:
        raise NotUnderstood(f"valid_h is 1 to {VALID_H_MAX}")
