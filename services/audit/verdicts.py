"""What became of each claim: the CPO's live CDR of a session is accepted, disputed or undecided at the MSP, whole.

The MSP's verdicts must split what the CPO claims without rest: claimed = accepted + disputed + undecided, session by
session, with credits taken off on both sides.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Final

from services.audit.books import Books
from services.audit.carried import waiting_for
from services.audit.report import Check, Difference
from services.driver_mobility.records import CDRState

_NEXT: Final = {
    CDRState.ACCEPTED: "accepted_e4",
    CDRState.DISPUTED: "disputed_e4",
    CDRState.RECEIVED: "undecided_e4",
    CDRState.WAITING: "undecided_e4",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """Claims of one session by what the MSP said, net of tax, in ten-thousandths."""

    accepted_e4: int = 0
    disputed_e4: int = 0
    undecided_e4: int = 0

    @property
    def total_e4(self) -> int:
        """All that the MSP holds as claimed."""
        return self.accepted_e4 + self.disputed_e4 + self.undecided_e4


def check_verdicts(books: Books) -> Check:
    """Compare, session by session, what the CPO claims with what the MSP says about it."""
    rule = "claimed = accepted + disputed + undecided"
    claimed: dict[tuple[str, str, str, str], int] = defaultdict(int)
    ids: dict[tuple[str, str, str, str], str] = {}
    for row in books.cpo_cdrs:
        key = (row.party_id.code, row.emsp_id.code, row.session_id, row.cdr.currency)
        claimed[key] += row.cdr.total_cost.excl_e4
        ids[key] = row.cdr_id
    verdicts = _verdicts(books)
    differences = tuple(
        Difference(
            rule=rule,
            scope="/".join(key[:3]),
            expected=claimed.get(key, 0),
            found=verdicts.get(key, Verdicts()).total_e4,
            unit=f"e4 {key[3]}",
            cause=f"the MSP holds {verdicts.get(key, Verdicts())}{waiting_for(books, (*key[:2], ids.get(key, '')))}",
        )
        for key in sorted(claimed.keys() | verdicts.keys())
        if claimed.get(key, 0) != verdicts.get(key, Verdicts()).total_e4
    )
    return Check(rule=rule, compared=len(claimed), differences=differences)


def _verdicts(books: Books) -> dict[tuple[str, str, str, str], Verdicts]:
    found: dict[tuple[str, str, str, str], Verdicts] = defaultdict(Verdicts)
    for row in books.emsp_cdrs:
        # A credit that was matched has ended its original: the two are nothing together.
        if row.state is CDRState.CREDITED or (row.cdr.is_credit and row.state is CDRState.ACCEPTED):
            continue
        key = (row.cpo_id.code, row.party_id.code, row.session_id, row.cdr.currency)
        name = _NEXT[row.state]
        before = found[key]
        found[key] = replace(before, **{name: getattr(before, name) + row.cdr.total_cost.excl_e4})
    return found


def check_disputes(books: Books) -> Check:
    """Each dispute of the MSP is known to the CPO or on its way; each credit the MSP took ended one CDR."""
    rule = "a dispute is known on both sides"
    at_cpo = {(row.party_id.code, row.emsp_id.code, row.cdr_id) for row in books.cpo_disputes}
    at_emsp = {(row.cpo_id.code, row.party_id.code, row.cdr_id) for row in books.emsp_disputes}
    on_its_way = {
        (each.to_party.code, each.own_party.code, each.object_key.removeprefix("dispute/"))
        for each in books.deliveries
        if each.object_key.startswith("dispute/")
    }
    disputed = {
        (row.cpo_id.code, row.party_id.code, row.cdr_id) for row in books.emsp_cdrs if row.state is CDRState.DISPUTED
    }
    missing = (
        (at_emsp - at_cpo - on_its_way, (1, 0), "the CPO was not told and nothing is on its way"),
        (at_cpo - at_emsp, (0, 1), "the CPO was told of a dispute that the MSP does not have"),
        (disputed - at_emsp, (1, 0), "a disputed CDR has no dispute with its reasons"),
    )
    differences = tuple(
        Difference(rule=rule, scope="/".join(key), expected=asked, found=found, unit="disputes", cause=cause)
        for keys, (asked, found), cause in missing
        for key in sorted(keys)
    )
    return Check(rule=rule, compared=len(at_emsp | at_cpo), differences=differences)
