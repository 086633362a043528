"""How far a proposed statement is, by its book: one that one side signed counts as accepted when the window ends."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from emobility.domain.batch.calls import BatchState as BookedBatch
from emobility.domain.identifiers import PartyId
from emobility.ports.unit_of_work import UnitOfWork
from services.settlement.records import AGREEMENT, BatchRecord, StatementRecord, StatementState

CLOCK_SKEW: Final = timedelta(minutes=1)
"""How far a chain's blocks may be behind our clock: a call that comes before the window's end is in vain."""


TRY_AGAIN_AFTER: Final = timedelta(minutes=10)
"""How long after a call that came in vain, by a chain whose clock is behind, the next one is made."""


def stage_of(booked: BookedBatch, position: int) -> tuple[StatementState, str | None]:
    """Return the state of a batch's statement, and what it waits for."""
    if booked.is_final(position):
        return StatementState.FINAL, None
    if booked.void_pairs >> position & 1:
        return StatementState.VOID, "its parties: a verdict took it out of its batch"
    if booked.challenged >> position & 1:
        return StatementState.CHALLENGED, "a verdict: the side that did not sign contests it"
    if booked.ripening >> position & 1:
        due_at = datetime.fromtimestamp(booked.due_at_s, UTC)
        return StatementState.RIPENING, f"the other side's signature, or its silence until {due_at:%Y-%m-%d %H:%M} UTC"
    return StatementState.UNFUNDED, "cover: the payer's is short"


def has_ripened(booked: BookedBatch, position: int, now: datetime) -> bool:
    """Whether a statement that waits for a silent side counts as accepted, in any block from now on."""
    return booked.is_ripe(position, int((now - CLOCK_SKEW).timestamp()))


async def may_go_with_one_signature(
    unit: UnitOfWork,
    batch: BatchRecord,
    statements: Sequence[StatementRecord],
    signed: Collection[PartyId],
    now: datetime,
) -> bool:
    """Tell whether a batch is proposed though a party is silent: one side of each pair signed, and time is up.

    A pair's agreement says how long: as long as the MSP may dispute a CDR.
    """
    if any(each.cpo_id not in signed and each.emsp_id not in signed for each in statements):
        return False
    for each in statements:
        pair = await unit.table(AGREEMENT).get(each.cpo_id, each.agreement_id)
        if pair is None or pair.terms is None:
            return False
        if now < batch.formed_at + timedelta(hours=pair.terms.dispute_period_h):
            return False
    return True
