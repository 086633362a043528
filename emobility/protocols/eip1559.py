"""The raw form of a transaction: EIP-1559 (type 2) in RLP, written and read.

Reading accepts nothing but the form that writing gives, so that a transaction has one hash.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from emobility.domain.batch.hashing import keccak256
from emobility.domain.errors import MalformedInput
from emobility.ports.chain import Fees
from emobility.ports.chain_signer import UnsignedTransaction

RAW_BYTES_MAX: Final = 128 * 1024
"""What nodes take: geth's pool refuses more."""
COMPACT_SIGNATURE_BYTES: Final = 64
_TYPE: Final = b"\x02"
_FIELDS: Final = 12
_DEPTH_MAX: Final = 3
_S_BITS: Final = 255
"""EIP-2098 keeps the parity of y in the bit above s, which a canonical s never needs."""
Item: TypeAlias = "bytes | Sequence[Item]"


class MalformedTransaction(MalformedInput):
    """A raw transaction is of type 2, in canonical RLP, without an access list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedTransaction:
    """A transaction and its compact signature."""

    transaction: UnsignedTransaction
    signature: bytes


def signing_hash(transaction: UnsignedTransaction) -> bytes:
    """Return what the sender signs."""
    return keccak256(signing_bytes(transaction))


def signing_bytes(transaction: UnsignedTransaction) -> bytes:
    """Return what is hashed to be signed."""
    return _TYPE + rlp(_fields(transaction))


def raw_transaction(signed: SignedTransaction) -> bytes:
    """Return the bytes that a node takes; their Keccak-256 is the transaction's hash."""
    r, vs = signed.signature[:32], int.from_bytes(signed.signature[32:], "big")
    parity, s = vs >> _S_BITS, vs & (1 << _S_BITS) - 1
    return _TYPE + rlp((*_fields(signed.transaction), _number(parity), r.lstrip(b"\0"), _number(s)))


def read_raw_transaction(raw: bytes) -> SignedTransaction:
    """Read what `raw_transaction` wrote. Raises `MalformedTransaction`."""
    if len(raw) > RAW_BYTES_MAX or raw[:1] != _TYPE:
        raise MalformedTransaction("it is too long or of another type")
    fields = read_rlp(raw[1:])
    if isinstance(fields, bytes) or len(fields) != _FIELDS:
        raise MalformedTransaction(f"it has not {_FIELDS} fields")
    chain_id, nonce, priority_fee, fee, gas_limit, to, value, calldata, access_list, parity, r, s = fields
    words = (chain_id, nonce, priority_fee, fee, gas_limit, to, value, calldata, parity, r, s)
    if any(not isinstance(word, bytes) for word in words) or access_list:
        raise MalformedTransaction("it has an access list, or a field is of another kind")
    vs = _read_number(parity) << _S_BITS | _read_number(s)
    signed = SignedTransaction(
        transaction=UnsignedTransaction(
            chain_id=_read_number(chain_id),
            nonce=_read_number(nonce),
            gas_limit=_read_number(gas_limit),
            fees=Fees(max_fee_per_gas=_read_number(fee), max_priority_fee_per_gas=_read_number(priority_fee)),
            to=_read_address(to),
            calldata=bytes(calldata),  # type: ignore[arg-type]  # bytes, as was seen above
            coins_wei=_read_number(value),
        ),
        signature=_word(_read_number(r)) + _word(vs),
    )
    if raw_transaction(signed) != raw:
        raise MalformedTransaction("it is not in canonical form")
    return signed


def created_address(sender: bytes, nonce: int) -> bytes:
    """Return the address of the contract that the sender's transaction with this nonce makes."""
    return keccak256(rlp((sender, _number(nonce))))[12:]


def rlp(item: Item) -> bytes:
    """Return an item, bytes or a list of items, in RLP."""
    if isinstance(item, bytes):
        if len(item) == 1 and item[0] < 0x80:
            return item
        return _headed(0x80, item)
    return _headed(0xC0, b"".join(map(rlp, item)))


def read_rlp(encoded: bytes) -> Item:
    """Read one item that fills all of `encoded`. Raises `MalformedTransaction`."""
    item, end = _read_item(encoded, 0, depth=0)
    if end != len(encoded):
        raise MalformedTransaction("bytes follow its end")
    return item


def _fields(transaction: UnsignedTransaction) -> tuple[Item, ...]:
    fees = transaction.fees
    return (
        *map(_number, (transaction.chain_id, transaction.nonce)),
        *map(_number, (fees.max_priority_fee_per_gas, fees.max_fee_per_gas, transaction.gas_limit)),
        transaction.to or b"",
        _number(transaction.coins_wei),
        transaction.calldata,
        (),  # access list
    )


def _headed(first: int, payload: bytes) -> bytes:
    if len(payload) < 56:
        return bytes([first + len(payload)]) + payload
    length = _number(len(payload))
    return bytes([first + 55 + len(length)]) + length + payload


def _read_item(encoded: bytes, at: int, *, depth: int) -> tuple[Item, int]:
    if at >= len(encoded) or depth > _DEPTH_MAX:
        raise MalformedTransaction("it ends too early or is nested too deeply")
    first = encoded[at]
    if first < 0x80:
        return encoded[at : at + 1], at + 1
    is_list = first >= 0xC0
    length, start = first - (0xC0 if is_list else 0x80), at + 1
    if length > 55:
        length_bytes = length - 55
        length, start = _read_number(encoded[start : start + length_bytes]), start + length_bytes
    end = start + length
    if end > len(encoded):
        raise MalformedTransaction("it ends too early")
    if not is_list:
        return encoded[start:end], end
    items: list[Item] = []
    while start < end:
        item, start = _read_item(encoded[:end], start, depth=depth + 1)
        items.append(item)
    return items, end


def _number(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def _read_number(item: Item) -> int:
    if not isinstance(item, bytes) or len(item) > 32:
        raise MalformedTransaction("a number has more than 32 bytes")
    return int.from_bytes(item, "big")


def _read_address(item: Item) -> bytes | None:
    if not isinstance(item, bytes) or len(item) not in {0, 20}:
        raise MalformedTransaction("an address has not 20 bytes")
    return item or None


def _word(number: int) -> bytes:
    if number >= 1 << 256:
        raise MalformedTransaction("its signature is out of range")
    return number.to_bytes(32, "big")
