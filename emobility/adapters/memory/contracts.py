"""The settlement contracts in Python, for a chain in memory (`Execute`): what settlement calls, rule for rule.

They are made by the same creation code, take the same calls and signatures, and refuse with the same errors; a test
sends the same random traffic to these and to the bytecode. Left out: withdrawals, disputes, anchors and passports.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar, Final, NoReturn, TypeAlias

import settlement_contracts
from emobility.adapters.chain_signing import recovered_address
from emobility.adapters.memory.chain import Call, Execute, Outcome, State
from emobility.domain.batch import contracts
from emobility.domain.batch.abi import SELECTOR_BYTES, WORD, Function, MalformedCall, decode, encode
from emobility.domain.batch.calls import AgreementState, BatchState
from emobility.domain.batch.hashing import U64_MAX, keccak256
from emobility.domain.batch.statement import STATEMENTS_MAX, struct_hash_of
from emobility.domain.batch.trees import HashTree, MalformedProof, Proof, proven_root
from emobility.domain.batch.typed_data import (
    AgreementTerms,
    Book,
    BookMode,
    Registry,
    acceptance_digest,
    agreement_digest,
    agreement_id,
    discharge_digest,
    registration_digest,
    signer_rotation_digest,
)
from emobility.domain.identifiers import PartyId
from emobility.ports.chain import CallReverted

_NOBODY: Final = bytes(20)
_NONE: Final = bytes(32)
_I64: Final = 1 << 63
_UNLIMITED: Final = (1 << 256) - 1
_ALPHANUMERIC: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_Log: TypeAlias = tuple[bytes, tuple[bytes, ...], bytes]
_Statements: TypeAlias = Sequence[tuple[bytes, bytes, bytes, int]]
_Acceptances: TypeAlias = Sequence[tuple[int, int, tuple[bytes, bytes]]]


def settlement_contracts_in_python() -> Execute:
    """Return what carries out calls of the settlement contracts."""
    creations = {bytes.fromhex(settlement_contracts.bytecode(name)[2:]): kind for name, kind in _KINDS.items()}
    return partial(_execute, creations)


def _execute(creations: dict[bytes, type[_Contract]], call: Call, state: State) -> Outcome:
    at = _Frame(call=call, state=state)
    if call.is_creation:
        for code, kind in creations.items():
            if call.calldata.startswith(code):
                contract = kind(at, address=call.to, sender=call.sender)
                contract.make(*_decoded(partial(decode, kind.takes), call.calldata[len(code) :]))
                state["kind", call.to] = kind
                return Outcome(returned=keccak256(call.calldata), logs=tuple(at.logs))
        raise CallReverted(b"")
    contract = state["kind", call.to](at, address=call.to, sender=call.sender)
    for function, method in contract.functions.items():
        if call.calldata[:SELECTOR_BYTES] == function.selector:
            result = getattr(contract, method)(*_decoded(function.arguments, call.calldata))
            returned = b"" if function.returns == "()" else encode(function.returns, (result,))
            return Outcome(returned=returned, logs=tuple(at.logs))
    raise CallReverted(b"")


def _decoded(read: Callable[[bytes], tuple[Any, ...]], encoded: bytes) -> tuple[Any, ...]:
    try:
        return read(encoded)
    except MalformedCall:
        raise CallReverted(b"") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """One transaction or query: what was called, what is stored, what was told."""

    call: Call
    state: State
    logs: list[_Log] = field(default_factory=list)


class _Contract:
    """A contract at an address, called by `sender`, with roles as OpenZeppelin's AccessControl has them."""

    takes: ClassVar[str] = "(address)"
    functions: ClassVar[dict[Function, str]] = {}
    roles: ClassVar[dict[Function, str]] = {contracts.GRANT_ROLE: "grant_role", contracts.HAS_ROLE: "has_role"}

    def __init_subclass__(cls) -> None:
        cls.functions = cls.functions | cls.roles

    def __init__(self, at: _Frame, *, address: bytes, sender: bytes) -> None:
        self._at = at
        self._address = address
        self._sender = sender

    def make(self, admin: bytes) -> None:
        self._grant(contracts.ADMIN_ROLE, admin)

    def grant_role(self, role: bytes, account: bytes) -> None:
        self._require_role(contracts.ADMIN_ROLE)
        self._grant(role, account)

    def has_role(self, role: bytes, account: bytes) -> bool:
        return bool(self._read("role", role, account))

    def _grant(self, role: bytes, account: bytes) -> None:
        if not self.has_role(role, account):
            self._write("role", role, account, value=True)
            self._tell(contracts.ROLE_GRANTED, role, account, self._sender, indexed=3)

    def _require_role(self, role: bytes) -> None:
        if not self.has_role(role, self._sender):
            self._refuse(contracts.NOT_IN_ROLE, self._sender, role)

    def _read(self, *key: Any) -> Any:
        return self._at.state.get((self._address, *key))

    def _write(self, *key: Any, value: Any) -> None:
        self._at.state[self._address, *key] = value

    def _tell(self, event: Function, *values: Any, indexed: int) -> None:
        words = encode(event.takes, values)
        topics = [words[place * WORD : (place + 1) * WORD] for place in range(indexed)]
        self._at.logs.append((self._address, (event.topic, *topics), words[indexed * WORD :]))

    def _refuse(self, error: Function, *values: Any) -> NoReturn:
        raise CallReverted(error.call(*values))

    def _require_in_time(self, deadline: int, error: Function) -> datetime:
        if self._at.call.timestamp_s > deadline:
            self._refuse(error, deadline)
        return _moment(deadline)


class _Registry(_Contract):
    functions: ClassVar = {
        contracts.REGISTER: "register",
        contracts.ROTATE_SIGNER: "rotate_signer",
        contracts.PARTY: "party",
        contracts.NUMBER_OF: "number_of",
        contracts.SIGNER_OF: "signer_of",
    }

    def register(  # noqa: PLR0917 - the contract's arguments
        self, country: bytes, party: bytes, signer: bytes, payout: bytes, deadline: int, consent: tuple[bytes, bytes]
    ) -> int:
        self._require_role(contracts.ISSUER_ROLE)
        if not (country.isalpha() and country.isupper() and _ALPHANUMERIC.issuperset(party)):
            self._refuse(contracts.MALFORMED_ID, country, party)
        if _NOBODY in {signer, payout}:
            self._refuse(contracts.ZERO_ADDRESS)
        if known := self.number_of(country, party):
            self._refuse(contracts.KNOWN_PARTY, known)
        at = self._require_in_time(deadline, contracts.REGISTRY_EXPIRED)
        party_id = PartyId.of(country.decode(), party.decode())
        digest = registration_digest(self._named, party_id=party_id, signer=signer, payout=payout, deadline=at)
        self._require_signature(signer, digest, consent)
        number = (self._read("count") or 0) + 1
        self._write("count", value=number)
        self._write("number", country, party, value=number)
        self._write("party", number, value=(country, party, 0, signer, payout))
        self._tell(contracts.PARTY_REGISTERED, number, country, party, signer, payout, indexed=3)
        return number

    def rotate_signer(self, number: int, signer: bytes, deadline: int, consent: tuple[bytes, bytes]) -> None:
        if signer == _NOBODY:
            self._refuse(contracts.ZERO_ADDRESS)
        country, party, nonce, present, payout = self.party(number)
        at = self._require_in_time(deadline, contracts.REGISTRY_EXPIRED)
        digest = signer_rotation_digest(self._named, number=number, signer=signer, nonce=nonce, deadline=at)
        self._require_signature(present, digest, consent)
        self._write("party", number, value=(country, party, nonce + 1, signer, payout))
        self._tell(contracts.SIGNER_ROTATED, number, present, signer, indexed=3)

    def party(self, number: int) -> tuple[bytes, bytes, int, bytes, bytes]:
        entry: tuple[bytes, bytes, int, bytes, bytes] | None = self._read("party", number)
        if entry is None:
            self._refuse(contracts.UNKNOWN_PARTY, number)
        return entry

    def number_of(self, country: bytes, party: bytes) -> int:
        return self._read("number", country, party) or 0

    def signer_of(self, number: int) -> bytes:
        return self.party(number)[3]

    @property
    def _named(self) -> Registry:
        return Registry(chain_id=self._at.call.chain_id, address=self._address)

    def _require_signature(self, expected: bytes, digest: bytes, signature: tuple[bytes, bytes]) -> None:
        if recovered_address(digest, b"".join(signature)) != expected:
            self._refuse(contracts.REGISTRY_WRONG_SIGNER, expected)


class _Currency(_Contract):
    takes = "(string,string,address)"
    functions: ClassVar = {
        contracts.MINT: "mint",
        contracts.APPROVE: "approve",
        contracts.TOKENS_OF: "balance_of",
        contracts.DECIMALS: "decimals",
    }

    def make(self, _name: bytes, _symbol: bytes, admin: bytes) -> None:  # type: ignore[override]  # each its own
        super().make(admin)
        self._grant(contracts.MINTER_ROLE, admin)

    def mint(self, to: bytes, amount: int) -> None:
        self._require_role(contracts.MINTER_ROLE)
        self._write("balance", to, value=self.balance_of(to) + amount)
        self._tell(contracts.TRANSFER, _NOBODY, to, amount, indexed=2)

    def approve(self, spender: bytes, amount: int) -> bool:
        self._write("allowance", self._sender, spender, value=amount)
        self._tell(contracts.APPROVAL, self._sender, spender, amount, indexed=2)
        return True

    def transfer_from(self, owner: bytes, to: bytes, amount: int) -> None:
        allowance = self._read("allowance", owner, self._sender) or 0
        if amount > allowance:
            self._refuse(contracts.ALLOWANCE_SHORT, self._sender, allowance, amount)
        if allowance != _UNLIMITED:
            self._write("allowance", owner, self._sender, value=allowance - amount)
        balance = self.balance_of(owner)
        if amount > balance:
            self._refuse(contracts.TOKENS_SHORT, owner, balance, amount)
        self._write("balance", owner, value=balance - amount)
        self._write("balance", to, value=self.balance_of(to) + amount)
        self._tell(contracts.TRANSFER, owner, to, amount, indexed=2)

    def balance_of(self, account: bytes) -> int:
        return self._read("balance", account) or 0

    def decimals(self) -> int:
        return 4


class _Vault(_Contract):
    takes = "(address,address,uint64,address)"
    functions: ClassVar = {
        contracts.DEPOSIT: "deposit",
        contracts.COLLATERAL_OF: "balance_of",
        contracts.TOTAL_COLLATERAL: "total_balance",
        contracts.TOKEN: "token",
        contracts.REGISTRY: "registry",
        contracts.UNITS_PER_E4: "units_per_e4",
    }

    def make(self, token: bytes, registry: bytes, _delay_s: int, admin: bytes) -> None:  # type: ignore[override]
        self._write("token", value=token)
        self._write("registry", value=registry)
        super().make(admin)

    def deposit(self, party: int, amount: int) -> None:
        _Registry(self._at, address=self.registry(), sender=self._address).signer_of(party)
        _Currency(self._at, address=self.token(), sender=self._address).transfer_from(
            self._sender, self._address, amount
        )
        if not amount:
            self._refuse(contracts.ZERO_AMOUNT)
        self._write("balance", party, value=self.balance_of(party) + amount)
        self._write("total", value=self.total_balance() + amount)
        self._tell(contracts.DEPOSITED, party, self._sender, amount, indexed=2)

    def apply_transfers(self, transfers: Sequence[tuple[int, int, int]]) -> list[bool]:
        """Make payments (payer, payee, amount in ten-thousandths), each if there is cover when its turn comes."""
        self._require_role(contracts.BOOK_ROLE)
        paid = []
        for payer, payee, amount in transfers:
            cover = self.balance_of(payer)
            paid.append(amount <= cover)
            if paid[-1]:
                self._write("balance", payer, value=cover - amount)
                self._write("balance", payee, value=self.balance_of(payee) + amount)
        return paid

    def balance_of(self, party: int) -> int:
        return self._read("balance", party) or 0

    def total_balance(self) -> int:
        return self._read("total") or 0

    def token(self) -> bytes:
        return bytes(self._read("token"))

    def registry(self) -> bytes:
        return bytes(self._read("registry"))

    def units_per_e4(self) -> int:
        return 1


class _Book(_Contract):
    takes = "(bytes3,address,address,address)"
    functions: ClassVar = {
        contracts.OPEN_AGREEMENT: "open_agreement",
        contracts.DISCHARGE: "discharge",
        contracts.PROPOSE: "propose",
        contracts.ACCEPT: "accept",
        contracts.FUND: "fund",
        contracts.PAUSE: "pause",
        contracts.UNPAUSE: "unpause",
        contracts.AGREEMENT_STATE: "agreement_state",
        contracts.BATCH: "batch",
        contracts.IS_FINAL: "is_final",
        contracts.IS_STATEMENT_FINAL: "is_statement_final",
        contracts.AGREEMENT_ID: "agreement_id",
        contracts.PAIRS_HASH: "pairs_hash",
        contracts.CURRENCY: "currency",
        contracts.REGISTRY: "registry",
        contracts.VAULT: "vault",
    }

    def make(self, currency: bytes, registry: bytes, vault: bytes, admin: bytes) -> None:  # type: ignore[override]
        self._write("currency", value=currency)
        self._write("registry", value=registry)
        self._write("vault", value=vault)
        super().make(admin)

    # Agreements

    def open_agreement(self, words: tuple[Any, ...], by_cpo: tuple[bytes, bytes], by_msp: tuple[bytes, bytes]) -> bytes:
        agreement = self.agreement_id(words)
        terms, deadline, limit = _terms(words), words[6], words[5]
        has_limit = terms.mode is BookMode.CREDIT_LINE
        if terms.cpo == terms.msp or words[3] != self.currency() or has_limit != bool(limit) or limit >= _I64:
            self._refuse(contracts.UNSUITABLE_TERMS, agreement)
        self._require_in_time(deadline, contracts.BOOK_EXPIRED)
        if self._read("standing", agreement) is not None:
            self._refuse(contracts.KNOWN_AGREEMENT, agreement)
        digest = agreement_digest(self._named, terms)
        self._require_signature(terms.cpo, digest, by_cpo)
        self._require_signature(terms.msp, digest, by_msp)
        standing = AgreementState(
            cpo=terms.cpo,
            msp=terms.msp,
            mode=terms.mode,
            credit_limit_e4=limit,
            last_sequence=0,
            discharges=0,
            owed_e4=0,
        )
        self._write("standing", agreement, value=standing)
        opened = (agreement, terms.cpo, terms.msp, terms.document, int(terms.mode), limit)
        self._tell(contracts.AGREEMENT_OPENED, *opened, indexed=3)
        return agreement

    def discharge(
        self, agreement: bytes, amount_e4: int, by_cpo: tuple[bytes, bytes], by_msp: tuple[bytes, bytes]
    ) -> None:
        standing = self._standing(agreement)
        owed, number = standing.owed_e4, standing.discharges
        if not (0 < amount_e4 <= owed or owed <= amount_e4 < 0):
            self._refuse(contracts.DISCHARGE_EXCEEDS_OWED, agreement, amount_e4, owed)
        digest = discharge_digest(self._named, agreement=agreement, number=number, amount_e4=amount_e4)
        self._require_signature(standing.cpo, digest, by_cpo)
        self._require_signature(standing.msp, digest, by_msp)
        changed = replace(standing, discharges=number + 1, owed_e4=owed - amount_e4)
        self._write("standing", agreement, value=changed)
        self._tell(contracts.OBLIGATION_DISCHARGED, agreement, number, amount_e4, changed.owed_e4, indexed=2)

    # Batches

    def propose(self, batch_id: bytes, statements: _Statements, acceptances: _Acceptances) -> None:
        self._require_role(contracts.PROPOSER_ROLE)
        if self._read("paused"):
            self._refuse(contracts.IS_PAUSED)
        if self._batch(batch_id).pairs_hash != _NONE:
            self._refuse(contracts.BATCH_EXISTS, batch_id)
        if not 1 <= len(statements) <= STATEMENTS_MAX:
            self._refuse(contracts.UNSUITABLE_COUNT, len(statements))
        self._require_proposable(statements)
        batch = BatchState(pairs_hash=self.pairs_hash(statements), final_pairs=0)
        self._tell(contracts.BATCH_PROPOSED, batch_id, batch.pairs_hash, len(statements), indexed=1)
        self._advance(batch_id, batch, statements, self._heard(batch_id, batch, acceptances))

    def accept(self, batch_id: bytes, statements: _Statements, acceptances: _Acceptances) -> None:
        batch = self._bound(batch_id, statements)
        self._advance(batch_id, batch, statements, self._heard(batch_id, batch, acceptances))

    def fund(self, batch_id: bytes, statements: _Statements) -> None:
        self._advance(batch_id, self._bound(batch_id, statements), statements, {})

    def pause(self) -> None:
        self._require_role(contracts.PAUSER_ROLE)
        if self._read("paused"):
            self._refuse(contracts.IS_PAUSED)
        self._write("paused", value=True)
        self._tell(contracts.PAUSED, self._sender, indexed=0)

    def unpause(self) -> None:
        self._require_role(contracts.PAUSER_ROLE)
        if not self._read("paused"):
            self._refuse(contracts.IS_NOT_PAUSED)
        self._write("paused", value=None)
        self._tell(contracts.UNPAUSED, self._sender, indexed=0)

    def _heard(self, batch_id: bytes, batch: BatchState, acceptances: _Acceptances) -> dict[int, int]:
        """Return the pairs that each party accepts in this call."""
        heard: dict[int, int] = {}
        for party, pairs, signature in acceptances:
            digest = acceptance_digest(
                self._named, batch_id=batch_id, pairs_hash=batch.pairs_hash, party=party, pairs=pairs
            )
            self._require_signature(party, digest, signature)
            heard[party] = heard.get(party, 0) | pairs
        return heard

    def _advance(self, batch_id: bytes, batch: BatchState, statements: _Statements, heard: dict[int, int]) -> None:
        """Make final what both sides accepted, if its turn has come and it is covered."""
        by_cpo, by_msp = batch.accepted_by_cpo, batch.accepted_by_msp
        for place, statement in enumerate(statements):
            standing = self._standing_or_none(statement[0])
            if standing is not None:
                by_cpo |= heard.get(standing.cpo, 0) & 1 << place
                by_msp |= heard.get(standing.msp, 0) & 1 << place
        settled, unfunded = self._settle(statements, by_cpo & by_msp & ~batch.final_pairs)
        final = batch.final_pairs | settled
        if settled:
            self._tell(contracts.PAIRS_FINAL, batch_id, settled, indexed=1)
        if unfunded:
            self._tell(contracts.PAIRS_UNFUNDED, batch_id, unfunded, indexed=1)
        advanced = replace(batch, final_pairs=final, accepted_by_cpo=by_cpo & ~final, accepted_by_msp=by_msp & ~final)
        self._write("batch", batch_id, value=advanced)

    def _settle(self, statements: _Statements, ready: int) -> tuple[int, int]:
        """Return the pairs that became final and those without cover. First all obligations, then all payments."""
        settled = unfunded = 0
        paying: list[tuple[int, tuple[int, int, int]]] = []
        for place, (agreement, _, _, figures) in enumerate(statements):
            if not ready >> place & 1:
                continue
            standing = self._standing(agreement)
            if _sequence(figures) != standing.last_sequence + 1:
                continue
            net = _due(figures) - _credit(figures)
            if standing.mode is BookMode.CREDIT_LINE:
                owed = standing.owed_e4 + net
                if not -_I64 <= owed <= standing.credit_limit_e4:
                    unfunded |= 1 << place
                    continue
                standing = replace(standing, owed_e4=owed)
            elif net:
                payer, payee = (standing.msp, standing.cpo) if net > 0 else (standing.cpo, standing.msp)
                paying.append((place, (payer, payee, abs(net))))
                continue
            self._finish(agreement, standing)
            settled |= 1 << place
        if paying:
            vault = _Vault(self._at, address=self.vault(), sender=self._address)
            for (place, _), is_paid in zip(paying, vault.apply_transfers([each for _, each in paying]), strict=True):
                if is_paid:
                    self._finish(statements[place][0], self._standing(statements[place][0]))
                    settled |= 1 << place
                else:
                    unfunded |= 1 << place
        return settled, unfunded

    def _finish(self, agreement: bytes, standing: AgreementState) -> None:
        self._write("standing", agreement, value=replace(standing, last_sequence=standing.last_sequence + 1))

    def _require_proposable(self, statements: _Statements) -> None:
        previous = _NONE
        for place, (agreement, _, _, figures) in enumerate(statements):
            if agreement <= previous:
                self._refuse(contracts.NOT_ASCENDING, place)
            previous = agreement
            if figures >> 232 or not _count(figures):
                self._refuse(contracts.MALFORMED_FIGURES, place)
            standing = self._standing(agreement)
            if _sequence(figures) <= standing.last_sequence:
                self._refuse(contracts.STALE_SEQUENCE, place, standing.last_sequence)

    def _bound(self, batch_id: bytes, statements: _Statements) -> BatchState:
        batch = self._batch(batch_id)
        if self.pairs_hash(statements) != batch.pairs_hash:
            self._refuse(contracts.OTHER_STATEMENTS, batch_id)
        return batch

    # Queries

    def agreement_state(self, agreement: bytes) -> tuple[int, ...]:
        state = self._standing(agreement)
        numbers = (state.cpo, state.msp, int(state.mode), state.credit_limit_e4)
        return (*numbers, state.last_sequence, state.discharges, state.owed_e4)

    def batch(self, batch_id: bytes) -> tuple[bytes, int, int, int]:
        batch = self._batch(batch_id)
        return batch.pairs_hash, batch.final_pairs, batch.accepted_by_cpo, batch.accepted_by_msp

    def is_final(self, agreement: bytes, sequence: int) -> bool:
        standing = self._standing_or_none(agreement)
        return standing is not None and 0 < sequence <= standing.last_sequence

    def is_statement_final(self, words: tuple[bytes, bytes, bytes, int], place: tuple[Any, ...]) -> bool:
        batch_id, index, count, siblings = place
        try:
            root = proven_root(struct_hash_of(*words), Proof(index=index, count=count, siblings=siblings))
        except MalformedProof:
            return False
        batch = self._batch(batch_id)
        return _bind(root, count) == batch.pairs_hash and batch.is_final(index)

    def agreement_id(self, words: tuple[Any, ...]) -> bytes:
        return agreement_id(_terms(words))

    def pairs_hash(self, statements: _Statements) -> bytes:
        if not statements:
            self._refuse(contracts.EMPTY_TREE)
        return _bind(HashTree([struct_hash_of(*words) for words in statements]).root, len(statements))

    def currency(self) -> bytes:
        return bytes(self._read("currency"))

    def registry(self) -> bytes:
        return bytes(self._read("registry"))

    def vault(self) -> bytes:
        return bytes(self._read("vault"))

    # Parts

    @property
    def _named(self) -> Book:
        return Book(chain_id=self._at.call.chain_id, address=self._address)

    def _batch(self, batch_id: bytes) -> BatchState:
        return self._read("batch", batch_id) or BatchState(pairs_hash=_NONE, final_pairs=0)

    def _standing_or_none(self, agreement: bytes) -> AgreementState | None:
        standing: AgreementState | None = self._read("standing", agreement)
        return standing

    def _standing(self, agreement: bytes) -> AgreementState:
        standing = self._standing_or_none(agreement)
        if standing is None:
            self._refuse(contracts.UNKNOWN_AGREEMENT, agreement)
        return standing

    def _require_signature(self, party: int, digest: bytes, signature: tuple[bytes, bytes]) -> None:
        registry = _Registry(self._at, address=self.registry(), sender=self._address)
        if recovered_address(digest, b"".join(signature)) != registry.signer_of(party):
            self._refuse(contracts.BOOK_WRONG_SIGNER, party)


class _Anchor(_Contract):
    takes = "(address,address)"

    def make(self, _registry: bytes, admin: bytes) -> None:  # type: ignore[override]  # each its own
        super().make(admin)


class _Passport(_Contract):
    """Only made."""


_KINDS: Final[dict[str, type[_Contract]]] = {
    "PartyRegistry": _Registry,
    "EmbeddedCurrency": _Currency,
    "CollateralVault": _Vault,
    "SettlementBook": _Book,
    "RootAnchor": _Anchor,
    "BatteryPassport": _Passport,
}


def _terms(words: tuple[Any, ...]) -> AgreementTerms:
    document, cpo, msp, currency, mode, limit, deadline = words
    if mode not in set(BookMode) or not currency.isascii():
        raise CallReverted(b"")
    return AgreementTerms(
        document=document,
        cpo=cpo,
        msp=msp,
        currency=currency.decode(),
        mode=BookMode(mode),
        credit_limit_e4=limit,
        deadline=_moment(deadline),
    )


def _bind(root: bytes, count: int) -> bytes:
    return keccak256(root + count.to_bytes(32, "big"))


def _moment(seconds: int) -> datetime:
    """Return a deadline as the domain has it; the contracts know later ones than it does."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError):
        raise CallReverted(b"") from None


def _due(figures: int) -> int:
    return figures >> 168


def _credit(figures: int) -> int:
    return figures >> 104 & U64_MAX


def _count(figures: int) -> int:
    return figures >> 72 & 0xFFFF_FFFF


def _sequence(figures: int) -> int:
    return figures >> 40 & 0xFFFF_FFFF
