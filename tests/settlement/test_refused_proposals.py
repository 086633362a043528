"""What a book refuses is told to the parties whose statement waits for it."""

from __future__ import annotations

from emobility.adapters.chain_signing import party_signer
from emobility.domain.batch import contracts
from emobility.domain.batch.typed_data import Book, ending_digest
from emobility.domain.identifiers import PartyId
from services.settlement.batching import ENDED
from services.settlement.records import StatementState
from tests.settlement.settling import open_settling
from tests.settlement.world import CPO, MASTER_KEY, MSP, a_cdr, accepted, terms


async def test_a_statement_says_why_the_book_does_not_take_it_and_no_longer_than_that() -> None:
    async with open_settling() as here:
        await here.sign(terms())
        await here.market.prepare(here.world.ports.units)
        await here.world.take(accepted(a_cdr("s1")))
        await here.world.closing.close_now()
        await here.pause(is_paused=True)
        await here.follow()
        (refused,) = await here.world.statements()

        await here.pause(is_paused=False)
        with here.chain.held():
            await here.follow_steps(2)
            (sent,) = await here.world.statements()
        await here.follow()

        (statement,) = await here.world.statements()
    assert (refused.state, refused.waiting) == (StatementState.PROPOSED, "the book refuses: EnforcedPause")
    assert (sent.state, sent.waiting) == (StatementState.PROPOSED, "the chain")
    assert statement.state is StatementState.FINAL


async def test_a_statement_whose_agreement_ended_in_its_book_says_so_and_holds_up_no_other() -> None:
    """Closed before the end, proposed after it, together with another pair's."""
    others = terms(CPO, PartyId("NL-WIN"))
    async with open_settling() as here:
        await here.sign(terms(), others)
        await here.market.prepare(here.world.ports.units)
        await here.world.take(accepted(a_cdr("s1")), accepted(a_cdr("s2"), agreement=others))
        await here.world.closing.close_now()
        closed = next(each for each in await here.world.statements() if each.emsp_id == MSP)
        book = Book(chain_id=here.market.deployment.chain_id, address=here.market.contracts.book)
        digest = ending_digest(book, closed.book_agreement)
        words = [
            contracts.signature_words(await party_signer(MASTER_KEY, party).sign_digest(digest)) for party in (CPO, MSP)
        ]
        call = contracts.END_AGREEMENT.call(int.from_bytes(closed.book_agreement, "big"), *words)
        await here.chain.final(await here.chain.sent(book.address, call))

        await here.follow()

        statements = {each.emsp_id: each for each in await here.world.statements()}
        differences = (await here.audit()).differences
    assert (statements[MSP].state, statements[MSP].waiting) == (StatementState.CLOSED, ENDED)
    assert statements[others.emsp_id].state is StatementState.FINAL
    assert differences == ()
