"""What the log has forgotten: a transaction whose beginning may be pruned can't be recomputed, and nobody guesses."""

from __future__ import annotations

from emobility.domain.identifiers import PartyId
from emobility.domain.transaction import sequence_gaps
from emobility.events.charging import CHARGING, station_key
from emobility.ports.event_log import partition_of
from services.audit.books import Books
from services.audit.report import Pruned


def pruned(books: Books) -> tuple[Pruned, ...]:
    """Return the partitions that begin later than at offset 0."""
    return tuple(
        Pruned(topic=topic, partition=partition, events=bounds.first)
        for (topic, partition), bounds in sorted(books.log_bounds.items())
        if bounds.first
    )


def is_recomputable(books: Books, key: tuple[str, str, str]) -> bool:
    """Tell whether the log still holds a transaction (party, station, transaction) from its beginning.

    In a pruned partition it does where the start is there and, under OCPP 2.x, every number after it: nothing of a
    transaction comes before its start but by the way of a station that queued it, and then its number is missed.
    """
    party_id = PartyId(key[0])
    bounds = books.log_bounds.get((CHARGING, partition_of(station_key(party_id, key[1]))))
    if bounds is None or bounds.first == 0:
        return True
    transaction = books.logged_transactions.get((party_id, key[1], key[2]))
    return transaction is not None and transaction.started is not None and not sequence_gaps(transaction)
