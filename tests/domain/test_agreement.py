"""When an agreement is in force, and what exactly its parties sign."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from emobility.domain.agreement import (
    NoAgreementInForce,
    NotInForce,
    RoamingAgreement,
    SettlementMode,
    SignedMeterPolicy,
    StatementPeriod,
    TaxRegime,
    agreement_in_force,
    cdr_due_at,
    disputable_until,
    document_hash,
    in_force,
    signing_bytes,
)
from emobility.domain.identifiers import PartyId
from emobility.domain.tariff.rounding import RoundingPolicyName
from emobility.events.codec import decode, encode

CPO, OTHER_CPO, MSP = PartyId("NL-TNM"), PartyId("DE-ABC"), PartyId("NL-EMS")
START = datetime(2022, 1, 1, tzinfo=UTC)
END = datetime(2023, 1, 1, tzinfo=UTC)
SIGNED = RoamingAgreement(
    agreement_id="A1",
    version=1,
    cpo_id=CPO,
    emsp_id=MSP,
    valid_from=START,
    valid_until=END,
    currency="EUR",
    tariff_ids=("T1", "T2"),
    tax_regime=TaxRegime.DOMESTIC,
    cdr_deadline_h=48,
    dispute_period_h=72,
    statement_period=StatementPeriod.WEEKLY,
    time_zone="Europe/Amsterdam",
    payment_terms_d=14,
    settlement_mode=SettlementMode.CREDIT_LINE,
    credit_limit_e4=10_000_000,
    signed_meter_policy=SignedMeterPolicy.VERIFIED_IF_PRESENT,
    cpo_signature="aa",
    emsp_signature="bb",
)


@pytest.mark.parametrize(
    ("at", "expected"),
    [(START - timedelta(seconds=1), False), (START, True), (END - timedelta(seconds=1), True), (END, False)],
)
def test_an_agreement_is_in_force_from_its_start_until_before_its_end(at: datetime, *, expected: bool) -> None:
    assert in_force(SIGNED, at) is expected
    assert in_force(replace(SIGNED, valid_until=None), max(at, START))


@pytest.mark.parametrize("lacking", ["cpo_signature", "emsp_signature"])
def test_an_agreement_that_one_party_has_not_signed_is_not_in_force(lacking: str) -> None:
    unsigned: dict[str, Any] = {lacking: None}

    assert not in_force(replace(SIGNED, **unsigned), START)


@pytest.mark.parametrize(
    ("known", "at", "reason"),
    [
        ([], START, NotInForce.NONE),
        ([replace(SIGNED, cpo_id=OTHER_CPO)], START, NotInForce.NONE),
        ([replace(SIGNED, emsp_id=OTHER_CPO)], START, NotInForce.NONE),
        ([SIGNED], END, NotInForce.EXPIRED),
        ([SIGNED], START - timedelta(days=1), NotInForce.NOT_YET_VALID),
        ([replace(SIGNED, emsp_signature=None)], START, NotInForce.NOT_SIGNED),
        (
            [
                replace(SIGNED, valid_until=START + timedelta(days=1)),
                replace(SIGNED, version=2, valid_from=START + timedelta(days=5)),
                replace(SIGNED, version=3, cpo_signature=None),
            ],
            START + timedelta(days=2),
            NotInForce.NOT_SIGNED,
        ),
    ],
)
def test_a_pair_without_an_agreement_in_force_learns_why(
    known: list[RoamingAgreement], at: datetime, reason: NotInForce
) -> None:
    with pytest.raises(NoAgreementInForce) as refusal:
        agreement_in_force(known, CPO, MSP, at)

    assert refusal.value.reason is reason
    assert (refusal.value.cpo_id, refusal.value.emsp_id) == (CPO, MSP)


def test_the_newest_signed_version_counts_whatever_the_order() -> None:
    first = SIGNED
    second = replace(SIGNED, version=2, valid_from=START + timedelta(days=10), credit_limit_e4=1)
    draft = replace(second, version=3, emsp_signature=None)
    foreign = replace(SIGNED, version=9, cpo_id=OTHER_CPO)

    for known in ([first, second, draft, foreign], [foreign, draft, second, first]):
        assert agreement_in_force(known, CPO, MSP, START + timedelta(days=9)) is first
        assert agreement_in_force(known, CPO, MSP, START + timedelta(days=10)) is second


CHANGED: dict[str, Any] = {
    "agreement_id": "A2",
    "version": 2,
    "cpo_id": OTHER_CPO,
    "emsp_id": OTHER_CPO,
    "valid_from": START + timedelta(microseconds=1),
    "valid_until": None,
    "currency": "DKK",
    "tariff_ids": ("T2", "T1"),
    "tax_regime": TaxRegime.REVERSE_CHARGE,
    "cdr_deadline_h": 49,
    "dispute_period_h": 73,
    "statement_period": StatementPeriod.MONTHLY,
    "time_zone": "Europe/Berlin",
    "payment_terms_d": 15,
    "settlement_mode": SettlementMode.PREFUNDED,
    "credit_limit_e4": 10_000_001,
    "signed_meter_policy": SignedMeterPolicy.REQUIRED,
    "roaming_fee_e4": 1,
    "notice_period_d": 30,
    "dispute_answer_h": 720,
    "rounding_policy": RoundingPolicyName.COINS_TOTAL,
}

SIGNATURES = {"cpo_signature", "emsp_signature"}


@pytest.mark.parametrize("name", [one.name for one in fields(RoamingAgreement) if one.name not in SIGNATURES])
def test_every_term_is_signed(name: str) -> None:
    changed = replace(SIGNED, **{name: CHANGED[name]})

    assert signing_bytes(changed) != signing_bytes(SIGNED)
    assert document_hash(changed) != document_hash(SIGNED)


def test_signatures_are_not_signed() -> None:
    unsigned = replace(SIGNED, cpo_signature=None, emsp_signature=None)

    assert signing_bytes(unsigned) == signing_bytes(SIGNED)


def test_what_is_signed_survives_storage_and_other_ways_to_write_an_instant() -> None:
    stored = decode(encode(SIGNED), RoamingAgreement)
    local = replace(SIGNED, valid_from=datetime.fromisoformat("2022-01-01T01:00:00+01:00"))

    assert signing_bytes(stored) == signing_bytes(local) == signing_bytes(SIGNED)


def test_the_signed_form_is_pinned() -> None:
    # A change here makes every signature ever given worthless.
    assert signing_bytes(SIGNED) == (
        b'{"agreement_id":"A1","cdr_deadline_h":48,"cpo_id":"NL-TNM","credit_limit_e4":10000000,"currency":"EUR",'
        b'"dispute_period_h":72,"emsp_id":"NL-EMS","form":"wattroam-roaming-agreement-1","payment_terms_d":14,'
        b'"roaming_fee_e4":0,"settlement_mode":"CREDIT_LINE","signed_meter_policy":"VERIFIED_IF_PRESENT",'
        b'"statement_period":"WEEKLY","tariff_ids":["T1","T2"],"tax_regime":"DOMESTIC",'
        b'"time_zone":"Europe/Amsterdam","valid_from":"2022-01-01T00:00:00.000000+00:00",'
        b'"valid_until":"2023-01-01T00:00:00.000000+00:00","version":1}'
    )


def test_deadlines_count_in_hours_from_the_event_they_hang_on() -> None:
    assert cdr_due_at(SIGNED, START) == START + timedelta(days=2)
    assert disputable_until(SIGNED, START) == START + timedelta(days=3)
