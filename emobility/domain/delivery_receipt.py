"""Receipts of delivery: what a hub says became of a message, so bound that it can't say something else later.

A receipt is a leaf. The leaves of about a second are bound by a **batch**, which the hub signs and which names the one
before it, so none can be left out afterwards. The batches of a UTC day are bound by a **day root**, which is anchored
on a chain, so the hub can't sign another past. Each receipt is proven alone, by two short paths.

With the hub's signature alone the claim is only "the hub says". Where the receiver signed its answer, that signature
is part of the receipt, and the claim is the receiver's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from hashlib import sha256
from typing import Final

from emobility.domain.batch.hashing import HASH_BYTES, LEAF_PREFIX, keccak256
from emobility.domain.batch.trees import HashTree
from emobility.domain.identifiers import PartyId

ANCHOR_KIND: Final = keccak256(b"wattroam hub delivery receipts v1")
"""`kind` of the day roots in `RootAnchor`."""
FIRST_OF_ALL: Final = bytes(HASH_BYTES)
"""What the first batch of a hub names as the one before it."""
RECEIPTS_MAX: Final = 256
"""Most receipts of one batch: to bind them is some ms of work in one go, while no message moves."""


class Claim(StrEnum):
    """Whose word a receipt is."""

    THE_HUB_SAYS = "THE_HUB_SAYS"
    THE_RECEIVER_SIGNED = "THE_RECEIVER_SIGNED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Countersignature:
    """The receiver's signature of its answer (RFC 9421).

    Attributes:
        key: Party and key, as `keyid` names them.
        base: The signature base: it names the answer's status and digest and the request's signature.
        signature: Over `base`.
    """

    key: str
    base: str
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryReceipt:
    """What became of one message at one receiver. It holds hashes, no document and no object's id.

    Attributes:
        sent_sha256: Of the body as the sender sent it, and
        forwarded_sha256: as the receiver got it.
        request_signature: The sender's, if it signed: binds method, target and headers too.
        http_status: The receiver's; None: it gave no answer.
        ocpi_status: The receiver's, or the hub's own 4xxx.
        response_sha256: Of the body of the answer.
        at: When the receiver had answered, or was given up.
    """

    receipt_id: str
    hub: PartyId
    correlation_id: str
    from_party: PartyId
    to_party: PartyId
    module: str
    method: str
    sent_sha256: bytes
    forwarded_sha256: bytes
    request_signature: bytes | None
    http_status: int | None
    ocpi_status: int
    response_sha256: bytes | None
    at: datetime
    countersignature: Countersignature | None

    @property
    def claim(self) -> Claim:
        """Whose word it is."""
        return Claim.THE_HUB_SAYS if self.countersignature is None else Claim.THE_RECEIVER_SIGNED

    @property
    def encoded(self) -> bytes:
        """The receipt as it is hashed: a line per field, so that anybody can write it down again."""
        counter = self.countersignature
        lines = {
            "receipt": self.receipt_id,
            "hub": self.hub.code,
            "correlation-id": self.correlation_id,
            "from": self.from_party.code,
            "to": self.to_party.code,
            "module": self.module,
            "method": self.method,
            "sent-sha256": self.sent_sha256.hex(),
            "forwarded-sha256": self.forwarded_sha256.hex(),
            "request-signature": _hex(self.request_signature),
            "http-status": "-" if self.http_status is None else str(self.http_status),
            "ocpi-status": str(self.ocpi_status),
            "response-sha256": _hex(self.response_sha256),
            "at": _moment(self.at),
            "countersigned-by": "-" if counter is None else counter.key,
            "countersigned-base-sha256": "-" if counter is None else sha256(counter.base.encode()).hexdigest(),
            "countersignature": "-" if counter is None else counter.signature.hex(),
        }
        return _text("wattroam-delivery-receipt-v1", lines)

    @property
    def leaf(self) -> bytes:
        """Its hash, as the batch's tree has it."""
        return keccak256(LEAF_PREFIX + self.encoded)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptBatch:
    """What a hub signs: receipts that came together. `previous`: hash of the batch before; `number` counts from 1."""

    hub: PartyId
    number: int
    previous: bytes
    root: bytes
    count: int
    closed_at: datetime

    @property
    def signed_text(self) -> bytes:
        """What the hub signs."""
        lines = {
            "hub": self.hub.code,
            "number": str(self.number),
            "previous": self.previous.hex(),
            "root": self.root.hex(),
            "receipts": str(self.count),
            "closed-at": _moment(self.closed_at),
        }
        return _text("wattroam-delivery-receipt-batch-v1", lines)

    @property
    def leaf(self) -> bytes:
        """Its hash: a leaf of the day's tree, and what the next batch names."""
        return keccak256(LEAF_PREFIX + self.signed_text)


def receipts_tree(receipts: Sequence[DeliveryReceipt]) -> HashTree:
    """Return the tree of a batch."""
    return HashTree([each.leaf for each in receipts])


def day_tree(batches: Sequence[ReceiptBatch]) -> HashTree:
    """Return the tree of a day, over its batches in the order of their numbers."""
    return HashTree([each.leaf for each in batches])


def start_of(day: date) -> datetime:
    """Return when a UTC day begins; in unix seconds it is the anchor's period."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _hex(octets: bytes | None) -> str:
    return "-" if octets is None else octets.hex()


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _text(title: str, lines: dict[str, str]) -> bytes:
    """Return a title and a line per field. No value can hold a line end, or one field could pass for two."""
    text = "\n".join([title, *(f"{name}: {value}" for name, value in lines.items())])
    assert text.count("\n") == len(lines), f"a line end in {lines}"
    return text.encode()
