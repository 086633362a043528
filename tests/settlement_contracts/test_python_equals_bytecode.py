"""What Python hashes, proves and signs, held against the contracts themselves on random records."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emobility.adapters.chain_signing import CURVE_ORDER, LocalChainSigner
from emobility.domain.batch import contracts
from emobility.domain.batch.abi import Function
from emobility.domain.batch.calls import (
    Acceptance,
    key_number,
    open_agreement_call,
    propose_call,
    statement_words,
)
from emobility.domain.batch.leaf import Leaf
from emobility.domain.batch.statement import BookedStatement, batch_tree, pairs_hash
from emobility.domain.batch.trees import StatementTrees
from emobility.domain.batch.typed_data import (
    AgreementTerms,
    BookKind,
    BookMode,
    Registry,
    acceptance_digest,
    agreement_digest,
    agreement_id,
    batch_id_of,
    discharge_digest,
    registration_digest,
    signer_rotation_digest,
)
from emobility.domain.identifiers import PartyId
from emobility.ports.chain import CallReverted
from tests.chains import an_anvil
from tests.domain.batch.builders import HASHES, statements
from tests.domain.batch.test_calls import STATEMENTS
from tests.settling import CPO, LIMIT_E4, MSP, NUMBERS, SIGNERS, Settling, settling_on

pytestmark = pytest.mark.chain
EXAMPLES: Final = 25
T0: Final = datetime(2022, 3, 28, tzinfo=UTC)
DEADLINES: Final = st.integers(1, 10**9).map(lambda seconds: T0 + timedelta(days=1, seconds=seconds))
ADDRESSES: Final = st.binary(min_size=20, max_size=20).filter(any)
SECRETS: Final = st.integers(1, CURVE_ORDER - 1).map(lambda number: number.to_bytes(32, "big"))
PARTY_IDS: Final = st.from_regex(r"(NL|BE)-[A-Z0-9]{3}", fullmatch=True).map(PartyId)
"""Of the countries that the issuer vouches for."""

# The chain is only asked, never changed, so that examples may share it.
on_random_records = settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
async def settling(tmp_path: Path) -> AsyncIterator[Settling]:
    async with an_anvil(tmp_path / "chain") as world:
        yield await settling_on(world)


async def ask(settling: Settling, function: Function, *arguments: Any) -> Any:
    """Return what the book answers."""
    (answer,) = function.answer(await settling.world.chain.call(settling.euro.book, function.call(*arguments)))
    return answer


async def refusal_of(settling: Settling, to: bytes, calldata: bytes, *, sender: bytes) -> bytes | None:
    """Return the error of a call that changes nothing, None if the contract would take it."""
    try:
        await settling.world.chain.estimate_gas(sender, to, calldata)
    except CallReverted as refusal:
        return refusal.data
    return None


def evidence_words(leaf: Leaf) -> tuple[Any, ...]:
    return int(leaf.kind), leaf.cdr_key, leaf.import_wh, leaf.export_wh, leaf.commitment, leaf.meter


@on_random_records
@given(leaves=statements(), place=st.integers(0, 19))
async def test_every_proof_of_python_holds_for_the_contract_and_for_its_own_place_alone(
    settling: Settling, leaves: list[Leaf], place: int
) -> None:
    trees = StatementTrees(leaves)
    statement = settling.statement(settling.pairs[0], leaves)
    words, roots = statement_words(statement), (statement.evidence_root, statement.sum_root)
    place %= trees.count
    leaf, evidence, sums = trees.leaves[place], trees.evidence_proof(place), trees.sum_proof(place)
    hashed = leaf.evidence_hash
    amounts = (leaf.due_e4, leaf.credit_e4)

    assert await ask(settling, contracts.VERIFY_EVIDENCE, words, roots, evidence_words(leaf), place, evidence.siblings)
    assert await ask(settling, contracts.VERIFY_SUM, words, roots, hashed, *amounts, place, sums.packed)
    other = replace(leaf, import_wh=leaf.import_wh ^ 1)
    assert not await ask(
        settling, contracts.VERIFY_EVIDENCE, words, roots, evidence_words(other), place, evidence.siblings
    )
    assert not await ask(
        settling, contracts.VERIFY_SUM, words, roots, hashed, amounts[0] ^ 1, amounts[1], place, sums.packed
    )
    swapped = roots[::-1]
    assert not await ask(
        settling, contracts.VERIFY_EVIDENCE, words, swapped, evidence_words(leaf), place, evidence.siblings
    )
    assert not await ask(settling, contracts.VERIFY_SUM, words, swapped, hashed, *amounts, place, sums.packed)
    if trees.count > 1:
        beside = place ^ 1 if place ^ 1 < trees.count else place - 1
        assert not await ask(
            settling, contracts.VERIFY_EVIDENCE, words, roots, evidence_words(leaf), beside, evidence.siblings
        )


@on_random_records
@given(batch=st.lists(STATEMENTS, min_size=1, max_size=9, unique_by=lambda statement: statement.agreement))
async def test_the_hash_that_binds_a_batch_is_the_contract_s(settling: Settling, batch: list[BookedStatement]) -> None:
    ordered = sorted(batch, key=lambda statement: statement.agreement)

    words = tuple(map(statement_words, ordered))

    assert await ask(settling, contracts.PAIRS_HASH, words) == pairs_hash(ordered)


@on_random_records
@given(
    document=HASHES,
    numbers=st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    currency=st.sampled_from(["EUR", "CHF", "SEK"]),
    kinds=st.tuples(st.sampled_from(BookKind), st.sampled_from(BookMode), st.integers(0, 2**16 - 1)),
    limit=st.integers(0, 2**64 - 1),
    term_s=st.integers(0, 2**32 - 1),
    deadline=DEADLINES,
)
async def test_an_agreement_has_the_contract_s_id(  # noqa: PLR0917 - drawn one by one
    settling: Settling,
    document: bytes,
    numbers: tuple[int, int],
    currency: str,
    kinds: tuple[BookKind, BookMode, int],
    limit: int,
    term_s: int,
    deadline: datetime,
) -> None:
    terms = AgreementTerms(
        document=document,
        cpo=numbers[0],
        msp=numbers[1],
        currency=currency,
        kind=kinds[0],
        number=kinds[2],
        mode=kinds[1],
        credit_limit_e4=limit,
        payment_term_s=term_s,
        deadline=deadline,
    )

    assert await ask(settling, contracts.AGREEMENT_ID, terms.words) == agreement_id(terms)


@on_random_records
@given(document=HASHES, limit=st.integers(1, 2**62), deadline=DEADLINES)
async def test_the_book_takes_both_signatures_of_an_agreement_and_no_others(
    settling: Settling, document: bytes, limit: int, deadline: datetime
) -> None:
    terms = AgreementTerms(
        document=document,
        cpo=NUMBERS[CPO],
        msp=NUMBERS[MSP],
        currency="EUR",
        number=99,
        mode=BookMode.CREDIT_LINE,
        credit_limit_e4=limit,
        deadline=deadline,
    )
    digest, book, anyone = agreement_digest(settling.book, terms), settling.book.address, bytes(20)
    by_cpo, by_msp = await SIGNERS[CPO].sign_digest(digest), await SIGNERS[MSP].sign_digest(digest)

    taken = open_agreement_call(terms, by_cpo=by_cpo, by_msp=by_msp)
    swapped = open_agreement_call(terms, by_cpo=by_msp, by_msp=by_cpo)
    changed = open_agreement_call(replace(terms, credit_limit_e4=limit % 2**62 + 1), by_cpo=by_cpo, by_msp=by_msp)

    assert await refusal_of(settling, book, taken, sender=anyone) is None
    for refused in (swapped, changed):
        assert await refusal_of(settling, book, refused, sender=anyone) == contracts.BOOK_WRONG_SIGNER.call(1)


@on_random_records
@given(leaves=statements(), chosen=st.integers(0, 2**256 - 1))
async def test_the_book_takes_an_acceptance_of_these_pairs_of_this_batch_alone(
    settling: Settling, leaves: list[Leaf], chosen: int
) -> None:
    batch = [settling.statement(pair, leaves) for pair in settling.pairs]
    bound = pairs_hash(batch)
    batch_id = batch_id_of(settling.book, bound)
    digest = acceptance_digest(settling.book, batch_id=batch_id, pairs_hash=bound, party=NUMBERS[MSP], pairs=chosen)
    word = Acceptance(party=NUMBERS[MSP], pairs=chosen, signature=await SIGNERS[MSP].sign_digest(digest))

    taken = propose_call(batch_id, batch, [word])
    more = propose_call(batch_id, batch, [replace(word, pairs=chosen ^ 1)])
    elsewhere = propose_call(bytes(31) + b"\1", batch, [word])

    sender, book, refused = settling.proposer.address, settling.book.address, contracts.BOOK_WRONG_SIGNER.call(2)
    assert await refusal_of(settling, book, taken, sender=sender) is None
    assert await refusal_of(settling, book, more, sender=sender) == refused
    assert await refusal_of(settling, book, elsewhere, sender=sender) == refused


@on_random_records
@given(party_id=PARTY_IDS, secret=SECRETS, payout=ADDRESSES, deadline=DEADLINES)
async def test_the_registry_takes_a_party_s_consent_to_these_words_alone(
    settling: Settling, party_id: PartyId, secret: bytes, payout: bytes, deadline: datetime
) -> None:
    registry = Registry(chain_id=settling.deployment.chain_id, address=settling.deployment.registry)
    signer, issuer = LocalChainSigner(secret), settling.world.payer.address
    digest = registration_digest(registry, party_id=party_id, signer=signer.address, payout=payout, deadline=deadline)
    consent = await signer.sign_digest(digest)

    def call(paid_to: bytes) -> bytes:
        return contracts.REGISTER.call(
            party_id.country_code.encode(),
            party_id.party_id.encode(),
            signer.address,
            paid_to,
            2**48 - 1,
            int(deadline.timestamp()),
            (consent[:32], consent[32:]),
        )

    refused = contracts.REGISTRY_WRONG_SIGNER.call(signer.address)
    assert await refusal_of(settling, registry.address, call(payout), sender=issuer) is None
    assert await refusal_of(settling, registry.address, call(issuer), sender=issuer) == refused


@on_random_records
@given(signer=ADDRESSES, deadline=DEADLINES)
async def test_the_registry_takes_the_present_signer_s_word_on_its_successor(
    settling: Settling, signer: bytes, deadline: datetime
) -> None:
    registry = Registry(chain_id=settling.deployment.chain_id, address=settling.deployment.registry)
    number = NUMBERS[MSP]
    digests = [
        signer_rotation_digest(registry, number=number, signer=signer, nonce=nonce, deadline=deadline)
        for nonce in (0, 1)
    ]
    words = [await SIGNERS[MSP].sign_digest(digest) for digest in digests]

    calls = [
        contracts.ROTATE_SIGNER.call(number, signer, int(deadline.timestamp()), (word[:32], word[32:]))
        for word in words
    ]

    assert await refusal_of(settling, registry.address, calls[0], sender=bytes(20)) is None
    refused = contracts.REGISTRY_WRONG_SIGNER.call(SIGNERS[MSP].address)
    assert await refusal_of(settling, registry.address, calls[1], sender=bytes(20)) == refused


@pytest.mark.parametrize("sign", [1, -1])
async def test_the_book_takes_both_words_on_what_was_paid_by_bank(settling: Settling, sign: int) -> None:
    pair = settling.pair(BookMode.CREDIT_LINE)
    owed = LIMIT_E4 * sign
    leaf = Leaf(
        kind=0,  # type: ignore[arg-type]  # a charge
        cdr_key=bytes(32),
        import_wh=1,
        export_wh=0,
        commitment=bytes(32),
        meter=bytes(32),
        due_e4=max(0, owed),
        credit_e4=max(0, -owed),
    )
    await settling.proposed([settling.statement(pair, [leaf])])

    async def call(amount_e4: int, *, number: int = 0) -> bytes:
        digest = discharge_digest(settling.book, agreement=pair.agreement, number=number, amount_e4=amount_e4)
        words = [await SIGNERS[each].sign_digest(digest) for each in (CPO, MSP)]
        return contracts.DISCHARGE.call(
            key_number(pair.agreement), amount_e4, *((word[:32], word[32:]) for word in words)
        )

    async def refusal(calldata: bytes) -> bytes | None:
        return await refusal_of(settling, settling.book.address, calldata, sender=bytes(20))

    assert (await settling.state(pair)).owed_e4 == owed
    assert await refusal(await call(owed)) is None
    assert await refusal(await call(sign)) is None
    assert await refusal(await call(sign, number=1)) == contracts.BOOK_WRONG_SIGNER.call(NUMBERS[CPO])
    for amount in (owed + sign, -sign, 0):
        refused = contracts.DISCHARGE_EXCEEDS_OWED.call(key_number(pair.agreement), amount, owed)
        assert await refusal(await call(amount)) == refused


async def test_a_statement_s_place_in_its_batch_is_proved_to_the_contract(settling: Settling) -> None:
    def leaves(name: bytes) -> Sequence[Leaf]:
        return [
            Leaf(
                kind=0,  # type: ignore[arg-type]  # a charge
                cdr_key=name.rjust(32, b"\0"),
                import_wh=1,
                export_wh=0,
                commitment=bytes(32),
                meter=bytes(32),
                due_e4=5,
                credit_e4=0,
            )
        ]

    batch = [settling.statement(pair, leaves(pair.agreement)) for pair in settling.pairs[:3]]
    await settling.proposed(batch)

    tree, batch_id = batch_tree(batch), batch_id_of(settling.book, pairs_hash(batch))
    for place, statement in enumerate(batch):
        stands = (batch_id, place, len(batch), tree.proof(place).siblings)
        assert await ask(settling, contracts.IS_STATEMENT_FINAL, statement_words(statement), stands)
        other = statement_words(replace(statement, due_e4=6))
        assert not await ask(settling, contracts.IS_STATEMENT_FINAL, other, stands)
        assert await ask(settling, contracts.IS_FINAL, key_number(statement.agreement), 1)
        assert not await ask(settling, contracts.IS_FINAL, key_number(statement.agreement), 2)
