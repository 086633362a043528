"""Does what ad hoc sales ask for: holds, starts, stops, captures and releases, outside any unit of work.

The provider is asked under one idempotency key per sale and step, again and again with growing pauses until it
answers. A start is entered before it is sent, so that after a crash nothing starts twice: what was sent and never
began gives its hold up when its time is over.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from emobility.domain.errors import RuleBroken, Unavailable
from emobility.domain.money import Money
from emobility.ports.payments import PaymentDeclined
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.station_control.client import GatewayUnavailable
from emobility.protocols.station_control.messages import (
    CommandOutcome,
    CommandResult,
    StartTransaction,
    StationCommand,
    StopTransaction,
)
from emobility.runtime.backlog import Backlog
from services.charging_operations.ad_hoc_ledger import EntryKind, enter_for_sale
from services.charging_operations.ad_hoc_records import (
    AD_HOC_SALE,
    ASKED,
    AdHocSaleRecord,
    SaleState,
    next_invoice_number,
)
from services.charging_operations.ad_hoc_sales import AdHocDesk, refunding, remote_start_id
from services.charging_operations.office import Office, short_hash
from services.charging_operations.terminal_advices import CONFIRMED_WITHIN, end_unconfirmed

WATCH_INTERVAL: Final = timedelta(seconds=10)
AT_ONCE: Final = 8
ROWS_AT_ONCE: Final = 256
IDLE_S_MAX: Final = 5.0
PAUSE_S_MIN: Final = 0.2
PAUSE_S_MAX: Final = 30.0
STOP_AGAIN: Final = timedelta(minutes=1)
"""A charge that runs on after its stop was asked for is stopped again."""
_REFUSALS: Final = (
    CommandResult.REJECTED,
    CommandResult.NOT_SUPPORTED,
    CommandResult.STATION_OFFLINE,
    CommandResult.MALFORMED,
)

_log: Final = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class AdHocWorker:
    """Works through the sales of all CPOs hosted here; two workers on one sale do no harm."""

    office: Office
    desk: AdHocDesk
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _backlog: Backlog = field(init=False)
    _silences: dict[str, int] = field(default_factory=dict)
    _not_before_s: dict[str, float] = field(default_factory=dict)
    _stopped_at: dict[str, datetime] = field(default_factory=dict)

    def __post_init__(self) -> None:
        units = self.office.ports.units
        self._backlog = Backlog(units, AD_HOC_SALE, {"state": ASKED})
        units.on_change(AD_HOC_SALE, self._woken.set)

    async def pending(self) -> int:
        """Count sales that wait for an answer of the provider or of a station."""
        return await self._backlog.count()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set."""
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: self._woken.set())
        while not stop.is_set():
            self._woken.clear()
            try:
                await self.work_once()
            except Unavailable as error:
                _log.warning("ad_hoc_round_failed", reason=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._idle_s()):
                    await self._woken.wait()

    def _idle_s(self) -> float:
        now_s = self.office.ports.timer.monotonic_s()
        return max(0.0, min([IDLE_S_MAX, *(due_s - now_s for due_s in self._not_before_s.values())]))

    async def work_once(self) -> None:
        """Take one step of every sale that is due one."""
        async with self.office.ports.units.begin() as unit:
            table = unit.table(AD_HOC_SALE)
            asked = await table.select({"state": ASKED}, order_by=("made_at",), limit=ROWS_AT_ONCE)
            running = await table.select({"state": SaleState.RUNNING}, order_by=("made_at",), limit=ROWS_AT_ONCE)
        now_s = self.office.ports.timer.monotonic_s()
        self._not_before_s = {key: at_s for key, at_s in self._not_before_s.items() if at_s > now_s}
        due = [sale for sale in asked if sale.sale_id not in self._not_before_s]
        due += [sale for sale in running if self._is_stop_due(sale)]
        for first in range(0, len(due), AT_ONCE):
            await asyncio.gather(*map(self._step, due[first : first + AT_ONCE]))

    async def watch(self) -> None:
        """Give up what nobody plugged in for or confirmed, and look at what runs: stations may be silent."""
        async with self.office.ports.units.begin() as unit:
            table = unit.table(AD_HOC_SALE)
            late = await table.select({"state": SaleState.STARTING}, before=("start_until", self.office.now()))
            running = await table.select({"state": SaleState.RUNNING})
            unconfirmed = await table.select(
                {"state": SaleState.CONFIRMING},
                before=("ended_at", self.office.now() - CONFIRMED_WITHIN),
                order_by=("made_at",),
                limit=ROWS_AT_ONCE,
            )
        for sale in late:
            await self._give_up(sale, "nobody plugged in in time")
        for sale in unconfirmed:
            async with self.office.ports.units.begin() as unit:
                await end_unconfirmed(self.office, unit, sale)
                await unit.commit()
        for sale in running:
            async with self.office.ports.units.begin() as unit:
                await self.desk.guard(unit, sale)
                await unit.commit()
        self._woken.set()

    def _is_stop_due(self, sale: AdHocSaleRecord) -> bool:
        if sale.stop_asked_at is None:
            return False
        last = self._stopped_at.get(sale.sale_id)
        return last is None or self.office.now() - last >= STOP_AGAIN

    async def _step(self, sale: AdHocSaleRecord) -> None:
        """One step; a sale that breaks something is put off, and no other waits for it."""
        try:
            await self._steps[sale.state](sale)
        except Unavailable as error:
            self._put_off(sale, str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, other drivers' money goes on
            _log.exception("ad_hoc_step_failed", sale_id=sale.sale_id, state=sale.state.value)
            self._put_off(sale, repr(error))
        else:
            self._silences.pop(sale.sale_id, None)

    def _put_off(self, sale: AdHocSaleRecord, reason: str) -> None:
        silences = self._silences[sale.sale_id] = self._silences.get(sale.sale_id, 0) + 1
        pause_s = min(PAUSE_S_MIN * 2 ** min(silences - 1, 16), PAUSE_S_MAX)
        self._not_before_s[sale.sale_id] = self.office.ports.timer.monotonic_s() + pause_s
        _log.warning("ad_hoc_sale_waits", correlation_id=sale.correlation_id, silences=silences, reason=reason)

    @property
    def _steps(self) -> dict[SaleState, Callable[[AdHocSaleRecord], Awaitable[None]]]:
        return {
            SaleState.HOLDING: self._hold,
            SaleState.HELD: self._start,
            SaleState.RUNNING: self._stop,
            SaleState.CAPTURING: self._capture,
            SaleState.RELEASING: self._release,
            SaleState.REFUNDING: self._refund,
        }

    # Money

    async def _hold(self, sale: AdHocSaleRecord) -> None:
        assert sale.card is not None
        card = await self.office.ports.vault.open(sale.card)
        amount = Money(amount_e4=sale.held_e4, currency=sale.currency)
        try:
            hold = await self.office.ports.payments.authorize(card, amount, idempotency_key=payment_key(sale, "hold"))
        except PaymentDeclined as refusal:
            await self._enter(sale, state=SaleState.DECLINED, failure=refusal.code, card=None)
            return
        await self._enter(sale, state=SaleState.HELD, payment_id=hold.payment_id, card=None)

    async def _capture(self, sale: AdHocSaleRecord) -> None:
        assert sale.payment_id is not None
        # A late report may have made it cheaper: the same is asked for under the same key, and the rest given back.
        taken_e4 = sale.capture_e4 + sale.refund_e4
        amount = Money(amount_e4=taken_e4, currency=sale.currency)
        payments = self.office.ports.payments
        try:
            await payments.capture(sale.payment_id, amount, idempotency_key=payment_key(sale, "take"))
        except PaymentDeclined as refusal:
            # A hold that can't be captured must not block the driver's card.
            await payments.release(sale.payment_id, idempotency_key=payment_key(sale, "release"))
            await self._enter(sale, state=SaleState.UNCOLLECTED, failure=refusal.code, refund_e4=0)
            return
        await self._enter(sale, state=SaleState.CAPTURED)

    async def _refund(self, sale: AdHocSaleRecord) -> None:
        assert sale.payment_id is not None
        refunded_e4 = sale.refunded_e4 + sale.refunding_e4
        amount = Money(amount_e4=sale.refunding_e4, currency=sale.currency)
        key = payment_key(sale, f"refund/{refunded_e4}")
        await self.office.ports.payments.refund(sale.payment_id, amount, idempotency_key=key)
        await self._enter(sale, state=SaleState.CAPTURED, refunded_e4=refunded_e4, refunding_e4=0)

    async def _book(self, unit: UnitOfWork, sale: AdHocSaleRecord, kind: EntryKind, step: str, amount_e4: int) -> None:
        entry_id = f"sale/{short_hash(sale.sale_id)}/{step}"
        await enter_for_sale(unit, sale, entry_id, kind=kind, amount_e4=amount_e4, at=self.office.now())

    async def _release(self, sale: AdHocSaleRecord) -> None:
        assert sale.payment_id is not None
        await self.office.ports.payments.release(sale.payment_id, idempotency_key=payment_key(sale, "release"))
        await self._enter(sale, state=SaleState.RELEASED)

    async def _enter(self, sale: AdHocSaleRecord, **changes: Any) -> None:
        """Enter an answer, once: where another worker was first, its word stands."""
        async with self.office.ports.units.begin() as unit:
            current = await unit.table(AD_HOC_SALE).get_for_update(sale.party_id, sale.sale_id)
            if current is None or (current.state, current.refunded_e4) != (sale.state, sale.refunded_e4):
                return
            changed = replace(current, **changes)
            if changed.state not in (*ASKED, SaleState.STARTING, SaleState.RUNNING):
                changed = replace(changed, finished_at=self.office.now())
            if changed.state is SaleState.CAPTURED and sale.state is SaleState.CAPTURING:
                changed = replace(changed, invoice_number=await next_invoice_number(unit, sale.party_id))
                await self._book(unit, changed, EntryKind.TAKEN, "take", changed.capture_e4 + changed.refund_e4)
            elif sale.state is SaleState.REFUNDING:
                given_e4 = changed.refunded_e4 - current.refunded_e4
                await self._book(unit, changed, EntryKind.GIVEN_BACK, f"refund/{changed.refunded_e4}", given_e4)
            if changed.state is SaleState.CAPTURED and changed.refund_e4 > changed.refunded_e4:
                changed = replace(refunding(changed), finished_at=None)
            await unit.table(AD_HOC_SALE).put(changed)
            await unit.commit()

    # The station

    async def _start(self, sale: AdHocSaleRecord) -> None:
        if self.office.now() > sale.start_until:
            await self._give_up(sale, "the provider answered too late")
            return
        async with self.office.ports.units.begin() as unit:
            current = await unit.table(AD_HOC_SALE).get_for_update(sale.party_id, sale.sale_id)
            if current is None or current.state is not SaleState.HELD:
                return
            await self.desk.authorize(unit, current)
            sent = replace(current, state=SaleState.STARTING)
            await unit.table(AD_HOC_SALE).put(sent)
            await unit.commit()
        start = StartTransaction(
            id_token=await self.office.ports.vault.open(sale.uid),
            ocpp_evse_id=sale.ocpp_evse_id,
            connector_id=sale.connector_id,
            remote_start_id=remote_start_id(sale),
        )
        outcome = await self._command(sale, start_transaction=start)
        if outcome.result in _REFUSALS:
            await self._give_up(sent, f"the charging point did not start: {outcome.result.value}")

    async def _stop(self, sale: AdHocSaleRecord) -> None:
        self._stopped_at[sale.sale_id] = self.office.now()
        stop = StopTransaction(transaction_id=sale.transaction_id or "")
        await self._command(sale, stop_transaction=stop)

    async def _command(self, sale: AdHocSaleRecord, **what: Any) -> CommandOutcome:
        """Ask the station; what did not answer may have done it all the same."""
        command = StationCommand(
            correlation_id=sale.correlation_id, timeout_s=self.office.limits.command_timeout_s, **what
        )
        try:
            return await self.office.stations.command(sale.party_id, sale.charging_station_id, command)
        except GatewayUnavailable:
            return CommandOutcome(result=CommandResult.TIMED_OUT)
        except RuleBroken as error:
            _log.warning("ad_hoc_command_refused", correlation_id=sale.correlation_id, reason=str(error))
            return CommandOutcome(result=CommandResult.REJECTED)

    async def _give_up(self, sale: AdHocSaleRecord, failure: str) -> None:
        async with self.office.ports.units.begin() as unit:
            current = await unit.table(AD_HOC_SALE).get_for_update(sale.party_id, sale.sale_id)
            if current is not None and current.state is sale.state and current.transaction_id is None:
                await self.desk.give_up(unit, current, failure=failure)
                await unit.commit()


def payment_key(sale: AdHocSaleRecord, step: str) -> str:
    """Return the idempotency key of a step: the same however often it is asked."""
    return f"ad-hoc/{sale.party_id}/{sale.sale_id}/{step}"
