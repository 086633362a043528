"""One row per reason for which signed records are not believed, on all curves and in all forms that meters write."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from emobility.protocols.ocmf import OCMFRefused, mask, meter_key, verify, verify_charge, verify_charge_alone
from emobility.protocols.ocmf.refusals import OCMFRule
from emobility.protocols.ocmf.secp192k1 import KoblitzCurve
from emobility.protocols.ocmf.showing import shown_wh
from emobility.protocols.ocmf.signature import CURVES
from tests.ocmf.meter import Meter, meters, value
from tests.ocmf.tampering import BEGIN_WH, END_WH, charge, tamper

METER, OTHER = Meter(), Meter()
BEGIN, END = METER.record(1, value("B", "1.000", 0)), METER.record(2, value("E", "2.500", 30))


@dataclass(frozen=True, kw_only=True)
class Refused:
    """Records that are not believed, and by which rule."""

    name: str
    rule: OCMFRule
    records: tuple[str, ...]
    key: str = METER.public_key
    wh: tuple[int, int] = (1_000, 2_500)


def end(**changes: object) -> str:
    return METER.record(2, value("E", "2.500", 30, **changes))


def twice(name: str, written: str, more: str) -> str:
    payload = END.split("|")[1]
    assert written in payload, name
    return METER.sign(payload.replace(written, f"{written},{more}"))


def with_signature(record: str, **changes: str) -> str:
    body, _, tail = record.rpartition("|")
    return f"{body}|{json.dumps({**json.loads(tail), **changes})}"


def lent(serial: str | None = None, gateway: str | None = None) -> str:
    """An end signed by the same key in the name of another meter or gateway."""
    changes = {"MS": serial} if serial else {"GS": gateway}
    return METER.record(2, value("E", "2.500", 30), **changes)


TABLE = (
    Refused(name="a digit changed", rule=OCMFRule.SIGNATURE, records=(BEGIN, END.replace("2.500", "2.600"))),
    Refused(name="number text reformatted", rule=OCMFRule.SIGNATURE, records=(BEGIN, END.replace("2.500", "2.5"))),
    Refused(name="another meter's key", rule=OCMFRule.SIGNATURE, records=(BEGIN, END), key=OTHER.public_key),
    Refused(
        name="begin and end under two keys",
        rule=OCMFRule.SIGNATURE,
        records=(BEGIN, OTHER.record(2, value("E", "2.500", 30))),
    ),
    Refused(
        name="a method that is not the key's curve",
        rule=OCMFRule.SIGNATURE,
        records=(BEGIN, with_signature(END, SA="ECDSA-secp256k1-SHA256")),
    ),
    Refused(
        name="a method that is none of OCMF",
        rule=OCMFRule.SIGNATURE,
        records=(BEGIN, with_signature(END, SA="ECDSA-secp256r1-SHA1")),
    ),
    Refused(name="a signature that is no hex", rule=OCMFRule.SIGNATURE, records=(BEGIN, with_signature(END, SD="x"))),
    Refused(name="a key that is none", rule=OCMFRule.PUBLIC_KEY, records=(BEGIN, END), key="04" * 65),
    Refused(
        name="a key appended to the record",
        rule=OCMFRule.KEY_INSIDE_RECORD,
        records=(BEGIN, f"{END}|{METER.public_key}"),
    ),
    Refused(
        name="a key beside the signature",
        rule=OCMFRule.KEY_INSIDE_RECORD,
        records=(BEGIN, with_signature(END, PK=METER.public_key)),
    ),
    Refused(
        name="a key in the payload",
        rule=OCMFRule.KEY_INSIDE_RECORD,
        records=(BEGIN, METER.record(2, value("E", "2.500", 30), publicKey=METER.public_key)),
    ),
    Refused(
        name="a page is missing",
        rule=OCMFRule.PAGINATION,
        records=(BEGIN, METER.record(3, value("E", "2.500", 30))),
    ),
    Refused(
        name="a page number twice",
        rule=OCMFRule.PAGINATION,
        records=(BEGIN, METER.record(1, value("E", "2.500", 30))),
    ),
    Refused(
        name="pages of no transaction",
        rule=OCMFRule.PAGINATION,
        records=(BEGIN, METER.record(2, value("E", "2.500", 30), PG="F2")),
    ),
    Refused(
        name="a page number with zeros before it",
        rule=OCMFRule.PAGINATION,
        records=(BEGIN, METER.record(2, value("E", "2.500", 30), PG="T02")),
    ),
    Refused(name="status not good", rule=OCMFRule.METER_STATUS, records=(BEGIN, end(ST="E"))),
    Refused(name="error flag of the energy", rule=OCMFRule.ERROR_FLAG, records=(BEGIN, end(EF="E"))),
    Refused(name="error flag of the time", rule=OCMFRule.ERROR_FLAG, records=(BEGIN, end(EF="t"))),
    Refused(
        name="a flag inherited from the reading before",
        rule=OCMFRule.ERROR_FLAG,
        records=(
            METER.record(
                1,
                value("B", "1.000", 0, EF="E"),
                {"TM": "2022-03-27T10:30:00,000+0200 S", "TX": "E", "RV": "2.500#"},
            ),
        ),
    ),
    Refused(
        name="a value after an exception",
        rule=OCMFRule.READING_CONTEXT,
        records=(BEGIN, METER.record(2, value("X", "2.500", 30))),
    ),
    Refused(
        name="units swapped in mid-charge",
        rule=OCMFRule.UNIT,
        records=(BEGIN, METER.record(2, value("E", "2500", 30, RU="Wh"))),
    ),
    Refused(
        name="units swapped in one record",
        rule=OCMFRule.UNIT,
        records=(METER.record(1, value("B", "1.000", 0), value("E", "2500", 30, RU="Wh")),),
    ),
    Refused(name="a unit that is no energy", rule=OCMFRule.UNIT, records=(BEGIN, end(RU="mOhm"))),
    Refused(
        name="a register that fell",
        rule=OCMFRule.REGISTER_RISES,
        records=(BEGIN, METER.record(2, value("C", "3.000", 10)), METER.record(3, value("E", "2.500", 30))),
    ),
    Refused(
        name="a time that fell",
        rule=OCMFRule.TIME_RISES,
        records=(METER.record(1, value("B", "1.000", 40)), END),
    ),
    Refused(name="another meter's end", rule=OCMFRule.ONE_METER, records=(BEGIN, lent(serial="EM2"))),
    Refused(name="another gateway's end", rule=OCMFRule.ONE_METER, records=(BEGIN, lent(gateway="GW8"))),
    Refused(name="another register's end", rule=OCMFRule.ONE_METER, records=(BEGIN, end(RI="01-00:B1.08.00"))),
    Refused(
        name="no meter and no gateway named",
        rule=OCMFRule.ONE_METER,
        records=(METER.record(1, value("B", "1.000", 0), value("E", "2.500", 30), GS="", MS=""),),
    ),
    Refused(name="no begin", rule=OCMFRule.BEGIN_AND_END, records=(END,)),
    Refused(name="no end", rule=OCMFRule.BEGIN_AND_END, records=(BEGIN,)),
    Refused(
        name="two ends",
        rule=OCMFRule.BEGIN_AND_END,
        records=(BEGIN, END, METER.record(3, value("E", "2.600", 40))),
    ),
    Refused(
        name="a field twice",
        rule=OCMFRule.DUPLICATE_KEY,
        records=(BEGIN, twice("a field twice", '"RV":2.500', '"RV":9.500')),
    ),
    Refused(
        name="a number with an exponent",
        rule=OCMFRule.NUMBER_TEXT,
        records=(BEGIN, METER.record(2, value("E", "25e-1", 30))),
    ),
    Refused(name="a number text with an exponent", rule=OCMFRule.NUMBER_TEXT, records=(BEGIN, end(RV="25e-1 "))),
    Refused(name="a number text with a mark", rule=OCMFRule.NUMBER_TEXT, records=(BEGIN, end(RV="2_500 "))),
    Refused(
        name="values that OCPP did not report", rule=OCMFRule.REGISTER_MATCHES, records=(BEGIN, END), wh=(1_000, 2_501)
    ),
    Refused(name="no record", rule=OCMFRule.MALFORMED, records=(BEGIN, "OCMF|[]|{}")),
)
SEEN_ELSEWHERE = {OCMFRule.RECORD_REUSED: "needs rows: tests/operations and tests/mobility"}


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_each_reason_is_named(row: Refused) -> None:
    begin_wh, end_wh = row.wh

    with pytest.raises(OCMFRefused) as refusal:
        verify_charge(row.records, public_key_hex=row.key, begin_wh=begin_wh, end_wh=end_wh)

    assert refusal.value.rule is row.rule


def test_no_reason_is_without_a_row() -> None:
    assert {row.rule for row in TABLE} | set(SEEN_ELSEWHERE) == set(OCMFRule)


@pytest.mark.parametrize("meter", meters(), ids=lambda meter: meter.curve_name)
def test_each_curve_is_verified_in_hex_and_in_base64(meter: Meter) -> None:
    for encoding in ("hex", "base64"):
        meter.encoding = encoding
        verified = verify_charge(charge(meter), public_key_hex=meter.public_key, begin_wh=BEGIN_WH, end_wh=END_WH)
        assert verified.energy_wh == END_WH - BEGIN_WH


def test_all_curves_of_ocmf_are_known() -> None:
    assert {meter.curve_name for meter in meters()} == set(CURVES)


def test_no_one_digit_change_is_believed_on_any_curve() -> None:
    found = tamper(2_000, seed=43)

    assert found["ACCEPTED"] == 0
    assert sum(found.values()) == 2_000


@pytest.mark.parametrize("meter", meters(), ids=lambda meter: meter.curve_name)
def test_a_key_has_one_form_however_it_was_printed(meter: Meter) -> None:
    der = bytes.fromhex(meter.public_key)
    point = der[der.index(b"\x00\x04") + 1 :]
    digits = der.hex().upper()
    forms = [
        der.hex(),
        digits,
        " ".join(digits[place : place + 4] for place in range(0, len(digits), 4)),
        base64.b64encode(der).decode(),
        f"-----BEGIN PUBLIC KEY-----\n{base64.encodebytes(der).decode()}-----END PUBLIC KEY-----\n",
        point.hex(),
        base64.b64encode(point).decode(),
        point[1:].hex().upper(),
    ]

    assert {meter_key(form) for form in forms} == {meter.public_key}


@pytest.mark.parametrize("text", ["", "zz", "00", "04" + "11" * 64, "3059" + "00" * 87, "A" * 2_000])
def test_what_is_no_key_is_refused_when_it_is_entered(text: str) -> None:
    with pytest.raises(OCMFRefused) as refusal:
        meter_key(text)

    assert refusal.value.rule is OCMFRule.PUBLIC_KEY


def test_a_signature_may_be_its_two_numbers_one_after_the_other() -> None:
    payload = END.split("|")[1]
    r, s = decode_dss_signature(METER.signature_of(payload.encode()))
    bare = f"OCMF|{payload}|{json.dumps({'SD': f'{r:064x}{s:064x}'})}"

    assert verify(bare, METER.public_key).page == 2
    wrong = f"OCMF|{payload}|{json.dumps({'SD': f'{r:064x}{s + 1:064x}'})}"
    with pytest.raises(OCMFRefused):
        verify(wrong, METER.public_key)


def test_base64_has_one_form_so_that_a_changed_letter_is_seen() -> None:
    meter = Meter(encoding="base64")
    record = meter.record(1, value("B", "1.000", 0))
    while '="' not in record:
        record = meter.record(1, value("B", "1.000", 0))
    place = record.index("=") - 1
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = letters[letters.index(record[place]) ^ 1]
    dressed = f"{record[:place]}{other}{record[place + 1 :]}"

    with pytest.raises(OCMFRefused) as refusal:
        verify(dressed, meter.public_key)

    assert refusal.value.rule is OCMFRule.SIGNATURE


def test_our_own_curve_arithmetic_agrees_with_openssl_where_both_know_the_curve() -> None:
    """The same code with the numbers of secp256k1 must say what OpenSSL says."""
    ours = KoblitzCurve(
        size=32,
        prime=2**256 - 2**32 - 977,
        b=7,
        generator=(
            0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
            0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
        ),
        order=0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141,
    )
    for number in range(20):
        key = ec.generate_private_key(ec.SECP256K1())
        numbers = key.public_key().public_numbers()
        data = str(number).encode()
        r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
        public = (numbers.x, numbers.y)

        assert ours.is_signed(data, r, s, public=public)
        assert not ours.is_signed(data + b".", r, s, public=public)
        assert not ours.is_signed(data, r, s ^ 1, public=public)
        assert not ours.is_signed(data, 0, s, public=public)


@pytest.mark.parametrize(
    ("begin", "finish", "is_measured"),
    [
        ("S", "S", True),
        ("S", "R", True),
        ("I", "R", True),
        ("U", "S", False),
        ("S", "U", False),
        ("I", "I", False),
        ("S", "I", False),
        ("I", "S", False),
        ("U", "R", False),
        ("S", "?", False),
    ],
)
def test_time_counts_only_where_the_meter_vouches_for_it(begin: str, finish: str, is_measured: object) -> None:
    records = [
        METER.record(1, value("B", "1.000", 0, TM=f"2022-03-27T10:00:00,000+0200 {begin}")),
        METER.record(2, value("E", "2.500", 30, TM=f"2022-03-27T10:30:00,000+0200 {finish}")),
    ]

    charged = verify_charge(records, public_key_hex=METER.public_key, begin_wh=1_000, end_wh=2_500)

    assert charged.is_time_measured is is_measured


REAL_FORMS: tuple[tuple[str, Callable[[], str]], ...] = (
    (
        "fields inherited from the reading before",
        lambda: METER.record(
            1, value("B", "1.000", 0), {"TM": "2022-03-27T10:30:00,000+0200 S", "TX": "E", "RV": "2.500#"}
        ),
    ),
    (
        "the register as text filled with spaces",
        lambda: METER.record(
            1, value("B", "1.000", 0, RV="       1.000 ".rstrip()), value("E", "2.500", 30, RV="       2.500")
        ),
    ),
    (
        "the register as text filled with zeros",
        lambda: METER.record(
            1, value("B", "1.000", 0, RV=" 00000001.000"), value("E", "2.500", 30, RV=" 00000002.500")
        ),
    ),
    (
        "seconds beside the energy",
        lambda: METER.record(
            1, value("B", "1.000", 0), value("E", "2.500", 30), value("E", "1800", 30, RI="01-00:00.08.06.FF", RU="sec")
        ),
    ),
    (
        "what was fed in beside what was drawn",
        lambda: METER.record(
            1,
            value("B", "0.200", 0, RI="01-00:C0.08.00"),
            value("B", "1.000", 0),
            value("E", "2.500", 30),
            value("E", "9.000", 30, RI="01-00:C0.08.00"),
        ),
    ),
    ("whole Wh", lambda: METER.record(1, value("B", "1000", 0, RU="Wh"), value("E", "2500", 30, RU="Wh"))),
    ("more decimals than whole Wh have", lambda: METER.record(1, value("B", "1.00004", 0), value("E", "2.49961", 30))),
    ("no gateway", lambda: METER.record(1, value("B", "1.000", 0), value("E", "2.500", 30), GS="")),
    ("spaces around", lambda: f"\n  {METER.record(1, value('B', '1.000', 0), value('E', '2.500', 30))}\n"),
)


@pytest.mark.parametrize("written", [each[1] for each in REAL_FORMS], ids=[each[0] for each in REAL_FORMS])
def test_what_meters_in_the_field_write_is_read(written: Callable[[], str]) -> None:
    record = written()

    charged = verify_charge([record], public_key_hex=METER.public_key, begin_wh=1_000, end_wh=2_500)

    assert charged.energy_wh == 1_500
    assert verify_charge_alone([record], public_key_hex=METER.public_key) == charged
    assert shown_wh([mask(record)]) == 1_500
