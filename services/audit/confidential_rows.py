"""What the settlement has stored of confidential mode."""

from __future__ import annotations

from dataclasses import dataclass, field

from emobility.ports.unit_of_work import UnitOfWork
from services.audit.rows import all_rows
from services.settlement.confidential_records import (
    CONFIDENTIAL_BATCH,
    CONFIDENTIAL_BOOK,
    PARTY_NET,
    SEALED_STATEMENT,
    ConfidentialBatchRecord,
    ConfidentialBookRecord,
    PartyNetRecord,
    SealedStatementRecord,
)


@dataclass(slots=True, kw_only=True)
class ConfidentialRows:
    """Rows as they are stored."""

    books: list[ConfidentialBookRecord] = field(default_factory=list)
    batches: list[ConfidentialBatchRecord] = field(default_factory=list)
    sealed: list[SealedStatementRecord] = field(default_factory=list)
    nets: list[PartyNetRecord] = field(default_factory=list)

    @property
    def are_there(self) -> bool:
        """Whether anything was ever settled so; the rules are not tried where nothing was."""
        return bool(self.books or self.batches or self.sealed or self.nets)


async def gather_confidential(unit: UnitOfWork) -> ConfidentialRows:
    """Read everything."""
    return ConfidentialRows(
        books=await all_rows(unit, CONFIDENTIAL_BOOK),
        batches=await all_rows(unit, CONFIDENTIAL_BATCH),
        sealed=await all_rows(unit, SEALED_STATEMENT),
        nets=await all_rows(unit, PARTY_NET),
    )
