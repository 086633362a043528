"""Statements: each is what its CDRs make it, to the last root, and an agreement's follow each other without a gap."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from emobility.domain.batch.trees import StatementTrees
from emobility.domain.errors import EmobilityError
from services.audit.books import Books
from services.audit.report import Check, Difference
from services.audit.settlement_rows import SettlementRows, StatementKey, statement_of
from services.settlement.closing import leaf_in_tree, name_of, pair_statement
from services.settlement.records import LeafRecord, Opening, StatementRecord, StatementState

RULE: Final = "a statement is what its CDRs make it"


def check_statements(books: Books) -> Check:
    """Build both trees of every statement again and compare sums, count, places, roots and what was signed."""
    rows = books.settlement
    leaves: dict[StatementKey, list[LeafRecord]] = defaultdict(list)
    for leaf in rows.leaves:
        key = statement_of(leaf)
        if key is not None:
            leaves[key].append(leaf)
    openings = {(each.cpo_id, each.agreement_id, each.version): each for each in rows.openings}
    found: list[Difference] = []
    for key, statement in rows.statements_by_key().items():
        of_statement = sorted(leaves.pop(key, []), key=lambda leaf: leaf.place or 0)
        found += unlike(statement, of_statement, openings.get(key[:3]))
    found += [
        Difference(rule=RULE, scope="/".join(map(str, key)), expected=0, found=len(of_none), unit="leaves", cause=cause)
        for key, of_none in sorted(leaves.items())
        for cause in ("they stand in a statement that is not there",)
    ]
    return Check(rule=RULE, compared=len(rows.statements), differences=tuple(found))


def unlike(statement: StatementRecord, leaves: list[LeafRecord], opening: Opening | None) -> Iterator[Difference]:
    """Yield what a statement says otherwise than its leaves, which stand in the order of their places."""
    scope, money = str(name_of(statement)), f"e4 {statement.currency}"
    for what, expected, stated, unit in (
        ("CDRs", len(leaves), statement.count, "CDRs"),
        ("due", sum(leaf.due_e4 for leaf in leaves), statement.due_e4, money),
        ("credit", sum(leaf.credit_e4 for leaf in leaves), statement.credit_e4, money),
    ):
        if expected != stated:
            cause = f"{what}: the statement says otherwise than its CDRs"
            yield Difference(rule=RULE, scope=scope, expected=expected, found=stated, unit=unit, cause=cause)
    for cause in (*_other_roots(statement, leaves), *_other_parties(statement, leaves, opening)):
        yield Difference(rule=RULE, scope=scope, expected=1, found=0, unit="statements", cause=cause)


def _other_roots(statement: StatementRecord, leaves: list[LeafRecord]) -> Iterator[str]:
    """Say which hashes of a statement do not follow from what it is about."""
    try:
        trees = StatementTrees([leaf_in_tree(leaf) for leaf in leaves])
        signed = pair_statement(statement).struct_hash
    except EmobilityError as refusal:
        yield f"no statement can be made of it: {refusal}"
        return
    if trees.evidence_root != statement.evidence_root:
        yield "its CDRs have another evidence root"
    if trees.sum_root.hash != statement.sum_root:
        yield "its CDRs have another sum root"
    if [leaf.place for leaf in leaves] != list(range(len(leaves))) or [leaf.cdr_key for leaf in leaves] != [
        leaf.cdr_key for leaf in trees.leaves
    ]:
        yield "its CDRs do not stand at their places in the trees"
    if signed != statement.statement_hash:
        yield "its figures have another hash than the one that names it"


def _other_parties(statement: StatementRecord, leaves: list[LeafRecord], opening: Opening | None) -> Iterator[str]:
    if opening is None:
        yield "no terms are known under which it could be closed"
    elif (opening.emsp_id, opening.currency, opening.book_agreement) != (
        statement.emsp_id,
        statement.currency,
        statement.book_agreement,
    ):
        yield "MSP, currency or agreement in the book are not those of its terms"
    strangers = [
        leaf.cdr_id for leaf in leaves if (leaf.emsp_id, leaf.currency) != (statement.emsp_id, statement.currency)
    ]
    if strangers:
        yield f"CDR {strangers[0]} is another MSP's or in another currency"


def check_sequences(books: Books) -> Check:
    """Count each agreement's statements: none is missing, and none is in a batch before the one before it is final."""
    rule = "statements follow each other"
    rows = books.settlement
    statements = rows.statements_by_key()
    found = []
    for opening in rows.openings:
        terms = (opening.cpo_id, opening.agreement_id, opening.version)
        of_terms = sorted(key[3] for key in statements if key[:3] == terms)
        if of_terms != list(range(1, opening.last_sequence + 1)):
            scope = "/".join(map(str, terms))
            cause = f"it counts up to {opening.last_sequence}, and the statements there are have the numbers {of_terms}"
            found.append(_difference(rule, scope, opening.last_sequence, len(of_terms), cause))
    for key, statement in statements.items():
        before = statements.get((*key[:3], statement.sequence - 1))
        is_next = statement.sequence == 1 or (before is not None and before.state is StatementState.FINAL)
        if statement.batch_id is not None and not is_next:
            cause = f"it is in a batch, and statement {statement.sequence - 1} is not final"
            found.append(_difference(rule, str(name_of(statement)), 0, 1, cause))
    return Check(rule=rule, compared=len(statements), differences=tuple(found))


def _difference(rule: str, scope: str, expected: int, found: int, cause: str) -> Difference:
    return Difference(rule=rule, scope=scope, expected=expected, found=found, unit="statements", cause=cause)


def check_nets(books: Books) -> Check:
    """Add up, batch by batch, what CPOs get by their own documents and what MSPs give by theirs: together nothing.

    A party whose books are kept elsewhere counts with what the statement says.
    """
    rule = "the nets of a batch add up to zero"
    rows = books.settlement
    claimed = {(row.party_id, row.cdr_id): row.cdr.total_cost.excl_e4 for row in books.cpo_cdrs}
    owed = {(row.cpo_id, row.cdr_id): row.cdr.total_cost.excl_e4 for row in books.emsp_cdrs}
    nets: dict[tuple[bytes, str], list[int]] = defaultdict(lambda: [0, 0])
    statements = rows.statements_by_key()
    for leaf in rows.leaves:
        statement = statements.get(statement_of(leaf) or (leaf.cpo_id, "", 0, 0))
        if statement is not None and statement.batch_id is not None:
            name, net_e4 = (leaf.cpo_id, leaf.cdr_id), leaf.due_e4 - leaf.credit_e4
            nets[statement.batch_id, statement.currency][0] += claimed.get(name, net_e4)
            nets[statement.batch_id, statement.currency][1] -= owed.get(name, net_e4)
    stated = _stated(rows)
    differences = [
        Difference(
            rule=rule,
            scope=f"{batch_id.hex()}/{currency}",
            expected=0,
            found=amount_e4,
            unit=f"e4 {currency}",
            cause=cause,
        )
        for (batch_id, currency), (get_e4, give_e4) in sorted(nets.items())
        for amount_e4, cause in (
            (get_e4 + give_e4, f"CPOs get {get_e4} by their documents, MSPs give {-give_e4} by theirs"),
            (
                stated.get((batch_id, currency), 0) - get_e4,
                "the statements say more than CPOs claim, or less where this is negative",
            ),
        )
        if amount_e4
    ]
    return Check(rule=rule, compared=len(nets), differences=tuple(differences))


def _stated(rows: SettlementRows) -> dict[tuple[bytes, str], int]:
    """Return what the statements of each batch come to, net."""
    sums: dict[tuple[bytes, str], int] = defaultdict(int)
    for each in rows.statements:
        if each.batch_id is not None:
            sums[each.batch_id, each.currency] += each.due_e4 - each.credit_e4
    return sums
