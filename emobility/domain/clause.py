"""On what a verdict on a CDR rests: a term of the pair's agreement, or the text of OCPI.

Written so that both sides find it again: `agreement NL-TUL/DE-MSP/1 v2 §tariff_ids`, `OCPI 2.2.1 §mod_cdrs_cdr_object`
(anchors of the specification's own files).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from emobility.domain.agreement import RoamingAgreement
from emobility.domain.cdr_fault import CDRFault

NO_AGREEMENT: Final = "no agreement in force"
_CDR_OBJECT: Final = "OCPI 2.2.1 §mod_cdrs_cdr_object"
_CHARGING_PERIOD: Final = "OCPI 2.2.1 §mod_cdrs_chargingperiod_class"
_CREDIT: Final = "OCPI 2.2.1 §mod_cdrs_credit_cdrs"
_SESSION: Final = "OCPI 2.2.1 §mod_sessions_session_object"

TERM_OF: Final[Mapping[CDRFault, str]] = {
    CDRFault.NO_AGREEMENT_IN_FORCE: "valid_from",
    CDRFault.CURRENCY_DIFFERS: "currency",
    CDRFault.TARIFF_UNKNOWN: "tariff_ids",
    CDRFault.TARIFF_TEXT_DIFFERS: "tariff_ids",
    CDRFault.TARIFF_NOT_ASSIGNED: "tariff_ids",
    CDRFault.TARIFF_NOT_IN_FORCE: "tariff_ids",
    CDRFault.TARIFF_NOT_FROZEN: "tariff_ids",
    CDRFault.TOTAL_COST_DIFFERS: "tariff_ids",
    CDRFault.ENERGY_COST_DIFFERS: "tariff_ids",
    CDRFault.TIME_COST_DIFFERS: "tariff_ids",
    CDRFault.PARKING_COST_DIFFERS: "tariff_ids",
    CDRFault.FIXED_COST_DIFFERS: "tariff_ids",
    CDRFault.RESERVATION_COST_DIFFERS: "tariff_ids",
    CDRFault.TAX_DIFFERS: "tax_regime",
    CDRFault.NOT_PRICEABLE: "tariff_ids",
    CDRFault.RECEIVED_TOO_LATE: "cdr_deadline_h",
    CDRFault.METER_NOT_SIGNED: "signed_meter_policy",
    CDRFault.METER_KEY_NOT_PINNED: "signed_meter_policy",
    CDRFault.METER_SIGNATURE_INVALID: "signed_meter_policy",
    CDRFault.METER_ENERGY_DIFFERS: "signed_meter_policy",
    CDRFault.METER_RECORD_REUSED: "signed_meter_policy",
    CDRFault.METER_TIME_NOT_MEASURED: "signed_meter_policy",
}
"""Faults that a term of the agreement decides; the others the text of OCPI does."""
TEXT_OF: Final[Mapping[CDRFault, str]] = {
    CDRFault.PERIODS_OUT_OF_ORDER: _CHARGING_PERIOD,
    CDRFault.PERIODS_OUTSIDE_SESSION: _CHARGING_PERIOD,
    CDRFault.PERIODS_MISS_ENERGY: _CHARGING_PERIOD,
    CDRFault.PERIODS_MISS_TIME: _CHARGING_PERIOD,
    CDRFault.SESSION_INVALID: "OCPI 2.2.1 §mod_sessions_sessionstatus_enum",
    CDRFault.SESSION_ENERGY_DIFFERS: _SESSION,
    CDRFault.SESSION_TIMES_DIFFER: _SESSION,
    CDRFault.SESSION_TARIFF_DIFFERS: _SESSION,
    CDRFault.SESSION_TOKEN_DIFFERS: _SESSION,
    CDRFault.CREDIT_WITHOUT_ORIGINAL: _CREDIT,
    CDRFault.CREDIT_PRECEDES_ORIGINAL: _CREDIT,
    CDRFault.CREDITED_TWICE: _CREDIT,
    CDRFault.CREDIT_DIFFERS_FROM_ORIGINAL: _CREDIT,
}
"""What of OCPI a fault breaks; faults named nowhere break the CDR object's."""


def clause_of(agreement: RoamingAgreement, term: str) -> str:
    """Return how a term of this version is cited."""
    assert term in RoamingAgreement.__slots__, f"an agreement has no {term}"
    pair = f"{agreement.cpo_id}/{agreement.emsp_id}"
    return f"agreement {pair}/{agreement.agreement_id} v{agreement.version} §{term}"


def clause_broken(fault: CDRFault, agreement: RoamingAgreement | None) -> str:
    """Return what a finding rests on. `agreement`: the pair's, at the session's start; None: there was none."""
    term = TERM_OF.get(fault)
    if term is None:
        return TEXT_OF.get(fault, _CDR_OBJECT)
    return NO_AGREEMENT if agreement is None else clause_of(agreement, term)


def clause_of_acceptance(agreement: RoamingAgreement | None, *, is_credit: bool, is_deemed: bool) -> str:
    """Return what makes an accepted CDR owed: the price agreed, or that nobody spoke in time."""
    if is_credit:
        return _CREDIT
    if agreement is None:
        return NO_AGREEMENT
    return clause_of(agreement, "dispute_period_h" if is_deemed else "tariff_ids")
