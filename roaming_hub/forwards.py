"""The hub's own record of CDRs that passed it: which bytes, from whom, to whom, with what outcome.

An audit compares it with what the CPO sent and the MSP holds. It keeps a hash, never the document.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta
from typing import Final, Protocol

import msgspec

from emobility.domain.identifiers import PartyId
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi.server import MessageIds
from emobility.protocols.ocpi.v221 import NotAnOCPIObject, NotJSON, read
from roaming_hub.records import CDR_FORWARD, HUB_MESSAGE, CDRForward, ForwardOutcome

MESSAGE_AGE: Final = timedelta(days=30)
"""How long the hub can say which message went where; CDRs stay."""
PURGE_ROWS: Final = 1_000


class Passing(Protocol):
    """What is recorded of a message."""

    @property
    def body(self) -> bytes:
        """The bytes as forwarded."""

    @property
    def ids(self) -> MessageIds:
        """The ids of the request."""


class _CDRName(msgspec.Struct, frozen=True):
    id: str


def body_sha256(body: bytes) -> str:
    """Return the hash a CDR's body is recorded by, hex."""
    return hashlib.sha256(body).hexdigest()


def _cdr_id(body: bytes) -> str:
    try:
        return read(body, _CDRName).id[:39]
    except (NotJSON, NotAnOCPIObject):
        return ""


class Forwards:
    """Writes `hub_forward`: before the call, so that a crash leaves a trace, and after it. Drops old `hub_message`s."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    async def purge(self, unit: UnitOfWork) -> int:
        """Drop messages older than `MESSAGE_AGE`, at most `PURGE_ROWS`; return how many."""
        before = ("at", self._ports.clock.now() - MESSAGE_AGE)
        old = await unit.table(HUB_MESSAGE).select(before=before, order_by=("at",), limit=PURGE_ROWS)
        for each in old:
            await unit.table(HUB_MESSAGE).remove(each.message_id)
        return len(old)

    async def begin(self, from_party: PartyId, to_party: PartyId, message: Passing) -> None:
        """A CDR is about to be forwarded, perhaps again."""
        cdr_id, digest, now = _cdr_id(message.body), body_sha256(message.body), self._ports.clock.now()
        async with self._ports.units.begin() as unit:
            table = unit.table(CDR_FORWARD)
            known = await table.get_for_update(from_party, to_party, cdr_id, digest)
            if known is None:
                entry = CDRForward(
                    from_party=from_party,
                    to_party=to_party,
                    cdr_id=cdr_id,
                    body_sha256=digest,
                    outcome=ForwardOutcome.FORWARDING,
                    status_code=None,
                    attempts=1,
                    correlation_id=message.ids.correlation_id,
                    first_at=now,
                    last_at=now,
                )
            else:
                entry = replace(known, attempts=known.attempts + 1, last_at=now)
            await table.put(entry)
            await unit.commit()

    async def end(self, from_party: PartyId, to_party: PartyId, message: Passing, *, status_code: int | None) -> None:
        """The receiver answered with `status_code`; None: the hub got no OCPI answer. DELIVERED is never taken back."""
        cdr_id, digest = _cdr_id(message.body), body_sha256(message.body)
        if status_code is None or status_code >= 3000:
            outcome = ForwardOutcome.UNDELIVERED
        elif status_code >= 2000:
            outcome = ForwardOutcome.REFUSED
        else:
            outcome = ForwardOutcome.DELIVERED
        async with self._ports.units.begin() as unit:
            table = unit.table(CDR_FORWARD)
            known = await table.get_for_update(from_party, to_party, cdr_id, digest)
            if known is None or known.outcome is ForwardOutcome.DELIVERED:
                return
            now = self._ports.clock.now()
            await table.put(replace(known, outcome=outcome, status_code=status_code, last_at=now))
            await unit.commit()
