"""A station that speaks OCPP 1.6J (edition 2, with the security extension's basic authentication).

A transaction's number comes from the CSMS, so its later messages are written only when the start was answered. What is
signed travels in StopTransaction's `transactionData` (OCPP 1.6, 6.49), begin and end together.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any, Final

from simulator.stations.availability import Availability16
from simulator.stations.calls import Call, Payload, Reply
from simulator.stations.certificates import Certificates16
from simulator.stations.charging_profiles import ChargingProfiles16, in_words_of_2
from simulator.stations.concept import Commands
from simulator.stations.firmware import Firmware16
from simulator.stations.local_list import LocalList16
from simulator.stations.logs import Logs16
from simulator.stations.profile import StationProfile
from simulator.stations.reservations import Reservations16
from simulator.stations.station import (
    ACCEPTED,
    EVSEState,
    SimulatedEVSE,
    StartTrigger,
    Station,
    StopReason,
    Transaction,
)
from simulator.truth import Truth, timestamp

UNKNOWN_TRANSACTION: Final = -1
"""What stations send as transactionId when the CSMS never told them one."""
READ_ONLY: Final = ("NumberOfConnectors", "SupportedFeatureProfiles")
REASONS: Final = {StopReason.RESET: "SoftReset"}


class Station16(Station):
    """See the module."""

    # OCPP-J 1.6, 4.1.4: a message id is used once; a retry is a new message with the same content.
    retries_with_new_id = True

    def __init__(self, profile: StationProfile, *, now: Callable[[], datetime], truth: Truth | None = None) -> None:
        super().__init__(profile, now=now, truth=truth)
        self.profiles = ChargingProfiles16(self)
        self.reservations = Reservations16(self)
        self.local_list = LocalList16(self)
        self.certificates = Certificates16(self)
        self.firmware = Firmware16(self)
        self.logs = Logs16(self)
        self.concepts = [
            Availability16(self),
            self.profiles,
            self.reservations,
            self.local_list,
            self.certificates,
            self.firmware,
            self.logs,
        ]
        self.obey(self.profiles, self.reservations, self.local_list)

    def _commands(self) -> Commands:
        return {
            "RemoteStartTransaction": self._remote_start,
            "RemoteStopTransaction": self._remote_stop,
            "TriggerMessage": self._trigger_message,
            "ExtendedTriggerMessage": self._trigger_message,
            "Reset": self._reset,
            "ChangeConfiguration": self._change_configuration,
            "GetConfiguration": self._get_configuration,
            "UnlockConnector": self._unlock,
            "ClearCache": lambda _: Reply(payload={"status": ACCEPTED}),
            "DataTransfer": lambda _: Reply(payload={"status": "UnknownVendorId"}),
        }

    @property
    def _resumes(self) -> bool:
        # 1.6 knows no resumed transaction: it ends with PowerLoss (OCPP 1.6, 4.10).
        return False

    # Messages --------------------------------------------------------------------------------------------------

    def _boot_payload(self) -> Payload:
        return {
            "chargePointVendor": self.profile.vendor,
            "chargePointModel": self.profile.model,
            "chargePointSerialNumber": self.profile.charging_station_id[:25],
            "firmwareVersion": self.firmware_version,
        }

    def _queue_status(self, evse: SimulatedEVSE) -> None:
        self._queue_connector_status(evse.profile.ocpp_evse_id, evse.state)

    def _queue_connector_status(self, connector_id: int, state: EVSEState) -> None:
        at = self.timestamp()
        self.request(
            "StatusNotification",
            lambda: {"connectorId": connector_id, "errorCode": "NoError", "status": state.value, "timestamp": at},
        )

    def _queue_all_statuses(self) -> None:
        self._queue_connector_status(0, EVSEState.AVAILABLE)
        super()._queue_all_statuses()

    def _ask_authorization(self, evse: SimulatedEVSE, id_token: str, id_kind: str) -> None:
        def answered(answer: Payload) -> None:
            status = answer["idTagInfo"]["status"]
            if status == ACCEPTED:
                self._authorized(evse, id_token, id_kind)
            else:
                evse.last_refusal = status

        self.request("Authorize", lambda: {"idTag": id_token}, on_answer=answered)

    def _report_start(self, evse: SimulatedEVSE, transaction: Transaction) -> None:
        payload: Payload = {
            "connectorId": evse.profile.ocpp_evse_id,
            "idTag": transaction.id_token,
            "meterStart": transaction.meter_start_wh,
            "timestamp": timestamp(transaction.started_at),
        }

        def answered(answer: Payload) -> None:
            transaction.transaction_id = str(answer["transactionId"])
            transaction.is_start_acknowledged = True
            status = answer["idTagInfo"]["status"]
            if status != ACCEPTED:
                self._refused(evse, transaction, status)

        self._keep_of(transaction, "StartTransaction", lambda: payload, answered)

    def _report_charging_state(self, evse: SimulatedEVSE, charging_state: str) -> None:
        del charging_state  # 1.6 says it in StatusNotification
        self._queue_meter_values(evse, "Other")

    def _report_sample(self, evse: SimulatedEVSE) -> None:
        self._queue_meter_values(evse, "Sample.Clock")

    def _queue_meter_values(self, evse: SimulatedEVSE, context: str) -> None:
        transaction = evse.transaction
        meter_value = [self._meter_value(evse, self.now(), context)]
        evse.sampled_wh = evse.registers_wh
        connector_id = evse.profile.ocpp_evse_id
        if transaction is None:
            self.request("MeterValues", lambda: {"connectorId": connector_id, "meterValue": meter_value})
            return
        running = transaction
        self._keep_of(
            running,
            "MeterValues",
            lambda: {
                "connectorId": connector_id,
                "transactionId": self._number_of(running),
                "meterValue": meter_value,
            },
            lambda _: None,
        )

    def _report_end(self, evse: SimulatedEVSE, transaction: Transaction) -> None:
        ended_at, reason = transaction.ended_at, transaction.stopped_reason
        assert ended_at is not None, "a transaction without its end"
        assert reason is not None, "a transaction that ended without reason"
        signed = self._signed_values(evse, transaction, ended_at)

        def build() -> Payload:
            payload: Payload = {
                "meterStop": transaction.meter_end_wh,
                "timestamp": timestamp(ended_at),
                "transactionId": self._number_of(transaction),
                "reason": REASONS.get(reason, reason.value),
            }
            if reason in (StopReason.LOCAL, StopReason.EV_DISCONNECTED):
                payload["idTag"] = transaction.id_token
            if signed:
                payload["transactionData"] = signed
            return payload

        def answered(_: Payload) -> None:
            transaction.is_end_acknowledged = True

        self._keep_of(transaction, "StopTransaction", build, answered)

    def _keep_of(
        self,
        transaction: Transaction,
        action: str,
        build: Callable[[], Payload],
        on_answer: Callable[[Payload], None],
    ) -> None:
        self._keep(
            Call(
                action=action,
                build=build,
                order=0,
                is_transactional=True,
                on_answer=on_answer,
                transaction_id=lambda: transaction.transaction_id,
            )
        )

    # Values ----------------------------------------------------------------------------------------------------

    def _number_of(self, transaction: Transaction) -> int:
        if self.profile.quirks.sends_transaction_id_zero:
            return 0
        return UNKNOWN_TRANSACTION if transaction.transaction_id is None else int(transaction.transaction_id)

    def _meter_value(self, evse: SimulatedEVSE, at: datetime, context: str) -> dict[str, Any]:
        return {
            "timestamp": timestamp(at),
            "sampledValue": [
                self._register(evse.meter.register_wh, context),
                {
                    "value": str(evse.meter.power_w),
                    "context": context,
                    "measurand": "Power.Active.Import",
                    "unit": "W",
                },
            ],
        }

    def _register(self, register_wh: int, context: str) -> dict[str, Any]:
        kilo = self.profile.quirks.reports_kwh
        return {
            "value": f"{register_wh // 1000}.{register_wh % 1000:03d}" if kilo else str(register_wh),
            "context": context,
            "format": "Raw",
            "measurand": "Energy.Active.Import.Register",
            "unit": "kWh" if kilo else "Wh",
        }

    def _signed_values(self, evse: SimulatedEVSE, transaction: Transaction, ended_at: datetime) -> list[dict[str, Any]]:
        if transaction.begin_record is None or transaction.end_record is None:
            return []
        return [
            {
                "timestamp": timestamp(at),
                "sampledValue": [
                    self._register(register_wh, context),
                    {
                        "value": record,
                        "context": context,
                        "format": "SignedData",
                        "measurand": "Energy.Active.Import.Register",
                    },
                ],
            }
            for at, register_wh, context, record in (
                (
                    transaction.started_at,
                    transaction.meter_start_wh,
                    "Transaction.Begin",
                    transaction.begin_record,
                ),
                (ended_at, evse.meter.register_wh, "Transaction.End", transaction.end_record),
            )
        ]

    # Commands --------------------------------------------------------------------------------------------------

    def _remote_start(self, payload: Payload) -> Reply:
        connector_id = payload.get("connectorId")
        evse = self._startable(connector_id)
        id_token = payload["idTag"]
        if evse is None or not self.may_start(evse.profile.ocpp_evse_id, id_token):
            return Reply(payload={"status": "Rejected"})
        if "chargingProfile" in payload:
            self.profiles.install(evse.profile.ocpp_evse_id, in_words_of_2(payload["chargingProfile"]))

        def start() -> None:
            if evse.is_free:
                evse.reserved_for = (id_token, "CENTRAL", 0)
            elif evse.transaction is None:
                self._begin(evse, id_token, "CENTRAL", StartTrigger.REMOTE_START, None)

        return Reply(payload={"status": ACCEPTED}, then=start)

    def _startable(self, connector_id: int | None) -> SimulatedEVSE | None:
        chosen = self.evses.values() if connector_id is None else [self.evses.get(connector_id)]
        return next(
            (each for each in chosen if each is not None and each.transaction is None and each.is_operative), None
        )

    def _remote_stop(self, payload: Payload) -> Reply:
        wanted = str(payload["transactionId"])
        for evse in self.evses.values():
            if evse.transaction is not None and evse.transaction.transaction_id == wanted:
                return Reply(payload={"status": ACCEPTED}, then=partial(self._remote_stopped, evse, wanted))
        return Reply(payload={"status": "Rejected"})

    def _remote_stopped(self, evse: SimulatedEVSE, wanted: str) -> None:
        if evse.transaction is not None and evse.transaction.transaction_id == wanted:
            self._end(evse, StopReason.REMOTE)

    def _unlock(self, payload: Payload) -> Reply:
        is_known = payload["connectorId"] in self.evses
        return Reply(payload={"status": "Unlocked" if is_known else "NotSupported"})

    def _trigger_message(self, payload: Payload) -> Reply:
        wanted, connector_id = payload["requestedMessage"], payload.get("connectorId")
        of_station: dict[str, Callable[[], None]] = {
            "BootNotification": self._queue_boot,
            "Heartbeat": self.heartbeat,
            "DiagnosticsStatusNotification": partial(self.tell, "DiagnosticsStatusNotification", {"status": "Idle"}),
            "FirmwareStatusNotification": self.firmware.tell_status,
            "LogStatusNotification": self.logs.tell_status,
            "SignChargePointCertificate": self.certificates.request,
        }
        if wanted in of_station:
            return Reply(payload={"status": ACCEPTED}, then=of_station[wanted])
        chosen = [each for number, each in self.evses.items() if connector_id in (None, number)]

        def send() -> None:
            for evse in chosen:
                self.advance(evse)
                if wanted == "StatusNotification":
                    self._queue_status(evse)
                else:
                    self._queue_meter_values(evse, "Trigger")

        return Reply(payload={"status": ACCEPTED if chosen else "Rejected"}, then=send)

    def _reset(self, payload: Payload) -> Reply:
        del payload  # Hard or Soft: both end what runs and restart
        return Reply(payload={"status": ACCEPTED}, then=lambda: self.restart_soon(StopReason.RESET))

    def _change_configuration(self, payload: Payload) -> Reply:
        key, value = payload["key"], payload["value"]
        if key in READ_ONLY:
            return Reply(payload={"status": "Rejected"})
        if key not in self.variables:
            return Reply(payload={"status": "NotSupported"})
        if key.endswith("Interval") and not value.isdecimal():
            return Reply(payload={"status": "Rejected"})
        self.variables[key] = value
        if key == "HeartbeatInterval":
            self.heartbeat_interval_s = int(value)
        return Reply(payload={"status": ACCEPTED})

    def _get_configuration(self, payload: Payload) -> Reply:
        known = {**self.variables, "NumberOfConnectors": str(len(self.evses))}
        asked = payload.get("key")
        names = list(known) if asked is None else [name for name in asked if name in known]
        answer: Payload = {
            "configurationKey": [{"key": name, "readonly": name in READ_ONLY, "value": known[name]} for name in names]
        }
        if asked is not None and (unknown := [name for name in asked if name not in known]):
            answer["unknownKey"] = unknown
        return Reply(payload=answer)
