"""What stations tell in the words of their OCPP version: kept as it came, shown to the operator without persons."""

from __future__ import annotations

import json

from emobility.domain.personal import SubjectErased
from emobility.events.charging import StationNotified
from emobility.ports.unit_of_work import UnitOfWork
from emobility.ports.vault import Vault
from emobility.protocols.station_control.redaction import redacted
from services.charging_operations.records import CPO, STATION_NOTICE, StationNoticeRecord
from services.charging_operations.shown import NoticeShown


async def keep_notice(unit: UnitOfWork, event: StationNotified, notice_id: str) -> None:
    """Store a notice, as it was told first; of a party that is not hosted here, nothing."""
    if await unit.table(CPO).get(event.party_id) is None:
        return
    told = StationNoticeRecord(
        party_id=event.party_id,
        charging_station_id=event.charging_station_id,
        notice_id=notice_id,
        ocpp_version=event.ocpp_version,
        action=event.action,
        payload=event.payload,
        occurred_at=event.occurred_at,
    )
    await unit.table(STATION_NOTICE).insert_all([told])


async def shown_notice(vault: Vault, row: StationNoticeRecord) -> NoticeShown:
    """Return a notice for the operator; its payload is None where whom it names was erased."""
    try:
        payload = redacted(json.loads(await vault.open(row.payload)))
    except SubjectErased:
        payload = None
    return NoticeShown(
        notice_id=row.notice_id,
        occurred_at=row.occurred_at,
        ocpp_version=row.ocpp_version,
        action=row.action,
        payload=payload,
    )
