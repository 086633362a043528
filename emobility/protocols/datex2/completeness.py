"""How much of what the law wants told is told: each field of AFIR, and for how many objects of a CPO it is present.

The fields follow Regulation (EU) 2023/1804, article 20, paragraph 2, each at the OCPI field that says it. Whether
a place is accessible to persons with disabilities is not among them: saying nothing may be the truth there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from emobility.domain.charging_station import EVSEStatus
from emobility.protocols.datex2.publication import PublicSite, points_of
from emobility.protocols.ocpi.place_facts import EnergyMix, Hours

MISSING_MAX: Final = 50
"""Objects that lack a field and are named; `present` and `total` count them all."""
_PAYING: Final = frozenset({"CREDIT_CARD_PAYABLE", "DEBIT_CARD_PAYABLE", "CONTACTLESS_CARD_SUPPORT", "PED_TERMINAL"})


class Level(StrEnum):
    """What a field is of."""

    LOCATION = "LOCATION"
    EVSE = "EVSE"
    CONNECTOR = "CONNECTOR"


@dataclass(frozen=True, slots=True, kw_only=True)
class AFIRField:
    """A field: what the law calls it, whether it is dynamic, and where OCPI says it."""

    name: str
    level: Level
    ocpi: str
    is_dynamic: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldCompleteness:
    """For how many objects a field is present; `missing` names the first that lack it."""

    field: AFIRField
    present: int
    total: int
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Completeness:
    """The report of a CPO. `hidden`: locations that are not public, which are not counted."""

    locations: int
    evses: int
    connectors: int
    hidden: int
    fields: tuple[FieldCompleteness, ...]

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing."""
        return all(each.present == each.total for each in self.fields)


_Has = Callable[[PublicSite, Any], bool]


def _says(name: str) -> _Has:
    return lambda _, each: bool(getattr(each, name))


def _is_open(site: PublicSite, _: Any) -> bool:
    return Hours.of(site.location.opening_times) is not None


def _is_sourced(site: PublicSite, _: Any) -> bool:
    return EnergyMix.of(site.location.energy_mix) is not None


def _is_payable(_: PublicSite, evse: Any) -> bool:
    return bool(_PAYING & set(evse.capabilities))


def _is_known(_: PublicSite, evse: Any) -> bool:
    return evse.status is not EVSEStatus.UNKNOWN


def _is_priced(site: PublicSite, evse: Any) -> bool:
    return evse.uid in site.rates


_TABLE: Final[tuple[tuple[str, Level, str, _Has], ...]] = (
    ("geographic location", Level.LOCATION, "Location.coordinates", _says("coordinates")),
    ("address", Level.LOCATION, "Location.address", _says("address")),
    ("postal code", Level.LOCATION, "Location.postal_code", _says("postal_code")),
    ("name of the operator", Level.LOCATION, "Location.operator.name", _says("operator")),
    ("contact of the operator", Level.LOCATION, "Location.help_phone", _says("wattroam_help_phone")),
    ("opening hours", Level.LOCATION, "Location.opening_times", _is_open),
    ("renewable electricity", Level.LOCATION, "Location.energy_mix.is_green_energy", _is_sourced),
    ("parking", Level.LOCATION, "Location.parking_type", _says("parking_type")),
    ("identification code", Level.EVSE, "EVSE.evse_id", _says("evse_id")),
    ("ad hoc payment methods", Level.EVSE, "EVSE.capabilities", _is_payable),
    ("operational status", Level.EVSE, "EVSE.status", _is_known),
    ("availability", Level.EVSE, "EVSE.status", _is_known),
    ("ad hoc price", Level.EVSE, "Tariff.type AD_HOC_PAYMENT", _is_priced),
    ("type of connector", Level.CONNECTOR, "Connector.standard", _says("standard")),
    ("type of current", Level.CONNECTOR, "Connector.power_type", _says("power_type")),
    ("maximum power", Level.CONNECTOR, "Connector.max_electric_power", _says("max_electric_power")),
)
_DYNAMIC: Final = frozenset({"operational status", "availability", "ad hoc price"})
FIELDS: Final = tuple(
    (AFIRField(name=name, level=level, ocpi=ocpi, is_dynamic=name in _DYNAMIC), has)
    for name, level, ocpi, has in _TABLE
)


def completeness(sites: Sequence[PublicSite], *, hidden: int = 0) -> Completeness:
    """Count what is present and name what is missing."""
    objects: dict[Level, list[tuple[str, PublicSite, Any]]] = {level: [] for level in Level}
    for site in sites:
        objects[Level.LOCATION].append((site.location.id, site, site.location))
        for evse in points_of(site.location):
            objects[Level.EVSE].append((f"{site.location.id}/{evse.uid}", site, evse))
            for connector in evse.connectors:
                name = f"{site.location.id}/{evse.uid}/{connector.id}"
                objects[Level.CONNECTOR].append((name, site, connector))
    counted = []
    for field, has in FIELDS:
        asked = objects[field.level]
        missing = [name for name, site, each in asked if not has(site, each)]
        counted.append(
            FieldCompleteness(
                field=field, present=len(asked) - len(missing), total=len(asked), missing=tuple(missing[:MISSING_MAX])
            )
        )
    return Completeness(
        locations=len(sites),
        evses=len(objects[Level.EVSE]),
        connectors=len(objects[Level.CONNECTOR]),
        hidden=hidden,
        fields=tuple(counted),
    )
