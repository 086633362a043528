"""`SettlementBook.sol` in Python; what a statement's words say is read as there, well-formed or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, TypeAlias

from emobility.adapters.chain_signing import recovered_address
from emobility.adapters.memory.contracts.contract import Pausable, moment
from emobility.adapters.memory.contracts.money import VaultModel
from emobility.adapters.memory.contracts.registry import RegistryModel
from emobility.domain.batch import contracts
from emobility.domain.batch.calls import AgreementState, BatchState, key_number
from emobility.domain.batch.hashing import bound
from emobility.domain.batch.statement import AGREEMENT_BYTES, STATEMENTS_MAX, struct_hash_of
from emobility.domain.batch.trees import HashTree, MalformedProof, Proof, proven_root
from emobility.domain.batch.typed_data import (
    AGREEMENTS_MAX,
    PARTIES_MAX,
    AgreementTerms,
    Book,
    BookKind,
    BookMode,
    acceptance_digest,
    agreement_digest,
    agreement_id,
    agreement_key,
    discharge_digest,
    ending_digest,
)
from emobility.ports.chain import CallReverted

WINDOW_S_MIN: Final = 24 * 3600
WINDOW_S_MAX: Final = 3 * 24 * 3600
BOND_E4_MAX: Final = 10_000_000
NOTICE_S: Final = 30 * 24 * 3600
PAYMENT_TERM_S_MAX: Final = 365 * 24 * 3600
AMOUNT_E4_MAX: Final = 1 << 62
_ROOM_MAX: Final = (1 << 63) - 1
_NONE: Final = bytes(32)
_Signature: TypeAlias = tuple[bytes, bytes]
_Statement: TypeAlias = tuple[int, bytes]
"""Figures and roots."""
_Place: TypeAlias = tuple[bytes, int, int, Sequence[bytes]]
_Acceptances: TypeAlias = Sequence[tuple[int, int, _Signature]]


@dataclass(kw_only=True)
class _Progress:
    """What one call knows of a batch: pairs that are not final, and who accepted them."""

    open: int
    by_cpo: int = 0
    by_msp: int = 0


class BookModel(Pausable):
    """The settlement of one currency."""

    takes = "(bytes3,uint40,uint64,address,address,address)"
    functions: ClassVar = {
        contracts.OPEN_AGREEMENT: "open_agreement",
        contracts.DISCHARGE: "discharge",
        contracts.CALL_GUARANTEE: "call_guarantee",
        contracts.GIVE_NOTICE: "give_notice",
        contracts.END_AFTER_NOTICE: "end_after_notice",
        contracts.END_AGREEMENT: "end_agreement",
        contracts.CORRECT: "correct",
        contracts.FUND_CORRECTION: "fund_correction",
        contracts.PROPOSE: "propose",
        contracts.ACCEPT: "accept",
        contracts.FUND: "fund",
        contracts.CHALLENGE: "challenge",
        contracts.DECIDE_CHALLENGE: "decide_challenge",
        contracts.CLOSE: "close",
        contracts.AGREEMENT_STATE: "agreement_state",
        contracts.BATCH: "batch",
        contracts.IS_FINAL: "is_final",
        contracts.IS_STATEMENT_FINAL: "is_statement_final",
        contracts.AGREEMENT_ID: "agreement_id",
        contracts.PAIRS_HASH: "pairs_hash",
        contracts.CURRENCY: "currency",
        contracts.WINDOW_S: "window_s",
        contracts.BOND_E4: "bond_e4",
        contracts.IS_CLOSED: "is_closed",
        contracts.REGISTRY: "registry",
        contracts.VAULT: "vault",
    }

    def make(  # type: ignore[override]  # each its own  # noqa: PLR0917 - the contract's arguments
        self, currency: bytes, window_s: int, bond_e4: int, registry: bytes, vault: bytes, admin: bytes
    ) -> None:
        """Carry out the constructor."""
        delay_s = VaultModel(self._at, address=vault, sender=self._address).delay_s()
        if not WINDOW_S_MIN <= window_s <= WINDOW_S_MAX or bond_e4 > BOND_E4_MAX or delay_s <= window_s:
            self._refuse(contracts.UNSUITABLE_WINDOW, window_s, bond_e4)
        self._write("currency", value=currency)
        self._write("window", value=window_s)
        self._write("bond", value=bond_e4)
        self._write("registry", value=registry)
        self._write("vault", value=vault)
        super().make(admin)

    # Agreements

    def open_agreement(self, words: tuple[Any, ...], by_cpo: _Signature, by_msp: _Signature) -> int:
        """Open an agreement with both signatures; return its key."""
        self._require_open()
        terms = _terms(words)
        if not self._is_suitable(terms, words[3]):
            self._refuse(contracts.UNSUITABLE_TERMS, agreement_id(terms))
        self._require_in_time(words[9], contracts.BOOK_EXPIRED)
        agreement = agreement_key(terms)
        number = key_number(agreement)
        if self._read("standing", number) is not None:
            self._refuse(contracts.KNOWN_AGREEMENT, number)
        digest = agreement_digest(self._named, terms)
        self._require_signature(terms.cpo, digest, by_cpo)
        self._require_signature(terms.msp, digest, by_msp)
        standing = AgreementState(
            agreement_id=agreement_id(terms),
            cpo=terms.cpo,
            msp=terms.msp,
            mode=terms.mode,
            credit_limit_e4=terms.credit_limit_e4,
            last_sequence=0,
            discharges=0,
            owed_e4=0,
            payment_term_s=terms.payment_term_s,
        )
        self._write("standing", number, value=standing)
        said = (terms.document, int(terms.mode), terms.credit_limit_e4, terms.payment_term_s)
        self._tell(contracts.AGREEMENT_OPENED, number, standing.agreement_id, *said, indexed=2)
        if terms.mode is BookMode.GUARANTEE:
            self._vault.reserve(terms.msp, terms.credit_limit_e4)
        return number

    def discharge(self, agreement: int, amount_e4: int, by_cpo: _Signature, by_msp: _Signature) -> None:
        """Lower what is owed, as both sign that it was paid."""
        standing = self._standing(agreement)
        owed, number = standing.owed_e4, standing.discharges
        if not (0 < amount_e4 <= owed or owed <= amount_e4 < 0):
            self._refuse(contracts.DISCHARGE_EXCEEDS_OWED, agreement, amount_e4, owed)
        digest = discharge_digest(self._named, agreement=_key(agreement), number=number, amount_e4=amount_e4)
        self._require_both(standing, digest, by_cpo, by_msp)
        changed = replace(standing, discharges=number + 1, owed_e4=owed - amount_e4)
        self._tell(contracts.OBLIGATION_DISCHARGED, agreement, number, amount_e4, changed.owed_e4, indexed=2)
        self._write("standing", agreement, value=changed)
        self._release_after_end(agreement)

    def call_guarantee(self, agreement: int, sequence: int, amount_e4: int) -> None:
        """Take what is overdue from the MSP's guarantee."""
        standing = self._standing(agreement)
        self._require_sender(standing.cpo)
        billed_e4, since_s = self._owing(agreement, sequence)
        overdue_e4 = 0
        is_due = since_s and self._at.call.timestamp_s >= since_s + standing.payment_term_s
        if standing.mode is BookMode.GUARANTEE and is_due:
            overdue_e4 = standing.owed_e4 - (self._owing(agreement, standing.last_sequence)[0] - billed_e4)
        if not 0 < amount_e4 <= min(overdue_e4, standing.credit_limit_e4):
            self._refuse(contracts.CALL_EXCEEDS_OVERDUE, agreement, amount_e4, overdue_e4)
        changed = replace(
            standing,
            credit_limit_e4=standing.credit_limit_e4 - amount_e4,
            owed_e4=standing.owed_e4 - amount_e4,
        )
        self._write("standing", agreement, value=changed)
        self._tell(contracts.GUARANTEE_CALLED, agreement, amount_e4, changed.owed_e4, indexed=1)
        self._vault.take_reserved(standing.msp, standing.cpo, amount_e4)

    def give_notice(self, agreement: int) -> None:
        """Announce an agreement's end, once."""
        standing = self._standing(agreement)
        if standing.has_ended:
            self._refuse(contracts.HAS_ENDED, agreement)
        by_cpo = self._sender == self._registry.signer_of(standing.cpo)
        if not by_cpo:
            self._require_sender(standing.msp)
        if not standing.ends_at_s:
            ends_at_s = self._at.call.timestamp_s + NOTICE_S + standing.payment_term_s
            self._write("standing", agreement, value=replace(standing, ends_at_s=ends_at_s))
            party = standing.cpo if by_cpo else standing.msp
            self._tell(contracts.NOTICE_GIVEN, agreement, party, ends_at_s, indexed=2)

    def end_after_notice(self, agreement: int) -> None:
        """End an agreement for which notice was given in time."""
        standing: AgreementState | None = self._read("standing", agreement)
        ends_at_s = standing.ends_at_s if standing else 0
        if not ends_at_s or self._at.call.timestamp_s < ends_at_s:
            self._refuse(contracts.NOT_ENDING, agreement, ends_at_s)
        self._end(agreement)

    def end_agreement(self, agreement: int, by_cpo: _Signature, by_msp: _Signature) -> None:
        """End an agreement at once, as both sign."""
        digest = ending_digest(self._named, _key(agreement))
        self._require_signature(agreement >> 40, digest, by_cpo)
        self._require_signature(agreement & 0xFFFFFF, digest, by_msp)
        self._end(agreement)

    def _end(self, agreement: int) -> None:
        standing = self._standing(agreement)
        if standing.has_ended:
            self._refuse(contracts.HAS_ENDED, agreement)
        self._write("standing", agreement, value=replace(standing, has_ended=True))
        self._tell(contracts.AGREEMENT_ENDED, agreement, indexed=1)
        self._release_after_end(agreement)

    def _release_after_end(self, agreement: int) -> None:
        """Of a guarantee that ended, release what is neither owed nor will be once corrections are met."""
        standing = self._standing(agreement)
        kept = max(standing.owed_e4 + max(standing.corrected_e4, 0), 0)
        if standing.has_ended and standing.mode is BookMode.GUARANTEE and kept < standing.credit_limit_e4:
            self._write("standing", agreement, value=replace(standing, credit_limit_e4=kept))
            self._vault.release(standing.msp, standing.credit_limit_e4 - kept)

    def correct(self, agreement: int, amount_e4: int) -> None:
        """Change what the MSP owes beside statements."""
        self._require_role(contracts.RESOLVER_ROLE)
        standing = self._standing(agreement)
        corrected = standing.corrected_e4 + amount_e4
        if abs(corrected) > AMOUNT_E4_MAX:
            self._refuse(contracts.TOO_MUCH, agreement)
        self._write("standing", agreement, value=replace(standing, corrected_e4=corrected))
        self._tell(contracts.AGREEMENT_CORRECTED, agreement, amount_e4, indexed=1)
        self._release_after_end(agreement)

    def fund_correction(self, agreement: int) -> None:
        """Meet corrections without waiting for the next statement."""
        standing = self._standing(agreement)
        net = standing.corrected_e4
        if not net:
            self._refuse(contracts.NOT_CORRECTED, agreement)
        self._tell(contracts.CORRECTION_MET, agreement, net, indexed=1)
        if standing.mode is BookMode.PREFUNDED:
            if not self._vault.apply_transfers([_payment(standing, net)])[0]:
                self._refuse(contracts.NOT_COVERED, agreement)
            self._write("standing", agreement, value=replace(standing, corrected_e4=0))
        elif not self._owe(agreement, replace(standing, corrected_e4=0), net, standing.last_sequence):
            self._refuse(contracts.NOT_COVERED, agreement)
        self._release_after_end(agreement)

    # Batches

    def propose(self, batch_id: bytes, statements: Sequence[_Statement], acceptances: _Acceptances) -> None:
        """Propose statements, with whatever acceptances there are."""
        self._require_role(contracts.PROPOSER_ROLE)
        self._require_unpaused()
        self._require_open()
        if self._batch(batch_id).pairs_hash != _NONE:
            self._refuse(contracts.BATCH_EXISTS, batch_id)
        if not 1 <= len(statements) <= STATEMENTS_MAX:
            self._refuse(contracts.UNSUITABLE_COUNT, len(statements))
        self._require_proposable(statements)
        batch = BatchState(pairs_hash=self.pairs_hash(statements))
        self._tell(contracts.BATCH_PROPOSED, batch_id, batch.pairs_hash, len(statements), indexed=1)
        progress = _Progress(open=(1 << len(statements)) - 1)
        self._hear(batch_id, batch, statements, acceptances, progress)
        self._settle(batch_id, statements, progress)
        ripening = (progress.by_cpo ^ progress.by_msp) & progress.open
        due_at_s = self._at.call.timestamp_s + self.window_s() if ripening else 0
        self._keep(batch_id, replace(batch, ripening=ripening, due_at_s=due_at_s), progress)

    def accept(self, batch_id: bytes, statements: Sequence[_Statement], acceptances: _Acceptances) -> None:
        """Add acceptances to a batch."""
        batch = self._batch(batch_id)
        if self.pairs_hash(statements) != batch.pairs_hash:
            self._refuse(contracts.OTHER_STATEMENTS, batch_id)
        if not batch.open_pairs:
            return
        progress = _Progress(open=batch.open_pairs, by_cpo=batch.accepted_by_cpo, by_msp=batch.accepted_by_msp)
        self._hear(batch_id, batch, statements, acceptances, progress)
        batch = self._end_challenges(batch_id, batch, statements, progress)
        if batch.ripening and self._at.call.timestamp_s >= batch.due_at_s:
            progress.by_cpo |= batch.ripening & progress.open
            progress.by_msp |= batch.ripening & progress.open
        self._settle(batch_id, statements, progress)
        ripening = batch.ripening & progress.open & (progress.by_cpo ^ progress.by_msp)
        self._keep(batch_id, replace(batch, ripening=ripening), progress)

    def fund(self, batch_id: bytes, statements: Sequence[_Statement]) -> None:
        """Try again to make final what is accepted."""
        self.accept(batch_id, statements, ())

    def challenge(self, statement: _Statement, place: _Place) -> None:
        """Contest a pair that the sender's side did not accept."""
        batch, index = self._at_place(statement, place)
        if not batch.ripening >> index & 1 or self._at.call.timestamp_s >= batch.due_at_s:
            self._refuse(contracts.NOT_RIPENING, place[0], index)
        party = _silent_side(batch, statement, index)
        self._require_sender(party)
        pair = 1 << index
        changed = replace(batch, ripening=batch.ripening & ~pair, challenged=batch.challenged | pair)
        self._write("batch", place[0], value=changed)
        self._tell(contracts.PAIR_CHALLENGED, place[0], party, index, indexed=2)
        self._vault.reserve(party, self.bond_e4())

    def decide_challenge(self, statement: _Statement, place: _Place, is_upheld: bool) -> None:  # noqa: FBT001 - as called
        """Decide a challenge."""
        self._require_role(contracts.RESOLVER_ROLE)
        batch, index = self._at_place(statement, place)
        if not batch.challenged >> index & 1:
            self._refuse(contracts.NOT_CHALLENGED, place[0], index)
        cpo, msp = _parties(statement)
        party, pair = _silent_side(batch, statement, index), 1 << index
        batch = replace(batch, challenged=batch.challenged & ~pair)
        if is_upheld:
            batch = replace(batch, open_pairs=batch.open_pairs & ~pair, void_pairs=batch.void_pairs | pair)
        elif party == cpo:
            batch = replace(batch, accepted_by_cpo=batch.accepted_by_cpo | pair)
        else:
            batch = replace(batch, accepted_by_msp=batch.accepted_by_msp | pair)
        self._write("batch", place[0], value=batch)
        self._tell(contracts.CHALLENGE_ENDED, place[0], index, is_upheld, indexed=1)
        if is_upheld:
            self._vault.release(party, self.bond_e4())
        else:
            self._vault.take_reserved(party, msp if party == cpo else cpo, self.bond_e4())

    def close(self) -> None:
        """Stop proposals and agreements for good."""
        self._require_role(contracts.ADMIN_ROLE)
        self._require_open()
        self._write("closed", value=True)
        self._tell(contracts.BOOK_CLOSED, indexed=0)

    def _hear(
        self,
        batch_id: bytes,
        batch: BatchState,
        statements: Sequence[_Statement],
        acceptances: _Acceptances,
        progress: _Progress,
    ) -> None:
        """Note which pairs are accepted in this call, and by which side."""
        heard: dict[int, int] = {}
        signers = [self._registry.signer_of(party) for party, _, _ in acceptances]
        for (party, pairs, signature), signer in zip(acceptances, signers, strict=True):
            digest = acceptance_digest(
                self._named, batch_id=batch_id, pairs_hash=batch.pairs_hash, party=party, pairs=pairs
            )
            if recovered_address(digest, b"".join(signature)) != signer:
                self._refuse(contracts.BOOK_WRONG_SIGNER, party)
            heard[party] = heard.get(party, 0) | pairs
        for place, statement in enumerate(statements):
            cpo, msp = _parties(statement)
            progress.by_cpo |= heard.get(cpo, 0) & 1 << place & progress.open
            progress.by_msp |= heard.get(msp, 0) & 1 << place & progress.open

    def _end_challenges(
        self, batch_id: bytes, batch: BatchState, statements: Sequence[_Statement], progress: _Progress
    ) -> BatchState:
        """End challenges that were taken back by an acceptance, or that another statement overtook."""
        for place, statement in enumerate(statements):
            pair = 1 << place
            if not batch.challenged & pair:
                continue
            is_void = _sequence(statement[0]) <= self._standing(_agreement(statement)).last_sequence
            if not is_void and not progress.by_cpo & progress.by_msp & pair:
                continue
            party = _silent_side(batch, statement, place)
            batch = replace(batch, challenged=batch.challenged & ~pair)
            if is_void:
                progress.open &= ~pair
                batch = replace(batch, void_pairs=batch.void_pairs | pair)
            self._tell(contracts.CHALLENGE_ENDED, batch_id, place, is_void, indexed=1)
            self._vault.release(party, self.bond_e4())
        return batch

    def _settle(self, batch_id: bytes, statements: Sequence[_Statement], progress: _Progress) -> None:
        """Make final what both sides accepted. First all obligations, then all payments."""
        settled, unfunded, paying = self._record(statements, progress)
        if paying:
            paid = self._vault.apply_transfers([each for _, each in paying])
            for (place, _), is_paid in zip(paying, paid, strict=True):
                settled |= is_paid << place
                unfunded |= (not is_paid) << place
        for place, statement in enumerate(statements):
            if settled >> place & 1:
                self._finish(_agreement(statement))
        progress.open &= ~settled
        if settled:
            self._tell(contracts.PAIRS_FINAL, batch_id, settled, indexed=1)
        if unfunded:
            self._tell(contracts.PAIRS_UNFUNDED, batch_id, unfunded, indexed=1)

    def _record(
        self, statements: Sequence[_Statement], progress: _Progress
    ) -> tuple[int, int, list[tuple[int, tuple[int, int, int]]]]:
        """Record obligations; return what is settled by that, what lacks room, and who is to pay whom."""
        settled = unfunded = 0
        paying: list[tuple[int, tuple[int, int, int]]] = []
        for place, statement in enumerate(statements):
            if not progress.by_cpo & progress.by_msp & progress.open & 1 << place:
                continue
            standing = self._standing(_agreement(statement))
            if _sequence(statement[0]) != standing.last_sequence + 1 or standing.has_ended:
                continue
            net = _net(statement[0]) + standing.corrected_e4
            if standing.mode is not BookMode.PREFUNDED:
                if self._owe(_agreement(statement), standing, net, _sequence(statement[0])):
                    settled |= 1 << place
                else:
                    unfunded |= 1 << place
            elif net:
                paying.append((place, _payment(standing, net)))
            else:
                settled |= 1 << place
        return settled, unfunded, paying

    def _finish(self, agreement: int) -> None:
        standing = self._standing(agreement)
        if standing.corrected_e4:
            self._tell(contracts.CORRECTION_MET, agreement, standing.corrected_e4, indexed=1)
        done = replace(standing, last_sequence=standing.last_sequence + 1, corrected_e4=0)
        self._write("standing", agreement, value=done)

    def _owe(self, agreement: int, standing: AgreementState, net_e4: int, sequence: int) -> bool:
        """Record what is owed, if that stays within the limit."""
        owed_e4 = standing.owed_e4 + net_e4
        if not 0 <= standing.credit_limit_e4 - owed_e4 <= _ROOM_MAX:
            return False
        self._write("standing", agreement, value=replace(standing, owed_e4=owed_e4))
        if standing.mode is BookMode.GUARANTEE:
            billed_e4 = self._owing(agreement, standing.last_sequence)[0] + max(net_e4, 0)
            since_s = self._owing(agreement, sequence)[1] or self._at.call.timestamp_s
            self._write("owing", agreement, sequence, value=(billed_e4, since_s))
        return True

    def _keep(self, batch_id: bytes, batch: BatchState, progress: _Progress) -> None:
        kept = replace(
            batch,
            open_pairs=progress.open,
            accepted_by_cpo=progress.by_cpo & progress.open,
            accepted_by_msp=progress.by_msp & progress.open,
        )
        self._write("batch", batch_id, value=kept)

    def _require_proposable(self, statements: Sequence[_Statement]) -> None:
        previous = 0
        for place, statement in enumerate(statements):
            agreement, figures = _agreement(statement), statement[0]
            if agreement <= previous:
                self._refuse(contracts.NOT_ASCENDING, place)
            previous = agreement
            if not figures >> 56 & 0xFFFFFF:
                self._refuse(contracts.MALFORMED_FIGURES, place)
            standing = self._standing(agreement)
            if standing.has_ended:
                self._refuse(contracts.HAS_ENDED, agreement)
            if _sequence(figures) <= standing.last_sequence:
                self._refuse(contracts.STALE_SEQUENCE, place, standing.last_sequence)

    # Queries

    def agreement_state(self, agreement: int) -> tuple[Any, ...]:
        """Return where an agreement stands."""
        state = self._standing(agreement)
        return (
            state.agreement_id,
            state.cpo,
            state.msp,
            int(state.mode),
            state.has_ended,
            state.credit_limit_e4,
            state.last_sequence,
            state.discharges,
            state.owed_e4,
            state.corrected_e4,
            state.payment_term_s,
            state.ends_at_s,
        )

    def batch(self, batch_id: bytes) -> tuple[bytes, int, int, int, int, int, int, int]:
        """Return where a batch stands."""
        batch = self._batch(batch_id)
        accepted = (batch.accepted_by_cpo, batch.accepted_by_msp)
        waiting = (batch.ripening, batch.challenged, batch.void_pairs, batch.due_at_s)
        return (batch.pairs_hash, batch.open_pairs, *accepted, *waiting)

    def is_final(self, agreement: int, sequence: int) -> bool:
        """Whether a statement with this sequence is final."""
        standing: AgreementState | None = self._read("standing", agreement)
        return standing is not None and 0 < sequence <= standing.last_sequence

    def is_statement_final(self, statement: _Statement, place: _Place) -> bool:
        """Whether this very statement is final at this place."""
        batch = self._batch(place[0])
        return _is_at(batch, statement, place) and batch.is_final(place[1])

    def is_statement_stated(self, statement: _Statement, place: _Place) -> bool:
        """Whether this very statement is final at this place, or on its way there."""
        batch = self._batch(place[0])
        return _is_at(batch, statement, place) and not batch.void_pairs >> place[1] & 1

    def agreement_id(self, words: tuple[Any, ...]) -> bytes:
        """Return the id of an agreement with these terms."""
        return agreement_id(_terms(words))

    def pairs_hash(self, statements: Sequence[_Statement]) -> bytes:
        """Return what binds these statements."""
        if not statements:
            self._refuse(contracts.EMPTY_TREE)
        return bound(HashTree([struct_hash_of(*words) for words in statements]).root, len(statements))

    def currency(self) -> bytes:
        """Return the currency."""
        return bytes(self._read("currency"))

    def window_s(self) -> int:
        """Return how long a silent side can challenge."""
        return int(self._read("window"))

    def bond_e4(self) -> int:
        """Return what a challenge puts at stake."""
        return int(self._read("bond"))

    def is_closed(self) -> bool:
        """Whether no proposals are taken any more."""
        return bool(self._read("closed"))

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

    @property
    def _registry(self) -> RegistryModel:
        return RegistryModel(self._at, address=self.registry(), sender=self._address)

    @property
    def _vault(self) -> VaultModel:
        return VaultModel(self._at, address=self.vault(), sender=self._address)

    def _batch(self, batch_id: bytes) -> BatchState:
        return self._read("batch", batch_id) or BatchState(pairs_hash=_NONE)

    def _at_place(self, statement: _Statement, place: _Place) -> tuple[BatchState, int]:
        batch = self._batch(place[0])
        if not _is_at(batch, statement, place):
            self._refuse(contracts.OTHER_STATEMENTS, place[0])
        return batch, place[1]

    def _standing(self, agreement: int) -> AgreementState:
        standing: AgreementState | None = self._read("standing", agreement)
        if standing is None:
            self._refuse(contracts.UNKNOWN_AGREEMENT, agreement)
        return standing

    def _owing(self, agreement: int, sequence: int) -> tuple[int, int]:
        """Return all that was charged under a guarantee up to a statement, and since when (unix seconds)."""
        billed_e4, since_s = self._read("owing", agreement, sequence) or (0, 0)
        return billed_e4, since_s

    def _is_suitable(self, terms: AgreementTerms, currency: bytes) -> bool:
        return (
            terms.cpo != terms.msp
            and currency == self.currency()
            and (terms.mode is BookMode.PREFUNDED) == (terms.credit_limit_e4 == 0)
            and terms.credit_limit_e4 <= AMOUNT_E4_MAX
            and (terms.mode is BookMode.GUARANTEE) == (terms.payment_term_s != 0)
            and terms.payment_term_s <= PAYMENT_TERM_S_MAX
            and max(terms.cpo, terms.msp) < PARTIES_MAX
            and terms.number < AGREEMENTS_MAX
        )

    def _require_open(self) -> None:
        if self.is_closed():
            self._refuse(contracts.BOOK_IS_CLOSED)

    def _require_sender(self, party: int) -> None:
        if self._sender != self._registry.signer_of(party):
            self._refuse(contracts.BOOK_NOT_PARTY, party, self._sender)

    def _require_both(self, standing: AgreementState, digest: bytes, by_cpo: _Signature, by_msp: _Signature) -> None:
        self._require_signature(standing.cpo, digest, by_cpo)
        self._require_signature(standing.msp, digest, by_msp)

    def _require_signature(self, party: int, digest: bytes, signature: _Signature) -> None:
        if recovered_address(digest, b"".join(signature)) != self._registry.signer_of(party):
            self._refuse(contracts.BOOK_WRONG_SIGNER, party)


def _terms(words: tuple[Any, ...]) -> AgreementTerms:
    document, cpo, msp, currency, kind, number, mode, limit, term_s, deadline = words
    if mode not in set(BookMode) or kind not in set(BookKind) or not currency.isascii():
        raise CallReverted(b"")
    return AgreementTerms(
        document=document,
        cpo=cpo,
        msp=msp,
        currency=currency.decode(),
        kind=BookKind(kind),
        number=number,
        mode=BookMode(mode),
        credit_limit_e4=limit,
        payment_term_s=term_s,
        deadline=moment(deadline),
    )


def _payment(standing: AgreementState, net_e4: int) -> tuple[int, int, int]:
    """Return payer, payee and amount."""
    payer, payee = (standing.msp, standing.cpo) if net_e4 > 0 else (standing.cpo, standing.msp)
    return payer, payee, abs(net_e4)


def _silent_side(batch: BatchState, statement: _Statement, index: int) -> int:
    """Return, of a pair that one side accepted, the number of the other."""
    cpo, msp = _parties(statement)
    return msp if batch.accepted_by_cpo >> index & 1 else cpo


def _is_at(batch: BatchState, statement: _Statement, place: _Place) -> bool:
    _, index, count, siblings = place
    try:
        root = proven_root(struct_hash_of(*statement), Proof(index=index, count=count, siblings=tuple(siblings)))
    except MalformedProof:
        return False
    return bound(root, count) == batch.pairs_hash


def _key(agreement: int) -> bytes:
    return agreement.to_bytes(AGREEMENT_BYTES, "big")


def _agreement(statement: _Statement) -> int:
    return statement[0] >> 192


def _parties(statement: _Statement) -> tuple[int, int]:
    """Return the numbers of CPO and MSP."""
    agreement = _agreement(statement)
    return agreement >> 40, agreement & 0xFFFFFF


def _net(figures: int) -> int:
    amount = (1 << 56) - 1
    return (figures >> 136 & amount) - (figures >> 80 & amount)


def _sequence(figures: int) -> int:
    return figures >> 32 & 0xFFFFFF
