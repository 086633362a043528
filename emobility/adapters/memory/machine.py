"""Contracts in Python, carried out over a state that somebody else keeps: a chain in memory, a ledger's replica."""

from __future__ import annotations

from collections.abc import Callable, Hashable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from emobility.adapters.chain_signing import recovered_address
from emobility.domain.batch.hashing import keccak256
from emobility.ports.chain import TransactionNotTaken
from emobility.ports.chain_signer import UnsignedTransaction
from emobility.protocols.eip1559 import MalformedTransaction, read_raw_transaction, signing_hash

NOBODY: Final = bytes(20)
State: TypeAlias = MutableMapping[Hashable, Any]
"""What contracts store. Values are never changed in place, and None stands for nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A transaction that was handed over."""

    hash: bytes
    sender: bytes
    transaction: UnsignedTransaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a contract is called with. `is_creation`: `to` is the address of the contract that `calldata` makes."""

    sender: bytes
    to: bytes
    calldata: bytes
    is_creation: bool
    chain_id: int
    timestamp_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a call: the answer (of a creation: the code) and events, each contract, topics and data."""

    returned: bytes = b""
    logs: tuple[tuple[bytes, tuple[bytes, ...], bytes], ...] = ()


Execute: TypeAlias = Callable[[Call, State], Outcome]
"""Carries out a call. Raises `CallReverted`; then nothing that it wrote counts."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Carries out calls under one chain id."""

    execute: Execute
    chain_id: int

    def carry_out(
        self, state: State, sender: bytes, to: bytes | None, calldata: bytes, *, made: bytes | None, timestamp_s: int
    ) -> Outcome:
        """Carry out a transaction to a contract (`to`) or one that makes a contract (`made`). Raises `CallReverted`."""
        if made is not None:
            outcome = self._executed(state, sender, made, calldata, timestamp_s, is_creation=True)
            state["code", made] = outcome.returned
            return outcome
        if to is None or not code_of(to, state):
            return Outcome()
        return self._executed(state, sender, to, calldata, timestamp_s)

    def answer(self, state: State, to: bytes, calldata: bytes, *, timestamp_s: int) -> bytes:
        """Return what a contract answers to nobody in particular. Raises `CallReverted`."""
        if not code_of(to, state):
            return b""
        return self._executed(state, NOBODY, to, calldata, timestamp_s).returned

    def _executed(
        self, state: State, sender: bytes, to: bytes, calldata: bytes, timestamp_s: int, *, is_creation: bool = False
    ) -> Outcome:
        call = Call(
            sender=sender,
            to=to,
            calldata=calldata,
            is_creation=is_creation,
            chain_id=self.chain_id,
            timestamp_s=timestamp_s,
        )
        return self.execute(call, state)


def code_of(address: bytes, state: State) -> bytes:
    """Return a contract's code; empty where there is none."""
    return state.get(("code", address)) or b""


def read_call(raw: bytes, chain_id: int) -> Sent:
    """Read a signed transaction of this chain. Raises `TransactionNotTaken` in the words of real nodes."""
    try:
        signed = read_raw_transaction(raw)
    except MalformedTransaction as error:
        raise TransactionNotTaken(f"rlp: {error}") from error
    sender = recovered_address(signing_hash(signed.transaction), signed.signature)
    if sender is None:
        raise TransactionNotTaken("invalid sender")
    if signed.transaction.chain_id != chain_id:
        raise TransactionNotTaken("invalid chain id for signer")
    return Sent(hash=keccak256(raw), sender=sender, transaction=signed.transaction)


def topics_match(topics: Sequence[bytes], asked: Sequence[bytes | None]) -> bool:
    """Tell whether an event's topics begin with those that are asked for; None stands for any."""
    return len(topics) >= len(asked) and all(
        want is None or want == topic for want, topic in zip(asked, topics, strict=False)
    )
