"""Tariffs and CDRs of OCPI 2.3.0: out and back to the last digit, taxes by name, the text's own examples."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emobility.domain.cdr import CDR, credit_of
from emobility.domain.cdr_difference import explain_difference
from emobility.domain.identifiers import PartyId
from emobility.domain.money import Price
from emobility.domain.tariff.pricing import price_session, price_session_by_several
from emobility.domain.tariff.tariff import PriceComponent, Tariff, TariffDimension, TariffElement, TaxIncluded
from emobility.domain.tariff.taxes import Tax, TaxAmount, levied
from emobility.domain.tariff.version import tariff_hash
from emobility.domain.token import TokenType
from emobility.protocols.ocpi import mapping, mapping_v230, v230
from emobility.protocols.ocpi.mapping import NotInOurWords
from emobility.protocols.ocpi.v221 import read, write
from tests.ocpi.test_mapping import TARIFF, VAULT, ZONE, cdrs, done, opened

TAXED_TARIFF = st.builds(lambda tariff, tax: replace(tariff, tax_included=tax), TARIFF, st.sampled_from(TaxIncluded))


def sent(cdr: CDR) -> dict[str, Any]:
    return json.loads(write(done(mapping_v230.cdr_to_ocpi(cdr, VAULT))), parse_float=Decimal)  # type: ignore[no-any-return]


def received(document: dict[str, Any]) -> CDR:
    body = json.dumps(document, default=float).encode()
    return done(mapping_v230.cdr_from_ocpi(read(body, v230.CDR), VAULT, time_zone=ZONE))


@settings(max_examples=25, deadline=None)
@given(tariff=TAXED_TARIFF)
def test_a_tariff_comes_back_as_it_went_and_keeps_its_hash(tariff: Tariff) -> None:
    back = mapping_v230.tariff_from_ocpi(read(write(mapping_v230.tariff_to_ocpi(tariff)), v230.Tariff))

    assert tariff_hash(back) == tariff_hash(tariff)
    if tariff.tax_included is not TaxIncluded.NOT_APPLICABLE:
        assert back == tariff


@settings(max_examples=12, deadline=None)
@given(tariff=TAXED_TARIFF.filter(lambda tariff: tariff.tax_included is not TaxIncluded.YES))
def test_a_tariff_has_one_hash_in_both_versions(tariff: Tariff) -> None:
    assert tariff_hash(mapping.tariff_from_ocpi(mapping.tariff_to_ocpi(tariff))) == tariff_hash(
        mapping_v230.tariff_from_ocpi(mapping_v230.tariff_to_ocpi(tariff))
    )


@settings(max_examples=20, deadline=None)
@given(cdr=cdrs(), is_credit=st.booleans())
def test_a_cdr_comes_back_as_it_went(cdr: CDR, is_credit: bool) -> None:  # noqa: FBT001 - drawn
    if is_credit:
        cdr = credit_of(cdr, cdr_id=f"{cdr.cdr_id[:36]}-C1", issued_at=cdr.issued_at, remark="taken back")

    async def round_trip() -> CDR:
        body = write(await mapping_v230.cdr_to_ocpi(cdr, VAULT))
        return await mapping_v230.cdr_from_ocpi(read(body, v230.CDR), VAULT, time_zone=ZONE)

    back = done(round_trip())
    assert opened(replace(back, taxes=())) == opened(cdr)
    total = back.total_cost
    assert sum(tax.amount_e4 for tax in back.taxes) == (0 if total.incl_e4 is None else total.incl_e4 - total.excl_e4)


NOON = datetime(2024, 12, 5, 11, tzinfo=UTC)
TOKEN = {"country_code": "DE", "party_id": "TNM", "uid": "012345678", "type": "RFID", "contract_id": "DE8ACC12E46L89"}
PLACE = {
    "id": "LOC1",
    "address": "Plein 1",
    "city": "Gent",
    "country": "BEL",
    "coordinates": {"latitude": "51.047599", "longitude": "3.729944"},
    "evse_uid": "3256",
    "evse_id": "BE*BEC*E041503003",
    "connector_id": "1",
    "connector_standard": "IEC_62196_T2",
    "connector_format": "SOCKET",
    "connector_power_type": "AC_1_PHASE",
}


def tariff_document(*elements: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "country_code": "BE",
        "party_id": "BEC",
        "id": "12",
        "currency": "EUR",
        "elements": list(elements),
        "tax_included": "NO",
        "last_updated": "2024-05-02T14:15:01Z",
        **fields,
    }


def cdr_document(tariff: dict[str, Any], *periods: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "country_code": "BE",
        "party_id": "BEC",
        "id": "12345",
        "session_id": "S1",
        "start_date_time": "2024-12-05T17:39:09Z",
        "end_date_time": "2024-12-05T19:37:32Z",
        "cdr_token": TOKEN,
        "auth_method": "WHITELIST",
        "cdr_location": PLACE,
        "currency": "EUR",
        "tariffs": [tariff],
        "charging_periods": list(periods),
        "total_energy": 15.342,
        "total_time": 1.973,
        "last_updated": "2024-12-05T20:02:13Z",
        **fields,
    }


def element(kind: str, price: float, step: int, vat: float | None = None, **restrictions: Any) -> dict[str, Any]:
    component = {"type": kind, "price": price, "step_size": step} | ({} if vat is None else {"vat": vat})
    return {"price_components": [component]} | ({"restrictions": restrictions} if restrictions else {})


TWO_PER_HOUR = element("TIME", 2.00, 300, 10.0)
VAT_040 = {"before_taxes": 4.00, "taxes": [{"name": "VAT", "amount": 0.40}]}


def period(kind: str, volume: float, *, at: str = "2024-12-05T17:39:09Z", **fields: Any) -> dict[str, Any]:
    return {"start_date_time": at, "dimensions": [{"type": kind, "volume": volume}], **fields}


TIMED = period("TIME", 1.973, tariff_id="12")


def test_the_example_of_a_cdr_prices_to_what_it_states() -> None:
    # mod_cdrs, "Example of a CDR"; the text's tariff lacks the `tax_included` that 2.3.0 asks for.
    cdr = received(cdr_document(tariff_document(TWO_PER_HOUR), TIMED, total_cost=VAT_040, total_time_cost=VAT_040))

    priced = price_session(cdr.tariff, cdr.periods, ended_at=cdr.ended_at, time_zone=ZONE)

    assert (
        (priced.total, priced.time)
        == (cdr.total_cost, cdr.total_time_cost)
        == (Price(excl_e4=40_000, incl_e4=44_000),) * 2
    )
    assert explain_difference(cdr, priced) == ()
    assert cdr.taxes == (TaxAmount(name="VAT", amount_e4=4_000),)


@pytest.mark.parametrize(
    ("tax_included", "price", "excl_e4", "incl_e4", "is_net_known"),
    [("NO", 2.00, 50_000, None, True), ("YES", 2.10, 52_500, 52_500, False), ("N/A", 2.00, 50_000, None, True)],
)
def test_the_north_american_tariffs_cost_what_the_text_says(
    tax_included: str, price: float, excl_e4: int, incl_e4: int | None, *, is_net_known: bool
) -> None:
    # tariff_19 and tariff_20: 2.5 hours are C$ 5.00 plus taxes, or C$ 5.25 with all taxes in it.
    document = tariff_document(element("TIME", price, 1), currency="CAD", tax_included=tax_included)
    tariff = mapping_v230.tariff_from_ocpi(read(json.dumps(document).encode(), v230.Tariff))
    cdr = received(cdr_document(document, TIMED, total_cost=VAT_040))
    charged = replace(cdr.periods[0], charging_s=9_000)

    priced = price_session(tariff, [charged], ended_at=charged.started_at + timedelta(hours=2.5), time_zone=ZONE)

    assert (priced.total, priced.is_net_known) == (Price(excl_e4=excl_e4, incl_e4=incl_e4), is_net_known)


def test_a_total_names_the_tax_of_every_rate_with_its_percentage() -> None:
    document = tariff_document(element("FLAT", 0.50, 1, 20.0), element("ENERGY", 0.25, 1, 10.0))
    energy = {"start_date_time": "2024-12-05T17:39:09Z", "dimensions": [{"type": "ENERGY", "volume": 20}]}
    cdr = received(
        cdr_document(document, energy, total_cost={"before_taxes": 5.5, "taxes": [{"name": "VAT", "amount": 0.6}]})
    )

    told = sent(replace(cdr, taxes=()))["total_cost"]

    assert told == {
        "before_taxes": Decimal("5.5000"),
        "taxes": [
            {"name": "VAT", "percentage": 20, "amount": Decimal("0.1000")},
            {"name": "VAT", "percentage": 10, "amount": Decimal("0.5000")},
        ],
    }


def test_several_taxes_with_their_account_numbers_come_back_as_they_went() -> None:
    document = tariff_document(element("TIME", 2.00, 300), currency="CAD")
    cdr = received(cdr_document(document, TIMED, total_cost={"before_taxes": 4.0}))
    taxes = levied(
        40_000, [Tax(name="GST", percent=Decimal(5), account_number="123"), Tax(name="QST", percent=Decimal("9.975"))]
    )
    billed = replace(cdr, total_cost=Price(excl_e4=40_000, incl_e4=45_990), taxes=taxes)

    back = received(sent(billed))

    assert (back.total_cost, back.taxes) == (billed.total_cost, taxes)
    # The tariff leaves the rate open, so the seller's taxes are no difference.
    assert (
        explain_difference(back, price_session(back.tariff, back.periods, ended_at=back.ended_at, time_zone=ZONE)) == ()
    )


def test_a_cdr_under_two_tariffs_prices_by_both() -> None:
    cheap, fast = (
        tariff_document(element("ENERGY", price, 500), id=name) for name, price in (("CHEAP", 0.2), ("FAST", 0.5))
    )
    periods = [
        {
            "start_date_time": f"2024-12-05T1{hour}:00:00Z",
            "dimensions": [{"type": "ENERGY", "volume": 1}],
            "tariff_id": name,
        }
        for hour, name in ((7, "CHEAP"), (8, "FAST"))
    ]
    document = cdr_document(cheap, *periods, tariffs=[cheap, fast], total_cost={"before_taxes": 0.7})

    cdr = received(document)

    priced = price_session_by_several(cdr.tariffs, cdr.periods, ended_at=cdr.ended_at, time_zone=ZONE)
    assert priced.total == cdr.total_cost == Price(excl_e4=7_000)
    assert [each["id"] for each in sent(cdr)["tariffs"]] == ["CHEAP", "FAST"]


def test_a_reservation_that_expired_has_a_cdr_without_session_evse_and_connector() -> None:
    # tariff_17: EUR 4 for the expiry, an hour at EUR 2; session and EVSE may be left out (mod_cdrs, 10.3.1, 10.4.3).
    document = tariff_document(
        element("FLAT", 4.00, 1, 20.0, reservation="RESERVATION_EXPIRES"),
        element("TIME", 2.00, 600, 20.0, reservation="RESERVATION"),
        element("FLAT", 0.50, 1, 20.0),
    )
    held = period("RESERVATION_TIME", 1.0)
    cost = {"before_taxes": 6.0, "taxes": [{"name": "VAT", "percentage": 20, "amount": 1.2}]}
    place = PLACE | {"evse_uid": "#NA", "evse_id": "#NA", "connector_id": "#NA"}
    body = cdr_document(
        document, held, cdr_location=place, total_cost=cost, total_reservation_cost=cost, total_energy=0
    )
    del body["session_id"]

    cdr = received(body)

    priced = price_session(cdr.tariff, cdr.periods, ended_at=cdr.ended_at, time_zone=ZONE)
    assert (priced.total, priced.reservation) == (cdr.total_cost, cdr.total_reservation_cost)
    assert cdr.total_cost == Price(excl_e4=60_000, incl_e4=72_000)
    again = sent(cdr)
    assert "session_id" not in again
    assert (again["cdr_location"]["evse_uid"], again["cdr_location"]["connector_id"]) == ("#NA", "#NA")
    with pytest.raises(NotInOurWords):
        received(body | {"charging_periods": [TIMED]})


def test_a_vehicles_own_token_is_of_another_kind_here() -> None:
    document = cdr_document(tariff_document(TWO_PER_HOUR), TIMED, total_cost=VAT_040)

    assert received(document | {"cdr_token": TOKEN | {"type": "EMAID"}}).token.token_type is TokenType.OTHER
    with pytest.raises(NotInOurWords):
        received(document | {"cdr_token": TOKEN | {"type": "HANDSHAKE"}})


def test_rates_mean_nothing_where_no_tax_is_applicable_and_are_not_sent() -> None:
    tariff = Tariff(
        party_id=PartyId("BE-BEC"),
        tariff_id="T",
        currency="EUR",
        elements=(
            TariffElement(
                components=(PriceComponent(dimension=TariffDimension.FLAT, price=Decimal(1), vat_percent=Decimal(21)),)
            ),
        ),
        last_updated=NOON,
        tax_included=TaxIncluded.NOT_APPLICABLE,
    )

    told = json.loads(write(mapping_v230.tariff_to_ocpi(tariff)))

    assert (told["tax_included"], "vat" in told["elements"][0]["price_components"][0]) == ("N/A", False)
