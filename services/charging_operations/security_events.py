"""Security events of stations: which are critical, and the list of them (OCPP 2.0.1 A04; 1.6 security white paper)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from emobility.domain.identifiers import PartyId
from emobility.events.charging import SecurityEventReported
from emobility.events.event import Envelope
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from services.charging_operations.office import Office

CRITICALITY: Final = {
    "FirmwareUpdated": True,
    "FailedToAuthenticateAtCsms": False,
    "CsmsFailedToAuthenticate": False,
    "SettingSystemTime": True,
    "StartupOfTheDevice": True,
    "ResetOrReboot": True,
    "SecurityLogWasCleared": True,
    "ReconfigurationOfSecurityParameters": False,
    "MemoryExhaustion": True,
    "InvalidMessages": False,
    "AttemptedReplayAttacks": False,
    "TamperDetectionActivated": True,
    "InvalidFirmwareSignature": True,
    "InvalidFirmwareSigningCertificate": True,
    "InvalidCsmsCertificate": True,
    "InvalidChargingStationCertificate": True,
    "DiscardedRenewedClientCertificate": True,
    "InvalidTLSVersion": True,
    "InvalidTLSCipherSuite": True,
    "MaintenanceLoginAccepted": True,
    "MaintenanceLoginFailed": True,
    # The names that 1.6 has for the two certificates and the two refusals.
    "InvalidCentralSystemCertificate": True,
    "InvalidChargePointCertificate": True,
    "FailedToAuthenticateAtCentralSystem": False,
    "CentralSystemFailedToAuthenticate": False,
}
"""OCPP 2.1 (and 2.0.1) part 2, appendix 1, "Security Events"; one that is not there is a vendor's, and not critical."""
OTHER: Final = "other"
"""In the metric, an event that the standard does not have."""
_log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityEventRecord:
    """A security event as its station worded it."""

    party_id: PartyId
    charging_station_id: str
    security_event_id: str
    security_event: str
    is_critical: bool
    occurred_at: datetime
    heard_at: datetime
    tech_info: str | None


SECURITY_EVENT: Final = TableSpec(
    name="cpo_security_event",
    record=SecurityEventRecord,
    key=("party_id", "charging_station_id", "security_event_id"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityDesk:
    """Keeps security events and counts them."""

    office: Office

    async def take(self, unit: UnitOfWork, envelope: Envelope, event: SecurityEventReported) -> None:
        """Keep an event; a critical one is in the log, too."""
        is_critical = CRITICALITY.get(event.security_event, False)
        await unit.table(SECURITY_EVENT).put(
            SecurityEventRecord(
                party_id=event.party_id,
                charging_station_id=event.charging_station_id,
                security_event_id=envelope.event_id,
                security_event=event.security_event,
                is_critical=is_critical,
                occurred_at=event.occurred_at,
                heard_at=envelope.recorded_at,
                tech_info=event.tech_info,
            )
        )
        kind = event.security_event if event.security_event in CRITICALITY else OTHER
        unit.on_commit(lambda: self.office.metrics.security_event(kind, is_critical=is_critical))
        if is_critical:
            _log.warning("critical_security_event", station=event.key, security_event=event.security_event[:50])
