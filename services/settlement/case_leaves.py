"""Whose case it is, and which of our leaves: a resolver names a case by a hash, so leaves are tried by their amount."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emobility.domain.batch import contracts
from emobility.domain.batch.disputes import Case, CaseTold, case_id
from emobility.domain.batch.statement import AGREEMENT_BYTES
from emobility.domain.identifiers import PartyId
from emobility.ports.chain import ChainReader, ChainUnavailable, Log
from emobility.ports.stores import SELECT_ROWS_MAX
from emobility.ports.unit_of_work import UnitOfWork
from services.settlement.batching import key_of
from services.settlement.closing import leaf_in_tree
from services.settlement.confidential_records import SEALED_STATEMENT
from services.settlement.dispute_records import HeardRecord
from services.settlement.records import LEAF, OPENING, PARTY, STATEMENT, LeafRecord, StatementRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """Who a case is between, as the chain names them: an agreement of an open book, or numbers of CPO and MSP."""

    agreement: bytes | None = None
    cpo: int = 0
    msp: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two parties here, and the versions of their agreements that a case can be about."""

    cpo_id: PartyId
    emsp_id: PartyId
    versions: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundLeaf:
    """A case's leaf, its statement, and what the book calls that."""

    leaf: LeafRecord
    statement: StatementRecord
    struct_hash: bytes


async def sides_of(
    chain: ChainReader, heard: HeardRecord, case: Case, struck: tuple[CaseTold, Log] | None
) -> Sides | None:
    """Return who a case is between.

    Of one that a proof alone decided its resolver keeps no parties; there the book tells right after whom it corrected,
    before the resolver tells of anything else. None: it corrected nobody, so nothing was at stake.

    Raises:
        ChainUnavailable: the chain does not answer.
    """
    if case.claimant:
        if not heard.is_confidential:
            return Sides(agreement=case.pair.to_bytes(AGREEMENT_BYTES, "big"))
        cpo, msp = case.claimant, case.defendant
        return Sides(cpo=msp, msp=cpo) if case.is_by_msp else Sides(cpo=cpo, msp=msp)
    if struck is None:
        return None
    told, log = struck
    receipt = await chain.receipt(log.transaction_hash)
    if receipt is None:
        raise ChainUnavailable(f"the transaction of case {told.case_id.hex()} is not known there")
    for each in receipt.logs:
        if each.address == heard.contract and each.index > log.index:
            return None
        if each.index < log.index or each.address != heard.book:
            continue
        if each.topics[0] == contracts.AGREEMENT_CORRECTED.topic:
            agreement, _ = contracts.AGREEMENT_CORRECTED.told(each.topics, each.data)
            return Sides(agreement=agreement.to_bytes(AGREEMENT_BYTES, "big"))
        if each.topics[0] == contracts.NET_CORRECTED.topic:
            payer, payee, _ = contracts.NET_CORRECTED.told(each.topics, each.data)
            is_to_cpo = (told.added_e4 or 0) > 0
            return Sides(cpo=payee, msp=payer) if is_to_cpo else Sides(cpo=payer, msp=payee)
    return None


async def pair_of(unit: UnitOfWork, heard: HeardRecord, sides: Sides) -> Pair | None:
    """Return the pair, if one of it is hosted here."""
    if sides.agreement is not None:
        where = {"book_agreement": sides.agreement, "currency": heard.currency}
        rows = [
            (each.cpo_id, each.emsp_id, each.agreement_id, each.version)
            for each in await unit.table(OPENING).select(where)
        ]
    else:
        numbers = {"cpo_number": sides.cpo, "msp_number": sides.msp, "currency": heard.currency}
        fields = ("cpo_id", "emsp_id", "agreement_id", "version")
        rows = [tuple(each) for each in await unit.table(SEALED_STATEMENT).distinct(fields, numbers)]
    if not rows:
        return None
    cpo_id, emsp_id = rows[0][:2]
    parties = [await unit.table(PARTY).get(each) for each in (cpo_id, emsp_id)]
    if not any(each is not None and each.is_hosted for each in parties):
        return None
    return Pair(cpo_id=cpo_id, emsp_id=emsp_id, versions=tuple((each[2], each[3]) for each in rows))


async def find_leaf(unit: UnitOfWork, pair: Pair, wanted: bytes, *, net_e4: int) -> FoundLeaf | None:
    """Return a case's leaf: of those with its amount, in the pair's statements from the newest on, the one it names."""
    for agreement_id, version in pair.versions:
        where = {"cpo_id": pair.cpo_id, "agreement_id": agreement_id, "version": version}
        for statement in await unit.table(STATEMENT).select(where, order_by=("-sequence",)):
            struct_hash = await struct_hash_of(unit, statement)
            for leaf in await _with_amount(unit, statement, net_e4):
                if case_id(struct_hash, leaf_in_tree(leaf)) == wanted:
                    return FoundLeaf(leaf=leaf, statement=statement, struct_hash=struct_hash)
    return None


async def struct_hash_of(unit: UnitOfWork, statement: StatementRecord) -> bytes:
    """Return what a statement's book calls it."""
    sealed = await unit.table(SEALED_STATEMENT).get(*key_of(statement))
    return statement.statement_hash if sealed is None else sealed.struct_hash


async def _with_amount(unit: UnitOfWork, statement: StatementRecord, net_e4: int) -> Sequence[LeafRecord]:
    where = {
        "cpo_id": statement.cpo_id,
        "agreement_id": statement.agreement_id,
        "version": statement.version,
        "sequence": statement.sequence,
        "due_e4": max(net_e4, 0),
        "credit_e4": max(-net_e4, 0),
    }
    rows: list[LeafRecord] = []
    while True:
        page = await unit.table(LEAF).select(where, order_by=("place",), offset=len(rows))
        rows += page
        if len(page) < SELECT_ROWS_MAX:
            return rows
