"""OCPP 1.6J: one file per message a station may send. `MESSAGES` is the dispatch table."""

from __future__ import annotations

from typing import Final

from charge_point_gateway.message import Message
from charge_point_gateway.ocpp16.authorize import Authorize
from charge_point_gateway.ocpp16.boot_notification import BootNotification
from charge_point_gateway.ocpp16.data_transfer import DataTransfer
from charge_point_gateway.ocpp16.heartbeat import Heartbeat
from charge_point_gateway.ocpp16.meter_values import MeterValues
from charge_point_gateway.ocpp16.security_event_notification import SecurityEventNotification
from charge_point_gateway.ocpp16.sign_certificate import SignCertificate
from charge_point_gateway.ocpp16.start_transaction import StartTransaction
from charge_point_gateway.ocpp16.status_notification import StatusNotification
from charge_point_gateway.ocpp16.stop_transaction import StopTransaction
from charge_point_gateway.task_status import (
    DiagnosticsStatusNotification,
    FirmwareStatusNotification,
    LogStatusNotification,
    SignedFirmwareStatusNotification,
)

MESSAGES: Final[dict[str, Message]] = {
    message.action: message
    for message in (
        Authorize(),
        BootNotification(),
        DataTransfer(),
        DiagnosticsStatusNotification(),
        FirmwareStatusNotification(),
        Heartbeat(),
        LogStatusNotification(),
        MeterValues(),
        SecurityEventNotification(),
        SignCertificate(),
        SignedFirmwareStatusNotification(),
        StartTransaction(),
        StatusNotification(),
        StopTransaction(),
    )
}
