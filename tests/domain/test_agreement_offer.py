"""How agreements come about: turns, rounds, versions, notices, and the exact bytes that travel."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobility.domain.agreement import (
    RoamingAgreement,
    SettlementMode,
    SignedMeterPolicy,
    StatementPeriod,
    TaxRegime,
    in_force,
    signing_bytes,
)
from emobility.domain.agreement_offer import (
    NotAnAgreement,
    Notice,
    Offer,
    OfferRefusal,
    OfferRefused,
    OfferState,
    accepted,
    agreement_of,
    as_ended,
    counterparty_of,
    earliest_end,
    notice_bytes,
    notice_of,
    offered,
    refuse_notice,
    refuse_terms,
    rejected,
)
from emobility.domain.identifiers import PartyId
from emobility.domain.tariff.rounding import RoundingPolicyName

CPO, MSP, OTHER = PartyId("NL-TUL"), PartyId("DE-EMA"), PartyId("FR-OTH")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def terms(**changes: Any) -> RoamingAgreement:
    made: dict[str, Any] = {
        "agreement_id": "1",
        "version": 1,
        "cpo_id": CPO,
        "emsp_id": MSP,
        "valid_from": NOW + DAY,
        "valid_until": None,
        "currency": "EUR",
        "tariff_ids": ("W1",),
        "tax_regime": TaxRegime.DOMESTIC,
        "cdr_deadline_h": 48,
        "dispute_period_h": 168,
        "statement_period": StatementPeriod.WEEKLY,
        "time_zone": "Europe/Amsterdam",
        "payment_terms_d": 30,
        "settlement_mode": SettlementMode.PREFUNDED,
        "credit_limit_e4": 0,
        "signed_meter_policy": SignedMeterPolicy.NOT_REQUIRED,
        "notice_period_d": 30,
    }
    return RoamingAgreement(**(made | changes))


def notice(ends_at: datetime, by: PartyId = MSP) -> Notice:
    return Notice(agreement_id="1", cpo_id=CPO, emsp_id=MSP, given_by=by, given_at=NOW, ends_at=ends_at)


def reason_of(refusal: pytest.ExceptionInfo[OfferRefused]) -> OfferRefusal:
    return refusal.value.reason


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds


@given(
    tariff_ids=st.lists(TEXT, min_size=1, max_size=4).map(tuple),
    valid_from=MOMENTS,
    valid_until=st.none() | MOMENTS,
    limit=st.integers(0, 2**63),
    policy=st.none() | st.sampled_from(RoundingPolicyName),
    notice_d=st.none() | st.integers(0, 365),
)
def test_the_signed_bytes_are_read_back_and_no_other_spelling_is(  # noqa: PLR0917 - what hypothesis draws
    tariff_ids: tuple[str, ...],
    valid_from: datetime,
    valid_until: datetime | None,
    limit: int,
    policy: RoundingPolicyName | None,
    notice_d: int | None,
) -> None:
    made = terms(
        tariff_ids=tariff_ids,
        valid_from=valid_from,
        valid_until=valid_until,
        credit_limit_e4=limit,
        rounding_policy=policy,
        notice_period_d=notice_d,
    )
    document = signing_bytes(made)

    assert agreement_of(document) == made
    for other in (document + b" ", document.replace(b'":', b'" :', 1), document[:-1] + b',"x":1}'):
        with pytest.raises(NotAnAgreement):
            agreement_of(other)


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"{}",
        b'{"form":"wattroam-roaming-agreement-1"}',
        signing_bytes(terms()).replace(b'"version":1', b'"version":true'),
        signing_bytes(terms()).replace(b'"version":1', b'"version":"1"'),
        signing_bytes(terms()).replace(b"PREFUNDED", b"GRATIS"),
        signing_bytes(terms()).replace(b'["W1"]', b'"W1"'),
        signing_bytes(terms()).replace(b"NL-TUL", b"nobody"),
        b"[" * 100_000,
    ],
)
def test_what_is_no_agreement_is_refused(document: bytes) -> None:
    with pytest.raises(NotAnAgreement):
        agreement_of(document)


def test_a_notice_is_read_back_from_its_bytes_alone() -> None:
    said = notice(NOW + 40 * DAY)

    assert notice_of(notice_bytes(said)) == said
    with pytest.raises(NotAnAgreement):
        notice_of(notice_bytes(said) + b"\n")
    with pytest.raises(NotAnAgreement):
        notice_of(signing_bytes(terms()))


def test_words_alternate_until_one_side_accepts_the_others_last() -> None:
    first = offered(None, terms(), by=CPO)
    second = offered(first, terms(dispute_period_h=1), by=MSP)

    with pytest.raises(OfferRefused) as own:
        accepted(second, by=MSP)
    agreed = accepted(second, by=CPO)

    assert (first.round, second.round, agreed.round) == (1, 2, 2)
    assert reason_of(own) is OfferRefusal.NOT_YOUR_TURN
    assert agreed.agreement.dispute_period_h == 1
    with pytest.raises(OfferRefused, match="AGREED_ALREADY"):
        offered(agreed, terms(), by=MSP)
    with pytest.raises(OfferRefused, match="AGREED_ALREADY"):
        accepted(agreed, by=MSP)


def test_a_rejected_offer_is_accepted_by_nobody_and_may_be_followed_by_another() -> None:
    ended = rejected(offered(None, terms(), by=CPO), by=MSP)

    for word in (accepted, rejected):
        with pytest.raises(OfferRefused) as refusal:
            word(ended, by=MSP)
        assert reason_of(refusal) is OfferRefusal.NOTHING_OFFERED
    assert offered(ended, terms(), by=CPO).round == 2


def test_of_two_offers_that_cross_the_cpos_stands_at_both() -> None:
    of_cpo, of_msp = terms(payment_terms_d=1), terms(payment_terms_d=2)
    at_cpo, at_msp = offered(None, of_cpo, by=CPO), offered(None, of_msp, by=MSP)

    with pytest.raises(OfferRefused) as refusal:
        offered(at_cpo, of_msp, by=MSP, round_=1)
    at_msp = offered(at_msp, of_cpo, by=CPO, round_=1)

    assert reason_of(refusal) is OfferRefusal.OVERTAKEN
    assert at_msp == at_cpo


@given(st.lists(st.tuples(st.sampled_from([CPO, MSP]), st.sampled_from(["offer", "accept", "reject"])), max_size=12))
def test_whatever_is_said_an_agreement_needs_a_word_of_both(words: list[tuple[PartyId, str]]) -> None:
    known: Offer | None = None
    for by, word in words:
        before = known
        try:
            if word == "offer":
                known = offered(known, terms(), by=by)
            else:
                known = (accepted if word == "accept" else rejected)(known, by=by)
        except OfferRefused:
            assert known == before
            continue
        if known.state is OfferState.AGREED:
            assert before is not None
            assert (before.state, before.said_by) == (OfferState.OPEN, counterparty_of(terms(), by))
        if before is not None:
            assert before.state is not OfferState.AGREED


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ({"version": 1}, OfferRefusal.NOT_NEXT_VERSION),
        ({"version": 3, "valid_from": NOW + 9 * DAY}, OfferRefusal.NOT_NEXT_VERSION),
        ({"version": 2, "valid_from": NOW + DAY}, OfferRefusal.OVERLAPS),
        ({"version": 2, "valid_from": NOW}, OfferRefusal.NOT_IN_FUTURE),
        ({"agreement_id": "2"}, OfferRefusal.OVERLAPS),
        ({"agreement_id": "2", "valid_until": NOW + 2 * DAY}, OfferRefusal.OVERLAPS),
        ({"version": 2, "valid_from": NOW + 9 * DAY, "valid_until": NOW + 9 * DAY}, OfferRefusal.TERMS_INCOMPLETE),
        ({"version": 2, "valid_from": NOW + 9 * DAY, "dispute_period_h": -1}, OfferRefusal.TERMS_INCOMPLETE),
        ({"version": 2, "valid_from": NOW + 9 * DAY, "agreement_id": "a/b"}, OfferRefusal.TERMS_INCOMPLETE),
        ({"version": 2, "valid_from": NOW + 9 * DAY, "currency": ""}, OfferRefusal.TERMS_INCOMPLETE),
    ],
)
def test_versions_follow_each_other_and_overlap_nothing(version: dict[str, Any], reason: OfferRefusal) -> None:
    with pytest.raises(OfferRefused) as refusal:
        refuse_terms(terms(**version), signed=[terms()], now=NOW)

    assert reason_of(refusal) is reason


def test_after_an_agreement_ended_another_may_begin() -> None:
    ended = as_ended(terms(), NOW + 40 * DAY)

    refuse_terms(terms(agreement_id="2", valid_from=NOW + 40 * DAY), signed=[ended], now=NOW)
    refuse_terms(terms(agreement_id="2", valid_until=NOW + DAY + DAY / 2, valid_from=NOW + DAY / 2), signed=[], now=NOW)
    with pytest.raises(OfferRefused):
        refuse_terms(terms(agreement_id="2", valid_from=NOW + 39 * DAY), signed=[ended], now=NOW)


def test_a_notice_is_as_long_as_was_agreed_and_by_a_party() -> None:
    refuse_notice(notice(NOW + 30 * DAY), signed=[terms()], now=NOW)

    for wrong, signed, reason in (
        (notice(NOW + 30 * DAY - timedelta(seconds=1)), [terms()], OfferRefusal.NOTICE_TOO_SHORT),
        (notice(NOW + 30 * DAY), [], OfferRefusal.NOT_IN_FORCE),
        (notice(NOW + 30 * DAY, by=OTHER), [terms()], OfferRefusal.NOT_A_PARTY),
    ):
        with pytest.raises(OfferRefused) as refusal:
            refuse_notice(wrong, signed=signed, now=NOW)
        assert reason_of(refusal) is reason


def test_of_two_notices_the_earlier_end_counts_and_lengthens_nothing() -> None:
    ends = earliest_end([notice(NOW + 40 * DAY), notice(NOW + 35 * DAY, by=CPO)])
    signed = replace(terms(), cpo_signature="a", emsp_signature="b")

    ended = as_ended(signed, ends["1"])

    assert ends == {"1": NOW + 35 * DAY}
    assert in_force(ended, NOW + 35 * DAY - timedelta(seconds=1))
    assert not in_force(ended, NOW + 35 * DAY)
    short = replace(signed, valid_until=NOW + 3 * DAY)
    assert as_ended(short, ends["1"]) == short
