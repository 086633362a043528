"""Rows of the settlement. What belongs to a pair begins with its CPO and names its MSP, who alone may see it.

Batches and transactions are the proposer's own and hold nothing but hashes, bits and bytes that stand on chain anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from emobility.domain.agreement import RoamingAgreement, SettlementMode
from emobility.domain.identifiers import PartyId
from emobility.domain.personal import Sealed
from emobility.events.settlement import StatementName
from emobility.ports.stores import TableSpec
from services.settlement.deployment import Deployment


class SigningPolicy(StrEnum):
    """How a party signs."""

    AUTOMATIC = "AUTOMATIC"
    """We hold its key; what our own books say is signed at once."""
    BY_API = "BY_API"
    """It holds its key itself, looks at each statement, and hands its signature in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledParty:
    """A party that settles. `is_hosted`: its books and its key are ours to keep, whoever says when it signs.

    `number`: its number in the registry; None: not registered yet, as far as we know.
    """

    party_id: PartyId
    is_hosted: bool
    signs: SigningPolicy
    number: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PairAgreement:
    """A pair's agreement through all versions.

    Attributes:
        agreement_id: Its parties' own name of it; if another MSP's has the same, with the MSP behind it.
        pair_secret: Hides CDR ids in the trees (`domain/batch/leaf.cdr_key_of`), hex; the two parties know it.
        terms: The newest version that is signed by both; None: CDRs came first.
    """

    cpo_id: PartyId
    agreement_id: str
    emsp_id: PartyId
    pair_secret: Sealed
    terms: RoamingAgreement | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """An agreement as it stands in a book: a version that changes currency, mode or limit is opened anew.

    Attributes:
        credit_limit_e4: In ten-thousandths of `currency`; 0 under PREFUNDED.
        payment_terms_d: Days that the MSP has to pay before its guarantee is called; else 0.
        document: SHA-256 of the version under which it is opened (`domain/agreement.document_hash`).
        deadline: Until when it can be opened, and `number`, which of the pair's agreements in the book it is: part of
            what is signed, so both are stored before.
        book_agreement: Its key in the book; None: not open yet.
        waiting: Why not.
        last_sequence: Of the last statement that was closed under it.
        closed_until: Until when CDRs of its currency are in statements; later ones go into the next, whenever the
            charge was.
    """

    cpo_id: PartyId
    agreement_id: str
    version: int
    emsp_id: PartyId
    currency: str
    mode: SettlementMode
    credit_limit_e4: int
    document: bytes
    payment_terms_d: int
    number: int | None
    deadline: datetime | None
    book_agreement: bytes | None
    waiting: str | None
    last_sequence: int
    closed_until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafRecord:
    """An accepted CDR, once and for ever; `domain/batch/leaf` says what its numbers mean.

    `version` and `sequence` name the statement that it stands in, `place` its place there; None: in none yet.
    """

    cpo_id: PartyId
    cdr_id: str
    emsp_id: PartyId
    agreement_id: str
    session_id: str
    currency: str
    is_credit: bool
    credit_reference_id: str | None
    ended_at: datetime
    accepted_at: datetime
    cdr_key: bytes
    import_wh: int
    export_wh: int
    commitment: bytes
    meter: bytes
    due_e4: int
    credit_e4: int
    version: int | None
    sequence: int | None
    place: int | None


class StatementState(StrEnum):
    """Life of a statement."""

    CLOSED = "CLOSED"
    """Counted and bound; it waits for signatures, or for its turn."""
    PROPOSED = "PROPOSED"
    """In a batch with both signatures, or one after the other side's time to sign, on its way into the chain."""
    RIPENING = "RIPENING"
    """In the book with one side's signature: it counts as accepted when the window ends."""
    CHALLENGED = "CHALLENGED"
    """Contested by the side that had not signed; it waits for a verdict."""
    VOID = "VOID"
    """Taken out by a verdict: its parties state it anew."""
    UNFUNDED = "UNFUNDED"
    """Accepted by both, and the payer lacks cover."""
    FINAL = "FINAL"


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementRecord:
    """What a pair says of a period; amounts in ten-thousandths of `currency`.

    Attributes:
        statement_hash: EIP-712 struct hash; names the statement to its parties.
        batch_id: The batch it is in, and `position` its place there.
        waiting: What it waits for, for people.
    """

    cpo_id: PartyId
    agreement_id: str
    version: int
    sequence: int
    emsp_id: PartyId
    currency: str
    state: StatementState
    statement_hash: bytes
    book_agreement: bytes
    evidence_root: bytes
    sum_root: bytes
    due_e4: int
    credit_e4: int
    count: int
    period_start: datetime
    period_end: datetime
    closed_at: datetime
    batch_id: bytes | None
    position: int | None
    waiting: str | None
    final_at: datetime | None


class BatchState(StrEnum):
    """Life of a batch."""

    COLLECTING = "COLLECTING"
    """It waits for its parties' signatures."""
    SENDING = "SENDING"
    """All signed, or one side of each pair in time; its proposal is queued or on its way."""
    FINAL = "FINAL"
    """Its proposal is in a final block; what became of each statement stands with the statement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRecord:
    """Statements that are proposed together, each at its position; `proposed_in`: hash of the transaction."""

    batch_id: bytes
    currency: str
    chain_id: int
    book: bytes
    pairs_hash: bytes
    statements: tuple[StatementName, ...]
    state: BatchState
    waiting: str | None
    proposed_in: bytes | None
    formed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptanceRecord:
    """A party's signature over its statements of a batch; `pairs`: 32 bytes, bit i for the statement at i."""

    batch_id: bytes
    party_id: PartyId
    number: int
    pairs: bytes
    signature: bytes
    signed_at: datetime


class TransactionKind(StrEnum):
    """What a transaction does."""

    PROPOSE = "PROPOSE"
    FUND = "FUND"
    """Try again to make final what lacked cover, or a signature until the window ended."""
    ACCEPT = "ACCEPT"
    """Add a signature that came after the proposal."""
    OPEN = "OPEN"
    """Open an agreement that both signed (`agreement_words`), on a chain that others administer."""
    DISCHARGE = "DISCHARGE"
    """Tell a book what a bank moved (`discharging`); its `batch_id` names the agreement there."""
    SETTLE = "SETTLE"
    """Settle a confidential batch (`confidential`), which its `batch_id` names."""
    ANCHOR = "ANCHOR"
    """Record a root that somebody asked for (`anchoring`); its `batch_id` names the root."""
    DISPUTE = "DISPUTE"
    """Contest a CDR, or bring its case on (`disputing`); its `batch_id` names the case."""
    GUARANTEE = "GUARANTEE"
    """Take what is overdue out of a guarantee (`guarantees`), sent by its CPO's own account; its `batch_id` names the
    agreement."""
    FILL = "FILL"
    """Do nothing, to oneself: it takes a nonce that nothing else will, so that those behind it can go."""


class TransactionState(StrEnum):
    """Life of a transaction. When blocks are gone it goes back to SENT, and the same bytes are sent again."""

    QUEUED = "QUEUED"
    SIGNED = "SIGNED"
    """Its bytes and nonce are stored; nothing was sent before."""
    SENT = "SENT"
    MINED = "MINED"
    FINAL = "FINAL"


IN_FLIGHT: Final = (
    TransactionState.QUEUED,
    TransactionState.SIGNED,
    TransactionState.SENT,
    TransactionState.MINED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionRecord:
    """A call of a contract on its way into the chain, queued at first; `waiting`: what it waits for, for people."""

    transaction_id: str
    kind: TransactionKind
    batch_id: bytes
    chain_id: int
    account: bytes
    receiver: bytes
    calldata: bytes
    state: TransactionState = TransactionState.QUEUED
    nonce: int | None = None
    raw: bytes | None = None
    hash: bytes | None = None
    block_number: int | None = None
    block_hash: bytes | None = None
    gas_used: int | None = None
    waiting: str | None = None
    queued_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantRecord:
    """A transaction as it was signed once: with the same nonce and another offer there may be more; one is mined.

    `fence`: under which lease it was signed (`lease`).
    """

    hash: bytes
    transaction_id: str
    chain_id: int
    account: bytes
    nonce: int
    raw: bytes
    fence: int
    signed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRecord:
    """An account that sends, and what it may still spend (`spending`).

    Attributes:
        next_nonce: One more than the highest nonce that was ever given.
        spent_gwei: Most that what was signed since `spent_since` may cost.
        signed_count: How many signatures it gave since `signed_since`.
    """

    chain_id: int
    account: bytes
    next_nonce: int
    spent_gwei: int = 0
    spent_since: datetime | None = None
    signed_count: int = 0
    signed_since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainRecord:
    """What we saw of a chain: its genesis and its youngest final block.

    Attributes:
        alarm: Why nothing is sent to it any more.
        looked_to: All that was proposed up to this block, and is ours, stands in our rows (`adopting`).
    """

    chain_id: int
    genesis_hash: bytes
    final_number: int
    final_hash: bytes
    alarm: str | None
    looked_to: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentRecord:
    """Where the settlement contracts are."""

    chain_id: int
    deployment: Deployment


PARTY: Final = TableSpec(name="settlement_party", record=SettledParty, key=("party_id",))
AGREEMENT: Final = TableSpec(
    name="settlement_agreement", record=PairAgreement, key=("cpo_id", "agreement_id"), is_reference=True
)
OPENING: Final = TableSpec(name="settlement_opening", record=Opening, key=("cpo_id", "agreement_id", "version"))
LEAF: Final = TableSpec(name="settlement_leaf", record=LeafRecord, key=("cpo_id", "cdr_id"))
STATEMENT: Final = TableSpec(
    name="settlement_statement",
    record=StatementRecord,
    key=("cpo_id", "agreement_id", "version", "sequence"),
    unique=(("statement_hash",),),
)
DEPLOYMENT: Final = TableSpec(name="settlement_deployment", record=DeploymentRecord, key=("chain_id",))
BATCH: Final = TableSpec(name="settlement_batch", record=BatchRecord, key=("batch_id",))
ACCEPTANCE: Final = TableSpec(name="settlement_acceptance", record=AcceptanceRecord, key=("batch_id", "party_id"))
TRANSACTION: Final = TableSpec(
    name="settlement_transaction",
    record=TransactionRecord,
    key=("transaction_id",),
    unique=(("chain_id", "account", "nonce"),),
)
VARIANT: Final = TableSpec(name="settlement_transaction_variant", record=VariantRecord, key=("hash",))
ACCOUNT: Final = TableSpec(name="settlement_account", record=AccountRecord, key=("chain_id", "account"))
CHAIN: Final = TableSpec(name="settlement_chain", record=ChainRecord, key=("chain_id",))
