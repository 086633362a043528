"""Rows of what verdicts took out: statements whose number is free again, and CDRs that wait for their parties' word."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from emobility.domain.batch.disputes import DisputeKind
from emobility.domain.identifiers import PartyId
from emobility.ports.stores import TableSpec
from services.settlement.records import StatementRecord

ELSEWHERE: Final = frozenset({DisputeKind.DUPLICATE, DisputeKind.CREDIT_OF_STRUCK})
"""Grounds that say that a CDR counts already: a copy of it is final, or what it takes back was taken back. Nobody's
word states it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VoidedStatement:
    """A statement that a verdict took out of its batch, and what became of its number.

    Attributes:
        batch_id: Its batch, of whose calls it stays a part.
        kind: What was proven against one of its CDRs; None: the verdict names none.
        case_id: What the resolver calls that, likewise.
        restated_as: The statement of its other CDRs, under its number; None: these go into the next one.
        statement: As it stood.
    """

    cpo_id: PartyId
    statement_hash: bytes
    emsp_id: PartyId
    batch_id: bytes
    kind: DisputeKind | None
    case_id: bytes | None
    restated_as: bytes | None
    restated_at: datetime
    statement: StatementRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldCDR:
    """An accepted CDR that no statement takes, for a verdict took it out of one.

    Attributes:
        statement_hash: The statement that it was taken out with.
        kind: What was proven against it; None: nothing was, and its CPO left it out.
    """

    cpo_id: PartyId
    cdr_id: str
    emsp_id: PartyId
    agreement_id: str
    statement_hash: bytes
    kind: DisputeKind | None
    held_at: datetime


VOIDED: Final = TableSpec(name="settlement_voided_statement", record=VoidedStatement, key=("cpo_id", "statement_hash"))
HELD: Final = TableSpec(name="settlement_held_cdr", record=HeldCDR, key=("cpo_id", "cdr_id"))
