"""What a passer-by pays now: the ad hoc tariff of a connector and the prices of it that hold at a moment.

The numbers come from the engine that prices sessions: a second of charging and a second of parking that start now.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from emobility.domain.errors import EmobilityError
from emobility.domain.session import ChargingPeriod
from emobility.domain.tariff.pricing import price_session
from emobility.domain.tariff.tariff import Tariff, TariffType
from emobility.domain.tariff.version import is_in_force
from emobility.protocols.datex2.publication import AdHocPrice, AdHocRate, points_of, power_w
from emobility.protocols.ocpi import mapping, v221

_SECOND: Final = timedelta(seconds=1)


def rates_at(location: v221.Location, tariffs: Mapping[str, v221.Tariff], now: datetime) -> dict[str, AdHocRate]:
    """Return the rate of each EVSE that has one, by uid. `tariffs`: by id in lower case."""
    found = {}
    for evse in points_of(location):
        rate = _rate(evse, tariffs, now=now, time_zone=location.time_zone)
        if rate is not None:
            found[evse.uid] = rate
    return found


def _rate(evse: v221.EVSE, tariffs: Mapping[str, v221.Tariff], *, now: datetime, time_zone: str) -> AdHocRate | None:
    for connector in evse.connectors:
        tariff = ad_hoc_tariff(connector, tariffs, now)
        if tariff is None:
            continue
        prices = prices_now(tariff, now=now, power_w=power_w(connector), time_zone=time_zone)
        if prices is not None:
            return AdHocRate(
                tariff_id=tariff.tariff_id, currency=tariff.currency, last_updated=tariff.last_updated, prices=prices
            )
    return None


def ad_hoc_tariff(connector: v221.Connector, tariffs: Mapping[str, v221.Tariff], now: datetime) -> Tariff | None:
    """Return the tariff a passer-by pays at a connector at `now`, if its owner published one."""
    for tariff_id in connector.tariff_ids:
        listed = tariffs.get(tariff_id.lower())
        if listed is not None and listed.type is TariffType.AD_HOC_PAYMENT:
            tariff = mapping.tariff_from_ocpi(listed)
            if is_in_force(tariff, now):
                return tariff
    return None


def prices_now(tariff: Tariff, *, now: datetime, power_w: int, time_zone: str) -> tuple[AdHocPrice, ...] | None:
    """Return the prices that hold at `now`, net; empty: it is free; None when the tariff can't be priced."""
    periods = (
        ChargingPeriod(
            started_at=now, energy_import_wh=1, charging_s=1, parking_s=0, power_w_min=power_w, power_w_max=power_w
        ),
        ChargingPeriod(started_at=now + _SECOND, energy_import_wh=0, charging_s=0, parking_s=1),
    )
    try:
        priced = price_session(tariff, periods, ended_at=now + 2 * _SECOND, time_zone=time_zone)
    except EmobilityError:
        return None
    found = [
        AdHocPrice(dimension=line.dimension, price=line.price, vat_percent=line.vat_percent)
        for line in priced.lines
        if line.price
    ]
    return tuple(dict.fromkeys(found))
