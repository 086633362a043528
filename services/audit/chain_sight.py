"""What a chain itself says about the settlement, read once at its youngest final block; any endpoint will do.

Events tell what came in and went out, calls tell how things stand. Nothing of it is taken from our rows but whom to
ask: the contracts' addresses, batches and agreements.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from emobility.domain.agreement import SettlementMode
from emobility.domain.batch import contracts
from emobility.domain.batch.abi import Function
from emobility.domain.batch.calls import (
    AgreementState,
    BatchState,
    agreement_query,
    batch_query,
    read_agreement,
    read_batch,
    read_proposal,
)
from emobility.domain.batch.statement import AGREEMENT_BYTES, BookedStatement
from emobility.domain.batch.typed_data import BookMode
from emobility.domain.errors import MalformedInput
from emobility.domain.identifiers import MalformedPartyId, PartyId
from emobility.ports.chain import Block, CallReverted, ChainReader, Log, logs_between
from services.audit.books import Books
from services.audit.cases import CaseSight, look_at_cases
from services.audit.confidential import ConfidentialSight, look_at_confidential
from services.audit.settlement_rows import SettlementRows
from services.settlement.deployment import CurrencyContracts, DeploymentGone, recognise


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposedBatch:
    """A batch that the book took.

    Attributes:
        transaction: Hash of the transaction that proposed it.
        state: What the book holds of it.
        statements: As they stand in the transaction's call; None: it was proposed by another contract's call.
    """

    batch_id: bytes
    transaction: bytes
    block_hash: bytes
    state: BatchState
    statements: tuple[BookedStatement, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BookSight:
    """One currency's contracts. Amounts of the vault are in the token's smallest unit, by party number.

    Attributes:
        wiring: Registry, vault and token, each as the contract beside it names it.
        agreements: Where each agreement stands that is open; also of others whose statements were proposed here.
        corrected_e4: Verdicts that were met beside statements, by agreement, in ten-thousandths.
        discharged_e4: What was paid by bank or out of a guarantee, by agreement, in ten-thousandths.
        called_e4: What of that came out of a guarantee, whose limit is lower by it.
        taken: What parties got out of others' reserves, less what was taken of theirs.
        units_per_e4: Smallest units of the token in a ten-thousandth.
        tokens_held: What the token says that the vault has.
    """

    currency: str
    wiring: tuple[bytes, bytes, bytes]
    proposed: dict[bytes, ProposedBatch]
    agreements: dict[bytes, AgreementState]
    corrected_e4: dict[bytes, int]
    discharged_e4: dict[bytes, int]
    called_e4: dict[bytes, int]
    taken: dict[int, int]
    deposited: dict[int, int]
    withdrawn: dict[int, int]
    collateral: dict[int, int]
    total_collateral: int
    tokens_held: int
    units_per_e4: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainSight:
    """All of it.

    Attributes:
        at: The block that it is about.
        strangeness: Why this is not the chain that we settle on, or not its contracts; then nothing else was read.
        last_final: The block that stands now where our youngest final one stood; None: none stands there.
        signers: Who may ever have signed for a number: the first signer and all that followed.
        numbers: Whose each number is.
    """

    chain_id: int
    genesis_hash: bytes
    at: Block
    strangeness: str | None
    last_final: bytes | None
    signers: dict[int, frozenset[bytes]]
    numbers: dict[int, PartyId]
    books: dict[str, BookSight]
    confidential: dict[str, ConfidentialSight] = field(default_factory=dict)
    cases: CaseSight = field(default_factory=CaseSight)


async def look_at_chain(chain: ChainReader, books: Books) -> ChainSight:
    """Read what the chain says. Raises `ChainUnavailable`."""
    rows = books.settlement
    chain_id, at = await chain.chain_id(), await chain.finalized()
    seen = [each.final_number for each in rows.chains if each.chain_id == chain_id]
    block = await chain.block(seen[0]) if seen else None
    deployments = [each.deployment for each in rows.deployments]
    strangeness = None
    signers: dict[int, frozenset[bytes]] = {}
    numbers: dict[int, PartyId] = {}
    found: dict[str, BookSight] = {}
    confidential: dict[str, ConfidentialSight] = {}
    cases = CaseSight()
    try:
        for deployment in deployments:
            await recognise(chain, deployment)
    except DeploymentGone as gone:
        strangeness = str(gone)
    else:
        confidential = await look_at_confidential(chain, at, rows)
        cases = await look_at_cases(chain, at, rows)
        for deployment in deployments:
            reader = _Reader(chain, at, since=rows.since_block)
            signers, numbers = await reader.parties(deployment.registry)
            for each in deployment.currencies:
                found[each.currency] = await reader.book(each, rows, also=set(_moved(confidential, each.currency)))
    return ChainSight(
        chain_id=chain_id,
        genesis_hash=await chain.genesis_hash(),
        at=at,
        strangeness=strangeness,
        last_final=None if block is None else block.hash,
        signers=signers,
        numbers=numbers,
        books=found,
        confidential=confidential,
        cases=cases,
    )


class _Reader:
    """Asks contracts as they stood in a block."""

    def __init__(self, chain: ChainReader, at: Block, *, since: int) -> None:
        self._chain = chain
        self._at = at
        self._since = since

    async def parties(self, registry: bytes) -> tuple[dict[int, frozenset[bytes]], dict[int, PartyId]]:
        """Return who may ever have signed for each number, and whose number it is."""
        signers: dict[int, frozenset[bytes]] = {}
        numbers: dict[int, PartyId] = {}
        for number, country, party, signer, _payout in await self._told(registry, contracts.PARTY_REGISTERED):
            signers[number] = frozenset({signer})
            try:
                numbers[number] = PartyId.of(country.decode("latin-1"), party.decode("latin-1"))
            except MalformedPartyId:
                continue  # nobody of ours
        for number, _before, signer in await self._told(registry, contracts.SIGNER_ROTATED):
            signers[number] = signers.get(number, frozenset()) | {signer}
        return signers, numbers

    async def book(self, at: CurrencyContracts, rows: SettlementRows, *, also: set[int]) -> BookSight:
        """Read what one currency's contracts hold; `also`: parties for whom another book moves collateral."""
        proposed = {
            each.batch_id: each
            for log in await self._logs(at.book, contracts.BATCH_PROPOSED)
            for each in [await self._proposed(at.book, log)]
        }
        opened = {
            each.book_agreement
            for each in rows.openings
            if each.currency == at.currency and each.book_agreement and each.mode is not SettlementMode.CONFIDENTIAL
        }
        named = {each.agreement for batch in proposed.values() for each in batch.statements or ()}
        states = {each: await self._agreement(at.book, each) for each in sorted(opened | named)}
        agreements = {agreement: state for agreement, state in states.items() if state is not None}
        discharged: dict[bytes, int] = defaultdict(int)
        for agreement, _number, amount_e4, _owed_e4 in await self._told(at.book, contracts.OBLIGATION_DISCHARGED):
            discharged[_key(agreement)] += amount_e4
        called: dict[bytes, int] = defaultdict(int)
        for agreement, amount_e4, _owed_e4 in await self._told(at.book, contracts.GUARANTEE_CALLED):
            discharged[_key(agreement)] += amount_e4
            called[_key(agreement)] += amount_e4
        corrected: dict[bytes, int] = defaultdict(int)
        for agreement, amount_e4 in await self._told(at.book, contracts.CORRECTION_MET):
            corrected[_key(agreement)] += amount_e4
        taken: dict[int, int] = defaultdict(int)
        for payer, payee, _book, amount in await self._told(at.vault, contracts.RESERVED_TAKEN):
            taken[payer] -= amount
            taken[payee] += amount
        deposited = _by_party(await self._told(at.vault, contracts.DEPOSITED))
        withdrawn = _by_party(await self._told(at.vault, contracts.WITHDRAWN))
        paid = {
            party
            for state in agreements.values()
            if state.mode is BookMode.PREFUNDED
            for party in (state.cpo, state.msp)
        }
        parties = sorted(deposited.keys() | withdrawn.keys() | taken.keys() | paid | also)
        return BookSight(
            currency=at.currency,
            wiring=(
                await self._one(at.book, contracts.REGISTRY),
                await self._one(at.book, contracts.VAULT),
                await self._one(at.vault, contracts.TOKEN),
            ),
            proposed=proposed,
            agreements=agreements,
            corrected_e4=dict(corrected),
            discharged_e4=dict(discharged),
            called_e4=dict(called),
            taken=dict(taken),
            deposited=deposited,
            withdrawn=withdrawn,
            collateral={each: await self._one(at.vault, contracts.COLLATERAL_OF, each) for each in parties},
            total_collateral=await self._one(at.vault, contracts.TOTAL_COLLATERAL),
            tokens_held=await self._one(at.token, contracts.TOKENS_OF, at.vault),
            units_per_e4=await self._one(at.vault, contracts.UNITS_PER_E4),
        )

    async def _proposed(self, book: bytes, log: Log) -> ProposedBatch:
        batch_id, _pairs_hash, _count = contracts.BATCH_PROPOSED.told(log.topics, log.data)
        sent = await self._chain.transaction(log.transaction_hash)
        statements = None
        if sent is not None and sent.to == book:
            try:
                statements = read_proposal(sent.calldata).statements
            except MalformedInput:
                statements = None
        return ProposedBatch(
            batch_id=batch_id,
            transaction=log.transaction_hash,
            block_hash=log.block_hash,
            state=read_batch(await self._call(book, batch_query(batch_id))),
            statements=statements,
        )

    async def _agreement(self, book: bytes, agreement: bytes) -> AgreementState | None:
        """Return where an agreement stands; None: it is not open."""
        try:
            return read_agreement(await self._call(book, agreement_query(agreement)))
        except CallReverted:
            return None

    async def _one(self, contract: bytes, asked: Function, *arguments: Any) -> Any:
        (value,) = asked.answer(await self._call(contract, asked.call(*arguments)))
        return value

    async def _call(self, contract: bytes, calldata: bytes) -> bytes:
        return await self._chain.call(contract, calldata, at_block=self._at.number)

    async def _told(self, contract: bytes, event: Function) -> list[tuple[Any, ...]]:
        return [event.told(log.topics, log.data) for log in await self._logs(contract, event)]

    async def _logs(self, contract: bytes, event: Function) -> list[Log]:
        return await logs_between(self._chain, contract, [event.topic], first=self._since, last=self._at.number)


def _key(agreement: int) -> bytes:
    return agreement.to_bytes(AGREEMENT_BYTES, "big")


def _moved(confidential: dict[str, ConfidentialSight], currency: str) -> dict[int, int]:
    return confidential[currency].moved_e4 if currency in confidential else {}


def _by_party(told: Iterable[tuple[Any, ...]]) -> dict[int, int]:
    """Add up amounts of deposits or withdrawals."""
    sums: dict[int, int] = defaultdict(int)
    for party, _account, amount in told:
        sums[party] += amount
    return dict(sums)
