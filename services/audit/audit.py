"""The audit: every conservation equation, recomputed from the stored data, difference by difference.

A quick one looks at rows and log: verdicts, prices, sums and roots. A full one also recovers signatures, opens what is
sealed, and compares everything with the chain.
"""

from __future__ import annotations

from typing import Any, Final

from emobility.ports.chain import ChainReader
from emobility.ports.ports import Ports
from services.audit.ad_hoc import check_ledger, check_nobody_else_is_billed, check_sales
from services.audit.batches import check_acceptances, check_batches, check_transactions
from services.audit.billing import (
    check_bills,
    check_every_accepted_cdr_is_billed,
    check_every_bill_is_its_drivers,
    check_every_bill_stands_on_its_cdr,
)
from services.audit.books import Books, gather_books
from services.audit.carried import check_forwards, check_nothing_was_refused
from services.audit.cases import check_cases
from services.audit.chain_rules import (
    check_agreements,
    check_chain,
    check_collateral,
    check_finality,
    check_signatures,
)
from services.audit.chain_sight import ChainSight, look_at_chain
from services.audit.confidential import check_confidential_finality, check_party_nets
from services.audit.documents import check_documents, check_one_live_cdr_per_session, check_wholesale_prices
from services.audit.energy import check_energy, check_quarantine
from services.audit.evidence import check_commitments, check_evidence
from services.audit.forgotten import pruned
from services.audit.handling import check_every_event_was_handled
from services.audit.holds import check_holds
from services.audit.invoices import check_bank, check_invoices, check_paid_billed_invoiced, check_payables
from services.audit.leaves import check_credits, check_leaves
from services.audit.money import check_accounts, check_pairs, check_payments, check_provider
from services.audit.report import AuditReport, Check
from services.audit.statements import check_nets, check_sequences, check_statements
from services.audit.stations import check_acknowledged, check_true_energy
from services.audit.tariffs import check_tariffs
from services.audit.unsettled import check_settled_energy, waiting
from services.audit.verdicts import check_disputes, check_verdicts

NOT_ASKED: Final = "nobody asked for more"


async def audited(
    ports: Ports,
    truth: dict[str, Any] | None = None,
    *,
    chain: ChainReader | None = None,
    why_quick: str = NOT_ASKED,
) -> tuple[AuditReport, Books]:
    """Gather the books and audit them, in full where there is a chain to look at.

    Args:
        ports: Where everything is stored.
        truth: What the stations know (`simulator/truth.py`), where a simulator was at work.
        chain: The chain that is settled on; None: the audit is a quick one.
        why_quick: Why there is none.

    Raises:
        ChainUnavailable: the chain does not answer.
    """
    books = await gather_books(ports.units, ports.event_log, None if chain is None else ports.vault)
    sight = None if chain is None else await look_at_chain(chain, books)
    return audit(books, truth, sight=sight, why_quick=why_quick), books


def audit(
    books: Books,
    truth: dict[str, Any] | None = None,
    *,
    sight: ChainSight | None = None,
    why_quick: str = NOT_ASKED,
) -> AuditReport:
    """Try every rule; those that need the chain where it was looked at.

    Args:
        books: What is stored.
        truth: What the stations know (`simulator/truth.py`), where a simulator was at work.
        sight: What the chain says; None: the audit is a quick one.
        why_quick: Why nobody looked.
    """
    checks = [
        check_energy(books),
        check_quarantine(books),
        check_documents(books),
        check_one_live_cdr_per_session(books),
        check_wholesale_prices(books),
        check_tariffs(books),
        check_pairs(books),
        check_verdicts(books),
        check_disputes(books),
        check_forwards(books),
        check_nothing_was_refused(books),
        check_bills(books),
        check_every_bill_stands_on_its_cdr(books),
        check_every_bill_is_its_drivers(books),
        check_every_accepted_cdr_is_billed(books),
        check_accounts(books),
        check_provider(books),
        check_payments(books),
        check_holds(books),
        check_sales(books),
        check_ledger(books),
        check_nobody_else_is_billed(books),
        check_paid_billed_invoiced(books),
        check_payables(books),
        check_bank(books),
        check_invoices(books),
        check_leaves(books),
        check_credits(books),
        check_statements(books),
        check_sequences(books),
        check_batches(books),
        check_acceptances(books),
        check_transactions(books),
        check_nets(books),
        check_settled_energy(books),
        check_evidence(books),
        check_every_event_was_handled(books),
    ]
    if books.unsealed is not None:
        checks.append(check_commitments(books, books.unsealed))
    if books.settlement.confidential.are_there:
        checks.append(check_party_nets(books))
    if sight is not None:
        checks += on_chain(books, sight)
    if truth is not None:
        checks += [check_acknowledged(books, truth), check_true_energy(books, truth)]
    return AuditReport(
        checks=tuple(checks),
        pruned=pruned(books),
        discarded=tuple(books.discarded),
        waiting=waiting(books),
        why_quick=None if sight is not None else why_quick,
    )


def on_chain(books: Books, sight: ChainSight) -> list[Check]:
    """Compare with the chain; with another chain than ours there is nothing to compare but that."""
    recorded = check_chain(books, sight)
    if sight.strangeness is not None:
        return [recorded]
    where_there_are = []
    if books.settlement.confidential.are_there:
        where_there_are.append(check_confidential_finality(books, sight.confidential, sight.signers))
    if books.settlement.resolvers:
        where_there_are.append(check_cases(books, sight.cases))
    return [
        *where_there_are,
        recorded,
        check_signatures(books, sight),
        check_finality(books, sight),
        check_collateral(books, sight),
        check_agreements(books, sight),
    ]
