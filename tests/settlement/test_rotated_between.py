"""A party's key is replaced after it signed and before the book saw it: the pair waits for the new one only."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from emobility.adapters.chain_signing import LocalChainSigner, party_signer
from emobility.adapters.memory.contracts.registry import ROTATION_DELAY_S
from emobility.domain.batch import contracts
from emobility.domain.batch.typed_data import (
    Book,
    Registry,
    acceptance_digest,
    discharge_digest,
    signer_acceptance_digest,
    signer_rotation_digest,
)
from emobility.ports.chain_signer import ChainSigner
from services.audit.audit import audited
from services.settlement.acceptances import GivenAcceptance
from services.settlement.batching import book_of
from services.settlement.confidential_records import ConfidentialBatchState
from services.settlement.deployment import ACCEPTANCE_WINDOW_S, Deployment
from services.settlement.discharging import Discharging
from services.settlement.money_records import DISCHARGE
from services.settlement.records import OPENING, PARTY, SigningPolicy, StatementState
from tests.banking.bank_files import entry
from tests.settlement.bank_desk import TODAY, Desk
from tests.settlement.hidden import MSP_2, NETS, OWN_KEY, Hidden
from tests.settlement.market import MASTER_KEY
from tests.settlement.settling import Settling, open_settling
from tests.settlement.test_confidential import Outsider
from tests.settlement.world import CPO, MSP, T0, a_cdr, accepted, terms

OLD, NEW = LocalChainSigner(b"\x11" * 32), LocalChainSigner(b"\x12" * 32)


async def rotate(
    here: Settling, number: int, old: ChainSigner, new: ChainSigner, *, deployment: Deployment | None = None
) -> None:
    """Have a party's next key take over."""
    registry = (deployment or here.market.deployment).registry
    domain = Registry(chain_id=here.market.deployment.chain_id, address=registry)
    deadline = T0 + timedelta(days=3650)
    until = int(deadline.timestamp())
    word = await old.sign_digest(
        signer_rotation_digest(domain, number=number, signer=new.address, nonce=0, deadline=deadline)
    )
    call = contracts.ROTATE_SIGNER.call(number, new.address, until, contracts.signature_words(word))
    await here.chain.final(await here.chain.sent(registry, call))
    here.chain.clock.step_by(timedelta(seconds=ROTATION_DELAY_S + 3600))
    word = await new.sign_digest(
        signer_acceptance_digest(domain, number=number, signer=new.address, nonce=1, deadline=deadline)
    )
    call = contracts.COMPLETE_ROTATION.call(number, until, contracts.signature_words(word))
    await here.chain.final(await here.chain.sent(registry, call))


async def accept(here: Settling, key: ChainSigner) -> None:
    """Hand in the MSP's signature under the only statement."""
    (batch,), (statement,) = await here.batches(), await here.world.statements()
    digest = acceptance_digest(
        book_of(batch), batch_id=batch.batch_id, pairs_hash=batch.pairs_hash, party=here.numbers[MSP], pairs=1
    )
    given = GivenAcceptance(
        chain_id=batch.chain_id, book=batch.book, batch_id=batch.batch_id, signature=await key.sign_digest(digest)
    )
    await here.acceptances.take(MSP, statement.statement_hash, given)


async def test_a_statement_whose_signer_was_replaced_before_it_was_proposed_is_signed_anew() -> None:
    async with open_settling() as here:
        await here.sign(terms(), outside=MSP)
        here.numbers = await here.market.prepare(here.world.ports.units, keys={MSP: OLD})
        await here.world.take(accepted(a_cdr("s1")))
        await here.world.closing.close_now()
        await here.follow()
        await accept(here, OLD)
        await rotate(here, here.numbers[MSP], OLD, NEW)
        await here.follow()
        (waiting,) = await here.world.statements()

        await accept(here, NEW)
        await here.follow()

        (statement,) = await here.world.statements()
        differences = (await here.audit()).differences
    assert (waiting.state, waiting.waiting) == (StatementState.CLOSED, "the signature of NL-ZON")
    assert statement.state is StatementState.FINAL
    assert differences == ()


async def test_a_late_signature_by_a_key_that_was_replaced_does_not_keep_the_window_from_ending() -> None:
    async with open_settling() as here:
        here.chain.clock.step_by(here.world.clock.now() - here.chain.clock.now())
        await here.sign(terms(), outside=MSP)
        here.numbers = await here.market.prepare(here.world.ports.units, keys={MSP: OLD})
        await here.world.take(accepted(a_cdr("s1")))
        await here.world.closing.close_now()
        await here.follow()
        time_to_sign = timedelta(hours=terms().dispute_period_h)
        here.world.clock.step_by(time_to_sign)
        here.chain.clock.step_by(time_to_sign)
        await here.follow()
        here.world.clock.step_by(timedelta(hours=1))
        await accept(here, OLD)
        before = here.chain.clock.now()
        await rotate(here, here.numbers[MSP], OLD, NEW)
        await here.follow()
        here.world.clock.step_by(here.chain.clock.now() - before)
        window = timedelta(seconds=ACCEPTANCE_WINDOW_S) + timedelta(hours=1)
        here.world.clock.step_by(window)
        here.chain.clock.step_by(window)

        await here.follow()

        (statement,) = await here.world.statements()
        differences = (await here.audit()).differences
    assert statement.state is StatementState.FINAL
    assert differences == ()


async def test_a_discharge_whose_signer_was_replaced_is_signed_anew() -> None:
    async with open_settling() as here:
        desk = Desk(here)
        await desk.open()
        await desk.charge("s1", 1_000_000)
        await desk.settle()
        async with here.world.ports.units.begin() as unit:
            party = await unit.table(PARTY).get(MSP)
            assert party is not None
            assert party.number is not None
            await unit.table(PARTY).put(replace(party, signs=SigningPolicy.BY_API))
            await unit.commit()
        await desk.export()
        await desk.arrives(entry((await desk.payout()).end_to_end_id, "121.00", reference="B-1", on=TODAY))
        await here.follow()
        (waiting,), (opening,) = await desk.rows(DISCHARGE), await desk.rows(OPENING)
        book = Book(chain_id=await here.chain.chain.chain_id(), address=here.market.contracts.book)
        digest = discharge_digest(book, agreement=opening.book_agreement, number=0, amount_e4=1_000_000)
        discharging, old = Discharging(here.world.ports, here.access), party_signer(MASTER_KEY, MSP)
        await discharging.take(MSP, waiting.discharge_id, await old.sign_digest(digest))
        await rotate(here, party.number, old, NEW)
        await here.follow()
        (outdated,) = await desk.rows(DISCHARGE)

        await discharging.take(MSP, waiting.discharge_id, await NEW.sign_digest(digest))
        await here.follow(here.follower())

        assert await desk.owed_on_chain() == 0
    assert (outdated.waiting, CPO) == ("the signature of NL-ZON", opening.cpo_id)


async def test_a_confidential_statement_is_final_only_under_the_key_by_which_it_can_be_contested() -> None:
    """The book opens a statement in a dispute if the keys signed it that signed the nets."""
    async with open_settling() as here:
        hidden = Hidden(here)
        outsider = await Outsider.of(hidden)
        await hidden.follow()
        await outsider.sign_statements()
        await hidden.follow()
        await rotate(here, await hidden.number(MSP_2), OWN_KEY, NEW, deployment=await hidden.deployment())
        outsider.key = NEW
        await outsider.sign_net()
        await hidden.follow()
        (left,), waiting = await hidden.batches(), await hidden.waiting()

        here.world.clock.step_by(timedelta(minutes=1))
        await outsider.sign_statements()
        await hidden.follow()
        await outsider.sign_net()
        await hidden.follow()

        assert await hidden.states() == {StatementState.FINAL}
        assert await hidden.balances() == NETS
        report, _ = await audited(here.world.ports, chain=here.chain.chain)
    assert left.state is ConfidentialBatchState.ABANDONED
    assert waiting[CPO, MSP_2] == "the signature of NL-WIN under the statement"
    assert report.differences == ()
