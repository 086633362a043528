"""The compiled settlement contracts in an EVM within this process, with the operations of `settlement_model.py`.

Signatures are real ones, over the digests of `emobility/domain/batch/typed_data.py`. Refusals and events are read by
the committed ABIs, so they bear the contracts' own names; their facts are the ABI's parameters, in snake case.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from pyrevm import EVM, BlockEnv

import settlement_contracts
from emobility.adapters.chain_signing import LocalChainSigner
from emobility.domain.batch import contracts
from emobility.domain.batch.abi import Function, encode
from emobility.domain.batch.hashing import bound, keccak256
from emobility.domain.batch.statement import struct_hash_of
from emobility.domain.batch.trees import HashTree
from emobility.domain.batch.typed_data import (
    AgreementTerms,
    Book,
    BookKind,
    BookMode,
    Registry,
    acceptance_digest,
    agreement_digest,
    discharge_digest,
    ending_digest,
    registration_digest,
)
from emobility.domain.identifiers import PartyId
from tests.settlement_contracts.settlement_model import (
    ADMIN,
    DAY_S,
    PAUSER,
    PROPOSER,
    RESOLVER,
    Acceptance,
    AcceptanceWords,
    DischargeWords,
    EndingWords,
    Key,
    Refused,
    Signature,
    Statement,
    Terms,
    Told,
)

HARD_FORK: Final = "CANCUN"  # as foundry.toml has it
CHAIN_ID: Final = 1  # pyrevm's own
T0: Final = 1_648_425_600  # 2022-03-28
DELAY_S: Final = 2 * DAY_S
WINDOW_S: Final = DAY_S
BOND_E4: Final = 50
BOOKS: Final = ("book", "next book")
STRANGER: Final = "stranger"
SIGNERS: Final = {1: "Tulip", 2: "Rolling", 3: "Zon", 4: "Maas"}
"""By party number: 1 is a CPO, 2 both, 3 and 4 are MSPs."""
PAYOUTS: Final = {party: f"{signer}'s purse" for party, signer in SIGNERS.items()}
PERIOD_END_S: Final = T0
MONEY_E4: Final = 2**100
"""What whoever pays in has."""
CONTRACTS: Final = ("PartyRegistry", "CollateralVault", "SettlementBook", "EmbeddedCurrency")
NOT_OURS: Final = frozenset({"Transfer", "Approval"})
"""Events of the token: balances tell as much."""
REQUEST_WITHDRAWAL: Final = Function("requestWithdrawal(uint32,uint128)")
ANNOUNCE_SUCCESSOR: Final = Function("announceSuccessor(address,address)")
WITHDRAW: Final = Function("withdraw(uint32)")
WITHDRAWAL_OF: Final = Function("withdrawalOf(uint32)", "((uint128,uint64))")
REVERTED: Final = re.compile(r"Revert \{ gas_used: \d+, output: 0x([0-9a-f]*) \}")


@dataclass(frozen=True)
class Named:
    """An error or event of an ABI."""

    name: str
    function: Function
    parameters: tuple[str, ...]


def named(kind: str) -> dict[bytes, Named]:
    """Return all errors, or all events, by the hash of their signature."""
    entries = [entry for contract in CONTRACTS for entry in settlement_contracts.abi(contract) if entry["type"] == kind]
    found = {}
    for entry in entries:
        function = Function(f"{entry['name']}({','.join(each['type'] for each in entry['inputs'])})")
        parameters = tuple(re.sub("([A-Z])", r"_\1", each["name"]).lower() for each in entry["inputs"])
        found[function.topic] = Named(entry["name"], function, parameters)
    return found


ERRORS: Final = {topic[:4]: error for topic, error in named("error").items()}
EVENTS: Final = named("event")


class Deployed:
    """Registry, token, vault and books, and the keys of whoever calls them."""

    def __init__(self, now: int) -> None:
        self.evm = EVM(spec_id=HARD_FORK)
        self.now = now
        accounts = {ADMIN, PROPOSER, PAUSER, RESOLVER, STRANGER, *SIGNERS.values(), *PAYOUTS.values()}
        self.signers = {account: LocalChainSigner(keccak256(account.encode())) for account in accounts}
        self.addresses = {account: signer.address for account, signer in self.signers.items()}
        admin = self.addresses[ADMIN]
        self.registry = self._made("PartyRegistry", "(address)", admin)
        self.token = self._made("EmbeddedCurrency", "(string,string,address)", b"Euro", b"EUR", admin)
        self.vault = self._made(
            "CollateralVault", "(address,address,uint64,address)", self.token, self.registry, DELAY_S, admin
        )
        for book in BOOKS:
            self.addresses[book] = self._made(
                "SettlementBook",
                "(bytes3,uint40,uint64,address,address,address)",
                *(b"EUR", WINDOW_S, BOND_E4, self.registry, self.vault, admin),
            )
            self._let(self.vault, contracts.BOOK_ROLE, book)
            self._let(self.addresses[book], contracts.PROPOSER_ROLE, PROPOSER)
            self._let(self.addresses[book], contracts.PAUSER_ROLE, PAUSER)
            self._let(self.addresses[book], contracts.RESOLVER_ROLE, RESOLVER)
        self._let(self.registry, contracts.issuer_role("NL"), ADMIN)
        for party in SIGNERS:
            self._register(party)
        self.send(ADMIN, self.token, contracts.MINT.call(admin, MONEY_E4))
        self.send(ADMIN, self.token, contracts.APPROVE.call(self.vault, MONEY_E4))

    # Calling

    def send(self, by: str, to: bytes, calldata: bytes) -> list[Told]:
        """Carry out a call; return what was told. Raises `Refused`."""
        self._call(by, to, calldata, is_static=False)
        result = self.evm.result
        assert result is not None
        logs = [log.data for log in result.logs]
        told = [(EVENTS[topics[0]], topics, data) for topics, data in logs]
        return [
            Told(event.name, dict(zip(event.parameters, event.function.told(topics, data), strict=True)))
            for event, topics, data in told
            if event.name not in NOT_OURS
        ]

    def ask(self, function: Function, to: bytes, *arguments: Any) -> Any:
        """Return a view's answer, the only one it has. Raises `Refused`."""
        return function.answer(self._call(ADMIN, to, function.call(*arguments), is_static=True))[0]

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Have whatever happens within not have happened."""
        before, now = self.evm.snapshot(), self.now
        try:
            yield
        finally:
            self.evm.revert(before)
            self.now = now

    def signed(self, account: str, digest: bytes) -> tuple[bytes, bytes]:
        """Return an account's signature of a digest, as calls have it."""
        signature = self.signers[account]._sign(digest)
        return signature[:32], signature[32:]

    def _call(self, by: str, to: bytes, calldata: bytes, *, is_static: bool) -> bytes:
        self.evm.set_block_env(BlockEnv(number=1, timestamp=self.now))
        self.evm.reset_transient_storage()  # each call is a transaction of its own
        try:
            return self.evm.message_call(_hex(self.addresses[by]), _hex(to), calldata, is_static=is_static)
        except RuntimeError as failure:
            reverted = REVERTED.search(str(failure))
            if reverted is None:
                raise
            output = bytes.fromhex(reverted[1])
        error = ERRORS.get(output[:4])
        assert error is not None, f"no error of ours: {output.hex()}"
        raise Refused(error.name, **dict(zip(error.parameters, error.function.arguments(output), strict=True)))

    # Making

    def _made(self, contract: str, types: str, *arguments: Any) -> bytes:
        self.evm.set_block_env(BlockEnv(number=1, timestamp=self.now))
        code = bytes.fromhex(settlement_contracts.bytecode(contract)[2:]) + encode(types, arguments)
        return bytes.fromhex(self.evm.deploy(_hex(self.addresses[ADMIN]), code)[2:])

    def _let(self, contract: bytes, role: bytes, account: str) -> None:
        self.send(ADMIN, contract, contracts.GRANT_ROLE.call(role, self.addresses[account]))

    def _register(self, party: int) -> None:
        party_id, until = PartyId(f"NL-{party:03}"), self.now + 1
        signer, payout = self.addresses[SIGNERS[party]], self.addresses[PAYOUTS[party]]
        registry = Registry(chain_id=CHAIN_ID, address=self.registry)
        digest = registration_digest(registry, party_id=party_id, signer=signer, payout=payout, deadline=_at(until))
        codes = party_id.country_code.encode(), party_id.party_id.encode()
        consent = self.signed(SIGNERS[party], digest)
        self.send(ADMIN, self.registry, contracts.REGISTER.call(*codes, signer, payout, 2**48 - 1, until, consent))
        assert self.ask(contracts.NUMBER_OF, self.registry, *codes) == party


class RealRegistry:
    """The registry's operations, as the model has them."""

    def __init__(self, deployed: Deployed) -> None:
        self._deployed = deployed

    def announce_successor(self, by: str, book: str, successor: str) -> list[Told]:
        books = [self._deployed.addresses[each] for each in (book, successor)]
        return self._deployed.send(by, self._deployed.registry, ANNOUNCE_SUCCESSOR.call(*books))


class RealVault:
    """The vault's operations, as the model has them."""

    def __init__(self, deployed: Deployed) -> None:
        self._deployed = deployed

    def deposit(self, party: int, amount: int) -> list[Told]:
        return self._send(ADMIN, contracts.DEPOSIT.call(party, amount))

    def request_withdrawal(self, by: str, party: int, amount: int) -> list[Told]:
        return self._send(by, REQUEST_WITHDRAWAL.call(party, amount))

    def withdraw(self, by: str, party: int) -> list[Told]:
        return self._send(by, WITHDRAW.call(party))

    def _send(self, by: str, call: bytes) -> list[Told]:
        return self._deployed.send(by, self._deployed.vault, call)


class RealBook:
    """A book's operations, as the model has them."""

    def __init__(self, deployed: Deployed, name: str) -> None:
        self._deployed = deployed
        self._name = name
        self.address = deployed.addresses[name]

    def open_agreement(self, terms: Terms, by_cpo: Signature, by_msp: Signature) -> list[Told]:
        return self._send(ADMIN, contracts.OPEN_AGREEMENT.call(_terms(terms).words, *self._both(by_cpo, by_msp)))

    def discharge(self, key: Key, amount_e4: int, by_cpo: Signature, by_msp: Signature) -> list[Told]:
        return self._send(ADMIN, contracts.DISCHARGE.call(packed(key), amount_e4, *self._both(by_cpo, by_msp)))

    def call_guarantee(self, by: str, key: Key, sequence: int, amount_e4: int) -> list[Told]:
        return self._send(by, contracts.CALL_GUARANTEE.call(packed(key), sequence, amount_e4))

    def give_notice(self, by: str, key: Key) -> list[Told]:
        return self._send(by, contracts.GIVE_NOTICE.call(packed(key)))

    def end_after_notice(self, key: Key) -> list[Told]:
        return self._send(ADMIN, contracts.END_AFTER_NOTICE.call(packed(key)))

    def end_agreement(self, key: Key, by_cpo: Signature, by_msp: Signature) -> list[Told]:
        return self._send(ADMIN, contracts.END_AGREEMENT.call(packed(key), *self._both(by_cpo, by_msp)))

    def correct(self, by: str, key: Key, amount_e4: int) -> list[Told]:
        return self._send(by, contracts.CORRECT.call(packed(key), amount_e4))

    def fund_correction(self, key: Key) -> list[Told]:
        return self._send(ADMIN, contracts.FUND_CORRECTION.call(packed(key)))

    def propose(
        self, by: str, batch_id: int, statements: Sequence[Statement], acceptances: Sequence[Acceptance]
    ) -> list[Told]:
        return self._send(by, contracts.PROPOSE.call(*self._batch(batch_id, statements), self._heard(acceptances)))

    def accept(self, batch_id: int, statements: Sequence[Statement], acceptances: Sequence[Acceptance]) -> list[Told]:
        return self._send(ADMIN, contracts.ACCEPT.call(*self._batch(batch_id, statements), self._heard(acceptances)))

    def fund(self, batch_id: int, statements: Sequence[Statement]) -> list[Told]:
        return self._send(ADMIN, contracts.FUND.call(*self._batch(batch_id, statements)))

    def challenge(self, by: str, batch_id: int, statements: Sequence[Statement], place: int) -> list[Told]:
        return self._send(by, contracts.CHALLENGE.call(*placed(batch_id, statements, place)))

    def decide_challenge(
        self, by: str, batch_id: int, statements: Sequence[Statement], place: int, *, is_upheld: bool
    ) -> list[Told]:
        return self._send(by, contracts.DECIDE_CHALLENGE.call(*placed(batch_id, statements, place), is_upheld))

    def pause(self, by: str) -> list[Told]:
        return self._send(by, contracts.PAUSE.call())

    def unpause(self, by: str) -> list[Told]:
        return self._send(by, contracts.UNPAUSE.call())

    def close(self, by: str) -> list[Told]:
        return self._send(by, contracts.CLOSE.call())

    def _send(self, by: str, call: bytes) -> list[Told]:
        return self._deployed.send(by, self.address, call)

    def _batch(self, batch_id: int, statements: Sequence[Statement]) -> tuple[bytes, list[tuple[int, bytes]]]:
        return batch_hash(batch_id), [words_of(each) for each in statements]

    def _heard(self, acceptances: Sequence[Acceptance]) -> list[tuple[int, int, tuple[bytes, bytes]]]:
        return [(each.party, bits(each.places), self._signed(each.signature)) for each in acceptances]

    def _both(self, *signatures: Signature) -> list[tuple[bytes, bytes]]:
        return [self._signed(each) for each in signatures]

    def _signed(self, signature: Signature) -> tuple[bytes, bytes]:
        book = Book(chain_id=CHAIN_ID, address=self._deployed.addresses[signature.book])
        return self._deployed.signed(signature.by, _digest(book, signature.words))


# Words as bytes


def packed(key: Key) -> int:
    """Return an agreement's key as the book has it."""
    return key.cpo << 40 | key.kind << 36 | key.number << 24 | key.msp


def bits(places: frozenset[int]) -> int:
    """Return a set of places as the book has it."""
    return sum(1 << place for place in places)


def batch_hash(batch_id: int) -> bytes:
    return keccak256(batch_id.to_bytes(8, "big"))


def words_of(statement: Statement) -> tuple[int, bytes]:
    """Return a statement as it stands in a call."""
    amounts = packed(statement.agreement) << 192 | statement.due_e4 << 136 | statement.credit_e4 << 80
    figures = amounts | statement.count << 56 | statement.sequence << 32 | PERIOD_END_S
    return figures, keccak256(statement.cdrs.to_bytes(8, "big"))


def placed(
    batch_id: int, statements: Sequence[Statement], place: int
) -> tuple[tuple[int, bytes], tuple[bytes, int, int, tuple[bytes, ...]]]:
    """Return a statement and the proof that it stands at its place among these."""
    proof = _tree(statements).proof(place)
    return words_of(statements[place]), (batch_hash(batch_id), place, proof.count, proof.siblings)


def _tree(statements: Sequence[Statement]) -> HashTree:
    return HashTree([struct_hash_of(*words_of(each)) for each in statements])


def _digest(book: Book, words: Terms | AcceptanceWords | DischargeWords | EndingWords) -> bytes:
    if isinstance(words, Terms):
        return agreement_digest(book, _terms(words))
    if isinstance(words, AcceptanceWords):
        pairs_hash = bound(_tree(words.statements).root, len(words.statements))
        batch_id, pairs = batch_hash(words.batch_id), bits(words.places)
        return acceptance_digest(book, batch_id=batch_id, pairs_hash=pairs_hash, party=words.party, pairs=pairs)
    agreement = packed(words.agreement).to_bytes(8, "big")
    if isinstance(words, DischargeWords):
        return discharge_digest(book, agreement=agreement, number=words.number, amount_e4=words.amount_e4)
    return ending_digest(book, agreement)


def _terms(terms: Terms) -> AgreementTerms:
    return AgreementTerms(
        document=bytes(32),
        cpo=terms.cpo,
        msp=terms.msp,
        currency=terms.currency,
        kind=BookKind(terms.kind),
        number=terms.number,
        mode=BookMode(terms.mode),
        credit_limit_e4=terms.limit_e4,
        payment_term_s=terms.payment_term_s,
        deadline=_at(terms.deadline),
    )


def _at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _hex(address: bytes) -> str:
    return f"0x{address.hex()}"
