"""The audit: every conservation equation, recomputed from the stored data, difference by difference."""

from __future__ import annotations

from typing import Any

from services.audit.billing import (
    check_bills,
    check_every_accepted_cdr_is_billed,
    check_every_bill_is_its_drivers,
    check_every_bill_stands_on_its_cdr,
)
from services.audit.books import Books
from services.audit.carried import check_forwards, check_nothing_was_refused
from services.audit.documents import check_documents, check_one_live_cdr_per_session, check_wholesale_prices
from services.audit.energy import check_energy, check_quarantine
from services.audit.forgotten import pruned
from services.audit.handling import check_every_event_was_handled
from services.audit.holds import check_holds
from services.audit.money import check_accounts, check_pairs, check_payments, check_provider
from services.audit.report import AuditReport
from services.audit.stations import check_acknowledged, check_true_energy
from services.audit.tariffs import check_tariffs
from services.audit.verdicts import check_disputes, check_verdicts


def audit(books: Books, truth: dict[str, Any] | None = None) -> AuditReport:
    """Try every rule.

    Args:
        books: What is stored.
        truth: What the stations know (`simulator/truth.py`), where a simulator was at work.
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
        check_every_event_was_handled(books),
    ]
    if truth is not None:
        checks += [check_acknowledged(books, truth), check_true_energy(books, truth)]
    return AuditReport(checks=tuple(checks), pruned=pruned(books), discarded=tuple(books.discarded))
