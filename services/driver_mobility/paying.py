"""Carry out payment orders: ask the provider outside any unit, then enter its answer, once, however often it is asked.

An order that the provider does not answer is asked again under the same idempotency key, with growing pauses; one it
refuses stays FAILED, and the bill outstanding, until the driver gives another card.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

import structlog

from emobility.domain.errors import RuleBroken, Unavailable
from emobility.domain.identifiers import PartyId
from emobility.domain.money import Money
from emobility.domain.personal import Sealed
from emobility.domain.retail_account import settle, withdraw_demand
from emobility.events.retail import PaymentFailed, PaymentSettled
from emobility.ports.payments import IdempotencyKeyReused, PaymentDeclined, PaymentProviderUnavailable, UnknownPayment
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from emobility.runtime.backlog import Backlog
from emobility.runtime.telemetry import Metrics
from services.driver_mobility.billing import ask_for_rest, refund_credited
from services.driver_mobility.facts import fact
from services.driver_mobility.quoting import account_for_update, card_of, hold_key
from services.driver_mobility.records import (
    ACCOUNT,
    BILL,
    DRIVER,
    PAYMENT_ORDER,
    QUOTE,
    PaymentKind,
    PaymentOrder,
    PaymentState,
)

ORDERS_AT_ONCE: Final = 4
ROWS_AT_ONCE: Final = 64
IDLE_S_MAX: Final = 2.0
"""How soon the worker looks without being told: for what another process ordered."""
PAUSE_S_MIN: Final = 0.2
PAUSE_S_MAX: Final = 30.0

_log = structlog.get_logger(__name__)


class PaymentWorker:
    """Works through PENDING orders of all MSPs hosted here; two workers on one order do no harm."""

    def __init__(self, ports: Ports, metrics: Metrics) -> None:
        self._ports = ports
        self._answers = metrics.counter(
            "payment_orders_total", "Answers of the payment provider, by kind of order and result.", ("kind", "result")
        )
        self._woken = asyncio.Event()
        ports.units.on_change(PAYMENT_ORDER, self._woken.set)
        self._backlog = Backlog(ports.units, PAYMENT_ORDER, {"state": PaymentState.PENDING})
        self._silences: dict[str, int] = {}
        self._not_before_s: dict[str, float] = {}
        self._acts: dict[PaymentKind, Callable[[PaymentOrder], Awaitable[str | None]]] = {
            PaymentKind.CAPTURE: self._capture,
            PaymentKind.CHARGE: self._charge,
            PaymentKind.RELEASE: self._release,
            PaymentKind.REFUND: self._refund,
        }

    async def run(self, stop: asyncio.Event) -> None:
        """Carry out orders until `stop` is set."""
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: self._woken.set())
        while not stop.is_set():
            self._woken.clear()
            idle_s = IDLE_S_MAX
            try:
                if await self.work_once() == ROWS_AT_ONCE:
                    continue
                idle_s = self._idle_s()
            except Unavailable as error:
                _log.warning("payment_round_failed", reason=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(idle_s):
                    await self._woken.wait()

    def _idle_s(self) -> float:
        """Return for how long nothing is due unless told."""
        now_s = self._ports.timer.monotonic_s()
        return min([IDLE_S_MAX, *(due_s - now_s for due_s in self._not_before_s.values())])

    async def pending(self) -> int:
        """Count orders that were not answered yet."""
        return await self._backlog.count()

    async def work_once(self) -> int:
        """Carry out what is due now, at most `ROWS_AT_ONCE` orders; return how many."""
        due = await self._due()
        for first in range(0, len(due), ORDERS_AT_ONCE):
            await asyncio.gather(*map(self._carry_out, due[first : first + ORDERS_AT_ONCE]))
        return len(due)

    async def _due(self) -> list[PaymentOrder]:
        """Return orders to carry out, the oldest first, past all that are put off, however many those are."""
        due: list[PaymentOrder] = []
        now_s = self._ports.timer.monotonic_s()
        async with self._ports.units.begin() as unit:
            for offset in itertools.count(0, ROWS_AT_ONCE):
                page = await unit.table(PAYMENT_ORDER).select(
                    {"state": PaymentState.PENDING}, order_by=("ordered_at",), offset=offset, limit=ROWS_AT_ONCE
                )
                due += [order for order in page if self._not_before_s.get(order.order_id, 0.0) <= now_s]
                if len(page) < ROWS_AT_ONCE or len(due) >= ROWS_AT_ONCE:
                    break
        self._not_before_s = {order_id: at_s for order_id, at_s in self._not_before_s.items() if at_s > now_s}
        return due[:ROWS_AT_ONCE]

    async def _carry_out(self, order: PaymentOrder) -> None:
        """Ask and enter the answer; an order that breaks something is put off, and no other waits for it."""
        try:
            await self._ask(order)
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, other drivers' money goes on
            _log.exception("payment_order_failed", order_id=order.order_id, kind=order.kind.value)
            self._put_off(order, repr(error))

    async def _ask(self, order: PaymentOrder) -> None:
        try:
            payment_id = await self._acts[order.kind](order)
        except PaymentProviderUnavailable as error:
            self._count(order, "silent")
            self._put_off(order, str(error))
            return
        except IdempotencyKeyReused as error:
            # Something was asked under this key that we did not enter; it may have moved money, so it is no failure.
            self._count(order, "key_reused")
            self._put_off(order, str(error))
            _log.error("payment_key_reused", order_id=order.order_id, kind=order.kind.value, attempt=order.attempt)
            return
        except RuleBroken as refusal:
            code = refusal.code if isinstance(refusal, PaymentDeclined) else type(refusal).__name__
            self._count(order, "refused")
            await self._enter_failure(order, code)
        else:
            self._count(order, "done")
            await self._enter_success(order, payment_id)
        self._silences.pop(order.order_id, None)

    def _count(self, order: PaymentOrder, result: str) -> None:
        self._answers.labels(kind=order.kind.value, result=result).inc()

    def _put_off(self, order: PaymentOrder, reason: str) -> None:
        silences = self._silences[order.order_id] = self._silences.get(order.order_id, 0) + 1
        pause_s = min(PAUSE_S_MIN * 2 ** min(silences - 1, 16), PAUSE_S_MAX)
        self._not_before_s[order.order_id] = self._ports.timer.monotonic_s() + pause_s
        _log.warning("payment_provider_silent", order_id=order.order_id, silences=silences, reason=reason)

    # What is asked; each returns the payment's id, or None where there is no payment

    async def _capture(self, order: PaymentOrder) -> str | None:
        assert order.payment_id is not None
        await self._take(order, order.payment_id)
        return order.payment_id

    async def _take(self, order: PaymentOrder, payment_id: str) -> None:
        """Capture; a hold that can't be captured is given up, so that it does not block the driver's card."""
        try:
            await self._ports.payments.capture(payment_id, _money(order), idempotency_key=_key(order, "take"))
        except PaymentDeclined:
            await self._ports.payments.release(payment_id, idempotency_key=_key(order, "release"))
            raise

    async def _charge(self, order: PaymentOrder) -> str | None:
        if order.card is None:
            if order.payment_id is not None and await self._was_taken(order, order.payment_id):
                return order.payment_id
            order = await self._freeze(order)
        payment_id = order.payment_id
        if payment_id is None:
            card = await card_of(self._ports, order.card)
            hold = await self._ports.payments.authorize(card, _money(order), idempotency_key=order_hold_key(order))
            payment_id = hold.payment_id
            await self._change(order, payment_id=payment_id)
        await self._take(order, payment_id)
        return payment_id

    async def _was_taken(self, order: PaymentOrder, payment_id: str) -> bool:
        """Tell whether an earlier attempt took the money after all; give up what it still holds if it did not."""
        try:
            earlier = await self._ports.payments.find(payment_id)
        except UnknownPayment:
            return False
        if earlier.captured.amount_e4 - earlier.refunded.amount_e4 >= order.amount_e4:
            return True
        if earlier.is_open:
            await self._ports.payments.release(payment_id, idempotency_key=_key(order, "release-earlier"))
        return False

    async def _freeze(self, order: PaymentOrder) -> PaymentOrder:
        """Enter which card this attempt asks, before it is asked: asking again must be the same call."""
        async with self._ports.units.begin() as unit:
            driver = await unit.table(DRIVER).get(order.party_id, order.driver_id)
        card = order.kept_card if driver is None or driver.card is None else driver.card
        if card is None:
            raise PaymentDeclined(code="no_card")
        return await self._change(order, card=card, kept_card=None, payment_id=None)

    async def _change(self, order: PaymentOrder, **changes: Sealed | str | None) -> PaymentOrder:
        """Enter what this attempt asked or got; another worker may have been first, and then its word stands."""
        async with self._ports.units.begin() as unit:
            current = await unit.table(PAYMENT_ORDER).get_for_update(order.party_id, order.order_id)
            if current != order:
                raise PaymentProviderUnavailable("another worker is at this order")
            changed = replace(order, **changes)  # type: ignore[arg-type]  # two fields of two types, by name
            await unit.table(PAYMENT_ORDER).put(changed)
            await unit.commit()
        return changed

    async def _release(self, order: PaymentOrder) -> str | None:
        payment_id = order.payment_id or await self._held_under(order)
        if payment_id is not None:
            await self._ports.payments.release(payment_id, idempotency_key=_key(order, "release"))
        return payment_id

    async def _held_under(self, order: PaymentOrder) -> str | None:
        """Find a hold whose answer was never seen, by asking for it again under its key."""
        async with self._ports.units.begin() as unit:
            quote = await unit.table(QUOTE).get(order.party_id, order.quote_id)
        if quote is None:
            return None
        card = quote.hold_card or order.kept_card
        if card is None:
            return None
        amount_e4 = -(-quote.exposure_e4 // 100) * 100
        if amount_e4 == 0:
            return None
        try:
            hold = await self._ports.payments.authorize(
                await card_of(self._ports, card),
                Money(amount_e4=amount_e4, currency=order.currency),
                idempotency_key=hold_key(quote),
            )
        except PaymentDeclined:
            return None
        return hold.payment_id

    async def _refund(self, order: PaymentOrder) -> str | None:
        assert order.payment_id is not None
        await self._ports.payments.refund(order.payment_id, _money(order), idempotency_key=_key(order, "back"))
        return order.payment_id

    # What the answer changes

    async def _enter_success(self, order: PaymentOrder, payment_id: str | None) -> None:
        now = self._ports.clock.now()
        async with self._ports.units.begin() as unit:
            current = await self._pending(unit, order)
            if current is None:
                return
            await unit.table(PAYMENT_ORDER).put(
                replace(current, state=PaymentState.DONE, payment_id=payment_id, kept_card=None)
            )
            if current.kind is not PaymentKind.RELEASE and payment_id is not None:
                await self._settle(unit, current, payment_id)
                await self._refund_if_credited(unit, current)
            await unit.commit()
        _log.debug("payment_done", order_id=order.order_id, kind=order.kind.value, at=now.isoformat())

    async def _pending(self, unit: UnitOfWork, order: PaymentOrder) -> PaymentOrder | None:
        """Lock the account, then the order, as credits do, so that neither waits for the other for ever."""
        if order.bill_id is not None:
            await account_for_update(unit, order.party_id, order.driver_id, order.currency)
        current = await unit.table(PAYMENT_ORDER).get_for_update(order.party_id, order.order_id)
        return current if current is not None and current.state is PaymentState.PENDING else None

    async def _settle(self, unit: UnitOfWork, order: PaymentOrder, payment_id: str) -> None:
        assert order.bill_id is not None
        amount_e4 = -order.amount_e4 if order.kind is PaymentKind.REFUND else order.amount_e4
        account = await account_for_update(unit, order.party_id, order.driver_id, order.currency)
        await unit.table(ACCOUNT).put(settle(account, amount_e4=amount_e4, currency=order.currency))
        now = self._ports.clock.now()
        event = PaymentSettled(
            emsp_id=order.party_id,
            driver_id=order.driver_id,
            bill_id=order.bill_id,
            payment_id=payment_id,
            amount_e4=amount_e4,
            currency=order.currency,
            settled_at=now,
        )
        parts = (order.party_id.code, order.order_id, str(order.attempt))
        unit.emit(fact(event, *parts, correlation_id=order.bill_id, at=now))

    async def _refund_if_credited(self, unit: UnitOfWork, order: PaymentOrder) -> None:
        """The bill was credited while its payment was under way: what was taken goes back."""
        if order.kind is PaymentKind.REFUND:
            return
        bill = await unit.table(BILL).get(order.party_id, order.bill_id)
        if bill is not None and bill.credited_incl_e4:
            await refund_credited(unit, bill, at=self._ports.clock.now())

    async def _enter_failure(self, order: PaymentOrder, code: str) -> None:
        now = self._ports.clock.now()
        async with self._ports.units.begin() as unit:
            current = await self._pending(unit, order)
            if current is None:
                return
            bill = None if order.bill_id is None else await unit.table(BILL).get(order.party_id, order.bill_id)
            failed = replace(current, state=PaymentState.FAILED, failure=code, kept_card=None)
            if bill is not None and bill.credited_incl_e4 and order.kind is not PaymentKind.REFUND:
                failed = replace(failed, state=PaymentState.WITHDRAWN)
                account = await account_for_update(unit, order.party_id, order.driver_id, order.currency)
                account = withdraw_demand(account, amount_e4=order.amount_e4, currency=order.currency)
                await unit.table(ACCOUNT).put(account)
                await ask_for_rest(unit, bill, at=now)
            await unit.table(PAYMENT_ORDER).put(failed)
            if order.bill_id is not None:
                event = PaymentFailed(
                    emsp_id=order.party_id,
                    driver_id=order.driver_id,
                    bill_id=order.bill_id,
                    reason=code,
                    failed_at=now,
                )
                parts = (order.party_id.code, order.order_id, str(order.attempt))
                unit.emit(fact(event, *parts, correlation_id=order.bill_id, at=now))
            await unit.commit()
        _log.warning("payment_refused", order_id=order.order_id, kind=order.kind.value, code=code)


async def try_failed_again(unit: UnitOfWork, emsp_id: PartyId, driver_id: str) -> int:
    """Ask the driver's card, perhaps a new one, for what failed; return how many orders are tried again.

    A credit may withdraw an order at this very moment, and holds the account while it does: so does this, and looks
    again. A bill that was credited is not asked for any more.
    """
    orders = unit.table(PAYMENT_ORDER)
    seen = await orders.select({"party_id": emsp_id, "driver_id": driver_id, "state": PaymentState.FAILED})
    for currency in sorted({order.currency for order in seen}):
        await account_for_update(unit, emsp_id, driver_id, currency)
    again = 0
    for each in seen:
        order = await orders.get_for_update(emsp_id, each.order_id)
        if order is None or order.state is not PaymentState.FAILED:
            continue
        collects = order.kind in {PaymentKind.CAPTURE, PaymentKind.CHARGE}
        bill = None if order.bill_id is None else await unit.table(BILL).get(emsp_id, order.bill_id)
        if collects and bill is not None and bill.credited_incl_e4:
            continue
        await orders.put(
            replace(
                order,
                kind=PaymentKind.CHARGE if collects else order.kind,
                card=None,
                state=PaymentState.PENDING,
                attempt=order.attempt + 1,
                failure=None,
            )
        )
        again += 1
    return again


def order_hold_key(order: PaymentOrder) -> str:
    """Return the idempotency key of the hold that this attempt of a CHARGE asks for."""
    return _key(order, "hold")


def _money(order: PaymentOrder) -> Money:
    return Money(amount_e4=order.amount_e4, currency=order.currency)


def _key(order: PaymentOrder, step: str) -> str:
    return f"{order.party_id}/{order.order_id}/{order.attempt}/{step}"
