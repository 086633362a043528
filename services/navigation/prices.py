"""What a passer-by pays now, in words: the ad hoc tariff of a connector, gross, as the law asks it to be shown.

The numbers come from the engine that prices sessions: a second of charging and a second of parking that start now.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Final

from emobility.domain.tariff.tariff import Tariff, TariffDimension
from emobility.protocols.datex2.ad_hoc_prices import prices_now

_PER: Final = {
    TariffDimension.ENERGY: " per kWh",
    TariffDimension.TIME: " per hour of charging",
    TariffDimension.PARKING_TIME: " per hour of parking",
    TariffDimension.FLAT: " per session",
}


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
