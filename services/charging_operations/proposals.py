"""What eMSPs propose to end disputes: taken in when it is about our CDR, issued when our own pricing agrees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import structlog
from msgspec import structs

from emobility.domain.cdr import CDR
from emobility.domain.errors import RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.domain.personal import SubjectErased
from emobility.domain.proposed_correction import ProposedCosts, costs_of
from emobility.ports.unit_of_work import UnitOfWork
from emobility.ports.vault import Vault
from emobility.protocols.ocpi import v221
from emobility.protocols.ocpi.mapping import cdr_to_ocpi, price_from_ocpi
from services.charging_operations.credits import CreditDesk, CreditRequest, Replacement
from services.charging_operations.office import NotAllowedNow, NotFound
from services.charging_operations.records import CDRS, DISPUTE, DisputeRecord

COSTS: Final = (
    "total_cost",
    "total_fixed_cost",
    "total_energy_cost",
    "total_time_cost",
    "total_parking_cost",
    "total_reservation_cost",
)

_log = structlog.get_logger(__name__)


class ProposalDiffers(RuleBroken):
    """Our own pricing of the same periods gives other amounts than the eMSP proposes."""

    def __init__(self, *, cdr_id: str, proposed_e4: int, priced_e4: int) -> None:
        self.proposed_e4 = proposed_e4
        self.priced_e4 = priced_e4
        super().__init__(f"CDR {cdr_id}: {proposed_e4} ten-thousandths are proposed, our pricing gives {priced_e4}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """Who takes a proposal on."""

    who: str = "operator"


async def proposal_in(dispute: v221.Dispute, original: CDR, vault: Vault) -> ProposedCosts | None:
    """Return the amounts a dispute proposes; None: none, or its documents say more than other amounts.

    The credit must be the original's with its total turned, the replacement the original's but for its amounts: then
    the amounts are all there is to keep, and nothing personal is kept twice.
    """
    credit, replacement = dispute.proposed_credit, dispute.proposed_replacement
    if credit is None or replacement is None:
        return None
    try:
        ours = await cdr_to_ocpi(original, vault)
    except SubjectErased:
        return None
    if _but_for(replacement, ours, *COSTS) != ours or not _takes_back(credit, ours):
        _log.warning("proposal_is_about_another_document", cdr_id=original.cdr_id)
        return None
    prices = {name: getattr(replacement, name) for name in COSTS}
    return ProposedCosts(**{name: None if price is None else price_from_ocpi(price) for name, price in prices.items()})  # type: ignore[arg-type]  # OCPI has a total in every CDR


def _but_for(document: v221.CDR, ours: v221.CDR, *fields: str) -> v221.CDR:
    names = ("id", "last_updated", "remark", *fields)
    return structs.replace(document, **{name: getattr(ours, name) for name in names})


def _takes_back(credit: v221.CDR, ours: v221.CDR) -> bool:
    is_named = credit.credit is True and credit.credit_reference_id == ours.id
    is_turned = price_from_ocpi(credit.total_cost) == -price_from_ocpi(ours.total_cost)
    rest = _but_for(credit, ours, "total_cost", "credit", "credit_reference_id")
    return is_named and is_turned and rest == ours


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalDesk:
    """Ends disputes as their eMSPs propose."""

    credits: CreditDesk

    async def accept(
        self, unit: UnitOfWork, party_id: PartyId, cdr_id: str, acceptance: Acceptance, *, correlation_id: str
    ) -> tuple[CDR, CDR]:
        """Issue the credit and the replacement under our own numbers; return both.

        Raises:
            NotFound: there is no dispute over such a CDR.
            NotAllowedNow: it proposes nothing, or the CDR was credited before.
            ProposalDiffers: by our pricing the periods cost something else.
        """
        dispute = await self._dispute(unit, party_id, cdr_id)
        original = await unit.table(CDRS).get(party_id, cdr_id)
        if original is None or dispute.proposal is None:
            raise NotAllowedNow(f"the dispute over {cdr_id} proposes nothing that can be issued")
        request = CreditRequest(
            reason=f"as {dispute.emsp_id} proposed: {dispute.reason}",
            who=acceptance.who,
            replacement=Replacement(periods=original.cdr.periods),
        )
        credit, issued = await self.credits.credit(unit, party_id, cdr_id, request, correlation_id=correlation_id)
        if issued is None:
            raise AssertionError(f"CDR {cdr_id} was credited and not replaced")
        if costs_of(issued) != dispute.proposal:
            raise ProposalDiffers(
                cdr_id=cdr_id,
                proposed_e4=dispute.proposal.total_cost.excl_e4,
                priced_e4=issued.total_cost.excl_e4,
            )
        return credit, issued

    async def _dispute(self, unit: UnitOfWork, party_id: PartyId, cdr_id: str) -> DisputeRecord:
        found = await unit.table(DISPUTE).select({"party_id": party_id, "cdr_id": cdr_id}, limit=1)
        if not found:
            raise NotFound(f"no dispute over CDR {cdr_id}")
        return found[0]
