"""Vehicles as they are on Dutch roads: drawn in proportion to their registrations."""

from __future__ import annotations

import random
from dataclasses import dataclass
from decimal import Decimal

from simulator.tables import rows


@dataclass(frozen=True, slots=True, kw_only=True)
class VehicleModel:
    """A model; energy in Wh, power in W. `registrations` is how many are on the road."""

    name: str
    registrations: int
    battery_wh: int
    ac_power_w: int
    dc_power_w: int


def vehicle_models() -> tuple[VehicleModel, ...]:
    """Return the models of the data, most frequent first."""
    return tuple(
        VehicleModel(
            name=row["model"],
            registrations=int(row["registrations"]),
            battery_wh=_thousands(row["battery_kwh"]),
            ac_power_w=_thousands(row["ac_charge_kw_max"]),
            dc_power_w=_thousands(row["dc_charge_kw_max"]),
        )
        for row in rows("vehicles_v2g.csv")
    )


def draw_vehicle(chance: random.Random) -> VehicleModel:
    """Draw a model, weighted by registrations."""
    models = vehicle_models()
    place = chance.randrange(sum(each.registrations for each in models))
    for model in models:
        if place < model.registrations:
            return model
        place -= model.registrations
    raise AssertionError(f"{place} lies beyond all registrations")


def _thousands(text: str) -> int:
    return int(Decimal(text) * 1000)
