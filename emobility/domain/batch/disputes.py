"""Quarrels over one CDR of a statement: what each kind needs, whether the proof holds, and the call that makes it.

Byte for byte as `settlement_contracts/src/interfaces/IDisputeResolver.sol` has it. Each proof is checked here before it
is sent, because what is sent is public and costs gas: a proof that shows nothing wrong is refused with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum, StrEnum
from typing import Any, Final, TypeAlias

from emobility.domain.batch import contracts
from emobility.domain.batch.abi import decode, encode
from emobility.domain.batch.confidential import Salts, SealedStatement
from emobility.domain.batch.hashing import keccak256
from emobility.domain.batch.leaf import NO_METER, Leaf, LeafKind
from emobility.domain.batch.meter import MeterCurve, MeterRecord, meter_commitment
from emobility.domain.batch.statement import BookedStatement, MalformedStatement, PairStatement
from emobility.domain.batch.trees import MalformedProof, Proof, StatementTrees, SumNode, SumOutOfRange, proven_sum_root
from emobility.domain.batch.typed_data import Verifier, digest_of
from emobility.domain.errors import RuleBroken
from emobility.domain.money import decimal_from_e4
from emobility.domain.quantities import kwh

CONTEST_PERIOD: Final = timedelta(days=180)
"""How long after the end of a statement's period its CDRs can be contested."""
ANSWER_WINDOW: Final = timedelta(days=7)
"""How long the other side has to show a leaf, or to defend an amount."""
RULING_WINDOW: Final = timedelta(days=60)
"""How long the arbiter has."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_OPENED_STATEMENT: Final = f"({contracts.STATEMENT},{contracts.ROOTS},{contracts.PLACE})"
"""`SettlementDisputes.OpenedStatement`."""
Place: TypeAlias = tuple[bytes, int, int, Sequence[bytes]]
"""Where a statement stands (`contracts.PLACE`)."""
_OPENED_CONFIDENTIAL: Final = (
    f"({contracts.SEALED_STATEMENT},{contracts.OPENED},{contracts.HIDDEN_PLACE},bytes32,bytes32,uint64,uint64)"
)
"""`ConfidentialDisputes.OpenedStatement`."""


class DisputeKind(StrEnum):
    """What is wrong with a CDR."""

    DUPLICATE = "DUPLICATE"
    """It stands in an earlier statement of its pair, too."""
    METER_SIGNATURE = "METER_SIGNATURE"
    """The key that its leaf commits to did not sign the record that its leaf commits to."""
    METER_ENERGY = "METER_ENERGY"
    """Its energy is not end less begin of the signed registers."""
    CREDIT_OF_STRUCK = "CREDIT_OF_STRUCK"
    """It takes back a charge that a verdict took back already."""
    WITHHELD = "WITHHELD"
    """The other side does not show it."""
    PRICE = "PRICE"
    """It should have cost less; no proof decides that, but silence or the arbiter."""


class CaseStage(IntEnum):
    """How far a case is in its resolver; it never goes back."""

    NONE = 0
    DEMANDED = 1
    REVEALED = 2
    QUARRELLED = 3
    DEFENDED = 4
    RULED = 5
    STRUCK = 6


class StruckFor(IntEnum):
    """Why a leaf was struck, as the contract counts its reasons."""

    DUPLICATE = 0
    SIGNATURE = 1
    ENERGY = 2
    CREDIT = 3
    WITHHELD = 4


class NothingWrong(RuleBroken):
    """The proof does not show what it is said to show; it would be refused on chain."""


class NotOnChain(RuleBroken):
    """What would have to be published, or judged, is not for a chain: an arbiter's or the parties' matter."""


class Resolver(Verifier):
    """The contract that resolves the quarrels over one book."""

    __slots__ = ()
    name = "DisputeResolver"


@dataclass(frozen=True, slots=True, kw_only=True)
class HiddenLeaf:
    """A leaf of which no more is known than its hash and amounts, with its proof in a statement's sum tree."""

    evidence_hash: bytes
    due_e4: int
    credit_e4: int
    proof: Proof

    @property
    def net_e4(self) -> int:
        """What the MSP owes for it; negative where the CPO does."""
        return self.due_e4 - self.credit_e4

    @property
    def words(self) -> tuple[Any, ...]:
        """As it stands in a call (`contracts.HIDDEN_LEAF`)."""
        return (self.evidence_hash, self.due_e4, self.credit_e4, self.proof.index, self.proof.packed)

    def require_in(self, statement: PairStatement) -> None:
        """Raise `NothingWrong` unless the statement has this leaf at this place."""
        root = SumNode(hash=statement.sum_root, due_e4=statement.due_e4, credit_e4=statement.credit_e4)
        try:
            proven = proven_sum_root(self.evidence_hash, self.proof, due_e4=self.due_e4, credit_e4=self.credit_e4)
        except (MalformedProof, SumOutOfRange) as error:
            raise NothingWrong(f"the leaf's proof leads nowhere: {error}") from error
        if proven != root:
            raise NothingWrong("the statement has no such leaf at this place")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedLeaf:
    """A leaf with its amounts, and its proof in a statement's sum tree."""

    leaf: Leaf
    proof: Proof

    @property
    def words(self) -> tuple[Any, ...]:
        """As it stands in a call (`contracts.PLACED_LEAF`)."""
        leaf = self.leaf
        return (leaf_words(leaf), leaf.due_e4, leaf.credit_e4, self.proof.index, self.proof.packed)

    @property
    def hidden(self) -> HiddenLeaf:
        """The same for whoever knows no more than the leaf's hash."""
        leaf = self.leaf
        return HiddenLeaf(
            evidence_hash=leaf.evidence_hash, due_e4=leaf.due_e4, credit_e4=leaf.credit_e4, proof=self.proof
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Contested:
    """A CDR that is contested.

    Attributes:
        statement: Struct hash of its statement.
        opening: What tells its resolver where the statement stands (`book_opening`, `confidential_opening`).
        period_end: End of the statement's period, excluded.
        sequence: The statement's.
        placed: Its leaf.
    """

    statement: bytes
    opening: bytes
    period_end: datetime
    sequence: int
    placed: PlacedLeaf

    @property
    def case_id(self) -> bytes:
        """Names the case: one leaf of one statement."""
        return case_id(self.statement, self.placed.leaf)

    @property
    def stands_behind(self) -> tuple[datetime, int, bytes]:
        """What puts statements of a pair in order, so that of two with one CDR the same one always stands."""
        return self.period_end, self.sequence, self.statement


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """A party's signed word (compact signature), for a call."""

    party: int
    deadline: datetime
    signature: bytes

    @property
    def words(self) -> tuple[Any, ...]:
        """As it stands in a call (`contracts.WORD`)."""
        return self.party, seconds_of(self.deadline), contracts.signature_words(self.signature)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeteredEnergy:
    """What begin and end of a charge's signed registers say, in Wh; None: there is no such register."""

    import_wh: int | None
    export_wh: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Where a case stands; amounts in ten-thousandths, below zero the CPO owes them.

    `claimant` and `defendant`: numbers of the parties, 0 where a proof alone struck it; `deadline`: when the turn
    of the other side or the arbiter ends; `struck_for`: under STRUCK; `pair`: the agreement in an open book.
    """

    stage: CaseStage
    struck_for: StruckFor
    deadline: datetime
    claimant: int
    defendant: int
    is_by_msp: bool
    pair: int
    net_e4: int
    claimed_e4: int
    corrected_e4: int

    @property
    def takes_charge_back(self) -> bool:
        """Whether nothing is left of the charge that the case is about; of a duplicate an earlier copy stands."""
        return self.stage is CaseStage.STRUCK and self.struck_for is not StruckFor.DUPLICATE


def place_leaf(trees: StatementTrees, index: int) -> PlacedLeaf:
    """Return a leaf of a statement with its proof."""
    return PlacedLeaf(leaf=trees.leaves[index], proof=trees.sum_proof(index))


def leaf_words(leaf: Leaf) -> tuple[Any, ...]:
    """Return an evidence leaf as it stands in a call (`contracts.EVIDENCE_LEAF`)."""
    return (int(leaf.kind), leaf.cdr_key, leaf.import_wh, leaf.export_wh, leaf.commitment, leaf.meter)


def case_id(statement: bytes, leaf: Leaf | HiddenLeaf) -> bytes:
    """Return what a resolver calls the case of this leaf."""
    return keccak256(statement + leaf.evidence_hash)


def open_opening(statement: PairStatement, *, batch_id: bytes, proof: Proof) -> bytes:
    """Return what opens a statement of an open book to its resolver.

    Args:
        statement: With both its roots.
        batch_id: The batch that it is in.
        proof: Of the statement among the batch's (`statement.batch_tree`).
    """
    opened = (
        (statement.figures, statement.roots),
        (statement.evidence_root, statement.sum_root),
        (batch_id, proof.index, proof.count, proof.siblings),
    )
    return encode(f"({_OPENED_STATEMENT})", (opened,))


def read_open_opening(opening: bytes) -> tuple[PairStatement, Place]:
    """Return the statement that an opening of an open book names, and its place. Raises `MalformedInput`."""
    (((figures, roots), (evidence_root, sum_root), place),) = decode(f"({_OPENED_STATEMENT})", opening)
    booked = BookedStatement.of_words(figures, roots)
    statement = PairStatement(
        agreement=booked.agreement,
        evidence_root=evidence_root,
        sum_root=sum_root,
        due_e4=booked.due_e4,
        credit_e4=booked.credit_e4,
        count=booked.count,
        sequence=booked.sequence,
        period_end=booked.period_end,
    )
    if statement.roots != roots:
        raise MalformedStatement("an opening has other roots than its statement")
    return statement, place


def confidential_opening(
    statement: SealedStatement,
    *,
    salts: Salts,
    by_cpo: bytes,
    by_msp: bytes,
    batch_id: bytes,
    proof: Proof,
    signers: Sequence[int],
    sum_root: bytes,
    due_e4: int,
    credit_e4: int,
) -> bytes:
    """Return what opens a confidential statement to its resolver, and to everybody with it.

    Args:
        statement: As both signed it.
        salts: Its own.
        by_cpo: The CPO's compact signature of it.
        by_msp: The MSP's.
        batch_id: The batch that it is in.
        proof: Of its posted hash there.
        signers: Who signed for each party of the batch, as the book packs them.
        sum_root: Hash of its sum tree's root.
        due_e4: What the MSP owes.
        credit_e4: What the CPO owes.
    """
    opened = (
        statement.words,
        (salts.posted, contracts.signature_words(by_cpo), contracts.signature_words(by_msp)),
        (batch_id, proof.index, proof.count, proof.siblings, tuple(signers)),
        salts.amounts,
        sum_root,
        due_e4,
        credit_e4,
    )
    return encode(f"({_OPENED_CONFIDENTIAL})", (opened,))


# Proofs: each returns the call, or says why it would be refused


def duplicate_call(contested: Contested, earlier: Contested, *, evidence_proof: Proof) -> bytes:
    """Return the call that strikes a CDR because an earlier statement of its pair has it, too.

    Args:
        contested: In the later statement.
        earlier: The same CDR in the earlier one.
        evidence_proof: Of `earlier` in its statement's evidence tree.

    Raises:
        NothingWrong: they are two CDRs, one statement, or the wrong way round.
    """
    if contested.placed.leaf.cdr_key != earlier.placed.leaf.cdr_key:
        raise NothingWrong("the two statements have different CDRs there")
    if earlier.stands_behind >= contested.stands_behind:
        raise NothingWrong("of two statements with one CDR the earlier stands, and the later loses it")
    return contracts.CONTEST_DUPLICATE.call(
        contested.opening,
        contested.placed.words,
        earlier.opening,
        leaf_words(earlier.placed.leaf),
        evidence_proof.index,
        evidence_proof.siblings,
    )


def signature_call(
    contested: Contested, record: MeterRecord, *, salt: bytes, is_signed: Callable[[MeterRecord], bool]
) -> bytes:
    """Return the call that strikes a CDR because its meter did not sign it.

    Raises:
        NothingWrong: it did, or the leaf commits to another record.
        NotOnChain: the meter's curve can't be checked there.
    """
    _require_committed(contested.placed.leaf, record, salt)
    if record.curve is MeterCurve.OTHER:
        raise NotOnChain("signatures on this meter's curve are checked by no contract")
    if is_signed(record):
        raise NothingWrong("the meter signed what the leaf commits to")
    return contracts.CONTEST_SIGNATURE.call(contested.opening, contested.placed.words, salt, record.packed)


def energy_call(contested: Contested, record: MeterRecord, *, salt: bytes, energy: MeteredEnergy) -> bytes:
    """Return the call that strikes a charge because its energy is not what its meter signed.

    Args:
        contested: The charge.
        record: What its leaf commits to.
        salt: Of that commitment.
        energy: What the record's registers say, read as the contract reads them.

    Raises:
        NothingWrong: it is, or the leaf commits to another record.
    """
    leaf = contested.placed.leaf
    _require_committed(leaf, record, salt)
    if energy.import_wh in {None, leaf.import_wh} and energy.export_wh in {None, leaf.export_wh}:
        raise NothingWrong("the leaf says what the meter signed")
    return contracts.CONTEST_ENERGY.call(contested.opening, contested.placed.words, salt, record.packed)


def credit_call(contested: Contested, *, statement: bytes, charge: Leaf) -> bytes:
    """Return the call that strikes the credit of a charge that is struck in `statement` already, not as a duplicate.

    Raises:
        NothingWrong: it is no credit of this charge.
    """
    leaf = contested.placed.leaf
    if leaf.kind is not LeafKind.CREDIT or charge.kind is not LeafKind.CHARGE or leaf.meter != charge.cdr_key:
        raise NothingWrong("it is no credit of this charge")
    return contracts.CONTEST_CREDIT.call(contested.opening, contested.placed.words, statement, leaf_words(charge))


def _require_committed(leaf: Leaf, record: MeterRecord, salt: bytes) -> None:
    if leaf.kind is not LeafKind.CHARGE or leaf.meter == NO_METER:
        raise NothingWrong("the leaf commits to no meter's record")
    if meter_commitment(record, salt=salt) != leaf.meter:
        raise NothingWrong("the leaf commits to another record")


# Words of parties


def demand_call(opening: bytes, hidden: HiddenLeaf, word: Word) -> bytes:
    """Return the call that asks the other side to show a leaf of the statement that `opening` opens."""
    return contracts.DEMAND.call(opening, hidden.words, word.words)


def reveal_call(statement: bytes, leaf: Leaf) -> bytes:
    """Return the call that shows it."""
    return contracts.REVEAL.call(statement, leaf_words(leaf))


def quarrel_call(contested: Contested, *, claimed_e4: int, word: Word) -> bytes:
    """Return the call that contests what a CDR costs. Raises `NothingWrong`."""
    net_e4 = contested.placed.leaf.net_e4
    if not (0 <= claimed_e4 < net_e4 or net_e4 < claimed_e4 <= 0):
        stated, claimed = decimal_from_e4(net_e4), decimal_from_e4(claimed_e4)
        raise NothingWrong(f"{claimed} is not between nothing and the {stated} that is stated")
    return contracts.QUARREL.call(contested.opening, contested.placed.words, claimed_e4, word.words)


def defend_call(case: bytes, word: Word) -> bytes:
    """Return the call that stands by an amount."""
    return contracts.DEFEND.call(case, word.words)


def lapse_call(case: bytes) -> bytes:
    """Return the call that ends a case whose deadline is over."""
    return contracts.LAPSE.call(case)


def demand_digest(resolver: Resolver, *, case: bytes, party: int, deadline: datetime) -> bytes:
    """Return what a party signs to ask for a leaf."""
    return _word_digest(resolver, "Demand(bytes32 id,uint32 party,uint40 deadline)", case, party, deadline)


def defence_digest(resolver: Resolver, *, case: bytes, party: int, deadline: datetime) -> bytes:
    """Return what a party signs to stand by an amount."""
    return _word_digest(resolver, "Defence(bytes32 id,uint32 party,uint40 deadline)", case, party, deadline)


def quarrel_digest(resolver: Resolver, *, case: bytes, party: int, claimed_e4: int, deadline: datetime) -> bytes:
    """Return what a party signs to contest an amount."""
    form = "Quarrel(bytes32 id,uint32 party,int64 claimedE4,uint40 deadline)"
    return _word_digest(resolver, form, case, party, deadline, claimed_e4)


def _word_digest(resolver: Resolver, form: str, case: bytes, party: int, deadline: datetime, *amount_e4: int) -> bytes:
    numbers = (party, *amount_e4, seconds_of(deadline))
    words = b"".join(number.to_bytes(32, "big", signed=True) for number in numbers)
    return digest_of(resolver, keccak256(keccak256(form.encode()) + case + words))


def seconds_of(moment: datetime) -> int:
    """Return whole seconds since 1970."""
    return (moment - _EPOCH) // timedelta(seconds=1)


# What came of it


def case_query(case: bytes) -> bytes:
    """Return the call that asks where a case stands."""
    return contracts.CASE_OF.call(case)


def read_case(returned: bytes) -> Case:
    """Read the answer. Raises `MalformedCall`."""
    (words,) = contracts.CASE_OF.answer(returned)
    stage, reason, deadline_s, claimant, defendant, is_by_msp, pair, net_e4, claimed_e4, corrected_e4 = words
    return Case(
        stage=CaseStage(stage),
        struck_for=StruckFor(reason),
        deadline=_EPOCH + timedelta(seconds=deadline_s),
        claimant=claimant,
        defendant=defendant,
        is_by_msp=bool(is_by_msp),
        pair=pair,
        net_e4=net_e4,
        claimed_e4=claimed_e4,
        corrected_e4=corrected_e4,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseTold:
    """What an event of a resolver tells. `added_e4`: under LeafStruck, what that adds to what the MSP owes."""

    case_id: bytes
    kind: DisputeKind
    added_e4: int | None = None


_TOLD: Final = {
    contracts.LEAF_DEMANDED.topic: DisputeKind.WITHHELD,
    contracts.LEAF_REVEALED.topic: DisputeKind.WITHHELD,
    contracts.AMOUNT_QUARRELLED.topic: DisputeKind.PRICE,
    contracts.AMOUNT_DEFENDED.topic: DisputeKind.PRICE,
    contracts.AMOUNT_RULED.topic: DisputeKind.PRICE,
}
_STRUCK: Final = {
    StruckFor.DUPLICATE: DisputeKind.DUPLICATE,
    StruckFor.SIGNATURE: DisputeKind.METER_SIGNATURE,
    StruckFor.ENERGY: DisputeKind.METER_ENERGY,
    StruckFor.CREDIT: DisputeKind.CREDIT_OF_STRUCK,
    StruckFor.WITHHELD: DisputeKind.WITHHELD,
}


def read_told(topics: Sequence[bytes], data: bytes) -> CaseTold | None:
    """Read an event of a resolver; None: it is about no case. Raises `MalformedCall`."""
    if topics and topics[0] == contracts.LEAF_STRUCK.topic:
        case, reason, added_e4 = contracts.LEAF_STRUCK.told(topics, data)
        return CaseTold(case_id=case, kind=_STRUCK[StruckFor(reason)], added_e4=added_e4)
    if len(topics) < 2 or topics[0] not in _TOLD:
        return None
    return CaseTold(case_id=topics[1], kind=_TOLD[topics[0]])


def read_voided(topics: Sequence[bytes], data: bytes) -> tuple[bytes, DisputeKind]:
    """Read a resolver's event that a proof took a statement out; return case and ground. Raises `MalformedCall`."""
    _, case, reason = contracts.STATEMENT_VOIDED.told(topics, data)
    return case, _STRUCK[StruckFor(reason)]


def taken_out_e4(case: Case, *, stated_e4: int) -> int:
    """Return what verdicts on a leaf, stated as this, added to what the MSP owes; in ten-thousandths."""
    return -stated_e4 if case.stage is CaseStage.STRUCK else case.corrected_e4


def explained(kind: DisputeKind, leaf: Leaf | HiddenLeaf, *, energy: MeteredEnergy | None = None, currency: str) -> str:
    """Say what is wrong with a CDR, and what follows, to somebody who does not know the words."""
    amount = f"{abs(decimal_from_e4(leaf.net_e4))} {currency}"
    struck = f"Its {amount} are taken out of what the pair owes, with the next statement."
    match kind:
        case DisputeKind.DUPLICATE:
            return f"The same CDR stands in an earlier statement of the pair. {struck}"
        case DisputeKind.METER_SIGNATURE:
            return f"The meter's key did not sign the meter record that the CDR stands on. {struck}"
        case DisputeKind.METER_ENERGY:
            return f"{_other_energy(leaf if isinstance(leaf, Leaf) else None, energy)} {struck}"
        case DisputeKind.CREDIT_OF_STRUCK:
            return f"The charge that it takes back was struck before, so it would be taken back twice. {struck}"
        case DisputeKind.WITHHELD:
            return (
                f"The other side has {ANSWER_WINDOW.days} days to show the CDR; after that its {amount} are taken out."
            )
        case DisputeKind.PRICE:
            return (
                f"The other side has {ANSWER_WINDOW.days} days to stand by the {amount}, with a bond; then the arbiter "
                f"has {RULING_WINDOW.days} days. If it does not, what is claimed holds."
            )


def _other_energy(leaf: Leaf | None, energy: MeteredEnergy | None) -> str:
    """Name each register of which the meter signed another value than the CDR says."""
    if energy is None or leaf is None:
        return "The meter signed other energy than the CDR says."
    registers = (("drawn", energy.import_wh, leaf.import_wh), ("fed in", energy.export_wh, leaf.export_wh))
    differing = [(name, signed, stated) for name, signed, stated in registers if signed not in {None, stated}]
    signed = " and ".join(f"{kwh(wh)} kWh {name}" for name, wh, _ in differing if wh is not None)
    return f"The meter signed {signed}, and the CDR says {' and '.join(f'{kwh(wh)} kWh' for *_, wh in differing)}."
