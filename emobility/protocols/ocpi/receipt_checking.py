"""Check a receipt of delivery from its document alone, offline: who says it, and that it can't have been made up later.

The hub's public key is the checker's to know, and so is the root on the chain; the document names both, but a document
that vouches for itself proves nothing.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from emobility.domain.batch.trees import Proof, proven_root
from emobility.domain.delivery_receipt import Claim, Countersignature, DeliveryReceipt, ReceiptBatch
from emobility.domain.errors import MalformedInput
from emobility.domain.identifiers import PartyId
from emobility.ports.party_keys import KeyAlgorithm
from emobility.protocols.ocpi.message_signatures import is_signature


class ReceiptFalse(MalformedInput):
    """Something in the document does not follow from the rest, or from what the checker knows."""


class _Counter(msgspec.Struct, frozen=True):
    key: str
    base: str
    signature: str


class _Receipt(msgspec.Struct, frozen=True):
    receipt_id: str
    hub: str
    correlation_id: str
    from_party: str
    to_party: str
    module: str
    method: str
    sent_sha256: str
    forwarded_sha256: str
    request_signature: str | None
    http_status: int | None
    ocpi_status: int
    response_sha256: str | None
    at: datetime
    countersignature: _Counter | None


class _Proof(msgspec.Struct, frozen=True):
    index: int
    count: int
    siblings: list[str]


class _Batch(msgspec.Struct, frozen=True):
    number: int
    previous: str
    root: str
    receipts: int
    closed_at: datetime
    signature: str


class _Day(msgspec.Struct, frozen=True):
    starts_at: datetime
    root: str
    proof: _Proof


class _Document(msgspec.Struct, frozen=True):
    receipt: _Receipt
    batch: _Batch | None
    proof: _Proof | None = None
    day: _Day | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedReceipt:
    """What a document proves.

    Attributes:
        claim: Whose word it is: of the receiver only if its key was given and its signature names this answer.
        day_starts_at, day_root: What should stand in `RootAnchor` for the hub; None: the day is not over.
        is_anchored: The root that was given is the day's.
    """

    receipt: DeliveryReceipt
    claim: Claim
    day_starts_at: datetime | None
    day_root: bytes | None
    is_anchored: bool


def check_receipt(
    document: bytes | dict[str, Any],
    *,
    hub_key: bytes,
    receiver_key: tuple[KeyAlgorithm, bytes] | None = None,
    root_on_chain: bytes | None = None,
) -> CheckedReceipt:
    """Check all that a document states.

    Args:
        document: JSON as the hub gives it.
        hub_key: The hub's Ed25519 key, 32 bytes, from somebody who knows.
        receiver_key: The receiver's, likewise; without it, its countersignature proves nothing.
        root_on_chain: `RootAnchor.rootOf(kind, party, period)`, from a node that one trusts.

    Raises:
        ReceiptFalse: it is not bound by a batch, or something does not follow.
    """
    try:
        read = (
            msgspec.json.decode(document, type=_Document)
            if isinstance(document, bytes)
            else msgspec.convert(document, _Document)
        )
        receipt = _receipt(read.receipt)
        if read.batch is None or read.proof is None:
            raise ReceiptFalse("it is not signed yet")
        batch = _bound(receipt, read.batch, read.proof)
        if not is_signature(
            bytes.fromhex(read.batch.signature),
            batch.signed_text,
            algorithm=KeyAlgorithm.ED25519,
            public_key=hub_key,
        ):
            raise ReceiptFalse("the batch is not what the holder of the hub's key signed")
        day_root = None if read.day is None else _day_root(batch, read.day)
    except (msgspec.MsgspecError, ValueError, AssertionError) as error:
        raise ReceiptFalse(f"the document is malformed: {error}") from error
    if root_on_chain is not None and root_on_chain != day_root:
        raise ReceiptFalse("another root stands on the chain")
    return CheckedReceipt(
        receipt=receipt,
        claim=_claim(receipt, receiver_key),
        day_starts_at=read.day.starts_at if read.day else None,
        day_root=day_root,
        is_anchored=root_on_chain is not None,
    )


def _receipt(read: _Receipt) -> DeliveryReceipt:
    counter = read.countersignature
    return DeliveryReceipt(
        receipt_id=read.receipt_id,
        hub=PartyId(read.hub),
        correlation_id=read.correlation_id,
        from_party=PartyId(read.from_party),
        to_party=PartyId(read.to_party),
        module=read.module,
        method=read.method,
        sent_sha256=bytes.fromhex(read.sent_sha256),
        forwarded_sha256=bytes.fromhex(read.forwarded_sha256),
        request_signature=None if read.request_signature is None else bytes.fromhex(read.request_signature),
        http_status=read.http_status,
        ocpi_status=read.ocpi_status,
        response_sha256=None if read.response_sha256 is None else bytes.fromhex(read.response_sha256),
        at=read.at,
        countersignature=None
        if counter is None
        else Countersignature(key=counter.key, base=counter.base, signature=bytes.fromhex(counter.signature)),
    )


def _bound(receipt: DeliveryReceipt, read: _Batch, proof: _Proof) -> ReceiptBatch:
    if proof.count != read.receipts or proven_root(receipt.leaf, _path(proof)) != bytes.fromhex(read.root):
        raise ReceiptFalse("the batch does not hold this receipt")
    return ReceiptBatch(
        hub=receipt.hub,
        number=read.number,
        previous=bytes.fromhex(read.previous),
        root=bytes.fromhex(read.root),
        count=read.receipts,
        closed_at=read.closed_at,
    )


def _day_root(batch: ReceiptBatch, day: _Day) -> bytes:
    root = proven_root(batch.leaf, _path(day.proof))
    if root != bytes.fromhex(day.root):
        raise ReceiptFalse("the day does not hold this batch")
    return root


def _path(proof: _Proof) -> Proof:
    return Proof(index=proof.index, count=proof.count, siblings=tuple(bytes.fromhex(each) for each in proof.siblings))


def _claim(receipt: DeliveryReceipt, key: tuple[KeyAlgorithm, bytes] | None) -> Claim:
    """Return whose word it is. Raises `ReceiptFalse` for a countersignature that is not the receiver's to this."""
    counter = receipt.countersignature
    if counter is None or key is None:
        return Claim.THE_HUB_SAYS
    algorithm, public_key = key
    if not is_signature(counter.signature, counter.base.encode(), algorithm=algorithm, public_key=public_key):
        raise ReceiptFalse("the countersignature is not what the holder of the receiver's key signed")
    stated = {line.partition(": ")[0]: line.partition(": ")[2] for line in counter.base.split("\n")}
    if counter.key.partition("/")[0] != receipt.to_party.code or stated.get('"@status"') != str(receipt.http_status):
        raise ReceiptFalse("the countersignature is another party's, or of another answer")
    request = stated.get('"signature";key="ocpi";req') or stated.get('"signature";req;key="ocpi"')
    digest = stated.get('"content-digest"', "")
    if "sha-256=" not in digest:
        return Claim.THE_HUB_SAYS  # it names the answer by another hash than the receipt does
    if not _names(digest, receipt.response_sha256) or not _names(request or "", receipt.request_signature):
        raise ReceiptFalse("the countersignature is of another answer, or to another request")
    return Claim.THE_RECEIVER_SIGNED


def _names(field: str, octets: bytes | None) -> bool:
    """Tell whether a structured field holds these bytes."""
    return octets is not None and f":{base64.b64encode(octets).decode()}:" in field
