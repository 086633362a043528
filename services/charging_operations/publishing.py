"""Who is told what: an eMSP sees the tariffs its agreement assigns, a navigation provider those for ad hoc payment.

The sender interfaces and the pushes use the same rules, so a pull can't show more than a push.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from emobility.domain.charging_station import Location
from emobility.domain.identifiers import PartyId
from emobility.domain.location_facts import LocationFacts
from emobility.domain.tariff.tariff import Tariff, TariffType
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi import v221
from emobility.protocols.ocpi.mapping import (
    PublishedEVSE,
    evse_to_ocpi,
    location_to_ocpi,
    owner_path,
    published,
    tariff_to_ocpi,
)
from emobility.protocols.ocpi.v221 import InterfaceRole, ModuleID
from services.charging_operations.office import Office, signed_agreements
from services.charging_operations.records import (
    EVSES,
    LOCATION,
    NEWEST_TARIFF,
    STATION,
    SUBSCRIBER,
    EVSERecord,
    StationRecord,
    TariffVersion,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Partner:
    """A counterparty and the tariffs it may see. `sees_ad_hoc`: those any passer-by pays; else by agreement."""

    party_id: PartyId
    tariff_ids: frozenset[str]
    sees_ad_hoc: bool

    def may_see(self, tariff: Tariff) -> bool:
        """Tell whether a tariff is its business."""
        if tariff.tariff_id in self.tariff_ids:
            return True
        return self.sees_ad_hoc and tariff.tariff_type is TariffType.AD_HOC_PAYMENT


async def partners(unit: UnitOfWork, party_id: PartyId, now: datetime) -> list[Partner]:
    """Return who is told of the CPO's locations: eMSPs with an agreement that has not ended, and subscribers."""
    assigned: dict[PartyId, set[str]] = {}
    for agreement in await signed_agreements(unit, party_id):
        if agreement.valid_until is None or agreement.valid_until > now:
            assigned.setdefault(agreement.emsp_id, set()).update(agreement.tariff_ids)
    found = [
        Partner(party_id=emsp_id, tariff_ids=frozenset(ids), sees_ad_hoc=False) for emsp_id, ids in assigned.items()
    ]
    subscribed = [row.subscriber_id for row in await unit.table(SUBSCRIBER).select({"party_id": party_id})]
    found += [
        Partner(party_id=subscriber, tariff_ids=frozenset(), sees_ad_hoc=True)
        for subscriber in subscribed
        if subscriber not in assigned
    ]
    return sorted(found, key=lambda partner: partner.party_id)


async def partner(unit: UnitOfWork, party_id: PartyId, requester: PartyId, now: datetime) -> Partner:
    """Return what a requester may see; whoever is no eMSP of ours sees what a passer-by may."""
    for each in await partners(unit, party_id, now):
        if each.party_id == requester:
            return each
    return Partner(party_id=requester, tariff_ids=frozenset(), sees_ad_hoc=True)


async def newest_tariffs(unit: UnitOfWork, party_id: PartyId) -> list[TariffVersion]:
    """Return the newest version of each tariff, by id."""
    return await unit.table(NEWEST_TARIFF).select({"party_id": party_id}, order_by=("tariff_id",))


@dataclass(frozen=True, slots=True, kw_only=True)
class Publisher:
    """Enters pushes into the delivery queue, in the unit of the change they tell of."""

    office: Office

    async def location_for(self, unit: UnitOfWork, location: Location, to: Partner) -> v221.Location:
        """Return a location as a partner may see it."""
        visible = [row.tariff for row in await newest_tariffs(unit, location.party_id) if to.may_see(row.tariff)]
        where = {"party_id": location.party_id, "location_id": location.location_id}
        states = {row.evse_uid: row for row in await unit.table(EVSES).select(where)}
        evses: list[PublishedEVSE] = []
        for station in await unit.table(STATION).select(where):
            evses += _published(station, states, visible, location.facts)
        return location_to_ocpi(location, evses)

    async def publish_location(
        self, unit: UnitOfWork, party_id: PartyId, location_id: str, *, correlation_id: str
    ) -> None:
        """Tell all partners of a location."""
        row = await unit.table(LOCATION).get(party_id, location_id)
        if row is None:
            return
        for to in await partners(unit, party_id, self.office.now()):
            await self._push_location(unit, row.location, to, correlation_id=correlation_id)

    async def publish_evse(self, unit: UnitOfWork, evse: EVSERecord, *, correlation_id: str) -> None:
        """Tell all partners of an EVSE's state."""
        station = await unit.table(STATION).get(evse.party_id, evse.charging_station_id)
        place = await unit.table(LOCATION).get(evse.party_id, evse.location_id)
        if station is None or place is None:
            return
        tariffs = [row.tariff for row in await newest_tariffs(unit, evse.party_id)]
        for to in await partners(unit, evse.party_id, self.office.now()):
            visible = [tariff for tariff in tariffs if to.may_see(tariff)]
            shown = next(
                each
                for each in _published(station, {evse.evse_uid: evse}, visible, place.location.facts)
                if each.evse_uid == evse.evse_uid
            )
            await self._put(
                unit,
                evse.party_id,
                to,
                module=ModuleID.LOCATIONS,
                parts=(evse.location_id, evse.evse_uid),
                object_key=f"evse/{evse.location_id}/{evse.evse_uid}",
                body=evse_to_ocpi(shown),
                correlation_id=correlation_id,
            )

    async def publish_tariff(self, unit: UnitOfWork, tariff: Tariff, *, correlation_id: str) -> None:
        """Tell those partners of a tariff whom it concerns."""
        for to in await partners(unit, tariff.party_id, self.office.now()):
            if to.may_see(tariff):
                await self._push_tariff(unit, tariff, to, correlation_id=correlation_id)

    async def publish_everything(
        self, unit: UnitOfWork, party_id: PartyId, to_party: PartyId, *, correlation_id: str
    ) -> None:
        """Tell one partner all it may see: it is new, or may now see more."""
        to = await partner(unit, party_id, to_party, self.office.now())
        for version in await newest_tariffs(unit, party_id):
            if to.may_see(version.tariff):
                await self._push_tariff(unit, version.tariff, to, correlation_id=correlation_id)
        for row in await unit.table(LOCATION).select({"party_id": party_id}, order_by=("location_id",)):
            await self._push_location(unit, row.location, to, correlation_id=correlation_id)

    async def _push_location(self, unit: UnitOfWork, location: Location, to: Partner, *, correlation_id: str) -> None:
        await self._put(
            unit,
            location.party_id,
            to,
            module=ModuleID.LOCATIONS,
            parts=(location.location_id,),
            object_key=f"location/{location.location_id}",
            body=await self.location_for(unit, location, to),
            correlation_id=correlation_id,
        )

    async def _push_tariff(self, unit: UnitOfWork, tariff: Tariff, to: Partner, *, correlation_id: str) -> None:
        await self._put(
            unit,
            tariff.party_id,
            to,
            module=ModuleID.TARIFFS,
            parts=(tariff.tariff_id,),
            object_key=f"tariff/{tariff.tariff_id}",
            body=tariff_to_ocpi(tariff),
            correlation_id=correlation_id,
            # Sessions may have started under a version that a newer one follows: its eMSP must know both.
            is_replaceable=False,
        )

    async def _put(
        self,
        unit: UnitOfWork,
        party_id: PartyId,
        to: Partner,
        *,
        module: ModuleID,
        parts: Sequence[str],
        object_key: str,
        body: v221.OCPIObject,
        correlation_id: str,
        is_replaceable: bool = True,
    ) -> None:
        await self.office.host.deliveries.enqueue(
            unit,
            own_party=party_id,
            to_party=to.party_id,
            method="PUT",
            module=module.value,
            interface_role=InterfaceRole.RECEIVER,
            path=owner_path(party_id, *parts),
            object_key=object_key,
            body=body,
            correlation_id=correlation_id,
            is_replaceable=is_replaceable,
        )


def _published(
    station: StationRecord, states: dict[str, EVSERecord], visible: Sequence[Tariff], facts: LocationFacts
) -> list[PublishedEVSE]:
    sold = [each.tariff_id for each in visible if not station.tariff_ids or each.tariff_id in station.tariff_ids]
    return [
        published(
            evse,
            status=states[evse.evse_uid].status,
            tariff_ids=sold,
            last_updated=states[evse.evse_uid].last_updated,
            facts=facts,
        )
        for evse in station.station.evses
        if evse.evse_uid in states
    ]
