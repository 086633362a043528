from __future__ import annotations

import json
import random
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from emobility.adapters.receipt_proofs import ReceiptProofs
from emobility.domain.batch.calls import BatchState, Proposal
from emobility.domain.batch.hashing import keccak256
from emobility.domain.batch.trees import Proof
from emobility.domain.identifiers import PartyId
from emobility.domain.receipt.checking import Check, Verdict, Verification, verify_receipt
from emobility.domain.receipt.document import EvidenceRecord, MeterShown, PlaceShown, Receipt, canonical, read
from emobility.domain.receipt.making import record_commitment
from emobility.domain.receipt.settled import ChainAnswers, chain_finding
from emobility.protocols.ocmf import OCMFRefused
from emobility.protocols.ocmf.showing import is_opened, meter_shown
from tests.domain.receipt.world import (
    CDR_,
    METER_SALT,
    NEIGHBOUR_E4,
    WHOLESALE_E4,
    Settled,
    a_credit,
    a_file,
    a_record,
    sealed,
)
from tests.ocmf.meter import Meter, value

PROOFS = ReceiptProofs()
CARD = "04A1B2C3"
GOLDEN = Path(__file__).parent / "golden" / "evidence_record.json"
METER = Meter()


def check(written: bytes) -> Verification:
    return verify_receipt(written, PROOFS)


def verdicts(verification: Verification) -> dict[Check, Verdict]:
    return {finding.check: finding.verdict for finding in verification.findings}


def refused(written: bytes) -> list[Check]:
    return [finding.check for finding in check(written).findings if finding.verdict is Verdict.REFUSED]


def records(**changes: Any) -> list[str]:
    return [
        METER.record(1, value("B", "100.000", 0), **changes),
        METER.record(2, value("E", "105.000", 50), **changes),
    ]


def shown(**changes: Any) -> MeterShown:
    return meter_shown(records(**changes), public_key=METER.public_key, salt=METER_SALT)


def with_meter(meter: MeterShown) -> bytes:
    return canonical(Settled(a_record(meter=meter)).receipt())


def changed_record(**changes: Any) -> bytes:
    """What a seller could have committed to and signed: a record that is wrong in itself."""
    return canonical(Settled(msgspec.structs.replace(a_record(), **changes)).receipt())


def test_a_true_receipt_is_accepted() -> None:
    verification = check(a_file())

    assert verification.is_accepted
    assert verdicts(verification) == {
        Check.FORM: Verdict.HOLDS,
        Check.SIGNATURE: Verdict.HOLDS,
        Check.QUOTE: Verdict.HOLDS,
        Check.PRICE: Verdict.HOLDS,
        Check.ENERGY: Verdict.HOLDS,
        Check.METER: Verdict.UNPROVEN,
        Check.STATEMENT: Verdict.HOLDS,
    }


def test_every_charge_of_a_statement_has_a_receipt_that_is_accepted() -> None:
    for neighbours in range(9):
        assert check(canonical(Settled(a_record(), neighbours=neighbours).receipt())).is_accepted


def test_a_credit_has_a_receipt_that_takes_the_bill_back() -> None:
    credit = a_credit()
    record = a_record(credit)

    verification = check(canonical(Settled(record, credit).receipt()))

    assert verification.is_accepted
    assert record.total_incl_e4 == -a_record().total_incl_e4


def test_any_single_bit_changed_in_any_byte_is_refused() -> None:
    written = bytearray(a_file())

    for place in range(len(written)):
        for bit in range(8):
            written[place] ^= 1 << bit
            assert not check(bytes(written)).is_accepted, (place, bit)
            written[place] ^= 1 << bit
    assert check(bytes(written)).is_accepted


def test_any_byte_left_out_or_put_in_is_refused() -> None:
    written, chance = a_file(), random.Random(7)

    for place in range(len(written) + 1):
        assert not check(written[:place] + chance.randbytes(1) + written[place:]).is_accepted
        assert not check(written[:place] + b" " + written[place:]).is_accepted
    for place in range(len(written)):
        assert not check(written[:place] + written[place + 1 :]).is_accepted


@pytest.mark.parametrize(
    "rewritten",
    [
        json.dumps(json.loads(a_file()), indent=1, sort_keys=True).encode(),
        json.dumps(dict(reversed(json.loads(a_file()).items())), separators=(",", ":")).encode(),
        a_file() + b"\n",
        a_file().replace(b'"form"', b'"\\u0066orm"'),
        a_file().replace(b'"charging_s":3600', b'"charging_s":3.6e3'),
        a_file().replace(b'"charging_s":3600', b'"charging_s":3600,"charging_s":3600'),
        a_file().replace(b"08:00:00Z", b"10:00:00+02:00"),
        a_file().replace(b'"driver_id"', b'"remark":"x","driver_id"'),
        b"",
        b"[]",
        b"[" * 100_000,
        b"x" * 2_000_000,
    ],
)
def test_the_same_written_in_another_way_is_refused(rewritten: bytes) -> None:
    assert refused(rewritten) in ([Check.FORM], [Check.SIGNATURE])


def test_capitals_in_a_signature_are_another_way_of_writing_it() -> None:
    receipt = read(a_file(), Receipt)
    assert receipt.signature is not None

    written = a_file().replace(receipt.signature.encode(), receipt.signature.upper().encode())

    assert refused(written) == [Check.FORM]


def test_an_unsigned_receipt_is_refused() -> None:
    assert refused(canonical(Settled(a_record()).unsigned())) == [Check.SIGNATURE]


def test_a_receipt_signed_by_another_key_is_refused() -> None:
    receipt = read(a_file(), Receipt)
    record = msgspec.structs.replace(receipt.record, seller_key="11" * 32)

    assert refused(canonical(sealed(msgspec.structs.replace(receipt, record=record)))) == [Check.SIGNATURE]


def test_a_receipt_shows_nothing_that_is_not_the_drivers() -> None:
    settled = Settled(a_record(meter=shown()))
    written = canonical(settled.receipt()).decode()
    amounts = (WHOLESALE_E4, NEIGHBOUR_E4, settled.statement.due_e4, settled.statement.figures)

    for secret in (CARD, "WHOLESALE-TARIFF", METER_SALT.hex()):
        assert secret not in written
    for amount in amounts:
        assert f"{amount}" not in written
        assert f"{amount:x}" not in written


@pytest.mark.parametrize(
    ("change", "check_refused"),
    [
        ({"total_incl_e4": 1}, Check.PRICE),
        ({"total_excl_e4": 1}, Check.PRICE),
        ({"currency": "SEK"}, Check.PRICE),
        ({"lines": ()}, Check.PRICE),
        ({"kind": "CREDIT"}, Check.PRICE),
        ({"periods": ()}, Check.PRICE),
        ({"export_wh": 1}, Check.ENERGY),
        ({"seller": "NL-ZOO"}, Check.QUOTE),
    ],
)
def test_a_record_that_is_wrong_in_itself_is_refused_though_it_is_signed(
    change: dict[str, Any], check_refused: Check
) -> None:
    assert check_refused in refused(changed_record(**change))


def test_other_price_terms_than_those_quoted_are_refused() -> None:
    quote = a_record().quote
    tariff = {**quote.tariff, "min": {"excl_e4": 1}}

    assert refused(changed_record(quote=msgspec.structs.replace(quote, tariff=tariff))) == [Check.QUOTE]


def test_price_terms_that_are_no_tariff_are_refused() -> None:
    quote = msgspec.structs.replace(a_record().quote, tariff={"form": "nothing"})

    assert refused(changed_record(quote=quote)) == [Check.QUOTE, Check.PRICE]


def _forged(**changes: Any) -> dict[str, Any]:
    receipt = Settled(a_record()).unsigned()
    return {name: msgspec.structs.replace(getattr(receipt, name), **parts) for name, parts in changes.items()}


@pytest.mark.parametrize(
    ("component", "restrictions"),
    [
        ({"price": "1E+999999999"}, {}),
        ({}, {"duration_s_max": 10**15}),
        ({}, {"current_a_min": "6"}),
        ({"step": 10**4_000}, {"energy_wh_min": 10**4_000}),
    ],
)
def test_no_terms_are_so_strange_that_a_check_does_not_end(
    component: dict[str, Any], restrictions: dict[str, Any]
) -> None:
    record = a_record()
    element = {"components": [{"dimension": "ENERGY", "price": "0.41", "step": 1, **component}]}
    quote = msgspec.structs.replace(
        record.quote, tariff={**record.quote.tariff, "elements": [{**element, "restrictions": restrictions}]}
    )
    period = msgspec.structs.replace(record.periods[0], current_a_min=Decimal("NaN"))

    assert Check.QUOTE in refused(changed_record(quote=quote, periods=(period,)))


@pytest.mark.parametrize(
    "forged",
    [
        {"salt": "00" * 32},
        _forged(place={"cdr_key": "00" * 32}),
        _forged(place={"index": 0}),
        _forged(place={"index": 99}),
        _forged(place={"count": 2**40}),
        _forged(place={"siblings": ()}),
        _forged(statement={"evidence_root": "00" * 32}),
        _forged(record={"bill_id": "bill-2"}),
        _forged(record={"import_wh": 2**64}),
        _forged(place={"meter": "01" * 32}),
        {"form": "wattroam-receipt-1"},
    ],
)
def test_a_charge_that_is_not_in_the_statement_is_refused_though_it_is_signed(forged: dict[str, Any]) -> None:
    assert Check.STATEMENT in refused(a_file(**forged))


def test_a_receipt_from_before_leaves_had_a_meter_still_verifies() -> None:
    receipt = read(a_file(), Receipt)
    leaf = keccak256(
        b"\0\0"
        + bytes.fromhex(receipt.place.cdr_key)
        + receipt.record.import_wh.to_bytes(8, "big")
        + receipt.record.export_wh.to_bytes(8, "big")
        + record_commitment(receipt.record, salt=bytes.fromhex(receipt.salt))
    )
    place = PlaceShown(cdr_key=receipt.place.cdr_key, index=0, count=1, siblings=())
    statement = msgspec.structs.replace(receipt.statement, evidence_root=leaf.hex())
    old = {"form": "wattroam-receipt-1", "place": place, "statement": statement}

    assert refused(a_file(**old)) == []
    newer = msgspec.structs.replace(place, meter="00" * 32)
    assert Check.STATEMENT in refused(a_file(**old | {"place": newer}))


# Meter values


def test_a_record_without_identification_goes_in_whole_and_its_signature_is_checked() -> None:
    meter = shown(ID="")

    verification = check(with_meter(meter))

    assert len(meter.records) == 2
    assert verdicts(verification)[Check.METER] is Verdict.HOLDS


def test_a_record_that_names_the_driver_goes_in_masked_and_the_receipt_says_so() -> None:
    meter = shown()

    verification = check(with_meter(meter))

    assert meter.records == ()
    assert verdicts(verification)[Check.METER] is Verdict.UNPROVEN
    assert "5.000 kWh" in next(finding.says for finding in verification.findings if finding.check is Check.METER)


def test_one_record_that_names_the_driver_masks_all() -> None:
    mixed = [records(ID="")[0], records()[1]]

    meter = meter_shown(mixed, public_key=METER.public_key, salt=METER_SALT)

    assert (len(meter.records), len(meter.masked)) == (0, 2)


@pytest.mark.parametrize("identification", [["04A1B2C3"], {"uid": "04A1B2C3"}, 7, True])
def test_identification_of_a_strange_kind_is_masked_or_its_record_refused(identification: Any) -> None:
    strange = [f'OCMF|{json.dumps({"ID": identification})}|{{"SD":"00"}}']

    try:
        masked = meter_shown(strange, public_key=METER.public_key, salt=METER_SALT).masked
    except OCMFRefused:
        return

    assert masked
    assert "04A1B2C3" not in masked[0].text


@pytest.mark.parametrize(
    "payload", ['{"ID":"04A1B2C3","ID":""}', r'{"\u0049D":"04A1B2C3","ID":"x"}', r'{"\u0049D":"04A1B2C3"}']
)
def test_a_record_that_hides_the_card_from_its_reader_is_refused(payload: str) -> None:
    with pytest.raises(OCMFRefused):
        meter_shown([f'OCMF|{payload}|{{"SD":"00"}}'], public_key=METER.public_key, salt=METER_SALT)


def test_a_masked_copy_is_opened_by_its_original_and_the_salt() -> None:
    originals = records()
    masked = meter_shown(originals, public_key=METER.public_key, salt=METER_SALT).masked

    assert all(is_opened(copy, original, salt=METER_SALT) for copy, original in zip(masked, originals, strict=True))
    assert not is_opened(masked[0], originals[1], salt=METER_SALT)
    assert not is_opened(masked[0], originals[0], salt=bytes(32))
    assert not is_opened(masked[0], records(ID="04A1B2C4")[0], salt=METER_SALT)


def test_a_masked_copy_can_not_be_unmasked_by_trying_every_card() -> None:
    """Neither a bare hash of the original nor its signature is in the receipt."""
    original = records()[0]
    written = with_meter(shown()).decode()

    assert original.rpartition("|")[2] not in written
    assert json.loads(original.rpartition("|")[2])["SD"] not in written


@pytest.mark.parametrize(
    "meter",
    [
        MeterShown(public_key=Meter(ec.SECP256R1()).public_key, records=tuple(records(ID=""))),
        MeterShown(public_key=METER.public_key, records=tuple(records(ID="")[:1])),
        MeterShown(public_key=METER.public_key, records=()),
        MeterShown(public_key="zz", records=tuple(records(ID=""))),
        msgspec.structs.replace(shown(), masked=shown().masked[:1]),
        MeterShown(
            public_key=METER.public_key,
            masked=tuple(msgspec.structs.replace(copy, text=copy.text.replace("***", CARD)) for copy in shown().masked),
        ),
        MeterShown(
            public_key=METER.public_key,
            masked=tuple(
                msgspec.structs.replace(copy, text=copy.text.replace("105.000", "106.000")) for copy in shown().masked
            ),
        ),
    ],
)
def test_meter_values_that_do_not_prove_the_energy_are_refused(meter: MeterShown) -> None:
    assert refused(with_meter(meter)) == [Check.METER]


# The chain

SETTLED = Settled(a_record())
OTHER = replace(SETTLED.statement, evidence_root=bytes(32))


def test_a_receipt_of_a_final_statement_is_confirmed_by_the_chain() -> None:
    assert chain_finding(SETTLED.receipt(), SETTLED.answers()).verdict is Verdict.HOLDS


@pytest.mark.parametrize(
    "answers",
    [
        SETTLED.answers(chain_id=1),
        SETTLED.answers(called=None),
        SETTLED.answers(called=bytes(20)),
        SETTLED.answers(proposal=None),
        SETTLED.answers(batch=None),
        SETTLED.answers(parties=None),
        SETTLED.answers(parties=(PartyId("NL-TNM"), PartyId("NL-ZOO"))),
        SETTLED.answers(batch=BatchState(pairs_hash=bytes(32), open_pairs=0)),
        SETTLED.answers(
            batch=replace(SETTLED.answers().batch or BatchState(pairs_hash=b"", open_pairs=0), open_pairs=0b010)
        ),
        SETTLED.answers(proposal=Proposal(batch_id=bytes(32), statements=tuple(each.booked for each in SETTLED.batch))),
        SETTLED.answers(proposal=Proposal(batch_id=SETTLED.batch_id, statements=())),
        SETTLED.answers(proposal=Proposal(batch_id=SETTLED.batch_id, statements=(OTHER.booked,))),
    ],
)
def test_a_statement_that_the_chain_does_not_hold_final_is_refused(answers: ChainAnswers) -> None:
    assert chain_finding(SETTLED.receipt(), answers).verdict is Verdict.REFUSED


@pytest.mark.parametrize(
    "forged",
    [
        _forged(chain={"chain_id": 1}),
        _forged(chain={"book": "00" * 20}),
        _forged(chain={"batch_id": "00" * 32}),
        _forged(chain={"position": 0}),
        _forged(chain={"position": 3}),
        _forged(chain={"position": 300}),
        _forged(statement={"agreement": "00" * 32}),
        _forged(statement={"sequence": 8}),
        _forged(statement={"evidence_root": "00" * 32}),
        _forged(place={"count": 6}),
    ],
)
def test_a_receipt_that_names_another_place_is_refused_by_the_chain(forged: dict[str, Any]) -> None:
    assert chain_finding(SETTLED.receipt(**forged), SETTLED.answers()).verdict is Verdict.REFUSED


def test_the_evidence_record_has_one_form_for_ever() -> None:
    """Committed on chain and kept for years: a change of these bytes would break every receipt that was issued."""
    assert read(canonical(a_record()), EvidenceRecord) == a_record()
    assert canonical(a_record()) == GOLDEN.read_bytes()


def test_the_place_of_a_proof_is_the_statements() -> None:
    receipt = SETTLED.unsigned()

    assert Proof(
        index=receipt.place.index,
        count=receipt.place.count,
        siblings=tuple(bytes.fromhex(sibling) for sibling in receipt.place.siblings),
    ) == SETTLED.trees.evidence_proof(SETTLED.index)


def test_periods_that_state_less_than_a_wh_are_shown_and_add_up() -> None:
    first, last = CDR_.periods
    thirds = replace(first, energy_import_wh=4_999, energy_rest_wh=Decimal("0.6")), last
    record = a_record(replace(CDR_, periods=thirds))

    assert record.periods[0].energy_rest_wh == Decimal("0.6")
    assert refused(canonical(Settled(record).receipt())) == []
