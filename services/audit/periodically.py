"""The audit of a period: the documents in a stream, then the rules that need no single document."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final

from emobility.events.cdr import CDRS as CDR_TOPIC
from emobility.events.charging import CHARGING
from emobility.events.settlement import SETTLEMENT
from emobility.ports.chain import ChainReader
from emobility.ports.ports import Ports
from emobility.ports.reconciliation import Moment, Period
from services.audit.audit import NOT_ASKED, on_chain
from services.audit.batches import check_acceptances, check_batches, check_transactions
from services.audit.books import CONSUMER_GROUPS, CPO_GROUP, Books
from services.audit.chain_sight import look_at_chain
from services.audit.confidential import check_party_nets
from services.audit.handling import check_every_event_was_handled
from services.audit.invoices import check_bank, check_invoices, check_payables
from services.audit.money_rows import gather_company_money
from services.audit.period_report import PeriodReport
from services.audit.reconciliation import circumstances, reconcile
from services.audit.report import AuditReport, Check
from services.audit.settlement_rows import gather_without_leaves
from services.audit.sharing import Sharing
from services.audit.slices import LogSlice, Slice, charge_slices, log_slices, whole_of
from services.audit.statements import check_sequences
from services.settlement.records import LEAF

LOGGED: Final = (CDR_TOPIC, CHARGING, SETTLEMENT)
"""Topics whose events the consumers of `CONSUMER_GROUPS` handle."""
QUICK_LEAVES_OUT: Final = (
    "whether station reports make the transactions what they are: a full audit folds them again",
    "whether CDRs and bills price again to what they state: a full audit does that",
    "whether what is sealed is what leaves commit to: a full audit opens it",
)
LOG_ELSEWHERE: Final = "whether station reports make the transactions what they are: they lie in another log"
NEVER_LOOKED_AT: Final = ("what drivers paid: `wattroam audit` without a period adds up their accounts and payments",)


async def audited_period(
    ports: Ports,
    period: Period,
    *,
    sharing: Sharing | None = None,
    chain: ChainReader | None = None,
    why_quick: str = NOT_ASKED,
) -> PeriodReport:
    """Audit a period.

    Args:
        ports: Where everything is stored.
        period: Of charges that ended in it.
        sharing: Who looks at each document itself; None: nobody, figures alone are compared.
        chain: The chain that is settled on; None: nobody looks at it.
        why_quick: Why not.

    Raises:
        ChainUnavailable: the chain does not answer.
        DatabaseUnavailable: the database does not.
    """
    assert ports.reconciliation is not None, "nothing to reconcile with was opened"
    async with ports.reconciliation.moment() as moment:
        books = await _books(ports, moment)
        known = await circumstances(moment, ports.event_log, books.settlement)
        async with ports.reconciliation.moment(moment.name) as beside:
            reconciled = await reconcile(moment, beside, period, books, known)
        checks = [*reconciled.checks, *_of_the_whole(books)]
        not_looked_at: tuple[str, ...] = QUICK_LEAVES_OUT
        if sharing is not None:
            log = await _log_slices(ports, moment)
            not_looked_at = () if log is not None else (LOG_ELSEWHERE,)
            whole = await whole_of(moment, books.settlement)
            checks += await sharing.check(moment, whole, _slices(moment, period, log or []))
    if chain is not None:
        checks += on_chain(books, await look_at_chain(chain, books))
    return PeriodReport(
        reconciled=reconciled,
        report=AuditReport(
            checks=tuple(checks), discarded=tuple(books.discarded), why_quick=None if chain is not None else why_quick
        ),
        not_looked_at=(*not_looked_at, *NEVER_LOOKED_AT),
    )


async def _slices(moment: Moment, period: Period, log: Sequence[LogSlice]) -> AsyncIterator[Slice]:
    for each in log:
        yield each
    async for part in charge_slices(moment, period):
        yield part


async def _log_slices(ports: Ports, moment: Moment) -> Sequence[LogSlice] | None:
    """Return the partitions of the log, None where it lies elsewhere than the rows."""
    if not await moment.has_log():
        return None
    discarded = [each.parked.logged for each in await ports.event_log.discarded(CPO_GROUP)]
    return log_slices(await ports.event_log.bounds([CHARGING]), discarded)


async def _books(ports: Ports, moment: Moment) -> Books:
    """Gather what is read whole: nothing that grows with each charge."""
    books = Books(lag=await ports.event_log.lag())
    held = await ports.event_log.bounds(LOGGED)
    books.logged_events = sum(each.events for each in held.values())
    for group in CONSUMER_GROUPS:
        books.discarded += await ports.event_log.discarded(group)
        books.parked += await ports.event_log.parked(group)
    books.money = await gather_company_money(moment.unit)
    books.settlement = await gather_without_leaves(moment.unit)
    for dispute in books.settlement.disputes:
        leaf = await moment.unit.table(LEAF).get(dispute.cpo_id, dispute.cdr_id)
        books.settlement.leaves += [] if leaf is None else [leaf]
    return books


def _of_the_whole(books: Books) -> list[Check]:
    """Try the rules about statements, batches and money between companies, whatever their period."""
    checks = [
        check_sequences(books),
        check_batches(books),
        check_acceptances(books),
        check_transactions(books),
        check_payables(books),
        check_bank(books),
        check_invoices(books),
        check_every_event_was_handled(books),
    ]
    if books.settlement.confidential.are_there:
        checks.append(check_party_nets(books))
    return checks
