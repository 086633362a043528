"""The worked example of `docs/settlement.md`, computed by the system's own functions.

`python -m tests.docs.settlement_example` writes each figure block as the document must have it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

from emobility.adapters.chain_signing import LocalChainSigner, party_signer
from emobility.adapters.system import SystemTimer
from emobility.domain.agreement import StatementPeriod
from emobility.domain.batch import contracts
from emobility.domain.batch.calls import (
    Acceptance,
    agreement_query,
    batch_query,
    fund_call,
    key_number,
    propose_call,
    read_agreement,
    read_batch,
)
from emobility.domain.batch.hashing import keccak256
from emobility.domain.batch.leaf import NO_METER, Leaf, LeafKind, leaf_of
from emobility.domain.batch.period import period_at
from emobility.domain.batch.statement import PairStatement, batch_tree, pairs_hash, statement_of
from emobility.domain.batch.trees import StatementTrees
from emobility.domain.batch.typed_data import (
    AgreementTerms,
    Book,
    BookMode,
    acceptance_digest,
    batch_id_of,
    discharge_digest,
)
from emobility.domain.cdr import CDR, credit_of
from emobility.domain.identifiers import PartyId
from emobility.domain.money import Price, decimal_from_e4
from emobility.domain.receipt.checking import Finding
from emobility.domain.receipt.document import canonical
from emobility.domain.receipt.making import record_commitment, settled_place, unsigned_receipt
from emobility.domain.session import ChargingPeriod
from emobility.events import codec
from emobility.ports.chain_signer import ChainSigner
from emobility.protocols.receipts import verify_on_chain
from services.settlement.closing import name_of
from services.settlement.deployment import CurrencyContracts, Deployer
from services.settlement.documents import statement_csv, statement_document
from services.settlement.records import BatchRecord, BatchState, LeafRecord, StatementRecord, StatementState
from tests.chains import T0, FakeWorld
from tests.domain.receipt.world import CDR_, START, a_record, sealed

CPO: Final = PartyId("NL-TNM")
MSP: Final = PartyId("NL-ZON")
LATER_PAYER: Final = PartyId("BE-ROL")
"""An MSP on a credit line."""
NUMBERS: Final = {CPO: 1, MSP: 2, LATER_PAYER: 3}
SIGNERS: Final[dict[PartyId, LocalChainSigner]] = {each: party_signer(bytes(range(32)), each) for each in NUMBERS}
PAIR_SECRET: Final = b"\x33" * 32
TIME_ZONE: Final = "Europe/Amsterdam"
PERIOD: Final = period_at(StatementPeriod.MONTHLY, TIME_ZONE, START)
CHAIN_ID: Final = 1_337
DEPOSIT_E4, LIMIT_E4, FIRST_E4, SECOND_E4, PAID_E4 = 1_000_000, 500_000, 300_000, 250_000, 200_000


def a_charge(cdr_id: str, *, import_wh: int, cost_e4: int) -> CDR:
    period = ChargingPeriod(started_at=START, energy_import_wh=import_wh, charging_s=3_600, parking_s=0)
    return replace(
        CDR_,
        cdr_id=cdr_id,
        session_id=cdr_id.removesuffix("-new"),
        periods=(period,),
        ended_at=START + timedelta(hours=1),
        total_energy_import_wh=import_wh,
        total_cost=Price(excl_e4=cost_e4),
    )


WRONG: Final = a_charge("c2", import_wh=40_000, cost_e4=160_000)
CDRS: Final = (
    a_charge("c1", import_wh=21_450, cost_e4=85_800),
    WRONG,
    a_charge("c3", import_wh=10_000, cost_e4=40_000),
    credit_of(WRONG, cdr_id="c2-credit", issued_at=START + timedelta(days=1), remark=""),
    a_charge("c2-new", import_wh=38_000, cost_e4=152_000),
)


def salt_of(cdr: CDR) -> bytes:
    return keccak256(b"salt of " + cdr.cdr_id.encode())


def the_leaf(cdr: CDR) -> Leaf:
    commitment = record_commitment(a_record(cdr), salt=salt_of(cdr))
    return leaf_of(cdr, pair_secret=PAIR_SECRET, commitment=commitment, meter=NO_METER)


TREES: Final = StatementTrees(map(the_leaf, CDRS))
BY_PLACE: Final = sorted(CDRS, key=lambda cdr: TREES.leaves.index(the_leaf(cdr)))


def hash_of(leaf: Leaf) -> bytes:
    return leaf.evidence_hash


def a_sum(net_e4: int, *, agreement: bytes, sequence: int) -> PairStatement:
    """A statement of one charge, of the pair on a credit line."""
    leaf = replace(TREES.leaves[0], kind=LeafKind.CHARGE, due_e4=net_e4, credit_e4=0)
    return statement_of(StatementTrees([leaf]), agreement=agreement, sequence=sequence, period_end=PERIOD[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where the money is after a step, in ten-thousandths."""

    step: str
    msp: int
    cpo: int
    owed: int
    says: str


class Example:
    """A chain in memory on which all of it really happens."""

    def __init__(self) -> None:
        self.world = FakeWorld(chain_id=CHAIN_ID)
        self.deployer = Deployer(self.world.chain, self.world.payer, SystemTimer())
        self.standings: list[Standing] = []

    async def play(self) -> None:
        proposer = self.world.account(1)
        deployment = await self.deployer.deploy(["EUR"], proposer=proposer.address)
        assert await self.deployer.register_parties(deployment, SIGNERS) == NUMBERS
        euro, book = deployment.of("EUR"), deployment.book("EUR")
        assert euro is not None
        assert book is not None
        self.euro: CurrencyContracts = euro
        self.book: Book = book
        prefunded, on_credit = await self.deployer.open_agreements(
            deployment,
            [
                (terms(MSP, BookMode.PREFUNDED, 0), SIGNERS[CPO], SIGNERS[MSP]),
                (terms(LATER_PAYER, BookMode.CREDIT_LINE, LIMIT_E4), SIGNERS[CPO], SIGNERS[LATER_PAYER]),
            ],
        )
        self.prefunded, self.on_credit = prefunded, on_credit
        await self.deployer.deposit(euro, {NUMBERS[MSP]: DEPOSIT_E4})
        await self.note("NL-ZON deposits 100.00", "collateral")

        self.statement = statement_of(TREES, agreement=prefunded, sequence=1, period_end=PERIOD[1])
        other = a_sum(FIRST_E4, agreement=on_credit, sequence=1)
        self.batch = sorted((self.statement, other), key=lambda each: each.agreement)
        self.transaction = await self.propose(self.batch, proposer)
        assert await self.finals(self.batch) == 0b11
        await self.note("the batch is final", "both pairs final")

        second = [a_sum(SECOND_E4, agreement=on_credit, sequence=2)]
        await self.propose(second, proposer)
        assert await self.finals(second) == 0
        await self.note("BE-ROL's next statement, 25.00", "unfunded: 30.00 + 25.00 is over the limit of 50.00")

        digest = discharge_digest(book, agreement=on_credit, number=0, amount_e4=PAID_E4)
        by = [await SIGNERS[each].sign_digest(digest) for each in (CPO, LATER_PAYER)]
        signatures = [(each[:32], each[32:]) for each in by]
        await self.send(contracts.DISCHARGE.call(key_number(on_credit), PAID_E4, *signatures), self.world.payer)
        await self.note("BE-ROL pays 20.00 by bank; both sign a discharge", "owes less")

        await self.send(fund_call(batch_id_of(book, pairs_hash(second)), second), self.world.payer)
        assert await self.finals(second) == 0b1
        await self.note("`fund`", "that statement is final, too")

    async def propose(self, statements: Sequence[PairStatement], proposer: ChainSigner) -> bytes:
        batch_id = batch_id_of(self.book, pairs_hash(statements))
        return await self.send(propose_call(batch_id, statements, await self.acceptances(statements)), proposer)

    async def acceptances(self, statements: Sequence[PairStatement]) -> list[Acceptance]:
        bound, given = pairs_hash(statements), []
        for party, number in NUMBERS.items():
            pairs = self.bits(statements, party)
            if pairs:
                digest = self.digest(bound, number, pairs)
                signature = await SIGNERS[party].sign_digest(digest)
                given.append(Acceptance(party=number, pairs=pairs, signature=signature))
        return given

    def digest(self, bound: bytes, number: int, pairs: int) -> bytes:
        batch_id = batch_id_of(self.book, bound)
        return acceptance_digest(self.book, batch_id=batch_id, pairs_hash=bound, party=number, pairs=pairs)

    def bits(self, statements: Sequence[PairStatement], party: PartyId) -> int:
        msp_of = {self.prefunded: MSP, self.on_credit: LATER_PAYER}
        return sum(1 << at for at, each in enumerate(statements) if party in {CPO, msp_of[each.agreement]})

    async def send(self, calldata: bytes, by: ChainSigner) -> bytes:
        sent = await self.world.sent(self.euro.book, calldata, by=by)
        assert (await self.world.final(sent)).has_succeeded
        return sent

    async def finals(self, statements: Sequence[PairStatement]) -> int:
        query = batch_query(batch_id_of(self.book, pairs_hash(statements)))
        booked = read_batch(await self.world.chain.call(self.euro.book, query))
        return sum(booked.is_final(place) << place for place in range(len(statements)))

    async def note(self, step: str, says: str) -> None:
        state = read_agreement(await self.world.chain.call(self.euro.book, agreement_query(self.on_credit)))
        msp, cpo = [await self.deployer.collateral_of(self.euro, NUMBERS[each]) for each in (MSP, CPO)]
        self.standings.append(Standing(step=step, msp=msp, cpo=cpo, owed=state.owed_e4, says=says))

    # What the document shows

    def money(self) -> str:
        head = (
            "| step | NL-ZON's collateral | NL-TNM's collateral | BE-ROL owes NL-TNM | |\n"
            "| --- | ---: | ---: | ---: | --- |\n"
        )
        return head + "\n".join(
            f"| {each.step} | {amount(each.msp)} | {amount(each.cpo)} | {amount(each.owed)} | {each.says} |"
            for each in self.standings
        )

    @staticmethod
    def leaves() -> str:
        head = "| place | CDR | kind | import Wh | due | credit |\n| ---: | --- | --- | ---: | ---: | ---: |\n"
        return head + "\n".join(
            f"| {place} | {cdr.cdr_id} | {leaf.kind.name} | {leaf.import_wh:,} | {leaf.due_e4:,} | {leaf.credit_e4:,} |"
            for place, (cdr, leaf) in enumerate(zip(BY_PLACE, TREES.leaves, strict=True))
        )

    def hashes(self) -> str:
        hashes = list(map(hash_of, TREES.leaves))
        first, bound = TREES.leaves[0], pairs_hash(self.batch)
        node = keccak256(b"\x01" + hashes[0] + hashes[1])
        position = self.batch.index(self.statement)
        given = {
            "pair secret": PAIR_SECRET.hex(),
            f"key of {BY_PLACE[0].cdr_id}": first.cdr_key.hex(),
            f"commitment of {BY_PLACE[0].cdr_id}": first.commitment.hex(),
            **{f"evidence leaf {place}": each.hex() for place, each in enumerate(hashes)},
            "node over leaves 0 and 1": node.hex(),
            "evidence root": TREES.evidence_root.hex(),
            "sum root": TREES.sum_root.hash.hex(),
            "roots": self.statement.roots.hex(),
            "agreement": self.prefunded.hex(),
            "figures": f"{self.statement.figures:064x}",
            "statement": self.statement.struct_hash.hex(),
            "place in the batch": f"{position} of {len(self.batch)}",
            "its sibling": batch_tree(self.batch).proof(position).siblings[0].hex(),
            "pairs hash": bound.hex(),
            "chain and book": f"{self.book.chain_id} {self.book.address.hex()}",
            "domain separator": self.book.domain_separator.hex(),
            "batch id": batch_id_of(self.book, bound).hex(),
            "NL-ZON's bits": f"{self.bits(self.batch, MSP):b}",
            "NL-ZON signs": self.digest(bound, NUMBERS[MSP], self.bits(self.batch, MSP)).hex(),
            "NL-ZON's address": SIGNERS[MSP].address.hex(),
            "proposed in": self.transaction.hex(),
        }
        return "\n".join(f"{name:<25}{value}" for name, value in given.items())

    def receipt(self) -> bytes:
        """The receipt of the first charge."""
        cdr = CDRS[0]
        place = BY_PLACE.index(cdr)
        bound = pairs_hash(self.batch)
        unsigned = unsigned_receipt(
            a_record(cdr),
            salt=salt_of(cdr),
            settled=settled_place(
                cdr_key=TREES.leaves[place].cdr_key,
                meter=TREES.leaves[place].meter,
                proof=TREES.evidence_proof(place),
                statement=self.statement,
                book=self.book,
                batch_id=batch_id_of(self.book, bound),
                position=self.batch.index(self.statement),
                transaction=self.transaction,
            ),
        )
        return canonical(sealed(unsigned))

    async def on_chain(self, receipt: Any) -> Finding:
        return await verify_on_chain(receipt, self.world.chain)

    # What the two parties get

    def record(self) -> StatementRecord:
        return StatementRecord(
            cpo_id=CPO,
            agreement_id="A1",
            version=1,
            sequence=1,
            emsp_id=MSP,
            currency="EUR",
            state=StatementState.FINAL,
            statement_hash=self.statement.struct_hash,
            book_agreement=self.prefunded,
            evidence_root=self.statement.evidence_root,
            sum_root=self.statement.sum_root,
            due_e4=self.statement.due_e4,
            credit_e4=self.statement.credit_e4,
            count=self.statement.count,
            period_start=PERIOD[0],
            period_end=PERIOD[1],
            closed_at=PERIOD[1],
            batch_id=batch_id_of(self.book, pairs_hash(self.batch)),
            position=self.batch.index(self.statement),
            waiting=None,
            final_at=PERIOD[1],
        )

    def document(self) -> bytes:
        record, bound = self.record(), pairs_hash(self.batch)
        batch = BatchRecord(
            batch_id=batch_id_of(self.book, bound),
            currency="EUR",
            chain_id=self.book.chain_id,
            book=self.book.address,
            pairs_hash=bound,
            statements=(name_of(record),) * len(self.batch),
            state=BatchState.FINAL,
            waiting=None,
            proposed_in=self.transaction,
            formed_at=PERIOD[1],
        )
        return codec.encode(statement_document(record, batch, rows(), pair_secret=PAIR_SECRET.hex()))

    def table(self) -> str:
        return statement_csv(self.record(), rows())


def rows() -> list[LeafRecord]:
    return [
        LeafRecord(
            cpo_id=CPO,
            cdr_id=cdr.cdr_id,
            emsp_id=MSP,
            agreement_id="A1",
            session_id=cdr.session_id,
            currency="EUR",
            is_credit=cdr.is_credit,
            credit_reference_id=cdr.credit_reference_id,
            ended_at=cdr.ended_at,
            accepted_at=cdr.ended_at,
            cdr_key=leaf.cdr_key,
            import_wh=leaf.import_wh,
            export_wh=leaf.export_wh,
            commitment=leaf.commitment,
            meter=leaf.meter,
            due_e4=leaf.due_e4,
            credit_e4=leaf.credit_e4,
            version=1,
            sequence=1,
            place=place,
        )
        for place, (cdr, leaf) in enumerate(zip(BY_PLACE, TREES.leaves, strict=True))
    ]


def terms(msp: PartyId, mode: BookMode, limit_e4: int) -> AgreementTerms:
    return AgreementTerms(
        document=keccak256(b"agreement of " + msp.code.encode()),
        cpo=NUMBERS[CPO],
        msp=NUMBERS[msp],
        currency="EUR",
        mode=mode,
        credit_limit_e4=limit_e4,
        deadline=T0 + timedelta(days=30),
    )


def amount(e4: int) -> str:
    return f"{decimal_from_e4(e4):,.2f}"


async def played() -> Example:
    example = Example()
    await example.play()
    return example


if __name__ == "__main__":
    shown = asyncio.run(played())
    sys.stdout.write(f"{shown.money()}\n\n{shown.leaves()}\n\n{shown.hashes()}\n")
