"""Bodies said in another version: exact, right by the text of the other side, and with every loss named."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emobility.domain.identifiers import PartyId
from emobility.protocols.ocpi.bridging import (
    Bridged,
    LossReason,
    NotBridgeable,
    Way,
    bridge,
    losses_header,
    query_in,
)
from emobility.protocols.ocpi.specified import faults
from emobility.protocols.ocpi.v221 import InterfaceRole
from tests.ocpi import documents as written
from tests.ocpi.documents import DOCUMENTS

CPO, MSP = PartyId("NL-TNM"), PartyId("DE-MSP")
EXAMPLES = int(os.environ.get("WATTROAM_FUZZ_EXAMPLES", "20"))

PUSHES = {
    "Location": ("locations", "PUT", "NL/TNM/L1"),
    "EVSE": ("locations", "PUT", "NL/TNM/L1/E1"),
    "Connector": ("locations", "PUT", "NL/TNM/L1/E1/1"),
    "Tariff": ("tariffs", "PUT", "NL/TNM/T1"),
    "Session": ("sessions", "PUT", "NL/TNM/S1"),
    "CDR": ("cdrs", "POST", ""),
    "Token": ("tokens", "PUT", "DE/MSP/012345"),
    "StartSession": ("commands", "POST", "START_SESSION"),
    "ReserveNow": ("commands", "POST", "RESERVE_NOW"),
}


def push(kind: str, method: str | None = None) -> Way:
    module, usual, path = PUSHES[kind]
    is_from_msp = kind in {"Token", "StartSession", "ReserveNow"}
    caller, callee = (MSP, CPO) if is_from_msp else (CPO, MSP)
    return Way(
        module=module, side=InterfaceRole.RECEIVER, method=method or usual, path=path, caller=caller, callee=callee
    )


def said(document: Any, kind: str, from_version: str, to_version: str, method: str | None = None) -> Bridged:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return bridge(body, push(kind, method), from_version=from_version, to_version=to_version)


def plain(body: bytes) -> Any:
    return json.loads(body, parse_float=Decimal, parse_int=Decimal)


def lost(bridged: Bridged) -> dict[str, LossReason]:
    return {loss.pointer: loss.reason for loss in bridged.losses}


# Between 2.2.1 and 2.3.0


@pytest.mark.parametrize("to_version", ["2.1.1", "2.2.1", "2.3.0"])
@pytest.mark.parametrize(("version", "name", "document"), DOCUMENTS)
def test_what_arrives_is_right_by_the_text_of_its_version(
    version: str, name: str, document: bytes, to_version: str
) -> None:
    if name not in PUSHES or (to_version == "2.1.1" and name == "ReserveNow"):
        return
    if to_version == "2.1.1" and version != "2.1.1" and b"min_price" in document and name == "Tariff":
        return  # refused, below

    bridged = said(document, name, version, to_version)

    found = [(fault.pointer, fault.reason) for fault in faults(json.loads(bridged.body), name, to_version)]
    assert found == []


@pytest.mark.parametrize("name", sorted(PUSHES))
def test_of_the_same_version_the_very_bytes_arrive(name: str) -> None:
    body = b' {"id" : "x" , "price":0.10, "more":[1e2 ] } '

    assert said(body, name, "2.3.0", "2.3.0").body is body


def test_what_no_version_says_differently_keeps_its_bytes() -> None:
    body = b'{ "uid":"1", "valid" :true, "x":{"y": 0.10}}'

    assert said(body, "Token", "2.2.1", "2.3.0").body is body


def test_one_vat_becomes_one_tax_and_the_sum_again() -> None:
    there = said(b'{"total_cost":{"excl_vat":4.40,"incl_vat":5.3240}}', "CDR", "2.2.1", "2.3.0")
    back = said(there.body, "CDR", "2.3.0", "2.2.1")

    assert there.body == b'{"total_cost":{"before_taxes":4.40,"taxes":[{"name":"VAT","amount":0.9240}]}}'
    assert back.body == b'{"total_cost":{"excl_vat":4.40,"incl_vat":5.3240}}'
    assert (there.losses, back.losses) == ((), ())


def test_no_vat_and_no_taxes_stay_so() -> None:
    body = b'{"total_cost":{"excl_vat":4.40}}'

    there = said(body, "Session", "2.2.1", "2.3.0")

    assert there.body == b'{"total_cost":{"before_taxes":4.40}}'
    assert said(there.body, "Session", "2.3.0", "2.2.1").body == body


def test_several_taxes_are_one_sum_and_that_is_told_as_money() -> None:
    taxes = [{"name": "GST", "amount": 0.5}, {"name": "QST", "percentage": 9.975, "amount": 0.99750}]

    bridged = said({"total_cost": {"before_taxes": 10, "taxes": taxes}}, "CDR", "2.3.0", "2.2.1")

    assert plain(bridged.body) == {"total_cost": {"excl_vat": Decimal(10), "incl_vat": Decimal("11.4975")}}
    [loss] = bridged.losses
    assert (loss.pointer, loss.reason, loss.concerns_money) == ("/total_cost/taxes", LossReason.MERGED, True)
    assert loss.value_sha256 == hashlib.sha256(json.dumps(taxes).encode()).hexdigest()


def test_the_names_of_one_tax_are_lost_one_by_one() -> None:
    tax = {"name": "MwSt", "percentage": 19.0, "account_number": "DE1", "amount": 0.19, "x_own": 1}

    bridged = said({"total_cost": {"before_taxes": 1, "taxes": [tax]}}, "Session", "2.3.0", "2.2.1")

    assert lost(bridged) == {
        f"/total_cost/taxes/0/{name}": LossReason.NO_FIELD for name in ("name", "percentage", "account_number", "x_own")
    }


def test_a_tax_without_an_amount_is_refused() -> None:
    with pytest.raises(NotBridgeable, match="taxes"):
        said({"total_cost": {"before_taxes": 1, "taxes": [{"name": "VAT"}]}}, "CDR", "2.3.0", "2.2.1")


def a_tariff(price: str, vat: str | None, **more: Any) -> bytes:
    component = f'{{"type":"ENERGY","price":{price},"step_size":1' + (f',"vat":{vat}' if vat else "") + "}"
    rest = "".join(f",{json.dumps(name)}:{json.dumps(value)}" for name, value in more.items())
    return f'{{"id":"T1","elements":[{{"price_components":[{component}]}}]{rest}}}'.encode()


def price_of(body: bytes) -> Decimal:
    price = plain(body)["elements"][0]["price_components"][0]["price"]
    assert isinstance(price, Decimal)
    return price


def test_prices_of_2_2_1_are_without_taxes_in_2_3_0() -> None:
    bridged = said(a_tariff("0.40", "21.0"), "Tariff", "2.2.1", "2.3.0")

    assert plain(bridged.body)["tax_included"] == "NO"
    assert b'"price":0.40,' in bridged.body
    assert said(bridged.body, "Tariff", "2.3.0", "2.2.1").losses == ()


def test_a_price_that_holds_its_tax_is_stated_without_it_exactly_where_that_is_a_decimal() -> None:
    bridged = said(a_tariff("0.605", "21", tax_included="YES"), "Tariff", "2.3.0", "2.2.1")

    assert price_of(bridged.body) == Decimal("0.5")
    assert lost(bridged) == {
        "/elements/0/price_components/0/price": LossReason.CONVERTED,
        "/tax_included": LossReason.NO_FIELD,
    }


def test_a_price_that_can_not_be_stated_without_its_tax_is_told_to_be_rounded() -> None:
    bridged = said(a_tariff("0.40", "21", tax_included="YES"), "Tariff", "2.3.0", "2.2.1")

    assert abs(price_of(bridged.body) * Decimal("1.21") - Decimal("0.40")) < Decimal("1e-17")
    [rounded] = [loss for loss in bridged.losses if loss.reason is LossReason.ROUNDED]
    assert rounded.concerns_money


def test_a_price_with_taxes_nobody_names_stays_and_that_is_told_as_money() -> None:
    bridged = said(a_tariff("0.40", None, tax_included="YES"), "Tariff", "2.3.0", "2.2.1")

    assert price_of(bridged.body) == Decimal("0.40")
    assert [(loss.pointer, loss.concerns_money) for loss in bridged.losses] == [("/tax_included", True)]


def test_limits_are_renamed_with_their_digits() -> None:
    body = a_tariff("1", None).replace(b'"id"', b'"min_price":{"excl_vat":0.50,"incl_vat":0.6050},"id"')

    there = said(body, "Tariff", "2.2.1", "2.3.0")

    assert b'"min_price":{"before_taxes":0.50,"after_taxes":0.6050}' in there.body
    assert b'"min_price":{"excl_vat":0.50,"incl_vat":0.6050}' in said(there.body, "Tariff", "2.3.0", "2.2.1").body


def test_an_element_for_bookings_alone_is_left_out_not_taken_for_any_session() -> None:
    elements = [
        {"price_components": [1], "restrictions": {"reservation": "RESERVATION_CANCELLATION_FEES"}},
        {"price_components": [2]},
    ]

    bridged = said({"elements": elements}, "Tariff", "2.3.0", "2.2.1")

    assert plain(bridged.body) == {"elements": [{"price_components": [2]}]}
    assert [(loss.pointer, loss.reason, loss.concerns_money) for loss in bridged.losses] == [
        ("/elements/0", LossReason.LEFT_OUT, True)
    ]
    with pytest.raises(NotBridgeable):
        said({"elements": elements[:1]}, "Tariff", "2.3.0", "2.2.1")


def test_new_fields_and_values_of_a_location_are_left_out_or_replaced_and_named() -> None:
    bridged = said(written.LOCATION_230, "Location", "2.3.0", "2.2.1")

    assert lost(bridged) == {
        "/evses/0/connectors/1": LossReason.LEFT_OUT,
        "/evses/0/parking": LossReason.NO_FIELD,
        "/evses/0/accepted_service_providers": LossReason.NO_FIELD,
        "/parking_places": LossReason.NO_FIELD,
        "/help_phone": LossReason.NO_FIELD,
    }


def test_an_evse_whose_plugs_2_2_1_does_not_know_is_left_out() -> None:
    trucks = written.EVSE_230 | {"connectors": [written.CONNECTOR_230]}

    bridged = said(written.LOCATION_230 | {"evses": [written.EVSE_230, trucks]}, "Location", "2.3.0", "2.2.1")

    assert len(plain(bridged.body)["evses"]) == 1
    assert lost(bridged)["/evses/1"] is LossReason.LEFT_OUT
    with pytest.raises(NotBridgeable):
        said(trucks, "EVSE", "2.3.0", "2.2.1")


@pytest.mark.parametrize(
    ("document", "kind", "value"),
    [
        ({"standard": "SAE_J3400"}, "Connector", {"standard": "TESLA_S"}),
        ({"type": "EMAID"}, "Token", {"type": "OTHER"}),
        ({"parking_restrictions": ["TAXIS", "EV_ONLY"]}, "EVSE", {"parking_restrictions": ["CUSTOMERS", "EV_ONLY"]}),
        ({"parking_type": "ON_THE_MOON"}, "Location", {}),
        ({"facilities": ["WIFI", "SAUNA"]}, "Location", {"facilities": ["WIFI"]}),
        (
            {"cdr_location": {"connector_standard": "MCS", "connector_power_type": "DC"}},
            "CDR",
            {"cdr_location": {"connector_standard": "IEC_62196_T2_COMBO", "connector_power_type": "DC"}},
        ),
    ],
)
def test_values_that_2_2_1_has_not_get_their_documented_fallback(document: Any, kind: str, value: Any) -> None:
    bridged = said(document, kind, "2.3.0", "2.2.1", method="PATCH")

    assert plain(bridged.body) == value
    assert [loss.reason for loss in bridged.losses] == [LossReason.NO_VALUE]


@pytest.mark.parametrize("module", ["bookings", "payments", "invoicereconciliation"])
def test_modules_that_a_version_has_not_are_refused(module: str) -> None:
    way = Way(module=module, side=InterfaceRole.RECEIVER, method="POST")

    with pytest.raises(NotBridgeable, match=module):
        bridge(b"{}", way, from_version="2.3.0", to_version="2.2.1")


def test_answers_are_bridged_in_their_envelope_and_lists_one_by_one() -> None:
    way = Way(module="sessions", side=InterfaceRole.SENDER, method="GET", is_answer=True)
    body = b'{ "status_code": 1000 ,"data":[{"id":"1","total_cost":{"before_taxes":1.0}},{"id":"2","kwh":0.10}],"t":1 }'

    bridged = bridge(body, way, from_version="2.3.0", to_version="2.2.1")

    assert bridged.body == (
        b'{"status_code":1000,"data":[{"id":"1","total_cost":{"excl_vat":1.0}},{"id":"2","kwh":0.10}],"t":1}'
    )


def test_a_partial_object_gets_no_field_that_it_did_not_have() -> None:
    for kind in ("Location", "Tariff", "Session", "Token"):
        for start, end in (("2.2.1", "2.1.1"), ("2.1.1", "2.2.1"), ("2.1.1", "2.3.0")):
            body = b'{"last_updated":"2026-03-01T12:00:00Z"}'
            assert said(body, kind, start, end, method="PATCH").body == body or kind == "Tariff"


# Properties

NUMBERS = st.one_of(
    st.decimals(min_value=-(10**9), max_value=10**9, allow_nan=False, allow_infinity=False, places=4).map(str),
    st.from_regex(r"\A(0|[1-9][0-9]{0,8})(\.[0-9]{1,18})?\Z"),
    st.sampled_from(["0.10", "1.00", "1e2", "1.50E-3", "-0.0", "0.1000000000000000000000000001"]),
)
UNKNOWN = st.dictionaries(
    st.from_regex(r"\Ax_[a-z]{1,6}\Z"),
    st.one_of(NUMBERS, st.sampled_from(['{"deep": [0.10, {"a":1.00}]}', "[ 1 , 2 ]", "null", '"é\\u00e9"'])),
    max_size=3,
)


@st.composite
def with_unknown(draw: st.DrawFn, members: dict[str, str]) -> str:
    every = members | draw(UNKNOWN)
    order = draw(st.permutations(sorted(every)))
    return "{" + ", ".join(f'"{name}": {every[name]}' for name in order) + "}"


@st.composite
def prices(draw: st.DrawFn) -> str:
    members = {"excl_vat": draw(NUMBERS)}
    if draw(st.booleans()):
        members["incl_vat"] = draw(NUMBERS)
    return draw(with_unknown(members))


@st.composite
def tariffs(draw: st.DrawFn) -> str:
    def component() -> str:
        members = {"type": '"ENERGY"', "price": draw(NUMBERS), "step_size": "1"}
        if draw(st.booleans()):
            members["vat"] = draw(NUMBERS)
        return draw(with_unknown(members))

    elements = [
        draw(with_unknown({"price_components": f"[{component()}]", "restrictions": '{"max_kwh": 30.50}'}))
        for _ in range(draw(st.integers(1, 3)))
    ]
    members = {"id": '"T1"', "currency": '"EUR"', "elements": f"[{','.join(elements)}]"}
    for limit in ("min_price", "max_price"):
        if draw(st.booleans()):
            members[limit] = draw(prices())
    return draw(with_unknown(members))


@st.composite
def cdrs(draw: st.DrawFn) -> str:
    members = {"id": '"C1"', "total_cost": draw(prices()), "total_energy": draw(NUMBERS)}
    members["tariffs"] = f"[{','.join(draw(st.lists(tariffs(), max_size=2)))}]"
    members["charging_periods"] = f'[{{"dimensions":[{{"type":"ENERGY","volume":{draw(NUMBERS)}}}]}}]'
    for part in ("fixed", "energy", "time", "parking", "reservation"):
        if draw(st.booleans()):
            members[f"total_{part}_cost"] = draw(prices())
    return draw(with_unknown(members))


@st.composite
def sessions(draw: st.DrawFn) -> str:
    members = {"id": '"S1"', "kwh": draw(NUMBERS), "status": '"RESERVATION"'}
    if draw(st.booleans()):
        members["total_cost"] = draw(prices())
    return draw(with_unknown(members))


OBJECTS = {"Tariff": tariffs(), "CDR": cdrs(), "Session": sessions()}


@pytest.mark.parametrize("kind", sorted(OBJECTS))
def test_there_and_back_is_the_same_to_the_last_digit(kind: str) -> None:
    @settings(max_examples=EXAMPLES, deadline=None)
    @given(document=OBJECTS[kind])
    def check(document: str) -> None:
        there = said(document.encode(), kind, "2.2.1", "2.3.0")
        back = said(there.body, kind, "2.3.0", "2.2.1")

        assert there.losses == back.losses == ()
        assert plain(back.body) == plain(document.encode())
        for lexeme in ("30.50", "0.1000000000000000000000000001"):
            assert document.count(lexeme) <= back.body.decode().count(lexeme)

    check()


def differences(before: Any, after: Any, pointer: str = "") -> set[str]:
    """Pointers of `before` whose value is not in `after`."""
    if isinstance(before, dict) and isinstance(after, dict):
        here = {f"{pointer}/{name}" for name in before if name not in after and before[name] not in (None, [])}
        same = (differences(value, after[name], f"{pointer}/{name}") for name, value in before.items() if name in after)
        return here.union(*same)
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return set().union(*(differences(old, new, f"{pointer}/{at}") for at, (old, new) in pairs))
    return set() if before == after else {pointer}


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    picked=st.sets(st.sampled_from(sorted(written.LOCATION_230))),
    evse=st.sets(st.sampled_from(sorted(written.EVSE_230))),
    parking=st.sampled_from(["ON_STREET", "UNHEARD_OF"]),
    unknown=UNKNOWN,
)
def test_what_is_missing_after_there_and_back_is_just_what_was_told(
    picked: set[str], evse: set[str], parking: str, unknown: dict[str, str]
) -> None:
    document = {name: written.LOCATION_230[name] for name in sorted(picked)}
    if "evses" in document:
        document["evses"] = [{name: written.EVSE_230[name] for name in sorted(evse)}]
    if "parking_type" in document:
        document["parking_type"] = parking
    body = json.dumps(document)[:-1] + "".join(f', "{name}": {value}' for name, value in unknown.items()) + "}"
    body = body.replace("{, ", "{")

    there = said(body.encode(), "Location", "2.3.0", "2.2.1")
    back = said(there.body, "Location", "2.2.1", "2.3.0")

    told = {loss.pointer for loss in there.losses}
    gone = differences(plain(body.encode()), plain(back.body))
    within = {pointer for pointer in told if any(pointer != each and pointer.startswith(f"{each}/") for each in gone)}
    # A list that lost an entry differs as a whole.
    shorter = {pointer for pointer in gone if any(each.startswith(f"{pointer}/") for each in told)}
    assert gone - shorter == told - within
    assert back.losses == ()


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    body=st.one_of(
        st.binary(max_size=60),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=5),
            lambda s: (
                st.lists(s, max_size=3) | st.dictionaries(st.sampled_from(sorted(written.CDR_230)), s, max_size=4)
            ),
            max_leaves=12,
        ).map(lambda value: json.dumps(value).encode()),
    ),
    kind=st.sampled_from(sorted(PUSHES)),
    versions=st.permutations(["2.1.1", "2.2.1", "2.3.0"]),
)
def test_nonsense_is_passed_on_or_refused_and_breaks_nothing(body: bytes, kind: str, versions: list[str]) -> None:
    with suppress(NotBridgeable):
        said(body, kind, versions[0], versions[1])


# 2.1.1


def test_a_session_of_2_1_1_is_one_of_2_2_1_with_what_it_can_not_know_told() -> None:
    bridged = said(written.SESSION_211, "Session", "2.1.1", "2.2.1")

    body = plain(bridged.body)
    assert (body["country_code"], body["party_id"]) == ("NL", "TNM")
    assert body["cdr_token"]["contract_id"] == "DE-MSP-C12345678-X"
    assert (body["cdr_token"]["country_code"], body["cdr_token"]["party_id"]) == ("DE", "MSP")
    assert (body["location_id"], body["evse_uid"], body["connector_id"]) == ("L1", "E1", "1")
    assert body["total_cost"] == {"excl_vat": Decimal("4.44")}
    assert lost(bridged) == {"/cdr_token": LossReason.FILLED, "/location": LossReason.NO_FIELD}


def test_a_cdr_keeps_its_net_total_on_the_way_to_2_1_1_and_its_gross_is_told() -> None:
    cdr = written.CDR | {"tariffs": []}

    bridged = said(cdr, "CDR", "2.2.1", "2.1.1")

    body = plain(bridged.body)
    assert (body["total_cost"], body["auth_id"]) == (Decimal("4.44"), "DE-MSP-C12345678-X")
    assert body["location"]["evses"][0]["connectors"][0]["standard"] == "IEC_62196_T2"
    [gross] = [loss for loss in bridged.losses if loss.pointer == "/total_cost/incl_vat"]
    assert gross.concerns_money


def test_what_would_be_another_price_or_another_debt_in_2_1_1_is_refused() -> None:
    with_limit = written.TARIFF
    with_current = {"elements": [{"price_components": [], "restrictions": {"min_current": 16}}]}
    for document, kind in ((with_limit, "Tariff"), (with_current, "Tariff"), (written.CDR | {"credit": True}, "CDR")):
        with pytest.raises(NotBridgeable):
            said(document, kind, "2.2.1", "2.1.1")
    with pytest.raises(NotBridgeable, match="public"):
        said(written.LOCATION | {"publish": False}, "Location", "2.2.1", "2.1.1")


def test_a_tariff_in_a_cdr_that_2_1_1_can_not_say_is_left_out_of_it_and_told_as_money() -> None:
    bridged = said(written.CDR, "CDR", "2.2.1", "2.1.1")

    assert plain(bridged.body)["tariffs"] == []
    [tariff] = [loss for loss in bridged.losses if loss.pointer == "/tariffs/0"]
    assert (tariff.reason, tariff.concerns_money) == (LossReason.LEFT_OUT, True)


def test_an_element_for_reservations_alone_is_left_out_of_a_tariff_for_2_1_1() -> None:
    elements = [
        {"price_components": [1], "restrictions": {"reservation": "RESERVATION"}},
        {"price_components": [2], "restrictions": {"max_kwh": 30.50}},
    ]

    bridged = said({"elements": elements}, "Tariff", "2.2.1", "2.1.1")

    assert plain(bridged.body) == plain(json.dumps({"elements": elements[1:]}).encode())
    assert [(loss.pointer, loss.concerns_money) for loss in bridged.losses] == [("/elements/0", True)]


def test_several_tariffs_of_a_plug_become_the_first_and_that_is_told_as_money() -> None:
    bridged = said(written.CONNECTOR | {"tariff_ids": ["A", "B"]}, "Connector", "2.2.1", "2.1.1")

    assert plain(bridged.body)["tariff_id"] == "A"
    assert [loss.pointer for loss in bridged.losses if loss.concerns_money] == ["/tariff_ids/1"]


def test_2_1_1_and_2_3_0_meet_by_way_of_2_2_1() -> None:
    there = said(written.CDR_211, "CDR", "2.1.1", "2.3.0")
    back = said(there.body, "CDR", "2.3.0", "2.1.1")

    assert plain(there.body)["total_cost"] == {"before_taxes": Decimal("4.44")}
    assert plain(there.body)["tariffs"][0]["tax_included"] == "NO"
    assert {loss.version for loss in there.losses} == {"2.1.1"}
    assert plain(back.body)["total_cost"] == Decimal("4.44")


@pytest.mark.parametrize(
    ("number", "result"), [("17", 17), ("R-17", None), ("017", None), ("", None), ("9" * 13, None)]
)
def test_reservations_are_numbers_in_2_1_1(number: str, result: int | None) -> None:
    body = {"response_url": "https://m.test/r", "reservation_id": number, "location_id": "L1"}
    if result is None:
        with pytest.raises(NotBridgeable):
            said(body, "ReserveNow", "2.2.1", "2.1.1")
        return

    there = said(body, "ReserveNow", "2.2.1", "2.1.1")

    assert plain(there.body)["reservation_id"] == result
    assert plain(said(there.body, "ReserveNow", "2.1.1", "2.2.1").body)["reservation_id"] == number


def test_command_answers_and_results_are_said_in_2_1_1_words() -> None:
    answer = Way(module="commands", side=InterfaceRole.RECEIVER, method="POST", path="START_SESSION", is_answer=True)
    result = Way(module="commands", side=InterfaceRole.SENDER, method="POST")

    newer = bridge(b'{"data":{"result":"TIMEOUT"}}', answer, from_version="2.1.1", to_version="2.2.1")
    older = bridge(b'{"result":"EVSE_OCCUPIED"}', result, from_version="2.3.0", to_version="2.1.1")

    assert plain(newer.body)["data"] == {"result": "REJECTED", "timeout": 120}
    assert plain(older.body) == {"result": "REJECTED"}
    assert [loss.instead for loss in older.losses] == ["REJECTED"]


def test_a_command_that_2_1_1_has_not_is_refused() -> None:
    way = Way(module="commands", side=InterfaceRole.RECEIVER, method="POST", path="CANCEL_RESERVATION")

    with pytest.raises(NotBridgeable):
        bridge(b"{}", way, from_version="2.2.1", to_version="2.1.1")


def test_the_answer_to_authorize_gets_its_token_back() -> None:
    way = Way(module="tokens", side=InterfaceRole.SENDER, method="POST", path="01%2F2/authorize", is_answer=True)

    bridged = bridge(
        b'{"data":{"allowed":"ALLOWED"}}',
        Way(**{name: getattr(way, name) for name in Way.__slots__} | {"caller": CPO, "callee": MSP}),
        from_version="2.1.1",
        to_version="2.2.1",
    )

    assert faults(json.loads(bridged.body)["data"], "AuthorizationInfo", "2.2.1") == []
    assert plain(bridged.body)["data"]["token"]["uid"] == "01/2"
    with pytest.raises(NotBridgeable):
        bridge(b'{"data":{"allowed":"ALLOWED"}}', way, from_version="2.1.1", to_version="2.2.1")


def test_the_kind_of_a_token_is_asked_for_in_the_words_of_the_version() -> None:
    way = Way(module="tokens", side=InterfaceRole.SENDER, method="POST", path="1/authorize")

    assert query_in("type=RFID&x=1", way, "2.1.1") == "x=1&type=RFID&token_type=RFID"
    assert query_in("token_type=RFID", way, "2.2.1") == "type=RFID"
    assert query_in("", way, "2.2.1") == ""
    assert query_in("type=1", Way(module="cdrs", side=InterfaceRole.SENDER, method="GET"), "2.1.1") == "type=1"


def test_the_header_counts_and_names_losses_in_printable_ascii() -> None:
    many = written.LOCATION_230 | {"evses": [written.EVSE_230] * 30}

    header = losses_header(said(many, "Location", "2.3.0", "2.2.1").losses)

    assert header.startswith("92, ")
    assert header.count(",") == 20
    assert header.isascii()
    assert header.isprintable()


def test_a_body_that_would_lose_too_much_is_refused() -> None:
    many = written.LOCATION_230 | {"evses": [written.EVSE_230] * 400}

    with pytest.raises(NotBridgeable, match="more than 1000"):
        said(many, "Location", "2.3.0", "2.2.1")
