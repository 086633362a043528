"""Evidence: what the receipt of a final CDR shows is kept, and it is what the CDR's leaf commits to."""

from __future__ import annotations

from collections.abc import Iterator

from emobility.domain.batch.leaf import NO_METER
from services.audit.books import Books
from services.audit.report import Check, Difference
from services.audit.settlement_rows import CDRName, statement_of
from services.audit.unsealing import Unsealed
from services.driver_mobility.billing import bill_id_of
from services.driver_mobility.records import CDRRecord
from services.settlement.records import LeafRecord, StatementState


def check_evidence(books: Books) -> Check:
    """Look for the evidence of each final CDR of an MSP whose books are here; of an erased driver there is none."""
    rule = "a final CDR has what its receipt shows"
    kept = {(row.cpo_id.code, row.cdr_id): row for row in books.evidence}
    received = {(row.cpo_id.code, row.cdr_id): row for row in books.emsp_cdrs}
    found = []
    compared = unknown = 0
    for leaf in _final(books):
        name = leaf.cpo_id.code, leaf.cdr_id
        row, evidence = received.get(name), kept.get(name)
        if row is None or (evidence is None and _is_erased(books, row, received)):
            unknown += 1
            continue
        compared += 1
        bill_id = bill_id_of(row.party_id, row.cpo_id, row.cdr.credit_reference_id or row.cdr_id)
        if evidence is None:
            found.append(_difference(rule, name, "no evidence of it is kept"))
        elif (evidence.party_id, evidence.bill_id) != (row.party_id, bill_id):
            found.append(_difference(rule, name, f"its evidence is about bill {evidence.bill_id}, not {bill_id}"))
    return Check(rule=rule, compared=compared, unknown=unknown, differences=tuple(found))


def _final(books: Books) -> Iterator[LeafRecord]:
    statements = books.settlement.statements_by_key()
    for leaf in books.settlement.leaves:
        key = statement_of(leaf)
        statement = None if key is None else statements.get(key)
        if statement is not None and statement.state is StatementState.FINAL:
            yield leaf


def _is_erased(books: Books, row: CDRRecord, received: dict[CDRName, CDRRecord]) -> bool:
    """Tell whether the CDR's driver, or that of the CDR it credits, was erased."""
    original = received.get((row.cpo_id.code, row.cdr.credit_reference_id or row.cdr_id))
    quote = None if original is None else books.quotes.get((row.party_id.code, original.quote_id or ""))
    return quote is not None and (row.party_id.code, quote.driver_id) in books.erased_drivers


def check_commitments(books: Books, unsealed: Unsealed) -> Check:
    """Make each leaf's key and commitment again from the pair's secret and the evidence that is kept."""
    rule = "a leaf names its CDR and commits to its evidence"
    found = []
    closed = 0
    for leaf in books.settlement.leaves:
        name = leaf.cpo_id.code, leaf.cdr_id
        if unsealed.cdr_keys.get(name) != leaf.cdr_key:
            found.append(_difference(rule, name, "the pair's secret gives its CDR another key"))
        if name not in unsealed.commitments:
            continue  # "a final CDR has what its receipt shows" tells of it
        commitment = unsealed.commitments[name]
        closed += commitment is None
        if commitment is not None and commitment != leaf.commitment:
            found.append(_difference(rule, name, "the evidence that is kept is not what it commits to"))
        original = (leaf.cpo_id.code, leaf.credit_reference_id or "")
        meter = unsealed.cdr_keys.get(original) if leaf.is_credit else unsealed.meters.get(name, NO_METER)
        if meter is not None and meter != leaf.meter:
            found.append(_difference(rule, name, "the meter's records that are kept are not what it commits to"))
    return Check(rule=rule, compared=len(books.settlement.leaves) - closed, unknown=closed, differences=tuple(found))


def _difference(rule: str, name: CDRName, cause: str) -> Difference:
    return Difference(rule=rule, scope="/".join(name), expected=1, found=0, unit="documents", cause=cause)
