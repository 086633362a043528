from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobility.domain.batch.leaf import LeafKind, cdr_key_of, leaf_of
from emobility.domain.cdr import credit_of
from emobility.domain.identifiers import PartyId
from emobility.domain.money import Price
from tests.domain.test_cdr import ORIGINAL

SECRET = bytes(range(32))
COMMITMENT = b"\x05" * 32
METER = b"\x06" * 32


def test_a_cdr_key_is_a_keyed_hash_of_party_and_id() -> None:
    expected = hmac.new(SECRET, b"NLTUL/CDR-1", hashlib.sha256).digest()

    assert cdr_key_of(PartyId("NL-TUL"), "CDR-1", pair_secret=SECRET) == expected


def test_another_secret_party_or_id_gives_another_key() -> None:
    keys = {
        cdr_key_of(PartyId(party), cdr_id, pair_secret=secret)
        for party in ("NL-TUL", "NL-TUX")
        for cdr_id in ("1", "2")
        for secret in (SECRET, bytes(32))
    }

    assert len(keys) == 8


def test_a_pair_secret_has_its_length() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        cdr_key_of(PartyId("NL-TUL"), "1", pair_secret=b"short")


@given(cost_e4=st.integers(-(10**10), 10**10))
def test_a_credit_is_the_exact_mirror_of_its_original(cost_e4: int) -> None:
    original = replace(ORIGINAL, total_cost=Price(excl_e4=cost_e4), total_energy_export_wh=7)
    credit = credit_of(original, cdr_id="CREDIT", issued_at=original.issued_at, remark="")

    charged = leaf_of(original, pair_secret=SECRET, commitment=COMMITMENT, meter=METER)
    credited = leaf_of(credit, pair_secret=SECRET, commitment=COMMITMENT, meter=METER)

    assert (charged.kind, credited.kind) == (LeafKind.CHARGE, LeafKind.CREDIT)
    assert (charged.due_e4, charged.credit_e4) == (credited.credit_e4, credited.due_e4)
    assert charged.net_e4 == cost_e4 == -credited.net_e4
    assert (charged.import_wh, charged.export_wh) == (credited.import_wh, credited.export_wh)
    assert charged.cdr_key != credited.cdr_key
    assert (charged.meter, credited.meter) == (METER, charged.cdr_key)
