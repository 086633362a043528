"""OCPP 1.6 MeterValue (7.x): sampled values are strings, a signed value is a string in `SignedData` format."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from charge_point_gateway.message import moment
from charge_point_gateway.meter_values import CONTEXTS, Sample, signed_record_of


def samples_of(meter_values: Iterable[dict[str, Any]]) -> list[Sample]:
    """Return every sampled value. Raises `CallRefused` for a timestamp outside the calendar."""
    samples: list[Sample] = []
    for meter_value in meter_values:
        at = moment(meter_value["timestamp"])
        for sampled in meter_value["sampledValue"]:
            is_signed = sampled.get("format") == "SignedData"
            samples.append(
                Sample(
                    at=at,
                    context=CONTEXTS[sampled.get("context", "Sample.Periodic")],
                    measurand=sampled.get("measurand", "Energy.Active.Import.Register"),
                    number=None if is_signed else sampled["value"],
                    unit=sampled.get("unit"),
                    phase=sampled.get("phase"),
                    location=sampled.get("location", "Outlet"),
                    signed=signed_record_of(sampled["value"]) if is_signed else None,
                )
            )
    return samples
