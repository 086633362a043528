"""A party contests a CDR of a final statement: build the proof, send it, and follow its case.

What is sent is public for good, so a proof is checked before it is queued, and a meter's record that names its driver
is never sent. A word of a party is signed here if its key is here; else it comes with the request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from emobility.domain.batch import contracts
from emobility.domain.batch.calls import REGISTRY_QUERY, read_registry
from emobility.domain.batch.disputes import (
    Case,
    CaseStage,
    Contested,
    DisputeKind,
    MeteredEnergy,
    NotOnChain,
    Resolver,
    Word,
    credit_call,
    defence_digest,
    defend_call,
    energy_call,
    explained,
    lapse_call,
    place_leaf,
    quarrel_call,
    quarrel_digest,
    signature_call,
)
from emobility.domain.batch.leaf import Leaf
from emobility.domain.batch.trees import Proof, StatementTrees
from emobility.domain.errors import RuleBroken, Unavailable
from emobility.domain.identifiers import PartyId
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocmf.judged import is_signed, metered_energy
from emobility.protocols.ocmf.showing import names_driver
from services.settlement.acceptances import NotRegistered, SignatureNotOfParty, statement_of_party
from services.settlement.access import ChainAccess
from services.settlement.case_leaves import struct_hash_of
from services.settlement.cases import (
    ANSWERS,
    DECIDED,
    Cases,
    Sight,
    as_it_stands,
    book_resolved_by,
    put_if_same,
    transaction_id,
)
from services.settlement.closing import StatementDiffers, leaf_in_tree, leaves_of, name_of
from services.settlement.dispute_openings import OpenedStatement, opened_statement
from services.settlement.dispute_records import DISPUTE, RESOLVER, DisputeRecord, DisputeState, ResolverRecord
from services.settlement.meter_records import METER_RECORD, MeterRecordKept, OpenedMeter, open_meter
from services.settlement.proving import UnknownCDR
from services.settlement.records import (
    LEAF,
    PARTY,
    STATEMENT,
    TRANSACTION,
    LeafRecord,
    SigningPolicy,
    StatementRecord,
    StatementState,
    TransactionKind,
    TransactionRecord,
    TransactionState,
)

NO_RESOLVER: Final = "this book has no resolver yet; on a chain of our own one is made now: ask again"
WORD_COUNTS_FOR: Final = timedelta(days=7)
"""How long a word that we sign may wait for its block."""
_Digest = Callable[[int, datetime], bytes]
"""What a party signs, by its number and the word's deadline."""


class NotFinal(RuleBroken):
    """Only CDRs of final statements are contested; of others the statement itself is not accepted."""


class NotInStatement(RuleBroken):
    """The statement has no such CDR."""


class NoResolver(Unavailable):
    """No contract resolves the cases of this book, so far."""


class NothingKept(RuleBroken):
    """The meter's records behind the CDR are not here: it has none, or they were erased."""


class AlreadyContested(RuleBroken):
    """The CDR is contested on this ground already, by the other party or with another amount."""


class WordMissing(RuleBroken):
    """The party's key is not here: its signature of the named digest, and its deadline, must come with the request.

    A deadline that is over does not count.
    """


class UnknownDispute(RuleBroken):
    """The party has no such dispute, or it is not its turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenWord:
    """A signature that came with a request."""

    deadline: datetime
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """What a party contests; `claimed_e4` under PRICE alone."""

    statement_hash: bytes
    cdr_id: str
    kind: DisputeKind
    claimed_e4: int | None = None
    word: GivenWord | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grounds:
    """What the rows say of a contested CDR."""

    statement: StatementRecord
    leaves: list[LeafRecord]
    row: LeafRecord
    original: LeafRecord | None
    meter: MeterRecordKept | None
    opened: OpenedStatement
    resolver: Resolver


class Disputing:
    """Takes disputes in, and brings their cases on; `sending` carries the calls."""

    def __init__(self, ports: Ports, access: ChainAccess) -> None:
        self._ports = ports
        self._access = access
        self._cases = Cases(access)

    async def contest(self, party_id: PartyId, contest: Contest) -> DisputeRecord:
        """Queue the call that contests a CDR. The same again changes nothing but a call of which no bytes exist yet.

        Raises:
            UnknownStatement: the party takes part in none of this hash.
            NotFinal, NotInStatement, NoResolver, NothingKept, AlreadyContested, WordMissing: see there.
            SignatureNotOfParty: the word that came is not by the party's registered key.
            NothingWrong: the proof shows nothing wrong.
            NotOnChain: it can't be judged, or must not be shown, there.
            SubjectErased, SubjectRestricted: the driver was erased, and the meter's records with that.
        """
        async with self._ports.units.begin() as unit:
            grounds = await self._grounds(unit, party_id, contest)
            await unit.commit()
        if grounds is None:
            raise NoResolver(NO_RESOLVER)
        contested = await asyncio.to_thread(_contested, grounds)
        leaf = contested.placed.leaf
        calldata, energy = await self._call(party_id, contest, grounds, contested)
        row = DisputeRecord(
            case_id=contested.case_id,
            kind=contest.kind,
            chain_id=grounds.opened.chain_id,
            party_id=party_id,
            cpo_id=grounds.row.cpo_id,
            emsp_id=grounds.row.emsp_id,
            cdr_id=contest.cdr_id,
            statement_hash=contest.statement_hash,
            currency=grounds.statement.currency,
            resolver=grounds.resolver.address,
            stated_e4=leaf.net_e4,
            claimed_e4=contest.claimed_e4,
            state=DisputeState.SENDING,
            says=explained(contest.kind, leaf, energy=energy, currency=grounds.statement.currency),
            deadline=None,
            corrected_e4=None,
            waiting=None,
            raised_at=self._ports.clock.now(),
            decided_at=None,
        )
        return await self.take(row, calldata)

    async def take(self, row: DisputeRecord, calldata: bytes) -> DisputeRecord:
        """Keep a dispute and queue the call that raises it, once. Raises `AlreadyContested`."""
        async with self._ports.units.begin() as unit:
            known = await unit.table(DISPUTE).get_for_update(row.case_id, row.kind)
            if known is not None:
                if (known.party_id, known.claimed_e4) != (row.party_id, row.claimed_e4):
                    raise AlreadyContested(f"{row.case_id.hex()} is contested by {known.party_id} as {known.kind}")
                if known.state is DisputeState.SENDING and await self._renew(unit, known, row.kind.value, calldata):
                    known = replace(known, waiting=None)
                    await unit.table(DISPUTE).put(known)
                    await unit.commit()
                return known
            await unit.table(DISPUTE).put(row)
            await unit.table(TRANSACTION).put(self.call(row, row.kind.value, calldata))
            await unit.commit()
        return row

    async def earlier(self, party_id: PartyId, statement_hash: bytes, cdr_id: str) -> tuple[Contested, Proof]:
        """Return a CDR of a final statement that a duplicate stands behind, with its proof in the evidence tree.

        Raises:
            UnknownStatement, NotFinal, NotInStatement, NoResolver: see there.
        """
        asked = Contest(statement_hash=statement_hash, cdr_id=cdr_id, kind=DisputeKind.DUPLICATE)
        async with self._ports.units.begin() as unit:
            grounds = await self._grounds(unit, party_id, asked)
            await unit.commit()
        if grounds is None:
            raise NoResolver(NO_RESOLVER)

        def proven() -> tuple[Contested, Proof]:
            placed = _contested(grounds)
            trees = StatementTrees([leaf_in_tree(leaf) for leaf in grounds.leaves])
            return placed, trees.evidence_proof(placed.placed.proof.index)

        return await asyncio.to_thread(proven)

    async def defend(self, party_id: PartyId, case_id: bytes, word: GivenWord | None = None) -> None:
        """Stand by an amount that the other party contests.

        Raises:
            UnknownDispute: nothing of this name waits for the party.
            WordMissing: its key is not here.
            SignatureNotOfParty: the word that came is not by its registered key.
        """
        async with self._ports.units.begin() as unit:
            row = await unit.table(DISPUTE).get(case_id, DisputeKind.PRICE)
        if (
            row is None
            or row.state is not DisputeState.OPEN
            or party_id not in {row.cpo_id, row.emsp_id} - {row.party_id}
        ):
            raise UnknownDispute(f"{party_id} has nothing to defend as {case_id.hex()}")
        resolver = Resolver(chain_id=row.chain_id, address=row.resolver)

        def digest(number: int, deadline: datetime) -> bytes:
            return defence_digest(resolver, case=case_id, party=number, deadline=deadline)

        calldata = defend_call(case_id, await self.word(party_id, word, digest, resolver))
        await self._queue(row, "defence", calldata)

    async def of_party(self, party_id: PartyId) -> list[DisputeRecord]:
        """Return the disputes of a party's pairs, the newest first."""
        async with self._ports.units.begin() as unit:
            table = unit.table(DISPUTE)
            rows = [
                row
                for side in ("cpo_id", "emsp_id")
                for row in await table.select({side: party_id}, order_by=("-raised_at",))
            ]
        return sorted(rows, key=lambda row: (row.raised_at, row.case_id), reverse=True)

    async def meter_opening(self, party_id: PartyId, cpo_id: PartyId, cdr_id: str) -> OpenedMeter:
        """Return what opens a CDR's commitment to its meter, for its two parties.

        Raises:
            UnknownCDR: the party has no such CDR here.
            NothingKept: no meter signed it.
            SubjectErased, SubjectRestricted: the driver was erased.
        """
        async with self._ports.units.begin() as unit:
            leaf = await unit.table(LEAF).get(cpo_id, cdr_id)
            kept = await unit.table(METER_RECORD).get(cpo_id, cdr_id)
        if leaf is None or party_id not in {leaf.cpo_id, leaf.emsp_id}:
            raise UnknownCDR(f"{party_id} has no CDR {cpo_id}/{cdr_id} here")
        if kept is None:
            raise NothingKept(f"no meter signed CDR {cdr_id}")
        return await open_meter(self._ports.vault, kept)

    # Following cases

    async def advance(self) -> int:
        """Note how cases stand, and end those whose deadline is over; return how many moved."""
        async with self._ports.units.begin() as unit:
            rows = await unit.table(DISPUTE).select(
                {"state": (DisputeState.SENDING, DisputeState.OPEN)}, order_by=("raised_at",)
            )
        return sum([await self._bring_on(row) for row in rows])

    async def _bring_on(self, row: DisputeRecord) -> int:
        if row.state is DisputeState.SENDING:
            async with self._ports.units.begin() as unit:
                transaction = await unit.table(TRANSACTION).get(transaction_id(row, row.kind.value))
            assert transaction is not None, f"dispute {row.case_id.hex()} is sent by nobody"
            if transaction.state is not TransactionState.FINAL:
                if transaction.waiting is None:
                    return 0
                # The resolver refuses: perhaps somebody else showed the same before, or the party itself raised it.
                sight = await self._cases.look(row.resolver, row.case_id)
                if sight.case.stage not in DECIDED and not await self._is_raised(row, sight.case):
                    return await self._put(row, replace(row, waiting=transaction.waiting))
                return await self._put_as_it_stands(row, sight)
        sight = await self._cases.look(row.resolver, row.case_id)
        moved = await self._put_as_it_stands(row, sight)
        if sight.at_s > int(sight.case.deadline.timestamp()) and await self._may_lapse(row, sight.case):
            moved += await self._queue(row, f"lapse-{int(sight.case.stage)}", lapse_call(row.case_id))
        return moved

    async def _is_raised(self, row: DisputeRecord, case: Case) -> bool:
        """Tell whether the chain has a party's word already: said with another tool, or before rows were lost."""
        assert row.party_id is not None, "what is sent from here is a party's"
        async with self._ports.units.begin() as unit:
            party = await unit.table(PARTY).get(row.party_id)
        if party is None or party.number is None or party.number != case.claimant:
            return False
        if row.kind is DisputeKind.WITHHELD:
            return case.stage in {CaseStage.DEMANDED, CaseStage.REVEALED}
        is_quarrel = row.kind is DisputeKind.PRICE and case.stage in {CaseStage.QUARRELLED, CaseStage.DEFENDED}
        return is_quarrel and case.claimed_e4 == row.claimed_e4

    async def _may_lapse(self, row: DisputeRecord, case: Case) -> bool:
        """Tell whether the end of a deadline is to be told to the resolver: never against the side that is here alone.

        A leaf that is on its way is shown first, for the resolver takes it until the case lapses.
        """
        if row.kind is DisputeKind.PRICE and case.stage is CaseStage.DEFENDED:
            return True
        if (row.kind, case.stage) not in {
            (DisputeKind.WITHHELD, CaseStage.DEMANDED),
            (DisputeKind.PRICE, CaseStage.QUARRELLED),
        }:
            return False
        async with self._ports.units.begin() as unit:
            claimant = None if row.party_id is None else await unit.table(PARTY).get(row.party_id)
            shown = await unit.table(TRANSACTION).get(transaction_id(row, ANSWERS[DisputeKind.WITHHELD]))
        is_shown = shown is not None and shown.state is not TransactionState.FINAL
        return claimant is not None and claimant.is_hosted and not is_shown

    async def _put_as_it_stands(self, row: DisputeRecord, sight: Sight) -> int:
        async with self._ports.units.begin() as unit:
            stands = await as_it_stands(unit, row, sight, now=self._ports.clock.now())
        return await self._put(row, stands)

    async def _put(self, row: DisputeRecord, changed: DisputeRecord) -> int:
        if changed == row:
            return 0
        async with self._ports.units.begin() as unit:
            if not await put_if_same(unit, row, changed):
                return 0
            await unit.commit()
        return 1

    async def _queue(self, row: DisputeRecord, what: str, calldata: bytes) -> int:
        """Queue a call, once; one that is known is renewed."""
        async with self._ports.units.begin() as unit:
            if await unit.table(TRANSACTION).get(transaction_id(row, what)) is not None:
                renewed = await self._renew(unit, row, what, calldata)
                await unit.commit()
                return renewed
            await unit.table(TRANSACTION).put(self.call(row, what, calldata))
            await unit.commit()
        return 1

    @staticmethod
    async def _renew(unit: UnitOfWork, row: DisputeRecord, what: str, calldata: bytes) -> int:
        """Replace a call of which no bytes exist, for a word in it may have expired; return how many were."""
        queued = await unit.table(TRANSACTION).get_for_update(transaction_id(row, what))
        if queued is None or queued.state is not TransactionState.QUEUED or queued.calldata == calldata:
            return 0
        await unit.table(TRANSACTION).put(replace(queued, calldata=calldata, waiting=None))
        return 1

    # Proofs

    async def _grounds(self, unit: UnitOfWork, party_id: PartyId, contest: Contest) -> _Grounds | None:
        """Return them; None: the book has no resolver, which is noted as wanted."""
        statement = await statement_of_party(unit, party_id, contest.statement_hash)
        if statement.state is not StatementState.FINAL:
            raise NotFinal(f"{name_of(statement)} is {statement.state}")
        leaves = await leaves_of(unit, statement)
        row = next((leaf for leaf in leaves if leaf.cdr_id == contest.cdr_id), None)
        if row is None:
            raise NotInStatement(f"{name_of(statement)} has no CDR {contest.cdr_id}")
        opened = await opened_statement(unit, self._ports.vault, statement)
        resolver = await unit.table(RESOLVER).get(opened.chain_id, opened.book)
        if resolver is None:
            wanted = ResolverRecord(
                chain_id=opened.chain_id,
                book=opened.book,
                currency=statement.currency,
                is_confidential=opened.is_confidential,
                resolver=None,
            )
            await unit.table(RESOLVER).put(wanted)
        if resolver is None or resolver.resolver is None:
            return None
        original = None
        if row.credit_reference_id is not None:
            original = await unit.table(LEAF).get(row.cpo_id, row.credit_reference_id)
        return _Grounds(
            statement=statement,
            leaves=leaves,
            row=row,
            original=original,
            meter=await unit.table(METER_RECORD).get(row.cpo_id, row.cdr_id),
            opened=opened,
            resolver=Resolver(chain_id=resolver.chain_id, address=resolver.resolver),
        )

    async def _call(
        self, party_id: PartyId, contest: Contest, grounds: _Grounds, contested: Contested
    ) -> tuple[bytes, MeteredEnergy | None]:
        """Return the call, and what the meter signed where that is the point."""
        match contest.kind:
            case DisputeKind.METER_SIGNATURE:
                meter = await self._meter(grounds)
                return signature_call(contested, meter.record, salt=meter.salt, is_signed=is_signed), None
            case DisputeKind.METER_ENERGY:
                meter = await self._meter(grounds)
                energy = metered_energy(meter.record)
                return energy_call(contested, meter.record, salt=meter.salt, energy=energy), energy
            case DisputeKind.CREDIT_OF_STRUCK:
                return await self._credit_call(grounds, contested), None
            case DisputeKind.PRICE:
                return await self._quarrel_call(party_id, contest, grounds, contested), None
            case _:
                # Our rows hold each CDR once and whole: what a partner stated beyond them comes with `given_leaves`.
                raise NotOnChain(f"{contest.kind} is about a leaf that these books lack: give it")

    async def _meter(self, grounds: _Grounds) -> OpenedMeter:
        if grounds.meter is None:
            raise NothingKept(f"no meter signed CDR {grounds.row.cdr_id}")
        opened = await open_meter(self._ports.vault, grounds.meter)
        if any(names_driver(text) for text in opened.texts):
            raise NotOnChain("the meter's record names the driver, and what is on a chain stays there: ask an arbiter")
        return opened

    async def _credit_call(self, grounds: _Grounds, contested: Contested) -> bytes:
        if grounds.original is None or grounds.original.sequence is None:
            raise NothingKept(f"CDR {grounds.row.cdr_id} takes nothing back that is in a statement here")
        async with self._ports.units.begin() as unit:
            decided = await unit.table(DISPUTE).select(
                {"cpo_id": grounds.row.cpo_id, "cdr_id": grounds.original.cdr_id, "state": DisputeState.DECIDED}
            )
            its = grounds.original
            stated = await unit.table(STATEMENT).get(its.cpo_id, its.agreement_id, its.version, its.sequence)
            assert stated is not None, f"CDR {its.cdr_id} was struck, and stands in no statement"
            statement = await struct_hash_of(unit, stated)
        for each in decided:
            # The chain knows why: somebody else may have shown another proof first.
            sight = await self._cases.look(each.resolver, each.case_id)
            if sight.case.takes_charge_back:
                return credit_call(contested, statement=statement, charge=leaf_in_tree(grounds.original))
        raise NothingKept(f"CDR {grounds.original.cdr_id} was not struck, or only as a duplicate")

    async def _quarrel_call(
        self, party_id: PartyId, contest: Contest, grounds: _Grounds, contested: Contested
    ) -> bytes:
        claimed_e4 = contest.claimed_e4
        if claimed_e4 is None:
            raise WordMissing("a price that is contested needs the one that is claimed")
        owes = grounds.row.emsp_id if contested.placed.leaf.net_e4 > 0 else grounds.row.cpo_id
        if party_id != owes:
            raise NotOnChain(f"{owes} owes this CDR, and only it can say that it costs less")

        def digest(number: int, deadline: datetime) -> bytes:
            return quarrel_digest(
                grounds.resolver, case=contested.case_id, party=number, claimed_e4=claimed_e4, deadline=deadline
            )

        word = await self.word(party_id, contest.word, digest, grounds.resolver)
        return quarrel_call(contested, claimed_e4=claimed_e4, word=word)

    async def word(self, party_id: PartyId, given: GivenWord | None, digest: _Digest, resolver: Resolver) -> Word:
        """Return a party's word: signed here, or as it came if the resolver will take it."""
        async with self._ports.units.begin() as unit:
            party = await unit.table(PARTY).get(party_id)
        if party is None or party.number is None:
            raise NotRegistered(f"{party_id} is not in the registry")
        if given is not None:
            await self._refuse_word(party_id, given, digest(party.number, given.deadline), party.number, resolver)
            return Word(party=party.number, deadline=given.deadline, signature=given.signature)
        deadline = (self._ports.clock.now() + WORD_COUNTS_FOR).replace(microsecond=0)
        what = digest(party.number, deadline)
        if not party.is_hosted or party.signs is not SigningPolicy.AUTOMATIC:
            raise WordMissing(f"sign {what.hex()} with the deadline {deadline.isoformat()}")
        signature = await self._access.signer_of(party_id).sign_digest(what)
        return Word(party=party.number, deadline=deadline, signature=signature)

    async def _refuse_word(
        self, party_id: PartyId, given: GivenWord, what: bytes, number: int, resolver: Resolver
    ) -> None:
        """Let a word pass that counts: a call with another one would be refused for ever."""
        if given.deadline <= self._ports.clock.now():
            raise WordMissing(f"the deadline {given.deadline.isoformat()} is over: sign one that is not")
        async with self._ports.units.begin() as unit:
            book = await book_resolved_by(unit, resolver.address)
        assert book is not None, f"resolver {resolver.address.hex()} resolves the cases of no book"
        chain = self._access.chain
        registry = read_registry(await chain.call(book, REGISTRY_QUERY))
        (signer,) = contracts.SIGNER_OF.answer(await chain.call(registry, contracts.SIGNER_OF.call(number)))
        if self._access.recovered_address(what, given.signature) != signer:
            raise SignatureNotOfParty(f"the key registered for {party_id} signed something else, or did not sign")

    def call(self, row: DisputeRecord, what: str, calldata: bytes) -> TransactionRecord:
        """Return a call of the dispute's resolver that is to be queued."""
        return TransactionRecord(
            transaction_id=transaction_id(row, what),
            kind=TransactionKind.DISPUTE,
            batch_id=row.case_id,
            chain_id=row.chain_id,
            account=self._access.proposer.address,
            receiver=row.resolver,
            calldata=calldata,
            queued_at=self._ports.clock.now(),
        )


def _contested(grounds: _Grounds) -> Contested:
    """Build the proof. Raises `StatementDiffers`: the rows are not those that were signed."""
    trees = StatementTrees([leaf_in_tree(leaf) for leaf in grounds.leaves])
    statement = grounds.statement
    if (trees.evidence_root, trees.sum_root.hash) != (statement.evidence_root, statement.sum_root):
        raise StatementDiffers(name_of(statement))
    leaf: Leaf = leaf_in_tree(grounds.row)
    return Contested(
        statement=grounds.opened.struct_hash,
        opening=grounds.opened.opening,
        period_end=statement.period_end,
        sequence=statement.sequence,
        placed=place_leaf(trees, trees.leaves.index(leaf)),
    )
