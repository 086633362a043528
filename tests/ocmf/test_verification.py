"""Signed meter values: what is true is believed, what was touched is not."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pytest

from emobility.protocols.ocmf import (
    OCMFRefused,
    VerifiedCharge,
    VerifiedOCMF,
    mask,
    verify,
    verify_charge,
    verify_charge_alone,
)
from emobility.protocols.ocmf.refusals import OCMFRule
from tests.ocmf.meter import Meter, value

METER = Meter()


def charge(meter: Meter = METER, first_page: int = 100) -> list[str]:
    return [
        meter.record(first_page, value("B", "1234.500", 0)),
        meter.record(first_page + 1, value("C", "1236.000", 15)),
        meter.record(first_page + 2, value("E", "1240.125", 30)),
    ]


def check(records: Sequence[str], meter: Meter = METER, begin: int = 1_234_500, end: int = 1_240_125) -> VerifiedCharge:
    return verify_charge(records, public_key_hex=meter.public_key, begin_wh=begin, end_wh=end)


def refused(action: Callable[[], object]) -> OCMFRule:
    with pytest.raises(OCMFRefused) as refusal:
        action()
    return refusal.value.rule


def test_a_true_charge_is_believed() -> None:
    verified = check(charge())

    assert verified.energy_wh == 5_625
    assert verified.begin.at == datetime(2022, 3, 27, 8, 0, tzinfo=UTC)
    assert len(verified.payload_hashes) == 3


def test_the_order_of_arrival_and_a_repeated_record_do_not_matter() -> None:
    records = charge()

    assert check([*reversed(records), records[1]]) == check(records)


def test_one_record_may_hold_begin_and_end() -> None:
    record = METER.record(1, value("B", "1.000", 0), value("E", "2.500", 30))

    assert check([record], begin=1_000, end=2_500).energy_wh == 1_500


def test_an_end_record_may_repeat_the_begin() -> None:
    records = [
        METER.record(1, value("B", "1.000", 0)),
        METER.record(2, value("B", "1.000", 0), value("E", "2.500", 30)),
    ]

    assert check(records, begin=1_000, end=2_500).energy_wh == 1_500


def test_a_register_that_counts_per_transaction_is_compared_by_difference() -> None:
    begin = METER.record(1, value("B", "0.000", 0, RI="01-00:B2.08.00"))
    end = METER.record(2, value("E", "1.500", 30, RI="01-00:B2.08.00"))

    assert check([begin, end], begin=7_000, end=8_500).energy_wh == 1_500


def test_any_changed_character_of_the_payload_is_refused() -> None:
    record = charge()[0]
    start, end = record.index("|") + 1, record.rindex("|")

    for place in range(start, end):
        other = "x" if record[place] != "x" else "y"
        with pytest.raises(OCMFRefused):
            verify(f"{record[:place]}{other}{record[place + 1 :]}", METER.public_key)


def test_another_meters_key_is_refused() -> None:
    assert refused(lambda: check(charge(Meter()))) == OCMFRule.SIGNATURE


def test_a_key_that_comes_with_the_record_does_not_count() -> None:
    forger = Meter()
    appended = f"{charge(forger)[0]}|{forger.public_key}"
    body, _, tail = charge(forger)[0].rpartition("|")
    inside = f"{body}|{json.dumps({**json.loads(tail), 'PK': forger.public_key})}"

    assert refused(lambda: verify(appended, METER.public_key)) == OCMFRule.KEY_INSIDE_RECORD
    assert refused(lambda: verify(inside, METER.public_key)) == OCMFRule.KEY_INSIDE_RECORD
    signed = forger.record(1, value("B", "1.000", 0), publicKey=forger.public_key)
    assert refused(lambda: verify(signed, forger.public_key)) == OCMFRule.KEY_INSIDE_RECORD


@pytest.mark.parametrize("status", ["N", "T", "D", "R", "M", "X", "I", "O", "S", "E", "F", "?"])
def test_a_value_that_the_meter_does_not_vouch_for_is_refused(status: str) -> None:
    record = METER.record(1, value("B", "1.000", 0, ST=status))

    assert refused(lambda: verify(record, METER.public_key)) == OCMFRule.METER_STATUS


@pytest.mark.parametrize("flags", ["E", "t", "Et"])
def test_a_value_with_an_error_flag_is_refused(flags: str) -> None:
    record = METER.record(1, value("B", "1.000", 0, EF=flags))

    assert refused(lambda: verify(record, METER.public_key)) == OCMFRule.ERROR_FLAG


def test_a_value_after_an_exception_is_refused() -> None:
    record = METER.record(1, value("X", "1.000", 0))

    assert refused(lambda: verify(record, METER.public_key)) == OCMFRule.READING_CONTEXT


def test_a_unit_that_changes_is_refused() -> None:
    records = [METER.record(1, value("B", "1.000", 0)), METER.record(2, value("E", "2500", 30, RU="Wh"))]

    assert refused(lambda: check(records, begin=1_000, end=2_500)) == OCMFRule.UNIT
    mixed = METER.record(1, value("B", "1.000", 0), value("E", "2500", 30, RU="Wh"))
    assert refused(lambda: verify(mixed, METER.public_key)) == OCMFRule.UNIT
    assert refused(lambda: verify(METER.record(1, value("B", "1", 0, RU="mOhm")), METER.public_key)) == OCMFRule.UNIT


def test_duplicate_keys_are_refused_even_when_signed() -> None:
    payload = charge()[0].split("|")[1].replace('"RV":1234.500', '"RV":1234.500,"RV":0.001')

    assert refused(lambda: verify(METER.sign(payload), METER.public_key)) == OCMFRule.DUPLICATE_KEY


@pytest.mark.parametrize("number", ["1e3", "NaN", "Infinity", "1E400", "-Infinity"])
def test_number_text_is_plain(number: str) -> None:
    record = METER.record(1, value("B", number, 0))

    assert refused(lambda: verify(record, METER.public_key)) == OCMFRule.NUMBER_TEXT


def test_a_reformatted_number_breaks_the_signature() -> None:
    record = charge()[0].replace("1234.500", "1234.50")

    assert refused(lambda: verify(record, METER.public_key)) == OCMFRule.SIGNATURE


def test_a_page_gap_is_refused() -> None:
    records = charge()

    assert refused(lambda: check([records[0], records[2]])) == OCMFRule.PAGINATION


def test_pages_of_another_context_are_refused() -> None:
    record = METER.record(1, value("B", "1.000", 0), value("E", "2.500", 30), PG="F1")

    assert refused(lambda: check([record], begin=1_000, end=2_500)) == OCMFRule.PAGINATION
    assert (
        refused(lambda: verify(METER.record(1, value("B", "1", 0), PG="T01"), METER.public_key)) == OCMFRule.PAGINATION
    )


def test_begin_and_end_of_two_meters_are_refused() -> None:
    other = Meter(serial="EM2")
    other.key = METER.key
    records = [METER.record(1, value("B", "1.000", 0)), other.record(2, value("E", "2.500", 30))]

    assert refused(lambda: check(records, begin=1_000, end=2_500)) == OCMFRule.ONE_METER


def test_two_registers_of_one_meter_are_refused() -> None:
    records = [METER.record(1, value("B", "1", 0)), METER.record(2, value("E", "2.5", 30, RI="01-00:B1.08.00"))]

    assert refused(lambda: check(records, begin=1_000, end=2_500)) == OCMFRule.ONE_METER


def test_a_register_that_falls_is_refused() -> None:
    records = [METER.record(1, value("B", "3.000", 0)), METER.record(2, value("E", "2.500", 30))]

    assert refused(lambda: check(records, begin=3_000, end=2_500)) == OCMFRule.REGISTER_RISES


def test_a_time_that_falls_is_refused() -> None:
    records = [METER.record(1, value("B", "1.000", 30)), METER.record(2, value("E", "2.500", 0))]

    assert refused(lambda: check(records, begin=1_000, end=2_500)) == OCMFRule.TIME_RISES


@pytest.mark.parametrize(("begin", "end"), [(1_234_501, 1_240_125), (1_234_500, 1_240_126), (1_234_500, 12_401_250)])
def test_signed_values_that_ocpp_did_not_report_are_refused(begin: int, end: int) -> None:
    assert refused(lambda: check(charge(), begin=begin, end=end)) == OCMFRule.REGISTER_MATCHES


@pytest.mark.parametrize("missing", [0, 2])
def test_a_charge_needs_its_begin_and_its_end(missing: int) -> None:
    records = [record for place, record in enumerate(charge()) if place != missing]

    assert refused(lambda: check(records)) == OCMFRule.BEGIN_AND_END
    assert refused(lambda: check([])) == OCMFRule.BEGIN_AND_END


@pytest.mark.parametrize(
    "text",
    [
        "",
        "OCMF",
        "OCMF|{}",
        "OCMF|{}|{}",
        "ocmf|{}|{}",
        "OCMF|[]|{}",
        "OCMF|" + "[" * 9_000 + "|{}",
        "OCMF|{}|x",
        "x" * 30_000,
    ],
)
def test_what_is_no_record_is_refused(text: str) -> None:
    refused(lambda: verify(text, METER.public_key))


def test_signature_text_has_one_form_per_encoding_so_a_record_can_not_be_dressed_up() -> None:
    body, _, tail = charge()[0].rpartition("|")
    signature = json.loads(tail)
    spaced = f"{body}|{json.dumps({**signature, 'SD': ' ' + signature['SD']})}"

    assert refused(lambda: verify(spaced, METER.public_key)) == OCMFRule.SIGNATURE
    upper = f"{body}|{json.dumps({**signature, 'SD': signature['SD'].upper()})}"
    assert (
        verify(upper, METER.public_key).payload_sha256 == verify(charge_of(body, tail), METER.public_key).payload_sha256
    )


def charge_of(body: str, tail: str) -> str:
    return f"{body}|{tail}"


def test_each_signature_of_a_charge_is_verified_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def counted(record: str, public_key_hex: str) -> VerifiedOCMF:
        asked.append(record)
        return verify(record, public_key_hex)

    monkeypatch.setattr("emobility.protocols.ocmf.charge.verify", counted)

    records = charge()
    verify_charge_alone(records, public_key_hex=METER.public_key)

    assert asked == list(records)


def test_a_masked_copy_hides_the_driver_and_keeps_every_number() -> None:
    record = charge()[0]

    masked = mask(record)

    assert "04A1B2C3" not in masked
    assert '"RV":1234.500' in masked
    assert refused(lambda: verify(masked, METER.public_key)) == OCMFRule.MALFORMED


@pytest.mark.parametrize("identification", ['04"A1|"', "\\", "é\u2028", "x" * 200])
def test_masking_hides_any_identification_or_refuses(identification: str) -> None:
    record = METER.record(1, value("B", "1.000", 0), ID=identification)

    try:
        shown = mask(record)
    except OCMFRefused:
        return
    assert json.loads(shown.removeprefix("OCMF-MASKED|"))["ID"] == "***"
