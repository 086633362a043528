"""Quarrels over CDRs: kept with their reasons, made facts, owed to the CPO, and ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

import structlog
from msgspec import structs

from emobility.domain.agreement import NoAgreementInForce, RoamingAgreement, answer_due_at
from emobility.domain.cdr_check import CDRFinding
from emobility.domain.cdr_difference import Difference
from emobility.domain.personal import SubjectErased
from emobility.domain.proposed_correction import ProposedCorrection, costs_of, propose_correction
from emobility.domain.tariff.priced import PricedSession
from emobility.events.cdr import CDRDisputed
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi import v221
from emobility.protocols.ocpi.deliveries import Deliveries
from emobility.protocols.ocpi.mapping import NotInTheirWords, cdr_to_ocpi
from emobility.protocols.ocpi.v221 import InterfaceRole, ModuleID
from services.driver_mobility.facts import fact
from services.driver_mobility.records import CDRS, DISPUTE, CDRRecord, CDRState, DisputeRecord
from services.driver_mobility.terms import agreement_at

DETAIL_CHARACTERS_MAX: Final = 512

_log = structlog.get_logger(__name__)


class Disputes:
    """Raises disputes with CPOs and ends them."""

    def __init__(self, ports: Ports, deliveries: Deliveries) -> None:
        self._ports = ports
        self._deliveries = deliveries

    async def raise_over(
        self,
        unit: UnitOfWork,
        record: CDRRecord,
        findings: tuple[CDRFinding, ...],
        *,
        correlation_id: str,
        repriced: PricedSession | None = None,
    ) -> None:
        """Dispute a CDR, with all that is wrong with it; the first reason is the one that machines read.

        Where only its amounts are wrong, `repriced` makes a credit and a replacement that the CPO may issue.
        """
        now = self._ports.clock.now()
        disputed = replace(record, state=CDRState.DISPUTED, findings=findings, clause=findings[0].clause)
        await unit.table(CDRS).put(disputed)
        proposal = _proposal(record, findings, repriced, now)
        agreement = await agreement_of(unit, record)
        dispute = DisputeRecord(
            party_id=record.party_id,
            cpo_id=record.cpo_id,
            cdr_id=record.cdr_id,
            findings=findings,
            disputed_at=now,
            resolution=None,
            proposal=None if proposal is None else costs_of(proposal.replacement),
            answer_by=None if agreement is None else answer_due_at(agreement, now),
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
            differences=[_disputed(each.difference) for each in findings if each.difference is not None],
        )
        proposed = None if proposal is None else await self._with_proposal(body, proposal)
        await self._deliveries.enqueue(
            unit,
            own_party=record.party_id,
            to_party=record.cpo_id,
            method="POST",
            module=ModuleID.DISPUTES,
            interface_role=InterfaceRole.RECEIVER,
            path="",
            object_key=f"dispute/{record.cdr_id}",
            body=proposed or body,
            correlation_id=correlation_id,
            is_replaceable=False,
            subject=record.token_subject if proposed else None,
        )
        _log.warning("cdr_disputed", emsp=record.party_id.code, cpo=record.cpo_id.code, cdr_id=record.cdr_id)

    async def _with_proposal(self, body: v221.Dispute, proposal: ProposedCorrection) -> v221.Dispute | None:
        """Return the dispute with its proposal; None: it can't be said."""
        try:
            credit = await cdr_to_ocpi(proposal.credit, self._ports.vault)
            replacement = await cdr_to_ocpi(proposal.replacement, self._ports.vault)
        except (SubjectErased, NotInTheirWords):
            return None
        return structs.replace(body, proposed_credit=credit, proposed_replacement=replacement)

    async def set_answer_by(self, unit: UnitOfWork, original: CDRRecord, answer_by: datetime | None) -> None:
        """Write down until when the CPO may answer; None: no such time is agreed."""
        dispute = await unit.table(DISPUTE).get(original.party_id, original.cpo_id, original.cdr_id)
        if dispute is not None:
            await unit.table(DISPUTE).put(replace(dispute, answer_by=answer_by))

    async def resolve(self, unit: UnitOfWork, original: CDRRecord, *, resolution: str) -> None:
        """End the quarrel over a CDR, if there is one."""
        dispute = await unit.table(DISPUTE).get(original.party_id, original.cpo_id, original.cdr_id)
        if dispute is not None:
            await unit.table(DISPUTE).put(replace(dispute, resolution=resolution))


async def agreement_of(unit: UnitOfWork, record: CDRRecord) -> RoamingAgreement | None:
    """Return the agreement that was in force when a CDR's charge began; None: there was none."""
    try:
        return await agreement_at(unit, record.party_id, record.cpo_id, record.started_at)
    except NoAgreementInForce:
        return None


def _disputed(difference: Difference) -> v221.DisputedAmount:
    return v221.DisputedAmount(
        part=difference.part.value,
        is_after_tax=difference.is_after_tax,
        cause=difference.cause.value,
        expected_e4=difference.expected_e4,
        stated_e4=difference.stated_e4,
        period_index=difference.period_index,
        dimension=None if difference.dimension is None else difference.dimension.value,
        element_index=difference.element_index,
        other_element_index=difference.other_element_index,
        rounding_policy=None if difference.rounding_policy is None else str(difference.rounding_policy),
    )


def _proposal(
    record: CDRRecord, findings: Sequence[CDRFinding], repriced: PricedSession | None, at: datetime
) -> ProposedCorrection | None:
    """Return what would end a dispute that is over amounts alone."""
    if repriced is None or any(finding.difference is None for finding in findings):
        return None
    return propose_correction(record.cdr, repriced, proposed_at=at)


def _detail(findings: Sequence[CDRFinding]) -> str:
    text = "; ".join(f"{finding.fault}: {finding.detail}" for finding in findings)
    return text[:DETAIL_CHARACTERS_MAX]
