"""OCPP 2.0.1 MeterValueType: sampled values are numbers with a unit and a multiplier; a signed value comes beside."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from charge_point_gateway.message import moment, whole
from charge_point_gateway.meter_values import (
    CONTEXTS,
    DEFAULT_MEASURAND,
    KEPT,
    OCMF_PREFIX,
    Sample,
    signed_record_of,
)

_NO_UNIT: Final[dict[str, Any]] = {}


def samples_of(meter_values: Iterable[dict[str, Any]]) -> list[Sample]:
    """Return every sampled value that is kept. Raises `CallRefused` for a timestamp outside the calendar."""
    samples: list[Sample] = []
    for meter_value in meter_values:
        at = moment(meter_value["timestamp"])
        for sampled in meter_value["sampledValue"]:  # no generator: these are most of what stations say
            measurand = sampled.get("measurand", DEFAULT_MEASURAND)
            if measurand in KEPT or "signedMeterValue" in sampled:
                samples.append(_sample(at, measurand, sampled))
    return samples


def signed_samples_of(meter_values: Iterable[dict[str, Any]]) -> list[Sample]:
    """Return only the samples that carry a signed value: most messages have none, and are looked through fast."""
    return [
        _sample(moment(meter_value["timestamp"]), sampled.get("measurand", DEFAULT_MEASURAND), sampled)
        for meter_value in meter_values
        for sampled in meter_value["sampledValue"]
        if "signedMeterValue" in sampled
    ]


def latest(meter_values: Iterable[dict[str, Any]]) -> datetime:
    """Return when the last of the values was taken."""
    return max(moment(meter_value["timestamp"]) for meter_value in meter_values)


def _sample(at: datetime, measurand: str, sampled: dict[str, Any]) -> Sample:
    unit = sampled.get("unitOfMeasure", _NO_UNIT)
    signed = sampled.get("signedMeterValue")
    record = None if signed is None else signed_record_of(signed["signedMeterData"])
    return Sample(
        at=at,
        context=CONTEXTS[sampled.get("context", "Sample.Periodic")],
        measurand=measurand,
        number=sampled["value"],
        unit=unit.get("unit"),
        multiplier=whole(unit["multiplier"]) if "multiplier" in unit else 0,
        phase=sampled.get("phase"),
        location=sampled.get("location", "Outlet"),
        signed=record,
        fault=None if signed is None else _fault(signed, record),
    )


def _fault(signed: dict[str, Any], record: str | None) -> str | None:
    if record is None or record.startswith(OCMF_PREFIX):
        return None
    return "the signed value is not the OCMF it says it is" if "OCMF" in signed["encodingMethod"].upper() else None
