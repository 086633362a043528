"""What stations tell goes to whoever keeps it, once; of a party that is not hosted here, nothing is kept."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from emobility.domain.personal import Sealed, SubjectErased
from emobility.events.charging import DataTransferred, SecurityEventReported
from emobility.events.event import Envelope
from emobility.events.station_told import (
    BatterySwapReported,
    CustomerInformationReported,
    DERAlarmReported,
    DERControlsReported,
    DERControlSwitched,
    DisplayMessagesReported,
    EventStreamClosed,
    EventStreamOpened,
    EventStreamReported,
    MonitoredEventsReported,
    StationCostCalculated,
    StationTold,
    TerminalPaymentReported,
    WebPaymentStarted,
)
from emobility.ports.station_questions import ReceiptAnswer, ReceiptQuestion, VATNumberAnswer, VATNumberQuestion
from emobility.ports.unit_of_work import Novelty, UnitOfWork
from emobility.protocols.station_control.told import payload_of
from services.charging_operations.battery_swaps import BatterySwapDesk
from services.charging_operations.der_controls import DERDesk
from services.charging_operations.display_messages import DisplayDesk
from services.charging_operations.event_streams import EventStreamDesk
from services.charging_operations.office import GROUP, Office
from services.charging_operations.records import CPO
from services.charging_operations.running_costs import RunningCostDesk
from services.charging_operations.security_events import SecurityDesk
from services.charging_operations.station_messages import MessageDesk
from services.charging_operations.station_tariffs import StationTariffDesk
from services.charging_operations.terminal_payments import TerminalPaymentDesk
from services.charging_operations.told_retention import forget_old
from services.charging_operations.vat_numbers import VATNumberDesk
from services.charging_operations.wanted_settings import WantedDesk

ToldEvent: TypeAlias = StationTold | SecurityEventReported | DataTransferred
KeepFact: TypeAlias = Callable[[UnitOfWork, Envelope, Any], Awaitable[None]]
KeepPayload: TypeAlias = Callable[[UnitOfWork, Envelope, Any, dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldDesk:
    """All desks that keep what stations tell."""

    office: Office
    vat_numbers: VATNumberDesk
    swaps: BatterySwapDesk
    der: DERDesk
    tariffs: StationTariffDesk
    costs: RunningCostDesk
    payments: TerminalPaymentDesk
    streams: EventStreamDesk
    security: SecurityDesk
    messages: MessageDesk
    displays: DisplayDesk

    # The gateway's questions

    async def check_vat_number(self, question: VATNumberQuestion) -> VATNumberAnswer:
        """Judge a VAT number."""
        return await self.vat_numbers.check(question)

    async def receipt_of(self, question: ReceiptQuestion) -> ReceiptAnswer:
        """Return the receipt of a payment."""
        return await self.payments.receipt_of(question)

    async def sweep(self) -> None:
        """Give up waiting for what is overdue, and drop what is too old."""
        await self.swaps.give_up_waiting()
        await forget_old(self.office)

    # What stations tell

    async def take(self, unit: UnitOfWork, envelope: Envelope, event: ToldEvent) -> None:
        """Keep what a station told."""
        if await unit.table(CPO).get(event.party_id) is None:
            return
        if await unit.novelty(GROUP, envelope) is not Novelty.NEW:  # its key is its content, so it is the same
            return
        if type(event) in self._facts:
            await self._facts[type(event)](unit, envelope, event)
            return
        payload = await self._opened(event.payload) if isinstance(event, StationTold) else None
        if payload is not None:
            await self._payloads[type(event)](unit, envelope, event, payload)

    @property
    def _facts(self) -> Mapping[type[Any], KeepFact]:
        """Whose fields say all that is kept."""
        return {
            BatterySwapReported: self.swaps.take,
            DERAlarmReported: self.der.take_alarm,
            DERControlSwitched: self.der.take_switch,
            TerminalPaymentReported: self.payments.take_payment,
            WebPaymentStarted: self.payments.take_web_payment,
            StationCostCalculated: self.costs.take,
            EventStreamClosed: self.streams.take_closed,
            SecurityEventReported: self.security.take,
            DataTransferred: self.messages.take_data,
        }

    @property
    def _payloads(self) -> Mapping[type[Any], KeepPayload]:
        """Whose payload has to be read."""
        return {
            DERControlsReported: self.der.take_controls,
            EventStreamOpened: self.streams.take_opened,
            EventStreamReported: self.streams.take_values,
            MonitoredEventsReported: self.messages.take_events,
            CustomerInformationReported: self.messages.take_customer,
            DisplayMessagesReported: self.displays.take,
        }

    async def _opened(self, payload: Sealed | None) -> Any:
        """Return a payload; None: whom it names was erased."""
        if payload is None:
            return None
        try:
            return payload_of(await self.office.ports.vault.open(payload))
        except SubjectErased:
            return None


def told_desk(office: Office, vat_numbers: VATNumberDesk) -> ToldDesk:
    """Build the desks."""
    wanted = WantedDesk(office=office)
    return ToldDesk(
        office=office,
        vat_numbers=vat_numbers,
        swaps=BatterySwapDesk(office=office),
        der=DERDesk(office=office, wanted=wanted),
        tariffs=StationTariffDesk(office=office, wanted=wanted),
        costs=RunningCostDesk(office=office),
        payments=TerminalPaymentDesk(office=office),
        streams=EventStreamDesk(office=office),
        security=SecurityDesk(office=office),
        messages=MessageDesk(office=office),
        displays=DisplayDesk(office=office, wanted=wanted),
    )
