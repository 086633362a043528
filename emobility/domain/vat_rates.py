"""Rates of value added tax at public charge points, as data, each with its law; and what could not be confirmed.

Charging is a supply of electricity (CJEU C-282/22), so a reduced rate of electricity counts where nothing keeps charge
points out of it; a cut for households or small contracts does not. The rates are those of the 27 members of the EU,
Switzerland, Norway and Great Britain since 2021; standard rates are those of the Commission's Taxes in Europe Database.
A country's code does not tell regions with rates of their own (Azores, Madeira, Corsica, Greek islands, Jungholz), nor
those outside the tax's territory (Canary Islands, Ceuta, Melilla, Livigno, Büsingen, Heligoland, Åland, Svalbard).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final

LOOKED_UP_FROM: Final = date(2021, 1, 1)
"""From here on every country has on each day a rate or a reason why it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VatRate:
    """Rate at public charge points of a country; `until` is the first day it no longer holds."""

    country: str
    percent: Decimal
    since: date
    until: date | None
    legal_reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownRate:
    """Days on which nobody may guess a country's rate; `why` says what is missing. `until` is the first day after."""

    country: str
    since: date
    until: date | None
    why: str


def _rate(country: str, percent: str, since: date, until: date | None, legal_reference: str) -> VatRate:
    return VatRate(country=country, percent=Decimal(percent), since=since, until=until, legal_reference=legal_reference)


def _unknown(country: str, since: date, until: date | None, why: str) -> UnknownRate:
    return UnknownRate(country=country, since=since, until=until, why=why)


VAT_RATES: Final = (
    _rate("AT", "20", date(1995, 1, 1), None, "AT UStG 1994 § 10 (1); UStR 2000 no. 348"),
    _rate("BE", "21", date(1996, 1, 1), None, "BE KB nr. 20 of 20 July 1970 art. 1"),
    _rate("BG", "20", LOOKED_UP_FROM, None, "BG ZDDS art. 66 (1)"),
    _rate("CH", "7.7", date(2018, 1, 1), date(2024, 1, 1), "CH MWSTG art. 25 (1)"),
    _rate("CH", "8.1", date(2024, 1, 1), None, "CH MWSTG art. 25 (1)"),
    _rate(
        "CY", "19", LOOKED_UP_FROM, None, "CY law 95(I)/2000; decree 525/2021 lowers it for households' tariffs alone"
    ),
    _rate("CZ", "21", LOOKED_UP_FROM, date(2021, 11, 1), "CZ zákon 235/2004 § 47"),
    _rate("CZ", "21", date(2022, 1, 1), None, "CZ zákon 235/2004 § 47"),
    _rate("DE", "19", date(2007, 1, 1), date(2020, 7, 1), "DE UStG § 12 (1)"),
    _rate("DE", "16", date(2020, 7, 1), date(2021, 1, 1), "DE UStG § 28 (1), second half of 2020"),
    _rate("DE", "19", date(2021, 1, 1), None, "DE UStG § 12 (1)"),
    _rate("DK", "25", LOOKED_UP_FROM, None, "DK momsloven § 33"),
    _rate("EE", "20", LOOKED_UP_FROM, date(2024, 1, 1), "EE käibemaksuseadus § 15 (1)"),
    _rate("EE", "22", date(2024, 1, 1), date(2025, 7, 1), "EE käibemaksuseadus § 15 (1)"),
    _rate("EE", "24", date(2025, 7, 1), None, "EE käibemaksuseadus § 15 (1)"),
    _rate(
        "ES",
        "21",
        LOOKED_UP_FROM,
        date(2026, 3, 20),
        "ES Ley 37/1992 art. 90; the cuts of 2021 to 2025 (RDL 12/2021) are for supply contracts up to 10 kW",
    ),
    _rate("FI", "24", LOOKED_UP_FROM, date(2022, 12, 1), "FI arvonlisäverolaki § 84"),
    _rate(
        "FI",
        "10",
        date(2022, 12, 1),
        date(2023, 5, 1),
        "FI Verohallinto of 31 October 2022: electricity, December 2022 to April 2023, charging stations too",
    ),
    _rate("FI", "24", date(2023, 5, 1), date(2024, 9, 1), "FI arvonlisäverolaki § 84"),
    _rate("FI", "25.5", date(2024, 9, 1), None, "FI arvonlisäverolaki § 84"),
    _rate("FR", "20", date(2014, 1, 1), None, "FR CGI art. 278"),
    _rate(
        "GB",
        "20",
        LOOKED_UP_FROM,
        None,
        "GB VATA 1994 s. 2; HMRC VFUP3100: no domestic use at public charge points (TC09802, for 5 %, is under appeal)",
    ),
    _rate("GR", "6", date(2023, 10, 12), None, "GR AADE E.2060/2023: charging is electricity, CN 2716"),
    _rate(
        "HR",
        "13",
        date(2024, 3, 25),
        None,
        "HR Zakon o PDV-u art. 38 (3) g; Porezna uprava 410-19/23-02/262 of 25 March 2024: for charging",
    ),
    _rate("HU", "27", LOOKED_UP_FROM, None, "HU Áfa tv. § 82 (1)"),
    _rate(
        "IE",
        "13.5",
        LOOKED_UP_FROM,
        date(2022, 5, 1),
        "IE VATCA 2010 s. 46 (1) (c), sch. 3 para. 17 (2); Revenue, 16 June 2020: for charging",
    ),
    _rate(
        "IE",
        "9",
        date(2022, 5, 1),
        date(2031, 1, 1),
        "IE VATCA 2010 s. 46 (1) (caa), sch. 3 para. 17 (2): electricity, until 2030",
    ),
    _rate("IT", "22", LOOKED_UP_FROM, None, "IT DPR 633/1972 art. 16; Agenzia delle Entrate, risposta 27/2023"),
    _rate("LT", "21", LOOKED_UP_FROM, None, "LT PVM įstatymas art. 19 (1)"),
    _rate("LU", "8", date(2015, 1, 1), date(2023, 1, 1), "LU TVA law art. 40, annex A (electricity)"),
    _rate("LU", "7", date(2023, 1, 1), date(2024, 1, 1), "LU law of 26 October 2022 (electricity, 2023)"),
    _rate("LU", "8", date(2024, 1, 1), None, "LU TVA law art. 40, annex A (electricity)"),
    _rate("LV", "21", LOOKED_UP_FROM, None, "LV PVN likums art. 41 (1)"),
    _rate("NL", "21", date(2012, 10, 1), date(2022, 7, 1), "NL Wet OB 1968 art. 9 (1)"),
    _rate("NL", "9", date(2022, 7, 1), date(2023, 1, 1), "NL Wet OB 1968: energy, July to December 2022"),
    _rate("NL", "21", date(2023, 1, 1), None, "NL Wet OB 1968 art. 9 (1)"),
    _rate(
        "NO",
        "25",
        LOOKED_UP_FROM,
        None,
        "NO merverdiavgiftsloven § 5-1; § 6-6 exempts households' use in the north alone",
    ),
    _rate("PL", "23", LOOKED_UP_FROM, date(2022, 1, 1), "PL ustawa o VAT art. 41 (1)"),
    _rate(
        "PL",
        "5",
        date(2022, 1, 1),
        date(2023, 1, 1),
        "PL ustawa o VAT (Dz.U. 2022 poz. 196): electricity, 2022; C-282/22",
    ),
    _rate("PL", "23", date(2023, 1, 1), None, "PL ustawa o VAT art. 41 (1)"),
    _rate(
        "PT",
        "23",
        LOOKED_UP_FROM,
        None,
        "PT CIVA art. 18; Portaria 247-A/2020: the lower rate of electricity is not that of charging stations",
    ),
    _rate("RO", "19", LOOKED_UP_FROM, date(2025, 8, 1), "RO Codul fiscal art. 291 (1)"),
    _rate("RO", "21", date(2025, 8, 1), None, "RO Codul fiscal art. 291 (1)"),
    _rate("SE", "25", LOOKED_UP_FROM, None, "SE mervärdesskattelagen 9 kap. 2 §"),
    _rate("SI", "22", LOOKED_UP_FROM, date(2022, 9, 1), "SI ZDDV-1 art. 41"),
    _rate("SI", "22", date(2023, 6, 1), None, "SI ZDDV-1 art. 41"),
    _rate("SK", "20", LOOKED_UP_FROM, date(2025, 1, 1), "SK zákon 222/2004 § 27 (1)"),
    _rate("SK", "19", date(2025, 1, 1), None, "SK zákon 222/2004 § 27 (2), annex 7: electricity"),
)

UNKNOWN_RATES: Final = (
    _unknown(
        "CZ",
        date(2021, 11, 1),
        date(2022, 1, 1),
        "the tax on electricity was waived, which is no rate: such a document needs its own wording",
    ),
    _unknown(
        "ES",
        date(2026, 3, 20),
        None,
        "electricity was cut to 10 % in March 2026, and no source says until when or whether at charge points",
    ),
    _unknown(
        "GR",
        LOOKED_UP_FROM,
        date(2023, 10, 12),
        "24 % was charged as for a service until AADE E.2060/2023 said 6 %, and no source says what stands",
    ),
    _unknown(
        "HR",
        LOOKED_UP_FROM,
        date(2024, 3, 25),
        "no source before the opinion of 25 March 2024 says whether charging bore 25 % or the 13 % of electricity",
    ),
    _unknown(
        "MT",
        LOOKED_UP_FROM,
        None,
        "no source says whether charging bears the 5 % of electricity or the standard 18 %",
    ),
    _unknown(
        "SI",
        date(2022, 9, 1),
        date(2023, 6, 1),
        "electricity bore 9.5 % for heating's sake (ZNUDDVE), and no source says whether charging did",
    ),
)
