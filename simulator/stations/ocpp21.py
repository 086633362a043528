"""A station that speaks OCPP 2.1: all of 2.0.1, and batteries, vehicles that give back, tariffs, DER, streams.

Its transactions are those of 2.0.1; what is new in their events is the operation mode, the tariff and its costs, and
the register of the energy that came back.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from simulator.stations.ad_hoc_payment import AdHocPayment
from simulator.stations.battery_swap import BatterySwap
from simulator.stations.calls import Payload
from simulator.stations.der_controls import DERControls
from simulator.stations.dynamic_schedules import DynamicSchedules
from simulator.stations.event_streams import EventStreams
from simulator.stations.ocpp201 import Station201
from simulator.stations.priority_charging import PriorityCharging
from simulator.stations.profile import StationProfile
from simulator.stations.station import SimulatedEVSE, Transaction
from simulator.stations.tariffs import Tariffs
from simulator.stations.v2x import V2X
from simulator.truth import Truth


class Station21(Station201):
    """See the module."""

    tells_event_notification_type = True
    numbers_its_certificate_requests = True

    def __init__(self, profile: StationProfile, *, now: Callable[[], datetime], truth: Truth | None = None) -> None:
        super().__init__(profile, now=now, truth=truth)
        self.der = DERControls(self)
        self.v2x = V2X(self, self.profiles, self.der)
        self.tariffs = Tariffs(self)
        self.battery_swap = BatterySwap(self)
        self.priority = PriorityCharging(self, self.profiles)
        self.schedules = DynamicSchedules(self, self.profiles)
        self.streams = EventStreams(self, self.monitors)
        self.payment = AdHocPayment(self)
        self.concepts += [
            self.der,
            self.v2x,
            self.tariffs,
            self.battery_swap,
            self.priority,
            self.schedules,
            self.streams,
            self.payment,
        ]
        for evse in self.evses.values():
            evse.setpoint_w = self._setpoint_of(evse)

    def _setpoint_of(self, evse: SimulatedEVSE) -> Callable[[datetime], int | None]:
        return lambda at: self.v2x.setpoint_w(evse, at)

    def _event(self, transaction: Transaction, kind: str, trigger: str, at: datetime) -> Payload:
        payload = super()._event(transaction, kind, trigger, at)
        evse = self.evse_of(transaction)
        if evse.discharge_w:
            payload["transactionInfo"]["operationMode"] = self.v2x.mode(evse, at)
        if transaction.tariff_id is not None:
            payload["transactionInfo"]["tariffId"] = transaction.tariff_id
        if kind == "Ended" and transaction.meter_end_wh is not None:
            energy_wh = transaction.meter_end_wh - transaction.meter_start_wh
            costs = self.tariffs.cost_details(transaction, energy_wh=energy_wh, until=at)
            if costs is not None:
                payload["costDetails"] = costs
        return payload

    def _registers(self, evse: SimulatedEVSE, context: str, signed: dict[str, str] | None) -> list[dict[str, Any]]:
        values = super()._registers(evse, context, signed)
        if evse.discharge_w or evse.meter.export_register_wh:
            values.append(
                {
                    "value": evse.meter.export_register_wh,
                    "context": context,
                    "measurand": "Energy.Active.Export.Register",
                    "unitOfMeasure": {"unit": "Wh"},
                }
            )
        return values
