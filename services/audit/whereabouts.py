"""Where each CDR stands on its way to finality: settled, waiting for something that has a name, never, or elsewhere.

What is in none of these is lost, and a difference (`unsettled.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from emobility.domain.agreement import SettlementMode
from emobility.events.cdr import CDRAccepted
from emobility.ports.event_log import ParkedEvent
from services.audit.books import SETTLEMENT_GROUP, Books
from services.audit.settlement_rows import CDRName, SettlementRows, statement_of
from services.driver_mobility.records import CDRRecord, CDRState
from services.settlement.records import LeafRecord, StatementRecord, StatementState
from services.settlement.restating_records import ELSEWHERE

UNDECIDED: Final = {
    CDRState.RECEIVED: "the MSP has not looked at it yet",
    CDRState.WAITING: "the MSP waits for what it overtook",
    CDRState.DISPUTED: "the MSP disputes it",
}
TAKEN_OUT: Final = "a verdict took it out of its statement: it waits for a credit, or its CPO's word"
TAKEN_OUT_AND_CREDITED: Final = "a verdict took it out of its statement, and it is credited: of the two nothing is owed"
WITHDRAWN: Final = "credited before it was accepted: of the two nothing is owed"


class Standing(StrEnum):
    """How far a CDR is."""

    SETTLED = "SETTLED"
    WAITING = "WAITING"
    NEVER = "NEVER"
    OFF_CHAIN = "OFF_CHAIN"
    """Its parties settle elsewhere, by their agreement."""
    LOST = "LOST"


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """How far a CDR is and, unless it is settled, why."""

    standing: Standing
    reason: str = ""


def accepted_cdrs(books: Books) -> dict[CDRName, CDRRecord]:
    """Return what MSPs accepted and so owe, or took back after they had; a credit before that took nothing back."""
    billed = {(bill.party_id, bill.cpo_id, bill.cdr_id) for bill in books.bills}

    def was_accepted(row: CDRRecord) -> bool:
        if row.state is CDRState.ACCEPTED and not row.cdr.is_credit:
            return True
        if row.state not in {CDRState.ACCEPTED, CDRState.CREDITED}:
            return False
        # Whether a credited CDR was accepted before tells its bill: every accepted one has one, and keeps it.
        original = (row.cdr.credit_reference_id or "") if row.cdr.is_credit else row.cdr_id
        return (row.party_id, row.cpo_id, original) in billed

    return {(row.cpo_id.code, row.cdr_id): row for row in books.emsp_cdrs if was_accepted(row)}


def whereabouts(books: Books) -> dict[CDRName, Whereabouts]:
    """Return where each CDR stands that a CPO issued, an MSP received or the settlement took in."""
    found: dict[CDRName, Whereabouts] = {}
    booked = {row.party_id for row in books.emsp_cdrs}
    for issued in books.cpo_cdrs:
        reason = "it is on its way to its MSP" if issued.emsp_id in booked else "its MSP's books are kept elsewhere"
        found[issued.party_id.code, issued.cdr_id] = _waits(reason)
    for received in books.emsp_cdrs:
        undecided = UNDECIDED.get(received.state)
        withdrawn = Whereabouts(standing=Standing.NEVER, reason=WITHDRAWN)
        found[received.cpo_id.code, received.cdr_id] = withdrawn if undecided is None else _waits(undecided)
    events, statements = _Events.of(books), _Statements(books.settlement)
    for name in accepted_cdrs(books):
        found[name] = events.of_accepted(name)
    for leaf in books.settlement.leaves:
        found[leaf.cpo_id.code, leaf.cdr_id] = statements.of_leaf(leaf)
    return found


def _waits(reason: str) -> Whereabouts:
    return Whereabouts(standing=Standing.WAITING, reason=reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Events:
    """What became of the events that tell the settlement of accepted CDRs."""

    has_settlement: bool
    lag: int
    parked: frozenset[CDRName]
    discarded: frozenset[CDRName]

    @classmethod
    def of(cls, books: Books) -> _Events:
        return cls(
            has_settlement=SETTLEMENT_GROUP in books.lag or bool(books.settlement.parties),
            lag=books.lag.get(SETTLEMENT_GROUP, 0),
            parked=accepted_in(books.parked),
            discarded=accepted_in(each.parked for each in books.discarded),
        )

    def of_accepted(self, name: CDRName) -> Whereabouts:
        """Say why an accepted CDR has no leaf; `LOST` where nothing explains it."""
        if name in self.discarded:
            return Whereabouts(standing=Standing.NEVER, reason="its event was discarded")
        if name in self.parked:
            return _waits("its event is in the dead letters of the settlement")
        if not self.has_settlement:
            return _waits("no settlement is at work here")
        if self.lag:
            return _waits("the settlement has not read it yet")
        return Whereabouts(standing=Standing.LOST, reason="the settlement passed its event and has no leaf of it")


def accepted_in(letters: Iterable[ParkedEvent]) -> frozenset[CDRName]:
    """Return which CDRs' acceptance lies in dead letters of the settlement."""
    events = [each.logged.envelope.event for each in letters if each.group == SETTLEMENT_GROUP]
    return frozenset((each.cpo_id.code, each.cdr.cdr_id) for each in events if isinstance(each, CDRAccepted))


class _Statements:
    """The settlement's rows, found by what a leaf names."""

    def __init__(self, rows: SettlementRows) -> None:
        self._statements = rows.statements_by_key()
        self._held_cdrs = {(each.cpo_id, each.cdr_id): each for each in rows.held}
        self._credited = {
            (leaf.cpo_id, leaf.credit_reference_id) for leaf in rows.leaves if leaf.is_credit and leaf.sequence is None
        }
        self._leaves = {(leaf.cpo_id, leaf.cdr_id) for leaf in rows.leaves}
        self._signed = {(each.cpo_id, each.agreement_id) for each in rows.agreements if each.terms is not None}
        by_version = sorted(rows.openings, key=lambda each: each.version)
        self._openings = {(each.cpo_id, each.agreement_id, each.currency): each for each in by_version}
        self._held = {each.batch_id: each.waiting for each in rows.transactions if each.waiting is not None}

    def of_leaf(self, leaf: LeafRecord) -> Whereabouts:
        """Return how far a leaf is."""
        key = statement_of(leaf)
        if key is None and self._is_off_chain(leaf):
            return Whereabouts(standing=Standing.OFF_CHAIN, reason="its parties settle elsewhere, by their agreement")
        if key is None:
            return self._taken_out(leaf) or _waits(self._unbatched(leaf))
        statement = self._statements.get(key)
        if statement is None:
            return Whereabouts(standing=Standing.LOST, reason="the statement that it stands in is gone")
        if statement.state is StatementState.FINAL:
            return Whereabouts(standing=Standing.SETTLED)
        return _waits(statement.waiting or self._on_its_way(statement))

    def _taken_out(self, leaf: LeafRecord) -> Whereabouts | None:
        """Say what became of a CDR that a verdict took out, or of its credit; None: none did."""
        held = self._held_cdrs.get((leaf.cpo_id, leaf.cdr_id))
        if held is not None and held.kind in ELSEWHERE:
            return Whereabouts(standing=Standing.NEVER, reason=f"a verdict took it out as {held.kind.value}")
        charge = (leaf.cpo_id, leaf.credit_reference_id if leaf.is_credit else leaf.cdr_id)
        if charge in self._held_cdrs and charge in self._credited:
            return Whereabouts(standing=Standing.NEVER, reason=TAKEN_OUT_AND_CREDITED)
        return None if held is None else _waits(TAKEN_OUT)

    def _is_off_chain(self, leaf: LeafRecord) -> bool:
        opening = self._openings.get((leaf.cpo_id, leaf.agreement_id, leaf.currency))
        return opening is not None and opening.mode is SettlementMode.OFF_CHAIN

    def _unbatched(self, leaf: LeafRecord) -> str:
        if (leaf.cpo_id, leaf.agreement_id) not in self._signed:
            return "no terms that both signed are known to the settlement"
        opening = self._openings.get((leaf.cpo_id, leaf.agreement_id, leaf.currency))
        if opening is None:
            return f"no terms in {leaf.currency} are known to the settlement"
        if opening.book_agreement is None:
            return opening.waiting or "its agreement is being opened"
        if leaf.is_credit and (leaf.cpo_id, leaf.credit_reference_id) not in self._leaves:
            return "what it credits is not accepted"
        return "its period runs"

    def _on_its_way(self, statement: StatementRecord) -> str:
        if statement.batch_id is None:
            return "it is closed and goes into the next batch"
        return self._held.get(statement.batch_id) or "its batch is on its way into the chain"
