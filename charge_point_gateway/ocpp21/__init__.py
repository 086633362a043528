"""OCPP 2.1: what it adds to 2.0.1, whose other messages it keeps under the same names.

`MESSAGES` is the dispatch table of CALLs, `SENT_MESSAGES` that of SENDs.
"""

from __future__ import annotations

from typing import Final

from charge_point_gateway import ocpp201
from charge_point_gateway.message import Message
from charge_point_gateway.ocpp21 import certificates, der_control, event_streams, payment, smart_charging
from charge_point_gateway.ocpp21.battery_swap import BatterySwap
from charge_point_gateway.ocpp21.transaction_event import TransactionEvent

MESSAGES: Final[dict[str, Message]] = ocpp201.MESSAGES | {
    message.action: message
    for message in (
        BatterySwap(),
        event_streams.ClosePeriodicEventStream(),
        certificates.GetCertificateChainStatus(),
        der_control.NotifyDERAlarm(),
        der_control.NotifyDERStartStop(),
        smart_charging.NotifyEVChargingNeeds(),
        smart_charging.NotifyPriorityCharging(),
        payment.NotifySettlement(),
        payment.NotifyWebPaymentStarted(),
        event_streams.OpenPeriodicEventStream(),
        smart_charging.PullDynamicScheduleUpdate(),
        der_control.ReportDERControl(),
        TransactionEvent(),
        payment.VatNumberValidation(),
    )
}
SENT_MESSAGES: Final[dict[str, Message]] = {
    message.action: message for message in (event_streams.NotifyPeriodicEventStream(),)
}
