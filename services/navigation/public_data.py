"""Public data as a national access point gives it to everybody: where one can charge, what is free, what it costs.

AFIR (Regulation (EU) 2023/1804), article 20; OCPI objects as JSON, and DATEX II as XML. What may be seen is named here
field by field: whatever else an owner published (who may see a location that isn't public, pictures, words of its own)
stays inside. Nothing is kept for later answers, so a change that came in is seen at once.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from emobility.domain.identifiers import PartyId
from emobility.domain.tariff.tariff import TariffType
from emobility.ports.stores import SELECT_ROWS_MAX
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.datex2.ad_hoc_prices import rates_at
from emobility.protocols.datex2.publication import PublicSite, points_of
from emobility.protocols.ocpi import v221
from emobility.protocols.ocpi.place_facts import EnergyMix, Hours, plain
from services.navigation.records import LOCATION, TARIFF, StoredLocation, StoredTariff

SITES_MAX: Final = 1_000
"""Most locations that one answer holds; `Link` names the next."""
GZIP_LEVEL: Final = 5


class PublicLocations(msgspec.Struct, frozen=True, kw_only=True):
    """Locations as OCPI has them. `removed`: no longer public since `changed_since`, as `{party}/{location}`."""

    publication_time: datetime
    total: int
    data: list[v221.Location]
    removed: list[str]


class PublicTariffs(msgspec.Struct, frozen=True, kw_only=True):
    """Ad hoc tariffs as OCPI has them."""

    publication_time: datetime
    total: int
    data: list[v221.Tariff]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked for: of one CPO or of all, all there is or what changed since, and which part of it."""

    cpo_id: PartyId | None = None
    changed_since: datetime | None = None
    offset: int = 0
    limit: int = SITES_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicView:
    """What may be shown of what is asked for, in order of owner and id."""

    sites: tuple[PublicSite, ...]
    total: int
    removed: tuple[str, ...]
    tariffs: tuple[v221.Tariff, ...]

    def digest(self, *more: object) -> str:
        """Return a weak ETag: it changes whenever the content does, not with the moment of the answer."""
        said = hashlib.sha256(v221.write([site.location for site in self.sites]))
        for site in self.sites:
            said.update(repr(sorted(site.rates.items())).encode())
        said.update(v221.write([list(self.removed), list(self.tariffs), self.total, [str(each) for each in more]]))
        return f'W/"{said.hexdigest()[:32]}"'


async def view(unit: UnitOfWork, nap_id: PartyId, wanted: Wanted, *, now: datetime) -> PublicView:
    """Return what is public."""
    where = {"nsp_id": nap_id} if wanted.cpo_id is None else {"nsp_id": nap_id, "cpo_id": wanted.cpo_id}
    tariffs: dict[PartyId, dict[str, v221.Tariff]] = {}
    repriced: set[PartyId] = set()
    for priced in await _all_tariffs(unit, where):
        opened = priced.opened()
        if opened.type is TariffType.AD_HOC_PAYMENT:
            tariffs.setdefault(priced.cpo_id, {})[priced.tariff_id] = opened
            if wanted.changed_since is not None and priced.received_at >= wanted.changed_since:
                repriced.add(priced.cpo_id)
    rows = [
        row
        for row in await _all_locations(unit, where)
        if wanted.changed_since is None or row.received_at >= wanted.changed_since or row.cpo_id in repriced
    ]
    opened_rows = [(row, row.opened()) for row in rows]
    public = [(row, location) for row, location in opened_rows if location.publish]
    removed = [f"{row.cpo_id.code}/{location.id}" for row, location in opened_rows if not location.publish]
    part = public[wanted.offset : wanted.offset + wanted.limit]
    return PublicView(
        sites=tuple(_site(location, tariffs.get(row.cpo_id, {}), now) for row, location in part),
        total=len(public),
        removed=tuple(removed if wanted.changed_since is not None else ()),
        tariffs=tuple(each for cpo in sorted(tariffs) for _, each in sorted(tariffs[cpo].items())),
    )


def packed(body: bytes, accept_encoding: str) -> tuple[bytes, dict[str, str]]:
    """Return a body as it is sent, and the headers that say how."""
    headers = {"Vary": "Accept-Encoding"}
    offered = {each.split(";")[0].strip() for each in accept_encoding.lower().split(",") if "q=0" not in each}
    if not {"gzip", "*"} & offered:
        return body, headers
    return gzip.compress(body, GZIP_LEVEL, mtime=0), headers | {"Content-Encoding": "gzip"}


async def _all_locations(unit: UnitOfWork, where: Mapping[str, PartyId]) -> list[StoredLocation]:
    found: list[StoredLocation] = []
    while True:
        rows = await unit.table(LOCATION).select(where, order_by=("cpo_id", "location_id"), offset=len(found))
        found += rows
        if len(rows) < SELECT_ROWS_MAX:
            return found


async def _all_tariffs(unit: UnitOfWork, where: Mapping[str, PartyId]) -> list[StoredTariff]:
    found: list[StoredTariff] = []
    while True:
        rows = await unit.table(TARIFF).select(where, order_by=("cpo_id", "tariff_id"), offset=len(found))
        found += rows
        if len(rows) < SELECT_ROWS_MAX:
            return found


def _site(location: v221.Location, tariffs: Mapping[str, v221.Tariff], now: datetime) -> PublicSite:
    return PublicSite(location=shown(location, tariffs), rates=rates_at(location, tariffs, now))


def shown(location: v221.Location, tariffs: Mapping[str, v221.Tariff]) -> v221.Location:
    """Return a location with what everybody may see of it. `tariffs`: the public ones, by id in lower case."""
    return v221.Location(
        country_code=location.country_code,
        party_id=location.party_id,
        id=location.id,
        publish=True,
        name=location.name,
        address=location.address,
        city=location.city,
        postal_code=location.postal_code,
        state=location.state,
        country=location.country,
        coordinates=location.coordinates,
        parking_type=location.parking_type,
        directions=location.directions,
        operator=_business(location.operator),
        suboperator=_business(location.suboperator),
        owner_details=_business(location.owner_details),
        facilities=location.facilities,
        time_zone=location.time_zone,
        opening_times=plain(Hours.of(location.opening_times)),
        charging_when_closed=location.charging_when_closed,
        energy_mix=plain(EnergyMix.of(location.energy_mix)),
        wattroam_help_phone=location.wattroam_help_phone,
        evses=[_evse(evse, tariffs) for evse in points_of(location)],
        last_updated=location.last_updated,
    )


def _business(known: v221.BusinessDetails | None) -> v221.BusinessDetails | None:
    return None if known is None else v221.BusinessDetails(name=known.name, website=known.website)


def _evse(evse: v221.EVSE, tariffs: Mapping[str, v221.Tariff]) -> v221.EVSE:
    return v221.EVSE(
        uid=evse.uid,
        evse_id=evse.evse_id,
        status=evse.status,
        capabilities=evse.capabilities,
        connectors=[_connector(connector, tariffs) for connector in evse.connectors],
        floor_level=evse.floor_level,
        coordinates=evse.coordinates,
        physical_reference=evse.physical_reference,
        directions=evse.directions,
        parking_restrictions=evse.parking_restrictions,
        last_updated=evse.last_updated,
    )


def _connector(connector: v221.Connector, tariffs: Mapping[str, v221.Tariff]) -> v221.Connector:
    public: Sequence[str] = [each for each in connector.tariff_ids if each.lower() in tariffs]
    return msgspec.structs.replace(connector, tariff_ids=list(public))
