"""Setting variables of a station: SetVariables, or in 1.6 one ChangeConfiguration per key; one result for each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from emobility.domain.device_model import Addressed, AttributeType, VariableAddress, VariableAttribute, is_secret
from emobility.domain.errors import Unavailable
from emobility.domain.identifiers import PartyId
from emobility.protocols.station_control.device_model import address_of, component_and_variable, key_at
from emobility.protocols.station_control.messages import CommandOutcome, CommandResult
from services.charging_operations.office import NotUnderstood, Office
from services.charging_operations.station_calls import OCPP_16, call_station, version_of
from services.charging_operations.station_records import STATION_VARIABLE, variable_key

SETTINGS_MAX: Final = 100
"""Variables that one request may set."""
SETTINGS_PER_MESSAGE: Final = 10
"""Variables in one SetVariables where the station has not told its ItemsPerMessage."""
_UNANSWERED: Final = frozenset({CommandResult.TIMED_OUT, CommandResult.STATION_OFFLINE})


@dataclass(frozen=True, slots=True, kw_only=True)
class VariableSetting(Addressed):
    """A value to set; 1.6 knows `component` and `variable` by its configuration key."""

    component: str
    variable: str
    value: str
    component_instance: str = ""
    variable_instance: str = ""
    evse_id: int = 0
    connector_id: int = 0
    attribute: AttributeType = AttributeType.ACTUAL


@dataclass(frozen=True, slots=True, kw_only=True)
class VariablesChange:
    """PUT variables."""

    variables: tuple[VariableSetting, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingResult:
    """What a station said to one setting: `status` is its own word, or ours where it said none.

    Ours are `UnknownVariable` (1.6 has no such key), `NotAnswered`, `NotSent` and the `CommandResult`s.
    """

    address: VariableAddress
    attribute: AttributeType
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingDesk:
    """Sets what operators ask for."""

    office: Office

    async def set_variables(
        self, party_id: PartyId, station_id: str, change: VariablesChange, *, correlation_id: str
    ) -> list[SettingResult]:
        """Have a station set values; return what it said to each, in order. After a time-out nothing more is sent.

        Raises:
            StationOffline: it is not connected.
            Unavailable: the gateway did not answer the first call.
            NotUnderstood: none, or more than `SETTINGS_MAX`.
        """
        if not 1 <= len(change.variables) <= SETTINGS_MAX:
            raise NotUnderstood(f"1 to {SETTINGS_MAX} variables can be set at once")
        is_16 = await version_of(self.office, party_id, station_id) == OCPP_16
        size = 1 if is_16 else await self._settings_per_message(party_id, station_id)
        results: list[SettingResult] = []
        is_away = False
        for first in range(0, len(change.variables), size):
            part = change.variables[first : first + size]
            if is_away:
                results += [_result(each, "NotSent") for each in part]
                continue
            call = _change_configuration(part[0]) if is_16 else _set_variables(part)
            if call is None:
                results.append(_result(part[0], "UnknownVariable"))
                continue
            try:
                outcome = await call_station(self.office, party_id, station_id, *call, correlation_id=correlation_id)
            except Unavailable:
                if not results:
                    raise
                outcome = CommandOutcome(result=CommandResult.TIMED_OUT)  # what was set before must be told
            is_away = outcome.result in _UNANSWERED
            results += _said(part, outcome)
        await self._note(party_id, station_id, change.variables, results)
        return results

    async def _settings_per_message(self, party_id: PartyId, station_id: str) -> int:
        """2.0.1, ItemsPerMessage of DeviceDataCtrlr: how many settings the station takes at once."""
        async with self.office.ports.units.begin() as unit:
            rows = await unit.table(STATION_VARIABLE).select(
                {"party_id": party_id, "charging_station_id": station_id}
                | {"component": "DeviceDataCtrlr", "variable": "ItemsPerMessage", "variable_instance": "SetVariables"}
            )
        values = [each.value for row in rows for each in row.attributes if each.type is AttributeType.ACTUAL]
        told = values[0] if values else None
        is_number = told is not None and told.isascii() and told.isdigit() and len(told) < 6
        return max(1, min(int(told), SETTINGS_MAX)) if told is not None and is_number else SETTINGS_PER_MESSAGE

    async def _note(
        self, party_id: PartyId, station_id: str, settings: Sequence[VariableSetting], results: Sequence[SettingResult]
    ) -> None:
        """Keep what is in force now; what needs a restart (RebootRequired) is not, and a secret is never kept."""
        async with self.office.ports.units.begin() as unit:
            for setting, result in zip(settings, results, strict=True):
                if result.status != "Accepted":
                    continue
                row = await unit.table(STATION_VARIABLE).get_for_update(
                    *variable_key(party_id, station_id, setting.address)
                )
                if row is not None:
                    attributes = tuple(_with_value(each, setting) for each in row.attributes)
                    await unit.table(STATION_VARIABLE).put(replace(row, attributes=attributes))
            await unit.commit()


def _change_configuration(setting: VariableSetting) -> tuple[str, dict[str, Any]] | None:
    key = key_at(setting.address) if setting.attribute is AttributeType.ACTUAL else None
    return None if key is None else ("ChangeConfiguration", {"key": key, "value": setting.value})


def _set_variables(settings: Iterable[VariableSetting]) -> tuple[str, dict[str, Any]]:
    told = [
        {"attributeType": each.attribute, "attributeValue": each.value, **component_and_variable(each.address)}
        for each in settings
    ]
    return "SetVariables", {"setVariableData": told}


def _said(settings: Sequence[VariableSetting], outcome: CommandOutcome) -> list[SettingResult]:
    answer = outcome.answer
    if answer is None:
        return [_result(each, outcome.station_status or outcome.result) for each in settings]
    if "status" in answer:  # ChangeConfiguration has one answer for its one key
        return [_result(each, answer["status"]) for each in settings]
    status = {
        (address_of(each), each.get("attributeType", AttributeType.ACTUAL)): each["attributeStatus"]
        for each in answer["setVariableResult"]
    }
    return [_result(each, status.get((each.address, each.attribute), "NotAnswered")) for each in settings]


def _result(setting: VariableSetting, status: str) -> SettingResult:
    return SettingResult(address=setting.address, attribute=setting.attribute, status=status)


def _with_value(attribute: VariableAttribute, setting: VariableSetting) -> VariableAttribute:
    if attribute.type is not setting.attribute or is_secret(setting.variable, attribute.mutability):
        return attribute
    return replace(attribute, value=setting.value)
