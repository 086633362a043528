"""A leaf commits to the signed records of a charge as a contract can judge them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from emobility.domain.batch.hashing import keccak256
from emobility.domain.batch.meter import (
    MalformedMeterRecord,
    MeterCurve,
    MeterRecord,
    SignedPayload,
    meter_commitment,
)
from emobility.protocols.ocmf.committing import meter_record
from emobility.protocols.ocmf.record import payload_of
from emobility.protocols.ocmf.refusals import OCMFRefused
from tests.ocmf.meter import Meter, value

SALT = bytes(range(32))
PAYLOADS = st.lists(
    st.builds(SignedPayload, payload=st.binary(max_size=40), signature=st.binary(max_size=70)), min_size=1, max_size=3
)
RECORDS = st.builds(
    MeterRecord, curve=st.sampled_from(MeterCurve), public_key=st.binary(max_size=90), signed=PAYLOADS.map(tuple)
)


@pytest.mark.parametrize(
    ("curve", "code"), [(ec.SECP256R1(), MeterCurve.SECP256R1), (ec.SECP256K1(), MeterCurve.SECP256K1)]
)
def test_keys_and_signatures_that_a_contract_checks_are_plain_numbers(
    curve: ec.EllipticCurve, code: MeterCurve
) -> None:
    meter = Meter(curve)
    texts = [meter.record(1, value("B", "1.000", 0)), meter.record(2, value("E", "3.500", 9))]

    record = meter_record(texts, public_key=meter.public_key)

    point = meter.key.public_key().public_numbers()
    assert (record.curve, record.public_key) == (code, point.x.to_bytes(32, "big") + point.y.to_bytes(32, "big"))
    assert [each.payload.decode() for each in record.signed] == list(map(payload_of, texts))
    assert [len(each.signature) for each in record.signed] == [64, 64]


def test_of_other_curves_key_and_signature_stay_as_they_came() -> None:
    meter = Meter(ec.BrainpoolP384R1())

    record = meter_record([meter.record(1, value("B", "1.000", 0))], public_key=meter.public_key)

    assert (record.curve, record.public_key.hex()) == (MeterCurve.OTHER, meter.public_key)
    assert record.signed[0].signature[0] == 0x30


def test_what_is_no_signature_stays_as_it_is() -> None:
    record = meter_record(['OCMF|{}|{"SD":"0011"}'], public_key=Meter().public_key)

    assert record.signed[0].signature == b"\x00\x11"


def test_a_key_that_is_not_hex_is_refused() -> None:
    with pytest.raises(OCMFRefused):
        meter_record(['OCMF|{}|{"SD":"00"}'], public_key="no key")


def test_the_bytes_are_those_that_the_document_states() -> None:
    record = MeterRecord(
        curve=MeterCurve.SECP256K1, public_key=b"key", signed=(SignedPayload(payload=b"{}", signature=b"sign"),)
    )

    packed = b"\x02\x03key" + b"\x00\x00\x00\x02{}\x04sign"

    assert record.packed == packed
    assert meter_commitment(record, salt=SALT) == keccak256(b"\x03" + SALT + packed)


@given(one=RECORDS, other=RECORDS)
def test_no_two_records_are_written_alike(one: MeterRecord, other: MeterRecord) -> None:
    assert (one.packed == other.packed) == (one == other)


def test_a_record_has_a_payload_and_no_part_that_its_length_can_not_tell() -> None:
    record = MeterRecord(curve=MeterCurve.OTHER, public_key=b"", signed=())
    for malformed in (
        record,
        replace(record, public_key=bytes(256), signed=(SignedPayload(payload=b"", signature=b""),)),
    ):
        with pytest.raises(MalformedMeterRecord):
            _ = malformed.packed
