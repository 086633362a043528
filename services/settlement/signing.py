"""Give transactions a nonce and bytes, or better bytes under the same nonce, and store them before anybody sees them.

Only the holder of the lease stores (`lease`), so a process that was asleep while another took over can't send anything
that the other does not know. The signer is asked outside of any unit of work, for it may be a machine elsewhere; what
it signed and nobody stored is never sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from emobility.domain.batch import contracts
from emobility.domain.batch.hashing import keccak256
from emobility.ports.chain_signer import TransactionSigner, UnsignedTransaction
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.eip1559 import read_raw_transaction
from services.settlement.access import ChainAccess
from services.settlement.cases import book_resolved_by
from services.settlement.crash_points import CrashPoint, Reached
from services.settlement.lease import Lease
from services.settlement.metrics import SettlementMetrics
from services.settlement.records import (
    ACCOUNT,
    PARTY,
    TRANSACTION,
    VARIANT,
    AccountRecord,
    SigningPolicy,
    TransactionKind,
    TransactionRecord,
    TransactionState,
    VariantRecord,
)
from services.settlement.spending import CapReached, Hold, outbidding

GAS_HEADROOM: Final = 5
"""A transaction may take this many quarters of what was estimated: others change the state in between."""
VARIANTS_MAX: Final = 64
"""Of one transaction; by then its offer has grown a thousandfold."""
ROLES: Final = {
    TransactionKind.PROPOSE: contracts.PROPOSER_ROLE,
    TransactionKind.SETTLE: contracts.PROPOSER_ROLE,
    TransactionKind.ANCHOR: contracts.ANCHOR_ROLE,
}
"""What the receiver must have granted to whoever sends. The rest anybody may send; of ours whoever may propose."""
ON_THEIR_WAY: Final = (TransactionState.SIGNED, TransactionState.SENT, TransactionState.MINED)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """Nothing was signed, and why, for people."""

    reason: str


@dataclass
class Signing:
    """Signs for the accounts that this process holds, within their caps."""

    ports: Ports
    access: ChainAccess
    lease: Lease
    metrics: SettlementMetrics
    reached: Reached
    _granted: set[tuple[bytes, bytes, bytes]] = field(default_factory=set)

    # Whose key

    async def signer_of(self, row: TransactionRecord) -> TransactionSigner | Waits:
        """Return who signs a queued transaction: the newest key that may, once the others' transactions are final.

        A gap is filled by the key whose nonce it is: its transactions wait for that, and do not become final before. A
        guarantee is called by the party's own account, for the book lets nobody else.
        """
        if row.kind in {TransactionKind.FILL, TransactionKind.GUARANTEE}:
            return await self._key_of(row.account) or Waits(reason="its key is not here any more")
        signers = await self.access.signers()
        chosen = signers[0]
        for signer in reversed(signers[1:]):
            if await self._may(signer, row):
                chosen = signer
                break
        async with self.ports.units.begin() as unit:
            for other in signers:
                if other is not chosen and await unit.table(TRANSACTION).count(
                    {"chain_id": row.chain_id, "account": other.address, "state": ON_THEIR_WAY}
                ):
                    return Waits(reason=f"the transactions of 0x{other.address.hex()}, whose key is being replaced")
        return chosen

    async def _may(self, signer: TransactionSigner, row: TransactionRecord) -> bool:
        granted_by: bytes | None = row.receiver
        if row.kind is TransactionKind.DISPUTE:
            async with self.ports.units.begin() as unit:
                granted_by = await book_resolved_by(unit, row.receiver)
        role = ROLES.get(row.kind, contracts.PROPOSER_ROLE)
        if granted_by is None:
            return False
        known = (granted_by, role, signer.address)
        if known not in self._granted:
            asked = contracts.HAS_ROLE.call(role, signer.address)
            (may,) = contracts.HAS_ROLE.answer(await self.access.chain.call(granted_by, asked))
            if not may:
                return False
            self._granted.add(known)
        return True

    async def _key_of(self, account: bytes) -> TransactionSigner | None:
        """Return who signs for an account, one that sends for all or a party's own; None: its key is not here."""
        senders = [each for each in await self.access.signers() if each.address == account]
        if senders:
            return senders[0]
        async with self.ports.units.begin() as unit:
            hosted = await unit.table(PARTY).select({"is_hosted": True, "signs": SigningPolicy.AUTOMATIC})
        return next((key for each in hosted if (key := self.access.signer_of(each.party_id)).address == account), None)

    # A nonce and bytes

    async def sign(self, row: TransactionRecord, signer: TransactionSigner, gas: int) -> TransactionRecord | Waits:
        """Give a queued transaction the lowest nonce that is free, and bytes.

        Raises:
            Fenced: another process sends by now.
            ChainUnavailable: the chain, or the signer, does not answer.
        """
        fees = await self.access.chain.fees()
        chain_next = await self.access.chain.nonce(signer.address, with_waiting=True)
        owned = replace(row, account=signer.address)
        async with self.ports.units.begin() as unit:
            nonce = await _free_nonce(unit, owned, chain_next)
        transaction = UnsignedTransaction(
            chain_id=row.chain_id,
            nonce=nonce,
            gas_limit=gas * GAS_HEADROOM // 4,
            fees=fees,
            to=row.receiver,
            calldata=row.calldata,
        )
        return await self._store(row, owned, signer, transaction, cost_wei=_cost_wei(transaction))

    async def replace(self, row: TransactionRecord, newest: VariantRecord, count: int) -> TransactionRecord | Waits:
        """Sign a transaction that waits too long once more, under the same nonce, with more to offer.

        Args:
            row: It.
            newest: What was signed last.
            count: How many variants there are.
        """
        signer = await self._key_of(row.account)
        if signer is None:
            return Waits(reason="it is stuck, and its key is not here any more")
        if count >= VARIANTS_MAX:
            return Waits(reason=f"it is stuck after {count} offers")
        before = read_raw_transaction(newest.raw).transaction
        after = replace(before, fees=outbidding(before.fees, await self.access.chain.fees()))
        more_wei = _cost_wei(after) - _cost_wei(before)
        signed = await self._store(row, row, signer, after, cost_wei=more_wei)
        if isinstance(signed, TransactionRecord):
            self.metrics.befell("replaced")
            _log.warning("settlement_transaction_replaced", transaction=row.transaction_id, variants=count + 1)
        return signed

    async def _store(
        self,
        before: TransactionRecord,
        owned: TransactionRecord,
        signer: TransactionSigner,
        transaction: UnsignedTransaction,
        *,
        cost_wei: int,
    ) -> TransactionRecord | Waits:
        """Have it signed if its account may, and store the bytes unless the row or its nonce has changed meanwhile."""
        try:
            self.access.caps.refuse_dear(transaction.fees)
            async with self.ports.units.begin() as unit:
                await self._charged(unit, owned, transaction, cost_wei)
            raw = await signer.sign_transaction(transaction)
            async with self.ports.units.begin() as unit:
                held = await self.lease.require(unit)
                if await unit.table(TRANSACTION).get_for_update(before.transaction_id) != before:
                    return Waits(reason=before.waiting or "another process")
                if before.nonce is None and await _is_taken(unit, owned, transaction.nonce):
                    return Waits(reason="another nonce")
                await unit.table(ACCOUNT).put(await self._charged(unit, owned, transaction, cost_wei))
                signed = replace(
                    owned,
                    state=TransactionState.SIGNED,
                    nonce=transaction.nonce,
                    raw=raw,
                    hash=keccak256(raw),
                    waiting=None,
                )
                await unit.table(TRANSACTION).put(signed)
                await unit.table(VARIANT).put(self._variant(signed, raw, transaction.nonce, held.fence))
                self.reached(CrashPoint.BYTES_SIGNED)
                await unit.commit()
        except CapReached as reached:
            self._hold(reached.hold)
            return Waits(reason=str(reached))
        self._hold(None)
        self.reached(CrashPoint.BYTES_STORED)
        return signed

    def _variant(self, row: TransactionRecord, raw: bytes, nonce: int, fence: int) -> VariantRecord:
        return VariantRecord(
            hash=keccak256(raw),
            transaction_id=row.transaction_id,
            chain_id=row.chain_id,
            account=row.account,
            nonce=nonce,
            raw=raw,
            fence=fence,
            signed_at=self.ports.clock.now(),
        )

    async def _charged(
        self, unit: UnitOfWork, row: TransactionRecord, transaction: UnsignedTransaction, cost_wei: int
    ) -> AccountRecord:
        """Return the account's row, locked, with this transaction on it. Raises `CapReached`."""
        found = await unit.table(ACCOUNT).get_for_update(row.chain_id, row.account)
        account = found or AccountRecord(chain_id=row.chain_id, account=row.account, next_nonce=0)
        account = replace(account, next_nonce=max(account.next_nonce, transaction.nonce + 1))
        return self.access.caps.charged(account, cost_wei=cost_wei, now=self.ports.clock.now())

    def _hold(self, hold: Hold | None) -> None:
        for each in Hold:
            self.metrics.held(each.value, is_held=each is hold)
        if hold is not None:
            _log.warning("settlement_signing_held", hold=hold.value)

    # Gaps

    async def fill(self, behind: TransactionRecord, chain_next: int) -> int:
        """Queue something for each nonce between the chain's next one and that of a transaction which waits behind.

        Return how many there were; transactions that are queued anyway take the lowest of them first.
        """
        assert behind.nonce is not None
        filled = 0
        async with self.ports.units.begin() as unit:
            await self.lease.require(unit)
            for nonce in range(chain_next, min(behind.nonce, chain_next + VARIANTS_MAX)):
                filler = filler_of(behind, nonce, self.ports)
                known = await unit.table(TRANSACTION).get_for_update(filler.transaction_id)
                if known is None and not await _is_taken(unit, behind, nonce):
                    await unit.table(TRANSACTION).put(filler)
                    filled += 1
            await unit.commit()
        if filled:
            self.metrics.befell("filled")
            _log.warning("settlement_gap_filled", first=chain_next, before=behind.nonce)
        return filled


async def variants_of(unit: UnitOfWork, row: TransactionRecord) -> Sequence[VariantRecord]:
    """Return all that was ever signed for a transaction, the newest last."""
    return await unit.table(VARIANT).select({"transaction_id": row.transaction_id}, order_by=("signed_at", "nonce"))


def filler_of(behind: TransactionRecord, nonce: int, ports: Ports) -> TransactionRecord:
    """Return a transaction that does nothing, for a nonce."""
    return TransactionRecord(
        transaction_id=f"fill/{behind.account.hex()}/{nonce}",
        kind=TransactionKind.FILL,
        batch_id=bytes(32),
        chain_id=behind.chain_id,
        account=behind.account,
        receiver=behind.account,
        calldata=b"",
        queued_at=ports.clock.now(),
    )


def nonce_of_filler(row: TransactionRecord) -> int:
    """Return the nonce for which a filler was queued."""
    return int(row.transaction_id.rpartition("/")[2])


async def _free_nonce(unit: UnitOfWork, row: TransactionRecord, chain_next: int) -> int:
    """Return the lowest nonce that neither the chain nor a row of ours has."""
    nonce = chain_next
    while await _is_taken(unit, row, nonce):
        nonce += 1
    return nonce


async def _is_taken(unit: UnitOfWork, row: TransactionRecord, nonce: int) -> bool:
    of_account = {"chain_id": row.chain_id, "account": row.account, "nonce": nonce}
    return await unit.table(TRANSACTION).count(of_account) > 0


def _cost_wei(transaction: UnsignedTransaction) -> int:
    return transaction.gas_limit * transaction.fees.max_fee_per_gas
