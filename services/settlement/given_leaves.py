"""Contest a leaf that a partner stated and these rows lack: it comes with the request, as far as it was given to us.

Our rows hold each CDR once and whole, so nothing of them is ever withheld from us or stands twice. A statement that
became final by our silence may hold more: a leaf of which we know no more than hash and amounts is demanded, and one
whose CDR stands in an earlier statement of ours is struck. Statements of open books only; what is given is proven
against what the book says before anything is queued.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from emobility.domain.batch import contracts
from emobility.domain.batch.disputes import (
    Contested,
    DisputeKind,
    HiddenLeaf,
    Place,
    PlacedLeaf,
    Resolver,
    case_id,
    demand_call,
    demand_digest,
    duplicate_call,
    explained,
    read_open_opening,
)
from emobility.domain.batch.leaf import Leaf
from emobility.domain.batch.statement import PairStatement
from emobility.domain.batch.trees import SUM_NODE_BYTES, Proof
from emobility.domain.errors import MalformedInput
from emobility.domain.identifiers import PartyId
from emobility.ports.ports import Ports
from services.settlement.acceptances import UnknownStatement
from services.settlement.access import ChainAccess
from services.settlement.dispute_records import RESOLVER, DisputeRecord, DisputeState, ResolverRecord
from services.settlement.disputing import NO_RESOLVER, Disputing, GivenWord, NoResolver, NotFinal
from services.settlement.records import OPENING, Opening

SIBLINGS_MAX: Final = 32
"""A statement counts its CDRs in 32 bits."""


class MalformedProofGiven(MalformedInput):
    """Siblings of a sum proof are whole nodes, and no more than a statement has levels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenLeaf:
    """What a party was given of a leaf.

    Attributes:
        opening: Opens its statement to the resolver of an open book (`open_opening`).
        evidence_hash: Its hash.
        due_e4: What the MSP owes for it, in ten-thousandths; `credit_e4`: what the CPO owes.
        index: Its place in the statement, and `siblings` its packed proof in the sum tree.
    """

    opening: bytes
    evidence_hash: bytes
    due_e4: int
    credit_e4: int
    index: int
    siblings: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stated:
    """A given leaf in the final statement of a pair here."""

    statement: PairStatement
    hidden: HiddenLeaf
    opening: Opening
    chain_id: int
    resolver: Resolver


class ContestingGiven:
    """Takes such disputes in."""

    def __init__(self, ports: Ports, access: ChainAccess, disputing: Disputing) -> None:
        self._ports = ports
        self._access = access
        self._disputing = disputing

    async def demand(self, party_id: PartyId, given: GivenLeaf, word: GivenWord | None = None) -> DisputeRecord:
        """Ask the other side to show a leaf.

        Raises:
            MalformedInput: the opening or the proof is none.
            UnknownStatement: it is no statement of the party's.
            NotFinal, NoResolver, WordMissing, SignatureNotOfParty, AlreadyContested: see there.
            NothingWrong: the statement has no such leaf.
        """
        stated = await self._stated(party_id, given)
        case = case_id(stated.statement.struct_hash, stated.hidden)

        def digest(number: int, deadline: datetime) -> bytes:
            return demand_digest(stated.resolver, case=case, party=number, deadline=deadline)

        signed = await self._disputing.word(party_id, word, digest, stated.resolver)
        row = self._row(party_id, stated, DisputeKind.WITHHELD)
        return await self._disputing.take(row, demand_call(given.opening, stated.hidden, signed))

    async def duplicate(
        self, party_id: PartyId, given: GivenLeaf, leaf: Leaf, *, statement_hash: bytes, cdr_id: str
    ) -> DisputeRecord:
        """Have a leaf struck whose CDR stands in an earlier statement here.

        Args:
            party_id: Who contests.
            given: The leaf in the later statement.
            leaf: The same, whole.
            statement_hash: Names the earlier statement.
            cdr_id: The CDR there.

        Raises:
            MalformedInput, UnknownStatement, NotFinal, NotInStatement, NoResolver, AlreadyContested: see there.
            NothingWrong: it is another CDR, or the statement here is the later one.
        """
        stated = await self._stated(party_id, given)
        earlier, proof = await self._disputing.earlier(party_id, statement_hash, cdr_id)
        contested = Contested(
            statement=stated.statement.struct_hash,
            opening=given.opening,
            period_end=stated.statement.period_end,
            sequence=stated.statement.sequence,
            placed=PlacedLeaf(leaf=leaf, proof=stated.hidden.proof),
        )
        contested.placed.hidden.require_in(stated.statement)
        row = self._row(party_id, stated, DisputeKind.DUPLICATE)
        return await self._disputing.take(row, duplicate_call(contested, earlier, evidence_proof=proof))

    async def _stated(self, party_id: PartyId, given: GivenLeaf) -> _Stated:
        """Return whose statement it is, proven against the book."""
        statement, place = read_open_opening(given.opening)
        if len(given.siblings) % SUM_NODE_BYTES or len(given.siblings) > SIBLINGS_MAX * SUM_NODE_BYTES:
            raise MalformedProofGiven(f"siblings have {SUM_NODE_BYTES} bytes each, and are at most {SIBLINGS_MAX}")
        nodes = range(0, len(given.siblings), SUM_NODE_BYTES)
        siblings = tuple(given.siblings[at : at + SUM_NODE_BYTES] for at in nodes)
        hidden = HiddenLeaf(
            evidence_hash=given.evidence_hash,
            due_e4=given.due_e4,
            credit_e4=given.credit_e4,
            proof=Proof(index=given.index, count=statement.count, siblings=siblings),
        )
        hidden.require_in(statement)
        opening, chain_id, book = await self._settled_in(party_id, statement, place)
        async with self._ports.units.begin() as unit:
            known = await unit.table(RESOLVER).get(chain_id, book)
            if known is None:
                wanted = ResolverRecord(
                    chain_id=chain_id, book=book, currency=opening.currency, is_confidential=False, resolver=None
                )
                await unit.table(RESOLVER).put(wanted)
                await unit.commit()
        if known is None or known.resolver is None:
            raise NoResolver(NO_RESOLVER)
        resolver = Resolver(chain_id=chain_id, address=known.resolver)
        return _Stated(statement=statement, hidden=hidden, opening=opening, chain_id=chain_id, resolver=resolver)

    async def _settled_in(
        self, party_id: PartyId, statement: PairStatement, place: Place
    ) -> tuple[Opening, int, bytes]:
        """Return the agreement of the party's that the statement is final under, with chain and book."""
        async with self._ports.units.begin() as unit:
            openings = await unit.table(OPENING).select({"book_agreement": statement.agreement})
        own = [each for each in openings if party_id in {each.cpo_id, each.emsp_id}]
        if not own:
            raise UnknownStatement(f"{party_id} has no agreement {statement.agreement.hex()}")
        # Books of two currencies may have agreements of the same key; the statement is in one.
        asked = contracts.IS_STATEMENT_FINAL.call((statement.figures, statement.roots), place)
        for each in own:
            deployed = await self._access.books.book_of(each.currency)
            if deployed is None:
                continue
            returned = await self._access.chain.call(deployed.book.address, asked)
            if contracts.IS_STATEMENT_FINAL.answer(returned)[0]:
                return each, deployed.book.chain_id, deployed.book.address
        raise NotFinal(f"no book says that statement {statement.struct_hash.hex()} is final")

    def _row(self, party_id: PartyId, stated: _Stated, kind: DisputeKind) -> DisputeRecord:
        return DisputeRecord(
            case_id=case_id(stated.statement.struct_hash, stated.hidden),
            kind=kind,
            chain_id=stated.chain_id,
            party_id=party_id,
            cpo_id=stated.opening.cpo_id,
            emsp_id=stated.opening.emsp_id,
            cdr_id=None,
            statement_hash=None,
            currency=stated.opening.currency,
            resolver=stated.resolver.address,
            stated_e4=stated.hidden.net_e4,
            claimed_e4=None,
            state=DisputeState.SENDING,
            says=explained(kind, stated.hidden, currency=stated.opening.currency),
            deadline=None,
            corrected_e4=None,
            waiting=None,
            raised_at=self._ports.clock.now(),
            decided_at=None,
        )
