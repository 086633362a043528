"""Certificates that end: shown, counted, and renewed in time where a station can ask for a new one itself."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import structlog

from emobility.domain.errors import RuleBroken, Unavailable
from emobility.domain.identifiers import PartyId
from emobility.ports.stores import TableSpec
from emobility.protocols.station_control.messages import CertificateEnding
from services.charging_operations.installed_certificates import INSTALLED_CERTIFICATE
from services.charging_operations.office import Office
from services.charging_operations.records import CPO
from services.charging_operations.station_calls import OCPP_16, StationOffline, call_station, version_of

ENDS_SOON: Final = timedelta(days=30)
"""From then on a station is asked to renew its certificate, and the metric counts it."""
ASKED_AGAIN_AFTER: Final = timedelta(days=1)
WATCH_INTERVAL: Final = timedelta(hours=1)
STATION: Final = "station"
_TRIGGERS: Final = {
    True: ("ExtendedTriggerMessage", {"requestedMessage": "SignChargePointCertificate"}),
    False: ("TriggerMessage", {"requestedMessage": "SignChargingStationCertificate"}),
}
"""By whether the station speaks 1.6."""
_log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRenewalRecord:
    """When a station was last asked to renew its certificate, and what it said; None: nothing yet."""

    party_id: PartyId
    charging_station_id: str
    serial_number: str
    asked_at: datetime
    answer: str | None = None


CERTIFICATE_RENEWAL: Final = TableSpec(
    name="cpo_certificate_renewal", record=CertificateRenewalRecord, key=("party_id", "charging_station_id")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateWatch:
    """Looks what ends."""

    office: Office

    async def ending(self, party_id: PartyId, within: timedelta) -> list[CertificateEnding]:
        """Return what ends within a time or has ended: stations' own, what is installed in them, the gateway's files.

        Raises what `StationControlClient.ending_certificates` does.
        """
        before = self.office.now() + within
        endings = await self.office.stations.ending_certificates(party_id, before=before)
        async with self.office.ports.units.begin() as unit:
            rows = await unit.table(INSTALLED_CERTIFICATE).select({"party_id": party_id}, before=("not_after", before))
        endings += [
            CertificateEnding(
                kind=row.certificate_type,
                not_after=row.not_after,
                charging_station_id=row.charging_station_id,
                serial_number=row.hash_data["serialNumber"],
            )
            for row in rows
            if row.not_after is not None
        ]
        return sorted(endings, key=lambda each: each.not_after)

    async def look(self) -> None:
        """Count what ends soon, and have stations renew their certificates, each once a day at most."""
        async with self.office.ports.units.begin() as unit:
            parties = [row.party_id for row in await unit.table(CPO).select()]
        soon: set[CertificateEnding] = set()
        for party_id in parties:
            try:
                endings = await self.ending(party_id, ENDS_SOON)
            except RuleBroken as error:
                _log.error("certificates_not_watched", party_id=party_id.code, reason=str(error))
                continue
            soon |= set(endings)  # the gateway's own are every party's
            for ending in endings:
                if ending.kind == STATION and ending.charging_station_id is not None:
                    await self._renew(party_id, ending.charging_station_id, ending.serial_number or "")
        self.office.metrics.certificates_end(Counter(each.kind for each in soon))

    async def _renew(self, party_id: PartyId, station_id: str, serial_number: str) -> None:
        try:
            version = await version_of(self.office, party_id, station_id)
        except StationOffline:
            return
        renewal = CertificateRenewalRecord(
            party_id=party_id,
            charging_station_id=station_id,
            serial_number=serial_number,
            asked_at=self.office.now(),
        )
        async with self.office.ports.units.begin() as unit:
            table = unit.table(CERTIFICATE_RENEWAL)
            known = await table.get_for_update(party_id, station_id)
            is_new = known is None or known.serial_number != serial_number
            if known is not None and not is_new and renewal.asked_at < known.asked_at + ASKED_AGAIN_AFTER:
                return
            await table.put(renewal)
            await unit.commit()
        action, payload = _TRIGGERS[version == OCPP_16]
        try:
            outcome = await call_station(
                self.office, party_id, station_id, action, payload, correlation_id=f"renewal/{station_id}"
            )
        except (Unavailable, RuleBroken) as error:
            _log.warning("renewal_not_asked", station=station_id, reason=str(error))
            return
        answer = outcome.station_status or outcome.result.value
        async with self.office.ports.units.begin() as unit:
            await unit.table(CERTIFICATE_RENEWAL).put(replace(renewal, answer=answer))
            await unit.commit()
        _log.info("renewal_asked", station=station_id, answer=answer)
