"""`SettlementDisputes.sol` in Python: demands, quarrels, duplicates, meters' signatures and silence; no rulings.

A proof against a statement that is challenged takes it out, as there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, ClassVar, TypeAlias

from emobility.adapters.chain_signing import recovered_address
from emobility.adapters.memory.contracts.book import BookModel
from emobility.adapters.memory.contracts.contract import Contract, moment
from emobility.adapters.memory.contracts.money import VaultModel
from emobility.adapters.memory.contracts.registry import RegistryModel
from emobility.domain.batch import contracts
from emobility.domain.batch.abi import MalformedCall
from emobility.domain.batch.calls import key_number
from emobility.domain.batch.disputes import (
    ANSWER_WINDOW,
    CONTEST_PERIOD,
    RULING_WINDOW,
    CaseStage,
    Resolver,
    StruckFor,
    defence_digest,
    demand_digest,
    quarrel_digest,
    read_open_opening,
    seconds_of,
)
from emobility.domain.batch.hashing import METER_PREFIX, commitment, keccak256
from emobility.domain.batch.leaf import LeafKind, evidence_hash
from emobility.domain.batch.meter import MeterCurve, MeterRecord, SignedPayload
from emobility.domain.batch.statement import MalformedStatement, PairStatement
from emobility.domain.batch.trees import (
    SUM_NODE_BYTES,
    MalformedProof,
    Proof,
    SumNode,
    SumOutOfRange,
    proven_root,
    proven_sum_root,
)
from emobility.ports.chain import CallReverted
from emobility.protocols.ocmf.judged import is_signed

_Leaf: TypeAlias = tuple[int, bytes, int, int, bytes, bytes]
_Placed: TypeAlias = tuple[Any, int, int, int, bytes]
"""Leaf or its hash, due, credit, index, siblings."""
_Word: TypeAlias = tuple[int, int, tuple[bytes, bytes]]


class OnlyMade(Contract):
    """A contract that is made, and then asked nothing here."""

    takes = "()"

    def make(self) -> None:  # type: ignore[override]  # each its own
        """Carry out the constructor."""


class ArbiterModel(Contract):
    """`RoleArbiter.sol`, which rules on nothing here."""


@dataclass(frozen=True, kw_only=True)
class _Case:
    """As the contract has it."""

    stage: CaseStage = CaseStage.NONE
    reason: StruckFor = StruckFor.DUPLICATE
    deadline: int = 0
    claimant: int = 0
    defendant: int = 0
    is_by_msp: bool = False
    pair: int = 0
    net_e4: int = 0
    claimed_e4: int = 0
    corrected_e4: int = 0


class DisputesModel(Contract):
    """Quarrels over the CDRs of an open book's statements."""

    takes = "(address,address,address,uint64,uint64)"
    functions: ClassVar = {
        contracts.DEMAND: "demand",
        contracts.REVEAL: "reveal",
        contracts.QUARREL: "quarrel",
        contracts.DEFEND: "defend",
        contracts.LAPSE: "lapse",
        contracts.CONTEST_DUPLICATE: "contest_duplicate",
        contracts.CONTEST_SIGNATURE: "contest_signature",
        contracts.CASE_OF: "case_of",
        contracts.DEMAND_BOND_E4: "demand_bond_e4",
        contracts.QUARREL_BOND_E4: "quarrel_bond_e4",
    }

    def make(  # type: ignore[override]  # each its own
        self, book: bytes, _evidence: bytes, _arbiter: bytes, demand_bond_e4: int, quarrel_bond_e4: int
    ) -> None:
        """Carry out the constructor."""
        self._write("book", value=book)
        self._write("demand_bond", value=demand_bond_e4)
        self._write("quarrel_bond", value=quarrel_bond_e4)

    # Proofs

    def contest_duplicate(  # noqa: PLR0917 - the contract's arguments
        self,
        opening: bytes,
        contested: _Placed,
        other_opening: bytes,
        other: _Leaf,
        other_index: int,
        siblings: Sequence[bytes],
    ) -> None:
        """Strike what stands in an earlier statement, too."""
        statement, case_id = self._placed(opening, contested, _hash(contested[0]))
        earlier = self._stated(other_opening)
        proof = Proof(index=other_index, count=earlier.count, siblings=tuple(siblings))
        try:
            is_in_it = proven_root(_hash(other), proof) == earlier.evidence_root
        except MalformedProof:
            is_in_it = False
        if not is_in_it:
            self._refuse(contracts.NOT_IN_STATEMENT, earlier.struct_hash)
        is_one = contested[0][1] == other[1] and _parties(statement) == _parties(earlier)
        if not is_one or not self._is_final(other_opening) or not _order(earlier) < _order(statement):
            self._refuse(contracts.NO_DUPLICATE, case_id)
        self._strike(opening, case_id, contested, StruckFor.DUPLICATE)

    def contest_signature(self, opening: bytes, contested: _Placed, salt: bytes, record: bytes) -> None:
        """Strike what its meter did not sign."""
        _, case_id = self._placed(opening, contested, _hash(contested[0]))
        committed = commitment(record, salt=salt, prefix=METER_PREFIX)
        if contested[0][0] != LeafKind.CHARGE or contested[0][5] != committed:
            self._refuse(contracts.OTHER_RECORD, case_id)
        if is_signed(_unpacked(record)):
            self._refuse(contracts.NOTHING_WRONG, case_id)
        self._strike(opening, case_id, contested, StruckFor.SIGNATURE)

    def _strike(self, opening: bytes, case_id: bytes, contested: _Placed, reason: StruckFor) -> None:
        statement, place = read_open_opening(opening)
        if not self._is_final(opening):
            self._tell(contracts.STATEMENT_VOIDED, statement.struct_hash, case_id, int(reason), indexed=2)
            self._book.decide_challenge((statement.figures, statement.roots), place, True)
            return
        case = self._case(case_id)
        if case.stage is CaseStage.STRUCK:
            self._refuse(contracts.WRONG_STAGE, case_id, int(case.stage))
        self._write("case", case_id, value=replace(case, stage=CaseStage.STRUCK, reason=reason))
        self._release_bonds(case)
        added_e4 = -(contested[1] - contested[2]) - case.corrected_e4
        self._tell(contracts.LEAF_STRUCK, case_id, int(reason), added_e4, indexed=1)
        self._book.correct(key_number(statement.agreement), added_e4)

    # Demands

    def demand(self, opening: bytes, hidden: _Placed, word: _Word) -> None:
        """Ask to be shown a leaf."""
        statement, case_id = self._placed(opening, hidden, hidden[0])
        case = self._case(case_id)
        if case.stage is not CaseStage.NONE or not self._is_final(opening):
            self._refuse(contracts.WRONG_STAGE, case_id, int(case.stage))
        party, until = word[0], moment(word[1])
        self._require_word(word, demand_digest(self._named, case=case_id, party=party, deadline=until))
        opened = self._opened(CaseStage.DEMANDED, statement, party, hidden[1] - hidden[2])
        self._write("case", case_id, value=opened)
        self._tell(contracts.LEAF_DEMANDED, case_id, party, opened.deadline, indexed=2)
        self._vault.reserve(party, self.demand_bond_e4())

    def reveal(self, statement: bytes, leaf: _Leaf) -> None:
        """Show it."""
        case_id = keccak256(statement + _hash(leaf))
        case = self._case(case_id)
        if case.stage is not CaseStage.DEMANDED:
            self._refuse(contracts.WRONG_STAGE, case_id, int(case.stage))
        self._write("case", case_id, value=replace(case, stage=CaseStage.REVEALED))
        self._tell(contracts.LEAF_REVEALED, case_id, indexed=1)
        self._vault.take_reserved(case.claimant, case.defendant, self.demand_bond_e4())

    # Quarrels

    def quarrel(self, opening: bytes, contested: _Placed, claimed_e4: int, word: _Word) -> None:
        """Contest an amount."""
        statement, case_id = self._placed(opening, contested, _hash(contested[0]))
        case, net_e4, party = self._case(case_id), contested[1] - contested[2], word[0]
        if case.stage not in {CaseStage.NONE, CaseStage.REVEALED} or not self._is_final(opening):
            self._refuse(contracts.WRONG_STAGE, case_id, int(case.stage))
        cpo, msp = _parties(statement)
        if party != (msp if net_e4 > 0 else cpo):
            self._refuse(contracts.NOT_ITS_TURN, party)
        if claimed_e4 == net_e4 or not min(0, net_e4) <= claimed_e4 <= max(0, net_e4):
            self._refuse(contracts.UNSUITABLE_AMOUNT, claimed_e4)
        until = moment(word[1])
        digest = quarrel_digest(self._named, case=case_id, party=party, claimed_e4=claimed_e4, deadline=until)
        self._require_word(word, digest)
        opened = replace(self._opened(CaseStage.QUARRELLED, statement, party, net_e4), claimed_e4=claimed_e4)
        self._write("case", case_id, value=opened)
        self._tell(contracts.AMOUNT_QUARRELLED, case_id, party, net_e4, claimed_e4, opened.deadline, indexed=2)
        self._vault.reserve(party, self.quarrel_bond_e4())

    def defend(self, case_id: bytes, word: _Word) -> None:
        """Stand by an amount."""
        case, party = self._case(case_id), word[0]
        if case.stage is not CaseStage.QUARRELLED:
            self._refuse(contracts.WRONG_STAGE, case_id, int(case.stage))
        if self._at.call.timestamp_s > case.deadline:
            self._refuse(contracts.PAST_DEADLINE, case.deadline)
        if party != case.defendant:
            self._refuse(contracts.NOT_ITS_TURN, party)
        self._require_word(word, defence_digest(self._named, case=case_id, party=party, deadline=moment(word[1])))
        deadline = self._after(RULING_WINDOW)
        self._write("case", case_id, value=replace(case, stage=CaseStage.DEFENDED, deadline=deadline))
        self._tell(contracts.AMOUNT_DEFENDED, case_id, deadline, indexed=1)
        self._vault.reserve(party, self.quarrel_bond_e4())

    def lapse(self, case_id: bytes) -> None:
        """End a case whose deadline is over."""
        case = self._case(case_id)
        if case.stage not in {CaseStage.DEMANDED, CaseStage.QUARRELLED, CaseStage.DEFENDED}:
            self._refuse(contracts.WRONG_STAGE, case_id, int(case.stage))
        if self._at.call.timestamp_s <= case.deadline:
            self._refuse(contracts.PAST_DEADLINE, case.deadline)
        if case.stage is CaseStage.DEMANDED:
            self._write("case", case_id, value=replace(case, stage=CaseStage.STRUCK, reason=StruckFor.WITHHELD))
            self._tell(contracts.LEAF_STRUCK, case_id, int(StruckFor.WITHHELD), -case.net_e4, indexed=1)
            self._book.correct(case.pair, -case.net_e4)
        else:
            added_e4 = case.claimed_e4 - case.net_e4 if case.stage is CaseStage.QUARRELLED else 0
            self._write("case", case_id, value=replace(case, stage=CaseStage.RULED, corrected_e4=added_e4))
            self._tell(contracts.AMOUNT_RULED, case_id, added_e4, 0, indexed=1)
            if added_e4:
                self._book.correct(case.pair, added_e4)
        self._release_bonds(case)

    # Queries

    def case_of(self, case_id: bytes) -> tuple[Any, ...]:
        """Return where a case stands."""
        case = self._case(case_id)
        parties = (case.claimant, case.defendant, case.is_by_msp, case.pair)
        return (
            int(case.stage),
            int(case.reason),
            case.deadline,
            *parties,
            case.net_e4,
            case.claimed_e4,
            case.corrected_e4,
        )

    def demand_bond_e4(self) -> int:
        """Return what a demand puts at stake."""
        return int(self._read("demand_bond"))

    def quarrel_bond_e4(self) -> int:
        """Return what each side of a quarrel puts at stake."""
        return int(self._read("quarrel_bond"))

    # Parts

    def _case(self, case_id: bytes) -> _Case:
        return self._read("case", case_id) or _Case()

    def _opened(self, stage: CaseStage, statement: PairStatement, party: int, net_e4: int) -> _Case:
        cpo, msp = _parties(statement)
        if party not in {cpo, msp}:
            self._refuse(contracts.NOT_ITS_TURN, party)
        return _Case(
            stage=stage,
            deadline=self._after(ANSWER_WINDOW),
            claimant=party,
            defendant=msp if party == cpo else cpo,
            is_by_msp=party == msp,
            pair=key_number(statement.agreement),
            net_e4=net_e4,
        )

    def _release_bonds(self, case: _Case) -> None:
        if case.stage is CaseStage.DEMANDED:
            self._vault.release(case.claimant, self.demand_bond_e4())
        if case.stage in {CaseStage.QUARRELLED, CaseStage.DEFENDED}:
            self._vault.release(case.claimant, self.quarrel_bond_e4())
        if case.stage is CaseStage.DEFENDED:
            self._vault.release(case.defendant, self.quarrel_bond_e4())

    def _is_final(self, opening: bytes) -> bool:
        statement, place = read_open_opening(opening)
        return self._book.is_statement_final((statement.figures, statement.roots), place)

    def _stated(self, opening: bytes) -> PairStatement:
        """Return a statement that is final or open; of others nothing is contested here."""
        try:
            statement, place = read_open_opening(opening)
        except (MalformedCall, MalformedStatement):
            raise CallReverted(b"") from None
        if not self._book.is_statement_stated((statement.figures, statement.roots), place):
            self._refuse(contracts.NOT_STATED, statement.struct_hash)
        return statement

    def _placed(self, opening: bytes, placed: _Placed, hashed: bytes) -> tuple[PairStatement, bytes]:
        """Return a leaf's statement and the id of its case."""
        statement = self._stated(opening)
        until = seconds_of(statement.period_end + CONTEST_PERIOD)
        if self._at.call.timestamp_s > until:
            self._refuse(contracts.TOO_LATE, until)
        _, due_e4, credit_e4, index, packed = placed
        siblings = tuple(packed[at : at + SUM_NODE_BYTES] for at in range(0, len(packed), SUM_NODE_BYTES))
        root = SumNode(hash=statement.sum_root, due_e4=statement.due_e4, credit_e4=statement.credit_e4)
        try:
            proof = Proof(index=index, count=statement.count, siblings=siblings)
            is_in_it = proven_sum_root(hashed, proof, due_e4=due_e4, credit_e4=credit_e4) == root
        except (MalformedProof, SumOutOfRange):
            is_in_it = False
        if not is_in_it:
            self._refuse(contracts.NOT_IN_STATEMENT, statement.struct_hash)
        return statement, keccak256(statement.struct_hash + hashed)

    def _require_word(self, word: _Word, digest: bytes) -> None:
        party, deadline, signature = word
        signer = RegistryModel(self._at, address=self._book.registry(), sender=self._address).signer_of(party)
        if self._at.call.timestamp_s > deadline or recovered_address(digest, b"".join(signature)) != signer:
            self._refuse(contracts.NO_WORD, party)

    def _after(self, window: timedelta) -> int:
        return self._at.call.timestamp_s + int(window.total_seconds())

    @property
    def _named(self) -> Resolver:
        return Resolver(chain_id=self._at.call.chain_id, address=self._address)

    @property
    def _book(self) -> BookModel:
        return BookModel(self._at, address=self._read("book"), sender=self._address)

    @property
    def _vault(self) -> VaultModel:
        return VaultModel(self._at, address=self._book.vault(), sender=self._address)


def _unpacked(record: bytes) -> MeterRecord:
    """Read a meter's record with one payload (`MeterRecord.packed`)."""
    key_end = 2 + record[1]
    payload_end = key_end + 4 + int.from_bytes(record[key_end : key_end + 4], "big")
    signed = SignedPayload(payload=record[key_end + 4 : payload_end], signature=record[payload_end + 1 :])
    return MeterRecord(curve=MeterCurve(record[0]), public_key=record[2:key_end], signed=(signed,))


def _hash(leaf: _Leaf) -> bytes:
    kind, cdr_key, import_wh, export_wh, commitment, meter = leaf
    return evidence_hash(
        kind=LeafKind(kind),
        cdr_key=cdr_key,
        import_wh=import_wh,
        export_wh=export_wh,
        commitment=commitment,
        meter=meter,
    )


def _parties(statement: PairStatement) -> tuple[int, int]:
    """Return the numbers of CPO and MSP."""
    key = key_number(statement.agreement)
    return key >> 40, key & 0xFFFFFF


def _order(statement: PairStatement) -> tuple[Any, ...]:
    return statement.period_end, statement.sequence, statement.struct_hash
