"""An operator rewrites history, on a ledger and on a chain of its own: who notices, and with what evidence.

The operator has its own keys, those of the ledger and of whoever sends; parties keep theirs. What each test shows is a
row of the table in docs/chain-or-database.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from emobility.adapters.chain_signing import recovered_address
from emobility.adapters.cosigned_ledger.exported import exported
from emobility.adapters.cosigned_ledger.ledger import ReplicaReader, open_ledger
from emobility.adapters.cosigned_ledger.replica import LedgerBroken, Replica
from emobility.adapters.memory import SeededRandomness, open_memory
from emobility.domain.batch.calls import read_proposal
from emobility.domain.batch.typed_data import BookMode
from emobility.domain.cosigned_ledger import Countersignature, Head, forked, head_digest, outcome_hash, rewritten
from emobility.domain.receipt.checking import Verdict
from emobility.domain.receipt.document import Receipt
from emobility.ports.chain_signer import UnsignedTransaction
from emobility.protocols.ledger_receipts import verify_in_ledger
from emobility.protocols.receipts import verify_on_chain
from services.cli.ledger_checking import against, run_check
from tests.chains import FakeWorld, LedgerWorld, a_ledger
from tests.domain.receipt.world import neighbour
from tests.protocols.test_receipts_on_chain import Charge
from tests.settling import CPO, MSP, SIGNERS, Settling, settling_on


@dataclass(frozen=True, kw_only=True)
class Called:
    """A call as it was entered."""

    sender: bytes
    transaction: UnsignedTransaction
    timestamp_s: int


@dataclass
class History:
    """Two batches on a ledger, a driver's receipt of the first, and the heads that a party kept after each."""

    world: LedgerWorld
    settling: Settling
    receipt: Receipt
    kept: list[Head]

    @property
    def told(self) -> Replica:
        return self.world.ledger.replica

    async def retold(self, edit: Callable[[list[Called]], Sequence[Called]], *, until: int | None = None) -> Replica:
        """Return the ledger as the operator writes it anew: calls changed, all signed again by its own keys."""
        entries = self.told.entries
        accounts = {each.address: each for each in map(self.world.account, range(2))}
        retold = Replica(entries[0].entry)
        calls = [
            Called(sender=each.sender, transaction=each.transaction, timestamp_s=each.entry.timestamp_s)
            for each in entries[1:until]
            if each.transaction is not None
        ]
        for call in edit(calls):
            transaction = replace(call.transaction, nonce=retold.nonce(call.sender))
            raw = await accounts[call.sender].sign_transaction(transaction)
            draft = retold.draft(raw, timestamp_s=call.timestamp_s)
            digest = head_digest(retold.ledger_id, draft.entry.number, draft.entry.hash)
            retold.conclude(draft, await self.world.payer.sign_digest(digest))
        return retold

    async def verdict(self, replica: Replica) -> Verdict:
        return (await verify_in_ledger(self.receipt, ReplicaReader(replica))).verdict


async def countersigned(replica: Replica, *parties: object) -> None:
    """Have parties countersign the newest head that they are shown."""
    head = replica.head
    for party in parties:
        signer = SIGNERS[party]  # type: ignore[index]  # a party
        signature = await signer.sign_digest(head_digest(replica.ledger_id, head.number, head.hash))
        replica.countersigned(
            Countersignature(number=head.number, signer=signer.address, hash=head.hash, signature=signature)
        )


async def told_on(world: LedgerWorld | FakeWorld) -> tuple[Settling, Receipt]:
    """Two batches, and a receipt of the first."""
    settling = await settling_on(world)
    charge = Charge(settling, settling.pair(BookMode.PREFUNDED))
    first = await settling.proposed(charge.batch)
    others = next(each for each in settling.pairs if (each.cpo, each.msp) != (CPO, MSP))
    sequence = (await settling.state(others)).last_sequence + 1
    await settling.proposed([settling.statement(others, [neighbour(20)], sequence=sequence)])
    return settling, charge.receipt(first.transaction_hash)


@pytest.fixture
async def history() -> AsyncIterator[History]:
    async with a_ledger() as world:
        settling, receipt = await told_on(world)
        heads = world.ledger.replica.heads()
        await countersigned(world.ledger.replica, CPO, MSP)
        yield History(world, settling, receipt, kept=heads[-2:])


def with_more_due(call: Called) -> Called:
    """Return a proposal whose first statement has a ten-thousandth more to pay, with the acceptances that it had."""
    proposal = read_proposal(call.transaction.calldata)
    first = proposal.statements[0]
    forged = replace(first, due_e4=first.due_e4 + 1)
    there, instead = (each.figures.to_bytes(32, "big") for each in (first, forged))
    calldata = call.transaction.calldata.replace(there, instead, 1)
    return replace(call, transaction=replace(call.transaction, calldata=calldata))


def proof_of(lines: Sequence[str]) -> bool:
    return any("prove it to anybody" in line for line in lines)


async def test_what_was_told_holds_for_everybody(history: History) -> None:
    assert against(history.told, history.kept) == []
    assert await history.verdict(history.told) is Verdict.HOLDS


# An amount is changed


async def test_a_changed_amount_is_refused_by_the_contracts_and_shows_in_what_parties_kept(history: History) -> None:
    retold = await history.retold(lambda calls: [*calls[:-2], with_more_due(calls[-2]), calls[-1]])

    refused = retold.entries[-2].receipt
    assert refused is not None
    assert not refused.has_succeeded
    assert await history.verdict(retold) is Verdict.REFUSED
    assert proof_of(against(retold, history.kept))


async def test_a_changed_amount_with_a_forged_outcome_is_refused_by_whoever_carries_it_out(history: History) -> None:
    retold = await history.retold(lambda calls: [*calls[:-2], with_more_due(calls[-2])])
    forged = replace(retold.head, outcome=outcome_hash(has_succeeded=True, told=()), signature=b"")
    honest = Replica(history.told.entries[0].entry)
    for each in retold.entries[1:-1]:
        honest.enter(each.entry)

    with pytest.raises(LedgerBroken, match="another outcome"):
        honest.enter(forged)


# A statement is dropped


async def test_a_dropped_statement_is_proven_by_any_head_that_was_kept_after_it(history: History) -> None:
    retold = await history.retold(lambda calls: [*calls[:-2], calls[-1]])

    told = against(retold, history.kept)

    assert proof_of(told)
    assert await history.verdict(retold) is Verdict.REFUSED


async def test_without_a_kept_head_a_dropped_statement_is_seen_by_its_own_driver_alone(history: History) -> None:
    retold = await history.retold(lambda calls: [*calls[:-2], calls[-1]])
    read_again = ReplicaReader(Replica(retold.entries[0].entry)).replica
    for each in retold.entries[1:]:
        read_again.enter(each.entry)  # every entry is in order and signed

    assert against(read_again, []) == []
    assert await history.verdict(read_again) is Verdict.REFUSED


# Two entries change places


async def test_entries_that_changed_places_are_proven_by_a_kept_head(history: History) -> None:
    retold = await history.retold(lambda calls: [*calls[:-2], calls[-1], calls[-2]])

    assert proof_of(against(retold, history.kept))


# An old copy is put in place


async def test_an_old_copy_is_shorter_than_a_kept_head_and_proven_once_it_is_written_on(history: History) -> None:
    number = history.told.head.number
    old = await history.retold(lambda calls: calls, until=number)
    written_on = await history.retold(lambda calls: [*calls[:-1], with_more_due(calls[-1])])

    shorter, other = against(old, history.kept), against(written_on, history.kept)

    assert [("shorter ledger" in line) for line in shorter] == [True]
    assert proof_of(other)


# An entry is dated ahead


@pytest.mark.parametrize(
    ("timestamp_s", "shown"), [(4_102_444_800, "2100-01-01 00:00:00 UTC"), (1 << 62, f"{1 << 62} s after 1970")]
)
async def test_an_entry_dated_ahead_is_seen_by_whoever_reads_when_it_was_entered_and_proven_by_nothing(
    history: History, tmp_path: Path, capsys: pytest.CaptureFixture[str], timestamp_s: int, shown: str
) -> None:
    ahead = await history.retold(lambda calls: [*calls[:-1], replace(calls[-1], timestamp_s=timestamp_s)])
    file = tmp_path / "ahead"
    file.write_text("".join([f"{line}\n" async for line in exported(ReplicaReader(ahead))]))

    code = run_check(file, kept=(), keep=None)

    assert code == 0
    assert f"by the operator's word it was entered at {shown}" in capsys.readouterr().out


# Two histories for two parties


async def test_two_histories_are_proven_by_one_head_of_each_and_nothing_else(history: History) -> None:
    mine, yours = history.told, await history.retold(lambda calls: [*calls[:-2], calls[-1], calls[-2]])
    (one, other) = (replica.heads()[-1] for replica in (mine, yours))

    assert against(yours, [other]) == []
    assert proof_of(against(yours, [other, one]))
    assert forked(one, other, operator=mine.operator, recover=recovered_address)


async def test_the_partner_s_countersignature_is_missing_in_a_history_told_to_one_alone(history: History) -> None:
    alone = await history.retold(lambda calls: [*calls[:-2], calls[-1], calls[-2]])

    await countersigned(alone, MSP)
    for each in history.told.countersignatures:
        with pytest.raises(LedgerBroken, match="countersigned another"):
            alone.countersigned(each)

    assert {each.signer for each in alone.countersignatures} == {SIGNERS[MSP].address}


async def test_a_receipt_that_nobody_countersigned_is_the_operator_s_word(history: History) -> None:
    untouched = await history.retold(lambda calls: calls)

    finding = await verify_in_ledger(history.receipt, ReplicaReader(untouched))
    await countersigned(untouched, MSP)
    then = await verify_in_ledger(history.receipt, ReplicaReader(untouched))

    assert (finding.verdict, then.verdict) == (Verdict.UNPROVEN, Verdict.HOLDS)
    assert "by the word of the ledger's operator" in finding.says
    assert f"{MSP} countersigned entry {untouched.head.number}" in then.says


async def test_a_countersignature_from_before_it_was_final_vouches_for_nothing(history: History) -> None:
    entries = history.told.entries
    early = await history.retold(lambda calls: calls, until=len(entries) - 2)
    await countersigned(early, CPO, MSP)
    for each in entries[-2:]:
        early.enter(each.entry)

    assert await history.verdict(early) is Verdict.UNPROVEN


# What a kept head is worth


async def test_a_head_that_the_operator_did_not_sign_accuses_nobody(history: History) -> None:
    made_up = replace(history.kept[0], hash=bytes(32))

    told = against(history.told, [made_up])
    found = rewritten(made_up, history.told.heads(), operator=history.told.operator, recover=recovered_address)

    assert found is None
    assert [("proves nothing" in line) for line in told] == [True]


async def test_a_head_of_another_ledger_of_the_same_operator_accuses_nobody(history: History) -> None:
    clock, chance = history.world.clock, SeededRandomness(2)
    async with open_memory(master_key=bytes(32), clock=clock, randomness=chance) as memory:
        second = await open_ledger(memory.units, operator=history.world.payer, clock=clock, randomness=chance)
    (foreign,) = second.replica.heads()

    told = against(history.told, [foreign])
    found = rewritten(foreign, history.told.heads(), operator=history.told.operator, recover=recovered_address)

    assert found is None
    assert told == [f"a kept head is of ledger {foreign.ledger_id}, this is {history.told.ledger_id}"]


async def test_the_command_keeps_heads_and_says_what_goes_against_them(
    history: History, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, other, kept = (tmp_path / name for name in ("whole", "other", "kept"))
    retold = await history.retold(lambda calls: [*calls[:-2], calls[-1], calls[-2]])
    for file, replica in ((whole, history.told), (other, retold)):
        file.write_text("".join([f"{line}\n" async for line in exported(ReplicaReader(replica))]))

    codes = [run_check(whole, kept=(), keep=kept), run_check(other, kept=[kept], keep=None)]
    broken = tmp_path / "broken"
    first, *_, last = whole.read_text().splitlines(keepends=True)
    broken.write_text(first + last)
    codes.append(run_check(broken, kept=(), keep=kept))
    lines = capsys.readouterr().out

    assert codes == [0, 1, 1]
    assert proof_of(lines.splitlines())
    assert len(kept.read_text().splitlines()) == 1


# On a chain of the operator's own


async def test_on_a_chain_of_its_own_a_dropped_statement_is_gone_and_nobody_can_prove_it() -> None:
    world = FakeWorld()
    _, receipt = await told_on(world)
    head = await world.chain.head()
    before = await verify_on_chain(receipt, world.chain)

    world.fake.reorganise(2 * (1 + world.fake.finality_blocks), keep_transactions=False)
    world.fake.mine(6)

    there = await world.chain.block(head.number)
    assert before.verdict is Verdict.HOLDS
    assert (await verify_on_chain(receipt, world.chain)).verdict is Verdict.REFUSED
    assert there is not None
    assert there.hash != head.hash  # whoever kept the hash knows; no signature of anybody says so
