"""What an operator states of a location, in OCPI's words; `help_phone` is of 2.3.0 and an addition in 2.2.1."""

from __future__ import annotations

from typing import Any

from emobility.domain.location_facts import LocationFacts
from emobility.protocols.ocpi import v221
from emobility.protocols.ocpi.place_facts import EnergyMix, EnergySource, Hours, RegularHours, plain


def facts_to_ocpi(facts: LocationFacts) -> dict[str, Any]:
    """Return the fields of a Location that say them."""
    operator = None
    if facts.operator_name is not None:
        operator = v221.BusinessDetails(name=facts.operator_name, website=facts.operator_website)
    directions = [] if facts.directions_en is None else [v221.DisplayText(language="en", text=facts.directions_en)]
    return {
        "publish": facts.is_public,
        "operator": operator,
        "wattroam_help_phone": facts.help_phone,
        "parking_type": facts.parking_type,
        "facilities": list(facts.facilities),
        "directions": directions,
        "opening_times": plain(_hours(facts)),
        "energy_mix": plain(_energy_mix(facts)),
    }


def _hours(facts: LocationFacts) -> Hours | None:
    if facts.is_always_open is None:
        return None
    regular = [
        RegularHours(weekday=each.weekday, period_begin=f"{each.begin:%H:%M}", period_end=f"{each.end:%H:%M}")
        for each in facts.open_hours
    ]
    return Hours(twentyfourseven=facts.is_always_open, regular_hours=[] if facts.is_always_open else regular)


def _energy_mix(facts: LocationFacts) -> EnergyMix | None:
    if facts.is_green_energy is None:
        return None
    return EnergyMix(
        is_green_energy=facts.is_green_energy,
        energy_sources=[EnergySource(source=each.source, percentage=each.percent) for each in facts.energy_shares],
        supplier_name=facts.energy_supplier,
    )
