"""OCPP 2.0.1: one file per message a station may send. `MESSAGES` is the dispatch table."""

from __future__ import annotations

from typing import Final

from charge_point_gateway.message import Message
from charge_point_gateway.ocpp16.data_transfer import DataTransfer
from charge_point_gateway.ocpp16.heartbeat import Heartbeat
from charge_point_gateway.ocpp16.security_event_notification import SecurityEventNotification
from charge_point_gateway.ocpp16.sign_certificate import SignCertificate
from charge_point_gateway.ocpp201 import certificates, notices
from charge_point_gateway.ocpp201.authorize import Authorize
from charge_point_gateway.ocpp201.boot_notification import BootNotification
from charge_point_gateway.ocpp201.meter_values import MeterValues
from charge_point_gateway.ocpp201.reports import NotifyMonitoringReport, NotifyReport
from charge_point_gateway.ocpp201.reservation_status_update import ReservationStatusUpdate
from charge_point_gateway.ocpp201.status_notification import StatusNotification
from charge_point_gateway.ocpp201.transaction_event import TransactionEvent
from charge_point_gateway.task_status import (
    FirmwareStatusNotification,
    LogStatusNotification,
    PublishFirmwareStatusNotification,
)

MESSAGES: Final[dict[str, Message]] = {
    message.action: message
    for message in (
        Authorize(),
        BootNotification(),
        notices.ClearedChargingLimit(),
        DataTransfer(),
        FirmwareStatusNotification(),
        certificates.Get15118EVCertificate(),
        certificates.GetCertificateStatus(),
        Heartbeat(),
        LogStatusNotification(),
        MeterValues(),
        notices.NotifyChargingLimit(),
        notices.NotifyCustomerInformation(),
        notices.NotifyDisplayMessages(),
        notices.NotifyEVChargingNeeds(),
        notices.NotifyEVChargingSchedule(),
        notices.NotifyEvent(),
        NotifyMonitoringReport(),
        NotifyReport(),
        PublishFirmwareStatusNotification(),
        notices.ReportChargingProfiles(),
        ReservationStatusUpdate(),
        SecurityEventNotification(),
        SignCertificate(),
        StatusNotification(),
        TransactionEvent(),
    )
}
