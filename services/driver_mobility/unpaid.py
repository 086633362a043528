"""A payment that failed blocks its driver's tokens, new ones too, until it is paid; paying unblocks them.

Follows what payments came to (topic `retail`), and decides by the orders as they stand then, so what comes late or
twice changes nothing. A token that its operator touched meanwhile is left as the operator wants it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from emobility.domain.identifiers import PartyId
from emobility.events.event import LoggedEvent
from emobility.events.retail import RETAIL, PaymentFailed, PaymentSettled, RetailCredited
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi.deliveries import Deliveries
from services.driver_mobility.invoice_records import UNPAID_BLOCK, UnpaidBlock
from services.driver_mobility.pages import every
from services.driver_mobility.records import (
    DRIVER,
    PAYMENT_ORDER,
    TOKEN,
    DriverToken,
    PaymentKind,
    PaymentOrder,
    PaymentState,
)
from services.driver_mobility.tokens import Tokens

GROUP: Final = "driver_mobility_unpaid"
_COLLECTS: Final = (PaymentKind.CAPTURE, PaymentKind.CHARGE)


class UnpaidBlocks:
    """Blocks and unblocks."""

    def __init__(self, ports: Ports, deliveries: Deliveries, tokens: Tokens) -> None:
        self._ports = ports
        self._deliveries = deliveries
        self._tokens = tokens

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop` is set."""
        await self._ports.event_log.consume(GROUP, [RETAIL], self.handle, stop=stop)

    async def handle(self, unit: UnitOfWork, batch: Sequence[LoggedEvent]) -> None:
        """Look at every driver whose payments moved."""
        concerned: dict[tuple[PartyId, str], str] = {}
        for logged in batch:
            event = logged.envelope.event
            if isinstance(event, PaymentFailed | PaymentSettled | RetailCredited):
                concerned[event.emsp_id, event.driver_id] = logged.envelope.correlation_id
        for (emsp_id, driver_id), correlation_id in sorted(concerned.items()):
            await self._judge(unit, emsp_id, driver_id, correlation_id)

    async def _judge(self, unit: UnitOfWork, emsp_id: PartyId, driver_id: str, correlation_id: str) -> None:
        driver = await unit.table(DRIVER).get_for_update(emsp_id, driver_id)
        block = await unit.table(UNPAID_BLOCK).get(emsp_id, driver_id)
        orders = await every(unit, PAYMENT_ORDER, {"party_id": emsp_id, "driver_id": driver_id, "kind": _COLLECTS})
        has_failed = any(order.state is PaymentState.FAILED for order in orders)
        if block is None and has_failed and driver is not None:
            tokens = await every(unit, TOKEN, {"party_id": emsp_id, "driver_id": driver_id, "is_valid": True})
            subjects = tuple(sorted(token.token_subject for token in tokens))
            now = self._ports.clock.now()
            await unit.table(UNPAID_BLOCK).put(
                UnpaidBlock(party_id=emsp_id, driver_id=driver_id, token_subjects=subjects, blocked_at=now)
            )
            for token in tokens:
                await self._tell(unit, token, correlation_id, is_valid=False, at=now)
        elif block is not None and not has_failed and not any(map(_is_tried_again, orders)):
            await unit.table(UNPAID_BLOCK).delete(emsp_id, driver_id)
            for subject in block.token_subjects:
                known = await unit.table(TOKEN).get_for_update(emsp_id, subject)
                if known is not None and known.last_updated == block.blocked_at:
                    await self._tell(unit, known, correlation_id, is_valid=True, at=self._ports.clock.now())

    async def _tell(
        self, unit: UnitOfWork, token: DriverToken, correlation_id: str, *, is_valid: bool, at: datetime
    ) -> None:
        changed = replace(token, is_valid=is_valid, last_updated=at)
        await unit.table(TOKEN).put(changed)
        await self._tokens.push_to_all(unit, self._deliveries, changed, correlation_id=correlation_id)


def _is_tried_again(order: PaymentOrder) -> bool:
    """Whether a payment that failed is under way again: a new card alone pays nothing."""
    return order.state is PaymentState.PENDING and order.attempt > 1
