"""What a passer-by pays now, in words: the ad hoc tariff of a connector, gross, as the law asks it to be shown.

The numbers come from the engine that prices sessions: a second of charging and a second of parking that start now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from emobility.domain.errors import EmobilityError
from emobility.domain.session import ChargingPeriod
from emobility.domain.tariff.pricing import price_session
from emobility.domain.tariff.tariff import Tariff, TariffDimension, TariffType
from emobility.domain.tariff.version import is_in_force
from emobility.protocols.datex2.publication import AdHocPrice
from emobility.protocols.ocpi import mapping, v221

_PER: Final = {
    TariffDimension.ENERGY: " per kWh",
    TariffDimension.TIME: " per hour of charging",
    TariffDimension.PARKING_TIME: " per hour of parking",
    TariffDimension.FLAT: " per session",
}
_SECOND: Final = timedelta(seconds=1)


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


def price_text(tariff: Tariff, *, now: datetime, power_w: int, time_zone: str) -> str | None:
    """Return the prices that hold at `now`, tax included; None when the tariff can't be priced."""
    prices = prices_now(tariff, now=now, power_w=power_w, time_zone=time_zone)
    if prices is None:
        return None
    parts = [_part(each.dimension, each.price, each.vat_percent, tariff.currency) for each in prices]
    return ", ".join(_once(parts)) or "free of charge"


def _part(dimension: TariffDimension, price: Decimal, vat_percent: Decimal | None, currency: str) -> str:
    if vat_percent is None:
        return f"{_plain(price)} {currency}{_PER[dimension]}"
    gross = price * (100 + vat_percent) / 100
    return f"{_plain(gross)} {currency}{_PER[dimension]} incl. {vat_percent.normalize():f} % VAT"


def _once(parts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(parts))


def _plain(number: Decimal) -> str:
    """Write at least two decimals and no zeros beyond."""
    whole, _, decimals = f"{number.normalize():f}".partition(".")
    return f"{whole}.{decimals.ljust(2, '0')}"
