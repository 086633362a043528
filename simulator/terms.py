"""The contracts of the demo: wholesale tariffs that follow the market, agreements per pair, retail plans."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from emobility.domain.agreement import (
    RoamingAgreement,
    SettlementMode,
    SignedMeterPolicy,
    StatementPeriod,
    TaxRegime,
)
from emobility.domain.identifiers import PartyId
from simulator.scenario import PlanKind, Scenario, StationPlan

CURRENCY: Final = "EUR"
AD_HOC_AC: Final = "ADHOC-AC"
AD_HOC_DC: Final = "ADHOC-DC"
VALID_FROM: Final = datetime(2022, 1, 1, tzinfo=UTC)
PLAN_IDS: Final = {PlanKind.PASS_THROUGH: "market", PlanKind.FLAT: "flat"}
CREDIT_LIMIT_E4: Final = 5_000_000
GOOD_CARD: Final = "4242424242424242"
DECLINED_CARD: Final = "4000000000000002"
"""Numbers that the test provider of payments knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WholesaleTerms:
    """A wholesale tariff: market price plus these, net of tax, EUR."""

    tariff_id: str
    markup_per_kwh: Decimal
    session_fee: Decimal | None
    parking_per_hour: Decimal | None


FALLBACK_PER_KWH: Final = Decimal("0.3900")
HOUSE: Final = (
    WholesaleTerms(
        tariff_id="HOUSE-AC", markup_per_kwh=Decimal("0.0900"), session_fee=None, parking_per_hour=Decimal("0.1500")
    ),
    WholesaleTerms(
        tariff_id="HOUSE-DC", markup_per_kwh=Decimal("0.1900"), session_fee=None, parking_per_hour=Decimal("3.0000")
    ),
)
ROAMING: Final = (
    WholesaleTerms(
        tariff_id="ROAM-AC",
        markup_per_kwh=Decimal("0.1400"),
        session_fee=Decimal("0.2500"),
        parking_per_hour=Decimal("0.2500"),
    ),
    WholesaleTerms(
        tariff_id="ROAM-DC",
        markup_per_kwh=Decimal("0.2600"),
        session_fee=Decimal("0.5000"),
        parking_per_hour=Decimal("3.0000"),
    ),
)
ROAMING_FEE_E4: Final = 2_500


def tariffs_for(scenario: Scenario, cpo_id: PartyId, emsp_id: PartyId) -> tuple[WholesaleTerms, ...]:
    """Return what an agreement of the pair assigns."""
    return HOUSE if scenario.home_of[cpo_id] == emsp_id else ROAMING


def tariff_ids_at(station: StationPlan) -> tuple[str, ...]:
    """Return the tariffs that a station carries."""
    if station.is_dc:
        return (HOUSE[1].tariff_id, ROAMING[1].tariff_id, AD_HOC_DC)
    return (HOUSE[0].tariff_id, ROAMING[0].tariff_id, AD_HOC_AC)


def agreement_of(scenario: Scenario, cpo_id: PartyId, emsp_id: PartyId) -> RoamingAgreement:
    """Return the first version of a pair's agreement, unsigned."""
    is_home = scenario.home_of[cpo_id] == emsp_id
    is_domestic = cpo_id.country_code == emsp_id.country_code
    return RoamingAgreement(
        agreement_id=f"{cpo_id.party_id}-{emsp_id.party_id}-1",
        version=1,
        cpo_id=cpo_id,
        emsp_id=emsp_id,
        valid_from=VALID_FROM,
        valid_until=None,
        currency=CURRENCY,
        tariff_ids=tuple(each.tariff_id for each in tariffs_for(scenario, cpo_id, emsp_id)),
        tax_regime=TaxRegime.DOMESTIC if is_domestic else TaxRegime.REVERSE_CHARGE,
        cdr_deadline_h=72,
        dispute_period_h=14 * 24,
        statement_period=StatementPeriod.WEEKLY,
        time_zone=scenario.time_zone,
        payment_terms_d=14,
        settlement_mode=SettlementMode.CREDIT_LINE,
        credit_limit_e4=1_000_000_000,
        signed_meter_policy=SignedMeterPolicy.REQUIRED,
        roaming_fee_e4=0 if is_home else ROAMING_FEE_E4,
    )


def retail_plans() -> dict[str, dict[str, Any]]:
    """Return the two plans each MSP sells, as its API takes them."""
    return {
        PLAN_IDS[PlanKind.PASS_THROUGH]: {
            "kind": "WHOLESALE_PLUS",
            "currency": CURRENCY,
            "session_fee": Decimal("0.3500"),
            "markup_percent": Decimal(4),
            "holds_card": True,
        },
        PLAN_IDS[PlanKind.FLAT]: {
            "kind": "FLAT_PER_KWH",
            "currency": CURRENCY,
            "price_per_kwh": Decimal("0.4700"),
            "holds_card": False,
        },
    }
