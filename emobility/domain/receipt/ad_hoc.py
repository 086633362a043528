"""The receipt of a charge that was sold without a contract: its form, and how anyone checks it from the file alone.

The seller is the CPO, and nobody else is in it: no quote, no statement and nothing on a chain. What can be checked is
that every byte is the seller's word, that the tariff and the charging periods give the price and the tax, that what was
taken is that price in whole cents, and that the meter signed the energy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any, Final, Literal

import msgspec

from emobility.domain.ad_hoc import takings
from emobility.domain.errors import EmobilityError
from emobility.domain.money import decimal_from_e4
from emobility.domain.quantities import kwh
from emobility.domain.receipt.checking import NOT_WHAT_WAS_SIGNED, Check, Finding, Proofs, Verdict, Verification
from emobility.domain.receipt.document import (
    Count,
    Currency,
    Document,
    Hash,
    MeterShown,
    Moment,
    PartyCode,
    PeriodShown,
    Signature,
    canonical,
    read,
)
from emobility.domain.session import ChargingPeriod
from emobility.domain.tariff.pricing import price_session
from emobility.domain.tariff.version import tariff_of

FORM: Final = "wattroam-ad-hoc-receipt-1"
IN_NO_STATEMENT: Final = "It was sold without a contract, so it is in no statement of companies and on no chain."


class AdHocReceipt(Document, frozen=True, kw_only=True):
    """The file; amounts in ten-thousandths of `currency`, as in `domain/ad_hoc.py`.

    Attributes:
        seller_key: The CPO's Ed25519 public key, hex.
        number: The receipt's, without a gap per seller.
        emi3_id: The charging point.
        tariff: As it was shown before the charge, in its canonical form.
        refund_e4: What was given back of what was taken at first, because reports came late.
        meter: None where the meter signs nothing.
        signature: The seller's, over the canonical bytes of everything else.
    """

    form: Literal["wattroam-ad-hoc-receipt-1"]
    seller: PartyCode
    seller_key: Hash
    seller_name: str
    number: str
    session_id: str
    emi3_id: str
    time_zone: str
    started_at: Moment
    ended_at: Moment
    periods: tuple[PeriodShown, ...]
    import_wh: Count
    export_wh: Count
    tariff: dict[str, Any]
    currency: Currency
    held_e4: Count
    total_incl_e4: int
    capture_e4: Count
    residue_e4: int
    beyond_hold_e4: Count
    vat_e4: Count
    refund_e4: Count = 0
    meter: MeterShown | None = None
    signature: Signature | None = None


def signing_bytes(receipt: AdHocReceipt) -> bytes:
    """Return what the seller signs."""
    return canonical(msgspec.structs.replace(receipt, signature=None))


def is_ad_hoc(written: bytes) -> bool:
    """Whether a file claims to be such a receipt."""
    return f'"form":"{FORM}"'.encode() in written


def verify_ad_hoc_receipt(written: bytes, proofs: Proofs) -> Verification:
    """Check a receipt from its bytes alone, as `verify_receipt` does."""
    try:
        receipt = read(written, AdHocReceipt)
    except EmobilityError as error:
        says = f"This is not a receipt in its exact form, or a byte of it was changed ({error})."
        return Verification(receipt=None, findings=(_found(Check.FORM, Verdict.REFUSED, says),))
    return Verification(receipt=None, findings=tuple(_findings(receipt, proofs)))


def _findings(receipt: AdHocReceipt, proofs: Proofs) -> Iterator[Finding]:
    yield _found(
        Check.FORM, Verdict.HOLDS, "The file is a receipt, written in the one way such a receipt can be written."
    )
    is_signed = receipt.signature is not None and proofs.is_signed(
        public_key=receipt.seller_key, message=signing_bytes(receipt), signature=receipt.signature
    )
    if not is_signed:
        says = f"The signature is not {receipt.seller}'s over these bytes. {NOT_WHAT_WAS_SIGNED}"
        yield _found(Check.SIGNATURE, Verdict.REFUSED, says)
        return
    says = f"Every byte is as the holder of {receipt.seller}'s key {receipt.seller_key[:16]}… signed it."
    yield _found(Check.SIGNATURE, Verdict.HOLDS, says)
    yield _price(receipt)
    yield _energy(receipt)
    yield _meter(receipt, proofs)
    yield _found(Check.STATEMENT, Verdict.UNPROVEN, IN_NO_STATEMENT)


def _price(receipt: AdHocReceipt) -> Finding:
    try:
        tariff = tariff_of(receipt.tariff)
        priced = price_session(tariff, _periods(receipt), ended_at=receipt.ended_at, time_zone=receipt.time_zone)
        taken = takings(priced.total, held_e4=receipt.held_e4)
    except (EmobilityError, ArithmeticError) as error:  # a current of NaN is compared with nothing
        return _found(Check.PRICE, Verdict.REFUSED, f"The price can't be computed from the tariff ({error}).")
    names = ("total_incl_e4", "capture_e4", "residue_e4", "beyond_hold_e4", "vat_e4")
    amount = f"{decimal_from_e4(taken.total_incl_e4)} {tariff.currency}"
    if tariff.currency != receipt.currency or any(getattr(taken, name) != getattr(receipt, name) for name in names):
        return _found(Check.PRICE, Verdict.REFUSED, f"The tariff gives {amount}, which is not what the receipt says.")
    says = f"The tariff and the charging periods give {amount}; {decimal_from_e4(taken.capture_e4)} were to be paid."
    return _found(Check.PRICE, Verdict.HOLDS, says)


def _energy(receipt: AdHocReceipt) -> Finding:
    imported = sum(period.energy_import_wh for period in receipt.periods)
    exported = sum(period.energy_export_wh for period in receipt.periods)
    if (imported, exported) != (receipt.import_wh, receipt.export_wh):
        says = "The charging periods do not add up to the energy of the receipt."
        return _found(Check.ENERGY, Verdict.REFUSED, says)
    says = f"The charging periods add up to {kwh(imported)} kWh drawn and {kwh(exported)} fed in."
    return _found(Check.ENERGY, Verdict.HOLDS, says)


def _meter(receipt: AdHocReceipt, proofs: Proofs) -> Finding:
    meter = receipt.meter
    if meter is None:
        says = "The station's meter signs nothing, so nothing is shown."
        return _found(Check.METER, Verdict.UNPROVEN, says)
    try:
        measured = proofs.metered_wh(meter.records, public_key=meter.public_key)
    except EmobilityError as error:
        return _found(Check.METER, Verdict.REFUSED, f"The signed meter values are not believed ({error}).")
    if measured != receipt.import_wh:
        says = f"The meter measured {kwh(measured)} kWh, the receipt bills {kwh(receipt.import_wh)}."
        return _found(Check.METER, Verdict.REFUSED, says)
    says = f"The meter itself, with the key {meter.public_key[:16]}…, signed {kwh(measured)} kWh."
    return _found(Check.METER, Verdict.HOLDS, says)


def _periods(receipt: AdHocReceipt) -> list[ChargingPeriod]:
    names = [field.name for field in fields(ChargingPeriod) if field.name != "tariff_id"]
    return [ChargingPeriod(**{name: getattr(shown, name) for name in names}) for shown in receipt.periods]


def _found(check: Check, verdict: Verdict, says: str) -> Finding:
    return Finding(check=check, verdict=verdict, says=says)
