"""The audit of a period: the documents in a stream, then the rules that need no single document."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

from emobility.events.cdr import CDRS as CDR_TOPIC
from emobility.events.charging import CHARGING
from emobility.events.settlement import SETTLEMENT
from emobility.ports.chain import ChainReader, ChainUnavailable
from emobility.ports.ports import Ports
from emobility.ports.reconciliation import Moment, Period
from services.audit.audit import NOT_ASKED, on_chain
from services.audit.batches import check_acceptances, check_batches, check_transactions
from services.audit.books import CONSUMER_GROUPS, CPO_GROUP, SETTLEMENT_GROUP, Books
from services.audit.chain_sight import look_at_chain
from services.audit.confidential import check_party_nets
from services.audit.handling import check_every_event_was_handled
from services.audit.invoices import check_bank, check_invoices, check_payables
from services.audit.leftovers import check_bills_of_nothing, check_quarantines, check_refused
from services.audit.money_rows import gather_company_money
from services.audit.period_report import PeriodReport
from services.audit.reconciliation import circumstances, reconcile
from services.audit.report import AuditReport, Check, Pruned
from services.audit.settlement_rows import gather_without_leaves
from services.audit.sharing import Sharing
from services.audit.slices import LogSlice, Slice, Unhandled, charge_slices, log_slices, whole_of
from services.audit.statements import check_sequences
from services.settlement.records import LEAF

LOGGED: Final = (CDR_TOPIC, CHARGING, SETTLEMENT)
"""Topics whose events the consumers of `CONSUMER_GROUPS` handle."""
QUICK_LEAVES_OUT: Final = (
    "whether station reports make the transactions what they are: a full audit folds them again",
    "whether CDRs and bills price again to what they state, and tariffs have their hashes: a full audit does that",
    "whether what is sealed is what leaves commit to, and evidence of each is kept: a full audit opens it",
    "whether a session has one live CDR, and a credit, as CDR and leaf, mirrors its original: a full audit sees",
    "whether the hub carried what both sides hold, and both tell the same of disputes: a full audit compares that",
    "whether a bill goes to the right driver and back with its CDR, and none is of an ad hoc sale: a full audit sees",
)
LOG_ELSEWHERE: Final = "whether station reports make the transactions what they are: they lie in another log"
NEVER_LOOKED_AT: Final = (
    "what drivers paid, their holds and invoices: `wattroam audit` without a period adds up accounts and payments",
    "what ad hoc sales took, and their ledger: `wattroam audit` without a period compares them with their provider",
    "tariff versions that no CDR names: `wattroam audit` without a period hashes each",
)


async def audited_period(
    ports: Ports,
    period: Period,
    *,
    sharing: Sharing | None = None,
    chain: ChainReader | None = None,
    needs_chain: bool = False,
    why_quick: str = NOT_ASKED,
) -> PeriodReport:
    """Audit a period.

    Args:
        ports: Where everything is stored.
        period: Of charges that ended in it.
        sharing: Who looks at each document itself; None: nobody, figures alone are compared.
        chain: The chain that is settled on; None: nobody looks at it.
        needs_chain: Whether nothing less than a look at the chain will do; else what was found without it is told.
        why_quick: Why there is none.

    Raises:
        ChainUnavailable: the chain does not answer, and it is needed.
        DatabaseUnavailable: the database does not.
    """
    assert ports.reconciliation is not None, "nothing to reconcile with was opened"
    # Of a log that lies elsewhere no moment can be asked; what is handled after this is at worst called unread.
    lag, held = await ports.event_log.lag(), await ports.event_log.bounds(LOGGED)
    gone: tuple[Pruned, ...] = ()
    async with ports.reconciliation.moment() as moment:
        books = await _books(moment, lag)
        books.logged_events = sum(each.events for each in held.values())
        known = await circumstances(moment, books)
        async with ports.reconciliation.moment(moment.name) as beside:
            reconciled = await reconcile(moment, beside, period, books, known)
        checks = [*reconciled.checks, *_of_the_whole(books)]
        checks += [await check(moment) for check in (check_quarantines, check_refused, check_bills_of_nothing)]
        not_looked_at: tuple[str, ...] = QUICK_LEAVES_OUT
        if sharing is not None:
            log = await _log_slices(ports, moment, books)
            not_looked_at = () if log is not None else (LOG_ELSEWHERE,)
            gone = tuple(
                Pruned(topic=CHARGING, partition=each.partition, events=each.bounds.first)
                for each in log or ()
                if each.bounds.first
            )
            whole = await whole_of(moment, books.settlement, _unhandled(books))
            checks += await sharing.check(moment, whole, _slices(moment, period, log or []))
    why: str | None = why_quick
    if chain is not None:
        try:
            checks += on_chain(books, await look_at_chain(chain, books))
            why = None
        except ChainUnavailable as cause:
            if needs_chain:
                raise
            why = str(cause).splitlines()[0]
    return PeriodReport(
        reconciled=reconciled,
        report=AuditReport(
            checks=tuple(each.closed() for each in checks),
            pruned=gone,
            discarded=tuple(books.discarded),
            why_quick=why,
        ),
        not_looked_at=(*not_looked_at, *NEVER_LOOKED_AT),
    )


async def _slices(moment: Moment, period: Period, log: Sequence[LogSlice]) -> AsyncIterator[Slice]:
    for each in log:
        yield each
    async for part in charge_slices(moment, period):
        yield part


async def _log_slices(ports: Ports, moment: Moment, books: Books) -> Sequence[LogSlice] | None:
    """Return the partitions of the log, None where it lies elsewhere than the rows."""
    if not await moment.has_log():
        return None
    letters = [*books.parked, *(each.parked for each in books.discarded)]
    set_aside = [each.logged for each in letters if each.group == CPO_GROUP]
    return log_slices(await ports.event_log.bounds([CHARGING]), await moment.handled(CPO_GROUP), set_aside)


def _unhandled(books: Books) -> Unhandled:
    return Unhandled(
        lag=books.lag,
        parked=[each for each in books.parked if each.group == SETTLEMENT_GROUP],
        discarded=[each for each in books.discarded if each.parked.group == SETTLEMENT_GROUP],
    )


async def _books(moment: Moment, lag: Mapping[str, int]) -> Books:
    """Gather what is read whole: nothing that grows with each charge. `lag` holds where the log lies elsewhere."""
    books = Books(lag=await moment.lag() if await moment.has_log() else lag)
    for group in CONSUMER_GROUPS:
        books.discarded += await moment.discarded(group)
        books.parked += await moment.parked(group)
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
