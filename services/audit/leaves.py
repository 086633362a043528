"""Leaves: each accepted CDR has one, with its numbers; a credit is its original's mirror and never precedes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from emobility.domain.batch.disputes import DisputeKind
from services.audit.books import Books
from services.audit.report import Check, Difference
from services.audit.settlement_rows import SettlementRows
from services.audit.whereabouts import Standing, accepted_cdrs, whereabouts
from services.driver_mobility.records import CDRRecord
from services.settlement.records import LeafRecord


def check_leaves(books: Books) -> Check:
    """Compare leaf by leaf with what the MSP accepted; one row per CPO and CDR id keeps a CDR from standing twice."""
    rule = "an accepted CDR is settled once"
    accepted, at = accepted_cdrs(books), whereabouts(books)
    leaves = {(leaf.cpo_id.code, leaf.cdr_id): leaf for leaf in books.settlement.leaves}
    booked = {row.party_id for row in books.emsp_cdrs}
    found: list[Difference] = []
    unknown = 0
    for name in sorted(accepted.keys() | leaves.keys()):
        row, leaf, scope = accepted.get(name), leaves.get(name), "/".join(name)
        if leaf is None:
            if at[name].standing is Standing.LOST:
                found.append(_leaves_differ(rule, scope, expected=1, cause=at[name].reason))
        elif row is None and leaf.emsp_id not in booked:
            unknown += 1  # its MSP's books are kept elsewhere
        elif row is None:
            found.append(_leaves_differ(rule, scope, expected=0, cause="its MSP did not accept this CDR"))
        else:
            found += _unlike(rule, scope, row, leaf)
    return Check(
        rule=rule, compared=len(accepted.keys() | leaves.keys()) - unknown, unknown=unknown, differences=tuple(found)
    )


def _leaves_differ(rule: str, scope: str, *, expected: int, cause: str) -> Difference:
    return Difference(rule=rule, scope=scope, expected=expected, found=1 - expected, unit="leaves", cause=cause)


def _unlike(rule: str, scope: str, row: CDRRecord, leaf: LeafRecord) -> Iterator[Difference]:
    """Yield what a leaf says otherwise than its CDR."""
    cdr, cost_e4 = row.cdr, row.cdr.total_cost.excl_e4
    for what, expected, found, unit in (
        ("what is due", max(0, cost_e4), leaf.due_e4, f"e4 {cdr.currency}"),
        ("what is credited", max(0, -cost_e4), leaf.credit_e4, f"e4 {cdr.currency}"),
        ("import", cdr.total_energy_import_wh, leaf.import_wh, "Wh"),
        ("export", cdr.total_energy_export_wh, leaf.export_wh, "Wh"),
    ):
        if expected != found:
            cause = f"{what} differs from the CDR that the MSP accepted"
            yield Difference(rule=rule, scope=scope, expected=expected, found=found, unit=unit, cause=cause)
    for what, accepted, booked in (
        ("MSP", row.party_id, leaf.emsp_id),
        ("agreement", row.agreement_id, leaf.agreement_id),
        ("session", cdr.session_id, leaf.session_id),
        ("currency", cdr.currency, leaf.currency),
        ("kind", cdr.is_credit, leaf.is_credit),
        ("original", cdr.credit_reference_id, leaf.credit_reference_id),
    ):
        if accepted != booked:
            cause = f"{what} {booked} of the leaf is not that of the CDR, {accepted}"
            yield _leaves_differ(rule, scope, expected=1, cause=cause)


def check_credits(books: Books) -> Check:
    """Hold each credit against its original: its exact mirror, its only one, and in no statement before it."""
    rule = "a credit takes back its original once"
    rows = books.settlement
    leaves = {(leaf.cpo_id, leaf.cdr_id): leaf for leaf in rows.leaves}
    credits_of = Counter((leaf.cpo_id, leaf.credit_reference_id) for leaf in rows.leaves if leaf.is_credit)
    closed = _Closed(rows)
    found = []
    credit_leaves = [leaf for leaf in rows.leaves if leaf.is_credit]
    for credit in credit_leaves:
        original = leaves.get((credit.cpo_id, credit.credit_reference_id or ""))
        causes = []
        if credits_of[credit.cpo_id, credit.credit_reference_id] > 1:
            causes.append(f"{credit.credit_reference_id} is credited more than once")
        if original is None:
            if credit.sequence is not None:
                causes.append("it stands in a statement, and its original is not here")
        else:
            if _mirror(credit) != _numbers(original):
                causes.append(f"it does not say what {original.cdr_id} says, the other way round")
            if closed.is_before(credit, original):
                causes.append(f"it stands in a statement before that of {original.cdr_id}")
        found += [_leaves_differ(rule, f"{credit.cpo_id}/{credit.cdr_id}", expected=1, cause=each) for each in causes]
    return Check(rule=rule, compared=len(credit_leaves), differences=tuple(found))


def _numbers(leaf: LeafRecord) -> tuple[object, ...]:
    return leaf.import_wh, leaf.export_wh, leaf.due_e4, leaf.credit_e4, leaf.currency, leaf.emsp_id, leaf.agreement_id


def _mirror(leaf: LeafRecord) -> tuple[object, ...]:
    return leaf.import_wh, leaf.export_wh, leaf.credit_e4, leaf.due_e4, leaf.currency, leaf.emsp_id, leaf.agreement_id


class _Closed:
    """Knows which of two leaves was bound first."""

    def __init__(self, rows: SettlementRows) -> None:
        self._statements = rows.statements_by_key()
        self._copied = {(each.cpo_id, each.cdr_id) for each in rows.held if each.kind is DisputeKind.DUPLICATE}
        """CDRs that are stated as another copy."""

    def is_before(self, credit: LeafRecord, original: LeafRecord) -> bool:
        """Tell whether the credit is bound and its original is not, or only later."""
        if credit.version is None or credit.sequence is None:
            return False
        if original.version is None or original.sequence is None:
            return (original.cpo_id, original.cdr_id) not in self._copied
        if credit.version == original.version:
            return credit.sequence < original.sequence
        first, second = (
            self._statements.get((leaf.cpo_id, leaf.agreement_id, leaf.version or 0, leaf.sequence or 0))
            for leaf in (credit, original)
        )
        return first is not None and second is not None and first.closed_at < second.closed_at
