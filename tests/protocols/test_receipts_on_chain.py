"""A driver's receipt, asked about at an endpoint on which its statement was really proposed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from emobility.domain.batch import contracts
from emobility.domain.batch.leaf import NO_METER, leaf_of
from emobility.domain.batch.statement import PairStatement, pairs_hash
from emobility.domain.batch.trees import StatementTrees
from emobility.domain.batch.typed_data import Book, BookMode, batch_id_of
from emobility.domain.receipt.checking import Check, Verdict
from emobility.domain.receipt.document import Receipt
from emobility.domain.receipt.making import record_commitment, settled_place, unsigned_receipt
from emobility.ports.chain import ChainUnavailable
from emobility.protocols.receipts import verify_on_chain
from tests.chains import KINDS, LEDGERS, FakeWorld, a_chain_world
from tests.domain.receipt.world import CDR_, PAIR_SECRET, SALT, a_record, neighbour
from tests.settling import CPO, MSP, PARTIES, Pair, Settling, settling_on

RECORD: Final = a_record()


class Charge:
    """The driver's charge among others, in a batch with another pair's statement."""

    def __init__(self, settling: Settling, pair: Pair, *, import_wh: int | None = None) -> None:
        self.settling = settling
        leaf = leaf_of(CDR_, pair_secret=PAIR_SECRET, commitment=record_commitment(RECORD, salt=SALT), meter=NO_METER)
        if import_wh is not None:
            leaf = replace(leaf, import_wh=import_wh)
        self.trees = StatementTrees([leaf, *map(neighbour, range(4))])
        self.index = self.trees.leaves.index(leaf)
        self.statement = settling.statement(pair, self.trees.leaves)
        other = next(each for each in settling.pairs if each.agreement != pair.agreement)
        both = (self.statement, settling.statement(other, [neighbour(9)]))
        self.batch: Sequence[PairStatement] = sorted(both, key=lambda statement: statement.agreement)

    def receipt(self, transaction: bytes, *, book: Book | None = None) -> Receipt:
        return unsigned_receipt(
            RECORD,
            salt=SALT,
            settled=settled_place(
                cdr_key=self.trees.leaves[self.index].cdr_key,
                meter=self.trees.leaves[self.index].meter,
                proof=self.trees.evidence_proof(self.index),
                statement=self.statement,
                book=book or self.settling.book,
                batch_id=batch_id_of(self.settling.book, pairs_hash(self.batch)),
                position=self.batch.index(self.statement),
                transaction=transaction,
            ),
        )


@pytest.fixture(params=(*KINDS, LEDGERS[0]))
async def settling(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Settling]:
    async with a_chain_world(request.param, tmp_path / "chain") as world:
        yield await settling_on(world)


@pytest.fixture(params=KINDS)
async def mined(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Settling]:
    async with a_chain_world(request.param, tmp_path / "chain") as world:
        yield await settling_on(world)


async def verdict(settling: Settling, receipt: Receipt) -> tuple[Verdict, str]:
    finding = await verify_on_chain(receipt, settling.world.chain)
    assert finding.check is Check.CHAIN
    return finding.verdict, finding.says


def changed(receipt: Receipt, part: str, **fields: Any) -> Receipt:
    return msgspec.structs.replace(receipt, **{part: msgspec.structs.replace(getattr(receipt, part), **fields)})


@pytest.mark.parametrize("mode", [BookMode.PREFUNDED, BookMode.CREDIT_LINE])
async def test_a_receipt_of_a_settled_charge_is_confirmed(settling: Settling, mode: BookMode) -> None:
    charge = Charge(settling, settling.pair(mode))
    proposal = await settling.proposed(charge.batch)

    found, says = await verdict(settling, charge.receipt(proposal.transaction_hash))

    assert found is Verdict.HOLDS
    assert f"{CPO} and {MSP} signed it, or one did" in says


async def test_a_statement_that_one_side_did_not_accept_is_not_final(settling: Settling) -> None:
    charge = Charge(settling, settling.pair(BookMode.PREFUNDED))
    proposal = await settling.proposed(charge.batch, by=[each for each in PARTIES if each != MSP])

    assert await verdict(settling, charge.receipt(proposal.transaction_hash)) == (
        Verdict.REFUSED,
        "The statement was proposed, but it is not final yet.",
    )


async def test_an_acceptance_that_comes_later_confirms_it(settling: Settling) -> None:
    charge = Charge(settling, settling.pair(BookMode.PREFUNDED))
    proposal = await settling.proposed(charge.batch, by=())
    receipt = charge.receipt(proposal.transaction_hash)

    await settling.accepted(charge.batch, by=PARTIES)

    assert (await verdict(settling, receipt))[0] is Verdict.HOLDS


async def test_another_chain_is_told_from_the_receipt_s(settling: Settling) -> None:
    charge = Charge(settling, settling.pair(BookMode.PREFUNDED))
    proposal = await settling.proposed(charge.batch)
    other = FakeWorld(chain_id=settling.deployment.chain_id + 1)

    finding = await verify_on_chain(charge.receipt(proposal.transaction_hash), other.chain)

    assert finding.verdict is Verdict.REFUSED
    assert finding.says.startswith(f"The endpoint is chain {settling.deployment.chain_id + 1};")


async def test_another_book_than_that_of_the_transaction_is_refused(settling: Settling) -> None:
    charge = Charge(settling, settling.pair(BookMode.PREFUNDED))
    proposal = await settling.proposed(charge.batch)
    for address in (settling.deployment.registry, settling.euro.vault, bytes(20)):
        elsewhere = replace(settling.book, address=address)

        found = await verdict(settling, charge.receipt(proposal.transaction_hash, book=elsewhere))

        assert found[0] is Verdict.REFUSED


async def test_a_leaf_that_was_changed_after_signing_is_in_no_settled_statement(settling: Settling) -> None:
    pair = settling.pair(BookMode.PREFUNDED)
    proposal = await settling.proposed(Charge(settling, pair).batch)
    forged = Charge(settling, pair, import_wh=1).receipt(proposal.transaction_hash)
    honest = Charge(settling, pair).receipt(proposal.transaction_hash)

    found = await verdict(settling, msgspec.structs.replace(forged, chain=honest.chain))

    assert found == (Verdict.REFUSED, "The statement at that position is another one.")


async def test_a_receipt_that_names_another_place_is_refused(settling: Settling) -> None:
    charge = Charge(settling, settling.pair(BookMode.PREFUNDED))
    proposal = await settling.proposed(charge.batch)
    elsewhere: list[tuple[str, dict[str, Any]]] = [
        ("chain", {"batch_id": "00" * 32}),
        ("chain", {"transaction": "00" * 32}),
        ("chain", {"position": 255}),
        ("statement", {"sequence": 2}),
        ("statement", {"agreement": "00" * 32}),
        ("statement", {"evidence_root": "00" * 32}),
        ("place", {"count": 6}),
    ]

    for part, fields in elsewhere:
        receipt = changed(charge.receipt(proposal.transaction_hash), part, **fields)
        assert (await verdict(settling, receipt))[0] is Verdict.REFUSED, fields


async def test_a_statement_of_other_companies_confirms_nothing(settling: Settling) -> None:
    others = next(each for each in settling.pairs if (each.cpo, each.msp) != (CPO, MSP))
    charge = Charge(settling, others)
    proposal = await settling.proposed(charge.batch)

    found = await verdict(settling, charge.receipt(proposal.transaction_hash))

    assert found == (Verdict.REFUSED, f"The statement is not one of {CPO} and {MSP}.")


async def test_a_transaction_that_proposed_nothing_confirms_nothing(settling: Settling) -> None:
    charge = Charge(settling, settling.pair(BookMode.PREFUNDED))
    await settling.proposed(charge.batch)
    mint = contracts.MINT.call(bytes(19) + b"\1", 1)
    sent = await settling.world.final(await settling.world.sent(settling.euro.token, mint))

    assert (await verdict(settling, charge.receipt(sent.transaction_hash)))[0] is Verdict.REFUSED


async def test_a_chain_that_lost_its_state_confirms_nothing(mined: Settling) -> None:
    charge = Charge(mined, mined.pair(BookMode.PREFUNDED))
    proposal = await mined.proposed(charge.batch)

    await mined.world.restart_without_state()

    assert (await verdict(mined, charge.receipt(proposal.transaction_hash)))[0] is Verdict.REFUSED


async def test_an_endpoint_that_is_down_confirms_and_refuses_nothing(mined: Settling) -> None:
    charge = Charge(mined, mined.pair(BookMode.PREFUNDED))
    proposal = await mined.proposed(charge.batch)

    await mined.world.stop()

    with pytest.raises(ChainUnavailable):
        await verify_on_chain(charge.receipt(proposal.transaction_hash), mined.world.chain)


async def test_a_block_that_may_still_go_confirms_nothing() -> None:
    world = FakeWorld()
    settling = await settling_on(world)
    charge = Charge(settling, settling.pair(BookMode.PREFUNDED))
    world.fake.is_held = True
    sent = await settling.sent_proposal(charge.batch)
    verdicts = []

    for _ in range(3):
        world.fake.mine()
        verdicts.append((await verdict(settling, charge.receipt(sent)))[0])

    assert verdicts == [Verdict.REFUSED, Verdict.REFUSED, Verdict.HOLDS]
