"""Who owes the value added tax of a charge: rules as data, each with its law. `tax` decides by them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Final

from emobility.domain.agreement import TaxRegime
from emobility.domain.vat_rates import LOOKED_UP_FROM


class BuyerStatus(StrEnum):
    """What the buyer is to the tax authority."""

    BUSINESS = "BUSINESS"
    """Holds a VAT id, which the seller has checked."""
    CONSUMER = "CONSUMER"


class VatArea(StrEnum):
    """Countries of one law on electricity across borders."""

    EU = "EU"
    CH = "CH"
    GB = "GB"
    NO = "NO"


EU_MEMBERS: Final = (
    *("AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE", "IT", "LT", "LU", "LV"),
    *("MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK"),
)
AREAS: Final = {**dict.fromkeys(EU_MEMBERS, VatArea.EU), "CH": VatArea.CH, "GB": VatArea.GB, "NO": VatArea.NO}
"""By country, ISO 3166 alpha-2."""
AREA_SINCE: Final = {
    VatArea.EU: date(2007, 1, 1),
    VatArea.CH: date(2018, 1, 1),
    VatArea.GB: date(2021, 1, 1),
    VatArea.NO: date(2021, 1, 1),
}
"""From when on the rules below hold: the Directive, MWSTG art. 7 (2) and 45 (1) d, the end of the UK's membership."""
ART_199A_UNTIL: Final = date(2027, 1, 1)
"""Directive (EU) 2022/890: until the end of 2026 members may have resellers account for electricity at home. A law of a
member that states no end of its own stands until it is changed, so its row has none either: look at each again then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeResaleRule:
    """A supply to an MSP of the same country that resells; `until` is the first day it no longer holds."""

    country: str
    regime: TaxRegime
    since: date
    until: date | None
    legal_reference: str


def _reversed(
    country: str, legal_reference: str, *, since: date = LOOKED_UP_FROM, until: date | None = None
) -> HomeResaleRule:
    return HomeResaleRule(
        country=country,
        regime=TaxRegime.REVERSE_CHARGE,
        since=since,
        until=until,
        legal_reference=legal_reference,
    )


def _charged(country: str, legal_reference: str, *, since: date = LOOKED_UP_FROM) -> HomeResaleRule:
    return HomeResaleRule(
        country=country, regime=TaxRegime.DOMESTIC, since=since, until=None, legal_reference=legal_reference
    )


HOME_RESALE_RULES: Final = (
    _reversed("AT", "AT UStBBKV § 2: electricity to a taxable dealer"),
    _charged("BE", "Directive 2006/112/EC art. 38 and 193"),
    _charged("CH", "CH MWSTG art. 7 (2) and 18 (1)", since=AREA_SINCE[VatArea.CH]),
    _reversed("CZ", "CZ zákon 235/2004 § 92f, electricity to a trader", since=date(2016, 2, 1)),
    _reversed("DE", "DE UStG § 13b (2) no. 5 b, (5): electricity between resellers"),
    _reversed("DK", "DK momsloven § 46 (1) no. 11: electricity to a reseller"),
    _reversed(
        "FR", "FR CGI art. 283, 2 quinquies: electricity to a taxable reseller (BOI-RES-TVA-000232: charging stations)"
    ),
    _charged("GR", "GR AADE E.2060/2023: 6 % from operator to provider, too", since=date(2023, 10, 12)),
    _charged("HU", "HU Áfa tv. § 138; of energy § 142 reverses gas alone"),
    _reversed("IE", "IE VATCA 2010 s. 16 (6): electricity to a taxable dealer", since=date(2016, 1, 1)),
    _reversed(
        "IT",
        "IT DPR 633/1972 art. 17 (6) d-quater and (8): electricity to a reseller, until the end of 2026",
        since=date(2015, 1, 1),
        until=ART_199A_UNTIL,
    ),
    _reversed("LU", "LU TVA law art. 61 (3): electricity between taxable persons", since=date(2024, 1, 1)),
    _charged("NL", "Directive 2006/112/EC art. 38 and 193"),
    _charged("NO", "NO merverdiavgiftsloven § 3-1, § 1-3 (1) b: electricity is goods"),
    _charged("PL", "PL ustawa o VAT art. 5 and 17; art. 145e reverses electricity at exchanges alone"),
    _charged("SE", "SE mervärdesskattelagen 16 kap.: at home it reverses no electricity"),
)
HOME_RESALE_UNKNOWN: Final = {
    "GB": "no source says whether SI 2014/1458 reverses wholesale electricity (VATA 1994 s. 55A) at a charge point",
    "PT": "sources differ on whether a reseller accounts for electricity at home",
    "RO": "who accounts for it hangs on the MSP's licence and own consumption (Codul fiscal art. 331 (2) e)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BorderResaleRule:
    """A supply to an MSP of another country that resells: the buyer accounts for the tax of its country."""

    seller: VatArea
    buyer: VatArea
    legal_reference: str


BORDER_RESALE_RULES: Final = (
    BorderResaleRule(seller=VatArea.EU, buyer=VatArea.EU, legal_reference="Directive 2006/112/EC art. 38 and 195"),
    BorderResaleRule(
        seller=VatArea.CH,
        buyer=VatArea.EU,
        legal_reference="CH MWSTG art. 7 (2); Directive 2006/112/EC art. 38 and 195",
    ),
    BorderResaleRule(
        seller=VatArea.GB,
        buyer=VatArea.EU,
        legal_reference="GB SI 2004/3148 part 3; Directive 2006/112/EC art. 38 and 195",
    ),
    BorderResaleRule(
        seller=VatArea.EU,
        buyer=VatArea.CH,
        legal_reference="Directive 2006/112/EC art. 38; CH MWSTG art. 7 (2) and 45 (1) d",
    ),
    BorderResaleRule(
        seller=VatArea.GB,
        buyer=VatArea.CH,
        legal_reference="GB SI 2004/3148 part 3; CH MWSTG art. 7 (2) and 45 (1) d",
    ),
    BorderResaleRule(
        seller=VatArea.EU,
        buyer=VatArea.GB,
        legal_reference="Directive 2006/112/EC art. 38; GB SI 2004/3148 part 3, VATA 1994 s. 9A",
    ),
    BorderResaleRule(
        seller=VatArea.CH,
        buyer=VatArea.GB,
        legal_reference="CH MWSTG art. 7 (2); GB SI 2004/3148 part 3, VATA 1994 s. 9A",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumptionRule:
    """A supply to a driver, whose tax is that of the EVSE's country, of `area`. None in a column: either."""

    area: VatArea
    seller_is_local: bool | None
    buyer_status: BuyerStatus | None
    buyer_is_local: bool | None
    regime: TaxRegime
    legal_reference: str


CONSUMPTION_RULES: Final = (
    ConsumptionRule(
        area=VatArea.EU,
        seller_is_local=True,
        buyer_status=None,
        buyer_is_local=None,
        regime=TaxRegime.DOMESTIC,
        legal_reference="Directive 2006/112/EC art. 39 and 193",
    ),
    ConsumptionRule(
        area=VatArea.EU,
        seller_is_local=False,
        buyer_status=BuyerStatus.BUSINESS,
        buyer_is_local=True,
        regime=TaxRegime.REVERSE_CHARGE,
        legal_reference="Directive 2006/112/EC art. 39 and 195",
    ),
    ConsumptionRule(
        area=VatArea.EU,
        seller_is_local=False,
        buyer_status=None,
        buyer_is_local=None,
        regime=TaxRegime.DOMESTIC,
        legal_reference="Directive 2006/112/EC art. 39 and 193, seller registered at the place of consumption",
    ),
    ConsumptionRule(
        area=VatArea.GB,
        seller_is_local=True,
        buyer_status=None,
        buyer_is_local=None,
        regime=TaxRegime.DOMESTIC,
        legal_reference="GB SI 2004/3148 part 3: place of consumption",
    ),
    ConsumptionRule(
        area=VatArea.GB,
        seller_is_local=False,
        buyer_status=BuyerStatus.BUSINESS,
        buyer_is_local=True,
        regime=TaxRegime.REVERSE_CHARGE,
        legal_reference="GB VATA 1994 s. 9A: electricity from abroad to a registered business",
    ),
    ConsumptionRule(
        area=VatArea.GB,
        seller_is_local=False,
        buyer_status=None,
        buyer_is_local=None,
        regime=TaxRegime.DOMESTIC,
        legal_reference="GB SI 2004/3148 part 3, seller registered at the place of consumption",
    ),
    ConsumptionRule(
        area=VatArea.CH,
        seller_is_local=True,
        buyer_status=BuyerStatus.CONSUMER,
        buyer_is_local=None,
        regime=TaxRegime.DOMESTIC,
        legal_reference="CH MWSTG art. 7 (2): where the charge point is",
    ),
    ConsumptionRule(
        area=VatArea.CH,
        seller_is_local=True,
        buyer_status=BuyerStatus.BUSINESS,
        buyer_is_local=True,
        regime=TaxRegime.DOMESTIC,
        legal_reference="CH MWSTG art. 7 (2): where the buyer's business is",
    ),
    ConsumptionRule(
        area=VatArea.CH,
        seller_is_local=False,
        buyer_status=BuyerStatus.BUSINESS,
        buyer_is_local=True,
        regime=TaxRegime.REVERSE_CHARGE,
        legal_reference="CH MWSTG art. 7 (2) and 45 (1) d: electricity from abroad to a taxable person",
    ),
    ConsumptionRule(
        area=VatArea.CH,
        seller_is_local=False,
        buyer_status=BuyerStatus.CONSUMER,
        buyer_is_local=None,
        regime=TaxRegime.DOMESTIC,
        legal_reference="CH MWSTG art. 7 (2) and 10 (2) b: where the charge point is, seller registered there",
    ),
    ConsumptionRule(
        area=VatArea.NO,
        seller_is_local=True,
        buyer_status=None,
        buyer_is_local=None,
        regime=TaxRegime.DOMESTIC,
        legal_reference="NO merverdiavgiftsloven § 3-1, § 1-3 (1) b: electricity is goods",
    ),
)
"""First match wins."""
CONSUMPTION_UNKNOWN: Final = {
    VatArea.CH: "a business from abroad buys where it is (MWSTG art. 7 (2)); no source says what its bill bears",
    VatArea.NO: "no source says whether a seller from abroad does business in Norway by its drivers' charging there",
}
