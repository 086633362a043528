"""What stations tell in the words of their OCPP version: kept as it came, shown to the operator without persons."""

from __future__ import annotations

import json
from typing import Any, Final

from emobility.domain.personal import SubjectErased
from emobility.events.charging import StationNotified
from emobility.ports.unit_of_work import UnitOfWork
from emobility.ports.vault import Vault
from services.charging_operations.records import CPO, STATION_NOTICE, StationNoticeRecord

PERSONAL: Final = frozenset(
    {
        *("idTag", "parentIdTag", "idToken", "additionalIdToken"),
        *("data", "exiRequest", "certificate", "csr"),
        *("vatNumber", "name", "address1", "address2", "city", "postalCode"),
    }
)
"""Properties whose texts may name a person, or are of no use to people."""
MASK: Final = "***"


async def keep_notice(unit: UnitOfWork, event: StationNotified, notice_id: str) -> None:
    """Store a notice once; of a party that is not hosted here, nothing."""
    if await unit.table(CPO).get(event.party_id) is None:
        return
    await unit.table(STATION_NOTICE).put(
        StationNoticeRecord(
            party_id=event.party_id,
            charging_station_id=event.charging_station_id,
            notice_id=notice_id,
            ocpp_version=event.ocpp_version,
            action=event.action,
            payload=event.payload,
            occurred_at=event.occurred_at,
        )
    )


async def shown_notice(vault: Vault, row: StationNoticeRecord) -> dict[str, Any]:
    """Return a notice for the operator; its payload is None where whom it names was erased."""
    try:
        payload = masked(json.loads(await vault.open(row.payload)))
    except SubjectErased:
        payload = None
    return {
        "notice_id": row.notice_id,
        "occurred_at": row.occurred_at,
        "ocpp_version": row.ocpp_version,
        "action": row.action,
        "payload": payload,
    }


def masked(value: Any, name: str = "") -> Any:
    """Return a JSON value with every text under a `PERSONAL` name masked, at any depth."""
    if isinstance(value, dict):
        return {key: masked(each, key) for key, each in value.items()}
    if isinstance(value, list):
        return [masked(each, name) for each in value]
    return MASK if isinstance(value, str) and value and name in PERSONAL else value
