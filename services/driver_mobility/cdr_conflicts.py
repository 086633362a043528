"""CDRs that came again with other content: refused, because a CDR can't be changed, and kept apart for people."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from emobility.domain.errors import RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.domain.money import e4_from_decimal
from emobility.domain.personal import Sealed, SubjectErased
from emobility.ports.ports import Ports
from emobility.ports.stores import TableSpec
from emobility.protocols.ocpi import v221

CONFLICTS_MAX: Final = 20
"""Copies of one CDR that are kept: who sends more says nothing new by it."""


class CDRChanged(RuleBroken):
    """A CDR can't be changed; only a credit takes it back."""

    def __init__(self, *, cdr_id: str) -> None:
        self.cdr_id = cdr_id
        super().__init__(f"CDR {cdr_id} came before with other content; a CDR can't be changed")


@dataclass(frozen=True, slots=True, kw_only=True)
class CDRConflict:
    """A copy that differs from the CDR that counts. `document`: as it came; None: its driver was erased."""

    party_id: PartyId
    cpo_id: PartyId
    cdr_id: str
    content_hash: str
    total_excl_e4: int
    currency: str
    received_at: datetime
    document: Sealed | None


CDR_CONFLICT: Final = TableSpec(
    name="emsp_cdr_conflict", record=CDRConflict, key=("party_id", "cpo_id", "cdr_id", "content_hash")
)


async def keep_conflict(ports: Ports, emsp_id: PartyId, posted: v221.CDR, content_hash: str) -> None:
    """Keep a copy; the same copy again changes nothing."""
    try:
        document = await ports.vault.seal(v221.write(posted).decode(), identifier=posted.cdr_token.uid)
    except SubjectErased:
        document = None
    of_cdr = {"party_id": emsp_id, "cpo_id": posted.owner, "cdr_id": posted.id}
    async with ports.units.begin() as unit:
        table = unit.table(CDR_CONFLICT)
        is_known = await table.get(emsp_id, posted.owner, posted.id, content_hash) is not None
        if is_known or await table.count(of_cdr) >= CONFLICTS_MAX:
            return
        await table.put(
            CDRConflict(
                party_id=emsp_id,
                cpo_id=posted.owner,
                cdr_id=posted.id,
                content_hash=content_hash,
                total_excl_e4=e4_from_decimal(posted.total_cost.excl_vat),
                currency=posted.currency,
                received_at=ports.clock.now(),
                document=document,
            )
        )
        await unit.commit()


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownConflict:
    """A copy for the operator, with what the CDR that counts says; amounts before tax in ten-thousandths."""

    cpo_id: PartyId
    cdr_id: str
    received_at: datetime
    currency: str
    total_excl_e4: int
    counted_excl_e4: int | None
