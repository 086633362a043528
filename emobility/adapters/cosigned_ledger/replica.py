"""What follows from a ledger's entries: carried out one by one by the contracts in Python, and checked on the way.

Whoever has the entries has everything: balances, agreements, final statements. A replica believes no entry for its
being there; it carries out each call itself, so that an operator can write nothing that the contracts refuse.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from emobility.adapters.chain_signing import recovered_address
from emobility.adapters.memory.contracts import settlement_contracts_in_python
from emobility.adapters.memory.machine import NOBODY, Machine, Outcome, Sent, code_of, read_call, topics_match
from emobility.domain.cosigned_ledger import (
    Countersignature,
    Head,
    LedgerEntry,
    entry_hash,
    ledger_id,
    operator_of,
    outcome_hash,
)
from emobility.domain.errors import MalformedInput
from emobility.ports.chain import (
    Block,
    CallReverted,
    ChainTransaction,
    ChainUnavailable,
    Log,
    TransactionNotTaken,
    TransactionReceipt,
)
from emobility.ports.chain_signer import UnsignedTransaction
from emobility.protocols.eip1559 import created_address


class LedgerBroken(MalformedInput):
    """An entry does not follow from those before it: it was changed, or written by a rule that is not the contracts'.

    `number`: which one.
    """

    def __init__(self, number: int, reason: str) -> None:
        self.number = number
        self.reason = reason
        super().__init__(f"entry {number} of the ledger is broken: {reason}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entered:
    """An entry and what came of it. `replaced`: what stood in the contracts' storage before, where it wrote."""

    entry: LedgerEntry
    sender: bytes = NOBODY
    transaction: UnsignedTransaction | None = None
    receipt: TransactionReceipt | None = None
    replaced: dict[Hashable, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An entry that nobody signed yet, and what it would do."""

    entry: LedgerEntry
    sent: Sent
    written: dict[Hashable, Any]
    outcome: Outcome | None
    made: bytes | None


class Replica:
    """Entries from the beginning on, the state that they lead to, and each state on the way."""

    def __init__(self, first: LedgerEntry) -> None:
        """Begin with entry 0. Raises `LedgerBroken`, `MalformedBeginning`."""
        self.operator: Final = operator_of(first.raw)
        self.ledger_id: Final = ledger_id(first.raw)
        self._machine: Final = Machine(settlement_contracts_in_python(), self.ledger_id)
        self._state: dict[Hashable, Any] = {}
        self._by_hash: dict[bytes, int] = {}
        self._entered: list[Entered] = []
        self._countersigned: dict[bytes, Countersignature] = {}
        nothing, timestamp_s = bytes(32), first.timestamp_s
        if first.number or timestamp_s < 0 or first.parent_hash != nothing or first.outcome != nothing:
            raise LedgerBroken(first.number, "it is no beginning")
        if first.hash != entry_hash(
            number=0, parent_hash=nothing, timestamp_s=timestamp_s, raw=first.raw, outcome=nothing
        ):
            raise LedgerBroken(0, "it has another hash")
        self._refuse_unsigned(first)
        self._entered.append(Entered(entry=first))

    # Entering

    def enter(self, entry: LedgerEntry) -> None:
        """Carry out the next entry. Raises `LedgerBroken`."""
        head = self.head
        if (entry.number, entry.parent_hash) != (head.number + 1, head.hash):
            raise LedgerBroken(entry.number, f"it does not follow entry {head.number}")
        if entry.timestamp_s <= head.timestamp_s:
            raise LedgerBroken(entry.number, "it is older than the one before")
        try:
            draft = self.draft(entry.raw, timestamp_s=entry.timestamp_s)
        except TransactionNotTaken as refusal:
            raise LedgerBroken(entry.number, refusal.reason) from refusal
        if draft.entry.outcome != entry.outcome:
            if draft.sent.transaction.to is None and draft.outcome is None:
                raise LedgerBroken(entry.number, "it makes a contract whose rules this version does not know")
            raise LedgerBroken(entry.number, "another outcome is written than the contracts give")
        if draft.entry.hash != entry.hash:
            raise LedgerBroken(entry.number, "it has another hash")
        self._refuse_unsigned(entry)
        self.conclude(draft, entry.signature)

    def draft(self, raw: bytes, *, timestamp_s: int) -> Draft:
        """Return the entry that a signed call would make now. Raises `TransactionNotTaken`."""
        sent, head = self._taken(raw), self.head
        timestamp_s = max(timestamp_s, head.timestamp_s + 1)
        transaction = sent.transaction
        made = created_address(sent.sender, transaction.nonce) if transaction.to is None else None
        written: dict[Hashable, Any] = {}
        outcome: Outcome | None
        try:
            state, (to, calldata) = ChainMap(written, self._state), (transaction.to, transaction.calldata)
            outcome = self._machine.carry_out(state, sent.sender, to, calldata, made=made, timestamp_s=timestamp_s)
        except CallReverted:
            outcome = None
            written = {}
        written["nonce", sent.sender] = transaction.nonce + 1
        result = outcome_hash(has_succeeded=outcome is not None, told=() if outcome is None else outcome.logs)
        hash_ = entry_hash(
            number=head.number + 1, parent_hash=head.hash, timestamp_s=timestamp_s, raw=raw, outcome=result
        )
        entry = LedgerEntry(
            number=head.number + 1,
            hash=hash_,
            parent_hash=head.hash,
            timestamp_s=timestamp_s,
            raw=raw,
            outcome=result,
            signature=b"",
        )
        return Draft(entry=entry, sent=sent, written=written, outcome=outcome, made=made)

    def conclude(self, draft: Draft, signature: bytes) -> None:
        """Take a draft of the present head in, with the operator's signature."""
        assert draft.entry.parent_hash == self.head.hash, (draft.entry.number, self.head.number)
        entry = replace(draft.entry, signature=signature)
        replaced = {key: self._state.get(key) for key in draft.written}
        self._state.update(draft.written)
        self._by_hash[draft.sent.hash] = entry.number
        self._entered.append(
            Entered(
                entry=entry,
                sender=draft.sent.sender,
                transaction=draft.sent.transaction,
                receipt=_receipt(entry, draft),
                replaced=replaced,
            )
        )

    def estimate(self, sender: bytes, to: bytes | None, calldata: bytes, *, timestamp_s: int) -> None:
        """Try a call. Raises `CallReverted`."""
        made = created_address(sender, self.nonce(sender)) if to is None else None
        timestamp_s = max(timestamp_s, self.head.timestamp_s + 1)
        self._machine.carry_out(ChainMap({}, self._state), sender, to, calldata, made=made, timestamp_s=timestamp_s)

    # Countersignatures

    def countersigned(self, given: Countersignature) -> None:
        """Take a signature of a head that this ledger has; an older one than is known changes nothing.

        Raises:
            LedgerBroken: its head is not one of this ledger, or it is not the signer's.
        """
        known = self._countersigned.get(given.signer)
        if known == given:
            return
        self.refuse_foreign(given)
        if known is None or known.number < given.number:
            self._countersigned[given.signer] = given

    def refuse_foreign(self, given: Countersignature) -> None:
        """Raise `LedgerBroken` where a signature's head is not one of this ledger, or it is not the signer's."""
        entry = self._entered[given.number].entry if 0 <= given.number < len(self._entered) else None
        if entry is None or entry.hash != given.hash:
            raise LedgerBroken(given.number, f"0x{given.signer.hex()} countersigned another one")
        digest = Head(ledger_id=self.ledger_id, number=given.number, hash=given.hash, signature=b"").digest
        if recovered_address(digest, given.signature) != given.signer:
            raise LedgerBroken(given.number, f"a countersignature is not that of 0x{given.signer.hex()}")

    @property
    def countersignatures(self) -> list[Countersignature]:
        """Each signer's newest."""
        return [self._countersigned[each] for each in sorted(self._countersigned)]

    # Reading

    @property
    def head(self) -> LedgerEntry:
        """The newest entry."""
        return self._entered[-1].entry

    @property
    def entries(self) -> Sequence[Entered]:
        """All of them, with what came of each."""
        return self._entered

    def heads(self) -> list[Head]:
        """Return the head that each entry made, by the operator's word."""
        return [Head.of(self.ledger_id, each.entry) for each in self._entered]

    def block(self, number: int) -> Block | None:
        """Return an entry as whoever follows a chain sees it."""
        if not 0 <= number < len(self._entered):
            return None
        entry = self._entered[number].entry
        return Block(number=entry.number, hash=entry.hash, parent_hash=entry.parent_hash, timestamp_s=entry.timestamp_s)

    def code(self, address: bytes) -> bytes:
        """Return a contract's code; empty where there is none."""
        return code_of(address, self._state)

    def nonce(self, account: bytes) -> int:
        """Return how many calls of an account are entered."""
        return self._state.get(("nonce", account)) or 0

    def call(self, to: bytes, calldata: bytes, *, at: int | None) -> bytes:
        """Return what a contract answers, after entry `at` or the newest. Raises `CallReverted`, `ChainUnavailable`."""
        number = self.head.number if at is None else at
        if not 0 <= number <= self.head.number:
            raise ChainUnavailable(f"there is no entry {number} yet")
        # A later entry's record of what it replaced is what stood before it.
        later = (each.replaced for each in self._entered[number + 1 :])
        state = ChainMap[Hashable, Any]({}, *later, self._state)
        return self._machine.answer(state, to, calldata, timestamp_s=self._entered[number].entry.timestamp_s)

    def transaction(self, transaction_hash: bytes) -> ChainTransaction | None:
        """Return the call that was entered under this hash; None: there is none."""
        number = self._by_hash.get(transaction_hash)
        if number is None:
            return None
        found = self._entered[number]
        assert found.transaction is not None
        return ChainTransaction(
            sender=found.sender,
            to=found.transaction.to,
            nonce=found.transaction.nonce,
            calldata=found.transaction.calldata,
            block_hash=found.entry.hash,
        )

    def receipt(self, transaction_hash: bytes) -> TransactionReceipt | None:
        """Return what came of a call; None: there is none."""
        number = self._by_hash.get(transaction_hash)
        return None if number is None else self._entered[number].receipt

    def logs(self, address: bytes, topics: Sequence[bytes | None], *, first: int, last: int) -> list[Log]:
        """Return a contract's events in these entries, both included, in order."""
        return [
            log
            for entered in self._entered[first : last + 1]
            if entered.receipt is not None
            for log in entered.receipt.logs
            if log.address == address and topics_match(log.topics, topics)
        ]

    # Parts

    def _refuse_unsigned(self, entry: LedgerEntry) -> None:
        if recovered_address(Head.of(self.ledger_id, entry).digest, entry.signature) != self.operator:
            raise LedgerBroken(entry.number, "its operator did not sign it")

    def _taken(self, raw: bytes) -> Sent:
        """Return a call that can be entered next. Raises `TransactionNotTaken` in the words of real nodes."""
        sent = read_call(raw, self.ledger_id)
        nonce, next_nonce = sent.transaction.nonce, self.nonce(sent.sender)
        if nonce < next_nonce:
            raise TransactionNotTaken("nonce too low")
        if nonce > next_nonce:
            raise TransactionNotTaken("nonce too high: nothing waits on a ledger")
        return sent


def _receipt(entry: LedgerEntry, draft: Draft) -> TransactionReceipt:
    transaction_hash = draft.sent.hash
    logs = () if draft.outcome is None else draft.outcome.logs
    return TransactionReceipt(
        transaction_hash=transaction_hash,
        block_number=entry.number,
        block_hash=entry.hash,
        has_succeeded=draft.outcome is not None,
        gas_used=0,
        contract_address=draft.made,
        logs=tuple(
            Log(
                address=address,
                topics=topics,
                data=data,
                block_number=entry.number,
                block_hash=entry.hash,
                transaction_hash=transaction_hash,
                index=place,
            )
            for place, (address, topics, data) in enumerate(logs)
        ),
    )
