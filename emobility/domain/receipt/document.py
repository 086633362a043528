"""The form of a receipt and of the evidence record in it: canonical JSON, in which every byte counts.

A document has exactly one way to be written: keys sorted, no space, absent fields left out, hex in lower case. Reading
writes it again and compares, so a second way of writing the same is refused like a change.

**The evidence record** is what the commitment of a CDR's leaf stands for. It shows retail only: no wholesale amount, no
token, no contract id. Its two parties know the pair's other numbers anyway; nobody else learns them from a receipt.

**Signed meter values.** A meter's signature covers the whole record, the driver's identification included, so a masked
copy can't be verified. A record without identification therefore goes in whole. Of one with identification goes in the
copy without it and without its signature, beside a salted commitment to the original. Not a bare hash and not the
signature: a card number is short, and either would let anyone try all of them. The MSP keeps salt and original, and
opens the commitment to whom the driver sends.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from emobility.domain.errors import MalformedInput

RECEIPT_BYTES_MAX: Final = 1_000_000
"""Longest file that is read; some thousand periods and dozens of signed records fit."""
D = TypeVar("D", bound="Document")

Hash = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
AgreementName = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{16}|[0-9a-f]{64})\Z")]
Address = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{40}\Z")]
Signature = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{128}\Z")]
Count = Annotated[int, msgspec.Meta(ge=0)]
PartyCode = Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{2}-[A-Z0-9]{3}\Z")]
Currency = Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{3}\Z")]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class ReceiptMalformed(MalformedInput):
    """The file is not a receipt in its one canonical form."""


class Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A part of a receipt. A field added later has a default, so that it leaves older receipts as they are."""


class EstimateShown(Document, frozen=True, kw_only=True):
    """The estimate of a quote; see `domain/quote.Estimate`."""

    energy_wh: Count
    charging_s: Count
    parking_s: Count
    excl_e4: int
    incl_e4: int | None = None


class QuoteShown(Document, frozen=True, kw_only=True):
    """The quote as its MSP signed it; see `domain/quote.RetailQuote`. `tariff` is in its canonical form."""

    quote_id: str
    driver_id: str
    plan_id: str
    cpo_id: PartyCode
    location_id: str
    evse_uid: str
    connector_id: str
    time_zone: str
    issued_at: Moment
    valid_until: Moment
    tariff: dict[str, Any]
    estimate: EstimateShown | None = None
    signature: Signature


class PeriodShown(Document, frozen=True, kw_only=True):
    """A charging period without the CPO's tariff; see `domain/session.ChargingPeriod`."""

    started_at: Moment
    energy_import_wh: Count = 0
    energy_export_wh: Count = 0
    charging_s: Count = 0
    parking_s: Count = 0
    reserved_s: Count = 0
    power_w_min: int | None = None
    power_w_max: int | None = None
    current_a_min: Decimal | None = None
    current_a_max: Decimal | None = None
    energy_rest_wh: Decimal | None = None


class LineShown(Document, frozen=True, kw_only=True):
    """A line of the bill; see `lines.ReceiptLine`."""

    what: str
    quantity: str
    unit_price: str
    vat_percent: str | None = None
    excl: str
    incl: str


class MaskedRecord(Document, frozen=True, kw_only=True):
    """A signed record without the driver in it, and the salted commitment to the payload that was signed."""

    text: str
    commitment: Hash


class MeterShown(Document, frozen=True, kw_only=True):
    """Signed meter values of the charge: whole records, or masked ones where any of them names the driver."""

    public_key: str
    records: tuple[str, ...] = ()
    masked: tuple[MaskedRecord, ...] = ()


class EvidenceRecord(Document, frozen=True, kw_only=True):
    """What a driver is shown of a charge, or of a credit that takes one back whole.

    Attributes:
        seller_key: The MSP's Ed25519 public key, which signed the quote and signs the receipt.
        import_wh: What the bill and the leaf say; of a credit, what is taken back.
        total_excl_e4: Before tax, in ten-thousandths of `currency`; negative in a credit.
        total_incl_e4: What the driver pays.
        meter: None where the meter signs nothing.
    """

    form: Literal["wattroam-evidence-1"]
    kind: Literal["CHARGE", "CREDIT"]
    seller: PartyCode
    seller_key: Hash
    bill_id: str
    charge_point_operator: PartyCode
    session_id: str
    ended_at: Moment
    periods: tuple[PeriodShown, ...]
    import_wh: Count
    export_wh: Count
    quote: QuoteShown
    lines: tuple[LineShown, ...]
    notes: tuple[str, ...] = ()
    currency: Currency
    total_excl_e4: int
    total_incl_e4: int
    meter: MeterShown | None = None


class PlaceShown(Document, frozen=True, kw_only=True):
    """Where the leaf stands in the pair's evidence tree. `meter`: the leaf's; None in a receipt of form 1."""

    cdr_key: Hash
    index: Count
    count: Count
    siblings: tuple[Hash, ...]
    meter: Hash | None = None


class StatementShown(Document, frozen=True, kw_only=True):
    """What a driver needs of the pair's statement. What the pair owes each other stands on chain, not here.

    `sum_root` opens what a statement in the open binds, both roots together; one in confidential mode seals its own.
    """

    agreement: AgreementName
    sequence: Count
    evidence_root: Hash
    sum_root: Hash | None = None


class SignerShown(Document, frozen=True, kw_only=True):
    """Who signed for a party, by its number in the registry, when a batch became final."""

    party: Count
    address: Address


class SealedShown(Document, frozen=True, kw_only=True):
    """What opens a salted hash to a statement, without its amounts; see `domain/batch/confidential`.

    Attributes:
        period_end: In unix seconds.
        amounts: What stands for due, credit and sum root; its salt is not in the file.
        salt: Of the posted hash.
        by_cpo: Compact ECDSA signature of the CPO's signer; `by_msp` likewise.
        count: Hashes in the batch.
        siblings: Beside the hash's path among them.
        signers: Of all of the batch's parties, ascending.
    """

    cpo: Count
    msp: Count
    period_end: Count
    amounts: Hash
    salt: Hash
    by_cpo: Signature
    by_msp: Signature
    count: Count
    siblings: tuple[Hash, ...]
    signers: tuple[SignerShown, ...]


class ChainShown(Document, frozen=True, kw_only=True):
    """Where the statement became final: the book, the batch, the statement's position in it and the transaction that
    proposed it. The transaction's input holds the batch's statements, so no log has to be searched.

    `sealed`: of a statement in confidential mode, whose batch shows a salted hash at that position.
    """

    chain_id: Count
    book: Address
    batch_id: Hash
    position: Count
    transaction: Hash
    sealed: SealedShown | None = None


class SettledPlace(Document, frozen=True, kw_only=True):
    """All that a settlement adds to a record to make a receipt of it. It holds no amount and names nobody."""

    place: PlaceShown
    statement: StatementShown
    chain: ChainShown


class Receipt(Document, frozen=True, kw_only=True):
    """The file. `signature` is the seller's, over the canonical bytes of everything else.

    Form 1: the leaf has no `meter`. Form 2: it has one, of zeros where no meter signed.
    """

    form: Literal["wattroam-receipt-1", "wattroam-receipt-2"]
    record: EvidenceRecord
    salt: Hash
    place: PlaceShown
    statement: StatementShown
    chain: ChainShown
    signature: Signature | None = None


_ENCODER: Final = msgspec.json.Encoder(order="sorted")


def canonical(document: Document) -> bytes:
    """Return the one way to write a document."""
    return _ENCODER.encode(document)


def signing_bytes(receipt: Receipt) -> bytes:
    """Return what the seller signs."""
    return canonical(msgspec.structs.replace(receipt, signature=None))


def read(written: bytes, kind: type[D]) -> D:
    """Read a document.

    Raises:
        ReceiptMalformed: too long, no such document, or written in another way than the canonical one.
    """
    if len(written) > RECEIPT_BYTES_MAX:
        raise ReceiptMalformed(f"{len(written)} bytes; at most {RECEIPT_BYTES_MAX} are read")
    try:
        document = msgspec.json.decode(written, type=kind)
        is_canonical = canonical(document) == written
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ReceiptMalformed(str(error)) from error
    if not is_canonical:
        raise ReceiptMalformed("it is not written in the canonical form")
    return document
