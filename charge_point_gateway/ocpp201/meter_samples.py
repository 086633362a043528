"""OCPP 2.0.1 MeterValueType: sampled values are numbers with a unit and a multiplier; a signed value comes beside."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from charge_point_gateway.message import moment, whole
from charge_point_gateway.meter_values import OCMF_PREFIX, Sample, signed_record_of
from emobility.domain.meter import ReadingContext


def samples_of(meter_values: Iterable[dict[str, Any]]) -> tuple[Sample, ...]:
    """Return every sampled value. Raises `CallRefused` for a timestamp outside the calendar."""
    return tuple(
        _sample(at, sampled)
        for meter_value in meter_values
        for at in (moment(meter_value["timestamp"]),)
        for sampled in meter_value["sampledValue"]
    )


def _sample(at: datetime, sampled: dict[str, Any]) -> Sample:
    unit = sampled.get("unitOfMeasure")
    signed = sampled.get("signedMeterValue")
    record = None if signed is None else signed_record_of(signed["signedMeterData"])
    return Sample(
        at=at,
        context=ReadingContext(sampled.get("context", "Sample.Periodic")),
        measurand=sampled.get("measurand", "Energy.Active.Import.Register"),
        number=str(sampled["value"]),
        unit=None if unit is None else unit.get("unit"),
        multiplier=0 if unit is None else whole(unit.get("multiplier", 0)),
        phase=sampled.get("phase"),
        location=sampled.get("location", "Outlet"),
        signed=record,
        fault=_fault(signed, record),
    )


def _fault(signed: dict[str, Any] | None, record: str | None) -> str | None:
    if signed is None or record is None or record.startswith(OCMF_PREFIX):
        return None
    return "the signed value is not the OCMF it says it is" if "OCMF" in signed["encodingMethod"].upper() else None
