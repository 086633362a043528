"""The settlement as docs/settlement.md and decision 23 have it, in plain Python: no ABI, no hashes, no storage words.

To be read beside them, from top to bottom: words that are signed, registry, vault, book. A state machine plays the same
operations here and on the compiled contracts and compares (`test_settlement_state_machine.py`).

- A party is its number. Whoever calls or signs is an account, by name. A signature is who signed which words for which
  book, so it fits nothing else.
- Amounts are ten-thousandths of the currency unit (e4), times unix seconds.
- What is refused raises `Refused` with the name of the contract's error; rules stand in the order in which the contract
  asks. What happened is told by the name of the contract's event.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final, NamedTuple

HOUR_S: Final = 3_600
DAY_S: Final = 24 * HOUR_S
WITHDRAWAL_WINDOW_S: Final = 7 * DAY_S
NOTICE_PERIOD_S: Final = 30 * DAY_S
PAYMENT_TERM_MAX_S: Final = 365 * DAY_S
AMOUNT_MAX_E4: Final = 2**62
"""Highest limit, and highest sum of corrections."""
OWED_RANGE_E4: Final = 2**63 - 1
"""How far what is owed can be below the limit."""
STATEMENTS_MAX: Final = 256
ADMIN: Final = "admin"
PROPOSER: Final = "proposer"
PAUSER: Final = "pauser"
RESOLVER: Final = "resolver"


class Refused(Exception):
    """A rule forbids it; named as the contract's error is, with what is known of it."""

    def __init__(self, rule: str, **facts: Any) -> None:
        self.rule = rule
        self.facts = facts
        super().__init__(rule, facts)


@dataclass(frozen=True)
class Told:
    """Something happened; named as the contract's event is."""

    event: str
    facts: dict[str, Any]


@dataclass
class Chain:
    """The time, and what was told since somebody last looked."""

    now: int
    told: list[Told] = field(default_factory=list)

    def tell(self, event: str, **facts: Any) -> None:
        self.told.append(Told(event, facts))


# WORDS


class Mode(IntEnum):
    """How obligations are met."""

    PREFUNDED = 0
    """Out of the payer's free collateral, as a statement becomes final."""
    CREDIT_LINE = 1
    """Added to what the MSP owes, up to a limit, and paid by bank."""
    GUARANTEE = 2
    """Likewise, and the limit is reserved of the MSP's collateral, where the CPO takes what is not paid in time."""


class Key(NamedTuple):
    """Names an agreement in its book. Statements of a batch ascend by it."""

    cpo: int
    kind: int
    number: int
    msp: int


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What both parties sign to open an agreement."""

    cpo: int
    msp: int
    number: int
    mode: Mode
    limit_e4: int
    payment_term_s: int
    deadline: int
    currency: str = "EUR"
    kind: int = 0

    @property
    def key(self) -> Key:
        return Key(self.cpo, self.kind, self.number, self.msp)


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What a pair states of a period. `cdrs` stands for the roots over its CDRs: with other CDRs it is another."""

    agreement: Key
    sequence: int
    due_e4: int
    credit_e4: int
    count: int
    cdrs: int

    @property
    def net_e4(self) -> int:
        """What the MSP owes the CPO on balance."""
        return self.due_e4 - self.credit_e4


@dataclass(frozen=True)
class AcceptanceWords:
    """What a party signs to accept statements of a batch: those at these places."""

    batch_id: int
    statements: tuple[Statement, ...]
    party: int
    places: frozenset[int]


@dataclass(frozen=True)
class DischargeWords:
    """What both sign when something was paid by bank: by the MSP, below zero by the CPO."""

    agreement: Key
    number: int
    amount_e4: int


@dataclass(frozen=True)
class EndingWords:
    """What both sign to end an agreement at once."""

    agreement: Key


@dataclass(frozen=True)
class Signature:
    """Who signed what, for which book."""

    by: str
    book: str
    words: Terms | AcceptanceWords | DischargeWords | EndingWords


@dataclass(frozen=True)
class Acceptance:
    """A party's word on places of a batch, as it is handed in."""

    party: int
    places: frozenset[int]
    signature: Signature


# REGISTRY


@dataclass
class Registry:
    """Who signs for a party, where its collateral is paid out, and which book follows which."""

    chain: Chain
    signers: dict[int, str]
    payouts: dict[int, str]
    successors: dict[str, str] = field(default_factory=dict)

    def signer_of(self, party: int) -> str:
        if party not in self.signers:
            raise Refused("PartyRegistryUnknownParty", number=party)
        return self.signers[party]

    def announce_successor(self, by: str, book: str, successor: str) -> None:
        require_role(by, ADMIN)
        if book in self.successors:
            raise Refused("PartyRegistryKnownSuccessor")
        self.successors[book] = successor
        self.chain.tell("BookSucceeded", book=book, successor=successor)


def require_role(by: str, role: str) -> None:
    if by != role:
        raise Refused("AccessControlUnauthorizedAccount", account=by)


# VAULT


@dataclass
class Withdrawal:
    """Announced: from when on it can be carried out."""

    amount: int
    available_at: int


@dataclass
class Collateral:
    """A party's. What is free pays statements and can be withdrawn; what a book reserved, that book alone can use."""

    free: int = 0
    reserved: dict[str, int] = field(default_factory=dict)
    withdrawal: Withdrawal | None = None

    @property
    def balance(self) -> int:
        return self.free + sum(self.reserved.values())


class Vault:
    """All collateral of one currency. Nothing here can be paused."""

    def __init__(self, chain: Chain, registry: Registry, *, delay_s: int) -> None:
        self.chain = chain
        self.registry = registry
        self.delay_s = delay_s
        self.collateral = {party: Collateral() for party in registry.signers}
        self.paid_out = dict.fromkeys(registry.payouts.values(), 0)

    def deposit(self, party: int, amount: int) -> None:
        self.registry.signer_of(party)
        if amount == 0:
            raise Refused("CollateralVaultZeroAmount")
        self.collateral[party].free += amount
        self.chain.tell("Deposited", party=party, amount=amount)

    def request_withdrawal(self, by: str, party: int, amount: int) -> None:
        """Announce; it replaces an earlier one, and covers until it is carried out."""
        self._require_party(by, party)
        if amount == 0:
            raise Refused("CollateralVaultZeroAmount")
        self._require_free(party, amount)
        available_at = self.chain.now + self.delay_s
        self.collateral[party].withdrawal = Withdrawal(amount, available_at)
        self.chain.tell("WithdrawalRequested", party=party, amount=amount, available_at=available_at)

    def withdraw(self, by: str, party: int) -> None:
        """Pay what was announced, or what of it is still free, to the party's payout account."""
        self._require_party(by, party)
        own = self.collateral[party]
        if own.withdrawal is None or not self._can_be_carried_out(own.withdrawal):
            raise Refused("CollateralVaultNotWithdrawable", party=party)
        amount = min(own.withdrawal.amount, own.free)
        own.withdrawal = None
        own.free -= amount
        self.paid_out[self.registry.payouts[party]] += amount
        self.chain.tell("Withdrawn", party=party, to=self.registry.payouts[party], amount=amount)

    # What books do

    def pay(self, payer: int, payee: int, amount: int) -> bool:
        """Move free collateral, if there is enough."""
        if amount > self.collateral[payer].free:
            return False
        self.collateral[payer].free -= amount
        self.collateral[payee].free += amount
        return True

    def reserve(self, book: str, party: int, amount: int) -> None:
        self._require_free(party, amount)
        own = self.collateral[party]
        own.free -= amount
        own.reserved[book] = own.reserved.get(book, 0) + amount
        self.chain.tell("CollateralReserved", party=party, book=book, amount=amount)

    def release(self, book: str, party: int, amount: int) -> None:
        self._take_reserved(book, party, amount)
        self.collateral[party].free += amount
        self.chain.tell("CollateralReleased", party=party, book=book, amount=amount)

    def take_reserved(self, book: str, party: int, receiver: int, amount: int) -> None:
        """Pay the receiver out of what the book reserved of the party's."""
        self._take_reserved(book, party, amount)
        self.collateral[receiver].free += amount
        self.chain.tell("ReservedCollateralTaken", to=receiver, book=book, amount=amount)

    def _can_be_carried_out(self, withdrawal: Withdrawal) -> bool:
        return withdrawal.available_at <= self.chain.now <= withdrawal.available_at + WITHDRAWAL_WINDOW_S

    def _take_reserved(self, book: str, party: int, amount: int) -> None:
        reserved = self.collateral[party].reserved.get(book, 0)
        if amount > reserved:
            raise AssertionError(f"{book} takes {amount} of party {party}, which has {reserved} reserved there")
        self.collateral[party].reserved[book] = reserved - amount

    def _require_party(self, by: str, party: int) -> None:
        if by not in {self.registry.signer_of(party), self.registry.payouts[party]}:
            raise Refused("CollateralVaultNotParty", party=party, caller=by)

    def _require_free(self, party: int, amount: int) -> None:
        free = self.collateral[party].free
        if amount > free:
            raise Refused("CollateralVaultShort", party=party, asked=amount, free=free)


# BOOK


@dataclass
class Charge:
    """Under a guarantee: what the MSP was charged with a statement, and since when it is due."""

    amount_e4: int
    since: int


@dataclass
class Agreement:
    """Where it stands."""

    terms: Terms
    limit_e4: int
    """Most that the MSP may owe; under a guarantee what is reserved."""
    owed_e4: int = 0
    """By the MSP on balance, below zero by the CPO; nothing where it is prefunded."""
    last_sequence: int = 0
    """Of the last final statement."""
    discharges: int = 0
    corrected_e4: int = 0
    """Verdicts that wait for the next statement, or to be met alone."""
    ends_at: int = 0
    """From when on it can be ended, 0: nobody gave notice."""
    has_ended: bool = False
    charges: dict[int, Charge] = field(default_factory=dict)
    """By sequence; at 0 what a verdict charged before the first statement."""

    @property
    def is_guaranteed(self) -> bool:
        return self.terms.mode is Mode.GUARANTEE


class Stage(IntEnum):
    """Of a statement in a batch, as the contract counts; a void one counts as none."""

    VOID = 0
    PROPOSED = 1
    FINAL = 2


@dataclass
class Pair:
    """A statement at its place in a batch."""

    statement: Statement
    stage: Stage = Stage.PROPOSED
    by_cpo: bool = False
    by_msp: bool = False
    ripens: bool = False
    """One side accepted as it was proposed; the other's silence counts as a yes when the window ends."""
    challenger: int | None = None
    """The party that contests it, with a bond at stake."""

    @property
    def is_open(self) -> bool:
        return self.stage is Stage.PROPOSED

    @property
    def is_accepted(self) -> bool:
        return self.by_cpo and self.by_msp

    @property
    def silent_side(self) -> int:
        """Where one side accepted: the other."""
        key = self.statement.agreement
        return key.msp if self.by_cpo else key.cpo


@dataclass
class Batch:
    """Statements that were proposed together."""

    pairs: list[Pair]
    due_at: int = 0
    """When the window ends, 0: nobody's silence counts."""

    @property
    def statements(self) -> tuple[Statement, ...]:
        return tuple(pair.statement for pair in self.pairs)


class Book:
    """The settlement of one currency."""

    def __init__(
        self, name: str, chain: Chain, registry: Registry, vault: Vault, *, window_s: int, bond_e4: int
    ) -> None:
        self.name = name
        self.chain = chain
        self.registry = registry
        self.vault = vault
        self.window_s = window_s
        self.bond_e4 = bond_e4
        self.agreements: dict[Key, Agreement] = {}
        self.batches: dict[int, Batch] = {}
        self.is_paused = False
        self.is_closed = False

    # Agreements

    def open_agreement(self, terms: Terms, by_cpo: Signature, by_msp: Signature) -> None:
        """Open one, once. A guarantee reserves its limit."""
        self._require_open()
        self._require_suitable(terms)
        if self.chain.now > terms.deadline:
            raise Refused("SettlementBookExpired", deadline=terms.deadline)
        if terms.key in self.agreements:
            raise Refused("SettlementBookKnownAgreement", agreement=terms.key)
        self._require_both(terms.key, terms, by_cpo, by_msp)
        self.chain.tell("AgreementOpened", agreement=terms.key, mode=terms.mode, credit_limit_e4=terms.limit_e4)
        if terms.mode is Mode.GUARANTEE:
            self.vault.reserve(self.name, terms.msp, terms.limit_e4)
        self.agreements[terms.key] = Agreement(terms, terms.limit_e4)

    def discharge(self, key: Key, amount_e4: int, by_cpo: Signature, by_msp: Signature) -> None:
        """Lower what is owed, as both say that it was paid; never beyond zero."""
        agreement = self._agreement(key)
        owed_e4 = agreement.owed_e4
        if not (0 < amount_e4 <= owed_e4 or owed_e4 <= amount_e4 < 0):
            raise Refused("SettlementBookDischargeExceedsOwed", amount_e4=amount_e4, owed_e4=owed_e4)
        number = self._discharge_number(agreement)
        self._require_both(key, DischargeWords(key, number, amount_e4), by_cpo, by_msp)
        agreement.discharges += 1
        agreement.owed_e4 -= amount_e4
        self.chain.tell(
            "ObligationDischarged", agreement=key, number=number, amount_e4=amount_e4, owed_e4=agreement.owed_e4
        )
        self._release_what_is_not_owed(agreement)

    def call_guarantee(self, by: str, key: Key, sequence: int, amount_e4: int) -> None:
        """The CPO takes what is overdue up to a statement. Payments and credits count for the oldest first."""
        agreement = self._agreement(key)
        self._require_sender(by, key.cpo)
        overdue_e4 = self._overdue_e4(agreement, sequence)
        if amount_e4 == 0 or amount_e4 > overdue_e4 or amount_e4 > agreement.limit_e4:
            raise Refused("SettlementBookCallExceedsOverdue", amount_e4=amount_e4, overdue_e4=overdue_e4)
        agreement.limit_e4 -= amount_e4
        agreement.owed_e4 -= amount_e4
        self.chain.tell("GuaranteeCalled", agreement=key, amount_e4=amount_e4, owed_e4=agreement.owed_e4)
        self.vault.take_reserved(self.name, key.msp, key.cpo, amount_e4)

    def give_notice(self, by: str, key: Key) -> None:
        """Either side may, once: the agreement can be ended after the notice period and the payment term."""
        agreement = self._agreement(key)
        if agreement.has_ended:
            raise Refused("SettlementBookEnded", agreement=key)
        party = key.cpo if by == self.registry.signer_of(key.cpo) else key.msp
        self._require_sender(by, party)
        if agreement.ends_at == 0:
            agreement.ends_at = self.chain.now + NOTICE_PERIOD_S + agreement.terms.payment_term_s
            self.chain.tell("NoticeGiven", agreement=key, party=party, ends_at=agreement.ends_at)

    def end_after_notice(self, key: Key) -> None:
        ends_at = self.agreements[key].ends_at if key in self.agreements else 0
        if ends_at == 0 or self.chain.now < ends_at:
            raise Refused("SettlementBookNotEnding", agreement=key, ends_at=ends_at)
        self._end(key)

    def end_agreement(self, key: Key, by_cpo: Signature, by_msp: Signature) -> None:
        """At once, as both say."""
        self._require_both(key, EndingWords(key), by_cpo, by_msp)
        self._end(key)

    def correct(self, by: str, key: Key, amount_e4: int) -> None:
        """A verdict changes what is owed, beside all statements."""
        require_role(by, RESOLVER)
        agreement = self._agreement(key)
        if abs(agreement.corrected_e4 + amount_e4) > AMOUNT_MAX_E4:
            raise Refused("DisputableTooMuch", agreement=key)
        agreement.corrected_e4 += amount_e4
        self.chain.tell("AgreementCorrected", agreement=key, amount_e4=amount_e4)
        self._release_what_is_not_owed(agreement)

    def fund_correction(self, key: Key) -> None:
        """Meet verdicts without waiting for the next statement."""
        agreement = self._agreement(key)
        if agreement.corrected_e4 == 0:
            raise Refused("SettlementBookNotCorrected", agreement=key)
        if not self._meet(agreement, agreement.corrected_e4, agreement.last_sequence):
            raise Refused("SettlementBookNotCovered", agreement=key)
        self._correction_is_met(agreement)
        self._release_what_is_not_owed(agreement)

    # Batches

    def propose(
        self, by: str, batch_id: int, statements: Sequence[Statement], acceptances: Sequence[Acceptance]
    ) -> None:
        require_role(by, PROPOSER)
        if self.is_paused:
            raise Refused("EnforcedPause")
        self._require_open()
        if batch_id in self.batches:
            raise Refused("SettlementBookBatchExists", batch_id=batch_id)
        if not 1 <= len(statements) <= STATEMENTS_MAX:
            raise Refused("SettlementBookUnsuitableCount", count=len(statements))
        previous = None
        for place, statement in enumerate(statements):
            if previous is not None and statement.agreement <= previous:
                raise Refused("SettlementBookNotAscending", index=place)
            previous = statement.agreement
            self._require_fresh(place, statement)
        batch = Batch([Pair(statement) for statement in statements])
        self._hear(batch_id, batch, acceptances)
        self.batches[batch_id] = batch
        self.chain.tell("BatchProposed", batch_id=batch_id, count=len(statements))
        self._settle(batch_id, batch)
        for pair in batch.pairs:
            pair.ripens = pair.is_open and pair.by_cpo != pair.by_msp
        if any(pair.ripens for pair in batch.pairs):
            batch.due_at = self.chain.now + self.window_s

    def accept(self, batch_id: int, statements: Sequence[Statement], acceptances: Sequence[Acceptance]) -> None:
        """Add acceptances and make final what can be. Paused or closed, a book goes on with what was proposed."""
        batch = self._batch(batch_id, statements)
        if not any(pair.is_open for pair in batch.pairs):
            return
        self._hear(batch_id, batch, acceptances)
        self._end_challenges(batch_id, batch)
        for pair in batch.pairs:
            if pair.is_open and pair.ripens and self._is_over(batch):
                pair.by_cpo = pair.by_msp = True
        self._settle(batch_id, batch)
        for pair in batch.pairs:
            pair.ripens = pair.ripens and pair.is_open and not pair.is_accepted

    def fund(self, batch_id: int, statements: Sequence[Statement]) -> None:
        """Try again."""
        self.accept(batch_id, statements, [])

    def challenge(self, by: str, batch_id: int, statements: Sequence[Statement], place: int) -> None:
        """The silent side contests a pair before the window ends, with a bond. That pair alone waits for a verdict."""
        batch = self._batch(batch_id, statements)
        pair = batch.pairs[place]
        if not pair.ripens or self._is_over(batch):
            raise Refused("SettlementBookNotRipening", batch_id=batch_id, index=place)
        party = pair.silent_side
        self._require_sender(by, party)
        self.chain.tell("PairChallenged", batch_id=batch_id, party=party, index=place)
        self.vault.reserve(self.name, party, self.bond_e4)
        pair.ripens = False
        pair.challenger = party

    def decide_challenge(
        self, by: str, batch_id: int, statements: Sequence[Statement], place: int, *, is_upheld: bool
    ) -> None:
        """Upheld: the statement is void, the bond free. Else it counts as accepted, the bond is the other side's."""
        require_role(by, RESOLVER)
        pair = self._batch(batch_id, statements).pairs[place]
        challenger = pair.challenger
        if challenger is None:
            raise Refused("SettlementBookNotChallenged", batch_id=batch_id, index=place)
        pair.challenger = None
        self.chain.tell("ChallengeEnded", batch_id=batch_id, index=place, is_void=is_upheld)
        key = pair.statement.agreement
        if is_upheld:
            pair.stage = Stage.VOID
            self.vault.release(self.name, challenger, self.bond_e4)
        else:
            pair.by_cpo = pair.by_msp = True
            other = key.msp if challenger == key.cpo else key.cpo
            self.vault.take_reserved(self.name, challenger, other, self.bond_e4)

    def pause(self, by: str) -> None:
        """Stop proposals and nothing else."""
        require_role(by, PAUSER)
        if self.is_paused:
            raise Refused("EnforcedPause")
        self.is_paused = True
        self.chain.tell("Paused", account=by)

    def unpause(self, by: str) -> None:
        require_role(by, PAUSER)
        if not self.is_paused:
            raise Refused("ExpectedPause")
        self.is_paused = False
        self.chain.tell("Unpaused", account=by)

    def close(self, by: str) -> None:
        """Stop proposals and agreements for good: the book drains."""
        require_role(by, ADMIN)
        self._require_open()
        self.is_closed = True
        self.chain.tell("BookClosed")

    # How a batch advances

    def _hear(self, batch_id: int, batch: Batch, acceptances: Sequence[Acceptance]) -> None:
        """Take a party's word on its own pairs, whatever else it names."""
        for each in acceptances:
            self.registry.signer_of(each.party)
        for each in acceptances:
            words = AcceptanceWords(batch_id, batch.statements, each.party, each.places)
            self._require_signature(each.party, words, each.signature)
        for each in acceptances:
            for place in each.places:
                if place < len(batch.pairs) and batch.pairs[place].is_open:
                    self._heard(batch.pairs[place], each.party)

    def _heard(self, pair: Pair, party: int) -> None:
        pair.by_cpo = pair.by_cpo or party == pair.statement.agreement.cpo
        pair.by_msp = pair.by_msp or party == pair.statement.agreement.msp

    def _is_over(self, batch: Batch) -> bool:
        """Whether who was silent can't challenge any more."""
        return self.chain.now >= batch.due_at

    def _end_challenges(self, batch_id: int, batch: Batch) -> None:
        """End those that were taken back by an acceptance, or that another statement of the agreement overtook."""
        for place, pair in enumerate(batch.pairs):
            is_overtaken = pair.statement.sequence <= self.agreements[pair.statement.agreement].last_sequence
            if pair.challenger is None or not (is_overtaken or pair.is_accepted):
                continue
            if is_overtaken:
                pair.stage = Stage.VOID
            self.chain.tell("ChallengeEnded", batch_id=batch_id, index=place, is_void=is_overtaken)
            self.vault.release(self.name, pair.challenger, self.bond_e4)
            pair.challenger = None

    def _settle(self, batch_id: int, batch: Batch) -> None:
        """Make final what both sides accepted, if its turn has come and it is covered. What is not waits alone."""
        final, unfunded = set(), set()
        for place, pair in enumerate(batch.pairs):
            agreement = self.agreements[pair.statement.agreement]
            if not (pair.is_open and pair.is_accepted and self._has_its_turn(agreement, pair.statement)):
                continue
            if not self._meet(agreement, pair.statement.net_e4 + agreement.corrected_e4, pair.statement.sequence):
                unfunded.add(place)
                continue
            final.add(place)
            pair.stage = Stage.FINAL
            agreement.last_sequence = pair.statement.sequence
            if agreement.corrected_e4 != 0:
                self._correction_is_met(agreement)
        if final:
            self.chain.tell("PairsFinal", batch_id=batch_id, pairs=frozenset(final))
        if unfunded:
            self.chain.tell("PairsUnfunded", batch_id=batch_id, pairs=frozenset(unfunded))

    def _has_its_turn(self, agreement: Agreement, statement: Statement) -> bool:
        """Sequences have no gaps, so each is final once."""
        return statement.sequence == agreement.last_sequence + 1 and not agreement.has_ended

    def _meet(self, agreement: Agreement, net_e4: int, sequence: int) -> bool:
        """Pay or record what the MSP owes (below zero: the CPO) with a statement, if that is covered."""
        key = agreement.terms.key
        if agreement.terms.mode is Mode.PREFUNDED:
            payer, payee = (key.msp, key.cpo) if net_e4 > 0 else (key.cpo, key.msp)
            return self.vault.pay(payer, payee, abs(net_e4))
        if not self._is_within_limit(agreement, agreement.owed_e4 + net_e4):
            return False
        agreement.owed_e4 += net_e4
        if agreement.is_guaranteed:
            # A correction that is met alone is due with the statement before it.
            charge = agreement.charges.setdefault(sequence, Charge(0, self.chain.now))
            charge.amount_e4 += max(net_e4, 0)
        return True

    def _is_within_limit(self, agreement: Agreement, owed_e4: int) -> bool:
        return agreement.limit_e4 - OWED_RANGE_E4 <= owed_e4 <= agreement.limit_e4

    def _correction_is_met(self, agreement: Agreement) -> None:
        self.chain.tell("CorrectionMet", agreement=agreement.terms.key, amount_e4=agreement.corrected_e4)
        agreement.corrected_e4 = 0

    # How guarantees are called, and agreements end

    def _overdue_e4(self, agreement: Agreement, sequence: int) -> int:
        """What is owed less what was charged later, once the statement's payment term is over."""
        charge = agreement.charges.get(sequence)
        if charge is None or self.chain.now < charge.since + agreement.terms.payment_term_s:
            return 0
        return agreement.owed_e4 - sum(each.amount_e4 for at, each in agreement.charges.items() if at > sequence)

    def _discharge_number(self, agreement: Agreement) -> int:
        """What both must have signed, so that no discharge counts twice."""
        return agreement.discharges

    def _end(self, key: Key) -> None:
        """None of its statements becomes final any more."""
        agreement = self._agreement(key)
        if agreement.has_ended:
            raise Refused("SettlementBookEnded", agreement=key)
        agreement.has_ended = True
        self.chain.tell("AgreementEnded", agreement=key)
        self._release_what_is_not_owed(agreement)

    def _release_what_is_not_owed(self, agreement: Agreement) -> None:
        """Once a guaranteed agreement ended, only what is owed, or will be by a verdict that waits, stays reserved."""
        kept_e4 = max(agreement.owed_e4 + max(agreement.corrected_e4, 0), 0)
        released_e4 = agreement.limit_e4 - kept_e4
        if agreement.is_guaranteed and agreement.has_ended and released_e4 > 0:
            agreement.limit_e4 -= released_e4
            self.vault.release(self.name, agreement.terms.msp, released_e4)

    # What is asked first

    def _require_open(self) -> None:
        if self.is_closed:
            raise Refused("SettlementBookIsClosed")

    def _require_suitable(self, terms: Terms) -> None:
        is_suitable = (
            terms.cpo != terms.msp
            and terms.currency == "EUR"
            and (terms.mode is Mode.PREFUNDED) == (terms.limit_e4 == 0)
            and terms.limit_e4 <= AMOUNT_MAX_E4
            and (terms.mode is Mode.GUARANTEE) == (terms.payment_term_s != 0)
            and terms.payment_term_s <= PAYMENT_TERM_MAX_S
        )
        if not is_suitable:
            raise Refused("SettlementBookUnsuitableTerms")

    def _require_fresh(self, place: int, statement: Statement) -> None:
        """A new statement must be able to become final."""
        if statement.count == 0:
            raise Refused("SettlementBookMalformedFigures", index=place)
        agreement = self._agreement(statement.agreement)
        if agreement.has_ended:
            raise Refused("SettlementBookEnded", agreement=statement.agreement)
        if statement.sequence <= agreement.last_sequence:
            raise Refused("SettlementBookStaleSequence", index=place, last_sequence=agreement.last_sequence)

    def _agreement(self, key: Key) -> Agreement:
        if key not in self.agreements:
            raise Refused("SettlementBookUnknownAgreement", agreement=key)
        return self.agreements[key]

    def _batch(self, batch_id: int, statements: Sequence[Statement]) -> Batch:
        if not statements:
            raise Refused("MerkleTreeEmpty")
        if batch_id not in self.batches or self.batches[batch_id].statements != tuple(statements):
            raise Refused("SettlementBookOtherStatements", batch_id=batch_id)
        return self.batches[batch_id]

    def _require_sender(self, by: str, party: int) -> None:
        if by != self.registry.signer_of(party):
            raise Refused("SettlementBookNotParty", party=party, caller=by)

    def _require_both(
        self, key: Key, words: Terms | DischargeWords | EndingWords, by_cpo: Signature, by_msp: Signature
    ) -> None:
        self._require_signature(key.cpo, words, by_cpo)
        self._require_signature(key.msp, words, by_msp)

    def _require_signature(
        self, party: int, words: Terms | AcceptanceWords | DischargeWords | EndingWords, signature: Signature
    ) -> None:
        if signature != Signature(self.registry.signer_of(party), self.name, words):
            raise Refused("SettlementBookWrongSigner", party=party)
