"""What an eMSP proposes instead of a CDR that only its amounts are wrong in: a credit, and the CDR priced right."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from emobility.domain.cdr import CDR, credit_of
from emobility.domain.money import Price
from emobility.domain.tariff.priced import PricedSession

CDR_ID_CHARACTERS_MAX: Final = 39
"""OCPI 2.2.1, 10.3.1: 36, and three more for what is added to the id of a CDR that is credited."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposedCosts:
    """The amounts of a replacement; the rest of it is the original's."""

    total_cost: Price
    total_fixed_cost: Price | None
    total_energy_cost: Price | None
    total_time_cost: Price | None
    total_parking_cost: Price | None
    total_reservation_cost: Price | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposedCorrection:
    """Both documents, with ids that their CPO may change."""

    credit: CDR
    replacement: CDR


def proposed_costs(priced: PricedSession) -> ProposedCosts:
    """Return what a CDR over these periods would state."""
    return ProposedCosts(
        total_cost=priced.total,
        total_fixed_cost=priced.fixed,
        total_energy_cost=priced.energy,
        total_time_cost=priced.time,
        total_parking_cost=priced.parking,
        total_reservation_cost=priced.reservation,
    )


def costs_of(cdr: CDR) -> ProposedCosts:
    """Return what a CDR states."""
    return ProposedCosts(
        total_cost=cdr.total_cost,
        total_fixed_cost=cdr.total_fixed_cost,
        total_energy_cost=cdr.total_energy_cost,
        total_time_cost=cdr.total_time_cost,
        total_parking_cost=cdr.total_parking_cost,
        total_reservation_cost=cdr.total_reservation_cost,
    )


def propose_correction(cdr: CDR, priced: PricedSession, *, proposed_at: datetime) -> ProposedCorrection | None:
    """Return the credit of a CDR and its replacement at the amounts that pricing gives.

    Args:
        cdr: The document, right in all but its amounts.
        priced: Its periods priced again.
        proposed_at: Issue date of both.

    Returns:
        None where the amounts can't all be known: the CDR names taxes that its tariff leaves open, or prices include a
        tax of unstated rate.

    Raises:
        CreditOfACredit: it is a credit.
    """
    if cdr.taxes or not priced.is_net_known:
        return None
    remark = f"proposed by {cdr.token.emsp_id}"
    credit = credit_of(cdr, cdr_id=_beside(cdr, "C"), issued_at=proposed_at, remark=remark)
    costs = proposed_costs(priced)
    replacement = replace(
        cdr,
        cdr_id=_beside(cdr, "R"),
        issued_at=proposed_at,
        remark=remark,
        total_cost=costs.total_cost,
        total_fixed_cost=costs.total_fixed_cost,
        total_energy_cost=costs.total_energy_cost,
        total_time_cost=costs.total_time_cost,
        total_parking_cost=costs.total_parking_cost,
        total_reservation_cost=costs.total_reservation_cost,
    )
    return ProposedCorrection(credit=credit, replacement=replacement)


def _beside(cdr: CDR, letter: str) -> str:
    suffix = f"-{letter}"
    return cdr.cdr_id[: CDR_ID_CHARACTERS_MAX - len(suffix)] + suffix
