"""A tariff version is named by the hash of its content; whoever changes the content has made another tariff."""

from __future__ import annotations

from collections.abc import Iterator

from emobility.domain.tariff.tariff import Tariff
from services.audit.books import Books
from services.audit.report import Check, Difference
from services.audit.tariff_pool import TariffPool
from services.driver_mobility.records import CDRState


def check_tariffs(books: Books) -> Check:
    """Hash every stored version again: as published, as received, and as frozen into sessions and CDRs."""
    rule = "a tariff is what its hash names"
    versions = list(_versions(books))
    differences = []
    pool = TariffPool()
    for scope, tariff, stated in versions:
        found = pool.hash_of(tariff)
        if found != stated:
            cause = f"its content was changed: it hashes to {found[:12]}, not to {stated[:12]}"
            differences.append(Difference(rule=rule, scope=scope, expected=1, found=0, unit="versions", cause=cause))
    return Check(rule=rule, compared=len(versions), differences=tuple(differences))


def _versions(books: Books) -> Iterator[tuple[str, Tariff, str]]:
    """Yield where a version stands, its content and the hash it is known by."""
    for ours in books.cpo_tariffs:
        scope = f"{ours.party_id}/{ours.tariff_id}@{ours.in_force_from.isoformat()}"
        yield scope, ours.tariff, ours.tariff_hash
    for newest in books.cpo_newest_tariffs:
        yield f"{newest.party_id}/{newest.tariff_id} newest", newest.tariff, newest.tariff_hash
    for theirs in books.emsp_tariffs:
        scope = f"{theirs.party_id}/{theirs.cpo_id}/{theirs.tariff_id}@{theirs.in_force_from.isoformat()}"
        yield scope, theirs.tariff, theirs.tariff_hash
    for session in books.cpo_sessions:
        yield f"{session.party_id}/{session.session_id}", session.tariff, session.session.tariff_hash
    for issued in books.cpo_cdrs:
        yield f"{issued.party_id}/{issued.cdr_id}", issued.cdr.tariff, issued.cdr.tariff_hash
    for received in books.emsp_cdrs:
        if received.state is CDRState.ACCEPTED:  # a foreign CPO's false hash is a matter of the dispute
            scope = f"{received.party_id}/{received.cpo_id}/{received.cdr_id}"
            yield scope, received.cdr.tariff, received.cdr.tariff_hash
