"""A credit takes a CDR back whole."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobility.domain.cdr import CDR, CDRLocation, CreditOfACredit, credit_of
from emobility.domain.charging_station import PowerType
from emobility.domain.identifiers import PartyId
from emobility.domain.money import Price
from emobility.domain.personal import Sealed
from emobility.domain.session import AuthMethod, ChargingPeriod, SessionToken
from emobility.domain.tariff.tariff import PriceComponent, Tariff, TariffDimension, TariffElement
from emobility.domain.tariff.taxes import TaxAmount
from emobility.domain.token import TokenType

START = datetime(2022, 3, 27, 8, 0, tzinfo=UTC)
SEALED = Sealed(subject="ab" * 32, box=b"x" * 40)
COMPONENT = PriceComponent(dimension=TariffDimension.ENERGY, price=Decimal("0.30"))
TARIFF = Tariff(
    party_id=PartyId("NL-TNM"),
    tariff_id="T",
    currency="EUR",
    elements=(TariffElement(components=(COMPONENT,)),),
    last_updated=START,
)
ORIGINAL = CDR(
    party_id=PartyId("NL-TNM"),
    cdr_id="s1",
    session_id="s1",
    started_at=START,
    ended_at=START + timedelta(hours=1),
    token=SessionToken(emsp_id=PartyId("NL-EMP"), uid=SEALED, token_type=TokenType.RFID, contract_id=SEALED),
    auth_method=AuthMethod.WHITELIST,
    authorization_reference=None,
    location=CDRLocation(
        location_id="L",
        name="Square",
        address="Square 1",
        city="Utrecht",
        postal_code="3511ED",
        country="NLD",
        latitude=Decimal("52.09083"),
        longitude=Decimal("5.12222"),
        time_zone="Europe/Amsterdam",
        evse_uid="E",
        emi3_id="NL*TNM*E1",
        connector_id=1,
        connector_standard="IEC_62196_T2",
        power_type=PowerType.AC_3_PHASE,
    ),
    currency="EUR",
    tariff=TARIFF,
    tariff_hash="0" * 64,
    periods=(ChargingPeriod(started_at=START, energy_import_wh=5_000, charging_s=3_600, parking_s=0),),
    total_cost=Price(excl_e4=15_000),
    total_fixed_cost=None,
    total_energy_cost=Price(excl_e4=15_000),
    total_time_cost=None,
    total_parking_cost=None,
    total_energy_import_wh=5_000,
    total_energy_export_wh=0,
    total_charging_s=3_600,
    total_parking_s=0,
    signed_data=None,
    issued_at=START + timedelta(hours=1),
)
AMOUNT = st.integers(-(10**12), 10**12)


def credited(original: CDR) -> CDR:
    return credit_of(original, cdr_id="s1-C1", issued_at=START + timedelta(days=1), remark="wrong")


@given(excl_e4=AMOUNT, incl_e4=st.none() | AMOUNT, energy_wh=st.integers(0, 10**6))
def test_a_cdr_and_its_credit_cancel_each_other(excl_e4: int, incl_e4: int | None, energy_wh: int) -> None:
    original = replace(ORIGINAL, total_cost=Price(excl_e4=excl_e4, incl_e4=incl_e4), total_energy_import_wh=energy_wh)

    credit = credited(original)

    assert original.total_cost.excl_e4 + credit.total_cost.excl_e4 == 0
    assert (original.total_cost.incl_e4 or 0) + (credit.total_cost.incl_e4 or 0) == 0
    assert original.signed_energy_import_wh + credit.signed_energy_import_wh == 0


def test_a_credit_names_its_original_and_repeats_its_data() -> None:
    credit = credited(ORIGINAL)

    assert (credit.is_credit, credit.credit_reference_id, credit.cdr_id) == (True, "s1", "s1-C1")
    assert (credit.periods, credit.tariff, credit.token) == (ORIGINAL.periods, ORIGINAL.tariff, ORIGINAL.token)
    assert credit.total_energy_import_wh == 5_000


def test_only_the_total_cost_of_a_credit_is_negative() -> None:
    # OCPI, mod_cdrs: "Only the values in the total_cost field SHALL contain the negative amounts".
    taxes = (TaxAmount(name="VAT", amount_e4=3_150, percent=Decimal(21)),)

    credit = credited(replace(ORIGINAL, taxes=taxes, total_reservation_cost=Price(excl_e4=1)))

    assert (credit.total_cost, credit.taxes[0].amount_e4) == (Price(excl_e4=-15_000), -3_150)
    assert credit.total_energy_cost == ORIGINAL.total_energy_cost
    assert credit.total_reservation_cost == Price(excl_e4=1)


def test_a_credit_can_not_be_credited() -> None:
    with pytest.raises(CreditOfACredit):
        credited(credited(ORIGINAL))
