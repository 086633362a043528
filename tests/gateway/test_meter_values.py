"""Sampled values of both versions become whole Wh, W and percent, or say what is wrong with them."""

from __future__ import annotations

import base64
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from charge_point_gateway.message import PersonalText, moment
from charge_point_gateway.meter_values import KEPT, Sample, readings_of, signed_record_of, signed_texts
from charge_point_gateway.ocpp16 import meter_samples as samples_16
from charge_point_gateway.ocpp201 import meter_samples as samples_201
from emobility.domain.meter import MeterReading, ReadingContext
from emobility.domain.personal import Sealed

AT = "2022-03-27T01:00:00Z"
OCMF = 'OCMF|{"FV":"1.0"}|{"SD":"00"}'
PHASES = ("L1", "L2", "L3")


def read(samples: Any) -> tuple[MeterReading, ...]:
    sealed = {text: Sealed(subject=text.identifier, box=text.text.encode()) for text in signed_texts(samples, "tx")}
    return readings_of(samples, sealed, "tx")


def read_16(*sampled: dict[str, Any]) -> tuple[MeterReading, ...]:
    return read(samples_16.samples_of([{"timestamp": AT, "sampledValue": sampled}]))


def read_201(*sampled: dict[str, Any]) -> tuple[MeterReading, ...]:
    return read(samples_201.samples_of([{"timestamp": AT, "sampledValue": sampled}]))


@pytest.mark.parametrize(
    ("sampled", "field", "value"),
    [
        ({"value": "1234"}, "import_wh", 1_234),
        ({"value": " 1234.5 "}, "import_wh", 1_234),
        ({"value": "1.2345", "unit": "kWh"}, "import_wh", 1_234),
        ({"value": "1e3"}, "import_wh", 1_000),
        ({"value": "7", "measurand": "Energy.Active.Export.Register"}, "export_wh", 7),
        ({"value": "7.4", "measurand": "Power.Active.Import", "unit": "kW"}, "power_w", 7_400),
        ({"value": "-3", "measurand": "Power.Active.Import", "unit": "W"}, "power_w", 0),
        ({"value": "80", "measurand": "SoC", "unit": "Percent", "location": "EV"}, "soc_percent", 80),
    ],
)
def test_a_1_6_value_is_read_in_its_unit(sampled: dict[str, Any], field: str, value: int) -> None:
    [reading] = read_16(sampled)

    assert getattr(reading, field) == value
    assert reading.fault is None


@pytest.mark.parametrize(
    ("sampled", "wh"),
    [
        ({"value": Decimal("1.5"), "unitOfMeasure": {"unit": "kWh"}}, 1_500),
        ({"value": Decimal("1.5"), "unitOfMeasure": {"multiplier": 3}}, 1_500),
        ({"value": 15, "unitOfMeasure": {"unit": "kWh", "multiplier": -1}}, 1_500),
        ({"value": 15}, 15),
        ({"value": 15, "unitOfMeasure": {}}, 15),
    ],
)
def test_a_2_0_1_value_is_read_in_its_unit_and_multiplier(sampled: dict[str, Any], wh: int) -> None:
    assert read_201(sampled)[0].import_wh == wh


@pytest.mark.parametrize(
    "text", ["NaN", "Infinity", "-Infinity", "1e400", "1e16", "abc", "", "1_000", "1,5", "٣", "0x10", "-5", "1" * 30]
)
def test_a_1_6_value_that_is_no_register_is_kept_with_its_fault(text: str) -> None:
    [reading] = read_16({"value": text})

    assert reading.import_wh is None
    assert reading.fault is not None
    assert len(reading.fault) <= 200


@pytest.mark.parametrize(
    "sampled",
    [
        {"value": 1, "unitOfMeasure": {"unit": "varh"}},
        {"value": 1, "unitOfMeasure": {"multiplier": 400}},
        {"value": 1, "unitOfMeasure": {"multiplier": -400}},
        {"value": Decimal("1e300")},
        {"value": 101, "measurand": "SoC"},
        {"value": -1, "measurand": "SoC"},
        {"value": 10**12, "measurand": "Power.Active.Import"},
    ],
)
def test_a_2_0_1_value_that_breaks_a_rule_is_kept_with_its_fault(sampled: dict[str, Any]) -> None:
    [reading] = read_201(sampled)

    assert reading.fault is not None
    assert (reading.import_wh, reading.soc_percent, reading.power_w) == (None, None, None)


def test_a_fault_of_one_value_leaves_the_others_readable() -> None:
    [reading] = read_16({"value": "NaN"}, {"value": "11", "measurand": "Power.Active.Import", "unit": "kW"})

    assert reading.power_w == 11_000
    assert reading.fault is not None


def test_two_values_of_one_register_at_one_moment_are_a_fault() -> None:
    [reading] = read_16({"value": "1"}, {"value": "2"})

    assert "two values" in (reading.fault or "")


@given(parts=st.lists(st.decimals(0, 10**6, places=3), min_size=1, max_size=3))
def test_phases_add_up_before_they_are_rounded(parts: list[Decimal]) -> None:
    [reading] = read_16(*({"value": str(part), "phase": phase} for part, phase in zip(parts, PHASES, strict=False)))

    assert reading.import_wh is not None
    assert abs(Decimal(reading.import_wh) - sum(parts, Decimal(0))) <= Decimal("0.5")


@given(total=st.integers(0, 10**9), parts=st.lists(st.integers(0, 10**9), max_size=3))
def test_the_stations_own_total_wins_over_its_phases(total: int, parts: list[int]) -> None:
    phased = [{"value": str(part), "phase": phase} for part, phase in zip(parts, PHASES, strict=False)]

    assert read_16(*phased, {"value": str(total)})[0].import_wh == total
    assert read_16({"value": str(total)}, *phased)[0].import_wh == total


def test_neutral_and_line_to_line_values_count_for_nothing() -> None:
    assert read_16({"value": "5", "phase": "N"}, {"value": "5", "phase": "L1-L2"}) == ()


def test_only_the_outlet_is_what_the_driver_gets() -> None:
    [reading] = read_16({"value": "5", "location": "Inlet"}, {"value": "7"})

    assert reading.import_wh == 7


def test_what_no_money_hangs_on_makes_no_reading() -> None:
    assert read_16({"value": "230", "measurand": "Voltage", "unit": "V"}) == ()


def test_each_context_is_a_reading_of_its_own() -> None:
    begin, end = read_16({"value": "1", "context": "Transaction.Begin"}, {"value": "2", "context": "Transaction.End"})

    assert (begin.context, begin.import_wh) == (ReadingContext.TRANSACTION_BEGIN, 1)
    assert (end.context, end.import_wh) == (ReadingContext.TRANSACTION_END, 2)


@pytest.mark.parametrize(
    "text",
    [OCMF, f"  {OCMF}\n", OCMF.encode().hex(), OCMF.encode().hex().upper(), base64.b64encode(OCMF.encode()).decode()],
)
def test_a_signed_record_is_kept_as_the_meter_wrote_it(text: str) -> None:
    assert signed_record_of(text) == OCMF


@pytest.mark.parametrize("text", ["<xml/>", "AAECAw==", "zz", ""])
def test_a_signed_record_of_another_format_is_kept_as_it_came(text: str) -> None:
    assert signed_record_of(text) == text


def test_a_1_6_signed_value_comes_beside_the_plain_one() -> None:
    [reading] = read_16({"value": "9"}, {"value": OCMF, "format": "SignedData"})

    assert reading.import_wh == 9
    assert reading.signed_record == Sealed(subject="tx", box=OCMF.encode())


def signed(encoding: str, data: str) -> dict[str, Any]:
    record = {"signedMeterData": data, "signingMethod": "", "encodingMethod": encoding, "publicKey": ""}
    return {"value": 9, "signedMeterValue": record}


def test_a_2_0_1_signed_value_is_taken_out_of_its_base64() -> None:
    [reading] = read_201(signed("OCMF", base64.b64encode(OCMF.encode()).decode()))

    assert reading.signed_record == Sealed(subject="tx", box=OCMF.encode())
    assert reading.fault is None


def test_ocmf_that_is_none_is_a_fault_and_kept() -> None:
    [reading] = read_201(signed("OCMF", "broken"))

    assert reading.signed_record == Sealed(subject="tx", box=b"broken")
    assert "OCMF" in (reading.fault or "")


def test_a_signed_value_of_a_measurand_nobody_keeps_is_still_kept() -> None:
    [reading] = read_201({**signed("OCMF", OCMF), "measurand": "Voltage"})

    assert reading.signed_record is not None


def test_no_second_signed_record_of_a_moment_is_lost() -> None:
    first, second = read_16({"value": OCMF, "format": "SignedData"}, {"value": OCMF + "x", "format": "SignedData"})

    assert (first.signed_record, second.signed_record) == (
        Sealed(subject="tx", box=OCMF.encode()),
        Sealed(subject="tx", box=f"{OCMF}x".encode()),
    )


def test_a_record_whose_subject_was_erased_is_not_written_again() -> None:
    samples = samples_16.samples_of(
        [{"timestamp": AT, "sampledValue": [{"value": "9"}, {"value": OCMF, "format": "SignedData"}]}]
    )

    [reading] = readings_of(samples, {}, "tx")

    assert (reading.import_wh, reading.signed_record) == (9, None)
    assert signed_texts(samples, "tx") == (PersonalText(OCMF, "tx"),)


SAMPLES = st.lists(
    st.builds(
        Sample,
        at=st.sampled_from([moment(AT), moment("2022-03-27T01:00:01Z")]),
        context=st.sampled_from([ReadingContext.SAMPLE_PERIODIC, ReadingContext.TRANSACTION_BEGIN]),
        measurand=st.sampled_from([*KEPT, "Voltage"]),
        number=st.none() | st.sampled_from(["7", "x", 7, 10**16, Decimal("7.5")]),
        unit=st.sampled_from([None, "Wh", "kW"]),
        phase=st.sampled_from([None, "L1", "L2-N", "N"]),
        signed=st.sampled_from([None, OCMF]),
    ),
    max_size=8,
)


@given(samples=SAMPLES)
def test_samples_of_equal_moments_come_together_whether_or_not_they_share_one_object(samples: list[Sample]) -> None:
    apart = [replace(sample, at=datetime.fromisoformat(sample.at.isoformat())) for sample in samples]

    assert read(samples) == read(apart)


@given(samples=SAMPLES)
def test_no_sample_is_gathered_into_another_moment_or_context(samples: list[Sample]) -> None:
    keys = dict.fromkeys((sample.at, sample.context) for sample in samples)
    by_key = [[sample for sample in samples if (sample.at, sample.context) == key] for key in keys]

    assert read(samples) == tuple(reading for group in by_key for reading in read(group))


def test_a_state_of_charge_by_phase_adds_up_to_nothing() -> None:
    assert read_16(*({"value": "40", "measurand": "SoC", "phase": phase} for phase in ("L1", "L2"))) == ()
