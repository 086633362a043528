"""Between parties of different versions of OCPI: each hears its own, and whoever sent is told what was lost.

`emobility/protocols/ocpi/bridging` knows how; this step says from which version to which, puts what was lost in headers
of the answer, and keeps it in `hub_bridge_loss` for the operator: pointers and hashes, never a value (decision 17).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final

from emobility.ports.http import HttpResponse
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi.bridging import (
    ANSWER_LOSSES_HEADER,
    LOSSES_HEADER,
    Loss,
    NotBridgeable,
    Way,
    bridge,
    losses_header,
    query_in,
)
from emobility.protocols.ocpi.client import Envelope
from emobility.protocols.ocpi.status import OCPIError, StatusCode
from emobility.protocols.ocpi.v221 import InterfaceRole, ModuleID, NotAnOCPIObject, NotJSON, read
from roaming_hub.forwards import body_sha256
from roaming_hub.messages import Message
from roaming_hub.recording import Row
from roaming_hub.records import BRIDGE_LOSS, BridgeLoss
from roaming_hub.steps import Outcome, Step

LOSS_AGE: Final = timedelta(days=400)
"""How long a report is kept: a year's statements and the time to dispute them."""
PURGE_ROWS: Final = 1_000


class BridgeStep(Step):
    """See the module's docstring."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._answered: dict[str, tuple[bytes, tuple[Loss, ...]]] = {}
        """Message id → the receiver's body and what it lost, from `returning` to `ended`."""

    async def outgoing(self, message: Message) -> Message:
        """Say the body as the receiver's version does. Raises `NotBridgeable`."""
        from_version, to_version = message.incoming.version, message.receiver.version
        if from_version == to_version:
            return message
        way = _way(message)
        bridged = bridge(message.body, way, from_version=from_version, to_version=to_version)
        url, mark, query = message.url.partition("?")
        query = query_in(query, way, to_version)
        return replace(
            message, body=bridged.body, url=f"{url}?{query}" if mark and query else url, losses=bridged.losses
        )

    async def returning(self, message: Message, answer: HttpResponse) -> HttpResponse:
        """Say the answer as the sender's version does. Raises `OCPIError` S 4000 where that can't be said."""
        from_version, to_version = message.receiver.version, message.incoming.version
        if from_version == to_version:
            return answer
        way = _way(message, answer)
        try:
            bridged = bridge(answer.body, way, from_version=from_version, to_version=to_version)
        except NotBridgeable as error:
            raise OCPIError(StatusCode.HUB_ERROR, f"the answer came, but {error.message}") from error
        if bridged.losses:
            self._answered[message.message_id] = (answer.body, bridged.losses)
        told = {}
        if message.losses:
            told[LOSSES_HEADER.lower()] = losses_header(message.losses)
        if bridged.losses:
            told[ANSWER_LOSSES_HEADER.lower()] = losses_header(bridged.losses)
        return replace(answer, body=bridged.body, headers={**answer.headers, **told})

    async def ended(self, message: Message, outcome: Outcome) -> Sequence[Row]:
        """Keep what was lost on the way there, and on the way back."""
        del outcome
        rows: list[Row] = []
        if message.losses:
            rows.append((BRIDGE_LOSS, self._report(message, message.incoming.body, message.losses, is_answer=False)))
        answered = self._answered.pop(message.message_id, None)
        if answered is not None:
            rows.append((BRIDGE_LOSS, self._report(message, *answered, is_answer=True)))
        return rows

    async def purge(self, unit: UnitOfWork) -> int:
        """Drop old reports, at most `PURGE_ROWS`; return how many."""
        old = await unit.table(BRIDGE_LOSS).select(before=("at", self._ports.clock.now() - LOSS_AGE), limit=PURGE_ROWS)
        for each in old:
            await unit.table(BRIDGE_LOSS).delete(each.loss_id)
        return len(old)

    def _report(self, message: Message, body: bytes, losses: Sequence[Loss], *, is_answer: bool) -> BridgeLoss:
        there = (message.incoming.version, message.receiver.version)
        from_version, to_version = reversed(there) if is_answer else there
        return BridgeLoss(
            loss_id=self._ports.randomness.uuid(),
            correlation_id=message.ids.correlation_id,
            from_party=message.receiver_party if is_answer else message.sender_party,
            to_party=message.sender_party if is_answer else message.receiver_party,
            module=message.module,
            method=message.method,
            is_answer=is_answer,
            from_version=from_version,
            to_version=to_version,
            body_sha256=body_sha256(body),
            concerns_money=any(loss.concerns_money for loss in losses),
            losses=tuple(losses),
            at=self._ports.clock.now(),
        )


def _way(message: Message, answer: HttpResponse | None = None) -> Way:
    incoming = message.incoming
    return Way(
        module=message.module,
        side=incoming.side or _side_behind(message, answer),
        method=message.method,
        path=incoming.rest,
        is_answer=answer is not None,
        caller=message.sender_party,
        callee=message.receiver_party,
    )


def _side_behind(message: Message, answer: HttpResponse | None) -> InterfaceRole:
    """Return which interface a URL of the hub leads to: pages and results are of senders, a CDR is at its receiver."""
    if message.module != ModuleID.CDRS or answer is None:
        return InterfaceRole.SENDER
    try:
        is_list = bytes(read(answer.body, Envelope).data).lstrip().startswith(b"[")
    except (NotJSON, NotAnOCPIObject):
        is_list = False
    return InterfaceRole.SENDER if is_list else InterfaceRole.RECEIVER
