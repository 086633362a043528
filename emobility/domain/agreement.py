"""The roaming agreement of one CPO and one MSP: everything that is "per pair" reads from here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from emobility.domain.identifiers import PartyId


class SettlementMode(StrEnum):
    """How an obligation is covered before it is paid."""

    PREFUNDED = "PREFUNDED"
    CREDIT_LINE = "CREDIT_LINE"
    GUARANTEE = "GUARANTEE"


class TaxRegime(StrEnum):
    """How the CPO's supply to the MSP is taxed (`domain/tax.py` decides)."""

    DOMESTIC = "DOMESTIC"
    REVERSE_CHARGE = "REVERSE_CHARGE"


class StatementPeriod(StrEnum):
    """How often a pair's CDRs are put into a statement."""

    WEEKLY = "WEEKLY"
    MONTHLY = "MONTHLY"


class SignedMeterPolicy(StrEnum):
    """What the MSP asks of metering: nothing, that what is signed verifies, or that everything is signed."""

    NOT_REQUIRED = "NOT_REQUIRED"
    VERIFIED_IF_PRESENT = "VERIFIED_IF_PRESENT"
    REQUIRED = "REQUIRED"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoamingAgreement:
    """One version of the terms between a CPO and an MSP; a change is a new version, signed again.

    Attributes:
        agreement_id: Names the pair's agreement through all versions.
        tariff_ids: Tariffs of the CPO that price this MSP's sessions; the first that fits a connector applies.
        cdr_deadline_h: Hours after a session's end by which its CDR must arrive.
        dispute_period_h: Hours after receipt after which an undisputed CDR counts as accepted.
        credit_limit_e4: Most that may be open under `CREDIT_LINE`, in ten-thousandths of `currency`.
        roaming_fee_e4: Fee per session the MSP pays to nobody but states to its driver, in ten-thousandths.
        cpo_signature: Ed25519 over `signing_bytes`, hex; the CPO's word.
        emsp_signature: The MSP's, likewise.
    """

    agreement_id: str
    version: int
    cpo_id: PartyId
    emsp_id: PartyId
    valid_from: datetime
    valid_until: datetime | None
    currency: str
    tariff_ids: tuple[str, ...]
    tax_regime: TaxRegime
    cdr_deadline_h: int
    dispute_period_h: int
    statement_period: StatementPeriod
    time_zone: str
    payment_terms_d: int
    settlement_mode: SettlementMode
    credit_limit_e4: int
    signed_meter_policy: SignedMeterPolicy
    roaming_fee_e4: int = 0
    cpo_signature: str | None = None
    emsp_signature: str | None = None
