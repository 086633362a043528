"""What all parts of the CPO back office share: ports, the OCPI host, the way to the gateway, and the named limits."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from emobility.domain.agreement import RoamingAgreement, agreement_in_force
from emobility.domain.errors import MalformedInput, RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.events.event import Envelope, Event
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi.agreement_exchange import ended
from emobility.protocols.ocpi.host import OCPIHost
from emobility.protocols.station_control.client import StationControlClient
from services.charging_operations.metrics import OperationsMetrics
from services.charging_operations.records import AGREEMENT, CPO, AgreementState

REMOTE_START_ID_MAX: Final = 2**31 - 1
"""OCPP 2.x, remoteStartId: an integer of 32 bits."""
GROUP: Final = "charging_operations"
"""Consumer group of the topic `charging`."""


class NotFound(RuleBroken):
    """The party has no such object; what another party has is not said."""


class NotAllowedNow(RuleBroken):
    """The object is not in a state that allows this."""


class NotUnderstood(MalformedInput):
    """A request's fields contradict each other or break a rule of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of the back office.

    Attributes:
        session_push_interval: A running session is told to its eMSP not more often than this, except its first and
            last state.
        authorization_valid: How long an accepted authorisation without a transaction may be used at its station.
        authorization_timeout_s: How long the eMSP may take to answer in real time; stations wait about 30 s.
        command_timeout_s: How long a station may take; stated to the eMSP in the CommandResponse.
        commands_at_once: Commands that wait for a station at the same time.
        missing_reports_wait: How long after its end a transaction waits for reports that are missing.
        sweep_interval: How often overdue transactions are looked for, and what is too old.
        told_retention: How long notices, events and messages of stations are kept.
        concurrent_offline_max: How long a station may be away before its transactions hold no token any more.
        concurrent_silence_max: How long a transaction without a report holds its token; a 1.6 station that samples
            nothing is silent for the whole charge.
    """

    session_push_interval: timedelta = timedelta(minutes=5)
    authorization_valid: timedelta = timedelta(minutes=15)
    authorization_timeout_s: float = 8.0
    command_timeout_s: int = 30
    commands_at_once: int = 200
    missing_reports_wait: timedelta = timedelta(hours=24)
    sweep_interval: timedelta = timedelta(hours=1)
    told_retention: timedelta = timedelta(days=400)
    concurrent_offline_max: timedelta = timedelta(hours=1)
    concurrent_silence_max: timedelta = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """Handed to every part."""

    ports: Ports
    host: OCPIHost
    stations: StationControlClient
    limits: Limits
    metrics: OperationsMetrics

    def now(self) -> datetime:
        """Return the present moment."""
        return self.ports.clock.now()

    def fact(self, event: Event, *, event_id: str, correlation_id: str) -> Envelope:
        """Wrap a fact of our own; `event_id` names object and version, so that a repetition is seen."""
        return Envelope(
            event=event, event_id=event_id, correlation_id=correlation_id, recorded_at=self.ports.clock.now()
        )


def short_hash(*parts: str) -> str:
    """Return 32 hex digits that name what `parts` name."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


async def require_hosted(unit: UnitOfWork, party_id: PartyId) -> None:
    """Raise `NotFound` unless the party is hosted here."""
    if await unit.table(CPO).get(party_id) is None:
        raise NotFound(f"{party_id} is not hosted here: enter it by PUT /operations/{party_id}")


async def signed_agreements(unit: UnitOfWork, party_id: PartyId) -> list[RoamingAgreement]:
    """Return all versions that both sides signed, as they are valid after the notices that were given."""
    rows = await unit.table(AGREEMENT).select({"party_id": party_id, "state": AgreementState.SIGNED})
    of_emsp: dict[PartyId, list[RoamingAgreement]] = {}
    for row in rows:
        of_emsp.setdefault(row.emsp_id, []).append(row.agreement)
    return [each for emsp_id, found in of_emsp.items() for each in await ended(unit, party_id, emsp_id, found)]


async def agreement_at(unit: UnitOfWork, party_id: PartyId, emsp_id: PartyId, at: datetime) -> RoamingAgreement:
    """Return the pair's agreement in force. Raises `NoAgreementInForce`."""
    return agreement_in_force(await signed_with(unit, party_id, emsp_id), party_id, emsp_id, at)


async def signed_with(unit: UnitOfWork, party_id: PartyId, emsp_id: PartyId) -> list[RoamingAgreement]:
    """Return all versions that a pair signed, as they are valid after the notices that were given."""
    rows = await unit.table(AGREEMENT).select(
        {"party_id": party_id, "emsp_id": emsp_id, "state": AgreementState.SIGNED}
    )
    return await ended(unit, party_id, emsp_id, [row.agreement for row in rows])
