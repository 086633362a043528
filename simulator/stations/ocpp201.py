"""A station that speaks OCPP 2.0.1: it makes the transaction ids itself and numbers the events of each from 0.

Its transactions start when the driver is authorised (TxStartPoint `Authorized`) and end when charging was stopped or
the cable was pulled. The first and the last event carry the signed registers (OCPP 2.0.1 part 2, SignedMeterValueType).
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any, Final

from simulator.stations.calls import Call, Payload, Reply
from simulator.stations.ocmf import SIGNATURE_ALGORITHM
from simulator.stations.station import (
    ACCEPTED,
    EVSEState,
    SimulatedEVSE,
    StartTrigger,
    Station,
    StopReason,
    Transaction,
)
from simulator.truth import timestamp

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
SETTABLE: Final = {
    ("OCPPCommCtrlr", "HeartbeatInterval"): "HeartbeatInterval",
    ("AlignedDataCtrlr", "Interval"): "ClockAlignedDataInterval",
}


class Station201(Station):
    """See the module."""

    def _commands(self) -> dict[str, Callable[[Payload], Reply]]:
        return {
            "RequestStartTransaction": self._request_start,
            "RequestStopTransaction": self._request_stop,
            "SetChargingProfile": self._set_charging_profile,
            "TriggerMessage": self._trigger_message,
            "Reset": self._reset,
            "SetVariables": self._set_variables,
            "GetVariables": self._get_variables,
            "GetBaseReport": lambda _: Reply(payload={"status": "NotSupported"}),
            "ClearCache": lambda _: Reply(payload={"status": ACCEPTED}),
            "ChangeAvailability": lambda _: Reply(payload={"status": "Rejected"}),
            "DataTransfer": lambda _: Reply(payload={"status": "UnknownVendorId"}),
        }

    # Messages --------------------------------------------------------------------------------------------------

    def _boot_payload(self) -> Payload:
        return {
            "chargingStation": {
                "vendorName": self.profile.vendor,
                "model": self.profile.model[:20],
                "serialNumber": self.profile.charging_station_id[:25],
                "firmwareVersion": self.profile.firmware_version,
            },
            "reason": self.boot_reason,
        }

    def _queue_status(self, evse: SimulatedEVSE) -> None:
        at = self._timestamp()
        evse_id = evse.profile.ocpp_evse_id
        status = "Available" if evse.state is EVSEState.AVAILABLE else "Occupied"
        self._request(
            "StatusNotification",
            lambda: {"timestamp": at, "connectorStatus": status, "evseId": evse_id, "connectorId": CONNECTOR},
        )

    def _change_state(self, evse: SimulatedEVSE, state: EVSEState) -> None:
        was_available, is_available = evse.state is EVSEState.AVAILABLE, state is EVSEState.AVAILABLE
        evse.state = state
        if was_available is not is_available:
            self._queue_status(evse)

    def _ask_authorization(self, evse: SimulatedEVSE, id_token: str, id_kind: str) -> None:
        def answered(answer: Payload) -> None:
            status = answer["idTokenInfo"]["status"]
            if status == ACCEPTED:
                self._authorized(evse, id_token, id_kind)
            else:
                evse.last_refusal = status

        self._request("Authorize", lambda: {"idToken": _id_token(id_token, id_kind)}, on_answer=answered)

    def _report_start(self, evse: SimulatedEVSE, transaction: Transaction) -> None:
        transaction.transaction_id = transaction.local_id
        values = [
            self._register(
                transaction.meter_start_wh, "Transaction.Begin", self._signed(evse, transaction.begin_record)
            )
        ]
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

    def _update(self, evse: SimulatedEVSE, trigger: str, context: str, charging_state: str | None) -> None:
        transaction = evse.transaction
        assert transaction is not None, "nothing to report on"
        now = self.now()
        payload = self._event(transaction, "Updated", trigger, now)
        if charging_state is not None:
            payload["transactionInfo"]["chargingState"] = charging_state
        payload["meterValue"] = [self._meter_value(evse, now, context)]
        evse.sampled_wh = evse.meter.register_wh
        self._keep_event(transaction, payload, lambda _: None)

    def _report_end(self, evse: SimulatedEVSE, transaction: Transaction) -> None:
        ended_at, reason = transaction.ended_at, transaction.stopped_reason
        assert ended_at is not None, "a transaction without its end"
        assert reason is not None, "a transaction that ended without reason"
        payload = self._event(transaction, "Ended", END_TRIGGERS[reason], ended_at)
        payload["transactionInfo"]["stoppedReason"] = REASONS.get(reason, reason.value)
        payload["transactionInfo"]["chargingState"] = "Idle" if reason is StopReason.EV_DISCONNECTED else "EVConnected"
        register = self._register(evse.meter.register_wh, "Transaction.End", self._signed(evse, transaction.end_record))
        payload["meterValue"] = [{"timestamp": timestamp(ended_at), "sampledValue": [register]}]
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
            "value": evse.meter.power_w,
            "context": context,
            "measurand": "Power.Active.Import",
            "unitOfMeasure": {"unit": "W"},
        }
        register = self._register(evse.meter.register_wh, context, None)
        return {"timestamp": timestamp(at), "sampledValue": [register, power]}

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
        chosen = self.evses.values() if evse_id is None else [self.evses.get(evse_id)]
        evse = next((each for each in chosen if each is not None and each.transaction is None), None)
        if evse is None:
            return Reply(payload={"status": "Rejected"})
        if "chargingProfile" in payload:
            evse.limit.install(payload["chargingProfile"], at=self.now())
        token, remote_start_id = payload["idToken"], payload["remoteStartId"]
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

    def _set_charging_profile(self, payload: Payload) -> Reply:
        evse_id = payload["evseId"]
        chosen = list(self.evses.values()) if evse_id == 0 else [self.evses.get(evse_id)]
        for evse in chosen:
            if evse is None:
                return Reply(payload={"status": "Rejected"})
            evse.limit.install(payload["chargingProfile"], at=self.now())
            self._advance(evse)
        return Reply(payload={"status": ACCEPTED})

    def _trigger_message(self, payload: Payload) -> Reply:
        wanted = payload["requestedMessage"]
        evse_id = payload.get("evse", {}).get("id")
        chosen = [each for number, each in self.evses.items() if evse_id in (None, number)]

        def send() -> None:
            if wanted == "BootNotification":
                self.boot_reason = "Triggered"
                self._queue_boot()
            elif wanted == "Heartbeat":
                self.heartbeat()
            for evse in chosen:
                self._advance(evse)
                if wanted == "StatusNotification":
                    self._queue_status(evse)
                elif wanted == "TransactionEvent" and evse.transaction is not None:
                    self._update(evse, "Trigger", "Trigger", None)
                elif wanted == "MeterValues":
                    self._queue_meter_values(evse)

        known = ("BootNotification", "Heartbeat", "StatusNotification", "TransactionEvent", "MeterValues")
        if wanted not in known:
            return Reply(payload={"status": "NotImplemented"})
        return Reply(payload={"status": ACCEPTED}, then=send)

    def _queue_meter_values(self, evse: SimulatedEVSE) -> None:
        payload = {
            "evseId": evse.profile.ocpp_evse_id,
            "meterValue": [self._meter_value(evse, self.now(), "Trigger")],
        }
        self._request("MeterValues", lambda: payload)

    def _reset(self, payload: Payload) -> Reply:
        if "evseId" in payload:
            return Reply(payload={"status": "Rejected"})
        is_busy = any(each.transaction is not None for each in self.evses.values())
        if payload["type"] == "OnIdle" and is_busy:
            return Reply(payload={"status": "Scheduled"}, then=self._restart_when_idle)
        return Reply(payload={"status": ACCEPTED}, then=lambda: self._restart_soon(StopReason.RESET))

    def _restart_when_idle(self) -> None:
        self.restarts_when_idle = True

    restarts_when_idle = False

    def _end(self, evse: SimulatedEVSE, reason: StopReason) -> None:
        super()._end(evse, reason)
        if self.restarts_when_idle and all(each.transaction is None for each in self.evses.values()):
            self.restarts_when_idle = False
            self._restart_soon(StopReason.RESET)

    def _set_variables(self, payload: Payload) -> Reply:
        return Reply(payload={"setVariableResult": [self._set_variable(each) for each in payload["setVariableData"]]})

    def _set_variable(self, wanted: dict[str, Any]) -> dict[str, Any]:
        name = SETTABLE.get((wanted["component"]["name"], wanted["variable"]["name"]))
        value = wanted["attributeValue"]
        status = ACCEPTED
        if name is None:
            known = any(component == wanted["component"]["name"] for component, _ in SETTABLE)
            status = "UnknownVariable" if known else "UnknownComponent"
        elif not value.isdecimal():
            status = "Rejected"
        else:
            self.variables[name] = value
            self.heartbeat_interval_s = int(self.variables["HeartbeatInterval"])
        return {"attributeStatus": status, "component": wanted["component"], "variable": wanted["variable"]}

    def _get_variables(self, payload: Payload) -> Reply:
        return Reply(payload={"getVariableResult": [self._get_variable(each) for each in payload["getVariableData"]]})

    def _get_variable(self, wanted: dict[str, Any]) -> dict[str, Any]:
        name = SETTABLE.get((wanted["component"]["name"], wanted["variable"]["name"]))
        answer = {"component": wanted["component"], "variable": wanted["variable"]}
        if name is None:
            return answer | {"attributeStatus": "UnknownVariable"}
        return answer | {"attributeStatus": ACCEPTED, "attributeValue": self.variables[name]}


def _id_token(id_token: str, id_kind: str) -> dict[str, str]:
    return {"idToken": id_token, "type": TOKEN_TYPES.get(id_kind, "Central")}
