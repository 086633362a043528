"""`SettlementBook.sol` in Python; what a statement's words say is read as there, well-formed or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final, TypeAlias

from emobility.adapters.chain_signing import recovered_address
from emobility.adapters.memory.contracts.contract import Contract, moment
from emobility.adapters.memory.contracts.money import VaultModel
from emobility.adapters.memory.contracts.registry import RegistryModel
from emobility.domain.batch import contracts
from emobility.domain.batch.calls import AgreementState, BatchState
from emobility.domain.batch.hashing import U64_MAX, keccak256
from emobility.domain.batch.statement import STATEMENTS_MAX, struct_hash_of
from emobility.domain.batch.trees import HashTree, MalformedProof, Proof, proven_root
from emobility.domain.batch.typed_data import (
    AgreementTerms,
    Book,
    BookMode,
    acceptance_digest,
    agreement_digest,
    agreement_id,
    discharge_digest,
)
from emobility.ports.chain import CallReverted

_NONE: Final = bytes(32)
_I64: Final = 1 << 63
_Statements: TypeAlias = Sequence[tuple[bytes, bytes, bytes, int]]
_Acceptances: TypeAlias = Sequence[tuple[int, int, tuple[bytes, bytes]]]


class BookModel(Contract):
    """The settlement of one currency."""

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
        """Carry out the constructor."""
        self._write("currency", value=currency)
        self._write("registry", value=registry)
        self._write("vault", value=vault)
        super().make(admin)

    # Agreements

    def open_agreement(self, words: tuple[Any, ...], by_cpo: tuple[bytes, bytes], by_msp: tuple[bytes, bytes]) -> bytes:
        """Open an agreement with both signatures; return its id."""
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
        """Lower what is owed, as both sign that it was paid."""
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
        """Propose statements, with whatever acceptances there are."""
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
        """Add acceptances to a batch."""
        batch = self._bound(batch_id, statements)
        self._advance(batch_id, batch, statements, self._heard(batch_id, batch, acceptances))

    def fund(self, batch_id: bytes, statements: _Statements) -> None:
        """Try again to make final what both sides accepted."""
        self._advance(batch_id, self._bound(batch_id, statements), statements, {})

    def pause(self) -> None:
        """Stop proposals."""
        self._require_role(contracts.PAUSER_ROLE)
        if self._read("paused"):
            self._refuse(contracts.IS_PAUSED)
        self._write("paused", value=True)
        self._tell(contracts.PAUSED, self._sender, indexed=0)

    def unpause(self) -> None:
        """Allow proposals again."""
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
            vault = VaultModel(self._at, address=self.vault(), sender=self._address)
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
        """Return where an agreement stands."""
        state = self._standing(agreement)
        numbers = (state.cpo, state.msp, int(state.mode), state.credit_limit_e4)
        return (*numbers, state.last_sequence, state.discharges, state.owed_e4)

    def batch(self, batch_id: bytes) -> tuple[bytes, int, int, int]:
        """Return where a batch stands."""
        batch = self._batch(batch_id)
        return batch.pairs_hash, batch.final_pairs, batch.accepted_by_cpo, batch.accepted_by_msp

    def is_final(self, agreement: bytes, sequence: int) -> bool:
        """Whether a statement with this sequence is final."""
        standing = self._standing_or_none(agreement)
        return standing is not None and 0 < sequence <= standing.last_sequence

    def is_statement_final(self, words: tuple[bytes, bytes, bytes, int], place: tuple[Any, ...]) -> bool:
        """Whether this very statement is final at this place."""
        batch_id, index, count, siblings = place
        try:
            root = proven_root(struct_hash_of(*words), Proof(index=index, count=count, siblings=siblings))
        except MalformedProof:
            return False
        batch = self._batch(batch_id)
        return _bind(root, count) == batch.pairs_hash and batch.is_final(index)

    def agreement_id(self, words: tuple[Any, ...]) -> bytes:
        """Return the id of an agreement with these terms."""
        return agreement_id(_terms(words))

    def pairs_hash(self, statements: _Statements) -> bytes:
        """Return what binds these statements."""
        if not statements:
            self._refuse(contracts.EMPTY_TREE)
        return _bind(HashTree([struct_hash_of(*words) for words in statements]).root, len(statements))

    def currency(self) -> bytes:
        """Return the currency."""
        return bytes(self._read("currency"))

    def registry(self) -> bytes:
        """Return where parties are registered."""
        return bytes(self._read("registry"))

    def vault(self) -> bytes:
        """Return where collateral lies."""
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
        registry = RegistryModel(self._at, address=self.registry(), sender=self._address)
        if recovered_address(digest, b"".join(signature)) != registry.signer_of(party):
            self._refuse(contracts.BOOK_WRONG_SIGNER, party)


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
        deadline=moment(deadline),
    )


def _bind(root: bytes, count: int) -> bytes:
    return keccak256(root + count.to_bytes(32, "big"))


def _due(figures: int) -> int:
    return figures >> 168


def _credit(figures: int) -> int:
    return figures >> 104 & U64_MAX


def _count(figures: int) -> int:
    return figures >> 72 & 0xFFFF_FFFF


def _sequence(figures: int) -> int:
    return figures >> 40 & 0xFFFF_FFFF
