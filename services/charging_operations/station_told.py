"""What stations tell goes to whoever keeps it, once; of a party that is not hosted here, nothing is kept."""

from __future__ import annotations

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
from services.charging_operations.vat_numbers import VATNumberDesk
from services.charging_operations.wanted_settings import WantedDesk

ToldEvent: TypeAlias = StationTold | SecurityEventReported | DataTransferred


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

    async def take(self, unit: UnitOfWork, envelope: Envelope, event: ToldEvent) -> None:
        """Keep what a station told."""
        if await unit.table(CPO).get(event.party_id) is None:
            return
        if await unit.novelty(GROUP, envelope) is not Novelty.NEW:  # its key is its content, so it is the same
            return
        match event:
            case BatterySwapReported():
                await self.swaps.take(unit, envelope, event)
            case DERAlarmReported():
                await self.der.take_alarm(unit, envelope, event)
            case DERControlSwitched():
                await self.der.take_switch(unit, envelope, event)
            case TerminalPaymentReported():
                await self.payments.take_payment(unit, envelope, event)
            case WebPaymentStarted():
                await self.payments.take_web_payment(unit, envelope, event)
            case EventStreamClosed():
                await self.streams.take_closed(unit, envelope, event)
            case SecurityEventReported():
                await self.security.take(unit, envelope, event)
            case DataTransferred():
                await self.messages.take_data(unit, envelope, event)
            case StationCostCalculated():
                await self.costs.take(unit, event, await self._opened(event.payload))
            case StationTold():
                payload = await self._opened(event.payload)
                if payload is not None:
                    await self._take_payload(unit, envelope, event, payload)

    async def _take_payload(
        self, unit: UnitOfWork, envelope: Envelope, event: StationTold, payload: dict[str, Any]
    ) -> None:
        match event:
            case DERControlsReported():
                await self.der.take_controls(unit, envelope, event, payload)
            case EventStreamOpened():
                await self.streams.take_opened(unit, envelope, event, payload)
            case EventStreamReported():
                await self.streams.take_values(unit, envelope, event, payload)
            case MonitoredEventsReported():
                await self.messages.take_events(unit, envelope, event, payload)
            case CustomerInformationReported():
                await self.messages.take_customer(unit, envelope, event, payload)
            case DisplayMessagesReported():
                await self.displays.take(unit, envelope, event, payload)
            case _:
                raise AssertionError(f"nobody keeps {event.wire_name}")

    async def _opened(self, payload: Sealed | None) -> Any:
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
