"""The receiver interfaces of a navigation provider: locations and tariffs as CPOs push them, and who is at the hub."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from emobility.domain.identifiers import PartyId, Role
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi.server import Interface, OCPICall, Reply
from emobility.protocols.ocpi.status import InvalidParameters, NoSuchObject
from emobility.protocols.ocpi.v221 import (
    EVSE,
    ClientInfo,
    ConnectionStatus,
    Connector,
    InterfaceRole,
    Location,
    ModuleID,
    Tariff,
    write,
)
from services.navigation.merging import connector_of, evse_of, merged, patched, with_connector, with_evse
from services.navigation.records import LOCATION, TARIFF, StoredLocation, StoredTariff

CPOSeen = Callable[[PartyId, PartyId], None]
"""Told that an NSP (first) may fetch from a CPO (second)."""
StatusChanged = Callable[[timedelta], None]
"""Told how old the state of an EVSE was when it came, which is when it is public."""


async def store_location(unit: UnitOfWork, nsp_id: PartyId, pushed: Location, *, now: datetime) -> bool:
    """Keep a location, whole; tell whether it is new."""
    known = await unit.table(LOCATION).get_for_update(nsp_id, pushed.owner, pushed.id.lower())
    await _put(unit, nsp_id, merged(known.opened() if known else None, pushed), now=now)
    return known is None


async def store_tariff(unit: UnitOfWork, nsp_id: PartyId, pushed: Tariff, *, now: datetime) -> bool:
    """Keep a tariff unless a newer one is known; tell whether it is new."""
    known = await unit.table(TARIFF).get_for_update(nsp_id, pushed.owner, pushed.id.lower())
    if known is None or known.last_updated <= pushed.last_updated:
        await unit.table(TARIFF).put(
            StoredTariff(
                nsp_id=nsp_id,
                cpo_id=pushed.owner,
                tariff_id=pushed.id.lower(),
                document=write(pushed).decode(),
                last_updated=pushed.last_updated,
                received_at=now,
            )
        )
    return known is None


async def _put(unit: UnitOfWork, nsp_id: PartyId, location: Location, *, now: datetime) -> None:
    await unit.table(LOCATION).put(
        StoredLocation(
            nsp_id=nsp_id,
            cpo_id=location.owner,
            location_id=location.id.lower(),
            document=write(location).decode(),
            last_updated=location.last_updated,
            received_at=now,
        )
    )


def _created(*, is_new: bool) -> Reply:
    return Reply(http_status=201 if is_new else 200)


async def _known(unit: UnitOfWork, call: OCPICall) -> Location:
    """Return the location the URL names. Raises `NoSuchObject`."""
    found = await unit.table(LOCATION).get_for_update(call.own_party, call.owner(), call.path["location_id"].lower())
    if found is None:
        raise NoSuchObject("location")
    return found.opened()


def locations_interface(ports: Ports, changed: StatusChanged) -> Interface:
    """Return the receiver interface of locations, on three levels."""
    module = Interface(ModuleID.LOCATIONS, InterfaceRole.RECEIVER)
    place = "/{country_code}/{party_id}/{location_id}"
    _add_location(module, ports, place)
    _add_evse(module, ports, f"{place}/{{evse_uid}}", changed)
    _add_connector(module, ports, f"{place}/{{evse_uid}}/{{connector_id}}")
    return module


def _add_location(module: Interface, ports: Ports, place: str) -> None:
    @module.route("GET", place)
    async def get_location(call: OCPICall) -> Reply:
        async with ports.units.begin() as unit:
            return Reply(data=await _known(unit, call))

    @module.route("PUT", place)
    async def put_location(call: OCPICall) -> Reply:
        pushed = call.read_owned(Location, object_id=call.path["location_id"])
        async with ports.units.begin() as unit:
            is_new = await store_location(unit, call.own_party, pushed, now=ports.clock.now())
            await unit.commit()
        return _created(is_new=is_new)

    @module.route("PATCH", place)
    async def patch_location(call: OCPICall) -> Reply:
        async with ports.units.begin() as unit:
            location = patched(await _known(unit, call), call.body, fixed=("country_code", "party_id", "id"))
            await _put(unit, call.own_party, location, now=ports.clock.now())
            await unit.commit()
        return Reply()


def _add_evse(module: Interface, ports: Ports, place: str, changed: StatusChanged) -> None:
    @module.route("GET", place)
    async def get_evse(call: OCPICall) -> Reply:
        async with ports.units.begin() as unit:
            return Reply(data=evse_of(await _known(unit, call), call.path["evse_uid"]))

    @module.route("PUT", place)
    async def put_evse(call: OCPICall) -> Reply:
        pushed = call.read(EVSE)
        _agree(pushed.uid, call.path["evse_uid"], "uid")
        async with ports.units.begin() as unit:
            location = await _known(unit, call)
            is_new = all(evse.uid.lower() != pushed.uid.lower() for evse in location.evses)
            await _put(unit, call.own_party, with_evse(location, pushed), now=ports.clock.now())
            await unit.commit()
        changed(ports.clock.now() - pushed.last_updated)
        return _created(is_new=is_new)

    @module.route("PATCH", place)
    async def patch_evse(call: OCPICall) -> Reply:
        async with ports.units.begin() as unit:
            location = await _known(unit, call)
            evse = patched(evse_of(location, call.path["evse_uid"]), call.body, fixed=("uid",))
            await _put(unit, call.own_party, with_evse(location, evse), now=ports.clock.now())
            await unit.commit()
        changed(ports.clock.now() - evse.last_updated)
        return Reply()


def _add_connector(module: Interface, ports: Ports, place: str) -> None:
    @module.route("GET", place)
    async def get_connector(call: OCPICall) -> Reply:
        async with ports.units.begin() as unit:
            evse = evse_of(await _known(unit, call), call.path["evse_uid"])
        return Reply(data=connector_of(evse, call.path["connector_id"]))

    @module.route("PUT", place)
    async def put_connector(call: OCPICall) -> Reply:
        pushed = call.read(Connector)
        _agree(pushed.id, call.path["connector_id"], "id")
        async with ports.units.begin() as unit:
            location = await _known(unit, call)
            evse = evse_of(location, call.path["evse_uid"])
            is_new = all(each.id.lower() != pushed.id.lower() for each in evse.connectors)
            await _put(unit, call.own_party, with_connector(location, evse.uid, pushed), now=ports.clock.now())
            await unit.commit()
        return _created(is_new=is_new)

    @module.route("PATCH", place)
    async def patch_connector(call: OCPICall) -> Reply:
        async with ports.units.begin() as unit:
            location = await _known(unit, call)
            evse = evse_of(location, call.path["evse_uid"])
            connector = patched(connector_of(evse, call.path["connector_id"]), call.body, fixed=("id",))
            await _put(unit, call.own_party, with_connector(location, evse.uid, connector), now=ports.clock.now())
            await unit.commit()
        return Reply()


def tariffs_interface(ports: Ports) -> Interface:
    """Return the receiver interface of tariffs."""
    module = Interface(ModuleID.TARIFFS, InterfaceRole.RECEIVER)
    place = "/{country_code}/{party_id}/{tariff_id}"

    @module.route("GET", place)
    async def get_tariff(call: OCPICall) -> Reply:
        async with ports.units.begin() as unit:
            found = await unit.table(TARIFF).get(call.own_party, call.owner(), call.path["tariff_id"].lower())
        if found is None:
            raise NoSuchObject("tariff")
        return Reply(data=found.opened())

    @module.route("PUT", place)
    async def put_tariff(call: OCPICall) -> Reply:
        pushed = call.read_owned(Tariff, object_id=call.path["tariff_id"])
        async with ports.units.begin() as unit:
            is_new = await store_tariff(unit, call.own_party, pushed, now=ports.clock.now())
            await unit.commit()
        return _created(is_new=is_new)

    @module.route("DELETE", place)
    async def delete_tariff(call: OCPICall) -> Reply:
        async with ports.units.begin() as unit:
            if not await unit.table(TARIFF).delete(call.own_party, call.owner(), call.path["tariff_id"].lower()):
                raise NoSuchObject("tariff")
            await unit.commit()
        return Reply()

    return module


def client_info_interface(seen: CPOSeen) -> Interface:
    """Return the receiver interface of hubclientinfo: a CPO that connects is fetched from."""
    module = Interface(ModuleID.HUBCLIENTINFO, InterfaceRole.RECEIVER)

    @module.route("PUT", "/{country_code}/{party_id}")
    async def put_client(call: OCPICall) -> Reply:
        client = call.read(ClientInfo)
        _agree(f"{client.country_code}{client.party_id}", call.path["country_code"] + call.path["party_id"], "party")
        if client.role is Role.CPO and client.status is ConnectionStatus.CONNECTED:
            seen(call.own_party, client.owner)
        return Reply()

    return module


def _agree(in_body: str, in_url: str, name: str) -> None:
    if in_body.lower() != in_url.lower():
        raise InvalidParameters(f"{name} differs between URL and body")
