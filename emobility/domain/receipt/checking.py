"""Check a receipt: what each check proves, in plain words, from the file alone or with a look at the chain.

Offline, a receipt shows that its parts belong together: bill, price, energy, meter and leaf, under the seller's own
signature. Whether the statement that it names was ever settled, only the chain can tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Final, Protocol

from emobility.domain.batch.hashing import U64_MAX
from emobility.domain.batch.leaf import LeafKind, evidence_hash
from emobility.domain.batch.trees import Proof, proven_root
from emobility.domain.errors import EmobilityError
from emobility.domain.identifiers import PartyId
from emobility.domain.money import Price, decimal_from_e4
from emobility.domain.quantities import kwh
from emobility.domain.quote import Estimate, RetailQuote, gross_e4
from emobility.domain.quote import signing_bytes as quote_signing_bytes
from emobility.domain.receipt.document import EvidenceRecord, LineShown, QuoteShown, Receipt, read, signing_bytes
from emobility.domain.receipt.lines import receipt_lines
from emobility.domain.receipt.making import record_commitment
from emobility.domain.session import ChargingPeriod
from emobility.domain.tariff.pricing import PricedSession, price_session
from emobility.domain.tariff.version import tariff_of


class Check(StrEnum):
    """What is looked at, in this order."""

    FORM = "FORM"
    SIGNATURE = "SIGNATURE"
    QUOTE = "QUOTE"
    PRICE = "PRICE"
    ENERGY = "ENERGY"
    METER = "METER"
    STATEMENT = "STATEMENT"
    CHAIN = "CHAIN"


class Verdict(StrEnum):
    """How a check ended. `UNPROVEN`: nothing speaks against it, and this file can't show it either."""

    HOLDS = "HOLDS"
    REFUSED = "REFUSED"
    UNPROVEN = "UNPROVEN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A check, how it ended, and what that means to somebody who does not know the words."""

    check: Check
    verdict: Verdict
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """All findings on a file. `receipt` is None where the file is none."""

    receipt: Receipt | None
    findings: tuple[Finding, ...]

    @property
    def is_accepted(self) -> bool:
        """Whether nothing was refused."""
        return all(finding.verdict is not Verdict.REFUSED for finding in self.findings)


class Proofs(Protocol):
    """Cryptography that stands outside the domain."""

    def is_signed(self, *, public_key: str, message: bytes, signature: str) -> bool:
        """Tell whether the Ed25519 signature is the key holder's word on the message."""

    def metered_wh(self, records: Sequence[str], *, public_key: str) -> int:
        """Return the energy that whole signed records prove, in Wh. Raises `EmobilityError` when they don't."""

    def shown_wh(self, masked: Sequence[str]) -> int:
        """Return the energy that masked copies show, in Wh. Raises `EmobilityError` when they are none."""


NOT_WHAT_WAS_SIGNED: Final = "As the file is not what the seller signed, nothing else in it was looked at."


def verify_receipt(written: bytes, proofs: Proofs) -> Verification:
    """Check a receipt from its bytes alone.

    Args:
        written: The file.
        proofs: Checks signatures of sellers and meters.
    """
    try:
        receipt = read(written, Receipt)
    except EmobilityError as error:
        says = f"This is not a receipt in its exact form, or a byte of it was changed ({error})."
        return Verification(receipt=None, findings=(_refused(Check.FORM, says),))
    record = receipt.record
    form = _holds(Check.FORM, "The file is a receipt, written in the one way a receipt can be written.")
    is_signed = receipt.signature is not None and proofs.is_signed(
        public_key=record.seller_key, message=signing_bytes(receipt), signature=receipt.signature
    )
    if not is_signed:
        says = f"The signature is not {record.seller}'s over these bytes. {NOT_WHAT_WAS_SIGNED}"
        return Verification(receipt=receipt, findings=(form, _refused(Check.SIGNATURE, says)))
    says = f"Every byte is as the holder of {record.seller}'s key {record.seller_key[:16]}… signed it."
    return Verification(
        receipt=receipt, findings=(form, _holds(Check.SIGNATURE, says), *_content_findings(receipt, proofs))
    )


def _content_findings(receipt: Receipt, proofs: Proofs) -> Iterator[Finding]:
    record = receipt.record
    yield _quote(record, proofs)
    yield _price(record)
    yield _energy(record)
    yield _meter(record, proofs)
    yield _statement(receipt)


def _quote(record: EvidenceRecord, proofs: Proofs) -> Finding:
    try:
        quote = _quote_of(record)
    except EmobilityError as error:
        return _refused(Check.QUOTE, f"The price agreed before the charge can't be read ({error}).")
    is_signed = proofs.is_signed(
        public_key=record.seller_key, message=quote_signing_bytes(quote), signature=record.quote.signature
    )
    if not is_signed:
        return _refused(Check.QUOTE, f"The price terms are not those that {record.seller} signed as a quote.")
    says = (
        f"The price terms are those of quote {quote.quote_id}, which {record.seller} signed and dated {_minute(quote)}."
    )
    return _holds(Check.QUOTE, says)


def _price(record: EvidenceRecord) -> Finding:
    try:
        priced = _priced(record)
    except (EmobilityError, ArithmeticError) as error:  # a current of NaN is compared with nothing
        return _refused(Check.PRICE, f"The price can't be computed from the terms ({error}).")
    sign = -1 if record.kind == "CREDIT" else 1
    total = (sign * priced.total.excl_e4, sign * gross_e4(priced.total), priced.currency)
    lines = tuple(_line_fields(line) for line in receipt_lines(priced))
    amount = f"{decimal_from_e4(total[1])} {priced.currency}"
    if total != (record.total_excl_e4, record.total_incl_e4, record.currency):
        return _refused(Check.PRICE, f"The terms give {amount}, which is not what the receipt says.")
    if lines != tuple(_line_fields(line) for line in record.lines):
        return _refused(Check.PRICE, "The lines of the bill are not what the terms give.")
    return _holds(Check.PRICE, f"Computed anew from the terms and the charging periods, the total is {amount}.")


def _energy(record: EvidenceRecord) -> Finding:
    exported = sum(period.energy_export_wh for period in record.periods)
    imported = exported + round(sum(period.net_wh for period in _periods(record)))
    if (imported, exported) != (record.import_wh, record.export_wh):
        return _refused(Check.ENERGY, "The charging periods do not add up to the energy of the receipt.")
    return _holds(Check.ENERGY, f"The charging periods add up to {kwh(imported)} kWh drawn and {kwh(exported)} fed in.")


def _meter(record: EvidenceRecord, proofs: Proofs) -> Finding:
    meter = record.meter
    if meter is None:
        return Finding(
            check=Check.METER, verdict=Verdict.UNPROVEN, says="The station's meter signs nothing, so nothing is shown."
        )
    try:
        if meter.masked:
            measured = proofs.shown_wh([masked.text for masked in meter.masked])
        else:
            measured = proofs.metered_wh(meter.records, public_key=meter.public_key)
    except EmobilityError as error:
        return _refused(Check.METER, f"The signed meter values are not believed ({error}).")
    if measured != record.import_wh:
        return _refused(
            Check.METER, f"The meter measured {kwh(measured)} kWh, the receipt bills {kwh(record.import_wh)}."
        )
    if meter.masked:
        says = (
            f"The meter's records show {kwh(measured)} kWh. They name the card of the driver, so this file has copies "
            f"without it, whose signature can't be checked; {record.seller} shows the driver the originals."
        )
        return Finding(check=Check.METER, verdict=Verdict.UNPROVEN, says=says)
    return _holds(Check.METER, f"The meter itself, with the key {meter.public_key[:16]}…, signed {kwh(measured)} kWh.")


def _statement(receipt: Receipt) -> Finding:
    try:
        reached = proven_root(evidence_leaf_of(receipt), _proof_of(receipt))
    except EmobilityError as error:
        return _refused(Check.STATEMENT, f"The way from this charge to the companies' statement is broken ({error}).")
    if reached.hex() != receipt.statement.evidence_root:
        return _refused(Check.STATEMENT, "This charge is not in the statement that the receipt names.")
    says = (
        f"This very charge is one of the {receipt.place.count} in statement {receipt.statement.sequence} between "
        f"{receipt.record.charge_point_operator} and {receipt.record.seller}."
    )
    return _holds(Check.STATEMENT, says)


def evidence_leaf_of(receipt: Receipt) -> bytes:
    """Return the hash of the charge's leaf, from what the receipt shows."""
    record = receipt.record
    if max(record.import_wh, record.export_wh) > U64_MAX:
        return b""  # no leaf has such energy, so no root is reached
    meter = receipt.place.meter
    if (meter is None) != (receipt.form == "wattroam-receipt-1"):
        return b""  # nor has a leaf of one form the shape of the other
    return evidence_hash(
        kind=LeafKind[record.kind],
        cdr_key=bytes.fromhex(receipt.place.cdr_key),
        import_wh=record.import_wh,
        export_wh=record.export_wh,
        commitment=record_commitment(record, salt=bytes.fromhex(receipt.salt)),
        meter=bytes.fromhex(meter or ""),
    )


def _proof_of(receipt: Receipt) -> Proof:
    place = receipt.place
    siblings = tuple(bytes.fromhex(sibling) for sibling in place.siblings)
    return Proof(index=place.index, count=place.count, siblings=siblings)


def _quote_of(record: EvidenceRecord) -> RetailQuote:
    shown: QuoteShown = record.quote
    estimate = shown.estimate
    return RetailQuote(
        quote_id=shown.quote_id,
        emsp_id=PartyId(record.seller),
        driver_id=shown.driver_id,
        plan_id=shown.plan_id,
        cpo_id=PartyId(shown.cpo_id),
        location_id=shown.location_id,
        evse_uid=shown.evse_uid,
        connector_id=shown.connector_id,
        time_zone=shown.time_zone,
        issued_at=shown.issued_at,
        valid_until=shown.valid_until,
        tariff=tariff_of(shown.tariff),
        estimate=None
        if estimate is None
        else Estimate(
            energy_wh=estimate.energy_wh,
            charging_s=estimate.charging_s,
            parking_s=estimate.parking_s,
            total=Price(excl_e4=estimate.excl_e4, incl_e4=estimate.incl_e4),
        ),
    )


def _priced(record: EvidenceRecord) -> PricedSession:
    return price_session(
        tariff_of(record.quote.tariff), _periods(record), ended_at=record.ended_at, time_zone=record.quote.time_zone
    )


def _periods(record: EvidenceRecord) -> list[ChargingPeriod]:
    names = [field.name for field in fields(ChargingPeriod) if field.name != "tariff_id"]
    return [ChargingPeriod(**{name: getattr(shown, name) for name in names}) for shown in record.periods]


def _minute(quote: RetailQuote) -> str:
    return f"{quote.issued_at:%Y-%m-%d %H:%M} UTC"


def _line_fields(line: object) -> tuple[str | None, ...]:
    return tuple(getattr(line, name) for name in LineShown.__struct_fields__)


def _holds(check: Check, says: str) -> Finding:
    return Finding(check=check, verdict=Verdict.HOLDS, says=says)


def _refused(check: Check, says: str) -> Finding:
    return Finding(check=check, verdict=Verdict.REFUSED, says=says)
