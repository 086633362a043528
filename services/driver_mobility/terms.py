"""What holds for a charge at a place: the agreement, the wholesale tariff in force, the VAT on the retail one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from emobility.domain.agreement import RoamingAgreement, agreement_in_force
from emobility.domain.cdr_check import KnownTariff
from emobility.domain.errors import RuleBroken
from emobility.domain.identifiers import PartyId, Role
from emobility.domain.tariff.selection import zone_of
from emobility.domain.tariff.tariff import Tariff
from emobility.domain.tariff.version import tariff_hash
from emobility.domain.tax import tax_to_driver
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi import v221
from emobility.protocols.ocpi.agreement_exchange import ended
from services.driver_mobility.records import AGREEMENT, LOCATION, TARIFF, AgreementState, TariffVersion

DELIVERY_TOLERANCE: Final = timedelta(minutes=15)
"""How long before its receipt a tariff version may have been in force: what a push takes when the network is slow."""


class UnknownPlace(RuleBroken):
    """The CPO never told this MSP of the location or EVSE."""


class NoTariffKnown(RuleBroken):
    """The MSP has no tariff of the CPO that the agreement assigns and the connector carries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A connector a driver may charge at."""

    cpo_id: PartyId
    location_id: str
    name: str
    evse_uid: str
    connector_id: str
    tariff_ids: tuple[str, ...]
    power_w: int
    time_zone: str
    country: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WholesaleTerms:
    """What the MSP would owe the CPO there."""

    agreement: RoamingAgreement
    tariff: Tariff


async def agreement_at(unit: UnitOfWork, emsp_id: PartyId, cpo_id: PartyId, at: datetime) -> RoamingAgreement:
    """Return the pair's agreement in force. Raises `NoAgreementInForce`."""
    rows = await unit.table(AGREEMENT).select({"party_id": emsp_id, "cpo_id": cpo_id, "state": AgreementState.SIGNED})
    valid = await ended(unit, emsp_id, cpo_id, [row.agreement for row in rows])
    return agreement_in_force(valid, cpo_id, emsp_id, at)


async def signed_cpos(unit: UnitOfWork, emsp_id: PartyId) -> list[PartyId]:
    """Return the CPOs that signed an agreement with this MSP, in order of their ids."""
    rows = await unit.table(AGREEMENT).select({"party_id": emsp_id, "state": AgreementState.SIGNED})
    return sorted(dict.fromkeys(row.cpo_id for row in rows))


async def place_at(
    unit: UnitOfWork,
    emsp_id: PartyId,
    cpo_id: PartyId,
    *,
    location_id: str,
    evse_uid: str | None = None,
    connector_id: str | None = None,
) -> Place:
    """Return a connector; without `evse_uid` or `connector_id` the first. Raises `UnknownPlace`."""
    row = await unit.table(LOCATION).get(emsp_id, cpo_id, location_id)
    if row is None:
        raise UnknownPlace(f"{cpo_id} has no location {location_id}")
    for evse in row.location.evses:
        if evse_uid is not None and evse.uid.lower() != evse_uid.lower():
            continue
        for connector in evse.connectors:
            if connector_id is None or connector.id.lower() == connector_id.lower():
                return _place(row.location, evse, connector)
    raise UnknownPlace(f"location {location_id} has no EVSE {evse_uid} with connector {connector_id or 'any'}")


def _place(location: v221.Location, evse: v221.EVSE, connector: v221.Connector) -> Place:
    return Place(
        cpo_id=location.owner,
        location_id=location.id,
        name=location.name or location.address,
        evse_uid=evse.uid,
        connector_id=connector.id,
        tariff_ids=tuple(connector.tariff_ids),
        power_w=_power_w(connector),
        time_zone=location.time_zone,
        country=location.country,
    )


def _power_w(connector: v221.Connector) -> int:
    """OCPI 2.2.1, 8.3.3: without `max_electric_power` the product of voltage, current and phases stands."""
    phases = 3 if connector.power_type == "AC_3_PHASE" else 1
    return connector.max_electric_power or max(1, connector.max_voltage * connector.max_amperage * phases)


async def wholesale_terms(
    unit: UnitOfWork, emsp_id: PartyId, place: Place, at: datetime, *, known_by: datetime | None = None
) -> WholesaleTerms:
    """Return what applies at a place: the first tariff of the agreement that the connector carries, as in force.

    `known_by`: versions that were received later do not count.

    Raises:
        NoAgreementInForce: the pair has none.
        NoTariffKnown: no such tariff was pushed, or none of its versions is in force.
    """
    agreement = await agreement_at(unit, emsp_id, place.cpo_id, at)
    for tariff_id in agreement.tariff_ids:
        if tariff_id not in place.tariff_ids:
            continue
        versions = await tariff_versions(unit, emsp_id, place.cpo_id, tariff_id)
        version = in_force([each for each in versions if known_by is None or each.received_at <= known_by], at)
        if version is not None:
            return WholesaleTerms(agreement=agreement, tariff=version.tariff)
    raise NoTariffKnown(f"{place.cpo_id} published no tariff of agreement {agreement.agreement_id} for {place}")


async def tariff_versions(
    unit: UnitOfWork, emsp_id: PartyId, cpo_id: PartyId, tariff_id: str
) -> Sequence[TariffVersion]:
    """Return all versions of a tariff, oldest first."""
    return await unit.table(TARIFF).select(
        {"party_id": emsp_id, "cpo_id": cpo_id, "tariff_id": tariff_id}, order_by=("in_force_from",)
    )


def in_force(versions: Sequence[TariffVersion], at: datetime) -> TariffVersion | None:
    """Return the version in force at a moment."""
    for version, known in zip(versions, _spans(versions), strict=True):
        if known.in_force_from <= at and (known.in_force_until is None or at < known.in_force_until):
            return version
    return None


def known_tariffs(versions: Sequence[TariffVersion], at: datetime) -> Mapping[str, KnownTariff]:
    """Return versions by hash; a text that was in force twice is given as it was around `at`."""
    found: dict[str, KnownTariff] = {}
    for version, known in zip(versions, _spans(versions), strict=True):
        covers = known.in_force_from <= at and (known.in_force_until is None or at < known.in_force_until)
        if covers or version.tariff_hash not in found:
            found[version.tariff_hash] = known
    return found


def _spans(versions: Sequence[TariffVersion]) -> list[KnownTariff]:
    """A version is in force until any later one is, or it was withdrawn, or its own end.

    One that came late starts late, whatever date its CPO wrote on it; one overtaken by a later version never starts.
    """
    starts = [max(version.in_force_from, version.received_at - DELIVERY_TOLERANCE) for version in versions]
    spans = []
    for number, version in enumerate(versions):
        ends = [*starts[number + 1 :], version.ended_at, version.tariff.valid_until]
        known_ends = [end for end in ends if end is not None]
        spans.append(
            KnownTariff(
                tariff=version.tariff,
                in_force_from=starts[number],
                in_force_until=min(known_ends) if known_ends else None,
            )
        )
    return spans


def version_of(tariff: Tariff, emsp_id: PartyId, *, received_at: datetime) -> TariffVersion:
    """Return the row that keeps a pushed tariff for ever."""
    starts = [tariff.last_updated] if tariff.valid_from is None else [tariff.last_updated, tariff.valid_from]
    return TariffVersion(
        party_id=emsp_id,
        cpo_id=tariff.party_id,
        tariff_id=tariff.tariff_id,
        in_force_from=max(starts),
        tariff_hash=tariff_hash(tariff),
        tariff=tariff,
        received_at=received_at,
        ended_at=None,
    )


def vat_percent(emsp_id: PartyId, *, country: str, at: datetime, time_zone: str) -> Decimal:
    """Return the VAT a private driver pays at an EVSE in `country` (ISO 3166 alpha-3) on the local date there.

    Raises:
        NoTaxRule: nobody knows it.
        UnknownTimeZone: `time_zone` is no IANA zone.
    """
    decision = tax_to_driver(
        seller_role=Role.EMSP,
        seller_country=emsp_id.country_code,
        country=country,
        on=at.astimezone(zone_of(time_zone)).date(),
    )
    return decision.percent
