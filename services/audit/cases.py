"""Disputes: each case stands with its resolver as it does here, and no verdict on a pair here is unknown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from emobility.domain.batch import contracts
from emobility.domain.batch.disputes import Case, CaseStage, case_query, read_case, read_told, taken_out_e4
from emobility.ports.chain import Block, ChainReader, Log, logs_between
from services.audit.books import Books
from services.audit.report import Check, Difference, amount_difference
from services.audit.settlement_rows import SettlementRows
from services.settlement.case_leaves import Sides, sides_of
from services.settlement.closing import leaf_in_tree
from services.settlement.dispute_records import DisputeRecord, DisputeState, HeardRecord, ResolverRecord

RULE: Final = "a dispute is decided here as its resolver decided it"
VERDICTS: Final = (contracts.LEAF_STRUCK, contracts.AMOUNT_RULED)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseSight:
    """What resolvers say: the cases that rows name, and those with a verdict, by rows or of pairs here."""

    cases: dict[bytes, Case] = field(default_factory=dict)
    decided: frozenset[bytes] = frozenset()


async def look_at_cases(chain: ChainReader, at: Block, rows: SettlementRows) -> CaseSight:
    """Ask each resolver. Raises `ChainUnavailable`."""
    cases: dict[bytes, Case] = {}
    verdicts: dict[bytes, tuple[HeardRecord, list[Log]]] = {}
    for dispute in rows.disputes:
        returned = await chain.call(dispute.resolver, case_query(dispute.case_id), at_block=at.number)
        cases[dispute.case_id] = read_case(returned)
    for resolver in [_as_heard(each, each.resolver, at) for each in rows.resolvers if each.resolver is not None]:
        for verdict in VERDICTS:
            for log in await logs_between(
                chain, resolver.contract, [verdict.topic], first=rows.since_block, last=at.number
            ):
                verdicts.setdefault(log.topics[1], (resolver, []))[1].append(log)
    # Others may share a book, and what is decided between them is nothing to us.
    decided = [
        case_id
        for case_id, (resolver, logs) in verdicts.items()
        if case_id in cases or _is_hosted(rows, resolver, await _sides(chain, at, resolver, logs))
    ]
    return CaseSight(cases=cases, decided=frozenset(decided))


def _as_heard(record: ResolverRecord, resolver: bytes, at: Block) -> HeardRecord:
    return HeardRecord(
        chain_id=record.chain_id,
        contract=resolver,
        book=record.book,
        currency=record.currency,
        is_confidential=record.is_confidential,
        last_number=at.number,
        last_hash=at.hash,
    )


async def _sides(chain: ChainReader, at: Block, resolver: HeardRecord, verdicts: list[Log]) -> Sides | None:
    """Return who a case is between that no row knows; None: nothing was at stake."""
    asked = case_query(verdicts[0].topics[1])
    case = read_case(await chain.call(resolver.contract, asked, at_block=at.number))
    told = [(read_told(log.topics, log.data), log) for log in verdicts]
    struck = next(((event, log) for event, log in told if event is not None and event.added_e4 is not None), None)
    return await sides_of(chain, resolver, case, struck)


def _is_hosted(rows: SettlementRows, resolver: HeardRecord, sides: Sides | None) -> bool:
    """Tell whether one of a pair is hosted here, as the settlement does when it hears of a case."""
    if sides is None:
        return False
    if sides.agreement is not None:
        pairs = {
            (each.cpo_id, each.emsp_id)
            for each in rows.openings
            if (each.book_agreement, each.currency) == (sides.agreement, resolver.currency)
        }
    else:
        numbers = (sides.cpo, sides.msp, resolver.currency)
        pairs = {
            (each.cpo_id, each.emsp_id)
            for each in rows.confidential.sealed
            if (each.cpo_number, each.msp_number, each.currency) == numbers
        }
    hosted = {each.party_id for each in rows.parties if each.is_hosted}
    return any(party in hosted for pair in pairs for party in pair)


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
