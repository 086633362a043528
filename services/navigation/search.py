"""Find stations by place, power, availability or words, nearest first. Public data only, as the owners published it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from emobility.domain.charging_station import EVSEStatus
from emobility.domain.identifiers import PartyId
from emobility.ports.stores import SELECT_ROWS_MAX
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.datex2.ad_hoc_prices import ad_hoc_tariff
from emobility.protocols.datex2.publication import power_w
from emobility.protocols.ocpi import v221
from services.navigation.prices import price_text
from services.navigation.records import LOCATION, TARIFF

STATIONS_MAX: Final = 200
"""Most stations one answer lists."""
EARTH_RADIUS_M: Final = 6_371_000


class FoundConnector(msgspec.Struct, frozen=True, kw_only=True):
    """A plug; `ad_hoc_price` is what a passer-by pays now, gross."""

    connector_id: str
    standard: str
    format: str
    power_type: str
    power_w_max: int
    ad_hoc_price: str | None


class FoundEVSE(msgspec.Struct, frozen=True, kw_only=True):
    """A place to charge."""

    evse_uid: str
    emi3_id: str | None
    status: EVSEStatus
    last_updated: datetime
    connectors: list[FoundConnector]


class FoundStation(msgspec.Struct, frozen=True, kw_only=True):
    """A location."""

    cpo_id: str
    location_id: str
    name: str
    address: str
    city: str
    postal_code: str
    country: str
    latitude: str
    longitude: str
    time_zone: str
    distance_m: int | None
    evses: list[FoundEVSE]


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What is looked for; each condition that is given must hold.

    Attributes:
        place: Latitude and longitude in micro-degrees.
        radius_m: Farthest distance from `place`.
        power_w_min: Least power of a connector.
        is_available: Only EVSEs that are free now.
        text: Part of name, address, city or postal code.
    """

    place: tuple[int, int] | None = None
    radius_m: int | None = None
    power_w_min: int = 0
    is_available: bool = False
    text: str = ""


async def find_stations(unit: UnitOfWork, nsp_id: PartyId, search: Search, *, now: datetime) -> list[FoundStation]:
    """Return at most `STATIONS_MAX` stations, nearest first, else by name."""
    tariffs: dict[PartyId, dict[str, v221.Tariff]] = {}
    for stored in await unit.table(TARIFF).select({"nsp_id": nsp_id}):
        tariffs.setdefault(stored.cpo_id, {})[stored.tariff_id] = stored.opened()
    found: list[FoundStation] = []
    offset = 0
    while True:
        rows = await unit.table(LOCATION).select({"nsp_id": nsp_id}, offset=offset)
        for row in rows:
            found += _found(row.opened(), search, tariffs.get(row.cpo_id, {}), now)
        offset += len(rows)
        if len(rows) < SELECT_ROWS_MAX:
            break
    found.sort(key=lambda each: (each.distance_m or 0, each.name, each.cpo_id, each.location_id))
    return found[:STATIONS_MAX]


def _found(
    location: v221.Location, search: Search, tariffs: Mapping[str, v221.Tariff], now: datetime
) -> Iterator[FoundStation]:
    if not location.publish or not _mentions(location, search.text):
        return
    distance_m = None if search.place is None else distance_between_m(search.place, place_of(location))
    if distance_m is not None and search.radius_m is not None and distance_m > search.radius_m:
        return
    evses = [
        _evse(evse, location, tariffs, now)
        for evse in location.evses
        if evse.status is not EVSEStatus.REMOVED
        and (evse.status is EVSEStatus.AVAILABLE or not search.is_available)
        and max(power_w(connector) for connector in evse.connectors) >= search.power_w_min
    ]
    if evses or not (search.is_available or search.power_w_min):
        yield FoundStation(
            cpo_id=location.owner.code,
            location_id=location.id,
            name=location.name or location.address,
            address=location.address,
            city=location.city,
            postal_code=location.postal_code or "",
            country=location.country,
            latitude=location.coordinates.latitude,
            longitude=location.coordinates.longitude,
            time_zone=location.time_zone,
            distance_m=distance_m,
            evses=evses,
        )


def _evse(evse: v221.EVSE, location: v221.Location, tariffs: Mapping[str, v221.Tariff], now: datetime) -> FoundEVSE:
    connectors = []
    for connector in evse.connectors:
        tariff = ad_hoc_tariff(connector, tariffs, now)
        price = None
        if tariff is not None:
            price = price_text(tariff, now=now, power_w=power_w(connector), time_zone=location.time_zone)
        connectors.append(
            FoundConnector(
                connector_id=connector.id,
                standard=connector.standard,
                format=connector.format,
                power_type=connector.power_type,
                power_w_max=power_w(connector),
                ad_hoc_price=price,
            )
        )
    return FoundEVSE(
        evse_uid=evse.uid,
        emi3_id=evse.evse_id,
        status=evse.status,
        last_updated=evse.last_updated,
        connectors=connectors,
    )


def place_of(location: v221.Location) -> tuple[int, int]:
    """Return latitude and longitude in micro-degrees."""
    return micro_degrees(location.coordinates.latitude), micro_degrees(location.coordinates.longitude)


def micro_degrees(text: str) -> int:
    """Return decimal degrees as micro-degrees (11 cm). Raises `ValueError`."""
    degrees = float(text)
    if not math.isfinite(degrees) or abs(degrees) > 180:
        raise ValueError(f"{text} is no angle on Earth")
    return round(degrees * 1_000_000)


def distance_between_m(one: tuple[int, int], other: tuple[int, int]) -> int:
    """Return the great-circle distance in whole metres (haversine; error below 0.6 %)."""
    lat1, lon1, lat2, lon2 = (math.radians(micro / 1_000_000) for micro in (*one, *other))
    half = math.sin((lat2 - lat1) / 2) ** 2 + math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    return round(2 * EARTH_RADIUS_M * math.asin(min(1.0, math.sqrt(half))))


def _mentions(location: v221.Location, text: str) -> bool:
    words = text.casefold().split()
    if not words:
        return True
    shown = " ".join(
        part for part in (location.name, location.address, location.city, location.postal_code) if part
    ).casefold()
    return all(word in shown for word in words)
