"""Tariffs: immutable versions, published to whom they concern; market prices become versions, too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from emobility.domain.charging_periods import whole_second
from emobility.domain.identifiers import PartyId
from emobility.domain.money import Price
from emobility.domain.tariff.market import MarketPrice, MarketTerms, tariff_from_market
from emobility.domain.tariff.tariff import Tariff, TariffElement, TariffType
from emobility.domain.tariff.version import is_in_force, tariff_hash
from emobility.ports.unit_of_work import UnitOfWork
from services.charging_operations.office import NotFound, NotUnderstood, Office, require_hosted
from services.charging_operations.publishing import Publisher
from services.charging_operations.records import (
    MARKET,
    NEWEST_TARIFF,
    TARIFF,
    MarketRecord,
    StationRecord,
    TariffVersion,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TariffTerms:
    """What an operator states of a tariff; the rest (owner, id, time of the version) is ours to know."""

    currency: str
    elements: tuple[TariffElement, ...]
    tariff_type: TariffType | None = None
    price_min: Price | None = None
    price_max: Price | None = None
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    text_en: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TariffDesk:
    """Publishes tariffs."""

    office: Office
    publisher: Publisher

    async def publish(
        self, unit: UnitOfWork, party_id: PartyId, tariff_id: str, terms: TariffTerms, *, correlation_id: str
    ) -> TariffVersion:
        """Make a version that is in force from now on (or from `valid_from`). The same terms make no new version."""
        tariff = Tariff(
            party_id=party_id,
            tariff_id=tariff_id,
            currency=terms.currency,
            elements=terms.elements,
            last_updated=self.office.now(),
            tariff_type=terms.tariff_type,
            price_min=terms.price_min,
            price_max=terms.price_max,
            valid_from=terms.valid_from,
            valid_until=terms.valid_until,
            text_en=terms.text_en,
        )
        return await self._add(unit, tariff, correlation_id=correlation_id)

    async def follow_market(
        self, unit: UnitOfWork, terms: MarketTerms, prices: Sequence[MarketPrice], *, correlation_id: str
    ) -> TariffVersion:
        """Let a tariff follow market prices, beginning with those known now."""
        record = MarketRecord(
            party_id=terms.party_id, tariff_id=terms.tariff_id, terms=terms, prices=_merged((), prices)
        )
        await unit.table(MARKET).put(record)
        return await self._add_from_market(unit, record, correlation_id=correlation_id)

    async def add_market_prices(
        self,
        unit: UnitOfWork,
        party_id: PartyId,
        tariff_id: str,
        prices: Sequence[MarketPrice],
        *,
        keep_from: datetime | None = None,
        correlation_id: str,
    ) -> TariffVersion:
        """Add prices as the market publishes them; a price of an interval that is known replaces it.

        Args:
            unit: The unit of work.
            party_id: The CPO.
            tariff_id: A tariff that follows the market.
            prices: New prices.
            keep_from: Older intervals are left out of the new version.
            correlation_id: Joins the version to its cause.

        Raises:
            NotFound: the tariff follows no market.
        """
        known = await unit.table(MARKET).get_for_update(party_id, tariff_id)
        if known is None:
            raise NotFound(f"tariff {tariff_id} follows no market")
        merged = _merged(known.prices, prices)
        if keep_from is not None:
            merged = tuple(each for each in merged if each.start + timedelta(seconds=each.duration_s) > keep_from)
        record = replace(known, prices=merged)
        await unit.table(MARKET).put(record)
        return await self._add_from_market(unit, record, correlation_id=correlation_id)

    async def _add_from_market(self, unit: UnitOfWork, record: MarketRecord, *, correlation_id: str) -> TariffVersion:
        terms = replace(record.terms, last_updated=self.office.now())
        return await self._add(unit, tariff_from_market(terms, record.prices), correlation_id=correlation_id)

    async def _add(self, unit: UnitOfWork, tariff: Tariff, *, correlation_id: str) -> TariffVersion:
        await require_hosted(unit, tariff.party_id)
        if not tariff.elements:
            raise NotUnderstood("a tariff has at least one element")
        newest = await unit.table(NEWEST_TARIFF).get_for_update(tariff.party_id, tariff.tariff_id)
        if newest is not None and newest.tariff_hash == tariff_hash(tariff):
            return newest
        last_updated = whole_second(tariff.last_updated)
        if newest is not None and newest.last_updated >= last_updated:
            # Partners tell versions apart by their second.
            last_updated = newest.last_updated + timedelta(seconds=1)
        version = _version(replace(tariff, last_updated=last_updated))
        await unit.table(TARIFF).put(version)
        if newest is None or version.in_force_from >= newest.in_force_from:
            await unit.table(NEWEST_TARIFF).put(version)
        await self.publisher.publish_tariff(unit, version.tariff, correlation_id=correlation_id)
        return version


def _merged(known: Sequence[MarketPrice], added: Sequence[MarketPrice]) -> tuple[MarketPrice, ...]:
    prices = {price.start: price for price in (*known, *added)}
    return tuple(prices[start] for start in sorted(prices))


def _version(tariff: Tariff) -> TariffVersion:
    starts = [tariff.last_updated] if tariff.valid_from is None else [tariff.last_updated, tariff.valid_from]
    return TariffVersion(
        party_id=tariff.party_id,
        tariff_id=tariff.tariff_id,
        in_force_from=max(starts),
        tariff_hash=tariff_hash(tariff),
        tariff=tariff,
        last_updated=tariff.last_updated,
    )


async def version_at(unit: UnitOfWork, party_id: PartyId, tariff_id: str, at: datetime) -> TariffVersion | None:
    """Return the version in force at a moment; it is bound to sessions that start then."""
    found = await unit.table(TARIFF).select(
        {"party_id": party_id, "tariff_id": tariff_id},
        before=("in_force_from", whole_second(at) + timedelta(seconds=1)),
        order_by=("-in_force_from",),
        limit=1,
    )
    return found[0] if found and is_in_force(found[0].tariff, at) else None


async def tariff_for(
    unit: UnitOfWork, station: StationRecord, tariff_ids: Sequence[str], at: datetime
) -> TariffVersion | None:
    """Return the version that prices a session: the first of an agreement's tariffs that the station carries."""
    for tariff_id in tariff_ids:
        if station.tariff_ids and tariff_id not in station.tariff_ids:
            continue
        version = await version_at(unit, station.party_id, tariff_id, at)
        if version is not None:
            return version
    return None
