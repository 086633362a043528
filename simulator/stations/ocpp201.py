"""A station that speaks OCPP 2.0.1, and what 2.1 has in common with it.

It makes the transaction ids itself and numbers the events of each from 0. Its transactions start when the driver is
authorised (TxStartPoint `Authorized`) and end when charging was stopped or the cable was pulled. The first and the
last event carry the signed registers (OCPP 2.0.1 part 2, SignedMeterValueType).
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any, Final

from simulator.stations.availability import Availability, unlock
from simulator.stations.calls import Call, Payload, Reply
from simulator.stations.certificates import Certificates
from simulator.stations.charging_profiles import ChargingProfiles
from simulator.stations.concept import Commands
from simulator.stations.customers import Customers
from simulator.stations.device_model import DeviceModel
from simulator.stations.display_messages import DisplayMessages
from simulator.stations.firmware import Firmware
from simulator.stations.local_list import LocalList
from simulator.stations.logs import Logs
from simulator.stations.monitors import Monitors
from simulator.stations.ocmf import SIGNATURE_ALGORITHM
from simulator.stations.profile import StationProfile
from simulator.stations.reservations import Reservations
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

CONNECTOR: Final = 1
TOKEN_TYPES: Final = {"ISO14443": "ISO14443", "CENTRAL": "Central", "EMAID": "eMAID"}
REASONS: Final = {StopReason.RESET: "ImmediateReset"}
END_TRIGGERS: Final = {
    StopReason.LOCAL: "StopAuthorized",
    StopReason.REMOTE: "RemoteStop",
    StopReason.EV_DISCONNECTED: "EVDeparted",
    StopReason.DEAUTHORIZED: "Deauthorized",
    StopReason.POWER_LOSS: "AbnormalCondition",
    StopReason.RESET: "ResetCommand",
}
OCMF_TOKEN_KINDS: Final = {"ISO14443": "ISO14443", "eMAID": "EMAID"}


SECURITY_PROFILE_MAX: Final = 3
_OWN_WORDS: Final = (EVSEState.AVAILABLE, EVSEState.RESERVED, EVSEState.UNAVAILABLE)


class Station201(Station):
    """See the module."""

    tells_event_notification_type = False

    def __init__(self, profile: StationProfile, *, now: Callable[[], datetime], truth: Truth | None = None) -> None:
        super().__init__(profile, now=now, truth=truth)
        self.profiles = ChargingProfiles(self)
        self.reservations = Reservations(self)
        self.local_list = LocalList(self)
        self.model = DeviceModel(self)
        self.monitors = Monitors(self, self.model)
        self.messages = DisplayMessages(self)
        self.certificates = Certificates(self)
        self.firmware = Firmware(self)
        self.logs = Logs(self)
        self.concepts = [
            Availability(self),
            self.profiles,
            self.reservations,
            self.local_list,
            self.model,
            self.monitors,
            self.messages,
            self.certificates,
            self.firmware,
            self.logs,
            Customers(self),
        ]
        self.obey(self.profiles, self.reservations, self.local_list)

    def _commands(self) -> Commands:
        return {
            "RequestStartTransaction": self._request_start,
            "RequestStopTransaction": self._request_stop,
            "TriggerMessage": self._trigger_message,
            "Reset": self._reset,
            "UnlockConnector": partial(unlock, self.evses),
            "SetNetworkProfile": self._set_network_profile,
            "ClearCache": lambda _: Reply(payload={"status": ACCEPTED}),
            "DataTransfer": lambda _: Reply(payload={"status": "UnknownVendorId"}),
        }

    # Messages --------------------------------------------------------------------------------------------------

    def _boot_payload(self) -> Payload:
        return {
            "chargingStation": {
                "vendorName": self.profile.vendor,
                "model": self.profile.model[:20],
                "serialNumber": self.profile.charging_station_id[:25],
                "firmwareVersion": self.firmware_version,
            },
            "reason": self.boot_reason,
        }

    def _queue_status(self, evse: SimulatedEVSE) -> None:
        at = self.timestamp()
        evse_id = evse.profile.ocpp_evse_id
        status = self.status_word(evse)
        self.request(
            "StatusNotification",
            lambda: {"timestamp": at, "connectorStatus": status, "evseId": evse_id, "connectorId": CONNECTOR},
        )

    def change_state(self, evse: SimulatedEVSE, state: EVSEState) -> None:
        """Tell only what 2.x has a word for."""
        before = self.status_word(evse)
        evse.state = state
        if self.status_word(evse) != before:
            self._queue_status(evse)

    def status_word(self, evse: SimulatedEVSE) -> str:
        """Return the ConnectorStatus of 2.x."""
        return evse.state.value if evse.state in _OWN_WORDS else "Occupied"

    def variable_was_set(self, variable: str, value: str) -> None:
        """Act on a new value."""
        if variable == "HeartbeatInterval":
            self.heartbeat_interval_s = int(value)

    def _ask_authorization(self, evse: SimulatedEVSE, id_token: str, id_kind: str) -> None:
        def answered(answer: Payload) -> None:
            status = answer["idTokenInfo"]["status"]
            if status == ACCEPTED:
                self._authorized(evse, id_token, id_kind)
            else:
                evse.last_refusal = status

        self.request("Authorize", lambda: {"idToken": _id_token(id_token, id_kind)}, on_answer=answered)

    def _report_start(self, evse: SimulatedEVSE, transaction: Transaction) -> None:
        transaction.transaction_id = transaction.local_id
        values = self._registers(evse, "Transaction.Begin", self._signed(evse, transaction.begin_record))
        payload = self._event(transaction, "Started", transaction.trigger.value, transaction.started_at)
        payload["transactionInfo"]["chargingState"] = "Charging"
        payload["meterValue"] = [{"timestamp": timestamp(transaction.started_at), "sampledValue": values}]
        payload["evse"] = {"id": evse.profile.ocpp_evse_id, "connectorId": CONNECTOR}
        payload["idToken"] = _id_token(transaction.id_token, transaction.id_kind)
        if transaction.remote_start_id is not None:
            payload["transactionInfo"]["remoteStartId"] = transaction.remote_start_id

        def answered(answer: Payload) -> None:
            transaction.is_start_acknowledged = True
            status = answer.get("idTokenInfo", {}).get("status", ACCEPTED)
            if status != ACCEPTED:
                self._refused(evse, transaction, status)

        self._keep_event(transaction, payload, answered)

    def _report_charging_state(self, evse: SimulatedEVSE, charging_state: str) -> None:
        self._update(evse, "ChargingStateChanged", "Other", charging_state)

    def _report_sample(self, evse: SimulatedEVSE) -> None:
        self._update(evse, "MeterValueClock", "Sample.Clock", None)

    def update(self, evse: SimulatedEVSE, trigger: str) -> None:
        """Report that something about a running transaction changed."""
        self._update(evse, trigger, "Other", None)

    def _update(self, evse: SimulatedEVSE, trigger: str, context: str, charging_state: str | None) -> None:
        transaction = evse.transaction
        assert transaction is not None, "nothing to report on"
        now = self.now()
        payload = self._event(transaction, "Updated", trigger, now)
        if charging_state is not None:
            payload["transactionInfo"]["chargingState"] = charging_state
        payload["meterValue"] = [self._meter_value(evse, now, context)]
        evse.sampled_wh = evse.registers_wh
        self._keep_event(transaction, payload, lambda _: None)

    def _report_end(self, evse: SimulatedEVSE, transaction: Transaction) -> None:
        ended_at, reason = transaction.ended_at, transaction.stopped_reason
        assert ended_at is not None, "a transaction without its end"
        assert reason is not None, "a transaction that ended without reason"
        payload = self._event(transaction, "Ended", END_TRIGGERS[reason], ended_at)
        payload["transactionInfo"]["stoppedReason"] = REASONS.get(reason, reason.value)
        payload["transactionInfo"]["chargingState"] = "Idle" if reason is StopReason.EV_DISCONNECTED else "EVConnected"
        values = self._registers(evse, "Transaction.End", self._signed(evse, transaction.end_record))
        payload["meterValue"] = [{"timestamp": timestamp(ended_at), "sampledValue": values}]
        if reason is StopReason.LOCAL:
            payload["idToken"] = _id_token(transaction.id_token, transaction.id_kind)

        def answered(_: Payload) -> None:
            transaction.is_end_acknowledged = True

        self._keep_event(transaction, payload, answered)

    def _event(self, transaction: Transaction, kind: str, trigger: str, at: datetime) -> Payload:
        payload: Payload = {
            "eventType": kind,
            "timestamp": timestamp(at),
            "triggerReason": trigger,
            "seqNo": transaction.draw_seq_no() if kind != "Ended" else transaction.draw_end_seq_no(),
            "transactionInfo": {"transactionId": transaction.local_id},
        }
        if transaction.reservation_id is not None:
            payload["reservationId"] = transaction.reservation_id
        if not self.is_connected:
            payload["offline"] = True
            transaction.was_offline = True
        return payload

    def _keep_event(self, transaction: Transaction, payload: Payload, on_answer: Callable[[Payload], None]) -> None:
        self._keep(
            Call(
                action="TransactionEvent",
                build=lambda: payload,
                order=0,
                is_transactional=True,
                on_answer=on_answer,
                transaction_id=lambda: transaction.transaction_id,
                seq_no=payload["seqNo"],
            )
        )

    # Values ----------------------------------------------------------------------------------------------------

    def _meter_value(self, evse: SimulatedEVSE, at: datetime, context: str) -> dict[str, Any]:
        power = {
            "value": abs(evse.meter.power_w),
            "context": context,
            "measurand": "Power.Active.Import" if evse.meter.power_w >= 0 else "Power.Active.Export",
            "unitOfMeasure": {"unit": "W"},
        }
        return {"timestamp": timestamp(at), "sampledValue": [*self._registers(evse, context, None), power]}

    def _registers(self, evse: SimulatedEVSE, context: str, signed: dict[str, str] | None) -> list[dict[str, Any]]:
        return [self._register(evse.meter.register_wh, context, signed)]

    def _register(self, register_wh: int, context: str, signed: dict[str, str] | None) -> dict[str, Any]:
        value: dict[str, Any] = {
            "value": register_wh,
            "context": context,
            "measurand": "Energy.Active.Import.Register",
            "unitOfMeasure": {"unit": "Wh"},
        }
        if self.profile.quirks.reports_kwh and register_wh % 1000 == 0:
            # A JSON number made from a float could not carry three decimals exactly, so only whole kWh are told so.
            value |= {"value": register_wh // 1000, "unitOfMeasure": {"unit": "kWh"}}
        if signed is not None:
            value["signedMeterValue"] = signed
        return value

    def _signed(self, evse: SimulatedEVSE, record: str | None) -> dict[str, str] | None:
        if record is None:
            return None
        return {
            "signedMeterData": base64.b64encode(record.encode()).decode(),
            "signingMethod": SIGNATURE_ALGORITHM,
            "encodingMethod": "OCMF",
            "publicKey": base64.b64encode(bytes.fromhex(evse.signer.public_hex)).decode(),
        }

    # Commands --------------------------------------------------------------------------------------------------

    def _request_start(self, payload: Payload) -> Reply:
        evse_id = payload.get("evseId")
        token, remote_start_id = payload["idToken"], payload["remoteStartId"]
        chosen = self.evses.values() if evse_id is None else [self.evses.get(evse_id)]
        able = [each for each in chosen if each is not None and each.transaction is None and each.is_operative]
        evse = next((each for each in able if self.may_start(each.profile.ocpp_evse_id, token["idToken"])), None)
        if evse is None:
            return Reply(payload={"status": "Rejected"})
        if "chargingProfile" in payload:
            self.profiles.install(evse.profile.ocpp_evse_id, payload["chargingProfile"])
        id_kind = OCMF_TOKEN_KINDS.get(token["type"], "CENTRAL")

        def start() -> None:
            if evse.is_free:
                evse.reserved_for = (token["idToken"], id_kind, remote_start_id)
            elif evse.transaction is None:
                self._begin(evse, token["idToken"], id_kind, StartTrigger.REMOTE_START, remote_start_id)

        return Reply(payload={"status": ACCEPTED}, then=start)

    def _request_stop(self, payload: Payload) -> Reply:
        wanted = payload["transactionId"]
        for evse in self.evses.values():
            if evse.transaction is not None and evse.transaction.local_id == wanted:
                return Reply(payload={"status": ACCEPTED}, then=partial(self._requested_stop, evse, wanted))
        return Reply(payload={"status": "Rejected"})

    def _requested_stop(self, evse: SimulatedEVSE, wanted: str) -> None:
        if evse.transaction is not None and evse.transaction.local_id == wanted:
            self._end(evse, StopReason.REMOTE)

    def _trigger_message(self, payload: Payload) -> Reply:
        wanted, evse_id = payload["requestedMessage"], payload.get("evse", {}).get("id")
        of_station: dict[str, Callable[[], None]] = {
            "BootNotification": self._boot_again,
            "Heartbeat": self.heartbeat,
            "FirmwareStatusNotification": self.firmware.tell_status,
            "LogStatusNotification": self.logs.tell_status,
            "PublishFirmwareStatusNotification": partial(
                self.tell, "PublishFirmwareStatusNotification", {"status": "Idle"}
            ),
            "SignChargingStationCertificate": self.certificates.request,
        }
        of_evse: dict[str, Callable[[SimulatedEVSE], None]] = {
            "StatusNotification": self._queue_status,
            "TransactionEvent": self._trigger_event,
            "MeterValues": self._queue_meter_values,
        }
        if wanted in of_station:
            return Reply(payload={"status": ACCEPTED}, then=of_station[wanted])
        if wanted not in of_evse:
            return Reply(payload={"status": "NotImplemented"})
        chosen = [each for number, each in self.evses.items() if evse_id in (None, number)]

        def send() -> None:
            for evse in chosen:
                self.advance(evse)
                of_evse[wanted](evse)

        return Reply(payload={"status": ACCEPTED if chosen else "Rejected"}, then=send)

    def _boot_again(self) -> None:
        self.boot_reason = "Triggered"
        self._queue_boot()

    def _trigger_event(self, evse: SimulatedEVSE) -> None:
        if evse.transaction is not None:
            self._update(evse, "Trigger", "Trigger", None)

    def _queue_meter_values(self, evse: SimulatedEVSE) -> None:
        payload = {
            "evseId": evse.profile.ocpp_evse_id,
            "meterValue": [self._meter_value(evse, self.now(), "Trigger")],
        }
        self.request("MeterValues", lambda: payload)

    def _reset(self, payload: Payload) -> Reply:
        if "evseId" in payload:
            return Reply(payload={"status": "Rejected"})  # one EVSE of these stations can't restart alone
        is_busy = any(each.transaction is not None for each in self.evses.values())
        if payload["type"] == "OnIdle" and is_busy:
            return Reply(payload={"status": "Scheduled"}, then=self._restart_when_idle)
        return Reply(payload={"status": ACCEPTED}, then=lambda: self.restart_soon(StopReason.RESET))

    def _set_network_profile(self, payload: Payload) -> Reply:
        level = payload["connectionData"]["securityProfile"]
        return Reply(payload={"status": ACCEPTED if 1 <= level <= SECURITY_PROFILE_MAX else "Rejected"})

    def _restart_when_idle(self) -> None:
        self.restarts_when_idle = True

    restarts_when_idle = False

    def _end(self, evse: SimulatedEVSE, reason: StopReason) -> None:
        super()._end(evse, reason)
        if self.restarts_when_idle and all(each.transaction is None for each in self.evses.values()):
            self.restarts_when_idle = False
            self.restart_soon(StopReason.RESET)


def _id_token(id_token: str, id_kind: str) -> dict[str, str]:
    return {"idToken": id_token, "type": TOKEN_TYPES.get(id_kind, "Central")}
