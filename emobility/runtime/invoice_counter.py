"""Invoice numbers without a gap: a row per issuer, series and year, locked until the document with the number is there.

A unit that fails takes its number back with it, so none is missing; two at once wait for each other.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from emobility.domain.identifiers import PartyId
from emobility.domain.invoicing.numbering import Series, invoice_number
from emobility.ports.stores import RecordExists, TableSpec
from emobility.ports.unit_of_work import UnitOfWork


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceCounter:
    """How many documents an issuer numbered in a series and year."""

    party_id: PartyId
    series: Series
    year: int
    last: int


INVOICE_COUNTER: Final = TableSpec(name="invoice_counter", record=InvoiceCounter, key=("party_id", "series", "year"))


async def next_number(unit: UnitOfWork, issuer: PartyId, series: Series, year: int) -> str:
    """Return the next number; it is given away with the commit of this unit, which must hold its document."""
    counters = unit.table(INVOICE_COUNTER)
    if await counters.get(issuer, series, year) is None:
        with suppress(RecordExists):
            await counters.insert(InvoiceCounter(party_id=issuer, series=series, year=year, last=0))
    counter = await counters.get_for_update(issuer, series, year)
    assert counter is not None, f"{issuer} has no counter {series}{year}"
    counter = replace(counter, last=counter.last + 1)
    await counters.put(counter)
    return invoice_number(issuer.code, series, year, counter.last)
