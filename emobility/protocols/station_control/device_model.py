"""Read what stations report of themselves, in the words of their OCPP version, as the one device model.

2.0.1 and 2.1 send NotifyReport and NotifyMonitoringReport in pages; 1.6 answers GetConfiguration. The gateway reads a
page before it stores it and takes secrets out, so the back office can read whatever was stored.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from emobility.domain.device_model import (
    AttributeType,
    Mutability,
    StationVariable,
    VariableAddress,
    VariableAttribute,
    VariableCharacteristics,
    VariableMonitor,
    is_secret,
)
from emobility.domain.errors import MalformedInput

NUMBER_MAX: Final = 2**53 - 1
"""Largest whole number every JSON reader agrees on (RFC 8259, section 6)."""
CONFIGURATION: Final = "Configuration"
"""The component of a 1.6 key that the device model of 2.0.1 has no place for."""
KEYS: Final[dict[str, tuple[str, str, str]]] = {
    "AdditionalRootCertificateCheck": ("SecurityCtrlr", "AdditionalRootCertificateCheck", ""),
    "AllowOfflineTxForUnknownId": ("AuthCtrlr", "OfflineTxForUnknownIdEnabled", ""),
    "AuthorizationCacheEnabled": ("AuthCacheCtrlr", "Enabled", ""),
    "AuthorizationKey": ("SecurityCtrlr", "BasicAuthPassword", ""),
    "AuthorizeRemoteTxRequests": ("AuthCtrlr", "AuthorizeRemoteStart", ""),
    "CertificateSignedMaxChainSize": ("SecurityCtrlr", "MaxCertificateChainSize", ""),
    "CertificateStoreMaxLength": ("SecurityCtrlr", "CertificateEntries", ""),
    "ChargeProfileMaxStackLevel": ("SmartChargingCtrlr", "ProfileStackLevel", ""),
    "ChargingScheduleAllowedChargingRateUnit": ("SmartChargingCtrlr", "RateUnit", ""),
    "ChargingScheduleMaxPeriods": ("SmartChargingCtrlr", "PeriodsPerSchedule", ""),
    "ClockAlignedDataInterval": ("AlignedDataCtrlr", "Interval", ""),
    "ConnectionTimeOut": ("TxCtrlr", "EVConnectionTimeOut", ""),
    "ConnectorSwitch3to1PhaseSupported": ("SmartChargingCtrlr", "Phases3to1", ""),
    "CpoName": ("SecurityCtrlr", "OrganizationName", ""),
    "HeartbeatInterval": ("OCPPCommCtrlr", "HeartbeatInterval", ""),
    "LocalAuthListEnabled": ("LocalAuthListCtrlr", "Enabled", ""),
    "LocalAuthListMaxLength": ("LocalAuthListCtrlr", "Entries", ""),
    "LocalAuthorizeOffline": ("AuthCtrlr", "LocalAuthorizeOffline", ""),
    "LocalPreAuthorize": ("AuthCtrlr", "LocalPreAuthorize", ""),
    "MaxChargingProfilesInstalled": ("SmartChargingCtrlr", "Entries", "ChargingProfiles"),
    "MaxEnergyOnInvalidId": ("TxCtrlr", "MaxEnergyOnInvalidId", ""),
    "MeterValueSampleInterval": ("SampledDataCtrlr", "TxUpdatedInterval", ""),
    "MeterValuesAlignedData": ("AlignedDataCtrlr", "Measurands", ""),
    "MeterValuesSampledData": ("SampledDataCtrlr", "TxUpdatedMeasurands", ""),
    "ReserveConnectorZeroSupported": ("ReservationCtrlr", "NonEvseSpecific", ""),
    "ResetRetries": ("OCPPCommCtrlr", "ResetRetries", ""),
    "SecurityProfile": ("SecurityCtrlr", "SecurityProfile", ""),
    "SendLocalListMaxLength": ("LocalAuthListCtrlr", "ItemsPerMessage", ""),
    "StopTransactionOnEVSideDisconnect": ("TxCtrlr", "StopTxOnEVSideDisconnect", ""),
    "StopTransactionOnInvalidId": ("TxCtrlr", "StopTxOnInvalidId", ""),
    "StopTxnAlignedData": ("AlignedDataCtrlr", "TxEndedMeasurands", ""),
    "StopTxnSampledData": ("SampledDataCtrlr", "TxEndedMeasurands", ""),
    "TransactionMessageAttempts": ("OCPPCommCtrlr", "MessageAttempts", "TransactionEvent"),
    "TransactionMessageRetryInterval": ("OCPPCommCtrlr", "MessageAttemptInterval", "TransactionEvent"),
    "UnlockConnectorOnEVSideDisconnect": ("OCPPCommCtrlr", "UnlockOnEVSideDisconnect", ""),
    "WebSocketPingInterval": ("OCPPCommCtrlr", "WebSocketPingInterval", ""),
}
"""1.6 key → component, variable and variable instance: the referenced ones of OCPP 2.0.1, part 2."""
_KEY_OF: Final = {place: key for key, place in KEYS.items()}
_PLACE_OF: Final = {key.casefold(): place for key, place in KEYS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportPage:
    """Which page of which report a payload is; the first has number 0."""

    request_id: int
    seq_no: int
    is_last: bool


def page_of(payload: dict[str, Any]) -> ReportPage:
    """Return the place of a page. Raises `MalformedInput` for a number out of range."""
    return ReportPage(
        request_id=_whole(payload["requestId"]),
        seq_no=_whole(payload["seqNo"]),
        is_last=not payload.get("tbc", False),
    )


def variables_of(payload: dict[str, Any]) -> tuple[StationVariable, ...]:
    """Return the variables of a NotifyReport, without secrets. Raises `MalformedInput` for a number out of range."""
    return tuple(_variable(entry) for entry in payload.get("reportData", ()))


def monitors_of(payload: dict[str, Any]) -> tuple[VariableMonitor, ...]:
    """Return the monitors of a NotifyMonitoringReport. Raises `MalformedInput` for a number out of range."""
    return tuple(
        VariableMonitor(
            monitor_id=_whole(each["id"]),
            address=address_of(entry),
            type=each["type"],
            value=Decimal(each["value"]),
            severity=_whole(each["severity"]),
            is_in_transactions_only=each["transaction"],
            notification_type=each.get("eventNotificationType"),
        )
        for entry in payload.get("monitor", ())
        for each in entry["variableMonitoring"]
    )


def without_secrets(payload: dict[str, Any]) -> dict[str, Any]:
    """Return a NotifyReport with everything in it as it came but the values that must be kept nowhere."""
    entries = payload.get("reportData")
    return payload if entries is None else payload | {"reportData": [_without_secret(entry) for entry in entries]}


def variables_of_configuration(answer: dict[str, Any]) -> tuple[StationVariable, ...]:
    """Return the configuration keys of a 1.6 GetConfiguration answer as variables, without secrets."""
    found = {}
    for each in answer.get("configurationKey", ()):
        key = each["key"]
        mutability = Mutability.READ_ONLY if each["readonly"] else Mutability.READ_WRITE
        value = None if is_secret(key) else each.get("value")
        found[key] = StationVariable(
            address=address_of_key(key),
            attributes=(VariableAttribute(value=value, mutability=mutability),),
            configuration_key=key,
        )
    return tuple(found.values())


def address_of_key(key: str) -> VariableAddress:
    """Return where the device model has a 1.6 key; a vendor's key is a variable of `CONFIGURATION`."""
    component, variable, instance = _PLACE_OF.get(key.casefold(), (CONFIGURATION, key, ""))
    return VariableAddress(component=component, variable=variable, variable_instance=instance)


def key_at(address: VariableAddress) -> str | None:
    """Return the 1.6 key of a variable; None where 1.6 has none."""
    if address.component_instance or address.evse_id or address.connector_id:
        return None
    if address.component == CONFIGURATION and not address.variable_instance:
        return address.variable
    return _KEY_OF.get((address.component, address.variable, address.variable_instance))


def address_of(entry: dict[str, Any]) -> VariableAddress:
    """Return where the `component` and `variable` of an entry point. Raises `MalformedInput`."""
    component, variable = entry["component"], entry["variable"]
    evse = component.get("evse", {})
    return VariableAddress(
        component=component["name"],
        variable=variable["name"],
        component_instance=component.get("instance", ""),
        variable_instance=variable.get("instance", ""),
        evse_id=_whole(evse.get("id", 0)),
        connector_id=_whole(evse.get("connectorId", 0)),
    )


def component_and_variable(address: VariableAddress) -> dict[str, Any]:
    """Write an address as OCPP 2.x does, in `component` and `variable`."""
    component: dict[str, Any] = {"name": address.component}
    variable = {"name": address.variable}
    if address.component_instance:
        component["instance"] = address.component_instance
    if address.variable_instance:
        variable["instance"] = address.variable_instance
    if address.evse_id:
        component["evse"] = {"id": address.evse_id}
        if address.connector_id:
            component["evse"]["connectorId"] = address.connector_id
    return {"component": component, "variable": variable}


def _variable(entry: dict[str, Any]) -> StationVariable:
    told = entry.get("variableCharacteristics")
    return StationVariable(
        address=address_of(entry),
        attributes=tuple(_attributes(_without_secret(entry)["variableAttribute"])),
        characteristics=None if told is None else _characteristics(told),
    )


def _attributes(told: Iterable[dict[str, Any]]) -> Iterable[VariableAttribute]:
    for each in told:
        yield VariableAttribute(
            type=AttributeType(each.get("type", AttributeType.ACTUAL)),
            value=each.get("value"),
            mutability=_mutability(each),
            is_persistent=each.get("persistent", False),
            is_constant=each.get("constant", False),
        )


def _characteristics(told: dict[str, Any]) -> VariableCharacteristics:
    low, high, most = told.get("minLimit"), told.get("maxLimit"), told.get("maxElements")
    return VariableCharacteristics(
        data_type=told["dataType"],
        supports_monitoring=told["supportsMonitoring"],
        unit=told.get("unit"),
        min_limit=None if low is None else Decimal(low),
        max_limit=None if high is None else Decimal(high),
        max_elements=None if most is None else _whole(most),
        values_list=told.get("valuesList"),
    )


def _without_secret(entry: dict[str, Any]) -> dict[str, Any]:
    name = entry["variable"]["name"]
    kept = [
        {field: value for field, value in each.items() if field != "value"}
        if is_secret(name, _mutability(each))
        else each
        for each in entry["variableAttribute"]
    ]
    return entry | {"variableAttribute": kept}


def _mutability(attribute: dict[str, Any]) -> Mutability:
    return Mutability(attribute.get("mutability", Mutability.READ_WRITE))


def _whole(value: Any) -> int:
    """A schema lets 3.0 and 10^30 pass for an integer."""
    if abs(value) > NUMBER_MAX:
        raise MalformedInput("a whole number is out of range")
    return int(value)
