"""Charging profiles in the words of OCPP 1.6, 2.0.1 and 2.1, read and written without loss.

Numbers stand for themselves: 16 and 16.0 are one limit. What the domain has no field for (sales tariffs, curves,
`customData`) comes back as it was.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from emobility.domain.charging_profile import (
    ChargingProfile,
    ChargingSchedule,
    InstalledProfile,
    Kind,
    PhaseValues,
    Purpose,
    RateUnit,
    Recurrency,
    SchedulePeriod,
)
from emobility.domain.composite_schedule import CompositePeriod, CompositeSchedule
from emobility.domain.errors import MalformedInput

OCPP_16: Final = "1.6"
NUMBER_MAX: Final = 2**53 - 1
"""Largest whole number every JSON reader agrees on (RFC 8259, section 6)."""
_STATION_MAX_16: Final = "ChargePointMaxProfile"
_PHASE_VALUES: Final = {
    "limit": "limit",
    "dischargeLimit": "discharge_limit",
    "setpoint": "setpoint",
    "setpointReactive": "setpoint_reactive",
}


class ProfileNotUnderstood(MalformedInput):
    """A profile lacks what its version's schema asks for, or a value is no number or moment."""


class VersionCannotSay(MalformedInput):
    """OCPP 1.6 and 2.0.1 have no word for something in a profile."""


def read_profile(payload: dict[str, Any], version: str) -> ChargingProfile:
    """Read a ChargingProfile. Raises `ProfileNotUnderstood`."""
    left = dict(payload)
    try:
        if version == OCPP_16:
            schedules = [left.pop("chargingSchedule")]
            purpose = left.pop("chargingProfilePurpose")
            purpose = Purpose.STATION_MAX if purpose == _STATION_MAX_16 else Purpose(purpose)
            transaction_id = left.pop("transactionId", None)
        else:
            schedules = left.pop("chargingSchedule")
            purpose = Purpose(left.pop("chargingProfilePurpose"))
            transaction_id = left.pop("transactionId", None)
        recurrency = left.pop("recurrencyKind", None)
        return ChargingProfile(
            profile_id=as_whole(left.pop("chargingProfileId" if version == OCPP_16 else "id")),
            stack_level=as_whole(left.pop("stackLevel")),
            purpose=purpose,
            kind=Kind(left.pop("chargingProfileKind")),
            recurrency=None if recurrency is None else Recurrency(recurrency),
            valid_from=as_moment(left.pop("validFrom", None)),
            valid_to=as_moment(left.pop("validTo", None)),
            transaction_id=None if transaction_id is None else str(transaction_id),
            schedules=tuple(read_schedule(each) for each in schedules),
            dynamic_update_interval_s=as_whole(left.pop("dynUpdateInterval", None)),
            dynamic_update_at=as_moment(left.pop("dynUpdateTime", None)),
            further=left,
        )
    except (KeyError, ValueError, TypeError, ArithmeticError) as error:
        raise ProfileNotUnderstood(f"no charging profile of OCPP {version}: {error!r}"[:200]) from error


def write_profile(profile: ChargingProfile, version: str) -> dict[str, Any]:
    """Write a ChargingProfile. Raises `VersionCannotSay`."""
    is_16 = version == OCPP_16
    schedules = [write_schedule(each) for each in profile.schedules]
    purpose: str = profile.purpose
    if is_16:
        if len(schedules) != 1 or profile.purpose not in (Purpose.STATION_MAX, Purpose.TX_DEFAULT, Purpose.TX):
            raise VersionCannotSay(f"OCPP 1.6 has no {profile.purpose} of {len(schedules)} schedules")
        purpose = _STATION_MAX_16 if profile.purpose is Purpose.STATION_MAX else purpose
        schedules[0].pop("id", None)
    if version != "2.1" and (
        profile.kind is Kind.DYNAMIC or profile.purpose in (Purpose.PRIORITY, Purpose.LOCAL_GENERATION)
    ):
        raise VersionCannotSay(f"OCPP {version} has no {profile.kind} {profile.purpose}")
    transaction_id: str | int | None = profile.transaction_id
    if is_16 and profile.transaction_id is not None:
        if not profile.transaction_id.lstrip("-").isdecimal():
            raise VersionCannotSay("a transaction id of OCPP 1.6 is a number")
        transaction_id = int(profile.transaction_id)
    return _without_none(
        {
            "chargingProfileId" if is_16 else "id": profile.profile_id,
            "stackLevel": profile.stack_level,
            "chargingProfilePurpose": purpose,
            "chargingProfileKind": profile.kind.value,
            "recurrencyKind": None if profile.recurrency is None else profile.recurrency.value,
            "validFrom": _text_of(profile.valid_from),
            "validTo": _text_of(profile.valid_to),
            "transactionId": transaction_id,
            "dynUpdateInterval": profile.dynamic_update_interval_s,
            "dynUpdateTime": _text_of(profile.dynamic_update_at),
            "chargingSchedule": schedules[0] if is_16 else schedules,
        }
        | profile.further
    )


def read_schedule(payload: dict[str, Any]) -> ChargingSchedule:
    """Read a ChargingSchedule of any version; its periods are put in order. Raises what a missing field raises."""
    left = dict(payload)
    periods = [_read_period(each) for each in left.pop("chargingSchedulePeriod")]
    return ChargingSchedule(
        unit=RateUnit(left.pop("chargingRateUnit")),
        periods=tuple(sorted(periods, key=lambda period: period.start_s)),
        schedule_id=as_whole(left.pop("id", None)),
        start_at=as_moment(left.pop("startSchedule", None)),
        duration_s=as_whole(left.pop("duration", None)),
        min_charging_rate=as_number(left.pop("minChargingRate", None)),
        uses_local_time=left.pop("useLocalTime", None),
        further=left,
    )


def write_schedule(schedule: ChargingSchedule) -> dict[str, Any]:
    """Write a ChargingSchedule."""
    return _without_none(
        {
            "id": schedule.schedule_id,
            "startSchedule": _text_of(schedule.start_at),
            "duration": schedule.duration_s,
            "chargingRateUnit": schedule.unit.value,
            "minChargingRate": _json_number(schedule.min_charging_rate),
            "useLocalTime": schedule.uses_local_time,
            "chargingSchedulePeriod": [_write_period(each) for each in schedule.periods],
        }
        | schedule.further
    )


def read_composite(answer: dict[str, Any], version: str, *, evse_id: int) -> CompositeSchedule | None:
    """Read a GetCompositeSchedule answer; None where the station gave no schedule. Raises `ProfileNotUnderstood`."""
    try:
        schedule = answer.get("chargingSchedule" if version == OCPP_16 else "schedule")
        start = answer.get("scheduleStart") if version == OCPP_16 else (schedule or {}).get("scheduleStart")
        start_at = as_moment(start or (schedule or {}).get("startSchedule"))
        if schedule is None or start_at is None:
            return None
        read = read_schedule({key: value for key, value in schedule.items() if key not in ("evseId", "scheduleStart")})
        return CompositeSchedule(
            evse_id=evse_id,
            start_at=start_at,
            duration_s=read.duration_s or 0,
            unit=read.unit,
            periods=tuple(
                CompositePeriod(start_s=each.start_s, limit=each.limit, number_phases=each.number_phases or 3)
                for each in read.periods
            ),
        )
    except (KeyError, ValueError, TypeError, ArithmeticError) as error:
        raise ProfileNotUnderstood(f"no composite schedule of OCPP {version}: {error!r}"[:200]) from error


def set_charging_profile(installed: InstalledProfile, version: str) -> dict[str, Any]:
    """Return the payload of SetChargingProfile. Raises `VersionCannotSay`."""
    profile = write_profile(installed.profile, version)
    if version == OCPP_16:
        return {"connectorId": installed.evse_id, "csChargingProfiles": profile}
    return {"evseId": installed.evse_id, "chargingProfile": profile}


def get_composite_schedule(evse_id: int, *, duration_s: int, unit: RateUnit, version: str) -> dict[str, Any]:
    """Return the payload of GetCompositeSchedule."""
    place = "connectorId" if version == OCPP_16 else "evseId"
    return {place: evse_id, "duration": duration_s, "chargingRateUnit": unit.value}


def reported_profiles(payload: dict[str, Any], version: str) -> tuple[InstalledProfile, ...]:
    """Read a ReportChargingProfiles. Raises `ProfileNotUnderstood`."""
    return tuple(
        InstalledProfile(
            evse_id=as_whole(payload["evseId"]),
            profile=read_profile(each, version),
            source=payload["chargingLimitSource"],
        )
        for each in payload["chargingProfile"]
    )


def read_schedule_update(payload: dict[str, Any]) -> dict[str, PhaseValues]:
    """Read a ChargingScheduleUpdateType of 2.1: field of `SchedulePeriod` → values. Raises `ProfileNotUnderstood`."""
    try:
        read = {field: phase_values(payload, name) for name, field in _PHASE_VALUES.items()}
    except (ValueError, TypeError, ArithmeticError) as error:
        raise ProfileNotUnderstood("no values of a schedule") from error
    return {field: values for field, values in read.items() if values is not None}


def written_schedule_update(profile: ChargingProfile) -> dict[str, Any]:
    """Write the values of a dynamic profile as a ChargingScheduleUpdateType."""
    period = profile.schedule.periods[0]
    told: dict[str, Any] = {}
    for name, field in _PHASE_VALUES.items():
        told |= written_phase_values(getattr(period, field), name)
    return told


def phase_values(payload: dict[str, Any], name: str) -> PhaseValues | None:
    """Return `name`, `name_L2` and `name_L3` of a payload. None: it has none of them."""
    values = [as_number(payload.get(each)) for each in _names(name)]
    return None if values == [None] * 3 else PhaseValues(l1=values[0], l2=values[1], l3=values[2])


def written_phase_values(values: PhaseValues | None, name: str) -> dict[str, Any]:
    """Write phase values under `name`, `name_L2` and `name_L3`."""
    if values is None:
        return {}
    return _without_none(dict(zip(_names(name), map(_json_number, (values.l1, values.l2, values.l3)), strict=True)))


def _read_period(payload: dict[str, Any]) -> SchedulePeriod:
    values = {field: phase_values(payload, name) for name, field in _PHASE_VALUES.items()}
    taken = {each for name in _PHASE_VALUES for each in _names(name)}
    left = {key: value for key, value in payload.items() if key not in taken}
    return SchedulePeriod(
        start_s=as_whole(left.pop("startPeriod")),
        number_phases=as_whole(left.pop("numberPhases", None)),
        phase_to_use=as_whole(left.pop("phaseToUse", None)),
        operation_mode=left.pop("operationMode", None),
        further=left,
        **values,
    )


def _write_period(period: SchedulePeriod) -> dict[str, Any]:
    told: dict[str, Any] = {"startPeriod": period.start_s}
    for name, field in _PHASE_VALUES.items():
        told |= written_phase_values(getattr(period, field), name)
    told |= {
        "numberPhases": period.number_phases,
        "phaseToUse": period.phase_to_use,
        "operationMode": period.operation_mode,
    }
    return _without_none(told) | period.further


def _names(name: str) -> tuple[str, str, str]:
    return name, f"{name}_L2", f"{name}_L3"


def _without_none(told: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in told.items() if value is not None}


def as_whole(value: Any) -> Any:
    """Return a JSON integer as int (schemas let 3.0 pass), None as None. Raises `ValueError`."""
    if value is None:
        return None
    if isinstance(value, bool) or int(value) != value or abs(value) > NUMBER_MAX:
        raise ValueError("not a whole number")
    return int(value)


def as_number(value: Any) -> Decimal | None:
    """Return a JSON number exactly, None as None. Raises `ValueError`, `ArithmeticError`."""
    if value is None:
        return None
    number = Decimal(str(value))
    if not number.is_finite() or abs(number) > NUMBER_MAX:
        raise ValueError("not a number")
    return number


def _json_number(value: Decimal | None) -> int | float | None:
    """Write a number as JSON has it: the only place where a limit is a float, on its way out."""
    if value is None:
        return None
    return int(value) if value == value.to_integral_value() else float(value)


def as_moment(text: str | None) -> datetime | None:
    """Read an RFC 3339 moment as UTC; one without an offset is UTC already. Raises `ValueError`."""
    if text is None:
        return None
    at = datetime.fromisoformat(text)
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _text_of(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat().replace("+00:00", "Z")
