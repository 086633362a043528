"""Quarrels over CDRs: kept with their reasons, made facts, owed to the CPO, and ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import structlog

from emobility.domain.cdr_check import CDRFinding
from emobility.events.cdr import CDRDisputed
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi import v221
from emobility.protocols.ocpi.deliveries import Deliveries
from emobility.protocols.ocpi.v221 import InterfaceRole, ModuleID
from services.driver_mobility.facts import fact
from services.driver_mobility.records import CDRS, DISPUTE, CDRRecord, CDRState, DisputeRecord

DETAIL_CHARACTERS_MAX: Final = 512

_log = structlog.get_logger(__name__)


class Disputes:
    """Raises disputes with CPOs and ends them."""

    def __init__(self, ports: Ports, deliveries: Deliveries) -> None:
        self._ports = ports
        self._deliveries = deliveries

    async def raise_over(
        self, unit: UnitOfWork, record: CDRRecord, findings: tuple[CDRFinding, ...], *, correlation_id: str
    ) -> None:
        """Dispute a CDR, with all that is wrong with it; the first reason is the one that machines read."""
        now = self._ports.clock.now()
        disputed = replace(record, state=CDRState.DISPUTED, findings=findings, clause=findings[0].clause)
        await unit.table(CDRS).put(disputed)
        dispute = DisputeRecord(
            party_id=record.party_id,
            cpo_id=record.cpo_id,
            cdr_id=record.cdr_id,
            findings=findings,
            disputed_at=now,
            resolution=None,
        )
        await unit.table(DISPUTE).put(dispute)
        first, detail = findings[0], _detail(findings)
        event = CDRDisputed(
            agreement_id=record.agreement_id,
            cpo_id=record.cpo_id,
            emsp_id=record.party_id,
            cdr_id=record.cdr_id,
            reason=first.fault.value,
            detail=detail,
            disputed_at=now,
            expected_e4=first.expected_e4,
            stated_e4=first.stated_e4,
            clause=first.clause,
        )
        parts = (record.party_id.code, record.cpo_id.code, record.cdr_id)
        unit.emit(fact(event, *parts, correlation_id=correlation_id, at=now))
        body = v221.Dispute(
            cdr_id=record.cdr_id,
            reason=first.fault.value,
            detail=detail,
            expected_e4=first.expected_e4,
            stated_e4=first.stated_e4,
            clause=first.clause,
        )
        await self._deliveries.enqueue(
            unit,
            own_party=record.party_id,
            to_party=record.cpo_id,
            method="POST",
            module=ModuleID.DISPUTES,
            interface_role=InterfaceRole.RECEIVER,
            path="",
            object_key=f"dispute/{record.cdr_id}",
            body=body,
            correlation_id=correlation_id,
            is_replaceable=False,
        )
        _log.warning("cdr_disputed", emsp=record.party_id.code, cpo=record.cpo_id.code, cdr_id=record.cdr_id)

    async def resolve(self, unit: UnitOfWork, original: CDRRecord, *, resolution: str) -> None:
        """End the quarrel over a CDR, if there is one."""
        dispute = await unit.table(DISPUTE).get(original.party_id, original.cpo_id, original.cdr_id)
        if dispute is not None:
            await unit.table(DISPUTE).put(replace(dispute, resolution=resolution))


def _detail(findings: Sequence[CDRFinding]) -> str:
    text = "; ".join(f"{finding.fault}: {finding.detail}" for finding in findings)
    return text[:DETAIL_CHARACTERS_MAX]
