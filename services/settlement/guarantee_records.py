"""Rows of guarantees: how each stands in its book, what was taken of it, and when its CPO wants it called."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from emobility.domain.identifiers import PartyId
from emobility.ports.stores import TableSpec

GRACE_D: Final = 7
"""Days beyond the due date where a CPO says nothing: a payment of the last day is still at the banks."""
GRACE_D_MAX: Final = 365


class CallPolicy(StrEnum):
    """Who decides that a guarantee is called."""

    AUTOMATIC = "AUTOMATIC"
    """We do, as soon as the grace is over."""
    BY_OPERATOR = "BY_OPERATOR"
    """The CPO's operator; what may be taken is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuaranteePolicy:
    """When a CPO takes what is overdue; without a row its operator decides."""

    party_id: PartyId
    calls: CallPolicy = CallPolicy.BY_OPERATOR
    grace_d: int = GRACE_D

    @property
    def grace(self) -> timedelta:
        """How long beyond the due date it waits."""
        return timedelta(days=self.grace_d)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuaranteeRecord:
    """A guarantee as it stood in its book when it last changed, in ten-thousandths of `currency`.

    Attributes:
        version: Of the terms under which the book opened the agreement.
        limit_e4: What is left of it.
        taken_e4: What was taken.
        heard_number: The final block up to which calls of it were heard; `heard_hash`: its hash.
        waiting: Why what is overdue is not taken, for people.
    """

    cpo_id: PartyId
    agreement_id: str
    version: int
    emsp_id: PartyId
    currency: str
    limit_e4: int
    taken_e4: int
    heard_number: int
    heard_hash: bytes
    waiting: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GuaranteeCall:
    """What a final block says was taken of a guarantee, whoever sent the call.

    `call_id`: its transaction, and which of that transaction's calls of this guarantee it is.
    """

    cpo_id: PartyId
    call_id: str
    agreement_id: str
    version: int
    emsp_id: PartyId
    currency: str
    amount_e4: int
    transaction: bytes
    called_at: datetime


GUARANTEE: Final = TableSpec(
    name="settlement_guarantee", record=GuaranteeRecord, key=("cpo_id", "agreement_id", "version")
)
GUARANTEE_CALL: Final = TableSpec(name="settlement_guarantee_call", record=GuaranteeCall, key=("cpo_id", "call_id"))
GUARANTEE_POLICY: Final = TableSpec(name="settlement_guarantee_policy", record=GuaranteePolicy, key=("party_id",))
