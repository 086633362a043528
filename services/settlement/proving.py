"""Where a CDR stands, for its two parties, and the proof that it is in a final statement.

Proofs are of the evidence tree, so they tell no amount and may go on to the driver. A final statement never changes:
its tree is built once and kept for a while, for many drivers ask about one statement.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from emobility.domain.batch.trees import HashTree, Proof
from emobility.domain.errors import RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.domain.receipt.document import SettledPlace
from emobility.domain.receipt.making import settled_place
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from emobility.ports.vault import Vault
from emobility.protocols.cdr_standing import CDRStanding, Stage
from services.settlement.batching import book_of, proposal_id
from services.settlement.closing import StatementDiffers, leaf_in_tree, leaves_of, name_of, pair_statement
from services.settlement.confidential_proving import ConfidentialProposal, confidential_proposal_of
from services.settlement.records import (
    BATCH,
    LEAF,
    STATEMENT,
    TRANSACTION,
    BatchRecord,
    LeafRecord,
    StatementRecord,
    StatementState,
    TransactionState,
)
from services.settlement.restating_records import HELD

TREES_KEPT_MAX: Final = 8
"""Trees that are kept, of at most `closing.LEAVES_MAX` CDRs each: 6.4 MB each then."""


class UnknownCDR(RuleBroken):
    """The party has no such CDR here."""


class Proving:
    """Answers the two parties of a CDR."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._trees: OrderedDict[bytes, HashTree] = OrderedDict()
        self._building = asyncio.Lock()

    async def standing(self, party_id: PartyId, cpo_id: PartyId, cdr_id: str) -> CDRStanding:
        """Return where a CDR stands.

        Raises:
            UnknownCDR: there is none, or it is not the party's.
            StatementDiffers: the rows are not those that were signed; nothing is proven from them.
        """
        async with self._ports.units.begin() as unit:
            leaf = await unit.table(LEAF).get(cpo_id, cdr_id)
            if leaf is None or party_id not in {leaf.cpo_id, leaf.emsp_id}:
                raise UnknownCDR(f"{party_id} has no CDR {cpo_id}/{cdr_id} here")
            if leaf.sequence is None:
                held = await unit.table(HELD).get(cpo_id, cdr_id)
                return CDRStanding(stage=Stage.COLLECTED if held is None else Stage.VOID)
            key = (leaf.cpo_id, leaf.agreement_id, leaf.version, leaf.sequence)
            statement = await unit.table(STATEMENT).get(*key)
            assert statement is not None
            if statement.state is not StatementState.FINAL:
                return CDRStanding(stage=Stage(statement.state.value))
        tree = await self._tree(statement)
        async with self._ports.units.begin() as unit:
            return final_standing(leaf, statement, tree, await proposal_of(unit, statement, self._ports.vault))

    async def _tree(self, statement: StatementRecord) -> HashTree:
        async with self._building:  # whoever asks about the same statement meanwhile finds its tree built
            tree = self._trees.get(statement.statement_hash)
            if tree is None:
                async with self._ports.units.begin() as unit:
                    leaves = await leaves_of(unit, statement)
                tree = self._trees[statement.statement_hash] = evidence_tree(statement, leaves)
            self._trees.move_to_end(statement.statement_hash)
            if len(self._trees) > TREES_KEPT_MAX:
                self._trees.popitem(last=False)
        return tree


def evidence_tree(statement: StatementRecord, leaves: Sequence[LeafRecord]) -> HashTree:
    """Return the evidence tree of a statement's CDRs, in their places. Raises `StatementDiffers`."""
    tree = HashTree([leaf_in_tree(leaf).evidence_hash for leaf in leaves])
    if tree.root != statement.evidence_root:
        raise StatementDiffers(name_of(statement))
    return tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """Where a final statement was proposed; `block_number` is None while a chain that lost it has it sent again."""

    batch: BatchRecord
    transaction: bytes
    block_number: int | None

    def settled(self, leaf: LeafRecord, statement: StatementRecord, proof: Proof) -> SettledPlace:
        """Return what the receipt of one of its CDRs names."""
        assert statement.position is not None
        return settled_place(
            cdr_key=leaf.cdr_key,
            meter=leaf.meter,
            proof=proof,
            statement=pair_statement(statement),
            book=book_of(self.batch),
            batch_id=self.batch.batch_id,
            position=statement.position,
            transaction=self.transaction,
        )


async def proposal_of(unit: UnitOfWork, statement: StatementRecord, vault: Vault) -> Proposal | ConfidentialProposal:
    """Return where a final statement was proposed."""
    confidential = await confidential_proposal_of(unit, statement, vault)
    if confidential is not None:
        return confidential
    assert statement.batch_id is not None
    batch = await unit.table(BATCH).get(statement.batch_id)
    assert batch is not None
    proposal = await unit.table(TRANSACTION).get(proposal_id(batch.batch_id))
    transaction, block_number = batch.proposed_in, None
    if proposal is not None and proposal.state is TransactionState.FINAL:
        # A chain that lost blocks may have got the proposal again in another transaction.
        transaction, block_number = proposal.hash, proposal.block_number
    assert transaction is not None
    return Proposal(batch=batch, transaction=transaction, block_number=block_number)


def final_standing(
    leaf: LeafRecord, statement: StatementRecord, tree: HashTree, proposal: Proposal | ConfidentialProposal
) -> CDRStanding:
    """Return what the receipt of a CDR in a final statement names."""
    assert leaf.place is not None
    settled = proposal.settled(leaf, statement, tree.proof(leaf.place))
    return CDRStanding(
        stage=Stage.FINAL,
        settled=settled,
        final_at=statement.final_at,
        block_number=proposal.block_number,
    )
