"""Commands of the back office in the words of the station's own OCPP version, and its answers back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from charge_point_gateway.connection import CallQueueFull, CallSettled
from charge_point_gateway.rpc_errors import CallRefused, OCPPVersion
from charge_point_gateway.schemas import schemas_of
from charge_point_gateway.station_session import MESSAGES, SENT_MESSAGES, StationSession
from emobility.domain.errors import MalformedInput
from emobility.protocols.station_control.messages import (
    CommandOutcome,
    CommandResult,
    OCPPCall,
    Reset,
    SetChargingProfile,
    SetVariable,
    StartTransaction,
    StationCommand,
    StopTransaction,
    TriggerMessage,
)

TIMEOUT_S_MAX: Final = 120
"""Longest a command may wait for its station."""
DEFAULT_COMPONENT: Final = "OCPPCommCtrlr"
"""The 2.0.1 component of a variable that names none; most settings that 1.6 has too live there."""
_NOT_SUPPORTED: Final = frozenset(
    {
        "NotSupported",
        "NotImplemented",
        "UnknownComponent",
        "UnknownVariable",
        "NotSupportedAttributeType",
    }
)
_ACCEPTED: Final = frozenset({"Accepted", "RebootRequired", "Scheduled"})

Call = tuple[str, dict[str, Any]]
Part = StartTransaction | StopTransaction | SetChargingProfile | TriggerMessage | Reset | SetVariable | OCPPCall


class NotOneCommand(MalformedInput):
    """A `StationCommand` holds exactly one command, and its time-out is 1 to `TIMEOUT_S_MAX` seconds."""


def only_part(command: StationCommand) -> Part:
    """Return the command inside. Raises `NotOneCommand`."""
    parts: list[Part | None] = [
        command.start_transaction,
        command.stop_transaction,
        command.set_charging_profile,
        command.trigger_message,
        command.reset,
        command.set_variable,
        command.ocpp_call,
    ]
    given = [part for part in parts if part is not None]
    if len(given) != 1 or not 1 <= command.timeout_s <= TIMEOUT_S_MAX:
        raise NotOneCommand(f"one command and a time-out of 1 to {TIMEOUT_S_MAX} s are needed")
    return given[0]


def call_for(part: Part, version: OCPPVersion) -> Call:
    """Return the action and payload of a command. Raises `NotOneCommand` when the version can't say it."""
    if isinstance(part, OCPPCall):
        return _own_call(part, version)
    return _CALLS[OCPPVersion.V201 if version is OCPPVersion.V21 else version, type(part)](part)


def actions_of_csms(version: OCPPVersion) -> frozenset[str]:
    """Return the actions that a CSMS may call: all but those that only stations send. DataTransfer goes both ways."""
    sent_by_stations = MESSAGES[version].keys() | SENT_MESSAGES[version].keys()
    return frozenset(schemas_of(version).actions) - (sent_by_stations - {"DataTransfer"})


def _own_call(part: OCPPCall, version: OCPPVersion) -> Call:
    if part.action not in actions_of_csms(version):
        raise NotOneCommand(f"a CSMS has no {part.action[:50]} in OCPP {version.value}")
    return part.action, part.payload


async def execute(session: StationSession, part: Part, *, timeout_s: int) -> CommandOutcome:
    """Send a command to its station and return what the station said."""
    try:
        action, payload = call_for(part, session.version)
        settled = await session.call(action, payload, timeout_s=timeout_s)
    except NotOneCommand as error:
        return CommandOutcome(result=CommandResult.NOT_SUPPORTED, station_status=str(error)[:200])
    except CallRefused as error:
        is_own = isinstance(part, OCPPCall)
        result = CommandResult.MALFORMED if is_own else CommandResult.NOT_SUPPORTED
        return CommandOutcome(result=result, station_status=str(error)[:200])
    except CallQueueFull:
        return CommandOutcome(result=CommandResult.REJECTED, station_status="too many commands wait")
    outcome = _outcome(settled)
    return replace(outcome, answer=settled.payload) if isinstance(part, OCPPCall) else outcome


def _outcome(settled: CallSettled) -> CommandOutcome:
    if settled.has_timed_out:
        return CommandOutcome(result=CommandResult.TIMED_OUT)
    if settled.error_code is not None:
        is_unknown = settled.error_code in _NOT_SUPPORTED
        result = CommandResult.NOT_SUPPORTED if is_unknown else CommandResult.REJECTED
        return CommandOutcome(result=result, station_status=settled.error_code)
    answer = settled.payload
    status: str | None = (
        answer["setVariableResult"][0]["attributeStatus"] if "setVariableResult" in answer else answer.get("status")
    )
    if status is None or status in _ACCEPTED:
        result = CommandResult.ACCEPTED
    else:
        result = CommandResult.NOT_SUPPORTED if status in _NOT_SUPPORTED else CommandResult.REJECTED
    return CommandOutcome(result=result, station_status=status, transaction_id=answer.get("transactionId"))


# -- OCPP 1.6 ---------------------------------------------------------------------------------------------------------


def _start_16(part: StartTransaction) -> Call:
    payload: dict[str, Any] = {"connectorId": part.ocpp_evse_id, "idTag": part.id_token}
    if part.charging_profile is not None:
        payload["chargingProfile"] = part.charging_profile
    return "RemoteStartTransaction", payload


def _stop_16(part: StopTransaction) -> Call:
    if not part.transaction_id.lstrip("-").isdecimal():
        raise NotOneCommand("a 1.6 transaction id is a number")
    return "RemoteStopTransaction", {"transactionId": int(part.transaction_id)}


def _profile_16(part: SetChargingProfile) -> Call:
    return "SetChargingProfile", {"connectorId": part.ocpp_evse_id, "csChargingProfiles": part.profile}


def _trigger_16(part: TriggerMessage) -> Call:
    payload: dict[str, Any] = {"requestedMessage": part.requested_message}
    if part.ocpp_evse_id is not None:
        payload["connectorId"] = part.ocpp_evse_id
    return "TriggerMessage", payload


def _reset_16(part: Reset) -> Call:
    return "Reset", {"type": "Hard" if part.is_immediate else "Soft"}


def _variable_16(part: SetVariable) -> Call:
    return "ChangeConfiguration", {"key": part.variable, "value": part.value}


# -- OCPP 2.0.1 and 2.1, which say these alike ------------------------------------------------------------------------


def _start_201(part: StartTransaction) -> Call:
    payload: dict[str, Any] = {
        "remoteStartId": part.remote_start_id,
        "idToken": {"idToken": part.id_token, "type": "Central"},
        "evseId": part.ocpp_evse_id,
    }
    if part.charging_profile is not None:
        payload["chargingProfile"] = part.charging_profile
    return "RequestStartTransaction", payload


def _stop_201(part: StopTransaction) -> Call:
    return "RequestStopTransaction", {"transactionId": part.transaction_id}


def _profile_201(part: SetChargingProfile) -> Call:
    return "SetChargingProfile", {"evseId": part.ocpp_evse_id, "chargingProfile": part.profile}


def _trigger_201(part: TriggerMessage) -> Call:
    payload: dict[str, Any] = {"requestedMessage": part.requested_message}
    if part.ocpp_evse_id is not None:
        payload["evse"] = {"id": part.ocpp_evse_id}
    return "TriggerMessage", payload


def _reset_201(part: Reset) -> Call:
    return "Reset", {"type": "Immediate" if part.is_immediate else "OnIdle"}


def _variable_201(part: SetVariable) -> Call:
    variable = {
        "attributeValue": part.value,
        "component": {"name": part.component or DEFAULT_COMPONENT},
        "variable": {"name": part.variable},
    }
    return "SetVariables", {"setVariableData": [variable]}


_CALLS: Final[dict[tuple[OCPPVersion, type[Any]], Callable[[Any], Call]]] = {
    (OCPPVersion.V16, StartTransaction): _start_16,
    (OCPPVersion.V16, StopTransaction): _stop_16,
    (OCPPVersion.V16, SetChargingProfile): _profile_16,
    (OCPPVersion.V16, TriggerMessage): _trigger_16,
    (OCPPVersion.V16, Reset): _reset_16,
    (OCPPVersion.V16, SetVariable): _variable_16,
    (OCPPVersion.V201, StartTransaction): _start_201,
    (OCPPVersion.V201, StopTransaction): _stop_201,
    (OCPPVersion.V201, SetChargingProfile): _profile_201,
    (OCPPVersion.V201, TriggerMessage): _trigger_201,
    (OCPPVersion.V201, Reset): _reset_201,
    (OCPPVersion.V201, SetVariable): _variable_201,
}
