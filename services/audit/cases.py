"""Disputes: each case stands with its resolver as it does here, and no verdict fell that nobody here knows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from emobility.domain.batch import contracts
from emobility.domain.batch.disputes import Case, CaseStage, case_query, read_case, taken_out_e4
from emobility.ports.chain import Block, ChainReader
from services.audit.books import Books
from services.audit.report import Check, Difference, amount_difference
from services.audit.settlement_rows import SettlementRows
from services.settlement.closing import leaf_in_tree
from services.settlement.dispute_records import DisputeRecord, DisputeState

RULE: Final = "a dispute is decided here as its resolver decided it"
VERDICTS: Final = (contracts.LEAF_STRUCK, contracts.AMOUNT_RULED)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseSight:
    """What resolvers say: the cases that rows name, and every case with a verdict."""

    cases: dict[bytes, Case] = field(default_factory=dict)
    decided: frozenset[bytes] = frozenset()


async def look_at_cases(chain: ChainReader, at: Block, rows: SettlementRows) -> CaseSight:
    """Ask each resolver. Raises `ChainUnavailable`."""
    cases: dict[bytes, Case] = {}
    decided: set[bytes] = set()
    for dispute in rows.disputes:
        returned = await chain.call(dispute.resolver, case_query(dispute.case_id), at_block=at.number)
        cases[dispute.case_id] = read_case(returned)
    for resolver in rows.resolvers:
        if resolver.resolver is None:
            continue
        for verdict in VERDICTS:
            logs = await chain.logs(resolver.resolver, [verdict.topic], from_block=0, to_block=at.number)
            decided |= {log.topics[1] for log in logs}
    return CaseSight(cases=cases, decided=frozenset(decided))


def check_cases(books: Books, sight: CaseSight) -> Check:
    """Compare case by case."""
    rows = books.settlement
    known = {each.case_id for each in rows.disputes}
    found = [difference for row in rows.disputes for difference in _unlike(books, row, sight)]
    found += [
        Difference(
            rule=RULE, scope=case.hex(), expected=1, found=0, unit="disputes", cause="nobody here knows the case"
        )
        for case in sorted(sight.decided - known)
    ]
    return Check(rule=RULE, compared=len(known | sight.decided), differences=tuple(found))


def _unlike(books: Books, row: DisputeRecord, sight: CaseSight) -> Iterator[Difference]:
    case = sight.cases[row.case_id]
    scope = f"{row.cpo_id}/{row.cdr_id}"
    is_decided = case.stage in {CaseStage.RULED, CaseStage.STRUCK}
    if row.state is not DisputeState.DECIDED:
        if is_decided and row.state is DisputeState.OPEN:
            cause = f"it is {row.state} here, and {case.stage.name} there"
            yield Difference(rule=RULE, scope=scope, expected=1, found=0, unit="verdicts", cause=cause)
        return
    if not is_decided:
        cause = f"it is decided here, and {case.stage.name} there"
        yield Difference(rule=RULE, scope=scope, expected=0, found=1, unit="verdicts", cause=cause)
        return
    leaves = [leaf for leaf in books.settlement.leaves if (leaf.cpo_id, leaf.cdr_id) == (row.cpo_id, row.cdr_id)]
    stated_e4 = leaf_in_tree(leaves[0]).net_e4 if leaves else row.stated_e4
    assert stated_e4 is not None, f"case {row.case_id.hex()} is decided here without an amount"
    there_e4 = taken_out_e4(case, stated_e4=stated_e4)
    if there_e4 != row.corrected_e4:
        cause = "the resolver took out another amount"
        yield amount_difference(RULE, scope, (there_e4, row.corrected_e4 or 0), row.currency, cause)
