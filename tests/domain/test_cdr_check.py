"""The MSP's verdict on a CDR: every rule can refuse, and an honest CDR passes them all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
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
)
from emobility.domain.cdr import CDR, CDRLocation, credit_of
from emobility.domain.cdr_check import (
    CDRDecision,
    CDRFault,
    CDRVerdict,
    EarlierCDR,
    KnownTariff,
    SignatureVerdict,
    check_cdr,
)
from emobility.domain.cdr_difference import DifferenceCause
from emobility.domain.charging_station import PowerType
from emobility.domain.identifiers import PartyId
from emobility.domain.money import Price
from emobility.domain.personal import Sealed
from emobility.domain.session import AuthMethod, ChargingPeriod, Session, SessionStatus, SessionToken
from emobility.domain.tariff.periods import split_at_price_changes
from emobility.domain.tariff.pricing import price_session
from emobility.domain.tariff.rounding import RoundingPolicyName, rounding_policy
from emobility.domain.tariff.tariff import (
    PriceComponent,
    Reservation,
    Tariff,
    TariffDimension,
    TariffElement,
    TariffRestrictions,
)
from emobility.domain.tariff.taxes import TaxAmount
from emobility.domain.tariff.version import tariff_hash
from emobility.domain.token import TokenType

CPO = PartyId("NL-CPO")
MSP = PartyId("NL-MSP")
START = datetime(2022, 3, 27, 9, 0, tzinfo=UTC)
END = START + timedelta(hours=2)
RECEIVED = END + timedelta(minutes=1)
TARIFF = Tariff(
    party_id=CPO,
    tariff_id="W1",
    currency="EUR",
    elements=(
        TariffElement(
            components=(
                PriceComponent(dimension=TariffDimension.ENERGY, price=Decimal("0.30")),
                PriceComponent(dimension=TariffDimension.PARKING_TIME, price=Decimal("1.20")),
                PriceComponent(dimension=TariffDimension.FLAT, price=Decimal("0.25")),
            )
        ),
    ),
    last_updated=START - timedelta(days=1),
)
AGREEMENT = RoamingAgreement(
    agreement_id="A1",
    version=1,
    cpo_id=CPO,
    emsp_id=MSP,
    valid_from=START - timedelta(days=10),
    valid_until=None,
    currency="EUR",
    tariff_ids=("W1",),
    tax_regime=TaxRegime.DOMESTIC,
    cdr_deadline_h=24,
    dispute_period_h=72,
    statement_period=StatementPeriod.WEEKLY,
    time_zone="Europe/Amsterdam",
    payment_terms_d=14,
    settlement_mode=SettlementMode.PREFUNDED,
    credit_limit_e4=0,
    signed_meter_policy=SignedMeterPolicy.VERIFIED_IF_PRESENT,
)
TOKEN = SessionToken(
    emsp_id=MSP,
    uid=Sealed(subject="token-1", box=b"1"),
    token_type=TokenType.RFID,
    contract_id=Sealed(subject="contract-1", box=b"2"),
)
LOCATION = CDRLocation(
    location_id="LOC1",
    name="Plein",
    address="Plein 1",
    city="Delft",
    postal_code="2611",
    country="NLD",
    latitude=Decimal("52.0"),
    longitude=Decimal("4.3"),
    time_zone="Europe/Amsterdam",
    evse_uid="E1",
    emi3_id="NL*CPO*E1",
    connector_id=1,
    connector_standard="IEC_62196_T2",
    power_type=PowerType.AC_3_PHASE,
)
PERIODS = (
    ChargingPeriod(started_at=START, energy_import_wh=11_000, charging_s=3600, parking_s=0),
    ChargingPeriod(started_at=START + timedelta(hours=1), energy_import_wh=0, charging_s=0, parking_s=3600),
)


def known(tariff: Tariff = TARIFF, **fields: Any) -> Mapping[str, KnownTariff]:
    terms = {"in_force_from": tariff.last_updated, "in_force_until": None} | fields
    return {tariff_hash(tariff): KnownTariff(tariff=tariff, **terms)}


def honest(periods: tuple[ChargingPeriod, ...] = PERIODS, tariff: Tariff = TARIFF, **fields: Any) -> CDR:
    """A CDR whose every figure follows from its periods."""
    priced = price_session(tariff, periods, ended_at=END, time_zone="Europe/Amsterdam")
    terms: dict[str, Any] = {
        "party_id": CPO,
        "cdr_id": "S1",
        "session_id": "S1",
        "started_at": START,
        "ended_at": END,
        "token": TOKEN,
        "auth_method": AuthMethod.AUTH_REQUEST,
        "authorization_reference": "q1",
        "location": LOCATION,
        "currency": "EUR",
        "tariff": tariff,
        "tariff_hash": tariff_hash(tariff),
        "periods": periods,
        "total_cost": priced.total,
        "total_fixed_cost": priced.fixed,
        "total_energy_cost": priced.energy,
        "total_time_cost": priced.time,
        "total_parking_cost": priced.parking,
        "total_energy_import_wh": sum(period.energy_import_wh for period in periods),
        "total_energy_export_wh": 0,
        "total_charging_s": sum(period.charging_s for period in periods),
        "total_parking_s": sum(period.parking_s for period in periods),
        "signed_data": None,
        "issued_at": END,
    }
    return CDR(**(terms | fields))


def session(**fields: Any) -> Session:
    terms: dict[str, Any] = {
        "party_id": CPO,
        "session_id": "S1",
        "started_at": START,
        "ended_at": END,
        "energy_import_wh": 11_000,
        "energy_export_wh": 0,
        "token": TOKEN,
        "auth_method": AuthMethod.AUTH_REQUEST,
        "authorization_reference": "q1",
        "location_id": "LOC1",
        "evse_uid": "E1",
        "connector_id": 1,
        "currency": "EUR",
        "tariff_hash": tariff_hash(TARIFF),
        "periods": PERIODS,
        "total_cost": None,
        "status": SessionStatus.COMPLETED,
        "last_updated": END,
    }
    return Session(**(terms | fields))


def check(cdr: CDR, **fields: Any) -> CDRVerdict:
    terms: dict[str, Any] = {
        "agreement": AGREEMENT,
        "known_tariffs": known(),
        "session": session(),
        "earlier_cdrs": (),
        "signature_verdict": SignatureVerdict.VALID,
        "received_at": RECEIVED,
    }
    return check_cdr(cdr, **(terms | fields))


def shifted(cdr: CDR, cents: int) -> CDR:
    return replace(cdr, total_cost=Price(excl_e4=cdr.total_cost.excl_e4 + cents, incl_e4=cdr.total_cost.incl_e4))


def test_an_honest_cdr_is_accepted_without_a_finding() -> None:
    verdict = check(honest())

    assert (verdict.decision, verdict.findings) == (CDRDecision.ACCEPT, ())
    assert verdict.repriced is not None
    assert verdict.repriced.total.excl_e4 == 33_000 + 12_000 + 2_500


def test_a_total_that_is_one_ten_thousandth_off_is_disputed_with_both_amounts() -> None:
    verdict = check(shifted(honest(), 1))

    assert verdict.decision is CDRDecision.DISPUTE
    assert [(f.fault, f.expected_e4, f.stated_e4) for f in verdict.findings] == [
        (CDRFault.TOTAL_COST_DIFFERS, 47_500, 47_501)
    ]


@pytest.mark.parametrize(
    ("field", "fault"),
    [
        ("total_energy_cost", CDRFault.ENERGY_COST_DIFFERS),
        ("total_parking_cost", CDRFault.PARKING_COST_DIFFERS),
        ("total_fixed_cost", CDRFault.FIXED_COST_DIFFERS),
        ("total_time_cost", CDRFault.TIME_COST_DIFFERS),
    ],
)
def test_a_wrong_part_is_disputed_though_the_total_is_right(field: str, fault: CDRFault) -> None:
    part: dict[str, Any] = {field: Price(excl_e4=1)}
    wrong = replace(honest(), **part)

    assert check(wrong).faults == (fault,)


def test_periods_that_state_less_than_a_wh_are_added_up_before_they_are_rounded() -> None:
    third = ChargingPeriod(
        started_at=START, energy_import_wh=333, charging_s=1_200, parking_s=0, energy_rest_wh=Decimal("0.3")
    )
    periods = tuple(replace(third, started_at=START + timedelta(minutes=20 * number)) for number in range(3))
    cdr = honest(periods, total_energy_import_wh=1_000)

    assert check(cdr, session=None).decision is CDRDecision.ACCEPT
    assert check(replace(cdr, total_energy_import_wh=999), session=None).faults == (CDRFault.PERIODS_MISS_ENERGY,)


def test_a_part_that_is_absent_is_a_part_of_nothing() -> None:
    assert check(replace(honest(), total_time_cost=Price(excl_e4=0))).decision is CDRDecision.ACCEPT


def test_tax_nobody_agreed_on_is_disputed() -> None:
    cdr = honest()
    taxed = replace(cdr, total_cost=Price(excl_e4=cdr.total_cost.excl_e4, incl_e4=cdr.total_cost.excl_e4 + 1))

    assert check(taxed).faults == (CDRFault.TOTAL_COST_DIFFERS,)


NO_AGREEMENT = CDRFault.NO_AGREEMENT_IN_FORCE


@pytest.mark.parametrize(
    "agreement",
    [
        None,
        replace(AGREEMENT, valid_from=START + timedelta(seconds=1)),
        replace(AGREEMENT, valid_until=START),
        replace(AGREEMENT, cpo_id=PartyId("NL-XXX")),
        replace(AGREEMENT, emsp_id=PartyId("NL-XXX")),
    ],
)
def test_without_an_agreement_in_force_at_the_start_nothing_is_owed(agreement: RoamingAgreement | None) -> None:
    assert check(honest(), agreement=agreement).faults == (NO_AGREEMENT,)


def test_a_cdr_in_another_currency_than_agreed_is_disputed() -> None:
    assert CDRFault.CURRENCY_DIFFERS in check(honest(currency="SEK")).faults


def test_a_tariff_version_that_was_never_sent_is_disputed() -> None:
    assert check(honest(), known_tariffs={}).faults == (CDRFault.TARIFF_UNKNOWN,)


def test_a_tariff_text_under_anothers_hash_is_disputed_and_priced_by_the_version_that_was_sent() -> None:
    dearer = replace(
        TARIFF,
        elements=(
            TariffElement(components=(PriceComponent(dimension=TariffDimension.ENERGY, price=Decimal("0.90")),)),
        ),
    )
    forged = replace(honest(tariff=dearer), tariff_hash=tariff_hash(TARIFF))

    verdict = check(forged)

    assert CDRFault.TARIFF_TEXT_DIFFERS in verdict.faults
    assert CDRFault.TOTAL_COST_DIFFERS in verdict.faults


def test_a_tariff_the_agreement_does_not_assign_is_disputed() -> None:
    agreement = replace(AGREEMENT, tariff_ids=("OTHER",))

    assert check(honest(), agreement=agreement).faults == (CDRFault.TARIFF_NOT_ASSIGNED,)


@pytest.mark.parametrize(
    "terms",
    [
        {"in_force_from": START + timedelta(minutes=6)},
        {"in_force_until": START - timedelta(minutes=5)},
    ],
)
def test_a_version_that_was_not_in_force_at_the_start_is_disputed(terms: dict[str, Any]) -> None:
    assert check(honest(), known_tariffs=known(**terms)).faults == (CDRFault.TARIFF_NOT_IN_FORCE,)


@pytest.mark.parametrize(
    "terms",
    [{"in_force_from": START + timedelta(minutes=5)}, {"in_force_until": START - timedelta(minutes=4, seconds=59)}],
)
def test_clocks_may_differ_by_minutes_around_a_tariff_change(terms: dict[str, Any]) -> None:
    assert check(honest(), known_tariffs=known(**terms)).decision is CDRDecision.ACCEPT


def test_a_cdr_after_the_agreed_deadline_is_disputed() -> None:
    late = END + timedelta(hours=24, seconds=1)

    assert check(honest(), received_at=late).faults == (CDRFault.RECEIVED_TOO_LATE,)
    assert check(honest(), received_at=late - timedelta(seconds=1)).decision is CDRDecision.ACCEPT


def test_the_same_id_with_other_content_is_a_duplicate() -> None:
    earlier = EarlierCDR(cdr=honest(remark="another"), is_credited=False)

    assert check(honest(), earlier_cdrs=[earlier]).faults == (CDRFault.DUPLICATE,)


def test_two_cpos_may_number_their_documents_alike() -> None:
    day = timedelta(days=1)
    other = honest(party_id=PartyId("DE-OTH"), session_id="X9", started_at=START - day, ended_at=END - day)

    assert check(honest(), earlier_cdrs=[EarlierCDR(cdr=other, is_credited=False)]).decision is CDRDecision.ACCEPT


def test_a_period_that_runs_past_a_price_change_is_disputed_though_its_sums_are_right() -> None:
    def costs(price: str, **when: Any) -> TariffElement:
        component = PriceComponent(dimension=TariffDimension.ENERGY, price=Decimal(price))
        return TariffElement(components=(component,), restrictions=TariffRestrictions(**when))

    # 09:00 UTC is 11:00 in Amsterdam, summer time having begun that night.
    dear_at_first = replace(TARIFF, elements=(costs("0.90", end_time=time(11, 1)), costs("0.10")))
    whole = (ChargingPeriod(started_at=START, energy_import_wh=20_000, charging_s=7200, parking_s=0),)
    cut = split_at_price_changes(dear_at_first, whole, ended_at=END, time_zone="Europe/Amsterdam")
    watched = session(energy_import_wh=20_000, tariff_hash=tariff_hash(dear_at_first))

    def faults(periods: tuple[ChargingPeriod, ...]) -> tuple[CDRFault, ...]:
        totals = {"total_energy_import_wh": 20_000, "total_charging_s": 7200, "total_parking_s": 0}
        cdr = honest(periods, dear_at_first, **totals)
        return check(cdr, session=watched, known_tariffs=known(dear_at_first)).faults

    assert len(cut) == 2
    assert faults(cut) == ()
    assert faults(whole) == (CDRFault.PERIODS_NOT_CUT,)


def test_the_same_document_once_more_is_no_finding() -> None:
    resealed = replace(honest(), token=replace(TOKEN, uid=Sealed(subject="token-1", box=b"other nonce")))

    assert check(honest(), earlier_cdrs=[EarlierCDR(cdr=resealed, is_credited=False)]).decision is CDRDecision.ACCEPT


def test_a_second_live_cdr_of_a_session_is_disputed_until_the_first_is_credited() -> None:
    first = honest(cdr_id="S1-first")

    assert check(honest(), earlier_cdrs=[EarlierCDR(cdr=first, is_credited=False)]).faults == (
        CDRFault.SESSION_CHARGED_TWICE,
    )
    assert check(honest(), earlier_cdrs=[EarlierCDR(cdr=first, is_credited=True)]).decision is CDRDecision.ACCEPT


def test_the_same_token_in_two_places_at_once_is_disputed() -> None:
    other = honest(cdr_id="S2", session_id="S2", party_id=PartyId("NL-XXX"))

    assert check(honest(), earlier_cdrs=[EarlierCDR(cdr=other, is_credited=False)]).faults == (
        CDRFault.OVERLAPS_ANOTHER_CDR,
    )


def test_a_charge_right_after_another_does_not_overlap() -> None:
    before = honest(cdr_id="S2", session_id="S2", started_at=START - timedelta(hours=1), ended_at=START)

    assert check(honest(), earlier_cdrs=[EarlierCDR(cdr=before, is_credited=False)]).decision is CDRDecision.ACCEPT


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"energy_import_wh": 10_999}, CDRFault.SESSION_ENERGY_DIFFERS),
        ({"energy_import_wh": 11_001}, CDRFault.SESSION_ENERGY_DIFFERS),
        ({"started_at": START - timedelta(seconds=1)}, CDRFault.SESSION_TIMES_DIFFER),
        ({"ended_at": END - timedelta(seconds=1)}, CDRFault.SESSION_TIMES_DIFFER),
        (
            {"token": replace(TOKEN, uid=Sealed(subject="token-2", box=b"1"))},
            CDRFault.SESSION_TOKEN_DIFFERS,
        ),
    ],
)
def test_a_cdr_that_differs_from_its_closed_session_is_disputed(fields: dict[str, Any], fault: CDRFault) -> None:
    assert check(honest(), session=session(**fields)).faults == (fault,)


def test_a_session_that_is_still_open_here_only_bounds_the_energy_from_below() -> None:
    running: dict[str, Any] = {"status": SessionStatus.ACTIVE, "ended_at": None}

    assert check(honest(), session=session(energy_import_wh=9_000, **running)).decision is CDRDecision.ACCEPT
    assert check(honest(), session=session(energy_import_wh=11_001, **running)).faults == (
        CDRFault.SESSION_ENERGY_DIFFERS,
    )


def test_a_session_that_was_never_pushed_proves_nothing() -> None:
    assert check(honest(), session=None).decision is CDRDecision.ACCEPT


def test_periods_out_of_order_are_disputed() -> None:
    assert CDRFault.PERIODS_OUT_OF_ORDER in check(replace(honest(), periods=PERIODS[::-1])).faults
    assert CDRFault.PERIODS_OUT_OF_ORDER in check(replace(honest(), periods=())).faults


@pytest.mark.parametrize("at", [START - timedelta(seconds=1), END + timedelta(seconds=1)])
def test_a_period_outside_the_session_is_disputed(at: datetime) -> None:
    stray = sorted([*PERIODS, replace(PERIODS[1], started_at=at, parking_s=0)], key=lambda period: period.started_at)

    assert CDRFault.PERIODS_OUTSIDE_SESSION in check(replace(honest(), periods=tuple(stray))).faults


def test_energy_and_time_that_no_period_has_are_disputed() -> None:
    assert CDRFault.PERIODS_MISS_ENERGY in check(replace(honest(), total_energy_import_wh=11_001)).faults
    assert check(replace(honest(), total_parking_s=3_601)).faults == (CDRFault.PERIODS_MISS_TIME,)


REQUIRED = replace(AGREEMENT, signed_meter_policy=SignedMeterPolicy.REQUIRED)
NOT_REQUIRED = replace(AGREEMENT, signed_meter_policy=SignedMeterPolicy.NOT_REQUIRED)


@pytest.mark.parametrize(
    ("agreement", "found", "faults"),
    [
        (REQUIRED, SignatureVerdict.VALID, ()),
        (REQUIRED, SignatureVerdict.NOT_SIGNED, (CDRFault.METER_NOT_SIGNED,)),
        (REQUIRED, SignatureVerdict.KEY_NOT_PINNED, (CDRFault.METER_KEY_NOT_PINNED,)),
        (REQUIRED, SignatureVerdict.INVALID, (CDRFault.METER_SIGNATURE_INVALID,)),
        (REQUIRED, SignatureVerdict.ENERGY_DIFFERS, (CDRFault.METER_ENERGY_DIFFERS,)),
        (AGREEMENT, SignatureVerdict.VALID, ()),
        (AGREEMENT, SignatureVerdict.NOT_SIGNED, ()),
        (AGREEMENT, SignatureVerdict.KEY_NOT_PINNED, ()),
        (AGREEMENT, SignatureVerdict.INVALID, (CDRFault.METER_SIGNATURE_INVALID,)),
        (AGREEMENT, SignatureVerdict.ENERGY_DIFFERS, (CDRFault.METER_ENERGY_DIFFERS,)),
        (REQUIRED, SignatureVerdict.TIME_NOT_MEASURED, (CDRFault.METER_TIME_NOT_MEASURED,)),
        (AGREEMENT, SignatureVerdict.TIME_NOT_MEASURED, (CDRFault.METER_TIME_NOT_MEASURED,)),
        *((NOT_REQUIRED, verdict, ()) for verdict in SignatureVerdict if verdict is not SignatureVerdict.REUSED),
        *((each, SignatureVerdict.REUSED, (CDRFault.METER_RECORD_REUSED,)) for each in (REQUIRED, AGREEMENT)),
        (NOT_REQUIRED, SignatureVerdict.REUSED, (CDRFault.METER_RECORD_REUSED,)),
    ],
)
def test_the_agreement_says_what_a_meter_must_prove(
    agreement: RoamingAgreement, found: SignatureVerdict, faults: tuple[CDRFault, ...]
) -> None:
    assert check(honest(), agreement=agreement, signature_verdict=found).faults == faults


@pytest.mark.parametrize(
    "fields",
    [
        {"ended_at": START - timedelta(seconds=1)},
        {"ended_at": START + timedelta(days=31)},
        {"total_energy_import_wh": 1_000_001},
        {"ended_at": START + timedelta(seconds=5)},
        {"total_parking_s": 7_300},
    ],
)
def test_what_no_charge_can_be_is_implausible(fields: dict[str, Any]) -> None:
    verdict = check(replace(honest(), **fields), session=None, received_at=START + timedelta(days=40))

    assert CDRFault.IMPLAUSIBLE in verdict.faults


def test_a_charge_from_the_future_is_implausible() -> None:
    assert check(honest(), received_at=END - timedelta(minutes=6)).faults == (CDRFault.IMPLAUSIBLE,)


def test_energy_below_nothing_is_implausible() -> None:
    odd = (replace(PERIODS[0], energy_import_wh=-1), PERIODS[1])

    assert CDRFault.IMPLAUSIBLE in check(honest(odd), session=None).faults


def credit(original: CDR, **fields: Any) -> CDR:
    return replace(credit_of(original, cdr_id="S1-C", issued_at=RECEIVED, remark="meter"), **fields)


def test_a_credit_that_mirrors_its_original_is_accepted() -> None:
    original = honest()

    verdict = check(credit(original), earlier_cdrs=[EarlierCDR(cdr=original, is_credited=False)])

    assert verdict.decision is CDRDecision.ACCEPT


def test_a_credit_without_its_original_is_disputed() -> None:
    assert check(credit(honest())).faults == (CDRFault.CREDIT_WITHOUT_ORIGINAL,)


def test_a_second_credit_is_disputed() -> None:
    original = honest()

    verdict = check(credit(original), earlier_cdrs=[EarlierCDR(cdr=original, is_credited=True)])

    assert verdict.faults == (CDRFault.CREDITED_TWICE,)


def test_a_credit_issued_before_its_original_is_disputed() -> None:
    original = honest()
    early = credit(original, issued_at=original.issued_at - timedelta(seconds=1))

    assert check(early, earlier_cdrs=[EarlierCDR(cdr=original, is_credited=False)]).faults == (
        CDRFault.CREDIT_PRECEDES_ORIGINAL,
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"total_cost": Price(excl_e4=-47_499)},
        {"total_energy_import_wh": 10_000},
        {"currency": "SEK"},
        {"periods": PERIODS[:1]},
        {"token": replace(TOKEN, uid=Sealed(subject="token-2", box=b"1"))},
    ],
)
def test_a_credit_that_is_not_minus_its_original_is_disputed(fields: dict[str, Any]) -> None:
    original = honest()

    verdict = check(credit(original, **fields), earlier_cdrs=[EarlierCDR(cdr=original, is_credited=False)])

    assert verdict.faults == (CDRFault.CREDIT_DIFFERS_FROM_ORIGINAL,)


def test_all_that_is_wrong_is_named_at_once() -> None:
    wrong = replace(shifted(honest(), 100), currency="SEK", total_parking_s=1)

    assert {
        CDRFault.CURRENCY_DIFFERS,
        CDRFault.TOTAL_COST_DIFFERS,
        CDRFault.PERIODS_MISS_TIME,
    } <= set(check(wrong).faults)


@given(
    energies=st.lists(st.integers(min_value=0, max_value=5_000), min_size=1, max_size=6),
    error_e4=st.integers(min_value=-10_000, max_value=10_000),
)
def test_a_cdr_is_accepted_exactly_when_its_total_is_right(energies: list[int], error_e4: int) -> None:
    periods = tuple(
        ChargingPeriod(
            started_at=START + timedelta(minutes=10 * index), energy_import_wh=wh, charging_s=600, parking_s=0
        )
        for index, wh in enumerate(energies)
    )

    verdict = check(shifted(honest(periods), error_e4), session=None)

    assert (verdict.decision is CDRDecision.ACCEPT) is (error_e4 == 0)


def test_a_version_that_was_not_frozen_is_disputed() -> None:
    cdr = honest()

    assert check(cdr, frozen_hashes={cdr.tariff_hash, "another"}).faults == ()
    assert check(cdr, frozen_hashes={"another"}).faults == (CDRFault.TARIFF_NOT_FROZEN,)


def test_a_cdr_is_priced_by_the_version_that_its_session_ran_under() -> None:
    assert check(honest(), session=session(tariff_hash="another")).faults == (CDRFault.SESSION_TARIFF_DIFFERS,)
    assert check(honest(), session=session(tariff_hash="")).faults == ()


def test_a_session_that_was_declared_invalid_is_not_billed() -> None:
    invalid = session(status=SessionStatus.INVALID)

    assert check(honest(), session=invalid).faults == (CDRFault.SESSION_INVALID,)


# What a CDR overtook


def test_a_credit_waits_for_its_original_as_long_as_it_may() -> None:
    credit = credit_of(honest(), cdr_id="C", issued_at=END, remark="wrong")

    assert check(credit, may_wait=True).decision is CDRDecision.WAIT
    assert check(credit).decision is CDRDecision.DISPUTE


def test_a_replacement_waits_for_the_credit_unless_something_else_is_wrong_with_it() -> None:
    earlier = [EarlierCDR(cdr=replace(honest(), cdr_id="EARLIER"), is_credited=False)]
    wrong = replace(honest(), total_parking_s=3_601)

    assert check(honest(), earlier_cdrs=earlier, may_wait=True).decision is CDRDecision.WAIT
    assert check(wrong, earlier_cdrs=earlier, may_wait=True).decision is CDRDecision.DISPUTE


@pytest.mark.parametrize(("age", "decision"), [(1, CDRDecision.WAIT), (0, CDRDecision.DISPUTE)])
def test_a_session_is_waited_for_only_while_the_one_at_hand_is_older_than_the_cdr(
    age: int, decision: CDRDecision
) -> None:
    cdr = honest()
    at_hand = session(energy_import_wh=1, last_updated=cdr.issued_at - timedelta(seconds=age))

    verdict = check(cdr, session=at_hand, may_wait=True)

    assert verdict.faults == (CDRFault.SESSION_ENERGY_DIFFERS,)
    assert verdict.decision is decision


HOLDING = replace(
    TARIFF,
    elements=(
        TariffElement(
            components=(PriceComponent(dimension=TariffDimension.TIME, price=Decimal(6), step_size=600),),
            restrictions=TariffRestrictions(reservation=Reservation.RESERVATION),
        ),
        *TARIFF.elements,
    ),
)


def reserved_cdr(**fields: Any) -> CDR:
    held = ChargingPeriod(
        started_at=START - timedelta(hours=2), energy_import_wh=0, charging_s=0, parking_s=0, reserved_s=7_200
    )
    periods = (held, *PERIODS)
    priced = price_session(HOLDING, periods, ended_at=END, time_zone="Europe/Amsterdam")
    terms = {"started_at": held.started_at, "total_reservation_cost": priced.reservation}
    return honest(periods, HOLDING, **(terms | fields))


def test_a_reservation_before_the_charge_is_part_of_the_cdr_and_not_of_the_session() -> None:
    # What was frozen was in force when the driver came, and not yet when the EVSE was reserved.
    terms = {
        "known_tariffs": known(HOLDING, in_force_from=START - timedelta(hours=1)),
        "session": session(tariff_hash=tariff_hash(HOLDING)),
        "agreement": replace(AGREEMENT, valid_from=START - timedelta(hours=1)),
    }

    assert check(reserved_cdr(), **terms).findings == ()
    wrong = check(reserved_cdr(total_reservation_cost=Price(excl_e4=1)), **terms)
    assert wrong.faults == (CDRFault.RESERVATION_COST_DIFFERS,)


def test_a_wrong_amount_says_in_which_period_and_element_it_went_wrong() -> None:
    part: dict[str, Any] = {"total_parking_cost": Price(excl_e4=0)}

    (finding,) = check(replace(honest(), **part)).findings

    assert finding.difference is not None
    assert (finding.difference.cause, finding.difference.period_index, finding.difference.element_index) == (
        DifferenceCause.NOTHING_CHARGED,
        1,
        0,
    )
    assert finding.difference.difference_e4 == -12_000


def test_a_cost_that_the_text_lets_a_cdr_leave_out_is_not_held_against_it() -> None:
    silent = replace(honest(), total_energy_cost=None, total_parking_cost=None, total_fixed_cost=None)

    assert check(silent).decision is CDRDecision.ACCEPT


def test_a_cdr_is_rounded_as_the_agreement_says() -> None:
    periods = (replace(PERIODS[0], energy_import_wh=11_001), PERIODS[1])
    cents = rounding_policy(RoundingPolicyName.COINS_TOTAL)
    priced = price_session(TARIFF, periods, ended_at=END, time_zone="Europe/Amsterdam", rounding=cents)
    costs: dict[str, Any] = {"total_cost": priced.total, "total_energy_cost": priced.energy}
    cdr = honest(periods, **costs)
    closed = session(energy_import_wh=11_001)

    agreed = check(cdr, agreement=replace(AGREEMENT, rounding_policy=RoundingPolicyName.COINS_TOTAL), session=closed)
    not_agreed = check(cdr, session=closed)

    assert agreed.findings == ()
    assert not_agreed.faults == (CDRFault.TOTAL_COST_DIFFERS, CDRFault.ENERGY_COST_DIFFERS)
    assert {finding.difference.cause for finding in not_agreed.findings if finding.difference} == {
        DifferenceCause.ROUNDED_OTHERWISE
    }


def test_every_tariff_of_a_cdr_must_be_known_assigned_and_in_force() -> None:
    other = replace(TARIFF, tariff_id="W2")
    periods = tuple(replace(period, tariff_id=name) for period, name in zip(PERIODS, ("W1", "W2"), strict=True))
    cdr = honest(periods, further_tariffs=(other,))
    both = {**known(), **known(other)}

    assert check(cdr, known_tariffs=both).faults == (CDRFault.TARIFF_NOT_ASSIGNED,)
    assigned = replace(AGREEMENT, tariff_ids=("W1", "W2"))
    assert check(cdr, agreement=assigned, known_tariffs=both).findings == ()
    assert check(cdr, agreement=assigned).faults == (CDRFault.TARIFF_UNKNOWN,)


def test_a_tax_that_is_not_its_own_percentage_is_disputed() -> None:
    gst = TaxAmount(name="GST", amount_e4=2_375, percent=Decimal(5))
    cdr = honest()
    taxed = replace(
        cdr, total_cost=replace(cdr.total_cost, incl_e4=cdr.total_cost.excl_e4 + gst.amount_e4), taxes=(gst,)
    )

    assert check(taxed).findings == ()
    assert check(replace(taxed, taxes=(replace(gst, percent=Decimal(6)),))).faults == (CDRFault.TAX_DIFFERS,)
    reverse = replace(AGREEMENT, tax_regime=TaxRegime.REVERSE_CHARGE)
    assert check(taxed, agreement=reverse).faults == (CDRFault.TAX_DIFFERS,)
