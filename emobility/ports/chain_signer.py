"""Signatures that a chain checks: secp256k1 over Keccak-256. Keys stay with whoever implements this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from emobility.domain.errors import Unavailable
from emobility.ports.chain import Fees


class SignerUnavailable(Unavailable):
    """Who keeps the key does not answer, or with something else than a signature of the account."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsignedTransaction:
    """A transaction as its sender means it. Settlement's money is a token: coins only pay for gas.

    Attributes:
        chain_id: On another chain its signature means nothing.
        nonce: How many transactions the sender sent before.
        gas_limit: Most gas that it may take.
        fees: What is offered for gas.
        to: The contract, 20 bytes; None makes one.
        calldata: The call, or the creation code with its arguments.
        coins_wei: What another account gets to pay for its gas, from whoever administers a chain of its own.
    """

    chain_id: int
    nonce: int
    gas_limit: int
    fees: Fees
    to: bytes | None
    calldata: bytes
    coins_wei: int = 0


class TransactionSigner(Protocol):
    """Signs transactions of one account. It has one sender, or two would take the same nonce.

    A key may be kept where only transactions can be signed (Web3Signer hashes what it signs itself).
    """

    @property
    def address(self) -> bytes:
        """The account, 20 bytes."""

    async def sign_transaction(self, transaction: UnsignedTransaction) -> bytes:
        """Return the signed transaction, raw.

        Raises:
            SignerUnavailable: who keeps the key does not answer, or not with this account's signature.
        """


class ChainSigner(TransactionSigner, Protocol):
    """Signs transactions and digests of one account."""

    async def sign_digest(self, digest: bytes) -> bytes:
        """Return the compact signature of an EIP-712 digest: 64 bytes r and vs (EIP-2098)."""
